/* The runtime below the GPU backend as one table, filled by dlopen: libamdhip64 (driver_hip.c) or libcuda (driver_cuda.c,
 * HIP's second platform). Nothing else of this project calls either. The binary starts where neither exists.
 *
 * Every call is checked in one place and comes back as status + err: the message has the runtime's own name of the error, the
 * call, and the device; codes ERR_GPU_* (base/err.h) each stand for one thing a user can do. Calls name their device; the
 * table makes it current. Handles are the runtime's. One thread a device, but copies on their own stream may come from others.
 * Asynchronous calls return before they are done; their errors come with the next synchronising one. */
#ifndef ROCMFORGE_BACKEND_GPU_DRIVER_H
#define ROCMFORGE_BACKEND_GPU_DRIVER_H

#include "backend/gpu/kernels/args.h"
#include "base/err.h"

#include <stddef.h>

enum { GPU_MAX_DEVICES = 16 };

typedef enum { GPU_PLATFORM_HIP, GPU_PLATFORM_CUDA } gpu_platform;

typedef struct {              /* facts by attribute and by name, never from hipDeviceProp_t */
    char name[128], arch[32]; /* "AMD Radeon RX 7900 XTX", "gfx1100" without features; "sm_90" */
    char uuid[48], pci[16];   /* "GPU-0123456789abcdef", "0000:03:00.0" */
    uint64_t memory;          /* bytes of device memory */
    uint32_t n_units;         /* compute units, or multiprocessors */
    uint32_t wave, clock_mhz, memory_clock_mhz, memory_bus_bits;
    uint32_t shared_bytes; /* LDS a block may have */
    bool integrated;       /* shares the host's memory */
} gpu_facts;

typedef void *gpu_stream, *gpu_event, *gpu_module, *gpu_kernel,
    *gpu_graph; /* gpu_graph: instantiated, ready to launch */

typedef struct {
    uint32_t grid[3], block; /* blocks; threads of a block, a multiple of 64 */
    uint32_t shared_bytes;   /* dynamic; 0 for ours, whose shared arrays are sized at build time */
    const void *args;        /* the kernel's one struct */
    size_t args_bytes;
} gpu_launch;

typedef struct gpu_driver gpu_driver;

struct gpu_driver {
    gpu_platform platform;
    char version[64]; /* "HIP runtime 6.4, driver 60443484" */
    uint32_t n_devices;

    status (*facts)(gpu_driver *d, uint32_t dev, gpu_facts *out, err *e);
    status (*memory)(gpu_driver *d, uint32_t dev, uint64_t *free, uint64_t *total, err *e);

    status (*alloc)(gpu_driver *d, uint32_t dev, size_t n_bytes, gpu_addr *out, err *e); /* 256-byte aligned at least */
    void (*release)(gpu_driver *d, uint32_t dev, gpu_addr p);                            /* 0 is fine */
    status (*host_alloc)(gpu_driver *d, uint32_t dev, size_t n_bytes, void **out, err *e); /* pinned */
    void (*host_release)(gpu_driver *d, uint32_t dev, void *p);

    /* Source and target of host copies are pinned, so that the copies are truly asynchronous. */
    status (*copy_in)(gpu_driver *d, uint32_t dev, gpu_addr to, const void *from, size_t n_bytes, gpu_stream s, err *e);
    status (*copy_out)(gpu_driver *d, uint32_t dev, void *to, gpu_addr from, size_t n_bytes, gpu_stream s, err *e);
    status (*copy)(gpu_driver *d, uint32_t dev, gpu_addr to, gpu_addr from, size_t n_bytes, gpu_stream s, err *e);
    status (*fill)(gpu_driver *d, uint32_t dev, gpu_addr to, uint8_t byte, size_t n_bytes, gpu_stream s, err *e);
    /* between devices; ERR_GPU_PEER when they cannot reach each other: then go through the host */
    status (*copy_peer)(gpu_driver *d, uint32_t to_dev, gpu_addr to, uint32_t from_dev, gpu_addr from, size_t n_bytes,
                        gpu_stream s, err *e);

    status (*stream_open)(gpu_driver *d, uint32_t dev, gpu_stream *out, err *e);
    void (*stream_close)(gpu_driver *d, uint32_t dev, gpu_stream s);
    status (*stream_wait)(gpu_driver *d, uint32_t dev, gpu_stream s, err *e); /* the host waits for all of it */
    status (*event_open)(gpu_driver *d, uint32_t dev, gpu_event *out, err *e);
    void (*event_close)(gpu_driver *d, uint32_t dev, gpu_event v);
    status (*event_record)(gpu_driver *d, uint32_t dev, gpu_event v, gpu_stream s, err *e);
    status (*event_wait)(gpu_driver *d, uint32_t dev, gpu_event v, err *e);                      /* the host */
    status (*stream_wait_event)(gpu_driver *d, uint32_t dev, gpu_stream s, gpu_event v, err *e); /* the stream */
    status (*event_ms)(gpu_driver *d, uint32_t dev, gpu_event from, gpu_event to, float *ms, err *e);

    status (*module_load)(gpu_driver *d, uint32_t dev, const void *code, size_t n_bytes, gpu_module *out, err *e);
    void (*module_unload)(gpu_driver *d, uint32_t dev, gpu_module m);
    status (*kernel_find)(gpu_driver *d, uint32_t dev, gpu_module m, const char *name, gpu_kernel *out, err *e);
    status (*launch)(gpu_driver *d, uint32_t dev, gpu_kernel k, const gpu_launch *l, gpu_stream s, err *e);

    status (*capture_begin)(gpu_driver *d, uint32_t dev, gpu_stream s, err *e);
    status (*capture_end)(gpu_driver *d, uint32_t dev, gpu_stream s, gpu_graph *out, err *e); /* instantiates */
    status (*graph_launch)(gpu_driver *d, uint32_t dev, gpu_graph g, gpu_stream s, err *e);
    void (*graph_close)(gpu_driver *d, uint32_t dev, gpu_graph g);

    void (*close)(gpu_driver *d); /* NULL is fine */
};

/* Each fails with its own reason: ERR_GPU_NO_DRIVER (no such library), ERR_GPU_DRIVER (it is there and does not work, or lacks
 * a function: too old), ERR_GPU_PERMISSION (the device node may not be opened), ERR_GPU_NONE (it sees no device). Library
 * names: ROCMFORGE_HIP_LIBRARY and ROCMFORGE_CUDA_LIBRARY name another file (the stand-in of the tests). */
MUST_CHECK status gpu_driver_open_hip(gpu_driver **out, err *e);
MUST_CHECK status gpu_driver_open_cuda(gpu_driver **out, err *e);

#endif
