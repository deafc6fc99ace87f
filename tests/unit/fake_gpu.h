/* GPU runtimes that are played (fake_hip.c, fake_cuda.c): shared libraries with the functions that the drivers load, whose
 * behaviour a test sets through the struct that each exports as `fake`. They compute nothing: discovery, errors and the calls
 * of the table are tried with them; kernels run on the stand-in of tests/simt. */
#ifndef ROCMFORGE_TESTS_FAKE_GPU_H
#define ROCMFORGE_TESTS_FAKE_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name, *pci, *uuid; /* uuid: HIP's sixteen characters, or NULL */
    uint64_t mib;
    int units, wave, integrated, major, minor;
} fake_device;

typedef struct {
    int version; /* as the runtime gives it */
    int n;
    fake_device device[20];
    const char *failing; /* the function that fails, and how; NULL: none */
    int code;
    const char *loads; /* the code that module loading takes, by its text; NULL: all */
    const char *last;  /* of the functions below discovery: the one called last */
    int current;       /* the device that was made so */
    int can_peer;
    int n_contexts; /* CUDA: taken and not given back */
} fake_gpu;

#endif
