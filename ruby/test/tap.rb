# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Prints what minitest finds as TAP, and keeps a test from hanging for ever.
#
# The seed of the random order is a comment at the top; FID_SEED=SEED runs the tests in that
# order again. The plan comes last, so that a program that crashed or was stopped has none.

# No plug-in of an installed gem is to print between these lines.
ENV["MT_NO_PLUGINS"] = "1"
ENV["SEED"] = ENV["FID_SEED"] if ENV["FID_SEED"]

require "minitest"

module Tap
  # A test that takes longer than this hangs.
  SECONDS = Integer(ENV.fetch("FID_TEST_SECONDS", "60"))
  # How long a test that was told to end may take to do so.
  GRACE_SECONDS = Integer(ENV.fetch("FID_GRACE_SECONDS", "10"))
  # What a test may take without a remark.
  SLOW_SECONDS = 2
  # The most lines that one failure prints.
  LINES_MAX = 60

  # Where the lines go, also while a test has given $stdout or descriptor 1 another meaning.
  OUTPUT = $stdout.dup
  LOCK = Mutex.new

  # Of the random order, and of what tests draw. Minitest 5.15, which Ruby 3.1 carries, tells it
  # to plug-ins only.
  class << self
    attr_accessor :seed
  end

  def self.say(*lines)
    LOCK.synchronize do
      lines.each { |line| OUTPUT.puts line.scrub }
      OUTPUT.flush
    end
  end

  def self.remark(*texts)
    say(*texts.flat_map { |text| text.to_s.scrub.lines.map { |line| "# #{line.chomp}" } })
  end

  # One line for each test, after the lines that say what is wrong.
  class Reporter < Minitest::AbstractReporter
    # Whether all tests have had their turn.
    attr_writer :complete

    def initialize
      super
      @count = 0
      @failures = 0
      @complete = false
    end

    def start
      Tap.remark "seed #{Tap.seed}"
    end

    # Should the program crash, then the last test that began is the one to look at.
    def prerecord(test_class, name)
      Tap.remark "#{test_class}##{name}"
    end

    def record(result)
      @count += 1
      line = "ok #{@count} - #{result.name}"
      Tap.remark "took #{result.time.round(1)} s" if result.time > SLOW_SECONDS
      if result.passed?
        Tap.say line
      elsif result.skipped?
        Tap.say "#{line} # SKIP #{result.failure.message.lines.map(&:strip).join(" ")}"
      else
        @failures += 1
        result.failures.each { |failure| explain(failure) }
        Tap.say "not #{line}"
      end
    end

    def report
      Tap.say(@complete ? "1..#{@count}" : "Bail out! interrupted")
    end

    def passed?
      @complete && @count.positive? && @failures.zero?
    end

    private

    def explain(failure)
      lines = failure.message.lines
      Tap.remark(*lines.first(LINES_MAX))
      Tap.remark "(#{lines.size - LINES_MAX} more lines)" if lines.size > LINES_MAX
      # An error has the places in its message.
      Tap.remark "at #{failure.location}" unless failure.is_a?(Minitest::UnexpectedError)
    end
  end

  # Minitest ends its run in the same way after a Ctrl-C as after the last test.
  module Completion
    def __run(reporter, options)
      super.tap { reporter.reporters.grep(Reporter).each { |one| one.complete = true } }
    end
  end

  # Raised in a test that hangs. No StandardError, so that the code under test does not rescue it.
  class Hang < Exception
  end

  # Watches each test. One that hangs is told where all threads are, and ended by an exception;
  # where that does not help the program is ended by a signal after which Ruby prints what C was
  # doing. If no Ruby thread runs any more, because C keeps the global lock, only whoever started
  # this program can end it.
  module Guard
    # The exception is for the test's own code, and not for what minitest does between.
    def capture_exceptions
      super { Thread.handle_interrupt(Hang => :immediate) { yield } }
    end

    def run
      result = nil
      Thread.handle_interrupt(Hang => :never) do
        watcher = Tap.watch("#{self.class}##{name}", Thread.current)
        # A thread that begins is in the allocator, and the locks of the address sanitizer's
        # stay locked for ever in a child that a test forks just then.
        Thread.pass until watcher.stop?
        begin
          result = super
        ensure
          watcher.kill
          watcher.join
        end
      end
      result
    rescue Hang
      # It came to its end at the last moment.
      result
    end
  end

  def self.watch(name, thread)
    Thread.new do
      sleep SECONDS
      remark "#{name} has run for #{SECONDS} s; its threads:", *backtraces
      thread.raise Hang, "ran for #{SECONDS} s and was ended"
      sleep GRACE_SECONDS
      remark "#{name} could not be ended; its threads:", *backtraces
      Process.kill :SEGV, Process.pid
    end
  end

  # Without the places of this file and of minitest.
  def self.backtraces
    (Thread.list - [Thread.current]).map do |thread|
      places = thread.backtrace.to_a.grep_v(%r{\A#{__FILE__}:|/minitest(/\w+)?\.rb:})
      [thread.inspect, *places].join("\n  ")
    end
  end
end

module Minitest
  def self.plugin_tap_init(options)
    Tap.seed = options.fetch(:seed)
    reporter.reporters.replace [Tap::Reporter.new]
  end
end

# No threads of minitest among those of a test.
Minitest.parallel_executor = Object.new.tap { |none| def none.shutdown; end }

Minitest.extensions << "tap"
Minitest.singleton_class.prepend Tap::Completion
Minitest::Test.prepend Tap::Guard
