"""Runs a script against a host: events in order, the clock moved to each one's time, expectations compared.

A segment belongs to the connection under test: the one that the last socket(), connect() or inbound SYN made. Sequence
numbers, timestamps and ports are mapped between script and wire as packetdrill does it, so that scripts read alike.
"""

import collections
import ctypes
import errno
import os
import re
import socket
import struct
import textwrap

import pdlang
import pdnet
import pdshim
from pdcmd import Commands, CommandFailed, UnknownCommand
from pdconst import CODE_NAMES, INFO_BYTES, info_dict, symbol
from pdlang import ScriptError

BIND_PORT = CONNECT_PORT = 8080
FIRST_REMOTE_PORT = 50001
MASK = 0xffffffff
ZEROCOPY, ERRQUEUE, FASTOPEN, OOB, PEEK, DONTWAIT = 0x4000000, 0x2000, 0x20000000, 1, 2, 0x40

VARIANTS = {
    'ipv4': dict(family=4, local='192.168.0.1', remote='192.0.2.1', mtu=1500, mapped=False, defines=dict(
        TFO_COOKIE='3021b9d889017eeb', CODE='host_unreachable', CMSG_LEVEL_IP='SOL_IP',
        CMSG_TYPE_RECVERR='IP_RECVERR')),
    'ipv4-mapped-v6': dict(family=4, local='192.168.0.1', remote='192.0.2.1', mtu=1500, mapped=True, defines=dict(
        TFO_COOKIE='3021b9d889017eeb', CODE='host_unreachable', CMSG_LEVEL_IP='SOL_IPV6',
        CMSG_TYPE_RECVERR='IPV6_RECVERR')),
    'ipv6': dict(family=6, local='fd3d:0a0b:17d6::1', remote='fd3d:fa7b:d17d::1', mtu=1520, mapped=False, defines=dict(
        TFO_COOKIE='c1d1e9742a47a9bc', CODE='address_unreachable', CMSG_LEVEL_IP='SOL_IPV6', CMSG_TYPE_RECVERR='IPV6_RECVERR')),
}


class Failure(Exception):
    """The engine did otherwise than the script says. lines: expected and actual."""

    def __init__(self, what, lines=()):
        super().__init__(what)
        self.lines = list(lines)


class Skip(Exception):
    """This machine cannot say: the script needs what is not TCP's."""


class Conn:
    """A connection (or a socket before it) as the script sees it."""

    def __init__(self, state, fd=None):
        self.state, self.fd = state, fd  # fd: the shim's
        self.local = self.remote = None  # (raw address, port) on the wire
        self.local_isn = self.remote_isn = 0
        self.script_local_isn = 0
        self.ts = {}
        self.ts_base = None  # (script, live)


class Stream:
    """What a descriptor has written and read so far, in bytes."""

    def __init__(self):
        self.out = self.inp = 0
        self.checked = True


class Settings:
    def __init__(self, tolerance_us=100, tolerance_percent=0.0, seed=1, check_ecr=True):
        self.tolerance_us, self.tolerance_percent = tolerance_us, tolerance_percent
        self.seed, self.check_ecr = seed, check_ecr
        self.open_end = False  # segments behind the last expected one are allowed
        self.mtu = 0  # of the device; 0: the variant's
        self.ts_tick_us, self.ts_scaled, self.strict_segments, self.mss = 0, False, False, 0


class Runner:
    def __init__(self, lib, path, script, variant, settings):
        """script: its text, or what pdlang.parse() made of it."""
        self.lib, self.path, self.settings = lib, path, settings
        self.scope = dict(CODE_NAMES)
        self.variant = VARIANTS[variant]
        self.script = pdlang.parse(script, self.variant['defines']) if isinstance(script, str) else script
        self.local = socket.inet_pton(self.family(), self.variant['local'])
        self.remote = socket.inet_pton(self.family(), self.variant['remote'])
        self.apply_options()
        self.trace = []
        self.queue = collections.deque()
        self.fds, self.streams = {}, {}
        self.conns, self.conn = [], None
        self.next_port = FIRST_REMOTE_PORT
        self.md5_key = b''  # of the last TCP_MD5SIG
        self.blocked = None  # (event, call, finish)
        self.last = None
        self.event = None
        self.host = None
        self.on_end = None  # called with the runner before its host goes
        self.commands = None
        self.t0 = 0

    def family(self):
        return socket.AF_INET if self.variant['family'] == 4 else socket.AF_INET6

    def apply_options(self):
        """Options in the script; addresses are the variant's, as packetdrill's command line wins over the script."""
        s = self.settings
        for name, value in self.script.options:
            if name == 'tolerance_usecs':
                s.tolerance_us = int(value)
            elif name == 'tolerance_percent':
                s.tolerance_percent = float(value)
            elif name == 'tcp_ts_tick_usecs':
                s.ts_tick_us = int(value)
            elif name == 'tcp_ts_ecr_scaled':
                s.ts_scaled = True
            elif name == 'strict_segments':
                s.strict_segments = True
            elif name == 'mss':
                s.mss = int(value)
            elif name not in ('local_ip', 'remote_ip', 'ip_version', 'gateway_ip', 'netmask_ip', 'send_omit_free'):
                raise Skip('option --%s' % name)

    # ---- the run ----

    def run(self):
        locals_ = [self.variant['local']]
        mtu = self.settings.mtu or self.variant['mtu']
        with self.new_host(locals_, mtu) as self.host:
            self.commands = Commands(self.host, os.path.dirname(os.path.abspath(self.path)), os.getpid())
            self.commands.runner = self
            self.commands.route['mtu'] = mtu
            self.t0 = self.host.now()
            try:
                for text in self.script.init:
                    self.command(text)
                for event in self.script.events:
                    self.event = event
                    self.step(event)
                    self.last = event
                self.finish()
                for text in self.script.cleanup:
                    self.command(text)
            finally:
                if self.on_end:
                    self.on_end(self)
                if self.blocked:
                    self.host.forget(ctypes.byref(self.blocked[1]))

    def new_host(self, addresses, mtu):
        return pdshim.Host(self.lib, self.settings.seed, addresses, mtu)

    def now_us(self):
        return (self.host.now() - self.t0) // 1000

    def note(self, text, at_us=None):
        at = self.now_us() if at_us is None else at_us
        self.trace.append('%10.6f %s' % (at / 1e6, text))

    def step(self, event):
        t = event.time
        base = self.now_us() if t.kind in ('rel', 'rel_range') else 0
        self.begin_us, self.end_us = t.start + base, t.end + base
        a = event.action
        if isinstance(a, pdlang.Packet) and a.out:
            self.expect_packet(event)
            return
        if isinstance(a, pdlang.Icmp) and a.out:
            raise Skip('ICMP sent by us')
        if t.kind != 'any':
            self.advance(self.begin_us)
        if isinstance(a, pdlang.Packet):
            self.inject(a)
        elif isinstance(a, pdlang.Icmp):
            self.inject_icmp(a)
        elif isinstance(a, pdlang.Syscall):
            self.syscall(event)
        elif isinstance(a, pdlang.Command):
            self.command(a.text)
        elif isinstance(a, pdlang.Code):
            self.code(a.text)

    def advance(self, us):
        if us < self.now_us():
            raise ScriptError('the time of this event (%.6f) lies before the end of the last one (%.6f)' %
                              (us / 1e6, self.now_us() / 1e6))
        self.advance_ns(self.t0 + round(us * 1000))

    def advance_ns(self, ns):
        if not self.host.advance(ns):
            raise Failure('the engine does not come to rest')
        self.collect()

    def collect(self):
        """Takes what left the host; lets a blocked call end."""
        for at, cause, raw in self.host.packets():
            try:
                live = pdnet.Live(at, cause, raw)
            except ValueError as e:
                raise Failure('a broken packet was sent: %s: %s' % (e, raw.hex()))
            self.queue.append(live)
            self.note(self.live_text(live) + '   # ' + cause, (at - self.t0) // 1000)
        drops = self.host.drop_names()
        if drops:
            self.note('  dropped: ' + drops)
        if self.blocked and not self.blocked[1].pending:
            self.end_blocked()

    def finish(self):
        self.event = self.last or self.event
        if self.blocked:
            event = self.blocked[0]
            limit = self.blocked_until + self.tolerance(self.blocked_until - self.blocked_from)
            while self.blocked and self.host.deadline() <= self.t0 + limit * 1000:
                self.advance_ns(self.host.deadline())
            if self.blocked:
                raise Failure('%s() of line %d has not returned by %.6f' %
                              (event.action.name, event.line, self.blocked_until / 1e6))
        self.collect_rest()
        left = [x for x in self.queue if self.belongs(x)] if not self.settings.open_end else []
        if left:
            raise Failure('unexpected segment at the end of the script',
                          ['expected: none'] + ['  actual: ' + self.live_line(x) for x in left])
        wrong = self.host.check()
        if wrong:
            raise Failure('invariant broken: ' + wrong.decode())

    collect_rest = collect

    def command(self, text):
        try:
            self.commands.run(text)
        except UnknownCommand as e:
            raise Skip('command: %s' % ' '.join(str(e).split()))
        except CommandFailed as e:
            raise Failure(str(e))
        self.collect()

    def code(self, text):
        if self.conn is None or self.conn.fd is None:
            raise ScriptError('no socket to ask for TCP_INFO')
        r, raw = self.host.get_option(self.conn.fd, 6, 11, INFO_BYTES)
        if r < 0 or len(raw) != INFO_BYTES:
            raise Failure('getsockopt(TCP_INFO) = %d' % r)
        scope = self.scope # a script's code is one program: its names live on
        scope.update(info_dict(raw))
        first, _, rest = text.strip().partition('\n')
        source = (first.strip() + '\n' + textwrap.dedent(rest)).rstrip().rstrip('\\') # a line that goes on into nothing
        try:
            exec(compile(source, self.path, 'exec'), scope)  # pylint: disable=exec-used
        except AssertionError as e:
            names = sorted(set(re.findall(r'tcpi_\w+', text)))
            raise Failure('assertion failed: %s' % e,
                          ['expected: ' + ' '.join(source.split())] +
                          ['  actual: %s = %s' % (n, scope.get(n)) for n in names])
        except (NameError, SyntaxError) as e:
            raise ScriptError('code: %s' % e)

    # ---- time ----

    def tolerance(self, delta_us):
        return max(self.settings.tolerance_us, int(self.settings.tolerance_percent / 100 * max(delta_us, 0)))

    def check_time(self, what, at_us):
        t = self.event.time
        if t.kind == 'any':
            return
        tol = self.tolerance(self.begin_us - self.since_us)
        if at_us < self.begin_us - tol or at_us > self.end_us + tol:
            want = '%.6f' % (self.begin_us / 1e6)
            if self.end_us != self.begin_us:
                want += '~%.6f' % (self.end_us / 1e6)
            raise Failure('timing: %s expected at %s, was at %.6f (tolerance %d us)' % (what, want, at_us / 1e6, tol))

    # ---- packets: between script and wire ----

    def belongs(self, live):
        c = self.conn
        return bool(c and c.local == (live.src, live.sport) and c.remote == (live.dst, live.dport))

    def adopt(self, live):
        """A SYN of the connection that connect() began: now we know its port and ISN. An older one's, sent again, is not."""
        c = self.conn
        if any(o.local == (live.src, live.sport) and o.remote == (live.dst, live.dport) for o in self.conns):
            return False
        if (c and c.state == 'syn_sent' and live.flags & (pdnet.SYN | pdnet.ACK) == pdnet.SYN and
                c.remote == (live.dst, live.dport)):
            c.local, c.local_isn = (live.src, live.sport), live.seq
            return True
        return False

    def offsets(self, c, is_syn):
        """What to subtract from wire values to get the script's: (our sequence numbers, the peer's)."""
        return (c.local_isn - c.script_local_isn if is_syn else c.local_isn), (0 if is_syn else c.remote_isn)

    def to_script(self, c, live):
        """The live packet as a pdlang.Packet in the script's numbers."""
        ours, theirs = self.offsets(c, live.flags & pdnet.SYN)
        seq = (live.seq - ours) & MASK
        items = []
        for kind, value in live.options_with(self.md5_key):
            if kind == pdlang.KIND_SACK:
                value = [((a - theirs) & MASK, (b - theirs) & MASK) for a, b in value]
            elif kind == pdlang.KIND_TS and c.ts_base:
                value = ((c.ts_base[0] + value[0] - c.ts_base[1]) & MASK, value[1])
            items.append((kind, value))
        n = len(live.payload)
        return pdlang.Packet(True, pdnet.flag_text(live.flags), seq, (seq + n) & MASK, n,
                             (live.ack - theirs) & MASK if live.flags & pdnet.ACK else live.ack, live.win, live.urg,
                             pdlang.Options(items), pdnet.ECN_NAMES[live.tos & 3] if live.tos & 3 else None)

    def live_line(self, live):
        return '%.6f %s   # %s' % ((live.at - self.t0) / 1e9, self.live_text(live), live.cause)

    def live_text(self, live):
        for c in [self.conn] + self.conns:
            if c and c.local == (live.src, live.sport) and c.remote == (live.dst, live.dport):
                return pdnet.packet_text(self.to_script(c, live))
        return pdnet.packet_text(self.to_script(Conn('other'), live)) + ' (ports %d > %d)' % (live.sport, live.dport)

    # ---- packets out ----

    def conn_for_outbound(self, p):
        c = self.conn
        if c is None:
            raise ScriptError('no connection that could send this segment')
        flags = pdnet.flag_bits(p.flags)
        if flags & (pdnet.SYN | pdnet.ACK) == pdnet.SYN and c.state == 'connecting':
            c.state, c.script_local_isn = 'syn_sent', p.seq
        elif c.state == 'passive' and flags & (pdnet.SYN | pdnet.ACK) == (pdnet.SYN | pdnet.ACK):
            c.script_local_isn = p.seq
        return c

    def next_live(self, limit_us):
        """The next segment of the connection under test, waiting until limit_us (None: as long as anything happens)."""
        while True:
            while self.queue:
                live = self.queue.popleft()
                if self.belongs(live) or self.adopt(live):
                    return live
            deadline = self.host.deadline()
            if deadline == pdshim.NEVER or (limit_us is not None and deadline > self.t0 + limit_us * 1000 + 999):
                return None
            self.advance_ns(deadline)

    def expect_packet(self, event):
        p = event.action
        c = self.conn_for_outbound(p)
        self.since_us = self.now_us()
        limit = None
        if event.time.kind != 'any':
            limit = max(self.end_us + self.tolerance(self.begin_us - self.since_us), self.now_us())
        parts = []
        got = 0
        while True:
            live = self.next_live(limit)
            if live is None:
                if limit is not None:
                    self.advance(limit)
                raise Failure('a segment is missing', ['expected: %s' % self.expected_line(p)] +
                              (['  actual: ' + self.live_line(x) for x in parts] or ['  actual: none']))
            if c.state == 'passive' and live.flags & pdnet.SYN:
                c.local_isn = live.seq
                c.state = 'synack_sent'
            if parts:
                self.check_fragment(p, parts[-1], live, got)
            parts.append(live)
            got += len(live.payload)
            if got >= p.length or self.settings.strict_segments:
                break
        self.compare(p, c, self.join(parts))

    def expected_line(self, p):
        at = '*' if self.event.time.kind == 'any' else '%.6f' % (self.begin_us / 1e6)
        return '%s %s' % (at, pdnet.packet_text(p))

    def check_fragment(self, p, before, live, got):
        """Segments of one burst: headers go on from each other, and all but the last are of one size."""
        same = pdnet.FIN | pdnet.PSH | pdnet.CWR
        ok = (live.flags & ~same == before.flags & ~same and live.ack == before.ack and live.urg == before.urg and
              live.seq == (before.seq + len(before.payload)) & MASK and len(live.options) == len(before.options))
        n = len(live.payload)
        if not ok or not before.payload or (n < p.length - got and n != len(before.payload)):
            raise Failure('segments do not add up to the one expected', ['expected: ' + self.expected_line(p)] + [
                '  actual: ' + self.live_line(x) for x in (before, live)])

    @staticmethod
    def join(parts):
        first, last = parts[0], parts[-1]
        if len(parts) > 1:
            first.payload = b''.join(x.payload for x in parts)
            ends = pdnet.PSH | pdnet.FIN
            first.flags = first.flags & ~ends | last.flags & ends
            first.fragments = len(parts)
        return first

    def learn_timestamp(self, p, c, live):
        want = [v for k, v in p.options.items if k == pdlang.KIND_TS]
        have = [v for k, v in live.options if k == pdlang.KIND_TS]
        if want and have:
            c.ts[want[0][0]] = have[0][0]
            if c.ts_base is None:
                c.ts_base = (want[0][0], have[0][0])

    def compare(self, p, c, live):
        self.learn_timestamp(p, c, live)
        actual = self.to_script(c, live)
        lines = ['expected: ' + self.expected_line(p), '  actual: ' + self.live_line(live)]
        for name, want, have in (
                ('flags', pdnet.flag_bits(p.flags), live.flags), ('sequence number', p.seq & MASK, actual.seq),
                ('payload length', p.length, actual.length), ('ack', p.ack & MASK, actual.ack),
                ('window', p.win, actual.win), ('urgent pointer', p.urg, actual.urg),
                ('tos', p.tos, live.tos), ('ttl', p.ttl, live.ttl)):
            if want is not None and want != have:
                raise Failure('%s: expected %s, is %s' % (name, want, have), lines)
        if p.ecn and not (live.tos & 3 in (1, 2) if p.ecn == 'ect01' else live.tos & 3 == pdnet.ECN_BITS[p.ecn]):
            raise Failure('ECN: expected %s, is %s' % (p.ecn, pdnet.ECN_NAMES[live.tos & 3]), lines)
        self.compare_options(p, actual, lines)
        position = 0 if live.flags & pdnet.SYN else actual.seq - 1
        if live.payload != pdnet.pattern(position, actual.length) and self.stream(c.fd).checked:
            raise Failure('payload: other bytes than were written', lines)
        try:
            self.check_time('outbound segment', (live.at - self.t0) // 1000)
        except Failure as e:
            raise Failure(str(e), lines)

    def compare_options(self, p, actual, lines):
        if p.options.any:
            return
        want, have = p.options.items, actual.options.items
        if [k for k, _ in want] != [k for k, _ in have]:
            raise Failure('TCP options differ', lines)
        for (kind, w), (_, h) in zip(want, have):
            if kind == pdlang.KIND_TS:
                tick = self.settings.ts_tick_us
                off = (h[0] - w[0] + 0x80000000) % (1 << 32) - 0x80000000
                if tick and abs(off) * tick > self.tolerance(self.begin_us):
                    raise Failure('timestamp value: expected %d, is %d' % (w[0], h[0]), lines)
                if self.settings.check_ecr and h[1] != w[1]:
                    raise Failure('timestamp echo: expected %d, is %d' % (w[1], h[1]), lines)
            elif kind == pdlang.KIND_SACK:
                if [(a & MASK, b & MASK) for a, b in w] != h:
                    raise Failure('SACK blocks differ', lines)
            elif w != h:
                raise Failure('TCP option: expected %s, is %s' % (
                    pdnet.option_text(kind, w), pdnet.option_text(kind, h)), lines)

    # ---- packets in ----

    def conn_for_inbound(self, p, flags):
        c = self.conn
        if c is None or c.state == 'listening':
            c = self.conn = Conn('passive')
            self.conns.append(c)
            c.local, c.remote = (self.local, BIND_PORT), (self.remote, self.next_port)
            self.next_port += 1
            c.remote_isn = p.seq
        elif flags & pdnet.SYN and c.state == 'syn_sent':
            c.remote_isn = p.seq
        return c

    def inbound_options(self, p, c, flags):
        ours, _ = self.offsets(c, flags & pdnet.SYN)
        items = []
        for kind, value in p.options.items:
            if kind == pdlang.KIND_SACK:
                value = [((a + ours) & MASK, (b + ours) & MASK) for a, b in value]
            elif kind == pdlang.KIND_TS and flags & pdnet.ACK:
                value = (value[0], self.live_echo(c, value[1]))
            items.append((kind, value))
        return items

    def live_echo(self, c, ecr):
        if ecr in c.ts:
            return c.ts[ecr]
        if self.settings.ts_scaled and c.ts_base:
            return (ecr - c.ts_base[0] + c.ts_base[1]) & MASK
        raise ScriptError('TS ecr %d echoes a value that was never sent' % ecr)

    def inject(self, p):
        if p.options.any:
            raise ScriptError('a packet that comes in needs its options')
        flags = pdnet.flag_bits(p.flags)
        c = self.conn_for_inbound(p, flags)
        if c.local is None or c.remote is None:
            raise ScriptError('no connection that could get this segment')
        ours, theirs = self.offsets(c, flags & pdnet.SYN)
        position = 0 if flags & pdnet.SYN else p.seq - 1
        tos = p.tos if p.tos is not None else pdnet.ECN_BITS[p.ecn or 'noecn']
        raw = pdnet.build_tcp(
            c.remote[0], c.local[0], p.src_port or c.remote[1], p.dst_port or c.local[1], p.seq + theirs,
            p.ack + ours if flags & pdnet.ACK else p.ack, flags, p.win or 0, p.urg,
            self.inbound_options(p, c, flags), pdnet.pattern(position, p.length), tos, p.ttl or 255, self.md5_key)
        self.note(pdnet.packet_text(p))
        self.input(raw)

    def input(self, raw):
        r = self.host.input(raw, len(raw), self.segment_bytes(raw))
        if r != 0:
            raise ScriptError('the packet is refused: %s' % errno.errorcode.get(-r, r))
        self.collect()

    def segment_bytes(self, raw):
        """What the device says of this packet: bytes per segment of a coalesced one."""
        del raw
        return self.settings.mss

    def inject_icmp(self, p):
        c = self.conn
        if c is None or c.local is None or c.remote is None:
            raise ScriptError('no connection that could get this ICMP message')
        seq, length = p.seq or (0, 0)
        quoted_tcp = struct.pack('!HHI', c.local[1], c.remote[1], (seq + c.local_isn) & MASK) + bytes(12)
        quoted = pdnet.build_ip(c.local[0], c.remote[0], socket.IPPROTO_TCP, quoted_tcp + bytes(length), 0, 64)
        limit = 548 if self.variant['family'] == 4 else 1232
        raw = pdnet.build_icmp(c.remote[0], c.local[0], p, p.mtu or 0, quoted[:limit])
        self.note('< icmp %s %s' % (p.type, p.code or ''))
        self.input(raw)

    # ---- values of expressions ----

    def value(self, e):
        kind = e[0]
        if kind == 'int':
            return e[1]
        if kind == 'sym':
            n = symbol(e[1])
            if n is None:
                raise Skip('unknown name %s' % e[1])
            return n
        if kind == 'or':
            return self.value(e[1]) | self.value(e[2])
        if kind == 'list' and len(e[1]) == 1:
            return self.value(e[1][0])
        if kind == 'call' and e[1] in ('htons', 'ntohs') and len(e[2]) == 1:
            return self.value(e[2][0])
        raise ScriptError('a number is needed here')

    def fd(self, e):
        n = self.value(e)
        return self.fds.get(n, n if n < 0 else 1000 + n)

    def stream(self, fd):
        return self.streams.setdefault(fd, Stream())

    # ---- system calls ----

    def syscall(self, event):
        a = event.action
        method = getattr(self, 'sys_' + a.name, None)
        if not method:
            raise Skip('system call %s()' % a.name)
        if self.blocked: # packetdrill lets it end before the next one begins
            raise ScriptError('%s() begins while another call blocks' % a.name)
        method(a.args)

    def expect(self, result, call_text):
        """The result of a call against the script's, which may say an errno."""
        a = self.event.action if not self.ending else self.ending.action
        self.note('%s = %s' % (call_text, self.result_text(result)))
        if a.result[0] == 'any':
            return
        want = self.value(a.result)
        have = result if result >= 0 else -1
        name = errno.errorcode.get(-result) if result < 0 else None
        wanted = getattr(errno, a.errno, None) if a.errno else None
        if a.errno and wanted is None:
            raise ScriptError('%s is no errno' % a.errno)
        if want != have or (want == -1 and a.errno and wanted != -result):
            raise Failure('%s() returns otherwise' % a.name, [
                'expected: %s = %d%s' % (a.name, want, ' ' + a.errno if a.errno else ''),
                '  actual: %s = %s' % (a.name, self.result_text(result) if name is None else '-1 ' + name)])

    @staticmethod
    def result_text(r):
        return str(r) if r >= 0 else '-1 %s (%s)' % (errno.errorcode.get(-r, '?'), os.strerror(-r))

    ending = None

    def begin(self, call, keep, finish):
        """A call that may block. keep: memory that it points at. finish(call) checks its result."""
        event = self.event
        self.host.begin(ctypes.byref(call))
        call.keep = keep
        until = event.action.until
        if until is not None:
            base = self.begin_us - event.time.start
            self.blocked = (event, call, finish)
            self.blocked_from, self.blocked_until = self.begin_us, until + base
            self.note('%s() begins' % event.action.name)
            self.collect()
            return
        self.collect()
        while call.pending:
            deadline = self.host.deadline()
            if deadline == pdshim.NEVER or call.expire_at == pdshim.NEVER:
                self.host.forget(ctypes.byref(call))
                raise Failure('%s() blocks' % event.action.name)
            self.advance_ns(min(deadline, call.expire_at))
        finish(call)

    def end_blocked(self):
        event, call, finish = self.blocked
        self.blocked = None
        self.ending = event
        try:
            at = (call.done_at - self.t0) // 1000
            finish(call)
            tol = self.tolerance(self.blocked_until - self.blocked_from)
            if abs(at - self.blocked_until) > tol:
                raise Failure('timing: %s() of line %d expected to return at %.6f, did at %.6f (tolerance %d us)' % (
                    event.action.name, event.line, self.blocked_until / 1e6, at / 1e6, tol))
        finally:
            self.ending = None

    def new_fd(self, result, text, may_rename=False):
        """A call that makes a descriptor: any number will do, the script's name for it is kept."""
        a = self.ending.action if self.ending else self.event.action
        want = self.value(a.result)
        if want < 0 or result < 0:
            self.expect(result, text)
            return
        self.note('%s = %d' % (text, want))
        if want in self.fds and not may_rename: # accept() may take a name that is in use: it is the newer one's then
            raise ScriptError('descriptor %d is open already' % want)
        self.fds[want] = result
        self.streams[result] = Stream()

    def sys_socket(self, args):
        kind = self.value(args[1])
        if kind & 0xf != socket.SOCK_STREAM:
            raise Skip('socket of another type than SOCK_STREAM')
        family = 6 if self.variant['mapped'] or self.variant['family'] == 6 else 4
        if args[0][0] != 'any':
            family = {socket.AF_INET: 4, socket.AF_INET6: 6}[self.value(args[0])]
        r = self.host.socket(family, kind & os.O_NONBLOCK)
        self.new_fd(r, 'socket()')
        if r >= 0:
            self.conn = Conn('new', r)
            self.conns.append(self.conn)

    def mapped(self, raw):
        return b'\0' * 10 + b'\xff\xff' + raw if self.variant['mapped'] and len(raw) == 4 else raw

    def address(self, e, default):
        """A sockaddr argument: "..." is the variant's address."""
        if e[0] == 'any':
            return pdshim.Addr.of(self.mapped(default[0]), default[1])
        if e[0] == 'sym' and e[1] == 'AF_UNSPEC':
            return pdshim.Addr()
        if e[0] == 'struct':
            f = {k: v for k, v in e[1].items()}
            text = [v for k, v in f.items() if k.endswith('addr')]
            port = [v for k, v in f.items() if k.endswith('port')]
            if text and text[0][0] == 'call' and port:
                name = text[0][2][0][1]
                family = socket.AF_INET6 if ':' in name else socket.AF_INET
                raw = socket.inet_pton(family, name)
                return pdshim.Addr.of(self.mapped(raw), self.value(port[0]))
        raise ScriptError('an address is needed here')

    def sys_bind(self, args):
        addr = self.address(args[1], (self.local, BIND_PORT))
        self.expect(self.host.bind(self.fd(args[0]), ctypes.byref(addr)), 'bind(%d)' % self.value(args[0]))
        self.collect()

    def conn_of_fd(self, fd):
        for c in reversed(self.conns):
            if c.fd == fd:
                return c
        return None

    def sys_listen(self, args):
        fd = self.fd(args[0])
        r = self.host.listen(fd, self.value(args[1]))
        self.expect(r, 'listen(%d)' % self.value(args[0]))
        c = self.conn_of_fd(fd)
        if c and r == 0:
            c.state = 'listening'
        self.collect()

    def sys_accept(self, args):
        call = pdshim.Call(op=pdshim.ACCEPT, fd=self.fd(args[0]))
        if len(args) > 3:
            call.flags = self.value(args[3])
        number = self.value(args[0])

        def finish(c):
            self.new_fd(c.result, 'accept(%d)' % number, True)
            if c.result < 0:
                return
            raw = c.addr.raw()
            if len(raw) == 16 and raw[:12] == b'\0' * 10 + b'\xff\xff':
                raw = raw[12:]
            for conn in self.conns:
                if conn.remote == (raw, c.addr.port) and conn.fd is None:
                    conn.fd = c.result
        self.begin(call, None, finish)

    sys_accept4 = sys_accept

    def begins_connection(self, fd, addr):
        """connect() or Fast Open's sendto() on a socket: the next SYN is its."""
        c = self.conn_of_fd(fd)
        if c is None:
            return
        if addr.family == 0:
            c.state = 'new'
        elif c.state == 'new':
            c.state, c.remote = 'connecting', (self.remote, addr.port)
            self.streams[fd] = Stream()

    def sys_connect(self, args):
        fd = self.fd(args[0])
        addr = self.address(args[1], (self.remote, CONNECT_PORT))
        self.begins_connection(fd, addr)
        call = pdshim.Call(op=pdshim.CONNECT, fd=fd, addr=addr)
        number = self.value(args[0])
        self.begin(call, None, lambda c: self.expect(c.result, 'connect(%d)' % number))

    # ---- send ----

    def send(self, fd_expr, count, flags, addr=None, null=False):
        fd = self.fd(fd_expr)
        if flags & ZEROCOPY:
            raise Skip('MSG_ZEROCOPY')
        if flags & FASTOPEN and addr is not None:
            self.begins_connection(fd, addr)
        stream = self.stream(fd)
        data = pdnet.pattern(stream.out, count)
        buf = ctypes.create_string_buffer(data, max(len(data), 1))
        call = pdshim.Call(op=pdshim.SEND, fd=fd, flags=flags, data=None if null else ctypes.addressof(buf),
                           bytes=count)
        if addr is not None:
            call.addr = addr
        text = '%s(%d, ..., %d)' % (self.event.action.name, self.value(fd_expr), count)

        def finish(c):
            if c.result > 0:
                stream.out += c.result
            self.expect(c.result, text)
        self.begin(call, buf, finish)

    @staticmethod
    def is_null(e):
        return e == ('sym', 'NULL')

    def need_buffer(self, e):
        if self.is_null(e):
            raise Skip('an iovec without a buffer')

    def sys_write(self, args):
        self.send(args[0], self.value(args[2]), 0, null=self.is_null(args[1]))

    def sys_send(self, args):
        self.send(args[0], self.value(args[2]), self.value(args[3]), null=self.is_null(args[1]))

    def sys_sendto(self, args):
        self.send(args[0], self.value(args[2]), self.value(args[3]), self.address(args[4], (self.remote, CONNECT_PORT)),
                  self.is_null(args[1]))

    def iov_bytes(self, e):
        total = 0
        for part in e[1]:
            if part[0] != 'tuple' or len(part[1]) != 2:
                raise ScriptError('an iovec {..., length} is needed here')
            self.need_buffer(part[1][0])
            total += self.value(part[1][1])
        return total

    def sys_writev(self, args):
        self.send(args[0], self.iov_bytes(args[1]), 0)

    def sys_sendmsg(self, args):
        f = args[1][1]
        if 'msg_control' in f:
            raise Skip('sendmsg() with control messages')
        addr = self.address(f['msg_name'], (self.remote, CONNECT_PORT)) if 'msg_name' in f else None
        self.send(args[0], self.iov_bytes(f['msg_iov']), self.value(args[2]), addr)

    # ---- receive ----

    def recv(self, fd_expr, count, flags, check=None, null=False):
        fd = self.fd(fd_expr)
        stream = self.stream(fd)
        buf = ctypes.create_string_buffer(max(count, 1))
        call = pdshim.Call(op=pdshim.RECV, fd=fd, flags=flags, data=None if null else ctypes.addressof(buf),
                           bytes=count)
        text = '%s(%d, ..., %d)' % (self.event.action.name, self.value(fd_expr), count)

        def finish(c):
            self.expect(c.result, text)
            if c.result > 0 and stream.checked and not flags & 0x20 and buf.raw[:c.result] != pdnet.pattern(
                    stream.inp, c.result):
                raise Failure('%s: other bytes than were sent' % text)
            if c.result > 0 and not flags & PEEK:
                stream.inp += c.result
            if check:
                check(c)
        self.begin(call, buf, finish)

    def sys_read(self, args):
        self.recv(args[0], self.value(args[2]), 0, null=self.is_null(args[1]))

    def sys_recv(self, args):
        self.recv(args[0], self.value(args[2]), self.value(args[3]), null=self.is_null(args[1]))

    sys_recvfrom = sys_recv

    def sys_readv(self, args):
        self.recv(args[0], self.iov_bytes(args[1]), 0)

    def sys_recvmsg(self, args):
        f = args[1][1]
        flags = self.value(args[2])
        succeeds = self.event.action.errno is None
        if flags & ERRQUEUE and succeeds:
            raise Skip('error queue (MSG_ERRQUEUE)')
        control = f.get('msg_control')

        def check(call):
            if control is None or call.result < 0:
                return
            for e in control[1]:
                level, kind = self.value(e[1]['cmsg_level']), self.value(e[1]['cmsg_type'])
                if (level, kind) != (6, 36):
                    raise Skip('control message %d/%d' % (level, kind))
                want = self.value(e[1]['cmsg_data'])
                if call.inq != want:
                    raise Failure('TCP_CM_INQ', ['expected: %d' % want, '  actual: %d' % call.inq])
        self.recv(args[0], self.iov_bytes(f['msg_iov']), flags, check)

    # ---- the others ----

    def sys_close(self, args):
        n = self.value(args[0])
        fd = self.fd(args[0])
        r = self.host.close(fd)
        self.expect(r, 'close(%d)' % n)
        self.fds.pop(n, None)
        for c in self.conns:
            if c.fd == fd:
                c.fd = None
        self.collect()

    def sys_shutdown(self, args):
        r = self.host.shutdown(self.fd(args[0]), self.value(args[1]))
        self.expect(r, 'shutdown(%d)' % self.value(args[0]))
        self.collect()

    def option_bytes(self, e):
        if e[0] == 'str':
            return e[1].encode('latin-1') + b'\0'
        if e[0] == 'struct' and 'onoff' in e[1]:
            return struct.pack('=ii', self.value(e[1]['onoff']), self.value(e[1]['linger']))
        if e[0] == 'list':
            return b''.join(struct.pack('=I', self.value(x) & MASK) for x in e[1])
        raise Skip('option value of this kind')

    SKIP_OPTIONS = {(1, 60): 'SO_ZEROCOPY', (1, 37): 'SO_TIMESTAMPING', (1, 36): 'SO_MARK'}

    def sys_setsockopt(self, args):
        level, name = self.value(args[1]), self.value(args[2])
        if (level, name) in self.SKIP_OPTIONS:
            raise Skip(self.SKIP_OPTIONS[(level, name)])
        if (level, name) in ((6, 14), (6, 32)) and args[3][0] in ('str', 'list'):
            raw = self.md5sig(args[3], self.value(args[4]), name == 32)
        else:
            raw = self.option_bytes(args[3])[:max(self.value(args[4]), 0)]
        r = self.host.set_option(self.fd(args[0]), level, name, raw)
        self.expect(r, 'setsockopt(%d, %d, %d)' % (self.value(args[0]), level, name))
        self.collect()

    def md5sig(self, text, n, ext):
        """setsockopt(3, SOL_TCP, TCP_MD5SIG, "key", 3): Linux's struct tcp_md5sig for the peer; EXT: for its prefix of 16
        bits. The peer signs with that key from then on; ("", 0) forgets it here, not there."""
        key = text[1].encode()[:n] if text[0] == 'str' else b''
        peer = self.remote
        if self.variant['mapped'] or self.variant['family'] == 6:
            peer = bytes(10) + b'\xff\xff' + peer if len(peer) == 4 else peer
            address = struct.pack('=HHI16sI', socket.AF_INET6, 0, 0, peer, 0)
        else:
            address = struct.pack('=HH4s', socket.AF_INET, 0, peer)
        self.md5_key = key or self.md5_key
        return address.ljust(128, b'\0') + struct.pack('=BBHi80s', int(ext), 16 if ext else 0, n, 0, key)

    def sys_getsockopt(self, args):
        level, name = self.value(args[1]), self.value(args[2])
        n = self.value(args[4])
        r, raw = self.host.get_option(self.fd(args[0]), level, name, n)
        self.expect(r, 'getsockopt(%d, %d, %d)' % (self.value(args[0]), level, name))
        self.collect()
        if r < 0 or args[3][0] == 'any':
            return
        want = self.option_bytes(args[3])
        if args[3][0] == 'str':
            raw = raw.split(b'\0')[0] + b'\0'
        if raw != want:
            raise Failure('getsockopt: another value', ['expected: %s' % self.words(want), '  actual: %s' % self.words(raw)])

    @staticmethod
    def words(raw):
        return ' '.join(str(x) for x in struct.unpack('=%dI' % (len(raw) // 4), raw[:len(raw) // 4 * 4])) or raw.hex()

    def sys_fcntl(self, args):
        arg = self.value(args[2]) if len(args) > 2 else 0
        self.expect(self.host.fcntl(self.fd(args[0]), self.value(args[1]), arg), 'fcntl(%d)' % self.value(args[0]))

    def sys_ioctl(self, args):
        value = ctypes.c_int32(0)
        request = self.value(args[1])
        r = self.host.ioctl(self.fd(args[0]), request, ctypes.byref(value))
        self.expect(r, 'ioctl(%d)' % self.value(args[0]))
        if r == 0 and args[2][0] != 'any' and value.value != self.value(args[2]):
            raise Failure('ioctl: another value', ['expected: %d' % self.value(args[2]), '  actual: %d' % value.value])

    def sys_poll(self, args):
        entries = args[0][1]
        array = (pdshim.PollFd * len(entries))()
        for p, e in zip(array, entries):
            p.fd, p.events = self.fd(e[1]['fd']), self.value(e[1]['events'])
        call = pdshim.Call(op=pdshim.POLL, fd=-1, data=ctypes.addressof(array), bytes=len(entries),
                           timeout_ms=self.value(args[2]))

        def finish(c):
            self.expect(c.result, 'poll() %s' % [hex(p.revents) for p in array])
            for p, e in zip(array, entries):
                want = self.value(e[1]['revents']) if 'revents' in e[1] else 0
                if p.revents != want:
                    raise Failure('poll: revents', ['expected: 0x%x' % want, '  actual: 0x%x' % p.revents])
        self.begin(call, array, finish)

    def sys_epoll_create(self, args):
        del args
        self.new_fd(self.host.epoll_create(), 'epoll_create()')

    sys_epoll_create1 = sys_epoll_create

    def epoll_event(self, e):
        data = [v for k, v in e[1].items() if k != 'events']
        return self.value(e[1]['events']) & MASK, self.value(data[0]) if data else 0

    def sys_epoll_ctl(self, args):
        event = pdshim.EpollEvent()
        if args[3][0] == 'struct':
            event.events, event.data = self.epoll_event(args[3])
        r = self.host.epoll_ctl(self.fd(args[0]), self.value(args[1]), self.fd(args[2]), ctypes.byref(event))
        self.expect(r, 'epoll_ctl(%d)' % self.value(args[0]))
        self.collect()

    def sys_epoll_wait(self, args):
        most = self.value(args[2])
        array = (pdshim.EpollEvent * max(most, 1))()
        call = pdshim.Call(op=pdshim.EPOLL_WAIT, fd=self.fd(args[0]), data=ctypes.addressof(array), bytes=most,
                           timeout_ms=self.value(args[3]))
        wanted = args[1][1] if args[1][0] == 'list' else [args[1]]

        def finish(c):
            got = [(array[i].events, array[i].data) for i in range(max(c.result, 0))]
            self.expect(c.result, 'epoll_wait() %s' % ['0x%x' % x for x, _ in got])
            if wanted[0][0] == 'any':
                return
            for want, have in zip([self.epoll_event(e) for e in wanted], got):
                if want != have:
                    raise Failure('epoll_wait: another event', ['expected: events 0x%x data %d' % want,
                                                                '  actual: events 0x%x data %d' % have])
        self.begin(call, array, finish)
