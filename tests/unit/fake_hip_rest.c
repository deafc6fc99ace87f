/* The functions of HIP that fake_hip.c does not define: being called is all they do. Out parameters get a number that is not
 * NULL. Weak, so that the list of all functions can be used as it is. */
#include "fake_gpu.h"

#include "backend/gpu/hip_api.h"

#include <string.h>

extern fake_gpu fake;

#define X(result, name, arguments) \
    __attribute__((weak, visibility("default"))) result name arguments { \
        fake.last = #name; \
        return (result)(intptr_t)(fake.failing && strcmp(fake.failing, #name) == 0 ? fake.code : 0); \
    }
HIP_API(X)
