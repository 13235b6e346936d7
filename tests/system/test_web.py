"""taut-web: the status page, served through the stack by an ordinary program and fetched by the kernel's TCP."""
import html.parser
import json
import os
import re
import time

from harness import STACK4, STACK6, TAUT_WEB, check, equal, sh, tcp, wait_for

VOID = {'meta', 'br', 'link', 'img', 'hr'}
IMPLIED = {'td', 'th', 'tr', 'p'}  # their end tags may be left out


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
            check('ESTABLISHED' in ''.join(page.text) and 'echo' in ''.join(page.text), 'the connection is listed')
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


def test_metrics(net):
    """OpenMetrics: every sample belongs to a declared family of the right kind, and the text ends with # EOF."""
    d = net.tautd()
    start(net, d)
    status, kind, body = get('/metrics')
    equal(status, 200, '/metrics')
    check(kind.startswith('application/openmetrics-text'), kind)
    lines = body.strip().split('\n')
    equal(lines[-1], '# EOF', 'the last line')
    kinds, seen = {}, set()
    for line in lines[:-1]:
        declared = re.match(r'# TYPE (\S+) (\S+)$', line)
        if declared:
            check(declared[1] not in kinds, f'{declared[1]} is declared once')
            kinds[declared[1]] = declared[2]
        elif not line.startswith('# '):
            sample = re.match(r'([a-z_0-9]+)(\{[a-z]+="[^"]*"\})? (-?[0-9.]+)$', line)
            check(sample, f'a sample: {line}')
            family = re.sub(r'_total$', '', sample[1])
            check(sample[1] in kinds or kinds.get(family) == 'counter', f'{sample[1]} is declared')
            check(sample[1] + (sample[2] or '') not in seen, f'{line} comes once')
            seen.add(sample[1] + (sample[2] or ''))
    check(len(seen) > 100, f'{len(seen)} samples')


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
    """While the daemon is away taut-web tries once a second and uses no CPU to speak of."""
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
