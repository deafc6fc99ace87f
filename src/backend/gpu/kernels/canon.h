/* The canonical single-precision functions (backend/cpu/canon.h) for kernels: the CPU's own text, compiled for the device, so
 * that there is one definition. A kernel includes this after target.h and calls canon_exp, canon_tanh, canon_silu, canon_gelu,
 * canon_softcap, canon_max, canon_ldexp, canon_bits, canon_from_bits. Sums over sixteen lanes are half_team_sum (target.h);
 * canon_sum16 and canon_max16 are for a thread that holds all sixteen parts itself. Division and root are correctly rounded
 * on every target as the compiler is told to (no fast math): `/` and canon_sqrt.
 * The system's headers come first, so that the names replaced below are only replaced in the text that follows. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_CANON_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_CANON_H

#include "backend/gpu/kernels/target.h"

#if defined(GPU_HOST)
#include "backend/cpu/canon.h"
#else
#include <math.h>
#include <string.h>
#pragma push_macro("fmaf")
#pragma push_macro("fabsf")
#pragma push_macro("copysignf")
#pragma push_macro("memcpy")
#define fmaf      __builtin_fmaf
#define fabsf     __builtin_fabsf
#define copysignf __builtin_copysignf
#define memcpy    __builtin_memcpy
#pragma clang force_cuda_host_device begin
#include "backend/cpu/canon.h"
#pragma clang force_cuda_host_device end
#pragma pop_macro("fmaf")
#pragma pop_macro("fabsf")
#pragma pop_macro("copysignf")
#pragma pop_macro("memcpy")
#endif

DEVICE float canon_sqrt(float x) { return __builtin_sqrtf(x); }

#endif
