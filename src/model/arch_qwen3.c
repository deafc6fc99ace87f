/* qwen3: the dense Qwen3 models. As qwen2 without biases, with an RMS norm on each head of q and k before rope. A reranker
 * has a matrix cls.output instead of the words "yes" and "no": its scores are the softmax over its rows. */
#include "model/model_build.h"

static void build(builder *b) {
    node *x = build_input(b);
    for (uint32_t il = 0; il < b->m->n_layer; il++) {
        build_layer(b, il);
        node *a = build_attention(b, build_norm(b, "attn_norm", x), &x, (attention_options){.qk_norm = true});
        x = build_add(b, a, x, "attn_residual");
        x = build_add(b, build_ffn(b, build_norm(b, "ffn_norm", x), OP_SILU), x, "ffn_residual");
    }
    build_scores(b, build_output(b, x), HEAD_TANH, true);
}

const model_arch arch_qwen3 = {.name = "qwen3", .neox = true, .build = build};
