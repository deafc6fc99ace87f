/* For the kernel tests (check_*.c): one program, three kinds of device, chosen by RF_GPU_CHECK:
 *
 *   host32, host64   the interpreter, kernels built for waves of 32 or 64 lanes; RF_STANDIN names the stand-in library
 *   hip              whatever libamdhip64 says (ROCMFORGE_HIP_LIBRARY: the stand-in, which may hand kernels to an emulator)
 *   cuda             libcuda and the PTX in this binary
 *
 * Memory has canaries on both sides, and starts as NaN patterns. Any failure of a call ends the program with a message; a
 * wrong number is printed, counted, and makes check_close return 1. Without RF_GPU_CHECK a program says so and exits 77. */
#ifndef ROCMFORGE_TESTS_GPU_GPU_CHECK_H
#define ROCMFORGE_TESTS_GPU_GPU_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/gpu/kernels/args.h"

typedef struct check_rig check_rig;

check_rig *check_open(int argc, char **argv); /* argv[1], if given: only cases whose name contains it */
int check_close(check_rig *r);                /* prints one line a kernel: cases, wrong values, greatest difference */

/* Device memory of n_bytes; freed by check_reset. `from` NULL: filled with NaN patterns. */
gpu_addr check_put(check_rig *r, const void *from, size_t n_bytes);
void check_get(check_rig *r, void *to, gpu_addr from, size_t n_bytes); /* waits; checks all canaries */
void check_launch(check_rig *r, const char *file, const char *kernel, uint32_t gx, uint32_t gy, uint32_t gz,
                  uint32_t block, const void *args, size_t args_bytes);
void check_reset(check_rig *r); /* frees all memory */

bool check_wanted(const check_rig *r, const char *name); /* by the program's argument */
bool check_long(void);                                   /* RF_LONG is set: all shapes; else a few of each kind */
bool check_short(void); /* RF_GPU_SHORT is set: one small awkward shape or two a kernel, for the emulator */
/* The emulator divides wrongly where a numerator is below 2^-103 or a quotient has no normal form (its v_div_scale; hardware
 * and compiler agree there): true where such numbers must be kept from it. */
bool check_tame(void);
/* Bits of n floats, or bytes; NaN equals NaN. kernel: for the table. */
bool check_floats(check_rig *r, const char *kernel, const float *got, const float *want, size_t n, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
bool check_bytes(check_rig *r, const char *kernel, const void *got, const void *want, size_t n, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
/* Milliseconds of one launch among n, after warm-up: only with `cuda` and `hip` (0 otherwise). */
double check_time(check_rig *r, const char *file, const char *kernel, uint32_t gx, uint32_t gy, uint32_t gz,
                  uint32_t block, const void *args, size_t args_bytes, uint32_t n);

/* Reproducible: the same numbers everywhere. */
uint64_t check_random(uint64_t *state);
float check_normal(uint64_t *state); /* about N(0, 1) */

#endif
