"""A bug report becomes a test: what a live daemon recorded, as a packetdrill script that tests/packetdrill/drill runs.
The engine does it all again there: the same segments, and the same ACK results, timers and drops at the same times."""
import os
import socket
import sys
import time

from harness import (BUILD, HOST4, HOST6, ROOT, SANITIZED, STACK6, TAUT, Relay, Skip, check, equal, exchange, pattern,
                     read_all, read_exactly, reset_on_close, sh, tcp, wait_for)

sys.path.insert(0, os.path.join(ROOT, 'tests/packetdrill'))
import pdsame  # noqa: E402

DRILL = os.path.join(ROOT, 'tests/packetdrill/drill')
SHIM = os.path.join(BUILD, 'tests/packetdrill/libdrillshim.so')
# Every record is kept, and each one whole.
RECORDS = '[tcp]\ntrace_keep = 2\ntrace_ring = 4194304\n'
KIB, MIB = 1 << 10, 1 << 20


def drill(net, record, script):
    """Runs the script of that record; '' or why it does not pass, with drill's own text."""
    if SANITIZED:
        raise Skip('Python can not load a sanitized libdrillshim.so')
    name, again = os.path.basename(record), record + '.again'
    path = record.replace('.taut', '.pkt')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(script)
    os.mkdir(again)
    variant = script.split('Run it as ')[1].split('.')[0]
    status, out, err = sh(sys.executable, '-B', DRILL, '--library', SHIM, '--variant', variant, '--record', again, path,
                          check_status=False)
    lines = (out + err).splitlines()
    if status != 0:
        return f'{name}: ' + '\n'.join(lines[:8] + ['...'] + lines[-12:])
    # A connection before it may have brought its cookie.
    wrong = [pdsame.difference(TAUT, record, os.path.join(again, x)) for x in sorted(os.listdir(again))]
    return '' if '' in wrong else f'{name}: the engine did otherwise: ' + '\n'.join(wrong)


def idents(d):
    """Every record that the daemon has, of connections that live and of those that are gone."""
    rows = [line.split() for line in d.cli('trace').splitlines()]
    return [row[0] for row in rows if row[1] in ('connection', 'dead')]


def replays(net, d, name, least=1, want=()):
    """All records of the daemon pass in drill, with the same inside; one of them at least has each word of `want`."""
    scripts = {}
    for n, ident in enumerate(idents(d)):
        record = os.path.join(net.tmp, f'{name}-{n}.taut')
        d.cli('trace', ident, '-o', record)
        scripts[record] = sh(TAUT, 'trace', record, '--pkt')
    check(len(scripts) >= least, f'{name}: {len(scripts)} records')
    wrong = [w for w in (drill(net, record, s) for record, s in scripts.items()) if w]
    check(not wrong, f'{len(wrong)} of {len(scripts)} do not replay:\n' + '\n'.join(wrong[:3]))
    for word in want:
        check(any(word in s for s in scripts.values()), f'{name}: none has "{word}"')
    net.say(f'{name}: {len(scripts)} records, {sum(len(s.splitlines()) for s in scripts.values())} lines')
    return scripts


def test_echo(net):
    """A connection that lives and is idle: an echo of several messages; and another one like it, which remembers it."""
    d = net.tautd(RECORDS)
    for n in range(2):
        s = tcp()
        for size in (3, 100, 5000, 1):
            data = pattern(size)
            s.sendall(data)
            equal(read_exactly(s, size), data, 'echo')
        time.sleep(0.15)
        scripts = replays(net, d, f'echo-{n}', n + 1, ['> P. 1:4(3) ack 4'])
        check(not any('open end' in x for x in scripts.values()), 'nothing is left of a turn')
        s.close()
        wait_for(lambda k=n: len(idents(d)) == k + 1 and not d.conns(), 5, 'the connection is gone')
    check(any(': metrics' in x for x in scripts.values()), 'what was remembered')
    record, script = list(scripts.items())[0]
    lines = script.splitlines(True)
    last = max(n for n, line in enumerate(lines) if ' > ' in line)
    for name, wrong, want in (('short', lines[:last], 'unexpected segment at the end'),
                              ('early', [x.replace('`: expire`', '`: asked`') for x in lines[:last]] + [
                                  lines[last].split()[0] + ' `: expire`\n'], 'no timer runs out')):
        copy = record.replace('.taut', f'-{name}.taut')
        os.link(record, copy)
        check(want in drill(net, copy, ''.join(wrong)), f'{name}: {want}')


def test_bulk(net):
    """Echo, chargen and discard at full speed: records of connections that live, and are in the middle of it."""
    d = net.tautd('[services]\nchargen = 19\ndiscard = 9\n' + RECORDS)
    with tcp() as s, tcp(port=9) as sink, tcp(port=19) as source:
        data = pattern(MIB)
        equal(exchange(s, data, False) == data, True, 'the echo')
        sink.sendall(data)
        read_exactly(source, MIB)
        wait_for(lambda: [c for c in d.conns() if c['local'].endswith(':19')][0]['limit'] == 'RWND', 5, 'chargen waits for its reader')
        replays(net, d, 'bulk', 3, ['open end', 'EAGAIN', '`: asked`'])


def test_endings(net):
    """The peer closes first, taut does, both reset; what was not read; a drain."""
    d = net.tautd('[services]\nchargen = 19\ndiscard = 9\n' + RECORDS)
    with tcp() as s:
        equal(exchange(s, pattern(10 * KIB)), pattern(10 * KIB), 'the peer closes first')
    s = tcp(port=19)
    read_exactly(s, 100 * KIB)
    reset_on_close(s)
    s = tcp(port=19)
    read_exactly(s, 100)
    s.close()  # with data unread: the kernel resets
    s = tcp()
    s.sendall(b'x' * 100)
    d.call('conn.abort', id=[c for c in d.conns() if c['local'].endswith(':7')][0]['id'])
    wait_for(lambda: not d.conns(), 5, 'all are gone')
    replays(net, d, 'endings', 4, ['> F', '> R', '< R', '< F'])


def test_loss(net):
    """Over a wire that loses, doubles and delays. limit: 120 s"""
    d = net.tautd('[stack]\narp_announce = 0\n' + RECORDS, offload=False, host4='169.254.7.7')
    seed = int.from_bytes(os.urandom(4), 'big')
    net.say(f'seed {seed}')
    relay = Relay(net, seed, loss=0.05, duplicate=0.02, late=0.05)
    for n in range(12):
        with tcp(cubic=True, timeout=60) as s:
            equal(exchange(s, pattern(128 * KIB)) == pattern(128 * KIB), True, 'the echo')
        causes = d.stats()['tcp_causes']
        if n > 0 and causes['RETRANS_FAST'] and causes['RETRANS_RTO'] + causes['RETRANS_TLP']:
            break
    check(relay.count['lost'] > 0, 'something was lost')
    replays(net, d, 'loss', 2, ['RETRANS_FAST', ': expire'])


def test_ipv6(net):
    d = net.tautd(RECORDS, v6=True)
    with tcp(STACK6) as s:
        equal(exchange(s, pattern(100 * KIB)), pattern(100 * KIB), 'the echo')
    replays(net, d, 'ipv6', 1, ['Run it as ipv6'])


def test_connect(net):
    """Connections that taut opens, by a program's hand and by a forward; one that is refused."""
    d = net.tautd(RECORDS, v6=True)

    def echo(s):
        while True:
            data = s.recv(65536)
            if not data:
                return
            s.sendall(data)
    net.serve(echo, HOST4, 8000)
    net.serve(echo, HOST6, 8000, family=socket.AF_INET6)
    for address in (HOST4, HOST6):
        _, s = d.control.call_fd('tcp.connect', address=address, port=8000, data='hello')
        with s:
            equal(read_exactly(s, 5), b'hello', 'first bytes')
            equal(exchange(s, pattern(200 * KIB)) == pattern(200 * KIB), True, 'the echo')
    d.control.fails('CONNECTION_REFUSED', 'tcp.connect', address=HOST4, port=4444)
    replays(net, d, 'connect', 3, ['connect(3', 'Run it as ipv6', '< R. 0:0(0)'])


def test_next_hop(net):
    """One that taut asks for first, one that does not answer, and no route: the connection waits, and hears of it."""
    d = net.tautd(RECORDS)
    server = net.serve(read_all, HOST4)
    _, s = d.control.call_fd('tcp.connect', address=HOST4, port=server.port, data='hello')
    s.close()
    d.control.fails('HOST_UNREACHABLE', 'tcp.connect', address='10.77.0.88', port=80)
    d.control.fails('NETWORK_UNREACHABLE', 'tcp.connect', address='192.168.99.1', port=80)
    wait_for(lambda: len(idents(d)) >= 2, 5, 'the records')
    replays(net, d, 'next-hop', 2, [': next_hop 0', ': next_hop 2 113'])


def test_others(net):
    """Other settings: BBR, SYN cookies, no SACK, a small send buffer, an MTU that a router tells, delayed ACKs."""
    for name, text in (('bbr', 'tcp_congestion_control = bbr\ntcp_pacing = 1\n'), ('cookies', 'tcp_syncookies = 2\n'),
                       ('reno', 'tcp_congestion_control = reno\ntcp_sack = 0\ntcp_timestamps = 0\n'),
                       ('buffers', 'tcp_wmem_default = 16384\ntcp_wmem_max = 32768\ntcp_rmem_default = 32768\n'),
                       ('level', 'trace_level = 1\n')):
        d = net.tautd('[services]\nchargen = 19\ndiscard = 9\n' + RECORDS + text)
        with tcp() as s, tcp(port=19) as source, tcp(port=9) as sink:
            equal(exchange(s, pattern(200 * KIB)) == pattern(200 * KIB), True, 'the echo')
            for _ in range(5):
                time.sleep(0.05)
                sink.sendall(b'x')
                read_exactly(source, 50 * KIB)
        wait_for(lambda: not d.conns(), 5, 'all are gone')
        replays(net, d, name, 3)
        d.control.close()
        d.expect_end = True
        equal(d.stop(), 0, 'exit status')


def test_what_cannot(net):
    """What can not be replayed is said in one line, with the reason."""
    d = net.tautd('[tcp]\ntrace_ring = 8192\ntrace_keep = 2\ntrace_level = 0\n')
    blind = tcp()
    equal(exchange(blind, b'hello', False), b'hello', 'echo')
    d.call('config.set', name='tcp.trace_level', value=2)
    equal(exchange(blind, b'hello', False), b'hello', 'echo')
    late = idents(d)[0]
    whole = tcp()
    equal(exchange(whole, b'hello', False), b'hello', 'echo')
    ident = [x for x in idents(d) if x != late][0]
    d.cli('trace', ident, '--pkt')
    for _ in range(300):
        equal(exchange(whole, b'hello', False), b'hello', 'echo')
    for what, want in ((late, 'the handshake of this connection is not in its record'),
                       (ident, 'the beginning of this record is lost'),
                       ('engine', "what belongs to no connection can't be replayed")):
        status, out, err = d.cli('trace', what, '--pkt', check_status=False)
        equal((status, out, len(err.splitlines())), (1, '', 1), f'{what}: {err}')
        check(want in err, err)
