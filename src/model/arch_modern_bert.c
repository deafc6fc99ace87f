/* modern-bert: ModernBERT and its heirs. Norms without bias stand before each block, the first layer needs none; q, k and v in
 * one matrix; the first half of ffn_up gates the second, by GELU or SiLU. Of each three layers the first sees everything and
 * turns by `rope`, the others see half a window to each side and turn by the local rope. A reranker's head looks at the mean
 * of all states, or at the first. */
#include "model/model_build.h"
#include "model/windows.h"

enum { DEFAULT_PATTERN = 3 };

/* <arch>.hidden_activation; absent: GELU. */
static status read_activation(bool *silu, const gguf *g, const char *key, err *e) {
    str name = str_of("gelu");
    status s = gguf_get_str(g, key, &name, e);
    if (s) return s;
    *silu = str_is(name, "silu") || str_is(name, "swish") || str_is(name, "swiglu");
    if (*silu || str_is(name, "gelu") || str_is(name, "geglu")) return OK;
    return fail(e, ERR_MODEL_KEY, "key %s is %.*s, which is not built in (built in: gelu, silu)", key, STR(name));
}

static const char activation_key[] = "modern-bert.hidden_activation";

static status read(model_info *m, const keys *k) {
    uint32_t head = MODEL_POOLING_MEAN;
    bool silu;
    status s = windows_read_around(m, k, DEFAULT_PATTERN, true, false);
    if (!s) s = keys_u32(k, "classifier.pooling_type", MODEL_POOLING_MEAN, MODEL_POOLING_CLS, &head);
    if (!s) s = read_activation(&silu, k->g, activation_key, k->e);
    m->scores_of_mean = m->n_scores && head == MODEL_POOLING_MEAN;
    return s;
}

static node *attend(builder *b, node **x) {
    bool normed = b->il > 0 || gguf_tensor_find(b->g, "blk.0.attn_norm.weight");
    node *h = normed ? build_layer_norm(b, LAYER, "attn_norm", *x) : *x;
    return build_attention(b, h, x, (attention_options){.all_rows = b->m->scores_of_mean});
}

/* With the mean every row is computed to the end; those that want output are taken there. */
static void end(builder *b, node *x) {
    b->gr->layer = -1;
    node *h = build_layer_norm(b, OUTSIDE, "output_norm", x), *of = h;
    if (b->m->scores_of_mean) {
        of = graph_add2(b->gr, OP_MEAN_ROWS, NULL, "cls_mean", h, b->out_rows);
        h = graph_add2(b->gr, OP_TAKE_ROWS, NULL, "take_hidden", h, b->out_rows);
    }
    build_embedding(b, h);
    build_scores(b, of, HEAD_GELU, false);
}

static void build(builder *b) {
    bool silu = false;
    if (read_activation(&silu, b->g, activation_key, b->gr->e)) silu = false; /* it was read before */
    node *x = build_layer_norm(b, OUTSIDE, "token_embd_norm", build_input(b));
    for (uint32_t il = 0; il < b->m->n_layer; il++) {
        build_layer(b, il);
        node *a = attend(b, &x);
        x = build_add(b, a, x, "attn_residual");
        node *h = build_glu(b, build_layer_norm(b, LAYER, "ffn_norm", x), silu ? OP_SILU : OP_GELU_ERF);
        x = build_add(b, h, x, "ffn_residual");
    }
    end(b, x);
}

const model_arch arch_modern_bert = {
    .name = "modern-bert", .neox = true, .encoder = true, .layer_norm = true, .read = read, .build = build};
