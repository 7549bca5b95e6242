# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Prepares the extension. Without arguments it takes an installed libfid that fits, and else
# compiles the sources that the gem carries.
#
#   --enable-system-libfid     the installed libfid, or nothing
#   --disable-system-libfid    the carried sources
#   --enable-assertions        keeps the assertions of the carried sources
#   --enable-werror            a warning of the compiler is an error
#   --with-ext-cflags=FLAGS    flags for the extension and not for the carried sources
#
# CC, CPPFLAGS, CFLAGS and LDFLAGS of the environment are honoured.

require "rbconfig"
require_relative "../../lib/fid/version"

def stop(*lines)
  # Or mkmf would add a page about everything else.
  $makefile_created = true
  abort(lines.map { |line| "fid: #{line}\n" }.join)
end

def packages(debian, fedora, alpine)
  "Debian, Ubuntu: apt-get install #{debian}; Fedora: dnf install #{fedora}; " \
    "Alpine: apk add #{alpine}"
end

system = RbConfig::CONFIG["target_os"]
unless system.start_with?("linux")
  stop("this gem works on Linux only, and this is #{system}:",
       "splice, tee and vmsplice are calls of Linux")
end

# mkmf would say as much, and name no package.
header = File.join(RbConfig::CONFIG["rubyhdrdir"].to_s, "ruby.h")
unless File.exist?(header)
  stop("the headers of Ruby #{RUBY_VERSION} are not installed (no #{header})",
       packages("ruby-dev", "ruby-devel", "ruby-dev"))
end

# Before mkmf is loaded, which takes the compiler from here, for the link as well.
cc = ENV["CC"].to_s.strip
unless cc.empty?
  [RbConfig::MAKEFILE_CONFIG, RbConfig::CONFIG].each do |config|
    config["LDSHARED"] = config["LDSHARED"].sub(config["CC"]) { cc }.sub("$(CC)") { cc }
    config["CC"] = cc
  end
end

require "mkmf"
require "shellwords"

$CPPFLAGS = "#{$CPPFLAGS} #{ENV["CPPFLAGS"]}"
$CFLAGS = "#{$CFLAGS} #{ENV["CFLAGS"]}"
$LDFLAGS = "#{$LDFLAGS} #{ENV["LDFLAGS"]}"

# ---- What is needed ----

# mkmf raises where not even its own empty program can be linked.
def links?(source, flags = "")
  try_link(source, flags)
rescue RuntimeError
  false
end

compiler = Shellwords.split(RbConfig::CONFIG["CC"]).first
unless find_executable0(compiler)
  stop("the C compiler #{compiler} was not found, and the extension is compiled here",
       packages("gcc libc6-dev make", "gcc glibc-devel make", "build-base"))
end
unless find_executable0(Shellwords.split($make).first)
  stop("#{$make} was not found, and the extension is built by it",
       packages("make", "make", "make"))
end
unless links?("#include <stdio.h>\nint main(void) { return puts(\"fid\") < 0; }\n")
  stop("#{compiler} cannot build a program of two lines; #{Dir.pwd}/mkmf.log tells why",
       "where it does not find <stdio.h>: #{packages("libc6-dev", "glibc-devel", "musl-dev")}")
end

# ---- Flags ----

# Ruby's own headers are not ours to mend: a compiler does not warn about those of the system.
$CPPFLAGS = "-isystem $(arch_hdrdir) -isystem $(hdrdir)/ruby/backward -isystem $(hdrdir) " \
            "#{$CPPFLAGS}"
$CPPFLAGS << " -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64"
# Where time_t has 32 bits as long as nobody asks for more.
if !try_static_assert("sizeof(time_t) == 8", "time.h") &&
   try_static_assert("sizeof(time_t) == 8", "time.h", "-D_TIME_BITS=64")
  $CPPFLAGS << " -D_TIME_BITS=64"
end
# C17 and the extensions of GNU, whatever the compiler thinks of first.
["-std=gnu17", "-fvisibility=hidden"].each { |flag| append_cflags(flag) }
$CPPFLAGS << " -DNDEBUG" unless enable_config("assertions", false)

# ---- libfid: installed or carried ----

USES_LIBFID = <<~C
  #include <fid.h>
  int main(void) { return fid_version()[0] == 0; }
C

# The version of an installed libfid that this gem can use, or the reason why there is none.
# While the major version is 0 each minor version may change the interface.
def installed_libfid
  version = pkg_config("fid", "modversion")
  return nil, "none is installed" unless version

  wanted = Gem::Version.new(Fid::VERSION)
  found = Gem::Version.new(version[/\A\d+(\.\d+)*/] || "0")
  depth = wanted.segments.first.zero? ? 2 : 1
  return version, nil if found >= wanted &&
                         found.segments.first(depth) == wanted.segments.first(depth)

  [nil, "#{version} is installed, and #{Fid::VERSION} is needed"]
end

# Links with the installed libfid, and sees to it that the loader finds it at run time.
def link_installed_libfid
  before = [$CFLAGS, $INCFLAGS, $LDFLAGS, $libs].map(&:dup)
  place = pkg_config("fid", "variable=libdir").to_s
  if pkg_config("fid") && links?(USES_LIBFID)
    return true if try_run(USES_LIBFID)

    $LDFLAGS << " -Wl,-rpath,#{place.shellescape}"
    return true if !place.empty? && try_run(USES_LIBFID)
  end
  $CFLAGS, $INCFLAGS, $LDFLAGS, $libs = before
  false
end

# mkmf finds out by itself when two objects would have one name.
def compile_carried_libfid
  root = File.join($srcdir, "libfid")
  sources = Dir.glob("#{root}/**/*.c").sort
  unless File.exist?(File.join($srcdir, "include", "fid.h")) && !sources.empty?
    stop("neither an installed libfid nor its sources in #{root}")
  end

  $srcs = Dir.glob("#{$srcdir}/*.c").sort + sources
  sources.map { |source| File.dirname(source) }.uniq.each do |folder|
    $VPATH << folder.sub($srcdir, "$(srcdir)")
  end
  # A change of any of them compiles all anew.
  $headers = Dir.glob("#{root}/**/*.h").sort << File.join($srcdir, "include", "fid.h")
  $INCFLAGS << " -I$(srcdir)/include -iquote $(srcdir)/libfid"
  have_library("pthread", "pthread_mutex_lock", "pthread.h")
end

wish = enable_config("system-libfid") { |_, given| given }
version, reason = wish == false ? [nil, "not asked for"] : installed_libfid
if version && !link_installed_libfid
  version, reason = nil, "#{version} is installed, and no program with it links and runs"
end
if version
  message("fid: uses the installed libfid %s\n", version)
elsif wish
  stop("--enable-system-libfid: no libfid that fits: #{reason}")
else
  compile_carried_libfid
  message("fid: compiles the libfid %s that it carries (installed: %s)\n", Fid::VERSION, reason)
end

# ---- What this Ruby has ----

# A function that Ruby exports, and that one of its headers declares.
def have_declared(function, header)
  found = checking_for("#{function}() in #{header}") do
    try_link("#include <ruby.h>\n#include <#{header}>\n" \
             "void *use = (void *)#{function};\nint main(void) { return 0; }\n")
  end
  $defs << "-DHAVE_#{function.upcase}" if found
  found
end

stop("Ruby 3.1 or newer is needed") unless have_declared("rb_io_descriptor", "ruby/io.h")
have_declared("rb_io_buffer_new", "ruby/io/buffer.h")
# Later Rubies hide it.
have_struct_member("rb_io_t", "rbuf", "ruby/io.h")
# Both are exported for the extensions that Ruby brings, and no header declares them. The first
# came with Ruby 3.4; where it is the second may take other arguments than it did before.
unless have_func("rb_io_blocking_region") || have_func("rb_thread_io_blocking_region")
  stop("this Ruby exports no function that tells it of a descriptor in use")
end

# ---- The Makefile ----

# Who installs a gem is not to be told what a newer compiler thinks of it; the tests of the tree
# are. Only now, since the checks above are programs that nobody keeps free of warnings.
$warnflags = +""
# Without -Wpedantic, -Wvla and -Wcast-qual, which find what rb_scan_args() is made of.
if enable_config("werror", false)
  $CFLAGS << " -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes" \
             " -Wwrite-strings -Wundef -Wno-unused-parameter" \
             " -Wno-missing-field-initializers -Werror"
end

$DLDFLAGS << " -Wl,--version-script=$(srcdir)/exports.map"
create_makefile("fid/fid_ext")
File.write("Makefile", <<~MAKE, mode: "a")

  $(TARGET_SO): $(srcdir)/exports.map
  $(filter ext%.o,$(OBJS)): CFLAGS += #{with_config("ext-cflags", "")}
MAKE
