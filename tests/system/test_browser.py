"""taut-web in headless Chromium, desktop and phone width; screenshots are kept in build/test-output."""
import os
import threading
import time

from browser import Browser
from harness import BUILD, STACK4, TAUT_WEB, check, equal, read_exactly, tcp, wait_for

SHOTS = os.path.join(BUILD, 'test-output')
WIDTHS = ((1280, 900, False), (390, 844, True))


class Traffic:
    """An echo that is busy, a character generator that is read slowly, and some idle connections."""

    def __init__(self):
        self.stopping = False
        self.socks = [tcp() for _ in range(10)] + [tcp(port=19)]
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        n = 0
        while not self.stopping:
            n += 1
            self.socks[0].sendall(b'x' * (2000 + n % 40 * 1000))
            read_exactly(self.socks[0], 2000 + n % 40 * 1000)
            if n % 4 == 0:
                self.socks[-1].recv(250000)
            time.sleep(0.03)

    def stop(self):
        self.stopping = True
        self.thread.join(10)
        for s in self.socks:
            s.close()


def start(net, d, *options):
    os.makedirs(SHOTS, exist_ok=True)
    web = net.start('taut-web', TAUT_WEB, '-S', d.dir, *options)
    web.wait_output('serving on port')


def fits(b, width, what):
    """Nothing makes the page itself wider than the screen: wide tables scroll in their own box."""
    check(b.run('document.documentElement.scrollWidth') <= width, f'{what}: wider than {width}')


def test_overview(net):
    """Live, light and dark, desktop and phone; the same tables without scripts. limit: 120 s"""
    b = Browser(net)
    d = net.tautd()
    start(net, d)
    traffic = Traffic()
    for width, height, phone in WIDTHS:
        for dark in (False, True):
            name = f'overview-{"phone" if phone else "desktop"}-{"dark" if dark else "light"}'
            b.view(width, height, phone, dark)
            b.open(f'http://{STACK4}/')
            wait_for(lambda: b.run('document.getElementById("live").textContent') == 'live', 10, 'it becomes live')
            before = b.run('document.getElementById("conns").textContent')
            wait_for(lambda: b.run('document.getElementById("conns").textContent') != before, 10, 'the table moves')
            wait_for(lambda: 'bit/s' in b.run('document.getElementById("cards").textContent'), 10, 'rates')
            fits(b, width, name)
            b.screenshot(os.path.join(SHOTS, name + '.png'))
    with_scripts = b.run('document.querySelectorAll("h2").length')
    b.view(1280, 900, scripts=False)
    b.open(f'http://{STACK4}/?port=19')
    equal(b.run('document.querySelectorAll("h2").length'), with_scripts, 'sections without scripts')
    equal(b.run('document.querySelectorAll("#conns tr").length'), 2, 'the filter works without scripts')
    equal(b.run('document.getElementById("live").textContent'), '', 'nothing ran')
    equal(b.console, [], 'what the browser complained of')
    traffic.stop()
    b.close()


def test_connection(net):
    """Curves move, in both widths; a connection that ends says so and its last values stay. limit: 120 s"""
    b = Browser(net)
    d = net.tautd()
    start(net, d)
    traffic = Traffic()
    ident = d.conns(local_port=19)[0]['id']
    for width, height, phone in WIDTHS:
        name = f'connection-{"phone" if phone else "desktop"}-{"dark" if phone else "light"}'
        b.view(width, height, phone, dark=phone)
        b.open(f'http://{STACK4}/connections/{ident}')
        points = 'document.querySelector("#curves polyline").getAttribute("points").split(" ").length'
        wait_for(lambda: b.run('!!document.querySelector("#curves polyline")') and b.run(points) > 16, 20, 'points of a curve')
        equal(b.run('document.querySelectorAll("#curves svg").length'), 4, 'panels')
        fits(b, width, name)
        sequence = 'document.querySelector("#sequence svg.plot").innerHTML'
        before = b.run(sequence)
        check(all(f'class="{c}"' in before for c in ('data', 'ack', 'grid')), 'the time-sequence graph')
        wait_for(lambda: b.run(sequence) != before, 10, 'the graph moves')
        stroke = b.run('getComputedStyle(document.querySelector("#sequence path.data")).stroke')
        equal(stroke, 'rgb(108, 178, 255)' if phone else 'rgb(11, 107, 203)', 'the colour of data is the style sheet\'s')
        b.screenshot(os.path.join(SHOTS, name + '.png'))
    b.view(1280, 900, scripts=False)
    b.open(f'http://{STACK4}/connections/{ident}')
    wait_for(lambda: b.run('document.getElementById("live").textContent') == '', 10, 'the page without scripts')
    check(b.run('document.querySelectorAll("#sequence svg path.data").length') == 2,
          'the graph without scripts: ' + b.run('document.getElementById("sequence").innerHTML')[:500])
    b.view(1280, 900)
    b.open(f'http://{STACK4}/connections/{ident}')
    wait_for(lambda: b.run('document.getElementById("live").textContent') == 'live', 10, 'it becomes live')
    d.cli('abort', ident)
    wait_for(lambda: 'gone' in b.run('document.getElementById("live").textContent'), 10, 'it says that the connection is gone')
    check('ESTABLISHED' in b.run('document.getElementById("facts").textContent'), 'last values stay')
    equal(b.console, [], 'what the browser complained of')
    traffic.socks.pop().close()
    traffic.socks.append(tcp())
    traffic.stop()
    b.close()


def test_buttons(net):
    """--control: the buttons close and abort."""
    b = Browser(net)
    d = net.tautd()
    start(net, d, '--control')
    b.view(1280, 900)
    for number, verb in ((1, 'close'), (2, 'abort')):
        with tcp():
            ident = wait_for(lambda: d.conns(local_port=7, state='ESTABLISHED'), 5, 'it is there')[0]['id']
            b.open(f'http://{STACK4}/connections/{ident}')
            b.run(f'document.querySelector(".verbs form:nth-child({number}) button").click()')
            wait_for(lambda: ident not in [c['id'] for c in d.conns(state='ESTABLISHED')], 10, f'{verb} by the button')
            wait_for(lambda: b.run('location.pathname') == '/', 10, 'back on the overview')
    equal(b.console, [], 'what the browser complained of')
    b.close()


def test_plot_colours(net):
    """The picture of taut plot on light and dark screens: the browser takes the colours of each."""
    b = Browser(net)
    d = net.tautd()
    traffic = Traffic()
    time.sleep(0.5)
    picture = os.path.join(SHOTS, 'plot.svg')
    os.makedirs(SHOTS, exist_ok=True)
    d.cli('plot', d.conns(local_port=19)[0]['id'], '-o', picture)
    for dark, background in ((False, 'rgb(255, 255, 255)'), (True, 'rgb(20, 24, 28)')):
        b.view(1020, 960, dark=dark)
        b.open('file://' + picture)
        equal(b.run('getComputedStyle(document.querySelector(".bg")).fill'), background, 'background')
        b.screenshot(os.path.join(SHOTS, f'plot-{"dark" if dark else "light"}.png'))
    equal(b.console, [], 'what the browser complained of')
    traffic.stop()
    b.close()
