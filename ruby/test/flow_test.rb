# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"

require "timeout"

# Fid::Flow: a transfer that is stopped, continued, watched and salvaged.
class FlowTest < FidTest
  SET_PIPE_SIZE = 1031 # F_SETPIPE_SZ
  PAGE = 4096

  # An exception of the test's own.
  class Stop < StandardError
  end

  def flow(...)
    made = Fid::Flow.new(...)
    @flows = (@flows || []) << made
    made
  end

  def teardown
    @flows&.each(&:close)
  end

  def null
    opened(File.open(File::NULL, "r+b"))
  end

  # Drives a flow by hand, as an event loop does.
  def step_through(flow, source, sink)
    steps = []
    loop do
      steps << flow.step
      case steps.last
      when :done then return steps
      when :wait_readable then IO.select([source], nil, nil, LONG) || flunk("the source hangs")
      when :wait_writable then IO.select(nil, [sink], nil, LONG) || flunk("the sink hangs")
      else assert_equal :more, steps.last
      end
    end
  end

  def small(pipe_ends)
    pipe_ends.each { |io| io.fcntl(SET_PIPE_SIZE, PAGE) }
  end

  # A source that never waits and never ends in a test's time, and holds nothing.
  def endless
    [opened(File.open("/dev/zero", "rb")), null]
  end

  # A flow of these bytes from a socket that stands still, since its sink is full, and that
  # holds bytes: the flow, the source, the sink and its reader.
  def stuck(bytes)
    source, writer = socket_pair
    reader, sink = socket_pair
    thread { writer.write(bytes).tap { writer.close } }
    made = flow(source, sink)
    while made.receipt.bytes_held.zero?
      assert_raises(Errno::ETIMEDOUT) { made.run(timeout: 0.02) }
    end
    [made, source, sink, reader]
  end

  # ---- Running ----

  def test_flow_runs_to_the_end_of_file
    bytes = data(300_000)
    reader, writer = pipe
    got = reading(reader)
    made = flow(open_file(bytes), writer)
    receipt = made.run
    assert_instance_of Fid::Receipt, receipt
    assert_equal bytes.bytesize, receipt.bytes
    assert_equal receipt, made.receipt
    writer.close
    assert bytes == got.value
  end

  def test_flow_takes_the_options_of_copy
    source = open_file("0123456789")
    to = file("..........")
    sink = opened(File.open(to, "r+b"))
    made = flow(source, sink, 4, source_offset: 3, sink_offset: 2, stable: true, require: nil,
                                 routes: :read_write, pipe_bytes: 4096, grow_pipes: true)
    assert_equal 4, made.run.bytes
    assert_equal "..3456....", File.read(to)
    assert_equal({ read_write: 4 }, made.receipt.by_method)
    assert_equal 0, source.pos
  end

  def test_flow_that_is_done_stays_done
    reader, writer = pipe
    source = open_file("bytes")
    made = flow(source, writer)
    first = made.run
    source.reopen(file("more bytes than before"), "rb")
    assert_equal first, made.run
    assert_equal :done, made.step
    assert_equal "bytes", reader.readpartial(100)
  end

  def test_flow_that_failed_says_so_again
    source = full_pipe("bytes" * 1000)
    made = flow(source, opened(File.open("/dev/full", "wb")), routes: :read_write)
    [-> { made.run }, -> { made.step }, -> { made.run(timeout: 1) }].each do |call|
      error = assert_raises(Errno::ENOSPC, &call)
      assert_equal :sink, error.side
      assert_equal 5000, error.receipt.bytes_held
    end
    assert_equal Errno::ENOSPC, made.receipt.error
    assert_equal "bytes" * 1000, made.salvage
    assert_raises(Errno::ENOSPC) { made.run }
  end

  def test_flow_whose_time_is_over_goes_on
    reader, writer = pipe
    sink_reader, sink = pipe
    made = flow(reader, sink)
    3.times do |count|
      writer.write "part#{count}"
      error = assert_raises(Errno::ETIMEDOUT) { made.run(timeout: 0.01) }
      assert_kind_of Fid::Failure, error
      assert_equal :fid, error.side
      assert_equal 5 * (count + 1), error.receipt.bytes
      assert_nil error.undelivered
      assert_nil made.receipt.error
    end
    writer.close
    assert_equal 15, made.run.bytes
    assert_equal "part0part1part2", sink_reader.readpartial(100)
  end

  def test_flow_whose_time_is_over_keeps_what_it_holds
    bytes = data(3 << 20)
    made, _, sink, reader = stuck(bytes)
    held = made.receipt.bytes_held
    error = assert_raises(Errno::ETIMEDOUT) { made.run(timeout: 0.01) }
    assert_equal held, error.receipt.bytes_held
    got = reading(reader)
    assert_equal bytes.bytesize, made.run.bytes
    sink.close
    assert bytes == got.value
  end

  def test_flow_without_time_makes_what_moves_at_once
    source, writer = pipe
    made = flow(source, null)
    assert_raises(Errno::ETIMEDOUT) { made.run(timeout: 0) }
    writer.write "bytes"
    assert_raises(Errno::ETIMEDOUT) { made.run(timeout: 0.0) }
    assert_equal 5, made.receipt.bytes
    assert_raises(ArgumentError) { made.run(timeout: -1) }
    assert_raises(TypeError) { made.run(timeout: "1") }
    assert_raises(ArgumentError) { made.run(time: 1) }
    assert_raises(ArgumentError) { made.run(1) }
  end

  # ---- Steps ----

  def test_flow_steps_to_the_end
    [[4096, 200_000], [nil, 3 << 20]].each do |size, length|
      %i[file pipe unix].product(%i[file pipe unix]) do |source_kind, sink_kind|
        bytes = data(length)
        source, feeder = ends(source_kind, size, bytes)
        sink_path = path("sink")
        reader, sink = ends(sink_kind, size) unless sink_kind == :file
        sink ||= opened(File.open(sink_path, "wb"))
        got = reading(reader) if reader
        feeding = thread { feeder.write(bytes).tap { feeder.close } } if feeder
        made = flow(source, sink)
        step_through(made, source, sink)
        feeding&.join
        sink.close
        assert_equal length, made.receipt.bytes
        delivered = got ? got.value : File.binread(sink_path)
        assert bytes == delivered, "#{source_kind} to #{sink_kind}"
      end
    end
  end

  def ends(kind, size, bytes = nil)
    case kind
    when :file then [open_file(bytes), nil]
    when :pipe then pipe.tap { |both| both.first.fcntl(SET_PIPE_SIZE, size) if size }
    when :unix then socket_pair
    end
  end

  def test_flow_step_tells_what_to_wait_for
    reader, writer = pipe
    sink_reader, sink = pipe
    made = flow(reader, sink)
    assert_equal :wait_readable, until_no_more(made)
    writer.write "bytes"
    assert_equal :wait_readable, until_no_more(made)
    assert_equal "bytes", sink_reader.readpartial(100)
    filler = thread { 100.times { writer.write "a" * 4096 } }
    eventually { until_no_more(made) == :wait_writable }
    got = reading(sink_reader)
    closing = thread { filler.join.then { writer.close } }
    step_through(made, reader, sink)
    closing.join
    sink.close
    assert_equal "a" * 409_600, got.value
  end

  def until_no_more(flow)
    answer = flow.step
    answer = flow.step while answer == :more
    answer
  end

  # Writes what can be written at once.
  def feed(io)
    before = io.nonblock?
    io.write_nonblock("a" * 65_536, exception: false)
    io.nonblock = before
  end

  def test_flow_step_never_sleeps
    %i[pipe unix].product(%i[pipe unix]) do |source_kind, sink_kind|
      [true, false].each do |nonblock|
        source, feeder = ends(source_kind, nil)
        reader, sink = ends(sink_kind, nil)
        [source, feeder, reader, sink].each { |io| io.nonblock = nonblock }
        made = flow(source, sink)
        # On this thread: if a step slept, nobody would wake it.
        assert_equal :wait_readable, until_no_more(made)
        feed(feeder) until until_no_more(made) == :wait_writable
        assert_equal :wait_writable, until_no_more(made), "#{source_kind} to #{sink_kind}"
      end
    end
  end

  def test_flow_step_fails_as_run_does
    reader, writer = pipe
    _, writer_of_source = pipe
    source = full_pipe("bytes")
    reader.close
    made = flow(source, writer)
    error = assert_raises(Errno::EPIPE) { until_no_more(made) }
    assert_kind_of Fid::Failure, error
    assert_equal :sink, error.side
    assert_match(/sink: \w+, after 0 bytes/, error.message)
    refute_predicate writer_of_source, :closed?
    assert_raises(ArgumentError) { made.step(1) }
  end

  def test_flow_step_notices_a_dead_sink_while_the_source_is_idle
    source, = pipe
    reader, sink = pipe
    made = flow(source, sink)
    assert_equal :wait_readable, until_no_more(made)
    reader.close
    assert_raises(Errno::EPIPE) { until_no_more(made) }
  end

  def test_flow_may_be_stepped_and_run_by_turns
    bytes = data(2 << 20)
    source, feeder = socket_pair
    reader, sink = socket_pair
    thread { feeder.write(bytes).tap { feeder.close } }
    got = reading(reader)
    made = flow(source, sink)
    20.times do
      made.step
      begin
        made.run(timeout: 0.0005)
      rescue Errno::ETIMEDOUT
        next
      end
    end
    made.run
    sink.close
    assert bytes == got.value
  end

  # ---- Salvage ----

  def test_flow_gives_out_what_it_holds
    bytes = data(3 << 20)
    made, source, sink, reader = stuck(bytes)
    before = made.receipt
    first = made.salvage(1000)
    assert_equal 1000, first.bytesize
    assert_equal Encoding::BINARY, first.encoding
    refute_predicate first, :frozen?
    assert_equal 1000, made.receipt.bytes_salvaged
    assert_equal before.bytes_held - 1000, made.receipt.bytes_held
    second = made.salvage(1 << 62)
    assert_equal 0, made.receipt.bytes_held
    assert_equal before.bytes_held, made.receipt.bytes_salvaged
    assert_nil made.salvage
    assert_nil made.salvage(5)
    receipt = made.receipt
    assert_equal receipt.bytes_in, receipt.bytes + receipt.bytes_salvaged
    # The flow goes on behind what was salvaged.
    got = reading(reader)
    made.run
    sink.close
    delivered = got.value
    assert bytes == delivered[0, before.bytes] + first + second + delivered[before.bytes..]
    assert_equal "", source.read
  end

  def test_flow_salvages_nothing_for_nothing
    made, = stuck(data(3 << 20))
    held = made.receipt.bytes_held
    assert_nil made.salvage(0)
    assert_equal held, made.receipt.bytes_held
    assert_raises(ArgumentError) { made.salvage(-1) }
    assert_raises(TypeError) { made.salvage("1") }
    assert_raises(ArgumentError) { made.salvage(1, 2) }
    assert_equal held, made.salvage(nil).bytesize
  end

  def test_flow_salvages_bit_by_bit
    bytes = data(3 << 20)
    made, source, sink, reader = stuck(bytes)
    parts = +"".b
    while (part = made.salvage(777))
      assert_operator part.bytesize, :<=, 777
      parts << part
      receipt = made.receipt
      assert_equal receipt.bytes_in, receipt.bytes + receipt.bytes_held + receipt.bytes_salvaged
    end
    sink.close
    made.close
    assert bytes == reader.read.b + parts + source.read.b
  end

  # ---- Closing ----

  def test_flow_that_is_closed_says_so
    made = flow(open_file("bytes"), null)
    refute_predicate made, :closed?
    assert_nil made.close
    assert_predicate made, :closed?
    assert_nil made.close
    [-> { made.run }, -> { made.step }, -> { made.salvage }, -> { made.receipt }].each do |call|
      assert_match(/closed flow/, assert_raises(IOError, &call).message)
    end
  end

  def test_flow_leaves_its_ends_open
    source = open_file("bytes")
    _, sink = pipe
    made = flow(source, sink)
    made.run
    made.close
    refute_predicate source, :closed?
    refute_predicate sink, :closed?
    sink.write "!"
    assert_equal 5, source.pos
  end

  def test_flow_opened_with_a_block_is_closed_after_it
    kept = nil
    value = Fid::Flow.open(open_file("bytes"), null, 3) do |made|
      kept = made
      made.run.bytes
    end
    assert_equal 3, value
    assert_predicate kept, :closed?
    assert_raises(Stop) do
      Fid::Flow.open(open_file("bytes"), null) do |made|
        kept = made
        raise Stop
      end
    end
    assert_predicate kept, :closed?
    without = Fid::Flow.open(open_file("bytes"), null)
    refute_predicate without, :closed?
    without.close
  end

  def test_flow_with_a_closed_end_says_so
    source = open_file("bytes")
    _, sink = pipe
    made = flow(source, sink)
    sink.close
    assert_raises(IOError) { made.run }
    assert_raises(IOError) { made.step }
    made = flow(source, null)
    source.close
    assert_raises(IOError) { made.run }
    assert_equal 0, made.receipt.bytes
  end

  # ---- What cannot be made ----

  def test_flow_that_was_refused_holds_nothing
    before = descriptors
    reader, writer = pipe
    [[reader, writer, {}, Errno::EINVAL], [reader, null, { source_offset: 1 }, Errno::ESPIPE],
     [reader, null, { require: :speed }, ArgumentError], [nil, null, {}, TypeError],
     [reader, reader, {}, IOError]].each do |source, sink, options, error|
      assert_raises(error) { Fid::Flow.new(source, sink, **options) }
    end
    @opened.each(&:close)
    assert_equal before, descriptors
  end

  def test_flow_is_made_once
    made = flow(open_file("bytes"), null)
    assert_raises(RuntimeError) { made.__send__(:initialize, open_file("other"), null) }
    assert_equal 5, made.run.bytes
  end

  def test_flow_that_was_never_made_is_closed
    empty = Fid::Flow.allocate
    assert_predicate empty, :closed?
    assert_nil empty.close
    %i[run step salvage receipt].each do |name|
      assert_raises(IOError) { empty.public_send(name) }
    end
  end

  def test_flow_is_not_copied
    made = flow(open_file("bytes"), null)
    assert_raises(TypeError, NoMethodError) { made.dup }
    assert_raises(TypeError, NoMethodError) { made.clone }
    assert_raises(TypeError) { Marshal.dump(made) }
    refute Ractor.shareable?(made)
    assert_equal 5, made.run.bytes
  end

  def test_flow_may_be_subclassed
    kind = Class.new(Fid::Flow) do
      attr_reader :name

      def initialize(name, *arguments, **options)
        @name = name
        super(*arguments, **options)
      end
    end
    made = kind.new("mine", open_file("bytes"), null, 2)
    assert_equal "mine", made.name
    assert_equal 2, made.run.bytes
    made.close
  end

  # ---- Two users ----

  def test_flow_is_used_by_one_thread_at_a_time
    source, writer = pipe
    made = flow(source, null)
    running = thread { made.run }
    wait_until_it_sleeps(running)
    [-> { made.run }, -> { made.run(timeout: 0) }, -> { made.step }, -> { made.salvage },
     -> { made.close }].each do |call|
      assert_match(/another thread/, assert_raises(ThreadError, &call).message)
    end
    # The account may be looked at.
    writer.write "bytes"
    eventually { made.receipt.bytes == 5 }
    writer.close
    assert_equal 5, running.value.bytes
    assert_equal :done, made.step
  end

  def test_flow_is_not_used_by_a_trap_while_it_runs
    source, writer = pipe
    made = flow(source, null)
    caught = nil
    before = trap(:USR1) do
      made.run
    rescue ThreadError => e
      caught = e
    ensure
      writer.close
    end
    main = Thread.current
    signalling = thread do
      wait_until_it_sleeps(main)
      Process.kill(:USR1, Process.pid)
    end
    made.run
    signalling.join
    assert_kind_of ThreadError, caught
  ensure
    trap(:USR1, before)
  end

  def test_flow_may_go_from_thread_to_thread
    bytes = data(1 << 20)
    source, feeder = socket_pair
    reader, sink = socket_pair
    thread { feeder.write(bytes).tap { feeder.close } }
    got = reading(reader)
    made = flow(source, sink)
    until thread { made.run(timeout: 0.001) rescue nil }.value
    end
    sink.close
    assert bytes == got.value
  end

  # ---- Exceptions from outside, at random ----

  ROUNDS = 200

  # Raises in a thread at random moments until it has ended.
  def harass(victim, random)
    thread do
      while victim.alive?
        sleep random.rand * 0.003
        victim.raise Stop if victim.alive?
      end
    end
  end

  # The flow of a thread that is stopped again and again, and goes on each time.
  def run_in_spite(flow, random)
    victim = thread do
      Thread.handle_interrupt(Stop => :never) do
        loop do
          break Thread.handle_interrupt(Stop => :immediate) { flow.run }
        rescue Stop
          receipt = flow.receipt
          unless receipt.bytes_in == receipt.bytes + receipt.bytes_held + receipt.bytes_salvaged
            raise "the account is wrong: #{receipt.to_h}"
          end
        end
      end
    end
    harassing = harass(victim, random)
    victim.join
    harassing.join
  rescue Stop
    # It came when all was done.
  end

  def slow_reader(io, random)
    thread do
      got = +"".b
      while (chunk = io.read_nonblock(1 + random.rand(50_000), exception: false))
        if chunk == :wait_readable
          IO.select([io], nil, nil, 1)
        else
          got << chunk
          sleep random.rand * 0.001 if random.rand(8).zero?
        end
      end
      got
    end
  end

  def round(random)
    bytes = random.bytes(random.rand(1_000_000))
    source_kind = %i[file pipe unix].sample(random: random)
    sink_kind = %i[pipe unix].sample(random: random)
    sizes = [nil, PAGE]
    source, feeder = ends(source_kind, sizes.sample(random: random), bytes)
    reader, sink = ends(sink_kind, sizes.sample(random: random))
    [source, sink].each { |io| io.nonblock = random.rand(2).zero? }
    thread { feeder.write(bytes).tap { feeder.close } } if feeder
    got = slow_reader(reader, random)
    made = Fid::Flow.new(source, sink)
    run_in_spite(made, random)
    receipt = made.run
    assert_equal bytes.bytesize, receipt.bytes
    assert_equal bytes.bytesize, receipt.bytes_in
    sink.close
    assert bytes == got.value, "#{source_kind} to #{sink_kind}, #{bytes.bytesize} bytes"
  ensure
    made&.close
    [source, reader, sink].each { |io| io&.close }
  end

  def test_flow_that_is_stopped_at_any_moment_loses_and_doubles_nothing
    random = Random.new(Tap.seed)
    ROUNDS.times { round(random) }
  end

  def test_flow_that_is_timed_out_at_any_moment_loses_and_doubles_nothing
    random = Random.new(Tap.seed + 1)
    50.times do
      bytes = random.bytes(500_000)
      source, feeder = socket_pair
      reader, sink = ends(%i[pipe unix].sample(random: random), PAGE)
      thread { feeder.write(bytes).tap { feeder.close } }
      got = slow_reader(reader, random)
      made = flow(source, sink)
      begin
        Timeout.timeout(0.0001 + random.rand * 0.002) { made.run }
      rescue Timeout::Error
        receipt = made.receipt
        assert_equal receipt.bytes_in, receipt.bytes + receipt.bytes_held
        retry
      end
      sink.close
      assert bytes == got.value
      made.close
      [source, reader].each(&:close)
    end
  end

  def test_flow_whose_thread_was_killed_goes_on_in_another
    random = Random.new(Tap.seed + 2)
    bytes = data(2 << 20)
    source, feeder = socket_pair
    reader, sink = socket_pair
    thread { feeder.write(bytes).tap { feeder.close } }
    got = slow_reader(reader, random)
    made = flow(source, sink)
    50.times do
      running = thread { made.run }
      sleep random.rand * 0.001
      running.kill.join
    end
    made.run
    sink.close
    assert bytes == got.value
  end

  # An exception that is held back comes when all is done, and not before.
  def test_flow_lets_a_thread_hold_exceptions_back
    source, writer = pipe
    made = flow(source, null)
    receipt = nil
    running = thread do
      Thread.handle_interrupt(Stop => :never) { receipt = made.run }
    end
    wait_until_it_sleeps(running)
    running.raise Stop
    writer.write "bytes"
    eventually { made.receipt.bytes == 5 }
    writer.close
    assert_raises(Stop) { running.value }
    assert_equal 5, receipt.bytes
  end

  def test_flow_that_waits_is_where_an_exception_on_blocking_comes
    source, writer = pipe
    made = flow(source, null)
    running = thread do
      Thread.handle_interrupt(Stop => :on_blocking) { made.run }
    end
    wait_until_it_sleeps(running)
    running.raise Stop
    assert_raises(Stop) { running.value }
    writer.write "bytes"
    writer.close
    assert_equal 5, made.run.bytes
  end

  def test_flow_that_never_waits_is_stopped_and_goes_on
    made = flow(*endless, 1 << 50)
    seen = 0
    3.times do
      running = thread { made.run }
      eventually { made.receipt.bytes > seen }
      running.raise Stop
      assert_raises(Stop) { running.value }
      assert_equal made.receipt.bytes_in, made.receipt.bytes + made.receipt.bytes_held
      seen = made.receipt.bytes
    end
  end

  # What was read ahead belongs to the flow, and the flow to its process.
  def test_a_child_that_closes_a_flow_does_not_get_what_was_read_ahead
    source, feeder = pipe
    source.ungetbyte("ahead")
    feeder.close
    reader, sink = pipe
    made = flow(source, sink)
    in_child do
      made.close
      raise "it is there twice" unless source.read.empty?
    end
    made.run
    assert_equal "ahead", reader.read_nonblock(100)
  end
end
