"""Big transfers, judged on the wire: byte-exact, nothing sent twice, no window closed for long, checksums right."""
import hashlib
import json
import os
import socket
import struct
import time

from harness import (ACK, FULL, HOST4, HOST6, RST, SANITIZED, STACK4, STACK6, SYN, RawPeer, Relay, check, clean_run, equal, exchange,
                     need, no_loss_seen, pattern, read_all, read_exactly, reset_on_close, same_bytes, sh, tcp, wait_for)

MIB = 1 << 20


def take_all(s):
    """A backend that answers with the hash of what it got."""
    h = hashlib.sha256()
    while True:
        data = s.recv(1 << 20)
        if not data:
            break
        h.update(data)
    s.sendall(h.hexdigest().encode())


def give(data):
    def handler(s):
        s.sendall(data)
    return handler


def clean_upload(net, size, address=STACK4, **options):
    d = net.tautd(v6=':' in address, **options)
    data = pattern(size)

    def once():
        with tcp(address, 9, cubic=True) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            equal(read_all(s), b'', 'discard')
    clean_run(net, once)
    return d


def test_upload_clean(net):
    """kernel -> taut, 32 MiB to discard: no retransmission, no zero window. runs alone"""
    d = clean_upload(net, 32 * MIB)
    net.say(f"{d.stats()['tcp']['TCPInBytes'] / max(1, d.stats()['tcp']['TCPInFrames']):.0f} bytes a frame")


def test_upload_clean6(net):
    """The same by IPv6, runs alone"""
    clean_upload(net, 16 * MIB, STACK6)


# A reader that stops leaves a tail whose ACK the kernel delays, and a tail loss probe goes before it, as Linux's would; where
# nothing at all may be sent twice they are off.
NO_PROBES = '[tcp]\ntcp_early_retrans = 0\n'


def clean_download(net, address, size):
    d = net.tautd(NO_PROBES, v6=':' in address)

    def once():
        with tcp(address, 19) as s:
            read_exactly(s, size)
            reset_on_close(s)
    clean_run(net, once, zero_window=False, snaplen=200)
    counters = d.stats()['tcp']
    no_loss_seen(d)
    net.say(f"{counters['TCPOutBytes'] / max(1, counters['TCPOutFrames']):.0f} bytes a frame")


def test_download_clean(net):
    """taut -> kernel, 32 MiB of chargen: no retransmission. runs alone"""
    clean_download(net, STACK4, 32 * MIB)


def test_download_clean6(net):
    """The same by IPv6, runs alone"""
    clean_download(net, STACK6, 16 * MIB)


def test_forward_both_ways(net):
    """32 MiB each way through a forward, byte-exact, clean on the wire. runs alone"""
    data = pattern(32 * MIB, 5)
    up, down = net.serve(take_all), net.serve(give(data))
    d = net.tautd(NO_PROBES + f'[forward up]\nlisten = 8001\nto = tcp:127.0.0.1:{up.port}\n'
                  f'[forward down]\nlisten = 8002\nto = tcp:127.0.0.1:{down.port}\n')

    def once():
        with tcp(port=8001, cubic=True) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            equal(read_all(s).decode(), hashlib.sha256(data).hexdigest(), 'sha256 at the backend')
        with tcp(port=8002) as s:
            same_bytes(read_all(s), data, 'from the backend')
    clean_run(net, once, zero_window=False, snaplen=200)
    no_loss_seen(d)


def test_echo_both_ways_at_once(net):
    """16 MiB to echo and back at the same time: back-pressure in both directions, byte-exact. limit: 90 s"""
    net.tautd()
    data = pattern(16 * MIB, 9)

    def once():
        with tcp(cubic=True) as s:
            same_bytes(exchange(s, data), data, 'echo')
    clean_run(net, once, zero_window=False, snaplen=200)


def test_every_checksum(net):
    """offload = no: each frame in either direction carries right checksums, and plain frames obey the MTU.
    runs alone"""
    need('tshark')
    d = net.tautd(offload=False, v6=True)
    o = d.call('server.status')['interface']['offload']
    check(not any(o.values()), f'offload is off: {o}')
    c = net.capture()
    data = pattern(2 * MIB, 11)
    for address in (STACK4, STACK6):
        with tcp(address, cubic=True) as s:
            same_bytes(exchange(s, data), data, f'echo by {address}')
        sh('ping', '-n', '-q', '-c', '2', '-i', '0.05', '-s', '2000', address)
    c.stop()
    options = ['tcp.check_checksum:TRUE', 'ip.check_checksum:TRUE', 'udp.check_checksum:TRUE']
    # Where the kernel completes a checksum in software, 0 becomes 0xffff, as UDP wants it (RFC 768): the same number in
    # ones' complement, one frame of 65,536, and tshark calls it bad.
    mangled = f'(tcp.checksum == 0xffff and (ip.src == {HOST4} or ipv6.src == {HOST6}))'
    bad = c.tshark(f'(tcp.checksum.status == "Bad" and not {mangled}) or ip.checksum.status == "Bad" or '
                   'icmp.checksum.status == "Bad" or icmpv6.checksum.status == "Bad" or _ws.malformed', options=options)
    check(not bad, f'{len(bad)} bad checksums or malformed frames, the first: {bad[:3]}')
    good = c.tshark('tcp.checksum.status == "Good"', options=options)
    check(len(good) > 2000, f'{len(good)} TCP checksums were good')
    check(not c.tshark('frame.len > 1514'), 'a frame is longer than the MTU allows')
    c.assert_clean(zero_window=False, kernel_probes=True)


def test_bad_checksum_is_dropped(net):
    """offload = no, a segment with a wrong checksum: dropped and counted, the stream intact."""
    d = net.tautd(offload=False)
    peer = RawPeer()
    seq, ack, _ = peer.connect(7)
    peer.send_tcp(40000, 7, seq, ack, ACK | 8, payload=b'lies!', tcp_checksum=0xBEEF)
    peer.send_tcp(40000, 7, seq, ack, ACK | 8, payload=b'truth')
    got = peer.segments(2, 40000, lambda ss: any(s.payload for s in ss))
    equal(b''.join(s.payload for s in got), b'truth', 'echo')
    equal(d.stats()['stack_drops']['TCP_CHECKSUM'], 1, 'TCP_CHECKSUM')


def test_mtu_sizes(net):
    """MTU 576, 1500, 9000 and 65521: byte-exact, with and without offload. limit: 120 s"""
    from harness import IFNAME
    data = pattern(MIB, 13)
    for offload in (True, False):
        d = net.tautd(offload=offload, argv_prefix=())
        for mtu in (576, 1500, 9000, 65521):
            sh('ip', 'link', 'set', IFNAME, 'mtu', mtu)
            wait_for(lambda m=mtu: d.call('server.status')['interface']['mtu'] == m, 3, f'MTU {mtu} is known')
            with tcp(cubic=True) as s:
                same_bytes(exchange(s, data), data, f'echo with MTU {mtu}, offload {offload}')
        d.control.close()
        d.expect_end = True
        equal(d.stop(), 0, 'exit status')


def bad_wire(net, size, **faults):
    """Byte-exact through echo over a wire with these faults; (relay, daemon)"""
    seed = int.from_bytes(os.urandom(4), 'big')
    net.say(f'seed {seed}')
    d = net.tautd('[stack]\narp_announce = 0\n', offload=False, host4='169.254.7.7')
    relay = Relay(net, seed, **faults)
    data = pattern(size, 17)
    began = time.monotonic()
    with tcp(cubic=True, timeout=60) as s:
        same_bytes(exchange(s, data), data, f'echo over a bad wire, seed {seed}')
    net.say(f'{relay.count}, {d.stats()["tcp"]["RetransSegs"]} retransmitted by taut, '
            f'{size * 16 / 1e6 / (time.monotonic() - began):.0f} Mbit/s')
    return relay, d


def test_lossy_wire(net):
    """2 % loss each way. limit: 120 s"""
    relay, d = bad_wire(net, 2 * MIB, loss=0.02)
    check(relay.count['lost'] > 0 and d.stats()['tcp']['RetransSegs'] > 0, 'something was lost and sent again')


def test_reordering_wire(net):
    """5 % of the frames 4 ms late. limit: 120 s"""
    relay, _ = bad_wire(net, 2 * MIB, late=0.05)
    check(relay.count['late'] > 0, 'something was late')


def test_duplicating_wire(net):
    """5 % of the frames doubled. limit: 120 s"""
    relay, _ = bad_wire(net, 2 * MIB, duplicate=0.05)
    check(relay.count['doubled'] > 0, 'something was doubled')


def test_awful_wire(net):
    """All of it at once. limit: 120 s"""
    bad_wire(net, MIB // 2, loss=0.05, duplicate=0.05, late=0.1)


def iperf3(net, *options):
    """Bits a second at the receiver."""
    need('iperf3')
    server = net.start('iperf3', 'iperf3', '-s', '-1', '-B', '127.0.0.1', '-p', '5201', '--forceflush')
    server.wait_output('Server listening')
    seconds = 10 if FULL else 3
    out = sh('iperf3', '-c', STACK4, '-p', '5201', '-C', 'cubic', '-t', seconds, '-J', *options, timeout=seconds + 25)
    server.stop()
    r = json.loads(out)
    check('error' not in r, f"iperf3: {r.get('error')}")
    return r['end']['sum_received']['bits_per_second'], r['end']['sum_sent'].get('retransmits', 0)


def measured(net, what, bits, retransmits, floor):
    """Figures are printed; they are checked against 3 Gbit/s where that is asked for, else against a sign of life."""
    net.say(f'{what} {bits / 1e9:.1f} Gbit/s, {retransmits} retransmits')
    check(bits > (3e9 if FULL and not SANITIZED else floor), f'{what}: {bits / 1e9:.2f} Gbit/s')


IPERF = '[forward iperf]\nlisten = 5201\nto = tcp:127.0.0.1:5201\n'


def test_iperf3_in(net):
    """kernel client -> forward -> iperf3 server. runs alone"""
    d = net.tautd(IPERF)
    bits, retransmits = iperf3(net)
    measured(net, 'in', bits, retransmits, 0.05e9 if SANITIZED else 0.5e9)
    equal(d.stats()['daemon']['TapReadErrors'], 0, 'TapReadErrors')


def test_iperf3_out(net):
    """iperf3 server -> forward -> kernel client. runs alone"""
    d = net.tautd(IPERF)
    bits, retransmits = iperf3(net, '-R')
    measured(net, 'out', bits, retransmits, 0.05e9 if SANITIZED else 0.5e9)
    s = d.stats()
    equal(s['daemon']['TapWriteErrors'], 0, 'TapWriteErrors')
    no_loss_seen(d)


def test_iperf3_parallel(net):
    """8 streams, both directions at once. runs alone"""
    net.tautd(IPERF)
    bits, retransmits = iperf3(net, '-P', '8')
    measured(net, '8 streams in', bits, retransmits, 0.05e9 if SANITIZED else 0.3e9)
    bits, retransmits = iperf3(net, '-P', '8', '-R')
    measured(net, 'out', bits, retransmits, 0.05e9 if SANITIZED else 0.3e9)


# ---- By hand ----------------------------------------------------------------------------------------------------------------

def in_one_burst(d, send):
    """What send() sends meets the daemon in one read burst."""
    os.kill(d.stack_pid, 19)  # SIGSTOP
    time.sleep(0.02)
    send()
    os.kill(d.stack_pid, 18)  # SIGCONT


def burst_of_20(net, options):
    d = net.tautd()
    peer = RawPeer()
    seq, ack, synack = peer.connect(9, options=options)
    peer.frames(0.1)

    def send():
        for i in range(1, 21):
            peer.send_tcp(40000, 9, seq + 100 * i, ack, ACK, payload=b'%04d' % i * 25)

    in_one_burst(d, send)
    got = peer.segments(1.5, 40000)
    equal([s.ack for s in got], [seq] * 20, 'duplicate ACKs for 20 out-of-order segments in one burst')
    peer.send_tcp(40000, 9, seq, ack, ACK, payload=b'x' * 100)
    got += peer.segments(1, 40000, lambda ss: len(ss) > 0)
    equal(got[-1].ack, (seq + 2100) & 0xFFFFFFFF, 'the ACK when the hole is filled')
    peer.send_tcp(40000, 9, seq + 2100, ack, RST)
    return got


def test_20_out_of_order(net):
    """20 out-of-order segments in one read burst owe 20 ACKs (no SACK)."""
    burst_of_20(net, b'')


def test_20_out_of_order_sack(net):
    """The same with SACK: each of the ACKs tells of its segment."""
    got = burst_of_20(net, b'\2\4\x05\xb4\4\2\1\1')
    ends = []
    for s in got[:20]:
        sack = s.option(5)
        check(sack, 'each duplicate ACK carries SACK')
        ends.append(struct.unpack('!II', sack[:8])[1])
    equal(ends, sorted(ends), 'the first SACK block grows with each segment')


def test_duplicate_owes_ack(net):
    """Ten copies of a segment received before: an ACK each, data delivered once."""
    net.tautd()
    peer = RawPeer()
    seq, ack, _ = peer.connect(7)
    peer.send_tcp(40000, 7, seq, ack, ACK | 8, payload=b'only once.')
    got = peer.segments(1, 40000, lambda ss: any(s.payload for s in ss))
    peer.send_tcp(40000, 7, seq + 10, ack + 10, ACK)
    for _ in range(3):
        peer.send_tcp(40000, 7, seq, ack + 10, ACK | 8, payload=b'only once.')
    more = peer.segments(1, 40000)
    equal(b''.join(s.payload for s in got + more), b'only once.', 'echoed bytes')
    check(len(more) >= 1, 'a duplicate is acknowledged')


def test_rst_needs_exact_sequence(net):
    """RFC 5961: an RST inside the window but not at rcv_nxt is challenged, at rcv_nxt it ends the connection."""
    d = net.tautd()
    peer = RawPeer()
    seq, ack, _ = peer.connect(7)
    wait_for(lambda: d.call('server.status')['totals']['established'] == 1, 2, 'established')
    peer.send_tcp(40000, 7, seq + 100, ack, RST)
    got = peer.segments(1, 40000, lambda ss: len(ss) > 0)
    equal([s.ack for s in got], [seq], 'the challenge ACK')
    equal(d.call('server.status')['totals']['established'], 1, 'still established')
    peer.send_tcp(40000, 7, seq, 0, RST)
    wait_for(lambda: d.call('server.status')['totals']['established'] == 0, 2, 'ended by the exact RST')


def test_rto_without_answer(net):
    """A peer that falls silent: the segment is sent again after about 200 ms, 400 ms, 800 ms; a TLP may come before.
    runs alone"""
    net.tautd()
    peer = RawPeer()
    seq, ack, _ = peer.connect(7)
    peer.send_tcp(40000, 7, seq, ack, ACK | 8, payload=b'hello')
    times = []
    end = time.monotonic() + 4
    while time.monotonic() < end and len(times) < 4:
        if any(s.payload for s in peer.segments(0.5, 40000, lambda ss: any(s.payload for s in ss))):
            times.append(time.monotonic())
    gaps = [b - a for a, b in zip(times, times[1:])]
    net.say('gaps ' + ' '.join(f'{g * 1000:.0f} ms' for g in gaps))
    check(len(gaps) >= 3, f'at least 3 retransmissions in 4 s: {gaps}')
    check(0.1 < gaps[0] < 0.6, f'the first after about 200 ms: {gaps}')
    check(1.5 < gaps[2] / gaps[1] < 2.6, f'doubling: {gaps}')


def half_open_flood(net, config, what_happens):
    """5,000 SYNs without an end: the budget holds, what is established goes on, and room comes back with the RSTs."""
    d = net.tautd('[limits]\nmax_half_open = 512\n' + config)
    peer = RawPeer()
    peer.announce()
    with tcp() as s:
        s.sendall(b'before')
        equal(read_exactly(s, 6), b'before', 'echo')
        for i in range(5000):
            peer.send_tcp(1024 + i, 7, i * 7919, 0, SYN)
        s.sendall(b'during')
        equal(read_exactly(s, 6), b'during', 'echo of an established connection')
    totals = d.call('server.status')['totals']
    check(0 < totals['half_open'] <= 512, f'half-open entries: {totals}')
    what_happens(d.stats())
    for i in range(5000):
        peer.send_tcp(1024 + i, 7, i * 7919 + 1, 0, RST)
    wait_for(lambda: d.call('server.status')['totals']['half_open'] == 0, 3, 'half-open entries are gone after RST')
    with tcp() as s:
        s.sendall(b'behind')
        equal(read_exactly(s, 6), b'behind', 'echo after the flood')


def test_half_open_flood(net):
    """Without SYN cookies: what finds the queue full is dropped, and counted."""
    half_open_flood(net, '[tcp]\ntcp_syncookies = 0\n',
                    lambda stats: check(stats['tcp_drops']['SYN_QUEUE_FULL'] > 0, 'SYN_QUEUE_FULL is counted'))


def test_half_open_flood_cookies(net):
    """With them: it is answered by a cookie."""
    half_open_flood(net, '', lambda stats: check(stats['tcp']['SyncookiesSent'] > 0, 'SyncookiesSent is counted'))

