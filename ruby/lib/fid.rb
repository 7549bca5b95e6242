# SPDX-License-Identifier: MIT
# frozen_string_literal: true

require "fid/version"
require "fid/fid_ext"
require "fid/copy"
require "fid/fan"
require "fid/pipe"
require "fid/memory"
require "fid/facts"
