/* The launches of a router and of the weighted sum of what its experts answered (kernels/args_moe.h). */
#include "backend/gpu/gpu_items.h"
#include "backend/gpu/kernels/args_moe.h"

static void shape_route(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                        gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    gpu_item_set(i, offsetof(moe_route_args, n_tok), rows);
    l->grid[0] = gpu_ceil_div(rows, MOE_ROUTE_TOKENS);
}

status gpu_make_route(gpu_backend *g, const node *n, err *e) {
    gpu_value x = gpu_value_of(g, n->in[0]), y = gpu_value_of(g, n);
    moe_route_args a = {.logits_stride = x.stride,
                        .route_stride = y.stride,
                        .n_expert = n->in[0]->width,
                        .n_used = n->p.route.n_used,
                        .softmax_after = n->p.route.softmax_after,
                        .renormalise = n->p.route.renormalise,
                        .scale = n->p.route.scale};
    gpu_item_spec spec = {.n = n, .kernel = "moe_route", .block = MOE_BLOCK, .args = &a, .rows = n->rows};
    spec.args_bytes = sizeof a;
    spec.shape = shape_route;
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    gpu_item_bind(i, offsetof(moe_route_args, logits), x);
    gpu_item_bind(i, offsetof(moe_route_args, route), y);
    return OK;
}

static void shape_combine(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                          gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    gpu_item_set(i, offsetof(moe_combine_args, n_tok), rows);
    l->grid[0] = i->param[0];
    l->grid[1] = rows;
}

status gpu_make_combine(gpu_backend *g, const node *n, err *e) {
    gpu_value x = gpu_value_of(g, n->in[0]), route = gpu_value_of(g, n->in[1]), y = gpu_value_of(g, n);
    moe_combine_args a = {.x_stride = x.stride, .route_stride = route.stride, .y_stride = y.stride};
    a.n_used = n->in[0]->width / n->width;
    a.width = n->width;
    gpu_item_spec spec = {.n = n, .kernel = "moe_combine", .block = MOE_BLOCK, .args = &a, .rows = n->rows};
    spec.args_bytes = sizeof a;
    spec.shape = shape_combine;
    spec.param[0] = gpu_ceil_div(n->width, MOE_TILE);
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    gpu_item_bind(i, offsetof(moe_combine_args, x), x);
    gpu_item_bind(i, offsetof(moe_combine_args, route), route);
    gpu_item_bind(i, offsetof(moe_combine_args, y), y);
    return OK;
}
