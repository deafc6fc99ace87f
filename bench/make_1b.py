#!/usr/bin/env python3
"""Writes random models of Llama 3.2 1B's shape, for speed and memory tests: what they say is noise, what they cost is not.

    bench/make_1b.py OUT_DIR [q8_0] [q4_k_m]

16 layers, width 2048, FFN 8192, 32 heads over 8 KV heads, vocabulary 128256, output tied to the embedding; every matrix is
normal * 0.02, every norm 1. Q4_K_M is the mix that llama-quantize makes: Q4_K, with Q6_K for the embedding (it is the
output too) and for attn_v and ffn_down in the layers of `more_bits`. The vocabulary is the test data's llama-bpe.
Environment: RF_ORACLE_DIR (its libggml-base quantises), RF_ORACLE_SRC (the vocabulary). Same bytes on every run.
"""
import concurrent.futures
import ctypes
import os
import pathlib
import sys

import gguf
import numpy as np

N_LAYER, D_MODEL, D_FFN, N_HEAD, N_KV, D_HEAD, N_VOCAB = 16, 2048, 8192, 32, 8, 64, 128256
Q4_K, Q6_K, Q8_0 = (gguf.GGMLQuantizationType[n] for n in ("Q4_K", "Q6_K", "Q8_0"))
FILE_TYPE = {"q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "q4_k_m": gguf.LlamaFileType.MOSTLY_Q4_K_M}


def load_ggml():
    here = pathlib.Path(os.environ["RF_ORACLE_DIR"])
    shim = here / "libisoc23_shim.so"
    if shim.exists():
        ctypes.CDLL(str(shim), ctypes.RTLD_GLOBAL)
    lib = ctypes.CDLL(str(here / "libggml-base.so.0"))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                        ctypes.c_int64, ctypes.c_void_p]
    lib.ggml_quantize_init.argtypes = [ctypes.c_int]
    return lib


def more_bits(layer):
    """llama-quantize's choice: the first and last eighth, and every third layer between."""
    eighth = N_LAYER // 8
    return layer < eighth or layer >= 7 * N_LAYER // 8 or (layer - eighth) % 3 == 2


def matrices(mix):
    """(name, rows, columns, type) of every matrix, in the order they stand in the file."""
    plain = Q8_0 if mix == "q8_0" else Q4_K
    high = Q8_0 if mix == "q8_0" else Q6_K
    yield "token_embd.weight", N_VOCAB, D_MODEL, high
    for layer in range(N_LAYER):
        some = high if more_bits(layer) else plain
        d_kv = N_KV * D_HEAD
        for name, rows, columns, kind in (("attn_q", D_MODEL, D_MODEL, plain), ("attn_k", d_kv, D_MODEL, plain),
                                          ("attn_v", d_kv, D_MODEL, some), ("attn_output", D_MODEL, D_MODEL, plain),
                                          ("ffn_gate", D_FFN, D_MODEL, plain), ("ffn_up", D_FFN, D_MODEL, plain),
                                          ("ffn_down", D_MODEL, D_FFN, some)):
            yield f"blk.{layer}.{name}.weight", rows, columns, kind


def random_matrix(ggml, seed, rows, columns, kind):
    x = np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.empty((rows, columns // block * size), dtype=np.uint8)
    wrote = ggml.ggml_quantize_chunk(int(kind), x.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    assert wrote == out.nbytes
    return out


def add_head(w, mix):
    w.add_name(f"random 1B {mix}")
    w.add_file_type(FILE_TYPE[mix])
    w.add_block_count(N_LAYER)
    w.add_context_length(131072)
    w.add_embedding_length(D_MODEL)
    w.add_feed_forward_length(D_FFN)
    w.add_head_count(N_HEAD)
    w.add_head_count_kv(N_KV)
    w.add_rope_dimension_count(D_HEAD)
    w.add_rope_freq_base(500000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(N_VOCAB)
    vocab = gguf.GGUFReader(pathlib.Path(os.environ["RF_ORACLE_SRC"]) / "models" / "ggml-vocab-llama-bpe.gguf")
    for field in vocab.fields.values():
        if field.name.startswith("tokenizer."):
            sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            w.add_key_value(field.name, field.contents(), field.types[0], sub)


def write(ggml, path, mix):
    w = gguf.GGUFWriter(path, "llama")
    add_head(w, mix)
    norms = ["output_norm"] + [f"blk.{i}.{n}" for i in range(N_LAYER) for n in ("attn_norm", "ffn_norm")]
    for name in norms:
        w.add_tensor(f"{name}.weight", np.ones(D_MODEL, dtype=np.float32))
    wanted = list(matrices(mix))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(random_matrix, ggml, seed, *m[1:]) for seed, m in enumerate(wanted)]
        for (name, _, _, kind), job in zip(wanted, jobs):
            w.add_tensor(name, job.result(), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    ggml = load_ggml()
    for mix in sys.argv[2:] or FILE_TYPE:
        part = out / f"random-1b-{mix}.gguf.part"
        write(ggml, part, mix)
        part.rename(out / f"random-1b-{mix}.gguf")
        print(out / f"random-1b-{mix}.gguf")


if __name__ == "__main__":
    main()
