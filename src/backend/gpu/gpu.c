#include "backend/gpu/gpu.h"

#include "backend/gpu/gpu_items.h"
#include "backend/gpu/gpu_profile.h"
#include "backend/gpu/gpu_sample.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static gpu_backend *of(backend *b) { return (gpu_backend *)b; }

/* --- sizes ------------------------------------------------------------------------------------------------------------- */

static uint32_t max_rows(const plan *p, graph_rows rows) {
    return rows == ROWS_TOK ? p->max_tok : rows == ROWS_OUT ? p->max_out : 1;
}

static size_t value_bytes(const plan *p, const node *n) {
    return max_rows(p, n->rows) * graph_row_bytes(n->dtype, n->width);
}

static bool is_incoming(const node *n, uint32_t device) { return n->op == OP_COPY && n->device == device; }
static bool is_result(const plan *p, const node *n, uint32_t device) {
    return n && n->device == device && (n == p->g->result || n == p->g->hidden || n == p->g->scores);
}

/* The cache's layers that this device has, side by side in a page of its own. */
static size_t own_page(const plan *p, uint32_t device, const kv_layout *kv, size_t *layer_at) {
    size_t at = 0;
    for (uint32_t l = 0; l < kv->n_layers; l++) {
        bool here = false;
        for (uint32_t i = 0; i < p->n_order && !here; i++) {
            const node *n = p->order[i];
            here = n->device == device && n->op == OP_ATTENTION && n->p.attn.kv_layer == l;
        }
        if (layer_at) layer_at[l] = here ? at : SIZE_MAX;
        if (here) at += kv->layer[l].head_bytes * kv->layer[l].n_kv_head;
    }
    return at;
}

typedef struct {
    gpu_tensor_sizes weights;
    size_t activations, page, kv, step, scratch, crossing, results, incoming, draws, draws_host;
} gpu_sizes;

static status measure_sizes(const plan *p, uint32_t device, const kv_layout *kv, gpu_sizes *z, err *e) {
    const gpu_scratch scratch = gpu_scratch_measure(p, device, kv);
    *z = (gpu_sizes){.activations = gpu_align(p->act_bytes[device]), .scratch = gpu_scratch_bytes(&scratch)};
    gpu_tensor *t = mem_array(p->g->n_nodes, sizeof *t);
    status s = t ? gpu_tensors_describe(p, device, t, &z->weights, e) : fail(e, ERR_NOMEM, "memory plan");
    mem_free(t);
    if (!s) s = gpu_step_measure(p, device, kv, &z->step, e);
    if (s) return s;
    gpu_draws_measure(p, device, &z->draws, &z->draws_host);
    z->page = own_page(p, device, kv, NULL);
    z->kv = z->page * kv->n_pages;
    z->crossing = z->page;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        if (is_incoming(n, device)) z->incoming += gpu_align(value_bytes(p, n));
        if (is_result(p, n, device)) z->results += gpu_align(value_bytes(p, n));
        if (n->op == OP_COPY && n->in[0]->device == device && value_bytes(p, n) > z->crossing)
            z->crossing = value_bytes(p, n);
    }
    return OK;
}

static status measure(const backend *b, const plan *p, uint32_t device, const kv_layout *kv, backend_memory *out,
                      err *e) {
    (void)b;
    gpu_sizes z;
    status s = measure_sizes(p, device, kv, &z, e);
    if (s) return s;
    *out = (backend_memory){.weights_own = z.weights.total,
                            .activations = z.activations,
                            .kv = z.kv,
                            .scratch = z.scratch + z.step + z.draws,
                            .staging = UPLOAD_BUFFERS * gpu_upload_buffer_bytes(z.weights.widest),
                            .host = z.step + z.crossing + z.results + z.incoming + z.draws_host};
    return OK;
}

enum { MARGIN_LEAST = 100 << 20 };

/* The margin is for what the driver takes beside: code, queues, the fragments of its own allocator. */
static status preflight(const gpu_backend *g, const backend_memory *m, err *e) {
    uint64_t need = (uint64_t)m->weights_own + m->activations + m->kv + m->scratch;
    gpu_room room;
    uint64_t margin = need / 10 > MARGIN_LEAST ? need / 10 : MARGIN_LEAST;
    status s = gpu_device_room(g->device, &room, e);
    if (s || need + margin <= room.free_bytes) return s;
    return fail(e, ERR_GPU_MEMORY,
                "%s: %" PRIu64 " MiB are needed (weights %zu, KV cache %zu, activations %zu, scratch %zu) and %" PRIu64
                " more as a margin; %" PRIu64 " of %" PRIu64 " MiB are free",
                g->device->facts.name, need >> 20, m->weights_own >> 20, m->kv >> 20, m->activations >> 20,
                m->scratch >> 20, margin >> 20, room.free_bytes >> 20, room.total >> 20);
}

/* --- load -------------------------------------------------------------------------------------------------------------- */

static status alloc_block(gpu_backend *g, size_t n_bytes, gpu_addr *out, const char *what, err *e) {
    status s = g->d->alloc(g->d, g->dev, n_bytes ? n_bytes : GPU_ALIGN, out, e);
    if (!s) s = g->d->fill(g->d, g->dev, *out, 0, n_bytes ? n_bytes : GPU_ALIGN, g->stream, e);
    return s ? fail_in(e, s, "%zu MiB for %s: ", n_bytes >> 20, what) : OK;
}

static status open_window(gpu_backend *g, gpu_window *w, const node *n, err *e) {
    void *p = NULL;
    size_t row = graph_row_bytes(n->dtype, n->width), bytes = value_bytes(g->p, n);
    status s = g->d->host_alloc(g->d, g->dev, bytes ? bytes : 1, &p, e);
    *w = (gpu_window){.n = n, .host = p, .stride = row};
    return s;
}

static uint32_t segment_of(const plan *p, const node *n) {
    while (n->op == OP_VIEW) n = n->in[0];
    for (uint32_t i = 0; i < p->n_segments; i++)
        for (uint32_t k = 0; k < p->segment[i].n; k++)
            if (p->order[p->segment[i].first + k] == n) return i;
    return UINT32_MAX;
}

static status open_windows(gpu_backend *g, size_t crossing, err *e) {
    const plan *p = g->p;
    const node *results[GPU_RESULTS] = {p->g->result, p->g->hidden, p->g->scores};
    void *host = NULL;
    status s = OK;
    for (uint32_t i = 0; !s && i < GPU_RESULTS; i++) {
        if (!is_result(p, results[i], g->id) || results[i]->op == OP_COPY)
            continue; /* that lies in host memory already */
        s = open_window(g, &g->result[i], results[i], e);
        g->result[i].segment = segment_of(p, results[i]);
    }
    g->incoming = mem_array(p->n_order, sizeof *g->incoming);
    if (!s && !g->incoming) s = fail(e, ERR_NOMEM, "copies between devices");
    for (uint32_t i = 0; !s && i < p->n_order; i++)
        if (is_incoming(p->order[i], g->id)) s = open_window(g, &g->incoming[g->n_incoming++], p->order[i], e);
    g->crossing_bytes = crossing ? crossing : 1;
    if (!s) s = g->d->host_alloc(g->d, g->dev, g->crossing_bytes, &host, e);
    g->crossing = host;
    return s;
}

static status alloc_blocks(gpu_backend *g, const gpu_sizes *z, err *e) {
    const gpu_scratch scratch = gpu_scratch_measure(g->p, g->id, g->kv);
    uint64_t state_bytes;
    g->layer_at = mem_array(g->kv->n_layers, sizeof *g->layer_at);
    if (!g->layer_at) return fail(e, ERR_NOMEM, "KV layout of the GPU");
    g->page_bytes = own_page(g->p, g->id, g->kv, g->layer_at);
    g->states = gpu_attention_states(g->p, g->id, g->kv, &state_bytes);
    g->group = gpu_attention_group(g->p, g->id);
    g->scratch_bytes = z->scratch;
    status s = alloc_block(g, z->activations, &g->act, "activations", e);
    if (!s) s = alloc_block(g, z->kv, &g->kv_block, "the KV cache", e);
    if (!s) s = alloc_block(g, z->scratch, &g->scratch, "scratch", e);
    g->lists = g->scratch + scratch.states;
    g->come = g->lists + scratch.lists;
    g->gated = g->come + scratch.come;
    return s;
}

static status load(backend *b, const plan *p, uint32_t device, const kv_layout *kv,
                   void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, err *e) {
    gpu_backend *g = of(b);
    gpu_sizes z;
    backend_memory m;
    g->p = p;
    g->id = device;
    g->kv = kv;
    status s = measure(b, p, device, kv, &m, e);
    if (!s) s = measure_sizes(p, device, kv, &z, e);
    if (!s) s = preflight(g, &m, e);
    if (!s) s = gpu_modules_load(g, e);
    if (!s) s = alloc_blocks(g, &z, e);
    if (!s) s = gpu_step_open(g, e);
    if (!s) s = open_windows(g, z.crossing, e);
    if (!s) s = gpu_draws_open(g, e);
    if (!s) s = gpu_tensors_load(g, progress, ctx, e);
    if (!s) s = gpu_items_make(g, e);
    if (!s) s = gpu_profile_open(g, e);
    if (!s) s = g->d->stream_wait(g->d, g->dev, g->stream, e);
    return s;
}

/* --- running ----------------------------------------------------------------------------------------------------------- */

static status run(backend *b, const plan_segment *seg, const step_input *in, err *e) {
    gpu_backend *g = of(b);
    uint32_t number = (uint32_t)(seg - g->p->segment);
    g->in = in;
    status s = number == g->first_segment ? gpu_step_begin(g, in, e) : OK;
    return s ? s : gpu_run_segment(g, number, e);
}

static status wait_done(backend *b, err *e) {
    gpu_backend *g = of(b);
    if (!g->pending) return OK;
    g->pending = false;
    g->count.syncs++;
    status s = g->d->stream_wait(g->d, g->dev, g->stream, e);
    return s ? s : gpu_profile_collect(g, e);
}

/* Through pinned memory, as many rows at a time as it holds. */
static status read_value(backend *b, const node *n, uint32_t n_rows, void *dst, err *e) {
    gpu_backend *g = of(b);
    gpu_value v = gpu_value_of(g, n);
    size_t row = graph_row_bytes(n->dtype, n->width);
    gpu_addr from = v.array < 0 ? v.at : v.at + g->now.at[v.array];
    status s = OK;
    for (uint32_t r = 0; !s && r < n_rows; r++) {
        uint32_t n_now = v.stride == row ? (uint32_t)(g->crossing_bytes / row) : 1;
        if (n_now > n_rows - r) n_now = n_rows - r;
        if (row > g->crossing_bytes) return fail(e, ERR_INTERNAL, "a row of %zu bytes is read from the GPU", row);
        s = g->d->copy_out(g->d, g->dev, g->crossing, from + (uint64_t)r * v.stride, n_now * row, g->stream, e);
        if (!s) s = g->d->stream_wait(g->d, g->dev, g->stream, e);
        if (!s) memcpy((char *)dst + r * row, g->crossing, n_now * row);
        g->count.copies_out++;
        g->count.bytes_out += n_now * row;
        g->count.syncs++;
        r += n_now - 1;
    }
    return s;
}

/* A copy's value has pinned memory of its own, which nobody touches until the next step's copy: by then this one is done. */
static status write_value(backend *b, const node *n, uint32_t n_rows, const void *src, err *e) {
    gpu_backend *g = of(b);
    const gpu_window *w = g->incoming, *end = g->incoming + g->n_incoming;
    while (w < end && w->n != n) w++;
    if (w == end) return fail(e, ERR_INTERNAL, "%s is written on the GPU", graph_op_name(n->op));
    size_t n_bytes = n_rows * w->stride;
    memcpy(w->host, src, n_bytes);
    g->count.copies_in++;
    g->count.bytes_in += n_bytes;
    g->pending = true;
    return g->d->copy_in(g->d, g->dev, gpu_value_of(g, n).at, w->host, n_bytes, g->stream, e);
}

/* The streams of two devices wait for each other: b's memory is free when its own work so far is done, and the value is there
 * when the other's is. */
static status copy_between(gpu_backend *to, gpu_backend *from, const node *n, size_t n_bytes, err *e) {
    gpu_driver *d = to->d;
    gpu_addr at = gpu_value_of(to, n).at, source = gpu_value_of(from, n->in[0]).at;
    status s = d->event_record(d, to->dev, to->mark, to->stream, e);
    if (!s) s = d->stream_wait_event(d, from->dev, from->stream, to->mark, e);
    if (!s) s = d->copy_peer(d, to->dev, at, from->dev, source, n_bytes, from->stream, e);
    if (!s) s = d->event_record(d, from->dev, from->mark, from->stream, e);
    if (!s) s = d->stream_wait_event(d, to->dev, to->stream, from->mark, e);
    return s;
}

static status give_mark(gpu_backend *g, err *e) { return g->mark ? OK : g->d->event_open(g->d, g->dev, &g->mark, e); }

static status take_value(backend *b, const node *n, uint32_t n_rows, backend *other, bool *taken, err *e) {
    gpu_backend *g = of(b), *from = of(other);
    size_t row = graph_row_bytes(n->dtype, n->width);
    if (other->ops != b->ops || from->d != g->d || g->no_peers) return OK;
    gpu_value v = gpu_value_of(from, n->in[0]);
    if (v.array >= 0 || v.stride != row) return OK;
    err why;
    status s = give_mark(g, &why);
    if (!s) s = give_mark(from, &why);
    if (!s) s = copy_between(g, from, n, n_rows * row, &why);
    if (s == ERR_GPU_PEER) {
        snprintf(g->no_peers_why, sizeof g->no_peers_why, "%.150s", why.text);
        g->no_peers = true;
        return OK;
    }
    if (s && e) *e = why;
    *taken = !s;
    g->pending = from->pending = true;
    g->count.copies_peer += !s;
    return s;
}

static const void *peek(backend *b, const node *n, size_t *stride) {
    gpu_backend *g = of(b);
    for (uint32_t i = 0; i < GPU_RESULTS; i++) {
        if (g->result[i].n != n) continue;
        *stride = g->result[i].stride;
        return g->result[i].host;
    }
    return NULL;
}

/* --- pages: the layers that are elsewhere have no bytes here ------------------------------------------------------------- */

static gpu_addr page_at(const gpu_backend *g, uint32_t page) { return g->kv_block + (uint64_t)page * g->page_bytes; }

static status page_copy(backend *b, uint32_t to, uint32_t from, err *e) {
    gpu_backend *g = of(b);
    if (!g->page_bytes) return OK;
    g->pending = true;
    return g->d->copy(g->d, g->dev, page_at(g, to), page_at(g, from), g->page_bytes, g->stream, e);
}

static size_t layer_bytes(const kv_layer *l) { return l->head_bytes * l->n_kv_head; }

static status page_read(backend *b, uint32_t page, void *dst, err *e) {
    gpu_backend *g = of(b);
    memset(dst, 0, g->kv->page_bytes);
    if (!g->page_bytes) return OK;
    status s = g->d->copy_out(g->d, g->dev, g->crossing, page_at(g, page), g->page_bytes, g->stream, e);
    if (!s) s = g->d->stream_wait(g->d, g->dev, g->stream, e);
    for (uint32_t i = 0; !s && i < g->kv->n_layers; i++) {
        const kv_layer *l = &g->kv->layer[i];
        if (g->layer_at[i] != SIZE_MAX) memcpy((char *)dst + l->offset, g->crossing + g->layer_at[i], layer_bytes(l));
    }
    return s;
}

static status page_write(backend *b, uint32_t page, const void *src, err *e) {
    gpu_backend *g = of(b);
    if (!g->page_bytes) return OK;
    for (uint32_t i = 0; i < g->kv->n_layers; i++) {
        const kv_layer *l = &g->kv->layer[i];
        if (g->layer_at[i] == SIZE_MAX) continue;
        memcpy(g->crossing + g->layer_at[i], (const char *)src + l->offset, layer_bytes(l));
    }
    status s = g->d->copy_in(g->d, g->dev, page_at(g, page), g->crossing, g->page_bytes, g->stream, e);
    return s ? s : g->d->stream_wait(g->d, g->dev, g->stream, e);
}

/* --- the rest ---------------------------------------------------------------------------------------------------------- */

static uint32_t host_work(backend *b, pool_fn fn, void *ctx, uint32_t n) {
    gpu_backend *g = of(b);
    if (n == 1) fn(ctx, 0, 0);
    if (n > 1) pool_run(g->pool, fn, ctx, n);
    return g->n_threads;
}

static void describe(const backend *b, strbuf *out) {
    const gpu_backend *g = (const gpu_backend *)b;
    bool graphs = g->graphs;
    strbuf_printf(out, "%s (%s, %.*s), graphs %s", g->device->facts.name, g->device->facts.arch,
                  (int)strcspn(g->d->version, ","), g->d->version, graphs ? "on" : "off");
    if (!graphs) strbuf_printf(out, " (%s)", g->no_graphs_why);
}

static void close_window(gpu_backend *g, gpu_window *w) {
    if (w->host) g->d->host_release(g->d, g->dev, w->host);
}

static void close_gpu(backend *b) {
    gpu_backend *g = of(b);
    if (!g) return;
    if (g->stream) (void)!g->d->stream_wait(g->d, g->dev, g->stream, NULL);
    if (g->mark) g->d->event_close(g->d, g->dev, g->mark);
    if (g->stream) g->d->stream_close(g->d, g->dev, g->stream); /* the wait may fail: memory outlives what is queued */
    gpu_graphs_close(g);
    gpu_profile_close(g);
    for (uint32_t i = 0; i < GPU_RESULTS; i++) close_window(g, &g->result[i]);
    for (uint32_t i = 0; i < g->n_incoming; i++) close_window(g, &g->incoming[i]);
    if (g->crossing) g->d->host_release(g->d, g->dev, g->crossing);
    gpu_draws_close(g);
    gpu_step_close(g);
    gpu_arena_close(g->arena);
    gpu_addr blocks[] = {g->act, g->kv_block, g->scratch};
    for (uint32_t i = 0; i < 3; i++)
        if (blocks[i]) g->d->release(g->d, g->dev, blocks[i]);
    gpu_modules_unload(g);
    pool_close(g->pool);
    arena_free(&g->args);
    mem_free(g->item);
    mem_free(g->range);
    mem_free(g->incoming);
    mem_free(g->tensor);
    mem_free(g->layer_at);
    mem_free(g);
}

static const backend_ops gpu_backend_ops = {
    .kind = "gpu",
    .supports = gpu_supports,
    .measure = measure,
    .load = load,
    .run = run,
    .wait = wait_done,
    .read = read_value,
    .write = write_value,
    .take = take_value,
    .peek = peek,
    .page_copy = page_copy,
    .page_read = page_read,
    .page_write = page_write,
    .draw_begin = gpu_draw_begin,
    .draw_end = gpu_draw_end,
    .host_work = host_work,
    .profile = gpu_profile_rows,
    .describe = describe,
    .close = close_gpu,
};

status gpu_backend_open(backend **out, const gpu_options *opt, err *e) {
    *out = NULL;
    const gpu_device *device = &opt->list->device[opt->device];
    if (device->why_not.code) {
        if (e) *e = device->why_not;
        return device->why_not.code;
    }
    gpu_backend *g = mem_zalloc(sizeof *g);
    if (!g) return fail(e, ERR_NOMEM, "GPU backend");
    g->base.ops = &gpu_backend_ops;
    g->device = device;
    g->d = device->driver;
    g->dev = device->index;
    g->n_threads = opt->n_threads ? opt->n_threads : 1;
    g->graphs = !opt->no_graphs && !opt->profile;
    if (!g->graphs) snprintf(g->no_graphs_why, sizeof g->no_graphs_why, "asked for");
    g->no_graphs_wanted = !g->graphs;
    if (opt->profile) g->profile = gpu_profile_new();
    status s = opt->profile && !g->profile ? fail(e, ERR_NOMEM, "the profiler") : OK;
    if (!s) s = pool_open(&g->pool, g->n_threads, e);
    if (!s) s = g->d->stream_open(g->d, g->dev, &g->stream, e);
    if (s)
        close_gpu(&g->base);
    else
        *out = &g->base;
    return s;
}

gpu_counters gpu_backend_counters(const backend *b) { return ((const gpu_backend *)b)->count; }
gpu_upload_stats gpu_backend_upload(const backend *b) { return ((const gpu_backend *)b)->upload; }

const char *gpu_backend_no_graphs(const backend *b) {
    const gpu_backend *g = (const gpu_backend *)b;
    return g->graphs || g->no_graphs_wanted ? NULL : g->no_graphs_why;
}

const char *gpu_backend_no_peer(const backend *b) {
    const gpu_backend *g = (const gpu_backend *)b;
    return g->no_peers ? g->no_peers_why : NULL;
}

status gpu_backend_room(const backend *b, gpu_room *out, err *e) {
    return gpu_device_room(((const gpu_backend *)b)->device, out, e);
}
