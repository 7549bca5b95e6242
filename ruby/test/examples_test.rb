# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"
require "net/http"

# Each example is run as a program of its own, on real data.
class ExamplesTest < FidTest
  FOLDER = File.expand_path("../examples", __dir__)
  LINES_MAX = 60

  Running = Struct.new(:pid, :out, :errors)

  def before_setup
    super
    @running = []
  end

  def after_teardown
    @running.each do |pid|
      Process.kill(:KILL, pid)
      Process.wait(pid)
    end
    super
  end

  # Starts an example; its standard output is read by a thread from the beginning.
  def start(name, *arguments, stdin: File::NULL)
    reader, writer = pipe(nonblock: false)
    errors = path("#{name}.errors")
    load_path = $LOAD_PATH.flat_map { |folder| ["-I", folder] }
    pid = spawn(RbConfig.ruby, *load_path, File.join(FOLDER, "#{name}.rb"), *arguments.map(&:to_s),
                in: stdin, out: writer, err: errors)
    writer.close
    @running << pid
    Running.new(pid, reader, errors)
  end

  # What it printed, its complaints and its status, when it has ended.
  def finish(running, out = reading(running.out))
    printed = out.value
    _, status = Process.wait2(running.pid)
    @running.delete(running.pid)
    [printed, File.read(running.errors), status]
  end

  def run_example(name, *arguments, stdin: File::NULL)
    finish(start(name, *arguments, stdin: stdin))
  end

  # The port on which it says that it listens.
  def port_of(running)
    line = running.out.gets
    assert line, "it ended: #{File.read(running.errors)}"
    Integer(line[/\Alistening on (\d+)$/, 1])
  end

  # A pipe from which these bytes come, written by a thread.
  def stream_of(bytes)
    reader, writer = pipe(nonblock: false)
    thread do
      writer.write bytes
    rescue Errno::EPIPE
      nil # the example has ended
    ensure
      writer.close
    end
    reader
  end

  # Without printing them.
  def assert_bytes(expected, found)
    assert_equal expected.bytesize, found.bytesize
    assert found == expected, "the bytes differ"
  end

  # A server of one connection; the thread's value is the block's.
  def server(receive_bytes: nil)
    listener = opened(TCPServer.new("127.0.0.1", 0))
    listener.setsockopt(:SOCKET, :RCVBUF, receive_bytes) if receive_bytes
    port = listener.addr[1]
    [port, thread { yield opened(listener.accept) }]
  end

  def test_copy_with_receipt_copies_a_file_and_says_how
    bytes = data(3_000_017)
    _, errors, status = run_example("copy_with_receipt", file(bytes), path("copy"))
    assert status.success?, errors
    assert_bytes bytes, File.binread(path("copy"))
    assert_match(/\A2\.9 MiB moved in /, errors)
    assert_match(/: 3000017 bytes in \d+ calls$/, errors)
  end

  def test_copy_with_receipt_copies_from_pipe_to_pipe
    bytes = data(300_000)
    out, errors, status = run_example("copy_with_receipt", "-", "-", stdin: stream_of(bytes))
    assert status.success?, errors
    assert_bytes bytes, out
    assert_match(/^splice: 300000 bytes in \d+ calls$/, errors)
  end

  def test_copy_with_receipt_says_whose_fault_a_failure_is
    _, errors, status = run_example("copy_with_receipt", file(data(100_000)), "/dev/full")
    assert_equal 1, status.exitstatus
    assert_match(/\ANo space left on device - sink: .* \(the fault is with the sink\)$/, errors)
    assert_match(/^0 B moved in .*ENOSPC at the sink/, errors)
  end

  def check_proxy(name)
    question = data(2_000_003)
    answer = data(1_500_001)
    asked = Queue.new
    # Answers only after the end of the question, which the proxy must pass on.
    port, upstream = server do |socket|
      asked << socket.read.b
      socket.write answer
      socket.close
    end
    running = start(name, 0, "127.0.0.1", port)
    client = opened(TCPSocket.new("127.0.0.1", port_of(running)))
    client.write question
    client.close_write
    assert_bytes answer, client.read.b
    assert_bytes question, asked.pop
    upstream.join(LONG)
    eventually("its remarks") { File.read(running.errors).lines.size == 2 }
    assert_match(/\Aup:   1\.9 MiB moved .*\ndown: 1\.4 MiB moved .*\n\z/, File.read(running.errors))
  end

  def test_proxy_threads_passes_both_directions_and_the_half_close
    check_proxy("proxy_threads")
  end

  def test_proxy_fibers_passes_both_directions_and_the_half_close
    skip "the gem async is not installed" unless async?
    check_proxy("proxy_fibers")
  end

  # All that it gets goes back at once, so that both directions have to wait for each other.
  def check_proxy_with_an_echo(name)
    bytes = data(8_000_003)
    port, echo = server { |socket| IO.copy_stream(socket, socket).tap { socket.close } }
    running = start(name, 0, "127.0.0.1", port)
    client = opened(TCPSocket.new("127.0.0.1", port_of(running)))
    sent = thread { client.write(bytes).tap { client.close_write } }
    # Nothing moves any more on the way there, nor on the way back.
    wait_until_it_sleeps(sent)
    assert_bytes bytes, client.read.b
    assert_equal bytes.bytesize, sent.value
    assert_equal bytes.bytesize, echo.value
  end

  def test_proxy_threads_serves_both_directions_at_once
    check_proxy_with_an_echo("proxy_threads")
  end

  def test_proxy_fibers_serves_both_directions_at_once
    skip "the gem async is not installed" unless async?
    check_proxy_with_an_echo("proxy_fibers")
  end

  def test_proxy_fibers_serves_others_while_one_is_idle
    skip "the gem async is not installed" unless async?
    listener = opened(TCPServer.new("127.0.0.1", 0))
    running = start("proxy_fibers", 0, "127.0.0.1", listener.addr[1])
    port = port_of(running)
    idle = opened(TCPSocket.new("127.0.0.1", port))
    opened(listener.accept)
    busy = opened(TCPSocket.new("127.0.0.1", port))
    upstream = opened(listener.accept)
    bytes = data(1_000_000)
    sent = thread { upstream.write(bytes).tap { upstream.close } }
    assert_bytes bytes, busy.read.b
    sent.join(LONG)
    refute idle.wait_readable(0), "the idle connection was ended"
  end

  def async?
    Gem::Specification.find_all_by_name("async").any?
  end

  def test_splice_loop_brings_a_socket_into_a_file
    bytes = data(3_000_017)
    port, sender = server do |socket|
      # In pieces, so that it has to wait in between.
      bytes.bytes.each_slice(500_000) { |piece| socket.write(piece.pack("C*")) && sleep(0.01) }
      socket.close
    end
    out, errors, status = run_example("splice_loop", "127.0.0.1", port, path("received"))
    assert status.success?, errors
    sender.join(LONG)
    assert_equal "3000017 bytes\n", out
    assert_bytes bytes, File.binread(path("received"))
  end

  def test_fan_three_sinks_leaves_a_slow_one_out
    bytes = data(12_000_000)
    # It never reads.
    release = Queue.new
    port, slow = server(receive_bytes: 4096) { |_socket| release.pop }
    out, errors, status = run_example("fan_three_sinks", path("sink"), "127.0.0.1", port,
                                      stdin: stream_of(bytes))
    release << true
    slow.join(LONG)
    assert status.success?, errors
    assert_bytes bytes, out
    assert_bytes bytes, File.binread(path("sink"))
    assert_match(/^127\.0\.0\.1:#{port} was left out: Errno::ETIMEDOUT$/, errors)
    assert_equal 1, errors.scan("was left out").size
  end

  def test_fan_three_sinks_gives_all_to_each
    bytes = data(2_000_003)
    port, reader = server { |socket| socket.read.b }
    out, errors, status = run_example("fan_three_sinks", path("sink"), "127.0.0.1", port,
                                      stdin: stream_of(bytes))
    assert status.success?, errors
    assert_bytes bytes, out
    assert_bytes bytes, File.binread(path("sink"))
    assert_bytes bytes, reader.value
    refute_match(/left out/, errors)
  end

  def test_tee_log_passes_all_on_and_adds_it_to_the_log
    bytes = data(1_000_003)
    log = file("earlier\n", "log")
    out, errors, status = run_example("tee_log", log, stdin: stream_of(bytes))
    assert status.success?, errors
    assert_bytes bytes, out
    assert_bytes "earlier\n".b + bytes, File.binread(log)
  end

  def test_tee_log_logs_the_rest_when_the_consumer_has_gone
    bytes = data(1_000_003)
    running = start("tee_log", path("log"), stdin: stream_of(bytes))
    assert_bytes bytes.byteslice(0, 1000), running.out.read(1000)
    running.out.close
    _, errors, status = finish(running, thread { "" })
    assert status.success?, errors
    assert_bytes bytes, File.binread(path("log"))
  end

  def test_memory_sends_what_was_made_and_the_constant_many_times
    out, errors, status = run_example("memory", 20)
    assert status.success?, errors
    made = (0...20).map { |number| format("%015d\n", number) * 4096 }.join
    assert_bytes((made + ("the same line over and over\n" * 4096 * 20)).b, out.b)
    assert_match(/^fresh: 1\.3 MiB moved /, errors)
    assert_match(/^constant, the last time: 112\.0 KiB moved /, errors)
  end

  def check_salvage(bytes, source)
    port, upstream = server do |socket|
      got = socket.read(100_000).b
      # What it has not read makes this a reset.
      socket.close
      got
    end
    _, errors, status = run_example("salvage", "127.0.0.1", port, path("rest"), stdin: source)
    assert status.success?, errors
    delivered = Integer(errors[/^delivered: (\d+), /, 1])
    assert_bytes bytes.byteslice(0, 100_000), upstream.value
    assert_operator delivered, :>=, 100_000
    assert_bytes bytes.byteslice(delivered..), File.binread(path("rest"))
  end

  def test_salvage_loses_no_byte_of_a_pipe_when_the_sink_dies
    bytes = data(8_000_003)
    check_salvage(bytes, stream_of(bytes))
  end

  # On the way from a socket they are in a pipe that dies with the copy.
  def test_salvage_loses_no_byte_of_a_socket_when_the_sink_dies
    bytes = data(8_000_003)
    near, far = socket_pair
    thread { far.write(bytes) && far.close }
    check_salvage(bytes, near)
  end

  def test_rack_files_sends_files_by_their_path
    bytes = data(3_000_017)
    file(bytes, "big")
    file("secret", "secret")
    FileUtils.mkdir path("folder")
    FileUtils.mv path("big"), path("folder")
    running = start("rack_files", path("folder"), 0)
    port = port_of(running)
    found = Net::HTTP.get_response("127.0.0.1", "/big", port)
    assert_equal "200", found.code
    assert_bytes bytes, found.body.b
    assert_equal "404", Net::HTTP.get_response("127.0.0.1", "/none", port).code
    assert_equal "404", Net::HTTP.get_response("127.0.0.1", "/../secret", port).code
    # The one remark that io_splice makes as well.
    assert_equal 1, File.read(running.errors).lines.size
  end

  def test_each_example_is_short_says_what_it_shows_and_is_run_here
    examples = Dir.children(FOLDER).sort
    refute_empty examples
    text = File.read(__FILE__)
    examples.each do |name|
      lines = File.readlines(File.join(FOLDER, name), chomp: true)
      assert_operator lines.size, :<, LINES_MAX, name
      assert_match(/\A# [A-Z]/, lines[3], "#{name} has no comment at its head")
      base = File.basename(name, ".rb")
      assert lines.any? { |line| line.include?("ruby -Ilib examples/#{name}") },
             "#{name} does not say how it is run"
      assert_match(/"#{base}"/, text, "#{name} is not run by a test")
    end
  end
end
