/* The op table inside the graph room: what each op makes of its inputs. graph_add and graph_verify share one shape rule an
 * op, infer_<name>, so a graph that was built can only fail its verifier if something changed it since. */
#ifndef ROCMFORGE_GRAPH_OPS_H
#define ROCMFORGE_GRAPH_OPS_H

#include "graph/graph.h"

typedef struct {
    graph_rows rows;
    graph_dtype dtype;
    uint32_t width;
} op_shape;

/* Checks the inputs (not NULL, their number, dtypes and shapes) and the params of n; gives the shape of its value.
 * ERR_GRAPH names the node. Reads nothing but n, its direct inputs and, for experts, where their route comes from. */
MUST_CHECK status op_infer(const node *n, op_shape *out, err *e);
size_t op_params_bytes(graph_op op); /* of graph_params that this op reads; the rest is kept zero */
bool op_is_append(graph_op op);      /* writes the KV cache */
bool op_is_input(graph_op op);       /* tokens, positions, out_rows: the step's own arrays */
bool op_is_row_wise(graph_op op);    /* row r of the result needs row r of the inputs and nothing else of them */

__attribute__((format(printf, 3, 4), cold)) status op_fail(const node *n, err *e, const char *fmt, ...);

#endif
