/* What the two drivers share: finding a library and its functions, and the root below which /sys and /dev are read. */
#ifndef ROCMFORGE_BACKEND_GPU_DRIVER_OWN_H
#define ROCMFORGE_BACKEND_GPU_DRIVER_OWN_H

#include "backend/gpu/driver.h"

enum { GPU_LIBRARY_NAME = 256 };

typedef struct {
    void *handle;                /* of dlopen */
    char name[GPU_LIBRARY_NAME]; /* as it was asked for */
} gpu_library;

typedef struct {
    const char *name;
    size_t at; /* of its pointer, in the table */
} gpu_symbol;

/* The first of names (NULL ends them) that can be loaded, or the one that the environment variable gives.
 * ERR_GPU_NO_DRIVER: none is there. ERR_GPU_DRIVER: one is there and cannot be loaded. */
MUST_CHECK status gpu_library_open(gpu_library *l, const char *env, const char *const *names, err *e);
void gpu_library_close(gpu_library *l); /* only before its init was called: GPU runtimes do not survive unloading */
/* Fills the table's pointers. The name of the first function that the library lacks, or NULL. */
const char *gpu_library_bind(const gpu_library *l, void *table, const gpu_symbol *symbols, size_t n);

/* As the two of driver.h; the root is borrowed and must outlive the driver. */
MUST_CHECK status gpu_driver_open_hip_at(gpu_driver **out, const char *root, err *e);
MUST_CHECK status gpu_driver_open_cuda_at(gpu_driver **out, const char *root, err *e);

/* Peer access between two devices, learnt once. */
typedef enum { PEER_UNKNOWN, PEER_YES, PEER_NO } gpu_peer;

#endif
