# SPDX-License-Identifier: MIT
# fid tee with sinks of every kind, with slow ones, with signals, and its receipts.
. "$(dirname "$0")/tap.sh"

# port FILE: the port that a listener told there.
port() {
	until_true grep -q 'listening on port' "$1"
	sed -n 's/.*listening on port \([0-9]*\)$/\1/p' "$1"
}

# digest FILE...
digest() {
	sha256sum "$@" | cut -d ' ' -f 1
}

sinks_of_five_kinds_get_the_same_bytes() {
	bytes 30000000 > input
	mkfifo fifo
	digest fifo > of-fifo &
	fifo_reader=$!
	"$fid" cat tcp-listen:127.0.0.1:0 2> told | digest > of-tcp &
	tcp_reader=$!
	"$fid" cat unix-listen:socket | digest > of-unix &
	unix_reader=$!
	at=$(port told)
	until_true [ -S socket ]
	status=0
	{
		"$fid" cat input | teed --receipt=json fifo "tcp:127.0.0.1:$at" unix:socket \
			file 2> err || status=$?
		echo "$status" > status
	} | digest > of-stdout
	wait "$fifo_reader"
	wait "$tcp_reader"
	wait "$unix_reader"
	[ "$(cat status)" -eq 0 ]
	digest input > of-input
	for of in of-fifo of-tcp of-unix of-stdout; do
		same of-input "$of"
	done
	same input file
	receipts err 'len(k) == 5 and all(one["bytes_out"] == 30000000 for one in r["sinks"])'
	receipts err 's["bytes_in"] == s["bytes_out"] == 30000000 and s["error"] is None'
}
run sinks_of_five_kinds_get_the_same_bytes

a_file_is_given_to_sinks_of_five_kinds_too() {
	bytes 10000000 > input
	mkfifo fifo
	cat fifo > of-fifo &
	fifo_reader=$!
	"$fid" cat unix-listen:socket > of-unix &
	unix_reader=$!
	until_true [ -S socket ]
	teed tcp-listen:127.0.0.1:0 fifo unix:socket file < input 2> told | cat > of-stdout &
	teed=$!
	"$fid" copy "tcp:127.0.0.1:$(port told)" of-tcp
	wait "$teed"
	wait "$fifo_reader"
	wait "$unix_reader"
	for of in of-fifo of-tcp of-unix of-stdout file; do
		same input "$of"
	done
}
run a_file_is_given_to_sinks_of_five_kinds_too

two_pipes_get_references() {
	bytes 3000000 > input
	mkfifo fifo
	cat fifo > of-fifo &
	reader=$!
	cat input | teed --receipt=json fifo 2> err | cat > of-stdout
	wait "$reader"
	same input of-fifo
	same input of-stdout
	# Where the kernel refuses tee(2) the receipt says so.
	receipts err 'all(one["by_reference"] == 3000000 or one["demotions"]
		for one in r["sinks"])'
}
run two_pipes_get_references

all_go_at_the_pace_of_the_slowest() {
	mkfifo fifo
	yes | head -c 3000000 > input
	teed fifo < input > fast &
	teed=$!
	exec 7< fifo
	# Nothing is read here, so that the others cannot have more than the pipes hold.
	until_true [ -s fast ]
	kill -0 "$teed"
	[ "$(wc -c < fast)" -lt 3000000 ]
	cat <&7 > slow
	wait "$teed"
	same input fast
	same input slow
}
run all_go_at_the_pace_of_the_slowest

a_sink_that_takes_nothing_is_dropped() {
	mkfifo fifo
	yes | head -c 5000000 > input
	teed --on-slow drop --stall 0.2 --receipt=json fifo a < input > out 2> err &
	teed=$!
	exec 7< fifo
	status=0
	wait "$teed" || status=$?
	[ "$status" -eq 1 ]
	says '^fid tee: fifo (sink): dropped, .*; [0-9]* bytes delivered'
	says 'hint: .*--stall'
	same input a
	same input out
	receipts err 'k["fifo"]["error"] == "ETIMEDOUT" and 0 < k["fifo"]["bytes_out"] < 5000000'
	receipts err 'k["a"]["error"] is None and k["a"]["bytes_out"] == 5000000'
	# What it was given is whole.
	cat <&7 > given
	cmp -n "$(wc -c < given)" input given
}
run a_sink_that_takes_nothing_is_dropped

a_sink_without_anything_to_take_is_not_dropped() {
	mkfifo in fifo
	teed --on-slow drop --stall 0.05 fifo < in > out 2> err &
	teed=$!
	exec 6> in 7< fifo
	# The source says nothing for ten times as long.
	echo one >&6
	sleep 0.5
	echo two >&6
	exec 6>&-
	[ "$(cat <&7)" = "$(printf 'one\ntwo')" ]
	wait "$teed"
	silent
}
run a_sink_without_anything_to_take_is_not_dropped

spilling_frees_the_others_and_loses_nothing() {
	mkfifo fifo
	mkdir spill
	yes | head -c 8000000 > input
	export TMPDIR="$PWD/spill"
	teed --on-slow spill --receipt=json fifo < input > fast 2> err &
	teed=$!
	exec 7< fifo
	# The other sink is done before a byte of this one was read.
	until_true cmp -s input fast
	kill -0 "$teed"
	[ -z "$(ls spill)" ]
	cat <&7 > slow
	wait "$teed"
	same input slow
	receipts err 'all(one["bytes_out"] == 8000000 for one in r["sinks"])'
}
run spilling_frees_the_others_and_loses_nothing

a_full_spill_file_makes_the_others_wait() {
	mkfifo fifo
	yes | head -c 8000000 > input
	teed --on-slow spill --spill-size 64K fifo < input > fast 2> err &
	teed=$!
	exec 7< fifo
	until_true [ -s fast ]
	cat <&7 > slow
	wait "$teed"
	same input fast
	same input slow
	silent

	teed --on-slow spill --spill-size 64K --stall 0.2 fifo < input > fast 2> err &
	teed=$!
	exec 7< fifo
	status=0
	wait "$teed" || status=$?
	[ "$status" -eq 1 ]
	says '^fid tee: fifo (sink): dropped, '
	same input fast
}
run a_full_spill_file_makes_the_others_wait

a_terminal_takes_it_in_short_writes() {
	seq 30000 > input
	for name in /dev/stderr fd:2; do
		cat input | expect 0 "$terminal" 80 "$fid" tee a "$name"
		tr -d '\r' < err | cmp - input
		same input a
		same input out
	done
	expect 0 "$terminal" 80 "$fid" tee --no-stdout --on-slow spill /dev/stderr < input
	tr -d '\r' < err | cmp - input
}
run a_terminal_takes_it_in_short_writes

a_peer_that_goes_away_is_told_and_the_others_go_on() {
	command -v python3 > /dev/null || skip 'python3 is not installed'
	python3 -c 'import socket, struct
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1)
print(s.getsockname()[1], flush=True)
c = s.accept()[0]; c.recv(1000)
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); c.close()' > told &
	until_true [ -s told ]
	yes | head -c 20000000 > input
	expect 1 "$fid" tee "tcp:127.0.0.1:$(cat told)" a < input
	says '^fid tee: tcp:127.0.0.1:[0-9]* (sink): .* while in .*; [0-9]* bytes* delivered'
	[ "$(grep -c '(sink)' err)" -eq 1 ]
	same input a
	same input out
	wait $!
}
run a_peer_that_goes_away_is_told_and_the_others_go_on

every_peer_has_everything_when_it_is_over() {
	command -v python3 > /dev/null || skip 'python3 is not installed'
	# Both greet late and read later: closing over an unread greeting would drop bytes.
	peer='import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
s.bind(("127.0.0.1", 0)); s.listen(1)
print(s.getsockname()[1], flush=True)
c = s.accept()[0]; time.sleep(0.2); c.sendall(b"welcome\n"); time.sleep(0.2)
n = 0
while True:
    b = c.recv(65536)
    if not b: break
    n += len(b)
print(n, flush=True)'
	python3 -c "$peer" > told1 &
	peer1=$!
	python3 -c "$peer" > told2 &
	peer2=$!
	until_true [ -s told1 ]
	until_true [ -s told2 ]
	bytes 300000 > input
	expect 0 "$fid" tee --no-stdout "tcp:127.0.0.1:$(cat told1)" \
		"tcp:127.0.0.1:$(cat told2)" < input
	wait "$peer1"
	wait "$peer2"
	[ "$(tail -n 1 told1) $(tail -n 1 told2)" = '300000 300000' ]
}
run every_peer_has_everything_when_it_is_over

# stop SIGNAL STATUS: with a source that never ends, with one that never begins, and with a sink
# that takes nothing.
# Without --foreground timeout(1) signals its whole group, and so fid twice.
stop() {
	mkfifo never full
	sleep 20 > never &
	writer=$!
	sleep 20 < full &
	reader=$!
	for words in '/dev/zero /dev/null' 'never /dev/null' '/dev/zero full'; do
		status=0
		timeout --foreground -s "$1" --preserve-status 0.5 "$fid" tee --no-stdout --receipt=json \
			"${words#* }" < "${words% *}" 2> err || status=$?
		[ "$status" -eq "$2" ]
		says '^fid tee: interrupted: [0-9]* bytes* delivered'
		delivered=$(sed -n 's/.*interrupted: \([0-9]*\) bytes.*/\1/p' err)
		receipts err "s['bytes_out'] == $delivered"
	done
	kill "$writer" "$reader"
}

sigint_ends_it_with_exact_receipts_and_status_130() {
	stop INT 130
}
run sigint_ends_it_with_exact_receipts_and_status_130

sigterm_ends_it_with_exact_receipts_and_status_143() {
	stop TERM 143
}
run sigterm_ends_it_with_exact_receipts_and_status_143

ignore_interrupts_ignores_sigint_alone() {
	for words in -i --ignore-interrupts; do
		{
			echo one
			sleep 0.6
			echo two
		} | timeout --foreground -s INT --preserve-status 0.2 "$fid" tee "$words" a > out 2> err
		[ "$(cat out)" = "$(printf 'one\ntwo')" ]
		same out a
		silent
	done
	mkfifo never
	exec 6<> never
	expect 143 timeout --foreground -s TERM --preserve-status 0.2 "$fid" tee -i a <&6
}
run ignore_interrupts_ignores_sigint_alone

a_signal_while_a_peer_is_waited_for_ends_it() {
	command -v python3 > /dev/null || skip 'python3 is not installed'
	# It never reads, and its kernel cannot acknowledge what does not fit.
	python3 -c 'import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
s.bind(("127.0.0.1", 0)); s.listen(1)
print(s.getsockname()[1], flush=True)
c = s.accept()[0]; time.sleep(20)' > told &
	peer=$!
	until_true [ -s told ]
	bytes 300000 > input
	status=0
	timeout --foreground -s TERM --preserve-status 1 "$fid" tee a "tcp:127.0.0.1:$(cat told)" \
		< input > out 2> err || status=$?
	[ "$status" -eq 143 ]
	says '^fid tee: interrupted: '
	same input a
	same input out
	kill "$peer"
}
run a_signal_while_a_peer_is_waited_for_ends_it

receipts_have_a_line_for_the_input_and_one_for_each_sink() {
	bytes 100000 > input
	expect 1 "$fid" tee --receipt a no/such b < input
	[ "$(grep -c 'moved' err)" -eq 4 ]
	for name in 'standard input (source)' 'standard output (sink)' 'a (sink)' 'b (sink)'; do
		says "^$name: 97.7 KiB moved"
	done
	expect 0 "$fid" tee --receipt=json --receipt-file r a b < input
	silent
	[ "$(wc -l < r)" -eq 1 ]
	receipts r '[one["name"] for one in r["sinks"]] == ["standard output", "a", "b"]'
	receipts r 'all(one["bytes_out"] == 100000 for one in [s, *r["sinks"]])'
	python3 -m json.tool r > /dev/null
	expect 0 "$fid" tee --no-stdout --receipt=json --receipt-file - a < input
	receipts out 'list(k) == ["a"]'
	silent
	# With one sink that fails.
	expect 1 "$fid" tee --receipt=json a /dev/full < input
	receipts err 'k["/dev/full"]["error"] == "ENOSPC" and k["/dev/full"]["bytes_out"] == 0'
	receipts err 'k["a"]["error"] is None and s["error"] is None'
}
run receipts_have_a_line_for_the_input_and_one_for_each_sink

a_receipt_is_json_whatever_the_names_of_files_are() {
	name=$(printf 'a"b\\c\001\t\303\244\377\300\257\355\240\200\360\237\230\200\360\237\n_')
	echo text | expect 0 "$fid" tee --no-stdout --receipt=json "$name"
	[ "$(cat "$name")" = text ]
	receipts err 'r["sinks"][0]["name"] == ("a\"b\\c\x01\t\u00e4" + 6 * "\ufffd" +
		"\U0001f600" + 2 * "\ufffd" + "\n_")'
	expect 0 "$fid" tee --receipt "$name" < /dev/null
	if LC_ALL=C grep -q '[[:cntrl:]]' err; then
		return 1
	fi
}
run a_receipt_is_json_whatever_the_names_of_files_are

a_receipt_does_not_go_where_the_bytes_are() {
	echo keep > a
	expect 2 "$fid" tee --receipt-file a ./a < /dev/null
	says 'receipt would go into'
	expect 2 "$fid" tee --receipt-file a < a
	says 'receipt would go into standard input'
	expect 2 "$fid" tee --receipt-file - < /dev/null
	says 'standard output is a sink'
	expect 2 "$fid" tee --no-stdout --receipt-file - fd:1 < /dev/null
	[ "$(cat a)" = keep ]
}
run a_receipt_does_not_go_where_the_bytes_are

a_reader_that_goes_away_leaves_a_receipt() {
	{
		yes | teed --receipt=json --receipt-file r a || :
	} | head -n 1 > first
	receipts r 'k["standard output"]["error"] == "EPIPE" and k["a"]["error"] is None'
}
run a_reader_that_goes_away_leaves_a_receipt

the_routes_and_stability_that_are_asked_for_are_had() {
	bytes 1000000 > input
	mkfifo fifo
	cat fifo > of-fifo &
	expect 0 "$fid" tee --route read-write --receipt=json a fifo < input
	wait $!
	same input a
	same input of-fifo
	receipts err 'all(one["user_copy"] == 1000000 for one in r["sinks"])'
	cat fifo > of-fifo &
	expect 0 "$fid" tee --stable --pipe-size 64K --receipt=json a fifo < input
	wait $!
	same input a
	same input of-fifo
	receipts err 'all(one["stable"] for one in r["sinks"])'
}
run the_routes_and_stability_that_are_asked_for_are_had

progress_is_shown_only_when_asked_for() {
	bytes 300000 > input
	for words in '' --no-progress; do
		{
			cat input
			sleep 1.3
		} | expect 0 "$terminal" 80 "$fid" tee $words a
		silent
	done
	{
		cat input
		sleep 1.3
		cat input
	} | expect 0 "$terminal" 80 "$fid" tee --progress a
	says '293 KiB'
	{
		cat input
		sleep 1.3
	} | expect 0 "$fid" tee --progress a
	[ "$(wc -l < err)" -ge 2 ]
	tail -n 1 err | grep -q '293 KiB'
}
run progress_is_shown_only_when_asked_for

finish
