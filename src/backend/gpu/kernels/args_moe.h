/* Mixture of experts: which experts a token goes to, lists of rows for each expert, and the weighted sum of their answers.
 * The numbers are those of backend/cpu/cpu_moe.c, bit for bit.
 *
 * A route row is n_used pairs {i32 expert, f32 weight}, best first: moe_slot. A "pick" is token * n_used + slot, a row of the
 * expert matmul's result [n_tok, n_used * m] seen as [n_tok * n_used, m].
 *
 *   moe_route    logits [n_tok, n_expert] -> route. A team a token: grid ceil(n_tok / MOE_ROUTE_TOKENS), MOE_BLOCK threads
 *   moe_lists    route -> for every expert e: first[e], and its picks in ascending order at pick[first[e] .. first[e + 1]);
 *                first[n_expert] = n_tok * n_used. For matrix forms: an expert's rows side by side, the order fixed. A block
 *                for each expert: grid n_expert, MOE_BLOCK threads; needs nothing cleared before
 *   moe_combine  x [n_tok, n_used * width], route -> y [n_tok, width]: x of slot 0 * its weight, then + x of slot s * its
 *                weight, slots ascending. grid ceil(width / MOE_TILE), n_tok */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_MOE_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_MOE_H

#include "backend/gpu/kernels/args.h"

enum { MOE_BLOCK = 256, MOE_ROUTE_TOKENS = 8, MOE_TILE = 1024, MOE_MAX_EXPERTS = 1024, MOE_MAX_USED = 64 };

typedef struct {
    int32_t expert;
    float weight;
} moe_slot;

typedef struct {
    GPU_PTR(const float) logits;
    GPU_PTR(moe_slot) route;
    uint32_t logits_stride, route_stride; /* bytes */
    uint32_t n_tok, n_expert, n_used;     /* n_expert <= MOE_MAX_EXPERTS, n_used <= MOE_MAX_USED and n_expert */
    uint32_t softmax_after, renormalise;  /* as graph.h's p.route */
    float scale;                          /* 0: 1 */
} moe_route_args;

typedef struct {
    GPU_PTR(const moe_slot) route;
    GPU_PTR(uint32_t) first; /* [n_expert + 1] */
    GPU_PTR(uint32_t) pick;  /* [n_tok * n_used] */
    uint32_t route_stride;   /* bytes */
    uint32_t n_tok, n_expert, n_used;
} moe_lists_args;

typedef struct {
    GPU_PTR(const float) x;
    GPU_PTR(const moe_slot) route;
    GPU_PTR(float) y;
    uint32_t x_stride, route_stride, y_stride; /* bytes */
    uint32_t n_tok, n_used, width;
} moe_combine_args;

#endif
