/* Which tokens are special. The lists of texts are llama.cpp's: files often do not name these tokens. */
#include "text/special.h"

#include "base/mem.h"

#include <string.h>

/* ---- ids that the file names ---- */

typedef enum {
    ID_BOS,
    ID_EOS,
    ID_EOT,
    ID_EOM,
    ID_UNK,
    ID_SEP,
    ID_PAD,
    ID_MASK,
    ID_FIM_PRE,
    ID_FIM_SUF,
    ID_FIM_MID,
    ID_FIM_PAD,
    ID_FIM_REP,
    ID_FIM_SEP,
    ID_COUNT
} id_name;

/* Later rows overrule earlier ones: the last three are old names. The spelling of "seperator" is the format's. */
static const struct {
    const char *key;
    id_name id;
} id_keys[] = {
    {"tokenizer.ggml.bos_token_id", ID_BOS},         {"tokenizer.ggml.eos_token_id", ID_EOS},
    {"tokenizer.ggml.eot_token_id", ID_EOT},         {"tokenizer.ggml.eom_token_id", ID_EOM},
    {"tokenizer.ggml.unknown_token_id", ID_UNK},     {"tokenizer.ggml.seperator_token_id", ID_SEP},
    {"tokenizer.ggml.padding_token_id", ID_PAD},     {"tokenizer.ggml.mask_token_id", ID_MASK},
    {"tokenizer.ggml.fim_pre_token_id", ID_FIM_PRE}, {"tokenizer.ggml.fim_suf_token_id", ID_FIM_SUF},
    {"tokenizer.ggml.fim_mid_token_id", ID_FIM_MID}, {"tokenizer.ggml.fim_pad_token_id", ID_FIM_PAD},
    {"tokenizer.ggml.fim_rep_token_id", ID_FIM_REP}, {"tokenizer.ggml.fim_sep_token_id", ID_FIM_SEP},
    {"tokenizer.ggml.prefix_token_id", ID_FIM_PRE},  {"tokenizer.ggml.suffix_token_id", ID_FIM_SUF},
    {"tokenizer.ggml.middle_token_id", ID_FIM_MID},
};

enum { NONE = TOKEN_NONE };
/* What a file means that does not name the id: the ids of the first LLaMA, of Falcon for BPE, of BERT and of T5. */
static const struct {
    const char *model;
    token_id bos, eos, unk, sep, pad, mask;
} usual_ids[] = {
    {"llama", 1, 2, 0, NONE, NONE, NONE},
    {"gpt2", 11, 11, NONE, NONE, NONE, NONE},
    {"bert", 101, NONE, 100, 102, 0, 103},
    {"t5", NONE, 1, 2, NONE, 0, NONE},
};

static void default_ids(token_id id[ID_COUNT], const tokenizer_info *info, const pretok *pre) {
    for (int i = 0; i < ID_COUNT; i++) id[i] = TOKEN_NONE;
    for (size_t i = 0; i < sizeof usual_ids / sizeof *usual_ids; i++) {
        if (!str_is(str_of(info->model), usual_ids[i].model)) continue;
        id[ID_BOS] = pre && pre->is & PRETOK_NO_BOS ? TOKEN_NONE : usual_ids[i].bos;
        id[ID_EOS] = usual_ids[i].eos;
        id[ID_UNK] = usual_ids[i].unk;
        id[ID_SEP] = usual_ids[i].sep;
        id[ID_PAD] = usual_ids[i].pad;
        id[ID_MASK] = usual_ids[i].mask;
    }
    for (int i = 0; i < ID_COUNT; i++)
        if (id[i] >= 0 && (uint32_t)id[i] >= info->n_vocab) id[i] = TOKEN_NONE;
}

static status read_id(token_id *id, const char *key, const tokenizer_info *info, const gguf *g, err *e) {
    if (!gguf_find(g, key)) return OK;
    uint32_t value = 0;
    status s = gguf_get_u32(g, key, &value, e);
    if (s) return s;
    if (value >= info->n_vocab)
        return fail(e, ERR_TOKENIZER, "%s is %u, the vocabulary has %u tokens", key, value, info->n_vocab);
    *id = (token_id)value;
    return OK;
}

/* BERT's first token has the old name of cls; a file that has both names means the new one. */
static status read_ids(token_id id[ID_COUNT], const tokenizer_info *info, const gguf *g, err *e) {
    bool bert = str_is(str_of(info->model), "bert");
    status s = bert ? read_id(&id[ID_BOS], "tokenizer.ggml.cls_token_id", info, g, e) : OK;
    for (size_t i = 0; !s && i < sizeof id_keys / sizeof *id_keys; i++)
        s = read_id(&id[id_keys[i].id], id_keys[i].key, info, g, e);
    if (!s && bert && (id[ID_BOS] < 0 || id[ID_SEP] < 0 || id[ID_UNK] < 0))
        s = fail(e, ERR_TOKENIZER, "a bert vocabulary of %u tokens without [CLS], [SEP] or [UNK]", info->n_vocab);
    return s;
}

/* ---- tokens known by their text ---- */

enum { MAX_TEXTS = 12 };
static const struct {
    id_name id;
    const char *text[MAX_TEXTS]; /* the first that is there counts */
} id_texts[] = {
    {ID_EOT,
     {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>",
      "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>"}},
    {ID_EOM, {"<|eom_id|>"}},
    {ID_FIM_PRE,
     {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
      "<|prefix|>"}},
    {ID_FIM_SUF,
     {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>",
      "<|suffix|>"}},
    {ID_FIM_MID,
     {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>",
      "<|middle|>"}},
    {ID_FIM_PAD, {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
    {ID_FIM_REP, {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
    {ID_FIM_SEP, {"<|file_sep|>"}},
};

static const char *const eog_texts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
};
/* Parts of a message's frame that a reader must see: always rendered. */
static const char *const frame_texts[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

static token_id find_text(const vocab *v, const char *z) { return vocab_find(v, z, strlen(z)); }

static void find_ids_by_text(token_id id[ID_COUNT], vocab *v) {
    for (size_t i = 0; i < sizeof id_texts / sizeof *id_texts; i++) {
        token_id *slot = &id[id_texts[i].id];
        for (int k = 0; *slot < 0 && k < MAX_TEXTS && id_texts[i].text[k]; k++) {
            *slot = find_text(v, id_texts[i].text[k]);
            if (*slot >= 0) v->is[*slot] |= TOKEN_IS_CONTROL;
        }
    }
}

/* ---- the end of generation ---- */

enum { MAX_EOG = 32 };
typedef struct {
    token_id id[MAX_EOG];
    size_t n;
} eog_set;

static bool eog_has(const eog_set *s, token_id id) {
    for (size_t i = 0; i < s->n; i++)
        if (s->id[i] == id) return true;
    return false;
}

static void eog_add(eog_set *s, token_id id) { /* keeps it ascending; at most one for each text and each id_name */
    if (id < 0 || eog_has(s, id)) return;
    size_t i = s->n++;
    for (; i > 0 && s->id[i - 1] > id; i--) s->id[i] = s->id[i - 1];
    s->id[i] = id;
}

static void eog_drop(eog_set *s, token_id id) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->id[i] != id) s->id[n++] = s->id[i];
    s->n = n;
}

/* A text that is in the set. */
static token_id eog_text(const eog_set *s, const vocab *v, const char *z) {
    token_id id = find_text(v, z);
    return id >= 0 && eog_has(s, id) ? id : TOKEN_NONE;
}

static void add_frame(special_set *s, token_id id) {
    if (s->n_frame < sizeof s->frame / sizeof *s->frame) s->frame[s->n_frame++] = id;
}

/* In the harmony and solar formats <|end|> ends a message, not the answer; where </s> is a normal token, so it stays. */
static void eog_exceptions(special_set *set, eog_set *s, vocab *v) {
    token_id end = eog_text(s, v, "<|end|>"), close = eog_text(s, v, "</s>");
    bool call = eog_text(s, v, "<|call|>") >= 0 || eog_text(s, v, "<|calls|>") >= 0;
    bool last = eog_text(s, v, "<|return|>") >= 0 || eog_text(s, v, "<|flush|>") >= 0;
    if (end >= 0 && call && last) {
        eog_drop(s, end);
        v->is[end] = TOKEN_IS_USER;
        add_frame(set, end);
    }
    if (close >= 0 && eog_text(s, v, "<|tool_response>") >= 0) {
        eog_drop(s, close);
        v->is[close] = TOKEN_IS_NORMAL;
    }
}

static status find_eog(special_set *s, const token_id id[ID_COUNT], vocab *v, err *e) {
    eog_set set = {.n = 0};
    eog_add(&set, id[ID_FIM_PAD]);
    eog_add(&set, id[ID_FIM_REP]);
    eog_add(&set, id[ID_FIM_SEP]);
    for (size_t i = 0; i < sizeof eog_texts / sizeof *eog_texts; i++) {
        token_id t = find_text(v, eog_texts[i]);
        if (t >= 0) v->is[t] |= TOKEN_IS_CONTROL;
        eog_add(&set, t);
    }
    for (size_t i = 0; i < sizeof frame_texts / sizeof *frame_texts; i++) {
        token_id t = find_text(v, frame_texts[i]);
        if (t < 0) continue;
        v->is[t] = TOKEN_IS_USER;
        add_frame(s, t);
    }
    eog_add(&set, id[ID_EOS]);
    eog_add(&set, id[ID_EOT]);
    eog_add(&set, id[ID_EOM]);
    eog_exceptions(s, &set, v);
    s->eog = mem_array(set.n + 1, sizeof *s->eog);
    if (!s->eog) return fail(e, ERR_NOMEM, "special tokens");
    memcpy(s->eog, set.id, set.n * sizeof *set.id);
    s->n_eog = set.n;
    return OK;
}
_Static_assert(sizeof eog_texts / sizeof *eog_texts + 6 <= MAX_EOG, "the set holds every text and six ids");

/* ---- tokens that take the spaces beside them; known by a name only ---- */

static bool name_has(str name, const char *part) { /* part in lower case */
    size_t n = strlen(part), k;
    for (size_t i = 0; i + n <= name.n; i++) {
        for (k = 0; k < n; k++) {
            char c = name.p[i + k];
            if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != part[k]) break;
        }
        if (k == n) return true;
    }
    return false;
}

static void set_flag(vocab *v, const char *text, uint8_t flag, bool on) {
    token_id id = find_text(v, text);
    if (id >= 0) v->is[id] = (uint8_t)(on ? v->is[id] | flag : v->is[id] & ~flag);
}

static bool is_special(const vocab *v, uint32_t id) {
    return v->is[id] & (TOKEN_IS_CONTROL | TOKEN_IS_USER | TOKEN_IS_UNKNOWN) && v->text[id].n;
}

static str text_of(const gguf *g, const char *key) { /* empty: absent, or no text */
    const gguf_kv *kv = gguf_find(g, key);
    str s = {0};
    return kv && kv->type == GGUF_STRING && gguf_get_str(g, key, &s, NULL) == OK ? s : (str){0};
}

static bool mask_strips(str pre, str arch) {
    return name_has(pre, "jina-v2-de") || name_has(pre, "jina-v2-es") || name_has(pre, "jina-v2-code") ||
           name_has(arch, "nomic-bert-moe") || name_has(arch, "jina-bert-v3");
}

static void set_strips(vocab *v, const tokenizer_info *info, const gguf *g) {
    str name = text_of(g, "general.name");
    if (mask_strips(info->pre, text_of(g, "general.architecture"))) {
        set_flag(v, "<mask>", TOKEN_STRIPS_LEFT, true);
    } else if (name_has(name, "phi-3") || name_has(name, "phi3")) {
        for (uint32_t i = 0; i < v->n; i++)
            if (is_special(v, i)) v->is[i] |= TOKEN_STRIPS_RIGHT;
        set_flag(v, "</s>", TOKEN_STRIPS_RIGHT, true);
        set_flag(v, "<unk>", TOKEN_STRIPS_RIGHT, false);
        set_flag(v, "<s>", TOKEN_STRIPS_RIGHT, false);
        set_flag(v, "<|endoftext|>", TOKEN_STRIPS_RIGHT, false);
    } else if (name_has(name, "modern-bert")) {
        set_flag(v, "[MASK]", TOKEN_STRIPS_LEFT, true);
    }
}

/* ---- the search ---- */

enum { START_BYTES = 4, START_BITS = 16 };

static uint32_t start_hash(const char *p) {
    uint32_t w;
    memcpy(&w, p, START_BYTES);
    return w * 0x9E3779B1u >> (32 - START_BITS);
}

static status build_search(special_set *s, const vocab *v, err *e) {
    uint8_t *seen = mem_zalloc(VOCAB_MAX_TEXT + 1);
    s->starts = mem_zalloc(sizeof(uint64_t) << (START_BITS - 6));
    if (!seen || !s->starts) {
        mem_free(seen);
        return fail(e, ERR_NOMEM, "special tokens");
    }
    for (uint32_t i = 0; i < v->n; i++) {
        if (!is_special(v, i)) continue;
        const vocab_text *t = &v->text[i];
        uint8_t first = (uint8_t)t->p[0];
        s->n_lengths += !seen[t->n];
        seen[t->n] = 1;
        if (t->n < START_BYTES)
            s->short_first[first / 8] |= (uint8_t)(1u << first % 8);
        else
            s->starts[start_hash(t->p) / 64] |= 1ull << start_hash(t->p) % 64;
    }
    s->length = mem_array(s->n_lengths + 1, sizeof *s->length);
    for (uint32_t n = VOCAB_MAX_TEXT, k = 0; s->length && n > 0; n--)
        if (seen[n]) s->length[k++] = n;
    mem_free(seen);
    return s->length ? OK : fail(e, ERR_NOMEM, "special tokens");
}

static bool add_hit(special_split *p, uint32_t at, bool is_long) {
    if (p->n_hits == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 64;
        special_hit *hit = mem_resize(p->hit, cap * sizeof *hit);
        if (!hit) return false;
        p->hit = hit;
        p->cap = cap;
    }
    p->hit[p->n_hits++] = (special_hit){at, is_long, TOKEN_NONE};
    return true;
}

static bool collect_hits(special_split *p, const special_set *s) {
    for (size_t i = 0; i < p->text.n; i++) {
        uint8_t first = (uint8_t)p->text.p[i];
        bool is_short = s->short_first[first / 8] >> first % 8 & 1, is_long = false;
        if (p->text.n - i >= START_BYTES) {
            uint32_t h = start_hash(p->text.p + i);
            is_long = s->starts[h / 64] >> h % 64 & 1;
        }
        if ((is_short || is_long) && !add_hit(p, (uint32_t)i, is_long)) return false;
    }
    return true;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Marks the token's bytes, and the spaces that it takes with it. */
static void take(special_split *p, special_hit *h, token_id id, uint32_t n) {
    h->id = id;
    memset(p->taken + h->at, 1, n);
    if (p->v->is[id] & TOKEN_STRIPS_LEFT)
        for (size_t i = h->at; i > 0 && !p->taken[i - 1] && is_space(p->text.p[i - 1]); i--) p->taken[i - 1] = 1;
    if (p->v->is[id] & TOKEN_STRIPS_RIGHT)
        for (size_t i = h->at + n; i < p->text.n && !p->taken[i] && is_space(p->text.p[i]); i++) p->taken[i] = 1;
}

static bool is_guarded(const special_split *p, token_id id) { /* must not come from a user's words */
    if (p->v->is[id] & (TOKEN_IS_CONTROL | TOKEN_IS_UNKNOWN)) return true;
    for (size_t i = 0; i < p->s->n_frame; i++)
        if (p->s->frame[i] == id) return true;
    return false;
}

/* Has any of the n bytes at `at` come from outside? The spans are ascending: the last one that begins before the end. */
static bool touches_input(const tokenize_options *opt, size_t at, size_t n) {
    size_t low = 0, high = opt->n_input;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (opt->input[mid].at < at + n)
            low = mid + 1;
        else
            high = mid;
    }
    return low > 0 && opt->input[low - 1].at + opt->input[low - 1].n > at;
}

static void match_length(special_split *p, uint32_t n) {
    const bool parse_special = p->opt->parse_special;
    for (size_t k = 0; k < p->n_hits; k++) {
        special_hit *h = &p->hit[k];
        if ((n >= START_BYTES && !h->is_long) || p->taken[h->at] || p->text.n - h->at < n) continue;
        if (memchr(p->taken + h->at, 1, n)) continue;
        token_id id = vocab_find(p->v, p->text.p + h->at, n);
        if (id < 0 || !is_special(p->v, (uint32_t)id)) continue;
        if (!parse_special && p->v->is[id] & (TOKEN_IS_CONTROL | TOKEN_IS_UNKNOWN)) continue;
        if (p->opt->n_input && is_guarded(p, id) && touches_input(p->opt, h->at, n)) continue;
        take(p, h, id, n);
    }
}

bool special_split_start(special_split *p, const special_set *s, const vocab *v, str text,
                         const tokenize_options *opt) {
    *p = (special_split){.text = text, .v = v, .s = s, .opt = opt};
    if (!collect_hits(p, s)) return false;
    if (p->n_hits == 0) return true;
    p->taken = mem_zalloc(text.n);
    if (!p->taken) return false;
    for (size_t i = 0; i < s->n_lengths; i++) match_length(p, s->length[i]);
    return true;
}

bool special_split_next(special_split *p, fragment *out) {
    while (p->next < p->n_hits && p->hit[p->next].id < 0) p->next++;
    bool more = p->next < p->n_hits;
    size_t stop = more ? p->hit[p->next].at : p->text.n, end = stop;
    while (p->taken && p->at < stop && p->taken[p->at]) p->at++; /* spaces that a token took */
    while (p->taken && end > p->at && p->taken[end - 1]) end--;
    if (end > p->at) {
        *out = (fragment){{p->text.p + p->at, end - p->at}, TOKEN_NONE};
        p->at = stop;
        return true;
    }
    if (!more) return false;
    token_id id = p->hit[p->next++].id;
    p->at = stop + p->v->text[id].n;
    *out = (fragment){{NULL, 0}, id};
    return true;
}

void special_split_free(special_split *p) {
    mem_free(p->taken);
    mem_free(p->hit);
    *p = (special_split){0};
}

/* ---- open ---- */

static status read_flags(tokenizer_info *info, const gguf *g, err *e) {
    bool said = gguf_find(g, "tokenizer.ggml.add_bos_token"), said_eos = gguf_find(g, "tokenizer.ggml.add_eos_token");
    status s = gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &info->add_bos, e);
    if (!s) s = gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &info->add_eos, e);
    if (!s) s = gguf_get_bool(g, "tokenizer.ggml.add_sep_token", &info->add_sep, e);
    if (s) return s;
    if (said && info->add_bos && info->bos < 0)
        return fail(e, ERR_TOKENIZER, "tokenizer.ggml.add_bos_token is set but no BOS token is known");
    if (said_eos && info->add_eos && info->eos < 0)
        return fail(e, ERR_TOKENIZER, "tokenizer.ggml.add_eos_token is set but no EOS token is known");
    info->add_bos = info->add_bos && info->bos >= 0;
    info->add_eos = info->add_eos && info->eos >= 0;
    info->add_sep = info->add_sep && info->sep >= 0;
    return OK;
}

status special_open(special_set *s, vocab *v, tokenizer_info *info, const pretok *pre, const gguf *g, err *e) {
    token_id id[ID_COUNT];
    default_ids(id, info, pre);
    status rc = read_ids(id, info, g, e);
    if (rc) return rc;
    find_ids_by_text(id, v);
    info->bos = id[ID_BOS], info->eos = id[ID_EOS], info->eot = id[ID_EOT], info->eom = id[ID_EOM];
    info->unk = id[ID_UNK], info->sep = id[ID_SEP], info->pad = id[ID_PAD], info->mask = id[ID_MASK];
    info->fim_pre = id[ID_FIM_PRE], info->fim_suf = id[ID_FIM_SUF], info->fim_mid = id[ID_FIM_MID];
    rc = read_flags(info, g, e);
    if (!rc) rc = find_eog(s, id, v, e);
    set_strips(v, info, g);
    if (!rc) rc = build_search(s, v, e);
    return rc;
}

void special_close(special_set *s) {
    mem_free(s->eog);
    mem_free(s->length);
    mem_free(s->starts);
    *s = (special_set){0};
}
