#!/usr/bin/env python3
"""Prints docs/errors.md from ERR_TABLE of src/base/err.h.   tools/errors_doc.py > docs/errors.md
--check FILE: says whether FILE is what would be printed (exit status 1 when not)."""
import pathlib
import re
import sys

TABLE = pathlib.Path(__file__).resolve().parents[1] / "src" / "base" / "err.h"
ROW = re.compile(r'X\((ERR_\w+),\s*"([^"]+)",\s*"(\w+)",\s*(\d+),\s*(true|false),\s*"([^"]*)"\)')
HEAD = """# Error codes

Printed from `ERR_TABLE` in src/base/err.h by `tools/errors_doc.py > docs/errors.md`; the test run checks that it is current.
A code is stable. On the command line an error is one line on standard error, `rocmforge: error[code]: what, where, and what to do`.
Retry: whether the same request may succeed later. HTTP: the status a server answers with.

| code | category | HTTP | retry | meaning |
|-|-|-|-|-|
"""


def document(text):
    body = re.sub(r"\\\n\s*", "", text[text.index("#define ERR_TABLE"):])
    body = body[:body.index("\n")]
    rows = ROW.findall(body)
    if len(rows) != body.count("X(ERR_") or not rows:
        sys.exit("errors_doc.py: a row of ERR_TABLE is not in the expected form")
    return HEAD + "".join(f"| `{code}` | {cat} | {http} | {'yes' if retry == 'true' else 'no'} | {text} |\n"
                          for _, code, cat, http, retry, text in rows)


def main():
    text = document(TABLE.read_text())
    if sys.argv[1:2] != ["--check"]:
        sys.stdout.write(text)
    elif pathlib.Path(sys.argv[2]).read_text() != text:
        sys.exit(f"errors_doc.py: {sys.argv[2]} is not current: tools/errors_doc.py > {sys.argv[2]}")


main()
