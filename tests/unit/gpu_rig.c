#include "gpu_rig.h"

#include "check.h"

#include <dlfcn.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

char rig_root[64];
fake_gpu *rig_hip, *rig_cuda;
static void *library[2];

static fake_gpu *load(void **handle, const char *path) {
    *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!*handle) fail_msg("%s", dlerror());
    return dlsym(*handle, "fake");
}

void rig_open(void) {
    rig_hip = load(&library[0], FAKE_DIR "/fake_hip.so");
    rig_cuda = load(&library[1], FAKE_DIR "/fake_cuda.so");
    assert_true(rig_hip && rig_cuda);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void remove_tree(void) {
    if (rig_root[0]) nftw(rig_root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    rig_root[0] = 0;
}

void rig_clean(void) {
    static const char *const names[] = {"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
                                        "CUDA_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION"};
    remove_tree();
    strcpy(rig_root, "/tmp/rf-gpu-XXXXXX");
    assert_non_null(mkdtemp(rig_root));
    chmod(rig_root, 0755);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unsetenv(names[i]);
    setenv("ROCMFORGE_HIP_LIBRARY", FAKE_DIR "/fake_hip.so", 1);
    setenv("ROCMFORGE_CUDA_LIBRARY", FAKE_DIR "/fake_cuda.so", 1);
    *rig_hip = (fake_gpu){.version = 60443484};
    *rig_cuda = (fake_gpu){.version = 13000, .current = -1};
}

void rig_close(void) {
    remove_tree();
    for (int i = 0; i < 2; i++)
        if (library[i]) dlclose(library[i]);
}

void rig_put(const char *path, const char *fmt, ...) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", rig_root, path);
    for (char *p = full + strlen(rig_root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0755);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    if (!f) fail_msg("%s", full);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(f, fmt, ap);
    va_end(ap);
    fclose(f);
    chmod(full, 0666);
}

void rig_forbid(const char *path, unsigned gid) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", rig_root, path);
    assert_int_equal(chmod(full, 0), 0);
    if (geteuid() == 0) assert_int_equal(chown(full, 0, gid), 0);
}

void rig_drop(void) {
    if (getuid() == 0) assert_int_equal(seteuid(65534), 0);
}

void rig_regain(void) {
    if (getuid() == 0) assert_int_equal(seteuid(0), 0);
}

void rig_amd(unsigned node, const char *pci, unsigned device, unsigned gfx_version, unsigned vram_mib,
             unsigned gtt_mib) {
    char path[256];
    unsigned domain, bus, slot, function;
    assert_int_equal(sscanf(pci, "%x:%x:%x.%x", &domain, &bus, &slot, &function), 4);
    rig_put("/sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 16\ngfx_target_version 0\n");
    snprintf(path, sizeof path, "/sys/class/kfd/kfd/topology/nodes/%u/properties", node);
    rig_put(path, "cpu_cores_count 0\nsimd_count 192\nlocation_id %u\ndomain %u\ngfx_target_version %u\n",
            bus << 8 | slot << 3 | function, domain, gfx_version);
    rig_put("/dev/kfd", "%s", "");
    snprintf(path, sizeof path, "/dev/dri/renderD%u", 128 + node);
    rig_put(path, "%s", "");
    snprintf(path, sizeof path, "/sys/class/drm/renderD%u/device/vendor", 128 + node);
    rig_put(path, "0x1002\n");
    const struct {
        const char *name;
        unsigned long long v;
    } file[] = {{"vendor", 0x1002},
                {"device", device},
                {"class", 0x030000},
                {"mem_info_vram_total", (unsigned long long)vram_mib << 20},
                {"mem_info_gtt_total", (unsigned long long)gtt_mib << 20}};
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/%s", pci, file[i].name);
        rig_put(path, i < 3 ? "0x%llx\n" : "%llu\n", file[i].v);
    }
}

void rig_no_hip(void) { setenv("ROCMFORGE_HIP_LIBRARY", "/nowhere/libamdhip64.so.7", 1); }
void rig_no_cuda(void) { setenv("ROCMFORGE_CUDA_LIBRARY", "/nowhere/libcuda.so.1", 1); }
