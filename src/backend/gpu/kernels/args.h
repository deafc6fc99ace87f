/* What host and kernels share: kernel arguments are structs of fixed-size members, the same in C and on every device. One
 * header per family of kernels (args_<family>.h) declares the structs; offsets are the compiler's natural ones, so members
 * stand in descending size and the whole is a multiple of 8 bytes. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_H

#include <stdint.h>

typedef uint64_t gpu_addr; /* of device memory, as the host sees it */

/* Typed on the device, so that the compiler knows the memory is global; a number on the host, which never follows it. */
#ifdef __cplusplus
#define GPU_PTR(type) type *
#else
#define GPU_PTR(type) gpu_addr
#endif

#endif
