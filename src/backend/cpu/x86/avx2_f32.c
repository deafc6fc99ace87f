/* The float kernels for AVX2, FMA and F16C; built with those flags, so nothing outside this folder may be inlined from here. */
#include "backend/cpu/cpu_ops.h"

#include "backend/cpu/x86/lanes_avx2.h"
#include "backend/cpu/x86/kernels_f32.h"

void cpu_ops_avx2_f32(cpu_ops *ops) { fill_f32(ops); }
