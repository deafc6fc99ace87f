#!/usr/bin/env python3
"""Makes docs/gpu-proof.md from what the kernel check programs (tests/gpu/check_*.c) print, wherever they ran.

    tools/gpu_proof.py LOG... > docs/gpu-proof.md

A log may hold anything else; of a kernel told of twice for one target, the last line counts.
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
NVIDIA H200 (2026-11-21), long form, attention short. No cell: not run, or the emulator could not (docs/testing.md names what).
attention_split means its kernels with 4 and 8 heads and wide, and attention_merge; sample_pick: all four of sampling.
attention_split is wrong on the emulated gfx1100 with quantised caches alone; not yet explained for certain: the emulator is wrong about
a pair of instructions that the kernel has: its ds_load_u16_d16 after
ds_load_u16_d16_hi loses the upper half, which the ISA guide says is preserved.
Made by tools/gpu_proof.py.
"""


def read(paths):
    cells = {}
    for path in paths:
        with open(path, errors="replace") as file:
            for found in filter(None, map(LINE.search, file)):
                kernel, target, cases, wrong, worst = found.groups()
                cells.setdefault(kernel, {})[target] = cases if wrong == "0" else f"{cases}: **{wrong} wrong, by {worst}**"
    return cells


def main():
    cells = read(sys.argv[1:])
    print(TEXT)
    print("| kernel | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for kernel in sorted(cells):
        print(f"| {kernel} | " + " | ".join(cells[kernel].get(c, "") for c in COLUMNS) + " |")


main()
