# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# A Rack application whose responses are files, and the part of a server that sends them. A Rack
# body that has to_path may be sent by its path: the pages go from the page cache into the socket
# and Ruby does not see them.
#
#   ruby -Ilib examples/rack_files.rb FOLDER PORT
#
# Rainbows! does it like that when told "copy_stream IO::Splice".

require "io/splice"
require "socket"

# What Rack::Files answers with, in short.
FileBody = Struct.new(:to_path) do
  # For servers that do not know to_path.
  def each
    File.open(to_path, "rb") { |file| yield file.readpartial(1 << 16) until file.eof? }
  end
end

abort "usage: #{$PROGRAM_NAME} FOLDER PORT" unless ARGV.size == 2
FOLDER = File.realpath(ARGV[0])

app = lambda do |env|
  path = File.join(FOLDER, File.expand_path(env["PATH_INFO"], "/"))
  next [404, { "content-length" => "0" }, []] unless File.file?(path)

  [200, { "content-length" => File.size(path).to_s }, FileBody.new(path)]
end

def respond(socket, status, headers, body)
  socket.write "HTTP/1.0 #{status} #{status == 200 ? "OK" : "Not Found"}\r\n"
  headers.each { |name, value| socket.write "#{name}: #{value}\r\n" }
  socket.write "\r\n"
  # io_splice's call; Fid.copy(body, socket) is the same and returns a receipt.
  IO::Splice.copy_stream(body, socket) if body.respond_to?(:to_path)
rescue Errno::EPIPE, Errno::ECONNRESET
  nil # the client has gone
ensure
  socket.close
end

server = TCPServer.new("127.0.0.1", Integer(ARGV[1]))
puts "listening on #{server.addr[1]}"
$stdout.flush
loop do
  socket = server.accept
  Thread.new do
    _verb, path = socket.gets.to_s.split
    nil until socket.gets.to_s.strip.empty?
    respond(socket, *app.call("PATH_INFO" => path.to_s))
  end
end
