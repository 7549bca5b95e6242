# SPDX-License-Identifier: MIT
# What fid why takes and says, and that it leaves everything as it was.
. "$(dirname "$0")/tap.sh"

command -v python3 > /dev/null || {
	echo "1..1"
	echo "ok 1 - fid why # SKIP python3 is not installed"
	exit 0
}
folder=$(dirname "$(realpath "$0")")

# told EXPRESSION: Python's word on the object in ./out: w is the whole, t the trial.
told() {
	python3 - "$1" << 'END'
import json, sys
lines = open("out").read().splitlines()
assert len(lines) == 1, lines
w = json.loads(lines[0])
t = w["try"]
assert eval("(" + sys.argv[1] + ")"), w
END
}

# lacks FILE REGULAR-EXPRESSION: no line of it matches.
lacks() {
	! grep -e "$2" "$1" || {
		echo "a line of $1 matches: $2"
		return 1
	}
}

# state FILE...: all that is known of files, but when they were read.
state() {
	stat -c '%n %F %i %s %b %a %u %Y %y %Z %z' "$@"
}

what_makes_no_sense_is_wrong_usage() {
	: > a
	expect 2 "$fid" why
	says 'SOURCE and the SINK are missing'
	expect 2 "$fid" why a
	says 'the SINK is missing'
	expect 2 "$fid" why a b c
	says 'only one SOURCE and one SINK'
	for option in --receipt --receipt=json --receipt-file=r --progress --no-progress; do
		expect 2 "$fid" why "$option" a b
		says 'nothing is moved'
	done
	expect 2 "$fid" why --jason a b
	says "did you mean '--json'"
	expect 2 "$fid" why --append a -
	says 'append wants a file'
	expect 2 "$fid" why --require nonsense a b
	expect 2 "$fid" why --try=yes a b
	expect 2 "$fid" why a tcp:nowhere
	[ ! -e b ] && [ ! -e r ]
}
run what_makes_no_sense_is_wrong_usage

help_names_each_option() {
	expect 0 "$fid" help why
	for option in limit offset append stable route require pipe-size try json help; do
		grep -q -e "--$option" out
	done
	awk 'length($0) > 80 { print "too wide: " $0; exit 1 }' out
	expect 0 "$fid" why --help
	expect 0 "$fid" help
	grep -q '^  why ' out
}
run help_names_each_option

the_answer_is_the_first_line() {
	bytes 300000 > a
	expect 0 "$fid" why a unix:there
	silent
	[ "$(head -n 1 out)" = \
		"sendfile, by reference: the file's pages are sent by reference" ]
	grep -q '^  splice-pipe *by reference  pages pass through' out
	grep -q '^  reflink *only a file can share extents' out
	bytes 300 > small
	expect 0 "$fid" why small unix:there
	[ "$(head -n 1 out)" = \
		"read-write, user copy: small: one read and one write beat any set-up" ]
	expect 0 "$fid" why --append a b
	head -n 1 out | grep -q '^read-write, user copy: a copy, since the sink has O_APPEND'
}
run the_answer_is_the_first_line

a_stream_is_said_to_start_as_a_copy() {
	expect 0 "$fid" why unix:there b
	sed -n 2p out | grep -q '^it starts as a copy, and takes splice-pipe when the stream is fast'
	expect 0 "$fid" why --json unix:there b
	told 'w["route"] == "splice-pipe" and w["starts_as_copy"] and "starts as" in w["depends"]'
	# It is so: what comes slowly is copied.
	(for i in 1 2 3 4 5; do echo "$i"; sleep 0.05; done) |
		timeout 10 "$fid" copy - unix-listen:s &
	until_true "$fid" copy --receipt=json --receipt-file err unix:s c
	wait $!
	receipt err 'r["route"] == "read-write"'
}
run a_stream_is_said_to_start_as_a_copy

no_line_is_wider_than_100_columns() {
	long=$(printf '%0200d' 0)
	bytes 20000 > "$long"
	for sink in "$long$(printf '\033')" tcp:localhost:1 /dev/full -; do
		for option in --try --stable --append --route=splice --limit=3; do
			timeout 20 "$fid" why $option "./$long" "$sink" > out 2> err || :
			awk 'length($0) > 100 { print "too wide: " $0; exit 1 }' out
			lacks out "$(printf '\033')"
		done
	done
}
run no_line_is_wider_than_100_columns

json_is_one_object_with_all_keys() {
	bytes 100000 > a
	expect 0 "$fid" why --json a b
	silent
	told 'list(w) == ["source", "sink", "ladder", "left_out", "refused", "route", "class",
		"reason", "depends", "starts_as_copy", "bytes_expected", "try"] and t is None'
	told 'list(w["source"]) == list(w["sink"]) == ["name", "kind", "exists", "forbidden",
		"append", "direct", "nonblocking", "remote", "plain", "page_cache", "bytes",
		"position", "pipe_bytes"]'
	told 'all(list(rung) == ["method", "class", "reason", "chunk_bytes", "pipe_bytes",
		"stable"] for rung in w["ladder"])'
	told 'all(list(one) == ["method", "why"] for one in w["left_out"])'
	told 'list(w["refused"]) == ["splice", "sendfile", "copy_file_range", "pipe"]'
	told 'w["source"]["name"] == "a" and w["source"]["bytes"] == w["bytes_expected"] == 100000'
	told 'w["source"]["exists"] and not w["sink"]["exists"] and w["sink"]["bytes"] == 0'
	told 'len(w["ladder"]) + len(w["left_out"]) == 6'
	expect 0 "$fid" why --json --try a b
	told 'set(["agrees", "source", "sink", "bytes_out", "route", "reason", "demotions"]) <= set(t)'
	told 't["agrees"] and (w["depends"] or
		(t["route"] == w["route"] and t["reason"] == w["reason"]))'
	expect 3 "$fid" why --json --require no-user-copy --append a b
	told 'w["route"] is None and w["class"] is None and not w["ladder"] and "O_APPEND" in
		[one["why"] for one in w["left_out"] if one["method"] == "splice-pipe"][0]'
}
run json_is_one_object_with_all_keys

what_is_required_and_cannot_be_has_status_3_and_the_reason_of_a_copy() {
	bytes 100000 > a
	expect 3 "$fid" why --require no-user-copy --append a b
	cp err predicted
	[ "$(head -n 1 out | cut -c 1-8)" = 'nothing:' ]
	expect 3 "$fid" copy --require no-user-copy --append a b
	sed 's/^fid copy/fid why/' err > really
	same predicted really
	expect 1 "$fid" why --route reflink a unix:there
	says 'no route of --route leads from a to unix:there: only a file can share extents'
	bytes 100 > sink
	expect 3 "$fid" why --require by-reference a sink
}
run what_is_required_and_cannot_be_has_status_3_and_the_reason_of_a_copy

# A file that is only referred to makes no event. ./out is outside of what is watched.
nothing_is_opened_made_or_changed() {
	mkdir watched
	bytes 100000 > watched/a
	bytes 5000 > watched/sink
	mkfifo watched/fifo
	state watched watched/* > before
	for sink in watched/sink watched/new watched/fifo /dev/null tcp:localhost:1 unix:watched/u \
		watched; do
		for option in --stable --json --offset=1; do
			for source in watched/a watched/fifo; do
				timeout 20 python3 "$folder/watched.py" watched \
					"$fid" why "$option" "$source" "$sink" > out 2> err || :
				[ ! -s out ] || {
					echo "$option $source $sink"
					cat out
					return 1
				}
			done
		done
	done
	state watched watched/* > after
	same before after
	# The watch does see an opened file.
	expect 0 python3 "$folder/watched.py" watched "$fid" copy watched/a /dev/null
	grep -q 'open a' out
}
run nothing_is_opened_made_or_changed

a_trial_leaves_both_files_as_they_were_and_nothing_beside_them() {
	mkdir watched
	bytes 3000000 > watched/a
	bytes 5000 > watched/sink
	cp watched/sink kept
	state watched watched/* > before
	for sink in watched/sink watched/new; do
		for option in --stable --append; do
			expect 0 python3 "$folder/watched.py" watched \
				"$fid" why --try "$option" watched/a "$sink"
			# The source is read; what else has a name is left alone.
			grep -q 'access a' out
			lacks out 'sink'
			lacks out 'new'
			lacks out 'create\|delete\|moved\|attrib'
			lacks out '\(modify\|close-write\) a'
		done
	done
	for process in /proc/[0-9]*/cmdline; do
		tr '\0' ' ' < "$process" && echo
	done > processes 2> /dev/null || :
	state watched watched/* > after
	same before after
	same watched/sink kept
	lacks processes "$fid why .*watched/a"
}
run a_trial_leaves_both_files_as_they_were_and_nothing_beside_them

the_offsets_of_descriptors_do_not_move() {
	bytes 300000 > a
	bytes 300 > sink
	{
		head -c 100 > /dev/null
		"$fid" why --json - fd:7 > out
		"$fid" why --json --try - fd:7 > out
		cat > rest
		printf abc >&7
	} < a 7<> sink
	told 't["agrees"] and w["source"]["position"] == 100'
	tail -c +101 a > wanted
	same rest wanted
	[ "$(wc -c < sink)" -eq 300 ]
	[ "$(head -c 3 sink)" = abc ]
}
run the_offsets_of_descriptors_do_not_move

a_trial_takes_no_byte_from_a_pipe_and_gives_none() {
	printf 'all of it' | {
		"$fid" why --json --try - fd:8 8> file > out
		cat > rest
	}
	[ "$(cat rest)" = 'all of it' ]
	[ ! -s file ]
	told 't["agrees"] and t["source"] == "another pipe"'
	bytes 100000 > a
	"$fid" why --json --try a fd:8 8>&1 > out | cat > through
	[ ! -s through ]
	told 't["agrees"] and t["sink"] == "another pipe" and t["bytes_out"] == 100000'
}
run a_trial_takes_no_byte_from_a_pipe_and_gives_none

a_fifo_is_not_woken() {
	mkfifo fifo
	bytes 100000 > a
	sh -c ': > fifo; : > woken' &
	writer=$!
	sleep 0.2
	expect 0 "$fid" why --json fifo fifo2
	told 'w["source"]["kind"] == "pipe" and w["source"]["nonblocking"]'
	expect 0 "$fid" why --try fifo b
	sleep 0.2
	[ ! -e woken ]
	: < fifo
	wait "$writer"
	[ -e woken ]
}
run a_fifo_is_not_woken

a_user_without_permission_is_told_and_gets_the_answer() {
	[ "$(id -u)" -eq 0 ] || skip "it takes root to become somebody else"
	command -v setpriv > /dev/null || skip "setpriv is not installed"
	as_nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
	chmod 755 . ..
	bytes 100000 > a
	mkdir closed
	bytes 10 > closed/sink
	chmod 555 closed
	chmod 444 a closed/sink
	$as_nobody "$fid" --version > /dev/null 2>&1 ||
		skip "nobody may run the command where it was built"
	for sink in closed/sink closed/new; do
		expect 0 $as_nobody "$fid" why --json a "$sink"
		told 'w["route"] and w["sink"]["forbidden"] == "EACCES"'
		expect 0 $as_nobody "$fid" why a "$sink"
		tr -s ' \n' ' ' < out | grep -q 'would fail for this user: Permission denied'
	done
	expect 1 $as_nobody "$fid" why --try a closed/new
	says 'closed/new (sink)'
	chmod 400 a
	expect 1 $as_nobody "$fid" why a b
	says '^fid why: a (source): Permission denied'
}
run a_user_without_permission_is_told_and_gets_the_answer

a_trial_has_the_flags_of_the_sink() {
	bytes 100000 > a
	: > sink
	cat > flags.py << 'END'
import os, sys
flags = getattr(os, sys.argv[1])
os.execv(sys.argv[2], ["fid", "why", "--json", "--try", "a",
                       "fd:%d" % os.dup2(os.open(sys.argv[3], os.O_RDWR | flags), 9)])
END
	for flag in O_NONBLOCK O_APPEND; do
		for sink in sink /dev/ptmx; do
			expect 0 python3 flags.py "$flag" "$fid" "$sink"
			told 't["agrees"] and t["bytes_out"] >= 65536'
			told "w['sink']['nonblocking'] == ('$flag' == 'O_NONBLOCK')"
			told "w['sink']['append'] == ('$flag' == 'O_APPEND')"
		done
	done
	[ ! -s sink ]
}
run a_trial_has_the_flags_of_the_sink

what_cannot_be_tried_says_why() {
	bytes 100000 > a
	expect 1 "$fid" why --try a /dev/full
	grep -q 'NOT as predicted' out
	expect 1 "$fid" why --json --try a /dev/full
	told 'not t["agrees"] and t["error"] == "ENOSPC"'
	expect 1 "$fid" why --try /proc/version b
	says 'each byte once'
	[ ! -e b ]
}
run what_cannot_be_tried_says_why

# Whoever opens a file with a lease waits for its owner: the trial does, for the source.
a_trial_ends_with_the_command() {
	bytes 100000 > a
	cat > lease.py << 'END'
import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open("a", os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
open("leased", "w").close()
time.sleep(30)
END
	python3 lease.py &
	owner=$!
	until_true [ -e leased ]
	# trials: the processes of it.
	trials() {
		for process in /proc/[0-9]*; do
			[ "$(readlink "$process/cwd" 2> /dev/null)" = "$PWD" ] || continue
			case $(tr '\0' ' ' < "$process/cmdline" 2> /dev/null) in
			"$fid why "*) echo "${process#/proc/}" ;;
			esac
		done
	}
	has_begun() {
		[ "$(trials | wc -l)" -eq 2 ]
	}
	has_ended() {
		[ -z "$(trials)" ]
	}
	for signal in TERM HUP KILL; do
		"$fid" why --try a b > /dev/null 2>&1 &
		pid=$!
		until_true has_begun
		kill "-$signal" "$pid"
		wait "$pid" || :
		tries=0
		# Its own alarm would come after ten seconds.
		until has_ended; do
			tries=$((tries + 1))
			[ "$tries" -lt 60 ] || {
				echo "it goes on after SIG$signal: $(trials)"
				return 1
			}
			sleep 0.05
		done
	done
	kill "$owner"
	[ ! -e b ]
}
run a_trial_ends_with_the_command

a_limit_on_files_is_told_and_kills_nothing() {
	bytes 300000 > a
	(
		trap - XFSZ
		# No file can take what it says.
		ulimit -f 1
		"$fid" why --json a b | python3 -c 'import json, sys; json.load(sys.stdin)["route"]'
		ulimit -f 0
		{ "$fid" why --json --try a b; [ $? -eq 1 ]; } | python3 -c '
import json, sys
trial = json.load(sys.stdin)["try"]
assert trial["error"] == "EFBIG" and not trial["agrees"], trial'
	)
	[ ! -e b ]
}
run a_limit_on_files_is_told_and_kills_nothing

a_terminal_is_known_by_its_name() {
	expect 1 "$fid" why --json --offset 1 /dev/tty b
	says 'Illegal seek'
	expect 0 "$fid" why --json /dev/ptmx /dev/tty
	told 'w["source"]["kind"] == w["sink"]["kind"] == "terminal"'
	expect 0 "$fid" why --json /dev/zero /dev/null
	told 'w["source"]["kind"] == w["sink"]["kind"] == "memory-device"'
}
run a_terminal_is_known_by_its_name

what_the_kernel_refuses_is_named() {
	bytes 300000 > a
	expect 0 "$fid" run --deny splice=EPERM,sendfile=ENOSYS --no-preload -- \
		"$fid" why --json a unix:there
	told 'w["route"] == "read-write" and w["refused"]["splice"] == "EPERM" and
		w["refused"]["sendfile"] == "ENOSYS"'
	expect 0 "$fid" run --deny splice=EPERM --no-preload -- "$fid" why --try a unix:there
	grep -q '^  splice  *EPERM' out
	grep -q 'as predicted' out
	grep -q 'this kernel or container refuses splice' out
	expect 3 "$fid" run --deny splice=EPERM,sendfile=ENOSYS --no-preload -- \
		"$fid" why --require no-user-copy a unix:there
}
run what_the_kernel_refuses_is_named

an_error_that_is_no_refusal_ends_a_copy_and_is_told() {
	bytes 300000 > a
	for pair in 'a b splice' 'a unix:there sendfile' 'unix:there b splice'; do
		# The words are split on purpose.
		set -- $pair
		expect 1 "$fid" run --deny "$3=EACCES" --no-preload -- "$fid" why --json "$1" "$2"
		says "from $1 to $2: this kernel or container .* no refusal: EACCES"
		told "w['route'] is None and 'no refusal' in w['reason'] and not w['starts_as_copy']
			and w['refused']['$3'] == 'EACCES'"
	done
	expect 1 "$fid" run --deny splice=EACCES --no-preload -- "$fid" copy a b
	# What is not tried does not matter.
	expect 0 "$fid" run --deny splice=EACCES --no-preload -- "$fid" why --try a unix:there
	expect 0 "$fid" run --deny splice=EACCES --no-preload -- \
		"$fid" why --try --route read-write a b
	expect 0 "$fid" run --deny splice=EACCES --no-preload -- \
		"$fid" why --json --require no-user-copy a b
	told 'w["route"] == "copy_file_range"'
	expect 0 "$fid" run --deny splice=EACCES --no-preload -- \
		"$fid" copy --require no-user-copy a b
}
run an_error_that_is_no_refusal_ends_a_copy_and_is_told

# One list of what is a refusal is the engine's, and one is the prediction's.
what_a_refusal_is_a_copy_says_as_well() {
	bytes 300000 > a
	ended=0
	for way in splice:splice-pipe copy_file_range:copy_file_range sendfile:sendfile; do
		for error in EACCES EPERM EINVAL ENOSYS EOPNOTSUPP ENOMEM EXDEV ETXTBSY EISDIR \
			EOVERFLOW ESPIPE EIO EFAULT ENOENT EMFILE; do
			set -- --deny "${way%:*}=$error" --no-preload -- "$fid"
			copied=0
			"$fid" run "$@" copy --route "${way#*:},read-write" a b 2> err || copied=$?
			expect "$copied" "$fid" run "$@" why --route "${way#*:},read-write" a b
			ended=$((ended + copied))
		done
	done
	# Both kinds there were.
	[ "$ended" -gt 3 ] && [ "$ended" -lt 42 ]
}
run what_a_refusal_is_a_copy_says_as_well

a_link_to_nothing_is_described_by_where_it_points() {
	[ -d /dev/shm ] || skip "there is no /dev/shm"
	bytes 100000 > a
	ln -s /dev/shm/fid-why-nothing link
	ln -s link again
	expect 0 "$fid" why --json a again
	told 'not w["sink"]["exists"] and w["sink"]["plain"]'
	[ ! -e /dev/shm/fid-why-nothing ]
	ln -s no/such/folder broken
	expect 1 "$fid" why a broken
	says 'broken (sink): No such file'
	expect 1 "$fid" why a new/
	says 'new/ (sink): No such file'
	expect 1 "$fid" why a a
	says 'the same file'
	ln a hard
	expect 1 "$fid" why a hard
	mkdir folder
	expect 0 "$fid" why --json a folder
	told 'w["sink"]["name"] == "folder/a"'
}
run a_link_to_nothing_is_described_by_where_it_points

the_answer_is_bold_on_a_terminal_only() {
	bytes 100000 > a
	cat > terminal.py << 'END'
import os, pty, sys
said = b""
def keep(fd):
    global said
    data = os.read(fd, 65536)
    said += data
    return data
pty.spawn(sys.argv[1:], keep)
sys.exit(b"\033" in said)
END
	expect 1 env -u NO_COLOR TERM=xterm python3 terminal.py "$fid" why a b
	expect 0 env NO_COLOR=1 TERM=xterm python3 terminal.py "$fid" why a b
	expect 0 env -u NO_COLOR TERM=dumb python3 terminal.py "$fid" why a b
	expect 0 env -u NO_COLOR TERM=xterm "$fid" why a b
	lacks out "$(printf '\033')"
}
run the_answer_is_bold_on_a_terminal_only

finish
