#include "backend/traffic.h"

#include "graph/ops.h"

uint32_t traffic_rows(const node *n, const step_input *in) {
    return n->rows == ROWS_TOK ? in->n_tok : n->rows == ROWS_OUT ? in->n_out : 1;
}

static double weight_bytes(const node *n, const gguf_tensor *t, double rows) {
    double all = (double)t->n_bytes;
    if (n->op == OP_GET_ROWS) return t->dim[1] ? rows * all / (double)t->dim[1] : 0;
    if (n->op != OP_LINEAR_EXPERT || !t->dim[2]) return all;
    double picked = rows * n->p.expert.n_used, most = (double)t->dim[2];
    return all / most * (picked < most ? picked : most);
}

static uint32_t seen(uint32_t end, uint32_t n_tok, uint32_t window) {
    return window && window + n_tok - 1 < end ? window + n_tok - 1 : end;
}

double traffic_cache(const node *n, const step_input *in, const kv_layout *kv, traffic_part part) {
    const kv_layer *l = &kv->layer[n->p.attn.kv_layer];
    double tokens = 0;
    for (uint32_t t = 0, end; t < in->n_tok; t = end) {
        for (end = t + 1; end < in->n_tok && in->seq[end] == in->seq[t];) end++;
        if (part != TRAFFIC_ALL && (part == TRAFFIC_SINGLES) != (end - t == 1)) continue;
        tokens += seen((uint32_t)in->pos[end - 1] + 1, end - t, n->p.attn.window);
    }
    return tokens * (double)l->head_bytes * l->n_kv_head / kv->page_tokens;
}

double traffic_of(const node *n, const step_input *in, const kv_layout *kv) {
    double rows = traffic_rows(n, in), sum = rows * (double)graph_row_bytes(n->dtype, n->width);
    for (uint32_t i = 0; i < n->n_in; i++) {
        const node *x = n->in[i];
        if (x->op == OP_WEIGHT)
            sum += weight_bytes(n, x->weight, rows);
        else
            sum += traffic_rows(x, in) * (double)graph_row_bytes(x->dtype, x->width);
    }
    if (op_is_append(n->op)) {
        const kv_layer *l = &kv->layer[n->p.attn.kv_layer];
        sum += rows * (double)l->head_bytes * l->n_kv_head / kv->page_tokens;
    }
    if (n->op == OP_TAKE_ROWS) sum = 2 * rows * (double)graph_row_bytes(n->dtype, n->width);
    return n->op == OP_ATTENTION ? sum + traffic_cache(n, in, kv, TRAFFIC_ALL) : sum;
}
