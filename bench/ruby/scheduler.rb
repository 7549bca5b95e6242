# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "fiddle"

# A Fiber scheduler on epoll(7), as small as one can be that is not itself what is measured:
# IO.select looks at every descriptor each time, which a thousand fibers would pay for.
class EpollScheduler
  CONTROL_ADD = 1
  CONTROL_MODIFY = 3
  IN = 0x1
  OUT = 0x4
  ONE_SHOT = 1 << 30
  EVENTS = 256
  # struct epoll_event is packed on x86-64 alone.
  EVENT = RUBY_PLATFORM.start_with?("x86_64") ? "LQ" : "Lx4Q"
  EVENT_BYTES = RUBY_PLATFORM.start_with?("x86_64") ? 12 : 16

  INT = Fiddle::TYPE_INT
  POINTER = Fiddle::TYPE_VOIDP
  LIBC = Fiddle.dlopen(nil)
  CREATE = Fiddle::Function.new(LIBC["epoll_create1"], [INT], INT)
  CONTROL = Fiddle::Function.new(LIBC["epoll_ctl"], [INT, INT, INT, POINTER], INT)
  WAIT = Fiddle::Function.new(LIBC["epoll_wait"], [INT, POINTER, INT, INT], INT)
  private_constant(*constants)

  def initialize
    @epoll = IO.for_fd(CREATE.call(02_000_000))
    @known = {}    # descriptors that epoll knows
    @waiting = {}  # fibers by descriptor
    @ready = []    # fibers to be resumed
    @sleeping = {} # when to wake a fiber
    @blocked = 0
    @lock = Mutex.new
    @waker, @wake = IO.pipe
    @events = "\0".b * (EVENTS * EVENT_BYTES)
  end

  # ---- What Ruby calls ----

  def fiber(&block)
    Fiber.new(blocking: false, &block).tap(&:resume)
  end

  # Each descriptor is waited for by one fiber at a time, which is enough here.
  def io_wait(io, events, timeout)
    watch(io.fileno, events)
    @waiting[io.fileno] = Fiber.current
    @sleeping[Fiber.current] = now + timeout if timeout
    got = Fiber.yield
    @sleeping.delete(Fiber.current) if timeout
    @waiting.delete(io.fileno) unless got
    got || false
  end

  def kernel_sleep(duration = nil)
    block(:sleep, duration)
  end

  def block(_blocker, timeout = nil)
    @blocked += 1
    @sleeping[Fiber.current] = now + timeout if timeout
    got = Fiber.yield
    @sleeping.delete(Fiber.current)
    @blocked -= 1
    got ? true : false
  end

  # From any thread.
  def unblock(_blocker, fiber)
    @lock.synchronize { @ready << [fiber, true] }
    @wake.write_nonblock(".", exception: false)
  end

  # A number that was closed may come back as another file.
  def io_close(io)
    @known.delete(io.respond_to?(:fileno) ? io.fileno : io)
  end

  def close
    run
    [@epoll, @waker, @wake].each(&:close)
  end

  private

  def run
    watch(@waker.fileno, IO::READABLE)
    until @waiting.empty? && @sleeping.empty? && @ready.empty? && @blocked.zero?
      collect(@ready.empty? ? milliseconds_left : 0)
      ready = @lock.synchronize { @ready.tap { @ready = [] } }
      ready.each { |fiber, got| fiber.resume(got) if fiber.alive? }
    end
  end

  def watch(number, events)
    wanted = ONE_SHOT
    wanted |= IN if events.anybits?(IO::READABLE)
    wanted |= OUT if events.anybits?(IO::WRITABLE)
    event = [wanted, number].pack(EVENT)
    # A closed descriptor has left epoll by itself, and its number may be known here still.
    return if @known[number] && CONTROL.call(@epoll.fileno, CONTROL_MODIFY, number, event).zero?

    @known[number] = true
    return if CONTROL.call(@epoll.fileno, CONTROL_ADD, number, event).zero?

    raise SystemCallError.new("epoll_ctl", Fiddle.last_error)
  end

  def collect(timeout)
    count = WAIT.call(@epoll.fileno, @events, EVENTS, timeout)
    if count > 0
      @events.unpack(EVENT * count).each_slice(2) { |events, number| note(events, number) }
    end
    return if @sleeping.empty?

    @sleeping.select { |_, at| at <= now }.each_key { |fiber| @ready << [fiber, nil] }
  end

  def note(events, number)
    if number == @waker.fileno
      @waker.read_nonblock(4096, exception: false)
      watch(number, IO::READABLE)
      return
    end
    fiber = @waiting.delete(number) or return
    got = 0
    got |= IO::READABLE if events.anybits?(~OUT)
    got |= IO::WRITABLE if events.anybits?(~IN)
    @ready << [fiber, got]
  end

  def milliseconds_left
    return -1 if @sleeping.empty?

    [((@sleeping.values.min - now) * 1000).ceil, 0].max
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
