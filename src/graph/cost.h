/* What a node costs on a device: seconds of one decoded token, for placement by cost (plan.h, PLACE_AUTOMATIC). One model for
 * every device, of what decoding is bound by:
 *
 *   bytes of weights (and of the cache) / bandwidth  +  a launch for each node that computes  +  copies between devices
 *
 * A CPU's launch is a barrier of its threads; a copy is priced by the device it comes to, with the waits on both sides. What a
 * step costs a device once (its inputs going up, the host waiting) is charged to get_rows, the first node of every model.
 * Prompts are not modelled: whatever reads many tokens at once wants the same device as soon as decoding does. */
#ifndef ROCMFORGE_GRAPH_COST_H
#define ROCMFORGE_GRAPH_COST_H

#include "graph/graph.h"

enum { COST_CONTEXT = 512 }; /* tokens of context that attention is priced with, keys and values as f16 */

typedef struct {
    double bytes_per_s; /* of the memory where its weights lie */
    double launch_s, step_s;
    double copy_s, copy_bytes_per_s;
    double handicap; /* costs are multiplied: 2 takes the device only where it is at least twice as cheap */
} plan_speed;

/* Bytes that one token of n must move: weights (of the experts used), the cache, its rows. */
double plan_node_bytes(const node *n);
double plan_cost(const plan_speed *s, const node *n); /* handicap included */

#endif
