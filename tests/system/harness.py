"""
tests/system/harness.py: what every system test stands on (theory of operation).

A test is a function test_*(net) in a test_*.py. `run` starts each one as process 1 of a PID namespace of its own, in a
network and a mount namespace of its own: whatever it leaves behind (daemons, interfaces, sockets, mounts) the kernel
takes away with process 1. The addresses below exist only there.

    kernel's end of the TAP: taut0  10.77.0.1/24  fd77::1/64      taut's end:  10.77.0.2/24  fd77::2/64

The kernel's TCP on one end is the judge of taut's TCP on the other. Nothing here waits without a limit.
"""
import ctypes
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get('TAUT_BUILD', os.path.join(ROOT, 'build')))
FULL = os.environ.get('TAUT_FULL') == '1'
SANITIZED = os.environ.get('TAUT_SANITIZED') == '1'

TAUTD = os.path.join(BUILD, 'src/daemon/tautd')
TAUT = os.path.join(BUILD, 'src/cli/taut')
TAUT_WEB = os.path.join(BUILD, 'src/web/taut-web')

IFNAME = 'taut0'
HOST4, STACK4 = '10.77.0.1', '10.77.0.2'
HOST6, STACK6 = 'fd77::1', 'fd77::2'
FAKE4, FAKE_MAC = '10.77.0.99', bytes.fromhex('02770000dead')
STACK_MAC = '02:77:00:00:00:02'

TUNSETIFF, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


class Skip(Exception):
    """The machine can't run this test; the message says what is missing."""


class Failure(AssertionError):
    """The test found what must not be."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def equal(got, expected, what):
    if got != expected:
        raise Failure(f'{what}: got {short(got)}, expected {short(expected)}')


def short(value, limit=300):
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + f'... ({len(text)} characters)'


def wait_for(condition, seconds, what, step=0.01):
    """Calls condition() until it is true; its value. Failure after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f'not within {seconds} s: {what}')
        time.sleep(step)


def need_other_builds():
    """tautd_next and tautd_far are made in builds without sanitizers only: they double what is compiled."""
    if not os.path.exists(TAUTD + '_next'):
        raise Skip('this build has no binaries of other versions')


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f'{program} is not installed')


def sh(*argv, check_status=True, timeout=60, stdin=None, env=None):
    """Runs a command; its stdout. Failure with its stderr if it fails (or status and both, if check_status is off)."""
    try:
        r = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                           input=stdin, env=env)
    except subprocess.TimeoutExpired as e:
        raise Failure(f'{argv[0]} did not end within {timeout} s: {" ".join(map(str, argv))}') from e
    out, err = r.stdout.decode(errors='replace'), r.stderr.decode(errors='replace')
    if not check_status:
        return r.returncode, out, err
    if r.returncode != 0:
        raise Failure(f'{" ".join(map(str, argv))}: exit status {r.returncode}: {(err or out).strip()[-600:]}')
    return out


# ---- The control socket ----------------------------------------------------------------------------------------------

class RpcError(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('code')} {error.get('message')}")
        self.code = error.get('code')
        self.message = error.get('message', '')
        self.data = error.get('data') or {}
        self.name = self.data.get('name')


class Control:
    """One client. seq: the SEQPACKET socket, whose answers may carry a descriptor (left in .fd)."""

    def __init__(self, directory, seq=True, timeout=20):
        self.seq = seq
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if seq else socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(os.path.join(directory, 'control.seq' if seq else 'control.sock'))
        self.serial = 0
        self.rest = b''
        self.fd = -1
        self.events = []

    def close(self):
        self.sock.close()

    def send_raw(self, data):
        self.sock.sendall(data)

    def receive(self):
        """The next object from the daemon, None at the end."""
        if self.seq:
            data, fds, _, _ = socket.recv_fds(self.sock, 1 << 22, 4)
            self.fd = fds[0] if fds else -1
            return json.loads(data) if data else None
        while b'\n' not in self.rest:
            data = self.sock.recv(65536)
            if not data:
                return None
            self.rest += data
        line, self.rest = self.rest.split(b'\n', 1)
        return json.loads(line)

    def send(self, method, params=None, ident=True):
        request = {'jsonrpc': '2.0', 'method': method}
        if ident:
            self.serial += 1
            request['id'] = self.serial
        if params is not None:
            request['params'] = params
        self.send_raw(json.dumps(request).encode() + (b'' if self.seq else b'\n'))
        return self.serial

    def call(self, method, /, **params):
        serial = self.send(method, params or None)
        while True:
            answer = self.receive()
            if answer is None:
                raise Failure(f'{method}: the daemon ended the control connection')
            if answer.get('method') == 'event':
                self.events.append(answer['params'])
                continue
            equal(answer.get('id'), serial, f'{method}: id of the answer')
            if 'error' in answer:
                raise RpcError(answer['error'])
            return answer['result']

    def call_fd(self, method, /, **params):
        """(result, socket object)"""
        result = self.call(method, **params)
        check(self.fd >= 0, f'{method}: no descriptor came with the answer')
        s = socket.socket(fileno=self.fd)
        self.fd = -1
        s.settimeout(20)
        return result, s

    def fails(self, error, method, /, **params):
        """The call must be refused with this symbolic name."""
        try:
            result = self.call(method, **params)
        except RpcError as e:
            equal(e.name, error, f'{method}: symbolic name of the error ("{e.message}")')
            return e
        raise Failure(f'{method} {params}: succeeded with {short(result)}, expected the error {error}')


# ---- The network and what runs in it -------------------------------------------------------------------------------

class Process:
    """A process of the test, in a session of its own, with its output in a file."""

    def __init__(self, net, name, argv, **options):
        self.name = name
        self.out_path = os.path.join(net.tmp, f'{name}.{len(net.processes)}.log')
        self.out = open(self.out_path, 'wb')
        stdout = options.pop('stdout', self.out)
        self.popen = subprocess.Popen([str(a) for a in argv], stdin=options.pop('stdin', subprocess.DEVNULL),
                                      stdout=stdout, stderr=self.out, start_new_session=True, **options)
        self.pid = self.popen.pid
        net.processes.append(self)

    def output(self):
        with open(self.out_path, 'rb') as f:
            return f.read().decode(errors='replace')

    def running(self):
        return self.popen.poll() is None

    def wait(self, seconds=20):
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired as e:
            raise Failure(f'{self.name} did not end within {seconds} s; last output: {self.output()[-400:]}') from e

    def send_signal(self, number):
        if self.running():
            os.kill(self.pid, number)

    def stop(self, number=signal.SIGTERM, seconds=10):
        """Ends it; the exit status."""
        self.send_signal(number)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(5)
            return None

    def wait_output(self, pattern, seconds=10):
        def found():
            m = re.search(pattern, self.output())
            if not m and not self.running():
                raise Failure(f'{self.name} ended ({self.popen.returncode}): {self.output()[-600:]}')
            return m
        return wait_for(found, seconds, f'{self.name} says /{pattern}/')


class Daemon(Process):
    """A tautd with a configuration of the test. Ready when the constructor returns."""

    def __init__(self, net, text='', name=IFNAME, host4=HOST4, stack4=STACK4, host6=None, stack6=None, offload=True,
                 start_timeout=15, wait6=None, argv_prefix=(), env=None, mac=STACK_MAC, binary=None, **options):
        self.net = net
        self.dir = os.path.join(net.tmp, f'run{len(net.processes)}')
        os.mkdir(self.dir, 0o755)
        self.config_path = os.path.join(net.tmp, f'taut{len(net.processes)}.conf')
        self.base = (f'[interface]\nname = {name}\nmac = {mac}\noffload = {"yes" if offload else "no"}\n'
                     f'host_address = {host4}/24' + (f', {host6}/64' if host6 else '') + '\n'
                     f'[network]\naddress = {stack4}/24' + (f', {stack6}/64' if stack6 else '') + '\n'
                     f'[control]\ndirectory = {self.dir}\n[limits]\ndrain = 500ms\n')
        self.write_config(text)
        notify_path = os.path.join(self.dir, 'notify')
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(notify_path)
        environment = dict(os.environ, NOTIFY_SOCKET=notify_path, TAUT_CHECK='1' if SANITIZED else '')
        if not SANITIZED:
            environment.pop('TAUT_CHECK')
        environment.update(env or {})
        super().__init__(net, 'tautd', list(argv_prefix) + [binary or TAUTD, '-c', self.config_path], env=environment, **options)
        net.daemons.append(self)
        self.ends_with = 0
        self.expect_end = False
        self.notify, self.notified = notify, []
        self.wait_ready(start_timeout)
        threading.Thread(target=self.drain_notify, daemon=True).start()
        self.control = Control(self.dir)
        self.call('server.hello')
        if stack6 and wait6 is not False:
            self.wait_addresses()

    @property
    def stack_pid(self):
        """The process that runs the stack: the worker, or with survive = no the daemon itself."""
        with open(f'/proc/{self.pid}/task/{self.pid}/children', encoding='ascii') as f:
            children = f.read().split()
        return int(children[0]) if children else self.pid

    def write_config(self, text):
        with open(self.config_path, 'w', encoding='utf-8') as f:
            f.write(self.base + text)

    def wait_ready(self, seconds):
        end = time.monotonic() + seconds
        while True:
            readable, _, _ = select.select([self.notify], [], [], 0.05)
            if readable and b'READY=1' in self.notify.recv(4096):
                return
            if not self.running():
                self.net.daemons.remove(self)
                raise Failure(f'tautd ended with status {self.popen.returncode}: {self.output()[-800:].strip()}')
            if time.monotonic() > end:
                raise Failure(f'tautd did not send READY=1 within {seconds} s: {self.output()[-400:]}')

    def drain_notify(self):
        """As a service manager does; descriptors that come are closed."""
        while True:
            self.notified.append(self.notify.recv(4096))

    def wait_addresses(self):
        """Until duplicate address detection has let all of them through."""
        def usable():
            states = [a['state'].lower() for a in self.call('server.status')['addresses']]
            return len(states) > 0 and all(s == 'preferred' for s in states)
        wait_for(usable, 8, 'all addresses of the stack usable', 0.05)

    def call(self, method, /, **params):
        return self.control.call(method, **params)

    def stats(self):
        """All counters in one dictionary of dictionaries: tcp, tcp_drops, tcp_causes, stack, stack_drops, daemon."""
        return self.call('stats.get')

    def conns(self, **params):
        """A busy daemon ends a page early: until there are as many as asked for, or no more."""
        rows, limit = [], params.pop('limit', 1000)
        while True:
            page = self.call('conn.list', limit=limit - len(rows), **params)
            rows += page['connections']
            if page['next'] is None or len(rows) >= limit:
                return rows
            params['after'] = page['next']

    def cli(self, *argv, **options):
        env = dict(os.environ, TAUT_SOCKET=self.dir)
        return sh(TAUT, *argv, env=env, **options)

    def finish(self):
        """At the test's end: it must have lived, end orderly and have complained of nothing."""
        if not self.expect_end:
            if not self.running():
                raise Failure(f'tautd died with status {self.popen.returncode}: {self.output()[-1500:].strip()}')
            status = self.stop(seconds=20)
            equal(status, self.ends_with, f'tautd\'s exit status at the end ({self.output()[-800:].strip()})')
        for sign in ('AddressSanitizer', 'LeakSanitizer', 'runtime error:', 'Assertion'):
            check(sign not in self.output(), f'tautd: {sign}: {self.output()[-3000:]}')


def cpu_seconds(d):
    """Of the daemon and the process that runs its stack."""
    ticks = 0
    for pid in {d.pid, d.stack_pid}:
        with open(f'/proc/{pid}/stat', encoding='ascii') as f:
            ticks += sum(int(x) for x in f.read().rsplit(')', 1)[1].split()[11:13])
    return ticks / os.sysconf('SC_CLK_TCK')


class Capture:
    """dumpcap on an interface, read with tshark afterwards."""

    def __init__(self, net, interface=IFNAME, snaplen=0, buffer_mib=64):
        need('dumpcap', 'tshark')
        self.path = os.path.join(net.tmp, f'capture{len(net.processes)}.pcapng')
        argv = ['dumpcap', '-q', '-i', interface, '-w', self.path, '-B', buffer_mib]
        if snaplen:
            argv += ['-s', snaplen]
        self.process = Process(net, 'dumpcap', argv)
        self.process.wait_output(r'File: ')
        time.sleep(0.05)

    def stop(self):
        time.sleep(0.4)  # the kernel hands a block over after 250 ms
        self.process.stop(signal.SIGINT)
        m = re.search(r"dropped on interface '[^']*': (\d+)/(\d+)", self.process.output())
        self.packets, self.lost = (int(m.group(1)), int(m.group(2))) if m else (0, 0)
        return self

    def tshark(self, display_filter, fields=(), options=()):
        """Lines of what matches: the fields, or tshark's one-line summary."""
        argv = ['tshark', '-n', '-r', self.path, '-Y', display_filter]
        for option in options:
            argv += ['-o', option]
        if fields:
            argv += ['-T', 'fields'] + [x for f in fields for x in ('-e', f)]
        return [line for line in sh(*argv, timeout=120).splitlines() if line.strip()]

    BAD = ('tcp.analysis.retransmission or tcp.analysis.fast_retransmission or '
           'tcp.analysis.spurious_retransmission or tcp.analysis.rto')

    def assert_clean(self, zero_window=True, kernel_probes=False, probes_of=None):
        """On a link without loss nothing is sent twice, nothing is out of order and no window stands closed.
        kernel_probes: what the kernel sends twice is no fault (its tail loss probes fire when this machine is busy).
        probes_of: nor is as much of that daemon's as it counted as tail loss probes, if it took nothing for lost."""
        check(self.packets > 0, 'the capture is empty')
        sent_twice = f'({self.BAD})'
        if kernel_probes:
            sent_twice += f' and not ip.src == {HOST4} and not ipv6.src == {HOST6}'
        what = f'({sent_twice}) or tcp.analysis.zero_window_probe'
        if zero_window:
            what += ' or tcp.analysis.zero_window'
        if not self.lost and not kernel_probes:
            what += ' or tcp.analysis.out_of_order or tcp.analysis.lost_segment or tcp.analysis.ack_lost_segment'
        bad = self.tshark(what)
        if probes_of:
            no_loss_seen(probes_of)
            again = self.tshark(f'({sent_twice})')
            if len(again) <= probes_of.stats()['tcp_causes']['RETRANS_TLP']:
                bad = [frame for frame in bad if frame not in again]
        check(not bad, f'{len(bad)} of {self.packets} frames should not be on a clean link (capture lost '
                       f'{self.lost}), the first: ' + ' | '.join(bad[:3]))


def clean_run(net, once, zero_window=True, snaplen=0, attempts=3):
    """once() under a capture that must be clean, in one of a few attempts: the tail loss probes of both ends also fire
    when this machine had no time for the other end. Other retransmissions are caught by no_loss_seen()."""
    for attempt in range(attempts):
        c = net.capture(snaplen=snaplen)
        once()
        c.stop()
        try:
            c.assert_clean(zero_window)
            return
        except Failure:
            if attempt == attempts - 1:
                raise


def no_loss_seen(d):
    """taut took nothing for lost: it sent nothing twice but tail loss probes."""
    causes = d.stats()['tcp_causes']
    equal((causes['RETRANS_FAST'], causes['RETRANS_RTO']), (0, 0), 'fast and RTO retransmissions')


class Relay:
    """A bad wire: the kernel's end (a TAP named `kernel` that the test holds) and taut's TAP, with frames lost, doubled
    and late on the way, in both directions, by a seeded generator. The daemon's own TAP is to have no address."""

    def __init__(self, net, seed, loss=0.0, duplicate=0.0, late=0.0, late_by=0.004):
        import random
        self.rng, self.loss, self.duplicate, self.late, self.late_by = random.Random(seed), loss, duplicate, late, late_by
        self.fd = open_tap('kernel', vnet_hdr=False)
        sh('ip', 'addr', 'add', f'{HOST4}/24', 'dev', 'kernel')
        sh('ip', 'link', 'set', 'kernel', 'up')
        sysctl(f'net.ipv4.conf.{IFNAME}.arp_ignore', 8)  # else the kernel answers there too, and taut talks past us
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind((IFNAME, 3))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.count = {'passed': 0, 'lost': 0, 'doubled': 0, 'late': 0}
        self.queue = []
        threading.Thread(target=self.loop, daemon=True).start()

    def put(self, send, frame):
        if self.rng.random() < self.loss:
            self.count['lost'] += 1
            return
        if self.rng.random() < self.late:
            self.count['late'] += 1
            self.queue.append((time.monotonic() + self.late_by, send, frame))
            return
        self.count['passed'] += 1
        send(frame)
        if self.rng.random() < self.duplicate:
            self.count['doubled'] += 1
            send(frame)

    def to_kernel(self, frame):
        os.write(self.fd, frame)

    def loop(self):
        try:
            while True:
                now = time.monotonic()
                while self.queue and self.queue[0][0] <= now:
                    _, send, frame = self.queue.pop(0)
                    send(frame)
                wait = self.queue[0][0] - now if self.queue else 1
                for ready in select.select([self.fd, self.sock], [], [], wait)[0]:
                    if ready is self.sock:
                        frame, sender = self.sock.recvfrom(70000)
                        if sender[2] != socket.PACKET_OUTGOING:
                            self.put(self.to_kernel, frame)
                    else:
                        self.put(self.sock.send, os.read(self.fd, 70000))
        except OSError:
            return  # the interface went


class Net:
    """The namespace of one test."""

    def __init__(self, tmp):
        self.tmp = tmp
        self.processes = []
        self.daemons = []
        self.servers = []
        self.info = []
        sh('ip', 'link', 'set', 'lo', 'up')

    def say(self, text):
        """A figure for the test's line."""
        self.info.append(text)

    def tautd(self, text='', v6=False, **options):
        if v6:
            options.setdefault('host6', HOST6)
            options.setdefault('stack6', STACK6)
        return Daemon(self, text, **options)

    def start(self, name, *argv, **options):
        return Process(self, name, argv, **options)

    def capture(self, **options):
        return Capture(self, **options)

    def serve(self, handler, host='127.0.0.1', port=0, family=socket.AF_INET, backlog=1024, path=None):
        s = Server(handler, host, port, family, backlog, path)
        self.servers.append(s)
        return s

    def finish(self):
        for server in self.servers:
            server.close()
        for daemon in self.daemons:
            daemon.finish()
        for process in self.processes:
            if process.running():
                process.stop(signal.SIGKILL)
            process.out.close()


class Server:
    """A listening socket of the kernel; each connection is served by handler(socket) on a thread of its own."""

    def __init__(self, handler, host, port, family, backlog, path):
        self.handler = handler
        self.errors = []
        self.accepted = 0
        self.sock = socket.socket(socket.AF_UNIX if path else family, socket.SOCK_STREAM)
        if path:
            self.sock.bind(path)
        else:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind((host, port))
        self.sock.listen(backlog)
        self.port = 0 if path else self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        while True:
            try:
                s, _ = self.sock.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self.one, args=(s,), daemon=True).start()

    def one(self, s):
        with s:
            s.settimeout(60)
            try:
                self.handler(s)
            except OSError as e:
                self.errors.append(e)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


# ---- Sockets and bytes -----------------------------------------------------------------------------------------------

def tcp(address=STACK4, port=7, timeout=20, cubic=False, source=None, nodelay=False):
    """A connected socket of the kernel."""
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(timeout)
    if cubic:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b'cubic')
    if nodelay:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if source:
        s.bind((source, 0))
    s.connect((address, port))
    return s


def read_exactly(s, n):
    parts, left = [], n
    while left:
        data = s.recv(min(left, 1 << 20))
        if not data:
            raise Failure(f'the stream ended {left} of {n} bytes early')
        parts.append(data)
        left -= len(data)
    return b''.join(parts)


def read_all(s):
    parts = []
    while True:
        data = s.recv(1 << 20)
        if not data:
            return b''.join(parts)
        parts.append(data)


def reset_of(function):
    """True if function() ends in a reset (or a broken pipe), False if it returns."""
    try:
        function()
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def reset_on_close(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()


def pattern(n, seed=1):
    """n bytes in which no two places look alike: a lost, doubled or moved piece changes the hash and the place."""
    block = b''.join(struct.pack('>IIII', seed, i, (i * 2654435761 + seed) & 0xFFFFFFFF, i ^ 0xA5A5A5A5)
                     for i in range(min(n, 1 << 20) // 16 + 1))
    out = bytearray()
    k = 0
    while len(out) < n:
        out += struct.pack('>Q', k ^ seed) + block
        k += 1
    return bytes(out[:n])


def first_difference(a, b):
    if len(a) != len(b):
        return f'{len(a)} bytes against {len(b)}'
    for i in range(0, len(a), 65536):
        if a[i:i + 65536] != b[i:i + 65536]:
            for j in range(i, min(i + 65536, len(a))):
                if a[j] != b[j]:
                    return f'byte {j} differs'
    return 'no difference'


def same_bytes(got, expected, what):
    check(got == expected, f'{what}: {first_difference(got, expected)}')


def exchange(s, data, half_close=True):
    """Sends all from one thread while reading all on this one; what was read."""
    error = []

    def send():
        try:
            s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
        except OSError as e:
            error.append(e)

    t = threading.Thread(target=send, daemon=True)
    t.start()
    got = read_all(s) if half_close else read_exactly(s, len(data))
    t.join(20)
    if error:
        raise error[0]
    return got


# ---- A host of our own making on the wire ----------------------------------------------------------------------------

def inet_sum(data):
    if len(data) & 1:
        data += b'\0'
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << i for i in range(8))


class Segment:
    def __init__(self, frame):
        ihl = (frame[14] & 15) * 4
        total = struct.unpack('!H', frame[16:18])[0]
        t = frame[14 + ihl:14 + total]
        self.source, self.destination = frame[26:30], frame[30:34]
        self.sport, self.dport, self.seq, self.ack = struct.unpack('!HHII', t[:12])
        offset = (t[12] >> 4) * 4
        self.flags, self.window = t[13], struct.unpack('!H', t[14:16])[0]
        self.options, self.payload = t[20:offset], t[offset:]

    def option(self, kind):
        i, o = 0, self.options
        while i < len(o) and o[i] != 0:
            if o[i] == 1:
                i += 1
                continue
            if i + 1 >= len(o) or o[i + 1] < 2:
                return None
            if o[i] == kind:
                return o[i + 2:i + o[i + 1]]
            i += o[i + 1]
        return None


class RawPeer:
    """A neighbour of taut that exists only here: frames are written to the kernel's end of the TAP as they should be,
    or as they should not. It answers ARP for its address."""

    def __init__(self, address=FAKE4, mac=FAKE_MAC, interface=IFNAME, stack_mac=STACK_MAC):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind((interface, 3))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.mac, self.address = mac, socket.inet_aton(address)
        self.stack_mac, self.stack = bytes.fromhex(stack_mac.replace(':', '')), socket.inet_aton(STACK4)
        self.ident = 1

    def close(self):
        self.sock.close()

    def ethernet(self, payload, kind=0x0800):
        return self.stack_mac + self.mac + struct.pack('!H', kind) + payload

    def ip(self, payload, proto=6, **o):
        self.ident += 1
        h = struct.pack('!BBHHHBBH4s4s', o.get('vihl', 0x45), o.get('tos', 0), o.get('total', 20 + len(payload)),
                        self.ident & 0xFFFF, o.get('frag', 0x4000), o.get('ttl', 64), proto, 0,
                        o.get('source', self.address), o.get('destination', self.stack))
        checksum = o.get('checksum', inet_sum(h))
        return h[:10] + struct.pack('!H', checksum) + h[12:] + payload

    def tcp(self, sport, dport, seq, ack, flags, window=65535, options=b'', payload=b'', **o):
        options += b'\1' * (-len(options) % 4)
        offset = o.get('offset', 5 + len(options) // 4)
        t = struct.pack('!HHIIBBHHH', sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, offset << 4, flags, window, 0,
                        o.get('urgent', 0)) + options + payload
        pseudo = o.get('source', self.address) + self.stack + struct.pack('!BBH', 0, 6, len(t))
        checksum = o.get('tcp_checksum', inet_sum(pseudo + t))
        return t[:16] + struct.pack('!H', checksum) + t[18:]

    def send(self, frame):
        self.sock.send(frame)

    def send_tcp(self, *a, ip=None, **o):
        self.send(self.ethernet(self.ip(self.tcp(*a, **o), **(ip or {}))))

    def announce(self):
        """A gratuitous ARP request: taut learns us."""
        self.send(b'\xff' * 6 + self.mac + struct.pack('!HHHBBH', 0x0806, 1, 0x0800, 6, 4, 1) + self.mac +
                  self.address + b'\0' * 6 + self.stack)

    def frames(self, seconds, until=None):
        """What taut sends to us within that time (ARP is answered), or until until(frames) is true."""
        got, end = [], time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0 or (until and until(got)):
                return got
            self.sock.settimeout(left)
            try:
                frame, sender = self.sock.recvfrom(70000)
            except OSError:  # nothing came in time, or the interface went
                return got
            if sender[2] == socket.PACKET_OUTGOING or len(frame) < 34:
                continue
            kind = struct.unpack('!H', frame[12:14])[0]
            if kind == 0x0806 and frame[20:22] == b'\0\1' and frame[38:42] == self.address:
                self.send(self.ethernet(struct.pack('!HHBBH', 1, 0x0800, 6, 4, 2) + self.mac + self.address +
                                        frame[22:28] + frame[28:32], 0x0806))
            if kind == 0x0800 and frame[30:34] == self.address:
                got.append(frame)

    def segments(self, seconds, sport=None, until=None):
        pick = lambda fs: [Segment(f) for f in fs if f[23] == 6 and (sport is None or f[36:38] == struct.pack('!H', sport))]
        return pick(self.frames(seconds, (lambda fs: until(pick(fs))) if until else None))

    def connect(self, port, sport=40000, options=b'', window=65535, seq=1000):
        """A handshake by hand; (our next sequence number, the peer's, its SYN-ACK)."""
        self.announce()
        self.send_tcp(sport, port, seq, 0, SYN, window=window, options=options)
        got = [s for s in self.segments(3, sport, lambda ss: len(ss) > 0) if s.flags & SYN]
        check(got, f'no SYN-ACK from port {port}')
        synack = got[0]
        equal(synack.ack, seq + 1, 'what the SYN-ACK acknowledges')
        self.send_tcp(sport, port, seq + 1, synack.seq + 1, ACK, window=window)
        return seq + 1, (synack.seq + 1) & 0xFFFFFFFF, synack


def open_tap(name=IFNAME, vnet_hdr=True):
    """A TAP made by the test; its descriptor."""
    fd = os.open('/dev/net/tun', os.O_RDWR)
    flags = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if vnet_hdr else 0)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack('16sH22x', name.encode(), flags))
    return fd


def sysctl(name, value):
    with open('/proc/sys/' + name.replace('.', '/'), 'w', encoding='ascii') as f:
        f.write(str(value))
