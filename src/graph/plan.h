/* Where each node runs and where its value lies. Placement gives every node a device (a backend's index) and inserts
 * explicit copies where a value crosses; the planner packs the values of each device into one block by lifetime, for the
 * largest n_tok and n_out, once. A plan is immutable after plan_make and dies with plan_free; the graph must outlive it. */
#ifndef ROCMFORGE_GRAPH_PLAN_H
#define ROCMFORGE_GRAPH_PLAN_H

#include "graph/graph.h"

enum { PLAN_MAX_DEVICES = 8 };

/* What a device says it can do; ctx is the caller's. Cost in any unit common to all devices; used by `automatic`. */
typedef struct {
    const char *name;
    bool (*supports)(const void *ctx, const node *n);
    double (*cost)(const void *ctx, const node *n); /* NULL: 1 each */
    const void *ctx;
} plan_device;

typedef enum { PLACE_FIRST, PLACE_LAST, PLACE_AUTOMATIC, PLACE_ONLY } plan_strategy; /* devices are listed best first */

typedef struct {
    plan_strategy strategy;
    uint32_t only;                                /* PLACE_ONLY: this device or ERR_UNSUPPORTED naming the node */
    uint32_t (*choose)(void *ctx, const node *n); /* if set, decides each node's device (tests; -ngl) */
    void *choose_ctx;
    /* If set, what its chosen device cannot run goes to the last one that can, and this is told of it. Else ERR_UNSUPPORTED. */
    void (*moved)(void *ctx, const node *n, uint32_t from);
    uint32_t max_tok, max_out;
} plan_options;

typedef struct {
    size_t offset; /* in its device's activation block, 64-byte aligned; views: of the parent, plus the column offset */
    size_t stride; /* bytes from row to row (views: the parent's); 0 for weights and broadcast */
    size_t n_bytes; /* 0 for views, weights and DTYPE_NONE */
} plan_buffer;

typedef struct {
    uint32_t device, first, n; /* nodes order[first .. first + n) run on this device, in this order */
} plan_segment;

typedef struct {
    arena mem;
    const graph *g;
    uint32_t max_tok, max_out;
    node **order; /* all nodes but weights, views included */
    uint32_t n_order;
    plan_buffer *buffer; /* by node id */
    plan_segment *segment;
    uint32_t n_segments; /* a copy node is a segment of its own: the executor moves it */
    size_t act_bytes[PLAN_MAX_DEVICES];
} plan;

/* KV rule: kv_append/rope_append and attention of one kv_layer stay on one device. Changes g (copies are inserted). */
MUST_CHECK status plan_place(graph *g, const plan_device *dev, uint32_t n_dev, const plan_options *opt, err *e);
MUST_CHECK status plan_make(plan *p, const graph *g, uint32_t n_dev, const plan_options *opt, err *e);
void plan_free(plan *p);

#endif
