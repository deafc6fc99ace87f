/* From what the caller asked for to an engine's exact shape. Every default is settled here, in one place, so that `plan`,
 * `generate` and `serve` mean the same. */
#include "api/api.h"

#include "backend/cpu/cpu.h"
#include "backend/cpu/pool.h"
#include "base/mem.h"
#include "kv/kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT_MOST = 1 << 24, PARALLEL_MOST = 4096, UBATCH_DEFAULT = 512 };

uint32_t api_page_tokens(uint32_t context) { return context < 1024 ? 16 : context < 4096 ? 32 : 64; }

static status cache_type(const char *name, const char *option, quant_type fallback, quant_type *out, err *e) {
    *out = fallback;
    if (!name) return OK;
    if (quant_from_name(name, out) && kv_type_known(*out)) return OK;
    return fail(e, ERR_RANGE, "%s %s: the KV cache takes f16, bf16, f32, q8_0 or q4_0", option, name);
}

static status ranged(uint32_t *out, uint32_t given, uint32_t fallback, uint32_t most, const char *what, err *e) {
    *out = given ? given : fallback;
    return *out <= most ? OK : fail(e, ERR_RANGE, "%s %u: give 1 to %u", what, *out, most);
}

/* A model with learned positions has none beyond them; an encoder's prompt is one step. */
static status check_positions(const api_shape *s, const rf_model *m, err *e) {
    uint32_t most = m->info.max_positions ? m->info.max_positions : CONTEXT_MOST;
    if (m->info.encoder && most > UBATCH_MOST) most = UBATCH_MOST;
    if (s->context <= most) return OK;
    return fail(e, ERR_RANGE, "context %u: this model takes at most %u tokens", s->context, most);
}

/* --- the KV cache's size ------------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    uint32_t page_tokens;
    uint64_t memory; /* of the machine they are meant for; the cache takes half of it */
} presets[] = {
    {"small", 16, 4ull << 30},
    {"medium", 32, 12ull << 30},
    {"large", 64, 40ull << 30},
};
enum { PRESET_PAGES_LEAST = 64, PRESET_PAGES_MOST = 8192 };

static uint64_t pages_for(uint32_t tokens, uint32_t page_tokens) {
    return ((uint64_t)tokens + page_tokens - 1) / page_tokens;
}

uint64_t api_cache_pages(const api_shape *s) {
    uint64_t n = pages_for(s->context, s->exec.page_tokens) * s->parallel;
    uint32_t step = s->ubatch > s->context ? s->ubatch : s->context;
    uint64_t most = pages_for(step, s->exec.page_tokens) + s->parallel;
    return s->whole && n > most ? most : n;
}

void api_size_step(api_shape *s, uint32_t rows) {
    uint64_t tokens = (uint64_t)s->context * s->parallel;
    exec_options *x = &s->exec;
    x->max_tok = s->ubatch < tokens ? s->ubatch : (uint32_t)tokens;
    if (x->max_tok < s->parallel) x->max_tok = s->parallel;
    if (s->whole && x->max_tok < s->context) x->max_tok = s->context;
    x->max_out = rows < x->max_tok && !s->whole ? rows : x->max_tok; /* of an encoder's rows each may be wanted */
}

/* Bytes of one page of this model. */
static status page_bytes(size_t *out, const rf_model *m, const exec_options *x, err *e) {
    kv_layout l = {.n_layers = m->info.n_kv_layers, .page_tokens = x->page_tokens, .n_pages = 1};
    l.type_k = x->type_k;
    l.type_v = x->type_v;
    l.layer = mem_array(l.n_layers, sizeof *l.layer);
    if (!l.layer) return fail(e, ERR_NOMEM, "the size of a page");
    for (uint32_t i = 0; i < l.n_layers; i++) {
        const model_layer *y = &m->info.layer[i];
        l.layer[i] = (kv_layer){.n_kv_head = y->n_kv_head, .d_k = y->d_k, .d_v = y->d_v};
    }
    status s = kv_layout_make(&l, e);
    mem_free(l.layer);
    *out = l.page_bytes;
    return s;
}

static status preset_pages(uint64_t *n, api_shape *s, const rf_model *m, const char *name, err *e) {
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(name, presets[i].name) != 0) continue;
        size_t bytes;
        s->exec.page_tokens = presets[i].page_tokens;
        status rc = page_bytes(&bytes, m, &s->exec, e);
        if (rc) return rc;
        *n = bytes ? presets[i].memory / 2 / bytes : PRESET_PAGES_MOST;
        if (*n < PRESET_PAGES_LEAST) *n = PRESET_PAGES_LEAST;
        if (*n > PRESET_PAGES_MOST) *n = PRESET_PAGES_MOST;
        return OK;
    }
    return fail(e, ERR_USAGE, "KV cache preset %s: give small, medium or large", name);
}

static void lower_context(api_shape *s, uint64_t tokens) {
    api_down_note(&s->down, DOWN_CONTEXT, OK, "%llu tokens: a KV cache of that size was asked for, and no context",
                  (unsigned long long)tokens);
    s->context = (uint32_t)tokens;
}

/* How many pages of how many tokens. A context that was asked for must fit in; one that was not becomes what fits. */
static status size_cache(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e) {
    exec_options *x = &s->exec;
    uint64_t n = 0;
    if (opt->kv_tokens && opt->kv_preset)
        return fail(e, ERR_USAGE, "a KV cache of %u tokens and of preset %s: give one of the two", opt->kv_tokens,
                    opt->kv_preset);
    if (!opt->context && opt->kv_tokens && opt->kv_tokens < s->context) lower_context(s, opt->kv_tokens);
    x->page_tokens = api_page_tokens(s->context);
    status rc = OK;
    if (opt->kv_preset)
        rc = preset_pages(&n, s, m, opt->kv_preset, e);
    else if (opt->kv_tokens)
        n = pages_for(opt->kv_tokens, x->page_tokens);
    else
        n = api_cache_pages(s);
    if (rc) return rc;
    if (n > UINT32_MAX) return fail(e, ERR_RANGE, "a cache of %llu pages", (unsigned long long)n);
    x->n_pages = (uint32_t)n;
    uint64_t tokens = n * x->page_tokens;
    if (tokens < s->context && opt->context)
        return fail(e, ERR_RANGE, "a context of %u tokens in a KV cache of %llu: lower -c or give a larger cache",
                    s->context, (unsigned long long)tokens);
    if (tokens < s->context) lower_context(s, tokens);
    s->fixed_cache = opt->kv_tokens || opt->kv_preset;
    s->may_shrink = opt->kv_shrink && !opt->kv_tokens;
    return OK;
}

/* --- scheduling, and the folder ------------------------------------------------------------------------------------------ */

enum { QUEUE_DEFAULT = 1000, CHUNK_DEFAULT = 128, STEP_MS_DEFAULT = 100, STEP_MS_MOST = 60000, FOLDER_GIB_DEFAULT = 4 };

static status settle_scheduling(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e) {
    static const char *const names[] = {[CHUNK_ADAPTIVE] = "adaptive", [CHUNK_FIXED] = "fixed", [CHUNK_NONE] = "none"};
    sched_options *o = &s->sched;
    uint32_t step_ms = 0;
    o->context = s->context;
    o->parallel = s->parallel;
    o->queue = opt->queue ? opt->queue : QUEUE_DEFAULT;
    o->no_prefix = opt->no_prefix_cache || m->info.encoder; /* what stands before depends on what comes after */
    status rc = ranged(&o->chunk, opt->chunk, CHUNK_DEFAULT, UBATCH_MOST, "chunk", e);
    if (!rc) rc = ranged(&step_ms, opt->step_ms, STEP_MS_DEFAULT, STEP_MS_MOST, "step_ms", e);
    if (rc) return rc;
    o->step_us = (int64_t)step_ms * 1000;
    if (!opt->chunking) return OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        o->chunking = (chunk_strategy)i;
        if (strcmp(opt->chunking, names[i]) == 0) return OK;
    }
    return fail(e, ERR_USAGE, "chunking %s: give adaptive, fixed or none", opt->chunking);
}

static status settle_folder(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e) {
    if (!opt->kv_cache_dir) return OK;
    if (m->info.encoder)
        return fail(e, ERR_USAGE, "a folder for the prefix cache: %s is an encoder and has none", m->info.arch_name);
    if (opt->no_prefix_cache)
        return fail(e, ERR_USAGE, "a folder for the prefix cache, and no prefix cache: give one of the two");
    s->folder =
        (kv_disk_options){.dir = opt->kv_cache_dir,
                          .max_bytes = opt->kv_cache_bytes ? opt->kv_cache_bytes : (uint64_t)FOLDER_GIB_DEFAULT << 30,
                          .page_tokens = s->exec.page_tokens,
                          .max_tokens = s->context};
    return page_bytes(&s->folder.page_bytes, m, &s->exec, e);
}

/* --- the whole shape ------------------------------------------------------------------------------------------------------ */

static status settle(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e) {
    uint32_t train = m->info.context_train,
             fallback = train && train < CONTEXT_DEFAULT_MOST ? train : CONTEXT_DEFAULT_MOST;
    uint32_t rows = 0;
    s->whole = m->info.encoder;
    exec_options *x = &s->exec;
    status rc = ranged(&s->context, opt->context, fallback, CONTEXT_MOST, "context", e);
    if (!rc) rc = check_positions(s, m, e);
    if (!rc) rc = ranged(&s->parallel, opt->parallel, 1, PARALLEL_MOST, "parallel", e);
    if (!rc) rc = ranged(&s->ubatch, opt->ubatch, UBATCH_DEFAULT, UBATCH_MOST, "ubatch", e);
    if (!rc) rc = ranged(&rows, opt->logits_rows, s->parallel, UBATCH_MOST, "logits rows", e);
    if (!rc) rc = ranged(&s->threads, opt->threads, cpu_default_threads(), POOL_MAX_THREADS, "threads", e);
    const quant_type type = m->info.encoder ? QUANT_F32 : QUANT_F16;
    if (!rc) rc = cache_type(opt->cache_type_k, "--cache-type-k", type, &x->type_k, e);
    if (!rc) rc = cache_type(opt->cache_type_v, "--cache-type-v", type, &x->type_v, e);
    if (!rc) rc = cpu_tier_choose(opt->cpu_tier ? opt->cpu_tier : getenv("ROCMFORGE_CPU"), &s->tier, e);
    if (!rc) rc = size_cache(s, m, opt, e);
    if (!rc) rc = settle_scheduling(s, m, opt, e);
    if (!rc) rc = settle_folder(s, m, opt, e);
    if (!rc) rc = api_choose_device(s, m, opt, e);
    if (!rc) rc = api_split_make(s, m, opt, e);
    if (rc) return rc;
    api_size_step(s, rows);
    x->passes = PASS_ALL;
    x->hidden = true; /* rows of one d_model: next to nothing */
    return OK;
}

status api_shape_make(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e) {
    *s = (api_shape){.profile = opt->profile};
    status rc = settle(s, m, opt, e);
    if (rc) api_shape_close(s);
    return rc;
}

void api_shape_close(api_shape *s) { api_use_cpu(s); }
