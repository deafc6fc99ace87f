/* Many sequences at once through the public API: prompt and generation speed by number of sequences.
 *
 *     bench_batch MODEL THREADS N_PROMPT N_OUT SEQUENCES...       bench_batch model.gguf 2 200 64 1 8 32
 *
 * All requests of a row start together, greedy, with prompts of their own. prompt t/s: until the last first token; generation
 * t/s: from there on. */
#include "rocmforge.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 256 };

typedef struct {
    double first, last; /* seconds */
    unsigned n;
    bool failed;
} progress;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void on_event(void *user, const rf_event *ev) {
    progress *p = user;
    if (ev->kind == RF_EVENT_FAILED) p->failed = true;
    if (ev->kind != RF_EVENT_TOKEN || ev->id < 0) return;
    p->last = now();
    if (p->n++ == 0) p->first = p->last;
}

static bool row(rf_engine *g, unsigned n_seq, unsigned n_prompt, unsigned n_out, uint32_t n_vocab) {
    static int32_t tokens[8192];
    static progress p[MOST];
    rf_request *r[MOST];
    rf_error e;
    double start = now();
    for (unsigned i = 0; i < n_seq; i++) {
        p[i] = (progress){0};
        for (unsigned k = 0; k < n_prompt; k++) tokens[k] = (int32_t)((unsigned)rand() % (n_vocab - 300) + 200);
        rf_request_params q = rf_request_defaults();
        q.tokens = tokens;
        q.n_tokens = n_prompt;
        q.max_tokens = n_out;
        q.temperature = 0;
        q.ignore_eos = true;
        if (!rf_request_start(&r[i], g, &q, on_event, &p[i], &e)) return fprintf(stderr, "%s\n", e.message), false;
    }
    double first = 0, last = 0;
    bool failed = false;
    for (unsigned i = 0; i < n_seq; i++) {
        rf_request_wait(r[i]);
        rf_request_free(r[i]);
        if (p[i].first > first) first = p[i].first;
        if (p[i].last > last) last = p[i].last;
        failed = failed || p[i].failed;
    }
    printf("| %3u | %8.1f | %8.1f | %8.1f |\n", n_seq, n_seq * n_prompt / (first - start),
           n_seq * (n_out - 1) / (last - first), n_seq * n_out / (last - start));
    return !failed;
}

int main(int argc, char **argv) {
    if (argc < 6) return fprintf(stderr, "usage: bench_batch MODEL THREADS N_PROMPT N_OUT SEQUENCES...\n"), 2;
    rf_error e;
    rf_model *m = NULL;
    rf_engine *g = NULL;
    unsigned n_prompt = (unsigned)atoi(argv[3]), n_out = (unsigned)atoi(argv[4]), most = 1;
    if (n_prompt > 8192) return 2;
    for (int i = 5; i < argc; i++) most = (unsigned)atoi(argv[i]) > most ? (unsigned)atoi(argv[i]) : most;
    rf_engine_options opt = {.device = getenv("ROCMFORGE_DEVICE"),
                             .threads = (uint32_t)atoi(argv[2]),
                             .context = n_prompt + n_out + 8,
                             .parallel = most};
    bool ok = most <= MOST && rf_model_open(&m, argv[1], &e) && rf_engine_open(&g, m, &opt, &e);
    if (!ok) fprintf(stderr, "%s\n", e.message);
    if (ok) printf("| seq | pp t/s   | tg t/s   | out t/s  |\n|-|-|-|-|\n");
    for (int i = 5; ok && i < argc; i++) ok = row(g, (unsigned)atoi(argv[i]), n_prompt, n_out, rf_model_n_vocab(m));
    rf_engine_close(g);
    rf_model_close(m);
    return ok ? 0 : 1;
}
