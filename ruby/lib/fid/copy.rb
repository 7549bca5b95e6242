# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "fid/receipt"
require "fid/flow"

module Fid
  # What every failure of a transfer is besides being an Errno: +rescue Errno::EPIPE+ finds it,
  # and so does +rescue Fid::Failure+.
  #
  # @!attribute [r] receipt
  #   @return [Receipt, Fan::Receipt, nil] exactly what had moved
  # @!attribute [r] side
  #   @return [Symbol, nil] whose fault it was: +:source+, +:sink+, +:fid+
  # @!attribute [r] undelivered
  #   @return [String, nil] bytes that were taken from the source and are nowhere else
  # @!attribute [r] undelivered_to
  #   @return [Hash{Integer => String}, nil] after {Fid.fan}: by the number of a sink, bytes that
  #     were taken for it and that it has not had; {#undelivered} comes after them
  #
  # Thread#kill and Timeout.timeout leave no exception to take such bytes along: the source has
  # them again, to be read by Ruby, if it was given as an IO. After an Integer they are lost; a
  # {Flow} keeps them, and +timeout:+ does not come between.
  module Failure
  end

  class << self
    # Copies from source to sink until the end of the file, or +length+ bytes.
    #
    # An IO may have been read and written before: what Ruby has read ahead of the source is
    # delivered first (or given back to a file), and what waits in the sink's write buffer is
    # flushed first. Encodings are not looked at: bytes are bytes.
    #
    # It waits without Ruby's global lock, or by the Fiber scheduler where there is one. Signals,
    # Thread#raise, Thread#kill, Timeout and the closing of an IO by another thread end it;
    # that a descriptor which was given as a number is closed is not noticed. Any number of
    # threads may copy at once.
    #
    # @param source [Integer, IO, #to_io, String, #to_path] a path is opened, and closed again
    # @param sink [Integer, IO, #to_io, String, #to_path] a file is created, or emptied unless
    #   there is a sink_offset
    # @param length [Integer, nil] bytes; nil: to the end of the file, which may come earlier
    # @param source_offset [Integer, nil] where to begin; the source's own offset stays
    # @param sink_offset [Integer, nil] likewise
    # @param stable [Boolean] what was delivered never changes, whoever writes to the source later
    # @param require [Symbol, nil] +:no_user_copy+ or +:by_reference+: rather fail than copy
    # @param routes [Symbol, Array<Symbol>, nil] the only ways that may be used
    # @param timeout [Numeric, nil] seconds for the whole of it
    # @param pipe_bytes [Integer, nil] capacity to ask for a private pipe
    # @param grow_pipes [Boolean] source and sink may be grown where they are pipes
    # @return [Receipt] frozen
    # @raise [Errno::EPIPE, Errno::ENOSPC, ...] with {Failure}; the side that failed is in the
    #   message, {Failure#undelivered} has what was taken and not delivered
    # @raise [Errno::ETIMEDOUT] after +timeout+ seconds
    # @raise [IOError] an IO is closed, or not opened for this
    # @raise [TypeError] no descriptor, or one that carries something else than these bytes (TLS)
    # @raise [ArgumentError] a value that makes no sense; a file onto itself
    def copy(source, sink, length = nil, source_offset: nil, sink_offset: nil, stable: false,
             require: nil, routes: nil, timeout: nil, pipe_bytes: nil, grow_pipes: false)
      opened = []
      from = endpoint(source, File::RDONLY, opened)
      to = endpoint(sink, File::WRONLY | File::CREAT, opened)
      if !opened.empty? && to.equal?(opened.last) && !sink_offset
        empty(to, from) do
          raise ArgumentError, "timeout must be 0 or more seconds" unless timeout.nil? || timeout >= 0

          Flow.new(from, to, length, source_offset: source_offset, stable: stable,
                                     require: require, routes: routes, pipe_bytes: pipe_bytes,
                                     grow_pipes: grow_pipes).close
        end
      end
      receipt = Flow.send(:transfer, from, to, length, timeout, source_offset, sink_offset,
                          stable, require, routes, pipe_bytes, grow_pipes)
      # A file may tell only now that its disk is full.
      opened.pop.close until opened.empty?
      receipt
    ensure
      opened&.each(&:close)
    end

    private

    # What a Flow takes: a path is opened.
    def endpoint(given, mode, opened)
      by_path = given.is_a?(String) || (given.respond_to?(:to_path) && !given.respond_to?(:to_io))
      return given unless by_path

      File.open(File.path(given), mode | File::BINARY).tap { |file| opened << file }
    end

    # A file that is copied over loses its bytes when it is certain that others will come.
    def empty(file, source)
      stat = file.stat
      return unless stat.file? && stat.size.positive?

      yield
      from = source.is_a?(Integer) ? IO.for_fd(source, autoclose: false) : source.to_io
      if File.identical?(from, file)
        raise ArgumentError, "source and sink are the same file, #{file.path}"
      end

      file.truncate(0)
    end
  end
end
