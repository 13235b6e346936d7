"""The daemon's ends with everything alive: forwards, services, programs, clients that read and that do not."""
import os
import signal
import socket
import threading
import time

from harness import STACK4, check, equal, pattern, read_exactly, tcp, wait_for

PORTS = {'echo': 7, 'discard': 9, 'chargen': 19}


def swallow(s):
    while s.recv(65536):
        pass


def talk(s):
    while True:
        s.sendall(bytes(20000))


def silent(s):
    time.sleep(60)


class Life:
    """A daemon in the middle of everything."""

    def __init__(self, net, drain):
        self.full = os.path.join(net.tmp, f'full{len(net.processes)}')
        self.lock = socket.socket(socket.AF_UNIX)
        self.lock.bind(self.full)
        self.lock.listen(0)
        self.filler = socket.socket(socket.AF_UNIX)
        self.filler.connect(self.full)
        self.backends = [net.serve(h) for h in (swallow, talk, silent)]
        self.text = f'[limits]\ndrain = {drain}\n' + ''.join(
            f'[forward f{i}]\nlisten = {8000 + i}\nto = tcp:127.0.0.1:{b.port}\n' for i, b in enumerate(self.backends))
        self.text += f'[forward stuck]\nlisten = 8010\nto = unix:{self.full}\nconnect_timeout = 30s\n'
        self.d = net.tautd(self.text)
        self.d.expect_end = True
        self.socks = [tcp(port=p) for p in PORTS.values()]           # idle
        self.socks += [tcp(port=8000 + i) for i in range(3) for _ in range(3)]
        self.socks += [tcp(port=8010) for _ in range(3)]             # wait for their backend
        self.readers = [tcp(port=19), tcp(port=8001)]
        self.writers = [tcp(port=9), tcp(port=8000), tcp(port=7), tcp(port=8002)]
        self.programs()
        for s in self.readers:
            threading.Thread(target=self.read, args=(s,), daemon=True).start()
        for s in self.writers:
            threading.Thread(target=self.write, args=(s,), daemon=True).start()
        time.sleep(0.3)

    def programs(self):
        """A listener with one connection taken, several not taken, and a connect that never ends."""
        _, self.listener = self.d.control.call_fd('tcp.listen', port=9000)
        self.socks += [tcp(port=9000) for _ in range(12)]
        _, fds, _, _ = socket.recv_fds(self.listener, 4096, 1)
        self.program = socket.socket(fileno=fds[0])
        self.program.settimeout(10)
        threading.Thread(target=self.write, args=(self.program,), daemon=True).start()
        self.d.control.send('tcp.connect', {'address': '10.77.0.77', 'port': 1, 'timeout_ms': 60000})

    @staticmethod
    def read(s):
        try:
            while s.recv(65536):
                pass
        except OSError:
            pass

    @staticmethod
    def write(s):
        try:
            while True:
                s.sendall(bytes(10000))
        except OSError:
            pass

    def ends_within(self, seconds, status=0):
        began = time.monotonic()
        equal(self.d.wait(seconds), status, 'exit status')
        return time.monotonic() - began

    def close(self):
        for s in self.socks + self.readers + self.writers + [self.program, self.listener]:
            s.close()


def test_drain_with_everything(net):
    """SIGTERM: the drain time bounds it; what is left is reset, and hears it."""
    life = Life(net, '700ms')
    life.d.send_signal(signal.SIGTERM)
    took = life.ends_within(6)
    net.say(f'{took:.1f} s')
    for s in life.socks:  # none is left hanging: an end or a reset, at once
        s.settimeout(2)
        try:
            while s.recv(65536):
                pass
        except ConnectionResetError:
            pass
    life.close()


def test_second_signal(net):
    """A second SIGTERM, also SIGINT: at once, and the peers are told."""
    for second in (signal.SIGTERM, signal.SIGINT):
        life = Life(net, '1min')
        life.d.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        check(life.d.running(), 'it drains')
        life.d.send_signal(second)
        took = life.ends_within(5)
        check(took < 4, f'{took:.1f} s')
        s = life.socks[2]  # chargen, never read
        s.settimeout(2)
        try:
            while s.recv(65536):
                pass
            check(False, 'an orderly end')
        except ConnectionResetError:
            pass
        life.close()
        wait_for(lambda: not os.path.exists('/sys/class/net/taut0'), 5, 'the TAP is gone')


def test_hup_under_load(net):
    """SIGHUP with good and bad files in turns, with and without the forwards in use; then in the middle of the drain."""
    life = Life(net, '400ms')
    for i in range(6):
        text = (life.text, '[limits]\ndrain = 400ms\n', life.text + '[forward f0]\nnonsense\n')[i % 3]
        life.d.write_config(text)
        life.d.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        check(life.d.running(), 'it lives')
    life.d.write_config(life.text)
    life.d.send_signal(signal.SIGHUP)
    wait_for(lambda: life.d.output().count('reloaded') >= 5, 5, 'all good files were taken')
    with tcp(port=8000) as s:
        s.sendall(b'x')
    with tcp(port=7) as s:
        s.sendall(b'still')
        equal(read_exactly(s, 5), b'still', 'echo')
    life.d.send_signal(signal.SIGTERM)
    life.d.wait_output('draining')
    life.d.send_signal(signal.SIGHUP)
    life.ends_within(6)
    check('the daemon is ending' in life.d.output(), 'no reload while it ends')
    life.close()


def test_reload_one_port_taken(net):
    """A port that can't be had is named and keeps nothing else back."""
    backend = net.serve(lambda s: s.sendall(b'hello'))
    d = net.tautd()
    d.write_config(''.join(f'[forward {n}]\nlisten = {p}\nto = tcp:127.0.0.1:{backend.port}\n'
                           for n, p in (('a', STACK4 + ':7'), ('b', 8001))))  # 7 is echo's
    d.send_signal(signal.SIGHUP)
    wait_for(lambda: 'forward a: cannot listen on' in d.output(), 3, 'the log says so')
    with tcp(port=8001) as s:
        equal(read_exactly(s, 5), b'hello', 'the other one')
    with tcp(port=7) as s:
        s.sendall(b'echo')
        equal(read_exactly(s, 4), b'echo', 'echo is still there')


def test_failed_start(net):
    """Two listeners on one port: one sentence, exit status 1, nothing left."""
    d = None
    try:
        d = net.tautd(f'[forward a]\nlisten = {STACK4}:7\nto = tcp:127.0.0.1:1\n')
        check(False, 'it started')
    except AssertionError as e:
        check('cannot listen on' in str(e) and 'Sanitizer' not in str(e) and 'status 1' in str(e), str(e))
    check(d is None and not os.path.exists('/sys/class/net/taut0'), 'the TAP is gone')


def test_delivered_before_end(net):
    """What a backend had sent when SIGTERM came is delivered before the end."""
    data = pattern(300000)
    sent = threading.Event()

    def backend(s):
        s.sendall(data)
        sent.set()
        s.recv(1)

    b = net.serve(backend)
    d = net.tautd(f'[limits]\ndrain = 5s\n[forward a]\nlisten = 8000\nto = tcp:127.0.0.1:{b.port}\n')
    d.expect_end = True
    with tcp(port=8000) as s:
        got = s.recv(1000)
        sent.wait(5)
        d.send_signal(signal.SIGTERM)
        while len(got) < len(data) and (part := s.recv(65536)):
            got += part
        check(data.startswith(got) and len(got) > 0, 'a prefix')
        net.say(f'{len(got)} of {len(data)} bytes')
    equal(d.wait(8), 0, 'exit status')
