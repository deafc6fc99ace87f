#!/usr/bin/env python3
"""Checks the layering of src/: includes point down, and what only main() may do stays out of the rooms below it.

    tools/check_includes.py [TOP]        prints one line for each violation; exit status 1 when there is any
    tools/check_includes.py --self-test  shows on a made-up tree that each rule finds what it is for

- A file includes from its own room and from rooms earlier in ROOMS.
- src/cli and src/server include rocmforge.h, src/base and text's JSON; nothing else of ours, but cli includes server.
- rocmforge.h is for api, cli and server only.
- The GPU's kernels include simt.h where the host plays the device (tests/simt).
- Below cli and server: no printing, no exit, no abort. Memory comes from base/mem.h, so malloc and its kin stand there only.
"""
import pathlib
import re
import sys
import tempfile

ROOMS = "base quant gguf text kv sample graph backend model exec sched context convert api".split()
EDGE = ("cli", "server")  # speak to the library through its public header
PUBLIC = "rocmforge.h"
TALK = "printf vprintf puts putchar perror stdout stderr exit _exit _Exit quick_exit abort".split()
HEAP = "malloc calloc realloc free strdup strndup aligned_alloc posix_memalign asprintf getline".split()
KERNELS, PLAYED = "src/backend/gpu/kernels/", "tests/simt/simt.h"
MAY_TALK = {"src/base/log.c"}
MAY_ALLOC = {"src/base/mem.c", "src/base/mem.h"}

COMMENT_OR_TEXT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.M)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def blank(match):
    """A comment or string becomes as many line ends as it held, so that line numbers stay."""
    return "\n" * match.group().count("\n") + " "


def resolve(top, path, name):
    """The file an #include names, relative to `top`, or None: beside the file, then src/, then include/."""
    for folder in (path.parent, top / "src", top / "include"):
        found = (folder / name).resolve()
        if found.is_file() and top in found.parents:
            return found.relative_to(top).as_posix()
    return None


def may_include(room, target):
    parts = target.split("/")
    if parts[0] == "include":
        return room in EDGE or room == "api"
    if parts[0] != "src" or len(parts) < 3:
        return False
    if parts[1] == room or parts[1] == "base":
        return True
    if room == "cli" and parts[1] == "server":
        return True  # serve starts it
    if room in EDGE:
        return parts[1] == "text" and parts[2].startswith("json")
    return parts[1] in ROOMS and ROOMS.index(parts[1]) < ROOMS.index(room)


def check_includes(top, path, room, text):
    for match in INCLUDE.finditer(COMMENT.sub(blank, text)):
        name, where = match.group(1), resolve(top, path, match.group(1))
        if path.relative_to(top).as_posix().startswith(KERNELS) and PLAYED.endswith(f"/{name}"):
            continue
        if where is None:
            yield match.start(), f'includes "{name}", which is not a file of this project'
        elif not may_include(room, where):
            yield match.start(), f'{room} may not include "{name}": it points up (order: {" ".join(ROOMS)})'


def check_words(short, room, text):
    forbidden = [] if room in EDGE or short in MAY_TALK else [(w, "only main() may print or end the program") for w in TALK]
    forbidden += [] if room in EDGE or short in MAY_ALLOC else [(w, "memory comes from base/mem.h") for w in HEAP]
    bare = COMMENT_OR_TEXT.sub(blank, text)
    for word, why in forbidden:
        form = rf"(?<![\w.>]){word}\b" if word in ("stdout", "stderr") else rf"(?<![\w.>]){word}[ \t]*\("
        for match in re.finditer(form, bare):
            yield bare.count("\n", 0, match.start()) + 1, f"{word}: {why}"


def check_file(top, path):
    short = path.relative_to(top).as_posix()
    room = short.split("/")[1]
    text = path.read_text(errors="replace")
    if room not in ROOMS and room not in EDGE:
        return [f"{short}: src/{room} is not a room of the design"]
    bare = COMMENT.sub(blank, text)
    found = [f"{short}:{bare.count(chr(10), 0, at) + 1}: {why}" for at, why in check_includes(top, path, room, text)]
    return found + [f"{short}:{line}: {why}" for line, why in check_words(short, room, text)]


def check_tree(top):
    top = pathlib.Path(top).resolve()
    files = sorted(p for p in (top / "src").rglob("*") if p.suffix in (".c", ".h", ".hip"))
    return [line for path in files for line in check_file(top, path)]


SELF_TEST = {  # file: (its text, a part of each complaint expected)
    "include/rocmforge.h": ("int rf;\n", []),
    "src/base/mem.c": ("void *a(void) { return malloc(1); }\n", []),
    "src/base/err.h": ("/* malloc( printf( in a comment */\nconst char *s = \"abort()\";\n", []),
    "src/base/up.c": ('#include "quant/quant.h"\n', ["up.c:1: base may not include"]),
    "src/base/talk.c": ('int f(void) {\n    printf("x");\n    fputs("", stderr);\n}\n', ["talk.c:2: printf", "talk.c:3: stderr"]),
    "src/quant/quant.h": ('#include "base/err.h"\n#include <stdio.h>\n', []),
    "src/quant/end.c": ("/* two\n lines */ void f(void) { exit(1); }\n", ["end.c:2: exit"]),
    "src/gguf/gone.c": ('#include "nowhere.h"\n', ["gone.c:1: includes"]),
    "src/text/json.h": ("", []),
    "src/text/vocab.h": ('// #include "graph/graph.h"\nint my_free(void), x_exit(void);\n', []),
    "src/backend/cpu/near.h": ("", []),
    "src/backend/cpu/k.c": ('#include "near.h"\n#include "quant/quant.h"\nvoid f(p *q) { q->free(q), q->abort(q); }\n', []),
    "src/backend/cpu/top.c": ('#include "rocmforge.h"\n', ["top.c:1: backend may not include"]),
    "src/backend/gpu/kernels/k.hip": ('#include "simt.h"\n#include "near.h"\n', ["k.hip:2: includes"]),
    "src/api/rf.c": ('#include "rocmforge.h"\n#include "backend/cpu/near.h"\n', []),
    "src/cli/main.c": ('#include "rocmforge.h"\n#include "text/json.h"\nint main(void) { printf("x"); }\n', []),
    "src/cli/deep.c": ('#include "text/vocab.h"\nvoid *p(void) { return calloc(1, 1); }\n', ["deep.c:1: cli may not include"]),
    "src/kv/heap.c": ("void *p(void) { return calloc(1, 1); }\n", ["heap.c:1: calloc"]),
    "src/attic/x.c": ("", ["src/attic is not a room"]),
}


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder)
        for name, (text, _) in SELF_TEST.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text)
        found = check_tree(top)
    wanted = [part for _, parts in SELF_TEST.values() for part in parts]
    missed = [part for part in wanted if not any(part in line for line in found)]
    return [f"self-test: not found: {part}" for part in missed] + [
        f"self-test: wrongly found: {line}" for line in found if not any(part in line for part in wanted)]


def main():
    args = sys.argv[1:]
    here = pathlib.Path(__file__).resolve().parents[1]
    problems = self_test() if args == ["--self-test"] else check_tree(args[0] if args else here)
    print("\n".join(problems), end="\n" if problems else "")
    sys.exit(1 if problems else 0)


main()
