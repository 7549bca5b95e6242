# SPDX-License-Identifier: MIT
"""Only lib/kernel/linux.c talks to the operating system, but for what sources.py lets be.

    symbols.py NM LIBRARY

Each object of the static library names the functions that it takes from elsewhere. What is not
another part of libfid and not in the list below is a complaint, so that a new call to the
system, or to errno, outside the kernel's table does not pass unseen.
"""
import re
import subprocess
import sys

import tap

# Functions of libc that only compute, for any object.
PLAIN = {
    'memcpy', 'memmove', 'memset', 'memcmp', 'memchr', 'strlen', 'strcmp', 'strncmp', 'strchr',
    # The compiler's and the linker's own, which no source names.
    '_GLOBAL_OFFSET_TABLE_', '__stack_chk_fail', '__stack_chk_fail_local', '__tls_get_addr',
    '___tls_get_addr', '__assert_fail', '__udivdi3', '__umoddi3', '__divdi3', '__moddi3',
    '__popcountdi2', '__udivmoddi4',
}

MEMORY = {'malloc', 'calloc', 'realloc', 'free'}
LOCKS = {'pthread_mutex_init', 'pthread_mutex_lock', 'pthread_mutex_trylock',
         'pthread_mutex_unlock', 'pthread_mutex_destroy', 'pthread_once', 'pthread_atfork'}

# What an object may use besides, by its source.
ALLOWED = {
    'kernel/probe.c': LOCKS,
    'pipe/pipe.c': set(),
    'pipe/pool.c': MEMORY | LOCKS,
    'flow/route.c': set(),
    'pipe/stash.c': MEMORY,
    'pipe/memory.c': MEMORY,
    'flow/flow.c': MEMORY,
    'flow/spill.c': MEMORY,
    'flow/fan.c': MEMORY,
    'flow/receipt.c': {'snprintf', 'vsnprintf', 'strerrorname_np'},
    'options.c': set(),
    'version.c': set(),
}

# The one that may use anything.
KERNEL = 'kernel/linux.c'


def fortified(name):
    """__memcpy_chk is memcpy, compiled with _FORTIFY_SOURCE."""
    match = re.fullmatch(r'__(\w+)_chk', name)
    return match.group(1) if match else name


def objects(nm, library):
    """(object, defined, undefined) for each object of the library."""
    said = subprocess.run([nm, '-P', '-A', library], stdout=subprocess.PIPE, check=True,
                          encoding='utf-8').stdout
    found = {}
    for line in said.splitlines():
        match = re.match(r'.*\[(.*)\]: (\S+) (\S)', line) or re.match(r'(.*): (\S+) (\S)', line)
        if match:
            name, symbol, kind = match.groups()
            defined, undefined = found.setdefault(name.split('/')[-1], (set(), set()))
            (undefined if kind in 'Uw' else defined).add(symbol.split('@')[0])
    return found


def main():
    tests = tap.Tests()
    found = objects(sys.argv[1], sys.argv[2])
    ours = set().union(*(defined for defined, _ in found.values()))
    sources = {path[len('lib/'):].replace('/', '_') + '.o': path[len('lib/'):]
               for path in tap.files() if re.match(r'lib/.*\.c$', path)}

    tests.check('library_holds_every_source_of_lib',
                [f'no object of {source}' for name, source in sources.items()
                 if name not in found] +
                [f'{name} has no source in lib/' for name in found if name not in sources])
    kernel = found.get(KERNEL.replace('/', '_') + '.o', (set(), set()))[1]
    tests.check('rule_sees_the_system_calls_of_linux_c',
                [f'{name} is not among the symbols of {KERNEL}' for name in
                 ('syscall', 'close', '__errno_location') if name not in kernel])
    for name, (_, undefined) in sorted(found.items()):
        source = sources.get(name, name)
        if source == KERNEL:
            continue
        allowed = PLAIN | ours | ALLOWED.get(source, set())
        tests.check(f'{source}_makes_no_system_call',
                    [f'{source} refers to {symbol}' for symbol in sorted(undefined)
                     if fortified(symbol) not in allowed])
    tests.check('no_permission_outlives_its_source',
                [f'{source} is not in lib/' for source in ALLOWED
                 if source not in sources.values()])
    tests.end()


main()
