"""Is one record another one's replay? What the engine did by itself must be the same, event by event, to the ns."""

import json
import subprocess

# What the engine decided, but for the segments, which drill has compared. Not compared: what a segment or a call says.
TYPES = ('ACK', 'CONG', 'UNDO', 'TIMER', 'FIRED', 'STATE', 'DROP', 'ERROR', 'ICMP', 'ASKED', 'METRICS')
DETAILED = ('ACK', 'CONG', 'TIMER')  # not with trace_level 1
SEQUENCES = ('snd_una', 'high_seq', 'seq')


def events(taut, path):
    """What is compared of the record in that file: (type, text)."""
    out = subprocess.run([taut, 'trace', '--json', path], stdout=subprocess.PIPE, check=True).stdout
    iss, found = 0, []
    for line in out.splitlines():
        e = json.loads(line)
        if e['type'] == 'HEAD':
            iss = e['iss']
        if e['type'] not in TYPES:
            continue
        for key in ('number', 'time_us', 'flags'):
            e.pop(key, None)
        for key in SEQUENCES:
            if key in e:
                e[key] = (e[key] - iss) & 0xffffffff
        found.append((e['type'], json.dumps(e)))
    return found


def difference(taut, path, again):
    """'' if the second one is the first one's replay; else the first event that differs, of both."""
    a, b = events(taut, path), events(taut, again)
    if not any(t in DETAILED for t, _ in a):
        b = [e for e in b if e[0] not in DETAILED]
    for n, ((_, x), (_, y)) in enumerate(zip(a + [('', 'none')], b + [('', 'none')])):
        if x != y:
            return 'event %d of those compared:\n  recorded: %s\n  replayed: %s' % (n, x, y)
    return ''
