#!/bin/sh
# SPDX-License-Identifier: MIT
# A statically linked test program inside gVisor's runsc: gvisor.sh PROGRAM
# runsc takes root here; it sees the host's files, and what is written stays inside.
skip() {
	echo "1..1"
	echo "ok 1 - gvisor # SKIP $*"
	exit 0
}

# runsc truncates a file that is its standard output, so that it always gets a pipe.
inside() {
	runsc --rootless=false --platform=ptrace --network=none --ignore-cgroups "do" "$@" 2>&1 |
		cat
}

command -v runsc >/dev/null || skip "runsc, which runs gVisor, is not installed"
[ "$(id -u)" -eq 0 ] || skip "runsc takes root"
answer=$(inside /bin/echo inside)
[ "$answer" = inside ] ||
	skip "runsc does not run here: $(echo "$answer" | head -n 1 | cut -c1-100)"
program=$(readlink -f "$1")
# The working directory of the host may be one that is not writable inside.
inside /usr/bin/env TMPDIR=/tmp ${FID_SEED:+"FID_SEED=$FID_SEED"} "$program"
