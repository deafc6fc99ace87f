"""Embeddings against the oracle: tiny random encoders of every architecture, qwen3, and all-MiniLM-L6-v2.

The exact result is the same weights decoded to F32 and run by the oracle. F32 weights: no embedding further from it than 1e-5
(cosine distance), no score further than 2e-3; the oracle computes GELU by the tanh form and a table of half floats, we the
exact one where a model was trained with it. Other types: over 60 prompts our mean distance is at most 1.1 times the oracle's
own (1.3 for scores, single numbers that scatter more), or below the bound of F32. Bits do not depend on the batch, the steps, threads and tier.
"""
import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

import minilm
import oracle
import tiny_encoders
import tiny_models
from harness import LONG, SEEDS, cpu_tiers, random_tokens, run

POOLING = {"model": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
ENCODERS = [n for n, (arch, _) in tiny_encoders.ARCHS.items() if arch != "qwen3"]
ONE_OF_EACH = ["bert", "nomic-bert", "jina-bert-v2_code", "modern-bert", "modern-bert_rank", "gemma-embedding"]
TYPES = tiny_models.TYPES if LONG else ["F32", "F16", "Q8_0"]
COSINE, SCORE = 1e-5, 2e-3
LENGTHS = (1, 9, 70, 160)


def drive(model, out, lines, options):
    build = os.environ.get("RF_BUILD")
    if not build:
        pytest.skip("RF_BUILD is not set")
    env = {k: v for k, v in os.environ.items() if not k.startswith("ROCMFORGE_")}
    args = [pathlib.Path(build) / "tests/unit/drive_embed", model, out, *[f"{k}={v}" for k, v in options.items()]]
    r = subprocess.run(list(map(str, args)), env=env, input="\n".join(lines).encode() + b"\n", capture_output=True, timeout=600)
    assert r.returncode == 0, r.stderr.decode(errors="replace")
    return r.stdout.decode()


def ours(model, prompts, folder, pooling="model", kv="f32", **options):
    """-> float32 [n, width]. prompts: token lists, or texts with texts=1, pairs "query\\tdocument" with texts=2."""
    lines = prompts if "texts" in options else [",".join(str(int(t)) for t in p) for p in prompts]
    out = pathlib.Path(folder) / "rows.f32"
    said = drive(model, out, lines, {"pooling": POOLING[pooling], "parallel": len(prompts), "kv": kv, **options})
    assert said.startswith(f"ok {len(prompts)} "), said
    return np.fromfile(out, np.float32).reshape(len(prompts), int(said.split()[2]))


def refusal(model, prompts, folder, **options):
    return drive(model, pathlib.Path(folder) / "rows.f32", [",".join(str(int(t)) for t in p) for p in prompts], options)


def distance(x, y, scores):
    """Of each row: cosine distance; of scores, the largest difference."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    if scores:
        return np.abs(x - y).max(1)
    return 1 - (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


def prompts_of(n_vocab, seed=0, lengths=LENGTHS):
    return [random_tokens(n, n_vocab, seed).tolist() for n in lengths]


def same_bits(x, y):
    return np.array_equal(x.view(np.uint32), y.view(np.uint32))


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("name", tiny_encoders.ARCHS)
def test_tiny(name, type_name, tmp_path):
    scores = tiny_encoders.config(name)["pooling"] == "rank"
    bound, mine, theirs = SCORE if scores else COSINE, [], []
    for seed in SEEDS:
        path = tiny_encoders.make(tmp_path / "tiny.gguf", name, type_name, seed)
        exact_path = path if type_name == "F32" else tiny_models.decode_to_f32(path, tmp_path / "exact.gguf")
        with oracle.Model(path) as model, oracle.Model(exact_path) as exact_model:
            prompts = prompts_of(model.n_vocab, seed, LENGTHS if type_name == "F32" else range(2, 62))
            x = ours(path, prompts, tmp_path)
            assert np.isfinite(x).all()
            exact = exact_model.embeddings(prompts, width=x.shape[1])
            mine.append(distance(x, exact, scores))
            theirs.append(distance(model.embeddings(prompts, width=x.shape[1]), exact, scores))
    mine, theirs = np.concatenate(mine), np.concatenate(theirs)
    if type_name == "F32":
        assert mine.max() <= bound, mine
    assert mine.mean() <= max((1.3 if scores else 1.1) * theirs.mean(), bound), f"mean {mine.mean():.2e}, the oracle's {theirs.mean():.2e}"
    print(f"{name} {type_name}: mean {mine.mean():.2e}, the oracle's {theirs.mean():.2e}")


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("name", ["bert_cls", "modern-bert", "gemma-embedding", "qwen3"])
def test_pooling(name, pooling, tmp_path):
    path = tiny_encoders.make(tmp_path / "tiny.gguf", name)
    with oracle.Model(path) as model:
        prompts = prompts_of(model.n_vocab, 2)
        exact = model.embeddings(prompts, pooling=tiny_encoders.POOLING[pooling])
    x = ours(path, prompts, tmp_path, pooling)
    assert distance(x, exact, False).max() <= COSINE


def test_pooling_not_said(tmp_path):
    path = tiny_encoders.make(tmp_path / "tiny.gguf", "bert", pooling="none")
    prompts = prompts_of(400)
    assert same_bits(ours(path, prompts, tmp_path), ours(path, prompts, tmp_path, "mean"))


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "qwen3", "qwen3_rank"])
def test_batch_keeps_bits(name, tmp_path):
    """Several in one batch, in any order, one by one, in smaller steps, with more threads: the same bits."""
    path = tiny_encoders.make(tmp_path / "tiny.gguf", name)
    prompts = prompts_of(400, 1, (33, 1, 160, 64, 7, 65, 128))
    first = ours(path, prompts, tmp_path)
    alone = np.concatenate([ours(path, [p], tmp_path) for p in prompts])
    assert same_bits(first, alone)
    assert same_bits(first[::-1], ours(path, prompts[::-1], tmp_path))
    for way in (dict(parallel=1), dict(parallel=2, threads=2), dict(ubatch=50, threads=4), dict(context=160, parallel=3, ubatch=1),
                dict(threads=3)):
        assert same_bits(first, ours(path, prompts, tmp_path, **way)), way


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "bert_rank", "qwen3_rank"])
@pytest.mark.parametrize("type_name", ["F32", "Q8_0"])
def test_tiers(name, type_name, tmp_path):
    path = tiny_encoders.make(tmp_path / "tiny.gguf", name, type_name)
    prompts = prompts_of(400, 3)
    rows = [ours(path, prompts, tmp_path, tier=tier) for tier, there in cpu_tiers().items() if there]
    for x in rows[1:]:
        assert same_bits(rows[0], x)


@pytest.mark.parametrize("kv", ["f16", "q8_0"])
def test_cache_types(kv, tmp_path):
    """An encoder's keys and values may be kept smaller; f32 is what it takes unasked."""
    path = tiny_encoders.make(tmp_path / "tiny.gguf", "bert")
    prompts = prompts_of(400, 4)
    exact, x = ours(path, prompts, tmp_path), ours(path, prompts, tmp_path, kv=kv)
    assert not same_bits(exact, x) and distance(exact, x, False).max() < 1e-4
    info = run(["plan", path, "--json"])
    assert info.returncode == 0 and b"F32" in run(["plan", path]).stdout


def test_prefix_cache(tmp_path):
    """A decoder's last state may come from cached pages; the first and the mean are computed; an encoder caches nothing."""
    prompts = prompts_of(400, 5, (160,)) * 2
    for name, pooling in (("qwen3", "last"), ("qwen3", "mean"), ("qwen3", "cls"), ("qwen3_rank", "rank"), ("bert", "mean")):
        path = tiny_encoders.make(tmp_path / "tiny.gguf", name)
        x = ours(path, prompts, tmp_path, pooling, parallel=1)
        assert same_bits(x[:1], x[1:]), (name, pooling)


def test_refused(tmp_path):
    path = tiny_encoders.make(tmp_path / "tiny.gguf", "bert_cls")
    long = random_tokens(301, 400, 0)
    said = refusal(path, [long], tmp_path)
    assert said.startswith("request.context_length") and "301" in said and "300" in said
    assert len(ours(path, [long[:300]], tmp_path)) == 1
    said = refusal(path, [long[:5]], tmp_path, context=301)
    assert said.startswith("usage.range") and "300" in said
    assert refusal(path, [long[:5]], tmp_path, generate=1).startswith("model.embeds_only bert ")
    assert refusal(path, [long[:5]], tmp_path, pooling=4).startswith("backend.unsupported")
    assert refusal(path, [long[:5]], tmp_path, pooling=5).startswith("usage.range")
    assert refusal(path, [long[:5]], tmp_path, device="gpu").startswith("backend.unsupported")
    for command in (["generate", path, "-p", "a"], ["chat", path, "-p", "a"], ["logits", path, "--tokens", "1", "-o", tmp_path / "x"],
                    ["bench", path], ["verify", path]):
        r = run(command)
        assert r.returncode == 1 and b"error[model.embeds_only]" in r.stderr, command
    assert not (tmp_path / "x").exists()


def test_plan(tmp_path):
    """An encoder's step holds a whole context, its cache no more than a step; the largest context is one it has positions for."""
    path = tiny_encoders.make(tmp_path / "tiny.gguf", "jina-bert-v2")
    plan = json.loads(run(["plan", path, "--json", "--parallel", "64", "-ub", "100"]).stdout)
    assert plan["context"] == plan["ubatch"] == 1024 and plan["cache_type_k"] == "F32" and plan["fits"]
    assert plan["largest_context"] == 1024 and plan["kv_tokens"] == 1024 + 64 * plan["page_tokens"]
    layer = 2 * 256 * 4 * plan["kv_tokens"]  # keys and values of one layer: the others use its place after it
    assert layer <= plan["bytes"]["kv"] < 1.2 * layer
    small = json.loads(run(["plan", path, "--json", "-c", "64"]).stdout)
    assert small["ubatch"] == 64 and small["bytes"]["activations"] < plan["bytes"]["activations"] / 8
    r = run(["plan", tiny_encoders.make(tmp_path / "bert.gguf", "bert"), "-c", "513"])
    assert r.returncode == 2 and b"512" in r.stderr


def test_inspect(tmp_path):
    path = tiny_encoders.make(tmp_path / "tiny.gguf", "bert_rank_3")
    text = run(["inspect", path]).stdout.decode()
    assert "an encoder, pooling rank" in text
    graph = run(["inspect", path, "--graph"]).stdout.decode()
    assert "ahead all" in graph and "gelu_erf" in graph and " scores %" in graph
    assert '"n_scores":3' in run(["inspect", path, "--json"]).stdout.decode().replace(" ", "")


WRONG = {  # what a file may say wrong -> what it is refused with
    "eps": ("bert", dict(keys={"attention.layer_norm_epsilon": None}), "model.key"),
    "causal": ("bert", dict(keys={"attention.causal": (True, tiny_encoders.gguf.GGUFValueType.BOOL)}), "model.key"),
    "not causal": ("qwen3", dict(keys={"attention.causal": (False, tiny_encoders.gguf.GGUFValueType.BOOL)}), "model.key"),
    "pooling": ("bert", dict(keys={"pooling_type": (9, tiny_encoders.gguf.GGUFValueType.UINT32)}), "model.key"),
    "positions": ("bert", dict(tensors={"position_embd.weight": lambda x: (x[:100], "F32")}), "model.tensor"),
    "no positions": ("bert", dict(drop=("position_embd.weight",)), "model.tensor"),
    "head": ("bert_rank", dict(tensors={"cls.weight": lambda x: (x[:, :128], "F32")}), "model.tensor"),
    "activation": ("modern-bert_silu", dict(keys={"hidden_activation": ("relu", tiny_encoders.gguf.GGUFValueType.STRING)}), "model.key"),
    "no window": ("gemma-embedding", dict(keys={"attention.sliding_window": None}), "model.key"),
    "dense": ("gemma-embedding_dense", dict(drop=("dense_3.weight",)), "model.tensor"),
    "gate": ("modern-bert", dict(tensors={"blk.0.ffn_up.weight": lambda x: (x[:512], "F32")}), "model.tensor"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_file(what, tmp_path):
    name, change, code = WRONG[what]
    path = tiny_encoders.make(tmp_path / "tiny.gguf", name)
    arch = tiny_encoders.ARCHS[name][0]
    change = {**change, "keys": {f"{arch}.{k}": v for k, v in change.get("keys", {}).items()}}
    tiny_models.rewrite(path, tmp_path / "wrong.gguf", **change)
    r = run(["inspect", tmp_path / "wrong.gguf"])
    assert r.returncode == 1 and f"error[{code}]".encode() in r.stderr, r.stderr


SMALL = dict(d_model=32, d_ff=32, n_head=2, n_kv_head=2, d_head=16, n_layer=2)
SMALL_ONES = ["bert_rank", "nomic-bert", "jina-bert-v2_code", "modern-bert_rank", "gemma-embedding", "qwen3_rank"]


def drive_model(*args):
    env = {k: v for k, v in os.environ.items() if not k.startswith("ROCMFORGE_")}
    r = subprocess.run(list(map(str, (pathlib.Path(os.environ["RF_BUILD"]) / "tests/unit/drive_model", *args))), env=env,
                       capture_output=True, timeout=600)
    assert r.returncode == 0, (args, r.returncode, r.stderr[-2000:])
    return r.stdout.decode(errors="replace").splitlines()


@pytest.mark.parametrize("name", SMALL_ONES)
def test_flipped_bytes(name, tmp_path):
    """Any byte of keys and tensor list changed: the model is built, or refused with a reason; and out of memory at each allocation."""
    path = tiny_encoders.make(tmp_path / "tiny.gguf", name, **SMALL)
    assert drive_model("--alloc", path)[0].startswith("ok ")
    good, rng = path.read_bytes(), np.random.default_rng(len(name))
    at = good.index(b".context_length")  # the vocabulary stands before it, and has tests of its own
    end = good.index(b"output_norm.weight") if b"output_norm.weight" in good else good.index(b"cls")
    said = []
    for _ in range(4):
        files = []
        for i in range(60 if LONG else 25):
            bad = bytearray(good)
            for _ in range(int(rng.integers(1, 3))):
                bad[int(rng.integers(at, end))] = int(rng.integers(256))
            files.append(tmp_path / f"{i}.gguf")
            files[-1].write_bytes(bad)
        said += drive_model(*files)
    codes = [line.split()[0] for line in said]
    assert len(codes) == 4 * len(files) and set(codes) & {"model.key", "model.tensor"}
    assert not set(codes) & {"internal.graph", "internal.bug", "memory.exhausted"}, set(codes)


def test_one_step(tmp_path):
    """What fits goes in one step, whole; what does not fit beside the others waits for the next."""
    path = tiny_encoders.make(tmp_path / "tiny.gguf", "bert")
    prompts = prompts_of(400, 6, (100, 100, 100, 100))
    lines = [",".join(map(str, p)) for p in prompts]
    for ubatch, steps in ((512, range(1, 5)), (1, [4])):  # they come one after the other: the first step may not see them all
        said = drive(path, tmp_path / "rows.f32", lines, dict(parallel=4, ubatch=ubatch, context=100))
        assert int(said.split("steps=")[1]) in steps, said


def test_pairs(tmp_path):
    """BOS query EOS SEP document EOS, of which the vocabulary adds what it says; control tokens in texts stay text."""
    path = tiny_encoders.make(tmp_path / "tiny.gguf", "qwen3_rank")
    with oracle.Model(path) as model:
        q, d = "the of and", "this is that <|im_end|>"
        ids = model.tokenize(q, False, False) + model.tokenize(d, False, False)
        assert same_bits(ours(path, [f"{q}\t{d}"], tmp_path, texts=2), ours(path, [ids], tmp_path))
        template = "<|endoftext|>{query} to {document}<|im_end|>"
        rerank = tiny_models.rewrite(path, tmp_path / "rerank.gguf",
                                     keys={"tokenizer.chat_template.rerank": (template, tiny_encoders.gguf.GGUFValueType.STRING)}) or tmp_path / "rerank.gguf"
        ids = model.tokenize(template.replace("{query}", q).replace("{document}", d[:13]), False, True)
    assert same_bits(ours(rerank, [f"{q}\t{d[:13]}"], tmp_path, texts=2), ours(rerank, [ids], tmp_path))


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory):
    return minilm.make(tmp_path_factory.mktemp("minilm") / "minilm.gguf")


def test_minilm_pairs(sentence_model, tmp_path):
    """[CLS] query [SEP] document, as llama.cpp puts a pair together for a WordPiece vocabulary."""
    with oracle.Model(sentence_model) as model:
        q, d = "what is the capital of france?", "Paris is the capital and largest city of France."
        ids = [101, *model.tokenize(q, False), 102, *model.tokenize(d, False)]
        assert model.tokenize("paris") == [101, *model.tokenize("paris", False), 102]
    assert same_bits(ours(sentence_model, [f"{q}\t{d}"], tmp_path, texts=2), ours(sentence_model, [ids], tmp_path))


def test_minilm(sentence_model, tmp_path):
    """200 sentences in twenty languages: within 1e-4 of the oracle and of the NumPy forward pass."""
    texts = minilm.sentences()
    assert len(set(texts)) == 200
    with oracle.Model(sentence_model) as model:
        ids = [model.tokenize(t) for t in texts]
        theirs = np.concatenate([model.embeddings(ids[i:i + 8]) for i in range(0, 200, 8)])
    exact = minilm.Forward().embed(ids)
    x = ours(sentence_model, [t.replace("\n", " ") for t in texts], tmp_path, texts=1, parallel=16)
    assert same_bits(x, ours(sentence_model, ids, tmp_path, parallel=4, threads=2))  # the texts' tokens are the oracle's
    from_oracle, from_exact = distance(x, theirs, False), distance(x, exact, False)
    print(f"cosine distance, worst of 200: {from_oracle.max():.2e} from the oracle, {from_exact.max():.2e} from NumPy; "
          f"the oracle's from NumPy {distance(theirs, exact, False).max():.2e}")
    assert from_oracle.max() <= 1e-4 and from_exact.max() <= 1e-6
