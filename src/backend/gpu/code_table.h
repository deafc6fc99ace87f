/* The table behind code.h. tools/gpu_kernels.py writes it into the build folder: an entry for every file and target, all files
 * of a target or none, then an empty one. Only code.c and its test look here. */
#ifndef ROCMFORGE_BACKEND_GPU_CODE_TABLE_H
#define ROCMFORGE_BACKEND_GPU_CODE_TABLE_H

#include "backend/gpu/code.h"

extern const gpu_code gpu_code_table[]; /* [gpu_code_table_n], and the empty one */
extern const uint32_t gpu_code_table_n;
extern const char gpu_code_table_targets[]; /* names with a space between */

#endif
