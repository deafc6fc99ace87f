/* From the plan's nodes to kernel launches, in the plan's order. Views, inputs and rope tables cost no launch: they are
 * places in memory that the host fills. */
#include "backend/gpu/gpu_items.h"
#include "backend/gpu/kernels/args_quantize.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

/* --- values ------------------------------------------------------------------------------------------------------------ */

static int array_of(const gpu_backend *g, const node *n) {
    if (n->op == OP_TOKENS) return STEP_TOKEN;
    if (n->op == OP_POSITIONS) return STEP_POS;
    if (n->op == OP_OUT_ROWS) return STEP_OUT_ROW;
    for (uint32_t i = 0; i < g->n_tables; i++)
        if (g->table[i].n == n) return (int)(STEP_TABLE + i);
    return -1;
}

gpu_value gpu_value_of(const gpu_backend *g, const node *n) {
    const plan_buffer *b = &g->p->buffer[n->id];
    gpu_value v = {.at = g->act + b->offset, .stride = (uint32_t)b->stride, .array = array_of(g, n)};
    if (n->dtype == DTYPE_Q8) v.stride = gpu_act_bytes(n->width, 32);
    if (n->dtype == DTYPE_Q8K) v.stride = gpu_act_bytes(n->width, 256);
    if (v.array >= 0) v.at = g->step;
    return v;
}

gpu_addr gpu_vector_of(const gpu_backend *g, const node *w) { return g->tensor[w->id].at[0]; }

gpu_weight gpu_matrix_of(const gpu_backend *g, const node *w) {
    const gpu_tensor *t = &g->tensor[w->id];
    gpu_weight m = {.n_rows = (uint32_t)(t->n_rows / t->n_expert)};
    for (uint32_t p = 0; p < LINEAR_PLANES; p++) {
        m.plane[p] = t->planes.stride[p] ? t->at[p] : 0;
        m.stride[p] = t->planes.stride[p];
    }
    return m;
}

/* --- items ------------------------------------------------------------------------------------------------------------- */

status gpu_item_add(gpu_backend *g, const gpu_item_spec *spec, gpu_item **out, err *e) {
    if (g->n_items == g->cap_items) {
        uint32_t cap = g->cap_items ? 2 * g->cap_items : 256;
        gpu_item *more = mem_resize(g->item, cap * sizeof *more);
        if (!more) return fail(e, ERR_NOMEM, "launches of the GPU");
        g->item = more;
        g->cap_items = cap;
    }
    gpu_item *i = &g->item[g->n_items];
    *i = (gpu_item){.part = spec->part, .n = spec->n, .block = spec->block, .rows = spec->rows, .shape = spec->shape};
    i->args_bytes = (uint32_t)spec->args_bytes;
    i->args = arena_take(&g->args, spec->args_bytes);
    if (!i->args) return fail(e, ERR_NOMEM, "launches of the GPU");
    memcpy(i->args, spec->args, spec->args_bytes);
    memcpy(i->param, spec->param, sizeof i->param);
    status s = gpu_kernel_of(g, spec->kernel, &i->kernel, e);
    if (s) return s;
    g->n_items++;
    *out = i;
    return OK;
}

void gpu_item_bind(gpu_item *i, size_t at, gpu_value v) {
    if (v.array >= 0)
        gpu_item_bind_step(i, at, (step_array)v.array);
    else
        memcpy(i->args + at, &v.at, sizeof v.at);
}

void gpu_item_bind_step(gpu_item *i, size_t at, step_array a) {
    assert(i->n_fixups < GPU_MAX_FIXUPS);
    i->fixup[i->n_fixups++] = (gpu_fixup){.at = (uint16_t)at, .array = (uint8_t)a};
}

/* --- one function a node ----------------------------------------------------------------------------------------------- */

static status make_nothing(gpu_backend *g, const node *n, err *e) {
    (void)g, (void)n, (void)e;
    return OK;
}

static status (*const make_table[OP_COUNT])(gpu_backend *, const node *, err *) = {
    [OP_TOKENS] = make_nothing,
    [OP_POSITIONS] = make_nothing,
    [OP_OUT_ROWS] = make_nothing,
    [OP_WEIGHT] = make_nothing,
    [OP_GET_ROWS] = gpu_make_rows,
    [OP_TAKE_ROWS] = gpu_make_rows,
    [OP_LINEAR] = gpu_make_linear,
    [OP_LINEAR_EXPERT] = gpu_make_linear_expert,
    [OP_ROUTE] = gpu_make_route,
    [OP_COMBINE] = gpu_make_combine,
    [OP_ADD] = gpu_make_rows,
    [OP_MUL] = gpu_make_rows,
    [OP_SCALE] = gpu_make_rows,
    [OP_SOFTCAP] = gpu_make_rows,
    [OP_RMS_NORM] = gpu_make_rows,
    [OP_LAYER_NORM] = gpu_make_rows,
    [OP_ROPE_TABLE] = make_nothing,
    [OP_ROPE] = gpu_make_rows,
    [OP_SOFTMAX] = gpu_make_rows,
    [OP_SILU] = gpu_make_rows,
    [OP_GELU] = gpu_make_rows,
    [OP_SWIGLU] = gpu_make_rows,
    [OP_GEGLU] = gpu_make_rows,
    [OP_KV_APPEND] = gpu_make_append,
    [OP_ATTENTION] = gpu_make_attention,
    [OP_QUANTIZE] = gpu_make_quantize,
    [OP_VIEW] = make_nothing,
    [OP_COPY] = make_nothing,
    [OP_NORM_QUANTIZE] = gpu_make_quantize,
    [OP_SWIGLU_QUANTIZE] = gpu_make_quantize,
    [OP_GEGLU_QUANTIZE] = gpu_make_quantize,
    [OP_ROPE_APPEND] = gpu_make_append,
};

/* The next node of the segment that launches anything; NULL: there is none. */
static const node *next_launch(const gpu_backend *g, const plan_segment *seg, uint32_t k) {
    while (++k < seg->n)
        if (make_table[g->p->order[seg->first + k]->op] != make_nothing) return g->p->order[seg->first + k];
    return NULL;
}

bool gpu_only_reader(const gpu_backend *g, const node *reader, const node *of) {
    if (of == g->p->g->result || of == g->p->g->hidden || of == g->p->g->scores) return false;
    for (uint32_t i = 0; i < g->p->n_order; i++) {
        const node *n = g->p->order[i];
        for (uint32_t k = 0; k < n->n_in; k++)
            if (n->in[k] == of && n != reader && (n->op != OP_VIEW || !gpu_only_reader(g, reader, n))) return false;
    }
    return true;
}

static status make_segment(gpu_backend *g, const plan_segment *seg, err *e) {
    status s = OK;
    for (uint32_t k = 0; !s && k < seg->n; k++) {
        const node *n = g->p->order[seg->first + k], *next = next_launch(g, seg, k);
        g->next = next;
        if (next && n->op == OP_ROPE && gpu_append_turns(next, n))
            g->held_rope = n;
        else
            s = make_table[n->op](g, n, e);
    }
    return s;
}

status gpu_items_make(gpu_backend *g, err *e) {
    status s = OK;
    g->range = mem_array(g->p->n_segments, sizeof *g->range);
    if (!g->range) return fail(e, ERR_NOMEM, "launches of the GPU");
    g->first_segment = g->p->n_segments;
    for (uint32_t i = 0; !s && i < g->p->n_segments; i++) {
        const plan_segment *seg = &g->p->segment[i];
        if (seg->device != g->id || g->p->order[seg->first]->op == OP_COPY) continue;
        if (g->first_segment == g->p->n_segments) g->first_segment = i;
        g->range[i].first = g->n_items;
        s = make_segment(g, seg, e);
        g->range[i].n = g->n_items - g->range[i].first;
    }
    return s;
}

gpu_scratch gpu_scratch_measure(const plan *p, uint32_t device, const kv_layout *kv) {
    uint64_t state_bytes, n = gpu_attention_states(p, device, kv, &state_bytes);
    return (gpu_scratch){.states = gpu_align(n * state_bytes),
                         .lists = gpu_expert_list_bytes(p, device),
                         .come = gpu_come_bytes(p, device),
                         .gated = gpu_gated_bytes(p, device)};
}

uint64_t gpu_come_bytes(const plan *p, uint32_t device) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        uint64_t counts = n->op == OP_ATTENTION ? (uint64_t)p->max_tok * n->p.attn.n_kv_head
                          : n->op == OP_LINEAR  ? n->width / LINEAR_GATED_UNIT + 1
                                                : 0;
        if (n->device == device && counts > most) most = counts;
    }
    return gpu_align(most * sizeof(uint32_t));
}

uint64_t gpu_gated_bytes(const plan *p, uint32_t device) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        bool gated = n->op == OP_SWIGLU_QUANTIZE || n->op == OP_GEGLU_QUANTIZE;
        if (gated && n->device == device && n->width > most) most = n->width;
    }
    return gpu_align(2 * most * sizeof(float));
}

/* --- what can be made -------------------------------------------------------------------------------------------------- */

static bool matrix_fits(const node *w) {
    gpu_weight_planes planes;
    return w->op == OP_WEIGHT && gpu_weight_shape(&planes, w->weight->type, w->weight->dim[0]);
}

/* Rows of f32 that are read 16 bytes at a time. */
static bool is_aligned(const node *x) {
    if (x->dtype != DTYPE_F32) return true;
    return x->op == OP_VIEW ? x->p.view.offset % 4 == 0 && is_aligned(x->in[0]) : x->width % 4 == 0;
}

static bool attention_fits(const node *n) {
    return !n->p.attn.ahead && n->p.attn.alibi == 0.0f && n->p.attn.d_k <= ATTN_MAX_D && n->p.attn.d_v <= ATTN_MAX_D &&
           (n->op != OP_ATTENTION || n->p.attn.n_head / n->p.attn.n_kv_head <= GPU_MAX_GROUP);
}

/* Rows are 4-byte values at any column; quantised ones come in whole blocks; ROUTE and the like have limits of their own. */
bool gpu_supports(const backend *b, const node *n) {
    (void)b;
    switch (n->op) {
    case OP_TOKEN_TYPES:
    case OP_MEAN_ROWS:
    case OP_GELU_ERF: return false;
    case OP_LAYER_NORM: return n->n_in == 3;
    case OP_GET_ROWS: return n->in[1]->op != OP_TOKEN_TYPES && matrix_fits(n->in[0]);
    case OP_LINEAR_EXPERT: return matrix_fits(n->in[1]) && is_aligned(n->in[0]);
    case OP_LINEAR:
        for (uint32_t i = 1; i < n->n_in - n->p.linear.residual; i++)
            if (!matrix_fits(n->in[i])) return false;
        return is_aligned(n->in[0]);
    case OP_QUANTIZE:
    case OP_SWIGLU_QUANTIZE:
    case OP_GEGLU_QUANTIZE: return is_aligned(n->in[0]) && is_aligned(n->in[n->n_in - 1]);
    case OP_NORM_QUANTIZE: return n->width / n->p.norm.group <= QUANTIZE_GROUPS && is_aligned(n->in[0]);
    case OP_KV_APPEND:
    case OP_ROPE_APPEND:
    case OP_ATTENTION: return attention_fits(n);
    default: return true;
    }
}
