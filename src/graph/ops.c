#include "graph/ops.h"

#include "kv/kv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

status op_fail(const node *n, err *e, const char *fmt, ...) {
    char text[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return fail(e, ERR_GRAPH, "graph: %s \"%s\" of layer %d: %s", graph_op_name(n->op), n->label ? n->label : "",
                n->layer, text);
}

/* --- what inputs must be ----------------------------------------------------------------------------------------------- */

static const node *in(const node *n, uint32_t i) { return n->in[i]; }

static status want_f32(const node *n, uint32_t i, err *e) {
    if (in(n, i)->dtype == DTYPE_F32) return OK;
    return op_fail(n, e, "input %u is a %s, not f32", i, graph_op_name(in(n, i)->op));
}

static status want_same(const node *n, uint32_t i, uint32_t j, err *e) {
    const node *a = in(n, i), *b = in(n, j);
    if (a->rows == b->rows && a->width == b->width && a->dtype == b->dtype) return OK;
    return op_fail(n, e, "inputs %u and %u have different shapes (widths %u and %u)", i, j, a->width, b->width);
}

static bool is_vector(const node *w, uint64_t width) {
    const gguf_tensor *t = w->weight;
    return w->op == OP_WEIGHT && t->dim[0] == width && t->dim[1] == 1 && t->dim[2] == 1 && t->dim[3] == 1;
}

static status want_vector(const node *n, uint32_t i, uint32_t width, err *e) {
    if (is_vector(in(n, i), width)) return OK;
    return op_fail(n, e, "input %u is no weight vector of %u values", i, width);
}

/* A matrix weight [k, m], or with experts [k, m, n_expert]. */
static status want_matrix(const node *n, uint32_t i, uint64_t k, uint64_t n_expert, err *e) {
    const node *w = in(n, i);
    if (w->op != OP_WEIGHT) return op_fail(n, e, "input %u is a %s, not a weight", i, graph_op_name(w->op));
    const gguf_tensor *t = w->weight;
    if (t->dim[0] == k && t->dim[2] == n_expert && t->dim[3] == 1) return OK;
    return op_fail(n, e,
                   "weight %.*s is [%" PRIu64 ", %" PRIu64 ", %" PRIu64 "]; rows of %" PRIu64 " and %" PRIu64
                   " experts were wanted",
                   STR(t->name), t->dim[0], t->dim[1], t->dim[2], k, n_expert);
}

static status want_number(const node *n, float f, float low, const char *what, err *e) {
    if (isfinite(f) && f >= low) return OK;
    return op_fail(n, e, "%s is %g", what, (double)f);
}

/* A linear's input: f32, or activations quantised as every one of its weights wants them. */
static status want_activation(const node *n, const node *w, err *e) {
    graph_dtype x = in(n, 0)->dtype, want = DTYPE_F32;
    if (x == DTYPE_F32) return OK; /* not lowered yet, or a float weight */
    if ((x == DTYPE_Q8 || x == DTYPE_Q8K) && graph_quantised_input(w->weight->type, &want) && want == x) return OK;
    return op_fail(n, e, "weight %.*s does not take this kind of activations", STR(w->weight->name));
}

static op_shape like(const node *x) { return (op_shape){x->rows, x->dtype, x->width}; }

/* --- one shape rule an op ---------------------------------------------------------------------------------------------- */

static status infer_tokens(const node *n, op_shape *out, err *e) {
    (void)n, (void)e;
    *out = (op_shape){ROWS_TOK, DTYPE_I32, 1};
    return OK;
}

static status infer_positions(const node *n, op_shape *out, err *e) { return infer_tokens(n, out, e); }

static status infer_token_types(const node *n, op_shape *out, err *e) { return infer_tokens(n, out, e); }

static status infer_out_rows(const node *n, op_shape *out, err *e) {
    (void)n, (void)e;
    *out = (op_shape){ROWS_OUT, DTYPE_I32, 1};
    return OK;
}

static status infer_weight(const node *n, op_shape *out, err *e) {
    const gguf_tensor *t = n->weight;
    if (!t) return op_fail(n, e, "no tensor");
    const quant_info *q = quant_lookup((uint32_t)t->type);
    if (!q) return op_fail(n, e, "tensor %.*s has an unknown type", STR(t->name));
    bool fits = t->dim[0] % q->block_elems == 0;
    for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++) fits = fits && t->dim[i] >= 1 && t->dim[i] <= INT32_MAX;
    if (!fits) return op_fail(n, e, "the dimensions of tensor %.*s are out of range", STR(t->name));
    graph_dtype act;
    if (n->layout > WEIGHT_PANELS || (n->layout == WEIGHT_PANELS && !graph_quantised_input(t->type, &act)))
        return op_fail(n, e, "tensor %.*s cannot have layout %d", STR(t->name), (int)n->layout);
    *out = (op_shape){ROWS_ONE, DTYPE_WEIGHT, (uint32_t)t->dim[0]};
    return OK;
}

static status infer_get_rows(const node *n, op_shape *out, err *e) {
    const node *w = in(n, 0), *ids = in(n, 1);
    if (ids->dtype != DTYPE_I32 || ids->width != 1) return op_fail(n, e, "input 1 is no list of rows");
    *out = (op_shape){ids->rows, DTYPE_F32, w->width};
    return want_matrix(n, 0, w->width, 1, e);
}

static status infer_take_rows(const node *n, op_shape *out, err *e) {
    const node *x = in(n, 0), *ids = in(n, 1);
    if (x->rows != ROWS_TOK) return op_fail(n, e, "input 0 has no row for every token");
    if (ids->dtype != DTYPE_I32 || ids->width != 1 || ids->rows != ROWS_OUT)
        return op_fail(n, e, "input 1 does not list output rows");
    *out = (op_shape){ROWS_OUT, DTYPE_F32, x->width};
    return want_f32(n, 0, e);
}

static status infer_mean_rows(const node *n, op_shape *out, err *e) { return infer_take_rows(n, out, e); }

static status infer_linear(const node *n, op_shape *out, err *e) {
    const node *x = in(n, 0);
    uint32_t residual = n->p.linear.residual;
    if (residual > 1 || n->n_in < 2 + residual) return op_fail(n, e, "residual is %u", residual);
    uint64_t width = 0;
    for (uint32_t i = 1; i < n->n_in - residual; i++) {
        status s = want_matrix(n, i, x->width, 1, e);
        if (!s) s = want_activation(n, in(n, i), e);
        if (s) return s;
        width += in(n, i)->weight->dim[1];
    }
    if (width > INT32_MAX) return op_fail(n, e, "the result is %" PRIu64 " wide", width);
    *out = (op_shape){x->rows, DTYPE_F32, (uint32_t)width};
    if (!residual) return OK;
    const node *r = in(n, n->n_in - 1);
    if (r->dtype != DTYPE_F32 || r->rows != x->rows || r->width != width)
        return op_fail(n, e, "the residual is %u wide, the result %" PRIu64, r->width, width);
    return OK;
}

static status want_route(const node *n, uint32_t i, const node **made, err *e) {
    const node *r = in(n, i);
    if (r->dtype != DTYPE_ROUTE || r->rows != in(n, 0)->rows)
        return op_fail(n, e, "input %u is no route for these rows", i);
    while (r->op == OP_COPY) r = r->in[0];
    *made = r;
    return OK;
}

static status infer_linear_expert(const node *n, op_shape *out, err *e) {
    const node *x = in(n, 0), *w = in(n, 1), *route = NULL;
    uint32_t n_used = n->p.expert.n_used, per_slot = n->p.expert.per_slot;
    status s = want_route(n, 2, &route, e);
    if (s) return s;
    if (n_used == 0 || n_used != in(n, 2)->width || per_slot > 1)
        return op_fail(n, e, "%u experts a row, but the route has %u", n_used, in(n, 2)->width);
    s = want_matrix(n, 1, per_slot ? x->width / n_used : x->width, route->in[0]->width, e);
    if (!s) s = want_activation(n, w, e);
    if (s) return s;
    if (per_slot && x->width % n_used) return op_fail(n, e, "%u columns for %u slots", x->width, n_used);
    uint64_t width = w->weight->dim[1] * n_used;
    if (width > INT32_MAX) return op_fail(n, e, "the result is %" PRIu64 " wide", width);
    *out = (op_shape){x->rows, DTYPE_F32, (uint32_t)width};
    return OK;
}

static status infer_route(const node *n, op_shape *out, err *e) {
    uint32_t n_used = n->p.route.n_used;
    if (n_used < 1 || n_used > GRAPH_MAX_USED_EXPERTS || n_used > in(n, 0)->width)
        return op_fail(n, e, "%u of %u experts", n_used, in(n, 0)->width);
    if (n->p.route.softmax_after > 1 || n->p.route.renormalise > 1) return op_fail(n, e, "a flag is neither 0 nor 1");
    if (!isfinite(n->p.route.scale)) return op_fail(n, e, "the scale is not finite");
    *out = (op_shape){in(n, 0)->rows, DTYPE_ROUTE, n_used};
    return want_f32(n, 0, e);
}

static status infer_combine(const node *n, op_shape *out, err *e) {
    const node *x = in(n, 0), *route;
    status s = want_route(n, 1, &route, e);
    if (s) return s;
    uint32_t n_used = in(n, 1)->width;
    if (x->width % n_used) return op_fail(n, e, "%u columns for %u slots", x->width, n_used);
    *out = (op_shape){x->rows, DTYPE_F32, x->width / n_used};
    return want_f32(n, 0, e);
}

static status infer_add(const node *n, op_shape *out, err *e) {
    *out = like(in(n, 0));
    status s = want_f32(n, 0, e);
    if (s || is_vector(in(n, 1), out->width)) return s;
    return want_same(n, 0, 1, e);
}

static status infer_mul(const node *n, op_shape *out, err *e) { return infer_add(n, out, e); }

static status infer_scale(const node *n, op_shape *out, err *e) {
    *out = like(in(n, 0));
    status s = want_f32(n, 0, e);
    return s ? s : want_number(n, n->p.f, -INFINITY, "the factor", e);
}

static status infer_softcap(const node *n, op_shape *out, err *e) {
    *out = like(in(n, 0));
    status s = want_f32(n, 0, e);
    if (!s && n->p.f == 0.0f) s = op_fail(n, e, "the cap is 0");
    return s ? s : want_number(n, n->p.f, 0.0f, "the cap", e);
}

static status want_groups(const node *n, err *e) {
    uint32_t group = n->p.norm.group, width = in(n, 0)->width;
    if (group == 0 || width % group) return op_fail(n, e, "%u columns in groups of %u", width, group);
    status s = want_f32(n, 0, e);
    if (!s) s = want_number(n, n->p.norm.eps, 0.0f, "eps", e);
    return s ? s : want_vector(n, 1, group, e);
}

static status infer_rms_norm(const node *n, op_shape *out, err *e) {
    *out = like(in(n, 0));
    return want_groups(n, e);
}

static status infer_layer_norm(const node *n, op_shape *out, err *e) {
    *out = like(in(n, 0));
    status s = want_f32(n, 0, e);
    if (!s) s = want_number(n, n->p.norm.eps, 0.0f, "eps", e);
    for (uint32_t i = 1; i < n->n_in && !s; i++) s = want_vector(n, i, out->width, e);
    return s;
}

static status infer_rope_table(const node *n, op_shape *out, err *e) {
    const node *pos = in(n, 0);
    uint32_t n_rot = n->p.rope_table.n_rot;
    const float f[] = {n->p.rope_table.base,        n->p.rope_table.freq_scale, n->p.rope_table.ext_factor,
                       n->p.rope_table.attn_factor, n->p.rope_table.beta_fast,  n->p.rope_table.beta_slow};
    if (pos->dtype != DTYPE_I32 || pos->width != 1) return op_fail(n, e, "input 0 holds no positions");
    if (n_rot == 0 || n_rot % 2 || n_rot > INT32_MAX / 2) return op_fail(n, e, "n_rot is %u", n_rot);
    for (uint32_t i = 0; i < sizeof f / sizeof *f; i++) {
        status s = want_number(n, f[i], -INFINITY, "a rope parameter", e);
        if (s) return s;
    }
    *out = (op_shape){pos->rows, DTYPE_F32, n_rot};
    return n->n_in > 1 ? want_vector(n, 1, n_rot / 2, e) : OK;
}

static status want_table(const node *n, uint32_t i, uint32_t n_rot, uint32_t head_dim, uint32_t neox, err *e) {
    const node *t = in(n, i);
    if (t->dtype != DTYPE_F32 || t->width != n_rot || t->rows != in(n, 0)->rows)
        return op_fail(n, e, "the rope table is %u wide, n_rot is %u", t->width, n_rot);
    if (n_rot == 0 || n_rot % 2 || n_rot > head_dim || neox > 1)
        return op_fail(n, e, "n_rot %u, head_dim %u, neox %u", n_rot, head_dim, neox);
    return OK;
}

static status infer_rope(const node *n, op_shape *out, err *e) {
    uint32_t head_dim = n->p.rope.head_dim;
    *out = like(in(n, 0));
    status s = want_f32(n, 0, e);
    if (!s) s = want_table(n, 1, n->p.rope.n_rot, head_dim, n->p.rope.neox, e);
    if (!s && out->width % head_dim) s = op_fail(n, e, "%u columns in heads of %u", out->width, head_dim);
    return s;
}

static status infer_unary(const node *n, op_shape *out, err *e) {
    *out = like(in(n, 0));
    return want_f32(n, 0, e);
}

static status infer_softmax(const node *n, op_shape *out, err *e) { return infer_unary(n, out, e); }
static status infer_silu(const node *n, op_shape *out, err *e) { return infer_unary(n, out, e); }
static status infer_gelu(const node *n, op_shape *out, err *e) { return infer_unary(n, out, e); }
static status infer_gelu_erf(const node *n, op_shape *out, err *e) { return infer_unary(n, out, e); }

static status infer_swiglu(const node *n, op_shape *out, err *e) {
    *out = like(in(n, 0));
    status s = want_f32(n, 0, e);
    return s ? s : want_same(n, 0, 1, e);
}

static status infer_geglu(const node *n, op_shape *out, err *e) { return infer_swiglu(n, out, e); }

static status want_heads(const node *n, err *e) {
    uint64_t n_kv_head = n->p.attn.n_kv_head, d_k = n->p.attn.d_k, d_v = n->p.attn.d_v;
    if (n->p.attn.kv_layer >= KV_MAX_LAYERS) return op_fail(n, e, "kv layer %u", n->p.attn.kv_layer);
    if (n_kv_head == 0 || d_k == 0 || d_v == 0 || n_kv_head * d_k > INT32_MAX || n_kv_head * d_v > INT32_MAX)
        return op_fail(n, e, "%" PRIu64 " kv heads of %" PRIu64 " and %" PRIu64, n_kv_head, d_k, d_v);
    return OK;
}

static status infer_kv_append(const node *n, op_shape *out, err *e) {
    const node *k = in(n, 0), *v = in(n, 1);
    *out = (op_shape){ROWS_TOK, DTYPE_NONE, 0};
    status s = want_heads(n, e);
    if (!s) s = want_f32(n, 0, e);
    if (!s) s = want_f32(n, 1, e);
    if (s) return s;
    if (k->rows != ROWS_TOK || v->rows != ROWS_TOK || k->width != n->p.attn.n_kv_head * n->p.attn.d_k ||
        v->width != n->p.attn.n_kv_head * n->p.attn.d_v)
        return op_fail(n, e, "k and v are %u and %u wide", k->width, v->width);
    return OK;
}

static status infer_rope_append(const node *n, op_shape *out, err *e) {
    status s = infer_kv_append(n, out, e);
    return s ? s : want_table(n, 2, n->p.attn.n_rot, n->p.attn.d_k, n->p.attn.neox, e);
}

static bool same_cache(const node *a, const node *b) {
    return a->p.attn.kv_layer == b->p.attn.kv_layer && a->p.attn.n_kv_head == b->p.attn.n_kv_head &&
           a->p.attn.d_k == b->p.attn.d_k && a->p.attn.d_v == b->p.attn.d_v;
}

static status infer_attention(const node *n, op_shape *out, err *e) {
    const node *q = in(n, 0), *append = in(n, 1);
    uint64_t n_head = n->p.attn.n_head;
    status s = want_heads(n, e);
    if (!s) s = want_f32(n, 0, e);
    if (!s) s = want_number(n, n->p.attn.scale, -INFINITY, "the scale", e);
    if (!s) s = want_number(n, n->p.attn.softcap, 0.0f, "the softcap", e);
    if (!s) s = want_number(n, n->p.attn.alibi, 0.0f, "alibi", e);
    if (!s && n->p.attn.alibi != 0.0f && n->p.attn.softcap != 0.0f) s = op_fail(n, e, "alibi and a softcap");
    if (s) return s;
    if (n_head == 0 || n_head % n->p.attn.n_kv_head || n_head * n->p.attn.d_v > INT32_MAX)
        return op_fail(n, e, "%" PRIu64 " heads over %u kv heads", n_head, n->p.attn.n_kv_head);
    if (q->rows != ROWS_TOK || q->width != n_head * n->p.attn.d_k)
        return op_fail(n, e, "q is %u wide for %" PRIu64 " heads of %u", q->width, n_head, n->p.attn.d_k);
    if (!op_is_append(append->op) || !same_cache(n, append))
        return op_fail(n, e, "input 1 does not append to the cache it reads");
    *out = (op_shape){ROWS_TOK, DTYPE_F32, (uint32_t)(n_head * n->p.attn.d_v)};
    return n->n_in > 2 ? want_vector(n, 2, (uint32_t)n_head, e) : OK;
}

static status want_blocks(const node *n, graph_dtype t, op_shape *out, err *e) {
    uint32_t width = in(n, 0)->width, block = t == DTYPE_Q8K ? 256 : 32;
    if (t != DTYPE_Q8 && t != DTYPE_Q8K) return op_fail(n, e, "the target is neither q8 nor q8k");
    if (width % block) return op_fail(n, e, "%u columns in blocks of %u", width, block);
    *out = (op_shape){in(n, 0)->rows, t, width};
    return OK;
}

static status infer_quantize(const node *n, op_shape *out, err *e) {
    status s = want_f32(n, 0, e);
    return s ? s : want_blocks(n, n->p.dtype, out, e);
}

static status infer_norm_quantize(const node *n, op_shape *out, err *e) {
    status s = want_groups(n, e);
    return s ? s : want_blocks(n, n->p.norm.dtype, out, e);
}

static status infer_swiglu_quantize(const node *n, op_shape *out, err *e) {
    status s = infer_swiglu(n, out, e);
    return s ? s : want_blocks(n, n->p.dtype, out, e);
}

static status infer_geglu_quantize(const node *n, op_shape *out, err *e) { return infer_swiglu_quantize(n, out, e); }

static status infer_view(const node *n, op_shape *out, err *e) {
    const node *x = in(n, 0);
    uint64_t offset = n->p.view.offset, width = n->p.view.width;
    if (width == 0 || offset + width > x->width)
        return op_fail(n, e, "columns %" PRIu64 " to %" PRIu64 " of %u", offset, offset + width, x->width);
    *out = (op_shape){x->rows, DTYPE_F32, (uint32_t)width};
    return want_f32(n, 0, e);
}

static status infer_copy(const node *n, op_shape *out, err *e) {
    const node *x = in(n, 0);
    *out = like(x);
    if (x->dtype == DTYPE_F32 || x->dtype == DTYPE_I32 || x->dtype == DTYPE_ROUTE) return OK;
    return op_fail(n, e, "a %s cannot be copied", graph_op_name(x->op));
}

/* --- the table --------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t lo, hi;
    status (*infer)(const node *n, op_shape *out, err *e);
} table[OP_COUNT] = {
#define X(op, name, lo, hi) [op] = {#name, lo, hi, infer_##name},
    GRAPH_OPS(X)
#undef X
};

const char *graph_op_name(graph_op op) { return (unsigned)op < OP_COUNT ? table[op].name : "no such op"; }

status op_infer(const node *n, op_shape *out, err *e) {
    if ((unsigned)n->op >= OP_COUNT) return op_fail(n, e, "op %u", (unsigned)n->op);
    if (n->n_in < table[n->op].lo || n->n_in > table[n->op].hi) return op_fail(n, e, "%u inputs", n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (!n->in[i]) return op_fail(n, e, "input %u is missing", i);
    return table[n->op].infer(n, out, e);
}

size_t op_params_bytes(graph_op op) {
    static const graph_params *p; /* for sizeof alone */
    switch (op) {
    case OP_LINEAR: return sizeof p->linear;
    case OP_LINEAR_EXPERT: return sizeof p->expert;
    case OP_ROUTE: return sizeof p->route;
    case OP_SCALE:
    case OP_SOFTCAP: return sizeof p->f;
    case OP_RMS_NORM:
    case OP_LAYER_NORM:
    case OP_NORM_QUANTIZE: return sizeof p->norm;
    case OP_ROPE_TABLE: return sizeof p->rope_table;
    case OP_ROPE: return sizeof p->rope;
    case OP_KV_APPEND:
    case OP_ATTENTION:
    case OP_ROPE_APPEND: return sizeof p->attn;
    case OP_VIEW: return sizeof p->view;
    case OP_QUANTIZE:
    case OP_SWIGLU_QUANTIZE:
    case OP_GEGLU_QUANTIZE: return sizeof p->dtype;
    default: return 0;
    }
}

bool op_is_append(graph_op op) { return op == OP_KV_APPEND || op == OP_ROPE_APPEND; }
bool op_is_input(graph_op op) {
    return op == OP_TOKENS || op == OP_POSITIONS || op == OP_OUT_ROWS || op == OP_TOKEN_TYPES;
}

bool op_is_row_wise(graph_op op) {
    switch (op) {
    case OP_LINEAR:
    case OP_LINEAR_EXPERT:
    case OP_COMBINE:
    case OP_ADD:
    case OP_MUL:
    case OP_SCALE:
    case OP_SOFTCAP:
    case OP_RMS_NORM:
    case OP_LAYER_NORM:
    case OP_ROPE:
    case OP_SOFTMAX:
    case OP_SILU:
    case OP_GELU:
    case OP_GELU_ERF:
    case OP_SWIGLU:
    case OP_GEGLU:
    case OP_VIEW: return true;
    default: return false;
    }
}

/* --- types ------------------------------------------------------------------------------------------------------------- */

bool graph_quantised_input(quant_type weight, graph_dtype *out) {
    switch (weight) {
    case QUANT_Q4_0:
    case QUANT_Q4_1:
    case QUANT_Q5_0:
    case QUANT_Q5_1:
    case QUANT_Q8_0: *out = DTYPE_Q8; return true;
    case QUANT_Q2_K:
    case QUANT_Q3_K:
    case QUANT_Q4_K:
    case QUANT_Q5_K:
    case QUANT_Q6_K: *out = DTYPE_Q8K; return true;
    default: return false;
    }
}

/* Quantised rows: a code a value; per 32 values a scale (q8k: per 256) and two i16 sums of codes; q8 has 4 bytes in hand.
 * Backends cut a value into arrays of codes, scales and sums, each aligned to 64 bytes: 3 * 63 bytes of slack, which a
 * value of a single row needs too, so every row carries it. */
enum { QUANTISED_SLACK = 192 };

size_t graph_row_bytes(graph_dtype t, uint32_t width) {
    size_t w = width, blocks = (w + 31) / 32;
    switch (t) {
    case DTYPE_F32:
    case DTYPE_I32: return w * 4;
    case DTYPE_Q8: return blocks * 32 + blocks * 12 + QUANTISED_SLACK;
    case DTYPE_Q8K: return blocks * 32 + (w + 255) / 256 * 4 + blocks * 4 + QUANTISED_SLACK;
    case DTYPE_ROUTE: return w * 8;
    default: return 0;
    }
}
