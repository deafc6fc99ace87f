/* From what the caller asked for to an engine's exact shape, and what that takes of memory. Every default is settled here,
 * in one place, so that `plan` and `generate` mean the same. */
#include "api/api.h"

#include "backend/cpu/cpu.h"
#include "backend/cpu/pool.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONTEXT_DEFAULT_MOST = 8192,
    CONTEXT_MOST = 1 << 24,
    PARALLEL_MOST = 4096,
    UBATCH_DEFAULT = 512,
    UBATCH_MOST = 16384
};

static uint32_t page_tokens_for(uint32_t context) { return context < 1024 ? 16 : context < 4096 ? 32 : 64; }

static status cache_type(const char *name, const char *option, quant_type *out, err *e) {
    *out = QUANT_F16;
    if (!name) return OK;
    if (quant_from_name(name, out) && (*out == QUANT_F16 || *out == QUANT_F32 || *out == QUANT_Q8_0)) return OK;
    return fail(e, ERR_RANGE, "%s %s: the KV cache takes f16, f32 or q8_0", option, name);
}

static status ranged(uint32_t *out, uint32_t given, uint32_t fallback, uint32_t most, const char *what, err *e) {
    *out = given ? given : fallback;
    return *out <= most ? OK : fail(e, ERR_RANGE, "%s %u: give 1 to %u", what, *out, most);
}

static status choose_device(api_shape *s, const char *device, err *e) {
    if (!device) device = "auto";
    if (strcmp(device, "cpu") == 0)
        snprintf(s->reason, sizeof s->reason, "asked for");
    else if (strcmp(device, "auto") == 0)
        snprintf(s->reason, sizeof s->reason, "this build has no GPU backend yet");
    else if (strncmp(device, "gpu", 3) == 0)
        return fail(e, ERR_UNSUPPORTED, "--device %s: this build has no GPU backend; use --device cpu", device);
    else
        return fail(e, ERR_USAGE, "--device %s: give auto or cpu", device);
    return OK;
}

status api_shape_make(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e) {
    *s = (api_shape){0};
    uint32_t train = m->info.context_train,
             fallback = train && train < CONTEXT_DEFAULT_MOST ? train : CONTEXT_DEFAULT_MOST;
    uint32_t ubatch = 0, rows = 0;
    status rc = choose_device(s, opt->device, e);
    if (!rc) rc = ranged(&s->context, opt->context, fallback, CONTEXT_MOST, "context", e);
    if (!rc) rc = ranged(&s->parallel, opt->parallel, 1, PARALLEL_MOST, "parallel", e);
    if (!rc) rc = ranged(&ubatch, opt->ubatch, UBATCH_DEFAULT, UBATCH_MOST, "ubatch", e);
    if (!rc) rc = ranged(&rows, opt->logits_rows, s->parallel, UBATCH_MOST, "logits rows", e);
    if (!rc) rc = ranged(&s->threads, opt->threads, cpu_default_threads(), POOL_MAX_THREADS, "threads", e);
    exec_options *x = &s->exec;
    if (!rc) rc = cache_type(opt->cache_type_k, "--cache-type-k", &x->type_k, e);
    if (!rc) rc = cache_type(opt->cache_type_v, "--cache-type-v", &x->type_v, e);
    if (!rc) rc = cpu_tier_choose(opt->cpu_tier ? opt->cpu_tier : getenv("ROCMFORGE_CPU"), &s->tier, e);
    if (rc) return rc;
    uint64_t tokens = (uint64_t)s->context * s->parallel;
    x->max_tok = ubatch < tokens ? ubatch : (uint32_t)tokens;
    if (x->max_tok < s->parallel) x->max_tok = s->parallel;
    x->max_out = rows < x->max_tok ? rows : x->max_tok;
    x->page_tokens = page_tokens_for(s->context);
    uint64_t pages = ((uint64_t)s->context + x->page_tokens - 1) / x->page_tokens * s->parallel;
    if (pages > UINT32_MAX) return fail(e, ERR_RANGE, "a cache of %llu pages", (unsigned long long)pages);
    x->n_pages = (uint32_t)pages;
    x->passes = PASS_ALL;
    x->hidden = true; /* rows of one d_model: next to nothing */
    return OK;
}

status api_open_backend(backend **out, const api_shape *s, err *e) {
    cpu_options opt = {.n_threads = s->threads, .tier = s->tier};
    return cpu_backend_open(out, &opt, e);
}

/* --- plan ------------------------------------------------------------------------------------------------------------- */

/* What a backend takes for this shape; nothing is loaded. */
static status measure(const rf_model *m, const api_shape *s, backend_memory *out, err *e) {
    backend *b = NULL;
    status rc = api_open_backend(&b, s, e);
    if (rc) return rc;
    rc = exec_measure(m->file, &s->exec, &b, 1, out, e);
    b->ops->close(b);
    return rc;
}

/* Whatever engine_open would refuse about the file, found with the smallest engine there is; nothing is loaded. */
status api_check_graph(const rf_model *m, err *e) {
    api_shape s = {.context = 16, .parallel = 1, .threads = 1, .tier = -1};
    s.exec = (exec_options){.max_tok = 16, .max_out = 1, .n_pages = 1, .page_tokens = 16, .passes = PASS_ALL};
    s.exec.type_k = s.exec.type_v = QUANT_F16;
    backend_memory mem;
    return measure(m, &s, &mem, e);
}

/* Resident pages of the program, libc, libm and jansson, stacks, and the heap's small tables (graph, plan): 3.7 MiB by
 * /proc/PID/smaps, for SmolLM2 as for a model of 1.2 billion parameters. */
enum { PROCESS_BYTES = 15 << 18, MARGIN_LEAST = 100 << 20 };

typedef struct {
    backend_memory mem;
    uint64_t vocabulary; /* tokenizer and header pages */
    uint64_t
        resident;  /* after a prompt that fills the context: every block is touched then, each weight is held once */
    uint64_t need; /* the most at any time: with the file's pages that are read while weights are repacked */
    uint64_t margin;
} budget;

static void budget_sum(budget *b, const rf_model *m) {
    b->vocabulary = tokenizer_bytes(m->text) + gguf_header_bytes(m->file);
    b->resident = b->mem.weights_own + b->mem.weights_mapped + b->mem.kv + b->mem.activations + b->mem.scratch +
                  b->vocabulary + PROCESS_BYTES;
    b->need = b->resident + b->mem.staging;
    b->margin = b->need / 10 > MARGIN_LEAST ? b->need / 10 : MARGIN_LEAST;
}

static status budget_make(budget *b, const rf_model *m, const api_shape *s, err *e) {
    status rc = measure(m, s, &b->mem, e);
    if (!rc) budget_sum(b, m);
    return rc;
}

static bool budget_fits(const budget *b, uint64_t available) { return b->need + b->margin <= available; }

/* The largest context, in steps of 256, whose need and margin fit; 0: none. A context too large to be planned at all fits
 * as little as one too large for the memory; only running out of memory ourselves is no answer. */
static status largest_context(uint32_t *out, const rf_model *m, const api_shape *s, uint64_t available, err *e) {
    uint32_t lo = 0, hi = (m->info.context_train ? m->info.context_train : CONTEXT_DEFAULT_MOST) / 256 + 1;
    while (lo + 1 < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        api_shape t = *s;
        t.context = mid * 256;
        t.exec.page_tokens = page_tokens_for(t.context);
        t.exec.n_pages = (t.context + t.exec.page_tokens - 1) / t.exec.page_tokens * t.parallel;
        budget b;
        status rc = budget_make(&b, m, &t, e);
        if (rc == ERR_NOMEM) return rc;
        if (rc == OK && budget_fits(&b, available))
            lo = mid;
        else
            hi = mid;
    }
    *out = lo * 256;
    return OK;
}

status api_check_memory(const rf_model *m, const api_shape *s, backend *b, err *e) {
    budget x = {0};
    status rc = exec_measure(m->file, &s->exec, &b, 1, &x.mem, e);
    if (rc) return rc;
    budget_sum(&x, m);
    uint64_t available = api_available_bytes();
    if (budget_fits(&x, available)) return OK;
    uint32_t largest;
    rc = largest_context(&largest, m, s, available, e);
    if (rc) return rc;
    return fail(
        e, ERR_MEMORY_PLAN,
        "%llu MiB are needed and %llu more as a margin, %llu are available; the KV cache of %u tokens takes %zu MiB: "
        "the largest context that fits is %u (-c)",
        (unsigned long long)(x.need >> 20), (unsigned long long)(x.margin >> 20), (unsigned long long)(available >> 20),
        s->context, x.mem.kv >> 20, largest);
}

char *rf_plan(const rf_model *m, const rf_engine_options *opt, rf_error *e) {
    static const rf_engine_options defaults;
    err why = {0};
    api_shape s;
    budget b = {0};
    char *text = NULL;
    status rc = api_shape_make(&s, m, opt ? opt : &defaults, &why);
    if (!rc) rc = budget_make(&b, m, &s, &why);
    uint64_t available = api_available_bytes();
    uint32_t largest = 0;
    if (!rc) rc = largest_context(&largest, m, &s, available, &why);
    if (!rc) {
        json_t *v = json_pack(
            "{ss si si si ss ss s{sI sI sI sI sI sI sI sI} sI sI sI sI sb sI}", "device", "cpu", "context",
            (int)s.context, "parallel", (int)s.parallel, "ubatch", (int)s.exec.max_tok, "cache_type_k",
            quant_lookup(s.exec.type_k)->name, "cache_type_v", quant_lookup(s.exec.type_v)->name, "bytes",
            "weights_repacked", (json_int_t)b.mem.weights_own, "weights_mapped", (json_int_t)b.mem.weights_mapped, "kv",
            (json_int_t)b.mem.kv, "activations", (json_int_t)b.mem.activations, "scratch", (json_int_t)b.mem.scratch,
            "vocabulary", (json_int_t)b.vocabulary, "process", (json_int_t)PROCESS_BYTES, "staging",
            (json_int_t)b.mem.staging, "need", (json_int_t)b.need, "margin", (json_int_t)b.margin, "expected_resident",
            (json_int_t)b.resident, "available", (json_int_t)available, "fits", (int)budget_fits(&b, available),
            "largest_context", (json_int_t)largest);
        text = api_json(v, &rc, &why);
    }
    rc = api_if_unchanged(m->file, rc, &why);
    if (rc) {
        mem_free(text);
        text = NULL;
    }
    api_result(rc, &why, e);
    return text;
}
