"""The flight recorder on live connections: taut trace, black boxes, followers that do not read."""
import json
import os
import socket
import time

from harness import (HOST4, STACK4, TAUT, Control, check, equal, pattern, read_all, read_exactly, reset_on_close, sh, tcp,
                     wait_for)


def conn_of(d, port=7):
    return [c for c in d.conns() if c['local'].endswith(':%d' % port)][0]['id']


def echo_once(s, data):
    s.sendall(data)
    equal(read_exactly(s, len(data)), data, 'echo')


def test_story(net):
    """A transfer to the kernel, told from its SYN on: segments with causes, ACK results, states; saved and read again."""
    d = net.tautd()
    with tcp() as s:
        echo_once(s, pattern(200000))
        ident = conn_of(d)
        text = d.cli('trace', ident)
        lines = text.splitlines()
        check('passive open' in lines[0], lines[0])
        check(any('< S 0:0(0)' in x for x in lines[:6]), '\n'.join(lines[:6]))
        for want in ('> S. 0:0(0) ack 1', 'SYNACK', 'state SYN_RECV -> ESTABLISHED', '  DATA', 'acked ', 'cwnd ', 'timer RETRANS'):
            check(want in text, want)
        path = os.path.join(net.tmp, 'one.taut')
        d.cli('trace', ident, '-o', path)
        again = sh(TAUT, 'trace', path)
        check('< S 0:0(0)' in again and '  DATA' in again, again[:300])
        events = [json.loads(x) for x in d.cli('trace', ident, '--json').splitlines()]
        equal(events[0]['type'], 'HEAD', 'first object')
        check(any(e['type'] == 'SEG_OUT' and e['code'] == 'DATA' and e['len'] > 0 for e in events), 'data sent')
        check(ident in d.cli('trace'), 'the list')
        script = d.cli('trace', ident, '--pkt')
        check('listen(3' in script and '< S 0:0(0)' in script and 'accept(3' in script, script[:300])


def test_files(net):
    """Truncated and foreign files are refused with one line."""
    d = net.tautd()
    path = os.path.join(net.tmp, 'one.taut')
    with tcp() as s:
        echo_once(s, b'x' * 1000)
        d.cli('trace', conn_of(d), '-o', path)
    with open(path, 'rb') as f:
        whole = f.read()
    for name, data, want in (('cut', whole[:len(whole) - 9], 'cut off'), ('head', whole[:40], 'cut off'), ('empty', b'', 'empty'),
                             ('pcap', b'\x0a\x0d\x0d\x0a' + b'x' * 500, 'no trace'),
                             ('order', whole[:20] + bytes(reversed(whole[20:24])) + whole[24:], 'byte order')):
        bad = os.path.join(net.tmp, name)
        with open(bad, 'wb') as f:
            f.write(data)
        status, _, err = sh(TAUT, 'trace', bad, check_status=False)
        equal(status, 1, name)
        check(want in err and len(err.splitlines()) == 1, '%s: %s' % (name, err))


def test_black_box(net):
    """A connection that the peer resets stays readable, and lies in the directory; a good end does not."""
    folder = os.path.join(net.tmp, 'dead')
    os.mkdir(folder)
    d = net.tautd('[trace]\ndirectory = %s\nfiles = 3\n' % folder)
    with tcp() as s:
        echo_once(s, b'hello')
    for _ in range(5):
        s = tcp()
        echo_once(s, b'hello')
        ident = conn_of(d)
        reset_on_close(s)
        s.close()
        wait_for(lambda: ident in d.cli('trace', '--dead'), 5, 'the black box')
    text = d.cli('trace', ident)
    check('it is gone' in text and 'ended with error 104' in text, text)
    check('RESET_IN' in d.cli('trace', '--dead'), 'how it ended')
    wait_for(lambda: len(os.listdir(folder)) == 3, 5, 'three files')
    newest = sorted(os.listdir(folder))[-1]
    check(ident in newest, newest)
    check('the peer reset it' in sh(TAUT, 'trace', os.path.join(folder, newest)), 'the file')


def test_follow(net):
    """--follow shows what happens as it does, and ends with the connection."""
    d = net.tautd()
    s = tcp()
    echo_once(s, b'hello')
    p = net.start('follow', TAUT, '-S', d.dir, 'trace', conn_of(d), '--follow')
    p.wait_output(r'< S 0:0', 5)
    echo_once(s, b'later' * 77)
    p.wait_output(r'6:391', 5)
    s.close()
    equal(p.wait(10), 0, 'exit status')


def test_follower_does_not_read(net):
    """trace.follow: what its record overwrote before it read is counted; the daemon keeps no more than its bound."""
    d = net.tautd('[tcp]\ntrace_ring = 8192\n')
    s = tcp()
    echo_once(s, b'hello')
    control = Control(d.dir, seq=False)
    control.call('trace.follow', id=conn_of(d))
    for _ in range(2000):
        echo_once(s, b'x' * 3000)
    deadline = time.time() + 10
    lost = 0
    while time.time() < deadline and not lost:
        message = control.receive()
        if message.get('method') == 'trace':
            lost = message['params']['lost']
    check(lost > 0, 'events lost')
    echo_once(s, b'still there')
    control.close()
    s.close()


def test_engine(net):
    """What belongs to no connection: the RST that nobody's port is answered with."""
    d = net.tautd()
    s = socket.socket()
    try:
        s.connect((STACK4, 4444))
        check(False, 'connected')
    except ConnectionRefusedError:
        pass
    text = d.cli('trace', 'engine')
    check('RST_NO_SOCKET' in text and 'NO_SOCKET' in text and ':4444' in text, text)
