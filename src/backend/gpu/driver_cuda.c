/* NVIDIA's driver behind driver.h, HIP's second platform: the kernels come as PTX, which the driver compiles for its device.
 * cuda_api.h lists what is called; everything that can fail goes through `checked`.
 *
 * Each device has one primary context, taken when something is first asked of the device (it costs some hundred MiB of device
 * memory, so devices that are only listed get none) and given back by close. */
#include "backend/gpu/cuda_api.h"
#include "backend/gpu/driver_own.h"
#include "backend/gpu/sysfs.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CUDA_MAJOR_LEAST = 12, JIT_LOG_BYTES = 1024 };

typedef struct {
#define X(result, name, arguments) result(*name) arguments;
    CUDA_API(X)
#undef X
} cuda_api;

static const gpu_symbol symbols[] = {
#define X(result, name, arguments) {#name, offsetof(cuda_api, name)},
    CUDA_API(X)
#undef X
};

typedef struct {
    gpu_driver base;
    cuda_api api;
    gpu_library lib;
    const char *root;
    cuda_device handle[GPU_MAX_DEVICES];
    pthread_mutex_t retaining;                              /* guards taking a context */
    cuda_context _Atomic ctx[GPU_MAX_DEVICES];              /* NULL: not taken yet */
    _Atomic uint8_t peer[GPU_MAX_DEVICES][GPU_MAX_DEVICES]; /* gpu_peer */
} cuda;

static cuda *cuda_of(gpu_driver *d) { return (cuda *)d; }

/* --- the one place where calls are checked ------------------------------------------------------------------------------- */

static status status_of(cuda_error rc) {
    switch (rc) {
    case CUDA_OK: return OK;
    case CUDA_OUT_OF_MEMORY: return ERR_GPU_MEMORY;
    case CUDA_STUB_LIBRARY:
    case CUDA_JIT_COMPILER_NOT_FOUND:
    case CUDA_UNSUPPORTED_PTX_VERSION:
    case CUDA_SYSTEM_DRIVER_MISMATCH: return ERR_GPU_DRIVER;
    case CUDA_NO_DEVICE: return ERR_GPU_NONE;
    case CUDA_NO_BINARY_FOR_GPU: return ERR_GPU_ARCH;
    case CUDA_PEER_UNSUPPORTED: return ERR_GPU_PEER;
    default: return ERR_GPU_CALL;
    }
}

static const char *error_name(const cuda *c, cuda_error rc) {
    const char *name = NULL;
    return c->api.cuGetErrorName(rc, &name) == CUDA_OK && name ? name : "an unknown error";
}

static status checked(const cuda *c, cuda_error rc, const char *call, uint32_t dev, err *e) {
    if (rc == CUDA_OK) return OK;
    return fail(e, status_of(rc), "CUDA device %u: %s: %s (%d)", dev, call, error_name(c, rc), rc);
}

static cuda_error retain(cuda *c, uint32_t dev, cuda_context *out) {
    pthread_mutex_lock(&c->retaining);
    cuda_error rc = CUDA_OK;
    *out = atomic_load(&c->ctx[dev]);
    if (!*out) rc = c->api.cuDevicePrimaryCtxRetain(out, c->handle[dev]);
    if (!rc) atomic_store(&c->ctx[dev], *out);
    pthread_mutex_unlock(&c->retaining);
    return rc;
}

/* Makes the device's context current for this thread: what follows is for it. */
static cuda_error use(cuda *c, uint32_t dev) {
    if (dev >= c->base.n_devices) return CUDA_INVALID_DEVICE;
    cuda_context ctx = atomic_load(&c->ctx[dev]);
    cuda_error rc = ctx ? CUDA_OK : retain(c, dev, &ctx);
    return rc ? rc : c->api.cuCtxSetCurrent(ctx);
}

/* --- facts --------------------------------------------------------------------------------------------------------------- */

static cuda_error attributes(const cuda *c, cuda_device dev, gpu_facts *f) {
    int shared = 0, wave = 0, units = 0, clock = 0, memory_clock = 0, bits = 0, integrated = 0, major = 0, minor = 0;
    const struct {
        int attribute, *out;
    } wanted[] = {
        {CUDA_ATTR_SHARED_BYTES, &shared},
        {CUDA_ATTR_WAVE, &wave},
        {CUDA_ATTR_UNITS, &units},
        {CUDA_ATTR_CLOCK_KHZ, &clock},
        {CUDA_ATTR_MEMORY_CLOCK_KHZ, &memory_clock},
        {CUDA_ATTR_MEMORY_BUS_BITS, &bits},
        {CUDA_ATTR_INTEGRATED, &integrated},
        {CUDA_ATTR_CAPABILITY_MAJOR, &major},
        {CUDA_ATTR_CAPABILITY_MINOR, &minor},
    };
    cuda_error rc = CUDA_OK;
    for (size_t i = 0; !rc && i < sizeof wanted / sizeof *wanted; i++)
        rc = c->api.cuDeviceGetAttribute(wanted[i].out, wanted[i].attribute, dev);
    f->shared_bytes = shared > 0 ? (uint32_t)shared : 0;
    f->wave = wave > 0 ? (uint32_t)wave : 0;
    f->n_units = units > 0 ? (uint32_t)units : 0;
    f->clock_mhz = clock > 0 ? (uint32_t)clock / 1000 : 0;
    f->memory_clock_mhz = memory_clock > 0 ? (uint32_t)memory_clock / 1000 : 0;
    f->memory_bus_bits = bits > 0 ? (uint32_t)bits : 0;
    f->integrated = integrated != 0;
    snprintf(f->arch, sizeof f->arch, "sm_%d%d", major, minor);
    return rc;
}

/* "GPU-01234567-89ab-cdef-0123-456789abcdef", as nvidia-smi prints it. */
static void take_uuid(char *out, size_t n_bytes, const cuda_uuid *id) {
    const unsigned char *b = id->bytes;
    snprintf(out, n_bytes, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
             b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static status facts(gpu_driver *d, uint32_t dev, gpu_facts *f, err *e) {
    cuda *c = cuda_of(d);
    cuda_uuid id;
    size_t n_bytes = 0;
    char pci[64] = "";
    *f = (gpu_facts){0};
    if (dev >= d->n_devices) return checked(c, CUDA_INVALID_DEVICE, "facts", dev, e);
    cuda_device h = c->handle[dev];
    status s = checked(c, c->api.cuDeviceGetName(f->name, (int)sizeof f->name, h), "cuDeviceGetName", dev, e);
    f->name[sizeof f->name - 1] = 0;
    if (!s) s = checked(c, c->api.cuDeviceTotalMem_v2(&n_bytes, h), "cuDeviceTotalMem_v2", dev, e);
    if (!s) s = checked(c, attributes(c, h, f), "cuDeviceGetAttribute", dev, e);
    if (!s) s = checked(c, c->api.cuDeviceGetPCIBusId(pci, (int)sizeof pci, h), "cuDeviceGetPCIBusId", dev, e);
    if (s) return s;
    f->memory = n_bytes;
    (void)pci_address(f->pci, pci);
    if (c->api.cuDeviceGetUuid_v2(&id, h) == CUDA_OK) take_uuid(f->uuid, sizeof f->uuid, &id);
    return OK;
}

/* Of a device that nothing else was asked of: its context is taken for this question only. */
static status memory(gpu_driver *d, uint32_t dev, uint64_t *free_bytes, uint64_t *total, err *e) {
    cuda *c = cuda_of(d);
    size_t left = 0, all = 0;
    cuda_context ctx = NULL;
    bool brief = dev < d->n_devices && !atomic_load(&c->ctx[dev]);
    cuda_error rc = brief ? c->api.cuDevicePrimaryCtxRetain(&ctx, c->handle[dev]) : use(c, dev);
    if (!rc && brief) rc = c->api.cuCtxSetCurrent(ctx);
    if (!rc) rc = c->api.cuMemGetInfo_v2(&left, &all);
    if (ctx) {
        (void)c->api.cuCtxSetCurrent(NULL);
        (void)c->api.cuDevicePrimaryCtxRelease_v2(c->handle[dev]);
    }
    *free_bytes = left, *total = all;
    return checked(c, rc, "cuMemGetInfo_v2", dev, e);
}

/* --- memory -------------------------------------------------------------------------------------------------------------- */

static status alloc(gpu_driver *d, uint32_t dev, size_t n_bytes, gpu_addr *out, err *e) {
    cuda *c = cuda_of(d);
    *out = 0;
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuMemAlloc_v2(out, n_bytes);
    if (rc) *out = 0;
    status s = checked(c, rc, "cuMemAlloc_v2", dev, e);
    return s ? fail_in(e, s, "%zu bytes of device memory: ", n_bytes) : OK;
}

static void release(gpu_driver *d, uint32_t dev, gpu_addr p) {
    if (p && use(cuda_of(d), dev) == CUDA_OK) (void)cuda_of(d)->api.cuMemFree_v2(p);
}

static status host_alloc(gpu_driver *d, uint32_t dev, size_t n_bytes, void **out, err *e) {
    cuda *c = cuda_of(d);
    *out = NULL;
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuMemHostAlloc(out, n_bytes, CUDA_HOST_PORTABLE);
    if (rc) *out = NULL;
    if (rc == CUDA_OUT_OF_MEMORY) return fail(e, ERR_NOMEM, "%zu bytes of pinned host memory", n_bytes);
    return checked(c, rc, "cuMemHostAlloc", dev, e);
}

static void host_release(gpu_driver *d, uint32_t dev, void *p) {
    if (p && use(cuda_of(d), dev) == CUDA_OK) (void)cuda_of(d)->api.cuMemFreeHost(p);
}

static status copy_in(gpu_driver *d, uint32_t dev, gpu_addr to, const void *from, size_t n_bytes, gpu_stream s,
                      err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuMemcpyHtoDAsync_v2(to, from, n_bytes, s);
    return checked(c, rc, "cuMemcpyHtoDAsync_v2", dev, e);
}

static status copy_out(gpu_driver *d, uint32_t dev, void *to, gpu_addr from, size_t n_bytes, gpu_stream s, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuMemcpyDtoHAsync_v2(to, from, n_bytes, s);
    return checked(c, rc, "cuMemcpyDtoHAsync_v2", dev, e);
}

static status copy(gpu_driver *d, uint32_t dev, gpu_addr to, gpu_addr from, size_t n_bytes, gpu_stream s, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuMemcpyDtoDAsync_v2(to, from, n_bytes, s);
    return checked(c, rc, "cuMemcpyDtoDAsync_v2", dev, e);
}

static status fill(gpu_driver *d, uint32_t dev, gpu_addr to, uint8_t byte, size_t n_bytes, gpu_stream s, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuMemsetD8Async(to, byte, n_bytes, s);
    return checked(c, rc, "cuMemsetD8Async", dev, e);
}

/* Peer access is switched on in the context of the side that copies, for the other's context. */
static status reach_peer(cuda *c, uint32_t from, uint32_t to, err *e) {
    int can = 0;
    cuda_error rc = use(c, to); /* both have a context from here on; the source's is the current one */
    if (!rc) rc = use(c, from);
    if (rc) return checked(c, rc, "cuDevicePrimaryCtxRetain", from, e);
    gpu_peer known = atomic_load(&c->peer[from][to]);
    if (known == PEER_UNKNOWN) {
        rc = c->api.cuDeviceCanAccessPeer(&can, c->handle[from], c->handle[to]);
        if (!rc && can) rc = c->api.cuCtxEnablePeerAccess(atomic_load(&c->ctx[to]), 0);
        if (rc == CUDA_PEER_ALREADY_ENABLED) rc = CUDA_OK;
        if (rc && rc != CUDA_PEER_UNSUPPORTED) return checked(c, rc, "cuCtxEnablePeerAccess", from, e);
        known = !rc && can ? PEER_YES : PEER_NO;
        atomic_store(&c->peer[from][to], (uint8_t)known);
    }
    if (known == PEER_YES) return OK;
    return fail(e, ERR_GPU_PEER, "CUDA devices %u and %u cannot reach each other's memory", from, to);
}

static status copy_peer(gpu_driver *d, uint32_t to_dev, gpu_addr to, uint32_t from_dev, gpu_addr from, size_t n_bytes,
                        gpu_stream stream, err *e) {
    cuda *c = cuda_of(d);
    status s = reach_peer(c, from_dev, to_dev, e);
    if (s) return s;
    cuda_error rc = c->api.cuMemcpyPeerAsync(to, atomic_load(&c->ctx[to_dev]), from, atomic_load(&c->ctx[from_dev]),
                                             n_bytes, stream);
    return checked(c, rc, "cuMemcpyPeerAsync", from_dev, e);
}

/* --- streams and events -------------------------------------------------------------------------------------------------- */

static status stream_open(gpu_driver *d, uint32_t dev, gpu_stream *out, err *e) {
    cuda *c = cuda_of(d);
    *out = NULL;
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuStreamCreate(out, CUDA_STREAM_NON_BLOCKING);
    return checked(c, rc, "cuStreamCreate", dev, e);
}

static void stream_close(gpu_driver *d, uint32_t dev, gpu_stream s) {
    if (s && use(cuda_of(d), dev) == CUDA_OK) (void)cuda_of(d)->api.cuStreamDestroy_v2(s);
}

static status stream_wait(gpu_driver *d, uint32_t dev, gpu_stream s, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuStreamSynchronize(s);
    return checked(c, rc, "cuStreamSynchronize", dev, e);
}

static status event_open(gpu_driver *d, uint32_t dev, gpu_event *out, err *e) {
    cuda *c = cuda_of(d);
    *out = NULL;
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuEventCreate(out, 0);
    return checked(c, rc, "cuEventCreate", dev, e);
}

static void event_close(gpu_driver *d, uint32_t dev, gpu_event v) {
    if (v && use(cuda_of(d), dev) == CUDA_OK) (void)cuda_of(d)->api.cuEventDestroy_v2(v);
}

static status event_record(gpu_driver *d, uint32_t dev, gpu_event v, gpu_stream s, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuEventRecord(v, s);
    return checked(c, rc, "cuEventRecord", dev, e);
}

static status event_wait(gpu_driver *d, uint32_t dev, gpu_event v, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuEventSynchronize(v);
    return checked(c, rc, "cuEventSynchronize", dev, e);
}

static status stream_wait_event(gpu_driver *d, uint32_t dev, gpu_stream s, gpu_event v, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuStreamWaitEvent(s, v, 0);
    return checked(c, rc, "cuStreamWaitEvent", dev, e);
}

static status event_ms(gpu_driver *d, uint32_t dev, gpu_event from, gpu_event to, float *ms, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuEventElapsedTime(ms, from, to);
    return checked(c, rc, "cuEventElapsedTime", dev, e);
}

/* --- code ---------------------------------------------------------------------------------------------------------------- */

/* PTX is compiled here; what the compiler says of a failure becomes part of the message. */
static status module_load(gpu_driver *d, uint32_t dev, const void *code, size_t n_bytes, gpu_module *out, err *e) {
    (void)n_bytes; /* PTX ends with a NUL */
    cuda *c = cuda_of(d);
    char log[JIT_LOG_BYTES] = "";
    int options[] = {CUDA_JIT_ERROR_LOG, CUDA_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    *out = NULL;
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuModuleLoadDataEx(out, code, 2, options, values);
    status s = checked(c, rc, "cuModuleLoadDataEx", dev, e);
    log[sizeof log - 1] = 0;
    log[strcspn(log, "\n")] = 0;
    if (s == ERR_GPU_DRIVER) return fail_in(e, s, "this driver (%s) is too old for our PTX: ", d->version);
    return s && log[0] ? fail_in(e, s, "%.160s: ", log) : s;
}

static void module_unload(gpu_driver *d, uint32_t dev, gpu_module m) {
    if (m && use(cuda_of(d), dev) == CUDA_OK) (void)cuda_of(d)->api.cuModuleUnload(m);
}

static status kernel_find(gpu_driver *d, uint32_t dev, gpu_module m, const char *name, gpu_kernel *out, err *e) {
    cuda *c = cuda_of(d);
    *out = NULL;
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuModuleGetFunction(out, m, name);
    status s = checked(c, rc, "cuModuleGetFunction", dev, e);
    return s ? fail_in(e, s, "kernel %s: ", name) : OK;
}

/* A kernel's one argument is its struct, by value: params[0] points to it, and is read before the call returns. */
static status launch(gpu_driver *d, uint32_t dev, gpu_kernel k, const gpu_launch *l, gpu_stream s, err *e) {
    cuda *c = cuda_of(d);
    void *params[1] = {(void *)(uintptr_t)l->args};
    cuda_error rc = use(c, dev);
    if (!rc)
        rc = c->api.cuLaunchKernel(k, l->grid[0], l->grid[1], l->grid[2], l->block, 1, 1, l->shared_bytes, s, params,
                                   NULL);
    return checked(c, rc, "cuLaunchKernel", dev, e);
}

/* --- graphs -------------------------------------------------------------------------------------------------------------- */

static status capture_begin(gpu_driver *d, uint32_t dev, gpu_stream s, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuStreamBeginCapture_v2(s, CUDA_CAPTURE_THREAD_LOCAL);
    return checked(c, rc, "cuStreamBeginCapture_v2", dev, e);
}

static status capture_end(gpu_driver *d, uint32_t dev, gpu_stream s, gpu_graph *out, err *e) {
    cuda *c = cuda_of(d);
    cuda_graph g = NULL;
    *out = NULL;
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuStreamEndCapture(s, &g);
    if (rc) return checked(c, rc, "cuStreamEndCapture", dev, e);
    rc = c->api.cuGraphInstantiateWithFlags(out, g, 0);
    if (rc) *out = NULL;
    (void)c->api.cuGraphDestroy(g);
    return checked(c, rc, "cuGraphInstantiateWithFlags", dev, e);
}

static status graph_launch(gpu_driver *d, uint32_t dev, gpu_graph g, gpu_stream s, err *e) {
    cuda *c = cuda_of(d);
    cuda_error rc = use(c, dev);
    if (!rc) rc = c->api.cuGraphLaunch(g, s);
    return checked(c, rc, "cuGraphLaunch", dev, e);
}

static void graph_close(gpu_driver *d, uint32_t dev, gpu_graph g) {
    if (g && use(cuda_of(d), dev) == CUDA_OK) (void)cuda_of(d)->api.cuGraphExecDestroy(g);
}

/* --- opening ------------------------------------------------------------------------------------------------------------- */

static void close_cuda(gpu_driver *d) {
    if (!d) return;
    cuda *c = cuda_of(d);
    (void)c->api.cuCtxSetCurrent(NULL);
    for (uint32_t i = 0; i < d->n_devices; i++)
        if (atomic_load(&c->ctx[i])) (void)c->api.cuDevicePrimaryCtxRelease_v2(c->handle[i]);
    pthread_mutex_destroy(&c->retaining);
    mem_free(c);
}

static const gpu_driver table = {
    .platform = GPU_PLATFORM_CUDA,
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
    .close = close_cuda,
};

/* Loads the library and fills the table; of its functions only that for its version is called. */
static status load(cuda *c, err *e) {
    static const char *const names[] = {"libcuda.so.1", NULL};
    status s = gpu_library_open(&c->lib, "ROCMFORGE_CUDA_LIBRARY", names, e);
    if (s == ERR_GPU_NO_DRIVER && !getenv("ROCMFORGE_CUDA_LIBRARY"))
        return fail(e, s, "no CUDA driver (libcuda, for NVIDIA GPUs) on this system; install NVIDIA's driver");
    if (s) return s;
    const char *missing = gpu_library_bind(&c->lib, &c->api, symbols, sizeof symbols / sizeof *symbols);
    int v = 0;
    bool known = c->api.cuDriverGetVersion && c->api.cuDriverGetVersion(&v) == CUDA_OK;
    snprintf(c->base.version, sizeof c->base.version, known ? "CUDA driver %d.%d" : "CUDA driver", v / 1000,
             v % 1000 / 10);
    if (missing)
        s = fail(e, ERR_GPU_DRIVER, "%s (%s) lacks %s, so it is too old; install a driver of CUDA %d or newer",
                 c->lib.name, c->base.version, missing, CUDA_MAJOR_LEAST);
    else if (known && v / 1000 < CUDA_MAJOR_LEAST)
        s = fail(e, ERR_GPU_DRIVER, "%s is a %s, which is too old; install a driver of CUDA %d or newer", c->lib.name,
                 c->base.version, CUDA_MAJOR_LEAST);
    if (s) gpu_library_close(&c->lib);
    return s;
}

static status explain(cuda *c, cuda_error rc, const char *call, err *e) {
    bool exists;
    status s = device_node_check(c->root, "/dev/nvidiactl", &exists, e);
    if (s) return s;
    if (rc && rc != CUDA_NO_DEVICE)
        return fail(e, rc == CUDA_OUT_OF_MEMORY ? ERR_GPU_MEMORY : ERR_GPU_DRIVER,
                    "%s fails in %s: %s (%d); the kernel's log (dmesg) tells more", c->base.version, call,
                    error_name(c, rc), rc);
    return fail(e, ERR_GPU_NONE, "%s finds no NVIDIA GPU%s", c->base.version,
                exists ? ""
                       : ", and there is no /dev/nvidiactl; load the nvidia driver, or start the container with GPUs");
}

static status find_devices(cuda *c, err *e) {
    int n = 0;
    cuda_error rc = c->api.cuInit(0);
    if (rc) return explain(c, rc, "cuInit", e);
    rc = c->api.cuDeviceGetCount(&n);
    if (rc || n <= 0) return explain(c, rc, "cuDeviceGetCount", e);
    c->base.n_devices = n < GPU_MAX_DEVICES ? (uint32_t)n : GPU_MAX_DEVICES;
    for (uint32_t i = 0; !rc && i < c->base.n_devices; i++) rc = c->api.cuDeviceGet(&c->handle[i], (int)i);
    return rc ? explain(c, rc, "cuDeviceGet", e) : OK;
}

status gpu_driver_open_cuda_at(gpu_driver **out, const char *root, err *e) {
    *out = NULL;
    cuda *c = mem_zalloc(sizeof *c);
    if (!c) return fail(e, ERR_NOMEM, "the table of the CUDA driver");
    c->base = table;
    c->root = root;
    status s = load(c, e);
    if (!s) s = find_devices(c, e);
    if (s) {
        mem_free(c);
        return s;
    }
    pthread_mutex_init(&c->retaining, NULL);
    *out = &c->base;
    return OK;
}

status gpu_driver_open_cuda(gpu_driver **out, err *e) { return gpu_driver_open_cuda_at(out, "", e); }
