"""The configuration file: each mistake is one line FILE:LINE: section.key: what, exit status 2, and nothing was started."""
import os
import re

from harness import ROOT, TAUTD, check, equal, sh, tcp, wait_for

# (lines of the file, number of the line that is wrong, section.key, words that the message must have)
BAD = [
    (['[interface]', 'nmae = taut0'], 2, 'interface.nmae', 'unknown key'),
    (['[interfaces]', 'name = taut0'], 2, 'interfaces', 'unknown section'),
    (['name = taut0'], 1, '(no section)', 'unknown section'),
    (['[interface]', 'name = a-name-that-is-too-long'], 2, 'interface.name', '1 to 15 characters'),
    (['[interface]', 'name = a/b'], 2, 'interface.name', "without '/'"),
    (['[interface]', 'name ='], 2, 'interface.name', 'expected an interface name'),
    (['[interface]', 'mtu = 70000'], 2, 'interface.mtu', 'from 0 to'),
    (['[interface]', 'mtu = 1500 bytes'], 2, 'interface.mtu', 'whole number'),
    (['[interface]', 'mac = 01:00:00:00:00:01'], 2, 'interface.mac', 'unicast'),
    (['[interface]', 'mac = 02:00:00:00:00'], 2, 'interface.mac', 'MAC'),
    (['[interface]', 'offload = perhaps'], 2, 'interface.offload', 'yes or no'),
    (['[interface]', 'fd = x'], 2, 'interface.fd', 'whole number'),
    (['[interface]', 'txqueuelen = -1'], 2, 'interface.txqueuelen', 'from 0 to'),
    (['[interface]', 'host_address = 10.77.0.1'], 2, 'interface.host_address', 'ADDRESS/BITS'),
    (['[network]', 'address = 10.77.0.2/33'], 2, 'network.address', 'ADDRESS/BITS'),
    (['[network]', 'address = 10.77.0.300/24'], 2, 'network.address', 'ADDRESS/BITS'),
    (['[network]', 'address = fd77::2/129'], 2, 'network.address', 'ADDRESS/BITS'),
    (['[network]', 'route = default'], 2, 'network.route', 'via GATEWAY'),
    (['[network]', 'route = 10.0.0.0/8 via fd77::1'], 2, 'network.route', 'PREFIX/BITS'),
    (['[network]', 'route = 10.0.0.0/8 metric 3'], 2, 'network.route', 'PREFIX/BITS'),
    (['[network]', 'route = 10.0.0.0/8 mtu 20'], 2, 'network.route', 'PREFIX/BITS'),
    (['[limits]', 'buffers = 1k'], 2, 'limits.buffers', 'at least 4M'),
    (['[limits]', 'buffers = lots'], 2, 'limits.buffers', 'size'),
    (['[limits]', 'max_connections = 3'], 2, 'limits.max_connections', 'from 16'),
    (['[limits]', 'drain = 5 weeks'], 2, 'limits.drain', '500ms'),
    (['[limits]', 'drain = -1s'], 2, 'limits.drain', '500ms'),
    (['[log]', 'level = loud'], 2, 'log.level', 'debug'),
    (['[services]', 'echo = 70000'], 2, 'services.echo', 'a port from 1 to 65535'),
    (['[services]', 'echo = 0'], 2, 'services.echo', 'off'),
    (['[tcp]', 'tcp_sack = 2'], 2, 'tcp.tcp_sack', '0 to 1'),
    (['[tcp]', 'tcp_sacks = 1'], 2, 'tcp.tcp_sacks', 'unknown key'),
    (['[tcp]', 'tcp_rto_min = soon'], 2, 'tcp.tcp_rto_min', 'whole number'),
    (['[tcp]', 'tcp_delack_min = 500', 'tcp_delack_max = 100'], 3, 'tcp.tcp_delack_min', 'tcp_delack_max'),
    (['[tcp]', 'ip_local_port_low = 5000', 'ip_local_port_high = 4000'], 3, 'tcp.ip_local_port_low', 'above'),
    (['[stack]', 'ip_ttl = 0'], 2, 'stack.ip_ttl', '1 to 255'),
    (['[forward web]', 'listen = 80'], 1, 'forward web.to', 'missing'),
    (['[forward web]', 'to = tcp:127.0.0.1:80'], 1, 'forward web.listen', 'missing'),
    (['[forward web]', 'listen = 0', 'to = tcp:127.0.0.1:80'], 2, 'forward web.listen', 'PORT'),
    (['[forward web]', 'listen = nowhere:80', 'to = tcp:127.0.0.1:80'], 2, 'forward web.listen', 'PORT'),
    (['[forward web]', 'listen = 80', 'to = 127.0.0.1:80'], 3, 'forward web.to', 'tcp:ADDRESS:PORT'),
    (['[forward web]', 'listen = 80', 'to = tcp:127.0.0.1'], 3, 'forward web.to', 'tcp:ADDRESS:PORT'),
    (['[forward web]', 'listen = 80', 'to = unix:relative/path'], 3, 'forward web.to', 'unix:/PATH'),
    (['[forward web]', 'listen = 80', 'to = unix:/' + 'x' * 150], 3, 'forward web.to', 'shorter'),
    (['[forward web]', 'listen = 80', 'to = tcp:127.0.0.1:80', 'proxy_protocol = v1'], 4, 'forward web.proxy_protocol', 'v2'),
    (['[forward web]', 'listen = 80', 'to = tcp:127.0.0.1:80', 'connect_timeout = 0'], 4, 'forward web.connect_timeout',
     'time'),
    (['[forward web]', 'listen = 80', 'to = tcp:127.0.0.1:80', 'colour = blue'], 4, 'forward web.colour', 'unknown key'),
    (['[forward a]', 'listen = 80', 'to = tcp:127.0.0.1:80', '[forward b]', 'listen = 80', 'to = tcp:127.0.0.1:81'], 5,
     'forward b.listen', "forward a's already"),
    (['[forward ]', 'listen = 80'], 2, 'forward', 'name'),
    (['[interface', 'name = taut0'], 1, 'syntax', ''),
    (['[interface]', 'this is no setting'], 2, 'syntax', ''),
    (['[interface]', '', '# a comment', 'mtu = no'], 4, 'interface.mtu', 'whole number'),
]


def test_bad_files(net):
    wrong = []
    path = os.path.join(net.tmp, 'bad.conf')
    for lines, number, key, words in BAD:
        with open(path, 'w', encoding='utf-8') as f:
            f.write('\n'.join(lines) + '\n')
        status, out, err = sh(TAUTD, '-c', path, check_status=False, timeout=10)
        text = err.strip()
        head = f'{path}:{number}: {key}'
        if status != 2:
            wrong.append(f'{lines}: exit status {status}, expected 2 ({text})')
        elif not text.startswith(head) or words not in text or len(text.splitlines()) != 1:
            wrong.append(f'{lines}: said "{text}", expected "{head}: ...{words}..."')
        elif re.search(r'taut\d', sh('ip', '-br', 'link')):
            wrong.append(f'{lines}: an interface was made')
    check(not wrong, '\n'.join(wrong))
    net.say(f'{len(BAD)} files')


def test_missing_file(net):
    status, _, err = sh(TAUTD, '-c', '/nonexistent.conf', check_status=False)
    equal(status, 2, 'exit status')
    check(err.startswith('/nonexistent.conf: No such file'), err)


def test_usage(net):
    status, _, err = sh(TAUTD, '--no-such-option', check_status=False)
    equal(status, 2, 'exit status for a bad option')
    check("Try 'tautd --help'" in err, err)
    status, _, err = sh(TAUTD, 'extra', check_status=False)
    equal(status, 2, 'exit status for an argument too many')
    check('--config' in sh(TAUTD, '--help'), 'help')
    check(re.match(r'tautd \d+\.\d+', sh(TAUTD, '--version')), 'version')


def test_check_config(net):
    """--check-config starts nothing, whether the file is good or bad; the example file is good."""
    example = os.path.join(net.tmp, 'example.conf')
    with open(example, 'w', encoding='utf-8') as f:
        f.write(sh(TAUTD, '--dump-config'))
    check('ok' in sh(TAUTD, '--check-config', '-c', example), 'the dump is a good file')
    uncommented = os.path.join(net.tmp, 'all.conf')
    with open(example, encoding='utf-8') as f, open(uncommented, 'w', encoding='utf-8') as g:
        for line in f.read().split('#[forward', 1)[0].splitlines():
            g.write(line[1:] + '\n' if re.match(r'#[a-z_0-9]+ = \S', line) else line + '\n')
    check('ok' in sh(TAUTD, '--check-config', '-c', uncommented), 'so are all its defaults, written out')
    conf = os.path.join(ROOT, 'conf/taut.conf')
    if os.path.exists(conf):
        check('ok' in sh(TAUTD, '--check-config', '-c', conf), 'conf/taut.conf')
    check('taut0' not in sh('ip', '-br', 'link'), 'no interface was made')


def test_address_taken_by_nobody(net):
    """A control directory that cannot be made (exit status 1), an MTU that nothing takes (2): a sentence, no interface."""
    for text, words, expected in ((f'[control]\ndirectory = {net.tmp}/no/such/place\n', net.tmp, 1),
                                  (f'[interface]\nmtu = 20\n[control]\ndirectory = {net.tmp}\n', 'interface.mtu', 2)):
        path = os.path.join(net.tmp, 'runtime.conf')
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)
        status, _, err = sh(TAUTD, '-c', path, check_status=False, timeout=10)
        equal(status, expected, f'exit status for {text!r} ({err.strip()})')
        check(words in err, f'says why: {err.strip()}')
        check('taut0' not in sh('ip', '-br', 'link'), 'no interface is left')


FORWARD = '[forward {}]\nlisten = {}\nto = tcp:127.0.0.1:{}\n'


def test_reload(net):
    """SIGHUP and server.reload: forwards come, move and go; connections stay."""
    import signal
    echo = lambda s: [s.sendall(x) for x in iter(lambda: s.recv(65536), b'')]
    a, b = net.serve(echo), net.serve(lambda s: s.sendall(b'second'))
    d = net.tautd(FORWARD.format('one', 8001, a.port) + FORWARD.format('two', 8002, a.port))
    old1, old2 = tcp(port=8001), tcp(port=8002)
    for s in (old1, old2):
        s.sendall(b'x')
        equal(s.recv(1), b'x', 'echo')
    d.write_config(FORWARD.format('one', 8001, b.port) + FORWARD.format('three', 8003, a.port))
    d.send_signal(signal.SIGHUP)
    wait_for(lambda: 'reloaded' in d.output(), 3, 'the reload is in the log')
    for s in (old1, old2):
        s.sendall(b'y')
        equal(s.recv(1), b'y', 'echo of a connection from before')
    with tcp(port=8001) as s:
        equal(s.recv(6), b'second', 'new target for new connections')
    with tcp(port=8003) as s:
        s.sendall(b'z')
        equal(s.recv(1), b'z', 'a forward that came')
    try:
        tcp(port=8002)
        check(False, 'a forward that went still accepts')
    except ConnectionRefusedError:
        pass
    d.write_config(FORWARD.format('one', 8004, a.port) + '[services]\necho = 1007\n')
    d.call('server.reload')
    with tcp(port=8004) as s:
        s.sendall(b'm')
        equal(s.recv(1), b'm', 'a forward that moved')
    with tcp(port=1007) as s:
        s.sendall(b'm')
        equal(s.recv(1), b'm', 'echo service that moved')
    old1.sendall(b'still')
    equal(old1.recv(5), b'still', 'echo of the oldest connection')


def test_reload_refused(net):
    """A bad file at reload: the error names the line, everything stays as it was."""
    import signal
    a = net.serve(lambda s: s.sendall(b'hello'))
    d = net.tautd(FORWARD.format('one', 8001, a.port))
    d.write_config(FORWARD.format('one', 8002, a.port) + '[tcp]\ntcp_sack = 9\n')
    e = d.control.fails('CONFIG_INVALID', 'server.reload')
    check('tcp.tcp_sack' in e.message and d.config_path in e.message, e.message)
    d.send_signal(signal.SIGHUP)
    wait_for(lambda: 'tcp.tcp_sack' in d.output(), 3, 'the log says so')
    with tcp(port=8001) as s:
        equal(s.recv(5), b'hello', 'the forward of before')
    try:
        tcp(port=8002)
        check(False, 'half of the bad file was taken')
    except ConnectionRefusedError:
        pass


def test_long_lines(net):
    """A line that is too long for the parser is an error, not a wrong value; comments may be long, lists go on."""
    path = os.path.join(net.tmp, 'long.conf')
    addresses = [f'fd77:1111:2222:3333:4444:5555:6666:{i:x}/64' for i in range(1, 17)]
    with open(path, 'w', encoding='utf-8') as f:
        f.write(f'[network]\n# a comment {"x" * 300}\n' + ''.join(f'address = {a}\n' for a in addresses))
    check('ok' in sh(TAUTD, '--check-config', '-c', path), 'good')
    with open(path, 'a', encoding='utf-8') as f:
        f.write('[interface]\nhost_address = ' + ', '.join(addresses) + '\nmtu = 1500\n')
    _, _, err = sh(TAUTD, '--check-config', '-c', path, check_status=False)
    check(err.startswith(f'{path}:20: syntax: the line is too long'), err)
