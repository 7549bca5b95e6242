# SPDX-License-Identifier: MIT
# fid copy --rate-limit and fid cat --rate-limit: what the clock and the kernel make of the bucket
# that bucket.c tests alone.
. "$(dirname "$0")/tap.sh"

# Whatever the machine is busy with, the seconds are those that the transfer itself counted.
a_rate_is_kept() {
	for rate in 200K 2M 20MB/s; do
		timeout 3 "$fid" copy --rate-limit "$rate" --receipt=json \
			--receipt-file "r${rate%/s}" /dev/zero - 2> err | cat > /dev/null &
	done
	wait
	receipt r200K 'abs(r["bytes_out"] / r["seconds"] / 204800 - 1) < 0.1 and r["seconds"] > 1'
	receipt r2M 'abs(r["bytes_out"] / r["seconds"] / 2097152 - 1) < 0.1 and r["seconds"] > 1'
	receipt r20MB 'abs(r["bytes_out"] / r["seconds"] / 20e6 - 1) < 0.1 and r["seconds"] > 1'
}

a_rate_is_kept_between_files_pipes_and_connections() {
	bytes 6000000 > a
	rate='abs(r["bytes_out"] / r["seconds"] / 2e6 - 1) < 0.1'
	expect 0 "$fid" copy --rate-limit 2MB --receipt=json --receipt-file r1 a b
	same a b
	"$fid" cat a | "$fid" copy --rate-limit 2MB --receipt=json --receipt-file r2 - - |
		cmp - a
	"$fid" copy unix-listen:s c &
	until_true [ -S s ]
	expect 0 "$fid" copy --rate-limit 2MB --receipt=json --receipt-file r3 a unix:s
	wait $!
	same a c
	for file in r1 r2 r3; do
		receipt $file "$rate"
	done
}

all_sources_of_cat_share_one_rate() {
	bytes 20000 > a
	for i in 1 2 3 4 5 6 7 8 9 10; do
		cat a a a a a a > "a$i"
	done
	begun=$(date +%s%N)
	expect 0 "$fid" cat --rate-limit 500K a1 a2 a3 a4 a5 a6 a7 a8 a9 a10
	taken=$((($(date +%s%N) - begun) / 1000000))
	cat a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 | cmp - out
	# 1,200,000 bytes are 2.3 seconds; a slice of 60 KiB for each source would be 1.1.
	[ "$taken" -ge 2000 ] || {
		echo "$taken ms"
		return 1
	}
}

what_a_small_source_leaves_is_for_the_next_one() {
	bytes 100 > a
	set --
	while [ $# -lt 200 ]; do
		set -- "$@" a
	done
	# Slices are 12 KiB here: one for each source would take 24 seconds.
	expect 0 "$fid" cat --rate-limit 100K "$@"
	[ "$(wc -c < out)" -eq 20000 ]
}

bytes_still_move_by_reference() {
	bytes 4000000 > a
	"$fid" copy --rate-limit 2M --receipt=json --receipt-file r1 a - | cmp - a
	receipt r1 'r["by_reference"] == 4000000'
	"$fid" copy unix-listen:s b &
	until_true [ -S s ]
	"$fid" cat a | "$fid" copy --rate-limit 2M --receipt=json --receipt-file r2 - unix:s
	wait $!
	same a b
	receipt r2 'r["by_reference"] > 3500000'
}

a_slow_transfer_sleeps_nearly_all_the_time() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	python3 - "$fid" << 'END'
import resource, subprocess, sys
done = subprocess.run([sys.argv[1], 'copy', '--rate-limit', '64K', '--limit', '128K', '/dev/zero', '-'],
                      stdout=subprocess.PIPE, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
assert len(done.stdout) == 128 << 10
assert used.ru_utime + used.ru_stime < 0.5, used
assert used.ru_nvcsw < 500, used
END
}

o_direct_gets_whole_pages_at_any_rate() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	bytes 12288 > a
	: > b
	cat > direct.py << 'END'
import os, subprocess, sys
try:
    ends = [os.open('a', os.O_RDONLY | (sys.argv[2] == 'a' and os.O_DIRECT)),
            os.open('b', os.O_WRONLY | os.O_TRUNC | (sys.argv[2] == 'b' and os.O_DIRECT))]
except OSError as error:
    sys.exit(77)
copied = subprocess.run([sys.argv[1], 'copy', '--rate-limit', '10K', f'fd:{ends[0]}',
                         f'fd:{ends[1]}'], pass_fds=ends, timeout=20)
sys.exit(copied.returncode)
END
	for direct in a b; do
		status=0
		python3 direct.py "$fid" $direct || status=$?
		[ $status -ne 77 ] || skip "this file system has no O_DIRECT"
		[ $status -eq 0 ]
		same a b
	done
}

a_signal_ends_the_sleep_and_the_account_is_exact() {
	bytes 1000 > a
	"$fid" copy --rate-limit 1 --receipt=json --receipt-file r a b 2> err &
	until_true [ -s b ]
	kill $!
	status=0
	wait $! || status=$?
	[ "$status" -eq 143 ]
	says 'interrupted: [0-9]* bytes\{0,1\} delivered$'
	receipt r "r['bytes_in'] == r['bytes_out'] == $(wc -c < b)"
	head -c "$(wc -c < b)" a | cmp - b
}

a_sink_that_dies_is_noticed_during_the_sleep() {
	# The flow would take the next slice and then fail in a write.
	mkfifo fifo
	head -c 1 fifo > one &
	(
		status=0
		yes | "$fid" copy --rate-limit 1 --receipt=json --receipt-file r - fifo 2> err ||
			status=$?
		echo "$status" > status
	)
	[ "$(cat status)" -eq 1 ]
	says 'fifo (sink): Broken pipe while in poll'
	receipt r 'r["error_call"] == "poll" and r["bytes_in"] == r["bytes_out"]'
}

a_connection_that_dies_is_noticed_during_the_sleep() {
	"$fid" copy --limit 1 unix-listen:s one &
	until_true [ -S s ]
	status=0
	yes | "$fid" copy --rate-limit 1 --receipt=json --receipt-file r - unix:s 2> err ||
		status=$?
	[ "$status" -eq 1 ]
	says 'unix:s (sink): Broken pipe while in poll'
	receipt r 'r["error_call"] == "poll" and r["bytes_held"] == 0'
}

progress_tells_the_rate_and_the_time_left() {
	bytes 3000000 > a
	expect 0 "$fid" copy --rate-limit 1MB --progress a b
	same a b
	# One MB a second is 977 KiB, and the first second has a slice more.
	says '[34][0-9]%.* \(9[0-9][0-9]\|10[0-9][0-9]\) KiB/s\|1\.0 MiB/s'
	says '0:0[12] left$'
}

what_is_no_rate_is_status_2_and_touches_nothing() {
	echo keep > b
	for rate in 0 0/s '' /s x 1.5M -1 10M/h 9223372036854775808 16777216T/s; do
		expect 2 "$fid" copy --rate-limit "$rate" /dev/zero b
		says 'rate-limit: '
		says 'hint: '
	done
	[ "$(cat b)" = keep ]
	expect 2 "$fid" tee --rate-limit 1M b < /dev/null
	says "'fid tee' has no --rate-limit"
}

a_rate_far_above_what_can_be_had_does_not_slow_down() {
	bytes 3000000 > a
	expect 0 "$fid" copy --rate-limit 9223372036854775807 a b
	same a b
	expect 0 "$fid" cat --rate-limit 10T/s a
	same a out
}

run a_rate_is_kept
run a_rate_is_kept_between_files_pipes_and_connections
run all_sources_of_cat_share_one_rate
run what_a_small_source_leaves_is_for_the_next_one
run bytes_still_move_by_reference
run a_slow_transfer_sleeps_nearly_all_the_time
run o_direct_gets_whole_pages_at_any_rate
run a_signal_ends_the_sleep_and_the_account_is_exact
run a_sink_that_dies_is_noticed_during_the_sleep
run a_connection_that_dies_is_noticed_during_the_sleep
run progress_tells_the_rate_and_the_time_left
run what_is_no_rate_is_status_2_and_touches_nothing
run a_rate_far_above_what_can_be_had_does_not_slow_down

finish
