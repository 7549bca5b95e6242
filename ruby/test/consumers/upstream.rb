# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "socket"

# An upstream: it is sent a line and answers with so many of its bytes, then closes.
#
#   65536        all of them, as fast as it can
#   65536:slow   in twenty pieces with a pause after each
#   65536:end    half of them, then the end of the stream
#   65536:reset  half of them, then a reset of the connection
class Upstream
  # @return [Integer]
  attr_reader :port
  # @return [Queue] the class of what ended each answer that could not be sent
  attr_reader :failures

  def initialize(bytes)
    @bytes = bytes
    @failures = Queue.new
    @server = TCPServer.new("127.0.0.1", 0)
    @port = @server.addr[1]
    @answers = ThreadGroup.new
    @accepts = Thread.new { loop { answer(@server.accept) } }
    @accepts.report_on_exception = false
  end

  def close
    [@accepts, *@answers.list].each { |thread| thread.kill.join }
    @server.close
  end

  private

  def answer(socket)
    thread = Thread.new do
      request = socket.gets("\n", chomp: true)
      deliver(request.to_i, request[/:(\w+)/, 1], socket) if request
    rescue SystemCallError => e
      @failures << e.class
    ensure
      socket.close
    end
    @answers.add(thread)
  end

  def deliver(bytes, manner, socket)
    case manner
    when "slow"
      piece = bytes / 20 + 1
      0.step(bytes - 1, piece) do |at|
        socket.write(@bytes.byteslice(at, [piece, bytes - at].min))
        sleep 0.01
      end
    when "end", "reset"
      socket.write(@bytes.byteslice(0, bytes / 2))
      return unless manner == "reset"

      # What was sent is still read by the peer, since it is told to wait: a reset before
      # that would take the bytes with it and show nothing of the middle.
      sleep 0.1
      socket.setsockopt(Socket::Option.linger(true, 0))
    else
      socket.write(@bytes.byteslice(0, bytes))
    end
  end
end
