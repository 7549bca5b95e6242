# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Programs of others as they are packaged: Rainbows!, which has a setting for IO::Splice, and
# proxies behind Puma and Unicorn. Each test starts the server as a process of its own and talks
# to it as clients do.

require_relative "support"
require_relative "consumers/client"
require_relative "consumers/refusal"
require_relative "consumers/server"
require_relative "consumers/upstream"

require "digest/sha2"

module Consumers
  FOLDER = File.expand_path("consumers", __dir__)

  # ---- Bytes that are known ----

  # Bytes without a pattern that a lost or doubled page could hide in. Their first so many are
  # what upstreams send.
  BYTES = Random.new(20_260_101).bytes(5 << 20).freeze

  SIZES = [0, 1, 4095, 65_536, (3 << 20) + 1, 40 << 20].freeze

  def self.sha256(bytes)
    (@sha256 ||= {})[bytes] ||= Digest::SHA256.hexdigest(BYTES.byteslice(0, bytes))
  end

  # A folder with a file of each size, named by it.
  def self.root
    @root ||= Dir.mktmpdir("fid-consumers").tap do |root|
      Minitest.after_run { FileUtils.remove_entry(root) }
      SIZES.each do |size|
        random = Random.new(size)
        File.open(File.join(root, size.to_s), "wb") do |file|
          0.step(size - 1, 1 << 20) { |at| file.write(random.bytes([1 << 20, size - at].min)) }
        end
      end
    end
  end

  # ---- Servers ----

  # What the server printed is read where a failure is.
  def teardown
    @server&.stop
    failures.each { |failure| add_log(failure) unless failure.is_a?(Minitest::Skip) } if @server
    super
  end

  # Starts it, unless this Ruby has none: then the test is skipped.
  def start_server(command, libraries, refusing: nil, **options)
    missing = Server.missing(command.first, *libraries)
    skip missing if missing

    before = refusing ? Refusal.command(refusing) : []
    @server = Server.new(command, log: path("log"), before: before, **options)
    assert_match(/^Seccomp:\s+2$/, File.read("/proc/#{@server.pid}/status")) if refusing
  rescue Refusal::Missing => e
    skip e.message
  end

  def add_log(failure)
    message = "#{failure.message}\nThe server printed:\n#{@server.log.lines.last(30).join}"
    failure.define_singleton_method(:message) { message }
  end

  # Runs the block for each of the list in a thread of its own. Raises what the first raised.
  def in_threads(list)
    threads = list.map do |element|
      Thread.new { yield element }.tap { |thread| thread.report_on_exception = false }
    end
    threads.map(&:value)
  ensure
    # Without join, which would raise what the others raised.
    threads&.each(&:kill)
    sleep 0.01 while threads&.any?(&:alive?)
  end
end

# ---- Rainbows! ----

class RainbowsTest < FidTest
  include Consumers

  # Those of its models that call copy_stream and run with the Unicorn that is packaged beside
  # it. The two with a Writer in their name call methods on the socket that Unicorn 6 does not
  # give it, and those with XEpoll need the gem sleepy_penguin.
  MODELS = %w[ThreadSpawn ThreadPool].freeze

  RANGES = {
    (3 << 20) + 1 => [[5, 100], [4096, (3 << 20) + 1 - 4096], [65_535, 2], [3 << 20, 1]],
    40 << 20 => [[20_000_001, 10_000_000], [0, 1], [(40 << 20) - 100, 100]],
    65_536 => [[0, 65_536], [1, 65_535]]
  }.freeze

  MODELS.each do |model|
    snake = model.gsub(/(?<!^)([A-Z])/, '_\1').downcase

    define_method("test_rainbows_#{snake}_sends_whole_files_through_io_splice") do
      start(model)
      Client.open(@server.port) do |client|
        SIZES.product(%w[files path]).each do |size, folder|
          assert_file size, client.get("/#{folder}/#{size}")
        end
      end
      assert_served_by_splice "path", SIZES.flat_map { |size| [size, size] }
      assert_log_without_errors
    end

    define_method("test_rainbows_#{snake}_sends_ranges_of_files_through_io_splice") do
      start(model)
      expected = []
      Client.open(@server.port) do |client|
        RANGES.each do |size, ranges|
          ranges.each do |offset, length|
            range = "bytes=#{offset}-#{offset + length - 1}"
            answer = client.get("/path/#{size}", headers: { "Range" => range })
            assert_equal 206, answer.status
            sent = "bytes #{offset}-#{offset + length - 1}/#{size}"
            assert_equal sent, answer.headers["content-range"]
            part = File.binread(File.join(Consumers.root, size.to_s), length, offset)
            digest = Digest::SHA256.hexdigest(part)
            assert_equal [length, digest], [answer.bytes, answer.sha256], range
            expected << length
          end
        end
      end
      assert_served_by_splice "path", expected
      assert_empty evidence.grep_v(/ \[\d+, \d+\] /), "sent without length and offset"
      assert_log_without_errors
    end

    define_method("test_rainbows_#{snake}_answers_head_and_keeps_the_connection") do
      start(model)
      Client.open(@server.port) do |client|
        SIZES.each do |size|
          answer = client.get("/path/#{size}", verb: "HEAD")
          assert_equal [200, 0], [answer.status, answer.bytes]
          assert_equal size.to_s, answer.headers["content-length"]
          assert_file 4095, client.get("/path/4095")
        end
      end
      assert_served_by_splice "path", [4095] * SIZES.size
    end

    define_method("test_rainbows_#{snake}_sends_pipes_and_sockets_through_io_splice") do
      start(model)
      sizes = SIZES.first(5)
      Client.open(@server.port) do |client|
        sizes.each do |size|
          assert_file size, client.get("/pipe/#{size}")
          assert_file size, client.get("/socket/#{size}")
        end
      end
      assert_served_by_splice "fifo", sizes
      assert_served_by_splice "socket", sizes
      assert_log_without_errors
    end

    define_method("test_rainbows_#{snake}_serves_32_clients_at_once_and_keeps_no_descriptor") do
      start(model)
      before = descriptors_of_workers
      in_threads(1..32) { get_some(Random.new(100 + _1), slow: (_1 % 8).zero?) }
      assert(evidence.all? { |line| line.include?(" IO::Splice ") })
      eventually("a line for each answer") { evidence.size == 32 * 8 }
      assert_descriptors_come_back before
      assert_log_without_errors
    end

    define_method("test_rainbows_#{snake}_sends_all_where_splice_and_sendfile_are_refused") do
      start(model, refusing: Refusal.of_all("EPERM"))
      in_threads(%w[files path pipe socket]) do |folder|
        SIZES.each { |size| assert_file size, Client.get(@server.port, "/#{folder}/#{size}") }
      end
      assert_empty evidence.grep_v(/ IO::Splice /)
      assert_log_without_errors
    end

    # Rainbows! opens its logs again at SIGUSR1, in the middle of whatever it does.
    define_method("test_rainbows_#{snake}_sends_every_byte_while_signals_interrupt_it") do
      start(model)
      ended = false
      signals = thread do
        until ended
          @server.workers.each { |pid| Process.kill(:USR1, pid) }
          sleep 0.005
        end
      end
      in_threads(%w[path pipe socket files]) do |folder|
        answer = Client.get(@server.port, "/#{folder}/#{40 << 20}", pace: 0.001)
        assert_file 40 << 20, answer
      end
      ended = true
      signals.join
      assert_includes @server.log, "reopening logs"
      assert_log_without_errors
    end

    define_method("test_rainbows_#{snake}_outlives_clients_that_hang_up") do
      start(model)
      before = descriptors_of_workers
      in_threads(1..24) do |number|
        folder = %w[files path pipe socket][number % 4]
        client = Client.new(@server.port)
        client.hang_up_after("/#{folder}/#{40 << 20}", number * 60_000)
      end
      in_threads(1..8) { get_some(Random.new(_1)) }
      assert_descriptors_come_back before
      # Each of them was told: the call raised, and the connection was not served on.
      eventually("an error for each of 24 clients") do
        evidence.grep(/EPIPE|ECONNRESET/).size == 24
      end
      assert_log_without_errors
    end
  end

  private

  def start(model, refusing: nil)
    @evidence = path("evidence")
    start_server(
      ["rainbows", "-N", "-E", "none", "-c", "#{FOLDER}/rainbows.rb", "#{FOLDER}/static.ru"],
      %w[rack rainbows], refusing: refusing,
      listening: /listening on addr=127\.0\.0\.1:(\d+)/,
      environment: { "CONSUMER_ROOT" => Consumers.root, "CONSUMER_MODEL" => model,
                     "CONSUMER_EVIDENCE" => @evidence }
    )
    eventually("both of its workers") { @server.log.scan("worker_connections=").size == 2 }
  end

  def evidence
    File.exist?(@evidence) ? File.readlines(@evidence) : []
  end

  # Eight files over one connection, of any size but the largest.
  def get_some(random, slow: false)
    Client.open(@server.port) do |client|
      8.times do
        size = SIZES.first(5).sample(random: random)
        folder = %w[files path pipe].sample(random: random)
        assert_file size, client.get("/#{folder}/#{size}", pace: slow ? 0.02 : nil)
      end
    end
  end

  def assert_file(size, answer)
    @digests ||= Hash.new do |all, name|
      all[name] = Digest::SHA256.file(File.join(Consumers.root, name)).hexdigest
    end
    assert_equal [200, size, @digests[size.to_s]], [answer.status, answer.bytes, answer.sha256]
  end

  # Every body was sent by IO::Splice.copy_stream, which told the right number.
  def assert_served_by_splice(kind, bytes)
    calls = eventually("the last line of:\n#{evidence.join}") do
      found = evidence.grep(/ #{kind} /)
      found if found.size >= bytes.size
    end
    assert_equal bytes.map { |count| ["IO::Splice", count.to_s] },
                 calls.map { |line| line.split.values_at(1, -1) }
  end

  def descriptors_of_workers
    @server.workers.map { |pid| Server.descriptors(pid, Consumers.root) }
  end

  # Sockets and files are closed when their request is over. Pipes that are empty are kept for
  # later, sixteen at most.
  def assert_descriptors_come_back(before)
    eventually("the end of requests, before: #{before}, after: #{descriptors_of_workers},") do
      descriptors_of_workers.zip(before).all? do |now, then_|
        now[:sockets] <= then_[:sockets] && now[:files] <= then_[:files] &&
          now[:pipes] <= then_[:pipes] + 32
      end
    end
  end

  def assert_log_without_errors
    assert_empty @server.log.lines.grep(/ERROR|FATAL|Error/), "in the server's log"
  end
end

# ---- Proxies behind Puma and Unicorn ----

module Proxied
  include Consumers

  WAYS = %w[splice trysplice partial copy_stream fid].freeze
  HIJACKS = %w[full response].freeze
  BODIES = [0, 1, 65_536, (1 << 20) + 1, 5 << 20].freeze

  def self.included(test)
    server = test::NAME
    WAYS.each do |way|
      test.define_method("test_#{server}_proxies_every_byte_by_#{way}") do
        start
        HIJACKS.product(BODIES).each do |hijack, bytes|
          assert_whole bytes, get(way, hijack, bytes.to_s)
        end
        assert_proxied way, "whole", HIJACKS.size * BODIES.size
      end
    end

    # The ways that take bytes out of a pipe by IO.splice need one of splice and tee.
    test.define_method("test_#{server}_proxies_every_byte_where_splice_is_refused") do
      start(refusing: Refusal.of_all("EPERM", but: "tee"))
      WAYS.product(BODIES).each do |way, bytes|
        assert_whole bytes, get(way, "full", bytes.to_s)
      end
      WAYS.each { |way| assert_proxied way, "whole", BODIES.size }
    end

    test.define_method("test_#{server}_proxies_slow_upstreams_to_16_clients_at_once") do
      start
      in_threads(0...16) do |number|
        way = WAYS[number % WAYS.size]
        bytes = BODIES[2 + number % 3]
        request = number.even? ? "#{bytes}:slow" : bytes.to_s
        pace = number == 5 ? 0.02 : nil
        assert_whole bytes, get(way, HIJACKS[number / 8], request, pace: pace)
      end
      assert_empty @server.log.lines.grep(/proxy: \w+: \w*E/)
    end

    test.define_method("test_#{server}_client_of_an_upstream_that_dies_sees_a_short_body") do
      start
      bytes = (1 << 20) + 1
      in_threads(WAYS.product(%w[end reset])) do |way, manner|
        answer = get(way, "full", "#{bytes}:#{manner}")
        assert_equal 200, answer.status
        refute answer.complete?, "#{way} #{manner}"
        half = [bytes / 2, Consumers.sha256(bytes / 2)]
        assert_equal half, [answer.bytes, answer.sha256], "#{way} #{manner}"
      end
      WAYS.each do |way|
        assert_proxied way, "whole", 1
        assert_proxied way, "Errno::ECONNRESET", 1
      end
    end

    test.define_method("test_#{server}_upstream_is_closed_when_the_client_hangs_up") do
      start
      in_threads(WAYS) do |way|
        client = Client.new(@server.port)
        client.hang_up_after(address(way, "full", "#{5 << 20}:slow"), 70_000)
      end
      eventually("the end of each upstream") { @upstream.failures.size == WAYS.size }
      ended = WAYS.map { @upstream.failures.pop }
      assert_empty ended - [Errno::EPIPE, Errno::ECONNRESET]
      assert_whole 65_536, get("fid", "full", "65536")
    end
  end

  def setup
    super
    @upstream = Upstream.new(BYTES)
  end

  def teardown
    @upstream&.close
    super
  end

  private

  def address(way, hijack, request)
    "/#{way}/#{hijack}/#{@upstream.port}/#{request}"
  end

  def get(way, hijack, request, **options)
    Client.get(@server.port, address(way, hijack, request), **options)
  end

  def assert_whole(bytes, answer)
    expected = [200, bytes, Consumers.sha256(bytes)]
    assert_equal expected, [answer.status, answer.bytes, answer.sha256]
  end

  # What the proxy says of itself, which it may do after its client has gone.
  def assert_proxied(way, outcome, times)
    said = -> { @server.log.lines(chomp: true).count("proxy: #{way}: #{outcome}") }
    eventually("#{times} times #{way}: #{outcome}") { said.call >= times }
    assert_equal times, said.call, "#{way}: #{outcome}"
  end
end

class PumaTest < FidTest
  NAME = "puma"
  include Proxied

  private

  def start(**options)
    start_server(["puma", "-e", "none", "-C", "#{FOLDER}/puma.rb", "#{FOLDER}/proxy.ru"],
                 %w[rack puma], **options,
                 listening: %r{Listening on http://127\.0\.0\.1:(\d+)})
  end
end

class UnicornTest < FidTest
  NAME = "unicorn"
  include Proxied

  private

  def start(**options)
    start_server(
      ["unicorn", "-N", "-E", "none", "-c", "#{FOLDER}/unicorn.rb", "#{FOLDER}/proxy.ru"],
      %w[rack unicorn], listening: /listening on addr=127\.0\.0\.1:(\d+)/, **options
    )
  end
end
