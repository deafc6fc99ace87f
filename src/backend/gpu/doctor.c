/* What is wrong with this machine's GPUs, and the one thing to do about each. Looks at the PCI bus, the device nodes and the
 * environment beside the list, so that a GPU that no runtime shows is missed by nobody.
 * Messages of this room put what to do behind "; ": that part becomes the fix. */
#include "backend/gpu/code.h"
#include "backend/gpu/devices.h"
#include "backend/gpu/sysfs.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PCI_MOST = 64, TEXT_BYTES = 512 };

typedef struct {
    const gpu_list *list;
    const char *root;
    gpu_say say;
    void *ctx;
    pci_gpu bus[PCI_MOST];
    uint32_t n_bus, n_amd, n_nvidia;
} checkup;

__attribute__((format(printf, 5, 6))) static void say(const checkup *c, gpu_level level, const char *code,
                                                      const char *fix, const char *fmt, ...) {
    char text[TEXT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->say(c->ctx, level, code, text, fix);
}

static void say_err(const checkup *c, gpu_level level, const err *why) {
    char text[sizeof why->text];
    snprintf(text, sizeof text, "%s", why->text);
    char *fix = strstr(text, "; ");
    if (fix) *fix = 0;
    c->say(c->ctx, level, err_lookup(why->code)->code, text, fix && level > GPU_FINDING_NOTE ? fix + 2 : NULL);
}

/* --- the hardware, and the way to it ------------------------------------------------------------------------------------- */

static void look_at_bus(checkup *c) {
    c->n_bus = pci_gpus(c->bus, PCI_MOST, c->root);
    for (uint32_t i = 0; i < c->n_bus; i++) {
        const pci_gpu *g = &c->bus[i];
        bool amd = g->vendor == PCI_VENDOR_AMD;
        amd ? c->n_amd++ : c->n_nvidia++;
        say(c, GPU_FINDING_OK, "gpu.hardware", NULL, "%s GPU %04x:%04x at %s", amd ? "AMD" : "NVIDIA", g->vendor,
            g->device, g->pci);
    }
    if (c->n_bus == 0)
        say(c, GPU_FINDING_NOTE, "gpu.hardware", NULL, "no AMD or NVIDIA GPU on the PCI bus: the CPU computes");
}

static void look_at_nodes(const checkup *c) {
    static const char *const fix =
        "run `sudo modprobe amdgpu`, or start the container with --device /dev/kfd --device /dev/dri";
    bool exists;
    err why;
    if (c->n_amd == 0) return;
    if (amd_nodes_check(c->root, &exists, &why))
        say_err(c, GPU_FINDING_ERROR, &why);
    else if (!exists)
        say(c, GPU_FINDING_ERROR, "gpu.kernel_driver", fix, "an AMD GPU is there, but /dev/kfd is not");
    else
        say(c, GPU_FINDING_OK, "gpu.permission", NULL, "/dev/kfd and the render nodes may be opened");
}

/* A runtime that is missing is an error where its GPUs are, and of no interest elsewhere. What the nodes explain is said. */
static void look_at_runtime(const checkup *c, gpu_platform p, uint32_t n_there) {
    const err *why = &c->list->why[p];
    if (!why->code) {
        say(c, GPU_FINDING_OK, "gpu.runtime", NULL, "%s", c->list->driver[p]->version);
        return;
    }
    bool exists;
    err node;
    bool explained = p == GPU_PLATFORM_HIP && n_there && (amd_nodes_check(c->root, &exists, &node) || !exists);
    if (explained && (why->code == ERR_GPU_PERMISSION || why->code == ERR_GPU_NONE)) return;
    say_err(c, n_there ? GPU_FINDING_ERROR : GPU_FINDING_NOTE, why);
}

/* --- the devices --------------------------------------------------------------------------------------------------------- */

static void look_at_device(const checkup *c, uint32_t i) {
    const gpu_device *d = &c->list->device[i];
    const gpu_facts *f = &d->facts;
    unsigned long long mib = (d->memory_total + d->gtt_total) >> 20;
    if (d->why_not.code)
        say_err(c, GPU_FINDING_WARNING, &d->why_not);
    else if (d->display_only)
        say(c, GPU_FINDING_NOTE, "gpu.display_only", NULL,
            "GPU %u: %s (%s, %u units, %llu MiB) only drives a display; it is not taken unless it is named", i, f->name,
            f->arch, f->n_units, mib);
    else
        say(c, GPU_FINDING_OK, "gpu.device", NULL, "GPU %u: %s (%s at %s, %llu MiB): this build has code for it", i,
            f->name, f->arch, f->pci, mib);
}

static uint32_t n_of(const gpu_list *l, gpu_platform p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i++) n += l->device[i].driver->platform == p;
    return n;
}

static void look_for_hidden(const checkup *c, gpu_platform p, uint32_t n_there) {
    uint32_t n = n_of(c->list, p);
    const char *name = gpu_hidden_by(p);
    char fix[80];
    if (!c->list->driver[p] || n >= n_there) return;
    snprintf(fix, sizeof fix, "unset %s", name ? name : "");
    if (name)
        say(c, GPU_FINDING_WARNING, "gpu.hidden", fix, "%u of %u %s GPUs are shown by the runtime: %s=%.80s hides some",
            n, n_there, p == GPU_PLATFORM_HIP ? "AMD" : "NVIDIA", name, getenv(name));
    else
        say(c, GPU_FINDING_NOTE, "gpu.hidden", NULL, "%u of %u %s GPUs are shown by the runtime", n, n_there,
            p == GPU_PLATFORM_HIP ? "AMD" : "NVIDIA");
}

static void look_for_override(const checkup *c) {
    const char *value = getenv("HSA_OVERRIDE_GFX_VERSION");
    if (!value) return;
    say(c, GPU_FINDING_WARNING, "gpu.override", "unset HSA_OVERRIDE_GFX_VERSION; this build needs none",
        "HSA_OVERRIDE_GFX_VERSION=%.40s makes the runtime take the GPU for another: %s", value,
        *value ? "code for the wrong arch hangs or computes wrong numbers" : "an empty one hides all GPUs");
}

/* --- what is known to go wrong ------------------------------------------------------------------------------------------- */

/* An APU can use what the firmware set aside and what GTT allows: half of the host's memory, unless ttm says otherwise. */
static void look_at_gtt(const checkup *c, uint32_t i) {
    const gpu_device *d = &c->list->device[i];
    char fix[200], line[128];
    unsigned long long ram_kib = 0;
    if (!d->gtt_total || d->display_only) return;
    if (sysfs_text(line, sizeof line, c->root, "/proc/meminfo")) (void)sscanf(line, "MemTotal: %llu", &ram_kib);
    unsigned long long ram = ram_kib << 10, pages = ram / 4 * 3 / 4096, vram = d->memory_total, gtt = d->gtt_total;
    snprintf(fix, sizeof fix, "boot with ttm.pages_limit=%llu ttm.page_pool_size=%llu for three quarters of the memory",
             pages, pages);
    bool little = gtt < ram / 100 * 45; /* less than the kernel's own half: somebody lowered it */
    say(c, little ? GPU_FINDING_WARNING : GPU_FINDING_NOTE, "gpu.gtt", gtt < ram / 10 * 7 ? fix : NULL,
        "GPU %u may use %llu MiB set aside for it and %llu MiB of the host's %llu MiB (GTT)", i, vram >> 20, gtt >> 20,
        ram >> 20);
}

/* Firmware that is known to lose the GPU: ROCm issue 5724 (gfx1151 hangs with MES 0x83). */
static const struct {
    const char *arch, *file;
    uint32_t mask, version;
} bad_firmware[] = {{"gfx1151", "mes_fw_version", 0xFFF, 0x83}};

static void look_at_firmware(const checkup *c, uint32_t i) {
    const gpu_device *d = &c->list->device[i];
    uint64_t v;
    for (size_t k = 0; k < sizeof bad_firmware / sizeof *bad_firmware; k++) {
        if (strcmp(d->facts.arch, bad_firmware[k].arch) != 0) continue;
        if (!sysfs_number(&v, c->root, "/sys/bus/pci/devices/%s/fw_version/%s", d->facts.pci, bad_firmware[k].file))
            continue;
        if ((v & bad_firmware[k].mask) == bad_firmware[k].version)
            say(c, GPU_FINDING_WARNING, "gpu.firmware", "install a newer linux-firmware and reboot",
                "GPU %u: %s 0x%llx is known to hang %s", i, bad_firmware[k].file, (unsigned long long)v, d->facts.arch);
    }
}

void gpu_doctor(const gpu_list *l, const char *root, gpu_say each, void *ctx) {
    checkup c = {.list = l, .root = root, .say = each, .ctx = ctx};
    look_at_bus(&c);
    look_at_nodes(&c);
    look_at_runtime(&c, GPU_PLATFORM_HIP, c.n_amd);
    look_at_runtime(&c, GPU_PLATFORM_CUDA, c.n_nvidia);
    look_for_hidden(&c, GPU_PLATFORM_HIP, c.n_amd);
    look_for_hidden(&c, GPU_PLATFORM_CUDA, c.n_nvidia);
    look_for_override(&c);
    for (uint32_t i = 0; i < l->n; i++) {
        look_at_device(&c, i);
        look_at_gtt(&c, i);
        look_at_firmware(&c, i);
    }
}
