#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Every field that the kernel's struct tcp_info has is in ours, where it lies there, and in conn.get.

Usage: tcp_info_names.py SOURCE_ROOT COMPILER...

The names are read from <linux/tcp.h>. A C file of assertions, made from them and compiled, compares offset and size with
struct sock_linux_info; copy_info() must fill each, conn.get must say each. A newer kernel's header may have fields behind
the end of ours: they are listed, and are no failure, for programs ask with the length that they know.
"""
import os
import re
import subprocess
import sys
import tempfile

HEADER = '/usr/include/linux/tcp.h'
ALWAYS_ZERO = {'fackets', 'last_ack_sent'}  # Linux does not keep them
BITS = {'snd_wscale', 'rcv_wscale', 'delivery_rate_app_limited', 'fastopen_client_fail'}
RENAMED = ['tcp_info', 'tcp_ca_state', 'TCP_CA_CWR', 'TFO_STATUS_UNSPEC', 'TFO_COOKIE_UNAVAILABLE', 'TFO_DATA_NOT_ACKED',
           'TFO_SYN_RETRANSMITTED', 'tcp_fastopen_client_fail']


def fields(text):
    """[(name, is a bit-field)] of struct tcp_info."""
    body = re.search(r'struct tcp_info \{(.*?)\n\};', re.sub(r'/\*.*?\*/', '', text, flags=re.S), re.S).group(1)
    return [(name, bool(bits)) for name, bits in re.findall(r'\btcpi_(\w+)\s*(:\s*\d+)?', body)]


def assertions(names):
    lines = ['#define %s linux_%s' % (x, x) for x in RENAMED] + ['#include <linux/tcp.h>']
    lines += ['#undef %s' % x for x in RENAMED] + ['#include <assert.h>', '#include "sock/sock_priv.h"']
    for n in names:
        lines.append('static_assert(offsetof(struct linux_tcp_info, tcpi_%s) == offsetof(struct sock_linux_info, %s) && '
                     'sizeof ((struct linux_tcp_info *)0)->tcpi_%s == sizeof ((struct sock_linux_info *)0)->%s, "%s");'
                     % (n, n, n, n, n))
    return '\n'.join(lines) + '\n'


def ours(root):
    """Names of struct sock_linux_info, in order."""
    with open(os.path.join(root, 'src/sock/sock_priv.h'), encoding='utf-8') as f:
        text = re.sub(r'/\*.*?\*/', '', f.read(), flags=re.S)
    body = re.search(r'struct sock_linux_info \{(.*?)\};', text, re.S).group(1)
    return [n for line in re.findall(r'uint\d+_t ([^;]*);', body) for n in re.split(r',\s*', line)]


def main(root, compiler):
    with open(HEADER, encoding='utf-8') as f:
        have = fields(f.read())
    assert len(have) >= 55, have
    mine = ours(root)
    known = [n for n, bits in have if not bits and n in mine]
    newer = [n for n, bits in have if not bits and n not in mine]
    wrong = []
    if newer and have.index((newer[0], False)) < max(i for i, (n, _) in enumerate(have) if n in mine):
        wrong.append('missing: ' + ' '.join(newer))
    with tempfile.NamedTemporaryFile('w', suffix='.c') as f:
        f.write(assertions(known))
        f.flush()
        r = subprocess.run(compiler + ['-std=gnu11', '-fsyntax-only', '-I', os.path.join(root, 'src'), f.name],
                           capture_output=True, text=True)
    if r.returncode:
        wrong.append(r.stderr)
    with open(os.path.join(root, 'src/sock/linux_info.c'), encoding='utf-8') as f:
        copied = set(re.findall(r'COPY\((\w+)\)', f.read()))
    with open(os.path.join(root, 'src/daemon/method_conn.c'), encoding='utf-8') as f:
        told = set(re.findall(r'(?:X\(|")(\w+)', f.read()))
    names = {n for n, _ in have} | set(mine) - {'wscales', 'flags'}
    for n in sorted(names - ALWAYS_ZERO - set(newer)):
        if n not in copied | BITS:
            wrong.append('linux_info.c does not copy ' + n)
        if n not in told:
            wrong.append('conn.get does not say ' + n)
    print('%d fields of the header, %d of ours%s' % (len(have), len(mine), '; newer: ' + ' '.join(newer) if newer else ''))
    print('\n'.join(wrong))
    return not wrong


if __name__ == '__main__':
    sys.exit(0 if main(sys.argv[1], sys.argv[2:]) else 1)
