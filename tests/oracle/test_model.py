"""Hyperparameters and tensors: what good files say, and what each bad one is refused with, by the name of the offender."""
import os
import pathlib
import re
import subprocess

import gguf
import numpy as np
import pytest

import tiny_models


def drive(*args):
    build = os.environ.get("RF_BUILD")
    if not build:
        pytest.skip("RF_BUILD is not set")
    r = subprocess.run([str(pathlib.Path(build) / "tests/unit/drive_model"), *map(str, args)], capture_output=True, timeout=60)
    assert r.returncode == 0, (r.returncode, r.stdout[-500:], r.stderr[-500:])
    return r.stdout.decode()


def fields(line):
    assert line.startswith("ok "), line
    return dict(re.findall(r"(\w+)=((?:tiny \S+ \S+ \S+)|\S*)", line))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {a: tiny_models.make(folder / f"{a}.gguf", a, "Q4_K") for a in tiny_models.ARCHS}


@pytest.mark.parametrize("arch", tiny_models.ARCHS)
def test_good(good, arch):
    c, f = tiny_models.config(arch), fields(drive(good[arch]))
    r = gguf.GGUFReader(str(good[arch]))
    assert f["arch"] == c["arch"]
    assert f["layers"] == str(c["n_layer"]) and f["d_model"] == "256" and f["d_ff"] == "512"
    assert f["heads"] == f"{c['n_head']}/{c['n_kv_head']}" and f["d_k"] == f["d_v"] == f["rot"] == str(c["d_head"])
    assert f["experts"] == f"{c['n_used']}/{c['n_expert']}"
    assert f["tied"] == str(int(c["tied"])) and f["neox"] == str(int(c["arch"] != "llama"))
    assert f["params"] == str(sum(int(t.n_elements) for t in r.tensors)) and f["type"] == "Q4_K_M"
    assert f["name"] == f"tiny {arch} Q4_K 0"


def test_rope_facts(good):
    assert fields(drive(good["llama"]))["scaling"] == "none"
    f = fields(drive(good["llama_yarn"]))
    assert (f["scaling"], f["freq_scale"], f["ext"], f["orig"]) == ("yarn", "0.25", "1", "256") and float(f["attn"]) == pytest.approx(1)
    f = fields(drive(good["llama_linear"]))
    assert (f["scaling"], f["freq_scale"], f["ext"]) == ("linear", "0.5", "0")
    f = fields(drive(good["gemma3"]))
    assert (f["base"], f["local_base"], f["freq_scale"]) == ("1e+06", "10000", "0.125")
    assert f["windows"] == "32,32,32,32,32,0,32" and f["window"] == "32"


V = gguf.GGUFValueType
U32, F32, STR, ARR, I32, F64, BOOL, U64 = V.UINT32, V.FLOAT32, V.STRING, V.ARRAY, V.INT32, V.FLOAT64, V.BOOL, V.UINT64
BAD_KEYS = [  # architecture, key, value, expected code, text that the message must hold
    ("llama", "general.architecture", ("nonesuch", STR), "model.architecture", "nonesuch"),
    ("llama", "general.architecture", ("", STR), "model.architecture", "general.architecture"),
    ("llama", "general.architecture", None, "model.architecture", "general.architecture"),
    ("llama", "general.architecture", (3, U32), "gguf.key", "general.architecture"),
    ("llama", "llama.block_count", (0, U32), "model.key", "llama.block_count"),
    ("llama", "llama.block_count", (1025, U32), "model.key", "llama.block_count"),
    ("llama", "llama.block_count", (2**31, U32), "model.key", "llama.block_count"),
    ("llama", "llama.block_count", (2**32 - 1, U32), "model.key", "llama.block_count"),
    ("llama", "llama.block_count", (2**64 - 1, U64), "model.key", "llama.block_count"),
    ("llama", "llama.block_count", (-1, I32), "gguf.key|model.key", "llama.block_count"),
    ("llama", "llama.block_count", ("2", STR), "gguf.key", "llama.block_count"),
    ("llama", "llama.block_count", (2.0, F32), "gguf.key", "llama.block_count"),
    ("llama", "llama.block_count", ([2, 2], ARR, U32), "gguf.key", "llama.block_count"),
    ("llama", "llama.block_count", None, "model.key", "llama.block_count"),
    ("llama", "llama.block_count", (3, U32), "model.tensor", "blk.2."),
    ("llama", "llama.block_count", (1, U32), "model.tensor", "blk.1."),
    ("llama", "llama.context_length", (0, U32), "model.key", "llama.context_length"),
    ("llama", "llama.context_length", (2**32 - 1, U32), "model.key", "llama.context_length"),
    ("llama", "llama.context_length", None, "model.key", "llama.context_length"),
    ("llama", "llama.embedding_length", (0, U32), "model.key", "llama.embedding_length"),
    ("llama", "llama.embedding_length", (2**32 - 1, U32), "model.key", "llama.embedding_length"),
    ("llama", "llama.embedding_length", (128, U32), "model.tensor", "token_embd.weight"),
    ("llama", "llama.embedding_length", None, "model.key", "llama.embedding_length"),
    ("llama", "llama.feed_forward_length", (0, U32), "model.key", "llama.feed_forward_length"),
    ("llama", "llama.feed_forward_length", (2**32 - 1, U32), "model.key", "llama.feed_forward_length"),
    ("llama", "llama.feed_forward_length", (256, U32), "model.tensor", "blk.0.ffn_gate.weight"),
    ("llama", "llama.feed_forward_length", ([512, 512, 512], ARR, U32), "model.key", "llama.feed_forward_length"),
    ("llama", "llama.feed_forward_length", ([512], ARR, U32), "model.key", "llama.feed_forward_length"),
    ("llama", "llama.feed_forward_length", ([512.0, 512.0], ARR, F32), "gguf.key", "llama.feed_forward_length"),
    ("llama", "llama.feed_forward_length", ([512, 256], ARR, U32), "model.tensor", "blk.1.ffn_gate.weight"),
    ("llama", "llama.feed_forward_length", None, "model.key", "llama.feed_forward_length"),
    ("llama", "llama.attention.head_count", (0, U32), "model.key", "llama.attention.head_count"),
    ("llama", "llama.attention.head_count", (1025, U32), "model.key", "llama.attention.head_count"),
    ("llama", "llama.attention.head_count", (2**32 - 1, U32), "model.key", "llama.attention.head_count"),
    ("llama", "llama.attention.head_count", (3, U32), "model.key", "head_count"),
    ("llama", "llama.attention.head_count", (8, U32), "model.tensor", "blk.0.attn_q.weight"),
    ("llama", "llama.attention.head_count", ([4, 0], ARR, U32), "model.key", "llama.attention.head_count"),
    ("llama", "llama.attention.head_count", ([4, 8], ARR, U32), "model.tensor", "blk.1.attn_q.weight"),
    ("llama", "llama.attention.head_count", ([4, -1], ARR, I32), "model.key", "llama.attention.head_count"),
    ("llama", "llama.attention.head_count", None, "model.key", "llama.attention.head_count"),
    ("llama", "llama.attention.head_count_kv", (0, U32), "model.key", "llama.attention.head_count_kv"),
    ("llama", "llama.attention.head_count_kv", (3, U32), "model.key", "head_count_kv"),
    ("llama", "llama.attention.head_count_kv", (8, U32), "model.key", "head_count_kv"),
    ("llama", "llama.attention.head_count_kv", (1, U32), "model.tensor", "blk.0.attn_k.weight"),
    ("llama", "llama.attention.head_count_kv", None, "model.tensor", "blk.0.attn_k.weight"),
    ("llama", "llama.attention.key_length", (0, U32), "model.key", "llama.attention.key_length"),
    ("llama", "llama.attention.key_length", (2**31, U32), "model.key", "llama.attention.key_length"),
    ("llama", "llama.attention.key_length", (63, U32), "model.key", "rope.dimension_count"),
    ("llama", "llama.attention.key_length", (128, U32), "model.tensor", "blk.0.attn_q.weight"),
    ("llama", "llama.attention.value_length", (0, U32), "model.key", "llama.attention.value_length"),
    ("llama", "llama.attention.value_length", (32, U32), "model.tensor", "blk.0.attn_v.weight"),
    ("llama", "llama.attention.layer_norm_rms_epsilon", None, "model.key", "layer_norm_rms_epsilon"),
    ("llama", "llama.attention.layer_norm_rms_epsilon", (-1e-5, F32), "model.key", "layer_norm_rms_epsilon"),
    ("llama", "llama.attention.layer_norm_rms_epsilon", (float("nan"), F32), "gguf.key", "layer_norm_rms_epsilon"),
    ("llama", "llama.attention.layer_norm_rms_epsilon", (float("inf"), F32), "gguf.key", "layer_norm_rms_epsilon"),
    ("llama", "llama.attention.layer_norm_rms_epsilon", ("1e-5", STR), "gguf.key", "layer_norm_rms_epsilon"),
    ("llama", "llama.rope.dimension_count", (0, U32), "model.key", "llama.rope.dimension_count"),
    ("llama", "llama.rope.dimension_count", (1, U32), "model.key", "llama.rope.dimension_count"),
    ("llama", "llama.rope.dimension_count", (33, U32), "model.key", "llama.rope.dimension_count"),
    ("llama", "llama.rope.dimension_count", (66, U32), "model.key", "llama.rope.dimension_count"),
    ("llama", "llama.rope.freq_base", (0.0, F32), "model.key", "llama.rope.freq_base"),
    ("llama", "llama.rope.freq_base", (-1.0, F32), "model.key", "llama.rope.freq_base"),
    ("llama", "llama.rope.freq_base", (float("nan"), F32), "gguf.key", "llama.rope.freq_base"),
    ("llama", "llama.rope.scaling.type", ("longrope", STR), "model.key", "longrope"),
    ("llama", "llama.rope.scaling.type", ("", STR), "model.key", "llama.rope.scaling.type"),
    ("llama", "llama.rope.scaling.type", (1, U32), "gguf.key", "llama.rope.scaling.type"),
    ("llama", "llama.rope.scaling.factor", (-2.0, F32), "model.key", "llama.rope.scaling.factor"),
    ("llama", "llama.rope.scaling.factor", (1e-9, F32), "model.key", "llama.rope.scaling.factor"),
    ("llama", "llama.rope.scaling.factor", (float("inf"), F32), "gguf.key", "llama.rope.scaling.factor"),
    ("llama", "llama.rope.scaling.original_context_length", (0, U32), "model.key", "original_context_length"),
    ("llama", "llama.vocab_size", (0, U32), "model.key", "llama.vocab_size"),
    ("llama", "tokenizer.ggml.tokens", (["a", "b"], ARR, STR), "model.key", "tokenizer.ggml.tokens"),
    ("llama", "llama.expert_count", (4, U32), "model.key", "llama.expert_used_count"),
    ("llama", "llama.expert_used_count", (2, U32), "model.key", "llama.expert_used_count"),
    ("mixtral", "llama.expert_count", (0, U32), "model.key", "llama.expert_used_count"),
    ("mixtral", "llama.expert_count", (1, U32), "model.key", "llama.expert_used_count"),
    ("mixtral", "llama.expert_count", (8, U32), "model.tensor", "blk.0.ffn_gate_inp.weight"),
    ("mixtral", "llama.expert_count", (2**32 - 1, U32), "model.key", "llama.expert_count"),
    ("mixtral", "llama.expert_used_count", (0, U32), "model.key", "llama.expert_used_count"),
    ("mixtral", "llama.expert_used_count", (2**32 - 1, U32), "model.key", "llama.expert_used_count"),
    ("mixtral", "llama.expert_used_count", (5, U32), "model.key", "llama.expert_used_count"),
    ("mixtral", "llama.expert_used_count", None, "model.key", "llama.expert_used_count"),
    ("gemma3", "gemma3.attention.sliding_window", (2**32 - 1, U32), "model.key", "sliding_window"),
    ("gemma3", "gemma3.attention.sliding_window", ("x", STR), "gguf.key", "sliding_window"),
    ("gemma3", "gemma3.attention.sliding_window_pattern", (5000, U32), "model.key", "sliding_window_pattern"),
    ("gemma3", "gemma3.attention.sliding_window_pattern", ([True] * 3, ARR, BOOL), "model.key", "sliding_window_pattern"),
    ("gemma3", "gemma3.attention.sliding_window_pattern", ([2] * 7, ARR, U32), "model.key", "sliding_window_pattern"),
    ("gemma3", "gemma3.final_logit_softcapping", (-1.0, F32), "model.key", "final_logit_softcapping"),
    ("llama", "general.name", (1, U32), "gguf.key", "general.name"),
    ("llama", "general.file_type", ("Q4", STR), "gguf.key", "general.file_type"),
    ("llama", "general.sampling.temp", (float("nan"), F32), "gguf.key", "general.sampling.temp"),
    ("llama", "general.sampling.top_k", (2**40, U64), "model.key", "general.sampling.top_k"),
]


def refused(path, code, text):
    line = drive(path).strip()
    assert line.split(" ")[0] in code.split("|") and text in line, line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("arch,key,value,code,text", BAD_KEYS, ids=[f"{k[1]}={str(k[2])[:30]}" for k in BAD_KEYS])
def test_bad_key(good, tmp_path, arch, key, value, code, text):
    refused(tiny_models.rewrite(good[arch], tmp_path / "bad.gguf", keys={key: value}), code, text)


def names_of(path):
    return [(t.name, len(t.shape)) for t in tiny_models.reader(path).tensors]


OPTIONAL = ("output.weight", "rope_freqs.weight", ".bias")


@pytest.mark.parametrize("arch", tiny_models.ARCHS)
def test_each_tensor(good, tmp_path, arch):
    """Each tensor in turn: missing, one row longer, swapped dims, of a type that is not built in, of the wrong type for a vector."""
    paths, wants = [], []

    def bad(code, name, **change):
        paths.append(tiny_models.rewrite(good[arch], tmp_path / f"{len(paths)}.gguf", **change))
        wants.append((code, name))

    for name, n_dims in names_of(good[arch]):
        if name.startswith("blk.") and not name.startswith("blk.1."):
            continue
        if not name.endswith(OPTIONAL):
            bad("model.tensor", name, drop=[name])
        code = "model.tensor|model.key" if name == "token_embd.weight" else "model.tensor"
        if n_dims == 1:
            bad(code, name, tensors={name: lambda x: (np.concatenate([x, x[:1]]), "F32")})
            bad(code, name, tensors={name: lambda x: (x, "F16")})
            bad(code, name, tensors={name: lambda x: (x[:0 - len(x) // 2], "F32")})
        else:
            bad(code, name, tensors={name: lambda x: (np.concatenate([x, x[:1]]), "F32")})
            bad(code, name, tensors={name: lambda x: (x[..., :x.shape[-1] // 2], "F32")})
            bad("model.type", name, tensors={name: lambda x: (x[..., :256] if x.shape[-1] % 256 else x, "IQ4_NL")})
            bad(code, name, tensors={name: lambda x: (x[None, None] if x.ndim == 2 else np.stack([x, x]), "F32")}
                if n_dims == 3 else {name: lambda x: (np.stack([x, x]), "F32")})
    lines = drive(*paths).strip().splitlines()
    assert len(lines) == len(wants)
    for line, (code, name) in zip(lines, wants):
        assert line.split(" ")[0] in code.split("|") and name in line, (line, code, name)


@pytest.mark.parametrize("name", ["blk.0.attn_qkv.weight", "blk.2.attn_q.weight", "rope_freqs.weights", "cls.output.weight",
                                  "blk.0.ffn_gate.0.weight", "blk.00.attn_q.weight", "zzz"])
def test_unknown_tensor(good, tmp_path, name):
    x = np.zeros((4, 256), np.float32)
    refused(tiny_models.rewrite(good["llama"], tmp_path / "bad.gguf", extra=[(name, x, "F32")]), "model.tensor", name)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -1.0])
def test_bad_factor(good, tmp_path, value):
    def change(x):
        x[3] = value
        return x, "F32"
    refused(tiny_models.rewrite(good["llama_factors"], tmp_path / "bad.gguf", tensors={"rope_freqs.weight": change}), "model.tensor", "rope_freqs")


def test_more_that_must_load(good, tmp_path):
    """Odd but right: per-layer arrays, no key lengths, an older vocab_size, wide integer types, a pattern of flags."""
    llama = good["llama"]
    for keys in ({"llama.attention.head_count": ([4, 4], ARR, U32), "llama.attention.head_count_kv": ([2, 2], ARR, I32)},
                 {"llama.attention.key_length": None, "llama.attention.value_length": None, "llama.rope.dimension_count": None},
                 {"llama.vocab_size": (500, U32)}, {"llama.block_count": (2, U64)}, {"llama.rope.scaling.factor": (0.0, F32)},
                 {"llama.attention.layer_norm_rms_epsilon": (1e-5, F64)},
                 {"general.sampling.top_k": (-1, I32), "general.sampling.temp": (0.6, F32)}, {"general.file_type": (999, U32)}):
        fields(drive(tiny_models.rewrite(llama, tmp_path / "x.gguf", keys=keys)))
    flags = [True, False] * 3 + [True]
    f = fields(drive(tiny_models.rewrite(good["gemma3"], tmp_path / "x.gguf",
                             keys={"gemma3.attention.sliding_window_pattern": (flags, ARR, BOOL)})))
    assert f["windows"] == "32,0,32,0,32,0,32"
    f = fields(drive(tiny_models.rewrite(good["gemma3"], tmp_path / "x.gguf", keys={"gemma3.attention.sliding_window": None})))
    assert f["window"] == "0"


@pytest.mark.parametrize("arch", ["llama", "mixtral", "gemma3"])
def test_allocation_fails(good, arch):
    assert re.fullmatch(r"ok \d+\n", drive("--alloc", good[arch]))


def test_smollm2():
    path = os.environ.get("RF_SMOLLM2")
    if not path:
        pytest.skip("RF_SMOLLM2 is not set")
    f = fields(drive(path))
    assert (f["arch"], f["layers"], f["d_model"], f["heads"], f["vocab"]) == ("llama", "30", "576", "9/3", "49152")
