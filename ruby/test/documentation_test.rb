# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "support"
require "fid/sleepy_penguin"
require "io/splice"
require "open3"
require "stringio"

# A Ruby block of README.md: run as it stands, in a folder and with the names that SETTING gives.
# What stands behind "# =>" is what the line is. What a "puts" prints stands in comments below it;
# how long something took is not compared.
class Snippet
  README = File.expand_path("../README.md", __dir__)
  MARK = /\A(?<indent>\s*)(?<code>\S.*?)\s+# => (?<expected>.*)\z/.freeze
  PUTS = /\A(?<indent>\s*)(?<code>puts .*)\z/.freeze
  COMMENT = /\A\s*# (?<expected>.*)\z/.freeze

  SETTING = <<~RUBY
    require "fid"
    require "fid/sleepy_penguin"
    require "io/splice"
    require "openssl"
    require "socket"
    $VERBOSE = nil
    File.binwrite("original", Random.new(1).bytes(3_000_000))
    socket, peer = UNIXSocket.pair
    Thread.new { IO.copy_stream(peer, File::NULL) }
  RUBY

  def self.all
    text = File.read(README)
    found = []
    text.scan(/^```ruby\n(.*?)^```$/m) do
      found << new(Regexp.last_match(1), text[0...Regexp.last_match.begin(1)].count("\n") + 1)
    end
    found
  end

  attr_reader :line, :marks

  def initialize(code, line)
    @line = line
    @marks = 0
    @checked = {}
    @program = prepare(code.lines(chomp: true))
  end

  # Runs it here and now, in a folder of its own. Raises when something is not as it says.
  def run
    Dir.mktmpdir("fid-snippet") do |folder|
      Dir.chdir(folder) do
        place = TOPLEVEL_BINDING.dup
        place.local_variable_set(:snippet, self)
        eval(SETTING, place, "setting", 1) # rubocop:disable Security/Eval
        eval(@program, place, README, @line) # rubocop:disable Security/Eval
      end
    end
    return if @checked.size == marks

    raise "README.md:#{@line}: #{marks - @checked.size} of its results were never reached"
  end

  # Not by what is printed, since newer Rubies print a Hash in another way.
  def value(number, expected, value)
    same = eval(expected, TOPLEVEL_BINDING.dup) == value # rubocop:disable Security/Eval
    check(number, same, expected, value.inspect)
  end

  def printed(number, expected)
    before = $stdout
    $stdout = StringIO.new
    yield
    found = $stdout.string.chomp
    check(number, timeless(expected) == timeless(found), expected, found)
  ensure
    $stdout = before
  end

  private

  def prepare(lines)
    lines.each_with_index.map do |line, index|
      number = @line + index
      if (found = MARK.match(line))
        @marks += 1
        "#{found[:indent]}snippet.value(#{number}, #{found[:expected].dump}, (#{found[:code]}))"
      elsif (found = PUTS.match(line))
        @marks += 1
        expected = comment(lines.drop(index + 1)).dump
        "#{found[:indent]}snippet.printed(#{number}, #{expected}) { #{found[:code]} }"
      else
        line
      end
    end.join("\n")
  end

  # That of the first lines, in one.
  def comment(lines)
    lines.map { |line| COMMENT.match(line) }.take_while(&:itself)
         .map { |found| found[:expected] }.join(" ")
  end

  def check(number, same, expected, found)
    @checked[number] = true
    return if same

    raise "README.md:#{number}: it says #{expected}, and it is #{found}"
  end

  def timeless(text)
    text.gsub(/ in [\d.]+ (?:us|ms|s)(?: \([\d.]+ \w+\/s\))?/, " in T")
  end
end

# The signatures of sig/, where RBS is installed.
module Signatures
  FOLDER = File.expand_path("../sig", __dir__)
  OURS = /\A::(?:Fid|SleepyPenguin|IO::Splice)\b/.freeze

  module_function

  def available?
    require "rbs"
    true
  rescue LoadError
    false
  end

  def environment
    loader = RBS::EnvironmentLoader.new
    loader.add(path: Pathname(FOLDER))
    RBS::Environment.from_loader(loader).resolve_type_names
  end

  # Of what is ours: the type's name and the module.
  def modules(environment)
    names = environment.class_decls.keys.select { |name| name.to_s.match?(OURS) }
    names.to_h { |name| [name, Object.const_get(name.to_s)] }
  end

  # From now on each call of ours is compared with its signature.
  def enforce
    require "rbs/test"
    RBS.logger_level = "error"
    environment = self.environment
    tester = RBS::Test::Tester.new(env: environment)
    modules(environment).each_value do |ours|
      tester.install!(ours, sample_size: 100, unchecked_classes: [])
    end
  end
end

class DocumentationTest < FidTest
  ROOT = File.expand_path("..", __dir__)

  Snippet.all.each do |snippet|
    define_method("test_readme_line_#{snippet.line}_does_what_it_says") do
      needs_a_kernel_that_splices
      in_child { snippet.run }
    end
  end

  # README.md tells of such a one.
  def needs_a_kernel_that_splices
    facts = Fid.probe
    refused = facts.refused.keys & %i[splice tee sendfile pipe_grow memory_seal]
    skip "this kernel refuses #{refused.join(", ")}" unless refused.empty?
    skip "vmsplice does not go by reference here" if facts.vmsplice_meaning != :by_reference
    route = Fid.copy(file(data(100_000)), path("copied")).route
    skip "a file is copied by #{route} on this file system" if route != :splice_pipe
  end

  def test_readme_has_results_that_are_checked
    assert_operator Snippet.all.sum(&:marks), :>, 20
  end

  # A check that finds nothing would pass for ever.
  def test_readme_check_finds_what_is_wrong
    wrong = ["1 + 1 # => 3", "puts \"a\"\n# b", "puts \"a\"", "if false\n  1 # => 1\nend"]
    wrong.each do |code|
      in_child { assert_raises(RuntimeError, code) { Snippet.new("#{code}\n", 1).run } }
    end
    in_child { Snippet.new("1 + 1 # => 2\nputs \"moved in 3 ms\"\n# moved\n# in 4 us\n", 1).run }
  end

  def test_readme_links_to_what_is_there
    links = File.read(Snippet::README).scan(/\]\(([^)#]+)\)/).flatten
    refute_empty links
    links.each { |link| assert File.exist?(File.expand_path(link, ROOT)), link }
  end

  def test_readme_names_each_public_class_and_each_method_of_io_splice
    text = File.read(Snippet::README)
    names = IO::Splice.singleton_methods(false).map { |name| "IO::Splice.#{name}" } +
            Fid::IOCalls.instance_methods(false).map { |name| "IO.#{name}" } +
            Fid::PipeSize.instance_methods(false).map { |name| "IO##{name}" } +
            SleepyPenguin.singleton_methods(false).map { |name| "SleepyPenguin.#{name}" } +
            Fid.singleton_methods(false).map { |name| "Fid.#{name}" } +
            %w[Fid::Flow Fid::Fan Fid::Pipe Fid::Memory Fid::Facts Fid::Failure Fid::Receipt]
    missing = names.reject { |name| text.match?(/(?<![\w:])#{Regexp.escape(name)}(?![\w?])/) }
    assert_empty missing
  end

  # ---- Signatures; signatures_test.rb compares the names ----

  def needs_rbs
    skip "RBS is not installed" unless Signatures.available?
  end

  # What a class or a module defines itself.
  def signed_methods(definition, name)
    definition.methods.select { |_, method| method.defined_in == name && method.public? }.keys
  end

  def test_each_class_and_constant_has_a_signature_and_each_signature_one
    needs_rbs
    environment = Signatures.environment
    modules = Signatures.modules(environment)
    modules.each_value do |ours|
      constants = ours.constants(false).map { |name| "::#{ours.name}::#{name}" }
      inside = /\A#{Regexp.escape("::#{ours.name}::")}[^:]+\z/
      signed = (environment.constant_decls.keys + environment.class_decls.keys).map(&:to_s)
      assert_equal constants.sort, signed.grep(inside).sort, ours.name
    end
    assert_includes modules.values, Fid::Fan::Receipt
  end

  # Of methods in Ruby, whose parameters Ruby knows.
  def test_signatures_take_the_arguments_that_methods_take
    needs_rbs
    environment = Signatures.environment
    builder = RBS::DefinitionBuilder.new(env: environment)
    compared = 0
    Signatures.modules(environment).each do |name, ours|
      [[builder.build_instance(name), ->(found) { ours.instance_method(found) }],
       [builder.build_singleton(name), ->(found) { ours.method(found) }]].each do |definition, get|
        (signed_methods(definition, name) - [:new]).each do |method|
          parameters = get.(method).parameters
          # Methods in C tell nothing, and who passes all on has none of its own.
          next if get.(method).source_location.nil? || parameters.map(&:first).include?(:keyrest)

          compared += 1
          definition.methods[method].method_types.each do |type|
            assert_equal shape_of(parameters), shape_of_signature(type.type), "#{name} #{method}"
          end
        end
      end
    end
    assert_operator compared, :>, 60
  end

  # How many must be there, how many may, whether any number may, and the keywords.
  def shape_of(parameters)
    kinds = parameters.group_by(&:first)
    [kinds.fetch(:req, []).size, kinds.fetch(:opt, []).size, kinds.key?(:rest),
     kinds.fetch(:key, []).map(&:last).sort, kinds.fetch(:keyreq, []).map(&:last).sort]
  end

  def shape_of_signature(function)
    [function.required_positionals.size, function.optional_positionals.size,
     !function.rest_positionals.nil?, function.optional_keywords.keys.sort,
     function.required_keywords.keys.sort]
  end

  def test_calls_are_as_their_signatures_say
    needs_rbs
    needs_a_kernel_that_splices
    in_child do
      Signatures.enforce
      # A check that does not work would pass for ever.
      assert_raises(RBS::Test::Tester::TypeError) { Fid.copy(3.5, File::NULL) }
      Snippet.all.each { |snippet| in_child { snippet.run } }
    end
  end

  # ---- Comments ----

  def test_each_public_method_has_a_comment
    yard = ["yard", "stats", "--list-undoc", "--no-cache", "--no-save", "--no-progress",
            "--db", path("yard")]
    begin
      report, status = Open3.capture2e(*yard, chdir: ROOT)
    rescue Errno::ENOENT
      skip "YARD is not installed"
    end
    assert status.success?, report
    assert_match(/100\.00% documented/, report, report)
    refute_match(/\[warn\]|\[error\]/, report)
  end
end
