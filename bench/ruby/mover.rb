# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# The warm Ruby process of the benchmark. It is given descriptors and work over a socket, whose
# number is its argument, and tells what the work cost this process. A message is a line of
# fields divided by tabs.

require "fid"
require "io/splice"
require "io/wait"
require "socket"
require_relative "scheduler"

# That copy_stream is deprecated is known here.
module Warning
  def self.warn(message, **)
    super unless message.include?("deprecated")
  end
end

CPU = Process::CLOCK_PROCESS_CPUTIME_ID
WALL = Process::CLOCK_MONOTONIC

# ---- One transfer ----

# From a pipe or into one. IO.splice waits for both.
def splice_straight(source, sink, bytes)
  IO.splice(source, nil, sink, nil, bytes) while true
rescue EOFError
  nil
end

# Through a pipe of its own. A socket has O_NONBLOCK, and so it is asked and waited for.
def splice_through(source, sink, bytes, capacity)
  reader, writer = IO.pipe
  writer.pipe_size = capacity
  while (held = IO.trysplice(source, nil, writer, nil, bytes))
    if held == :EAGAIN
      source.wait_readable
      next
    end
    while held > 0
      put = IO.trysplice(reader, nil, sink, nil, held)
      put == :EAGAIN ? sink.wait_writable : held -= put
    end
  end
ensure
  reader&.close
  writer&.close
end

def read_and_write(source, sink, bytes)
  buffer = String.new(capacity: bytes)
  sink.write(buffer) while source.readpartial(bytes, buffer)
rescue EOFError
  nil
end

def transfer(how, source, sink, bytes = 0, capacity = 0)
  case how
  when "Fid.copy" then Fid.copy(source, sink)
  when "IO::Splice.copy_stream" then IO::Splice.copy_stream(source, sink)
  when "IO.copy_stream" then IO.copy_stream(source, sink)
  when "readpartial 16" then read_and_write(source, sink, 16 << 10)
  when "readpartial 64" then read_and_write(source, sink, 64 << 10)
  when "IO.splice"
    if capacity > 0
      splice_through(source, sink, bytes, capacity)
    else
      splice_straight(source, sink, bytes)
    end
  end
end

# What Ruby looks up, loads and compiles at the first time, no transfer is to pay for.
def rehearse
  ["Fid.copy", "IO::Splice.copy_stream", "IO.copy_stream", "readpartial 16", "readpartial 64",
   "IO.splice"].each do |how|
    source, feed = IO.pipe
    drain, sink = IO.pipe
    feed.write("rehearsal")
    feed.close
    transfer(how, source, sink, 64 << 10)
    [source, drain, sink].each(&:close)
  end
end

# Runs the block, and says what this process and the clock say of it, in seconds.
def cost
  cpu = Process.clock_gettime(CPU)
  wall = Process.clock_gettime(WALL)
  yield
  [Process.clock_gettime(CPU) - cpu, Process.clock_gettime(WALL) - wall]
end

def move(ends, how, times, bytes, capacity)
  source, sink = ends
  from_file = source.stat.file?
  cost do
    times.times do
      source.rewind if from_file
      transfer(how, source, sink, bytes, capacity)
    end
  end
ensure
  # Whatever happened, the consumer waits for the end.
  ends.each(&:close)
end

# ---- Fibers ----

# The sources and the sinks by turns; each copy closes its own. Everything is there when the
# clock starts, but for the fibers.
def copy_in_fibers(how, ends)
  failure = nil
  spent = cost do
    Thread.new do
      scheduler = EpollScheduler.new
      Fiber.set_scheduler(scheduler)
      ends.each_slice(2) do |source, sink|
        Fiber.schedule do
          transfer(how, source, sink)
        rescue StandardError => e
          failure = e
        ensure
          source.close
          sink.close
        end
      end
    end.join
  end
  raise failure if failure

  spent
end

# ---- One call ----

# What the calls work on, and a method for each way that makes a batch of them. A call that is
# yielded to would cost a tenth of what is measured.
class Calls
  PAGE = 4096
  BATCH = 256

  TAKING = "splice, pipe -> /dev/null"
  WAYS = {
    "splice, file -> pipe" => {
      "IO.splice" => "IO.splice(file, 0, writer, nil, 4096)",
      "IO.trysplice" => "IO.trysplice(file, 0, writer, nil, 4096)",
      "Fid.splice" => "Fid.splice(file, writer, 4096, off_in: 0)",
      "IO.splice, numbers" => "IO.splice(file_number, 0, writer_number, nil, 4096)"
    },
    TAKING => {
      "IO.splice" => "IO.splice(reader, nil, null, nil, 4096)",
      "Fid.splice" => "Fid.splice(reader, null, 4096)"
    },
    "tee, pipe -> pipe" => {
      "IO.tee" => "IO.tee(full, writer, 4096)",
      "Fid.tee" => "Fid.tee(full, writer, 4096)"
    },
    "pread and write, file -> pipe" => {
      "Fid.copy" => "Fid.copy(file, writer, 4096, source_offset: 0).bytes",
      "IO::Splice.copy_stream" => "IO::Splice.copy_stream(file, writer, 4096, 0)",
      "IO.copy_stream" => "IO.copy_stream(file, writer, 4096, 0)",
      "pread, write" => "writer.syswrite(file.pread(4096, 0, buffer))"
    }
  }.freeze

  WAYS.each do |title, ways|
    ways.each do |way, call|
      class_eval(<<~RUBY, __FILE__, __LINE__ + 1)
        define_method("#{title}\t#{way}") do
          file, reader, writer, full, null = @file, @reader, @writer, @full, @null
          file_number, writer_number = file.fileno, writer.fileno
          buffer = String.new(capacity: PAGE)
          moved = i = 0
          objects = GC.stat(:total_allocated_objects)
          before = Process.clock_gettime(WALL, :nanosecond)
          while i < BATCH
            moved += #{call}
            i += 1
          end
          spent = Process.clock_gettime(WALL, :nanosecond) - before
          raise "moved \#{moved} bytes" if moved != BATCH * PAGE

          [spent, GC.stat(:total_allocated_objects) - objects]
        end
      RUBY
    end
  end

  def initialize(path)
    @file = File.open(path, "rb")
    @null = File.open(File::NULL, "wb")
    @reader, @writer = IO.pipe
    @full, @filler = IO.pipe
    @writer.pipe_size = @filler.pipe_size = BATCH * PAGE
    @page = "\0" * (BATCH * PAGE)
    @filler.write(@page)
  end

  # Nanoseconds and objects for one call. Filling and draining is not timed.
  def time(title, way, batches)
    name = "#{title}\t#{way}"
    spent = objects = 0
    batches.times do
      @writer.write(@page) if title == TAKING
      more, made = public_send(name)
      spent += more
      objects += made
      drain unless title == TAKING
    end
    calls = (batches * BATCH).to_f
    [spent / calls, objects / calls]
  end

  private

  def drain
    left = BATCH * PAGE
    left -= Fid.splice(@reader, @null, left) while left > 0
  end
end

# ---- The work ----

class Worker
  def initialize(socket)
    @socket = socket
    @calls = nil
  end

  def run
    rehearse
    tell(Process.pid, "ruby=#{RUBY_DESCRIPTION}", "gem fid=#{Fid::VERSION}",
         "libfid of the gem=#{Fid.library_version}")
    while (message, ends = hear)
      answer(message.split("\t"), ends)
    end
  end

  private

  def tell(*fields)
    @socket.send(fields.join("\t"), 0)
  end

  # A message and the descriptors that came with it, or nil when the other side has gone.
  def hear
    text, _, _, *controls = @socket.recvmsg(8192, 0, 16_384, scm_rights: true)
    [text, controls.flat_map(&:unix_rights)] unless text.empty?
  end

  def answer(fields, ends)
    tell("done", *work(*fields, ends: ends).map { |number| format("%.9f", number) })
  rescue StandardError, NotImplementedError => e
    tell("failed", "#{e.class}: #{e.message}".tr("\t\n", " "))
  end

  def work(what, *arguments, ends:)
    case what
    when "rest" then rest
    when "move" then move(ends, arguments[0], *arguments[1..].map(&:to_i))
    when "fibers" then fibers(arguments[0], arguments[1].to_i)
    when "calls" then calls(*arguments)
    end
  end

  # What an earlier transfer has left behind is not the next one's cost.
  def rest
    GC.start
    []
  end

  def fibers(how, count)
    rest
    ends = []
    ends.concat(hear[1]) while ends.size < 2 * count
    tell("ready")
    hear
    copy_in_fibers(how, ends)
  end

  def calls(path, title, way, batches)
    @calls ||= Calls.new(path)
    @calls.time(title, way, batches.to_i)
  end
end

Worker.new(Socket.for_fd(Integer(ARGV.fetch(0)))).run
