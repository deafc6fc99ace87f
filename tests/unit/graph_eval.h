/* A naive interpreter of graphs: one row at a time, in the node's order, with doubles where it is easiest. It shows that
 * rules and plans keep every bit, not what a model answers: it has its own idea of every op, and fused ops are made of the
 * plain ones. One sequence from position 0. */
#ifndef ROCMFORGE_TESTS_GRAPH_EVAL_H
#define ROCMFORGE_TESTS_GRAPH_EVAL_H

#include "graph/plan.h"

typedef struct {
    uint32_t n_tok, n_out;
    int32_t token[64], out_row[64];
} eval_step;

/* The result's rows, [n_out (or n_tok)][width]; free with free(). Every value has memory of its own. */
float *eval_graph(const graph *g, const eval_step *in);
/* The same inside the blocks of a plan, filled with noise before; a node may only read its own device, copies apart. */
float *eval_plan(const plan *p, const eval_step *in);

#endif
