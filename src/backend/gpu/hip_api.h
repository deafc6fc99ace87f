/* The part of the HIP runtime that this project calls: 42 functions, all in every libamdhip64 since ROCm 6, with the numbers
 * of its stable ABI. Names, argument orders and values are facts of the public header hip/hip_runtime_api.h; hipDeviceProp_t,
 * whose layout changed between versions, is not among them. The stand-in of the tests is built from the same list. */
#ifndef ROCMFORGE_BACKEND_GPU_HIP_API_H
#define ROCMFORGE_BACKEND_GPU_HIP_API_H

#include <stddef.h>

typedef int hip_error;
typedef void *hip_stream, *hip_event, *hip_module, *hip_function, *hip_graph, *hip_graph_exec;

typedef struct {
    char bytes[16]; /* of AMD devices sixteen characters, "0123456789abcdef" */
} hip_uuid;

enum { /* hipError_t: those that mean something to us */
       HIP_SUCCESS = 0,
       HIP_INVALID_VALUE = 1,
       HIP_OUT_OF_MEMORY = 2,
       HIP_NOT_INITIALIZED = 3,
       HIP_INSUFFICIENT_DRIVER = 35,
       HIP_NO_DEVICE = 100,
       HIP_INVALID_DEVICE = 101,
       HIP_INVALID_IMAGE = 200,
       HIP_NO_BINARY_FOR_GPU = 209,
       HIP_PEER_UNSUPPORTED = 217,
       HIP_INVALID_HANDLE = 400,
       HIP_NOT_FOUND = 500,
       HIP_ILLEGAL_ADDRESS = 700,
       HIP_PEER_ALREADY_ENABLED = 704,
       HIP_LAUNCH_FAILURE = 719,
       HIP_NOT_SUPPORTED = 801,
       HIP_CAPTURE_UNSUPPORTED = 900,
       HIP_CAPTURE_INVALIDATED = 901,
       HIP_UNKNOWN = 999
};

enum { /* hipDeviceAttribute_t */
       HIP_ATTR_CLOCK_KHZ = 5,
       HIP_ATTR_INTEGRATED = 16,
       HIP_ATTR_MEMORY_BUS_BITS = 59,
       HIP_ATTR_MEMORY_CLOCK_KHZ = 60,
       HIP_ATTR_UNITS = 63,
       HIP_ATTR_SHARED_BYTES = 74, /* of a block */
       HIP_ATTR_WAVE = 87
};

enum { HIP_STREAM_NON_BLOCKING = 1, HIP_HOST_PORTABLE = 1, HIP_CAPTURE_THREAD_LOCAL = 1 };

/* X(result, name, arguments) */
#define HIP_API(X) \
    X(const char *, hipGetErrorName, (hip_error rc)) \
    X(hip_error, hipInit, (unsigned flags)) \
    X(hip_error, hipRuntimeGetVersion, (int *out)) /* major * 10^7 + minor * 10^5 + patch */ \
    X(hip_error, hipGetDeviceCount, (int *out)) \
    X(hip_error, hipSetDevice, (int dev)) /* of the calling thread */ \
    X(hip_error, hipDeviceGetAttribute, (int *out, int attribute, int dev)) \
    X(hip_error, hipDeviceGetName, (char *out, int n_bytes, int dev)) \
    X(hip_error, hipDeviceTotalMem, (size_t * out, int dev)) \
    X(hip_error, hipDeviceGetPCIBusId, (char *out, int n_bytes, int dev)) \
    X(hip_error, hipDeviceGetUuid, (hip_uuid * out, int dev)) \
    X(hip_error, hipDeviceComputeCapability, (int *major, int *minor, int dev)) \
    X(hip_error, hipMemGetInfo, (size_t * free, size_t * total)) \
    X(hip_error, hipMalloc, (void **out, size_t n_bytes)) \
    X(hip_error, hipFree, (void *p)) \
    X(hip_error, hipHostMalloc, (void **out, size_t n_bytes, unsigned flags)) \
    X(hip_error, hipHostFree, (void *p)) \
    X(hip_error, hipMemcpyHtoDAsync, (void *to, const void *from, size_t n_bytes, hip_stream s)) \
    X(hip_error, hipMemcpyDtoHAsync, (void *to, void *from, size_t n_bytes, hip_stream s)) \
    X(hip_error, hipMemcpyDtoDAsync, (void *to, void *from, size_t n_bytes, hip_stream s)) \
    X(hip_error, hipMemsetD8Async, (void *to, unsigned char byte, size_t n_bytes, hip_stream s)) \
    X(hip_error, hipMemcpyPeerAsync, \
      (void *to, int to_dev, const void *from, int from_dev, size_t n_bytes, hip_stream s)) \
    X(hip_error, hipDeviceCanAccessPeer, (int *out, int dev, int peer)) \
    X(hip_error, hipDeviceEnablePeerAccess, (int peer, unsigned flags)) \
    X(hip_error, hipStreamCreateWithFlags, (hip_stream * out, unsigned flags)) \
    X(hip_error, hipStreamDestroy, (hip_stream s)) \
    X(hip_error, hipStreamSynchronize, (hip_stream s)) \
    X(hip_error, hipStreamWaitEvent, (hip_stream s, hip_event v, unsigned flags)) \
    X(hip_error, hipEventCreateWithFlags, (hip_event * out, unsigned flags)) \
    X(hip_error, hipEventDestroy, (hip_event v)) \
    X(hip_error, hipEventRecord, (hip_event v, hip_stream s)) \
    X(hip_error, hipEventSynchronize, (hip_event v)) \
    X(hip_error, hipEventElapsedTime, (float *ms, hip_event from, hip_event to)) \
    X(hip_error, hipModuleLoadData, (hip_module * out, const void *code)) \
    X(hip_error, hipModuleUnload, (hip_module m)) \
    X(hip_error, hipModuleGetFunction, (hip_function * out, hip_module m, const char *name)) \
    X(hip_error, hipModuleLaunchKernel, \
      (hip_function k, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, \
       unsigned block_z, unsigned shared_bytes, hip_stream s, void **params, void **extra)) \
    X(hip_error, hipStreamBeginCapture, (hip_stream s, int mode)) \
    X(hip_error, hipStreamEndCapture, (hip_stream s, hip_graph * out)) \
    X(hip_error, hipGraphInstantiateWithFlags, (hip_graph_exec * out, hip_graph g, unsigned long long flags)) \
    X(hip_error, hipGraphDestroy, (hip_graph g)) \
    X(hip_error, hipGraphLaunch, (hip_graph_exec g, hip_stream s)) \
    X(hip_error, hipGraphExecDestroy, (hip_graph_exec g))

/* A library that is not AMD's, the stand-in, may say what its devices are: "gfx1100". Absent from the real ones, whose arch is
 * found otherwise (driver_hip.c). */
#define HIP_STANDIN_ARCH "standin_arch" /* const char *standin_arch(int dev) */

#endif
