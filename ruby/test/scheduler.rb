# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "io/wait"

# A Fiber scheduler for the tests, as small as Ruby allows: IO.select, timers, and a pipe by
# which other threads wake it. It counts what it is asked for, so that a test can show that a
# fiber waited here and did not block the thread.
#
#   value = Scheduler.run do |scheduler|
#     Fiber.schedule { Fid.copy(reader, writer) }
#     scheduler.waits
#   end
class Scheduler
  Waiting = Struct.new(:fiber, :io, :events)
  private_constant :Waiting

  # @return [Integer] how often a fiber asked to wait for an IO
  attr_reader :waits
  # @return [Integer] how often a fiber gave up the thread for something that is no IO
  attr_reader :blocks
  # @return [Integer] the most fibers that waited for an IO at the same time
  attr_reader :waiting_max

  # Runs a block in a fiber of a scheduler of its own, and all the fibers that it schedules.
  #
  # @param thread [Boolean] false: on this thread, which must not have a scheduler
  # @yieldparam scheduler [Scheduler]
  # @return what the block returned, when every fiber has ended
  # @raise the first exception that ended a fiber
  def self.run(thread: true, &block)
    return in_a_thread { run(thread: false, &block) } if thread

    scheduler = new
    value = nil
    Fiber.set_scheduler(scheduler)
    begin
      Fiber.schedule { value = block.call(scheduler) }
    ensure
      # Runs the fibers that are left.
      Fiber.set_scheduler(nil)
    end
    scheduler.raise_first
    value
  end

  def self.in_a_thread(&block)
    thread = Thread.new(&block)
    thread.report_on_exception = false
    thread.value
  end
  private_class_method :in_a_thread

  def initialize
    @waiting = {}.compare_by_identity # Fiber => Waiting
    @timers = {}.compare_by_identity # Fiber or an Object of timeout_after => [time, callable]
    @blocked = {}.compare_by_identity # Fiber => true
    @unblocked = []
    @lock = Thread::Mutex.new
    @wake_reader, @wake_writer = IO.pipe
    @waits = 0
    @blocks = 0
    @waiting_max = 0
    @first = nil
    @closed = false
  end

  def raise_first
    raise @first if @first
  end

  # ---- What Ruby calls ----

  def io_wait(io, events, timeout = nil)
    fiber = Fiber.current
    @waits += 1
    @waiting[fiber] = Waiting.new(fiber, io, events)
    @waiting_max = [@waiting_max, @waiting.size].max
    @timers[fiber] = [now + timeout, -> { resume(fiber, false) }] if timeout
    Fiber.yield
  ensure
    @waiting.delete(fiber)
    @timers.delete(fiber)
  end

  def kernel_sleep(duration = nil)
    block(:sleep, duration)
    true
  end

  def block(_blocker, timeout = nil)
    fiber = Fiber.current
    @blocks += 1
    @blocked[fiber] = true
    @timers[fiber] = [now + timeout, -> { resume(fiber, false) }] if timeout
    Fiber.yield
  ensure
    @blocked.delete(fiber)
    @timers.delete(fiber)
  end

  # The one that other threads call.
  def unblock(_blocker, fiber)
    @lock.synchronize { @unblocked << fiber }
    wake
  end

  # Timeout.timeout in a fiber asks here, where there is such a method.
  def timeout_after(duration, exception_class, *arguments)
    fiber = Fiber.current
    key = Object.new
    over = -> { fiber.raise(exception_class, *arguments) if fiber.alive? }
    @timers[key] = [now + duration, over]
    yield duration
  ensure
    @timers.delete(key)
  end

  def process_wait(pid, flags)
    Thread.new { Process::Status.wait(pid, flags) }.value
  end

  def fiber(&block)
    raise_first
    fiber = Fiber.new(blocking: false) do
      block.call
    rescue Exception => e
      @first ||= e
    end
    fiber.resume
    fiber
  end

  # At the end of the thread, or at Fiber.set_scheduler(nil).
  def close
    return if @closed

    run
  ensure
    @closed = true
    @wake_reader.close unless @wake_reader.closed?
    @wake_writer.close unless @wake_writer.closed?
  end

  # ---- The loop ----

  # Until no fiber waits. After an exception the others may wait for ever for what the one that
  # raised it would have done: they are left where they are.
  def run
    turn until @first || (@waiting.empty? && @timers.empty? && @blocked.empty?)
  end

  private

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def wake
    @wake_writer.write_nonblock(".")
  rescue IO::WaitWritable
    # A full pipe wakes as well.
  end

  def resume(fiber, value)
    fiber.resume(value) if fiber.alive?
  end

  def turn
    poll(time_left)
    at = now
    due = @timers.select { |_, (time, _)| time <= at }
    due.each { |key, (_, action)| action.call if @timers.delete(key) }
    unblocked = @lock.synchronize { @unblocked.slice!(0..) }
    unblocked.each { |fiber| resume(fiber, true) if @blocked.key?(fiber) }
  end

  def time_left
    return 0 unless @lock.synchronize { @unblocked.empty? }

    first = @timers.each_value.map(&:first).min
    first && [first - now, 0].max
  end

  def poll(timeout)
    readable, writable = select(timeout)
    return wake_closed if readable.nil? && writable == :closed
    return unless readable

    drain_wakes if readable.include?(@wake_reader)
    woken = Hash.new(0).compare_by_identity
    readable.each { |io| woken[io] |= IO::READABLE }
    writable.each { |io| woken[io] |= IO::WRITABLE }
    @waiting.values.each do |waiting|
      events = woken[waiting.io] & waiting.events
      # An earlier one may have raised in this fiber, or closed the IO that it waited for.
      resume(waiting.fiber, events) if events != 0 && @waiting[waiting.fiber].equal?(waiting)
    end
  end

  def select(timeout)
    reads = [@wake_reader]
    writes = []
    @waiting.each_value do |waiting|
      reads << waiting.io if waiting.events & IO::READABLE != 0
      writes << waiting.io if waiting.events & IO::WRITABLE != 0
    end
    IO.select(reads, writes, nil, timeout)
  rescue IOError, Errno::EBADF
    [nil, :closed]
  end

  # Somebody closed an IO that a fiber waits for. It is told "ready" and finds out by itself.
  def wake_closed
    @waiting.values.each do |waiting|
      IO.select([waiting.io], nil, nil, 0)
    rescue IOError, Errno::EBADF
      resume(waiting.fiber, waiting.events)
    end
  end

  def drain_wakes
    @wake_reader.read_nonblock(4096)
  rescue IO::WaitReadable
    nil
  end
end
