# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"

class ProbeTest < FidTest
  CALLS = %i[splice tee vmsplice vmsplice_gift sendfile copy_file_range write_nosignal pipe
             pipe_grow memory_seal].freeze

  def test_facts_have_a_boolean_for_each_call
    facts = Fid.probe
    CALLS.each { |call| assert_includes [true, false], facts.public_send(:"#{call}?"), call }
    [facts.vmsplice_fresh?, facts.splice_empty_is_eof?, facts.huge_pages?].each do |fact|
      assert_includes [true, false], fact
    end
  end

  def test_a_call_works_or_has_its_error_among_the_refused
    facts = Fid.probe
    CALLS.each do |call|
      assert_equal facts.public_send(:"#{call}?"), !facts.refused.key?(call), call
    end
    assert_empty facts.refused.keys - CALLS
    facts.refused.each_value { |error| assert_operator error, :<, SystemCallError }
  end

  def test_facts_are_what_this_kernel_does
    facts = Fid.probe
    assert facts.pipe?
    reader, writer = pipe
    other_reader, other_writer = pipe
    assert_equal reader.fcntl(Fid::F_GETPIPE_SZ), facts.pipe_bytes
    writer.write "abc"
    assert_equal(facts.tee?, works? { Fid.tee(reader, other_writer, 3) })
    assert_equal(facts.splice?, works? { Fid.splice(reader, other_writer, 3) })
    assert_equal facts.pipe_grow?, (facts.pipe_bytes_grown >= 1 << 20)
    other_reader.close
  end

  def test_vmsplice_means_something_only_where_it_is_allowed
    facts = Fid.probe
    assert_includes %i[refused copies by_reference], facts.vmsplice_meaning
    assert_equal facts.vmsplice?, facts.vmsplice_meaning != :refused
  end

  def test_facts_are_found_by_doing
    # A process whose descriptors are used up cannot make a pipe, and says so only as long.
    in_child do
      Process.setrlimit(:NOFILE, descriptors.max + 9)
      rest = []
      begin
        loop { rest << File.open("/dev/null") }
      rescue Errno::EMFILE
        facts = Fid.probe(again: true)
      end
      rest.each(&:close)
      raise "a pipe without descriptors" if facts.pipe?
      raise facts.inspect unless facts.refused[:pipe] == Errno::EMFILE
      raise "not looked again" unless Fid.probe(again: true).pipe?
    end
  end

  def test_facts_are_frozen_and_shareable
    facts = Fid.probe
    assert_predicate facts, :frozen?
    assert_predicate facts.refused, :frozen?
    assert Ractor.shareable?(facts)
  end

  def test_facts_are_asked_for_in_a_ractor
    out, err, status = ruby(<<~RUBY)
      Warning[:experimental] = false
      require "fid"
      print Ractor.new { [Fid.probe, Fid.probe(again: true)].map(&:splice?) }.take.inspect
    RUBY
    assert status.success?, err
    assert_equal [Fid.probe.splice?] * 2, eval(out)
  end

  def test_facts_compare_by_what_was_found
    assert_equal Fid.probe, Fid.probe(again: true)
    assert Fid.probe.eql?(Fid.probe)
    assert_equal Fid.probe.hash, Fid.probe.hash
    refute_equal Fid.probe, 1
  end

  def test_to_h_has_all_of_it
    facts = Fid.probe
    CALLS.each { |call| assert_equal facts.public_send(:"#{call}?"), facts.to_h[call] }
    %i[refused vmsplice_meaning pipe_bytes pipe_bytes_grown].each do |name|
      assert_equal facts.public_send(name), facts.to_h[name]
    end
    %i[vmsplice_fresh splice_empty_is_eof huge_pages].each do |name|
      assert_equal facts.public_send(:"#{name}?"), facts.to_h[name]
    end
    assert_match(/\A#<Fid::Facts .*pipe_bytes: #{facts.pipe_bytes}/, facts.inspect)
  end

  def test_to_probe_leaves_no_descriptor
    Fid.probe
    before = descriptors
    Fid.probe(again: true)
    assert_equal before, descriptors
  end

  def test_facts_are_made_by_probe_alone
    assert_raises(NoMethodError) { Fid::Facts.new }
  end

  private

  def works?
    yield
    true
  rescue Errno::EPERM, Errno::ENOSYS, Errno::EOPNOTSUPP
    false
  end
end
