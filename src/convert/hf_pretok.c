/* Pre-tokenizers by what they do. tokenizer.json describes one as a list of steps; each step is written as a word, and the
 * words together are looked up. The scanners behind the names are src/text/pretok.c's, written from the same expressions. */
#include "convert/hf_tokenizer.h"

#include "text/pretok.h"

#include <string.h>

#define CONTRACTIONS  "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define AFTER_NUMBERS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* steps: one a line; "words": GPT-2's own expression; "bytes": bytes as characters, nothing cut. */
static const struct {
    const char *steps, *name,
        *ignoring_merges; /* the last: where a word that is a token stays whole; NULL: none such */
} known[] = {
    {"words", "gpt-2", NULL},
    {"digit\nwords", "smollm", NULL},
    {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" AFTER_NUMBERS "\nbytes", "dbrx", "llama-bpe"},
    {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" AFTER_NUMBERS "\nbytes", "qwen2", NULL},
    {CONTRACTIONS
     "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
     "\nbytes",
     "qwen35", NULL},
    {"punctuation\nwords\ndigits\n[0-9][0-9][0-9]", "falcon", NULL},
};

static const char *text_at(const json_t *v, const char *key) {
    const char *s = json_string_value(json_object_get(v, key));
    return s ? s : "";
}

static bool is(const json_t *v, const char *key, const char *value) { return strcmp(text_at(v, key), value) == 0; }

static bool add_split(strbuf *out, const json_t *step) {
    const char *regex = json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
    const bool invert = json_is_true(json_object_get(step, "invert"));
    const bool plain = is(step, "behavior", "Isolated") && !invert, inverse = is(step, "behavior", "Removed") && invert;
    if (!regex || (!plain && !inverse)) return false;
    strbuf_puts(out, regex);
    return true;
}

/* false: a step that no word stands for. */
static bool add_step(strbuf *out, const json_t *step, bool *adds_space) {
    if (out->n) strbuf_puts(out, "\n");
    if (is(step, "type", "Split")) return add_split(out, step);
    if (is(step, "type", "Digits")) {
        strbuf_puts(out, json_is_true(json_object_get(step, "individual_digits")) ? "digit" : "digits");
        return true;
    }
    if (is(step, "type", "Punctuation") && is(step, "behavior", "Contiguous")) {
        strbuf_puts(out, "punctuation");
        return true;
    }
    if (!is(step, "type", "ByteLevel")) return false;
    *adds_space |= json_is_true(json_object_get(step, "add_prefix_space"));
    strbuf_puts(out, json_is_false(json_object_get(step, "use_regex")) ? "bytes" : "words");
    return true;
}

static status read_steps(strbuf *out, const json_t *pre, bool *adds_space, err *e) {
    const json_t *list = json_object_get(pre, "pretokenizers");
    bool ok = list || add_step(out, pre, adds_space);
    for (size_t i = 0; ok && i < json_array_size(list); i++) {
        ok = add_step(out, json_array_get(list, i), adds_space);
        if (!ok) pre = json_array_get(list, i);
    }
    if (!ok)
        return fail(e, ERR_PRETOKENIZER, "tokenizer.json: the pre-tokenizer's step %.40s is not built in as it is set",
                    text_at(pre, "type"));
    return out->failed || !out->p ? fail(e, ERR_NOMEM, "no memory for the pre-tokenizer") : OK;
}

static status check_normaliser(const hf_tokenizer *t, hf_warnings *warnings, err *e) {
    const json_t *norm = json_object_get(t->json, "normalizer");
    if (!norm || json_is_null(norm)) return OK;
    if (is(norm, "type", "Sequence") && json_array_size(json_object_get(norm, "normalizers")) == 0) return OK;
    if (!is(norm, "type", "NFC"))
        return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.json: the normaliser %.40s is not built in",
                    text_at(norm, "type"));
    hf_warn(warnings,
            "texts are not brought into Unicode's NFC form, as tokenizer.json asks: characters that are written as a "
            "letter and a mark become other tokens");
    return OK;
}

status hf_pretokenizer(const char **name, const hf_tokenizer *t, hf_warnings *warnings, err *e) {
    strbuf steps = {0};
    bool adds_space = false;
    status s = check_normaliser(t, warnings, e);
    if (!s) s = read_steps(&steps, json_object_get(t->json, "pre_tokenizer"), &adds_space, e);
    *name = NULL;
    const bool ignores = json_is_true(json_object_get(json_object_get(t->json, "model"), "ignore_merges"));
    for (size_t i = 0; !s && i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].steps, steps.p) == 0)
            *name = ignores && known[i].ignoring_merges ? known[i].ignoring_merges : known[i].name;
    if (!s && (!*name || !pretok_find(str_of(*name))))
        s = fail(e, ERR_PRETOKENIZER, "tokenizer.json: no pre-tokenizer that is built in cuts by %.300s", steps.p);
    if (!s && adds_space) hf_warn(warnings, "no space is put before a text, though tokenizer.json asks for it");
    strbuf_free(&steps);
    return s;
}
