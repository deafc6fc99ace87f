/* A graph as text, one node a line, in the graph's order:
 *
 *   %12 linear f32 [T,1536] <- %11 %w3 %w4   residual 0   L0 attn_q
 *   %w3 weight Q4_0 [576,576] panels   L0 attn_q: blk.0.attn_q.weight
 *
 * T and O are the step's tokens and output rows. Numbers are node ids. Floats are printed so that they read back the same. */
#include "graph/graph.h"

#include "graph/ops.h"

#include <inttypes.h>

static void put_ref(strbuf *out, const node *n) {
    if (n)
        strbuf_printf(out, n->op == OP_WEIGHT ? " %%w%u" : " %%%u", n->id);
    else
        strbuf_puts(out, " (none)");
}

static const char *dtype_name(graph_dtype t) {
    static const char *const names[] = {"none", "f32", "i32", "q8", "q8k", "route", "weight"};
    return (unsigned)t < sizeof names / sizeof *names ? names[t] : "?";
}

static void put_weight(strbuf *out, const node *n) {
    const gguf_tensor *t = n->weight;
    const quant_info *q = t ? quant_lookup((uint32_t)t->type) : NULL;
    strbuf_printf(out, "%%w%u weight %s [", n->id, q ? q->name : "?");
    uint32_t n_dims = t ? t->n_dims : 0;
    for (uint32_t i = 0; i < n_dims && i < GGUF_MAX_DIMS; i++)
        strbuf_printf(out, "%s%" PRIu64, i ? "," : "", t->dim[i]);
    strbuf_puts(out, n->layout == WEIGHT_PANELS ? "] panels" : "]");
}

static void put_attn(strbuf *out, const node *n) {
    strbuf_printf(out, "   kv_layer %u kv_heads %u d_k %u d_v %u", n->p.attn.kv_layer, n->p.attn.n_kv_head,
                  n->p.attn.d_k, n->p.attn.d_v);
    if (n->op == OP_ROPE_APPEND) strbuf_printf(out, " n_rot %u%s", n->p.attn.n_rot, n->p.attn.neox ? " neox" : "");
    if (n->op != OP_ATTENTION) return;
    strbuf_printf(out, " heads %u scale %.9g", n->p.attn.n_head, (double)n->p.attn.scale);
    if (n->p.attn.window) strbuf_printf(out, " window %u", n->p.attn.window);
    if (n->p.attn.ahead == ATTN_SEES_ALL)
        strbuf_puts(out, " ahead all");
    else if (n->p.attn.ahead)
        strbuf_printf(out, " ahead %u", n->p.attn.ahead);
    if (n->p.attn.alibi != 0.0f) strbuf_printf(out, " alibi %.9g", (double)n->p.attn.alibi);
    if (n->p.attn.softcap != 0.0f) strbuf_printf(out, " softcap %.9g", (double)n->p.attn.softcap);
}

static void put_rope_table(strbuf *out, const node *n) {
    strbuf_printf(out, "   n_rot %u base %.9g freq_scale %.9g", n->p.rope_table.n_rot, (double)n->p.rope_table.base,
                  (double)n->p.rope_table.freq_scale);
    if (n->p.rope_table.ext_factor == 0.0f) return;
    strbuf_printf(out, " yarn %.9g attn %.9g beta %.9g %.9g ctx %u", (double)n->p.rope_table.ext_factor,
                  (double)n->p.rope_table.attn_factor, (double)n->p.rope_table.beta_fast,
                  (double)n->p.rope_table.beta_slow, n->p.rope_table.orig_ctx);
}

static void put_params(strbuf *out, const node *n) {
    switch (n->op) {
    case OP_RMS_NORM:
    case OP_LAYER_NORM:
    case OP_NORM_QUANTIZE: strbuf_printf(out, "   eps %.9g group %u", (double)n->p.norm.eps, n->p.norm.group); break;
    case OP_ROPE_TABLE: put_rope_table(out, n); break;
    case OP_ROPE:
        strbuf_printf(out, "   head_dim %u n_rot %u%s", n->p.rope.head_dim, n->p.rope.n_rot,
                      n->p.rope.neox ? " neox" : "");
        break;
    case OP_KV_APPEND:
    case OP_ATTENTION:
    case OP_ROPE_APPEND: put_attn(out, n); break;
    case OP_ROUTE:
        strbuf_printf(out, "   used %u%s%s scale %.9g", n->p.route.n_used,
                      n->p.route.softmax_after ? " softmax_after" : "", n->p.route.renormalise ? " renormalise" : "",
                      (double)n->p.route.scale);
        break;
    case OP_LINEAR_EXPERT: strbuf_puts(out, n->p.expert.per_slot ? "   per_slot" : ""); break;
    case OP_LINEAR: strbuf_puts(out, n->p.linear.residual ? "   residual" : ""); break;
    case OP_VIEW: strbuf_printf(out, "   offset %u", n->p.view.offset); break;
    case OP_SCALE:
    case OP_SOFTCAP: strbuf_printf(out, "   %.9g", (double)n->p.f); break;
    default: break;
    }
}

static void put_value(strbuf *out, const node *n) {
    strbuf_printf(out, "%%%u %s %s", n->id, graph_op_name(n->op), dtype_name(n->dtype));
    static const char rows[] = {'1', 'T', 'O'};
    if (n->dtype != DTYPE_NONE) strbuf_printf(out, " [%c,%u]", rows[n->rows], n->width);
    if (n->n_in) strbuf_puts(out, " <-");
    for (uint32_t i = 0; i < n->n_in; i++) put_ref(out, n->in[i]);
    put_params(out, n);
}

static void put_node(strbuf *out, const node *n) {
    if (n->op == OP_WEIGHT)
        put_weight(out, n);
    else
        put_value(out, n);
    if (n->device) strbuf_printf(out, "   @%u", n->device);
    strbuf_puts(out, "  ");
    if (n->layer >= 0) strbuf_printf(out, " L%d", n->layer);
    strbuf_printf(out, " %s", n->label ? n->label : "-");
    if (n->weight) strbuf_printf(out, ": %.*s", STR(n->weight->name));
    strbuf_puts(out, "\n");
}

status graph_dump(const graph *g, strbuf *out) {
    for (uint32_t i = 0; i < g->n_nodes; i++) put_node(out, g->nodes[i]);
    strbuf_puts(out, "result");
    put_ref(out, g->result);
    if (g->hidden) {
        strbuf_puts(out, " hidden");
        put_ref(out, g->hidden);
    }
    if (g->scores) {
        strbuf_puts(out, " scores");
        put_ref(out, g->scores);
    }
    strbuf_puts(out, "\n");
    return out->failed ? ERR_NOMEM : OK;
}
