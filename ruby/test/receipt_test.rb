# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"

require "json"

# What Fid::Receipt tells, and Fid::Failure.
class ReceiptTest < FidTest
  COUNTERS = %i[bytes bytes_out bytes_in bytes_held bytes_salvaged by_reference kernel_copy
                user_copy waits pipe_bytes pipe_bytes_asked].freeze
  MEMBERS = %i[bytes bytes_in bytes_held bytes_salvaged by_reference kernel_copy user_copy
               by_method calls waits elapsed pipe_bytes pipe_bytes_asked demotions error
               error_side error_call route reason stable? source_changed? require_unmet?].freeze

  def spliced(bytes = 60_000)
    _, writer = pipe
    Fid.copy(open_file("a" * bytes), writer)
  end

  def copied(bytes = 1000)
    Fid.copy(open_file("a" * bytes), "/dev/null", routes: :read_write)
  end

  # A device that looks as if it could be spliced, and cannot.
  def demoted
    _, writer = pipe
    Fid.copy("/dev/null", writer)
  end

  def failed
    reader, writer = pipe
    reader.close
    assert_raises(Errno::EPIPE) { Fid.copy(open_file("a" * 100_000), writer) }
  end

  # ---- What it tells ----

  def test_receipt_counts_what_went_by_reference
    receipt = spliced
    assert_equal 60_000, receipt.bytes
    assert_equal 60_000, receipt.by_reference
    assert_equal 0, receipt.kernel_copy
    assert_equal 0, receipt.user_copy
    assert_equal true, receipt.by_reference?
    assert_equal({ splice: 60_000 }, receipt.by_method)
    assert_equal [:splice], receipt.calls.keys
    assert_equal :splice, receipt.route
    assert_equal false, receipt.stable?
    assert_equal 0, receipt.pipe_bytes
  end

  def test_receipt_counts_what_this_process_copied
    receipt = copied
    assert_equal 1000, receipt.user_copy
    assert_equal 0, receipt.by_reference
    assert_equal false, receipt.by_reference?
    assert_equal({ read_write: 1000 }, receipt.by_method)
    # A read, a write, and at most another read for the end.
    assert_includes 2..3, receipt.calls[:read_write]
    assert_equal true, receipt.stable?
  end

  def test_receipt_counts_what_the_kernel_copied
    receipt = Fid.copy(open_file("a" * 100_000), path("to"), routes: :sendfile)
    assert_equal 100_000, receipt.kernel_copy
    assert_equal 0, receipt.user_copy
    assert_equal({ sendfile: 100_000 }, receipt.by_method)
  end

  def test_receipt_of_nothing_is_one_of_zeros
    receipt = Fid.copy(file(""), "/dev/null")
    (COUNTERS - %i[pipe_bytes pipe_bytes_asked waits]).each do |name|
      assert_equal 0, receipt.public_send(name), name
    end
    assert_equal true, receipt.by_reference?
    assert_equal({}, receipt.by_method)
    assert_equal [], receipt.demotions
  end

  def test_receipt_knows_the_private_pipe
    sink_reader, sink = socket_pair
    got = reading(sink_reader)
    source, writer = socket_pair
    thread { writer.write("a" * 100_000).tap { writer.close } }
    receipt = Fid.copy(source, sink, routes: :splice_pipe, pipe_bytes: 128 << 10)
    sink.close
    assert_equal 100_000, got.value.bytesize
    assert_equal 128 << 10, receipt.pipe_bytes_asked
    assert_operator receipt.pipe_bytes, :>=, 4096
    assert_equal({ splice_pipe: 100_000 }, receipt.by_method)
  end

  def test_receipt_counts_waits_and_time
    reader, writer = pipe
    copying = thread { Fid.copy(reader, "/dev/null") }
    wait_until_it_sleeps(copying)
    before = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    sleep 0.02
    asleep = Process.clock_gettime(Process::CLOCK_MONOTONIC) - before
    writer.close
    receipt = copying.value
    assert_operator receipt.waits, :>=, 1
    assert_kind_of Float, receipt.elapsed
    assert_operator receipt.elapsed, :>=, asleep
    assert_operator receipt.elapsed, :<, LONG
  end

  def test_receipt_tells_each_demotion
    receipt = demoted
    assert_equal 1, receipt.demotions.size
    demotion = receipt.demotions.first
    assert_kind_of Struct, demotion
    assert_instance_of Fid::Receipt::Demotion, demotion
    assert_equal %i[from to call side error at_bytes], demotion.members
    assert_equal :splice, demotion.from
    assert_equal :read_write, demotion.to
    assert_equal :splice, demotion.call
    assert_equal Errno::EINVAL, demotion.error
    assert_equal 0, demotion.at_bytes
    assert_equal 1, receipt.calls[:splice]
    assert_equal 1, receipt.calls[:read_write]
    assert_predicate demotion, :frozen?
    assert_predicate receipt.demotions, :frozen?
  end

  def test_receipt_has_a_reason_in_english
    assert_match(/\Athe source's pages enter the pipe by reference\z/, spliced.reason)
    assert_equal Encoding::UTF_8, spliced.reason.encoding
    assert_predicate spliced.reason, :frozen?
  end

  def test_receipt_of_a_failure_tells_what_failed
    receipt = failed.receipt
    assert_equal Errno::EPIPE, receipt.error
    assert_equal :sink, receipt.error_side
    assert_equal :splice, receipt.error_call
    assert_equal 0, receipt.bytes
    assert_nil spliced.error
    assert_nil spliced.error_side
    assert_nil spliced.error_call
  end

  # ---- What it is ----

  def test_receipt_is_frozen_and_shareable_as_all_that_it_gives
    [spliced, copied, demoted, failed.receipt].each do |receipt|
      assert_predicate receipt, :frozen?
      assert Ractor.shareable?(receipt)
      (MEMBERS + %i[by_reference?]).each do |name|
        value = receipt.public_send(name)
        assert Ractor.shareable?(value), "#{name}: #{value.inspect}"
      end
      assert_raises(FrozenError) { receipt.instance_variable_set(:@bytes, 5) }
    end
  end

  def test_receipt_cannot_be_made_or_duplicated
    assert_raises(NoMethodError) { Fid::Receipt.new }
    assert_raises(TypeError, NoMethodError) { Fid::Receipt.allocate }
    receipt = copied
    assert_raises(TypeError, NoMethodError) { Class.new(Fid::Receipt).new }
    # Where these work they give the same account.
    [-> { receipt.dup }, -> { receipt.clone },
     -> { Marshal.load(Marshal.dump(receipt)) }].each do |copy|
      assert_equal receipt, copy.call
    rescue TypeError, NoMethodError => e
      assert_includes e.message, "Fid::Receipt"
    end
  end

  def test_receipt_is_equal_to_itself_alone
    receipt = spliced
    same = receipt
    assert_equal receipt, same
    assert_operator receipt, :eql?, same
    assert_equal receipt.hash, same.hash
    assert_equal 1, { receipt => 1 }[same]
    other = spliced(50_000)
    refute_equal receipt, other
    refute_operator receipt, :eql?, other
    [nil, 60_000, receipt.to_h, Object.new].each { |thing| refute_equal receipt, thing }
  end

  def test_receipts_of_the_same_account_are_equal
    flow = Fid::Flow.new(open_file("a" * 100), opened(File.open(File::NULL, "w")))
    flow.run
    one = flow.receipt
    other = flow.receipt
    refute_same one, other
    assert_equal one, other
    assert_operator one, :eql?, other
    assert_equal one.hash, other.hash
    flow.close
    assert_equal 100, one.bytes, "the receipt outlives its flow"
  end

  # ---- As text ----

  def test_receipt_is_a_sentence
    text = spliced.to_s
    assert_equal Encoding::UTF_8, text.encoding
    assert_match(/58\.6 KiB moved in .*by reference.*splice/, text)
    refute_match(/\n|\0/, text)
    assert_match(/ENOSPC|EPIPE/, failed.receipt.to_s)
    assert_match(/EINVAL/, demoted.to_s)
  end

  def test_receipt_inspects_itself
    receipt = copied
    assert_equal "#<Fid::Receipt #{receipt}>", receipt.inspect
  end

  def test_receipt_as_a_hash_has_what_its_methods_say
    [spliced, demoted, failed.receipt].each do |receipt|
      hash = receipt.to_h
      assert_equal MEMBERS.map { |name| name.to_s.delete_suffix("?").to_sym }, hash.keys
      MEMBERS.each do |name|
        expected = receipt.public_send(name)
        actual = hash[name.to_s.delete_suffix("?").to_sym]
        expected.nil? ? assert_nil(actual, name) : assert_equal(expected, actual, name)
      end
    end
  end

  def test_receipt_as_json_is_one_object
    [spliced, copied, demoted, failed.receipt].each do |receipt|
      json = receipt.to_json
      assert_equal Encoding::UTF_8, json.encoding
      object = JSON.parse(json)
      assert_kind_of Hash, object
      assert_includes object.values, receipt.bytes
      assert_equal json, JSON.generate(receipt)
      assert_equal [object], JSON.parse([receipt].to_json)
      assert_equal({ "a" => object }, JSON.parse(JSON.pretty_generate("a" => receipt)))
    end
  end

  # ---- Failures ----

  def test_failure_is_an_errno_and_a_failure
    error = failed
    assert_instance_of Errno::EPIPE, error
    assert_kind_of SystemCallError, error
    assert_kind_of Fid::Failure, error
    assert_equal Errno::EPIPE::Errno, error.errno
    begin
      raise error
    rescue Fid::Failure => e
      assert_same error, e
    end
    refute_includes Errno::EPIPE.ancestors, Fid::Failure
    refute_kind_of Fid::Failure, Errno::EPIPE.new
  end

  def test_failure_tells_side_call_and_bytes_in_its_message
    assert_equal "Broken pipe - sink: splice, after 0 bytes", failed.message
    reader, writer = pipe
    copying = thread { Fid.copy(open_file("a" * 300_000), writer) }
    wait_until_it_sleeps(copying)
    reader.close
    error = assert_raises(Errno::EPIPE) { copying.value }
    assert_operator error.receipt.bytes, :>, 0
    receipt = error.receipt
    assert_equal "Broken pipe - sink: #{receipt.error_call}, after #{receipt.bytes} bytes",
                 error.message
  end

  def test_failure_that_was_refused_at_once_says_why
    reader, = pipe
    sink = opened(File.open(path("to"), "w"))
    error = assert_raises(Errno::EOPNOTSUPP) { Fid.copy(reader, sink, require: :by_reference) }
    assert_includes error.message, "it copies, and by-reference is required"
    error = assert_raises(Errno::ESPIPE) { Fid.copy(reader, path("to"), source_offset: 5) }
    assert_match(/source.*offset/, error.message)
  end

  def test_failure_has_what_was_not_delivered_as_binary
    source = full_pipe("a" * 30_000)
    error = assert_raises(Errno::ENOSPC) { Fid.copy(source, "/dev/full", routes: :read_write) }
    assert_equal 30_000, error.receipt.bytes_held
    assert_equal "a" * 30_000, error.undelivered
    assert_equal Encoding::BINARY, error.undelivered.encoding
    assert_equal "", source.read
    assert_nil failed.undelivered
  end

  def test_failure_of_another_making_takes_the_undelivered_along
    source, writer = socket_pair
    sink_reader, sink = socket_pair
    bytes = data(4 << 20)
    thread { writer.write(bytes).tap { writer.close } }
    copying = thread { Fid.copy(source, sink) }
    wait_until_it_sleeps(copying)
    mine = Class.new(StandardError)
    copying.raise mine, "stop it"
    error = assert_raises(mine) { copying.value }
    assert_equal "stop it", error.message
    sink.close
    delivered = sink_reader.read.b
    assert_operator error.receipt.bytes_held, :>, 0
    assert_equal error.receipt.bytes_held, error.undelivered.bytesize
    assert_equal error.receipt.bytes, delivered.bytesize
    assert bytes == delivered + error.undelivered + source.read.b
    assert_kind_of Fid::Failure, error
    refute_includes mine.ancestors, Fid::Failure
  end
end
