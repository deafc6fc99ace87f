"""The same greedy request gives one text, whatever else the server does: mixed into batches with others, in chunks of any
size, from the prefix cache or not, preempted or not; and it is the command line's text.

Short form: 40 runs a configuration; RF_LONG: 200, over 1,000 runs in all."""
import asyncio
import os
import random
import subprocess

import crowd
import pytest

RUNS = 200 if os.environ.get("RF_LONG") else 40
GOLDEN = {"prompt": "Once upon a time, in a small village by the sea, there lived a", "n_predict": 24, "temperature": 0, "cache_prompt": True}
NOISE = ["The quick brown fox", "Once upon a time, in a small village by the sea, there was", "def main():\n    ", "Zwölf Boxkämpfer jagen",
         "Once upon a time", "1 2 3 4 5 6 7 8 9 10 11", "The history of the Roman Empire is " * 6]
CONFIGURATIONS = {
    "one at a time": ["--parallel", "1", "-c", "1024"],
    "batches of 8, chunks of 16": ["--parallel", "8", "-c", "1024", "--chunking", "fixed", "--chunk", "16"],
    "batches of 32, chunks of 512": ["--parallel", "32", "-c", "1024", "--chunking", "fixed", "--chunk", "512"],
    "batches of 8, adaptive": ["--parallel", "8", "-c", "1024", "--step-ms", "20"],
    "no prefix cache, small steps": ["--parallel", "8", "-c", "1024", "-ub", "32", "--no-prefix-cache"],
    "few pages, so that requests are preempted": ["--parallel", "16", "-c", "256", "--kv-tokens", "512"],
}


@pytest.fixture(scope="module")
def golden(binary, smollm2):
    done = subprocess.run([binary, "generate", smollm2, "-p", GOLDEN["prompt"], "-n", "24", "--temp", "0", "-q"], capture_output=True, check=True)
    return done.stdout.decode().removesuffix("\n")


async def mixed(port, runs, width, rng, wide):
    """`runs` golden requests among as many others, `width` at a time: the golden texts. wide: there are pages for all."""
    texts, gate = [], asyncio.Semaphore(width)

    async def one(body, keep):
        async with gate:
            status, reply = await crowd.call(port, "POST", "/completion", body)
            assert status == 200, reply
            if keep:
                texts.append(reply["content"])

    work = []
    for i in range(runs):
        work.append(one({**GOLDEN, "cache_prompt": i % 3 != 0}, True))
        other = {"prompt": rng.choice(NOISE), "n_predict": rng.randrange(1, 60) if wide else rng.randrange(60, 150), "temperature": rng.choice([0, 0.8, 1.5]), "seed": i}
        work.append(one(other, False))
    rng.shuffle(work)
    await asyncio.gather(*work)
    return texts


@pytest.mark.smoke
def test_one_text_briefly(serve, golden):
    server = serve("--parallel", "4", "-c", "256", "-ub", "32")
    assert set(asyncio.run(mixed(server.port, 3, 8, random.Random(1), True))) == {golden}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_one_text(serve, golden, name):
    options = CONFIGURATIONS[name]
    server = serve(*options)
    width = min(32, 2 * int(options[1]))
    texts = asyncio.run(mixed(server.port, RUNS, width, random.Random(len(name)), "preempted" not in name))
    assert len(texts) == RUNS and set(texts) == {golden}
    if "preempted" in name:
        _, metrics = asyncio.run(crowd.call(server.port, "GET", "/metrics"))
        count = next(line for line in metrics.decode().splitlines() if line.startswith("vllm:num_preemptions_total"))
        assert float(count.split()[-1]) > 0, "no request was preempted: the test shows nothing"
