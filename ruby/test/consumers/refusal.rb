# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "open3"

# The command in front of another that has the kernel refuse calls to it, as a container may:
# "fid run --deny", which FID_COMMAND names, without its help (--no-preload).
module Refusal
  CALLS = %w[splice tee vmsplice sendfile copy_file_range].freeze

  # Why it cannot be had, for a skip.
  class Missing < StandardError
  end

  # @param error [String] the name of an errno value
  # @param but [String] a call that is allowed
  # @return [String] what --deny takes
  def self.of_all(error, but: nil)
    (CALLS - [but]).map { |call| "#{call}=#{error}" }.join(",")
  end

  # The command is no Ruby, so that what is preloaded for Ruby (a sanitizer) is not for it: it
  # is started without LD_PRELOAD and sets that again for what it runs.
  #
  # @return [Array<String>]
  # @raise [Missing]
  def self.command(deny)
    fid = ENV["FID_COMMAND"].to_s
    raise Missing, "no command fid: FID_COMMAND is not set" if fid.empty?

    run = ["env", "-u", "LD_PRELOAD", fid, "run", "--no-preload", "--deny", deny, "--"]
    _, err, status = Open3.capture3(*run, "true")
    raise Missing, "no seccomp here: #{err.lines.first.to_s.chomp}" unless status.success?

    run + ["env", "LD_PRELOAD=#{ENV["LD_PRELOAD"]}"]
  end
end
