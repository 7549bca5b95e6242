# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Copies a file, and says how every byte moved.
#
#   ruby -Ilib examples/copy_with_receipt.rb SOURCE SINK
#
# SOURCE and SINK are paths; "-" is the standard input or output.

require "fid"

abort "usage: #{$PROGRAM_NAME} SOURCE SINK" unless ARGV.size == 2
source, sink = ARGV
source = $stdin if source == "-"
sink = $stdout if sink == "-"

begin
  receipt = Fid.copy(source, sink)
  warn receipt
rescue Fid::Failure => e
  # The receipt is exact after a failure as well: it says what had moved until then.
  warn "#{e.message} (the fault is with the #{e.side})"
  warn e.receipt
  exit 1
end

# What a program would look at, rather than at the sentence.
receipt.by_method.each do |method, bytes|
  warn "#{method}: #{bytes} bytes in #{receipt.calls[method]} calls"
end
receipt.demotions.each do |step|
  warn "not #{step.from} from byte #{step.at_bytes} on: #{step.error || "an end too early"}"
end
