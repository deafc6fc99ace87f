/* Inside of the GPU backend, shared by its files. What load makes of a plan:
 *
 *   weights      one arena; quantised matrices as planes, vectors as f32                         gpu_tensors.c
 *   activations  one block, as the plan packs them (graph/plan.h); quantised rows as args_linear.h draws them
 *   KV           one block: the pages of kv/kv.h, but only the layers that run here
 *   step         one block, and its like in pinned host memory: all that a step is told (tokens, positions, sequences,
 *                page tables, output rows, rope tables, work lists of attention, draws), up in one copy      gpu_step.c
 *   scratch      attention states, expert lists, counts of blocks (0 between launches), a gate and its up
 *   items        one a kernel launch, in order, arguments filled but for what the step decides   gpu_items.c ...
 *
 * A value of the graph is an address and a stride. Executor thread; workers only inside pool_run. */
#ifndef ROCMFORGE_BACKEND_GPU_GPU_STATE_H
#define ROCMFORGE_BACKEND_GPU_GPU_STATE_H

#include "backend/cpu/pool.h"
#include "backend/gpu/gpu.h"
#include "backend/gpu/kernels/args_attention.h"
#include "backend/gpu/kernels/args_linear.h"
#include "backend/gpu/memory.h"
#include "backend/gpu/upload.h"

typedef struct gpu_backend gpu_backend;
typedef struct gpu_profile gpu_profile;

/* --- weights ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    bool used, vector;        /* of this device; decoded to f32 */
    gpu_weight_planes planes; /* vector: only k and row_bytes */
    uint64_t n_rows;          /* of all experts */
    uint32_t n_expert;
    gpu_addr at[LINEAR_PLANES];
    uint64_t n_bytes;
} gpu_tensor;

typedef struct {
    uint64_t total, largest; /* bytes in the arena; of one piece */
    uint64_t widest, widest_filed;
    uint64_t n_bytes_filed;
} gpu_tensor_sizes;

/* tensor: [n_nodes] by node id, filled but for addresses. ERR_UNSUPPORTED: a type or shape without kernels. */
status gpu_tensors_describe(const plan *p, uint32_t device, gpu_tensor *tensor, gpu_tensor_sizes *sizes, err *e);
status gpu_tensors_load(gpu_backend *g, void (*progress)(void *, uint64_t, uint64_t), void *ctx, err *e);

/* --- a step ------------------------------------------------------------------------------------------------------------ */

typedef enum { /* arrays of the step's block, in this order; those whose size varies most last */
               STEP_TOKEN,
               STEP_POS,
               STEP_SEQ,
               STEP_OUT_ROW,
               STEP_FIRST_PAGE,
               STEP_SINGLE,
               STEP_TILE,
               STEP_TABLE, /* and the following: one for every rope table */
               STEP_PAGE = STEP_TABLE + 4,
               STEP_JOB,  /* the draws': no captured launch reads them */
               STEP_EDIT, /* */
               STEP_ARRAYS
} step_array;

enum {
    GPU_MAX_TABLES = STEP_PAGE - STEP_TABLE,
    GPU_GRAPH_TOK = 64, /* steps of at most so many tokens are captured and replayed */
    GPU_MAX_GRAPHS = 128,
    GPU_MAX_GROUP = 128 /* query heads of one kv head */
};

typedef struct {
    uint32_t n_tok, n_out; /* as launched: padded when captured */
    uint32_t n_single, n_tile;
    uint32_t n_chunks; /* of the longest context */
    bool padded;
    size_t at[STEP_ARRAYS], n_bytes;
} gpu_step;

/* Rows of one OP_ROPE_TABLE, made on the host once a position. */
typedef struct {
    const node *n;
    float *factors; /* NULL: none */
    float *row;     /* [n_pos][n_rot], resident as used */
    uint8_t *made;  /* [n_pos] */
    uint32_t n_pos;
} gpu_rope_table;

/* --- launches ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint16_t at;   /* offset of an address in the arguments */
    uint8_t array; /* a step_array it points to */
} gpu_fixup;

enum { GPU_MAX_FIXUPS = 8, GPU_FORMS = 3, GPU_RESULTS = 3 };

typedef enum { /* what of its node's work an item does: attention has three, experts a list beside */
               GPU_PART_WHOLE,
               GPU_PART_SPLIT,
               GPU_PART_MERGE,
               GPU_PART_TILE,
               GPU_PART_LISTS
} gpu_part;

typedef struct gpu_item gpu_item;
struct gpu_item {
    gpu_kernel kernel, form[GPU_FORMS]; /* form: others that give the same bits; the shape function chooses */
    uint8_t *args;
    uint32_t args_bytes;
    uint32_t block;
    graph_rows rows;
    /* Sets l->grid, and what else depends on the step (*kernel, l->block, words of args); rows: of this step, at least 1.
     * A grid of 0 is not launched. */
    void (*shape)(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                  gpu_kernel *kernel);
    uint32_t param[6];
    uint32_t n_fixups;
    gpu_fixup fixup[GPU_MAX_FIXUPS];
    const node *n; /* for messages, and what it moves */
    gpu_part part;
};

typedef struct {
    uint32_t first, n;
} gpu_item_range; /* of a segment */

typedef struct {
    uint32_t segment, n_tok, n_chunks; /* what it was captured for */
    gpu_graph graph;
} gpu_captured;

typedef struct {
    const node *n;
    uint8_t *host; /* pinned */
    size_t stride;
    uint32_t segment; /* that makes a result */
} gpu_window;         /* a value that the host reads or writes: results, copies from other devices */

struct gpu_backend {
    backend base;
    gpu_driver *d;
    uint32_t dev; /* in the driver */
    const gpu_device *device;
    pool *pool;
    uint32_t n_threads;
    gpu_stream stream;
    gpu_module *module;
    uint32_t n_modules;

    const plan *p;
    uint32_t id; /* of the plan's device */
    const kv_layout *kv;
    size_t *layer_at; /* [kv->n_layers] offset of a layer in our page; SIZE_MAX: it runs elsewhere */
    size_t page_bytes;

    gpu_tensor *tensor; /* by node id */
    gpu_arena *arena;
    gpu_addr act, kv_block, step, scratch; /* and in scratch: */
    gpu_addr lists, come, gated;           /* of experts; blocks that came; for linear_vec1_gated_ */
    uint8_t *step_host;                    /* pinned */
    size_t step_bytes, scratch_bytes;
    gpu_upload_stats upload;
    uint64_t states; /* attention states that scratch holds */
    uint32_t group;  /* the most query heads of a kv head */

    gpu_rope_table table[GPU_MAX_TABLES];
    uint32_t n_tables;
    uint32_t *missing;    /* [max_tok] tokens whose rope row is to be made */
    uint32_t *first_page; /* [max_tok] of each sequence; and attention's lists of the step */
    attn_single *single;
    attn_tile_of *tile;

    gpu_item *item;
    const node *held_rope; /* while items are made: left to the append behind it */
    const node *next;      /* likewise: what is launched behind the node */
    struct {
        const node *n;         /* a quantise that a launch before it may do as well: */
        bool behind_attention; /* attention in place, */
        uint32_t chunks[2];    /* the most; those of a window, 0: none; */
    } drawn;                   /* or the gate and up of one column */
    uint32_t n_items, cap_items;
    arena args;             /* of the items */
    gpu_item_range *range;  /* [n_segments] */
    uint32_t first_segment; /* of this device: where a step begins */

    gpu_window result[GPU_RESULTS]; /* logits, hidden, scores; n NULL: not here */
    gpu_window *incoming;           /* copies from other devices */
    uint32_t n_incoming;
    uint8_t *crossing; /* pinned, for reads of any value and for pages */
    size_t crossing_bytes;

    struct gpu_draws *draws; /* NULL: no logits here, or too many */
    gpu_step now;
    uint32_t run_out; /* output rows of the step, not padded */
    gpu_captured captured[GPU_MAX_GRAPHS];
    uint32_t n_captured;
    _Atomic bool graphs; /* others may ask for the backend's description: once false, the reason stands */
    char no_graphs_why[160];
    bool no_graphs_wanted;
    gpu_event mark;        /* in the stream, for another GPU that is to wait; NULL: not yet needed */
    _Atomic bool no_peers; /* once true, the reason stands */
    char no_peers_why[160];
    bool pending; /* something is queued that nobody has waited for */
    gpu_counters count;
    gpu_profile *profile; /* NULL: none */
    const step_input *in; /* of the running step */
};

typedef struct {
    gpu_addr at;
    uint32_t stride;
    int array; /* a step_array: `at` is added to its address each step; -1: fixed */
} gpu_value;

gpu_value gpu_value_of(const gpu_backend *g, const node *n);
static inline uint32_t gpu_rows(const gpu_step *s, graph_rows rows) {
    return rows == ROWS_TOK ? s->n_tok : rows == ROWS_OUT ? s->n_out : 1;
}

/* gpu_kernels.c */
status gpu_modules_load(gpu_backend *g, err *e);
void gpu_modules_unload(gpu_backend *g);
status gpu_kernel_of(gpu_backend *g, const char *name, gpu_kernel *out, err *e); /* every kernel has its own name */

/* gpu_items.c: the launches of a plan's segments. gpu_supports: what they can be made for. */
bool gpu_supports(const backend *b, const node *n);
status gpu_items_make(gpu_backend *g, err *e);
typedef struct {
    uint64_t states, lists, come, gated; /* bytes, in this order */
} gpu_scratch;
gpu_scratch gpu_scratch_measure(const plan *p, uint32_t device, const kv_layout *kv);
static inline size_t gpu_scratch_bytes(const gpu_scratch *s) {
    return (size_t)(s->states + s->lists + s->come + s->gated);
}

/* gpu_step.c */
status gpu_step_measure(const plan *p, uint32_t device, const kv_layout *kv, size_t *n_bytes, err *e);
status gpu_step_open(gpu_backend *g, err *e);
void gpu_step_close(gpu_backend *g);
status gpu_step_begin(gpu_backend *g, const step_input *in, err *e); /* makes g->now and sends it up */

/* launch.c */
status gpu_run_segment(gpu_backend *g, uint32_t segment, err *e);
void gpu_graphs_close(gpu_backend *g);

#endif
