/* Which device runs what. First every node gets a device: by the strategy, the caller's choice, or from its neighbours (a
 * view lies in its parent, attention runs where its cache layer is written, a quantised activation is made where it is
 * used). Then each input that lies elsewhere is brought over: the step's own arrays are there already, a quantised
 * activation and a rope table are made again from their inputs, a view is taken again from its parent's copy, anything else is
 * copied, once a device. */
#include "graph/plan.h"

#include "base/mem.h"
#include "graph/ops.h"

#include <math.h>

enum { UNPLACED = PLAN_MAX_DEVICES };

typedef struct {
    graph *g;
    const plan_device *dev;
    uint32_t n_dev;
    const plan_options *opt;
    node **here; /* [n_nodes][n_dev] the value of a node on a device; made when first needed */
    uint32_t n_before;
    err *e;
} placement;

static bool is_quantised(const node *n) { return n->dtype == DTYPE_Q8 || n->dtype == DTYPE_Q8K; }
static bool follows(const node *n) { return n->op == OP_WEIGHT || op_is_input(n->op) || is_quantised(n); }

/* --- choosing ---------------------------------------------------------------------------------------------------------- */

/* What has to run where n runs: its quantised inputs and, for an append, every attention over that cache layer. */
static bool supports(const placement *p, uint32_t d, const node *n) {
    const plan_device *dev = &p->dev[d];
    if (!dev->supports(dev->ctx, n)) return false;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (is_quantised(n->in[i]) && !dev->supports(dev->ctx, n->in[i])) return false;
    for (uint32_t i = n->id + 1; op_is_append(n->op) && i < p->g->n_nodes; i++) {
        const node *a = p->g->nodes[i];
        if (a->op == OP_ATTENTION && a->p.attn.kv_layer == n->p.attn.kv_layer && !dev->supports(dev->ctx, a))
            return false;
    }
    return true;
}

static double cost(const placement *p, uint32_t d, const node *n) {
    const plan_device *dev = &p->dev[d];
    return dev->cost ? dev->cost(dev->ctx, n) : 1.0;
}

/* Of running n on d: itself, its quantised inputs, and copies of what lies elsewhere. A device prices a copy as a node of
 * op copy with the shape of the value. */
static double cost_here(const placement *p, uint32_t d, const node *n) {
    double sum = cost(p, d, n);
    for (uint32_t i = 0; i < n->n_in; i++) {
        const node *in = n->in[i];
        if (is_quantised(in)) sum += cost_here(p, d, in);
        if (follows(in) || in->dtype == DTYPE_NONE || in->device == d) continue;
        node copy = {
            .op = OP_COPY, .n_in = 1, .in = {n->in[i]}, .rows = in->rows, .dtype = in->dtype, .width = in->width};
        sum += cost(p, d, &copy);
    }
    return sum;
}

static uint32_t cheapest(const placement *p, const node *n) {
    uint32_t best = UNPLACED;
    double least = INFINITY;
    for (uint32_t d = 0; d < p->n_dev; d++) {
        if (!supports(p, d, n)) continue;
        double c = cost_here(p, d, n);
        if (best == UNPLACED || c < least) {
            best = d;
            least = c;
        }
    }
    return best;
}

static uint32_t first_of(const placement *p, const node *n, bool from_last) {
    for (uint32_t i = 0; i < p->n_dev; i++) {
        uint32_t d = from_last ? p->n_dev - 1 - i : i;
        if (supports(p, d, n)) return d;
    }
    return UNPLACED;
}

static status refuse(const placement *p, const node *n, uint32_t d) {
    if (p->n_dev == 1) d = 0;
    return fail(p->e, ERR_UNSUPPORTED, "%s \"%s\" of layer %d cannot run on %s", graph_op_name(n->op),
                n->label ? n->label : "", n->layer, d < p->n_dev ? p->dev[d].name : "any device");
}

static status choose(const placement *p, node *n) {
    uint32_t d = UNPLACED;
    if (p->opt->choose)
        d = p->opt->choose(p->opt->choose_ctx, n);
    else if (p->opt->strategy == PLACE_ONLY)
        d = p->opt->only;
    else if (p->opt->strategy == PLACE_AUTOMATIC)
        d = cheapest(p, n);
    else
        d = first_of(p, n, p->opt->strategy == PLACE_LAST);
    if (d < p->n_dev && !supports(p, d, n) && p->opt->moved) {
        uint32_t from = d;
        d = first_of(p, n, true);
        if (d != UNPLACED) p->opt->moved(p->opt->choose_ctx, n, from);
    }
    if (d >= p->n_dev || !supports(p, d, n)) return refuse(p, n, d);
    n->device = d;
    return OK;
}

/* Nodes stand in order, so parents and appends are placed before who follows them. */
static status choose_all(placement *p) {
    for (uint32_t i = 0; i < p->g->n_nodes; i++) {
        node *n = p->g->nodes[i];
        n->device = 0;
        if (follows(n)) continue;
        status s = OK;
        if (n->op == OP_VIEW)
            n->device = n->in[0]->device;
        else if (n->op == OP_ATTENTION)
            n->device = n->in[1]->device;
        else
            s = choose(p, n);
        if (s) return s;
    }
    return OK;
}

static double total_cost(const placement *p) {
    double sum = 0;
    for (uint32_t i = 0; i < p->g->n_nodes; i++)
        if (!follows(p->g->nodes[i])) sum += cost_here(p, p->g->nodes[i]->device, p->g->nodes[i]);
    return sum;
}

static void put_all(placement *p, uint32_t d) {
    for (uint32_t i = 0; i < p->g->n_nodes; i++)
        if (p->g->nodes[i]->op != OP_WEIGHT) p->g->nodes[i]->device = d;
}

static bool one_device_can(const placement *p, uint32_t d) {
    for (uint32_t i = 0; i < p->g->n_nodes; i++) {
        const node *n = p->g->nodes[i];
        if (!follows(n) && n->op != OP_VIEW && !supports(p, d, n)) return false;
    }
    return true;
}

/* Node by node the cheapest is greedy: it never pays a copy now to save more later. So the devices that could run
 * everything alone are tried too. */
static status choose_automatic(placement *p) {
    status s = choose_all(p);
    if (s) return s;
    double least = total_cost(p);
    uint32_t best = UNPLACED;
    for (uint32_t d = 0; d < p->n_dev; d++) {
        if (!one_device_can(p, d)) continue;
        put_all(p, d);
        double c = total_cost(p);
        if (c < least || (c == least && best == UNPLACED)) {
            least = c;
            best = d;
        }
    }
    if (best == UNPLACED) return choose_all(p);
    put_all(p, best);
    return OK;
}

/* --- bringing values over ---------------------------------------------------------------------------------------------- */

static node *value_on(placement *p, node *n, uint32_t d);

/* The same op on device d, from inputs brought to d. */
static node *again(placement *p, const node *n, uint32_t d) {
    node *in[GRAPH_MAX_IN];
    for (uint32_t i = 0; i < n->n_in; i++) {
        in[i] = value_on(p, n->in[i], d);
        if (!in[i]) return NULL;
    }
    p->g->layer = n->layer;
    return graph_add(p->g, n->op, &n->p, n->label, n->n_in, in);
}

/* Recursion: a quantised activation's inputs are f32, a view's parents are few; it ends at the first dense value. */
static node *value_on(placement *p, node *n, uint32_t d) {
    if (n->op == OP_WEIGHT || n->id >= p->n_before) return n;
    node **here = &p->here[(size_t)n->id * p->n_dev + d];
    if (*here) return *here;
    if (!follows(n) && n->device == d) return *here = n;
    if (op_is_input(n->op) || is_quantised(n) || n->op == OP_VIEW || n->op == OP_ROPE_TABLE) {
        *here = again(p, n, d);
    } else {
        p->g->layer = n->layer;
        *here = graph_add1(p->g, OP_COPY, NULL, n->label, n);
    }
    if (*here) (*here)->device = d;
    return *here;
}

/* The first device that asks for an input of the step or a quantised activation gets the node itself. */
static void settle(placement *p, node *n, uint32_t d) {
    node **here = &p->here[(size_t)n->id * p->n_dev];
    for (uint32_t i = 0; i < p->n_dev; i++)
        if (here[i]) return;
    n->device = d;
    here[d] = n;
}

static status bring_inputs(placement *p, node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        node *in = n->in[i];
        if (in->op != OP_WEIGHT && follows(in)) settle(p, in, n->device);
        n->in[i] = value_on(p, in, n->device);
        if (!n->in[i]) return p->g->failed;
    }
    return OK;
}

static status bring_all(placement *p) {
    p->n_before = p->g->n_nodes;
    p->here = mem_array(p->n_before, p->n_dev * sizeof *p->here);
    status s = p->here ? OK : fail(p->e, ERR_NOMEM, "placement");
    for (uint32_t i = p->n_before; i-- > 0 && !s;) { /* users first: they settle where a quantised input runs */
        node *n = p->g->nodes[i];
        if (n->op != OP_WEIGHT && !op_is_input(n->op)) s = bring_inputs(p, n);
    }
    p->g->layer = -1;
    mem_free(p->here);
    return s;
}

/* A graph may be placed again, for other devices. */
static void forget_copies(graph *g) {
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i]->n_in; k++)
            while (g->nodes[i]->in[k]->op == OP_COPY) g->nodes[i]->in[k] = g->nodes[i]->in[k]->in[0];
    while (g->result->op == OP_COPY) g->result = g->result->in[0];
    while (g->hidden && g->hidden->op == OP_COPY) g->hidden = g->hidden->in[0];
    while (g->scores && g->scores->op == OP_COPY) g->scores = g->scores->in[0];
}

status plan_place(graph *g, const plan_device *dev, uint32_t n_dev, const plan_options *opt, err *e) {
    if (n_dev < 1 || n_dev > PLAN_MAX_DEVICES)
        return fail(e, ERR_RANGE, "%u devices, at most %d", n_dev, PLAN_MAX_DEVICES);
    placement p = {.g = g, .dev = dev, .n_dev = n_dev, .opt = opt, .e = e};
    g->e = e;
    status s = graph_verify(g, e);
    if (!s) {
        forget_copies(g);
        s = graph_sort(g, e);
    }
    bool automatic = opt->strategy == PLACE_AUTOMATIC && !opt->choose;
    if (!s) s = automatic ? choose_automatic(&p) : choose_all(&p);
    if (!s) s = bring_all(&p);
    if (!s) s = graph_sort(g, e);
    return s ? s : graph_verify(g, e);
}
