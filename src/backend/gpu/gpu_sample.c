#include "backend/gpu/gpu_sample.h"

#include "backend/gpu/gpu_items.h"
#include "backend/gpu/gpu_profile.h"
#include "backend/gpu/sampler.h"
#include "base/mem.h"

#include <string.h>

enum { MOST_DRAWS = 64, MOST_EDITS = 1 << 15, N_KERNELS = 4 };

/* Pinned memory and the beginning of the device's block alike: jobs, edits. Behind them on the host: answers, lists of best. */
struct gpu_draws {
    gpu_sampler s;
    sample_args args;
    gpu_kernel kernel[N_KERNELS]; /* adjust, sums, collect, pick */
    uint32_t max_draws, max_jobs;
    gpu_addr block;
    uint8_t *host;
    sample_answer *answer; /* in host */
    sample_best *top;
    backend_draw *draw; /* of the step, the caller's */
    uint32_t n_draws;
    uint32_t *job;  /* [max_draws] of each draw */
    uint8_t *taken; /* [max_out] rows that a draw is made from */
    bool lists;
};

typedef struct {
    uint32_t draws, jobs;
    size_t up, scratch, answers, tops; /* bytes: jobs and edits, ... */
} sizes;

static sizes sizes_of(const plan *p, uint32_t device) {
    const node *n = p->g->result;
    sizes z = {0};
    if (n->device != device || n->op == OP_COPY || n->width > SAMPLE_MAX_VOCAB || n->rows != ROWS_OUT) return z;
    z.draws = p->max_out < MOST_DRAWS ? p->max_out : MOST_DRAWS;
    z.jobs = 2 * z.draws;
    z.up = gpu_align(z.jobs * sizeof(sample_job)) + gpu_align(MOST_EDITS * sizeof(sample_edit));
    z.scratch = gpu_align(gpu_sampler_bytes(n->width, z.jobs));
    z.answers = gpu_align(z.jobs * sizeof(sample_answer));
    z.tops = gpu_align(z.jobs * SAMPLE_MAX_TOP * sizeof(sample_best));
    return z;
}

void gpu_draws_measure(const plan *p, uint32_t device, size_t *device_bytes, size_t *host_bytes) {
    sizes z = sizes_of(p, device);
    *device_bytes = z.up + z.scratch;
    *host_bytes = z.up + z.answers + z.tops;
}

/* --- open and close ---------------------------------------------------------------------------------------------------- */

static status find_kernels(gpu_backend *g, gpu_draws *d, err *e) {
    static const char *const names[N_KERNELS] = {"sample_adjust", "sample_sums", "sample_collect", "sample_pick"};
    status s = OK;
    for (uint32_t i = 0; !s && i < N_KERNELS; i++) s = gpu_kernel_of(g, names[i], &d->kernel[i], e);
    return s;
}

status gpu_draws_open(gpu_backend *g, err *e) {
    sizes z = sizes_of(g->p, g->id);
    if (!z.draws) return OK;
    gpu_draws *d = g->draws = mem_zalloc(sizeof *d);
    if (!d) return fail(e, ERR_NOMEM, "sampling on the GPU");
    d->max_draws = z.draws, d->max_jobs = z.jobs;
    d->job = mem_array(z.draws, sizeof *d->job);
    d->taken = mem_array(g->p->max_out, 1);
    if (!d->job || !d->taken) return fail(e, ERR_NOMEM, "sampling on the GPU");
    void *host = NULL;
    status s = g->d->alloc(g->d, g->dev, z.up + z.scratch, &d->block, e);
    if (!s) s = g->d->host_alloc(g->d, g->dev, z.up + z.answers + z.tops, &host, e);
    if (s) return s;
    size_t edits = gpu_align(z.jobs * sizeof(sample_job));
    d->host = host;
    d->answer = (sample_answer *)(void *)(d->host + z.up);
    d->top = (sample_best *)(void *)(d->host + z.up + z.answers);
    gpu_sampler_bind(&d->args, d->block + z.up, g->p->g->result->width, z.jobs);
    d->args.job = d->block;
    d->args.edit = d->block + edits;
    s = gpu_sampler_open(&d->s, g->p->g->result->width, (sample_job *)host, z.jobs,
                         (sample_edit *)(void *)(d->host + edits), MOST_EDITS, e);
    return s ? s : find_kernels(g, d, e);
}

void gpu_draws_close(gpu_backend *g) {
    gpu_draws *d = g->draws;
    if (!d) return;
    gpu_sampler_close(&d->s);
    if (d->host) g->d->host_release(g->d, g->dev, d->host);
    if (d->block) g->d->release(g->d, g->dev, d->block);
    mem_free(d->job);
    mem_free(d->taken);
    mem_free(d);
    g->draws = NULL;
}

/* --- before the step --------------------------------------------------------------------------------------------------- */

static const char *begin_one(gpu_draws *d, backend_draw *w, uint32_t i, uint32_t max_out) {
    if (i >= d->max_draws || w->row >= max_out) return "more draws in a step than the GPU's sampler has room for";
    const char *why = gpu_sampler_add(&d->s, w->row, w->params, w->history, w->n_history, w->pos, SAMPLE_NO_MASK,
                                      w->out->n_top, &d->job[i]);
    if (why) return why;
    d->taken[w->row] = 1;
    d->lists |= w->out->n_top > 0;
    return NULL;
}

status gpu_draw_begin(backend *b, const node *logits, backend_draw *w, uint32_t n, err *e) {
    (void)e;
    gpu_backend *g = (gpu_backend *)b;
    gpu_draws *d = g->draws;
    for (uint32_t i = 0; i < n; i++) w[i].drawn = false, w[i].why = "the GPU does not sample from this model";
    if (!d || logits != g->p->g->result) return OK;
    gpu_sampler_begin(&d->s);
    memset(d->taken, 0, g->p->max_out);
    d->draw = w, d->n_draws = n, d->lists = false;
    for (uint32_t i = 0; i < n; i++) {
        w[i].why = begin_one(d, &w[i], i, g->p->max_out);
        w[i].drawn = !w[i].why;
    }
    return OK;
}

/* --- behind the logits -------------------------------------------------------------------------------------------------- */

static status copy_rows(gpu_backend *g, const gpu_window *w, gpu_value v, uint32_t first, uint32_t n, err *e) {
    status s = OK;
    uint32_t at_once = v.stride == w->stride ? n : 1;
    for (uint32_t r = first; !s && r < first + n; r += at_once) {
        size_t n_bytes = at_once * w->stride;
        s = g->d->copy_out(g->d, g->dev, w->host + r * w->stride, v.at + (uint64_t)r * v.stride, n_bytes, g->stream, e);
        g->count.copies_out++;
        g->count.bytes_out += n_bytes;
    }
    return s;
}

/* Rows that are not drawn from here, neighbours in one copy. */
static status copy_left(gpu_backend *g, const gpu_window *w, gpu_value v, err *e) {
    const uint8_t *taken = g->draws->taken;
    status s = OK;
    for (uint32_t r = 0, end; !s && r < g->run_out; r = end) {
        for (end = r; end < g->run_out && taken[end] == taken[r];) end++;
        if (!taken[r]) s = copy_rows(g, w, v, r, end - r, e);
    }
    return s;
}

static status send_jobs(gpu_backend *g, gpu_draws *d, err *e) {
    size_t n_bytes = d->args.edit - d->args.job + d->s.n_edits * sizeof(sample_edit);
    g->count.copies_in++;
    g->count.bytes_in += n_bytes;
    return g->d->copy_in(g->d, g->dev, d->block, d->host, n_bytes, g->stream, e);
}

/* adjust reads a row and writes another, sums and collect read that one, pick the candidates at most. */
static double draw_bytes(const gpu_draws *d, uint32_t kernel) {
    static const double floats[N_KERNELS] = {8, 4, 4, 0};
    return d->s.n_jobs * (floats[kernel] * d->s.n_vocab + sizeof(sample_answer));
}

static status launch_draws(gpu_backend *g, gpu_draws *d, err *e) {
    status s = OK;
    for (uint32_t i = 0; !s && i < N_KERNELS; i++) {
        if (i == 2 && !d->s.collects) continue;
        gpu_launch l = {.grid = {i == 3 ? 1 : d->args.n_blocks, d->s.n_jobs, 1}, .block = SAMPLE_BLOCK};
        l.args = &d->args, l.args_bytes = sizeof d->args;
        s = gpu_profile_launch(g, d->kernel[i], &l, draw_bytes(d, i), e);
    }
    return s ? fail_in(e, s, "sampling: ") : OK;
}

static status fetch_answers(gpu_backend *g, const gpu_draws *d, err *e) {
    size_t answers = d->s.n_jobs * sizeof(sample_answer), tops = d->s.n_jobs * SAMPLE_MAX_TOP * sizeof(sample_best);
    g->count.copies_out += d->lists ? 2 : 1;
    g->count.bytes_out += answers + (d->lists ? tops : 0);
    status s = g->d->copy_out(g->d, g->dev, d->answer, d->args.answer, answers, g->stream, e);
    if (!s && d->lists) s = g->d->copy_out(g->d, g->dev, d->top, d->args.top, tops, g->stream, e);
    return s;
}

status gpu_draws_run(gpu_backend *g, const gpu_window *w, err *e) {
    gpu_draws *d = g->draws;
    gpu_value v = gpu_value_of(g, w->n);
    if (!d || !d->s.n_jobs) return copy_rows(g, w, v, 0, g->run_out, e);
    d->args.logits = v.at;
    d->args.logits_stride = v.stride;
    status s = copy_left(g, w, v, e);
    if (!s) s = send_jobs(g, d, e);
    if (!s) s = launch_draws(g, d, e);
    return s ? s : fetch_answers(g, d, e);
}

/* --- after the step ----------------------------------------------------------------------------------------------------- */

static status end_one(gpu_backend *g, const gpu_draws *d, backend_draw *w, uint32_t job, bool *copied, err *e) {
    bool host;
    w->failed->code = gpu_sampler_finish(&d->s, job, d->answer, d->top, w->pos, w->out, &host, w->failed);
    if (w->failed->code || !host) return OK;
    w->drawn = false;
    w->why = "more candidates than the GPU's sampler can hold";
    *copied = true;
    const gpu_window *win = &g->result[0];
    return copy_rows(g, win, gpu_value_of(g, win->n), w->row, 1, e);
}

status gpu_draw_end(backend *b, err *e) {
    gpu_backend *g = (gpu_backend *)b;
    gpu_draws *d = g->draws;
    if (!d || !d->s.n_jobs) return OK;
    bool copied = false;
    status s = OK;
    for (uint32_t i = 0; !s && i < d->n_draws; i++)
        if (d->draw[i].drawn) s = end_one(g, d, &d->draw[i], d->job[i], &copied, e);
    if (copied) g->count.syncs++;
    if (!s && copied) s = g->d->stream_wait(g->d, g->dev, g->stream, e);
    gpu_sampler_begin(&d->s);
    d->n_draws = 0;
    return s;
}
