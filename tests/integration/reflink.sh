#!/bin/sh
# SPDX-License-Identifier: MIT
# The tests of clones on a file system that has them, made in a file: reflink.sh PROGRAM
# It takes root and a loop device.
scratch=$(mktemp -d) || exit 1
trap 'umount "$scratch/mount" 2>/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$scratch/mount"

skip() {
	echo "1..1"
	echo "ok 1 - reflink_on_a_file_system_made_for_it # SKIP $*"
	exit 0
}

[ "$(id -u)" -eq 0 ] || skip "mounting takes root"
make=
for fs in btrfs xfs; do
	if command -v "mkfs.$fs" >/dev/null && grep -qw "$fs" /proc/filesystems; then
		make=$fs
		break
	fi
done
[ -n "$make" ] || skip "no mkfs.btrfs or mkfs.xfs, or no such file system in this kernel"
truncate -s 512M "$scratch/disk"
"mkfs.$make" -q "$scratch/disk" >/dev/null || skip "mkfs.$make failed"
mount -o loop "$scratch/disk" "$scratch/mount" 2>"$scratch/error" ||
	skip "no loop device: $(head -n 1 "$scratch/error")"

echo "# on $make"
TMPDIR=$scratch/mount "$1" reflink
