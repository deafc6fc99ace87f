/* Which weights are better read in another order: those that a linear multiplies as integers become panels. A table that is
 * both looked up and multiplied (tied embeddings) becomes panels too: backends read rows out of panels. */
#include "graph/rewrite.h"

static node *to_panels(graph *g, node *w) {
    graph_dtype t;
    if (w->layout == WEIGHT_PANELS || !graph_quantised_input(w->weight->type, &t)) return NULL;
    rewrite_users u = rewrite_users_of(g, w);
    for (node *n = rewrite_next_user(&u); n; n = rewrite_next_user(&u)) {
        if (n->op != OP_LINEAR && n->op != OP_LINEAR_EXPERT) continue;
        w->layout = WEIGHT_PANELS;
        return w;
    }
    return NULL;
}

const graph_rule rules_layout[] = {{"panels", OP_WEIGHT, to_panels}, {0}};
