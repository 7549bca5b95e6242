# SPDX-License-Identifier: MIT
# frozen_string_literal: true

module Fid
  # {Fid.copy} that can be stopped, continued, watched and salvaged.
  class Flow
    # Makes a flow and closes it when the block is over.
    #
    # @yieldparam flow [Flow]
    # @return what the block returns
    # @see #initialize for the arguments
    def self.open(*arguments, **options)
      flow = new(*arguments, **options)
      return flow unless block_given?

      begin
        yield flow
      ensure
        flow.close
      end
    end
  end
end
