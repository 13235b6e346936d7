"""scripts/bench: that it measures what it says, judges it as the limits say, and leaves nothing behind."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from harness import BUILD, FULL, ROOT, SANITIZED, Failure, Skip, check, equal, sh, wait_for

sys.path.insert(0, os.path.join(ROOT, 'tests/bench'))
import measure  # noqa: E402
import report   # noqa: E402

BENCH = os.path.join(ROOT, 'scripts/bench')
ASKED = ('bulk_out_builtin bulk_in_builtin bulk_out_program bulk_in_program bulk_out_1500 bulk_in_1500 connect_close connect_close_busy_poll '
         'connect_close_parallel rtt_p50 rtt_p99 rtt_p50_busy_poll syn_flood idle_connection_bytes half_open_bytes time_wait_bytes').split()
NEED = {'lwip': lambda: os.access(os.path.join(BUILD, 'tests/bench/bench_lwip'), os.X_OK),
        'slirp4netns': lambda: shutil.which('slirp4netns'), 'pasta': lambda: shutil.which('pasta')}
FEATURES = {'restore': 'survive', 'connect_close_busy_poll': 'busy_poll_us', 'rtt_busy_poll': 'busy_poll_us'}  # keys that taut may not know


def others():
    """Processes of this PID namespace but ourselves (process 1), which alone could wait for those that are dead."""
    found = []
    for p in os.listdir('/proc'):
        try:
            if p.isdigit() and p != '1':
                with open(f'/proc/{p}/stat', encoding='ascii', errors='replace') as f:
                    text = f.read()
                found += [] if re.search(r'\) [ZX] ', text) else [text[:40]]
        except OSError:
            pass
    return found


def nothing_left(net, what):
    left = [x for x in os.listdir(net.tmp) if x.startswith('taut-bench.')]
    wait_for(lambda: not others(), 3, f'all processes of {what} end')
    equal((left, others(), sh('ip', 'netns', 'list'), socket.if_nameindex()), ([], [], '', [(1, 'lo')]), f'what {what} left')


def bench(net, *arguments, seconds):
    """One quick run; its rows by name."""
    if SANITIZED:
        raise Skip('figures of a sanitized build say nothing')
    path = os.path.join(net.tmp, 'bench.json')
    r = subprocess.run([BENCH, '--quick', '--no-install', '--build', BUILD, '--json', path, *arguments], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False)
    out = r.stdout.decode(errors='replace')
    if r.returncode == 77:
        raise Skip(out.strip()[-200:])
    if r.returncode:
        raise Failure(f'status {r.returncode}: {out[-3000:]}')
    nothing_left(net, 'a run')
    with open(path, encoding='utf-8') as f:
        rows = json.load(f)
    equal(sorted(rows[0]), sorted(['row', 'unit'] + list(measure.STACKS)), 'keys of a row')
    return {r['row']: r for r in rows}, out


def check_rows(rows, tests, out):
    """Every row of these tests is there, with a figure above 0 for each stack that can have one."""
    equal(sorted(rows), sorted(row for t in tests for row in t.rows), 'rows')
    config = sh(os.path.join(BUILD, 'src/daemon/tautd'), '--dump-config')
    for t in tests:
        unknown = t.name in FEATURES and not re.search(rf'^#?{FEATURES[t.name]} =', config, re.M)
        for name, (unit, _) in t.rows.items():
            row = rows[name]
            equal(row['unit'], unit, f'unit of {name}')
            for stack in measure.STACKS:
                can = stack in t.stacks and NEED.get(stack, lambda: True)() and not (unknown and stack == 'taut')
                # A tenth of a second may have no tick of the processor, and pasta stalls on some kernels.
                good = row[stack] is not None and (row[stack] > 0 or unit == 'ns/B')
                check(good or stack == 'pasta' if can else row[stack] is None, f'{name}: {stack}: {row[stack]}\n{out[-2500:]}')


def test_some_rows(net):
    """Seconds of scripts/bench: a figure of each kind. runs alone"""
    names = 'bulk_out_builtin,bulk_in_1500,bulk_out_program,connect_close,rtt_p50,syn_flood,half_open_bytes,restore'
    rows, out = bench(net, '--rows', names, seconds=50)
    check_rows(rows, measure.wanted(names, None), out)
    check(re.search(r'\d+ met, \d+ missed', out), f'no verdict: {out[-1000:]}')
    check('cubic' in out and 'steal' in out, 'neither congestion control nor steal time is told')
    net.say(', '.join(f"{s} {rows['bulk_out_builtin'][s]:.3g}" for s in ('taut', 'kernel', 'tap')) + ' Gbit/s')


def test_every_row(net):
    """With --full: every row, in less than a minute, with a picture. runs alone, limit: 120 s"""
    if not FULL:
        raise Skip('only with --full')
    svg, began = os.path.join(net.tmp, 'bench.svg'), time.monotonic()
    rows, out = bench(net, '--svg', svg, seconds=115)
    took = time.monotonic() - began
    check(took < 60, f'--quick took {took:.0f} s')
    check_rows(rows, measure.tests(), out)
    check(os.path.getsize(svg) > 3000, 'the picture is empty')
    net.say(f'{len(rows)} rows in {took:.0f} s')


def test_beside_a_bulk(net):
    """A connection that moves what it can does not raise another's 1-byte round trip beyond 2 ms (p99). runs alone, limit: 90 s"""
    best = {'out': 1e9, 'in': 1e9}
    for attempt in range(8):  # what else the machine does is no fault of taut's
        slow = [mode for mode in best if best[mode] > 2000]
        if not slow:
            break
        rows, _ = bench(net, '--stacks', 'taut', '--rows', ','.join(f'rtt_p99_beside_{m}' for m in slow), seconds=20)
        for mode in slow:
            best[mode] = min(best[mode], rows[f'rtt_p99_beside_{mode}']['taut'] or 1e9)
    check(max(best.values()) <= 2000, f'best of {attempt + 1}: {best} us')
    net.say(f"{best['out']:.0f} us beside out, {best['in']:.0f} us beside in")


def test_interrupted(net):
    """SIGINT and SIGTERM in the middle: it ends with nothing left. runs alone"""
    if SANITIZED:
        raise Skip('figures of a sanitized build say nothing')
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        p = subprocess.Popen([BENCH, '--quick', '--no-install', '--build', BUILD], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's background ignores it
        line = p.stdout.readline().decode()
        if not line.startswith('['):
            p.communicate(timeout=20)
            raise Skip(line.strip())
        if number == signal.SIGINT:
            os.killpg(p.pid, number)  # as the terminal does
        else:
            p.send_signal(number)
        out = p.communicate(timeout=20)[0].decode(errors='replace')
        equal(p.returncode, status, f'status after signal {number} ({out[-300:]})')
        nothing_left(net, f'signal {number}')


def made_up(**rounds):
    """A result with these rows: {row: {stack: figures}}."""
    units = {row: unit for t in measure.tests() for row, (unit, _) in t.rows.items()}
    n = len(next(iter(next(iter(rounds.values())).values())))
    return {'rows': [{'row': row, 'unit': units[row], 'rounds': {s: x.get(s, [None] * n) for s in measure.STACKS}}
                     for row, x in rounds.items()]}


def test_judges(net):
    """The limits: medians of ratios within a round, both directions, peers, missing figures. All asked-for rows exist."""
    known = {row for t in measure.tests() for row in t.rows}
    equal([r for r in ASKED if r not in known], [], 'rows that are missing')
    equal([row for _, row, *_ in report.LIMITS if row not in known], [], 'limits of rows that do not exist')
    r = made_up(bulk_out_builtin={'taut': [10, 100, 30], 'kernel': [5, 200, 10], 'tap': [10, 110, 40], 'lwip': [2, 2, 2]},
                rtt_p50={'taut': [50, 60], 'kernel': [40, 70], 'lwip': [None, 61]}, rtt_p99_beside_in={'taut': [2500], 'pasta': [2600]})
    got = {what: (measured, met) for what, _, measured, met in report.judged(r)}
    equal(got['bulk out, built-in / kernel'], ('2', True), 'ratios 2, 0.5, 3; that of the medians is 3')
    equal(got['bulk out, built-in / bare TAP'], ('0.909', True), 'ratios 1, 0.909, 0.75')
    equal(got['round trip p50 / kernel'], ('1.05', False), 'ratios 1.25, 0.857')
    equal(got['round trip p50 / lwIP'], ('0.984', True), 'one pair')
    equal(got['round trip p99 beside bulk in, us'], ('2,500', False), 'a figure itself')
    equal(report.behind(r), [], 'ahead of all peers')
    r = made_up(bulk_in_1500={'taut': [3], 'lwip': [4]}, idle_connection_bytes={'taut': [500], 'slirp4netns': [400]})
    equal([(row, peer) for row, peer, _ in report.behind(r)], [('bulk_in_1500', 'lwip'), ('idle_connection_bytes', 'slirp4netns')], 'behind')
    equal(report.judged(r)[-1][2:], ('2', False), 'rows behind')
    equal({met for what, _, _, met in report.judged(made_up(syn_flood={'taut': [None], 'tap': [1]}))}, {None}, 'without a figure')
