"""The units under a real systemd: installed as a package would, booted in namespaces, used as an administrator does."""
import glob
import json
import os
import signal

from harness import BUILD, ROOT, SANITIZED, Skip, check, equal, sh, wait_for

CONFIG = '''[interface]
name = {0}
host_address = 10.78.{1}.1/24
[network]
address = 10.78.{1}.2/24
[control]
directory = {2}
'''


class Machine:
    def __init__(self, net):
        self.dir = os.path.join(net.tmp, 'sd')
        tree = os.path.join(net.tmp, 'tree')
        env = dict(os.environ, DESTDIR=tree)
        sh('meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet', env=env, timeout=120)
        unit = glob.glob(tree + '/**/tautd.service', recursive=True)[0]
        with open(unit, encoding='utf-8') as f:
            self.etc = [x for x in f.read().splitlines() if x.startswith('ConditionPathExists=')][0].split('=')[1]
        os.makedirs(os.path.dirname(tree + self.etc), exist_ok=True)
        for path, name, number, control in ((self.etc, 'taut0', 0, '/run/taut'),
                                            (os.path.dirname(self.etc) + '/blue.conf', 'blue', 1, '/run/taut/blue')):
            with open(tree + path, 'w', encoding='utf-8') as f:
                f.write(CONFIG.format(name, number, control))
        os.makedirs(self.dir)
        status, out, err = sh(os.path.join(ROOT, 'tests/system/sdboot'), self.dir, tree, check_status=False, timeout=30)
        if status == 77:
            raise Skip(out.strip())
        check(status == 0, f'sdboot: {out} {err}')

    def run(self, *argv, **options):
        return sh(os.path.join(self.dir, 'in'), *argv, **options)

    def show(self, unit, name):
        return self.run('systemctl', 'show', '-P', name, unit).strip()

    def stop(self):
        with open(os.path.join(self.dir, 'pid'), encoding='ascii') as f:
            pid = int(f.read())
        check(pid > 1, 'process 1 of the machine')
        os.kill(pid, signal.SIGKILL)
        with open(os.path.join(self.dir, 'cgroup'), encoding='ascii') as f:
            top = f.read().strip()

        def removed():
            for path, _, _ in sorted(os.walk(top), reverse=True):
                try:
                    os.rmdir(path)
                except OSError:
                    pass
            return not os.path.exists(top)
        wait_for(removed, 10, 'the cgroup is gone', 0.1)


def test_units(net):
    """Start, reload, bad reload, kill -9, security score, two instances, stop. limit: 120 s"""
    if SANITIZED:
        raise Skip('the sandbox is for the real build')
    m = Machine(net)
    try:
        m.run('systemctl', 'start', 'tautd', timeout=30)
        equal(m.show('tautd', 'ActiveState'), 'active', 'state after start (Type=notify)')
        check('serving on taut0' in m.show('tautd', 'StatusText'), 'STATUS= is shown')
        m.run('ping', '-n', '-q', '-c', '2', '-i', '0.1', '10.78.0.2')
        pid = int(m.show('tautd', 'MainPID'))
        fields = dict(line.split(':', 1) for line in m.run('cat', f'/proc/{pid}/status').splitlines() if ':' in line)
        check(fields['Uid'].split()[0] != '0', f'it does not run as root: {fields["Uid"]}')
        equal(int(fields['CapEff'], 16), 1 << 12, 'capabilities: CAP_NET_ADMIN only')
        equal(json.loads(m.run('taut', 'status', '--json'))['interface']['name'], 'taut0', 'taut status')

        m.run('systemctl', 'reload', 'tautd', timeout=20)
        m.run('sh', '-c', f'echo "[tcp]" >>{m.etc}; echo "tcp_sack = maybe" >>{m.etc}')
        status, _, _ = m.run('systemctl', 'reload', 'tautd', check_status=False, timeout=20)
        check(status != 0, 'a reload with a bad file is an error')
        equal(m.show('tautd', 'ActiveState'), 'active', 'state after a bad reload')
        m.run('sed', '-i', '/tcp/d', m.etc)

        m.run('systemctl', 'kill', '-s', 'KILL', 'tautd')
        wait_for(lambda: m.show('tautd', 'NRestarts') == '1' and m.show('tautd', 'ActiveState') == 'active', 10,
                 'restarted after kill -9')
        m.run('ping', '-n', '-q', '-c', '1', '10.78.0.2')

        m.run('systemctl', 'start', 'tautd@blue', timeout=30)
        m.run('ping', '-n', '-q', '-c', '1', '10.78.1.2')
        equal(json.loads(m.run('taut', '-S', '/run/taut/blue', 'status', '--json'))['interface']['name'], 'blue', 'instance')
        m.run('systemctl', 'reload', 'tautd@blue', timeout=20)

        score = m.run('systemd-analyze', 'security', '--no-pager', 'tautd').strip().splitlines()[-1]
        value = float(score.split(':')[1].split()[0])
        net.say(f'systemd-analyze security {value}')
        check(value <= 3.0, score)

        m.run('systemctl', 'stop', 'tautd', 'tautd@blue', timeout=30)
        equal(m.show('tautd', 'Result'), 'success', 'result of the stop')
        check('taut0' not in m.run('ip', '-br', 'link'), 'the TAP is gone')

        m.run('sh', '-c', f'echo nonsense >{m.etc}')
        status, _, _ = m.run('systemctl', 'start', 'tautd', check_status=False, timeout=30)
        check(status != 0, 'a start with a bad file fails')
        equal(m.show('tautd', 'NRestarts'), '0', 'and is not tried again')
    except AssertionError:
        print(m.run('journalctl', '--no-pager', '-n', '30', check_status=False)[1])
        raise
    finally:
        m.stop()
