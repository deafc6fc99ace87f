"""Logits and greedy text from the oracle, llama.cpp, at every position of a token list. Tests only."""
import numpy as np

import llama

CACHE = {"f32": 0, "f16": 1, "q8_0": 8}


class Model:
    """One loaded model. with Model(path) as m: m.logits([1, 2, 3])"""

    def __init__(self, path):
        self.ffi, self.lib = llama.load()
        p = self.lib.llama_model_default_params()
        p.n_gpu_layers = 0
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), p)
        if self.model == self.ffi.NULL:
            raise RuntimeError(f"the oracle cannot load {path}")
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        self.n_vocab = self.lib.llama_vocab_n_tokens(self.vocab)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lib.llama_model_free(self.model)

    def context(self, n_tok, cache="f32", flash=False, ubatch=512, n_threads=1):
        p = self.lib.llama_context_default_params()
        p.n_ctx = (n_tok + 255) // 256 * 256
        p.n_batch = p.n_ubatch = ubatch
        p.n_threads = p.n_threads_batch = n_threads
        p.type_k = p.type_v = CACHE[cache]
        p.flash_attn_type = 1 if flash else 0
        p.swa_full = True
        p.no_perf = True
        ctx = self.lib.llama_init_from_model(self.model, p)
        if ctx == self.ffi.NULL:
            raise RuntimeError("the oracle cannot make a context")
        return ctx

    def logits(self, tokens, cache="f32", flash=False, ubatch=512, n_threads=1):
        """-> float32 [n_tok, n_vocab]"""
        ctx = self.context(len(tokens), cache, flash, ubatch, n_threads)
        out = np.empty((len(tokens), self.n_vocab), np.float32)
        for at in range(0, len(tokens), ubatch):
            part = tokens[at:at + ubatch]
            self.decode(ctx, part, at, every=True)
            for i in range(len(part)):
                row = self.lib.llama_get_logits_ith(ctx, i)
                out[at + i] = np.frombuffer(self.ffi.buffer(row, 4 * self.n_vocab), np.float32)
        self.lib.llama_free(ctx)
        return out

    def decode(self, ctx, tokens, pos, every):
        b = self.lib.llama_batch_init(len(tokens), 0, 1)
        b.n_tokens = len(tokens)
        for i, t in enumerate(tokens):
            b.token[i], b.pos[i], b.n_seq_id[i] = int(t), pos + i, 1
            b.seq_id[i][0] = 0
            b.logits[i] = 1 if every or i + 1 == len(tokens) else 0
        rc = self.lib.llama_decode(ctx, b)
        self.lib.llama_batch_free(b)
        if rc:
            raise RuntimeError(f"llama_decode: {rc}")

    def embeddings(self, prompts, pooling=-1, flash=False, width=None):
        """Of several token lists, in one batch. pooling: llama.cpp's number, -1 as the file says. -> float32 [n, width]"""
        n_tok = sum(map(len, prompts))
        p = self.lib.llama_context_default_params()
        p.n_ctx = p.n_batch = p.n_ubatch = (n_tok + 255) // 256 * 256
        p.n_seq_max = 1 << (len(prompts) - 1).bit_length()  # it divides n_ubatch: the library's own reserve asserts that
        p.kv_unified = p.embeddings = p.swa_full = p.no_perf = True
        p.n_threads = p.n_threads_batch = 1
        p.type_k = p.type_v = CACHE["f32"]
        p.pooling_type = pooling
        p.flash_attn_type = 1 if flash else 0
        ctx = self.lib.llama_init_from_model(self.model, p)
        if ctx == self.ffi.NULL:
            raise RuntimeError("the oracle cannot make a context")
        b = self.lib.llama_batch_init(n_tok, 0, 1)
        at = 0
        for seq, tokens in enumerate(prompts):
            for pos, t in enumerate(tokens):
                b.token[at], b.pos[at], b.n_seq_id[at], b.logits[at] = int(t), pos, 1, 1
                b.seq_id[at][0] = seq
                at += 1
        b.n_tokens = n_tok
        rc = self.lib.llama_decode(ctx, b)
        self.lib.llama_batch_free(b)
        if rc:
            raise RuntimeError(f"llama_decode: {rc}")
        width = width or self.lib.llama_model_n_embd(self.model)
        out = np.empty((len(prompts), width), np.float32)
        for seq in range(len(prompts)):
            row = self.lib.llama_get_embeddings_seq(ctx, seq)
            out[seq] = np.frombuffer(self.ffi.buffer(row, 4 * width), np.float32)
        self.lib.llama_free(ctx)
        return out

    def tokenize(self, text, add_special=True, parse_special=True):
        raw = text.encode()
        out = self.ffi.new("llama_token[]", len(raw) + 8)
        n = self.lib.llama_tokenize(self.vocab, raw, len(raw), out, len(raw) + 8, add_special, parse_special)
        return [out[i] for i in range(n)]

    def is_end(self, token):
        return self.lib.llama_vocab_is_eog(self.vocab, token)

    def greedy(self, tokens, n, cache="f32"):
        """n more tokens (fewer at an end of generation, which is not among them), and the logits each was taken from."""
        ctx = self.context(len(tokens) + n, cache)
        out, rows = [], []
        self.decode(ctx, tokens, 0, every=False)
        while len(out) < n:
            row = self.lib.llama_get_logits_ith(ctx, -1)
            rows.append(np.frombuffer(self.ffi.buffer(row, 4 * self.n_vocab), np.float32).copy())
            best = int(rows[-1].argmax())
            if self.is_end(best):
                break
            out.append(best)
            self.decode(ctx, [best], len(tokens) + len(out) - 1, every=False)
        self.lib.llama_free(ctx)
        return out, rows


def logits(path, tokens, **options):
    with Model(path) as m:
        return m.logits(tokens, **options)
