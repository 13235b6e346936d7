"""At the limits: descriptors, connections, payload memory, control clients, memory. What is new is refused with a reason;
what is there goes on; the daemon does not spin; and when there is room again it takes new ones."""
import os
import resource
import signal
import socket
import time

from harness import (Control, Failure, HOST4, RpcError, check, cpu_seconds, equal, exchange, pattern, read_exactly, reset_of,
                     same_bytes, tcp, wait_for)

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
    late = Control(d.dir)
    equal(late.call('stats.get')['daemon']['ProgramRefused'], 1, 'ProgramRefused, asked by a client that came late')
    late.close()
    sleeps(d, 'out of descriptors')
    os.kill(d.stack_pid, signal.SIGKILL)
    ask(old)
    for s in had:
        ask(s)
    d.control = Control(d.dir)
    d.control.fails('NO_DESCRIPTORS', 'tcp.connect', address=HOST4, port=8000)
    for s in had[:3]:
        s.close()
    wait_for(lambda: len(d.conns()) <= len(had) - 2, 5, 'what was closed is gone')
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
        s = tcp(port=9000)
        try:
            fds = socket.recv_fds(listener, 65536, 4)[1]
        except TimeoutError:
            return s
        theirs.append(socket.socket(fileno=fds[0]))
        return s
    mine = open_until(refused, one, 200)
    check(reset_of(lambda: mine[-1].recv(1)), 'the last one was reset')
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
        s = tcp(port=8000)
        if not reset_of(lambda: ask(s)):
            return s
        time.sleep(0.01)
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
        late.connect(('10.77.0.2', 7))
        raise Failure('the 17th connection was made')
    except TimeoutError:
        pass
    check(d.stats()['tcp_drops']['CONN_LIMIT'] > 0, 'CONN_LIMIT')
    check('CONN_LIMIT' in d.cli('stats'), 'taut stats tells it')
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
    backend = net.serve(lambda s: time.sleep(50))
    d = net.tautd(f'[limits]\nbuffers = 4M\n[forward hole]\nlisten = 8000\nto = tcp:127.0.0.1:{backend.port}\n')
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
        now = d.call('server.status')['memory']['buffers_used'] if 'memory' in d.call('server.status') else 0
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
    for s in full:
        s.close()
    data = pattern(1 << 20)
    wait_for(lambda: len(d.conns()) <= 3, 20, 'the others are gone')
    same_bytes(exchange(old, data, half_close=False), data, 'a megabyte')
    net.say(f'held {held}')


def test_out_of_memory(net):
    """The worker's address space is full: new connections are refused by name, old ones go on. limit: 60 s"""
    d = net.tautd('[limits]\nmax_connections = 20000\n')
    old = tcp()
    ask(old)
    with open(f'/proc/{d.stack_pid}/status', encoding='ascii') as f:
        size = next(int(line.split()[1]) * 1024 for line in f if line.startswith('VmSize'))
    resource.prlimit(d.stack_pid, resource.RLIMIT_AS, (size, -1))
    had, refused = [], 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, max(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    while not refused and len(had) < 4000:
        for _ in range(100):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(('10.77.0.2', 7))
            had.append(s)
        time.sleep(0.05)
        refused = os.path.exists(f'/proc/{d.stack_pid}') and d.stats()['tcp_drops']['NO_MEMORY']
    check(refused, f'{len(had)} connections and no refusal')
    ask(old)
    sleeps(d, 'out of memory', most=0.5)
    ask(old)
    resource.prlimit(d.stack_pid, resource.RLIMIT_AS, (-1, -1))
    with tcp() as s:
        ask(s)
    for s in had:
        s.close()
    net.say(f'refused beyond {len(had)} connections')
