/* What the stand-in library offers tests beside HIP's functions: found by dlsym. */
#ifndef ROCMFORGE_TESTS_SIMT_STANDIN_H
#define ROCMFORGE_TESTS_SIMT_STANDIN_H

#include <stddef.h>

/* Runs a kernel of wave 32 or 64 at once, pointers in its arguments are this process's. 0: done; else why says what is wrong. */
int standin_launch(const char *kernel, unsigned wave, const unsigned grid[3], unsigned block, const void *args, size_t args_bytes,
                   char *why, size_t why_size);

#endif
