"""Start, idleness and end of the daemon."""
import os
import re
import signal
import socket
import subprocess
import threading
import time

from harness import (FULL, IFNAME, SANITIZED, TAUTD, Skip, STACK4, check, cpu_seconds, equal, need, pattern, read_all,
                     read_exactly, same_bytes, sh, sysctl, tcp, wait_for)


def test_sigterm_drains(net):
    """SIGTERM: no new connections, FIN behind what was sent, exit status 0 as soon as all have ended."""
    d = net.tautd('[limits]\ndrain = 10s\n')
    d.expect_end = True
    s = tcp()
    s.sendall(b'before')
    equal(read_exactly(s, 6), b'before', 'echo')
    began = time.monotonic()
    d.send_signal(signal.SIGTERM)
    equal(read_all(s), b'', 'an orderly end')
    try:
        tcp(timeout=1)
        check(False, 'a new connection was accepted while draining')
    except OSError:
        pass
    s.close()
    equal(d.wait(8), 0, 'exit status')
    check(time.monotonic() - began < 5, 'it did not wait for the whole drain time')
    check('draining' in d.output(), 'the log says so')


def test_sigterm_delivers(net):
    """SIGTERM while a program's bytes are on their way: what was accepted from it is delivered."""
    d = net.tautd('[limits]\ndrain = 10s\n')
    d.expect_end = True
    _, listener = d.control.call_fd('tcp.listen', port=9000)
    client = tcp(port=9000)
    _, fds, _, _ = socket.recv_fds(listener, 4096, 1)
    s = socket.socket(fileno=fds[0])
    data = pattern(400000)
    t = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)), daemon=True)
    t.start()
    time.sleep(0.3)  # the peer does not read yet: part of it waits in taut
    d.send_signal(signal.SIGTERM)
    got = read_all(client)
    t.join(5)
    check(data.startswith(got), 'what arrived is the beginning of what was sent')
    check(len(got) > 0, 'something arrived')
    client.close()
    equal(d.wait(12), 0, 'exit status')
    net.say(f'{len(got)} bytes delivered')


def test_drain_timeout(net):
    """A peer that never closes is reset when the drain time is over."""
    d = net.tautd('[limits]\ndrain = 500ms\n')
    d.expect_end = True
    s = tcp(port=19)
    time.sleep(0.1)
    began = time.monotonic()
    d.send_signal(signal.SIGTERM)
    equal(d.wait(5), 0, 'exit status')
    check(0.3 < time.monotonic() - began < 3, f'{time.monotonic() - began:.1f} s')
    try:
        read_all(s)
        check(False, 'the peer saw an orderly end')
    except ConnectionResetError:
        pass


def test_sigterm_twice(net):
    d = net.tautd('[limits]\ndrain = 1min\n')
    d.expect_end = True
    s = tcp(port=19)
    read_exactly(s, 1)  # the daemon has it too, not the kernel alone
    d.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    check(d.running(), 'it drains')
    d.send_signal(signal.SIGTERM)
    equal(d.wait(3), 0, 'exit status')
    s.close()


def test_nothing_left_by_daemon(net):
    """After the end: no TAP, no socket files; a second start in the same directory works."""
    d = net.tautd()
    d.expect_end = True
    equal(d.stop(), 0, 'exit status')
    check(IFNAME not in sh('ip', '-br', 'link'), 'the TAP is gone')
    equal([f for f in os.listdir(d.dir) if f.endswith(('.sock', '.seq'))], [], 'socket files')
    d2 = net.tautd()
    equal(d2.call('server.hello')['name'], 'taut', 'hello of the second')


def test_restart_after_kill(net):
    """kill -9 leaves stale socket files: the next start replaces them; a live daemon's are refused."""
    d = net.tautd()
    d.expect_end = True
    os.kill(d.pid, signal.SIGKILL)
    d.wait(5)
    d2 = net.start('tautd-again', TAUTD, '-c', d.config_path)
    d2.wait_output('on taut0')
    d3 = net.start('tautd-third', TAUTD, '-c', d.config_path)
    equal(d3.wait(5), 1, 'exit status of one too many')
    check(d2.running(), 'the running one is not disturbed')
    equal(d2.stop(), 0, 'exit status')


def syscalls(pid, seconds, tmp):
    """Lines of strace of it and its children over that time, without the wait in which each was found."""
    path = os.path.join(tmp, 'strace.out')
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
        pids = [str(pid)] + f.read().split()
    p = subprocess.Popen(['strace', '-f', '-tt', '-o', path] + [x for one in pids for x in ('-p', one)],
                         stderr=subprocess.PIPE)
    try:
        p.wait(seconds)
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGINT)
        p.wait(10)
    with open(path, encoding='utf-8', errors='replace') as f:
        lines = [line.strip() for line in f]
    return [x for x in lines if not re.search(r'(epoll_wait|epoll_pwait|epoll_pwait2|poll|ppoll|restart_syscall)\(.*(<detached|<unfinished)', x)
            and 'strace: ' not in x]


def test_idle_sleeps(net):
    """1,000 idle connections: not one system call in 3 s (10 s with --full). runs alone, limit: 120 s"""
    need('strace')
    if SANITIZED:
        raise Skip('leak checking does not go with strace')
    d = net.tautd('[services]\necho = 7\n')
    sysctl(f'net.ipv6.conf.{IFNAME}.disable_ipv6', 1)  # the kernel's own router solicitations are no idleness
    socks = [tcp() for _ in range(1000)]
    for s in socks[::10]:
        s.sendall(b'x')
        equal(read_exactly(s, 1), b'x', 'echo')
    equal(d.call('server.status')['totals']['established'], 1000, 'established')
    sh('ip', 'neigh', 'replace', STACK4, 'lladdr', '02:77:00:00:00:02', 'dev', IFNAME, 'nud', 'permanent')
    wait_for(lambda: d.call('server.status')['totals']['parked'] == 1000, 10, 'all are parked')
    seconds, attempts = (10, 4) if FULL else (3, 7)
    for attempt in range(attempts):
        time.sleep(1.5)  # the supervisor sleeps once the worker did for a while; the last strace's end woke both
        calls = syscalls(d.pid, seconds, net.tmp)
        if not calls:
            rss = re.search(r'VmRSS:\s+(\d+)', open(f'/proc/{d.stack_pid}/status', encoding='ascii').read()).group(1)
            net.say(f'{seconds} s without a system call (attempt {attempt + 1}), {int(rss) // 1024} MiB resident')
            break
    else:
        check(False, f'woke up in each of {attempts} times {seconds} s; the last calls: {calls[:12]}')
    socks[500].sendall(b'awake')
    equal(read_exactly(socks[500], 5), b'awake', 'echo afterwards')


def test_busy_is_not_spinning(net):
    """A connection that waits (window closed, program stalled) costs no CPU. runs alone"""
    d = net.tautd()
    s = tcp(port=19)  # chargen with nobody reading
    time.sleep(1)
    before = cpu_seconds(d)
    time.sleep(2)
    used = cpu_seconds(d) - before
    net.say(f'{used:.2f} s of CPU in 2 s')
    check(used < 0.2, f'{used:.2f} s of CPU in 2 s of waiting')
    s.close()


def test_many_opens_memory_returns(net):
    """3,000 connections opened and closed: no descriptor and no chunk stays."""
    d = net.tautd()
    fds = lambda: len(os.listdir(f'/proc/{d.pid}/fd'))
    before = fds()
    for _ in range(6):
        socks = [tcp() for _ in range(500)]
        for s in socks:
            s.sendall(b'data')
        for s in socks:
            read_exactly(s, 4)
            s.close()
    wait_for(lambda: d.call('server.status')['totals']['connections'] -
             d.call('server.status')['totals']['time_wait'] <= 0, 5, 'connections gone')
    check(fds() <= before, f'descriptors {before} -> {fds()}')
    used = d.call('server.status')['memory']['chunk_bytes_used']
    check(used < 1 << 20, f'{used} bytes of chunks still used')


def test_notify_states(net):
    """sd_notify: READY=1 came (the harness waits for it), STOPPING=1 comes at the end."""
    d = net.tautd()
    d.expect_end = True
    equal(d.stop(), 0, 'exit status')
    wait_for(lambda: any(b'STOPPING=1' in x for x in d.notified), 2, f'STOPPING=1 in {d.notified}')


def test_out_of_descriptors(net):
    """A limit of 64 descriptors: forwards beyond it are reset with a reason, the daemon lives and serves on."""
    import resource
    backend = net.serve(lambda s: [s.sendall(x) for x in iter(lambda: s.recv(65536), b'')])
    d = net.tautd(f'[forward web]\nlisten = 8000\nto = tcp:127.0.0.1:{backend.port}\n',
                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    socks, served, reset = [], 0, 0
    for _ in range(100):
        try:
            socks.append(tcp(port=8000))
            socks[-1].sendall(b'x')
            served += socks[-1].recv(1) == b'x'
        except OSError:
            reset += 1
    check(served >= 20 and reset >= 20, f'{served} served, {reset} reset')
    check(d.stats()['daemon']['ForwardNoDescriptors'] >= 20, 'ForwardNoDescriptors')
    with tcp() as s:
        s.sendall(b'y')
        equal(read_exactly(s, 1), b'y', 'echo without descriptors')
    for s in socks:
        s.close()
    wait_for(lambda: d.call('server.status')['forwards'][0]['connections'] == 0, 5, 'all ended')
    with tcp(port=8000) as s:
        s.sendall(b'z')
        equal(read_exactly(s, 1), b'z', 'the forward works again')


def test_buffer_budget(net):
    """buffers = 4M and 64 stalled connections: the budget holds and nobody gets a wrong byte."""
    d = net.tautd('[limits]\nbuffers = 4M\n')
    socks = [tcp(port=19) for _ in range(64)]
    time.sleep(1)
    m = d.call('server.status')['memory']
    check(m['chunk_bytes_used'] <= m['chunk_bytes_budget'] == 4 << 20, f'{m}')
    expected = read_exactly(socks[0], 74 * 500)
    for s in socks[1:8]:
        same_bytes(read_exactly(s, 74 * 500), expected, 'chargen under memory pressure')
    for s in socks:
        s.close()
    with tcp() as s:
        data = pattern(100000)
        s.sendall(data[:50000])
        same_bytes(read_exactly(s, 50000), data[:50000], 'echo afterwards')


def round_trips(n):
    """Median and 99th percentile of `n` echoes of one byte, seconds."""
    took = []
    with tcp() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(n):
            began = time.monotonic()
            s.sendall(b'x')
            read_exactly(s, 1)
            took.append(time.monotonic() - began)
    took.sort()
    return took[n // 2], took[n * 99 // 100]


def test_busy_poll(net):
    """busy_poll_us: round trips find the daemon looking; what comes seldom, or not at all, does not. runs alone"""
    d = net.tautd('[services]\necho = 7\ndiscard = 9\n[daemon]\nbusy_poll_us = 500\n')
    polls = lambda: [d.stats()['daemon'][x] for x in ('BusyPollHits', 'BusyPollMisses')]
    p50, p99 = round_trips(2000)
    hit, missed = polls()
    check(hit > 1000, f'{hit} of 2000 round trips were waited for, {missed} in vain')
    with tcp(port=9, nodelay=True) as s:  # nothing answers, nothing waits for an ACK: no byte comes soon after another
        before = polls()
        for _ in range(50):
            time.sleep(0.01)
            s.sendall(b'y')
        after = polls()
    net.say(f'{after[1] - before[1]} times in vain for 50 bytes, one every 10 ms')
    check(after[1] - before[1] <= 45, f'{after[1] - before[1]} times in vain for 50 bytes, one every 10 ms')
    before = cpu_seconds(d)
    time.sleep(1)
    used = cpu_seconds(d) - before
    check(used <= 0.05, f'{used:.2f} s of CPU in an idle second')
    d.write_config('[services]\necho = 7\n')
    d.call('server.reload')
    off50, off99 = round_trips(2000)
    equal(polls()[0] - hit < 200, True, 'switched off by a reload')
    net.say(f'median {p50 * 1e6:.0f} us, 99 of 100 within {p99 * 1e6:.0f} us; without {off50 * 1e6:.0f} and {off99 * 1e6:.0f} us')
