/* tokenizer.json of unigrams (XLM-RoBERTa and its kin): model.vocab is a list of [text, score] in the order of ids; spaces are
 * marked by Metaspace; the normaliser may hold SentencePiece's charsmap, in base64. What else a normaliser or pre-tokenizer may
 * do is refused, but for what the file's tokenizer does too: words apart at any run of spaces. */
#include "convert/hf_tokenizer.h"

#include <inttypes.h>
#include <string.h>

static bool is(const json_t *v, const char *key, const char *value) {
    const char *s = json_string_value(json_object_get(v, key));
    return s && strcmp(s, value) == 0;
}

/* --- base64 -------------------------------------------------------------------------------------------------------------- */

static int digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Whole groups of four, the last filled with '='. */
static bool decode(const json_t *v, uint8_t *out, size_t *n_out) {
    const char *p = json_string_value(v);
    const size_t n = json_string_length(v);
    *n_out = 0;
    if (n % 4) return false;
    for (size_t at = 0; at < n; at += 4) {
        const bool last = at + 4 == n;
        const int fill = !last ? 0 : p[n - 2] == '=' && p[n - 1] == '=' ? 2 : p[n - 1] == '=';
        uint32_t bits = 0;
        for (int i = 0; i < 4; i++) {
            const int d = i < 4 - fill ? digit(p[at + (size_t)i]) : 0;
            if (d < 0) return false;
            bits = bits << 6 | (uint32_t)d;
        }
        for (int i = 0; i < 3 - fill; i++) out[(*n_out)++] = (uint8_t)(bits >> (16 - 8 * i));
    }
    return true;
}

/* --- what is done to a text first ------------------------------------------------------------------------------------------ */

static status read_charsmap(hf_tokenizer *t, const json_t *v, err *e) {
    uint8_t *map = arena_take(&t->a, json_string_length(v) / 4 * 3 + 3);
    if (!map) return fail(e, ERR_NOMEM, "no memory for the tokenizer");
    if (!json_is_string(v) || !decode(v, map, &t->n_charsmap))
        return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.json: precompiled_charsmap is no base64");
    t->charsmap = map;
    return OK;
}

/* Replace " {2,}" by one space (or its mark). */
static bool joins_spaces(const json_t *step) {
    const char *regex = json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
    return is(step, "type", "Replace") && regex && strcmp(regex, " {2,}") == 0;
}

static status read_step(hf_tokenizer *t, const json_t *step, err *e) {
    if (is(step, "type", "Precompiled")) return read_charsmap(t, json_object_get(step, "precompiled_charsmap"), e);
    if (joins_spaces(step) || is(step, "type", "WhitespaceSplit") || is(step, "type", "Strip")) {
        t->extra_spaces = 1; /* they are taken out */
        return OK;
    }
    if (is(step, "type", "Metaspace") && is(step, "replacement", "\xE2\x96\x81")) {
        t->add_space =
            !is(step, "prepend_scheme", "never") && !json_is_false(json_object_get(step, "add_prefix_space"));
        return OK;
    }
    const char *type = json_string_value(json_object_get(step, "type"));
    return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.json: the step %.40s before unigrams is not built in",
                type ? type : "?");
}

static status read_steps(hf_tokenizer *t, const json_t *v, const char *list_name, err *e) {
    if (!v || json_is_null(v)) return OK;
    const json_t *list = json_object_get(v, list_name);
    status s = list ? OK : read_step(t, v, e);
    for (size_t i = 0; !s && i < json_array_size(list); i++) s = read_step(t, json_array_get(list, i), e);
    return s;
}

/* --- the vocabulary ------------------------------------------------------------------------------------------------------ */

static status read_vocab(hf_tokenizer *t, const json_t *list, err *e) {
    const size_t n = json_array_size(list);
    if (n == 0) return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.json: model.vocab is missing, empty or no array");
    if (n > t->n) return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.json has %zu tokens, the model %" PRIu32, n, t->n);
    for (size_t i = 0; i < n; i++) {
        const json_t *text = json_array_get(json_array_get(list, i), 0),
                     *score = json_array_get(json_array_get(list, i), 1);
        if (!json_string_length(text) || !json_is_number(score))
            return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.json: entry %zu of model.vocab is no text and score", i);
        t->text[i] = (str){json_string_value(text), json_string_length(text)};
        t->score[i] = (float)json_number_value(score);
        t->kind[i] = HF_NORMAL;
        if (!(t->score[i] - t->score[i] == 0))
            return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.json: the score of token %zu is out of range", i);
    }
    return OK;
}

status hf_read_unigrams(hf_tokenizer *t, hf_warnings *warnings, err *e) {
    const json_t *model = json_object_get(t->json, "model"), *unk = json_object_get(model, "unk_id");
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.json: unigrams that fall back on bytes are not built in");
    status s = read_vocab(t, json_object_get(model, "vocab"), e);
    t->add_space = t->extra_spaces = 0;
    if (!s) s = read_steps(t, json_object_get(t->json, "normalizer"), "normalizers", e);
    if (!s) s = read_steps(t, json_object_get(t->json, "pre_tokenizer"), "pretokenizers", e);
    if (!s && t->extra_spaces && !t->n_charsmap)
        hf_warn(warnings,
                "only spaces part words: without a charsmap in tokenizer.json, tabs and line breaks are characters");
    if (s || !json_is_integer(unk)) return s;
    if (json_integer_value(unk) < 0 || json_integer_value(unk) >= t->n)
        return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.json: unk_id is outside of the vocabulary");
    t->special[HF_UNK] = (int32_t)json_integer_value(unk);
    t->kind[t->special[HF_UNK]] = HF_UNKNOWN;
    return OK;
}
