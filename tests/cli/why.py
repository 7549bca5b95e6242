# SPDX-License-Identifier: MIT
"""fid why and fid copy hold each other to their word, from every kind of end to every other.

    why.py FID
"""
import json
import os
import select
import signal
import subprocess
import sys

import kinds
import tap

FID = os.path.abspath(sys.argv[1])


class Done:
    def __init__(self, words, ends):
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60, check=False,
                              pass_fds=[fd for end in ends for fd in end.fds])
        self.status = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()

    def json(self, text):
        lines = [line for line in text.splitlines() if line.startswith('{')]
        return json.loads(lines[-1]) if lines else None


def limited(source, options):
    if source.limit is None or '--limit' in options:
        return options
    return [*options, '--limit', str(source.limit)]


def dominant(receipt):
    classes = {'by-reference': receipt['by_reference'], 'kernel-copy': receipt['kernel_copy'],
               'user-copy': receipt['user_copy']}
    return max(classes, key=classes.get)


def is_luck(answer):
    """A stream brings what it likes, and O_DIRECT takes only what is aligned."""
    return answer['starts_as_copy'] and answer['sink']['direct']


def compare(answer, receipt):
    """What the receipt has that was not predicted."""
    route = receipt['route']
    rungs = {rung['method']: rung for rung in answer['ladder']}
    # What the kernel was known to refuse is not on the ladder, and a copy tries it all the same.
    left = [one['from'] for one in receipt['demotions'] if one['from'] in rungs]
    if is_luck(answer) or receipt['bytes_out'] == 0:
        # Nothing arrived, or what came was refused: where it began is what counts.
        began = left[0] if left else route
        if began != answer['route'] and not answer['starts_as_copy']:
            yield f'it began with {began}, and {answer["route"]} was predicted'
        return
    if route not in rungs:
        yield f'{route} is not on the ladder {list(rungs)}'
        return
    if answer['depends'] and not answer['starts_as_copy']:
        if route != answer['route'] and answer['route'] not in left[:1]:
            yield f'{route} came, {answer["route"]} was predicted, and nothing was refused'
    elif route != answer['route']:
        yield f'{route} came and {answer["route"]} was predicted'
    if receipt['reason'] != rungs[route]['reason']:
        yield f'the reason was "{receipt["reason"]}" and not "{rungs[route]["reason"]}"'
    if dominant(receipt) != rungs[route]['class']:
        yield f'{dominant(receipt)} came and {rungs[route]["class"]} was predicted'


def is_refused(copy, receipt):
    """The copy ended before it made a call to move bytes."""
    return copy.status != 0 and (not receipt or not any(receipt['calls'].values()))


class Matrix:
    def __init__(self, options=(), before=(), tries=True):
        self.options = list(options)
        self.before = list(before)
        self.tries = tries
        self.count = self.moved = self.refused = self.depends = self.tried = 0

    def fid(self, command, *words):
        return [*self.before, FID, command, *words]

    def pair(self, source, sink):
        ends = [source, sink]
        options = limited(source, self.options)
        why = Done(self.fid('why', '--json', *options, source.name, sink.name), ends)
        answer = why.json(why.out)
        trial = None
        if self.tries and why.status == 0:
            trial = Done(self.fid('why', '--json', '--try', *options, source.name, sink.name),
                         ends)
        for end in ends:
            if end.listener and select.select([end.listener], [], [], 0)[0]:
                yield 'it connected'
            end.start()
        copy = Done(self.fid('copy', '--receipt=json', *options, source.name, sink.name), ends)
        receipt = copy.json(copy.err)
        self.count += 1
        if is_refused(copy, receipt):
            self.refused += 1
            if why.status != copy.status:
                yield f'status {why.status}, and the copy was refused with {copy.status}: ' \
                    f'{copy.err.strip()} - {why.err.strip()}'
            if copy.status == 3 and why.err.replace('fid why', 'fid copy').splitlines() != \
                    [line for line in copy.err.splitlines() if not line.startswith('{')]:
                yield f'another reason: {why.err.strip()} - {copy.err.strip()}'
            return
        if why.status != 0:
            yield f'status {why.status}, and the copy had {copy.status}: {why.err.strip()}'
            return
        self.moved += 1
        self.depends += bool(answer['depends'])
        yield from compare(answer, receipt)
        if copy.status == 0 and source.bytes and '--limit' not in options and \
                receipt['bytes_out'] != source.bytes:
            yield f'{receipt["bytes_out"]} of {source.bytes} bytes were left to copy'
        if trial:
            yield from self.compare_trial(answer, trial, copy)

    def compare_trial(self, answer, trial, copy):
        tried = trial.json(trial.out)
        if not tried or not tried['try']:
            # A block device has no stand-in, nor has a file that may give each byte once.
            if 'take the place' not in trial.err and 'claims to be empty' not in trial.err:
                yield f'no trial: {trial.err.strip()}'
            return
        self.tried += 1
        if copy.status == 0 and not is_luck(answer) and (not tried['try']['agrees'] or trial.status != 0):
            yield f'the trial was another: {tried["try"]}'
        if {**tried, 'try': None} != answer:
            yield 'with a trial the answer is another'
        if copy.status != 0 and trial.status == 0 and not tried['try']['bytes_out']:
            yield 'a trial that failed is called a success'

    def row(self, source_name, sinks):
        for sink_name in sinks:
            source, sink = kinds.SOURCES[source_name](), kinds.SINKS[sink_name]()
            try:
                for complaint in self.pair(source, sink):
                    yield f'from {source_name} to {sink_name}: {complaint}'
            finally:
                source.close()
                sink.close()


def whole_matrix(tests):
    missing = kinds.add_all()
    for why in missing:
        print(f'# without {why}')
    matrix = Matrix()
    for name in list(kinds.SOURCES):
        tests.check(f'why_and_copy_agree_from_{name.replace("-", "_")}_to_every_kind',
                    list(matrix.row(name, list(kinds.SINKS))))
    print(f'# {matrix.count} pairs: {matrix.moved} moved, {matrix.refused} refused, '
          f'{matrix.depends} that only doing tells, {matrix.tried} tried')
    wanted = 26 * 23
    complaints = []
    if kinds.COMMON != (26, 23):
        complaints.append(f'{kinds.COMMON} kinds of sources and sinks, and not (26, 23)')
    if matrix.count < wanted or matrix.count != len(kinds.SOURCES) * len(kinds.SINKS):
        complaints.append(f'{matrix.count} pairs, at least {wanted} are wanted')
    if matrix.moved < 440 or matrix.tried < 440:
        complaints.append(f'{matrix.moved} moved and {matrix.tried} tried, of 440 at least')
    tests.check('no_pair_of_kinds_was_forgotten', complaints)


# Of each sort one, for the options.
SOURCES = ['file', 'file-in-the-middle', 'memfd', 'empty-file', 'small-file', 'pipe',
           'unix-nonblocking', 'tcp', 'terminal', 'zero', 'clonable', 'clonable-in-the-middle']
SINKS = ['new-file', 'file', 'append', 'pipe', 'unix', 'tcp-nonblocking', 'terminal', 'null',
         'clonable', 'full-clonable']


def some(tests, name, matrix):
    complaints = []
    sources = [one for one in SOURCES if one in kinds.SOURCES]
    sinks = [one for one in SINKS if one in kinds.SINKS]
    for source in sources:
        complaints += matrix.row(source, sinks)
    if matrix.count != len(sources) * len(sinks) or matrix.count < 80:
        complaints.append(f'{matrix.count} pairs')
    print(f'# {matrix.moved} moved, {matrix.refused} refused, {matrix.depends} that only doing '
          'tells')
    tests.check(name, complaints)


def with_options(tests):
    for name, options in {
            'stable': ['--stable'],
            'route_read_write': ['--route', 'read-write'],
            'route_splice': ['--route', 'splice,splice-pipe'],
            'require_by_reference': ['--require', 'by-reference'],
            'require_no_user_copy': ['--require', 'no-user-copy'],
            'limit': ['--limit', '1000'],
            'limit_zero': ['--limit', '0'],
            'offset': ['--offset', '4096'],
            'append': ['--append'],
            'pipe_size': ['--pipe-size', '128K'],
    }.items():
        some(tests, f'why_and_copy_agree_with_{name}', Matrix(options, tries=False))


def under_denial(tests):
    for name, denied in {
            'splice': 'splice=EPERM',
            'sendfile': 'sendfile=ENOSYS',
            'all': 'splice=EPERM,sendfile=EPERM,copy_file_range=ENOSYS',
    }.items():
        before = [FID, 'run', '--deny', denied, '--no-preload', '--']
        for more, options in (('', []), ('_and_stable', ['--stable']),
                              ('_and_no_user_copy', ['--require', 'no-user-copy'])):
            some(tests, f'why_and_copy_agree_without_{name}{more}',
                 Matrix(options, before, tries=name == 'splice'))


def main():
    # What was mounted is to be unmounted when time is up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    tests = tap.Tests()
    whole_matrix(tests)
    with_options(tests)
    under_denial(tests)
    tests.end()


main()
