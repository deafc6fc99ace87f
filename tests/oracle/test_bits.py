"""The same token list gives the same bits: for any chunking, any number of threads, and on every CPU tier."""
import numpy as np
import pytest

import oracle
import prose
import tiny_models
from harness import LONG, cpu_tiers, our_logits, random_tokens, run, smollm2

MODELS = [("llama", t) for t in tiny_models.TYPES] + [("mixtral", "Q8_0"), ("mixtral", "Q4_K"), ("gemma3", "Q4_0"),
                                                      ("gemma3", "F16"), ("qwen3", "Q6_K"), ("llama_yarn", "Q5_1")]
WAYS = [dict(ub=1), dict(ub=7, t=2), dict(ub=32, t=4), dict(ub=512, t=2), dict(ub=1, t=4)]
TIERS = cpu_tiers()


def check_ways(path, tokens, folder, ways):
    first = our_logits(path, tokens, folder).view(np.uint32)
    for way in ways:
        x = our_logits(path, tokens, folder, **way).view(np.uint32)
        wrong = np.argwhere(x != first)
        assert not len(wrong), f"{way}: {len(wrong)} of {x.size} logits differ, the first at [row, token] {wrong[0]}"


@pytest.fixture(scope="module")
def smollm2_tokens():
    with oracle.Model(smollm2()) as m:
        return m.tokenize(prose.TEXT)


@pytest.mark.parametrize("arch,type_name", MODELS)
def test_chunks_and_threads(arch, type_name, tmp_path):
    path = tiny_models.make(tmp_path / "tiny.gguf", arch, type_name)
    check_ways(path, random_tokens(600 if LONG else 75, 470, 0), tmp_path, WAYS)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("arch,type_name", MODELS)
def test_tiers(arch, type_name, tier, tmp_path):
    path = tiny_models.make(tmp_path / "tiny.gguf", arch, type_name)
    tokens = random_tokens(75, 470, 0)
    if not TIERS[tier]:
        r = run(["logits", path, "--tokens", "1,2", "-o", tmp_path / "x.npy"], cpu=tier)
        assert r.returncode == 2 and b"backend.cpu_tier" in r.stderr
        pytest.skip(f"this CPU lacks {tier}")
    check_ways(path, tokens, tmp_path, [dict(cpu=tier), dict(cpu=tier, ub=1, t=2)])


def test_smollm2_chunks_and_threads(smollm2_tokens, tmp_path):
    check_ways(smollm2(), smollm2_tokens[:40], tmp_path, WAYS)


@pytest.mark.parametrize("tier", [t for t in TIERS if TIERS[t]])
def test_smollm2_tiers(smollm2_tokens, tier, tmp_path):
    check_ways(smollm2(), smollm2_tokens[:20], tmp_path, [dict(cpu=tier, t=2)])


@pytest.mark.parametrize("cache", ["f16", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_other_caches(arch, cache, tmp_path):
    path = tiny_models.make(tmp_path / "tiny.gguf", arch, "Q4_K")
    tokens = random_tokens(75, 470, 1)
    first = our_logits(path, tokens, tmp_path, cache=cache).view(np.uint32)
    for way in (dict(ub=1), dict(ub=7, t=4), dict(cpu="scalar")):
        x = our_logits(path, tokens, tmp_path, cache=cache, **way).view(np.uint32)
        assert np.array_equal(x, first), way
