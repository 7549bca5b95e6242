# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Ruby under a seccomp filter that refuses splice and the others, as a container's may: every
# byte moves all the same, and the receipt tells how. The filter is that of the command fid,
# which is told by FID_COMMAND and does not help otherwise (--no-preload).

require_relative "support"
require_relative "consumers/refusal"
require "io/splice"
require "json"

class SeccompTest < FidTest
  BYTES = (1 << 20) + 1
  # What refuses comes to pass with these two.
  ERRORS = %w[EPERM ENOSYS].freeze

  ERRORS.each do |error|
    define_method("test_probe_names_each_call_that_is_refused_with_#{error}") do
      refused = under(all(error), "facts")
      expected = Refusal::CALLS.to_h { |call| [call, "Errno::#{error}"] }
      assert_equal expected, refused.slice(*Refusal::CALLS)
    end

    define_method("test_copy_moves_every_byte_where_all_is_refused_with_#{error}") do
      under(all(error), "copy").each do |pair, came|
        assert came["whole"], pair
        receipt = came["returned"]
        assert_equal [BYTES, BYTES], receipt.values_at("bytes", "user_copy"), pair
        assert_equal({ "read_write" => BYTES }, receipt["by_method"], pair)
        # A copy is the first choice there, refused or not.
        next if pair == "pipe -> file"

        refused = receipt["refused"].reject { |_, why| why.nil? }
        assert_equal ["Errno::#{error}"], refused.values.uniq, "#{pair}: not said why"
        assert_empty refused.keys - Refusal::CALLS, pair
      end
    end

    define_method("test_copy_of_parts_moves_every_byte_where_all_is_refused_with_#{error}") do
      assert_whole 9, under(all(error), "copy_of_parts")
    end

    define_method("test_copy_stream_moves_every_byte_where_all_is_refused_with_#{error}") do
      assert_whole 9, under(all(error), "copy_stream")
    end

    define_method("test_splice_moves_every_byte_where_only_tee_is_not_refused_with_#{error}") do
      %w[splice trysplice partial].each do |call|
        assert_whole 5, under(all(error, but: "tee"), call)
      end
    end

    # What is in a pipe can only be looked at by tee, and what cannot be looked at first could
    # be lost.
    define_method("test_splice_takes_nothing_from_a_pipe_where_all_is_refused_with_#{error}") do
      %w[splice trysplice partial].each do |call|
        came = under(all(error), call)
        from_pipe, others = came.partition { |pair, _| pair.start_with?("pipe") }
        assert_whole 2, others
        assert_equal 3, from_pipe.size
        from_pipe.each do |pair, each|
          refusal = { "whole" => true, "returned" => "Errno::#{error}" }
          assert_equal refusal, each, "#{call} #{pair}"
        end
      end
    end

    define_method("test_offsets_mean_the_same_where_all_is_refused_with_#{error}") do
      came = under(all(error), "offsets")
      assert came["whole"]
      assert_equal [BYTES, 0], came["returned"]
    end

    define_method("test_tee_says_that_it_is_refused_with_#{error}_and_takes_nothing") do
      %w[tee trytee].each do |call|
        came = under(all(error), call)
        assert_equal ["Errno::#{error}", "kept"], came.values_at("error", "kept"), call
      end
    end

    define_method("test_vmsplice_writes_every_byte_where_all_is_refused_with_#{error}") do
      assert_equal({ "whole" => true, "returned" => BYTES }, under(all(error), "vmsplice"))
    end

    define_method("test_fan_gives_each_sink_every_byte_where_all_is_refused_with_#{error}") do
      under(all(error), "fan").each do |kind, came|
        assert came["whole"], kind
        assert_equal 0, came["failed"], kind
        came["sinks"].each do |receipt|
          assert_equal [BYTES, BYTES], receipt.values_at("bytes", "user_copy"), kind
        end
      end
    end

    define_method("test_memory_is_delivered_by_user_copy_where_all_is_refused_with_#{error}") do
      came = under(all(error), "memory")
      assert_equal 6, came.size
      came.merge(under(all(error), "constant")).each do |name, each|
        assert each["whole"], name
        assert_equal [BYTES, BYTES], each["returned"].values_at("bytes", "user_copy"), name
      end
    end
  end

  def test_refusing_splice_alone_leaves_sendfile_and_copy_file_range_to_serve
    came = under("splice=EPERM", "copy")
    assert(came.values.all? { |each| each["whole"] })
    used = came.transform_values { |each| each["returned"]["by_method"].keys }
    assert_equal ["copy_file_range"], used["file -> file"]
    assert_equal ["sendfile"], used["file -> socket"]
    assert_equal ["read_write"], used["socket -> socket"]
    assert_equal "Errno::EPERM", came["socket -> socket"]["returned"]["refused"]["splice"]
    assert_whole 5, under("splice=EPERM", "splice")
    assert_whole 9, under("splice=EPERM", "copy_stream")
  end

  def test_refusing_splice_alone_leaves_tee_as_it_is
    %w[tee trytee].each do |call|
      assert_equal({ "returned" => 4, "kept" => "kept" }, under("splice=EPERM", call))
    end
  end

  def test_nothing_is_refused_without_a_filter
    refused = Fid.probe.refused
    skip "refused here anyway: #{refused.keys.join(", ")}" unless refused.empty?

    came = under(nil, "copy")
    assert(came.values.all? { |each| each["whole"] })
    by_splice = came.slice("pipe -> pipe", "socket -> pipe", "pipe -> socket")
    used = by_splice.transform_values { |each| each["returned"]["by_method"].keys }
    assert_equal [["splice"]], used.values.uniq
  end

  # Why one would want the gem there: it is no fault of the test's program.
  def test_copy_stream_of_ruby_itself_fails_where_sendfile_is_refused
    came = under(all("EPERM"), "ruby")
    unless came["file -> socket"] == "Errno::EPERM"
      skip "IO.copy_stream of Ruby #{RUBY_VERSION} goes on without sendfile"
    end
    # The same program, and the same filter.
    assert_whole 9, under(all("EPERM"), "copy_stream")
  end

  private

  def all(error, but: nil)
    Refusal.of_all(error, but: but)
  end

  # Runs a case of consumers/denied.rb with these calls refused, nil for none.
  def under(deny, name)
    folders = $LOAD_PATH.flat_map { |folder| ["-I", folder] }
    program = [RbConfig.ruby, *folders, "#{__dir__}/consumers/denied.rb", name]
    out, err, status = Open3.capture3(*(deny ? refusing(deny) : []), *program)
    assert status.success?, "#{name}: #{status.inspect}\n#{err}"
    JSON.parse(out)
  end

  def refusing(deny)
    Refusal.command(deny)
  rescue Refusal::Missing => e
    skip e.message
  end

  def assert_whole(pairs, came)
    assert_equal pairs, came.size
    came.each do |pair, each|
      assert_equal({ "whole" => true, "returned" => BYTES }, each, pair)
    end
  end
end
