/* AMD's HIP runtime behind driver.h. hip_api.h lists what is called; everything that can fail goes through `checked`.
 *
 * A device's arch ("gfx1100") is the one fact that HIP gives only in hipDeviceProp_t, a struct whose layout changed between
 * versions. So it is taken from the kernel driver's topology (sysfs.h), matched by PCI address. Where there is none (under
 * WSL), hipDeviceComputeCapability gives major and minor version but no stepping: the arch is then "gfx110?", and devices.c
 * settles the last digit by what code the device loads. HSA_OVERRIDE_GFX_VERSION makes the runtime load code of another arch
 * only, so then the arch is that one. */
#include "backend/gpu/driver_own.h"
#include "backend/gpu/hip_api.h"
#include "backend/gpu/sysfs.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIP_VERSION_MAJOR = 10000000, HIP_VERSION_MINOR = 100000, HIP_MAJOR_LEAST = 6 };

typedef struct {
#define X(result, name, arguments) result(*name) arguments;
    HIP_API(X)
#undef X
} hip_api;

static const gpu_symbol symbols[] = {
#define X(result, name, arguments) {#name, offsetof(hip_api, name)},
    HIP_API(X)
#undef X
};

typedef struct {
    gpu_driver base;
    hip_api api;
    gpu_library lib;
    const char *root;
    const char *(*standin_arch)(int dev);                   /* of a stand-in; else NULL */
    _Atomic uint8_t peer[GPU_MAX_DEVICES][GPU_MAX_DEVICES]; /* gpu_peer */
} hip;

static hip *hip_of(gpu_driver *d) { return (hip *)d; }
static void *pointer(gpu_addr p) { return (void *)(uintptr_t)p; }

/* --- the one place where calls are checked ------------------------------------------------------------------------------- */

static status status_of(hip_error rc) {
    switch (rc) {
    case HIP_SUCCESS: return OK;
    case HIP_OUT_OF_MEMORY: return ERR_GPU_MEMORY;
    case HIP_INSUFFICIENT_DRIVER: return ERR_GPU_DRIVER;
    case HIP_NO_DEVICE: return ERR_GPU_NONE;
    case HIP_NO_BINARY_FOR_GPU: return ERR_GPU_ARCH;
    case HIP_PEER_UNSUPPORTED: return ERR_GPU_PEER;
    default: return ERR_GPU_CALL;
    }
}

static status checked(const hip *h, hip_error rc, const char *call, uint32_t dev, err *e) {
    if (rc == HIP_SUCCESS) return OK;
    const char *name = h->api.hipGetErrorName(rc);
    return fail(e, status_of(rc), "HIP device %u: %s: %s (%d)", dev, call, name ? name : "an unknown error", rc);
}

/* Makes the device current for this thread: what follows is for it. */
static hip_error use(const hip *h, uint32_t dev) {
    return dev < h->base.n_devices ? h->api.hipSetDevice((int)dev) : HIP_INVALID_DEVICE;
}

/* --- facts --------------------------------------------------------------------------------------------------------------- */

/* "11.0.0": major, minor and stepping are decimal. */
static bool override_arch(char *out, size_t n_bytes) {
    const char *text = getenv("HSA_OVERRIDE_GFX_VERSION");
    unsigned major, minor, step;
    if (!text || sscanf(text, "%2u.%1u.%2u", &major, &minor, &step) != 3 || step > 15) return false;
    gfx_name(out, n_bytes, major, minor, step);
    return true;
}

static status find_arch(hip *h, uint32_t dev, gpu_facts *f, err *e) {
    const char *given = h->standin_arch ? h->standin_arch((int)dev) : NULL;
    if (given) {
        snprintf(f->arch, sizeof f->arch, "%s", given);
        f->arch[strcspn(f->arch, ":")] = 0; /* without features: "gfx90a:sramecc+:xnack-" */
        return OK;
    }
    if (override_arch(f->arch, sizeof f->arch) || kfd_arch(f->arch, sizeof f->arch, h->root, f->pci)) return OK;
    int major = 0, minor = 0;
    hip_error rc = h->api.hipDeviceComputeCapability(&major, &minor, (int)dev);
    snprintf(f->arch, sizeof f->arch, "gfx%d%d?", major, minor);
    return checked(h, rc, "hipDeviceComputeCapability", dev, e);
}

/* Sixteen characters of the device's serial number; zeros or "XX" where it has none: then its address must do. */
static void take_uuid(char *out, size_t n_bytes, const hip_uuid *id) {
    out[0] = 0;
    for (size_t i = 0; i < sizeof id->bytes; i++)
        if (!isalnum((unsigned char)id->bytes[i])) return;
    snprintf(out, n_bytes, "GPU-%.16s", id->bytes);
}

static hip_error attributes(const hip *h, uint32_t dev, gpu_facts *f) {
    int shared = 0, wave = 0, units = 0, clock = 0, memory_clock = 0, bits = 0, integrated = 0;
    const struct {
        int attribute, *out;
    } wanted[] = {
        {HIP_ATTR_SHARED_BYTES, &shared},
        {HIP_ATTR_WAVE, &wave},
        {HIP_ATTR_UNITS, &units},
        {HIP_ATTR_CLOCK_KHZ, &clock},
        {HIP_ATTR_MEMORY_CLOCK_KHZ, &memory_clock},
        {HIP_ATTR_MEMORY_BUS_BITS, &bits},
        {HIP_ATTR_INTEGRATED, &integrated},
    };
    hip_error rc = HIP_SUCCESS;
    for (size_t i = 0; !rc && i < sizeof wanted / sizeof *wanted; i++)
        rc = h->api.hipDeviceGetAttribute(wanted[i].out, wanted[i].attribute, (int)dev);
    f->shared_bytes = shared > 0 ? (uint32_t)shared : 0;
    f->wave = wave > 0 ? (uint32_t)wave : 0;
    f->n_units = units > 0 ? (uint32_t)units : 0;
    f->clock_mhz = clock > 0 ? (uint32_t)clock / 1000 : 0;
    f->memory_clock_mhz = memory_clock > 0 ? (uint32_t)memory_clock / 1000 : 0;
    f->memory_bus_bits = bits > 0 ? (uint32_t)bits : 0;
    f->integrated = integrated != 0;
    return rc;
}

static status facts(gpu_driver *d, uint32_t dev, gpu_facts *f, err *e) {
    hip *h = hip_of(d);
    hip_uuid id = {{0}};
    size_t n_bytes = 0;
    char pci[64] = "";
    *f = (gpu_facts){0};
    if (dev >= d->n_devices) return checked(h, HIP_INVALID_DEVICE, "facts", dev, e);
    status s = checked(h, h->api.hipDeviceGetName(f->name, (int)sizeof f->name, (int)dev), "hipDeviceGetName", dev, e);
    f->name[sizeof f->name - 1] = 0;
    if (!s) s = checked(h, h->api.hipDeviceTotalMem(&n_bytes, (int)dev), "hipDeviceTotalMem", dev, e);
    if (!s) s = checked(h, attributes(h, dev, f), "hipDeviceGetAttribute", dev, e);
    if (!s) s = checked(h, h->api.hipDeviceGetPCIBusId(pci, (int)sizeof pci, (int)dev), "hipDeviceGetPCIBusId", dev, e);
    if (s) return s;
    f->memory = n_bytes;
    (void)pci_address(f->pci, pci);
    if (h->api.hipDeviceGetUuid(&id, (int)dev) == HIP_SUCCESS) take_uuid(f->uuid, sizeof f->uuid, &id);
    return find_arch(h, dev, f, e);
}

static status memory(gpu_driver *d, uint32_t dev, uint64_t *free_bytes, uint64_t *total, err *e) {
    hip *h = hip_of(d);
    size_t left = 0, all = 0;
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipMemGetInfo(&left, &all);
    *free_bytes = left, *total = all;
    return checked(h, rc, "hipMemGetInfo", dev, e);
}

/* --- memory -------------------------------------------------------------------------------------------------------------- */

static status alloc(gpu_driver *d, uint32_t dev, size_t n_bytes, gpu_addr *out, err *e) {
    hip *h = hip_of(d);
    void *p = NULL;
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipMalloc(&p, n_bytes);
    *out = rc ? 0 : (uintptr_t)p;
    status s = checked(h, rc, "hipMalloc", dev, e);
    return s ? fail_in(e, s, "%zu bytes of device memory: ", n_bytes) : OK;
}

static void release(gpu_driver *d, uint32_t dev, gpu_addr p) {
    if (p && use(hip_of(d), dev) == HIP_SUCCESS) (void)hip_of(d)->api.hipFree(pointer(p));
}

static status host_alloc(gpu_driver *d, uint32_t dev, size_t n_bytes, void **out, err *e) {
    hip *h = hip_of(d);
    *out = NULL;
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipHostMalloc(out, n_bytes, HIP_HOST_PORTABLE);
    if (rc) *out = NULL;
    if (rc == HIP_OUT_OF_MEMORY) return fail(e, ERR_NOMEM, "%zu bytes of pinned host memory", n_bytes);
    return checked(h, rc, "hipHostMalloc", dev, e);
}

static void host_release(gpu_driver *d, uint32_t dev, void *p) {
    if (p && use(hip_of(d), dev) == HIP_SUCCESS) (void)hip_of(d)->api.hipHostFree(p);
}

static status copy_in(gpu_driver *d, uint32_t dev, gpu_addr to, const void *from, size_t n_bytes, gpu_stream s,
                      err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipMemcpyHtoDAsync(pointer(to), from, n_bytes, s);
    return checked(h, rc, "hipMemcpyHtoDAsync", dev, e);
}

static status copy_out(gpu_driver *d, uint32_t dev, void *to, gpu_addr from, size_t n_bytes, gpu_stream s, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipMemcpyDtoHAsync(to, pointer(from), n_bytes, s);
    return checked(h, rc, "hipMemcpyDtoHAsync", dev, e);
}

static status copy(gpu_driver *d, uint32_t dev, gpu_addr to, gpu_addr from, size_t n_bytes, gpu_stream s, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipMemcpyDtoDAsync(pointer(to), pointer(from), n_bytes, s);
    return checked(h, rc, "hipMemcpyDtoDAsync", dev, e);
}

static status fill(gpu_driver *d, uint32_t dev, gpu_addr to, uint8_t byte, size_t n_bytes, gpu_stream s, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipMemsetD8Async(pointer(to), byte, n_bytes, s);
    return checked(h, rc, "hipMemsetD8Async", dev, e);
}

/* Peer access is a property of the pair, and switched on in the context of the side that copies. */
static status reach_peer(hip *h, uint32_t from, uint32_t to, err *e) {
    int can = 0;
    gpu_peer known = from < GPU_MAX_DEVICES && to < GPU_MAX_DEVICES ? atomic_load(&h->peer[from][to]) : PEER_NO;
    if (known == PEER_YES) return OK;
    if (known == PEER_UNKNOWN) {
        hip_error rc = use(h, from);
        if (!rc) rc = h->api.hipDeviceCanAccessPeer(&can, (int)from, (int)to);
        if (!rc && can) rc = h->api.hipDeviceEnablePeerAccess((int)to, 0);
        if (rc == HIP_PEER_ALREADY_ENABLED) rc = HIP_SUCCESS;
        if (rc && rc != HIP_PEER_UNSUPPORTED) return checked(h, rc, "hipDeviceEnablePeerAccess", from, e);
        known = !rc && can ? PEER_YES : PEER_NO;
        atomic_store(&h->peer[from][to], (uint8_t)known);
    }
    if (known == PEER_YES) return OK;
    return fail(e, ERR_GPU_PEER, "HIP devices %u and %u cannot reach each other's memory", from, to);
}

static status copy_peer(gpu_driver *d, uint32_t to_dev, gpu_addr to, uint32_t from_dev, gpu_addr from, size_t n_bytes,
                        gpu_stream stream, err *e) {
    hip *h = hip_of(d);
    status s = reach_peer(h, from_dev, to_dev, e);
    if (s) return s;
    hip_error rc = use(h, from_dev);
    if (!rc) rc = h->api.hipMemcpyPeerAsync(pointer(to), (int)to_dev, pointer(from), (int)from_dev, n_bytes, stream);
    return checked(h, rc, "hipMemcpyPeerAsync", from_dev, e);
}

/* --- streams and events -------------------------------------------------------------------------------------------------- */

static status stream_open(gpu_driver *d, uint32_t dev, gpu_stream *out, err *e) {
    hip *h = hip_of(d);
    *out = NULL;
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipStreamCreateWithFlags(out, HIP_STREAM_NON_BLOCKING);
    return checked(h, rc, "hipStreamCreateWithFlags", dev, e);
}

static void stream_close(gpu_driver *d, uint32_t dev, gpu_stream s) {
    if (s && use(hip_of(d), dev) == HIP_SUCCESS) (void)hip_of(d)->api.hipStreamDestroy(s);
}

static status stream_wait(gpu_driver *d, uint32_t dev, gpu_stream s, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipStreamSynchronize(s);
    return checked(h, rc, "hipStreamSynchronize", dev, e);
}

static status event_open(gpu_driver *d, uint32_t dev, gpu_event *out, err *e) {
    hip *h = hip_of(d);
    *out = NULL;
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipEventCreateWithFlags(out, 0);
    return checked(h, rc, "hipEventCreateWithFlags", dev, e);
}

static void event_close(gpu_driver *d, uint32_t dev, gpu_event v) {
    if (v && use(hip_of(d), dev) == HIP_SUCCESS) (void)hip_of(d)->api.hipEventDestroy(v);
}

static status event_record(gpu_driver *d, uint32_t dev, gpu_event v, gpu_stream s, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipEventRecord(v, s);
    return checked(h, rc, "hipEventRecord", dev, e);
}

static status event_wait(gpu_driver *d, uint32_t dev, gpu_event v, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipEventSynchronize(v);
    return checked(h, rc, "hipEventSynchronize", dev, e);
}

static status stream_wait_event(gpu_driver *d, uint32_t dev, gpu_stream s, gpu_event v, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipStreamWaitEvent(s, v, 0);
    return checked(h, rc, "hipStreamWaitEvent", dev, e);
}

static status event_ms(gpu_driver *d, uint32_t dev, gpu_event from, gpu_event to, float *ms, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipEventElapsedTime(ms, from, to);
    return checked(h, rc, "hipEventElapsedTime", dev, e);
}

/* --- code ---------------------------------------------------------------------------------------------------------------- */

static status module_load(gpu_driver *d, uint32_t dev, const void *code, size_t n_bytes, gpu_module *out, err *e) {
    (void)n_bytes; /* an ELF file says its own size */
    hip *h = hip_of(d);
    *out = NULL;
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipModuleLoadData(out, code);
    return checked(h, rc, "hipModuleLoadData", dev, e);
}

static void module_unload(gpu_driver *d, uint32_t dev, gpu_module m) {
    if (m && use(hip_of(d), dev) == HIP_SUCCESS) (void)hip_of(d)->api.hipModuleUnload(m);
}

static status kernel_find(gpu_driver *d, uint32_t dev, gpu_module m, const char *name, gpu_kernel *out, err *e) {
    hip *h = hip_of(d);
    *out = NULL;
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipModuleGetFunction(out, m, name);
    status s = checked(h, rc, "hipModuleGetFunction", dev, e);
    return s ? fail_in(e, s, "kernel %s: ", name) : OK;
}

/* A kernel's one argument is its struct, by value: params[0] points to it, and is read before the call returns. */
static status launch(gpu_driver *d, uint32_t dev, gpu_kernel k, const gpu_launch *l, gpu_stream s, err *e) {
    hip *h = hip_of(d);
    void *params[1] = {(void *)(uintptr_t)l->args};
    hip_error rc = use(h, dev);
    if (!rc)
        rc = h->api.hipModuleLaunchKernel(k, l->grid[0], l->grid[1], l->grid[2], l->block, 1, 1, l->shared_bytes, s,
                                          params, NULL);
    return checked(h, rc, "hipModuleLaunchKernel", dev, e);
}

/* --- graphs -------------------------------------------------------------------------------------------------------------- */

static status capture_begin(gpu_driver *d, uint32_t dev, gpu_stream s, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipStreamBeginCapture(s, HIP_CAPTURE_THREAD_LOCAL);
    return checked(h, rc, "hipStreamBeginCapture", dev, e);
}

static status capture_end(gpu_driver *d, uint32_t dev, gpu_stream s, gpu_graph *out, err *e) {
    hip *h = hip_of(d);
    hip_graph g = NULL;
    *out = NULL;
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipStreamEndCapture(s, &g);
    if (rc) return checked(h, rc, "hipStreamEndCapture", dev, e);
    rc = h->api.hipGraphInstantiateWithFlags(out, g, 0);
    if (rc) *out = NULL;
    (void)h->api.hipGraphDestroy(g);
    return checked(h, rc, "hipGraphInstantiateWithFlags", dev, e);
}

static status graph_launch(gpu_driver *d, uint32_t dev, gpu_graph g, gpu_stream s, err *e) {
    hip *h = hip_of(d);
    hip_error rc = use(h, dev);
    if (!rc) rc = h->api.hipGraphLaunch(g, s);
    return checked(h, rc, "hipGraphLaunch", dev, e);
}

static void graph_close(gpu_driver *d, uint32_t dev, gpu_graph g) {
    if (g && use(hip_of(d), dev) == HIP_SUCCESS) (void)hip_of(d)->api.hipGraphExecDestroy(g);
}

/* --- opening ------------------------------------------------------------------------------------------------------------- */

static void close_hip(gpu_driver *d) { mem_free(d); } /* the library stays: its threads do not survive unloading */

static const gpu_driver table = {
    .platform = GPU_PLATFORM_HIP,
    .facts = facts,
    .memory = memory,
    .alloc = alloc,
    .release = release,
    .host_alloc = host_alloc,
    .host_release = host_release,
    .copy_in = copy_in,
    .copy_out = copy_out,
    .copy = copy,
    .fill = fill,
    .copy_peer = copy_peer,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .stream_wait = stream_wait,
    .event_open = event_open,
    .event_close = event_close,
    .event_record = event_record,
    .event_wait = event_wait,
    .stream_wait_event = stream_wait_event,
    .event_ms = event_ms,
    .module_load = module_load,
    .module_unload = module_unload,
    .kernel_find = kernel_find,
    .launch = launch,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_close = graph_close,
    .close = close_hip,
};

/* Loads the library and fills the table; its functions are not called yet, but for its version. */
static status load(hip *h, err *e) {
    static const char *const names[] = {"libamdhip64.so.7",
                                        "libamdhip64.so.6",
                                        "libamdhip64.so",
                                        "/opt/rocm/lib/libamdhip64.so.7",
                                        "/opt/rocm/lib/libamdhip64.so.6",
                                        "/opt/rocm/lib/libamdhip64.so",
                                        NULL};
    status s = gpu_library_open(&h->lib, "ROCMFORGE_HIP_LIBRARY", names, e);
    if (s == ERR_GPU_NO_DRIVER && !getenv("ROCMFORGE_HIP_LIBRARY"))
        return fail(e, s, "no HIP runtime (libamdhip64, for AMD GPUs) on this system; install ROCm %d or newer",
                    HIP_MAJOR_LEAST);
    if (s) return s;
    const char *missing = gpu_library_bind(&h->lib, &h->api, symbols, sizeof symbols / sizeof *symbols);
    const gpu_symbol standin = {HIP_STANDIN_ARCH, 0};
    (void)gpu_library_bind(&h->lib, &h->standin_arch, &standin, 1);
    int v = 0;
    bool known = h->api.hipRuntimeGetVersion && h->api.hipRuntimeGetVersion(&v) == HIP_SUCCESS;
    snprintf(h->base.version, sizeof h->base.version, known ? "HIP runtime %d.%d (%d)" : "HIP runtime",
             v / HIP_VERSION_MAJOR, v % HIP_VERSION_MAJOR / HIP_VERSION_MINOR, v);
    if (missing)
        s = fail(e, ERR_GPU_DRIVER, "%s (%s) lacks %s, so it is too old; install ROCm %d or newer", h->lib.name,
                 h->base.version, missing, HIP_MAJOR_LEAST);
    else if (known && v / HIP_VERSION_MAJOR < HIP_MAJOR_LEAST)
        s = fail(e, ERR_GPU_DRIVER, "%s is %s, which is too old; install ROCm %d or newer", h->lib.name,
                 h->base.version, HIP_MAJOR_LEAST);
    if (s) gpu_library_close(&h->lib);
    return s;
}

/* The runtime says "no device" for whatever keeps it from one; the device nodes tell which it was. */
static status explain(hip *h, hip_error rc, const char *call, err *e) {
    bool exists;
    status s = amd_nodes_check(h->root, &exists, e);
    if (s) return s;
    if (rc && rc != HIP_NO_DEVICE) {
        const char *name = h->api.hipGetErrorName(rc);
        return fail(e, rc == HIP_OUT_OF_MEMORY ? ERR_GPU_MEMORY : ERR_GPU_DRIVER,
                    "%s fails in %s: %s (%d); the kernel's log (dmesg) tells more", h->base.version, call,
                    name ? name : "an unknown error", rc);
    }
    return fail(e, ERR_GPU_NONE, "%s finds no AMD GPU%s", h->base.version,
                exists ? ""
                       : ", and there is no /dev/kfd; load the amdgpu driver, or start the container with --device "
                         "/dev/kfd --device /dev/dri");
}

status gpu_driver_open_hip_at(gpu_driver **out, const char *root, err *e) {
    *out = NULL;
    hip *h = mem_zalloc(sizeof *h);
    if (!h) return fail(e, ERR_NOMEM, "the table of the HIP runtime");
    h->base = table;
    h->root = root;
    status s = load(h, e);
    int n = 0;
    if (!s) {
        hip_error rc = h->api.hipInit(0);
        if (rc)
            s = explain(h, rc, "hipInit", e);
        else if ((rc = h->api.hipGetDeviceCount(&n)) || n <= 0)
            s = explain(h, rc, "hipGetDeviceCount", e);
    }
    if (s) {
        mem_free(h);
        return s;
    }
    h->base.n_devices = n < GPU_MAX_DEVICES ? (uint32_t)n : GPU_MAX_DEVICES;
    *out = &h->base;
    return OK;
}

status gpu_driver_open_hip(gpu_driver **out, err *e) { return gpu_driver_open_hip_at(out, "", e); }
