# SPDX-License-Identifier: MIT
# fid doctor: it finds what is there and what is refused, names what would help, and leaves
# nothing behind. sh doctor.sh FID TERMINAL CAGE PAGE MIRROR, the last a file system or "none".
cage=$(realpath "$3") && page=$(realpath "$4") || exit 1
mirror=$5
. "$(dirname "$0")/tap.sh"
[ "$mirror" = none ] || mirror=$(realpath "$mirror")
everything=splice=EPERM,tee=ENOSYS,vmsplice=EPERM,sendfile=EPERM,copy_file_range=ENOSYS

command -v python3 > /dev/null || {
	echo '1..0 # SKIP python3, which reads what is printed, is not installed'
	exit 0
}

# What reads the one line of JSON: d is the whole, f the findings by "group.key", p those of the
# first path, amiss the keys of f that are missing.
cat > "$here/found.py" << 'END'
import json, sys
text = open(sys.argv[1]).read()
assert text.endswith("}\n") and text.count("\n") == 1, text
d = json.loads(text)
f = {f"{group}.{key}": finding for group, keys in d.items() if isinstance(keys, dict)
     for key, finding in keys.items()}
p = d["paths"][0]["findings"]
every = [*f.values(), *(one for path in d["paths"] for one in path["findings"].values())]
amiss = {key for key, finding in f.items() if finding["state"] == "missing"}
for one in every:
    assert set(one) == {"state", "value", "error", "detail", "advice"}, one
    assert one["state"] in ("ok", "limited", "missing", "unknown") and one["detail"], one
    # What is missing has its advice, but for the ends that say why themselves.
    assert one["state"] != "missing" or one["advice"] or "other bytes" in one["detail"], one
assert d["complete"] == (d["missing"] + d["unknown"] == 0), d
assert eval(f"({sys.argv[2]}\n)"), {"amiss": amiss, "paths": d["paths"], **f}
END

# What runs a command and fails where that leaves a process behind.
cat > "$here/reap.py" << 'END'
import ctypes, os, subprocess, sys
# Whoever is left over becomes a child of this process.
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
before = os.listdir("/proc/self/fd")
status = subprocess.call(sys.argv[1:])
assert status in (0, 1), status
try:
    os.waitpid(-1, os.WNOHANG)
    sys.exit("a process is left")
except ChildProcessError:
    pass
assert os.listdir("/proc/self/fd") == before
sys.exit(status)
END

# found EXPRESSION COMMAND...: what the command prints is sound, its status is due, and the
# expression is true of it.
found() {
	expression=$1
	shift
	got=0
	timeout 60 "$@" > json 2> err || got=$?
	python3 "$here/found.py" json "$expression"
	python3 "$here/found.py" json "d['complete'] == ($got == 0) and $got in (0, 1)"
}

# shown COMMAND...: the same on a screen, into ./out: as wide as it may be, and without colours.
shown() {
	got=0
	timeout 60 "$@" > out 2> err || got=$?
	[ "$got" -le 1 ] || {
		echo "status $got"
		cat err
		return 1
	}
	awk 'length($0) > 100 { print "too wide: " $0; exit 1 }' out
	! grep -q "$(printf '\033')" out || return 1
	LC_ALL=C tr -d '\n -~' < out > other
	[ ! -s other ]
}

# row REGULAR-EXPRESSION: a line of ./out matches.
row() {
	grep -q -E -e "$1" out && return
	echo "no row matches: $1"
	cat out
	return 1
}

# as USER: what stands before a command that runs as that user, who can read this directory.
as() {
	[ "$(id -u)" = 0 ] || skip "only root can be another user"
	command -v setpriv > /dev/null || skip "setpriv is not installed"
	chmod 755 "$here" .
	user="setpriv --reuid $1 --regid $1 --clear-groups"
	$user test -x "$fid" || skip "another user cannot run $fid"
}

# mounted FUNCTION [OPTION]: runs it with the mirror of ./inside in ./mounted, whose process is
# $server.
mounted() {
	body=$1
	shift
	[ "$mirror" != none ] || skip "no libfuse3 that links was found"
	[ -w /dev/fuse ] || skip "/dev/fuse cannot be opened"
	[ "$(id -u)" = 0 ] || skip "mounting without fusermount3 takes root"
	mkdir inside mounted
	"$mirror" inside mounted "$@" 2> server &
	server=$!
	trap '{ kill -CONT $server; umount -l mounted; kill $server; } 2> /dev/null || :' EXIT
	tries=0
	until grep -q " $PWD/mounted fuse" /proc/mounts; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || skip "a FUSE mount is refused here"
		sleep 0.05
	done
	"$body"
}

what_it_says_is_what_another_program_sees() {
	found True "$fid" doctor --json
	python3 - << 'END'
import ctypes, fcntl, json, os, resource
d = json.load(open("json"))
libc = ctypes.CDLL(None, use_errno=True)
a, b = os.pipe(), os.pipe()
size = fcntl.fcntl(a[0], 1032)
assert d["pipes"]["pipe"]["value"] == size, size
os.write(a[1], b"fid")
def check(key, result):
    finding = d["calls"][key]
    refused = os.strerror(ctypes.get_errno()) if result < 0 else None
    assert (finding["state"] == "ok") == (refused is None), (key, finding, refused)
check("tee", libc.tee(a[0], b[1], 3, 0))
check("splice", libc.splice(a[0], None, b[1], None, 3, 0))
if os.path.exists("/proc/sys/fs/pipe-max-size"):
    largest = int(open("/proc/sys/fs/pipe-max-size").read())
    assert d["pipes"]["pipe_max_size"]["value"] == largest
    pages = int(open("/proc/sys/fs/pipe-user-pages-soft").read())
    assert d["pipes"]["pipe_budget"]["value"] == pages * os.sysconf("SC_PAGESIZE")
assert d["user"] == os.geteuid() and d["version"]
assert d["kernel"].split()[1] == os.uname().release
END
}
run what_it_says_is_what_another_program_sees

it_is_one_screen_with_a_last_word() {
	shown "$fid" doctor
	silent
	# What is amiss takes some lines more.
	[ "$(wc -l < out)" -le $((50 + 3 * $(grep -c '^ *\(limited\|missing\|unknown\)' out))) ]
	for heading in Calls Memory 'Pipes and' Signals 'What splice' 'Files in \.'; do
		row "^$heading"
	done
	found True "$fid" doctor --json
	case $(python3 -c 'import json; print(json.load(open("json"))["complete"])') in
	True) row '^fid can use everything here' ;;
	*) row '(missing|not known):' ;;
	esac
}
run it_is_one_screen_with_a_last_word

a_call_that_is_refused_is_named_with_the_rule_that_would_help() {
	found True "$fid" doctor --json
	python3 -c 'import json; d = json.load(open("json")); print(*[k for g in d.values()
		if isinstance(g, dict) for k in g if g[k]["state"] == "missing"])' > before
	for call in splice tee vmsplice sendfile copy_file_range; do
		for error in EPERM ENOSYS EOPNOTSUPP; do
			expect 1 "$fid" run --deny $call=$error --no-preload -- "$fid" doctor --json
			mv out json
			python3 "$here/found.py" json "f['calls.$call']['state'] == 'missing' and
				f['calls.$call']['error'] == '$error' and
				'\"$call\"' in f['calls.$call']['advice'] and
				'seccomp' in f['calls.$call']['advice'] and d['seccomp_filter'] and
				amiss - {'calls.$call'} == {key for key in amiss if key.split('.')[1]
				in open('before').read().split()}"
		done
		shown "$fid" run --deny $call=EPERM --no-preload -- "$fid" doctor
		row "^  missing  $call +refused with EPERM"
		row "> add \"$call\" to the calls that the seccomp profile"
		row "[0-9] things? (is|are) missing:.* $call"
	done
}
run a_call_that_is_refused_is_named_with_the_rule_that_would_help

two_refusals_are_two_missing_things_and_what_hangs_on_them_is_not_counted() {
	found True "$fid" doctor --json
	before=$(python3 -c 'import json; print(json.load(open("json"))["missing"])')
	found "d['missing'] == $before + 2 and f['calls.splice_flags']['state'] == 'unknown' and
		f['memory.vmsplice_meaning']['value'] is None" \
		"$fid" run --deny splice=EPERM,vmsplice=EPERM --no-preload -- "$fid" doctor --json
	shown "$fid" run --deny splice=EPERM,vmsplice=EPERM --no-preload -- "$fid" doctor
	row '^  unknown  any of them +not asked, since splice is refused'
}
run two_refusals_are_two_missing_things_and_what_hangs_on_them_is_not_counted

a_gift_that_is_refused_is_limited_and_no_failure() {
	found True "$fid" doctor --json
	status=$got
	found "f['calls.vmsplice_gift']['state'] == 'limited' and
		f['calls.vmsplice_gift']['value'] is False and
		f['calls.vmsplice_gift']['error'] == 'EOPNOTSUPP' and
		f['calls.vmsplice']['state'] == 'ok'" \
		"$fid" run --deny vmsplice-gift=EOPNOTSUPP --no-preload -- "$fid" doctor --json
	[ "$got" = "$status" ]
}
run a_gift_that_is_refused_is_limited_and_no_failure

help_by_fid_run_does_not_hide_what_the_kernel_says() {
	for denied in vmsplice-gift=EOPNOTSUPP splice=EPERM $everything; do
		found True "$fid" run --deny $denied --no-preload -- "$fid" doctor --json
		mv json alone
		found True "$fid" run --deny $denied -- "$fid" doctor --json
		same alone json
	done
}
run help_by_fid_run_does_not_hide_what_the_kernel_says

a_sandbox_that_kills_is_a_finding_and_no_crash() {
	"$cage" tee true || skip "this kernel refuses seccomp filters"
	for pair in splice:calls.splice tee:calls.tee vmsplice:calls.vmsplice \
		sendfile:calls.sendfile copy_file_range:calls.copy_file_range \
		pwritev2:signals.write_nosignal memfd_create:memory.memory_seal; do
		call=${pair%:*}
		found "f['${pair#*:}']['state'] == 'missing' and 'kills' in f['${pair#*:}']['detail']
			and '\"$call\"' in f['${pair#*:}']['advice'] and not d['complete']" \
			"$cage" $call "$fid" doctor --json
		shown "$cage" $call "$fid" doctor
		row 'missing:.*The sandbox kills fid|The sandbox kills'
		[ "$(ls -A)" = "$(printf 'err\njson\nother\nout')" ]
	done
}
run a_sandbox_that_kills_is_a_finding_and_no_crash

huge_pages_that_are_switched_off_are_missing() {
	cat > without.py << 'END'
import ctypes, os, sys
PR_SET_THP_DISABLE = 41
if ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
END
	python3 without.py "$(command -v cat)" /dev/null || skip "this kernel switches none off"
	found "f['memory.huge_pages']['state'] == 'missing' and
		f['memory.huge_pages']['value'] is False and
		'PR_SET_THP_DISABLE' in f['memory.huge_pages']['advice'] and
		'memory.huge_pages' in amiss and d['missing'] >= 1" \
		python3 without.py "$fid" doctor --json
}
run huge_pages_that_are_switched_off_are_missing

io_uring_never_changes_the_status() {
	"$cage" tee true || skip "this kernel refuses seccomp filters"
	found True "$fid" doctor --json
	status=$got
	found "f['ring.io_uring']['state'] == 'missing'" "$cage" io_uring_setup "$fid" doctor --json
	[ "$got" = "$status" ]
}
run io_uring_never_changes_the_status

the_keys_are_the_same_in_every_case_and_in_the_manual_page() {
	cat > keys.py << 'END'
import json, re, sys
d = json.load(open("json"))
keys = set(d) | set(d["paths"][0])
for where in [*d.values(), *(path["findings"] for path in d["paths"])]:
    if isinstance(where, dict):
        for key, finding in where.items():
            keys |= {key} | set(finding)
page = open(sys.argv[1]).read()
told = set(re.findall(r"\w+", " ".join(re.findall(r"^\.It Cm (.*)", page, re.M)))) | {
    "path", "directory", "findings"}
assert keys <= told, keys - told
assert re.search(r"^\.Cm findings", page, re.M) and re.search(r"^\.Cm directory", page, re.M)
# And the page has no key that is not there, but for the states.
assert told - keys <= {"ok"} and {"unknown", "missing", "limited"} <= keys, told - keys
print(*(f"{group}.{key}" for group in d if isinstance(d[group], dict) for key in d[group]),
      *d, *d["paths"][0]["findings"])
END
	found True "$fid" doctor --json
	python3 keys.py "$page" > healthy
	found True "$fid" run --deny $everything --no-preload -- "$fid" doctor --json
	python3 keys.py "$page" > denied
	found True "$fid" doctor --json /nowhere
	python3 keys.py "$page" > nowhere
	found True sh -c "ulimit -n 4; exec '$fid' doctor --json"
	python3 keys.py "$page" > few
	same healthy denied
	same healthy nowhere
	same healthy few
	"$cage" tee true || return 0
	found True "$cage" splice,tee,vmsplice,memfd_create "$fid" doctor --json
	python3 keys.py "$page" > killed
	same healthy killed
}
run the_keys_are_the_same_in_every_case_and_in_the_manual_page

no_file_and_no_process_stays_behind() {
	mkdir empty elsewhere
	found True env -C empty TMPDIR=../elsewhere python3 "$here/reap.py" "$fid" doctor --json
	found True env -C empty python3 "$here/reap.py" "$fid" doctor --json . ../elsewhere
	silent
	[ -z "$(ls -A empty)$(ls -A elsewhere)" ]
}
run no_file_and_no_process_stays_behind

files_with_names_are_gone_as_well_however_it_ends() {
	interrupt() {
		# This file system has no files without a name.
		found "p['file_system']['value'].startswith('fuse') and p['writable']['value'] and
			p['splice_source']['state'] == 'ok'" "$fid" doctor --json mounted
		for time in 0.1 0.12 0.14 0.16 0.18 0.2 0.22 0.24 0.26 0.28 0.3; do
			timeout -s INT $time "$fid" doctor mounted > out || :
			timeout -s TERM $time "$fid" doctor mounted > out || :
		done
		sleep 0.2
		[ -z "$(ls -A inside)" ]
	}
	mounted interrupt
}
run files_with_names_are_gone_as_well_however_it_ends

a_server_that_tells_a_wrong_size_is_found_out() {
	lie() {
		bytes 5000 > inside/liar
		found "p['end_of_file']['value'] is False and
			'10 bytes, read() at 5000' in p['end_of_file']['detail'] and
			p['end_of_file']['state'] == 'ok' and 'server' in p['file_system']['detail']" \
			"$fid" doctor --json mounted/liar
		found "p['end_of_file']['value'] is True" "$fid" doctor --json mounted
		same inside/liar mounted/liar
	}
	mounted lie
}
run a_server_that_tells_a_wrong_size_is_found_out

a_server_may_call_itself_anything() {
	name() {
		found "p['file_system']['value'] == 'fuse.a?b?040c'" "$fid" doctor --json mounted
	}
	mounted name '-osubtype=a"b c'
}
run a_server_may_call_itself_anything

a_file_system_that_does_not_answer_is_unknown_within_seconds() {
	stop() {
		kill -STOP "$server"
		found "p['file_system']['state'] == 'unknown' and
			'no answer' in p['file_system']['detail'] and f['calls.splice']['state'] == 'ok'" \
			timeout 30 python3 "$here/reap.py" "$fid" doctor --json mounted
		silent
	}
	mounted stop
}
run a_file_system_that_does_not_answer_is_unknown_within_seconds

a_file_system_with_reflinks_is_found_by_sharing() {
	[ "$(id -u)" = 0 ] || skip "mounting takes root"
	for type in btrfs xfs none; do
		command -v mkfs.$type > /dev/null && grep -q -w $type /proc/filesystems && break
	done
	[ $type != none ] || skip "no mkfs.btrfs or mkfs.xfs, or no such file system"
	truncate -s 512M disk
	mkfs.$type -q disk > /dev/null || skip "mkfs.$type failed"
	mkdir mount
	mount -o loop disk mount || skip "there is no loop device"
	trap 'umount mount' EXIT
	found "p['reflink']['state'] == 'ok' and p['reflink']['value'] is True and
		p['file_system']['value'] == '$type' and p['splice_source']['value']" \
		"$fid" doctor --json mount
	[ "$(ls -A mount)" = '' ]
	mount -o remount,ro mount
	found "p['writable']['error'] == 'EROFS' and 'remount,rw' in p['writable']['advice'] and
		p['reflink']['state'] == 'unknown' and d['unknown'] == 1" "$fid" doctor --json mount
}
run a_file_system_with_reflinks_is_found_by_sharing

a_file_system_without_them_is_limited_and_says_which_has_them() {
	[ "$(stat -f -c %T /dev/shm 2> /dev/null)" = tmpfs ] || skip "/dev/shm is no tmpfs"
	[ -w /dev/shm ] || skip "/dev/shm cannot be written"
	found "p['file_system']['value'] == 'tmpfs' and p['reflink']['state'] == 'limited' and
		'btrfs' in p['reflink']['advice'] and p['splice_source']['state'] == 'ok' and
		p['append']['value'] is False" "$fid" doctor --json /dev/shm
}
run a_file_system_without_them_is_limited_and_says_which_has_them

a_directory_that_cannot_be_written_is_unknown_when_it_was_named() {
	as 65534
	mkdir closed open
	chmod 755 closed
	chmod 777 open
	cd closed
	found "p['writable']['state'] == 'unknown' and p['writable']['error'] == 'EACCES' and
		p['reflink']['state'] == 'unknown' and d['unknown'] == 1" \
		$user sh -c "cd . && '$fid' doctor --json . 2> /dev/null"
	# Nobody named it: there is another place to ask about.
	found "d['paths'][0]['directory'] == '$PWD/../open' and p['writable']['value']" \
		env TMPDIR="$PWD/../open" $user "$fid" doctor --json
	[ -z "$(ls -A ../open)" ]
}
run a_directory_that_cannot_be_written_is_unknown_when_it_was_named

where_one_may_not_even_look_there_is_another_place_to_ask_about() {
	as 65534
	mkdir shut open
	chmod 700 shut
	chmod 777 open
	there=$PWD/open
	cd shut
	found "d['paths'][0]['directory'] == '$there' and p['writable']['value']" \
		env TMPDIR="$there" $user "$fid" doctor --json
	[ -z "$(ls -A "$there")" ]
}
run where_one_may_not_even_look_there_is_another_place_to_ask_about

a_link_to_a_file_stands_for_the_directory_of_that_file() {
	mkdir here there
	: > there/file
	ln -s ../there/file here/link
	found "d['paths'][0]['directory'] == '$PWD/there'" "$fid" doctor --json here/link
	found "d['paths'][0]['directory'] == 'there'" "$fid" doctor --json there/file
	# What has no name is where it is found.
	found "d['paths'][0]['directory'] == '/dev'" sh -c ": | '$fid' doctor --json /dev/stdin"
	# A file may be mounted by itself: files are made beside it, and it is said where.
	[ "$(id -u)" = 0 ] || skip "mounting takes root"
	kind=$("$fid" doctor --json there |
		python3 -c 'import json, sys
print(json.load(sys.stdin)["paths"][0]["findings"]["file_system"]["value"])')
	[ "$kind" != proc ]
	mount --bind /proc/version there/file 2> /dev/null || skip "mounting is refused here"
	trap 'umount there/file' EXIT
	found "p['file_system']['value'] == '$kind'" "$fid" doctor --json there/file
}
run a_link_to_a_file_stands_for_the_directory_of_that_file

a_file_whose_readers_take_bytes_from_others_is_not_read() {
	# This one has a poll(2) of its own, as /proc/kmsg has, and everybody may read it.
	for file in /proc/self/mounts /proc/kmsg; do
		head -c 0 "$file" || continue
		found "p['end_of_file']['state'] == 'unknown' and
			'take bytes' in p['end_of_file']['detail']" "$fid" doctor --json "$file"
	done
	found "p['end_of_file']['state'] == 'ok'" "$fid" doctor --json /proc/version
}
run a_file_whose_readers_take_bytes_from_others_is_not_read

a_path_that_is_not_there_is_told_and_fails() {
	echo text > file
	expect 1 "$fid" doctor nowhere
	says '^fid doctor: nowhere: No such file'
	found "d['paths'][0]['directory'] is None and [path['path'] for path in d['paths']] ==
		['no\\twhere', 'file'] and d['paths'][1]['directory'] == '.' and
		d['paths'][1]['findings']['end_of_file']['value']" \
		"$fid" doctor --json "$(printf 'no\twhere')" file
	says '^fid doctor: no?where: '
	[ "$(cat file)" = text ]
}
run a_path_that_is_not_there_is_told_and_fails

long_and_foreign_names_stay_within_the_columns() {
	long=$(printf '%0200d' 0)
	mkdir -p "$long/$long" "$(printf 'a\033[31mb')"
	shown "$fid" doctor "$long/$long" "$(printf 'a\033[31mb')" "$long/none"
	row '^Files in \.\.\.0+$'
	row '^Files in a\?\[31mb$'
}
run long_and_foreign_names_stay_within_the_columns

a_budget_that_is_spent_is_found_by_doing() {
	as 64321
	python=python3
	$user $python -c 0 || python=/usr/bin/python3
	$user $python -c 0 || skip "another user cannot run python3"
	cat > hold.py << 'END'
import fcntl, os, resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = []
for i in range(int(sys.argv[1])):
    held += os.pipe()
    try:
        fcntl.fcntl(held[-1], 1031, 1 << 20)
    except PermissionError:
        pass
sys.exit(subprocess.call(sys.argv[2:]))
END
	budget=$(cat /proc/sys/fs/pipe-user-pages-soft)
	[ $((budget * $(getconf PAGESIZE))) = 67108864 ] || skip "the budget is not the usual one"
	found "f['pipes.pipe_budget_left']['value'] <= 67108864 and
		f['pipes.pipe_budget_left']['value'] > 60 << 20 and
		f['pipes.pipe_grow']['value'] == 1 << 20" $user "$fid" doctor --json .
	found "44 << 20 >= f['pipes.pipe_budget_left']['value'] > 40 << 20" \
		$user $python hold.py 20 "$fid" doctor --json .
	found "f['pipes.pipe_budget_left']['state'] == 'missing' and
		f['pipes.pipe_budget_left']['value'] == 0 and
		'pipe-user-pages-soft' in f['pipes.pipe_budget_left']['advice'] and
		f['pipes.pipe']['state'] == 'limited' and f['pipes.pipe']['value'] < 65536 and
		f['pipes.pipe_grow']['error'] == 'EPERM'" \
		$user $python hold.py 70 "$fid" doctor --json .
	# And it was given back.
	found "f['pipes.pipe_budget_left']['value'] > 60 << 20" $user "$fid" doctor --json .
}
run a_budget_that_is_spent_is_found_by_doing

few_descriptors_and_little_memory_are_findings() {
	for number in 4 5 6 7 8 12; do
		found "f['pipes.open_files']['value'] <= $number and
			f['pipes.open_files']['state'] != 'ok' and
			'ulimit -n' in f['pipes.open_files']['advice']" \
			sh -c "ulimit -n $number; exec '$fid' doctor --json"
	done
	shown sh -c "ulimit -n 5; exec '$fid' doctor"
	row 'missing +a new pipe +refused with EMFILE'
	grep -q __asan_init "$fid" && skip "a sanitizer needs more memory than any limit gives"
	for limit in 3000 3500 4000 5000 8000; do
		# Below some number it cannot even be started.
		(ulimit -v $limit && exec "$fid" --version) > json 2> err || continue
		status=0
		(ulimit -v $limit && "$fid" doctor --json) > json 2> err || status=$?
		[ $status -le 1 ]
		python3 "$here/found.py" json True
	done
}
run few_descriptors_and_little_memory_are_findings

a_limit_of_file_sizes_is_no_sandbox_that_kills() {
	for blocks in 0 8; do
		# The report itself goes into a pipe.
		{
			(ulimit -f $blocks && timeout 60 "$fid" doctor --json .) || :
		} 2> err | cat > json
		python3 "$here/found.py" json "amiss <= {'memory.memory_seal'} and
			(not amiss or 'ulimit -f' in f['memory.memory_seal']['advice']) and not d['complete'] and 'kill' not in str(d) and
			p['reflink']['state'] == 'unknown' and p['reflink']['error'] == 'EFBIG'"
	done
	expect 1 sh -c "ulimit -f 0; exec '$fid' doctor ."
}
run a_limit_of_file_sizes_is_no_sandbox_that_kills

a_file_system_that_is_full_is_no_reason_to_blame_a_call() {
	[ "$(id -u)" = 0 ] || skip "mounting takes root"
	mkdir full
	mount -t tmpfs -o size=64k none full 2> /dev/null || skip "mounting is refused here"
	trap 'umount full' EXIT
	found "p['splice_sink']['state'] == 'unknown' and p['splice_sink']['error'] == 'ENOSPC' and
		'room' in p['splice_sink']['advice'] and p['splice_source']['state'] == 'ok' and
		'missing' not in [one['state'] for one in p.values()]" "$fid" doctor --json full
	[ -z "$(ls -A full)" ]
}
run a_file_system_that_is_full_is_no_reason_to_blame_a_call

an_ignored_signal_of_children_changes_nothing() {
	found True "$fid" doctor --json
	status=$got
	found "f['calls.splice']['detail'] != '' and
		not any('nobody could' in one['detail'] for one in every)" \
		python3 -c 'import os, signal, sys
for one in signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM: signal.signal(one, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])' "$fid" doctor --json
	[ "$got" = "$status" ]
}
run an_ignored_signal_of_children_changes_nothing

colours_are_for_terminals_that_have_them() {
	expect_colour() {
		wanted=$1
		shift
		timeout 60 "$terminal" 100 sh -c '"$@" >&2' sh "$@" > /dev/null 2> err || :
		grep -q splice err
		if grep -q "$(printf '\033')" err; then
			[ "$wanted" = yes ]
		else
			[ "$wanted" = no ]
		fi
	}
	expect_colour yes env -u NO_COLOR TERM=xterm "$fid" doctor
	expect_colour no env NO_COLOR=1 TERM=xterm "$fid" doctor
	expect_colour no env -u NO_COLOR TERM=dumb "$fid" doctor
	expect_colour no env -u NO_COLOR -u TERM "$fid" doctor
	expect_colour no env -u NO_COLOR TERM=xterm "$fid" doctor --json
}
run colours_are_for_terminals_that_have_them

wrong_usage_is_2_with_a_hint() {
	for option in --jsn --json=1 -x --bogus ''; do
		expect 2 "$fid" doctor "$option"
		says 'hint: '
		[ ! -s out ]
	done
	expect 2 "$fid" doctor --jsn
	says "did you mean '--json'"
	for words in 'help doctor' 'doctor -h' 'doctor --help'; do
		# The words are split on purpose.
		expect 0 "$fid" $words
		grep -q '^Usage: fid doctor' out
		awk 'length($0) > 80 { print "too wide: " $0; exit 1 }' out
	done
	expect 0 "$fid" doctor --version
}
run wrong_usage_is_2_with_a_hint

output_that_cannot_be_printed_is_a_failure() {
	[ -w /dev/full ] || skip "there is no /dev/full"
	status=0
	"$fid" doctor > /dev/full 2> err || status=$?
	[ $status = 1 ]
	says 'cannot print: No space'
}
run output_that_cannot_be_printed_is_a_failure

finish
