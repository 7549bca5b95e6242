# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# What Rainbows! serves in the tests: the files of a folder by Rack and by a body of ours with
# to_path, and pipes and sockets by Rainbows::DevFdResponse.

root = ENV.fetch("CONSUMER_ROOT")

# A body that the server can only send by its path: each would be another way.
path_body = Struct.new(:to_path) do
  def each
    raise "the server asked for each and not for to_path"
  end
end

# A stream of the file's bytes, written in pieces while the server already sends.
stream = lambda do |reader, writer, path|
  Thread.new do
    File.open(path, "rb") do |file|
      while (piece = file.read(50_000))
        writer.write(piece)
        Thread.pass
      end
    end
  rescue Errno::EPIPE
    nil # the client hung up, and the server closed its end
  ensure
    writer.close
  end
  reader
end

use Rainbows::DevFdResponse
use Rack::Head
map("/files") { run Rack::Files.new(root) }
run lambda { |env|
  verb, name = env["PATH_INFO"].match(%r{\A/(\w+)/([\w.]+)\z})&.captures
  path = File.join(root, name || "none")
  fields = { "Content-Type" => "application/octet-stream",
             "Content-Length" => File.size(path).to_s }
  case verb
  when "path"
    [200, fields, path_body.new(path)]
  when "pipe"
    [200, fields, stream.call(*IO.pipe, path)]
  when "socket"
    [200, fields, stream.call(*UNIXSocket.pair, path)]
  else
    [404, { "Content-Length" => "0" }, []]
  end
}
