/* Sampling on the device against sample_token (src/sample): the same token, the same bits of its log-probability, the same
 * list of the best, the same errors. Logits of several shapes (peaked, flat, all alike, few values), vocabularies of awkward
 * sizes, every way of drawing, biases, bans, penalties and masks, NaN and infinities. */
#include "gpu_check.h"

#include "backend/gpu/sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JOBS = 64, MAX_EDITS = 1 << 14, N_TOP = 20 };

static uint64_t seed = 99;
static uint64_t n_drawn, n_left;

typedef enum { PEAKED, FLAT, ALIKE, FEW, WIDE, ZEROS, ODD, N_SHAPES } shape;
static const char *const shape_name[] = {"peaked", "flat", "alike", "few", "wide", "zeros", "odd"};

static void fill(float *x, uint32_t n, shape kind) {
    for (uint32_t i = 0; i < n; i++) {
        float z = check_normal(&seed);
        x[i] = kind == PEAKED  ? z * 2.5f + 3
               : kind == FLAT  ? z * 0.01f
               : kind == ALIKE ? 1.25f
               : kind == FEW   ? (float)(int)(z * 2)
               : kind == WIDE  ? z * 60
               : kind == ZEROS ? (check_random(&seed) & 1 ? 0.0f : -0.0f)
                               : z;
    }
    if (kind == PEAKED)
        for (int i = 0; i < 12; i++) x[check_random(&seed) % n] += 9 - (float)(i / 2);
    if (kind == ODD) x[check_random(&seed) % n] = check_random(&seed) & 1 ? NAN : -INFINITY;
}

typedef struct {
    const char *name;
    sample_params p;
    uint32_t n_bias, n_banned;
    bool mask;
    uint32_t n_top;
} way;

static const way WAYS[] = {
    {"greedy", {.temperature = 0, .top_p = 1, .repeat_penalty = 1}, 0, 0, false, 0},
    {"greedy, all edits",
     {.temperature = 0,
      .top_p = 1,
      .repeat_penalty = 1.3f,
      .presence_penalty = 0.5f,
      .frequency_penalty = 0.25f,
      .repeat_last_n = -1},
     7,
     5,
     false,
     N_TOP},
    {"defaults",
     {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1, .repeat_last_n = 64},
     0,
     0,
     false,
     0},
    {"defaults, penalties",
     {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1.1f, .repeat_last_n = 64},
     3,
     2,
     false,
     N_TOP},
    {"top-k 1", {.temperature = 1, .top_k = 1, .top_p = 1, .repeat_penalty = 1}, 0, 0, false, 1},
    {"top-k 600, hot", {.temperature = 3, .top_k = 600, .top_p = 0.999f, .repeat_penalty = 1}, 0, 0, false, 0},
    {"top-k 4096", {.temperature = 1.5f, .top_k = 4096, .top_p = 1, .repeat_penalty = 1}, 0, 0, false, SAMPLE_MAX_TOP},
    {"top-p 0.9", {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 1}, 0, 0, false, 0},
    {"top-p 0.999, bias", {.temperature = 1, .top_p = 0.999f, .repeat_penalty = 1}, 20, 20, false, 0},
    {"top-p 0", {.temperature = 1, .top_p = 0, .repeat_penalty = 1}, 0, 0, false, 0},
    {"min-p 0.1", {.temperature = 0.7f, .top_p = 1, .min_p = 0.1f, .repeat_penalty = 1}, 0, 0, false, 0},
    {"min-p 1", {.temperature = 0.7f, .top_p = 1, .min_p = 1, .repeat_penalty = 1}, 0, 0, false, 0},
    {"temperature 1", {.temperature = 1, .top_p = 1, .repeat_penalty = 1}, 0, 0, false, 0},
    {"temperature 2, penalties",
     {.temperature = 2, .top_p = 1, .repeat_penalty = 0.7f, .frequency_penalty = -0.5f, .repeat_last_n = 32},
     0,
     9,
     false,
     3},
    {"temperature 1e-30", {.temperature = 1e-30f, .top_p = 1, .repeat_penalty = 1}, 0, 0, false, 0},
    {"mask, defaults",
     {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1.2f, .repeat_last_n = 64},
     3,
     0,
     true,
     0},
    {"mask, greedy", {.temperature = 0, .top_p = 1, .repeat_penalty = 1}, 0, 0, true, 0},
    {"mask, temperature", {.temperature = 1, .top_p = 1, .repeat_penalty = 1}, 0, 0, true, 0},
    {"min-p, all banned but one",
     {.temperature = 1, .top_k = 10, .top_p = 0.5f, .min_p = 0.5f, .repeat_penalty = 1},
     0,
     UINT32_MAX,
     false,
     0},
};
enum { N_WAYS = sizeof WAYS / sizeof *WAYS, HISTORY = 90 };

/* Everything one draw needs on the host, and what came of it there. */
typedef struct {
    const way *w;
    uint32_t row, job;
    uint64_t pos;
    sample_params p, cpu; /* as asked; with the mask as bans */
    sample_bias bias[32];
    int32_t *banned, history[HISTORY];
    sample_top top[2][SAMPLE_MAX_TOP];
    bool added;
} draw;

typedef struct {
    check_rig *r;
    uint32_t n_vocab, n_rows, stride; /* floats from row to row */
    float *logits;
    uint32_t *mask;
    draw *d;
    uint32_t n_draws;
    sample_job job[MAX_JOBS];
    sample_edit *edit;
    gpu_sampler s;
    sample_scratch *scratch;
} batch;

static void fill_edits(batch *b, draw *d) {
    const way *w = d->w;
    uint32_t n = b->n_vocab, n_banned = w->n_banned == UINT32_MAX ? n - 1 : w->n_banned < n / 2 ? w->n_banned : n / 2;
    d->banned = malloc((n_banned + n + 1) * sizeof *d->banned);
    if (!d->banned) abort();
    for (uint32_t i = 0; i < n_banned; i++)
        d->banned[i] = (int32_t)(w->n_banned == UINT32_MAX ? i : check_random(&seed) % n);
    uint32_t n_bias = w->n_bias < n ? w->n_bias : n;
    for (uint32_t i = 0; i < n_bias; i++) {
        int32_t id = (int32_t)((uint64_t)n * i / n_bias);
        d->bias[i] = (sample_bias){id, i % 5 == 4 ? -INFINITY : i % 7 == 3 ? 3e38f : check_normal(&seed) * 3};
    }
    for (uint32_t i = 0; i < HISTORY; i++)
        d->history[i] = (int32_t)(check_random(&seed) % (i % 3 ? n : (n < 7 ? n : 7)));
    d->p.bias = d->bias, d->p.n_bias = n_bias, d->p.banned = d->banned, d->p.n_banned = n_banned;
    d->cpu = d->p;
    for (uint32_t i = 0; i < n && w->mask; i++)
        if (!(b->mask[i / 32] >> i % 32 & 1)) d->banned[d->cpu.n_banned++] = (int32_t)i;
}

static void add_draw(batch *b, const way *w, uint32_t row) {
    draw *d = &b->d[b->n_draws];
    memset(d, 0, sizeof *d);
    d->w = w, d->row = row, d->p = w->p, d->pos = check_random(&seed) % 100000;
    d->p.seed = check_random(&seed);
    fill_edits(b, d);
    const char *why = gpu_sampler_add(&b->s, row, &d->p, d->history, HISTORY, d->pos, w->mask ? 0 : SAMPLE_NO_MASK,
                                      w->n_top, &d->job);
    d->added = !why;
    if (why && !strstr(why, "room")) printf("left to the CPU: %s: %s\n", w->name, why);
    if (why)
        free(d->banned);
    else
        b->n_draws++;
}

static void launch_all(batch *b, sample_answer *answer, sample_best *top) {
    check_rig *r = b->r;
    uint32_t n = b->s.n_jobs;
    size_t scratch = gpu_sampler_bytes(b->n_vocab, n);
    sample_args a = {.logits_stride = b->stride * 4, .mask_stride = (b->n_vocab + 31) / 32 * 4};
    gpu_sampler_bind(&a, check_put(r, NULL, scratch), b->n_vocab, n);
    a.logits = check_put(r, b->logits, (size_t)b->n_rows * b->stride * 4);
    a.masks = check_put(r, b->mask, a.mask_stride);
    a.job = check_put(r, b->job, n * sizeof *b->job);
    a.edit = check_put(r, b->edit, (b->s.n_edits + 1) * sizeof *b->edit);
    check_launch(r, "sample", "sample_adjust", a.n_blocks, n, 1, SAMPLE_BLOCK, &a, sizeof a);
    check_launch(r, "sample", "sample_sums", a.n_blocks, n, 1, SAMPLE_BLOCK, &a, sizeof a);
    if (b->s.collects) check_launch(r, "sample", "sample_collect", a.n_blocks, n, 1, SAMPLE_BLOCK, &a, sizeof a);
    check_launch(r, "sample_pick", "sample_pick", 1, n, 1, SAMPLE_BLOCK, &a, sizeof a);
    check_get(r, answer, a.answer, n * sizeof *answer);
    check_get(r, top, a.top, n * SAMPLE_MAX_TOP * sizeof *top);
}

/* Milliseconds of each launch, n_jobs times the same way of drawing: only on a real device. */
static void time_way(check_rig *r, const way *w, uint32_t n_vocab, uint32_t n_jobs) {
    batch *b = calloc(1, sizeof *b);
    err e = {0};
    uint32_t n = 0;
    b->logits = malloc((size_t)n_vocab * n_jobs * 4);
    for (uint32_t i = 0; i < n_jobs; i++) fill(b->logits + (size_t)i * n_vocab, n_vocab, PEAKED);
    b->edit = malloc(MAX_EDITS * sizeof *b->edit);
    if (gpu_sampler_open(&b->s, n_vocab, b->job, MAX_JOBS, b->edit, MAX_EDITS, &e)) abort();
    while (n < n_jobs && !gpu_sampler_add(&b->s, n, &w->p, NULL, 0, n, SAMPLE_NO_MASK, 0, &n)) n++;
    sample_args a = {.logits_stride = n_vocab * 4};
    gpu_sampler_bind(&a, check_put(r, NULL, gpu_sampler_bytes(n_vocab, n)), n_vocab, n);
    a.logits = check_put(r, b->logits, (size_t)n_vocab * n_jobs * 4);
    a.job = check_put(r, b->job, n * sizeof *b->job);
    a.edit = check_put(r, b->edit, sizeof *b->edit);
    static const char *const step[] = {"sample_adjust", "sample_sums", "sample_collect", "sample_pick"};
    printf("time: %s, vocabulary %u, %u jobs:", w->name, n_vocab, n);
    for (int i = 0; i < 4; i++) {
        const char *file = i == 3 ? "sample_pick" : "sample";
        double ms = check_time(r, file, step[i], i == 3 ? 1 : a.n_blocks, n, 1, SAMPLE_BLOCK, &a, sizeof a, 50);
        printf(" %s %.1f us", step[i], ms * 1000);
    }
    printf("\n");
    gpu_sampler_close(&b->s);
    free(b->logits), free(b->edit), free(b);
    check_reset(r);
}

static void compare(batch *b, draw *d, shape kind, const sample_answer *answer, const sample_best *top) {
    err got_e = {0}, want_e = {0};
    sample_result got = {.top = d->top[0], .n_top = d->w->n_top}, want = {.top = d->top[1], .n_top = d->w->n_top};
    bool host;
    status gs = gpu_sampler_finish(&b->s, d->job, answer, top, d->pos, &got, &host, &got_e);
    status ws = sample_token(b->logits + (size_t)d->row * b->stride, b->n_vocab, &d->cpu, d->history, HISTORY, d->pos,
                             b->scratch, &want, &want_e);
    n_drawn++;
    if (!gs && host) {
        n_left++;
        return;
    }
    char name[64];
    snprintf(name, sizeof name, "%s", d->w->name);
    check_bytes(b->r, "sample_pick", &gs, &ws, sizeof gs, "%s, %s, %u: status", name, shape_name[kind], b->n_vocab);
    if (gs || ws) {
        if (gs == ws)
            check_bytes(b->r, "sample_pick", got_e.text, want_e.text, strlen(want_e.text) + 1, "%s", want_e.text);
        return;
    }
    check_bytes(b->r, "sample_pick", &got.id, &want.id, 4, "%s, %s, %u: %d instead of %d", name, shape_name[kind],
                b->n_vocab, got.id, want.id);
    check_bytes(b->r, "sample_pick", &got.logprob, &want.logprob, 4, "%s, %s, %u: logprob", name, shape_name[kind],
                b->n_vocab);
    check_bytes(b->r, "sample_pick", &got.n_top, &want.n_top, 4, "%s, %s, %u: how many best", name, shape_name[kind],
                b->n_vocab);
    check_bytes(b->r, "sample_pick", got.top, want.top, want.n_top * sizeof *want.top, "%s, %s, %u: the best", name,
                shape_name[kind], b->n_vocab);
}

/* All ways on rows of one shape, as many as jobs go into a step. */
static void run(check_rig *r, uint32_t n_vocab, shape kind, uint32_t from) {
    batch *b = calloc(1, sizeof *b);
    err e = {0};
    *b = (batch){.r = r, .n_vocab = n_vocab, .n_rows = 3, .stride = n_vocab + 5};
    b->logits = calloc((size_t)b->n_rows * b->stride, 4);
    b->mask = calloc((n_vocab + 31) / 32, 4);
    b->edit = malloc(MAX_EDITS * sizeof *b->edit);
    b->d = malloc(MAX_JOBS * sizeof *b->d);
    b->scratch = sample_scratch_new(n_vocab);
    for (uint32_t i = 0; i < b->n_rows; i++) fill(b->logits + (size_t)i * b->stride, n_vocab, kind);
    for (uint32_t i = 0; i < n_vocab; i++)
        if (check_random(&seed) % 3 == 0 || i == n_vocab / 2) b->mask[i / 32] |= 1u << i % 32;
    if (gpu_sampler_open(&b->s, n_vocab, b->job, MAX_JOBS, b->edit, MAX_EDITS, &e)) abort();
    gpu_sampler_begin(&b->s);
    for (uint32_t w = from; w < N_WAYS; w += check_long() ? 1 : 2)
        for (uint32_t i = 0; i < (check_long() ? 2 : 1); i++) add_draw(b, &WAYS[w], (w + i) % b->n_rows);
    gpu_sampler_pad(&b->s, b->s.n_jobs + 1);
    sample_answer answer[MAX_JOBS + 1];
    sample_best *top = malloc((MAX_JOBS + 1) * SAMPLE_MAX_TOP * sizeof *top);
    launch_all(b, answer, top);
    for (uint32_t i = 0; i < b->n_draws; i++) {
        compare(b, &b->d[i], kind, answer, top);
        free(b->d[i].banned);
    }
    gpu_sampler_close(&b->s);
    sample_scratch_free(b->scratch);
    free(top), free(b->logits), free(b->mask), free(b->edit), free(b->d), free(b);
    check_reset(r);
}

int main(int argc, char **argv) {
    static const uint32_t sizes[] = {1, 2, 33, 511, 512, 513, 4097, 8192, 8193, 49152, 151936, 262144};
    check_rig *r = check_open(argc, argv);
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < N_SHAPES; kind++) {
            char name[64];
            snprintf(name, sizeof name, "vocabulary %u %s", sizes[i], shape_name[kind]);
            if (!check_wanted(r, name)) continue;
            if (check_short() && !(sizes[i] == 513 && kind == PEAKED) && !(sizes[i] == 33 && kind == FEW)) continue;
            if (!check_long() && sizes[i] > 9000 && !(sizes[i] == 49152 && kind == PEAKED)) continue;
            run(r, sizes[i], (shape)kind, check_long() ? 0 : (i + (uint32_t)kind) % 2);
        }
    for (int w = 0; w < N_WAYS && getenv("RF_TIME"); w++)
        if (w == 0 || w == 2 || w == 5 || w == 7 || w == 12) {
            time_way(r, &WAYS[w], 151936, 1);
            time_way(r, &WAYS[w], 151936, 64);
        }
    printf("%llu draws, %llu of them left to the CPU for too many candidates\n", (unsigned long long)n_drawn,
           (unsigned long long)n_left);
    return check_close(r);
}
