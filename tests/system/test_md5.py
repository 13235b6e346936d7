"""
TCP-MD5 (RFC 2385) against the kernel's own, in both directions and both families: the kernel checks every signature of
taut, taut every one of the kernel's. Wrong, missing and unexpected signatures are dropped, and counted by their names.
"""
import os
import signal
import socket
import struct
import subprocess
import threading

from harness import (HOST4, HOST6, STACK4, STACK6, TAUTD, Skip, check, equal, exchange, pattern, read_all, read_exactly, reset_of,
                     reset_on_close, same_bytes, tcp, wait_for)
from test_survive import serving_worker

TCP_MD5SIG, TCP_MD5SIG_EXT, MD5SIG_PREFIX = 14, 32, 1
KEY = 'rfc2385 secret'
FAMILIES = ((HOST4, STACK4), (HOST6, STACK6))


def set_key(s, peer, key, prefix=None):
    """struct tcp_md5sig: a sockaddr_storage, flags, prefix, length, interface, key"""
    if ':' in peer:
        address = struct.pack('=HHI16sI', socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, peer), 0)
    else:
        address = struct.pack('=HH4s', socket.AF_INET, 0, socket.inet_aton(peer))
    value = address.ljust(128, b'\0') + struct.pack('=BBHi80s', MD5SIG_PREFIX if prefix else 0, prefix or 0, len(key), 0,
                                                    key if isinstance(key, bytes) else key.encode())
    try:
        s.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG_EXT if prefix else TCP_MD5SIG, value)
    except OSError as e:
        raise Skip(f'this kernel has no TCP-MD5: {e}') from e


def keyed(address, port=7, key=KEY, timeout=20):
    """A socket of the kernel that signs, connected; key None: it does not."""
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(timeout)
    if key is not None:
        set_key(s, address, key)
    s.connect((address, port))
    return s


def refused(address, key, timeout=1.5):
    """Nothing answers a segment that is not signed as it must be: no RST, no SYN-ACK."""
    try:
        keyed(address, key=key, timeout=timeout).close()
    except TimeoutError:
        return True
    return False


def nstat():
    with open('/proc/net/netstat', encoding='ascii') as f:
        lines = f.read().splitlines()
    out = {}
    for names, values in zip(lines[::2], lines[1::2]):
        out.update(zip(names.split()[1:], map(int, values.split()[1:])))
    return {k: v for k, v in out.items() if k.startswith('TCPMD5')}


def key_file(net, key=KEY, mode=0o640, name='key'):
    path = os.path.join(net.tmp, name)
    with open(path, 'wb') as f:
        f.write((key if isinstance(key, bytes) else key.encode()) + b'\n')
    os.chmod(path, mode)
    return path


def sections(path, port='any'):
    return ''.join(f'[md5 {name}]\npeer = {peer}\nport = {port}\nkey_file = {path}\n'
                   for name, peer in (('four', HOST4 + '/24'), ('six', HOST6)))


def counters(d):
    return {k: v for k, v in d.stats()['tcp'].items() if k.startswith('TCPMD5')}


def established(d):
    return wait_for(lambda: d.conns(state='ESTABLISHED'), 5, 'an established connection')[0]['id']


class Listener:
    """A listener of the kernel that signs, and answers each connection with what it read."""

    def __init__(self, address, peer, key=KEY, port=0):
        self.s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_STREAM)
        if key is not None:
            set_key(self.s, peer, key)
        self.s.bind((address, port))
        self.s.listen(16)
        self.port = self.s.getsockname()[1]
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            try:
                s, _ = self.s.accept()
            except OSError:
                return
            with s:
                s.sendall(read_all(s))


def test_kernel_connects(net):
    """Echo of some MB by both families; every segment of both sides carries the option."""
    d = net.tautd(sections(key_file(net), 7), v6=True)
    before, data = nstat(), pattern(3 << 20)
    capture = net.capture()
    for _, address in FAMILIES:
        with keyed(address) as s:
            check(d.call('conn.get', id=established(d))['md5'], 'conn.get says so')
            same_bytes(exchange(s, data), data, f'echo by {address}')
    capture.stop()
    equal(capture.tshark('tcp && !tcp.options.md5', ('tcp.flags',)), [], 'segments without a signature')
    check(len(capture.tshark('tcp.options.md5', ('tcp.len',))) > 4000, 'segments with one')
    equal(nstat(), before, 'counters of the kernel: it refused nothing')
    equal(counters(d), {'TCPMD5NotFound': 0, 'TCPMD5Unexpected': 0, 'TCPMD5Failure': 0}, 'counters of taut')
    equal(d.stats()['tcp_drops'].get('MD5_FAILURE', 0), 0, 'drops')


def test_wrong_or_missing_is_refused(net):
    """limit: 90 s"""
    d = net.tautd(sections(key_file(net), 7), v6=True)
    for _, address in FAMILIES:
        before = counters(d)
        check(refused(address, None), f'{address}: unsigned')
        check(refused(address, 'another'), f'{address}: wrong key')
        grown = {k: v - before[k] for k, v in counters(d).items()}
        check(grown['TCPMD5NotFound'] >= 2, f'unsigned SYNs: {grown}')
        check(grown['TCPMD5Failure'] >= 2, f'wrongly signed SYNs: {grown}')
    # Another port has no key: there the signature is what nobody expects.
    try:
        keyed(STACK4, 9, timeout=1.5)
        check(False, 'connected to a service without a key')
    except TimeoutError:
        pass
    check(counters(d)['TCPMD5Unexpected'] >= 2, 'unexpected signatures are counted')
    with tcp(port=9) as s:
        s.sendall(b'unsigned')
    equal(d.stats()['tcp']['OutRsts'], 0, 'RSTs in answer')


def test_taut_connects(net):
    """`taut connect --md5-key-file` to listeners of the kernel."""
    d = net.tautd(v6=True)
    path, data = key_file(net), ''.join(f'{i:07}\n' for i in range(3 << 17))
    before = nstat()
    for address, peer in FAMILIES:
        server = Listener(address, peer)
        out = d.cli('connect', '--md5-key-file', path, address, str(server.port), stdin=data.encode())
        check(out == data, f'echo by {address}: {len(out)} of {len(data)} bytes')
    equal(nstat(), before, 'counters of the kernel: it refused nothing')
    server = Listener(HOST4, STACK4)
    wrong = key_file(net, 'another', name='wrong')
    status, _, err = d.cli('connect', '-t', '2', '--md5-key-file', wrong, HOST4, str(server.port), stdin=b'', check_status=False)
    equal((status, 'ETIMEDOUT' in err or 'timed out' in err), (1, True), f'wrong key: {err}')
    status, _, err = d.cli('connect', '-t', '2', HOST4, str(server.port), stdin=b'', check_status=False)
    equal(status, 1, f'no key: {err}')
    grown = {k: v - before[k] for k, v in nstat().items()}
    check(grown['TCPMD5Failure'] >= 2 and grown['TCPMD5NotFound'] >= 2, f'the kernel counts the same: {grown}')


def test_taut_connects_by_configuration(net):
    d = net.tautd(sections(key_file(net), 5001))
    server = Listener(HOST4, STACK4, port=5001)
    equal(d.cli('connect', HOST4, str(server.port), stdin=b'signed'), 'signed', 'echo')


def test_taut_listens(net):
    """`taut listen --md5-key-file`, for one prefix and for everybody."""
    d = net.tautd(v6=True)
    path = key_file(net)
    for address, more in ((STACK4, ['--md5-peer', HOST4 + '/24']), (STACK6, [])):
        p = net.start('taut', os.path.join(os.path.dirname(TAUTD), '../cli/taut'), '-S', d.dir, 'listen', '--md5-key-file',
                      path, *more, '9000', stdin=subprocess.PIPE)
        wait_for(lambda: '9000' in str(d.call('server.status')['listeners']), 5, 'the listener')
        with keyed(address, 9000) as s:
            s.sendall(b'good day')
            s.shutdown(socket.SHUT_WR)
            p.popen.stdin.close()
            equal(read_all(s), b'', 'nothing came back')
        equal(p.wait(), 0, 'exit status')


def test_resets_are_signed(net):
    """A reset of either side ends the other's connection: it was signed right."""
    d = net.tautd(sections(key_file(net), 7), v6=True)
    for _, address in FAMILIES:
        s = keyed(address)
        d.call('conn.abort', id=established(d))
        check(reset_of(lambda s=s: s.recv(1)), f'{address}: the kernel believes the reset')
        s.close()
        s = keyed(address)
        reset_on_close(s)
        wait_for(lambda: not d.conns(state='ESTABLISHED'), 5, f'{address}: taut believes the reset')
    equal(counters(d), {'TCPMD5NotFound': 0, 'TCPMD5Unexpected': 0, 'TCPMD5Failure': 0}, 'counters of taut')


def test_time_wait(net):
    """taut closes first: the ACK of the kernel's FIN is signed, by an entry that has outlived its connection."""
    d = net.tautd(sections(key_file(net), 19) + '[services]\nchargen = 19\n')
    with keyed(STACK4, 19) as s:
        check(len(s.recv(1000)) > 0, 'chargen speaks')
        d.call('conn.close', id=established(d))
        read_all(s)
    wait_for(lambda: d.call('server.status')['totals']['time_wait'] == 1, 5, 'TIME-WAIT')
    equal(counters(d)['TCPMD5NotFound'], 0, 'the last ACK was signed')


def test_reload_and_secrecy(net):
    """New keys hold for new connections; no answer, trace, black box and no line of the log has one."""
    path, folder = key_file(net), os.path.join(net.tmp, 'dead')
    os.mkdir(folder)
    text = '[trace]\ndirectory = %s\nfiles = 20\n' % folder
    d = net.tautd(text + sections(path, 7))
    said, told = [], lambda *argv: said.append(d.cli(*argv))

    def look():
        """All that is told of a connection, as it is told to anybody."""
        for ident in [c['id'] for c in d.conns()]:
            said.append(str(d.call('conn.get', id=ident)) + str(d.call('trace.get', id=ident)))
            told('trace', ident), told('trace', ident, '--json'), told('explain', ident)
            saved = os.path.join(net.tmp, 'saved.taut')
            told('trace', ident, '-o', saved)
            with open(saved, 'rb') as f:
                said.append(f.read().decode('latin-1'))

    old = keyed(STACK4)
    established(d)  # what is half-open takes the key that its listener has now
    key_file(net, 'the second one')
    d.call('server.reload')
    check(refused(STACK4, KEY), 'the old key')
    with keyed(STACK4, key='the second one') as s:
        equal(exchange(s, b'new', half_close=False), b'new', 'the new key')
        look()
        check(any('md5' in x for x in said), 'signatures are told')
        reset_on_close(s)  # a black box
    old.sendall(b'old')
    equal(old.recv(10), b'old', 'a live connection keeps its key')
    old.close()
    d.write_config(text)
    d.call('server.reload')
    with tcp() as s:
        equal(exchange(s, b'none'), b'none', 'without a key')
    d.write_config(text + sections(path, 7))
    d.call('server.reload')
    check(refused(STACK4, None), 'with one again')
    wait_for(lambda: os.listdir(folder), 5, 'a black box')
    told('trace', '--dead'), told('trace', 'engine'), told('ss', '-tlnpie')
    said += [str(d.call(method)) for method in ('config.get', 'server.status', 'stats.get', 'conn.list')] + [d.output()]
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), 'rb') as f:
            said.append(f.read().decode('latin-1'))
    for key in (KEY, 'the second one'):
        for x in said:
            check(key not in x and key.encode().hex() not in x, f'a key in an answer, a record or the log: {x[:200]!r}')


def test_survives(net):
    """The worker is killed: connections, a program's listener and the configuration's go on with their keys."""
    d = net.tautd(sections(key_file(net), 7), v6=True)
    p = net.start('taut', os.path.join(os.path.dirname(TAUTD), '../cli/taut'), '-S', d.dir, 'listen', '-k', '--md5-key-file',
                  key_file(net, 'of a program', name='own'), '9000', stdin=subprocess.DEVNULL)
    wait_for(lambda: '9000' in str(d.call('server.status')['listeners']), 5, 'the listener')
    first = keyed(STACK4)
    first.sendall(b'before')
    equal(read_exactly(first, 6), b'before', 'echo')
    for _ in range(2):
        old = serving_worker(d)
        os.kill(old, signal.SIGKILL)
        serving_worker(d, other_than=old)
        first.sendall(b'after')
        equal(read_exactly(first, 5), b'after', 'echo of the connection that outlived it')
        check(refused(STACK4, 'other key', 0.5) and refused(STACK4, None, 0.5), 'the listener wants the key')
        with keyed(STACK6) as s:
            equal(exchange(s, b'new'), b'new', 'echo of a new connection')
        with socket.socket() as s:
            s.settimeout(0.5)
            set_key(s, STACK4, KEY)
            try:
                s.connect((STACK4, 9000))
                check(False, 'a program\'s listener takes another key')
            except TimeoutError:
                pass
        keyed(STACK4, 9000, 'of a program').close()
    first.close()
    check(p.running(), 'the program listens on')


def test_exposed_keys_are_refused(net):
    """A key that everybody can read is an error of the configuration that does not repeat it."""
    def complaint(text, mode=0o640):
        path = os.path.join(net.tmp, 'bad.conf')
        with open(path, 'w', encoding='ascii') as f:
            f.write(text)
        os.chmod(path, mode)
        r = subprocess.run([TAUTD, '-c', path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10, check=False)
        check(r.returncode != 0, 'it started')
        return r.stdout.decode()

    peer = '[md5 a]\npeer = 10.0.0.1\n'
    check('chmod 640' in complaint(peer + f'key_file = {key_file(net, mode=0o644)}\n'), 'a key file for everybody')
    said = complaint(peer + 'key = sesame\n', 0o644)
    check('md5 a.key' in said and 'sesame' not in said, f'a configuration for everybody: {said}')
    check('1 to 80' in complaint(peer + f'key_file = {key_file(net, "x" * 81)}\n'), 'too long')
    check('peer' in complaint('[md5 a]\nkey = sesame\n'), 'no peer')
    check('key_file' in complaint(peer), 'no key')
    said = complaint(peer + 'key = ' + 'y' * 81 + '\n')
    check('1 to 80' in said and 'yyy' not in said, f'a long key: {said}')


def test_never_unsigned_by_mistake(net):
    """A key that the control API cannot carry, an empty list, no key, no prefix: refused, never a socket that does not sign.
    Bytes that are no text sign by the configuration."""
    raw = b'\xff\xfe\x80'
    path, text = key_file(net, raw, name='raw'), key_file(net)
    d = net.tautd(sections(path, 7))
    server = Listener(HOST4, STACK4, key=None)
    status, out, err = d.cli('connect', '--md5-key-file', path, HOST4, str(server.port), stdin=b'x', check_status=False)
    equal((status, out, 'UTF-8' in err), (2, '', True), f'connect: {err}')
    refusals = [((path,), 2)] + [((text, '--md5-peer', peer), status) for peer, status in (
        ('nonsense', 1), ('', 1), ('10.0.0.0/33', 1), ('10.0.0.0/8 x', 2), ('1' * 100, 2))]
    for argv, expected in refusals:
        p = net.start('taut', os.path.join(os.path.dirname(TAUTD), '../cli/taut'), '-S', d.dir, 'listen', '--md5-key-file',
                      *argv, '9000')
        equal(p.wait(), expected, f'listen {argv}: exit status ({p.output()})')
    status, _, _ = d.cli('listen', '--md5-peer', 'nonsense', '9000', check_status=False)
    equal(status, 2, 'a prefix without a key')
    for method, params in (('tcp.listen', {'md5': []}), ('tcp.listen', {'md5': ['0.0.0.0/0 ']}),
                           ('tcp.listen', {'md5': ['0.0.0.0/0']}), ('tcp.connect', {'md5': '', 'address': HOST4})):
        d.control.fails('INVALID_PARAMS', method, port=server.port, **params)
    check(':9000' not in str(d.call('server.status')['listeners']), 'nobody listens')
    with keyed(STACK4, key=raw) as s:
        equal(exchange(s, b'any bytes'), b'any bytes', 'a key of any bytes by the configuration')
