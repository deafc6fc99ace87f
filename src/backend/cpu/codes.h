/* Any quantised block of a weight as small integers, whatever the file's packing: what the reference computes with and
 * what panels are packed from. Ten types, four shapes of formula:
 *
 *   block of 32          weight = d * (q - zero)              Q4_0 Q5_0 Q8_0
 *   block of 32, min     weight = d * q + m                   Q4_1 Q5_1
 *   super-block of 256   weight = d * sc[s] * (q - zero)      Q3_K Q6_K       s: sub-block of 16
 *   the same, min        weight = d * sc[s] * q - m * mn[s]   Q2_K (sub-blocks of 16), Q4_K Q5_K (of 32)
 *
 * Pure functions, any thread. Every byte pattern is allowed. */
#ifndef ROCMFORGE_BACKEND_CPU_CODES_H
#define ROCMFORGE_BACKEND_CPU_CODES_H

#include "quant/quant.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CODE_BLOCK = 32, CODE_SUPER = 256 };

typedef struct {
    uint16_t d, m;  /* f16 bits; m 0 without a minimum */
    int8_t sc[16];  /* scales of the sub-blocks; untouched for blocks of 32 */
    uint8_t mn[16]; /* minima of the sub-blocks; untouched without */
    uint8_t q[CODE_SUPER];
} code_block;

typedef struct {
    uint8_t bits;  /* of q: 2, 3, 4, 5, 6 or 8 */
    uint8_t zero;  /* the code of weight 0, for types without a minimum */
    uint8_t n_sub; /* sub-blocks of a super-block: 8 or 16; 0: the type has blocks of 32 */
    bool has_min;
    uint16_t bytes; /* of a block in the file */
    void (*read)(code_block *b, const uint8_t *src);
} code_form;

const code_form *code_form_of(quant_type type); /* NULL: not one of the ten */

static inline uint32_t code_block_elems(const code_form *f) { return f->n_sub ? CODE_SUPER : CODE_BLOCK; }

#endif
