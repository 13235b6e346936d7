"""
Handshakes with the real kernel, in both directions: Fast Open, SYN cookies, subsets of the options, lost SYNs, SYN-ACKs
and ACKs, accept queues that overflow. What happened is read from both sides: captures, the kernel's counters, taut's.
"""
import itertools
import json
import os
import socket
import struct
import threading
import time

from harness import (ACK, HOST4, HOST6, RST, STACK4, STACK6, SYN, Control, RawPeer, Relay, check, equal, exchange, pattern, read_all,
                     read_exactly, same_bytes, sh, sysctl, tcp, wait_for)

FASTOPEN = 'tcp_fastopen = 1027\n'  # client, server, all listeners
MSG_FASTOPEN, TCP_FASTOPEN, TCP_INFO = 0x20000000, 23, 11
OPT_TIMESTAMPS, OPT_SACK, OPT_WSCALE = 1, 2, 4


def nstat():
    """The counters of the kernel in this namespace."""
    with open('/proc/net/netstat', encoding='ascii') as f:
        lines = f.read().splitlines()
    out = {}
    for names, values in zip(lines[::2], lines[1::2]):
        out.update(zip(names.split()[1:], map(int, values.split()[1:])))
    return out


class Grown:
    """How much each counter grew; a counter that does not exist is an error."""

    def __init__(self, read):
        self.read, self.before = read, read()

    def __getitem__(self, name):
        return self.read()[name] - self.before[name]


def kernel_info(s):
    """(options, snd_wscale, rcv_wscale) of a socket of the kernel"""
    info = s.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 104)
    return info[5] & 7, info[6] & 15, info[6] >> 4


def taut_conn(d, **match):
    rows = [r for r in d.conns() if all(r[k] == v for k, v in match.items())]
    equal(len(rows), 1, f'connections with {match}')
    return d.call('conn.get', id=rows[0]['id'])


def syns(capture, ack=0):
    """[(source, bytes, cookie requested, cookie)] of SYNs or (ack 1) SYN-ACKs"""
    fields = ('ip.src', 'ipv6.src', 'tcp.len', 'tcp.options.tfo.request', 'tcp.options.tfo.cookie')
    rows = [line.split('\t') for line in capture.tshark(f'tcp.flags.syn == 1 and tcp.flags.ack == {ack}', fields)]
    return [(r[0] or r[1], int(r[2]), bool(r[3]), r[4]) for r in (r + [''] * 5 for r in rows)]


# ---- Fast Open -----------------------------------------------------------------------------------------------------------

def fastopen_client(address, data):
    """The kernel connects with data in its SYN where it can; what the echo service says."""
    with socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET) as s:
        sent = s.sendto(data, MSG_FASTOPEN, (address, 7))
        s.settimeout(20)
        return exchange(s, data[sent:])


def test_fastopen_server(net):
    """The kernel asks taut for a cookie, then uses it: its data is in the SYN; both families."""
    sysctl('net.ipv4.tcp_fastopen', 3)
    d = net.tautd(f'[tcp]\n{FASTOPEN}', v6=True)
    kernel, taut = Grown(nstat), Grown(lambda: d.stats()['tcp'])
    c = net.capture()
    for address in (STACK4, STACK6):
        for _ in range(3):
            equal(fastopen_client(address, b'first bytes'), b'first bytes', 'echo')
        data = pattern(200000)
        same_bytes(fastopen_client(address, data), data, 'more than a SYN takes')
    c.stop()
    for host in (HOST4, HOST6):
        seen = [x for x in syns(c) if x[0] == host]
        equal([x[1] > 0 for x in seen], [False, True, True, True], 'data in the SYNs')
        check(seen[0][2] and not seen[0][3], f'the first SYN asks for a cookie: {seen[0]}')
        check(seen[1][3] and len({x[3] for x in seen[1:]}) == 1, f'the others have it: {seen}')
    answers = syns(c, 1)
    equal([bool(x[3]) for x in answers], [True, False, False, False] * 2, 'SYN-ACKs that give a cookie')
    equal(taut['TCPFastOpenPassive'], 6, 'Fast Opens accepted by taut')
    equal(taut['TCPFastOpenCookieReqd'], 2, 'cookies asked for')
    equal(kernel['TCPFastOpenActive'], 6, 'Fast Opens the kernel saw succeed')
    equal(kernel['TCPFastOpenActiveFail'], 0, 'Fast Opens the kernel saw fail')
    c.assert_clean(zero_window=False, kernel_probes=True, probes_of=d)


def test_fastopen_server_refuses(net):
    """A cookie of an older key: an ordinary handshake, a new cookie, and Fast Open again."""
    sysctl('net.ipv4.tcp_fastopen', 3)
    d = net.tautd(f'[tcp]\n{FASTOPEN}')
    for _ in range(2):
        fastopen_client(STACK4, b'x')
    equal(d.stats()['tcp']['TCPFastOpenPassive'], 1, 'the cookie is good')
    equal(d.stop(), 0, 'exit status')
    d.expect_end = True
    d = net.tautd(f'[tcp]\n{FASTOPEN}')  # another secret, the same addresses
    kernel = Grown(nstat)
    equal(fastopen_client(STACK4, b'to another key'), b'to another key', 'echo')
    equal(d.stats()['tcp']['TCPFastOpenPassiveFail'], 1, 'the old cookie is refused')
    equal(kernel['TCPFastOpenActiveFail'], 1, 'the kernel sends its data again')
    equal(fastopen_client(STACK4, b'once more'), b'once more', 'echo')
    equal(d.stats()['tcp']['TCPFastOpenPassive'], 1, 'the new cookie is good')


def kernel_fastopen_server(net, handler, family=socket.AF_INET, host=HOST4):
    s = net.serve(handler, host, 0, family)
    s.sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    return s


def answer(s):
    s.sendall(b'got ' + read_all(s))


def ask_by_call(d, address, port, data):
    _, s = d.control.call_fd('tcp.connect', address=address, port=port, data=data)
    with s:
        s.shutdown(socket.SHUT_WR)
        return read_all(s)


def test_fastopen_client(net):
    """taut asks the kernel for a cookie, then its calls' data travels in the SYN; both families."""
    sysctl('net.ipv4.tcp_fastopen', 3)
    d = net.tautd(v6=True)  # tcp_fastopen = 1 by default
    servers = ((HOST4, STACK4, kernel_fastopen_server(net, answer)),
               (HOST6, STACK6, kernel_fastopen_server(net, answer, socket.AF_INET6, HOST6)))
    kernel, taut = Grown(nstat), Grown(lambda: d.stats()['tcp'])
    c = net.capture()
    for host, _, server in servers:
        for _ in range(3):
            equal(ask_by_call(d, host, server.port, 'first bytes'), b'got first bytes', 'answer')
        data = ''.join(chr(33 + i % 90) for i in range(16000))
        same_bytes(ask_by_call(d, host, server.port, data), b'got ' + data.encode(), 'more than a SYN takes')
        out = d.cli('connect', '-f', host, server.port, stdin=b'by the command')
        equal(out, 'got by the command', 'taut connect -f')
        out = d.cli('connect', '-f', host, server.port, stdin=b'no\0text\xff')
        equal(out.encode(errors='replace')[:10], b'got no\0tex', 'bytes that are no text: without Fast Open')
    c.stop()
    for _, stack, _ in servers:
        seen = [x for x in syns(c) if x[0] == stack]
        equal([x[1] > 0 for x in seen], [False, True, True, True, True, False], 'data in the SYNs')
        check(seen[0][2] and not seen[0][3], f'the first SYN asks for a cookie: {seen[0]}')
        check(seen[1][3] and len({x[3] for x in seen[1:5]}) == 1, f'the others have it: {seen}')
    equal(kernel['TCPFastOpenPassive'], 8, 'Fast Opens accepted by the kernel')
    equal(kernel['TCPFastOpenPassiveFail'], 0, 'cookies refused')
    equal(taut['TCPFastOpenActive'], 8, 'Fast Opens that taut saw succeed')
    equal(taut['TCPFastOpenActiveFail'], 0, 'Fast Opens that taut saw fail')
    c.assert_clean(zero_window=False, kernel_probes=True)
    rows = {r['address']: r for r in d.call('metrics.list')['metrics']}
    for host, _, _ in servers:
        check(rows[host]['fastopen_cookie'], f'the cookie is in the metrics: {rows}')


def test_fastopen_client_falls_back(net):
    """Servers without Fast Open, and cookies that went stale; the data arrives once, whole."""
    sysctl('net.ipv4.tcp_fastopen', 3)
    d = net.tautd()
    plain = net.serve(answer, HOST4)
    for i in range(4):  # RFC 7413's option, the experimental one, none
        equal(ask_by_call(d, HOST4, plain.port, f'call {i}'), b'got call %d' % i, 'a server without Fast Open')
    d.call('metrics.flush')
    server = kernel_fastopen_server(net, answer)
    for _ in range(2):
        equal(ask_by_call(d, HOST4, server.port, 'x'), b'got x', 'answer')
    equal(d.stats()['tcp']['TCPFastOpenActive'], 1, 'the cookie is good')
    for _ in range(2):  # a key has one predecessor that is still good
        sysctl('net.ipv4.tcp_fastopen_key', '-'.join(os.urandom(4).hex() for _ in range(4)))
    equal(ask_by_call(d, HOST4, server.port, 'with an old cookie'), b'got with an old cookie', 'answer')
    equal(d.stats()['tcp']['TCPFastOpenActiveFail'], 1, 'the old cookie is refused')
    equal(ask_by_call(d, HOST4, server.port, 'with the new one'), b'got with the new one', 'answer')
    equal(d.stats()['tcp']['TCPFastOpenActive'], 2, 'the new cookie is good')
    d.call('config.set', name='tcp.tcp_fastopen', value=0)
    equal(ask_by_call(d, HOST4, server.port, 'switched off'), b'got switched off', 'answer')
    equal(d.stats()['tcp']['TCPFastOpenActive'], 2, 'no Fast Open when it is switched off')


def test_metrics(net):
    """taut metrics shows what connections learnt; flush forgets it."""
    d = net.tautd(f'[tcp]\n{FASTOPEN}')
    with tcp() as s:
        data = pattern(300000)
        same_bytes(exchange(s, data), data, 'echo')
    row = wait_for(lambda: d.call('metrics.list')['metrics'], 5, 'an entry')[0]
    equal((row['address'], row['source']), (HOST4, STACK4), 'between whom')
    check(0 < row['rtt_us'] < 1000000 and row['cwnd'] >= 10, f'learnt something: {row}')
    check(HOST4 in d.cli('metrics') and 'CWND' in d.cli('metrics'), d.cli('metrics'))
    check(HOST4 in d.cli('metrics', HOST4, '--json'), 'one of them, as JSON')
    check(HOST4 not in d.cli('metrics', '10.77.0.50'), 'not of others')
    equal(d.cli('metrics', 'flush', '10.77.0.50'), '0 forgotten\n', 'flush of another')
    equal(d.cli('metrics', 'flush'), '1 forgotten\n', 'flush')
    check(HOST4 not in d.cli('metrics'), 'it is forgotten')


# ---- Options and cookies -----------------------------------------------------------------------------------------------

NAMES = ('timestamps', 'sack', 'window_scaling')
BITS = {'timestamps': OPT_TIMESTAMPS, 'sack': OPT_SACK, 'window_scaling': OPT_WSCALE}
WORDS = {'timestamps': OPT_TIMESTAMPS, 'sack': OPT_SACK, 'wscale': OPT_WSCALE}


def set_options(d, kernel, taut):
    for name in NAMES:
        sysctl(f'net.ipv4.tcp_{name}', int(name in kernel))
        d.call('config.set', name=f'tcp.tcp_{name}', value=int(name in taut))


def subsets():
    return [set(c) for n in range(4) for c in itertools.combinations(NAMES, n)]


def agreed(kernel, taut, cookies):
    """A cookie without timestamps has no room for SACK and window scaling."""
    both = kernel & taut
    return sum(BITS[n] for n in both) if not cookies or 'timestamps' in both else 0


def same_view(d, s, info, expected, what):
    """Both ends believe in the same options."""
    options, snd_wscale, rcv_wscale = kernel_info(s)
    equal(sum(WORDS.get(w, 0) for w in info['options']), expected, f'{what}: options that taut sees')
    equal(options, expected, f'{what}: options that the kernel sees')
    if expected & OPT_WSCALE:
        equal((info['snd_wscale'], info['rcv_wscale']), (rcv_wscale, snd_wscale), f'{what}: window scales')


def one_each_way(d, server, kept, expected, what):
    """A connection to taut's echo service and one to the kernel's server, with a window's worth of data."""
    data = pattern(100000)
    with tcp() as s:
        s.sendall(b'x')
        read_exactly(s, 1)
        same_view(d, s, taut_conn(d, peer='%s:%d' % s.getsockname()), expected, f'to taut, {what}')
        same_bytes(exchange(s, data), data, f'to taut, {what}')
    result, s = d.control.call_fd('tcp.connect', address=HOST4, port=server.port)
    with s:
        s.sendall(b'x')
        read_exactly(s, 1)
        same_view(d, kept[-1], d.call('conn.get', id=result['id']), expected, f'to the kernel, {what}')
        same_bytes(exchange(s, data), data, f'to the kernel, {what}')


def every_subset(net, cookies):
    d = net.tautd(f'[tcp]\ntcp_syncookies = {2 if cookies else 1}\n')
    sysctl('net.ipv4.tcp_syncookies', 2 if cookies else 1)
    kept = []

    def echo(s):
        kept.append(s)
        while True:
            data = s.recv(1 << 16)
            if not data:
                return
            s.sendall(data)
    server = net.serve(echo, HOST4)
    kernel, taut = Grown(nstat), Grown(lambda: d.stats()['tcp'])
    pairs = [(k, t) for k in subsets() for t in subsets()]
    for k, t in pairs:
        set_options(d, k, t)
        one_each_way(d, server, kept, agreed(k, t, cookies), f'kernel {sorted(k)}, taut {sorted(t)}')
    n = len(pairs) if cookies else 0
    equal((taut['SyncookiesSent'], taut['SyncookiesRecv'], taut['SyncookiesFailed']), (n, n, 0), 'cookies of taut')
    equal((kernel['SyncookiesSent'], kernel['SyncookiesRecv'], kernel['SyncookiesFailed']), (n, n, 0), 'of the kernel')
    net.say(f'{2 * len(pairs)} connections')


def test_options(net):
    """Each subset of timestamps, SACK and window scaling on each side, both directions. limit: 120 s"""
    every_subset(net, False)


def test_cookies(net):
    """The same with SYN cookies forced on both sides. limit: 120 s"""
    every_subset(net, True)


def test_cookies_fastopen(net):
    """Fast Open and forced cookies at once: the data arrives, one way or the other; IPv6 too."""
    sysctl('net.ipv4.tcp_fastopen', 3)
    sysctl('net.ipv4.tcp_syncookies', 2)
    d = net.tautd(f'[tcp]\n{FASTOPEN}tcp_syncookies = 2\n', v6=True)
    for host, stack, family in ((HOST4, STACK4, socket.AF_INET), (HOST6, STACK6, socket.AF_INET6)):
        server = kernel_fastopen_server(net, answer, family, host)
        for _ in range(3):
            equal(fastopen_client(stack, b'first'), b'first', f'echo, {stack}')
            equal(ask_by_call(d, host, server.port, 'first'), b'got first', f'answer, {host}')
    check(d.stats()['tcp']['SyncookiesRecv'] > 0, 'cookies were used')


# ---- Loss --------------------------------------------------------------------------------------------------------------

class HandshakeRelay(Relay):
    """Loses chosen segments of each handshake: lose(kind, direction, number), kind 'SYN', 'SYN-ACK' or 'ACK' (the first
    pure ACK), number: how many of the kind this connection has sent that way, from 0."""

    def __init__(self, net, lose):
        super().__init__(net, 0)
        self.lose, self.seen, self.dropped = lose, {}, {'SYN': 0, 'SYN-ACK': 0, 'ACK': 0}

    def put(self, send, frame):
        if frame[12:14] == b'\x08\x00' and frame[23] == 6:
            t = frame[14 + (frame[14] & 15) * 4:]
            flags, length = t[13] & 0x17, struct.unpack('!H', frame[16:18])[0] - (frame[14] & 15) * 4 - (t[12] >> 4) * 4
            kind = {SYN: 'SYN', SYN | ACK: 'SYN-ACK'}.get(flags, 'ACK' if flags == ACK and length == 0 else None)
            if kind:
                key = (kind, frame[26:34], t[:4])
                number = self.seen[key] = self.seen.get(key, -1) + 1
                if self.lose(kind, 'out' if frame[26:30] == socket.inet_aton(STACK4) else 'in', number):
                    self.dropped[kind] += 1
                    return
        super().put(send, frame)


def lossy_net(net, lose, text=''):
    d = net.tautd(f'[stack]\narp_announce = 0\n[tcp]\n{FASTOPEN}{text}', offload=False, host4='169.254.7.7')
    return d, HandshakeRelay(net, lose)


def at_once(*jobs):
    """Runs the functions on threads; their results."""
    results = [None] * len(jobs)

    def run(i):
        try:
            results[i] = jobs[i]()
        except Exception as e:
            results[i] = e
    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(jobs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(50)
    for r in results:
        if isinstance(r, Exception):
            raise r
    return results


def through_taut(data):
    """An echo through taut's service; (seconds to connect, options that the kernel sees, what came back)"""
    began = time.monotonic()
    with tcp(timeout=30) as s:
        seconds = time.monotonic() - began
        return seconds, kernel_info(s)[0], exchange(s, data)


def through_kernel(d, server, data):
    """The same from taut to a server of the kernel; conn.get right after the handshake too"""
    control = Control(d.dir, timeout=30)
    began = time.monotonic()
    result, s = control.call_fd('tcp.connect', address=HOST4, port=server.port)
    seconds = time.monotonic() - began
    with s:
        s.settimeout(30)
        info = control.call('conn.get', id=result['id'])
        return seconds, info, exchange(s, data)


def lost_handshake(net, kind, times, seconds):
    """The first `times` segments of a kind are lost in each handshake, both ways; connects take this long."""
    d, relay = lossy_net(net, lambda k, way, number: k == kind and number < times)
    server = net.serve(lambda s: s.sendall(read_all(s)), HOST4)
    data = pattern(50000)
    to_taut, to_kernel = at_once(lambda: through_taut(data), lambda: through_kernel(d, server, data))
    same_bytes(to_taut[2], data, f'to taut, {kind} lost')
    same_bytes(to_kernel[2], data, f'to the kernel, {kind} lost')
    if kind == 'ACK':  # the server's first one too
        check(relay.dropped[kind] >= 2 * times, f'segments lost: {relay.dropped}')
    else:
        equal(relay.dropped[kind], 2 * times, 'segments lost')
    for which, took in (('taut', to_taut[0]), ('the kernel', to_kernel[0])):
        check(seconds - 0.1 < took < seconds + 1.5, f'connect to {which} took {took:.2f} s, {seconds} expected')
    equal(to_taut[1], 7, 'options in spite of the loss')
    return d, to_kernel[1]


def test_syn_lost(net):
    """One SYN lost each way: a second; cwnd stays 10."""
    _, info = lost_handshake(net, 'SYN', 1, 1)
    equal(info['snd_cwnd'], 10, 'initial window after one lost SYN')
    equal(info['total_retrans'], 1, 'SYNs sent again')


def test_syn_lost_twice(net):
    """Two SYNs lost each way: cwnd begins with 1 (RFC 6298 section 5.7, RFC 5681 section 3.1)."""
    kernel_linear = int(sh('sysctl', '-n', 'net.ipv4.tcp_syn_linear_timeouts').strip() or 0)
    sysctl('net.ipv4.tcp_syn_linear_timeouts', 0)
    _, info = lost_handshake(net, 'SYN', 2, 3)
    sysctl('net.ipv4.tcp_syn_linear_timeouts', kernel_linear)
    equal(info['snd_cwnd'], 1, 'initial window after two lost SYNs')


def test_synack_lost(net):
    """One SYN-ACK lost each way."""
    d, info = lost_handshake(net, 'SYN-ACK', 1, 1)
    equal(info['snd_cwnd'], 10, 'initial window after one lost SYN-ACK')
    check(d.stats()['tcp_causes']['SYNACK_RETRANS'] >= 1, 'taut sent its SYN-ACK again')


def test_ack_lost(net):
    """The handshake's ACK lost each way: the data behind it completes the handshake at once."""
    lost_handshake(net, 'ACK', 1, 0)


def test_ack_lost_silence(net):
    """The handshake's ACK is lost and nothing follows: the SYN-ACK comes again, and the server is the first to talk."""
    d, relay = lossy_net(net, lambda k, way, number: k == 'ACK' and number < 1)
    with tcp(port=19, timeout=20) as s:  # character generator
        check(read_exactly(s, 1000).startswith(b' !"#'), 'what chargen says')
    _, s = d.control.call_fd('tcp.connect', address=HOST4, port=net.serve(lambda s: s.sendall(b'hello'), HOST4).port)
    with s:
        equal(read_all(s), b'hello', 'what the kernel\'s server says')
    check(relay.dropped['ACK'] >= 2, 'ACKs lost')


def test_fastopen_lost(net):
    """The SYN with data, then its SYN-ACK, lost each way: the data is sent again and arrives once."""
    sysctl('net.ipv4.tcp_fastopen', 3)
    losing = {'kind': None}
    d, relay = lossy_net(net, lambda k, way, number: k == losing['kind'] and number < 1)
    server = kernel_fastopen_server(net, answer)
    fastopen_client(STACK4, b'x')
    ask_by_call(d, HOST4, server.port, 'x')
    for kind in ('SYN', 'SYN-ACK'):
        losing['kind'] = kind
        to_taut, to_kernel = at_once(lambda: fastopen_client(STACK4, b'lost at first'),
                                     lambda: ask_by_call(d, HOST4, server.port, 'lost at first'))
        equal(to_taut, b'lost at first', f'echo, {kind} lost')
        equal(to_kernel, b'got lost at first', f'answer, {kind} lost')
    equal(relay.dropped, {'SYN': 2, 'SYN-ACK': 2, 'ACK': 0}, 'what was lost')


def test_cookies_lost(net):
    """Cookies forced, SYN-ACKs lost: nothing is kept, so the SYN must come again; then it works. Lost ACKs too."""
    sysctl('net.ipv4.tcp_syncookies', 2)
    d, relay = lossy_net(net, lambda k, way, number: k in ('SYN-ACK', 'ACK') and number < 1, 'tcp_syncookies = 2\n')
    server = net.serve(lambda s: s.sendall(read_all(s)), HOST4)
    data = pattern(50000)
    to_taut, to_kernel = at_once(lambda: through_taut(data), lambda: through_kernel(d, server, data))
    same_bytes(to_taut[2], data, 'to taut')
    same_bytes(to_kernel[2], data, 'to the kernel')
    check(relay.dropped['SYN-ACK'] == 2 and relay.dropped['ACK'] >= 2, f'lost: {relay.dropped}')


# ---- Full accept queues ------------------------------------------------------------------------------------------------

def accept_program(listener):
    message, fds, _, _ = socket.recv_fds(listener, 4096, 1)
    check(fds, f'a descriptor comes with {message}')
    return json.loads(message), socket.socket(fileno=fds[0])


def many_clients(n, port):
    socks = []
    for i in range(n):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((STACK4, port))
        socks.append(s)
    return socks


def test_accept_overflow(net):
    """A program of taut's that does not accept: ACKs are ignored, entries kept; when it accepts all come in, whole."""
    d = net.tautd('[tcp]\ntcp_syncookies = 0\n')
    _, listener = d.control.call_fd('tcp.listen', port=9000, backlog=8)
    socks = many_clients(40, 9000)
    time.sleep(0.6)
    stats = d.stats()['tcp']
    check(stats['ListenOverflows'] + stats['ListenDrops'] > 0, f'the queue overflowed: {stats}')
    equal(stats['OutRsts'], 0, 'RSTs')
    row = [x for x in d.call('server.status')['listeners'] if x['address'].endswith(':9000')][0]
    check(row['accept_queue'] <= 9 and row['half_open'] <= 8, f'queues within the backlog: {row}')
    listener.settimeout(20)
    names = {}
    for _ in socks:
        told, s = accept_program(listener)
        names[told['peer']] = s
    for i, s in enumerate(socks):
        s.settimeout(20)
        s.sendall(b'%04d' % i)
        equal(read_exactly(names['%s:%d' % s.getsockname()], 4), b'%04d' % i, 'what the client said')
    for s in socks + list(names.values()):
        s.close()


def test_accept_overflow_reset(net):
    """tcp_abort_on_overflow: what does not fit is reset, not left in the dark."""
    d = net.tautd('[tcp]\ntcp_syncookies = 0\ntcp_abort_on_overflow = 1\n')
    _, listener = d.control.call_fd('tcp.listen', port=9000, backlog=4)
    peer = RawPeer()
    peer.announce()
    # Two begin while there is room, and end their handshakes when others have filled the accept queue.
    synacks = {}
    for port in (40001, 40002):
        peer.send_tcp(port, 9000, 1000, 0, SYN)
        synacks[port] = peer.segments(3, port, lambda ss: len(ss) > 0)[0]
    socks = []

    def full():
        socks.extend(many_clients(1, 9000))
        row = [x for x in d.call('server.status')['listeners'] if x['address'].endswith(':9000')][0]
        return row['accept_queue'] > 4
    wait_for(full, 10, 'the accept queue is full', 0.05)
    for port, synack in synacks.items():
        peer.send_tcp(port, 9000, 1001, synack.seq + 1, ACK)
        got = peer.segments(3, port, lambda ss: any(s.flags & RST for s in ss))
        check(any(s.flags & RST and s.seq == synack.seq + 1 for s in got), f'port {port}: {[hex(s.flags) for s in got]}')
    equal(d.stats()['tcp_causes']['RST_OVERFLOW'], 2, 'by taut, for the overflow')
    listener.close()
    for s in socks:
        s.close()


def test_accept_overflow_kernel(net):
    """The kernel's server does not accept: taut's connects wait and come in later."""
    d = net.tautd()
    server = socket.socket()
    server.bind((HOST4, 0))
    server.listen(1)
    sysctl('net.ipv4.tcp_syncookies', 0)
    calls = [Control(d.dir, timeout=30) for _ in range(6)]
    for c in calls:
        c.send('tcp.connect', {'address': HOST4, 'port': server.getsockname()[1], 'data': 'hello'})
    time.sleep(0.5)
    server.settimeout(20)
    accepted = [server.accept()[0] for _ in calls]
    for s in accepted:
        s.settimeout(20)
        equal(read_exactly(s, 5), b'hello', 'what taut said')
    for c in calls:
        check('result' in c.receive(), 'connected')
    check(nstat()['ListenOverflows'] + nstat()['ListenDrops'] > 0, 'the kernel\'s queue overflowed')
