/* The computation of one model as a graph, built once at load. Every value is a matrix of rows x width: rows are symbolic
 * (tokens of the step, rows that want output, or one), width is fixed. No value is ever rebuilt or re-planned per token.
 *
 * Ops are one list, GRAPH_OPS: name and number of inputs stand there; the shape rule is infer_<name> in ops.c and the
 * reference implementation ref_<name> in backend/cpu (both tables are made from the list, so none can be forgotten).
 * A node belongs to its graph's arena and dies with it. One thread builds and rewrites; afterwards it is immutable. */
#ifndef ROCMFORGE_GRAPH_GRAPH_H
#define ROCMFORGE_GRAPH_GRAPH_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "gguf/gguf.h"

/* X(op, name, fewest inputs, most inputs). T: n_tok, O: n_out; [rows, width]. w: a WEIGHT node. */
#define GRAPH_OPS(X) \
    X(OP_TOKENS, tokens, 0, 0)           /* -> i32 [T, 1], the step's token ids */ \
    X(OP_POSITIONS, positions, 0, 0)     /* -> i32 [T, 1], each token's position in its sequence */ \
    X(OP_OUT_ROWS, out_rows, 0, 0)       /* -> i32 [O, 1], which rows of the step want output */ \
    X(OP_TOKEN_TYPES, token_types, 0, 0) /* -> i32 [T, 1], each token's segment: 0, there is one */ \
    X(OP_WEIGHT, weight, 0, 0)           /* a tensor of the file; vectors are [1, n] and broadcast over rows */ \
    X(OP_GET_ROWS, get_rows, 2, 2)       /* w, ids -> f32 [rows of ids, dim0 of w] */ \
    X(OP_TAKE_ROWS, take_rows, 2, 2)     /* x [T, d], out_rows -> [O, d] */ \
    X(OP_MEAN_ROWS, mean_rows, 2, 2) /* x [T, d], out_rows -> [O, d]: the mean over all rows of that row's sequence */ \
    X(OP_LINEAR, linear, 2, 6)       /* x, w0 .. wn [, residual] -> [rows, sum of dim1]; y = x * w^T (+ residual) */ \
    X(OP_LINEAR_EXPERT, linear_expert, 3, 3) /* x, w [k, m, n_expert], route -> [T, n_used * m] */ \
    X(OP_ROUTE, route, 1, 1)                 /* logits [T, n_expert] -> route [T, n_used]: ids and weights */ \
    X(OP_COMBINE, combine, 2, 2) /* x [T, n_used * d], route -> [T, d]: sum of weight * slot, slots ascending */ \
    X(OP_ADD, add, 2, 2)         /* a + b; b may be a vector */ \
    X(OP_MUL, mul, 2, 2) \
    X(OP_SCALE, scale, 1, 1)           /* x * f */ \
    X(OP_SOFTCAP, softcap, 1, 1)       /* f * tanh(x / f) */ \
    X(OP_RMS_NORM, rms_norm, 2, 2)     /* x, w: per group of p.norm.group values: x / sqrt(mean(x^2) + eps) * w */ \
    X(OP_LAYER_NORM, layer_norm, 2, 3) /* x, w [, b] */ \
    X(OP_ROPE_TABLE, rope_table, 1, \
      2)                         /* positions [, factors w] -> f32 [T, n_rot]: cos, sin of pair 0, of pair 1, ... */ \
    X(OP_ROPE, rope, 2, 2)       /* x, table: rotates the first n_rot values of every head */ \
    X(OP_SOFTMAX, softmax, 1, 1) /* softmax of each row */ \
    X(OP_SILU, silu, 1, 1) \
    X(OP_GELU, gelu, 1, 1)           /* tanh form */ \
    X(OP_GELU_ERF, gelu_erf, 1, 1)   /* the exact form, x / 2 (1 + erf(x / sqrt 2)) */ \
    X(OP_SWIGLU, swiglu, 2, 2)       /* gate, up: silu(gate) * up */ \
    X(OP_GEGLU, geglu, 2, 2)         /* gate, up: gelu(gate) * up */ \
    X(OP_KV_APPEND, kv_append, 2, 2) /* k, v -> nothing: written to the pages of layer p.attn.kv_layer */ \
    X(OP_ATTENTION, attention, 2, 3) /* q, append [, sinks w] -> [T, n_head * d_v]; reads the pages of its layer */ \
    X(OP_QUANTIZE, quantize, 1, 1)   /* f32 -> q8 or q8k (p.dtype), backend's own layout */ \
    X(OP_VIEW, view, 1, 1)           /* columns [offset, offset + width) of x, no copy */ \
    X(OP_COPY, copy, 1, 1)           /* the same values on another backend */ \
    X(OP_NORM_QUANTIZE, norm_quantize, 2, 2)     /* fused rms_norm + quantize */ \
    X(OP_SWIGLU_QUANTIZE, swiglu_quantize, 2, 2) /* fused */ \
    X(OP_GEGLU_QUANTIZE, geglu_quantize, 2, 2)   /* fused */ \
    X(OP_ROPE_APPEND, rope_append, 3, 3)         /* k, v, table: fused rope of k + kv_append */

typedef enum {
#define X(op, name, lo, hi) op,
    GRAPH_OPS(X)
#undef X
        OP_COUNT
} graph_op;

typedef enum { ROWS_ONE, ROWS_TOK, ROWS_OUT } graph_rows;

typedef enum {
    DTYPE_NONE, /* no value: only an order (kv_append) */
    DTYPE_F32,
    DTYPE_I32,
    DTYPE_Q8,    /* activations as int8, one f32 scale per 32 values: input of 32-value block types */
    DTYPE_Q8K,   /* the same, one scale per 256 values: input of K types */
    DTYPE_ROUTE, /* n_used x {i32 expert, f32 weight} per row; width counts n_used */
    DTYPE_WEIGHT
} graph_dtype;

#define ATTN_SEES_ALL UINT32_MAX /* attn.ahead: an encoder's */
enum { GRAPH_MAX_IN = 6, GRAPH_MAX_USED_EXPERTS = 64 };

typedef enum {
    WEIGHT_AS_FILED,
    WEIGHT_PANELS
} weight_layout; /* chosen by the layout rule, done by the backend at load */

typedef struct node node;

typedef union { /* zeroed before it is set: CSE compares bytes */
    struct {
        float eps;
        uint32_t group;
        graph_dtype dtype; /* norm_quantize only: q8, q8k */
    } norm;
    struct {
        uint32_t n_rot, orig_ctx;
        float base, freq_scale; /* theta_i = pos * freq_scale * base^(-2i/n_rot) / factor_i */
        float ext_factor, attn_factor, beta_fast, beta_slow; /* YaRN; ext_factor 0: plain */
    } rope_table;
    struct {
        uint32_t head_dim, n_rot, neox;
    } rope; /* neox 1: pairs (i, i + n_rot/2); 0: pairs (2i, 2i + 1) */
    struct {
        uint32_t kv_layer, n_head, n_kv_head, d_k, d_v;
        uint32_t window; /* 0: none; else key position > query position - window */
        uint32_t ahead; /* keys after its own position that a query sees, of those that its sequence has in this step */
        /* 0: none; else each score loses slope * |its key's position - the query's|. Slope of head h of n, p the greatest
         * power of two in n: 2^(-alibi (h + 1) / p) for h < p, from there on 2^(-alibi (h - p + 1/2) / p) */
        float alibi;
        uint32_t n_rot, neox; /* rope_append only */
        float scale, softcap; /* softcap 0: none */
    } attn;
    struct {
        uint32_t n_used, softmax_after, renormalise;
        float scale;
    } route; /* softmax over all, or over the chosen */
    struct {
        uint32_t n_used, per_slot;
    } expert; /* per_slot 1: x is [T, n_used * k], each slot its own input */
    struct {
        uint32_t residual;
    } linear; /* 1: the last input is added to the result */
    struct {
        uint32_t offset, width;
    } view;            /* elements */
    float f;           /* scale, softcap */
    graph_dtype dtype; /* quantize, swiglu_quantize, geglu_quantize */
} graph_params;

struct node {
    graph_op op;
    uint32_t id; /* index in graph.nodes, kept right by graph_sort */
    uint32_t n_in;
    node *in[GRAPH_MAX_IN];
    graph_rows rows;
    graph_dtype dtype;
    uint32_t width;
    graph_params p;
    const gguf_tensor *weight; /* OP_WEIGHT */
    weight_layout layout;      /* OP_WEIGHT */
    int32_t layer;             /* model layer, -1 outside */
    const char *label;         /* "attn_q", for dumps and messages; static or in the arena */
    uint32_t n_uses;           /* by live nodes, and one for being a result; 0: dead. Kept by graph_count_uses */
    uint32_t device;           /* set by placement: index of a backend */
};

typedef struct {
    arena mem;
    node **nodes; /* in an order where inputs come first */
    uint32_t n_nodes, cap;
    uint32_t n_sorted; /* nodes before it stand in order; rules append behind it until the end of their pass */
    node *result;      /* logits, f32 [O, n_vocab]; of an encoder the hidden states */
    node *hidden;      /* NULL, or a second result: what the output matrix is applied to, f32 [O, d_model] */
    node *scores;      /* NULL, or a third: of the model's rank head, f32 [O, n_scores] */
    bool keep_hidden;  /* set before a model is built: hidden and scores are wanted */
    int32_t layer;     /* stamped on new nodes */
    err *e;            /* first failure while building: graph_add returns NULL from then on, and passes NULL through */
    status failed;
} graph;

void graph_init(graph *g, err *e);
void graph_free(graph *g);

/* Adds a node: shape, dtype and rows come from the op's shape rule. NULL in any required input, a wrong shape or no memory:
 * records the first reason in *g and returns NULL; so a builder checks g->failed once at its end. `params` may be NULL. */
node *graph_add(graph *g, graph_op op, const graph_params *params, const char *label, uint32_t n_in, node *const in[]);
node *graph_add1(graph *g, graph_op op, const graph_params *params, const char *label, node *a);
node *graph_add2(graph *g, graph_op op, const graph_params *params, const char *label, node *a, node *b);
node *graph_add3(graph *g, graph_op op, const graph_params *params, const char *label, node *a, node *b, node *c);
node *graph_weight(graph *g, const gguf_tensor *t,
                   const char *label); /* one node per tensor: asking again gives the same */

const char *graph_op_name(graph_op op);
size_t graph_row_bytes(graph_dtype t,
                       uint32_t width); /* planned bytes of one row, whatever a backend's layout inside */
bool graph_quantised_input(quant_type weight,
                           graph_dtype *out); /* which activations a weight type wants: q8, q8k; false: f32 */

/* Checks the whole graph: inputs before users, shapes as the rules say, params in range, the result set. */
MUST_CHECK status graph_verify(const graph *g, err *e);
/* Text, one node a line, stable: "%12 linear f32 [T,1536] <- %11 %w3 %w4   L0 qkv". For inspect --graph and golden tests. */
status graph_dump(const graph *g, strbuf *out);
void graph_count_uses(graph *g);
MUST_CHECK status graph_sort(graph *g, err *e); /* drops what no result needs, orders, renumbers */

/* --- rewriting (rewrite.c; rules_*.c one file per family) ------------------------------------------------------------- */
typedef struct {
    const char *name;
    graph_op op;                       /* tried at nodes of this op; OP_COUNT: at all */
    node *(*apply)(graph *g, node *n); /* a replacement for n; n itself, changed in place; or NULL to leave it */
} graph_rule;

typedef struct {
    const char *name;
    uint32_t applied, nodes_before, nodes_after;
} graph_stat;

enum { /* passes, in the order they run; a mask switches them */
       PASS_NOOP = 1,
       PASS_CSE = 2,
       PASS_LOWER = 4,
       PASS_FUSE = 8,
       PASS_DCE = 16,
       PASS_LAYOUT = 32,
       PASS_ALL = 63
};
enum { GRAPH_MAX_STATS = 32 };

/* Runs the passes of `mask`; graph_verify follows each. stats: per rule, for inspect --graph (may be NULL).
 * PASS_LOWER inserts quantize before quantised linears (always needed by the CPU backend's integer kernels, so kept when
 * others are off). The result of a step never depends, bit for bit, on which passes ran. */
MUST_CHECK status graph_optimise(graph *g, unsigned mask, graph_stat *stats, uint32_t *n_stats, err *e);

#endif
