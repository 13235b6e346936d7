"""
A SYN flood from invented sources, while the kernel goes on connecting. Sources on the link cost neighbour entries too;
those that are verified stay.
"""
import os
import re
import threading
import time

from harness import (ACK, BUILD, FAKE4, FULL, HOST4, IFNAME, PSH, RST, SANITIZED, STACK4, STACK_MAC, Control, Failure, RawPeer,
                     check, equal, read_exactly, sh, tcp, wait_for)

SYNFLOOD = os.path.join(BUILD, 'tests/system/synflood')
RATE = 10000 if SANITIZED else 100000
SECONDS = 10 if FULL else 2
MAX_HALF_OPEN, ENTRY_BYTES = 16384, 68  # the default of limits.max_half_open; tcp/small.h holds the other (IPv4)
NEIGH_MAX, NEIGH_BYTES = 4096, 192       # the default of stack.neigh_max; what malloc() adds is in it
NEW_NEIGHBOURS = range(100, 120)
CONNECTS_AT_LEAST = 10 if SANITIZED else 1000 if FULL else 100


def rss(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith('VmRSS:'))


class Pings:
    """The kernel pings taut, and taut pings hosts that it has never spoken to: both need room beside the flood."""

    def __init__(self, net, d):
        for i in NEW_NEIGHBOURS:
            sh('ip', 'addr', 'add', f'10.77.0.{i}/32', 'dev', IFNAME)
        self.control = Control(d.dir)
        self.ping = net.start('ping', 'ping', '-q', '-i', '0.01', '-w', SECONDS, STACK4)
        self.answers = []
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        for i in NEW_NEIGHBOURS:
            self.answers.append(self.control.call('icmp.ping', address=f'10.77.0.{i}')['received'])
            time.sleep(SECONDS / 2 / len(NEW_NEIGHBOURS))

    def check(self):
        self.thread.join(30)
        self.ping.wait(SECONDS + 10)
        sent, received = map(int, re.search(r'(\d+) packets transmitted, (\d+) received', self.ping.output()).groups())
        check(sent > 20 * SECONDS and received * 100 >= sent * 99, f'pings answered during the flood: {self.ping.output()}')
        missed = self.answers.count(0)
        check(len(self.answers) == len(NEW_NEIGHBOURS) and missed <= 1, f'new neighbours (1: reached): {self.answers}')


class Clients:
    """Connects, says a byte, hears it, resets; again and again on some threads, each patient as a person is."""

    def __init__(self, threads=4):
        self.good, self.bad, self.slowest, self.stopping = 0, [], 0.0, False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.loop, daemon=True) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def once(self):
        began = time.monotonic()
        try:
            with tcp(timeout=15) as s:
                s.sendall(b'x')
                equal(read_exactly(s, 1), b'x', 'echo')
        except (OSError, Failure) as e:
            self.bad.append(e)
            return
        with self.lock:
            self.good += 1
            self.slowest = max(self.slowest, time.monotonic() - began)

    def loop(self):
        while not self.stopping:
            self.once()

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join(40)
        return self


def verified_peer(d):
    """A second neighbour, verified by what it acknowledges and sends."""
    peer = RawPeer()
    seq, ack, _ = peer.connect(7)
    peer.send_tcp(40000, 7, seq, ack, ACK | PSH, payload=b'x')

    def reachable():
        return [n for n in d.call('neigh.list')['neighbours'] if n['address'] == FAKE4 and n['state'] == 'REACHABLE']
    wait_for(reachable, 3, f'{FAKE4} is verified')
    peer.send_tcp(40000, 7, seq + 1, ack, RST)
    peer.close()


def flood(net, sources, table_bytes=0, config=''):
    """(daemon, what neighbours it has at the end); the checks are those of every flood. table_bytes: what memory may
    grow beside the queue of half-open entries"""
    check(os.access(SYNFLOOD, os.X_OK), f'{SYNFLOOD} is built')
    # One route off the link, one on it: the sources' prefixes.
    d = net.tautd(f'[network]\nroute = 172.16.0.0/12 via {HOST4}, 10.80.0.0/16\n'
                  f'[tcp]\ntcp_timewait_len = 1\n{config}')
    verified_peer(d)
    warm = Clients()
    time.sleep(1)
    warm.stop()
    check(not warm.bad, f'connects without a flood: {warm.bad[:3]}')
    before, most = rss(d.stack_pid), 0
    p = net.start('synflood', SYNFLOOD, IFNAME, STACK_MAC, STACK4, 7, sources, RATE, SECONDS)
    clients, pings = Clients(), Pings(net, d)
    while p.running():
        most = max(most, rss(d.stack_pid))
        time.sleep(0.1)
    clients.stop()
    pings.check()
    equal(p.wait(), 0, f'synflood: {p.output()}')
    most = max(most, rss(d.stack_pid))
    frames, seconds = int(p.output().split()[0]), float(p.output().split()[2])
    stats = d.stats()
    net.say(f'{frames / seconds / 1e3:.0f} k SYN/s (refused {p.output().split()[-1]}), {clients.good} connects, '
            f'{len(clients.bad)} failed, slowest {clients.slowest * 1e3:.0f} ms, RSS +{(most - before) >> 10} KiB, '
            f'{stats["tcp"]["SyncookiesSent"]} cookies')
    check(frames / seconds > (0.95 * RATE if FULL else 0.3 * RATE), f'the flood is one: {p.output()}')
    check(clients.good >= CONNECTS_AT_LEAST, f'{clients.good} connects')
    check(len(clients.bad) * 1000 <= clients.good, f'{len(clients.bad)} of {clients.good} failed: {clients.bad[:3]}')
    bound = MAX_HALF_OPEN * ENTRY_BYTES + table_bytes
    check(SANITIZED or most - before < bound, f'RSS grew by {most - before} bytes, less than {bound} expected')
    check((stats['tcp']['SyncookiesSent'] > 0) == ('tcp_syncookies = 0' not in config), 'cookies were sent, or not')
    neighbours = {n['address']: n for n in d.call('neigh.list')['neighbours']}
    check(len(neighbours) <= NEIGH_MAX, f'{len(neighbours)} neighbours')
    for address in (HOST4, FAKE4):
        check(address in neighbours and neighbours[address]['mac'], f'{address} was pushed out: {neighbours.get(address)}')
    with tcp() as s:
        s.sendall(b'afterwards')
        equal(read_exactly(s, 10), b'afterwards', 'echo')
    return d, neighbours


def test_off_link(net):
    """100,000 SYNs a second from behind the router. runs alone, limit: 120 s"""
    _, neighbours = flood(net, '172.16.0.0/12')
    equal(len(neighbours), 2 + len(NEW_NEIGHBOURS), 'neighbours')


def test_without_cookies(net):
    """tcp_syncookies = 0: the last quarter of the queue is for peers that are known from before.
    runs alone, limit: 120 s"""
    d, _ = flood(net, '172.16.0.0/12', config='tcp_syncookies = 0\n')
    check(d.stats()['tcp_drops']['PEER_NOT_PROVEN'] > 0, 'strangers were turned away')


def test_on_link(net):
    """The same from the link, where each source costs an ARP request. runs alone, limit: 120 s"""
    _, neighbours = flood(net, '10.80.0.0/16', NEIGH_MAX * NEIGH_BYTES)
    check(len(neighbours) > NEIGH_MAX // 2, f'the sources were on the link: {len(neighbours)} neighbours')


def test_entries_go(net):
    """Half-open entries of a flood are gone after synack_retries; nothing leaks. limit: 120 s"""
    d, _ = flood(net, '172.16.0.0/12', config='tcp_synack_retries = 1\n')
    wait_for(lambda: d.call('server.status')['totals']['half_open'] == 0, 15, 'no half-open entries')
