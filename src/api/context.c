/* The public context store: arguments checked, texts embedded, rows in one transaction, the index told. */
#include "api/context.h"

#include "base/mem.h"
#include "context/vec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LIST_DEFAULT = 100, LIST_MOST = 10000, K_DEFAULT = 5, ADD_MOST = 1 << 20 };

/* What crosses the seam lies in memory as the room below has it. */
#define SAME(a, b, field) (offsetof(a, field) == offsetof(b, field))
_Static_assert(sizeof(rf_message) == sizeof(context_message) && SAME(rf_message, context_message, text) &&
                   SAME(rf_message, context_message, metadata) && SAME(rf_message, context_message, n_edges) &&
                   sizeof(rf_context_edge) == sizeof(context_edge) && SAME(rf_context_edge, context_edge, to),
               "messages are passed through");
_Static_assert(sizeof(rf_messages) == sizeof(message_list) && SAME(rf_messages, message_list, more) &&
                   SAME(rf_messages, message_list, total),
               "lists are passed through");
_Static_assert(sizeof(rf_context_filter) == sizeof(rows_filter) && SAME(rf_context_filter, rows_filter, until_us) &&
                   SAME(rf_context_filter, rows_filter, newest_first),
               "filters are passed through");
_Static_assert((int)RF_CONTEXT_VECTOR == (int)SEARCH_VECTOR && (int)RF_CONTEXT_HYBRID == (int)SEARCH_HYBRID &&
                   (int)RF_FOUND_EDGE == (int)FOUND_EDGE,
               "modes are passed through");

int64_t context_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* --- open, close ------------------------------------------------------------------------------------------------------ */

/* An index of an earlier time is loaded, or a missing one built, before anyone searches. */
static status wake_index(rf_context *c, err *e) {
    sql_conn *conn;
    vector_model m;
    status s = store_read(c->store, &conn, e);
    if (s) return s;
    s = context_model(c, conn, false, &m, e);
    store_read_end(c->store, conn);
    if (!s && m.id) index_kick(c->index, &m);
    return s;
}

bool rf_context_open(rf_context **out, const char *path, const rf_context_options *opt, rf_error *e) {
    static const rf_context_options defaults;
    if (!opt) opt = &defaults;
    *out = NULL;
    err why = {0};
    rf_context *c = mem_zalloc(sizeof *c);
    if (!c) return api_result(fail(&why, ERR_NOMEM, "context store"), &why, e);
    pthread_mutex_init(&c->lock, NULL);
    c->engine = opt->engine;
    c->cut_long = opt->cut_long;
    c->model = opt->engine ? api_engine_model(opt->engine) : NULL;
    c->n_embd = c->model ? rf_model_n_embd(c->model) : 0;
    const store_options o = {opt->read_only, opt->busy_ms, opt->notice, opt->user};
    status s = opt->engine ? context_check_engine(opt->engine, &why) : OK;
    if (!s) s = store_open(&c->store, path, &o, &why);
    if (!s && !opt->no_index) s = index_open(&c->index, c->store, &why);
    if (!s && !opt->no_index) s = wake_index(c, &why);
    if (s)
        rf_context_close(c);
    else
        *out = c;
    return api_result(s, &why, e);
}

void rf_context_close(rf_context *c) {
    if (!c) return;
    index_close(c->index);
    store_close(c->store);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

char *rf_context_default_path(void) {
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    bool own = data && *data == '/'; /* others are to be ignored (XDG Base Directory Specification) */
    if (!own && !(home && *home)) return NULL;
    strbuf b = {0};
    strbuf_puts(&b, own ? data : home);
    strbuf_puts(&b, own ? "/rocmforge/context.db" : "/.local/share/rocmforge/context.db");
    if (b.failed) strbuf_free(&b);
    return b.p;
}

void rf_messages_free(rf_messages *m) { message_list_free((message_list *)(void *)m); }

void context_kick(rf_context *c, const vector_model *m) {
    if (c->index && m->id) index_kick(c->index, m);
}

/* --- adding ----------------------------------------------------------------------------------------------------------- */

status context_put(rf_context *c, sql_conn *conn, const context_message *m, size_t n, const float *vectors,
                   int64_t *ids, err *e) {
    vector_model model = {0};
    status s = vectors ? context_model(c, conn, true, &model, e) : OK;
    for (size_t i = 0; !s && i < n; i++) {
        s = rows_add(conn, &m[i], &ids[i], e);
        if (!s && vectors) s = vectors_add(conn, &model, ids[i], vectors + i * c->n_embd, e);
        if (s && n > 1) s = fail_in(e, s, "message %zu: ", i + 1);
    }
    return s;
}

/* Copies of what is to be added, checked and filled in. */
typedef struct {
    context_message *m; /* [n] */
    strbuf *metadata;   /* [n] */
    str *texts;         /* [n] */
    int64_t *ids;       /* [n] */
    size_t n;
} batch;

static void batch_close(batch *b) {
    for (size_t i = 0; b->metadata && i < b->n; i++) strbuf_free(&b->metadata[i]);
    mem_free(b->metadata);
    mem_free(b->m);
    mem_free(b->texts);
    mem_free(b->ids);
}

static status batch_open(batch *b, const rf_message *m, size_t n, err *e) {
    *b = (batch){.n = n};
    if (n > ADD_MOST) return fail(e, ERR_RANGE, "%zu messages at once; at most %d", n, ADD_MOST);
    b->m = mem_array(n, sizeof *b->m);
    b->metadata = mem_array(n, sizeof *b->metadata);
    b->texts = mem_array(n, sizeof *b->texts);
    b->ids = mem_array(n, sizeof *b->ids);
    if (!b->m || !b->metadata || !b->texts || !b->ids) return fail(e, ERR_NOMEM, "%zu messages", n);
    status s = OK;
    const int64_t now = context_now_us();
    for (size_t i = 0; !s && i < n; i++) {
        memcpy(&b->m[i], &m[i], sizeof *b->m);
        if (!b->m[i].time_us) b->m[i].time_us = now;
        s = message_check(&b->m[i], &b->metadata[i], e);
        if (s && n > 1) s = fail_in(e, s, "message %zu: ", i + 1);
        b->texts[i] = (str){m[i].text, m[i].n_text};
    }
    return s;
}

static status put_batch(rf_context *c, const batch *b, const float *vectors, err *e) {
    sql_conn *conn;
    vector_model m = {0};
    status s = store_write(c->store, &conn, e);
    if (s) return s;
    s = context_put(c, conn, b->m, b->n, vectors, b->ids, e);
    if (!s && vectors) s = context_model(c, conn, false, &m, e);
    s = store_commit(c->store, conn, s, e);
    if (!s) context_kick(c, &m);
    return s;
}

bool rf_context_add(rf_context *c, const rf_message *m, size_t n, int64_t *ids, rf_error *e) {
    batch b;
    err why = {0};
    float *vectors = NULL;
    status s = batch_open(&b, m, n, &why);
    bool ok = api_result(s, &why, e) && context_embed_texts(c, b.texts, n, &vectors, e);
    if (ok) ok = api_result(put_batch(c, &b, vectors, &why), &why, e);
    if (ok && ids && n) memcpy(ids, b.ids, n * sizeof *ids);
    mem_free(vectors);
    batch_close(&b);
    return ok;
}

bool rf_context_embed(rf_context *c, size_t most, size_t *n_done, rf_error *e) {
    err why = {0};
    *n_done = 0;
    if (!c->engine) return api_result(fail(&why, ERR_USAGE, "the context store has no model to embed with"), &why, e);
    message_list *l = message_list_new();
    sql_conn *conn;
    vector_model m = {0};
    status s = l ? store_read(c->store, &conn, &why) : fail(&why, ERR_NOMEM, "messages");
    if (!s) {
        s = context_model(c, conn, false, &m, &why);
        if (!s) s = vectors_missing(conn, &m, most, l, &why);
        store_read_end(c->store, conn);
    }
    str *texts = s ? NULL : mem_array(l->n, sizeof *texts);
    if (!s && !texts) s = fail(&why, ERR_NOMEM, "messages");
    for (size_t i = 0; !s && i < l->n; i++) texts[i] = (str){l->item[i].text, l->item[i].n_text};
    float *vectors = NULL;
    bool ok = api_result(s, &why, e) && context_embed_texts(c, texts, l->n, &vectors, e);
    if (ok && l->n) s = store_write(c->store, &conn, &why);
    if (ok && l->n && !s) {
        s = context_model(c, conn, true, &m, &why);
        for (size_t i = 0; !s && i < l->n; i++)
            s = vectors_add_if(conn, &m, l->item[i].id, vectors + i * c->n_embd, &why);
        s = store_commit(c->store, conn, s, &why);
        if (!s) context_kick(c, &m);
    }
    if (ok) ok = api_result(s, &why, e);
    if (ok) *n_done = l->n;
    mem_free(vectors);
    mem_free(texts);
    message_list_free(l);
    return ok;
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */

static status check_filter(const rows_filter *f, err *e) {
    if (f->conversation && !message_is_name(f->conversation, MESSAGE_CONVERSATION_MOST))
        return fail(e, ERR_RANGE, "conversation: give 1 to %d of A-Z a-z 0-9 . _ -", MESSAGE_CONVERSATION_MOST);
    if (f->role && !message_is_name(f->role, MESSAGE_NAME_MOST))
        return fail(e, ERR_RANGE, "role: give 1 to %d of A-Z a-z 0-9 . _ -", MESSAGE_NAME_MOST);
    if (f->from_us < 0 || f->until_us < 0 || f->after < 0) return fail(e, ERR_RANGE, "times and ids are not negative");
    return f->limit <= LIST_MOST ? OK : fail(e, ERR_RANGE, "limit %u: give 1 to %d", f->limit, LIST_MOST);
}

bool rf_context_get(rf_context *c, const int64_t *ids, size_t n, rf_messages **out, rf_error *e) {
    err why = {0};
    *out = NULL;
    message_list *l = message_list_new();
    sql_conn *conn;
    status s = l ? store_read(c->store, &conn, &why) : fail(&why, ERR_NOMEM, "messages");
    if (!s) {
        for (size_t i = 0; !s && i < n; i++) s = rows_get(conn, ids[i], l, &why);
        store_read_end(c->store, conn);
    }
    if (s) {
        message_list_free(l);
        return api_result(s, &why, e);
    }
    l->total = (int64_t)l->n;
    *out = (rf_messages *)(void *)l;
    return true;
}

bool rf_context_list(rf_context *c, const rf_context_filter *f, rf_messages **out, rf_error *e) {
    err why = {0};
    rows_filter filter = {0};
    *out = NULL;
    if (f) memcpy(&filter, f, sizeof filter);
    if (!filter.limit) filter.limit = LIST_DEFAULT;
    message_list *l = message_list_new();
    sql_conn *conn;
    status s = l ? check_filter(&filter, &why) : fail(&why, ERR_NOMEM, "messages");
    if (!s) s = store_read(c->store, &conn, &why);
    if (!s) {
        s = rows_list(conn, &filter, l, &why);
        store_read_end(c->store, conn);
    }
    if (s)
        message_list_free(l);
    else
        *out = (rf_messages *)(void *)l;
    return api_result(s, &why, e);
}

/* --- deleting --------------------------------------------------------------------------------------------------------- */

bool rf_context_delete(rf_context *c, const int64_t *ids, size_t n, size_t *n_deleted, rf_error *e) {
    err why = {0};
    sql_conn *conn;
    size_t n_gone = 0;
    vector_model m = {0};
    if (n_deleted) *n_deleted = 0;
    status s = store_write(c->store, &conn, &why);
    if (s) return api_result(s, &why, e);
    for (size_t i = 0; !s && i < n; i++) {
        bool existed;
        s = rows_delete(conn, ids[i], &existed, &why);
        n_gone += !s && existed;
    }
    if (!s) s = context_model(c, conn, false, &m, &why);
    s = store_commit(c->store, conn, s, &why);
    if (!s) context_kick(c, &m);
    if (!s && n_deleted) *n_deleted = n_gone;
    return api_result(s, &why, e);
}

bool rf_context_clear(rf_context *c, const char *conversation, size_t *n_deleted, rf_error *e) {
    err why = {0};
    sql_conn *conn;
    int64_t n = 0;
    vector_model m = {0};
    if (n_deleted) *n_deleted = 0;
    status s = check_filter(&(rows_filter){.conversation = conversation}, &why);
    if (!s) s = store_write(c->store, &conn, &why);
    if (s) return api_result(s, &why, e);
    s = rows_clear(conn, conversation, &n, &why);
    if (!s) s = context_model(c, conn, false, &m, &why);
    s = store_commit(c->store, conn, s, &why);
    if (!s && n_deleted) *n_deleted = (size_t)n;
    if (!s && !conversation && c->index) index_forget(c->index);
    if (!s && !conversation && !c->index) index_remove_file(c->store);
    if (!s && conversation) context_kick(c, &m);
    if (!s) s = store_wipe(c->store, !conversation, &why);
    return api_result(s, &why, e);
}

/* --- searching -------------------------------------------------------------------------------------------------------- */

static status check_query(const rf_context *c, const rf_context_query *q, search_query *to, err *e) {
    const bool text = q->text && q->n_text, vector = q->vector && q->n_vector;
    *to = (search_query){.text = {q->text, q->n_text},
                         .k = q->k ? q->k : K_DEFAULT,
                         .expand = q->expand,
                         .index = c->index,
                         .filter = {q->conversation, q->role, q->from_us, q->until_us, 0, 0, false}};
    if (text == vector) return fail(e, ERR_USAGE, "search: give a text or a vector");
    if (q->n_text > MESSAGE_TEXT_MOST || (text && (memchr(q->text, 0, q->n_text) || !str_is_utf8(to->text))))
        return fail(e, ERR_RANGE, "search: the text is not UTF-8 of at most %d bytes", MESSAGE_TEXT_MOST);
    if (to->k > SEARCH_MOST) return fail(e, ERR_RANGE, "k %u: give 1 to %d", to->k, SEARCH_MOST);
    if (q->expand > SEARCH_MOST_STEPS)
        return fail(e, ERR_RANGE, "expand %u: give 0 to %d", q->expand, SEARCH_MOST_STEPS);
    if ((unsigned)q->mode > RF_CONTEXT_HYBRID) return fail(e, ERR_RANGE, "mode %d is none", (int)q->mode);
    to->mode = q->mode ? (search_mode)q->mode : vector ? SEARCH_VECTOR : (c->engine ? SEARCH_HYBRID : SEARCH_WORDS);
    if (vector && to->mode != SEARCH_VECTOR) return fail(e, ERR_USAGE, "search: a vector holds no words");
    if (text && to->mode != SEARCH_WORDS && !c->engine)
        return fail(e, ERR_USAGE, "search: by meaning it needs a model that embeds; without one it is by words");
    return check_filter(&to->filter, e);
}

/* The query's vector, of length 1; *own is mem_free's. NULL for words without an engine. */
static bool make_vector(rf_context *c, const rf_context_query *q, search_query *to, float **own, rf_error *e) {
    err why;
    *own = NULL;
    if (!q->vector) {
        bool ok = context_embed_texts(c, &to->text, 1, own, e);
        to->vector = *own;
        return ok;
    }
    status s = q->n_vector <= VEC_MOST ? OK : fail(&why, ERR_RANGE, "search: a vector of %zu floats", q->n_vector);
    if (!s && !(*own = mem_array(q->n_vector, sizeof **own))) s = fail(&why, ERR_NOMEM, "search");
    if (!s && !vec_normalise(*own, q->vector, q->n_vector))
        s = fail(&why, ERR_RANGE, "search: the vector is zero or not finite");
    to->vector = *own;
    return api_result(s, &why, e);
}

static status give_hits(sql_conn *conn, const search_hits *found, rf_context_hits *out, err *e) {
    message_list *l = message_list_new();
    out->messages = (rf_messages *)(void *)l;
    out->hit = mem_array(found->n, sizeof *out->hit);
    if (!l || !out->hit) return fail(e, ERR_NOMEM, "search");
    status s = OK;
    for (size_t i = 0; !s && i < found->n; i++) {
        const search_hit *h = &found->hit[i];
        s = rows_get(conn, h->id, l, e);
        out->hit[i] = (rf_context_hit){.similarity = h->similarity,
                                       .score = h->score,
                                       .found_by = h->found_by,
                                       .near_id = h->near_id,
                                       .steps = h->steps};
    }
    if (!s && l->n != found->n) s = fail(e, ERR_STORE_DAMAGED, "%s: a message found is not there", conn->path);
    for (size_t i = 0; !s && i < l->n; i++) out->hit[i].message = &out->messages->item[i];
    out->n = s ? 0 : l->n;
    l->total = (int64_t)l->n;
    return s;
}

static status search_now(rf_context *c, const rf_context_query *q, search_query *sq, rf_context_hits *out, err *e) {
    sql_conn *conn;
    search_hits found = {0};
    status s = store_read(c->store, &conn, e);
    if (s) return s;
    s = context_model(c, conn, false, &sq->model, e);
    if (!s && q->vector && sq->model.id && q->n_vector != sq->model.n_embd)
        s = fail(e, ERR_RANGE, "search: a vector of %zu floats; those of the store have %u", q->n_vector,
                 sq->model.n_embd);
    if (!s) s = search_rows(conn, sq, &found, e);
    if (!s) s = give_hits(conn, &found, out, e);
    if (!s) {
        sql_query n = sql_ask(conn, "SELECT count(*) FROM message");
        s = sql_number(&n, 0, &out->total_messages, e);
    }
    store_read_end(c->store, conn);
    out->mode = (rf_context_mode)sq->mode;
    out->exact = found.exact;
    search_close(&found);
    return s;
}

bool rf_context_search(rf_context *c, const rf_context_query *q, rf_context_hits **out, rf_error *e) {
    err why = {0};
    search_query sq;
    float *own = NULL;
    *out = NULL;
    status s = check_query(c, q, &sq, &why);
    bool ok = api_result(s, &why, e) && make_vector(c, q, &sq, &own, e);
    rf_context_hits *h = ok ? mem_zalloc(sizeof *h) : NULL;
    if (ok) {
        s = h ? search_now(c, q, &sq, h, &why) : fail(&why, ERR_NOMEM, "search");
        ok = api_result(s, &why, e);
    }
    mem_free(own);
    if (ok)
        *out = h;
    else
        rf_context_hits_free(h);
    return ok;
}

void rf_context_hits_free(rf_context_hits *h) {
    if (!h) return;
    rf_messages_free(h->messages);
    mem_free(h->hit);
    mem_free(h);
}

/* --- stats ------------------------------------------------------------------------------------------------------------ */

static status count_vectors(rf_context *c, sql_conn *conn, rf_context_counts *out, err *e) {
    vector_model m;
    int64_t all = 0;
    status s = context_model(c, conn, false, &m, e);
    if (!s) s = vectors_count(conn, &m, INT64_MAX, &out->n_vectors, e);
    sql_query q = sql_ask(conn, "SELECT count(*) FROM vector");
    status s2 = sql_number(&q, 0, &all, s ? NULL : e);
    out->n_others = all - out->n_vectors;
    out->n_embd = m.id ? m.n_embd : 0;
    return s ? s : s2;
}

bool rf_context_stats(rf_context *c, rf_context_counts *out, rf_error *e) {
    err why = {0};
    sql_conn *conn;
    rows_counts n = {0};
    *out = (rf_context_counts){.index = "none", .file_bytes = store_bytes(c->store)};
    status s = store_read(c->store, &conn, &why);
    if (s) return api_result(s, &why, e);
    s = rows_count(conn, &n, &why);
    if (!s) s = count_vectors(c, conn, out, &why);
    store_read_end(c->store, conn);
    out->n_messages = n.messages;
    out->n_conversations = n.conversations;
    out->n_edges = n.edges;
    out->n_unembedded = c->engine ? n.messages - out->n_vectors : 0;
    if (!s && c->index) {
        index_status i;
        index_get_status(c->index, out->n_vectors, &i);
        out->index = i.state;
        out->n_indexed = i.n_indexed;
        out->n_index_deleted = i.n_deleted;
    }
    return api_result(s, &why, e);
}

void rf_context_settle(rf_context *c) {
    if (c->index) index_settle(c->index);
}
