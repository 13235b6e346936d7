"""Connections and listeners in a program's hands: plain descriptors that behave as TCP sockets do."""
import json
import os
import select
import signal
import socket
import threading
import time

from harness import (Control, HOST4, HOST6, STACK4, STACK6, check, equal, exchange, pattern, read_all, read_exactly,
                     reset_of, reset_on_close, same_bytes, tcp, wait_for)


def echo(s):
    while True:
        data = s.recv(65536)
        if not data:
            return
        s.sendall(data)


def accept(listener):
    """(what is told, the connection)"""
    data, fds, _, _ = socket.recv_fds(listener, 65536, 4)
    equal(len(fds), 1, 'descriptors with an accepted connection')
    s = socket.socket(fileno=fds[0])
    s.settimeout(20)
    return json.loads(data), s


def test_connect(net):
    """taut as client of a kernel-side server, IPv4 and IPv6, 8 MiB both ways. limit: 60 s"""
    d = net.tautd(v6=True)
    net.serve(echo, HOST4, 8000)
    net.serve(echo, HOST6, 8000, family=socket.AF_INET6)
    for address, mine in ((HOST4, STACK4), (HOST6, f'[{STACK6}]')):
        r, s = d.control.call_fd('tcp.connect', address=address, port=8000)
        check(r['local'].startswith(mine), f'local address: {r}')
        with s:
            data = pattern(8 << 20)
            same_bytes(exchange(s, data), data, f'echo of {address}')




def test_connect_refused(net):
    d = net.tautd()
    e = d.control.fails('CONNECTION_REFUSED', 'tcp.connect', address=HOST4, port=4444)
    equal(e.data['errno'], 'ECONNREFUSED', 'errno')


def test_connect_unreachable(net):
    d = net.tautd()
    began = time.monotonic()
    d.control.fails('HOST_UNREACHABLE', 'tcp.connect', address='10.77.0.88', port=80)
    check(time.monotonic() - began < 8, 'within the neighbour probes')
    d.control.fails('NETWORK_UNREACHABLE', 'tcp.connect', address='192.168.99.1', port=80)


def test_connect_timeout(net):
    """A host that takes the SYN and says nothing."""
    from harness import RawPeer
    d = net.tautd()
    peer = RawPeer()
    peer.announce()
    t = threading.Thread(target=peer.frames, args=(3,), daemon=True)
    t.start()
    began = time.monotonic()
    d.control.fails('TIMED_OUT', 'tcp.connect', address='10.77.0.99', port=80, timeout_ms=500)
    check(0.4 < time.monotonic() - began < 2, 'after timeout_ms')


def test_connect_with_data(net):
    """First bytes in the call, a chosen source port, nodelay."""
    d = net.tautd()
    backend = net.serve(echo, HOST4, 8000)
    r, s = d.control.call_fd('tcp.connect', address=HOST4, port=8000, data='hello', source_port=12345, nodelay=True)
    equal(r['local'], f'{STACK4}:12345', 'source port')
    equal(read_exactly(s, 5), b'hello', 'echo of the first bytes')
    equal(backend.accepted, 1, 'accepted')
    d.control.fails('ADDRESS_IN_USE', 'tcp.connect', address=HOST4, port=8000, source_port=12345)


def test_listen(net):
    """A listener is a descriptor that becomes readable; connections come off it."""
    d = net.tautd(v6=True)
    r, listener = d.control.call_fd('tcp.listen', port=9000)
    check(r['address'].endswith(':9000'), f'address {r}')
    equal(select.select([listener], [], [], 0.1)[0], [], 'nothing waits')
    for address in (STACK4, STACK6):
        with tcp(address, 9000) as client:
            check(select.select([listener], [], [], 3)[0], 'readable when a connection waits')
            info, s = accept(listener)
            equal(info['peer'].rsplit(':', 1)[1], str(client.getsockname()[1]), 'peer\'s port')
            threading.Thread(target=lambda s=s: (echo(s), s.close()), daemon=True).start()
            data = pattern(4 << 20)
            same_bytes(exchange(client, data), data, f'echo by a program, {address}')


def test_listener_backlog(net):
    """
    A program that does not accept: backlog connections wait, more get no answer, none is lost. Without SYN cookies: with
    them, as in Linux, a client whose completing ACK found the accept queue full is only known again once it sends data.
    """
    d = net.tautd('[tcp]\ntcp_syncookies = 0\n')
    _, listener = d.control.call_fd('tcp.listen', port=9000, backlog=4)
    socks = []
    for _ in range(20):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((STACK4, 9000))
        socks.append(s)
    time.sleep(0.5)
    status = d.call('server.status')
    row = [x for x in status['listeners'] if x['address'].endswith(':9000')][0]
    check(row['accept_queue'] <= 5, f'accept queue within the backlog: {row}')
    accepted = []
    listener.settimeout(8)
    for _ in range(20):
        accepted.append(accept(listener)[1])
    equal(len(accepted), 20, 'all come in when the program accepts')
    for s in accepted + socks:
        s.close()


def test_port_taken(net):
    d = net.tautd()
    _, listener = d.control.call_fd('tcp.listen', port=9000)
    d.control.fails('ADDRESS_IN_USE', 'tcp.listen', port=9000)
    d.control.fails('ADDRESS_IN_USE', 'tcp.listen', port=7)
    listener.close()
    wait_for(lambda: d.call('server.status')['totals']['listeners'] == 3, 3, 'the listener ends with its descriptor')
    _, again = d.control.call_fd('tcp.listen', port=9000)
    again.close()


def pair(d):
    """(kernel's end, program's end) of an established connection"""
    _, listener = d.control.call_fd('tcp.listen', port=9000)
    client = tcp(port=9000)
    _, s = accept(listener)
    listener.close()
    return client, s


def test_half_close_program_first(net):
    d = net.tautd()
    client, s = pair(d)
    s.sendall(b'the end is near')
    s.shutdown(socket.SHUT_WR)
    equal(read_all(client), b'the end is near', 'bytes and FIN')
    data = pattern(1 << 20)
    t = threading.Thread(target=lambda: (client.sendall(data), client.close()), daemon=True)
    t.start()
    same_bytes(read_all(s), data, 'bytes after our FIN')


def test_half_close_peer_first(net):
    d = net.tautd()
    client, s = pair(d)
    client.sendall(b'last words')
    client.shutdown(socket.SHUT_WR)
    equal(read_all(s), b'last words', 'bytes and the end')
    data = pattern(1 << 20)
    t = threading.Thread(target=lambda: (s.sendall(data), s.close()), daemon=True)
    t.start()
    same_bytes(read_all(client), data, 'bytes after the peer\'s FIN')
    wait_for(lambda: not d.conns(), 3, 'nothing is left')


def test_peer_reset_reads_as_reset(net):
    """The peer's RST reads as ECONNRESET at the program, not as a clean end."""
    d = net.tautd()
    client, s = pair(d)
    client.sendall(b'x')
    equal(read_exactly(s, 1), b'x', 'byte')
    reset_on_close(client)
    check(reset_of(lambda: s.recv(1)), 'ECONNRESET at the program\'s descriptor')


def test_close_with_unread(net):
    """A program that closes with unread bytes resets its peer, as on a TCP socket."""
    d = net.tautd()
    client, s = pair(d)
    client.sendall(b'never read')
    time.sleep(0.2)
    s.close()
    check(reset_of(lambda: read_all(client)), 'ECONNRESET at the kernel\'s end')


def test_program_never_reads(net):
    """A program that never reads: the window closes, memory is bounded, others go on."""
    d = net.tautd()
    client, s = pair(d)
    client.setblocking(False)
    sent, quiet = 0, 0
    while quiet < 10:
        try:
            sent += client.send(b'x' * 65536)
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.05)
    net.say(f'{sent >> 10} KiB until the window closed')
    check(d.call('server.status')['memory']['chunk_bytes_used'] < 32 << 20, 'memory for one stalled connection')
    with tcp() as other:
        other.sendall(b'go on')
        equal(read_exactly(other, 5), b'go on', 'another connection')
    client.setblocking(True)
    client.settimeout(10)
    same_bytes(read_exactly(s, sent), b'x' * sent, 'all of it, in the end')
    s.close()
    client.close()


def test_program_dies(net):
    """kill -9 of a program with a connection: its peer sees the end, nothing is left."""
    import subprocess
    import sys
    d = net.tautd()
    server = net.serve(lambda s: s.recv(1), HOST4, 8000)
    code = ('import socket,json,sys\n'
            's=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET);s.connect(sys.argv[1])\n'
            's.send(json.dumps({"jsonrpc":"2.0","id":1,"method":"tcp.connect",'
            '"params":{"address":"10.77.0.1","port":8000}}).encode())\n'
            'd,f,_,_=socket.recv_fds(s,65536,4)\nprint(len(f),flush=True)\nsys.stdin.read()\n')
    p = subprocess.Popen([sys.executable, '-c', code, os.path.join(d.dir, 'control.seq')], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    equal(p.stdout.readline().strip(), b'1', 'a descriptor came')
    check(d.conns()[0]['owner'].startswith('program'), f'owner {d.conns()[0]}')
    p.kill()
    p.wait(5)
    wait_for(lambda: not [c for c in d.conns() if c['state'] == 'ESTABLISHED'], 5, 'the connection ends')
    equal(server.accepted, 1, 'accepted')


def test_control_gone_connection_stays(net):
    """The control connection may close; the connections that came over it stay."""
    d = net.tautd()
    net.serve(echo, HOST4, 8000)
    c = Control(d.dir)
    _, s = c.call_fd('tcp.connect', address=HOST4, port=8000)
    c.close()
    time.sleep(0.2)
    data = pattern(100000)
    same_bytes(exchange(s, data), data, 'echo')


def test_own_address(net):
    """Connections from the stack to itself never touch the TAP."""
    d = net.tautd()
    before = d.stats()['daemon']['TapWrites']
    _, s = d.control.call_fd('tcp.connect', address=STACK4, port=7)
    data = pattern(1 << 20)
    same_bytes(exchange(s, data), data, 'echo inside')
    check(d.stats()['daemon']['TapWrites'] - before < 20, 'frames on the TAP')
    check(d.stats()['stack']['LoopedSegments'] > 10, 'LoopedSegments')


def test_many_connects(net):
    """200 connects outstanding at once on one control connection; each answer has its own descriptor."""
    d = net.tautd()
    net.serve(echo, HOST4, 8000)
    c = Control(d.dir)
    ids = [c.send('tcp.connect', {'address': HOST4, 'port': 8000}) for _ in range(200)]
    socks = {}
    for _ in ids:
        answer = c.receive()
        check('result' in answer, f'{answer}')
        socks[answer['id']] = socket.socket(fileno=c.fd)
    equal(sorted(socks), ids, 'answers')
    for i, s in socks.items():
        s.settimeout(10)
        s.sendall(b'%06d' % i)
    for i, s in socks.items():
        equal(read_exactly(s, 6), b'%06d' % i, 'echo')
        s.close()
    wait_for(lambda: d.call('server.status')['totals']['established'] == 0, 5, 'all closed')


def test_answer_and_exit(net):
    """A program that answers and is gone at once, with its listener: the answer and FIN arrive, no reset. 20 times."""
    d = net.tautd()
    for i in range(20):
        _, listener = d.control.call_fd('tcp.listen', port=9000)
        client = tcp(port=9000)
        _, s = accept(listener)
        s.sendall(b'answer %d' % i)
        listener.close()
        s.close()
        equal(read_all(client), b'answer %d' % i, 'answer')
        client.close()
        wait_for(lambda: d.call('server.status')['totals']['listeners'] == 3, 3, 'the listener is gone')


def test_read_and_exit(net):
    """
    A program that accepts, reads all, writes nothing and goes, listener and all, before the daemon looks: it had received
    the connection, so the peer reads an end. One that left something unread resets it.
    """
    d = net.tautd()
    for port, most, what in ((9000, 100, 'an end'), (9001, 4, 'a reset')):
        _, listener = d.control.call_fd('tcp.listen', port=port)
        with tcp(port=port) as client:
            client.sendall(b'good day')
            client.shutdown(socket.SHUT_WR)
            _, s = accept(listener)
            wait_for(lambda s=s: s.recv(100, socket.MSG_PEEK) == b'good day', 5, 'the data')
            time.sleep(0.1)
            d.popen.send_signal(signal.SIGSTOP)
            try:
                listener.close()
                s.recv(most)
                s.close()
            finally:
                d.popen.send_signal(signal.SIGCONT)
            if most > 8:
                equal(read_all(client), b'', what)
            else:
                check(reset_of(lambda client=client: read_all(client)), what)


def test_data_after_close_is_reset(net):
    """A closed program's orphan answers later data with RST, as Linux does."""
    d = net.tautd()
    client, s = pair(d)
    time.sleep(0.1)
    s.close()
    equal(client.recv(1), b'', 'FIN')
    client.sendall(b'too late')
    check(reset_of(lambda: [client.sendall(b'x') or time.sleep(0.05) for _ in range(50)]), 'RST for late data')
