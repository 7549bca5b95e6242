# SPDX-License-Identifier: MIT
"""What other programs say about the tree: clang-format, clang-tidy, mandoc, shellcheck.

    tools.py BUILD_DIRECTORY

One test for each file where a program is slow or speaks of one file, so that a failure names it.
A program that is not installed is a skip.
"""
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import tap

# The tree is formatted by this version; others break lines elsewhere and find other things.
CLANG_MAJOR = 14


def version_of(program):
    said = subprocess.run([program, '--version'], stdout=subprocess.PIPE, encoding='utf-8',
                          check=False).stdout
    match = re.search(r'version (\d+)', said)
    return int(match.group(1)) if match else 0


def find(name):
    """The program of the version wanted, else any, else None."""
    return shutil.which(f'{name}-{CLANG_MAJOR}') or shutil.which(name)


def run(command):
    done = subprocess.run(command, cwd=tap.ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8',
                          errors='replace', check=False)
    return done.returncode, done.stdout.splitlines()


def check_format(tests, sources):
    name = 'every_source_is_formatted'
    program = find('clang-format')
    if not program:
        tests.skip(name, 'clang-format is not installed')
        return
    if version_of(program) != CLANG_MAJOR:
        tests.skip(name, f'the tree is formatted by clang-format {CLANG_MAJOR}, and this is '
                   f'{version_of(program)}')
        return
    code, said = run([program, '--dry-run', '--Werror'] + sources)
    wrong = sorted({line.split(':')[0] for line in said if ': error:' in line})
    tests.check(name, [f'{path}: run "./dev format"' for path in wrong] or
                (said if code else []))


def findings(said):
    """What clang-tidy found, without the path that leads there."""
    found = []
    wanted = 0
    for line in said:
        if re.search(r': (error|warning|note): ', line):
            wanted = 3 if ': note: ' not in line else 0
        if wanted:
            found.append(line)
            wanted -= 1
    return found


# The build's compiler may be gcc: clang need not know all of its flags.
FOREIGN_FLAGS = ['-Wno-unknown-warning-option', '-Wno-ignored-optimization-argument']


def commands_of_meson(program, build):
    with open(os.path.join(build, 'compile_commands.json'), encoding='utf-8') as f:
        commands = json.load(f)
    for command in commands:
        path = os.path.relpath(os.path.join(command['directory'], command['file']), tap.ROOT)
        if re.match(r'(lib|cli|preload|bench)/.*\.c$', path):
            yield path, [program, '-p', build, '--quiet',
                         *(f'--extra-arg={flag}' for flag in FOREIGN_FLAGS), path]


def commands_of_make(program, makefile):
    """The extension for Ruby, as its own Makefile would compile it."""
    folder = os.path.dirname(makefile)
    for line in run(['make', '-C', folder, '--no-print-directory', '-B', '-n', 'V=1'])[1]:
        words = shlex.split(line)
        if '-c' not in words:
            continue
        # COMPILER FLAG... -o OBJECT -c SOURCE
        path = os.path.relpath(os.path.join(folder, words[-1]), tap.ROOT)
        if re.match(r'ruby/ext/fid/\w+\.c$', path):
            flags = words[:words.index('-o')]
            while not flags[0].startswith('-'):
                flags.pop(0)
            yield path, [program, '--quiet', path, '--', *flags, *FOREIGN_FLAGS]


def check_tidy(tests, build):
    program = find('clang-tidy')
    if not program:
        tests.skip('clang_tidy_finds_nothing', 'clang-tidy is not installed')
        return
    if version_of(program) != CLANG_MAJOR:
        tests.skip('clang_tidy_finds_nothing', f'the checks are chosen for clang-tidy '
                   f'{CLANG_MAJOR}, and this is {version_of(program)}')
        return
    wanted = dict(commands_of_meson(program, build))
    makefile = os.path.join(build, 'ruby', 'ext', 'fid', 'fid_ext.so.p', 'Makefile')
    if os.path.exists(makefile):
        wanted.update(commands_of_make(program, makefile))
        for path in tap.files():
            if re.match(r'ruby/ext/fid/\w+\.c$', path) and path not in wanted:
                tests.check(f'clang_tidy_finds_nothing_in_{path}', ['nobody compiles it'])
    else:
        tests.skip('clang_tidy_finds_nothing_in_ruby', 'the extension is not built here')
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        paths = sorted(wanted)
        for path, (code, said) in zip(paths, pool.map(lambda p: run(wanted[p]), paths)):
            tests.check(f'clang_tidy_finds_nothing_in_{path}',
                        (findings(said) or said or [f'exited with {code}']) if code else [])


# What mandoc remarks on and the tree does on purpose.
ACCEPTED = re.compile('|'.join([
    'referenced manual not found',        # it looks on this machine only
    'outdated mandoc.db',                 # likewise
    'input text line longer than 80',     # 96 columns here
    'no blank before trailing delimiter: (Cm|Ql|Li) .*:$',  # "tcp:" ends with its colon
]))


def check_manual(tests, pages):
    if not pages:
        tests.skip('manual_pages_are_clean', 'there are no pages in man/')
        return
    if not shutil.which('mandoc'):
        tests.skip('manual_pages_are_clean', 'mandoc is not installed')
        return
    for page in pages:
        # What it says of its database on stderr comes in the middle of a line of these.
        said = run(['sh', '-c', 'mandoc -T lint "$1" 2>/dev/null', 'sh', page])[1]
        tests.check(f'manual_page_{page}_is_clean',
                    [line for line in said if not ACCEPTED.search(line)])


def is_shell(path):
    try:
        with open(os.path.join(tap.ROOT, path), 'rb') as f:
            first = f.readline(80)
    except OSError:
        return False
    return bool(re.match(rb'#!\s*\S*(/|env )(ba|da)?sh\b', first))


def check_shell(tests, scripts):
    program = shutil.which('shellcheck')
    for path in scripts:
        name = f'shell_script_{path}_is_clean'
        if not program:
            tests.skip(name, 'shellcheck is not installed')
            continue
        code, said = run([program, '-f', 'gcc', path])
        tests.check(name, (said or [f'exited with {code}']) if code else [])


def main():
    tests = tap.Tests()
    paths = list(tap.files())
    check_format(tests, [p for p in paths if p.endswith(('.c', '.h'))])
    check_tidy(tests, sys.argv[1])
    check_manual(tests, [p for p in paths if re.match(r'man/.*\.[0-9]$', p)])
    check_shell(tests, [p for p in paths if is_shell(p)])
    tests.end()


main()
