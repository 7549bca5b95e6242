# SPDX-License-Identifier: MIT
"""fid.h compiles alone, as the languages that it promises, without a warning."""
import os
import re
import shutil
import subprocess
import tempfile

import tap

COMPILERS = {
    'gcc': ('c', ['c99', 'c11', 'c17']),
    'clang': ('c', ['c99', 'c11', 'c17']),
    'g++': ('c++', ['c++11', 'c++17']),
    'clang++': ('c++', ['c++11', 'c++17']),
}
WARNINGS = ['-pedantic', '-Wall', '-Wextra', '-Wundef', '-Werror']

# Every type and constant that a program may hold is used, so that the header must define it.
PROGRAM = '''#include <fid.h>
#include <string.h>

int main(void)
{
	struct fid_options options;
	struct fid_receipt receipt;
	struct pollfd wait[2];
	struct fid_facts facts;
	struct fid_flow *flow = 0;
	char text[10];

	memset(&options, 0, sizeof(options));
	options.size = sizeof(options);
	options.flags = FID_STABLE | FID_NOWAIT | FID_INTERRUPTIBLE | FID_LIMIT_ZERO;
	options.routes = FID_ROUTE(FID_SPLICE);
	if (fid_copy(0, 1, &options, &receipt) < 0 || fid_probe(&facts, 0))
		return fid_receipt_text(&receipt, text, sizeof(text));
	return fid_flow_step(flow, wait) + (fid_flow_free(flow) != 0);
}
'''


def compile_alone(compiler, language, standard, text, extra):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'alone.' + {'c': 'c', 'c++': 'cc'}[language])
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)
        done = subprocess.run([compiler, f'-std={standard}', '-fsyntax-only', path] + extra,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              encoding='utf-8', errors='replace', check=False)
    return done.stdout.splitlines() or [f'exited with {done.returncode}'] \
        if done.returncode else []


def main():
    tests = tap.Tests()
    public = ['-I' + os.path.join(tap.ROOT, 'include')]
    inside = public + ['-I' + os.path.join(tap.ROOT, 'lib'), '-D_GNU_SOURCE']
    for compiler, (language, standards) in COMPILERS.items():
        for standard in standards:
            name = f'header_compiles_alone_with_{compiler}_as_{standard}'
            if not shutil.which(compiler):
                tests.skip(name, f'{compiler} is not installed')
                continue
            tests.check(name, compile_alone(compiler, language, standard, PROGRAM,
                                            WARNINGS + public))
    headers = [p for p in tap.files() if re.match(r'lib/.*\.h$', p)]
    complaints = []
    for header in headers:
        text = f'#include "{header[len("lib/"):]}"\nint nothing;\n'
        complaints += compile_alone('gcc' if shutil.which('gcc') else 'cc', 'c', 'gnu17', text,
                                    ['-Wall', '-Wextra', '-Werror'] + inside)
    tests.check('every_header_of_lib_compiles_alone', complaints)
    tests.end()


main()
