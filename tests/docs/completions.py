# SPDX-License-Identifier: MIT
"""What bash, zsh and fish offer for a command line of fid, asked in these shells.

    completions.py FID

Each shell has a terminal, as a person's has. A key of bash and zsh puts everything that is
offered into the line, which a function in place of fid then tells.
"""
import functools
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import termios
import time

import tap

PLACE = os.path.join(tap.ROOT, 'completions')
UNKNOWN = '--nobody-knows-this'
ALL = '\x14'  # Ctrl-T


class Fid:
    """The command itself, which knows what there is."""

    def __init__(self, path, folder):
        self.path = os.path.realpath(path)
        self.folder = folder

    @functools.lru_cache(None)
    def says(self, *arguments):
        return subprocess.run([self.path, *arguments], stdin=subprocess.DEVNULL, timeout=20,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder,
                              encoding='utf-8', check=False).stdout

    def commands(self):
        listed = self.says('help').split('Commands\n', 1)[1].split('\n\n')[0]
        return [line.split()[0] for line in listed.splitlines()]

    def options(self, command):
        """Those with which a line of its help begins, unless that says they are not there; and
        what any help names and the command takes."""
        text = self.says('help', command)
        found = re.findall(r'^  ((?:-\w, )?--[\w-]+|-\w)(?!.* is not there)', text, re.MULTILINE)
        found = [name for line in found for name in line.split(', ')]
        everything = '\n'.join(self.says('help', one) for one in self.commands())
        others = re.findall(r'(?<![\w-])--[a-z][\w-]*\w', everything)
        return found + [name for name in dict.fromkeys(others)
                        if name not in found and self.takes(command, name)]

    def takes(self, command, *words):
        """Whether it reads these words and goes on to the next one."""
        said = self.says(command, *words, UNKNOWN, UNKNOWN)
        if UNKNOWN in said or not said.startswith(f'fid {command}: '):
            return True
        # It may be particular about its value.
        return len(words) == 1 and words[0].startswith('--') and '=' not in words[0] and any(
            UNKNOWN in self.says(command, f'{words[0]}={value}', UNKNOWN)
            for value in ('1', 'x', 'x.svg', 'x.json'))


class Line:
    """A shell that offers by a key, and a function in place of fid that tells its words."""

    def __init__(self, program, arguments, setting, folder, tools):
        self.child, self.descriptor = pty.fork()
        if self.child == 0:
            os.chdir(folder)
            os.execvpe(program, [program, *arguments],
                       {'PATH': f'{tools}:/usr/bin:/bin', 'TERM': 'dumb', 'HOME': folder,
                        'LC_ALL': 'C.UTF-8', 'PS1': '$ '})
        mode = termios.tcgetattr(self.descriptor)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(self.descriptor, termios.TCSANOW, mode)
        self.said = ''
        self.send(setting + "\nfid() { printf '<%s>' \"$@\"; printf '%s\\n' '#'end'#'; }\n"
                            "printf '%s\\n' '#'ready'#'\n")
        self.wait_for('#ready#')

    def send(self, text):
        os.write(self.descriptor, text.encode())

    def wait_for(self, mark):
        end = time.monotonic() + 30
        while mark not in self.said:
            ready = select.select([self.descriptor], [], [], max(0, end - time.monotonic()))[0]
            if not ready:
                raise TimeoutError(f'the shell does not answer: {self.said[-500:]!r}')
            try:
                self.said += os.read(self.descriptor, 65536).decode('utf-8', 'replace')
            except OSError as error:
                raise TimeoutError(f'the shell has ended: {self.said[-500:]!r}') from error
        answer, self.said = self.said.split(mark, 1)
        return answer

    def offers(self, line):
        """The words that would take the place of the last one, and of nothing else."""
        pieces = re.split(r'(?<!\\) ', line)
        before = pieces[1:-1]
        self.send(line + ALL + '\n')
        answer = self.wait_for('#end#').replace('\r', '').replace('\n', '')
        # The line that was typed may have been echoed before what fid tells.
        words = re.findall(r'<([^<>]*)>', answer)
        assert words[:len(before)] == before, (line, words)
        # Bash cuts words at these characters, and puts in what stands behind the last of them.
        cut = re.match('(?:.*[:=])?', pieces[-1]).group(0)
        return [one if one.startswith(cut) else cut + one for one in words[len(before):]]

    def close(self):
        os.close(self.descriptor)
        os.waitpid(self.child, 0)


class Fish:
    def __init__(self, folder, tools):
        self.folder = folder
        self.environment = {'PATH': f'{tools}:/usr/bin:/bin', 'HOME': folder,
                            'LC_ALL': 'C.UTF-8', 'TERM': 'dumb'}

    def offers(self, line):
        done = subprocess.run(
            ['fish', '--no-config', '-c', 'source $argv[1]; complete -C $argv[2]',
             os.path.join(PLACE, 'fid.fish'), line], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding='utf-8', cwd=self.folder,
            env=self.environment, timeout=30, check=False)
        assert not done.stderr, done.stderr
        return [one.split('\t')[0] for one in done.stdout.splitlines()]

    def close(self):
        pass


def bash(folder, tools):
    return Line('bash', ['--norc', '--noprofile', '-i'],
                f'. {PLACE}/fid.bash; bind \'"\\C-t": insert-completions\'; '
                'bind "set enable-bracketed-paste off"', folder, tools)


def bash_with_helpers(folder, tools):
    shell = bash(folder, tools)
    shell.send(". /usr/share/bash-completion/bash_completion; printf '%s\\n' '#'ready'#'\n")
    shell.wait_for('#ready#')
    return shell


ZSH = """unsetopt zle_bracketed_paste 2>/dev/null; unset zle_bracketed_paste
fpath=(PLACE $fpath); autoload -U compinit; compinit -u -D
zle -C all complete-word _generic
zstyle ':completion:all:*' completer _all_matches _complete
zstyle ':completion:all:*' insert true
zstyle ':completion:all:*' menu no
zstyle ':completion:*' insert-tab false
bindkey '^T' all"""


def zsh(folder, tools):
    return Line('zsh', ['-f', '-i'], ZSH.replace('PLACE', PLACE), folder, tools)


SHELLS = {'bash': (bash, 'bash', '/bin/bash'),
          'bash_with_bash_completion': (bash_with_helpers, 'bash',
                                        '/usr/share/bash-completion/bash_completion'),
          'zsh': (zsh, 'zsh', '/usr/bin/zsh'), 'fish': (Fish, 'fish', '/usr/bin/fish')}

# A line; words that must be among what is offered; words that must not be.
LINES = [
    ('fid c', ['copy', 'cat'], ['tee']),
    ('fid help t', ['tee'], ['copy']),
    ('fid copy --rou', ['--route'], ['--receipt']),
    ('fid copy --route spl', ['splice', 'splice-pipe'], ['reflink']),
    ('fid copy --route=spl', ['--route=splice', '--route=splice-pipe'], ['--route=reflink']),
    ('fid cat --route splice,re', ['splice,read-write', 'splice,reflink'], ['splice,splice']),
    ('fid copy --require b', ['by-reference'], ['no-user-copy']),
    ('fid copy --receipt=j', ['--receipt=json'], ['--receipt=text']),
    ('fid copy dis', ['disk.img'], ['backup']),
    ('fid copy --receipt disk.img bac', ['backup'], ['disk.img']),
    ('fid copy disk.img tcp', ['tcp:', 'tcp-listen:'], ['unix:']),
    ('fid copy unix:dis', ['unix:disk.img'], ['unix:backup']),
    ('fid copy two\\ ', ['two words'], ['disk.img', 'tcp:']),
    ('fid copy two\\ w', ['two words'], ['disk.img', 'tcp:']),
    ('fid copy --receipt-file dis', ['disk.img'], ['disk.img:']),
    ('fid tee --on-slow ', ['wait', 'drop', 'spill'], ['disk.img']),
    ('fid tee --output-error=warn', ['--output-error=warn', '--output-error=warn-nopipe'],
     ['--output-error=exit']),
    ('fid bench fan', ['fan-read', 'fan-splice'], ['pipe-file']),
    ('fid bench al', ['all'], ['start']),
    ('fid run --deny vmsplice', ['vmsplice=', 'vmsplice-gift='], ['splice=']),
    ('fid run --deny splice=EN', ['splice=ENOSYS'], ['splice=EPERM']),
    ('fid run --deny splice=EPERM,tee=EP', ['splice=EPERM,tee=EPERM'], []),
    ('fid run fid-test-t', ['fid-test-tool'], []),
    ('fid run --no-preload -- fid-test-t', ['fid-test-tool'], []),
    ('fid run -- fid-test-tool dis', ['disk.img'], ['--deny']),
]


def complaints_of_line(shell, line, wanted, unwanted):
    offered = shell.offers(line)
    for word in wanted:
        if word not in offered:
            yield f'"{line}": "{word}" is not among {offered}'
    for word in unwanted:
        if word in offered:
            yield f'"{line}": "{word}" is offered'


def complaints_of_options(shell, fid, command):
    offered = shell.offers(f'fid {command} -')
    offered += shell.offers(f'fid {command} --')
    for name in fid.options(command):
        # A short option beside its long one is no gain for who completes.
        if name.startswith('--') and name not in [one.rstrip('=') for one in offered]:
            yield f'{name} is not offered'
    for name in offered:
        # What was typed is left where nothing is offered.
        if name not in ('-', '--') and not fid.takes(command, name.rstrip('=')):
            yield f'{name} is offered, and the command does not know it'


def complaints_of_values(shell, fid, command):
    """Each value that is offered for an option is one that the command takes."""
    for option in fid.options(command):
        if not option.startswith('--'):
            continue
        for word in shell.offers(f'fid {command} {option}='):
            name, _, value = word.partition('=')
            # The line itself, where nothing is offered; a call that wants its error; a file.
            if name != option or not value or value.endswith('=') or \
                    os.path.exists(os.path.join(fid.folder, value)):
                continue
            if not fid.takes(command, word):
                yield f'{word} is offered, and the command does not take it'


def ask(tests, fid, name, folder, tools):
    make, program, place = SHELLS[name]
    if not shutil.which(program) or not os.path.exists(place):
        tests.skip(f'{name}_offers_what_fid_knows', f'{place} is not there')
        return
    shell = make(folder, tools)
    try:
        offered = shell.offers('fid ')
        commands = fid.commands()
        tests.check(f'{name}_offers_each_command_and_no_other',
                    [f'{one} is not offered' for one in commands if one not in offered] +
                    [f'{one} is offered' for one in offered
                     if one not in commands and not one.startswith('-')])
        for command in commands:
            if fid.options(command):
                tests.check(f'{name}_offers_each_option_of_{command}_and_no_other',
                            list(complaints_of_options(shell, fid, command)))
                tests.check(f'{name}_offers_values_that_{command}_takes',
                            list(complaints_of_values(shell, fid, command)))
        for line, wanted, unwanted in LINES:
            words = re.sub(r'[^\w]+', '_', line).strip('_')
            tests.check(f'{name}_completes_{words}',
                        list(complaints_of_line(shell, line, wanted, unwanted)))
    except (TimeoutError, AssertionError) as error:
        tests.check(f'{name}_answers', [str(error)])
    finally:
        shell.close()


def main():
    tests = tap.Tests()
    done = subprocess.run([os.path.join(PLACE, 'make'), '--check', sys.argv[1]],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8',
                          check=False)
    tests.check('completions_are_what_the_command_says',
                done.stdout.splitlines() or (['it failed'] if done.returncode else []))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as tools:
        for file in ('disk.img', 'backup', 'two words'):
            with open(os.path.join(folder, file), 'w', encoding='utf-8'):
                pass
        tool = os.path.join(tools, 'fid-test-tool')
        with open(tool, 'w', encoding='utf-8') as f:
            f.write('#!/bin/sh\n')
        os.chmod(tool, 0o755)
        fid = Fid(sys.argv[1], folder)
        for name in SHELLS:
            ask(tests, fid, name, folder, tools)
    tests.end()


main()
