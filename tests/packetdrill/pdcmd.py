"""Commands in backticks. No shell runs: the few that scripts use are understood here and done to the host."""

import os
import re
import shlex


class UnknownCommand(Exception):
    """Nobody here knows what it would do."""


class CommandFailed(Exception):
    """It is known and said no."""


# What neither changes what is on the wire here nor can be missing: named so that nothing is passed over by accident.
IGNORED_SYSCTLS = {
    'tcp_frto', 'tcp_fack', 'tcp_ecn_option', 'tcp_pacing_ss_ratio', 'tcp_pacing_ca_ratio', 'tcp_no_metrics_save',
    'tcp_limit_output_bytes', 'tcp_autocorking', 'tcp_mem', 'tcp_early_retrans', 'tcp_recovery', 'tcp_ecn',
    'tcp_congestion_control', 'tcp_notsent_lowat', 'tcp_fastopen', 'tcp_fastopen_key', 'tcp_syncookies',
    'tcp_fastopen_blackhole_timeout_sec',
}


def _arithmetic(text):
    """$((15*1024*1024)): numbers and * + - only."""
    def compute(m):
        if not re.fullmatch(r'[\d\s*+()-]+', m.group(1)):
            raise UnknownCommand('$((%s))' % m.group(1))
        return str(eval(m.group(1), {'__builtins__': {}}))  # pylint: disable=eval-used
    return re.sub(r'\$\(\(([^$]*?)\)\)', compute, text)


class Commands:
    def __init__(self, host, directory, pid=0):
        self.host, self.directory, self.pid = host, directory, pid
        self.runner = None
        self.saved, self.values = {}, {}
        self.missing = []  # settings that the engine has not, in the order of the script
        self.counters = {}
        self.gso, self.refuse = 65535, False
        self.route = {'mtu': 1500, 'advmss': 0, 'initcwnd': 0, 'initrwnd': 0}

    def run(self, text):
        text = re.sub(r'\\\s*\n', ' ', text)
        text = re.sub(r'(?m)(^|\s)#.*$', '', text)
        text = _arithmetic(text.replace('${PPID}', str(self.pid)))
        for line in re.split(r'\n|;', text):
            self.alternatives(line)

    def alternatives(self, line):
        """a || b, a && b, a | grep: left to right."""
        error = None
        for k, part in enumerate(re.split(r'(\|\||&&)', line)):
            if part in ('||', '&&'):
                skip = (part == '||') == (error is None)
                if skip:
                    return
                continue
            error = None
            try:
                self.pipeline(part)
            except CommandFailed as e:
                error = e
            del k
        if error:
            raise error

    def pipeline(self, text):
        if re.match(r'\s*echo 3 > /sys/module/tcp_cubic/parameters/hystart_detect\s*$', text):
            return  # both of CUBIC's HyStart heuristics: as it is
        text = re.sub(r'\d?&?>\s*\S+', '', text.replace('2>&1', ''))
        parts = [shlex.split(p) for p in text.split('|')]
        words = parts[0]
        if not words:
            return
        name = os.path.basename(words[0])
        if name == ':':
            self.do_colon(words, parts[1:])
            return
        method = getattr(self, 'do_' + re.sub(r'\W', '_', name), None)
        if name.startswith('sysctl_restore_'):
            method = self.do_restore
        elif name.endswith('.sh'):
            method = self.do_shell_file
        if not method or (len(parts) > 1 and name not in ('nstat', 'grep')):
            raise UnknownCommand(text.strip())
        method(words, parts[1:])

    # ---- the commands ----

    def do_colon(self, words, _):
        """What a shell passes over: words of scripts that were made of records (pdheld.py)."""
        method = getattr(self.runner, 'held_' + words[1], None) if len(words) > 1 else None
        if not method:
            raise UnknownCommand(' '.join(words))
        method(*map(int, words[2:]))

    def do_shell_file(self, words, _):
        path = os.path.join(self.directory, words[0])
        if not os.path.exists(path):
            raise UnknownCommand(words[0])
        with open(path, encoding='utf-8') as f:
            self.run(f.read())

    def do_sysctl(self, words, _):
        for w in words[1:]:
            if not w.startswith('-'):
                name, _, value = w.partition('=')
                self.set(name.strip(), value.strip())

    def do_set_sysctls_py(self, words, _):
        for w in words[1:]:
            name, _, value = w.partition('=')
            self.saved.setdefault(name, self.values.get(self.short(name)))
            self.set(name, value)

    def do_restore(self, *_):
        for name, value in self.saved.items():
            if value is not None:
                self.set(name, value)
        self.saved.clear()

    @staticmethod
    def short(name):
        return name.replace('/', '.').split('.')[-1]

    def set(self, name, value):
        short = self.short(name)
        self.values[short] = value
        parts = value.split()
        if len(parts) == 3 and short in ('tcp_rmem', 'tcp_wmem'):
            for suffix, v in zip(('_min', '_default', '_max'), parts):
                self.set_one(short + suffix, v)
        else:
            self.set_one(short, value)

    def set_fastopen_key(self, value):
        """Words of 32 bits, as the kernel prints them: each lies in memory with its lowest byte first."""
        keys = b''.join(int(word, 16).to_bytes(4, 'little') for key in value.split(',') for word in key.split('-'))
        if self.host.fastopen_key(keys, len(keys)) < 0:
            raise UnknownCommand('sysctl tcp_fastopen_key=%s' % value)

    def set_one(self, name, value):
        if name == 'tcp_fastopen_cookies':  # no Linux of today has it; scripts flush the metrics then
            raise CommandFailed('sysctl %s' % name)
        if name == 'tcp_fastopen_key':
            self.set_fastopen_key(value)
            return
        try:
            r = self.host.sysctl(name.encode(), int(value, 0))
        except ValueError:
            r = self.host.sysctl_text(name.encode(), value.encode())
        if r == 0:
            return
        if name not in self.missing:
            self.missing.append(name)
        if name not in IGNORED_SYSCTLS:
            raise UnknownCommand('sysctl %s=%s' % (name, value))

    def do_ip(self, words, _):
        words = [w for w in words[1:] if not w.startswith('-')]
        if words[:1] == ['tcp_metrics']:
            self.metrics_flush()
        elif words[:2] in (['route', 'change'], ['route', 'replace']):
            words = [w for w in words if w != 'lock']
            for key in self.route:
                if key in words:
                    self.route[key] = int(words[words.index(key) + 1])
            self.apply_route()
        elif words[:2] == ['link', 'set'] and words[-2] == 'gso_max_size':
            self.gso = int(words[-1])
            self.host.device(self.gso, self.refuse)
        else:
            raise UnknownCommand('ip ' + ' '.join(words))

    def metrics_flush(self):
        self.host.metrics_flush()

    def apply_route(self):
        r = self.route
        self.host.route(r['mtu'], r['advmss'], r['initcwnd'], r['initrwnd'])

    def do_tc(self, words, _):
        if words[1] != 'qdisc':
            raise UnknownCommand(' '.join(words))
        text = ' '.join(words)
        self.set_one('tcp_pacing', '1' if ' fq' in text else '0') # what fq does is the engine's own here
        self.refuse = 'limit 0' in text
        self.host.device(self.gso, self.refuse)

    def do_ethtool(self, words, _):
        """Offloads of a device change who cuts a super-frame, not what is on the wire: it is cut here in any case."""
        if words[1] != '-K':
            raise UnknownCommand(' '.join(words))

    def do_nstat(self, _, pipes):
        """Reads the counters, remembers them; `nstat | grep NAME` fails if NAME has not moved."""
        for words in pipes:
            if words[0] != 'grep':
                raise UnknownCommand('nstat | ' + ' '.join(words))
            name = re.sub(r'^TcpExt|^Tcp', '', words[1])
            drop = name
            value = self.host.counter(drop.encode())
            if value < 0:
                raise UnknownCommand('nstat counter ' + name)
            if value == self.counters.get(drop, 0):
                raise CommandFailed('nstat: %s has not moved' % name)

    def do_grep(self, words, pipes):
        """`grep " 0A " /proc/net/tcp ... | grep ":PORT"`: is there a listener on that port?"""
        port = re.fullmatch(r':([0-9A-F]{4})', pipes[0][1]) if len(pipes) == 1 and len(pipes[0]) == 2 else None
        if words[1] != ' 0A ' or not port or not all(w.startswith('/proc/net/tcp') for w in words[2:]):
            raise UnknownCommand(' '.join(words))
        if not self.host.listens(int(port.group(1), 16)):
            raise CommandFailed('no listener on port %d' % int(port.group(1), 16))

    def do_echo(self, words, _):
        raise UnknownCommand(' '.join(words))
