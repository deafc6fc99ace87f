#include "graph/cost.h"

static double weight_bytes(const node *n, const node *w) {
    const gguf_tensor *t = w->weight;
    if (n->op == OP_GET_ROWS) return t->dim[1] ? (double)t->n_bytes / (double)t->dim[1] : 0;
    if (n->op == OP_LINEAR_EXPERT)
        return t->dim[2] ? (double)t->n_bytes / (double)t->dim[2] * n->p.expert.n_used : (double)t->n_bytes;
    return (double)t->n_bytes;
}

static double cache_bytes(const node *n) {
    uint32_t depth = n->p.attn.window && n->p.attn.window < COST_CONTEXT ? n->p.attn.window : COST_CONTEXT;
    return 2.0 * n->p.attn.n_kv_head * ((double)n->p.attn.d_k + n->p.attn.d_v) * depth;
}

double plan_node_bytes(const node *n) {
    double sum = (double)graph_row_bytes(n->dtype, n->width);
    for (uint32_t i = 0; i < n->n_in; i++) {
        const node *in = n->in[i];
        sum += in->op == OP_WEIGHT ? weight_bytes(n, in) : (double)graph_row_bytes(in->dtype, in->width);
    }
    return n->op == OP_ATTENTION ? sum + cache_bytes(n) : sum;
}

static bool is_free(graph_op op) {
    return op == OP_TOKENS || op == OP_POSITIONS || op == OP_OUT_ROWS || op == OP_WEIGHT || op == OP_VIEW ||
           op == OP_ROPE_TABLE;
}

double plan_cost(const plan_speed *s, const node *n) {
    if (is_free(n->op)) return 0;
    if (n->op == OP_COPY)
        return s->handicap * (s->copy_s + (double)graph_row_bytes(n->dtype, n->width) / s->copy_bytes_per_s);
    double sum = s->launch_s + plan_node_bytes(n) / s->bytes_per_s;
    return s->handicap * (n->op == OP_GET_ROWS ? sum + s->step_s : sum);
}
