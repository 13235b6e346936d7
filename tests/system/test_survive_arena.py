"""The arena when it is damaged, full, or when the machine has no memory left for those who use it."""
import fcntl
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time

from harness import (Control, Failure, RpcError, STACK4, Skip, check, equal, read_exactly, wait_for)
from test_survive import (Manager, SURVIVE, kernel_socket, reset_within, restores, serving_worker)

ADD_SEALS, SEALS = 1033, 0x0001 | 0x0002 | 0x0004  # SEAL, SHRINK, GROW


def copy_of(fd, size=None, seal=True):
    """A memfd with the same bytes (holes stay holes), cut off at `size`."""
    whole = os.fstat(fd).st_size
    new = os.memfd_create('copy', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    size = whole if size is None else size
    os.ftruncate(new, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
            end = min(os.lseek(fd, at, os.SEEK_HOLE), size)
        except OSError:
            break
        while at < end:
            data = os.pread(fd, min(1 << 20, end - at), at)
            os.pwrite(new, data, at)
            at += len(data)
    if seal:
        fcntl.fcntl(new, ADD_SEALS, SEALS)
    return new


def flip(fd, at, bit=0):
    byte = os.pread(fd, 1, at)[0]
    os.pwrite(fd, bytes([byte ^ 1 << bit]), at)


def foreign():
    fd = os.memfd_create('foreign', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, random.Random(1).randbytes(1 << 20))
    fcntl.fcntl(fd, ADD_SEALS, SEALS)
    return fd


def flipped(fd, at, bit=0):
    new = copy_of(fd)
    flip(new, at, bit)
    return new


def killed(m):
    m.process.stop(signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f'/proc/{m.process.pid}/exe'), 5, 'it is gone')


def pinged(s, text=b'hello'):
    s.sendall(text)
    equal(read_exactly(s, len(text)), text, 'echo')


def test_refused(net):
    """A truncated, foreign or bit-flipped arena from the manager's store: refused, said so, a fresh start. limit: 90 s"""
    m = Manager(net, '[daemon]\nsurvive = yes\n[services]\necho = 7\n')
    m.start()
    size = os.fstat(m.store['arena']).st_size
    cases = (
        ('cut off', 'it is cut off', lambda a: copy_of(a, size - 4096)),
        ('cut off within the head', 'it is no arena', lambda a: copy_of(a, 100)),
        ('empty', 'cannot map the arena', lambda a: copy_of(a, 0)),
        ('not sealed', 'it is no sealed memory', lambda a: copy_of(a, seal=False)),
        ('foreign', 'it is no arena', lambda a: foreign()),
        ('a device', 'it is no sealed memory', lambda a: os.open('/dev/null', os.O_RDWR)),
        ('a pipe', 'it is no sealed memory', lambda a: os.pipe()[0]),
        ('magic', 'it is no arena', lambda a: flipped(a, 3)),
        ('version', r'it is of version \d+\.\d+, this program reads 2\.', lambda a: flipped(a, 8, 4)),
        ('head', 'the sum of its header is wrong', lambda a: flipped(a, 40)),
    )
    for name, says, make in cases:
        s = kernel_socket(STACK4, 7)
        pinged(s)
        killed(m)
        bad = make(m.store['arena'])
        os.close(m.store['arena'])
        m.store['arena'] = bad
        m.start()
        check(re.search(f'the arena cannot be used: {says}|{says}.*: all connections are reset', m.process.output()),
              f'{name}: {m.process.output()[-600:]}')
        check('all connections are reset' in m.process.output(), f'{name}: it is said what that means')
        check(reset_within(s, 5, b'?'), f'{name}: what was connected is reset')
        pinged(kernel_socket(STACK4, 7))
        m.drain(0.1)
        equal(sorted(m.store), ['arena', 'tap'], f'{name}: what is stored')
    # The fresh one that replaced it is good.
    s = kernel_socket(STACK4, 7)
    pinged(s)
    killed(m)
    m.start()
    pinged(s)
    equal(m.process.stop(), 0, 'orderly end')


def test_flips(net):
    """One bit anywhere in what is used of it: the daemon serves, and what it serves on is right or reset. limit: 180 s"""
    m = Manager(net, '[daemon]\nsurvive = yes\ncrash_limit = 3\n[services]\necho = 7\n')
    m.start()
    seed = int(os.environ.get('TAUT_SEED', time.time_ns() & 0xffff))
    rng = random.Random(seed)
    outcome = {'went on': 0, 'reset': 0}
    for n in range(12):
        socks = [kernel_socket(STACK4, 7) for _ in range(5)]
        for s in socks:
            pinged(s)
        killed(m)
        arena = m.store['arena']
        extents, at = [], 0
        while True:
            try:
                at = os.lseek(arena, at, os.SEEK_DATA)
                end = os.lseek(arena, at, os.SEEK_HOLE)
            except OSError:
                break
            extents.append((at, end))
            at = end
        # Half of them in the first page, where what is not summed lies close together.
        at = rng.randrange(4096) if n % 2 else rng.randrange(*rng.choice(extents))
        flip(arena, at, rng.randrange(8))
        m.start()
        m.drain(0.05)
        for s in socks:
            s.settimeout(10)
            try:
                s.sendall(b'what was')
                equal(read_exactly(s, 8), b'what was', f'seed {seed}, bit flipped in byte {at}: echo')
                outcome['went on'] += 1
            except (ConnectionResetError, BrokenPipeError):
                outcome['reset'] += 1
            s.close()
        pinged(kernel_socket(STACK4, 7))
    net.say(f'seed {seed}: {outcome}')
    equal(m.process.stop(), 0, 'orderly end')


def test_three_supervisors(net):
    """An arena on which supervisors die again and again is given up. limit: 30 s"""
    m = Manager(net, '[daemon]\nsurvive = yes\n[services]\necho = 7\n')
    m.start()
    s = kernel_socket(STACK4, 7)
    pinged(s)
    killed(m)
    # As if three had taken it over and served nothing: the word lies behind told, began_at and supervisor_at.
    head = os.pread(m.store['arena'], 4096, 0)
    at = head.rfind(struct.pack('<q', m.process.pid)) + 24
    check(at > 24, 'the place of told')
    equal(head[at:at + 4], bytes(4), 'attempts after a worker served')
    os.pwrite(m.store['arena'], struct.pack('<I', 3), at)
    m.start()
    check('the arena is not used: three supervisors died on it: all connections are reset' in m.process.output(),
          m.process.output())
    check(reset_within(s, 5, b'?'), 'it is reset')
    pinged(kernel_socket(STACK4, 7))
    equal(m.process.stop(), 0, 'orderly end')


def goes_on_through_a_kill(d, socks):
    for s in socks:
        pinged(s)
    pid = serving_worker(d)
    os.kill(pid, signal.SIGKILL)
    serving_worker(d, pid)
    for s in socks:
        pinged(s)


def test_full(net):
    """Every record of the arena taken: new connections are refused with a reason and counted, the old ones live, also
    over a kill; a place that comes free is used again. limit: 60 s"""
    d = net.tautd(SURVIVE + '[limits]\nmax_connections = 16\n[services]\necho = 7\n')
    socks = [kernel_socket(STACK4, 7) for _ in range(16)]
    for s in socks:
        pinged(s)

    def refused_one():
        before = d.stats()['tcp_drops']['CONN_LIMIT']
        s = socket.socket()
        s.settimeout(0.5)
        try:
            s.connect((STACK4, 7))
            s.sendall(b'x')
            got = s.recv(1)
            raise Failure(f'a connection more than there are records: {got}')
        except (TimeoutError, ConnectionError):
            pass
        check(d.stats()['tcp_drops']['CONN_LIMIT'] > before, 'it is counted by its reason')
        s.close()
    refused_one()
    goes_on_through_a_kill(d, socks)
    d.control = Control(d.dir)
    refused_one()
    socks.pop().close()
    wait_for(lambda: len(d.conns()) < 16, 10, 'a connection ends')
    s = kernel_socket(STACK4, 7)
    pinged(s)
    goes_on_through_a_kill(d, socks + [s])
    for _, _, lost, ownerless in restores(d):
        equal((lost, ownerless), (0, 0), 'connections lost or without owner')


def test_time_wait_full(net):
    """Places for TIME-WAIT are the arena's, also where the limit was raised since and the worker died. limit: 60 s"""
    d = net.tautd(SURVIVE + '[tcp]\ntcp_max_tw_buckets = 4\n[services]\necho = 7\n')
    d.call('config.set', name='tcp.tcp_max_tw_buckets', value=1000)
    pid = serving_worker(d)
    os.kill(pid, signal.SIGKILL)
    serving_worker(d, pid)
    d.control = Control(d.dir)
    _, listener = d.control.call_fd('tcp.listen', port=9000)
    for _ in range(12):
        s = kernel_socket(STACK4, 9000)
        _, fds, _, _ = socket.recv_fds(listener, 4096, 1)
        os.close(fds[0])  # taut's FIN goes first
        equal(s.recv(1), b'', 'FIN')
        s.close()
    wait_for(lambda: d.call('server.status')['totals']['established'] == 0, 5, 'all are closed')
    equal(d.call('server.status')['totals']['time_wait'], 4, 'TIME-WAIT entries')


def test_links_full(net):
    """No place left for listeners and what programs hold: refused with an error, the old ones live. limit: 60 s"""
    d = net.tautd(SURVIVE + '[limits]\nmax_connections = 16\n[services]\necho = 7\n')
    echo = kernel_socket(STACK4, 7)
    listeners = []
    try:
        while len(listeners) < 1200:
            listeners.append(d.control.call_fd('tcp.listen', port=10000 + len(listeners))[1])
    except RpcError as e:
        net.say(f'{len(listeners)} listeners, then {e.name}: {e.message}')
        check(e.name in ('NO_MEMORY', 'OUT_OF_MEMORY'), f'{e}')
    check(1000 < len(listeners) < 1200, f'{len(listeners)} listeners')
    pinged(echo)
    before = d.stats()['daemon']['NoLinks']
    check(reset_within(opened(STACK4, 10003), 5, b'?'), 'a connection for a program, with no place for it, is reset')
    check(d.stats()['daemon']['NoLinks'] > before, 'it is counted by its reason')
    pid = serving_worker(d)
    os.kill(pid, signal.SIGKILL)
    serving_worker(d, pid)
    pinged(echo)
    d.control = Control(d.dir)
    listeners.pop(0).close()
    wait_for(lambda: try_listen(d, 30000), 5, 'a place that came free is used again')
    pinged(echo)


def opened(address, port):
    """A socket that may be reset already."""
    s = socket.socket()
    s.settimeout(5)
    try:
        s.connect((address, port))
    except ConnectionResetError:
        pass
    return s


def try_listen(d, port):
    try:
        d.control.call_fd('tcp.listen', port=port)[1].close()
        return True
    except RpcError:
        return False


# ---- Out of memory -----------------------------------------------------------------------------------------------------

class MemoryGroup:
    """A memory cgroup of the test's, version 1 or 2, below whatever is mounted and lets one be made."""

    def __init__(self, name):
        why = 'no memory controller is mounted'
        with open('/proc/self/mounts', encoding='utf-8') as f:
            mounts = [line.split() for line in f]
        for _, top, kind, options in (m[:4] for m in mounts):
            v2 = kind == 'cgroup2'
            if not v2 and not (kind == 'cgroup' and 'memory' in options.split(',')):
                continue
            self.path, self.v2 = os.path.join(top, name), v2
            try:
                if v2:
                    with open(os.path.join(top, 'cgroup.subtree_control'), 'r+', encoding='ascii') as f:
                        if 'memory' not in f.read().split():
                            f.write('+memory')
                os.mkdir(self.path)
                if os.path.exists(self.file('limit')):
                    return
                os.rmdir(self.path)
                why = f'{top} has no memory controller'
            except OSError as e:
                why = f'{top}: {e.strerror}'
        raise Skip(f'no memory cgroup can be made: {why}')

    def file(self, what):
        names = {'limit': ('memory.max', 'memory.limit_in_bytes'), 'usage': ('memory.current', 'memory.usage_in_bytes'),
                 'procs': ('cgroup.procs',) * 2, 'events': ('memory.events', 'memory.oom_control')}
        return os.path.join(self.path, names[what][0 if self.v2 else 1])

    def read(self, what):
        with open(self.file(what), encoding='ascii') as f:
            return f.read()

    def write(self, what, value):
        with open(self.file(what), 'w', encoding='ascii') as f:
            f.write(str(value))

    def kills(self):
        return int(re.search(r'oom_kill (\d+)', self.read('events')).group(1))

    def remove(self):
        wait_for(lambda: not self.read('procs').strip(), 10, 'the cgroup is empty')
        os.rmdir(self.path)


# Takes memory until somebody was killed for it, then gives it back. It is charged, but is not its own size: a file.
HOG = '''
import os, re, sys
with open(sys.argv[2], 'w') as f: f.write(str(os.getpid()))
events, block = os.open(sys.argv[1], os.O_RDONLY), b'x' * 65536
def kills(): return int(re.search(rb'oom_kill (\\d+)', os.pread(events, 4096, 0)).group(1))
before, held = kills(), os.memfd_create('hog')
print('hungry', flush=True)
sys.stdin.read(1)
while kills() == before and os.fstat(held).st_size < 1 << 30:
    os.write(held, block)
os.ftruncate(held, 0)
print('somebody was killed' if kills() != before else 'nobody was killed', flush=True)
os._exit(0)
'''


def score(pid):
    with open(f'/proc/{pid}/oom_score_adj', encoding='ascii') as f:
        return int(f.read())


def test_out_of_memory(net):
    """The kernel kills for memory: the worker is chosen, not the supervisor, and its connections go on. limit: 90 s"""
    group = MemoryGroup(f'taut-memory.{os.environ.get("TAUT_SYSTEM_RUN", os.getpid())}')
    try:
        out_of_memory(net, group)
    finally:
        for p in net.processes:
            if p.running():
                p.stop(signal.SIGKILL if p.name == 'hog' else signal.SIGTERM)
        group.remove()


def out_of_memory(net, group):
    d = net.tautd(SURVIVE + '[services]\necho = 7\n',
                  preexec_fn=lambda: group.write('procs', 0))
    socks = [kernel_socket(STACK4, 7) for _ in range(20)]
    for s in socks:
        pinged(s)
    pid = serving_worker(d)
    check(score(pid) > score(d.pid), f'oom_score_adj of the worker {score(pid)}, of the supervisor {score(d.pid)}')
    for n in range(3):
        pid = serving_worker(d)
        hog = net.start('hog', sys.executable, '-c', HOG, group.file('events'), group.file('procs'),
                        stdin=subprocess.PIPE)
        hog.wait_output('hungry', 10)
        group.write('limit', int(group.read('usage')) + (96 << 20))  # + 200 of 1000 of it are more than the hog has
        before = group.kills()
        hog.popen.stdin.write(b'x')
        hog.popen.stdin.flush()
        hog.wait_output('somebody was killed', 30)
        hog.wait(10)
        group.write('limit', 1 << 40)
        check(group.kills() > before, 'the kernel killed')
        d.wait_output(f'worker {pid}, generation .* was killed by signal 9', 10)
        check(d.running(), 'the supervisor lives')
        serving_worker(d, pid)
        for s in socks:
            pinged(s, b'after the kernel took the worker')
    for _, conns, lost, ownerless in restores(d):
        equal((conns, lost, ownerless), (20, 0, 0), 'connections restored, lost, without owner')
    d.expect_end = True
    equal(d.stop(), 0, 'orderly end')
    net.say(f'cgroup v{2 if group.v2 else 1}, {len(restores(d))} restores')
