"""The units under a real systemd: installed as a package would, booted in namespaces, used as an administrator does."""
import ctypes
import glob
import json
import os
import re
import signal
import socket
import threading
import time

from harness import BUILD, Control, ROOT, RpcError, SANITIZED, Skip, TAUTD, check, equal, need_other_builds, sh, wait_for
from test_survive import Chargen, Echoed, Load, reset_within

CONFIG = '''[interface]
name = {0}
host_address = 10.78.{1}.1/24
[network]
address = 10.78.{1}.2/24
[control]
directory = {2}
'''


class Machine:
    def __init__(self, net):
        self.dir, self.running = os.path.join(net.tmp, 'sd'), []
        tree = os.path.join(net.tmp, 'tree')
        env = dict(os.environ, DESTDIR=tree)
        sh('meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet', env=env, timeout=120)
        unit = glob.glob(tree + '/**/tautd.service', recursive=True)[0]
        with open(unit, encoding='utf-8') as f:
            self.etc = [x for x in f.read().splitlines() if x.startswith('ConditionPathExists=')][0].split('=')[1]
        os.makedirs(os.path.dirname(tree + self.etc), exist_ok=True)
        for path, name, number, control in ((self.etc, 'taut0', 0, '/run/taut'),
                                            (os.path.dirname(self.etc) + '/blue.conf', 'blue', 1, '/run/taut/blue')):
            with open(tree + path, 'w', encoding='utf-8') as f:
                f.write(CONFIG.format(name, number, control))
        os.makedirs(self.dir)
        status, out, err = sh(os.path.join(ROOT, 'tests/system/sdboot'), self.dir, tree, check_status=False, timeout=30)
        if status == 77:
            raise Skip(out.strip())
        check(status == 0, f'sdboot: {out} {err}')

    def run(self, *argv, **options):
        return sh(os.path.join(self.dir, 'in'), *argv, **options)

    def root(self, path):
        """A file of its, seen from here."""
        return f'/proc/{self.pid()}/root{path}'

    def pid(self):
        with open(os.path.join(self.dir, 'pid'), encoding='ascii') as f:
            pid = int(f.read())
        check(pid > 1, 'process 1 of the machine')
        return pid

    def in_its_network(self, make):
        """make() with the calling thread in the machine's network: a socket stays in the network it was made in."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open('/proc/self/task/%d/ns/net' % threading.get_native_id(), 'rb') as ours, \
                open(f'/proc/{self.pid()}/ns/net', 'rb') as its:
            check(libc.setns(its.fileno(), 0) == 0, f'setns: {os.strerror(ctypes.get_errno())}')
            try:
                return make()
            finally:
                check(libc.setns(ours.fileno(), 0) == 0, 'setns back')

    def connect(self, port, address='10.78.0.2'):
        return self.in_its_network(lambda: socket.create_connection((address, port), timeout=20))

    def control(self, directory='/run/taut'):
        return Control(self.root(directory))

    def worker(self, unit='tautd', other_than=None):
        def found():
            out = self.run('pgrep', '-P', self.show(unit, 'MainPID'), check_status=False)[1].split()
            return int(out[0]) if out and int(out[0]) != other_than else None
        return wait_for(found, 10, 'a worker runs', 0.02)

    def kill(self, pid, number):
        check(int(pid) > 1, f'process {pid}')
        self.run('kill', f'-{int(number)}', pid)

    def journal(self, unit='tautd'):
        return self.run('journalctl', '--no-pager', '-o', 'cat', '-u', unit)

    def restarted(self, times, unit='tautd', seconds=15):
        wait_for(lambda: self.show(unit, 'NRestarts') == str(times) and self.show(unit, 'ActiveState') == 'active',
                 seconds, f'{unit} restarted {times} times', 0.02)

    def append(self, text):
        with open(self.root(self.etc), 'a', encoding='utf-8') as f:
            f.write(text)

    def drop_in(self, text, unit='tautd'):
        folder = self.root(f'/run/systemd/system/{unit}.service.d')
        os.makedirs(folder, exist_ok=True)
        with open(folder + '/test.conf', 'w', encoding='utf-8') as f:
            f.write(text)
        self.run('systemctl', 'daemon-reload')

    def begin(self, net, name, *argv):
        """A command that runs on in there until end(); process 1 of the machine cannot be gone before it."""
        self.running.append(net.start(name, os.path.join(self.dir, 'in'), *argv))
        return self.running[-1]

    def end(self, process):
        with open(f'/proc/{process.pid}/task/{process.pid}/children', encoding='ascii') as f:
            for pid in f.read().split():
                os.kill(int(pid), signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def show(self, unit, name):
        return self.run('systemctl', 'show', '-P', name, unit).strip()

    def stop(self):
        for process in list(self.running):
            self.end(process)
        os.kill(self.pid(), signal.SIGKILL)
        with open(os.path.join(self.dir, 'cgroup'), encoding='ascii') as f:
            top = f.read().strip()

        def removed():
            for path, _, _ in sorted(os.walk(top), reverse=True):
                try:
                    os.rmdir(path)
                except OSError:
                    pass
            return not os.path.exists(top)
        wait_for(removed, 10, 'the cgroup is gone', 0.1)


def on_machine(net, steps):
    """steps(machine), with the journal if they fail."""
    if SANITIZED:
        raise Skip('the sandbox is for the real build')
    m = Machine(net)
    try:
        steps(m)
    except (AssertionError, RpcError):
        print(m.run('journalctl', '--no-pager', '-n', '40', check_status=False)[1])
        raise
    finally:
        m.stop()


def test_units(net):
    """Start, reload, bad reload, kill -9, security score, two instances, stop. limit: 120 s"""
    on_machine(net, lambda m: units(net, m))


def units(net, m):
    m.run('systemctl', 'start', 'tautd', timeout=30)
    equal(m.show('tautd', 'ActiveState'), 'active', 'state after start (Type=notify)')
    check('serving on taut0' in m.show('tautd', 'StatusText'), 'STATUS= is shown')
    m.run('ping', '-n', '-q', '-c', '2', '-i', '0.1', '10.78.0.2')
    pid = int(m.show('tautd', 'MainPID'))
    fields = dict(line.split(':', 1) for line in m.run('cat', f'/proc/{pid}/status').splitlines() if ':' in line)
    check(fields['Uid'].split()[0] != '0', f'it does not run as root: {fields["Uid"]}')
    equal(int(fields['CapEff'], 16), 0, 'capabilities: none, once the TAP is up')
    equal(json.loads(m.run('taut', 'status', '--json'))['interface']['name'], 'taut0', 'taut status')

    m.run('systemctl', 'reload', 'tautd', timeout=20)
    m.run('sh', '-c', f'echo "[tcp]" >>{m.etc}; echo "tcp_sack = maybe" >>{m.etc}')
    status, _, _ = m.run('systemctl', 'reload', 'tautd', check_status=False, timeout=20)
    check(status != 0, 'a reload with a bad file is an error')
    equal(m.show('tautd', 'ActiveState'), 'active', 'state after a bad reload')
    m.run('sed', '-i', '/tcp/d', m.etc)

    m.run('systemctl', 'kill', '-s', 'KILL', 'tautd')
    wait_for(lambda: m.show('tautd', 'NRestarts') == '1' and m.show('tautd', 'ActiveState') == 'active', 10,
             'restarted after kill -9')
    m.run('ping', '-n', '-q', '-c', '1', '10.78.0.2')

    m.run('systemctl', 'start', 'tautd@blue', timeout=30)
    m.run('ping', '-n', '-q', '-c', '1', '10.78.1.2')
    equal(json.loads(m.run('taut', '-S', '/run/taut/blue', 'status', '--json'))['interface']['name'], 'blue', 'instance')
    m.run('systemctl', 'reload', 'tautd@blue', timeout=20)

    score = m.run('systemd-analyze', 'security', '--no-pager', 'tautd').strip().splitlines()[-1]
    value = float(score.split(':')[1].split()[0])
    net.say(f'systemd-analyze security {value}')
    check(value < 2.0, score)

    m.run('systemctl', 'stop', 'tautd', 'tautd@blue', timeout=30)
    equal(m.show('tautd', 'Result'), 'success', 'result of the stop')
    check('taut0' not in m.run('ip', '-br', 'link'), 'the TAP is gone')

    m.run('sh', '-c', f'echo nonsense >{m.etc}')
    status, _, _ = m.run('systemctl', 'start', 'tautd', check_status=False, timeout=30)
    check(status != 0, 'a start with a bad file fails')
    equal(m.show('tautd', 'NRestarts'), '0', 'and is not tried again')


# ---- Connections under it ---------------------------------------------------------------------------------------------

class Traffic:
    """Checked streams through the service: two of echo, one of chargen, and, if asked for, of a program and a forward."""

    def __init__(self, m, hung=False):
        self.m, self.load = m, Load()
        self.load.thread.start()
        for n in range(2):
            self.load.add(Echoed(f'echo {n}', m.connect(7), n))
        self.load.add(Chargen('chargen', m.connect(19)))
        self.hung, self.kept = [], []
        if hung:
            _, listener = m.control().call_fd('tcp.listen', port=9000)
            self.hung = [m.connect(9000), m.connect(9000), m.connect(8080)]
            for _ in range(2):
                _, fds, _, _ = socket.recv_fds(listener, 4096, 1)
                self.kept.append(socket.socket(fileno=fds[0]))
            self.kept.append(listener)

    def moves(self, seconds=10):
        """Seconds until bytes move again."""
        began, moved = time.monotonic(), self.load.bytes
        wait_for(lambda: self.load.check() or self.load.bytes > moved + 100000, seconds, 'bytes move', 0.005)
        return time.monotonic() - began


def backend(m):
    """Of a forward; never answers."""
    s = m.in_its_network(lambda: socket.create_server(('127.0.0.1', 0)))
    m.append(f'[forward hung]\nlisten = 8080\nto = tcp:127.0.0.1:{s.getsockname()[1]}\n')
    return s


def watch_link(net, m):
    """ip monitor, and the check that the interface was there and up all the time."""
    index = m.run('cat', '/sys/class/net/taut0/ifindex')
    monitor = m.begin(net, 'monitor', 'ip', '-o', 'monitor', 'link', 'dev', 'taut0')
    time.sleep(0.2)

    def all_was_well():
        equal(m.run('cat', '/sys/class/net/taut0/ifindex'), index, 'the interface, never made again')
        said = monitor.output()
        check(not re.search(r'state DOWN|NO-CARRIER|Deleted', said), f'it went down: {said[-300:]}')
        m.end(monitor)
    return all_was_well


def test_worker_killed(net):
    """kill -9 and a stop of the worker under traffic: connections go on, the service is the same. limit: 120 s"""
    on_machine(net, lambda m: worker_killed(net, m))


def worker_killed(net, m):
    m.run('systemctl', 'start', 'tautd', timeout=30)
    main, traffic, well = m.show('tautd', 'MainPID'), Traffic(m), watch_link(net, m)
    gaps = []
    for _ in range(5):
        traffic.moves()
        pid = m.worker()
        m.kill(pid, signal.SIGKILL)
        m.worker(other_than=pid)
        gaps.append(traffic.moves())
    pid = m.worker()
    m.kill(pid, signal.SIGSTOP)
    m.worker(other_than=pid)
    gaps.append(traffic.moves())
    m.run('systemctl', 'reload', 'tautd', timeout=20)
    traffic.moves()
    equal(m.show('tautd', 'MainPID'), main, 'MainPID')
    equal(m.show('tautd', 'NRestarts'), '0', 'restarts of the service')
    check('made no progress for 2000 ms: killed' in m.journal(), 'the hang is told')
    well()
    net.say(f'bytes again within {max(gaps[:5]) * 1000:.0f} ms of seeing the next worker')


def answered(m):
    try:
        return m.control().call('server.hello')['name'] == 'taut'
    except ConnectionResetError:  # by a worker that was still there
        return False


def test_supervisor_killed(net):
    """kill -9 of the supervisor: systemd starts it again with TAP and arena; built-in services' connections go on, those
    that hung on its descriptors are reset and counted in the log; the interface never went down. limit: 120 s"""
    on_machine(net, lambda m: supervisor_killed(net, m))


def supervisor_killed(net, m):
    server = backend(m)
    m.run('systemctl', 'start', 'tautd', timeout=30)
    equal(m.show('tautd', 'NFileDescriptorStore'), '2', 'descriptors that systemd keeps')
    traffic, well = Traffic(m, hung=True), watch_link(net, m)
    took = []
    for n in range(1, 4):
        traffic.moves()
        began = time.monotonic()
        m.kill(m.show('tautd', 'MainPID'), signal.SIGKILL)
        wait_for(lambda: answered(m), 10, 'a call is answered')  # it waits in the backlog of systemd's socket
        took.append(time.monotonic() - began)
        m.restarted(n)
        traffic.moves()
        equal(m.show('tautd', 'NFileDescriptorStore'), '2', 'descriptors that systemd keeps')
        if n == 1:
            for s in traffic.hung:
                check(reset_within(s, 5, b'?'), 'what hung on a descriptor of the dead one is reset')
            for s in traffic.kept[:2]:
                check(reset_within(s, 5), 'the program reads that, too')
    told = re.findall(r'with it the descriptors of (\d+) connections of programs, (\d+) of forwards and (\d+) listeners',
                      m.journal())
    equal(told, [('2', '1', '1')], 'what the log counts, once')
    well()
    server.close()
    net.say(f'kill to an answered call {max(took) * 1000:.0f} ms')


def test_watchdog(net):
    """systemd's watchdog: a supervisor that hangs, and a worker that nobody else looks after. limit: 120 s"""
    on_machine(net, lambda m: watchdog(net, m))


def watchdog(net, m):
    m.append('[daemon]\nhang = 0\n')
    m.drop_in('[Service]\nWatchdogSec=1s\n')
    m.run('systemctl', 'start', 'tautd', timeout=30)
    traffic, well = Traffic(m), watch_link(net, m)
    time.sleep(2.5)
    equal(m.show('tautd', 'NRestarts'), '0', 'restarts while all is well')
    for n, who in enumerate((lambda: m.show('tautd', 'MainPID'), m.worker), 1):
        m.kill(who(), signal.SIGSTOP)
        m.restarted(n)
        traffic.moves()
    equal(m.journal().count('Watchdog timeout'), 2, 'watchdog timeouts')
    well()
    # Idle: it is fed all the same.
    traffic.load.stopping = True
    for flow in traffic.load.flows:
        flow.sock.close()
    time.sleep(2.5)
    equal(m.show('tautd', 'NRestarts'), '2', 'restarts while idle')


def install(m, binary):
    """Over the service's, as a package does it."""
    with open(binary, 'rb') as f:
        path = m.run('sh', '-c', "systemctl show -P ExecStart tautd | sed 's/.*path=\\([^ ]*\\) .*/\\1/'").strip()
        m.run('sh', '-c', f'cat >{path}.new && chmod 755 {path}.new && mv {path}.new {path}', stdin=f.read())


def test_upgrade(net):
    """taut upgrade of the service, to a build with other records and another configuration and back: the same process;
    killed afterwards, the new one goes on from the store. limit: 120 s"""
    need_other_builds()
    on_machine(net, lambda m: upgraded(net, m))


def upgraded(net, m):
    m.run('systemctl', 'start', 'tautd', timeout=30)
    main, traffic, well = m.show('tautd', 'MainPID'), Traffic(m), watch_link(net, m)
    install(m, TAUTD + '_far')
    status, _, err = m.run('taut', 'upgrade', check_status=False)
    check(status != 0 and 'UPGRADE_REFUSED' in err, f'an arena that it cannot read: {status} {err}')
    for binary in (TAUTD + '_next', TAUTD, TAUTD + '_next'):
        traffic.moves()
        install(m, binary)
        said = m.run('taut', 'upgrade')
        check(f'process {main}' in said, said)
        traffic.moves()
        equal(m.show('tautd', 'MainPID'), main, 'MainPID')
        equal(m.show('tautd', 'NFileDescriptorStore'), '2', 'descriptors that systemd keeps')
    equal(m.show('tautd', 'NRestarts'), '0', 'restarts of the service')
    install(m, TAUTD)
    m.kill(m.show('tautd', 'MainPID'), signal.SIGKILL)
    m.restarted(1)
    traffic.moves()
    equal(m.journal().count('records of another version were converted'), 4, 'conversions')
    well()
    # A package was changed, and the service is restarted: an end, and a start by the file.
    m.run('sed', '-i', 's/^address = .*/address = 10.78.0.9\\/24/', m.etc)
    m.run('systemctl', 'restart', 'tautd', timeout=30)
    m.run('ping', '-n', '-q', '-c', '1', '10.78.0.9')
    check('going on with the arena' not in m.journal().split('ending: draining')[-1], 'nothing is gone on with')


def test_activation(net):
    """Sockets: the first call starts the daemon; stopped it stays stopped; instances keep theirs; also without. limit: 120 s"""
    on_machine(net, lambda m: activation(net, m))


def activation(net, m):
    def exists(path):
        return m.run('test', '-S', path, check_status=False)[0] == 0
    m.run('systemctl', 'start', 'tautd.socket')
    equal(m.show('tautd', 'ActiveState'), 'inactive', 'nobody called yet')
    equal(m.control().call('server.hello')['name'], 'taut', 'the first call, by the sequenced-packet socket')
    m.restarted(0)
    equal(Control(m.root('/run/taut'), seq=False).call('server.hello')['name'], 'taut', 'a call by the stream socket')
    m.run('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'taut', 'status')
    status, _, _ = m.run('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'taut', 'reload',
                         check_status=False)
    check(status != 0, 'others only look')
    m.run('systemctl', 'reload', 'tautd', timeout=20)

    m.run('systemctl', 'start', 'tautd@blue.socket')
    equal(json.loads(m.run('taut', '-S', '/run/taut/blue', 'status', '--json'))['interface']['name'], 'blue', 'instance')
    m.run('systemctl', 'stop', 'tautd', timeout=30)
    equal(m.show('tautd.socket', 'ActiveState'), 'inactive', 'the socket of a service that was stopped')
    check(not exists('/run/taut/control.sock'), 'its socket is gone')
    status, _, _ = m.run('taut', 'status', check_status=False)
    check(status != 0 and m.show('tautd', 'ActiveState') == 'inactive', 'a call does not start it again')
    m.run('taut', '-S', '/run/taut/blue', 'status')
    m.run('systemctl', 'start', 'tautd', timeout=30)
    equal(m.show('tautd.socket', 'ActiveState'), 'active', 'the service brings its socket')
    m.run('taut', 'status')
    m.run('systemctl', 'stop', 'tautd', timeout=30)

    # survive = no takes the sockets, too.
    m.append('[daemon]\nsurvive = no\n')
    m.run('systemctl', 'start', 'tautd.socket')
    m.run('taut', 'status')
    m.run('systemctl', 'stop', 'tautd', timeout=30)
    m.run('sed', '-i', '/survive/d', m.etc)

    # Without: as the manual says.
    m.run('systemctl', 'mask', '--runtime', 'tautd.socket')
    m.drop_in('[Service]\nRuntimeDirectory=taut\n')
    m.run('systemctl', 'start', 'tautd', timeout=30)
    m.run('taut', 'status')
    m.run('systemctl', 'reload', 'tautd', timeout=20)
    m.run('systemctl', 'stop', 'tautd', timeout=30)
    check(not exists('/run/taut/control.sock'), 'its socket is gone')


def test_failing_start(net):
    """What cannot start is tried again, but not in a hurry, and comes up when it can; no limit gives it up. limit: 120 s"""
    on_machine(net, failing_start)


def failing_start(m):
    m.run('ip', 'tuntap', 'add', 'taut0', 'mode', 'tun')
    status, _, _ = m.run('systemctl', 'start', 'tautd', check_status=False, timeout=30)
    check(status != 0, 'the start fails')
    time.sleep(8)
    tries = int(m.show('tautd', 'NRestarts'))
    check(4 <= tries <= 9, f'{tries} more tries in 8 s')
    m.run('ip', 'link', 'del', 'taut0')
    wait_for(lambda: m.show('tautd', 'ActiveState') == 'active', 10, 'it comes up')
    m.run('ping', '-n', '-q', '-c', '1', '10.78.0.2')
    equal((m.show('tautd', 'OOMPolicy'), m.show('tautd', 'Restart')), ('continue', 'always'), 'policies')
    m.run('ip', 'link', 'del', 'taut0')
    wait_for(lambda: int(m.show('tautd', 'NRestarts')) > tries and m.show('tautd', 'ActiveState') == 'active', 10,
             'the interface was deleted: it is started again')
    m.run('ping', '-n', '-q', '-c', '1', '10.78.0.2')
