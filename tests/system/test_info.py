"""What both ends of one connection say of it: taut's conn.get beside the kernel's TCP_INFO."""
import socket
import struct
import threading
import time

from harness import HOST4, check, equal, pattern, read_exactly, same_bytes, tcp, wait_for

# offset, struct code: Linux's struct tcp_info
FIELDS = {
    'state': (0, 'B'), 'ca_state': (1, 'B'), 'retransmits': (2, 'B'), 'options': (5, 'B'), 'wscales': (6, 'B'),
    'snd_mss': (16, 'I'), 'rcv_mss': (20, 'I'), 'unacked': (24, 'I'), 'lost': (32, 'I'), 'retrans': (36, 'I'),
    'pmtu': (60, 'I'), 'rtt': (68, 'I'), 'advmss': (84, 'I'), 'total_retrans': (100, 'I'), 'bytes_acked': (120, 'Q'),
    'bytes_received': (128, 'Q'), 'segs_out': (136, 'I'), 'segs_in': (140, 'I'), 'notsent_bytes': (144, 'I'),
    'min_rtt': (148, 'I'), 'data_segs_in': (152, 'I'), 'data_segs_out': (156, 'I'), 'delivered': (192, 'I'),
    'bytes_sent': (200, 'Q'), 'bytes_retrans': (208, 'Q'), 'snd_wnd': (228, 'I'), 'rcv_wnd': (232, 'I'),
}


def kernel_info(s):
    raw = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    info = {name: struct.unpack_from('=' + code, raw, at)[0] if at + struct.calcsize(code) <= len(raw) else None
            for name, (at, code) in FIELDS.items()}
    info['snd_wscale'], info['rcv_wscale'] = info['wscales'] & 15, info['wscales'] >> 4
    return info


def quiet(d, conn):
    """conn.get, once nothing moves."""
    def still():
        a = d.call('conn.get', id=conn)
        time.sleep(0.25)
        b = d.call('conn.get', id=conn)
        return b if (a['segs_in'], a['segs_out']) == (b['segs_in'], b['segs_out']) and not b['unacked'] else None
    return wait_for(still, 10, 'the connection is quiet')


def compare(taut, kernel, taut_opened):
    """Both at rest, nothing retransmitted. SYNs count as a byte acknowledged where they were sent first."""
    equal((taut['total_retrans'], kernel['total_retrans']), (0, 0), 'retransmissions')
    equal(taut['bytes_received'], kernel['bytes_sent'], 'bytes_received of taut, bytes_sent of the kernel')
    equal(kernel['bytes_received'], taut['bytes_sent'], 'bytes_received of the kernel, bytes_sent of taut')
    equal(taut['bytes_acked'], kernel['bytes_received'] + taut_opened, 'bytes_acked of taut')
    equal(kernel['bytes_acked'], taut['bytes_received'] + (not taut_opened), 'bytes_acked of the kernel')
    equal(taut['data_segs_in'], kernel['data_segs_out'], 'data_segs_in of taut')
    # The kernel takes a super-frame from a TAP for one segment: the device does not say how many it holds.
    check(kernel['data_segs_in'] <= taut['data_segs_out'], 'data_segs_in of the kernel')
    for a, b, who in ((taut, kernel, 'taut'), (kernel, taut, 'the kernel')):
        equal(a['snd_wscale'], b['rcv_wscale'], f'snd_wscale of {who}')
        equal(a['delivered'], a['data_segs_out'] + 1, f'delivered of {who}: with its SYN')
        equal((a['unacked'], a['lost'], a['retrans'], a['notsent_bytes'], a['bytes_retrans']), (0,) * 5, f'{who} at rest')
        equal(a['advmss'], 1448, f'advmss of {who}')
        equal(a['snd_mss'], 1448, f'snd_mss of {who}')
        equal(a['pmtu'], 1500, f'pmtu of {who}')
        check(0 < a['min_rtt'] <= a['rtt'], f"min_rtt {a['min_rtt']}, rtt {a['rtt']} of {who}")
    equal(kernel['snd_wnd'], taut['rcv_wnd'], 'rcv_wnd of taut as the kernel heard it')
    if kernel['rcv_wnd'] is not None:
        equal(taut['snd_wnd'], kernel['rcv_wnd'], 'rcv_wnd of the kernel as taut heard it')
    for name in ('timestamps', 'sack', 'wscale'):
        check(name in taut['options'], f"{name} in {taut['options']}")
    equal(kernel['options'] & 7, 7, "the kernel's options")
    # A SYN comes before there is a connection that could count it, and a SYN-ACK leaves before.
    equal(taut['segs_in'], kernel['segs_out'] + (1 if taut_opened else -1), 'segs_in of taut')


def test_kernel_opens(net):
    """Every figure beside what the kernel says of its end; the kernel opens. runs alone"""
    d = net.tautd()
    with tcp(cubic=True) as s:
        data = pattern(4 << 20)
        sender = threading.Thread(target=s.sendall, args=(data,))
        sender.start()
        same_bytes(read_exactly(s, len(data)), data, 'echo')
        sender.join()
        info = quiet(d, d.conns()[0]['id'])
        compare(info, kernel_info(s), False)
        check(info['busy_time'] > 0 and info['delivery_rate'] > 0, 'busy_time, delivery_rate')


def test_taut_opens(net):
    """The same where taut opens. runs alone"""
    d = net.tautd()
    seen, done = [], threading.Event()

    def serve(s):
        seen.append(s)
        while data := s.recv(65536):
            s.sendall(data)
        done.wait(20)

    net.serve(serve, HOST4, 8000)
    r, s = d.control.call_fd('tcp.connect', address=HOST4, port=8000)
    with s:
        data = pattern(4 << 20)
        sender = threading.Thread(target=s.sendall, args=(data,))
        sender.start()
        same_bytes(read_exactly(s, len(data)), data, 'echo')
        sender.join()
        compare(quiet(d, r['id']), kernel_info(seen[0]), True)
        done.set()
