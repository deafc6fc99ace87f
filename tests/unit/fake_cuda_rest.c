/* As fake_hip_rest.c, for the CUDA driver. */
#include "fake_gpu.h"

#include "backend/gpu/cuda_api.h"

#include <string.h>

extern fake_gpu fake;

#define X(result, name, arguments) \
    __attribute__((weak, visibility("default"))) result name arguments { \
        fake.last = #name; \
        return fake.failing && strcmp(fake.failing, #name) == 0 ? fake.code : 0; \
    }
CUDA_API(X)
