#!/usr/bin/env python3
"""What the GPU's kernels cost, read from the code objects: no device is needed.

    tools/gpu_static.py --cache DIR            compares with the kept table, tests/gpu/static.json; exit status 1 when worse
    tools/gpu_static.py --cache DIR --update   writes that table anew, and docs/gpu-kernels.md from it

The code objects are those of tools/gpu_kernels.py, in its cache. Registers, LDS and spills are the compiler's own notes
(llvm-readobj); the rest is counted in the disassembly (llvm-objdump), in a kernel's main loop (main_loop says which that is;
a loop inside it counts once, for how often it runs cannot be read). Sources of the rules: LLVM's AMDGPU usage
guide (registers of each target, waits), ROCm's tables of the instinct and radeon parts (LDS, SIMDs).
"""
import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import gpu_kernels

TOP = gpu_kernels.TOP
TABLE, PAGE = TOP / "tests/gpu/static.json", TOP / "docs/gpu-kernels.md"

# ------------------------------------------------------------------ what is measured

# One row: a kernel on a target. A field that does not apply is None.
FIELDS = {
    "vgpr": "vector registers of a lane (on gfx90a and later with the accumulation registers)",
    "sgpr": "scalar registers",
    "lds": "bytes of shared memory of a block",
    "scratch": "bytes of scratch memory of a lane: spills, and arrays that are not in registers (PTX: local memory before the driver's work)",
    "spills": "vector registers spilled: to scratch, or to accumulation registers where there are such",
    "sgpr_spills": "scalar registers spilled: to lanes of vector registers",
    "waves": "waves that fit on a SIMD, by registers and, for full blocks, by LDS",
    "loop": "instructions of the main loop",
    "valu": "of them vector arithmetic, dot products too, matrix instructions not",
    "dots": "of them dot products: v_dot4, dp4a",
    "matrix": "of them matrix instructions: v_mfma, v_wmma, mma.sync",
    "widest": "bytes a lane gets by the widest load from global memory",
    "flight": "bytes of global loads under way in a wave at most",
    "per_weight": "valu for each weight, where the kernel's name says how weights are counted",
    "code": "bytes of the kernel's code",
}
WORSE = {  # field: (how the kept figure a bounds the new one, in words)
    "vgpr": (lambda a: a + max(4, a // 20), "more than"),
    "lds": (lambda a: a, "more than"),
    "scratch": (lambda a: a, "more than"),
    "spills": (lambda a: a, "more than"),
    "sgpr_spills": (lambda a: a, "more than"),
    "valu": (lambda a: a + max(4, a // 10), "more than"),
    "per_weight": (lambda a: a * 1.05 + 0.02, "more than"),
    "waves": (lambda a: a, "less than"),
    "widest": (lambda a: a, "less than"),
    "flight": (lambda a: a * 9 // 10, "less than"),
}


@dataclasses.dataclass
class Instr:
    at: int  # bytes from the kernel's begin; in PTX the line's number
    op: str
    args: str
    to: int = -1  # where a branch goes
    falls: bool = True  # the next one may follow it


# ------------------------------------------------------------------ AMD code objects

NOTE = re.compile(r"^    \.(\w+): +(\S+)$", re.M)


def read_notes(text):
    """{kernel: {note: value}} from llvm-readobj --notes."""
    kernels = {}
    for part in re.split(r"^  - ", text, flags=re.M)[1:]:
        notes = dict(NOTE.findall("    " + part))
        if "name" in notes:
            kernels[notes["name"]] = {k: int(v) for k, v in notes.items() if v.isdigit()}
    return kernels


SYMBOL = re.compile(r"^[0-9a-f]+ <(\w+)>:$")
LINE = re.compile(r"^\t(\w+)([^/]*)// ([0-9A-F]+):[ 0-9A-F]*(?:<(\w+)(?:\+0x([0-9a-f]+))?>)?")


def read_code(text):
    """{function: [Instr]} from llvm-objdump -d."""
    functions, current, name, start = {}, None, "", 0
    for line in text.splitlines():
        symbol = SYMBOL.match(line)
        if symbol:
            name, start = symbol.group(1), None
            current = functions.setdefault(name, [])
            continue
        found = LINE.match(line)
        if not found or current is None:
            continue
        address = int(found.group(3), 16)
        start = address if start is None else start
        op = found.group(1)
        branch = found.group(4) == name and op.startswith(("s_cbranch", "s_branch"))
        current.append(Instr(address - start, op, found.group(2).strip(), int(found.group(5) or "0", 16) if branch else -1,
                             op not in ("s_branch", "s_endpgm", "s_setpc_b64")))
    for code in functions.values():
        while code and code[-1].op in ("s_nop", "s_code_end"):
            code.pop()
    return functions


WIDTHS = (("dwordx4", 16), ("b128", 16), ("dwordx3", 12), ("b96", 12), ("dwordx2", 8), ("b64", 8), ("dword", 4), ("b32", 4),
          ("short", 2), ("ushort", 2), ("u16", 2), ("i16", 2), ("b16", 2), ("byte", 1), ("u8", 1), ("i8", 1))


def load_bytes(op):
    """Bytes a lane gets from global memory; 0: not such a load."""
    if not op.startswith(("global_load_", "flat_load_", "buffer_load_")) or "lds" in op:
        return 0
    return next((n for word, n in WIDTHS if word in op), 4)


def wait_left(instr):
    """How many loads may still be under way after this instruction; None: it waits for none."""
    if instr.op == "s_waitcnt":
        found = re.search(r"vmcnt\((\d+)\)", instr.args)
        return int(found.group(1)) if found else None
    if instr.op == "s_wait_loadcnt":
        return int(instr.args, 0)
    if instr.op == "s_wait_loadcnt_dscnt":
        return int(instr.args, 0) >> 8
    return None


def is_dot(op):
    return op.startswith(("v_dot", "dp4a"))


def is_matrix(op):
    return op.startswith(("v_mfma", "v_smfmac", "v_wmma", "v_swmmac", "mma.sync", "wmma.mma"))


# ------------------------------------------------------------------ loops

def blocks_of(code):
    """(blocks of instructions that run from the first to the last, for each the numbers of those that may follow)."""
    starts = {code[0].at, *(i.to for i in code)}
    starts |= {b.at for a, b in zip(code, code[1:]) if a.to >= 0 or not a.falls}
    blocks = []
    for instr in code:
        if instr.at in starts:
            blocks.append([])
        blocks[-1].append(instr)
    number = {b[0].at: n for n, b in enumerate(blocks)}
    follow = [[number[to] for to in (b[-1].to,) if to in number] + [n + 1] * (b[-1].falls and n + 1 < len(blocks))
              for n, b in enumerate(blocks)]
    return blocks, follow


def dominators(follow):
    """For each block the nearest that every way to it passes (Cooper, Harvey and Kennedy); None: no way leads there."""
    order, seen, stack = [], {0}, [(0, iter(follow[0]))]
    while stack:  # depth first, a block after all that follow it
        block, rest = stack[-1]
        new = next((b for b in rest if b not in seen), None)
        if new is None:
            order.append(block)
            stack.pop()
        else:
            seen.add(new)
            stack.append((new, iter(follow[new])))
    rank = {block: n for n, block in enumerate(order)}
    before = [[] for _ in follow]
    for block in order:
        for b in follow[block]:
            before[b].append(block)
    idom, changed = [None] * len(follow), True
    idom[0] = 0
    while changed:
        changed = False
        for block in reversed(order[:-1]):
            ways = [b for b in before[block] if idom[b] is not None]
            new = ways[0]
            for b in ways[1:]:
                while new != b:
                    new, b = (idom[new], b) if rank[new] < rank[b] else (new, idom[b])
            changed |= idom[block] != new
            idom[block] = new
    return idom, before


def loops(code):
    """The natural loops, as sets of numbers of blocks, and the blocks. Loops that begin at one block are one."""
    blocks, follow = blocks_of(code)
    idom, before = dominators(follow)
    found = {}
    for block, nexts in enumerate(follow):
        for head in nexts:
            up = block
            while up not in (head, 0, None):
                up = idom[up]
            if up != head:
                continue
            body, waiting = found.setdefault(head, {head}), [block]
            while waiting:
                b = waiting.pop()
                if b not in body:
                    body.add(b)
                    waiting += before[b]
    return list(found.values()), blocks


def main_loop(code, width):
    """The loop that a kernel spends its time in; the whole kernel when it has none. Of the loops that multiply (or all, where
    none does) those that hold no other such, each taken wider until it loads from global memory too; of these the one with
    most matrix instructions, then dot products, then bytes loaded."""
    if not code:
        return []
    found, blocks = loops(code)
    instrs = {id(body): [i for b in sorted(body) for i in blocks[b]] for body in found}

    def work(body):
        return sum(is_matrix(i.op) for i in instrs[id(body)]), sum(is_dot(i.op) for i in instrs[id(body)])

    def loaded(body):
        return sum(width(i.op) for i in instrs[id(body)])

    able = [b for b in found if any(work(b))] or found
    inner = [b for b in able if not any(o < b for o in able)]
    wider = [min((o for o in found if o >= b and loaded(o)), key=len, default=b) for b in inner]
    best = max(wider, key=lambda b: (*work(b), loaded(b), len(instrs[id(b)])), default=None)
    return code if best is None else instrs[id(best)]


def in_flight(loop):
    """Bytes of a lane's loads under way at most, in two rounds of the loop: loads come back in the order they left."""
    under_way, most = [], 0
    for instr in [*loop, *loop]:
        left = wait_left(instr)
        if left is not None and len(under_way) > left:
            under_way = under_way[len(under_way) - left:]
        width = load_bytes(instr.op)
        under_way += [width] if width else []
        most = max(most, sum(under_way))
    return most


# ------------------------------------------------------------------ occupancy

@dataclasses.dataclass(frozen=True)
class Unit:
    """What shares registers and LDS: a CU of CDNA, a WGP of RDNA (two CUs; waves of 32)."""
    registers: int  # of a lane on a SIMD, for waves of the native width
    granule: int
    waves: int  # at most, of a SIMD
    lds: int
    simds: int = 4
    wave: int = 64


CDNA1, CDNA2 = Unit(256, 4, 10, 65536), Unit(512, 8, 8, 65536)
RDNA, WIDE = Unit(1024, 16, 16, 131072, wave=32), Unit(1536, 24, 16, 131072, wave=32)
UNITS = {"gfx906": CDNA1, "gfx908": CDNA1, "gfx90a": CDNA2, "gfx942": CDNA2, "gfx950": dataclasses.replace(CDNA2, lds=163840),
         "gfx1030": RDNA, "gfx1100": WIDE, "gfx1101": WIDE, "gfx1102": RDNA, "gfx1150": RDNA, "gfx1151": WIDE, "gfx1200": WIDE,
         "gfx1201": WIDE}


def occupancy(target, vgpr, lds, threads, wave):
    """Waves on a SIMD, from the registers of a lane, the LDS and threads of a block, and the kernel's wave."""
    unit = UNITS[target]
    share = wave // unit.wave or 1  # a wave of 64 takes two registers' room on RDNA
    granule = unit.granule // share
    waves = min(unit.waves, unit.registers // share // (-(-max(vgpr, 1) // granule) * granule))
    if lds:
        blocks = unit.lds // (-(-lds // 512) * 512)
        waves = min(waves, max(1, blocks * -(-threads // wave) // unit.simds))
    return waves


# ------------------------------------------------------------------ rows

# Vector kernels: their name says for how many columns each weight is used, and its type.
VECTOR = re.compile(r"_vec(\d+)_(?:\w+_)?(f32|f16|bf16|q\w+)$")
FMA = re.compile(r"\bv_(?:dual_)?(?:fma|fmac|fmaak|fmamk|fma_mix|pk_fma)_\w*f32")


def per_weight(kernel, loop, valu):
    """valu for each weight: a dot product takes four weights of one column, an fma of a float kernel one (a packed one two)."""
    vector = VECTOR.search(kernel)
    if not vector:
        return None
    products = 4 * sum(i.op.startswith(("v_dot4", "dp4a")) for i in loop)
    if vector.group(2)[0] != "q":
        products = sum(len(FMA.findall(f"{i.op} {i.args}")) * (2 if i.op.startswith("v_pk") else 1) for i in loop)
    return round(valu * int(vector.group(1)) / products, 2) if products else None


def is_vector(kernel, row):
    """A kernel that no spill is forgiven: what decodes run, which has no matrix instruction."""
    return bool(VECTOR.search(kernel)) and not row["matrix"]


def amd_row(kernel, target, notes, code):
    loop = main_loop(code, load_bytes)
    wave = notes["wavefront_size"]
    dots = sum(is_dot(i.op) for i in loop)
    matrix = sum(is_matrix(i.op) for i in loop)
    valu = sum(i.op.startswith("v_") for i in loop) - matrix
    return {"vgpr": notes["vgpr_count"], "sgpr": notes["sgpr_count"], "lds": notes["group_segment_fixed_size"],
            "scratch": notes["private_segment_fixed_size"], "spills": notes["vgpr_spill_count"],
            "sgpr_spills": notes["sgpr_spill_count"],
            "waves": occupancy(target, notes["vgpr_count"], notes["group_segment_fixed_size"], notes["max_flat_workgroup_size"], wave),
            "loop": len(loop), "valu": valu, "dots": dots, "matrix": matrix, "widest": max((load_bytes(i.op) for i in loop), default=0),
            "flight": in_flight(loop) * wave, "per_weight": per_weight(kernel, loop, valu), "code": code[-1].at + 4 if code else 0}


PTX_ENTRY = re.compile(r"\.entry (\w+)\((.*?)^}", re.M | re.S)
PTX_OP = re.compile(r"^\t(@!?%p\d+ )?([a-z][\w.]*)[ \t;](.*)$")
PTX_VECTOR = {"v2": 2, "v4": 4, "v8": 8}


def ptx_load_bytes(op):
    """The same for PTX: ld.global.v4.b32 is 16."""
    if not op.startswith("ld.global"):
        return 0
    parts = op.split(".")
    bits = re.search(r"(\d+)$", parts[-1])
    return (int(bits.group(1)) if bits else 0) // 8 * next((PTX_VECTOR[p] for p in parts if p in PTX_VECTOR), 1)


def read_ptx(text):
    """{kernel: ([Instr], bytes of its frame)}; registers are the driver's affair."""
    kernels = {}
    for name, body in PTX_ENTRY.findall(text):
        code, labels, frame = [], {}, 0
        for at, line in enumerate(body.splitlines()):
            label = re.match(r"^(\$\w+):", line)
            found = PTX_OP.match(line)
            depot = re.search(r"\.local .*__local_depot\d+\[(\d+)\]", line)
            frame += int(depot.group(1)) if depot else 0
            if label:
                labels[label.group(1)] = at
            elif found:
                op = found.group(2)
                code.append(Instr(at, op, found.group(3), falls=bool(found.group(1)) or not op.startswith(("bra", "ret", "exit"))))
        for instr in code:
            if instr.op.startswith("bra"):
                label = labels.get(instr.args.strip(" \t;"), -1)
                instr.to = next((i.at for i in code if i.at > label), -1) if label >= 0 else -1
        kernels[name] = code, frame
    return kernels


def ptx_row(kernel, code, frame):
    loop = main_loop(code, ptx_load_bytes)
    row = dict.fromkeys(FIELDS)
    row.update(scratch=frame, loop=len(loop), dots=sum(is_dot(i.op) for i in loop), matrix=sum(is_matrix(i.op) for i in loop),
               widest=max((ptx_load_bytes(i.op) for i in loop), default=0))
    return row


# ------------------------------------------------------------------ measuring

class Tools:
    """llvm-readobj and llvm-objdump of the compiler's version; None of it: `missing` says what."""

    def __init__(self, compiler):
        version = gpu_kernels.major(compiler.version)
        names = [f"llvm-{tool}-{version}" for tool in ("readobj", "objdump")]
        self.missing = next((n for n in names if not shutil.which(n)), None)
        self.readobj, self.objdump = names

    def run(self, *command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def measure(self, job):
        """{kernel: row} of one object; kept beside it, under a name that has this file's hash."""
        me = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:8]
        kept = job.path.with_name(f"{job.path.name}.{me}.json")
        if kept.is_file():
            return json.loads(kept.read_text())
        if job.target == gpu_kernels.PTX:
            rows = {name: ptx_row(name, *found) for name, found in read_ptx(job.path.read_text()).items()}
        else:
            notes = read_notes(self.run(self.readobj, "--notes", job.path))
            code = read_code(self.run(self.objdump, "-d", job.path))
            rows = {name: amd_row(name, job.target, notes[name], code.get(name, [])) for name in notes}
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(rows))
        part.rename(kept)
        return rows


def measure_one(args):
    tools, job = args
    return tools.measure(job)


def measure(jobs, tools):
    """{kernel's name with its file, "linear.linear_vec_q4_k": {target: row}} of all objects."""
    table = {}
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for job, rows in zip(jobs, pool.map(measure_one, [(tools, job) for job in jobs])):
            for kernel, row in rows.items():
                table.setdefault(f"{job.file}.{kernel}", {})[job.target] = row
    return table


# ------------------------------------------------------------------ the kept table

def load_table(path):
    """(compiler, {kernel: {target: row}})."""
    kept = json.loads(path.read_text())
    names = kept["fields"]
    return kept["compiler"], {k: {t: dict(zip(names, row)) for t, row in rows.items()} for k, rows in kept["kernels"].items()}


def save_table(path, compiler, table):
    """A line for each kernel and target, so that a change can be read."""
    lines = [f'{{"compiler": {json.dumps(compiler)},', f'"fields": {json.dumps(list(FIELDS))},', '"kernels": {']
    kernels = []
    for kernel, rows in sorted(table.items()):
        inner = [f"  {json.dumps(t)}: {json.dumps([row[f] for f in FIELDS])}" for t, row in rows.items()]
        kernels.append(f"{json.dumps(kernel)}: {{\n" + ",\n".join(inner) + "}")
    path.write_text("\n".join([*lines, ",\n".join(kernels), "}}", ""]))


def compare_rows(name, kept, row):
    """Lines about what became worse than the kept row, both figures in each."""
    for field, (bound, words) in WORSE.items():
        a, b = kept.get(field), row[field]
        if a is None or b is None:
            continue
        limit = bound(a)
        if (b > limit) if words == "more than" else (b < limit):
            yield f"{name}: {field} {b}, {words} the table's {a}" + (f" (bound {limit:g})" if limit != a else "")
    for field in ("dots", "matrix"):
        if kept.get(field) and not row[field]:
            yield f"{name}: no {field} in the main loop, the table has {kept[field]}"


def scratch_text(_kernel, _target, row):
    parts = (("scratch", "{} bytes of scratch"), ("spills", "{} vector registers spilled"), ("sgpr_spills", "{} scalar registers spilled"))
    return ", ".join(text.format(row[f]) for f, text in parts if row[f])


def spilled(table):
    """Lines about vector kernels that use scratch or spill. Not of PTX: there the driver has the last word."""
    for kernel, rows in sorted(table.items()):
        for target, row in rows.items():
            text = scratch_text(kernel, target, row)
            if text and target != gpu_kernels.PTX and is_vector(kernel, row):
                yield f"{kernel} on {target}: {text}; a vector kernel has none"


def compare(kept, table):
    """All complaints: spills, regressions, rows that the table lacks or has too many."""
    found = list(spilled(table))
    for kernel in sorted({*kept, *table}):
        if kernel not in kept or kernel not in table:
            found.append(f"{kernel}: {'not in the table' if kernel in table else 'in the table, but there is no such kernel'}; run with --update")
            continue
        for target in {**kept[kernel], **table[kernel]}:
            if target not in kept[kernel] or target not in table[kernel]:
                found.append(f"{kernel} on {target}: only in {'the build' if target in table[kernel] else 'the table'}; run with --update")
            else:
                found += compare_rows(f"{kernel} on {target}", kept[kernel][target], table[kernel][target])
    return found


# ------------------------------------------------------------------ the page

PAGE_HEAD = """# The GPU's kernels, from their code

Made by `tools/gpu_static.py --update` from the code objects of {compiler}; every target's figures are in
tests/gpu/static.json, and CI fails when a kernel gets worse than they say. Nothing here was run: registers, LDS and spills
are the compiler's notes, the rest is counted in each kernel's main loop.

- VGPR, SGPR, LDS, waves: registers of a lane, bytes of shared memory of a block, waves that fit on a SIMD.
- loop: instructions, those of a loop inside it once; VALU of them, dot products included; dot products and matrix
  instructions (D + M).
- load: bytes a lane gets by the widest load from global memory; flight: bytes a wave has under way at most.
- VALU/w: vector instructions for each weight, all columns together. Vector kernels aim at loads of 16 bytes, 1 KiB in flight,
  at most 96 VGPRs and, for one column, 3 VALU a weight.
"""
SHOWN, AIMED = "gfx1100", ("gfx942", "gfx1100")
OTHERS = ("gfx906", "gfx90a", "gfx942", "gfx1030", "gfx1201")


def cell(value):
    return "-" if value is None else str(value)


def page_row(kernel, rows):
    r = rows[SHOWN]
    cells = [kernel, r["vgpr"], r["sgpr"], r["lds"], r["waves"], r["loop"], r["valu"], f"{r['dots']} + {r['matrix']}", r["widest"],
             r["flight"], r["per_weight"]]
    cells += [f"{rows[t]['vgpr']} / {rows[t]['waves']}" for t in OTHERS]
    return "| " + " | ".join(map(cell, cells)) + " |"


AIMS = (("widest", lambda v: v >= 16, "loads of {} bytes"), ("flight", lambda v: v >= 1024, "{} bytes in flight"),
        ("vgpr", lambda v: v <= 96, "{} VGPRs"), ("per_weight", lambda v: v <= 3, "{} VALU a weight"))


def missed_aims(kernel, target, row):
    if target not in AIMED or not is_vector(kernel, row):
        return ""
    one_column = VECTOR.search(kernel).group(1) == "1"  # more columns, more work for a weight
    return ", ".join(text.format(row[f]) for f, good, text in AIMS
                     if row[f] is not None and not good(row[f]) and (one_column or f != "per_weight"))


def by_kernel(table, text_of):
    """A line for each kernel and text, with the targets that it is said of."""
    lines = []
    for kernel, rows in sorted(table.items()):
        texts = {}
        for target, row in rows.items():
            texts.setdefault(text_of(kernel, target, row), []).append(target)
        lines += [f"- {kernel}: {text} ({' '.join(targets)})" for text, targets in texts.items() if text]
    return lines


def page(compiler, table, sizes):
    lines = [PAGE_HEAD.format(compiler=compiler)]
    for file in dict.fromkeys(k.split(".")[0] for k in sorted(table)):
        lines += [f"## {file}.hip", "", f"In full for {SHOWN}; for the others VGPR / waves.", ""]
        lines += ["| kernel | VGPR | SGPR | LDS | waves | loop | VALU | D + M | load | flight | VALU/w | " + " | ".join(OTHERS) + " |"]
        lines += ["|-" * (11 + len(OTHERS)) + "|"]
        lines += [page_row(k.split(".")[1], rows) for k, rows in sorted(table.items()) if k.split(".")[0] == file] + [""]
    lines += ["## Scratch and spills", "", *(by_kernel(table, scratch_text) or ["None, on no target."]), ""]
    lines += [f"## Vector kernels off their aim ({', '.join(AIMED)})", "", *(by_kernel(table, missed_aims) or ["None."]), ""]
    lines += ["## Size", "", "| target | KiB |", "|-|-|", *(f"| {t} | {n // 1024} |" for t, n in sizes.items()),
              f"| all | {sum(sizes.values()) // 1024} |", ""]
    return "\n".join(lines)


def sizes_of(jobs):
    sizes = {}
    for job in jobs:
        sizes[job.target] = sizes.get(job.target, 0) + job.path.stat().st_size
    return sizes


def update(table, compiler, jobs):
    save_table(TABLE, compiler, table)
    PAGE.write_text(page(compiler, table, sizes_of(jobs)))


# ------------------------------------------------------------------ main

def main():
    parser = argparse.ArgumentParser(description="Reads what the GPU's kernels cost from their code objects.")
    parser.add_argument("--cache", required=True, help="of tools/gpu_kernels.py")
    parser.add_argument("--update", action="store_true", help="write the kept table and the page")
    args = parser.parse_args()
    compiler = gpu_kernels.find_compiler()
    tools = compiler and Tools(compiler)
    if not compiler or not compiler.amd or tools.missing:
        print(f"skipped: {tools.missing + ' is not here' if compiler and tools.missing else 'no clang >= 20 with its lld'}")
        sys.exit(77)
    jobs, _ = gpu_kernels.build("all", args.cache, say=gpu_kernels.say_line, compiler=compiler)
    table = measure(jobs, tools)
    name = f"clang {gpu_kernels.major(compiler.version)}"
    if args.update:
        update(table, name, jobs)
        return
    kept_by, kept = load_table(TABLE)
    if kept_by != name:
        print(f"the table is of {kept_by}, this is {name}: only spills are looked at")
    found = compare(kept, table) if kept_by == name else list(spilled(table))
    print("\n".join(found) if found else f"{sum(map(len, table.values()))} kernels and targets, none worse than the table")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    try:
        main()
    except gpu_kernels.Problem as problem:
        sys.exit(f"gpu kernels: {problem}")
