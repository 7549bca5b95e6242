# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Fid.splice, Fid.tee and Fid.vmsplice: what they move and return, what they wait for, and what
# they make of Ruby's buffers and Strings. What io_splice's names add is in io_splice_test.rb.

require_relative "support"
require "tempfile"
require "timeout"

# What the tests of the calls share.
class CallsTestCase < FidTest
  PAGE = 4096

  # An object that is no IO and has one.
  class HasIO
    def initialize(io)
      @io = io
    end

    def to_io
      @io
    end
  end
end

# Arguments, returns and errors.
class CallsTest < CallsTestCase
  # ---- What moves ----

  def test_splice_moves_a_file_into_a_pipe_and_the_offset_of_the_file
    bytes = data(10_000)
    source = open_file(bytes)
    reader, sink = pipe
    assert_equal 6000, Fid.splice(source, sink, 6000)
    assert_equal 6000, source.sysseek(0, IO::SEEK_CUR)
    assert_equal 4000, Fid.splice(source, sink, 6000)
    assert_equal bytes, queued(reader)
  end

  def test_splice_moves_a_pipe_into_a_file_at_its_offset
    source = full_pipe("middle")
    target = opened(File.open(file("head......tail"), "r+b"))
    target.sysseek(4)
    assert_equal 6, Fid.splice(source, target, 100)
    assert_equal 10, target.sysseek(0, IO::SEEK_CUR)
    assert_equal "headmiddletail", File.binread(target.path)
  end

  def test_splice_moves_one_pipe_into_another
    bytes = data(3 * PAGE + 5)
    drain, sink = pipe
    assert_equal bytes.bytesize, Fid.splice(full_pipe(bytes), sink, 1 << 20)
    assert_equal bytes, queued(drain)
  end

  def test_splice_moves_between_sockets_and_pipes
    [socket_pair, tcp_pair].each do |near, far|
      far.write "to the pipe"
      drain, sink = pipe
      assert_equal 11, Fid.splice(near, sink, 100)
      assert_equal "to the pipe", queued(drain)
      assert_equal 13, Fid.splice(full_pipe("to the socket"), near, 100)
      assert_equal "to the socket", far.readpartial(100)
    end
  end

  def test_splice_moves_no_more_than_asked_for
    source = full_pipe("abcdefghij")
    drain, sink = pipe
    assert_equal 3, Fid.splice(source, sink, 3)
    assert_equal 1, Fid.splice(source, sink, 1)
    assert_equal "abcd", queued(drain)
    assert_equal "efghij", source.read
  end

  def test_splice_to_a_socket_without_o_nonblock_sends_all_for_which_there_is_room
    [socket_pair, tcp_pair].each do |near, far|
      near.nonblock = false
      bytes = data(8 * PAGE - 1)
      assert_equal bytes.bytesize, Fid.splice(full_pipe(bytes), near, 1 << 20)
      assert_equal bytes, far.read(bytes.bytesize)
    end
  end

  def test_splice_moves_what_fits_and_leaves_the_rest
    bytes = data(5 * PAGE)
    drain, sink = pipe
    sink.fcntl(Fid::F_SETPIPE_SZ, 2 * PAGE)
    source = full_pipe(bytes)
    assert_equal 2 * PAGE, Fid.splice(source, sink, bytes.bytesize)
    assert_equal bytes, queued(drain) + source.read
  end

  def test_splice_takes_any_length_up_to_64_bits
    [1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1].each do |length|
      drain, sink = pipe
      assert_equal 5, Fid.splice(full_pipe("bytes"), sink, length)
      assert_equal "bytes", queued(drain)
      assert_equal 5, Fid.splice(open_file("bytes"), sink, length)
      assert_equal "bytes", queued(drain)
      assert_equal 5, Fid.tee(full_pipe("bytes"), sink, length)
      assert_equal "bytes", queued(drain)
    end
  end

  def test_a_length_below_0_or_above_64_bits_or_of_another_kind_is_refused
    source = full_pipe("bytes")
    _, sink = pipe
    assert_raises(ArgumentError) { Fid.splice(source, sink, -1) }
    assert_raises(RangeError) { Fid.splice(source, sink, 1 << 64) }
    assert_raises(TypeError) { Fid.splice(source, sink, "5") }
    assert_raises(ArgumentError) { Fid.tee(source, sink, -1) }
    assert_equal "bytes", source.read
  end

  def test_a_length_of_0_moves_nothing_and_waits_for_nothing
    each_kind_of_pipe do |make|
      source, = make.call
      _, sink = make.call
      fill(sink)
      [0, :nonblock].each do |flags|
        assert_equal 0, Fid.splice(source, sink, 0, flags)
        assert_equal 0, Fid.splice(source, sink, 0, flags, exception: false)
        assert_equal 0, Fid.tee(source, sink, 0, flags)
      end
      assert_equal 0, Fid.splice(full_pipe(""), sink, 0)
    end
    near, = socket_pair
    near.nonblock = false
    _, sink = pipe
    assert_equal 0, Fid.splice(near, sink, 0)
  end

  def test_tee_gives_a_copy_and_takes_nothing_away
    source = full_pipe("abcdefghij")
    drain, sink = pipe
    assert_equal 10, Fid.tee(source, sink, 100)
    assert_equal 4, Fid.tee(source, sink, 4)
    assert_equal "abcdefghijabcd", queued(drain)
    assert_equal "abcdefghij", source.read
  end

  def test_tee_gives_what_fits
    bytes = data(4 * PAGE)
    drain, sink = pipe
    sink.fcntl(Fid::F_SETPIPE_SZ, PAGE)
    source = full_pipe(bytes)
    assert_equal PAGE, Fid.tee(source, sink, bytes.bytesize)
    assert_equal bytes.byteslice(0, PAGE), queued(drain)
    assert_equal bytes, source.read
  end

  # ---- The end of the file, and would block ----

  def test_the_end_of_the_file_is_eof_error_or_nil
    _, sink = pipe
    near, far = socket_pair
    far.close
    [full_pipe(""), open_file(""), near].each do |source|
      assert_raises(EOFError) { Fid.splice(source, sink, 10) }
      assert_raises(EOFError) { Fid.splice(source, sink, 10, :nonblock) }
      assert_raises(EOFError) { Fid.splice(source, sink, 10, exception: true) }
      assert_nil Fid.splice(source, sink, 10, exception: false)
      assert_nil Fid.splice(source, sink, 10, :nonblock, exception: false)
    end
    assert_raises(EOFError) { Fid.tee(full_pipe(""), sink, 10) }
    assert_nil Fid.tee(full_pipe(""), sink, 10, exception: false)
    assert_nil Fid.tee(full_pipe(""), sink, 10, :nonblock, exception: false)
  end

  def test_the_end_of_the_file_has_the_message_that_ruby_gives_it
    _, sink = pipe
    error = assert_raises(EOFError) { Fid.splice(full_pipe(""), sink, 10) }
    assert_equal "end of file reached", error.message
  end

  def test_an_empty_pipe_with_nonblock_is_eagain_whatever_its_descriptor_says
    each_kind_of_pipe do |make|
      source, = make.call
      _, sink = make.call
      [sink, opened(Tempfile.new)].each do |target|
        assert_raises(Errno::EAGAIN) { Fid.splice(source, target, 10, :nonblock) }
        assert_equal :EAGAIN, Fid.splice(source, target, 10, :nonblock, exception: false)
      end
      assert_raises(Errno::EAGAIN) { Fid.tee(source, sink, 10, :nonblock) }
      assert_equal :EAGAIN, Fid.tee(source, sink, 10, :nonblock, exception: false)
    end
  end

  def test_a_full_pipe_with_nonblock_is_eagain_and_nothing_is_taken
    each_kind_of_pipe do |make|
      drain, sink = make.call
      filled = fill(sink)
      source = full_pipe("kept")
      assert_raises(Errno::EAGAIN) { Fid.splice(source, sink, 10, :nonblock) }
      assert_equal :EAGAIN, Fid.splice(source, sink, 10, :nonblock, exception: false)
      assert_equal :EAGAIN, Fid.tee(source, sink, 10, :nonblock, exception: false)
      assert_equal :EAGAIN, Fid.splice(open_file("x"), sink, 1, :nonblock, exception: false)
      assert_equal filled, queued(drain).bytesize
      assert_equal "kept", source.read
    end
  end

  def test_a_socket_with_o_nonblock_is_eagain_with_any_flags
    [socket_pair, tcp_pair].each do |near, _|
      near.nonblock = true
      drain, sink = pipe
      [0, :nonblock].each do |flags|
        assert_raises(Errno::EAGAIN) { Fid.splice(near, sink, 10, flags) }
        assert_equal :EAGAIN, Fid.splice(near, sink, 10, flags, exception: false)
      end
      stuff(near)
      source = full_pipe("kept")
      [0, :nonblock].each do |flags|
        assert_equal :EAGAIN, Fid.splice(source, near, 10, flags, exception: false)
      end
      assert_equal "kept", source.read
      assert_equal "", queued(drain)
    end
  end

  # ---- Flags ----

  def test_flags_are_integers_or_symbols_or_arrays_of_them_or_nil
    drain, sink = pipe
    [0, nil, [], :more, :move, :gift, :waitall, %i[move more], [Fid::F_MORE, :move],
     Fid::F_MOVE | Fid::F_MORE | Fid::F_GIFT | Fid::F_NONBLOCK].each do |flags|
      assert_equal 5, Fid.splice(full_pipe("bytes"), sink, 5, flags), flags.inspect
      assert_equal 5, Fid.tee(full_pipe("bytes"), sink, 5, flags), flags.inspect
      assert_equal 5, Fid.vmsplice(sink, "bytes", flags), flags.inspect
      assert_equal "bytes" * 3, queued(drain)
    end
  end

  def test_every_spelling_of_nonblock_means_the_same
    source, = pipe
    drain, sink = pipe
    fill(sink)
    [:nonblock, [:nonblock], %i[more nonblock], Fid::F_NONBLOCK, [Fid::F_NONBLOCK],
     Fid::F_NONBLOCK | Fid::F_MORE].each do |flags|
      assert_equal :EAGAIN, Fid.splice(source, sink, 10, flags, exception: false)
      assert_equal :EAGAIN, Fid.tee(source, sink, 10, flags, exception: false)
      assert_equal :EAGAIN, Fid.vmsplice(sink, "x", flags, exception: false)
    end
    assert_equal capacity(sink), queued(drain).bytesize
  end

  def test_more_keeps_the_last_bytes_back_for_what_follows
    # A peer on this machine has what was sent when the call returns, unless the kernel waits
    # for more. It does not wait for long, and a busy machine may be late, hence more than once.
    assert(10.times.any? do
      near, far = tcp_pair
      near.setsockopt(:TCP, :NODELAY, 1)
      Fid.splice(full_pipe("x"), near, 1, :more)
      queued(far).empty?
    end)
    assert(10.times.any? do
      near, far = tcp_pair
      near.setsockopt(:TCP, :NODELAY, 1)
      Fid.splice(full_pipe("x"), near, 1)
      !queued(far).empty?
    end)
  end

  def test_unknown_flags_are_refused_before_anything_moves
    source = full_pipe("kept")
    drain, sink = pipe
    error = assert_raises(ArgumentError) { Fid.splice(source, sink, 4, :nonblok) }
    assert_match(/nonblok/, error.message)
    assert_raises(ArgumentError) { Fid.tee(source, sink, 4, %i[nonblock sometimes]) }
    assert_raises(ArgumentError) { Fid.vmsplice(sink, "x", :never) }
    [16, 0x10000, 1 << 31].each do |flag|
      assert_raises(Errno::EINVAL) { Fid.splice(source, sink, 4, flag) }
      assert_raises(Errno::EINVAL) { Fid.tee(source, sink, 4, flag) }
      assert_raises(Errno::EINVAL) { Fid.vmsplice(sink, "x", flag) }
    end
    assert_raises(TypeError) { Fid.splice(source, sink, 4, "nonblock") }
    assert_raises(RangeError) { Fid.splice(source, sink, 4, 1 << 40) }
    assert_equal "", queued(drain)
    assert_equal "kept", source.read
  end

  def test_unknown_keywords_and_wrong_numbers_of_arguments_are_argument_errors
    source, = pipe
    _, sink = pipe
    assert_raises(ArgumentError) { Fid.splice(source, sink, 4, offset: 3) }
    assert_raises(ArgumentError) { Fid.tee(source, sink, 4, off_in: 3) }
    assert_raises(ArgumentError) { Fid.vmsplice(sink, "x", wait: false) }
    assert_raises(ArgumentError) { Fid.splice(source, sink) }
    assert_raises(ArgumentError) { Fid.tee(source, sink) }
    assert_raises(ArgumentError) { Fid.vmsplice(sink) }
    assert_raises(ArgumentError) { Fid.splice(source, nil, sink, nil, 4, 0) }
  end

  # ---- Ends ----

  def test_ends_are_ios_numbers_or_what_has_an_io
    [:itself.to_proc, :fileno.to_proc, HasIO.method(:new)].each do |as|
      drain, sink = pipe
      source = full_pipe("bytes")
      assert_equal 5, Fid.tee(as.call(source), as.call(sink), 10)
      assert_equal 5, Fid.splice(as.call(source), as.call(sink), 10)
      assert_equal 4, Fid.vmsplice(as.call(sink), "more")
      assert_equal "bytesbytesmore", queued(drain)
    end
  end

  def test_a_tempfile_is_an_end
    source = opened(Tempfile.new)
    source.write "from the file"
    source.rewind
    drain, sink = pipe
    assert_equal 13, Fid.splice(source, sink, 100)
    assert_equal "from the file", queued(drain)
    target = opened(Tempfile.new)
    assert_equal 11, Fid.splice(full_pipe("to the file"), target, 100)
    assert_equal "to the file", File.read(target.path)
  end

  def test_a_process_with_two_pipes_is_a_sink_and_a_source
    cat = opened(IO.popen("cat", "r+b"))
    assert_equal 4, Fid.splice(full_pipe("miau"), cat, 10)
    assert_equal 3, Fid.vmsplice(cat, [" ", "an", ""])
    assert_equal 1, Fid.tee(full_pipe("d"), cat, 10)
    cat.close_write
    drain, sink = pipe
    moved = 0
    while (got = Fid.splice(cat, sink, 100, exception: false))
      moved += got
    end
    assert_equal 8, moved
    assert_equal "miau and", queued(drain)
  end

  def test_what_is_no_end_is_a_type_error
    reader, writer = pipe
    [nil, :stdin, "name", 1.5, Object.new, HasIO.new("name")].each do |wrong|
      assert_raises(TypeError, wrong.inspect) { Fid.splice(wrong, writer, 1) }
      assert_raises(TypeError, wrong.inspect) { Fid.splice(reader, wrong, 1) }
      assert_raises(TypeError, wrong.inspect) { Fid.tee(wrong, writer, 1) }
      assert_raises(TypeError, wrong.inspect) { Fid.vmsplice(wrong, "x") }
    end
  end

  def test_a_closed_io_is_an_io_error_and_a_closed_number_is_ebadf
    source = full_pipe("x")
    _, sink = pipe
    reader, writer = IO.pipe
    numbers = [reader.fileno, writer.fileno]
    [reader, writer].each(&:close)
    assert_raises(IOError) { Fid.splice(reader, sink, 1) }
    assert_raises(IOError) { Fid.splice(source, writer, 1) }
    assert_raises(IOError) { Fid.tee(reader, sink, 1) }
    assert_raises(IOError) { Fid.tee(source, writer, 1) }
    assert_raises(IOError) { Fid.vmsplice(writer, "x") }
    in_child do
      # Nobody else opens one here.
      assert_raises(Errno::EBADF) { Fid.splice(numbers[0], sink, 1) }
      assert_raises(Errno::EBADF) { Fid.splice(source, numbers[1], 1) }
      assert_raises(Errno::EBADF) { Fid.tee(source, numbers[1], 1) }
      assert_raises(Errno::EBADF) { Fid.vmsplice(numbers[1], "x") }
    end
    assert_raises(Errno::EBADF) { Fid.splice(-1, sink, 1) }
    assert_raises(RangeError) { Fid.splice(1 << 40, sink, 1) }
    assert_equal "x", source.read
  end

  def test_a_wrong_direction_is_ebadf_at_once
    each_kind_of_pipe do |make|
      reader, writer = make.call
      other_reader, other_writer = make.call
      assert_raises(Errno::EBADF) { Fid.splice(writer, other_writer, 1) }
      assert_raises(Errno::EBADF) { Fid.splice(reader, other_reader, 1) }
      assert_raises(Errno::EBADF) { Fid.tee(writer, other_writer, 1) }
      assert_raises(Errno::EBADF) { Fid.tee(reader, other_reader, 1) }
      assert_raises(Errno::EBADF) { Fid.vmsplice(reader, "x") }
      writer.write "kept"
      name = file("kept")
      assert_raises(Errno::EBADF) { Fid.splice(opened(File.open(name, "ab")), other_writer, 1) }
      assert_raises(Errno::EBADF) { Fid.splice(reader, opened(File.open(name, "rb")), 1) }
      assert_equal "kept", queued(reader)
    end
  end

  def test_both_ends_of_one_pipe_are_einval_also_when_it_is_empty_or_full
    each_kind_of_pipe do |make|
      reader, writer = make.call
      assert_raises(Errno::EINVAL) { Fid.splice(reader, writer, 10) }
      assert_raises(Errno::EINVAL) { Fid.tee(reader, writer, 10) }
      assert_raises(Errno::EINVAL) { Fid.splice(reader, writer, 10, :nonblock) }
      fill(writer)
      assert_raises(Errno::EINVAL) { Fid.splice(reader, writer, 10) }
      assert_raises(Errno::EINVAL) { Fid.tee(reader, writer, 10) }
      assert_equal capacity(writer), queued(reader).bytesize
    end
  end

  def test_no_pipe_is_einval_at_once
    name = file("bytes")
    source = opened(File.open(name, "rb"))
    assert_raises(Errno::EINVAL) { Fid.splice(source, opened(Tempfile.new), 5) }
    [true, false].each do |nonblock|
      near, = socket_pair
      other, = socket_pair
      near.nonblock = other.nonblock = nonblock
      assert_raises(Errno::EINVAL) { Fid.splice(near, other, 5) }
      assert_raises(Errno::EINVAL) { Fid.tee(near, other, 5) }
      _, sink = pipe
      assert_raises(Errno::EINVAL) { Fid.tee(near, sink, 5) }
      empty, = pipe
      assert_raises(Errno::EINVAL) { Fid.tee(empty, opened(Tempfile.new), 5) }
    end
    assert_raises(Errno::EBADF) { Fid.vmsplice(opened(File.open(name, "wb")), "x") }
    assert_raises(Errno::EBADF) { Fid.vmsplice(socket_pair.first, "x") }
  end

  def test_what_the_kernel_does_not_splice_is_einval_also_from_an_empty_pipe
    empty, = pipe
    filled = full_pipe("kept")
    appended = opened(File.open(file("before"), "ab"))
    device = opened(File.open("/dev/full", "wb"))
    [empty, filled].product([appended, device]) do |source, sink|
      assert_raises(Errno::EINVAL) { Fid.splice(source, sink, 4) }
    end
    _, sink = pipe
    folder = opened(IO.for_fd(IO.sysopen(Dir.tmpdir), "rb"))
    assert_raises(Errno::EINVAL) { Fid.splice(folder, sink, 4) }
    assert_equal "before", File.read(appended.path)
    assert_equal "kept", filled.read
  end

  def test_a_pipe_that_nobody_reads_is_epipe_and_no_byte_is_taken
    each_kind_of_pipe do |make|
      [0, :nonblock].each do |flags|
        reader, sink = make.call
        reader.close
        source = full_pipe("kept")
        error = assert_raises(Errno::EPIPE) { Fid.splice(source, sink, 4, flags) }
        assert_match(/splice/, error.message)
        assert_raises(Errno::EPIPE) { Fid.splice(source, sink, 4, flags, exception: false) }
        assert_raises(Errno::EPIPE) { Fid.tee(source, sink, 4, flags) }
        assert_raises(Errno::EPIPE) { Fid.vmsplice(sink, "x", flags) }
        from = open_file("kept")
        assert_raises(Errno::EPIPE) { Fid.splice(from, sink, 4, flags) }
        assert_equal 0, from.sysseek(0, IO::SEEK_CUR)
        assert_equal "kept", source.read
      end
    end
  end

  def test_errors_name_their_call
    reader, writer = pipe
    { "splice" => -> { Fid.splice(writer, reader, 1) },
      "tee" => -> { Fid.tee(writer, reader, 1) },
      "vmsplice" => -> { Fid.vmsplice(reader, "x") } }.each do |name, call|
      assert_equal "Bad file descriptor - #{name}", assert_raises(Errno::EBADF, &call).message
    end
  end

  def test_an_io_that_is_closed_while_the_other_end_is_looked_up_is_an_io_error
    [open_file("source"), full_pipe("source")].each do |source|
      number = source.fileno
      _, sink = pipe
      other = nil
      closes = Object.new
      closes.define_singleton_method(:to_io) do
        source.close
        other = File.open(__FILE__)
        sink
      end
      assert_raises(IOError) { Fid.splice(source, closes, 4) }
      assert_equal number, opened(other).fileno
      assert_equal 0, other.sysseek(0, IO::SEEK_CUR)
    end
  end

  # ---- Offsets ----

  def test_off_in_is_where_to_begin_and_the_descriptor_stays
    source = open_file("0123456789")
    source.sysseek(2)
    drain, sink = pipe
    offset = 7
    assert_equal 3, Fid.splice(source, sink, 100, off_in: offset)
    assert_equal 2, Fid.splice(source, sink, 2, off_in: 0)
    assert_equal 1, Fid.splice(source, sink, 1, off_in: nil)
    assert_equal "789012", queued(drain)
    assert_equal 3, source.sysseek(0, IO::SEEK_CUR)
    assert_equal 7, offset
  end

  def test_off_in_at_and_after_the_end_is_the_end_of_the_file
    source = open_file("0123456789")
    _, sink = pipe
    assert_raises(EOFError) { Fid.splice(source, sink, 1, off_in: 10) }
    assert_nil Fid.splice(source, sink, 1, off_in: 1 << 40, exception: false)
  end

  def test_off_out_is_where_to_begin_and_the_descriptor_stays
    target = opened(File.open(file("0123456789"), "r+b"))
    target.sysseek(2)
    assert_equal 2, Fid.splice(full_pipe("ab"), target, 2, off_out: 7)
    assert_equal 2, Fid.splice(full_pipe("cd"), target, 2, off_out: 0)
    assert_equal 2, Fid.splice(full_pipe("ef"), target, 2, off_out: 12)
    assert_equal 2, target.sysseek(0, IO::SEEK_CUR)
    assert_equal "cd23456ab9\0\0ef", File.binread(target.path)
  end

  def test_offsets_go_beyond_4_gib
    far = (5 << 30) + 17
    target = opened(File.open(path("sparse"), "w+b"))
    assert_equal 4, Fid.splice(full_pipe("far!"), target, 4, off_out: far)
    assert_equal far + 4, target.size
    drain, sink = pipe
    assert_equal 3, Fid.splice(target, sink, 100, off_in: far + 1)
    assert_equal "ar!", queued(drain)
    target.sysseek(far)
    assert_equal 4, Fid.splice(target, sink, 100)
    assert_equal far + 4, target.sysseek(0, IO::SEEK_CUR)
    assert_equal "far!", queued(drain)
  end

  def test_an_offset_for_a_pipe_is_espipe_also_when_it_is_empty_or_full
    empty, full = pipe
    filled = full_pipe("kept")
    target = opened(Tempfile.new)
    _, sink = pipe
    assert_raises(Errno::ESPIPE) { Fid.splice(empty, target, 1, off_in: 0) }
    assert_raises(Errno::ESPIPE) { Fid.splice(empty, target, 1, :nonblock, off_in: 0) }
    assert_raises(Errno::ESPIPE) { Fid.splice(filled, target, 1, off_in: 0) }
    assert_raises(Errno::ESPIPE) { Fid.splice(filled, sink, 1, off_out: 0) }
    fill(full)
    assert_raises(Errno::ESPIPE) { Fid.splice(open_file("x"), full, 1, off_out: 0) }
    assert_equal "kept", filled.read
  end

  def test_offsets_that_are_none_are_refused
    source = open_file("0123456789")
    _, sink = pipe
    assert_raises(Errno::EINVAL) { Fid.splice(source, sink, 1, off_in: -1) }
    assert_raises(RangeError) { Fid.splice(source, sink, 1, off_in: 1 << 63) }
    assert_raises(TypeError) { Fid.splice(source, sink, 1, off_in: "0") }
    near, far = socket_pair
    far.write "x"
    assert_raises(Errno::EINVAL) { Fid.splice(near, sink, 1, off_in: 0) }
    assert_equal "x", near.readpartial(1)
  end

  # ---- waitall ----

  def test_waitall_goes_on_until_all_has_moved
    bytes = data(300_000)
    drain, sink = pipe
    read = reading(drain)
    assert_equal bytes.bytesize, Fid.splice(open_file(bytes), sink, bytes.bytesize, :waitall)
    sink.close
    assert_equal bytes, read.value
  end

  def test_tee_with_waitall_gives_each_byte_once
    source, feed = pipe
    feed.write "once"
    drain, sink = pipe
    assert_equal 4, Fid.tee(source, sink, 1000, :waitall)
    assert_equal "once", queued(drain)
  end

  # ---- Constants ----

  def test_constants_have_the_values_of_the_kernel
    assert_equal [1, 2, 4, 8], [Fid::F_MOVE, Fid::F_NONBLOCK, Fid::F_MORE, Fid::F_GIFT]
    assert_equal [1031, 1032], [Fid::F_SETPIPE_SZ, Fid::F_GETPIPE_SZ]
    assert_equal 4096, Fid::PIPE_BUF
    assert_equal 0, Fid::WAITALL & (Fid::F_MOVE | Fid::F_NONBLOCK | Fid::F_MORE | Fid::F_GIFT)
  end
end

# What a call waits for, and that nobody else waits meanwhile.
class WaitingCallsTest < CallsTestCase
  # Of <linux/net_tstamp.h>, and an option that Ruby has no name for.
  SO_TIMESTAMPING = 37
  TX_SOFTWARE = 1 << 1
  SOFTWARE = 1 << 4

  def test_splice_waits_for_an_empty_pipe_whatever_its_descriptor_says
    each_kind_of_pipe do |make|
      source, feed = make.call
      [pipe[1], opened(Tempfile.new), socket_pair[0]].each do |sink|
        moved = waiting { Fid.splice(source, sink, 10) }
        feed.write "late"
        assert_equal 4, moved.value
      end
    end
  end

  def test_splice_waits_for_a_full_pipe_whatever_its_descriptor_says
    each_kind_of_pipe do |make|
      [full_pipe("late"), open_file("late")].each do |source|
        drain, sink = make.call
        filled = fill(sink)
        moved = waiting { Fid.splice(source, sink, 4) }
        drain.readpartial(filled)
        assert_equal 4, moved.value
        assert_equal "late", queued(drain)
      end
    end
  end

  def test_tee_waits_for_both_its_pipes
    each_kind_of_pipe do |make|
      source, feed = make.call
      drain, sink = make.call
      filled = fill(sink)
      given = waiting { Fid.tee(source, sink, 10) }
      feed.write "late"
      wait_until_it_sleeps(given)
      drain.readpartial(filled)
      assert_equal 4, given.value
      assert_equal "late", queued(drain)
      assert_equal "late", queued(source)
    end
  end

  def test_splice_waits_for_both_ends_one_after_the_other
    each_kind_of_pipe do |make|
      source, feed = make.call
      drain, sink = make.call
      filled = fill(sink)
      moved = waiting { Fid.splice(source, sink, 10) }
      drain.readpartial(filled)
      wait_until_it_sleeps(moved)
      assert moved.alive?
      feed.write "late"
      assert_equal 4, moved.value
      assert_equal "late", queued(drain)
    end
  end

  def test_splice_waits_for_a_socket_without_o_nonblock
    [socket_pair, tcp_pair].each do |near, far|
      near.nonblock = false
      drain, sink = pipe
      moved = waiting { Fid.splice(near, sink, 10) }
      far.write "late"
      assert_equal 4, moved.value
      assert_equal "late", queued(drain)
    end
  end

  def test_splice_waits_for_room_in_a_socket_without_o_nonblock
    [socket_pair, tcp_pair].each do |near, far|
      stuffed = stuff(near)
      near.nonblock = false
      source = full_pipe("late")
      moved = waiting { Fid.splice(source, near, 4) }
      far.read(stuffed)
      assert_equal 4, moved.value
      assert_equal "late", far.readpartial(10)
    end
  end

  def test_a_socket_with_o_nonblock_that_only_seems_to_be_ready_is_eagain
    near, far = tcp_pair
    put_news_in_the_error_queue(near, far)
    near.nonblock = true
    drain, sink = pipe
    [0, :nonblock].each do |flags|
      assert_equal :EAGAIN, Fid.splice(near, sink, 4, flags, exception: false)
    end
    far.write "here"
    eventually { Fid.splice(near, sink, 4, exception: false) == 4 }
    assert_equal "here", queued(drain)
  end

  def test_a_pipe_is_waited_for_although_the_socket_has_o_nonblock
    near, far = socket_pair
    near.nonblock = true
    source, feed = pipe
    moved = waiting { Fid.splice(source, near, 10) }
    feed.write "late"
    assert_equal 4, moved.value
    drain, sink = pipe
    filled = fill(sink)
    far.write "later"
    moved = waiting { Fid.splice(near, sink, 10) }
    drain.readpartial(filled)
    assert_equal 5, moved.value
  end

  def test_a_waiting_call_sees_the_end_of_the_file
    source, feed = pipe
    _, sink = pipe
    spliced = waiting { Fid.splice(source, sink, 10) }
    teed = waiting { Fid.tee(source, sink, 10, exception: false) }
    feed.close
    assert_raises(EOFError) { spliced.value }
    assert_nil teed.value
  end

  def test_a_waiting_call_sees_that_its_reader_has_gone
    drain, sink = pipe
    fill(sink)
    source = full_pipe("kept")
    calls = [-> { Fid.splice(source, sink, 10) }, -> { Fid.tee(source, sink, 10) },
             -> { Fid.vmsplice(sink, "x") }].map { |call| waiting(&call) }
    drain.close
    calls.each { |call| assert_raises(Errno::EPIPE) { call.value } }
    assert_equal "kept", source.read
  end

  def test_others_run_while_a_call_waits
    source, feed = pipe
    _, sink = pipe
    rounds = 0
    thread do
      # Many time slices, none of which the call that waits may take.
      1000.times do
        rounds += 1
        Thread.pass
      end
      feed.write "x"
    end
    assert_equal 1, Fid.splice(source, sink, 10)
    assert_equal 1000, rounds
  end

  def test_calls_of_many_threads_at_once_lose_and_double_nothing
    pairs = Array.new(6) do |number|
      bytes = Random.new(number).bytes(200_000)
      drain, sink = pipe(nonblock: number.odd?)
      source = open_file(bytes)
      copied = thread do
        total = 0
        while (moved = Fid.splice(source, sink, 10_000, exception: false))
          total += moved
        end
        sink.close
        total
      end
      [bytes, reading(drain), copied]
    end
    pairs.each do |bytes, read, copied|
      assert_equal bytes.bytesize, copied.value
      assert_equal bytes, read.value
    end
  end

  def test_two_readers_of_one_pipe_share_it
    source, feed = pipe
    drain, sink = pipe
    calls = Array.new(2) { waiting { Fid.splice(source, sink, 1) } }
    feed.write "a"
    eventually("the first") { calls.any? { |call| !call.alive? } }
    feed.write "b"
    assert_equal [1, 1], calls.map(&:value)
    assert_equal "ab", queued(drain)
  end

  def test_a_number_that_another_thread_takes_while_a_call_begins_is_not_written_to
    300.times do |round|
      source, feed = pipe
      _, sink = pipe
      number = sink.fileno
      moved = thread { Fid.splice(source, sink, 10) }
      # At once, and not a moment later: the call is still on its way to sleep.
      Thread.pass until moved.stop?
      sink.close
      other = opened(File.open(path("other"), "wb"))
      assert_equal number, other.fileno, "nobody else opens anything here"
      feed.write "not yours"
      assert_raises(IOError, "round #{round}") { moved.value }
      assert_equal 0, other.size
      assert_equal "not yours", queued(source)
      [source, feed, other].each(&:close)
    end
  end

  def test_a_source_that_is_closed_while_the_sink_is_flushed_is_an_io_error
    source = full_pipe("source")
    drain, sink = pipe
    filled = fill(sink)
    sink.sync = false
    sink.write "buffered"
    number = source.fileno
    moved = waiting { Fid.splice(source, sink, 4) }
    source.close
    other = full_pipe("not yours")
    assert_equal number, other.fileno
    drain.readpartial(filled)
    assert_raises(IOError) { moved.value }
    assert_equal "buffered", queued(drain)
    assert_equal "not yours", queued(other)
  end

  def test_a_call_that_would_never_end_is_left_by_timeout
    cat = opened(IO.popen(["cat"], "wb", out: File::NULL))
    [File.open("/dev/zero"), IO.popen(["cat", "/dev/zero"], "rb")].each do |source|
      opened(source)
      assert_raises(Timeout::Error) do
        Timeout.timeout(0.1) { Fid.splice(source, cat, 1 << 60, :waitall) }
      end
    end
  end

  # A splice that sleeps in the kernel has the pipe's lock, and who wants that lock meanwhile
  # waits for it without letting Ruby run: nothing but SIGKILL ends such a process. Hence a
  # process of its own for these two.

  def test_a_pipe_is_free_for_others_while_a_call_waits_for_a_socket
    each_kind_of_socket_and_flag do |near, far, flags|
      drain, sink = pipe
      moved = thread { Fid.splice(near, sink, 4, flags, exception: false) }
      wait_until_its_kernel_thread_sleeps(moved)
      assert_equal 4, sink.write_nonblock("mine")
      assert_equal "mine", queued(drain)
      far.write "late"
      assert_includes [4, :EAGAIN], moved.value
    end
  end

  def test_a_socket_that_only_seems_to_be_ready_is_waited_for
    [0, :nonblock].each do |flags|
      in_a_process_that_may_freeze do
        near, far = tcp_pair
        put_news_in_the_error_queue(near, far)
        near.nonblock = false
        drain, sink = pipe
        moved = thread { Fid.splice(near, sink, 4, flags, exception: false) }
        wait_until_its_kernel_thread_sleeps(moved)
        assert_equal 4, sink.write_nonblock("mine")
        assert_equal "mine", queued(drain)
        far.write "late"
        assert_includes [4, :EAGAIN], moved.value
      end
    end
  end

  def test_a_pipe_is_free_for_others_while_a_call_fills_a_socket
    each_kind_of_socket_and_flag do |near, far, flags|
      source, feed = pipe
      feed.fcntl(Fid::F_SETPIPE_SZ, 1 << 20)
      bytes = data((1 << 20) - 10)
      feed.write bytes
      near.setsockopt(:SOCKET, :SNDBUF, 4 * PAGE)
      near.nonblock = false
      copied = thread { move_all(source, near, flags) }
      wait_until_its_kernel_thread_sleeps(copied)
      # Its last page has room for that.
      assert_equal 4, feed.write_nonblock("mine")
      feed.close
      read = reading(far)
      assert_equal bytes.bytesize + 4, copied.value
      near.close
      assert_equal "#{bytes}mine".b, read.value
    end
  end

  private

  # poll calls it readable for ever, and there is nothing to read.
  def put_news_in_the_error_queue(near, far)
    near.setsockopt(:SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | SOFTWARE)
    near.write "x"
    far.read 1
    assert near.wait_readable(LONG)
    assert_equal :wait_readable, near.recv_nonblock(1, exception: false)
  end

  def each_kind_of_socket_and_flag
    [method(:socket_pair), method(:tcp_pair)].product([0, :nonblock]) do |make, flags|
      in_a_process_that_may_freeze do
        near, far = make.call
        near.nonblock = false
        yield near, far, flags
      end
    end
  end

  def in_a_process_that_may_freeze
    pid = fork do
      yield
      exit! 0
    rescue Exception => error
      Tap.remark "in the child: #{error.full_message(highlight: false)}"
      exit! 1
    end
    _, status = eventually("the child's end") { Process.wait2(pid, Process::WNOHANG) }
    pid = nil
    assert status.success?, "the child: #{status.inspect}"
  ensure
    if pid
      Process.kill(:KILL, pid)
      Process.wait(pid)
    end
  end

  # Neither on its way into the call nor on its way out.
  def wait_until_its_kernel_thread_sleeps(thread)
    eventually("the kernel thread's sleep") do
      stat = "/proc/self/task/#{thread.native_thread_id}/stat"
      thread.stop? && File.read(stat)[/\) (.)/, 1] == "S" && thread.stop?
    end
  end

  def move_all(source, sink, flags)
    total = 0
    while (moved = Fid.splice(source, sink, 1 << 20, flags, exception: false))
      moved == :EAGAIN ? sink.wait_writable : total += moved
    end
    total
  end
end

# Ruby's own buffers.
class BufferedCallsTest < CallsTestCase
  def test_a_source_from_which_ruby_has_read_ahead_is_refused_and_nothing_is_lost
    text = "line\nrest"
    [full_pipe(text), open_file(text), written_socket(text)].each do |source|
      drain, sink = pipe
      assert_equal "line\n", source.gets
      [0, :nonblock, :waitall].each do |flags|
        error = assert_raises(IOError) { Fid.splice(source, sink, 4, flags) }
        assert_match(/read ahead/, error.message)
        assert_match(source.class.name, error.message)
      end
      assert_raises(IOError) { Fid.splice(source, sink, 4, exception: false) }
      assert_raises(IOError) { Fid.tee(source, sink, 4) }
      assert_equal "", queued(drain)
      assert_equal "rest", source.readpartial(100)
    end
  end

  def test_a_source_goes_on_once_what_was_read_ahead_has_been_read
    source, feed = pipe
    feed.write "line\nrest"
    drain, sink = pipe
    source.gets
    source.read_nonblock(100)
    feed.write "spliced"
    assert_equal 7, Fid.splice(source, sink, 100)
    assert_equal "spliced", queued(drain)
  end

  def test_one_character_that_was_put_back_is_not_left_out
    source = full_pipe("bcd")
    source.ungetbyte("a")
    _, sink = pipe
    assert_raises(IOError) { Fid.splice(source, sink, 4) }
    assert_equal "abcd", source.read
  end

  def test_with_an_offset_what_was_read_ahead_does_not_matter
    source = open_file("line\nrest")
    source.gets
    drain, sink = pipe
    assert_equal 4, Fid.splice(source, sink, 100, off_in: 5)
    assert_equal "rest", queued(drain)
    assert_equal "rest", source.read
  end

  def test_what_ruby_has_to_write_to_the_sink_comes_first
    target = opened(File.open(path("out"), "wb"))
    target.write "head "
    assert_equal 4, Fid.splice(full_pipe("tail"), target, 10)
    assert_equal "head tail", File.read(target.path)
    drain, sink = pipe
    sink.sync = false
    sink.write "1"
    Fid.splice(full_pipe("2"), sink, 10)
    sink.write "3"
    Fid.tee(full_pipe("4"), sink, 10)
    sink.write "5"
    Fid.vmsplice(sink, "6")
    sink.write "7"
    sink.flush
    assert_equal "1234567", queued(drain)
  end

  def test_what_ruby_has_to_write_to_the_source_is_there_to_be_read
    both = opened(File.open(path("both"), "w+b"))
    both.write "written"
    drain, sink = pipe
    assert_equal 7, Fid.splice(both, sink, 100, off_in: 0)
    assert_equal "written", queued(drain)
  end

  def test_a_file_that_was_read_is_written_where_reading_had_come_to
    both = opened(File.open(file("line\n.......\n"), "r+b"))
    both.gets
    assert_equal 7, Fid.splice(full_pipe("spliced"), both, 10)
    assert_equal "line\nspliced\n", File.read(both.path)
  end

  def test_encodings_and_line_ends_are_not_looked_at
    bytes = (0..255).map(&:chr).join.b + "\r\n\xEF\xBB\xBF".b
    source = opened(File.open(file(bytes), "rb:utf-16le:utf-8"))
    target = opened(File.open(path("out"), "w:utf-16le"))
    drain, sink = pipe
    assert_equal bytes.bytesize, Fid.splice(source, sink, 1000)
    assert_equal bytes.bytesize, Fid.splice(drain, target, 1000)
    assert_equal bytes, File.binread(target.path)
  end

  private

  def written_socket(bytes)
    near, far = socket_pair
    far.write bytes
    near
  end
end

# Strings into a pipe.
class VmspliceTest < CallsTestCase
  def test_vmsplice_writes_a_string_or_all_strings_of_an_array_in_order
    drain, sink = pipe
    assert_equal 3, Fid.vmsplice(sink, "abc")
    assert_equal 6, Fid.vmsplice(sink, ["de", "f", "ghi"])
    assert_equal 5, Fid.vmsplice(sink, ["", "jk", "", "", "lmn", ""])
    assert_equal "abcdefghijklmn", queued(drain)
  end

  def test_vmsplice_of_nothing_is_0_and_waits_for_nothing
    each_kind_of_pipe do |make|
      _, sink = make.call
      fill(sink)
      [0, :nonblock].each do |flags|
        [[], "", [""], Array.new(3000, "")].each do |nothing|
          assert_equal 0, Fid.vmsplice(sink, nothing, flags)
        end
      end
    end
  end

  def test_vmsplice_takes_more_strings_than_the_kernel_takes_at_once
    strings = Array.new(5000) { |number| number.to_s.ljust(number % 29, ".") }
    each_kind_of_pipe do |make|
      drain, sink = make.call
      read = reading(drain)
      assert_equal strings.sum(&:bytesize), Fid.vmsplice(sink, strings)
      sink.close
      assert_equal strings.join, read.value
    end
  end

  def test_vmsplice_waits_until_all_is_in_the_pipe
    bytes = data(1_000_003)
    each_kind_of_pipe do |make|
      drain, sink = make.call
      written = waiting { Fid.vmsplice(sink, [bytes, "and", "more"]) }
      read = reading(drain)
      assert_equal bytes.bytesize + 7, written.value
      sink.close
      assert_equal "#{bytes}andmore".b, read.value
    end
  end

  def test_vmsplice_with_nonblock_writes_what_fits_on_both_kinds_of_pipe
    bytes = data(300_000)
    each_kind_of_pipe do |make|
      [[bytes], [bytes.byteslice(0, 100_001), "", bytes.byteslice(100_001..)],
       bytes.scan(/.{1,97}/mn)].each do |strings|
        drain, sink = make.call
        written = Fid.vmsplice(sink, strings, :nonblock)
        assert_includes 1..capacity(sink), written
        assert_equal bytes.byteslice(0, written), queued(drain)
      end
    end
  end

  def test_vmsplice_with_nonblock_into_a_full_pipe_is_eagain
    each_kind_of_pipe do |make|
      drain, sink = make.call
      filled = fill(sink)
      assert_raises(Errno::EAGAIN) { Fid.vmsplice(sink, "x", :nonblock) }
      assert_equal :EAGAIN, Fid.vmsplice(sink, ["", "x"], Fid::F_NONBLOCK, exception: false)
      assert_equal filled, queued(drain).bytesize
    end
  end

  def test_a_string_may_be_changed_as_soon_as_vmsplice_returns
    [7, 23, 24, 4096, 50_000].product([:gift, 0, :nonblock]) do |size, flags|
      string = "o" * size
      drain, sink = pipe
      assert_equal size, Fid.vmsplice(sink, string, flags)
      size.times { |at| string.setbyte(at, 0x6e) }
      string << "n"
      string.clear
      assert_equal "o" * size, queued(drain)
    end
  end

  def test_the_memory_of_a_string_that_is_gone_may_be_used_again_before_the_reader_reads
    drain, sink = pipe
    Fid.vmsplice(sink, Array.new(10) { "o" * PAGE }, :gift)
    GC.start
    others = Array.new(200) { "n" * PAGE }
    assert_equal "o" * (10 * PAGE), queued(drain)
    assert_equal 200, others.size
  end

  def test_a_string_may_be_changed_while_vmsplice_waits
    each_kind_of_pipe do |make|
      drain, sink = make.call
      filled = fill(sink)
      strings = ["o" * 100_000, "o" * 10, +"oo"]
      written = waiting { Fid.vmsplice(sink, strings) }
      strings.each { |string| string.setbyte(0, 0x6e) }
      strings[0].replace("n" * 200_000)
      strings[1] << "n"
      strings[2].clear
      strings.clear
      drain.read(filled)
      read = reading(drain)
      assert_equal 100_012, written.value
      sink.close
      assert_equal "o" * 100_012, read.value
    end
  end

  def test_strings_of_every_kind_keep_their_bytes
    whole = data(10_000)
    kinds = ["frozen and embedded", +"embedded", whole, whole.dup, whole.byteslice(1, 9000),
             whole.byteslice(9000, 1000), "\u00e4\u{1f600}", "\0" * 50, :symbol.name,
             Class.new(String).new("own"), "a,b".split(",")[1], "x".encode("utf-32le")]
    drain, sink = pipe
    expected = kinds.map(&:b).join
    assert_equal expected.bytesize, Fid.vmsplice(sink, kinds)
    assert_equal expected, queued(drain)
  end

  def test_what_has_to_str_and_to_ary_is_taken
    text = Object.new
    def text.to_str = "text"
    list = Object.new
    def list.to_ary = %w[li st]
    drain, sink = pipe
    assert_equal 4, Fid.vmsplice(sink, text)
    assert_equal 6, Fid.vmsplice(sink, [text, "ual"].take(1) + ["ed"])
    assert_equal 4, Fid.vmsplice(sink, list)
    assert_equal "texttextedlist", queued(drain)
  end

  def test_what_is_no_string_is_a_type_error_and_nothing_is_written
    drain, sink = pipe
    [nil, 5, :sym, ["x", nil], ["x", 5], ["x", ["y"]], {}].each do |wrong|
      assert_raises(TypeError, wrong.inspect) { Fid.vmsplice(sink, wrong) }
    end
    assert_equal "", queued(drain)
  end

  def test_a_to_str_that_shortens_the_array_is_a_type_error_and_nothing_is_written
    drain, sink = pipe
    list = []
    shrinks = Object.new
    shrinks.define_singleton_method(:to_str) do
      list.clear
      GC.start
      "shrunk"
    end
    list.push(shrinks, *Array.new(1000) { |number| number.to_s })
    assert_raises(TypeError) { Fid.vmsplice(sink, list) }
    assert_equal "", queued(drain)
  end

  def test_strings_do_not_move_or_go_while_vmsplice_waits
    drain, sink = pipe
    filled = fill(sink)
    strings = Array.new(4000) { |number| "embedded #{number}" }
    expected = strings.join
    written = waiting { Fid.vmsplice(sink, strings) }
    strings.clear
    # Holes to move to, and others that take the places of what is not held.
    kept = Array.new(60_000) { |number| "other #{number}" }
    kept.select!.with_index { |_, number| number.odd? }
    3.times do
      GC.start
      GC.compact
      kept.concat(Array.new(20_000) { |number| "another #{number}" })
    end
    move_all_objects
    kept.concat(Array.new(20_000) { |number| "and another #{number}" })
    drain.read(filled)
    read = reading(drain)
    assert_equal expected.bytesize, written.value
    sink.close
    assert_equal expected, read.value
  end

  # What can move moves, and leaves a trap behind.
  def move_all_objects
    GC.verify_compaction_references(expand_heap: true, toward: :empty)
  rescue ArgumentError
    # The name that the keyword had before Ruby 3.2.
    GC.verify_compaction_references(double_heap: true, toward: :empty)
  end

  def test_vmsplice_that_meets_a_gone_reader_half_way_tells_how_much_went_in
    [true, false].each do |nonblock|
      drain, sink = pipe(nonblock: nonblock)
      size = capacity(sink)
      written = waiting { Fid.vmsplice(sink, "x" * (3 * size)) }
      eventually("a full pipe") { bytes_in(drain) == size }
      drain.close
      error = assert_raises(Errno::EPIPE) { written.value }
      assert_match(/vmsplice, after #{size} bytes/, error.message)
    end
  end

  def test_interrupted_vmsplice_writes_each_byte_once
    bytes = data(500_000)
    each_kind_of_pipe do |make|
      drain, sink = make.call
      main = Thread.current
      signals = 0
      before = trap(:USR1) { signals += 1 }
      begin
        read = thread do
          got = +"".b
          10.times do |number|
            wait_until_it_sleeps(main)
            Process.kill(:USR1, Process.pid)
            eventually("the signal") { signals > number }
            wait_until_it_sleeps(main)
            got << drain.readpartial(5000)
          end
          got << drain.read
        end
        assert_equal bytes.bytesize, Fid.vmsplice(sink, bytes.scan(/.{1,30000}/mn))
      ensure
        trap(:USR1, before)
      end
      sink.close
      assert_equal bytes, read.value
      assert_equal 10, signals
    end
  end
end

# Everything once more while the garbage collector runs at each allocation.
class StressedCallsTest < CallsTestCase
  def test_calls_survive_a_garbage_collection_at_every_allocation
    drain, sink = pipe
    source = open_file("0123456789")
    empty, = pipe
    results = stressed do
      [
        Fid.splice(HasIO.new(source), HasIO.new(sink), 4, %i[more move], off_in: 2),
        Fid.tee(full_pipe("tee"), sink, 10, [:nonblock], exception: false),
        Fid.vmsplice(sink, ["a" * 3, "b" * 100, "c".dup]),
        Fid.splice(empty, sink, 4, :nonblock, exception: false),
        (Fid.splice(full_pipe(""), sink, 4) rescue $!.class),
        (Fid.splice(empty, sink, 4, :nonblock) rescue $!.class),
        (Fid.splice(sink, empty, 4) rescue $!.class),
        (Fid.vmsplice(sink, ["x", nil]) rescue $!.class),
        (Fid.splice(empty, sink, 4, :wrong) rescue $!.class),
      ]
    end
    assert_equal [4, 3, 104, :EAGAIN, EOFError, Errno::EAGAIN, Errno::EBADF, TypeError,
                  ArgumentError], results
    assert_equal "2345teeaaa#{"b" * 100}c", queued(drain)
  end

  def test_a_call_that_waits_survives_garbage_collections
    source, feed = pipe
    drain, sink = pipe
    moved = waiting { Fid.splice(HasIO.new(source), HasIO.new(sink), 10) }
    10.times { GC.start }
    GC.compact
    feed.write "late"
    assert_equal 4, moved.value
    assert_equal "late", queued(drain)
  end

  private

  def stressed
    GC.stress = true
    yield
  ensure
    GC.stress = false
  end
end
