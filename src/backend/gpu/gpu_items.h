/* Making launch items: used by the files that make those of one family of ops. Arguments live in the backend's arena; what is
 * added is complete but for what its shape function and its fixups set each step. Only while loading. */
#ifndef ROCMFORGE_BACKEND_GPU_GPU_ITEMS_H
#define ROCMFORGE_BACKEND_GPU_GPU_ITEMS_H

#include "backend/gpu/gpu_state.h"

typedef void (*gpu_shape_fn)(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                             gpu_kernel *kernel);

typedef struct {
    const node *n;
    const char *kernel;
    uint32_t block;
    const void *args; /* copied */
    size_t args_bytes;
    graph_rows rows;
    gpu_shape_fn shape;
    uint32_t param[5]; /* the shape function's */
    gpu_part part;
} gpu_item_spec;

/* The item's pointer is good until the next is added. */
status gpu_item_add(gpu_backend *g, const gpu_item_spec *spec, gpu_item **out, err *e);
/* The address at offset `at` of the arguments is v's; or an array of the step's. */
void gpu_item_bind(gpu_item *i, size_t at, gpu_value v);
void gpu_item_bind_step(gpu_item *i, size_t at, step_array a);

gpu_addr gpu_vector_of(const gpu_backend *g, const node *w); /* of f32 */
gpu_weight gpu_matrix_of(const gpu_backend *g, const node *w);

/* Each makes the items of one node. */
status gpu_make_rows(gpu_backend *g, const node *n, err *e);
status gpu_make_linear(gpu_backend *g, const node *n, err *e);
status gpu_make_append(gpu_backend *g, const node *n, err *e);
bool gpu_append_turns(const node *append, const node *rope); /* one launch can do both */
status gpu_make_attention(gpu_backend *g, const node *n, err *e);
status gpu_make_route(gpu_backend *g, const node *n, err *e);
status gpu_make_linear_expert(gpu_backend *g, const node *n, err *e);
status gpu_make_combine(gpu_backend *g, const node *n, err *e);
status gpu_make_quantize(gpu_backend *g, const node *n, err *e);

/* Sets the word at offset `at` of the item's arguments. */
static inline void gpu_item_set(const gpu_item *i, size_t at, uint32_t v) { *(uint32_t *)(void *)(i->args + at) = v; }
static inline uint32_t gpu_ceil_div(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a + b - 1) / b); }

/* attention: the most query heads of a kv head; how many states scratch holds, and the bytes of the largest */
uint32_t gpu_attention_group(const plan *p, uint32_t device);
uint64_t gpu_expert_list_bytes(const plan *p, uint32_t device);
uint64_t gpu_attention_states(const plan *p, uint32_t device, const kv_layout *kv, uint64_t *state_bytes);

#endif
