"""
tests/bench/worlds.py: what scripts/bench measures, each in network namespaces of its own (theory of operation).

A world is one stack with its client's namespace: everything in it is reached by the same client at `address`, by the
services echo (7), discard (9), chargen (19). Where the stack is a peer on a TAP or a veth, the client's end is

    10.77.0.1/16, and 10.77.4.1 to .8 for many connections;  the stack is 10.77.0.2, MAC 02:77:00:00:00:02

slirp4netns and pasta translate to sockets of the kernel: tests/bench/server runs in their host's namespace. All lives in
the PID, mount and network namespaces that scripts/bench made, and vanishes with them. Worlds are made when they are first
measured; those of `fresh` measurements are ended at once.
"""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

CLIENT, STACK, MAC = '10.77.0.1', '10.77.0.2', '02:77:00:00:00:02'
SOURCES = '10.77.4.1/8'  # lwIP's ARP table has ten places
ECHO, DISCARD, CLOSING, CHARGEN, PROGRAM, WEB = 7, 9, 13, 19, 7000, 8080
SPIN_US = 50

TUNING = '''cd /proc/sys/net
echo 1 >ipv4/tcp_no_metrics_save
echo reno >ipv4/tcp_congestion_control
echo "1024 65535" >ipv4/ip_local_port_range
echo 1 >ipv4/tcp_tw_reuse
echo 1000000 >ipv4/tcp_max_tw_buckets
echo 262144 >ipv4/tcp_max_syn_backlog
echo 65535 >core/somaxconn
echo 0 >ipv4/conf/all/rp_filter
echo 0 >ipv4/conf/default/rp_filter
echo 1 >ipv6/conf/all/disable_ipv6
echo 1 >ipv6/conf/default/disable_ipv6
'''


class Failed(Exception):
    """A measurement did not come to a figure; the message says why."""


class Missing(Exception):
    """The stack is not on this machine, or can't do this."""


def run(*argv, stdin=None, seconds=20):
    r = subprocess.run([str(a) for a in argv], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds,
                       check=False)
    if r.returncode:
        raise Failed(f'{" ".join(map(str, argv[:6]))}: {(r.stderr or r.stdout).decode(errors="replace").strip()[-300:]}')
    return r.stdout.decode()


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f'not within {seconds} s: {what}')
        time.sleep(0.005)


def net_path(netns):
    return f'/run/netns/{netns}'


def ip(netns, *lines):
    run('ip', '-n', netns, '-batch', '-', stdin='\n'.join(lines).encode())


def descendants(pid):
    """The process and all below it."""
    found = [pid]
    for p in found:
        try:
            with open(f'/proc/{p}/task/{p}/children', encoding='ascii') as f:
                found += map(int, f.read().split())
        except OSError:
            pass
    return found


def resident(pid):
    """
    RSS of a process and its children in bytes; what they share counts once. Without what is mapped from files: nobody's
    connections are in there, and the share that is ours changes with who else runs the same libraries.
    """
    total = 0
    for p in descendants(pid):
        try:
            with open(f'/proc/{p}/smaps_rollup', encoding='ascii') as f:
                total += sum(int(kb) * 1024 for kb in re.findall(r'^Pss_(?:Anon|Shmem): +(\d+) kB', f.read(), re.M))
        except OSError:
            pass
    return total


def slab_objects(*names):
    """The sizes of these objects in the kernel's slab caches, together."""
    with open('/proc/slabinfo', encoding='ascii') as f:
        sizes = dict(re.findall(r'^(\w+) +\d+ +\d+ +(\d+)', f.read(), re.M))
    absent = [n for n in names if n not in sizes]
    if absent:
        raise Missing(f'/proc/slabinfo does not tell of {absent[0]}')
    return sum(int(sizes[n]) for n in names)


class World:
    """One stack. `pid`: of the user-space stack, None for the kernel."""

    serial = 0
    sources = SOURCES
    address = STACK
    pid = None

    def __init__(self, bench):
        World.serial += 1
        self.bench, self.processes, self.spaces = bench, [], []
        self.directory = os.path.join(bench.tmp, f'w{World.serial}')
        os.mkdir(self.directory, 0o755)
        self.client_ns = self.new_netns('c')
        self.web = False

    def program(self, name):
        path = os.path.join(self.bench.build, 'tests/bench', name)
        if not os.access(path, os.X_OK):
            raise Missing(f'{name} was not built')
        return path

    def new_netns(self, letter):
        name = f'{letter}{World.serial}'
        run('ip', 'netns', 'add', name)
        self.spaces.append(name)
        run('nsenter', f'--net={net_path(name)}', 'sh', '-ec', TUNING)
        ip(name, 'link set lo up')
        return name

    def start(self, *argv, ready=None, **options):
        """A process of this world; with `ready`, until it has printed that."""
        out = os.path.join(self.directory, f'out{len(self.processes)}')
        with open(out, 'wb') as f:
            p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, **options)
        self.processes.append(p)

        def said():
            with open(out, encoding='utf-8', errors='replace') as f:
                text = f.read()
            if p.poll() is not None:
                raise Failed(f'{os.path.basename(str(argv[0]))} ended with status {p.returncode}: {text.strip()[-300:]}')
            return ready in text
        if ready:
            wait_for(said, 10, f'{argv[0]} says {ready!r}')
        return p

    def start_in(self, netns, *argv, **options):
        return self.start('nsenter', f'--net={net_path(netns)}', *argv, **options)

    def client_end(self, device):
        """The kernel's end of a TAP or veth, in the client's namespace."""
        ip(self.client_ns, f'link set {device} txqueuelen 10000 up', f'addr add {CLIENT}/16 dev {device}',
           *[f'addr add 10.77.4.{i}/32 dev {device}' for i in range(1, 9)])

    def serve(self, netns):
        """The server on the kernel's sockets of a namespace."""
        return self.start(self.program('bench_server'), '-n', net_path(netns), ready='ready')

    def start_web(self, netns):
        """nginx in a namespace, once: a download that never ends soon, and a sink for uploads."""
        if self.web:
            return
        nginx = shutil.which('nginx') or '/usr/sbin/nginx'
        if not os.access(nginx, os.X_OK):
            raise Missing('nginx is not installed')
        d, config = self.directory, os.path.join(self.directory, 'nginx.conf')
        temps = ' '.join(f'{k}_temp_path {d}/{k};' for k in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
        with open(config, 'w', encoding='utf-8') as f:
            f.write(f'daemon off; master_process off; pid {d}/pid; error_log {d}/error; user root; events {{}}\n'
                    f'http {{ access_log off; sendfile on; client_max_body_size 0; {temps}\n'
                    f'server {{ listen {WEB}; root {self.bench.web_root()}; location /sink {{ return 204; }} }} }}\n')
        self.start_in(netns, nginx, '-e', f'{d}/error', '-c', config, '-p', d)
        wait_for(lambda: ':1F90 ' in run('nsenter', f'--net={net_path(netns)}', 'cat', '/proc/self/net/tcp'), 5, 'nginx listens')
        self.web = True

    def need_web(self):
        self.start_web(self.spaces[-1])

    def need_program(self):
        """Where the service is a program anyway, there is nothing to do; its ports are the service's."""
        return 0

    def client(self, mode, port, n, seconds, request=None, start_only=False, sources=True):
        argv = [self.program('bench_client'), '-n', net_path(self.client_ns)]
        if self.sources and sources:
            argv += ['-s', self.sources]
        if request:
            argv += ['-r', request]
        argv += [mode, self.address, port, n, seconds]
        p = subprocess.Popen([str(x) for x in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if start_only:
            return p
        return self.result(p, mode, seconds * 2 + 10)

    @staticmethod
    def result(p, what, seconds):
        try:
            out, error = p.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as e:
            p.kill()
            p.communicate()
            raise Failed(f'{what}: no result within {seconds:.0f} s') from e
        if p.returncode:
            raise Failed(f'{what}: {error.decode(errors="replace").strip()[-200:]}')
        return json.loads(out)

    def flood(self, rate, seconds, count=None, port=ECHO):
        argv = [self.program('bench_flood'), '-n', net_path(self.client_ns), self.device, MAC, self.address, port, '10.99.0.0/16',
                rate, seconds] + ([count] if count else [])
        return json.loads(run(*argv, seconds=seconds + 20))

    def close(self):
        for p in reversed(self.processes):
            if p.poll() is None:
                p.kill()
        for p in self.processes:
            p.wait()
        for name in self.spaces:
            subprocess.run(['ip', 'netns', 'del', name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


class Kernel(World):
    """Two namespaces and a veth; without offloads where `variant` is 1500."""
    device = 'v0'

    def __init__(self, bench, variant=''):
        super().__init__(bench)
        server = self.new_netns('s')
        ip(self.client_ns, f'link add v0 type veth peer name v1 address {MAC} netns {server}')
        self.client_end('v0')
        ip(server, 'link set v1 txqueuelen 10000 up', f'addr add {STACK}/16 dev v1', f'route add default via {CLIENT}')
        if variant == '1500':
            if not shutil.which('ethtool'):
                raise Missing('ethtool is not installed')
            for netns, device in ((self.client_ns, 'v0'), (server, 'v1')):
                run('nsenter', f'--net={net_path(netns)}', 'ethtool', '-K', device, 'tso', 'off', 'gso', 'off', 'gro', 'off')
        self.serve(server)


class Taut(World):
    """tautd with its defaults, but for what is measured."""
    device = 'taut0'

    def __init__(self, bench, variant='', text=''):
        super().__init__(bench)
        self.run_dir = os.path.join(self.directory, 'run')
        os.mkdir(self.run_dir, 0o755)
        config = os.path.join(self.directory, 'taut.conf')
        busy = bench.busy_poll_section
        if variant == 'busy':
            if not busy:
                raise Missing('tautd knows no busy_poll_us')
            text += f'[{busy}]\nbusy_poll_us = {SPIN_US}\n'
        with open(config, 'w', encoding='utf-8') as f:
            f.write(f'[interface]\nname = taut0\nmac = {MAC}\nhost_address = {CLIENT}/16\n'
                    f'offload = {"no" if variant == "1500" else "yes"}\n'
                    f'[network]\naddress = {STACK}/16\nroute = default via {CLIENT}\n[control]\ndirectory = {self.run_dir}\n'
                    f'[log]\nlevel = warning\n[forward web]\nlisten = {WEB}\nto = tcp:127.0.0.1:{WEB}\n' + text)
        self.daemon = self.start_in(self.client_ns, os.path.join(bench.build, 'src/daemon/tautd'), '-c', config)
        self.pid = self.daemon.pid
        wait_for(self.answers, 10, 'tautd answers')
        ip(self.client_ns, *[f'addr add 10.77.4.{i}/32 dev taut0' for i in range(1, 9)])
        self.with_program = False

    def answers(self):
        if self.daemon.poll() is not None:
            with open(os.path.join(self.directory, 'out0'), encoding='utf-8', errors='replace') as f:
                raise Failed(f'tautd ended with status {self.daemon.returncode}: {f.read().strip()[-300:]}')
        try:
            return self.call('server.hello')
        except OSError:
            return None

    def call(self, method):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(5)
            s.connect(os.path.join(self.run_dir, 'control.sock'))
            s.sendall(json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': method}).encode() + b'\n')
            answer = b''
            while b'\n' not in answer:
                data = s.recv(65536)
                if not data:
                    raise OSError('tautd closed the control connection')
                answer += data
        return json.loads(answer)['result']

    def totals(self):
        return self.call('server.status')['totals']

    def need_program(self):
        if not self.with_program:
            self.start(self.program('bench_server'), '-t', self.run_dir, ready='ready')
            self.with_program = True
        return PROGRAM

    def connected(self):
        """A socket of the client's namespace to taut's echo service."""
        libc, here = ctypes.CDLL(None, use_errno=True), os.open('/proc/self/ns/net', os.O_RDONLY)
        there = os.open(net_path(self.client_ns), os.O_RDONLY)
        try:
            if libc.setns(there, 0x40000000):
                raise Failed('setns')
            s = socket.socket()
        finally:
            libc.setns(here, 0x40000000)
            os.close(here)
            os.close(there)
        s.settimeout(10)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b'cubic')
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.connect((STACK, ECHO))
        return s

    def time_to_restore(self):
        """Seconds from a kill -9 of the process that runs the stack to the next byte echoed on an old connection."""
        with self.connected() as s:
            s.sendall(b'x')
            s.recv(1)
            workers = [p for p in descendants(self.pid) if p != self.pid]
            if not workers:
                raise Missing('no process below tautd that could be replaced')
            began = time.monotonic()
            os.kill(workers[0], signal.SIGKILL)
            s.sendall(b'y')
            if s.recv(1) != b'y':
                raise Failed('the connection did not survive')
            return time.monotonic() - began


class Tap(World):
    """The bare TAP."""
    device = 'tap0'

    def __init__(self, bench, variant=''):
        super().__init__(bench)
        options = {'1500': ['-p'], 'busy': ['-s', SPIN_US], 'program': ['-u']}.get(variant, [])
        self.start(self.program('bench_bare'), '-n', net_path(self.client_ns), *options, 'tap0', STACK, ready='ready')
        self.client_end('tap0')


class Lwip(World):
    """lwIP; it knows plain frames of MTU 1500 only."""
    device = 'tap0'

    def __init__(self, bench, variant=''):
        super().__init__(bench)
        self.pid = self.start(self.program('bench_lwip'), '-n', net_path(self.client_ns), 'tap0', f'{STACK}/16', ready='ready').pid
        self.client_end('tap0')


class Slirp(World):
    """slirp4netns as rootless containers have it, with its largest MTU."""
    address, sources = '10.0.2.2', None

    def __init__(self, bench, variant=''):
        if not shutil.which('slirp4netns'):
            raise Missing('slirp4netns is not installed')
        super().__init__(bench)
        host = self.new_netns('h')
        self.serve(host)
        r, w = os.pipe()
        try:
            self.pid = self.start_in(host, 'slirp4netns', '--configure', '--mtu=65520', '--disable-dns', f'--ready-fd={w}',
                                     '--netns-type=path', net_path(self.client_ns), 'tap0', pass_fds=(w,)).pid
            os.close(w)
            w = -1
            if os.read(r, 1) != b'1':
                raise Failed('slirp4netns did not become ready')
        finally:
            os.close(r)
            if w >= 0:
                os.close(w)


class Pasta(World):
    """pasta through its TAP: the client connects to the gateway's address, which is the host's loopback."""
    address, sources = '192.0.2.1', None

    def __init__(self, bench, variant=''):
        if not shutil.which('pasta'):
            raise Missing('pasta is not installed')
        super().__init__(bench)
        host = self.new_netns('h')
        ip(host, 'link add e0 type veth peer name e1', 'link set e1 up', 'addr add 192.0.2.2/24 dev e0', 'link set e0 up', 'route add default via 192.0.2.1')
        self.serve(host)
        self.pid = self.start_in(host, 'pasta', '--foreground', '--quiet', '--config-net', '--runas', '0', '--ipv4-only', '-t', 'none', '-u',
                                 'none', '-T', 'none', '-U', 'none', '--netns', net_path(self.client_ns)).pid
        wait_for(lambda: '192.0.2.2' in run('ip', '-n', self.client_ns, 'addr'), 5, 'pasta has configured the namespace')


STACKS = {'taut': Taut, 'kernel': Kernel, 'tap': Tap, 'lwip': Lwip, 'slirp4netns': Slirp, 'pasta': Pasta}
