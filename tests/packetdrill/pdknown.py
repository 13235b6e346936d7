"""known.tsv: what is known of scripts that are not ours, and what a script means once its stale constants are replaced.

Rows: end of the path (a pattern), variant or *, kind, reason. The first two say which runs a row is about. Kinds:

    skip                 is not run: a facility of the kernel
    senseless            makes no sense in this variant: not run, and not counted
    fail                 does not pass, and should not
    open-end             does not list the last segments
    tolerance=US         microseconds instead of 100
    mtu=BYTES            the script's constants are for a device with this MTU
    cookie=OLD:KEY       OLD is a Fast Open cookie of the AES scheme that Linux had before 5.4, or of another pair of
                         addresses. It is replaced by the cookie that Linux gives today (SipHash-2-4 over the pair with
                         KEY), computed here, not by the engine
    substitute=OLD=>NEW  a constant of an older Linux, replaced by that of today's; OLD must occur

A script whose constants were replaced still checks everything else, and the new constant. reason says why it is stale.
"""

import fnmatch
import os
import socket

MASK64 = (1 << 64) - 1


class Stale(Exception):
    """A row of known.tsv replaces what the script does not hold: the row is stale itself."""


class Known:
    def __init__(self, path):
        self.rows = []
        if not path or not os.path.exists(path):
            return
        with open(path, encoding='utf-8') as f:
            for line in f:
                row = line.rstrip('\n').split('\t')
                if len(row) == 4 and not line.startswith('#'):
                    self.rows.append(row)

    def find(self, path, variant):
        return [(kind, reason) for end, v, kind, reason in self.rows
                if fnmatch.fnmatch('/' + path, '*/' + end) and v in ('*', variant)]

    def reason(self, path, variant, kind):
        return dict(self.find(path, variant)).get(kind)


def number(kinds, name, default):
    """The greatest of the rows `name=N`, or the default."""
    return max([default] + [int(k.split('=')[1]) for k in kinds if k.startswith(name + '=')])


def siphash(key, data):
    """SipHash-2-4 (Aumasson, Bernstein 2012): a 64-bit number."""
    def rotate(x, n):
        return (x << n | x >> (64 - n)) & MASK64

    def rounds(v, n):
        a, b, c, d = v
        for _ in range(n):
            a, c = (a + b) & MASK64, (c + d) & MASK64
            b, d = rotate(b, 13) ^ a, rotate(d, 16) ^ c
            a = rotate(a, 32)
            c, a = (c + b) & MASK64, (a + d) & MASK64
            b, d = rotate(b, 17) ^ c, rotate(d, 21) ^ a
            c = rotate(c, 32)
        return [a, b, c, d]

    k0, k1 = int.from_bytes(key[:8], 'little'), int.from_bytes(key[8:16], 'little')
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]
    whole = len(data) // 8 * 8
    words = [data[i:i + 8] for i in range(0, whole, 8)] + [data[whole:] + bytes(7 - len(data) % 8) + bytes([len(data) & 255])]
    for word in words:
        m = int.from_bytes(word, 'little')
        v[3] ^= m
        v = rounds(v, 2)
        v[0] ^= m
    v[2] ^= 0xff
    v = rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def cookie(key_text, variant):
    """The cookie that a server at variant's local address gives the remote one; key as the sysctl takes it."""
    key = b''.join(int(word, 16).to_bytes(4, 'little') for word in key_text.split('-'))
    family = socket.AF_INET if variant['family'] == 4 else socket.AF_INET6
    pair = socket.inet_pton(family, variant['remote']) + socket.inet_pton(family, variant['local'])
    return siphash(key, pair).to_bytes(8, 'little').hex()


def adapt(text, kinds, variant):
    """The script's text with its stale constants replaced; variant: pdrun.VARIANTS[...]."""
    for kind in kinds:
        name, _, rest = kind.partition('=')
        if name == 'cookie':
            old, _, key = rest.partition(':')
            new = cookie(key, variant)
        elif name == 'substitute':
            old, _, new = rest.partition('=>')
        else:
            continue
        if old not in text:
            raise Stale('known.tsv: "%s" does not occur' % old)
        text = text.replace(old, new)
    return text


def is_adapted(kinds):
    return any(k.startswith(('cookie=', 'substitute=')) for k in kinds)


def self_test():
    """SipHash's own vector, the two cookies that google's run_all.py names, rows that hold and one that does not."""
    pairs = [('192.0.2.1', '192.168.0.1', 4, '3021b9d889017eeb'),
             ('fd3d:fa7b:d17d::1', 'fd3d:0a0b:17d6::1', 6, 'c1d1e9742a47a9bc')]
    key = 'a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4'
    assert siphash(bytes(range(16)), bytes(range(15))) == 0xa129ca6149be45e5
    for remote, local, family, want in pairs:
        variant = {'family': family, 'local': local, 'remote': remote}
        assert cookie(key, variant) == want
        assert adapt('FO 00ff', ['cookie=00ff:' + key, 'open-end'], variant) == 'FO ' + want
    assert adapt('a == 4, a', ['substitute=a == 4=>a == 5'], {}) == 'a == 5, a'
    try:
        adapt('nothing', ['substitute=this=>that'], {})
    except Stale:
        return
    raise AssertionError('a stale row was not noticed')


if __name__ == '__main__':
    self_test()
