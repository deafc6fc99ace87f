/* The launches that make quantised activations, with what makes their values drawn in (kernels/args_quantize.h). */
#include "backend/gpu/gpu_items.h"
#include "backend/gpu/kernels/args_quantize.h"

static void shape_quantize(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                           gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    l->grid[0] = i->param[0];
    l->grid[1] = rows;
}

/* Those that a launch before them does as well, in steps where it does. */
static void shape_behind_attention(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows,
                                   gpu_launch *l, gpu_kernel *kernel) {
    shape_quantize(g, i, s, rows, l, kernel);
    if (gpu_attention_in_place(s, i->param[1], i->param[2])) l->grid[0] = 0;
}

static void shape_behind_gated(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                               gpu_kernel *kernel) {
    shape_quantize(g, i, s, rows, l, kernel);
    if (rows == 1) l->grid[0] = 0;
}

static const char *kernel_of(const node *n) {
    switch (n->op) {
    case OP_NORM_QUANTIZE: return "quantize_norm";
    case OP_SWIGLU_QUANTIZE: return "quantize_swiglu";
    case OP_GEGLU_QUANTIZE: return "quantize_geglu";
    default: return "quantize_rows";
    }
}

status gpu_make_quantize(gpu_backend *g, const node *n, err *e) {
    bool norm = n->op == OP_NORM_QUANTIZE, two = n->n_in > 1;
    gpu_value a = gpu_value_of(g, n->in[0]), y = gpu_value_of(g, n), b = {.array = -1};
    if (norm) b.at = gpu_vector_of(g, n->in[1]);
    if (two && !norm) b = gpu_value_of(g, n->in[1]);
    quantize_args args = {.a_stride = a.stride, .b_stride = b.stride, .y_stride = y.stride, .k = n->width};
    args.scale_block = n->dtype == DTYPE_Q8K ? 256 : 32;
    args.group = norm ? n->p.norm.group : 0;
    args.eps = norm ? n->p.norm.eps : 0;
    gpu_item_spec spec = {.n = n, .kernel = kernel_of(n), .block = QUANTIZE_BLOCK, .args = &args, .rows = n->rows};
    spec.args_bytes = sizeof args;
    spec.shape = shape_quantize;
    spec.param[0] = norm ? 1 : gpu_ceil_div(n->width, QUANTIZE_TILE);
    spec.param[1] = g->drawn.chunks[0];
    spec.param[2] = g->drawn.chunks[1];
    if (g->drawn.n == n) spec.shape = g->drawn.behind_attention ? shape_behind_attention : shape_behind_gated;
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    gpu_item_bind(i, offsetof(quantize_args, a), a);
    gpu_item_bind(i, offsetof(quantize_args, b), b);
    gpu_item_bind(i, offsetof(quantize_args, y), y);
    return OK;
}
