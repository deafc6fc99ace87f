#include "backend/gpu/gpu_profile.h"

#include "backend/traffic.h"
#include "base/mem.h"
#include "graph/ops.h"

#include <stdio.h>
#include <string.h>

enum { MOST_KERNELS = 128, NAME_BYTES = 64, LAUNCHES_BESIDE = 16 /* of the sampler */ };

typedef struct {
    gpu_event before, behind;
    uint32_t row;
} pair;

struct gpu_profile {
    backend_profile row[MOST_KERNELS];
    char name[MOST_KERNELS][NAME_BYTES];
    gpu_kernel kernel[MOST_KERNELS];
    uint32_t n_rows;
    pair *pair; /* [cap], of launches that nobody has waited for */
    uint32_t cap, n;
};

gpu_profile *gpu_profile_new(void) { return mem_zalloc(sizeof(gpu_profile)); }

status gpu_profile_open(gpu_backend *g, err *e) {
    gpu_profile *p = g->profile;
    if (!p) return OK;
    uint32_t cap = g->n_items + LAUNCHES_BESIDE;
    p->pair = mem_array(cap, sizeof *p->pair);
    if (!p->pair) return fail(e, ERR_NOMEM, "the profiler");
    p->cap = cap;
    status s = OK;
    for (uint32_t i = 0; !s && i < cap; i++) {
        s = g->d->event_open(g->d, g->dev, &p->pair[i].before, e);
        if (!s) s = g->d->event_open(g->d, g->dev, &p->pair[i].behind, e);
    }
    return s;
}

void gpu_profile_close(gpu_backend *g) {
    gpu_profile *p = g->profile;
    if (!p) return;
    for (uint32_t i = 0; i < p->cap; i++) {
        if (p->pair[i].before) g->d->event_close(g->d, g->dev, p->pair[i].before);
        if (p->pair[i].behind) g->d->event_close(g->d, g->dev, p->pair[i].behind);
    }
    mem_free(p->pair);
    mem_free(p);
    g->profile = NULL;
}

void gpu_profile_name(gpu_backend *g, gpu_kernel k, const char *name) {
    gpu_profile *p = g->profile;
    if (!p || p->n_rows == MOST_KERNELS) return;
    for (uint32_t i = 0; i < p->n_rows; i++)
        if (p->kernel[i] == k || strcmp(p->name[i], name) == 0) return;
    p->kernel[p->n_rows] = k;
    snprintf(p->name[p->n_rows], NAME_BYTES, "%s", name);
    p->row[p->n_rows].name = p->name[p->n_rows];
    p->n_rows++;
}

static uint32_t row_of(const gpu_profile *p, gpu_kernel k) {
    uint32_t i = 0;
    while (i < p->n_rows && p->kernel[i] != k) i++;
    return i;
}

status gpu_profile_collect(gpu_backend *g, err *e) {
    gpu_profile *p = g->profile;
    status s = OK;
    for (uint32_t i = 0; p && !s && i < p->n; i++) {
        float ms = 0;
        s = g->d->event_ms(g->d, g->dev, p->pair[i].before, p->pair[i].behind, &ms, e);
        p->row[p->pair[i].row].seconds += (double)ms / 1e3;
    }
    if (p) p->n = 0;
    return s;
}

status gpu_profile_launch(gpu_backend *g, gpu_kernel k, const gpu_launch *l, double bytes, err *e) {
    gpu_profile *p = g->profile;
    status s = OK;
    g->count.launches++;
    if (!p) return g->d->launch(g->d, g->dev, k, l, g->stream, e);
    if (p->n == p->cap) { /* more than a step has: wait for those */
        s = g->d->stream_wait(g->d, g->dev, g->stream, e);
        if (!s) s = gpu_profile_collect(g, e);
    }
    uint32_t row = row_of(p, k);
    if (s || row == p->n_rows) return s ? s : fail(e, ERR_INTERNAL, "a kernel that the profiler was not told of");
    pair *w = &p->pair[p->n];
    s = g->d->event_record(g->d, g->dev, w->before, g->stream, e);
    if (!s) s = g->d->launch(g->d, g->dev, k, l, g->stream, e);
    if (!s) s = g->d->event_record(g->d, g->dev, w->behind, g->stream, e);
    if (s) return s;
    w->row = row;
    p->n++;
    p->row[row].launches++;
    p->row[row].bytes += (uint64_t)bytes;
    return OK;
}

/* --- bytes ------------------------------------------------------------------------------------------------------------- */

/* A node's matrices may take several launches, one a type: each moves its own planes, and the input once. */
static double linear_bytes(const gpu_backend *g, const gpu_item *i) {
    const linear_args *a = (const linear_args *)(const void *)i->args;
    double weights = 0, rows = traffic_rows(i->n, g->in);
    for (uint32_t p = 0; p < a->n_parts; p++)
        for (uint32_t k = 0; k < LINEAR_PLANES; k++)
            if (a->part[p].plane[k]) weights += (double)a->part[p].n_rows * a->part[p].stride[k];
    double results = 4.0 * a->n_rows * (i->n->p.linear.residual ? 2 : 1);
    return weights + rows * (a->x_stride + results);
}

/* split and tile read the cache and the queries, merge and tile write what comes of them; states that go from split to merge
 * are the price of splitting, no need. */
static double attention_bytes(const gpu_backend *g, const gpu_item *i) {
    const node *n = i->n, *q = n->in[0];
    double rows = traffic_rows(n, g->in), result = rows * (double)graph_row_bytes(n->dtype, n->width);
    bool both = g->now.n_single && g->now.n_tile;
    if (i->part == GPU_PART_MERGE) return both ? g->now.n_single * (result / rows) : result;
    traffic_part part = !both ? TRAFFIC_ALL : i->part == GPU_PART_SPLIT ? TRAFFIC_SINGLES : TRAFFIC_RUNS;
    double mine = !both ? rows : i->part == GPU_PART_SPLIT ? g->now.n_single : rows - g->now.n_single;
    double sum = traffic_cache(n, g->in, g->kv, part) + mine * (double)graph_row_bytes(q->dtype, q->width);
    return i->part == GPU_PART_TILE ? sum + mine * (result / rows) : sum;
}

/* The queries may be turned by the same launch. */
static double append_bytes(const gpu_backend *g, const gpu_item *i) {
    const kv_append_args *a = (const kv_append_args *)(const void *)i->args;
    double turned = 2.0 * sizeof(float) * a->n_head * a->kv.d_k;
    return traffic_of(i->n, g->in, g->kv) + traffic_rows(i->n, g->in) * turned;
}

double gpu_item_bytes(const gpu_backend *g, const gpu_item *i) {
    if (i->n->op == OP_LINEAR) return linear_bytes(g, i);
    if (i->n->op == OP_ATTENTION) return attention_bytes(g, i);
    if (op_is_append(i->n->op)) return append_bytes(g, i);
    if (i->part == GPU_PART_LISTS) return 8.0 * traffic_rows(i->n, g->in) * i->n->p.expert.n_used;
    return traffic_of(i->n, g->in, g->kv);
}

const backend_profile *gpu_profile_rows(backend *b, uint32_t *n, bool reset) {
    gpu_profile *p = ((gpu_backend *)b)->profile;
    *n = p ? p->n_rows : 0;
    for (uint32_t i = 0; p && reset && i < p->n_rows; i++) p->row[i] = (backend_profile){.name = p->name[i]};
    return p ? p->row : NULL;
}
