"""taut upgrade: between builds whose records and configuration differ, and to binaries that cannot take over."""
import os
import re
import signal
import time

from harness import Control, STACK4, TAUTD, check, equal, need_other_builds, read_exactly, wait_for
from test_survive import (Manager, asks_upgrade, build_load, copied_binary, kernel_socket, replace_binary, restores,
                          serving_worker, start, worker_of)

NEXT, FAR = TAUTD + '_next', TAUTD + '_far'


def upgrade(d, binary, path):
    """To this build; the control client is new then."""
    replace_binary(path, with_file=binary)
    pid, worker = d.pid, worker_of(d)
    check(asks_upgrade(d), f'upgrade to {os.path.basename(binary)}: the old worker is gone: {d.output()[-400:]}')
    serving_worker(d, worker)
    d.control = Control(d.dir)
    equal(d.call('server.hello')['pid'], pid, 'the process')


def refused(d, says, seconds=10):
    began, worker = time.monotonic(), worker_of(d)
    e = d.control.fails('UPGRADE_REFUSED', 'server.upgrade')
    check(re.search(says, str(e)), f'the reason: "{e}", expected /{says}/')
    check(time.monotonic() - began < seconds, f'it took {time.monotonic() - began:.1f} s')
    equal(worker_of(d), worker, 'the worker, which nobody touched')
    check('upgrade refused: ' in d.output(), 'the log says it, too')


def value_of(d, name):
    return d.call('config.get', name=name)['rows'][0]['value']


def test_configurations(net):
    """Under load between builds with other records and another configuration: nothing reset, no RST, values kept by
    name; a file that the new build cannot read is refused. limit: 180 s"""
    need_other_builds()
    path = copied_binary(net)
    d, load = start(net, binary=path)
    listener = build_load(net, d, load, 3)
    base = open(d.config_path, encoding='utf-8').read()
    d.call('config.set', name='tcp.tcp_fin_timeout', value=17)
    before = {c['id'] for c in d.conns(limit=1000) if c['state'] == 'ESTABLISHED'}
    capture = net.capture(snaplen=96)

    upgrade(d, NEXT, path)
    equal(str(value_of(d, 'tcp.tcp_fin_timeout')), '17', 'what was set while running')
    equal(str(value_of(d, 'daemon.next_key')), '7', 'the default of a key that is new')
    equal(str(value_of(d, 'interface.fd')), '-1', 'interface.fd as the file has it')
    time.sleep(0.3)
    upgrade(d, TAUTD, path)
    d.wait_output(r'daemon\.next_key = 7 is forgotten: this version has no such key', 5)
    # A key that only the next build has: its file is good there, and keeps an upgrade back from being tried.
    with open(d.config_path, 'w', encoding='utf-8') as f:
        f.write(base + '[daemon]\nnext_key = 5\n')
    refused(d, r'daemon\.next_key: unknown key')
    upgrade(d, NEXT, path)
    equal(str(value_of(d, 'daemon.next_key')), '5', 'a key that is new, from the file')
    equal(str(value_of(d, 'tcp.tcp_fin_timeout')), '17', 'what was set while running, three builds later')
    os.kill(worker_of(d), signal.SIGKILL)
    time.sleep(0.3)
    load.check()

    d.control = Control(d.dir)
    after = {c['id'] for c in d.conns(limit=1000)}
    check(before <= after, f'{len(before - after)} connections are gone')
    moved = load.bytes
    wait_for(lambda: load.bytes > moved + 1000000, 10, 'bytes move', 0.02)
    resets = capture.stop().tshark('tcp.flags.reset == 1')
    check(not resets, f'RSTs: {resets[:3]}')
    load.finish()
    listener.close()
    equal(len(re.findall('records of another version were converted', d.output())), 3, 'conversions')
    for _, _, lost, ownerless in restores(d):
        equal((lost, ownerless), (0, 0), 'connections lost or without owner')
    with open(d.config_path, 'w', encoding='utf-8') as f:
        f.write(base)


def test_bad_binaries(net):
    """What cannot take over is refused with a sentence, in time, and the old one goes on. limit: 120 s"""
    need_other_builds()
    path = copied_binary(net)
    d = net.tautd('[daemon]\nsurvive = yes\n[services]\necho = 7\n', binary=path)
    s = kernel_socket(STACK4, 7)

    def goes_on():
        s.sendall(b'still here')
        equal(read_exactly(s, 10), b'still here', 'echo')

    replace_binary(path, with_file=FAR)
    refused(d, r'the arena is of|it is of version 2\.\d+, this program reads 3\.\d+')
    goes_on()
    replace_binary(path, text='#!/bin/sh\necho of no use\nexit 1\n')
    refused(d, 'of no use')
    replace_binary(path, text='#!/bin/sh\nexit 0\n')
    refused(d, 'ended with status 0 and said nothing')
    replace_binary(path, with_file='/bin/true')
    refused(d, 'said nothing')
    replace_binary(path, text='#!/bin/sh\nkill -SEGV $$\n')
    refused(d, 'killed by signal 11')
    replace_binary(path, text='\x7fELF of nothing')
    refused(d, r'cannot execute .*: Exec format error')
    os.chmod(path, 0o644)
    refused(d, r'cannot execute .*: Permission denied')
    os.unlink(path)
    refused(d, r'cannot execute .*: No such file')
    goes_on()
    replace_binary(path, text='#!/bin/sh\nexec sleep 60\n')
    began = time.monotonic()
    refused(d, 'gave no answer within 5 s')
    check(time.monotonic() - began > 4, 'it was waited for')
    goes_on()
    # With a mistake in the file a start would fail: so does the check.
    replace_binary(path, with_file=TAUTD)
    good = open(d.config_path, encoding='utf-8').read()
    with open(d.config_path, 'a', encoding='utf-8') as f:
        f.write('[tcp]\ntcp_sack = maybe\n')
    refused(d, r'tcp\.tcp_sack: .maybe. is not valid')
    status, _, err = d.cli('upgrade', check_status=False)
    check(status != 0 and 'UPGRADE_REFUSED' in err, f'taut upgrade: {status} {err}')
    with open(d.config_path, 'w', encoding='utf-8') as f:
        f.write(good)
    goes_on()
    equal(len(re.findall('takes over from generation', d.output())), 0, 'upgrades')
    upgrade(d, TAUTD, path)
    goes_on()


def test_store_after_upgrade(net):
    """A conversion leaves the new arena with the manager, not the old one; the killed supervisor goes on with it, by
    another build, with the configuration in effect and a mistake in the file. limit: 60 s"""
    need_other_builds()
    path = copied_binary(net)
    m = Manager(net, '[daemon]\nsurvive = yes\n[services]\necho = 7\n')
    m.binary = path
    m.start()
    s = kernel_socket(STACK4, 7)
    s.sendall(b'one')
    equal(read_exactly(s, 3), b'one', 'echo')
    Control(m.dir).call('config.set', name='tcp.tcp_fin_timeout', value=23)
    inode = os.fstat(m.store['arena']).st_ino
    replace_binary(path, with_file=NEXT)
    asks_upgrade(m)
    m.drain(0.5)
    equal(sorted(m.store), ['arena', 'tap'], 'what is stored')
    check(os.fstat(m.store['arena']).st_ino != inode, 'the new arena is stored')
    for binary in (NEXT, TAUTD):
        replace_binary(path, with_file=binary)
        with open(m.config_path, 'a', encoding='utf-8') as f:
            f.write('nonsense\n')
        m.process.stop(signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f'/proc/{m.process.pid}/exe'), 5, 'it is gone')
        m.start()
        s.sendall(b'more')
        equal(read_exactly(s, 4), b'more', f'echo after the supervisor was killed: {m.process.output()[-500:]}')
        m.drain(0.2)
        equal(sorted(m.store), ['arena', 'tap'], 'what is stored')
        row = Control(m.dir).call('config.get', name='tcp.tcp_fin_timeout')['rows'][0]
        equal(str(row['value']), '23', 'what was set while running')
    equal(m.process.stop(), 0, 'orderly end')
    m.drain(0.2)
    equal(m.store, {}, 'after an orderly end nothing is stored')
