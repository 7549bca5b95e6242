# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"
require_relative "scheduler"

require "timeout"

# That a copy leaves the rest of the program alone: other threads and fibers, the garbage
# collector, Ractors, forks, descriptors and memory.
class CitizenTest < FidTest
  SET_PIPE_SIZE = 1031 # F_SETPIPE_SZ
  PIPES_IDLE_MAX = 16 # which the pool of a process may keep

  def zero
    opened(File.open("/dev/zero", "rb"))
  end

  def null
    opened(File.open(File::NULL, "wb"))
  end

  # ---- The global lock ----

  # Who never gets the lock never writes, and then this program hangs, its guard included: it is
  # another one.
  def test_other_threads_run_while_a_copy_waits
    ["reader, null", "reader.fileno, null.fileno", "reader, null.fileno"].each do |ends|
      output, errors, = ruby(<<~RUBY)
        require "fid"
        watch = spawn("sleep #{LONG} && kill -9 \#{$$}", %i[in out err] => File::NULL)
        reader, writer = IO.pipe
        null = File.open(File::NULL, "w")
        Thread.new do
          count = 0
          count += 1 while count < 100_000
          writer.write count
          writer.close
        end
        print Fid.copy(#{ends}).bytes
        Process.kill(:KILL, watch)
      RUBY
      assert_equal "6", output, "#{ends}: #{errors}"
    end
  end

  def test_other_threads_run_while_a_copy_moves
    [[zero, null], [zero.fileno, null.fileno], [zero, null.fileno]].each do |source, sink|
      count = 0
      done = false
      counting = thread { count += 1 until done }
      eventually { count.positive? }
      before = count
      Fid.copy(source, sink, 1 << 30)
      during = count - before
      done = true
      counting.join
      # With the lock it would be what a slice of time or two before and after it allow.
      assert_operator during, :>, 10_000
    end
  end

  def test_other_threads_run_while_a_flow_is_stepped
    source, writer = pipe
    flow = Fid::Flow.new(source, null)
    turns = 0
    other = thread { 1000.times { turns += 1 } && writer.close }
    Thread.pass until flow.step == :done
    other.join
    assert_equal 1000, turns
    flow.close
  end

  def test_many_threads_copy_at_once
    bytes = data(300_000)
    copying = Array.new(16) do |count|
      thread do
        source = count.even? ? open_file(bytes) : full_socket(bytes)
        reader, sink = count % 3 == 0 ? pipe : socket_pair
        got = reading(reader)
        Fid.copy(source, sink)
        sink.close
        got.value
      end
    end
    copying.each { |one| assert bytes == one.value }
  end

  def full_socket(bytes)
    source, writer = socket_pair
    thread { writer.write(bytes).then { writer.close } }
    source
  end

  # ---- The garbage collector ----

  def assert_copies(bytes = "first\n#{"a" * 30_000}")
    source = full_socket(bytes)
    source.gets
    reader, sink = pipe
    receipt = Fid.copy(source, sink)
    assert_equal bytes.bytesize - 6, receipt.bytes
    receipt.to_h
    receipt.to_s
    receipt.to_json
    receipt.inspect
    sink.close
    assert_equal bytes[6..], reader.read
    error = assert_raises(Errno::ENOSPC) { Fid.copy(full_socket(bytes), "/dev/full") }
    assert_equal bytes, error.undelivered.to_s + (error.receipt.bytes_held.zero? ? bytes : "")
    Fid.copy("/dev/null", sink_of_devnull).demotions.each(&:to_a)
    assert_raises(ArgumentError) { Fid.copy(source, reader, routes: %i[splice walk]) }
  end

  def sink_of_devnull
    pipe.last
  end

  def test_copies_are_right_while_the_collector_runs_at_each_allocation
    # Two at most: it is slow.
    2.times do
      GC.stress = true
      assert_copies
    ensure
      GC.stress = false
    end
  end

  # By another thread, whenever this one gives up the lock. With GC.auto_compact this program
  # crashed now and then while Ruby 3.1 marked its own tables; whose fault it is, is open.
  def test_copies_are_right_while_objects_move
    done = false
    compacting = thread { GC.compact until done }
    20.times { assert_copies }
    done = true
    compacting.join
  ensure
    done = true
  end

  def test_a_copy_that_waits_goes_on_after_objects_have_moved
    bytes = data(100_000)
    source, writer = socket_pair
    source.ungetbyte "ahead"
    reader, sink = pipe
    copying = thread { Fid.copy(source, sink) }
    got = reading(reader)
    5.times do |count|
      wait_until_it_sleeps(copying)
      GC.start
      GC.compact
      # Fills the room that was left with other objects.
      Array.new(10_000) { |number| "garbage #{number}" }
      writer.write bytes[count * 20_000, 20_000]
    end
    writer.close
    assert_equal 100_005, copying.value.bytes
    sink.close
    assert "ahead".b + bytes == got.value
  end

  def test_a_flow_keeps_its_ends_from_the_collector
    at = path("to")
    flow = flow_of_forgotten_ends(at)
    10.times { GC.start }
    Array.new(10_000) { |number| "garbage #{number}" }
    GC.compact
    assert_equal 5, flow.run.bytes
    assert_equal "bytes", File.read(at)
    flow.close
  end

  # In a frame of its own, of which nothing stays on the stack.
  def flow_of_forgotten_ends(at)
    Fid::Flow.new(File.open(file("bytes")), File.open(at, "w"))
  end

  def test_references_are_right_after_a_compaction
    _, _, status = ruby(<<~'RUBY')
      require "fid"
      sources = Array.new(100) { IO.pipe }
      sources.each { |reader, writer| writer << "line\nrest"; reader.gets }
      flows = sources.map { |reader, _| Fid::Flow.new(reader, File.open(File::NULL, "w")) }
      receipts = flows.map(&:receipt)
      GC.verify_compaction_references(toward: :empty, double_heap: true)
      sources.each { |_, writer| writer.close }
      flows.each { |flow| flow.run.bytes == 4 or abort "lost" }
      receipts.each(&:to_h)
      demotion = Fid.copy("/dev/null", IO.pipe.last).demotions.first
      demotion.error == Errno::EINVAL or abort "moved"
    RUBY
    assert_predicate status, :success?
  end

  # ---- Ractors ----

  def test_ractors_copy_at_once
    output, errors, status = ruby(<<~'RUBY')
      Warning[:experimental] = false
      require "fid"
      ractors = Array.new(4) do |number|
        Ractor.new(number) do |own|
          bytes = own.to_s * 300_000
          receipts = Array.new(10) do
            reader, writer = IO.pipe
            from, feeder = IO.pipe
            feeding = Thread.new { feeder.write(bytes).then { feeder.close } }
            got = Thread.new { reader.read }
            receipt = Fid.copy(from, writer)
            writer.close
            feeding.join
            raise "other bytes" unless got.value == bytes
            receipt
          end
          ahead = IO.pipe.first.tap { |io| io.ungetbyte("abc") }
          flow = Fid::Flow.new(ahead, File.open("/dev/full", "w"))
          failure = begin
            flow.run
          rescue Errno::ENOSPC => e
            [e.class, e.side, e.receipt]
          end
          begin
            Fid.copy(nil, nil)
          rescue TypeError
            failure << :type
          end
          begin
            Fid.copy(0, 0, routes: :walk)
          rescue ArgumentError
            failure << :argument
          end
          flow.close
          Ractor.make_shareable([receipts, failure])
        end
      end
      ractors.each do |ractor|
        receipts, failure = ractor.take
        receipts.each { |receipt| receipt.bytes == 300_000 or abort "bytes" }
        receipts.each { |receipt| Ractor.shareable?(receipt) or abort "shareable" }
        failure[0] == Errno::ENOSPC && failure[1] == :sink or abort "failure"
        failure[3..] == %i[type argument] or abort "other failures"
      end
      print "done"
    RUBY
    assert_equal "done", output, errors
    assert_predicate status, :success?
  end

  def test_a_ractor_does_not_wait_for_another_that_copies
    output, errors, = ruby(<<~'RUBY')
      Warning[:experimental] = false
      require "fid"
      reader, writer = IO.pipe
      waiting = Ractor.new(reader.fileno) { |number| Fid.copy(number, "/dev/null").bytes }
      other = Ractor.new { Fid.copy("/dev/zero", "/dev/null", 1 << 20).bytes }
      print other.take, " "
      writer << "bytes"
      writer.close
      print waiting.take
    RUBY
    assert_equal "1048576 5", output, errors
  end

  # ---- Forks ----

  # A flow whose private pipe or buffer holds bytes, and what it needs to go on.
  def flow_in_the_middle(bytes)
    source = full_socket(bytes)
    reader, sink = socket_pair
    flow = Fid::Flow.new(source, sink)
    until flow.receipt.bytes_held.positive?
      begin
        flow.run(timeout: 0.01)
      rescue Errno::ETIMEDOUT
        next
      end
    end
    [flow, source, sink, reader]
  end

  def test_a_fork_in_the_middle_of_a_flow_leaves_the_parent_alone
    bytes = data(4 << 20)
    flow, _, sink, reader = flow_in_the_middle(bytes)
    in_child do
      # Neither what it does nor its end takes anything from the parent.
      other_reader, other = pipe
      got = reading(other_reader)
      assert_equal 300_000, Fid.copy(open_file("a" * 300_000), other).bytes
      other.close
      assert_equal 300_000, got.value.bytesize
      [-> { flow.run }, -> { flow.step }, -> { flow.salvage }].each do |call|
        assert_raises(IOError, &call)
      end
      flow.close
      GC.start
    end
    Process.wait(fork { exit }) # with the finalizers
    got = reading(reader)
    assert_equal bytes.bytesize, flow.run.bytes
    flow.close
    sink.close
    assert bytes == got.value
  end

  def test_a_fork_while_another_thread_copies_leaves_both_alone
    bytes = data(2 << 20)
    reader, sink = socket_pair
    copying = thread { Fid.copy(full_socket(bytes), sink) }
    eventually { IO.select([reader], nil, nil, 0) }
    in_child do
      8.times do
        other_reader, other = pipe
        got = reading(other_reader)
        Fid.copy(full_socket("b" * 200_000), other)
        other.close
        assert_equal "b" * 200_000, got.value
      end
    end
    got = thread { reader.read(bytes.bytesize) }
    assert_equal bytes.bytesize, copying.value.bytes
    assert bytes == got.value
  end

  # ---- Descriptors ----

  def test_copies_leave_no_descriptor_behind
    from = file("a" * 50_000)
    to = path("to")
    run = lambda do |times|
      times.times do |count|
        Fid.copy(from, to)
        Fid.copy(from, "/dev/full") rescue nil
        IO.pipe do |reader, writer|
          Fid.copy(from, writer, 10_000)
          Fid.copy(reader, writer) rescue nil
          reader.gets("a")
          Fid.copy(reader, to, 5000)
          Fid.copy(reader, "/dev/null", require: :by_reference) rescue nil
          Fid.copy(reader, "/dev/null", timeout: 0) rescue nil
        end
        Fid.copy(from, 987_654) rescue nil if count.even?
      end
    end
    GC.start
    run.call(20)
    before = descriptors.size
    GC.disable
    run.call(1000)
    assert_operator descriptors.size, :<=, before + PIPES_IDLE_MAX * 2
  ensure
    GC.enable
  end

  def test_flows_that_were_abandoned_are_closed_by_the_collector
    before = descriptors.size
    64.times { |count| abandon(count.even?) }
    GC.start
    # A few may look as if they were in use, since their addresses are on the stack.
    left = eventually do
      GC.start
      count = descriptors.size
      count if count <= before + PIPES_IDLE_MAX * 2 + 16
    end
    assert_operator left, :<=, before + PIPES_IDLE_MAX * 2 + 16
  end

  # A flow that holds a private pipe with bytes in it, and a memfd of what was read ahead.
  def abandon(ahead)
    source, feeder = UNIXSocket.pair
    reader, sink = UNIXSocket.pair
    source.ungetbyte("ahead") if ahead
    feeder.write_nonblock("a" * 100_000, exception: false)
    nil until sink.write_nonblock("b" * 4096, exception: false) == :wait_writable
    # Straight into a private pipe; without this a stream begins as a copy.
    flow = Fid::Flow.new(source, sink, **(ahead ? {} : { routes: :splice_pipe }))
    3.times { flow.step }
    [source, feeder, reader, sink].each(&:close)
  end

  # What descriptors above the standard ones a program that is started from here has.
  def inherited
    listing = IO.popen([RbConfig.ruby, "-e", <<~'RUBY', { close_others: false }], &:read)
      Dir.children("/proc/self/fd").each do |fd|
        at = "/proc/self/fd/#{fd}"
        puts File.readlink(at) if Integer(fd) > 2 && File.symlink?(at)
      end
    RUBY
    listing.lines(chomp: true)
  end

  def open_files
    descriptors.map { |fd| File.readlink("/proc/self/fd/#{fd}") }
  end

  def test_programs_that_are_started_inherit_nothing
    before = open_files
    flow, = flow_in_the_middle(data(4 << 20))
    second, = pipe
    second.ungetbyte("ahead")
    ahead = Fid::Flow.new(second, null)
    added = open_files - before
    refute_empty added.grep(/memfd/)
    refute_empty added.grep(/pipe:/)
    assert_empty inherited & added
    flow.close
    ahead.close
  end

  def test_every_descriptor_of_a_flow_is_closed_on_exec
    before = descriptors
    flow, = flow_in_the_middle(data(4 << 20))
    second, = pipe
    second.ungetbyte("ahead")
    ahead = Fid::Flow.new(second, null)
    added = descriptors - before - @opened.reject(&:closed?).map(&:fileno)
    refute_empty added
    added.each do |fd|
      flags = Integer(File.read("/proc/self/fdinfo/#{fd}")[/^flags:\s*(\d+)/, 1], 8)
      refute_equal 0, flags & 0o2000000, File.readlink("/proc/self/fd/#{fd}")
    end
    flow.close
    ahead.close
  end

  def test_a_copy_leaves_the_flags_of_its_ends_alone
    ends = pipe + pipe(nonblock: false) + socket_pair + [opened(File.open(path("a"), "ab"))]
    read = -> { ends.map { |io| [io.fcntl(3), io.fcntl(1)] } } # F_GETFL, F_GETFD
    before = read.call
    source = open_file("bytes")
    ends.each do |io|
      Fid.copy(source.fileno, io.fileno, source_offset: 0) unless io.fcntl(3) & 3 == 0
      Fid.copy(io.fileno, File::NULL, 1, timeout: 0) if io.fcntl(3) & 3 == 0
    rescue Errno::ETIMEDOUT
      next
    end
    in_a_scheduler = lambda do
      Scheduler.run { Fid.copy(ends[0].fileno, ends[3].fileno, timeout: 0.01) }
    rescue Errno::ETIMEDOUT
      nil
    end
    in_a_scheduler.call
    assert_equal before, read.call
  end

  # ---- Memory ----

  def resident_bytes
    Integer(File.read("/proc/self/status")[/^VmRSS:\s*(\d+) kB/, 1]) << 10
  end

  def test_memory_does_not_grow_with_copies
    if File.read("/proc/self/maps").match?(/asan/)
      skip "the address sanitizer keeps memory that was freed"
    end
    in_child do
      from = opened(File.open(file("a" * 20_000), "rb"))
      full = opened(File.open("/dev/full", "wb"))
      sink = null
      run = lambda do |times|
        times.times do
          Fid.copy(from, sink, source_offset: 0).to_s
          begin
            Fid.copy(from, full, source_offset: 0)
          rescue Errno::ENOSPC => e
            e.message
          end
          Fid::Flow.new(from, sink, source_offset: 0).step
        end
        3.times { GC.start }
      end
      run.call(2000)
      # Ruby's heap grows now and then; a leak grows each time, and one of 256 bytes for each
      # copy and flow by 7 MiB.
      grown = Array.new(3) do
        before = resident_bytes
        run.call(10_000)
        resident_bytes - before
      end
      assert_operator grown.min, :<, 4 << 20
    end
  end

  # ---- Fiber schedulers ----

  def test_a_copy_waits_by_the_scheduler
    %i[pipe unix].product([true, false]) do |kind, nonblock|
      source, writer = kind == :pipe ? pipe(nonblock: nonblock) : socket_pair
      source.nonblock = nonblock
      sink = null
      receipt = nil
      Scheduler.run do |scheduler|
        Fiber.schedule { receipt = Fid.copy(source, sink) }
        # On the same thread: had the copy blocked it, nobody would write.
        Fiber.schedule do
          writer.write "bytes"
          sleep 0.001
          writer.write " more"
          writer.close
        end
        assert_operator scheduler.waits, :>=, 1
      end
      assert_equal 10, receipt.bytes, "#{kind}, #{nonblock}"
    end
  end

  def test_a_copy_waits_for_its_sink_by_the_scheduler
    bytes = data(3 << 20)
    %i[pipe unix].each do |kind|
      reader, sink = kind == :pipe ? pipe : socket_pair
      source = open_file(bytes)
      got = +"".b
      Scheduler.run do
        Fiber.schedule do
          Fid.copy(source, sink)
          sink.close
        end
        Fiber.schedule { got << reader.read }
      end
      assert bytes == got, kind
    end
  end

  def test_copies_in_many_fibers_interleave
    bytes = data(200_000)
    relays = Array.new(20) { [socket_pair, socket_pair] }
    got = Array.new(20)
    most = Scheduler.run do |scheduler|
      relays.each_with_index do |((source, feeder), (reader, sink)), count|
        Fiber.schedule do
          Fid.copy(source, sink)
          sink.close
        end
        Fiber.schedule { got[count] = reader.read }
        # The last begins first: the copies cannot end one after another.
        Fiber.schedule do
          sleep 0.001 * (20 - count)
          feeder.write bytes
          feeder.close
        end
      end
      scheduler
    end
    assert_operator most.waiting_max, :>=, 20
    got.each { |one| assert bytes == one.b }
  end

  def test_a_copy_that_never_waits_lets_other_fibers_run
    turns = 0
    copied = nil
    Scheduler.run do
      enough = false
      copying = Fiber.schedule do
        flow = Fid::Flow.new(zero, null)
        begin
          flow.run(timeout: LONG)
        rescue Errno::ETIMEDOUT
          flunk "other fibers had no turn"
        rescue StopIteration
          copied = flow.receipt.bytes
        ensure
          flow.close
        end
      end
      Fiber.schedule do
        until turns == 100
          turns += 1
          sleep 0
        end
        enough = true
        copying.raise StopIteration
      end
      refute enough && turns < 100
    end
    assert_equal 100, turns
    assert_operator copied, :>, 0
  end

  def test_time_is_over_under_a_scheduler_too
    source, = pipe
    sink_reader, full = pipe
    Scheduler.run do
      [[source, null], [zero, full]].each do |from, to|
        flow = Fid::Flow.new(from, to)
        2.times do
          error = assert_raises(Errno::ETIMEDOUT) { flow.run(timeout: 0.02) }
          assert_equal :fid, error.side
        end
        flow.close
      end
      assert_raises(Errno::ETIMEDOUT) { Fid.copy(source, File::NULL, timeout: 0) }
      assert_raises(Timeout::Error) { Timeout.timeout(0.02) { Fid.copy(source, File::NULL) } }
      error = assert_raises(Errno::ETIMEDOUT) { Fid.copy(zero, null, timeout: 0.02) }
      assert_operator error.receipt.bytes, :>, 0
    end
    refute_predicate sink_reader, :closed?
  end

  def test_what_is_held_is_not_lost_under_a_scheduler
    bytes = data(3 << 20)
    source, feeder = socket_pair
    reader, sink = socket_pair
    parts = nil
    Scheduler.run do
      Fiber.schedule { feeder.write(bytes).then { feeder.close } }
      Fiber.schedule do
        Timeout.timeout(0.05) { Fid.copy(source, sink) }
      rescue Timeout::Error => e
        sink.close
        parts = [reader.read.b, e.is_a?(Fid::Failure) ? e.undelivered : "", source.read.b]
      end
    end
    assert_operator parts.first.bytesize, :>, 0
    assert bytes == parts.join
  end

  def test_a_sink_that_dies_is_noticed_under_a_scheduler_while_the_source_is_idle
    source, = pipe
    reader, sink = pipe
    error = nil
    Scheduler.run do
      Fiber.schedule do
        Fid.copy(source, sink)
      rescue Errno::EPIPE => e
        error = e
      end
      Fiber.schedule { reader.close }
    end
    assert_equal :sink, error.side
  end

  def test_numbers_work_under_a_scheduler
    source, writer = pipe
    reader, sink = pipe
    bytes = data(300_000)
    got = nil
    Scheduler.run do |scheduler|
      Fiber.schedule do
        assert_equal bytes.bytesize, Fid.copy(source.fileno, sink.fileno).bytes
        sink.close
      end
      Fiber.schedule { got = reader.read }
      Fiber.schedule do
        sleep 0.001
        writer.write bytes
        writer.close
      end
      assert_operator scheduler.waits, :>=, 1
    end
    assert bytes == got.b
    # They were borrowed, also by the collector.
    GC.start
    refute_predicate source, :closed?
    assert_equal "", source.read
  end

  def test_a_copy_under_a_scheduler_ends_when_another_fiber_closes_its_end
    [0, 1].each do |closed|
      source, = pipe
      _, sink = pipe
      error = nil
      Scheduler.run do
        Fiber.schedule do
          Fid.copy(source, sink)
        rescue IOError => e
          error = e
        end
        Fiber.schedule { [source, sink][closed].close }
      end
      assert_kind_of IOError, error
    end
  end

  def test_what_was_read_ahead_is_delivered_under_a_scheduler
    pushed = data(500_000)
    source, writer = pipe
    source.ungetbyte(pushed)
    reader, sink = pipe
    got = nil
    Scheduler.run do
      Fiber.schedule do
        Fid.copy(source, sink)
        sink.close
      end
      Fiber.schedule { got = reader.read }
      Fiber.schedule { writer.write("after").then { writer.close } }
    end
    assert pushed + "after" == got.b
  end

  def test_a_flow_is_used_by_one_fiber_at_a_time
    source, writer = pipe
    flow = Fid::Flow.new(source, null)
    errors = []
    Scheduler.run do
      Fiber.schedule { flow.run }
      Fiber.schedule do
        %i[run step close salvage].each do |name|
          flow.public_send(name)
        rescue ThreadError => e
          errors << e
        end
        writer.close
      end
    end
    assert_equal 4, errors.size
    flow.close
  end

  def test_a_blocking_fiber_waits_without_the_scheduler
    source, writer = pipe
    Scheduler.run do |scheduler|
      writing = thread { writer.write("bytes").then { writer.close } }
      before = scheduler.waits
      Fiber.new(blocking: true) { assert_equal 5, Fid.copy(source, null).bytes }.resume
      assert_equal before, scheduler.waits
      writing.join
    end
  end

  # The scheduler of another make that is packaged here.
  def test_a_copy_waits_by_the_scheduler_of_async
    begin
      require "async"
    rescue LoadError
      skip "the gem async is not installed"
    end
    source, writer = pipe
    reader, sink = pipe
    bytes = data(300_000)
    got = nil
    thread do
      Async do |task|
        task.async { Fid.copy(source, sink).then { sink.close } }
        task.async { got = reader.read }
        task.async do |inner|
          inner.sleep 0.001
          writer.write bytes
          writer.close
        end
      end
    end.join
    assert bytes == got.b
  end
end
