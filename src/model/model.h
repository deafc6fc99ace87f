/* What a GGUF file says about its model, checked, and that model as a graph. One file per architecture family
 * (arch_<name>.c) turns metadata and tensor names into nodes; the table of them is in model.c. Nothing outside this room
 * knows an architecture's name.
 *
 * model_info_read checks every hyperparameter against the others and every tensor's presence, shape and type, so that
 * `inspect` and `generate` refuse alike. model_build then makes the graph out of plain ops only (linear, rms_norm, rope,
 * kv_append, attention, silu, mul, add, ...); fusing and quantising are the rewrite rules' work.
 * A model_info owns its layer table; its strings are views into the gguf, which must outlive both info and graph.
 * Immutable after reading: any thread. */
#ifndef ROCMFORGE_MODEL_MODEL_H
#define ROCMFORGE_MODEL_MODEL_H

#include "base/err.h"
#include "base/str.h"
#include "gguf/gguf.h"
#include "graph/graph.h"

enum { MODEL_MAX_LAYERS = 1024, MODEL_MAX_HEADS = 1024, MODEL_MAX_EXPERTS = 1024 };

typedef struct {
    uint32_t n_head, n_kv_head;
    uint32_t d_k, d_v;   /* of one head */
    uint32_t d_ff;       /* of each expert where there are experts */
    uint32_t window;     /* keys a query sees, itself included; 0: all before it */
    uint32_t ahead;      /* keys after it that it sees too, ATTN_SEES_ALL: all; decoders 0 */
    uint32_t local_rope; /* 1: rope_local applies, 0: rope */
} model_layer;

/* ROPE as the OP_ROPE_TABLE parameters want it. attn_factor is what multiplies cos and sin besides YaRN's own
 * 1 + 0.1 ln(1 / freq_scale), which the op applies when ext_factor is not 0 (the convention of ggml_rope_ext). */
typedef struct {
    uint32_t n_rot, orig_ctx, neox;
    float base, freq_scale; /* freq_scale: 1 / scaling factor */
    float ext_factor, attn_factor, beta_fast, beta_slow;
    const char *scaling; /* "none", "linear", "yarn" */
} model_rope;

/* Defaults for sampling that the file itself recommends (general.sampling.*); `set` says which are there. */
enum {
    MODEL_SAMPLING_TEMPERATURE = 1,
    MODEL_SAMPLING_TOP_K = 2,
    MODEL_SAMPLING_TOP_P = 4,
    MODEL_SAMPLING_MIN_P = 8,
    MODEL_SAMPLING_REPEAT_PENALTY = 16,
    MODEL_SAMPLING_REPEAT_LAST_N = 32
};
typedef struct {
    unsigned set;
    float temperature, top_p, min_p, repeat_penalty;
    int32_t top_k, repeat_last_n;
} model_sampling;

/* How the hidden states of a sequence become its embedding: as <arch>.pooling_type numbers them. */
typedef enum {
    MODEL_POOLING_NONE,
    MODEL_POOLING_MEAN,
    MODEL_POOLING_CLS,
    MODEL_POOLING_LAST,
    MODEL_POOLING_RANK
} model_pooling;

typedef struct model_arch model_arch; /* a row of the table in model.c */

typedef struct {
    const model_arch *arch;
    const char *arch_name;  /* "llama" */
    str name;               /* general.name; empty when absent */
    str size_label;         /* general.size_label; empty when absent */
    const char *file_type;  /* general.file_type: "Q4_K_M"; "mixed" or the commonest tensor type when absent */
    bool has_chat_template; /* tokenizer.chat_template */
    uint64_t n_params;      /* elements of all tensors */
    uint64_t weight_bytes;  /* of all tensors, as filed */

    uint32_t n_layer, d_model, n_vocab, context_train;
    uint32_t n_head; /* the most of any layer */
    uint32_t n_expert, n_expert_used;
    float expert_weights_scale;
    float norm_eps;
    float attn_scale;                  /* of q . k; 0: 1 / sqrt(d_k) */
    float attn_softcap, final_softcap; /* 0: none */
    uint32_t window;                   /* the widest sliding window of any layer; 0: none */
    model_pooling pooling;             /* MODEL_POOLING_NONE: the file says nothing, or no pooling */
    uint32_t n_scores;                 /* of the rank head; 0: there is none */
    uint32_t n_kv_layers;              /* of the cache: n_layer; of an encoder 1, its layers use it in turn */
    uint32_t max_positions;            /* positions that the model has learned a vector for; 0: any number */
    float alibi;                       /* 0: none; see graph_params.attn.alibi */
    bool scores_of_mean;               /* the rank head looks at the mean of all states, not at one of them */
    bool encoder;                      /* a token sees those after it too; there are no logits */
    bool tied_output;                  /* no output.weight: token_embd.weight is used again */
    model_rope rope, rope_local;
    model_layer *layer; /* [n_layer]; kv_layer of the graph's attention nodes is the index here */
    model_sampling sampling;
} model_info;

/* Reads and checks. On failure *m is empty ({0}). ERR_ARCH, ERR_MODEL_KEY, ERR_MODEL_TENSOR, ERR_TYPE, ERR_GGUF_KEY name
 * the offender. */
MUST_CHECK status model_info_read(model_info *m, const gguf *g, err *e);
void model_info_free(model_info *m); /* {0} and twice are fine */

/* Builds the un-optimised graph into gr, which graph_init made. The result node is the logits, [O, n_vocab]. */
MUST_CHECK status model_build(graph *gr, const model_info *m, const gguf *g, err *e);

size_t model_n_archs(void);
const char *model_arch_name(size_t i); /* of the table, for messages and --help */

#endif
