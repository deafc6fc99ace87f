#include "backend/gpu/devices.h"

#include "backend/gpu/code.h"
#include "backend/gpu/driver_own.h"
#include "backend/gpu/sysfs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- one device's facts -------------------------------------------------------------------------------------------------- */

/* Arches that are only built as a part of a processor (LLVM's AMDGPU processor table, column "dGPU/APU"): older runtimes do not
 * say so by attribute. */
static const char *const apu_arches[] = {"gfx902",  "gfx909",  "gfx90c",  "gfx1013", "gfx1033", "gfx1035", "gfx1036",
                                         "gfx1037", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153"};

static bool is_apu(const char *arch) {
    for (size_t i = 0; i < sizeof apu_arches / sizeof *apu_arches; i++)
        if (!strcmp(arch, apu_arches[i])) return true;
    return false;
}

/* The iGPU that desktop processors have for a monitor: two units (which some runtimes count as one), or next to no memory. */
enum { DISPLAY_UNITS = 2 };
static const uint64_t DISPLAY_BYTES = 4ull << 30;

static bool only_display(const gpu_device *d) {
    return d->facts.integrated && (d->facts.n_units <= DISPLAY_UNITS || d->memory_total + d->gtt_total < DISPLAY_BYTES);
}

/* "gfx110?": the runtime does not tell the stepping. It loads only code of its own arch, so what loads tells it. */
static void settle_arch(gpu_device *d) {
    char *arch = d->facts.arch;
    size_t n = strlen(arch);
    if (n == 0 || arch[n - 1] != '?') return;
    for (uint32_t i = 0; i < gpu_code_count(); i++) {
        const gpu_code *c = gpu_code_at(i);
        gpu_module m;
        err e;
        if (strncmp(c->target, arch, n - 1) != 0 || strlen(c->target) != n) continue;
        if (d->driver->module_load(d->driver, d->index, c->data, c->n_bytes, &m, &e) != OK) continue;
        d->driver->module_unload(d->driver, d->index, m);
        snprintf(arch, sizeof d->facts.arch, "%s", c->target);
        return;
    }
}

static void find_code(gpu_device *d) {
    const gpu_facts *f = &d->facts;
    settle_arch(d);
    if (gpu_code_covers(f->arch, &d->target)) return;
    d->target = NULL;
    const char *have = gpu_code_targets();
    if (*have)
        fail(&d->why_not, ERR_GPU_ARCH, "%s is %s, which this build has no code for; it has %s", f->name, f->arch,
             have);
    else
        fail(&d->why_not, ERR_GPU_ARCH, "%s is %s, and this build has no GPU code at all (-Dgpu_targets)", f->name,
             f->arch);
}

/* An APU has two memories: what the firmware set aside, and what the kernel driver lets it map of the host's (GTT). */
static void find_memory(gpu_device *d, const char *root) {
    uint64_t vram, gtt;
    gpu_facts *f = &d->facts;
    d->memory_total = f->memory;
    if (d->driver->platform != GPU_PLATFORM_HIP) return;
    if (is_apu(f->arch)) f->integrated = true;
    if (!f->integrated || !f->pci[0]) return;
    if (!sysfs_number(&gtt, root, "/sys/bus/pci/devices/%s/mem_info_gtt_total", f->pci)) return;
    if (!sysfs_number(&vram, root, "/sys/bus/pci/devices/%s/mem_info_vram_total", f->pci)) return;
    d->memory_total = vram;
    d->gtt_total = gtt;
}

static void describe(gpu_device *d, gpu_driver *driver, uint32_t index, const char *root) {
    *d = (gpu_device){.driver = driver, .root = root, .index = index};
    if (driver->facts(driver, index, &d->facts, &d->why_not)) return;
    find_memory(d, root);
    find_code(d);
    d->display_only = only_display(d);
}

status gpu_device_room(const gpu_device *d, gpu_room *out, err *e) {
    uint64_t used = 0, gtt = d->gtt_total, vram = d->memory_total;
    status s = d->driver->memory(d->driver, d->index, &out->free_bytes, &out->total, e);
    out->own_free = out->free_bytes;
    if (s || !d->facts.integrated || !gtt) return s;
    if (out->total > vram + vram / 8) { /* the GTT is in these numbers */
        out->own_free = 0;
        return OK;
    }
    if (!sysfs_number(&used, d->root ? d->root : "", "/sys/bus/pci/devices/%s/mem_info_gtt_used", d->facts.pci))
        used = 0;
    out->free_bytes += used < gtt ? gtt - used : 0;
    out->total += gtt;
    return OK;
}

double gpu_peak_bytes_per_s(const gpu_facts *f) {
    double per_clock = 16;
    if (f->integrated) return 0;
    if (!strncmp(f->arch, "gfx94", 5) || !strncmp(f->arch, "gfx95", 5))
        per_clock = 4;
    else if (!strncmp(f->arch, "gfx9", 4) || !strncmp(f->arch, "sm_", 3))
        per_clock = 2;
    return per_clock * 1e6 * f->memory_clock_mhz * f->memory_bus_bits / 8;
}

/* --- the list ------------------------------------------------------------------------------------------------------------ */

static bool before(const gpu_device *a, const gpu_device *b) {
    bool free_a = !a->why_not.code && !a->display_only, free_b = !b->why_not.code && !b->display_only;
    if (free_a != free_b) return free_a;
    if (!a->why_not.code != !b->why_not.code) return !a->why_not.code;
    if ((a->target != NULL) != (b->target != NULL)) return a->target != NULL;
    if (a->facts.integrated != b->facts.integrated) return b->facts.integrated;
    return a->memory_total + a->gtt_total > b->memory_total + b->gtt_total;
}

/* Equals stay as the runtime has them. */
static void insert(gpu_list *l, const gpu_device *d) {
    uint32_t at = l->n++;
    for (; at && before(d, &l->device[at - 1]); at--) l->device[at] = l->device[at - 1];
    l->device[at] = *d;
}

const char *gpu_hidden_by(gpu_platform p) {
    static const char *const names[2][5] = {
        {"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "CUDA_VISIBLE_DEVICES"},
        {"CUDA_VISIBLE_DEVICES"},
    };
    for (size_t i = 0; names[p][i]; i++)
        if (getenv(names[p][i])) return names[p][i];
    return NULL;
}

static void explain_hidden(gpu_platform p, err *e) {
    const char *name = gpu_hidden_by(p);
    err was = *e;
    if (was.code != ERR_GPU_NONE || !name) return;
    fail(e, was.code, "%s; %s=%.80s may hide them: unset it", was.text, name, getenv(name));
}

void gpu_list_open(gpu_list *l, const char *root) {
    *l = (gpu_list){0};
    static status (*const open[2])(gpu_driver **, const char *, err *) = {gpu_driver_open_hip_at,
                                                                          gpu_driver_open_cuda_at};
    for (int p = 0; p < 2; p++) {
        gpu_device d;
        if (open[p](&l->driver[p], root, &l->why[p])) explain_hidden((gpu_platform)p, &l->why[p]);
        for (uint32_t i = 0; l->driver[p] && i < l->driver[p]->n_devices && l->n < GPU_MAX_DEVICES; i++) {
            describe(&d, l->driver[p], i, root);
            insert(l, &d);
        }
    }
}

void gpu_list_measure(gpu_list *l) {
    for (uint32_t i = 0; i < l->n; i++) {
        gpu_device *d = &l->device[i];
        gpu_room room;
        if (d->why_not.code) continue;
        if (gpu_device_room(d, &room, &d->why_not) == OK) d->memory_free = room.free_bytes;
    }
}

void gpu_list_close(gpu_list *l) {
    for (int p = 0; p < 2; p++)
        if (l->driver[p]) l->driver[p]->close(l->driver[p]);
    *l = (gpu_list){0};
}

/* --- which one ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    enum { WANT_BEST, WANT_INDEX, WANT_PCI, WANT_UUID } kind;
    int platform; /* gpu_platform, -1: any */
    uint32_t index;
    char pci[16];
    const char *uuid;
} wanted;

static bool read_index(uint32_t *out, const char *text) {
    char *end;
    if (*text < '0' || *text > '9') return false;
    unsigned long v = strtoul(text, &end, 10);
    *out = v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
    return !*end;
}

static bool read_wanted(wanted *w, const char *want) {
    *w = (wanted){.platform = -1};
    if (!strcmp(want, "gpu")) return true;
    if (!strcmp(want, "hip")) w->platform = GPU_PLATFORM_HIP;
    if (!strcmp(want, "cuda")) w->platform = GPU_PLATFORM_CUDA;
    if (w->platform >= 0) return true;
    bool prefixed = strncmp(want, "gpu:", 4) == 0;
    const char *name = prefixed ? want + 4 : want;
    w->kind = WANT_INDEX;
    if (prefixed && read_index(&w->index, name)) return true;
    w->kind = WANT_PCI;
    if (pci_address(w->pci, name)) return true;
    w->kind = WANT_UUID;
    w->uuid = name;
    return strncasecmp(name, "GPU-", 4) == 0 && name[4];
}

bool gpu_want_is_valid(const char *want) {
    wanted w;
    return read_wanted(&w, want);
}

static bool is_wanted(const wanted *w, const gpu_list *l, uint32_t i) {
    const gpu_device *d = &l->device[i];
    switch (w->kind) {
    case WANT_BEST: return w->platform < 0 || d->driver->platform == (gpu_platform)w->platform;
    case WANT_INDEX: return w->index == i;
    case WANT_PCI: return !strcmp(w->pci, d->facts.pci);
    case WANT_UUID: return d->facts.uuid[0] && !strcasecmp(w->uuid, d->facts.uuid);
    }
    return false;
}

/* Without a device the platform that came furthest has the reason; without either runtime both are named. */
static status why_no_platform(const gpu_list *l, const wanted *w, err *e) {
    const err *hip = &l->why[GPU_PLATFORM_HIP], *cuda = &l->why[GPU_PLATFORM_CUDA];
    if (w->kind == WANT_BEST && w->platform >= 0) {
        *e = l->why[w->platform];
        return e->code;
    }
    bool given = getenv("ROCMFORGE_HIP_LIBRARY") || getenv("ROCMFORGE_CUDA_LIBRARY");
    if (hip->code == ERR_GPU_NO_DRIVER && cuda->code == ERR_GPU_NO_DRIVER && !given)
        return fail(e, ERR_GPU_NO_DRIVER,
                    "no GPU runtime on this system: neither libamdhip64 (AMD) nor libcuda (NVIDIA)");
    if (hip->code == ERR_GPU_NO_DRIVER && cuda->code == ERR_GPU_NO_DRIVER)
        return fail(e, ERR_GPU_NO_DRIVER, "%.230s, %.*s", hip->text, (int)strcspn(cuda->text, ";"), cuda->text);
    *e = hip->code == ERR_GPU_NO_DRIVER || !hip->code ? *cuda : *hip;
    return e->code;
}

static status why_none(const gpu_list *l, const char *want, const wanted *w, err *e) {
    bool of_platform = w->kind == WANT_BEST && w->platform >= 0;
    if (l->n == 0 || (of_platform && l->why[w->platform].code)) return why_no_platform(l, w, e);
    const char *hidden = gpu_hidden_by(GPU_PLATFORM_HIP);
    return fail(e, ERR_GPU_NONE, "%s is none of the %u GPUs here (`rocmforge devices` lists them)%s%s%s", want, l->n,
                hidden ? "; " : "", hidden ? hidden : "", hidden ? " may hide it" : "");
}

status gpu_list_pick(const gpu_list *l, const char *want, uint32_t *out, err *e) {
    wanted w;
    *out = 0;
    if (!read_wanted(&w, want))
        return fail(e, ERR_USAGE, "%s names no GPU: give gpu, hip, cuda, gpu:N, a UUID or a PCI address", want);
    for (uint32_t i = 0; i < l->n; i++) {
        const gpu_device *d = &l->device[i];
        if (!is_wanted(&w, l, i)) continue;
        if (d->why_not.code) return fail_in(e, (*e = d->why_not).code, "GPU %u: ", i); /* the rest is ranked below it */
        if (d->display_only && w.kind == WANT_BEST)
            return fail(e, ERR_GPU_NONE,
                        "GPU %u (%s) only drives a display: %u units, %llu MiB; --device gpu:%u takes it nevertheless",
                        i, d->facts.name, d->facts.n_units, (unsigned long long)(d->memory_total + d->gtt_total) >> 20,
                        i);
        *out = i;
        return OK;
    }
    return why_none(l, want, &w, e);
}
