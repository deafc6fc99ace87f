"""Greedy text of SmolLM2: ten prompts, 64 tokens, the same as the oracle's, or a tie at the first difference.

A tie: the oracle's own logits put the two tokens closer together than the oracle itself is from the exact result there
(the weights decoded to F32), so that its choice is decided by rounding and ours is as good."""
import json

import numpy as np
import pytest

import oracle
import tiny_models
from harness import run, smollm2

N = 64
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    "Water boils at 100 degrees Celsius because",
    "<|im_start|>user\nWrite a short poem about the moon.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhat is 12 times 12?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "1, 2, 3, 5, 8, 13,",
    "Die Hauptstadt von Deutschland ist",
    "List three reasons to learn a second language:\n1.",
    "In 1969, two astronauts",
]


@pytest.fixture(scope="module")
def model():
    with oracle.Model(smollm2()) as m:
        yield m


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "exact.gguf"
    tiny_models.decode_to_f32(smollm2(), path)
    with oracle.Model(path) as m:
        yield m
    path.unlink()


def our_text(prompt):
    r = run(["generate", smollm2(), "-p", prompt, "-n", N, "--temp", 0, "-ctk", "f32", "-ctv", "f32", "--json"])
    assert r.returncode == 0, r.stderr.decode(errors="replace")
    return json.loads(r.stdout)


@pytest.mark.parametrize("i", range(len(PROMPTS)))
def test_greedy(i, model, exact):
    prompt = model.tokenize(PROMPTS[i])
    want, logits = model.greedy(prompt, N)
    answer = our_text(PROMPTS[i])
    got = [t for t in answer["tokens"] if not model.is_end(t)]
    assert answer["prompt_tokens"] == len(prompt)
    if got == want:
        return
    at = next((j for j, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    assert at < len(logits), "we went on where the oracle ended, or ended early"
    theirs = logits[at]
    first = int(theirs.argmax())
    ours = got[at] if at < len(got) else max((t for t in range(model.n_vocab) if model.is_end(t)), key=lambda t: theirs[t])
    off = np.abs(exact.logits(prompt + want[:at])[-1].astype(np.float64) - theirs).max()
    gap = float(theirs[first] - theirs[ours])
    assert gap <= off, f"token {at}: the oracle prefers {first} to our {ours} by {gap:.4f}, its rounding is {off:.4f}"
