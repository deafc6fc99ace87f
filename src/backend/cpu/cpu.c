#include "backend/cpu/cpu.h"

#include "backend/cpu/cpu_state.h"
#include "backend/traffic.h"
#include "base/clock.h"
#include "base/mem.h"
#include "graph/ops.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cpu_value cpu_value_of(const cpu_backend *c, const node *n) {
    if (n->op == OP_WEIGHT) return (cpu_value){(uint8_t *)(uintptr_t)c->weight[n->id].data, 0};
    const plan_buffer *b = &c->p->buffer[n->id];
    return (cpu_value){c->act_block + b->offset, b->stride};
}

uint32_t cpu_rows(const cpu_backend *c, const node *n) {
    return n->rows == ROWS_TOK ? c->in->n_tok : n->rows == ROWS_OUT ? c->in->n_out : 1;
}

cpu_act cpu_act_at(uint8_t *data, uint32_t width, uint32_t n_rows, graph_dtype t) {
    size_t codes = align64((size_t)width * n_rows), blocks = width / 32;
    uint32_t scale_block = t == DTYPE_Q8K ? 256 : 32;
    return (cpu_act){.code = (int8_t *)data,
                     .sum = (int16_t *)(data + codes),
                     .scale = (float *)(data + codes + align64(blocks * n_rows * 2 * sizeof(int16_t))),
                     .n_tok = n_rows,
                     .scale_block = scale_block};
}

size_t cpu_act_bytes(uint32_t width, uint32_t n_rows, graph_dtype t) {
    size_t scales = (size_t)width / (t == DTYPE_Q8K ? 256 : 32) * n_rows * sizeof(float);
    return align64((size_t)width * n_rows) + align64((size_t)width / 32 * n_rows * 4) + align64(scales);
}

cpu_act cpu_act_of(const cpu_backend *c, const node *n) {
    return cpu_act_at(cpu_value_of(c, n).data, n->width, cpu_rows(c, n), n->dtype);
}

static bool supports(const backend *b, const node *n) {
    (void)b; /* every op has a reference here */
    return n->op != OP_ATTENTION || n->p.attn.n_head / n->p.attn.n_kv_head <= CPU_MAX_GROUP;
}

/* The block has room for all layers; memory becomes resident only for those that run here. */
static size_t kv_bytes_here(const plan *p, uint32_t device, const kv_layout *kv) {
    size_t page = 0;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        if (n->op != OP_KV_APPEND && n->op != OP_ROPE_APPEND) continue;
        const kv_layer *l = &kv->layer[n->p.attn.kv_layer];
        if (n->device == device) page += l->head_bytes * l->n_kv_head;
    }
    return page < kv->page_bytes ? page * kv->n_pages : kv->n_bytes;
}

static status measure(const backend *b, const plan *p, uint32_t device, const kv_layout *kv, backend_memory *out,
                      err *e) {
    const cpu_backend *c = (const cpu_backend *)b;
    *out = (backend_memory){.activations = p->act_bytes[device], .kv = kv_bytes_here(p, device, kv)};
    out->scratch = cpu_scratch_measure(p, device, kv, c->n_threads);
    return cpu_weights_measure(c, p, device, out, e);
}

static status map_block(uint8_t **out, size_t *size, size_t n_bytes, const char *what, err *e) {
    *size = n_bytes ? n_bytes : 64;
    *out = mem_map(*size);
    return *out ? OK : fail(e, ERR_NOMEM, "cannot reserve %zu MiB for %s", n_bytes >> 20, what);
}

static status load(backend *b, const plan *p, uint32_t device, const kv_layout *kv,
                   void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, err *e) {
    cpu_backend *c = (cpu_backend *)b;
    c->p = p;
    c->device = device;
    c->kv = kv;
    status s = map_block(&c->act_block, &c->act_bytes, p->act_bytes[device], "activations", e);
    if (!s) s = map_block(&c->kv_block, &c->kv_bytes, kv->n_bytes, "the KV cache", e);
    if (!s) s = cpu_scratch_alloc(c, e);
    if (!s) s = cpu_weights_load(c, progress, ctx, e);
    if (!s) c->kv_warm = warm_open(c->kv_block, c->kv_bytes);
    return s;
}

/* Pages are given out from the front: up to the last one that the step uses, the block is in use. */
static size_t kv_in_use(const cpu_backend *c, const step_input *in) {
    uint32_t last = 0;
    for (uint32_t t = 0; t < in->n_tok; t++) {
        uint32_t page = in->page_table[in->seq[t]][(uint32_t)in->pos[t] / c->kv->page_tokens];
        if (page > last) last = page;
    }
    return (last + (size_t)1) * c->kv->page_bytes;
}

static void profile_add(cpu_backend *c, const node *n, int64_t ns) {
    backend_profile *p = &c->profile[n->op];
    if (n->op == OP_VIEW || op_is_input(n->op)) return;
    p->launches++;
    p->bytes += (uint64_t)traffic_of(n, c->in, c->kv);
    p->seconds += (double)ns / 1e9;
}

static const backend_profile *profile_rows(backend *b, uint32_t *n, bool reset) {
    cpu_backend *c = (cpu_backend *)b;
    *n = c->profile ? OP_COUNT : 0;
    for (uint32_t i = 0; c->profile && reset && i < OP_COUNT; i++)
        c->profile[i] = (backend_profile){.name = graph_op_name((graph_op)i)};
    return c->profile;
}

static status run(backend *b, const plan_segment *seg, const step_input *in, err *e) {
    (void)e;
    cpu_backend *c = (cpu_backend *)b;
    c->in = in;
    warm_reach(c->kv_warm, kv_in_use(c, in));
    for (uint32_t i = 0; i < seg->n; i++) {
        const node *n = c->p->order[seg->first + i];
        if (n->rows == ROWS_OUT && !in->n_out) continue;
        int64_t t0 = c->profile ? clock_ns() : 0;
        cpu_run_node(c, n);
        if (c->profile) profile_add(c, n, clock_ns() - t0);
    }
    return OK;
}

static status wait_done(backend *b, err *e) {
    (void)b, (void)e;
    return OK; /* run returns when all is done */
}

static status read_value(backend *b, const node *n, uint32_t n_rows, void *dst, err *e) {
    (void)e;
    cpu_value v = cpu_value_of((cpu_backend *)b, n);
    size_t row = graph_row_bytes(n->dtype, n->width);
    for (uint32_t r = 0; r < n_rows; r++) memcpy((char *)dst + r * row, v.data + r * v.stride, row);
    return OK;
}

static status write_value(backend *b, const node *n, uint32_t n_rows, const void *src, err *e) {
    (void)e;
    cpu_value v = cpu_value_of((cpu_backend *)b, n);
    size_t row = graph_row_bytes(n->dtype, n->width);
    for (uint32_t r = 0; r < n_rows; r++) memcpy(v.data + r * v.stride, (const char *)src + r * row, row);
    return OK;
}

static const void *peek(backend *b, const node *n, size_t *stride) {
    cpu_value v = cpu_value_of((cpu_backend *)b, n);
    *stride = v.stride;
    return v.data;
}

static void *page_at(cpu_backend *c, uint32_t page) { return (char *)c->kv_block + (size_t)page * c->kv->page_bytes; }

static status page_copy(backend *b, uint32_t to, uint32_t from, err *e) {
    (void)e;
    cpu_backend *c = (cpu_backend *)b;
    memcpy(page_at(c, to), page_at(c, from), c->kv->page_bytes);
    return OK;
}

static status page_read(backend *b, uint32_t page, void *dst, err *e) {
    (void)e;
    cpu_backend *c = (cpu_backend *)b;
    memcpy(dst, page_at(c, page), c->kv->page_bytes);
    return OK;
}

static status page_write(backend *b, uint32_t page, const void *src, err *e) {
    (void)e;
    cpu_backend *c = (cpu_backend *)b;
    memcpy(page_at(c, page), src, c->kv->page_bytes);
    return OK;
}

static void describe(const backend *b, strbuf *out) {
    const cpu_backend *c = (const cpu_backend *)b;
    cpu_name(out);
    strbuf_printf(out, " (%s, %u thread%s)", c->ops.name, c->n_threads, c->n_threads == 1 ? "" : "s");
}

static uint32_t host_work(backend *b, pool_fn fn, void *ctx, uint32_t n) {
    cpu_backend *c = (cpu_backend *)b;
    if (n == 1) fn(ctx, 0, 0);
    if (n > 1) pool_run(c->pool, fn, ctx, n);
    return c->n_threads;
}

static void close_cpu(backend *b) {
    cpu_backend *c = (cpu_backend *)b;
    if (!c) return;
    pool_close(c->pool);
    warm_close(c->kv_warm);
    mem_unmap(c->weight_block, c->weight_bytes);
    mem_unmap(c->act_block, c->act_bytes);
    mem_unmap(c->kv_block, c->kv_bytes);
    mem_unmap(c->scratch_block, c->scratch_bytes);
    mem_free(c->weight);
    mem_free(c->scratch);
    mem_free(c->profile);
    mem_free(c);
}

static const backend_ops cpu_backend_ops = {
    .kind = "cpu",
    .supports = supports,
    .measure = measure,
    .load = load,
    .run = run,
    .wait = wait_done,
    .read = read_value,
    .write = write_value,
    .peek = peek,
    .page_copy = page_copy,
    .page_read = page_read,
    .page_write = page_write,
    .host_work = host_work,
    .profile = profile_rows,
    .describe = describe,
    .close = close_cpu,
};

status cpu_backend_open(backend **out, const cpu_options *opt, err *e) {
    *out = NULL;
    cpu_backend *c = mem_zalloc(sizeof *c);
    if (!c) return fail(e, ERR_NOMEM, "CPU backend");
    c->base.ops = &cpu_backend_ops;
    c->tier = opt->tier < 0 ? cpu_tier_best() : (cpu_tier)opt->tier;
    c->n_threads = opt->n_threads ? opt->n_threads : cpu_default_threads();
    cpu_ops_init(&c->ops, c->tier);
    c->scratch = mem_array(c->n_threads, sizeof *c->scratch);
    if (opt->profile) c->profile = mem_array(OP_COUNT, sizeof *c->profile);
    uint32_t n_rows;
    if (c->profile) (void)profile_rows(&c->base, &n_rows, true);
    bool whole = c->scratch && (c->profile || !opt->profile);
    status s = whole ? pool_open(&c->pool, c->n_threads, e) : fail(e, ERR_NOMEM, "CPU backend");
    if (s)
        close_cpu(&c->base);
    else
        *out = &c->base;
    return s;
}

status cpu_tier_choose(const char *text, int *tier, err *e) {
    *tier = -1;
    if (!text || !*text) return OK;
    cpu_tier t;
    if (!cpu_tier_from_name(text, &t))
        return fail(e, ERR_CPU_TIER, "ROCMFORGE_CPU=%s: give scalar, avx2 or avx512", text);
    if (t > cpu_tier_best()) {
        cpu_ops best;
        cpu_ops_init(&best, cpu_tier_best());
        return fail(e, ERR_CPU_TIER, "ROCMFORGE_CPU=%s: this CPU has no %s; the best it has is %s", text, text,
                    best.name);
    }
    *tier = (int)t;
    return OK;
}

/* Physical cores among the CPUs this process may use: two hardware threads of one core share its vector units. A core is
 * counted at its first allowed thread. */
uint32_t cpu_default_threads(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    uint32_t n = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        char path[96];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        FILE *f = fopen(path, "r");
        int first = cpu, other = -1;
        char sep = 0;
        if (f && fscanf(f, "%d%c%d", &first, &sep, &other) < 1) first = cpu;
        if (f) fclose(f);
        if (first == cpu || first < 0 || first >= CPU_SETSIZE || !CPU_ISSET(first, &set)) n++;
    }
    return n ? min_u32(n, POOL_MAX_THREADS) : 1;
}

void cpu_name(strbuf *out) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        colon[1 + strcspn(colon + 1, "\n")] = 0;
        strbuf_puts(out, colon + 1 + strspn(colon + 1, " "));
        found = true;
    }
    if (f) fclose(f);
    if (!found) strbuf_puts(out, "CPU");
}
