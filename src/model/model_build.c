#include "model/model_build.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* --- weights ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    char text[KEY_MAX];
} tensor_name;

static tensor_name name_of(const builder *b, int where, const char *what, const char *part) {
    tensor_name n;
    if (where == LAYER)
        snprintf(n.text, sizeof n.text, "blk.%u.%s.%s", b->il, what, part);
    else
        snprintf(n.text, sizeof n.text, "%s.%s", what, part);
    return n;
}

__attribute__((format(printf, 3, 4))) static node *refuse(builder *b, status s, const char *fmt, ...) {
    if (b->gr->failed) return NULL; /* the first reason stands */
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    b->gr->failed = fail(b->gr->e, s, "%s", text);
    return NULL;
}

/* "F32 F16 Q4_0 ...": the types that have a decoder. */
static void list_types(char *text, size_t n_bytes) {
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        const quant_info *q = quant_lookup(t);
        if (!q || !q->decode) continue;
        int n = snprintf(text + at, n_bytes - at, "%s%s", at ? " " : "", q->name);
        if (n < 0 || (size_t)n >= n_bytes - at) return;
        at += (size_t)n;
    }
}

static bool check_shape(builder *b, const gguf_tensor *t, uint32_t n_dims, const uint64_t dim[3]) {
    bool same = t->n_dims <= n_dims || t->dim[n_dims] == 1;
    for (uint32_t i = 0; i < 3; i++) same = same && t->dim[i] == (i < n_dims ? dim[i] : 1);
    if (same && t->dim[3] == 1) return true;
    char want[80];
    int n = snprintf(want, sizeof want, "%" PRIu64, dim[0]);
    for (uint32_t i = 1; i < n_dims; i++) n += snprintf(want + n, sizeof want - (size_t)n, ", %" PRIu64, dim[i]);
    refuse(b, ERR_MODEL_TENSOR,
           "tensor %.*s has shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
           "], but the hyperparameters want [%s]",
           STR(t->name), t->dim[0], t->dim[1], t->dim[2], t->dim[3], want);
    return false;
}

static bool check_type(builder *b, const gguf_tensor *t, bool vector) {
    const quant_info *q = quant_lookup((uint32_t)t->type);
    if (!q || !q->decode) {
        char known[200];
        list_types(known, sizeof known);
        refuse(b, ERR_TYPE, "tensor %.*s has type %s, which is not built in (built in: %s)", STR(t->name),
               q ? q->name : "unknown", known);
        return false;
    }
    if (!vector || t->type == QUANT_F32) return true;
    refuse(b, ERR_MODEL_TENSOR, "tensor %.*s has type %s, but norms, biases and factors are F32", STR(t->name),
           q->name);
    return false;
}

static node *find_weight(builder *b, tensor_name name, const char *label, uint32_t n_dims, const uint64_t dim[3]) {
    if (b->gr->failed) return NULL;
    const gguf_tensor *t = gguf_tensor_find(b->g, name.text);
    if (!t) return refuse(b, ERR_MODEL_TENSOR, "tensor %s is missing", name.text);
    if (!check_type(b, t, n_dims == 1) || !check_shape(b, t, n_dims, dim)) return NULL;
    return graph_weight(b->gr, t, label);
}

node *build_weight2(builder *b, int where, const char *what, uint64_t k, uint64_t m) {
    return find_weight(b, name_of(b, where, what, "weight"), what, 2, (uint64_t[3]){k, m, 1});
}

static node *weight_experts(builder *b, const char *what, uint64_t k, uint64_t m) {
    return find_weight(b, name_of(b, LAYER, what, "weight"), what, 3, (uint64_t[3]){k, m, b->m->n_expert});
}

node *build_vector(builder *b, int where, const char *what, uint64_t n) {
    return find_weight(b, name_of(b, where, what, "weight"), what, 1, (uint64_t[3]){n, 1, 1});
}

node *build_vector_if(builder *b, int where, const char *what, uint64_t n) {
    if (!gguf_tensor_find(b->g, name_of(b, where, what, "weight").text)) return NULL;
    return build_vector(b, where, what, n);
}

static node *bias_if(builder *b, int where, const char *what, uint64_t n) {
    tensor_name name = name_of(b, where, what, "bias");
    if (!gguf_tensor_find(b->g, name.text)) return NULL;
    return find_weight(b, name, "bias", 1, (uint64_t[3]){n, 1, 1});
}

/* --- pieces ------------------------------------------------------------------------------------------------------------ */

node *build_add(builder *b, node *a, node *x, const char *label) {
    return graph_add2(b->gr, OP_ADD, NULL, label, a, x);
}

node *build_linear(builder *b, int where, const char *what, node *x, uint64_t k, uint64_t m) {
    node *y = graph_add2(b->gr, OP_LINEAR, NULL, what, x, build_weight2(b, where, what, k, m));
    node *bias = bias_if(b, where, what, m);
    return bias ? build_add(b, y, bias, what) : y;
}

static node *norm_groups(builder *b, int where, const char *what, node *x, uint32_t group) {
    graph_params p = {.norm = {.eps = b->m->norm_eps, .group = group}};
    return graph_add2(b->gr, OP_RMS_NORM, &p, what, x, build_vector(b, where, what, group));
}

node *build_rms_norm(builder *b, int where, const char *what, node *x) {
    return norm_groups(b, where, what, x, b->m->d_model);
}

node *build_norm(builder *b, const char *what, node *x) { return norm_groups(b, LAYER, what, x, b->m->d_model); }

node *build_layer_norm(builder *b, int where, const char *what, node *x) {
    uint32_t d = x ? x->width : 1;
    graph_params p = {.norm = {.eps = b->m->norm_eps, .group = d}};
    node *w = build_vector(b, where, what, d), *bias = bias_if(b, where, what, d);
    return bias ? graph_add3(b->gr, OP_LAYER_NORM, &p, what, x, w, bias)
                : graph_add2(b->gr, OP_LAYER_NORM, &p, what, x, w);
}

node *build_input(builder *b) {
    node *tokens = graph_add(b->gr, OP_TOKENS, NULL, "tokens", 0, NULL);
    b->pos = graph_add(b->gr, OP_POSITIONS, NULL, "positions", 0, NULL);
    b->out_rows = graph_add(b->gr, OP_OUT_ROWS, NULL, "out_rows", 0, NULL);
    node *table = build_weight2(b, OUTSIDE, "token_embd", b->m->d_model, b->m->n_vocab);
    return graph_add2(b->gr, OP_GET_ROWS, NULL, "embed", table, tokens);
}

void build_layer(builder *b, uint32_t il) {
    b->il = il;
    b->l = &b->m->layer[il];
    b->gr->layer = (int32_t)il;
}

node *build_output(builder *b, node *x) {
    const model_info *m = b->m;
    b->gr->layer = -1;
    node *h = norm_groups(b, OUTSIDE, "output_norm", x, m->d_model);
    if (b->gr->keep_hidden) b->gr->hidden = h;
    node *y = NULL;
    if (m->tied_output) {
        node *w = build_weight2(b, OUTSIDE, "token_embd", m->d_model, m->n_vocab);
        y = graph_add2(b->gr, OP_LINEAR, NULL, "output", h, w);
        node *bias = bias_if(b, OUTSIDE, "output", m->n_vocab);
        if (bias) y = build_add(b, y, bias, "output");
    } else {
        y = build_linear(b, OUTSIDE, "output", h, m->d_model, m->n_vocab);
    }
    if (m->final_softcap != 0.0f)
        y = graph_add1(b->gr, OP_SOFTCAP, &(graph_params){.f = m->final_softcap}, "softcap", y);
    b->gr->result = y;
    return h;
}

void build_embedding(builder *b, node *x) {
    if (x && x->width != b->m->d_model)
        refuse(b, ERR_MODEL_TENSOR, "the embeddings are %u wide, the model %u", x->width, b->m->d_model);
    b->gr->layer = -1;
    b->gr->result = x;
}

static bool has_tensor(const builder *b, const char *name) { return gguf_tensor_find(b->g, name) != NULL; }

void build_scores(builder *b, node *hidden, head_activation act, bool softmax) {
    const model_info *m = b->m;
    node *y = hidden;
    if (!m->n_scores) return;
    b->gr->layer = -1;
    if (has_tensor(b, "cls.weight")) {
        bool last = !has_tensor(b, "cls.output.weight");
        y = build_linear(b, OUTSIDE, "cls", y, m->d_model, last ? m->n_scores : m->d_model);
        y = act == HEAD_GELU ? graph_add1(b->gr, OP_GELU_ERF, NULL, "cls_act", y)
                             : graph_add1(b->gr, OP_SOFTCAP, &(graph_params){.f = 1.0f}, "cls_act", y); /* tanh */
        if (has_tensor(b, "cls.norm.weight")) y = build_layer_norm(b, OUTSIDE, "cls.norm", y);
    }
    if (has_tensor(b, "cls.output.weight")) y = build_linear(b, OUTSIDE, "cls.output", y, m->d_model, m->n_scores);
    if (softmax) y = graph_add1(b->gr, OP_SOFTMAX, NULL, "cls_softmax", y);
    if (b->gr->keep_hidden) b->gr->scores = y;
}

/* --- attention --------------------------------------------------------------------------------------------------------- */

/* One table of cos and sin serves q and k of every layer that turns by the same frequencies. */
static node *rope_table(builder *b) {
    uint32_t which = b->l->local_rope ? 1 : 0;
    if (b->table[which]) return b->table[which];
    const model_rope *r = which ? &b->m->rope_local : &b->m->rope;
    graph_params p = {.rope_table = {.n_rot = r->n_rot,
                                     .orig_ctx = r->orig_ctx,
                                     .base = r->base,
                                     .freq_scale = r->freq_scale,
                                     .ext_factor = r->ext_factor,
                                     .attn_factor = r->attn_factor,
                                     .beta_fast = r->beta_fast,
                                     .beta_slow = r->beta_slow}};
    int32_t layer = b->gr->layer;
    b->gr->layer = -1; /* it belongs to no layer */
    node *factors = which ? NULL : b->factors;
    const char *label = which ? "rope_local" : "rope";
    b->table[which] = factors ? graph_add2(b->gr, OP_ROPE_TABLE, &p, label, b->pos, factors)
                              : graph_add1(b->gr, OP_ROPE_TABLE, &p, label, b->pos);
    b->gr->layer = layer;
    return b->table[which];
}

static node *rope(builder *b, node *x, const char *label) {
    const model_rope *r = b->l->local_rope ? &b->m->rope_local : &b->m->rope;
    graph_params p = {.rope = {.head_dim = b->l->d_k, .n_rot = r->n_rot, .neox = r->neox}};
    return graph_add2(b->gr, OP_ROPE, &p, label, x, rope_table(b));
}

static graph_params attn_params(const builder *b) {
    const model_layer *l = b->l;
    float scale = b->m->attn_scale != 0.0f ? b->m->attn_scale : 1.0f / sqrtf((float)l->d_k);
    return (graph_params){.attn = {.kv_layer = b->m->n_kv_layers == 1 ? 0 : b->il,
                                   .n_head = l->n_head,
                                   .n_kv_head = l->n_kv_head,
                                   .d_k = l->d_k,
                                   .d_v = l->d_v,
                                   .window = l->window,
                                   .ahead = l->ahead,
                                   .alibi = b->m->alibi,
                                   .scale = scale,
                                   .softcap = b->m->attn_softcap}};
}

static bool has_layer_tensor(const builder *b, const char *what) {
    return has_tensor(b, name_of(b, LAYER, what, "weight").text);
}

static node *layer_norm_if(builder *b, const char *what, node *x) {
    return has_layer_tensor(b, what) ? build_layer_norm(b, LAYER, what, x) : x;
}

static node *columns(builder *b, node *x, uint64_t offset, uint64_t width, const char *label) {
    graph_params p = {.view = {.offset = (uint32_t)offset, .width = (uint32_t)width}};
    return graph_add1(b->gr, OP_VIEW, &p, label, x);
}

static void project(builder *b, node *x, node **q, node **k, node **v) {
    const model_layer *l = b->l;
    uint64_t d = b->m->d_model, d_q = (uint64_t)l->n_head * l->d_k, d_k = (uint64_t)l->n_kv_head * l->d_k,
             d_v = (uint64_t)l->n_kv_head * l->d_v;
    if (has_layer_tensor(b, "attn_qkv")) {
        node *qkv = build_linear(b, LAYER, "attn_qkv", x, d, d_q + d_k + d_v);
        *q = columns(b, qkv, 0, d_q, "attn_q");
        *k = columns(b, qkv, d_q, d_k, "attn_k");
        *v = columns(b, qkv, d_q + d_k, d_v, "attn_v");
        return;
    }
    *q = build_linear(b, LAYER, "attn_q", x, d, d_q);
    *k = build_linear(b, LAYER, "attn_k", x, d, d_k);
    *v = build_linear(b, LAYER, "attn_v", x, d, d_v);
}

node *build_attention(builder *b, node *normed, node **x, attention_options opt) {
    const model_info *m = b->m;
    const model_layer *l = b->l;
    node *q, *k, *v;
    project(b, normed, &q, &k, &v);
    if (opt.qk_norm) {
        q = norm_groups(b, LAYER, "attn_q_norm", q, l->d_k);
        k = norm_groups(b, LAYER, "attn_k_norm", k, l->d_k);
    }
    if (opt.qk_layer_norm) {
        q = layer_norm_if(b, "attn_q_norm", q);
        k = layer_norm_if(b, "attn_k_norm", k);
    }
    if (!opt.no_rope) {
        q = rope(b, q, "rope_q");
        k = rope(b, k, "rope_k");
    }
    graph_params p = attn_params(b);
    node *append = graph_add2(b->gr, OP_KV_APPEND, &p, "kv_append", k, v);
    node *a = graph_add2(b->gr, OP_ATTENTION, &p, "attention", q, append);
    if (b->il + 1 == m->n_layer && !opt.all_rows) {
        a = graph_add2(b->gr, OP_TAKE_ROWS, NULL, "take_attention", a, b->out_rows);
        *x = graph_add2(b->gr, OP_TAKE_ROWS, NULL, "take_residual", *x, b->out_rows);
    }
    return build_linear(b, LAYER, "attn_output", a, (uint64_t)l->n_head * l->d_v, m->d_model);
}

/* --- feed forward ------------------------------------------------------------------------------------------------------ */

static node *gated(builder *b, node *gate, node *up, graph_op activation) {
    node *act = graph_add1(b->gr, activation, NULL, "ffn_act", gate);
    return graph_add2(b->gr, OP_MUL, NULL, "ffn_gated", act, up);
}

node *build_mlp(builder *b, node *x, graph_op activation) {
    uint64_t d = b->m->d_model, d_ff = b->l->d_ff;
    node *up = build_linear(b, LAYER, "ffn_up", x, d, d_ff);
    return build_linear(b, LAYER, "ffn_down", graph_add1(b->gr, activation, NULL, "ffn_act", up), d_ff, d);
}

node *build_glu(builder *b, node *x, graph_op activation) {
    uint64_t d = b->m->d_model, d_ff = b->l->d_ff;
    node *both = build_linear(b, LAYER, "ffn_up", x, d, 2 * d_ff);
    node *gate = columns(b, both, 0, d_ff, "ffn_gate"), *up = columns(b, both, d_ff, d_ff, "ffn_up");
    return build_linear(b, LAYER, "ffn_down", gated(b, gate, up, activation), d_ff, d);
}

node *build_ffn(builder *b, node *x, graph_op activation) {
    uint64_t d = b->m->d_model, d_ff = b->l->d_ff;
    node *gate = build_linear(b, LAYER, "ffn_gate", x, d, d_ff);
    node *up = build_linear(b, LAYER, "ffn_up", x, d, d_ff);
    return build_linear(b, LAYER, "ffn_down", gated(b, gate, up, activation), d_ff, d);
}

static node *linear_expert(builder *b, const char *what, node *x, node *route, uint64_t k, uint64_t m,
                           uint32_t per_slot) {
    graph_params p = {.expert = {.n_used = b->m->n_expert_used, .per_slot = per_slot}};
    return graph_add3(b->gr, OP_LINEAR_EXPERT, &p, what, x, weight_experts(b, what, k, m), route);
}

node *build_experts(builder *b, node *x, graph_op activation) {
    const model_info *m = b->m;
    uint64_t d = m->d_model, d_ff = b->l->d_ff;
    node *logits = build_linear(b, LAYER, "ffn_gate_inp", x, d, m->n_expert);
    graph_params p = {.route = {.n_used = m->n_expert_used, .renormalise = 1, .scale = m->expert_weights_scale}};
    node *route = graph_add1(b->gr, OP_ROUTE, &p, "route", logits);
    node *gate = linear_expert(b, "ffn_gate_exps", x, route, d, d_ff, 0);
    node *up = linear_expert(b, "ffn_up_exps", x, route, d, d_ff, 0);
    node *down = linear_expert(b, "ffn_down_exps", gated(b, gate, up, activation), route, d_ff, d, 1);
    return graph_add2(b->gr, OP_COMBINE, NULL, "combine", down, route);
}
