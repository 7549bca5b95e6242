# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "digest/sha2"
require "socket"

# An HTTP/1.1 client of one connection that keeps no body: it counts and digests.
class Client
  # bytes and sha256 are those of the body that came, complete? tells whether all of it did.
  Answer = Struct.new(:status, :headers, :bytes, :sha256, :whole, keyword_init: true) do
    alias_method :complete?, :whole
  end

  def self.open(port)
    client = new(port)
    yield client
  ensure
    client&.close
  end

  # One request on a connection of its own.
  def self.get(port, path, **options)
    open(port) { |client| client.get(path, keep: false, **options) }
  end

  def initialize(port)
    @socket = TCPSocket.new("127.0.0.1", port)
    @socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
  end

  def close
    @socket.close
  end

  # @param pace [Float] seconds to sleep after each 256 KiB, for a client on a slow line
  def get(path, headers: {}, verb: "GET", keep: true, pace: nil)
    send_request(path, headers, verb, keep)
    status, fields = read_head
    empty = verb == "HEAD" || status == 204 || status == 304
    expected = empty ? 0 : fields["content-length"]&.to_i
    bytes, sha256 = read_body(expected, pace)
    Answer.new(status: status, headers: fields, bytes: bytes, sha256: sha256,
               whole: expected.nil? || bytes == expected)
  end

  # Takes at least so much of the answer and hangs up. What is unread makes it a reset.
  def hang_up_after(path, bytes)
    send_request(path, {}, "GET", true)
    got = 0
    got += @socket.readpartial(65_536).bytesize while got < bytes
    close
  end

  # Whether the server has closed the connection.
  def ended?
    @socket.read(1).nil?
  rescue Errno::ECONNRESET
    true
  end

  private

  def send_request(path, headers, verb, keep)
    connection = keep ? "keep-alive" : "close"
    fields = { "Host" => "localhost", "Connection" => connection }.merge(headers)
    lines = ["#{verb} #{path} HTTP/1.1", *fields.map { |pair| pair.join(": ") }]
    @socket.write("#{lines.join("\r\n")}\r\n\r\n")
  end

  def read_head
    line = @socket.gets("\r\n", chomp: true) or raise EOFError, "no answer"
    fields = {}
    until (field = @socket.gets("\r\n", chomp: true)).empty?
      name, value = field.split(": ", 2)
      fields[name.downcase] = value
    end
    [line.split[1].to_i, fields]
  end

  def read_body(expected, pace)
    digest = Digest::SHA256.new
    bytes = 0
    slept = 0
    buffer = String.new(capacity: 65_536)
    while expected.nil? || bytes < expected
      @socket.readpartial([65_536, expected ? expected - bytes : 65_536].min, buffer)
      digest << buffer
      bytes += buffer.bytesize
      next unless pace && bytes - slept >= 262_144

      slept = bytes
      sleep pace
    end
    [bytes, digest.hexdigest]
  rescue EOFError, Errno::ECONNRESET
    [bytes, digest.hexdigest]
  end
end
