/* Running a segment: its items one by one, or, for steps of few tokens, as one captured graph that is replayed for every step
 * like it: all addresses are constant, and what differs from step to step (tokens, positions, pages, work lists) stands in
 * device memory. A capture that fails is no error: the reason is noted once and launches go one by one from then on. */
#include "backend/gpu/gpu_profile.h"
#include "backend/gpu/gpu_sample.h"

#include <stdio.h>
#include <string.h>

static status launch_item(gpu_backend *g, const gpu_item *i, uint32_t rows, err *e) {
    gpu_kernel kernel = i->kernel;
    gpu_launch l = {.grid = {0, 1, 1}, .block = i->block, .args = i->args, .args_bytes = i->args_bytes};
    for (uint32_t f = 0; f < i->n_fixups; f++) {
        gpu_addr at = g->step + g->now.at[i->fixup[f].array];
        memcpy(i->args + i->fixup[f].at, &at, sizeof at);
    }
    i->shape(g, i, &g->now, rows, &l, &kernel);
    if (!l.grid[0] || !l.grid[1] || !l.grid[2]) return OK;
    status s = gpu_profile_launch(g, kernel, &l, g->profile ? gpu_item_bytes(g, i) : 0, e);
    return s ? fail_in(e, s, "%s \"%s\" of layer %d: ", graph_op_name(i->n->op), i->n->label ? i->n->label : "",
                       i->n->layer)
             : OK;
}

static status launch_all(gpu_backend *g, uint32_t segment, err *e) {
    const gpu_item_range *r = &g->range[segment];
    status s = OK;
    for (uint32_t k = r->first; !s && k < r->first + r->n; k++) {
        uint32_t rows = gpu_rows(&g->now, g->item[k].rows);
        if (rows) s = launch_item(g, &g->item[k], rows, e);
    }
    return s;
}

/* --- capture ----------------------------------------------------------------------------------------------------------- */

static gpu_captured *find(gpu_backend *g, uint32_t segment) {
    for (uint32_t i = 0; i < g->n_captured; i++) {
        gpu_captured *c = &g->captured[i];
        if (c->segment == segment && c->n_tok == g->now.n_tok && c->n_chunks == g->now.n_chunks) return c;
    }
    return NULL;
}

static void give_up(gpu_backend *g, const char *why) {
    snprintf(g->no_graphs_why, sizeof g->no_graphs_why, "%.150s", why);
    g->graphs = false;
}

/* NULL: it could not be captured; nothing of it ran. */
static gpu_captured *capture(gpu_backend *g, uint32_t segment) {
    err why = {0};
    gpu_captured c = {.segment = segment, .n_tok = g->now.n_tok, .n_chunks = g->now.n_chunks};
    status s = g->d->capture_begin(g->d, g->dev, g->stream, &why);
    if (!s) {
        s = launch_all(g, segment, &why);
        status end = g->d->capture_end(g->d, g->dev, g->stream, &c.graph, s ? NULL : &why);
        if (!s) s = end;
    }
    if (s) {
        if (c.graph) g->d->graph_close(g->d, g->dev, c.graph);
        give_up(g, why.text);
        return NULL;
    }
    g->captured[g->n_captured] = c;
    return &g->captured[g->n_captured++];
}

static gpu_captured *graph_for(gpu_backend *g, uint32_t segment) {
    if (!g->graphs || !g->now.padded || !g->range[segment].n) return NULL;
    gpu_captured *c = find(g, segment);
    return c || g->n_captured == GPU_MAX_GRAPHS ? c : capture(g, segment);
}

void gpu_graphs_close(gpu_backend *g) {
    for (uint32_t i = 0; i < g->n_captured; i++) g->d->graph_close(g->d, g->dev, g->captured[i].graph);
    g->n_captured = 0;
}

/* --- a segment --------------------------------------------------------------------------------------------------------- */

/* Results go to the host behind the segment that makes them: when it has waited, they are there. */
static status send_results(gpu_backend *g, uint32_t segment, err *e) {
    status s = OK;
    for (uint32_t i = 0; !s && i < GPU_RESULTS; i++) {
        const gpu_window *w = &g->result[i];
        if (!w->n || w->segment != segment || !g->run_out) continue;
        if (i == 0 && w->n->rows == ROWS_OUT) {
            s = gpu_draws_run(g, w, e);
            continue;
        }
        gpu_value v = gpu_value_of(g, w->n);
        uint32_t rows = w->n->rows == ROWS_OUT ? g->run_out : 1;
        size_t n_bytes = (size_t)rows * w->stride;
        s = g->d->copy_out(g->d, g->dev, w->host, v.at, n_bytes, g->stream, e);
        g->count.copies_out++;
        g->count.bytes_out += n_bytes;
    }
    return s;
}

status gpu_run_segment(gpu_backend *g, uint32_t segment, err *e) {
    gpu_captured *c = graph_for(g, segment);
    g->pending = true;
    status s;
    if (c) {
        g->count.graph_launches++;
        s = g->d->graph_launch(g->d, g->dev, c->graph, g->stream, e);
    } else {
        s = launch_all(g, segment, e);
    }
    return s ? s : send_results(g, segment, e);
}
