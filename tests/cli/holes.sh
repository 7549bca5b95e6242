# SPDX-License-Identifier: MIT
# --sparse and --sync. sh holes.sh FID TERMINAL MIRROR, a file system by libfuse; or "none".
mirror=$3
. "$(dirname "$0")/tap.sh"
[ "$mirror" = none ] || mirror=$(realpath "$mirror")

# put FILE OFFSET TEXT
put() {
	printf %s "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# blocks FILE: of 512 bytes.
blocks() {
	stat -c %b "$1"
}

# hollow FILE: 64 MiB of which little is data, and a hole at its end.
hollow() {
	truncate -s 64M "$1"
	put "$1" 5 first
	put "$1" 30000000 middle
	[ "$(blocks "$1")" -lt 1000 ] || skip 'the file system has no holes'
	"$fid" copy --sparse --receipt=json --receipt-file told "$1" told-of
	receipt told 'r["hole_bytes"] > 0 or r["route"] == "reflink"' ||
		skip 'the file system does not tell of holes'
	rm told told-of
}

# moved: the receipt of the whole of a hollow file.
moved() {
	receipt "$1" 'r["hole_bytes"] + r["bytes_out"] == 67108864'
	receipt "$1" 'r["bytes_out"] < 1000000 or r["route"] == "reflink"'
}

sparse_leaves_holes_as_holes_and_says_how_many() {
	hollow a
	bytes 100000 > b
	expect 0 "$fid" copy --sparse --receipt=json a b
	same a b
	[ "$(blocks b)" -le "$(blocks a)" ]
	moved err
	expect 0 "$fid" copy --sparse --receipt a c
	says 'MiB of holes left as holes\.$\|with reflink'
	# Without the option holes are bytes like others.
	expect 0 "$fid" copy --route splice-pipe --receipt=json a d
	receipt err 'r["bytes_out"] == 67108864 and "hole_bytes" not in r'
}
run sparse_leaves_holes_as_holes_and_says_how_many

sparse_copies_what_has_no_holes_and_what_is_one_hole() {
	bytes 3000001 > a
	expect 0 "$fid" copy --sparse --receipt=json a b
	same a b
	receipt err 'r["hole_bytes"] == 0 and r["bytes_out"] == 3000001'
	: > a
	expect 0 "$fid" copy --sparse a b
	[ ! -s b ]
	hollow c
	truncate -s 0 a
	truncate -s 5M a
	expect 0 "$fid" copy --sparse --receipt=json a b
	same a b
	[ "$(blocks b)" -eq 0 ]
	receipt err 'r["hole_bytes"] + r["bytes_out"] == 5 << 20'
}
run sparse_copies_what_has_no_holes_and_what_is_one_hole

sparse_obeys_offset_and_limit_which_count_holes() {
	hollow a
	for range in '0 3' '3 4' '0 1M' '1M 1M' '1M 32M' '29999999 3' '20M 100M' '60M 1M' \
		'65M 1M' '0 0'; do
		expect 0 "$fid" copy --sparse --offset "${range% *}" --limit "${range#* }" a b
		"$fid" cat --offset "${range% *}" --limit "${range#* }" a | cmp - b
		[ "$(blocks b)" -le 64 ]
	done
	expect 0 "$fid" copy --sparse --receipt=json --offset 1M --limit 1M a b
	receipt err 'r["hole_bytes"] == 1 << 20 and r["bytes_out"] == 0 and r["stable"]'
	[ "$(wc -c < b)" -eq 1048576 ]
}
run sparse_obeys_offset_and_limit_which_count_holes

sparse_joins_sources_and_goes_into_folders() {
	hollow a
	bytes 1000 > b
	expect 0 "$fid" copy --sparse a b a c
	cat a b a | cmp - c
	[ "$(blocks c)" -lt 1000 ]
	expect 0 "$fid" cat --sparse --receipt=json a b a
	cat a b a | cmp - out
	[ "$(blocks out)" -lt 1000 ]
	receipt err 'r["hole_bytes"] + r["bytes_out"] == 2 * 67108864 + 1000'
	expect 0 "$fid" cat --sparse --limit 70000000 a b a
	cat a b a | head -c 70000000 | cmp - out
	mkdir dir
	expect 0 "$fid" copy --sparse a b dir
	same a dir/a
	same b dir/b
	[ "$(blocks dir/a)" -lt 1000 ]
}
run sparse_joins_sources_and_goes_into_folders

sparse_moves_the_offsets_of_descriptors() {
	hollow a
	{
		"$fid" copy --sparse --limit 40000000 - b
		"$fid" copy --sparse - c
	} < a
	cat b c | cmp - a
	{
		"$fid" copy --sparse a -
		echo end
	} > b
	{
		cat a
		echo end
	} | cmp - b
	[ "$(blocks b)" -lt 1000 ]
}
run sparse_moves_the_offsets_of_descriptors

sparse_does_not_believe_a_size_that_is_wrong() {
	expect 0 "$fid" copy --sparse /proc/self/mountinfo a
	cmp -s a /proc/self/mountinfo || [ -s a ]
	file=
	for one in /sys/kernel/uevent_seqnum /sys/kernel/mm/transparent_hugepage/enabled \
		/sys/kernel/profiling /sys/kernel/kexec_loaded; do
		[ ! -r "$one" ] || file=$one
	done
	[ -n "$file" ] || skip 'no file of /sys can be read here'
	expect 0 "$fid" copy --sparse "$file" b
	cat "$file" > c
	same b c
	silent
}
run sparse_does_not_believe_a_size_that_is_wrong

sparse_wants_files_and_touches_nothing_else() {
	echo keep > b
	hollow a
	mkfifo fifo
	echo text | expect 2 "$fid" copy --sparse - b
	says 'standard input (source): --sparse wants a file'
	for source in fifo /dev/zero tcp:localhost:1 unix:x; do
		expect 2 "$fid" copy --sparse "$source" b
		expect 2 "$fid" copy --sparse a "$source" b
		says '(source): --sparse wants a file'
	done
	[ "$(cat b)" = keep ]
	for sink in fifo /dev/null tcp:localhost:1 unix-listen:x; do
		expect 2 "$fid" copy --sparse a "$sink"
		says '(sink): --sparse wants a file'
	done
	expect 2 "$fid" copy --sparse --append a b
	says 'do not go together'
	status=0
	"$fid" cat --sparse a >> b 2> err || status=$?
	[ "$status" -eq 2 ]
	says 'O_APPEND'
	# A hole there would show what was there.
	status=0
	"$fid" cat --sparse a 1<> b 2> err || status=$?
	[ "$status" -eq 2 ]
	says 'ends where the bytes go'
	[ "$(cat b)" = keep ]
	"$fid" cat --sparse a 2> err | cat || :
	says 'standard output (sink): --sparse wants a file'
	expect 2 "$fid" tee --sparse b < a
	[ "$(cat b)" = keep ]
}
run sparse_wants_files_and_touches_nothing_else

a_sparse_copy_that_fails_has_an_exact_receipt() {
	hollow a
	status=0
	(
		trap '' XFSZ
		ulimit -f 40000
		"$fid" copy --sparse --route splice-pipe,read-write --receipt=json a b 2> err
	) || status=$?
	[ "$status" -eq 1 ]
	says 'b (sink): File too large'
	receipt err 'r["error"] == "EFBIG" and r["error_side"] == "sink"'
	expect 3 "$fid" copy --sparse --require no-user-copy --route read-write a c
	[ ! -e c ]
}
run a_sparse_copy_that_fails_has_an_exact_receipt

sync_has_a_receipt_that_tells_how_long_it_took() {
	bytes 100000 > a
	expect 0 "$fid" copy --sync --receipt=json a b
	same a b
	receipt err 'r["sync_seconds"] > 0 and r["error"] is None'
	expect 0 "$fid" copy --sync --receipt a b
	says '; on the disk after [0-9.]* ms more\.$'
	expect 0 "$fid" cat --sync a
	same a out
	ln -s nowhere link
	expect 0 "$fid" copy --sync --sparse a link
	same a nowhere
	mkdir dir
	expect 0 "$fid" copy --sync a b dir
}
run sync_has_a_receipt_that_tells_how_long_it_took

sync_wants_what_can_be_synced_and_touches_nothing_else() {
	echo text > a
	mkfifo fifo
	for sink in fifo /dev/null - fd:1 tcp:localhost:1 tcp-listen:0 unix-listen:x; do
		status=0
		{
			timeout 5 "$fid" copy --sync a "$sink" 2> err || echo $? > status
		} | cat > out
		[ "$(cat status)" -eq 2 ]
		says '(sink): --sync wants a file or a disk'
		[ ! -s out ]
		rm status
	done
	[ ! -e x ]
	"$fid" cat --sync a 2> err | cat > out
	says 'standard output (sink): --sync wants'
	expect 2 "$fid" tee --sync b < a
	says "no --sync"
	[ ! -e b ]
}
run sync_wants_what_can_be_synced_and_touches_nothing_else

# on_mirror SCRIPT: with ./inside mounted by libfuse on ./mounted, and what it says in ./server.
on_mirror() {
	begin_on_mirror
	echo 'fid=$2' >> script
	cat >> script
	status=0
	timeout 60 sh script "$mirror" "$fid" || status=$?
	[ "$status" != 77 ] || skip "a FUSE mount is refused here"
	[ "$status" = 0 ]
}

a_file_system_that_tells_of_no_hole_gets_a_whole_copy_and_a_hint() {
	on_mirror << 'END'
truncate -s 3M inside/a
"$fid" copy --sparse --receipt=json mounted/a b 2> err
cmp inside/a b
END
	receipt err 'r["hole_bytes"] == 0 and r["bytes_out"] == 3 << 20'
	says 'mounted/a has fewer blocks than bytes'
	says 'fallocate --dig-holes b'
}
run a_file_system_that_tells_of_no_hole_gets_a_whole_copy_and_a_hint

sync_reaches_the_file_and_the_folder_of_a_new_one() {
	on_mirror << 'END'
echo text > a
"$fid" copy a mounted/none
[ ! -s server ]
"$fid" copy --sync a mounted/new
grep -x 'fsync /new' server
grep -x 'fsyncdir /' server
: > server
"$fid" copy --sync a mounted/new
grep -x 'fsync /new' server
[ "$(grep -c fsyncdir server)" -eq 0 ]
"$fid" cat --sync a > mounted/out
grep -x 'fsync /out' server
END
}
run sync_reaches_the_file_and_the_folder_of_a_new_one

what_cannot_be_synced_is_a_failure_of_the_sink() {
	on_mirror << 'END'
echo text > a
status=0
"$fid" copy --sync --receipt=json a mounted/bad 2> err || status=$?
[ "$status" -eq 1 ]
mkdir inside/bad-folder-is-bad
status=0
"$fid" copy --sync a mounted/bad-folder-is-bad/a 2> folder || status=$?
[ "$status" -eq 1 ]
END
	says '^fid copy: mounted/bad (sink): Input/output error while in fsync$'
	receipt err 'r["error"] == "EIO" and r["error_side"] == "sink" and r["bytes_out"] == 5'
	receipt err 'r["sync_seconds"] is None'
	grep -q 'is-bad/a (sink): its bytes are on the disk, its name .* Input/output' folder
}
run what_cannot_be_synced_is_a_failure_of_the_sink

a_signal_during_a_sync_comes_before_the_next_sink_is_emptied() {
	on_mirror << 'END'
echo text > slow
echo text > other
echo keep > inside/other
"$fid" copy --sync --receipt=json slow other mounted 2> err &
copy=$!
tries=0
until grep -q 'fsync /slow' server; do
	tries=$((tries + 1))
	[ $tries -lt 200 ]
	sleep 0.05
done
kill "$copy"
status=0
wait "$copy" || status=$?
[ "$status" -eq 143 ]
[ "$(cat inside/slow)" = text ]
[ "$(cat inside/other)" = keep ]
END
	says '^fid copy: interrupted: 5 bytes delivered'
	receipt err 'r["bytes_out"] == 5 and r["sync_seconds"] > 0'
}
run a_signal_during_a_sync_comes_before_the_next_sink_is_emptied

what_a_folder_has_under_the_name_has_to_do_for_sparse_and_sync() {
	mkdir folder
	echo text > a
	mkfifo folder/a
	for option in --sparse --sync; do
		cat folder/a > got &
		expect 2 "$fid" copy $option a folder
		wait $!
		says "folder/a (sink): $option wants a file"
		[ ! -s got ]
	done
}
run what_a_folder_has_under_the_name_has_to_do_for_sparse_and_sync

finish
