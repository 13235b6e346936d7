#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""A congestion controller in a file of its own: the example of src/cc/README.md, taken out of it, built in and run.

Usage: own_controller.py SOURCE_ROOT COMPILER...

What it takes is measured: the file, one line in the table of cc.c, one include. The controller then runs over a
bottleneck in virtual time (link.c), is found by name, and must fill the link and give way to its losses.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

MAIN = r'''
#include <stdio.h>
#include <string.h>
#include "link.h"

int main(void)
{
    struct link *l = link_new("steady", 10000, 40, 400, 0);
    unsigned long long goodput;
    unsigned names = 0, found = 0;

    for (; cc_name(names); names++)
        found += strcmp(cc_name(names), "steady") == 0;
    link_run(l, 5000);
    goodput = link_goodput(l, 10000);
    printf("%u controllers, steady: %llu of 10000 segments/s, %llu drops, cwnd %u, state %u\n", names, goodput,
           (unsigned long long)l->drops, l->w.cwnd, *(unsigned *)(void *)l->state);
    if (found != 1 || goodput < 9500 || l->drops == 0 || *(unsigned *)(void *)l->state == 0)
        return 1;
    link_free(l);
    return 0;
}
'''


def changed(before, after):
    """Lines of `after` that are not in `before`."""
    kept = before.splitlines()
    return [x for x in after.splitlines() if x not in kept]


def main(root, compiler):
    with open(os.path.join(root, 'src/cc/README.md'), encoding='utf-8') as f:
        example = re.search(r'```c\n(/\*\n \* cc/steady\.c.*?)```', f.read(), re.S).group(1)
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copytree(os.path.join(root, 'src/cc'), os.path.join(tmp, 'cc'))
        with open(os.path.join(tmp, 'cc/steady.c'), 'w', encoding='utf-8') as f:
            f.write(example)
        with open(os.path.join(tmp, 'cc/cc.c'), encoding='utf-8') as f:
            before = f.read()
        after = before.replace('&cc_bbr}', '&cc_bbr, &cc_steady}')
        after = after.replace('#include "cc/reno.h"\n', '#include "cc/reno.h"\nextern const struct cc_ops cc_steady;\n')
        lines = changed(before, after)
        print('changed in existing files: %d lines: %s' % (len(lines), lines))
        if len(lines) != 2:
            return False
        with open(os.path.join(tmp, 'cc/cc.c'), 'w', encoding='utf-8') as f:
            f.write(after)
        with open(os.path.join(tmp, 'main.c'), 'w', encoding='utf-8') as f:
            f.write(MAIN)
        cc = [os.path.join(tmp, 'cc', x) for x in sorted(os.listdir(os.path.join(tmp, 'cc'))) if x.endswith('.c')]
        base = [os.path.join(root, 'src/base', x) for x in ('rng.c', 'siphash.c')]
        program = os.path.join(tmp, 'own')
        subprocess.run(compiler + ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-I', tmp, '-I', os.path.join(root, 'src'), '-I',
                                   os.path.join(root, 'tests/unit/cc'), '-o', program, os.path.join(tmp, 'main.c'),
                                   os.path.join(root, 'tests/unit/cc/link.c')] + cc + base, check=True)
        return subprocess.run([program], check=False).returncode == 0


if __name__ == '__main__':
    sys.exit(0 if main(sys.argv[1], sys.argv[2:]) else 1)
