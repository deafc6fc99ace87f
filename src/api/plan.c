/* What an engine's shape takes of memory, from the file's header alone, and whether it fits. */
#include "api/api.h"

#include "base/mem.h"

#include <stdio.h>

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
    uint64_t tables;     /* who holds which page, what it holds; the folder's queue */
    uint64_t
        resident;  /* after a prompt that fills the context: every block is touched then, each weight is held once */
    uint64_t need; /* the most at any time: with the file's pages that are read while weights are repacked */
    uint64_t margin;
} budget;

static void budget_sum(budget *b, const rf_model *m, const api_shape *s) {
    const exec_options *x = &s->exec;
    b->vocabulary = tokenizer_bytes(m->text) + gguf_header_bytes(m->file);
    b->tables = kv_pool_memory(x->n_pages);
    if (!s->sched.no_prefix) b->tables += kv_prefix_memory(x->n_pages, x->page_tokens);
    if (s->folder.dir) b->tables += kv_disk_memory(&s->folder) + s->folder.page_bytes; /* and a page on its way there */
    b->resident = b->mem.weights_own + b->mem.weights_mapped + b->mem.kv + b->mem.activations + b->mem.scratch +
                  b->vocabulary + b->tables + PROCESS_BYTES;
    b->need = b->resident + b->mem.staging;
    b->margin = b->need / 10 > MARGIN_LEAST ? b->need / 10 : MARGIN_LEAST;
}

static status budget_make(budget *b, const rf_model *m, const api_shape *s, err *e) {
    status rc = measure(m, s, &b->mem, e);
    if (!rc) budget_sum(b, m, s);
    return rc;
}

static bool budget_fits(const budget *b, uint64_t available) { return b->need + b->margin <= available; }

/* --- what fits ------------------------------------------------------------------------------------------------------------ */

/* Pages of one context: no cache can be smaller. */
static uint32_t least_pages(const api_shape *s) {
    return s->context / s->exec.page_tokens + (s->context % s->exec.page_tokens != 0);
}

/* The shape with another context: its cache grows along, but for one whose size was given. */
static bool with_context(api_shape *t, const api_shape *s, uint32_t context) {
    *t = *s;
    t->context = context;
    if (!s->fixed_cache) t->exec.page_tokens = api_page_tokens(context);
    uint64_t n = (uint64_t)least_pages(t) * (s->may_shrink ? 1 : s->parallel);
    if (s->fixed_cache && !s->may_shrink) n = s->exec.n_pages;
    if (n > UINT32_MAX || n < least_pages(t)) return false;
    t->exec.n_pages = (uint32_t)n;
    return true;
}

/* The largest context, in steps of 256, whose need and margin fit; 0: none. A context too large to be planned at all fits
 * as little as one too large for the memory; only running out of memory ourselves is no answer. */
static status largest_context(uint32_t *out, const rf_model *m, const api_shape *s, uint64_t available, err *e) {
    uint32_t lo = 0, hi = (m->info.context_train ? m->info.context_train : CONTEXT_DEFAULT_MOST) / 256 + 1;
    while (lo + 1 < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        api_shape t;
        budget b;
        status rc = with_context(&t, s, mid * 256) ? budget_make(&b, m, &t, e) : ERR_RANGE;
        if (rc == ERR_NOMEM) return rc;
        if (rc == OK && budget_fits(&b, available))
            lo = mid;
        else
            hi = mid;
    }
    *out = lo * 256;
    return OK;
}

/* Where the cache may be smaller than asked for: the most pages that fit, one context at least. b is what s takes; both are
 * brought up to it. Only the cache and its tables change with the number of pages. */
static void shrink_cache(api_shape *s, budget *b, const rf_model *m, uint64_t available) {
    uint32_t lo = least_pages(s), hi = s->exec.n_pages, asked = hi;
    if (!s->may_shrink || budget_fits(b, available) || lo >= hi) return;
    size_t per_page = b->mem.kv / asked;
    while (hi - lo > 1) { /* hi does not fit; lo may not either, then it is what remains to be refused */
        s->exec.n_pages = lo + (hi - lo) / 2;
        b->mem.kv = per_page * s->exec.n_pages;
        budget_sum(b, m, s);
        if (budget_fits(b, available))
            lo = s->exec.n_pages;
        else
            hi = s->exec.n_pages;
    }
    s->exec.n_pages = lo;
    b->mem.kv = per_page * lo;
    budget_sum(b, m, s);
    snprintf(s->warning, sizeof s->warning,
             "the KV cache holds %llu tokens instead of %llu: more does not fit into the %llu MiB that are available",
             (unsigned long long)lo * s->exec.page_tokens, (unsigned long long)asked * s->exec.page_tokens,
             (unsigned long long)(available >> 20));
}

status api_fit_memory(api_shape *s, const rf_model *m, backend *b, err *e) {
    budget x = {0};
    status rc = exec_measure(m->file, &s->exec, &b, 1, &x.mem, e);
    if (rc) return rc;
    budget_sum(&x, m, s);
    uint64_t available = api_available_bytes();
    shrink_cache(s, &x, m, available);
    if (budget_fits(&x, available)) return OK;
    uint32_t largest = 0;
    if (!s->fixed_cache && (rc = largest_context(&largest, m, s, available, e))) return rc;
    char hint[80] = "give it fewer tokens";
    if (!s->fixed_cache) snprintf(hint, sizeof hint, "the largest context that fits is %u (-c)", largest);
    return fail(e, ERR_MEMORY_PLAN,
                "%llu MiB are needed and %llu more as a margin, %llu are available; the KV cache of %llu tokens takes "
                "%zu MiB: %s",
                (unsigned long long)(x.need >> 20), (unsigned long long)(x.margin >> 20),
                (unsigned long long)(available >> 20), (unsigned long long)s->exec.n_pages * s->exec.page_tokens,
                x.mem.kv >> 20, hint);
}

char *rf_plan(const rf_model *m, const rf_engine_options *opt, rf_error *e) {
    static const rf_engine_options defaults;
    err why = {0};
    api_shape s;
    budget b = {0};
    char *text = NULL;
    status rc = api_shape_make(&s, m, opt ? opt : &defaults, &why);
    if (!rc) rc = budget_make(&b, m, &s, &why);
    if (rc && api_fall_back(&s, &why)) rc = budget_make(&b, m, &s, &why);
    uint64_t available = api_available_bytes();
    uint32_t largest = 0;
    if (!rc) shrink_cache(&s, &b, m, available);
    if (!rc) rc = largest_context(&largest, m, &s, available, &why);
    if (!rc) {
        json_t *v = json_pack(
            "{ss si si si sI si ss ss s{sI sI sI sI sI sI sI sI sI} sI sI sI sI sb sI so}", "device",
            s.gpus ? "gpu" : "cpu", "context", (int)s.context, "parallel", (int)s.parallel, "ubatch",
            (int)s.exec.max_tok, "kv_tokens", (json_int_t)s.exec.n_pages * s.exec.page_tokens, "page_tokens",
            (int)s.exec.page_tokens, "cache_type_k", quant_lookup(s.exec.type_k)->name, "cache_type_v",
            quant_lookup(s.exec.type_v)->name, "bytes", "weights_repacked", (json_int_t)b.mem.weights_own,
            "weights_mapped", (json_int_t)b.mem.weights_mapped, "kv", (json_int_t)b.mem.kv, "activations",
            (json_int_t)b.mem.activations, "scratch", (json_int_t)b.mem.scratch, "vocabulary", (json_int_t)b.vocabulary,
            "tables", (json_int_t)b.tables, "process", (json_int_t)PROCESS_BYTES, "staging", (json_int_t)b.mem.staging,
            "need", (json_int_t)b.need, "margin", (json_int_t)b.margin, "expected_resident", (json_int_t)b.resident,
            "available", (json_int_t)available, "fits", (int)budget_fits(&b, available), "largest_context",
            (json_int_t)largest, "warnings", api_warnings(&s));
        text = api_json(v, &rc, &why);
    }
    api_shape_close(&s);
    rc = api_if_unchanged(m->file, rc, &why);
    if (rc) {
        mem_free(text);
        text = NULL;
    }
    api_result(rc, &why, e);
    return text;
}
