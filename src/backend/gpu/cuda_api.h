/* The part of the CUDA driver API that this project calls, as hip_api.h is for HIP: libcuda.so.1 of CUDA 12 drivers and
 * later, with the exported (versioned) names and the numbers of the public header cuda.h. */
#ifndef ROCMFORGE_BACKEND_GPU_CUDA_API_H
#define ROCMFORGE_BACKEND_GPU_CUDA_API_H

#include <stddef.h>
#include <stdint.h>

typedef int cuda_error, cuda_device;
typedef uint64_t cuda_addr;
typedef void *cuda_context, *cuda_stream, *cuda_event, *cuda_module, *cuda_function, *cuda_graph, *cuda_graph_exec;

typedef struct {
    unsigned char bytes[16];
} cuda_uuid;

enum { /* CUresult */
       CUDA_OK = 0,
       CUDA_OUT_OF_MEMORY = 2,
       CUDA_STUB_LIBRARY = 34,
       CUDA_NO_DEVICE = 100,
       CUDA_INVALID_DEVICE = 101,
       CUDA_NO_BINARY_FOR_GPU = 209,
       CUDA_PEER_UNSUPPORTED = 217,
       CUDA_INVALID_PTX = 218,
       CUDA_JIT_COMPILER_NOT_FOUND = 221,
       CUDA_UNSUPPORTED_PTX_VERSION = 222,
       CUDA_PEER_ALREADY_ENABLED = 704,
       CUDA_SYSTEM_DRIVER_MISMATCH = 803
};

enum { /* CUdevice_attribute */
       CUDA_ATTR_SHARED_BYTES = 8,
       CUDA_ATTR_WAVE = 10,
       CUDA_ATTR_CLOCK_KHZ = 13,
       CUDA_ATTR_UNITS = 16,
       CUDA_ATTR_INTEGRATED = 18,
       CUDA_ATTR_MEMORY_CLOCK_KHZ = 36,
       CUDA_ATTR_MEMORY_BUS_BITS = 37,
       CUDA_ATTR_CAPABILITY_MAJOR = 75,
       CUDA_ATTR_CAPABILITY_MINOR = 76
};

enum { CUDA_STREAM_NON_BLOCKING = 1, CUDA_HOST_PORTABLE = 1, CUDA_CAPTURE_THREAD_LOCAL = 1 };
enum { CUDA_JIT_ERROR_LOG = 5, CUDA_JIT_ERROR_LOG_BYTES = 6 };

/* X(result, name, arguments) */
#define CUDA_API(X) \
    X(cuda_error, cuGetErrorName, (cuda_error rc, const char **out)) \
    X(cuda_error, cuInit, (unsigned flags)) \
    X(cuda_error, cuDriverGetVersion, (int *out)) /* major * 1000 + minor * 10 */ \
    X(cuda_error, cuDeviceGetCount, (int *out)) \
    X(cuda_error, cuDeviceGet, (cuda_device * out, int i)) \
    X(cuda_error, cuDeviceGetAttribute, (int *out, int attribute, cuda_device dev)) \
    X(cuda_error, cuDeviceGetName, (char *out, int n_bytes, cuda_device dev)) \
    X(cuda_error, cuDeviceTotalMem_v2, (size_t * out, cuda_device dev)) \
    X(cuda_error, cuDeviceGetPCIBusId, (char *out, int n_bytes, cuda_device dev)) \
    X(cuda_error, cuDeviceGetUuid_v2, (cuda_uuid * out, cuda_device dev)) \
    X(cuda_error, cuDevicePrimaryCtxRetain, (cuda_context * out, cuda_device dev)) \
    X(cuda_error, cuDevicePrimaryCtxRelease_v2, (cuda_device dev)) \
    X(cuda_error, cuCtxSetCurrent, (cuda_context c)) /* of the calling thread */ \
    X(cuda_error, cuMemGetInfo_v2, (size_t * free, size_t * total)) \
    X(cuda_error, cuMemAlloc_v2, (cuda_addr * out, size_t n_bytes)) \
    X(cuda_error, cuMemFree_v2, (cuda_addr p)) \
    X(cuda_error, cuMemHostAlloc, (void **out, size_t n_bytes, unsigned flags)) \
    X(cuda_error, cuMemFreeHost, (void *p)) \
    X(cuda_error, cuMemcpyHtoDAsync_v2, (cuda_addr to, const void *from, size_t n_bytes, cuda_stream s)) \
    X(cuda_error, cuMemcpyDtoHAsync_v2, (void *to, cuda_addr from, size_t n_bytes, cuda_stream s)) \
    X(cuda_error, cuMemcpyDtoDAsync_v2, (cuda_addr to, cuda_addr from, size_t n_bytes, cuda_stream s)) \
    X(cuda_error, cuMemsetD8Async, (cuda_addr to, unsigned char byte, size_t n_bytes, cuda_stream s)) \
    X(cuda_error, cuMemcpyPeerAsync, \
      (cuda_addr to, cuda_context to_ctx, cuda_addr from, cuda_context from_ctx, size_t n_bytes, cuda_stream s)) \
    X(cuda_error, cuDeviceCanAccessPeer, (int *out, cuda_device dev, cuda_device peer)) \
    X(cuda_error, cuCtxEnablePeerAccess, (cuda_context peer, unsigned flags)) \
    X(cuda_error, cuStreamCreate, (cuda_stream * out, unsigned flags)) \
    X(cuda_error, cuStreamDestroy_v2, (cuda_stream s)) \
    X(cuda_error, cuStreamSynchronize, (cuda_stream s)) \
    X(cuda_error, cuStreamWaitEvent, (cuda_stream s, cuda_event v, unsigned flags)) \
    X(cuda_error, cuEventCreate, (cuda_event * out, unsigned flags)) \
    X(cuda_error, cuEventDestroy_v2, (cuda_event v)) \
    X(cuda_error, cuEventRecord, (cuda_event v, cuda_stream s)) \
    X(cuda_error, cuEventSynchronize, (cuda_event v)) \
    X(cuda_error, cuEventElapsedTime, (float *ms, cuda_event from, cuda_event to)) \
    X(cuda_error, cuModuleLoadDataEx, (cuda_module * out, const void *code, unsigned n, int *options, void **values)) \
    X(cuda_error, cuModuleUnload, (cuda_module m)) \
    X(cuda_error, cuModuleGetFunction, (cuda_function * out, cuda_module m, const char *name)) \
    X(cuda_error, cuLaunchKernel, \
      (cuda_function k, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, \
       unsigned block_z, unsigned shared_bytes, cuda_stream s, void **params, void **extra)) \
    X(cuda_error, cuStreamBeginCapture_v2, (cuda_stream s, int mode)) \
    X(cuda_error, cuStreamEndCapture, (cuda_stream s, cuda_graph * out)) \
    X(cuda_error, cuGraphInstantiateWithFlags, (cuda_graph_exec * out, cuda_graph g, unsigned long long flags)) \
    X(cuda_error, cuGraphDestroy, (cuda_graph g)) \
    X(cuda_error, cuGraphLaunch, (cuda_graph_exec g, cuda_stream s)) \
    X(cuda_error, cuGraphExecDestroy, (cuda_graph_exec g))

#endif
