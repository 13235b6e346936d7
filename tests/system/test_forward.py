"""Forwards: accepted on the stack, connected to a backend of the host."""
import hashlib
import os
import socket
import struct
import threading
import time

from harness import (STACK4, STACK6, check, equal, exchange, need, pattern, read_all, read_exactly, reset_of,
                     reset_on_close, same_bytes, sh, tcp, wait_for)


def forward(port, to, name='web', **keys):
    return f'[forward {name}]\nlisten = {port}\nto = {to}\n' + ''.join(f'{k} = {v}\n' for k, v in keys.items())


def echo(s):
    while True:
        data = s.recv(65536)
        if not data:
            return
        s.sendall(data)


def test_echo_backend(net):
    backend = net.serve(echo)
    d = net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}'))
    data = pattern(3 << 20)
    with tcp(port=8000) as s:
        same_bytes(exchange(s, data), data, 'echo through the forward')
    wait_for(lambda: d.call('server.status')['totals']['established'] == 0, 5, 'closed on both sides')
    f = d.call('server.status')['forwards'][0]
    equal((f['accepted'], f['failed'], f['connections']), (1, 0, 0), 'accepted, failed, connections')


def test_backend_ipv6(net):
    backend = net.serve(echo, '::1', family=socket.AF_INET6)
    net.tautd(forward(8000, f'tcp:[::1]:{backend.port}'), v6=True)
    for address in (STACK4, STACK6):
        with tcp(address, 8000) as s:
            data = pattern(100000)
            same_bytes(exchange(s, data), data, f'echo by {address}')


def test_unix_backend(net):
    path = os.path.join(net.tmp, 'backend')
    net.serve(echo, path=path)
    net.tautd(forward(8000, f'unix:{path}'))
    with tcp(port=8000) as s:
        data = pattern(3 << 20)
        same_bytes(exchange(s, data), data, 'echo through a Unix backend')


def test_listen_on_one_address(net):
    backend = net.serve(echo)
    net.tautd(forward(f'{STACK4}:8000', f'tcp:127.0.0.1:{backend.port}'), v6=True)
    with tcp(STACK4, 8000) as s:
        equal(exchange(s, b'four'), b'four', 'echo')
    try:
        tcp(STACK6, 8000)
        check(False, 'accepted on the other address')
    except ConnectionRefusedError:
        pass


def test_half_close_client_first(net):
    """FIN of the client reaches the backend, whose answer still comes back."""
    def answer_at_eof(s):
        data = read_all(s)
        s.sendall(hashlib.sha256(data).hexdigest().encode())
    backend = net.serve(answer_at_eof)
    net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}'))
    data = pattern(1 << 20)
    with tcp(port=8000) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        equal(read_all(s).decode(), hashlib.sha256(data).hexdigest(), 'answer after our FIN')


def test_half_close_backend_first(net):
    """FIN of the backend reaches the client, whose bytes still go through."""
    got = []
    def farewell(s):
        s.sendall(b'bye')
        s.shutdown(socket.SHUT_WR)
        got.append(read_all(s))
    backend = net.serve(farewell)
    net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}'))
    data = pattern(1 << 20)
    with tcp(port=8000) as s:
        equal(read_all(s), b'bye', 'what the backend said, and its end')
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        wait_for(lambda: got, 5, 'the backend has read to the end')
    same_bytes(got[0], data, 'bytes after the backend\'s FIN')


def test_refused_backend(net):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    d = net.tautd(forward(8000, f'tcp:127.0.0.1:{port}'))
    check(reset_of(lambda: read_all(tcp(port=8000))), 'a refused backend resets the client')
    equal(d.stats()['daemon']['ForwardBackendRefused'], 1, 'ForwardBackendRefused')
    check('Connection refused' in d.output(), 'the log says why')


def test_missing_unix_backend(net):
    d = net.tautd(forward(8000, f'unix:{net.tmp}/nobody'))
    check(reset_of(lambda: read_all(tcp(port=8000))), 'a missing backend resets the client')
    wait_for(lambda: d.call('server.status')['totals']['connections'] == 0, 3, 'nothing is left')


def test_backend_resets(net):
    """A backend's RST arrives as an RST."""
    def reset(s):
        read_exactly(s, 5)
        reset_on_close(s)
    backend = net.serve(reset)
    d = net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}'))
    with tcp(port=8000) as s:
        s.sendall(b'hello')
        check(reset_of(lambda: read_all(s)), 'ECONNRESET at the client')
    wait_for(lambda: d.stats()['daemon']['ForwardBackendResets'] == 1, 3, 'ForwardBackendResets')


def test_client_resets(net):
    """A client's RST arrives at the backend as an RST, not as an end."""
    seen = []
    def watch(s):
        try:
            seen.append(read_all(s))
        except ConnectionResetError:
            seen.append('reset')
    backend = net.serve(watch)
    net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}'))
    s = tcp(port=8000)
    s.sendall(b'hello')
    wait_for(lambda: backend.accepted, 3, 'the backend accepts')
    time.sleep(0.1)
    reset_on_close(s)
    wait_for(lambda: seen, 5, 'the backend sees the end')
    equal(seen[0], 'reset', 'what the backend read')


def test_stalled_backend(net):
    """A backend that never accepts the connection: reset after connect_timeout."""
    full = socket.socket()
    full.bind(('127.0.0.1', 0))
    full.listen(0)
    port = full.getsockname()[1]
    fillers = []
    for _ in range(4):  # fill the accept queue so that SYNs are ignored
        f = socket.socket()
        f.setblocking(False)
        f.connect_ex(('127.0.0.1', port))
        fillers.append(f)
    d = net.tautd(forward(8000, f'tcp:127.0.0.1:{port}', connect_timeout='500ms'))
    began = time.monotonic()
    s = tcp(port=8000)
    check(reset_of(lambda: read_all(s)), 'the client is reset')
    took = time.monotonic() - began
    check(0.4 < took < 3, f'after the connect timeout: {took:.2f} s')
    equal(d.stats()['daemon']['ForwardBackendTimeouts'], 1, 'ForwardBackendTimeouts')


def test_backend_never_reads(net):
    """A backend that never reads: the client's window closes, memory stays bounded, an abort frees all."""
    stop = threading.Event()
    backend = net.serve(lambda s: stop.wait(30))
    d = net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}'))
    with tcp(port=8000) as s:
        s.setblocking(False)
        sent, quiet = 0, 0
        while quiet < 10:
            try:
                sent += s.send(b'x' * 65536)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.05)
        net.say(f'{sent >> 20} MiB until the window closed')
        used = d.call('server.status')['memory']['chunk_bytes_used']
        check(used < 32 << 20, f'{used} bytes of chunks held for one stalled connection')
        reset_on_close(s)
    stop.set()
    wait_for(lambda: d.call('server.status')['totals']['connections'] == 0, 5, 'nothing is left')
    wait_for(lambda: d.call('server.status')['memory']['chunk_bytes_used'] < 1 << 20, 5, 'its memory came back')


def test_proxy_v2(net):
    """The PROXY protocol header tells the backend the peer's address and port, and ours."""
    heads = []
    def take(s):
        heads.append(read_exactly(s, 16))
        length = struct.unpack('!H', heads[0][14:16])[0]
        heads.append(read_exactly(s, length))
        echo(s)
    backend = net.serve(take)
    net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}', proxy_protocol='v2'), v6=True)
    for address in (STACK4, STACK6):
        heads.clear()
        with tcp(address, 8000) as s:
            local = s.getsockname()
            data = pattern(100000)
            same_bytes(exchange(s, data), data, 'echo behind the header')
        family = socket.AF_INET if address == STACK4 else socket.AF_INET6
        equal(heads[0][:13], b'\r\n\r\n\0\r\nQUIT\n\x21', 'signature, version and command')
        equal(heads[0][13], 0x11 if address == STACK4 else 0x21, 'family and protocol')
        equal(heads[1], socket.inet_pton(family, local[0]) + socket.inet_pton(family, address) +
              struct.pack('!HH', local[1], 8000), 'addresses and ports')


def test_max_connections(net):
    """Above max_connections connections wait in the accept queue until one has ended."""
    backend = net.serve(echo)
    d = net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}', max_connections=3))
    socks = [tcp(port=8000) for _ in range(5)]
    for s in socks[:3]:
        s.sendall(b'x')
        read_exactly(s, 1)
    time.sleep(0.2)
    equal(d.call('server.status')['forwards'][0]['connections'], 3, 'connections at the backend')
    socks[3].sendall(b'y')
    socks[3].settimeout(0.3)
    try:
        socks[3].recv(1)
        check(False, 'the fourth is served')
    except socket.timeout:
        pass
    socks[0].close()
    socks[3].settimeout(5)
    equal(read_exactly(socks[3], 1), b'y', 'the fourth, after the first has ended')


def test_500_parallel(net):
    """500 connections through one forward at once. limit: 90 s"""
    backend = net.serve(echo)
    d = net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}'))
    socks = [tcp(port=8000) for _ in range(500)]
    for i, s in enumerate(socks):
        s.sendall(b'%08d' % i * 200)
    for i, s in enumerate(socks):
        same_bytes(read_exactly(s, 1600), b'%08d' % i * 200, f'echo of connection {i}')
    equal(d.call('server.status')['forwards'][0]['connections'], 500, 'connections of the forward')
    for s in socks:
        s.close()
    wait_for(lambda: d.call('server.status')['forwards'][0]['connections'] == 0, 10, 'all ended')


def nginx(net, port, size):
    """An nginx of our own on 127.0.0.1 and [::1]; its document is a file of `size` bytes."""
    need('nginx')
    prefix = os.path.join(net.tmp, 'nginx')
    os.makedirs(os.path.join(prefix, 'html'))
    data = pattern(1 << 20)
    with open(os.path.join(prefix, 'html', 'big'), 'wb') as f:
        for _ in range(size >> 20):
            f.write(data)
    with open(os.path.join(prefix, 'nginx.conf'), 'w', encoding='ascii') as f:
        f.write(f'daemon off; master_process off; user root; pid {prefix}/pid; error_log {prefix}/error;\n'
                'events {}\nhttp { access_log off; sendfile on; '
                + ''.join(f'{kind}_temp_path {prefix}/{kind};' for kind in
                          ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi')) +
                f'server {{ listen 127.0.0.1:{port}; listen [::1]:{port}; root {prefix}/html; }} }}\n')
    p = net.start('nginx', 'nginx', '-e', f'{prefix}/error', '-c', f'{prefix}/nginx.conf', '-p', prefix)
    def up():
        check(p.running(), f'nginx ended: {p.output()}')
        with socket.socket() as s:
            return s.connect_ex(('127.0.0.1', port)) == 0
    wait_for(up, 5, 'nginx listens')
    with open(os.path.join(prefix, 'html', 'big'), 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def test_curl_nginx(net):
    """curl of a 64 MB file from a real nginx, IPv4 and IPv6, byte-exact. runs alone, limit: 90 s"""
    need('curl')
    digest = nginx(net, 8080, 64 << 20)
    net.tautd(forward(80, 'tcp:127.0.0.1:8080'), v6=True)
    for host in (STACK4, f'[{STACK6}]'):
        path = os.path.join(net.tmp, 'got')
        began = time.monotonic()
        sh('curl', '-sS', '--max-time', '40', '--noproxy', '*', '-o', path, f'http://{host}/big')
        net.say(f'{host} {64 * 8.39 / 1000 / (time.monotonic() - began):.1f} Gbit/s')
        with open(path, 'rb') as f:
            equal(hashlib.sha256(f.read()).hexdigest(), digest, f'sha256 by {host}')
    sh('curl', '-sS', '--max-time', '20', '--noproxy', '*', '-o', os.path.join(net.tmp, 'part'), '-r', '1000-1999',
       f'http://{STACK4}/big')
    equal(os.path.getsize(os.path.join(net.tmp, 'part')), 1000, 'a range request')


def test_bytes_before_backend(net):
    """What the client sends while the backend is being connected to waits and comes first."""
    got = []
    def slow(s):
        time.sleep(0.2)
        got.append(read_all(s))
    backend = net.serve(slow)
    net.tautd(forward(8000, f'tcp:127.0.0.1:{backend.port}'))
    data = pattern(50000)
    with tcp(port=8000) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        equal(read_all(s), b'', 'the end')
    wait_for(lambda: got, 3, 'the backend has read')
    same_bytes(got[0], data, 'bytes')
