/* The context store's vectors: recall, search and insert speed.  bench_context FOLDER [n] [gauss] [vectors.f32 queries.f32]
 *
 * n vectors (100000) of 384 dimensions: a Gaussian of 32 through a random map, plus noise of a tenth of its size; with "gauss"
 * a pure Gaussian of 384, which has no neighbours worth the name. 1000 queries of the same kind. One CSV line each:
 * what, value, unit. Times are CPU time of the one thread at work, so that other programs do not count; wall beside it for
 * searches. Given two names, the data is written there for bench/context_peer.py. */
#include "base/mem.h"
#include "base/rng.h"
#include "context/search.h"
#include "context/vec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { D = 384, LATENT = 32, QUERIES = 1000, K = 10, AT_ONCE = 1000 };

typedef struct {
    size_t n;
    float *v, *q;     /* [n, D], [QUERIES, D] */
    int64_t *message; /* [n] ids */
    bool *alive;      /* [n] */
    store *s;
    vector_index *x;
    vector_model m;
} bench;

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void stop(const char *what, const err *e) {
    fprintf(stderr, "%s: %s\n", what, e->text);
    exit(1);
}

/* Box and Muller, of two numbers that belong to this position. */
static double gauss(uint64_t seed, uint64_t at) {
    double u = rng_unit(seed, 2 * at), v = rng_unit(seed, 2 * at + 1);
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

static void make_vectors(float *out, size_t n, uint64_t seed, bool pure) {
    static float map[D][LATENT];
    for (size_t i = 0; i < (size_t)D * LATENT; i++) map[i / LATENT][i % LATENT] = (float)gauss(7, i);
    for (size_t i = 0; i < n; i++) {
        float z[LATENT];
        for (size_t j = 0; j < LATENT; j++) z[j] = (float)gauss(seed, i * (LATENT + D) + j);
        for (size_t d = 0; d < D; d++) {
            double noise = gauss(seed, i * (LATENT + D) + LATENT + d), sum = 0;
            for (size_t j = 0; j < LATENT; j++) sum += (double)(map[d][j] * z[j]);
            out[i * D + d] = (float)(pure ? noise : sum / sqrt(LATENT) + 0.1 * noise);
        }
        if (!vec_normalise(out + i * D, out + i * D, D)) exit(1);
    }
}

static void write_floats(const char *path, const float *p, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, sizeof *p, n, f) != n || fclose(f)) exit(1);
}

static void insert(bench *b, size_t from, size_t to) {
    err e;
    sql_conn *c;
    status s = store_write(b->s, &c, &e);
    const uint8_t identity[VECTOR_IDENTITY] = {1};
    if (s) stop("insert", &e);
    s = vectors_model(c, identity, D, true, &b->m, &e);
    for (size_t i = from; !s && i < to; i++) {
        char text[48];
        int n = snprintf(text, sizeof text, "message %zu of the bench", i);
        context_message m = {
            .text = text, .n_text = (size_t)n, .time_us = 1, .role = "user", .conversation = "bench", .metadata = "{}"};
        s = rows_add(c, &m, &b->message[i], &e);
        if (!s) s = vectors_add(c, &b->m, b->message[i], b->v + i * D, &e);
        b->alive[i] = true;
    }
    s = store_commit(b->s, c, s, &e);
    if (s) stop("insert", &e);
}

static void report(const char *what, double value, const char *unit) {
    printf("%s,%.6g,%s\n", what, value, unit);
    fflush(stdout);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The true neighbours, from the vectors in memory. */
static void truth(const bench *b, const float *q, int64_t *ids) {
    near_list best;
    if (!near_open(&best, K)) exit(1);
    vec_dot_fn dot = vec_dot_best();
    for (size_t i = 0; i < b->n; i++)
        if (b->alive[i]) near_put(&best, b->message[i], dot(q, b->v + i * D, D));
    for (size_t i = 0; i < K; i++) ids[i] = best.item[i].id;
    near_close(&best);
}

/* Searches as rf_context_search makes them, vectors alone; index NULL: exact. */
static void measure(bench *b, const char *name, vector_index *x, size_t n_queries) {
    static double cpu[QUERIES], wall[QUERIES];
    size_t found = 0, exact = 0;
    char what[96];
    for (size_t i = 0; i < n_queries; i++) {
        err e;
        sql_conn *c;
        int64_t ids[K];
        search_hits hits;
        search_query q = {.mode = SEARCH_VECTOR, .vector = b->q + i * D, .model = b->m, .k = K, .index = x};
        double w = seconds(CLOCK_MONOTONIC), t = seconds(CLOCK_THREAD_CPUTIME_ID);
        if (store_read(b->s, &c, &e)) stop("search", &e);
        if (search_rows(c, &q, &hits, &e)) stop("search", &e);
        store_read_end(b->s, c);
        cpu[i] = (seconds(CLOCK_THREAD_CPUTIME_ID) - t) * 1e3;
        wall[i] = (seconds(CLOCK_MONOTONIC) - w) * 1e3;
        truth(b, q.vector, ids);
        for (size_t k = 0; k < hits.n; k++)
            for (size_t j = 0; j < K; j++) found += hits.hit[k].id == ids[j];
        exact += hits.exact;
        search_close(&hits);
    }
    qsort(cpu, n_queries, sizeof *cpu, ascending);
    qsort(wall, n_queries, sizeof *wall, ascending);
    snprintf(what, sizeof what, "%s recall@10", name), report(what, (double)found / (double)(n_queries * K), "");
    snprintf(what, sizeof what, "%s exact", name), report(what, (double)exact / (double)n_queries, "of searches");
    snprintf(what, sizeof what, "%s p50 cpu", name), report(what, cpu[n_queries / 2], "ms");
    snprintf(what, sizeof what, "%s p95 cpu", name), report(what, cpu[n_queries * 95 / 100], "ms");
    snprintf(what, sizeof what, "%s p95 wall", name), report(what, wall[n_queries * 95 / 100], "ms");
}

static void settle(bench *b, const char *what, double n) {
    double t = seconds(CLOCK_PROCESS_CPUTIME_ID);
    index_kick(b->x, &b->m);
    index_settle(b->x);
    t = seconds(CLOCK_PROCESS_CPUTIME_ID) - t;
    report(what, n / t, "vectors/s on one core");
}

static void delete_half(bench *b) {
    err e;
    sql_conn *c;
    if (store_write(b->s, &c, &e)) stop("delete", &e);
    status s = OK;
    for (size_t i = 0; !s && i < b->n; i += 2) {
        bool existed;
        s = rows_delete(c, b->message[i], &existed, &e);
        b->alive[i] = false;
    }
    if (store_commit(b->s, c, s, &e)) stop("delete", &e);
}

static void run(bench *b) {
    err e;
    size_t built = b->n / 10 * 9;
    double t = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < built; i += AT_ONCE) insert(b, i, i + AT_ONCE < built ? i + AT_ONCE : built);
    report("rows, a thousand a commit", (double)built / (seconds(CLOCK_PROCESS_CPUTIME_ID) - t), "rows/s on one core");
    settle(b, "index build", (double)built);
    insert(b, built, b->n);
    settle(b, "index insert into the standing graph", (double)(b->n - built));
    index_status is;
    index_get_status(b->x, (int64_t)b->n, &is);
    if (strcmp(is.state, "ready")) exit(1);
    measure(b, "index", b->x, QUERIES);
    measure(b, "exact", NULL, 50);
    index_close(b->x);
    if (index_open(&b->x, b->s, &e)) stop("index", &e);
    settle(b, "index load from its file", (double)b->n);
    measure(b, "loaded", b->x, 200);
    delete_half(b);
    measure(b, "half deleted, before the rebuild", b->x, 200);
    settle(b, "rebuild", (double)b->n / 2);
    index_get_status(b->x, (int64_t)b->n / 2, &is);
    report("deleted nodes left", (double)is.n_deleted, "");
    measure(b, "half deleted", b->x, QUERIES);
    t = seconds(CLOCK_MONOTONIC);
    for (size_t i = 0; i < 200; i++) insert(b, b->n + i, b->n + i + 1);
    report("rows, one a commit", 200 / (seconds(CLOCK_MONOTONIC) - t), "rows/s wall, each on the disk");
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    char path[4096], index[4200];
    err e = {0};
    bench b = {.n = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000};
    bool pure = argc > 3 && !strcmp(argv[3], "gauss");
    snprintf(path, sizeof path, "%s/bench-context.db", argv[1]);
    snprintf(index, sizeof index, "%s-index", path);
    unlink(path), unlink(index);
    b.v = mem_array(b.n + 1000, D * sizeof(float));
    b.q = mem_array(QUERIES, D * sizeof(float));
    b.message = mem_array(b.n + 1000, sizeof *b.message);
    b.alive = mem_array(b.n + 1000, 1);
    if (!b.v || !b.q || !b.message || !b.alive) return 1;
    make_vectors(b.v, b.n + 1000, 1, pure);
    make_vectors(b.q, QUERIES, 2, pure);
    if (argc > 5) write_floats(argv[4], b.v, b.n * D), write_floats(argv[5], b.q, (size_t)QUERIES * D);
    if (store_open(&b.s, path, NULL, &e) || index_open(&b.x, b.s, &e)) stop(path, &e);
    printf("what,value,unit\n");
    report("vectors", (double)b.n, "");
    run(&b);
    index_close(b.x);
    store_close(b.s);
    return 0;
}
