"""Checks of the source as text: includes, format, headers that stand alone, the printed error table, file sizes."""
import pathlib
import subprocess
import sys

from stages import Counts

FOLDERS = ("include", "src", "tests", "fuzz", "bench", "examples", "tools")
LONG_FILE = 800  # lines: look for the seam (generated tables, *_table*.c and *_data.c, apart)


def sources(top, *suffixes):
    return sorted(p for folder in FOLDERS for p in (top / folder).rglob("*") if p.suffix in suffixes and p.is_file())


def run(log, top, out):
    out.mkdir(exist_ok=True)
    counts = Counts()
    for name in ("check_includes.py", "check_includes.py --self-test", "errors_doc.py --check docs/errors.md"):
        status = log.call([sys.executable, *f"tools/{name}".split()], cwd=top)
        counts.ok(name, status == 0, log.tail(1))
    status = log.call(["clang-format-14", "--dry-run", "-Werror", *sources(top, ".c", ".h")], cwd=top)
    counts.ok("clang-format", status == 0, "run clang-format-14 -i on the files named in the log")
    headers_stand_alone(log, top, counts)
    for path in sources(top, ".c", ".h", ".py"):
        n_lines = path.read_bytes().count(b"\n")
        if n_lines > LONG_FILE and not any(word in path.stem for word in ("table", "data", "generated")):
            print(f"    warning: {path.relative_to(top)} has {n_lines} lines; look for a seam", flush=True)
    return counts


def headers_stand_alone(log, top, counts):
    flags = ["-std=c17", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-Iinclude", "-Isrc", "-fsyntax-only", "-xc"]
    libraries = subprocess.run(["pkg-config", "--cflags", "jansson"], capture_output=True, text=True).stdout.split()
    bad = []
    for path in sources(top, ".h"):
        isa = [f"-m{word}" for word in ("avx2", "fma")] if "x86" in pathlib.Path(path).parts else []
        isa += ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"] if "512" in path.stem else []
        if log.call(["gcc", *flags, *isa, *libraries, "-include", path, "/dev/null"], cwd=top):
            bad.append(str(path.relative_to(top)))
    counts.ok("headers compile alone", not bad, ", ".join(bad))
