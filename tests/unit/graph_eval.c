#include "graph_eval.h"

#include "base/rng.h"
#include "kv/kv.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WIDTH = 8192 };

typedef struct {
    float *k, *v; /* [n_tok][width] */
    uint32_t device;
} cache;

typedef struct {
    const graph *g;
    const eval_step *in;
    uint8_t **data; /* by id */
    size_t *stride;
    cache cache[KV_MAX_LAYERS];
} eval;

typedef struct {
    int32_t expert;
    float weight;
} slot;

static uint32_t n_rows(const eval *v, const node *n) {
    return n->rows == ROWS_TOK ? v->in->n_tok : n->rows == ROWS_OUT ? v->in->n_out : 1;
}

static void *at(const eval *v, const node *n, uint32_t r) {
    return v->data[n->id] + (n->rows == ROWS_ONE ? 0 : r * v->stride[n->id]);
}
static const float *in_row(const eval *v, const node *n, uint32_t i, uint32_t r) { return at(v, n->in[i], r); }

/* --- pieces */

static float silu(float x) { return x / (1 + expf(-x)); }
static float gelu(float x) { return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x))); }

/* a row of codes, then one scale a block; in place of whatever layout a backend has */
static void quantise(uint8_t *to, const float *x, uint32_t width, graph_dtype t) {
    uint32_t block = t == DTYPE_Q8K ? 256 : 32;
    float *scale = (float *)(void *)(to + width);
    for (uint32_t b = 0; b < width / block; b++) {
        float most = 0;
        for (uint32_t i = 0; i < block; i++) most = fmaxf(most, fabsf(x[b * block + i]));
        scale[b] = most / 127;
        for (uint32_t i = 0; i < block; i++)
            to[b * block + i] = (uint8_t)(int8_t)(most > 0 ? rintf(x[b * block + i] * (127 / most)) : 0);
    }
}

static void dequantise(float *x, const uint8_t *from, uint32_t width, graph_dtype t) {
    uint32_t block = t == DTYPE_Q8K ? 256 : 32;
    const float *scale = (const float *)(const void *)(from + width);
    for (uint32_t i = 0; i < width; i++) x[i] = (float)(int8_t)from[i] * scale[i / block];
}

/* The input of a linear as its weight sees it: a graph that was not lowered means the same. */
static void activation(float *to, const eval *v, const node *x, uint32_t r, const node *w) {
    _Alignas(16) uint8_t codes[MAX_WIDTH * 2];
    graph_dtype t = x->dtype;
    const uint8_t *from = at(v, x, r);
    if (t == DTYPE_F32) {
        memcpy(to, from, x->width * sizeof *to);
        if (!graph_quantised_input(w->weight->type, &t)) return;
        quantise(codes, to, x->width, t);
        from = codes;
    }
    dequantise(to, from, x->width, t);
}

static void multiply(float *y, const float *x, const float *w, uint64_t k, uint64_t m) {
    for (uint64_t j = 0; j < m; j++) {
        double sum = 0;
        for (uint64_t i = 0; i < k; i++) sum += (double)x[i] * (double)w[j * k + i];
        y[j] = (float)sum;
    }
}

static void norm(float *y, const float *x, const float *w, uint32_t width, uint32_t group, float eps) {
    for (uint32_t g = 0; g < width; g += group) {
        double sum = 0;
        for (uint32_t i = 0; i < group; i++) sum += (double)x[g + i] * (double)x[g + i];
        float scale = (float)(1 / sqrt(sum / group + (double)eps));
        for (uint32_t i = 0; i < group; i++) y[g + i] = x[g + i] * scale * w[i];
    }
}

static void softmax(float *y, const float *x, uint32_t n) {
    float most = x[0];
    double sum = 0;
    for (uint32_t i = 1; i < n; i++) most = fmaxf(most, x[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - (double)most);
    for (uint32_t i = 0; i < n; i++) y[i] = (float)(exp((double)x[i] - (double)most) / sum);
}

static void rope(float *y, const float *x, const float *table, uint32_t width, uint32_t dim, uint32_t n_rot,
                 bool neox) {
    memmove(y, x, width * sizeof *y);
    for (uint32_t h = 0; h < width; h += dim)
        for (uint32_t i = 0; i < n_rot / 2; i++) {
            uint32_t a = h + (neox ? i : 2 * i), b = neox ? a + n_rot / 2 : a + 1;
            float c = table[2 * i], s = table[2 * i + 1], p = x[a], q = x[b];
            y[a] = p * c - q * s;
            y[b] = p * s + q * c;
        }
}

/* --- one row of a node */

static void do_linear(const eval *v, const node *n, uint32_t r, float *y) {
    static float x[MAX_WIDTH];
    uint32_t residual = n->p.linear.residual;
    for (uint32_t i = 1; i < n->n_in - residual; i++) {
        const gguf_tensor *t = n->in[i]->weight;
        activation(x, v, n->in[0], r, n->in[i]);
        multiply(y, x, (const float *)(void *)v->data[n->in[i]->id], t->dim[0], t->dim[1]);
        y += t->dim[1];
    }
    y -= n->width;
    for (uint32_t i = 0; residual && i < n->width; i++) y[i] += in_row(v, n, n->n_in - 1, r)[i];
}

static void do_expert(const eval *v, const node *n, uint32_t r, float *y) {
    static float x[MAX_WIDTH];
    const slot *route = at(v, n->in[2], r);
    const gguf_tensor *t = n->in[1]->weight;
    activation(x, v, n->in[0], r, n->in[1]);
    const float *w = (const float *)(void *)v->data[n->in[1]->id];
    for (uint32_t s = 0; s < n->p.expert.n_used; s++)
        multiply(y + s * t->dim[1], n->p.expert.per_slot ? x + s * t->dim[0] : x,
                 w + (uint64_t)route[s].expert * t->dim[0] * t->dim[1], t->dim[0], t->dim[1]);
}

static void do_route(const node *n, const float *x, slot *y) {
    float p[64], sum = 0;
    uint32_t width = n->in[0]->width;
    assert(width <= 64);
    softmax(p, x, width);
    for (uint32_t s = 0; s < n->width; s++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < width; i++)
            if (p[i] > p[best]) best = i;
        y[s] = (slot){(int32_t)best, p[best]};
        sum += p[best];
        p[best] = -1;
    }
    for (uint32_t s = 0; n->p.route.renormalise && s < n->width; s++) y[s].weight /= sum;
}

static void do_combine(const node *n, const float *x, const slot *route, float *y) {
    memset(y, 0, n->width * sizeof *y);
    for (uint32_t s = 0; s < n->in[1]->width; s++)
        for (uint32_t i = 0; i < n->width; i++) y[i] += route[s].weight * x[s * n->width + i];
}

static void do_append(eval *v, const node *n, uint32_t r) {
    cache *c = &v->cache[n->p.attn.kv_layer];
    size_t wk = n->p.attn.n_kv_head * n->p.attn.d_k, wv = n->p.attn.n_kv_head * n->p.attn.d_v;
    if (!c->k) {
        c->k = calloc(v->in->n_tok * wk, sizeof *c->k);
        c->v = calloc(v->in->n_tok * wv, sizeof *c->v);
    }
    c->device = n->device;
    memcpy(c->k + r * wk, in_row(v, n, 0, r), wk * sizeof *c->k);
    memcpy(c->v + r * wv, in_row(v, n, 1, r), wv * sizeof *c->v);
    if (n->op == OP_ROPE_APPEND)
        rope(c->k + r * wk, in_row(v, n, 0, r), in_row(v, n, 2, r), (uint32_t)wk, n->p.attn.d_k, n->p.attn.n_rot,
             n->p.attn.neox);
}

static void do_head(const cache *c, const node *n, uint32_t r, uint32_t kv, const float *q, float *y) {
    double score[64], sum = 0;
    uint32_t dk = n->p.attn.d_k, dv = n->p.attn.d_v, heads = n->p.attn.n_kv_head, window = n->p.attn.window;
    uint32_t first = window && r >= window ? r - window + 1 : 0;
    float cap = n->p.attn.softcap;
    for (uint32_t j = first; j <= r; j++) {
        score[j] = 0;
        for (uint32_t i = 0; i < dk; i++) score[j] += (double)q[i] * (double)c->k[(j * heads + kv) * dk + i];
        score[j] *= (double)n->p.attn.scale;
        if (cap > 0) score[j] = (double)cap * tanh(score[j] / (double)cap);
        sum += score[j] = exp(score[j]);
    }
    for (uint32_t i = 0; i < dv; i++) {
        double o = 0;
        for (uint32_t j = first; j <= r; j++) o += score[j] / sum * (double)c->v[(j * heads + kv) * dv + i];
        y[i] = (float)o;
    }
}

static void do_attention(const eval *v, const node *n, uint32_t r, float *y) {
    const cache *c = &v->cache[n->p.attn.kv_layer];
    assert(c->k && c->device == n->device);
    uint32_t group = n->p.attn.n_head / n->p.attn.n_kv_head;
    for (uint32_t h = 0; h < n->p.attn.n_head; h++)
        do_head(c, n, r, h / group, in_row(v, n, 0, r) + h * n->p.attn.d_k, y + h * n->p.attn.d_v);
}

static void do_rope_table(const eval *v, const node *n, uint32_t r, float *y) {
    double pos = *(const int32_t *)at(v, n->in[0], r);
    for (uint32_t i = 0; i < n->width / 2; i++) {
        double theta = pos * pow((double)n->p.rope_table.base, -2.0 * i / n->width);
        y[2 * i] = (float)cos(theta);
        y[2 * i + 1] = (float)sin(theta);
    }
}

static float binary(graph_op op, float a, float b) {
    switch (op) {
    case OP_ADD: return a + b;
    case OP_MUL: return a * b;
    case OP_GEGLU:
    case OP_GEGLU_QUANTIZE: return gelu(a) * b;
    default: return silu(a) * b;
    }
}

static void do_each(const eval *v, const node *n, uint32_t r, float *y) {
    const float *a = in_row(v, n, 0, r), *b = n->n_in > 1 ? in_row(v, n, 1, r) : NULL;
    for (uint32_t i = 0; i < n->width; i++) {
        switch (n->op) {
        case OP_SCALE: y[i] = a[i] * n->p.f; break;
        case OP_SOFTCAP: y[i] = n->p.f * tanhf(a[i] / n->p.f); break;
        case OP_SILU: y[i] = silu(a[i]); break;
        case OP_GELU: y[i] = gelu(a[i]); break;
        default: y[i] = binary(n->op, a[i], b[i]);
        }
    }
}

static void do_row(eval *v, const node *n, uint32_t r) {
    static float t[MAX_WIDTH];
    void *y = at(v, n, r);
    assert(n->width <= MAX_WIDTH);
    switch (n->op) {
    case OP_TOKENS: *(int32_t *)y = v->in->token[r]; break;
    case OP_POSITIONS: *(int32_t *)y = (int32_t)r; break;
    case OP_OUT_ROWS: *(int32_t *)y = v->in->out_row[r]; break;
    case OP_WEIGHT:
    case OP_VIEW: break;
    case OP_GET_ROWS:
        memcpy(y, v->data[n->in[0]->id] + (size_t) * (int32_t *)at(v, n->in[1], r) * n->width * 4, n->width * 4);
        break;
    case OP_TAKE_ROWS: memcpy(y, in_row(v, n, 0, (uint32_t) * (int32_t *)at(v, n->in[1], r)), n->width * 4); break;
    case OP_COPY: memcpy(y, at(v, n->in[0], r), graph_row_bytes(n->dtype, n->width)); break;
    case OP_LINEAR: do_linear(v, n, r, y); break;
    case OP_LINEAR_EXPERT: do_expert(v, n, r, y); break;
    case OP_ROUTE: do_route(n, in_row(v, n, 0, r), y); break;
    case OP_COMBINE: do_combine(n, in_row(v, n, 0, r), at(v, n->in[1], r), y); break;
    case OP_RMS_NORM: norm(y, in_row(v, n, 0, r), in_row(v, n, 1, r), n->width, n->p.norm.group, n->p.norm.eps); break;
    case OP_ROPE_TABLE: do_rope_table(v, n, r, y); break;
    case OP_ROPE:
        rope(y, in_row(v, n, 0, r), in_row(v, n, 1, r), n->width, n->p.rope.head_dim, n->p.rope.n_rot, n->p.rope.neox);
        break;
    case OP_SOFTMAX: softmax(y, in_row(v, n, 0, r), n->width); break;
    case OP_KV_APPEND:
    case OP_ROPE_APPEND: do_append(v, n, r); break;
    case OP_ATTENTION: do_attention(v, n, r, y); break;
    case OP_QUANTIZE: quantise(y, in_row(v, n, 0, r), n->width, n->dtype); break;
    case OP_NORM_QUANTIZE:
        norm(t, in_row(v, n, 0, r), in_row(v, n, 1, r), n->width, n->p.norm.group, n->p.norm.eps);
        quantise(y, t, n->width, n->dtype);
        break;
    case OP_SWIGLU_QUANTIZE:
    case OP_GEGLU_QUANTIZE:
        do_each(v, n, r, t);
        quantise(y, t, n->width, n->dtype);
        break;
    default: do_each(v, n, r, y);
    }
}

/* --- whole graphs */

static void decode_weights(eval *v) {
    for (uint32_t i = 0; i < v->g->n_nodes; i++) {
        const gguf_tensor *t = v->g->nodes[i]->weight;
        if (!t) continue;
        size_t n = t->dim[0] * t->dim[1] * t->dim[2];
        v->data[i] = malloc(n * sizeof(float));
        quant_lookup((uint32_t)t->type)->decode((float *)(void *)v->data[i], t->data, n);
    }
}

static void run_node(eval *v, const node *n) {
    for (uint32_t r = 0; r < n_rows(v, n); r++) do_row(v, n, r);
}

static float *finish(eval *v) {
    const node *n = v->g->result;
    uint32_t rows = n_rows(v, n);
    float *out = malloc((size_t)rows * n->width * sizeof *out);
    for (uint32_t r = 0; r < rows; r++) memcpy(out + (size_t)r * n->width, at(v, n, r), n->width * sizeof *out);
    for (uint32_t i = 0; i < v->g->n_nodes; i++)
        if (v->g->nodes[i]->weight) free(v->data[i]);
    for (uint32_t i = 0; i < KV_MAX_LAYERS; i++) free(v->cache[i].k), free(v->cache[i].v);
    return out;
}

static eval *start(const graph *g, const eval_step *in) {
    eval *v = calloc(1, sizeof *v);
    v->g = g;
    v->in = in;
    v->data = calloc(g->n_nodes, sizeof *v->data);
    v->stride = calloc(g->n_nodes, sizeof *v->stride);
    decode_weights(v);
    return v;
}

static void end(eval *v) {
    free(v->data);
    free(v->stride);
    free(v);
}

float *eval_graph(const graph *g, const eval_step *in) {
    eval *v = start(g, in);
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = g->nodes[i];
        if (n->op == OP_WEIGHT) continue;
        size_t row = graph_row_bytes(n->dtype, n->width);
        v->stride[i] = n->op == OP_VIEW ? v->stride[n->in[0]->id] : row;
        v->data[i] =
            n->op == OP_VIEW ? v->data[n->in[0]->id] + n->p.view.offset * 4 : calloc(n_rows(v, n) + 1, row + 1);
        run_node(v, n);
    }
    float *out = finish(v);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op != OP_WEIGHT && g->nodes[i]->op != OP_VIEW) free(v->data[i]);
    end(v);
    return out;
}

static void check_reach(const node *n) {
    for (uint32_t k = 0; k < n->n_in; k++)
        assert(n->in[k]->op == OP_WEIGHT || (n->in[k]->device == n->device) == (n->op != OP_COPY));
}

float *eval_plan(const plan *p, const eval_step *in) {
    eval *v = start(p->g, in);
    uint8_t *block[PLAN_MAX_DEVICES];
    for (uint32_t d = 0; d < PLAN_MAX_DEVICES; d++) {
        block[d] = aligned_alloc(64, p->act_bytes[d] + 64);
        for (size_t i = 0; i < p->act_bytes[d]; i++) block[d][i] = (uint8_t)rng_u64(d, i);
    }
    for (uint32_t s = 0; s < p->n_segments; s++)
        for (uint32_t i = 0; i < p->segment[s].n; i++) {
            const node *n = p->order[p->segment[s].first + i];
            assert(n->device == p->segment[s].device);
            check_reach(n);
            v->stride[n->id] = p->buffer[n->id].stride;
            v->data[n->id] = block[n->device] + p->buffer[n->id].offset;
            run_node(v, n);
        }
    float *out = finish(v);
    for (uint32_t d = 0; d < PLAN_MAX_DEVICES; d++) free(block[d]);
    end(v);
    return out;
}
