"""taut top: on a terminal (tmux) and in batch mode."""
import os
import re
import time

from harness import TAUT, RawPeer, check, equal, need, read_exactly, sh, tcp, wait_for


class Terminal:
    """A command in a tmux of our own (its server ends with it)."""

    def __init__(self, net, command, width=120, height=30):
        need('tmux')
        self.base = ['tmux', '-S', os.path.join(net.tmp, 'tmux.sock'), '-f', '/dev/null']
        env = dict(os.environ, LC_ALL='C.UTF-8', TERM='xterm-256color')
        sh(*self.base, 'new-session', '-d', '-x', width, '-y', height, command, env=env)
        sh(*self.base, 'set', '-g', 'remain-on-exit', 'on')

    def text(self):
        return sh(*self.base, 'capture-pane', '-p')

    def keys(self, *keys):
        sh(*self.base, 'send-keys', *keys)

    def resize(self, width, height):
        sh(*self.base, 'resize-window', '-x', width, '-y', height)

    def wait(self, pattern, seconds=10):
        last = ['']

        def seen():
            last[0] = self.text()
            return re.search(pattern, last[0], re.M | re.S)
        try:
            wait_for(seen, seconds, pattern, 0.05)
        except AssertionError as e:
            raise AssertionError(f'{e}; the screen:\n{last[0]}') from e
        return last[0]

    def ended(self):
        """The command is over: nothing of its screen stays but tmux's own line."""
        wait_for(lambda: sh(*self.base, 'list-panes', '-F', '#{pane_dead}').strip() == '1', 10, 'it ends')

    def close(self):
        sh(*self.base, 'kill-server', check_status=False)


def rows(text):
    """The connections' lines."""
    return [line for line in text.split('\n') if re.search(r'(^|\d )\s*ESTAB ', line)]


def start(net, d, options='', **size):
    return Terminal(net, f'exec {TAUT} -S {d.dir} top -d 0.3 {options}', **size)


def pump(s):
    s.sendall(b'x' * 30000)
    read_exactly(s, 30000)


def test_screen(net):
    """Sorting, moving, opening a connection, filter, pause, help, quit."""
    d = net.tautd()
    slow, fast = tcp(), tcp()
    names = ['%s:%d' % s.getsockname() for s in (slow, fast)]
    t = start(net, d)
    t.wait(r'taut top  taut0.*connections 2: established 2')
    deadline = time.monotonic() + 15
    while True:  # the busy one comes first when sorted by what goes out
        pump(fast)
        text = t.text()
        if len(rows(text)) == 2 and names[1] in rows(text)[0] and 'bit/s' in rows(text)[0]:
            break
        check(time.monotonic() < deadline, f'sorted by rate:\n{text}')
        time.sleep(0.1)
    t.keys('r')
    t.wait(r'OUT\^')
    check(names[0] in rows(t.text())[0], f'reversed:\n{t.text()}')
    t.keys('r')
    t.keys('P')
    t.wait(r'PEER\*')
    equal([names[1] in line for line in rows(t.text())], [a == names[1] for a in sorted(names)], 'sorted by peer')
    t.keys('Down')
    t.keys('Enter')
    second = sorted(names)[1]
    text = t.wait(r'connection \w+\.\w+ .*ESTABLISHED  10\.77\.0\.2:7 -> ' + re.escape(second))
    check('congestion' in text and 'round trip' in text, text)
    t.keys('NPage')
    t.wait(r'snd_cwnd')
    t.keys('Escape')
    t.wait(r'connections 2')
    t.keys('f')
    t.wait('filter: _')
    t.keys('dport = :%s' % names[0].split(':')[1], 'Enter')
    t.wait(r'1 connections, filter: dport')
    equal(len(rows(t.text())), 1, 'filtered')
    t.keys('f', 'C-u', 'dport nonsense', 'Enter')
    t.wait('filter: .*comparison')
    t.keys('Space')
    t.wait('PAUSED')
    t.keys('Space', 'h')
    t.wait(r'help \(any key: back\)')
    t.keys('x')
    t.wait('established 2')
    t.keys('q')
    t.ended()
    t.close()


def test_sizes(net):
    """Any size is drawn: small, tiny, and larger again; nothing runs over the edge."""
    d = net.tautd()
    socks = [tcp() for _ in range(30)]
    t = start(net, d, width=200, height=50)
    t.wait(r'WAITS FOR')
    check('OWNER' in t.text() and 'ID ' in t.text(), 'all columns at 200')
    for width, height in ((80, 24), (40, 10), (20, 5), (10, 2), (80, 24), (132, 12)):
        t.resize(width, height)
        time.sleep(0.5)
        text = t.text()
        check(all(len(line) <= width for line in text.split('\n')), f'{width}x{height}:\n{text}')
        check('taut top' in text or width < 8, f'{width}x{height}:\n{text}')
    t.wait(r'PEER')
    t.keys('End')
    time.sleep(0.4)
    check(len(rows(t.text())) <= 6, t.text())
    d.stop()
    d.expect_end = True
    t.wait('no daemon at|gone|reset')  # it says so and stays
    t.keys('q')
    t.ended()
    t.close()
    for s in socks:
        s.close()


def test_batch(net):
    """-b -n: plain text for scripts, without a terminal."""
    d = net.tautd()
    with tcp() as s:
        pump(s)
        out = d.cli('top', '-b', '-n', '2', '-d', '0.2', '-s', 'peer')
        check(out.count('taut top  taut0') == 2 and '\033' not in out, out)
        equal(len(rows(out)), 2, 'rows of two looks')
        check('%s:%d' % s.getsockname() in rows(out)[0], out)
        equal(rows(d.cli('top', '-b', '-n', '1', 'dport', '=', '1')), [], 'filter')
    status, _, err = sh(TAUT, '-S', d.dir, 'top', check_status=False)
    equal(status, 2, 'without a terminal')
    check('-b' in err, err)
    status, _, err = sh(TAUT, '-S', net.tmp, 'top', '-b', check_status=False)
    equal(status, 3, 'without a daemon')
    check(err.count('\n') == 1 and net.tmp in err, err)


def test_limiter_and_retransmissions(net):
    """WAITS FOR and RETR/s by value, and the order by each: a peer that is mute, one that does not read, one that is idle."""
    d = net.tautd()
    idle = tcp()
    unread = tcp(port=19)  # chargen until the kernel's buffer is full
    ports = {'idle': idle.getsockname()[1], 'unread': unread.getsockname()[1], 'mute': 40001}
    conn = lambda name: [r for r in d.conns(fields=['total_retrans']) if r['peer'].endswith(':%d' % ports[name])][0]
    wait_for(lambda: conn('unread')['limit'] == 'RWND', 20, 'the peer that does not read stops it')
    peer = RawPeer()
    peer.connect(19, ports['mute'])
    wait_for(lambda: conn('mute')['total_retrans'] >= 1, 20, 'the mute one is sent to again')

    def table(sort, *more):
        """{name: columns} in the order of the last look; what was sent again before the first and after the last."""
        before = conn('mute')['total_retrans']
        out = d.cli('top', '-b', '-n', '2', '-d', '2.5', '-s', sort, *more)
        last = rows(out[out.rindex('taut top'):])
        heading = [line for line in out.split('\n') if 'PEER' in line][-1]
        check({'retrans': 'RETR/s', 'limit': 'WAITS FOR'}[sort] in heading, heading)
        # Peer, rates (one word "0" or "-", or two), retransmissions, round trip, cwnd, what it waits for.
        form = r':(\d+) .*?((?:-|[\d.]+)) +(?:-|[\d.]+ \w+) +(\d+) +(\S+)$'
        found = [re.search(form, line.rstrip()) for line in last]
        check(all(found), out)
        names = {v: k for k, v in ports.items()}
        return ({names[int(re.search(r'10\.77\.0\.(?:1|99):(\d+)', line).group(1))]: m.groups()
                 for line, m in zip(last, found)}, before, conn('mute')['total_retrans'], out)

    t, before, after, out = table('retrans')
    equal([next(iter(t)), t['unread'][1], t['idle'][1]], ['mute', '0', '0'], f'first by retransmissions:\n{out}')
    rate = float(t['mute'][1])
    check(0 < rate <= (after - before) / 2.5 + 0.01, f'{rate}/s; sent again {before} to {after}:\n{out}')
    t, _, _, out = table('limit')
    equal({k: v[3] for k, v in t.items()}, {'mute': 'CWND', 'idle': '-', 'unread': 'RWND'}, f'what they wait for:\n{out}')
    equal(list(t), ['mute', 'idle', 'unread'], f'by their names:\n{out}')
    t, _, _, out = table('limit', '-r')
    equal(list(t), ['unread', 'idle', 'mute'], f'reversed:\n{out}')


def test_hostile_names(net):
    """A forward whose name would clear the screen, ring and turn the text does not get through, anywhere."""
    evil = 'x\033[2J\033(0\007\u202e'
    net.serve(lambda s: s.recv(1), '127.0.0.1', 8099)
    d = net.tautd(f'[forward {evil}]\nlisten = 80\nto = tcp:127.0.0.1:8099\n')
    with tcp(port=80) as s:
        wait_for(lambda: any('forward' in r['owner'] for r in d.conns()), 5, 'it is forwarded')
        ident = d.conns()[0]['id']
        for argv in (('top', '-b', '-n', '1'), ('ss', '-tlnp'), ('ss', '-tnp'), ('conns',), ('status',), ('conn', ident)):
            out = d.cli(*argv)
            check('x?[2J?(0??' in out, f'{argv}: {out[-600:]!r}')
            check(not re.search('[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]', out), f'{argv}: {out!r}')
        t = start(net, d, width=160)
        t.wait(r'x\?\[2J\?\(0')
        t.close()
        s.close()
