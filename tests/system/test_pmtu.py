"""Paths that carry less than the links at both ends: frames to the kernel that are too large vanish, without a word or
with ICMP's. Only taut has to find out; what the kernel sends passes whole."""
import re
import struct

from harness import Relay, check, equal, exchange, inet_sum, pattern, read_exactly, same_bytes, tcp

CHARGEN = 19
LINE = 74  # of RFC 864


class BlackHole(Relay):
    """Swallows frames to the kernel whose IP packet is larger than `mtu`; with `tell` a router says so (RFC 1191)."""

    def __init__(self, net, mtu, tell=False):
        super().__init__(net, 0)
        self.mtu, self.swallowed, self.tell = mtu, 0, tell

    def put(self, send, frame):
        if send == self.to_kernel and len(frame) > self.mtu + 14:
            self.swallowed += 1
            if self.tell:
                self.sock.send(self.frag_needed(frame))
            return
        super().put(send, frame)

    def frag_needed(self, frame):
        icmp = struct.pack('!BBHHH', 3, 4, 0, 0, self.mtu) + frame[14:14 + 28]
        icmp = icmp[:2] + struct.pack('!H', inet_sum(icmp)) + icmp[4:]
        ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0) + frame[30:34] + frame[26:30]
        ip = ip[:10] + struct.pack('!H', inet_sum(ip)) + ip[12:]
        return frame[6:12] + frame[0:6] + frame[12:14] + ip + icmp


def hole(net, mtu, text='', tell=False):
    d = net.tautd(f'[stack]\narp_announce = 0\n[services]\nchargen = {CHARGEN}\necho = 7\n[tcp]\n{text}',
                  offload=False, host4='169.254.7.7')
    return d, BlackHole(net, mtu, tell)


def shown(d, s, what):
    """A figure of that connection as `taut conn` shows it."""
    port = s.getsockname()[1]
    ident = next(c['id'] for c in d.conns() if str(c).count(str(port)))
    text = d.cli('conn', str(ident))
    m = re.search(r'\b%s (\d+)' % what, text)
    check(m, f'taut conn: {text}')
    return int(m.group(1))


def download(s, size):
    """From chargen; every byte in its place."""
    data = read_exactly(s, size)
    check(data[:LINE] == bytes(range(32, 104)) + b'\r\n', f'the first line: {data[:LINE]!r}')
    for i in range(0, size - LINE, LINE):
        check(data[i + LINE - 2:i + LINE] == b'\r\n', f'line {i // LINE} ends where it should')


def test_black_hole(net):
    """tcp_mtu_probing 1: a path of 1200 bytes is noticed by timeouts, then searched up to its size. limit: 90 s"""
    d, relay = hole(net, 1200, 'tcp_mtu_probing = 1\ntcp_retries1 = 1\n')
    with tcp(port=CHARGEN, timeout=60) as s:
        download(s, 4 << 20)
        mss = shown(d, s, 'mss')
    check(1200 - 52 - 8 <= mss <= 1200 - 52, f'mss {mss} is what 1200 bytes carry, but for tcp_probe_threshold')
    stats = d.stats()
    check(relay.swallowed > 3 and stats['tcp']['TCPMTUPSuccess'] > 0 and stats['tcp']['TCPMTUPFail'] > 0,
          f'probes arrived and were lost: {stats["tcp"]}')
    net.say(f'{relay.swallowed} frames swallowed, mss {mss}')


def test_black_hole_smaller_than_base(net):
    """A path of 600 bytes: segments are halved until they pass. limit: 90 s"""
    d, relay = hole(net, 600, 'tcp_mtu_probing = 1\ntcp_retries1 = 1\n')
    with tcp(port=CHARGEN, timeout=60) as s:
        download(s, 1 << 20)
        mss = shown(d, s, 'mss')
    check(600 - 52 - 8 <= mss <= 600 - 52, f'mss {mss} is what 600 bytes carry, but for tcp_probe_threshold')
    net.say(f'{relay.swallowed} frames swallowed, mss {mss}')


def test_probing_always(net):
    """tcp_mtu_probing 2. As on Linux a passive open begins with what the path is said to take, until the peer's window
    grows: the first timeouts are a black hole's. limit: 90 s"""
    d, relay = hole(net, 1300, 'tcp_mtu_probing = 2\ntcp_early_retrans = 0\n')
    with tcp(port=CHARGEN, timeout=60) as s:
        download(s, 4 << 20)
        mss = shown(d, s, 'mss')
    stats = d.stats()['tcp']
    check(1300 - 52 - 8 <= mss <= 1300 - 52, f'mss {mss} is what 1300 bytes carry, but for tcp_probe_threshold')
    net.say(f'{relay.swallowed} frames swallowed, {stats["TCPMTUPFail"]} probes lost, {stats["TCPTimeouts"]} timeouts, '
            f'mss {mss}')


def test_told_by_a_router(net):
    """Fragmentation needed: no timeout, no search. Other connections to that host follow, new ones begin so."""
    d, relay = hole(net, 1200, tell=True)
    with tcp(port=7) as idle, tcp(port=CHARGEN) as s:
        equal(shown(d, idle, 'pmtu'), 1500, 'path MTU at first')
        download(s, 1 << 20)
        equal((shown(d, s, 'pmtu'), shown(d, s, 'mss')), (1200, 1148), 'path MTU and mss of the one that heard')
        swallowed = relay.swallowed
        check(0 < swallowed <= 20, f'{swallowed} frames swallowed: one window')
        data = pattern(100000)
        with tcp(port=7) as new:
            same_bytes(exchange(new, data, half_close=False), data, 'echo on a new connection')
            equal(shown(d, new, 'mss'), 1148, 'mss of a new connection')
        same_bytes(exchange(idle, data, half_close=False), data, 'echo on the idle one')
        equal(shown(d, idle, 'mss'), 1148, 'mss of the idle one')
        equal(relay.swallowed, swallowed, 'frames swallowed: no more')
    equal(d.stats()['tcp']['TCPTimeouts'], 0, 'timeouts')
