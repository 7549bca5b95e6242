# SPDX-License-Identifier: MIT
"""libfid.so shows exactly the functions of its version map.

    exports.py NM LIBRARY
"""
import subprocess
import sys

import tap


def main():
    said = subprocess.run([sys.argv[1], '-D', '-P', '--defined-only', sys.argv[2]],
                          stdout=subprocess.PIPE, check=True, encoding='utf-8').stdout
    shown = [line.split()[0] for line in said.splitlines()]
    # The version's own name is an absolute symbol, which some versions of nm show.
    functions = [name.split('@')[0] for name in shown if not name.startswith('FID_')]
    wanted = tap.exported_by_map()
    tests = tap.Tests()
    tests.check('shared_library_exports_exactly_its_version_map',
                [f'{name} is exported and not in the map' for name in functions
                 if name not in wanted] +
                [f'{name} is in the map and not exported' for name in wanted
                 if name not in functions])
    tests.check('every_export_carries_its_version',
                [f'{name} has no version' for name in shown
                 if not name.startswith('FID_') and '@@FID_' not in name])
    tests.end()


main()
