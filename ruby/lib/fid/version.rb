# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Moves bytes between descriptors: by reference where this kernel really does that, with a
# correct copy everywhere else, and with a receipt that says how every byte moved and why.
# {Fid.copy} is where to begin.
module Fid
  # The version of the gem, which is that of the library whose sources it carries.
  VERSION = "0.1.0"
end
