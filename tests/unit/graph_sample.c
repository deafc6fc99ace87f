#include "graph_sample.h"

#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- tensors */

static float unit(sample_file *f, uint64_t pos) { return (float)(2 * rng_unit(f->seed + f->n, pos) - 1); }

static void fill(sample_file *f, gguf_tensor *t, uint8_t *to) {
    uint64_t n = t->dim[0] * t->dim[1] * t->dim[2];
    float row[256];
    const quant_info *q = quant_lookup((uint32_t)t->type);
    for (uint64_t i = 0; i < n; i += q->block_elems, to += q->block_bytes) {
        for (uint32_t k = 0; k < q->block_elems && k < 256; k++)
            row[k] = t->dim[1] == 1 ? 1 + 0.5f * unit(f, i + k) : unit(f, i + k) / sqrtf((float)t->dim[0]);
        for (uint32_t k = 0; k < q->block_bytes; k++) to[k] = (uint8_t)rng_u64(f->seed + f->n, i * 8 + k);
        uint16_t scale = f32_to_f16(t->type == QUANT_Q6_K ? 2e-5f : 0.01f);
        if (t->type == QUANT_F32) memcpy(to, row, 4);
        if (t->type == QUANT_Q8_0) quant_encode_q8_0(to, row, 32);
        if (t->type == QUANT_Q4_0 || t->type == QUANT_Q4_1) memcpy(to, &scale, 2);
        if (t->type == QUANT_Q4_1) memcpy(to + 2, &scale, 2);
        if (t->type == QUANT_Q6_K) memcpy(to + 208, &scale, 2);
    }
}

const gguf_tensor *sample_tensor(sample_file *f, quant_type type, const char *name, uint64_t k, uint64_t m,
                                 uint64_t n_expert) {
    if (f->at < f->n) {
        const gguf_tensor *t = &f->tensor[f->at++];
        if (t->type == type && t->dim[0] == k && t->dim[1] == m && t->dim[2] == n_expert) return t;
        abort(); /* two builds of one seed differ */
    }
    if (f->n == SAMPLE_MAX_TENSORS) abort();
    gguf_tensor *t = &f->tensor[f->n];
    snprintf(f->name[f->n], sizeof f->name[0], "%s", name);
    *t = (gguf_tensor){.name = str_of(f->name[f->n]), .type = type, .dim = {k, m, n_expert, 1}};
    t->n_dims = n_expert > 1 ? 3 : m > 1 ? 2 : 1;
    const quant_info *q = quant_lookup((uint32_t)type);
    t->n_bytes = k / q->block_elems * q->block_bytes * m * n_expert;
    uint8_t *data = malloc(t->n_bytes);
    fill(f, t, data);
    t->data = data;
    f->at = ++f->n;
    return t;
}

void sample_free(sample_file *f) {
    for (uint32_t i = 0; i < f->n; i++) free((void *)(uintptr_t)f->tensor[i].data);
    f->n = f->at = 0;
}

/* --- the llama */

typedef struct {
    graph *g;
    sample_file *f;
    quant_type type;
    char name[48];
} maker;

static node *matrix(maker *m, const char *what, uint64_t k, uint64_t n) {
    if (m->g->failed) return NULL; /* the tensors of a build that fails are not asked for */
    if (m->g->layer >= 0)
        snprintf(m->name, sizeof m->name, "blk.%d.%s.weight", m->g->layer, what);
    else
        snprintf(m->name, sizeof m->name, "%s.weight", what);
    return graph_weight(m->g, sample_tensor(m->f, n > 1 ? m->type : QUANT_F32, m->name, k, n, 1), what);
}

static node *linear(maker *m, const char *what, node *x, uint32_t k, uint32_t n) {
    return graph_add2(m->g, OP_LINEAR, NULL, what, x, matrix(m, what, k, n));
}

static node *norm(maker *m, const char *what, node *x, uint32_t d) {
    return graph_add2(m->g, OP_RMS_NORM, &(graph_params){.norm = {.eps = 1e-5f, .group = d}}, what, x,
                      matrix(m, what, d, 1));
}

static node *llama_attention(maker *m, node *h, node **x, node *table, node *out_rows, bool last) {
    enum { D = 256, HEADS = 4, KV = 2, DH = 64 };
    graph *g = m->g;
    node *q = linear(m, "attn_q", h, D, HEADS * DH), *k = linear(m, "attn_k", h, D, KV * DH);
    node *v = linear(m, "attn_v", h, D, KV * DH);
    graph_params rope = {.rope = {.head_dim = DH, .n_rot = DH}};
    q = graph_add2(g, OP_ROPE, &rope, "rope_q", q, table);
    k = graph_add2(g, OP_ROPE, &rope, "rope_k", k, table);
    graph_params p = {
        .attn = {
            .kv_layer = (uint32_t)g->layer, .n_head = HEADS, .n_kv_head = KV, .d_k = DH, .d_v = DH, .scale = 0.125f}};
    node *a = graph_add2(g, OP_ATTENTION, &p, "attention", q, graph_add2(g, OP_KV_APPEND, &p, "kv_append", k, v));
    if (last) {
        a = graph_add2(g, OP_TAKE_ROWS, NULL, "take_attention", a, out_rows);
        *x = graph_add2(g, OP_TAKE_ROWS, NULL, "take_residual", *x, out_rows);
    }
    return linear(m, "attn_output", a, HEADS * DH, D);
}

void sample_llama(graph *g, sample_file *f, quant_type type) {
    enum { D = 256, FF = 512 };
    maker m = {.g = g, .f = f, .type = type};
    f->at = 0;
    node *tokens = graph_add(g, OP_TOKENS, NULL, "tokens", 0, NULL);
    node *pos = graph_add(g, OP_POSITIONS, NULL, "positions", 0, NULL);
    node *out_rows = graph_add(g, OP_OUT_ROWS, NULL, "out_rows", 0, NULL);
    node *embd = matrix(&m, "token_embd", D, SAMPLE_VOCAB);
    node *x = graph_add2(g, OP_GET_ROWS, NULL, "embed", embd, tokens);
    graph_params p = {.rope_table = {.n_rot = 64, .base = 10000, .freq_scale = 1, .attn_factor = 1}};
    node *table = graph_add1(g, OP_ROPE_TABLE, &p, "rope", pos);
    for (int32_t il = 0; il < 2; il++) {
        g->layer = il;
        node *a = llama_attention(&m, norm(&m, "attn_norm", x, D), &x, table, out_rows, il == 1);
        x = graph_add2(g, OP_ADD, NULL, "attn_residual", a, x);
        node *h = norm(&m, "ffn_norm", x, D);
        node *act = graph_add1(g, OP_SILU, NULL, "ffn_act", linear(&m, "ffn_gate", h, D, FF));
        act = graph_add2(g, OP_MUL, NULL, "ffn_gated", act, linear(&m, "ffn_up", h, D, FF));
        x = graph_add2(g, OP_ADD, NULL, "ffn_residual", linear(&m, "ffn_down", act, FF, D), x);
    }
    g->layer = -1;
    g->result = graph_add2(g, OP_LINEAR, NULL, "output", norm(&m, "output_norm", x, D), embd);
}

/* --- random graphs */

enum { MAX_POOL = 64 };

typedef struct {
    maker m;
    uint64_t seed, pos;
    node *pool[MAX_POOL]; /* f32, [T, 64 or 256] */
    uint32_t n_pool;
    node *table; /* n_rot 32 */
    uint32_t kv_layer;
} chaos;

static uint32_t draw(chaos *c, uint32_t n) { return (uint32_t)(rng_u64(c->seed, c->pos++) % n); }

static node *any(chaos *c) { return c->pool[draw(c, c->n_pool)]; }

static node *any_wide(chaos *c, uint32_t width) {
    for (uint32_t tries = 0; tries < 20; tries++) {
        node *n = any(c);
        if (n && n->width == width) return n;
    }
    return c->pool[width == 64 ? 0 : 1];
}

static node *random_linear(chaos *c, node *x, uint32_t width) {
    static const quant_type types[] = {QUANT_F32, QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q6_K};
    if (!x) return NULL;
    c->m.type = types[draw(c, x->width % 256 ? 4 : 5)];
    return linear(&c->m, "w", x, x->width, width);
}

/* q, k, v, maybe rope, attention; every fourth time k is also read by someone else, so that its rope must stay */
static node *random_attention(chaos *c) {
    graph *g = c->m.g;
    node *x = any(c), *q = random_linear(c, x, 64), *k = random_linear(c, x, 64), *v = random_linear(c, x, 64);
    graph_params rope = {.rope = {.head_dim = 32, .n_rot = 32, .neox = draw(c, 2)}};
    if (draw(c, 3))
        q = graph_add2(g, OP_ROPE, &rope, "q", q, c->table), k = graph_add2(g, OP_ROPE, &rope, "k", k, c->table);
    graph_params p = {.attn = {.kv_layer = c->kv_layer++,
                               .n_head = 2,
                               .n_kv_head = 2,
                               .d_k = 32,
                               .d_v = 32,
                               .scale = 0.2f,
                               .window = draw(c, 4),
                               .softcap = draw(c, 2) ? 5.0f : 0.0f}};
    node *a = graph_add2(g, OP_ATTENTION, &p, "a", q, graph_add2(g, OP_KV_APPEND, &p, "append", k, v));
    return draw(c, 4) ? a : graph_add2(g, OP_ADD, NULL, "a+k", a, k);
}

static node *random_experts(chaos *c) {
    enum { N = 4, USED = 2, K = 64, M = 64 };
    graph *g = c->m.g;
    node *x = any_wide(c, K), *logits = random_linear(c, x, N);
    graph_params r = {.route = {.n_used = USED, .renormalise = draw(c, 2), .softmax_after = draw(c, 2), .scale = 1}};
    node *route = graph_add1(g, OP_ROUTE, &r, "route", logits), *w[3];
    quant_type type = draw(c, 2) ? QUANT_Q8_0 : QUANT_F32;
    if (g->failed) return NULL;
    for (uint32_t i = 0; i < 3; i++) w[i] = graph_weight(g, sample_tensor(c->m.f, type, "experts", K, M, N), "experts");
    graph_params in = {.expert = {.n_used = USED}}, out = {.expert = {.n_used = USED, .per_slot = 1}};
    node *gate = graph_add3(g, OP_LINEAR_EXPERT, &in, "gate", x, w[0], route);
    node *up = graph_add3(g, OP_LINEAR_EXPERT, &in, "up", x, w[1], route);
    node *act = graph_add2(g, OP_MUL, NULL, "gated", graph_add1(g, OP_SILU, NULL, "act", gate), up);
    node *down = graph_add3(g, OP_LINEAR_EXPERT, &out, "down", act, w[2], route);
    return graph_add2(g, OP_COMBINE, NULL, "combine", down, route);
}

static node *random_gated(chaos *c) {
    graph *g = c->m.g;
    node *x = any(c), *gate = random_linear(c, x, 256), *up = random_linear(c, x, 256);
    node *act = graph_add1(g, draw(c, 2) ? OP_SILU : OP_GELU, NULL, "act", gate);
    node *y =
        draw(c, 2) ? graph_add2(g, OP_MUL, NULL, "gated", act, up) : graph_add2(g, OP_MUL, NULL, "gated", up, act);
    return random_linear(c, y, 64);
}

static node *random_simple(chaos *c) {
    static const graph_op unary[] = {OP_SOFTMAX, OP_SILU, OP_GELU};
    graph *g = c->m.g;
    node *x = any(c), *y = x ? any_wide(c, x->width) : NULL;
    if (!x) return NULL;
    switch (draw(c, 8)) {
    case 0: return graph_add2(g, OP_ADD, NULL, "add", x, y);
    case 1: return graph_add1(g, OP_SOFTCAP, &(graph_params){.f = 3}, "cap", graph_add2(g, OP_MUL, NULL, "mul", x, y));
    case 2: return graph_add1(g, OP_SCALE, &(graph_params){.f = draw(c, 2) ? 1.0f : 0.5f}, "scale", x);
    case 3: return graph_add1(g, unary[draw(c, 3)], NULL, "unary", x);
    case 4: return graph_add2(g, OP_ADD, NULL, "bias", random_linear(c, x, 64), matrix(&c->m, "bias", 64, 1));
    case 5: return norm(&c->m, "norm", x, draw(c, 2) ? 32 : x->width);
    case 6: {
        node *wide = any_wide(c, 256);
        bool all = draw(c, 2);
        uint32_t offset = draw(c, 5) * 32;
        graph_params first = {.view = {.offset = all ? 0 : offset, .width = all ? 256 : 128}};
        node *v = graph_add1(g, OP_VIEW, &first, "view", wide);
        return graph_add1(g, OP_VIEW, &(graph_params){.view = {.offset = draw(c, 3) * 32, .width = 64}}, "view", v);
    }
    default: return graph_add2(g, OP_ADD, NULL, "residual", random_linear(c, x, x->width), x);
    }
}

static node *random_node(chaos *c) {
    switch (draw(c, 8)) {
    case 0: return random_attention(c);
    case 1: return random_experts(c);
    case 2: return random_gated(c);
    case 3: return random_linear(c, any(c), draw(c, 2) ? 64 : 256);
    default: return random_simple(c);
    }
}

void sample_random(graph *g, sample_file *f, uint64_t seed, uint32_t n_ops) {
    chaos c = {.m = {.g = g, .f = f, .type = QUANT_F32}, .seed = seed};
    f->at = 0;
    node *tokens = graph_add(g, OP_TOKENS, NULL, "tokens", 0, NULL);
    node *pos = graph_add(g, OP_POSITIONS, NULL, "positions", 0, NULL);
    node *out_rows = graph_add(g, OP_OUT_ROWS, NULL, "out_rows", 0, NULL);
    c.pool[0] = graph_add2(g, OP_GET_ROWS, NULL, "embed", matrix(&c.m, "e64", 64, SAMPLE_VOCAB), tokens);
    c.pool[1] = graph_add2(g, OP_GET_ROWS, NULL, "embed", matrix(&c.m, "e256", 256, SAMPLE_VOCAB), tokens);
    c.n_pool = 2;
    graph_params p = {.rope_table = {.n_rot = 32, .base = 10000, .freq_scale = 1, .attn_factor = 1}};
    c.table = graph_add1(g, OP_ROPE_TABLE, &p, "rope", pos);
    for (uint32_t i = 0; i < n_ops && !g->failed; i++) {
        uint32_t twice = draw(&c, 5) == 0 ? 2 : 1, tensors_before = f->at;
        uint64_t pos_before = c.pos;
        node *made[2] = {NULL};
        g->layer = (int32_t)i;
        for (uint32_t k = 0; k < twice; k++) { /* the same again, for CSE; only its cache layer is its own */
            c.pos = pos_before;
            f->at = tensors_before;
            made[k] = random_node(&c);
        }
        for (uint32_t k = 0; k < twice && made[k]; k++)
            if (c.n_pool < MAX_POOL) c.pool[c.n_pool++] = made[k];
    }
    g->layer = -1;
    node *a = any_wide(&c, 64), *b = any_wide(&c, 64), *sum = graph_add2(g, OP_ADD, NULL, "sum", a, b);
    for (uint32_t i = 0; i < 6; i++) sum = graph_add2(g, OP_ADD, NULL, "sum", random_linear(&c, any(&c), 64), sum);
    node *last = norm(&c.m, "last", draw(&c, 2) ? random_linear(&c, sum, 64) : sum, 64);
    g->result = random_linear(&c, graph_add2(g, OP_TAKE_ROWS, NULL, "take", last, out_rows), 96);
}
