#!/usr/bin/env python3
"""The README's feature tables tell the truth as far as a program can say: each yes names tests, and they exist.

`FILE/NAME` is NAME or test_NAME, handed to cmocka by tests/**/FILE_test.c (or ROOM_FILE_test.c);
`system-FILE/NAME` is test_NAME of tests/system/test_FILE.py; `pkt FOLDER/NAME` is
tests/packetdrill/scripts/FOLDER/NAME.pkt; anything else is the whole name of a test of meson's. A function that no test
runner calls proves nothing and is no test. Usage: readme.py; --self-test shows that mistakes are found.
"""
import pathlib
import re
import sys

ROW = re.compile(r"^\| (?P<feature>[^|]+) \| (?P<verdict>yes|no) \| (?P<proof>[^|]*)\|\s*$", re.M)
NAME = re.compile(r"`([^`]+)`")


def cmocka_tests(root, name):
    """What the test programs that `name` may mean hand to cmocka."""
    names = set()
    for path in (root / "tests").rglob("*_test.c"):
        if path.name == name + "_test.c" or path.name.endswith("_%s_test.c" % name):
            text = path.read_text()
            calls = re.findall(r"#define (\w+)\(\w+\) *cmocka_unit_test", text) + [r"cmocka_unit_test\w*"]
            names |= set(re.findall(r"\b(?:%s)\(\s*(\w+)" % "|".join(calls), text))
    return names


def system_tests(root, name):
    path = root / "tests/system" / ("test_%s.py" % name)
    return set(re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)) if path.exists() else set()


def meson_tests(root):
    test = re.compile(r"^\s*test\('([^']+)',", re.M)
    return {name for path in (root / "tests").rglob("meson.build") for name in test.findall(path.read_text())}


def exists(root, proof):
    if proof.startswith("pkt "):
        return (root / "tests/packetdrill/scripts" / (proof[4:] + ".pkt")).exists()
    name, slash, function = proof.partition("/")
    if not slash:
        return proof in meson_tests(root)
    if name.startswith("system-"):
        return "test_" + function in system_tests(root, name[7:])
    return bool({function, "test_" + function} & cmocka_tests(root, name))


def mistakes(root, text):
    rows = list(ROW.finditer(text))
    if len(rows) < 30:
        yield "only %d feature rows found: has the table's form changed?" % len(rows)
    for row in rows:
        names = NAME.findall(row["proof"])
        if row["verdict"] == "yes" and not names:
            yield "%s: yes without a test" % row["feature"].strip()
        if row["verdict"] == "yes":
            for name in names:
                if not exists(root, name):
                    yield "%s: no such test: %s" % (row["feature"].strip(), name)


def self_test(root):
    good = "| a | yes | `walls` `trace_open/simultaneous_open` `system-link/ping4` `pkt handshake/refused` `sim seeds` |\n"
    rows = "| filler | no | |\n" * 30
    cases = [("| a | yes | |\n", "without a test"), ("| a | yes | `trace_open/no_such_function_here` |\n", "no such test"),
             ("| a | yes | `nowhere/x` |\n", "no such test"), ("| a | yes | `pkt no/script` |\n", "no such test"),
             ("| a | yes | `walls/check_includes` |\n", "no such test"),  # a function of a test, no test
             ("| a | yes | `watch/announces` |\n", "no such test"), ("| a | yes | `trace_open/main` |\n", "no such test"),
             ("| a | yes | `trace_buffers/in_f` |\n", "no such test"), ("| a | yes | `system-ss/check` |\n", "no such test"),
             ("| a | yes | `seeds` |\n", "no such test")]
    if list(mistakes(root, rows + good)):
        print("self-test: tests that are there were not found: %s" % list(mistakes(root, rows + good)))
        return 1
    for text, expected in cases:
        found = list(mistakes(root, rows + text))
        if not any(expected in line for line in found):
            print("self-test: %r was not found in %r" % (expected, found))
            return 1
    if not list(mistakes(root, good)):
        print("self-test: a table that vanished was not noticed")
        return 1
    return 0


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    if "--self-test" in sys.argv:
        return self_test(root)
    found = list(mistakes(root, (root / "README.md").read_text()))
    for line in found:
        print("README.md: " + line)
    return 1 if found else 0


sys.exit(main())
