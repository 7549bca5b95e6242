# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"
require_relative "scheduler"
require "timeout"

# Fid::Memory and its constants: every byte, who may change it, interruptions, and the account.
class MemoryTest < FidTest
  MODES = %i[copy fresh].freeze

  class Enough < StandardError
  end

  # ---- Helpers ----

  def memory_of(sink, **options)
    opened(Fid::Memory.new(sink, **options))
  end

  def constant(*strings)
    opened(Fid::Memory.constant(*strings))
  end

  # A sink, and what tells the bytes that it was given when it is closed.
  def sink_of(kind)
    if kind == :file
      at = path("sink-#{rand(1 << 60)}")
      return [opened(File.open(at, "wb")), -> { File.binread(at) }]
    end
    reader, writer = kind == :unix ? socket_pair : pipe(nonblock: kind == :pipe)
    got = reading(reader)
    [writer, lambda {
      writer.close
      got.value
    }]
  end

  def assert_account(receipt)
    assert_equal receipt.bytes_in,
                 receipt.bytes_out + receipt.bytes_held + receipt.bytes_salvaged, receipt
    assert_equal receipt.bytes_out,
                 receipt.by_reference + receipt.kernel_copy + receipt.user_copy, receipt
  end

  # ---- Strings ----

  MODES.product(%i[pipe blocking_pipe unix file]).each do |mode, kind|
    define_method(:"test_#{mode}_carries_every_byte_into_a_#{kind}") do
      bytes = data(5_000_001)
      sink, got = sink_of(kind)
      memory = memory_of(sink, mode: mode)
      assert_equal 10, memory.write(bytes[0, 3], bytes[3, 7])
      assert_equal 4_000_000, memory.write(bytes[10, 4_000_000])
      assert_same memory, memory << bytes[4_000_010, 20_000]
      at = 4_020_010
      while at < bytes.bytesize
        assert_equal [4096, bytes.bytesize - at].min, memory.write(bytes[at, 4096])
        at += 4096
      end
      receipt = memory.receipt
      assert_account receipt
      assert_equal bytes.bytesize, receipt.bytes
      assert got.call == bytes
    end
  end

  def test_all_is_delivered_when_write_returns
    MODES.each do |mode|
      reader, writer = pipe
      memory = memory_of(writer, mode: mode)
      memory.write("abc", "def")
      assert_equal "abcdef", reader.read_nonblock(10)
      assert_equal 0, memory.receipt.bytes_held
    end
  end

  def test_what_is_written_becomes_a_string_as_with_io_write
    sink, got = sink_of(:pipe)
    memory = memory_of(sink)
    assert_equal 9, memory.write(:abc, 12, nil, "ü€".encode("UTF-16LE"))
    assert_equal 0, memory.write
    assert_equal 0, memory.write("")
    memory << 3.5
    assert_equal "abc12".b + "ü€".encode("UTF-16LE").b + "3.5", got.call.b
  end

  def test_a_string_that_changes_meanwhile_was_sent_as_it_was
    MODES.each do |mode|
      reader, writer = pipe
      string = +"a" * 3_000_000
      memory = memory_of(writer, mode: mode)
      writing = thread { memory.write(string) }
      wait_until_it_sleeps(writing)
      string.replace("b" * 3_000_000)
      got = reading(reader)
      assert_equal 3_000_000, writing.value
      writer.close
      assert_equal 3_000_000, got.value.count("a")
    end
  end

  def test_what_was_sent_by_reference_never_changes
    reader, writer = pipe
    reader.fcntl(Fid::F_SETPIPE_SZ, 1 << 20)
    memory = memory_of(writer, mode: :fresh)
    expected = +"".b
    got = +"".b
    # Several slabs of 2 MiB, while the reader is always a pipe behind.
    200.times do |i|
      record = ((i % 251).chr * 65_536).b
      expected << record
      got << reader.readpartial(65_536) while expected.bytesize - got.bytesize > 1_000_000
      memory.write(record)
    end
    writer.close
    got << reader.read
    assert got == expected
  end

  def test_the_receipt_says_by_which_way_and_why
    sink, = sink_of(:file)
    memory = memory_of(sink, mode: :fresh)
    memory.write data(100_000)
    assert_equal 100_000, memory.receipt.user_copy
    assert_match(/only a pipe/, memory.receipt.reason)
    sink, = sink_of(:pipe)
    memory = memory_of(sink, mode: :fresh)
    memory.write data(100_000)
    receipt = memory.receipt
    if receipt.by_reference.positive?
      assert_operator receipt.by_method[:vmsplice], :>=, receipt.by_reference
    else
      assert_equal 100_000, receipt.user_copy
      assert_match(/\Aa copy, /, receipt.reason)
    end
  end

  def test_what_a_program_wrote_itself_comes_first
    sink, got = sink_of(:file)
    memory = memory_of(sink)
    sink.write "first "
    memory.write "second "
    sink.write "third "
    memory.fill(1) { |buffer| buffer.set_string("4") }
    assert_equal "first second third 4", got.call
  end

  # ---- Filling ----

  def test_fill_sends_what_the_block_says
    MODES.each do |mode|
      sink, got = sink_of(:pipe)
      memory = memory_of(sink, mode: mode)
      bytes = data(Fid::Memory::FILL_BYTES_MAX)
      assert_equal 3, memory.fill(10) { |buffer| buffer.set_string("abcdef") && 3 }
      assert_equal 0, memory.fill(10) { 0 }
      filled = 30.times.map do
        memory.fill(bytes.bytesize) do |buffer|
          assert_operator buffer.size, :>=, bytes.bytesize
          buffer.set_string(bytes)
        end
      end
      assert_equal [bytes.bytesize] * 30, filled
      assert_equal 30 * bytes.bytesize + 3, memory.receipt.bytes
      assert got.call == "abc".b + bytes * 30
    end
  end

  def test_fill_and_write_keep_their_order
    sink, got = sink_of(:pipe)
    memory = memory_of(sink, mode: :fresh)
    memory.write "a"
    memory.fill(1) { |buffer| buffer.set_string("b") }
    memory << "c"
    assert_equal "abc", got.call
  end

  def test_a_buffer_and_its_slices_are_of_no_use_after_the_block
    memory = memory_of(sink_of(:pipe).first, mode: :fresh)
    kept = slice = nil
    memory.fill(100) do |buffer|
      kept = buffer
      slice = buffer.slice(0, 10)
      10
    end
    assert_predicate kept, :null?
    assert_raises(IO::Buffer::InvalidatedError, IO::Buffer::AllocationError) do
      slice.set_string("x")
    end
    assert_raises(IO::Buffer::AllocationError, ArgumentError) { kept.set_string("x") }
  end

  def test_a_block_that_raises_breaks_or_throws_sends_nothing
    reader, writer = pipe
    memory = memory_of(writer)
    kept = []
    assert_raises(Enough) { memory.fill(9) { |buffer| (kept << buffer) && raise(Enough) } }
    assert_equal 5, (memory.fill(9) { |buffer| (kept << buffer) && (break 5) })
    thrown = catch(:out) { memory.fill(9) { |buffer| (kept << buffer) && throw(:out, 7) } }
    assert_equal 7, thrown
    assert(kept.all?(&:null?))
    assert_equal 3, memory.write("abc")
    assert_equal "abc", reader.read_nonblock(99)
    assert_equal 3, memory.receipt.bytes_in
  end

  def test_what_the_block_returns_is_checked
    reader, writer = pipe
    memory = memory_of(writer)
    room = nil
    assert_raises(ArgumentError) { memory.fill(9) { |buffer| (room = buffer.size) + 1 } }
    assert_raises(TypeError) { memory.fill(9) { nil } }
    assert_raises(RangeError, ArgumentError) { memory.fill(9) { -1 } }
    assert_raises(TypeError) { memory.fill(9) { "3" } }
    assert_operator room, :>=, 9
    assert_raises(IO::EAGAINWaitReadable) { reader.read_nonblock(1) }
    assert_equal 0, memory.receipt.bytes_in
  end

  def test_how_much_room_fill_is_asked_for_is_checked
    memory = memory_of(sink_of(:pipe).first)
    assert_raises(ArgumentError) { memory.fill(Fid::Memory::FILL_BYTES_MAX + 1) { 0 } }
    assert_raises(ArgumentError) { memory.fill(-1) { 0 } }
    assert_raises(ArgumentError) { memory.fill(nil) { 0 } }
    assert_raises(TypeError) { memory.fill("x") { 0 } }
    assert_raises(LocalJumpError) { memory.fill(1) }
    assert_equal 0, memory.fill(0) { 0 }
  end

  def test_a_buffer_that_was_transferred_or_freed_closes_the_memory
    [:transfer, :free].each do |call|
      reader, writer = pipe
      memory = memory_of(writer, mode: :fresh)
      kept = nil
      assert_raises(IOError) do
        memory.fill(9) { |buffer| (kept = buffer.public_send(call)) && 9 }
      end
      assert_predicate memory, :closed?
      # The memory behind it is still there.
      kept.set_string("x" * kept.size) if call == :transfer
      assert_raises(IOError) { memory.write("abc") }
      assert_raises(IO::EAGAINWaitReadable) { reader.read_nonblock(1) }
    end
  end

  def test_a_buffer_that_stays_locked_closes_the_memory
    reader, writer = pipe
    memory = memory_of(writer, mode: :fresh)
    locking = nil
    assert_raises(IO::Buffer::LockedError) do
      memory.fill(9) do |buffer|
        locking = Fiber.new do
          buffer.locked { Fiber.yield }
          buffer.set_string("still there")
        end
        locking.resume
        9
      end
    end
    assert_predicate memory, :closed?
    locking.resume
    assert_raises(IO::EAGAINWaitReadable) { reader.read_nonblock(1) }
  end

  def test_no_warning_says_that_buffers_are_experimental
    out, err, status = ruby(<<~RUBY)
      $VERBOSE = true
      Warning[:experimental] = true
      require "fid"
      reader, writer = IO.pipe
      Fid::Memory.new(writer).fill(3) { |buffer| buffer.set_string("abc") }
      print reader.readpartial(9)
    RUBY
    assert status.success?, err
    assert_equal ["abc", ""], [out, err]
  end

  # ---- Failures ----

  def test_a_dead_sink_gives_back_what_was_not_delivered
    MODES.each do |mode|
      memory = memory_of(dead_sink, mode: mode)
      failure = assert_raises(Errno::EPIPE) { memory.write("abc", "def") }
      assert_kind_of Fid::Failure, failure
      assert_equal :sink, failure.side
      assert_equal "abcdef", failure.undelivered
      assert_equal 6, failure.receipt.bytes_salvaged
      assert_account failure.receipt
      assert_raises(Errno::EPIPE) { memory.write("more") }
      assert_raises(Errno::EPIPE) { memory.fill(3) { 3 } }
      assert_nil memory.salvage
    end
  end

  def test_a_sink_that_dies_on_the_way_loses_nothing
    MODES.each do |mode|
      bytes = data(3_000_000)
      reader, writer = pipe
      memory = memory_of(writer, mode: mode)
      writing = thread { memory.write(bytes) }
      taken = reader.read(100_000)
      wait_until_it_sleeps(writing)
      # What is in the pipe then was delivered, although nobody reads it.
      reader.close
      failure = assert_raises(Errno::EPIPE) { writing.value }
      receipt = failure.receipt
      assert_account receipt
      assert_operator receipt.bytes, :>=, taken.bytesize
      assert_equal bytes[0, taken.bytesize], taken
      assert_equal bytes[receipt.bytes, receipt.bytes_in - receipt.bytes],
                   failure.undelivered.to_s
    end
  end

  def test_a_full_disk_is_told_with_what_it_did_not_take
    memory = memory_of(opened(File.open("/dev/full", "wb")))
    failure = assert_raises(Errno::ENOSPC) { memory.write("abc") }
    assert_equal "abc", failure.undelivered
  end

  def test_an_exception_from_outside_leaves_the_rest_in_the_memory
    MODES.each do |mode|
      bytes = data(1_000_000)
      reader, writer = pipe
      memory = memory_of(writer, mode: mode)
      writing = thread { memory.write(bytes) }
      wait_until_it_sleeps(writing)
      writing.raise(Enough)
      assert_raises(Enough) { writing.value }
      receipt = memory.receipt
      assert_account receipt
      assert_operator receipt.bytes_held, :>, 0
      got = reading(reader)
      # The rest of what was taken, what was not, and more.
      assert_same memory, memory.flush
      assert_equal 0, memory.receipt.bytes_held
      memory.write(bytes[receipt.bytes_in..], "more")
      writer.close
      assert got.value == bytes + "more"
    end
  end

  def test_the_rest_of_an_interrupted_write_is_salvaged
    bytes = data(1_000_000)
    reader, writer = pipe
    memory = memory_of(writer)
    writing = thread { Timeout.timeout(0.05) { memory.write(bytes) } }
    assert_raises(Timeout::Error) { writing.value }
    given = read_now(reader)
    left = memory.salvage
    receipt = memory.receipt
    assert_account receipt
    assert_equal [given.bytesize, left.bytesize, 0],
                 [receipt.bytes, receipt.bytes_salvaged, receipt.bytes_held]
    assert_equal bytes[0, receipt.bytes_in], given + left
    assert_nil memory.salvage
    memory.write("more")
    assert_equal "more", reader.read_nonblock(99)
  end

  def test_closing_the_sink_in_another_thread_ends_a_write
    [true, false].each do |nonblock|
      bytes = data(1_000_000)
      reader, writer = pipe(nonblock: nonblock)
      memory = memory_of(writer)
      writing = thread { memory.write(bytes) }
      wait_until_it_sleeps(writing)
      writer.close
      assert_raises(IOError) { writing.value }
      assert_raises(IOError) { memory.write("x") }
      given = reader.read
      assert_equal memory.receipt.bytes, given.bytesize
      assert_equal bytes[0, memory.receipt.bytes_in], given + memory.salvage
    end
  end

  def test_a_signal_is_handled_while_a_write_waits
    in_child do
      reader, writer = IO.pipe
      got = nil
      trap(:USR1) { got = Thread.new { reader.read(1_000_000) } }
      main = Thread.current
      Thread.new do
        sleep 0.01 until main.stop?
        Process.kill(:USR1, Process.pid)
      end
      bytes = data(1_000_000)
      Fid::Memory.new(writer).write(bytes)
      raise "other bytes" unless got.value == bytes
    end
  end

  # ---- Threads, fibers, processes ----

  def test_a_memory_is_used_by_one_thread_at_a_time
    _, writer = pipe
    memory = memory_of(writer)
    writing = thread { memory.write(data(1_000_000)) }
    wait_until_it_sleeps(writing)
    %i[write flush receipt salvage close].each do |call|
      assert_raises(ThreadError, call) { memory.public_send(call) }
    end
    assert_raises(ThreadError) { memory.fill(1) { 0 } }
    writing.kill.join
    memory.close
  end

  def test_a_block_of_fill_does_not_use_the_memory_otherwise
    memory = memory_of(sink_of(:pipe).first)
    memory.fill(9) do
      assert_raises(ThreadError) { memory.write("x") }
      assert_raises(ThreadError) { memory.fill(9) { 0 } }
      assert_raises(ThreadError) { memory.close }
      0
    end
    assert_equal 1, memory.write("x")
  end

  def test_under_a_scheduler_other_fibers_run
    [true, false].each do |nonblock|
      bytes = data(1_000_000)
      reader, writer = pipe
      writer.nonblock = nonblock
      got = nil
      waits = Scheduler.run do |scheduler|
        Fiber.schedule do
          memory = Fid::Memory.new(writer, mode: :fresh)
          memory.write(bytes)
          writer.close
        end
        Fiber.schedule { got = reader.read.b }
        scheduler
      end.waits
      assert got == bytes
      assert_operator waits, :>, 1
    end
  end

  def test_a_sink_that_always_seems_ready_is_not_asked_without_end
    near, far = tcp_pair
    # What the kernel tells about the sending stays in the socket's error queue.
    near.setsockopt(:SOCKET, 37, 2 | 16) # SO_TIMESTAMPING of software, when it is sent
    filled = 0
    begin
      loop { filled += near.write_nonblock("x" * 65_536) }
    rescue IO::WaitWritable
      eventually("the time stamp") { IO.select([near], nil, nil, 0) }
    end
    asked = got = nil
    Scheduler.run do |scheduler|
      Fiber.schedule do
        Fid::Memory.new(near).write("end")
        near.close
      end
      Fiber.schedule do
        sleep 0.5
        asked = scheduler.waits
        got = far.read
      end
    end
    assert_operator asked, :<, 100
    assert_equal filled + 3, got.bytesize
    assert got.end_with?("xend")
  end

  def test_another_fiber_cannot_use_a_memory_that_waits
    reader, writer = pipe
    memory = memory_of(writer)
    error = nil
    Scheduler.run do
      Fiber.schedule { memory.write(data(200_000)) }
      Fiber.schedule do
        error = assert_raises(ThreadError) { memory.write("x") }
      ensure
        reader.read(200_000)
      end
    end
    assert_kind_of ThreadError, error
  end

  def test_a_child_has_memory_of_its_own
    MODES.each do |mode|
      reader, writer = pipe
      memory = memory_of(writer, mode: mode)
      memory.write("parent ")
      in_child do
        %i[write flush receipt salvage].each do |call|
          assert_raises(IOError) { memory.public_send(call) }
        end
        assert_raises(IOError) { memory.fill(1) { 0 } }
        memory.close
        Fid::Memory.open(writer, mode: mode) { |own| own.write("child ") }
        GC.start
      end
      memory.write("parent")
      assert_equal "parent child parent", reader.read_nonblock(99)
    end
  end

  def test_a_child_leaves_alone_what_a_thread_of_its_parent_is_sending
    bytes = data(1_000_000)
    reader, writer = pipe
    memory = memory_of(writer, mode: :fresh)
    writing = thread { memory.write(bytes) }
    wait_until_it_sleeps(writing)
    in_child do
      assert_raises(IOError) { memory.write("x") }
      memory.close
      assert_predicate memory, :closed?
    end
    got = reading(reader)
    writing.value
    writer.close
    assert_equal bytes, got.value
  end

  def test_memory_holds_under_stress_of_the_garbage_collector
    in_child do
      reader, writer = IO.pipe
      GC.stress = true
      Fid::Memory.open(writer, mode: :fresh) do |memory|
        memory.write("abc", 12, :x)
        GC.compact
        memory.fill(3) { |buffer| buffer.set_string("def") }
        memory << "ghi"
        GC.compact
      end
      constant = Fid::Memory.constant("jkl", :m)
      GC.compact
      constant.copy_to(writer, 1)
      GC.stress = false
      got = reader.readpartial(99)
      raise got unless got == "abc12xdefghiklm"
    end
  end

  def test_memory_is_used_in_ractors
    out, err, status = ruby(<<~RUBY, path("one"), path("two"))
      Warning[:experimental] = false
      require "fid"
      print ARGV.map { |name|
        Ractor.new(name) do |name|
          File.open(name, "wb") do |file|
            Fid::Memory.open(file) do |memory|
              memory.write("abc")
              memory.fill(3) { |buffer| buffer.set_string("def") }
              memory.receipt.bytes
            end
          end
        end
      }.map(&:take)
    RUBY
    assert status.success?, err
    assert_equal "[6, 6]", out
    assert_equal %w[abcdef abcdef], [File.binread(path("one")), File.binread(path("two"))]
  end

  # ---- Making and ending ----

  def test_memory_leaves_no_descriptors
    sink, = sink_of(:pipe)
    memory_of(sink, mode: :fresh).write("abc")
    before = descriptors
    10.times do
      MODES.each { |mode| Fid::Memory.open(sink, mode: mode) { |memory| memory << "abc" } }
      Fid::Memory.constant("abc").tap { |one| one.copy_to(sink) }.close
    end
    assert_raises(ArgumentError) { Fid::Memory.new(sink, mode: :lend) }
    assert_equal before, descriptors
  end

  def test_arguments_that_mean_nothing_are_refused
    reader, writer = pipe
    assert_raises(ArgumentError) { Fid::Memory.new(writer, mode: :const) }
    assert_raises(ArgumentError) { Fid::Memory.new(writer, mode: "copy") }
    assert_raises(TypeError) { Fid::Memory.new(Object.new) }
    assert_raises(IOError) { Fid::Memory.new(reader) }
    assert_raises(Errno::EBADF) { Fid::Memory.new(reader.fileno) }
    writer.close
    assert_raises(IOError) { Fid::Memory.new(writer) }
  end

  def test_a_closed_memory_is_an_io_error
    memory = memory_of(sink_of(:pipe).first)
    memory.close
    memory.close
    assert_predicate memory, :closed?
    assert_raises(IOError) { memory.write("x") }
    assert_raises(IOError) { memory << "x" }
    assert_raises(IOError) { memory.fill(1) { 0 } }
    assert_raises(IOError) { memory.flush }
    assert_raises(IOError) { memory.receipt }
    assert_raises(IOError) { memory.salvage }
  end

  def test_open_closes_the_memory_when_the_block_is_over
    sink, = sink_of(:pipe)
    kept = nil
    assert_equal(3, Fid::Memory.open(sink) { |memory| (kept = memory).write("abc") })
    assert_predicate kept, :closed?
    assert_raises(Enough) do
      Fid::Memory.open(sink) { |memory| (kept = memory) && raise(Enough) }
    end
    assert_predicate kept, :closed?
    refute_predicate opened(Fid::Memory.open(sink)), :closed?
  end

  def test_memory_is_made_once_and_not_copied
    sink, = sink_of(:pipe)
    memory = memory_of(sink)
    assert_raises(RuntimeError) { memory.send(:initialize, sink) }
    assert_raises(NoMethodError, TypeError) { memory.dup }
    one = constant("abc")
    assert_raises(RuntimeError) { one.send(:initialize, "def") }
    assert_raises(NoMethodError, TypeError) { one.dup }
    made_by_nobody = Fid::Memory::Constant.allocate
    [made_by_nobody, made_by_nobody.freeze].each do |one|
      assert_raises(IOError) { one.copy_to(sink) }
      one.close
      assert_predicate one, :closed?
      assert_equal 0, one.bytes
    end
    assert_raises(RuntimeError) { made_by_nobody.send(:initialize, "abc") }
  end

  def test_a_memory_keeps_its_sink_alive
    out, err, status = ruby(<<~RUBY)
      require "fid"
      def memory(keep)
        keep << (sink = IO.pipe)[0]
        Fid::Memory.new(sink[1])
      end
      keep = []
      all = Array.new(20) { memory(keep) }
      10.times { GC.start }
      all.each { |one| one.write("abc") }
      print keep.map { |reader| reader.readpartial(9) }.uniq
    RUBY
    assert status.success?, err
    assert_equal '["abc"]', out
  end

  # ---- Constants ----

  def test_a_constant_is_sent_to_any_sink_any_number_of_times
    bytes = data(3_000_000)
    one = constant(bytes[0, 10], [bytes[10, 5], bytes[15..]])
    assert_equal bytes.bytesize, one.bytes
    %i[pipe blocking_pipe unix file].each do |kind|
      sink, got = sink_of(kind)
      2.times { assert_equal bytes.bytesize, one.copy_to(sink).bytes }
      assert got.call == bytes * 2, kind
    end
  end

  def test_a_constant_goes_into_a_pipe_by_reference
    skip "vmsplice and sealed memory are refused here" unless Fid.probe.memory_seal?
    sink, got = sink_of(:pipe)
    bytes = data(300_000)
    assert_predicate constant(bytes).copy_to(sink), :by_reference?
    assert_equal bytes, got.call
  end

  def test_a_part_of_a_constant_is_sent
    one = constant("0123456789")
    sink, got = sink_of(:pipe)
    assert_equal 3, one.copy_to(sink, 2, 3).bytes
    assert_equal 4, one.copy_to(sink, 6).bytes
    assert_equal 0, one.copy_to(sink, 4, 0).bytes
    assert_equal 0, one.copy_to(sink, 10).bytes
    assert_equal "2346789", got.call
  end

  def test_a_part_that_is_not_within_the_constant_is_refused
    one = constant("0123456789")
    sink, got = sink_of(:pipe)
    [[11], [-1], [0, 11], [5, 6], [0, -1], [-1, 2]].each do |arguments|
      assert_raises(ArgumentError, arguments.inspect) { one.copy_to(sink, *arguments) }
    end
    assert_equal "", got.call
  end

  def test_an_empty_constant_has_nothing_to_send
    [constant, constant(""), constant("", [])].each do |one|
      assert_equal 0, one.bytes
      sink, got = sink_of(:pipe)
      assert_equal 0, one.copy_to(sink).bytes
      assert_equal "", got.call
    end
  end

  def test_a_constant_does_not_change_with_the_strings
    string = +"a" * 100_000
    one = constant(string, :x)
    string.replace("b" * 100_000)
    sink, got = sink_of(:pipe)
    one.copy_to(sink)
    assert_equal "a" * 100_000 + "x", got.call
  end

  def test_nobody_can_write_to_a_constant
    one = constant("abc")
    one.send(:use) do |descriptor|
      memfd = IO.for_fd(descriptor, "r+b", autoclose: false)
      assert_raises(Errno::EPERM) { memfd.syswrite("x") }
      assert_raises(Errno::EPERM, Errno::EINVAL) do
        File.truncate("/proc/self/fd/#{descriptor}", 0)
      end
    end
  end

  def test_a_constant_is_frozen_and_shareable
    one = constant("abc")
    assert_predicate one, :frozen?
    assert Ractor.shareable?(one)
  end

  def test_threads_copy_from_a_constant_at_once
    bytes = data(1_000_000)
    one = constant(bytes)
    8.times.map do |i|
      sink, got = sink_of(i.even? ? :pipe : :unix)
      [thread { 5.times { one.copy_to(sink, i * 1000) } }, got, bytes[(i * 1000)..] * 5]
    end.each do |copying, got, expected|
      copying.value
      assert got.call == expected
    end
  end

  def test_ractors_copy_from_a_constant_at_once
    out, err, status = ruby(<<~RUBY, path("one"), path("two"))
      Warning[:experimental] = false
      require "fid"
      constant = Fid::Memory.constant("abc" * 100_000)
      ractors = ARGV.map do |name|
        Ractor.new(constant, name) do |constant, name|
          File.open(name, "wb") { |file| 3.times.sum { constant.copy_to(file).bytes } }
        end
      end
      print ractors.map(&:take)
      constant.close
    RUBY
    assert status.success?, err
    assert_equal "[900000, 900000]", out
    assert_equal ["abc" * 300_000] * 2, [File.binread(path("one")), File.binread(path("two"))]
  end

  def test_a_constant_that_is_closed_serves_those_who_copy_from_it
    bytes = data(1_000_000)
    one = constant(bytes)
    reader, writer = pipe
    before = descriptors
    copying = thread { one.copy_to(writer) }
    wait_until_it_sleeps(copying)
    one.close
    one.close
    assert_predicate one, :closed?
    assert_equal before, descriptors
    assert_raises(IOError) { one.copy_to(writer) }
    got = reading(reader)
    assert_equal bytes.bytesize, copying.value.bytes
    assert_equal 1, (before - descriptors).size
    writer.close
    assert_equal bytes, got.value
  end

  def test_what_was_sent_of_a_constant_lives_on_when_it_is_closed
    reader, writer = pipe
    one = constant("abc" * 20_000)
    one.copy_to(writer)
    one.close
    assert_equal "abc" * 20_000, reader.read_nonblock(60_000)
  end

  def test_a_copy_of_a_constant_is_interrupted_and_times_out
    one = constant(data(1_000_000))
    _, writer = pipe
    assert_raises(Errno::ETIMEDOUT) { one.copy_to(writer, timeout: 0.05) }
    copying = thread { one.copy_to(writer) }
    wait_until_it_sleeps(copying)
    copying.raise(Enough)
    assert_raises(Enough) { copying.value }
    before = descriptors
    one.close
    assert_equal 1, (before - descriptors).size
  end

  def test_a_child_has_a_constant_too
    bytes = data(100_000)
    one = constant(bytes)
    in_child do
      sink, got = sink_of(:pipe)
      one.copy_to(sink)
      one.close
      raise "other bytes" unless got.call == bytes
    end
    sink, got = sink_of(:pipe)
    one.copy_to(sink)
    assert_equal bytes, got.call
  end

  def test_a_constant_that_is_forgotten_closes_its_descriptor
    in_child do
      before = descriptors
      thread { 20.times { Fid::Memory.constant("abc") } }.join
      # References may still be on a stack.
      thread { Array.new(20) { "abc".b.bytes } }.join
      GC.start
      raise (descriptors - before).inspect if (descriptors - before).size > 3
    end
  end
end
