# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# The gem can be built, installed and used with nothing but a compiler, and says what is wrong
# where it cannot. FID_BUILD names a Meson build directory, whose library is installed for the
# tests that need an installed one.

require_relative "support"
require "fileutils"
require "rubygems/package"
require "zlib"

class InstallTest < FidTest
  GEM_FOLDER = File.expand_path("..", __dir__)
  TREE = File.expand_path("../..", __dir__)
  EXTCONF = File.join(GEM_FOLDER, "ext/fid/extconf.rb")

  # What a caller may have set, and what would lead out of the test's own folders.
  CLEAN = %w[RUBYLIB RUBYOPT BUNDLE_GEMFILE LD_LIBRARY_PATH LD_PRELOAD PKG_CONFIG_PATH
             PKG_CONFIG_SYSROOT_DIR CC CPPFLAGS CFLAGS LDFLAGS MAKEFLAGS DESTDIR]
          .to_h { |name| [name, nil] }.freeze

  # All tests share a folder, the gem in it, and what was installed there.
  class << self
    def folder
      @folder ||= Dir.mktmpdir("fid-gem").tap do |folder|
        Minitest.after_run { FileUtils.remove_entry folder }
      end
    end

    # What a command did is remembered by this name.
    def once(name)
      @done ||= {}
      @done[name] ||= yield
    end
  end

  # Runs a command that knows of no libfid but those told of: its output of both kinds, its status.
  def say(*command, env: {}, chdir: self.class.folder)
    own = { "HOME" => self.class.folder, "PKG_CONFIG_LIBDIR" => path("none") }
    said, status = Open3.capture2e({ **CLEAN, **own, **env }, *command, chdir: chdir)
    [said.scrub, status.success?]
  end

  def succeed(*command, **more)
    said, fine = say(*command, **more)
    assert fine, "#{command.join(" ")}:\n#{said}"
    said
  end

  def gem_command(*arguments, **more)
    succeed(RbConfig.ruby, "-S", "gem", *arguments, **more)
  end

  # The path of the gem, and what was said when it was built.
  def built
    self.class.once(:built) do
      output = File.join(self.class.folder, "fid.gem")
      [output, gem_command("build", "fid.gemspec", "-o", output, chdir: GEM_FOLDER)]
    end
  end

  def package
    Gem::Package.new(built.first)
  end

  # An empty place for gems, with this one in it.
  def install(name, env)
    self.class.once(name) do
      home = File.join(self.class.folder, name.to_s)
      gem_command("install", "--local", "--no-document", built.first,
                  env: { "GEM_HOME" => home, "GEM_PATH" => home, **env })
      home
    end
  end

  # Runs Ruby with the gems of one place only.
  def with_gems(home, program)
    succeed(RbConfig.ruby, "-W", "-e", program, env: { "GEM_HOME" => home, "GEM_PATH" => home })
  end

  # What the dynamic linker reads of the extension in a place.
  def shared_object(home)
    found = Dir.glob("#{home}/extensions/**/fid_ext.so")
    assert_equal 1, found.size, "one fid_ext.so in #{home}/extensions"
    found.first
  end

  # A prefix with libfid, as a package would bring it: its folder of pkg-config files.
  def installed_library
    build = ENV["FID_BUILD"] || skip("FID_BUILD does not name a build directory")
    self.class.once(:prefix) do
      staged = File.join(self.class.folder, "staged")
      succeed("meson", "install", "--no-rebuild", "-C", build, "--destdir", staged)
      file = Dir.glob("#{staged}/**/pkgconfig/fid.pc").first
      prefix = File.read(file)[/^prefix=(.*)/, 1]
      File.write(file, File.read(file).sub(/^prefix=.*/, "prefix=#{staged}#{prefix}"))
      File.dirname(file)
    end
  end

  # The same library, with a line of its pkg-config file changed.
  def library_with(field, value)
    copy = path("pkgconfig-#{rand(1 << 32)}")
    FileUtils.mkdir_p copy
    text = File.read(File.join(installed_library, "fid.pc"))
    assert text.sub!(/^#{field}.*/, "#{field} #{value}"), "no #{field} in\n#{text}"
    File.write(File.join(copy, "fid.pc"), text)
    copy
  end

  def library_of_version(version)
    library_with("Version:", version)
  end

  # What extconf.rb says in a folder of its own, and whether it was content.
  def extconf(*arguments, env: {}, before: nil)
    folder = path("extconf-#{rand(1 << 32)}")
    FileUtils.mkdir folder
    simulated = before ? ["-r", file("require 'rbconfig'\n#{before}", "before.rb")] : []
    said, fine = say(RbConfig.ruby, *simulated, EXTCONF, *arguments, env: env, chdir: folder)
    [said, fine, folder]
  end

  # It stops, with all of this and without a Makefile or Ruby's places.
  def assert_stops(words, *arguments, **more)
    said, fine, folder = extconf(*arguments, **more)
    refute fine, said
    words.each { |word| assert_includes said, word }
    refute_match(/extconf\.rb:\d+:in|extconf\.rb failed/, said)
    refute_path_exists File.join(folder, "Makefile")
  end

  # ---- The gem ----

  def test_building_the_gem_warns_of_nothing_but_that_it_has_no_homepage
    warnings = built.last.lines.grep(/WARNING|ERROR/)
    # The last depends on how the tree was checked out.
    assert_empty warnings.grep_v(/no homepage specified|for help|is not world-readable/)
  end

  def test_gem_holds_files_below_itself_only
    kinds = {}
    File.open(built.first, "rb") do |io|
      Gem::Package::TarReader.new(io).seek("data.tar.gz") do |data|
        Zlib::GzipReader.wrap(data) do |plain|
          Gem::Package::TarReader.new(plain).each do |entry|
            kinds[entry.full_name] = entry.header.typeflag
          end
        end
      end
    end
    refute_empty kinds
    assert_empty kinds.reject { |_, kind| kind == "0" }, "links and the like"
    assert_empty kinds.keys.grep(%r{\A/|(\A|/)\.\.(/|\z)}), "paths out of the gem"
    assert_equal kinds.keys.sort, package.spec.files.sort
  end

  def test_gem_carries_every_source_as_it_is_in_the_tree
    home = path("unpacked")
    package.extract_files home
    wanted = Dir.glob("lib/**/*.[ch]", base: TREE).to_h do |name|
      ["ext/fid/libfid/#{name.delete_prefix("lib/")}", name]
    end
    wanted["ext/fid/include/fid.h"] = "include/fid.h"
    wanted["LICENSE"] = "LICENSE"
    own = Dir.glob(%w[lib/**/*.rb sig/**/*.rbs examples/**/*.rb README.md .yardopts
                      ext/fid/*.{c,h,map,rb}], base: GEM_FOLDER)
    wanted.merge!(own.to_h { |name| [name, "ruby/#{name}"] })
    assert_operator wanted.size, :>, 40
    wanted.each do |inside, outside|
      assert_path_exists File.join(home, inside)
      assert_equal File.binread(File.join(TREE, outside)), File.binread(File.join(home, inside)),
                   inside
    end
    assert_empty package.spec.files - wanted.keys, "what nobody asked for"
  end

  def test_gem_has_the_version_of_the_library
    assert_equal Fid.library_version, Fid::VERSION
    assert_equal Fid.library_version, package.spec.version.to_s
  end

  # ---- With the carried sources ----

  def carried
    install(:carried, {})
  end

  USE = <<~RUBY
    require "fid"
    loaded = $LOADED_FEATURES.grep(/fid/)
    abort loaded.inspect unless loaded.all? { |path| path.start_with?(ENV["GEM_HOME"]) }
    reader, writer = IO.pipe
    receipt = Fid.copy(__FILE__ == "-e" ? RbConfig.ruby : __FILE__, writer, 5)
    abort receipt.to_s unless receipt.bytes == 5 && reader.read(5).bytesize == 5
    print Fid.library_version
  RUBY

  def test_gem_that_was_installed_with_its_own_sources_works
    assert_equal Fid::VERSION, with_gems(carried, USE)
  end

  def test_gem_that_was_installed_stands_in_for_io_splice
    assert_equal "3", with_gems(carried, <<~RUBY)
      require "io/splice"
      (source, filler), (drain, sink) = IO.pipe, IO.pipe
      filler << "fid"
      print IO.splice(source, nil, sink, nil, 3)
      abort unless drain.read(3) == "fid"
    RUBY
  end

  def test_gem_that_was_installed_stands_in_for_sleepy_penguin
    assert_equal "3", with_gems(carried, <<~RUBY)
      require "fid/sleepy_penguin"
      (source, filler), (drain, sink) = IO.pipe, IO.pipe
      filler << "fid"
      print SleepyPenguin.splice(source, sink, 3)
      abort unless drain.read(3) == "fid"
    RUBY
  end

  def test_extension_with_its_own_sources_shows_nothing_but_its_entry
    object = shared_object(carried)
    refute_includes succeed("readelf", "-d", object), "libfid"
    shown = succeed("nm", "-D", "--defined-only", object).lines.map { |line| line.split.last }
    assert_equal ["Init_fid_ext"], shown
  end

  # ---- With an installed library ----

  def test_gem_uses_an_installed_library_that_fits
    home = install(:installed, "PKG_CONFIG_PATH" => installed_library)
    object = shared_object(home)
    assert_includes succeed("readelf", "-d", object), "[libfid.so.0]"
    # Although no loader looks there, and nobody says so to this process.
    assert_equal Fid::VERSION, with_gems(home, USE)
    assert_match(/ fid_version(@|$)/, succeed("nm", "-D", "--undefined-only", object))
  end

  def test_library_with_a_later_correction_is_taken
    version = Fid::VERSION.sub(/\d+\z/) { |patch| (Integer(patch) + 7).to_s }
    said, fine = extconf(env: { "PKG_CONFIG_PATH" => library_of_version(version) })
    assert fine, said
    assert_includes said, "uses the installed libfid #{version}"
  end

  def test_library_that_is_older_or_may_differ_is_not_taken
    major, minor, = Fid::VERSION.split(".").map { |part| Integer(part) }
    ["0.0.9", "#{major}.#{minor + 1}.0", "#{major + 1}.0.0"].each do |version|
      library = { "PKG_CONFIG_PATH" => library_of_version(version) }
      said, fine, folder = extconf(env: library)
      assert fine, said
      assert_includes said, "compiles the libfid #{Fid::VERSION} that it carries"
      assert_includes said, "#{version} is installed, and #{Fid::VERSION} is needed"
      assert_includes File.read(File.join(folder, "Makefile")), "linux.o"
    end
  end

  def test_library_that_does_not_fit_is_no_answer_when_it_was_asked_for
    assert_stops ["0.0.9 is installed, and #{Fid::VERSION} is needed"],
                 "--enable-system-libfid",
                 env: { "PKG_CONFIG_PATH" => library_of_version("0.0.9") }
    assert_stops ["no libfid that fits: none is installed"], "--enable-system-libfid"
  end

  def test_library_that_no_program_can_use_is_not_taken
    { "Libs:" => "-L#{path("nowhere")} -lfid", "Cflags:" => "-I#{path("nowhere")}" }.each do |part|
      said, fine, folder = extconf(env: { "PKG_CONFIG_PATH" => library_with(*part) })
      assert fine, said
      assert_includes said, "no program with it links and runs"
      makefile = File.read(File.join(folder, "Makefile"))
      refute_includes makefile, path("nowhere")
      refute_includes makefile, "-lfid"
      assert_includes makefile, "linux.o"
    end
  end

  def test_installed_library_is_not_looked_at_when_that_is_asked_for
    said, fine = extconf("--disable-system-libfid",
                         env: { "PKG_CONFIG_PATH" => installed_library })
    assert fine, said
    assert_includes said, "compiles the libfid #{Fid::VERSION} that it carries"
  end

  # ---- Where something is missing ----

  def test_missing_compiler_is_named_and_so_is_its_package
    assert_stops ["the C compiler /nonexistent/cc was not found", "apt-get install gcc"],
                 env: { "CC" => "/nonexistent/cc" }
  end

  def test_compiler_without_the_headers_of_libc_is_told_of
    assert_stops ["cc cannot build a program of two lines", "libc6-dev", "mkmf.log"],
                 env: { "CC" => "cc -nostdinc" }
  end

  def test_missing_make_is_named
    assert_stops ["/nonexistent/make was not found", "apt-get install make"],
                 env: { "MAKE" => "/nonexistent/make" }
  end

  def test_missing_headers_of_ruby_are_named_and_so_is_their_package
    assert_stops ["the headers of Ruby #{RUBY_VERSION} are not installed",
                  "apt-get install ruby-dev"],
                 before: "RbConfig::CONFIG['rubyhdrdir'] = '/nonexistent'"
  end

  def test_other_systems_are_told_that_this_is_for_linux
    assert_stops ["works on Linux only, and this is darwin23"],
                 before: "RbConfig::CONFIG['target_os'] = 'darwin23'"
  end

  def test_flags_of_the_environment_reach_the_compiler_and_the_linker
    flags = { "CPPFLAGS" => "-DFID_P=1", "CFLAGS" => "-DFID_C=1", "LDFLAGS" => "-L/FID_L" }
    said, fine, folder = extconf("--disable-system-libfid", env: flags)
    assert fine, said
    commands = succeed("make", "-n", "V=1", chdir: folder)
    compiled, linked = commands.lines.partition { |line| line.include?(" -c ") }
    assert(compiled.all? { |line| line.include?("-DFID_P=1 ") && line.include?("-DFID_C=1 ") })
    assert_includes linked.join, "-L/FID_L "
  end
end
