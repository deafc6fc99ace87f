#include "quant/quant.h"

#include "quant/decode.h"

#include <strings.h>

/* Sizes are facts of ggml-common.h. Holes are ids that were removed from the format (4, 5, 31-33, 36-38). */
static const quant_info table[QUANT_COUNT] = {
    [QUANT_F32] = {"F32", 1, 4, decode_f32},
    [QUANT_F16] = {"F16", 1, 2, decode_f16},
    [QUANT_Q4_0] = {"Q4_0", 32, 18, decode_q4_0},
    [QUANT_Q4_1] = {"Q4_1", 32, 20, decode_q4_1},
    [QUANT_Q5_0] = {"Q5_0", 32, 22, decode_q5_0},
    [QUANT_Q5_1] = {"Q5_1", 32, 24, decode_q5_1},
    [QUANT_Q8_0] = {"Q8_0", 32, 34, decode_q8_0},
    [QUANT_Q8_1] = {"Q8_1", 32, 36, NULL},
    [QUANT_Q2_K] = {"Q2_K", 256, 84, decode_q2_k},
    [QUANT_Q3_K] = {"Q3_K", 256, 110, decode_q3_k},
    [QUANT_Q4_K] = {"Q4_K", 256, 144, decode_q4_k},
    [QUANT_Q5_K] = {"Q5_K", 256, 176, decode_q5_k},
    [QUANT_Q6_K] = {"Q6_K", 256, 210, decode_q6_k},
    [QUANT_Q8_K] = {"Q8_K", 256, 292, NULL},
    [QUANT_IQ2_XXS] = {"IQ2_XXS", 256, 66, NULL},
    [QUANT_IQ2_XS] = {"IQ2_XS", 256, 74, NULL},
    [QUANT_IQ3_XXS] = {"IQ3_XXS", 256, 98, NULL},
    [QUANT_IQ1_S] = {"IQ1_S", 256, 50, NULL},
    [QUANT_IQ4_NL] = {"IQ4_NL", 32, 18, NULL},
    [QUANT_IQ3_S] = {"IQ3_S", 256, 110, NULL},
    [QUANT_IQ2_S] = {"IQ2_S", 256, 82, NULL},
    [QUANT_IQ4_XS] = {"IQ4_XS", 256, 136, NULL},
    [QUANT_I8] = {"I8", 1, 1, NULL},
    [QUANT_I16] = {"I16", 1, 2, NULL},
    [QUANT_I32] = {"I32", 1, 4, NULL},
    [QUANT_I64] = {"I64", 1, 8, NULL},
    [QUANT_F64] = {"F64", 1, 8, NULL},
    [QUANT_IQ1_M] = {"IQ1_M", 256, 56, NULL},
    [QUANT_BF16] = {"BF16", 1, 2, decode_bf16},
    [QUANT_TQ1_0] = {"TQ1_0", 256, 54, NULL},
    [QUANT_TQ2_0] = {"TQ2_0", 256, 66, NULL},
    [QUANT_MXFP4] = {"MXFP4", 32, 17, NULL},
    [QUANT_NVFP4] = {"NVFP4", 64, 36, NULL},
    [QUANT_Q1_0] = {"Q1_0", 128, 18, NULL},
    [QUANT_Q2_0] = {"Q2_0", 64, 18, NULL},
};

const quant_info *quant_lookup(uint32_t type) { return type < QUANT_COUNT && table[type].name ? &table[type] : NULL; }

bool quant_from_name(const char *name, quant_type *out) {
    for (uint32_t t = 0; t < QUANT_COUNT; t++)
        if (table[t].name && strcasecmp(table[t].name, name) == 0) {
            *out = (quant_type)t;
            return true;
        }
    return false;
}
