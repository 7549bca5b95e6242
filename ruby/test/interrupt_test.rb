# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"

require "timeout"

# What ends a copy from outside: other threads, signals, time-outs, and an end that is closed.
class InterruptTest < FidTest
  # An exception of the test's own.
  class Stop < StandardError
  end

  # More than any pipe or socket takes, and little enough for a file that gets it by mistake.
  TOO_MUCH = 64 << 20

  # Copies that would not end by themselves: they wait for the source, or for the sink, or they
  # move all the time and never wait.
  def endless_copies
    reader, writer = pipe
    sink_reader, sink = pipe
    blocking_reader, blocking_writer = pipe(nonblock: false)
    blocking_sink_reader, blocking_sink = pipe(nonblock: false)
    _keep = [writer, sink_reader, blocking_writer, blocking_sink_reader]
    one, other = socket_pair
    zero = opened(File.open("/dev/zero", "rb"))
    null = opened(File.open(File::NULL, "wb"))
    { "waits for a pipe" => [reader, null],
      "waits for a blocking pipe" => [blocking_reader, null],
      "waits for a socket" => [one, null], "waits for room in a pipe" => [zero, sink],
      "waits for room in a blocking pipe" => [zero, blocking_sink],
      "waits for room in a socket" => [zero, other],
      "waits between two pipes" => [reader, sink],
      "waits by number" => [reader.fileno, null.fileno],
      "never waits" => [zero, null], "never waits, sparse" => [sparse_file, null],
      "never waits, by number" => [zero.fileno, null.fileno] }
  end

  def sparse_file
    at = path("sparse")
    File.open(at, "wb") { |file| file.truncate(1 << 42) }
    opened(File.open(at, "rb"))
  end

  # A thread that copies, and has begun.
  def copying(source, sink, length = nil)
    begun = Queue.new
    made = thread do
      begun << true
      Fid.copy(source, sink, length)
    end
    begun.pop
    # Whoever waits for the sink has filled it, and is then asleep.
    wait_until_it_sleeps(made)
    made
  end

  # ---- Threads ----

  def test_a_copy_ends_when_its_thread_is_killed
    endless_copies.each do |what, (source, sink)|
      victim = copying(source, sink)
      victim.kill
      assert victim.join(LONG), what
      assert_equal false, victim.status, what
    end
  end

  def test_a_copy_ends_when_something_is_raised_in_its_thread
    endless_copies.each do |what, (source, sink)|
      victim = copying(source, sink)
      victim.raise Stop, "now"
      assert_equal "now", assert_raises(Stop, what) { victim.value }.message
    end
  end

  def test_a_copy_ends_when_its_time_is_over
    endless_copies.each do |what, (source, sink)|
      assert_raises(Timeout::Error, what) { Timeout.timeout(0.02) { Fid.copy(source, sink) } }
      assert_raises(Stop, what) { Timeout.timeout(0.02, Stop) { Fid.copy(source, sink) } }
      error = assert_raises(Errno::ETIMEDOUT, what) { Fid.copy(source, sink, timeout: 0.02) }
      assert_kind_of Fid::Failure, error
      assert_equal :fid, error.side, what
    end
  end

  def test_a_copy_that_was_interrupted_runs_its_ensure_blocks
    endless_copies.each do |what, (source, sink)|
      ran = false
      victim = thread do
        Fid.copy(source, sink)
      ensure
        ran = true
      end
      wait_until_it_sleeps(victim)
      victim.kill.join
      assert ran, what
    end
  end

  # A thread that is woken by nothing in particular goes on.
  def test_a_copy_goes_on_after_a_wakeup
    reader, writer = pipe
    victim = copying(reader, File::NULL)
    20.times do
      victim.wakeup
      Thread.pass
    end
    assert_predicate victim, :alive?
    writer.write "bytes"
    writer.close
    assert_equal 5, victim.value.bytes
  end

  # ---- Signals ----

  # A Ruby of its own that copies. The program says "ready" before it begins.
  def child(program)
    folders = $LOAD_PATH.flat_map { |folder| ["-I", folder] }
    IO.popen([RbConfig.ruby, *folders, "-e", <<~RUBY, { err: File::NULL }], "r+") do |io|
      require "fid"
      $stdout.sync = true
      #{program}
    RUBY
      assert_equal "ready\n", io.gets
      yield io
      # The end of its output is the end of the program, or of a hang.
      flunk "it goes on" unless IO.select([io], nil, nil, LONG)
      @rest = io.read
    end
    Process.last_status
  end

  ENDLESS = {
    "while it waits for the source" => "reader, writer = IO.pipe; Fid.copy(reader, File::NULL)",
    "while it waits for the sink" => "reader, writer = IO.pipe; Fid.copy('/dev/zero', writer)",
    "while it moves" => "Fid.copy('/dev/zero', File::NULL)",
    "in a thread" =>
      "reader, writer = IO.pipe; Thread.new { Fid.copy(reader, File::NULL) }.join",
    "in a thread that moves" => "Thread.new { Fid.copy('/dev/zero', File::NULL) }.join"
  }.freeze

  def test_a_copy_ends_with_the_program_at_an_interrupt
    ENDLESS.each do |what, program|
      status = child("puts 'ready'; #{program}") do |io|
        # Ready comes before the copy begins; a signal then ends the program as well.
        sleep 0.05
        Process.kill(:INT, io.pid)
      end
      assert_equal Signal.list["INT"], status.termsig, what
    end
  end

  def test_a_copy_ends_with_the_program_when_it_is_terminated
    ENDLESS.each do |what, program|
      status = child("puts 'ready'; #{program}") do |io|
        sleep 0.05
        Process.kill(:TERM, io.pid)
      end
      assert_equal Signal.list["TERM"], status.termsig, what
    end
  end

  def test_an_interrupt_may_be_rescued_and_the_flow_goes_on
    status = child(<<~'RUBY') do |io|
      reader, writer = IO.pipe
      flow = Fid::Flow.new(reader, $stdout)
      puts "ready"
      begin
        flow.run
      rescue Interrupt
        writer << "and on"
        writer.close
        flow.run
        exit! flow.receipt.bytes
      end
    RUBY
      sleep 0.05
      Process.kill(:INT, io.pid)
    end
    assert_equal 6, status.exitstatus
    assert_equal "and on", @rest
  end

  # The trap is what ends the wait: if it did not run meanwhile, nobody would.
  def test_a_trap_runs_while_a_copy_waits_for_its_source
    source, writer = pipe
    ran = 0
    before = trap(:USR1) do
      ran += 1
      writer.write "bytes"
      writer.close if ran == 3
    end
    main = Thread.current
    signalling = thread do
      3.times do |count|
        wait_until_it_sleeps(main)
        Process.kill(:USR1, Process.pid)
        eventually { ran == count + 1 }
      end
    end
    receipt = Fid.copy(source, File::NULL)
    signalling.join
    assert_equal 15, receipt.bytes
  ensure
    trap(:USR1, before)
  end

  def test_a_trap_runs_while_a_copy_waits_for_its_sink
    reader, sink = pipe
    got = +"".b
    before = trap(:USR1) do
      chunk = reader.read_nonblock(1 << 20, exception: false)
      got << chunk if chunk.is_a?(String)
    end
    done = false
    main = Thread.current
    signalling = thread do
      until done
        wait_until_it_sleeps(main) unless done
        Process.kill(:USR1, Process.pid) unless done
        sleep 0.001
      end
    end
    bytes = data(1 << 20)
    receipt = Fid.copy(open_file(bytes), sink)
    done = true
    signalling.join
    sink.close
    got << reader.read
    assert_equal bytes.bytesize, receipt.bytes
    assert bytes == got
  ensure
    done = true
    signalling&.join
    trap(:USR1, before)
  end

  def test_a_trap_runs_while_a_copy_moves
    before = trap(:USR1) { throw :enough }
    main = Thread.current
    signalling = thread do
      wait_until_it_sleeps(main)
      Process.kill(:USR1, Process.pid)
    end
    catch(:enough) do
      Fid.copy("/dev/zero", File::NULL)
      flunk "it came to an end"
    end
    signalling.join
  ensure
    trap(:USR1, before)
  end

  # Each of them interrupts a system call, at any place.
  def test_signals_do_not_disturb_a_copy
    bytes = data(2 << 20)
    before = trap(:USR1) {}
    done = false
    signalling = thread do
      until done
        Process.kill(:USR1, Process.pid)
        sleep 0.0002
      end
    end
    [[true, :pipe], [false, :pipe], [true, :unix], [false, :unix]].each do |nonblock, kind|
      reader, sink = kind == :pipe ? pipe : socket_pair
      sink.nonblock = nonblock
      got = reading(reader)
      receipt = Fid.copy(open_file(bytes), sink)
      sink.close
      assert_equal bytes.bytesize, receipt.bytes
      assert bytes == got.value, kind
    end
  ensure
    done = true
    signalling&.join
    trap(:USR1, before)
  end

  # ---- Closing by another thread ----

  # Without what goes by number: nobody can tell who uses a number (see Fid.copy).
  def copies_by_io
    endless_copies.reject { |what, _| what.include?("number") }
  end

  def test_a_copy_ends_when_another_thread_closes_its_source
    copies_by_io.each_key do |what|
      source, sink = endless_copies.fetch(what)
      victim = copying(source, sink, sink.stat.chardev? ? nil : TOO_MUCH)
      source.close
      assert_raises(IOError, what) { victim.value }
      assert_predicate source, :closed?
      refute_predicate sink, :closed?
    end
  end

  def test_a_copy_ends_when_another_thread_closes_its_sink
    copies_by_io.each_key do |what|
      source, sink = endless_copies.fetch(what)
      victim = copying(source, sink, sink.stat.chardev? ? nil : TOO_MUCH)
      sink.close
      assert_raises(IOError, what) { victim.value }
      assert_predicate sink, :closed?
      refute_predicate source, :closed?
    end
  end

  def test_an_echo_ends_when_another_thread_closes_its_socket
    _, server = socket_pair
    victim = copying(server, server)
    server.close
    assert_raises(IOError) { victim.value }
  end

  def test_a_copy_of_a_process_ends_when_another_thread_closes_it
    process = opened(IO.popen(["cat"], "r+b"))
    source, = pipe
    victim = copying(source, process)
    process.close
    # Ruby closes the second pipe of a process without telling who uses it.
    assert_raises(IOError, Errno::EBADF) { victim.value }
  end

  def test_copies_of_the_same_source_all_end_when_it_is_closed
    source, = pipe
    victims = Array.new(4) { copying(source, File::NULL) }
    source.close
    victims.each { |victim| assert_raises(IOError) { victim.value } }
  end

  def test_a_copy_ends_when_what_was_read_ahead_cannot_be_delivered_any_more
    source, = pipe
    source.ungetbyte("a" * 300_000)
    reader, sink = pipe
    victim = copying(source, sink)
    sink.close
    error = assert_raises(IOError) { victim.value }
    undelivered = error.is_a?(Fid::Failure) ? error.undelivered.to_s : ""
    rest = source.read_nonblock(1 << 20)
    assert_equal 300_000, reader.read.bytesize + undelivered.bytesize + rest.bytesize
  end

  # Another thread closes the sink and opens a file, which the kernel gives the same number.
  # Whatever the copy does then, it must not write to that file.
  def test_a_file_that_gets_the_number_of_a_closed_sink_is_not_written_to
    reused = 0
    60.times do |count|
      reader, sink = count.even? ? pipe : socket_pair
      source = [-> { opened(File.open("/dev/zero", "rb")) },
                -> { pipe.first.tap { |io| io.ungetbyte("a" * 100_000) } },
                -> { endless_socket }][count % 3].call
      victim = copying(source, sink, TOO_MUCH)
      sleep 0.0005 * (count % 5)
      number = sink.fileno
      at = path("innocent-#{count}")
      sink.close
      File.open(at, "wb") do |file|
        reused += 1 if file.fileno == number
        assert_raises(IOError) { victim.value }
        # A write would be here by now: the copy is over.
        assert_equal 0, File.size(at)
      end
      [source, reader].each(&:close)
    end
    assert_operator reused, :>, 30, "the number was given to another file"
  end

  # The same for the source: what another file has is no part of the stream.
  def test_a_file_that_gets_the_number_of_a_closed_source_is_not_read
    reused = 0
    secret = file("secret" * 1000)
    40.times do |count|
      source, feeder = count.even? ? pipe : socket_pair
      reader, sink = pipe
      got = reading(reader)
      victim = copying(source, sink)
      feeder.write "a" * count
      number = source.fileno
      source.close
      File.open(secret, "rb") do |file|
        reused += 1 if file.fileno == number
        assert_raises(IOError) { victim.value }
        assert_equal 0, file.pos
      end
      sink.close
      refute_includes got.value, "secret"
      feeder.close
    end
    assert_operator reused, :>, 20, "the number was given to another file"
  end

  # The two ends become known to Ruby one after the other, and the lock is given up between: the
  # second may be closed just then.
  def test_a_sink_that_is_closed_between_the_two_ends_is_not_written_to
    source = opened(File.open("/dev/zero", "rb"))
    300.times do |count|
      reader, sink = count.even? ? pipe : socket_pair
      at = path("innocent")
      victim = thread { Fid.copy(source, sink, TOO_MUCH) }
      Thread.pass until victim.stop?
      sink.close
      File.open(at, "wb") do
        assert_raises(IOError) { victim.value }
        assert_equal 0, File.size(at)
      end
      reader.close
    end
  end

  # A socket that another thread feeds as long as it is read.
  def endless_socket
    source, feeder = socket_pair
    thread { feeder.write("a" * 65_536) while true rescue nil }
    source
  end

  # Between two runs of a flow nobody is told; the IO knows.
  def test_a_flow_does_not_use_a_number_that_has_become_another_file
    _, sink = pipe
    flow = Fid::Flow.new(opened(File.open("/dev/zero", "rb")), sink, TOO_MUCH)
    assert_raises(Errno::ETIMEDOUT) { flow.run(timeout: 0.005) }
    number = sink.fileno
    at = path("innocent")
    sink.close
    File.open(at, "wb") do |file|
      assert_equal number, file.fileno
      assert_raises(IOError) { flow.run }
      assert_raises(IOError) { flow.step }
    end
    assert_equal 0, File.size(at)
    flow.close
  end

  # Who closes an IO waits until nobody uses it any more, and is not kept waiting.
  def test_closing_returns_while_a_copy_is_held_back_by_nothing
    source, = pipe
    victim = copying(source, File::NULL)
    closing = thread { source.close }
    assert closing.join(LONG), "close returned"
    assert_raises(IOError) { victim.value }
  end
end
