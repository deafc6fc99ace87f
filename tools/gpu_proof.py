#!/usr/bin/env python3
"""Makes docs/gpu-proof.md from what the kernel check programs (tests/gpu/check_*.c) print, wherever they ran.

    tools/gpu_proof.py [docs/gpu-proof.md] LOG... > new.md

A log may hold anything else; of a kernel told of twice for one target, the last line counts. The document itself, given first,
keeps the cells of targets that were not run anew.
"""
import re
import sys

LINE = re.compile(r"(?:^|\s)([a-z]\w*(?:, both forms|, in place)?) \| (\w+) \| (\d+) cases \| (\d+) wrong \| max error (\S+)$")
COLUMNS = {"host32": "host, waves of 32", "host64": "host, waves of 64", "gfx1100": "gfx1100", "gfx1201": "gfx1201", "gfx942": "gfx942",
           "sm_80": "sm_80 on H200"}
TEXT = """# The GPU kernels' numbers against the CPU's

Cases of each kernel, equal to the CPU's reference bit for bit (NaN equals NaN) unless the cell says how many values were wrong and
the greatest difference. host: the kernel's source on the interpreter (tests/simt). gfx*: the code object that ships, in the emulator
of AMD's instruction set, short form (`./runtests --only "gpu emulator"`); never on AMD hardware. sm_80: the PTX that ships, on an
NVIDIA H200 (2026-11-21), long form, attention short. No cell: not run. attention_split means its kernels with 4 and 8 heads and
wide, and attention_merge; sample_pick: all four of sampling. What the emulator itself does wrongly, and how that was told from the
kernels' faults, stands in docs/testing.md.
Made by tools/gpu_proof.py.
"""


def read(paths):
    cells = {}
    for path in paths:
        if path.endswith(".md"):
            cells = read_table(path)
            continue
        with open(path, errors="replace") as file:
            for found in filter(None, map(LINE.search, file)):
                kernel, target, cases, wrong, worst = found.groups()
                cells.setdefault(kernel, {})[target] = cases if wrong == "0" else f"{cases}: **{wrong} wrong, by {worst}**"
    return cells


def read_table(path):
    with open(path) as file:
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in file if line.startswith("| ") and "| kernel |" not in line]
    return {kernel: {c: cell for c, cell in zip(COLUMNS, row) if cell} for kernel, *row in rows}


def main():
    cells = read(sys.argv[1:])
    print(TEXT)
    print("| kernel | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for kernel in sorted(cells):
        print(f"| {kernel} | " + " | ".join(cells[kernel].get(c, "") for c in COLUMNS) + " |")


main()
