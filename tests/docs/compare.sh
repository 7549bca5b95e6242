# SPDX-License-Identifier: MIT
# The cells of docs/compare.md that can be tried: by the calls that a program makes, as strace
# counts them, and by what it does where a call is refused or a sink fails.
# sh compare.sh FID LOOP CONSTANT: the command, the loop of loop.c, examples/constant
constant=$(realpath "$3") || exit 1
. "$(dirname "$0")/../cli/tap.sh"
loop=$terminal
size=4194304
calls=splice,tee,vmsplice,sendfile,copy_file_range,read,write,readv,writev

# with PROGRAM...: ends the test where one is not there.
with() {
	for program; do
		command -v "$program" > /dev/null || skip "$program is not installed"
	done
}

# not COMMAND...: it fails. Of a command behind "!" set -e does not take notice.
not() {
	if "$@"; then
		echo "should fail: $*"
		return 1
	fi
}

# tracing: strace is there and may trace.
tracing() {
	with strace
	strace -o trace true 2> err || skip "strace cannot trace: $(head -n 1 err)"
	bytes $size > data
}

# A prefix for commands, in scripts as well. A sanitizer's program that looks for leaks is not
# traced; what it would find is for other tests.
trace="env ASAN_OPTIONS=detect_leaks=0 strace -f -qq -e signal=none -e trace=$calls -o trace"

# bytes_by CALL...: how many bytes these calls have moved. What is less than a page is the
# program's own.
bytes_by() {
	awk -v wanted=" $* " '
	/ = [0-9]+$/ {
		bytes = $NF
		sub(/^[0-9]+ +/, "")
		split($0, call, "(")
		if (index(wanted, " " call[1] " ") && bytes >= 4096)
			sum += bytes
	}
	END { printf "%d\n", sum }' trace
}

# all_by CALL...: everything went through these calls, and nothing through others. A part of a
# page more or less is not told from what a program reads for itself.
all_by() {
	through=$(bytes_by "$@")
	everything=$(bytes_by splice tee vmsplice sendfile copy_file_range read write readv writev)
	[ "$through" -ge $((size - 65536)) ] && [ "$through" = "$everything" ] && return
	echo "$through bytes by $*, $everything bytes in all:"
	grep -c . trace
	head -n 20 trace
	return 1
}

# copied: each byte was read and written by the program.
copied() {
	[ "$(bytes_by read readv)" -ge $((size - 65536)) ] || return 1
	[ "$(bytes_by write writev)" -ge $((size - 65536)) ] || return 1
	[ "$(bytes_by splice tee vmsplice sendfile copy_file_range)" = 0 ]
}

# ---- A file into a pipe ----

file_into_a_pipe() {
	tracing
	sh -c "$trace $* < data | cat > /dev/null"
}

fid_moves_a_file_into_a_pipe_by_reference() {
	file_into_a_pipe "$fid" cat
	all_by splice
}

pv_moves_a_file_into_a_pipe_by_reference() {
	with pv
	file_into_a_pipe pv -q
	all_by splice
}

loop_moves_a_file_into_a_pipe_by_reference() {
	file_into_a_pipe "$loop"
	all_by splice
}

cat_copies_a_file_into_a_pipe() {
	file_into_a_pipe cat
	copied
}

tee_copies_a_file_into_a_pipe() {
	file_into_a_pipe tee
	copied
}

socat_copies_a_file_into_a_pipe() {
	with socat
	file_into_a_pipe socat -u - -
	copied
}

# ---- A pipe into a pipe ----

pipe_into_a_pipe() {
	tracing
	sh -c "cat data | $trace $* | cat > /dev/null"
}

fid_moves_a_pipe_into_a_pipe_by_reference() {
	pipe_into_a_pipe "$fid" cat
	all_by splice
}

pv_moves_a_pipe_into_a_pipe_by_reference() {
	with pv
	pipe_into_a_pipe pv -q
	all_by splice
}

loop_moves_a_pipe_into_a_pipe_by_reference() {
	pipe_into_a_pipe "$loop"
	all_by splice
}

cat_copies_a_pipe_into_a_pipe() {
	pipe_into_a_pipe cat
	copied
}

tee_copies_a_pipe_into_a_pipe() {
	pipe_into_a_pipe tee
	copied
}

socat_copies_a_pipe_into_a_pipe() {
	with socat
	pipe_into_a_pipe socat -u - -
	copied
}

# ---- A file into a socket, which socat makes ----

file_into_a_socket() {
	with socat
	tracing
	echo "$trace $* < data 2> said" > script
	timeout 60 socat -u EXEC:'sh script' OPEN:/dev/null
}

fid_sends_a_file_into_a_socket_by_reference() {
	file_into_a_socket "$fid" cat
	all_by sendfile
}

loop_of_splice_does_not_serve_a_socket() {
	file_into_a_socket "$loop" || :
	grep -q 'Invalid argument' said
}

cat_copies_a_file_into_a_socket() {
	file_into_a_socket cat
	copied
}

pv_copies_a_file_into_a_socket() {
	with pv
	file_into_a_socket pv -q
	copied
}

tee_copies_a_file_into_a_socket() {
	file_into_a_socket tee
	copied
}

# ---- One to many ----

one_to_three() {
	tracing
	mkfifo one two
	cat one > /dev/null &
	cat two > /dev/null &
	sh -c "cat data | $trace $* one two | cat > /dev/null"
	wait
}

fid_tee_gives_references_to_all() {
	one_to_three "$fid" tee
	[ "$(bytes_by tee)" -ge $((2 * size - 65536)) ]
	[ "$(bytes_by read readv write writev)" = 0 ]
}

tee_copies_to_each() {
	one_to_three tee
	[ "$(bytes_by write)" -ge $((3 * size - 3 * 65536)) ]
	[ "$(bytes_by tee splice)" = 0 ]
}

# ---- Bytes of its own ----

constant_memory_goes_into_a_pipe_by_reference() {
	tracing
	sh -c "$trace $constant 64 yes | cat > /dev/null"
	all_by vmsplice
}

yes_copies_its_bytes_into_a_pipe() {
	with yes
	tracing
	sh -c "$trace yes | head -c $size > /dev/null"
	[ "$(bytes_by write)" -ge $size ]
	[ "$(bytes_by vmsplice splice tee)" = 0 ]
}

# ---- Where splice is refused ----

denied=splice=EPERM,tee=EPERM,vmsplice=EPERM,sendfile=EPERM,copy_file_range=EPERM

# refused COMMAND...: what comes out of it into a pipe, where the calls are refused.
refused() {
	bytes $size > data
	"$fid" run --no-preload -- true 2> err || skip "no program can be run so: $(cat err)"
	"$fid" run --deny $denied --no-preload -- "$@" < data 2> said | cat > out
}

fid_works_where_splice_is_refused() {
	refused "$fid" cat
	same data out
}

pv_works_where_splice_is_refused() {
	with pv
	refused pv -q
	same data out
}

cat_tee_and_socat_work_where_splice_is_refused() {
	with socat
	refused cat
	same data out
	refused tee
	same data out
	refused socat -u - -
	same data out
}

yes_works_where_splice_is_refused() {
	with yes
	refused sh -c 'yes | head -n 1000'
	[ "$(wc -l < out)" = 1000 ]
}

loop_fails_where_splice_is_refused() {
	refused "$loop"
	[ ! -s out ]
	grep -q 'Operation not permitted' said
}

fid_run_makes_the_loop_work_there() {
	bytes $size > data
	"$fid" run --deny $denied -- "$loop" < data 2> err | cat > out
	! grep -q 'cannot be helped' err || skip "$(cat err)"
	same data out
}

# ---- A source that is not ready, and does not wait ----

# not_ready SECONDS COMMAND...: standard input is an empty pipe with O_NONBLOCK, and gets bytes
# when the command has ended, or so much later.
not_ready() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	timeout 30 python3 - "$@" << 'END' > out 2> said
import os, subprocess, sys
source, sink = os.pipe()
os.set_blocking(source, False)
child = subprocess.Popen(sys.argv[2:], stdin=source)
os.close(source)
try:
    child.wait(float(sys.argv[1]))
except subprocess.TimeoutExpired:
    pass
try:
    os.write(sink, b"late")
except BrokenPipeError:
    pass
os.close(sink)
sys.exit(child.wait() != 0)
END
}

fid_waits_for_a_source_with_O_NONBLOCK() {
	not_ready 0.3 "$fid" cat
	[ "$(cat out)" = late ]
}

pv_and_socat_wait_for_a_source_with_O_NONBLOCK() {
	with pv socat
	not_ready 0.3 pv -q
	[ "$(cat out)" = late ]
	not_ready 0.3 socat -u - -
	[ "$(cat out)" = late ]
}

cat_tee_and_the_loop_fail_on_a_source_with_O_NONBLOCK() {
	for program in cat tee "$loop"; do
		not not_ready 20 "$program"
		grep -q 'Resource temporarily unavailable' said
		[ ! -s out ]
	done
}

# ---- What was taken and could not be delivered ----

# left COMMAND...: the source is a pipe with 50000 bytes, the sink full. What is left in the
# pipe, and what was said of the rest.
left() {
	bytes 50000 > data
	# shellcheck disable=SC2094 # it is only read
	cat data | { "$@" > /dev/full 2> said || :; wc -c > left; }
	left=$(cat left)
}

fid_says_what_was_taken_and_not_delivered() {
	left "$fid" cat
	[ "$left" = 50000 ] || grep -q "$((50000 - left)) bytes were read and could not be" said
}

cat_tee_pv_and_socat_lose_it_in_silence() {
	with pv socat
	for program in cat tee 'pv -q' 'socat -u - -'; do
		# shellcheck disable=SC2086 # words
		left $program
		[ "$left" -lt 50000 ]
		not grep -q "[0-9][0-9][0-9] bytes" said
	done
}

loop_leaves_in_the_pipe_what_it_cannot_deliver() {
	left "$loop"
	[ "$left" = 50000 ]
}

# ---- What it tells, and what it can be told ----

fid_says_how_the_bytes_moved() {
	bytes $size > data
	"$fid" cat --receipt data 2> err | cat > /dev/null
	says 'all by reference with splice'
}

socat_logs_each_call_of_its_own() {
	with socat
	bytes 1000 > data
	socat -d -d -d -d -u OPEN:data OPEN:/dev/null 2> err
	says 'read -> 1000'
}

fid_has_limits_and_offsets() {
	bytes 100000 > data
	"$fid" cat --offset 1000 --limit 5000 data > out
	tail -c +1001 data | head -c 5000 > wanted
	same wanted out
}

socat_has_limits_and_offsets() {
	with socat
	bytes 100000 > data
	socat -u OPEN:data,seek=1000,readbytes=5000 STDOUT > out
	tail -c +1001 data | head -c 5000 > wanted
	same wanted out
}

pv_has_a_limit() {
	with pv
	bytes 100000 > data
	pv -q -S -s 5000 data > out
	head -c 5000 data > wanted
	same wanted out
}

fid_and_pv_show_progress() {
	with pv
	bytes 1000 > data
	"$fid" copy --progress data out 2> err
	says 'B'
	pv -f data 2> err > out
	says '100%'
}

# slow COMMAND...: it takes half a second for a million bytes at two million a second. Less than
# half of that would be no rate; a slow machine makes it more.
slow() {
	begun=$(date +%s%N)
	"$@"
	[ $(($(date +%s%N) - begun)) -gt 250000000 ]
}

fid_keeps_a_rate() {
	bytes 1000000 > data
	slow "$fid" copy --rate-limit 2MB data out
	same data out
}

pv_keeps_a_rate() {
	with pv
	bytes 1000000 > data
	slow pv -q -L 2000000 data > out
	same data out
}

fid_and_socat_know_tcp_by_name() {
	with socat
	bytes $size > data
	"$fid" copy tcp-listen:127.0.0.1:0 out 2> port &
	until_true grep -q 'listening on port' port
	socat -u OPEN:data "TCP:127.0.0.1:$(sed 's/.*port //' port)"
	wait
	same data out
}

socat_knows_udp_tls_terminals_and_programs() {
	with socat
	socat -h > out
	for kind in udp-sendto openssl pty exec; do
		grep -q "^ *$kind\b" out
	done
}

for test in fid_moves_a_file_into_a_pipe_by_reference pv_moves_a_file_into_a_pipe_by_reference \
	loop_moves_a_file_into_a_pipe_by_reference cat_copies_a_file_into_a_pipe \
	tee_copies_a_file_into_a_pipe socat_copies_a_file_into_a_pipe \
	fid_moves_a_pipe_into_a_pipe_by_reference pv_moves_a_pipe_into_a_pipe_by_reference \
	loop_moves_a_pipe_into_a_pipe_by_reference cat_copies_a_pipe_into_a_pipe \
	tee_copies_a_pipe_into_a_pipe socat_copies_a_pipe_into_a_pipe \
	fid_sends_a_file_into_a_socket_by_reference loop_of_splice_does_not_serve_a_socket \
	cat_copies_a_file_into_a_socket pv_copies_a_file_into_a_socket \
	tee_copies_a_file_into_a_socket \
	fid_tee_gives_references_to_all tee_copies_to_each \
	constant_memory_goes_into_a_pipe_by_reference yes_copies_its_bytes_into_a_pipe \
	fid_works_where_splice_is_refused pv_works_where_splice_is_refused \
	cat_tee_and_socat_work_where_splice_is_refused yes_works_where_splice_is_refused \
	loop_fails_where_splice_is_refused fid_run_makes_the_loop_work_there \
	fid_waits_for_a_source_with_O_NONBLOCK pv_and_socat_wait_for_a_source_with_O_NONBLOCK \
	cat_tee_and_the_loop_fail_on_a_source_with_O_NONBLOCK \
	fid_says_what_was_taken_and_not_delivered cat_tee_pv_and_socat_lose_it_in_silence \
	loop_leaves_in_the_pipe_what_it_cannot_deliver \
	fid_says_how_the_bytes_moved socat_logs_each_call_of_its_own \
	fid_has_limits_and_offsets socat_has_limits_and_offsets pv_has_a_limit \
	fid_and_pv_show_progress fid_keeps_a_rate pv_keeps_a_rate \
	fid_and_socat_know_tcp_by_name socat_knows_udp_tls_terminals_and_programs; do
	run $test
done
finish
