#include "exec/probe.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

enum { LISTS = PROBE_DRAWS - 1 };

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Spread over the vocabulary, never two alike in a row. */
static int32_t token_at(uint32_t i, uint32_t n_vocab) { return (int32_t)((i * 7919u + 13u) % n_vocab); }

/* Tokens [from, from + n). What is not finite is compared like everything else: `failed` takes it. */
static status ask_step(exec *x, uint32_t from, uint32_t n, exec_seq *one, err *failed, err *e) {
    uint32_t n_vocab = exec_model(x)->n_vocab;
    int32_t token[PROBE_TOKENS], pos[PROBE_TOKENS], out_row = (int32_t)n - 1;
    uint32_t seq[PROBE_TOKENS] = {0}, pages[PROBE_TOKENS];
    for (uint32_t i = 0; i < PROBE_TOKENS; i++) pages[i] = i;
    for (uint32_t i = 0; i < n; i++) {
        token[i] = token_at(from + i, n_vocab);
        pos[i] = (int32_t)(from + i);
    }
    failed->code = OK;
    one->pages = pages, one->failed = failed;
    exec_batch b = {.n_tok = n, .n_seq = 1, .n_out = 1};
    b.token = token, b.pos = pos, b.seq = seq, b.out_row = &out_row, b.seqs = one;
    return exec_step(x, &b, e);
}

static status ask_logits(exec *x, uint32_t from, uint32_t n, float *row, uint32_t n_vocab, err *e) {
    exec_seq one = {0};
    err not_finite;
    status s = ask_step(x, from, n, &one, &not_finite, e);
    if (!s) memcpy(row, exec_logits(x, 0), n_vocab * sizeof *row);
    return s;
}

/* Each way is one that a device goes by itself: the highest; top-k and top-p; all, with penalties and a bias; what min-p
 * leaves; the highest, with the best listed. So flat, where it can be, that every candidate counts. */
static void set_ways(sample_params way[PROBE_DRAWS], const sample_bias *bias) {
    for (int i = 0; i < PROBE_DRAWS; i++) {
        way[i] = sample_defaults();
        way[i].seed = (uint64_t)i;
        way[i].temperature = 3.0f;
    }
    way[0].temperature = way[LISTS].temperature = 0.0f;
    way[1].min_p = 0.0f;
    way[2].temperature = 1.0f, way[2].top_k = 0, way[2].top_p = 1.0f, way[2].min_p = 0.0f;
    way[2].repeat_penalty = 1.25f, way[2].presence_penalty = 0.5f, way[2].frequency_penalty = 0.25f;
    way[2].bias = bias, way[2].n_bias = 1;
    way[3].top_k = 0, way[3].top_p = 1.0f;
}

/* The last of the probe's n tokens again, its logits drawn from in each way. */
static status ask_draws(probe_answer *a, exec *x, uint32_t n, err *e) {
    int32_t history[PROBE_TOKENS];
    for (uint32_t i = 0; i < n; i++) history[i] = token_at(i, a->n_vocab);
    const sample_bias bias = {.id = token_at(n, a->n_vocab), .bias = 2.0f};
    sample_params way[PROBE_DRAWS];
    set_ways(way, &bias);
    status s = OK;
    for (int i = 0; !s && i < PROBE_DRAWS; i++) {
        probe_draw *d = &a->draw[i];
        sample_result r = {.id = -1, .top = d->top, .n_top = i == LISTS ? PROBE_TOP : 0};
        err failed;
        exec_seq one = {.sampling = &way[i], .history = history, .n_history = n, .sample_pos = n, .result = &r};
        s = ask_step(x, n - 1, 1, &one, &failed, e);
        if (failed.code)
            *d = (probe_draw){.id = -1};
        else
            d->id = r.id, d->logprob = r.logprob, d->n_top = r.n_top;
    }
    return s;
}

/* Tokens of the step that begins behind `at` of n_tok. */
static uint32_t step_size(uint32_t at, uint32_t n_tok, uint32_t max_tok) {
    uint32_t decodes = min_u32(PROBE_DECODES, n_tok), prompt = min_u32(PROBE_PROMPT, n_tok - decodes);
    if (at < prompt) return min_u32(min_u32(PROBE_CHUNK, max_tok), prompt - at);
    if (at < prompt + decodes) return 1;
    return min_u32(min_u32(PROBE_LONG, max_tok), n_tok - at);
}

status probe_ask(probe_answer *a, exec *x, uint32_t max_tok, uint32_t n_tok, err *e) {
    *a = (probe_answer){.n_vocab = exec_model(x)->n_vocab};
    if (exec_model(x)->encoder) return fail(e, ERR_EMBEDS_ONLY, "an encoder has no logits to ask for");
    n_tok = min_u32(n_tok, PROBE_TOKENS);
    a->logits = mem_array(PROBE_MAX_STEPS, a->n_vocab * sizeof *a->logits);
    if (!a->logits) return fail(e, ERR_NOMEM, "the logits of a probe");
    status s = OK;
    for (uint32_t at = 0; !s && at < n_tok;) {
        uint32_t n = step_size(at, n_tok, max_tok);
        s = ask_logits(x, at, n, a->logits + (size_t)a->n_steps * a->n_vocab, a->n_vocab, e);
        at += n;
        a->after[a->n_steps++] = at;
    }
    if (!s) s = ask_draws(a, x, n_tok, e);
    if (s) probe_free(a);
    return s;
}

void probe_free(probe_answer *a) {
    mem_free(a->logits);
    *a = (probe_answer){0};
}

void probe_hash(const probe_answer *a, uint64_t out[2]) {
    XXH128_hash_t d = XXH3_128bits(a->draw, sizeof a->draw);
    XXH128_hash_t h =
        XXH3_128bits_withSeed(a->logits, (size_t)a->n_steps * a->n_vocab * sizeof *a->logits, d.low64 ^ d.high64);
    out[0] = h.low64, out[1] = h.high64;
}

probe_difference probe_compare(const probe_answer *a, const probe_answer *b, uint32_t first_step, uint32_t n_steps) {
    probe_difference d = {0};
    for (uint32_t s = first_step; s < first_step + n_steps; s++) {
        const float *x = a->logits + (size_t)s * a->n_vocab, *y = b->logits + (size_t)s * b->n_vocab;
        d.n_values += a->n_vocab;
        for (uint32_t i = 0; i < a->n_vocab; i++) {
            if (memcmp(&x[i], &y[i], sizeof *x) == 0 || (isnan(x[i]) && isnan(y[i]))) continue;
            double far = fabs((double)x[i] - (double)y[i]);
            if (isnan(far)) far = INFINITY;
            d.n_differ++;
            if (far > d.max_diff) d.max_diff = far;
            if (!d.first_after) d.first_after = a->after[s];
        }
    }
    return d;
}

uint32_t probe_draws_differ(const probe_answer *a, const probe_answer *b) {
    uint32_t n = 0;
    for (int i = 0; i < PROBE_DRAWS; i++) n += memcmp(&a->draw[i], &b->draw[i], sizeof a->draw[i]) != 0;
    return n;
}

/* --- where it began -------------------------------------------------------------------------------------------------------- */

static size_t value_bytes(quant_type t, size_t n) {
    const quant_info *q = quant_lookup(t);
    if (t == QUANT_Q8_0 || t == QUANT_Q4_0) return t == QUANT_Q8_0 ? n : n / 2; /* their scales stand apart */
    return n / q->block_elems * q->block_bytes;
}

/* The first n_tok (a multiple of 16) keys and values of a page; unwritten places hold anything. */
static bool layer_differs(const kv_layout *kv, const kv_layer *l, const uint8_t *a, const uint8_t *b, uint32_t n_tok) {
    for (uint32_t h = 0; h < l->n_kv_head; h++) {
        size_t at = l->offset + h * l->head_bytes;
        if (memcmp(a + at, b + at, value_bytes(kv->type_k, (size_t)n_tok * l->d_k)) != 0) return true;
        if (memcmp(a + at + l->v, b + at + l->v, value_bytes(kv->type_v, (size_t)n_tok * l->d_v)) != 0) return true;
    }
    return false;
}

status probe_first_layer(const probe_answer *a, exec *x, exec *y, int32_t *layer, err *e) {
    const kv_layout *kv = exec_kv(x);
    uint32_t n_tok = a->after[a->n_steps - 1] / KV_LANES * KV_LANES, first = kv->n_layers;
    uint8_t *p = mem_alloc(2 * kv->page_bytes);
    if (!p) return fail(e, ERR_NOMEM, "two pages of the KV cache");
    status s = OK;
    for (uint32_t page = 0; !s && page * kv->page_tokens < n_tok; page++) {
        s = exec_page_read(x, page, p, e);
        if (!s) s = exec_page_read(y, page, p + kv->page_bytes, e);
        uint32_t n = min_u32(n_tok - page * kv->page_tokens, kv->page_tokens);
        for (uint32_t i = 0; !s && i < first; i++)
            if (layer_differs(kv, &kv->layer[i], p, p + kv->page_bytes, n)) first = i;
    }
    mem_free(p);
    *layer = first < kv->n_layers ? (int32_t)first : -1;
    return s;
}
