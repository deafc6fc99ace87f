/* Which rows of which weight a block of a linear kernel has. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_LINEAR_PART_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_LINEAR_PART_H

#include "args_linear.h"
#include "target.h"

/* The part of a stacked weight whose rows this block has: chosen without an index into the argument. */
DEVICE uint32_t linear_vec_part(gpu_weight &w, const linear_args &a, uint32_t rows_of_block) {
    uint32_t block = block_x();
    w = a.part[0];
    UNROLL for (uint32_t p = 1; p < LINEAR_PARTS; p++) {
        const uint32_t n = (w.n_rows + rows_of_block - 1) / rows_of_block;
        if (p >= a.n_parts || block < n) break;
        block -= n;
        w = a.part[p];
    }
    return block * rows_of_block;
}

/* The expert of a token's slot. The route's kernel writes only numbers of experts; anything else reads expert 0. */
DEVICE uint32_t linear_expert_at(const linear_expert_args &a, uint32_t tok, uint32_t slot) {
    const uint32_t expert = uniform(*(const uint32_t *)(a.route + (uint64_t)tok * a.route_stride + slot * 8));
    return expert < a.n_expert ? expert : 0;
}

#endif
