# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Passes its input on and keeps a copy in a log. The input and the output must be pipes: tee(2)
# gives the output references to the same pages, and splice(2) moves them into the log.
#
#   producer | ruby -Ilib examples/tee_log.rb LOG | consumer
#
# Fid.fan($stdin, [$stdout, log]) does that for any descriptors; this shows the calls themselves.

require "fid"

abort "usage: #{$PROGRAM_NAME} LOG" unless ARGV.size == 1
# To the end of a file that grows: O_APPEND is what splice refuses.
log = File.open(ARGV[0], File::WRONLY | File::CREAT | File::BINARY)
log.seek(0, IO::SEEK_END)

begin
  # tee takes nothing away, so what it has given is now moved to the log, exactly that much.
  while (given = Fid.tee($stdin, $stdout, 1 << 20, exception: false))
    given -= Fid.splice($stdin, log, given, :move) while given.positive?
  end
rescue Errno::EPIPE
  # The consumer is gone. What is left of the input is for the log alone.
  Fid.copy($stdin, log)
end
log.close
