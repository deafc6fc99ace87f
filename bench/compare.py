"""rocmforge and llama.cpp side by side on this machine: paired, interleaved, medians and ratios of pairs.

    bench/run speed   prompt 512 and generation 128, every model, 1 and 2 threads
    bench/run start   start of the process to the first byte of its answer, warm page cache
    bench/run busy    the same speeds while another program keeps one core busy, as a share of the undisturbed
    bench/run serve   both servers under load (bench/serve.py)
    bench/run all

Each round runs both programs one after the other, the first one changing from round to round, so that a machine that
drifts moves both. A figure is the median over rounds; a ratio is the median of the rounds' ratios (ours / theirs).
Every run is a row of bench/results/KIND-COMMIT.csv, with the machine; the table printed is the one for documents.
"""
import argparse
import csv
import datetime
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import peer
import serve

TOP = peer.TOP
OURS = TOP / "build" / "rocmforge"
MODELS = ("smollm2", "1b-q4_k_m", "1b-q8_0")
PROMPT = "The capital of France is"


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("speed", "start", "busy", "serve", "all"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=lambda s: [int(t) for t in s.split(",")], default=[1, 2])
    parser.add_argument("--models", type=lambda s: s.split(","), default=list(MODELS))
    parser.add_argument("--parts", type=lambda s: s.split(","), default=list(serve.PARTS), help="of serve: load,prefix,long")
    parser.add_argument("-p", type=int, default=512, metavar="N", help="prompt tokens")
    parser.add_argument("-n", type=int, default=128, metavar="N", help="generated tokens")
    return parser.parse_args()


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return f"{cpu}, {len(os.sched_getaffinity(0))} CPUs, Linux {platform.release()}"


def commit():
    done = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty", "--abbrev=10"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def read_table(text):
    """{test: tokens per second} from a Markdown table with the columns `test` and `t/s`: both programs print that."""
    rows = [[c.strip() for c in line.strip().strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    head = rows[0]
    return {row[head.index("test")]: float(row[head.index("t/s")].split()[0]) for row in rows[2:] if len(row) == len(head)}


def bench(program, model, threads, args):
    """One run of a program's own bench."""
    command = {"rocmforge": [OURS, "bench", model], "llama.cpp": [args.llama / "llama-bench", "-m", model]}[program]
    command += ["-p", args.p, "-n", args.n, "-t", threads, "-r", 1, "-o", "md"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench: {program} failed with {done.returncode}: {done.stderr.strip()[-400:]}")
    return read_table(done.stdout)


def first_byte(program, model, threads, args):
    """Milliseconds from exec to the first byte on standard output, one greedy token after a short prompt."""
    common = ["-p", PROMPT, "-n", 1, "-t", threads, "--temp", 0]
    command = {"rocmforge": [OURS, "generate", model, *common],
               "llama.cpp": [args.llama / "llama-completion", "-m", model, "-no-cnv", "--no-display-prompt", *common]}[program]
    start = time.perf_counter()
    with subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        got = os.read(child.stdout.fileno(), 1)
        took = time.perf_counter() - start
        child.stdout.read()
    if child.returncode or not got:
        sys.exit(f"bench: {program} ended with {child.returncode} and {'no' if not got else 'some'} output")
    return {"first byte ms": took * 1000}


class Busy:
    """A program that keeps one core busy while the block runs."""

    def __enter__(self):
        core = min(os.sched_getaffinity(0))
        code = f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"
        self.child = subprocess.Popen([sys.executable, "-c", code])
        time.sleep(0.5)
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()


def pairs(measure, model, threads, args, note=""):
    """Rows of interleaved rounds: {program, test, round, value}."""
    rows = []
    programs = ["rocmforge", "llama.cpp"]
    for n in range(args.rounds):
        for program in programs if n % 2 == 0 else programs[::-1]:
            for test, value in measure(program, model, threads, args).items():
                rows.append({"program": program, "test": test + note, "round": n, "value": round(value, 3)})
        print(f"  {model.name} t={threads}{note} round {n + 1} of {args.rounds}", file=sys.stderr, flush=True)
    return rows


def measure_kind(kind, model, threads, args):
    if kind == "serve":
        return serve.rounds(serve.binaries(OURS, args.llama), model, args, args.parts)
    if kind == "start":
        first_byte("rocmforge", model, threads, args), first_byte("llama.cpp", model, threads, args)  # warms the page cache
        return pairs(first_byte, model, threads, args)
    rows = pairs(bench, model, threads, args)
    if kind == "busy":
        with Busy():
            rows += pairs(bench, model, threads, args, " busy")
    return rows


def values(rows, program, test):
    return [r["value"] for r in sorted(rows, key=lambda r: r["round"]) if (r["program"], r["test"]) == (program, test)]


def spread(numbers):
    return f"{statistics.median(numbers):.1f} [{min(numbers):.1f}-{max(numbers):.1f}]"


def report(name, threads, rows):
    """One line of the table for each test; for `busy`, also the share of the undisturbed speed that is left."""
    for test in dict.fromkeys(r["test"] for r in rows):
        ours, theirs = values(rows, "rocmforge", test), values(rows, "llama.cpp", test)
        ratios = [a / b if b else float("nan") for a, b in zip(ours, theirs)]
        left = ""
        if test.endswith(" busy"):
            calm = test.removesuffix(" busy")
            shares = [statistics.median(mine) / statistics.median(values(rows, p, calm)) for p, mine in
                      (("rocmforge", ours), ("llama.cpp", theirs))]
            left = f" left of calm: {shares[0]:.2f}, {shares[1]:.2f}"
        print(f"| {name} | {threads} | {test} | {spread(ours)} | {spread(theirs)} | {statistics.median(ratios):.2f} "
              f"[{min(ratios):.2f}-{max(ratios):.2f}]{left} |", flush=True)


def write_csv(kind, rows):
    path = TOP / "bench" / "results" / f"{kind}-{commit()}.csv"
    path.parent.mkdir(exist_ok=True)
    fresh = not path.exists()
    with open(path, "a", newline="") as file:
        out = csv.DictWriter(file, ["date", "commit", "machine", "model", "threads", "test", "program", "round", "value"])
        if fresh:
            out.writeheader()
        out.writerows(rows)
    return path


def run(kind, args):
    models = peer.models(args.cache, [m for m in args.models if kind not in ("start", "serve") or m == "smollm2"])
    threads = [max(args.threads)] if kind in ("start", "busy", "serve") else args.threads
    print(f"\n{machine()}, commit {commit()}\n\n| model | T | test | rocmforge | llama.cpp | ratio of pairs |\n|-|-|-|-|-|-|")
    for name, path in models.items():
        for n in threads:
            rows = measure_kind(kind, path, n, args)
            report(name, n, rows)
            common = {"date": datetime.date.today().isoformat(), "commit": commit(), "machine": machine(), "model": name, "threads": n}
            written = write_csv(kind, [{**common, **row} for row in rows])
    print(f"\nwritten: {written.relative_to(TOP)}")


def main():
    args = arguments()
    args.cache = pathlib.Path(os.environ["RF_CACHE"])
    args.llama = peer.llama_programs(args.cache)
    for kind in ("speed", "start", "busy", "serve") if args.kind == "all" else (args.kind,):
        run(kind, args)


main()
