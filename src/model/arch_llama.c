/* llama: Llama 1 to 3, Mistral, Mixtral, SmolLM2 and the many that share their shape. Rope turns neighbouring pairs (the
 * converter permutes q and k for it); Llama 3.1's stretched frequencies stand in rope_freqs.weight; any projection may
 * have a bias; with expert_count the feed-forward block is a mixture of experts (Mixtral: softmax over all experts, the
 * best n_expert_used renormalised to sum 1). */
#include "model/model_build.h"

static status check_factors(const builder *b) {
    const gguf_tensor *t = b->factors->weight;
    float f[512];
    uint64_t n = t->dim[0];
    const uint8_t *at = t->data;
    for (uint64_t i = 0; i < n; i += 512, at += sizeof f) {
        uint64_t part = n - i < 512 ? n - i : 512;
        quant_lookup(QUANT_F32)->decode(f, at, part);
        for (uint64_t j = 0; j < part; j++)
            if (!(f[j] > 0.0f && f[j] < 1e30f))
                return fail(b->gr->e, ERR_MODEL_TENSOR, "tensor rope_freqs.weight holds %g: not a factor",
                            (double)f[j]);
    }
    return OK;
}

static void build(builder *b) {
    const model_info *m = b->m;
    node *x = build_input(b);
    b->factors = build_vector_if(b, OUTSIDE, "rope_freqs", m->rope.n_rot / 2);
    if (b->factors && !b->gr->failed) b->gr->failed = check_factors(b);
    for (uint32_t il = 0; il < m->n_layer; il++) {
        build_layer(b, il);
        node *a = build_attention(b, build_norm(b, "attn_norm", x), &x, (attention_options){0});
        x = build_add(b, a, x, "attn_residual");
        node *h = build_norm(b, "ffn_norm", x);
        h = m->n_expert ? build_experts(b, h, OP_SILU) : build_ffn(b, h, OP_SILU);
        x = build_add(b, h, x, "ffn_residual");
    }
    build_output(b, x);
}

const model_arch arch_llama = {.name = "llama", .build = build};
