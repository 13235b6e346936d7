"""At the limits: descriptors, connections, payload memory, control clients, memory. What is new is refused with a reason;
what is there goes on; the daemon does not spin; and when there is room again it takes new ones."""
import os
import resource
import select
import signal
import socket
import threading
import time

from harness import (Control, Failure, HOST4, RpcError, SANITIZED, STACK4, Skip, check, cpu_seconds, equal, exchange,
                     pattern, read_exactly, reset_of, same_bytes, tcp, wait_for)

FDS = 96


def echo(s):
    while True:
        data = s.recv(65536)
        if not data:
            return
        s.sendall(data)


def set_limit(d, what, value):
    """Of the supervisor, whose next workers inherit it, and of the worker. The hard limit stays."""
    for pid in {d.pid, d.stack_pid}:
        resource.prlimit(pid, what, (value, resource.prlimit(pid, what)[1]))


def fds_of(d):
    return len(os.listdir(f'/proc/{d.stack_pid}/fd'))


def sleeps(d, what, seconds=0.7, most=0.25):
    """The daemon uses little of a processor."""
    before = cpu_seconds(d)
    time.sleep(seconds)
    used = (cpu_seconds(d) - before) / seconds
    check(used < most, f'{what}: the daemon uses {used:.2f} of a processor')


def ask(s, text=b'still here?'):
    s.sendall(text)
    equal(read_exactly(s, len(text)), text, 'echo of a connection that was there before')


def connect_until_refused(d, name, most=400):
    """Program's connections; those that were had, and the error."""
    had = []
    for _ in range(most):
        try:
            had.append(d.control.call_fd('tcp.connect', address=HOST4, port=8000)[1])
        except RpcError as e:
            equal(e.name, name, f'the error after {len(had)} connections')
            return had, e
    raise Failure(f'{most} connections were not refused')


def open_until(done, connect, most):
    had = []
    while not done():
        check(len(had) < most, f'{most} connections and no refusal')
        had.append(connect())
    return had


def connected_or_reset(port):
    try:
        return tcp(port=port)
    except ConnectionResetError:
        return None


def test_programs_out_of_descriptors(net):
    """Connects are refused by name; clients still get in; a worker that dies there is replaced and loses nothing."""
    d = net.tautd()
    net.serve(echo, HOST4, 8000)
    old = tcp()
    ask(old)
    set_limit(d, resource.RLIMIT_NOFILE, FDS)
    had, e = connect_until_refused(d, 'NO_DESCRIPTORS')
    equal(e.data['errno'], 'EMFILE', 'errno')
    check(len(had) > 20, f'{len(had)} connections of {FDS} descriptors')
    ask(old)
    ask(had[0])
    late = [Control(d.dir) for _ in range(8)]
    for c in late:
        equal(c.call('stats.get')['daemon']['ProgramRefused'], 1, 'ProgramRefused, asked by clients that came late')
        c.close()
    sleeps(d, 'out of descriptors')
    os.kill(d.stack_pid, signal.SIGKILL)
    ask(old)
    for s in had:
        ask(s)
    d.control = Control(d.dir)
    d.control.fails('NO_DESCRIPTORS', 'tcp.connect', address=HOST4, port=8000)
    full = fds_of(d)
    for s in had[:3]:
        s.close()
    wait_for(lambda: fds_of(d) <= full - 3, 5, 'the descriptors of what was closed are free')
    again = d.control.call_fd('tcp.connect', address=HOST4, port=8000)[1]
    ask(again)
    net.say(f'{len(had)} connections')


def test_listener_out_of_descriptors(net):
    """A program's listener: peers beyond are reset, counted and logged; the others are served."""
    d = net.tautd()
    _, listener = d.control.call_fd('tcp.listen', port=9000)
    set_limit(d, resource.RLIMIT_NOFILE, FDS)
    mine, theirs = [], []
    refused = lambda: d.stats()['daemon']['ProgramRefused']
    listener.settimeout(0.3)

    def one():
        s = connected_or_reset(9000)
        try:
            theirs.append(socket.socket(fileno=socket.recv_fds(listener, 65536, 4)[1][0]))
        except TimeoutError:
            check(not s or reset_of(lambda: s.recv(1)), 'the one that was not handed over was reset')
        return s
    mine = open_until(refused, one, 200)
    check('a connection was reset' in d.output(), 'the log says so')
    mine[0].sendall(b'go on')
    equal(read_exactly(theirs[0], 5), b'go on', 'a connection that was there')
    sleeps(d, 'out of descriptors')
    for s in mine[1:4] + theirs[1:4]:
        s.close()
    n = refused()
    with tcp(port=9000) as s:
        fds = socket.recv_fds(listener, 65536, 4)[1]
        with socket.socket(fileno=fds[0]) as t:
            s.sendall(b'new')
            equal(read_exactly(t, 3), b'new', 'a new connection')
    equal(refused(), n, 'none was refused since')


def test_forward_out_of_descriptors(net):
    """A forward without a descriptor for its backend: the peer is reset, with a counter."""
    backend = net.serve(echo)
    d = net.tautd(f'[forward web]\nlisten = 8000\nto = tcp:127.0.0.1:{backend.port}\n')
    set_limit(d, resource.RLIMIT_NOFILE, FDS)
    refused = lambda: d.stats()['daemon']['ForwardNoDescriptors']

    def one():
        s = connected_or_reset(8000)
        if s and not reset_of(lambda: ask(s)):
            return s
        wait_for(refused, 2, 'a reset, counted')
        return s
    had = open_until(refused, one, 200)
    check('Too many open files' in d.output(), 'the log says why')
    ask(had[0])
    sleeps(d, 'out of descriptors')
    for s in had[1:4]:
        s.close()
    wait_for(lambda: d.call('server.status')['forwards'][0]['connections'] <= len(had) - 4, 5, 'what was closed is gone')
    with tcp(port=8000) as s:
        ask(s)


def control_client(d):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(5)
    s.connect(os.path.join(d.dir, 'control.sock'))
    try:
        s.sendall(b'{"jsonrpc":"2.0","id":1,"method":"server.hello"}\n')
    except BrokenPipeError:
        pass  # turned away already; the reason is there to be read
    answer = s.recv(65536)
    return s, answer


def test_control_out_of_descriptors(net):
    """Control clients until there is no descriptor: the next ones are told, the old ones are served."""
    d = net.tautd()
    old = tcp()
    set_limit(d, resource.RLIMIT_NOFILE, FDS)
    had = []
    while True:
        check(len(had) < 200, '200 clients of 96 descriptors')
        s, answer = control_client(d)
        if b'"result"' not in answer:
            break
        had.append(s)
    check(b'TOO_MANY_CLIENTS' in answer, f'the client that was turned away is told: {answer}')
    ask(old)
    equal(d.stats()['daemon']['ControlRefused'], 1, 'ControlRefused')
    sleeps(d, 'control clients beyond the limit')
    had.pop().close()
    wait_for(lambda: b'"result"' in control_client(d)[1], 2, 'a client in the place of one that went')
    net.say(f'{len(had) + 1} clients')


def test_control_clients(net):
    """1,024 control clients are served, the next ones told so. limit: 60 s"""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    d = net.tautd()
    had = []
    for _ in range(1023):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(os.path.join(d.dir, 'control.sock'))
        had.append(s)
    wait_for(lambda: d.stats()['daemon']['ControlClients'] >= 1024, 5, 'all of them are in')
    answer = control_client(d)[1]
    check(b'TOO_MANY_CLIENTS' in answer, f'one more is told: {answer}')
    equal(d.stats()['daemon']['ControlRefused'], 1, 'ControlRefused')
    check('control' in d.output() and 'turned away' in d.output(), 'the log says so')
    sleeps(d, 'at the limit of clients')
    had.pop().close()
    wait_for(lambda: b'"result"' in control_client(d)[1], 2, 'a client in the place of one that went')


def test_no_descriptor_at_all(net):
    """The limit is below what is in use: a control client can't even be turned away. It waits, and does not wake the daemon."""
    d = net.tautd()
    old = tcp()
    ask(old)
    hard = resource.prlimit(d.pid, resource.RLIMIT_NOFILE)[1]
    set_limit(d, resource.RLIMIT_NOFILE, 4)
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(5)
    s.connect(os.path.join(d.dir, 'control.sock'))
    s.sendall(b'{"jsonrpc":"2.0","id":1,"method":"server.hello"}\n')
    time.sleep(0.1)
    sleeps(d, 'a client waits')
    ask(old)
    check('no client can be accepted' in d.output(), 'the log says so')
    set_limit(d, resource.RLIMIT_NOFILE, hard)
    check(b'"result"' in s.recv(65536), 'served when there is room')


def test_max_connections(net):
    """SYNs are dropped with a reason, connects refused by name, until connections go."""
    d = net.tautd('[limits]\nmax_connections = 16\n')
    net.serve(echo, HOST4, 8000)
    had = [tcp() for _ in range(16)]
    for s in had:
        ask(s)
    late = socket.socket()
    late.settimeout(0.3)
    try:
        late.connect((STACK4, 7))
        raise Failure('the 17th connection was made')
    except TimeoutError:
        pass
    check(d.stats()['tcp_drops']['CONN_LIMIT'] > 0, 'CONN_LIMIT')
    check('CONN_LIMIT' in d.cli('stats'), 'taut stats tells it')
    check('CONN_LIMIT (limits.max_connections is 16)' in d.output(), 'the log tells it')
    e = d.control.fails('NO_MEMORY', 'tcp.connect', address=HOST4, port=8000)
    equal(e.data['errno'], 'ENFILE', 'errno')
    sleeps(d, 'at max_connections')
    for s in had[1:3]:
        s.close()
    late.settimeout(5)
    late.close()
    wait_for(lambda: len(d.conns()) <= 14, 5, 'what was closed is gone')
    with tcp() as s:
        ask(s)
    ask(d.control.call_fd('tcp.connect', address=HOST4, port=8000)[1])
    ask(had[0])


def test_buffers_full(net):
    """Peers fill all payload memory with what nobody reads: their windows close; others go on with little, and bulk again
    when it is read. limit: 60 s"""
    release = threading.Event()

    def reads_late(s):
        release.wait(50)
        while s.recv(1 << 20):
            pass
    path = os.path.join(net.tmp, 'backend')
    net.serve(reads_late, path=path)
    d = net.tautd(f'[limits]\nbuffers = 4M\n[forward hole]\nlisten = 8000\nto = unix:{path}\n')
    old = tcp(nodelay=True)
    ask(old)
    full = []
    for _ in range(40):
        s = tcp(port=8000)
        s.setblocking(False)
        full.append(s)
    held, end = -1, time.monotonic() + 15
    while time.monotonic() < end:
        for s in full:
            try:
                while s.send(bytes(65536)):
                    pass
            except BlockingIOError:
                pass
        time.sleep(0.3)
        now = d.call('server.status')['memory']['chunk_bytes_used']
        if now == held:
            break
        held = now
    for i in range(20):
        began = time.monotonic()
        ask(old, b'x' * (1 + i * 50))
        check(time.monotonic() - began < 1, 'an answer within a second')
    with tcp(nodelay=True) as s:
        ask(s)
    sleeps(d, 'buffers full')
    check(held > 3 << 20, f'the buffers hold {held} of 4 MiB')
    release.set()
    wait_for(lambda: d.call('server.status')['memory']['chunk_bytes_used'] < 1 << 20, 20, 'the buffers are empty again')
    data = pattern(1 << 20)
    same_bytes(exchange(old, data, half_close=False), data, 'a megabyte')
    net.say(f'held {held}')


def test_out_of_memory(net):
    """The worker's address space is full: new connections are not served, old ones go on; again when there is room, and the
    counters tell. limit: 60 s"""
    if SANITIZED:
        raise Skip('the allocator of sanitizers ends the process')
    d = net.tautd('[limits]\nmax_connections = 20000\n')
    old = tcp()
    ask(old)
    with open(f'/proc/{d.stack_pid}/status', encoding='ascii') as f:
        size = next(int(line.split()[1]) * 1024 for line in f if line.startswith('VmSize'))
    resource.prlimit(d.stack_pid, resource.RLIMIT_AS, (size + (1 << 20), -1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, max(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    had = {}
    for _ in range(3000):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((STACK4, 7))
        had[s.fileno()] = s
    time.sleep(0.5)
    reset = 0
    poll = select.poll()
    for fd, s in had.items():
        try:
            s.send(b'x')
            poll.register(fd, select.POLLIN)
        except OSError:
            reset += 1
    time.sleep(0.3)
    poor = len(poll.poll(0))
    ask(old)
    sleeps(d, 'out of memory')
    ask(old)
    pid = d.stack_pid
    resource.prlimit(pid, resource.RLIMIT_AS, (-1, -1))
    with tcp() as s:
        ask(s)
    served, end = 0, time.monotonic() + 20
    while served + reset < len(had):
        check(time.monotonic() < end, f'{served} served and {reset} reset of {len(had)}')
        for fd, bits in poll.poll(1000):
            poll.unregister(fd)
            served += bits == select.POLLIN
            reset += bits != select.POLLIN
    equal(d.stack_pid, pid, 'the worker')
    d.control = Control(d.dir)
    stats = d.stats()
    told = stats['tcp_drops']['NO_MEMORY'], stats['daemon']['NoMemory'], stats['daemon']['Starved']
    check(told[0] + told[1] > 0 and told[0] + told[1] >= reset and served > 100, f'{reset} were reset, counted NO_MEMORY, NoMemory, Starved: {told}')
    for s in had.values():
        s.close()
    net.say(f'{poor} of {len(had)} served without memory, {served} later, {reset} reset; {told}')
