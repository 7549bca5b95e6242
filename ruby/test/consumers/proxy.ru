# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# A proxy as a program for io_splice has it: the bytes go from the upstream's socket through a
# pipe to the client's socket, which the server hands over by rack.hijack.
#
#   /WAY/HIJACK/PORT/REQUEST
#
# WAY is one of those below. HIJACK is "full" (env["rack.hijack"]) or "response" (the server
# writes the head and then calls what it finds in the header). The upstream on PORT is sent
# REQUEST as a line, whose number is the length of what it answers before it closes.

require "fid"
require "io/nonblock"
require "io/splice"
require "socket"

once = 65_536

ways = {
  # IO.splice sleeps, as sockets did before Ruby gave them O_NONBLOCK; EOFError is the end.
  "splice" => lambda do |upstream, client|
    upstream.nonblock = false
    client.nonblock = false
    IO.pipe do |reader, writer|
      loop do
        held = IO.splice(upstream, nil, writer, nil, once, IO::Splice::F_MOVE)
        held -= IO.splice(reader, nil, client, nil, held, IO::Splice::F_MOVE) while held > 0
      end
    rescue EOFError
      nil
    end
  end,

  # Never sleeps but in IO.select.
  "trysplice" => lambda do |upstream, client|
    IO.pipe do |reader, writer|
      flags = IO::Splice::F_NONBLOCK | IO::Splice::F_MOVE
      loop do
        held = IO.trysplice(upstream, nil, writer, nil, once, flags)
        break if held.nil?
        next IO.select([upstream]) if held == :EAGAIN

        while held > 0
          sent = IO.trysplice(reader, nil, client, nil, held, flags)
          sent == :EAGAIN ? IO.select(nil, [client]) : held -= sent
        end
      end
    end
  end,

  "partial" => lambda do |upstream, client|
    IO.pipe do |reader, writer|
      while (held = IO::Splice.partial(upstream, writer, once, nil))
        IO::Splice.full(reader, client, held, nil)
      end
    end
  end,

  "copy_stream" => ->(upstream, client) { IO::Splice.copy_stream(upstream, client) },

  "fid" => ->(upstream, client) { Fid.copy(upstream, client) }
}

run lambda { |env|
  way, hijack, port, request = env["PATH_INFO"].delete_prefix("/").split("/")
  carry = lambda do |client|
    upstream = TCPSocket.new("127.0.0.1", port.to_i)
    upstream.write("#{request}\n")
    ways.fetch(way).call(upstream, client)
    warn "proxy: #{way}: whole"
  rescue SystemCallError => e
    warn "proxy: #{way}: #{e.class}"
  ensure
    upstream&.close
    client.close
  end
  length = request.to_i.to_s
  next [200, { "Content-Length" => length, "rack.hijack" => carry }, []] if hijack == "response"

  client = env["rack.hijack"].call
  client.write("HTTP/1.1 200 OK\r\nContent-Length: #{length}\r\nConnection: close\r\n\r\n")
  carry.call(client)
  [200, {}, []]
}
