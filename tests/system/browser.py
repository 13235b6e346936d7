"""
A headless Chromium, driven over its DevTools pipe: pages, scripts, screenshots. For test_browser.py.

Messages are JSON ended by NUL on two descriptors (3: to the browser, 4: from it); nothing but Debian's package is needed.
"""
import base64
import json
import os
import select
import shutil
import subprocess
import time

from harness import Failure, Skip, wait_for


class Browser:
    def __init__(self, net):
        program = shutil.which('chromium')
        if not program:
            raise Skip('chromium is not installed (scripts/test --full installs it)')
        self.serial, self.rest, self.console = 0, b'', []
        in_read, self.write_fd = os.pipe()
        self.read_fd, out_write = os.pipe()
        argv = [program, '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
                '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars',
                '--user-data-dir=' + os.path.join(net.tmp, 'chromium'), '--remote-debugging-pipe', 'about:blank']
        self.log = open(os.path.join(net.tmp, 'chromium.log'), 'wb')

        def pipes():
            a, b = os.dup(in_read), os.dup(out_write)
            os.dup2(a, 3)
            os.dup2(b, 4)
        self.popen = subprocess.Popen(argv, preexec_fn=pipes, pass_fds=(3, 4, in_read, out_write), stdin=subprocess.DEVNULL,
                                      stdout=self.log, stderr=self.log, env=dict(os.environ, HOME=net.tmp))
        os.close(in_read)
        os.close(out_write)
        self.session = None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log'):
            self.call(domain + '.enable')

    def receive(self, seconds):
        end = time.monotonic() + seconds
        while b'\0' not in self.rest:
            if not select.select([self.read_fd], [], [], max(0, end - time.monotonic()))[0]:
                raise Failure(f'chromium says nothing within {seconds} s')
            data = os.read(self.read_fd, 1 << 20)
            if not data:
                raise Failure('chromium ended')
            self.rest += data
        message, self.rest = self.rest.split(b'\0', 1)
        message = json.loads(message)
        if message.get('method') == 'Log.entryAdded':
            entry = message['params']['entry']
            if 'favicon' not in entry.get('url', ''):
                self.console.append(entry['text'])
        if message.get('method') == 'Runtime.exceptionThrown':
            self.console.append(json.dumps(message['params'])[:500])
        return message

    def call(self, method, /, **params):
        self.serial += 1
        request = {'id': self.serial, 'method': method, 'params': params}
        if self.session:
            request['sessionId'] = self.session
        os.write(self.write_fd, json.dumps(request).encode() + b'\0')
        while True:
            message = self.receive(30)
            if message.get('id') == self.serial:
                if 'error' in message:
                    raise Failure(f'{method}: {message["error"]}')
                return message['result']

    def view(self, width, height, phone=False, dark=False, scripts=True):
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
        self.call('Emulation.setScriptExecutionDisabled', value=not scripts)

    def open(self, url):
        self.call('Page.navigate', url=url)
        wait_for(lambda: self.run('document.readyState') == 'complete' and self.run('location.href') != 'about:blank', 15, url)

    def run(self, script):
        """The value of an expression in the page."""
        r = self.call('Runtime.evaluate', expression=script, returnByValue=True)
        if 'exceptionDetails' in r:
            raise Failure(f'{script}: {r["exceptionDetails"]}')
        return r['result'].get('value')

    def screenshot(self, path):
        data = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=True)['data']
        with open(path, 'wb') as f:
            f.write(base64.b64decode(data))

    def close(self):
        os.close(self.write_fd)  # the browser ends with its pipe
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(5)
        self.log.close()
