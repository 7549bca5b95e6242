# SPDX-License-Identifier: MIT
# Receipts, signals and the progress line.
. "$(dirname "$0")/tap.sh"

a_receipt_is_one_line_on_standard_error() {
	bytes 1000000 > a
	expect 0 "$fid" copy --receipt a b
	[ "$(wc -l < err)" -eq 1 ]
	[ ! -s out ]
	expect 0 "$fid" copy --receipt=text a b
	[ "$(wc -l < err)" -eq 1 ]
	expect 0 "$fid" copy --receipt=json a b
	[ "$(wc -l < err)" -eq 1 ]
	receipt err 'r["bytes_out"] == 1000000'
	python3 -m json.tool err > /dev/null
}
run a_receipt_is_one_line_on_standard_error

a_receipt_goes_into_a_file_and_replaces_what_was_there() {
	bytes 1000 > a
	bytes 50000 > r
	expect 0 "$fid" copy --receipt=json --receipt-file r a b
	silent
	[ "$(wc -l < r)" -eq 1 ]
	receipt r 'r["bytes_out"] == 1000'
	expect 0 "$fid" copy --receipt-file r2 a b
	[ "$(wc -l < r2)" -eq 1 ]
	expect 0 "$fid" copy --receipt=json --receipt-file - a b
	receipt out 'r["bytes_out"] == 1000'
	silent
}
run a_receipt_goes_into_a_file_and_replaces_what_was_there

a_receipt_does_not_go_where_the_bytes_are() {
	echo keep > a
	expect 2 "$fid" copy --receipt-file - a -
	says 'standard output is the SINK'
	[ ! -s out ]
	expect 2 "$fid" copy --receipt-file - a fd:1
	expect 2 "$fid" cat --receipt-file - a
	expect 2 "$fid" copy --receipt-file a a b
	says 'receipt would go'
	[ "$(cat a)" = keep ]
	[ ! -e b ]
	echo keep > c
	expect 2 "$fid" copy --receipt-file ./c a c
	[ "$(cat c)" = keep ]
	expect 1 "$fid" cat --receipt-file a a
	[ "$(tail -n 1 err | grep -c 'receipt would go')" -eq 1 ]
	[ "$(cat a)" = keep ]
	expect 1 "$fid" copy --receipt-file no/such/folder a d
	says 'no/such/folder (receipt): No such file'
	[ ! -e d ]
}
run a_receipt_does_not_go_where_the_bytes_are

a_receipt_that_is_not_written_leaves_no_file() {
	bytes 1000 > a
	mkdir sub dir
	cp a sub/a
	expect 2 "$fid" copy --receipt-file new a new
	expect 1 "$fid" copy --receipt-file r a missing/b
	expect 1 "$fid" copy --receipt-file r a sub/a dir
	expect 1 "$fid" cat --receipt-file r missing
	expect 1 "$fid" tee --no-stdout --receipt-file r missing/b < a
	[ ! -e new ]
	[ ! -e r ]
	# What was there stays.
	: > r
	expect 1 "$fid" copy --receipt-file r a missing/b
	[ -e r ]
}
run a_receipt_that_is_not_written_leaves_no_file

the_receipt_of_cat_is_the_sum_of_all_sources() {
	bytes 100000 > a
	bytes 7 > b
	bytes 2000000 > c
	expect 0 "$fid" cat --receipt=json --receipt-file r a b c b
	receipt r 'r["bytes_out"] == 2100014 == r["bytes_in"]'
	"$fid" cat --receipt=json --receipt-file r a b c b | cat > /dev/null
	receipt r 'r["bytes_out"] == 2100014 == r["bytes_in"]'
	expect 1 "$fid" cat --receipt=json --receipt-file r a missing b
	receipt r 'r["bytes_out"] == 100007'
}
run the_receipt_of_cat_is_the_sum_of_all_sources

a_failed_transfer_has_a_receipt() {
	bytes 100000 > a
	expect 1 "$fid" copy --receipt=json --receipt-file r a /dev/full
	receipt r 'r["bytes_out"] == 0 and "ENOSPC" in json.dumps(r) and "sink" in json.dumps(r)'
	expect 3 "$fid" copy --require no-user-copy --append --receipt=json --receipt-file r a b
	receipt r 'r["bytes_in"] == 0'
}
run a_failed_transfer_has_a_receipt

a_receipt_of_a_reader_that_went_away_is_still_written() {
	{
		"$fid" cat --receipt=json --receipt-file r /dev/zero || :
	} | head -c 100000 > /dev/null
	receipt r 'r["bytes_out"] >= 100000'
}
run a_receipt_of_a_reader_that_went_away_is_still_written

append_has_a_receipt_that_says_user_copy() {
	bytes 100000 > a
	: > b
	expect 0 "$fid" copy --append --receipt a b
	says 'O_APPEND'
}
run append_has_a_receipt_that_says_user_copy

# stop SIGNAL STATUS: an endless transfer that is ended so.
stop() {
	mkfifo fifo
	sleep 20 > fifo &
	sleeper=$!
	# Bytes come for ever from one, and never from the other.
	for source in /dev/zero fifo; do
		# A shell without job control has its background jobs ignore SIGINT.
		status=0
		timeout -s "$1" --preserve-status 0.5 "$fid" copy --receipt=json "$source" \
			/dev/null 2> err || status=$?
		[ "$status" -eq "$2" ]
		says '^fid copy: interrupted: [0-9]* bytes delivered'
		receipt err 'r["bytes_out"] >= 0'
		delivered=$(sed -n 's/.*interrupted: \([0-9]*\) bytes.*/\1/p' err)
		receipt err "r['bytes_out'] == $delivered"
	done
	[ "$delivered" -eq 0 ]
	kill "$sleeper"
}

sigint_ends_with_an_exact_receipt_and_status_130() {
	stop INT 130
}
run sigint_ends_with_an_exact_receipt_and_status_130

sigterm_ends_with_an_exact_receipt_and_status_143() {
	stop TERM 143
}
run sigterm_ends_with_an_exact_receipt_and_status_143

sighup_ends_with_an_exact_receipt_and_status_129() {
	stop HUP 129
}
run sighup_ends_with_an_exact_receipt_and_status_129

a_signal_ends_a_transfer_into_a_pipe_that_nobody_reads() {
	mkfifo fifo
	sleep 20 < fifo &
	sleeper=$!
	bytes 4000000 > a
	for source in a /dev/zero; do
		status=0
		timeout -s INT --preserve-status 0.5 "$fid" cat --receipt=json "$source" \
			> fifo 2> err || status=$?
		[ "$status" -eq 130 ]
		receipt err 'r["bytes_in"] >= r["bytes_out"]'
	done
	kill "$sleeper"
}
run a_signal_ends_a_transfer_into_a_pipe_that_nobody_reads

an_ignored_signal_stays_ignored() {
	(
		trap '' HUP
		mkfifo fifo
		"$fid" copy fifo b 2> err &
		echo $! > pid
		exec 3> fifo
		sleep 0.3
		kill -HUP "$(cat pid)"
		sleep 0.3
		echo text >&3
		exec 3>&-
		wait "$(cat pid)"
	)
	[ "$(cat b)" = text ]
	silent
}
run an_ignored_signal_stays_ignored

a_stop_and_continue_changes_nothing() {
	bytes 300000 > a
	mkfifo fifo
	"$fid" copy fifo b 2> err &
	pid=$!
	exec 3> fifo
	head -c 100000 a >&3
	kill -STOP "$pid"
	kill -CONT "$pid"
	tail -c +100001 a >&3
	exec 3>&-
	wait "$pid"
	same a b
	silent
}
run a_stop_and_continue_changes_nothing

# fits COLUMNS: no line on the terminal reaches the last column, and nothing but lines.
fits() {
	tr '\r' '\n' < err > lines
	awk -v most=$(($1 - 1)) 'length($0) > most { print "too long: " $0; exit 1 }' lines
	if LC_ALL=C grep -q '[^ -~]' lines; then
		echo 'not printable:'
		cat -v lines
		return 1
	fi
}

a_progress_line_fits_the_terminal_and_is_cleared() {
	for columns in 80 40 20 9 3; do
		drip 7 | expect 0 "$terminal" "$columns" "$fid" copy --limit 700000 - b
		[ "$(wc -c < b)" -eq 700000 ]
		fits "$columns"
		[ "$columns" -lt 10 ] || says 'KiB'
		[ "$columns" -lt 40 ] || says '% .*KiB/s  [0-9]*:[0-9]* left'
		[ "$columns" -ne 80 ] || says '\[=*>* *\]'
		# The last thing is a line of spaces between two returns.
		[ "$(tail -n 1 lines | tr -d ' ')" = '' ]
		tail -c 1 err | od -c | grep -q '\\r'
	done
}
run a_progress_line_fits_the_terminal_and_is_cleared

a_source_without_a_size_has_no_bar() {
	drip 6 | expect 0 "$terminal" 80 "$fid" copy - b
	says 'KiB/s  0:01'
	if grep -q '[%[]' err; then
		return 1
	fi
}
run a_source_without_a_size_has_no_bar

a_short_job_shows_no_progress() {
	bytes 100000 > a
	expect 0 "$terminal" 80 "$fid" copy a b
	silent
}
run a_short_job_shows_no_progress

no_progress_is_obeyed() {
	drip 6 | expect 0 "$terminal" 80 "$fid" copy --no-progress - b
	silent
}
run no_progress_is_obeyed

a_pipe_on_standard_output_and_cat_show_no_progress_by_themselves() {
	drip 6 | "$terminal" 80 "$fid" copy - - 2> err | cat > /dev/null
	silent
	drip 6 | expect 0 "$terminal" 80 "$fid" cat
	silent
	drip 6 | expect 0 "$terminal" 80 "$fid" cat --progress
	says 'KiB/s'
}
run a_pipe_on_standard_output_and_cat_show_no_progress_by_themselves

progress_without_a_terminal_is_plain_lines_and_only_when_asked_for() {
	drip 6 | expect 0 "$fid" copy - b
	silent
	drip 6 | expect 0 "$fid" copy --progress - b
	[ "$(wc -l < err)" -ge 2 ]
	if LC_ALL=C grep -q '[^ -~]' err; then
		return 1
	fi
	tail -n 1 err | grep -q '586 KiB'
}
run progress_without_a_terminal_is_plain_lines_and_only_when_asked_for

an_interrupted_transfer_clears_the_progress_line_first() {
	drip 10 | expect 130 "$terminal" 80 timeout --foreground -s INT --preserve-status 1.6 \
		"$fid" copy - b
	tr '\r' '\n' < err > lines
	says 'KiB/s'
	grep -q '^fid copy: interrupted: [0-9]* bytes delivered' lines
	[ "$(grep -B 1 interrupted lines | head -n 1 | tr -d ' ')" = '' ]
}
run an_interrupted_transfer_clears_the_progress_line_first

finish
