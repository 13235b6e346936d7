#!/usr/bin/env python3
"""No cause and no drop reason is left that no test provokes.

    coverage.py --build DIR [--list]

Runs the engine's and the stack's tests and our packetdrill scripts with TAUT_COVERAGE set to a file: they append the
names of what they counted (tests/unit/coverage.h, tests/packetdrill/drill). Every name of TCP_CAUSES, TCP_DROPS and
STACK_DROPS has to be in it. Names that no source raises are told too: dead words. Exit status 1 if one is missing.
--self-test shows that a missing one is found.
"""

import argparse
import glob
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# List, header, prefix in the file, prefix in sources.
LISTS = [
    ('TCP_CAUSES', 'src/tcp/tcp_enums.h', 'CAUSE_', 'TCP_CAUSE_'),
    ('TCP_DROPS', 'src/tcp/tcp_enums.h', 'DROP_', 'TCP_DROP_'),
    ('STACK_DROPS', 'src/stack/stack.h', 'STACK_DROP_', 'STACK_DROP_'),
]


def names(macro, header):
    with open(os.path.join(ROOT, header), encoding='utf-8') as f:
        text = f.read()
    body = re.search(r'#define %s\(X\)(.*?[^\\])\n' % macro, text, re.S).group(1)
    return re.findall(r'X\((\w+),', body)


def sources():
    text = ''
    for path in glob.glob(os.path.join(ROOT, 'src/*/*.c')):
        with open(path, encoding='utf-8') as f:
            text += f.read()
    return text


def run(build, coverage):
    """Everything that counts; a failure is for those tests' own runs to tell."""
    env = dict(os.environ, TAUT_COVERAGE=coverage)
    programs = sorted(glob.glob(os.path.join(build, 'tests/unit/tcp/tcp_*_test')) +
                      glob.glob(os.path.join(build, 'tests/unit/stack/stack_*_test')))
    library = os.path.join(build, 'tests/packetdrill/libdrillshim.so')
    commands = [[p] for p in programs]
    if os.path.exists(library):
        commands.append([os.path.join(ROOT, 'tests/packetdrill/drill'), '--quiet', '--library', library, '--variant', 'ipv4',
                         os.path.join(ROOT, 'tests/packetdrill/scripts')])
    for c in commands:
        subprocess.run(c, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def missing(seen, text):
    """(names that no test provokes, names that no source raises)"""
    unseen, dead = [], []
    for macro, header, prefix, source in LISTS:
        for name in names(macro, header):
            if not re.search(r'\b%s%s\b' % (source, name), text):
                dead.append(prefix + name)
            if prefix + name not in seen:
                unseen.append(prefix + name)
    return unseen, dead


def self_test():
    text = sources()
    everything = {p + n for m, h, p, _ in LISTS for n in names(m, h)}
    assert len(everything) > 80, len(everything)
    assert missing(everything, text)[0] == []
    assert missing(everything - {'DROP_PAWS'}, text)[0] == ['DROP_PAWS']
    assert 'CAUSE_DATA' in missing(everything, text.replace('TCP_CAUSE_DATA', ''))[1]
    print('coverage self-test ok')
    return 0


def main(argv):
    p = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    p.add_argument('--build')
    p.add_argument('--list', action='store_true')
    p.add_argument('--self-test', action='store_true')
    a = p.parse_args(argv)
    if a.self_test:
        return self_test()
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, 'coverage')
        run(a.build, path)
        with open(path, encoding='utf-8') as f:
            seen = set(f.read().split())
    if a.list:
        print('\n'.join(sorted(seen)))
    unseen, dead = missing(seen, sources())
    for n in unseen:
        print('no test provokes %s' % n)
    for n in dead:
        print('no source raises %s' % n)
    print('%d names seen, %d missing' % (len(seen), len(unseen) + len(dead)))
    return 1 if unseen or dead else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
