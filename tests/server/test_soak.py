"""Mixed load with cancels, resets and bad requests: no wrong text, nothing left behind, memory and descriptors flat.

Short form: 25 seconds; RF_LONG: ten minutes."""
import asyncio
import os
import random
import time

import crowd
import pytest

SANITIZED = bool(os.environ.get("RF_SANITIZER"))  # slow, and its memory is its own affair
SECONDS = 8 if SANITIZED else 600 if os.environ.get("RF_LONG") else 25
GOLDEN = {"prompt": "The sun rises in the", "n_predict": 12, "temperature": 0}
BAD = [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n", b"\x00\x01\x02", b"POST /completion HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
       crowd.request("POST", "/completion", {"prompt": 5}), crowd.request("POST", "/v1/chat/completions", {"messages": "x"}),
       crowd.request("POST", "/completion", {"prompt": "a", "temperature": -3}), crowd.request("DELETE", "/nowhere")]


async def golden(port, rng, want):
    if rng.random() < 0.5:
        text = "".join(e.get("content", "") for e in await crowd.stream(port, "/completion", GOLDEN))
    else:
        status, reply = await crowd.call(port, "POST", "/completion", {**GOLDEN, "cache_prompt": rng.random() < 0.7})
        assert status == 200, reply
        text = reply["content"]
    assert text == want


async def noise(port, rng):
    body = {"prompt": "word " * rng.randrange(1, 15 if SANITIZED else 150), "n_predict": rng.randrange(1, 8 if SANITIZED else 80), "temperature": 1, "seed": rng.randrange(99)}
    status, _ = await crowd.call(port, "POST", "/completion", body)
    assert status == 200


async def gone(port, rng):
    """Resets while queued, in the prompt, or in mid-stream."""
    body = {"prompt": "word " * rng.randrange(1, 30 if SANITIZED else 300), "n_predict": 200, "stream": True}
    await crowd.reset(port, crowd.request("POST", "/completion", body), wait=rng.random() * 0.3, want=rng.choice([0, 0, 300]))


async def cancelled(port, rng):
    name = f"soak-{rng.randrange(10**9)}"
    task = asyncio.create_task(crowd.call(port, "POST", "/completion", {"prompt": "Tell me", "n_predict": 300, "ignore_eos": True},
                                          [f"X-Request-Id: {name}"]))
    await asyncio.sleep(rng.random() * 0.3)
    status, _ = await crowd.call(port, "POST", f"/cancel/{name}")
    assert status in (200, 404)
    await task


async def bad(port, rng):
    await crowd.reset(port, rng.choice(BAD), wait=0.01)


async def worker(port, seed, until, want):
    rng = random.Random(seed)
    count = 0
    while time.monotonic() < until:
        await step(rng, port, want)
        count += 1
    return count


async def step(rng, port, want):
    kind = rng.choice([golden, golden, noise, gone, cancelled, bad])
    await (kind(port, rng, want) if kind is golden else kind(port, rng))


def measure(pid):
    return crowd.private_kib(pid), len(os.listdir(f"/proc/{pid}/fd"))


async def active(port):
    _, health = await crowd.call(port, "GET", "/health")
    return health["checks"]["requests"]["active"] + health["checks"]["requests"]["queued"]


async def fill(port):
    """Every page of the KV cache is used once: memory that is planned becomes resident only then."""
    for i in range(12):
        status, _ = await crowd.call(port, "POST", "/completion", {"prompt": [100 + i] + [200 + i] * 479, "n_predict": 2})
        assert status == 200


async def warm_up(server, want):
    """On a busy machine the largest batches come late, and with them the rest of what is planned: until nothing new comes."""
    last = measure(server.process.pid)
    for i in range(12):
        await asyncio.gather(*[worker(server.port, 1000 * i + j, time.monotonic() + SECONDS * 0.2, want) for j in range(16)])
        now = measure(server.process.pid)
        if i and now[0] <= last[0] + 512:
            break
        last = now
    await asyncio.sleep(1)
    return measure(server.process.pid)


async def load(server, want, seed):
    until = time.monotonic() + SECONDS * 0.6
    return await asyncio.gather(*[worker(server.port, seed + i, until, want) for i in range(16)])


def is_flat(before, after):
    return after[0] <= before[0] * 1.02 + 2048


async def soak(server, want):
    if not SANITIZED:
        await fill(server.port)
    warm = await warm_up(server, want)
    counts = await load(server, want, 100)
    now = measure(server.process.pid)
    if not SANITIZED and not is_flat(warm, now):  # what came late comes once; a leak comes again
        warm = now
        counts += await load(server, want, 200)
    for _ in range(50):
        if not await active(server.port):
            break
        await asyncio.sleep(0.1)
    assert await active(server.port) == 0
    return warm, measure(server.process.pid), sum(counts)


@pytest.mark.smoke
def test_soak(serve):
    server = serve("--parallel", "8", "-c", "512", "--queue", "64")
    _, reply = asyncio.run(crowd.call(server.port, "POST", "/completion", GOLDEN))
    warm, after, count = asyncio.run(soak(server, reply["content"]))
    print(f"{count} requests after warm-up: memory {warm[0]} -> {after[0]} KiB, descriptors {warm[1]} -> {after[1]}")
    assert after[1] <= warm[1] + 2
    assert SANITIZED or is_flat(warm, after)
