"""
tests/bench/report.py: what scripts/bench tells of a run: medians and spread, ratios to the kernel, the limits that taut is
to keep, JSON and a picture (theory of operation).

A result is what measure.py wrote: per row and stack one figure (or None) a round. A ratio of two stacks is the median of
the rounds' ratios: both were measured within seconds of each other.
"""
import json
import os
import statistics

STACKS = ('taut', 'kernel', 'tap', 'lwip', 'slirp4netns', 'pasta')
SMALLER_IS_BETTER = ('us', 'ms', 'bytes', 'ns/B')
INF = float('inf')

# (what is said, row, stack compared with or None for the figure itself, at least, at most)
LIMITS = [
    ('bulk out, built-in / bare TAP', 'bulk_out_builtin', 'tap', 0.8, INF),
    ('bulk out, built-in / kernel', 'bulk_out_builtin', 'kernel', 1.2, INF),
    ('bulk in, built-in / bare TAP', 'bulk_in_builtin', 'tap', 0.8, INF),
    ('bulk in, built-in / kernel', 'bulk_in_builtin', 'kernel', 0.9, INF),
    ('bulk out through a program / kernel', 'bulk_out_program', 'kernel', 0.7, INF),
    ('bulk in through a program / kernel', 'bulk_in_program', 'kernel', 0.5, INF),
    ('bulk out, MTU 1500 / bare TAP', 'bulk_out_1500', 'tap', 0.8, INF),
    ('bulk out, MTU 1500 / lwIP', 'bulk_out_1500', 'lwip', 1, INF),
    ('bulk in, MTU 1500 / bare TAP', 'bulk_in_1500', 'tap', 0.75, INF),
    ('bulk in, MTU 1500 / lwIP', 'bulk_in_1500', 'lwip', 1.5, INF),
    ('connect + close / lwIP', 'connect_close', 'lwip', 1, INF),
    ('connect + close, polling / kernel', 'connect_close_busy_poll', 'kernel', 0.6, INF),
    ('connect + close, 8 in parallel / kernel', 'connect_close_parallel', 'kernel', 0.75, INF),
    ('round trip p50 / kernel', 'rtt_p50', 'kernel', 0, 1),
    ('round trip p50 / lwIP', 'rtt_p50', 'lwip', 0, 1),
    ('round trip p99 / kernel', 'rtt_p99', 'kernel', 0, 1.2),
    ('round trip p50, polling / kernel', 'rtt_p50_busy_poll', 'kernel', 0, 0.45),
    ('SYN flood answered / bare TAP', 'syn_flood', 'tap', 0.85, INF),
    ('bytes of an idle connection', 'idle_connection_bytes', None, 0, 600),
    ('bytes of a half-open one', 'half_open_bytes', None, 0, 128),
    ('bytes of one in TIME-WAIT', 'time_wait_bytes', None, 0, 96),
    ('round trip p99 beside bulk out, us', 'rtt_p99_beside_out', None, 0, 2000),
    ('round trip p99 beside bulk in, us', 'rtt_p99_beside_in', None, 0, 2000),
]
PEERS = ('lwip', 'slirp4netns', 'pasta')


def load(path):
    with open(path, encoding='utf-8') as f:
        return json.load(f)


def figures(r, stack):
    return [x for x in r['rounds'][stack] if x is not None]


def median(r, stack):
    values = figures(r, stack)
    return statistics.median(values) if values else None


def ratio(r, stack, other):
    """The median of the rounds' ratios."""
    pairs = [(x, y) for x, y in zip(r['rounds'][stack], r['rounds'][other]) if x is not None and y]
    return statistics.median(x / y for x, y in pairs) if pairs else None


def best(r, stack):
    """The figure of its best round: what other work on the machine disturbed least."""
    values = figures(r, stack)
    return None if not values else min(values) if r['unit'] in SMALLER_IS_BETTER else max(values)


def ratio_of_best(r, stack, other):
    x, y = best(r, stack), best(r, other)
    return x / y if x is not None and y else None


def number(x):
    if x is None:
        return '-'
    return f'{x:,.0f}' if abs(x) >= 1000 else f'{x:.0f}' if abs(x) >= 100 else f'{x:.3g}'


def spread(r, stack):
    """The median, and the lowest and highest if there are several."""
    values = figures(r, stack)
    if len(values) < 2:
        return number(median(r, stack))
    return f'{number(statistics.median(values))} [{number(min(values))}-{number(max(values))}]'


def heading(result):
    rounds, quick = result['rounds'], result['quick']
    cc = ', '.join(result['congestion']) or 'no congestion control'
    return (f"{result['machine']}; {result['when']}, {rounds} round{'s' * (rounds > 1)}{' (--quick)' * quick}; {cc} at client and server, reno at"
            f" nginx and what the peers open; steal {100 * result['steal']:.1f} %, others kept the machine"
            f" {100 * statistics.median(result['others']):.0f} % busy; {result['seconds']:.0f} s")


def tables(result, markdown=False):
    print(f'\n{heading(result)}\n')
    if markdown:
        print_markdown([r for r in result['rows'] if r['unit'] != 'ns/B'])
    else:
        print_columns([['row', 'unit'] + list(STACKS)] + [[r['row'], r['unit']] + [spread(r, s) for s in STACKS] for r in result['rows']])
        print('\nratios to the kernel (below 1 is better where the unit is a time, bytes or CPU)\n')
        others = [s for s in STACKS if s != 'kernel']
        print_columns([['row'] + others] + [[r['row']] + [number(ratio(r, s, 'kernel')) for s in others] for r in result['rows']
                                            if median(r, 'kernel') is not None])
    if result['quick']:
        print('\n--quick: each figure is of a moment; it shows that all works, no more.')
    if statistics.median(result['others']) > 0.05:
        print('\nThe machine had other things to do: these figures are for nothing but finding gross mistakes.')
    for note in result['notes']:
        print(f'note: {note}')


def print_columns(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print('  '.join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))).rstrip())


def print_markdown(rows):
    """Medians only, with taut's ratio to the kernel: the README's table."""
    print('| | unit | ' + ' | '.join(STACKS) + ' | taut : kernel |\n|---|---|' + '---|' * (len(STACKS) + 1))
    for r in rows:
        cells = [f"`{r['row']}`", r['unit']] + [number(median(r, s)) for s in STACKS] + [number(ratio(r, 'taut', 'kernel'))]
        print('| ' + ' | '.join(cells) + ' |')


def behind(result):
    """[(row, peer, taut's ratio to it)] where taut is not ahead of a user-space peer."""
    found = []
    for r in result['rows']:
        for peer in PEERS:
            x = ratio(r, 'taut', peer)
            if x is not None and (x > 1 if r['unit'] in SMALLER_IS_BETTER else x < 1):
                found.append((r['row'], peer, x))
    return found


def judged(result):
    """[(what, wanted, measured, met)]; met is None where there is no figure."""
    rows, by_name = [], {r['row']: r for r in result['rows']}
    for what, name, other, least, most in LIMITS:
        r = by_name.get(name)
        if not r:
            continue
        x = ratio(r, 'taut', other) if other else median(r, 'taut')
        wanted = f'>= {least:g}' if most == INF else f'<= {most:g}'
        rows.append((what, wanted, number(x), None if x is None else least <= x <= most))
    slower = behind(result)
    if any(median(r, p) is not None for r in result['rows'] for p in PEERS):
        rows.append(('rows behind lwIP, slirp4netns or pasta', '0', str(len({row for row, _, _ in slower})), not slower))
    return rows


def verdict(result):
    """Prints the limits; true if none is missed."""
    rows = judged(result)
    if not rows:
        return True
    by_name, best_of = {r['row']: r for r in result['rows']}, {}
    for what, name, other, *_ in LIMITS:
        if name in by_name:
            r = by_name[name]
            best_of[what] = number(ratio_of_best(r, 'taut', other) if other else best(r, 'taut'))
    print('\nwhat taut is to reach (measured: medians of ratios within a round; best: of the best rounds, a guess at a quiet machine)\n')
    print_columns([['limit', 'wanted', 'measured', '', 'best']] + [
        [what, wanted, got, {None: '-', True: 'met', False: 'MISSED'}[met], best_of.get(what, '')] for what, wanted, got, met in rows])
    for row, peer, x in behind(result):
        print(f'behind {peer}: {row} ({x:.2f} of it)')
    missed = sum(met is False for *_, met in rows)
    print(f'{sum(met is True for *_, met in rows)} met, {missed} missed, {sum(met is None for *_, met in rows)} without a figure')
    return missed == 0


def write_json(result, path):
    """A median per row and stack."""
    out = [dict({'row': r['row'], 'unit': r['unit']}, **{s: median(r, s) for s in STACKS}) for r in result['rows']]
    with open(path, 'w', encoding='utf-8') as f:
        f.write('[\n' + ',\n'.join(json.dumps(x) for x in out) + '\n]\n')


# ---- The picture -----------------------------------------------------------------------------------------------------

STYLE = ('<style>text{font-family:system-ui,sans-serif;font-size:12px;fill:#24292f}.s{font-size:10px}.h{font-weight:600;font-size:13px}'
         '.e{text-anchor:end}.g{stroke:#8886;stroke-width:1}.k{stroke:#24292f;stroke-width:1.5}'
         '@media(prefers-color-scheme:dark){text{fill:#e6edf3}.k{stroke:#e6edf3}}</style>')
COLOURS = {'taut': '#2f7fd0', 'tap': '#9bb8d3', 'lwip': '#d08a2f', 'slirp4netns': '#7aa35b', 'pasta': '#a678b4'}
SHOWN = [('bulk_out_builtin', 'bulk out, built-in'), ('bulk_in_builtin', 'bulk in, built-in'),
         ('bulk_out_program', 'bulk out, program'), ('bulk_in_program', 'bulk in, program'),
         ('bulk_out_1500', 'bulk out, MTU 1500'), ('bulk_in_1500', 'bulk in, MTU 1500'),
         ('connect_close', 'connect + close'), ('connect_close_parallel', 'the same, 8 in parallel'),
         ('connect_echo_close', 'connect + echo + close'), ('syn_flood', 'SYNs answered'), ('rtt_p50', 'round trips, p50')]
SCALE_MAX = 2.25


def bar(r, stack):
    """As fast as so many kernels."""
    x = ratio(r, stack, 'kernel')
    return None if not x else 1 / x if r['unit'] in SMALLER_IS_BETTER else x


def draw(result, path):
    """Bars of speed against the kernel's, more is better; longer ones are cut and say their number."""
    rows = {r['row']: r for r in result['rows']}
    left, width, high, y, parts = 170, 480, 11, 64, []
    at = lambda x: left + width * min(x, SCALE_MAX) / SCALE_MAX
    for name, text in SHOWN:
        bars = [(s, bar(rows[name], s)) for s in COLOURS if name in rows and bar(rows[name], s)]
        if not bars:
            continue
        parts.append(f'<text class="e" x="{left - 8}" y="{y + (len(bars) * high) / 2 + 4:.0f}">{text}</text>')
        for s, x in bars:
            parts.append(f'<rect x="{left}" y="{y}" width="{at(x) - left:.1f}" height="{high - 2}" fill="{COLOURS[s]}"/>'
                         f'<text class="s" x="{at(x) + 4:.1f}" y="{y + 8}">{x:.2f}</text>')
            y += high
        y += 9
    grid = [f'<line class="{"k" if x == 1 else "g"}" x1="{at(x):.1f}" x2="{at(x):.1f}" y1="58" y2="{y - 4}"/>' for x in (0, 0.5, 1, 1.5, 2)]
    grid += [f'<text class="s" style="text-anchor:middle" x="{at(x):.1f}" y="{y + 8}">{"kernel" if x == 1 else x}</text>' for x in (0, 0.5, 1, 1.5, 2)]
    legend, x = [], left
    for s, colour in COLOURS.items():
        name = 'bare TAP' if s == 'tap' else 'lwIP' if s == 'lwip' else s
        legend.append(f'<rect x="{x}" y="36" width="10" height="10" fill="{colour}"/><text x="{x + 14}" y="45">{name}</text>')
        x += 28 + 7 * len(name)
    head = 'Speed against the kernel over a veth, in the same run (more is better)'
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 50} {y + 34}" width="{left + width + 50}" height="{y + 34}" role="img">'
           f'<title>{head}</title>{STYLE}<text class="h" x="16" y="20">{head}</text>' + ''.join(legend + grid + parts)
           + f'<text class="s" x="16" y="{y + 26}">{result["machine"]}; {result["when"][:10]}, medians of {result["rounds"]} rounds</text></svg>\n')
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        f.write(svg)
    print(f'drawn: {path}')
