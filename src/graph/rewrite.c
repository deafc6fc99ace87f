/* The driver: walks the graph in order, tries each rule of the table at each live node, again until nothing applies. */
#include "graph/rewrite.h"

#include "graph/ops.h"
#include "graph/sort.h"

#include <string.h>

/* --- counting ---------------------------------------------------------------------------------------------------------- */

/* Deep only where a rule orphans a long chain, which rules that keep their pattern's inputs do not. */
static void drop_use(node *n) {
    if (--n->n_uses > 0) return;
    for (uint32_t i = 0; i < n->n_in; i++) drop_use(n->in[i]);
}

/* A user before its input in the sorted part: from now to the next sort nothing is known of where users stand. */
static void keep_order(graph *g, const node *in, const node *before) {
    if (in->id < g->n_sorted && in->id >= before->id) g->n_sorted = 0;
}

void rewrite_set_input(graph *g, node *n, uint32_t i, node *in) {
    keep_order(g, in, n);
    node *old = n->in[i];
    in->n_uses++;
    n->in[i] = in;
    drop_use(old);
}

/* In the sorted part users stand behind what they use; what was appended since may be used from anywhere. */
rewrite_users rewrite_users_of(const graph *g, const node *n) {
    return (rewrite_users){.g = g, .of = n, .at = n->id < g->n_sorted ? n->id + 1 : 0};
}

node *rewrite_next_user(rewrite_users *u) {
    while (u->at < u->g->n_nodes && u->seen < u->of->n_uses) {
        node *n = u->g->nodes[u->at++];
        uint32_t before = u->seen;
        for (uint32_t i = 0; n->n_uses && i < n->n_in; i++) u->seen += n->in[i] == u->of;
        if (u->seen > before) return n;
    }
    return NULL;
}

static void replace(graph *g, node *old, node *new) {
    rewrite_users u = rewrite_users_of(g, old);
    uint32_t n_moved = 0;
    keep_order(g, new, old);
    for (node *user = rewrite_next_user(&u); user; user = rewrite_next_user(&u))
        for (uint32_t i = 0; i < user->n_in; i++)
            if (user->in[i] == old) {
                user->in[i] = new;
                n_moved++;
            }
    node **result[] = {&g->result, &g->hidden, &g->scores};
    for (uint32_t i = 0; i < 3; i++)
        if (*result[i] == old) {
            *result[i] = new;
            n_moved++;
        }
    new->n_uses += n_moved;
    old->n_uses = 1;
    drop_use(old);
}

/* --- the same value twice ---------------------------------------------------------------------------------------------- */

bool rewrite_is_quantised(const node *n) { return n->dtype == DTYPE_Q8 || n->dtype == DTYPE_Q8K; }

static bool same_value(const node *a, const node *b) {
    if (a->op != b->op || a->n_in != b->n_in || a->weight != b->weight) return false;
    if (memcmp(&a->p, &b->p, sizeof a->p) != 0) return false;
    for (uint32_t i = 0; i < a->n_in; i++)
        if (a->in[i] != b->in[i]) return false;
    return a->rows == b->rows && a->dtype == b->dtype && a->width == b->width;
}

node *rewrite_find(const graph *g, const node *like) {
    if (like->n_in) {
        rewrite_users u = rewrite_users_of(g, like->in[0]);
        for (node *n = rewrite_next_user(&u); n; n = rewrite_next_user(&u))
            if (n != like && same_value(n, like)) return n;
        return NULL;
    }
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        node *n = g->nodes[i];
        if (n != like && n->n_uses && same_value(n, like)) return n;
    }
    return NULL;
}

node *rewrite_again(graph *g, const node *like, node *const in[]) {
    node n = *like;
    op_shape s;
    for (uint32_t i = 0; i < n.n_in; i++)
        if (!(n.in[i] = in[i])) return NULL;
    g->layer = n.layer;
    if (op_infer(&n, &s, NULL)) return graph_add(g, n.op, &n.p, n.label, n.n_in, in); /* says what is wrong */
    n.rows = s.rows;
    n.dtype = s.dtype;
    n.width = s.width;
    node *there = rewrite_find(g, &n);
    return there ? there : graph_add(g, n.op, &n.p, n.label, n.n_in, in);
}

/* --- a pass ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    graph *g;
    const graph_rule *rules;
    graph_stat *stats;
    uint64_t left; /* applications; no rule of ours needs more than a few a node */
} pass;

static status try_rules(pass *p, node *n, bool *changed, err *e) {
    for (uint32_t r = 0; p->rules[r].name && n->n_uses; r++) {
        const graph_rule *rule = &p->rules[r];
        if (rule->op != OP_COUNT && rule->op != n->op) continue;
        p->g->layer = n->layer;
        node *new = rule->apply(p->g, n);
        if (p->g->failed) return p->g->failed;
        if (!new) continue;
        if (p->left-- == 0) return fail(e, ERR_GRAPH, "graph: rule %s does not come to an end", rule->name);
        if (new != n) replace(p->g, n, new);
        if (p->stats) p->stats[r].applied++;
        *changed = true;
    }
    return OK;
}

static status run_once(pass *p, bool *changed, err *e) {
    *changed = false;
    for (uint32_t i = 0; i < p->g->n_nodes; i++) { /* those appended on the way too */
        status s = try_rules(p, p->g->nodes[i], changed, e);
        if (s) return s;
    }
    return *changed ? sort_nodes(p->g, e) : OK;
}

status rewrite_run(graph *g, const graph_rule *rules, graph_stat *stats, err *e) {
    g->e = e;
    uint32_t n_rules = 0;
    for (; rules[n_rules].name; n_rules++)
        if (stats) stats[n_rules] = (graph_stat){.name = rules[n_rules].name, .nodes_before = g->n_nodes};
    pass p = {.g = g, .rules = rules, .stats = stats, .left = 16 * (uint64_t)g->n_nodes + 64};
    bool changed = true;
    status s = sort_nodes(g, e);
    while (!s && changed) s = run_once(&p, &changed, e);
    g->layer = -1;
    for (uint32_t r = 0; stats && r < n_rules; r++) stats[r].nodes_after = g->n_nodes;
    return s ? s : graph_verify(g, e);
}

/* --- all passes -------------------------------------------------------------------------------------------------------- */

static status run_dce(graph *g, graph_stat *stat, err *e) {
    uint32_t before = g->n_nodes;
    status s = graph_sort(g, e);
    if (s) return s;
    if (stat) *stat = (graph_stat){"dce", before - g->n_nodes, before, g->n_nodes};
    return graph_verify(g, e);
}

static uint32_t count_rules(const graph_rule *rules) {
    uint32_t n = 0;
    while (rules[n].name) n++;
    return n;
}

status graph_optimise(graph *g, unsigned mask, graph_stat *stats, uint32_t *n_stats, err *e) {
    static const struct {
        unsigned bit;
        const graph_rule *rules; /* NULL: dce */
    } passes[] = {{PASS_NOOP, rules_noop}, {PASS_CSE, rules_cse}, {PASS_LOWER, rules_lower},
                  {PASS_FUSE, rules_fuse}, {PASS_DCE, NULL},      {PASS_LAYOUT, rules_layout}};
    uint32_t n = 0;
    if (n_stats) *n_stats = 0;
    status s = graph_verify(g, e);
    for (uint32_t i = 0; i < sizeof passes / sizeof *passes && !s; i++) {
        if (!(mask & passes[i].bit)) continue;
        const graph_rule *rules = passes[i].rules;
        graph_stat *row = stats ? stats + n : NULL;
        s = rules ? rewrite_run(g, rules, row, e) : run_dce(g, row, e);
        n += rules ? count_rules(rules) : 1;
    }
    if (n_stats && stats) *n_stats = n;
    return s;
}
