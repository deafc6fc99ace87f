/* The devices that are played, the lock, the counters and their report. */
#include "standin_own.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

device devices[MAX_DEVICES];
int n_devices;
standin_counts counts;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local int current;
static char reason[1024];
static FILE *log_file;

/* Round numbers of known cards; an arch that is not here is played as the first of its family. */
static const device known[] = {
    {.arch = "gfx906",
     .name = "AMD Radeon VII",
     .units = 60,
     .clock_khz = 1801000,
     .memory_khz = 1000000,
     .bus_bits = 4096},
    {.arch = "gfx908",
     .name = "AMD Instinct MI100",
     .units = 120,
     .clock_khz = 1502000,
     .memory_khz = 1200000,
     .bus_bits = 4096},
    {.arch = "gfx90a",
     .name = "AMD Instinct MI210",
     .units = 104,
     .clock_khz = 1700000,
     .memory_khz = 1600000,
     .bus_bits = 4096},
    {.arch = "gfx942",
     .name = "AMD Instinct MI300X",
     .units = 304,
     .clock_khz = 2100000,
     .memory_khz = 1300000,
     .bus_bits = 8192},
    {.arch = "gfx950",
     .name = "AMD Instinct MI350X",
     .units = 256,
     .clock_khz = 2200000,
     .memory_khz = 2000000,
     .bus_bits = 8192},
    {.arch = "gfx1030",
     .name = "AMD Radeon RX 6800 XT",
     .units = 36,
     .clock_khz = 2250000,
     .memory_khz = 1000000,
     .bus_bits = 256},
    {.arch = "gfx1100",
     .name = "AMD Radeon RX 7900 XTX",
     .units = 48,
     .clock_khz = 2482000,
     .memory_khz = 1249000,
     .bus_bits = 384},
    {.arch = "gfx1150",
     .name = "AMD Radeon 890M",
     .units = 8,
     .clock_khz = 2900000,
     .memory_khz = 2800000,
     .bus_bits = 128},
    {.arch = "gfx1151",
     .name = "AMD Radeon 8060S",
     .units = 20,
     .clock_khz = 2900000,
     .memory_khz = 2000000,
     .bus_bits = 256},
    {.arch = "gfx1200",
     .name = "AMD Radeon RX 9060 XT",
     .units = 16,
     .clock_khz = 3130000,
     .memory_khz = 1259000,
     .bus_bits = 128},
    {.arch = "gfx1201",
     .name = "AMD Radeon RX 9070 XT",
     .units = 32,
     .clock_khz = 2970000,
     .memory_khz = 1258000,
     .bus_bits = 256},
};

static void give_up(const char *what, const char *text) {
    fprintf(stderr, "standin: %s '%s'\n", what, text);
    exit(2);
}

static device like(const char *arch) {
    const size_t n = sizeof known / sizeof *known;
    for (size_t most = strlen(arch); most > 3; most--)
        for (size_t i = 0; i < n; i++)
            if (!strncmp(known[i].arch, arch, most)) return known[i];
    return known[0];
}

static uint64_t size_of(const char *text) {
    char *end;
    const double n = strtod(text, &end);
    const int shift = !strcmp(end, "GiB") ? 30 : !strcmp(end, "MiB") ? 20 : !strcmp(end, "KiB") ? 10 : *end ? -1 : 0;
    if (end == text || shift < 0 || n < 0) give_up("a memory size is wanted, not", text);
    return (uint64_t)(n * (double)(1ull << shift));
}

/* "gfx1151:16GiB:integrated" */
static void add_device(char *text) {
    char *rest = NULL, *arch = strtok_r(text, ":", &rest);
    if (!arch || strncmp(arch, "gfx", 3) || n_devices == MAX_DEVICES)
        give_up("ROCMFORGE_STANDIN has a bad device", text);
    device *d = &devices[n_devices++];
    *d = like(arch);
    snprintf(d->arch, sizeof d->arch, "%s", arch);
    d->wave = !strncmp(arch, "gfx9", 4) ? 64 : 32;
    d->total = (uint64_t)24 << 30;
    for (char *w; (w = strtok_r(NULL, ":", &rest));) {
        if (!strcmp(w, "integrated"))
            d->integrated = true;
        else if (!strcmp(w, "nopeer"))
            d->no_peer = true;
        else
            d->total = size_of(w);
    }
}

static void report(void) {
    const char *path = getenv("ROCMFORGE_STANDIN_REPORT");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f) return;
    const char *comma = "{";
#define X(name) fprintf(f, "%s\"" #name "\": %llu", comma, (unsigned long long)counts.name), comma = ", ";
    STANDIN_COUNTERS(X)
#undef X
    fputs("}\n", f);
    fclose(f);
}

static void set_up(void) {
    const char *text = getenv("ROCMFORGE_STANDIN"), *log_path = getenv("ROCMFORGE_STANDIN_LOG");
    char own[512], *rest = NULL;
    snprintf(own, sizeof own, "%s", text ? text : "gfx1100:24GiB");
    for (char *d = strtok_r(own, ",", &rest); d; d = strtok_r(NULL, ",", &rest)) add_device(d);
    if (log_path) log_file = fopen(log_path, "a");
    faults_read();
    atexit(report);
}

void standin_lock(void) {
    pthread_once(&once, set_up);
    pthread_mutex_lock(&lock);
}
void standin_unlock(void) { pthread_mutex_unlock(&lock); }
int current_device(void) { return current; }

void log_line(const char *fmt, ...) {
    if (!log_file) return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(log_file, fmt, ap);
    va_end(ap);
    fputc('\n', log_file);
    fflush(log_file);
}

hip_error break_device(int dev, hip_error rc, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    fprintf(stderr, "standin: device %d: %s\n", dev, reason);
    if (dev >= 0 && dev < n_devices && !devices[dev].broken) devices[dev].broken = rc;
    return rc;
}

SIMT_API const char *standin_reason(void) { return reason; }
SIMT_API const char *standin_arch(int dev) {
    standin_lock();
    standin_unlock();
    return dev >= 0 && dev < n_devices ? devices[dev].arch : NULL;
}
SIMT_API void standin_counters(standin_counts *out) {
    standin_lock();
    *out = counts;
    standin_unlock();
}

/* -- HIP -- */

const char *hipGetErrorName(hip_error rc) {
    static const struct {
        hip_error rc;
        const char *name;
    } names[] = {
        {HIP_SUCCESS, "hipSuccess"},
        {HIP_INVALID_VALUE, "hipErrorInvalidValue"},
        {HIP_OUT_OF_MEMORY, "hipErrorOutOfMemory"},
        {HIP_NOT_INITIALIZED, "hipErrorNotInitialized"},
        {HIP_INVALID_CONFIGURATION, "hipErrorInvalidConfiguration"},
        {HIP_INSUFFICIENT_DRIVER, "hipErrorInsufficientDriver"},
        {HIP_NO_DEVICE, "hipErrorNoDevice"},
        {HIP_INVALID_DEVICE, "hipErrorInvalidDevice"},
        {HIP_INVALID_IMAGE, "hipErrorInvalidImage"},
        {HIP_NO_BINARY_FOR_GPU, "hipErrorNoBinaryForGpu"},
        {HIP_PEER_UNSUPPORTED, "hipErrorPeerAccessUnsupported"},
        {HIP_INVALID_HANDLE, "hipErrorInvalidHandle"},
        {HIP_NOT_FOUND, "hipErrorNotFound"},
        {HIP_ILLEGAL_ADDRESS, "hipErrorIllegalAddress"},
        {HIP_PEER_ALREADY_ENABLED, "hipErrorPeerAccessAlreadyEnabled"},
        {HIP_LAUNCH_FAILURE, "hipErrorLaunchFailure"},
        {HIP_NOT_SUPPORTED, "hipErrorNotSupported"},
        {HIP_CAPTURE_UNSUPPORTED, "hipErrorStreamCaptureUnsupported"},
        {HIP_CAPTURE_INVALIDATED, "hipErrorStreamCaptureInvalidated"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].rc == rc) return names[i].name;
    return "hipErrorUnknown";
}

hip_error hipInit(unsigned flags) {
    standin_lock();
    const hip_error rc = fault_of_call("hipInit");
    standin_unlock();
    return rc ? rc : flags ? HIP_INVALID_VALUE : HIP_SUCCESS;
}

hip_error hipRuntimeGetVersion(int *out) {
    const char *text = getenv("ROCMFORGE_STANDIN_VERSION");
    standin_lock();
    const hip_error rc = fault_of_call("hipRuntimeGetVersion");
    standin_unlock();
    *out = text ? atoi(text) : 60443484;
    return rc;
}

hip_error hipGetDeviceCount(int *out) {
    standin_lock();
    const hip_error rc = fault_of_call("hipGetDeviceCount");
    *out = rc ? 0 : n_devices;
    standin_unlock();
    return rc ? rc : *out ? HIP_SUCCESS : HIP_NO_DEVICE;
}

hip_error hipSetDevice(int dev) {
    standin_lock();
    hip_error rc = fault_of_call("hipSetDevice");
    if (!rc && (dev < 0 || dev >= n_devices)) rc = HIP_INVALID_DEVICE;
    if (!rc) current = dev;
    standin_unlock();
    return rc;
}

/* Of the calls that ask for a fact: the device, or NULL with *rc set. */
static const device *asked(const char *name, int dev, hip_error *rc) {
    standin_lock();
    *rc = fault_of_call(name);
    if (!*rc && (dev < 0 || dev >= n_devices)) *rc = HIP_INVALID_DEVICE;
    standin_unlock();
    return *rc ? NULL : &devices[dev];
}

hip_error hipDeviceGetAttribute(int *out, int attribute, int dev) {
    hip_error rc;
    const device *d = asked("hipDeviceGetAttribute", dev, &rc);
    if (!d) return rc;
    switch (attribute) {
    case HIP_ATTR_CLOCK_KHZ: *out = d->clock_khz; break;
    case HIP_ATTR_INTEGRATED: *out = d->integrated; break;
    case HIP_ATTR_MEMORY_BUS_BITS: *out = d->bus_bits; break;
    case HIP_ATTR_MEMORY_CLOCK_KHZ: *out = d->memory_khz; break;
    case HIP_ATTR_UNITS: *out = d->units; break;
    case HIP_ATTR_SHARED_BYTES: *out = 65536; break;
    case HIP_ATTR_WAVE: *out = d->wave; break;
    default: return HIP_INVALID_VALUE;
    }
    return HIP_SUCCESS;
}

hip_error hipDeviceGetName(char *out, int n_bytes, int dev) {
    hip_error rc;
    const device *d = asked("hipDeviceGetName", dev, &rc);
    if (d) snprintf(out, (size_t)n_bytes, "%s", d->name);
    return rc;
}

hip_error hipDeviceTotalMem(size_t *out, int dev) {
    hip_error rc;
    const device *d = asked("hipDeviceTotalMem", dev, &rc);
    if (d) *out = d->total;
    return rc;
}

hip_error hipDeviceGetPCIBusId(char *out, int n_bytes, int dev) {
    hip_error rc;
    if (asked("hipDeviceGetPCIBusId", dev, &rc)) snprintf(out, (size_t)n_bytes, "0000:%02x:00.0", dev + 3);
    return rc;
}

hip_error hipDeviceGetUuid(hip_uuid *out, int dev) {
    hip_error rc;
    char text[24];
    if (!asked("hipDeviceGetUuid", dev, &rc)) return rc;
    snprintf(text, sizeof text, "57a4d140000000%02x", dev & 255);
    memcpy(out->bytes, text, sizeof out->bytes);
    return rc;
}

hip_error hipDeviceComputeCapability(int *major, int *minor, int dev) {
    hip_error rc;
    const device *d = asked("hipDeviceComputeCapability", dev, &rc);
    if (!d) return rc;
    const unsigned long version = strtoul(d->arch + 3, NULL, 16); /* major, minor digit, stepping digit */
    *major = (int)(version >> 8 >= 0x10 ? 10 + ((version >> 8) & 15) : version >> 8);
    *minor = (int)((version >> 4) & 15);
    return rc;
}

hip_error hipDeviceCanAccessPeer(int *out, int dev, int peer) {
    hip_error rc, peer_rc;
    const device *d = asked("hipDeviceCanAccessPeer", dev, &rc), *p = asked("hipDeviceCanAccessPeer", peer, &peer_rc);
    if (!d || !p) return rc ? rc : peer_rc;
    *out = d != p && !d->no_peer && !p->no_peer;
    return HIP_SUCCESS;
}

hip_error hipDeviceEnablePeerAccess(int peer, unsigned flags) {
    static bool enabled[MAX_DEVICES][MAX_DEVICES];
    int can = 0;
    hip_error rc = flags ? HIP_INVALID_VALUE : fault_of_call("hipDeviceEnablePeerAccess");
    if (!rc) rc = hipDeviceCanAccessPeer(&can, current, peer);
    if (rc) return rc;
    if (!can) return HIP_PEER_UNSUPPORTED;
    standin_lock();
    rc = enabled[current][peer] ? HIP_PEER_ALREADY_ENABLED : HIP_SUCCESS;
    enabled[current][peer] = true;
    standin_unlock();
    return rc;
}
