/* Embeddings: what pooling means for a model, and pairs of texts for those that rank. */
#include "api/api.h"

#include "base/mem.h"

#include <string.h>

bool rf_model_generates(const rf_model *m) { return !m->info.encoder; }
uint32_t rf_model_n_scores(const rf_model *m) { return m->info.n_scores; }

rf_pooling rf_model_pooling(const rf_model *m) {
    static const rf_pooling of[] = {[MODEL_POOLING_NONE] = RF_POOLING_MEAN,
                                    [MODEL_POOLING_MEAN] = RF_POOLING_MEAN,
                                    [MODEL_POOLING_CLS] = RF_POOLING_CLS,
                                    [MODEL_POOLING_LAST] = RF_POOLING_LAST,
                                    [MODEL_POOLING_RANK] = RF_POOLING_RANK};
    return of[m->info.pooling];
}

/* The head of an encoder looks at the first token, that of a decoder at the last, which has seen the others. */
sched_pooling api_pooling(const rf_model *m, rf_pooling p, bool *scores) {
    if (p == RF_POOLING_MODEL) p = rf_model_pooling(m);
    *scores = p == RF_POOLING_RANK;
    if (p == RF_POOLING_RANK) return m->info.encoder ? POOL_CLS : POOL_LAST;
    return p == RF_POOLING_CLS ? POOL_CLS : p == RF_POOLING_LAST ? POOL_LAST : POOL_MEAN;
}

status api_check_generates(const rf_model *m, err *e) {
    if (!m->info.encoder) return OK;
    return fail(e, ERR_EMBEDS_ONLY, "%s is an encoder: it gives embeddings and generates no text", m->info.arch_name);
}

/* --- pairs -------------------------------------------------------------------------------------------------------------- */

static status join(token_list *to, const token_list *more, err *e) {
    if (!more->n) return OK;
    token_id *ids = mem_array(to->n + more->n, sizeof *ids);
    if (!ids) return fail(e, ERR_NOMEM, "a pair of texts");
    if (to->n) memcpy(ids, to->ids, to->n * sizeof *ids);
    memcpy(ids + to->n, more->ids, more->n * sizeof *ids);
    mem_free(to->ids);
    *to = (token_list){ids, to->n + more->n};
    return OK;
}

static status join_id(token_list *to, bool wanted, token_id id, err *e) {
    return wanted && id != TOKEN_NONE ? join(to, &(token_list){&id, 1}, e) : OK;
}

static status join_text(token_list *to, const tokenizer *t, str text, err *e) {
    token_list ids = {0};
    status s = tokenizer_encode(t, text, (tokenize_options){0}, &ids, e);
    if (!s) s = join(to, &ids, e);
    mem_free(ids.ids);
    return s;
}

/* BOS query EOS SEP document EOS; SEP stands in for an EOS that the vocabulary lacks. */
static status join_plain(token_list *to, const rf_model *m, str query, str text, err *e) {
    const tokenizer_info *i = tokenizer_get_info(m->text);
    token_id eos = i->eos != TOKEN_NONE ? i->eos : i->sep;
    status s = join_id(to, i->add_bos, i->bos, e);
    if (!s) s = join_text(to, m->text, query, e);
    if (!s) s = join_id(to, i->add_eos, eos, e);
    if (!s) s = join_id(to, i->add_sep, i->sep, e);
    if (!s) s = join_text(to, m->text, text, e);
    return s ? s : join_id(to, i->add_eos, eos, e);
}

/* The file's template with {query} and {document} filled in; what is filled in is nobody's control token. */
static status join_template(token_list *to, const rf_model *m, str pattern, str query, str text, err *e) {
    enum { MOST_PLACES = 16 };
    byte_span input[MOST_PLACES];
    size_t n_input = 0;
    strbuf b = {0};
    for (size_t at = 0; at < pattern.n;) {
        str rest = {pattern.p + at, pattern.n - at}, name = str_of("{query}"), put = query;
        if (rest.n < name.n || memcmp(rest.p, name.p, name.n) != 0) name = str_of("{document}"), put = text;
        if (rest.n < name.n || memcmp(rest.p, name.p, name.n) != 0 || n_input == MOST_PLACES) {
            strbuf_add(&b, rest.p, 1);
            at++;
            continue;
        }
        if (put.n) input[n_input++] = (byte_span){b.n, put.n};
        strbuf_add(&b, put.p, put.n);
        at += name.n;
    }
    tokenize_options opt = {.parse_special = true, .input = input, .n_input = n_input};
    status s = b.failed ? fail(e, ERR_NOMEM, "a pair of texts") : OK;
    if (!s) s = tokenizer_encode(m->text, (str){b.p ? b.p : "", b.n}, opt, to, e);
    strbuf_free(&b);
    return s;
}

bool rf_tokenize_pair(const rf_model *m, const char *query, size_t n_query, const char *text, size_t n_text,
                      int32_t **ids, size_t *n_ids, rf_error *e) {
    err why = {0};
    token_list list = {0};
    str pattern = {0}, q = {query, n_query}, t = {text, n_text};
    status s = gguf_get_str(m->file, "tokenizer.chat_template.rerank", &pattern, &why);
    if (!s) s = pattern.n ? join_template(&list, m, pattern, q, t, &why) : join_plain(&list, m, q, t, &why);
    s = api_if_unchanged(m->file, s, &why);
    if (s) {
        mem_free(list.ids);
        list = (token_list){0};
    }
    *ids = list.ids;
    *n_ids = list.n;
    return api_result(s, &why, e);
}
