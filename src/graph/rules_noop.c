/* Nodes that change nothing. Only what is exact, bit for bit: x * 1 is x; x + 0 is not (-0). */
#include "graph/rewrite.h"

static node *scale_by_one(graph *g, node *n) {
    (void)g;
    return n->p.f == 1.0f ? n->in[0] : NULL;
}

static node *view_of_all(graph *g, node *n) {
    (void)g;
    return n->width == n->in[0]->width ? n->in[0] : NULL;
}

static node *view_of_view(graph *g, node *n) {
    node *inner = n->in[0];
    if (inner->op != OP_VIEW) return NULL;
    graph_params p = {.view = {.offset = inner->p.view.offset + n->p.view.offset, .width = n->width}};
    return graph_add1(g, OP_VIEW, &p, n->label, inner->in[0]);
}

const graph_rule rules_noop[] = {
    {"scale_by_one", OP_SCALE, scale_by_one},
    {"view_of_all", OP_VIEW, view_of_all},
    {"view_of_view", OP_VIEW, view_of_view},
    {0},
};
