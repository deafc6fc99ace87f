/* Which weights this device's nodes read, how each lies in device memory, and their way there. Matrices (of linears and
 * tables) become planes; everything else is a vector and becomes f32. */
#include "backend/gpu/gpu_state.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool is_matrix_of(const node *n, uint32_t input) {
    switch (n->op) {
    case OP_LINEAR: return input > 0;
    case OP_LINEAR_EXPERT: return input == 1;
    case OP_GET_ROWS: return input == 0;
    default: return false;
    }
}

static status describe(gpu_tensor *t, const node *w, bool matrix, err *e) {
    const gguf_tensor *from = w->weight;
    *t = (gpu_tensor){.used = true, .vector = !matrix, .n_rows = matrix ? from->dim[1] * from->dim[2] : 1};
    t->n_expert = (uint32_t)from->dim[2];
    uint64_t at[LINEAR_PLANES];
    if (!matrix) {
        t->planes = (gpu_weight_planes){.type = from->type, .k = (uint32_t)from->dim[0]};
        t->planes.row_bytes = (uint32_t)from->n_bytes;
        t->n_bytes = (uint64_t)from->dim[0] * sizeof(float);
        return OK;
    }
    if (gpu_weight_shape(&t->planes, from->type, from->dim[0]) &&
        gpu_weight_layout(&t->planes, t->n_rows, at, &t->n_bytes))
        return OK;
    return fail(e, ERR_UNSUPPORTED, "tensor %.*s (%s, rows of %" PRIu64 "): the GPU has no kernels for it",
                STR(from->name), quant_lookup(from->type)->name, from->dim[0]);
}

static void count(gpu_tensor_sizes *s, const gpu_tensor *t, const gguf_tensor *from) {
    uint64_t size = gpu_align(t->n_bytes), row = t->vector ? t->n_bytes : 0;
    for (uint32_t p = 0; !t->vector && p < LINEAR_PLANES; p++) row += t->planes.stride[p];
    s->total += size;
    s->n_bytes_filed += from->n_bytes;
    if (size > s->largest) s->largest = size;
    if (row > s->widest) s->widest = row;
    if (t->planes.row_bytes > s->widest_filed) s->widest_filed = t->planes.row_bytes;
}

status gpu_tensors_describe(const plan *p, uint32_t device, gpu_tensor *tensor, gpu_tensor_sizes *sizes, err *e) {
    *sizes = (gpu_tensor_sizes){0};
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        if (n->device != device || n->op == OP_ROPE_TABLE) continue; /* whose factors the host reads */
        for (uint32_t k = 0; k < n->n_in; k++) {
            const node *w = n->in[k];
            if (w->op != OP_WEIGHT || tensor[w->id].used) continue;
            status s = describe(&tensor[w->id], w, is_matrix_of(n, k), e);
            if (s) return s;
            count(sizes, &tensor[w->id], w->weight);
        }
    }
    return OK;
}

static status place(gpu_backend *g, gpu_tensor *t, const gguf_tensor *from, err *e) {
    char name[64];
    uint64_t at[LINEAR_PLANES] = {0}, n_bytes;
    gpu_addr block;
    snprintf(name, sizeof name, "%.*s", STR(from->name));
    status s = gpu_arena_take(g->arena, t->n_bytes, name, &block, e);
    if (s) return s;
    if (!t->vector) (void)gpu_weight_layout(&t->planes, t->n_rows, at, &n_bytes);
    for (uint32_t p = 0; p < LINEAR_PLANES; p++) t->at[p] = block + at[p];
    return OK;
}

/* Small ones first: neighbours in memory, they go up together. */
static status load_some(gpu_backend *g, gpu_upload *u, bool vectors, uint64_t total, uint64_t *done,
                        void (*progress)(void *, uint64_t, uint64_t), void *ctx, err *e) {
    const graph *gr = g->p->g;
    status s = OK;
    for (uint32_t i = 0; !s && i < gr->n_nodes; i++) {
        gpu_tensor *t = &g->tensor[i];
        const gguf_tensor *from = gr->nodes[i]->weight;
        if (!t->used || t->vector != vectors) continue;
        s = place(g, t, from, e);
        gpu_upload_weight w = {.t = from, .vector = vectors, .planes = t->planes, .n_rows = t->n_rows};
        memcpy(w.at, t->at, sizeof w.at);
        if (!s) s = gpu_upload_add(u, &w, e);
        if (!s && progress) progress(ctx, *done += from->n_bytes, total);
    }
    return s;
}

status gpu_tensors_load(gpu_backend *g, void (*progress)(void *, uint64_t, uint64_t), void *ctx, err *e) {
    gpu_tensor_sizes sizes;
    gpu_upload *u = NULL;
    uint64_t done = 0;
    g->tensor = mem_array(g->p->g->n_nodes, sizeof *g->tensor);
    if (!g->tensor) return fail(e, ERR_NOMEM, "weights of the GPU");
    status s = gpu_tensors_describe(g->p, g->id, g->tensor, &sizes, e);
    if (!s) s = gpu_arena_open(&g->arena, g->d, g->dev, sizes.total, sizes.largest, e);
    if (!s) s = gpu_upload_open(&u, g->d, g->dev, g->pool, sizes.widest, sizes.widest_filed, e);
    if (!s) s = load_some(g, u, true, sizes.n_bytes_filed, &done, progress, ctx, e);
    if (!s) s = load_some(g, u, false, sizes.n_bytes_filed, &done, progress, ctx, e);
    if (!s) s = gpu_upload_finish(u, &g->upload, e);
    gpu_upload_close(u);
    return s;
}
