# SPDX-License-Identifier: MIT
# frozen_string_literal: true

module Fid
  # The account of a transfer. It is exact at any time, after a failure as well:
  #
  #   bytes_in == bytes_out + bytes_held + bytes_salvaged
  #   bytes_out == by_reference + kernel_copy + user_copy
  #
  # Frozen, and shareable between Ractors.
  class Receipt
    MEMBERS = %i[bytes bytes_in bytes_held bytes_salvaged by_reference kernel_copy user_copy
                 by_method calls waits elapsed pipe_bytes pipe_bytes_asked demotions error
                 error_side error_call route reason stable? source_changed? require_unmet?].freeze
    private_constant :MEMBERS

    # What the methods of these names say; a question's name has no question mark. #to_json is
    # another thing: the object that +fid copy --receipt=json+ writes.
    #
    # @return [Hash{Symbol => Object}]
    def to_h
      MEMBERS.to_h { |name| [name.to_s.delete_suffix("?").to_sym, public_send(name)] }
    end
  end
end
