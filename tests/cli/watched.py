# SPDX-License-Identifier: MIT
"""Runs a command and prints what befell the files of a folder meanwhile.

    watched.py FOLDER COMMAND [ARGUMENT]...

A line an event: its names and the file's. Nothing is printed for a file that was only referred
to (O_PATH) or asked about. The status is the command's.
"""
import ctypes
import os
import struct
import subprocess
import sys

NAMES = ('access', 'modify', 'attrib', 'close-write', 'close-nowrite', 'open', 'moved-from',
         'moved-to', 'create', 'delete', 'delete-self', 'move-self')


def main():
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(sys.argv[1]),
                                           (1 << len(NAMES)) - 1) < 0:
        raise OSError(ctypes.get_errno(), 'inotify')
    status = subprocess.run(sys.argv[2:], check=False, stdout=subprocess.DEVNULL).returncode
    try:
        events = os.read(watch, 1 << 16)
    except BlockingIOError:
        events = b''
    while events:
        _, mask, _, length = struct.unpack_from('iIII', events)
        name = os.fsdecode(events[16:16 + length].rstrip(b'\0'))
        print(*[NAMES[bit] for bit in range(len(NAMES)) if mask & 1 << bit], name)
        events = events[16 + length:]
    sys.exit(status)


main()
