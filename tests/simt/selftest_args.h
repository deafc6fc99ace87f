#ifndef ROCMFORGE_TESTS_SIMT_SELFTEST_ARGS_H
#define ROCMFORGE_TESTS_SIMT_SELFTEST_ARGS_H

#include "backend/gpu/kernels/args.h"

typedef struct {
    GPU_PTR(const int32_t) in;
    GPU_PTR(int32_t) out;
    uint32_t n, pad;
} simt_test_args;

#endif
