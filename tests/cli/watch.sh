# SPDX-License-Identifier: MIT
# What ends a transfer that stands still, and what tells how far it is: --idle-timeout, --name,
# SIGUSR1.
. "$(dirname "$0")/tap.sh"

# within SECONDS COMMAND...: that it has ended by then.
within() {
	began=$(date +%s)
	most=$1
	shift
	"$@"
	took=$(($(date +%s) - began))
	[ "$took" -le "$most" ] && return
	echo "took $took s: $*"
	return 1
}

a_source_that_stands_still_ends_it_with_etimedout() {
	mkfifo fifo
	# Bytes came, and then none.
	{
		printf text
		sleep 20
	} > fifo &
	within 10 expect 1 "$fid" copy --idle-timeout 0.5 --receipt=json fifo b
	says '^fid copy: fifo (source): nothing came for 0.5 s; 4 bytes delivered$'
	says '^fid copy: hint: .*--idle-timeout'
	receipt err 'r["error"] == "ETIMEDOUT" and r["error_side"] == "source"'
	receipt err 'r["bytes_out"] == 4 == r["bytes_in"] and r["seconds"] >= 0.5'
	[ "$(cat b)" = text ]
	kill $!
}
run a_source_that_stands_still_ends_it_with_etimedout

a_blocking_descriptor_that_stands_still_ends_it_as_well() {
	mkfifo fifo
	sleep 20 > fifo &
	for sink in b /dev/null -; do
		within 10 expect 1 "$fid" copy --idle-timeout 0.3 - "$sink" < fifo
		says 'standard input (source): nothing came for 0.3 s; 0 bytes delivered'
	done
	kill $!
}
run a_blocking_descriptor_that_stands_still_ends_it_as_well

signals_that_were_blocked_at_start_still_end_a_sleep() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	cat > blocked.py << 'END'
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGUSR1])
os.execv(sys.argv[1], sys.argv[1:])
END
	mkfifo fifo
	sleep 20 > fifo &
	within 10 expect 1 python3 blocked.py "$fid" copy --idle-timeout 0.5 fifo b
	says 'nothing came for 0.5 s'
	python3 blocked.py "$fid" copy --rate-limit 1000 /dev/zero b 2> err &
	until_true [ -s b ]
	kill -USR1 $!
	until_true grep -q 'so far' err
	kill $!
}
run signals_that_were_blocked_at_start_still_end_a_sleep

a_sink_that_stands_still_ends_it_with_an_exact_receipt() {
	mkfifo fifo
	sleep 20 < fifo &
	bytes 4000000 > a
	for source in a /dev/zero -; do
		{
			status=0
			timeout 20 "$fid" copy --idle-timeout 0.3 --receipt=json "$source" - \
				< a > fifo 2> err || status=$?
			[ "$status" -eq 1 ]
		}
		says 'standard output (sink): took nothing for 0.3 s; [0-9]* bytes delivered'
		receipt err 'r["error"] == "ETIMEDOUT" and r["error_side"] == "sink"'
		delivered=$(sed -n 's/.*0.3 s; \([0-9]*\) bytes.*/\1/p' err)
		receipt err "r['bytes_out'] == $delivered"
		[ "$source" != a ] || [ "$delivered" -gt 0 ]
	done
	kill $!
}
run a_sink_that_stands_still_ends_it_with_an_exact_receipt

a_connection_whose_peer_reads_nothing_ends() {
	# More than the buffers take, and less, which is known only at the end.
	for limit in 300M 200K; do
		peer 20
		within 15 expect 1 "$fid" copy --idle-timeout 1 --limit $limit --receipt=json \
			/dev/zero "tcp:127.0.0.1:$(cat port)"
		says '^fid copy: tcp:[0-9.:]* (sink): .*took nothing for 1 s'
		receipt err 'r["error"] == "ETIMEDOUT" and r["error_side"] == "sink"'
		kill $!
	done
}
run a_connection_whose_peer_reads_nothing_ends

what_moves_now_and_then_goes_on() {
	{
		for byte in a b c d e f; do
			sleep 0.4
			printf %s $byte
		done
	} | expect 0 "$fid" copy --idle-timeout 1.5 - b
	[ "$(cat b)" = abcdef ]
	silent
	peer 1.2
	expect 0 "$fid" copy --idle-timeout 10 --limit 20M /dev/zero "tcp:127.0.0.1:$(cat port)"
	wait $!
	silent
	bytes 3000000 > a
	expect 0 "$fid" copy --idle-timeout 0.001 a b
	same a b
	expect 0 "$fid" copy --idle-timeout 4000000 a b
}
run what_moves_now_and_then_goes_on

a_process_that_was_stopped_is_not_to_blame_its_source() {
	mkfifo fifo
	"$fid" copy --idle-timeout 1.6 fifo b 2> err &
	pid=$!
	exec 3> fifo
	sleep 0.3
	kill -STOP "$pid"
	sleep 2.5
	kill -CONT "$pid"
	printf text >&3
	exec 3>&-
	wait "$pid"
	[ "$(cat b)" = text ]
	silent
}
run a_process_that_was_stopped_is_not_to_blame_its_source

a_source_that_stands_still_does_not_keep_cat_from_the_next() {
	echo text > a
	mkfifo fifo
	sleep 20 > fifo &
	expect 1 "$fid" cat --idle-timeout 0.3 a fifo a
	[ "$(cat out)" = "$(printf 'text\ntext')" ]
	says 'fifo (source): nothing came'
	expect 1 "$fid" copy --idle-timeout 0.3 a fifo a b
	[ "$(cat b)" = text ]
	expect 2 "$fid" tee --idle-timeout 1
	says 'on-slow drop'
	kill $!
}
run a_source_that_stands_still_does_not_keep_cat_from_the_next

a_source_after_one_that_stood_still_fails_by_its_own_name() {
	mkdir folder
	mkfifo still same
	ln -s ../same folder/same
	sleep 20 > still &
	writer=$!
	# Both ends are the same pipe, which is open already.
	exec 3<> same
	expect 1 "$fid" copy --idle-timeout 0.3 still same folder
	exec 3>&-
	kill "$writer"
	says 'still (source): nothing came for 0.3 s'
	says 'same to folder/same: Invalid argument'
}
run a_source_after_one_that_stood_still_fails_by_its_own_name

an_idle_timeout_changes_nothing_about_the_route() {
	bytes 2000000 > a
	for sink in b -; do
		for timeout in --stable --idle-timeout=5; do
			"$fid" copy --route splice,splice-pipe,sendfile $timeout \
				--receipt=json a "$sink" 2> "with$timeout" | cat > /dev/null
		done
	done
	receipt with--idle-timeout=5 'r["by_reference"] == 2000000'
}
run an_idle_timeout_changes_nothing_about_the_route

a_name_begins_each_line_of_progress() {
	drip 6 | expect 0 "$fid" copy --progress --name 'the backup' - b
	[ "$(grep -c '^the backup: *[0-9]' err)" -eq "$(wc -l < err)" ]
	drip 6 | expect 0 "$fid" tee --progress --name up --no-stdout b
	says '^up: '
	drip 6 | expect 0 "$fid" cat --progress --name=up
	says '^up: '
	# By itself it shows none.
	expect 0 "$fid" copy --name up b c
	silent
	drip 6 | expect 0 "$fid" copy --progress --name '' - b
	if grep -q : err && grep -q '^:' err; then
		return 1
	fi
}
run a_name_begins_each_line_of_progress

a_name_is_cut_where_the_terminal_is_narrow() {
	for columns in 80 40 30 20 9 3; do
		drip 6 | expect 0 "$terminal" $columns "$fid" copy --limit 600000 \
			--name 'a-rather-long-name-of-a-transfer' - b
		tr '\r' '\n' < err > lines
		awk -v most=$((columns - 1)) 'length($0) > most { print; exit 1 }' lines
		[ $columns -lt 9 ] || grep -q B lines
		[ $columns -lt 20 ] || grep -q '^a-[a-z-]*: ' lines
		[ $columns -ne 80 ] || grep -q '^a-rather-long-name-of-a-: .*% .*B/s .*left' lines
		[ $columns -ne 40 ] || grep -q '^a-rather-lo: .*B.*%' lines
		[ $columns -gt 9 ] || ! grep -q a- lines
	done
}
run a_name_is_cut_where_the_terminal_is_narrow

a_name_is_safe_on_a_terminal_and_cut_between_characters() {
	esc=$(printf 'a\033[31m\001\177\302\233b')
	drip 5 | expect 0 "$terminal" 80 "$fid" copy --name "$esc" - b
	says 'a?\[31m????b: '
	# Each letter has two bytes, and the room for the name an odd number.
	name=$(printf '\303\244\303\244\303\244\303\244\303\244\303\244\303\244\303\244')
	drip 5 | expect 0 "$terminal" 40 "$fid" copy --name "$name" - b
	says "$(printf '\303\244\303\244\303\244\303\244\303\244: ')"
	tr '\r' '\n' < err | grep : > lines
	iconv -f UTF-8 -t UTF-8 lines > /dev/null
}
run a_name_is_safe_on_a_terminal_and_cut_between_characters

# ask COMMAND...: runs it in the background with SIGUSR1 ignored, so that none comes too early;
# its process id is $asked. A shell would take its standard input away.
ask() {
	trap '' USR1
	{
		"$@" 2> err <&4 4<&- &
	} 4<&0
	asked=$!
	trap - USR1
}

# catches: it would notice a signal now; one before is lost.
catches() {
	mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$asked/status")
	[ $((0x$mask & 0x200)) -ne 0 ]
}

# has COUNT FILE: so many bytes are in it.
has() {
	[ "$(wc -c < "$2")" -eq "$1" ]
}

# reports COUNT: so many lines of ./err tell how far it is.
reports() {
	[ "$(grep -c 'so far\|so_far' err)" -ge "$1" ]
}

sigusr1_prints_the_receipt_so_far_and_the_transfer_goes_on() {
	mkfifo fifo
	ask "$fid" copy --receipt fifo b
	exec 3> fifo
	printf text >&3
	until_true test -s b
	kill -USR1 "$asked"
	until_true reports 1
	grep -q '^fid copy: so far: 4 B moved in .*, all copied through this process with' err
	printf more >&3
	until_true has 8 b
	kill -USR1 "$asked"
	until_true reports 2
	exec 3>&-
	wait "$asked"
	[ "$(cat b)" = textmore ]
	[ "$(wc -l < err)" -eq 3 ]
	tail -n 1 err | grep -q '^8 B moved'
}
run sigusr1_prints_the_receipt_so_far_and_the_transfer_goes_on

sigusr1_prints_json_where_the_receipt_is_json() {
	mkfifo fifo
	echo text > a
	ask "$fid" cat --receipt=json --receipt-file r a fifo > out
	exec 3> fifo
	printf more >&3
	until_true has 9 out
	kill -USR1 "$asked"
	until_true reports 1
	exec 3>&-
	wait "$asked"
	receipt err 'r["so_far"] is True and r["bytes_out"] == 9'
	receipt r '"so_far" not in r and r["bytes_out"] == 9'
	[ "$(wc -l < err)" -eq 1 ]
}
run sigusr1_prints_json_where_the_receipt_is_json

sigusr1_is_answered_while_a_call_sleeps() {
	mkfifo in out
	sleep 20 > in &
	writer=$!
	sleep 20 < out &
	reader=$!
	bytes 4000000 > a
	# A blocking source, a blocking sink, and both with a timer that ticks anyway.
	for option in --no-progress --idle-timeout=30; do
		ask "$fid" copy $option - b < in
		until_true catches
		kill -USR1 "$asked"
		until_true reports 1
		kill -USR1 "$asked"
		until_true reports 2
		kill "$asked"
		wait "$asked" || :
		says 'interrupted: 0 bytes'
		ask "$fid" cat $option a > out
		until_true catches
		kill -USR1 "$asked"
		until_true reports 1
		kill "$asked"
		wait "$asked" || :
	done
	kill "$writer" "$reader"
}
run sigusr1_is_answered_while_a_call_sleeps

sigusr1_before_both_ends_are_open_is_answered_when_they_are() {
	mkfifo fifo
	ask "$fid" copy fifo b
	until_true catches
	sleep 0.1
	kill -USR1 "$asked"
	sleep 0.2
	kill -0 "$asked"
	echo text > fifo
	wait "$asked"
	[ "$(cat b)" = text ]
	says '^fid copy: so far: '
	ask "$fid" copy unix-listen:socket b
	until_true test -S socket
	kill -USR1 "$asked"
	expect 0 "$fid" copy b unix:socket
	wait "$asked"
	[ "$(cat b)" = text ] || [ ! -s b ]
}
run sigusr1_before_both_ends_are_open_is_answered_when_they_are

tee_answers_sigusr1_with_a_line_for_each_end() {
	mkfifo fifo
	exec 3<> fifo
	ask "$fid" tee b < fifo > out 3>&-
	printf text >&3
	until_true test -s b
	kill -USR1 "$asked"
	until_true reports 3
	exec 3>&-
	wait "$asked"
	says '^fid tee: so far: standard input (source): 4 B moved'
	says '^fid tee: so far: b (sink): 4 B moved'
	[ "$(wc -l < err)" -eq 3 ]
	exec 3<> fifo
	rm b
	ask "$fid" tee --receipt=json b < fifo > out 3>&-
	printf text >&3
	until_true test -s b
	kill -USR1 "$asked"
	until_true reports 1
	receipts err 'r["so_far"] is True and k["b"]["bytes_out"] == 4'
	exec 3>&-
	wait "$asked"
	receipts err '"so_far" not in r and s["bytes_out"] == 4'
	[ "$(wc -l < err)" -eq 2 ]
}
run tee_answers_sigusr1_with_a_line_for_each_end

a_storm_of_sigusr1_tears_no_line_and_loses_no_byte() {
	command -v python3 > /dev/null || skip 'python3 is not installed'
	bytes 3000000 > a
	for option in --no-progress --progress --sparse --idle-timeout=5; do
		mkfifo fifo
		source=fifo
		[ $option != --sparse ] || source=a
		ask "$fid" copy $option --receipt=json "$source" b
		if [ $source = fifo ]; then
			for part in 1 2 3; do
				sleep 0.1
				tail -c +$((part * 1000000 - 999999)) a | head -c 1000000
			done > fifo &
		fi
		# One that has ended is there until it is waited for.
		storm=0
		while [ $storm -lt 5000 ] && kill -USR1 "$asked" 2> /dev/null; do
			storm=$((storm + 1))
		done
		wait "$asked"
		same a b
		grep '^{' err > lines
		python3 - << 'END'
import json
lines = [json.loads(line) for line in open("lines")]
assert lines[-1]["bytes_out"] == 3000000 and "so_far" not in lines[-1]
assert all(line["so_far"] for line in lines[:-1])
sizes = [line["bytes_out"] for line in lines]
assert sizes == sorted(sizes), sizes
END
		rm fifo
	done
}
run a_storm_of_sigusr1_tears_no_line_and_loses_no_byte

a_report_on_a_terminal_stands_on_a_line_of_its_own() {
	cat > script << 'END'
trap '' USR1
drip="$2"
eval "$drip" | "$1" copy --progress - b &
sleep 0.9
kill -USR1 $!
wait
END
	expect 0 "$terminal" 70 sh script "$fid" \
		'for i in 1 2 3 4 5 6; do head -c 100000 /dev/zero; sleep 0.25; done'
	tr '\r' '\n' < err > lines
	grep -q 'KiB/s' lines
	grep -q '^fid copy: so far: [0-9.]* KiB moved in .*\.$' lines
	# What stood there was wiped before.
	[ "$(grep -B 1 'so far' lines | head -n 1 | tr -d ' ')" = '' ]
}
run a_report_on_a_terminal_stands_on_a_line_of_its_own

# poll(2) says of such a socket that it is ready whenever it is asked, and a call says EAGAIN.
a_source_with_an_error_queue_that_nobody_reads_takes_no_processor() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	cat > noisy.py << 'END'
import resource, select, socket, subprocess, sys, time

def cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

for words in sys.argv[2:]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        source = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    # SO_TIMESTAMPING: when this byte went is put into the error queue.
    source.setsockopt(socket.SOL_SOCKET, 37, 2 | 16)
    source.send(b"x")
    poll = select.poll()
    poll.register(source, 0)
    if not poll.poll(2000):
        print("this kernel puts no time into the error queue")
        sys.exit(77)
    source.setblocking(False)
    before = cpu()
    fid = subprocess.Popen([sys.argv[1], *words.split()], stdin=source)
    time.sleep(2)
    peer.send(b"so far")
    peer.shutdown(socket.SHUT_WR)
    assert fid.wait(20) == 0, words
    assert cpu() - before < 0.5, (words, cpu() - before)
    with open("got", "rb") as got:
        assert got.read() == b"so far", words
END
	digest=
	expect 0 "$fid" copy /dev/null b
	"$fid" copy --digest sha256 /dev/null b > out 2> err && digest='copy --digest sha256 - got'
	status=0
	python3 noisy.py "$fid" 'copy - got' 'tee --no-stdout got' ${digest:+"$digest"} > out 2> err ||
		status=$?
	[ "$status" -ne 77 ] || skip "$(cat out)"
	[ "$status" -eq 0 ] || cat err
	[ "$status" -eq 0 ]
}
run a_source_with_an_error_queue_that_nobody_reads_takes_no_processor

finish
