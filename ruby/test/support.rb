# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# What the tests of the gem share. A test file begins with
#
#   require_relative "support"
#
# and has classes of FidTest, whose helpers close and end at teardown what they made.

require_relative "tap"
require "fid"
require "fileutils"
require "io/nonblock"
require "open3"
require "rbconfig"
require "socket"
require "tmpdir"

# Under a sanitizer a program that a test starts leaves its report where the test looks for it,
# whatever becomes of the program's own output. This process itself speaks on the standard error.
module SanitizerReports
  OPTIONS = %w[ASAN_OPTIONS UBSAN_OPTIONS].select { |name| ENV[name] }
  FOLDER = OPTIONS.any? && Dir.mktmpdir("fid-reports")

  if FOLDER
    Minitest.after_run { FileUtils.remove_entry FOLDER }
    OPTIONS.each { |name| ENV[name] += ":log_path=#{FOLDER}/report" }
  end

  # What was reported since the last call.
  def self.take
    Dir.glob("#{FOLDER}/report.*").map do |file|
      File.read(file).scrub.tap { File.unlink file }
    end
  end
end

class FidTest < Minitest::Test
  # No condition that a test waits for takes that long; only a hang does.
  LONG = 30
  FIONREAD = 0x541b # ioctl(2)

  def before_setup
    super
    @opened = []
    @threads = []
    @folder = nil
  end

  def after_teardown
    left = @threads.each(&:kill).reject { |thread| ended?(thread) }
    @opened.each { |io| io.close unless io.closed? }
    FileUtils.remove_entry @folder if @folder
    super
    assert_empty left, "threads that cannot be ended"
    SanitizerReports.take.each { |report| flunk report } if SanitizerReports::FOLDER
  end

  # Whether a thread that was killed has come to its end. Its exception was for the test.
  def ended?(thread)
    thread.join(LONG)
  rescue Tap::Hang
    raise
  rescue Exception
    true
  end

  # Joins it; what ended it is for the test to ask by value.
  def end_of(thread)
    thread.join(LONG)
  rescue Exception # rubocop:disable Lint/RescueException
    nil
  end

  # ---- Ends ----

  # Closes it at teardown.
  def opened(io)
    @opened << io
    io
  end

  # A pipe whose ends have O_NONBLOCK, as Ruby makes them, or have not.
  def pipe(nonblock: true)
    IO.pipe.map do |io|
      io.nonblock = nonblock
      opened(io.binmode)
    end
  end

  # A pipe that holds these bytes and has come to its end.
  def full_pipe(data)
    reader, writer = pipe
    writer.write data
    writer.close
    reader
  end

  # Ruby gives O_NONBLOCK to each pipe, and programs take it away.
  def each_kind_of_pipe
    [true, false].each { |nonblock| yield -> { pipe(nonblock: nonblock) } }
  end

  def capacity(io)
    io.fcntl(Fid::F_GETPIPE_SZ)
  end

  # Fills a new pipe to the last byte, and tells how many went in.
  def fill(writer)
    writer.syswrite("." * capacity(writer))
  end

  # How many bytes lie in a pipe or socket.
  def bytes_in(io)
    io.ioctl(FIONREAD, count = [0].pack("i"))
    count.unpack1("i")
  end

  # A sink whose reader has gone.
  def dead_sink
    reader, writer = pipe
    reader.close
    writer
  end

  # Takes what is in a pipe or socket, without waiting; it has O_NONBLOCK afterwards.
  def queued(reader)
    got = reader.read_nonblock(1 << 21, exception: false)
    got == :wait_readable ? "" : got.to_s
  end

  # The same until there is nothing more.
  def read_now(io)
    bytes = +""
    loop { bytes << io.read_nonblock(1 << 20) }
  rescue EOFError, IO::WaitReadable
    bytes.b
  end

  # Fills a socket until not one byte more is taken; it has O_NONBLOCK afterwards.
  def stuff(socket)
    bytes = 0
    [1 << 16, 1].each do |size|
      while (written = socket.write_nonblock("." * size, exception: false)) != :wait_writable
        bytes += written
      end
    end
    bytes
  end

  # Two connected stream sockets.
  def socket_pair
    UNIXSocket.pair.each { |socket| opened(socket) }
  end

  # The same through the loopback device.
  def tcp_pair
    server = TCPServer.new("127.0.0.1", 0)
    client = TCPSocket.new("127.0.0.1", server.addr[1])
    [opened(client), opened(server.accept)]
  ensure
    server&.close
  end

  # A name in a folder of this test alone.
  def path(name)
    @folder ||= Dir.mktmpdir("fid-test")
    File.join(@folder, name)
  end

  # The name of a file that has these bytes.
  def file(data, name = "file-#{@opened.size}-#{rand(1 << 32)}")
    path(name).tap { |at| File.binwrite(at, data) }
  end

  # The same, open for reading.
  def open_file(data)
    opened(File.open(file(data), "rb"))
  end

  # Bytes in which every page is another; the same in each run with the same seed.
  def data(bytes)
    @random ||= Random.new(Tap.seed)
    @random.bytes(bytes)
  end

  # Numbers of the descriptors that this process has open.
  def descriptors
    Dir.children("/proc/self/fd").map { |number| Integer(number) }.select do |number|
      File.symlink?("/proc/self/fd/#{number}")
    end.sort
  end

  # ---- Threads and processes ----

  # A thread whose exception is for whoever asks for its value, and which ends with the test.
  def thread(&body)
    made = Thread.new(&body)
    made.report_on_exception = false
    @threads << made
    made
  end

  # A thread that reads to the end of file; its value is what it read.
  def reading(io)
    thread { io.read.b }
  end

  # A thread that sleeps in this call.
  def waiting(&body)
    thread(&body).tap { |made| wait_until_it_sleeps(made) }
  end

  # Waits for a condition that another thread or process brings about.
  def eventually(what = "the condition")
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + LONG
    until (result = yield)
      if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
        flunk "#{what} did not come about in #{LONG} s"
      end
      sleep 0.005
    end
    result
  end

  # Waits until a thread sleeps, in Ruby or without the global lock.
  def wait_until_it_sleeps(thread)
    eventually("the thread's sleep") { thread.stop? }
  end

  # Runs the block in a process of its own, which must end well. What it raises is shown.
  def in_child
    pid = fork do
      yield
      exit! 0
    rescue Exception => error
      Tap.remark "in the child: #{error.class}: #{error.message}",
                 *Minitest.filter_backtrace(error.backtrace)
      exit! 1
    end
    _, status = Process.wait2(pid)
    assert status.success?, "the child: #{status.inspect}"
  end

  # Runs a program of its own with the gem at hand: what it printed, its errors, its status.
  def ruby(program, *arguments, env: {}, stdin: "")
    load_path = $LOAD_PATH.flat_map { |folder| ["-I", folder] }
    Open3.capture3(env, RbConfig.ruby, *load_path, "-e", program, *arguments,
                   stdin_data: stdin, binmode: true)
  end
end

Minitest.autorun
