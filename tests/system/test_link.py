"""The link below TCP: ARP and neighbour discovery, ping, fragments, MTU, carrier, the TAP itself, frames that lie."""
import os
import random
import re
import signal
import socket
import struct

from harness import (ACK, FAKE4, HOST4, IFNAME, STACK4, STACK6, SYN, RawPeer, check, equal, inet_sum, open_tap,
                     read_exactly, sh, tcp, wait_for)


def ping(address, *options):
    """(sent, received) as ping counts them."""
    _, out, err = sh('ping', '-n', '-q', '-W', '2', *options, address, check_status=False, timeout=30)
    m = re.search(r'(\d+) packets transmitted, (\d+) received', out)
    check(m, f'ping {address}: {out} {err}')
    return int(m.group(1)), int(m.group(2))


def test_ping4(net):
    net.tautd()
    equal(ping(STACK4, '-c', '3', '-i', '0.01'), (3, 3), 'ping')


def test_ping6(net):
    net.tautd(v6=True)
    equal(ping(STACK6, '-c', '3', '-i', '0.01'), (3, 3), 'ping')


def test_ping_fragments4(net):
    d = net.tautd()
    equal(ping(STACK4, '-c', '3', '-i', '0.01', '-s', '3000'), (3, 3), 'ping with 3000 bytes')
    check(d.stats()['stack']['ReasmOKs'] >= 3, 'the datagrams came in fragments')


def test_ping_fragments6(net):
    d = net.tautd(v6=True)
    equal(ping(STACK6, '-c', '3', '-i', '0.01', '-s', '3000'), (3, 3), 'ping with 3000 bytes')
    check(d.stats()['stack']['ReasmOKs'] >= 3, 'the datagrams came in fragments')


def test_ping_flood(net):
    net.tautd()
    sent, received = ping(STACK4, '-f', '-c', '2000')
    equal(received, sent, 'echo replies to a flood')


def test_arp_once(net):
    """Without the kernel's neighbour entry the first ping resolves taut, and taut answers no ARP for others."""
    net.tautd()
    sh('ip', 'neigh', 'flush', 'dev', IFNAME)
    equal(ping(STACK4, '-c', '1'), (1, 1), 'ping after the flush')
    check('lladdr 02:77:00:00:00:02' in sh('ip', 'neigh', 'show', STACK4), 'taut\'s MAC in the kernel\'s table')
    sent, received = ping('10.77.0.77', '-c', '1')
    equal(received, 0, 'answers from an address that nobody has')


def test_udp_port_unreachable(net):
    net.tautd()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        s.connect((STACK4, 5353))
        s.send(b'anybody?')
        try:
            s.recv(1)
        except ConnectionRefusedError:
            return
    check(False, 'no port unreachable for a closed UDP port')


def test_mtu_change(net):
    """The interface's MTU is followed: status tells it, and the next connection's MSS obeys."""
    d = net.tautd('[services]\necho = 7\n')
    equal(d.call('server.status')['interface']['mtu'], 1500, 'MTU at first')
    sh('ip', 'link', 'set', IFNAME, 'mtu', '1280')
    wait_for(lambda: d.call('server.status')['interface']['mtu'] == 1280, 3, 'the daemon hears of MTU 1280')
    peer = RawPeer()
    _, _, synack = peer.connect(7, options=struct.pack('!BBH', 2, 4, 1460))
    equal(struct.unpack('!H', synack.option(2))[0], 1240, 'MSS that taut announces')
    with tcp() as s:
        s.sendall(b'x' * 100000)
        equal(read_exactly(s, 100000), b'x' * 100000, 'echo')


def test_link_down_up(net):
    """Down: nothing is sent. Up again: the connection goes on where it was."""
    d = net.tautd()
    with tcp() as s:
        s.sendall(b'before')
        equal(read_exactly(s, 6), b'before', 'echo')
        sh('ip', 'link', 'set', IFNAME, 'down')
        wait_for(lambda: not d.call('server.status')['interface']['up'], 3, 'the daemon hears that the link is down')
        sh('ip', 'link', 'set', IFNAME, 'up')
        wait_for(lambda: d.call('server.status')['interface']['up'], 3, 'the daemon hears that the link is up')
        s.sendall(b'behind')
        equal(read_exactly(s, 6), b'behind', 'echo after the link came back')
    equal(ping(STACK4, '-c', '1'), (1, 1), 'ping')


def test_tap_deleted(net):
    """The TAP deleted under the daemon: a clear message, exit status 1."""
    d = net.tautd()
    d.expect_end = True
    sh('ip', 'link', 'del', IFNAME)
    equal(d.wait(5), 1, 'exit status')
    check(re.search(rf'TAP {IFNAME} is gone', d.output()), f'message: {d.output()[-300:]}')


def test_inherited_tap(net):
    """interface.fd: a TAP that somebody else made and configured; the daemon needs no right to make one."""
    fd = open_tap('mytap')
    sh('ip', 'addr', 'add', f'{HOST4}/24', 'dev', 'mytap')
    sh('ip', 'link', 'set', 'mytap', 'up')
    os.set_inheritable(fd, True)
    d = net.tautd(f'[interface]\nfd = {fd}\nhost_setup = no\n', pass_fds=(fd,))
    os.close(fd)
    equal(d.call('server.status')['interface']['name'], 'mytap', 'name')
    equal(ping(STACK4, '-c', '2', '-i', '0.01'), (2, 2), 'ping')
    with tcp() as s:
        s.sendall(b'hello')
        equal(read_exactly(s, 5), b'hello', 'echo')


def test_inherited_tap_wrong(net):
    """A descriptor that is no TAP: refused in one sentence, exit status 1."""
    r, w = os.pipe()
    os.set_inheritable(r, True)
    config = os.path.join(net.tmp, 'bad.conf')
    with open(config, 'w', encoding='ascii') as f:
        f.write(f'[interface]\nfd = {r}\n[control]\ndirectory = {net.tmp}\n')
    from harness import TAUTD
    p = net.start('tautd-bad', TAUTD, '-c', config, pass_fds=(r,))
    equal(p.wait(5), 1, 'exit status')
    check('no TAP descriptor' in p.output(), p.output())
    os.close(w)


def test_tap_busy(net):
    """Two daemons want the same TAP: the second one says so and ends, the first is not disturbed."""
    net.tautd()
    config = os.path.join(net.tmp, 'second.conf')
    with open(config, 'w', encoding='ascii') as f:
        f.write(f'[interface]\nname = {IFNAME}\n[control]\ndirectory = {net.tmp}\n')
    from harness import TAUTD
    p = net.start('tautd-second', TAUTD, '-c', config)
    equal(p.wait(5), 1, 'exit status of the second')
    check('another process holds it' in p.output(), p.output())
    equal(ping(STACK4, '-c', '1'), (1, 1), 'ping')


# ---- Frames that lie ----------------------------------------------------------------------------------------------------

def drops(d):
    s = d.stats()
    return {**{'stack.' + k: v for k, v in s['stack_drops'].items()}, **{'tcp.' + k: v for k, v in s['tcp_drops'].items()}}


def lies(peer):
    """(what, the counters one of which must rise, frame)"""
    syn = lambda **o: peer.tcp(41000, 7, 1, 0, SYN, **o)
    good = peer.ip(syn())
    yield 'Ethernet header only', {'stack.FRAME_SHORT', 'stack.IP_HEADER'}, peer.ethernet(b'')
    yield 'half an IP header', {'stack.FRAME_SHORT', 'stack.IP_HEADER'}, peer.ethernet(good[:12])
    yield 'unknown EtherType', {'stack.ETHERTYPE'}, peer.ethernet(good, 0x88B5)
    yield 'MAC of another', {'stack.NOT_FOR_US'}, b'\x02\x99\x99\x99\x99\x99' + peer.ethernet(good)[6:]
    yield 'multicast source MAC', {'stack.SOURCE_MAC'}, peer.stack_mac + b'\x03\0\0\0\0\1' + peer.ethernet(good)[12:]
    yield 'IP version 5', {'stack.IP_HEADER'}, peer.ethernet(peer.ip(syn(), vihl=0x55))
    yield 'IP header length 8', {'stack.IP_HEADER'}, peer.ethernet(peer.ip(syn(), vihl=0x42))
    yield 'IP header longer than the packet', {'stack.IP_HEADER'}, peer.ethernet(peer.ip(b'', vihl=0x4f))
    yield 'total length 4000', {'stack.IP_HEADER'}, peer.ethernet(peer.ip(syn(), total=4000))
    yield 'total length 10', {'stack.IP_HEADER'}, peer.ethernet(peer.ip(syn(), total=10))
    yield 'bad IP checksum', {'stack.IP_CHECKSUM'}, peer.ethernet(peer.ip(syn(), checksum=0x1234))
    yield 'source 127.0.0.1', {'stack.IP_SOURCE'}, peer.ethernet(peer.ip(syn(), source=b'\x7f\0\0\1'))
    yield 'source 224.0.0.1', {'stack.IP_SOURCE'}, peer.ethernet(peer.ip(syn(), source=b'\xe0\0\0\1'))
    yield 'source is the stack itself', {'stack.IP_SOURCE'}, peer.ethernet(peer.ip(syn(), source=peer.stack))
    yield 'destination of another', {'stack.IP_DESTINATION'}, peer.ethernet(peer.ip(syn(), destination=b'\x0a\x4d\0\x42'))
    yield 'broadcast destination', {'stack.IP_DESTINATION'}, \
        peer.ethernet(peer.ip(syn(), destination=b'\x0a\x4d\0\xff'))
    yield 'protocol 200', {'stack.IP_PROTOCOL'}, peer.ethernet(peer.ip(b'12345678', proto=200))
    yield 'bad TCP checksum', {'stack.TCP_CHECKSUM'}, peer.ethernet(peer.ip(syn(tcp_checksum=0x4321)))
    yield 'data offset 2', {'stack.TCP_MALFORMED'}, peer.ethernet(peer.ip(syn(offset=2)))
    yield 'data offset behind the end', {'stack.TCP_MALFORMED'}, peer.ethernet(peer.ip(syn(offset=15)))
    yield '8 bytes of TCP', {'stack.TCP_MALFORMED', 'stack.FRAME_SHORT'}, peer.ethernet(peer.ip(syn()[:8]))
    yield 'no flags at all', {'tcp.BAD_FLAGS', 'tcp.NO_SOCKET'}, peer.ethernet(peer.ip(peer.tcp(41001, 7, 1, 0, 0)))
    yield 'bad ICMP checksum', {'stack.ICMP_CHECKSUM'}, peer.ethernet(peer.ip(b'\x08\0\0\0\0\1\0\1abcd', proto=1))
    yield 'ICMP of 3 bytes', {'stack.ICMP_MALFORMED'}, peer.ethernet(peer.ip(b'\x08\0\0', proto=1))
    yield 'UDP length 4', {'stack.UDP_MALFORMED', 'stack.UDP_CHECKSUM'}, \
        peer.ethernet(peer.ip(struct.pack('!HHHH', 9, 9, 4, 0), proto=17))
    yield 'fragment with a bad length', {'stack.FRAG_MALFORMED'}, peer.ethernet(peer.ip(b'1234567', frag=0x2000))
    yield 'fragment beyond 64 KB', {'stack.FRAG_MALFORMED'}, peer.ethernet(peer.ip(b'x' * 64, frag=0x1fff))
    yield 'ARP of 10 bytes', {'stack.ARP_MALFORMED', 'stack.FRAME_SHORT'}, peer.ethernet(b'\0\1\x08\0\6\4\0\1ab', 0x0806)
    yield 'ARP with 200-byte addresses', {'stack.ARP_MALFORMED'}, \
        peer.ethernet(struct.pack('!HHBBH', 1, 0x0800, 200, 200, 1) + b'x' * 20, 0x0806)
    yield 'half an IPv6 header', {'stack.IP_HEADER', 'stack.FRAME_SHORT'}, peer.ethernet(b'\x60' + b'\0' * 20, 0x86DD)
    yield 'IPv6 longer than the frame', {'stack.IP_HEADER'}, \
        peer.ethernet(struct.pack('!IHBB', 6 << 28, 3000, 6, 64) + b'\xfd' * 32, 0x86DD)


def test_bad_frames(net):
    """Each lie raises its counter and nothing else happens."""
    d = net.tautd()
    peer = RawPeer()
    peer.announce()
    peer.frames(0.2)
    wrong = []
    for what, names, frame in lies(peer):
        before = drops(d)
        peer.send(frame)
        def rose():
            after = drops(d)
            return sorted(k for k in after if after[k] > before[k])
        try:
            risen = wait_for(rose, 1, what)
        except AssertionError:
            wrong.append(f'{what}: no counter rose, expected {" or ".join(sorted(names))}')
            continue
        if not names & set(risen):
            wrong.append(f'{what}: {risen} rose, expected {" or ".join(sorted(names))}')
    check(not wrong, '\n'.join(wrong))
    equal(ping(STACK4, '-c', '1'), (1, 1), 'ping afterwards')


def test_bad_options(net):
    """Options with bad lengths are skipped or end the list; the handshake works all the same."""
    net.tautd()
    peer = RawPeer()
    cases = [b'\2\0', b'\2\1', b'\2\3\0', b'\2\4', b'\2\x05\1\2\3', b'\3\2\2', b'\3\3\xff', b'\x08\x0a\1', b'\x08\2',
             b'\5\x09123456789', b'\xfe\xff', b'\0\2\4\xff\xff', b'\1' * 40, b'\2\4\0\0', b'\2\4\0\1', b'\4\3\0',
             b'\x1d\x04\0\0', b'\x22\x02', b'\x22\x12' + b'c' * 16]
    for i, options in enumerate(cases):
        _, _, synack = peer.connect(7, sport=42000 + i, options=options)
        check(synack.flags & (SYN | ACK) == SYN | ACK, f'options {options!r}: flags {synack.flags:#x}')


def test_absurd_windows(net):
    """Windows of 0, 1 and 65535 << 14, MSS of 1: the echo comes, in pieces if it must, and nothing breaks."""
    d = net.tautd()
    peer = RawPeer()
    for i, (window, options) in enumerate([(65535, b'\3\3\x0e'), (1, b''), (0, b''), (100, b'\2\4\0\1')]):
        sport = 43000 + i
        seq, ack, _ = peer.connect(7, sport=sport, options=options, window=window)
        peer.send_tcp(sport, 7, seq, ack, ACK | 8, window=window, payload=b'0123456789')
        got = peer.segments(0.5, sport, lambda ss: sum(len(s.payload) for s in ss) >= 10)
        if window > 1:
            equal(b''.join(s.payload for s in got)[:10], b'0123456789', f'echo with window {window}')
        peer.send_tcp(sport, 7, seq + 10, ack, 4)
    wait_for(lambda: d.call('server.status')['totals']['established'] == 0, 5, 'all connections reset')


def test_random_frames(net):
    """3,000 frames that are true ones with random damage. limit: 60 s"""
    d = net.tautd()
    peer = RawPeer()
    seed = int.from_bytes(os.urandom(4), 'big')
    net.say(f'seed {seed}')
    rng = random.Random(seed)
    seq, ack, _ = peer.connect(7, sport=44000)
    icmp = b'\x08\0\0\0\0\1\0\1' + b'p' * 48
    models = [peer.tcp(44000, 7, seq, ack, ACK | 8, payload=b'data' * 20), peer.tcp(44001, 7, 5, 0, SYN),
              peer.tcp(44000, 7, seq, ack, ACK, options=b'\x05\x0a' + b's' * 8)]
    for _ in range(3000):
        kind = rng.randrange(5)
        payload = bytearray(rng.choice(models) if kind < 4 else icmp[:2] + struct.pack('!H', inet_sum(icmp)) + icmp[4:])
        packet = bytearray(peer.ip(bytes(payload), proto=1 if kind == 4 else 6))
        for _ in range(rng.randrange(4)):
            packet[rng.randrange(len(packet))] = rng.randrange(256)
        if rng.random() < 0.5:  # with the checksums put right, so that it gets further in
            ihl = (packet[0] & 15) * 4
            if 20 <= ihl <= len(packet) - 20:
                packet[10:12] = b'\0\0'
                packet[10:12] = struct.pack('!H', inet_sum(bytes(packet[:ihl])))
                packet[ihl + 16:ihl + 18] = b'\0\0'
                pseudo = bytes(packet[12:20]) + struct.pack('!BBH', 0, 6, len(packet) - ihl)
                packet[ihl + 16:ihl + 18] = struct.pack('!H', inet_sum(pseudo + bytes(packet[ihl:])))
        if rng.random() < 0.2:
            del packet[rng.randrange(1, len(packet)):]
        try:
            peer.send(peer.ethernet(bytes(packet)))
        except OSError:
            pass
    with tcp() as s:
        s.sendall(b'alive')
        equal(read_exactly(s, 5), b'alive', 'echo afterwards')
    check(d.running(), 'the daemon lives')


def test_neighbour_of_another_subnet(net):
    """taut does not answer what it has no route to, and says so in a counter."""
    d = net.tautd()
    peer = RawPeer()
    peer.announce()
    before = drops(d)
    far = bytes([192, 168, 55, 1])
    peer.send(peer.ethernet(peer.ip(peer.tcp(45000, 7, 1, 0, SYN, source=far), source=far)))
    wait_for(lambda: drops(d)['stack.NO_ROUTE'] > before['stack.NO_ROUTE'], 2, 'NO_ROUTE counted')


def test_address_conflict(net):
    """Somebody else claims our address: a warning with its MAC."""
    d = net.tautd()
    peer = RawPeer()
    peer.send(b'\xff' * 6 + peer.mac + struct.pack('!HHHBBH', 0x0806, 1, 0x0800, 6, 4, 1) + peer.mac + peer.stack +
              b'\0' * 6 + peer.stack)
    wait_for(lambda: 'address conflict: 02:77:00:00:de:ad' in d.output(), 3, 'the warning')


def test_fake_neighbour_is_resolved(net):
    """A SYN from a host whose MAC the kernel's ARP did not tell: taut asks for it, or learned it, and answers."""
    net.tautd()
    peer = RawPeer()
    equal(socket.inet_ntoa(peer.address), FAKE4, 'address')
    peer.send_tcp(46000, 7, 77, 0, SYN)
    got = peer.segments(3, 46000, lambda ss: len(ss) > 0)
    check(got and got[0].flags & SYN, 'SYN-ACK came after ARP')


def test_signal_int(net):
    d = net.tautd()
    d.expect_end = True
    equal(d.stop(signal.SIGINT), 0, 'exit status after SIGINT')
    equal(sh('ip', 'link', 'show', IFNAME, check_status=False)[0], 1, 'the TAP is gone with it')
