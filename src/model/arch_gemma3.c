/* gemma3: Gemma 3, text. Embeddings are scaled by sqrt(d_model); every block is normed before and after; q and k are
 * normed by head; GELU gates. Of each `pattern` layers all but the last look back over a sliding window and turn by the
 * local rope (base 10000, never stretched); the last sees everything. The file's norm weights already hold the
 * 1 + w of the original. */
#include "model/model_build.h"

#include "model/windows.h"

#include <math.h>

enum { DEFAULT_PATTERN = 6, LAYERS_27B = 62 };

static status read(model_info *m, const keys *k) {
    uint32_t window = 0;
    m->rope_local = m->rope;
    m->rope_local.base = 10000.0f;
    m->rope_local.freq_scale = 1.0f;
    status s = keys_u32(k, "attention.sliding_window", 0, INT32_MAX, &window);
    if (!s) s = keys_f32(k, "rope.freq_base_swa", 1.0f, 1e15f, &m->rope_local.base);
    if (!s && window) s = windows_read_pattern(m, k, DEFAULT_PATTERN, false);
    for (uint32_t il = 0; !s && il < m->n_layer; il++) m->layer[il].window = m->layer[il].local_rope ? window : 0;
    if (!s) s = keys_f32(k, "final_logit_softcapping", 0.0f, 1e6f, &m->final_softcap);
    /* The 27B model divides by sqrt(d_model / n_head), not by the root of its head size; only its depth tells it. */
    if (m->n_layer == LAYERS_27B) m->attn_scale = 1.0f / sqrtf((float)(m->d_model / m->layer[0].n_head));
    return s;
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
    build_output(b, x);
}

const model_arch arch_gemma3 = {.name = "gemma3", .neox = true, .read = read, .build = build};
