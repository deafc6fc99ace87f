/* What rules are written with, and the tables of them. A rule looks at one node and its neighbours and either returns a
 * replacement, or changes the node in place and returns it, or returns NULL. Rules see exact use counts at all times: of
 * live nodes only, the replacements of this pass included. What they leave behind without users stays, dead, until DCE.
 * A rule that builds a node must use it: no try and throw away. */
#ifndef ROCMFORGE_GRAPH_REWRITE_H
#define ROCMFORGE_GRAPH_REWRITE_H

#include "graph/graph.h"

/* Tables end with a rule without a name. */
extern const graph_rule rules_noop[], rules_cse[], rules_lower[], rules_fuse[], rules_layout[];

/* Runs a table until nothing applies; ERR_GRAPH when it does not settle. stats: one row a rule, or NULL. Leaves the graph
 * sorted and verified. */
MUST_CHECK status rewrite_run(graph *g, const graph_rule *rules, graph_stat *stats, err *e);

/* Live users of a node; one that reads it twice comes once. Not to be used across a change of the graph. */
typedef struct {
    const graph *g;
    const node *of;
    uint32_t at, seen;
} rewrite_users;
rewrite_users rewrite_users_of(const graph *g, const node *n);
node *rewrite_next_user(rewrite_users *u); /* NULL: no more */

/* A live node that computes the same from the same inputs, or NULL. Inputs are compared by identity. */
node *rewrite_find(const graph *g, const node *like);
/* Finds or adds such a node; takes op, params, label and layer from `like`. */
node *rewrite_again(graph *g, const node *like, node *const in[]);
void rewrite_set_input(graph *g, node *n, uint32_t i, node *in); /* of a live node; keeps counts */
bool rewrite_is_quantised(const node *n);                        /* q8 or q8k */

#endif
