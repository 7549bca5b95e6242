# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Bytes that a program makes, on their way into a pipe.
#
#   ruby -Ilib examples/memory.rb COUNT | consumer
#
# Strings are copied, always: Ruby may move or reuse their memory, and a reader could refer to it
# for as long as it likes. What can go by reference is memory that fid owns: fresh memory, which
# the program fills and nobody writes again, and a constant, which nobody can write.

require "fid"

abort "usage: #{$PROGRAM_NAME} COUNT" unless ARGV.size == 1
count = Integer(ARGV[0])

# Fresh: the block fills the buffer and says how much of it is to be sent.
Fid::Memory.open($stdout, mode: :fresh) do |memory|
  count.times do |number|
    line = format("%015d\n", number)
    memory.fill(64 << 10) do |buffer|
      0.step(by: line.bytesize, to: (64 << 10) - 1) { |at| buffer.set_string(line, at) }
      64 << 10
    end
  end
  warn "fresh: #{memory.receipt}"
end

# A constant: made once, sent any number of times, by any thread.
page = Fid::Memory.constant("the same line over and over\n" * 4096)
receipt = nil
count.times { receipt = page.copy_to($stdout) }
warn "constant, the last time: #{receipt}"
page.close
