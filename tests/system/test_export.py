"""taut export and taut plot: what other programs read of a record; tshark is the judge of pcapng, Python's JSON of qlog."""
import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ET

from harness import (BUILD, HOST6, STACK4, STACK6, TAUT, check, equal, need, pattern, read_exactly, sh, tcp, wait_for)


def conn_of(d, port=7):
    return [c for c in d.conns() if c['local'].endswith(':%d' % port)][0]['id']


def echoed(net, text='', n=200000, v6=False):
    """(daemon, path of a saved record, its events): a transfer of n bytes each way, with a segment that is not used."""
    d = net.tautd(text, v6=v6)
    path = os.path.join(net.tmp, 'one.taut')
    with tcp(STACK6 if v6 else STACK4) as s:
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
    # A D-SACK (tshark warns of it) tells of a tail loss probe that a busy machine made needless.
    equal(tshark(out, 'frame.number', display='_ws.malformed || (_ws.expert.severity >= 0x600000 && !tcp.options.sack.dsack)'),
          [], 'warnings')
    check(abs(float(rows[0][7]) - time.time()) < 60, rows[0][7])
    info = sh('capinfos', out)
    for want in ('pcapng', 'Raw IP', 'taut 0', 'nanoseconds'):
        check(want in info, want)
    engine = os.path.join(net.tmp, 'engine.pcapng')
    d.cli('export', 'engine', '--pcapng', engine)
    tshark(engine)


def test_pcapng6(net):
    """The same over IPv6: every whole packet's checksum is right, and every payload is told."""
    need('tshark')
    _, _, path, events = echoed(net, v6=True)
    out = os.path.join(net.tmp, 'six.pcapng')
    sh(TAUT, 'export', path, '--pcapng', out)
    rows = [x.split('\t') for x in tshark(out, 'ipv6.src', 'tcp.len', 'tcp.checksum.status', 'frame.cap_len', 'frame.len')]
    for kind, source in (('SEG_OUT', STACK6), ('SEG_IN', HOST6)):
        equal(sum(int(r[1]) for r in rows if r[0] == source), sum(e['len'] for e in events if e['type'] == kind), kind)
    whole = [r for r in rows if r[3] == r[4]]
    check(len(whole) > 2, 'whole packets')
    equal({r[2] for r in whole}, {'1'}, 'checksums')


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


def lossy(net, seconds=2, text=''):
    """(daemon, id, path of a capture): taut sends over 10 Mbit/s, 40 ms, a short queue and loss, to a kernel."""
    sh('mount', '-t', 'tmpfs', 'tmpfs', '/run')
    sh('ip', 'netns', 'add', 'R')
    link = net.start('link', os.path.join(BUILD, 'tests/system/link'), '--port', 's0', '--port', 'r0@R', '--forward',
                     'rate=1e7,delay=2e4,queue=6e4,loss=0.01,seed=5', '--reverse', 'delay=2e4')
    link.wait_output('ready')
    d = net.tautd('[tcp]\ntrace_ring = 4194304\n' + text, host4='169.254.7.7', stack4='10.78.0.2', offload=False)
    for line in ('link add name br0 type bridge forward_delay 0 mcast_snooping 0', 'link set s0 master br0',
                 'link set taut0 master br0', 'link set s0 up', 'link set br0 up'):
        sh('ip', *line.split())
    for line in ('addr add 10.78.0.1/24 dev r0', 'link set r0 up'):
        sh('ip', '-n', 'R', *line.split())
    capture = os.path.join(net.tmp, 'seen.pcapng')
    dump = net.start('dumpcap', 'dumpcap', '-q', '-i', 's0', '-s', '120', '-w', capture)
    traffic = os.path.join(BUILD, 'tests/system/traffic')
    receiver = net.start('receiver', 'ip', 'netns', 'exec', 'R', traffic, 'receive', '10.78.0.1', '5001', '1', str(seconds))
    receiver.wait_output('ready')
    wait_for(lambda: os.path.exists(capture) and os.path.getsize(capture) > 0, 10, 'the capture')
    sender = net.start('sender', traffic, 'send', '10.78.0.1', '5001', '1', str(seconds), '0', f'taut:{d.dir}', 'cubic')
    equal((receiver.wait(seconds + 30), sender.wait(30)), (0, 0), 'traffic')
    dump.stop(signal.SIGINT)
    link.stop()
    return d, d.call('trace.list', dead=True)['records'][0]['id'], capture


SVG = '{http://www.w3.org/2000/svg}'


def drawn(path):
    """{class: length of its paths} and all texts of a picture, which must be well-formed XML."""
    root = ET.parse(path).getroot()
    equal(root.tag, SVG + 'svg', 'root')
    paths = {}
    for p in root.iter(SVG + 'path'):
        paths[p.get('class')] = paths.get(p.get('class'), 0) + len(p.get('d'))
    return paths, ' '.join(t.text or '' for t in root.iter(SVG + 'text'))


def test_plot(net):
    """A transfer with loss: from the record with causes, cwnd, round trip; from somebody's capture of the same. limit: 90 s"""
    need('dumpcap', 'tshark')
    d, ident, capture = lossy(net)
    keep = os.path.join(BUILD, 'test-output')
    os.makedirs(keep, exist_ok=True)
    out, saved = os.path.join(keep, 'plot-record.svg'), os.path.join(keep, 'plot.taut')
    d.cli('plot', ident, '-o', out)
    d.cli('trace', ident, '-o', saved)
    events = [json.loads(x) for x in sh(TAUT, 'trace', saved, '--json').splitlines()]
    sent = [e for e in events if e['type'] == 'SEG_OUT' and e['len']]
    again = [e for e in sent if e['flags'] & 2]
    check(len(again) > 5, 'the link lost something')
    paths, text = drawn(out)
    for name in ('data', 'ack', 'wnd', 'fast', 'sack', 'c0', 'c1'):
        check(paths.get(name, 0) > 100, f'{name}: {paths}')
    for want in (f'{len(sent)} segments', f'{len(again)} of them sent again', 'sent again: loss by ACKs', 'congestion window',
                 'round trip', 'rate (', 'time (s)', '10.78.0.1:5001', 'sequence ('):
        check(want in text, want)
    equal(sh(TAUT, 'plot', saved), sh('cat', out), 'from the daemon and from a file')
    part = os.path.join(net.tmp, 'part.svg')
    sh(TAUT, 'plot', saved, '--from', '0.5', '--to', '0.8', '-o', part)
    check('time (ms)' in drawn(part)[1], 'a part of the time')

    seen = os.path.join(keep, 'plot-capture.svg')
    sh(TAUT, 'plot', capture, '-o', seen)
    paths, text = drawn(seen)
    for name in ('data', 'ack', 'wnd', 'fast', 'sack', 'c0'):
        check(paths.get(name, 0) > 100, f'{name}: {paths}')
    check('from a capture' in text and 'in flight' in text and '10.78.0.2' in text, text)
    row = sh(TAUT, 'plot', capture, '--streams').splitlines()[1].split()
    judge = [x.split('\t') for x in tshark(capture, 'tcp.srcport', 'tcp.len', display='tcp.stream == 0')]
    equal(row[3:6], [str(len(judge)), str(sum(int(n) for p, n in judge if p != '5001')), '0'], 'packets and bytes')
    classic = os.path.join(net.tmp, 'classic.pcap')
    sh('editcap', '-F', 'pcap', capture, classic)
    equal(sh(TAUT, 'plot', classic, '--streams').split()[10], row[3], 'packets of a pcap')
    own = os.path.join(net.tmp, 'own.pcapng')
    sh(TAUT, 'export', saved, '--pcapng', own)
    comments = tshark(own, 'frame.comment', display='tcp.srcport != 5001 && tcp.len > 0')
    equal(sum('; sent again' in c for c in comments), sum(packets(e) for e in again), 'packets whose comment says: sent again')
    equal(int(sh(TAUT, 'plot', own, '--streams').split('\n')[1].split()[4]), sum(e['len'] for e in sent), 'our own pcapng, read again')


def test_plot_refused(net):
    """Captures that are cut off, foreign or empty, streams that are not there: one line, no picture."""
    _, _, path, _ = echoed(net, n=5000)
    good, out = os.path.join(net.tmp, 'good.pcapng'), os.path.join(net.tmp, 'not-there.svg')
    sh(TAUT, 'export', path, '--pcapng', good)
    with open(good, 'rb') as f:
        whole = f.read()
    with open(path, 'rb') as f:
        record = f.read()
    udp = whole[:whole.index(b'\x06\x00\x00\x00')]
    for name, data, options, want in (
            ('cut', whole[:-30], (), 'cut off'), ('cut-head', whole[:20], (), 'cut off'), ('foreign', b'GIF89a' * 50, (), 'no trace'),
            ('none', udp, (), 'no TCP'), ('record', record[:-5], (), 'cut off'), ('stream', whole, ('--stream', '7'), 'no such'),
            ('pcap', b'\xd4\xc3\xb2\xa1' + b'\2\0\4\0' + bytes(8) + b'\xff\xff\0\0\1\0\0\0' + b'x' * 9, (), 'cut off')):
        bad = os.path.join(net.tmp, name)
        with open(bad, 'wb') as f:
            f.write(data)
        status, _, err = sh(TAUT, 'plot', bad, '-o', out, *options, check_status=False)
        equal(status, 1, name)
        check(want in err and len(err.splitlines()) == 1, f'{name}: {err}')
        check(not os.path.exists(out), f'{name}: a picture')
    equal(sh(TAUT, 'plot', path, '--from', 'x', check_status=False)[0], 2, 'usage')
