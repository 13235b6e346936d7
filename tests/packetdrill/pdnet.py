"""Raw IP packets: building what a script injects, reading what the engine sent, and both as packetdrill lines."""

import array
import hashlib
import socket
import struct
import sys

import pdlang
from pdlang import KIND_EOL, KIND_NOP, KIND_MSS, KIND_WSCALE, KIND_SACKOK, KIND_SACK, KIND_TS, KIND_MD5, KIND_FO, KIND_EXP

FLAG_BITS = {'F': 0x01, 'S': 0x02, 'R': 0x04, 'P': 0x08, '.': 0x10, 'U': 0x20, 'E': 0x40, 'W': 0x80, 'A': 0x100}
ECN_BITS = {'noecn': 0, 'ect1': 1, 'ect0': 2, 'ce': 3}
ECN_NAMES = ['noecn', 'ect1', 'ect0', 'ce']
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128

# Bytes of a stream by their position: what is lost, doubled or moved is seen.
_PERIOD = 251
_PATTERN = bytes(range(1, _PERIOD + 1)) * (200000 // _PERIOD)


def pattern(position, length):
    start = position % _PERIOD
    if start + length > len(_PATTERN):
        return (_PATTERN * (length // len(_PATTERN) + 2))[start:start + length]
    return _PATTERN[start:start + length]


def checksum(data):
    if len(data) & 1:
        data += b'\0'
    words = array.array('H', data)
    total = sum(words)
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    total = ~total & 0xffff
    return socket.htons(total) if sys.byteorder == 'little' else total


def flag_bits(text):
    bits = 0
    for c in text:
        bits |= FLAG_BITS[c]
    return bits


def flag_text(bits):
    order = 'FSRPUEWA.'
    return ''.join(c for c in order if bits & FLAG_BITS[c]) or '-'


# ---- options ----

def encode_options(items):
    out = b''
    for kind, value in items:
        if kind in (KIND_NOP, KIND_EOL):
            out += bytes([kind])
            continue
        if kind == KIND_SACK:
            value = b''.join(struct.pack('!II', a & 0xffffffff, b & 0xffffffff) for a, b in value)
        elif kind == KIND_TS:
            value = struct.pack('!II', value[0] & 0xffffffff, value[1] & 0xffffffff)
        out += bytes([kind, 2 + len(value)]) + value
    if len(out) > 40:
        raise pdlang.ScriptError('TCP options of %d bytes' % len(out))
    if len(out) % 4:
        raise pdlang.ScriptError('TCP options of %d bytes: not a multiple of 4' % len(out))
    return out


def decode_options(raw):
    items, i = [], 0
    while i < len(raw):
        kind = raw[i]
        if kind in (KIND_NOP, KIND_EOL):
            items.append((kind, None))
            i += 1
            continue
        n = raw[i + 1] if i + 1 < len(raw) else 0
        if n < 2 or i + n > len(raw):
            raise ValueError('broken TCP options')
        value = raw[i + 2:i + n]
        if kind == KIND_SACK:
            value = [struct.unpack_from('!II', value, k) for k in range(0, len(value), 8)]
        elif kind == KIND_TS:
            value = struct.unpack('!II', value)
        items.append((kind, value))
        i += n
    return items


def option_text(kind, value):
    if kind == KIND_SACK:
        return 'sack ' + ' '.join('%d:%d' % b for b in value)
    if kind == KIND_TS:
        return 'TS val %d ecr %d' % value
    if kind == KIND_MSS:
        return 'mss %d' % int.from_bytes(value, 'big')
    if kind == KIND_WSCALE:
        return 'wscale %d' % value[0]
    if kind == KIND_FO:
        return ('FO ' + value.hex()).strip()
    if kind == KIND_EXP and value[:2] == b'\xf9\x89':
        return ('FOEXP ' + value[2:].hex()).strip()
    if kind == KIND_MD5:
        return ('md5 ' + value.hex()).strip()
    return {KIND_NOP: 'nop', KIND_EOL: 'eol', KIND_SACKOK: 'sackOK'}.get(kind, 'option%d' % kind)


def options_text(options):
    if options.any:
        return ' <...>'
    return ' <%s>' % ','.join(option_text(k, v) for k, v in options.items) if options.items else ''


def packet_text(p):
    """A pdlang.Packet as a packetdrill line without its time."""
    text = '> ' if p.out else '< '
    if p.ecn:
        text += '[%s] ' % p.ecn
    if p.tos is not None:
        text += '[tos 0x%x] ' % p.tos
    if p.ttl is not None:
        text += '[ttl %d] ' % p.ttl
    if p.src_port or p.dst_port:
        text += '%d > %d ' % (p.src_port, p.dst_port)
    text += '%s %d:%d(%d)' % (p.flags or '-', p.seq, p.end, p.length)
    if '.' in p.flags:
        text += ' ack %d' % p.ack
    if p.win is not None:
        text += ' win %d' % p.win
    if p.urg:
        text += ' urg %d' % p.urg
    return text + options_text(p.options)


# ---- live packets ----

class Live:
    """A packet that left, decoded; seq, ack and options are as on the wire."""

    def __init__(self, at, cause, raw):
        self.at, self.cause, self.raw = at, cause, raw
        if raw[0] >> 4 == 4:
            header = (raw[0] & 15) * 4
            total, self.tos, self.ttl = struct.unpack_from('!H', raw, 2)[0], raw[1], raw[8]
            self.src, self.dst, proto = raw[12:16], raw[16:20], raw[9]
            if checksum(raw[:header]) != 0:
                raise ValueError('bad IPv4 header checksum')
            pseudo = self.src + self.dst + struct.pack('!BBH', 0, proto, total - header)
        else:
            header, total = 40, 40 + struct.unpack_from('!H', raw, 4)[0]
            self.tos, self.ttl = (raw[0] & 15) << 4 | raw[1] >> 4, raw[7]
            self.src, self.dst, proto = raw[8:24], raw[24:40], raw[6]
            pseudo = self.src + self.dst + struct.pack('!IHBB', total - header, 0, 0, proto)
        if total != len(raw) or proto != socket.IPPROTO_TCP:
            raise ValueError('bad IP length or protocol')
        tcp = raw[header:]
        if checksum(pseudo + tcp) != 0:
            raise ValueError('bad TCP checksum')
        (self.sport, self.dport, self.seq, self.ack, off, self.win, _, self.urg) = struct.unpack_from('!HHIIHHHH', tcp)
        self.flags = off & 0x1ff
        self.reserved = off >> 9 & 7
        data = (off >> 12) * 4
        self.options = decode_options(tcp[20:data])
        self.tcp, self.data = tcp, data
        self.payload = tcp[data:]
        self.fragments = 1


    def options_with(self, key):
        """Its options; "md5" with nothing where the signature is right."""
        right = md5_digest(self.src, self.dst, self.tcp, self.data, key)
        return [(k, b'' if k == KIND_MD5 and v == right else v) for k, v in self.options]


def build_ip(src, dst, proto, payload, tos, ttl):
    if len(src) == 4:
        header = struct.pack('!BBHHHBBH4s4s', 0x45, tos, 20 + len(payload), 0, 0, ttl, proto, 0, src, dst)
        return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + payload
    return struct.pack('!IHBB16s16s', 6 << 28 | tos << 20, len(payload), proto, ttl, src, dst) + payload


def pseudo_header(src, dst, proto, n):
    if len(src) == 4:
        return src + dst + struct.pack('!BBH', 0, proto, n)
    return src + dst + struct.pack('!IHBB', n, 0, 0, proto)


def md5_digest(src, dst, tcp, options_end, key):
    """RFC 2385 section 2.0: pseudo-header, header without options and with checksum zero, payload, key."""
    return hashlib.md5(pseudo_header(src, dst, socket.IPPROTO_TCP, len(tcp)) + tcp[:16] + bytes(2) + tcp[18:20] +
                       tcp[options_end:] + key).digest()


def sign(options, src, dst, tcp, options_end, key):
    """An "md5" without a digest is the right one."""
    digest = md5_digest(src, dst, tcp, options_end, key)
    return [(k, digest if k == KIND_MD5 and not any(v) else v) for k, v in options]


def build_tcp(src, dst, sport, dport, seq, ack, flags, win, urg, options, payload, tos=0, ttl=255, md5_key=b''):
    options = [(k, v or bytes(16)) if k == KIND_MD5 else (k, v) for k, v in options]
    opt = encode_options(options)
    if any(k == KIND_MD5 for k, _ in options):
        bare = struct.pack('!HHIIHHHH', sport, dport, seq & 0xffffffff, ack & 0xffffffff,
                           (20 + len(opt)) // 4 << 12 | flags, win, 0, urg)
        opt = encode_options(sign(options, src, dst, bare + opt + payload, 20 + len(opt), md5_key))
    off = (20 + len(opt)) // 4 << 12 | flags
    head = struct.pack('!HHIIHHHH', sport, dport, seq & 0xffffffff, ack & 0xffffffff, off, win, 0, urg) + opt
    sum_ = checksum(pseudo_header(src, dst, socket.IPPROTO_TCP, len(head) + len(payload)) + head + payload)
    return build_ip(src, dst, socket.IPPROTO_TCP, head[:16] + struct.pack('!H', sum_) + head[18:] + payload, tos, ttl)


ICMP4 = {
    ('unreachable', None): (3, 0), ('unreachable', 'net_unreachable'): (3, 0), ('unreachable', 'host_unreachable'): (3, 1),
    ('unreachable', 'protocol_unreachable'): (3, 2), ('unreachable', 'port_unreachable'): (3, 3),
    ('unreachable', 'frag_needed'): (3, 4), ('unreachable', 'source_route_failed'): (3, 5),
    ('unreachable', 'net_unknown'): (3, 6), ('unreachable', 'host_unknown'): (3, 7),
    ('unreachable', 'net_prohibited'): (3, 9), ('unreachable', 'host_prohibited'): (3, 10),
    ('unreachable', 'packet_filtered'): (3, 13), ('time_exceeded', 'exc_ttl'): (11, 0),
    ('source_quench', None): (4, 0), ('parameter_problem', None): (12, 0),
}
ICMP6 = {
    ('unreachable', None): (1, 0), ('unreachable', 'no_route'): (1, 0), ('unreachable', 'admin_prohibited'): (1, 1),
    ('unreachable', 'not_neighbour'): (1, 2), ('unreachable', 'address_unreachable'): (1, 3),
    ('unreachable', 'port_unreachable'): (1, 4), ('packet_too_big', None): (2, 0),
    ('time_exceeded', 'exc_hop'): (3, 0), ('parameter_problem', None): (4, 0),
}


def build_icmp(src, dst, icmp, mtu, quoted):
    """An error from src to dst that quotes a packet which dst sent."""
    v4 = len(src) == 4
    table = ICMP4 if v4 else ICMP6
    if (icmp.type, icmp.code) not in table:
        raise pdlang.ScriptError('ICMP %s %s is not known for IPv%d' % (icmp.type, icmp.code or '', 4 if v4 else 6))
    type_, code = table[(icmp.type, icmp.code)]
    proto = socket.IPPROTO_ICMP if v4 else socket.IPPROTO_ICMPV6
    body = struct.pack('!BBHI', type_, code, 0, mtu) + quoted
    sum_ = checksum(body if v4 else pseudo_header(src, dst, proto, len(body)) + body)
    return build_ip(src, dst, proto, body[:2] + struct.pack('!H', sum_) + body[4:], 0, 255)
