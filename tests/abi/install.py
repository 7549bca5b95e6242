# SPDX-License-Identifier: MIT
"""What is installed can be used: through pkg-config, and as a Meson subproject.

    install.py BUILD_DIRECTORY
"""
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

import tap

PROGRAM = '''#include <fid.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
	struct fid_receipt receipt;
	char text[6] = "";
	int from[2], to[2];

	if (pipe(from) || pipe(to) || write(from[1], "fibre", 5) != 5 || close(from[1]))
		return 1;
	if (fid_copy(from[0], to[1], NULL, &receipt) != 5 || receipt.bytes_out != 5)
		return 2;
	if (read(to[0], text, 5) != 5 || strcmp(text, "fibre"))
		return 3;
	puts(fid_version());
	return 0;
}
'''

SUBPROJECT = '''project('user', 'c')
fid = dependency('fid', fallback: ['fid', 'fid_dep'])
program = executable('user', 'user.c', dependencies: fid)
test('user', program)
'''


COMPLETIONS = ['share/bash-completion/completions/fid', 'share/zsh/site-functions/_fid',
               'share/fish/vendor_completions.d/fid.fish']


class Failure(Exception):
    pass


def run(command, **more):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding='utf-8', errors='replace',
                          check=False, **more)
    if done.returncode:
        raise Failure('\n'.join([f'{shlex.join(command)} exited with {done.returncode}'] +
                                done.stdout.splitlines()[-30:]))
    return done.stdout.strip()


def write(path, text):
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)


class Installed:
    """A private place that the build directory is installed into."""

    def __init__(self, build, folder):
        self.root = os.path.join(folder, 'installed')
        self.folder = folder
        run(['meson', 'install', '--no-rebuild', '-C', build, '--destdir', self.root])
        self.pc = self.find('fid.pc')
        self.library = os.path.dirname(self.find('libfid.so'))
        self.user = os.path.join(folder, 'user.c')
        write(self.user, PROGRAM)

    def find(self, name):
        """A file by its name, or by the end of its path."""
        for folder, _, names in os.walk(self.root):
            if os.path.basename(name) in names and \
                    os.path.join(folder, os.path.basename(name)).endswith('/' + name):
                return os.path.join(folder, os.path.basename(name))
        raise Failure(f'{name} was not installed')

    def pkg_config(self, *arguments):
        env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(self.pc),
                   PKG_CONFIG_SYSROOT_DIR=self.root)
        return shlex.split(run(['pkg-config'] + list(arguments) + ['fid'], env=env))

    def shared(self):
        program = os.path.join(self.folder, 'shared')
        run(['cc', self.user, '-o', program] + self.pkg_config('--cflags', '--libs'))
        if 'libfid.so.0' not in run(['readelf', '-d', program]):
            raise Failure('the program does not need libfid.so.0')
        return run([program], env=dict(os.environ, LD_LIBRARY_PATH=self.library))

    def static(self):
        program = os.path.join(self.folder, 'static')
        run(['cc', self.user, '-o', program, '-static'] +
            self.pkg_config('--static', '--cflags', '--libs'))
        return run([program])

    def version(self):
        return self.pkg_config('--modversion')[0]

    def helped(self):
        """The installed command finds the installed library, wherever both were put."""
        return run([self.find('bin/fid'), 'run', '--', 'cat', '/proc/self/maps'],
                   env=dict(os.environ, LD_LIBRARY_PATH=self.library))

    def completions(self):
        """Where bash-completion, zsh and fish look for what is installed."""
        return ' '.join(os.path.relpath(self.find(path), self.root) for path in COMPLETIONS)

    def command(self):
        return run([self.find('bin/fid'), '--version'],
                   env=dict(os.environ, LD_LIBRARY_PATH=self.library))


def subproject(folder):
    top = os.path.join(folder, 'user')
    os.makedirs(os.path.join(top, 'subprojects'))
    # A copy and not a link: Meson may write beside a subproject.
    shutil.copytree(tap.ROOT, os.path.join(top, 'subprojects', 'fid'), symlinks=True,
                    ignore=shutil.ignore_patterns('.git', 'build', '__pycache__'))
    write(os.path.join(top, 'meson.build'), SUBPROJECT)
    write(os.path.join(top, 'user.c'), PROGRAM)
    # PKG_CONFIG_LIBDIR: a libfid of this system must not stand in for the one under test.
    env = dict(os.environ, PKG_CONFIG_LIBDIR=folder)
    run(['meson', 'setup', os.path.join(folder, 'b'), top], env=env)
    run(['ninja', '-C', os.path.join(folder, 'b'), '-j2', 'user'])
    return run([os.path.join(folder, 'b', 'user')])


def main():
    tests = tap.Tests()
    with tempfile.TemporaryDirectory() as folder:
        def same(name, action, wanted):
            try:
                said = action()
                tests.check(name, [] if wanted in said else [f'it said "{said}" where '
                                                             f'"{wanted}" is due'])
            except Failure as failure:
                tests.check(name, str(failure).splitlines())

        try:
            installed = Installed(sys.argv[1], folder)
            version = installed.version()
        except Failure as failure:
            tests.check('library_can_be_installed', str(failure).splitlines())
            tests.end()
        tests.check('library_can_be_installed', [])
        same('program_uses_the_shared_library_through_pkg_config', installed.shared, version)
        same('program_uses_the_static_library_through_pkg_config', installed.static, version)
        same('installed_command_says_the_same_version', installed.command, version)
        same('completions_are_installed_where_shells_look', installed.completions, 'fid.fish')
        same('installed_command_preloads_the_installed_library', installed.helped,
             os.path.realpath(installed.find('libfid-preload.so')))
        same('project_uses_fid_as_a_meson_subproject', lambda: subproject(folder), version)
    tests.end()


main()
