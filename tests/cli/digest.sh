# SPDX-License-Identifier: MIT
# fid copy --digest and fid cat --digest, against the programs that make the same digests.
# sh digest.sh FID TERMINAL CRYPTO: CRYPTO is a slow libcrypto.so.3 that can fail.
. "$(dirname "$0")/tap.sh"
crypto=$(dirname "$(realpath "$3")")
# Meson lets every program of a test find a library that the test is given.
unset LD_LIBRARY_PATH

# needs PROGRAM...
needs() {
	for program in "$@"; do
		command -v "$program" > /dev/null || skip "$program is not installed"
	done
}

# loads ALGORITHM: a program of 32 bits needs a library of 32 bits.
loads() {
	"$fid" copy --digest "$1" /dev/null /dev/null > /dev/null 2> err && return
	cat err
	if grep -q 'library cannot be loaded' err; then
		skip "the library of $1 cannot be loaded"
	fi
	return 1
}

# digested FILE FILE: the digest in the receipt of the first is that of the bytes that it counts,
# taken from the front of the second.
digested() {
	needs python3
	python3 - "$1" "$2" << 'END'
import hashlib, json, sys
lines = open(sys.argv[1]).read().splitlines()
r = json.loads([line for line in lines if line.startswith("{")][-1])
d = r["digest"]
assert list(d) == ["algorithm", "value", "bytes", "cpu_seconds", "route_without"], d
assert d["algorithm"] == "sha256" and d["bytes"] == r["bytes_out"], r
assert r["bytes_in"] == r["bytes_out"] + r["bytes_held"] + r["bytes_salvaged"], r
assert r["bytes_out"] == r["by_reference"] + r["kernel_copy"] + r["user_copy"], r
data = open(sys.argv[2], "rb").read(d["bytes"])
assert len(data) == d["bytes"], r
assert hashlib.sha256(data).hexdigest() == d["value"], r
assert 0 <= d["cpu_seconds"] < 60, r
END
}

sha256sum_checks_the_line_on_standard_output() {
	loads sha256
	bytes 3000001 > a
	expect 0 "$fid" copy --digest sha256 a b
	same a b
	silent
	cp out sums
	[ "$(cat sums)" = "$(sha256sum b)" ]
	expect 0 sha256sum -c sums
	: > empty
	expect 0 "$fid" copy --digest sha256 empty c
	[ "$(cat out)" = "$(sha256sum c)" ]
}

xxhsum_checks_the_line_of_xxh3() {
	needs xxhsum
	loads xxh3
	for size in 0 1 240 241 100000 3000001; do
		bytes $size > a
		expect 0 "$fid" copy --digest xxh3 a b
		[ "$(cat out)" = "$(xxhsum -H3 b)" ]
	done
	cp out sums
	expect 0 xxhsum -c sums
}

names_are_escaped_as_sha256sum_does_it() {
	loads sha256
	echo text > a
	mkdir dir
	expect 0 "$fid" copy --digest sha256 a dir
	[ "$(cat out)" = "$(sha256sum dir/a)" ]
	name=$(printf 'a\\b\nc')
	expect 0 "$fid" copy --digest sha256 a "$name"
	cp out sums
	[ "$(cat sums)" = "$(sha256sum "$name")" ]
	expect 0 sha256sum -c sums
}

the_line_is_on_standard_error_where_standard_output_is_the_sink() {
	loads sha256
	bytes 300000 > a
	expect 0 "$fid" copy --digest sha256 a -
	same a out
	[ "$(cat err)" = "$(sha256sum < a)" ]
	expect 0 "$fid" cat --digest sha256 a
	same a out
	[ "$(cat err)" = "$(sha256sum < a)" ]
	# The same file by another name.
	"$fid" copy --digest sha256 a b > b 2> err
	same a b
	[ "$(cat err)" = "$(sha256sum b)" ]
}

a_receipt_has_the_digest_and_no_line_joins_it() {
	loads sha256
	bytes 300000 > a
	expect 0 "$fid" copy --digest sha256 --receipt=json --receipt-file - a b
	[ "$(wc -l < out)" -eq 1 ]
	[ "$(cat err)" = "$(sha256sum b)" ]
	digested out a
	expect 0 "$fid" cat --digest sha256 --receipt=json a
	[ "$(wc -l < err)" -eq 1 ]
	digested err a
	expect 0 "$fid" copy --digest sha256 --receipt a b
	[ "$(cat out)" = "$(sha256sum b)" ]
	sum=$(sha256sum < a)
	says "sha256 ${sum%% *} of 300000 bytes by .* s of processor time; without it .* first\.$"
}

every_pair_of_ends_has_the_right_digest() {
	loads sha256
	bytes 3000000 > a
	cat a | "$fid" copy --digest sha256 --receipt=json --receipt-file r - b
	same a b
	digested r a
	cat a | "$fid" cat --digest sha256 --receipt=json --receipt-file r | cmp - a
	digested r a
	"$fid" copy --digest sha256 --receipt=json --receipt-file r2 unix-listen:s c > line &
	until_true [ -S s ]
	expect 0 "$fid" copy --digest sha256 --receipt=json --receipt-file r1 a unix:s
	wait $!
	same a c
	digested r1 a
	digested r2 a
	grep -q '^[0-9a-f]*  unix:s$' out
	[ "$(cat line)" = "$(sha256sum c)" ]
	expect 0 "$fid" copy --append --digest sha256 a c
	cat a a | cmp - c
	[ "$(cat out)" = "$(sha256sum < a | sed 's/-/c/')" ]
	expect 0 "$fid" copy --digest sha256 --route read-write a d
	[ "$(cat out)" = "$(sha256sum d)" ]
	expect 0 "$fid" copy --digest sha256 a /dev/null
	grep -q '  /dev/null$' out
}

limit_offset_and_pace_are_of_the_digest_as_well() {
	loads sha256
	bytes 1000000 > a
	expect 0 "$fid" copy --digest sha256 --offset 300000 --limit 400001 a b
	tail -c +300001 a | head -c 400001 | cmp - b
	[ "$(cat out)" = "$(sha256sum b)" ]
	# Without a digest a few bytes are copied, and the end of a file that stays is no clone.
	expect 0 "$fid" copy --digest sha256 --limit 100 --receipt=json a b
	receipt err 'r["digest"]["route_without"] == "read-write"'
	"$fid" copy --digest sha256 --receipt=json a - 1<> b 2> err
	receipt err 'r["digest"]["route_without"] != "reflink"'
	begun=$(date +%s%N)
	expect 0 "$fid" copy --digest sha256 --rate-limit 500KB a b
	taken=$((($(date +%s%N) - begun) / 1000000))
	same a b
	[ "$(cat out)" = "$(sha256sum b)" ]
	[ "$taken" -ge 1700 ]
}

cat_has_one_digest_over_all_sources() {
	loads sha256
	bytes 100000 > a
	bytes 5 > b
	: > empty
	cat b | expect 0 "$fid" cat --digest sha256 --receipt=json --receipt-file r a - empty a
	cat a b a | cmp - out
	[ "$(cat err)" = "$(sha256sum < out)" ]
	digested r out
	# A source that fails is no part of it, and what came to no end has no line of its own.
	expect 1 "$fid" cat --digest sha256 a missing b
	cat a b | cmp - out
	sum=$(sha256sum < out)
	says "^fid cat: sha256 of the 100005 bytes delivered: ${sum%% *}\$"
	[ "$(grep -c "${sum%% *}" err)" -eq 1 ]
	expect 0 "$fid" cat --digest sha256 --limit 150000 a a missing
	cat a a | head -c 150000 | cmp - out
	[ "$(cat err)" = "$(sha256sum < out)" ]
}

after_a_full_disk_the_digest_is_that_of_the_delivered_bytes() {
	loads sha256
	bytes 3000000 > a
	# Half a KiB off, so that no chunk ends there.
	for source in a -; do
		status=0
		(
			trap '' XFSZ
			ulimit -f 2001
			"$fid" copy --digest sha256 --receipt=json --receipt-file r $source b \
				< a > out 2> err
		) || status=$?
		[ "$status" -eq 1 ]
		says 'File too large'
		[ ! -s out ]
		digested r b
		receipt r 'r["bytes_held"] > 0 and r["digest"]["bytes"] == 1024512'
	done
	status=0
	(
		trap '' XFSZ
		ulimit -f 2001
		"$fid" copy --digest sha256 a b > out 2> err
	) || status=$?
	sum=$(sha256sum < b)
	says "^fid copy: sha256 of the 1024512 bytes delivered: ${sum%% *}\$"
	[ ! -s out ]
}

after_a_reader_that_went_away_as_well() {
	loads sha256
	bytes 8000000 > a
	for from in file pipe; do
		{
			status=0
			if [ "$from" = file ]; then
				"$fid" cat --digest sha256 --receipt=json --receipt-file r a \
					2> err || status=$?
			else
				cat a 2> no-reader | "$fid" cat --digest sha256 --receipt=json \
					--receipt-file r 2> err || status=$?
			fi
			echo "$status" > status
		} | head -c 3000000 | cmp -n 3000000 - a
		[ "$(cat status)" -eq 141 ]
		silent
		digested r a
		receipt r 'r["error"] == "EPIPE" and r["bytes_out"] >= 3000000'
	done
}

after_a_signal_as_well() {
	loads sha256
	bytes 4000000 > a
	mkfifo fifo
	"$fid" copy --digest sha256 --receipt=json --receipt-file r a fifo 2> err &
	copy=$!
	# It reads a part and keeps the rest waiting.
	{ head -c 100000 > part && until_true [ -s r ]; } < fifo &
	reader=$!
	until_true [ -s part ]
	kill "$copy"
	status=0
	wait "$copy" || status=$?
	[ "$status" -eq 143 ]
	wait "$reader"
	says '^fid copy: interrupted: [0-9]* bytes delivered'
	digested r a
	receipt r '100000 <= r["bytes_out"] < 4000000'
}

where_tee_or_splice_are_refused_the_digest_is_the_same() {
	loads sha256
	bytes 3000000 > a
	for denied in tee=EPERM splice=EPERM splice=EPERM,tee=EPERM; do
		"$fid" run --no-preload --deny $denied -- "$fid" copy --digest sha256 \
			--receipt=json --receipt-file r a b > out || {
			[ $? -ne 125 ] || skip "no seccomp filter can be installed"
			return 1
		}
		same a b
		[ "$(cat out)" = "$(sha256sum b)" ]
		digested r a
		receipt r 'r["user_copy"] == 3000000 and r["demotions"]'
		"$fid" run --no-preload --deny $denied -- "$fid" cat --digest sha256 \
			--receipt=json --receipt-file r a 2> err |
			head -c 1000000 | cmp -n 1000000 - a
		digested r a
	done
}

# summed FILE FILE: as digested, with the digest that CRYPTO makes.
summed() {
	needs python3
	python3 - "$1" "$2" << 'END'
import json, sys, zlib
r = json.loads(open(sys.argv[1]).read())
data = open(sys.argv[2], "rb").read(r["bytes_out"])
assert r["digest"]["bytes"] == r["bytes_out"] == len(data), r
assert int(r["digest"]["value"], 16) == len(data) << 64 | zlib.adler32(data), r
END
}

# slow ARGUMENT...: fid copy with that library.
slow() {
	env "LD_LIBRARY_PATH=$crypto" "$fid" copy --digest sha256 --receipt=json \
		--receipt-file r "$@" 2> err
}

a_thread_may_be_slower_than_the_sink() {
	bytes 4000000 > a
	slow a b
	same a b
	summed r b
	mkfifo fifo
	head -c 2000000 fifo > part &
	slow a fifo || :
	wait $!
	summed r a
	receipt r 'r["error"] == "EPIPE" and r["bytes_out"] >= 2000000'
}

# too_large BLOCKS COMMAND...: fid copies into a file of so many half KiB at most.
too_large() {
	(
		trap '' XFSZ
		ulimit -f "$1"
		shift
		export LD_LIBRARY_PATH="$crypto"
		"$@" copy --digest sha256 --receipt=json --receipt-file r a c 2> err
	) || :
	says 'File too large'
	summed r a
	receipt r "r['bytes_out'] == $(wc -c < c) > 0"
}

a_slow_thread_catches_up_with_a_sink_that_failed() {
	bytes 4000000 > a
	for blocks in 1001 3003 5005; do
		too_large $blocks "$fid"
	done
	"$fid" run --no-preload --deny tee=EPERM -- "$fid" cat a | cmp - a ||
		skip "no seccomp filter can be installed"
	for blocks in 2222 3003 5005; do
		too_large $blocks "$fid" run --no-preload --deny tee=EPERM -- "$fid"
	done
}

a_digest_that_fails_loses_no_byte_of_the_copy() {
	bytes 4000000 > a
	expect 1 env "LD_LIBRARY_PATH=$crypto" FAIL_AFTER=500000 "$fid" copy --digest sha256 \
		--receipt=json --receipt-file r a b
	same a b
	says '^fid copy: the digest failed: there is none of the 4000000 bytes delivered$'
	[ ! -s out ]
	receipt r 'r["digest"]["value"] is None and r["error"] is None and r["bytes_out"] == 4000000'
	expect 1 env "LD_LIBRARY_PATH=$crypto" FAIL_AFTER=500000 "$fid" cat --digest sha256 --receipt a
	same a out
	says 'sha256 of no value of 4000000 bytes'
}

a_library_that_is_missing_is_told_before_anything_is_opened() {
	mkdir bad
	echo none > bad/libcrypto.so.3
	echo none > bad/libxxhash.so.0
	echo keep > b
	expect 1 env "LD_LIBRARY_PATH=$PWD/bad" "$fid" copy --digest sha256 missing b
	says '^fid copy: --digest sha256: its library cannot be loaded: '
	says '^fid copy: hint: .* libcrypto.so.3 in the package libssl3$'
	if grep -q 'missing (source)' err; then return 1; fi
	expect 1 env "LD_LIBRARY_PATH=$PWD/bad" "$fid" cat --digest xxh3 b
	says '^fid cat: hint: .* libxxhash.so.0 in the package libxxhash0$'
	[ ! -s out ]
	[ "$(cat b)" = keep ]
	# Nothing of it is loaded unless it is asked for.
	expect 0 env "LD_LIBRARY_PATH=$PWD/bad" "$fid" copy b c
}

stable_makes_the_digest_that_of_what_the_reader_got() {
	loads sha256
	bytes 200000 > a
	mkfifo fifo
	"$fid" copy --stable --digest sha256 a fifo > sum &
	{
		until_true [ -s sum ]
		bytes 200000 | dd of=a conv=notrunc bs=64K 2> /dev/null
		cat > got
	} < fifo
	wait $!
	[ "$(sed 's/ .*//' sum)" = "$(sha256sum < got | sed 's/ .*//')" ]
	! cmp -s got a
}

a_requirement_is_met_or_refused_before_a_byte_moves() {
	loads sha256
	bytes 1000000 > a
	echo keep > b
	expect 3 "$fid" copy --digest sha256 --require by-reference a b
	says 'require by-reference cannot be met from a to b: with --digest .* copies; 0 bytes'
	if grep -q hint err; then return 1; fi
	[ "$(cat b)" = keep ]
	expect 3 "$fid" copy --digest sha256 --require by-reference a c
	[ ! -e c ]
	"$fid" copy --digest sha256 --require by-reference --receipt=json --receipt-file r a - |
		cmp - a
	receipt r 'r["by_reference"] == 1000000'
	expect 0 "$fid" copy --digest sha256 --require no-user-copy --receipt=json \
		--receipt-file r a b
	same a b
	receipt r 'r["kernel_copy"] == 1000000'
	expect 3 "$fid" copy --digest sha256 --require no-user-copy --append a b
	same a b
	expect 3 "$fid" cat --digest sha256 --require no-user-copy --stable a
	[ ! -s out ]
	"$fid" run --no-preload --deny tee=EPERM -- "$fid" cat --digest sha256 \
		--require no-user-copy a > out 2> err && return 1
	[ ! -s out ]
	says 'needs tee, which is refused here\|seccomp'
}

what_is_no_digest_is_status_2_and_touches_nothing() {
	echo keep > b
	for name in md5 '' SHA256 sha256,xxh3; do
		expect 2 "$fid" copy --digest "$name" /dev/zero b
		says "digest wants sha256 or xxh3, not '$name'"
	done
	expect 2 "$fid" copy --digest sha256 --route splice /dev/zero b
	says 'with --digest only read-write'
	expect 2 "$fid" tee --digest sha256 b < /dev/null
	says "'fid tee' has no --digest"
	[ "$(cat b)" = keep ]
}

a_sum_that_cannot_be_written_is_a_failure() {
	loads sha256
	echo text > a
	status=0
	"$fid" copy --digest sha256 a b > /dev/full 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'cannot print'
	same a b
}

what_does_not_go_with_a_digest_is_status_2_and_touches_nothing() {
	loads sha256
	bytes 100000 > a
	mkdir -p folder
	echo keep > b
	expect 2 "$fid" copy --digest sha256 --sparse a b
	says 'digest and --sparse do not go together'
	expect 2 "$fid" cat --digest sha256 --sparse a
	says 'digest and --sparse do not go together'
	expect 2 "$fid" copy --digest sha256 a b folder
	says 'one SOURCE at a time'
	expect 2 "$fid" why --digest sha256 a b
	says 'with --digest'
	[ "$(cat b)" = keep ] && [ -z "$(ls folder)" ]
}

a_digest_goes_with_idle_time_outs_and_with_reports() {
	loads sha256
	sleep 3 | expect 1 "$fid" copy --digest sha256 --idle-timeout 0.3 - b
	says 'source.*: nothing came for 0.3 s'
	{ printf abc; sleep 1; } | "$fid" copy --digest sha256 - b > sum 2> err &
	pid=$!
	until_true grep -q abc b
	kill -USR1 $pid
	wait $pid
	says 'so far: 3 B moved'
	sha256sum -c sum
}

a_pace_is_that_of_the_sink_and_not_of_the_pipe_before_it() {
	loads sha256
	bytes 3000000 > a
	mkfifo fifo
	sleep 20 < fifo &
	# What it was granted and the sink did not take is a slice, and no pipe full.
	expect 1 "$fid" copy --digest sha256 --rate-limit 400K --idle-timeout 0.5 \
		--receipt=json a fifo
	kill $!
	says 'fifo (sink): took nothing for 0.5 s'
	receipt err '0 < r["bytes_held"] < 200000 and r["error_side"] == "sink"'
	digested err a
}

# A sleep between two slices is longer than what it may stand still.
a_pause_is_no_standing_still() {
	loads sha256
	echo text > a
	for option in --digest=sha256 --stable; do
		expect 0 "$fid" copy $option --rate-limit 3 --idle-timeout 0.1 --receipt=json \
			--receipt-file r a b
		same a b
		receipt r 'r["seconds"] > 1 and r["bytes_out"] == 5'
	done
}

the_seconds_are_those_of_the_sink() {
	loads sha256
	bytes 600000 > a
	# The source ends long before its bytes are taken.
	"$fid" cat --digest sha256 --receipt=json --receipt-file r a | {
		sleep 1
		cmp - a
	}
	digested r a
	receipt r 'r["seconds"] > 0.5'
}

a_reader_of_the_line_that_went_away_does_not_cost_the_receipt() {
	loads sha256
	bytes 100000 > a
	mkfifo fifo
	: < fifo &
	{
		wait $!
		status=0
		"$fid" copy --digest sha256 --receipt=json a b 2> err || status=$?
		echo "$status" > status
	} > fifo
	[ "$(cat status)" -eq 141 ]
	same a b
	digested err a
}

what_a_signal_ends_while_the_peer_is_waited_for_gets_no_line() {
	loads sha256
	peer 20
	peer=$!
	head -c 200000 /dev/zero > a
	"$fid" copy --digest sha256 --receipt=json a "tcp:127.0.0.1:$(cat port)" > out 2> err &
	copy=$!
	sleep 1
	kill "$copy"
	status=0
	wait "$copy" || status=$?
	kill "$peer"
	[ "$status" -eq 143 ]
	says 'interrupted: [0-9]* bytes delivered'
	digested err a
	[ ! -s out ]
}

run sha256sum_checks_the_line_on_standard_output
run xxhsum_checks_the_line_of_xxh3
run names_are_escaped_as_sha256sum_does_it
run the_line_is_on_standard_error_where_standard_output_is_the_sink
run a_receipt_has_the_digest_and_no_line_joins_it
run every_pair_of_ends_has_the_right_digest
run limit_offset_and_pace_are_of_the_digest_as_well
run cat_has_one_digest_over_all_sources
run after_a_full_disk_the_digest_is_that_of_the_delivered_bytes
run after_a_reader_that_went_away_as_well
run after_a_signal_as_well
run where_tee_or_splice_are_refused_the_digest_is_the_same
run a_thread_may_be_slower_than_the_sink
run a_slow_thread_catches_up_with_a_sink_that_failed
run a_digest_that_fails_loses_no_byte_of_the_copy

a_thread_that_is_not_to_be_had_is_told_and_nothing_is_emptied() {
	loads xxh3
	[ "$(id -u)" = 0 ] || skip "only root can be another user"
	needs setpriv prlimit
	chmod 755 "$here" .
	user="setpriv --reuid 65533 --regid 65533 --clear-groups"
	$user test -x "$fid" || skip "another user cannot run $fid"
	echo new > a
	echo old > b
	chmod 666 b
	expect 1 $user prlimit --nproc=1 "$fid" copy --digest xxh3 a b
	says '^fid copy: a to b: Resource temporarily unavailable; 0 bytes delivered$'
	says '^fid copy: hint: no thread .*ulimit -u'
	[ "$(cat b)" = old ]
}
run a_thread_that_is_not_to_be_had_is_told_and_nothing_is_emptied
run a_library_that_is_missing_is_told_before_anything_is_opened
run stable_makes_the_digest_that_of_what_the_reader_got
run a_requirement_is_met_or_refused_before_a_byte_moves
run what_is_no_digest_is_status_2_and_touches_nothing
run a_sum_that_cannot_be_written_is_a_failure
run what_does_not_go_with_a_digest_is_status_2_and_touches_nothing
run a_digest_goes_with_idle_time_outs_and_with_reports
run a_pace_is_that_of_the_sink_and_not_of_the_pipe_before_it
run a_pause_is_no_standing_still
run the_seconds_are_those_of_the_sink
run a_reader_of_the_line_that_went_away_does_not_cost_the_receipt
run what_a_signal_ends_while_the_peer_is_waited_for_gets_no_line

finish
