/* The runtime table over played libraries: every way that opening can fail has its own reason, facts come as the runtime
 * gives them, and each call of the table comes back with its error's name, its own and the device. */
#include "check.h"

#include "backend/gpu/cuda_api.h"
#include "backend/gpu/driver_own.h"
#include "backend/gpu/hip_api.h"
#include "backend/gpu/sysfs.h"
#include "gpu_rig.h"

#include <unistd.h>

static err e;

static int set_up(void **state) {
    (void)state;
    rig_clean();
    return 0;
}

static void expect(status got, status want, const char *text) {
    if (got != want) fail_msg("%s instead of %s: %s", err_lookup(got)->code, err_lookup(want)->code, e.text);
    if (text && !strstr(e.text, text)) fail_msg("no \"%s\" in: %s", text, e.text);
}

static void open_hip(status want, const char *text) {
    gpu_driver *d;
    expect(gpu_driver_open_hip_at(&d, rig_root, &e), want, text);
    assert_null(d);
}

static void open_cuda(status want, const char *text) {
    gpu_driver *d;
    expect(gpu_driver_open_cuda_at(&d, rig_root, &e), want, text);
    assert_null(d);
}

static const fake_device xtx = {"AMD Radeon RX 7900 XTX", "0000:03:00.0", "a1b2c3d4e5f60718", 24560, 48, 32, 0, 11, 0};
static const fake_device h200 = {"NVIDIA H200", "00000000:3B:00.0", NULL, 143155, 132, 32, 0, 9, 0};

/* --- opening */

static void no_library(void **state) {
    (void)state;
    rig_no_hip();
    rig_no_cuda();
    open_hip(ERR_GPU_NO_DRIVER, "/nowhere/libamdhip64.so.7");
    open_cuda(ERR_GPU_NO_DRIVER, "/nowhere/libcuda.so.1");
    setenv("ROCMFORGE_HIP_LIBRARY", "libno-such-runtime.so.7", 1);
    open_hip(ERR_GPU_NO_DRIVER, "libno-such-runtime.so.7");
}

static void no_library_by_its_own_name(void **state) {
    (void)state;
    gpu_library l;
    static const char *const none[] = {"libno-such-runtime.so.7", "/nowhere/libno-such-runtime.so", NULL};
    expect(gpu_library_open(&l, "ROCMFORGE_UNSET", none, &e), ERR_GPU_NO_DRIVER, "libno-such-runtime.so.7");
    static const char *const some[] = {"libno-such-runtime.so.7", FAKE_DIR "/fake_hip.so", NULL};
    expect(gpu_library_open(&l, "ROCMFORGE_UNSET", some, &e), OK, NULL);
    gpu_library_close(&l);
    gpu_library_close(&l);
}

static void broken_library(void **state) {
    (void)state;
    char path[128];
    rig_put("/broken.so", "this is no library\n");
    snprintf(path, sizeof path, "%s/broken.so", rig_root);
    setenv("ROCMFORGE_HIP_LIBRARY", path, 1);
    setenv("ROCMFORGE_CUDA_LIBRARY", path, 1);
    open_hip(ERR_GPU_DRIVER, "cannot be loaded");
    open_cuda(ERR_GPU_DRIVER, "cannot be loaded");
}

static void a_function_is_missing(void **state) {
    (void)state;
    setenv("ROCMFORGE_HIP_LIBRARY", FAKE_DIR "/fake_hip_old.so", 1);
    setenv("ROCMFORGE_CUDA_LIBRARY", FAKE_DIR "/fake_cuda_old.so", 1);
    open_hip(ERR_GPU_DRIVER, "lacks hipGraphLaunch, so it is too old");
    open_cuda(ERR_GPU_DRIVER, "lacks cuGraphLaunch, so it is too old");
}

static void old_version(void **state) {
    (void)state;
    rig_hip->version = 50731921; /* ROCm 5.7 */
    rig_cuda->version = 11080;
    open_hip(ERR_GPU_DRIVER, "HIP runtime 5.7 (50731921), which is too old");
    open_cuda(ERR_GPU_DRIVER, "CUDA driver 11.8, which is too old");
}

static void init_fails(void **state) {
    (void)state;
    static const struct {
        int code;
        status want;
        const char *text;
    } hip[] = {{1, ERR_GPU_DRIVER, "hipInit: hipError1 (1)"},
               {2, ERR_GPU_MEMORY, "hipErrorOutOfMemory"},
               {3, ERR_GPU_DRIVER, "hipError3"},
               {35, ERR_GPU_DRIVER, "hipError35"},
               {100, ERR_GPU_NONE, "finds no AMD GPU, and there is no /dev/kfd"},
               {101, ERR_GPU_DRIVER, "hipError101"},
               {719, ERR_GPU_DRIVER, "hipError719"},
               {801, ERR_GPU_DRIVER, "hipError801"},
               {999, ERR_GPU_DRIVER, "hipError999"}};
    rig_hip->n = rig_cuda->n = 1;
    rig_hip->failing = "hipInit";
    rig_cuda->failing = "cuInit";
    for (size_t i = 0; i < sizeof hip / sizeof *hip; i++) {
        rig_hip->code = rig_cuda->code = hip[i].code;
        open_hip(hip[i].want, hip[i].text);
        open_cuda(hip[i].want, hip[i].code == 100 ? "finds no NVIDIA GPU" : "cuInit: CUDA_ERROR_");
    }
    rig_put("/dev/kfd", "%s", "");
    rig_hip->code = HIP_NO_DEVICE;
    open_hip(ERR_GPU_NONE, "HIP runtime 6.4 (60443484) finds no AMD GPU");
    assert_null(strstr(e.text, "/dev/kfd"));
}

static void counting_fails(void **state) {
    (void)state;
    open_hip(ERR_GPU_NONE, "finds no AMD GPU");
    open_cuda(ERR_GPU_NONE, "finds no NVIDIA GPU");
    rig_hip->failing = "hipGetDeviceCount";
    rig_cuda->failing = "cuDeviceGetCount";
    rig_hip->code = rig_cuda->code = 999;
    open_hip(ERR_GPU_DRIVER, "hipGetDeviceCount: hipError999");
    open_cuda(ERR_GPU_DRIVER, "cuDeviceGetCount: CUDA_ERROR_999");
    rig_cuda->n = 1;
    rig_cuda->failing = "cuDeviceGet";
    open_cuda(ERR_GPU_DRIVER, "cuDeviceGet: CUDA_ERROR_999");
}

/* ollama 6685: without the group the runtime just finds nothing. In a container (toolboxes 6) only the number counts. */
static void no_permission(void **state) {
    (void)state;
    rig_amd(1, "0000:03:00.0", 0x744C, 110000, 24560, 32000);
    rig_hip->failing = "hipInit";
    rig_hip->code = HIP_NO_DEVICE;
    rig_forbid("/dev/kfd", 48109);
    rig_drop();
    open_hip(ERR_GPU_PERMISSION, "/dev/kfd may not be opened");
    rig_regain();
    if (getuid() == 0) assert_non_null(strstr(e.text, "--group-add 48109"));
    rig_forbid("/dev/kfd", 1); /* a group that every system names */
    rig_drop();
    open_hip(ERR_GPU_PERMISSION, getuid() == 0 ? "`sudo usermod -aG daemon $USER`" : "sudo");
    rig_regain();
    rig_put("/dev/nvidiactl", "%s", "");
    rig_forbid("/dev/nvidiactl", 0);
    rig_drop();
    open_cuda(ERR_GPU_PERMISSION, getuid() == 0 ? "belongs to root alone" : "/dev/nvidiactl may not be opened");
    rig_regain();
}

static void no_permission_for_one_node(void **state) {
    (void)state;
    rig_amd(1, "0000:03:00.0", 0x744C, 110000, 24560, 32000);
    rig_forbid("/dev/dri/renderD129", 48109);
    rig_drop();
    open_hip(ERR_GPU_PERMISSION, "/dev/dri/renderD129");
    rig_regain();
}

/* --- facts */

static void facts_of_hip(void **state) {
    (void)state;
    gpu_driver *d;
    gpu_facts f;
    uint64_t left, total;
    rig_amd(1, "0000:03:00.0", 0x744C, 110000, 24560, 32000);
    rig_hip->n = 2;
    rig_hip->device[0] = rig_hip->device[1] = xtx;
    rig_hip->device[1].uuid = "XX";
    rig_hip->device[1].pci = "0000:43:00.0";
    expect(gpu_driver_open_hip_at(&d, rig_root, &e), OK, NULL);
    assert_int_equal(d->n_devices, 2);
    assert_string_equal(d->version, "HIP runtime 6.4 (60443484)");
    expect(d->facts(d, 0, &f, &e), OK, NULL);
    assert_string_equal(f.name, "AMD Radeon RX 7900 XTX");
    assert_string_equal(f.arch, "gfx1100");
    assert_string_equal(f.uuid, "GPU-a1b2c3d4e5f60718");
    assert_string_equal(f.pci, "0000:03:00.0");
    assert_int_equal(f.memory, 24560ull << 20);
    assert_int_equal(f.n_units, 48);
    assert_int_equal(f.wave, 32);
    assert_int_equal(f.clock_mhz, 2500);
    assert_int_equal(f.memory_clock_mhz, 1249);
    assert_int_equal(f.memory_bus_bits, 384);
    assert_int_equal(f.shared_bytes, 65536);
    assert_false(f.integrated);
    expect(d->facts(d, 1, &f, &e), OK, NULL); /* not in the topology: the stepping is not known */
    assert_string_equal(f.arch, "gfx110?");
    assert_string_equal(f.uuid, "");
    expect(d->memory(d, 1, &left, &total, &e), OK, NULL);
    assert_true(left == 12280ull << 20 && total == 24560ull << 20);
    expect(d->facts(d, 2, &f, &e), ERR_GPU_CALL, "HIP device 2");
    setenv("HSA_OVERRIDE_GFX_VERSION", "10.3.0", 1);
    expect(d->facts(d, 0, &f, &e), OK, NULL);
    assert_string_equal(f.arch, "gfx1030");
    d->close(d);
}

static void facts_that_fail(void **state) {
    (void)state;
    static const char *const hip[] = {"hipDeviceGetName", "hipDeviceTotalMem", "hipDeviceGetAttribute",
                                      "hipDeviceGetPCIBusId", "hipDeviceComputeCapability"};
    static const char *const cuda[] = {"cuDeviceGetName", "cuDeviceTotalMem_v2", "cuDeviceGetAttribute",
                                       "cuDeviceGetPCIBusId"};
    gpu_driver *h, *c;
    gpu_facts f;
    rig_hip->n = rig_cuda->n = 1;
    rig_hip->device[0] = xtx;
    rig_cuda->device[0] = h200;
    expect(gpu_driver_open_hip_at(&h, rig_root, &e), OK, NULL);
    expect(gpu_driver_open_cuda_at(&c, rig_root, &e), OK, NULL);
    rig_hip->code = rig_cuda->code = 999;
    for (size_t i = 0; i < sizeof hip / sizeof *hip; i++) {
        rig_hip->failing = hip[i];
        expect(h->facts(h, 0, &f, &e), ERR_GPU_CALL, hip[i]);
    }
    for (size_t i = 0; i < sizeof cuda / sizeof *cuda; i++) {
        rig_cuda->failing = cuda[i];
        expect(c->facts(c, 0, &f, &e), ERR_GPU_CALL, cuda[i]);
    }
    h->close(h);
    c->close(c);
}

static void facts_of_cuda(void **state) {
    (void)state;
    gpu_driver *d;
    gpu_facts f;
    uint64_t left, total;
    rig_cuda->n = 1;
    rig_cuda->device[0] = h200;
    expect(gpu_driver_open_cuda_at(&d, rig_root, &e), OK, NULL);
    expect(d->facts(d, 0, &f, &e), OK, NULL);
    assert_string_equal(d->version, "CUDA driver 13.0");
    assert_string_equal(f.arch, "sm_90");
    assert_string_equal(f.pci, "0000:3b:00.0");
    assert_string_equal(f.uuid, "GPU-00112233-4455-6677-8899-aabbccddeeff");
    assert_int_equal(rig_cuda->n_contexts, 0); /* being looked at costs a device nothing */
    expect(d->memory(d, 0, &left, &total, &e), OK, NULL);
    assert_int_equal(total, 143155ull << 20);
    assert_int_equal(rig_cuda->n_contexts, 0);
    gpu_stream s;
    expect(d->stream_open(d, 0, &s, &e), OK, NULL);
    expect(d->stream_open(d, 0, &s, &e), OK, NULL);
    assert_int_equal(rig_cuda->n_contexts, 1);
    d->close(d);
    assert_int_equal(rig_cuda->n_contexts, 0);
}

/* LLVM's names for what the kernel driver calls major * 10000 + minor * 100 + stepping. */
static void arches(void **state) {
    (void)state;
    static const struct {
        unsigned version;
        const char *name;
    } known[] = {
        {80003, "gfx803"},   {90000, "gfx900"},   {90002, "gfx902"},   {90004, "gfx904"},   {90006, "gfx906"},
        {90008, "gfx908"},   {90009, "gfx909"},   {90010, "gfx90a"},   {90012, "gfx90c"},   {90400, "gfx940"},
        {90402, "gfx942"},   {90500, "gfx950"},   {100100, "gfx1010"}, {100101, "gfx1011"}, {100102, "gfx1012"},
        {100103, "gfx1013"}, {100300, "gfx1030"}, {100301, "gfx1031"}, {100302, "gfx1032"}, {100303, "gfx1033"},
        {100304, "gfx1034"}, {100305, "gfx1035"}, {100306, "gfx1036"}, {110000, "gfx1100"}, {110001, "gfx1101"},
        {110002, "gfx1102"}, {110003, "gfx1103"}, {110500, "gfx1150"}, {110501, "gfx1151"}, {110502, "gfx1152"},
        {110503, "gfx1153"}, {120000, "gfx1200"}, {120001, "gfx1201"}, {120500, "gfx1250"}};
    char arch[32];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        rig_amd(1, "0001:c3:01.2", 0x744C, known[i].version, 1, 1);
        assert_true(kfd_arch(arch, sizeof arch, rig_root, "0001:c3:01.2"));
        assert_string_equal(arch, known[i].name);
        assert_false(kfd_arch(arch, sizeof arch, rig_root, "0000:c3:01.2"));
        assert_false(kfd_arch(arch, sizeof arch, rig_root, "0001:c3:00.2"));
    }
    assert_false(kfd_arch(arch, sizeof arch, rig_root, "nonsense"));
    rig_amd(1, "0001:c3:01.2", 0x744C, 4000000000u, 1, 1);
    assert_false(kfd_arch(arch, sizeof arch, rig_root, "0001:c3:01.2"));
}

static void small_files(void **state) {
    (void)state;
    uint64_t v;
    char text[8];
    static const char *const bad[] = {"", "\n", "x", "-1", "99999999999999999999", "12x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rig_put("/n", "%s", bad[i]);
        assert_false(sysfs_number(&v, rig_root, "/n"));
    }
    rig_put("/n", "0x1002\n");
    assert_true(sysfs_number(&v, rig_root, "/%s", "n") && v == 0x1002);
    assert_false(sysfs_number(&v, rig_root, "/none"));
    rig_put("/n", "a line that is too long\n");
    assert_true(sysfs_text(text, sizeof text, rig_root, "/n"));
    assert_string_equal(text, "a line ");
}

static void addresses(void **state) {
    (void)state;
    static const char *const good[][2] = {{"0000:03:00.0", "0000:03:00.0"},
                                          {"00000000:3B:00.0", "0000:3b:00.0"},
                                          {"3b:1f.7", "0000:3b:1f.7"},
                                          {"1:2:3.4", "0001:02:03.4"}};
    static const char *const bad[] = {
        "",      "0",          "0000:03:00", "0000:03:20.0", "0000:03:00.8", "0000:03:00.0x", "10000:03:00.0",
        "gpu:0", "-1:03:00.0x"};
    char out[16];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(pci_address(out, good[i][0]));
        assert_string_equal(out, good[i][1]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (pci_address(out, bad[i])) fail_msg("%s is taken for %s", bad[i], out);
}

/* --- every call of the table */

/* Calls slot number i; NULL: there are no more. Which function of the runtime it ends in is for the caller to know. */
static status call(gpu_driver *d, int i) {
    static char memory[64];
    gpu_addr a = 4096;
    void *p;
    float ms;
    uint64_t left, total;
    const gpu_launch l = {.grid = {1, 1, 1}, .block = 64, .args = memory, .args_bytes = sizeof memory};
    switch (i) {
    case 0: return d->alloc(d, 0, 64, &a, &e);
    case 1: return d->host_alloc(d, 0, 64, &p, &e);
    case 2: return d->copy_in(d, 0, a, memory, 64, p = memory, &e);
    case 3: return d->copy_out(d, 0, memory, a, 64, memory, &e);
    case 4: return d->copy(d, 0, a, a + 64, 64, memory, &e);
    case 5: return d->fill(d, 0, a, 1, 64, memory, &e);
    case 6: return d->copy_peer(d, 1, a, 0, a, 64, memory, &e);
    case 7: return d->stream_open(d, 0, &p, &e);
    case 8: return d->stream_wait(d, 0, memory, &e);
    case 9: return d->event_open(d, 0, &p, &e);
    case 10: return d->event_record(d, 0, memory, memory, &e);
    case 11: return d->event_wait(d, 0, memory, &e);
    case 12: return d->stream_wait_event(d, 0, memory, memory, &e);
    case 13: return d->event_ms(d, 0, memory, memory, &ms, &e);
    case 14: return d->module_load(d, 0, "code", 5, &p, &e);
    case 15: return d->kernel_find(d, 0, memory, "k", &p, &e);
    case 16: return d->launch(d, 0, memory, &l, memory, &e);
    case 17: return d->capture_begin(d, 0, memory, &e);
    case 18: return d->capture_end(d, 0, memory, &p, &e);
    case 19: return d->graph_launch(d, 0, memory, memory, &e);
    default: return d->memory(d, 0, &left, &total, &e);
    }
}

static const char *const hip_calls[] = {"hipMalloc",
                                        "hipHostMalloc",
                                        "hipMemcpyHtoDAsync",
                                        "hipMemcpyDtoHAsync",
                                        "hipMemcpyDtoDAsync",
                                        "hipMemsetD8Async",
                                        "hipMemcpyPeerAsync",
                                        "hipStreamCreateWithFlags",
                                        "hipStreamSynchronize",
                                        "hipEventCreateWithFlags",
                                        "hipEventRecord",
                                        "hipEventSynchronize",
                                        "hipStreamWaitEvent",
                                        "hipEventElapsedTime",
                                        "hipModuleLoadData",
                                        "hipModuleGetFunction",
                                        "hipModuleLaunchKernel",
                                        "hipStreamBeginCapture",
                                        "hipGraphInstantiateWithFlags",
                                        "hipGraphLaunch",
                                        "hipMemGetInfo"};
static const char *const cuda_calls[] = {"cuMemAlloc_v2",
                                         "cuMemHostAlloc",
                                         "cuMemcpyHtoDAsync_v2",
                                         "cuMemcpyDtoHAsync_v2",
                                         "cuMemcpyDtoDAsync_v2",
                                         "cuMemsetD8Async",
                                         "cuMemcpyPeerAsync",
                                         "cuStreamCreate",
                                         "cuStreamSynchronize",
                                         "cuEventCreate",
                                         "cuEventRecord",
                                         "cuEventSynchronize",
                                         "cuStreamWaitEvent",
                                         "cuEventElapsedTime",
                                         "cuModuleLoadDataEx",
                                         "cuModuleGetFunction",
                                         "cuLaunchKernel",
                                         "cuStreamBeginCapture_v2",
                                         "cuGraphInstantiateWithFlags",
                                         "cuGraphLaunch",
                                         "cuMemGetInfo_v2"};
enum { N_CALLS = sizeof hip_calls / sizeof *hip_calls, CALL_HOST_ALLOC = 1 };

static void try_calls(gpu_driver *d, fake_gpu *fake, const char *const *names, const char *use) {
    for (int i = 0; i < N_CALLS; i++) {
        fake->failing = NULL;
        expect(call(d, i), OK, NULL);
        fake->failing = names[i];
        fake->code = 719;
        expect(call(d, i), ERR_GPU_CALL, names[i]);
        assert_non_null(strstr(e.text, "device 0: "));
        fake->code = 2;
        expect(call(d, i), i == CALL_HOST_ALLOC ? ERR_NOMEM : ERR_GPU_MEMORY,
               i == CALL_HOST_ALLOC ? "64 bytes" : names[i]);
        fake->failing = use; /* the device cannot be made current: nothing else is called */
        fake->code = 101;
        expect(call(d, i), ERR_GPU_CALL, "101");
    }
    fake->failing = NULL;
}

static void every_call(void **state) {
    (void)state;
    gpu_driver *h, *c;
    rig_hip->n = rig_cuda->n = 2;
    rig_hip->device[0] = rig_hip->device[1] = xtx;
    rig_cuda->device[0] = rig_cuda->device[1] = h200;
    rig_hip->can_peer = rig_cuda->can_peer = 1;
    expect(gpu_driver_open_hip_at(&h, rig_root, &e), OK, NULL);
    try_calls(h, rig_hip, hip_calls, "hipSetDevice");
    expect(gpu_driver_open_cuda_at(&c, rig_root, &e), OK, NULL);
    try_calls(c, rig_cuda, cuda_calls, "cuCtxSetCurrent");
    h->close(h);
    c->close(c);
    assert_int_equal(rig_cuda->n_contexts, 0);
}

static void codes_of_their_own(void **state) {
    (void)state;
    gpu_driver *h, *c;
    gpu_module m;
    rig_hip->n = rig_cuda->n = 1;
    rig_hip->device[0] = xtx;
    rig_cuda->device[0] = h200;
    expect(gpu_driver_open_hip_at(&h, rig_root, &e), OK, NULL);
    expect(gpu_driver_open_cuda_at(&c, rig_root, &e), OK, NULL);
    rig_hip->failing = "hipModuleLoadData";
    rig_hip->code = HIP_NO_BINARY_FOR_GPU;
    expect(h->module_load(h, 0, "x", 2, &m, &e), ERR_GPU_ARCH, "hipModuleLoadData");
    rig_cuda->failing = "cuModuleLoadDataEx";
    rig_cuda->code = CUDA_UNSUPPORTED_PTX_VERSION;
    expect(c->module_load(c, 0, "x", 2, &m, &e), ERR_GPU_DRIVER, "too old for our PTX");
    rig_cuda->code = CUDA_INVALID_PTX;
    expect(c->module_load(c, 0, "line 7", 7, &m, &e), ERR_GPU_CALL, "ptxas: line 7: CUDA device 0: cuModuleLoadDataEx");
    gpu_stream s;
    expect(h->stream_open(h, 1, &s, &e), ERR_GPU_CALL, "device 1");
    expect(c->stream_open(c, 1, &s, &e), ERR_GPU_CALL, "device 1");
    h->close(h);
    c->close(c);
}

static void peers(void **state) {
    (void)state;
    gpu_driver *h, *c;
    rig_hip->n = rig_cuda->n = 2;
    rig_hip->device[0] = rig_hip->device[1] = xtx;
    rig_cuda->device[0] = rig_cuda->device[1] = h200;
    expect(gpu_driver_open_hip_at(&h, rig_root, &e), OK, NULL);
    expect(gpu_driver_open_cuda_at(&c, rig_root, &e), OK, NULL);
    for (int i = 0; i < 2; i++) { /* the second answer is remembered */
        expect(h->copy_peer(h, 1, 4096, 0, 8192, 64, NULL, &e), ERR_GPU_PEER, "HIP devices 0 and 1");
        expect(c->copy_peer(c, 1, 4096, 0, 8192, 64, NULL, &e), ERR_GPU_PEER, "CUDA devices 0 and 1");
    }
    rig_hip->can_peer = rig_cuda->can_peer = 1;
    rig_hip->failing = "hipDeviceEnablePeerAccess";
    rig_cuda->failing = "cuCtxEnablePeerAccess";
    rig_hip->code = rig_cuda->code = 704; /* somebody switched it on already */
    expect(h->copy_peer(h, 0, 4096, 1, 8192, 64, NULL, &e), OK, NULL);
    expect(c->copy_peer(c, 0, 4096, 1, 8192, 64, NULL, &e), OK, NULL);
    h->close(h);
    c->close(c);
}

/* Releasing nothing, and what is there, never fails. */
static void releases(void **state) {
    (void)state;
    gpu_driver *d[2];
    rig_hip->n = rig_cuda->n = 1;
    rig_hip->device[0] = xtx;
    rig_cuda->device[0] = h200;
    expect(gpu_driver_open_hip_at(&d[0], rig_root, &e), OK, NULL);
    expect(gpu_driver_open_cuda_at(&d[1], rig_root, &e), OK, NULL);
    for (int i = 0; i < 2; i++) {
        char x;
        fake_gpu *fake = i ? rig_cuda : rig_hip;
        fake->last = "";
        for (void *p = NULL;; p = &x) {
            d[i]->release(d[i], 0, p ? 4096 : 0);
            d[i]->host_release(d[i], 0, p);
            d[i]->stream_close(d[i], 0, p);
            d[i]->event_close(d[i], 0, p);
            d[i]->module_unload(d[i], 0, p);
            d[i]->graph_close(d[i], 0, p);
            if (p) break;
            assert_string_equal(fake->last, "");
        }
        assert_string_equal(fake->last, i ? "cuGraphExecDestroy" : "hipGraphExecDestroy");
        void (*close)(gpu_driver *) = d[i]->close;
        close(d[i]);
        close(NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(no_library, set_up),
        cmocka_unit_test_setup(no_library_by_its_own_name, set_up),
        cmocka_unit_test_setup(broken_library, set_up),
        cmocka_unit_test_setup(a_function_is_missing, set_up),
        cmocka_unit_test_setup(old_version, set_up),
        cmocka_unit_test_setup(init_fails, set_up),
        cmocka_unit_test_setup(counting_fails, set_up),
        cmocka_unit_test_setup(no_permission, set_up),
        cmocka_unit_test_setup(no_permission_for_one_node, set_up),
        cmocka_unit_test_setup(facts_of_hip, set_up),
        cmocka_unit_test_setup(facts_that_fail, set_up),
        cmocka_unit_test_setup(facts_of_cuda, set_up),
        cmocka_unit_test_setup(arches, set_up),
        cmocka_unit_test_setup(small_files, set_up),
        cmocka_unit_test_setup(addresses, set_up),
        cmocka_unit_test_setup(every_call, set_up),
        cmocka_unit_test_setup(codes_of_their_own, set_up),
        cmocka_unit_test_setup(peers, set_up),
        cmocka_unit_test_setup(releases, set_up),
    };
    rig_open();
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    rig_close();
    return rc;
}
