"""The control API: framing, errors, rights, every read method, events, clients that misbehave."""
import json
import os
import socket
import subprocess
import sys
import time

from harness import (Control, STACK4, check, equal, need, read_exactly, reset_of, sh, tcp, wait_for)


def test_both_sockets(net):
    d = net.tautd()
    for seq in (True, False):
        c = Control(d.dir, seq)
        hello = c.call('server.hello', client='test')
        equal((hello['name'], hello['api'], hello['interface'], hello['level']), ('taut', 1, 'taut0', 'control'), 'hello')
        equal(hello['pid'], d.pid, 'pid')
        c.close()


def test_nc_and_jq(net):
    """The README's example: echo '{...}' | nc -NU control.sock | jq"""
    need('nc', 'jq')
    d = net.tautd()
    request = '{"jsonrpc":"2.0","id":1,"method":"server.status"}\n'
    out = sh('nc', '-NU', os.path.join(d.dir, 'control.sock'), stdin=request.encode())
    equal(sh('jq', '-r', '.result.interface.name', stdin=out.encode()).strip(), 'taut0', 'interface')


def test_discover_names_all(net):
    d = net.tautd()
    doc = d.call('rpc.discover')
    methods = {m['name'] for m in doc['methods']}
    expected = {'server.hello', 'server.status', 'server.reload', 'rpc.discover', 'tcp.listen', 'tcp.connect', 'conn.list',
                'conn.get', 'conn.set', 'conn.close', 'conn.abort', 'neigh.list', 'metrics.list',
                'metrics.flush', 'stats.get', 'config.get', 'config.set', 'events.subscribe', 'icmp.ping'}
    equal(sorted(expected - methods), [], 'methods missing from rpc.discover')


def test_read_methods(net):
    """Every read method answers with what it promises."""
    d = net.tautd()
    with tcp() as s:
        s.sendall(b'x')
        read_exactly(s, 1)
        row = d.conns()[0]
        equal((row['state'], row['local'], row['owner']), ('ESTABLISHED', f'{STACK4}:7', 'echo'), 'conn.list')
        info = d.call('conn.get', id=row['id'])
        for field in ('rtt', 'snd_cwnd', 'snd_mss', 'rcv_mss', 'bytes_acked', 'bytes_received', 'segs_in', 'segs_out'):
            check(field in info, f'conn.get has {field}: {sorted(info)}')
        equal(d.call('conn.set', id=row['id'], option='nodelay', value=1)['value'], 1, 'conn.set')
        equal(d.call('conn.set', id=row['id'], option='max_pacing_rate', value=125000)['value'], 125000, 'conn.set')
        equal(d.call('conn.get', id=row['id'])['max_pacing_rate'], 125000, 'conn.get of what was set')
        check([n for n in d.call('neigh.list')['neighbours'] if n['address'] == '10.77.0.1'], 'neigh.list')
    rows = d.call('config.get')['rows']
    check(len(rows) > 50, f'{len(rows)} rows of config.get')
    equal(d.call('config.get', name='tcp.tcp_sack')['rows'][0]['value'], '1', 'config.get')
    helped = d.call('stats.get', help=True)
    check('help' in helped['tcp']['ActiveOpens'], 'stats.get with help')


def test_congestion_by_name(net):
    """A controller by name: of new connections, of one that lives, in the file; and a name that is none."""
    d = net.tautd('[tcp]\ntcp_congestion_control = reno\ntcp_ecn = 1\n')
    equal(d.call('config.get', name='tcp_congestion_control')['rows'][0]['value'], 'reno', 'of the file')
    d.control.fails('CONFIG_INVALID', 'config.set', name='tcp_congestion_control', value='vegas')
    equal(d.call('config.set', name='tcp_congestion_control', value='dctcp')['value'], 'dctcp', 'config.set')
    with tcp() as s:
        for name in ('bbr', 'reno', 'cubic'):
            row = d.conns()[0]
            equal(d.call('conn.set', id=row['id'], option='congestion', value=name)['value'], name, 'conn.set')
            equal((d.conns()[0]['congestion'], d.call('conn.get', id=row['id'])['congestion']), (name, name), 'now')
            s.sendall(bytes(100000))
            read_exactly(s, 100000)
        d.control.fails('INVALID_PARAMS', 'conn.set', id=row['id'], option='congestion', value='vegas')
        d.control.fails('INVALID_PARAMS', 'conn.set', id=row['id'], option='congestion', value=1)
        d.control.fails('INVALID_PARAMS', 'conn.set', id=row['id'], option='nodelay', value='yes')
        check('bbr' in d.cli('set', row['id'], 'congestion', 'bbr'), 'taut set')
        check('bbr' in d.cli('conn', row['id']), 'taut conn')


def test_errors(net):
    """Each mistake has its symbolic name."""
    d = net.tautd()
    c = d.control
    c.fails('METHOD_NOT_FOUND', 'no.such')
    e = c.fails('INVALID_PARAMS', 'conn.get')
    check('id' in e.message, f'names the parameter: {e.message}')
    c.fails('INVALID_PARAMS', 'conn.get', id=5)
    c.fails('INVALID_PARAMS', 'conn.get', id='nonsense')
    c.fails('INVALID_PARAMS', 'conn.list', colour='blue')
    c.fails('INVALID_PARAMS', 'tcp.connect', address='not an address', port=80)
    c.fails('INVALID_PARAMS', 'tcp.connect', address='10.77.0.1', port=70000)
    e = c.fails('NO_SUCH_CONNECTION', 'conn.get', id='7.100003')
    equal(e.data['errno'], 'ENOENT', 'errno')
    c.fails('NO_SUCH_CONNECTION', 'conn.abort', id='7.100003')
    c.fails('NO_SUCH_KEY', 'config.get', name='tcp.nothing')
    c.fails('CONFIG_INVALID', 'config.set', name='tcp.tcp_sack', value=7)
    stream = Control(d.dir, seq=False)
    stream.fails('NEEDS_SEQPACKET', 'tcp.connect', address='10.77.0.1', port=80)
    for text, name in ((b'this is no JSON\n', 'PARSE_ERROR'), (b'[1,2]\n', 'INVALID_REQUEST'),
                       (b'{"jsonrpc":"2.0","id":1}\n', 'INVALID_REQUEST'), (b'7\n', 'INVALID_REQUEST'),
                       (b'\xff\xfe{}\n', 'PARSE_ERROR'), (b'{"jsonrpc":"1.0","id":1,"method":"x"}\n', 'INVALID_REQUEST')):
        stream.send_raw(text)
        answer = stream.receive()
        equal(answer['error']['data']['name'], name, f'error for {text!r}')
    equal(stream.call('server.hello')['name'], 'taut', 'the socket goes on afterwards')


def test_framing(net):
    """Requests byte by byte, many in one write, notifications, half a request at the end."""
    d = net.tautd()
    c = Control(d.dir, seq=False)
    for byte in b'{"jsonrpc":"2.0","id":"slow","method":"server.hello"}\n':
        c.send_raw(bytes([byte]))
    equal(c.receive()['id'], 'slow', 'id')
    many = b''.join(b'{"jsonrpc":"2.0","id":%d,"method":"server.hello"}\n' % i for i in range(200))
    c.send_raw(many)
    equal([c.receive()['id'] for _ in range(200)], list(range(200)), 'answers in order')
    c.send_raw(b'{"jsonrpc":"2.0","method":"server.hello"}\n{"jsonrpc":"2.0","id":1,"method":"server.hello"}\n')
    equal(c.receive()['id'], 1, 'a notification is not answered')
    c.send_raw(b'{"jsonrpc":"2.0","id":2,"method":"serv')
    c.sock.shutdown(socket.SHUT_WR)
    answer = c.receive()
    check(answer is None or answer['error']['data']['name'] == 'PARSE_ERROR', f'half a request: {answer}')


def test_too_long(net):
    """A request above 1 MiB: refused, the rest of its line skipped, the socket goes on."""
    d = net.tautd()
    c = Control(d.dir, seq=False)
    c.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"' + b'x' * (3 << 20) + b'"}\n')
    equal(c.receive()['error']['data']['name'], 'REQUEST_TOO_LONG', 'error')
    equal(c.call('server.hello')['name'], 'taut', 'afterwards')


def test_client_never_reads(net):
    """A client that asks and never reads is ended; others and the stack are not held up."""
    d = net.tautd()
    c = Control(d.dir, seq=False, timeout=5)
    request = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}\n' * 100
    ended = False
    try:
        for _ in range(400):
            c.send_raw(request)
            equal(d.call('server.hello')['name'], 'taut', 'another client is answered')
    except (BrokenPipeError, ConnectionResetError, socket.timeout):
        ended = True
    check(ended or d.stats()['daemon']['ControlSlowClients'] == 1, 'the slow client is ended')
    with tcp() as s:
        s.sendall(b'alive')
        equal(read_exactly(s, 5), b'alive', 'echo meanwhile')
    wait_for(lambda: d.stats()['daemon']['ControlSlowClients'] == 1, 3, 'ControlSlowClients')


def test_clients_vanish(net):
    """100 clients that go away with calls outstanding leave nothing behind."""
    d = net.tautd()
    fds = lambda: len(os.listdir(f'/proc/{d.pid}/fd'))
    before = fds()
    for i in range(100):
        c = Control(d.dir)
        c.send('tcp.connect', {'address': '10.77.0.88', 'port': 80})
        if i % 2:
            c.send('icmp.ping', {'address': '10.77.0.88', 'count': 3})
        if i % 3 == 0:
            c.send('tcp.listen', {'port': 0})
        c.close()
    wait_for(lambda: fds() <= before, 10, 'descriptors are back to what they were', 0.1)
    wait_for(lambda: d.call('server.status')['totals']['connections'] == 0, 5, 'connections gone')
    wait_for(lambda: d.call('server.status')['totals']['listeners'] == 3, 5, 'listeners: echo, discard, chargen')


READ_ONLY_CLIENT = '''
import json, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
for method, params in (("server.hello", {}), ("conn.list", {}), ("stats.get", {}), ("conn.abort", {"id": "7.100003"}),
                       ("tcp.connect", {"address": "10.77.0.1", "port": 80}), ("tcp.listen", {"port": 99}),
                       ("config.set", {"name": "tcp.tcp_sack", "value": 0}), ("server.reload", {})):
    s.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
    a = json.loads(s.recv(1 << 22))
    print(method, a.get("error", {}).get("data", {}).get("name", "ok"), a.get("result", {}).get("level", ""))
'''


def test_rights(net):
    """Others may look (server.hello, lists, counters), and nothing else."""
    d = net.tautd()
    out = sh(sys.executable, '-c', READ_ONLY_CLIENT, os.path.join(d.dir, 'control.seq'))
    lines = dict(line.split(' ', 1) for line in out.splitlines())
    equal(lines['server.hello'], 'ok read-only', 'server.hello')
    for method in ('conn.list', 'stats.get'):
        equal(lines[method].strip(), 'ok', method)
    for method in ('conn.abort', 'tcp.connect', 'tcp.listen', 'config.set', 'server.reload'):
        equal(lines[method].strip(), 'PERMISSION_DENIED', method)


def test_ping_method(net):
    d = net.tautd()
    r = d.call('icmp.ping', address='10.77.0.1', count=3, interval_ms=10)
    equal((r['sent'], r['received']), (3, 3), 'sent, received')
    check(all(x['rtt_us'] > 0 for x in r['replies']), f"{r['replies']}")
    r = d.call('icmp.ping', address='10.77.0.88', count=1, timeout_ms=300)
    equal(r['received'], 0, 'replies of nobody')


def test_events(net):
    """A subscriber gets the present state, then each change with a running number."""
    d = net.tautd()
    c = Control(d.dir)
    with tcp() as s:
        s.sendall(b'x')
        read_exactly(s, 1)
        snapshot = c.call('events.subscribe', kinds=['conn', 'listener', 'addr', 'link'])
        check([r for r in snapshot['snapshot'] if r.get('kind') == 'conn'], 'the connection is in the snapshot')
    seqs, states = [], []
    end = time.monotonic() + 3
    while time.monotonic() < end and not any('CLOSE' in x or 'LAST' in x for x in states):
        e = c.receive()['params']
        seqs.append(e['seq'])
        if e['kind'] == 'conn':
            states.append(json.dumps(e))
    equal(seqs, list(range(seqs[0], seqs[0] + len(seqs))), 'sequence numbers')
    check(states, 'the end of the connection was told')


def test_config_set(net):
    """config.set takes effect: without SACK the next SYN-ACK does not offer it."""
    from harness import RawPeer
    d = net.tautd()
    peer = RawPeer()
    options = b'\2\4\x05\xb4\4\2\1\1'
    _, _, synack = peer.connect(7, sport=41000, options=options)
    check(synack.option(4) is not None, 'SACK is offered by default')
    equal(d.call('config.set', name='tcp.tcp_sack', value=0)['value'], '0', 'config.set')
    _, _, synack = peer.connect(7, sport=41001, options=options)
    check(synack.option(4) is None, 'SACK is not offered any more')


def test_conn_close_and_abort(net):
    d = net.tautd()
    with tcp() as a, tcp() as b:
        by_peer = {c['peer']: c['id'] for c in d.conns()}
        mine = lambda s: by_peer['%s:%d' % s.getsockname()]
        d.call('conn.close', id=mine(a))
        equal(a.recv(1), b'', 'an orderly end after conn.close')
        d.call('conn.abort', id=mine(b))
        check(reset_of(lambda: b.recv(1)), 'a reset after conn.abort')


def test_list_pages(net):
    d = net.tautd()
    socks = [tcp() for _ in range(25)]
    seen, after = [], None
    for _ in range(20):
        r = d.call('conn.list', limit=10, **({'after': after} if after else {}))
        seen += [c['id'] for c in r['connections']]
        after = r['next']
        if not after:
            break
    equal((len(seen), len(set(seen))), (25, 25), 'rows of all pages, all different')
    for s in socks:
        s.close()


def test_subscriber_never_reads(net):
    """A subscriber that does not read: events are dropped and counted, the daemon goes on."""
    d = net.tautd()
    c = Control(d.dir)
    c.call('events.subscribe')
    for _ in range(40):
        socks = [tcp() for _ in range(50)]
        for s in socks:
            s.close()
    check(d.running(), 'the daemon lives')
    equal(d.call('server.hello')['name'], 'taut', 'hello')
    net.say(f"{d.stats()['daemon']['EventsDropped']} events dropped")


def test_api_example_process(net):
    """A subprocess that dies with an open control connection and a listener: the listener goes with it."""
    d = net.tautd()
    code = ('import socket,json,os,sys\n'
            's=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET);s.connect(sys.argv[1])\n'
            's.send(json.dumps({"jsonrpc":"2.0","id":1,"method":"tcp.listen","params":{"port":9000}}).encode())\n'
            'd,f,_,_=socket.recv_fds(s,65536,4)\nprint(len(f),flush=True)\nsys.stdin.read()\nos._exit(9)\n')
    p = subprocess.Popen([sys.executable, '-c', code, os.path.join(d.dir, 'control.seq')], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    equal(p.stdout.readline().strip(), b'1', 'a descriptor came')
    equal(d.call('server.status')['totals']['listeners'], 4, 'listeners')
    p.stdin.close()
    p.wait(5)
    wait_for(lambda: d.call('server.status')['totals']['listeners'] == 3, 3, 'the listener went with its program')
    try:
        tcp(port=9000)
        check(False, 'the port is still open')
    except ConnectionRefusedError:
        pass
