/* Common subexpressions: two nodes are one when op, params, shape and tensor are equal and their inputs are the same nodes.
 * Never by shape alone: q and k of two layers look alike. Appends write, so they are left alone; graph_weight already
 * gives one node a tensor. */
#include "graph/ops.h"
#include "graph/rewrite.h"

static node *merge(graph *g, node *n) {
    if (op_is_append(n->op) || n->op == OP_WEIGHT) return NULL;
    node *same = rewrite_find(g, n);
    return same && same->id < n->id ? same : NULL; /* the earlier one stays */
}

const graph_rule rules_cse[] = {{"cse", OP_COUNT, merge}, {0}};
