/* What an engine's shape takes of memory, from the file's header alone, and whether it fits. */
#include "api/api.h"

#include "backend/gpu/gpu.h"
#include "base/mem.h"

#include <stdio.h>

/* Whatever engine_open would refuse about the file, found with the smallest engine there is; nothing is loaded. */
status api_check_graph(const rf_model *m, err *e) {
    api_shape s = {.context = 16, .parallel = 1, .threads = 1, .tier = -1};
    s.exec = (exec_options){.max_tok = 16, .max_out = 1, .n_pages = 1, .page_tokens = 16, .passes = PASS_ALL};
    s.exec.type_k = s.exec.type_v = QUANT_F16;
    api_backends b;
    backend_memory mem;
    status rc = api_backends_open(&b, &s, e);
    if (rc) return rc;
    rc = exec_measure(m->file, &s.exec, b.b, b.n, &mem, e);
    api_backends_close(&b);
    return rc;
}

/* Resident pages of the program, libc, libm and jansson, stacks, and the heap's small tables (graph, plan): 3.7 MiB by
 * /proc/PID/smaps, for SmolLM2 as for a model of 1.2 billion parameters. */
enum { PROCESS_BYTES = 15 << 18, MARGIN_LEAST = 100 << 20 };

/* What a GPU has to have free. */
typedef struct {
    backend_memory mem;
    uint64_t need, margin, available, total;
} gpu_budget;

typedef struct {
    api_backends *b;
    gpu_budget gpu[API_MAX_GPUS];
    uint32_t n_gpus;
    backend_memory mem;  /* the host's: what the CPU computes with, and what GPUs want beside theirs */
    uint64_t vocabulary; /* tokenizer and header pages */
    uint64_t tables;     /* who holds which page, what it holds; the folder's queue */
    uint64_t
        resident;  /* after a prompt that fills the context: every block is touched then, each weight is held once */
    uint64_t need; /* the most at any time: with the file's pages that are read while weights are repacked */
    uint64_t margin;
} budget;

static uint64_t margin_of(uint64_t need) { return need / 10 > MARGIN_LEAST ? need / 10 : MARGIN_LEAST; }

static void budget_sum(budget *b, const rf_model *m, const api_shape *s) {
    const exec_options *x = &s->exec;
    b->vocabulary = tokenizer_bytes(m->text) + gguf_header_bytes(m->file);
    b->tables = kv_pool_memory(x->n_pages);
    if (!s->sched.no_prefix) b->tables += kv_prefix_memory(x->n_pages, x->page_tokens);
    if (s->folder.dir) b->tables += kv_disk_memory(&s->folder) + s->folder.page_bytes; /* and a page on its way there */
    b->resident = b->mem.weights_own + b->mem.weights_mapped + b->mem.kv + b->mem.activations + b->mem.scratch +
                  b->vocabulary + b->tables + PROCESS_BYTES;
    b->need = b->resident + b->mem.staging;
    b->margin = margin_of(b->need);
}

static void add_gpu(budget *b, const backend_memory *m) {
    gpu_budget *g = &b->gpu[b->n_gpus++];
    g->mem = *m; /* available and total stay */
    g->need = (uint64_t)m->weights_own + m->kv + m->activations + m->scratch;
    g->margin = margin_of(g->need);
    b->mem.scratch += m->host;
    b->mem.staging += m->staging;
}

static void add_cpu(budget *b, const backend_memory *m) {
    b->mem.weights_own += m->weights_own;
    b->mem.weights_mapped += m->weights_mapped;
    b->mem.activations += m->activations;
    b->mem.kv += m->kv;
    b->mem.scratch += m->scratch;
    b->mem.staging += m->staging;
}

/* b->b and what GPUs have free are kept. */
static status budget_make(budget *b, const rf_model *m, const api_shape *s, err *e) {
    backend_memory mem[PLAN_MAX_DEVICES];
    exec_options x = api_exec_options(s, b->b);
    status rc = exec_measure(m->file, &x, b->b->b, b->b->n, mem, e);
    if (rc) return rc;
    b->mem = (backend_memory){0};
    b->n_gpus = 0;
    for (uint32_t i = 0; i < b->b->n; i++) {
        if (api_backend_is_gpu(b->b->b[i]))
            add_gpu(b, &mem[i]);
        else
            add_cpu(b, &mem[i]);
    }
    budget_sum(b, m, s);
    return OK;
}

/* What is free now, on the host and on each GPU. */
static status look_around(budget *b, api_backends *backends, uint64_t *available, err *e) {
    *b = (budget){.b = backends};
    *available = api_available_bytes();
    status rc = OK;
    for (uint32_t i = 0, g = 0; !rc && i < backends->n; i++)
        if (api_backend_is_gpu(backends->b[i])) {
            rc = gpu_backend_available(backends->b[i], &b->gpu[g].available, &b->gpu[g].total, e);
            g++;
        }
    return rc;
}

static bool gpu_fits(const gpu_budget *g) { return g->need + g->margin <= g->available; }

static bool budget_fits(const budget *b, uint64_t available) {
    for (uint32_t i = 0; i < b->n_gpus; i++)
        if (!gpu_fits(&b->gpu[i])) return false;
    return b->need + b->margin <= available;
}

/* --- what fits ------------------------------------------------------------------------------------------------------------ */

/* Pages of one context: no cache can be smaller. */
static uint32_t least_pages(const api_shape *s) {
    return s->context / s->exec.page_tokens + (s->context % s->exec.page_tokens != 0);
}

/* The shape with another context: its cache grows along, but for one whose size was given. */
static bool with_context(api_shape *t, const api_shape *s, uint32_t context) {
    if (s->whole && context > UBATCH_MOST) return false;
    *t = *s;
    t->context = context;
    if (!s->fixed_cache) t->exec.page_tokens = api_page_tokens(context);
    if (s->whole) api_size_step(t, t->exec.max_out);
    uint64_t n = s->may_shrink ? least_pages(t) : api_cache_pages(t);
    if (s->fixed_cache && !s->may_shrink) n = s->exec.n_pages;
    if (n > UINT32_MAX || n < least_pages(t)) return false;
    t->exec.n_pages = (uint32_t)n;
    return true;
}

/* The largest context, in steps of 256, whose need and margin fit; 0: none. A context too large to be planned at all fits
 * as little as one too large for the memory; only running out of memory ourselves is no answer. */
static status largest_context(uint32_t *out, const rf_model *m, const api_shape *s, const budget *now,
                              uint64_t available, err *e) {
    uint32_t lo = 0, hi = (m->info.context_train ? m->info.context_train : CONTEXT_DEFAULT_MOST) / 256 + 1;
    while (lo + 1 < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        api_shape t;
        budget b = *now;
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

/* The most of the last layers that GPUs could have; 0: none. The rest would be the CPU's. */
static status largest_layers(uint32_t *out, const rf_model *m, const api_shape *s, const budget *now, err *e) {
    uint32_t lo = 0, hi = s->split.n_layer;
    api_shape t = *s;
    api_backends cpu = {0}, all = *now->b;
    t.gpus = NULL;
    status rc = s->has_cpu ? OK : api_backends_open(&cpu, &t, e);
    if (rc) return rc;
    if (cpu.n) all.b[all.n++] = cpu.b[0];
    while (lo + 1 < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        bool fits = true;
        budget b = *now;
        b.b = &all;
        t = *s;
        api_split_layers(&t, mid);
        status now_rc = budget_make(&b, m, &t, e);
        for (uint32_t i = 0; i < b.n_gpus; i++) fits = fits && gpu_fits(&b.gpu[i]);
        if (!now_rc && fits)
            lo = mid;
        else
            hi = mid;
    }
    api_backends_close(&cpu);
    *out = lo;
    return OK;
}

/* Where the cache may be smaller than asked for: the most pages that fit, one context at least. b is what s takes; both are
 * brought up to it. */
static status shrink_cache(api_shape *s, budget *b, const rf_model *m, uint64_t available, err *e) {
    uint32_t lo = least_pages(s), hi = s->exec.n_pages, asked = hi;
    if (!s->may_shrink || budget_fits(b, available) || lo >= hi) return OK;
    status rc = OK;
    while (!rc && hi - lo > 1) { /* hi does not fit; lo may not either, then it is what remains to be refused */
        s->exec.n_pages = lo + (hi - lo) / 2;
        rc = budget_make(b, m, s, e);
        if (budget_fits(b, available))
            lo = s->exec.n_pages;
        else
            hi = s->exec.n_pages;
    }
    s->exec.n_pages = lo;
    if (!rc) rc = budget_make(b, m, s, e);
    snprintf(s->warning, sizeof s->warning,
             "the KV cache holds %llu tokens instead of %llu: more does not fit into the memory that is available",
             (unsigned long long)lo * s->exec.page_tokens, (unsigned long long)asked * s->exec.page_tokens);
    return rc;
}

static unsigned long long mib(uint64_t n) { return n >> 20; }

static status refuse_gpu(const budget *x, const api_shape *s, const rf_model *m, const char *hint, err *e) {
    uint32_t i = 0, layers = 0;
    while (i + 1 < x->n_gpus && gpu_fits(&x->gpu[i])) i++;
    const gpu_budget *g = &x->gpu[i];
    status rc = largest_layers(&layers, m, s, x, e);
    if (rc) return rc;
    return fail(
        e, ERR_GPU_MEMORY,
        "%s: %llu MiB are needed (weights %llu, KV cache %llu, activations and scratch %llu) and %llu more as a "
        "margin, %llu of %llu are free: %s; or -ngl %u leaves the other layers to the CPU",
        s->gpus->device[s->split.gpu[i]].facts.name, mib(g->need), mib(g->mem.weights_own), mib(g->mem.kv),
        mib(g->mem.activations + g->mem.scratch), mib(g->margin), mib(g->available), mib(g->total), hint, layers);
}

status api_fit_memory(api_shape *s, const rf_model *m, api_backends *b, err *e) {
    budget x;
    uint64_t available;
    status rc = look_around(&x, b, &available, e);
    if (!rc) rc = budget_make(&x, m, s, e);
    if (!rc) rc = shrink_cache(s, &x, m, available, e);
    if (rc || budget_fits(&x, available)) return rc;
    uint32_t largest = 0;
    if (!s->fixed_cache && (rc = largest_context(&largest, m, s, &x, available, e))) return rc;
    char hint[80] = "give it fewer tokens";
    if (!s->fixed_cache) snprintf(hint, sizeof hint, "the largest context that fits is %u (-c)", largest);
    if (x.need + x.margin <= available) return refuse_gpu(&x, s, m, hint, e);
    return fail(e, ERR_MEMORY_PLAN,
                "%llu MiB are needed and %llu more as a margin, %llu are available; the KV cache of %llu tokens takes "
                "%zu MiB: %s",
                mib(x.need), mib(x.margin), mib(available), (unsigned long long)s->exec.n_pages * s->exec.page_tokens,
                x.mem.kv >> 20, hint);
}

/* --- the plan as JSON ---------------------------------------------------------------------------------------------------- */

static uint32_t layers_of(const api_split *p, uint32_t i) { return p->end[i] - (i ? p->end[i - 1] : p->first); }

static json_t *gpus_of(const budget *b, const api_shape *s) {
    json_t *all = json_array();
    for (uint32_t i = 0; i < b->n_gpus; i++) {
        const gpu_budget *g = &b->gpu[i];
        const gpu_facts *f = &s->gpus->device[s->split.gpu[i]].facts;
        api_append(&all, json_pack("{si ss ss si s{sI sI sI sI} sI sI sI sI sb}", "index", (int)s->split.gpu[i], "name",
                                   f->name, "arch", f->arch, "layers", (int)layers_of(&s->split, i), "bytes", "weights",
                                   (json_int_t)g->mem.weights_own, "kv", (json_int_t)g->mem.kv, "activations",
                                   (json_int_t)g->mem.activations, "scratch", (json_int_t)g->mem.scratch, "need",
                                   (json_int_t)g->need, "margin", (json_int_t)g->margin, "available",
                                   (json_int_t)g->available, "total", (json_int_t)g->total, "fits", (int)gpu_fits(g)));
    }
    return all;
}

static json_t *plan_object(const budget *b, const api_shape *s, uint64_t available, uint32_t largest) {
    const exec_options *x = &s->exec;
    return json_pack("{ss si si si sI si ss ss s{sI sI sI sI sI sI sI sI sI} sI sI sI sI sb sI so so}", "device",
                     b->n_gpus ? "gpu" : "cpu", "context", (int)s->context, "parallel", (int)s->parallel, "ubatch",
                     (int)x->max_tok, "kv_tokens", (json_int_t)x->n_pages * x->page_tokens, "page_tokens",
                     (int)x->page_tokens, "cache_type_k", quant_lookup(x->type_k)->name, "cache_type_v",
                     quant_lookup(x->type_v)->name, "bytes", "weights_repacked", (json_int_t)b->mem.weights_own,
                     "weights_mapped", (json_int_t)b->mem.weights_mapped, "kv", (json_int_t)b->mem.kv, "activations",
                     (json_int_t)b->mem.activations, "scratch", (json_int_t)b->mem.scratch, "vocabulary",
                     (json_int_t)b->vocabulary, "tables", (json_int_t)b->tables, "process", (json_int_t)PROCESS_BYTES,
                     "staging", (json_int_t)b->mem.staging, "need", (json_int_t)b->need, "margin",
                     (json_int_t)b->margin, "expected_resident", (json_int_t)b->resident, "available",
                     (json_int_t)available, "fits", (int)budget_fits(b, available), "largest_context",
                     (json_int_t)largest, "gpus", gpus_of(b, s), "warnings", api_warnings(s));
}

static status make_plan(char **text, const rf_model *m, api_shape *s, err *e) {
    api_backends backends;
    budget b;
    uint64_t available = 0;
    uint32_t largest = 0;
    status rc = api_backends_open(&backends, s, e);
    if (rc) return rc;
    rc = look_around(&b, &backends, &available, e);
    if (!rc) rc = budget_make(&b, m, s, e);
    if (!rc) rc = shrink_cache(s, &b, m, available, e);
    if (!rc) rc = largest_context(&largest, m, s, &b, available, e);
    if (!rc) *text = api_json(plan_object(&b, s, available, largest), &rc, e);
    api_backends_close(&backends);
    return rc;
}

char *rf_plan(const rf_model *m, const rf_engine_options *opt, rf_error *e) {
    static const rf_engine_options defaults;
    err why = {0};
    api_shape s;
    char *text = NULL;
    status rc = api_shape_make(&s, m, opt ? opt : &defaults, &why);
    if (!rc) {
        rc = make_plan(&text, m, &s, &why);
        if (rc && api_fall_back(&s, &why)) rc = make_plan(&text, m, &s, &why);
        api_shape_close(&s);
    }
    rc = api_if_unchanged(m->file, rc, &why);
    if (rc) {
        mem_free(text);
        text = NULL;
    }
    api_result(rc, &why, e);
    return text;
}
