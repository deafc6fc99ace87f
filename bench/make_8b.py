#!/usr/bin/env python3
"""Writes a random model of Llama 3.1 8B's shape in the mix that llama-quantize calls Q4_K_M, for speed tests of GPUs: what it
says is noise, what it costs is not. In two steps, so that the large part can be made where the GPU is:

    bench/make_8b.py head HEAD.gguf          the metadata and the list of tensors (a few MiB; needs the gguf package)
    bench/make_8b.py fill HEAD.gguf OUT      all of it, 4.9 GB (needs numpy)

The blocks are made directly: scales that give weights of about 0.02, random codes; norms are 1. Environment of `head`:
RF_ORACLE_SRC (the vocabulary is the test data's llama-bpe). Same bytes on every run.
"""
import os
import pathlib
import struct
import sys

N_LAYER, D_MODEL, D_FFN, N_HEAD, N_KV, D_HEAD, N_VOCAB = 32, 4096, 14336, 32, 8, 128, 128256
F32, Q4_K, Q6_K = 0, 12, 14
BLOCK = {F32: (1, 4), Q4_K: (256, 144), Q6_K: (256, 210)}


def more_bits(layer):
    """llama-quantize's choice: the first and last eighth, and every third layer between."""
    eighth = N_LAYER // 8
    return layer < eighth or layer >= 7 * N_LAYER // 8 or (layer - eighth) % 3 == 2


def tensors():
    """(name, rows, columns, type) of every tensor, in the order they stand in the file; rows 0: a vector."""
    yield "output_norm.weight", 0, D_MODEL, F32
    for i in range(N_LAYER):
        yield f"blk.{i}.attn_norm.weight", 0, D_MODEL, F32
        yield f"blk.{i}.ffn_norm.weight", 0, D_MODEL, F32
    yield "token_embd.weight", N_VOCAB, D_MODEL, Q4_K
    yield "output.weight", N_VOCAB, D_MODEL, Q6_K
    for i in range(N_LAYER):
        some, d_kv = Q6_K if more_bits(i) else Q4_K, N_KV * D_HEAD
        for name, rows, columns, kind in (("attn_q", D_MODEL, D_MODEL, Q4_K), ("attn_k", d_kv, D_MODEL, Q4_K),
                                          ("attn_v", d_kv, D_MODEL, some), ("attn_output", D_MODEL, D_MODEL, Q4_K),
                                          ("ffn_gate", D_FFN, D_MODEL, Q4_K), ("ffn_up", D_FFN, D_MODEL, Q4_K),
                                          ("ffn_down", D_MODEL, D_FFN, some)):
            yield f"blk.{i}.{name}.weight", rows, columns, kind


def n_bytes(rows, columns, kind):
    elems, size = BLOCK[kind]
    return max(rows, 1) * columns // elems * size


def head(path):
    import gguf
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("random 8B Q4_K_M")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
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
    import numpy as np
    for name, rows, columns, kind in tensors():
        shape = [rows, columns] if rows else [columns]
        w.add_tensor_info(name, shape, np.dtype(np.float32), n_bytes(rows, columns, kind),
                          raw_dtype=gguf.GGMLQuantizationType(kind))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    w.close()


def noise(kind, n_blocks, rng):
    import numpy as np
    b = rng.integers(0, 256, (n_blocks, BLOCK[kind][1]), dtype=np.uint8)
    half = lambda x: np.frombuffer(np.float16(x).tobytes(), np.uint8)
    if kind == Q4_K:  # every 6-bit scale and minimum is 32: weight = 32 d (q - 7.5)
        b[:, 0:2], b[:, 2:4] = half(1.4e-4), half(1.4e-4 * 7.5)
        b[:, 4:16] = np.frombuffer(bytes([32] * 8 + [0] * 4), np.uint8)
        b[:, 12:16] = 0
        b[:, 4:12] |= 0x80  # the upper bits of scales 4 to 7 stand here: 10xxxxxx = 32 + low nibble
    else:  # weight = 32 d (q - 32)
        b[:, 192:208], b[:, 208:210] = 32, half(3.5e-5)
    return b


def fill(head_path, path):
    import numpy as np
    rng = np.random.default_rng(1)
    chunk = {kind: noise(kind, 1 << 18, rng) for kind in (Q4_K, Q6_K)}
    with open(head_path, "rb") as f, open(path, "wb") as out:
        out.write(f.read())
        for seed, (_, rows, columns, kind) in enumerate(tensors()):
            out.write(bytes(-out.tell() % 32))
            if kind == F32:
                out.write(np.ones(columns, np.float32).tobytes())
                continue
            left, at = n_bytes(rows, columns, kind) // BLOCK[kind][1], seed * 7919 % (1 << 17)
            while left:
                part = chunk[kind][at:at + left]
                out.write(part.tobytes())
                left, at = left - len(part), 0
        out.write(bytes(-out.tell() % 32))


if __name__ == "__main__":
    head(sys.argv[2]) if sys.argv[1] == "head" else fill(*sys.argv[2:4])
