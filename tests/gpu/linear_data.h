/* Weights and activations for the tests of linear kernels, as the CPU's reference has them and as the device does, and the
 * reference's answer. Reproducible. Memory is the caller's to free. */
#ifndef ROCMFORGE_TESTS_GPU_LINEAR_DATA_H
#define ROCMFORGE_TESTS_GPU_LINEAR_DATA_H

#include "gpu_check.h"

#include "backend/cpu/cpu_ops.h"
#include "backend/gpu/weights.h"

enum { N_LINEAR_TYPES = 13 };
extern const quant_type linear_types[N_LINEAR_TYPES];
bool quantised(quant_type t);

/* scales and values that models have; the largest codes; infinities and NaN among them */
typedef enum { EVERYDAY, EXTREME, NOT_FINITE } spirit;
const char *spirit_name(spirit s);

uint32_t draw(void);         /* 32 random bits */
void *take(size_t n);        /* zeros */
float *nan_floats(size_t n); /* as the device's memory starts */

/* n_rows rows as filed. */
uint8_t *make_rows(const gpu_weight_planes *w, size_t n_rows, spirit s);
/* The planes on the device; place[p] from its first row on. */
void put_planes(check_rig *r, const gpu_weight_planes *w, const uint8_t *rows, size_t n_rows,
                gpu_addr place[LINEAR_PLANES]);

/* n rows of k values of activations. */
typedef struct {
    uint32_t n, k, stride; /* stride: bytes of a row on the device */
    cpu_act act;           /* quantised */
    float *x;              /* else, [n][k] */
    uint8_t *rows;         /* [n][stride] */
} input;
input make_input(quant_type t, uint32_t n, uint32_t k, spirit s);
void free_input(input *in);

/* y[c * y_stride + r] for columns [col0, col0 + n_col), of w->k values from `first` on. */
void reference(float *y, size_t y_stride, const gpu_weight_planes *w, const uint8_t *rows, uint32_t n_rows,
               const input *in, uint32_t first, uint32_t col0, uint32_t n_col);

/* A row of n values quantised as the reference has it, in the device's layout (gpu_act_bytes). A scale that is NaN gets other
 * bits on the device: one_nan gives both the same. */
void quantised_row(uint8_t *to, const float *x, uint32_t n, uint32_t scale_block);
void one_nan(uint8_t *row, uint32_t n, uint32_t scale_block);

/* "linear_" form "_" and the type's name in small letters */
void kernel_name(char *to, size_t n, const char *form, quant_type t);

#endif
