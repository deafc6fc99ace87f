/* POST /v1/rerank, Jina's and Cohere's form as llama.cpp has it: a query and documents to the documents' scores, best first.
 * The model must have a rank head. A score is what the head gives (a logit for most models, higher is better), not squashed. */
#include "base/mem.h"
#include "server/embed.h"
#include "server/openai.h"
#include "server/vector.h"

#include <stdlib.h>

/* --- the reply -------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t index;
    float score;
} ranked;

/* Best first; equal ones in the order in which they were given. */
static int by_score(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static json_t *result_of(const embed *c, const ranked *r) {
    json_t *v = json_pack("{si so}", "index", (int)r->index, "relevance_score", vector_number(r->score));
    const openai_input *in = &c->in[r->index];
    if (v && c->documents)
        json_object_set_new(v, "document", json_pack("{so}", "text", json_text(in->text, in->n_text)));
    return v;
}

static json_t *results_of(const embed *c, const ranked *order) {
    json_t *all = json_array();
    for (uint32_t i = 0; all && i < c->n_in && i < c->top_n; i++)
        if (json_array_append_new(all, result_of(c, &order[i]))) {
            json_decref(all);
            return NULL;
        }
    return all;
}

static json_t *rerank_reply(embed *c) {
    ranked *order = mem_array(c->n_in, sizeof *order);
    if (!order) return NULL;
    for (uint32_t i = 0; i < c->n_in; i++) order[i] = (ranked){i, c->rows[(size_t)i * c->d_row]};
    qsort(order, c->n_in, sizeof *order, by_score);
    json_t *results = results_of(c, order),
           *v = results ? json_pack("{ss ss so}", "object", "list", "model", c->app->model_name, "results", results)
                        : NULL;
    mem_free(order);
    if (v) embed_put_usage(c, v);
    return v;
}

/* --- what is asked ---------------------------------------------------------------------------------------------------- */

static void read_document(embed *c, uint32_t i, const json_t *v) {
    const json_t *text = json_is_object(v) ? json_object_get(v, "text") : v;
    if (!json_is_string(text)) {
        fields_bad(&c->f, "documents", ": element %u must be a string, or an object with its text", i);
        return;
    }
    c->in[i].text = json_string_value(text);
    c->in[i].n_text = json_string_length(text);
}

static void read_documents(embed *c) {
    fields *f = &c->f;
    const json_t *v = fields_any(f, "documents");
    const size_t n = json_array_size(v);
    if (f->failed) return;
    if (!json_is_array(v)) {
        fields_bad(f, "documents", v ? "must be a list" : "is missing");
        return;
    }
    if (n == 0 || n > EMBED_MOST_INPUTS) {
        fields_bad(f, "documents", "must hold 1 to %d of them, not %zu", EMBED_MOST_INPUTS, n);
        return;
    }
    c->in = mem_array(n, sizeof *c->in);
    if (!c->in) {
        fields_no_memory(f, "the documents");
        return;
    }
    c->n_in = (uint32_t)n;
    for (uint32_t i = 0; i < c->n_in && !f->failed; i++) read_document(c, i, json_array_get(v, i));
}

static void read_query(embed *c) {
    c->query.p = "";
    if (!fields_string(&c->f, "query", &c->query.p, &c->query.n))
        fields_bad(&c->f, "query", "is missing");
    else if (!c->query.n)
        fields_bad(&c->f, "query", "is empty");
}

void openai_rerank(app *a, exchange *x) {
    if (!rf_model_n_scores(a->model)) {
        reply_fail(x, 400, "request.unsupported", "model",
                   "this model has no rank head: reranking needs one, as in bge-reranker");
        return;
    }
    embed *c = embed_open(a, x);
    if (!c) return;
    c->route = "/v1/rerank";
    c->field = "documents";
    c->pooling = RF_POOLING_RANK;
    c->reply = rerank_reply;
    c->top_n = EMBED_MOST_INPUTS;
    read_query(c);
    read_documents(c);
    fields_integer(&c->f, "top_n", 1, INT32_MAX, &c->top_n);
    fields_bool(&c->f, "return_documents", &c->documents);
    embed_run(c);
}
