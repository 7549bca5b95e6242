# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"
require_relative "scheduler"

require "socket"

# What Ruby runs in the middle of a transfer: handlers of signals, conversions of arguments,
# other threads while a buffer is flushed, other fibers.
class ReentryTest < FidTest
  # In a process of its own, whose main thread is not alone.
  CLOSING_TRAP = <<~RUBY
    require "fid"
    Thread.new { sleep }
    reader, _writer = IO.pipe
    _sink_reader, sink = IO.pipe
    number = %<what>s.fileno
    trap(:USR1) { %<what>s.close }
    main = Thread.current
    Thread.new { Thread.pass until main.stop?; sleep 0.05; Process.kill(:USR1, Process.pid) }
    begin
      %<transfer>s
    rescue IOError => e
      puts e.class
    end
    puts reader.closed?, sink.closed?
    puts File.exist?("/proc/self/fd/\#{number}")
  RUBY

  def test_a_handler_of_a_signal_may_close_what_the_main_thread_moves
    ["Fid.copy(reader, sink)", "Fid.splice(reader, sink, 100)", "Fid.fan(reader, [sink])",
     "Fid::Flow.new(reader, sink).run"].each do |transfer|
      %w[reader sink].each do |what|
        program = format(CLOSING_TRAP, what: what, transfer: transfer)
        out, err, status = ruby(program)
        closed = [what == "reader", what == "sink"]
        assert_equal ["IOError", *closed.map(&:to_s), "false"], out.lines(chomp: true),
                     "#{transfer}, #{what}: #{err}"
        assert_predicate status, :success?
      end
    end
  end

  def test_the_main_thread_is_interrupted_among_other_threads
    program = <<~RUBY
      require "fid"
      require "timeout"
      Thread.new { sleep }
      reader, writer = IO.pipe
      _sink_reader, sink = IO.pipe
      [proc { Fid.copy(reader, sink) }, proc { Fid.splice(reader, sink, 1) }].each do |transfer|
        begin
          Timeout.timeout(0.05, &transfer)
        rescue Timeout::Error => e
          puts e.class
        end
      end
      main = Thread.current
      Thread.new { Thread.pass until main.stop?; sleep 0.05; main.raise "enough" }
      begin
        Fid.copy(reader, sink)
      rescue RuntimeError => e
        puts e.message
      end
      puts Thread.list.size
      writer << "bytes"
      writer.close
      puts Fid.copy(reader, sink).bytes
    RUBY
    out, err, = ruby(program)
    # The helpers are gone; what may be left is Ruby's own thread for time-outs.
    lines = out.lines(chomp: true)
    assert_equal ["Timeout::Error", "Timeout::Error", "enough"], lines.take(3), err
    assert_includes 2..3, lines[3].to_i
    assert_equal "5", lines[4]
  end

  def test_a_number_given_out_again_while_the_sink_is_flushed_is_not_read
    reader, writer = pipe
    sink_reader, sink = pipe
    writer << "mine"
    sink.sync = false
    sink.write_nonblock("f" * (1 << 20))
    sink.write("tail")
    stranger = nil
    other = thread do
      wait_until_it_sleeps(Thread.main)
      number = reader.fileno
      reader.close
      stranger, secret = pipe
      secret << "a secret"
      same = stranger.fileno == number
      sink_reader.readpartial(1 << 20)
      same
    end
    assert_raises(IOError) { Fid.splice(reader, sink, 100) }
    assert other.value, "the number was not given out again, so that nothing was tried"
    assert_equal "a secret", stranger.read_nonblock(100)
  end

  # A number of seconds that closes the flow when it is asked how many it is.
  class Closing < Numeric
    def initialize(flow)
      super()
      @flow = flow
    end

    def to_f
      @flow.close
      1.0
    end

    def to_int
      @flow.close
      1
    end
  end

  def test_a_flow_that_an_argument_closes_is_closed
    reader, = pipe
    _, sink = pipe
    flow = Fid::Flow.new(reader, sink)
    assert_raises(IOError) { flow.run(timeout: Closing.new(flow)) }
    flow = Fid::Flow.new(reader, sink)
    assert_raises(IOError) { flow.salvage(Closing.new(flow)) }
  end

  # An error queue that nobody reads makes its socket "ready" all the time.
  def test_a_fiber_does_not_spin_for_a_source_with_an_unread_error_queue
    one, other = tcp_pair
    time_stamps = 37 # SO_TIMESTAMPING
    one.setsockopt(Socket::SOL_SOCKET, time_stamps, [2 | 16 | 128].pack("i"))
    one.write("x")
    other.readpartial(1)
    _, sink = pipe
    waits = nil
    Scheduler.run do |scheduler|
      Fiber.schedule do
        assert_raises(Errno::ETIMEDOUT) { Fid.copy(one, sink, timeout: 1) }
        waits = scheduler.waits
      end
    end
    assert_operator waits, :<, 500
  end

  def test_a_time_out_that_is_no_number_leaves_the_sink_as_it_is
    at = file("precious")
    [Float::NAN, -1].each do |timeout|
      assert_raises(ArgumentError) { Fid.copy(open_file("new"), at, timeout: timeout) }
    end
    assert_raises(ArgumentError, NoMethodError, TypeError) do
      Fid.copy(open_file("new"), at, timeout: "1")
    end
    assert_equal "precious", File.binread(at)
  end
end
