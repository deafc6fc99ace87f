#include "graph/sort.h"

#include "base/mem.h"
#include "graph/ops.h"

/* Walks from each node in turn to its inputs, depth first with a stack of its own (graphs are thousands of nodes deep), and
 * emits a node when its inputs are out. */
typedef struct {
    graph *g;
    node **out, **stack;
    uint8_t *state; /* by id: what the walk knows of a node */
    uint32_t *next; /* by id: the input to look at next */
    uint32_t n_out;
} walk;

enum { UNSEEN, OPEN, DONE };

static bool is_node_of(const graph *g, const node *n) { return n && n->id < g->n_nodes && g->nodes[n->id] == n; }

static status emit(walk *w, node *root, err *e) {
    uint32_t depth = 0;
    if (w->state[root->id] != UNSEEN) return OK;
    w->stack[depth++] = root;
    w->state[root->id] = OPEN;
    while (depth) {
        node *n = w->stack[depth - 1];
        if (w->next[n->id] == n->n_in) {
            w->state[n->id] = DONE;
            w->out[w->n_out++] = n;
            depth--;
            continue;
        }
        node *in = n->in[w->next[n->id]++];
        if (!is_node_of(w->g, in)) return op_fail(n, e, "an input is not in the graph");
        if (w->state[in->id] == OPEN) return op_fail(n, e, "it needs its own result");
        if (w->state[in->id] == DONE) continue;
        w->state[in->id] = OPEN;
        w->stack[depth++] = in;
    }
    return OK;
}

static status emit_all(walk *w, err *e) {
    for (uint32_t i = 0; i < w->g->n_nodes; i++) {
        status s = emit(w, w->g->nodes[i], e);
        if (s) return s;
    }
    for (uint32_t i = 0; i < w->n_out; i++) {
        w->g->nodes[i] = w->out[i];
        w->g->nodes[i]->id = i;
    }
    w->g->n_sorted = w->n_out;
    graph_count_uses(w->g);
    return OK;
}

status sort_nodes(graph *g, err *e) {
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i]->n_in > GRAPH_MAX_IN) return op_fail(g->nodes[i], e, "%u inputs", g->nodes[i]->n_in);
        g->nodes[i]->id = i;
    }
    walk w = {.g = g};
    w.out = mem_array(g->n_nodes, sizeof *w.out);
    w.stack = mem_array(g->n_nodes, sizeof *w.stack);
    w.state = mem_array(g->n_nodes, sizeof *w.state);
    w.next = mem_array(g->n_nodes, sizeof *w.next);
    status s = w.out && w.stack && w.state && w.next ? emit_all(&w, e) : fail(e, ERR_NOMEM, "sorting the graph");
    mem_free(w.out);
    mem_free(w.stack);
    mem_free(w.state);
    mem_free(w.next);
    return s;
}

status graph_sort(graph *g, err *e) {
    status s = sort_nodes(g, e);
    if (s) return s;
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        node *keep = g->nodes[i];
        if (keep->n_uses == 0) continue;
        keep->id = n;
        g->nodes[n++] = keep;
    }
    g->n_nodes = g->n_sorted = n;
    return OK;
}
