/* The tokenizer on a vocabulary and a text made from any bytes: it opens or refuses with a reason; what it opened encodes
 * and decodes, gives ids of the vocabulary only, and leaks nothing.
 *   input: kind u8 | pre u8 | flags u8 | n_tokens u8 | n_merges u8 | tokens: (n u8, kind u8, score u8, bytes) ... |
 *          merges: (n u8, bytes) ... | text */
#include "../tests/unit/vocab_file.h"

#include "base/mem.h"
#include "text/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    const uint8_t *p, *end;
} input;

static unsigned next_byte(input *in) { return in->p < in->end ? *in->p++ : 0; }

static str next_bytes(input *in, size_t n) {
    if (n > (size_t)(in->end - in->p)) n = (size_t)(in->end - in->p);
    str s = {(const char *)in->p, n};
    in->p += n;
    return s;
}

enum { MAX_TEXTS = 255 };

static void make_file(vocab_file *f, input *in) {
    static const char *const models[] = {"llama", "gpt2", "gemma4", "zork"};
    static const char *const pres[] = {"default", "llama-bpe", "gpt-2",  "qwen2", "smollm",
                                       "qwen35",  "falcon",    "laguna", "glm4",  "zork"};
    str text[MAX_TEXTS], merge[MAX_TEXTS];
    int32_t kind[MAX_TEXTS];
    float score[MAX_TEXTS];
    vf_add_str(f, "tokenizer.ggml.model", models[next_byte(in) % 4]);
    vf_add_str(f, "tokenizer.ggml.pre", pres[next_byte(in) % 10]);
    unsigned flags = next_byte(in), n_tokens = next_byte(in), n_merges = next_byte(in);
    for (unsigned i = 0; i < n_tokens; i++) {
        size_t n = next_byte(in) % 16;
        kind[i] = (int32_t)(next_byte(in) % 8);
        score[i] = (float)(int)next_byte(in) - 128;
        text[i] = next_bytes(in, n);
    }
    for (unsigned i = 0; i < n_merges; i++) merge[i] = next_bytes(in, next_byte(in) % 8);
    vf_add_texts(f, "tokenizer.ggml.tokens", text, n_tokens);
    if (flags & 1) vf_add_array(f, "tokenizer.ggml.token_type", GGUF_I32, kind, n_tokens, 4);
    if (flags & 2) vf_add_array(f, "tokenizer.ggml.scores", GGUF_F32, score, n_tokens, 4);
    if (flags & 4) vf_add_u32(f, "tokenizer.ggml.eot_token_id", n_merges);
    if (flags & 8) vf_add_bool(f, "tokenizer.ggml.add_bos_token", true);
    if (flags & 16) vf_add_bool(f, "tokenizer.ggml.add_space_prefix", flags & 32);
    if (flags & 64) vf_add_str(f, "general.name", "phi-3");
    vf_add_texts(f, "tokenizer.ggml.merges", merge, n_merges);
}

static void check(const tokenizer *t, str text, tokenize_options opt) {
    token_list l;
    strbuf out = {0}, whole = {0};
    utf8_hold hold = {0};
    if (tokenizer_encode(t, text, opt, &l, NULL)) abort();
    if (l.n > 3 * (text.n + 1) + 2) abort(); /* a space is three bytes in SPM, one more may be put before; BOS, EOS */
    for (size_t i = 0; i < l.n; i++)
        if (l.ids[i] < 0 || (uint32_t)l.ids[i] >= tokenizer_get_info(t)->n_vocab) abort();
    if (tokenizer_decode(t, l.ids, l.n, opt.parse_special, &out, NULL)) abort();
    utf8_hold_push(&hold, out.p, out.n, &whole);
    utf8_hold_flush(&hold, &whole);
    strbuf_free(&out);
    strbuf_free(&whole);
    mem_free(l.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    input in = {data, data + size};
    vocab_file f = {0};
    uint64_t live = mem_live();
    gguf *g;
    tokenizer *t;
    err e = {0};
    make_file(&f, &in);
    if (vf_open(&f, &fd, &g, &e)) abort();
    status s = tokenizer_open(&t, g, &e);
    if (s && (t || !e.text[0] || s == ERR_INTERNAL)) abort();
    str text = next_bytes(&in, size);
    for (int i = 0; !s && i < 4; i++) check(t, text, (tokenize_options){.add_special = i & 1, .parse_special = i & 2});
    tokenizer_close(t);
    gguf_close(g);
    if (mem_live() != live) abort();
    return 0;
}
