"""taut-web: the live page, served through the stack by an ordinary program and fetched by the kernel's TCP."""
import html.parser
import json
import os
import re
import socket
import time

from harness import SANITIZED, STACK4, STACK6, TAUT_WEB, Failure, check, equal, need, read_exactly, sh, tcp, wait_for

VOID = {'meta', 'br', 'link', 'img', 'hr', 'input'}
IMPLIED = {'td', 'th', 'tr', 'p', 'option'}  # their end tags may be left out


class Page(html.parser.HTMLParser):
    """Tags opened and closed in order, links, and the text."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.links, self.text, self.bad = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [v for k, v in attrs if k == 'href']
        if tag not in VOID and tag not in IMPLIED:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag in IMPLIED:
            return
        if not self.stack or self.stack.pop() != tag:
            self.bad.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def start(net, d, *options):
    web = net.start('taut-web', TAUT_WEB, '-S', d.dir, *options)
    web.wait_output(r'serving on port')
    return web


def get(path, host=STACK4, port=80, *options):
    out = sh('curl', '-s', '-g', '-m', '10', '-w', '\n%{http_code} %{content_type}', *options,
             f'http://{"[" + host + "]" if ":" in host else host}:{port}{path}')
    body, _, last = out.rpartition('\n')
    status, _, kind = last.partition(' ')
    return int(status), kind, body


def test_pages(net):
    """HTML for people, JSON and OpenMetrics for programs, over both families; each connection has its page."""
    d = net.tautd(v6=True)
    start(net, d)
    with tcp() as s:
        s.sendall(b'x')
        for host in (STACK4, STACK6):
            status, kind, body = get('/', host)
            equal((status, kind), (200, 'text/html; charset=utf-8'), f'/ from {host}')
            page = Page(body)
            equal((page.bad, page.stack), ([], []), 'tags')
            check('ESTAB' in ''.join(page.text) and 'echo' in ''.join(page.text), 'the connection is listed')
        link = next(x for x in page.links if x.startswith('/connections/'))
        status, kind, body = get(link)
        equal(status, 200, link)
        check('snd_cwnd' in body, 'the connection\'s page shows tcp_info')
        for path, key in (('/api/status', 'totals'), ('/api/stats', 'tcp_drops'), ('/api/connections', 'connections'),
                          ('/api/neighbours', None), (f'/api{link}', 'snd_una')):
            status, kind, body = get(path)
            equal((status, kind), (200, 'application/json'), path)
            check(key is None or key in json.loads(body), f'{path} holds {key}')


def test_errors(net):
    """What is not there is 404, what is not asked for by GET is 405, and odd ids are no injection."""
    d = net.tautd()
    start(net, d)
    equal(get('/nothing')[0], 404, '/nothing')
    equal(get('/connections/999.1')[0], 404, 'a connection that is gone')
    equal(get('/api/connections/999.1')[0], 404, 'the same as JSON')
    status, _, body = get('/connections/%22%3E%3Cscript%3E')
    equal(status, 404, 'markup as id')
    check('<script' not in body, 'it does not come back as markup')
    equal(get('/', STACK4, 80, '-X', 'POST', '-d', 'a=b')[0], 405, 'POST')
    equal(get('/', STACK4, 80, '-I')[0], 200, 'HEAD')


def get_metrics(openmetrics):
    accept = 'application/openmetrics-text; version=1.0.0' if openmetrics else 'text/plain'
    status, kind, body = get('/metrics', STACK4, 80, '-H', f'Accept: {accept}')
    equal(status, 200, '/metrics')
    check(kind.startswith('application/openmetrics-text; version=1.0.0' if openmetrics else 'text/plain; version=0.0.4'), kind)
    return body


SUFFIX = {'counter': '_total', 'gauge': '', 'info': '_info'}


def parse_openmetrics(text):
    """As strict as the specification for what taut-web makes: counters, gauges, info; {family: (kind, unit, samples)}."""
    check(text.endswith('\n# EOF\n'), 'the text ends with # EOF')
    families, current = {}, None
    for line in text.split('\n')[:-2]:
        check(line and line == line.strip(), f'no blank lines or edges: {line!r}')
        if line.startswith('#'):
            m = re.fullmatch(r'# (HELP|TYPE|UNIT) ([a-z_][a-z0-9_]*) (.+)', line)
            check(m, f'a descriptor: {line!r}')
            word, name, rest = m.groups()
            if name != current:
                check(name not in families, f'{name} is in one piece')
                families[name] = {'samples': {}}
                current = name
            check(word not in families[name] and not families[name]['samples'], f'{word} of {name} once, before samples')
            families[name][word] = rest
            continue
        m = re.fullmatch(r'([a-z_][a-z0-9_]*)(?:\{(.*)\})? (\S+)', line)
        check(m and current, f'a sample: {line!r}')
        name, labels, value = m.groups()
        f = families[current]
        equal(name, current + SUFFIX[f['TYPE']], 'sample of its family, with its suffix')
        pairs = re.findall(r'([a-z_][a-z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"', labels or '')
        equal(','.join(f'{k}="{v}"' for k, v in pairs), labels or '', 'labels')
        equal(len(dict(pairs)), len(pairs), 'label names once')
        check(labels not in f['samples'], f'{line} once')
        f['samples'][labels] = float(value)
        check(f['TYPE'] != 'counter' or float(value) >= 0, line)
    for name, f in families.items():
        check('HELP' in f and 'TYPE' in f and f['samples'], f'{name}: {f}')
        check('UNIT' not in f or name.endswith('_' + f['UNIT']), f'{name} has its unit as suffix')
        check(not re.search(r'_(bytes|seconds)$', name) or 'UNIT' in f, f'{name} declares its unit')
        check(not re.search(r'_(total|count|sum|bucket|created|info)$', name), f'{name} takes no reserved suffix')
        check(not re.search(r'bytes_|seconds_(?!$)', name), f'{name}: a unit is the last word')
        equal(len({tuple(sorted(re.findall(r'([a-z_]+)="', k or ''))) for k in f['samples']}), 1, f'{name}: the same labels')
    return families


def test_metrics(net):
    """OpenMetrics by a strict parser: families in one piece, suffixes, units, labels that do not grow with traffic."""
    d = net.tautd()
    start(net, d)
    families = parse_openmetrics(get_metrics(True))
    check(len(families) > 100, f'{len(families)} families')
    equal(families['taut_tcp_in_bytes']['UNIT'], 'bytes', 'unit')
    with tcp() as s:
        s.sendall(b'x' * 1000)
        read_exactly(s, 1000)
        time.sleep(0.6)  # one look serves all who ask within half a second
        again = parse_openmetrics(get_metrics(True))
        equal({n: sorted(map(str, f['samples'])) for n, f in again.items()},
              {n: sorted(map(str, f['samples'])) for n, f in families.items()}, 'families and labels whatever happens')
        check(again['taut_tcp_in_bytes']['samples'][None] >= 1000, 'bytes are counted')
        equal(again['taut_connections']['samples']['state="established"'], 2, 'this one and the scraper')
    for bad in ('# TYPE a counter\n# HELP a b\na 1\n# EOF\n', '# TYPE a gauge\n# HELP a b\na 1\n',
                '# TYPE a gauge\na 1\n# EOF\n', '# HELP a_bytes b\n# TYPE a_bytes gauge\na_bytes 1\n# EOF\n'):
        try:
            parse_openmetrics(bad)
        except Failure:
            continue
        raise Failure(f'the parser took {bad!r}')


def test_promtool(net):
    """What Prometheus' own linter says of the older text form."""
    need('promtool')
    d = net.tautd()
    start(net, d)
    status, out, err = sh('promtool', 'check', 'metrics', stdin=get_metrics(False).encode(), check_status=False)
    equal((status, (out + err).strip()), (0, ''), 'promtool check metrics')


def events(path, options=()):
    """An event stream as a socket of ours; the file to read it by."""
    s = tcp(port=80)
    s.sendall(f'GET {path} HTTP/1.1\r\nHost: {STACK4}\r\nAccept: text/event-stream\r\n\r\n'.encode())
    f = s.makefile('rb')
    equal(f.readline().split()[1], b'200', path)
    while f.readline() != b'\r\n':
        pass
    return s, f


def next_event(f):
    """The JSON of the next message, out of chunks."""
    text = b''
    while not text.endswith(b'\n\n'):
        size = int(f.readline(), 16)
        if not size:
            return None
        text += f.read(size)
        f.readline()
    equal(text[:6], b'data: ', 'a message')
    return json.loads(text[6:])


def test_events(net):
    """Streams: everything first, then what changed; samples of a connection; an end when it is gone."""
    d = net.tautd()
    start(net, d)
    with tcp() as s:
        stream, f = events('/events?port=7')
        first = next_event(f)
        check({'head', 'cards', 'conns', 'queues', 'drops', 'causes', 'counters'} <= set(first), list(first))
        check(first['conns'].count('/connections/') == 1 and '10.77.0.2:7' in first['conns'], first['conns'])
        s.sendall(b'x' * 5000)
        read_exactly(s, 5000)
        second = next_event(f)
        check('conns' in second and 'queues' not in second, list(second))
        stream.close()
        ident = d.conns(local_port=7)[0]['id']
        stream, f = events(f'/connections/{ident}/events')
        began = time.monotonic()
        samples = [next_event(f)['sample'] for _ in range(5)]
        check(0.8 < time.monotonic() - began < 3, 'four a second')
        check([x['age'] for x in samples] == sorted(x['age'] for x in samples) and samples[0]['bytes_acked'] == 5000, samples)
    last = [next_event(f)]
    while last[-1] is not None:
        last.append(next_event(f))
    check(last[-2].get('gone') is True, last[-2])
    stream.close()


def rss(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmRSS:'))


def test_slow_subscribers(net):
    """Subscribers that never read cost one message each, and others are served meanwhile; there is a limit of them.
    runs alone"""
    d = net.tautd()
    web = start(net, d)
    conns = [tcp() for _ in range(100)]
    socks = []
    for _ in range(30):
        s, _ = events('/events')
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        socks.append(s)
    time.sleep(2)
    before = rss(web.pid)
    for _ in range(4):
        for s in conns:
            s.sendall(b'y' * 100)
            read_exactly(s, 100)
        time.sleep(1)
        equal(get('/api/status')[0], 200, 'served meanwhile')
    check(SANITIZED or rss(web.pid) - before < 4096, f'{rss(web.pid) - before} KiB more for 30 subscribers in 4 s')
    more = [tcp(port=80) for _ in range(40)]
    for s in more:
        s.sendall(b'GET /events HTTP/1.1\r\nHost: x\r\n\r\n')
    answers = [s.recv(12) for s in more]
    equal((answers.count(b'HTTP/1.1 200'), answers.count(b'HTTP/1.1 503')), (34, 6), '64 subscribers at most')
    for s in conns + socks + more:
        s.close()

    def room():
        with tcp(port=80) as s:
            s.sendall(b'GET /events HTTP/1.1\r\nHost: x\r\n\r\n')
            return s.recv(12) == b'HTTP/1.1 200'
    wait_for(room, 15, 'room again', 0.3)


def test_control(net):
    """Nothing can be changed without --control; with it a form needs this process's token and our own origin."""
    d = net.tautd()
    start(net, d)
    with tcp():
        ident = d.conns(local_port=7)[0]['id']
        equal(get(f'/connections/{ident}/abort', STACK4, 80, '-d', 'token=x')[0], 405, 'read-only')
        check('<form method="post"' not in get(f'/connections/{ident}')[2], 'no buttons')
        start(net, d, '-p', '81', '--control')
        page = get(f'/connections/{ident}', STACK4, 81)[2]
        token = re.search(r'name="token" value="([0-9a-f]{32})"', page).group(1)
        path = f'/connections/{ident}/abort'
        other = lambda digit: 'a' if digit != 'a' else 'b'
        last, first, middle = token[:-1] + other(token[-1]), other(token[0]) + token[1:], token[:16] + other(token[16]) + token[17:]
        for body, origin in (('', None), ('token=' + '0' * 32, None), (f'token={token}x', None), (f'token={token[:-1]}', None),
                             (f'token={last}', None), (f'token={first}', None), (f'token={middle}', None),
                             (f'token={token}', 'http://evil.example'), (f'token={token}', 'null')):
            extra = ('-H', f'Origin: {origin}') if origin else ()
            equal(get(path, STACK4, 81, '-d', body, *extra)[0], 403, f'{body} from {origin}')
        equal(get(path, STACK4, 81, '-d', 'x' * 4000)[0], 413, 'a long body')
        equal(get(path, STACK4, 81, '-X', 'PUT', '-d', 'x')[0], 405, 'PUT')
        equal(get('/connections/x/abort', STACK4, 81, '-d', f'token={token}')[0], 404, 'no id')
        equal(get(f'/connections/{ident}/set', STACK4, 81, '-d', f'token={token}')[0], 404, 'no such verb')
        equal(get(path, STACK4, 81)[0], 404, 'GET does nothing')
        equal(d.conns(local_port=7)[0]['id'], ident, 'it lives')
        equal(get(path, STACK4, 81, '-d', f'token={token}', '-H', f'Origin: http://{STACK4}:81', '-H',
                  f'Host: {STACK4}:81')[0], 303, 'aborted')
        equal(d.conns(local_port=7), [], 'it is gone')


def test_control_by_host(net):
    """A site whose name is made to mean our address (DNS rebinding) gets no form and can send none."""
    d = net.tautd(v6=True)
    start(net, d, '-p', '81', '--control', '--host', 'taut.example', '-H', 'other.example')
    with tcp():
        ident = d.conns(local_port=7)[0]['id']
        page, path = f'/connections/{ident}', f'/connections/{ident}/abort'
        token = re.search(r'name="token" value="([0-9a-f]{32})"', get(page, STACK4, 81)[2]).group(1)
        for host, ok in ((STACK4, True), ('localhost', True), (f'[{STACK6}]', True), ('TAUT.example', True),
                         ('other.example', True), ('evil.example', False), ('taut.example.evil.example', False),
                         ('xtaut.example', False), ('10.77.0.2.evil.example', False), ('[taut.example]', False),
                         (f'[{STACK6}', False), ('', False)):
            for name in (host, host + ':81') if host else ('',):
                body = get(page, STACK4, 81, '-H', f'Host: {name}')[2]
                equal(token in body, ok, f'the form under {name!r}')
                check('snd_cwnd' in body, f'the rest under {name!r}')
                # with a wrong token, but for the names that must be refused whatever it is
                status, _, said = get(path, STACK4, 81, '-H', f'Host: {name}', '-H', f'Origin: http://{name}', '-d',
                                      'token=' + ('0' * 32 if ok else token))
                equal((status, '--host' in said), (403, not ok), f'POST under {name!r}')
        check(token in get(page, STACK6, 81)[2], 'IPv6')
        equal(d.conns(local_port=7)[0]['id'], ident, 'it lives')
        equal(get(path, STACK4, 81, '-d', f'token={token}', '-H', 'Host: taut.example:81', '-H',
                  'Origin: http://taut.example:81')[0], 303, 'aborted under its name')


def test_headers(net):
    """No page of ours may run or load anything but our own two files, nor stand in a frame."""
    d = net.tautd()
    start(net, d)
    for path in ('/', '/style.css', '/live.js', '/metrics', '/nothing', '/api/stats'):
        head = sh('curl', '-s', '-i', '-m', '10', f'http://{STACK4}{path}').split('\r\n\r\n')[0].lower()
        for word in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", 'nosniff', 'no-store'):
            check(word in head, f'{path}: {word}: {head}')
    page = get('/')[2]
    check(not re.search(r'\bon\w+=|style=|javascript:|<script(?! src="/live.js")|https?://', page), 'nothing inline, nothing outside')


def test_hostile_names(net):
    """A forward whose name is markup, and odd paths and parameters, come out as text."""
    evil = '<img src=x onerror=alert(1)>"&'
    net.serve(lambda s: s.recv(1), '127.0.0.1', 8099)
    d = net.tautd(f'[forward {evil}]\nlisten = 90\nto = tcp:127.0.0.1:8099\n')
    start(net, d)
    with tcp(port=90):
        ident = wait_for(lambda: d.conns(local_port=90), 5, 'forwarded')[0]['id']
        stream, f = events('/events')
        pages = [get('/')[2], get(f'/connections/{ident}')[2], get('/?state=%3Cscript%3E&after=%22%3E&port=%3C')[2],
                 get('/%3Cscript%3E')[2], *next_event(f).values()]
        stream.close()
        check(all('<img' not in p and '<script>' not in p for p in pages), 'no markup comes through')
        check(sum('&lt;img src=x onerror=alert(1)&gt;&quot;&amp;' in p for p in pages) >= 3, 'it is shown as text')


def test_paging(net):
    """Pages of the table by links, without scripts; filters stay in the links."""
    d = net.tautd()
    start(net, d)
    socks = [tcp(port=(7, 9)[i % 2]) for i in range(60)]
    seen, path, pages = [], '/?state=ESTABLISHED&port=7&rows=7', 0
    while path:
        body = get(path)[2]
        page = Page(body)
        seen += [x for x in page.links if x.startswith('/connections/')]
        pages += 1
        m = re.search(r'<a href="([^"]+)">Next page', body)
        path = m.group(1).replace('&amp;', '&') if m else None
        check(pages < 20 and (not path or 'port=7' in path), path)
    equal((len(seen), len(set(seen))), (30, 30), 'all, each once')
    api = json.loads(get('/api/connections?rows=10')[2])
    equal(len(api['connections']), 10, 'rows')
    again = json.loads(get(f'/api/connections?rows=10&after={api["next"]}')[2])
    check(not {c['id'] for c in api['connections']} & {c['id'] for c in again['connections']}, 'the next page')
    equal(get('/api/connections?state=NOWHERE')[0], 400, 'a state that there is not')
    for s in socks:
        s.close()


def test_long_record(net):
    """The graph is of a record's end, however long it is: the first events of 60,000 are not what is shown."""
    d = net.tautd('[tcp]\ntrace_ring = 8388608\n')
    start(net, d)
    with tcp() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(15000):
            s.sendall(b'x')
            read_exactly(s, 1)
        link = next(x for x in Page(get('/')[2]).links if x.startswith('/connections/'))
        body = get(link)[2]
        svg = body[body.index('<svg'):body.index('</svg>')]
        labels = [float(x) for x in re.findall(r'text-anchor="end">([0-9.]+)</text>', svg)]
        check(labels and max(labels) > 14, f'the sequence axis (kB) reaches the end: {labels}')


def test_active(net):
    """active=1, of the page and of the JSON: only connections on which something happened within 10 s."""
    d = net.tautd()
    start(net, d)
    idle, busy = tcp(), tcp(port=9)
    with idle, busy:
        time.sleep(10.5)
        busy.sendall(b'x')
        for path in ('/', '/api/connections'):
            for more, there in (('', True), ('&active=1', False)):
                equal('10.77.0.2:7' in get(f'{path}?state=ESTABLISHED{more}')[2], there, f'{path} {more}: the idle one')
                check('10.77.0.2:9' in get(f'{path}?state=ESTABLISHED{more}')[2], f'{path} {more}: the busy one')


def test_survives_daemon(net):
    """tautd is restarted: the page comes back by itself."""
    d = net.tautd()
    place = os.path.join(net.tmp, 'control')
    os.symlink(d.dir, place)
    web = net.start('taut-web', TAUT_WEB, '-S', place, '-p', '81')
    web.wait_output(r'serving on port')
    equal(get('/', STACK4, 81)[0], 200, 'before')
    d.expect_end = True
    d.stop()
    d = net.tautd()
    os.symlink(d.dir, place + '.new')
    os.rename(place + '.new', place)
    wait_for(lambda: any(x['address'].endswith(':81') for x in d.call('server.status')['listeners']), 10,
             'taut-web listens again')
    equal(get('/', STACK4, 81)[0], 200, 'after')


def test_many_requests(net):
    """200 requests, 20 at a time, all answered; nothing is left of them."""
    d = net.tautd()
    start(net, d)
    urls = [f'http://{STACK4}/api/status?{i}' for i in range(200)]
    config = os.path.join(net.tmp, 'urls')
    with open(config, 'w') as f:
        f.writelines(f'url = "{u}"\noutput = /dev/null\n' for u in urls)
    sh('curl', '-s', '-S', '--fail', '--parallel', '--parallel-max', '20', '-m', '30', '-K', config)
    wait_for(lambda: d.call('server.status')['totals']['established'] == 0, 5, 'all connections closed')


def test_waits_without_spinning(net):
    """While the daemon is away taut-web tries once a second and uses no CPU to speak of. runs alone"""
    d = net.tautd()
    web = start(net, d)
    d.expect_end = True
    equal(d.stop(), 0, 'exit status of tautd')

    def ticks():
        with open(f'/proc/{web.pid}/stat', encoding='ascii') as f:
            return sum(int(x) for x in f.read().rsplit(')', 1)[1].split()[11:13])

    before = ticks()
    time.sleep(2)
    check(web.running(), 'it lives on')
    check(ticks() - before < 50, f'{ticks() - before} ticks of CPU in 2 s')


def test_usage(net):
    """--help, --version, a wrong port."""
    check('Usage: taut-web' in sh(TAUT_WEB, '--help'), '--help')
    check(sh(TAUT_WEB, '--version').startswith('taut-web '), '--version')
    status, _, err = sh(TAUT_WEB, '-p', '0', check_status=False)
    equal(status, 2, 'port 0')
    check('1 to 65535' in err, err)
    equal(sh(TAUT_WEB, *['-H', 'x'] * 17, check_status=False)[0], 2, 'too many names')
