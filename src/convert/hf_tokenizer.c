#include "convert/hf_tokenizer.h"

#include "base/mem.h"
#include "convert/hf_folder.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char json_name[] = "tokenizer.json", proto_name[] = "tokenizer.model";
static const char space_mark[] = "\xE2\x96\x81"; /* U+2581 */

static str join(arena *a, const char *front, str s) {
    const size_t n = strlen(front);
    char *p = arena_take(a, n + s.n + 1);
    if (!p) return (str){0};
    memcpy(p, front, n);
    memcpy(p + n, s.p, s.n);
    return (str){p, n + s.n};
}

static status no_memory(err *e) { return fail(e, ERR_NOMEM, "no memory for the tokenizer"); }

static status make_room(hf_tokenizer *t, uint32_t n, err *e) {
    t->n = n;
    t->text = arena_array(&t->a, n, sizeof *t->text);
    t->kind = arena_array(&t->a, n, sizeof *t->kind);
    return t->text && t->kind ? OK : no_memory(e);
}

status hf_pad_tokens(hf_tokenizer *t, err *e) {
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->text[i].p) continue;
        char name[24];
        snprintf(name, sizeof name, "[PAD%" PRIu32 "]", i);
        t->text[i] = join(&t->a, name, (str){"", 0});
        t->kind[i] = HF_UNUSED;
        if (t->score) t->score[i] = -10000.0f;
        if (!t->text[i].p) return no_memory(e);
    }
    return OK;
}

/* --- the vocabulary of tokenizer.json ------------------------------------------------------------------------------------- */

static status set_token(hf_tokenizer *t, const json_t *id, str text, int32_t kind, err *e) {
    const json_int_t i = json_is_integer(id) ? json_integer_value(id) : -1;
    if (i < 0 || i >= t->n)
        return fail(e, ERR_CONVERT_TOKENIZER,
                    "%s: token '%.*s' has the id %" JSON_INTEGER_FORMAT ", outside 0 to %" PRIu32, json_name, STR(text),
                    i, t->n - 1);
    if (t->text[i].p && !str_eq(t->text[i], text))
        return fail(e, ERR_CONVERT_TOKENIZER, "%s: tokens '%.*s' and '%.*s' have the same id", json_name,
                    STR(t->text[i]), STR(text));
    t->text[i] = text;
    t->kind[i] = kind;
    return OK;
}

static str text_of(const json_t *v) { return (str){json_string_value(v), json_string_length(v)}; }

/* Tokens that some models call plain, though they are part of no text. */
static bool looks_special(str s) {
    static const char *const whole[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    static const char *const around[][2] = {{"<|", "|>"}, {"<\xEF\xBD\x9C", "\xEF\xBD\x9C>"}, {"<unused", ">"}};
    for (size_t i = 0; i < 4; i++)
        if (str_is(s, whole[i])) return true;
    for (size_t i = 0; i < 3; i++) {
        const size_t n = strlen(around[i][1]);
        if (s.n > n && str_starts(s, around[i][0]) && memcmp(s.p + s.n - n, around[i][1], n) == 0) return true;
    }
    return false;
}

/* A user's own token stands for its text as it is: its marks of spaces are spaces. */
static str plain_spaces(hf_tokenizer *t, str s) {
    if (!memmem(s.p, s.n, space_mark, 3)) return s;
    char *p = arena_take(&t->a, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; p && i < s.n;) {
        const bool mark = s.n - i >= 3 && memcmp(s.p + i, space_mark, 3) == 0;
        p[n++] = mark ? ' ' : s.p[i];
        i += mark ? 3 : 1;
    }
    return p ? (str){p, n} : (str){0};
}

/* n_beyond: ids past the model's vocabulary, which are left out. */
static status add_token(hf_tokenizer *t, json_int_t i, const json_t *token, size_t *n_beyond, err *e) {
    str text = text_of(json_object_get(token, "content"));
    const bool special = json_is_true(json_object_get(token, "special"));
    if (!text.n || i < 0)
        return fail(e, ERR_CONVERT_TOKENIZER, "an added token '%.*s' has no content or no id", STR(text));
    if (i >= t->n) {
        ++*n_beyond;
        return OK;
    }
    const bool kept = t->text[i].p && str_eq(t->text[i], text) && (t->kind[i] == HF_UNKNOWN || t->kind[i] == HF_BYTE);
    if (kept) return OK;
    const bool control = special || looks_special(text);
    const bool scored = t->text[i].p && str_is(str_of(t->model), "t5"); /* a unigram keeps the score it has */
    t->text[i] = control ? text : plain_spaces(t, text);
    t->kind[i] = control ? HF_CONTROL : HF_USER;
    if (t->score && !scored) t->score[i] = -1000.0f;
    return t->text[i].p ? OK : no_memory(e);
}

/* Tokens beside the vocabulary: listed in tokenizer.json, in older folders by tokenizer_config.json. */
static status read_added(hf_tokenizer *t, hf_warnings *warnings, err *e) {
    json_t *token;
    const char *number;
    size_t i, n_beyond = 0;
    status s = OK;
    json_array_foreach(json_object_get(t->json, "added_tokens"), i, token) {
        const json_t *id = json_object_get(token, "id");
        if (!s) s = add_token(t, json_is_integer(id) ? json_integer_value(id) : -1, token, &n_beyond, e);
    }
    json_object_foreach(t->json ? NULL : json_object_get(t->config, "added_tokens_decoder"), number, token) {
        if (!s) s = add_token(t, strtol(number, NULL, 10), token, &n_beyond, e);
    }
    if (n_beyond) hf_warn(warnings, "%zu added tokens are left out: the model has only %u", n_beyond, t->n);
    return s;
}

static status read_vocab(hf_tokenizer *t, const hf_config *c, hf_warnings *warnings, err *e) {
    const char *text;
    json_t *id, *vocab = json_object_get(json_object_get(t->json, "model"), "vocab");
    size_t n_text;
    status s = make_room(t, c->n_vocab, e);
    if (!s && !json_is_object(vocab))
        s = fail(e, ERR_CONVERT_TOKENIZER, "%s: model.vocab is missing or no object", json_name);
    if (s) return s;
    json_object_keylen_foreach(vocab, text, n_text, id) {
        s = set_token(t, id, (str){text, n_text}, HF_NORMAL, e);
        if (s) return s;
    }
    return read_added(t, warnings, e);
}

/* "a b", or ["a", "b"]; a space inside of a part is written as its byte's stand-in. */
static str merge_text(hf_tokenizer *t, const json_t *v) {
    if (json_is_string(v)) return text_of(v);
    const str a = text_of(json_array_get(v, 0)), b = text_of(json_array_get(v, 1));
    if (json_array_size(v) != 2 || !a.n || !b.n) return (str){0};
    char *p = arena_take(&t->a, 2 * (a.n + b.n) + 2); /* a stand-in has two bytes */
    size_t n = 0;
    for (int part = 0; p && part < 2; part++) {
        const str s = part ? b : a;
        if (part) p[n++] = ' ';
        for (size_t i = 0; i < s.n; i++) {
            if (s.p[i] == ' ') p[n++] = '\xC4';
            p[n++] = s.p[i] == ' ' ? '\xA0' : s.p[i];
        }
    }
    return p ? (str){p, n} : (str){0};
}

static status read_merges(hf_tokenizer *t, err *e) {
    const json_t *list = json_object_get(json_object_get(t->json, "model"), "merges");
    if (!json_is_array(list))
        return fail(e, ERR_CONVERT_TOKENIZER, "%s: model.merges is missing or no array", json_name);
    t->n_merges = json_array_size(list);
    t->merge = arena_array(&t->a, t->n_merges ? t->n_merges : 1, sizeof *t->merge);
    if (!t->merge) return no_memory(e);
    for (size_t i = 0; i < t->n_merges; i++) {
        const json_t *v = json_array_get(list, i);
        t->merge[i] = merge_text(t, v);
        if (!t->merge[i].n) return fail(e, ERR_CONVERT_TOKENIZER, "%s: merge %zu is no pair of texts", json_name, i);
    }
    return OK;
}

/* --- kinds --------------------------------------------------------------------------------------------------------------- */

static status read_byte_bpe(hf_tokenizer *t, const hf_config *c, hf_warnings *warnings, err *e) {
    t->model = "gpt2";
    status s = hf_pretokenizer(&t->pre, t, warnings, e);
    if (!s) s = read_vocab(t, c, warnings, e);
    if (!s) s = hf_pad_tokens(t, e);
    if (!s) s = read_merges(t, e);
    return s;
}

static status must_be(const json_t *v, const char *key, const char *wanted, err *e) {
    const char *have = json_string_value(json_object_get(v, key));
    if (!have || strcmp(have, wanted) == 0) return OK;
    return fail(e, ERR_CONVERT_TOKENIZER, "%s: %s is '%.40s'; only '%s' is built in", json_name, key, have, wanted);
}

/* WordPiece's pieces that begin a word get a mark in front, those that go on lose theirs: so the file's tokenizer wants it. */
static status phantom_spaces(hf_tokenizer *t, err *e) {
    for (uint32_t i = 0; i < t->n; i++) {
        str *s = &t->text[i];
        if (t->kind[i] == HF_CONTROL) continue;
        *s = str_starts(*s, "##") ? (str){s->p + 2, s->n - 2} : join(&t->a, space_mark, *s);
        if (!s->p) return no_memory(e);
    }
    return OK;
}

static status read_wordpiece(hf_tokenizer *t, const hf_config *c, hf_warnings *warnings, err *e) {
    t->model = "bert";
    t->pre = "default";
    const json_t *model = json_object_get(t->json, "model"), *norm = json_object_get(t->json, "normalizer");
    status s = must_be(model, "continuing_subword_prefix", "##", e);
    if (!s) s = must_be(norm, "type", "BertNormalizer", e);
    if (!s) s = must_be(json_object_get(t->json, "pre_tokenizer"), "type", "BertPreTokenizer", e);
    if (!s) s = read_vocab(t, c, warnings, e);
    if (!s) s = hf_pad_tokens(t, e);
    if (!s) s = phantom_spaces(t, e);
    const json_t *lower = json_object_get(norm, "lowercase"), *strip = json_object_get(norm, "strip_accents");
    if (json_is_boolean(lower)) t->lowercase = json_is_true(lower);
    if (json_is_boolean(strip)) t->strip = json_is_true(strip);
    return s;
}

static status read_sentencepiece(hf_tokenizer *t, const char *dir, const hf_config *c, hf_warnings *warnings, err *e) {
    t->model = "llama";
    t->pre = "default";
    status s = make_room(t, c->n_vocab, e);
    if (!s && !(t->score = arena_array(&t->a, t->n, sizeof *t->score))) s = no_memory(e);
    if (!s) s = hf_text_open(&t->proto, dir, proto_name, e);
    if (!s) s = hf_read_sentencepiece(t, warnings, e);
    if (!s) s = read_added(t, warnings, e);
    return s ? s : hf_pad_tokens(t, e);
}

static status read_character_bpe(hf_tokenizer *t, const hf_config *c, hf_warnings *warnings, err *e) {
    t->model = "llama";
    t->pre = "default";
    status s = read_vocab(t, c, warnings, e);
    if (!s && !(t->score = arena_array(&t->a, t->n, sizeof *t->score))) s = no_memory(e);
    if (!s) s = read_merges(t, e);
    if (!s) s = hf_scores_of_merges(t, e);
    return s ? s : hf_pad_tokens(t, e);
}

static status read_unigram(hf_tokenizer *t, const hf_config *c, hf_warnings *warnings, err *e) {
    t->model = "t5";
    t->pre = "default";
    status s = make_room(t, c->n_vocab, e);
    if (!s && !(t->score = arena_array(&t->a, t->n, sizeof *t->score))) s = no_memory(e);
    if (!s) s = hf_read_unigrams(t, warnings, e);
    if (!s) s = read_added(t, warnings, e);
    return s ? s : hf_pad_tokens(t, e);
}

static bool has_byte_level(const json_t *v) {
    if (str_is(str_of(json_string_value(json_object_get(v, "type"))), "ByteLevel")) return true;
    const json_t *list = json_object_get(v, "pretokenizers");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (str_is(str_of(json_string_value(json_object_get(json_array_get(list, i), "type"))), "ByteLevel"))
            return true;
    return false;
}

static status read_kind(hf_tokenizer *t, const char *dir, const hf_config *c, hf_warnings *warnings, err *e) {
    const json_t *model = json_object_get(t->json, "model");
    const str type = str_of(json_string_value(json_object_get(model, "type")));
    if (str_is(type, "BPE") && has_byte_level(json_object_get(t->json, "pre_tokenizer")))
        return read_byte_bpe(t, c, warnings, e);
    if (str_is(type, "WordPiece")) return read_wordpiece(t, c, warnings, e);
    if (str_is(type, "Unigram")) return read_unigram(t, c, warnings, e);
    if (hf_has(dir, proto_name)) return read_sentencepiece(t, dir, c, warnings, e);
    if (str_is(type, "BPE") && json_is_true(json_object_get(model, "byte_fallback")))
        return read_character_bpe(t, c, warnings, e);
    if (!t->json) return fail(e, ERR_CONVERT_TOKENIZER, "%s: it holds neither %s nor %s", dir, json_name, proto_name);
    return fail(e, ERR_CONVERT_TOKENIZER,
                "%s: a tokenizer of type '%.*s' is not built in (built in: BPE, WordPiece, Unigram)", json_name,
                STR(type));
}

status hf_tokenizer_open(hf_tokenizer *t, const char *dir, const hf_config *c, hf_warnings *warnings, err *e) {
    *t = (hf_tokenizer){
        .add_bos = -1, .add_eos = -1, .add_sep = -1, .add_space = -1, .lowercase = -1, .strip = -1, .extra_spaces = -1};
    for (int i = 0; i < HF_N_SPECIAL; i++) t->special[i] = -1;
    status s = hf_json_open(&t->json, dir, json_name, false, e);
    if (!s) s = hf_json_open(&t->config, dir, "tokenizer_config.json", false, e);
    if (!s) s = read_kind(t, dir, c, warnings, e);
    return s ? s : hf_read_special(t, dir, c, warnings, e);
}

void hf_tokenizer_close(hf_tokenizer *t) {
    json_decref(t->json);
    json_decref(t->config);
    json_decref(t->templates);
    strbuf_free(&t->proto);
    arena_free(&t->a);
    *t = (hf_tokenizer){0};
}

/* --- keys ---------------------------------------------------------------------------------------------------------------- */

static void put_flag(gguf_writer *w, const char *key, int v) {
    if (v >= 0) gguf_put_bool(w, key, v);
}

static void put_templates(const hf_tokenizer *t, gguf_writer *w) {
    const char *name;
    json_t *text;
    char key[160];
    json_object_foreach(t->templates, name, text) {
        const bool is_default = strcmp(name, "default") == 0;
        snprintf(key, sizeof key, "tokenizer.chat_template%s%s", is_default ? "" : ".", is_default ? "" : name);
        gguf_put_str(w, key, text_of(text));
    }
}

void hf_tokenizer_put(const hf_tokenizer *t, gguf_writer *w) {
    static const char *const ids[HF_N_SPECIAL] = {"bos",     "eos", "unknown", "seperator",
                                                  "padding", "cls", "mask",    "eot"};
    char key[64];
    gguf_put_str(w, "tokenizer.ggml.model", str_of(t->model));
    if (t->pre) gguf_put_str(w, "tokenizer.ggml.pre", str_of(t->pre));
    gguf_put_strs(w, "tokenizer.ggml.tokens", t->text, t->n);
    if (t->score) gguf_put_f32s(w, "tokenizer.ggml.scores", t->score, t->n);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", t->kind, t->n);
    if (t->merge && !t->score) gguf_put_strs(w, "tokenizer.ggml.merges", t->merge, t->n_merges);
    for (int i = 0; i < HF_N_SPECIAL; i++) {
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", ids[i]);
        if (t->special[i] >= 0) gguf_put_u32(w, key, (uint32_t)t->special[i]);
    }
    put_flag(w, "tokenizer.ggml.add_bos_token", t->add_bos);
    put_flag(w, "tokenizer.ggml.add_eos_token", t->add_eos);
    put_flag(w, "tokenizer.ggml.add_sep_token", t->add_sep);
    put_flag(w, "tokenizer.ggml.add_space_prefix", t->add_space);
    put_flag(w, "tokenizer.ggml.remove_extra_whitespaces", t->extra_spaces);
    put_flag(w, "tokenizer.ggml.normalizer.lowercase", t->lowercase);
    put_flag(w, "tokenizer.ggml.normalizer.strip_accents", t->strip);
    if (t->n_charsmap) gguf_put_bytes(w, "tokenizer.ggml.precompiled_charsmap", t->charsmap, t->n_charsmap);
    put_templates(t, w);
}
