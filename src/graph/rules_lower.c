/* A linear over quantised weights multiplies integers: its input is quantised first, once for all who want it the same
 * way. Rows of a table (get_rows) are decoded instead and need nothing. */
#include "graph/rewrite.h"

/* What all weights of the linear want; false: f32, or they do not agree. */
static bool wanted(const node *n, graph_dtype *out) {
    uint32_t n_weights = n->op == OP_LINEAR ? n->n_in - 1 - n->p.linear.residual : 1;
    for (uint32_t i = 0; i < n_weights; i++) {
        graph_dtype t;
        if (!graph_quantised_input(n->in[1 + i]->weight->type, &t) || (i && t != *out)) return false;
        *out = t;
    }
    return true;
}

static node *find_quantized(const graph *g, const node *x, graph_dtype t) {
    rewrite_users u = rewrite_users_of(g, x);
    for (node *n = rewrite_next_user(&u); n; n = rewrite_next_user(&u))
        if (n->op == OP_QUANTIZE && n->p.dtype == t) return n;
    return NULL;
}

static node *quantize_input(graph *g, node *n) {
    graph_dtype t = DTYPE_NONE;
    node *x = n->in[0];
    if (x->dtype != DTYPE_F32 || !wanted(n, &t)) return NULL;
    node *q = find_quantized(g, x, t);
    if (!q) q = graph_add1(g, OP_QUANTIZE, &(graph_params){.dtype = t}, x->label, x);
    if (!q) return NULL;
    rewrite_set_input(g, n, 0, q);
    return n;
}

const graph_rule rules_lower[] = {
    {"quantize_linear", OP_LINEAR, quantize_input},
    {"quantize_linear_expert", OP_LINEAR_EXPERT, quantize_input},
    {0},
};
