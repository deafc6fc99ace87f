#include "fake_gpu.h"

#include "backend/gpu/cuda_api.h"

#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT fake_gpu fake;

static int called(const char *name) {
    fake.last = name;
    return fake.failing && strcmp(fake.failing, name) == 0 ? fake.code : 0;
}

static int about(const char *name, int dev) { return dev < 0 || dev >= fake.n ? CUDA_INVALID_DEVICE : called(name); }

EXPORT cuda_error cuGetErrorName(cuda_error rc, const char **out) {
    static char name[40];
    snprintf(name, sizeof name, "CUDA_ERROR_%d", rc);
    *out = rc == CUDA_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : name;
    return 0;
}
EXPORT cuda_error cuInit(unsigned flags) { return (void)flags, called("cuInit"); }
EXPORT cuda_error cuDriverGetVersion(int *out) { return *out = fake.version, called("cuDriverGetVersion"); }
EXPORT cuda_error cuDeviceGetCount(int *out) { return *out = fake.n, called("cuDeviceGetCount"); }
EXPORT cuda_error cuDeviceGet(cuda_device *out, int i) { return *out = i, about("cuDeviceGet", i); }

EXPORT cuda_error cuDeviceGetAttribute(int *out, int attribute, cuda_device dev) {
    int rc = about("cuDeviceGetAttribute", dev);
    if (rc) return rc;
    const fake_device *d = &fake.device[dev];
    switch (attribute) {
    case CUDA_ATTR_CLOCK_KHZ: *out = 1980000; return 0;
    case CUDA_ATTR_INTEGRATED: *out = d->integrated; return 0;
    case CUDA_ATTR_MEMORY_BUS_BITS: *out = 6016; return 0;
    case CUDA_ATTR_MEMORY_CLOCK_KHZ: *out = 3201000; return 0;
    case CUDA_ATTR_UNITS: *out = d->units; return 0;
    case CUDA_ATTR_SHARED_BYTES: *out = 49152; return 0;
    case CUDA_ATTR_WAVE: *out = d->wave; return 0;
    case CUDA_ATTR_CAPABILITY_MAJOR: *out = d->major; return 0;
    case CUDA_ATTR_CAPABILITY_MINOR: *out = d->minor; return 0;
    default: return 1;
    }
}
EXPORT cuda_error cuDeviceGetName(char *out, int n_bytes, cuda_device dev) {
    int rc = about("cuDeviceGetName", dev);
    if (!rc) snprintf(out, (size_t)n_bytes, "%s", fake.device[dev].name);
    return rc;
}
EXPORT cuda_error cuDeviceTotalMem_v2(size_t *out, cuda_device dev) {
    int rc = about("cuDeviceTotalMem_v2", dev);
    if (!rc) *out = fake.device[dev].mib << 20;
    return rc;
}
EXPORT cuda_error cuDeviceGetPCIBusId(char *out, int n_bytes, cuda_device dev) {
    int rc = about("cuDeviceGetPCIBusId", dev);
    if (!rc) snprintf(out, (size_t)n_bytes, "%s", fake.device[dev].pci);
    return rc;
}
EXPORT cuda_error cuDeviceGetUuid_v2(cuda_uuid *out, cuda_device dev) {
    for (size_t i = 0; i < sizeof out->bytes; i++) out->bytes[i] = (unsigned char)(i * 17 + (size_t)dev);
    return about("cuDeviceGetUuid_v2", dev);
}
EXPORT cuda_error cuDevicePrimaryCtxRetain(cuda_context *out, cuda_device dev) {
    *out = (void *)(uintptr_t)(dev + 1);
    int rc = about("cuDevicePrimaryCtxRetain", dev);
    if (!rc) fake.n_contexts++;
    return rc;
}
EXPORT cuda_error cuDevicePrimaryCtxRelease_v2(cuda_device dev) {
    fake.n_contexts--;
    return about("cuDevicePrimaryCtxRelease_v2", dev);
}
EXPORT cuda_error cuCtxSetCurrent(cuda_context c) {
    fake.current = (int)(uintptr_t)c - 1;
    return called("cuCtxSetCurrent");
}
EXPORT cuda_error cuMemGetInfo_v2(size_t *free, size_t *total) {
    if (fake.current < 0) return 201; /* no context */
    *total = fake.device[fake.current].mib << 20;
    *free = *total / 2;
    return called("cuMemGetInfo_v2");
}
EXPORT cuda_error cuModuleLoadDataEx(cuda_module *out, const void *code, unsigned n, int *options, void **values) {
    *out = (void *)16;
    int rc = called("cuModuleLoadDataEx");
    for (unsigned i = 0; rc && i < n; i++)
        if (options[i] == CUDA_JIT_ERROR_LOG) snprintf(values[i], 40, "ptxas: %.20s\nmore", (const char *)code);
    return rc;
}
EXPORT cuda_error cuDeviceCanAccessPeer(int *out, cuda_device dev, cuda_device peer) {
    (void)dev, (void)peer;
    return *out = fake.can_peer, called("cuDeviceCanAccessPeer");
}
