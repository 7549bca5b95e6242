# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "fid/fid_ext"

module Fid
  # A pipe, as a store for bytes between two descriptors: filled from one, drained into another
  # or given to another pipe, all by reference where the kernel does that.
  #
  #   Fid::Pipe.open(bytes: 1 << 20) do |pipe|
  #     pipe.drain(socket, 1 << 20) while pipe.fill(file, 1 << 20)
  #   end
  #
  # Both ends are binary and close-on-exec. Any number of threads may use a pipe at once; while
  # one waits others run, and a Fiber scheduler's other fibers as well. What is still in the
  # pipe when it is closed is lost.
  class Pipe
    # Whoever may have more than /proc/sys/fs/pipe-max-size may have that.
    CAPACITY_MAX = 1 << 31
    private_constant :CAPACITY_MAX

    # @return [IO] the end that is read from
    attr_reader :reader
    # @return [IO] the end that is written to
    attr_reader :writer

    # Makes a pipe, or one for the time of a block.
    #
    # @param bytes [Integer, nil] the capacity, at least; nil takes what the kernel gives
    # @yieldparam pipe [Pipe]
    # @return [Pipe, Object] the pipe, or with a block what that returns
    # @raise [SystemCallError] as #initialize
    def self.open(bytes: nil)
      pipe = new(bytes: bytes)
      return pipe unless block_given?

      begin
        yield pipe
      ensure
        pipe.close
      end
    end

    # @param bytes [Integer, nil] the capacity, at least; nil takes what the kernel gives
    # @raise [SystemCallError] Errno::EMFILE, Errno::ENFILE; and as #capacity=
    # @raise [ArgumentError] as #capacity=
    def initialize(bytes: nil)
      @reader, @writer = IO.pipe
      @reader.binmode
      @writer.binmode
      begin
        self.capacity = bytes if bytes
      rescue StandardError
        close
        raise
      end
    end

    # @return [Integer] how many bytes the pipe can hold, if its pages are full
    # @raise [IOError] both ends are closed
    def capacity
      open_end.fcntl(F_GETPIPE_SZ)
    end

    # @param bytes [Integer] the new capacity; the kernel rounds up to a power of two
    # @raise [SystemCallError] Errno::EBUSY (more is in the pipe than that), Errno::EPERM (above
    #   what this user may have), Errno::ENOMEM
    # @raise [ArgumentError] less than 0 bytes, or more than any kernel takes
    # @raise [IOError] both ends are closed
    def capacity=(bytes)
      # The kernel would look at the lower half of such a number.
      unless bytes.between?(0, CAPACITY_MAX)
        raise ArgumentError, "capacity must be from 0 to #{CAPACITY_MAX} bytes, not #{bytes}"
      end

      open_end.fcntl(F_SETPIPE_SZ, bytes)
    end

    # @return [Integer] how many bytes are in the pipe, without those that Ruby has read ahead
    #   from its reader (gets, read) or keeps in its writer's buffer
    # @raise [IOError] both ends are closed
    def bytes
      count = [0].pack("i")
      open_end.ioctl(FIONREAD, count)
      count.unpack1("i")
    end

    # Moves bytes from a source into the pipe; waits until there are some, and room for some.
    #
    # @param source [IO, #to_io, Integer] a descriptor open for reading, of any kind that the
    #   kernel splices
    # @param length [Integer] bytes at most
    # @param offset [Integer, nil] where to begin in a file; its own offset stays
    # @return [Integer, nil] bytes moved; nil at end of file
    # @raise [IOError] one of them is closed, or Ruby has read ahead from the source
    # @raise [SystemCallError] Errno::EPIPE (the reader is closed), Errno::EINVAL (a kind that
    #   does not splice), Errno::ESPIPE (an offset where there is none), ...
    def fill(source, length, offset: nil)
      IOCalls.partial(source, writer, length, offset)
    end

    # Moves bytes from the pipe into a sink; waits until there are some, and room for some.
    #
    # @param sink [IO, #to_io, Integer] a descriptor open for writing, of any kind that the
    #   kernel splices; what a program wrote to it by Ruby's own methods is flushed first
    # @param length [Integer] bytes at most
    # @param offset [Integer, nil] where to begin in a file; its own offset stays
    # @return [Integer, nil] bytes moved; nil when the pipe is empty and has no writer any more
    # @raise [IOError] one of them is closed, or Ruby has read ahead from #reader
    # @raise [SystemCallError] Errno::EPIPE, Errno::EINVAL (O_APPEND, a kind that does not
    #   splice), Errno::ESPIPE (an offset where there is none), Errno::ENOSPC, ...
    def drain(sink, length, offset: nil)
      return IOCalls.partial(reader, sink, length, nil) unless offset

      Fid.splice(reader, sink, length, off_out: offset, exception: false)
    end

    # Gives another pipe what is in this one, which keeps it as well; waits until there is
    # something, and room for some.
    #
    # @param other [Pipe, IO, #to_io, Integer] a pipe, or the write end of one
    # @param length [Integer] bytes at most
    # @return [Integer, nil] bytes given; nil when the pipe is empty and has no writer any more
    # @raise [IOError] one of them is closed, or Ruby has read ahead from #reader
    # @raise [SystemCallError] Errno::EPIPE, Errno::EINVAL (no pipe, or the same one), ...
    def tee(other, length)
      other = other.writer if other.is_a?(Pipe)
      Fid.tee(reader, other, length, exception: false)
    end

    # Closes the end that is read from: whoever writes gets Errno::EPIPE.
    # @return [nil]
    def close_reader
      reader.close
    end

    # Closes the end that is written to: whoever reads comes to the end of the file.
    # @return [nil]
    def close_writer
      writer.close
    end

    # Closes both ends.
    # @return [nil]
    def close
      reader.close
    ensure
      writer.close
    end

    # @return [Boolean] whether both ends are closed
    def closed?
      reader.closed? && writer.closed?
    end

    # @return [Array(IO, IO)] reader and writer, as IO.pipe returns them
    def to_a
      [reader, writer]
    end

    private

    # What concerns both ends can be asked of either.
    def open_end
      reader.closed? ? writer : reader
    end
  end
end
