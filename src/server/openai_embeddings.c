/* POST /v1/embeddings, and llama.cpp's /embedding: texts or ids to vectors, one for each, in whatever way the model pools. */
#include "server/embed.h"
#include "server/openai.h"
#include "server/vector.h"

#include <string.h>

/* --- the reply -------------------------------------------------------------------------------------------------------- */

static json_t *vector_of(embed *c, uint32_t i) {
    float *row = c->rows + (size_t)i * c->d_row;
    const size_t n = c->dimensions && c->dimensions < c->d_row ? (size_t)c->dimensions : c->d_row;
    if (c->norm == 2) vector_normalize(row, n);
    return c->base64 ? vector_base64(row, n) : vector_json(row, n);
}

static json_t *openai_reply(embed *c) {
    json_t *data = json_array();
    bool ok = data != NULL;
    for (uint32_t i = 0; ok && i < c->n_in; i++)
        ok = !json_array_append_new(
            data, json_pack("{ss si so}", "object", "embedding", "index", (int)i, "embedding", vector_of(c, i)));
    if (!ok) {
        json_decref(data);
        return NULL;
    }
    json_t *v = json_pack("{ss so ss}", "object", "list", "data", data, "model", c->app->model_name);
    if (v) embed_put_usage(c, v);
    return v;
}

/* llama.cpp's: a list, each vector within a list of its own. */
static json_t *llamacpp_reply(embed *c) {
    json_t *all = json_array();
    for (uint32_t i = 0; all && i < c->n_in; i++)
        if (json_array_append_new(all, json_pack("{si s[o]}", "index", (int)i, "embedding", vector_of(c, i)))) {
            json_decref(all);
            return NULL;
        }
    return all;
}

/* --- what is asked ---------------------------------------------------------------------------------------------------- */

static void read_dimensions(embed *c) {
    fields *f = &c->f;
    const uint32_t n_embd = rf_model_n_embd(c->app->model), least = c->app->least_dimensions;
    if (!fields_integer(f, "dimensions", 1, INT32_MAX, &c->dimensions) || c->dimensions == n_embd) return;
    if (!least)
        fields_bad(f, "dimensions", ": this model's vectors have %u numbers and were not trained to be cut", n_embd);
    else if (c->dimensions < least || c->dimensions > n_embd)
        fields_bad(f, "dimensions", "must be between %u and %u for this model", least, n_embd);
}

static void read_format(embed *c) {
    const char *format = "float";
    size_t n;
    fields_string(&c->f, "encoding_format", &format, &n);
    c->base64 = !strcmp(format, "base64");
    if (!c->base64 && strcmp(format, "float")) fields_bad(&c->f, "encoding_format", "must be float or base64");
}

/* A model that scores pairs has no vectors to give, unless the server was told to pool otherwise. */
static bool scores_only(app *a, exchange *x) {
    if (a->pooling != RF_POOLING_RANK) return false;
    reply_fail(x, 400, "request.unsupported", NULL,
               "this model scores documents: POST /v1/rerank, or start the server with --pooling mean, cls or last");
    return true;
}

static embed *open_call(app *a, exchange *x, const char *name) {
    embed *c = scores_only(a, x) ? NULL : embed_open(a, x);
    if (!c) return NULL;
    c->route = name;
    c->pooling = a->pooling;
    c->norm = 2;
    return c;
}

void openai_embeddings(app *a, exchange *x) {
    embed *c = open_call(a, x, "/v1/embeddings");
    if (!c) return;
    c->field = "input";
    c->reply = openai_reply;
    openai_inputs_read(&c->f, "input", EMBED_MOST_INPUTS, &c->in, &c->n_in);
    read_format(c);
    read_dimensions(c);
    embed_run(c);
}

void llamacpp_embedding(app *a, exchange *x) {
    embed *c = open_call(a, x, "/embedding");
    if (!c) return;
    c->field = json_object_get(c->f.body, "content") ? "content" : "input";
    c->reply = llamacpp_reply;
    openai_inputs_read(&c->f, c->field, EMBED_MOST_INPUTS, &c->in, &c->n_in);
    read_format(c);
    if (fields_integer(&c->f, "embd_normalize", -1, INT32_MAX, &c->norm) && c->norm != 2 && c->norm != -1)
        fields_bad(&c->f, "embd_normalize", "must be 2 (length 1) or -1 (as the model gives it)");
    embed_run(c);
}
