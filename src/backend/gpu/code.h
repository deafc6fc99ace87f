/* The kernels inside the binary: for every target one code object a .hip file (AMD ELF; PTX text for NVIDIA), built once by
 * tools/gpu_kernels and embedded. Immutable; any thread. */
#ifndef ROCMFORGE_BACKEND_GPU_CODE_H
#define ROCMFORGE_BACKEND_GPU_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *file;   /* "linear": kernels/linear.hip */
    const char *target; /* "gfx1100"; "sm_80" for PTX */
    const void *data;   /* PTX ends with a NUL that n_bytes counts */
    size_t n_bytes;
} gpu_code;

uint32_t gpu_code_count(void);
const gpu_code *gpu_code_at(uint32_t i);

/* Whether the binary has all files' code for a device of this arch, and under which target's name: the arch itself; for
 * NVIDIA any sm_ at or above the PTX's. false: it has none, `gpu_code_targets` says what there is. */
bool gpu_code_covers(const char *arch, const char **target);
const char *gpu_code_targets(void); /* "gfx1100 gfx1101 sm_80"; "" when built without */
const gpu_code *gpu_code_find(const char *file, const char *target);

#endif
