#include "fake_gpu.h"

#include "backend/gpu/hip_api.h"

#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT fake_gpu fake;

static int called(const char *name) {
    fake.last = name;
    return fake.failing && strcmp(fake.failing, name) == 0 ? fake.code : 0;
}

static int about(const char *name, int dev) { return dev < 0 || dev >= fake.n ? HIP_INVALID_DEVICE : called(name); }

EXPORT const char *hipGetErrorName(hip_error rc) {
    static char name[40];
    if (rc == HIP_OUT_OF_MEMORY) return "hipErrorOutOfMemory";
    snprintf(name, sizeof name, "hipError%d", rc);
    return name;
}
EXPORT hip_error hipInit(unsigned flags) { return (void)flags, called("hipInit"); }
EXPORT hip_error hipRuntimeGetVersion(int *out) { return *out = fake.version, called("hipRuntimeGetVersion"); }
EXPORT hip_error hipGetDeviceCount(int *out) { return *out = fake.n, called("hipGetDeviceCount"); }
EXPORT hip_error hipSetDevice(int dev) { return fake.current = dev, about("hipSetDevice", dev); }

EXPORT hip_error hipDeviceGetAttribute(int *out, int attribute, int dev) {
    int rc = about("hipDeviceGetAttribute", dev);
    if (rc) return rc;
    const fake_device *d = &fake.device[dev];
    switch (attribute) {
    case HIP_ATTR_CLOCK_KHZ: *out = 2500000; return 0;
    case HIP_ATTR_INTEGRATED: *out = d->integrated; return 0;
    case HIP_ATTR_MEMORY_BUS_BITS: *out = 384; return 0;
    case HIP_ATTR_MEMORY_CLOCK_KHZ: *out = 1249000; return 0;
    case HIP_ATTR_UNITS: *out = d->units; return 0;
    case HIP_ATTR_SHARED_BYTES: *out = 65536; return 0;
    case HIP_ATTR_WAVE: *out = d->wave; return 0;
    default: return HIP_INVALID_VALUE;
    }
}
EXPORT hip_error hipDeviceGetName(char *out, int n_bytes, int dev) {
    int rc = about("hipDeviceGetName", dev);
    if (!rc) snprintf(out, (size_t)n_bytes, "%s", fake.device[dev].name);
    return rc;
}
EXPORT hip_error hipDeviceTotalMem(size_t *out, int dev) {
    int rc = about("hipDeviceTotalMem", dev);
    if (!rc) *out = fake.device[dev].mib << 20;
    return rc;
}
EXPORT hip_error hipDeviceGetPCIBusId(char *out, int n_bytes, int dev) {
    int rc = about("hipDeviceGetPCIBusId", dev);
    if (!rc) snprintf(out, (size_t)n_bytes, "%s", fake.device[dev].pci);
    return rc;
}
EXPORT hip_error hipDeviceGetUuid(hip_uuid *out, int dev) {
    int rc = about("hipDeviceGetUuid", dev);
    if (rc) return rc;
    memset(out, 0, sizeof *out);
    if (fake.device[dev].uuid) memcpy(out->bytes, fake.device[dev].uuid, strnlen(fake.device[dev].uuid, 16));
    return 0;
}
EXPORT hip_error hipDeviceComputeCapability(int *major, int *minor, int dev) {
    int rc = about("hipDeviceComputeCapability", dev);
    if (!rc) *major = fake.device[dev].major, *minor = fake.device[dev].minor;
    return rc;
}
EXPORT hip_error hipMemGetInfo(size_t *free, size_t *total) {
    *total = fake.device[fake.current].mib << 20;
    *free = *total / 2;
    return called("hipMemGetInfo");
}
EXPORT hip_error hipModuleLoadData(hip_module *out, const void *code) {
    *out = (void *)16;
    if (fake.loads && strcmp(fake.loads, code) != 0) return HIP_NO_BINARY_FOR_GPU;
    return called("hipModuleLoadData");
}
EXPORT hip_error hipDeviceCanAccessPeer(int *out, int dev, int peer) {
    (void)dev, (void)peer;
    return *out = fake.can_peer, called("hipDeviceCanAccessPeer");
}
