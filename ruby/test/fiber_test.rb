# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Every call that waits does so by the Fiber scheduler, where there is one: the thread goes on
# with other fibers. With the scheduler of these tests and with that of the gem async.

require_relative "support"
require_relative "scheduler"
require "io/splice"
require "timeout"

class FiberTest < FidTest
  FIBERS = 1000
  # More than a pipe holds, so that each copy waits for its source and for its sink.
  LENGTH = 70_000
  BYTES = Random.new(20_260_102).bytes(LENGTH + FIBERS * 100).freeze

  # ---- Many ----

  SCHEDULERS = {
    "own_scheduler" => ->(_, &block) { Scheduler.run(thread: false, &block) },
    "async" => lambda do |test, &block|
      begin
        require "async"
      rescue LoadError
        test.skip "the gem async is not installed"
      end
      test.skip "this async has no Fiber scheduler" unless defined?(Async::Scheduler)
      Async { block.call(Fiber.scheduler) }
    end
  }.freeze

  SCHEDULERS.each do |name, runner|
    define_method("test_#{name}_runs_a_thousand_copies_from_pipe_to_pipe_on_one_thread") do
      copy_in_fibers(runner) { pipe + pipe }
    end

    define_method("test_#{name}_runs_a_thousand_copies_from_tcp_to_tcp_on_one_thread") do
      copy_in_fibers(runner) { tcp_pair.reverse + tcp_pair.reverse }
    end
  end

  # ---- Each call ----

  # Calls that wait for the first bytes of a pipe, and what they return for five.
  READING = {
    "Fid.copy" => ->(from, to) { Fid.copy(from, to, 5).bytes },
    "Fid::Flow#run" => ->(from, to) { Fid::Flow.new(from, to, 5).run.bytes },
    "Fid.splice" => ->(from, to) { Fid.splice(from, to, 5) },
    "Fid.tee" => ->(from, to) { Fid.tee(from, to, 5) },
    "Fid.fan" => ->(from, to) { Fid.fan(from, [to], 5).bytes },
    "Fid::Pipe#fill" => lambda do |from, to|
      Fid::Pipe.open { |between| between.fill(from, 5) && between.drain(to, 5) }
    end,
    "IO.splice" => ->(from, to) { IO.splice(from, nil, to, nil, 5) },
    "IO.tee" => ->(from, to) { IO.tee(from, to, 5) },
    "IO::Splice.copy_stream" => ->(from, to) { IO::Splice.copy_stream(from, to, 5) },
    "IO::Splice.full" => ->(from, to) { IO::Splice.full(from, to, 5, nil) },
    "IO::Splice.partial" => ->(from, to) { IO::Splice.partial(from, to, 5, nil) }
  }.freeze

  READING.each do |name, call|
    snake = name.gsub(/\W+/, "_")

    define_method("test_#{snake}_lets_other_fibers_run_while_its_source_is_empty") do
      Scheduler.run do |scheduler|
        from, writer = pipe
        reader, to = pipe
        returned = nil
        Fiber.schedule { returned = call.call(from, to) }
        assert_nil returned
        # It got here: the call has given up the thread.
        asked = scheduler.waits + scheduler.blocks
        assert_operator asked, :>, 0, "#{name} did not ask the scheduler"
        writer << "bytes"
        sleep 0.001 until returned
        assert_equal [5, "bytes"], [returned, reader.readpartial(9)]
      end
    end

    # Without O_NONBLOCK a call that came too early would keep the thread.
    define_method("test_#{snake}_waits_by_the_scheduler_for_blocking_numbers_as_well") do
      Scheduler.run do
        from, writer = pipe(nonblock: false)
        reader, to = pipe(nonblock: false)
        returned = nil
        Fiber.schedule { returned = call.call(from.fileno, to.fileno) }
        assert_nil returned
        writer << "bytes"
        sleep 0.001 until returned
        assert_equal [5, "bytes"], [returned, reader.readpartial(9)]
        # Nothing that it made for waiting closes them.
        GC.start
        assert_equal 3, writer.write("end")
        assert_includes reader_of(from), "end"
      end
    end

    next if name.end_with?("tee")

    define_method("test_#{snake}_waits_by_the_scheduler_for_a_blocking_socket") do
      Scheduler.run do
        peer, from = blocking_socket_pair
        reader, to = pipe
        returned = nil
        Fiber.schedule { returned = call.call(from, to) }
        assert_nil returned
        peer << "bytes"
        sleep 0.001 until returned
        assert_equal [5, "bytes"], [returned, reader.readpartial(9)]
      end
    end
  end

  # Calls that wait for room in a pipe.
  WRITING = {
    "Fid.copy" => ->(test, to) { Fid.copy(test.full_pipe("bytes"), to).bytes },
    "Fid.splice" => ->(test, to) { Fid.splice(test.full_pipe("bytes"), to, 5) },
    "Fid.vmsplice" => ->(_, to) { Fid.vmsplice(to, %w[by tes]) },
    "Fid.fan" => ->(test, to) { Fid.fan(test.full_pipe("bytes"), [to]).bytes },
    "Fid::Memory#write" => ->(_, to) { Fid::Memory.new(to).write("by", "tes") },
    "Fid::Memory#write_fresh" => lambda do |_, to|
      Fid::Memory.new(to, mode: :fresh).write("by", "tes")
    end,
    "Fid::Memory.constant" => ->(_, to) { Fid::Memory.constant("bytes").copy_to(to).bytes },
    "IO.splice" => ->(test, to) { IO.splice(test.full_pipe("bytes"), nil, to, nil, 5) },
    "IO.vmsplice" => ->(_, to) { IO.vmsplice(to, %w[by tes]) },
    "IO::Splice.copy_stream" => lambda do |test, to|
      IO::Splice.copy_stream(test.full_pipe("bytes"), to)
    end,
    "IO::Splice.full" => ->(test, to) { IO::Splice.full(test.full_pipe("bytes"), to, 5, nil) }
  }.freeze

  WRITING.each do |name, call|
    snake = name.gsub(/\W+/, "_")
    ends = {
      "pipe" => ->(test) { test.pipe },
      "blocking_pipe" => ->(test) { test.pipe(nonblock: false) },
      "blocking_socket" => ->(test) { test.blocking_socket_pair }
    }
    ends.delete("blocking_socket") if name.end_with?("vmsplice")
    ends.each do |kind, make|
      define_method("test_#{snake}_lets_other_fibers_run_while_its_#{kind}_is_full") do
        Scheduler.run do
          reader, to = make.call(self)
          filled = fill(to)
          returned = nil
          Fiber.schedule { returned = call.call(self, to) }
          assert_nil returned
          assert_equal filled, reader.read(filled).bytesize
          sleep 0.001 until returned
          assert_equal [5, "bytes"], [returned, reader.readpartial(9)]
        end
      end
    end
  end

  # ---- Together ----

  def test_two_fibers_copy_both_ways_between_the_same_sockets
    bytes = BYTES.byteslice(0, 100_000)
    Scheduler.run do
      near, far = [socket_pair, socket_pair].transpose
      carried = []
      [[far[0], far[1]], [far[1], far[0]]].each do |source, sink|
        Fiber.schedule do
          carried << Fid.copy(source, sink).bytes
          sink.close_write
        end
      end
      near.each do |socket|
        Fiber.schedule do
          socket.write(bytes)
          socket.close_write
        end
      end
      got = []
      near.each { |socket| Fiber.schedule { got << (socket.read.b == bytes) } }
      sleep 0.001 until got.size == 2
      assert_equal [[bytes.bytesize] * 2, [true, true]], [carried, got]
    end
  end

  def test_threads_with_a_scheduler_each_do_not_mix
    copied = Array.new(3) do
      thread { Scheduler.run(thread: false) { copy_some(50) { pipe + pipe } } }
    end
    copied.each { |each| assert_equal({ whole: 50 }, each.value.values.tally) }
  end

  # ---- Ends of waiting ----

  def test_timeout_of_a_copy_ends_its_wait_and_no_other
    Scheduler.run do
      from, writer = pipe
      raised = nil
      other = nil
      Fiber.schedule do
        raised = assert_raises(Errno::ETIMEDOUT) { Fid.copy(from, pipe[1], timeout: 0.02) }
      end
      Fiber.schedule { other = Fid.copy(pipe_later(0.06), pipe[1]).bytes }
      sleep 0.001 until raised && other
      assert_equal 5, other
      assert_equal 0, raised.receipt.bytes
      assert_equal 3, writer.write("now")
    end
  end

  def test_exception_from_outside_leaves_the_flow_intact
    Scheduler.run do
      from, writer = pipe
      reader, to = pipe
      flow = Fid::Flow.new(from, to)
      writer << "first"
      assert_raises(Timeout::Error) { Timeout.timeout(0.05) { flow.run } }
      assert_equal 5, flow.receipt.bytes
      Fiber.schedule do
        writer << " second"
        writer.close
      end
      assert_equal 12, flow.run.bytes
      assert_equal "first second", reader.readpartial(99)
      flow.close
    end
  end

  def test_closing_the_source_in_another_fiber_ends_the_wait
    Scheduler.run do
      READING.each_value do |call|
        from, = pipe
        raised = nil
        Fiber.schedule { raised = assert_raises(IOError) { call.call(from, pipe[1]) } }
        assert_nil raised
        from.close
        sleep 0.001 until raised
      end
    end
  end

  def test_broken_sink_is_raised_in_its_fiber
    Scheduler.run do
      from, writer = pipe
      reader, to = pipe
      raised = nil
      Fiber.schedule { raised = assert_raises(Errno::EPIPE) { Fid.copy(from, to) } }
      reader.close
      writer << "bytes"
      sleep 0.001 until raised
      assert_kind_of Fid::Failure, raised
      assert_equal :sink, raised.side
      # What could not be delivered is still in the pipe, or with the failure.
      writer.close
      assert_equal "bytes", raised.undelivered.to_s + from.read
    end
  end

  def test_copy_that_never_waits_lets_other_fibers_run
    Scheduler.run do
      turns = 0
      done = nil
      Fiber.schedule { done = Fid.copy("/dev/zero", "/dev/null", 1 << 30).bytes }
      until done
        turns += 1
        sleep 0
      end
      assert_equal 1 << 30, done
      assert_operator turns, :>, 1
    end
  end

  # Two sockets that would keep the thread.
  def blocking_socket_pair
    socket_pair.each { |socket| socket.nonblock = false }
  end

  private

  # Bytes until the pipe is full; how many.
  def fill(writer)
    bytes = 0
    was = writer.nonblock?
    loop { bytes += writer.write_nonblock("." * 4096) }
  rescue IO::WaitWritable
    # write_nonblock has set it.
    writer.nonblock = was
    bytes
  end

  # The end of a pipe that gets five bytes and its end after some time.
  def pipe_later(seconds)
    reader, writer = pipe
    Fiber.schedule do
      sleep seconds
      writer << "later"
      writer.close
    end
    reader
  end

  # What is in it now.
  def reader_of(io)
    io.read_nonblock(99)
  end

  # FIBERS copies at once, each of other bytes. The block makes the ends of one: what feeds it,
  # its source and its sink, and what reads that.
  def copy_in_fibers(runner, &make)
    raise_limit(4 * FIBERS + 200)
    runner.call(self) { copy_some(3, &make) } # whatever threads Ruby itself needs are there now
    threads = count_threads
    most = 0
    copied = nil
    runner.call(self) do |scheduler|
      copied = copy_some(FIBERS, -> { most = [most, count_threads].max }, &make)
      assert_operator scheduler.waiting_max, :>=, FIBERS if scheduler.respond_to?(:waiting_max)
    end
    assert_equal FIBERS, copied.size
    assert_equal({ whole: FIBERS }, copied.values.tally)
    assert_equal threads, most, "the copies were not all on one thread"
  end

  # @return [Hash{Integer => Symbol}] of each copy whether it was :whole
  def copy_some(count, noting = -> {}, &make)
    copied = {}
    ends = Array.new(count) { make.call }
    # All wait for their sources, and then are fed.
    ends.each_with_index do |(source, _, _, sink), number|
      Fiber.schedule do
        bytes = Fid.copy(source, sink).bytes
        sink.close
        copied[number] = :short unless bytes == LENGTH
      end
    end
    ends.each_with_index do |(_, feed, reader, _), number|
      bytes = BYTES.byteslice(number * 100, LENGTH)
      Fiber.schedule do
        feed.write(bytes)
        feed.close
      end
      Fiber.schedule do
        got = reader.read.b
        noting.call
        copied[number] ||= got == bytes ? :whole : :different
      end
    end
    sleep 0.01 until copied.size == count
    copied
  ensure
    ends&.flatten&.each { |io| io.close unless io.closed? }
  end

  def count_threads
    Dir.children("/proc/self/task").size
  end

  def raise_limit(descriptors)
    soft, hard = Process.getrlimit(:NOFILE)
    return if soft >= descriptors

    skip "#{descriptors} descriptors are not to be had" if hard < descriptors
    Process.setrlimit(:NOFILE, descriptors, hard)
  end
end
