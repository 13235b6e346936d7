#!/usr/bin/env python3
"""The README's feature tables tell the truth as far as a program can say: each yes names tests, and they exist.

`FILE/NAME` is a function NAME (or test_NAME) of tests/**/FILE_test.c or tests/**/FILE.c; `system-FILE/NAME` is test_NAME of
tests/system/test_FILE.py; `pkt FOLDER/NAME` is tests/packetdrill/scripts/FOLDER/NAME.pkt. Usage: readme.py [ROOT]; --self-test shows that mistakes are found.
"""
import pathlib
import re
import sys

ROW = re.compile(r"^\| (?P<feature>[^|]+) \| (?P<verdict>yes|no) \| (?P<proof>[^|]*)\|\s*$", re.M)
NAME = re.compile(r"`([^`]+)`")


def sources(root, name):
    """The files that a test's file part may mean."""
    if name.startswith("system-"):
        return [root / "tests/system" / ("test_%s.py" % name[7:])]
    return [p for pattern in ("%s_test.c", "*_%s_test.c", "%s.c", "%s.py") for p in (root / "tests").rglob(pattern % name)]


def exists(root, proof):
    if proof.startswith("pkt "):
        return (root / "tests/packetdrill/scripts" / (proof[4:] + ".pkt")).exists()
    name, _, function = proof.partition("/")
    word = re.compile(r"\b(test_)?%s\b" % re.escape(function))
    return bool(function) and any(p.exists() and word.search(p.read_text()) for p in sources(root, name))


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
    good = "| a | yes | `walls/check_includes` |\n"
    rows = "| filler | no | |\n" * 30
    cases = [("| a | yes | |\n", "without a test"), ("| a | yes | `walls/no_such_function_here` |\n", "no such test"),
             ("| a | yes | `nowhere/x` |\n", "no such test"), ("| a | yes | `pkt no/script` |\n", "no such test")]
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
