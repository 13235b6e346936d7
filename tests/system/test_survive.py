"""The process that runs the stack is killed under load; its connections do not notice."""
import ctypes
import fcntl
import os
import random
import re
import resource
import selectors
import shutil
import signal
import socket
import struct
import threading
import time

from harness import (Control, FULL, HOST4, HOST6, IFNAME, SANITIZED, STACK4, STACK6, STACK_MAC, TAUTD, Failure, Skip, check, equal, need_other_builds,
                     read_exactly, wait_for)

PERIOD = 65521  # prime: no two places of a stream within reach look alike
SURVIVE = '[daemon]\nsurvive = yes\ncrash_limit = 0\n'


def block(seed):
    rng = random.Random(seed)
    return rng.randbytes(PERIOD) * 6


def chargen_block():
    lines = [''.join(chr(32 + (line + i) % 95) for i in range(72)) + '\r\n' for line in range(95)]
    return ''.join(lines).encode()


CHARGEN = chargen_block()


def expected(pattern, period, position, n):
    at = position % period
    return pattern[at:at + n]


def worker_of(d):
    """The present worker's pid; None between two."""
    try:
        with open(f'/proc/{d.pid}/task/{d.pid}/children', encoding='ascii') as f:
            children = f.read().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def serving_worker(d, other_than=None):
    def found():
        pid = worker_of(d)
        return pid if pid and pid != other_than else None
    return wait_for(found, 10, 'a worker runs', 0.001)


class Echoed:
    """Writes a pattern and checks what comes back, by position."""

    def __init__(self, name, sock, seed, window=200000):
        self.name, self.sock, self.window = name, sock, window
        self.pattern = block(seed)
        self.sent = self.got = 0
        self.finishing = self.shut = self.done = False

    def step(self, mask, load):
        if self.finishing and not self.shut:  # here, so that nothing is sent behind it
            self.sock.shutdown(socket.SHUT_WR)
            self.shut = True
        if mask & selectors.EVENT_READ:
            data = self.sock.recv(1 << 17)
            if not data:
                if not self.shut or self.got != self.sent:
                    raise Failure(f'{self.name}: end of stream after {self.got} of {self.sent} bytes')
                self.done = True
                return
            if data != expected(self.pattern, PERIOD, self.got, len(data)):
                raise Failure(f'{self.name}: wrong bytes at {self.got} (+{len(data)}): {self.where(data)}')
            self.got += len(data)
            load.bytes += len(data)
        room = self.window - (self.sent - self.got)
        if mask & selectors.EVENT_WRITE and room > 0 and not self.shut:
            try:
                self.sent += self.sock.send(expected(self.pattern, PERIOD, self.sent, min(room, 65536)))
            except BlockingIOError:
                pass

    def where(self, data):
        want = expected(self.pattern, PERIOD, self.got, len(data))
        first = next(i for i in range(len(data)) if data[i] != want[i])
        shift = self.pattern[:2 * PERIOD].find(data[first:first + 16])
        return f'first at {self.got + first}, looks like position {shift} modulo {PERIOD}, expected ' \
               f'{(self.got + first) % PERIOD}'

    def finish(self):
        self.finishing = True


class Chargen:
    def __init__(self, name, sock):
        self.name, self.sock, self.got, self.done, self.finishing = name, sock, 0, False, False

    def step(self, mask, load):
        if mask & selectors.EVENT_READ:
            data = self.sock.recv(1 << 16)
            if not data:
                raise Failure(f'{self.name}: end of stream')
            at = self.got % len(CHARGEN)
            if data != (CHARGEN * (2 + len(data) // len(CHARGEN)))[at:at + len(data)]:
                raise Failure(f'{self.name}: wrong bytes at {self.got}')
            self.got += len(data)
            load.bytes += len(data)

    def finish(self):
        self.done = True


class Echo:
    """The other end, in the test: gives back what comes."""

    def __init__(self, name, sock):
        self.name, self.sock, self.buffer, self.eof, self.done = name, sock, bytearray(), False, False

    def step(self, mask, load):
        if mask & selectors.EVENT_READ and len(self.buffer) < 300000 and not self.eof:
            data = self.sock.recv(1 << 17)
            self.eof = not data
            self.buffer += data
        if self.buffer:
            try:
                n = self.sock.send(self.buffer)
            except BlockingIOError:
                return
            del self.buffer[:n]
        if self.eof and not self.buffer and not self.done:
            self.done = True
            self.sock.shutdown(socket.SHUT_WR)

    def finish(self):
        pass


class Load:
    """All streams in one thread."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.flows, self.error, self.bytes, self.stopping = [], None, 0, False
        self.lock = threading.Lock()
        self.new = []
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def add(self, flow):
        flow.sock.setblocking(False)
        with self.lock:
            self.new.append(flow)
            self.flows.append(flow)

    def loop(self):
        try:
            while not self.stopping:
                with self.lock:
                    fresh, self.new = self.new, []
                for flow in fresh:
                    self.selector.register(flow.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, flow)
                moved = self.bytes
                for key, mask in self.selector.select(0.05):
                    try:
                        key.data.step(mask, self)
                    except BlockingIOError:
                        pass
                    except OSError as e:
                        raise Failure(f'{key.data.name}: {e}') from e
                    if key.data.done:
                        self.selector.unregister(key.data.sock)
                if moved == self.bytes:
                    time.sleep(0.002)
        except Failure as e:
            self.error = e
        except Exception as e:  # pylint: disable=broad-except
            self.error = Failure(f'load: {e!r}')

    def check(self):
        if self.error:
            raise self.error

    def finish(self, seconds=60):
        """Every stream comes to its orderly end with all its bytes."""
        own = [f for f in self.flows if not isinstance(f, Echo)]
        for flow in own:
            flow.finish()
        end = time.monotonic() + seconds
        while not all(f.done for f in own):
            self.check()
            if time.monotonic() > end:
                late = [f'{f.name} {f.got}/{getattr(f, "sent", 0)}' for f in own if not f.done]
                raise Failure(f'{len(late)} streams did not end: {late[:5]}')
            time.sleep(0.02)
        self.stopping = True
        self.thread.join(5)
        self.check()


class FirstFrame:
    """When did the stack send its first bytes after an instant? By the kernel's time stamps."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind((IFNAME, 3))
        self.sock.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self.sock.setsockopt(socket.SOL_SOCKET, 26, self.from_stack())  # SO_ATTACH_FILTER

    def from_stack(self):
        """Or this process would be woken for each frame of the load, on the processor that is to be measured."""
        program = ((0x28, 0, 0, 0xfffff004),  # ldh pkttype
                   (0x15, 0, 1, socket.PACKET_OUTGOING), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))
        self.program = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *x) for x in program))
        return struct.pack('HxxxxxxP', len(program), ctypes.addressof(self.program))

    @staticmethod
    def moves(frame):
        """Is it TCP with data?"""
        kind = frame[12:14]
        if kind == b'\x08\x00' and frame[23] == 6:
            tcp, end = 14 + (frame[14] & 15) * 4, 14 + int.from_bytes(frame[16:18], 'big')
        elif kind == b'\x86\xdd' and frame[20] == 6:
            tcp, end = 54, 54 + int.from_bytes(frame[18:20], 'big')
        else:
            return False
        return end > tcp + (frame[tcp + 12] >> 4) * 4

    def after(self, t0, seconds=5):
        """Seconds from t0 (CLOCK_REALTIME)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.sock.settimeout(0.5)
            try:
                frame, ancillary, _, sender = self.sock.recvmsg(96, 128)
            except OSError:
                continue
            if sender[2] == socket.PACKET_OUTGOING or not self.moves(frame):
                continue
            stamp = [struct.unpack('qq', c[2][:16]) for c in ancillary if c[1] == 35]
            at = stamp[0][0] + stamp[0][1] / 1e9 if stamp else 0
            if at > t0:
                return at - t0
        raise Failure('no byte from the stack after a kill')


def kernel_socket(address, port):
    s = socket.create_connection((address, port), timeout=20)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
    return s


def accept_all(net, load, listener, n):
    for _ in range(n):
        _, fds, _, _ = socket.recv_fds(listener, 65536, 4)
        equal(len(fds), 1, 'descriptors with an accepted connection')
        load.add(Echo('program end', socket.socket(fileno=fds[0])))


def build_load(net, d, load, scale):
    """scale x (echo, chargen, forwards to TCP and Unix backends, programs as servers and as clients), both families."""
    seed = 1
    listener_info, listener = d.control.call_fd('tcp.listen', port=9000)
    check(listener_info, 'tcp.listen')
    acceptor = threading.Thread(target=accept_all, args=(net, load, listener, 2 * scale), daemon=True)
    acceptor.start()
    for family in (4, 6):
        stack, host = (STACK4, HOST4) if family == 4 else (STACK6, HOST6)
        for i in range(scale):
            for name, port in (('echo', 7), ('forward', 8080), ('forward unix', 8081), ('program', 9000)):
                load.add(Echoed(f'{name} v{family} {i}', kernel_socket(stack, port), seed))
                seed += 1
            _, s = d.control.call_fd('tcp.connect', address=host, port=7000)
            load.add(Echoed(f'client v{family} {i}', s, seed))
            seed += 1
        for i in range(max(1, scale // 4)):
            s = kernel_socket(stack, 19)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
            load.add(Chargen(f'chargen v{family} {i}', s))
    acceptor.join(20)
    check(not acceptor.is_alive(), 'the program has its connections')
    return listener


def serve_echo(load):
    def handler(s):
        flow = Echo('backend', s.dup())
        load.add(flow)
        while not flow.done and not load.stopping:
            time.sleep(0.05)
    return handler


def start(net, text='', **options):
    load = Load()
    load.thread.start()
    backend = net.serve(serve_echo(load))
    path = os.path.join(net.tmp, 'backend.sock')
    net.serve(serve_echo(load), path=path)
    config = (SURVIVE + text + '[services]\necho = 7\nchargen = 19\ndiscard = off\n'
              f'[forward tcp]\nlisten = 8080\nto = tcp:127.0.0.1:{backend.port}\n'
              f'[forward unix]\nlisten = 8081\nto = unix:{path}\n')
    d = net.tautd(config, v6=True, **options)
    net.serve(serve_echo(load), HOST4, 7000)
    net.serve(serve_echo(load), HOST6, 7000, family=socket.AF_INET6)
    return d, load


def need_files(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < n + 200 and hard != resource.RLIM_INFINITY:
        raise Skip(f'{n} descriptors are needed, {hard} allowed')
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p / 100))]


def kill_and_go_on(net, d, load, kills, seed, number=signal.SIGKILL):
    rng = random.Random(seed)
    first = FirstFrame()
    gaps, pid = [], None
    for k in range(kills):
        pid = serving_worker(d, pid)
        time.sleep(rng.choice((rng.random() * 0.02, rng.random() * 0.15, 0.05)))
        load.check()
        os.kill(pid, number)
        gaps.append(first.after(time.time() + 0.0002))
    load.check()
    return gaps


def report(net, what, gaps, load):
    net.say(f'{what}, {load.bytes >> 20} MB checked; first byte after {percentile(gaps, 50) * 1e3:.1f} ms (median), '
            f'{percentile(gaps, 99) * 1e3:.1f} ms (p99)')


def restores(d):
    """What each restore said: (us, connections, lost, without owner)."""
    return [tuple(int(x) for x in m) for m in re.findall(
        r'restored in (\d+) us: (\d+) connections.*lost (\d+), without owner (\d+)', d.output())]


def test_kills(net):
    """Kills of the worker at random instants under load, 100 connections over both families. runs alone. limit: 900 s"""
    d, load = start(net)
    kills = int(os.environ.get('TAUT_KILLS', 1000 if FULL and not SANITIZED else 30))
    seed = int(os.environ.get('TAUT_SEED', time.time_ns() & 0xffff))
    scale = 2 if SANITIZED else 10
    listener = build_load(net, d, load, scale)
    time.sleep(0.3)
    before = {c['id'] for c in d.conns(limit=1000) if c['state'] == 'ESTABLISHED'}
    check(len(before) >= 10 * scale, f'{len(before)} connections')
    gaps = kill_and_go_on(net, d, load, kills, seed)
    time.sleep(0.5)
    d.control.close()
    d.control = Control(d.dir)
    after = {c['id'] for c in d.conns(limit=1000)}
    check(before <= after, f'{len(before - after)} connections have another id, or are gone')
    load.add(Echoed('new one', kernel_socket(STACK4, 7), 9999))
    load.finish()
    for _, _, lost, ownerless in restores(d):
        equal((lost, ownerless), (0, 0), 'connections lost or without owner')
    listener.close()
    net.say(f'restore {percentile([r[0] for r in restores(d)], 50) / 1e3:.1f} ms (median)')
    report(net, f'{kills} kills (seed {seed})', gaps, load)


def test_idle_restore(net):
    """What a restore costs that has many idle connections. runs alone. limit: 300 s"""
    n = 10000 if FULL and not SANITIZED else 2000
    d = net.tautd(SURVIVE + '[services]\necho = 7\n')
    need_files(n)
    conns = []
    for i in range(n):
        s = socket.socket()
        s.bind((HOST4, 0))
        s.connect((STACK4, 7))
        conns.append(s)
    pid = None
    for _ in range(int(os.environ.get("TAUT_KILLS", 20))):
        pid = serving_worker(d, pid)
        conns[0].sendall(b'x')
        equal(conns[0].recv(1), b'x', 'echo')
        os.kill(pid, signal.SIGKILL)
    conns[1].sendall(b'y')
    equal(conns[1].recv(1), b'y', 'echo after the last kill')
    took = [r[0] / 1e3 for r in restores(d)]
    check(all(r[1] >= n for r in restores(d)), 'every connection was restored each time')
    net.say(f'{n} idle connections: restored in {percentile(took, 50):.1f} ms (median), {max(took):.1f} ms (most)')
    for s in (conns[0], conns[n // 2], conns[-1]):
        s.sendall(b'z')
        equal(s.recv(1), b'z', 'echo of an idle one')


def test_other_deaths(net):
    """SIGSEGV, SIGABRT and a hang of the worker under load: the same as a kill. limit: 120 s"""
    if SANITIZED:
        raise Skip('sanitizers catch these signals and report them')
    d, load = start(net, 'hang = 500ms\n')
    listener = build_load(net, d, load, 3)
    gaps = []
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGTRAP):
        gaps += kill_and_go_on(net, d, load, 3, number, number)
    serving_worker(d)
    time.sleep(0.2)
    pid = worker_of(d)
    os.kill(pid, signal.SIGSTOP)
    d.wait_output(f'worker {pid} made no progress', 10)
    serving_worker(d, pid)
    time.sleep(0.3)
    load.check()
    load.finish()
    listener.close()
    for _, _, lost, ownerless in restores(d):
        equal((lost, ownerless), (0, 0), 'connections lost or without owner')
    report(net, 'SIGSEGV, SIGABRT, SIGTRAP, SIGSTOP', gaps, load)


def test_escalation(net):
    """A connection that crashes the worker twice is reset alone; too many crashes reset all. limit: 60 s"""
    config = '[daemon]\nsurvive = yes\ncrash_limit = 6\n[services]\necho = 7\ndiscard = 9\n'
    d = net.tautd(config, env={'TAUT_CRASH_PORT': '9'})
    d.call('config.set', name='tcp.tcp_fin_timeout', value=33)
    good = kernel_socket(STACK4, 7)
    wait_for(lambda: d.call('server.status')['totals']['parked'] == 1, 5, 'parked: the next one has its place')
    bad = kernel_socket(STACK4, 9)
    bad.sendall(b'well')
    bad.send(b'!', socket.MSG_OOB)
    d.wait_output('crashed the worker twice within 10 s: it is reset alone', 20)
    d.wait_output(r'record, from 0: id=\d+ ', 5)
    d.wait_output(r'record, from \d+: .*synack_retrans=', 5)
    check(reset_within(bad, 10), 'the connection that crashes is reset')
    good.sendall(b'still here')
    equal(read_exactly(good, 10), b'still here', 'echo of the other one')
    for _ in range(7):
        pid = serving_worker(d)
        if re.search('more than 6 crashes within a minute', d.output()):
            break
        os.kill(pid, signal.SIGKILL)
        serving_worker(d, pid)
        time.sleep(0.1)
    d.wait_output('more than 6 crashes within a minute: all connections are reset', 5)
    check(reset_within(good, 10, b'gone?'), 'with a fresh arena every connection is reset')
    fresh = kernel_socket(STACK4, 7)
    fresh.sendall(b'anew')
    equal(read_exactly(fresh, 4), b'anew', 'a new connection')
    value = Control(d.dir).call('config.get', name='tcp.tcp_fin_timeout')['rows'][0]['value']
    equal(str(value), '33', 'what was set while running')


def reset_within(s, seconds, data=None):
    s.settimeout(0.2)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if data:
                s.send(data)
            if s.recv(100) == b'':
                return False
        except (ConnectionResetError, BrokenPipeError):
            return True
        except TimeoutError:
            pass
    return False


def test_end(net):
    """SIGTERM ends supervisor and worker in good order; what they made is gone. limit: 30 s"""
    d = net.tautd(SURVIVE + '[services]\necho = 7\n')
    s = kernel_socket(STACK4, 7)
    s.sendall(b'accepted')  # a handshake that is under way when SIGTERM comes ends in a reset
    equal(s.recv(10), b'accepted', 'echo')
    pid = worker_of(d)
    d.expect_end = True
    equal(d.stop(), 0, 'exit status')
    equal(s.recv(10), b'', 'FIN')
    check(not os.path.exists(f'/proc/{pid}'), 'the worker is gone')
    check(not os.path.exists(os.path.join(d.dir, 'control.sock')), 'the socket is gone')
    check('ended' in d.output(), d.output())


def copied_binary(net, name='tautd'):
    path = os.path.join(net.tmp, name)
    shutil.copy(TAUTD, path)
    return path


def replace_binary(path, with_file=None, text=None):
    """As a package does it: a new file under the old name."""
    new = path + '.new'
    if text is None:
        shutil.copy(with_file, new)
    else:
        with open(new, 'w', encoding='ascii') as f:
            f.write(text)
    os.chmod(new, 0o755)
    os.rename(new, path)


def test_upgrade(net):
    """server.upgrade under load: same process, same connections, no RST; a binary that can't is refused. limit: 180 s"""
    need_other_builds()
    path = copied_binary(net)
    d, load = start(net, binary=path)
    listener = build_load(net, d, load, 3)
    time.sleep(0.3)
    before = {c['id'] for c in d.conns(limit=1000) if c['state'] == 'ESTABLISHED'}
    replace_binary(path, text='#!/bin/sh\necho of no use\nexit 1\n')
    e = d.control.fails('UPGRADE_REFUSED', 'server.upgrade')
    check('of no use' in str(e), f'the reason: {e}')
    load.check()
    counted = counters(d)
    capture = net.capture(snaplen=96)
    for n in range(4):
        # To a build with another record and back, with one in between that is the same.
        replace_binary(path, with_file=(TAUTD + '_next', TAUTD + '_next', TAUTD, TAUTD)[n])
        pid = d.pid
        worker = worker_of(d)
        check(asks_upgrade(d), f'the old worker is gone: {d.output()[-300:]}')
        serving_worker(d, worker)
        d.control = Control(d.dir)
        equal(d.call('server.hello')['pid'], pid, 'the process')
        time.sleep(0.3)
        load.check()
    said = d.cli('upgrade')
    check('upgraded: tautd' in said and str(d.pid) in said, said)
    d.control = Control(d.dir)
    after = {c['id'] for c in d.conns(limit=1000)}
    check(before <= after, f'{len(before - after)} connections are gone')
    moved = load.bytes
    wait_for(lambda: load.bytes > moved + 1000000, 10, 'bytes move', 0.02)
    load.check()
    resets = capture.stop().tshark('tcp.flags.reset == 1')
    check(not resets, f'RSTs: {resets[:3]}')
    load.finish()
    listener.close()
    equal(len(re.findall('takes over from generation', d.output())), 5, 'upgrades')
    equal(len(re.findall('records of another version were converted', d.output())), 2, 'conversions')
    equal(len(re.findall('caches of another layout are forgotten: metrics\n', d.output())), 2, 'and only those caches')
    check(all(int(n) >= 1 for n in re.findall(r'caches: (\d+) neighbours', d.output())), 'neighbours outlive upgrades')
    lower = {k: v for k, v in counted.items() if counters(d).get(k, 0) < v}
    equal(lower, {}, 'counters that are lower than before')
    for _, _, lost, ownerless in restores(d):
        equal((lost, ownerless), (0, 0), 'connections lost or without owner')


def asks_upgrade(d):
    """True if the answer is the end of the connection."""
    c = Control(d.dir)
    c.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"server.upgrade"}')
    try:
        return c.receive() is None
    except ConnectionResetError:
        return True


def test_idle_is_no_hang(net):
    """A worker that sleeps longer than `hang` and then works is not killed. limit: 30 s"""
    d = net.tautd('[daemon]\nsurvive = yes\nhang = 300ms\n[services]\necho = 7\n')
    s = kernel_socket(STACK4, 7)
    pid = worker_of(d)
    for pause in (0.1, 0.9, 0.4, 1.3, 0.7, 1.1):
        time.sleep(pause)
        s.sendall(b'x')
        equal(s.recv(1), b'x', 'echo')
    equal(worker_of(d), pid, 'the worker')
    check('no progress' not in d.output(), d.output())


class Manager:
    """What a service manager is to the daemon: a notify socket, a descriptor store, a watchdog, activation."""

    def __init__(self, net, config, watchdog_s=0, activate=False):
        self.net, self.watchdog_s = net, watchdog_s
        self.dir = os.path.join(net.tmp, 'managed')
        os.mkdir(self.dir)
        self.config_path = os.path.join(self.dir, 'taut.conf')
        with open(self.config_path, 'w', encoding='utf-8') as f:
            f.write(f'[interface]\nname = {IFNAME}\nmac = {STACK_MAC}\nhost_address = {HOST4}/24\n[network]\n'
                    f'address = {STACK4}/24\n[control]\ndirectory = {self.dir}\n[limits]\ndrain = 500ms\n{config}')
        self.path = os.path.join(self.dir, 'notify')
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(self.path)
        self.store, self.messages, self.sockets = {}, [], []
        if activate:
            for name, kind in (('control.sock', socket.SOCK_STREAM), ('control.seq', socket.SOCK_SEQPACKET)):
                s = socket.socket(socket.AF_UNIX, kind)
                s.bind(os.path.join(self.dir, name))
                s.listen(16)
                self.sockets.append(s)
        self.process, self.binary = None, TAUTD

    def start(self):
        passed = [(name, fd) for name, fd in self.store.items()] + [('control', s.fileno()) for s in self.sockets]
        env = dict(os.environ, NOTIFY_SOCKET=self.path)
        if self.watchdog_s:
            env['WATCHDOG_USEC'] = str(int(self.watchdog_s * 1e6))
        if passed:
            env.update(LISTEN_FDS=str(len(passed)), LISTEN_FDNAMES=':'.join(name for name, _ in passed))

        def place():
            high = [os.dup2(fd, 100 + i) for i, (_, fd) in enumerate(passed)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i, inheritable=True)
        self.process = self.net.start('tautd', self.binary, '-c', self.config_path, env=env, preexec_fn=place,
                                      pass_fds=[3 + i for i in range(len(passed))])
        self.wait('READY=1')

    def wait(self, text, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.notify.settimeout(max(0.01, end - time.monotonic()))
            try:
                data, fds, _, _ = socket.recv_fds(self.notify, 4096, 4)
            except TimeoutError:
                break
            lines = data.decode().split('\n')
            name = next((x[7:] for x in lines if x.startswith('FDNAME=')), None)
            if 'FDSTORE=1' in lines:
                check('FDPOLL=0' in lines, 'stored whatever happens at the other end')
                self.store[name] = fds[0]
            if 'FDSTOREREMOVE=1' in lines:
                os.close(self.store.pop(name))
            if 'BARRIER=1' in lines and fds:
                os.close(fds[0])
            self.messages.append((time.monotonic(), data.decode()))
            if text in lines:
                return
            check(text == '(nothing)' or self.process.running(), f'tautd ended: {self.process.output()[-500:]}')
        raise Failure(f'no {text} within {seconds} s: {self.process.output()[-800:]}')

    def drain(self, seconds):
        """What comes within that time."""
        n = len(self.messages)
        try:
            self.wait('(nothing)', seconds)
        except Failure:
            pass
        return self.messages[n:]


def test_store(net):
    """A fake service manager: the supervisor is killed, the next one goes on with TAP and arena. limit: 60 s"""
    m = Manager(net, '[daemon]\nsurvive = yes\n[services]\necho = 7\n')
    m.start()
    equal(sorted(m.store), ['arena', 'tap'], 'what is stored')
    control = Control(m.dir)
    _, listener = control.call_fd('tcp.listen', port=9000)
    echo, program = kernel_socket(STACK4, 7), kernel_socket(STACK4, 9000)
    _, fds, _, _ = socket.recv_fds(listener, 4096, 1)
    end = socket.socket(fileno=fds[0])
    program.sendall(b'hello')
    equal(end.recv(5), b'hello', 'the program reads')
    echo.sendall(b'one')
    equal(read_exactly(echo, 3), b'one', 'echo')
    m.process.stop(signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f'/proc/{m.process.pid}/exe'), 5, 'it is gone')
    echo.sendall(b'while nobody is there')
    m.start()
    equal(read_exactly(echo, 21), b'while nobody is there', 'echo after the supervisor was killed')
    check('going on with the arena and the TAP' in m.process.output(), m.process.output())
    check(re.search(r'restored .* 2 connections.* lost 0, without owner 1', m.process.output()), m.process.output())
    check(reset_within(program, 5, b'?'), 'what hung on a descriptor of the dead supervisor is reset')
    check('listener of program' in m.process.output(), 'and the log says what happened to it')
    # An arena of somebody else is refused, and said so.
    m.process.stop(signal.SIGKILL)
    os.pwrite(m.store['arena'], b'\x55', 40)
    m.start()
    check('the arena cannot be used' in m.process.output(), m.process.output())
    check(reset_within(echo, 5, b'?'), 'with a fresh arena it is reset')
    equal(m.process.stop(), 0, 'orderly end')


def test_watchdog(net):
    """The manager's watchdog is fed, also when idle; not while the worker hangs. limit: 60 s"""
    m = Manager(net, '[daemon]\nsurvive = yes\nhang = 0\n[services]\nchargen = 19\n', watchdog_s=0.6)
    m.start()
    fed = [t for t, x in m.drain(2.5) if 'WATCHDOG=1' in x]
    check(len(fed) >= 5 and max(b - a for a, b in zip(fed, fed[1:])) < 0.6, f'fed {len(fed)} times')
    worker = int(open(f'/proc/{m.process.pid}/task/{m.process.pid}/children', encoding='ascii').read())
    unread = kernel_socket(STACK4, 19)  # its window closes, and a probe's timer runs
    time.sleep(0.3)
    os.kill(worker, signal.SIGSTOP)
    m.drain(0.7)
    hungry = [x for _, x in m.drain(1.5) if 'WATCHDOG=1' in x]
    equal(hungry, [], 'fed while the worker hangs')
    os.kill(worker, signal.SIGKILL)
    m.wait('WATCHDOG=1', 5)
    unread.close()
    equal(m.process.stop(), 0, 'orderly end')


def test_activation(net):
    """Control sockets that the manager listens on are served, and stay. limit: 30 s"""
    m = Manager(net, '[services]\necho = 7\n', activate=True)
    early = Control(m.dir)
    early.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"server.hello"}')
    m.start()
    equal(early.receive()['result']['name'], 'taut', 'who connected before the daemon ran')
    equal(Control(m.dir, seq=False).call('server.hello')['pid'], m.process.pid, 'the stream socket')
    equal(m.process.stop(), 0, 'orderly end')
    check(os.path.exists(os.path.join(m.dir, 'control.sock')), 'the socket is the manager\'s')


def upload(address, megabytes):
    """MB/s into the discard service."""
    data = bytes(1 << 20)
    s = kernel_socket(address, 9)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    began = time.monotonic()
    for _ in range(megabytes):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    equal(s.recv(1), b'', 'the end')
    return megabytes / (time.monotonic() - began)


def download(address, megabytes):
    """MB/s from chargen."""
    s = kernel_socket(address, 19)
    left, began = megabytes << 20, time.monotonic()
    while left > 0:
        left -= len(s.recv(1 << 20))
    s.close()
    return megabytes / (time.monotonic() - began)


def test_cost(net):
    """Throughput with survive on against off, one after the other, in both directions: at least 0.9. runs alone.
    limit: 120 s"""
    if SANITIZED:
        raise Skip('what sanitizers cost is not what survival costs')
    services = '[services]\ndiscard = 9\nchargen = 19\n'
    net.tautd(SURVIVE + services)
    net.tautd('[daemon]\nsurvive = no\n' + services, name='taut1', host4='10.79.0.1', stack4='10.79.0.2')
    for _ in range(3):  # what others do on this machine in one of them is no cost
        ratios = {}
        for name, move, megabytes in (('in', upload, 384), ('out', download, 1536)):
            rates = {STACK4: [], '10.79.0.2': []}
            for i in range(9 if not FULL else 21):
                for address in sorted(rates, reverse=bool(i % 2)):
                    rates[address].append(move(address, megabytes))
            on, off = (percentile(rates[a], 50) for a in (STACK4, '10.79.0.2'))
            ratios[name] = on / off
            net.say(f'{name}: {on:.0f} MB/s with survive, {off:.0f} without, ratio {on / off:.2f}')
        if min(ratios.values()) >= 0.9:
            return
    raise Failure(f'ratios, the third time: {ratios}')


def test_sandbox(net):
    """The worker has no way to files, programs or new code; serving, reload and restart go on in it. limit: 60 s"""
    if SANITIZED:
        raise Skip('sanitizers need calls of their own')
    text = SURVIVE + '[services]\necho = 7\n'
    d = net.tautd(text)
    d.wait_output('sandbox of the worker: Landlock', 5)
    for _ in range(2):
        pid = serving_worker(d)
        with open(f'/proc/{pid}/status', encoding='ascii') as f:
            status = dict(line.split(':', 1) for line in f.read().splitlines() if ':' in line)
        equal(status['NoNewPrivs'].strip(), '1', 'no new privileges')
        with open(f'/proc/{d.pid}/status', encoding='ascii') as f:
            of_both = status['CapEff'] + status['CapPrm'] + status['CapBnd'] + \
                ''.join(line.split(':')[1] for line in f if re.match('Cap(Eff|Prm|Bnd)', line))
        equal(set(of_both.replace('\n', '').replace('\t', '')), {'0'}, 'capabilities of supervisor and worker')
        if 'seccomp' in d.output():
            equal(status['Seccomp'].strip(), '2', 'a filter of system calls')
        d.write_config(text + 'discard = 9\n')
        d.call('server.reload')
        kernel_socket(STACK4, 9).close()
        d.call('config.set', name='tcp.tcp_sack', value=0)
        d.write_config('nonsense')
        d.control.fails('CONFIG_INVALID', 'server.reload')
        os.kill(pid, signal.SIGKILL)
        serving_worker(d, pid)
        s = kernel_socket(STACK4, 9)
        s.sendall(b'the reload outlived the worker')
        s.close()
        d.control = Control(d.dir)
        value = d.call('config.get', name='tcp.tcp_sack')
        check(value.get('value') in ('0', 0) or "'0'" in str(value), f'what was set while running outlives it: {value}')


def advertise(prefix, seconds=1800):
    """A router advertisement from the kernel's end, with a prefix for addresses."""
    with socket.socket() as s:
        mac = fcntl.ioctl(s, 0x8927, struct.pack('256s', IFNAME.encode()))[18:24]  # SIOCGIFHWADDR
    message = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, seconds, 0, 0) + b'\1\1' + mac
    message += struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 86400, 14400, 0) + socket.inet_pton(socket.AF_INET6, prefix)
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    index = socket.if_nametoindex(IFNAME)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    s.sendto(message, ('ff02::1', 0, 0, index))
    s.close()


def echo_once(address, port=7):
    s = kernel_socket(address, port)
    s.sendall(b'x' * 20000)
    equal(len(read_exactly(s, 20000)), 20000, 'echo')
    s.close()


def remembered(d):
    """What is to outlive the worker, without what time changes of it."""
    status = d.call('server.status')
    return {
        'neighbours': sorted((n['address'], n['mac'], n['router']) for n in d.call('neigh.list')['neighbours'] if n['mac']),
        'metrics': sorted(tuple((k, v) for k, v in m.items() if k != 'age_s') for m in d.call('metrics.list')['metrics']),
        'addresses': sorted((a['address'], a['state'], a['origin']) for a in status['addresses']),
        'routes': sorted((r['prefix'], str(r['gateway']), r['from_ra']) for r in status['routes']),
        'config': {r['name']: r['value'] for r in d.call('config.get')['rows']},
        'listeners': sorted((x['address'], x['backlog']) for x in status['listeners']),
    }


def counters(d):
    groups = d.call('stats.get')
    return {(g, name): v for g, values in groups.items() for name, v in values.items()}


def test_caches(net):
    """Neighbours, metrics, SLAAC, routers, counters and settings outlive the worker; nobody is asked again. limit: 90 s"""
    d = net.tautd(SURVIVE + '[services]\necho = 7\n', v6=True)
    d.call('config.set', name='tcp.tcp_no_ssthresh_metrics_save', value=0)
    _, listener = d.control.call_fd('tcp.listen', address=STACK6, port=9001)  # on an address that must not be tentative
    for address in (STACK4, STACK6):
        echo_once(address)
    slaac = '2001:db8:5151:0:' + ':'.join(f'{x:x}' for x in struct.unpack('!4H', interface_id()))

    def usable():
        advertise('2001:db8:5151::')
        return any(a['address'] == socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, slaac)) and
                   a['state'] == 'preferred' for a in d.call('server.status')['addresses'])
    wait_for(usable, 10, f'{slaac} is usable: {d.call("server.status")["addresses"]}', 0.5)
    wait_for(lambda: len(d.call('metrics.list')['metrics']) == 2, 5, 'metrics of both families', 0.05)
    time.sleep(2.5)  # announcements are over
    before, counted = remembered(d), counters(d)
    check(any(r[2] and r[0] == '::/0' for r in before['routes']), f'a default router: {before["routes"]}')
    check(len(before['neighbours']) >= 3, f'neighbours: {before["neighbours"]}')
    for n in range(3):
        capture = net.capture()
        pid = serving_worker(d)
        os.kill(pid, signal.SIGKILL)
        serving_worker(d, pid)
        d.control = Control(d.dir)
        status = d.call('server.status')
        equal(remembered(d), before, f'what is known after {n + 1} crashes')
        now = counters(d)
        lower = {k: (v, now.get(k)) for k, v in counted.items() if now.get(k, 0) < v}
        equal(lower, {}, 'counters that are lower than before')
        counted = now
        equal(status['generation'], n + 2, 'generation')
        check(status['uptime_s'] < 2 < status['counters_s'], f'uptime of the worker, and of counters: {status}')
        for address in (STACK4, STACK6):
            echo_once(address)
        kernel_socket(STACK6, 9001).close()
        _, fds, _, _ = socket.recv_fds(listener, 4096, 4)
        os.close(fds[0])
        time.sleep(1.3)  # as long as a detection of duplicates would take
        capture.stop()
        asked = capture.tshark(f'eth.src == {STACK_MAC} and (arp.opcode == 1 or icmpv6.type == 135 or icmpv6.type == 133)')
        equal(asked, [], 'requests for neighbours, routers or duplicates')
        check(capture.tshark(f'eth.src == {STACK_MAC} and tcp'), 'the capture saw the stack')
        before['metrics'] = remembered(d)['metrics']  # the echoes were measured
    found = re.findall(r'caches: (\d+) neighbours, (\d+) addresses, (\d+) routes, (\d+) paths, (\d+) destinations; '
                       r'damaged and forgotten (\d+)', d.output())
    equal(len(found), 3, 'said so')
    check(all(int(f[0]) >= 3 and int(f[1]) >= 4 and int(f[2]) >= 2 and int(f[4]) == 2 and f[5] == '0' for f in found), str(found))
    listener.close()


def test_settings(net):
    """What calls and reloads changed is there after a crash, also one with a fresh arena; sizes are the arena's. limit: 60 s"""
    text = '[daemon]\nsurvive = yes\ncrash_limit = 2\n[services]\necho = 7\n[tcp]\ntcp_max_tw_buckets = 4\n'
    d = net.tautd(text)
    d.write_config(text + '[log]\nlevel = debug\n')
    d.call('server.reload')
    d.call('config.set', name='tcp.tcp_max_tw_buckets', value=1000000)  # more than the arena has room for
    said = len(re.findall('sandbox of the worker', d.output()))
    pid = None
    for n in range(3):  # the third is one too many
        pid = serving_worker(d, pid)
        os.kill(pid, signal.SIGKILL)
        serving_worker(d, pid)
        d.control = Control(d.dir)
        row = d.call('config.get', name='tcp.tcp_max_tw_buckets')['rows'][0]
        equal(row['value'], '1000000', f'what was set, after {n + 1} crashes')
        wait_for(lambda: len(re.findall('sandbox of the worker', d.output())) > said, 5, 'messages of the level that was set')
        said = len(re.findall('sandbox of the worker', d.output()))
        for _ in range(8 if n < 2 else 0):
            s = kernel_socket(STACK4, 7)
            s.sendall(b'x')
            equal(s.recv(1), b'x', 'echo')
            end = d.conns(state='ESTABLISHED')[0]['id']
            d.call('conn.close', id=end)
            equal(s.recv(1), b'', 'FIN')
            s.close()
        check(d.call('server.status')['totals']['time_wait'] <= 4, 'TIME-WAIT entries: not more than places in the arena')
    d.wait_output('more than 2 crashes within a minute', 5)


def interface_id():
    mac = bytes.fromhex(STACK_MAC.replace(':', ''))
    return bytes([mac[0] ^ 2]) + mac[1:3] + b'\xff\xfe' + mac[3:]
