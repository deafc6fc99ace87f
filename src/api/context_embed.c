/* Embeddings for the context store, by the engine that was handed in: one request a text, several at once. */
#include "api/context.h"

#include "base/mem.h"
#include "context/vec.h"

#include <stdio.h>
#include <string.h>

enum { AT_ONCE = 32, FORM = 1 /* to be raised when how texts become vectors changes */ };

status context_check_engine(const rf_engine *g, err *e) {
    const rf_model *m = api_engine_model(g);
    if (rf_model_pooling(m) == RF_POOLING_RANK)
        return fail(e, ERR_UNSUPPORTED, "this model scores pairs of texts; the context store wants one that embeds");
    if (rf_model_n_embd(m) > VEC_MOST)
        return fail(e, ERR_UNSUPPORTED, "embeddings of %u floats; the context store takes up to %d", rf_model_n_embd(m),
                    VEC_MOST);
    return OK;
}

static void identify(rf_context *c) {
    uint64_t file[2];
    uint32_t tail[2] = {(uint32_t)rf_model_pooling(c->model), FORM};
    _Static_assert(sizeof file + sizeof tail == VECTOR_IDENTITY, "an identity is these");
    pthread_mutex_lock(&c->lock);
    if (!c->has_identity) {
        api_model_identity(file, c->model);
        memcpy(c->identity, file, sizeof file);
        memcpy(c->identity + sizeof file, tail, sizeof tail);
        c->has_identity = true;
    }
    pthread_mutex_unlock(&c->lock);
}

status context_model(rf_context *c, sql_conn *conn, bool make, vector_model *out, err *e) {
    if (!c->engine) return vectors_newest_model(conn, out, e);
    identify(c);
    return vectors_model(conn, c->identity, c->n_embd, make, out, e);
}

/* --- one text --------------------------------------------------------------------------------------------------------- */
typedef struct {
    rf_request *request;
    int32_t *ids;
    float *row; /* [n_embd] */
    uint32_t n_embd;
    bool came;
    rf_error error; /* code empty: none */
} job;

static void on_event(void *user, const rf_event *ev) {
    job *j = user;
    if (ev->kind == RF_EVENT_FAILED) j->error = *ev->error;
    if (ev->kind == RF_EVENT_EMBEDDING && ev->n_embd == j->n_embd) j->came = vec_normalise(j->row, ev->row, ev->n_embd);
}

/* The first ids that fit, and what ends every text of this model ([SEP], EOS), where something does. */
static bool cut(const rf_context *c, int32_t *ids, size_t *n, rf_error *e) {
    const size_t most = rf_engine_context(c->engine);
    int32_t *added;
    size_t n_added;
    if (!c->cut_long || *n <= most) return true;
    if (!rf_tokenize(c->model, "", 0, 0, &added, &n_added, e)) return false;
    if (n_added && added[n_added - 1] == ids[*n - 1]) ids[most - 1] = ids[*n - 1];
    rf_free(added);
    *n = most;
    return true;
}

static bool start_job(rf_context *c, job *j, str text, float *row, rf_error *e) {
    *j = (job){.row = row, .n_embd = c->n_embd};
    size_t n = 0;
    if (!rf_tokenize(c->model, text.p, text.n, RF_NO_PARSE_SPECIAL, &j->ids, &n, e) || !cut(c, j->ids, &n, e))
        return false;
    rf_request_params p = rf_request_defaults();
    p.tokens = j->ids;
    p.n_tokens = n;
    p.embedding = true;
    return rf_request_start(&j->request, c->engine, &p, on_event, j, e);
}

/* Its row, or why not, into *e unless that tells of an earlier one. */
static bool end_job(job *j, bool ok_so_far, rf_error *e) {
    if (j->request) rf_request_wait(j->request);
    bool ok = j->request && j->came;
    rf_request_free(j->request);
    rf_free(j->ids);
    if (ok || !ok_so_far) return ok;
    err why;
    if (*j->error.code && e) *e = j->error;
    if (!*j->error.code)
        (void)api_result(fail(&why, ERR_NUMBERS, "the model's embedding is zero or not finite"), &why, e);
    return false;
}

bool context_embed_texts(rf_context *c, const str *texts, size_t n, float **out, rf_error *e) {
    *out = NULL;
    if (!c->engine || n == 0) return true;
    err why;
    float *rows = mem_array(n, (size_t)c->n_embd * sizeof *rows);
    if (!rows) return api_result(fail(&why, ERR_NOMEM, "%zu embeddings", n), &why, e);
    bool ok = true;
    for (size_t at = 0; ok && at < n; at += AT_ONCE) {
        job jobs[AT_ONCE] = {0};
        size_t n_jobs = n - at < AT_ONCE ? n - at : AT_ONCE, n_started = 0;
        while (ok && n_started < n_jobs) {
            size_t i = n_started++;
            ok = start_job(c, &jobs[i], texts[at + i], rows + (at + i) * c->n_embd, e);
            if (!ok) rf_free(jobs[i].ids), jobs[i].ids = NULL;
            if (!ok) n_started--;
        }
        for (size_t i = 0; i < n_started; i++) ok = end_job(&jobs[i], ok, e) && ok;
    }
    if (ok)
        *out = rows;
    else
        mem_free(rows);
    return ok;
}
