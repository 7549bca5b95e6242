# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# SleepyPenguin's splice, tee, copy_file_range and linux_sendfile as its documentation has them.
# The first two are Fid.splice and Fid.tee: calls_test.rb says more about those.

require_relative "support"
require "fid/sleepy_penguin"
require "tempfile"
require "timeout"

class SleepyPenguinTest < FidTest
  # An IO, its number, and an object that has it.
  def each_spelling(io)
    [io, io.fileno, Struct.new(:to_io).new(io.to_io)].each { |spelling| yield spelling }
  end

  def temporary(data = "")
    made = opened(Tempfile.new(binmode: true))
    made.syswrite data
    made.sysseek 0
    made
  end

  def position(io)
    io.sysseek(0, IO::SEEK_CUR)
  end

  # Runs the block while this thread sleeps in a call.
  def meanwhile(&body)
    main = Thread.current
    thread do
      wait_until_it_sleeps(main)
      body.call
    end
  end

  # ---- Constants ----

  def test_constants_have_the_values_of_the_kernel
    assert_equal [1, 2, 4], [SleepyPenguin::F_MOVE, SleepyPenguin::F_NONBLOCK,
                             SleepyPenguin::F_MORE]
  end

  def test_pipes_are_resized_by_fcntl_with_the_constants
    reader, writer = pipe
    assert_operator reader.fcntl(SleepyPenguin::F_GETPIPE_SZ), :>, 0
    reader.fcntl(SleepyPenguin::F_SETPIPE_SZ, 1 << 17)
    assert_equal 1 << 17, writer.fcntl(SleepyPenguin::F_GETPIPE_SZ)
  end

  # ---- splice ----

  def test_splice_takes_ios_numbers_and_what_has_to_io
    each_spelling(temporary("abcde")) do |source|
      reader, writer = pipe
      assert_equal 5, SleepyPenguin.splice(source, writer, 5, off_in: 0)
      target = temporary
      each_spelling(target) do |sink|
        assert_equal 1, SleepyPenguin.splice(reader, sink, 1)
      end
      assert_equal "abc", File.read(target.path)
    end
  end

  def test_splice_takes_offsets_as_keywords_and_leaves_those_of_the_files
    source = temporary("abcde")
    reader, writer = pipe
    assert_equal 2, SleepyPenguin.splice(source, writer, 100, off_in: 3)
    assert_equal "de", queued(reader)
    target = temporary
    writer.write "abcde"
    assert_equal 5, SleepyPenguin.splice(reader, target, 5, off_out: 3)
    assert_equal "\0\0\0abcde", File.binread(target.path)
    assert_equal [0, 0], [position(source), position(target)]
    assert_equal 3, SleepyPenguin.splice(source, writer, 3, off_in: nil, off_out: nil)
    assert_equal 3, position(source)
  end

  def test_flags_are_integers_symbols_or_arrays_of_symbols
    reader, writer = pipe
    target = temporary
    [SleepyPenguin::F_NONBLOCK, :nonblock, [:nonblock], %i[more nonblock],
     %i[move nonblock more], SleepyPenguin::F_NONBLOCK | SleepyPenguin::F_MORE].each do |flags|
      assert_raises(Errno::EAGAIN) { SleepyPenguin.splice(reader, target, 5, flags) }
      assert_equal :EAGAIN, SleepyPenguin.splice(reader, target, 5, flags, exception: false)
      assert_equal :EAGAIN, SleepyPenguin.splice(reader, target, 5, flags, off_out: 0,
                                                                            exception: false)
    end
    [0, :more, :move, %i[more move], SleepyPenguin::F_MOVE].each do |flags|
      writer.write "x"
      assert_equal 1, SleepyPenguin.splice(reader, target, 5, flags)
    end
    assert_equal "xxxxx", File.read(target.path)
  end

  def test_splice_at_the_end_is_eof_error_or_nil
    source = full_pipe("abc")
    target = temporary
    assert_equal 3, SleepyPenguin.splice(source, target, 5, off_out: 0, exception: false)
    assert_raises(EOFError) { SleepyPenguin.splice(source, target, 5, :nonblock) }
    assert_raises(EOFError) { SleepyPenguin.splice(source, target, 5) }
    assert_nil SleepyPenguin.splice(source, target, 5, exception: false)
    assert_nil SleepyPenguin.splice(source, target, 5, :nonblock, exception: false)
  end

  def test_splice_from_a_socket_with_o_nonblock_is_eagain_without_flags
    near, far = tcp_pair
    near.nonblock = true
    reader, writer = pipe
    assert_raises(Errno::EAGAIN) { SleepyPenguin.splice(near, writer, 1024) }
    assert_equal :EAGAIN, SleepyPenguin.splice(near, writer, 1024, exception: false)
    far.write "now"
    near.wait_readable
    assert_equal 3, SleepyPenguin.splice(near, writer, 1024)
    assert_equal "now", queued(reader)
  end

  def test_splice_goes_on_after_a_signal
    reader, writer = pipe
    target = temporary
    handled = 0
    before = trap(:USR1) { handled += 1 }
    ended = meanwhile do
      Process.kill(:USR1, Process.pid)
      eventually("the handler") { handled == 1 }
      writer.write "HI"
    end
    assert_equal 2, SleepyPenguin.splice(reader, target, 666)
    assert_equal 1, handled
    ended.value
  ensure
    trap(:USR1, before)
  end

  def test_splice_is_an_io_error_when_its_source_is_closed_and_can_be_timed_out
    reader, = pipe
    target = temporary
    assert_raises(Timeout::Error) do
      Timeout.timeout(0.05) { SleepyPenguin.splice(reader, target, 666) }
    end
    meanwhile { reader.close }
    assert_raises(IOError) { SleepyPenguin.splice(reader, target, 666) }
  end

  def test_trysplice_never_waits_and_never_raises_for_what_is_no_error
    reader, writer = pipe
    target = temporary
    assert_equal :EAGAIN, SleepyPenguin.trysplice(reader, target, 5)
    assert_equal :EAGAIN, SleepyPenguin.trysplice(reader, target, 5, :more, off_out: 3)
    writer.write "abc"
    assert_equal 3, SleepyPenguin.trysplice(reader, target, 5, %i[move more])
    writer.close
    assert_nil SleepyPenguin.trysplice(reader, target, 5)
    assert_equal 2, SleepyPenguin.trysplice(target, pipe.last, 5, 0, off_in: 1)
    assert_raises(ArgumentError) { SleepyPenguin.trysplice(reader, target, 5, :sometimes) }
  end

  # ---- tee ----

  def test_tee_copies_and_takes_nothing
    source = full_pipe("abcde")
    reader, writer = pipe
    each_spelling(source) { |from| assert_equal 5, SleepyPenguin.tee(from, writer, 10) }
    each_spelling(writer) { |to| assert_equal 2, SleepyPenguin.tee(source, to, 2, :nonblock) }
    assert_equal 1, SleepyPenguin.trytee(source, writer, 1)
    assert_equal "abcdeabcdeabcdeabababa", queued(reader)
    assert_equal "abcde", source.read
  end

  def test_tee_at_the_end_is_eof_error_or_nil
    source = full_pipe("")
    _, writer = pipe
    assert_raises(EOFError) { SleepyPenguin.tee(source, writer, 4096) }
    assert_nil SleepyPenguin.tee(source, writer, 4096, exception: false)
    assert_nil SleepyPenguin.tee(source, writer, 4096, :nonblock, exception: false)
    assert_nil SleepyPenguin.trytee(source, writer, 4096)
  end

  def test_tee_of_an_empty_pipe_with_nonblock_is_eagain
    source, = pipe
    _, writer = pipe
    [SleepyPenguin::F_NONBLOCK, :nonblock, %i[nonblock more]].each do |flags|
      assert_raises(Errno::EAGAIN) { SleepyPenguin.tee(source, writer, 4096, flags) }
      assert_equal :EAGAIN, SleepyPenguin.tee(source, writer, 4096, flags, exception: false)
    end
    assert_equal :EAGAIN, SleepyPenguin.trytee(source, writer, 4096)
    assert_equal :EAGAIN, SleepyPenguin.trytee(source, writer, 4096, :more)
  end

  def test_tee_waits_without_nonblock
    source, feed = pipe
    reader, writer = pipe
    meanwhile { feed.write "late" }
    assert_equal 4, SleepyPenguin.tee(source, writer, 4096)
    assert_equal "late", queued(reader)
  end

  # ---- copy_file_range ----

  def test_copy_file_range_copies_between_files_and_moves_their_offsets
    source = temporary("abcdefgh")
    target = temporary
    source.sysseek 2
    assert_equal 5, SleepyPenguin.copy_file_range(source, target, 5)
    assert_equal [7, 5], [position(source), position(target)]
    assert_equal 1, SleepyPenguin.copy_file_range(source.fileno, target.fileno, 100, 0)
    assert_equal "cdefgh", File.read(target.path)
  end

  def test_copy_file_range_with_offsets_leaves_those_of_the_files
    source = temporary("abcde")
    target = temporary("......")
    assert_equal 4, SleepyPenguin.copy_file_range(source, target, 5, off_in: 1, off_out: 2)
    assert_equal [0, 0], [position(source), position(target)]
    assert_equal "..bcde", File.read(target.path)
    assert_equal 2, SleepyPenguin.copy_file_range(source, target, 2, off_out: 0)
    assert_equal [2, 0], [position(source), position(target)]
    assert_equal 1, SleepyPenguin.copy_file_range(source, target, 1, off_in: 4)
    assert_equal [2, 1], [position(source), position(target)]
    assert_equal "ebbcde", File.read(target.path)
  end

  def test_copy_file_range_at_the_end_is_0_and_no_error
    source = temporary("abcde")
    target = temporary
    assert_equal 0, SleepyPenguin.copy_file_range(source, target, 5, off_in: 5)
    assert_equal 0, SleepyPenguin.copy_file_range(source, target, 5, off_in: 9)
    assert_equal 0, SleepyPenguin.copy_file_range(source, target, 0)
    assert_equal 0, target.size
  end

  def test_copy_file_range_of_what_is_no_file_or_with_flags_is_einval
    source = temporary("abcde")
    target = temporary
    reader, writer = pipe
    assert_raises(Errno::EINVAL) { SleepyPenguin.copy_file_range(source, writer, 5) }
    assert_raises(Errno::EINVAL) { SleepyPenguin.copy_file_range(reader, target, 5) }
    assert_raises(Errno::EINVAL) { SleepyPenguin.copy_file_range(socket_pair[0], target, 5) }
    assert_raises(Errno::EINVAL) { SleepyPenguin.copy_file_range(source, target, 5, 1) }
    assert_equal [0, 0], [position(source), target.size]
  end

  def test_copy_file_range_copies_between_file_systems_and_large_files
    skip "there is no /dev/shm" unless File.writable?("/dev/shm")

    bytes = data(3 << 20)
    target = opened(Tempfile.create("fid-test", "/dev/shm").binmode)
    File.unlink target.path
    assert_equal bytes.bytesize,
                 SleepyPenguin.copy_file_range(temporary(bytes), target, bytes.bytesize)
    target.rewind
    assert_equal bytes, target.read
  end

  # ---- linux_sendfile ----

  def test_linux_sendfile_sends_a_file_and_moves_its_offset
    near, far = socket_pair
    source = temporary("abcde")
    assert_equal 3, SleepyPenguin.linux_sendfile(near, source, 3)
    assert_equal 3, position(source)
    assert_equal 2, SleepyPenguin.linux_sendfile(near.fileno, source.fileno, 100)
    assert_equal "abcde", far.readpartial(10)
  end

  def test_linux_sendfile_with_an_offset_leaves_that_of_the_file
    near, far = socket_pair
    source = temporary("abcde")
    source.sysseek 1
    assert_equal 5, SleepyPenguin.linux_sendfile(near, source, 100, offset: 0)
    assert_equal 2, SleepyPenguin.linux_sendfile(near, source, 2, offset: 3)
    assert_equal 1, position(source)
    assert_equal "abcdede", far.readpartial(10)
  end

  def test_linux_sendfile_at_the_end_is_0
    near, = socket_pair
    source = temporary("abcde")
    assert_equal 0, SleepyPenguin.linux_sendfile(near, source, 5, offset: 5)
    source.sysseek 5
    assert_equal 0, SleepyPenguin.linux_sendfile(near, source, 5)
    assert_equal 0, SleepyPenguin.linux_sendfile(near, temporary, 5)
    assert_equal 5, position(source)
  end

  def test_linux_sendfile_to_a_nonblocking_socket_sends_what_fits_and_then_says_so
    near, far = socket_pair
    near.nonblock = true
    bytes = data(2 << 20)
    source = temporary(bytes)
    sent = SleepyPenguin.linux_sendfile(near, source, bytes.bytesize)
    assert_includes 1...bytes.bytesize, sent
    assert_equal sent, position(source)
    assert_equal :wait_writable, SleepyPenguin.linux_sendfile(near, source, bytes.bytesize)
    assert_equal :wait_writable, SleepyPenguin.linux_sendfile(near, source, 1, offset: 0)
    assert_equal sent, position(source)
    assert_equal bytes.byteslice(0, sent), far.read(sent)
  end

  def test_linux_sendfile_to_a_blocking_socket_waits
    near, far = socket_pair
    near.nonblock = false
    bytes = data(2 << 20)
    read = reading(far)
    assert_equal bytes.bytesize, SleepyPenguin.linux_sendfile(near, temporary(bytes), 5 << 20)
    near.close
    assert_equal bytes, read.value
  end

  def test_linux_sendfile_to_a_socket_that_has_gone_is_epipe
    near, far = socket_pair
    far.close
    source = temporary("abcde")
    assert_raises(Errno::EPIPE) { SleepyPenguin.linux_sendfile(near, source, 5) }
    assert_equal 0, position(source)
  end

  def test_several_threads_send_one_file_at_once_with_offsets
    bytes = data(300_000)
    source = temporary(bytes)
    copies = Array.new(4) do |number|
      near, far = socket_pair
      sent = thread do
        total = number * 1000
        while (got = SleepyPenguin.linux_sendfile(near, source, 50_000, offset: total)) != 0
          got == :wait_writable ? near.wait_writable : total += got
        end
        near.close
        total
      end
      [number, sent, reading(far)]
    end
    copies.each do |number, sent, read|
      assert_equal bytes.bytesize, sent.value
      assert_equal bytes.byteslice(number * 1000..), read.value
    end
    assert_equal 0, position(source)
  end

  # ---- Beside the original ----

  def test_only_who_requires_it_has_it
    out, err, = ruby("require 'fid'; require 'io/splice'; p defined?(SleepyPenguin)")
    assert_equal ["nil\n", ""], [out, err]
  end

  def test_it_can_be_required_alone_and_without_warnings
    out, err, = ruby(<<~RUBY, env: { "RUBYOPT" => "-w" })
      require "fid/sleepy_penguin"
      reader, writer = IO.pipe
      p SleepyPenguin.splice(File.open("/dev/zero"), writer, 3),
        SleepyPenguin.linux_sendfile(writer, File.open("/dev/null"), 3)
    RUBY
    assert_equal ["3\n0\n", ""], [out, err]
  end

  def test_it_takes_the_place_of_an_original_that_was_loaded_before
    out, err, = ruby(<<~RUBY)
      module SleepyPenguin
        F_MOVE = 1
        F_NONBLOCK = 2
        class Epoll; end
        def self.splice(*) = :original
        def self.epoll = :original
      end
      require "fid/sleepy_penguin"
      reader, writer = IO.pipe
      p SleepyPenguin.splice(reader, writer.dup, 3, 2, exception: false) rescue p $!.class
      p SleepyPenguin.epoll, SleepyPenguin::Epoll, SleepyPenguin::F_MORE
    RUBY
    assert_equal [%w[Errno::EINVAL :original SleepyPenguin::Epoll 4], ""], [out.split, err]
  end
end
