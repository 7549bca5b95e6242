# SPDX-License-Identifier: MIT
# Several sources of fid copy: into one sink, and into a folder.
. "$(dirname "$0")/tap.sh"

several_sources_are_joined_in_order_with_one_receipt() {
	bytes 300000 > a
	bytes 7 > b
	: > empty
	bytes 100000 > sink
	expect 0 "$fid" copy --receipt=json a b empty a sink
	cat a b a | cmp - sink
	[ "$(wc -l < err)" -eq 1 ]
	receipt err 'r["bytes_out"] == 600007 == r["bytes_in"]'
	expect 0 "$fid" copy --append b a sink
	cat a b a b a | cmp - sink
	expect 0 "$fid" copy --limit 300010 a b a sink
	cat a b a | head -c 300010 | cmp - sink
	silent
}
run several_sources_are_joined_in_order_with_one_receipt

several_sources_are_joined_in_a_pipe_a_fifo_and_a_connection() {
	bytes 100000 > a
	bytes 70000 > b
	cat b | "$fid" copy a - a - | cmp - a 2> err || :
	says 'cmp: EOF on a'
	cat b | "$fid" copy a - a - > c
	cat a b a | cmp - c
	mkfifo fifo
	cat fifo > c &
	expect 0 "$fid" copy b a fifo
	wait $!
	cat b a | cmp - c
	"$fid" copy unix-listen:socket c &
	until_true test -S socket
	expect 0 "$fid" copy a b a unix:socket
	wait $!
	cat a b a | cmp - c
}
run several_sources_are_joined_in_a_pipe_a_fifo_and_a_connection

a_source_that_cannot_be_read_is_told_of_before_the_sink_is_emptied() {
	echo keep > sink
	echo text > a
	mkdir dir
	for bad in missing dir dir/missing fd:77; do
		expect 1 "$fid" copy a "$bad" sink
		says "^fid copy: $bad (source): "
		[ "$(cat sink)" = keep ]
		expect 1 "$fid" copy a "$bad" new
		[ ! -e new ]
	done
	expect 2 "$fid" copy a tcp:x sink
	[ "$(cat sink)" = keep ]
}
run a_source_that_cannot_be_read_is_told_of_before_the_sink_is_emptied

a_source_that_fails_on_the_way_ends_the_one_sink() {
	echo one > a
	# It can be opened, and reading it fails: the memory of a process from 0 on.
	expect 1 "$fid" copy a /proc/self/mem a sink
	says '^fid copy: /proc/self/mem (source): '
	[ "$(cat sink)" = one ]
	expect 1 "$fid" cat a /proc/self/mem a
	[ "$(cat out)" = "$(printf 'one\none')" ]
}
run a_source_that_fails_on_the_way_ends_the_one_sink

a_source_that_is_the_sink_is_refused_before_anything_is_lost() {
	echo one > a
	echo keep > sink
	ln sink hard
	ln -s sink soft
	for source in sink ./sink hard soft; do
		for option in --no-progress --append; do
			expect 1 "$fid" copy $option a "$source" sink
			says "$source and the sink are the same file; nothing was done"
			expect 1 "$fid" copy $option "$source" a sink
			says 'same file; nothing was done'
			[ "$(cat sink)" = keep ]
		done
	done
	status=0
	"$fid" copy a sink - >> sink 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'sink and the sink are the same file'
	[ "$(cat sink)" = keep ]
	# Into what is empty, and grows while the first one is moved.
	: > sink
	status=0
	timeout 5 "$fid" copy a sink - >> sink 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'sink (source): it is standard output as well'
	[ "$(cat sink)" = one ]
}
run a_source_that_is_the_sink_is_refused_before_anything_is_lost

a_receipt_does_not_go_into_one_of_several_sources() {
	echo keep > a
	echo keep > b
	mkdir dir
	echo keep > dir/b
	expect 2 "$fid" copy --receipt-file b a b sink
	says 'receipt would go into b'
	[ ! -e sink ]
	for file in a b dir/b; do
		expect 1 "$fid" copy --receipt-file "$file" a b dir
		says 'the receipt'
		says 'same file'
		[ ! -e dir/a ]
	done
	for file in a b dir/b; do
		[ "$(cat "$file")" = keep ]
	done
}
run a_receipt_does_not_go_into_one_of_several_sources

what_is_known_to_fail_leaves_the_sink_of_several_as_it_was() {
	bytes 100000 > a
	echo keep > sink
	expect 3 "$fid" copy --require by-reference a a sink
	[ "$(cat sink)" = keep ]
	expect 3 "$fid" copy --require by-reference a a new
	[ ! -e new ]
	mkdir dir
	bytes 100000 > b
	expect 3 "$fid" copy --require no-user-copy --route read-write a b dir
	[ -z "$(ls dir)" ]
}
run what_is_known_to_fail_leaves_the_sink_of_several_as_it_was

several_sources_go_into_a_folder_under_their_own_names() {
	bytes 300000 > a
	bytes 1000 > b
	mkdir sub dir
	: > sub/empty
	chmod 600 b
	echo old > dir/a
	expect 0 "$fid" copy --receipt=json a ./b sub/empty dir
	same a dir/a
	same b dir/b
	same sub/empty dir/empty
	[ "$(stat -c %a dir/b)" = 600 ]
	[ "$(wc -l < err)" -eq 1 ]
	receipt err 'r["bytes_out"] == 301000'
	expect 0 "$fid" copy --append a b dir/
	cat a a | cmp - dir/a
	silent
}
run several_sources_go_into_a_folder_under_their_own_names

a_source_that_fails_does_not_keep_the_others_from_a_folder() {
	echo one > a
	echo two > b
	mkdir dir nothing
	mkdir dir/nothing dir/b
	expect 1 "$fid" copy missing nothing b a dir
	says '^fid copy: missing (source): No such file'
	says '^fid copy: nothing (source): Is a directory'
	says '^fid copy: dir/b (sink): Is a directory'
	same a dir/a
}
run a_source_that_fails_does_not_keep_the_others_from_a_folder

a_folder_takes_only_names_that_differ() {
	echo one > a
	mkdir sub dir
	echo two > sub/a
	expect 1 "$fid" copy a sub/a dir
	says 'a and sub/a would both be dir/a; nothing was done'
	expect 1 "$fid" copy a a dir
	[ -z "$(ls dir)" ]
	# No name, and so none there.
	expect 1 "$fid" copy a - dir < sub/a
	says 'dir (sink): Is a directory'
	[ -z "$(ls dir)" ]
	expect 2 "$fid" copy --limit 1 a sub/a dir
	says 'limit wants one SOURCE'
}
run a_folder_takes_only_names_that_differ

no_file_in_a_folder_is_written_that_is_still_to_be_read() {
	mkdir dir
	echo one > a
	echo two > dir/keep
	# dir/a is the second source by another name: it would be empty when its turn comes.
	ln dir/keep dir/a
	expect 1 "$fid" copy a dir/keep dir
	says 'same file; nothing was done'
	expect 1 "$fid" copy a dir/a dir
	rm dir/a
	ln -s keep dir/a
	expect 1 "$fid" copy dir/keep a dir
	says 'same file; nothing was done'
	expect 1 "$fid" copy a ./keep dir
	[ "$(cat dir/keep)" = two ]
	# Two that would be written are one.
	echo three > keep
	expect 1 "$fid" copy a keep dir
	says 'dir/a (sink) and dir/keep (sink)\|dir/keep (sink) and dir/a (sink)'
	[ "$(cat dir/keep)" = two ]
}
run no_file_in_a_folder_is_written_that_is_still_to_be_read

no_file_that_is_new_in_a_folder_is_written_twice() {
	for name in one two three; do
		echo $name > $name
	done
	mkdir dir
	# Neither is there when they are looked at, and both are the same file.
	ln -s ../new dir/one
	ln -s ../new dir/three
	expect 1 "$fid" copy one two three dir
	says '^fid copy: dir/three (sink): it has the bytes of another source already'
	same one new
	same two dir/two
	# One name leads to the file that another one makes.
	rm dir/*
	ln -s one dir/two
	expect 1 "$fid" copy one two dir
	same one dir/one
}
run no_file_that_is_new_in_a_folder_is_written_twice

a_signal_ends_several_sources_with_one_receipt() {
	echo one > a
	mkfifo fifo
	sleep 20 > fifo &
	status=0
	timeout -s INT --preserve-status 0.5 "$fid" copy --receipt=json a fifo a sink 2> err ||
		status=$?
	[ "$status" -eq 130 ]
	says '^fid copy: interrupted: 4 bytes delivered'
	receipt err 'r["bytes_out"] == 4'
	[ "$(cat sink)" = one ]
}
run a_signal_ends_several_sources_with_one_receipt

a_signal_between_two_small_sources_is_told_of_as_well() {
	echo x > x
	# Of so many, most of the time none is being moved.
	many=$(yes x | head -n 100000)
	for i in 1 2 3 4 5 6 7 8; do
		rm -f out
		"$fid" cat --receipt=json $many > out 2> err &
		until_true [ -s out ]
		kill $!
		status=0
		wait $! || status=$?
		[ "$status" -ne 0 ] || skip "it was over too soon"
		[ "$status" -eq 143 ]
		says '^fid cat: interrupted: '
		receipt err "r['bytes_out'] == $(wc -c < out)"
	done
}
run a_signal_between_two_small_sources_is_told_of_as_well

progress_counts_all_sources() {
	# 1.5 MiB through a pipe whose reader takes its time.
	bytes 500000 > a
	{
		expect 0 "$terminal" 80 "$fid" copy --progress a a a fd:3
	} 3>&1 > /dev/null | {
		for _ in 1 2 3 4; do
			sleep 0.4
			head -c 300000 > /dev/null
		done
		cat > /dev/null
	}
	tr '\r' '\n' < err > lines
	grep -q '% \[' lines
	! grep -q '100%' lines
}
run progress_counts_all_sources

progress_does_not_take_a_file_for_standard_input() {
	bytes 600000 > a
	truncate -s 100M ./-
	echo text | expect 0 "$fid" copy --rate-limit 300K --progress a - b
	grep -q 'KiB/s' err
	! grep -q '%' err
}
run progress_does_not_take_a_file_for_standard_input

finish
