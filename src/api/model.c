/* Models: open, look into, tokenize. */
#include "api/api.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

const char *rf_version(void) { return ROCMFORGE_VERSION; }
void rf_free(void *p) { mem_free(p); }

bool api_result(status s, const err *e, rf_error *out) {
    if (s == OK || !out) return s == OK;
    const err_info *i = err_lookup(s);
    *out = (rf_error){.http = i->http, .retry = i->retry};
    snprintf(out->code, sizeof out->code, "%s", i->code);
    snprintf(out->category, sizeof out->category, "%s", i->category);
    snprintf(out->message, sizeof out->message, "%s", e->text);
    return false;
}

static void drop_unless(bool ok, json_t **all) {
    if (ok) return;
    json_decref(*all);
    *all = NULL;
}

void api_append(json_t **all, json_t *item) { drop_unless(json_array_append_new(*all, item) == 0, all); }
void api_set(json_t **all, const char *key, json_t *item) {
    drop_unless(json_object_set_new(*all, key, item) == 0, all);
}

json_t *api_text(const strbuf *b) { return b->failed ? NULL : json_text(b->p ? b->p : "", b->n); }

char *api_json(json_t *v, status *s, err *e) {
    strbuf b = {0};
    *s = v ? json_write(v, &b, e) : fail(e, ERR_NOMEM, "JSON");
    json_decref(v);
    if (*s) strbuf_free(&b); /* the start of an answer is none */
    return b.p;
}

char *rf_error_table(void) {
    json_init();
    json_t *all = json_array();
    for (int i = 1; i < ERR_COUNT; i++) {
        const err_info *r = err_lookup((status)i);
        json_t *row = json_pack("{ss ss si sb ss}", "code", r->code, "category", r->category, "http", r->http, "retry",
                                (int)r->retry, "text", r->text);
        api_append(&all, row);
    }
    status s;
    return api_json(all, &s, NULL);
}

status api_if_unchanged(const gguf *file, status s, err *e) {
    status changed = file && s != ERR_NOMEM ? gguf_check(file, e) : OK;
    return changed ? changed : s;
}

bool rf_model_open(rf_model **out, const char *path, rf_error *e) {
    *out = NULL;
    err why = {0};
    json_init();
    rf_model *m = mem_zalloc(sizeof *m);
    status s = m ? gguf_open(&m->file, path, &why) : fail(&why, ERR_NOMEM, "model");
    if (!s) s = model_info_read(&m->info, m->file, &why);
    if (!s) s = tokenizer_open(&m->text, m->file, &why);
    if (!s && tokenizer_get_info(m->text)->n_vocab > m->info.n_vocab)
        s = fail(&why, ERR_TOKENIZER, "the vocabulary has %u tokens, the embedding only %u rows",
                 tokenizer_get_info(m->text)->n_vocab, m->info.n_vocab);
    if (!s) s = api_check_graph(m, &why);
    if (!s) s = api_chat_of_model(m, &why);
    if (m) s = api_if_unchanged(m->file, s, &why);
    if (s)
        rf_model_close(m);
    else
        *out = m;
    return api_result(s, &why, e);
}

void rf_model_close(rf_model *m) {
    if (!m) return;
    api_chat_close(&m->chat);
    tokenizer_close(m->text);
    model_info_free(&m->info);
    gguf_close(m->file);
    mem_free(m);
}

uint32_t rf_model_n_vocab(const rf_model *m) { return m->info.n_vocab; }
uint32_t rf_model_context_train(const rf_model *m) { return m->info.context_train; }

bool rf_tokenize(const rf_model *m, const char *text, size_t n, unsigned flags, int32_t **ids, size_t *n_ids,
                 rf_error *e) {
    err why = {0};
    tokenize_options opt = {.add_special = !(flags & RF_NO_SPECIAL), .parse_special = !(flags & RF_NO_PARSE_SPECIAL)};
    token_list list = {0};
    status s = api_if_unchanged(m->file, tokenizer_encode(m->text, (str){text, n}, opt, &list, &why), &why);
    if (s) {
        mem_free(list.ids);
        list = (token_list){0};
    }
    *ids = list.ids;
    *n_ids = list.n;
    return api_result(s, &why, e);
}

static bool give_text(strbuf *b, status s, err *why, char **text, size_t *n, rf_error *e) {
    if (!s) strbuf_add(b, "", 0); /* an empty text is a string too */
    if (!s && b->failed) s = fail(why, ERR_NOMEM, "text");
    if (s) strbuf_free(b);
    *text = b->p;
    *n = b->n;
    return api_result(s, why, e);
}

bool rf_detokenize(const rf_model *m, const int32_t *ids, size_t n_ids, bool special, char **text, size_t *n,
                   rf_error *e) {
    err why = {0};
    strbuf b = {0};
    status s = api_if_unchanged(m->file, tokenizer_decode(m->text, ids, n_ids, special, &b, &why), &why);
    return give_text(&b, s, &why, text, n, e);
}

bool rf_token_piece(const rf_model *m, int32_t id, char **piece, size_t *n, rf_error *e) {
    err why = {0};
    strbuf b = {0};
    status s = api_if_unchanged(m->file, tokenizer_piece(m->text, id, true, &b, &why), &why);
    return give_text(&b, s, &why, piece, n, e);
}

char *rf_model_graph(const rf_model *m, int passes, rf_error *e) {
    err why = {0};
    strbuf b = {0};
    status s = exec_dump_graph(m->file, passes < 0 ? PASS_ALL : (unsigned)passes & PASS_ALL, &b, &why);
    if (!s && b.failed) s = fail(&why, ERR_NOMEM, "graph dump");
    s = api_if_unchanged(m->file, s, &why);
    if (s) strbuf_free(&b);
    api_result(s, &why, e);
    return b.p;
}
