#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""The walls between the rooms of src/, as a test.

  includes   a room includes only the rooms and headers it may (docs/architecture.md), and the rooms below
             the daemon only those libc headers that need no system
  purity     the archives of those rooms reference nothing but each other, memory, string and format
             functions, and hold no writable data ("no global": a restarted worker would lose it)
  functions  none is longer than 80 lines
  comments   every .c file opens with its theory of operation, three lines at least

Usage: walls.py BUILD_DIR [SOURCE_ROOT]     check the tree
       walls.py --self-test                 show that each check can go red, in a temporary tree
"""
import os
import re
import subprocess
import sys
import tempfile

MAX_FUNCTION_LINES = 80
MIN_COMMENT_LINES = 3

TCP_PUBLIC = ['tcp/tcp.h', 'tcp/tcp_config.h', 'tcp/tcp_enums.h', 'tcp/tcp_record.h', 'tcp/tcp_info.h',
              'tcp/tcp_events.h', 'tcp/tcp_trace.h']

# Room -> what it may include beside itself: "room/" for a whole room, otherwise a header.
MAY_INCLUDE = {
    'base': [],
    'wire': ['base/'],
    'cc': ['base/'],
    'tcp': ['base/', 'wire/tcp.h', 'cc/'],
    'trace': ['base/', 'wire/', 'tcp/tcp_events.h', 'tcp/tcp_enums.h', 'tcp/tcp_config.h'],
    'sock': ['base/'] + TCP_PUBLIC,
    'stack': ['base/', 'wire/', 'sock/sock.h'] + TCP_PUBLIC,
    'daemon': ['trace/trace.h', 'trace/export.h', 'base/', 'stack/stack.h', 'sock/sock.h'] + TCP_PUBLIC,
    'client': [],
    'cli': ['client/taut.h', 'trace/trace.h', 'trace/export.h', 'trace/plot.h', 'trace/explain.h'],
    'web': ['client/taut.h', 'trace/trace.h', 'trace/plot.h'],
}

# Rooms below the daemon, pure; and those whose symbols each may need (through headers of headers too).
PURE_LINKS = {
    'base': {'base'},
    'wire': {'base', 'wire'},
    'cc': {'base', 'cc'},
    'tcp': {'base', 'wire', 'cc', 'tcp'},
    'trace': {'base', 'wire', 'cc', 'tcp', 'trace'},
    'sock': {'base', 'wire', 'cc', 'tcp', 'sock'},
    'stack': {'base', 'wire', 'cc', 'tcp', 'sock', 'stack'},
}

# stdio.h is for snprintf, errno.h for the numbers: the purity check catches the rest.
PURE_LIBC = {h + '.h' for h in (
    'stddef stdint stdbool string stdlib stdarg stdio assert errno limits inttypes stdalign').split()}

# Private to the tcp room and its unit tests.
TCP_PRIVATE = 'tcp/tcp_priv.h'

PURE_SYMBOLS = re.compile(r'''^(?:
    mem(?:cpy|move|set|cmp|chr|rchr|mem) | bcmp | mempcpy
  | str(?:len|nlen|cmp|ncmp|casecmp|ncasecmp|chr|rchr|cpy|ncpy|str|spn|cspn|pbrk) | stpcpy | stpncpy
  | snprintf | vsnprintf
  | malloc | calloc | realloc | reallocarray | free | aligned_alloc
  | qsort | bsearch | abort
  | __(?:mem(?:cpy|move|set)|mempcpy|str(?:cpy|ncpy)|stpcpy|stpncpy|snprintf|vsnprintf)_chk
  | __assert_fail | __stack_chk_fail | __stack_chk_guard | _GLOBAL_OFFSET_TABLE_
  | __(?:asan|ubsan|lsan|msan|tsan|sanitizer|sancov|gcov|llvm_profile|llvm_gcov)_\w+
  | __(?:start|stop)___sanc\w+
)$''', re.X)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def sources(root, top, suffixes=('.c', '.h')):
    """(room, path relative to root) of every file below root/top."""
    found = []
    for folder, folders, names in os.walk(os.path.join(root, top)):
        folders.sort()
        for name in sorted(names):
            if name.endswith(suffixes):
                path = os.path.relpath(os.path.join(folder, name), root)
                parts = os.path.relpath(path, top).split(os.sep)
                found.append((parts[0] if len(parts) > 1 else '', path))
    return found


def read_lines(root, path):
    with open(os.path.join(root, path), encoding='utf-8') as f:
        return f.read().split('\n')


def includes(root, path):
    """(line number, quoted?, header) of every #include."""
    for number, line in enumerate(read_lines(root, path), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def why_not_include(room, quoted, header):
    """None if `room` may include the header, otherwise the reason."""
    if not quoted:
        if header.split('/')[0] in MAY_INCLUDE and '/' in header:
            return 'our own headers are included with quotes'
        if room in PURE_LINKS and header not in PURE_LIBC:
            return 'not a libc header free of system calls'
        return None
    if header.split('/')[0] not in MAY_INCLUDE or '/' not in header or '..' in header:
        return 'name it by room: "room/header.h"'
    if header.startswith(room + '/') or header in MAY_INCLUDE[room]:
        return None
    if header.split('/')[0] + '/' in MAY_INCLUDE[room]:
        return None
    return 'the room %s may not include it' % room


def check_includes(root):
    errors = []
    for room, path in sources(root, 'src'):
        if room not in MAY_INCLUDE:
            errors.append('%s: no such room: %r' % (path, room))
            continue
        for number, quoted, header in includes(root, path):
            reason = why_not_include(room, quoted, header)
            if reason:
                errors.append('%s:%d: %s: %s' % (path, number, header, reason))
    unit_tcp = os.path.join('tests', 'unit', 'tcp') + os.sep
    for _, path in sources(root, 'tests'):
        for number, _, header in includes(root, path):
            private = os.path.basename(header) == os.path.basename(TCP_PRIVATE)
            if private and not path.startswith(unit_tcp):
                errors.append('%s:%d: %s: private to src/tcp and tests/unit/tcp' % (path, number, header))
    return errors


def symbols(archive):
    """(defined, undefined, writable data) of an archive, by nm."""
    out = subprocess.run(['nm', '--format=sysv', archive], check=True, capture_output=True, text=True).stdout
    defined, undefined, writable = set(), set(), set()
    for line in out.split('\n'):
        fields = [field.strip() for field in line.split('|')]
        if len(fields) != 7:
            continue
        name, kind, section = fields[0], fields[2], fields[6]
        if kind in 'Uvw' and section == '*UND*':
            undefined.add(name)
            continue
        if kind.isupper() or kind in 'uvw':
            defined.add(name)
        in_memory = re.match(r'(\.data|\.bss|\.tdata|\.tbss|\*COM\*)(?!\.rel\.ro)', section)
        if in_memory and fields[3] in ('OBJECT', 'TLS'):
            writable.add(name)
    return defined, undefined, writable


def check_purity(build):
    errors, table = [], {}
    for room in PURE_LINKS:
        archive = os.path.join(build, 'src', room, 'lib%s.a' % room)
        if os.path.exists(archive):
            table[room] = symbols(archive)
        else:
            print('walls: skipped: src/%s has no archive yet' % room)
    for room, (_, undefined, writable) in table.items():
        known = set().union(*(table[r][0] for r in PURE_LINKS[room] if r in table))
        for name in sorted(undefined - known):
            if not PURE_SYMBOLS.match(name):
                errors.append('lib%s.a references %s' % (room, name))
        # Instrumented builds have writable data of their own.
        if any(re.match(r'__(asan|ubsan|tsan|msan|gcov|sanitizer|llvm)_', name) for name in undefined):
            continue
        for name in sorted(writable):
            errors.append('lib%s.a holds the writable variable %s' % (room, name))
    return errors


def check_functions(root):
    errors = []
    for _, path in sources(root, 'src'):
        start = None
        lines = read_lines(root, path)
        for number, line in enumerate(lines, 1):
            if line.rstrip() == '{':
                start = number
            elif start is not None and line.startswith('}'):
                length = number - start - 1
                if length > MAX_FUNCTION_LINES:
                    head = next((l for l in reversed(lines[:start - 1]) if l and not l[0].isspace()), '?')
                    errors.append('%s:%d: %d lines: %s' % (path, start, length, head))
                start = None
    return errors


def check_comments(root):
    errors = []
    for _, path in sources(root, 'src', ('.c',)):
        lines = read_lines(root, path)
        end = next((number for number, line in enumerate(lines, 1) if '*/' in line), 0)
        if not lines[0].startswith('/*') or end < MIN_COMMENT_LINES:
            errors.append('%s:1: opens without a comment of %d lines or more' % (path, MIN_COMMENT_LINES))
    return errors


def check_tree(root, build):
    checks = [('includes', check_includes(root)), ('purity', check_purity(build)),
              ('functions', check_functions(root)), ('comments', check_comments(root))]
    for name, errors in checks:
        print('walls: %-9s %s' % (name, 'ok' if not errors else '%d violations' % len(errors)))
        for error in errors:
            print('  ' + error)
    return not any(errors for _, errors in checks)


COMMENT = '/*\n * What it is for.\n */\n'


def write(root, path, text):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, 'w', encoding='utf-8') as f:
        f.write(text)


def archive(root, room, source):
    """Compiles `source` into the archive that a build of the room would have made."""
    folder = os.path.join(root, 'build', 'src', room)
    os.makedirs(folder, exist_ok=True)
    write(folder, 'x.c', source)
    obj, lib = os.path.join(folder, 'x.o'), os.path.join(folder, 'lib%s.a' % room)
    subprocess.run(['cc', '-w', '-O0', '-c', os.path.join(folder, 'x.c'), '-o', obj], check=True)
    if os.path.exists(lib):
        os.remove(lib)
    subprocess.run(['ar', 'rcs', lib, obj], check=True)


# Each case: the check, whether it must be red, and the line that makes it so.
INCLUDE_CASES = [
    (False, 'src/wire/a.c', '#include "base/list.h"'),
    (True, 'src/base/a.c', '#include "wire/tcp.h"'),
    (True, 'src/wire/a.c', '#include "tcp/tcp.h"'),
    (True, 'src/cc/a.c', '#include "wire/tcp.h"'),
    (False, 'src/tcp/a.c', '#include "wire/tcp.h"'),
    (True, 'src/tcp/a.c', '#include "wire/ip4.h"'),
    (True, 'src/tcp/a.c', '#include "sock/sock.h"'),
    (False, 'src/tcp/a.c', '#include "tcp/tcp_priv.h"'),
    (False, 'src/sock/a.c', '#include "tcp/tcp_info.h"'),
    (True, 'src/sock/a.c', '#include "tcp/tcp_priv.h"'),
    (True, 'src/sock/a.c', '#include "wire/tcp.h"'),
    (False, 'src/stack/a.h', '#include "sock/sock.h"'),
    (True, 'src/stack/a.h', '  #  include "sock/sock_priv.h"'),
    (True, 'src/stack/a.c', '#include "daemon/loop.h"'),
    (True, 'src/daemon/a.c', '#include "wire/tcp.h"'),
    (True, 'src/daemon/a.c', '#include "stack/neigh.h"'),
    (True, 'src/client/a.c', '#include "base/list.h"'),
    (False, 'src/cli/a.c', '#include "client/taut.h"'),
    (True, 'src/cli/a.c', '#include "client/rpc.h"'),
    (True, 'src/web/a.c', '#include "stack/stack.h"'),
    (True, 'src/base/a.c', '#include "list.h"'),
    (True, 'src/tcp/a.c', '#include "tcp/../sock/sock.h"'),
    (True, 'src/base/a.c', '#include <base/list.h>'),
    (True, 'src/attic/a.c', ''),
    (False, 'src/tcp/a.c', '#include <errno.h>'),
    (True, 'src/base/a.c', '#include <unistd.h>'),
    (True, 'src/stack/a.c', '#include <sys/socket.h>'),
    (True, 'src/tcp/a.h', '#include <time.h>'),
    (True, 'src/sock/a.c', '#include <pthread.h>'),
    (False, 'src/daemon/a.c', '#include <ev.h>'),
    (False, 'tests/unit/tcp/a.c', '#include "tcp/tcp_priv.h"'),
    (True, 'tests/unit/sock/a.c', '#include "tcp/tcp_priv.h"'),
    (True, 'tests/sim/a.c', '#include "tcp/tcp_priv.h"'),
]

PURITY_CASES = [
    (False, 'tcp', '#include <string.h>\nint f(const char *s) { return (int)strlen(s); }'),
    (False, 'tcp', 'int base_f(void);\nint f(void) { return base_f(); }'),
    (False, 'tcp', 'static const char *const names[] = {"a"};\nconst char *f(int i) { return names[i]; }'),
    (True, 'tcp', 'long f(void) { extern long time(long *); return time(0); }'),
    (True, 'tcp', 'int f(void) { extern int puts(const char *); return puts(""); }'),
    (True, 'tcp', 'int f(void) { extern int sock_f(void); return sock_f(); }'),
    (True, 'tcp', 'int counter = 1;'),
    (True, 'tcp', 'int f(void) { static int calls; return ++calls; }'),
    (True, 'wire', 'int f(void) { extern int getpid(void); return getpid(); }'),
]


def expect(red, errors, what):
    if bool(errors) != red:
        print('self-test: %s: expected %s, got %s' % (what, 'red' if red else 'green', errors))
        return 1
    return 0


def self_test():
    failed = 0
    for red, path, line in INCLUDE_CASES:
        with tempfile.TemporaryDirectory() as root:
            write(root, path, COMMENT + line + '\n')
            failed += expect(red, check_includes(root), '%s: %s' % (path, line))
    for red, room, source in PURITY_CASES:
        with tempfile.TemporaryDirectory() as root:
            archive(root, 'base', 'int base_f(void) { return 1; }')
            archive(root, 'sock', 'int sock_f(void) { return 1; }')
            archive(root, room, source)
            failed += expect(red, check_purity(os.path.join(root, 'build')), source)
    for lines in (MAX_FUNCTION_LINES, MAX_FUNCTION_LINES + 1):
        with tempfile.TemporaryDirectory() as root:
            body = '    g();\n' * lines
            table = 'static const int t[] = {\n    1,\n};\n\n'
            write(root, 'src/tcp/a.c', COMMENT + table + 'void f(void)\n{\n' + body + '}\n')
            failed += expect(lines > MAX_FUNCTION_LINES, check_functions(root), '%d lines' % lines)
    for red, text in ((False, COMMENT), (True, 'int x;\n' + COMMENT), (True, '/* short\n */\n'), (True, '')):
        with tempfile.TemporaryDirectory() as root:
            write(root, 'src/tcp/a.c', text)
            failed += expect(red, check_comments(root), repr(text))
    print('self-test: %s' % ('ok' if not failed else '%d failed' % failed))
    return failed == 0


def main(args):
    if args == ['--self-test']:
        return self_test()
    if len(args) not in (1, 2):
        print(__doc__)
        return False
    here = os.path.dirname(os.path.abspath(__file__))
    return check_tree(args[1] if len(args) == 2 else os.path.join(here, '..', '..'), args[0])


if __name__ == '__main__':
    sys.exit(0 if main(sys.argv[1:]) else 1)
