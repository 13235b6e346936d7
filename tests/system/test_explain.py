"""Twelve stalls, provoked against the kernel, and what `taut explain` calls each."""
import json
import os
import socket
import struct
import threading
import time

from harness import (ACK, FAKE4, HOST4, STACK4, TAUT, Control, RawPeer, Relay, SYN, check, equal, read_exactly, sh, tcp,
                     wait_for)

CHARGEN = 19


def explain(d, what):
    return json.loads(d.cli('explain', what, '--json'))


def ident(d, s):
    """The connection whose peer is this socket of the kernel."""
    port = s.getsockname()[1]
    return next(c['id'] for c in d.conns() if c['peer'].endswith(f':{port}'))


def fill(s):
    """Writes until nothing goes any more; how much went."""
    s.setblocking(False)
    n, quiet = 0, 0
    while quiet < 25:
        try:
            n += s.send(b'x' * 65536)
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.02)
    return n


def drain(s):
    def loop():
        try:
            while s.recv(1 << 20):
                pass
        except OSError:
            pass
    threading.Thread(target=loop, daemon=True).start()
    return s


def expect(d, stalls):
    """{name: (what to explain, verdict, words of the sentence)}: all of them are tried before the first failure is told."""
    wrong = []
    for name, (what, verdict, words) in stalls.items():
        x = explain(d, what)
        shares = ', '.join(f'{s["name"]} {s["percent"]:.0f} %' for s in x['shares'])
        if x['verdict'] != verdict or not all(w in x['why'] for w in words):
            wrong.append(f'{name}: {x["verdict"]} ({x["why"]}) [{shares}], expected {verdict} {words}')
        if x['shares']:
            total = sum(s['percent'] for s in x['shares'])
            if abs(total - 100) > 0.5:
                wrong.append(f'{name}: shares add up to {total}')
    check(not wrong, '\n'.join(wrong))


def connecting(d, address):
    """A tcp.connect under way; its control connection, and the connection's id."""
    c = Control(d.dir)
    c.send('tcp.connect', {'address': address, 'port': 80})
    row = wait_for(lambda: [r for r in d.conns() if r['peer'].startswith(address + ':')], 2, 'the connection', 0.002)[0]
    return c, row['id']


def test_ends(net):
    """Programs, peers, backends, neighbours: who does not read, write, accept or answer."""
    stop = threading.Event()
    backend = net.serve(lambda s: stop.wait(30))
    d = net.tautd(f'[services]\nchargen = {CHARGEN}\necho = 7\n[forward web]\nlisten = 8000\nto = tcp:127.0.0.1:{backend.port}\n'
                  '[tcp]\ntcp_syncookies = 0\n')
    _, lazy = d.control.call_fd('tcp.listen', port=7001)
    _, full = d.control.call_fd('tcp.listen', port=7002, backlog=3)
    peer = RawPeer(FAKE4)
    peer.announce()
    open_calls = [connecting(d, FAKE4), connecting(d, '10.77.0.88')]
    unread, quiet, closed, paced, web = tcp(port=7001), tcp(port=7), tcp(port=CHARGEN), tcp(port=CHARGEN), tcp(port=8000)
    peer.send_tcp(41000, 7002, 1000, 0, SYN)
    synack = peer.segments(3, 41000, len)[0]
    waiting = []
    for _ in range(12):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((STACK4, 7002))
        waiting.append(s)
    quiet.sendall(b'hello')
    equal(read_exactly(quiet, 5), b'hello', 'echo')
    d.call('conn.set', id=ident(d, paced), option='max_pacing_rate', value=200000)
    drain(paced)
    for s in (unread, web):
        threading.Thread(target=fill, args=(s,), daemon=True).start()
    peer.frames(2.2)  # ARP is answered
    peer.send_tcp(41000, 7002, 1001, synack.seq + 1, ACK)
    wait_for(lambda: d.stats()['tcp_drops'].get('LISTEN_BACKLOG', 0) > 0, 2, 'the completing ACK is dropped')
    half = [r['id'] for r in d.conns() if r['peer'] == f'{FAKE4}:41000']
    check(half, f'half-open entries: {[(r["local"], r["state"]) for r in d.conns()]}')
    expect(d, {
        'program does not read': (ident(d, unread), 'PROGRAM_READ', ['Our receive window was closed', 'the program', 'unread']),
        'program does not write': (ident(d, quiet), 'PROGRAM_WRITE', ['writes nothing']),
        'window of the peer closed': (ident(d, closed), 'PEER_WINDOW', ['window was closed', 'its program reads slowly']),
        'pacing limit': (ident(d, paced), 'PACING', ['1.6 Mbit/s', 'SO_MAX_PACING_RATE']),
        'neighbour does not answer': (open_calls[1][1], 'NEIGHBOUR', ['does not answer ARP']),
        'SYN unanswered': (open_calls[0][1], 'SYN_UNANSWERED', ['2 SYNs']),
        'accept queue full, listener': (':7002', 'ACCEPT_QUEUE', ['its backlog is 3']),
        'accept queue full, half-open entry': (half[0], 'ACCEPT_QUEUE', ['accept queue is full']),
        'backend stalled': (ident(d, web), 'BACKEND', ['the backend behind forward web', 'unread']),
    })
    limits = {c['id']: c['limit'] for c in d.conns()}
    equal([limits[ident(d, s)] for s in (quiet, closed, paced)], ['NOTHING', 'RWND', 'PACING'], 'limit in conn.list')
    text = d.cli('explain', ident(d, closed))
    check(text.startswith('PEER_WINDOW: ') and 'What would help: ' in text and 'Where ' in text and 'longest' in text, text)
    equal(sh(TAUT, '-S', d.dir, 'explain', ':9999', check_status=False)[0], 1, 'exit status for a port without listener')
    stop.set()
    for c, _ in open_calls:
        c.close()
    lazy.close()
    full.close()


class Path(Relay):
    """A wire of 40 ms that may treat each port of the kernel's side in its own way."""

    def __init__(self, net):
        super().__init__(net, 0)
        self.dead, self.narrow, self.lossy, self.n = set(), set(), set(), 0

    def put(self, send, frame):
        if frame[12:14] == b'\x08\x00' and frame[23] == 6:
            ports = struct.unpack('!HH', frame[34:38])
            if self.dead.intersection(ports) or (self.narrow.intersection(ports) and len(frame) > 614):
                return
            if self.lossy.intersection(ports) and len(frame) > 1000:
                self.n += 1
                if self.n % 100 == 0:
                    return
        self.queue.append((time.monotonic() + 0.02, send, frame))


def test_paths(net):
    """Congestion window, send buffer, a dead path, one that swallows large packets; the dump of a stall. limit: 40 s"""
    folder = os.path.join(net.tmp, 'records')
    os.mkdir(folder)
    d = net.tautd(f'[stack]\narp_announce = 0\n[services]\nchargen = {CHARGEN}\necho = 7\n[trace]\ndirectory = {folder}\n',
                  offload=False, host4='169.254.7.7')
    path = Path(net)

    def connected(port, kind):
        s = socket.socket()
        s.bind((HOST4, 0))
        s.settimeout(10)
        kind.add(s.getsockname()[1])
        s.connect((STACK4, port))
        return s
    lossy, dead, narrow, small = (connected(CHARGEN, path.lossy), connected(CHARGEN, set()), connected(CHARGEN, path.narrow),
                                  connected(CHARGEN, set()))
    wait_for(lambda: all(r['state'] == 'ESTABLISHED' and r['owner'] == 'chargen' for r in d.conns()), 3, f'accepted: {d.conns()}')
    d.call('conn.set', id=ident(d, small), option='sndbuf', value=4096)
    for s in (lossy, dead, small):
        drain(s)
    time.sleep(0.4)
    path.dead.add(dead.getsockname()[1])
    wait_for(lambda: os.listdir(folder), 8, 'the record of a stall while the connection lives')
    expect(d, {
        'congestion window': (ident(d, lossy), 'CWND', ['congestion window held bytes back', 'losses found']),
        'send buffer': (ident(d, small), 'SNDBUF', ['send buffer is too small']),
        'path black-holed': (ident(d, dead), 'PATH_BLACK_HOLE', ['timeouts in a row without any answer']),
        'path-MTU black hole': (ident(d, narrow), 'MTU_BLACK_HOLE', ['1448 bytes', 'largest that was ever acknowledged has 0']),
    })
    x = json.loads(sh(TAUT, 'explain', os.path.join(folder, sorted(os.listdir(folder))[0]), '--json'))
    check(x['verdict'] in ('PATH_BLACK_HOLE', 'MTU_BLACK_HOLE'), f'from the file: {x}')
    bad = os.path.join(net.tmp, 'cut')
    with open(os.path.join(folder, sorted(os.listdir(folder))[0]), 'rb') as f, open(bad, 'wb') as g:
        g.write(f.read()[:-5])
    status, _, err = sh(TAUT, 'explain', bad, check_status=False)
    check(status == 1 and 'cut off' in err, f'a file that is cut off: {status} {err}')
    equal(d.call('server.status')['totals']['established'], 4, 'all connections live')
    for s in (lossy, small):
        s.close()
