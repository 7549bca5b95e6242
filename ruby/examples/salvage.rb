# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# The sink breaks on the way, and no byte is lost: what was taken from the source and could not
# be delivered comes back, and goes to a file together with the rest of the source.
#
#   producer | ruby -Ilib examples/salvage.rb HOST PORT REST
#
# A pipe or a socket as source cannot go back, so these bytes are nowhere else.

require "fid"
require "socket"

abort "usage: #{$PROGRAM_NAME} HOST PORT REST" unless ARGV.size == 3
host, port, rest_path = ARGV
server = TCPSocket.new(host, Integer(port))

begin
  warn Fid.copy($stdin, server)
rescue Errno::EPIPE, Errno::ECONNRESET => e
  warn e.message
  # ECONNRESET may also be the source's.
  raise unless e.side == :sink

  File.open(rest_path, "wb") do |rest|
    rest.write(e.undelivered) if e.undelivered
    # Ruby's buffer is flushed first, so the order is right.
    Fid.copy($stdin, rest)
  end
  # What the peer had received and did not read is not known to anybody here.
  warn "delivered: #{e.receipt.bytes}, to #{rest_path}: #{File.size(rest_path)}"
end
server.close
