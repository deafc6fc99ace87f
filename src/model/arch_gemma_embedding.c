/* gemma-embedding: EmbeddingGemma. Gemma 3 (arch_gemma3.c) as an encoder: every token sees those after it too, in all but the
 * last of each six layers half a window to each side. Two matrices dense_2 and dense_3 behind the pooling are in some files;
 * they have neither bias nor activation, so they are applied to each state, whatever is then pooled. */
#include "model/model_build.h"
#include "model/windows.h"

#include <math.h>

enum { DEFAULT_PATTERN = 6 };

static status read(model_info *m, const keys *k) { return windows_read_around(m, k, DEFAULT_PATTERN, false, true); }

static node *dense(builder *b, node *x, const char *name, const char *what) {
    const gguf_tensor *t = gguf_tensor_find(b->g, name);
    return t && x ? build_linear(b, OUTSIDE, what, x, x->width, t->dim[1]) : x;
}

static void build(builder *b) {
    const model_info *m = b->m;
    graph_params root = {.f = sqrtf((float)m->d_model)};
    node *x = graph_add1(b->gr, OP_SCALE, &root, "embed_scale", build_input(b));
    for (uint32_t il = 0; il < m->n_layer; il++) {
        build_layer(b, il);
        node *a = build_attention(b, build_norm(b, "attn_norm", x), &x, (attention_options){.qk_norm = true});
        x = build_add(b, build_norm(b, "post_attention_norm", a), x, "attn_residual");
        node *h = build_ffn(b, build_norm(b, "ffn_norm", x), OP_GELU);
        x = build_add(b, build_norm(b, "post_ffw_norm", h), x, "ffn_residual");
    }
    b->gr->layer = -1;
    x = build_rms_norm(b, OUTSIDE, "output_norm", x);
    x = dense(b, x, "dense_2.weight", "dense_2");
    build_embedding(b, dense(b, x, "dense_3.weight", "dense_3"));
}

const model_arch arch_gemma_embedding = {
    .name = "gemma-embedding", .neox = true, .encoder = true, .read = read, .build = build};
