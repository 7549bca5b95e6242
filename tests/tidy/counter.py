# SPDX-License-Identifier: MIT
"""The program that counts the tests (tests/report) does not flatter them."""
import json
import os
import subprocess
import sys
import tempfile

import tap


def report(folder, programs, listed=None, left_out=''):
    """What tests/report says about a build directory in which these programs ran.

    programs: (name, protocol, suite, result, status, standard output, standard error)
    """
    os.makedirs(os.path.join(folder, 'meson-info'), exist_ok=True)
    os.makedirs(os.path.join(folder, 'meson-logs'), exist_ok=True)
    if listed is None:
        listed = programs
    with open(os.path.join(folder, 'meson-info', 'intro-tests.json'), 'w',
              encoding='utf-8') as f:
        json.dump([{'name': p[0], 'protocol': p[1], 'suite': ['fid:' + p[2]]} for p in listed], f)
    with open(os.path.join(folder, 'meson-logs', 'testlog.json'), 'w', encoding='utf-8') as f:
        for name, _, suite, result, status, stdout, stderr in programs:
            f.write(json.dumps({'name': f'fid:{suite} / {name}', 'result': result,
                                'returncode': status, 'stdout': stdout, 'stderr': stderr}) + '\n')
    return run(f'x={folder}:{left_out}')


def run(*sources):
    done = subprocess.run([sys.executable, os.path.join(tap.ROOT, 'tests', 'report'), *sources],
                          stdout=subprocess.PIPE, encoding='utf-8', check=False)
    return done.returncode, done.stdout.splitlines()


def program(stdout, result='OK', status=0, protocol='tap', stderr=''):
    return ('p', protocol, 'unit', result, status, stdout, stderr)


# What a crashed Ruby says: where it was, and then a map of its memory.
BUG = 'x.rb:1: [BUG] Segmentation fault\n' + 100 * 'frame\n' + \
    '-- C level backtrace information\nx.so(crashed)\n' + 1000 * 'map\n'

GOOD = '1..2\nok 1 - a\nok 2 - b\n'

# A fact, what the program did, the last line that is due, and a line that must be there.
CASES = [
    ('facts_that_hold_are_counted', program(GOOD), '2 passed, 0 failed, 0 skipped', None),
    ('plan_may_come_last', program('ok 1 - a\n1..1\n'), '1 passed, 0 failed, 0 skipped', None),
    ('skipped_fact_is_named_with_its_reason',
     program('1..2\nok 1 - a\nok 2 - b # SKIP no luck\n'), '1 passed, 0 failed, 1 skipped',
     'skipped  x/p: b'),
    ('program_that_skips_itself_is_named', program('1..0 # SKIP no luck\n', 'SKIP'),
     '0 passed, 0 failed, 1 skipped', '         (no luck)'),
    ('fact_that_does_not_hold_is_one_failure',
     program('1..2\n# why\nnot ok 1 - a\nok 2 - b\n', 'FAIL', 1),
     '1 passed, 1 failed, 0 skipped', '         | why'),
    ('reason_may_follow_the_failure',
     program('1..2\nnot ok 1 - a\n# why\nok 2 - b\n', 'FAIL', 1),
     '1 passed, 1 failed, 0 skipped', '         | why'),
    ('reason_may_follow_the_last_failure',
     program('1..1\nnot ok 1 - a\n# why\n', 'FAIL', 1),
     '0 passed, 1 failed, 0 skipped', '         | why'),
    ('program_without_a_plan_has_failed', program('ok 1 - a\n'),
     '1 passed, 1 failed, 0 skipped', 'FAILED   x/p: printed no plan'),
    ('silent_program_has_failed', program('', 'SKIP'), '0 passed, 1 failed, 0 skipped', None),
    ('fewer_facts_than_planned_are_a_failure', program('1..3\nok 1 - a\nok 2 - b\n'),
     '2 passed, 1 failed, 0 skipped', 'FAILED   x/p: planned 3 tests and reported 2'),
    ('crash_between_facts_is_a_failure', program('1..2\nok 1 - a\n', 'FAIL', -11),
     '1 passed, 1 failed, 0 skipped', 'FAILED   x/p: was killed by signal 11'),
    ('crash_after_the_last_fact_is_a_failure', program(GOOD, 'ERROR', 1),
     '2 passed, 1 failed, 0 skipped', 'FAILED   x/p: exited with 1'),
    ('crash_after_a_failure_is_told_as_well',
     program('1..3\nnot ok 1 - a\n', 'ERROR', -6), '0 passed, 2 failed, 0 skipped', None),
    ('crash_of_ruby_is_told_by_its_backtrace',
     program('1..2\nok 1 - a\n', 'FAIL', -6, stderr=BUG),
     '1 passed, 1 failed, 0 skipped', '         | x.so(crashed)'),
    ('crash_of_ruby_is_told_by_its_cause',
     program('1..2\nok 1 - a\n', 'FAIL', -6, stderr=BUG),
     '1 passed, 1 failed, 0 skipped', '         | x.rb:1: [BUG] Segmentation fault'),
    ('report_of_a_sanitizer_is_told_from_its_beginning',
     program('', 'FAIL', 1, stderr='==1==ERROR: AddressSanitizer: bad\n' + 100 * 'shadow\n'),
     '0 passed, 1 failed, 0 skipped', '         | ==1==ERROR: AddressSanitizer: bad'),
    ('program_out_of_time_has_failed', program('1..2\nok 1 - a\n', 'TIMEOUT', -15),
     '1 passed, 1 failed, 0 skipped', 'FAILED   x/p: ran out of time'),
    ('bail_out_is_a_failure', program('1..1\nBail out! no\n'),
     '0 passed, 1 failed, 0 skipped', None),
    ('plain_program_counts_once', program('', protocol='exitcode'),
     '1 passed, 0 failed, 0 skipped', None),
    ('plain_program_that_fails_is_a_failure', program('', 'FAIL', 3, 'exitcode'),
     '0 passed, 1 failed, 0 skipped', 'FAILED   x/p: exited with 3'),
    ('plain_program_may_be_skipped', program('no luck\n', 'SKIP', 77, 'exitcode'),
     '0 passed, 0 failed, 1 skipped', '         (no luck)'),
]


def complaints(answer, last, wanted):
    status, lines = answer
    failed = int(last.split()[2])
    if not lines or lines[-1] != last:
        yield f'the last line is "{lines[-1] if lines else ""}", and "{last}" is due'
    if (status != 0) != (failed != 0):
        yield f'it exited with {status}'
    if wanted and wanted not in lines:
        yield f'"{wanted}" is not among its lines'


def main():
    tests = tap.Tests()
    with tempfile.TemporaryDirectory() as folder:
        for name, one, last, wanted in CASES:
            tests.check(name, list(complaints(report(folder, [one]), last, wanted)))
        two = [program(GOOD), ('q', 'tap', 'tidy', 'OK', 0, GOOD, '')]
        tests.check('program_that_never_ran_is_a_failure',
                    list(complaints(report(folder, two[:1], two),
                                    '2 passed, 1 failed, 0 skipped',
                                    'FAILED   x/q: did not run')))
        tests.check('suite_left_out_on_purpose_is_no_failure',
                    list(complaints(report(folder, two[:1], two, 'tidy'),
                                    '2 passed, 0 failed, 0 skipped', None)))
        tests.check('directory_without_results_is_a_failure',
                    list(complaints(run(f'x={folder}/none'),
                                    '0 passed, 1 failed, 0 skipped', None)))
        tests.check('nothing_at_all_is_a_failure',
                    list(complaints(run(), '0 passed, 1 failed, 0 skipped', None)))
    tests.end()


main()
