/* The row kernels' launches (kernels/args_rows.h): everything that works on one row of a value at a time. */
#include "backend/gpu/gpu_items.h"
#include "backend/gpu/kernels/args_rows.h"

static void shape_tiles(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                        gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    gpu_item_set(i, i->param[0], rows);
    l->grid[0] = i->param[1];
    l->grid[1] = rows;
}

/* rows_rms_norm_small: many groups a block. */
static void shape_groups(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                         gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    gpu_item_set(i, i->param[0], rows);
    l->grid[0] = gpu_ceil_div(rows * i->param[1], ROWS_SMALL_GROUPS);
}

static const char *const names[OP_COUNT] = {
    [OP_ADD] = "rows_add",         [OP_MUL] = "rows_mul",
    [OP_SCALE] = "rows_scale",     [OP_SOFTCAP] = "rows_softcap",
    [OP_SILU] = "rows_silu",       [OP_GELU] = "rows_gelu",
    [OP_SWIGLU] = "rows_swiglu",   [OP_GEGLU] = "rows_geglu",
    [OP_SOFTMAX] = "rows_softmax", [OP_LAYER_NORM] = "rows_layer_norm",
    [OP_ROPE] = "rows_rope",       [OP_RMS_NORM] = "rows_rms_norm",
};

/* Vectors are one row for all. */
static gpu_value input(const gpu_backend *g, const node *n, uint32_t i) {
    if (i >= n->n_in) return (gpu_value){.array = -1};
    if (n->in[i]->op == OP_WEIGHT) return (gpu_value){.at = gpu_vector_of(g, n->in[i]), .array = -1};
    return gpu_value_of(g, n->in[i]);
}

static void set_params(rows_args *a, const node *n, uint32_t *blocks) {
    *blocks = gpu_ceil_div(n->width, ROWS_TILE);
    if (n->op == OP_SCALE || n->op == OP_SOFTCAP) a->f = n->p.f;
    if (n->op == OP_SOFTMAX || n->op == OP_LAYER_NORM) *blocks = 1;
    if (n->op == OP_RMS_NORM || n->op == OP_LAYER_NORM) a->f = n->p.norm.eps;
    if (n->op == OP_RMS_NORM) {
        a->group = n->p.norm.group;
        *blocks = n->width / a->group;
    }
    if (n->op == OP_ROPE) {
        a->head_dim = n->p.rope.head_dim;
        a->n_head = n->width / a->head_dim;
        a->n_rot = n->p.rope.n_rot;
        a->neox = n->p.rope.neox;
        *blocks = gpu_ceil_div(n->width / 2, ROWS_TILE);
    }
}

static status make_plain(gpu_backend *g, const node *n, err *e) {
    gpu_value a = input(g, n, 0), b = input(g, n, 1), c = input(g, n, 2), y = gpu_value_of(g, n);
    rows_args args = {.a_stride = a.stride, .b_stride = b.stride, .c_stride = c.stride, .y_stride = y.stride};
    args.width = n->width;
    gpu_item_spec spec = {.n = n, .kernel = names[n->op], .block = ROWS_BLOCK, .args = &args, .rows = n->rows};
    spec.args_bytes = sizeof args;
    spec.shape = shape_tiles;
    spec.param[0] = offsetof(rows_args, n_rows);
    set_params(&args, n, &spec.param[1]);
    if (n->op == OP_RMS_NORM && args.group <= ROWS_SMALL_GROUP) {
        spec.kernel = "rows_rms_norm_small";
        spec.shape = shape_groups;
    }
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    gpu_item_bind(i, offsetof(rows_args, a), a);
    gpu_item_bind(i, offsetof(rows_args, b), b);
    gpu_item_bind(i, offsetof(rows_args, c), c);
    gpu_item_bind(i, offsetof(rows_args, y), y);
    return OK;
}

/* take_rows: x has a row for every token of the step. */
static void shape_take(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                       gpu_kernel *kernel) {
    gpu_item_set(i, offsetof(rows_take_args, n_x), s->n_tok);
    shape_tiles(g, i, s, rows, l, kernel);
}

static status make_take(gpu_backend *g, const node *n, err *e) {
    gpu_value x = gpu_value_of(g, n->in[0]), id = gpu_value_of(g, n->in[1]), y = gpu_value_of(g, n);
    rows_take_args args = {.x_stride = x.stride, .id_stride = id.stride, .y_stride = y.stride, .width = n->width};
    gpu_item_spec spec = {.n = n, .kernel = "rows_take", .block = ROWS_BLOCK, .args = &args, .rows = n->rows};
    spec.args_bytes = sizeof args;
    spec.shape = shape_take;
    spec.param[0] = offsetof(rows_take_args, n_rows);
    spec.param[1] = gpu_ceil_div(n->width, ROWS_TILE);
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    gpu_item_bind(i, offsetof(rows_take_args, x), x);
    gpu_item_bind(i, offsetof(rows_take_args, id), id);
    gpu_item_bind(i, offsetof(rows_take_args, y), y);
    return OK;
}

static status make_get(gpu_backend *g, const node *n, err *e) {
    const node *w = n->in[0];
    gpu_value id = gpu_value_of(g, n->in[1]), y = gpu_value_of(g, n);
    rows_get_args args = {.w = gpu_matrix_of(g, w), .id_stride = id.stride, .y_stride = y.stride, .k = n->width};
    args.type = (uint32_t)w->weight->type;
    gpu_item_spec spec = {.n = n, .kernel = "rows_get", .block = ROWS_BLOCK, .args = &args, .rows = n->rows};
    spec.args_bytes = sizeof args;
    spec.shape = shape_tiles;
    spec.param[0] = offsetof(rows_get_args, n_rows);
    spec.param[1] = gpu_ceil_div(n->width, ROWS_TILE);
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    gpu_item_bind(i, offsetof(rows_get_args, id), id);
    gpu_item_bind(i, offsetof(rows_get_args, y), y);
    return OK;
}

status gpu_make_rows(gpu_backend *g, const node *n, err *e) {
    if (n->op == OP_GET_ROWS) return make_get(g, n, e);
    return n->op == OP_TAKE_ROWS ? make_take(g, n, e) : make_plain(g, n, e);
}
