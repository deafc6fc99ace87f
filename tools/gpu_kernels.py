#!/usr/bin/env python3
"""Builds the GPU's kernels: every .hip file of a folder for every target, and two files that put them into the library.

    tools/gpu_kernels.py probe TARGETS                         what would be built: compiler, targets, a line about both
    tools/gpu_kernels.py build TARGETS --blobs F.S --table F.c --depfile F.d [--cache DIR] [--kernels DIR]... [--werror]

TARGETS: all, none, auto (the GPUs of this machine), or names with commas: gfx1100,sm_80. AMD targets become ELF code
objects, sm_ ones PTX text that ends with a NUL. The compiler is the first of COMPILERS that is version 20 or newer; AMD
code also needs its linker, lld of the same version. Without them there is nothing to build, which is no error.

Each object has a file in the cache, named by the hash of all it is made from: compiler, flags, the source and what it
includes. So builds that share a cache (ROCMFORGE_KERNEL_CACHE) compile a kernel once, and an unchanged one never again.
"""
import argparse
import concurrent.futures
import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
KERNELS = "src/backend/gpu/kernels"
AMD = "gfx906 gfx908 gfx90a gfx942 gfx950 gfx1030 gfx1100 gfx1101 gfx1102 gfx1150 gfx1151 gfx1200 gfx1201".split()
PTX = "sm_80"  # the lowest that the kernels can use: kernels/target.h
TARGETS = [*AMD, PTX]
COMPILERS = ("clang-22", "clang-21", "clang-20", "clang")
OLDEST_COMPILER = 20

COMMON = ["--cuda-device-only", "-O3", "-ffp-contract=off", "-std=c++17"]
# Code object version 5 and PTX 7.0 are what runtimes of the last years take; clang's defaults are newer. No cuid: it would
# put a hash of the checkout's place into every object.
FOR_AMD = ["-x", "hip", "--no-gpu-bundle-output", "-nogpulib", "-nogpuinc", "-mcode-object-version=5", "-fuse-cuid=none", *COMMON, "-c"]
FOR_PTX = ["-x", "cuda", "-nocudainc", "-nocudalib", "--cuda-feature=+ptx70", "-Wno-unknown-cuda-version", *COMMON, "-S"]
WARNINGS = ["-Wall", "-Wextra", "-Wshadow"]  # not part of an object's name: they do not change it
INCLUDES = ("src", KERNELS)
INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.M)


class Problem(Exception):
    """What the user should read; the build has failed."""


def run_text(*command):
    """A command's output, or "" when it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def major(text):
    found = re.search(r"(?:clang version|LLD) (\d+)\.", text)
    return int(found.group(1)) if found else 0


class Compiler:
    """The clang that builds kernels. `version` is all that says which it is; `amd`: it can link AMD code objects."""

    def __init__(self, name, version):
        self.name, self.version = name, version
        lld = run_text(name, "--print-prog-name=lld").strip()
        lld_version = run_text(lld, "-flavor", "gnu", "--version") if lld else ""
        self.amd = major(lld_version) == major(version)
        self.version += lld_version


def find_compiler():
    for name in COMPILERS:
        version = run_text(name, "--version") if shutil.which(name) else ""
        if major(version) >= OLDEST_COMPILER:
            return Compiler(name, version)
    return None


def amd_name(version):
    """KFD's gfx_target_version, 90010, as a name: gfx90a."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def machine_targets(root="/"):
    """Targets of the GPUs that this machine has, whether or not there is code for them."""
    found = []
    for path in sorted(pathlib.Path(root, "sys/class/kfd/kfd/topology/nodes").glob("*/properties")):
        with contextlib.suppress(OSError):
            number = re.search(r"^gfx_target_version (\d+)$", path.read_text(), re.M)
            if number and int(number.group(1)):
                found.append(amd_name(int(number.group(1))))
    if pathlib.Path(root, "dev/nvidia0").exists():
        found.append(PTX)
    return list(dict.fromkeys(found))


def wanted_targets(option, root="/"):
    """The targets that an option's value stands for, in the order of TARGETS."""
    if option in ("", "none"):
        return []
    if option == "all":
        return TARGETS
    if option == "auto":
        return [t for t in TARGETS if t in machine_targets(root)]
    names = [name.strip() for name in option.split(",") if name.strip()]
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        raise Problem(f"gpu_targets: there is no target {unknown[0]}; all, none, auto, or some of {', '.join(TARGETS)}")
    return [t for t in TARGETS if t in names]


def probe(option, compiler, root="/"):
    """(targets that can be built, a line for the build's summary)."""
    targets = wanted_targets(option, root)
    if not targets:
        why = {"auto": "this machine has no GPU that there is code for; -Dgpu_targets=all builds for all"}
        return [], f"none ({why.get(option, 'as asked')})"
    if not compiler:
        return [], f"none: no clang of version {OLDEST_COMPILER} or newer is here, so the GPU is left out"
    buildable = targets if compiler.amd else [t for t in targets if t == PTX]
    left_out = "" if buildable == targets else f"; AMD's left out: {compiler.name} finds no lld of its version"
    return buildable, f"{' '.join(buildable) or 'none'} (by {compiler.name}{left_out})"


def closure(source):
    """The source and all that it includes from this project, in one order. Text only, so a superset of what is compiled."""
    seen, waiting = {}, [source]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen[path] = path.read_bytes()
        for name in INCLUDE.findall(seen[path]):
            places = [path.parent, *(TOP / i for i in INCLUDES)]
            found = next((p / name.decode() for p in places if (p / name.decode()).is_file()), None)
            if found:
                waiting.append(found.resolve())
    return dict(sorted(seen.items()))


def first_lines(text, n=40):
    """A compiler that crashes has much to say."""
    lines = text.splitlines()
    return "\n".join(lines[:n] + ([f"... and {len(lines) - n} lines more"] if len(lines) > n else []))


class Job:
    """One source for one target; `path` is its object in the cache, there or not."""

    def __init__(self, compiler, source, target, text_hash, cache):
        self.file, self.target, self.source = source.stem, target, source
        flags = [*FOR_PTX, f"--cuda-gpu-arch={target}"] if target == PTX else [*FOR_AMD, f"--offload-arch={target}"]
        flags += [f"-I{i}" for i in INCLUDES]
        key = hashlib.sha256("\0".join([compiler.version, *flags, text_hash]).encode()).hexdigest()[:32]
        self.command = [compiler.name, *flags]
        self.path = cache / f"{self.file}-{target}-{key}{'.ptx' if target == PTX else '.co'}"

    def name(self):
        return f"{self.source.name} for {self.target}"

    def compile(self, extra):
        """(whether it worked, what the compiler said, seconds). The object takes its name when it is whole."""
        start = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.path.parent) as work:
            out = pathlib.Path(work, "out")
            source = os.path.relpath(self.source, TOP)
            done = subprocess.run([*self.command, *WARNINGS, *extra, source, "-o", str(out)], cwd=TOP, capture_output=True,
                                  text=True, env=dict(os.environ, TMPDIR=work))
            text = (done.stdout + done.stderr).strip()
            if done.returncode == 0 and out.is_file():
                out.rename(self.path)
                return True, text, time.monotonic() - start
            return False, first_lines(text) or f"exit status {done.returncode}", time.monotonic() - start


def make_jobs(compiler, folders, targets, cache):
    """(jobs, every file that they depend on)."""
    jobs, files = [], set()
    for source in sorted(p.resolve() for folder in folders for p in pathlib.Path(folder).glob("*.hip")):
        parts = closure(source)
        files |= set(parts)
        digest = hashlib.sha256()
        for path, text in parts.items():
            digest.update(f"{path.relative_to(TOP) if TOP in path.parents else path}\0{len(text)}\0".encode() + text)
        jobs += [Job(compiler, source, target, digest.hexdigest(), cache) for target in targets]
    return jobs, files


def failure(failed):
    """What the compiler said, once for all targets of a file that it said the same of."""
    said = {}
    for job, text in sorted(failed, key=lambda f: (f[0].file, TARGETS.index(f[0].target))):
        said.setdefault((job.source.name, text.replace(job.target, "*")), []).append((job, text))
    return "\n".join(f"{name} for {' '.join(job.target for job, _ in jobs)}: {jobs[0][0].command[0]} failed:\n{jobs[0][1]}"
                     for (name, _), jobs in said.items())


def compile_missing(jobs, cache, werror=False, say=lambda line: None):
    """Compiles what the cache lacks, as many at a time as there are CPUs; one process at a time works on a cache."""
    if all(job.path.is_file() for job in jobs):
        return
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [job for job in jobs if not job.path.is_file()]
        missing.sort(key=lambda job: -job.source.stat().st_size)  # the longest first
        failed = []
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
            waiting = {pool.submit(job.compile, ["-Werror"] if werror else []): job for job in missing}
            for n, future in enumerate(concurrent.futures.as_completed(waiting), 1):
                job, (good, text, seconds) = waiting[future], future.result()
                say(f"[{n}/{len(missing)}] {job.name()}, {seconds:.1f} s" + (f"\n{text}" if text and good else ""))
                if not good:
                    failed.append((job, text))
        if failed:
            raise Problem(failure(failed))


def build(option, cache, folders=None, werror=False, say=lambda line: None, compiler=None):
    """Everything: the jobs, whose objects are all in the cache now, and the files they depend on."""
    compiler = compiler or find_compiler()
    targets, _ = probe(option, compiler)
    if not targets:
        return [], set()
    cache = pathlib.Path(cache).resolve()
    cache.mkdir(parents=True, exist_ok=True)
    jobs, files = make_jobs(compiler, folders or [TOP / KERNELS], targets, cache)
    files.add(pathlib.Path(shutil.which(compiler.name)).resolve())  # another compiler, other objects
    compile_missing(jobs, cache, werror, say)
    return jobs, files


def write_blobs(path, jobs):
    """One assembly file: each different object once. Returns the symbol of each job."""
    lines = ["/* Made by tools/gpu_kernels.py: the kernels of every target, each different object once. */",
             '.section .rodata.gpu_code,"a",%progbits']
    symbols, by_content = {}, {}
    for job in jobs:
        content = hashlib.sha256(job.path.read_bytes() + job.path.suffix.encode()).digest()
        if content in by_content:
            symbols[job] = by_content[content]
            continue
        symbol = symbols[job] = by_content[content] = f"gpu_code_blob_{len(by_content)}"
        quoted = str(job.path).replace("\\", "\\\\").replace('"', '\\"')
        lines += [".balign 64", f".globl {symbol}", f".hidden {symbol}", f"{symbol}:", f'.incbin "{quoted}"']
        lines += [".byte 0"] if job.path.suffix == ".ptx" else []
    lines += ['.section .note.GNU-stack,"",%progbits', ""]
    pathlib.Path(path).write_text("\n".join(lines))
    return symbols


def write_table(path, jobs, symbols):
    """The table of src/backend/gpu/code_table.h."""
    targets = list(dict.fromkeys(job.target for job in jobs))
    lines = ["/* Made by tools/gpu_kernels.py. */", '#include "backend/gpu/code_table.h"', ""]
    lines += [f"extern const unsigned char {s}[];" for s in dict.fromkeys(symbols.values())]
    lines += ["", "const gpu_code gpu_code_table[] = {"]
    for job in jobs:
        size = job.path.stat().st_size + (job.path.suffix == ".ptx")
        lines.append(f'    {{"{job.file}", "{job.target}", {symbols[job]}, {size}u}},')
    lines += ["    {0}, /* the table's end */", "};", f"const uint32_t gpu_code_table_n = {len(jobs)};",
              f'const char gpu_code_table_targets[] = "{" ".join(targets)}";', ""]
    pathlib.Path(path).write_text("\n".join(lines))


def write_depfile(path, outputs, files, folders):
    """For ninja: the folders too, so that a new or removed .hip file is seen."""
    def quote(p):
        return str(p).replace("$", "$$").replace(" ", "\\ ").replace("#", "\\#")
    inputs = sorted(map(str, {*files, *(pathlib.Path(f).resolve() for f in folders)}))
    pathlib.Path(path).write_text(f"{' '.join(map(quote, outputs))}: {' '.join(map(quote, inputs))}\n")


def say_line(text):
    print(f"gpu kernels: {text}", file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description="Builds the GPU's kernels for the library.")
    parser.add_argument("action", choices=("probe", "build"))
    parser.add_argument("targets")
    parser.add_argument("--root", default="/", help="where /sys and /dev are looked for")
    parser.add_argument("--cache", default=os.environ.get("ROCMFORGE_KERNEL_CACHE") or None)
    parser.add_argument("--kernels", action="append", help=f"a folder of .hip files ({KERNELS})")
    parser.add_argument("--blobs")
    parser.add_argument("--table")
    parser.add_argument("--depfile")
    parser.add_argument("--werror", action="store_true", help="a warning fails")
    return parser.parse_args()


def main():
    args = arguments()
    if args.action == "probe":
        targets, line = probe(args.targets, find_compiler() if args.targets != "none" else None, args.root)
        print(",".join(targets) or "none", line, sep="\n")
        return
    folders = args.kernels or [TOP / KERNELS]
    cache = os.environ.get("ROCMFORGE_KERNEL_CACHE") or args.cache
    if not cache:
        raise Problem("no cache folder: --cache DIR, or ROCMFORGE_KERNEL_CACHE")
    jobs, files = build(args.targets, cache, folders, args.werror, say_line)
    if args.blobs and args.table:
        write_table(args.table, jobs, write_blobs(args.blobs, jobs))
    if args.depfile:
        write_depfile(args.depfile, [args.blobs, args.table], files, folders)


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"gpu kernels: {problem}")
