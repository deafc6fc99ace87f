/* The graph's own checks, after every pass: what an executor may rely on without looking. */
#include "graph/graph.h"

#include "base/mem.h"
#include "graph/ops.h"
#include "graph/plan.h"
#include "kv/kv.h"

#include <string.h>

static status check_inputs(const graph *g, const node *n, err *e) {
    if (n->n_in > GRAPH_MAX_IN) return op_fail(n, e, "%u inputs", n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++) {
        const node *in = n->in[i];
        if (!in) return op_fail(n, e, "input %u is missing", i);
        if (in->id >= g->n_nodes || g->nodes[in->id] != in) return op_fail(n, e, "input %u is not in the graph", i);
        if (in->id >= n->id) return op_fail(n, e, "input %u (%%%u) comes after its user %%%u", i, in->id, n->id);
        if (in->dtype == DTYPE_NONE && n->op != OP_ATTENTION) return op_fail(n, e, "input %u has no value", i);
    }
    return OK;
}

/* The bytes of p that the op does not read must be zero, or CSE would miss or, worse, tell apart what is the same. */
static status check_params(const node *n, err *e) {
    const unsigned char *p = (const unsigned char *)&n->p;
    for (size_t i = op_params_bytes(n->op); i < sizeof n->p; i++)
        if (p[i]) return op_fail(n, e, "a parameter of another op is set");
    return OK;
}

static status check_shape(const node *n, err *e) {
    op_shape s;
    status rc = op_infer(n, &s, e);
    if (rc) return rc;
    if (s.rows != n->rows || s.dtype != n->dtype || s.width != n->width)
        return op_fail(n, e, "it is %u wide, its inputs give %u (or rows or dtype differ)", n->width, s.width);
    return OK;
}

static status check_node(const graph *g, uint32_t i, err *e) {
    const node *n = g->nodes[i];
    if (!n) return fail(e, ERR_GRAPH, "graph: node %u is missing", i);
    if (n->id != i) return op_fail(n, e, "it is number %u but stands at %u", n->id, i);
    if ((unsigned)n->op >= OP_COUNT) return op_fail(n, e, "op %u", (unsigned)n->op);
    if ((n->weight != NULL) != (n->op == OP_WEIGHT)) return op_fail(n, e, "a tensor where none belongs, or none");
    if (n->device >= PLAN_MAX_DEVICES) return op_fail(n, e, "device %u", n->device);
    status s = check_inputs(g, n, e);
    if (!s) s = check_params(n, e);
    return s ? s : check_shape(n, e);
}

static status check_result(const graph *g, const node *r, err *e) {
    if (!r) return fail(e, ERR_GRAPH, "graph: no result is set");
    if (r->id >= g->n_nodes || g->nodes[r->id] != r) return fail(e, ERR_GRAPH, "graph: the result is not in the graph");
    if (r->dtype != DTYPE_F32 || r->rows == ROWS_ONE) return op_fail(r, e, "the result is not f32 rows");
    return OK;
}

/* One live append a cache layer: a second would write over the first. Lives: somebody reads it (n_uses may be stale). */
static status check_appends(const graph *g, err *e) {
    const node *writer[KV_MAX_LAYERS] = {0};
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const node *n = g->nodes[i];
        if (n->op != OP_ATTENTION || n->n_uses == 0) continue;
        const node **w = &writer[n->p.attn.kv_layer];
        if (n->p.attn.ahead) continue; /* an encoder's layers may share one: it lasts from append to attention */
        if (*w && *w != n->in[1]) return op_fail(n->in[1], e, "kv layer %u is written twice", n->p.attn.kv_layer);
        *w = n->in[1];
    }
    return OK;
}

status graph_verify(const graph *g, err *e) {
    if (g->failed && e && g->e && e != g->e) *e = *g->e;
    if (g->failed) return g->failed;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        status s = check_node(g, i, e);
        if (s) return s;
    }
    status s = check_result(g, g->result, e);
    if (!s && g->hidden) s = check_result(g, g->hidden, e);
    if (!s && g->scores) s = check_result(g, g->scores, e);
    return s ? s : check_appends(g, e);
}
