"""Tiny random Hugging Face folders: the weights of tiny_models under transformers' names, in safetensors written by hand,
with tokenizers that huggingface/tokenizers reads too. Tests only.

    folder(path, "llama", dtype="BF16", shards=3)   ->  path, with config.json, *.safetensors, tokenizer.json, ...
    tokenizers()                                     ->  the module, from the folder RF_TOKENIZERS
"""
import base64
import json
import os
import pathlib
import re
import struct
import sys

import gguf
import numpy as np
import pytest

import tiny_encoders
import tiny_models

SPACE = "\u2581"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
REGEX = {"qwen2": CONTRACTIONS + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" + TAIL,
         "llama-bpe": CONTRACTIONS + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" + TAIL}


def tokenizers():
    where = os.environ.get("RF_TOKENIZERS")
    if where and where not in sys.path:
        sys.path.insert(0, where)
    return pytest.importorskip("tokenizers", reason="RF_TOKENIZERS does not name the unpacked package")


# --- safetensors -----------------------------------------------------------------------------------------------------------

def bf16(x):
    """float32 -> bfloat16, to nearest even, as uint16."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


ENCODE = {"F32": lambda x: x.astype("<f4"), "F16": lambda x: x.astype("<f2"), "BF16": lambda x: bf16(x).astype("<u2")}
DECODE = {"F32": lambda x: x, "F16": lambda x: x.astype(np.float16).astype(np.float32),
          "BF16": lambda x: (bf16(x).astype(np.uint32) << 16).view(np.float32)}


def header(entries):
    """The bytes of a file's front. entries: name -> (dtype, shape, begin, end)."""
    text = json.dumps({n: {"dtype": d, "shape": list(s), "data_offsets": [a, b]} for n, (d, s, a, b) in entries.items()})
    raw = text.encode() + b" " * (-len(text.encode()) % 8)
    return struct.pack("<Q", len(raw)) + raw


def write_safetensors(path, tensors, dtype="F32"):
    """tensors: name -> float32 array, or (dtype, shape, bytes)."""
    entries, data, at = {}, [], 0
    for name, x in tensors.items():
        kind, shape, raw = x if isinstance(x, tuple) else (dtype, x.shape, ENCODE[dtype](x).tobytes())
        entries[name] = (kind, shape, at, at + len(raw))
        data.append(raw)
        at += len(raw)
    pathlib.Path(path).write_bytes(header(entries) + b"".join(data))


def write_weights(folder, tensors, dtype="F32", shards=1):
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return
    names = list(tensors)
    where = {n: f"model-{i * shards // len(names) + 1:05d}-of-{shards:05d}.safetensors" for i, n in enumerate(names)}
    for file in sorted(set(where.values())):
        write_safetensors(folder / file, {n: tensors[n] for n in names if where[n] == file}, dtype)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


# --- weights and config ----------------------------------------------------------------------------------------------------

PARTS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
         "ffn_gate_inp": "block_sparse_moe.gate"}
GEMMA = {"ffn_norm": "pre_feedforward_layernorm", "post_attention_norm": "post_attention_layernorm",
         "post_ffw_norm": "post_feedforward_layernorm"}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
EXPERTS = {"ffn_gate_exps": "w1", "ffn_down_exps": "w2", "ffn_up_exps": "w3"}
CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "llama_factors": "LlamaForCausalLM", "llama_yarn": "LlamaForCausalLM",
           "llama_linear": "LlamaForCausalLM", "mixtral": "MixtralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
           "gemma3": "Gemma3ForCausalLM"}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 256}


def apart(x, n_head):
    """Rows of interleaved pairs -> the two halves of each head one after the other: transformers' order."""
    return x.reshape(n_head, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def hf_tensors(c, rng):
    """Yields (transformers' name, float32 array) of one of tiny_models' random models."""
    for name, x, _ in tiny_models.tensors(c, rng):
        what, suffix = name.rsplit(".", 1)
        layer, what = (what.split(".", 2)[1:] if what.startswith("blk.") else (None, what))
        if c["arch"] == "gemma3" and what.endswith("norm"):
            x = x - np.float32(1)
        if c["arch"] == "llama" and what in ("attn_q", "attn_k"):
            x = apart(x, c["n_head"] if what == "attn_q" else c["n_kv_head"])
        if what == "rope_freqs":
            continue
        if what in EXPERTS:
            for i, part in enumerate(x):
                yield f"model.layers.{layer}.block_sparse_moe.experts.{i}.{EXPERTS[what]}.{suffix}", part
        elif layer is None:
            yield f"{OUTSIDE[what]}.{suffix}", x
        else:
            part = {**PARTS, **(GEMMA if c["arch"] == "gemma3" else {})}[what]
            yield f"model.layers.{layer}.{part}.{suffix}", x


def hf_config(arch, c):
    v = {"architectures": [CLASSES[arch]], "model_type": c["arch"], "hidden_size": c["d_model"], "intermediate_size": c["d_ff"],
         "num_hidden_layers": c["n_layer"], "num_attention_heads": c["n_head"], "num_key_value_heads": c["n_kv_head"], "head_dim": c["d_head"],
         "max_position_embeddings": c["context"], "vocab_size": c["n_vocab"], "rms_norm_eps": 1e-5, "rope_theta": c["rope_base"],
         "tie_word_embeddings": c["tied"], "torch_dtype": "bfloat16", "transformers_version": "4.50.0", "hidden_act": "silu"}
    if c["scaling"]:
        kind, factor, original = c["scaling"]
        v["rope_scaling"] = {"rope_type": kind, "factor": factor, **({"original_max_position_embeddings": original} if original else {})}
    if c["factors"]:
        v["rope_scaling"] = LLAMA3
    if c["n_expert"]:
        v |= {"num_local_experts": c["n_expert"], "num_experts_per_tok": c["n_used"]}
    if c["arch"] == "gemma3":
        del v["hidden_act"]
        v |= {"hidden_activation": "gelu_pytorch_tanh", "sliding_window": c["window"], "sliding_window_pattern": 6, "rope_local_base_freq": 10000.0,
              "query_pre_attn_scalar": c["d_head"], "attn_logit_softcapping": None, "final_logit_softcapping": c["softcap"]}
    return v


def llama3_factors(c):
    """What config.json's rope_scaling of kind llama3 means, from transformers' formula in float64."""
    r, d = LLAMA3, c["d_head"]
    wave = 2 * np.pi * c["rope_base"] ** (np.arange(0, d, 2) / d)
    old = r["original_max_position_embeddings"]
    smooth = (old / wave - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"])
    ramp = 1 / ((1 - smooth) / r["factor"] + smooth)
    return np.where(wave < old / r["high_freq_factor"], 1, np.where(wave > old / r["low_freq_factor"], r["factor"], ramp)).astype(np.float32)


# --- tokenizers ------------------------------------------------------------------------------------------------------------

def added(content, i, special=True):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}


def byte_bpe_json(n, pre):
    tokens, kinds, merges = tiny_models.bpe_tokens(n)
    specials = [added(t, i) for i, (t, k) in enumerate(zip(tokens, kinds)) if k == 3]
    steps = [{"type": "Split", "pattern": {"Regex": REGEX[pre]}, "behavior": "Isolated", "invert": False},
             {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]
    post = post_bytes = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    if pre == "llama-bpe":
        bos = specials[0]
        single = [{"SpecialToken": {"id": bos["content"], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        template = {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
                    "special_tokens": {bos["content"]: {"id": bos["content"], "ids": [bos["id"]], "tokens": [bos["content"]]}}}
        post = {"type": "Sequence", "processors": [post, template]}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": specials, "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "post_processor": post, "decoder": {**post_bytes},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": pre == "llama-bpe",
                      "vocab": {t: i for i, t in enumerate(tokens) if kinds[i] == 1}, "merges": merges}}


def merges_of_scores(tokens):
    """As transformers makes merges of a SentencePiece vocabulary: [(text, score, kind)] -> ["a b"]."""
    ids = {t: i for i, (t, _, _) in enumerate(tokens)}
    out = []
    for text, score, kind in tokens:
        cuts = [(text[:i], text[i:]) for i in range(1, len(text)) if text[:i] in ids and text[i:] in ids] if kind == 1 else []
        out += [(score, len(a), len(b), f"{a} {b}") for a, b in sorted(cuts, key=lambda p: (ids[p[0]], ids[p[1]]))]
    return [m[3] for m in sorted(out, key=lambda m: m[:3], reverse=True)]


def sentencepiece_json(n, prefix):
    """A tokenizer.json as transformers makes one of a SentencePiece vocabulary."""
    tokens = tiny_models.spm_tokens(n)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]} if prefix else replace
    bos = added("<s>", 1)
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    post = {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added("<unk>", 0), bos, added("</s>", 2)],
            "normalizer": normalizer, "pre_tokenizer": None, "post_processor": post,
            "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"},
                                                         {"type": "Fuse"}]},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": {t: i for i, (t, _, _) in enumerate(tokens)},
                      "merges": merges_of_scores(tokens)}}


def varint(v):
    out = b""
    while v > 127:
        out, v = out + bytes([v & 127 | 128]), v >> 7
    return out + bytes([v])


def field(number, value):
    """One protobuf field: an int, bytes, or a float."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sentencepiece_model(n, prefix, model_type=2):
    """tokenizer.model."""
    pieces = b"".join(field(1, field(1, t.encode()) + field(2, score) + (field(3, kind) if kind != 1 else b""))
                      for t, score, kind in tiny_models.spm_tokens(n))
    trainer = field(2, field(3, model_type) + field(4, n) + field(40, 0) + field(41, 1) + field(42, 2) + field(43, 2**64 - 1))
    normaliser = field(3, field(1, b"identity") + field(3, int(prefix)) + field(4, 0) + field(5, 1))
    return pieces + trainer + normaliser


def write_tokenizer(folder, c, form):
    """form: "json", "model" (tokenizer.model alone), "both"."""
    n = c["n_vocab"]
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": c["context"], "clean_up_tokenization_spaces": False,
              "chat_template": "{{ messages[0]['content'] }}"}
    if c["tokens"] == "spm":
        prefix = not c["post_norm"]
        config |= {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "unk_token": "<unk>", "add_bos_token": True,
                   "add_eos_token": False}
        if form in ("json", "both"):
            (folder / "tokenizer.json").write_text(json.dumps(sentencepiece_json(n, prefix)))
        if form in ("model", "both"):
            (folder / "tokenizer.model").write_bytes(sentencepiece_model(n, prefix))
    else:
        v = byte_bpe_json(n, c["pre"])
        config |= {"bos_token": v["added_tokens"][0]["content"], "eos_token": v["added_tokens"][1]["content"]}
        (folder / "tokenizer.json").write_text(json.dumps(v))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def n_tokens(c):
    return len(tiny_models.spm_tokens(c["n_vocab"])) if c["tokens"] == "spm" else len(tiny_models.bpe_tokens(c["n_vocab"])[0])


def folder(path, arch, seed=0, dtype="F32", shards=1, form="json", config={}, **changes):
    """Writes one folder. config: entries over those of config.json; changes: over tiny_models' table."""
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    c = tiny_models.config(arch, **changes)
    c["n_vocab"] = n_tokens(c)
    rng = np.random.default_rng([seed, sorted(tiny_models.ARCHS).index(arch)])
    write_weights(path, dict(hf_tensors(c, rng)), dtype, shards)
    v = {**hf_config(arch, c), **config}
    (path / "config.json").write_text(json.dumps({k: x for k, x in v.items() if x != "absent"}))
    write_tokenizer(path, c, form)
    (path / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_p": 0.9, "top_k": 20, "eos_token_id": [2] if c["tokens"] == "spm" else [511]}))
    return path


# --- encoders --------------------------------------------------------------------------------------------------------------

BERT = {"token_embd": "embeddings.word_embeddings", "token_types": "embeddings.token_type_embeddings", "position_embd": "embeddings.position_embeddings",
        "token_embd_norm": "embeddings.LayerNorm", "cls": "pooler.dense", "cls.output": "classifier"}
BERT_LAYER = {"attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
              "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm", "ffn_up": "intermediate.dense",
              "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm"}
ENCODERS = {  # name in tiny_encoders -> (class, changes, names outside, names of a layer, where layers stand, more of config.json)
    "bert": ("BertModel", {}, BERT, BERT_LAYER, "encoder.layer", {"hidden_act": "gelu", "position_embedding_type": "absolute"}),
    "bert_cls": ("BertForMaskedLM", {}, {k: "bert." + v for k, v in BERT.items()}, BERT_LAYER, "bert.encoder.layer", {"hidden_act": "gelu"}),
    "bert_rank": ("BertForSequenceClassification", {}, {k: v if k == "cls.output" else "bert." + v for k, v in BERT.items()}, BERT_LAYER,
                  "bert.encoder.layer", {"hidden_act": "gelu", "id2label": {"0": "LABEL_0"}}),
    "nomic-bert": ("NomicBertModel", {}, {**BERT, "token_embd_norm": "emb_ln"},
                   {"attn_qkv": "attn.Wqkv", "attn_output": "attn.out_proj", "attn_output_norm": "norm1", "ffn_up": "mlp.fc11", "ffn_gate": "mlp.fc12",
                    "ffn_down": "mlp.fc2", "layer_output_norm": "norm2"}, "encoder.layers",
                   {"activation_function": "swiglu", "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None,
                    "rotary_emb_base": 1000, "prenorm": False, "causal": False, "n_positions": 8192, "max_trained_positions": 2048}),
    "jina-bert-v2": ("JinaBertForMaskedLM", dict(gate="half"), {k: "bert." + v for k, v in BERT.items()},
                     {**BERT_LAYER, "ffn_up": "mlp.gated_layers", "ffn_down": "mlp.wo", "layer_output_norm": "mlp.layernorm"}, "bert.encoder.layer",
                     {"position_embedding_type": "alibi", "feed_forward_type": "geglu", "hidden_act": "gelu"}),
    "modern-bert": ("ModernBertModel", {}, {"token_embd": "embeddings.tok_embeddings", "token_embd_norm": "embeddings.norm", "output_norm": "final_norm"},
                    {"attn_qkv": "attn.Wqkv", "attn_output": "attn.Wo", "attn_norm": "attn_norm", "ffn_norm": "mlp_norm", "ffn_up": "mlp.Wi",
                     "ffn_down": "mlp.Wo"}, "layers",
                    {"hidden_activation": "gelu", "local_attention": 32, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
                     "local_rope_theta": 10000.0, "norm_eps": 1e-5}),
    "gemma-embedding": ("Gemma3TextModel", {}, {"token_embd": "embed_tokens", "output_norm": "norm"}, {**PARTS, **GEMMA}, "layers",
                        {"hidden_activation": "gelu_pytorch_tanh", "sliding_window": 32, "rope_theta": 1e6, "rope_local_base_freq": 10000.0,
                         "query_pre_attn_scalar": 64, "head_dim": 64, "rms_norm_eps": 1e-6, "use_bidirectional_attention": True}),
}


def wordpiece_json(n, lowercase=True):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    for w in tiny_models.WORDS:
        words += [w[:i] for i in range(1, len(w) + 1)] + ["##" + w[i:] for i in range(1, len(w))]
    words = list(dict.fromkeys(words + ["##" + chr(c) for c in range(97, 123)] + list("äößé日本")))[:n]
    words += [f"[unused{i}]" for i in range(n - len(words))]
    ids = {w: i for i, w in enumerate(words)}
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    specials = {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(w, i) for i, w in enumerate(words[:5])],
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": lowercase},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": ids}}


def charsmap():
    """XLM-RoBERTa's, cut out of a vocabulary of llama.cpp's: an array of bytes behind its key."""
    raw = (pathlib.Path(os.environ["RF_ORACLE_SRC"]) / "models" / "ggml-vocab-nomic-bert-moe.gguf").read_bytes()
    key = b"tokenizer.ggml.precompiled_charsmap"
    at = raw.index(key) + len(key) + 8
    n, = struct.unpack_from("<Q", raw, at)
    return raw[at + 8:at + 8 + n]


def unigram_json(tokens):
    """tokens: [(text, score, kind)], the unknown one of kind 2, control tokens of kind 3."""
    specials = [added(t, i) for i, (t, _, k) in enumerate(tokens) if k in (2, 3)]
    ids = {t: i for i, (t, _, _) in enumerate(tokens)}
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    post = {"type": "TemplateProcessing", "single": single, "pair": single[:2] + [single[2], single[2], {"Sequence": {"id": "B", "type_id": 0}}, single[2]],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("<s>", "</s>")}}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": specials,
            "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap()).decode()},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}]},
            "post_processor": post, "decoder": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True},
            "model": {"type": "Unigram", "unk_id": next(i for i, t in enumerate(tokens) if t[2] == 2), "byte_fallback": False,
                      "vocab": [[t, s] for t, s, _ in tokens]}}


def tiny_unigrams(n):
    """XLM-RoBERTa's order of special tokens, then letters and pieces of words, the longer the likelier."""
    pieces = [(t, s, k) for t, s, k in tiny_models.spm_tokens(n + 256) if k == 1]
    specials = [("<s>", 0.0, 3), ("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2)]
    return (specials + [(t, -9.0 + 1.3 * len(t) - i / 1000, k) for i, (t, _, k) in enumerate(pieces)] + [(f"unused{i}", -90.0, 1) for i in range(n)])[:n]


def encoder_tokenizer(name, n):
    if name in ("roberta", "roberta_rank"):
        return unigram_json(tiny_unigrams(n)), {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    if name == "gemma-embedding":
        return sentencepiece_json(n, False), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_eos_token": True}
    if name == "modern-bert":
        v = byte_bpe_json(n, "qwen2")
        v["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        cls, sep = v["added_tokens"]
        v["post_processor"] = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": cls["content"], "type_id": 0}},
                               {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": sep["content"], "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                               "special_tokens": {t["content"]: {"id": t["content"], "ids": [t["id"]], "tokens": [t["content"]]} for t in (cls, sep)}}
        return v, {"cls_token": cls["content"], "sep_token": sep["content"]}
    return wordpiece_json(n), {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}


PAD = 1  # roberta's positions begin behind it
ENCODERS["roberta"] = ("XLMRobertaModel", {}, BERT, BERT_LAYER, "encoder.layer", {"hidden_act": "gelu", "pad_token_id": PAD})
ENCODERS["roberta_rank"] = ("XLMRobertaForSequenceClassification", {},
                            {**{k: "roberta." + v for k, v in BERT.items()}, "cls": "classifier.dense", "cls.output": "classifier.out_proj"}, BERT_LAYER,
                            "roberta.encoder.layer", {"hidden_act": "gelu", "pad_token_id": PAD, "id2label": {"0": "LABEL_0"}})
SAME_AS = {"roberta": "bert", "roberta_rank": "bert_rank"}  # in tiny_encoders


def encoder(path, name, **config):
    """Writes the folder of one of tiny_encoders' models; returns it and the GGUF that tiny_encoders writes."""
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    kind, changes, outside, layer, at, more = ENCODERS[name]
    c = tiny_encoders.config(SAME_AS.get(name, name), **changes)
    want = tiny_encoders.make(path.with_suffix(".gguf"), SAME_AS.get(name, name), **changes)
    tensors = {}
    for t in gguf.GGUFReader(str(want)).tensors:
        what, suffix = t.name.rsplit(".", 1)
        x = np.array(t.data, np.float32).reshape([int(n) for n in reversed(t.shape)])
        if name == "gemma-embedding" and what.endswith("norm"):
            x = x - np.float32(1)
        if name in SAME_AS and what == "position_embd":
            x = np.concatenate([np.full((PAD + 1, x.shape[1]), 99, np.float32), x])
        if what.startswith("blk."):
            _, number, part = what.split(".", 2)
            tensors[f"{at}.{number}.{layer[part]}.{suffix}"] = x
        else:
            tensors[f"{outside[what]}.{suffix}"] = x
    n = next(len(x) for name_, x in tensors.items() if name_.endswith(outside["token_embd"] + ".weight"))
    write_weights(path, tensors)
    v = {"architectures": [kind], "hidden_size": c["d_model"], "intermediate_size": c["d_ff"], "num_hidden_layers": c["n_layer"],
         "num_attention_heads": c["n_head"], "num_key_value_heads": c["n_kv_head"], "vocab_size": n, "layer_norm_eps": 1e-5, "type_vocab_size": 2,
         "max_position_embeddings": c["context"] + (PAD + 1 if name in SAME_AS else 0), **more, **config}
    if name == "nomic-bert":
        v = {**v, "n_embd": v.pop("hidden_size"), "n_inner": v.pop("intermediate_size"), "n_layer": v.pop("num_hidden_layers"),
             "n_head": v.pop("num_attention_heads"), "layer_norm_epsilon": v.pop("layer_norm_eps")}
        del v["max_position_embeddings"], v["num_key_value_heads"]
    (path / "config.json").write_text(json.dumps(v))
    tokenizer, special = encoder_tokenizer(name, n)
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **special}))
    if c["pooling"] in ("mean", "cls"):
        (path / "modules.json").write_text(json.dumps([{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
                                                       {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]))
        (path / "1_Pooling").mkdir(exist_ok=True)
        (path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": c["d_model"], "pooling_mode_cls_token": c["pooling"] == "cls",
                                                                    "pooling_mode_mean_tokens": c["pooling"] == "mean"}))
    return path, want


# --- real vocabularies ---------------------------------------------------------------------------------------------------------

GPT2_STEP = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def vocabulary_json(r):
    """tokenizer.json of the vocabulary in a GGUF (a gguf.GGUFReader), as its makers would have written it."""
    get = {n: f.contents() for n, f in r.fields.items() if n.startswith("tokenizer.ggml.")}.__getitem__
    model, tokens, kinds = get("tokenizer.ggml.model"), get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    if model == "llama":
        v = sentencepiece_json(512, True)
        v["added_tokens"] = [added(t, i) for i, (t, k) in enumerate(zip(tokens, kinds)) if k in (2, 3)]
        v["model"]["vocab"] = {t: i for i, t in enumerate(tokens)}
        v["model"]["merges"] = merges_of_scores(list(zip(tokens, get("tokenizer.ggml.scores"), kinds)))
        return v
    if model == "t5":
        return unigram_json(list(zip(tokens, get("tokenizer.ggml.scores"), kinds)))
    if model == "bert":
        v = wordpiece_json(512)
        plain = [t if k == 3 else t[1:] if t.startswith(SPACE) else "##" + t for t, k in zip(tokens, kinds)]
        v["model"]["vocab"] = {t: i for i, t in enumerate(plain)}
        v["added_tokens"] = [added(t, i) for i, (t, k) in enumerate(zip(plain, kinds)) if k == 3]
        for t, entry in v["post_processor"]["special_tokens"].items():
            entry["ids"] = [plain.index(t)]
        return v
    pre = get("tokenizer.ggml.pre")
    v = byte_bpe_json(512, pre if pre in REGEX else "qwen2")
    v["added_tokens"] = [added(t, i, k == 3) for i, (t, k) in enumerate(zip(tokens, kinds)) if k in (3, 4)]
    v["model"]["vocab"] = {t: i for i, (t, k) in enumerate(zip(tokens, kinds)) if k == 1}
    v["model"]["merges"] = [m.split(" ") for m in get("tokenizer.ggml.merges")]
    if pre == "gpt-2":
        v["pre_tokenizer"] = GPT2_STEP
    v["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return v


def vocabulary_folder(path, source):
    """A folder with the vocabulary of a GGUF and a model of next to nothing."""
    path = pathlib.Path(path)
    path.mkdir()
    r = gguf.GGUFReader(str(source))
    n, d = len(r.fields["tokenizer.ggml.tokens"].data), 32
    tensors = {"model.embed_tokens.weight": np.zeros((n, d)), "model.norm.weight": np.ones(d)}
    for name, shape in (("self_attn.q_proj", (d, d)), ("self_attn.k_proj", (d, d)), ("self_attn.v_proj", (d, d)), ("self_attn.o_proj", (d, d)),
                        ("mlp.gate_proj", (d, d)), ("mlp.up_proj", (d, d)), ("mlp.down_proj", (d, d)), ("input_layernorm", (d,)),
                        ("post_attention_layernorm", (d,))):
        tensors[f"model.layers.0.{name}.weight"] = np.zeros(shape)
    write_weights(path, {k: x.astype(np.float32) for k, x in tensors.items()})
    (path / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "hidden_size": d, "intermediate_size": d, "num_hidden_layers": 1, "num_attention_heads": 1,
        "max_position_embeddings": 64, "vocab_size": n, "tie_word_embeddings": True}))
    (path / "tokenizer.json").write_text(json.dumps(vocabulary_json(r)))
    return path
