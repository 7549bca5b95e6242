# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "fid/version"
require "fid/fid_ext"
require "fid/copy"

# What +require "io/splice"+ of the gem io_splice 4.4.2 gives, on libfid: programs written for it
# run unchanged. The methods themselves are in {Fid::IOCalls} and {Fid::PipeSize}.
#
# What a program may notice: where the kernel refuses a call (seccomp, gVisor) it works all the
# same; a call without F_NONBLOCK waits for its pipes although Ruby 3 gives O_NONBLOCK to each,
# as io_splice's documentation has it; a source from which Ruby has read ahead is an IOError and
# not a gap in the bytes; IO.vmsplice copies, so that a String may be changed at once.
class IO
  extend Fid::IOCalls
  include Fid::PipeSize

  # Constants, and copying on top of IO.splice.
  module Splice
    # Hints and orders to the kernel; see splice(2).
    F_MOVE = Fid::F_MOVE
    # Do not wait for a pipe. The end that is no pipe has its own O_NONBLOCK.
    F_NONBLOCK = Fid::F_NONBLOCK
    # More will follow: a socket may wait with a partial frame.
    F_MORE = Fid::F_MORE
    # For vmsplice; means nothing here, since Strings are copied.
    F_GIFT = Fid::F_GIFT
    # Not a flag of the kernel: go on until all has moved.
    # @deprecated as in io_splice
    WAITALL = Fid::WAITALL
    # The command of fcntl(2) that IO#pipe_size uses.
    F_GETPIPE_SZ = Fid::F_GETPIPE_SZ
    # The command of fcntl(2) that IO#pipe_size= uses.
    F_SETPIPE_SZ = Fid::F_SETPIPE_SZ
    # The most that a write to a pipe does in one piece.
    PIPE_BUF = Fid::PIPE_BUF
    # The capacity of a new pipe, in bytes, as found here.
    PIPE_CAPA = IO.pipe { |_, writer| writer.pipe_size }
    # The most that io_splice moves at once; larger lengths may be given.
    MAX_AT_ONCE = 1 << 30

    class << self
      # Copies from +src+ to +dst+ until the end of the file, or +len+ bytes. Neither has to be
      # a pipe. What Ruby has read ahead of +src+ is delivered first.
      #
      # @param src [IO, #to_io, String, #to_path] with +src_offset+ its own offset stays
      # @param dst [IO, #to_io, String, #to_path]
      # @return [Integer] bytes
      # @raise [EOFError] +src+ has fewer than +len+ bytes; those are copied
      # @deprecated as in io_splice; {Fid.copy} tells more
      def copy_stream(src, dst, len = nil, src_offset = nil)
        Fid::IOCalls.warn_of_deprecated
        moved = Fid.copy(open_by_path(src), open_by_path(dst), len,
                         source_offset: src_offset).bytes
        raise EOFError, "end of file reached" if len && moved < len

        moved
      end

      # Moves +len+ bytes, and waits for them. One of the two is a pipe.
      #
      # @return [Integer] +len+
      # @raise [EOFError] there were fewer; those were moved
      # @deprecated as in io_splice
      def full(src, dst, len, src_offset)
        Fid::IOCalls.warn_of_deprecated
        moved = 0
        # What has moved before a failure is an answer; the failure comes with the next call.
        while moved < len
          from = src_offset && src_offset + moved
          moved += Fid::IOCalls.all(src, dst, len - moved, from) ||
                   raise(EOFError, "end of file reached")
        end
        len
      end

      # Moves at most +len+ bytes, and waits for the first of them: never Errno::EAGAIN. One of
      # the two is a pipe.
      #
      # @return [Integer, nil] bytes; nil at the end of the file
      def partial(src, dst, len, src_offset)
        Fid::IOCalls.partial(src, dst, len, src_offset)
      end

      private

      # What has a path and no descriptor (a Pathname, the body of a Rack response).
      def open_by_path(given)
        given.respond_to?(:to_path) && !given.respond_to?(:to_io) ? given.to_path : given
      end
    end
  end
end
