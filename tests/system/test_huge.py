"""
A great many connections: ss, top and the page stay usable, and the daemon goes on serving while they look (100,000);
what 100,000 idle ones cost.

The connections are made without sockets by manyconns.c, from sources behind the router, to the discard service. How long
the daemon's loop stands still is seen by an echo that a thread bounces all the time.
"""
import json
import os
import re
import signal
import threading
import time

from harness import (BUILD, Control, FULL, Failure, HOST4, IFNAME, SANITIZED, STACK4, STACK_MAC, TAUT, TAUT_WEB, check, equal, read_exactly, sh, tcp,
                     wait_for)

COUNT = 3000 if SANITIZED else 100000  # with sanitizers each turn checks every connection
EACH_BYTES = 600
MANYCONNS = os.path.join(BUILD, 'tests/system/manyconns')
CONFIG = (f'[network]\nroute = 172.16.0.0/12 via {HOST4}\n'
          '[limits]\nmax_connections = 131072\nbuffers = 512M\n')


class Pulse:
    """The longest time that an echo took since the last look."""

    def __init__(self):
        self.longest, self.count, self.stopping = 0.0, 0, False
        self.sock = tcp(nodelay=True)
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        while not self.stopping and self.bounce():
            self.count += 1
            time.sleep(0.0005)

    def bounce(self):
        try:
            began = time.monotonic()
            self.sock.sendall(b'x')
            read_exactly(self.sock, 1)
            self.longest = max(self.longest, time.monotonic() - began)
            return True
        except (OSError, Failure):
            return False  # the test is over

    def take(self):
        longest, self.longest = self.longest, 0.0
        return longest * 1e3

    def close(self):
        self.stopping = True
        self.thread.join(5)
        self.sock.close()


def start(net):
    check(os.access(MANYCONNS, os.X_OK), f'{MANYCONNS} is built')
    d = net.tautd(CONFIG)
    tcp().close()  # the router is a neighbour now: no SYN-ACK waits for ARP
    wait_for(lambda: d.call('server.status')['totals']['established'] == 0, 5, 'none is left')
    return d


def fill(net, d):
    out = sh(MANYCONNS, IFNAME, STACK_MAC, STACK4, 9, '172.16.0.1', COUNT, 100, timeout=120)
    equal(int(out), COUNT, 'handshakes')
    wait_for(lambda: d.call('server.status')['totals']['established'] == COUNT, 5, f'{COUNT} connections')


def timed(function):
    began = time.monotonic()
    value = function()
    return value, time.monotonic() - began


def run_to_file(net, d, name, *argv):
    """Output too large to be wanted in memory: the file's path."""
    path = os.path.join(net.tmp, name)
    with open(path, 'wb') as out:
        p = net.start('taut', TAUT, '-S', d.dir, *argv, stdout=out)
        equal(p.wait(120), 0, f'taut {argv}')
    return path


def lines(path):
    with open(path, 'rb') as f:
        return sum(1 for _ in f)


def test_ss_top_and_page(net):
    """Each whole look, and the longest that an echo had to wait meanwhile. runs alone, limit: 400 s"""
    d = start(net)
    fill(net, d)
    pulse = Pulse()
    time.sleep(1)
    figures = [f'idle: echo at most {pulse.take():.1f} ms']
    longest = 0.0

    def look(what, function):
        nonlocal longest
        value, seconds = timed(function)
        stall = pulse.take()
        longest = max(longest, stall)
        figures.append(f'{what} {seconds:.2f} s (echo {stall:.1f} ms)')
        check(seconds < (120 if SANITIZED else 30), f'{what}: {seconds:.1f} s')
        return value

    path = look('ss', lambda: run_to_file(net, d, 'ss', 'ss', '-tnH', 'sport', '=', ':9'))
    equal(lines(path), COUNT, 'rows of ss')
    path = look('ss -i', lambda: run_to_file(net, d, 'ssi', 'ss', '-tinOH', 'sport', '=', ':9'))
    equal(lines(path), COUNT, 'rows of ss -i')
    out = look('ss of few', lambda: d.cli('ss', '-tnH', 'sport', '=', ':7'))
    equal(len(out.splitlines()), 1, 'one of many')
    out = look('ss -s', lambda: d.cli('ss', '-s', timeout=120))
    check(re.search(rf'estab {COUNT + 1},', out), out)
    out = look('top, active', lambda: d.cli('top', '-b', '-n', '2', '-d', '0.5', timeout=120))
    check(f'connections {COUNT + 1}:' in out and "'a' shows idle ones too" in out, out[:600])
    check('10.77.0.2:7' in out.split('WAITS FOR')[2].split('\n')[1], 'the busy one is on top')
    path = look('top, all', lambda: run_to_file(net, d, 'top', 'top', '-b', '-n', '1', '-a'))
    check(lines(path) > COUNT, 'all of them')
    web = net.start('taut-web', TAUT_WEB, '-S', d.dir)
    web.wait_output('serving on port')
    page = look('page', lambda: sh('curl', '-s', '-m', '20', f'http://{STACK4}/'))
    after = re.search(r'href="(/\?after=[^"]+)">Next page', page)
    check(after and f'100 shown of {COUNT + 2}' in page, page[:300])
    page = look('next page', lambda: sh('curl', '-s', '-m', '20', f'http://{STACK4}{after.group(1)}'))
    check('First page' in page and page.count('/connections/') >= 100, page[:300])
    page = look('filtered page', lambda: sh('curl', '-s', '-m', '20', f'http://{STACK4}/?port=7'))
    check('1 shown of' in page, page[:300])
    net.say('; '.join(figures))
    check(pulse.count > 200, f'{pulse.count} echoes')
    check(longest < (50 if FULL else 1000), f'an echo waited {longest:.0f} ms')
    pulse.close()


def test_bounded_work(net):
    """One call answers after about a millisecond's work, however much there is; all pages together are all.
    runs alone, limit: 300 s"""
    d = start(net)
    fill(net, d)
    pages, seen, after, most = 0, set(), None, 0.0
    while True:
        params = {'limit': 5000, 'fields': ['*']}
        if after:
            params['after'] = after
        answer, seconds = timed(lambda: d.call('conn.list', **params))
        most = max(most, seconds)
        pages += 1
        seen.update(r['id'] for r in answer['connections'])
        after = answer['next']
        if not after:
            break
    equal(len(seen), COUNT, 'each once')
    check(SANITIZED or pages > COUNT // 5000 + 5, f'{pages} pages: calls with much to tell are cut short')
    answer, seconds = timed(lambda: d.call('conn.list', local_port=7))
    check(len(json.dumps(answer)) < 300, 'nothing was found')
    net.say(f'{pages} pages of all fields, the longest call {most * 1e3:.1f} ms; a search that finds nothing '
            f'{seconds * 1e3:.1f} ms, next {answer["next"]}')

def memory_bytes(d):
    """Of all its processes; what they share counts once."""
    total = 0
    for pid in {d.pid, d.stack_pid}:
        with open(f'/proc/{pid}/smaps_rollup', encoding='ascii') as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith('Pss:'))
    return total * 1024


def test_memory(net):
    """Idle connections are parked: what each costs, all told; and a crash among 100,000 of them. runs alone, limit: 300 s"""
    d = start(net)
    before = memory_bytes(d)
    fill(net, d)
    wait_for(lambda: d.call('server.status')['totals']['parked'] == COUNT, 15, 'all are parked')
    each = (memory_bytes(d) - before) / COUNT
    s = tcp()
    began = time.monotonic()
    os.kill(d.stack_pid, signal.SIGKILL)
    s.sendall(b'x')
    read_exactly(s, 1)
    restored = time.monotonic() - began
    d.control = Control(d.dir)
    totals = d.call('server.status')['totals']
    equal(totals['established'], COUNT + 1, 'all are there')
    equal(totals['parked'], COUNT, 'and parked')
    after = (memory_bytes(d) - before) / COUNT
    net.say(f'{each:.0f} bytes a connection; kill -9 to the first byte {restored * 1e3:.0f} ms; {after:.0f} bytes then')
    check(SANITIZED or each <= EACH_BYTES, f'{each:.0f} bytes a connection')
    check(SANITIZED or after <= EACH_BYTES, f'{after:.0f} bytes a connection after the crash')
