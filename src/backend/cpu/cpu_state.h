/* Inside of the CPU backend, shared by its files: where weights and values lie, and how a node's work is split over the
 * pool. One run_<op> per op (tables from GRAPH_OPS in cpu_nodes.c) takes a node and the running step, splits its rows or
 * panels into chunks and calls the kernels of the tier. Executor thread; workers only inside pool_run. */
#ifndef ROCMFORGE_BACKEND_CPU_CPU_STATE_H
#define ROCMFORGE_BACKEND_CPU_CPU_STATE_H

#include "backend/cpu/cpu.h"
#include "backend/cpu/pool.h"
#include "backend/cpu/warm.h"

typedef struct {
    const uint8_t *data; /* panels, decoded f32, or rows as filed in the mapping */
    quant_type type;     /* of data: F32 for decoded vectors */
    bool panels;
    uint32_t k, n_rows, n_expert; /* columns, rows of one expert (or all), experts (1 for plain matrices) */
    size_t row_bytes;             /* as filed */
    size_t panel_size;            /* bytes of one panel */
    uint32_t n_panels;            /* of one expert */
    size_t own_bytes;             /* in the backend's weight block; 0: used from the mapping */
} cpu_weight;

typedef struct {
    uint8_t *data;
    size_t stride; /* bytes from row to row */
} cpu_value;

enum { CPU_MAX_GROUP = 128 }; /* query heads of one kv head */

typedef struct {
    float *row;  /* [widest row] for fused norms */
    float *attn; /* see cpu_attention.c */
} cpu_scratch;

typedef struct cpu_backend {
    backend base;
    cpu_ops ops;
    cpu_tier tier;
    pool *pool;
    uint32_t n_threads;

    const plan *p;
    uint32_t device;
    const kv_layout *kv;
    cpu_weight *weight; /* by node id; empty for other nodes */
    uint8_t *weight_block, *act_block, *kv_block, *scratch_block;
    size_t weight_bytes, act_bytes, kv_bytes, scratch_bytes;
    warm *kv_warm;        /* NULL: the KV block is small */
    cpu_scratch *scratch; /* [n_threads] */
    const float *zeros;   /* [widest head] */
    float *split;         /* partial attention states, see cpu_attention.c */
    size_t split_floats;
    uint8_t *gather;       /* expert inputs brought together, see cpu_moe.c */
    uint32_t *expert_rows; /* [max_tok * n_used] rows of the expert in hand */

    const step_input *in;     /* of the running step */
    backend_profile *profile; /* [OP_COUNT]; NULL: none */
} cpu_backend;

cpu_value cpu_value_of(const cpu_backend *c, const node *n);
uint32_t cpu_rows(const cpu_backend *c, const node *n);  /* rows of this step */
cpu_act cpu_act_of(const cpu_backend *c, const node *n); /* a q8 or q8k value as the kernels see it */
cpu_act cpu_act_at(uint8_t *data, uint32_t width, uint32_t n_rows, graph_dtype t);
size_t cpu_act_bytes(uint32_t width, uint32_t n_rows, graph_dtype t);

/* cpu_weights.c */
status cpu_weights_measure(const cpu_backend *c, const plan *p, uint32_t device, backend_memory *out, err *e);
status cpu_weights_load(cpu_backend *c, void (*progress)(void *, uint64_t, uint64_t), void *ctx, err *e);
const float *cpu_vector(const cpu_backend *c, const node *n); /* a weight decoded to f32 */

/* scratch sizes, part of the plan */
size_t cpu_scratch_measure(const plan *p, uint32_t device, const kv_layout *kv, uint32_t n_threads);
status cpu_scratch_alloc(cpu_backend *c, err *e);
size_t cpu_attention_floats(const kv_layout *kv, const plan *p); /* of one thread */
size_t cpu_attention_split_floats(const kv_layout *kv, const plan *p, uint32_t n_threads);
size_t cpu_moe_gather_bytes(const plan *p, uint32_t device, uint32_t *max_rows);

void cpu_run_node(cpu_backend *c, const node *n);
void cpu_run_linear(cpu_backend *c, const node *n);
void cpu_run_attention(cpu_backend *c, const node *n);
void cpu_run_append(cpu_backend *c, const node *n);
void cpu_run_route(cpu_backend *c, const node *n);
void cpu_run_linear_expert(cpu_backend *c, const node *n);
void cpu_run_combine(cpu_backend *c, const node *n);

/* One matrix (or one expert of it) times columns [0, n_col) of x: the shared core of linear and linear_expert. */
typedef struct {
    const cpu_weight *w;
    const uint8_t *data; /* first panel or row */
    cpu_act act;         /* quantised input, or */
    const float *x;      /* float input, */
    size_t x_stride;     /* floats */
    uint32_t n_col;
    float *y;        /* result column c, row r: y[c * y_stride + r] (strides in floats); with slots, column c is */
    size_t y_stride; /* (token, slot) slots[c]: y[slots[c] / n_used * y_stride + slots[c] % n_used * rows + r] */
    const uint32_t *slots;
    uint32_t n_used;
    const float *residual; /* or NULL; res_stride floats */
    size_t res_stride;
} cpu_matmul;

uint32_t cpu_matmul_chunks(const cpu_backend *c, const cpu_matmul *m);
void cpu_matmul_rows(const cpu_backend *c, const cpu_matmul *m, uint32_t panel0, uint32_t panel1);

static inline uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static inline size_t align64(size_t n) { return (n + 63) & ~(size_t)63; }

#endif
