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

/* What a GPU has to have free. shared: of an APU's need, what comes out of the host's memory. */
typedef struct {
    backend_memory mem;
    uint64_t need, margin, shared;
    gpu_room room;
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
    for (uint32_t i = 0; i < b->n_gpus; i++) b->resident += b->gpu[i].shared;
    b->need = b->resident + b->mem.staging;
    b->margin = margin_of(b->need);
}

static void add_gpu(budget *b, const backend_memory *m) {
    gpu_budget *g = &b->gpu[b->n_gpus++];
    g->mem = *m; /* room stays */
    g->need = (uint64_t)m->weights_own + m->kv + m->activations + m->scratch;
    g->margin = margin_of(g->need);
    g->shared = g->need > g->room.own_free && g->room.own_free < g->room.free_bytes ? g->need - g->room.own_free : 0;
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
static status look_around(budget *b, const api_shape *s, api_backends *backends, uint64_t *available, err *e) {
    *b = (budget){.b = backends};
    *available = s->host_bytes ? s->host_bytes : api_available_bytes();
    status rc = OK;
    for (uint32_t i = 0, g = 0; !rc && i < backends->n; i++)
        if (api_backend_is_gpu(backends->b[i])) {
            rc = gpu_backend_room(backends->b[i], &b->gpu[g].room, e);
            g++;
        }
    return rc;
}

static bool gpu_fits(const gpu_budget *g) { return g->need + g->margin <= g->room.free_bytes; }

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
    api_down_note(&s->down, DOWN_CACHE, ERR_MEMORY_PLAN,
                  "the KV cache holds %llu tokens instead of %llu: more does not fit into the memory that is available",
                  (unsigned long long)lo * s->exec.page_tokens, (unsigned long long)asked * s->exec.page_tokens);
    return rc;
}

static unsigned long long mib(uint64_t n) { return n >> 20; }

/* The fewest of the last layers that a GPU must take for the rest to fit into the host's memory; 0: none help. *now becomes
 * what all layers on the CPU would take. */
static status fewest_layers(uint32_t *out, const rf_model *m, const api_shape *s, budget *now, uint64_t available,
                            err *e) {
    status rc = OK;
    *out = 0;
    for (uint32_t n = 0; !rc && !*out && n <= s->split.n_layer; n++) {
        api_shape t = *s;
        budget b = *now;
        api_split_layers(&t, n);
        rc = budget_make(&b, m, &t, e);
        if (!rc && n == 0) *now = b;
        if (!rc && budget_fits(&b, available)) *out = n;
    }
    return rc;
}

static uint32_t short_gpu(const budget *x) { /* the first that is too small, else the last */
    uint32_t i = 0;
    while (i + 1 < x->n_gpus && gpu_fits(&x->gpu[i])) i++;
    return i;
}

static void note_layers(api_shape *s, const budget *all, uint32_t n, uint64_t available) {
    const gpu_budget *g = &all->gpu[short_gpu(all)];
    if (s->placement == PLACEMENT_CPU)
        api_down_note(
            &s->down, DOWN_LAYERS, ERR_MEMORY_PLAN,
            "%u of %u layers run on the GPU, the others on the CPU, which was wanted for all: that takes %llu "
            "MiB and %llu more as a margin, %llu are available",
            n, s->split.n_layer, mib(all->need), mib(all->margin), mib(available));
    else
        api_down_note(&s->down, DOWN_LAYERS, ERR_GPU_MEMORY,
                      "%u of %u layers run on the GPU, the others on the CPU: all take %llu MiB and %llu more as a "
                      "margin, %llu are free",
                      n, s->split.n_layer, mib(g->need), mib(g->margin), mib(g->room.free_bytes));
}

/* Layers that do not fit where they were wanted go to the other side, if the placement lets them. */
static status move_layers(api_shape *s, budget *x, const rf_model *m, uint64_t available, err *e) {
    bool cpu_first = s->placement == PLACEMENT_CPU, had_cpu = s->has_cpu;
    if (!s->may_split || !x->n_gpus) return OK;
    if (!cpu_first && gpu_fits(&x->gpu[short_gpu(x)])) return OK;
    status rc = had_cpu ? OK : api_backends_add_cpu(x->b, s, e);
    if (rc) return rc;
    uint32_t n = 0;
    s->has_cpu = true;
    rc = cpu_first ? fewest_layers(&n, m, s, x, available, e) : largest_layers(&n, m, s, x, e);
    if (rc || n) {
        if (n) note_layers(s, x, n, available);
        if (n) api_split_layers(s, n);
        return rc ? rc : budget_make(x, m, s, e);
    }
    s->has_cpu = had_cpu;
    if (had_cpu) return OK;
    backend *cpu = x->b->b[--x->b->n];
    cpu->ops->close(cpu);
    return OK;
}

static status refuse_gpu(const budget *x, const api_shape *s, const rf_model *m, const char *hint, err *e) {
    uint32_t i = short_gpu(x), layers = 0;
    const gpu_budget *g = &x->gpu[i];
    status rc = largest_layers(&layers, m, s, x, e);
    if (rc) return rc;
    char or [80] = "; not one layer fits";
    if (layers) snprintf(or, sizeof or, "; or -ngl %u leaves the other layers to the CPU", layers);
    return fail(
        e, ERR_GPU_MEMORY,
        "%s: %llu MiB are needed (weights %llu, KV cache %llu, activations and scratch %llu) and %llu more as a "
        "margin, %llu of %llu are free: %s%s",
        s->gpus->device[s->split.gpu[i]].facts.name, mib(g->need), mib(g->mem.weights_own), mib(g->mem.kv),
        mib(g->mem.activations + g->mem.scratch), mib(g->margin), mib(g->room.free_bytes), mib(g->room.total), hint,
        or);
}

status api_fit_memory(api_shape *s, const rf_model *m, api_backends *b, err *e) {
    budget x;
    uint64_t available;
    status rc = look_around(&x, s, b, &available, e);
    if (!rc) rc = budget_make(&x, m, s, e);
    if (!rc) rc = shrink_cache(s, &x, m, available, e);
    if (!rc) rc = move_layers(s, &x, m, available, e);
    if (rc || budget_fits(&x, available)) return rc;
    uint32_t largest = 0;
    if (!s->fixed_cache && (rc = largest_context(&largest, m, s, &x, available, e))) return rc;
    char hint[80] = "give it fewer tokens";
    if (!s->fixed_cache) snprintf(hint, sizeof hint, "the largest context that fits is %u (-c)", largest);
    if (!s->fixed_cache && !largest) snprintf(hint, sizeof hint, "no context fits");
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
                                   (json_int_t)g->room.free_bytes, "total", (json_int_t)g->room.total, "fits",
                                   (int)gpu_fits(g)));
    }
    return all;
}

static json_t *plan_object(const budget *b, const api_shape *s, uint64_t available, uint32_t largest) {
    const exec_options *x = &s->exec;
    return json_pack(
        "{ss si si si sI si ss ss s{sI sI sI sI sI sI sI sI sI} sI sI sI sI sb sI so so so ss ss ss}", "device",
        b->n_gpus ? "gpu" : "cpu", "context", (int)s->context, "parallel", (int)s->parallel, "ubatch", (int)x->max_tok,
        "kv_tokens", (json_int_t)x->n_pages * x->page_tokens, "page_tokens", (int)x->page_tokens, "cache_type_k",
        quant_lookup(x->type_k)->name, "cache_type_v", quant_lookup(x->type_v)->name, "bytes", "weights_repacked",
        (json_int_t)b->mem.weights_own, "weights_mapped", (json_int_t)b->mem.weights_mapped, "kv",
        (json_int_t)b->mem.kv, "activations", (json_int_t)b->mem.activations, "scratch", (json_int_t)b->mem.scratch,
        "vocabulary", (json_int_t)b->vocabulary, "tables", (json_int_t)b->tables, "process", (json_int_t)PROCESS_BYTES,
        "staging", (json_int_t)b->mem.staging, "need", (json_int_t)b->need, "margin", (json_int_t)b->margin,
        "expected_resident", (json_int_t)b->resident, "available", (json_int_t)available, "fits",
        (int)budget_fits(b, available), "largest_context", (json_int_t)largest, "gpus", gpus_of(b, s), "warnings",
        api_down_texts(&s->down), "downgrades", api_down_json(&s->down), "placement", api_placement_name(s->placement),
        "reason", s->reason, "reason_code", api_why_name(s->why));
}

/* again: it does not fit, and the placement knows another way. */
static status plan_once(char **text, const rf_model *m, api_shape *s, const rf_engine_options *opt, bool *again,
                        err *e) {
    api_backends backends;
    budget b;
    uint64_t available = 0;
    uint32_t largest = 0;
    status rc = api_backends_open(&backends, s, e);
    if (rc) return rc;
    rc = look_around(&b, s, &backends, &available, e);
    if (!rc) rc = budget_make(&b, m, s, e);
    if (!rc) rc = shrink_cache(s, &b, m, available, e);
    if (!rc) rc = move_layers(s, &b, m, available, e);
    *again = !rc && !budget_fits(&b, available) && api_retreat(s, m, opt, &(err){.code = ERR_MEMORY_PLAN});
    if (!rc && !*again) rc = largest_context(&largest, m, s, &b, available, e);
    if (!rc && !*again) api_note_moved(s, &backends);
    if (!rc && !*again) *text = api_json(plan_object(&b, s, available, largest), &rc, e);
    api_backends_close(&backends);
    return rc;
}

static status make_plan(char **text, const rf_model *m, api_shape *s, const rf_engine_options *opt, err *e) {
    bool again = false;
    status rc = OK;
    do {
        rc = api_place_by_cost(s, m, e);
        if (!rc) rc = plan_once(text, m, s, opt, &again, e);
    } while (again || (rc && api_retreat(s, m, opt, e)));
    return rc;
}

char *rf_plan(const rf_model *m, const rf_engine_options *opt, rf_error *e) {
    static const rf_engine_options defaults;
    err why = {0};
    api_shape s;
    char *text = NULL;
    if (!opt) opt = &defaults;
    status rc = api_shape_make(&s, m, opt, &why);
    if (!rc) {
        rc = make_plan(&text, m, &s, opt, &why);
        if (rc && api_fall_back(&s, &why)) rc = make_plan(&text, m, &s, opt, &why);
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
