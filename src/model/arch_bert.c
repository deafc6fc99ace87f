/* bert, nomic-bert, jina-bert-v2: the encoders of 2018 and their heirs. Each token's embedding is its word's, its segment's
 * (always the first) and, in bert, its position's, then normed; every block is normed after its residual is added. GELU is the
 * exact one, as the models were trained (llama.cpp computes the tanh form).
 *   bert          learned positions; down(gelu(up(x))); a rank head cls, cls.output
 *   nomic-bert    rope over halves of a head; q, k and v in one matrix; silu gates
 *   jina-bert-v2  ALiBi; GELU gates, in a matrix of their own or as the first half of ffn_up; in some, norms of q and k and
 *                 a second norm after attention */
#include "model/model_build.h"

#include <stdio.h>

static node *embed(builder *b, bool positions) {
    const model_info *m = b->m;
    node *x = build_input(b);
    if (gguf_tensor_find(b->g, "token_types.weight")) {
        const gguf_tensor *t = gguf_tensor_find(b->g, "token_types.weight");
        node *types = graph_add(b->gr, OP_TOKEN_TYPES, NULL, "token_types", 0, NULL);
        node *w = build_weight2(b, OUTSIDE, "token_types", m->d_model, t->dim[1]);
        x = build_add(b, x, graph_add2(b->gr, OP_GET_ROWS, NULL, "token_types", w, types), "embed_type");
    }
    if (positions) {
        node *w = build_weight2(b, OUTSIDE, "position_embd", m->d_model, m->context_train);
        x = build_add(b, graph_add2(b->gr, OP_GET_ROWS, NULL, "position", w, b->pos), x, "embed_position");
    }
    return build_layer_norm(b, OUTSIDE, "token_embd_norm", x);
}

static bool has(const builder *b, const char *what) {
    char name[KEY_MAX];
    snprintf(name, sizeof name, "blk.%u.%s.weight", b->il, what);
    return gguf_tensor_find(b->g, name) != NULL;
}

/* attention, residual, norm; in some jina models residual and norm once more. */
static node *attend(builder *b, node **x, attention_options opt) {
    node *a = build_attention(b, *x, x, opt);
    a = build_layer_norm(b, LAYER, "attn_output_norm", build_add(b, a, *x, "attn_residual"));
    if (!has(b, "attn_norm_2")) return a;
    return build_layer_norm(b, LAYER, "attn_norm_2", build_add(b, a, *x, "attn_residual_2"));
}

static void build_layers(builder *b, node *x, attention_options opt, node *(*ffn)(builder *b, node *x)) {
    for (uint32_t il = 0; il < b->m->n_layer; il++) {
        build_layer(b, il);
        node *a = attend(b, &x, opt);
        x = build_layer_norm(b, LAYER, "layer_output_norm", build_add(b, ffn(b, a), a, "ffn_residual"));
    }
    build_embedding(b, x);
    build_scores(b, x, HEAD_TANH, false);
}

/* --- bert */
static status read_bert(model_info *m, const keys *k) {
    (void)k;
    m->max_positions = m->context_train;
    return OK;
}
static node *ffn_bert(builder *b, node *x) { return build_mlp(b, x, OP_GELU_ERF); }
static void build_bert(builder *b) { build_layers(b, embed(b, true), (attention_options){.no_rope = true}, ffn_bert); }
const model_arch arch_bert = {
    .name = "bert", .neox = true, .encoder = true, .layer_norm = true, .read = read_bert, .build = build_bert};

/* --- nomic-bert */
static node *ffn_nomic(builder *b, node *x) { return build_ffn(b, x, OP_SILU); }
static void build_nomic(builder *b) { build_layers(b, embed(b, false), (attention_options){0}, ffn_nomic); }
const model_arch arch_nomic_bert = {
    .name = "nomic-bert", .neox = true, .encoder = true, .layer_norm = true, .build = build_nomic};

/* --- jina-bert-v2 */
static status read_jina(model_info *m, const keys *k) {
    m->alibi = 8.0f;
    return keys_f32(k, "attention.max_alibi_bias", 8.0f, 8.0f, &m->alibi);
}
static node *ffn_jina(builder *b, node *x) {
    if (has(b, "ffn_gate")) return build_ffn(b, x, OP_GELU_ERF);
    char name[KEY_MAX];
    snprintf(name, sizeof name, "blk.%u.ffn_up.weight", b->il);
    const gguf_tensor *up = gguf_tensor_find(b->g, name);
    bool both = up && up->dim[1] != b->l->d_ff;
    return both ? build_glu(b, x, OP_GELU_ERF) : build_mlp(b, x, OP_GELU_ERF);
}
static void build_jina(builder *b) {
    build_layers(b, embed(b, false), (attention_options){.no_rope = true, .qk_layer_norm = true}, ffn_jina);
}
const model_arch arch_jina_bert_v2 = {
    .name = "jina-bert-v2", .encoder = true, .layer_norm = true, .read = read_jina, .build = build_jina};
