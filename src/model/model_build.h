/* The pieces that architectures are built from: weight lookup with shape and type checks, norms, the attention block, the
 * feed-forward blocks. An arch_<name>.c strings them together. A builder lives on the stack of one build; nodes belong
 * to the graph. Failures are sticky in the graph (gr->failed, reason in gr->e): every function passes NULL through, so
 * an architecture is written straight down and checked once at its end. */
#ifndef ROCMFORGE_MODEL_MODEL_BUILD_H
#define ROCMFORGE_MODEL_MODEL_BUILD_H

#include "model/keys.h"
#include "model/model.h"

typedef struct {
    graph *gr;
    const model_info *m;
    const gguf *g;
    node *pos, *out_rows;
    node *factors;  /* rope_freqs.weight: divides the frequencies of `rope`; NULL: none */
    node *table[2]; /* rope tables, made when first asked for; [1] is rope_local's */
    uint32_t il;    /* current layer */
    const model_layer *l;
} builder;

struct model_arch {
    const char *name;
    bool neox;       /* rope pairs (i, i + n_rot/2) */
    bool encoder;    /* sees what comes later, gives hidden states only */
    bool layer_norm; /* its norms take mean and bias away: the epsilon has another key */
    status (*read)(model_info *m,
                   const keys *k); /* its own keys; after the common ones, before the checks. May be NULL */
    void (*build)(builder *b);
};
extern const model_arch arch_llama, arch_qwen2, arch_qwen3, arch_gemma3;
extern const model_arch arch_bert, arch_nomic_bert, arch_jina_bert_v2, arch_modern_bert, arch_gemma_embedding;

/* --- weights: "<what>.weight" / "<what>.bias", inside a layer "blk.<il>.<what>...". `what` is static: it becomes the label */
enum { OUTSIDE = 0, LAYER = 1 };
node *build_weight2(builder *b, int where, const char *what, uint64_t k, uint64_t m); /* a matrix, m rows of k */
node *build_vector(builder *b, int where, const char *what, uint64_t n);              /* f32 */
node *build_vector_if(builder *b, int where, const char *what, uint64_t n);           /* NULL when absent: no failure */

/* --- from tokens to the residual stream, and back to logits */
node *build_input(builder *b);             /* tokens -> rows of token_embd, [T, d_model] */
void build_layer(builder *b, uint32_t il); /* moves to layer il; labels and weights follow */
/* output_norm, output (or token_embd again), softcap; sets the result. Returns the hidden states, the norm's rows. */
node *build_output(builder *b, node *x);
void build_embedding(builder *b, node *x); /* an encoder's end: x is its result, and what its rank head is applied to */
/* cls, cls.norm, cls.output, as far as the file has them: scores out of hidden states */
typedef enum { HEAD_TANH, HEAD_GELU } head_activation; /* after cls */
void build_scores(builder *b, node *hidden, head_activation act, bool softmax);

/* --- blocks. x: [rows, d] */
node *build_norm(builder *b, const char *what, node *x); /* rms norm over d_model, weight <what> of this layer */
node *build_rms_norm(builder *b, int where, const char *what, node *x);   /* the same inside or outside of layers */
node *build_layer_norm(builder *b, int where, const char *what, node *x); /* bias when the file has one */
node *build_linear(builder *b, int where, const char *what, node *x, uint64_t k,
                   uint64_t m); /* + bias when the file has one */
typedef struct {
    bool qk_norm;       /* rms norm of each head of q and k, before rope */
    bool qk_layer_norm; /* layer norm of q and k, where the file has weights for it */
    bool no_rope;
    bool all_rows; /* the last layer too goes on with every row */
} attention_options;
/* q, k, v (in one matrix attn_qkv where the file has that), rope, append, attention, output projection. In the last layer only the rows that want output go on: then *x,
 * the residual stream, is cut to them too. */
node *build_attention(builder *b, node *normed, node **x, attention_options opt);
node *build_mlp(builder *b, node *x, graph_op activation);     /* down(activation(up(x))) */
node *build_glu(builder *b, node *x, graph_op activation);     /* down(activation(first half of up(x)) * second half) */
node *build_ffn(builder *b, node *x, graph_op activation);     /* down(activation(gate(x)) * up(x)) */
node *build_experts(builder *b, node *x, graph_op activation); /* the same in the best n_expert_used of n_expert */
node *build_add(builder *b, node *a, node *x, const char *label);

#endif
