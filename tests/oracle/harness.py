"""What the tests against the oracle share: running the built program, distances between logits, prompts. Tests only.

Environment: RF_BUILD, the build directory that holds the binary; RF_SMOLLM2, the small real model; RF_LONG=1 for the long
forms. Models are made in a temporary folder of the session.
"""
import os
import pathlib
import subprocess

import numpy as np
import pytest

LONG = os.environ.get("RF_LONG") == "1"
SEEDS = (0, 1, 2) if LONG else (0,)


def binary():
    build = os.environ.get("RF_BUILD")
    if not build:
        pytest.skip("RF_BUILD is not set")
    return str(pathlib.Path(build) / "rocmforge")


def smollm2():
    path = os.environ.get("RF_SMOLLM2")
    if not path or not os.path.exists(path):
        pytest.skip("RF_SMOLLM2 is not set")
    return pathlib.Path(path)


def run(args, cpu=None, timeout=600, **options):
    env = {k: v for k, v in os.environ.items() if not k.startswith("ROCMFORGE_")}
    if cpu:
        env["ROCMFORGE_CPU"] = cpu
    return subprocess.run([binary(), *map(str, args)], env=env, capture_output=True, timeout=timeout, **options)


def our_logits(model, tokens, folder, ub=512, t=1, cpu=None, cache="f32"):
    """-> float32 [n_tok, n_vocab] of `rocmforge logits`."""
    file, out = pathlib.Path(folder) / "tokens.txt", pathlib.Path(folder) / "ours.npy"
    file.write_text(",".join(str(int(i)) for i in tokens))
    out.unlink(missing_ok=True)
    r = run(["logits", model, "--tokens-file", file, "-o", out, "-ub", ub, "-t", t, "-ctk", cache, "-ctv", cache], cpu)
    assert r.returncode == 0, f"{model} ub {ub} t {t} {cpu}: {r.stderr.decode(errors='replace')}"
    x = np.load(out)
    assert x.dtype == np.float32 and x.shape[0] == len(tokens)
    return x


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def kl(exact, other):
    """KL(exact || other) at each position, in nats."""
    p, q = log_softmax(exact), log_softmax(other)
    return (np.exp(p) * (p - q)).sum(-1)


def random_tokens(n, n_vocab, seed):
    return np.random.default_rng([n, seed]).integers(0, n_vocab, n)


def cpu_tiers():
    """Tiers of ROCMFORGE_CPU -> whether this CPU has them, read from /proc/cpuinfo and not from the program under test."""
    flags = set()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split(":")[1].split())
            break
    need = {"scalar": set(), "avx2": {"avx2", "fma", "f16c"}, "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}}
    return {tier: wants <= flags for tier, wants in need.items()}
