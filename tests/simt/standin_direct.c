#include "standin.h"
#include "interpreter.h"

#include <stdio.h>

extern const unsigned simt_wave_32, simt_wave_64;
const unsigned *const standin_waves[2] = {&simt_wave_32, &simt_wave_64}; /* keeps both libraries of kernels loaded */

SIMT_API int standin_launch(const char *kernel, unsigned wave, const unsigned grid[3], unsigned block, const void *args,
                            size_t args_bytes, char *why, size_t why_size) {
    const simt_kernel *k = simt_find(kernel, wave);
    if (k) return simt_launch(k, grid, block, args, args_bytes, why, why_size) ? 0 : 1;
    snprintf(why, why_size, "no kernel %s for waves of %u", kernel, wave);
    return 2;
}
