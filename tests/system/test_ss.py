"""taut ss beside the kernel's ss(8): the same connection seen from both ends, with the same columns, names and order."""
import json
import os
import re

from harness import (HOST4, STACK4, STACK6, TAUT, RawPeer, SYN, check, equal, need, read_exactly, sh, tcp, wait_for)

# Where iproute2 puts each word of the -i line; what we print must come in this order.
ORDER = ['skmem', 'ts', 'sack', 'ecn', 'ecnseen', 'fastopen', 'CONGESTION', 'wscale', 'rto', 'backoff', 'rtt', 'ato', 'mss',
         'pmtu', 'rcvmss', 'advmss', 'cwnd', 'ssthresh', 'bytes_sent', 'bytes_retrans', 'bytes_acked', 'bytes_received',
         'segs_out', 'segs_in', 'data_segs_out', 'data_segs_in', 'bbr', 'send', 'lastsnd', 'lastrcv', 'lastack', 'pacing_rate',
         'delivery_rate', 'delivered', 'delivered_ce', 'app_limited', 'busy', 'rwnd_limited', 'sndbuf_limited', 'unacked',
         'retrans', 'lost', 'sacked', 'dsack_dups', 'reordering', 'reord_seen', 'rcv_rtt', 'rcv_space', 'rcv_ssthresh',
         'notsent', 'minrtt', 'rcv_ooopack', 'snd_wnd', 'waits_for']
CONTROLS = ('cubic', 'reno', 'bbr', 'dctcp')


def words(line):
    """The names on an info line, in their order."""
    names = []
    for word in line.split():
        name = re.split(r'[:(]', word)[0]
        if re.match(r'^[0-9.]+[KMGT]?bps(/|$)', word):
            continue  # a rate's value
        names.append('CONGESTION' if word in CONTROLS else name)
    return names


def in_order(names, who):
    at = -1
    for name in names:
        check(name in ORDER, f'{who}: "{name}" is no word of ss')
        check(ORDER.index(name) > at, f'{who}: {name} stands in the wrong place: {names}')
        at = ORDER.index(name)


def kernel_ss(*argv):
    return sh('ss', *argv)


def busy_connection():
    s = tcp()
    s.sendall(b'x' * 200000)
    read_exactly(s, 200000)
    return s


def test_side_by_side(net):
    """Heading, columns, and the words of -o -e -m -i come in ss's order; both ends tell the same of one connection."""
    need('ss')
    d = net.tautd()
    with busy_connection() as s:
        # The ACK of the last bytes may be on its way still.
        wait_for(lambda: [x.split()[1:3] for x in (kernel_ss('-tnH', 'dst', STACK4), d.cli('ss', '-tnH', 'dst', HOST4))] ==
                 [['0', '0']] * 2, 5, 'all is acknowledged')
        theirs = kernel_ss('-tinom', 'dst', STACK4).splitlines()
        ours = d.cli('ss', '-tinom', 'dst', HOST4).splitlines()
        equal(ours[0].split(), theirs[0].replace('PortProcess', 'Port Process').split(), 'heading')  # ss may leave no blank
        equal(len(ours), len(theirs), 'lines')
        a, b = ours[1].split(), theirs[1].split()
        equal(a[:3], b[:3], 'state and queues')
        equal((a[3], a[4]), (b[4], b[3]), 'the addresses, seen from the other end')
        in_order(words(theirs[2]), 'ss')
        in_order(words(ours[2]), 'taut ss')
        missing = set(words(theirs[2])) - set(words(ours[2])) - {'bbr', 'app_limited', 'ssthresh', 'busy', 'rwnd_limited',
                                                                 'sndbuf_limited', 'ato', 'rcv_rtt', 'reordering',
                                                                 'lastsnd', 'lastrcv', 'lastack', 'delivery_rate',
                                                                 'pacing_rate', 'retrans', 'bytes_retrans', 'reord_seen'}
        equal(missing, set(), f'what ss tells and taut ss does not: {ours[2]}')
        for side, line in (('ss', theirs[2]), ('taut', ours[2])):
            check('bytes_received:200000' in line and re.search(r'bytes_acked:20000[01]', line), f'{side}: {line}')
        equal(re.search(r'wscale:(\d+),(\d+)', ours[2]).groups(),
              re.search(r'wscale:(\d+),(\d+)', theirs[2]).groups()[::-1], 'window scales')
        one = d.cli('ss', '-tiOnH', 'dst', HOST4)
        equal(len(one.splitlines()), 1, '-O -H')


def test_options(net):
    """-l -a -p -e -s -4 -6 -H and names of services."""
    d = net.tautd('[services]\necho = 80\n', v6=True)
    with tcp(port=80) as a, tcp(STACK6, 80) as b:
        for s in (a, b):
            s.sendall(b'x')
            read_exactly(s, 1)
        equal(len(d.cli('ss', '-tnH').splitlines()), 2, 'both families')
        equal(len(d.cli('ss', '-tnH4').splitlines()), 1, '-4')
        check('[fd77::2]:80' in d.cli('ss', '-tnH6'), '-6')
        check(f'{STACK4}:http' in d.cli('ss', '-tH4').replace(' ', ''), 'names of services')
        listening = d.cli('ss', '-tlnp')
        check(re.search(r'LISTEN\s+0\s+\d+\s+\*:80\s+\*:\*\s+users:\(\("echo"\)\)', listening), listening)
        equal(listening.count('LISTEN'), 3, 'listeners')
        equal(d.cli('ss', '-tanH').count('ESTAB'), 2, '-a')
        ident = re.search(r' id:(\S+)', d.cli('ss', '-tneH4')).group(1)
        check(f'{STACK4}:80' in d.cli('conn', ident), 'the id leads to the connection')
        check('users:(("echo"))' in d.cli('ss', '-tnp'), '-p')
        summary = d.cli('ss', '-s')
        check(re.search(r'TCP:\s+5 \(estab 2,', summary), summary)
        check(re.search(r'^TCP\s+5\s+\d+\s+1\s*$', summary, re.M), summary)
        rows = json.loads(d.cli('ss', '-t', '--json'))
        equal(sorted(r['state'] for r in rows), ['ESTABLISHED'] * 2, '--json')
    out = d.cli('ss', '-tanoH', 'state', 'time-wait')
    check(not out or 'timer:(timewait,' in out, out)


def test_filters(net):
    """The same filters give the same answers as ss on the kernel's end, where source and destination are exchanged."""
    need('ss')
    d = net.tautd()
    ports = (7, 9, 19)
    socks = [tcp(port=p) for p in ports for _ in range(3)]
    wait_for(lambda: len(d.conns(state='ESTABLISHED')) == 9, 5, 'nine connections')
    pairs = [('( dport = :7 or dport = :9 )', '( sport = :7 or sport = :9 )'), ('dport gt :8', 'sport gt :8'),
             ('not dport = :7', 'not sport = :7'), ('! ( dport eq 7 or dport < 9 )', '! ( sport eq 7 or sport < 9 )'),
             ('dst 10.77.0.0/24 and dport le 9', 'src 10.77.0.0/24 and sport le 9'),
             ('dst 10.77.0.2:19', 'src 10.77.0.2:19'), ('dst 10.78.0.0/16', 'src 10.78.0.0/16'),
             ('state established dport = 7', 'state established sport = 7'), ('state syn-sent', 'state syn-sent'),
             ('exclude established', 'exclude established exclude listening'), ('dst :7', 'src :7'), ('dport ne 7', 'sport ne 7'),
             ('dport = :echo', 'sport = :echo')]
    for kernel, taut in pairs:
        theirs = {line.split()[-2] for line in kernel_ss('-tnH', *kernel.split()).splitlines() if 'LISTEN' not in line}
        ours = {line.split()[-1] for line in d.cli('ss', '-tnH', *taut.split()).splitlines()}
        equal(ours, theirs, f'ss {kernel}')
    for s in socks:
        s.close()


def test_half_open_and_limits(net):
    """A half-open entry is SYN-RECV with its timer; a connection that waits says for what."""
    d = net.tautd()
    peer = RawPeer()
    peer.announce()
    peer.send_tcp(40000, 7, 1000, 0, SYN)
    wait_for(lambda: d.conns(state='NEW_SYN_RECV'), 3, 'half open')
    out = d.cli('ss', '-tanoH', 'state', 'syn-recv')
    check(out.startswith('SYN-RECV') and 'timer:(on,' in out, out)
    with tcp(port=19):  # the character generator fills our window, which we do not read
        wait_for(lambda: any(r['limit'] == 'RWND' for r in d.conns(local_port=19)), 10, 'the window is full')
        line = d.cli('ss', '-tino', 'sport', '=', '19')
        check('waits_for:RWND' in line and 'timer:(' in line and 'rwnd_limited:' in line, line)
    peer.close()


def test_usage(net):
    """Mistakes are found before anything is asked: exit status 2, no daemon needed."""
    for argv, word in ((['ss', 'dport'], 'comparison'), (['ss', 'state', 'x'], 'no state'), (['ss', '-Q'], ''),
                       (['ss', '( dport = :80'], ') is missing'), (['conn'], 'ID'), (['ping'], 'HOST'),
                       (['connect', 'x'], 'PORT'), (['listen', '99999'], 'PORT'), (['stats', '-i', 'x'], '-i'),
                       (['stats', '-c', '3'], '-c'), (['conns', '-i', '0'], '-i'), (['set', '1'], 'OPTION'),
                       (['events', 'x'], 'no arguments'), (['reload', 'x'], 'no arguments'), (['top', '-d', '0'], '-d'),
                       (['top', 'colour'], 'expected'), (['metrics', 'a', 'b'], 'flush'), (['config', 'a', 'b', 'c'], 'KEY')):
        status, out, err = sh(TAUT, '-S', net.tmp, *argv, check_status=False)
        equal((status, out), (2, ''), f'taut {" ".join(argv)}: {err}')
        check(word in err, f'{argv}: {err}')
    equal(sh(TAUT, '-S', net.tmp, 'ss', check_status=False)[0], 3, 'no daemon')
    for command in ('status', 'ss', 'top', 'conns', 'conn', 'connect', 'listen', 'close', 'abort', 'set', 'ping', 'stats', 'neigh',
                    'metrics', 'events', 'config', 'reload', 'version'):
        text = sh(TAUT, command, '--help')
        check(text.startswith(f'usage: taut [-S PATH] {command}') and '--json' in text, text)
        for option in re.findall(r'\[-([a-zA-Z])', text.split('\n')[0].replace('[-S PATH]', '')):
            check(re.search(rf'^  (-., )*-{option}\b', text, re.M), f'{command} --help explains -{option}: {text}')
    equal(os.path.exists(os.path.join(net.tmp, 'control.sock')), False, 'nothing was made')
