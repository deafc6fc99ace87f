#include "backend/gpu/sampler.h"

#include "base/fmath.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sample/softmax.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static_assert((int)SAMPLE_CHUNK == (int)SOFTMAX_CHUNK, "one order of sums");

status gpu_sampler_open(gpu_sampler *s, uint32_t n_vocab, sample_job *job, uint32_t max_jobs, sample_edit *edit,
                        uint32_t max_edits, err *e) {
    *s = (gpu_sampler){.n_vocab = n_vocab, .max_jobs = max_jobs, .max_edits = max_edits, .job = job, .edit = edit};
    if (n_vocab == 0 || n_vocab > SAMPLE_MAX_VOCAB)
        return fail(e, ERR_UNSUPPORTED, "a vocabulary of %u: the GPU samples from at most %d", n_vocab,
                    SAMPLE_MAX_VOCAB);
    s->place = mem_zalloc(n_vocab * sizeof *s->place);
    return s->place ? OK : fail(e, ERR_NOMEM, "sampler");
}

void gpu_sampler_close(gpu_sampler *s) {
    mem_free(s->place);
    *s = (gpu_sampler){0};
}

/* --- scratch: one block after another, each for all jobs */
static gpu_addr take(gpu_addr *at, size_t each, uint32_t n) {
    gpu_addr here = *at;
    *at += (each * n + 255) & ~(size_t)255;
    return here;
}

void gpu_sampler_bind(sample_args *a, gpu_addr base, uint32_t n_vocab, uint32_t n_jobs) {
    gpu_addr at = base;
    a->n_vocab = n_vocab;
    a->n_blocks = (n_vocab + SAMPLE_RANGE - 1) / SAMPLE_RANGE;
    a->answer = take(&at, sizeof(sample_answer), n_jobs);
    a->top = take(&at, SAMPLE_MAX_TOP * sizeof(sample_best), n_jobs);
    a->x = take(&at, n_vocab * sizeof(float), n_jobs);
    a->raw_total = take(&at, SAMPLE_MAX_CHUNKS * sizeof(double), n_jobs);
    a->x_total = take(&at, SAMPLE_MAX_CHUNKS * sizeof(double), n_jobs);
    a->key = take(&at, SAMPLE_CAP * sizeof(uint64_t), n_jobs);
    a->part = take(&at, SAMPLE_MAX_BLOCKS * sizeof(sample_part), n_jobs);
    a->bins = take(&at, SAMPLE_MAX_BLOCKS * SAMPLE_BINS / 2 * sizeof(uint32_t), n_jobs);
    a->listed = take(&at, SAMPLE_MAX_BLOCKS * sizeof(uint32_t), n_jobs);
    a->found = take(&at, sizeof(sample_found), n_jobs);
}

size_t gpu_sampler_bytes(uint32_t n_vocab, uint32_t n_jobs) {
    sample_args a = {0};
    gpu_sampler_bind(&a, 0, n_vocab, n_jobs);
    return (size_t)a.found + ((n_jobs * sizeof(sample_found) + 255) & ~(size_t)255);
}

/* --- jobs */
void gpu_sampler_begin(gpu_sampler *s) {
    s->n_jobs = s->n_edits = 0;
    s->collects = false;
}

void gpu_sampler_pad(gpu_sampler *s, uint32_t n) {
    while (s->n_jobs < n) s->job[s->n_jobs++] = (sample_job){.mode = SAMPLE_NONE, .mask = SAMPLE_NO_MASK};
}

/* The edit of an id, a new one if it has none yet; NULL: no room. */
static sample_edit *edit_of(gpu_sampler *s, sample_job *j, int32_t id) {
    uint32_t *place = &s->place[id];
    if (*place) return &s->edit[j->first_edit + *place - 1];
    if (j->first_edit + j->n_edits == s->max_edits) return NULL;
    *place = ++j->n_edits;
    sample_edit *d = &s->edit[j->first_edit + j->n_edits - 1];
    *d = (sample_edit){.id = id};
    return d;
}

static const char *const NO_ROOM =
    "more biases, bans and tokens in the penalty window than the GPU's sampler has room for";

static const char *add_bias(gpu_sampler *s, sample_job *j, const sample_params *p) {
    for (size_t i = 0; i < p->n_bias; i++) {
        if ((uint32_t)p->bias[i].id >= s->n_vocab) continue;
        sample_edit *d = edit_of(s, j, p->bias[i].id);
        if (!d) return NO_ROOM;
        if (d->what & SAMPLE_EDIT_BIAS) return "logit_bias names a token twice";
        d->what |= SAMPLE_EDIT_BIAS;
        d->bias = p->bias[i].bias;
    }
    for (size_t i = 0; i < p->n_banned; i++) {
        if ((uint32_t)p->banned[i] >= s->n_vocab) continue;
        sample_edit *d = edit_of(s, j, p->banned[i]);
        if (!d) return NO_ROOM;
        d->what |= SAMPLE_EDIT_BAN;
    }
    return NULL;
}

static bool penalises(const sample_params *p) {
    return p->repeat_last_n != 0 && (p->repeat_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0);
}

static const char *add_penalties(gpu_sampler *s, sample_job *j, const sample_params *p, const int32_t *history,
                                 size_t n_history) {
    if (!penalises(p)) return NULL;
    size_t window = n_history;
    if (p->repeat_last_n > 0 && (size_t)p->repeat_last_n < window) window = (size_t)p->repeat_last_n;
    for (size_t i = n_history - window; i < n_history; i++) {
        if ((uint32_t)history[i] >= s->n_vocab) continue;
        sample_edit *d = edit_of(s, j, history[i]);
        if (!d) return NO_ROOM;
        d->seen++;
    }
    return NULL;
}

static const char *add_edits(gpu_sampler *s, sample_job *j, const sample_params *p, const int32_t *history,
                             size_t n_history) {
    const char *why = add_bias(s, j, p);
    if (!why) why = add_penalties(s, j, p, history, n_history);
    for (uint32_t i = 0; i < j->n_edits; i++) s->place[s->edit[j->first_edit + i].id] = 0;
    return why;
}

static sample_mode mode_of(const sample_params *p) {
    if (p->temperature <= 0) return SAMPLE_GREEDY;
    if (p->top_k > 0 || p->top_p < 1) return SAMPLE_SORTED;
    return p->min_p > 0 ? SAMPLE_LISTED : SAMPLE_ALL;
}

static bool collects(uint32_t mode) { return mode == SAMPLE_SORTED || mode == SAMPLE_LISTED || mode == SAMPLE_TOP; }

const char *gpu_sampler_add(gpu_sampler *s, uint32_t row, const sample_params *p, const int32_t *history,
                            size_t n_history, uint64_t pos, int32_t mask, uint32_t n_top, uint32_t *job) {
    if (s->n_jobs + 1 + (n_top > 0) > s->max_jobs) return "more draws in a step than the GPU's sampler has room for";
    if (n_top > SAMPLE_MAX_TOP) return "more log-probabilities are asked for than the GPU lists";
    sample_job j = {.row = row, .mode = mode_of(p), .mask = mask, .first_edit = s->n_edits};
    if (j.mode == SAMPLE_SORTED && p->top_k > SAMPLE_CAP && s->n_vocab > SAMPLE_CAP)
        return "top_k is larger than what the GPU can sort";
    const char *why = add_edits(s, &j, p, history, n_history);
    if (why) return why;
    j.u = rng_unit(p->seed, pos);
    j.top_k = p->top_k > 0 ? (uint32_t)p->top_k : 0;
    j.top_p = p->top_p;
    j.log_min_p = p->min_p > 0 ? (float)rf_log((double)p->min_p) : -INFINITY;
    j.temperature = p->temperature;
    j.repeat = p->repeat_penalty, j.frequency = p->frequency_penalty, j.presence = p->presence_penalty;
    *job = s->n_jobs;
    s->job[s->n_jobs++] = j;
    s->n_edits += j.n_edits;
    if (n_top > 0)
        s->job[s->n_jobs++] = (sample_job){.row = row, .mode = SAMPLE_TOP, .mask = SAMPLE_NO_MASK, .top_k = n_top};
    s->collects |= collects(j.mode) || n_top > 0;
    return NULL;
}

/* --- answers */
static float logprob_of(float logit, float max, double log_sum) {
    return (float)((double)logit - (double)max - log_sum);
}

status gpu_sampler_finish(const gpu_sampler *s, uint32_t job, const sample_answer *answer, const sample_best *top,
                          uint64_t pos, sample_result *out, bool *host, err *e) {
    const sample_answer *a = &answer[job];
    const bool lists = out->n_top > 0;
    assert(job < s->n_jobs && (!lists || s->job[job + 1].mode == SAMPLE_TOP));
    *host = a->status == SAMPLE_TO_HOST || (lists && answer[job + 1].status == SAMPLE_TO_HOST);
    if (a->status == SAMPLE_ODD)
        return fail(e, ERR_NUMBERS, "position %llu: the logit of token %u is %g", (unsigned long long)pos,
                    (uint32_t)a->id, (double)a->logit);
    if (a->status == SAMPLE_BANNED)
        return fail(e, ERR_RANGE, "position %llu: every token is banned", (unsigned long long)pos);
    if (*host) return OK;
    if (a->status != SAMPLE_OK || (uint32_t)a->id >= s->n_vocab)
        return fail(e, ERR_GPU_WRONG,
                    "position %llu: the GPU's sampler answered %u, token %d, which is no token of this model",
                    (unsigned long long)pos, a->status, a->id);
    const double log_sum = rf_log(a->sum);
    out->id = a->id;
    out->logprob = logprob_of(a->logit, a->max, log_sum);
    if (!lists) return OK;
    const sample_best *best = top + (size_t)(job + 1) * SAMPLE_MAX_TOP;
    const uint32_t n = answer[job + 1].n_top;
    out->n_top = n < out->n_top ? n : out->n_top;
    for (uint32_t i = 0; i < out->n_top; i++)
        out->top[i] = (sample_top){best[i].id, logprob_of(best[i].logit, a->max, log_sum)};
    return OK;
}
