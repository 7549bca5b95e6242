# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# What a program written for io_splice 4.4.2 relies on, name by name: arguments, returns,
# exceptions, offsets, signals, threads and closing. The last class makes the same random calls
# on IO.splice and IO.tee and on the bare calls of the C library, and compares everything.

require_relative "support"
require "io/splice"
require "pathname"
require "stringio"
require "tempfile"
require "timeout"

# That what is deprecated says so is tested in programs of their own.
begin
  stderr, $stderr = $stderr, StringIO.new
  Fid::IOCalls.warn_of_deprecated
ensure
  $stderr = stderr
end

# What the tests of the drop-in share.
class IoSpliceTestCase < FidTest
  PAGE = 4096
  NONBLOCK = IO::Splice::F_NONBLOCK
  WAITALL = IO::Splice::WAITALL

  # Writes each piece only when the thread has come to sleep for it.
  def feeding(writer, pieces, sleeper)
    thread do
      pieces.each do |piece|
        wait_until_it_sleeps(sleeper)
        writer.write piece
      end
      writer
    end
  end
end

# IO.splice and IO.trysplice.
class IoSpliceTest < IoSpliceTestCase
  def test_splice_returns_the_bytes_that_it_moved
    drain, sink = pipe
    source = open_file("0123456789")
    assert_equal 4, IO.splice(source, nil, sink, nil, 4)
    assert_equal 6, IO.splice(source, nil, sink, nil, 4096)
    assert_equal "0123456789", queued(drain)
    target = opened(Tempfile.new)
    assert_equal 5, IO.splice(full_pipe("bytes"), nil, target, nil, 4096)
    assert_equal "bytes", File.read(target.path)
  end

  def test_trysplice_returns_the_bytes_that_it_moved
    drain, sink = pipe
    assert_equal 4, IO.trysplice(open_file("0123456789"), nil, sink, nil, 4)
    assert_equal 5, IO.trysplice(full_pipe("bytes"), nil, sink, nil, 4096, IO::Splice::F_MORE)
    assert_equal "0123bytes", queued(drain)
  end

  def test_splice_moves_part_of_what_was_asked_for_when_there_is_no_more
    bytes = data(3 * PAGE)
    drain, sink = pipe
    sink.pipe_size = PAGE
    source = open_file(bytes)
    assert_equal PAGE, IO.splice(source, nil, sink, nil, IO::Splice::MAX_AT_ONCE)
    assert_equal PAGE, source.sysseek(0, IO::SEEK_CUR)
    assert_equal bytes.byteslice(0, PAGE), queued(drain)
  end

  def test_ends_are_numbers_ios_and_whatever_has_to_io
    wrapped = Struct.new(:to_io)
    [:itself.to_proc, :fileno.to_proc, wrapped.method(:new)].each do |as|
      drain, sink = pipe
      source = full_pipe("0123456789")
      assert_equal 2, IO.tee(as.call(source), as.call(sink), 2)
      assert_equal 2, IO.trytee(as.call(source), as.call(sink), 2)
      assert_equal 3, IO.splice(as.call(source), nil, as.call(sink), nil, 3)
      assert_equal 3, IO.trysplice(as.call(source), nil, as.call(sink), nil, 3)
      assert_equal 2, IO::Splice.partial(as.call(source), as.call(sink), 2, nil)
      assert_equal 1, IO::Splice.full(as.call(source), as.call(sink), 1, nil)
      assert_equal 1, IO::Splice.copy_stream(as.call(source), as.call(sink))
      assert_equal 3, IO.vmsplice(as.call(sink), "end")
      assert_equal "01010123456789end", queued(drain)
    end
  end

  def test_a_tempfile_is_a_source_and_a_sink
    both = opened(Tempfile.new)
    assert_equal 5, IO.splice(full_pipe("bytes"), nil, both, nil, 10)
    drain, sink = pipe
    assert_equal 5, IO.splice(both, 0, sink, nil, 10)
    assert_equal "bytes", queued(drain)
  end

  def test_a_process_opened_for_both_is_a_sink_and_a_source
    cat = opened(IO.popen("cat", "r+b"))
    assert_equal 4, IO.splice(full_pipe("miau"), nil, cat, nil, 10)
    assert_equal 1, IO.vmsplice(cat, ["!"])
    assert_operator cat.pipe_size, :>=, PAGE
    cat.close_write
    target = opened(Tempfile.new)
    assert_equal 5, IO.splice(cat, nil, target, nil, 5, WAITALL)
    assert_raises(EOFError) { IO.splice(cat, nil, target, nil, 5) }
    assert_nil IO.trysplice(cat, nil, target, nil, 5)
    assert_equal "miau!", File.read(target.path)
  end

  def test_the_methods_are_there_for_subclasses_of_io
    drain, sink = pipe
    assert_equal 1, File.splice(open_file("a"), nil, sink, nil, 1)
    assert_equal 1, UNIXSocket.trysplice(open_file("b"), nil, sink, nil, 1)
    assert_equal "ab", queued(drain)
  end

  # ---- The end of the file ----

  def test_splice_raises_eof_error_at_the_end_and_trysplice_returns_nil
    near, far = socket_pair
    far.close
    _, sink = pipe
    target = opened(Tempfile.new)
    [[open_file(""), sink], [near, sink], [full_pipe(""), sink],
     [full_pipe(""), target]].each do |source, into|
      error = assert_raises(EOFError) { IO.splice(source, nil, into, nil, 10) }
      assert_equal "end of file reached", error.message
      assert_raises(EOFError) { IO.splice(source, nil, into, nil, 10, NONBLOCK) }
      assert_nil IO.trysplice(source, nil, into, nil, 10)
      assert_nil IO.splice(source, nil, into, nil, 10, exception: false)
    end
    assert_raises(EOFError) { IO.splice(open_file("abc"), 3, sink, nil, 10) }
    assert_nil IO.trysplice(open_file("abc"), 4, sink, nil, 10)
  end

  def test_what_is_left_comes_before_the_end
    source = full_pipe("left")
    _, sink = pipe
    assert_equal 3, IO.trysplice(source, nil, sink, nil, 3)
    assert_equal 1, IO.trysplice(source, nil, sink, nil, 3)
    assert_nil IO.trysplice(source, nil, sink, nil, 3)
  end

  # ---- Would block ----

  def test_f_nonblock_of_an_empty_or_full_pipe_is_eagain_and_trysplice_says_so
    each_kind_of_pipe do |make|
      source, = make.call
      drain, sink = make.call
      target = opened(Tempfile.new)
      assert_raises(Errno::EAGAIN) { IO.splice(source, nil, target, nil, 5, NONBLOCK) }
      assert_raises(Errno::EAGAIN) { IO.splice(source, nil, target, 0, 5, NONBLOCK) }
      assert_equal :EAGAIN, IO.trysplice(source, nil, target, nil, 5)
      assert_equal :EAGAIN, IO.trysplice(source, nil, target, 0, 5, IO::Splice::F_MORE)
      assert_equal :EAGAIN, IO.splice(source, nil, target, nil, 5, NONBLOCK, exception: false)
      assert_equal :EAGAIN, IO.splice(source, nil, target, nil, 5, :nonblock, exception: false)
      filled = fill(sink)
      file = open_file("kept")
      assert_raises(Errno::EAGAIN) { IO.splice(file, nil, sink, nil, 5, NONBLOCK) }
      assert_equal :EAGAIN, IO.trysplice(file, nil, sink, nil, 5)
      assert_equal 0, file.sysseek(0, IO::SEEK_CUR)
      assert_equal filled, queued(drain).bytesize
    end
  end

  def test_errno_eagain_is_what_programs_rescue_as_would_block
    source, = pipe
    _, sink = pipe
    assert_raises(Errno::EWOULDBLOCK) { IO.splice(source, nil, sink, nil, 5, NONBLOCK) }
  end

  def test_without_f_nonblock_splice_waits_for_a_pipe_that_has_o_nonblock
    each_kind_of_pipe do |make|
      source, feed = make.call
      drain, sink = make.call
      filled = fill(sink)
      moved = waiting { IO.splice(source, nil, sink, nil, 10) }
      feed.write "late"
      drain.readpartial(filled)
      assert_equal 4, moved.value
      assert_equal "late", queued(drain)
    end
  end

  def test_a_socket_with_o_nonblock_is_eagain_without_f_nonblock_too
    near, = socket_pair
    near.nonblock = true
    _, sink = pipe
    assert_raises(Errno::EAGAIN) { IO.splice(near, nil, sink, nil, 10) }
    assert_equal :EAGAIN, IO.trysplice(near, nil, sink, nil, 10)
    stuff(near)
    source = full_pipe("kept")
    assert_raises(Errno::EAGAIN) { IO.splice(source, nil, near, nil, 10) }
    assert_equal :EAGAIN, IO.trysplice(source, nil, near, nil, 10)
    assert_equal "kept", source.read
  end

  def test_a_socket_without_o_nonblock_is_waited_for
    near, far = tcp_pair
    near.nonblock = false
    drain, sink = pipe
    moved = waiting { IO.splice(near, nil, sink, nil, 10) }
    far.write "late"
    assert_equal 4, moved.value
    assert_equal "late", queued(drain)
  end

  def test_a_loop_of_trysplice_and_select_moves_everything
    bytes = data(500_000)
    near, far = tcp_pair
    write = thread { far.write(bytes).tap { far.close } }
    drain, sink = pipe
    near.nonblock = true
    target = opened(Tempfile.new(binmode: true))
    held = 0
    loop do
      case got = IO.trysplice(near, nil, sink, nil, IO::Splice::PIPE_CAPA)
      when Integer then held += got
      when :EAGAIN then near.wait_readable if held.zero?
      when nil then break if held.zero?
      end
      case got = IO.trysplice(drain, nil, target, nil, held)
      when Integer then held -= got
      end
    end
    assert_equal bytes.bytesize, write.value
    assert_equal bytes, File.binread(target.path)
  end

  # ---- Offsets ----

  def test_an_offset_says_where_to_begin_and_neither_it_nor_the_descriptor_changes
    source = open_file("0123456789")
    source.sysseek(1)
    drain, sink = pipe
    offset = 6
    assert_equal 4, IO.splice(source, offset, sink, nil, 100)
    assert_equal 2, IO.trysplice(source, 0, sink, nil, 2)
    assert_equal 2, IO.splice(source, nil, sink, nil, 2)
    assert_equal "67890112", queued(drain)
    assert_equal [6, 3], [offset, source.sysseek(0, IO::SEEK_CUR)]
    target = opened(File.open(file("0123456789"), "r+b"))
    target.sysseek(1)
    assert_equal 2, IO.splice(full_pipe("ab"), nil, target, 8, 2)
    assert_equal 2, IO.trysplice(full_pipe("cd"), nil, target, 0, 2)
    assert_equal 2, IO.splice(full_pipe("ef"), nil, target, nil, 2)
    assert_equal 3, target.sysseek(0, IO::SEEK_CUR)
    assert_equal "cef34567ab", File.binread(target.path)
  end

  def test_offsets_go_beyond_4_gib_on_sparse_files
    far = (6 << 30) + 3
    target = opened(File.open(path("sparse"), "w+b"))
    bytes = data(2 * PAGE)
    assert_equal bytes.bytesize, IO.splice(full_pipe(bytes), nil, target, far, bytes.bytesize)
    assert_equal [0, far + bytes.bytesize], [target.sysseek(0, IO::SEEK_CUR), target.size]
    drain, sink = pipe
    assert_equal 100, IO.splice(target, far + 50, sink, nil, 100)
    assert_equal bytes.byteslice(50, 100), queued(drain)
    assert_equal bytes.bytesize, IO::Splice.full(target, sink, bytes.bytesize, far)
    assert_equal bytes, queued(drain)
    assert_equal bytes.bytesize - 1, IO::Splice.copy_stream(target, sink, nil, far + 1)
    assert_equal bytes.byteslice(1..), queued(drain)
  end

  def test_an_offset_for_a_pipe_is_espipe
    empty, = pipe
    _, sink = pipe
    target = opened(Tempfile.new)
    [empty, full_pipe("kept")].each do |source|
      assert_raises(Errno::ESPIPE) { IO.splice(source, 0, target, nil, 4) }
      assert_raises(Errno::ESPIPE) { IO.splice(source, 1, sink, nil, 4) }
      assert_raises(Errno::ESPIPE) { IO.splice(source, nil, sink, 0, 4) }
      assert_raises(Errno::ESPIPE) { IO.trysplice(source, 0, target, nil, 4) }
      assert_raises(Errno::ESPIPE) { IO::Splice.partial(source, target, 4, 0) }
      assert_raises(Errno::ESPIPE) { IO::Splice.full(source, target, 4, 0) }
    end
    assert_raises(Errno::ESPIPE) { IO.splice(open_file("x"), nil, sink, 0, 4) }
  end

  # ---- Refusals ----

  def test_both_ends_the_same_pipe_is_einval
    reader, writer = pipe
    [-> {}, -> { writer.write "kept" }].each do |prepare|
      prepare.call
      assert_raises(Errno::EINVAL) { IO.splice(reader, nil, writer, nil, 10) }
      assert_raises(Errno::EINVAL) { IO.trysplice(reader, nil, writer, nil, 10) }
      assert_raises(Errno::EINVAL) { IO.tee(reader, writer, 10) }
      assert_raises(Errno::EINVAL) { IO.trytee(reader, writer, 10) }
      assert_raises(Errno::EINVAL) { IO::Splice.partial(reader, writer, 10, nil) }
      assert_raises(Errno::EINVAL) { IO::Splice.full(reader, writer, 10, nil) }
    end
    assert_equal "kept", queued(reader)
  end

  def test_no_pipe_at_all_is_einval
    near, far = socket_pair
    far.write "kept"
    target = opened(Tempfile.new)
    assert_raises(Errno::EINVAL) { IO.splice(near, nil, target, nil, 4) }
    assert_raises(Errno::EINVAL) { IO.trysplice(open_file("x"), nil, target, nil, 4) }
    assert_raises(Errno::EINVAL) { IO.tee(near, pipe[1], 4) }
    assert_equal "kept", near.readpartial(4)
  end

  def test_a_wrong_direction_is_ebadf
    reader, writer = pipe
    other_reader, other_writer = pipe
    assert_raises(Errno::EBADF) { IO.splice(writer, nil, other_writer, nil, 4) }
    assert_raises(Errno::EBADF) { IO.splice(reader, nil, other_reader, nil, 4) }
    assert_raises(Errno::EBADF) { IO.trysplice(reader, nil, other_reader, nil, 4) }
    assert_raises(Errno::EBADF) { IO.tee(writer, other_writer, 4) }
    assert_raises(Errno::EBADF) { IO.trytee(reader, other_reader, 4) }
    assert_raises(Errno::EBADF) { IO.vmsplice(reader, "x") }
    assert_raises(Errno::EBADF) { IO.splice(reader, nil, open_file(""), nil, 4) }
    assert_raises(Errno::EBADF) { IO::Splice.partial(writer, other_writer, 4, nil) }
    assert_raises(Errno::EBADF) { IO::Splice.full(writer, other_writer, 4, nil) }
  end

  def test_a_closed_io_is_an_io_error_everywhere
    open_reader, open_writer = pipe
    reader, writer = IO.pipe.each(&:close)
    [[reader, open_writer], [open_reader, writer]].each do |from, to|
      assert_raises(IOError) { IO.splice(from, nil, to, nil, 4) }
      assert_raises(IOError) { IO.trysplice(from, nil, to, nil, 4) }
      assert_raises(IOError) { IO.tee(from, to, 4) }
      assert_raises(IOError) { IO.trytee(from, to, 4) }
      assert_raises(IOError) { IO::Splice.partial(from, to, 4, nil) }
      assert_raises(IOError) { IO::Splice.full(from, to, 4, nil) }
      assert_raises(IOError) { IO::Splice.copy_stream(from, to) }
    end
    assert_raises(IOError) { IO.vmsplice(writer, "x") }
    assert_raises(IOError) { reader.pipe_size }
    assert_raises(IOError) { reader.pipe_size = PAGE }
  end

  def test_what_is_no_descriptor_is_a_type_error
    reader, writer = pipe
    [nil, "name", StringIO.new("bytes"), Object.new].each do |wrong|
      assert_raises(TypeError, wrong.inspect) { IO.splice(wrong, nil, writer, nil, 4) }
      assert_raises(TypeError, wrong.inspect) { IO.trysplice(reader, nil, wrong, nil, 4) }
      assert_raises(TypeError, wrong.inspect) { IO.tee(wrong, writer, 4) }
      assert_raises(TypeError, wrong.inspect) { IO.trytee(reader, wrong, 4) }
      assert_raises(TypeError, wrong.inspect) { IO::Splice.partial(wrong, writer, 4, nil) }
    end
  end

  def test_a_reader_that_has_gone_is_epipe
    reader, writer = pipe
    reader.close
    source = full_pipe("kept")
    assert_raises(Errno::EPIPE) { IO.splice(source, nil, writer, nil, 4) }
    assert_raises(Errno::EPIPE) { IO.trysplice(source, nil, writer, nil, 4) }
    assert_raises(Errno::EPIPE) { IO.tee(source, writer, 4) }
    assert_raises(Errno::EPIPE) { IO.trytee(source, writer, 4) }
    assert_raises(Errno::EPIPE) { IO.vmsplice(writer, ["x"]) }
    assert_raises(Errno::EPIPE) { IO::Splice.partial(source, writer, 4, nil) }
    assert_raises(Errno::EPIPE) { IO::Splice.full(source, writer, 4, nil) }
    assert_equal "kept", source.read
    source = full_pipe("kept")
    error = assert_raises(Errno::EPIPE) { IO::Splice.copy_stream(source, writer, 4) }
    assert_equal "kept", error.undelivered.to_s + source.read
  end

  def test_an_unknown_flag_is_einval_and_the_hints_are_taken
    _, sink = pipe
    assert_raises(Errno::EINVAL) { IO.splice(full_pipe("x"), nil, sink, nil, 1, 0x100) }
    hints = IO::Splice::F_MOVE | IO::Splice::F_MORE | IO::Splice::F_GIFT
    assert_equal 1, IO.splice(full_pipe("x"), nil, sink, nil, 1, hints)
    assert_equal 1, IO.trysplice(full_pipe("x"), nil, sink, nil, 1, hints)
    assert_equal 1, IO.tee(full_pipe("x"), sink, 1, hints)
    assert_equal 1, IO.trytee(full_pipe("x"), sink, 1, hints)
    assert_equal 1, IO.vmsplice(sink, "x", hints)
  end

  def test_a_source_that_ruby_has_read_ahead_is_an_io_error_and_loses_nothing
    source, feed = pipe
    feed.write "line\nrest"
    drain, sink = pipe
    assert_equal "line\n", source.gets
    assert_raises(IOError) { IO.splice(source, nil, sink, nil, 10) }
    assert_raises(IOError) { IO.trysplice(source, nil, sink, nil, 10) }
    assert_raises(IOError) { IO.tee(source, sink, 10) }
    assert_raises(IOError) { IO.trytee(source, sink, 10) }
    assert_raises(IOError) { IO::Splice.partial(source, sink, 10, nil) }
    assert_raises(IOError) { IO::Splice.full(source, sink, 4, nil) }
    assert_equal "", queued(drain)
    assert_equal "rest", source.readpartial(10)
    feed.write "more"
    assert_equal 4, IO.splice(source, nil, sink, nil, 10)
    assert_equal "more", queued(drain)
  end

  def test_what_ruby_has_not_written_yet_comes_before_what_is_spliced
    target = opened(File.open(path("out"), "wb"))
    target.write "1"
    IO.splice(full_pipe("2"), nil, target, nil, 10)
    target.write "3"
    IO.trysplice(full_pipe("4"), nil, target, nil, 10)
    target.write "5"
    IO::Splice.partial(full_pipe("6"), target, 10, nil)
    target.write "7"
    IO::Splice.full(full_pipe("8"), target, 1, nil)
    target.write "9"
    IO::Splice.copy_stream(full_pipe("10"), target)
    assert_equal "12345678910", File.read(target.path)
  end
end

# IO.tee, IO.trytee and IO.vmsplice.
class IoTeeAndVmspliceTest < IoSpliceTestCase
  def test_tee_and_trytee_give_bytes_and_take_none
    source = full_pipe("0123456789")
    drain, sink = pipe
    assert_equal 10, IO.tee(source, sink, 4096)
    assert_equal 3, IO.tee(source, sink, 3, NONBLOCK)
    assert_equal 10, IO.trytee(source, sink, 4096)
    assert_equal 2, IO.trytee(source, sink, 2, IO::Splice::F_MORE)
    assert_equal "0123456789012012345678901", queued(drain)
    assert_equal "0123456789", source.read
  end

  def test_tee_raises_eof_error_at_the_end_and_trytee_returns_nil
    source = full_pipe("")
    _, sink = pipe
    assert_raises(EOFError) { IO.tee(source, sink, 10) }
    assert_raises(EOFError) { IO.tee(source, sink, 10, NONBLOCK) }
    assert_nil IO.trytee(source, sink, 10)
    assert_nil IO.tee(source, sink, 10, exception: false)
  end

  def test_tee_raises_eagain_and_trytee_returns_it
    each_kind_of_pipe do |make|
      source, feed = make.call
      drain, sink = make.call
      assert_raises(Errno::EAGAIN) { IO.tee(source, sink, 10, NONBLOCK) }
      assert_equal :EAGAIN, IO.trytee(source, sink, 10)
      assert_equal :EAGAIN, IO.tee(source, sink, 10, :nonblock, exception: false)
      filled = fill(sink)
      feed.write "kept"
      assert_raises(Errno::EAGAIN) { IO.tee(source, sink, 10, NONBLOCK) }
      assert_equal :EAGAIN, IO.trytee(source, sink, 10)
      assert_equal "kept", queued(source)
      assert_equal filled, queued(drain).bytesize
    end
  end

  def test_tee_with_waitall_doubles_nothing
    source, feed = pipe
    feed.write "once"
    drain, sink = pipe
    assert_equal 4, IO.tee(source, sink, 100, WAITALL)
    assert_equal 4, IO.trytee(source, sink, 100, WAITALL)
    assert_equal "onceonce", queued(drain)
  end

  def test_vmsplice_returns_the_sum_of_all_strings
    drain, sink = pipe
    assert_equal 6, IO.vmsplice(sink, %w[ab c def])
    assert_equal 3, IO.vmsplice(sink, "ghi")
    assert_equal 0, IO.vmsplice(sink, [])
    assert_equal 0, IO.vmsplice(sink, "")
    assert_equal 4, IO.vmsplice(sink.fileno, ["jklm"], IO::Splice::F_GIFT)
    assert_equal "abcdefghijklm", queued(drain)
  end

  def test_vmsplice_writes_the_whole_array_beyond_iov_max_and_beyond_the_pipe
    strings = Array.new(10_000) { |number| "#{number};" * (number % 7) }
    drain, sink = pipe
    read = reading(drain)
    assert_equal strings.sum(&:bytesize), IO.vmsplice(sink, strings)
    sink.close
    assert_equal strings.join, read.value
  end

  def test_vmsplice_with_f_nonblock_writes_a_part_and_then_raises_eagain
    each_kind_of_pipe do |make|
      drain, sink = make.call
      bytes = data(sink.pipe_size + 1000)
      assert_equal sink.pipe_size, IO.vmsplice(sink, bytes, NONBLOCK)
      assert_raises(Errno::EAGAIN) { IO.vmsplice(sink, "x", NONBLOCK) }
      assert_equal :EAGAIN, IO.vmsplice(sink, "x", NONBLOCK, exception: false)
      assert_equal bytes.byteslice(0, sink.pipe_size), queued(drain)
    end
  end

  def test_strings_may_be_changed_right_after_vmsplice
    drain, sink = pipe
    strings = ["o" * 10, "o" * (3 * PAGE)]
    IO.vmsplice(sink, strings, IO::Splice::F_GIFT)
    strings.each { |string| string.bytesize.times { |at| string.setbyte(at, 0x6e) } }
    strings.each(&:clear).clear
    assert_equal "o" * (3 * PAGE + 10), queued(drain)
  end

  def test_vmsplice_wants_strings_and_a_pipe
    drain, sink = pipe
    [nil, 1, [nil], ["x", 1]].each do |wrong|
      assert_raises(TypeError, wrong.inspect) { IO.vmsplice(sink, wrong) }
    end
    assert_equal "", queued(drain)
    assert_raises(Errno::EBADF) { IO.vmsplice(opened(Tempfile.new), "x") }
  end
end

# WAITALL: until all has moved.
class WaitallTest < IoSpliceTestCase
  def test_waitall_moves_a_file_through_a_small_pipe_in_one_call
    bytes = data(50 * PAGE + 7)
    drain, sink = pipe
    sink.pipe_size = PAGE
    read = reading(drain)
    source = open_file(bytes)
    assert_equal bytes.bytesize,
                 IO.splice(source, nil, sink, nil, bytes.bytesize, WAITALL)
    sink.close
    assert_equal bytes, read.value
    assert_equal bytes.bytesize, source.sysseek(0, IO::SEEK_CUR)
  end

  def test_waitall_waits_for_every_piece_of_a_pipe
    each_kind_of_pipe do |make|
      source, feed = make.call
      target = opened(Tempfile.new(binmode: true))
      pieces = Array.new(8) { |number| data(100 + number) }
      fed = feeding(feed, pieces, Thread.current)
      all = pieces.join
      assert_equal all.bytesize, IO.splice(source, nil, target, nil, all.bytesize, WAITALL)
      fed.value
      assert_equal all, File.binread(target.path)
    end
  end

  def test_waitall_waits_for_every_piece_of_a_blocking_socket
    [socket_pair, tcp_pair].each do |near, far|
      near.nonblock = false
      drain, sink = pipe
      fed = feeding(far, %w[one two three four], Thread.current)
      assert_equal 15, IO.splice(near, nil, sink, nil, 15, WAITALL)
      fed.value
      assert_equal "onetwothreefour", queued(drain)
    end
  end

  def test_waitall_into_a_blocking_socket_sends_all
    bytes = data(16 * PAGE)
    near, far = socket_pair
    near.setsockopt(:SOCKET, :SNDBUF, PAGE)
    near.nonblock = false
    read = reading(far)
    assert_equal bytes.bytesize,
                 IO.splice(full_pipe(bytes), nil, near, nil, bytes.bytesize, WAITALL)
    near.close
    assert_equal bytes, read.value
  end

  def test_waitall_at_the_end_of_the_file_is_what_there_was_and_then_eof_error
    near, far = socket_pair
    far.write "short"
    far.close
    _, sink = pipe
    [full_pipe("short"), open_file("short"), near].each do |source|
      assert_equal 5, IO.splice(source, nil, sink, nil, 100, WAITALL)
      assert_raises(EOFError) { IO.splice(source, nil, sink, nil, 100, WAITALL) }
      assert_nil IO.splice(source, nil, sink, nil, 100, WAITALL, exception: false)
      assert_nil IO.trysplice(source, nil, sink, nil, 100, WAITALL)
    end
  end

  def test_waitall_that_waits_sees_the_end_of_the_file
    source, feed = pipe
    _, sink = pipe
    moved = waiting { IO.splice(source, nil, sink, nil, 100, WAITALL) }
    feed.write "some"
    wait_until_it_sleeps(moved)
    feed.close
    assert_equal 4, moved.value
  end

  def test_waitall_with_f_nonblock_is_what_moves_at_once
    each_kind_of_pipe do |make|
      source, feed = make.call
      drain, sink = make.call
      flags = WAITALL | NONBLOCK
      assert_raises(Errno::EAGAIN) { IO.splice(source, nil, sink, nil, 100, flags) }
      assert_equal :EAGAIN, IO.trysplice(source, nil, sink, nil, 100, WAITALL)
      feed.write "some"
      assert_equal 4, IO.splice(source, nil, sink, nil, 100, flags)
      feed.write "more"
      assert_equal 4, IO.trysplice(source, nil, sink, nil, 100, WAITALL)
      assert_equal "somemore", queued(drain)
      bytes = data(2 * sink.pipe_size)
      file = open_file(bytes)
      assert_equal sink.pipe_size, IO.splice(file, nil, sink, nil, bytes.bytesize, flags)
      assert_equal bytes.byteslice(0, sink.pipe_size), queued(drain)
    end
  end

  def test_waitall_with_a_nonblocking_socket_is_what_moves_at_once
    near, far = socket_pair
    near.nonblock = true
    far.write "some"
    drain, sink = pipe
    assert_equal 4, IO.splice(near, nil, sink, nil, 100, WAITALL)
    assert_raises(Errno::EAGAIN) { IO.splice(near, nil, sink, nil, 100, WAITALL) }
    assert_equal "some", queued(drain)
  end

  def test_waitall_with_offsets_begins_each_piece_where_the_last_one_ended
    bytes = data(20 * PAGE)
    source = open_file("skip#{bytes}".b)
    drain, sink = pipe
    sink.pipe_size = PAGE
    target = opened(File.open(path("out"), "w+b"))
    moved = waiting { IO.splice(source, 4, sink, nil, bytes.bytesize, WAITALL) }
    assert_equal bytes.bytesize, IO.splice(drain, nil, target, 3, bytes.bytesize, WAITALL)
    assert_equal bytes.bytesize, moved.value
    assert_equal [0, 0], [source, target].map { |io| io.sysseek(0, IO::SEEK_CUR) }
    assert_equal "\0\0\0#{bytes}".b, File.binread(target.path)
  end

  def test_waitall_returns_what_moved_before_the_reader_went_away
    drain, sink = pipe
    size = sink.pipe_size
    source = open_file(data(3 * size))
    moved = waiting { IO.splice(source, nil, sink, nil, 3 * size, WAITALL) }
    drain.close
    assert_equal size, moved.value
    assert_raises(Errno::EPIPE) { IO.splice(source, nil, sink, nil, 3 * size, WAITALL) }
    assert_equal size, source.sysseek(0, IO::SEEK_CUR)
  end

  def test_waitall_counts_exactly_through_signals
    bytes = data(300_000)
    drain, sink = pipe
    main = Thread.current
    signals = 0
    before = trap(:USR1) { signals += 1 }
    read = thread do
      got = +"".b
      20.times do |number|
        wait_until_it_sleeps(main)
        Process.kill(:USR1, Process.pid)
        eventually("the signal") { signals > number }
        got << drain.readpartial(5000)
      end
      got << drain.read
    end
    assert_equal bytes.bytesize,
                 IO.splice(open_file(bytes), 0, sink, nil, bytes.bytesize, WAITALL)
    sink.close
    assert_equal bytes, read.value
    assert_equal 20, signals
  ensure
    trap(:USR1, before) if before
  end
end

# IO#pipe_size and the constants.
class PipeSizeTest < IoSpliceTestCase
  def test_pipe_size_is_what_the_kernel_says_of_either_end
    reader, writer = pipe
    assert_equal reader.fcntl(IO::Splice::F_GETPIPE_SZ), reader.pipe_size
    assert_equal reader.pipe_size, writer.pipe_size
    assert_equal reader.pipe_size, fill(writer)
  end

  def test_pipe_size_is_rounded_up_to_a_power_of_two
    reader, writer = pipe
    { 1 => PAGE, 0 => PAGE, PAGE => PAGE, PAGE + 1 => 2 * PAGE, 100_000 => 1 << 17 }
      .each do |asked, given|
        assert_equal asked, (writer.pipe_size = asked)
        assert_equal [given, given], [reader.pipe_size, writer.pipe_size], asked.to_s
      end
    reader.pipe_size = 1 << 16
    assert_equal 1 << 16, writer.pipe_size
  end

  def test_a_pipe_that_holds_more_is_busy_and_keeps_its_size
    reader, writer = pipe
    size = writer.pipe_size
    writer.write "x" * (2 * PAGE + 1)
    assert_raises(Errno::EBUSY) { writer.pipe_size = PAGE }
    assert_raises(Errno::EBUSY) { reader.pipe_size = 2 * PAGE }
    assert_equal size, reader.pipe_size
    writer.pipe_size = 4 * PAGE
    assert_equal "x" * (2 * PAGE + 1), queued(reader)
  end

  def test_a_user_may_not_go_above_the_limit
    limit = Integer(File.read("/proc/sys/fs/pipe-max-size"))
    reader, writer = pipe
    in_child do
      Process::Sys.setuid(65_534) if Process.uid.zero?
      writer.pipe_size = 2 * PAGE
      assert_raises(Errno::EPERM) { writer.pipe_size = 2 * limit }
      assert_equal 2 * PAGE, reader.pipe_size
    end
  end

  def test_sizes_that_are_none_are_refused
    _, writer = pipe
    assert_raises(Errno::EINVAL) { writer.pipe_size = -1 }
    assert_raises(RangeError) { writer.pipe_size = 1 << 40 }
    assert_raises(TypeError) { writer.pipe_size = "4096" }
    assert_equal IO::Splice::PIPE_CAPA, writer.pipe_size
  end

  def test_what_is_no_pipe_has_no_pipe_size
    [open_file("x"), socket_pair.first].each do |io|
      assert_raises(Errno::EBADF) { io.pipe_size }
      assert_raises(Errno::EBADF) { io.pipe_size = PAGE }
    end
  end

  def test_constants_are_those_of_io_splice
    values = { F_MOVE: 1, F_NONBLOCK: 2, F_MORE: 4, F_GIFT: 8, F_SETPIPE_SZ: 1031,
               F_GETPIPE_SZ: 1032, WAITALL: 0x4000000, MAX_AT_ONCE: 1 << 30, PIPE_BUF: 4096 }
    values.each { |name, value| assert_equal value, IO::Splice.const_get(name), name.to_s }
    assert_equal [*values.keys, :PIPE_CAPA].sort, IO::Splice.constants.sort
  end

  def test_pipe_capa_is_the_size_of_a_new_pipe
    reader, writer = pipe
    written = 0
    chunk = "." * IO::Splice::PIPE_BUF
    while (got = writer.write_nonblock(chunk, exception: false)) != :wait_writable
      written += got
    end
    assert_equal IO::Splice::PIPE_CAPA, written
    assert_equal IO::Splice::PIPE_CAPA, reader.pipe_size
  end
end

# IO::Splice.partial and full.
class PartialAndFullTest < IoSpliceTestCase
  def test_partial_moves_what_there_is
    drain, sink = pipe
    source, feed = pipe
    feed.write "some"
    assert_equal 2, IO::Splice.partial(source, sink, 2, nil)
    assert_equal 2, IO::Splice.partial(source, sink, 100, nil)
    assert_equal 3, IO::Splice.partial(open_file("0123456789"), sink, 3, 5)
    assert_equal "some567", queued(drain)
  end

  def test_partial_at_the_end_of_the_file_is_nil
    _, sink = pipe
    assert_nil IO::Splice.partial(full_pipe(""), sink, 10, nil)
    assert_nil IO::Splice.partial(open_file("abc"), sink, 10, 3)
    source, feed = pipe
    got = waiting { IO::Splice.partial(source, sink, 10, nil) }
    feed.close
    assert_nil got.value
  end

  def test_partial_and_full_wait_for_sockets_with_o_nonblock
    [:partial, :full].product([socket_pair, tcp_pair]) do |name, (near, far)|
      near.nonblock = true
      drain, sink = pipe
      moved = waiting { IO::Splice.send(name, near, sink, 4, nil) }
      far.write "late"
      assert_equal 4, moved.value
      assert_equal "late", queued(drain)
      stuffed = stuff(near)
      source = full_pipe("last")
      moved = waiting { IO::Splice.send(name, source, near, 4, nil) }
      far.read(stuffed)
      assert_equal 4, moved.value
      assert_equal "last", far.readpartial(10)
    end
  end

  def test_partial_and_full_wait_for_pipes
    [:partial, :full].each do |name|
      each_kind_of_pipe do |make|
        source, feed = make.call
        drain, sink = make.call
        filled = fill(sink)
        moved = waiting { IO::Splice.send(name, source, sink, 4, nil) }
        feed.write "late"
        drain.readpartial(filled)
        assert_equal 4, moved.value
        assert_equal "late", queued(drain)
      end
    end
  end

  def test_full_moves_all_in_as_many_pieces_as_it_takes
    source, feed = pipe
    target = opened(Tempfile.new)
    pieces = %w[one two three four five]
    fed = feeding(feed, pieces, Thread.current)
    assert_equal 19, IO::Splice.full(source, target, 19, nil)
    fed.value
    assert_equal pieces.join, File.read(target.path)
    bytes = data(10 * PAGE)
    drain, sink = pipe
    sink.pipe_size = PAGE
    read = reading(drain)
    file = open_file(bytes)
    assert_equal bytes.bytesize - 5, IO::Splice.full(file, sink, bytes.bytesize - 5, 5)
    sink.close
    assert_equal bytes.byteslice(5..), read.value
    assert_equal 0, file.sysseek(0, IO::SEEK_CUR)
  end

  def test_full_into_a_nonblocking_socket_sends_all
    bytes = data(16 * PAGE)
    near, far = socket_pair
    near.setsockopt(:SOCKET, :SNDBUF, PAGE)
    near.nonblock = true
    read = reading(far)
    assert_equal bytes.bytesize, IO::Splice.full(full_pipe(bytes), near, bytes.bytesize, nil)
    near.close
    assert_equal bytes, read.value
  end

  def test_full_raises_eof_error_when_there_is_less_and_has_moved_that
    drain, sink = pipe
    assert_raises(EOFError) { IO::Splice.full(full_pipe("less"), sink, 5, nil) }
    assert_raises(EOFError) { IO::Splice.full(full_pipe(""), sink, 5, nil) }
    assert_raises(EOFError) { IO::Splice.full(open_file("0123"), sink, 3, 2) }
    assert_equal "less23", queued(drain)
  end

  def test_full_whose_reader_goes_away_half_way_raises_epipe
    drain, sink = pipe
    size = sink.pipe_size
    moved = waiting { IO::Splice.full(open_file(data(3 * size)), sink, 3 * size, nil) }
    drain.close
    assert_raises(Errno::EPIPE) { moved.value }
  end

  def test_full_and_partial_of_nothing_wait_for_nothing
    source, = pipe
    _, sink = pipe
    fill(sink)
    assert_equal 0, IO::Splice.full(source, sink, 0, nil)
    assert_equal 0, IO::Splice.partial(source, sink, 0, nil)
  end

  def test_partial_and_full_want_all_four_arguments
    source = full_pipe("kept")
    _, sink = pipe
    assert_raises(ArgumentError) { IO::Splice.partial(source, sink, 4) }
    assert_raises(ArgumentError) { IO::Splice.full(source, sink, 4) }
    assert_equal "kept", source.read
  end
end

# IO::Splice.copy_stream.
class SpliceCopyStreamTest < IoSpliceTestCase
  # As a body of a Rack response: a path, and no descriptor.
  HasPath = Struct.new(:to_path)

  def test_copy_stream_copies_to_the_end_of_the_file_whatever_the_ends_are
    bytes = data(200_000)
    sources = {
      file: -> { open_file(bytes) },
      pipe: -> { reader_of(bytes) },
      socket: -> { socket_of(bytes) },
    }
    sources.each do |name, make|
      target = opened(Tempfile.new(binmode: true))
      assert_equal bytes.bytesize, IO::Splice.copy_stream(make.call, target), name.to_s
      assert_equal bytes, File.binread(target.path), name.to_s
      drain, sink = pipe
      read = reading(drain)
      assert_equal bytes.bytesize, IO::Splice.copy_stream(make.call, sink), name.to_s
      sink.close
      assert_equal bytes, read.value, name.to_s
      near, far = tcp_pair
      read = reading(far)
      assert_equal bytes.bytesize, IO::Splice.copy_stream(make.call, near), name.to_s
      near.close
      assert_equal bytes, read.value, name.to_s
    end
  end

  def test_copy_stream_takes_paths_and_whatever_has_one_and_closes_what_it_opened
    from = file("bytes of a file")
    before = descriptors
    [:itself.to_proc, Pathname.method(:new), HasPath.method(:new)].each do |as|
      to = path("to")
      assert_equal 15, IO::Splice.copy_stream(as.call(from), as.call(to))
      assert_equal "bytes of a file", File.read(to)
      assert_equal 4, IO::Splice.copy_stream(as.call(from), as.call(to), 4, 9)
      assert_equal "a fi", File.read(to)
    end
    assert_raises(EOFError) { IO::Splice.copy_stream(from, path("to"), 100) }
    assert_raises(Errno::ENOENT) { IO::Splice.copy_stream(path("none"), path("to")) }
    assert_raises(Errno::EISDIR) { IO::Splice.copy_stream(from, File.dirname(from)) }
    assert_equal before, descriptors
  end

  def test_copy_stream_uses_the_descriptor_of_what_has_a_path_as_well
    source = open_file("0123456789")
    source.sysseek(4)
    drain, sink = pipe
    assert_equal 6, IO::Splice.copy_stream(source, sink)
    assert_equal "456789", queued(drain)
    refute source.closed?
    refute sink.closed?
  end

  def test_copy_stream_with_a_length_copies_that_much
    drain, sink = pipe
    source = open_file("0123456789")
    assert_equal 4, IO::Splice.copy_stream(source, sink, 4)
    assert_equal 4, IO::Splice.copy_stream(source, sink, 4)
    assert_equal 0, IO::Splice.copy_stream(source, sink, 0)
    assert_equal "01234567", queued(drain)
    endless, = pipe.tap { |_, feed| feed.write "0123456789" }
    assert_equal 3, IO::Splice.copy_stream(endless, sink, 3)
    assert_equal "012", queued(drain)
  end

  def test_copy_stream_raises_eof_error_when_there_is_less_and_has_copied_that
    drain, sink = pipe
    assert_raises(EOFError) { IO::Splice.copy_stream(open_file("less"), sink, 5) }
    assert_raises(EOFError) { IO::Splice.copy_stream(full_pipe("less"), sink, 5) }
    assert_raises(EOFError) { IO::Splice.copy_stream(open_file("0123"), sink, 3, 2) }
    assert_equal "lessless23", queued(drain)
  end

  def test_copy_stream_of_an_empty_file_without_a_length_is_0
    _, sink = pipe
    assert_equal 0, IO::Splice.copy_stream(open_file(""), sink)
    assert_equal 0, IO::Splice.copy_stream(full_pipe(""), sink)
    assert_equal 0, IO::Splice.copy_stream(open_file("abc"), sink, nil, 3)
  end

  def test_copy_stream_with_an_offset_leaves_that_of_the_source_alone
    source = open_file("0123456789")
    source.sysseek(2)
    drain, sink = pipe
    assert_equal 5, IO::Splice.copy_stream(source, sink, nil, 5)
    assert_equal 3, IO::Splice.copy_stream(source, sink, 3, 0)
    assert_equal "56789012", queued(drain)
    assert_equal 2, source.sysseek(0, IO::SEEK_CUR)
    assert_equal 8, IO::Splice.copy_stream(source, sink)
    assert_equal 10, source.sysseek(0, IO::SEEK_CUR)
  end

  def test_several_threads_copy_one_file_at_once_with_offsets
    bytes = data(300_000)
    source = open_file(bytes)
    copies = Array.new(4) do |number|
      drain, sink = pipe
      copied = thread do
        IO::Splice.copy_stream(source, sink, nil, number * 1000).tap { sink.close }
      end
      [number, copied, reading(drain)]
    end
    copies.each do |number, copied, read|
      assert_equal bytes.bytesize - number * 1000, copied.value
      assert_equal bytes.byteslice(number * 1000..), read.value
    end
  end

  def test_copy_stream_delivers_what_ruby_has_read_ahead_first
    [full_pipe("line\nrest"), open_file("line\nrest"), socket_of("line\nrest")].each do |source|
      drain, sink = pipe
      source.gets
      assert_equal 4, IO::Splice.copy_stream(source, sink)
      assert_equal "rest", queued(drain)
      assert_equal "", source.read
    end
  end

  def test_copy_stream_waits_for_both_ends_whatever_their_descriptors_say
    near, far = socket_pair
    near.nonblock = true
    drain, sink = pipe
    bytes = data(200_000)
    copied = waiting { IO::Splice.copy_stream(near, sink, bytes.bytesize) }
    write = thread { far.write bytes }
    wait_until_it_sleeps(write)
    read = reading(drain)
    assert_equal bytes.bytesize, copied.value
    sink.close
    assert_equal bytes, read.value
  end

  def test_copy_stream_refuses_what_has_neither_descriptor_nor_path
    _, sink = pipe
    assert_raises(TypeError) { IO::Splice.copy_stream(StringIO.new("bytes"), sink) }
    assert_raises(TypeError) { IO::Splice.copy_stream(nil, sink) }
    assert_raises(TypeError) { IO::Splice.copy_stream(open_file("bytes"), nil) }
  end

  private

  def reader_of(bytes)
    reader, writer = pipe
    thread { writer.write(bytes).tap { writer.close } }
    reader
  end

  def socket_of(bytes)
    near, far = socket_pair
    thread { far.write(bytes).tap { far.close } }
    near
  end
end

# What is deprecated says so once, on the standard error.
class DeprecationTest < IoSpliceTestCase
  DEPRECATED = {
    copy_stream: 'IO::Splice.copy_stream("/dev/null", "/dev/null")',
    full: "IO::Splice.full(open('/dev/zero'), IO.pipe.last, 1, nil)",
    waitall: "IO.splice(open('/dev/zero'), nil, IO.pipe.last, nil, 1, IO::Splice::WAITALL)",
    waitall_as_a_symbol: "IO.splice(open('/dev/zero'), nil, IO.pipe.last, nil, 1, [:waitall])",
  }.freeze

  DEPRECATED.each do |name, call|
    define_method("test_#{name}_warns_once") do
      out, err, status = ruby("require 'io/splice'; #{call}; #{call}; puts 'done'")
      assert_equal ["done\n", 1], [out, err.lines.size], err
      assert_match(/deprecated/, err)
      assert status.success?
    end
  end

  def test_all_that_is_deprecated_warns_once_together
    calls = DEPRECATED.values.permutation(2).flat_map(&:itself).join(";")
    _, err, status = ruby("require 'io/splice'; #{calls}")
    assert_equal 1, err.lines.size, err
    assert status.success?
  end

  def test_threads_that_are_the_first_at_once_warn_once
    threads = "Array.new(20) { Thread.new { #{DEPRECATED[:full]} } }.each(&:join)"
    _, err, status = ruby("require 'io/splice'; #{threads}")
    assert_equal 1, err.lines.size, err
    assert status.success?
  end

  def test_ruby_without_warnings_does_not_warn
    _, err, status = ruby("require 'io/splice'; #{DEPRECATED.values.join(";")}",
                          env: { "RUBYOPT" => "-W0" })
    assert_equal "", err
    assert status.success?
  end

  def test_a_warning_that_was_not_wanted_is_given_once_it_is
    _, err, = ruby("require 'io/splice'; $VERBOSE = nil; #{DEPRECATED[:full]}; " \
                   "$VERBOSE = false; 2.times { #{DEPRECATED[:full]} }")
    assert_equal 1, err.lines.size, err
  end

  def test_what_is_not_deprecated_does_not_warn_even_with_all_warnings
    out, err, status = ruby(<<~RUBY, env: { "RUBYOPT" => "-w" })
      require "io/splice"
      r, w = IO.pipe
      zero = open("/dev/zero")
      p IO.splice(zero, nil, w, nil, 1), IO.trysplice(zero, nil, w, nil, 1)
      p IO::Splice.partial(zero, w, 1, nil), IO.vmsplice(w, "x"), w.pipe_size > 0
      r2, w2 = IO.pipe
      p IO.tee(r, w2, 100), IO.trytee(r, w2, 100), IO::Splice::WAITALL
    RUBY
    assert_equal [1, 1, 1, 1, true, 4, 4, 0x4000000], out.lines.map { |line| eval(line) }
    assert_equal "", err
    assert status.success?
  end

  def test_io_splice_can_be_required_alone
    out, err, = ruby(<<~RUBY)
      require "io/splice"
      p IO::Splice.copy_stream("/dev/null", "/dev/null"), defined?(Fid.fan)
      p require("fid"), require("io/splice"), Fid.copy("/dev/null", "/dev/null").bytes
    RUBY
    assert_equal %w[0 nil true false 0], out.split, err
  end
end

# Calls that wait, and what can come upon them meanwhile.
class InterruptedSpliceTest < IoSpliceTestCase
  BYTES = "0123456789"

  # Each moves these ten bytes, from a pipe into a pipe.
  CALLS = {
    splice: ->(from, to) { IO.splice(from, nil, to, nil, 10) },
    splice_with_waitall: ->(from, to) { IO.splice(from, nil, to, nil, 10, WAITALL) },
    tee: ->(from, to) { IO.tee(from, to, 10) },
    vmsplice: ->(_, to) { IO.vmsplice(to, [BYTES]) },
    partial: ->(from, to) { IO::Splice.partial(from, to, 10, nil) },
    full: ->(from, to) { IO::Splice.full(from, to, 10, nil) },
    copy_stream: ->(from, to) { IO::Splice.copy_stream(from, to, 10) },
  }.freeze

  class Stop < StandardError
  end

  # A pair of pipes of which the one is empty, or the other full.
  def prepare(name, at)
    @name = name
    @at = at
    @source, @feed = pipe
    @drain, @sink = pipe
    return if at == :source

    @feed.write BYTES
    @filled = fill(@sink)
  end

  def call
    CALLS.fetch(@name).call(@source, @sink)
  end

  # Lets the call go on.
  def release
    @at == :source ? @feed.write(BYTES) : @drain.readpartial(@filled)
  end

  def assert_delivered(moved)
    assert_equal 10, moved
    assert_equal BYTES, queued(@drain)
    assert_equal @name == :tee ? BYTES : "", queued(@source) unless @name == :vmsplice
  end

  # Whatever is not closed has what it had. An error of copy_stream may have what was taken.
  def assert_untouched(error = nil)
    unless @source.closed?
      @feed.write BYTES if @at == :source
      taken = error.respond_to?(:undelivered) ? error.undelivered.to_s : ""
      assert_equal BYTES, taken + queued(@source)
    end
    assert_equal @at == :source ? 0 : @filled, queued(@drain).bytesize
  end

  # Runs the block when this thread sleeps in the call.
  def meanwhile(&body)
    main = Thread.current
    thread do
      wait_until_it_sleeps(main)
      body.call(main)
    end
  end

  # Runs the block with a handler of a signal.
  def handling(handler)
    before = trap(:USR1, &handler)
    yield
  ensure
    trap(:USR1, before)
  end

  def signal
    Process.kill(:USR1, Process.pid)
  end

  CALLS.keys.product(%i[source sink]).each do |name, at|
    next if name == :vmsplice && at == :source

    what = "#{name}_that_waits_for_its_#{at}"
    other = at == :source ? :sink : :source

    define_method("test_#{what}_goes_on_when_it_can") do
      prepare(name, at)
      moved = waiting { call }
      release
      assert_delivered(moved.value)
    end

    define_method("test_#{what}_runs_signal_handlers_and_goes_on") do
      prepare(name, at)
      handled = 0
      handling(->(_) { handled += 1 }) do
        ended = meanwhile do |main|
          3.times do |number|
            signal
            eventually("the handler") { handled > number }
            wait_until_it_sleeps(main)
          end
          release
        end
        assert_delivered(call)
        ended.value
      end
      assert_equal 3, handled
    end

    define_method("test_#{what}_is_left_by_what_a_signal_handler_raises") do
      prepare(name, at)
      handling(->(_) { raise Stop }) do
        meanwhile { signal }
        assert_untouched(assert_raises(Stop) { call })
      end
    end

    [at, other].each do |closed|
      next if name == :vmsplice && closed == :source

      define_method("test_#{what}_is_an_io_error_when_a_signal_handler_closes_its_#{closed}") do
        prepare(name, at)
        io = closed == :source ? @source : @sink
        handling(->(_) { io.close }) do
          meanwhile { signal }
          assert_untouched(assert_raises(IOError) { call })
        end
        assert io.closed?
      end

      define_method("test_#{what}_is_an_io_error_when_a_thread_closes_its_#{closed}") do
        prepare(name, at)
        io = closed == :source ? @source : @sink
        moved = waiting { call }
        io.close
        assert_untouched(assert_raises(IOError) { moved.value })
      end
    end

    define_method("test_#{what}_is_left_by_thread_raise") do
      prepare(name, at)
      moved = waiting { call }
      moved.raise(Stop)
      assert_untouched(assert_raises(Stop) { moved.value })
    end

    define_method("test_#{what}_is_left_by_thread_kill") do
      prepare(name, at)
      moved = waiting { call }
      moved.kill
      assert_nil moved.value
      assert_untouched
    end

    define_method("test_#{what}_is_left_by_timeout") do
      prepare(name, at)
      assert_untouched(assert_raises(Timeout::Error) { Timeout.timeout(0.05) { call } })
    end

    define_method("test_#{what}_does_not_hear_what_is_put_off") do
      prepare(name, at)
      moved = thread do
        # Until here it is heard only when a call blocks.
        Thread.handle_interrupt(Stop => :never) { Thread.current[:moved] = call }
      end
      wait_until_it_sleeps(moved)
      moved.raise(Stop)
      release
      assert_raises(Stop) { moved.value }
      assert_delivered(moved[:moved])
    end
  end

  def test_a_number_that_is_given_away_again_is_not_written_to
    prepare(:splice, :source)
    number = @sink.fileno
    moved = waiting { call }
    @sink.close
    others = []
    others << opened(File.open(path("other#{others.size}"), "w+b")) until
      others.last&.fileno == number || others.size > 100
    assert_equal number, others.last.fileno
    @feed.write BYTES
    assert_raises(IOError) { moved.value }
    assert_equal 0, others.last.size
    assert_equal BYTES, queued(@source)
  end

  def test_one_io_that_is_closed_ends_all_calls_that_use_it
    source, = pipe
    sinks = Array.new(5) { pipe.last }
    calls = sinks.map { |sink| waiting { IO.splice(source, nil, sink, nil, 10) } }
    calls << waiting { IO.tee(source, sinks.first, 10) }
    source.close
    calls.each { |call| assert_raises(IOError) { call.value } }
  end

  def test_an_io_that_gets_another_descriptor_while_a_call_waits_is_not_confused
    prepare(:splice, :source)
    moved = waiting { call }
    other_drain, other_sink = pipe
    @sink.reopen(other_sink)
    @feed.write BYTES
    begin
      assert_equal 10, moved.value
    rescue IOError
      # Just as good: nothing has moved.
      assert_equal BYTES, queued(@source)
    end
    assert_equal BYTES.bytesize, [@drain, other_drain].sum { |io| queued(io).bytesize } unless
      moved.status.nil?
  end

  # Where there is no other thread a call is made in another way. Signals come from a child.
  def test_signals_reach_a_program_of_a_single_thread
    out, err, status = ruby(<<~'RUBY')
      require "io/splice"
      Stop = Class.new(StandardError)
      BYTES = "0123456789"
      parent = Process.pid
      heard, hear = IO.pipe
      calls = {
        splice: ->(from, to) { IO.splice(from, nil, to, nil, 10) },
        waitall: ->(from, to) { IO.splice(from.fileno, nil, to, nil, 10, [:waitall]) },
        numbers: ->(from, to) { IO.splice(from.fileno, nil, to.fileno, nil, 10) },
        tee: ->(from, to) { IO.tee(from, to, 10) },
        partial: ->(from, to) { IO::Splice.partial(from, to, 10, nil) },
        full: ->(from, to) { IO::Splice.full(from, to, 10, nil) },
        copy_stream: ->(from, to) { IO::Splice.copy_stream(from, to, 10) },
        vmsplice: ->(_, to) { IO.vmsplice(to, BYTES) },
      }
      wait = lambda do
        3.times { sleep 0.002 until File.read("/proc/#{parent}/stat")[/\) (.)/, 1] == "S" }
      end
      calls.each do |name, call|
        handlers = { count: -> {}, raise: -> { raise Stop } }
        handlers[:close] = -> { @sink.close } unless name == :numbers
        # The first thread of this program but the main one.
        handlers[:thread] = -> { Thread.new { @sink.close }.join } unless name == :numbers
        handlers.each do |kind, handler|
          source, feed = IO.pipe
          drain, @sink = IO.pipe
          filled = name == :vmsplice ? @sink.write("." * @sink.pipe_size) : 0
          trap(:USR1) do
            hear.write "."
            handler.call
          end
          child = fork do
            $stdout.reopen "/dev/null"
            3.times do
              wait.call
              Process.kill(:USR1, parent)
              heard.read 1
              exit! unless kind == :count
            end
            wait.call
            feed.write BYTES
            drain.readpartial filled if filled > 0
            exit!
          end
          result = begin
            call.call(source, @sink)
          rescue IOError, Stop => error
            error.class
          end
          Process.wait child
          rest = drain.read_nonblock(100, exception: false)
          puts "#{name} #{kind} #{result} #{rest.is_a?(String) ? rest.size : 0}"
          [source, feed, drain, @sink].each(&:close)
        end
        Thread.pass until Thread.list.size == 1
      end
    RUBY
    lines = out.lines.map(&:split).group_by { |_, kind,| kind }
    assert_equal({ "count" => 8, "raise" => 8, "close" => 7, "thread" => 7 },
                 lines.transform_values(&:size), err)
    assert_equal [%w[10 10]], lines["count"].map { |line| line.last(2) }.uniq, out
    assert_equal ["Stop"], lines["raise"].map { |line| line[2] }.uniq, out
    assert_equal ["IOError"], lines["close"].map { |line| line[2] }.uniq, out
    assert_equal ["IOError"], lines["thread"].map { |line| line[2] }.uniq, out
    assert status.success?
  end

  def test_a_number_that_a_signal_handler_gives_away_is_not_written_to
    out, err, status = ruby(<<~'RUBY', path("other"))
      require "io/splice"
      parent = Process.pid
      go, ready = IO.pipe
      child = fork do
        ready.close
        while go.read(1)
          Process.kill(:USR1, parent)
        end
      end
      go.close
      results = Array.new(500) do |round|
        source, feed = IO.pipe
        drain, sink = IO.pipe
        number = sink.fileno
        other = nil
        trap(:USR1) do
          sink.close
          other = File.open(ARGV[0], "w")
          feed.write "not yours"
        end
        ready.write "."
        # The signal comes before this call, on its way, or when it waits.
        (round % 50).times { Process.clock_gettime(Process::CLOCK_MONOTONIC) }
        result = begin
          IO.splice(source, nil, sink, nil, 10)
        rescue IOError => error
          error.class
        end
        sleep 0.001 until other
        result = [result, other.fileno == number, other.size]
        [source, feed, drain, other].each(&:close)
        result
      end
      ready.close
      Process.wait child
      p results.tally
    RUBY
    assert_equal "{[IOError, true, 0]=>500}\n", out, err
    assert status.success?
  end

  def test_others_compute_while_a_call_waits
    CALLS.each_key do |name|
      prepare(name, :sink)
      rounds = 0
      thread do
        10_000.times { rounds += 1 }
        release
      end
      assert_delivered(call)
      assert_equal 10_000, rounds
    end
  end
end

# Random calls, once on IO.splice and IO.tee and once on those of the C library.
class AgainstTheCLibraryTest < IoSpliceTestCase
  # The C library's calls with F_NONBLOCK: bytes, :EOF, or an Errno.
  module Bare
    NONBLOCK = IO::Splice::F_NONBLOCK

    begin
      require "fiddle"
      library = Fiddle.dlopen(nil)
      int = Fiddle::TYPE_INT
      pointer = Fiddle::TYPE_VOIDP
      size = Fiddle::TYPE_SIZE_T
      result = Fiddle::TYPE_SSIZE_T
      arguments = [int, pointer, int, pointer, size, int]
      SPLICE = Fiddle::Function.new(library["splice"], arguments, result)
      TEE = Fiddle::Function.new(library["tee"], [int, int, size, int], result)
    rescue LoadError
      SPLICE = nil
    end

    class << self
      def splice(from, from_offset, to, to_offset, length, flags)
        offsets = [from_offset, to_offset].map { |offset| offset && [offset].pack("q") }
        result(SPLICE.call(from.fileno, offsets[0], to.fileno, offsets[1], length,
                           flags | NONBLOCK), length)
      end

      def tee(from, to, length, flags)
        result(TEE.call(from.fileno, to.fileno, length, flags | NONBLOCK), length)
      end

      private

      def result(moved, length)
        return SystemCallError.new(nil, Fiddle.last_error).class if moved.negative?

        moved.zero? && length.positive? ? :EOF : moved
      end
    end
  end

  # The same with the drop-in, in one of the ways that it has for it.
  module DropIn
    class << self
      def splice(way, from, from_offset, to, to_offset, length, flags)
        result do
          case way
          when :try then IO.trysplice(from, from_offset, to, to_offset, length, flags)
          when :raise then IO.splice(from, from_offset, to, to_offset, length, flags)
          when :return
            IO.splice(from, from_offset, to, to_offset, length, flags, exception: false)
          end
        end
      end

      def tee(way, from, to, length, flags)
        result do
          case way
          when :try then IO.trytee(from, to, length, flags)
          when :raise then IO.tee(from, to, length, flags)
          when :return then IO.tee(from, to, length, flags, exception: false)
          end
        end
      end

      private

      def result
        got = yield
        return :EOF if got.nil?

        got == :EAGAIN ? Errno::EAGAIN : got
      rescue EOFError
        :EOF
      rescue SystemCallError => error
        error.class
      end
    end
  end

  # The ends that the calls are made on; two of these are made alike.
  class World
    attr_reader :ends

    def initialize(folder, bytes, pages)
      @ends = {}
      %i[a b c].zip([*pages, 256]) do |name, count|
        reader, writer = IO.pipe
        writer.pipe_size = count * IoSpliceTestCase::PAGE
        @ends.update("#{name}_reader": reader.binmode, "#{name}_writer": writer.binmode)
      end
      near, far = UNIXSocket.pair
      [near, far].each { |socket| socket.nonblock = true }
      near.setsockopt(:SOCKET, :SNDBUF, 16_384)
      File.binwrite("#{folder}/source", bytes)
      @ends.update(near: near, far: far, source: File.open("#{folder}/source", "rb"),
                   target: File.open("#{folder}/target", "w+b"),
                   appended: File.open("#{folder}/appended", "ab"))
    end

    def open?(name)
      !@ends.fetch(name).closed?
    end

    # How much is where.
    def state
      %i[a_reader b_reader c_reader near far].map do |name|
        next unless open?(name)

        @ends[name].ioctl(FidTest::FIONREAD, count = [0].pack("i"))
        count.unpack1("i")
      end + %i[source target].map { |name| @ends[name].sysseek(0, IO::SEEK_CUR) }
    end

    # All that is left, in order.
    def rest
      %i[a_reader b_reader c_reader near far].map do |name|
        rest_of(@ends[name]) if open?(name)
      end + %i[target appended].map { |name| File.binread(@ends[name].path) }
    end

    def close
      @ends.each_value(&:close)
    end

    private

    def rest_of(io)
      got = +"".b
      begin
        while (more = io.read_nonblock(1 << 20, exception: false)).is_a?(String)
          got << more
        end
      rescue Errno::ECONNRESET
        # Once, for what the other end of a socket pair had not read when it was closed.
        retry
      end
      got
    end
  end

  SENSIBLE = [%i[a_reader b_writer], %i[a_reader target], %i[a_reader near], %i[near c_writer],
              %i[source a_writer], %i[source b_writer], %i[b_reader near],
              %i[b_reader target], %i[b_reader a_writer], %i[target a_writer]].freeze
  OFFSETS = [0, 1, 4096, 150_001, 200_000, 5 << 30, -1].freeze
  ANY = %i[a_reader a_writer b_reader b_writer near source target appended].freeze
  LENGTHS = [0, 1, 10, 4095, 4096, 4097, 20_000, 65_536, 1 << 20, 1 << 40].freeze
  HINTS = [0, IO::Splice::F_MOVE, IO::Splice::F_MORE, 7, IO::Splice::F_GIFT].freeze
  WORLDS = 25
  STEPS = 200

  def test_the_same_calls_have_the_same_results_as_those_of_the_c_library
    skip "this Ruby has no fiddle" unless Bare::SPLICE

    random = Random.new(Tap.seed)
    results = Hash.new(0)
    WORLDS.times do |number|
      bytes = random.bytes(200_000)
      pages = Array.new(2) { 1 << random.rand(5) }
      worlds = %w[bare drop-in].map do |name|
        World.new(path("#{number}-#{name}").tap { |folder| Dir.mkdir(folder) }, bytes, pages)
      end
      worlds.each { |world| world.ends.each_value { |io| opened(io) } }
      STEPS.times do |step|
        results[take(random, *worlds, "world #{number}, step #{step}")] += 1
      end
      assert_equal(*worlds.map(&:rest), "world #{number}")
      worlds.each(&:close)
    end
    # Random calls that all meet the same answer would prove nothing.
    [Integer, :EOF, Errno::EAGAIN, Errno::EINVAL, Errno::EBADF, Errno::ESPIPE,
     Errno::EPIPE].each do |kind|
      assert_operator results[kind], :>, 10, "#{kind}: #{results}"
    end
  end

  private

  # One step in both worlds; returns the kind of its result.
  def take(random, bare, drop_in, where)
    kind = case random.rand(100)
           when 0..29 then feed(random, bare, drop_in, where)
           when 30..49 then drain(random, bare, drop_in, where)
           when 50 then close_one(random, bare, drop_in)
           when 51..64 then tee(random, bare, drop_in, where)
           else splice(random, bare, drop_in, where)
           end
    assert_equal bare.state, drop_in.state, where
    kind
  end

  def both_open?(world, *names)
    names.all? { |name| world.open?(name) }
  end

  def feed(random, bare, drop_in, where)
    name = %i[a_writer b_writer far].sample(random: random)
    bytes = random.bytes(random.rand(8000))
    return :none unless both_open?(bare, name)

    results = [bare, drop_in].map do |world|
      world.ends[name].write_nonblock(bytes, exception: false)
    rescue Errno::EPIPE
      :EPIPE
    end
    assert_equal(*results, where)
    :none
  end

  def drain(random, bare, drop_in, where)
    name = %i[a_reader b_reader far].sample(random: random)
    length = random.rand(1..20_000)
    return :none unless both_open?(bare, name)

    results = [bare, drop_in].map do |world|
      [world.ends[name].read_nonblock(length, exception: false)]
    end
    assert_equal(*results, where)
    :none
  end

  def empty_the_roomy_pipe(bare, drop_in, where)
    results = [bare, drop_in].map do |world|
      [world.ends[:c_reader].read_nonblock(1 << 20, exception: false)]
    end
    assert_equal(*results, where)
  end

  def close_one(random, bare, drop_in)
    name = %i[a_reader a_writer b_reader b_writer far].sample(random: random)
    [bare, drop_in].each { |world| world.ends[name].close }
    :none
  end

  def choose_ends(random)
    any = random.rand(5).zero?
    from, to = any ? ANY.sample(2, random: random) : SENSIBLE.sample(random: random)
    # Into how many parts the kernel divides what a socket has received depends on what this
    # thread did before. So that goes to a pipe which always has room.
    to = :c_writer if from == :near && %i[a_writer b_writer].include?(to)
    [from, to]
  end

  def choose_offset(random)
    OFFSETS.sample(random: random) if random.rand(5).zero?
  end

  def splice(random, bare, drop_in, where)
    from, to = choose_ends(random)
    offsets = [choose_offset(random), choose_offset(random)]
    offsets[1] = 4096 if offsets[1]&.>(200_000)
    length = LENGTHS.sample(random: random)
    flags = HINTS.sample(random: random)
    way = %i[try raise return].sample(random: random)
    waits = random.rand(2).zero?
    return :none unless both_open?(bare, from, to)

    empty_the_roomy_pipe(bare, drop_in, where)
    expected = Bare.splice(bare.ends[from], offsets[0], bare.ends[to], offsets[1],
                           length, flags)
    # What would block there would wait here.
    flags |= NONBLOCK unless waits && expected != Errno::EAGAIN
    got = DropIn.splice(way, drop_in.ends[from], offsets[0], drop_in.ends[to], offsets[1],
                        length, flags)
    assert_equal expected, got, "#{where}: splice #{way} #{from} #{offsets[0].inspect} #{to} " \
                                "#{offsets[1].inspect} #{length} #{flags}"
    expected.is_a?(Integer) ? Integer : expected
  end

  def tee(random, bare, drop_in, where)
    from, to = choose_ends(random)
    length = LENGTHS.sample(random: random)
    flags = HINTS.sample(random: random)
    way = %i[try raise return].sample(random: random)
    waits = random.rand(2).zero?
    return :none unless both_open?(bare, from, to)

    expected = Bare.tee(bare.ends[from], bare.ends[to], length, flags)
    flags |= NONBLOCK unless waits && expected != Errno::EAGAIN
    got = DropIn.tee(way, drop_in.ends[from], drop_in.ends[to], length, flags)
    assert_equal expected, got, "#{where}: tee #{way} #{from} #{to} #{length} #{flags}"
    expected.is_a?(Integer) ? Integer : expected
  end
end
