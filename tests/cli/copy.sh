# SPDX-License-Identifier: MIT
# What fid copy and fid cat do with files, and how they fail.
. "$(dirname "$0")/tap.sh"

copy_makes_an_equal_file_and_says_nothing() {
	bytes 3000001 > a
	expect 0 "$fid" copy a b
	same a b
	silent
	[ ! -s out ]
}
run copy_makes_an_equal_file_and_says_nothing

empty_and_tiny_files_are_copied() {
	: > empty
	printf x > tiny
	for file in empty tiny; do
		expect 0 "$fid" copy "$file" copy-of-it
		same "$file" copy-of-it
		silent
	done
}
run empty_and_tiny_files_are_copied

a_file_with_holes_is_copied_whole() {
	truncate -s 64M a
	printf middle | dd of=a bs=1 seek=30000000 conv=notrunc 2> /dev/null
	expect 0 "$fid" copy a b
	same a b
	"$fid" cat a | cmp - a
}
run a_file_with_holes_is_copied_whole

a_file_of_proc_is_copied_although_its_size_is_0() {
	expect 0 "$fid" copy /proc/self/mountinfo a
	[ -s a ]
	expect 0 "$fid" cat /proc/self/status
	grep -q '^Name:.*fid' out
}
run a_file_of_proc_is_copied_although_its_size_is_0

an_existing_sink_is_truncated_and_keeps_its_mode() {
	echo short > a
	bytes 100000 > b
	chmod 600 b
	chmod 644 a
	expect 0 "$fid" copy a b
	same a b
	[ "$(stat -c %a b)" = 600 ]
}
run an_existing_sink_is_truncated_and_keeps_its_mode

a_new_sink_has_the_mode_of_the_source_less_the_umask() {
	echo text > a
	chmod 4755 a
	umask 027
	expect 0 "$fid" copy a b
	[ "$(stat -c %a b)" = 750 ]
	echo text | expect 0 "$fid" copy - c
	[ "$(stat -c %a c)" = 640 ]
}
run a_new_sink_has_the_mode_of_the_source_less_the_umask

the_sink_is_not_truncated_when_the_source_cannot_be_opened() {
	echo keep > b
	expect 1 "$fid" copy missing b
	says '^fid copy: missing (source): No such file or directory$'
	[ "$(cat b)" = keep ]
	mkdir dir
	expect 1 "$fid" copy dir b
	says '^fid copy: dir (source): Is a directory$'
	[ "$(cat b)" = keep ]
	expect 1 "$fid" copy missing c
	[ ! -e c ]
}
run the_sink_is_not_truncated_when_the_source_cannot_be_opened

a_sink_that_is_a_directory_gets_the_file_by_its_name() {
	mkdir dir
	echo text > a
	expect 0 "$fid" copy a dir
	same a dir/a
	expect 0 "$fid" copy ./dir/../a dir/
	same a dir/a
	expect 1 "$fid" copy a no-dir/
	says 'no-dir/ (sink): No such file or directory'
	says 'hint: the folder of the sink must exist'
	echo text | expect 1 "$fid" copy - dir
	says '^fid copy: dir (sink): Is a directory'
	says 'hint: name a file in it'
	mkdir -p dir/a2/a
	expect 1 "$fid" copy a dir/a2
	says 'dir/a2/a (sink): Is a directory'
}
run a_sink_that_is_a_directory_gets_the_file_by_its_name

a_file_is_not_copied_onto_itself() {
	echo keep > a
	ln a hard
	ln -s a soft
	mkdir dir
	ln a dir/a
	for sink in a ./a hard soft dir; do
		expect 1 "$fid" copy a "$sink"
		says 'same file'
		expect 1 "$fid" copy --append a "$sink"
		says 'same file'
		[ "$(cat a)" = keep ]
	done
	expect 1 "$fid" copy soft hard
	says 'same file'
	[ "$(cat a)" = keep ]
	status=0
	timeout 5 "$fid" copy - a < a 2> err || status=$?
	[ "$status" -eq 1 ]
	[ "$(cat a)" = keep ]
	status=0
	timeout 5 "$fid" copy a - >> a 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'same file'
	[ "$(cat a)" = keep ]
}
run a_file_is_not_copied_onto_itself

cat_refuses_a_source_that_its_own_output_would_grow() {
	echo keep > a
	echo other > b
	status=0
	timeout 5 "$fid" cat a >> a 2> err || status=$?
	[ "$status" -eq 1 ]
	says '^fid cat: a (source): .*standard output'
	[ "$(cat a)" = keep ]
	status=0
	timeout 5 "$fid" cat a b >> a 2> err || status=$?
	[ "$status" -eq 1 ]
	[ "$(cat a)" = "$(printf 'keep\nother')" ]
}
run cat_refuses_a_source_that_its_own_output_would_grow

append_adds_to_the_end() {
	echo one > a
	echo two > b
	expect 0 "$fid" copy --append a c
	expect 0 "$fid" copy --append b c
	[ "$(cat c)" = "$(printf 'one\ntwo')" ]
	silent
}
run append_adds_to_the_end

two_that_append_at_once_lose_nothing() {
	yes aaaaaaaaaaaaaaa | head -c 4000000 > a
	yes bbbbbbbbbbbbbbb | head -c 4000000 > b
	: > c
	"$fid" copy --append a c &
	"$fid" copy --append b c
	wait $!
	[ "$(wc -c < c)" -eq 8000000 ]
	[ "$(tr -d '\nb' < c | wc -c)" -eq "$(tr -d '\n' < a | wc -c)" ]
}
run two_that_append_at_once_lose_nothing

limit_and_offset_choose_the_bytes() {
	bytes 300000 > a
	expect 0 "$fid" copy --offset 100000 --limit 150001 a b
	tail -c +100001 a | head -c 150001 | cmp - b
	expect 0 "$fid" copy --limit 0 a b
	[ ! -s b ]
	expect 0 "$fid" copy --offset 1M a b
	[ ! -s b ]
	expect 0 "$fid" cat --offset 299990 a
	tail -c 10 a | cmp - out
	bytes 500000 > d
	expect 0 "$fid" cat --limit 400000 a d
	cat a d | head -c 400000 | cmp - out
	expect 0 "$fid" cat --limit 10 a missing
	expect 2 "$fid" cat --offset 1 a d
	says 'one SOURCE only'
}
run limit_and_offset_choose_the_bytes

a_limit_leaves_the_rest_in_a_pipe() {
	bytes 100000 > a
	cat a | { "$fid" copy --limit 12345 - b && cat > c; }
	cat b c | cmp - a
	[ "$(wc -c < b)" -eq 12345 ]
}
run a_limit_leaves_the_rest_in_a_pipe

an_offset_into_a_pipe_is_an_error_that_says_so() {
	: | expect 1 "$fid" copy --offset 1 - b
	says '^fid copy: standard input (source): '
	says 'hint: --offset wants a source that can seek'
}
run an_offset_into_a_pipe_is_an_error_that_says_so

cat_joins_its_sources_and_standard_input() {
	bytes 70000 > a
	bytes 5 > b
	: > empty
	cat b | expect 0 "$fid" cat a - empty a
	cat a b a | cmp - out
	silent
	expect 0 "$fid" cat < a
	same a out
	"$fid" cat < a | "$fid" cat | cmp - a
}
run cat_joins_its_sources_and_standard_input

cat_goes_on_after_a_source_that_fails() {
	echo one > a
	mkdir dir
	expect 1 "$fid" cat a missing dir a
	[ "$(cat out)" = "$(printf 'one\none')" ]
	says '^fid cat: missing (source): No such file or directory$'
	says '^fid cat: dir (source): Is a directory$'
}
run cat_goes_on_after_a_source_that_fails

stable_and_each_route_copy_the_same_bytes() {
	bytes 2000000 > a
	expect 0 "$fid" copy --stable a b
	same a b
	expect 0 "$fid" copy --route read-write a b
	same a b
	expect 0 "$fid" copy --route splice-pipe,read_write a b
	same a b
	expect 0 "$fid" copy --route copy_file_range,sendfile,splice-pipe a b
	same a b
	"$fid" copy --route splice,read-write --pipe-size 16K a - | cmp - a
}
run stable_and_each_route_copy_the_same_bytes

a_route_that_leads_nowhere_is_status_1_and_touches_nothing() {
	echo text > a
	echo keep > b
	expect 1 "$fid" copy --route splice a b
	says 'no route of --route leads from a to b'
	says 'hint: allow more ways'
	[ "$(cat b)" = keep ]
	expect 1 "$fid" copy --route splice a c
	[ ! -e c ]
}
run a_route_that_leads_nowhere_is_status_1_and_touches_nothing

a_requirement_that_cannot_be_met_is_status_3_and_touches_nothing() {
	echo text > a
	echo keep > b
	expect 3 "$fid" copy --require no-user-copy --append a b
	says 'require no-user-copy cannot be met from a to b'
	[ "$(cat b)" = keep ]
	expect 3 "$fid" copy --require no-user-copy --route read-write a c
	[ ! -e c ]
	expect 3 "$fid" copy --require by-reference --stable a fd:1
	[ ! -s out ]
}
run a_requirement_that_cannot_be_met_is_status_3_and_touches_nothing

what_is_known_to_fail_leaves_an_existing_sink_as_it_was() {
	echo keep > b
	echo data | expect 1 "$fid" copy --offset 2 - b
	says 'hint: --offset wants a source that can seek'
	[ "$(cat b)" = keep ]
	status=0
	"$fid" copy fd:5 b 5> /dev/null 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'fd:5 (source): Bad file descriptor'
	[ "$(cat b)" = keep ]
	bytes 100000 > a
	expect 3 "$fid" copy --require by-reference a b
	says 'require by-reference cannot be met from a to b'
	[ "$(cat b)" = keep ]
}
run what_is_known_to_fail_leaves_an_existing_sink_as_it_was

a_missing_source_leaves_no_receipt() {
	expect 1 "$fid" copy --receipt-file r missing b
	[ ! -e r ]
	[ ! -e b ]
}
run a_missing_source_leaves_no_receipt

a_requirement_that_can_be_met_is() {
	bytes 500000 > a
	expect 0 "$fid" copy --require no-user-copy a b
	same a b
	"$fid" cat --require by-reference a | cmp - a
}
run a_requirement_that_can_be_met_is

a_full_sink_is_status_1_with_counts_and_a_hint() {
	bytes 100000 > a
	expect 1 "$fid" copy a /dev/full
	says '^fid copy: /dev/full (sink): No space left on device while in [a-z_]*; 0 bytes delivered'
	says '^fid copy: hint: make room'
}
run a_full_sink_is_status_1_with_counts_and_a_hint

a_file_size_limit_is_reported_and_the_delivered_bytes_are_exact() {
	bytes 300000 > a
	status=0
	(
		ulimit -f 200
		"$fid" copy - b < a 2> err
	) || status=$?
	[ "$status" -eq 1 ]
	says 'b (sink): File too large while in .*; [0-9]* bytes delivered'
	says 'hint: .*ulimit -f'
	delivered=$(sed -n 's/.*; \([0-9]*\) bytes delivered.*/\1/p' err)
	[ "$(wc -c < b)" -eq "$delivered" ]
	head -c "$delivered" a | cmp - b
}
run a_file_size_limit_is_reported_and_the_delivered_bytes_are_exact

held_bytes_of_a_failed_sink_are_told() {
	# The limit is half a KiB off, so that no chunk ends there and something is held.
	status=0
	(
		trap '' XFSZ
		ulimit -f 201
		bytes 300000 | "$fid" copy --route splice-pipe,read-write \
			--receipt=json --receipt-file r - b 2> err
	) || status=$?
	[ "$status" -eq 1 ]
	held=$(sed -n 's/.*, \([0-9]*\) bytes were read and could not be delivered.*/\1/p' err)
	[ "$held" -gt 0 ]
	receipt r "r['bytes_held'] == $held and r['bytes_out'] == $(wc -c < b)"
}
run held_bytes_of_a_failed_sink_are_told

permissions_are_reported_with_a_hint() {
	[ "$(id -u)" -ne 0 ] || command -v setpriv > /dev/null || skip 'root, and no setpriv(1)'
	echo text > a
	chmod 000 a
	# The test directory is its owner's alone; nobody reaches it through /proc/self/fd.
	chmod 755 .. .
	if [ "$(id -u)" -eq 0 ]; then
		cp "$fid" ../fid && chmod 755 ../fid
		expect 1 setpriv --reuid 65534 --clear-groups ../fid copy a /dev/null
	else
		expect 1 "$fid" copy a /dev/null
	fi
	says 'a (source): Permission denied'
	says 'hint: check the permissions of the name and of the folders above it$'
}
run permissions_are_reported_with_a_hint

a_port_that_wants_privileges_is_reported_as_one() {
	[ "$(id -u)" -eq 0 ] || skip 'needs root, to become somebody else'
	[ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" -gt 1 ] ||
		skip 'ports want no privileges here'
	chmod 755 .. .
	cp "$fid" ../fid && chmod 755 ../fid
	expect 1 setpriv --reuid 65534 --clear-groups ../fid copy tcp-listen:127.0.0.1:1 /dev/null
	says '^fid copy: tcp-listen:127.0.0.1:1 (source): Permission denied while in listen$'
	says 'hint: ports below 1024 want privileges'
	[ "$(wc -l < err)" -eq 2 ]
}
run a_port_that_wants_privileges_is_reported_as_one

a_missing_folder_of_the_sink_is_reported() {
	expect 1 "$fid" copy /dev/null no/such/folder
	says '^fid copy: no/such/folder (sink): No such file or directory$'
	says 'folder of the sink must exist'
}
run a_missing_folder_of_the_sink_is_reported

closed_standard_descriptors_are_bad_descriptors() {
	echo text > a
	status=0
	"$fid" cat a >&- 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'standard output (sink): Bad file descriptor'
	status=0
	"$fid" copy - b <&- 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'standard input (source): Bad file descriptor'
	# A message must not go into a file that took the place of standard error.
	status=0
	"$fid" copy a b 2>&- || status=$?
	[ "$status" -eq 0 ]
	same a b
	status=0
	"$fid" copy a /dev/full 2>&- || status=$?
	[ "$status" -eq 1 ]
}
run closed_standard_descriptors_are_bad_descriptors

a_descriptor_in_the_wrong_direction_is_reported() {
	echo text > a
	status=0
	"$fid" copy fd:3 b 3> c 2> err || status=$?
	[ "$status" -eq 1 ]
	says 'fd:3 (source): Bad file descriptor'
	expect 1 "$fid" copy a fd:77
	says '^fid copy: fd:77 (sink): Bad file descriptor$'
	says 'hint: the descriptor is closed'
}
run a_descriptor_in_the_wrong_direction_is_reported

a_reader_that_goes_away_ends_cat_by_sigpipe_and_quietly() {
	# The status of timeout(1) itself would hide it.
	for command in cat copy; do
		{
			status=0
			if [ "$command" = cat ]; then
				"$fid" cat /dev/zero 2> err || status=$?
			else
				"$fid" copy /dev/zero - 2> err || status=$?
			fi
			echo "$status" > status
		} | head -c 10 > /dev/null
		[ "$(cat status)" -eq 141 ]
		silent
	done
}
run a_reader_that_goes_away_ends_cat_by_sigpipe_and_quietly

a_reader_that_goes_away_is_an_error_where_sigpipe_is_ignored() {
	{
		status=0
		trap '' PIPE
		"$fid" cat /dev/zero 2> err || status=$?
		echo "$status" > status
	} | head -c 10 > /dev/null
	[ "$(cat status)" -eq 1 ]
	says 'standard output (sink): Broken pipe'
}
run a_reader_that_goes_away_is_an_error_where_sigpipe_is_ignored

finish
