"""rocmforge and llama.cpp's server under the same load on this machine: paired, interleaved, medians and ratios of pairs.

    bench/run serve    three parts, SmolLM2, greedy, 2 threads, 8 sequences at once; the client shares the cores
      load     1, 8 and 32 streaming clients; prompts of 200 tokens, every second one shares its first 150; 64 tokens out
      prefix   time to the first token of a request whose first 1,000 tokens another one had, beside the first one's
      long     eight streams run, then a prompt of 4,000 tokens comes: the longest gap between two tokens of a stream

Prompts are token ids, new in every round, the same for both programs; both get them through POST /completion. A round starts
each program anew. TTFT: from sending a request to the first byte of its first token's event; gap: between events of a stream.
llama.cpp divides -c by its slots, so `-c 16384 -np 8` and our `-c 2048 --parallel 8` are the same context and cache. For the
long prompt both get four times that.
"""
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

SLOTS = 8
LEVELS = {1: 8, 8: 32, 32: 96}  # clients: requests in all
PROMPT, SHARED, OUT = 200, 150, 64


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A server process, ready when the block begins."""

    def __init__(self, program, binary, model, context, threads):
        self.port = free_port()
        own = {"rocmforge": [binary, "serve", model, "-c", context, "--parallel", SLOTS],
               "llama.cpp": [binary, "-m", model, "-c", context * SLOTS, "-np", SLOTS]}[program]
        self.command = [str(c) for c in [*own, "-t", threads, "--host", "127.0.0.1", "--port", self.port]]

    def __enter__(self):
        self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + 120
        while not self.answers():
            if self.child.poll() is not None or time.monotonic() > give_up:
                sys.exit(f"bench: {self.command[0]} did not start")
            time.sleep(0.05)
        return self

    def answers(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as reply:
                return reply.status == 200
        except OSError:
            return False

    def __exit__(self, *_):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def resident(self):
        with open(f"/proc/{self.child.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


class Stream:
    """One streaming request: when its events came, in seconds after it was sent."""

    def __init__(self, port, prompt, n_out):
        body = json.dumps({"prompt": prompt, "n_predict": n_out, "temperature": 0, "ignore_eos": True, "stream": True, "cache_prompt": True})
        self.request = (f"POST /completion HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}").encode()
        self.port, self.n_tokens, self.times = port, 0, []

    async def run(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        self.sent = time.perf_counter()
        writer.write(self.request)
        last = b""
        while line := await reader.readline():
            if not line.startswith(b"data: {"):
                continue
            last = line
            if b'"content":""' not in line.replace(b" ", b""):
                self.times.append(time.perf_counter() - self.sent)
        writer.close()
        self.n_tokens = json.loads(last[6:] or b"{}").get("timings", {}).get("predicted_n", 0)
        return self

    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]


def percentile(numbers, share):
    numbers = sorted(numbers)
    return numbers[min(len(numbers) - 1, round(share * (len(numbers) - 1)))] if numbers else float("nan")


def prompts(rng, n, n_vocab=40000):
    shared = [rng.randrange(100, n_vocab) for _ in range(SHARED)]
    own = lambda k: [rng.randrange(100, n_vocab) for _ in range(k)]  # noqa: E731
    return [shared + own(PROMPT - SHARED) if i % 2 else own(PROMPT) for i in range(n)]


async def clients(port, queue, n):
    """n clients, each takes the next prompt when its last one is answered."""
    done = []

    async def client():
        while queue:
            done.append(await Stream(port, queue.pop(), OUT).run())

    await asyncio.gather(*[client() for _ in range(n)])
    return done


def load(server, rng):
    values = {}
    for n, requests in LEVELS.items():
        queue = prompts(rng, requests)
        start = time.perf_counter()
        done = asyncio.run(clients(server.port, queue, n))
        took = time.perf_counter() - start
        first = [s.times[0] for s in done if s.times]
        gaps = [g for s in done for g in s.gaps()]
        values |= {f"{n} clients, tokens/s": sum(s.n_tokens for s in done) / took,
                   f"{n} clients, TTFT p50 ms": 1e3 * percentile(first, 0.5), f"{n} clients, TTFT p95 ms": 1e3 * percentile(first, 0.95),
                   f"{n} clients, gap p50 ms": 1e3 * percentile(gaps, 0.5), f"{n} clients, gap p99 ms": 1e3 * percentile(gaps, 0.99),
                   f"{n} clients, failed": sum(s.n_tokens != OUT for s in done)}
    return values | {"peak MiB": server.resident()}


def prefix(server, rng):
    beginning = [rng.randrange(100, 40000) for _ in range(1000)]
    firsts = []
    for _ in range(2):
        stream = Stream(server.port, beginning + [rng.randrange(100, 40000) for _ in range(32)], 4)
        firsts.append(asyncio.run(stream.run()).times[0])
    return {"first TTFT ms": 1e3 * firsts[0], "second TTFT ms": 1e3 * firsts[1], "first / second": firsts[0] / firsts[1]}


async def interrupted(port, rng):
    some = lambda k: [rng.randrange(100, 40000) for _ in range(k)]  # noqa: E731
    streams = [Stream(port, some(50), 400) for _ in range(SLOTS - 1)]
    running = [asyncio.create_task(s.run()) for s in streams]
    while any(len(s.times) < 60 for s in streams):
        await asyncio.sleep(0.02)
    long = Stream(port, some(4000), 4)
    await long.run()
    arrived, ended = long.sent, long.sent + long.times[0]
    await asyncio.gather(*running)
    calm, during = [], []
    for s in streams:
        for a, b in zip(s.times, s.times[1:]):
            (during if s.sent + b > arrived and s.sent + a < ended else calm).append(b - a)
    return calm, during, long.times[0]


def long_prompt(server, rng):
    calm, during, first = asyncio.run(interrupted(server.port, rng))
    usual = percentile(calm, 0.5)
    return {"usual gap p50 ms": 1e3 * usual, "usual gap p99 ms": 1e3 * percentile(calm, 0.99), "longest usual gap ms": 1e3 * max(calm),
            "gap meanwhile p50 ms": 1e3 * percentile(during, 0.5), "gap meanwhile p99 ms": 1e3 * percentile(during, 0.99),
            "longest gap meanwhile ms": 1e3 * max(during), "p50 meanwhile / usual": percentile(during, 0.5) / usual,
            "p99 meanwhile / usual p99": percentile(during, 0.99) / percentile(calm, 0.99), "longest / usual": max(during) / usual,
            "TTFT of the long prompt ms": 1e3 * first}


PARTS = {"load": (load, 2048), "prefix": (prefix, 2048), "long": (long_prompt, 8192)}


def rounds(binaries, model, args, parts):
    """Rows {program, test, round, value}, and the table's lines as they come."""
    rows = []
    for part in parts:
        measure, context = PARTS[part]
        for n in range(args.rounds):
            order = list(binaries) if n % 2 == 0 else list(binaries)[::-1]
            for program in order:
                with Server(program, binaries[program], model, context, max(args.threads)) as server:
                    for test, value in measure(server, random.Random(1000 * n + 7)).items():
                        rows.append({"program": program, "test": f"{part}: {test}", "round": n, "value": round(value, 3)})
            print(f"  serve {part} round {n + 1} of {args.rounds}", file=sys.stderr, flush=True)
    return rows


def median_of(rows, program, test):
    return statistics.median(r["value"] for r in rows if (r["program"], r["test"]) == (program, test))


def binaries(ours, llama):
    return {"rocmforge": ours, "llama.cpp": llama / "llama-server"}


if __name__ == "__main__":
    sys.exit("run it as bench/run serve: " + os.path.basename(__file__) + " is a part of it")
