# SPDX-License-Identifier: MIT
# fid run: what it starts, what it denies, and what it says about programs that it cannot help.
# sh run.sh FID STATIC, a program that is linked statically and prints "static"; or "none".
statically=$2
. "$(dirname "$0")/tap.sh"
[ "$statically" = none ] || statically=$(realpath "$statically")
everything=splice=EPERM,tee=EPERM,vmsplice=EPERM,sendfile=EPERM,copy_file_range=EPERM

# What stands before a command that runs as a user without privileges.
nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'

# as_root_with_setpriv: ends the test where files cannot be given to other users.
as_root_with_setpriv() {
	[ "$(id -u)" = 0 ] || skip "only root can give a file to another user"
	command -v setpriv > /dev/null || skip "setpriv is not installed"
	chmod 755 "$here" . # what is run is here
	$nobody cat /dev/null "$fid" > /dev/null || skip "another user cannot run $fid"
}

# own_machine: the programs of this system are for the machine that fid is for.
own_machine() {
	expect 0 "$fid" run -- true
	! grep -q 'another machine' err || skip "fid is for another machine than this system"
}

the_exit_status_is_that_of_the_command() {
	expect 0 "$fid" run -- sh -c 'exit 0'
	expect 42 "$fid" run -- sh -c 'exit 42'
	expect 42 "$fid" run --deny $everything -- sh -c 'exit 42'
	expect 1 "$fid" run --no-preload false
}
run the_exit_status_is_that_of_the_command

a_command_that_is_not_there_is_127_and_one_that_cannot_run_is_126() {
	expect 127 "$fid" run -- no-such-command
	says '^fid run: no-such-command: No such file'
	expect 127 "$fid" run -- ./no-such-command
	echo text > text
	expect 126 "$fid" run -- ./text
	says 'ermission denied'
	expect 126 "$fid" run -- /
}
run a_command_that_is_not_there_is_127_and_one_that_cannot_run_is_126

options_end_at_the_command() {
	own_machine
	expect 0 "$fid" run echo --deny -n --help
	[ "$(cat out)" = '--deny -n --help' ]
	expect 0 "$fid" run -- echo -- x
	[ "$(cat out)" = '-- x' ]
	silent
}
run options_end_at_the_command

wrong_usage_is_2_with_a_hint_and_runs_nothing() {
	expect 2 "$fid" run
	says 'COMMAND is missing'
	expect 2 "$fid" run --deny splice=EPERM
	says 'COMMAND is missing'
	for denial in splice splice= =EPERM splice=NOPE splice=EPERM, ,splice=EPERM read=EPERM ''; do
		expect 2 "$fid" run --deny "$denial" -- touch ran
		says 'hint: '
	done
	expect 2 "$fid" run --deny vmsplise=EPERM -- touch ran
	says "did you mean 'vmsplice'"
	expect 2 "$fid" run --denny x=y -- touch ran
	says "did you mean '--deny'"
	[ ! -e ran ]
}
run wrong_usage_is_2_with_a_hint_and_runs_nothing

a_signal_that_ends_the_command_is_seen_by_whoever_started_fid() {
	expect 143 sh -c "'$fid' run -- sh -c 'kill -TERM \$\$'; exit \$?"
	"$fid" run -- sleep 20 &
	# It is the same process, so that whoever kills it kills the command.
	until_true sh -c "grep -q -a '^sleep' /proc/$!/cmdline"
	kill -INT $! 2> /dev/null || :
	kill -TERM $!
	status=0
	wait $! || status=$?
	[ "$status" -gt 128 ]
}
run a_signal_that_ends_the_command_is_seen_by_whoever_started_fid

the_command_and_its_children_have_the_library() {
	own_machine
	expect 0 "$fid" run -- sh -c 'sh -c "cat /proc/self/maps"'
	grep -q libfid-preload out
	expect 0 "$fid" run --no-preload -- cat /proc/self/maps
	! grep -q libfid-preload out
}
run the_command_and_its_children_have_the_library

what_was_preloaded_before_stays_and_the_library_is_there_once() {
	own_machine
	expect 0 env LD_PRELOAD=libm.so.6 "$fid" run -- "$fid" run -- sh -c 'echo "$LD_PRELOAD"'
	case $(cat out) in
	*/libfid-preload.so*/libfid-preload.so*) return 1 ;;
	/*/libfid-preload.so:libm.so.6) ;;
	*)
		cat out
		return 1
		;;
	esac
}
run what_was_preloaded_before_stays_and_the_library_is_there_once

descriptors_arrive_as_they_were() {
	own_machine
	"$fid" run -- sh -c 'ls /proc/self/fd' > with <&- 2>&-
	sh -c 'ls /proc/self/fd' > without <&- 2>&-
	same with without
}
run descriptors_arrive_as_they_were

denied_calls_are_refused_to_the_kernel_and_done_all_the_same() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	own_machine
	cat > calls.py << 'END'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
a, b = os.pipe(), os.pipe()
os.write(a[1], b"fibres")
moved = libc.splice(a[0], None, b[1], None, 100, 0)
print(moved, ctypes.get_errno() if moved < 0 else os.read(b[0], 9))
END
	expect 0 "$fid" run --deny splice=ENOSYS -- python3 calls.py
	[ "$(cat out)" = "6 b'fibres'" ]
	expect 0 "$fid" run --deny splice=ENOSYS --no-preload -- python3 calls.py
	[ "$(cat out)" = "-1 38" ]
	expect 0 "$fid" run --deny splice=EPERM --no-preload -- "$fid" run -- python3 calls.py
	[ "$(cat out)" = "6 b'fibres'" ]
	# Denials add up, and the last word on a call counts.
	expect 0 "$fid" run --deny tee=EPERM --deny splice=ENOSYS,splice=EPERM --no-preload -- \
		python3 calls.py
	[ "$(cat out)" = "-1 1" ]
}
run denied_calls_are_refused_to_the_kernel_and_done_all_the_same

the_gift_alone_can_be_denied() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	own_machine
	cat > gift.py << 'END'
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]
a = os.pipe()
for flags in 0, 8:
    print(libc.vmsplice(a[1], ctypes.byref(iovec(b"text", 4)), 1, flags))
END
	expect 0 "$fid" run --deny vmsplice-gift=EOPNOTSUPP --no-preload -- python3 gift.py
	[ "$(cat out)" = "$(printf '4\n-1')" ]
	expect 0 "$fid" run --deny vmsplice-gift=EOPNOTSUPP -- python3 gift.py
	[ "$(cat out)" = "$(printf '4\n4')" ]
	expect 0 "$fid" run --deny vmsplice=EPERM,vmsplice-gift=ENOSYS --no-preload -- \
		python3 gift.py
	[ "$(cat out)" = "$(printf -- '-1\n-1')" ]
}
run the_gift_alone_can_be_denied

fid_under_fid_run_sees_what_the_kernel_says() {
	bytes 3000000 > a
	expect 0 "$fid" run --deny $everything -- "$fid" copy --receipt=json --route \
		copy_file_range,sendfile,splice-pipe,read-write a b
	same a b
	receipt err 'r["user_copy"] == 3000000 and r["by_reference"] + r["kernel_copy"] == 0'
	receipt err '{d["error"] for d in r["demotions"]} <= {"EPERM", None}'
	receipt err 'any(d["error"] == "EPERM" for d in r["demotions"])'
	# And where nothing is denied the library is not in its way.
	expect 0 "$fid" run -- "$fid" copy --receipt=json --route splice-pipe a b
	receipt err 'r["bytes"]["splice-pipe"] == 3000000 and not r["demotions"]'
}
run fid_under_fid_run_sees_what_the_kernel_says

a_static_command_is_run_after_a_warning() {
	[ "$statically" != none ] || skip "the compiler cannot link statically"
	expect 0 "$fid" run -- "$statically"
	[ "$(cat out)" = static ]
	says "^fid run: warning: $statically cannot be helped: .*statically"
	expect 0 "$fid" run --no-preload -- "$statically"
	silent
}
run a_static_command_is_run_after_a_warning

a_script_is_what_its_interpreter_is() {
	[ "$statically" != none ] || skip "the compiler cannot link statically"
	own_machine
	printf '#! %s -x\n' "$statically" > script
	printf '#!%s\n' "$PWD/script" > script-of-script
	chmod +x script script-of-script
	for name in script script-of-script; do
		expect 0 env PATH="$PWD:$PATH" "$fid" run -- $name
		[ "$(cat out)" = static ]
		says "warning: $name ($statically) cannot be helped"
	done
	printf '#!/bin/sh\necho script\n' > script
	expect 0 "$fid" run -- ./script
	[ "$(cat out)" = script ]
	silent
}
run a_script_is_what_its_interpreter_is

a_command_for_another_machine_is_run_after_a_warning() {
	command -v python3 > /dev/null || skip "python3 is not installed"
	python3 - "$fid" << 'END'
import sys
program = bytearray(open(sys.argv[1], "rb").read())
program[18] ^= 0x55 # e_machine
open("foreign", "wb").write(program)
END
	chmod +x foreign
	# The shell tries what the kernel does not know, as with env(1); there may be an emulator.
	"$fid" run -- ./foreign > /dev/null 2> err < /dev/null || :
	says 'warning: ./foreign cannot be helped: .*another machine'
	"$fid" run --deny tee=EPERM -- ./foreign > /dev/null 2> err < /dev/null || :
	says 'its calls are not denied either'
}
run a_command_for_another_machine_is_run_after_a_warning

a_set_user_id_command_is_run_after_a_warning() {
	as_root_with_setpriv
	own_machine
	cp "$(command -v cat)" privileged
	chmod u+s privileged
	# Its owner is root, who gains nothing by it.
	expect 0 "$fid" run -- ./privileged /dev/null
	silent
	expect 0 $nobody "$fid" run -- ./privileged /proc/self/maps
	! grep -q libfid-preload out || skip "this file system is mounted nosuid"
	says 'warning: ./privileged cannot be helped: .*set-user-ID'
	# A filter takes the privileges away, and then the library is loaded.
	expect 0 $nobody "$fid" run --deny tee=EPERM -- ./privileged /proc/self/maps
	grep -q libfid-preload out
	says 'warning: ./privileged runs without the privileges'
}
run a_set_user_id_command_is_run_after_a_warning

a_command_with_capabilities_is_run_after_a_warning() {
	as_root_with_setpriv
	own_machine
	command -v setcap > /dev/null || skip "setcap is not installed"
	cp "$(command -v cat)" capable
	setcap cap_net_raw+ep capable || skip "this file system has no capabilities"
	expect 0 $nobody "$fid" run -- ./capable /proc/self/maps
	! grep -q libfid-preload out || skip "this file system is mounted nosuid"
	says 'warning: ./capable cannot be helped: .*capabilities'
}
run a_command_with_capabilities_is_run_after_a_warning

a_library_that_is_missing_or_in_an_impossible_place_is_125() {
	mkdir -p alone/bin 'white space/cli' 'white space/preload'
	cp "$fid" alone/bin/fid
	cp "$fid" 'white space/cli/fid'
	if alone/bin/fid run -- true 2> err; then
		skip "another libfid-preload.so is installed on this system"
	fi
	expect 125 alone/bin/fid run -- true
	says 'libfid-preload.so is missing'
	says 'hint: .*--no-preload'
	expect 0 alone/bin/fid run --no-preload -- true
	cp "$(dirname "$fid")/../preload/libfid-preload.so" 'white space/preload/'
	expect 125 'white space/cli/fid' run -- true
	says 'cannot be preloaded: no colon, space'
}
run a_library_that_is_missing_or_in_an_impossible_place_is_125

finish
