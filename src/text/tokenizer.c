/* Opens a tokenizer and turns text into ids; special.c cuts the text, spm.c, bpe.c, wpm.c and ugm.c do what lies between the cuts. */
#include "text/tokenizer.h"

#include "base/mem.h"
#include "text/tokenizer_own.h"

#include <string.h>

enum { MAX_ENCODE_BYTES = 1 << 30 }; /* places in a text are 32 bits wide, and spaces grow threefold in SPM */

/* Models, and what one means whose file does not say. A byte-level BPE's settings come with its pre-tokenizer. */
static const struct {
    tokenizer_info info;
    tokenizer_kind_name kind;
    bool escapes, cleans;
} models[] = {
    {.info = {.model = "llama", .add_bos = true, .add_space_prefix = true}, .kind = KIND_SPM, .escapes = true},
    {.info = {.model = "gpt2"}, .kind = KIND_BPE},
    {.info = {.model = "gemma4"}, .kind = KIND_BPE},
    {.info = {.model = "bert", .add_bos = true, .add_sep = true}, .kind = KIND_WPM, .escapes = true, .cleans = true},
    {.info = {.model = "t5", .add_eos = true}, .kind = KIND_UGM, .escapes = true},
};

static status choose_pretok(tokenizer *t, err *e) {
    t->pre = pretok_find(t->info.pre);
    if (!t->pre) return fail(e, ERR_PRETOKENIZER, "tokenizer.ggml.pre \"%.*s\" is not built in", STR(t->info.pre));
    t->info.add_bos = t->pre->is & PRETOK_ADD_BOS;
    t->info.add_sep = t->pre->is & PRETOK_ADD_SEP;
    t->escapes = t->pre->is & PRETOK_RAW;
    t->cleans = t->pre->is & PRETOK_CLEAN;
    return OK;
}

static status choose_kind(tokenizer *t, const gguf *g, err *e) {
    str model = {0}, pre = {0};
    status s = gguf_get_str(g, "tokenizer.ggml.model", &model, e);
    if (!s) s = gguf_get_str(g, "tokenizer.ggml.pre", &pre, e);
    if (s) return s;
    if (model.n == 0) return fail(e, ERR_TOKENIZER, "tokenizer.ggml.model is missing");
    size_t i = 0, n = sizeof models / sizeof *models;
    while (i < n && !str_is(model, models[i].info.model)) i++;
    if (i == n) return fail(e, ERR_TOKENIZER, "tokenizer.ggml.model \"%.*s\" is not built in", STR(model));
    t->info = models[i].info;
    t->kind = models[i].kind;
    t->escapes = models[i].escapes;
    t->cleans = models[i].cleans;
    t->info.pre = str_is(model, "gemma4") ? model : pre.n ? pre : str_of("default");
    return t->kind == KIND_BPE ? choose_pretok(t, e) : OK;
}

static status open_kind(tokenizer *t, const gguf *g, err *e) {
    switch (t->kind) {
    case KIND_SPM: spm_open(&t->spm, &t->v, t->info.unk); return OK;
    case KIND_BPE: return bpe_open(&t->bpe, &t->v, t->pre, g, e);
    case KIND_WPM: return wpm_open(&t->wpm, &t->v, t->info.unk, g, e);
    case KIND_UGM: return ugm_open(&t->ugm, &t->v, &t->info, g, e);
    }
    return OK;
}

static status open_parts(tokenizer *t, const gguf *g, err *e) {
    status s = choose_kind(t, g, e);
    if (!s) s = gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &t->info.add_space_prefix, e);
    if (!s) s = vocab_open(&t->v, g, e);
    t->info.n_vocab = t->v.n;
    if (!s) s = special_open(&t->special, &t->v, &t->info, t->pre, g, e);
    if (!s) s = open_kind(t, g, e);
    return s ? s : gguf_check(g, e);
}

status tokenizer_open(tokenizer **out, const gguf *g, err *e) {
    *out = NULL;
    tokenizer *t = mem_zalloc(sizeof *t);
    if (!t) return fail(e, ERR_NOMEM, "tokenizer");
    status s = open_parts(t, g, e);
    if (s)
        tokenizer_close(t);
    else
        *out = t;
    return s;
}

void tokenizer_close(tokenizer *t) {
    if (!t) return;
    bpe_close(&t->bpe);
    wpm_close(&t->wpm);
    ugm_close(&t->ugm);
    special_close(&t->special);
    vocab_close(&t->v);
    mem_free(t);
}

/* ---- lookups ---- */

static bool in_range(const tokenizer *t, token_id id) { return id >= 0 && (uint32_t)id < t->v.n; }

const tokenizer_info *tokenizer_get_info(const tokenizer *t) { return &t->info; }

bool tokenizer_is_eog(const tokenizer *t, token_id id) {
    for (size_t i = 0; i < t->special.n_eog; i++)
        if (t->special.eog[i] == id) return true;
    return false;
}

size_t tokenizer_eog_ids(const tokenizer *t, const token_id **out) {
    *out = t->special.eog;
    return t->special.n_eog;
}

token_kind tokenizer_kind(const tokenizer *t, token_id id) {
    if (!in_range(t, id)) return TOKEN_UNUSED;
    unsigned is = t->v.is[id];
    return is & TOKEN_IS_CONTROL   ? TOKEN_CONTROL
           : is & TOKEN_IS_UNKNOWN ? TOKEN_UNKNOWN
           : is & TOKEN_IS_USER    ? TOKEN_USER_DEFINED
           : is & TOKEN_IS_BYTE    ? TOKEN_BYTE
           : is & TOKEN_IS_NORMAL  ? TOKEN_NORMAL
                                   : TOKEN_UNUSED;
}

str tokenizer_text(const tokenizer *t, token_id id) {
    if (!in_range(t, id)) return (str){"", 0};
    return (str){t->v.text[id].p, t->v.text[id].n};
}

token_id tokenizer_find(const tokenizer *t, str text) { return vocab_find(&t->v, text.p, text.n); }

/* ---- encoding ---- */

typedef struct {
    const tokenizer *t;
    merger merge;
    strbuf scratch; /* an escaped or normalised text, or a word */
    char *word;     /* scratch of BPE */
    token_vec out;
    bool after_special; /* or at the beginning: SPM puts a space before what comes now */
} encoder;

static str escape(encoder *c, str text, bool prefix) {
    strbuf_clear(&c->scratch);
    spm_escape(&c->scratch, text, prefix);
    if (c->scratch.failed) c->out.failed = true;
    return (str){c->scratch.p, c->scratch.n};
}

static void encode_text(encoder *c, str text) {
    const tokenizer *t = c->t;
    switch (t->kind) {
    case KIND_SPM:
        text = escape(c, text, t->info.add_space_prefix && c->after_special);
        if (!c->out.failed) spm_encode(&t->spm, text, &c->merge, &c->out);
        break;
    case KIND_BPE:
        if (t->escapes) text = escape(c, text, false);
        if (!c->out.failed) bpe_encode(&t->bpe, text, &c->merge, c->word, &c->out);
        break;
    case KIND_WPM: wpm_encode(&t->wpm, text, &c->scratch, &c->out); break;
    case KIND_UGM: ugm_encode(&t->ugm, text, &c->scratch, &c->out); break;
    }
    c->after_special = false;
}

static void encode_fragments(encoder *c, str text, const tokenize_options *opt) {
    special_split split;
    fragment f;
    if (!special_split_start(&split, &c->t->special, &c->t->v, text, opt)) c->out.failed = true;
    while (!c->out.failed && special_split_next(&split, &f)) {
        if (f.text.n) {
            encode_text(c, f.text);
        } else {
            token_vec_add(&c->out, f.id);
            c->after_special = true;
        }
    }
    special_split_free(&split);
}

status tokenizer_encode(const tokenizer *t, str text, tokenize_options opt, token_list *out, err *e) {
    *out = (token_list){0};
    if (text.n > MAX_ENCODE_BYTES)
        return fail(e, ERR_RANGE, "a text of %zu bytes; at most %d are tokenized at once", text.n, MAX_ENCODE_BYTES);
    encoder c = {.t = t, .after_special = true};
    c.word = mem_alloc(2 * (size_t)t->v.max_text + 1);
    c.out.failed = !c.word;
    bool frame = opt.add_special && t->kind == KIND_WPM; /* [CLS] ... [SEP], whatever the file's flags say */
    if (!opt.no_bos && (frame || (opt.add_special && t->info.add_bos))) token_vec_add(&c.out, t->info.bos);
    if (text.n) encode_fragments(&c, text, &opt);
    if (frame)
        token_vec_add(&c.out, t->info.sep);
    else if (opt.add_special && t->info.add_eos)
        token_vec_add(&c.out, t->info.eos);
    merge_free(&c.merge);
    strbuf_free(&c.scratch);
    mem_free(c.word);
    if (c.out.failed) {
        mem_free(c.out.p);
        return fail(e, ERR_NOMEM, "tokenizing %zu bytes", text.n);
    }
    *out = (token_list){c.out.p, c.out.n};
    return OK;
}

size_t tokenizer_bytes(const tokenizer *t) {
    size_t bytes =
        sizeof *t + t->v.n * (sizeof *t->v.text + sizeof *t->v.is) + (t->v.mask + (size_t)1) * sizeof *t->v.slot;
    return bytes +
           (t->pre ? (t->bpe.mask + (size_t)1) * sizeof *t->bpe.slot : trie_bytes(&t->wpm.words) + ugm_bytes(&t->ugm));
}
