# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# One source, three sinks: a file, the standard output, and a server that may be slow. When the
# server takes nothing for a second it is left out; the other two do not wait for it any longer.
#
#   producer | ruby -Ilib examples/fan_three_sinks.rb FILE HOST PORT | consumer

require "fid"
require "socket"

abort "usage: #{$PROGRAM_NAME} FILE HOST PORT" unless ARGV.size == 3
path, host, port = ARGV
server = TCPSocket.new(host, Integer(port))
names = [path, "standard output", "#{host}:#{port}"]

receipt = Fid.fan($stdin, [path, $stdout]) do |fan|
  fan.add(server, on_slow: :drop, stall: 1)
end
server.close

# A sink that fails alone raises nothing; the receipt tells.
names.each_with_index { |name, index| warn "#{name}: #{receipt.sinks[index]}" }
receipt.failed.each { |index, error| warn "#{names[index]} was left out: #{error}" }
