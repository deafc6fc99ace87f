/* Where a weight lives. A quantised matrix of a linear becomes panels in the backend's own block (its pages of the file are
 * then given back, so one copy stays resident); float matrices and tables read row by row are used from the mapping;
 * vectors (norms, biases, factors) are decoded to f32 once. In the scalar tier everything is used as filed. */
#include "backend/cpu/cpu_state.h"
#include "base/mem.h"

#include <string.h>

static bool is_vector(const gguf_tensor *t) { return t->dim[1] == 1 && t->dim[2] == 1; }

static cpu_weight describe(const cpu_backend *c, const node *n) {
    const gguf_tensor *t = n->weight;
    const quant_info *q = quant_lookup(t->type);
    cpu_weight w = {.data = t->data,
                    .type = t->type,
                    .k = (uint32_t)t->dim[0],
                    .n_rows = (uint32_t)t->dim[1],
                    .n_expert = (uint32_t)t->dim[2],
                    .n_panels = (uint32_t)((t->dim[1] + PANEL_ROWS - 1) / PANEL_ROWS),
                    .row_bytes = (size_t)(t->dim[0] / q->block_elems * q->block_bytes)};
    graph_dtype act;
    if (n->layout == WEIGHT_PANELS && graph_quantised_input(t->type, &act)) {
        if (!c->ops.linear_panel[t->type]) return w; /* the scalar tier reads rows as filed */
        w.panels = true;
        w.panel_size = panel_bytes(t->type, w.k);
        w.own_bytes = w.panel_size * w.n_panels * w.n_expert;
    } else if (is_vector(t)) {
        w.type = QUANT_F32;
        w.row_bytes = w.k * sizeof(float);
        w.own_bytes = w.row_bytes;
    }
    return w;
}

/* Which weights this device's nodes read: one flag a node id. */
static uint8_t *used_weights(const plan *p, uint32_t device) {
    uint8_t *used = mem_zalloc(p->g->n_nodes);
    for (uint32_t i = 0; used && i < p->n_order; i++) {
        const node *n = p->order[i];
        for (uint32_t k = 0; n->device == device && k < n->n_in; k++)
            if (n->in[k]->op == OP_WEIGHT) used[n->in[k]->id] = 1;
    }
    return used;
}

/* Panels a chunk; bytes a slice: after each the file's pages are given back, so that loading never holds two copies. */
enum { PACK_PANELS = 8, SLICE_BYTES = 8 << 20 };

status cpu_weights_measure(const cpu_backend *c, const plan *p, uint32_t device, backend_memory *out, err *e) {
    uint8_t *used = used_weights(p, device);
    if (!used) return fail(e, ERR_NOMEM, "memory plan");
    for (uint32_t i = 0; i < p->g->n_nodes; i++) {
        if (!used[i]) continue;
        cpu_weight w = describe(c, p->g->nodes[i]);
        if (w.panels) out->staging = SLICE_BYTES;
        if (w.own_bytes)
            out->weights_own += align64(w.own_bytes);
        else
            out->weights_mapped += p->g->nodes[i]->weight->n_bytes;
    }
    mem_free(used);
    return OK;
}

typedef struct {
    const gguf_tensor *t;
    const cpu_weight *w;
    uint8_t *dst;
    uint32_t first, end; /* panels of this slice, counted over all experts */
} pack_job;

static void pack_chunk(void *ctx, uint32_t chunk, uint32_t worker) {
    (void)worker;
    const pack_job *j = ctx;
    const cpu_weight *w = j->w;
    uint32_t first = j->first + chunk * PACK_PANELS, end = min_u32(first + PACK_PANELS, j->end);
    for (uint32_t i = first; i < end; i++) {
        uint32_t expert = i / w->n_panels, row = i % w->n_panels * PANEL_ROWS;
        const uint8_t *src = j->t->data + ((size_t)expert * w->n_rows + row) * w->row_bytes;
        panel_pack(j->dst + i * w->panel_size, src, w->row_bytes, min_u32(PANEL_ROWS, w->n_rows - row), w->type, w->k);
    }
}

static void load_one(cpu_backend *c, const gguf_tensor *t, cpu_weight *w, uint8_t *dst) {
    if (w->panels) {
        uint32_t total = w->n_panels * w->n_expert,
                 slice = max_u32(PACK_PANELS, (uint32_t)(SLICE_BYTES / w->panel_size));
        pack_job j = {.t = t, .w = w, .dst = dst};
        for (j.first = 0; j.first < total; j.first = j.end) {
            j.end = total - j.first > slice ? j.first + slice : total;
            pool_run(c->pool, pack_chunk, &j, (j.end - j.first + PACK_PANELS - 1) / PACK_PANELS);
            file_map_release(t->file, t->data, (size_t)((double)t->n_bytes * j.end / total));
        }
        file_map_release(t->file, t->data, t->n_bytes);
    } else {
        quant_lookup(t->type)->decode((float *)dst, t->data, w->k);
    }
    w->data = dst;
}

status cpu_weights_load(cpu_backend *c, void (*progress)(void *, uint64_t, uint64_t), void *ctx, err *e) {
    const graph *g = c->p->g;
    backend_memory total = {0};
    status s = cpu_weights_measure(c, c->p, c->device, &total, e);
    if (s) return s;
    uint8_t *used = used_weights(c->p, c->device);
    c->weight = mem_array(g->n_nodes, sizeof *c->weight);
    c->weight_bytes = total.weights_own ? total.weights_own : 64;
    c->weight_block = mem_map(c->weight_bytes);
    if (!used || !c->weight || !c->weight_block)
        s = fail(e, ERR_NOMEM, "cannot reserve %zu MiB for weights", total.weights_own >> 20);
    size_t at = 0;
    uint64_t done = 0;
    for (uint32_t i = 0; !s && i < g->n_nodes; i++) {
        if (!used[i]) continue;
        cpu_weight *w = &c->weight[i];
        *w = describe(c, g->nodes[i]);
        if (!w->own_bytes) continue;
        load_one(c, g->nodes[i]->weight, w, c->weight_block + at);
        at += align64(w->own_bytes);
        if (progress) progress(ctx, done += w->own_bytes, total.weights_own);
    }
    mem_free(used);
    return s;
}

const float *cpu_vector(const cpu_backend *c, const node *n) {
    return (const float *)(const void *)c->weight[n->id].data;
}
