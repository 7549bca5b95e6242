# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# The kind of program that io_splice is for: a loop around IO.trysplice and IO.select, through a
# pipe of its own. It runs as it stands with either gem.
#
#   ruby -Ilib examples/splice_loop.rb HOST PORT FILE
#
# What comes from the socket goes to the file; the bytes do not enter this process.

require "io/splice"
require "socket"

abort "usage: #{$PROGRAM_NAME} HOST PORT FILE" unless ARGV.size == 3
socket = TCPSocket.new(ARGV[0], Integer(ARGV[1]))
file = File.open(ARGV[2], "wb")
reader, writer = IO.pipe
held = 0 # bytes that are in the pipe
total = 0
ended = false

# :EAGAIN of a call with two ends does not say which of them it means. Here the account of the
# pipe does: it is emptied before more is taken.
until ended && held.zero?
  if held.zero?
    case (taken = IO.trysplice(socket, nil, writer, nil, reader.pipe_size, IO::Splice::F_MORE))
    when :EAGAIN then IO.select([socket])
    when nil then ended = true
    else held = taken
    end
  else
    case (given = IO.trysplice(reader, nil, file, nil, held, IO::Splice::F_MOVE))
    when :EAGAIN then IO.select(nil, [file])
    else
      held -= given
      total += given
    end
  end
end
file.close
puts "#{total} bytes"
