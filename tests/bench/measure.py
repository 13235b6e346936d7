#!/usr/bin/python3 -B
"""
tests/bench/measure.py: the rows of scripts/bench and the run itself (theory of operation).

A Test is one kind of run of the client, which yields one or several rows. scripts/bench starts this file as process 1 of
PID, mount and network namespaces of its own: when it ends, however it ends, the kernel takes away all that it started.
Result: result.json in the folder that it was given, with the figure of every round.

    measure.py TMP BUILD ROUNDS quick|full STACK,... TEST,...
"""
import collections
import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import worlds
from worlds import CHARGEN, CLOSING, DISCARD, ECHO, STACKS, WEB, Failed, Missing

Test = collections.namedtuple('Test', 'name text rows stacks measure once')
ALL = tuple(STACKS)
BULK = {'gbit_s': 'Gbit/s', 'ns_per_byte': 'ns/B'}
GET = 'GET /file HTTP/1.0\r\n\r\n'
POST = 'POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\n'


# ---- How each is measured: (bench, stack) to the client's object -----------------------------------------------------

def bulk(mode, n, variant='', where='builtin'):
    port = CHARGEN if mode == 'out' else DISCARD

    def measure(b, stack):
        w = b.world(stack, 'program' if stack == 'tap' and where == 'program' else variant)
        if where == 'forward':
            w.need_web()
            return w.client(mode, WEB, n, b.bulk_s, GET if mode == 'out' else POST)
        return w.client(mode, port + (w.need_program() if where == 'program' else 0), n, b.bulk_s)
    return measure


def rate(mode, n, variant=''):
    return lambda b, stack: b.world(stack, variant).client(mode, ECHO, n, b.rate_s)


def rtt(variant=''):
    return lambda b, stack: b.world(stack, variant).client('rtt', ECHO, 1, b.rate_s)


def rtt_beside(mode):
    """Another connection's round trips while one moves as much as it can."""
    def measure(b, stack):
        w = b.world(stack)
        busy = w.client(mode, CHARGEN if mode == 'out' else DISCARD, 1, b.rate_s * 4 / 3 + 0.2, start_only=True)
        try:
            time.sleep(0.05)
            return w.client('rtt', ECHO, 1, b.rate_s)
        finally:
            w.result(busy, 'bulk', 20)
    return measure


def syn_flood(b, stack):
    w = STACKS[stack](b)
    try:
        r = w.flood(0, b.flood_s)
        if r['answered'] < 100:
            raise Failed(f"{r['answered']} of {r['sent']} SYNs answered")
        return {'per_s': r['answered'] / r['seconds']}
    finally:
        w.close()


def restore(b, stack):
    if not b.has_key('survive'):
        raise Missing('tautd knows no survive')
    w = STACKS[stack](b)
    try:
        return {'ms': 1e3 * w.time_to_restore()}
    finally:
        w.close()


# ---- Memory: RSS of the stack's process. For the kernel the sizes of the slab objects that one connection is made of: what
# all its caches together gain and lose is mostly other people's. ------------------------------------------------------

ROOM = '[limits]\nmax_connections = 400000\nmax_half_open = 200000\n[tcp]\ntcp_max_syn_backlog = 200000\nsomaxconn = 65535\n' \
       'tcp_max_tw_buckets = 200000\n'
FEW = {'lwip': 1000, 'slirp4netns': 1000, 'pasta': 1000}  # the cost of more grows with the square, or there is a table's end


def weighing(slab, make):
    """A measurement: make(b, w, stack) gives how many things it made in the world w; bytes of each."""
    def measure(b, stack):
        if stack == 'kernel':
            return {'bytes': worlds.slab_objects(*slab)}
        w = STACKS[stack](b, text=ROOM + 'tcp_syncookies = 0\n') if stack == 'taut' else STACKS[stack](b)
        try:
            w.holders, w.more = [], {}
            n, took = make(b, w, stack)
        finally:
            for p in w.holders:
                p.kill()
                p.communicate()
            w.close()
        if n < 100 or took <= 0:
            raise Failed(f'{n} were made and took {took} bytes: nothing to divide')
        return {'bytes': took / n, 'n': n, **w.more}
    return measure


def settled(w):
    time.sleep(0.2)
    return worlds.resident(w.pid)


def at_rest(w):
    """What is left when the stack has put away what idle connections do not need: when nothing was given back for a second,
    at the latest after 5 s."""
    end, least, since = time.monotonic() + 5, worlds.resident(w.pid), time.monotonic()
    while time.monotonic() < min(end, since + 1):
        time.sleep(0.1)
        now = worlds.resident(w.pid)
        if now < least - 65536:
            least, since = now, time.monotonic()
    return worlds.resident(w.pid)


def idle(b, w, stack):
    """100,000 (--quick: 10,000) from several client processes and eight addresses. Of taut also the time from a kill -9 of
    the process that runs the stack to the next byte on one of them."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200  # of one client
    n, made = min(FEW.get(stack, b.idle_n), b.idle_n), 0
    clients, before = max(4, -(-n // files)), settled(w)
    for _ in range(clients):
        p = w.client('hold', ECHO, n // clients, 1, start_only=True)
        w.holders.append(p)
        made += json.loads(p.stdout.readline())['made']
    took = at_rest(w) - before
    if stack == 'taut':
        there = w.totals()['established']
        if made < n * 0.99 or there != made:
            raise Failed(f'{made} of {n} were made, {there} are there')
        if b.has_key('survive'):
            w.more['restore_ms'] = 1e3 * w.time_to_restore()
    return made, took


def half_open(b, w, stack):
    port, warm = ECHO + w.need_program(), 0  # a backlog of its own: taut's services keep 4096
    if stack == 'taut':  # what is needed once is there; the same SYNs come again below
        w.flood(100000, 20, b.half_open_n // 6, port)
        warm = w.totals()['half_open']
    before = settled(w)
    r = w.flood(100000, 20, min(FEW.get(stack, b.half_open_n), b.half_open_n), port)
    took = settled(w) - before  # before they are counted: a busy machine may still be working on them
    return w.totals()['half_open'] - warm if stack == 'taut' else min(r['answered'], r['sent']), took


def time_wait(b, w, stack):
    port = CLOSING + w.need_program()
    w.client('closed', port, 500, 20)  # what is needed once is there
    before, warm = settled(w), w.totals()['time_wait']
    w.client('closed', port, b.time_wait_n, 60)
    took = settled(w) - before
    return w.totals()['time_wait'] - warm, took


# ---- The table ------------------------------------------------------------------------------------------------------------

def tests():
    t = []

    def add(name, text, rows, measure, stacks=ALL, once=False):
        t.append(Test(name, text, rows, stacks, measure, once))

    def add_bulk(name, text, measure, stacks=ALL):
        add(name, text, {name: ('Gbit/s', 'gbit_s'), 'cpu_' + name: ('ns/B', 'ns_per_byte')}, measure, stacks)

    on_mtu_1500 = ('taut', 'kernel', 'tap', 'lwip')
    for mode in ('out', 'in'):
        add_bulk(f'bulk_{mode}_builtin', 'one connection, built-in service', bulk(mode, 1))
    for mode in ('out', 'in'):
        add_bulk(f'bulk_{mode}_1500', 'the same, MTU 1500 without offloads', bulk(mode, 1, '1500'), on_mtu_1500)
    with_program = ('taut', 'kernel', 'slirp4netns', 'pasta')
    for where, text, also in (('program', 'through a program and its descriptor', ('tap',)),
                              ('forward', 'through a forward to nginx', ())):
        for mode in ('out', 'in'):
            add_bulk(f'bulk_{mode}_{where}', 'one connection, ' + text, bulk(mode, 1, where=where), with_program + also)
    for n in (10, 100):
        for mode in ('out', 'in'):
            add_bulk(f'bulk_{mode}_builtin_{n}', f'{n} connections, built-in service', bulk(mode, n))
    busy = ('taut', 'kernel', 'tap')
    add('connect_close', 'one after another, without waiting for the FIN', {'connect_close': ('1/s', 'per_s')}, rate('connect', 1))
    add('connect_close_busy_poll', 'the same, taut and tap polling', {'connect_close_busy_poll': ('1/s', 'per_s')},
        rate('connect', 1, 'busy'), busy)
    add('connect_close_parallel', '8 in parallel', {'connect_close_parallel': ('1/s', 'per_s')}, rate('connect', 8))
    add('connect_close_parallel_100', '100 in parallel', {'connect_close_parallel_100': ('1/s', 'per_s')}, rate('connect', 100))
    add('connect_echo_close', 'with a byte echoed between', {'connect_echo_close': ('1/s', 'per_s')}, rate('echo', 1))
    add('rtt', '1 byte there and back', {'rtt_p50': ('us', 'p50_us'), 'rtt_p99': ('us', 'p99_us')}, rtt())
    add('rtt_busy_poll', 'the same, taut and tap polling',
        {'rtt_p50_busy_poll': ('us', 'p50_us'), 'rtt_p99_busy_poll': ('us', 'p99_us')}, rtt('busy'), busy)
    for mode in ('out', 'in'):
        add(f'rtt_beside_{mode}', f'the same beside a bulk transfer {mode}',
            {f'rtt_p50_beside_{mode}': ('us', 'p50_us'), f'rtt_p99_beside_{mode}': ('us', 'p99_us')}, rtt_beside(mode))
    add('syn_flood', 'SYNs answered, saturated', {'syn_flood': ('1/s', 'per_s')}, syn_flood, on_mtu_1500)
    add('restore', 'from kill -9 to the next byte on an old connection', {'restore': ('ms', 'ms')}, restore, ('taut',))
    for name, text, stacks, slab, make in (
            ('idle_connection_bytes', 'an idle connection', ('taut', 'kernel', 'lwip', 'slirp4netns', 'pasta'),
             ('TCP', 'sock_inode_cache', 'filp', 'dentry'), idle),
            ('half_open_bytes', 'a half-open one', ('taut', 'kernel', 'lwip'), ('request_sock_TCP',), half_open),
            ('time_wait_bytes', 'one in TIME-WAIT', ('taut', 'kernel'), ('tw_sock_TCP',), time_wait)):
        rows = {name: ('bytes', 'bytes')}
        if make is idle:
            rows['restore_100k_ms'] = ('ms', 'restore_ms')  # with all of them
        add(name, text, rows, weighing(slab, make), stacks, True)
    return t


def wanted(rows, pattern):
    """The tests that yield a row that is asked for."""
    found = tests()
    if rows:
        names = rows.split(',')
        known = {row for t in found for row in t.rows}
        unknown = [n for n in names if n not in known]
        if unknown:
            raise ValueError(f'no row {unknown[0]}; --list names them')
        found = [t for t in found if any(n in t.rows for n in names)]
    if pattern:
        found = [t for t in found if any(re.search(pattern, row) for row in t.rows)]
        if not found:
            raise ValueError(f'no row matches {pattern}')
    return found


# ---- The run ---------------------------------------------------------------------------------------------------------------

class Bench:
    def __init__(self, tmp, build, quick):
        self.tmp, self.build = tmp, build
        self.bulk_s, self.rate_s, self.flood_s = (0.12, 0.1, 0.15) if quick else (0.6, 0.5, 0.5)
        self.idle_n, self.half_open_n, self.time_wait_n = (10000, 30000, 12000) if quick else (100000, 60000, 60000)
        self.worlds, self.notes, self.began = {}, [], time.monotonic()
        dump = subprocess.run([os.path.join(build, 'src/daemon/tautd'), '--dump-config'], stdout=subprocess.PIPE, check=True).stdout
        self.keys, section = {}, None
        for line in dump.decode().splitlines():
            m = re.match(r'\[([^]]+)\]|#?(\w+) =', line)
            if m and m.group(1):
                section = m.group(1)
            elif m:
                self.keys.setdefault(m.group(2), section)
        self.busy_poll_section = self.keys.get('busy_poll_us')

    def has_key(self, key):
        return key in self.keys

    def world(self, stack, variant=''):
        """The long-lived world of a stack; what failed to come up once is not tried again."""
        key = stack, '' if stack in ('lwip', 'slirp4netns', 'pasta') or (stack, variant) == ('kernel', 'busy') else variant
        if key not in self.worlds:
            try:
                self.worlds[key] = STACKS[stack](self, key[1])
            except (Missing, Failed) as e:
                self.worlds[key] = Missing(str(e))
        if isinstance(self.worlds[key], Missing):
            raise self.worlds[key]
        return self.worlds[key]

    def web_root(self):
        """A file to download, in memory."""
        path = os.path.join('/run', 'web')
        if not os.path.isdir(path):
            os.mkdir(path, 0o755)
            with open(os.path.join(path, 'file'), 'wb') as f:
                for _ in range(256):
                    f.write(bytes(1 << 20))
        return path

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def say(self, text):
        print(f'[{time.monotonic() - self.began:3.0f} s] {text}', flush=True)

    def one(self, test, stack):
        try:
            return test.measure(self, stack)
        except Missing as e:
            self.note(f'{stack}: {e}')
        except (Failed, OSError, subprocess.SubprocessError, KeyError, ValueError) as e:
            self.note(f'{test.name}: {stack}: {e}')
        return None


def ticks():
    """Of the whole machine: busy, stolen, all."""
    with open('/proc/stat', encoding='ascii') as f:
        v = list(map(int, f.readline().split()[1:9]))
    return sum(v) - v[3] - v[4] - v[7], v[7], sum(v)


def busy_without_us():
    """What share of the machine is busy while we do nothing: the share that figures are wrong by."""
    before = ticks()
    time.sleep(0.3)
    after = ticks()
    return (after[0] - before[0]) / max(1, after[2] - before[2])


def short(test, r):
    if r is None:
        return '-'
    row = next(iter(test.rows))
    return f'{r[test.rows[row][1]]:.4g}' + (f" (of {r['n']:,})" if 'n' in r else '')


def run_all(b, chosen, stacks, rounds):
    """{row: {stack: [figure or None of each round]}}, what the client said of congestion control, how busy others were."""
    figures, congestion, others = {row: {s: [] for s in STACKS} for t in chosen for row in t.rows}, set(), []
    for k in range(rounds):
        others.append(busy_without_us())
        for i, test in enumerate(chosen):
            if test.once and k < rounds - 1:
                continue
            mine = [s for s in STACKS if s in stacks and s in test.stacks]
            turn = (k + i) % len(mine) if mine else 0
            got = {s: b.one(test, s) for s in mine[turn:] + mine[:turn]}
            for row, (_, key) in test.rows.items():
                for s in STACKS:
                    figures[row][s].append(got[s].get(key) if got.get(s) else None)
            congestion |= {r['congestion'] for r in got.values() if r and r.get('congestion')}
            unit = next(iter(test.rows.values()))[0]
            b.say(f'{k + 1}/{rounds} {test.name}, {unit}: ' + ', '.join(f'{s} {short(test, got[s])}' for s in mine))
    return figures, congestion, others + [busy_without_us()]


def main(tmp, build, rounds, speed, stacks, names):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(OSError):
        os.nice(-15)  # all that is measured comes before what else the machine has to do
    worlds.run('mount', '-t', 'tmpfs', 'tmpfs', '/run')
    worlds.run('ip', 'link', 'set', 'lo', 'up')
    b = Bench(tmp, build, speed == 'quick')
    chosen = [t for t in tests() if t.name in names.split(',')]
    before = ticks()
    figures, congestion, others = run_all(b, chosen, stacks.split(','), int(rounds))
    after = ticks()
    with open('/proc/cpuinfo', encoding='ascii', errors='replace') as f:
        model = re.search(r'^model name\s*: (.*)', f.read(), re.M)
    result = {'rounds': int(rounds), 'quick': speed == 'quick', 'when': time.strftime('%Y-%m-%d %H:%M'), 'notes': b.notes,
              'machine': f'Linux {os.uname().release}, {os.cpu_count()} x {model.group(1) if model else os.uname().machine}',
              'congestion': sorted(congestion), 'others': others, 'steal': (after[1] - before[1]) / max(1, after[2] - before[2]),
              'seconds': time.monotonic() - b.began,
              'rows': [{'row': row, 'unit': unit, 'rounds': figures[row]} for t in chosen for row, (unit, _) in t.rows.items()]}
    with open(os.path.join(tmp, 'result.json'), 'w', encoding='utf-8') as f:
        json.dump(result, f)
    return 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    try:
        code = main(*sys.argv[1:])
    except KeyboardInterrupt:
        print('interrupted', flush=True)
        code = 130
    sys.stdout.flush()
    os._exit(code)  # process 1: all others end with it
