"""Tiny random encoders, and an embedder and reranker that decodes: GGUF files that the oracle and rocmforge both load.

As tiny_models.py: d_model 256, 4 heads of 64, d_ff 512; 3 layers (where layers differ by a pattern: 7). Weights are scaled so
that attention is neither flat nor one-hot and each part of a block matters.
"""
import pathlib

import gguf
import numpy as np

import ggml
import tiny_models

POOLING = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
BASE = dict(d_model=256, d_ff=512, n_head=4, n_kv_head=4, d_head=64, n_layer=3, context=512, n_vocab=512, tokens="spm", pre=None,
            post_norm=True, bias=True, pooling="mean", head=None, rope_base=None, window=0, fused=False, gate=None, qk_norm=False,
            norm_2=False, keys={}, labels=0)
ARCHS = {  # name -> (architecture in the file, differences from BASE)
    "bert": ("bert", {}),
    "bert_cls": ("bert", dict(pooling="cls", context=300)),
    "bert_rank": ("bert", dict(pooling="rank", head="dense", tokens="bpe", pre="qwen2")),
    "bert_rank_3": ("bert", dict(pooling="rank", head="out", labels=3)),
    "nomic-bert": ("nomic-bert", dict(rope_base=1000.0, fused=True, bias=False, gate="own", context=2048)),
    "nomic-bert_parts": ("nomic-bert", dict(rope_base=10000.0, gate="own", pooling="cls")),
    "jina-bert-v2": ("jina-bert-v2", dict(gate="own", context=1024)),
    "jina-bert-v2_code": ("jina-bert-v2", dict(gate="half", qk_norm=True, norm_2=True, tokens="bpe", pre="qwen2")),
    "jina-bert-v2_rank": ("jina-bert-v2", dict(gate="half", pooling="rank", head="jina", n_head=12, d_head=64, d_model=768)),
    "modern-bert": ("modern-bert", dict(bias=False, fused=True, gate="half", n_layer=7, window=32, rope_base=160000.0, pooling="cls")),
    "modern-bert_silu": ("modern-bert", dict(bias=False, fused=True, gate="half", n_layer=4, window=17, rope_base=80000.0,
                                             keys={"hidden_activation": "silu", "rope.freq_base_swa": 500.0})),
    "modern-bert_wide": ("modern-bert", dict(bias=False, fused=True, gate="half", rope_base=160000.0)),
    "modern-bert_rank": ("modern-bert", dict(bias=False, fused=True, gate="half", window=32, rope_base=160000.0, pooling="rank",
                                             head="modern", labels=2)),
    "modern-bert_rank_cls": ("modern-bert", dict(bias=False, fused=True, gate="half", window=32, rope_base=160000.0,
                                                 pooling="rank", head="modern", keys={"classifier.pooling_type": 2})),
    "gemma-embedding": ("gemma-embedding", dict(n_kv_head=2, n_layer=7, window=32, rope_base=1e6, bias=False)),
    "gemma-embedding_dense": ("gemma-embedding", dict(n_kv_head=1, n_layer=6, window=32, rope_base=1e6, bias=False, dense=512)),
    "qwen3": ("qwen3", dict(n_kv_head=2, d_head=128, rope_base=1e6, tokens="bpe", pre="qwen2", pooling="last", bias=False)),
    "qwen3_rank": ("qwen3", dict(n_kv_head=2, d_head=128, rope_base=1e6, tokens="bpe", pre="qwen2", pooling="rank", bias=False,
                                 head="plain", labels=2)),
}
DECODERS = ("gemma-embedding", "qwen3")  # built of a decoder's parts: RMS norms before blocks, gates of their own


def config(name, **changes):
    arch, differences = ARCHS[name]
    return {"dense": 0, **BASE, **differences, **changes, "arch": arch}


def add_keys(w, c):
    a = c["arch"]
    w.add_context_length(c["context"])
    w.add_embedding_length(c["d_model"])
    w.add_block_count(c["n_layer"])
    w.add_feed_forward_length(c["d_ff"])
    w.add_head_count(c["n_head"])
    w.add_head_count_kv(c["n_kv_head"])
    if c["d_head"] * c["n_head"] != c["d_model"] or a in DECODERS:
        w.add_key_length(c["d_head"])
        w.add_value_length(c["d_head"])
    if a in DECODERS:
        w.add_layer_norm_rms_eps(1e-6)
    else:
        w.add_layer_norm_eps(1e-5)
        w.add_token_type_count(2)
    if a != "qwen3":
        w.add_causal_attention(False)
    w.add_pooling_type(gguf.PoolingType(POOLING[c["pooling"]]))
    if c["rope_base"]:
        w.add_rope_freq_base(c["rope_base"])
    if c["window"]:
        w.add_sliding_window(c["window"])
    if c["labels"]:
        w.add_array(f"{a}.classifier.output_labels", [f"label {i}" for i in range(c["labels"])])
    if c["dense"]:
        for key, value in (("dense_2_feat_in", c["d_model"]), ("dense_2_feat_out", c["dense"]), ("dense_3_feat_in", c["dense"]),
                           ("dense_3_feat_out", c["d_model"])):
            w.add_uint32(f"{a}.{key}", value)
    for key, value in c["keys"].items():
        {str: w.add_string, int: w.add_uint32, float: w.add_float32}[type(value)](f"{a}.{key}", value)


class Weights:
    """Yields (name, float32 array, quantised?)."""

    def __init__(self, c, rng):
        self.c, self.rng, self.all = c, rng, []

    def matrix(self, name, rows, cols, gain=1.0, bias=None, quantised=True):
        self.all.append((name + ".weight", (self.rng.standard_normal((rows, cols)) * gain / np.sqrt(cols)).astype(np.float32), quantised))
        if self.c["bias"] if bias is None else bias:
            self.vector(name + ".bias", rows, 0.0, 0.3)

    def vector(self, name, n, mean=1.0, spread=0.1):
        self.all.append((name, (mean + spread * self.rng.standard_normal(n)).astype(np.float32), False))

    def norm(self, name, n):
        self.vector(name + ".weight", n)
        if self.c["arch"] not in ("modern-bert", *DECODERS):
            self.vector(name + ".bias", n, 0.0, 0.1)

    def qkv(self, at):
        c, d = self.c, self.c["d_model"]
        dq, dkv = c["n_head"] * c["d_head"], c["n_kv_head"] * c["d_head"]
        if c["fused"]:
            self.matrix(at + "attn_qkv", dq + 2 * dkv, d, 1.4)
        else:
            for name, rows in (("attn_q", dq), ("attn_k", dkv), ("attn_v", dkv)):
                self.matrix(at + name, rows, d, 1.4)
        self.matrix(at + "attn_output", d, dq)

    def encoder_layer(self, i):
        c, at, d, dff = self.c, f"blk.{i}.", self.c["d_model"], self.c["d_ff"]
        modern = c["arch"] == "modern-bert"
        self.qkv(at)
        if c["qk_norm"]:
            self.norm(at + "attn_q_norm", d)
            self.norm(at + "attn_k_norm", d)
        if modern and i:
            self.norm(at + "attn_norm", d)
        self.norm(at + ("ffn_norm" if modern else "attn_output_norm"), d)
        if c["norm_2"]:
            self.norm(at + "attn_norm_2", d)
        if c["gate"] == "own":
            self.matrix(at + "ffn_gate", dff, d, 1.5, bias=False)
        nomic = c["arch"] == "nomic-bert"
        self.matrix(at + "ffn_up", dff * (2 if c["gate"] == "half" else 1), d, bias=False if nomic else None)
        self.matrix(at + "ffn_down", d, dff, bias=False if nomic else None)
        if not modern:
            self.norm(at + "layer_output_norm", d)

    def decoder_layer(self, i):
        c, at, d, dff = self.c, f"blk.{i}.", self.c["d_model"], self.c["d_ff"]
        self.qkv(at)
        self.norm(at + "attn_norm", d)
        self.norm(at + "attn_q_norm", c["d_head"])
        self.norm(at + "attn_k_norm", c["d_head"])
        if c["arch"] == "gemma-embedding":
            self.norm(at + "post_attention_norm", d)
            self.norm(at + "post_ffw_norm", d)
        self.norm(at + "ffn_norm", d)
        for name, rows, cols in (("ffn_gate", dff, d), ("ffn_up", dff, d), ("ffn_down", d, dff)):
            self.matrix(at + name, rows, cols)

    def rank_head(self):
        c, d, n = self.c, self.c["d_model"], max(1, self.c["labels"])
        if c["head"] in ("dense", "modern"):
            self.matrix("cls", d, d, 2.0, bias=c["head"] == "dense", quantised=False)
        if c["head"] == "modern":
            self.norm("cls.norm", d)
        if c["head"] == "jina":
            self.matrix("cls", 1, d, 0.5, bias=True, quantised=False)
        elif c["head"]:
            self.matrix("cls.output", n, d, bias=c["head"] in ("dense", "out"), quantised=False)

    def make(self):
        c, a, d = self.c, self.c["arch"], self.c["d_model"]
        decoder = a in DECODERS
        self.matrix("token_embd", c["n_vocab"], d, 1.0 if decoder else 3.0, bias=False)
        if not decoder:
            if a != "modern-bert":
                self.matrix("token_types", 2, d, 3.0, bias=False, quantised=False)
            if a == "bert":
                self.matrix("position_embd", c["context"], d, 3.0, bias=False, quantised=False)
            self.norm("token_embd_norm", d)
        for i in range(c["n_layer"]):
            self.decoder_layer(i) if decoder else self.encoder_layer(i)
        if decoder or a == "modern-bert":
            self.norm("output_norm", d)
        if c["dense"]:
            self.matrix("dense_2", c["dense"], d)
            self.matrix("dense_3", d, c["dense"])
        self.rank_head()
        return self.all


def make(path, name, type_name="F32", seed=0, **changes):
    """Writes one model. `changes` replace entries of BASE. Returns the path."""
    c = config(name, **changes)
    w = gguf.GGUFWriter(str(path), c["arch"])
    w.add_name(f"tiny {name} {type_name} {seed}")
    w.add_file_type(gguf.LlamaFileType[tiny_models.FILE_TYPES[type_name]])
    c["n_vocab"] = tiny_models.add_tokenizer(w, c)
    add_keys(w, c)
    for tensor, x, quantised in Weights(c, np.random.default_rng([seed, sorted(ARCHS).index(name)])).make():
        kind = type_name if quantised else "F32"
        w.add_tensor(tensor, ggml.encode(x, kind), raw_dtype=ggml.kind(kind))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return pathlib.Path(path)
