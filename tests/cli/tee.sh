# SPDX-License-Identifier: MIT
# What fid tee does, next to tee(1) on the same input.
. "$(dirname "$0")/tap.sh"

# alike SCRIPT: with tee(1) and with fid tee as $T the script has the same status and output and
# leaves the same files, and both say something or neither does.
alike() {
	rm -rf theirs ours
	for T in tee "$fid tee"; do
		case $T in
		tee) there=theirs ;;
		*) there=ours ;;
		esac
		mkdir "$there"
		status=0
		(
			cd "$there"
			export T
			timeout 20 sh -c "$1" > out 2> err
		) || status=$?
		echo "$status" > "$there/status"
		if [ -s "$there/err" ]; then
			cat "$there/err" >&2
			echo spoke > "$there/err"
		fi
	done
	diff -r theirs ours
}

every_sink_gets_what_tee_gives() {
	for size in 0 1 4095 65536 65537 3000001; do
		bytes "$size" > input
		expect 0 "$fid" tee a b c < input
		silent
		for file in out a b c; do
			same input "$file"
		done
		teed d < input | cat > out
		same input out
		same input d
		# A pipe on each side.
		cat input | teed e | cat > out
		same input out
		same input e
	done
}
run every_sink_gets_what_tee_gives

it_behaves_as_tee_with_files() {
	alike 'echo text | $T'
	alike 'echo text | $T a'
	alike '$T a b < /dev/null'
	alike 'seq 100000 | $T a b c'
	alike 'seq 100000 | $T a a'
	alike 'echo much more > a; echo text | $T a'
	alike 'echo first > a; echo second | $T -a a b'
	alike 'echo first > a; echo second | $T --append a'
	alike 'echo text | $T -ia a'
	alike 'echo text | $T -- -i --append'
	alike 'umask 027; echo text | $T a > /dev/null; stat -c %a a'
	alike 'cp /bin/true program; $T a < program > /dev/null; stat -c %a a'
	alike 'ln -s target link; echo text | $T link'
	alike 'echo text | $T /dev/stdout | sort'
	alike 'echo text | $T /dev/fd/3 3> three'
}
run it_behaves_as_tee_with_files

it_behaves_as_tee_when_a_sink_cannot_be_had() {
	alike 'echo text | $T no/such a; echo $?'
	alike 'echo text | $T . a; echo $?'
	alike 'echo text | $T /dev/full a; echo $?'
	alike 'seq 100000 | $T a /dev/full b; echo $?'
	alike 'seq 100000 | $T a > /dev/full; echo $?'
	alike 'echo text | $T a >&-; echo $?'
	alike '$T < /; echo $?'
	alike '$T < /dev/full | head -c 100000'
	alike 'seq 100000 | $T /dev/full > /dev/full; echo $?'
	alike 'yes | $T /dev/full > /dev/full; echo $?'
}
run it_behaves_as_tee_when_a_sink_cannot_be_had

it_behaves_as_tee_when_the_reader_of_standard_output_goes_away() {
	alike '{ yes | $T a; echo $? > status; } | head -n 1; rm a; cat status'
	alike '{ yes | $T; echo $? > status; } | head -n 1; cat status'
	[ "$(cat ours/status)" -eq 0 ]
	for mode in -p --output-error --output-error=warn --output-error=warn-nopipe \
		--output-error=exit-nopipe; do
		alike "{ seq 200000 | \$T $mode a; echo \$? > status; } | head -n 1; cat status"
	done
	alike '{ yes | $T --output-error=exit a; echo $? > status; } | head -n 1
		rm a; cat status'
	alike 'yes | { $T --output-error=exit-nopipe a /dev/full > b; echo $?; }; rm a b'
}
run it_behaves_as_tee_when_the_reader_of_standard_output_goes_away

a_dash_is_standard_output_and_gets_the_bytes_once() {
	for words in - 'fd:1' '- -' '--no-stdout -' '--no-stdout - fd:1' './a - ./a'; do
		# The words are split on purpose.
		echo text | expect 0 "$fid" tee $words
		[ "$(cat out)" = text ]
		[ ! -e ./- ]
	done
	echo text | expect 0 "$fid" tee ./-
	[ "$(cat ./-)" = text ]
}
run a_dash_is_standard_output_and_gets_the_bytes_once

no_stdout_leaves_standard_output_alone() {
	echo text | expect 0 "$fid" tee --no-stdout a
	[ ! -s out ]
	[ "$(cat a)" = text ]
	# Not even closed is it missed.
	echo more | teed --no-stdout a >&-
	[ "$(cat a)" = more ]
}
run no_stdout_leaves_standard_output_alone

without_any_sink_the_input_is_read_to_its_end() {
	mkfifo fifo
	status=0
	teed --no-stdout --receipt=json < fifo 2> err &
	bytes 1000000 > fifo || status=$?
	[ "$status" -eq 0 ]
	wait $!
	receipts err 's["bytes_in"] == 1000000 and r["sinks"] == []'
}
run without_any_sink_the_input_is_read_to_its_end

a_line_is_delivered_before_the_next_one_comes() {
	mkfifo in out1 out2
	teed out1 a < in > out2 &
	teed=$!
	exec 6> in 7< out2 8< out1
	for word in one two three; do
		echo "$word" >&6
		[ "$(timeout 10 head -n 1 <&7)" = "$word" ]
		[ "$(timeout 10 head -n 1 <&8)" = "$word" ]
		until_true grep -q -x "$word" a
	done
	exec 6>&-
	wait "$teed"
}
run a_line_is_delivered_before_the_next_one_comes

several_that_append_lose_nothing() {
	for i in 1 2 3; do
		seq 20000 | teed -a --no-stdout log &
		eval "job$i=\$!"
	done
	wait "$job1"
	wait "$job2"
	wait "$job3"
	[ "$(wc -c < log)" -eq $((3 * $(seq 20000 | wc -c))) ]
}
run several_that_append_lose_nothing

descriptors_that_are_open_are_sinks() {
	echo text | expect 0 "$fid" tee fd:5 fd:6 5> five 6> six
	[ "$(cat five six out)" = "$(printf 'text\ntext\ntext')" ]
	echo text | expect 1 "$fid" tee fd:5 fd:7 five 5< five 7>&-
	says '^fid tee: fd:5 (sink): Bad file descriptor$'
	says '^fid tee: fd:7 (sink): Bad file descriptor$'
	[ "$(cat out five)" = "$(printf 'text\ntext')" ]
}
run descriptors_that_are_open_are_sinks

a_sink_that_is_the_input_is_refused_and_the_others_get_it() {
	echo keep > a
	ln a hard
	for sink in a ./a hard; do
		for append in '' --append; do
			status=0
			teed $append "$sink" b < a > out 2> err || status=$?
			[ "$status" -eq 1 ]
			says "^fid tee: $sink (sink): it is standard input as well"
			same a out
			[ "$(cat a)" = keep ]
			rm b
		done
	done
	status=0
	teed < a >> a 2> err || status=$?
	[ "$status" -eq 1 ]
	[ "$(cat a)" = keep ]
	mkfifo fifo
	# One that is open both ways waits for nobody.
	exec 5<> fifo
	status=0
	teed --limit 0 fifo b <&5 > out 2> err || status=$?
	[ "$status" -eq 1 ]
	says '^fid tee: fifo (sink): it is standard input as well'
}
run a_sink_that_is_the_input_is_refused_and_the_others_get_it

files_keep_what_they_hold_when_nothing_can_begin() {
	echo keep > a
	expect 1 "$fid" tee a <&-
	says '^fid tee: standard input (source): Bad file descriptor'
	expect 1 "$fid" tee a < /
	says '^fid tee: standard input (source): Is a directory'
	echo text | expect 1 "$fid" tee --on-error stop a new no/such
	says '^fid tee: no/such (sink): No such file or directory'
	[ ! -e new ]
	echo text | expect 1 "$fid" tee --on-error stop a fd:9 9>&-
	echo text | expect 1 env TMPDIR=no/such "$fid" tee --on-slow spill a /dev/null
	says '^fid tee: no/such (folder of the spill file): No such file or directory'
	says 'hint: the variable TMPDIR'
	echo text | expect 1 "$fid" tee --offset 5 a
	says '^fid tee: standard input (source): Illegal seek'
	echo text | expect 2 "$fid" tee --receipt-file ./a a
	[ "$(cat a)" = keep ]
	[ ! -s out ]
}
run files_keep_what_they_hold_when_nothing_can_begin

a_failing_sink_is_told_once_when_it_fails_and_the_others_go_on() {
	mkfifo in
	teed a /dev/full b < in > out 2> err &
	teed=$!
	exec 6> in
	echo one >&6
	until_true grep -q '^fid tee: /dev/full (sink): No space left on device' err
	until_true grep -q one a
	echo two >&6
	exec 6>&-
	status=0
	wait "$teed" || status=$?
	[ "$status" -eq 1 ]
	says '; 0 bytes delivered, 4 bytes were read and could not be delivered$'
	[ "$(grep -c 'No space' err)" -eq 1 ]
	[ "$(grep -c 'hint: ' err)" -eq 1 ]
	for file in a b out; do
		[ "$(cat "$file")" = "$(printf 'one\ntwo')" ]
	done
}
run a_failing_sink_is_told_once_when_it_fails_and_the_others_go_on

a_fifo_whose_reader_goes_away_is_left_and_the_others_get_all() {
	mkfifo fifo
	seq 300000 > input
	head -c 100000 fifo > half &
	expect 1 "$fid" tee a fifo b < input
	wait $!
	says '^fid tee: fifo (sink): Broken pipe while in .*; [0-9]* bytes delivered'
	says 'hint: whoever read the sink stopped'
	[ "$(grep -c 'Broken pipe' err)" -eq 1 ]
	for file in a b out; do
		same input "$file"
	done
	head -c 100000 input | cmp - half
}
run a_fifo_whose_reader_goes_away_is_left_and_the_others_get_all

on_error_continue_holds_for_standard_output_too() {
	seq 300000 > input
	{
		status=0
		teed --on-error continue a < input 2> err || status=$?
		echo "$status" > status
	} | head -n 1 > first
	same input a
	[ "$(cat status)" -eq 1 ]
	says '^fid tee: standard output (sink): Broken pipe'
	# The last one that fails ends it.
	{
		status=0
		yes | teed --on-error continue 2> err || status=$?
		echo "$status" > status
	} | head -n 1 > first
	[ "$(cat status)" -eq 1 ]
	[ "$(grep -c 'Broken pipe' err)" -eq 1 ]
}
run on_error_continue_holds_for_standard_output_too

where_sigpipe_is_ignored_a_broken_pipe_is_told() {
	seq 300000 > input
	(
		trap '' PIPE
		status=0
		teed a < input 2> err || status=$?
		echo "$status" > status
	) | head -n 1 > first
	same input a
	[ "$(cat status)" -eq 1 ]
	says '^fid tee: standard output (sink): Broken pipe'
}
run where_sigpipe_is_ignored_a_broken_pipe_is_told

on_error_stop_ends_all() {
	status=0
	yes | teed --on-error stop a /dev/full > out 2> err || status=$?
	[ "$status" -eq 1 ]
	says '^fid tee: /dev/full (sink): No space left on device'
	[ "$(grep -c -v hint err)" -eq 1 ]
	mkfifo fifo
	head -c 100000 fifo > /dev/null &
	status=0
	yes | teed --on-error stop --no-stdout --receipt=json fifo a \
		2> err || status=$?
	[ "$status" -eq 1 ]
	says '^fid tee: fifo (sink): Broken pipe'
	receipts err 'k["fifo"]["error"] == "EPIPE" and k["a"]["error"] is None'
	receipts err 's["error"] == "EPIPE" and s["error_side"] == "sink"'
}
run on_error_stop_ends_all

limit_and_offset_count_the_input() {
	seq 1000 > input
	# The rest stays in the pipe.
	cat input | {
		teed --limit 10 a > out
		cat > rest
	}
	head -c 10 input | cmp - a
	head -c 10 input | cmp - out
	tail -c +11 input | cmp - rest
	expect 0 "$fid" tee --offset 100 --limit 1K b < input
	tail -c +101 input | head -c 1024 | cmp - b
	expect 0 "$fid" tee --limit 0 c < input
	[ ! -s c ]
}
run limit_and_offset_count_the_input

help_fits_and_names_each_option() {
	for words in 'help tee' 'tee --help' 'tee -h'; do
		# The words are split on purpose.
		expect 0 "$fid" $words
		silent
		awk 'length($0) > 80 { print "too wide: " $0; exit 1 }' out
	done
	for option in append ignore-interrupts no-stdout on-slow stall spill-size on-error \
		output-error limit offset stable route pipe-size receipt receipt-file \
		progress no-progress help version; do
		grep -q -e "--$option" out || {
			echo "no --$option"
			return 1
		}
	done
	expect 0 "$fid" help
	grep -q '^  tee ' out
}
run help_fits_and_names_each_option

wrong_usage_is_status_2_and_touches_nothing() {
	echo keep > a
	for words in --on-slow=fast --on-slow= --on-error=hope --output-error=no --stall=2 \
		'--on-slow drop --stall 0' '--on-slow drop --stall 0.0001' \
		'--on-slow drop --stall -1' '--on-slow drop --stall 1s' \
		'--on-slow drop --stall .5' '--on-slow drop --stall 5000000' --spill-size=1M \
		'--on-slow spill --spill-size 0' '--on-slow spill --spill-size x' -x -z --stal \
		--require=by-reference '--receipt-file -' --append=1 --route=splice \
		--route=splice,read-write tcp:x fd: --bogus; do
		# The words are split on purpose.
		expect 2 "$fid" tee a $words < /dev/null
		says 'hint: '
	done
	expect 2 "$fid" tee --on-eror stop a < /dev/null
	says "hint: did you mean '--on-error'"
	expect 2 "$fid" tee --spil-size 1 a < /dev/null
	says "hint: did you mean '--spill-size'"
	expect 2 "$fid" tee --require by-reference a < /dev/null
	says 'require is for one sink'
	expect 2 "$fid" tee a --on-slow < /dev/null
	says "'--on-slow' wants a value"
	# The others do not have what tee has.
	for option in -a -i -p --no-stdout --on-slow=drop; do
		expect 2 "$fid" copy "$option" /dev/null b
		expect 2 "$fid" cat "$option" /dev/null
	done
	[ "$(cat a)" = keep ]
	[ ! -e b ]
}
run wrong_usage_is_status_2_and_touches_nothing

there_may_be_1024_sinks_and_no_more() {
	if [ "$(ulimit -H -n)" != unlimited ]; then
		[ "$(ulimit -H -n)" -ge 4000 ] || skip 'at most '"$(ulimit -H -n)"' descriptors'
	fi
	ulimit -S -n 4000
	seq 5000 > input
	# The words are split on purpose.
	expect 0 "$fid" tee $(seq 1023) < input
	for i in $(seq 1023); do
		same input "$i"
	done
	same input out
	expect 2 "$fid" tee $(seq 2001 3024) < input
	says 'at most 1024 sinks'
	[ ! -e 2001 ]
	expect 0 "$fid" tee --no-stdout $(seq 2001 3024) < input
	same input 3024
}
run there_may_be_1024_sinks_and_no_more

finish
