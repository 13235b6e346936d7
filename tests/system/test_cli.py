"""The taut command, as a person and as a script use it."""
import json
import os
import socket
import time

from harness import (HOST4, STACK4, TAUT, check, equal, pattern, read_all, read_exactly, reset_of, same_bytes, sh, tcp,
                     wait_for)


def status_of(net, *argv, **options):
    env = dict(os.environ, TAUT_SOCKET=net.daemons[0].dir) if net.daemons else None
    return sh(TAUT, *argv, check_status=False, env=env, **options)


def test_connect(net):
    """taut connect: standard input goes to the peer, what it says to standard output; ends with it."""
    d = net.tautd()
    def answer(s):
        s.sendall(b'got ' + read_all(s))
    net.serve(answer, HOST4, 8000)
    equal(d.cli('connect', HOST4, '8000', stdin=b'hello'), 'got hello', 'output')
    data = pattern(4 << 20)
    net.serve(lambda s: s.sendall(read_all(s)), HOST4, 8001)
    path = os.path.join(net.tmp, 'out')
    with open(path, 'wb') as out:
        p = net.start('taut', TAUT, '-S', d.dir, 'connect', HOST4, '8001', stdin=-1, stdout=out)
        p.popen.stdin.write(data)
        p.popen.stdin.close()
        equal(p.wait(20), 0, 'exit status')
    with open(path, 'rb') as f:
        same_bytes(f.read(), data, 'what came back')


def test_connect_fails(net):
    """Exit status 1 and one line with the reason's name."""
    net.tautd()
    status, _, err = status_of(net, 'connect', HOST4, '4444')
    equal(status, 1, 'exit status')
    check('CONNECTION_REFUSED' in err and len(err.strip().splitlines()) == 1, err)
    status, _, err = status_of(net, 'connect', '-t', '1', '10.77.0.88', '80')
    equal(status, 1, 'exit status')
    check('TIMED_OUT' in err or 'HOST_UNREACHABLE' in err, err)


def test_listen(net):
    """taut listen: takes one connection and ends with it."""
    d = net.tautd()
    path = os.path.join(net.tmp, 'out')
    with open(path, 'wb') as out:
        p = net.start('taut', TAUT, '-S', d.dir, 'listen', '9000', stdin=-1, stdout=out)
        wait_for(lambda: d.call('server.status')['totals']['listeners'] == 4, 5, 'it listens')
        with tcp(port=9000) as s:
            s.sendall(b'hello')
            p.popen.stdin.write(b'good day')
            p.popen.stdin.close()
            equal(read_all(s), b'good day', 'what it sent')
            s.shutdown(socket.SHUT_WR)
        equal(p.wait(10), 0, 'exit status')
    with open(path, 'rb') as f:
        equal(f.read(), b'hello', 'what it got')


def test_ping(net):
    net.tautd()
    status, out, err = status_of(net, 'ping', '-c', '3', '-i', '0.05', HOST4)
    equal(status, 0, f'exit status {err}')
    check('3' in out and HOST4 in out, out)
    status, _, _ = status_of(net, 'ping', '-c', '1', '10.77.0.88')
    check(status != 0, 'no answer is a failure')


def test_conns_close_abort(net):
    d = net.tautd()
    with tcp() as a, tcp() as b:
        a.sendall(b'x')
        read_exactly(a, 1)
        out = d.cli('conns')
        check(f'{STACK4}:7' in out and 'echo' in out and 'ESTAB' in out, out)
        rows = json.loads(d.cli('conns', '--json'))
        rows = rows['connections'] if isinstance(rows, dict) else rows
        ids = {r['peer']: r['id'] for r in rows}
        ida, idb = (ids['%s:%d' % s.getsockname()] for s in (a, b))
        check(ida in d.cli('conn', ida), 'taut conn ID')
        d.cli('close', ida)
        equal(a.recv(1), b'', 'FIN after taut close')
        d.cli('abort', idb)
        check(reset_of(lambda: b.recv(1)), 'RST after taut abort')
    status, _, err = status_of(net, 'abort', '7.100003')
    equal(status, 1, 'exit status for an id that is not there')
    check('NO_SUCH_CONNECTION' in err, err)


def test_show(net):
    """status, stats, neigh, config, version: readable, and JSON with --json."""
    d = net.tautd()
    with tcp() as s:
        s.sendall(b'x')
        read_exactly(s, 1)
    for command, words in (('status', 'taut0'), ('stats', 'PassiveOpens'), ('neigh', HOST4), ('config', 'tcp_sack')):
        check(words in d.cli(command), f'taut {command}')
        json.loads(d.cli(command, '--json'))
    check('0.1' in d.cli('version'), 'taut version')
    d.cli('config', 'tcp.tcp_sack', '0')
    check('0' in d.cli('config', 'tcp.tcp_sack'), 'taut config KEY VALUE')


def test_reload(net):
    d = net.tautd()
    d.write_config('[services]\necho = 1007\n')
    d.cli('reload')
    with tcp(port=1007) as s:
        s.sendall(b'x')
        equal(read_exactly(s, 1), b'x', 'echo on its new port')
    d.write_config('[services]\necho = 1007\n[tcp]\ntcp_sack = 0\n[limits]\nmax_half_open = 99\n')
    out = d.cli('reload')
    check('tcp.tcp_sack: 0 in the file, 1 in use' in out and 'limits.max_half_open: 99 in the file' in out, out)
    equal(len(json.loads(d.cli('reload', '--json'))['needs_restart']), 2, 'keys that wait for the next start')
    d.write_config('[services]\necho = soon\nchargen = never\n')
    status, _, err = status_of(net, 'reload')
    check('services.chargen' in err, f'all mistakes are told: {err}')
    equal(status, 1, 'exit status of a bad reload')
    check('services.echo' in err, err)


def test_events(net):
    """taut events prints a line for what happens."""
    d = net.tautd()
    p = net.start('taut', TAUT, '-S', d.dir, 'events', '-k', 'conn')
    time.sleep(0.3)
    with tcp() as s:
        s.sendall(b'x')
        read_exactly(s, 1)
        peer = '%s:%d' % s.getsockname()
    wait_for(lambda: peer in p.output(), 5, 'the connection is in the events')
    import signal
    equal(p.stop(signal.SIGINT), 0, 'exit status after SIGINT')


def test_usage_and_no_daemon(net):
    equal(status_of(net, 'nonsense')[0], 2, 'exit status for an unknown command')
    equal(status_of(net)[0], 2, 'exit status without a command')
    equal(status_of(net, '--help')[0], 0, 'exit status of help')
    status, _, err = sh(TAUT, '-S', net.tmp, 'status', check_status=False)
    equal(status, 3, 'exit status without a daemon')
    check(net.tmp in err, f'names the socket: {err}')
