# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"
require_relative "scheduler"
require "json"
require "timeout"

# Fid.fan and Fid::Fan: what the sinks get, slow and dead ones, interruptions, and the account.
class FanTest < FidTest
  class Enough < StandardError
  end

  # ---- Ends ----

  # Writes all to an IO and closes it, from a thread.
  def feed(io, bytes)
    thread do
      io.write bytes
      io.close
    end
  end

  # A pipe that another thread fills with these bytes and closes.
  def fed_pipe(bytes)
    reader, writer = pipe
    feed(writer, bytes)
    reader
  end

  # A sink of each kind, and what tells, once it is over, the bytes that it was given.
  def sink_of(kind)
    if kind == :file
      at = path("sink-#{rand(1 << 60)}")
      return [opened(File.open(at, "wb")), -> { File.binread(at) }]
    end
    reader, writer = kind == :pipe ? pipe : kind == :unix ? socket_pair : tcp_pair
    got = reading(reader)
    [writer, lambda {
      writer.close
      got.value
    }]
  end

  # A sink that nobody reads from yet, and its other end.
  def idle_sink(kind = :pipe)
    reader, writer = kind == :pipe ? pipe : socket_pair
    [writer, reader]
  end

  def fan_of(source, *sinks, length: nil, **options)
    fan = opened(Fid::Fan.new(source, length, **options))
    sinks.each { |sink| fan.add(sink) }
    fan
  end

  # Nothing is lost: the account of each side adds up.
  def assert_account(receipt)
    [receipt.source, *receipt.sinks].each do |one|
      assert_equal one.bytes_in, one.bytes_out + one.bytes_held + one.bytes_salvaged, one
      assert_equal one.bytes_out, one.by_reference + one.kernel_copy + one.user_copy, one
    end
  end

  # ---- Every byte to every sink ----

  %i[file pipe unix tcp].each do |kind|
    define_method(:"test_every_sink_gets_every_byte_of_a_#{kind}") do
      bytes = data((2 << 20) + 17)
      case kind
      when :file then source = open_file(bytes)
      when :pipe then source = fed_pipe(bytes)
      else
        source, writer = kind == :unix ? socket_pair : tcp_pair
        feed(writer, bytes)
      end
      sinks = %i[pipe file unix tcp pipe].map { |one| sink_of(one) }
      receipt = Fid.fan(source, sinks.map(&:first))
      assert_empty receipt.failed
      assert_account receipt
      assert_equal bytes.bytesize, receipt.bytes
      assert_equal [bytes.bytesize] * 5, receipt.sinks.map(&:bytes)
      sinks.each_with_index { |(_, got), i| assert got.call == bytes, "sink #{i}" }
    end
  end

  def test_pipes_get_references_to_the_pages_of_a_pipe
    bytes = data(100_000)
    sinks = [sink_of(:pipe), sink_of(:pipe)]
    receipt = Fid.fan(fed_pipe(bytes), sinks.map(&:first))
    assert_predicate receipt.source, :by_reference?
    assert(receipt.sinks.all?(&:by_reference?))
    assert_equal [bytes, bytes], sinks.map { |_, got| got.call }
  end

  def test_the_block_adds_sinks
    bytes = data(10_000)
    first, first_got = sink_of(:pipe)
    second, second_got = sink_of(:file)
    numbers = []
    Fid.fan(open_file(bytes), [first]) { |fan| numbers << fan.add(second) }
    assert_equal [1], numbers
    assert_equal [bytes, bytes], [first_got.call, second_got.call]
  end

  def test_paths_are_opened_and_closed_again
    bytes = data(10_000)
    source = file(bytes)
    Fid.fan(source, [path("one"), path("two")]) # the library keeps a pipe
    before = descriptors
    receipt = Fid.fan(source, [path("one"), path("two")])
    assert_equal before, descriptors
    assert_equal bytes.bytesize, receipt.bytes
    assert_equal [bytes, bytes], [File.binread(path("one")), File.binread(path("two"))]
  end

  def test_a_path_loses_its_bytes_only_to_others
    bytes = data(10_000)
    source = file(bytes)
    kept = file("kept")
    assert_raises(ArgumentError) { Fid.fan(source, [kept], on_slow: :sleep) }
    assert_raises(ArgumentError) { Fid.fan(source, [source]) }
    [-1, Float::NAN].each do |timeout|
      assert_raises(ArgumentError) { Fid.fan(source, [kept], timeout: timeout) }
    end
    assert_raises(TypeError) { Fid.fan(source, [kept], timeout: "1") }
    assert_raises(Errno::ESPIPE) { Fid.fan(full_pipe("abc"), [kept], source_offset: 1) }
    assert_equal [bytes, "kept"], [File.binread(source), File.binread(kept)]
    assert_equal 3, Fid.fan(full_pipe("abc"), [kept]).bytes
    assert_equal "abc", File.binread(kept)
  end

  def test_numbers_are_descriptors
    bytes = data(10_000)
    sink, got = sink_of(:pipe)
    Fid.fan(open_file(bytes).fileno, [sink.fileno])
    assert_equal bytes, got.call
  end

  def test_an_empty_source_gives_nothing
    sink, got = sink_of(:pipe)
    receipt = Fid.fan(full_pipe(""), [sink])
    assert_equal 0, receipt.bytes
    assert_equal "", got.call
  end

  def test_length_ends_the_fan_and_leaves_the_rest_in_the_source
    source = full_pipe("0123456789")
    sink, got = sink_of(:pipe)
    assert_equal 4, Fid.fan(source, [sink], 4).bytes
    assert_equal 0, Fid.fan(source, [sink], 0).bytes
    assert_equal "456789", source.read
    assert_equal "0123", got.call
  end

  def test_an_offset_leaves_that_of_the_source_alone
    source = open_file("0123456789")
    source.seek(1)
    sink, got = sink_of(:pipe)
    Fid.fan(source, [sink], 3, source_offset: 5)
    Fid.fan(source, [sink], 2, source_offset: 0)
    assert_equal 1, source.pos
    assert_equal "56701", got.call
  end

  def test_the_offset_of_the_source_moves_on
    source = open_file("0123456789")
    source.seek(1)
    sink, got = sink_of(:file)
    Fid.fan(source, [sink], 3)
    assert_equal 4, source.pos
    assert_equal "123", got.call
  end

  def test_a_sink_has_an_offset_of_its_own
    one = opened(File.open(file("0123456789"), "r+b"))
    two = opened(File.open(file("0123456789"), "r+b"))
    fan = fan_of(full_pipe("abc"))
    fan.add(one, offset: 5)
    fan.add(two, offset: 0)
    fan.run
    assert_equal ["01234abc89", "abc3456789"], [one.read, two.read]
  end

  def test_stable_bytes_do_not_change_with_the_file
    bytes = data(50_000)
    name = file(bytes)
    sink, reader = idle_sink
    receipt = Fid.fan(opened(File.open(name, "rb")), [sink], stable: true)
    assert_predicate receipt.source, :stable?
    assert_predicate receipt.sinks.first, :stable?
    File.binwrite(name, "x" * bytes.bytesize)
    sink.close
    assert_equal bytes, reader.read
  end

  def test_pipes_among_the_ends_are_grown_where_that_is_allowed
    source = full_pipe("abc")
    sink, = idle_sink
    before = sink.fcntl(Fid::F_GETPIPE_SZ)
    Fid.fan(source, [sink], 1)
    assert_equal before, sink.fcntl(Fid::F_GETPIPE_SZ)
    Fid.fan(source, [sink], 1, grow_pipes: true, pipe_bytes: 2 * before)
    assert_equal 2 * before, sink.fcntl(Fid::F_GETPIPE_SZ)
  end

  # ---- Many sinks ----

  def test_more_sinks_than_are_registered_get_every_byte
    bytes = data(20_000)
    sinks = Array.new(100) { idle_sink }
    receipt = Fid.fan(full_pipe(bytes), sinks.map(&:first))
    assert_equal [20_000] * 100, receipt.sinks.map(&:bytes)
    sinks.each do |sink, reader|
      sink.close
      assert_equal bytes, reader.read
    end
  end

  def test_a_sink_beyond_the_registered_ones_may_be_closed_meanwhile
    source, writer = pipe
    sinks = Array.new(70) { idle_sink }
    fan = fan_of(source, *sinks.map(&:first))
    running = thread { fan.run }
    wait_until_it_sleeps(running)
    sinks[69].first.close
    # Whoever gets its number next is not written to.
    stranger = file("")
    other = opened(File.open(stranger, "r+b"))
    writer.write "abc"
    writer.close
    assert_equal 3, running.value.bytes
    fan.close
    assert_equal "abc", sinks[69].last.read
    assert_equal "", other.read
  end

  def test_so_many_sinks_run_in_a_fiber_and_in_a_thread
    [->(work) { Fiber.new(&work).resume }, ->(work) { thread(&work).value }].each do |within|
      sinks = Array.new(100) { idle_sink }
      assert_equal 3, within.call(-> { Fid.fan(full_pipe("abc"), sinks.map(&:first)).bytes })
    end
  end

  # ---- Ruby's own buffers ----

  def test_what_was_read_ahead_comes_first
    rest = data(300_000)
    source = fed_pipe("a line\nmore\n#{rest}".b)
    assert_equal "a line\n", source.gets
    sinks = %i[pipe file unix].map { |kind| sink_of(kind) }
    receipt = Fid.fan(source, sinks.map(&:first))
    expected = "more\n".b + rest
    assert_account receipt
    assert_equal expected.bytesize, receipt.source.bytes_in
    assert_equal expected.bytesize, receipt.bytes
    assert_operator receipt.source.user_copy, :>=, 5
    sinks.each { |_, got| assert got.call == expected }
  end

  def test_what_was_read_ahead_counts_for_the_length
    source = full_pipe("a line\n0123456789")
    source.gets
    sink, got = sink_of(:pipe)
    assert_equal 4, Fid.fan(source, [sink], 4).bytes
    assert_equal "456789", source.read
    assert_equal "0123", got.call
  end

  def test_a_length_may_begin_in_what_was_read_ahead_and_end_behind_it
    source, writer = pipe
    writer.write "a line\n01"
    source.gets
    writer.write "23456789"
    sink, got = sink_of(:pipe)
    assert_equal 6, Fid.fan(source, [sink], 6).bytes
    writer.close
    assert_equal "6789", source.read
    assert_equal "012345", got.call
  end

  def test_what_was_read_ahead_from_a_file_is_given_back_to_it
    bytes = data(50_000)
    source = open_file("a line\n".b + bytes)
    source.gets
    sink, got = sink_of(:pipe)
    Fid.fan(source, [sink], 100)
    assert_equal 107, source.pos
    assert_equal bytes[0, 100], got.call
  end

  def test_an_offset_does_not_care_about_what_was_read_ahead
    source = open_file("a line\n0123456789")
    assert_equal "a line\n", source.gets
    sink, got = sink_of(:pipe)
    Fid.fan(source, [sink], 3, source_offset: 8)
    assert_equal "0123456789", source.read
    assert_equal "123", got.call
  end

  def test_what_was_written_to_a_sink_comes_first
    sink, got = sink_of(:file)
    other, other_got = sink_of(:pipe)
    other.sync = false
    fan = fan_of(full_pipe("abc"), sink, other)
    sink.write "first "
    other.write "second "
    fan.run
    assert_equal ["first abc", "second abc"], [got.call, other_got.call]
  end

  def test_a_sink_that_spills_does_not_hold_up_what_was_read_ahead
    rest = data(400_000)
    source = fed_pipe("a line\nmore\n#{rest}".b)
    source.gets
    expected = "more\n".b + rest
    slow, slow_reader = idle_sink
    fill = slow.write_nonblock("x" * slow.fcntl(Fid::F_GETPIPE_SZ))
    fast, fast_reader = idle_sink
    fan = fan_of(source)
    fan.add(slow, on_slow: :spill)
    fan.add(fast)
    running = thread { fan.run }
    assert fast_reader.read(expected.bytesize) == expected
    assert_predicate running, :alive?
    slow_got = reading(slow_reader)
    assert_equal [expected.bytesize] * 2, running.value.sinks.map(&:bytes)
    slow.close
    assert slow_got.value == "x" * fill + expected
  end

  def test_more_may_have_been_pushed_back_than_a_pipe_holds
    bytes = data(3_000_000)
    [true, false].each do |ends|
      source, writer = pipe
      source.ungetbyte(bytes)
      feed(writer, "and more")
      sink, reader = idle_sink
      fan = fan_of(source, sink)
      running = thread { fan.run }
      wait_until_it_sleeps(running)
      if ends
        got = reading(reader)
        assert_equal bytes.bytesize + 8, running.value.bytes
        sink.close
        assert got.value == bytes + "and more"
      else
        running.kill.join
        assert_account fan.receipt
        assert_operator fan.receipt.source.bytes_held, :>, 2_000_000
        left = fan.salvage
        assert_equal fan.receipt.source.bytes_salvaged, left.bytesize
        assert_account fan.receipt
        sink.close
        assert reader.read + left + source.read == bytes + "and more"
      end
    end
  end

  def test_bytes_that_were_read_ahead_between_two_runs_are_refused_and_not_lost
    source, writer = pipe
    sink, got = sink_of(:pipe)
    fan = fan_of(source, sink)
    writer.write "abc"
    assert_raises(Errno::ETIMEDOUT) { fan.run(timeout: 0.05) }
    writer.write "a line\nrest"
    assert_equal "a line\n", source.gets
    assert_raises(IOError) { fan.run }
    assert_equal "rest", source.readpartial(10)
    writer.write "more"
    writer.close
    assert_equal 7, fan.run.bytes
    assert_equal "abcmore", got.call
  end

  def test_a_fan_that_is_closed_gives_back_what_ruby_had_read_ahead
    source, writer = pipe
    writer.write "a line\nahead"
    source.gets
    writer.write " and behind"
    one, one_reader = idle_sink
    two, = idle_sink
    two.write_nonblock("x" * two.fcntl(Fid::F_GETPIPE_SZ))
    fan = fan_of(source, one, two)
    assert_raises(Errno::ETIMEDOUT) { fan.run(timeout: 0.05) }
    assert_equal "ahead and behind", read_now(one_reader)
    assert_equal 0, fan.receipt.bytes
    fan.close
    writer.close
    assert_equal "ahead and behind", source.read
  end

  def test_a_fan_that_was_never_run_leaves_ruby_its_buffer
    source = full_pipe("a line\nahead")
    source.gets
    fan_of(source, sink_of(:pipe).first).close
    assert_equal "ahead", source.read
  end

  def test_a_fan_fed_from_rubys_buffer_cannot_go_on_after_it_was_salvaged
    source, writer = pipe
    writer.write "a line\nahead"
    source.gets
    two, = idle_sink
    two.write_nonblock("x" * two.fcntl(Fid::F_GETPIPE_SZ))
    fan = fan_of(source, sink_of(:pipe).first, two)
    assert_raises(Errno::ETIMEDOUT) { fan.run(timeout: 0.05) }
    assert_equal 5, fan.receipt.source.bytes_held
    assert_equal "ahead", fan.salvage
    assert_account fan.receipt
    assert_equal 0, fan.receipt.source.bytes_held
    assert_raises(IOError) { fan.run }
  end

  # ---- Sinks that fail ----

  def test_a_sink_that_is_dead_ends_alone
    bytes = data(300_000)
    sink, got = sink_of(:pipe)
    receipt = Fid.fan(open_file(bytes), [dead_sink, sink])
    assert_equal({ 0 => Errno::EPIPE }, receipt.failed)
    assert_equal Errno::EPIPE, receipt.sinks[0].error
    assert_nil receipt.sinks[1].error
    assert_equal bytes, got.call
  end

  def test_a_sink_that_dies_on_the_way_ends_alone
    bytes = data(2_000_000)
    sink, got = sink_of(:pipe)
    dying, reader = idle_sink
    running = thread { Fid.fan(fed_pipe(bytes), [sink, dying]) }
    taken = reader.read(1000)
    reader.close
    receipt = running.value
    assert_equal({ 1 => Errno::EPIPE }, receipt.failed)
    assert_account receipt
    assert_operator receipt.sinks[1].bytes, :>=, 1000
    assert_equal bytes[0, 1000], taken
    assert_equal bytes, got.call
  end

  def test_a_fan_whose_sinks_are_all_dead_fails_and_loses_nothing
    bytes = data(300_000)
    near, far = socket_pair
    feed(far, bytes)
    failure = assert_raises(Errno::EPIPE) { Fid.fan(near, [dead_sink, dead_sink]) }
    assert_kind_of Fid::Failure, failure
    assert_equal :sink, failure.side
    receipt = failure.receipt
    assert_instance_of Fid::Fan::Receipt, receipt
    assert_equal({ 0 => Errno::EPIPE, 1 => Errno::EPIPE }, receipt.failed)
    assert_equal 0, receipt.bytes
    rest = near.read
    assert_equal bytes.bytesize, receipt.source.bytes_in + rest.bytesize
    assert_equal bytes, failure.undelivered.to_s + rest
  end

  def test_what_ruby_had_read_ahead_is_not_lost_when_all_sinks_are_dead
    bytes = data(20_000)
    source = fed_pipe("a line\nahead".b + bytes)
    source.gets
    failure = assert_raises(Errno::EPIPE) { Fid.fan(source, [dead_sink]) }
    assert_account failure.receipt
    assert_equal "ahead".b + bytes, failure.undelivered + source.read
  end

  def test_stop_ends_the_fan_with_the_first_sink_that_fails
    sink, got = sink_of(:pipe)
    failure = assert_raises(Errno::EPIPE) do
      Fid.fan(fed_pipe(data(1_000_000)), [sink, dead_sink], stop: true)
    end
    assert_equal [1], failure.receipt.failed.keys
    assert_operator got.call.bytesize, :<, 1_000_000
  end

  def test_salvage_of_a_sink_has_what_it_was_not_given
    bytes = data(300_000)
    dying, reader = idle_sink(:socket)
    sink, got = sink_of(:pipe)
    fan = fan_of(fed_pipe(bytes), dying, sink, on_slow: :drop, stall: 0.05)
    receipt = fan.run
    assert_equal({ 0 => Errno::ETIMEDOUT }, receipt.failed)
    assert_operator receipt.sinks[0].bytes_held, :>, 0
    left = fan.salvage(0)
    assert_equal receipt.sinks[0].bytes_held, left.bytesize
    assert_nil fan.salvage(0)
    assert_equal 0, fan.receipt.sinks[0].bytes_held
    assert_account fan.receipt
    dying.close
    given = reader.read
    assert_equal receipt.sinks[0].bytes, given.bytesize
    assert bytes.start_with?(given + left)
    assert_equal bytes, got.call
  end

  def test_a_source_that_fails_has_its_sinks_served
    sink, got = sink_of(:pipe)
    near, far = tcp_pair
    far.write "abc"
    eventually("the bytes") { near.nread == 3 }
    far.setsockopt(Socket::Option.linger(true, 0))
    running = thread { Fid.fan(near, [sink]) }
    far.close
    failure = assert_raises(Errno::ECONNRESET) { running.value }
    assert_equal :source, failure.side
    assert_equal Errno::ECONNRESET, failure.receipt.source.error
    assert_equal failure.receipt.source.bytes_in, got.call.bytesize
  end

  def test_a_source_that_fails_behind_what_was_read_ahead_is_told
    sink, got = sink_of(:pipe)
    near, far = tcp_pair
    far.write "a line\nahead"
    near.gets
    far.setsockopt(Socket::Option.linger(true, 0))
    far.close
    failure = assert_raises(Errno::ECONNRESET) { Fid.fan(near, [sink]) }
    assert_equal :source, failure.side
    assert_equal Errno::ECONNRESET, failure.receipt.source.error
    assert_equal "ahead", got.call
  end

  def test_the_message_names_the_side_and_the_bytes
    failure = assert_raises(Errno::EPIPE) { Fid.fan(full_pipe("abc"), [dead_sink]) }
    assert_match(/\ABroken pipe - sink: \w+, after 0 bytes\z/, failure.message)
  end

  # ---- Slow sinks ----

  def test_by_default_all_go_at_the_pace_of_the_slowest
    bytes = data(1_000_000)
    sink, got = sink_of(:pipe)
    slow, reader = idle_sink
    running = thread { Fid.fan(fed_pipe(bytes), [sink, slow]) }
    wait_until_it_sleeps(running)
    slow_got = reading(reader)
    assert_empty running.value.failed
    slow.close
    assert_equal bytes, slow_got.value
    assert_equal bytes, got.call
  end

  def test_a_sink_that_takes_nothing_is_dropped
    bytes = data(1_000_000)
    sink, got = sink_of(:pipe)
    stuck, reader = idle_sink
    receipt = Fid.fan(fed_pipe(bytes), [sink]) do |fan|
      fan.add(stuck, on_slow: :drop, stall: 0.05)
    end
    assert_equal({ 1 => Errno::ETIMEDOUT }, receipt.failed)
    assert_equal bytes, got.call
    stuck.close
    given = reader.read
    assert_equal receipt.sinks[1].bytes, given.bytesize
    assert bytes.start_with?(given)
  end

  def test_the_fan_has_a_policy_for_sinks_without_one
    stuck, = idle_sink
    patient, reader = idle_sink
    fan = fan_of(fed_pipe(data(200_000)), stuck, on_slow: :drop, stall: 0.05)
    fan.add(patient, on_slow: :wait)
    running = thread { fan.run }
    eventually("the stuck one's end") { read_now(reader) && !running.alive? }
    assert_equal({ 0 => Errno::ETIMEDOUT }, running.value.failed)
  end

  def test_a_sink_that_falls_behind_spills
    bytes = data(3_000_000)
    fast, fast_reader = idle_sink
    slow, slow_reader = idle_sink
    fan = fan_of(fed_pipe(bytes), fast)
    fan.add(slow, on_slow: :spill)
    running = thread { fan.run }
    # It has all although the slow one takes nothing.
    assert fast_reader.read(bytes.bytesize) == bytes
    assert_predicate running, :alive?
    slow_got = reading(slow_reader)
    receipt = running.value
    assert_empty receipt.failed
    assert_account receipt
    slow.close
    assert slow_got.value == bytes
  end

  def test_a_spill_file_has_no_name_and_is_closed_with_the_fan
    folder = path("tmp").tap { |name| Dir.mkdir(name) }
    out, err, status = ruby(<<~RUBY, env: { "TMPDIR" => folder })
      require "fid"
      def open_files
        Dir.children("/proc/self/fd").filter_map do |fd|
          File.readlink("/proc/self/fd/" + fd) rescue nil
        end.grep(/\\A\#{Regexp.escape(Dir.tmpdir)}/)
      end
      reader, writer = IO.pipe
      sink = IO.pipe
      Fid::Fan.open(reader, on_slow: :spill) do |fan|
        fan.add(sink[1])
        p [open_files.size, Dir.children(Dir.tmpdir)]
      end
      p [open_files.size, Dir.children(Dir.tmpdir)]
      # The other way, for file systems without O_TMPFILE.
      fan = Fid::Fan.new(reader)
      file = fan.send(:named_file, Dir.tmpdir, File::RDWR | File::CREAT | File::EXCL)
      p [open_files.size, Dir.children(Dir.tmpdir), file.stat.mode.to_s(8), file.stat.nlink]
    RUBY
    assert status.success?, err
    assert_equal "[1, []]\n[0, []]\n[1, [], \"100600\", 0]\n", out
  end

  def test_a_sink_whose_file_is_full_is_waited_for
    bytes = data(1_000_000)
    sink, got = sink_of(:pipe)
    slow, reader = idle_sink
    fan = fan_of(fed_pipe(bytes), sink)
    fan.add(slow, on_slow: :spill, spill_bytes_max: 100_000)
    running = thread { fan.run }
    wait_until_it_sleeps(running)
    slow_got = reading(reader)
    assert_empty running.value.failed
    slow.close
    assert_equal bytes, slow_got.value
    assert_equal bytes, got.call
  end

  def test_a_sink_whose_file_is_full_is_dropped_after_its_stall
    bytes = data(1_000_000)
    sink, got = sink_of(:pipe)
    slow, reader = idle_sink
    fan = fan_of(fed_pipe(bytes), sink)
    fan.add(slow, on_slow: :spill, spill_bytes_max: 100_000, stall: 0.05)
    receipt = fan.run
    assert_equal({ 1 => Errno::ETIMEDOUT }, receipt.failed)
    left = fan.salvage(1)
    # Its file, and what was on the way into it.
    assert_includes 100_000..600_000, left.bytesize
    slow.close
    assert bytes.start_with?(reader.read + left)
    assert_equal bytes, got.call
  end

  # ---- Interruptions ----

  def test_a_time_out_leaves_the_fan_intact
    bytes = data(200_000)
    source, writer = pipe
    sink, got = sink_of(:pipe)
    fan = fan_of(source, sink)
    writer.write bytes[0, 1000]
    failure = assert_raises(Errno::ETIMEDOUT) { fan.run(timeout: 0.05) }
    assert_kind_of Fid::Failure, failure
    assert_equal 1000, failure.receipt.bytes
    assert_nil failure.undelivered
    assert_raises(Errno::ETIMEDOUT) { fan.run(timeout: 0) }
    feed(writer, bytes[1000..])
    assert_equal bytes.bytesize, fan.run(timeout: 60).bytes
    assert_equal bytes, got.call
  end

  def test_a_fan_in_one_call_gives_what_is_left_at_a_time_out
    bytes = data(500_000)
    near, far = socket_pair
    feeding = feed(far, bytes)
    stuck, reader = idle_sink
    failure = assert_raises(Errno::ETIMEDOUT) { Fid.fan(near, [stuck], timeout: 0.1) }
    assert_account failure.receipt
    given = read_now(reader)
    assert_equal failure.receipt.sinks[0].bytes, given.bytesize
    rest = near.read
    feeding.join
    assert_equal bytes, given + failure.undelivered.to_s + rest
  end

  # A fan that waits: over a source of a kind, to a sink that takes all and one that takes
  # nothing.
  def stuck_fan(kind, bytes, ahead: false)
    source, writer = kind == :pipe ? pipe : socket_pair
    feed(writer, (ahead ? "a line\n" : "").b + bytes)
    source.gets if ahead
    sink, reader = idle_sink
    stuck, stuck_reader = idle_sink(kind)
    fan = fan_of(source, sink, stuck)
    got = thread do
      read = +"".b
      read << reader.readpartial(1 << 20) while reader.wait_readable
    rescue EOFError
      read
    end
    running = thread { fan.run }
    wait_until_it_sleeps(running)
    [fan, running, { sink: sink, source: source, stuck: stuck, stuck_reader: stuck_reader,
                     got: got }]
  end

  [[:pipe, false], [:pipe, true], [:socket, false], [:socket, true]].each do |kind, ahead|
    name = "#{kind}#{"_read_ahead" if ahead}"

    define_method(:"test_an_exception_from_outside_leaves_a_fan_of_a_#{name}_intact") do
      bytes = data(700_000)
      fan, running, ends = stuck_fan(kind, bytes, ahead: ahead)
      3.times do
        running.raise(Enough)
        assert_raises(Enough) { running.value }
        assert_account fan.receipt
        running = thread { fan.run }
        wait_until_it_sleeps(running)
      end
      stuck_got = reading(ends[:stuck_reader])
      receipt = running.value
      assert_empty receipt.failed
      assert_equal bytes.bytesize, receipt.bytes
      [:sink, :stuck].each { |end_| ends[end_].close }
      assert_equal bytes, stuck_got.value
      assert_equal bytes, ends[:got].value
    end

    define_method(:"test_an_interrupted_fan_of_a_#{name}_is_salvaged_without_loss") do
      bytes = data(700_000)
      fan, running, ends = stuck_fan(kind, bytes, ahead: ahead)
      running.raise(Enough)
      assert_raises(Enough) { running.value }
      receipt = fan.receipt
      assert_account receipt
      left = fan.salvage.to_s
      assert_equal receipt.source.bytes_held, left.bytesize
      rest = ends[:source].read
      assert_equal bytes.bytesize, receipt.source.bytes_in + rest.bytesize
      # What nobody has beyond those bytes that every sink was given.
      assert_equal bytes[receipt.bytes..], left + rest
      2.times do |i|
        ends[%i[sink stuck][i]].close
        given = i.zero? ? ends[:got].value : ends[:stuck_reader].read
        assert_equal receipt.sinks[i].bytes, given.bytesize
        assert_equal bytes[0, receipt.sinks[i].bytes_in], given + fan.salvage(i).to_s
        assert_operator receipt.sinks[i].bytes_in, :>=, receipt.bytes
      end
    end

    define_method(:"test_closing_an_end_of_a_#{name}_in_another_thread_ends_the_run") do
      %i[source sink stuck].each do |closed|
        bytes = data(700_000)
        fan, running, ends = stuck_fan(kind, bytes, ahead: ahead)
        ends[closed].close
        assert_raises(IOError) { running.value }
        receipt = fan.receipt
        assert_account receipt
        assert_raises(IOError) { fan.run }
        left = fan.salvage.to_s
        assert_equal receipt.source.bytes_held, left.bytesize
        assert_equal bytes[receipt.bytes, left.bytesize], left
        next if closed == :source

        assert_equal bytes[receipt.bytes..], left + ends[:source].read
        fan.close
      end
    end
  end

  def test_a_fan_that_never_waits_is_interrupted
    zero = opened(File.open("/dev/zero", "rb"))
    null = opened(File.open("/dev/null", "wb"))
    fan = fan_of(zero, null)
    assert_raises(Errno::ETIMEDOUT) { fan.run(timeout: 0.05) }
    running = thread { fan.run }
    Thread.pass until fan.closed? || running.stop?
    running.raise(Enough)
    assert_raises(Enough) { running.value }
    assert_account fan.receipt
    assert_operator fan.receipt.bytes, :>, 0
  end

  def test_a_source_that_always_seems_ready_is_not_asked_without_end
    near, far = tcp_pair
    # What the kernel tells about the sending stays in the socket's error queue.
    near.setsockopt(:SOCKET, 37, 2 | 16) # SO_TIMESTAMPING of software, when it is sent
    near.write "x"
    eventually("the time stamp") { IO.select([near], nil, [near], 0)&.flatten&.any? }
    assert_raises(IO::EAGAINWaitReadable) { near.read_nonblock(1) }
    sink, got = sink_of(:pipe)
    fan = fan_of(near, sink)
    assert_raises(Errno::ETIMEDOUT) { fan.run(timeout: 0.5) }
    assert_operator fan.receipt.source.waits, :<, 200
    assert_equal "x", far.read(1)
    far.write "abc"
    far.close
    assert_equal 3, fan.run.bytes
    assert_equal "abc", got.call
  end

  def test_a_fan_goes_on_while_interrupts_are_put_off
    source, writer = pipe
    sink, got = sink_of(:pipe)
    receipt = nil
    running = thread do
      Thread.handle_interrupt(Enough => :never) { receipt = Fid.fan(source, [sink]) }
    end
    wait_until_it_sleeps(running)
    running.raise(Enough)
    feed(writer, "abc")
    assert_raises(Enough) { running.value }
    assert_equal 3, receipt.bytes
    assert_equal "abc", got.call
  end

  def test_timeout_interrupts_a_fan
    fan, running, = stuck_fan(:pipe, data(300_000))
    running.kill.join
    assert_raises(Timeout::Error) { Timeout.timeout(0.05) { fan.run } }
    assert_account fan.receipt
  end

  def test_a_thrown_time_out_around_a_fan_in_one_call_loses_nothing
    [false, true].each do |ahead|
      bytes = data(700_000)
      near, far = socket_pair
      feeding = feed(far, (ahead ? "a line\n" : "").b + bytes)
      near.gets if ahead
      stuck, reader = idle_sink
      assert_raises(Timeout::Error) { Timeout.timeout(0.1) { Fid.fan(near, [stuck]) } }
      given = read_now(reader)
      assert_equal bytes, given + near.read
      feeding.join
    end
  end

  def test_an_exception_takes_along_what_the_fan_held
    bytes = data(700_000)
    near, far = socket_pair
    feeding = feed(far, bytes)
    stuck, reader = idle_sink
    running = thread { Fid.fan(near, [stuck]) }
    wait_until_it_sleeps(running)
    running.raise(Enough)
    error = assert_raises(Enough) { running.value }
    given = read_now(reader)
    rest = near.read
    feeding.join
    left = error.is_a?(Fid::Failure) ? error.undelivered : ""
    assert_equal bytes, given + left + rest
    assert_instance_of(Fid::Fan::Receipt, error.receipt) if error.is_a?(Fid::Failure)
  end

  def test_a_killed_thread_leaves_the_fan_intact
    bytes = data(300_000)
    fan, running, ends = stuck_fan(:pipe, bytes)
    running.kill
    running.join
    stuck_got = reading(ends[:stuck_reader])
    assert_empty fan.run.failed
    ends[:stuck].close
    assert_equal bytes, stuck_got.value
  end

  def test_a_signal_is_handled_while_the_fan_waits
    in_child do
      source, writer = IO.pipe
      reader, sink = IO.pipe
      handled = false
      trap(:USR1) do
        handled = true
        writer.close
      end
      main = Thread.current
      Thread.new do
        sleep 0.01 until main.stop?
        Process.kill(:USR1, Process.pid)
      end
      writer.write "abc"
      receipt = Fid.fan(source, [sink])
      raise "not handled" unless handled
      raise receipt.inspect unless receipt.bytes == 3 && reader.readpartial(9) == "abc"
    end
  end

  def test_a_fan_is_used_by_one_thread_at_a_time
    fan, running, = stuck_fan(:pipe, data(300_000))
    %i[run receipt salvage close].each do |call|
      assert_raises(ThreadError, call) { fan.public_send(call) }
    end
    assert_raises(ThreadError) { fan.add(sink_of(:pipe).first) }
    running.kill.join
    fan.receipt
  end

  # ---- Fibers, processes, Ractors, the garbage collector ----

  def test_under_a_scheduler_other_fibers_run
    bytes = data(300_000)
    source, writer = pipe
    reader, sink = pipe
    receipt = got = nil
    Scheduler.run do
      Fiber.schedule do
        receipt = Fid.fan(source, [sink])
        sink.close
      end
      Fiber.schedule { got = reader.read.b }
      Fiber.schedule do
        writer.write bytes
        writer.close
      end
    end
    assert_equal bytes.bytesize, receipt.bytes
    assert_equal bytes, got
  end

  def test_the_thread_of_an_interrupted_fiber_ends
    source, = pipe
    sink, got = sink_of(:pipe)
    fan = fan_of(source, sink)
    before = Thread.list.size
    within = nil
    assert_raises(Enough) do
      Scheduler.run do
        fiber = Fiber.schedule { fan.run }
        Fiber.schedule do
          sleep 0.05
          within = Thread.list.size
          fiber.raise(Enough)
        end
      end
    end
    assert_operator within, :>=, before + 2 # the scheduler's, and the fan's
    eventually("the end of the threads") { Thread.list.size <= before }
    assert_account fan.receipt
    fan.close
    assert_equal "", got.call
  end

  def test_a_failure_in_a_fiber_is_the_same
    failure = assert_raises(Errno::EPIPE) do
      Scheduler.run { Fid.fan(full_pipe("abc"), [dead_sink]) }
    end
    assert_instance_of Fid::Fan::Receipt, failure.receipt
  end

  def test_a_child_leaves_the_fan_to_its_parent
    bytes = data(500_000)
    fan, running, ends = stuck_fan(:socket, bytes)
    running.kill.join
    in_child do
      %i[run receipt salvage].each do |call|
        fan.public_send(call)
        raise "#{call} works in a child"
      rescue IOError
        nil
      end
      fan.close
      GC.start
    end
    stuck_got = reading(ends[:stuck_reader])
    assert_equal bytes.bytesize, fan.run.bytes
    ends[:stuck].close
    assert_equal bytes, stuck_got.value
  end

  # A child that lives until the block is over; what it does first is the argument.
  def with_a_child(at_first = -> {})
    alive, alive_writer = pipe
    ready, ready_writer = pipe
    pid = fork do
      alive_writer.close
      at_first.call
      ready_writer.write "."
      alive.read
    ensure
      exit!
    end
    ready.read(1)
    yield
  ensure
    alive_writer.close
    Process.wait(pid)
  end

  def test_a_child_does_not_keep_a_fan_from_its_end
    source, writer = pipe
    writer.write "a line\nahead"
    source.gets
    sink, got = sink_of(:pipe)
    fan = fan_of(source, sink)
    running = thread { fan.run }
    wait_until_it_sleeps(running)
    with_a_child(-> { [writer, sink, source].each(&:close) }) do
      writer.close
      assert_equal 5, running.value.bytes
      assert_equal "ahead", got.call
    end
  end

  def test_a_child_does_not_keep_the_duplicate_of_a_sink
    sinks = Array.new(70) { idle_sink }
    fan = fan_of(full_pipe("abc"), *sinks.map(&:first))
    with_a_child(-> { sinks.flatten.each(&:close) }) do
      fan.run
      fan.close
      sinks.each do |sink, reader|
        sink.close
        assert_equal "abc", reader.read
      end
    end
  end

  def test_a_child_of_a_running_fan_comes_to_its_end
    fan, running, = stuck_fan(:pipe, data(300_000), ahead: true)
    in_child do
      assert_raises(IOError) { fan.run }
      assert_raises(IOError) { fan.receipt }
      fan.close
      assert_predicate fan, :closed?
      assert_raises(IOError) { fan.run }
      GC.start
    end
    assert_predicate running, :alive?
    running.kill.join
    assert_account fan.receipt
  end

  def test_a_child_has_fans_of_its_own
    bytes = data(300_000)
    Fid.fan(open_file(bytes), [sink_of(:pipe).first])
    in_child do
      sink, got = sink_of(:pipe)
      Fid.fan(open_file(bytes), [sink])
      raise "other bytes" unless got.call == bytes
    end
  end

  def test_fans_run_in_ractors
    source = file(bytes = data(300_000))
    out, err, status = ruby(<<~RUBY, source, path("one"), path("two"), path("three"))
      Warning[:experimental] = false
      require "fid"
      receipts = 2.times.map do |i|
        Ractor.new(*ARGV.map(&:freeze), i) do |source, one, two, three, i|
          Fid.fan(source, [i.zero? ? one : two, three + i.to_s], on_slow: :spill)
        end
      end.map(&:take)
      print receipts.map { |one| [one.bytes, one.sinks.size, Ractor.shareable?(one)] }
    RUBY
    assert status.success?, err
    assert_equal [[bytes.bytesize, 2, true]] * 2, eval(out)
    assert_equal [bytes, bytes], [File.binread(path("one")), File.binread(path("two"))]
  end

  def test_fans_hold_under_stress_of_the_garbage_collector
    in_child do
      GC.stress = true
      source, writer = IO.pipe
      one = IO.pipe
      two = IO.pipe
      writer.write "a line\nahead"
      source.gets
      Fid::Fan.open(source, 5, on_slow: :spill) do |fan|
        fan.add(one[1])
        fan.add(two[1])
        GC.compact
        receipt = fan.run
        GC.compact
        raise receipt.inspect unless receipt.bytes == 5 && receipt.failed == {}
      end
      begin
        Fid.fan(source, [])
      rescue ArgumentError
        nil
      end
      GC.stress = false
      got = [one, two].map { |reader, _| reader.readpartial(99) }
      raise got.inspect unless got == %w[ahead ahead]
    end
  end

  def test_a_fan_keeps_its_ends_alive
    out, err, status = ruby(<<~RUBY)
      require "fid"
      def fan(keep)
        source, writer = IO.pipe
        writer.write "abc"
        writer.close
        keep << (sink = IO.pipe)[0]
        Fid::Fan.new(source).tap { |fan| fan.add(sink[1]) }
      end
      keep = []
      fans = Array.new(20) { fan(keep) }
      10.times { GC.start }
      fans.each(&:run)
      print keep.map { |reader| reader.readpartial(9) }.uniq
    RUBY
    assert status.success?, err
    assert_equal '["abc"]', out
  end

  def test_a_fan_that_is_forgotten_closes_its_descriptors
    in_child do
      before = descriptors
      source, writer = IO.pipe
      sinks = Array.new(100) { IO.pipe }
      thread do
        fan = Fid::Fan.new(source, on_slow: :spill)
        sinks.each { |_, sink| fan.add(sink) }
      end.join
      GC.start
      # A reference may still be on a stack; a second fan writes over it.
      thread { Fid::Fan.new(source) }.join
      GC.start
      [source, writer, *sinks.flatten].each(&:close)
      raise (descriptors - before).inspect unless (descriptors - before).empty?
    end
  end

  def test_fans_leave_no_descriptors
    Fid.fan(full_pipe("abc"), [sink_of(:pipe).first])
    source = open_file(data(300_000))
    socket, = socket_pair
    sinks = [sink_of(:pipe).first, sink_of(:file).first, dead_sink, sink_of(:unix).first]
    before = descriptors
    receipt = Fid.fan(source, sinks, on_slow: :spill)
    assert_equal [2], receipt.failed.keys
    assert_raises(ArgumentError) { Fid.fan(source, []) }
    assert_raises(ArgumentError) { Fid.fan(source, sinks, on_slow: :sleep) }
    assert_raises(Errno::ESPIPE) do
      Fid.fan(source, []) { |fan| fan.add(sinks[0], offset: 1, on_slow: :spill) }
    end
    assert_raises(Errno::ETIMEDOUT) { Fid.fan(socket, sinks, timeout: 0, on_slow: :spill) }
    # Empty pipes that the library keeps for later are few.
    assert_operator (descriptors - before).size, :<=, 32
    20.times { Fid.fan(source, sinks, 1000, source_offset: 0, on_slow: :spill) }
    after = descriptors
    20.times { Fid.fan(source, sinks, 1000, source_offset: 0, on_slow: :spill) }
    assert_equal after, descriptors
  end

  # ---- The account ----

  def test_receipts_are_frozen_and_shareable
    receipt = Fid.fan(full_pipe("abc"), [sink_of(:pipe).first, dead_sink])
    [receipt, receipt.source, receipt.sinks, receipt.failed].each do |one|
      assert_predicate one, :frozen?
    end
    assert Ractor.shareable?(receipt)
  end

  def test_a_receipt_tells_all_in_every_form
    receipt = Fid.fan(full_pipe("abc"), [sink_of(:pipe).first, dead_sink])
    assert_equal({ 1 => Errno::EPIPE }, receipt.failed)
    json = JSON.parse(receipt.to_json)
    assert_equal json, JSON.parse(JSON.generate([receipt])).first
    assert_equal JSON.parse(receipt.source.to_json), json["source"]
    assert_equal receipt.sinks.map { |sink| JSON.parse(sink.to_json) }, json["sinks"]
    assert_equal({ source: receipt.source.to_h, sinks: receipt.sinks.map(&:to_h),
                   failed: receipt.failed }, receipt.to_h)
    assert_equal ["source: #{receipt.source}", "sink 0: #{receipt.sinks[0]}",
                  "sink 1: #{receipt.sinks[1]}"], receipt.to_s.lines(chomp: true)
    assert_equal "#<Fid::Fan::Receipt 3 bytes to 2 sinks, failed: {1=>Errno::EPIPE}>",
                 receipt.inspect.gsub(" => ", "=>")
  end

  def test_receipts_compare_by_their_accounts
    fan = fan_of(full_pipe("abc"), sink_of(:pipe).first)
    early = fan.receipt
    receipt = fan.run
    assert_equal receipt, fan.receipt
    assert_equal receipt.hash, fan.receipt.hash
    assert receipt.eql?(fan.receipt)
    refute_equal early, receipt
    refute_equal receipt, 3
  end

  def test_a_fan_that_is_over_says_the_same_again
    fan = fan_of(full_pipe("abc"), sink_of(:pipe).first)
    assert_equal fan.run, fan.run
    fan = fan_of(full_pipe("abc"), dead_sink)
    2.times { assert_raises(Errno::EPIPE) { fan.run } }
  end

  # ---- Arguments ----

  def test_a_fan_needs_a_sink
    fan = fan_of(full_pipe("abc"))
    assert_raises(ArgumentError) { fan.run }
    fan.add(sink_of(:pipe).first)
    assert_equal 3, fan.run.bytes
  end

  def test_a_sink_is_added_before_the_run
    fan = fan_of(full_pipe("abc"), sink_of(:pipe).first)
    fan.run
    assert_raises(RuntimeError) { fan.add(sink_of(:pipe).first) }
  end

  def test_arguments_that_mean_nothing_are_refused
    fan = fan_of(full_pipe("abc"))
    sink, = sink_of(:pipe)
    assert_raises(ArgumentError) { fan.add(sink, on_slow: :sleep) }
    assert_raises(ArgumentError) { fan.add(sink, on_slow: :drop, stall: 0) }
    assert_raises(ArgumentError) { fan.add(sink, on_slow: :drop, stall: -1) }
    assert_raises(TypeError) { fan.add(sink, on_slow: :drop, stall: "x") }
    assert_raises(ArgumentError) { fan.add(opened(File.open(path("x"), "wb")), offset: -1) }
    assert_raises(ArgumentError) { fan.run(timeout: -1) }
    assert_raises(TypeError) { fan.add(Object.new) }
    assert_raises(TypeError) { Fid.fan(full_pipe("abc"), sink) }
    assert_raises(ArgumentError) { Fid::Fan.new(full_pipe(""), -1) }
    assert_raises(ArgumentError) { Fid::Fan.new(full_pipe(""), pipe_bytes: -1) }
    assert_raises(TypeError) { Fid::Fan.new(Object.new) }
    assert_raises(IndexError) { fan.salvage(0) }
    fan.add(sink)
    assert_raises(IndexError) { fan.salvage(1) }
    assert_raises(IndexError) { fan.salvage(-1) }
  end

  def test_a_stall_may_be_shorter_than_a_millisecond_and_longer_than_a_life
    fan = fan_of(fed_pipe(data(200_000)), sink_of(:pipe).first)
    fan.add(idle_sink.first, on_slow: :drop, stall: 0.8)
    fan.add(idle_sink.first, on_slow: :drop, stall: 1e-9)
    fan.add(sink_of(:pipe).first, on_slow: :drop, stall: 1e20)
    while fan.receipt.failed.empty?
      assert_raises(Errno::ETIMEDOUT) { fan.run(timeout: 0.02) }
    end
    assert_equal [2], fan.receipt.failed.keys
  end

  def test_ends_of_the_wrong_direction_are_refused
    reader, writer = pipe
    assert_raises(IOError) { Fid::Fan.new(writer) }
    assert_raises(Errno::EBADF) { Fid::Fan.new(writer.fileno) }
    fan = fan_of(reader)
    assert_raises(IOError) { fan.add(reader) }
    assert_raises(Errno::EBADF) { fan.add(reader.fileno) }
    assert_raises(Errno::EINVAL) { fan.add(writer) } # the source itself
    assert_raises(Errno::ESPIPE) { Fid::Fan.new(reader, source_offset: 0) }
  end

  def test_what_is_closed_is_an_io_error
    reader, writer = pipe
    fan = fan_of(reader, sink_of(:pipe).first)
    fan.close
    fan.close
    assert_predicate fan, :closed?
    assert_raises(IOError) { fan.run }
    assert_raises(IOError) { fan.receipt }
    assert_raises(IOError) { fan.salvage }
    assert_raises(IOError) { fan.add(writer) }
    writer.close
    assert_raises(IOError) { fan_of(full_pipe("")).add(writer) }
    assert_raises(IOError) { Fid::Fan.new(writer) }
    reader.close
    fan = fan_of(source = full_pipe("abc"), sink_of(:pipe).first)
    source.close
    assert_raises(IOError) { fan.run }
  end

  def test_open_closes_the_fan_when_the_block_is_over
    kept = nil
    assert_equal 3, Fid::Fan.open(full_pipe("abc")) { |fan|
      kept = fan
      fan.add(sink_of(:pipe).first)
      fan.run.bytes
    }
    assert_predicate kept, :closed?
    assert_raises(Enough) do
      Fid::Fan.open(full_pipe("abc")) { |fan| (kept = fan) && raise(Enough) }
    end
    assert_predicate kept, :closed?
    refute_predicate opened(Fid::Fan.open(full_pipe("abc"))), :closed?
  end

  # An argument whose conversion does something else first.
  def number(value, method, &first)
    Class.new(Numeric) do
      define_method(method) do
        first.call
        value
      end
    end.new
  end

  def test_arguments_that_close_the_fan_are_an_io_error
    fan = fan_of(full_pipe("abc"), sink_of(:pipe).first)
    assert_raises(IOError) { fan.run(timeout: number(1.0, :to_f) { fan.close }) }
    fan = fan_of(full_pipe("abc"), sink_of(:pipe).first)
    assert_raises(IOError) { fan.salvage(number(0, :to_int) { fan.close }) }
    fan = fan_of(full_pipe("abc"))
    assert_raises(IOError) do
      fan.add(sink_of(:pipe).first, on_slow: :drop, stall: number(1.0, :to_f) { fan.close })
    end
  end

  def test_a_sink_whose_conversion_has_the_fan_run_is_refused
    source, writer = pipe
    fan = fan_of(source)
    4.times { fan.add(sink_of(:pipe).first) }
    running = nil
    late = Object.new
    sink, = sink_of(:pipe)
    test = self
    late.define_singleton_method(:to_io) do
      running = test.thread { fan.run }
      test.wait_until_it_sleeps(running)
      sink
    end
    assert_raises(ThreadError) { fan.add(late) }
    writer.write "abc"
    writer.close
    assert_equal 3, running.value.bytes
    assert_equal 4, fan.receipt.sinks.size
  end

  def test_a_fan_is_made_once_and_not_copied
    fan = fan_of(full_pipe("abc"))
    assert_raises(RuntimeError) { fan.send(:initialize, full_pipe("abc")) }
    assert_raises(NoMethodError, TypeError) { fan.dup }
  end

  def test_at_most_1024_sinks_are_taken
    fan = fan_of(full_pipe("abc"))
    null = opened(File.open("/dev/null", "wb")).fileno
    1024.times { |i| assert_equal i, fan.add(null) }
    assert_raises(Errno::ENOSPC) { fan.add(null) }
    # poll takes no more descriptors than a process may have.
    assert_equal 3, fan.run.bytes
  end

  def test_what_was_taken_for_one_sink_goes_along_with_an_exception
    bytes = data(600_000)
    one, other = socket_pair
    pipe_reader, sink = pipe
    reading = reading(pipe_reader)
    error = assert_raises(Errno::ETIMEDOUT) do
      Fid.fan(open_file(bytes), [sink, other], timeout: 0.3)
    end
    sink.close
    other.close
    held = error.receipt.sinks[1].bytes_held
    assert_operator held, :>, 0, "the socket took it all, and nothing was tried"
    assert_equal [1], error.undelivered_to.keys
    assert_equal held, error.undelivered_to[1].bytesize
    left = error.undelivered.to_s
    assert bytes.start_with?(one.read + error.undelivered_to[1])
    first = reading.value
    assert bytes.start_with?(first)
    assert_operator error.receipt.source.bytes + left.bytesize, :>=, first.bytesize
  end
end
