"""taut export and taut plot: what other programs read of a record; tshark is the judge of pcapng, Python's JSON of qlog."""
import json
import os
import subprocess
import time
import xml.etree.ElementTree as ET

from harness import (BUILD, TAUT, check, equal, need, pattern, read_exactly, sh, tcp)


def conn_of(d, port=7):
    return [c for c in d.conns() if c['local'].endswith(':%d' % port)][0]['id']


def echoed(net, text='', n=200000):
    """(daemon, path of a saved record, its events): a transfer of n bytes each way, with a segment that is not used."""
    d = net.tautd(text)
    path = os.path.join(net.tmp, 'one.taut')
    with tcp() as s:
        data = pattern(n)
        for at in range(0, n, 50000):
            s.sendall(data[at:at + 50000])
            read_exactly(s, len(data[at:at + 50000]))
        ident = conn_of(d)
        d.cli('trace', ident, '-o', path)
        events = [json.loads(x) for x in sh(TAUT, 'trace', path, '--json').splitlines()]
    return d, ident, path, events


def tshark(path, *fields, display='', options=()):
    argv = ['tshark', '-n', '-r', path, '-o', 'tcp.check_checksum:TRUE', '-o', 'ip.check_checksum:TRUE', *options]
    argv += ['-Y', display] if display else []
    if fields:
        argv += ['-T', 'fields'] + [x for f in fields for x in ('-e', f)]
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    lines = [x for x in r.stderr.decode().splitlines() if 'superuser' not in x and 'Running as user' not in x]
    equal((r.returncode, lines), (0, []), 'what tshark complains of')
    return r.stdout.decode().splitlines()


def packets(e):
    """How many packets a segment event was on the wire."""
    return -(-e['len'] // e['gso_size']) if e['gso_size'] and e['len'] else 1


def test_pcapng(net):
    """tshark reads the packets of a record: bytes, sequence numbers, comments, checksums, time of day."""
    need('tshark')
    d, ident, path, events = echoed(net)
    segs = [e for e in events if e['type'] in ('SEG_IN', 'SEG_OUT')]
    out = os.path.join(net.tmp, 'one.pcapng')
    sh(TAUT, 'export', path, '--pcapng', out)
    rows = [x.split('\t') for x in tshark(out, 'tcp.srcport', 'tcp.len', 'frame.comment', 'tcp.checksum.status',
                                          'ip.checksum.status', 'frame.cap_len', 'frame.len', 'frame.time_epoch')]
    equal(len(rows), sum(packets(e) for e in segs), 'packets')
    for kind, port_is_7 in (('SEG_OUT', True), ('SEG_IN', False)):
        equal(sum(int(r[1]) for r in rows if (r[0] == '7') == port_is_7), sum(e['len'] for e in segs if e['type'] == kind), kind)
    check(all(r[2] for r in rows), 'a comment each')
    comments = ' '.join(r[2] for r in rows)
    for want in ('SYNACK: ', 'DATA: ', 'acked ', 'cwnd ', 'used'):
        check(want in comments, want)
    check(any('of a super-frame' in r[2] for r in rows), 'super-frames are told')
    whole = [r for r in rows if r[5] == r[6]]
    check(len(whole) > 2, 'whole packets')
    equal({(r[3], r[4]) for r in whole}, {('1', '1')}, 'checksums')
    equal(tshark(out, 'frame.number', display='_ws.malformed || _ws.expert.severity >= 0x600000'), [], 'warnings')
    check(abs(float(rows[0][7]) - time.time()) < 60, rows[0][7])
    info = sh('capinfos', out)
    for want in ('pcapng', 'Raw IP', 'taut 0', 'nanoseconds'):
        check(want in info, want)
    engine = os.path.join(net.tmp, 'engine.pcapng')
    d.cli('export', 'engine', '--pcapng', engine)
    tshark(engine)


def strict(text):
    """The objects of a JSON text sequence (RFC 7464): 0x1e, a text, a line feed; no name twice, no NaN."""
    def unique(pairs):
        equal(len({k for k, _ in pairs}), len(pairs), 'names of an object')
        return dict(pairs)

    def no(name):
        raise ValueError(name)
    check(text.startswith('\x1e') and text.endswith('\n'), 'ends of the sequence')
    records = text[1:].split('\x1e')
    check(all(r.endswith('\n') and r.count('\n') == 1 for r in records), 'a line feed at the end of each')
    return [json.loads(r, object_pairs_hook=unique, parse_constant=no) for r in records]


def documented():
    """{event: fields} of docs/qlog.md."""
    events, name = {}, None
    with open(os.path.join(os.path.dirname(__file__), '../../docs/qlog.md'), encoding='utf-8') as f:
        for line in f:
            if line.startswith('### `'):
                name = line.split('`')[1]
                events[name] = set()
            elif name and line.startswith('| `'):
                events[name].add(line.split('`')[1])
    return events


def test_qlog(net):
    """A strict reader reads it; every event and field is documented; figures agree with the record."""
    _, _, path, events = echoed(net)
    out = os.path.join(net.tmp, 'one.sqlog')
    sh(TAUT, 'export', path, '--qlog', out)
    with open(out, encoding='utf-8') as f:
        head, *rows = strict(f.read())
    equal((head['qlog_format'], head['trace']['schema']), ('JSON-SEQ', 'taut-qlog-1'), 'head')
    schema = documented()
    for r in rows:
        equal(set(r), {'time', 'name', 'data'}, 'members of an event')
        check(r['name'] in schema, f'{r["name"]} is not in docs/qlog.md')
        check(set(r['data']) <= schema[r['name']], f'{r["name"]}: not in docs/qlog.md: {set(r["data"]) - schema[r["name"]]}')
    for kind, name in (('SEG_OUT', 'transport:packet_sent'), ('SEG_IN', 'transport:packet_received')):
        equal([r['data']['raw']['payload_length'] for r in rows if r['name'] == name],
              [e['len'] for e in events if e['type'] == kind], name)
    equal([r['data']['congestion_window_packets'] for r in rows if r['name'] == 'recovery:metrics_updated'],
          [e['cwnd'] for e in events if e['type'] == 'ACK'], 'cwnd')
    check(all(a['time'] <= b['time'] for a, b in zip(rows, rows[1:])), 'order of times')
    check(any(r['name'] == 'connectivity:connection_state_updated' for r in rows), 'states')


def test_refused(net):
    """Truncated and foreign files are refused with one line, and nothing is written."""
    _, _, path, _ = echoed(net, n=1000)
    with open(path, 'rb') as f:
        whole = f.read()
    out = os.path.join(net.tmp, 'not-there')
    for name, data, want in (('cut', whole[:-9], 'cut off'), ('foreign', b'\x7fELF' + b'x' * 300, 'no trace'), ('empty', b'', 'empty')):
        bad = os.path.join(net.tmp, name)
        with open(bad, 'wb') as f:
            f.write(data)
        for option in ('--pcapng', '--qlog'):
            status, _, err = sh(TAUT, 'export', bad, option, out, check_status=False)
            equal(status, 1, name)
            check(want in err and len(err.splitlines()) == 1, f'{name}: {err}')
            check(not os.path.exists(out), f'{name}: a file was written')
    equal(sh(TAUT, 'export', path, check_status=False)[0], 2, 'no format')
