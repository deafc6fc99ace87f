/* Any bytes as blocks of any type: the decoder writes exactly its elements, reads exactly its blocks, and what is finite
 * survives Q8_0. First byte: the type. */
#include "quant/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    const quant_info *q = quant_lookup(data[0]);
    if (!q || !q->decode) return 0;
    const size_t n_blocks = (size - 1) / q->block_bytes, n = n_blocks * q->block_elems;
    uint8_t *src = malloc(n_blocks * q->block_bytes + 1), *again = malloc(n / 32 * 34 + 1);
    float *dst = malloc(n * sizeof *dst + 1);
    if (!src || !dst || !again) abort();
    memcpy(src + 1, data + 1, n_blocks * q->block_bytes); /* exact end, odd alignment */
    q->decode(dst, src + 1, n);
    quant_encode_q8_0(again, dst, n / 32 * 32);
    for (size_t at = 0; at + 32 <= n; at += 32) {
        float amax = 0, back[32];
        bool finite = true;
        for (int i = 0; i < 32; i++) {
            finite = finite && isfinite(dst[at + i]);
            amax = fmaxf(amax, fabsf(dst[at + i]));
        }
        quant_lookup(QUANT_Q8_0)->decode(back, again + at / 32 * 34, 32);
        for (int i = 0; i < 32; i++) {
            if (!finite && !isnan(back[i])) abort();
            if (finite && amax < 8e6f && !(fabsf(back[i] - dst[at + i]) <= amax / 127 * 0.6f + 4e-6f)) abort();
        }
    }
    free(src), free(dst), free(again);
    return 0;
}
