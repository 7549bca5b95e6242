# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# The TCP proxy of proxy_threads.rb with one thread and any number of fibers. Fid.copy is the
# same call: under a Fiber scheduler it waits by that, and other fibers run meanwhile.
#
#   ruby -Ilib examples/proxy_fibers.rb LISTEN_PORT HOST PORT
#
# The scheduler is that of the gem async; another one that follows Ruby's interface does as well.

require "async"
require "fid"
require "socket"

# The sink is a duplicate, since async 1 cannot wait for one IO in two fibers at once: a socket
# is the source of one direction and the sink of the other.
def forward(source, sink)
  receipt = Fid.copy(source, sink)
  sink.close_write
  receipt
rescue Fid::Failure => e
  source.close_read
  e.receipt
ensure
  sink.close
end

def serve(client, host, port)
  upstream = TCPSocket.new(host, port)
  up = Async { forward(client, upstream.dup) }
  down = forward(upstream, client.dup)
  warn "up:   #{up.wait}", "down: #{down}"
rescue SystemCallError => e
  warn "#{host}:#{port}: #{e.message}"
ensure
  up&.wait
  [client, upstream].compact.each(&:close)
end

abort "usage: #{$PROGRAM_NAME} LISTEN_PORT HOST PORT" unless ARGV.size == 3
listen_port, host, port = ARGV
Async do
  server = TCPServer.new("127.0.0.1", Integer(listen_port))
  puts "listening on #{server.addr[1]}"
  $stdout.flush
  loop do
    client = server.accept
    Async { serve(client, host, Integer(port)) }
  end
end
