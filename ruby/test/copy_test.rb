# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"

require "fiddle"
require "openssl"
require "pathname"
require "stringio"
require "tempfile"
require "timeout"
require "zlib"

# Fid.copy: every kind of source into every kind of sink, its arguments, and its failures.
class CopyTest < FidTest
  PAGE = 4096
  LENGTHS = [0, 1, PAGE - 1, PAGE, PAGE + 1, 64 << 10, (3 << 20) + 17].freeze
  LONGEST = LENGTHS.max
  GET_PIPE_SIZE = 1032 # F_GETPIPE_SZ
  SET_PIPE_SIZE = 1031

  # ---- Sources and sinks ----

  def memfd
    @memfd ||= Fiddle::Function.new(Fiddle::Handle::DEFAULT["memfd_create"],
                                    [Fiddle::TYPE_VOIDP, Fiddle::TYPE_INT], Fiddle::TYPE_INT)
    opened(IO.for_fd(@memfd.call("test", 1), "r+b"))
  end

  # All that is left. Without a length IO#read makes room bit by bit, which is slow under a
  # sanitizer.
  def rest_of(io)
    io.read(4 * LONGEST).to_s
  end

  # Writes all to an IO and closes it, from a thread.
  def feed(io, bytes)
    thread do
      io.write bytes
      io.close
    end
  end

  # A source that gives these bytes and comes to its end.
  def source_of(kind, bytes, **options)
    case kind
    when :file then open_file(bytes)
    when :memfd
      memfd.tap do |io|
        io.write bytes
        io.rewind
      end
    else
      reader, writer = stream(kind, **options)
      feed(writer, bytes)
      reader
    end
  end

  # Two ends: the first can be read, the second can be written.
  def stream(kind, pipe_bytes: nil)
    ends = case kind[/pipe|unix|tcp/]
           when "pipe" then pipe
           when "unix" then socket_pair
           when "tcp" then tcp_pair.each { |io| io.setsockopt(:SOCKET, :SNDBUF, 64 << 10) }
           end
    ends.first.fcntl(SET_PIPE_SIZE, pipe_bytes) if pipe_bytes && ends.first.stat.pipe?
    ends.each { |io| io.nonblock = !kind.start_with?("blocking") }
  end

  # A sink, and what tells the bytes that it was given when it is closed.
  def sink_of(kind)
    case kind
    when :file, :append
      at = path("sink-#{rand(1 << 60)}")
      [opened(File.open(at, kind == :file ? "wb" : "ab")), -> { File.binread(at) }]
    when :memfd
      io = memfd
      [io, -> { File.binread("/proc/self/fd/#{io.fileno}") }]
    when :null then [opened(File.open("/dev/null", "wb")), -> {}]
    else
      reader, writer = stream(kind)
      got = reading(reader)
      [writer, lambda {
        writer.close
        got.value
      }]
    end
  end

  # Nothing is left, and every sum is right.
  def assert_account(receipt, bytes)
    assert_equal bytes, receipt.bytes
    assert_equal bytes, receipt.bytes_out
    assert_equal bytes, receipt.bytes_in
    assert_equal 0, receipt.bytes_held
    assert_equal 0, receipt.bytes_salvaged
    assert_equal bytes, receipt.by_reference + receipt.kernel_copy + receipt.user_copy
    assert_equal bytes, receipt.by_method.values.sum
    assert_equal receipt.by_reference == bytes, receipt.by_reference?
    assert_nil receipt.error
    refute_predicate receipt, :require_unmet?
  end

  def assert_same_bytes(expected, actual, what = nil)
    return if expected == actual

    at = expected.each_byte.zip(actual.each_byte).index { |one, other| one != other }
    flunk "#{what}: #{actual.bytesize} bytes instead of #{expected.bytesize}, " \
          "and the first that differs is at #{at.inspect}"
  end

  def copy_through(source_kind, sink_kind, bytes, **options)
    source = source_of(source_kind, bytes)
    sink, result = sink_of(sink_kind)
    receipt = Fid.copy(source, sink, **options)
    assert_account(receipt, bytes.bytesize)
    assert_same_bytes(bytes, result.call || bytes, "#{source_kind} to #{sink_kind}")
    receipt
  ensure
    [source, sink].each { |io| io.close if io && !io.closed? }
  end

  STREAMS = %i[pipe blocking_pipe unix blocking_unix tcp blocking_tcp].freeze
  SOURCES = [:file, :memfd, *STREAMS].freeze
  SINKS = [:file, :append, :memfd, :null, *STREAMS].freeze

  SOURCES.product(SINKS) do |source_kind, sink_kind|
    define_method("test_copy_delivers_every_byte_from_#{source_kind}_to_#{sink_kind}") do
      LENGTHS.each { |length| copy_through(source_kind, sink_kind, data(length)) }
    end
  end

  # ---- What may be given as an end ----

  # A to_io that is no IO, as servers have them.
  Wrapped = Struct.new(:to_io)
  # A to_path that is no Pathname.
  Placed = Struct.new(:to_path)

  def test_copy_takes_paths_and_closes_what_it_opened
    bytes = data(PAGE + 1)
    from = file(bytes)
    before = descriptors
    [from, Pathname(from), Placed.new(from)].each do |source|
      [String, Pathname, Placed].each do |kind|
        to = path("to-#{kind}")
        File.binwrite(to, "longer than that " * 1000)
        receipt = Fid.copy(source, kind.new(to))
        assert_account(receipt, bytes.bytesize)
        assert_same_bytes bytes, File.binread(to)
      end
    end
    assert_equal before, descriptors
  end

  def test_copy_creates_a_file_as_open_does
    to = path("new")
    mask = File.umask(0o027)
    begin
      Fid.copy(file("bytes"), to)
    ensure
      File.umask(mask)
    end
    assert_equal 0o640, File.stat(to).mode & 0o777
  end

  def test_copy_does_not_convert_what_it_opens
    bytes = "\xE4\r\n\x1A\xFF\xFE".b
    internal = Encoding.default_internal
    external = Encoding.default_external
    begin
      verbose, $VERBOSE = $VERBOSE, nil
      Encoding.default_external = "ISO-8859-1"
      Encoding.default_internal = "UTF-8"
      Fid.copy(file(bytes), path("to"))
    ensure
      Encoding.default_internal = internal
      Encoding.default_external = external
      $VERBOSE = verbose
    end
    assert_equal bytes, File.binread(path("to"))
  end

  def test_copy_closes_what_it_opened_after_a_failure
    from = file(data(PAGE))
    before = descriptors
    assert_raises(Errno::ENOSPC) { Fid.copy(from, "/dev/full") }
    assert_raises(Errno::EISDIR) { Fid.copy(path("."), path("to")) }
    assert_raises(Errno::ENOENT) { Fid.copy(from, path("no/such/folder")) }
    assert_raises(TypeError) { Fid.copy(from, nil) }
    assert_raises(ArgumentError) { Fid.copy(from, path("to"), -1) }
    assert_equal before, descriptors
  end

  def test_copy_leaves_the_sink_alone_when_the_source_cannot_be_opened
    to = file("precious")
    assert_raises(Errno::ENOENT) { Fid.copy(path("missing"), to) }
    assert_raises(TypeError) { Fid.copy(nil, to) }
    assert_equal "precious", File.read(to)
  end

  def test_copy_does_not_close_what_it_was_given
    reader, writer = pipe
    from = open_file("bytes")
    Fid.copy(from, writer)
    Fid.copy(from.fileno, writer.fileno)
    refute_predicate from, :closed?
    writer.write "!"
    GC.start
    assert_equal "bytes!", reader.readpartial(100)
  end

  def test_copy_takes_numbers
    bytes = data(LONGEST)
    from = open_file(bytes)
    reader, writer = pipe
    got = reading(reader)
    assert_account Fid.copy(from.fileno, writer.fileno), bytes.bytesize
    writer.close
    assert_same_bytes bytes, got.value
  end

  def test_copy_takes_what_has_to_io
    bytes = data(PAGE)
    to = path("to")
    sink = opened(File.open(to, "wb"))
    assert_account Fid.copy(Wrapped.new(open_file(bytes)), Wrapped.new(sink)), PAGE
    assert_same_bytes bytes, File.binread(to)
  end

  def test_copy_takes_temporary_files
    bytes = data(PAGE)
    Tempfile.create do |plain|
      Tempfile.open do |delegator|
        Fid.copy(file(bytes), delegator)
        delegator.rewind
        Fid.copy(delegator, plain)
        assert_same_bytes bytes, File.binread(plain.path)
      end
    end
  end

  def test_copy_takes_processes_at_both_ends
    bytes = data(LONGEST)
    to = path("to")
    IO.popen(["cat", file(bytes)], "rb") do |source|
      IO.popen(["tee", to], "wb", out: File::NULL) do |sink|
        assert_account Fid.copy(source, sink), bytes.bytesize
      end
    end
    assert_same_bytes bytes, File.binread(to)
  end

  def test_copy_prefers_to_io_to_to_path
    both = Class.new do
      def initialize(io) = @io = io
      def to_io = @io
      def to_path = "/no/such/file"
    end
    reader, writer = pipe
    Fid.copy(both.new(open_file("bytes")), both.new(writer))
    assert_equal "bytes", reader.readpartial(100)
  end

  def test_copy_refuses_what_is_no_end
    to = file("precious")
    [nil, :stdout, 1.5, Object.new, StringIO.new("bytes"), ["a"], IO].each do |wrong|
      [-> { Fid.copy(wrong, to) }, -> { Fid.copy(file("bytes"), wrong) }].each do |call|
        error = assert_raises(TypeError, &call)
        assert_includes error.message, wrong.nil? ? "nil" : wrong.class.name
      end
    end
    assert_raises(TypeError) { Fid.copy(nil, nil) }
    assert_raises(TypeError) { Fid.copy(open_file("bytes"), nil) }
    assert_raises(TypeError) { Fid.copy(Wrapped.new("text"), to) }
    assert_raises(TypeError) { Fid.copy(Placed.new(5), to) }
    assert_equal "precious", File.read(to)
  end

  def test_copy_passes_on_what_to_io_raises
    broken = Class.new { def to_io = raise(NotImplementedError, "not yet") }.new
    assert_raises(NotImplementedError) { Fid.copy(broken, path("to")) }
  end

  def test_copy_refuses_tls_sockets
    one, other = socket_pair
    tls = OpenSSL::SSL::SSLSocket.new(one, OpenSSL::SSL::SSLContext.new)
    error = assert_raises(TypeError) { Fid.copy(file("clear text"), tls) }
    assert_includes error.message, "OpenSSL::SSL::SSLSocket"
    assert_raises(TypeError) { Fid.copy(tls, path("to")) }
    assert_raises(TypeError) { Fid::Flow.new(open_file("clear text"), tls) }
    assert_raises(TypeError) { Fid::Flow.new(tls, one) }
    assert_equal :wait_readable, other.read_nonblock(100, exception: false)
  end

  def test_copy_refuses_compressed_files
    at = path("compressed")
    Zlib::GzipWriter.open(at) do |writer|
      writer.write "text"
      error = assert_raises(TypeError) { Fid.copy(file("clear text"), writer) }
      assert_includes error.message, "Zlib::GzipWriter"
      assert_raises(TypeError) { Fid::Flow.new(open_file("clear text"), writer) }
    end
    Zlib::GzipReader.open(at) do |reader|
      assert_raises(TypeError) { Fid.copy(reader, path("to")) }
      assert_raises(TypeError) { Fid::Flow.new(reader, 1) }
      assert_equal "text", reader.read
    end
  end

  def test_copy_refuses_closed_ends
    reader, writer = pipe
    closed = open_file("bytes")
    closed.close
    assert_raises(IOError) { Fid.copy(closed, writer) }
    closed = opened(File.open(path("to"), "wb"))
    closed.close
    assert_raises(IOError) { Fid.copy(reader, closed) }
  end

  def test_copy_refuses_the_wrong_direction
    reader, writer = pipe
    from = open_file("bytes")
    error = assert_raises(IOError) { Fid.copy(from, reader) }
    assert_match(/not opened for writing/, error.message)
    error = assert_raises(IOError) { Fid.copy(writer, writer) }
    assert_match(/not opened for reading/, error.message)
    error = assert_raises(Errno::EBADF) { Fid.copy(from.fileno, reader.fileno) }
    assert_equal :sink, error.side
    error = assert_raises(Errno::EBADF) { Fid.copy(writer.fileno, writer.fileno) }
    assert_equal :source, error.side
    assert_equal "bytes", from.read
  end

  def test_copy_refuses_numbers_that_are_no_descriptor
    _, writer = pipe
    unused = opened(File.open(File::NULL)).tap(&:close)
    free = descriptors.max + 1
    assert_predicate unused, :closed?
    [free, -1, 1 << 30].each do |number|
      assert_equal :source, assert_raises(Errno::EBADF) { Fid.copy(number, writer) }.side
      assert_equal :sink, assert_raises(Errno::EBADF) { Fid.copy(open_file("a"), number) }.side
    end
    [1 << 31, 1 << 64, -(1 << 40)].each do |number|
      assert_raises(RangeError) { Fid.copy(number, writer) }
    end
  end

  # ---- Length ----

  def test_copy_stops_at_the_length
    bytes = data(200_000)
    (SOURCES.product(%i[file pipe unix])).each do |source_kind, sink_kind|
      [0, 1, PAGE, 20_000, 150_000].each do |length|
        source = source_of(source_kind, bytes)
        sink, result = sink_of(sink_kind)
        assert_account Fid.copy(source, sink, length), length
        assert_same_bytes bytes[0, length], result.call, "#{source_kind} to #{sink_kind}"
        assert_same_bytes bytes[length..], source.read, "the rest of #{source_kind}"
        source.close
      end
    end
  end

  def test_copy_ends_with_the_source_when_the_length_is_more
    bytes = data(PAGE + 3)
    SOURCES.each do |kind|
      [PAGE + 3, PAGE + 4, 1 << 40, (1 << 63) - 1, (1 << 64) - 1].each do |length|
        sink, result = sink_of(:pipe)
        assert_account Fid.copy(source_of(kind, bytes), sink, length), bytes.bytesize
        assert_same_bytes bytes, result.call, kind
      end
    end
  end

  def test_copy_of_a_length_does_not_wait_for_more
    SINKS.each do |kind|
      reader, writer = pipe
      writer.write "0123456789"
      sink, result = sink_of(kind)
      assert_account Fid.copy(reader, sink, 7), 7
      assert_equal "0123456", result.call || "0123456"
      assert_equal "789", reader.read_nonblock(100)
    end
  end

  def test_copy_of_nothing_takes_nothing
    reader, writer = pipe
    _, sink = pipe
    assert_account Fid.copy(reader, sink, 0), 0
    writer.write "a"
    assert_account Fid.copy(reader, sink, 0), 0
    assert_equal "a", reader.read_nonblock(10)
  end

  def test_copy_of_a_length_from_an_endless_source
    SINKS.each do |kind|
      sink, result = sink_of(kind)
      assert_account Fid.copy("/dev/zero", sink, LONGEST), LONGEST
      assert_same_bytes "\0".b * LONGEST, result.call || "\0".b * LONGEST, kind
    end
  end

  def test_copy_from_dev_null_is_empty
    SINKS.each do |kind|
      sink, result = sink_of(kind)
      assert_account Fid.copy("/dev/null", sink), 0
      assert_equal "", result.call.to_s
    end
  end

  def test_copy_reads_files_without_a_size
    to = path("to")
    receipt = Fid.copy("/proc/self/status", to)
    assert_operator receipt.bytes, :>, 100
    assert_equal receipt.bytes, File.size(to)
    assert_match(/\AName:/, File.read(to))
  end

  def test_copy_refuses_lengths_that_are_none
    reader, = pipe
    _, sink = pipe
    [-1, -(1 << 70)].each do |length|
      error = assert_raises(ArgumentError) { Fid.copy(reader, sink, length) }
      assert_includes error.message, "length"
      assert_includes error.message, length.to_s
    end
    assert_raises(RangeError) { Fid.copy(reader, sink, 1 << 64) }
    assert_raises(RangeError) { Fid.copy(reader, sink, Float::INFINITY) }
    assert_raises(RangeError) { Fid.copy(reader, sink, Float::NAN) }
    ["5", :all, [1], {}].each do |length|
      assert_raises(TypeError) { Fid.copy(reader, sink, length) }
    end
  end

  def test_copy_rounds_a_length_down_as_ruby_does
    reader, sink = pipe
    assert_equal 4, Fid.copy(open_file("0123456789"), sink, 4.9).bytes
    assert_equal 2, Fid.copy(open_file("0123456789"), sink, Rational(5, 2)).bytes
    assert_equal "012301", reader.readpartial(100)
  end

  def test_copy_of_a_file_onto_itself_is_refused
    bytes = data(PAGE)
    at = file(bytes)
    File.link(at, path("link"))
    File.symlink(at, path("symbolic"))
    [at, path("link"), path("symbolic"), Pathname(at)].each do |sink|
      [at, open_file("").tap { |io| io.reopen(at, "rb") }, Pathname(at)].each do |source|
        error = assert_raises(ArgumentError) { Fid.copy(source, sink) }
        assert_includes error.message, "same file"
      end
    end
    assert_same_bytes bytes, File.binread(at)
  end

  def test_copy_with_wrong_arguments_leaves_the_file_alone
    to = file("precious")
    [{ require: :speed }, { routes: :walk }, { source_offset: -1 }, { timeout: -1 },
     { pipe_bytes: -1 }, { require: :by_reference }].each do |options|
      assert_raises(ArgumentError, Errno::EOPNOTSUPP) do
        Fid.copy(open_file("bytes"), to, **options)
      end
      assert_equal "precious", File.read(to), options
    end
    assert_raises(ArgumentError) { Fid.copy(open_file("bytes"), to, -1) }
    assert_raises(IOError) { Fid.copy(opened(File.open(path("a"), "w")), to) }
    assert_equal "precious", File.read(to)
  end

  # ---- Offsets ----

  def test_copy_begins_at_the_source_offset_and_leaves_its_own_alone
    bytes = data(200_000)
    SINKS.each do |kind|
      from = open_file(bytes)
      from.seek 5
      [0, 1, PAGE, 100_001].each do |offset|
        sink, result = sink_of(kind)
        assert_account Fid.copy(from, sink, source_offset: offset), bytes.bytesize - offset
        expected = bytes[offset..]
        assert_same_bytes expected, result.call || expected, kind
        assert_equal 5, from.pos
      end
      sink, result = sink_of(kind)
      assert_account Fid.copy(from, sink, 1000, source_offset: 77), 1000
      assert_same_bytes bytes[77, 1000], result.call || bytes[77, 1000], kind
    end
  end

  def test_copy_moves_the_sources_own_offset
    bytes = data(100_000)
    SINKS.each do |kind|
      from = open_file(bytes)
      from.seek 10
      sink, = sink_of(kind)
      Fid.copy(from, sink, 50_000)
      assert_equal 50_010, from.pos, kind
      assert_same_bytes bytes[50_010..], from.read
    end
  end

  def test_copy_from_behind_the_end_is_empty
    from = open_file("bytes")
    sink, result = sink_of(:pipe)
    assert_account Fid.copy(from, sink, source_offset: 1 << 40), 0
    assert_equal "", result.call
  end

  def test_copy_writes_at_the_sink_offset_and_leaves_its_own_alone
    SOURCES.each do |kind|
      [0, 3, PAGE, 100_001].each do |offset|
        before = data(200_000)
        bytes = data(30_000)
        to = file(before)
        sink = opened(File.open(to, "r+b"))
        sink.seek 9
        assert_account Fid.copy(source_of(kind, bytes), sink, sink_offset: offset), 30_000
        expected = before.dup
        expected[offset, bytes.bytesize] = bytes
        assert_same_bytes expected, File.binread(to), "#{kind} at #{offset}"
        assert_equal 9, sink.pos
      end
    end
  end

  def test_copy_writes_on_where_the_sink_stands
    SOURCES.each do |kind|
      to = path("to-#{kind}")
      sink = opened(File.open(to, "wb"))
      sink.write "head"
      Fid.copy(source_of(kind, "body"), sink)
      assert_equal 8, sink.pos
      sink.write "tail"
      sink.close
      assert_equal "headbodytail", File.read(to), kind
    end
  end

  def test_copy_appends_to_what_others_append_to
    SOURCES.each do |kind|
      to = file("begin")
      sink = opened(File.open(to, "ab"))
      File.write(to, " and more", mode: "a")
      bytes = data(30_000)
      Fid.copy(source_of(kind, bytes), sink)
      assert_same_bytes "begin and more".b + bytes, File.binread(to), kind
    end
  end

  def test_copy_within_one_file_by_offsets
    bytes = data(100_000)
    at = file(bytes)
    both = opened(File.open(at, "r+b"))
    receipt = Fid.copy(both, both, 100_000, source_offset: 0, sink_offset: 100_000)
    assert_account receipt, 100_000
    assert_same_bytes bytes * 2, File.binread(at)
  end

  def test_copy_refuses_an_offset_of_what_has_none
    from = open_file("bytes")
    STREAMS.each do |kind|
      reader, writer = stream(kind)
      error = assert_raises(Errno::ESPIPE) { Fid.copy(reader, path("to"), source_offset: 0) }
      assert_equal :source, error.side
      error = assert_raises(Errno::ESPIPE) { Fid.copy(from, writer, sink_offset: 0) }
      assert_equal :sink, error.side
    end
    assert_equal "bytes", from.read
  end

  def test_copy_refuses_offsets_that_are_none
    from = open_file("bytes")
    to = opened(File.open(path("to"), "wb"))
    %i[source_offset sink_offset].each do |name|
      [-1, -(1 << 70)].each do |offset|
        error = assert_raises(ArgumentError) { Fid.copy(from, to, **{ name => offset }) }
        assert_includes error.message, name.to_s
      end
      assert_raises(RangeError) { Fid.copy(from, to, **{ name => 1 << 64 }) }
      assert_raises(Errno::EINVAL) { Fid.copy(from, to, **{ name => 1 << 63 }) }
      assert_raises(TypeError) { Fid.copy(from, to, **{ name => "0" }) }
    end
    assert_equal 0, File.size(path("to"))
    assert_equal "bytes", from.read
  end

  # ---- Failures ----

  def test_copy_to_a_full_disk_fails_at_the_sink
    bytes = data(100_000)
    SOURCES.each do |kind|
      source = source_of(kind, bytes)
      error = assert_raises(Errno::ENOSPC) { Fid.copy(source, "/dev/full") }
      assert_kind_of Fid::Failure, error
      assert_equal :sink, error.side, kind
      assert_equal 0, error.receipt.bytes
      assert_equal Errno::ENOSPC, error.receipt.error
      assert_equal :sink, error.receipt.error_side
      assert_includes error.message, "sink"
      assert_equal error.receipt.bytes_held, error.undelivered.to_s.bytesize
      assert_same_bytes bytes, error.undelivered.to_s + source.read, kind
    end
  end

  def test_copy_to_a_sink_without_a_reader_fails_at_the_sink
    bytes = data(100_000)
    SOURCES.product(STREAMS) do |source_kind, sink_kind|
      source = source_of(source_kind, bytes)
      reader, writer = stream(sink_kind)
      reader.close
      # The first segment to a TCP peer that has gone is taken, and answered by a reset.
      if sink_kind.end_with?("tcp")
        writer.write "."
        eventually { IO.select([writer], nil, nil, 0) }
      end
      error = assert_raises(Errno::EPIPE, Errno::ECONNRESET) { Fid.copy(source, writer) }
      assert_kind_of Fid::Failure, error
      assert_equal :sink, error.side, "#{source_kind} to #{sink_kind}"
      assert_equal 0, error.receipt.bytes
      assert_same_bytes bytes, error.undelivered.to_s + source.read,
                        "#{source_kind} to #{sink_kind}"
    end
  end

  def test_copy_raises_no_sigpipe
    in_child do
      trap(:PIPE, "SYSTEM_DEFAULT")
      STREAMS.each do |kind|
        reader, writer = stream(kind)
        reader.close
        assert_raises(Errno::EPIPE, Errno::ECONNRESET) do
          Fid.copy("/dev/zero", writer, 64 << 20)
          Fid.copy("/dev/zero", writer, 64 << 20)
        end
        source = open_file(data(100_000))
        assert_raises(Errno::EPIPE, Errno::ECONNRESET) { Fid.copy(source, writer) }
      end
    end
  end

  def test_copy_notices_that_the_sink_dies_while_the_source_is_idle
    STREAMS.product(STREAMS) do |source_kind, sink_kind|
      source, = stream(source_kind)
      sink_reader, sink = stream(sink_kind)
      copying = thread { Fid.copy(source, sink) }
      wait_until_it_sleeps(copying)
      # With something unread a TCP peer resets the connection, and is gone for sure.
      if sink_kind.end_with?("tcp")
        sink.write "unread"
        eventually { IO.select([sink_reader], nil, nil, 0) }
      end
      sink_reader.close
      error = assert_raises(Errno::EPIPE, Errno::ECONNRESET) { copying.value }
      assert_equal :sink, error.side, "#{source_kind} to #{sink_kind}"
      assert_equal 0, error.receipt.bytes_in
    end
  end

  def test_copy_from_a_connection_that_is_reset_fails_at_the_source
    %i[tcp blocking_tcp].product(%i[file pipe unix null]) do |source_kind, sink_kind|
      source, peer = stream(source_kind)
      sink, = sink_of(sink_kind)
      copying = thread { Fid.copy(source, sink) }
      wait_until_it_sleeps(copying)
      peer.setsockopt(:SOCKET, :LINGER, [1, 0].pack("ii"))
      peer.close
      error = assert_raises(Errno::ECONNRESET) { copying.value }
      assert_equal :source, error.side, "#{source_kind} to #{sink_kind}"
      assert_includes error.message, "source"
    end
  end

  def test_copy_from_a_folder_fails_at_the_source
    [path("."), opened(File.open(path(".")))].each do |folder|
      %i[file pipe null unix].each do |kind|
        sink, = sink_of(kind)
        error = assert_raises(Errno::EISDIR) { Fid.copy(folder, sink) }
        assert_kind_of Fid::Failure, error
        assert_equal :source, error.side, kind
      end
    end
  end

  def test_copy_of_a_pipe_into_itself_is_refused
    reader, writer = pipe
    writer.write "bytes"
    error = assert_raises(Errno::EINVAL) { Fid.copy(reader, writer) }
    assert_kind_of Fid::Failure, error
    assert_match(/pipe/, error.message)
    assert_equal "bytes", reader.readpartial(100)
  end

  def test_copy_to_a_limited_file_tells_exactly_what_fitted
    in_child do
      trap(:XFSZ, "IGNORE")
      bytes = data(300_000)
      SOURCES.each do |kind|
        [PAGE - 1, 100_000].each do |limit|
          source = source_of(kind, bytes)
          # The source's own file is written before the limit counts.
          sink, = sink_of(:file)
          Process.setrlimit(:FSIZE, limit, Process::RLIM_INFINITY)
          error = assert_raises(Errno::EFBIG) { Fid.copy(source, sink) }
          Process.setrlimit(:FSIZE, Process::RLIM_INFINITY, Process::RLIM_INFINITY)
          assert_equal :sink, error.side, kind
          assert_equal limit, error.receipt.bytes, kind
          assert_same_bytes bytes[0, limit], File.binread(sink.path)
          assert_same_bytes bytes[limit..], error.undelivered.to_s + source.read, kind
        end
      end
    end
  end

  # ---- An echo ----

  def test_copy_with_the_same_socket_at_both_ends_is_an_echo
    %i[unix blocking_unix tcp blocking_tcp].each do |kind|
      client, server = stream(kind)
      bytes = data(LONGEST)
      echo = thread { Fid.copy(server, server) }
      sending = thread do
        client.write bytes
        client.close_write
      end
      got = client.read(LONGEST)
      sending.join
      assert_account echo.value, LONGEST
      assert_same_bytes bytes, got, kind
    end
  end

  # ---- Stable ----

  def test_copy_by_reference_shows_later_writes_and_a_stable_one_does_not
    at = file("a" * PAGE * 4)
    [false, true].each do |stable|
      reader, writer = pipe
      File.write(at, "a" * PAGE * 4, mode: "r+b")
      receipt = Fid.copy(at, writer, routes: stable ? nil : :splice, stable: stable)
      File.write(at, "b" * PAGE * 4, mode: "r+b")
      seen = reader.readpartial(PAGE * 4)
      assert_equal stable, receipt.stable?
      assert_equal (stable ? "a" : "b") * PAGE * 4, seen
      assert_equal !stable, receipt.by_reference?
    end
  end

  def test_copy_that_is_stable_delivers_every_byte
    SOURCES.product(SINKS) do |source_kind, sink_kind|
      receipt = copy_through(source_kind, sink_kind, data(100_000), stable: true)
      assert_predicate receipt, :stable?
    end
  end

  def test_copy_tells_that_the_source_changed
    at = file("a" * 100_000)
    source = opened(File.open(at))
    reader, sink = pipe
    copying = thread { Fid.copy(source, sink) }
    wait_until_it_sleeps(copying)
    File.write(at, "b", mode: "ab")
    got = reading(reader)
    assert_equal true, copying.value.source_changed?
    sink.close
    assert_operator got.value.bytesize, :>=, 100_000
    assert_equal false, Fid.copy(at, "/dev/null").source_changed?
    assert_nil Fid.copy(full_pipe("a"), "/dev/null").source_changed?
  end

  # ---- Requirements and routes ----

  def test_copy_by_reference_meets_the_requirement
    reader, writer = pipe
    receipt = Fid.copy(open_file("a" * 60_000), writer, require: :by_reference)
    assert_predicate receipt, :by_reference?
    assert_equal 60_000, receipt.by_reference
    refute_predicate receipt, :require_unmet?
    assert_equal "a" * 60_000, reader.readpartial(60_000)
    receipt = Fid.copy(open_file("a" * 60_000), path("to"), require: :no_user_copy)
    assert_equal 0, receipt.user_copy
    assert_equal "a" * 60_000, File.read(path("to"))
  end

  def test_copy_that_cannot_meet_the_requirement_takes_nothing_and_says_why
    sink = opened(File.open(path("to"), "wb"))
    appended = opened(File.open(path("to"), "ab"))
    [[:by_reference, full_pipe("bytes"), sink], [:by_reference, open_file("bytes"), sink],
     [:by_reference, full_pipe("bytes"), appended],
     [:no_user_copy, open_file("bytes"), appended],
     [:no_user_copy, full_pipe("bytes"), appended]].each do |wish, source, to|
      error = assert_raises(Errno::EOPNOTSUPP) { Fid.copy(source, to, require: wish) }
      assert_kind_of Fid::Failure, error
      assert_equal :fid, error.side
      assert_predicate error.receipt, :require_unmet?
      assert_equal 0, error.receipt.bytes_in
      assert_nil error.undelivered
      assert_match(/require/, error.message)
      assert_equal "bytes", source.read
    end
    assert_equal 0, File.size(path("to"))
  end

  # Only the kernel knows that it will not, and it says so before anything has moved.
  def test_copy_whose_requirement_the_kernel_does_not_meet_takes_nothing
    _, sink = pipe
    source = opened(File.open("/proc/self/mountinfo"))
    error = assert_raises(SystemCallError) { Fid.copy(source, sink, require: :by_reference) }
    assert_kind_of Fid::Failure, error
    assert_predicate error.receipt, :require_unmet?
    assert_equal 0, error.receipt.bytes_in
    assert_equal 0, source.pos
  end

  def test_copy_takes_only_the_routes_that_are_allowed
    bytes = data(300_000)
    { copy_file_range: %i[file file], sendfile: %i[file unix], splice: %i[pipe unix],
      splice_pipe: %i[unix unix], read_write: %i[file unix] }.each do |route, (from, to)|
      [route, [route]].each do |routes|
        receipt = copy_through(from, to, bytes, routes: routes)
        assert_equal({ route => bytes.bytesize }, receipt.by_method)
        assert_equal route, receipt.route
        assert_operator receipt.calls.fetch(route), :>, 0
      end
    end
    all = %i[reflink copy_file_range sendfile splice splice_pipe read_write]
    assert_equal bytes.bytesize, copy_through(:file, :file, bytes, routes: all).bytes
  end

  def test_copy_without_a_way_that_is_allowed_takes_nothing
    source = open_file("bytes" * 10_000)
    _, sink = pipe
    error = assert_raises(Errno::EOPNOTSUPP) do
      Fid.copy(source, sink, routes: :copy_file_range)
    end
    assert_equal :fid, error.side
    assert_equal 0, source.pos
  end

  def test_copy_knows_its_words
    source = open_file("bytes")
    to = file("precious")
    sink = opened(File.open(to, "r+b"))
    [:tee, :vmsplice, :walk, "splice", "", 5, [nil], %i[splice walk],
     :"splice-pipe"].each do |wrong|
      error = assert_raises(ArgumentError) { Fid.copy(source, sink, routes: wrong) }
      assert_includes error.message, Array(wrong).last.inspect
      assert_includes error.message, ":copy_file_range"
    end
    [:speed, "by_reference", true, 1].each do |wrong|
      error = assert_raises(ArgumentError) { Fid.copy(source, sink, require: wrong) }
      assert_includes error.message, wrong.inspect
      assert_includes error.message, ":by_reference"
    end
    error = assert_raises(ArgumentError) { Fid.copy(source, sink, offset: 5) }
    assert_includes error.message, ":offset"
    error = assert_raises(ArgumentError) { Fid::Flow.new(source, sink, timeout: 5) }
    assert_includes error.message, ":timeout"
    assert_raises(ArgumentError) { Fid.copy(source) }
    assert_raises(ArgumentError) { Fid.copy(source, sink, 1, 2) }
    assert_equal "precious", File.read(to)
    assert_equal "bytes", source.read
  end

  # ---- Pipes ----

  def test_copy_grows_pipes_only_when_asked
    bytes = data(LONGEST)
    [[{}, 64 << 10], [{ grow_pipes: true }, 256 << 10],
     [{ grow_pipes: true, pipe_bytes: 128 << 10 }, 128 << 10]].each do |options, expected|
      reader, writer = pipe
      got = reading(reader)
      Fid.copy(open_file(bytes), writer, **options)
      assert_equal expected, writer.fcntl(GET_PIPE_SIZE)
      writer.close
      assert_same_bytes bytes, got.value
    end
  end

  def test_copy_asks_for_a_private_pipe_of_the_size_that_is_wished
    receipt = copy_through(:unix, :unix, data(100_000), routes: :splice_pipe,
                                                        pipe_bytes: 32 << 10)
    assert_equal 32 << 10, receipt.pipe_bytes_asked
    assert_operator receipt.pipe_bytes, :>=, PAGE
    error = assert_raises(ArgumentError) { Fid.copy("/dev/null", "/dev/null", pipe_bytes: -1) }
    assert_includes error.message, "pipe_bytes"
  end

  # ---- Time ----

  def test_copy_ends_when_its_time_is_over
    STREAMS.each do |kind|
      source, peer = stream(kind)
      peer.write "begin"
      sink, result = sink_of(:pipe)
      error = assert_raises(Errno::ETIMEDOUT) { Fid.copy(source, sink, timeout: 0.02) }
      assert_kind_of Fid::Failure, error
      assert_equal :fid, error.side
      assert_nil error.receipt.error
      assert_equal 5, error.receipt.bytes
      assert_nil error.undelivered
      # Both ends are as before.
      peer.write "end"
      Fid.copy(source, sink, 3, timeout: LONG)
      assert_equal "beginend", result.call
    end
  end

  def test_copy_whose_time_is_over_gives_back_what_it_held
    bytes = data(LONGEST)
    STREAMS.product(STREAMS) do |source_kind, sink_kind|
      source = source_of(source_kind, bytes)
      reader, sink = stream(sink_kind)
      error = assert_raises(Errno::ETIMEDOUT) { Fid.copy(source, sink, timeout: 0.02) }
      receipt = error.receipt
      assert_equal receipt.bytes_in, receipt.bytes + receipt.bytes_held
      assert_equal receipt.bytes_held, error.undelivered.to_s.bytesize
      sink.close
      delivered = rest_of(reader)
      assert_equal receipt.bytes, delivered.bytesize
      assert_same_bytes bytes, delivered + error.undelivered.to_s + rest_of(source),
                        "#{source_kind} to #{sink_kind}"
    end
  end

  def test_copy_without_time_does_what_can_be_done_at_once
    reader, writer = pipe
    assert_equal 5, Fid.copy(open_file("bytes"), writer, timeout: 0).bytes
    assert_equal "bytes", reader.readpartial(100)
    assert_raises(Errno::ETIMEDOUT) { Fid.copy(reader, path("to"), timeout: 0) }
  end

  def test_copy_takes_any_number_of_seconds
    [nil, 1, 30.0, Rational(61, 2), Float::INFINITY, 1 << 70, 1e300].each do |timeout|
      assert_equal 5, Fid.copy(open_file("bytes"), "/dev/null", timeout: timeout).bytes
    end
    [-1, -0.001, Float::NAN, -Float::INFINITY].each do |timeout|
      error = assert_raises(ArgumentError) do
        Fid.copy(open_file("bytes"), "/dev/null", timeout: timeout)
      end
      assert_includes error.message, "timeout"
    end
    ["1", :soon, [1]].each do |timeout|
      assert_raises(TypeError) { Fid.copy(open_file("bytes"), "/dev/null", timeout: timeout) }
    end
  end

  # ---- The account, at random ----

  # An exception of the test's own.
  class Stop < StandardError
  end

  ROUNDS = 200

  # Reads slowly: what it read is its value. After so many bytes, if any, it closes the end.
  def slow_reader(io, random, bytes_max)
    thread do
      got = +"".b
      until bytes_max && got.bytesize >= bytes_max
        chunk = io.read_nonblock(1 + random.rand(20_000), exception: false)
        break if chunk.nil?

        if chunk == :wait_readable
          IO.select([io], nil, nil, 1)
          next
        end
        got << chunk
        sleep random.rand * 0.0005 if random.rand(4).zero?
      end
      io.close if bytes_max
      got
    rescue Errno::ECONNRESET
      got
    end
  end

  # One transfer that is ended by something at a random moment.
  def round(random)
    bytes = random.bytes(random.rand(600_000))
    source_kind = SOURCES.sample(random: random)
    sink_kind = STREAMS.sample(random: random)
    ending = %i[death stop timeout limit none].sample(random: random)
    what = "#{source_kind} to #{sink_kind}, #{bytes.bytesize} bytes, #{ending}"
    source = source_of(source_kind, bytes, pipe_bytes: [nil, PAGE].sample(random: random))
    reader, sink = stream(sink_kind, pipe_bytes: [nil, PAGE].sample(random: random))
    got = slow_reader(reader, random, ending == :death ? random.rand(1 + bytes.bytesize) : nil)
    error, receipt = copy_until(ending, source, sink, random)
    receipt ||= error.receipt if error.is_a?(Fid::Failure)
    sink.close
    delivered = got.value
    undelivered = (error.undelivered if error.is_a?(Fid::Failure)).to_s
    rest = rest_of(source)
    if receipt
      assert_equal receipt.bytes_in,
                   receipt.bytes + receipt.bytes_held + receipt.bytes_salvaged, what
      assert_equal receipt.bytes_held, undelivered.bytesize, what
    end
    # Of a reader that died not all was read.
    if ending == :death && receipt
      assert_operator delivered.bytesize, :<=, receipt.bytes, what
      assert_same_bytes bytes[0, delivered.bytesize], delivered, what
      delivered = bytes[0, receipt.bytes]
    end
    assert_same_bytes bytes, delivered + undelivered + rest, what
  ensure
    [source, reader, sink].each { |io| io.close if io && !io.closed? }
  end

  # What was raised and what was returned.
  def copy_until(ending, source, sink, random)
    pause = random.rand * 0.01
    case ending
    when :stop
      copying = thread { Fid.copy(source, sink) }
      sleep pause
      copying.raise Stop
      copying.value
    when :timeout then Timeout.timeout(pause + 0.0001, Stop) { Fid.copy(source, sink) }
    when :limit then Fid.copy(source, sink, timeout: pause)
    else
      return [nil, Fid.copy(source, sink)]
    end
    [nil, nil]
  rescue Stop, SystemCallError => e
    [e, nil]
  end

  def test_copy_that_is_ended_at_any_moment_loses_and_doubles_nothing
    random = Random.new(Tap.seed)
    ROUNDS.times { round(random) }
  end

  # Timeout without a class ends the block by throw, and Thread#kill by nothing that can be
  # rescued: no exception could take the bytes along, so the source has them again.
  def test_copy_that_is_left_without_an_exception_gives_the_source_its_bytes_back
    random = Random.new(Tap.seed)
    bytes = data(2_000_000)
    STREAMS.product(STREAMS, %i[throw kill timeout]) do |source_kind, sink_kind, way|
      source = source_of(source_kind, bytes)
      reader, sink = stream(sink_kind)
      leave(way, random) { Fid.copy(source, sink) }
      sink.close
      assert_same_bytes bytes, rest_of(reader) + rest_of(source),
                        "#{source_kind} to #{sink_kind}, #{way}"
    end
  end

  def leave(way, random, &block)
    pause = 0.005 + random.rand * 0.01
    case way
    when :timeout then assert_raises(Timeout::Error) { Timeout.timeout(pause, &block) }
    when :kill
      copying = thread(&block)
      sleep pause
      copying.kill.join
    when :throw
      before = trap(:USR1) { throw :left }
      later = thread do
        sleep pause
        Process.kill(:USR1, Process.pid)
      end
      catch(:left, &block)
      later.join
      trap(:USR1, before)
    end
  end
end
