"""kill -9 at random moments: the next start is clean, and pages kept on disk are used only when they are whole.

Short form: 8 kills; RF_LONG: 200."""
import asyncio
import os
import random
import signal

import crowd

KILLS = 200 if os.environ.get("RF_LONG") else 8
BEGINNING = "It was a dark and stormy night, and the rain fell in torrents upon the roofs of the old town. " * 8
BODY = {"prompt": BEGINNING + "Suddenly", "n_predict": 12, "temperature": 0}


def options(folder):
    return ["--parallel", "4", "-c", "1024", "--kv-cache-dir", folder, "--kv-cache-size", "64M"]


async def busy(port, rng):
    """Requests that fill the cache folder, until the server is gone."""
    async def one(i):
        try:
            await crowd.call(port, "POST", "/completion", {"prompt": f"{i} {BEGINNING[i:]}", "n_predict": 4, "temperature": 0})
        except (OSError, asyncio.IncompleteReadError):
            pass

    await asyncio.wait([asyncio.create_task(one(rng.randrange(50))) for _ in range(8)], timeout=rng.random() * 1.5)


def damage(folder, rng):
    """Cuts a kept file or flips a bit of it."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.stat().st_size)
    if not files:
        return 0
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        data = data[:rng.randrange(len(data))]
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return 1


def test_kill(start, serve, tmp_path):
    rng = random.Random(4)
    folder = tmp_path / "pages"
    golden, damaged, cached = None, 0, 0
    for _ in range(KILLS):
        server = start(*options(folder))
        _, reply = asyncio.run(crowd.call(server.port, "POST", "/completion", BODY))
        golden = golden or reply["content"]
        assert reply["content"] == golden
        cached += reply["timings"]["cache_n"]
        asyncio.run(busy(server.port, rng))
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        damaged += damage(folder, rng)
    server = serve(*options(folder))
    _, reply = asyncio.run(crowd.call(server.port, "POST", "/completion", BODY))
    assert reply["content"] == golden
    assert damaged, "no file was ever damaged: the test shows nothing"
    assert cached, "nothing was ever found again on disk: the test shows nothing"
