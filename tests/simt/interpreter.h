/* Runs kernels that were compiled for the host (simt.h), block after block, one fiber a lane. A launch either ends well or
 * gives one sentence: which kernel, block and lanes, at which call. What it checks: the size of the arguments, block and grid
 * limits, that every lane of a group reaches the same collective; a wild pointer or a division by zero ends the launch (trap.h). The order of the lanes turns round from block to block, so
 * that a missing barrier shows as a wrong number. One launch at a time, whatever thread asks. */
#ifndef ROCMFORGE_TESTS_SIMT_INTERPRETER_H
#define ROCMFORGE_TESTS_SIMT_INTERPRETER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct simt_kernel simt_kernel;
#define SIMT_API __attribute__((visibility("default")))

SIMT_API const simt_kernel *simt_find(const char *name, uint32_t wave); /* NULL: none of this name */
SIMT_API const simt_kernel *simt_at_index(uint32_t i);                  /* NULL past the last */
SIMT_API const char *simt_name(const simt_kernel *k);
SIMT_API size_t simt_args_bytes(const simt_kernel *k);
SIMT_API uint32_t simt_max_threads(const simt_kernel *k);

/* true: it ran. false: why has the reason. */
SIMT_API bool simt_launch(const simt_kernel *k, const uint32_t grid[3], uint32_t block, const void *args,
                          size_t args_bytes, char *why, size_t why_bytes);

#endif
