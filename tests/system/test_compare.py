"""
The instruments of tests/system/compare: the link model that they stand on, frame by frame, and short runs of the comparison
itself. Here frames are put into one TAP of the link by hand and read from the other.
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time

from harness import ACK, BUILD, FULL, SANITIZED, Failure, Skip, check, equal, inet_sum, sh, sysctl

LINK = os.path.join(BUILD, 'tests/system/link')
COMPARE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'compare')
A, B = bytes.fromhex('02000000000a'), bytes.fromhex('02000000000b')
DATA = 1000
FRAME = 14 + 40 + DATA
SO_RCVBUFFORCE = 33


class Link:
    """A link between the TAPs a0 and b0, and a socket on each."""

    def __init__(self, net, forward, reverse='delay=0', *options):
        self.process = net.start('link', LINK, '--port', 'a0', '--port', 'b0', '--forward', forward, '--reverse', reverse, *options)
        self.process.wait_output('ready')
        self.a, self.b = self.open('a0'), self.open('b0')

    @staticmethod
    def open(name):
        sysctl(f'net.ipv6.conf.{name}.disable_ipv6', 1)
        sh('ip', 'link', 'set', name, 'txqueuelen', '10000', 'up')
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        s.bind((name, 0x0800))
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        return s

    def arrivals(self, quiet=0.3):
        """(time, frame) of all that comes out at b0, until nothing has come for a while."""
        got = []
        self.b.settimeout(quiet)
        try:
            while True:
                frame, where = self.b.recvfrom(4096)
                if where[2] != socket.PACKET_OUTGOING:
                    got.append((time.monotonic(), frame))
        except TimeoutError:
            return got

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        equal(self.process.wait(5), 0, 'exit status of the link')
        self.a.close()
        self.b.close()
        return json.loads(self.process.output().splitlines()[-1])


def segment(seq, size=DATA, tos=0, port=9):
    ip = bytearray(struct.pack('!BBHHHBBH4s4s', 0x45, tos, 40 + size, 0, 0x4000, 64, 6, 0, b'\x0a\0\0\1', b'\x0a\0\0\2'))
    ip[10:12] = struct.pack('!H', inet_sum(bytes(ip)))
    return B + A + b'\x08\0' + bytes(ip) + struct.pack('!HHIIBBHHH', 1000, port, seq, 1, 0x50, ACK, 1000, 0, 0) + b'd' * size


def seq_of(frame):
    return struct.unpack('!I', frame[38:42])[0]


def size_of(frame):
    return struct.unpack('!H', frame[16:18])[0] - 40


def passed(net, forward, between):
    """Which of 1,000 segments come through; `between`: small ones sent after each."""
    link = Link(net, forward)
    small = 0
    for i in range(1000):
        link.a.send(segment(i * DATA))
        for _ in range(between):
            link.a.send(segment(5000000, 20))
    got = [f for _, f in link.arrivals()]
    small = sum(size_of(f) == 20 for f in got)
    report = link.end()
    equal(small, 1000 * between, 'small segments that came through')
    numbers = [seq_of(f) // DATA for f in got if size_of(f) == DATA]
    equal(len(numbers) + report['forward']['drops']['loss'], 1000, 'came through or counted as lost')
    return numbers


def test_link_drops_by_number(net):
    """The same seed drops the same data segments, whatever is sent between them; another seed drops others."""
    first = passed(net, 'loss=0.1,seed=5', 0)
    check(840 <= len(first) <= 940, f'{len(first)} of 1000 came through 10 % loss')
    equal(passed(net, 'loss=0.1,seed=5', 2), first, 'with small segments between')
    check(passed(net, 'loss=0.1,seed=6', 0) != first, 'another seed drops the same')


def test_link_rate_and_delay(net):
    """100 frames at once through 10 Mbit/s and 20 ms: when each comes out. runs alone"""
    link = Link(net, 'rate=1e7,delay=20000')
    began = time.monotonic()
    for i in range(100):
        link.a.send(segment(i * DATA))
    times = [t - began for t, _ in link.arrivals()]
    late = link.end()['late_us']
    equal(len(times), 100, 'frames that came out')
    bit_times = [(i + 1) * FRAME * 8 / 1e7 + 0.02 for i in range(100)]
    early = [i for i in range(100) if times[i] < bit_times[i] - 0.0001]
    check(not early, f'frames {early[:5]} came out before their last bit and the delay: {[times[i] for i in early[:5]]}')
    check(times[-1] < bit_times[-1] + 0.05, f'the last came after {times[-1]:.4f} s instead of {bit_times[-1]:.4f}, late {late}')


def test_link_queue_and_marks(net):
    """A queue of ten frames takes ten of fifty; what finds more than five there is marked, its checksum right."""
    link = Link(net, f'rate=1e6,queue={10 * FRAME},mark={5 * FRAME}')
    for i in range(50):
        link.a.send(segment(i * DATA, tos=2))
    got = [f for _, f in link.arrivals()]
    report = link.end()['forward']
    check(10 <= len(got) <= 13, f'{len(got)} came through')  # one more for every 8.4 ms that sending took
    check(report['queue_max'] <= 10 * FRAME, f"the queue held {report['queue_max']} bytes")
    equal(report['drops']['queue'], 50 - len(got), 'dropped at the tail')
    marked = [f for f in got if f[15] & 3 == 3]
    equal(report['marked'], len(marked), 'marked')
    check(3 <= len(marked) <= len(got) - 5, f'{len(marked)} of {len(got)} marked')
    equal([inet_sum(f[14:34]) for f in got], [0] * len(got), 'IP checksums')


def test_link_spurious(net):
    """What was lost may come again; what came through and comes again is counted as spurious, exactly."""
    link = Link(net, 'loss=0.3,seed=3')
    for i in range(200):
        link.a.send(segment(i * DATA))
    there, expected = {seq_of(f) // DATA for _, f in link.arrivals()}, 0
    for _ in range(2):
        expected += len(there)
        for i in range(200):
            link.a.send(segment(i * DATA))
        there |= {seq_of(f) // DATA for _, f in link.arrivals()}
    flow = link.end()['flows'][0]
    equal((flow['data'], flow['retrans'], flow['spurious']), (600, 400, expected), 'segments, retransmissions, spurious ones')


def test_link_reorder_duplicate_corrupt_mtu(net):
    """The other impairments do what they say, and only to data."""
    link = Link(net, 'reorder=0.1,reorder_by=5000,duplicate=0.1,corrupt=0.1,mtu=1200,seed=9')
    for i in range(500):
        link.a.send(segment(i * DATA))
        time.sleep(0.0002)
    link.a.send(segment(0, 1300))
    got = [f for _, f in link.arrivals()]
    r = link.end()['forward']
    numbers = [seq_of(f) // DATA for f in got]
    equal(len(set(numbers)), 500, 'segments that came')
    equal(len(numbers) - 500, r['duplicated'], 'came twice')
    equal(sum(f[54:] != b'd' * DATA for f in got if numbers.count(seq_of(f) // DATA) == 1) <= r['corrupted'], True, 'corrupted')
    check(all(25 <= r[k] <= 85 for k in ('duplicated', 'corrupted', 'reordered')), f'{r}')
    check(sum(b < a for a, b in zip(numbers, numbers[1:])) > 10, 'few came late')
    equal(r['drops']['mtu'], 1, 'too long for the MTU')


def compare(net, *arguments, seconds):
    """One run of the script; its last lines if it fails."""
    if SANITIZED:
        raise Skip('figures of a sanitized build say nothing')
    r = subprocess.run([sys.executable, '-B', COMPARE, *arguments, '--build', BUILD, '--results', os.path.join(net.tmp, 'r.jsonl')],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False)
    out = r.stdout.decode(errors='replace')
    if r.returncode == 77:
        raise Skip(out.strip()[-200:])
    if r.returncode:
        raise Failure(out[-3000:])
    return out


def test_smoke(net):
    """Seconds of the comparison: 20 ms, 0.1 % loss, loose bounds; pacing at 10 Mbit/s. runs alone"""
    out = compare(net, 'smoke', seconds=55)
    net.say('; '.join(re.findall(r'\w+: ([\d.]+ Mbit/s)', out)[:2]))


def test_sample(net):
    """With --full: six cells of the comparison, with the verdict of all. runs alone, limit: 900 s"""
    if not FULL:
        raise Skip('only with --full')
    out = compare(net, '--sample', seconds=880)
    net.say(re.search(r'cubic: geometric mean [^)]*\)', out).group(0))


def test_fairness(net):
    """With --full: taut and the kernel share a bottleneck within 40:60. runs alone, limit: 400 s"""
    if not FULL:
        raise Skip('only with --full')
    out = compare(net, 'fairness', '--stacks', 'taut', seconds=390)
    net.say(out.strip().splitlines()[-1])


def test_pacing(net):
    """With --full: max_pacing_rate from 1 Mbit/s to 1 Gbit/s within 5 %. runs alone, limit: 200 s"""
    if not FULL:
        raise Skip('only with --full')
    out = compare(net, 'pacing', '--stacks', 'taut', seconds=190)
    net.say('; '.join(' '.join(m) for m in re.findall(r'at\s+([\d.]+ Mbit/s).*?(\([-+][\d.]+ %\))', out)))
