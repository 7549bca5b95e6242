# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"

require "timeout"

# What Ruby has read ahead of a source, and what waits in a sink's write buffer: both are bytes
# of the stream, and none of them may be lost, doubled or overtaken.
class BuffersTest < FidTest
  TEXT = "first line\nsecond line\nthird"
  REST = "second line\nthird"

  def teardown
    @flow&.close
  end

  # Sources that have the text, with what feeds them closed.
  def sources(text = TEXT)
    { file: -> { open_file(text) },
      pipe: -> { full_pipe(text) },
      blocking_pipe: -> { full_pipe(text).tap { |io| io.nonblock = false } },
      unix: -> { full_socket(socket_pair, text) },
      tcp: -> { full_socket(tcp_pair, text) },
      process: -> { opened(IO.popen(["cat", file(text)], "rb")) } }
  end

  def full_socket(pair, text)
    pair.last.write text
    pair.last.close
    pair.first
  end

  # A sink of each kind, and what tells what it was given.
  def sinks
    { file: -> { to_file },
      append: -> { to_file("ab") },
      pipe: -> { to_stream(pipe) },
      unix: -> { to_stream(socket_pair) } }
  end

  def to_file(mode = "wb")
    at = path("sink-#{rand(1 << 60)}")
    io = opened(File.open(at, mode))
    [io, lambda {
      io.close
      File.binread(at)
    }]
  end

  def to_stream((reader, writer))
    [writer, lambda {
      writer.close
      reader.read.b
    }]
  end

  # Each source, each sink.
  def each_pair(text = TEXT)
    sources(text).each do |source_name, make_source|
      sinks.each_value do |make_sink|
        sink, result = make_sink.call
        yield make_source.call, sink, result, source_name
      end
    end
  end

  # ---- Read ahead ----

  def test_copy_delivers_what_gets_has_read_ahead
    each_pair do |source, sink, result, name|
      assert_equal "first line\n", source.gets
      receipt = Fid.copy(source, sink)
      assert_equal REST.bytesize, receipt.bytes, name
      assert_equal REST.bytesize, receipt.bytes_in, name
      assert_equal 0, receipt.bytes_held
      assert_equal REST.bytesize, receipt.by_method.values.sum
      assert_equal REST, result.call, name
      assert_equal "", source.read
    end
  end

  def test_copy_delivers_what_was_read_ahead_and_what_comes_after_it
    long = "line\n" + data(3 << 20)
    %i[pipe unix].product(%i[pipe unix file]) do |source_kind, sink_kind|
      source, feeder = source_kind == :pipe ? pipe : socket_pair
      thread { feeder.write(long).tap { feeder.close } }
      assert_equal "line\n", source.gets
      if sink_kind == :file
        sink, result = to_file
      else
        reader, sink = sink_kind == :pipe ? pipe : socket_pair
        got = reading(reader)
        result = -> { sink.close || got.value }
      end
      assert_equal long.bytesize - 5, Fid.copy(source, sink).bytes
      assert long[5..] == result.call, "#{source_kind} to #{sink_kind}"
    end
  end

  def test_copy_of_a_length_leaves_the_rest_where_reading_goes_on
    [0, 1, REST.bytesize - 1, REST.bytesize, REST.bytesize + 1, 1 << 20].each do |length|
      each_pair do |source, sink, result, name|
        source.gets
        expected = REST[0, length]
        receipt = Fid.copy(source, sink, length)
        assert_equal expected.bytesize, receipt.bytes, "#{name}, #{length}"
        assert_equal expected, result.call, "#{name}, #{length}"
        assert_equal REST[expected.bytesize..], source.read, "#{name}, #{length}"
      end
    end
  end

  def test_copy_of_a_length_beyond_what_was_read_ahead_takes_only_that
    text = "line\n#{"a" * 20_000}#{"b" * 20_000}"
    each_pair(text) do |source, sink, result, name|
      source.gets
      assert_equal 20_000, Fid.copy(source, sink, 20_000).bytes
      assert_equal "a" * 20_000, result.call, name
      assert_equal "b" * 20_000, source.read, name
    end
  end

  # Ruby reads ahead 8 KiB at most, so that there is more behind: the limit counts for both.
  def test_copy_of_a_length_within_what_was_read_ahead_takes_nothing_else
    text = "line\n#{data(40_000).tr("\n", " ")}"
    [1, 100, 8191 - 5, 8192 - 5, 8193 - 5, 20_000].each do |length|
      each_pair(text) do |source, sink, result, name|
        source.gets
        receipt = Fid.copy(source, sink, length)
        assert_equal length, receipt.bytes, "#{name}, #{length}"
        # At least a read and a write, of whichever part.
        assert_operator receipt.calls.values.sum, :>=, 2 if name != :file && length < 8000
        assert text[5, length] == result.call, "#{name}, #{length}"
        assert text[(5 + length)..] == source.read.b, "#{name}, #{length}"
      end
    end
  end

  def test_copy_delivers_what_was_pushed_back
    each_pair do |source, sink, result, name|
      source.gets
      source.ungetbyte("pushed ")
      source.ungetbyte(0x3e)
      Fid.copy(source, sink)
      assert_equal ">pushed #{REST}", result.call, name
    end
  end

  def test_copy_delivers_much_that_was_pushed_back
    pushed = data(500_000)
    %i[pipe unix tcp blocking_pipe process].each do |name|
      source = sources.fetch(name).call
      source.ungetbyte(pushed)
      sink, result = to_file
      Fid.copy(source, sink)
      assert pushed + TEXT == result.call, name
    end
  end

  def test_copy_delivers_what_a_partial_read_left
    each_pair do |source, sink, result, name|
      assert_equal "fir", source.read(3)
      Fid.copy(source, sink)
      assert_equal TEXT[3..], result.call, name
    end
  end

  def test_copy_again_and_again_between_reads
    source = full_pipe((1..9).map { |count| "line #{count}\nbody\n" }.join)
    sink, result = to_file
    9.times do |count|
      assert_equal "line #{count + 1}\n", source.gets
      assert_equal 5, Fid.copy(source, sink, 5).bytes
    end
    assert_nil source.gets
    assert_equal "body\n" * 9, result.call
  end

  def test_copy_with_an_offset_leaves_alone_what_was_read_ahead
    source = open_file(TEXT)
    source.gets
    sink, result = to_file
    Fid.copy(source, sink, 5, source_offset: 0)
    assert_equal "first", result.call
    assert_equal 11, source.pos
    assert_equal "second line\n", source.gets
  end

  def test_copy_leaves_the_position_of_a_file_where_it_came_to
    source = open_file(TEXT)
    source.gets
    sink, = to_file
    Fid.copy(source, sink, 6)
    assert_equal 17, source.pos
    assert_equal " line\n", source.gets
    refute_predicate source, :eof?
  end

  def test_copy_writes_what_was_read_ahead_at_the_sink_offset
    sources.each do |name, make|
      source = make.call
      source.gets
      at = file("." * 40)
      sink = opened(File.open(at, "r+b"))
      Fid.copy(source, sink, sink_offset: 7)
      assert_equal "." * 7 + REST + "." * (40 - 7 - REST.bytesize), File.read(at), name
      assert_equal 0, sink.pos
    end
  end

  def test_copy_writes_what_comes_after_it_at_the_sink_offset_too
    text = "line\n#{data(40_000).tr("\n", " ")}"
    sources(text).each do |name, make|
      [0, 7].each do |offset|
        source = make.call
        source.gets
        at = file("." * 50_000)
        sink = opened(File.open(at, "r+b"))
        sink.seek 9
        Fid.copy(source, sink, sink_offset: offset)
        expected = ("." * 50_000).b
        expected[offset, 40_000] = text[5..]
        assert expected == File.binread(at), "#{name} at #{offset}"
        assert_equal 9, sink.pos
      end
    end
  end

  def test_copy_needs_little_memory_for_what_was_read_ahead
    output, = ruby(<<~'RUBY')
      require "fid"
      peak = -> { Integer(File.read("/proc/self/status")[/^VmPeak:\s*(\d+) kB/, 1]) << 10 }
      Fid.copy("/dev/null", "/dev/null")
      reader, writer = IO.pipe
      writer << "line\nrest"
      writer.close
      reader.gets
      before = peak.call
      print Fid.copy(reader, "/dev/null").bytes, " ", peak.call - before
    RUBY
    bytes, grown = output.split.map { |number| Integer(number) }
    assert_equal 4, bytes
    assert_operator grown, :<, 256 << 20
  end

  # ---- Failures before all of it is delivered ----

  def failing_sinks
    reader, writer = pipe
    reader.close
    one, other = socket_pair
    one.close
    { Errno::EPIPE => writer, Errno::ENOSPC => opened(File.open("/dev/full", "wb")),
      Errno::ECONNRESET => other }
  end

  def test_copy_that_fails_gives_back_what_was_read_ahead
    sources.each do |name, make|
      failing_sinks.each do |expected, sink|
        source = make.call
        source.gets
        error = assert_raises(expected, Errno::EPIPE) { Fid.copy(source, sink) }
        assert_kind_of Fid::Failure, error
        assert_equal :sink, error.side, name
        assert_equal 0, error.receipt.bytes
        assert_equal error.receipt.bytes_held, error.undelivered.to_s.bytesize
        assert_equal error.receipt.bytes_in, error.receipt.bytes_held
        assert_equal REST, error.undelivered.to_s + source.read, name
      end
    end
  end

  # The sink takes some of what was read ahead, and then no more.
  def test_copy_that_fails_within_what_was_read_ahead_is_exact
    in_child do
      trap(:XFSZ, "IGNORE")
      text = "line\n#{data(8000).tr("\n", " ")}"
      rest = text[5..]
      sources(text).each do |name, make|
        [1, 100, 4096, 5000, 7999].each do |limit|
          source = make.call
          source.gets
          sink, result = to_file
          begin
            # A memfd, which has a limit as well, is written before it counts.
            flow = Fid::Flow.new(source, sink)
            Process.setrlimit(:FSIZE, limit, Process::RLIM_INFINITY)
            error = assert_raises(Errno::EFBIG) { flow.run }
            assert_raises(Errno::EFBIG) { flow.run }
            assert_raises(Errno::EFBIG) { flow.step }
          ensure
            Process.setrlimit(:FSIZE, Process::RLIM_INFINITY, Process::RLIM_INFINITY)
          end
          receipt = flow.receipt
          assert_equal Errno::EFBIG, receipt.error
          assert_equal limit, error.receipt.bytes, name
          assert_equal limit, receipt.bytes, name
          assert_equal receipt.bytes_in, receipt.bytes + receipt.bytes_held
          # Now there would be room, but what failed stays failed: nothing is left out.
          assert_raises(Errno::EFBIG) { flow.run }
          delivered = result.call
          undelivered = flow.salvage.to_s
          flow.close
          assert rest == delivered + undelivered + source.read.b, "#{name}, #{limit}"
        end
      end
    end
  end

  def test_copy_that_is_stopped_within_what_was_read_ahead_loses_nothing
    pushed = data(3 << 20)
    %i[pipe unix].product(%i[raise kill timeout limit]) do |kind, way|
      source = sources.fetch(kind).call
      source.ungetbyte(pushed)
      reader, sink = pipe
      error = leave(way, reader, source, sink)
      sink.close
      delivered = reader.read.b
      undelivered = ""
      if error.is_a?(Fid::Failure)
        undelivered = error.undelivered.to_s
        assert_equal delivered.bytesize, error.receipt.bytes
        assert_equal undelivered.bytesize, error.receipt.bytes_held, "#{kind}, #{way}"
      end
      assert_operator delivered.bytesize, :>, 0
      assert pushed + TEXT == delivered + undelivered + source.read.b, "#{kind}, #{way}"
    end
  end

  # Ends a copy that is stuck, and returns what it raised.
  def leave(way, reader, source, sink)
    copying = thread do
      case way
      when :timeout then Timeout.timeout(0.05) { Fid.copy(source, sink) }
      when :limit then Fid.copy(source, sink, timeout: 0.05)
      else Fid.copy(source, sink)
      end
    end
    IO.select([reader], nil, nil, LONG)
    wait_until_it_sleeps(copying)
    copying.kill if way == :kill
    copying.raise "left" if way == :raise
    copying.join
    nil
  rescue RuntimeError, Errno::ETIMEDOUT => e
    e
  end

  # Ruby's read buffer of a source that was read has 8 KiB, and what comes back is more.
  def test_copy_that_is_left_gives_much_back_to_a_source_that_was_read_before
    bytes = data(3 << 20)
    %i[timeout kill].each do |way|
      source, feeder = socket_pair
      thread { feeder.write("line\n", bytes).then { feeder.close } }
      assert_equal "line\n", source.gets
      reader, sink = socket_pair
      leave(way, reader, source, sink)
      sink.close
      delivered = reader.read.b
      assert_operator delivered.bytesize, :>, 0
      assert bytes == delivered + source.read.b, way
    end
  end

  def test_flow_whose_time_is_over_within_what_was_read_ahead_goes_on
    pushed = data(3 << 20)
    source = full_pipe(TEXT)
    source.ungetbyte(pushed)
    reader, sink = pipe
    @flow = Fid::Flow.new(source, sink)
    2.times do
      error = assert_raises(Errno::ETIMEDOUT) { @flow.run(timeout: 0.01) }
      assert_equal error.receipt.bytes_in, error.receipt.bytes + error.receipt.bytes_held
      assert_operator error.receipt.bytes, :>, 0
    end
    got = reading(reader)
    receipt = @flow.run
    assert_equal pushed.bytesize + TEXT.bytesize, receipt.bytes
    assert_equal receipt.bytes, receipt.bytes_in
    sink.close
    assert pushed + TEXT == got.value
  end

  def test_flow_steps_through_what_was_read_ahead
    source = full_pipe(TEXT)
    source.gets
    reader, sink = pipe
    @flow = Fid::Flow.new(source, sink)
    steps = []
    steps << @flow.step until steps.last == :done
    assert_includes steps, :more
    assert_equal REST, reader.readpartial(100)
    assert_equal REST.bytesize, @flow.receipt.bytes
    assert_equal :done, @flow.step
  end

  def test_flow_that_is_closed_gives_back_what_was_read_ahead
    source = full_pipe(TEXT)
    source.gets
    _, sink = pipe
    flow = Fid::Flow.new(source, sink)
    flow.close
    assert_equal REST, source.read
    # Also of what has begun to be delivered.
    pushed = data(1 << 20)
    source = full_pipe(TEXT)
    source.ungetbyte(pushed)
    reader, sink = pipe
    flow = Fid::Flow.new(source, sink)
    flow.step while flow.receipt.bytes.zero?
    flow.close
    sink.close
    assert pushed + TEXT == reader.read.b + source.read.b
  end

  def test_flow_that_is_closed_after_its_source_raises_nothing
    source = full_pipe(TEXT)
    source.gets
    _, sink = pipe
    flow = Fid::Flow.new(source, sink)
    source.close
    assert_raises(IOError) { flow.run }
    assert_nil flow.close
  end

  def test_flow_that_was_refused_gives_back_what_was_read_ahead
    { { require: :by_reference } => Errno::EOPNOTSUPP, { sink_offset: 5 } => Errno::ESPIPE,
      { routes: :splice } => nil }.each do |options, expected|
      sources.each do |name, make|
        source = make.call
        source.gets
        reader, sink = pipe
        begin
          Fid.copy(source, sink, **options)
          assert_nil expected unless name == :file
          sink.close
          assert_equal REST, reader.read, name
        rescue SystemCallError => e
          # Ruby has copied these bytes, which a requirement or a choice of ways may forbid.
          assert_kind_of Fid::Failure, e
          assert_equal REST, source.read, "#{name}, #{options}"
        end
      end
    end
  end

  def test_copy_by_reference_refuses_what_ruby_has_copied_and_says_so
    source = full_pipe(TEXT)
    source.gets
    _, sink = pipe
    error = assert_raises(Errno::EOPNOTSUPP) { Fid.copy(source, sink, require: :by_reference) }
    assert_predicate error.receipt, :require_unmet?
    assert_match(/required/, error.message)
    assert_equal REST, source.read
    # A file takes back what was read ahead of it.
    source = open_file(TEXT)
    source.gets
    assert_predicate Fid.copy(source, sink, require: :by_reference), :by_reference?
  end

  def test_flow_without_descriptors_left_gives_back_what_was_read_ahead
    in_child do
      source = full_pipe(TEXT)
      source.gets
      reader, sink = pipe
      most = descriptors.max + 1
      Process.setrlimit(:NOFILE, most)
      spare = []
      begin
        loop { spare << File.open(File::NULL) }
      rescue Errno::EMFILE
        error = assert_raises(Errno::EMFILE) { Fid.copy(source, sink) }
        assert_kind_of Fid::Failure, error
      end
      spare.each(&:close)
      assert_equal REST, source.read
      sink.close
      assert_equal "", reader.read
    end
  end

  # ---- Characters ----

  def decoding_sources
    text = "Grüße\nund mehr\n".encode("UTF-16LE").b
    { file: opened(File.open(file(text), "rb:UTF-16LE:UTF-8")),
      pipe: full_pipe(text).tap { |io| io.set_encoding("UTF-16LE", "UTF-8") } }
  end

  def test_copy_refuses_a_source_that_has_decoded_characters
    decoding_sources.each do |name, source|
      assert_equal "Grüße\n", source.gets
      source.ungetc("\n")
      sink, result = to_file
      assert_raises(IOError) { Fid.copy(source, sink) }
      assert_raises(IOError) { Fid::Flow.new(source, sink) }
      assert_equal "\nund mehr\n", source.read, name
      assert_equal "", result.call
    end
  end

  def test_copy_delivers_the_bytes_that_come_after_decoded_characters
    decoding_sources.each do |name, source|
      assert_equal "Grüße\n", source.gets
      assert_equal "u", source.getc
      sink, result = to_file
      Fid.copy(source, sink)
      assert_equal "nd mehr\n".encode("UTF-16LE").b, result.call, name
    end
  end

  def test_copy_delivers_the_bytes_that_come_after_converted_line_ends
    source = opened(File.open(file("one\r\ntwo\r\n"), "rt"))
    assert_equal "one\n", source.gets
    sink, result = to_file
    Fid.copy(source, sink)
    assert_equal "two\r\n", result.call
  end

  def test_copy_delivers_the_bytes_of_a_source_that_has_an_encoding
    text = "Grüße\n".encode("UTF-16LE").b
    source = opened(File.open(file(text), "rb:UTF-16LE:UTF-8"))
    sink, result = to_file
    assert_equal text.bytesize, Fid.copy(source, sink).bytes
    assert_equal text, result.call
    source = opened(File.open(file("one\r\ntwo\r\n"), "rt"))
    sink, result = to_file
    Fid.copy(source, sink)
    assert_equal "one\r\ntwo\r\n", result.call
  end

  def test_copy_delivers_a_character_that_was_pushed_back
    source = full_pipe("mehr")
    source.set_encoding("UTF-8")
    source.ungetc("ü")
    sink, result = to_file
    Fid.copy(source, sink)
    assert_equal "ümehr".b, result.call
  end

  def test_copy_writes_after_what_was_converted
    at = path("to")
    sink = opened(File.open(at, "w:UTF-16LE"))
    sink.write "ü"
    Fid.copy(open_file("bytes"), sink)
    sink.write "ö"
    sink.close
    assert_equal "\xFC\0bytes\xF6\0".b, File.binread(at)
  end

  # ---- Write buffers ----

  def test_copy_delivers_what_waits_in_the_write_buffer_first
    sinks.each do |name, make|
      sink, result = make.call
      sink.sync = false
      sink.write "head "
      Fid.copy(open_file("body"), sink)
      sink.write " tail"
      assert_equal "head body tail", result.call, name
    end
  end

  def test_copy_of_nothing_leaves_the_order_of_writes
    sink, result = to_file
    sink.write "head "
    Fid.copy(open_file("body"), sink, 0)
    sink.write "tail"
    assert_equal "head tail", result.call
  end

  def test_copy_flushes_the_sink_before_an_offset_of_it_is_written
    at = file("")
    sink = opened(File.open(at, "r+b"))
    sink.write "0123456789"
    Fid.copy(open_file("body"), sink, sink_offset: 3)
    sink.close
    assert_equal "012body789", File.read(at)
  end

  def test_copy_that_cannot_flush_the_sink_takes_nothing
    source = open_file("bytes")
    full = File.open("/dev/full", "wb")
    full.write "head"
    assert_raises(Errno::ENOSPC) { Fid.copy(source, full) }
    assert_equal 0, source.pos
    assert_raises(Errno::ENOSPC) { full.close }
  end

  # ---- One IO for both ----

  def test_copy_reads_what_was_written_to_the_same_file
    both = opened(File.open(path("both"), "w+b"))
    both.write "0123456789"
    sink, result = to_file
    # Not yet with the kernel.
    Fid.copy(both, sink, source_offset: 2)
    assert_equal "23456789", result.call
    both.rewind
    both.read(2)
    both.write "ab"
    sink, result = to_file
    Fid.copy(both, sink)
    assert_equal "456789", result.call
    both.rewind
    assert_equal "01ab456789", both.read
  end

  def test_copy_writes_where_reading_has_come_to
    at = file("first\nsecond\nthird\n")
    both = opened(File.open(at, "r+b"))
    both.gets
    Fid.copy(open_file("SECOND"), both)
    assert_equal 12, both.pos
    assert_equal "\n", both.gets
    both.close
    assert_equal "first\nSECOND\nthird\n", File.read(at)
  end

  def test_copy_keeps_what_was_read_ahead_of_a_socket_that_is_written
    client, server = socket_pair
    client.write "request\nbody"
    client.close_write
    assert_equal "request\n", server.gets
    server.sync = false
    server.write "header\n"
    Fid.copy(open_file("answer"), server)
    assert_equal "body", server.read
    server.close
    assert_equal "header\nanswer", client.read
  end

  def test_copy_echoes_what_was_read_ahead
    client, server = socket_pair
    client.write "hello\nto be echoed"
    client.close_write
    server.gets
    Fid.copy(server, server)
    server.close
    assert_equal "to be echoed", client.read
  end

  def test_copy_takes_a_process_that_is_read_and_written
    process = opened(IO.popen(["cat"], "r+b"))
    process.write "head "
    Fid.copy(open_file("body\nmore"), process)
    process.close_write
    assert_equal "head body\n", process.gets
    sink, result = to_file
    Fid.copy(process, sink)
    assert_equal "more", result.call
  end
end
