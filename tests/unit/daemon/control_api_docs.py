#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""docs/control-api.md is what scripts/gen-control-docs makes of `tautd --dump-api`.

Usage: control_api_docs.py TAUTD SOURCE_ROOT
"""
import difflib
import os
import subprocess
import sys


def main(tautd, root):
    api = subprocess.run([tautd, '--dump-api'], check=True, capture_output=True).stdout
    script = os.path.join(root, 'scripts', 'gen-control-docs')
    made = subprocess.run([sys.executable, script], input=api, check=True, capture_output=True).stdout.decode()
    with open(os.path.join(root, 'docs', 'control-api.md'), encoding='utf-8') as f:
        kept = f.read()
    diff = list(difflib.unified_diff(kept.splitlines(), made.splitlines(), 'docs/control-api.md', 'generated',
                                     lineterm=''))
    print('\n'.join(diff[:40]))
    if diff:
        print('docs/control-api.md is old: tautd --dump-api | scripts/gen-control-docs > docs/control-api.md')
    return not diff


if __name__ == '__main__':
    sys.exit(0 if main(*sys.argv[1:]) else 1)
