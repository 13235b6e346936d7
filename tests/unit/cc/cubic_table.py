#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""CUBIC's windows computed a second time, from the arithmetic that Linux publishes (units, shifts, rounding),
as a table for cc_cubic_test.c.

Usage: cubic_table.py                 print the table
       cubic_table.py --check FILE    exit 1 if FILE is not what would be printed
"""
import sys

MASK = 0xffffffff
# name, cwnd at the start, rtt in ms, [(ms, what happens)], samples every ms, until ms
SCENARIOS = [
    ('wan', 1000, 100, [(0, 'loss')], 500, 12000),
    ('long_', 10000, 60, [(0, 'loss'), (4000, 'loss'), (8000, 'ecn')], 500, 20000),
    ('friendly', 40, 10, [(0, 'loss')], 250, 5000),
    ('unknown_max', 500, 50, [], 250, 3000),
    ('idle', 800, 40, [(0, 'loss'), (2000, 'idle 1500')], 500, 9000),
    ('abe', 800, 40, [(0, 'ecn abe')], 500, 6000),
]


def root3(a):
    low, high = 0, 1 << 22
    while low < high:
        mid = (low + high + 1) // 2
        low, high = (mid, high) if mid ** 3 <= a else (low, mid - 1)
    return low


class Cubic:
    def __init__(self, delay_min_ms):
        self.delay_min = delay_min_ms
        self.cnt = self.wmax = self.last_cwnd = self.last_time = 0
        self.start = None
        self.origin = self.k = self.acks = self.tcp = 0

    def reduced(self, cwnd, beta):
        self.start = None
        self.wmax = cwnd * (1024 + beta) // 2048 if cwnd < self.wmax else cwnd
        return max(cwnd * beta // 1024, 2)

    def per_segment(self, cwnd, acked, now):
        self.acks += acked
        if self.last_cwnd == cwnd and now - self.last_time <= 1000 // 32:
            return self.cnt
        if self.start is None or now != self.last_time:
            self.last_cwnd, self.last_time = cwnd, now
            if self.start is None:
                self.start, self.acks, self.tcp = now, acked, cwnd
                behind = max(self.wmax - cwnd, 0)
                self.k = root3((1 << 40) // 410 * behind)
                self.origin = max(self.wmax, cwnd)
            t = ((now - self.start + self.delay_min) << 10) // 1000
            bow = 410 * abs(t - self.k) ** 3 >> 40
            goal = self.origin - bow if t < self.k else self.origin + bow
            self.cnt = cwnd // (goal - cwnd) if goal > cwnd else 100 * cwnd
            if self.wmax == 0:
                self.cnt = min(self.cnt, 20)
        scale = 8 * (1024 + 717) // 3 // (1024 - 717)
        per = cwnd * scale >> 3
        while self.acks > per:
            self.acks -= per
            self.tcp += 1
        if self.tcp > cwnd:
            self.cnt = min(self.cnt, cwnd // (self.tcp - cwnd))
        self.cnt = max(self.cnt, 2)
        return self.cnt


def windows(cwnd, rtt, events, every, until):
    """cwnd every so many ms; each ms brings as many ACKs as the window sends in it."""
    c, count, credit, silent_until, out = Cubic(rtt), 0, 0, 0, []
    for t in range(until):
        for at, what in events:
            if at == t and what.startswith('idle'):
                silent_until = t + int(what.split()[1])
            elif at == t:
                cwnd = c.reduced(cwnd, 870 if 'abe' in what else 717)
                count = 0
        if silent_until > t:
            continue
        if silent_until == t and t > 0 and c.start is not None:  # idle since the last ms before it
            idle = [int(w.split()[1]) for _, w in events if w.startswith('idle')][0] + 1
            c.start = min(c.start + idle, t + 1000)
        credit += cwnd
        acked, credit = credit // rtt, credit % rtt
        if acked:
            per = c.per_segment(cwnd, acked, t + 1000)
            if count >= per:
                count, cwnd = 0, cwnd + 1
            count += acked
            cwnd, count = cwnd + count // per, count % per
        if (t + 1) % every == 0:
            out.append((t, cwnd))
    return out


def table():
    lines = ['/* Made by cubic_table.py: do not edit. */', '']
    for name, cwnd, rtt, events, every, until in SCENARIOS:
        rows = windows(cwnd, rtt, events, every, until)
        lines.append('static const struct sample %s[] = {' % name)
        for i in range(0, len(rows), 6):
            lines.append('    ' + ' '.join('{%d, %d},' % row for row in rows[i:i + 6]))
        lines.append('};')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    if sys.argv[1:2] == ['--check']:
        with open(sys.argv[2], encoding='utf-8') as f:
            if f.read() != table():
                sys.exit('%s: not what cubic_table.py computes' % sys.argv[2])
    else:
        sys.stdout.write(table())
