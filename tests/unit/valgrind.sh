#!/bin/sh
# SPDX-License-Identifier: MIT
# No leak, no invalid access, no descriptor left: valgrind.sh VALGRIND PROGRAM
echo "1..1"
name="nothing leaks and nothing is read before it is written"
case $1 in
-)
	echo "ok 1 - $name # SKIP valgrind was not found"
	exit 0
	;;
sanitizer)
	echo "ok 1 - $name # SKIP the program has a sanitizer in it"
	exit 0
	;;
esac
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# A program for another machine or with a sanitizer of its own is none for valgrind.
if ! "$1" --log-file="$scratch/start" "$2" -l >/dev/null 2>"$scratch/start.err"; then
	reason=$(cat "$scratch/start" "$scratch/start.err" | grep -i -m 1 'fatal\|incompatible\|unexpected')
	echo "ok 1 - $name # SKIP valgrind cannot start it: $reason"
	exit 0
fi

# The pool of the process stays reachable to its end by design. Descriptors have a run of their
# own: newer versions count the -1 with which the probe asks whether a call is there as an error.
"$1" --leak-check=full --errors-for-leak-kinds=definite,indirect,possible \
	--error-exitcode=1 --log-file="$scratch/log" "$2" >"$scratch/out" 2>&1 </dev/null
result=$?
"$1" --track-fds=yes --log-file="$scratch/open" "$2" >"$scratch/out" 2>&1 </dev/null || result=1
# Older versions list open descriptors and do not count them as errors.
open=$(awk '/Open .*(file descriptor|socket|pipe)/ { line = $0 }
	line && /<inherited from parent>/ { line = "" }
	line && $0 !~ /Open / { print line; line = "" }' "$scratch/open" | grep -v "$scratch/")
if [ $result -eq 0 ] && [ -z "$open" ]; then
	echo "ok 1 - $name"
	exit 0
fi
sed 's/^/# /' "$scratch/log"
grep -B 1 '^not ok' "$scratch/out" | sed 's/^/# /'
[ -z "$open" ] || echo "# left open: $open"
echo "not ok 1 - $name"
exit 1
