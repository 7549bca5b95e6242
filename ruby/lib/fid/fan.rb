# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "tmpdir"
require "fid/fid_ext"

module Fid
  # Gives each byte of one source to each of many sinks (at most 1024). Pipes get references to
  # the source's pages, other sinks are served from a private pipe each, and whoever cannot
  # splice gets a copy. A sink that breaks ends alone; the others go on.
  #
  #   fan = Fid::Fan.new(source)
  #   fan.add(file)
  #   fan.add(socket, on_slow: :drop, stall: 5)
  #   receipt = fan.run
  #   receipt.failed # => {1 => Errno::ETIMEDOUT}
  #
  # Nobody else may read from the source meanwhile. A fan is used by one thread or fiber at a
  # time (else ThreadError) and only in the process that made it. Fid.fan is all of it in one.
  #
  # Ruby's own buffers: what a program wrote to a sink is flushed before the fan runs, and what
  # Ruby has read ahead from the source (gets, read) is given to the sinks first.
  class Fan
    # The account of a fan: frozen, and may be shared by Ractors.
    class Receipt
      # @return [Fid::Receipt] of the source: bytes_in were taken from it, bytes_out were given
      #   to every sink that lives
      attr_reader :source
      # @return [Array<Fid::Receipt>] of the sinks, in their order
      attr_reader :sinks
      # @return [Hash{Integer => Class}] the numbers of the sinks that failed, with the classes
      #   of their errors: {2 => Errno::EPIPE}
      attr_reader :failed

      # @api private
      def initialize(source, sinks)
        @source = source
        @sinks = sinks
        @failed = sinks.each_with_index.filter_map { |sink, i| [i, sink.error] if sink.error }
                       .to_h.freeze
        freeze
      end

      # @return [Integer] bytes that were given to every sink that lives
      def bytes
        source.bytes
      end
      alias bytes_out bytes

      # @return [Hash{Symbol => Object}] source and sinks as Fid::Receipt#to_h gives them,
      #   failed
      def to_h
        { source: source.to_h, sinks: sinks.map(&:to_h), failed: failed }
      end

      # @return [String] one JSON object: source and sinks, as Fid::Receipt#to_json gives them
      def to_json(*)
        %({"source":#{source.to_json},"sinks":[#{sinks.map(&:to_json).join(",")}]})
      end

      # @return [String] a line for the source and one for each sink, in English
      def to_s
        lines = sinks.each_with_index.map { |sink, i| "sink #{i}: #{sink}" }
        ["source: #{source}", *lines].join("\n")
      end

      # @return [String]
      def inspect
        "#<Fid::Fan::Receipt #{bytes} bytes to #{sinks.size} sinks, failed: #{failed}>"
      end

      # @return [Boolean] whether both are the same account
      def ==(other)
        other.is_a?(Receipt) && source == other.source && sinks == other.sinks
      end
      alias eql? ==

      # @return [Integer]
      def hash
        [source, sinks].hash
      end
    end

    # Makes a fan, and closes it when the block is over.
    #
    # @yieldparam fan [Fan]
    # @return [Fan, Object] the fan, or with a block what that returns
    # @see #initialize for the arguments
    def self.open(*arguments, **options)
      fan = new(*arguments, **options)
      return fan unless block_given?

      begin
        yield fan
      ensure
        fan.close
      end
    end

    # Makes a fan without sinks. The source stays the program's own and is not closed.
    #
    # @param source [IO, #to_io, Integer] a descriptor open for reading
    # @param length [Integer, nil] stop after so many bytes; nil goes on to end of file
    # @param on_slow [Symbol] what #add takes when it is not told otherwise
    # @param stall [Numeric, nil] likewise
    # @param spill_bytes_max [Integer, nil] likewise
    # @param stop [Boolean] whether one sink that fails ends the whole fan
    # @param stable [Boolean] whether what was delivered may never change any more, even if the
    #   source is a file that somebody writes to
    # @param source_offset [Integer, nil] where to begin; the source's own offset stays
    # @param pipe_bytes [Integer, nil] capacity to ask for private pipes
    # @param grow_pipes [Boolean] whether pipes among the ends may be made larger
    # @raise [SystemCallError] Errno::EBADF, Errno::ESPIPE (an offset where there is none), ...
    # @raise [IOError] the source is closed or not open for reading
    def initialize(source, length = nil, on_slow: :wait, stall: nil, stop: false, stable: false,
                   source_offset: nil, pipe_bytes: nil, grow_pipes: false, spill_bytes_max: nil)
      @on_slow = on_slow
      @stall = stall
      @spill_bytes_max = spill_bytes_max
      setup(source, length, source_offset, pipe_bytes, stable, stop, grow_pipes)
    end

    # Adds a sink, before the fan is run for the first time. It stays the program's own and is
    # not closed, so that a pipe's reader sees its end when the program closes the write end.
    #
    # When another thread closes an IO of a running fan, the fan is interrupted by IOError. To
    # know of that costs some stack for each IO, so for the 64th sink and those after it the fan
    # uses a duplicate of the descriptor: to close such an IO does no harm, and is not noticed
    # either; the duplicate is closed by #close. An Integer is not watched, as with Ruby's own
    # methods.
    #
    # @param sink [IO, #to_io, Integer] a descriptor open for writing
    # @param on_slow [Symbol] what to do about a sink that does not take what there is: :wait
    #   (all go at its pace), :drop (it ends with Errno::ETIMEDOUT when it took nothing for
    #   +stall+ seconds) or :spill (what it does not take goes to a temporary file without a
    #   name, and from there to it)
    # @param stall [Numeric, nil] seconds; with :drop 1 if not given. With :spill how long a
    #   sink whose file is full may take nothing before it is dropped; nil waits for ever. Not
    #   looked at with :wait
    # @param offset [Integer, nil] where to begin in a file; its own offset stays
    # @param spill_bytes_max [Integer, nil] the size of the temporary file at most; 1 GiB if not
    #   given. Not looked at but with :spill
    # @return [Integer] the sink's number, counted from 0
    # @raise [SystemCallError] Errno::EBADF, Errno::EINVAL (a pipe that is the source),
    #   Errno::ENOSPC (there are 1024 sinks), Errno::ESPIPE (an offset where there is none), ...
    # @raise [RuntimeError] the fan has been run
    def add(sink, on_slow: @on_slow, stall: @stall, offset: nil,
            spill_bytes_max: @spill_bytes_max)
      return attach(sink, on_slow, stall, offset, nil, nil) unless on_slow == :spill

      file = temporary_file
      begin
        attach(sink, on_slow, stall, offset, file, spill_bytes_max)
      ensure
        file.close # the fan has a duplicate
      end
    end

    # Goes on until the source has ended and each sink has all of it or has failed. Waits
    # without Ruby's global lock, so that other threads run. Under a Fiber scheduler a thread
    # does the work while the fiber waits.
    #
    # An exception from outside (Timeout, Thread#raise) and a time-out leave the fan intact: it
    # can be run again, or be salvaged.
    #
    # @param timeout [Numeric, nil] seconds at most
    # @return [Receipt]
    # @raise [SystemCallError] which is a Fid::Failure as well, and whose receipt is a
    #   Fid::Fan::Receipt: the source failed (its sinks have been given all that came before),
    #   or every sink did, or one of a fan made with stop: true; Errno::ETIMEDOUT when the time
    #   is over
    # @raise [IOError] an end is closed, or was closed by another thread meanwhile; the fan is
    #   closed; or Ruby has read ahead from the source since the fan was run before
    # @raise [ThreadError] another thread or fiber uses the fan
    # @raise [ArgumentError] there is no sink
    def run(timeout: nil)
      if Fiber.current_scheduler
        in_a_thread { move(timeout) }
      else
        move(timeout)
      end
      receipt
    end

    # @!method receipt
    #   @return [Receipt] the account so far
    #   @raise [IOError] the fan is closed
    #   @raise [ThreadError] another thread or fiber uses the fan

    # @!method salvage(index = nil)
    #   Hands over what was taken from the source and not delivered; it leaves the fan.
    #
    #   Without a number these are the bytes that were not yet given to every sink, beginning at
    #   bytes_out of the source's receipt. A sink whose bytes_in is above that has had the
    #   difference; a fan that goes on after this leaves them out for the others. A fan to which
    #   Ruby's buffer gave the first bytes cannot go on after this.
    #
    #   @param index [Integer, nil] of a sink: what was taken for it and not delivered to it
    #   @return [String, nil] binary; nil when there are none
    #   @raise [IndexError] no such sink
    #   @raise [IOError] the fan is closed
    #   @raise [ThreadError] another thread or fiber uses the fan

    # @!method close
    #   Ends the fan; closes neither the source nor the sinks. What it holds is lost: salvage
    #   first. Only what Ruby had read ahead, and what followed it, goes back to where #read
    #   finds it.
    #
    #   @return [nil] also when it was closed before
    #   @raise [ThreadError] another thread or fiber uses the fan

    # @!method closed?
    #   @return [Boolean]

    private

    # A thread that is ended when the fiber that waits for it is.
    def in_a_thread(&work)
      thread = Thread.new do
        Thread.current.report_on_exception = false # whoever waits here tells it
        work.call
      end
      thread.value
    ensure
      thread&.kill
      thread&.join
    end

    # Open to read and write, without a name and gone when it is closed.
    def temporary_file
      flags = File::RDWR | File::BINARY
      folder = temporary_folder
      begin
        File.open(folder, flags | File::TMPFILE, 0o600)
      rescue Errno::EOPNOTSUPP, Errno::EISDIR, Errno::EINVAL, Errno::ENOENT
        named_file(folder, flags | File::CREAT | File::EXCL)
      end
    end

    # Ruby 3.1 tells the main Ractor alone.
    def temporary_folder
      Dir.tmpdir
    rescue Ractor::IsolationError
      ENV["TMPDIR"] || "/tmp"
    end

    # Where O_TMPFILE is not to be had: on overlayfs before Linux 6.1, and on NFS.
    def named_file(folder, flags)
      name = "fid-#{$$}-#{Random.bytes(8).unpack1("H*")}"
      file = File.open(File.join(folder, name), flags, 0o600)
      File.unlink(file.path)
      file
    rescue Errno::EEXIST
      retry
    end
  end

  class << self
    # Gives each byte of a source to each of the sinks: Fid::Fan in one call.
    #
    #   receipt = Fid.fan(socket, [file, pipe])
    #   receipt = Fid.fan(socket, [file]) { |fan| fan.add(slow, on_slow: :drop, stall: 5) }
    #
    # What an exception of any kind leaves undelivered goes along with it: see
    # Fid::Failure#undelivered, and #undelivered_to for what one sink alone has not had. Where no
    # exception passes (Thread#kill, Timeout.timeout) only a Fid::Fan still has the latter
    # (#salvage); the former goes back to the source.
    #
    # @param source [IO, #to_io, Integer, String, #to_path] a path is opened, and closed again
    # @param sinks [Array<IO, #to_io, Integer, String, #to_path>] likewise; a path is created or
    #   emptied
    # @param length [Integer, nil] stop after so many bytes; nil goes on to end of file
    # @param timeout [Numeric, nil] seconds at most
    # @yieldparam fan [Fan] to which further sinks may be added, before it is run
    # @return [Fan::Receipt]
    # @raise [SystemCallError] which is a Fid::Failure as well: see Fan#run. A sink that breaks
    #   is not raised as long as others live: see Fan::Receipt#failed
    # @raise [TypeError] sinks is no Array
    # @see Fan#initialize the keywords
    # @see Fan#add
    def fan(source, sinks, length = nil, on_slow: :wait, stall: nil, stop: false, stable: false,
            source_offset: nil, timeout: nil, pipe_bytes: nil, grow_pipes: false,
            spill_bytes_max: nil)
      # An IO has an each as well, which reads lines.
      raise TypeError, "sinks must be an Array, not #{sinks.class}" unless sinks.is_a?(Array)

      opened = []
      from = endpoint(source, File::RDONLY, opened)
      fan = Fan.new(from, length, on_slow: on_slow, stall: stall, stop: stop, stable: stable,
                                  source_offset: source_offset, pipe_bytes: pipe_bytes,
                                  grow_pipes: grow_pipes, spill_bytes_max: spill_bytes_max)
      files = []
      sinks.each { |sink| fan.add(endpoint(sink, File::WRONLY | File::CREAT, files)) }
      opened.concat(files)
      yield fan if block_given?
      # A file loses its bytes when it is certain that others will come.
      files.each { |file| empty(file, from) { fan.send(:judge, timeout) } }
      receipt = run_or_salvage_fan(fan, timeout)
      # A file may tell only now that its disk is full.
      opened.pop.close until opened.empty?
      receipt
    ensure
      fan&.close
      [*files, *opened].each(&:close)
    end

    private

    # What would be lost with the fan goes along with an exception of any kind. Where none
    # passes (a throw, as Timeout's of Ruby 3.1; Thread#kill) it goes back to where the next
    # read of the source finds it.
    def run_or_salvage_fan(fan, timeout)
      settled = false
      receipt = fan.run(timeout: timeout)
      settled = true
      receipt
    rescue Exception => e # rubocop:disable Lint/RescueException
      receipt = fan.receipt
      held = receipt.sinks.each_index.select { |index| receipt.sinks[index].bytes_held.positive? }
      settled = receipt.source.bytes_held.zero?
      raise if (settled && held.empty?) || e.frozen?

      e.extend(Failure) unless e.is_a?(Failure)
      e.instance_variable_set(:@receipt, receipt)
      e.instance_variable_set(:@undelivered, fan.salvage) unless settled
      e.instance_variable_set(:@undelivered_to, held.to_h { |index| [index, fan.salvage(index)] }.freeze)
      settled = true
      raise
    ensure
      fan.send(:give_back) unless settled
    end
  end
end
