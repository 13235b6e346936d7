"""taut stats: names that nstat users know, patterns, increments."""
import json
import os
import re

from harness import check, equal, read_exactly, sh, tcp, TAUT


def kernel_names():
    """What /proc/net/snmp and /proc/net/netstat call theirs, with nstat's prefixes."""
    names = set()
    for path in ('/proc/net/snmp', '/proc/net/netstat'):
        with open(path, encoding='ascii') as f:
            lines = f.read().split('\n')
        for head in lines[::2]:
            prefix, _, rest = head.partition(':')
            names |= {prefix + x for x in rest.split()}
    return names


def table(text):
    return {line.split()[0]: int(line.split()[1]) for line in text.splitlines() if line}


def test_names(net):
    """Every Tcp... and TcpExt... name is the kernel's; what the kernel has not is Taut...; causes and reasons by name."""
    d = net.tautd()
    with tcp() as s:
        s.sendall(b'x' * 5000)
        read_exactly(s, 5000)
    everything = table(d.cli('stats', '-z'))
    known = kernel_names()
    ours = [n for n in everything if n.startswith('Tcp')]
    unknown = [n for n in ours if n not in known]
    equal(unknown, [], 'names that the kernel has not')
    hidden = [n for n in everything if n.startswith('TautTCP') and 'TcpExt' + n[4:] in known]
    equal(hidden, ['TautTCPSackShifted'], 'Linux names under Taut: only what means something else')
    check(len(ours) > 60, f'{len(ours)} of Linux')
    raw = d.stats()
    equal(len(everything), sum(len(g) for g in raw.values()) + 1, 'each counter is there, and TcpInCsumErrors')
    check(everything['TcpPassiveOpens'] == 1 and everything['TautTCPInBytes'] == 5000, everything)
    check(set('TautCause.' + x for x in raw['tcp_causes']) <= set(everything), 'causes')
    check(set('TautDrop.' + x for x in raw['tcp_drops']) <= set(everything), 'reasons')
    shown = table(d.cli('stats'))
    check(shown and all(v > 0 for v in shown.values()), 'without -z only what is not zero')


def test_patterns_and_increments(net):
    d = net.tautd()
    equal(list(table(d.cli('stats', '-z', 'tcpext*lundo', 'tcpext*kundo', 'tcpext*sundo'))),
          ['TcpExtTCPFullUndo', 'TcpExtTCPPartialUndo', 'TcpExtTCPDSACKUndo', 'TcpExtTCPLossUndo'], 'patterns')
    equal(list(table(d.cli('stats', '-z', 'ActiveOpens', 'TautDrop.PAWS*')))[0], 'TcpActiveOpens', 'a name without prefix')
    check('segments retransmitted' in d.cli('stats', '-x', '-z', 'TcpRetransSegs'), '-x')
    path = os.path.join(net.tmp, 'before.json')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(d.cli('stats', '--json'))
    json.load(open(path, encoding='utf-8'))
    with tcp() as s:
        s.sendall(b'x' * 777)
        read_exactly(s, 777)
    delta = table(d.cli('stats', '-d', path))
    equal((delta['TautTCPInBytes'], delta['TcpPassiveOpens']), (777, 1), 'since the file')
    with open(path, 'w', encoding='utf-8') as f:
        f.write('{"x": 1}')
    status, _, err = sh(TAUT, '-S', d.dir, 'stats', '-d', path, check_status=False)
    equal(status, 1, 'a file that is none')
    check('no output of' in err, err)
    with open(path, 'w', encoding='utf-8') as f:
        f.write('{"tcp":')
    equal(sh(TAUT, '-S', d.dir, 'stats', '-d', path, check_status=False)[0], 1, 'a file that is cut off')
    out = d.cli('stats', '-i', '0.2', '-c', '2', '-z', 'TcpInSegs')
    equal(len(re.findall(r'^TcpInSegs +0 +0\.0/s segments$', out, re.M)), 2, f'two intervals: {out}')
