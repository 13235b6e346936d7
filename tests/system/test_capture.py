"""taut capture: frames of the interface as they pass the TAP, with causes and drop reasons; readers that sleep."""
import os
import signal
import socket
import struct
import time

from harness import (STACK4, TAUT, Control, RawPeer, check, equal, need, pattern, read_exactly, sh, tcp, wait_for)
from test_export import tshark


def refused():
    s = socket.socket()
    try:
        s.connect((STACK4, 4444))
    except ConnectionRefusedError:
        return
    finally:
        s.close()
    check(False, 'connected')


def echo(n):
    with tcp() as s:
        for at in range(0, n, 40000):
            data = pattern(min(40000, n - at))
            s.sendall(data)
            equal(read_exactly(s, len(data)), data, 'echo')


def test_frames(net):
    """tshark reads it without a warning, every checksum is good, comments say why; with and without offloads."""
    need('tshark')
    for offload in (True, False):
        d = net.tautd(offload=offload)
        out = os.path.join(net.tmp, f'live-{offload}.pcapng')
        p = net.start('capture', TAUT, '-S', d.dir, 'capture', '-o', out)
        wait_for(lambda: os.path.exists(out) and os.path.getsize(out) > 100, 5, 'it begins')
        echo(120000)
        refused()
        wait_for(lambda: b'NO_SOCKET' in open(out, 'rb').read(), 5, 'the last frames')
        p.send_signal(signal.SIGINT)
        equal(p.wait(5), 0, 'exit status')
        check(', 0 missed' in p.output(), p.output())
        rows = [x.split('\t') for x in tshark(out, 'tcp.srcport', 'tcp.len', 'tcp.checksum.status', 'ip.checksum.status',
                                              'frame.comment', 'tcp.analysis.retransmission',
                                              'tcp.analysis.spurious_retransmission', display='tcp')]
        equal({(r[2], r[3]) for r in rows}, {('1', '1')}, 'checksums')
        once = [r for r in rows if not any(r[5:7])]  # a busy machine makes probes of both ends fire
        for out_of_7 in (True, False):
            equal(sum(int(r[1]) for r in once if (r[0] if out_of_7 else '7') == '7' and (r[0] == '7') == out_of_7), 120000,
                  'payload')
        comments = [r[4] for r in rows]
        check(all(comments), 'a comment each')
        for want in ('SYNACK: ', 'DATA: ', 'used', 'not used: NO_SOCKET: ', 'RST_NO_SOCKET: '):
            check(any(want in c for c in comments), f'{want}: {set(comments)}')
        equal(tshark(out, 'frame.number', display='_ws.malformed'), [], 'malformed')
        d.expect_end = True
        d.stop()


def test_sent_again(net):
    """What is sent again says so, and what is sent first does not: to a peer that is mute behind the handshake."""
    need('tshark')
    d = net.tautd()
    out = os.path.join(net.tmp, 'live.pcapng')
    p = net.start('capture', TAUT, '-S', d.dir, 'capture', '-o', out, '--port', '19')
    wait_for(lambda: os.path.exists(out) and os.path.getsize(out) > 100, 5, 'it begins')
    peer = RawPeer()
    peer.connect(19, 40001)
    wait_for(lambda: d.conns(fields=['total_retrans'])[0]['total_retrans'] >= 2, 10, 'it is sent to again')
    time.sleep(0.1)
    p.send_signal(signal.SIGINT)
    equal(p.wait(5), 0, 'exit status')
    seen, marked = set(), 0
    for seq, n, comment in [x.split('\t') for x in tshark(out, 'tcp.seq', 'tcp.len', 'frame.comment',
                                                         display='tcp.srcport == 19 && tcp.len > 0')]:
        equal('; sent again' in comment, seq in seen, f'{seq}: {comment}')
        marked += seq in seen
        seen.add(seq)
    check(marked >= 2, f'{marked} marked')


def test_filter_and_limits(net):
    """A port, a length, a count; one capture at a time; usage."""
    need('tshark')
    d = net.tautd()
    out = os.path.join(net.tmp, 'live.pcapng')
    p = net.start('capture', TAUT, '-S', d.dir, 'capture', '-o', out, '--port', '7', '-s', '80', '-c', '12')
    wait_for(lambda: os.path.exists(out) and os.path.getsize(out) > 100, 5, 'it begins')
    equal(d.cli('capture', '-o', '/dev/null', '-t', '1', check_status=False)[0], 1, 'a second one')
    refused()
    echo(100000)
    equal(p.wait(5), 0, 'exit status')
    rows = [x.split('\t') for x in tshark(out, 'tcp.port', 'frame.cap_len')]
    equal(len(rows), 12, 'frames')
    check(all('7' in r[0].split(',') and int(r[1]) <= 80 for r in rows), rows)
    wait_for(lambda: d.cli('capture', '-o', out, '-t', '1', check_status=False)[0] == 0, 10, 'the next one may begin')
    equal(sh(TAUT, 'capture', check_status=False)[0], 2, 'usage')


def test_lag_is_told(net):
    """taut capture whose output is not read, ended by its time: it says that it may have missed more."""
    d = net.tautd(offload=False)
    fifo = os.path.join(net.tmp, 'fifo')
    os.mkfifo(fifo)
    p = net.start('capture', TAUT, '-S', d.dir, 'capture', '-o', fifo, '-t', '2')
    with open(fifo, 'rb') as f:
        check(f.read(24)[:4] == b'\x0a\x0d\x0d\x0a', 'it begins')
        echo(6000000)
        time.sleep(2.1)  # its time is over: it stands in a write
        while f.read(1 << 16):
            pass
        equal(p.wait(5), 0, 'exit status')
    check('frames captured, at least ' in p.output(), p.output())


def test_reader_sleeps(net):
    """A reader that does not read costs its queue: traffic goes on, what it missed is counted and told."""
    d = net.tautd(offload=False)
    control = Control(d.dir)
    _, s = control.call_fd('capture.open')
    begun = time.monotonic()
    echo(6000000)
    check(time.monotonic() - begun < 20, 'the traffic was held up')
    tiny = RawPeer()  # frames of no size, but their comments: room for the one and not for the other
    for _ in range(200):
        tiny.send(tiny.ethernet(b'', 0x88b5))
    time.sleep(0.2)
    s.settimeout(1)
    blocks, seen, missed, told_at = 0, 0, 0, None
    while not missed or blocks + missed < seen:
        block = s.recv(1 << 20)
        blocks += block[:4] == struct.pack('=I', 6)
        if block[:4] == struct.pack('=I', 5):
            seen, missed = struct.unpack_from('=Q', block, 24)[0], struct.unpack_from('=Q', block, 36)[0]
            told_at = blocks if told_at is None else told_at
    check(blocks > 1000 and missed > 1000 and blocks + missed == seen, f'{blocks} frames, {missed} missed of {seen}')
    check(told_at < blocks / 2, f'it is told behind {told_at} of {blocks} frames: the queue does not hold it up')
    s.close()
    echo(1000)
    control.call_fd('capture.open')[1].close()
