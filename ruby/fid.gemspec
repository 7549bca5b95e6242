# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require_relative "lib/fid/version"

Gem::Specification.new do |gem|
  gem.name = "fid"
  gem.version = Fid::VERSION
  gem.summary = "Moves bytes between IOs without copying them, and says how"
  gem.description = <<~TEXT.tr("\n", " ").strip
    Fid copies between any two files, pipes and sockets on Linux: by reference with splice, tee,
    vmsplice, sendfile, copy_file_range and reflinks where the kernel really does that, correctly
    everywhere else. A receipt says how every byte moved and why, and nothing that was taken from
    a source is lost on any failure. It stands in for io_splice and for sleepy_penguin's splicing.
  TEXT
  gem.authors = ["The fid authors"]
  gem.license = "MIT"
  gem.metadata = { "rubygems_mfa_required" => "true" }

  gem.required_ruby_version = ">= 3.1"
  gem.extensions = ["ext/fid/extconf.rb"]
  gem.require_paths = ["lib"]

  # In the tree ext/fid/libfid and ext/fid/include are links to the folders of the library. What
  # is found below them is packed as files, so that the gem carries the sources that it needs.
  gem.files = Dir.glob(%w[
    LICENSE README.md .yardopts
    lib/**/*.rb sig/**/*.rbs examples/**/*.rb
    ext/fid/*.{c,h,map} ext/fid/extconf.rb
    ext/fid/include/*.h ext/fid/libfid/**/*.{c,h}
  ], base: __dir__).sort
end
