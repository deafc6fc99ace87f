#include "context/index.h"

#include "base/mem.h"
#include "context/hnsw.h"
#include "context/index_file.h"
#include "context/vec.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
    BATCH = 256,      /* rows read at once */
    EF_LEAST = 256,   /* candidates looked at: bench/results/context-*.csv say what it buys */
    SAVE_LEAST = 1000 /* changes worth a file, or a tenth of the graph */
};

struct vector_index {
    store *s;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake, idle;
    pthread_t thread;
    bool started, kicked, busy, failed; /* failed: told once, tried again at the next kick */
    vector_model want;
    index_mark told; /* the state of rows that a search last kicked it for */
    _Atomic bool stop;
    pthread_rwlock_t graph_lock; /* guards what follows: searches read, the thread writes */
    hnsw *graph;                 /* NULL: none */
    vector_model model;
    index_mark at;
    size_t unsaved; /* the thread's own: changes since the graph was saved */
};

/* Room for one batch of rows. The thread's own. */
typedef struct {
    int64_t ids[BATCH], messages[BATCH];
    float *data; /* [BATCH, n_embd] */
    size_t n;
} batch;

/* --- reading rows: each batch in a transaction of its own, so that the log can be written back meanwhile --------------------- */

static status read_vectors(vector_index *x, const vector_model *m, int64_t after, batch *b, err *e) {
    sql_conn *c;
    status s = store_read(x->s, &c, e);
    if (s) return s;
    s = vectors_batch(c, m, after, BATCH, b->ids, b->messages, b->data, &b->n, e);
    store_read_end(x->s, c);
    return s;
}

static status read_gone(vector_index *x, int64_t after, batch *b, err *e) {
    sql_conn *c;
    status s = store_read(x->s, &c, e);
    if (s) return s;
    s = vectors_gone(c, after, BATCH, b->ids, b->messages, &b->n, e);
    store_read_end(x->s, c);
    return s;
}

static status read_state(vector_index *x, const vector_model *m, vectors_state *now, int64_t *n, err *e) {
    sql_conn *c;
    status s = store_read(x->s, &c, e);
    if (s) return s;
    s = vectors_get_state(c, m, now, e);
    if (!s) s = vectors_count(c, m, INT64_MAX, n, e);
    store_read_end(x->s, c);
    return s;
}

/* --- building: a graph that nobody sees yet ------------------------------------------------------------------------------- */

static status add_batch(vector_index *x, hnsw *h, const vector_model *m, const batch *b, err *e) {
    status s = OK;
    for (size_t i = 0; !s && i < b->n && !atomic_load(&x->stop); i++)
        s = hnsw_add(h, (uint64_t)b->messages[i], b->data + i * m->n_embd, e);
    return s;
}

/* From every vector that there is; *at is where it stands then. Stopped: *out is NULL. */
static status build(vector_index *x, const vector_model *m, int64_t n, batch *b, hnsw **out, index_mark *at, err *e) {
    vectors_state now;
    *out = NULL;
    status s = read_state(x, m, &now, &n, e);
    hnsw *h = NULL;
    if (!s) s = hnsw_new(&h, m->n_embd, (size_t)n + (size_t)n / 4 + BATCH, vec_dot_best(), e);
    *at = (index_mark){0, now.gone_last}; /* those deleted from here on are met when it catches up */
    do {
        if (!s) s = read_vectors(x, m, at->vectors, b, e);
        if (!s) s = add_batch(x, h, m, b, e);
        if (!s && b->n) at->vectors = b->ids[b->n - 1];
    } while (!s && b->n && !atomic_load(&x->stop));
    if (!s && !atomic_load(&x->stop)) {
        *out = h;
        return OK;
    }
    hnsw_free(h);
    return s;
}

static void install(vector_index *x, hnsw *h, const vector_model *m, index_mark at) {
    pthread_rwlock_wrlock(&x->graph_lock);
    hnsw *old = x->graph;
    x->graph = h;
    x->model = *m;
    x->at = at;
    pthread_rwlock_unlock(&x->graph_lock);
    hnsw_free(old);
}

/* --- the file ----------------------------------------------------------------------------------------------------------- */
typedef struct {
    sql_conn *c;
    vector_model m;
    float *room; /* [n_embd] */
    status failed;
} row_reader;

/* The vector of a label, as rows have it; NULL: deleted since, or not to be had. */
static const float *row_of(void *user, uint64_t label) {
    row_reader *r = user;
    size_t n = 0;
    sql_query q = sql_ask(r->c, "SELECT data FROM vector WHERE message = ?1 AND model = ?2");
    sql_int(&q, 1, (int64_t)label);
    sql_int(&q, 2, r->m.id);
    const void *p = sql_row(&q) ? sql_get_blob(&q, 0, &n) : NULL;
    bool fits = p && n == r->m.n_embd * sizeof(float);
    if (fits) memcpy(r->room, p, n);
    status s = sql_end(&q, NULL);
    if (s) r->failed = s;
    return fits ? r->room : NULL;
}

/* Believed only if it knows each of the rows up to its mark: a file of rows may have been put back from a copy. */
static status load_graph(vector_index *x, const vector_model *m, int64_t up_to, const void *graph, size_t n,
                         float *room, hnsw **out, err *e) {
    row_reader r = {.m = *m, .room = room};
    int64_t n_rows = 0;
    status s = store_read(x->s, &r.c, e);
    if (s) return s;
    s = vectors_count(r.c, m, up_to, &n_rows, e);
    if (!s) s = hnsw_load(out, graph, n, m->n_embd, vec_dot_best(), row_of, &r, e);
    store_read_end(x->s, r.c);
    if (!s && r.failed) s = fail(e, r.failed, "the context store's vectors could not be read");
    if (!s && (int64_t)(hnsw_count(*out) - hnsw_deleted(*out)) != n_rows)
        s = fail(e, ERR_STORE_DAMAGED, "%s-index is not of these rows", store_path(x->s));
    if (!s) return OK;
    hnsw_free(*out);
    *out = NULL;
    return s;
}

/* The saved graph, if it is one of these rows; else *out is NULL, and where it should have been one a notice says why. */
static status load(vector_index *x, const vector_model *m, batch *b, hnsw **out, index_mark *at) {
    const char *path = store_path(x->s);
    *out = NULL;
    if (!path) return OK;
    void *bytes;
    const void *graph;
    size_t n;
    err e = {0};
    vectors_state now;
    int64_t n_vectors;
    status s = index_file_read(path, store_identity(x->s), m, at, &bytes, &graph, &n, &e);
    if (s == ERR_IO) return OK;
    if (!s) s = read_state(x, m, &now, &n_vectors, &e);
    if (!s && at->gone + 1 < now.gone_first) s = fail(&e, ERR_STORE_DAMAGED, "%s-index is too old", path);
    if (!s) s = load_graph(x, m, at->vectors, graph, n, b->data, out, &e);
    mem_free(bytes);
    if (s == ERR_NOMEM) return s;
    if (s) store_notice(x->s, "%s; the index is built again", e.text);
    return OK;
}

static void save(vector_index *x) {
    const char *path = store_path(x->s);
    err e;
    if (!path || store_is_read_only(x->s) || !x->graph || !x->unsaved) return;
    pthread_rwlock_rdlock(&x->graph_lock);
    status s = index_file_write(path, store_identity(x->s), &x->model, x->at, x->graph, &e);
    pthread_rwlock_unlock(&x->graph_lock);
    x->unsaved = 0;
    if (s) store_notice(x->s, "the index is not kept: %s", e.text);
}

/* --- keeping in step ------------------------------------------------------------------------------------------------------ */

static status catch_up_vectors(vector_index *x, const vector_model *m, batch *b, err *e) {
    status s = OK;
    do {
        s = read_vectors(x, m, x->at.vectors, b, e);
        for (size_t i = 0; !s && i < b->n && !atomic_load(&x->stop); i++) {
            pthread_rwlock_wrlock(&x->graph_lock); /* one at a time: searches wait no longer than that */
            s = hnsw_add(x->graph, (uint64_t)b->messages[i], b->data + i * m->n_embd, e);
            x->at.vectors = b->ids[i];
            x->unsaved++;
            pthread_rwlock_unlock(&x->graph_lock);
        }
    } while (!s && b->n && !atomic_load(&x->stop));
    return s;
}

static status catch_up_gone(vector_index *x, batch *b, err *e) {
    status s = OK;
    do {
        s = read_gone(x, x->at.gone, b, e);
        if (s || !b->n) return s;
        pthread_rwlock_wrlock(&x->graph_lock);
        for (size_t i = 0; i < b->n; i++) x->unsaved += hnsw_delete(x->graph, (uint64_t)b->messages[i]);
        x->at.gone = b->ids[b->n - 1];
        pthread_rwlock_unlock(&x->graph_lock);
    } while (!atomic_load(&x->stop));
    return s;
}

static bool mostly_deleted(const hnsw *h) { return hnsw_deleted(h) * 10 > hnsw_count(h) * 3; }

static status make_graph(vector_index *x, const vector_model *m, int64_t n, batch *b, bool anew, err *e) {
    hnsw *h = NULL;
    index_mark at = {0};
    status s = anew ? OK : load(x, m, b, &h, &at);
    bool loaded = h != NULL;
    if (!s && !h) s = build(x, m, n, b, &h, &at, e);
    if (h) install(x, h, m, at);
    if (h && !loaded) x->unsaved = hnsw_count(h);
    return s;
}

static status keep_step(vector_index *x, const vector_model *m, batch *b, err *e) {
    vectors_state now;
    int64_t n;
    status s = read_state(x, m, &now, &n, e);
    if (s) return s;
    if (x->graph && (x->model.id != m->id || x->at.gone + 1 < now.gone_first)) install(x, NULL, m, (index_mark){0});
    if (!x->graph && n < INDEX_SMALL) return OK;
    if (!x->graph) s = make_graph(x, m, n, b, false, e);
    if (!s && x->graph) s = catch_up_vectors(x, m, b, e);
    if (!s && x->graph) s = catch_up_gone(x, b, e);
    if (!s && x->graph && !atomic_load(&x->stop) && mostly_deleted(x->graph)) {
        s = make_graph(x, m, n, b, true, e);
        if (!s) s = catch_up_vectors(x, m, b, e);
        if (!s) s = catch_up_gone(x, b, e);
    }
    if (!s && x->graph && x->unsaved > SAVE_LEAST && x->unsaved > hnsw_count(x->graph) / 10) save(x);
    return s;
}

static status work(vector_index *x, const vector_model *m, err *e) {
    batch b = {.data = mem_array(BATCH, m->n_embd * sizeof(float))};
    status s = b.data ? keep_step(x, m, &b, e) : fail(e, ERR_NOMEM, "the context store's index");
    mem_free(b.data);
    if (s) install(x, NULL, m, (index_mark){0}); /* a graph that failed half-way is no good */
    return s;
}

/* --- the thread ----------------------------------------------------------------------------------------------------------- */

static void *index_main(void *arg) {
    vector_index *x = arg;
    pthread_mutex_lock(&x->lock);
    while (!atomic_load(&x->stop)) {
        if (!x->kicked) {
            x->busy = false;
            pthread_cond_broadcast(&x->idle);
            pthread_cond_wait(&x->wake, &x->lock);
            continue;
        }
        x->kicked = false;
        x->busy = true;
        const vector_model m = x->want;
        const bool told = x->failed;
        pthread_mutex_unlock(&x->lock);
        err e = {0};
        status s = m.id ? work(x, &m, &e) : OK;
        if (!m.id) install(x, NULL, &m, (index_mark){0});
        if (s && !told) store_notice(x->s, "the index could not be kept: %s; every vector is compared instead", e.text);
        pthread_mutex_lock(&x->lock);
        x->failed = s != OK;
    }
    x->busy = false;
    pthread_cond_broadcast(&x->idle);
    pthread_mutex_unlock(&x->lock);
    return NULL;
}

status index_open(vector_index **out, store *s, err *e) {
    vector_index *x = mem_zalloc(sizeof *x);
    *out = x;
    if (!x) return fail(e, ERR_NOMEM, "the context store's index");
    x->s = s;
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->wake, NULL);
    pthread_cond_init(&x->idle, NULL);
    pthread_rwlockattr_t a; /* else the thread would never come in between searches */
    pthread_rwlockattr_init(&a);
    pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&x->graph_lock, &a);
    pthread_rwlockattr_destroy(&a);
    return OK;
}

void index_close(vector_index *x) {
    if (!x) return;
    pthread_mutex_lock(&x->lock);
    atomic_store(&x->stop, true);
    pthread_cond_broadcast(&x->wake);
    pthread_mutex_unlock(&x->lock);
    if (x->started) pthread_join(x->thread, NULL);
    save(x);
    hnsw_free(x->graph);
    pthread_rwlock_destroy(&x->graph_lock);
    pthread_cond_destroy(&x->idle);
    pthread_cond_destroy(&x->wake);
    pthread_mutex_destroy(&x->lock);
    mem_free(x);
}

void index_kick(vector_index *x, const vector_model *m) {
    pthread_mutex_lock(&x->lock);
    if (!x->started) x->started = pthread_create(&x->thread, NULL, index_main, x) == 0; /* else: exact searches */
    x->want = *m;
    x->kicked = x->started;
    pthread_cond_signal(&x->wake);
    pthread_mutex_unlock(&x->lock);
}

void index_remove_file(store *s) {
    if (store_path(s)) index_file_remove(store_path(s));
}

void index_forget(vector_index *x) {
    index_remove_file(x->s);
    pthread_mutex_lock(&x->lock);
    bool started = x->started;
    pthread_mutex_unlock(&x->lock);
    if (started) index_kick(x, &(vector_model){0});
}

void index_settle(vector_index *x) {
    pthread_mutex_lock(&x->lock);
    while (x->started && (x->busy || x->kicked) && !atomic_load(&x->stop)) pthread_cond_wait(&x->idle, &x->lock);
    pthread_mutex_unlock(&x->lock);
}

/* --- searching ------------------------------------------------------------------------------------------------------------ */

/* More candidates where many are deleted, which take the places of living ones. */
static size_t effort(const hnsw *h, size_t k) {
    size_t ef = 2 * k > EF_LEAST ? 2 * k : EF_LEAST, alive = hnsw_count(h) - hnsw_deleted(h);
    return alive ? ef * hnsw_count(h) / alive : ef;
}

static status ask_graph(vector_index *x, const vector_model *m, const vectors_state *now, const float *v,
                        near_list *best, index_mark *at, bool *used, err *e) {
    hnsw_near *found = mem_array(best->cap, sizeof *found);
    if (!found) return fail(e, ERR_NOMEM, "search");
    size_t n = 0;
    status s = OK;
    pthread_rwlock_rdlock(&x->graph_lock);
    *used = x->graph && x->model.id == m->id && x->at.gone + 1 >= now->gone_first;
    if (*used) s = hnsw_search(x->graph, v, best->cap, effort(x->graph, best->cap), found, &n, e);
    *at = x->at;
    pthread_rwlock_unlock(&x->graph_lock);
    for (size_t i = 0; !s && i < n; i++) near_put(best, (int64_t)found[i].label, found[i].similarity);
    mem_free(found);
    return s;
}

/* There are rows that it does not know, another process's perhaps: once for each state of them. */
static void tell(vector_index *x, const vector_model *m, const vectors_state *now) {
    pthread_mutex_lock(&x->lock);
    bool known = x->told.vectors == now->last && x->told.gone == now->gone_last && x->want.id == m->id;
    x->told = (index_mark){now->last, now->gone_last};
    pthread_mutex_unlock(&x->lock);
    if (!known) index_kick(x, m);
}

status index_search(vector_index *x, sql_conn *c, const vector_model *m, const float *v, near_list *best, bool *used,
                    err *e) {
    vectors_state now;
    index_mark at = {0};
    *used = false;
    status s = vectors_get_state(c, m, &now, e);
    if (!s) s = ask_graph(x, m, &now, v, best, &at, used, e);
    if (s || (*used && at.vectors >= now.last && at.gone >= now.gone_last)) return s;
    tell(x, m, &now);
    return *used && at.vectors < now.last ? vectors_scan(c, m, at.vectors, NULL, v, best, e) : OK;
}

void index_get_status(vector_index *x, int64_t n_vectors, index_status *out) {
    pthread_rwlock_rdlock(&x->graph_lock);
    out->n_indexed = x->graph ? (int64_t)hnsw_count(x->graph) : 0;
    out->n_deleted = x->graph ? (int64_t)hnsw_deleted(x->graph) : 0;
    const bool ready = x->graph != NULL;
    pthread_rwlock_unlock(&x->graph_lock);
    out->state = ready ? "ready" : n_vectors == 0 ? "none" : n_vectors < INDEX_SMALL ? "small" : "building";
}
