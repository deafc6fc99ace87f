"""Tiny random models: every architecture x every type x seed, as GGUF files that the oracle and rocmforge both load.

They have a small but real tokenizer, so that tokenize and generate work with them too. Sizes: d_model 256, d_ff 512,
2 layers (gemma3: 7, so that its pattern of windows comes round), 4 heads over 2 KV heads of 64; rows are whole blocks of
every type. Weights are scaled so that logits spread by 1 to 3 and attention is neither flat nor one-hot.
Usage: tiny_models.py ARCH TYPE SEED OUT
"""
import functools
import pathlib
import sys

import gguf
import numpy as np

import ggml

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
ARCHS = {  # name -> (architecture in the file, differences from BASE)
    "llama": ("llama", {}),
    "mistral": ("llama", {"n_kv_head": 1, "rope_base": 1e6, "biases": ["attn_output", "ffn_down"]}),
    "llama_factors": ("llama", {"factors": True, "tokens": "bpe", "pre": "llama-bpe", "rope_base": 5e5, "tied": True}),
    "llama_yarn": ("llama", {"scaling": ("yarn", 4.0, 256)}),
    "llama_linear": ("llama", {"scaling": ("linear", 2.0, None)}),
    "mixtral": ("llama", {"n_expert": 4, "n_used": 2}),
    "qwen2": ("qwen2", {"tokens": "bpe", "pre": "qwen2", "biases": ["attn_q", "attn_k", "attn_v"], "tied": True}),
    "qwen3": ("qwen3", {"tokens": "bpe", "pre": "qwen2", "qk_norm": True, "d_head": 128, "rope_base": 1e6}),
    "gemma3": ("gemma3", {"qk_norm": True, "post_norm": True, "tied": True, "n_layer": 7, "window": 32, "rope_base": 1e6,
                          "scaling": ("linear", 8.0, None), "softcap": None}),
}
BASE = dict(n_layer=2, d_model=256, d_ff=512, n_head=4, n_kv_head=2, d_head=64, n_vocab=512, context=2048, rope_base=1e4,
            tokens="spm", pre=None, biases=[], tied=False, qk_norm=False, post_norm=False, factors=False, scaling=None,
            n_expert=0, n_used=0, window=0, softcap=None)

WORDS = ("the of and to in is that it was for on are as with his they be at one have this from or had by hot word but what "
         "some we can out other were all there when up use your how said an each she which do their time if will way about").split()


def spm_tokens(n):
    """A SentencePiece vocabulary: three specials, 256 byte tokens, letters and word pieces; longer pieces score higher."""
    tokens = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    tokens += [(f"<0x{b:02X}>", 0.0, 6) for b in range(256)]
    pieces = ["\u2581"] + [chr(c) for c in range(33, 127)] + list("äöüéñß€日本")
    for w in WORDS:
        pieces += [w[:i] for i in range(2, len(w) + 1)] + ["\u2581" + w[:i] for i in range(1, len(w) + 1)]
    pieces = list(dict.fromkeys(pieces))
    chars, longer = [p for p in pieces if len(p) == 1], [p for p in pieces if len(p) > 1]
    pieces = (chars + longer)[:n - len(tokens)]
    return tokens + [(p, float(-i), 1) for i, p in enumerate(pieces)]


def byte_chars():
    """GPT-2's printable stand-in for each byte."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def bpe_tokens(n):
    """A byte-level BPE vocabulary with the merges that make its words; the last two ids are control tokens."""
    chars = byte_chars()
    tokens, merges = [chars[b] for b in range(256)], []
    for w in WORDS:
        for word in (w, " " + w):
            text = [chars[b] for b in word.encode()]
            for i in range(1, len(text)):
                a, b = "".join(text[:i]), text[i]
                if a + b not in tokens and len(tokens) < n - 2:
                    tokens.append(a + b)
                    merges.append(f"{a} {b}")
    kinds = [1] * len(tokens) + [3, 3]
    return tokens + ["<|endoftext|>", "<|im_end|>"], kinds, merges


def add_tokenizer(w, c):
    n = c["n_vocab"]
    if c["tokens"] == "spm":
        tokens = spm_tokens(n)
        w.add_tokenizer_model("llama")
        w.add_token_list([t[0].encode() for t in tokens])
        w.add_token_scores([t[1] for t in tokens])
        w.add_token_types([t[2] for t in tokens])
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)
        w.add_unk_token_id(0)
        w.add_add_bos_token(True)
        w.add_add_space_prefix(not c["post_norm"])
        return len(tokens)
    tokens, kinds, merges = bpe_tokens(n)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(c["pre"])
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    w.add_token_merges(merges)
    w.add_bos_token_id(len(tokens) - 2)
    w.add_eos_token_id(len(tokens) - 1)
    w.add_add_bos_token(c["pre"] == "llama-bpe")
    return len(tokens)


def add_hyperparameters(w, c):
    w.add_context_length(c["context"])
    w.add_embedding_length(c["d_model"])
    w.add_block_count(c["n_layer"])
    w.add_feed_forward_length(c["d_ff"])
    w.add_head_count(c["n_head"])
    w.add_head_count_kv(c["n_kv_head"])
    w.add_key_length(c["d_head"])
    w.add_value_length(c["d_head"])
    w.add_rope_dimension_count(c["d_head"])
    w.add_rope_freq_base(c["rope_base"])
    w.add_layer_norm_rms_eps(1e-5)
    if c["scaling"]:
        name, factor, orig = c["scaling"]
        w.add_rope_scaling_type(gguf.RopeScalingType(name))
        w.add_rope_scaling_factor(factor)
        if orig:
            w.add_rope_scaling_orig_ctx_len(orig)
    if c["n_expert"]:
        w.add_expert_count(c["n_expert"])
        w.add_expert_used_count(c["n_used"])
    if c["window"]:
        w.add_sliding_window(c["window"])
    if c["softcap"]:
        w.add_final_logit_softcapping(c["softcap"])


def tensors(c, rng):
    """Yields (name, float32 array, quantised?). Matrices are [rows, columns], columns contiguous."""
    d, dff, dq, dkv = c["d_model"], c["d_ff"], c["n_head"] * c["d_head"], c["n_kv_head"] * c["d_head"]

    def matrix(rows, cols, gain=1.0):
        return (rng.standard_normal((rows, cols)) * gain / np.sqrt(cols)).astype(np.float32), True

    def vector(n, mean=1.0, spread=0.1):
        return (mean + spread * rng.standard_normal(n)).astype(np.float32), False

    yield "token_embd.weight", *matrix(c["n_vocab"], d, {"gemma3": 0.6}.get(c["arch"], 1.5))
    for i in range(c["n_layer"]):
        def layer(name, value):
            return (f"blk.{i}.{name}", *value)
        for name, rows, cols in (("attn_q", dq, d), ("attn_k", dkv, d), ("attn_v", dkv, d), ("attn_output", d, dq)):
            yield layer(name + ".weight", matrix(rows, cols))
            if name in c["biases"]:
                yield layer(name + ".bias", vector(rows, 0.0, 0.3))
        yield layer("attn_norm.weight", vector(d))
        yield layer("ffn_norm.weight", vector(d))
        if c["qk_norm"]:
            yield layer("attn_q_norm.weight", vector(c["d_head"]))
            yield layer("attn_k_norm.weight", vector(c["d_head"]))
        if c["post_norm"]:
            yield layer("post_attention_norm.weight", vector(d))
            yield layer("post_ffw_norm.weight", vector(d))
        for name, rows, cols in (("ffn_gate", dff, d), ("ffn_up", dff, d), ("ffn_down", d, dff)):
            if c["n_expert"]:
                parts = [matrix(rows, cols)[0] for _ in range(c["n_expert"])]
                yield layer(name + "_exps.weight", (np.stack(parts), True))
                continue
            yield layer(name + ".weight", matrix(rows, cols))
            if name in c["biases"]:
                yield layer(name + ".bias", vector(rows, 0.0, 0.3))
        if c["n_expert"]:
            yield layer("ffn_gate_inp.weight", (matrix(c["n_expert"], d, 6.0)[0], False))
    yield "output_norm.weight", *vector(d, 3.0 if c["arch"] == "gemma3" else 1.0)
    if not c["tied"]:
        yield "output.weight", *matrix(c["n_vocab"], d, 2.0)
    if c["factors"]:  # Llama 3.1's shape: high frequencies kept, low ones stretched by 8, a ramp between
        ramp = np.clip((np.arange(c["d_head"] // 2) - 12) / 8, 0, 1)
        yield "rope_freqs.weight", (1 + 7 * ramp).astype(np.float32), False


def config(arch, **changes):
    name, differences = ARCHS[arch]
    c = {**BASE, **differences, **changes, "arch": name}
    return c


def make(path, arch, type_name, seed=0, **changes):
    """Writes one model. `changes` replace entries of BASE. Returns the path."""
    c = config(arch, **changes)
    w = gguf.GGUFWriter(str(path), c["arch"])
    w.add_name(f"tiny {arch} {type_name} {seed}")
    w.add_file_type(gguf.LlamaFileType[FILE_TYPES[type_name]])
    c["n_vocab"] = add_tokenizer(w, c)
    add_hyperparameters(w, c)
    for name, x, quantised in tensors(c, np.random.default_rng([seed, sorted(ARCHS).index(arch)])):
        kind = type_name if quantised else "F32"
        w.add_tensor(name, ggml.encode(x, kind), raw_dtype=ggml.kind(kind))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return pathlib.Path(path)


FILE_TYPES = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16", "Q2_K": "MOSTLY_Q2_K", "Q3_K": "MOSTLY_Q3_K_M",
              "Q4_K": "MOSTLY_Q4_K_M", "Q5_K": "MOSTLY_Q5_K_M", "Q6_K": "MOSTLY_Q6_K",
              **{t: "MOSTLY_" + t for t in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")}}


def copy_field(w, field):
    """One metadata field of a GGUFReader, written again as it was."""
    kind, element = field.types[0], field.types[-1]
    if kind == gguf.GGUFValueType.ARRAY:
        w.add_array(field.name, field.contents()) if len(field.data) else None
    else:
        w.add_key_value(field.name, field.contents(), element)


def decode_to_f32(path_in, path_out):
    """The same model with every weight decoded to F32: run by the oracle it is the exact result."""
    r = gguf.GGUFReader(str(path_in))
    arch = r.fields["general.architecture"].contents()
    w = gguf.GGUFWriter(str(path_out), arch)
    for name, field in r.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            copy_field(w, field)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    for t in r.tensors:
        x = ggml.decode(t.data, int(t.tensor_type), int(t.n_elements))
        w.add_tensor(t.name, x.reshape([int(n) for n in reversed(t.shape)]))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return pathlib.Path(path_out)


@functools.cache
def reader(path):
    return gguf.GGUFReader(str(path))


def rewrite(source, out, keys={}, tensors={}, drop=(), extra=()):
    """A copy of a model. keys: name -> (value, type[, element type]) or None to drop it; tensors: name -> (array, type name)
    or a function of the float array; drop: names left out; extra: [(name, array, type name)]."""
    r = reader(source)
    w = gguf.GGUFWriter(str(out), "x")
    w.kv_data[0].clear()
    for name, field in r.fields.items():
        if not name.startswith("GGUF.") and name not in keys:
            copy_field(w, field)
    for name, value in keys.items():
        if value is not None:
            w.add_key_value(name, *value)
    for t in r.tensors:
        if t.name in drop:
            continue
        data, kind = t.data, t.tensor_type
        if t.name in tensors:
            change = tensors[t.name]
            x = ggml.decode(t.data, int(t.tensor_type), int(t.n_elements)).reshape([int(n) for n in reversed(t.shape)])
            x, type_name = change(x) if callable(change) else change
            data, kind = ggml.encode(x, type_name), ggml.kind(type_name)
        w.add_tensor(t.name, data, raw_dtype=kind)
    for name, x, type_name in extra:
        w.add_tensor(name, ggml.encode(x, type_name), raw_dtype=ggml.kind(type_name))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return out


if __name__ == "__main__":
    make(sys.argv[4], sys.argv[1], sys.argv[2].upper(), int(sys.argv[3]))
