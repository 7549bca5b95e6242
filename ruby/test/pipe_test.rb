# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"
require_relative "scheduler"
require "timeout"

class PipeTest < FidTest
  # A pipe that is closed with the test.
  def fid_pipe(bytes: nil)
    made = Fid::Pipe.new(bytes: bytes)
    made.to_a.each { |io| opened(io) }
    made
  end

  def test_fill_and_drain_carry_every_byte
    bytes = data(1_000_000)
    target = path("target")
    source = open_file(bytes)
    File.open(target, "wb") do |sink|
      Fid::Pipe.open do |pipe|
        while (filled = pipe.fill(source, 1 << 20))
          filled -= pipe.drain(sink, filled) while filled.positive?
        end
      end
    end
    assert_equal bytes, File.binread(target)
  end

  def test_fill_returns_nil_at_the_end_of_the_file
    pipe = fid_pipe
    source = open_file("abc")
    assert_equal 3, pipe.fill(source, 10)
    assert_nil pipe.fill(source, 10)
    assert_equal 3, pipe.bytes
  end

  def test_drain_returns_nil_when_all_is_out_and_the_writer_closed
    pipe = fid_pipe
    _, other = socket_pair
    pipe.writer.write "abc"
    pipe.close_writer
    assert_equal 3, pipe.drain(other, 10)
    assert_nil pipe.drain(other, 10)
  end

  def test_fill_leaves_the_offset_of_a_file_alone_when_it_is_given_one
    pipe = fid_pipe
    source = open_file("0123456789")
    source.seek(1)
    assert_equal 3, pipe.fill(source, 3, offset: 5)
    assert_equal "567", pipe.reader.readpartial(10)
    assert_equal 1, source.pos
  end

  def test_drain_leaves_the_offset_of_a_file_alone_when_it_is_given_one
    pipe = fid_pipe
    target = opened(File.open(file("0123456789"), "r+b"))
    pipe.writer.write "abc"
    assert_equal 3, pipe.drain(target, 3, offset: 5)
    assert_equal 0, target.pos
    assert_equal "01234abc89", target.read
  end

  def test_fill_waits_for_a_socket_that_has_nothing
    pipe = fid_pipe
    near, far = socket_pair
    waiting = thread { pipe.fill(near, 10) }
    wait_until_it_sleeps(waiting)
    far.write "abc"
    assert_equal 3, waiting.value
    assert_equal "abc", pipe.reader.readpartial(10)
  end

  def test_fill_waits_for_room
    pipe = fid_pipe
    source = open_file(data(2 * pipe.capacity))
    pipe.fill(source, pipe.capacity) while pipe.bytes < pipe.capacity
    waiting = thread { pipe.fill(source, 10) }
    wait_until_it_sleeps(waiting)
    pipe.reader.readpartial(pipe.capacity)
    assert_equal 10, waiting.value
  end

  def test_drain_waits_for_bytes
    pipe = fid_pipe
    near, far = socket_pair
    waiting = thread { pipe.drain(near, 10) }
    wait_until_it_sleeps(waiting)
    pipe.writer.write "abc"
    assert_equal 3, waiting.value
    assert_equal "abc", far.readpartial(10)
  end

  def test_drain_waits_for_a_socket_that_takes_nothing
    pipe = fid_pipe
    near, far = socket_pair
    filled = 0
    begin
      loop { filled += near.write_nonblock("x" * 4096) }
    rescue IO::WaitWritable
      pipe.writer.write "abc"
    end
    waiting = thread { pipe.drain(near, 10) }
    wait_until_it_sleeps(waiting)
    assert_equal 3, pipe.bytes
    reading = thread { far.read(filled + 3) }
    assert_equal 3, waiting.value
    assert_equal "xabc", reading.value[-4..]
  end

  def test_tee_gives_another_pipe_what_is_there_and_keeps_it
    pipe = fid_pipe
    other = fid_pipe
    pipe.writer.write "abc"
    assert_equal 3, pipe.tee(other, 10)
    assert_equal 2, pipe.tee(other.writer, 2)
    assert_equal "abcab", other.reader.readpartial(10)
    assert_equal "abc", pipe.reader.readpartial(10)
  end

  def test_tee_returns_nil_when_all_is_out_and_the_writer_closed
    pipe = fid_pipe
    pipe.close_writer
    assert_nil pipe.tee(fid_pipe, 10)
  end

  def test_tee_into_itself_is_refused
    pipe = fid_pipe
    pipe.writer.write "abc"
    assert_raises(Errno::EINVAL) { pipe.tee(pipe, 3) }
    assert_equal "abc", pipe.reader.readpartial(10)
  end

  def test_capacity_is_what_was_asked_for_rounded_up
    assert_equal 131_072, fid_pipe(bytes: 100_000).capacity
    pipe = fid_pipe
    assert_equal Fid.probe.pipe_bytes, pipe.capacity
    pipe.capacity = 4096
    assert_equal 4096, pipe.capacity
    assert_equal 4096, pipe.writer.fcntl(Fid::F_GETPIPE_SZ)
  end

  def test_capacity_below_what_is_in_the_pipe_is_refused
    pipe = fid_pipe
    pipe.writer.write data(20_000)
    assert_raises(Errno::EBUSY) { pipe.capacity = 4096 }
    assert_equal 20_000, pipe.bytes
  end

  def test_a_capacity_that_cannot_be_had_leaves_no_descriptor
    before = descriptors
    assert_raises(ArgumentError) { Fid::Pipe.new(bytes: 1 << 40) }
    assert_raises(ArgumentError) { Fid::Pipe.new(bytes: -1) }
    # Beyond what the memory of a kernel is good for, and what a user may have.
    assert_raises(Errno::ENOMEM, Errno::EPERM, Errno::EINVAL) { Fid::Pipe.new(bytes: 1 << 31) }
    assert_equal before, descriptors
  end

  def test_bytes_are_those_in_the_pipe
    pipe = fid_pipe
    assert_equal 0, pipe.bytes
    pipe.writer.write data(10_000)
    assert_equal 10_000, pipe.bytes
    pipe.close_reader
    assert_equal 10_000, pipe.bytes
  end

  def test_both_ends_are_binary_and_close_on_exec
    fid_pipe.to_a.each do |io|
      assert_predicate io, :binmode?
      assert_predicate io, :close_on_exec?
    end
  end

  def test_open_closes_both_ends_when_the_block_is_over
    before = descriptors
    kept = nil
    assert_equal 3, Fid::Pipe.open(bytes: 4096) { |pipe| (kept = pipe).writer.write("abc") }
    assert_predicate kept, :closed?
    assert_raises(RuntimeError) { Fid::Pipe.open { raise "no" } }
    assert_equal before, descriptors
  end

  def test_open_without_a_block_returns_the_pipe
    pipe = Fid::Pipe.open(bytes: 4096)
    refute_predicate pipe, :closed?
    reader, writer = pipe.to_a
    assert_same pipe.reader, reader
    assert_same pipe.writer, writer
    pipe.close
    pipe.close
    assert_predicate pipe, :closed?
  end

  def test_a_closed_pipe_is_an_io_error
    pipe = fid_pipe
    pipe.close
    assert_raises(IOError) { pipe.fill(open_file("abc"), 1) }
    assert_raises(IOError) { pipe.drain(socket_pair[0], 1) }
    assert_raises(IOError) { pipe.tee(fid_pipe, 1) }
    assert_raises(IOError) { pipe.bytes }
    assert_raises(IOError) { pipe.capacity }
  end

  def test_fill_without_a_reader_is_epipe
    pipe = fid_pipe
    pipe.close_reader
    assert_raises(Errno::EPIPE) { pipe.fill(open_file("abc"), 3) }
  end

  def test_what_ruby_has_read_ahead_is_not_skipped
    pipe = fid_pipe
    pipe.writer.write "a\nb"
    assert_equal "a\n", pipe.reader.gets
    assert_raises(IOError) { pipe.drain(socket_pair[0], 10) }
    assert_raises(IOError) { pipe.tee(fid_pipe, 10) }
    assert_equal "b", pipe.reader.readpartial(10)
  end

  def test_a_waiting_drain_is_interrupted_and_the_pipe_is_intact
    pipe = fid_pipe
    near, far = socket_pair
    waiting = thread { pipe.drain(near, 10) }
    wait_until_it_sleeps(waiting)
    waiting.raise(RuntimeError, "enough")
    assert_equal "enough", assert_raises(RuntimeError) { waiting.value }.message
    pipe.writer.write "abc"
    assert_equal 3, pipe.drain(near, 10)
    assert_equal "abc", far.readpartial(10)
  end

  def test_closing_the_reader_in_another_thread_ends_a_waiting_drain
    pipe = fid_pipe
    near, = socket_pair
    waiting = thread { pipe.drain(near, 10) }
    wait_until_it_sleeps(waiting)
    pipe.close_reader
    assert_raises(IOError) { waiting.value }
  end

  def test_under_a_scheduler_fibers_fill_and_drain_by_turns
    bytes = data(500_000)
    pipe = fid_pipe
    near, far = socket_pair
    reading = reading(far)
    waits = Scheduler.run do |scheduler|
      source = open_file(bytes)
      Fiber.schedule do
        nil while pipe.drain(near, 1 << 20)
        near.close
      end
      Fiber.schedule do
        nil while pipe.fill(source, 4096)
        pipe.close_writer
      end
      scheduler
    end.waits
    assert_equal bytes, reading.value
    assert_operator waits, :>, 0
  end
end
