# SPDX-License-Identifier: MIT
# What the scripts share. They are run as: sh SCRIPT FID TERMINAL
#
# A test is a function; "run FUNCTION" runs it in an empty directory of its own, with set -e,
# and its name is the sentence that it proves.

fid=$(realpath "$1") && terminal=$(realpath "$2") || exit 1
export LC_ALL=C
count=0
here=$(mktemp -d "${TMPDIR:-/tmp}/fid-cli.XXXXXX") || exit 1
trap 'rm -rf "$here"' EXIT
trap 'exit 1' INT TERM HUP

run() {
	count=$((count + 1))
	mkdir "$here/$count"
	(
		cd "$here/$count"
		# What a test that fails leaves running goes with it. A file takes the list, since
		# in $(jobs -p) dash lists the jobs of that subshell, which has none.
		trap 'jobs -p > "$here/jobs"; xargs -r kill < "$here/jobs" 2> /dev/null || :' EXIT
		set -e
		"$1"
	) > "$here/log" 2>&1
	status=$?
	sentence=$(echo "$1" | tr _ ' ')
	case $status in
	0) echo "ok $count - $sentence" ;;
	77) echo "ok $count - $sentence # SKIP $(tail -n 1 "$here/log")" ;;
	*)
		echo "not ok $count - $sentence"
		sed 's/^/# /' "$here/log"
		;;
	esac
	rm -rf "${here:?}/$count"
}

finish() {
	echo "1..$count"
}

# skip REASON: ends the test.
skip() {
	echo "$*"
	exit 77
}

# expect STATUS COMMAND...: runs it, with its output in ./out and its messages in ./err.
expect() {
	wanted=$1
	shift
	got=0
	timeout 20 "$@" > out 2> err || got=$?
	[ "$got" -eq "$wanted" ] && return
	echo "status $got, wanted $wanted: $*"
	cat err
	return 1
}

# same FILE FILE
same() {
	cmp "$1" "$2"
}

# silent: nothing was said.
silent() {
	[ ! -s err ] && return
	echo "said:"
	cat err
	return 1
}

# says REGULAR-EXPRESSION: a line of ./err matches.
says() {
	grep -q -e "$1" err && return
	echo "no line matches: $1"
	cat err
	return 1
}

# until_true COMMAND...: waits for it to be true, at least 30 seconds: a disk may be busy.
until_true() {
	tries=0
	until "$@" 2> /dev/null; do
		tries=$((tries + 1))
		if [ "$tries" -gt 600 ]; then
			echo "never true: $*"
			return 1
		fi
		sleep 0.05
	done
}

# peer SECONDS: a listener that reads only after so long; its port is in ./port.
peer() {
	command -v python3 > /dev/null || skip 'python3 is not installed'
	cat > peer.py << 'END'
import os, socket, sys, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
listener.bind(("127.0.0.1", 0))
listener.listen(1)
open("port.new", "w").write(str(listener.getsockname()[1]))
os.rename("port.new", "port")
connection, _ = listener.accept()
time.sleep(float(sys.argv[1]))
while connection.recv(65536):
    pass
END
	rm -f port
	timeout 30 python3 peer.py "$1" &
	until_true test -e port
}

# drip COUNT: 100,000 bytes each quarter of a second.
drip() {
	drops=$1
	while [ "$drops" -gt 0 ]; do
		head -c 100000 /dev/zero
		sleep 0.25
		drops=$((drops - 1))
	done
}

# begin_on_mirror: begins ./script, which is to be run as "sh script MIRROR" with a limit of time.
# In it libfuse has mounted ./inside on ./mounted, and says what it does in ./server. The status is
# 77 where mounting is refused. $mirror is the program, or none.
begin_on_mirror() {
	[ "$mirror" != none ] || skip "no libfuse3 that links was found"
	[ -w /dev/fuse ] || skip "/dev/fuse cannot be opened"
	[ "$(id -u)" = 0 ] || skip "mounting without fusermount3 takes root"
	mkdir inside mounted
	cat > script << 'END'
"$1" inside mounted 2> server &
trap 'umount -l mounted 2> /dev/null || :; kill $! 2> /dev/null || :' EXIT
tries=0
until grep -q " $PWD/mounted fuse" /proc/mounts; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] || exit 77
	sleep 0.05
done
set -e
END
}

# bytes COUNT: so many bytes that are not all the same.
bytes() {
	head -c "$1" /dev/urandom
}

# receipt FILE EXPRESSION: Python's word on the JSON receipt r, whose sums are checked as well.
receipt() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	python3 - "$1" "$2" << 'END'
import json, sys
lines = open(sys.argv[1]).read().splitlines()
r = json.loads([line for line in lines if line.startswith("{")][-1])
assert r["bytes_in"] == r["bytes_out"] + r["bytes_held"] + r["bytes_salvaged"], r
assert eval(sys.argv[2]), r
END
}

# teed ARGUMENT...: fid tee, which ends if it hangs, so that those that read from it end as well.
teed() {
	timeout 20 "$fid" tee "$@"
}

# receipts FILE EXPRESSION: the same for fid tee: r is the whole, s the source, k the sinks by
# their names.
receipts() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	python3 - "$1" "$2" << 'END'
import json, sys
lines = open(sys.argv[1]).read().splitlines()
r = json.loads([line for line in lines if line.startswith("{")][-1])
s = r["source"]
k = {one["name"]: one for one in r["sinks"]}
for one in [s, *r["sinks"]]:
    assert one["bytes_in"] == one["bytes_out"] + one["bytes_held"] + one["bytes_salvaged"], one
assert eval(sys.argv[2]), r
END
}
