/* Batched decoding without a server: n requests at once through the library, tokens a second of all together.
 *
 *     bench_batch MODEL [sequences 32] [prompt tokens 200] [tokens to generate 64] [parallel = sequences] [temperature 0]
 *
 * Prompts are random and share nothing. Prints one line: rates of prompts and generation, and of steps. */
#include "rocmforge.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 1024, MOST_PROMPT = 8192 };

typedef struct {
    double first, last; /* seconds */
} times;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void on_event(void *user, const rf_event *ev) {
    times *t = user;
    if (ev->kind == RF_EVENT_TOKEN && t->first == 0) t->first = now();
    if (ev->kind == RF_EVENT_FINISHED) t->last = now();
    if (ev->kind == RF_EVENT_FAILED) fprintf(stderr, "%s\n", ev->error->message);
}

static long number(int argc, char **argv, int i, long fallback) {
    return argc > i ? strtol(argv[i], NULL, 10) : fallback;
}

int main(int argc, char **argv) {
    static rf_request *q[MOST];
    static times t[MOST];
    static int32_t ids[MOST_PROMPT];
    long n = number(argc, argv, 2, 32), n_prompt = number(argc, argv, 3, 200), n_gen = number(argc, argv, 4, 64);
    if (argc < 2 || n < 1 || n > MOST || n_prompt < 1 || n_prompt > MOST_PROMPT || n_gen < 2) {
        fprintf(stderr, "usage: bench_batch MODEL [sequences] [prompt] [generate] [parallel] [temperature]\n");
        return 2;
    }
    rf_error e;
    rf_model *m;
    rf_engine *g;
    rf_engine_options opt = {.context = (uint32_t)(n_prompt + n_gen), .parallel = (uint32_t)number(argc, argv, 5, n)};
    if (!rf_model_open(&m, argv[1], &e) || !rf_engine_open(&g, m, &opt, &e)) {
        fprintf(stderr, "%s\n", e.message);
        return 1;
    }
    double t0 = now(), first = 0, last = 0;
    for (long i = 0; i < n; i++) {
        rf_request_params p = rf_request_defaults();
        for (long k = 0; k < n_prompt; k++) ids[k] = 100 + rand() % ((int)rf_model_n_vocab(m) - 100);
        p.tokens = ids, p.n_tokens = (size_t)n_prompt, p.max_tokens = n_gen;
        p.temperature = argc > 6 ? strtof(argv[6], NULL) : 0;
        p.ignore_eos = true, p.seed = (uint64_t)i;
        if (!rf_request_start(&q[i], g, &p, on_event, &t[i], &e)) return 1;
    }
    for (long i = 0; i < n; i++) {
        rf_request_free((rf_request_wait(q[i]), q[i]));
        if (t[i].first > first) first = t[i].first;
        if (t[i].last > last) last = t[i].last;
    }
    rf_stats s;
    rf_engine_stats(g, &s);
    printf(
        "%ld x %ld + %ld: all prompts read after %.2f s (%.0f t/s), decode %.0f t/s, total %.0f t/s, %.1f ms a step, "
        "%.1f %% outside of steps\n",
        n, n_prompt, n_gen, first - t0, (double)(n * n_prompt) / (first - t0), (double)s.generated_tokens / (last - t0),
        (double)(n * (n_prompt + n_gen)) / (last - t0), (double)s.step_us / 1e3 / (double)s.steps,
        100 * (1 - (double)s.step_us / 1e6 / (last - t0)));
    rf_engine_close(g);
    rf_model_close(m);
    return 0;
}
