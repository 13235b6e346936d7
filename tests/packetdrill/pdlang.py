"""The script language: text to events. What a script means is pdrun.py's.

A script is a list of events {line, time, action}; actions are Packet, Icmp, Syscall, Command and Code. Expressions are
kept as small tuples: ('int', n), ('sym', name), ('str', s), ('any',) for "...", ('list', [..]), ('struct', {..}),
('tuple', [..]), ('or', a, b), ('call', name, [..]).
"""

import re
from dataclasses import dataclass, field


class ScriptError(Exception):
    """The script is wrong, or says something that this language has not."""


@dataclass
class Time:
    kind: str  # 'abs', 'rel', 'abs_range', 'rel_range', 'any'
    start: int = 0  # us
    end: int = 0


@dataclass
class Options:
    """TCP options: a list of (kind, bytes); timestamps and SACK blocks are kept as numbers."""
    items: list
    any: bool = False


@dataclass
class Packet:
    out: bool
    flags: str
    seq: int
    end: int
    length: int
    ack: int = None
    win: int = None
    urg: int = 0
    options: Options = None
    ecn: str = None  # 'noecn', 'ect0', 'ect1', 'ce', 'ect01'
    tos: int = None
    ttl: int = None
    src_port: int = 0
    dst_port: int = 0


@dataclass
class Icmp:
    out: bool
    type: str
    code: str = None
    mtu: int = None
    seq: tuple = None  # (seq, length)


@dataclass
class Syscall:
    name: str
    args: list
    result: tuple
    errno: str = None
    until: int = None  # us: it blocks and ends then


@dataclass
class Command:
    text: str


@dataclass
class Code:
    text: str


@dataclass
class Event:
    line: int
    time: Time
    action: object


@dataclass
class Held:
    """The comment "// drill: held from 1234.000000000" (", open end"): a record's turns are done again as they were."""
    clock: int  # ns: the time of the engine's clock at 0
    open_end: bool


@dataclass
class Script:
    held: Held = None
    options: list = field(default_factory=list)
    init: list = field(default_factory=list)
    events: list = field(default_factory=list)
    cleanup: list = field(default_factory=list)


_HELD = re.compile(r'^// drill: held from (\d+)\.(\d{9})(, open end)?$', re.M)
_BLANK = re.compile(r'(?:\s+|//[^\n]*|/\*.*?\*/|\#[^\n]*)+', re.S)
_NUMBER = re.compile(r'\d*\.\d+|\d+')
_WORD = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')
_INT = re.compile(r'-?(?:0[xX][0-9a-fA-F]+|\d+)')
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SEQ = re.compile(r'(\d+):(\d+)\((\d+)\)')
_FLAGS = re.compile(r'[FSRPUEWA.]+|-')
_OPTION = re.compile(r'--([A-Za-z0-9_]+)(?:=("[^"]*"|\S+))?')
_IP_INFO = re.compile(r'[\[(]\s*(noecn|ect01|ect0|ect1|ce|tos\s+0x[0-9a-fA-F]+|ttl\s+\d+)\s*[\])]')
_PORTS = re.compile(r'(\d+)\s*>\s*(\d+)')
_HEX = re.compile(r'(?:[0-9a-fA-F]{2})+\Z')

KIND_EOL, KIND_NOP, KIND_MSS, KIND_WSCALE, KIND_SACKOK, KIND_SACK, KIND_TS, KIND_MD5, KIND_FO, KIND_EXP = \
    0, 1, 2, 3, 4, 5, 8, 19, 34, 254


class Parser:
    def __init__(self, text, defines):
        self.text, self.pos, self.defines = text, 0, defines
        m = _HELD.search(text)
        self.held = Held(int(m.group(1) + m.group(2)), bool(m.group(3))) if m else None

    # ---- scanning ----

    def line(self):
        return self.text.count('\n', 0, self.pos) + 1

    def fail(self, what):
        rest = self.text[self.pos:self.pos + 40].split('\n')[0]
        raise ScriptError('line %d: expected %s at "%s"' % (self.line(), what, rest))

    def blank(self):
        m = _BLANK.match(self.text, self.pos)
        if m:
            self.pos = m.end()

    def at(self, literal):
        self.blank()
        return self.text.startswith(literal, self.pos)

    def eat(self, literal):
        if not self.at(literal):
            return False
        self.pos += len(literal)
        return True

    def need(self, literal):
        if not self.eat(literal):
            self.fail('"%s"' % literal)

    def match(self, regex):
        self.blank()
        m = regex.match(self.text, self.pos)
        if m:
            self.pos = m.end()
        return m

    def need_match(self, regex, what):
        m = self.match(regex)
        if not m:
            self.fail(what)
        return m

    def keyword(self, word):
        """The word, not merely as a prefix of another one."""
        self.blank()
        m = _WORD.match(self.text, self.pos)
        if m and m.group() == word:
            self.pos = m.end()
            return True
        return False

    def done(self):
        self.blank()
        return self.pos >= len(self.text)

    # ---- the whole ----

    def script(self):
        s = Script(self.held)
        while self.at('--'):
            m = self.need_match(_OPTION, 'an option')
            value = m.group(2)
            s.options.append((m.group(1), value.strip('"') if value is not None else None))
        if self.at('`'):
            s.init.append(self.backquoted())
        while not self.done():
            if self.at('`'):
                s.cleanup.append(self.backquoted())
                if not self.done():
                    self.fail('the end of the script')
                break
            self.blank()
            line = self.line()
            s.events.append(Event(line, self.time(), self.action()))
        return s

    def backquoted(self):
        self.need('`')
        end = self.text.find('`', self.pos)
        if end < 0:
            self.fail('a closing "`"')
        text = self.text[self.pos:end]
        self.pos = end + 1
        return text

    # ---- time ----

    def seconds(self):
        m = self.need_match(_NUMBER, 'a time')
        ns = round(float(m.group()) * 1e9)
        return ns / 1000 if self.held and ns % 1000 else int(round(float(m.group()) * 1e6))

    def time(self):
        if self.eat('*'):
            return Time('any')
        relative = self.eat('+')
        start = self.seconds()
        if not self.eat('~'):
            return Time('rel' if relative else 'abs', start, start)
        if relative:
            self.need('+')
        end = self.seconds()
        if end < start:
            self.fail('a range that ends behind its start')
        return Time('rel_range' if relative else 'abs_range', start, end)

    def action(self):
        if self.at('%{'):
            end = self.text.find('}%', self.pos)
            if end < 0:
                self.fail('a closing "}%"')
            text = self.text[self.pos + 2:end]
            self.pos = end + 2
            return Code(text)
        if self.at('`'):
            return Command(self.backquoted())
        if self.eat('<'):
            return self.packet(False)
        if self.eat('>'):
            return self.packet(True)
        until = None
        if self.eat('...'):
            until = self.seconds()
        return self.syscall(until)

    # ---- packets ----

    def packet(self, out):
        info = {}
        m = self.match(_IP_INFO)
        if m:
            word = m.group(1).split()
            if word[0] in ('tos', 'ttl'):
                info[word[0]] = int(word[1], 0)
            else:
                info['ecn'] = word[0]
        if self.keyword('icmp'):
            return self.icmp(out)
        if self.keyword('udp'):
            self.fail('a TCP packet (UDP is not spoken here)')
        m = self.match(_PORTS)
        if m:
            info['src_port'], info['dst_port'] = int(m.group(1)), int(m.group(2))
        flags = self.need_match(_FLAGS, 'flags').group()
        m = self.need_match(_SEQ, 'start:end(length)')
        p = Packet(out, '' if flags == '-' else flags, *map(int, m.groups()), **info)
        if (p.seq + p.length) & 0xffffffff != p.end & 0xffffffff:
            self.fail('an end that is start + length')
        p.ack = self.number_after('ack')
        p.win = self.number_after('win')
        p.urg = self.number_after('urg') or 0
        p.options = self.tcp_options() if self.at('<') else Options([])
        p.ack = p.ack or 0
        return p

    def number_after(self, word):
        return int(self.need_match(_INT, 'a number').group(), 0) & 0xffffffff if self.keyword(word) else None

    def tcp_options(self):
        self.need('<')
        end = self.text.find('>', self.pos)
        if end < 0:
            self.fail('a closing ">"')
        body = self.text[self.pos:end].strip()
        if body == '...':
            self.pos = end + 1
            return Options([], True)
        items = [self.tcp_option(text.split()) for text in body.split(',')] if body else []
        self.pos = end + 1
        return Options(items)

    def cookie(self, words):
        text = ''.join(self.defines.get(w, w) for w in words)
        if text.startswith('0x'):
            text = text[2:]
        if text and not _HEX.match(text):
            self.fail('a cookie in hexadecimal')
        return bytes.fromhex(text)

    def tcp_option(self, w):
        if not w:
            self.fail('a TCP option')
        name = w[0]
        if name == 'nop' and len(w) == 1:
            return (KIND_NOP, None)
        if name == 'eol' and len(w) == 1:
            return (KIND_EOL, None)
        if name == 'mss' and len(w) == 2:
            return (KIND_MSS, int(w[1]).to_bytes(2, 'big'))
        if name == 'wscale' and len(w) == 2:
            return (KIND_WSCALE, bytes([int(w[1])]))
        if name == 'sackOK' and len(w) == 1:
            return (KIND_SACKOK, b'')
        if name == 'sack' and len(w) > 1:
            blocks = [tuple(int(x) for x in b.split(':')) for b in w[1:]]
            return (KIND_SACK, blocks)
        if name == 'TS' and len(w) == 5 and w[1] == 'val' and w[3] == 'ecr':
            return (KIND_TS, (int(w[2]), int(w[4])))
        if name == 'md5':
            return (KIND_MD5, self.cookie(w[1:]))
        if name == 'FO':
            return (KIND_FO, self.cookie(w[1:]))
        if name == 'FOEXP':
            return (KIND_EXP, b'\xf9\x89' + self.cookie(w[1:]))
        self.fail('a TCP option, not "%s"' % ' '.join(w))
        return None

    def icmp(self, out):
        p = Icmp(out, self.need_match(_WORD, 'an ICMP type').group())
        m = self.match(_WORD) if not (self.at('mtu ') or self.at('[')) else None
        if m:
            p.code = self.defines.get(m.group(), m.group())
        p.mtu = self.number_after('mtu')
        if self.eat('['):
            m = self.need_match(_SEQ, 'the echoed sequence numbers')
            p.seq = (int(m.group(1)), int(m.group(3)))
            self.need(']')
        return p

    # ---- system calls ----

    def syscall(self, until):
        name = self.need_match(_WORD, 'a system call').group()
        self.need('(')
        args = self.expressions(')')
        self.need('=')
        result = self.expression()
        c = Syscall(name, args, result, None, until)
        m = re.compile(r'E[A-Z0-9]+\b').match(self.text, self.skip_blank())
        if m:
            c.errno = m.group()
            self.pos = m.end()
        if self.at('('):
            end = self.text.find(')', self.pos)
            if end < 0:
                self.fail('a closing ")"')
            self.pos = end + 1
        return c

    def skip_blank(self):
        self.blank()
        return self.pos

    def expressions(self, closing):
        items = []
        if self.eat(closing):
            return items
        while True:
            items.append(self.expression())
            if self.eat(closing):
                return items
            self.need(',')

    def expression(self):
        left = self.term()
        while self.eat('|'):
            left = ('or', left, self.term())
        return left

    def term(self):
        if self.eat('...'):
            return ('any',)
        if self.eat('['):
            return ('list', self.expressions(']'))
        if self.eat('{'):
            return self.struct()
        m = self.match(_STRING)
        if m:
            return ('str', re.sub(r'\\x([0-9a-fA-F]{2})', lambda x: chr(int(x.group(1), 16)), m.group(1)))
        m = self.match(_INT)
        if m:
            return ('int', int(m.group(), 0))
        m = self.need_match(_WORD, 'an expression')
        name = m.group()
        if self.eat('('):
            return ('call', name, self.expressions(')'))
        return ('sym', self.defines.get(name, name))

    def struct(self):
        fields, plain = {}, []
        while not self.eat('}'):
            mark = self.skip_blank()
            m = self.match(_WORD)
            if m and self.at('('):  # msg_iov(2)=
                self.need('(')
                self.expressions(')')
            if m and self.at('=') and not self.at('=='):
                self.need('=')
                fields[m.group()] = self.expression()
            else:
                self.pos = mark
                plain.append(self.expression())
            if not self.at('}'):
                self.need(',')
        if fields and plain:
            self.fail('either names or values')
        return ('struct', fields) if fields else ('tuple', plain)


def parse(text, defines):
    return Parser(text, defines).script()
