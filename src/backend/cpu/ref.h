/* The parts of the reference that live in files of their own; ref.c puts them into the table. See cpu_ops.h for what each
 * slot means. */
#ifndef ROCMFORGE_BACKEND_CPU_REF_H
#define ROCMFORGE_BACKEND_CPU_REF_H

#include "backend/cpu/cpu_ops.h"

void linear_float_ref(float *y, size_t y_stride, const void *w, quant_type type, size_t w_stride, uint32_t n_rows,
                      const float *x, size_t x_stride, uint32_t n_col, size_t k);
void kv_load_ref(float *dst, const void *codes, const void *scales, quant_type type, uint32_t d, bool is_k);
void attn_chunk_ref(const attn_chunk_args *a);
void attn_merge_ref(float *m, float *l, float *o, const float *m2, const float *l2, const float *o2, uint32_t d_v);

#endif
