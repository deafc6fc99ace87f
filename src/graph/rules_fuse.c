/* Fewer, larger nodes. Every rule keeps every bit: it moves operations together, never their order or their roundings.
 * A node is drawn into another only when nobody else reads it. */
#include "graph/ops.h"
#include "graph/rewrite.h"

#include <string.h>

/* --- rows that nobody reads --------------------------------------------------------------------------------------------
 * take_rows(f(x)) -> f(take_rows(x)) while f works row by row, so that what only the output rows need is computed for them
 * alone. What is not f32 (quantised activations, routes) is not taken but made again from taken inputs. */

static node *taken(graph *g, node *x, const node *take) {
    if (x->rows != ROWS_TOK) return x;
    if (x->dtype == DTYPE_F32) return rewrite_again(g, take, (node *const[]){x, take->in[1]});
    node *in[GRAPH_MAX_IN];
    for (uint32_t i = 0; i < x->n_in; i++)
        if (!(in[i] = taken(g, x->in[i], take))) return NULL;
    return rewrite_again(g, x, in);
}

static bool can_take(const node *x) {
    if (x->rows != ROWS_TOK || x->dtype == DTYPE_F32) return true;
    return x->op == OP_ROUTE || x->op == OP_QUANTIZE || x->op == OP_NORM_QUANTIZE || x->op == OP_SWIGLU_QUANTIZE ||
           x->op == OP_GEGLU_QUANTIZE;
}

static node *take_rows_early(graph *g, node *take) {
    node *f = take->in[0], *in[GRAPH_MAX_IN];
    if (!op_is_row_wise(f->op) || f->n_uses > 1) return NULL;
    for (uint32_t i = 0; i < f->n_in; i++)
        if (!can_take(f->in[i])) return NULL;
    for (uint32_t i = 0; i < f->n_in; i++)
        if (!(in[i] = taken(g, f->in[i], take))) return NULL;
    return rewrite_again(g, f, in);
}

/* --- activations: mul(silu(gate), up) -> swiglu(gate, up), in either order ---------------------------------------------- */

static node *fuse_gated(graph *g, node *mul, graph_op activation, graph_op fused) {
    for (uint32_t i = 0; i < 2; i++) {
        node *act = mul->in[i], *up = mul->in[1 - i];
        if (act->op != activation || act->n_uses > 1 || up->op == OP_WEIGHT) continue;
        return graph_add2(g, fused, NULL, mul->label, act->in[0], up);
    }
    return NULL;
}

static node *fuse_swiglu(graph *g, node *mul) { return fuse_gated(g, mul, OP_SILU, OP_SWIGLU); }
static node *fuse_geglu(graph *g, node *mul) { return fuse_gated(g, mul, OP_GELU, OP_GEGLU); }

/* --- stacking: linears over one input become one linear, and each of them a view of its columns ------------------------- */

enum { MAX_STACK = GRAPH_MAX_IN - 1 };

static bool can_stack(const graph *g, const node *n, const node *with) {
    if (n->op != OP_LINEAR || n->n_in != 2 || n->p.linear.residual || n->in[0] != with->in[0] || n == g->result)
        return false;
    graph_dtype a = DTYPE_F32, b = DTYPE_F32;
    graph_quantised_input(n->in[1]->weight->type, &a);
    graph_quantised_input(with->in[1]->weight->type, &b);
    return a == b;
}

static char *join_labels(graph *g, node *const part[], uint32_t n) {
    char text[120];
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        const char *label = part[i]->label ? part[i]->label : "-";
        size_t len = strlen(label);
        if (at + len + 1 >= sizeof text) break;
        if (i) text[at++] = '+';
        memcpy(text + at, label, len);
        at += len;
    }
    return arena_strndup(&g->mem, text, at);
}

static void become_view(node *n, node *of, uint32_t offset) {
    for (uint32_t i = 0; i < n->n_in; i++) n->in[i]->n_uses--; /* `of` uses them too: none dies */
    memset(n->in, 0, sizeof n->in);
    memset(&n->p, 0, sizeof n->p);
    n->op = OP_VIEW;
    n->p.view.offset = offset;
    n->p.view.width = n->width;
    n->n_in = 1;
    n->in[0] = of;
    of->n_uses++;
}

static node *stack_linears(graph *g, node *n) {
    if (!can_stack(g, n, n)) return NULL;
    node *part[MAX_STACK], *in[GRAPH_MAX_IN] = {n->in[0]};
    uint32_t n_parts = 0;
    uint64_t width = 0;
    rewrite_users u = rewrite_users_of(g, n->in[0]);
    for (node *s = rewrite_next_user(&u); s && n_parts < MAX_STACK; s = rewrite_next_user(&u)) {
        if (!can_stack(g, s, n) || width + s->width > INT32_MAX) continue;
        width += s->width;
        part[n_parts++] = s;
        in[n_parts] = s->in[1];
    }
    if (n_parts < 2) return NULL;
    node *stack = graph_add(g, OP_LINEAR, NULL, join_labels(g, part, n_parts), n_parts + 1, in);
    uint32_t offset = 0;
    for (uint32_t i = 0; stack && i < n_parts; i++) {
        become_view(part[i], stack, offset);
        offset += part[i]->width;
    }
    return stack ? n : NULL;
}

/* --- residual: add(linear, r) -> linear with r added to its result ------------------------------------------------------ */

static node *fuse_residual(graph *g, node *add) {
    for (uint32_t i = 0; i < 2; i++) {
        node *lin = add->in[i], *r = add->in[1 - i];
        if (lin->op != OP_LINEAR || lin->n_uses > 1 || lin->p.linear.residual || lin->n_in == GRAPH_MAX_IN) continue;
        if (r->op == OP_WEIGHT) continue;
        node *in[GRAPH_MAX_IN];
        memcpy(in, lin->in, sizeof in);
        in[lin->n_in] = r;
        return graph_add(g, OP_LINEAR, &(graph_params){.linear = {1}}, lin->label, lin->n_in + 1, in);
    }
    return NULL;
}

/* --- what makes an activation also quantises it ------------------------------------------------------------------------- */

static node *fuse_norm_quantize(graph *g, node *q) {
    const node *norm = q->in[0];
    if (norm->op != OP_RMS_NORM || norm->n_uses > 1) return NULL;
    graph_params p = {.norm = norm->p.norm};
    p.norm.dtype = q->p.dtype;
    return graph_add2(g, OP_NORM_QUANTIZE, &p, norm->label, norm->in[0], norm->in[1]);
}

static node *fuse_gated_quantize(graph *g, node *q) {
    const node *act = q->in[0];
    if ((act->op != OP_SWIGLU && act->op != OP_GEGLU) || act->n_uses > 1) return NULL;
    graph_op fused = act->op == OP_SWIGLU ? OP_SWIGLU_QUANTIZE : OP_GEGLU_QUANTIZE;
    return graph_add2(g, fused, &q->p, act->label, act->in[0], act->in[1]);
}

/* --- keys are turned on their way into the cache ------------------------------------------------------------------------ */

static node *fuse_rope_append(graph *g, node *append) {
    const node *rope = append->in[0];
    if (rope->op != OP_ROPE || rope->n_uses > 1 || rope->p.rope.head_dim != append->p.attn.d_k) return NULL;
    graph_params p = {.attn = append->p.attn};
    p.attn.n_rot = rope->p.rope.n_rot;
    p.attn.neox = rope->p.rope.neox;
    return graph_add3(g, OP_ROPE_APPEND, &p, append->label, rope->in[0], append->in[1], rope->in[1]);
}

const graph_rule rules_fuse[] = {
    {"take_rows_early", OP_TAKE_ROWS, take_rows_early},
    {"swiglu", OP_MUL, fuse_swiglu},
    {"geglu", OP_MUL, fuse_geglu},
    {"stack_linears", OP_LINEAR, stack_linears},
    {"residual", OP_ADD, fuse_residual},
    {"norm_quantize", OP_QUANTIZE, fuse_norm_quantize},
    {"gated_quantize", OP_QUANTIZE, fuse_gated_quantize},
    {"rope_append", OP_KV_APPEND, fuse_rope_append},
    {0},
};
