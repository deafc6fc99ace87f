/* Which form of attention computes each token of a step (kernels/args_attention.h), decided on the host from the step's
 * sequences and positions alone. The bits do not depend on it. Pure functions, any thread. */
#ifndef ROCMFORGE_BACKEND_GPU_ATTENTION_PLAN_H
#define ROCMFORGE_BACKEND_GPU_ATTENTION_PLAN_H

#include "backend/gpu/kernels/args_attention.h"

typedef struct {
    uint32_t n_singles, n_tiles;
    uint32_t n_states;   /* that the singles take */
    uint32_t max_chunks; /* of the longest single: the width of the split's grid */
} attention_lists;

/* Tokens of a sequence stand together, in ascending position. Runs of few tokens become singles while their states fit into
 * max_states, everything else tiles. group: the most query heads a kv head has in any layer; single, tile: room for n_tok
 * entries each. Serves layers with and without window. */
void attention_plan(attention_lists *l, attn_single *single, attn_tile_of *tile, uint32_t n_tok, const uint32_t *seq,
                    const int32_t *pos, const uint32_t *first_page, uint32_t group, uint32_t max_states);

#endif
