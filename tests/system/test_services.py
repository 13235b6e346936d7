"""echo, discard and chargen on the stack, spoken to by the kernel's TCP."""
import socket
import threading
import time

from harness import (STACK4, STACK6, check, equal, exchange, pattern, read_all, read_exactly, reset_of, reset_on_close,
                     same_bytes, sh, tcp, wait_for)


def test_echo4(net):
    net.tautd()
    with tcp() as s:
        data = pattern(300000)
        same_bytes(exchange(s, data), data, 'echo')


def test_echo6(net):
    net.tautd(v6=True)
    with tcp(STACK6) as s:
        data = pattern(300000)
        same_bytes(exchange(s, data), data, 'echo')


def test_discard(net):
    d = net.tautd()
    with tcp(port=9) as s:
        s.sendall(pattern(1 << 20))
        s.shutdown(socket.SHUT_WR)
        equal(read_all(s), b'', 'discard says nothing')
    check(d.stats()['tcp']['TCPInBytes'] >= 1 << 20, 'bytes received are counted')


def test_chargen(net):
    """RFC 864: lines of 72 of the 95 printable characters, each beginning one further."""
    net.tautd()
    with tcp(port=19) as s:
        data = read_exactly(s, 74 * 2000)
        ring = ''.join(chr(c) for c in range(32, 127))
        expected = ''.join(''.join(ring[(line + i) % 95] for i in range(72)) + '\r\n' for line in range(2000))
        same_bytes(data, expected.encode(), 'chargen')
        reset_on_close(s)


def test_refused_port(net):
    """A port that nobody listens on: RST at once."""
    d = net.tautd()
    began = time.monotonic()
    try:
        tcp(port=4444)
        check(False, 'the connection was accepted')
    except ConnectionRefusedError:
        pass
    check(time.monotonic() - began < 1, 'refused at once')
    check(d.stats()['tcp_causes']['RST_NO_SOCKET'] >= 1, 'cause RST_NO_SOCKET is counted')


def test_half_close_peer_first(net):
    """The kernel's end sends FIN first and still gets all that it is owed."""
    net.tautd()
    with tcp() as s:
        data = pattern(2 << 20, 7)
        same_bytes(exchange(s, data), data, 'echo of a half-closed connection')


def test_slow_reader(net):
    """A peer that does not read: the window closes, nothing is lost, and it goes on when it reads."""
    d = net.tautd()
    with tcp(port=19) as s:
        time.sleep(0.7)
        waits = wait_for(lambda: [c for c in d.conns() if c['limit'] in ('RWND',)], 3, 'limit RWND')
        check(waits[0]['owner'] == 'chargen', f'owner {waits[0]}')
        data = read_exactly(s, 3 << 20)
        equal(len(data), 3 << 20, 'bytes after the stall')
        reset_on_close(s)
    wait_for(lambda: not d.conns(), 3, 'the connection is gone after a reset')


def test_reset_by_peer(net):
    d = net.tautd()
    for _ in range(20):
        s = tcp()
        s.sendall(b'x')
        reset_on_close(s)
    wait_for(lambda: d.call('server.status')['totals']['connections'] == 0, 3, 'no connection left after 20 resets')
    check(d.stats()['tcp']['EstabResets'] >= 20, 'resets are counted')


def test_sequential_connects(net):
    """1,000 connections one after another; TIME-WAIT stays with the side that closed first."""
    d = net.tautd()
    for i in range(1000):
        with tcp() as s:
            s.sendall(b'%04d' % i)
            equal(read_exactly(s, 4), b'%04d' % i, 'echo')
    wait_for(lambda: d.call('server.status')['totals']['established'] == 0, 5, 'all closed')
    equal(d.call('server.status')['totals']['orphans'], 0, 'orphans')


def test_parallel_500(net):
    """500 connections at once, each with its own bytes. limit: 90 s"""
    d = net.tautd()
    socks = [tcp() for _ in range(500)]
    wait_for(lambda: d.call('server.status')['totals']['established'] == 500, 5, '500 established')
    for i, s in enumerate(socks):
        s.sendall(b'%08d' % i * 500)
    for i, s in enumerate(socks):
        same_bytes(read_exactly(s, 4000), b'%08d' % i * 500, f'echo of connection {i}')
    equal(len(d.conns(limit=1000)), 500, 'rows of conn.list')
    for s in socks:
        s.close()
    wait_for(lambda: d.call('server.status')['totals']['established'] == 0, 5, 'all closed')


def test_parallel_both_ways(net):
    """8 connections that send and receive 2 MB each at the same time."""
    net.tautd()
    errors = []

    def one(seed):
        data = pattern(2 << 20, seed)
        try:
            with tcp() as s:
                same_bytes(exchange(s, data), data, f'echo {seed}')
        except (AssertionError, OSError) as e:
            errors.append(e)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(40)
    check(not errors, f'{errors}')


def test_tiny_writes(net):
    """Byte by byte without Nagle, and a stream of 1-byte writes with it."""
    net.tautd()
    with tcp(nodelay=True) as s:
        for i in range(300):
            s.sendall(bytes([i & 255]))
            equal(read_exactly(s, 1), bytes([i & 255]), 'byte')
    with tcp() as s:
        for i in range(3000):
            s.send(bytes([i & 255]))
        equal(read_exactly(s, 3000), bytes(i & 255 for i in range(3000)), 'bytes')


def test_services_off(net):
    d = net.tautd('[services]\necho = off\ndiscard = 99\n')
    try:
        tcp(port=7)
        check(False, 'echo is served though it is off')
    except ConnectionRefusedError:
        pass
    with tcp(port=99) as s:
        s.sendall(b'gone')
    equal([x['port'] for x in d.call('server.status')['services']], [0, 99, 19], 'ports of echo, discard, chargen')


def test_no_timestamps_no_sack_no_scaling(net):
    """The kernel's options off, one by one: byte-exact all the same."""
    net.tautd()
    data = pattern(1 << 20, 3)
    for name in ('tcp_timestamps', 'tcp_sack', 'tcp_window_scaling'):
        from harness import sysctl
        sysctl(f'net.ipv4.{name}', 0)
        with tcp() as s:
            same_bytes(exchange(s, data), data, f'echo without {name} and those before')


def test_reset_seen_by_kernel(net):
    """conn.abort: the kernel's end reads ECONNRESET."""
    d = net.tautd()
    with tcp() as s:
        s.sendall(b'x')
        read_exactly(s, 1)
        d.call('conn.abort', id=d.conns()[0]['id'])
        check(reset_of(lambda: s.recv(1)), 'ECONNRESET at the kernel\'s end')
