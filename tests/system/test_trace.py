"""The flight recorder on live connections: taut trace, black boxes, followers that do not read."""
import base64
import json
import os
import socket
import struct
import threading
import time

from harness import (HOST4, SANITIZED, STACK4, TAUT, Control, check, cpu_seconds, equal, pattern, read_all, read_exactly,
                     reset_on_close, sh, tcp, wait_for)


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


class Pieces:
    """A daemon that has one record and answers trace.get only: one event a piece, and a record that grows with each."""

    def __init__(self, net, end, gap=None):
        self.dir = os.path.join(net.tmp, f'pieces-{end}')
        os.mkdir(self.dir)
        self.end, self.gap, self.asked = end, gap, 0
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.bind(os.path.join(self.dir, 'control.seq'))
        self.sock.listen(5)
        threading.Thread(target=self.serve, daemon=True).start()

    @staticmethod
    def section(first):
        """A head as docs/trace-format.md has it, of 256 bytes, and one event of 16: type 200."""
        head = struct.pack('=16sIIIIQQQQQQQBBBB', b'TAUTREC1', 1, 0x01020304, 256, 16, 1, 0, 0, 0, first, first + 1, first, 0, 0, 1, 4)
        return head.ljust(256, b'\0') + struct.pack('=QBBBBI', first, 200, 0, 0, 2, first)

    def serve(self):
        while True:
            s, _ = self.sock.accept()
            while True:
                request = s.recv(65536)
                if not request:
                    break
                request = json.loads(request)
                after = request['params'].get('after', 0)
                if self.gap and after == self.gap[0]:
                    after = self.gap[1]
                self.asked += 1
                self.end += 1
                s.sendall(json.dumps({'jsonrpc': '2.0', 'id': request['id'], 'result': {
                    'id': '1.1', 'kind': 'connection', 'data': base64.b64encode(self.section(after)).decode(), 'next': after + 1,
                    'end': self.end, 'lost': 0}}).encode())


def test_busy_connection(net):
    """A record that grows as fast as it is read: every command ends where it ended when it was asked for; gaps are told."""
    for end, gap, first, asked in ((50, None, 0, 51), (60, (20, 31), 31, 50)):
        fake = Pieces(net, end, gap)
        lines = [json.loads(x) for x in sh('timeout', '10', TAUT, '-S', fake.dir, 'trace', '1.1', '--json').splitlines()]
        equal([lines[0]['first_event'], lines[0]['lost_events'], lines[0]['next_event']], [first, first, end + 1], 'the head')
        equal([e['number'] for e in lines[1:]], list(range(first, end + 1)), 'events')
        equal(fake.asked, asked, 'how often it asked')
        if gap:
            check('the first 31 events are lost' in sh(TAUT, '-S', fake.dir, 'trace', '1.1'), 'the head tells of the gap')
        fake.sock.close()


def test_pieces_of_a_live_record(net):
    """A chargen that is read all the time: what is saved has no gap, and `end` runs ahead."""
    d = net.tautd('[services]\nchargen = 19\n[tcp]\ntrace_ring = 1048576\n')
    s, stop = tcp(port=19), threading.Event()

    def drain():
        while not stop.is_set():
            s.recv(1 << 16)
    thread = threading.Thread(target=drain)
    thread.start()
    ident = conn_of(d, 19)
    wait_for(lambda: d.call('trace.get', id=ident)['end'] > 10000, 20, 'a long record')
    path = os.path.join(net.tmp, 'busy.taut')
    sh('timeout', '20', TAUT, '-S', d.dir, 'trace', ident, '-o', path)
    answers = [d.call('trace.get', id=ident)]
    wait_for(lambda: answers.append(d.call('trace.get', id=ident)) or answers[-1]['end'] > answers[0]['end'], 10,
             'the record goes on')
    stop.set()
    thread.join()
    head, *events = [json.loads(x) for x in sh(TAUT, 'trace', path, '--json').splitlines()]
    equal([e['number'] for e in events if e['type'] != 'CONFIG'], list(range(head['first_event'], head['next_event'])), 'events')
    check(answers[0]['end'] >= answers[0]['next'], f'end {answers[0]["end"]}, next {answers[0]["next"]}')
    s.close()
def beside(control, method, params):
    """Of calls one behind the other, beside 100 echoes: their number, and how long each echo took, sorted."""
    request = json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': method, 'params': params}).encode() + b'\n'
    stop, took, calls = threading.Event(), [], []

    def ask():
        while not stop.is_set():
            control.send_raw(request)
            calls.append(1)
            while not control.sock.recv(1 << 20).endswith(b'\n'):
                pass
    asker = threading.Thread(target=ask)
    with tcp() as other:
        echo_once(other, b'y')
        asker.start()
        for _ in range(100):
            begun = time.monotonic()
            echo_once(other, b'y')
            took.append(time.monotonic() - begun)
            time.sleep(0.003)  # at any moment of the daemon's turn
        stop.set()
        asker.join()
    return len(calls), sorted(took)


def test_json_in_pieces(net):
    """trace.get with format json: pieces small enough that an echo beside a loop of them waits 10 ms at most.
    runs alone"""
    d = net.tautd()
    s = tcp()
    for _ in range(400):
        echo_once(s, b'x' * 3000)
    ident = conn_of(d)
    whole = d.call('trace.get', id=ident, max=1048576)
    check(whole['next'] - whole['lost'] > 1000, f'a record worth it: {whole["next"]}')
    after, numbers = 0, []
    while after < whole['end']:
        piece = d.call('trace.get', id=ident, after=after, max=1048576, format='json')
        check(piece['head']['event_bytes'] <= 16384 + 8192, f'event bytes: {piece["head"]["event_bytes"]}')
        numbers += [e['number'] for e in piece['events'] if e['type'] != 'CONFIG']
        after = piece['next']
    equal(numbers, list(range(whole['lost'], after)), 'the pieces are the whole')
    control = Control(d.dir, seq=False)
    began = cpu_seconds(d)
    calls, took = beside(control, 'trace.get', {'id': ident, 'max': 1048576, 'format': 'json'})
    each = (cpu_seconds(d) - began) / calls
    net.say(f'echo: median {took[50] * 1e3:.1f} ms, 9 of 10 within {took[90] * 1e3:.1f} ms, worst {took[-1] * 1e3:.1f} ms; '
            f'{each * 1e3:.1f} ms of CPU a piece')
    check(SANITIZED or each <= 0.010, f'{each * 1e3:.1f} ms of CPU a piece, each of which an echo may have to wait for')
    control.close()
    s.close()


def test_sections(net):
    """A file of several sections is one record to explain and to --pkt; of two records, two."""
    d = net.tautd()
    s = tcp()
    for _ in range(60):
        echo_once(s, b'x' * 2000)
    ident = conn_of(d)
    reset_on_close(s)
    s.close()
    wait_for(lambda: ident in d.cli('trace', '--dead'), 5, 'the black box')
    path, after, pieces = os.path.join(net.tmp, 'pieces.taut'), -1, 0
    with open(path, 'wb') as f:
        piece = {'next': 0}
        while piece['next'] != after:
            after = piece['next']
            piece = d.call('trace.get', id=ident, after=after, max=4096)
            f.write(base64.b64decode(piece['data']))
            pieces += 1
    check(pieces > 4, f'{pieces} pieces')

    def looks(*argv):
        return [(x['verdict'], sorted((s['name'], s['times']) for s in x['shares']))
                for x in map(json.loads, d.cli('explain', *argv, '--json').splitlines())]
    equal(looks(path), looks(ident), 'explained')
    equal(d.cli('trace', path, '--pkt'), d.cli('trace', ident, '--pkt'), 'the script')
    saved = os.path.join(net.tmp, 'saved.taut')
    d.cli('trace', ident, '-o', saved)
    with open(saved, 'rb') as f, open(path, 'ab') as g:
        whole = bytearray(f.read())
        whole[32] ^= 0xff  # another id
        g.write(whole)
    equal(looks(path), 2 * looks(ident), 'two records')


def test_wrong_usage(net):
    """Options that would be ignored are refused; what is wrong with a file is told with its name."""
    d = net.tautd()
    with tcp() as s:
        echo_once(s, b'x' * 1000)
        path = os.path.join(net.tmp, 'one.taut')
        d.cli('trace', conn_of(d), '-o', path)
    for line in (f'trace {path} --follow', f'trace {path} --dead', f'trace {path} -o x', 'trace -o x', 'trace --pkt', 'trace --follow',
                 'trace engine --dead', 'trace engine --pkt -o x', 'trace engine --pkt --json', 'trace engine -o x --json',
                 'trace --format engine', 'trace --format --json', f'plot {path} --json', f'plot {path} --out', f'plot {path} --in',
                 f'export {path} --qlog - --json', f'export {path} --qlog - --pcapng -', 'capture -o x --json'):
        status, out, err = d.cli(*line.split(), check_status=False)
        equal((status, out, len(err.splitlines())), (2, '', 1), line)
    for option in ('--sent', '--received'):
        check('<svg' in d.cli('plot', path, option), option)
    status, _, err = d.cli('explain', 'engine', check_status=False)
    equal((status, err), (1, "taut: what belongs to no connection can't be explained\n"), 'explain engine')
    with open(path, 'rb') as f, open(path + '.cut', 'wb') as g:
        g.write(f.read()[:-9])
    with open(path + '.empty', 'wb') as g:
        pass
    for bad, want in ((path + '.cut', 'cut off'), (path + '.empty', 'empty')):
        for command in (('trace', bad), ('trace', bad, '--pkt'), ('explain', bad), ('export', bad, '--qlog', '-'), ('plot', bad)):
            status, _, err = d.cli(*command, check_status=False)
            check(status == 1 and err.startswith(f'taut: {bad}: ') and want in err, f'{command}: {status} {err}')
    for command, words in (('plot', ['--output', '--sent']), ('trace', ['--output', '--format']), ('capture', ['--output'])):
        text = d.cli(command, '--help')
        check(all(w in text for w in words) and ('--json' in text) == (command == 'trace'), text)


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
