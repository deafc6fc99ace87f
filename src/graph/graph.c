#include "graph/graph.h"

#include "base/mem.h"
#include "graph/ops.h"

#include <string.h>

void graph_init(graph *g, err *e) { *g = (graph){.layer = -1, .e = e}; }

void graph_free(graph *g) {
    arena_free(&g->mem);
    mem_free(g->nodes);
    *g = (graph){.layer = -1};
}

static node *refuse(graph *g, status s) {
    if (!g->failed) g->failed = s;
    return NULL;
}

static bool make_room(graph *g) {
    if (g->n_nodes < g->cap) return true;
    if (g->cap > UINT32_MAX / 4) return false;
    uint32_t cap = g->cap ? g->cap * 2 : 256;
    node **nodes = mem_resize(g->nodes, cap * sizeof *nodes);
    if (!nodes) return false;
    g->nodes = nodes;
    g->cap = cap;
    return true;
}

/* Takes over a node whose op, inputs, params and weight are set. */
static node *append(graph *g, const node *made) {
    op_shape shape;
    status s = op_infer(made, &shape, g->e);
    if (s) return refuse(g, s);
    node *n = arena_take(&g->mem, sizeof *n);
    if (!n || !make_room(g)) return refuse(g, fail(g->e, ERR_NOMEM, "graph of %u nodes", g->n_nodes));
    *n = *made;
    n->rows = shape.rows;
    n->dtype = shape.dtype;
    n->width = shape.width;
    n->id = g->n_nodes;
    n->layer = g->layer;
    for (uint32_t i = 0; i < n->n_in; i++) n->in[i]->n_uses++;
    g->nodes[g->n_nodes++] = n;
    return n;
}

node *graph_add(graph *g, graph_op op, const graph_params *params, const char *label, uint32_t n_in, node *const in[]) {
    if (g->failed) return NULL;
    node n = {.op = op, .n_in = n_in, .label = label, .layer = g->layer};
    if (n_in > GRAPH_MAX_IN) return refuse(g, op_fail(&n, g->e, "%u inputs", n_in));
    for (uint32_t i = 0; i < n_in; i++) n.in[i] = in[i];
    memset(&n.p, 0, sizeof n.p);
    if (params) memcpy(&n.p, params, op_params_bytes(op));
    return append(g, &n);
}

node *graph_add1(graph *g, graph_op op, const graph_params *params, const char *label, node *a) {
    return graph_add(g, op, params, label, 1, (node *const[]){a});
}

node *graph_add2(graph *g, graph_op op, const graph_params *params, const char *label, node *a, node *b) {
    return graph_add(g, op, params, label, 2, (node *const[]){a, b});
}

node *graph_add3(graph *g, graph_op op, const graph_params *params, const char *label, node *a, node *b, node *c) {
    return graph_add(g, op, params, label, 3, (node *const[]){a, b, c});
}

node *graph_weight(graph *g, const gguf_tensor *t, const char *label) {
    if (g->failed) return NULL;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == OP_WEIGHT && g->nodes[i]->weight == t) return g->nodes[i];
    node n = {.op = OP_WEIGHT, .label = label, .layer = g->layer, .weight = t};
    return append(g, &n);
}

/* Users stand behind their inputs, so one walk from the end finds who is alive before it comes to their inputs. */
void graph_count_uses(graph *g) {
    for (uint32_t i = 0; i < g->n_nodes; i++) g->nodes[i]->n_uses = 0;
    if (g->result) g->result->n_uses++;
    if (g->hidden) g->hidden->n_uses++;
    if (g->scores) g->scores->n_uses++;
    for (uint32_t i = g->n_nodes; i-- > 0;) {
        const node *n = g->nodes[i];
        for (uint32_t k = 0; n->n_uses && k < n->n_in; k++) n->in[k]->n_uses++;
    }
}
