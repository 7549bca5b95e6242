# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "fid/fid_ext"

module Fid
  # A way from memory into a descriptor, which says afterwards how the bytes went.
  #
  #   memory = Fid::Memory.new(pipe, mode: :fresh)
  #   memory << "text"
  #   memory.fill(4096) { |buffer| buffer.set_string("text"); 4 }
  #
  # Strings are copied into memory of the library's own, always, since Ruby moves and reuses
  # theirs. In the mode :copy that memory is written to the sink. In the mode :fresh a pipe gets
  # references to it, and it is never written again: that pays where this kernel gives huge
  # pages and from 16 KiB a call on; otherwise the bytes are copied, and #receipt says why.
  #
  # What a program has written to the sink by Ruby's own methods is flushed first. Encodings are
  # not looked at: bytes are bytes. Each method waits without Ruby's global lock, or in the
  # Fiber scheduler, until all is delivered. A memory is used by one thread or fiber at a time
  # (else ThreadError).
  class Memory
    # Makes one, and closes it when the block is over.
    #
    # @yieldparam memory [Memory]
    # @return [Memory, Object] the memory, or with a block what that returns
    # @see #initialize for the arguments
    def self.open(*arguments, **options)
      memory = new(*arguments, **options)
      return memory unless block_given?

      begin
        yield memory
      ensure
        memory.close
      end
    end

    # Makes one. The sink stays the program's own and is not closed.
    #
    # @param sink [IO, #to_io, Integer] a descriptor open for writing
    # @param mode [Symbol] :copy or :fresh
    # @raise [SystemCallError] Errno::EBADF, Errno::ENOMEM
    # @raise [IOError] the sink is closed or not open for writing
    def initialize(sink, mode: :copy)
      setup(sink, mode)
    end

    # Memory that nobody can change any more, to be sent any number of times and to any sinks,
    # by reference where the kernel does that.
    #
    # @param strings [Array<#to_s>] what it holds, one after the other
    # @return [Constant]
    # @raise [SystemCallError] where memory cannot be sealed (see Facts#memory_seal?), or there
    #   is none
    def self.constant(*strings)
      Constant.new(*strings.flatten)
    end

    # @!method write(*strings)
    #   Sends strings. All is delivered when it returns.
    #
    #   An exception from outside (Timeout, Thread#raise) leaves what was taken and not
    #   delivered in the memory: receipt.bytes_in tells how much of the strings was taken. The
    #   next #write or #flush delivers it first, and #salvage hands it over.
    #
    #   @param strings [Array<#to_s>]
    #   @return [Integer] their bytes
    #   @raise [SystemCallError] which is a Fid::Failure as well: the sink failed. What was
    #     taken from the strings and not delivered is its #undelivered; the memory repeats the
    #     error from then on
    #   @raise [IOError] the memory or the sink is closed, or the sink was closed by another
    #     thread
    #   @raise [ThreadError] another thread or fiber uses the memory

    # @!method <<(string)
    #   Sends a string, as #write does.
    #   @param string [#to_s]
    #   @return [Memory] self

    # @!method fill(bytes)
    #   Has the block fill memory that then is sent, without a String in between. All is
    #   delivered when it returns. What the memory contains before is not defined.
    #
    #   The buffer is the memory's: after the block it cannot be used any more, nor can a slice
    #   of it. If the block raises nothing is sent. If it transfers or frees the buffer, or
    #   leaves it locked, the memory is closed.
    #
    #   @param bytes [Integer] how much room is needed, up to FILL_BYTES_MAX
    #   @yieldparam buffer [IO::Buffer] of that size at least
    #   @yieldreturn [Integer] how many bytes of it are to be sent, from its beginning
    #   @return [Integer] the same number
    #   @raise [ArgumentError] more than FILL_BYTES_MAX are asked for, or more were returned
    #     than the buffer has
    #   @raise [NotImplementedError] this Ruby has no IO::Buffer for C
    #   @raise [SystemCallError] as #write

    # @!method flush
    #   Delivers what an interrupted call has left.
    #   @return [Memory] self
    #   @raise [SystemCallError] as #write

    # @!method salvage
    #   Hands over what was taken and not delivered; it leaves the memory.
    #   @return [String, nil] binary; nil when there is nothing

    # @!method close
    #   Gives the memory back to the kernel. Pages that somebody downstream refers to live on
    #   there. The sink is not closed. What was not delivered is lost: salvage first.
    #   @return [nil] also when it was closed before
    #   @raise [ThreadError] another thread or fiber uses the memory

    # @!method closed?
    #   @return [Boolean]

    # Memory that nobody can change any more. Fid::Memory.constant makes one. It is frozen, any
    # number of threads and Ractors may use it at once, and a child of fork has it, too.
    class Constant
      # @!attribute [r] bytes
      #   @return [Integer] its size

      # Sends the bytes, or some of them; as Fid.copy does, and by reference where the kernel
      # does that.
      #
      # @param sink [IO, #to_io, Integer] a descriptor open for writing; what a program has
      #   written to it by Ruby's own methods is flushed first
      # @param offset [Integer] where to begin
      # @param length [Integer, nil] how many bytes; nil: up to the end
      # @param timeout [Numeric, nil] seconds at most
      # @return [Fid::Receipt]
      # @raise [ArgumentError] these bytes are not within the constant
      # @raise [SystemCallError] which is a Fid::Failure as well
      # @raise [IOError] the constant or the sink is closed
      def copy_to(sink, offset = 0, length = nil, timeout: nil)
        length ||= [bytes - offset, 0].max
        if offset.negative? || length.negative? || offset + length > bytes
          raise ArgumentError, "#{length} bytes at #{offset} are not within #{bytes}"
        end

        use do |descriptor|
          flow = Flow.new(descriptor, sink, length, source_offset: offset)
          begin
            flow.run(timeout: timeout)
          ensure
            flow.close
          end
        end
      end

      # @!method close
      #   Gives the memory back when nobody copies from it any more. What was sent by reference
      #   lives on in the sinks.
      #   @return [nil] also when it was closed before

      # @!method closed?
      #   @return [Boolean]
    end
  end
end
