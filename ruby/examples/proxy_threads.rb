# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# A TCP proxy: two threads a connection, one for each direction.
#
#   ruby -Ilib examples/proxy_threads.rb LISTEN_PORT HOST PORT
#
# A side that has sent all says so by closing half of its connection; the proxy passes that on
# and the other direction goes on. Port 0 listens where there is room, and says where.

require "fid"
require "socket"

# One direction, to its end. The bytes do not enter this process, and Ruby's global lock is not
# held while it waits.
def forward(source, sink)
  receipt = Fid.copy(source, sink)
  # All is delivered when Fid.copy returns, so nothing is cut off here.
  sink.close_write
  receipt
rescue Fid::Failure => e
  # Nobody reads there any more: whoever still writes to us is to learn that.
  source.close_read
  e.receipt
end

def serve(client, host, port)
  upstream = TCPSocket.new(host, port)
  up = Thread.new { forward(client, upstream) }
  down = forward(upstream, client)
  warn "up:   #{up.value}", "down: #{down}"
rescue SystemCallError => e
  warn "#{host}:#{port}: #{e.message}"
ensure
  up&.join
  [client, upstream].compact.each(&:close)
end

abort "usage: #{$PROGRAM_NAME} LISTEN_PORT HOST PORT" unless ARGV.size == 3
listen_port, host, port = ARGV
server = TCPServer.new("127.0.0.1", Integer(listen_port))
puts "listening on #{server.addr[1]}"
$stdout.flush
loop do
  client = server.accept
  Thread.new { serve(client, host, Integer(port)) }
end
