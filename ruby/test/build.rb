# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# What Meson asks of Ruby. Both verbs are told by the environment which compiler and flags the
# tree is built with: CC, CFLAGS, LDFLAGS.
#
#   build.rb check BITS     exits with 1 and says why when the extension cannot be built here for
#                           programs of that many bits
#   build.rb compile OUTPUT FOLDER [ARGUMENT...]
#                           compiles the extension in FOLDER by "extconf.rb ARGUMENT..." and make,
#                           what has changed only, and puts it at OUTPUT

require "fileutils"
require "rbconfig"

EXTENSION = File.expand_path("../ext/fid", __dir__)

def unusable(reason)
  puts reason
  exit 1
end

def check(bits)
  if Gem::Version.new(RUBY_VERSION) < Gem::Version.new("3.1")
    unusable "Ruby #{RUBY_VERSION} is older than 3.1"
  end
  own = [nil].pack("p").bytesize * 8
  unusable "this Ruby is one of #{own} bits" unless own == Integer(bits)
  header = File.join(RbConfig::CONFIG["rubyhdrdir"].to_s, "ruby.h")
  unusable "the headers of Ruby are not installed" unless File.exist?(header)
  # mkmf does things when it is loaded.
  unusable "Ruby's mkmf is not installed" unless $LOAD_PATH.resolve_feature_path("mkmf")
  unusable "make is not installed" unless system("make", "--version", out: File::NULL)
  require "minitest"
rescue LoadError
  unusable "Ruby's minitest is not installed"
end

# What is wrong comes by the standard error. Anything else would pass for a warning.
def run(*command, folder)
  exit 1 unless system(*command, chdir: folder, in: File::NULL, out: File::NULL)
end

# All that decides what the Makefile says.
def configuration(arguments)
  [RbConfig.ruby, RUBY_DESCRIPTION, *ENV.values_at("CC", "CPPFLAGS", "CFLAGS", "LDFLAGS"),
   *arguments, File.read(File.join(EXTENSION, "extconf.rb")),
   *Dir.glob(["*.c", "libfid/**/*.[ch]"], base: EXTENSION).sort].join("\n")
end

def compile(output, folder, arguments)
  wanted = configuration(arguments)
  known = File.join(folder, "configuration")
  unless File.exist?(known) && File.read(known) == wanted
    FileUtils.rm_rf folder
    FileUtils.mkdir_p folder
    run RbConfig.ruby, File.join(EXTENSION, "extconf.rb"), *arguments, folder
    File.write known, wanted
  end
  run "make", "-j2", folder
  made = File.join(folder, "fid_ext.so")
  # Ninja does not run again what depends on a file that is the same.
  FileUtils.cp made, output unless File.exist?(output) && FileUtils.identical?(made, output)
end

verb, *arguments = ARGV
case verb
when "check" then check(*arguments)
when "compile"
  output, folder = arguments.shift(2).map { |path| File.expand_path(path) }
  compile(output, folder, arguments)
else abort "build.rb: #{verb.inspect} is no verb"
end
