/* Packs the values of each device into one block. A value lives from the node that makes it to the last node that reads
 * it, both included, so nothing is ever written over its own inputs; a view keeps its parent alive. Values are placed
 * largest first, each into the smallest gap that the values alive with it leave:
 *
 *   offset ^   |  B  |........          time runs to the right, one step a node of the order
 *          |   +-----+
 *          |   |  A       |  C  |       C takes A's place when A is dead
 *          +--------------------->  */
#include "graph/plan.h"

#include "base/mem.h"
#include "graph/ops.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN_BYTES = 64 };

typedef struct {
    const node *n;
    size_t size, offset;
    uint32_t born, dies; /* indices in the order, inclusive */
} life;

static uint32_t max_rows(const plan *p, graph_rows rows) {
    return rows == ROWS_TOK ? p->max_tok : rows == ROWS_OUT ? p->max_out : 1;
}

static const node *storage_of(const node *n) {
    while (n->op == OP_VIEW) n = n->in[0];
    return n;
}

/* --- order and segments ------------------------------------------------------------------------------------------------ */

/* What the results need, found here: the graph is not ours to count in. */
static void fill_order(plan *p, uint8_t *live) {
    live[p->g->result->id] = 1;
    if (p->g->hidden) live[p->g->hidden->id] = 1;
    if (p->g->scores) live[p->g->scores->id] = 1;
    for (uint32_t i = p->g->n_nodes; i-- > 0;)
        for (uint32_t k = 0; live[i] && k < p->g->nodes[i]->n_in; k++) live[p->g->nodes[i]->in[k]->id] = 1;
    for (uint32_t i = 0; i < p->g->n_nodes; i++)
        if (live[i] && p->g->nodes[i]->op != OP_WEIGHT) p->order[p->n_order++] = p->g->nodes[i];
}

static void fill_segments(plan *p) {
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i], *before = i ? p->order[i - 1] : NULL;
        bool joins = before && before->device == n->device && n->op != OP_COPY && before->op != OP_COPY;
        if (!joins) p->segment[p->n_segments++] = (plan_segment){n->device, i, 0};
        p->segment[p->n_segments - 1].n++;
    }
}

/* --- lifetimes --------------------------------------------------------------------------------------------------------- */

static status size_value(const plan *p, const node *n, plan_buffer *b, err *e) {
    size_t row = graph_row_bytes(n->dtype, n->width), total;
    if (__builtin_mul_overflow(row, (size_t)max_rows(p, n->rows), &total) || total > SIZE_MAX / 4)
        return fail(e, ERR_MEMORY_PLAN, "%u rows of %u values (%s) are too large", max_rows(p, n->rows), n->width,
                    n->label ? n->label : graph_op_name(n->op));
    *b = (plan_buffer){.stride = n->rows == ROWS_ONE ? 0 : row, .n_bytes = total};
    return OK;
}

/* Quantised activations that a device may make in the launch that makes what they are of: they live from there on. */
static bool is_drawn(const node *n) {
    return n->op == OP_QUANTIZE || n->op == OP_SWIGLU_QUANTIZE || n->op == OP_GEGLU_QUANTIZE;
}

/* index: place in the order by node id. One life for every planned node; those without bytes are not placed. */
static status find_lives(const plan *p, life *lives, uint32_t *index, err *e) {
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        index[n->id] = i;
        lives[i] = (life){.n = n, .born = i, .dies = i};
        if (n->op == OP_VIEW) continue;
        status s = size_value(p, n, &p->buffer[n->id], e);
        if (s) return s;
        lives[i].size = (p->buffer[n->id].n_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    }
    for (uint32_t i = 0; i < p->n_order; i++)
        for (uint32_t k = 0; k < p->order[i]->n_in; k++) {
            const node *from = storage_of(p->order[i]->in[k]);
            if (from->op == OP_WEIGHT) continue;
            lives[index[from->id]].dies = i;
            if (is_drawn(p->order[i]) && index[from->id] < lives[i].born) lives[i].born = index[from->id];
        }
    lives[index[storage_of(p->g->result)->id]].dies = UINT32_MAX; /* read after the step */
    if (p->g->hidden) lives[index[storage_of(p->g->hidden)->id]].dies = UINT32_MAX;
    if (p->g->scores) lives[index[storage_of(p->g->scores)->id]].dies = UINT32_MAX;
    return OK;
}

/* --- packing ----------------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
    const life *x = *(life *const *)a, *y = *(life *const *)b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->born < y->born ? -1 : x->born > y->born; /* one order, whatever qsort does */
}

static bool meet(const life *a, const life *b) { return a->born <= b->dies && b->born <= a->dies; }

/* placed: by ascending offset. Returns where v goes: the tightest gap, or the end of what is alive with it. */
static size_t best_gap(life *const *placed, uint32_t n_placed, const life *v) {
    size_t end = 0, best = 0, best_size = SIZE_MAX;
    for (uint32_t i = 0; i < n_placed; i++) {
        const life *o = placed[i];
        if (!meet(o, v)) continue;
        if (o->offset > end && o->offset - end >= v->size && o->offset - end < best_size) {
            best = end;
            best_size = o->offset - end;
        }
        if (o->offset + o->size > end) end = o->offset + o->size;
    }
    return best_size < SIZE_MAX ? best : end;
}

static void insert_by_offset(life **placed, uint32_t n_placed, life *v) {
    uint32_t i = n_placed;
    for (; i > 0 && placed[i - 1]->offset > v->offset; i--) placed[i] = placed[i - 1];
    placed[i] = v;
}

static status pack(plan *p, uint32_t device, life *lives, life **todo, life **placed, err *e) {
    uint32_t n_todo = 0;
    for (uint32_t i = 0; i < p->n_order; i++)
        if (lives[i].n->device == device && lives[i].size) todo[n_todo++] = &lives[i];
    qsort(todo, n_todo, sizeof *todo, by_size);
    for (uint32_t i = 0; i < n_todo; i++) {
        life *v = todo[i];
        v->offset = best_gap(placed, i, v);
        insert_by_offset(placed, i, v);
        size_t end = v->offset + v->size;
        if (end > SIZE_MAX / 4) return fail(e, ERR_MEMORY_PLAN, "the activations of device %u are too large", device);
        if (end > p->act_bytes[device]) p->act_bytes[device] = end;
        p->buffer[v->n->id].offset = v->offset;
    }
    return OK;
}

static void place_views(plan *p) {
    for (uint32_t i = 0; i < p->n_order; i++) { /* parents first */
        const node *n = p->order[i];
        if (n->op != OP_VIEW) continue;
        const plan_buffer *from = &p->buffer[n->in[0]->id];
        size_t columns = (size_t)n->p.view.offset * graph_row_bytes(DTYPE_F32, 1);
        p->buffer[n->id] = (plan_buffer){.offset = from->offset + columns, .stride = from->stride};
    }
}

static status pack_all(plan *p, uint32_t n_dev, err *e) {
    life *lives = mem_array(p->n_order, sizeof *lives);
    life **todo = mem_array(p->n_order, sizeof *todo), **placed = mem_array(p->n_order, sizeof *placed);
    uint32_t *index = mem_array(p->g->n_nodes, sizeof *index);
    status s = lives && todo && placed && index ? OK : fail(e, ERR_NOMEM, "memory plan");
    if (!s) s = find_lives(p, lives, index, e);
    for (uint32_t d = 0; d < n_dev && !s; d++) s = pack(p, d, lives, todo, placed, e);
    if (!s) place_views(p);
    mem_free(lives);
    mem_free(todo);
    mem_free(placed);
    mem_free(index);
    return s;
}

/* --- the plan ---------------------------------------------------------------------------------------------------------- */

static status check_devices(const plan *p, uint32_t n_dev, err *e) {
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        if (n->device >= n_dev) return op_fail(n, e, "it is placed on device %u of %u", n->device, n_dev);
        for (uint32_t k = 0; k < n->n_in; k++) {
            const node *in = n->in[k];
            if (in->op == OP_WEIGHT || (in->device != n->device) == (n->op == OP_COPY)) continue;
            return op_fail(n, e, "input %u lies on device %u, its user on %u", k, in->device, n->device);
        }
    }
    return OK;
}

status plan_make(plan *p, const graph *g, uint32_t n_dev, const plan_options *opt, err *e) {
    *p = (plan){.g = g, .max_tok = opt->max_tok, .max_out = opt->max_out};
    if (n_dev < 1 || n_dev > PLAN_MAX_DEVICES)
        return fail(e, ERR_RANGE, "%u devices, at most %d", n_dev, PLAN_MAX_DEVICES);
    if (opt->max_tok < 1 || opt->max_out < 1) return fail(e, ERR_RANGE, "a plan for no token or no output row");
    status s = graph_verify(g, e);
    if (s) return s;
    p->order = arena_array(&p->mem, g->n_nodes, sizeof *p->order);
    p->buffer = arena_array(&p->mem, g->n_nodes, sizeof *p->buffer);
    p->segment = arena_array(&p->mem, g->n_nodes, sizeof *p->segment);
    uint8_t *live = arena_take(&p->mem, g->n_nodes);
    if (!p->order || !p->buffer || !p->segment || !live) s = fail(e, ERR_NOMEM, "memory plan");
    if (!s) {
        fill_order(p, live);
        fill_segments(p);
        s = check_devices(p, n_dev, e);
    }
    if (!s) s = pack_all(p, n_dev, e);
    if (s) plan_free(p);
    return s;
}

void plan_free(plan *p) {
    arena_free(&p->mem);
    *p = (plan){0};
}
