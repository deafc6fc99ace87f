/* Which GPU is taken, and what the doctor says: tables of machines from users' reports (numbers: repository and issue), played
 * by fake runtimes and trees of /sys and /dev. */
#include "check.h"

#include "backend/gpu/code.h"
#include "backend/gpu/devices.h"
#include "base/str.h"
#include "gpu_rig.h"

/* This binary's code objects are the test's own: a build need not have the kernels. */
static const gpu_code codes[] = {{"linear", "gfx906", "gfx906", 7},   {"linear", "gfx942", "gfx942", 7},
                                 {"linear", "gfx1030", "gfx1030", 8}, {"linear", "gfx1100", "gfx1100", 8},
                                 {"linear", "gfx1101", "gfx1101", 8}, {"linear", "gfx1151", "gfx1151", 8},
                                 {"linear", "gfx1201", "gfx1201", 8}, {"linear", "sm_90", "ptx", 4}};
enum { N_CODES = sizeof codes / sizeof *codes };
static uint32_t n_codes = N_CODES;

uint32_t gpu_code_count(void) { return n_codes; }
const gpu_code *gpu_code_at(uint32_t i) { return i < n_codes ? &codes[i] : NULL; }
const char *gpu_code_targets(void) {
    return n_codes ? "gfx906 gfx942 gfx1030 gfx1100 gfx1101 gfx1151 gfx1201 sm_90" : "";
}
bool gpu_code_covers(const char *arch, const char **target) {
    for (uint32_t i = 0; i < n_codes; i++)
        if (!strcmp(codes[i].target, arch)) return *target = codes[i].target, true;
    return false;
}
const gpu_code *gpu_code_find(const char *file, const char *target) { return (void)file, (void)target, NULL; }

static gpu_list list;
static err e;

static int set_up(void **state) {
    (void)state;
    n_codes = N_CODES;
    rig_clean();
    return 0;
}

/* A GPU as a report has it. */
typedef struct {
    const char *name, *pci, *uuid;
    unsigned gfx, vram_mib, gtt_mib;
    int units, integrated;
} card;

static void add_amd(const card *c) {
    int i = rig_hip->n++;
    rig_hip->device[i] = (fake_device){.name = c->name,
                                       .pci = c->pci,
                                       .uuid = c->uuid,
                                       .mib = c->vram_mib,
                                       .units = c->units,
                                       .wave = 32,
                                       .integrated = c->integrated,
                                       .major = 11};
    rig_amd((unsigned)i + 1, c->pci, 0x744C, c->gfx, c->vram_mib, c->gtt_mib);
}

static void add_nvidia(const char *name, uint64_t mib, int major) {
    rig_cuda->device[rig_cuda->n++] =
        (fake_device){.name = name, .pci = "0000:81:00.0", .mib = mib, .units = 132, .wave = 32, .major = major};
}

static const card xtx = {"AMD Radeon RX 7900 XTX", "0000:03:00.0", "a1b2c3d4e5f60718", 110000, 24560, 15872, 48, 0};
static const card w7900 = {"AMD Radeon PRO W7900", "0000:0c:00.0", "ffeeddccbbaa9988", 110000, 46064, 15872, 48, 0};
static const card raphael = {"AMD Radeon Graphics", "0000:1a:00.0", "XX", 100306, 512, 15872, 1, 1};
static const card strix_halo = {"Radeon 8060S", "0000:c5:00.0", "XX", 110501, 2048, 63488, 20, 1};
static const card r9700 = {"AMD Radeon AI PRO R9700", "0000:2f:00.0", "0011223344556677", 120001, 32624, 15872, 32, 0};
static const card rx6700 = {"AMD Radeon RX 6700 XT", "0000:2f:00.0", "0011223344556677", 100301, 12272, 15872, 20, 0};

static uint32_t pick(const char *want) {
    uint32_t i;
    if (gpu_list_pick(&list, want, &i, &e)) fail_msg("%s: %s", want, e.text);
    return i;
}

static void refused(const char *want, status code, const char *text) {
    uint32_t i;
    status s = gpu_list_pick(&list, want, &i, &e);
    if (s != code) fail_msg("%s: %s instead of %s: %s", want, err_lookup(s)->code, err_lookup(code)->code, e.text);
    if (!strstr(e.text, text)) fail_msg("no \"%s\" in: %s", text, e.text);
}

/* --- ranking */

/* textgen 7319, TheRock 3392, lcpp 22013: the processor's iGPU is listed first, and crashes. */
static void the_card_before_the_igpu(void **state) {
    (void)state;
    add_amd(&raphael);
    add_amd(&xtx);
    gpu_list_open(&list, rig_root);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.device[pick("gpu")].facts.name, xtx.name);
    assert_int_equal(list.device[0].index, 1); /* as the runtime counts */
    assert_int_equal(list.device[1].why_not.code, ERR_GPU_ARCH);
    refused("gpu:1", ERR_GPU_ARCH, "gfx1036, which this build has no code for");
    gpu_list_close(&list);
}

/* unsloth 7670: "most free memory" picks the iGPU. */
static void dedicated_before_large(void **state) {
    (void)state;
    card big = strix_halo;
    big.gtt_mib = 98304;
    add_amd(&big);
    add_amd(&xtx);
    gpu_list_open(&list, rig_root);
    assert_string_equal(list.device[pick("gpu")].facts.name, xtx.name);
    assert_int_equal(list.device[1].why_not.code, OK);
    gpu_list_close(&list);
}

/* lemonade 2631: 2 GB set aside, 98 GB of GTT; ollama 5471, 13419: GTT not counted. */
static void an_apu_has_two_memories(void **state) {
    (void)state;
    card halo = strix_halo;
    halo.gtt_mib = 100352;
    add_amd(&halo);
    gpu_list_open(&list, rig_root);
    const gpu_device *d = &list.device[pick("gpu")];
    assert_int_equal(d->memory_total, 2048ull << 20);
    assert_int_equal(d->gtt_total, 100352ull << 20);
    assert_false(d->display_only);
    gpu_list_close(&list);
    rig_hip->device[0].integrated = 0; /* an older runtime does not say so: the arch does */
    gpu_list_open(&list, rig_root);
    assert_true(list.device[0].facts.integrated);
    gpu_list_close(&list);
}

/* Of both memories what is free counts. With a small VRAM newer kernels make the runtime tell the GTT as the device's own. */
static void an_apus_room(void **state) {
    (void)state;
    static const struct {
        unsigned gfx, vram, gtt, told, used; /* MiB; told: by the runtime, which has half of it free */
        unsigned total, free, own;
    } want[] = {{110500, 512, 16384, 512, 1024, 16896, 256 + 15360, 256},
                {110501, 4096, 65536, 4096, 0, 69632, 2048 + 65536, 2048},
                {110501, 2048, 63488, 2048, 70000, 65536, 1024, 1024},
                {110501, 512, 32768, 32768, 500, 32768, 16384, 0}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        card c = strix_halo;
        gpu_room room;
        rig_clean();
        c.gfx = want[i].gfx, c.vram_mib = want[i].vram, c.gtt_mib = want[i].gtt;
        add_amd(&c);
        rig_hip->device[0].mib = want[i].told;
        rig_put("/sys/bus/pci/devices/0000:c5:00.0/mem_info_gtt_used", "%llu\n",
                (unsigned long long)want[i].used << 20);
        gpu_list_open(&list, rig_root);
        assert_int_equal(gpu_device_room(&list.device[0], &room, &e), OK);
        assert_int_equal(room.total >> 20, want[i].total);
        assert_int_equal(room.free_bytes >> 20, want[i].free);
        assert_int_equal(room.own_free >> 20, want[i].own);
        gpu_list_close(&list);
    }
}

/* The vendors' figures, in GB/s. */
static void peak_bandwidth(void **state) {
    (void)state;
    static const struct {
        gpu_facts f;
        double gb;
    } want[] = {{{.arch = "gfx1100", .memory_clock_mhz = 1249, .memory_bus_bits = 384}, 959},
                {{.arch = "gfx1030", .memory_clock_mhz = 1000, .memory_bus_bits = 256}, 512},
                {{.arch = "gfx906", .memory_clock_mhz = 1000, .memory_bus_bits = 4096}, 1024},
                {{.arch = "gfx90a", .memory_clock_mhz = 1600, .memory_bus_bits = 4096}, 1638},
                {{.arch = "gfx942", .memory_clock_mhz = 1300, .memory_bus_bits = 8192}, 5325},
                {{.arch = "sm_90", .memory_clock_mhz = 3201, .memory_bus_bits = 6144}, 4917},
                {{.arch = "gfx1151", .memory_clock_mhz = 1000, .memory_bus_bits = 256, .integrated = true}, 0},
                {{.arch = "gfx1100"}, 0}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal((int)(gpu_peak_bytes_per_s(&want[i].f) / 1e9 + 0.5), (int)want[i].gb);
}

/* lcpp 26432: a card spills 14.6 GB to GTT: of one with its own memory GTT is not counted. */
static void a_card_has_one(void **state) {
    (void)state;
    add_amd(&xtx);
    gpu_list_open(&list, rig_root);
    assert_int_equal(list.device[0].memory_total, 24560ull << 20);
    assert_int_equal(list.device[0].gtt_total, 0);
    assert_int_equal(list.device[0].memory_free, 0);
    gpu_list_measure(&list);
    assert_int_equal(list.device[0].memory_free, 12280ull << 20);
    rig_hip->failing = "hipMemGetInfo";
    rig_hip->code = 719;
    gpu_list_measure(&list);
    refused("gpu", ERR_GPU_CALL, "hipMemGetInfo");
    gpu_list_close(&list);
}

static void the_larger_one(void **state) {
    (void)state;
    add_amd(&xtx);
    add_amd(&w7900);
    add_amd(&r9700);
    add_nvidia("NVIDIA H200", 143155, 9);
    gpu_list_open(&list, rig_root);
    assert_int_equal(list.n, 4);
    assert_string_equal(list.device[0].facts.name, "NVIDIA H200");
    assert_string_equal(list.device[1].facts.name, w7900.name);
    assert_string_equal(list.device[pick("hip")].facts.name, w7900.name);
    assert_int_equal(pick("cuda"), 0);
    assert_string_equal(list.device[2].facts.name, r9700.name);
    gpu_list_close(&list);
}

/* An iGPU for the monitor, alone and with code: asked for by name it is taken. */
static void only_a_display(void **state) {
    (void)state;
    card small = raphael;
    small.gfx = 110501;
    add_amd(&small);
    gpu_list_open(&list, rig_root);
    refused("gpu", ERR_GPU_NONE, "only drives a display");
    refused("hip", ERR_GPU_NONE, "gpu:0");
    assert_int_equal(pick("gpu:0"), 0);
    assert_int_equal(pick("1a:00.0"), 0);
    gpu_list_close(&list);
}

/* rocBLAS 1339: gfx1031 aborts for want of a file; ollama 14927, 11420: silently on the CPU. */
static void no_code_for_it(void **state) {
    (void)state;
    add_amd(&rx6700);
    gpu_list_open(&list, rig_root);
    refused("gpu", ERR_GPU_ARCH, "RX 6700 XT is gfx1031, which this build has no code for; it has gfx906");
    gpu_list_close(&list);
    n_codes = 0;
    gpu_list_open(&list, rig_root);
    refused("gpu", ERR_GPU_ARCH, "no GPU code at all");
    gpu_list_close(&list);
}

static void facts_fail(void **state) {
    (void)state;
    add_amd(&xtx);
    rig_hip->failing = "hipDeviceTotalMem";
    rig_hip->code = 999;
    gpu_list_open(&list, rig_root);
    assert_int_equal(list.n, 1);
    refused("gpu", ERR_GPU_CALL, "hipDeviceTotalMem");
    gpu_list_close(&list);
}

/* Under WSL there is no topology: what the device loads is what it is. */
static void the_arch_by_loading(void **state) {
    (void)state;
    add_amd(&xtx);
    rig_put("/sys/class/kfd/kfd/topology/nodes/1/properties", "%s", "");
    rig_hip->loads = "gfx1101";
    gpu_list_open(&list, rig_root);
    assert_string_equal(list.device[0].facts.arch, "gfx1101");
    assert_int_equal(pick("gpu"), 0);
    gpu_list_close(&list);
    rig_hip->loads = "nothing";
    gpu_list_open(&list, rig_root);
    refused("gpu", ERR_GPU_ARCH, "gfx110?");
    gpu_list_close(&list);
}

static void more_than_there_may_be(void **state) {
    (void)state;
    char pci[20][16];
    for (int i = 0; i < 20; i++) {
        snprintf(pci[i], sizeof pci[i], "0000:%02x:00.0", i + 1);
        card c = xtx;
        c.pci = pci[i];
        add_amd(&c);
    }
    add_nvidia("NVIDIA H200", 143155, 9);
    gpu_list_open(&list, rig_root);
    assert_int_equal(list.n, GPU_MAX_DEVICES);
    gpu_list_close(&list);
}

/* --- selection */

static void by_name(void **state) {
    (void)state;
    add_amd(&xtx);
    add_amd(&w7900);
    gpu_list_open(&list, rig_root);
    /* rocm-cli 395: an index of one tool is another GPU in the next; addresses and UUIDs are not */
    static const char *const second[] = {"gpu:1",           "0000:03:00.0",         "gpu:0000:03:00.0",
                                         "03:00.0",         "GPU-a1b2c3d4e5f60718", "gpu:GPU-A1B2C3D4E5F60718",
                                         "00000000:03:00.0"};
    for (size_t i = 0; i < sizeof second / sizeof *second; i++) assert_int_equal(pick(second[i]), 1);
    static const char *const unknown[] = {"gpu:2", "gpu:4294967296", "0000:04:00.0", "GPU-a1b2c3d4e5f60719",
                                          "gpu:GPU-x"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        refused(unknown[i], ERR_GPU_NONE, "none of the 2 GPUs");
    static const char *const bad[] = {"", "gpu:", "gpu:-1", "gpu:1x", "tpu", "GPU-", "gpux", "cuda:0", "GPU"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refused(bad[i], ERR_USAGE, "names no GPU");
        assert_false(gpu_want_is_valid(bad[i]));
    }
    refused("cuda", ERR_GPU_NONE, "finds no NVIDIA GPU");
    setenv("HIP_VISIBLE_DEVICES", "0", 1);
    refused("gpu:2", ERR_GPU_NONE, "HIP_VISIBLE_DEVICES may hide it");
    gpu_list_close(&list);
}

static void nothing_there(void **state) {
    (void)state;
    rig_no_hip();
    rig_no_cuda();
    gpu_list_open(&list, rig_root);
    refused("gpu", ERR_GPU_NO_DRIVER, "/nowhere/libcuda.so.1");
    refused("hip", ERR_GPU_NO_DRIVER, "/nowhere/libamdhip64.so.7");
    refused("cuda", ERR_GPU_NO_DRIVER, "/nowhere/libcuda.so.1");
    refused("gpu:0", ERR_GPU_NO_DRIVER, "/nowhere");
    gpu_list_close(&list);
    unsetenv("ROCMFORGE_HIP_LIBRARY"); /* and as this machine is: with or without a runtime */
    unsetenv("ROCMFORGE_CUDA_LIBRARY");
    gpu_list_open(&list, rig_root);
    gpu_list_close(&list);
}

static void the_platform_that_came_furthest(void **state) {
    (void)state;
    rig_no_cuda();
    rig_hip->failing = "hipInit";
    rig_hip->code = 999;
    gpu_list_open(&list, rig_root);
    refused("gpu", ERR_GPU_DRIVER, "hipInit");
    gpu_list_close(&list);
    rig_no_hip();
    setenv("ROCMFORGE_CUDA_LIBRARY", FAKE_DIR "/fake_cuda_old.so", 1);
    gpu_list_open(&list, rig_root);
    refused("gpu", ERR_GPU_DRIVER, "cuGraphLaunch");
    gpu_list_close(&list);
}

/* An empty or foreign value hides every GPU, and looks like a machine without one. */
static void hidden(void **state) {
    (void)state;
    rig_no_cuda();
    setenv("ROCR_VISIBLE_DEVICES", "7", 1);
    gpu_list_open(&list, rig_root);
    refused("gpu", ERR_GPU_NONE, "ROCR_VISIBLE_DEVICES=7 may hide them");
    gpu_list_close(&list);
}

/* --- the doctor */

static strbuf said;

static void say(void *ctx, gpu_level level, const char *code, const char *text, const char *fix) {
    (void)ctx;
    static const char *const names[] = {"ok", "note", "warning", "error"};
    strbuf_printf(&said, "%s %s: %s", names[level], code, text);
    strbuf_printf(&said, fix ? " -> %s\n" : "%s\n", fix ? fix : "");
}

static void examine(void) {
    strbuf_clear(&said);
    gpu_list_open(&list, rig_root);
    gpu_doctor(&list, rig_root, say, NULL);
    gpu_list_close(&list);
}

static void says(const char *line) {
    if (!said.p || !strstr(said.p, line)) fail_msg("no \"%s\" in:\n%s", line, said.p ? said.p : "");
}

static void never_says(const char *line) {
    if (said.p && strstr(said.p, line)) fail_msg("\"%s\" in:\n%s", line, said.p);
}

static void healthy(void **state) {
    (void)state;
    rig_no_cuda();
    add_amd(&xtx);
    examine();
    says("ok gpu.hardware: AMD GPU 1002:744c at 0000:03:00.0\n");
    says("ok gpu.permission: /dev/kfd and the render nodes may be opened\n");
    says("ok gpu.runtime: HIP runtime 6.4 (60443484)\n");
    says("ok gpu.device: GPU 0: AMD Radeon RX 7900 XTX (gfx1100 at 0000:03:00.0, 24560 MiB)");
    says("note gpu.no_driver: ");
    never_says("warning");
    never_says("error");
    never_says("->");
}

static void without_any(void **state) {
    (void)state;
    rig_no_hip();
    rig_no_cuda();
    examine();
    says("note gpu.hardware: no AMD or NVIDIA GPU on the PCI bus");
    never_says("warning");
    never_says("error");
}

static void card_without_runtime(void **state) {
    (void)state;
    add_amd(&xtx);
    rig_no_hip();
    examine();
    says("error gpu.no_driver: ROCMFORGE_HIP_LIBRARY: /nowhere/libamdhip64.so.7 is not there");
    says("note gpu.none: CUDA driver 13.0 finds no NVIDIA GPU");
}

static void card_without_kernel_driver(void **state) {
    (void)state;
    char path[128];
    add_amd(&xtx);
    rig_hip->n = 0;
    snprintf(path, sizeof path, "%s/dev/kfd", rig_root);
    assert_int_equal(remove(path), 0);
    examine();
    says("error gpu.kernel_driver: an AMD GPU is there, but /dev/kfd is not -> run `sudo modprobe amdgpu`");
    never_says("finds no AMD GPU"); /* said once */
}

static void card_without_permission(void **state) {
    (void)state;
    add_amd(&xtx);
    rig_hip->failing = "hipInit";
    rig_hip->code = 100;
    rig_forbid("/dev/kfd", 1);
    rig_drop();
    examine();
    rig_regain();
    says("error gpu.permission: /dev/kfd may not be opened by this user: it belongs to group ");
    says(" -> run `sudo ");
    const char *first = strstr(said.p, "error ");
    assert_null(strstr(first + 1, "error ")); /* said once */
}

static void override_is_set(void **state) {
    (void)state;
    add_amd(&xtx);
    setenv("HSA_OVERRIDE_GFX_VERSION", "11.0.0", 1);
    examine();
    says("warning gpu.override: HSA_OVERRIDE_GFX_VERSION=11.0.0 makes");
    says(" -> unset HSA_OVERRIDE_GFX_VERSION");
    setenv("HSA_OVERRIDE_GFX_VERSION", "", 1); /* ODS 1786 */
    examine();
    says("an empty one hides all GPUs");
}

static void some_are_hidden(void **state) {
    (void)state;
    add_amd(&xtx);
    add_amd(&w7900);
    rig_hip->n = 1;
    examine();
    says("note gpu.hidden: 1 of 2 AMD GPUs are shown by the runtime");
    setenv("HIP_VISIBLE_DEVICES", "0", 1);
    examine();
    says(
        "warning gpu.hidden: 1 of 2 AMD GPUs are shown by the runtime: HIP_VISIBLE_DEVICES=0 hides some -> unset HIP_");
}

static void little_gtt(void **state) {
    (void)state;
    add_amd(&strix_halo);
    rig_put("/proc/meminfo", "MemTotal:       131072000 kB\n"); /* 125 GiB; GTT has 62 */
    examine();
    says("note gpu.gtt: GPU 0 may use 2048 MiB set aside for it and 63488 MiB of the host's 128000 MiB (GTT) -> boot "
         "with ttm");
    rig_amd(1, strix_halo.pci, 0x1586, 110501, 2048, 98304);
    examine();
    says("98304 MiB of the host's 128000 MiB (GTT)\n");
    rig_amd(1, strix_halo.pci, 0x1586, 110501, 2048, 8192);
    examine();
    says("warning gpu.gtt: GPU 0 may use 2048 MiB set aside for it and 8192 MiB");
    says("boot with ttm.pages_limit=24576000 ttm.page_pool_size=24576000");
}

/* ROCm 5724: MES firmware 0x83 hangs gfx1151. */
static void bad_firmware(void **state) {
    (void)state;
    add_amd(&strix_halo);
    rig_put("/sys/bus/pci/devices/0000:c5:00.0/fw_version/mes_fw_version", "0x00000083\n");
    examine();
    says("warning gpu.firmware: GPU 0: mes_fw_version 0x83 is known to hang gfx1151 -> install a newer linux-firmware");
    rig_put("/sys/bus/pci/devices/0000:c5:00.0/fw_version/mes_fw_version", "0x00000080\n");
    examine();
    never_says("gpu.firmware");
}

static void not_covered(void **state) {
    (void)state;
    add_amd(&rx6700);
    card small = raphael;
    small.gfx = 110501;
    add_amd(&small);
    examine();
    says("warning gpu.arch: AMD Radeon RX 6700 XT is gfx1031");
    says("note gpu.display_only: GPU 0: AMD Radeon Graphics (gfx1151, 1 units, 16384 MiB) only drives a display");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_card_before_the_igpu, set_up),
        cmocka_unit_test_setup(dedicated_before_large, set_up),
        cmocka_unit_test_setup(an_apu_has_two_memories, set_up),
        cmocka_unit_test_setup(an_apus_room, set_up),
        cmocka_unit_test_setup(peak_bandwidth, set_up),
        cmocka_unit_test_setup(a_card_has_one, set_up),
        cmocka_unit_test_setup(the_larger_one, set_up),
        cmocka_unit_test_setup(only_a_display, set_up),
        cmocka_unit_test_setup(no_code_for_it, set_up),
        cmocka_unit_test_setup(facts_fail, set_up),
        cmocka_unit_test_setup(the_arch_by_loading, set_up),
        cmocka_unit_test_setup(more_than_there_may_be, set_up),
        cmocka_unit_test_setup(by_name, set_up),
        cmocka_unit_test_setup(nothing_there, set_up),
        cmocka_unit_test_setup(the_platform_that_came_furthest, set_up),
        cmocka_unit_test_setup(hidden, set_up),
        cmocka_unit_test_setup(healthy, set_up),
        cmocka_unit_test_setup(without_any, set_up),
        cmocka_unit_test_setup(card_without_runtime, set_up),
        cmocka_unit_test_setup(card_without_kernel_driver, set_up),
        cmocka_unit_test_setup(card_without_permission, set_up),
        cmocka_unit_test_setup(override_is_set, set_up),
        cmocka_unit_test_setup(some_are_hidden, set_up),
        cmocka_unit_test_setup(little_gtt, set_up),
        cmocka_unit_test_setup(bad_firmware, set_up),
        cmocka_unit_test_setup(not_covered, set_up),
    };
    rig_open();
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    strbuf_free(&said);
    rig_close();
    return rc;
}
