/* The tokenizer on a vocabulary and a text made from any bytes: it opens or refuses with a reason; what it opened encodes
 * and decodes, gives ids of the vocabulary only, and leaks nothing.
 *   input: kind u8 | pre u8 | flags u8 | n_tokens u8 | n_merges u8 | tokens: (n u8, kind u8, score u8, bytes) ... |
 *          merges: (n u8, bytes) ... | of bert and t5 more, see below | text */
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

enum { MAX_TEXTS = 255, MAP_UNITS = 4 * 256 };

/*   map: n u8 | units: (index u16, unit u32) ..., the others are 0 | n u8 | replacements, to which a zero is added */
static void add_map(vocab_file *f, input *in) {
    uint32_t head = 4 * MAP_UNITS, unit[MAP_UNITS] = {0};
    for (unsigned n = next_byte(in); n > 0; n--) {
        str s = next_bytes(in, 6);
        uint16_t index = 0;
        if (s.n < 6) break;
        memcpy(&index, s.p, 2);
        memcpy(&unit[index % MAP_UNITS], s.p + 2, 4);
    }
    str texts = next_bytes(in, next_byte(in));
    strbuf b = {0};
    strbuf_add(&b, (const char *)&head, sizeof head);
    strbuf_add(&b, (const char *)unit, sizeof unit);
    strbuf_add(&b, texts.p, texts.n);
    strbuf_add(&b, "", 1);
    vf_add_array(f, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, b.p, b.n, 1);
    strbuf_free(&b);
}

/*   more: flags u8 | map, where flag 16 */
static void add_more(vocab_file *f, input *in) {
    unsigned flags = next_byte(in);
    if (flags & 1) {
        vf_add_u32(f, "tokenizer.ggml.unknown_token_id", 0);
        vf_add_u32(f, "tokenizer.ggml.bos_token_id", 1);
        vf_add_u32(f, "tokenizer.ggml.seperator_token_id", 2);
    }
    if (flags & 2) vf_add_bool(f, "tokenizer.ggml.normalizer.lowercase", false);
    if (flags & 4) vf_add_bool(f, "tokenizer.ggml.normalizer.strip_accents", flags & 2);
    if (flags & 8) vf_add_bool(f, "tokenizer.ggml.remove_extra_whitespaces", true);
    if (flags & 16) add_map(f, in);
}

static void make_file(vocab_file *f, input *in) {
    static const char *const models[] = {"llama", "gpt2", "gemma4", "zork", "bert", "t5"};
    static const char *const pres[] = {"default", "llama-bpe", "gpt-2",  "qwen2", "smollm",
                                       "qwen35",  "falcon",    "laguna", "glm4",  "zork"};
    str text[MAX_TEXTS], merge[MAX_TEXTS];
    int32_t kind[MAX_TEXTS];
    float score[MAX_TEXTS];
    unsigned model = next_byte(in) % 6;
    vf_add_str(f, "tokenizer.ggml.model", models[model]);
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
    if (model >= 4) add_more(f, in);
}

static void check(const tokenizer *t, str text, tokenize_options opt) {
    token_list l;
    strbuf out = {0}, whole = {0};
    utf8_hold hold = {0};
    if (tokenizer_encode(t, text, opt, &l, NULL)) abort();
    size_t grows = str_is(str_of(tokenizer_get_info(t)->model), "t5") ? 256 : 1; /* by the longest replacement */
    if (l.n > 3 * grows * (text.n + 1) + 2)
        abort(); /* a space is three bytes in SPM, one more may be put before; BOS, EOS */
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
