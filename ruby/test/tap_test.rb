# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# What prints the results of all tests here does not flatter them, and a test that hangs ends.

require_relative "tap"
require "open3"
require "rbconfig"

class TapTest < Minitest::Test
  # Runs a class of tests with this body in a program of its own: its lines and its status.
  def run_tests(body, *arguments, env: {})
    program = <<~RUBY
      require #{File.expand_path("tap", __dir__).dump}
      class Sample < Minitest::Test
        #{body}
      end
      Minitest.autorun
    RUBY
    said, @errors, status = Open3.capture3({ "RUBYOPT" => nil, **env }, RbConfig.ruby, "-e",
                                           program, "--", *arguments)
    [said.lines.map(&:chomp), status]
  end

  def results(lines)
    lines.grep_v(/\A#/)
  end

  def test_fact_that_holds_is_ok
    lines, status = run_tests("def test_fact; assert true; end")
    assert_equal ["ok 1 - test_fact", "1..1"], results(lines)
    assert_predicate status, :success?
  end

  def test_failure_is_told_with_its_message_and_place
    lines, status = run_tests("def test_fact; assert_equal 1, 2, 'sum'; end")
    assert_equal ["not ok 1 - test_fact", "1..1"], results(lines)
    ["# sum.", "# Expected: 1", "#   Actual: 2", "# at -e:3"].each do |line|
      assert_includes lines, line
      assert_operator lines.index(line), :<, lines.index("not ok 1 - test_fact")
    end
    refute_predicate status, :success?
  end

  def test_exception_is_a_failure_with_its_backtrace
    lines, status = run_tests("def test_fact; raise IOError, 'gone'; end")
    assert_includes lines, "not ok 1 - test_fact"
    assert_includes lines, "# IOError: gone"
    assert_includes lines.grep(/-e:3/).first, "test_fact"
    refute_predicate status, :success?
  end

  def test_both_the_failure_of_a_test_and_of_its_end_are_told
    lines, = run_tests("def test_fact; flunk 'one'; end; def teardown; raise 'two'; end")
    assert_equal ["not ok 1 - test_fact", "1..1"], results(lines)
    assert_includes lines, "# one"
    assert_includes lines, "# RuntimeError: two"
  end

  def test_skip_has_its_reason_on_the_line
    lines, status = run_tests("def test_fact; skip %(no such\nthing); end")
    assert_equal ["ok 1 - test_fact # SKIP no such thing", "1..1"], results(lines)
    assert_predicate status, :success?
  end

  def test_order_is_that_of_the_seed_which_is_told
    body = ("a".."h").map { |name| "def test_#{name}; end" }.join(";")
    lines, = run_tests(body, env: { "FID_SEED" => "7", "SEED" => nil })
    assert_equal "# seed 7", lines.first
    again, = run_tests(body, env: { "FID_SEED" => "7", "SEED" => nil })
    other, = run_tests(body, env: { "FID_SEED" => "8", "SEED" => nil })
    assert_equal lines, again
    refute_equal results(lines), results(other)
  end

  def test_crash_leaves_no_plan_and_names_the_test
    lines, status = run_tests("def test_fact; exit! 0; end")
    assert_empty results(lines)
    assert_includes lines, "# Sample#test_fact"
    assert_predicate status, :success?
  end

  def test_exit_of_a_test_leaves_no_plan
    lines, status = run_tests("def test_fact; exit 0; end")
    assert_empty results(lines)
    refute_predicate status, :success?
  end

  def test_interrupt_leaves_no_plan
    lines, status = run_tests("def test_fact; Process.kill :INT, Process.pid; sleep 30; end")
    assert_equal ["Bail out! interrupted"], results(lines)
    refute_predicate status, :success?
  end

  def test_nothing_to_run_is_no_success
    lines, status = run_tests("def test_fact; end", "-n", "test_none")
    assert_equal ["1..0"], results(lines)
    refute_predicate status, :success?
  end

  def test_output_of_a_test_stays_out_of_the_lines
    lines, = run_tests("def test_fact; $stdout.reopen(File::NULL); puts 'not ok 2'; end")
    assert_equal ["ok 1 - test_fact", "1..1"], results(lines)
  end

  def test_hanging_test_is_ended_and_tells_where_its_threads_are
    lines, status = run_tests(<<~RUBY, env: { "FID_TEST_SECONDS" => "1" })
      def stuck; Queue.new.pop; end
      def lost; sleep; end
      def test_fact; Thread.new { lost }; stuck; end
      def test_other; end
    RUBY
    assert_equal ["not ok", "ok"], results(lines).first(2).map { |line| line[/\A(not )?ok/] }.sort
    assert_equal "1..2", lines.last
    assert_includes lines, "# Tap::Hang: ran for 1 s and was ended"
    assert(lines.grep(/stuck/).any?, "the test's thread")
    assert(lines.grep(/lost/).any?, "the other thread")
    refute_predicate status, :success?
  end

  def test_test_that_cannot_be_ended_ends_the_program
    limits = { "FID_TEST_SECONDS" => "1", "FID_GRACE_SECONDS" => "1" }
    lines, status = run_tests(<<~RUBY, env: limits)
      def stuck; sleep; rescue Exception; retry; end
      def test_fact; stuck; end
    RUBY
    assert_empty results(lines)
    assert_includes lines, "# Sample#test_fact could not be ended; its threads:"
    assert_includes @errors, "[BUG] Segmentation fault"
    assert_predicate status, :signaled?
  end
end

Minitest.autorun
