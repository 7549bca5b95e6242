# SPDX-License-Identifier: MIT
"""Tests of the tree itself, written in Python: TAP output, one line a rule."""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Tests:
    def __init__(self):
        self.number = 0
        self.failures = 0

    def check(self, name, complaints):
        """A rule holds when nobody complains."""
        self.number += 1
        for complaint in complaints:
            print(f'# {complaint}')
        self.failures += bool(complaints)
        print(f'{"not ok" if complaints else "ok"} {self.number} - {name}', flush=True)

    def skip(self, name, reason):
        self.number += 1
        print(f'ok {self.number} - {name} # SKIP {reason}', flush=True)

    def end(self):
        print(f'1..{self.number}')
        sys.exit(1 if self.failures else 0)


def files():
    """The files of the tree, relative to its root; build directories are not part of it."""
    for folder, folders, names in os.walk(ROOT):
        if 'build.ninja' in names or 'meson-private' in folders:
            folders[:] = []
            continue
        at_top = folder == ROOT
        folders[:] = sorted(d for d in folders
                            if d not in ('.git', '__pycache__') and not (at_top and d == 'build'))
        for name in sorted(names):
            if not (at_top and name == '.git'):
                yield os.path.relpath(os.path.join(folder, name), ROOT)


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as f:
        return f.read()


def public_functions():
    """The names of the functions that fid.h declares."""
    import re
    return re.findall(r'^FID_API\b[^;(]*?\b(fid_\w+)\s*\(', read('include/fid.h'),
                      re.MULTILINE)


def exported_by_map():
    import re
    body = read('lib/libfid.map').split('global:')[1].split('local:')[0]
    return re.findall(r'(\w+)\s*;', body)
