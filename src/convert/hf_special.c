/* Special tokens, what a tokenizer adds to a text, and chat templates: from tokenizer_config.json, the post_processor of
 * tokenizer.json, special_tokens_map.json and config.json, in the order and with the rules of gguf-py's SpecialVocab. */
#include "convert/hf_folder.h"
#include "convert/hf_tokenizer.h"

#include <string.h>

static const char config_name[] = "tokenizer_config.json";
/* By hf_special: the keys "NAME_token" and "NAME_token_id". */
static const char *const token_names[HF_N_SPECIAL] = {"bos", "eos", "unk", "sep", "pad", "cls", "mask", "eot"};

typedef struct {
    hf_tokenizer *t;
    const char *text[HF_N_SPECIAL]; /* NULL: none */
} specials;

/* A token is given as its text, or as an object that holds it. */
static const char *token_text(const json_t *v, const char *key) {
    const json_t *x = json_object_get(v, key);
    return json_string_value(json_is_object(x) ? json_object_get(x, "content") : x);
}

static void read_names(specials *s, const json_t *from) {
    char key[24];
    for (int i = 0; i < HF_N_SPECIAL; i++) {
        snprintf(key, sizeof key, "%s_token", token_names[i]);
        if (!s->text[i]) s->text[i] = token_text(from, key);
    }
}

static bool same(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

/* The special token at one place of a template; NULL: something else stands there. */
static const char *special_at(const json_t *list, size_t i) {
    return json_string_value(json_object_get(json_object_get(json_array_get(list, i), "SpecialToken"), "id"));
}

static void set_default(int *flag, int value) {
    if (*flag < 0) *flag = value;
}

/* Whether a pair is A, a separator more than the text's own end, B. */
static void read_pair(specials *s, const json_t *pair, const char *first, const char *last) {
    size_t n = json_array_size(pair), from = 0;
    if (first && same(special_at(pair, 0), first)) from = 1;
    if (n && last && same(special_at(pair, n - 1), last)) n--;
    const json_t *a = json_object_get(json_array_get(pair, from), "Sequence");
    if (n < from + 3 || !a) return;
    const char *mid = special_at(pair, from + 1), *more = n == from + 4 ? special_at(pair, from + 2) : NULL;
    const bool ours = same(mid, s->text[HF_SEP]) || same(mid, s->text[HF_EOS]);
    s->t->add_sep = (ours && !last) || same(more, s->text[HF_SEP]) || same(more, s->text[HF_EOS]);
    if (s->t->add_sep && !s->text[HF_SEP]) s->text[HF_SEP] = s->text[HF_EOS];
}

static void read_template(specials *s, const json_t *p) {
    const json_t *single = json_object_get(p, "single");
    const size_t n = json_array_size(single);
    const char *first = n > 1 ? special_at(single, 0) : NULL, *last = n > 1 ? special_at(single, n - 1) : NULL;
    if (first) {
        const bool is_known = same(first, s->text[HF_BOS]) || same(first, s->text[HF_CLS]);
        if (!is_known && !s->text[HF_BOS]) s->text[HF_BOS] = first;
        if (!is_known && !s->text[HF_CLS]) s->text[HF_CLS] = first;
        s->t->add_bos = same(first, s->text[HF_BOS]) || same(first, s->text[HF_CLS]);
    }
    if (last) {
        if (!same(last, s->text[HF_EOS]) && !s->text[HF_EOT]) s->text[HF_EOT] = s->text[HF_EOS];
        s->text[HF_EOS] = last;
        s->t->add_eos = 1;
    }
    read_pair(s, json_object_get(p, "pair"), first, last);
}

static void read_processor(specials *s, const json_t *p) {
    const char *type = json_string_value(json_object_get(p, "type"));
    if (same(type, "ByteLevel")) {
        set_default(&s->t->add_bos, 0);
        set_default(&s->t->add_eos, 0);
    } else if (same(type, "RobertaProcessing") || same(type, "BertProcessing")) {
        s->t->add_bos = s->t->add_eos = 1;
        if (same(type, "RobertaProcessing")) s->t->add_sep = 1;
    } else if (same(type, "TemplateProcessing")) {
        read_template(s, p);
    }
}

static void read_processors(specials *s) {
    const json_t *p = json_object_get(s->t->json, "post_processor"), *list = json_object_get(p, "processors");
    if (!list) read_processor(s, p);
    for (size_t i = 0; i < json_array_size(list); i++) read_processor(s, json_array_get(list, i));
}

/* --- ids ----------------------------------------------------------------------------------------------------------------- */

static int32_t find(const hf_tokenizer *t, const char *text) {
    for (uint32_t i = 0; i < t->n; i++)
        if (str_is(t->text[i], text) && t->kind[i] != HF_UNUSED) return (int32_t)i;
    return -1;
}

static status set_ids(specials *s, const hf_config *c, err *e) {
    char key[24];
    for (int i = 0; i < HF_N_SPECIAL; i++) {
        hf_tokenizer *t = s->t;
        const int32_t id = s->text[i] ? find(t, s->text[i]) : -1;
        uint32_t said = UINT32_MAX;
        if (id >= 0) t->special[i] = id;
        snprintf(key, sizeof key, "%s_token_id", token_names[i]);
        if (t->special[i] >= 0 || !json_is_integer(json_object_get(c->v, key))) continue;
        if (json_integer_value(json_object_get(c->v, key)) < 0) continue; /* -1: none */
        status rc = hf_config_u32(c, key, 0, t->n - 1, &said, e);
        if (rc) return rc;
        t->special[i] = (int32_t)said;
    }
    return OK;
}

static status read_flags(hf_tokenizer *t, err *e) {
    const struct {
        const char *key;
        int *flag;
    } flags[] = {{"add_bos_token", &t->add_bos}, {"add_eos_token", &t->add_eos}, {"add_sep_token", &t->add_sep}};
    for (size_t i = 0; i < 3; i++) {
        bool on = false;
        status s = hf_get_bool(t->config, config_name, flags[i].key, &on, e);
        if (s) return s;
        if (json_is_boolean(json_object_get(t->config, flags[i].key))) set_default(flags[i].flag, on);
    }
    const json_t *space = json_object_get(t->config, "add_prefix_space");
    if (t->score && json_is_boolean(space)) t->add_space = json_is_true(space);
    return OK;
}

/* Whether a text gets a space in front, where tokenizer.model does not say: it is prepended as U+2581, or by Metaspace. */
static bool prepends(const json_t *v) {
    const char *type = json_string_value(json_object_get(v, "type"));
    const char *scheme = json_string_value(json_object_get(v, "prepend_scheme"));
    const json_t *list = json_object_get(v, "normalizers");
    if (!list) list = json_object_get(v, "pretokenizers");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_array_get(list, i) != v && prepends(json_array_get(list, i))) return true;
    if (same(type, "Prepend")) return true;
    return same(type, "Metaspace") && !same(scheme, "never") && !json_is_false(json_object_get(v, "add_prefix_space"));
}

/* --- chat templates ------------------------------------------------------------------------------------------------------ */

static status add_template(hf_tokenizer *t, const char *name, json_t *text, err *e) {
    if (!json_is_string(text)) return fail(e, ERR_CONVERT_CONFIG, "%s: chat_template is no string", config_name);
    if (strlen(name) > 64 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != strlen(name))
        return fail(e, ERR_CONVERT_CONFIG, "%s: '%.80s' is no name of a chat template", config_name, name);
    return json_object_set(t->templates, name, text) ? fail(e, ERR_NOMEM, "no memory for a chat template") : OK;
}

static status template_file(hf_tokenizer *t, const char *dir, err *e) {
    strbuf text = {0};
    status s = hf_text_open(&text, dir, "chat_template.jinja", e);
    if (s || !text.p) return s;
    if (!str_is_utf8((str){text.p, text.n}))
        s = fail(e, ERR_CONVERT_CONFIG, "chat_template.jinja is no valid UTF-8");
    else if (json_object_set_new(t->templates, "default", json_text(text.p, text.n)))
        s = fail(e, ERR_NOMEM, "no memory for a chat template");
    strbuf_free(&text);
    return s;
}

/* tokenizer_config.json's own comes first; then chat_template.jinja, chat_template.json. */
static status read_templates(hf_tokenizer *t, const char *dir, err *e) {
    json_t *one, *old = NULL, *all = json_object_get(t->config, "chat_template");
    size_t i;
    t->templates = json_object();
    if (!t->templates) return fail(e, ERR_NOMEM, "no memory for chat templates");
    if (!all || json_is_null(all)) {
        status s = template_file(t, dir, e);
        if (s || json_object_size(t->templates)) return s;
        s = hf_json_open(&old, dir, "chat_template.json", false, e);
        if (s) return s;
        all = json_object_get(old, "chat_template");
    }
    status s = OK;
    if (json_is_string(all)) s = add_template(t, "default", all, e);
    json_array_foreach(all, i, one) {
        const char *name = "default";
        if (!s) s = hf_get_text(one, config_name, "name", &name, e);
        if (!s) s = add_template(t, name, json_object_get(one, "template"), e);
    }
    json_decref(old);
    return s;
}

status hf_read_special(hf_tokenizer *t, const char *dir, const hf_config *c, hf_warnings *warnings, err *e) {
    specials s = {.t = t};
    json_t *map;
    (void)warnings;
    status rc = hf_json_open(&map, dir, "special_tokens_map.json", false, e);
    if (rc) return rc;
    read_names(&s, t->config);
    if (!t->config) read_names(&s, map);
    if (t->json && !s.text[HF_BOS]) s.text[HF_BOS] = s.text[HF_CLS];
    if (t->json && !s.text[HF_EOS]) s.text[HF_EOS] = s.text[HF_SEP];
    read_processors(&s);
    rc = set_ids(&s, c, e);
    json_decref(map); /* its texts are not looked at again */
    if (t->score && t->add_space < 0)
        t->add_space =
            prepends(json_object_get(t->json, "normalizer")) || prepends(json_object_get(t->json, "pre_tokenizer"));
    if (!rc) rc = read_flags(t, e);
    return rc ? rc : read_templates(t, dir, e);
}
