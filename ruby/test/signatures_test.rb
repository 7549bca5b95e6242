# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# The signatures in sig/ are sound, and they are those of what is there: every public method and
# constant has one, and none has been left behind.

require_relative "support"
require "fid/sleepy_penguin"
require "io/splice"

class SignaturesTest < FidTest
  FOLDER = File.expand_path("../sig", __dir__)
  # The methods that IO gets are those of modules inside Fid.
  ROOTS = [Fid, IO::Splice, SleepyPenguin].freeze

  def setup
    skip "Ruby's rbs is not installed" if Gem.find_files("rbs.rb").empty?
    require "rbs"
  end

  # RBS' own program, which no distribution calls by the same name.
  def test_signatures_are_valid
    said, status = Open3.capture2e(RbConfig.ruby, Gem.bin_path("rbs", "rbs"), "-I", FOLDER,
                                   "validate", "--silent")
    assert status.success?, said
  end

  def test_every_public_method_has_a_signature
    missing = modules.flat_map do |mod|
      (singleton_methods_of(mod) - declared_singleton(mod)).map { |name| "#{mod}.#{name}" } +
        (instance_methods_of(mod) - declared_instance(mod)).map { |name| "#{mod}##{name}" }
    end
    assert_empty missing
  end

  def test_every_signature_has_a_method
    left = modules.flat_map do |mod|
      (declared_singleton(mod) - singleton_methods_of(mod)).map { |name| "#{mod}.#{name}" } +
        (declared_instance(mod) - instance_methods_of(mod)).map { |name| "#{mod}##{name}" }
    end
    assert_empty left
  end

  def test_every_constant_has_a_signature
    declared = environment.constant_decls.keys.map { |name| name.to_s.delete_prefix("::") }
    assert_empty modules.flat_map { |mod| values_of(mod) } - declared
  end

  private

  def environment
    @environment ||= begin
      loader = RBS::EnvironmentLoader.new
      loader.add(path: Pathname(FOLDER))
      RBS::Environment.from_loader(loader).resolve_type_names
    end
  end

  def builder
    @builder ||= RBS::DefinitionBuilder.new(env: environment)
  end

  # The modules and classes of the gem, with what is inside them.
  def modules
    ROOTS.flat_map { |root| [root, *inside(root)] }.uniq
  end

  def inside(mod)
    mod.constants(false).map { |name| mod.const_get(name) }
       .select { |value| value.is_a?(Module) && value.name.start_with?("#{mod}::") }
       .flat_map { |value| [value, *inside(value)] }
  end

  def values_of(mod)
    mod.constants(false).reject { |name| mod.const_get(name).is_a?(Module) }
       .map { |name| "#{mod}::#{name}" }
  end

  # Without what Ruby gives every class, or every Struct.
  def singleton_methods_of(mod)
    names = mod.singleton_methods(false) - %i[new allocate]
    mod.is_a?(Class) && mod < Struct ? names - %i[[] members inspect keyword_init?] : names
  end

  def instance_methods_of(mod)
    names = mod.public_instance_methods(false)
    mod.is_a?(Class) && mod < Struct ? names - mod.members.map { |name| :"#{name}=" } : names
  end

  def type_name(mod)
    *outer, name = mod.name.split("::").map(&:to_sym)
    RBS::TypeName.new(name: name, namespace: RBS::Namespace.new(path: outer, absolute: true))
  end

  def declared_singleton(mod)
    declared(mod) { |name| builder.build_singleton(name) } - %i[new allocate]
  end

  def declared_instance(mod)
    declared(mod) { |name| builder.build_instance(name) }
  end

  # The names that this very module declares, and not one that it inherits from.
  def declared(mod)
    name = type_name(mod)
    return [] unless environment.class_decls.key?(name)

    yield(name).methods.select do |_, method|
      method.public? && (method.implemented_in || method.defined_in) == name
    end.keys
  end
end
