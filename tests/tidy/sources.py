# SPDX-License-Identifier: MIT
"""Rules about the sources that can be read off their text."""
import os
import re

import tap

# The order of the data's path. A folder of lib/ includes itself and what stands before it; the
# headers of lib/ itself (options.h) stand before all of them.
FOLDERS = ['', 'kernel', 'pipe', 'flow', 'relay']

# Folders that use the library as anybody else does: <fid.h> and their own headers.
OUTSIDE = ['cli', 'examples', 'bench', 'preload', 'ruby']
# 'fid bench' is a command line in cli/bench/ for what is in bench/.
ALSO = {'cli/bench/bench.c': ['bench']}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)
OURS = re.compile(r'(^|/)(fid|options)\.h$|^(%s)/' % '|'.join(FOLDERS[1:]))


# Who may make a system call by the processor's instruction, which no symbol shows.
SYSTEM_CALLS = ('lib/kernel/linux.c', 'lib/pipe/calls.c')


def includes(path):
    return INCLUDE.findall(tap.read(path))


def is_c(path):
    return path.endswith(('.c', '.h', '.cc', '.cpp'))


def library_complaints(paths):
    for path in paths:
        if not path.startswith('lib/') or not is_c(path):
            continue
        own = os.path.dirname(path)[len('lib/'):]
        if own not in FOLDERS:
            yield f'{path}: {own} has no place in the order {" < ".join(FOLDERS[1:])}'
            continue
        for mark, name in includes(path):
            if mark == '<':
                if name != 'fid.h' and OURS.search(name):
                    yield f'{path}: <{name}> is ours: it is included with quotes'
                continue
            folder = os.path.dirname(name)
            if name == 'kernel/syscall.h' and path not in SYSTEM_CALLS:
                yield f'{path}: "{name}" makes system calls, past the kernel\'s table'
            if not os.path.exists(os.path.join(tap.ROOT, 'lib', name)):
                yield f'{path}: "{name}" is not written from lib/ on'
            elif folder not in FOLDERS or FOLDERS.index(folder) > FOLDERS.index(own):
                if not (own == '' and path.endswith('.c')):
                    yield f'{path}: "{name}" stands to the right of {own or "lib/"}'


def is_within(top, where):
    """Whether a file is in a folder of the tree, and not only linked there."""
    folder = os.path.join(os.path.realpath(tap.ROOT), top)
    where = os.path.realpath(where)
    return where.startswith(folder + os.sep) and os.path.exists(where)


def outside_complaints(paths):
    for path in paths:
        top = path.split('/')[0]
        if top not in OUTSIDE or not is_c(path):
            continue
        for mark, name in includes(path):
            if mark == '<':
                if name != 'fid.h' and OURS.search(name):
                    yield f'{path}: <{name}>: only <fid.h> is public'
                continue
            # A test program, which stands beside what it runs.
            if name == 'test.h' and os.path.basename(path).startswith('test_'):
                continue
            # From where it stands, or from the top folder on.
            places = [os.path.join(tap.ROOT, folder, name)
                      for folder in (os.path.dirname(path), top)]
            if not any(is_within(folder, where) for where in places
                       for folder in [top, *ALSO.get(path, [])]):
                yield f'{path}: "{name}" is not in {top}/: only <fid.h> is public'


def needs_licence(path, text):
    name = os.path.basename(path)
    return is_c(path) or path.endswith(('.py', '.sh', '.rb', '.rbs', '.ru', '.gemspec')) or \
        name == 'meson.build' or \
        text.startswith('#!')


def licence_complaints(texts):
    for path, text in texts.items():
        if not needs_licence(path, text):
            continue
        lines = text.split('\n', 2)
        line = lines[1] if text.startswith('#!') and len(lines) > 1 else lines[0]
        if 'SPDX-License-Identifier: MIT' not in line:
            yield f'{path}: its first line is not the SPDX line'


# Paths of one person's machine, and notes to oneself. The patterns do not match themselves.
FOREIGN = [
    (re.compile(r'''(?<![\w.$})*/-])/(?:home|work|root|Users)/'''), 'a path of one machine'),
    (re.compile(r'\b(?:TO[D]O|FIX[M]E|X[X]X|HAC[K])\b'), 'a note of something left undone'),
    (re.compile(r'^(?:<{7}|>{7}|={7})(?: |$)', re.MULTILINE), 'a merge that was not ended'),
]


def foreign_complaints(texts):
    for path, text in texts.items():
        for pattern, what in FOREIGN:
            for match in pattern.finditer(text):
                line = text.count('\n', 0, match.start()) + 1
                yield f'{path}:{line}: {what}: {match.group(0)!r}'


def text_complaints(texts):
    for path, text in texts.items():
        if text and not text.endswith('\n'):
            yield f'{path}: no newline at the end'
        for number, line in enumerate(text.split('\n'), 1):
            if line.endswith((' ', '\t')) and not path.endswith('.md'):
                yield f'{path}:{number}: white space at the end'
            if '\r' in line:
                yield f'{path}:{number}: a carriage return'


def public_layout():
    """How tests/abi/layout.c names each field and each constant of fid.h."""
    header = re.sub(r'/\*.*?\*/', '', tap.read('include/fid.h'), flags=re.DOTALL)
    for name, body in re.findall(r'^struct (\w+) \{(.*?)^\};', header, re.DOTALL | re.MULTILINE):
        yield f'SIZE({name},'
        for field in re.findall(r'(\w+)(?:\[\w+\])?;', body):
            yield f'FIELD({name}, {field},'
    for body in re.findall(r'^enum \w+ \{(.*?)^\};', header, re.DOTALL | re.MULTILINE):
        for constant in re.findall(r'\bFID_\w+', body):
            yield f'VALUE({constant},'
    for constant in re.findall(r'^#define (FID_\w+) (?:0x)?\d', header, re.MULTILINE):
        if not constant.startswith('FID_VERSION_'):
            yield f'VALUE({constant},'


VERSIONS = {
    'meson.build': r"^  version: '([^']*)'",
    'ruby/lib/fid/version.rb': r'^  VERSION = "([^"]*)"',
    'include/fid.h': r'FID_VERSION_MAJOR (\d+)\n.*MINOR (\d+)\n.*PATCH (\d+)\n',
}


def versions():
    """The version, by each file that tells it."""
    for path, pattern in VERSIONS.items():
        found = re.search(pattern, tap.read(path), re.MULTILINE)
        yield path, '.'.join(found.groups()) if found else None


def version_complaints():
    told = dict(versions())
    if None in told.values() or len(set(told.values())) != 1:
        yield from (f'{path}: {version}' for path, version in told.items())


def ruby_complaints(paths):
    listed = re.findall(r"'(\w+)'", ' '.join(re.findall(r'^ruby_\w*tests = \[(.*?)\]$',
                        tap.read('ruby/meson.build'), re.MULTILINE | re.DOTALL)))
    for path in paths:
        match = re.fullmatch(r'ruby/test/(\w+)_test\.rb', path)
        if match and match.group(1) not in listed:
            yield f'{path} is in no list of ruby/meson.build'


def tests_of_rules():
    """Each rule can complain: a bad example must be found by it."""
    bad = {'lib/x.c': 'int x; /' + 'work/y', 'lib/y.c': 'int y; // TO' + 'DO'}
    if len(list(foreign_complaints(bad))) != 2 or len(list(licence_complaints(bad))) != 2:
        yield 'the rules about words find nothing in a bad example'
    if is_within('ruby', os.path.join(tap.ROOT, 'ruby/ext/fid/include/fid.h')) or \
            not is_within('ruby', os.path.join(tap.ROOT, 'ruby/ext/fid/ext.h')):
        yield 'what is linked into ruby/ passes for its own'
    if not list(ruby_complaints(['ruby/test/nowhere_test.rb'])):
        yield 'a test of the gem that nobody runs is not found'
    if 'fid_copy' not in tap.public_functions():
        yield 'no function is found in include/fid.h'
    if not {'FIELD(fid_receipt, demotion,', 'VALUE(FID_USER_COPY,'} <= set(public_layout()):
        yield 'the fields and constants of include/fid.h are not found'


def main():
    paths = list(tap.files())
    texts = {}
    for path in paths:
        if os.path.islink(os.path.join(tap.ROOT, path)):
            continue
        try:
            texts[path] = tap.read(path)
        except UnicodeDecodeError:
            pass
    tests = tap.Tests()
    functions = tap.public_functions()

    tests.check('rules_find_what_they_forbid', list(tests_of_rules()))
    tests.check('folders_of_lib_include_only_what_stands_before_them',
                list(library_complaints(paths)))
    tests.check('programs_include_only_the_public_header', list(outside_complaints(paths)))
    tests.check('every_source_begins_with_its_licence', list(licence_complaints(texts)))
    tests.check('no_file_names_a_machine_or_leaves_a_note', list(foreign_complaints(texts)))
    tests.check('every_line_ends_cleanly', list(text_complaints(texts)))
    tests.check('every_file_tells_the_same_version', list(version_complaints()))
    tests.check('every_test_of_the_gem_is_run', list(ruby_complaints(paths)))
    tests.check('gem_has_the_licence_of_the_tree',
                ['ruby/LICENSE differs'] if texts['LICENSE'] != texts['ruby/LICENSE'] else [])
    exported = tap.exported_by_map()
    tests.check('version_map_lists_exactly_the_public_functions',
                [f'{n} is in fid.h and not in libfid.map' for n in functions
                 if n not in exported] +
                [f'{n} is in libfid.map and not in fid.h' for n in exported
                 if n not in functions])
    pinned = texts['tests/abi/layout.c']
    tests.check('layout_of_everything_public_is_pinned',
                [f'tests/abi/layout.c has no {place} ...)' for place in public_layout()
                 if place not in pinned])
    pages = [text for path, text in texts.items() if re.match(r'man/.*\.3$', path)]
    if pages:
        tests.check('every_public_function_has_a_manual_entry',
                    [f'no page of section 3 documents {name}' for name in functions
                     if not any(re.search(r'^\.F[on] %s\b' % name, page, re.MULTILINE)
                                for page in pages)])
    else:
        tests.skip('every_public_function_has_a_manual_entry', 'there are no pages in man/')
    tests.end()


main()
