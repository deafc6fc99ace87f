/* Mixture of experts. Each expert that was chosen by any token of the step gets its tokens' inputs gathered into one matrix,
 * multiplies it once, and writes results back to (token, slot). Sums are per token and slot ascending, so what shares a
 * batch changes nothing. A route row is n_used pairs {i32 expert, f32 weight}. */
#include "backend/cpu/cpu_state.h"

#include <math.h>
#include <string.h>

typedef struct {
    int32_t expert;
    float weight;
} route_slot;

static const route_slot *route_row(const cpu_backend *c, const node *route, uint32_t tok) {
    cpu_value v = cpu_value_of(c, route);
    return (const route_slot *)(void *)(v.data + tok * v.stride);
}

/* The best n_used of n scores, best first, lowest index among equals (NaN last). */
static void choose(route_slot *out, uint32_t n_used, const float *score, uint32_t n) {
    for (uint32_t s = 0; s < n_used; s++) {
        int32_t best = -1;
        for (uint32_t i = 0; i < n; i++) {
            bool taken = false;
            for (uint32_t k = 0; k < s; k++) taken |= out[k].expert == (int32_t)i;
            if (!taken && (best < 0 || score[i] > score[best] || (score[best] != score[best] && score[i] == score[i])))
                best = (int32_t)i;
        }
        out[s] = (route_slot){best, score[best]};
    }
}

/* An expert whose logit is -infinity or NaN would just not be chosen, and a broken router pass for an answer. */
static bool all_finite(const float *x, uint32_t n) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; i++) sum += x[i] * 0.0f;
    return sum == 0.0f;
}

void cpu_run_route(cpu_backend *c, const node *n) {
    cpu_value x = cpu_value_of(c, n->in[0]), y = cpu_value_of(c, n);
    uint32_t n_expert = n->in[0]->width, n_used = n->p.route.n_used;
    for (uint32_t t = 0; t < cpu_rows(c, n); t++) {
        const float *logits = (const float *)(void *)(x.data + t * x.stride);
        route_slot *slot = (route_slot *)(void *)(y.data + t * y.stride);
        float *prob = c->scratch[0].row, chosen[GRAPH_MAX_USED_EXPERTS];
        if (n->p.route.softmax_after)
            memcpy(prob, logits, n_expert * sizeof *prob);
        else
            c->ops.softmax(prob, logits, n_expert);
        choose(slot, n_used, prob, n_expert);
        for (uint32_t s = 0; s < n_used; s++) chosen[s] = slot[s].weight;
        if (n->p.route.softmax_after) c->ops.softmax(chosen, chosen, n_used);
        float sum = 0.0f;
        for (uint32_t s = 0; s < n_used; s++) sum += chosen[s];
        if (sum < 6.103515625e-5f)
            sum = 6.103515625e-5f; /* as llama.cpp: the smallest normal f16, against division by 0 */
        for (uint32_t s = 0; s < n_used; s++) {
            float w = n->p.route.renormalise ? chosen[s] / sum : chosen[s];
            slot[s].weight = n->p.route.scale != 0.0f ? w * n->p.route.scale : w;
        }
        for (uint32_t s = 0; s < n_used && !all_finite(logits, n_expert); s++) slot[s].weight = NAN;
    }
}

/* Rows (token * n_used + slot) that chose `expert`, in order. */
static uint32_t rows_of(const cpu_backend *c, const node *route, uint32_t n_tok, uint32_t n_used, int32_t expert,
                        uint32_t *rows) {
    uint32_t n = 0;
    for (uint32_t t = 0; t < n_tok; t++)
        for (uint32_t s = 0; s < n_used; s++)
            if (route_row(c, route, t)[s].expert == expert) rows[n++] = t * n_used + s;
    return n;
}

/* Columns of one input slot out of a block-major matrix [width / 32][n_tok] into a dense one [k / 32][n]. */
static cpu_act gather_act(cpu_backend *c, const node *x, const uint32_t *rows, uint32_t n, uint32_t n_used,
                          bool per_slot, uint32_t k) {
    cpu_act src = cpu_act_of(c, x), dst = cpu_act_at(c->gather, k, n, x->dtype);
    uint32_t per_scale = src.scale_block / 32;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t tok = rows[i] / n_used, first = per_slot ? rows[i] % n_used * (k / 32) : 0;
        for (uint32_t b = 0; b < k / 32; b++) {
            size_t from = (size_t)(first + b) * src.n_tok + tok, to = (size_t)b * n + i;
            memcpy(dst.code + to * 32, src.code + from * 32, 32);
            memcpy(dst.sum + to * 2, src.sum + from * 2, 2 * sizeof *dst.sum);
            if (b % per_scale == 0)
                dst.scale[(size_t)(b / per_scale) * n + i] =
                    src.scale[(size_t)((first + b) / per_scale) * src.n_tok + tok];
        }
    }
    return dst;
}

static const float *gather_float(cpu_backend *c, const node *x, const uint32_t *rows, uint32_t n, uint32_t n_used,
                                 bool per_slot, uint32_t k) {
    cpu_value v = cpu_value_of(c, x);
    float *dst = (float *)(void *)c->gather;
    for (uint32_t i = 0; i < n; i++) {
        const float *src = (const float *)(void *)(v.data + rows[i] / n_used * v.stride);
        memcpy(dst + (size_t)i * k, src + (per_slot ? rows[i] % n_used * k : 0), k * sizeof *dst);
    }
    return dst;
}

typedef struct {
    const cpu_backend *c;
    const cpu_matmul *m;
    uint32_t n_chunks;
} expert_job;

static void expert_chunk(void *ctx, uint32_t chunk, uint32_t worker) {
    (void)worker;
    const expert_job *j = ctx;
    uint64_t n = j->m->w->n_panels;
    cpu_matmul_rows(j->c, j->m, (uint32_t)(n * chunk / j->n_chunks), (uint32_t)(n * (chunk + 1) / j->n_chunks));
}

void cpu_run_linear_expert(cpu_backend *c, const node *n) {
    const node *x = n->in[0], *route = n->in[2];
    const cpu_weight *w = &c->weight[n->in[1]->id];
    uint32_t n_used = n->p.expert.n_used, n_tok = cpu_rows(c, n);
    bool per_slot = n->p.expert.per_slot;
    cpu_value y = cpu_value_of(c, n);
    for (uint32_t expert = 0; expert < w->n_expert; expert++) {
        uint32_t n_rows = rows_of(c, route, n_tok, n_used, (int32_t)expert, c->expert_rows);
        if (!n_rows) continue;
        size_t one = w->panels ? w->panel_size * w->n_panels : w->row_bytes * w->n_rows;
        cpu_matmul m = {
            .w = w, .data = w->data + expert * one, .n_col = n_rows, .slots = c->expert_rows, .n_used = n_used};
        m.y = (float *)(void *)y.data;
        m.y_stride = y.stride / sizeof(float);
        if (x->dtype == DTYPE_F32)
            m.x = gather_float(c, x, c->expert_rows, n_rows, n_used, per_slot, w->k), m.x_stride = w->k;
        else
            m.act = gather_act(c, x, c->expert_rows, n_rows, n_used, per_slot, w->k);
        expert_job j = {c, &m, cpu_matmul_chunks(c, &m)};
        pool_run(c->pool, expert_chunk, &j, j.n_chunks);
    }
}

void cpu_run_combine(cpu_backend *c, const node *n) {
    cpu_value x = cpu_value_of(c, n->in[0]), y = cpu_value_of(c, n);
    uint32_t n_used = n->in[0]->width / n->width;
    for (uint32_t t = 0; t < cpu_rows(c, n); t++) {
        const float *src = (const float *)(void *)(x.data + t * x.stride);
        const route_slot *slot = route_row(c, n->in[1], t);
        float *dst = (float *)(void *)(y.data + t * y.stride), *one = c->scratch[0].row;
        c->ops.scale(dst, src, slot[0].weight, n->width);
        for (uint32_t s = 1; s < n_used; s++) {
            c->ops.scale(one, src + (size_t)s * n->width, slot[s].weight, n->width);
            c->ops.add(dst, dst, one, n->width);
        }
    }
}

size_t cpu_moe_gather_bytes(const plan *p, uint32_t device, uint32_t *max_rows) {
    size_t most = 0;
    *max_rows = 0;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        if (n->op != OP_LINEAR_EXPERT || n->device != device) continue;
        uint32_t rows = p->max_tok * n->p.expert.n_used, k = (uint32_t)n->in[1]->weight->dim[0];
        size_t need =
            n->in[0]->dtype == DTYPE_F32 ? (size_t)rows * k * sizeof(float) : cpu_act_bytes(k, rows, n->in[0]->dtype);
        if (need > most) most = need;
        *max_rows = max_u32(*max_rows, rows);
    }
    return align64(most);
}
