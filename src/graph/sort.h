/* Order of nodes. Stable: a node moves only as far as its users force it. */
#ifndef ROCMFORGE_GRAPH_SORT_H
#define ROCMFORGE_GRAPH_SORT_H

#include "graph/graph.h"

/* Orders all nodes, the dead too, renumbers and counts uses. ERR_GRAPH: a cycle, or an input that is not in the graph. */
MUST_CHECK status sort_nodes(graph *g, err *e);

#endif
