# SPDX-License-Identifier: MIT
"""What the documents say is there: figures, links, pictures, commands, the table of comparison.

    documents.py FID
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import tap

MADE_FROM = ['README.md', 'ruby/README.md', 'docs/when-not.md', 'docs/tables']
NAMESPACES = ('http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink',
              'http://www.w3.org/XML/1998/namespace')
UNKNOWN = '--nobody-knows-this'


# ---- Figures -----------------------------------------------------------------------------

def tables(root):
    done = subprocess.run([sys.executable, '-B', os.path.join(tap.ROOT, 'docs/tables'), '--check',
                           '--root', root], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding='utf-8', check=False)
    return done.stdout.splitlines() or (['it failed'] if done.returncode else [])


def tree_for_tables(folder):
    for path in MADE_FROM:
        os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
        shutil.copy(os.path.join(tap.ROOT, path), os.path.join(folder, path))
    shutil.copytree(os.path.join(tap.ROOT, 'bench/results'), os.path.join(folder, 'bench/results'))


def edit(folder, path, change):
    path = os.path.join(folder, path)
    with open(path, encoding='utf-8') as f:
        before = f.read()
    after = change(before)
    assert after != before, path
    with open(path, 'w', encoding='utf-8') as f:
        f.write(after)


def newer(folder, ending, change):
    """Results of another day, in which something else was measured."""
    results = os.path.join(folder, 'bench/results')
    names = [name for name in os.listdir(results)
             if re.fullmatch(r'\d{4}-\d\d-\d\d' + ending + r'\.json', name)]
    with open(os.path.join(results, max(names)), encoding='utf-8') as f:
        found = json.load(f)
    change(found)
    with open(os.path.join(results, f'9999-01-01{ending}.json'), 'w', encoding='utf-8') as f:
        json.dump(found, f)


def dearer(found):
    for entrant in found['pairs'][0]['entrants']:
        entrant['cpu_s_per_gb']['median'] *= 2


def dearer_gem(found):
    found['stages'][0]['entrants'][0]['cpu_s_per_gb']['median'] *= 2


# What must not pass: a figure by hand, a row left out, results that are newer than the tables,
# the same for the gem, a part that is gone, a part that nobody makes.
WRONG = [
    lambda folder: edit(folder, 'README.md', lambda text: re.sub(
        r'(\| file → TCP [^|]*\| )[.\d]+', r'\1.0001', text)),
    lambda folder: edit(folder, 'README.md', lambda text: re.sub(
        r'^\| blocks of 4 KiB .*\n', '', text, count=1, flags=re.MULTILINE)),
    lambda folder: newer(folder, '', dearer),
    lambda folder: newer(folder, '-ruby', dearer_gem),
    lambda folder: edit(folder, 'README.md', lambda text: re.sub(
        r'<!-- BEGIN pairs.*?END pairs -->', '', text, flags=re.DOTALL)),
    lambda folder: edit(folder, 'README.md', lambda text: text.replace('<!-- END fan -->', '')),
    lambda folder: edit(folder, 'docs/when-not.md', lambda text: text.replace(
        'small:', 'little:').replace('END small ', 'END little ')),
]


def missed():
    """Which of these the check does not find."""
    for number, change in enumerate(WRONG):
        with tempfile.TemporaryDirectory() as folder:
            tree_for_tables(folder)
            if tables(folder):
                yield 'a faithful copy of the tree does not pass'
            change(folder)
            if not tables(folder):
                yield f'number {number} of what is wrong is not found'


# ---- Links and pictures ------------------------------------------------------------------

def without_code(text):
    text = re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r'`[^`\n]*`', lambda match: match.group(0).strip('`')
                  if '](' not in match.group(0) else '', text)


def anchors(text):
    """As they are made from headings: small letters, words with dashes, no other signs."""
    found = []
    for heading in re.findall(r'^#+ +(.*)$', re.sub(r'^```.*?^```', '', text,
                              flags=re.DOTALL | re.MULTILINE), re.MULTILINE):
        name = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).lower()
        name = re.sub(r'[^\w\- ]', '', name).replace(' ', '-')
        found.append(name if name not in found else f'{name}-{found.count(name)}')
    return found


def links(text):
    return re.findall(r'\]\(([^()\s]+)\)', without_code(text))


def link_complaints(path, text, read):
    """read(path): the text of a file, or None."""
    for link in links(text):
        if re.match(r'[a-z]+:', link):
            yield f'{path}: {link} leads out of the tree'
            continue
        place, _, anchor = link.partition('#')
        target = os.path.normpath(os.path.join(os.path.dirname(path), place)) if place else path
        found = read(target)
        if found is None:
            yield f'{path}: {link} is not there'
        elif anchor and anchor not in anchors(found):
            yield f'{path}: {link}: there is no such heading'


def read_or_none(path):
    whole = os.path.join(tap.ROOT, path)
    if os.path.isdir(whole):
        return ''
    return tap.read(path) if os.path.exists(whole) else None


def picture_complaints(path, text):
    try:
        tree = xml.etree.ElementTree.fromstring(text)
    except xml.etree.ElementTree.ParseError as error:
        yield f'{path}: {error}'
        return
    if tree.tag != '{http://www.w3.org/2000/svg}svg':
        yield f'{path}: it is no SVG'
    for address in re.findall(r'https?:[^"\'\s)<]*', text):
        if address not in NAMESPACES:
            yield f'{path}: it refers to {address}'
    for what in ('@import', '<script', '<foreignObject', 'href="data:'):
        if what in text:
            yield f'{path}: it has "{what}"'


# ---- What fid bench makes of the newest results -------------------------------------------

def newest_results():
    folder = os.path.join(tap.ROOT, 'bench/results')
    return os.path.join(folder, max(name for name in os.listdir(folder)
                                    if re.fullmatch(r'\d{4}-\d\d-\d\d\.json', name)))


def charts():
    """The names of the charts, and their scenarios, as docs/pictures has them."""
    listed = re.search(r'^CHARTS = \{(.*)\}$', tap.read('docs/pictures'), re.MULTILINE).group(1)
    return dict(re.findall(r"'(\w+)': '([\w-]+)'", listed))


def words_of_picture(path):
    """Places differ with the version of gnuplot."""
    return [' '.join(''.join(one.itertext()).split())
            for one in xml.etree.ElementTree.parse(path).iter() if one.tag.endswith('}text')]


def chart_complaints(fid, name, scenario):
    path = os.path.join(tap.ROOT, 'docs', f'{name}.svg')
    with tempfile.TemporaryDirectory() as folder:
        now = os.path.join(folder, 'now.svg')
        said = fid.says('bench', '--csv', '--plot', now, '--from', newest_results(), scenario)
        if not os.path.exists(now):
            yield said
        elif words_of_picture(now) != words_of_picture(path):
            yield f'docs/{name}.svg is another: ./dev readme'


def record_complaints(fid):
    path = newest_results()
    with open(path.removesuffix('json') + 'txt', encoding='utf-8') as f:
        if f.read() != fid.says('bench', '--from', path):
            yield f'{path}: the text beside it is not what fid bench --from prints'


# ---- Commands ----------------------------------------------------------------------------

def quoted_commands(text):
    """The commands of code: lines of fenced blocks, and what stands between backquotes."""
    for block in re.findall(r'^```(\w*)\n(.*?)^```', text, re.DOTALL | re.MULTILINE):
        if block[0] in ('', 'sh'):
            for line in block[1].replace('\\\n', ' ').splitlines():
                if line.startswith(('$ ', './dev', 'fid ')):
                    yield from parts_of(line.removeprefix('$ '))
    for code in re.findall(r'`([^`\n]+)`', re.sub(r'^```.*?^```', '', text,
                           flags=re.DOTALL | re.MULTILINE)):
        yield from parts_of(code)


def parts_of(line):
    for part in re.split(r' \| |[;&]+|\$\(', line.split(' #')[0]):
        words = part.strip().split()
        if words and words[0] in ('fid', './dev') and len(words) > 1:
            yield words


class Fid:
    def __init__(self, path):
        self.path = os.path.realpath(path)
        self.commands = re.findall(r'^  (\S+)', self.says('help').split('Commands\n', 1)[1]
                                   .split('\n\n')[0], re.MULTILINE)

    def says(self, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            return subprocess.run([self.path, *arguments], stdin=subprocess.DEVNULL, timeout=20,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
                                  encoding='utf-8', check=False).stdout

    def knows(self, command, option):
        name = option.split('=')[0]
        said = self.says(command, name, UNKNOWN, UNKNOWN)
        return UNKNOWN in said or 'wants a value' in said or name in ('--help', '--version')


def verbs():
    said = subprocess.run([os.path.join(tap.ROOT, 'dev')], stdout=subprocess.PIPE,
                          encoding='utf-8', check=True).stdout
    return re.findall(r'^  (\S+)', said, re.MULTILINE)


def command_complaints(path, text, fid, known_verbs):
    for words in quoted_commands(text):
        program, name = words[0], words[1].rstrip('.,')
        shown = ' '.join(words)
        if program == './dev':
            if name not in known_verbs:
                yield f'{path}: "{shown}": ./dev has no verb "{name}"'
            continue
        if name.startswith('-'):
            if name not in ('--help', '--version', '-h'):
                yield f'{path}: "{shown}": fid has no option "{name}"'
            continue
        # "fid COMMAND" and the like.
        if not re.fullmatch('[a-z]+', name):
            continue
        if name not in fid.commands:
            yield f'{path}: "{shown}": fid has no command "{name}"'
            continue
        for word in words[2:]:
            if word == '--' or name == 'run' and not word.startswith('-') and '=' not in word:
                break
            if word.startswith('-') and word != '-' and not fid.knows(name, word):
                yield f'{path}: "{shown}": "fid {name}" has no option "{word}"'


# ---- The table of comparison ---------------------------------------------------------------

def comparison_complaints(readme, compare, script):
    section = readme.split('\n## Compared\n', 1)[-1].split('\n## ')[0]
    rows = re.findall(r'^\| \[([^\]]*)\]\(docs/compare\.md#([^)]*)\) \|(.*)\|$', section,
                      re.MULTILINE)
    table = [line for line in section.splitlines() if line.startswith('| ')]
    if len(rows) != len(table) - 2:
        yield f'README.md: of {len(table) - 2} rows {len(rows)} lead to docs/compare.md'
    columns = table[0].count('|') if table else 0
    for line in table:
        if line.count('|') != columns:
            yield f'README.md: a row of another width: {line}'
    places = {name.lower() for name, _, _ in rows}
    headings = re.findall(r'^## (.*)$', compare, re.MULTILINE)
    for heading in headings:
        if heading.lower() not in places:
            yield f'docs/compare.md: the table has no row "{heading}"'
    for name in places - {heading.lower() for heading in headings}:
        yield f'docs/compare.md: there is no section "{name}"'
    defined = set(re.findall(r'^(\w+)\(\) \{$', script, re.MULTILINE))
    run = set(re.sub(r'\\\n', ' ', script).split('\nfor test in ')[-1].split(';')[0].split())
    told = set()
    for heading, body in re.findall(r'^## (.*?)$(.*?)(?=^## |\Z)', compare,
                                    re.MULTILINE | re.DOTALL):
        tests = body.split('\nTests: ')[-1] if '\nTests: ' in body else ''
        names = {name for name in re.findall(r'`(\w+)`', tests)}
        told |= names
        if not names and not re.search(r'none; |`tests/', tests):
            yield f'docs/compare.md: "{heading}" names no test, nor why there is none'
        for name in sorted(names - defined):
            yield f'docs/compare.md: there is no test {name}'
    for path in re.findall(r'`((?:tests|examples)/[\w./]+)`', compare):
        if not os.path.exists(os.path.join(tap.ROOT, path)):
            yield f'docs/compare.md: {path} is not there'
    for name in sorted(run - told):
        yield f'docs/compare.md: no section names the test {name}'
    for name in sorted(told - run):
        yield f'tests/docs/compare.sh: {name} is never run'


# ------------------------------------------------------------------------------------------

def rules_that_find_nothing(fid, texts):
    """Each rule can complain: a bad example must be found by it."""
    def bad_link(text):
        return list(link_complaints('x.md', text, lambda path: '# A `b`, c!\n'
                                    if path == 'y.md' else None))

    if not bad_link('[a](z.md)') or not bad_link('[a](y.md#a-c)') or not bad_link('[a](https://x)'):
        yield 'a link that leads nowhere is not found'
    if bad_link('[a](y.md#a-b-c) `[a](z.md)`'):
        yield 'a link that is right is complained of'
    for bad in ('<svg', '<svg xmlns="http://www.w3.org/2000/svg"><a b="https://x.y/z"/></svg>',
                '<a/>'):
        if not list(picture_complaints('x.svg', bad)):
            yield f'a bad picture is not found: {bad}'
    for bad in ('`fid nothing x`', '`fid copy --nothing a b`', '```\n$ a | fid --nothing\n```\n',
                '`./dev nothing`'):
        if not list(command_complaints('x.md', bad, fid, ['test'])):
            yield f'a command that is not there is not found: {bad}'
    readme, compare, script = (texts[path] for path in
                               ('README.md', 'docs/compare.md', 'tests/docs/compare.sh'))
    for changed in ((readme.replace('| [progress]', '| [advance]'), compare, script),
                    (readme, compare.replace('\n## Progress\n', '\n## Advance\n'), script),
                    (readme, compare.replace('`pv_has_a_limit`', '`pv_has_none`'), script),
                    (readme, compare, script.replace(' pv_has_a_limit ', ' '))):
        if not list(comparison_complaints(*changed)):
            yield 'a row, a section or a test that is missing is not found'


def main():
    tests = tap.Tests()
    fid = Fid(sys.argv[1])
    known_verbs = verbs()
    documents = [path for path in tap.files() if path.endswith('.md')]
    texts = {path: tap.read(path) for path in [*documents, 'tests/docs/compare.sh']}
    pictures = sorted({os.path.normpath(os.path.join(os.path.dirname(path), link))
                       for path in documents for link in links(texts[path])
                       if link.endswith('.svg')})

    tests.check('rules_find_what_is_wrong', list(rules_that_find_nothing(fid, texts)))
    tests.check('tables_are_those_of_the_newest_results', tables(tap.ROOT))
    tests.check('tables_that_differ_are_found', list(missed()))
    for path in documents:
        tests.check(f'links_of_{path}_lead_somewhere',
                    list(link_complaints(path, texts[path], read_or_none)))
        tests.check(f'commands_in_{path}_are_there',
                    list(command_complaints(path, texts[path], fid, known_verbs)))
    tests.check('documents_have_pictures', [] if pictures else ['no picture is linked to'])
    for path in pictures:
        text = read_or_none(path)
        tests.check(f'picture_{path}_is_valid_and_refers_to_nobody',
                    [f'{path} is not there'] if text is None
                    else list(picture_complaints(path, text)))
    tests.check('text_of_the_newest_results_is_what_fid_bench_prints', list(record_complaints(fid)))
    for name, scenario in charts().items():
        if shutil.which('gnuplot'):
            tests.check(f'chart_{name}_is_what_fid_bench_draws',
                        list(chart_complaints(fid, name, scenario)))
        else:
            tests.skip(f'chart_{name}_is_what_fid_bench_draws', 'gnuplot is not installed')
    tests.check('each_row_of_the_comparison_has_its_experiment',
                list(comparison_complaints(texts['README.md'], texts['docs/compare.md'],
                                           texts['tests/docs/compare.sh'])))
    tests.end()


main()
