/* Code objects: their target must be the device's, and their symbols say which kernels they have; what runs is the host form
 * of the same name (or, in the emulator, the code itself). */
#include "standin_own.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ELF_AMDGPU = 224, MACH_MASK = 0xff, MOST_FUNCTIONS = 128 };

struct module {
    int dev;
    uint32_t emulator_id, n_functions;
    char *names; /* of the kernels, each with its NUL; an empty one ends them. NULL: the file has no symbols */
    function functions[MOST_FUNCTIONS];
};

/* e_flags & 0xff of the AMDGPU ABI (LLVM's AMDGPUUsage, "ELF header flags") */
static const struct {
    unsigned mach;
    const char *arch;
} machs[] = {
    {0x02f, "gfx906"},  {0x030, "gfx908"},  {0x03f, "gfx90a"},  {0x04c, "gfx942"},  {0x04f, "gfx950"},
    {0x036, "gfx1030"}, {0x041, "gfx1100"}, {0x046, "gfx1101"}, {0x047, "gfx1102"}, {0x044, "gfx1103"},
    {0x043, "gfx1150"}, {0x04a, "gfx1151"}, {0x048, "gfx1200"}, {0x04e, "gfx1201"},
};

static const char *target_of(const Elf64_Ehdr *h) {
    for (size_t i = 0; i < sizeof machs / sizeof *machs; i++)
        if (machs[i].mach == (h->e_flags & MACH_MASK)) return machs[i].arch;
    return "";
}

/* An ELF file knows its size: the end of its section headers, which the linker writes last. */
static size_t file_bytes(const Elf64_Ehdr *h) { return h->e_shoff + (size_t)h->e_shnum * h->e_shentsize; }

/* The names that have a kernel descriptor, NAME.kd, in the file's dynamic symbols. */
static char *kernel_names(const unsigned char *file) {
    const Elf64_Ehdr *h = (const void *)file;
    const Elf64_Shdr *sections = (const void *)(file + h->e_shoff);
    for (unsigned i = 0; i < h->e_shnum; i++) {
        if (sections[i].sh_type != SHT_DYNSYM) continue;
        const Elf64_Shdr *strings = &sections[sections[i].sh_link];
        const Elf64_Sym *symbols = (const void *)(file + sections[i].sh_offset);
        char *names = calloc(1, strings->sh_size + 1), *to = names;
        if (!names) return NULL;
        for (size_t s = 0; s < sections[i].sh_size / sizeof *symbols; s++) {
            const char *name = (const char *)file + strings->sh_offset + symbols[s].st_name;
            const size_t n = strlen(name);
            if (n <= 3 || strcmp(name + n - 3, ".kd") != 0) continue;
            memcpy(to, name, n - 3);
            to += n - 2;
        }
        return names;
    }
    return NULL;
}

static bool has_kernel(const module *m, const char *name) {
    if (!m->names) return true;
    for (const char *n = m->names; *n; n += strlen(n) + 1)
        if (!strcmp(n, name)) return true;
    return false;
}

int module_device(const module *m) { return m->dev; }
uint32_t module_emulator_id(const module *m) { return m->emulator_id; }

static hip_error load(module **out, const unsigned char *code) {
    const Elf64_Ehdr *h = (const void *)code;
    const int dev = current_device();
    char why[512] = "";
    if (memcmp(code, ELFMAG, SELFMAG) != 0 || code[EI_CLASS] != ELFCLASS64 || h->e_machine != ELF_AMDGPU)
        return HIP_INVALID_IMAGE;
    if (strcmp(target_of(h), devices[dev].arch) != 0) return HIP_NO_BINARY_FOR_GPU;
    module *m = calloc(1, sizeof *m);
    if (!m) return HIP_OUT_OF_MEMORY;
    m->dev = dev;
    if (h->e_shnum) m->names = kernel_names(code);
    if (emulator_wanted() && !emulator_load(code, file_bytes(h), devices[dev].arch, &m->emulator_id, why, sizeof why)) {
        free(m->names);
        free(m);
        return break_device(dev, HIP_INVALID_IMAGE, "%s", why);
    }
    *out = m;
    return HIP_SUCCESS;
}

static hip_error find(function **out, module *m, const char *name) {
    const simt_kernel *host = simt_find(name, (uint32_t)devices[m->dev].wave);
    if (!host || !has_kernel(m, name)) return HIP_NOT_FOUND;
    for (uint32_t i = 0; i < m->n_functions; i++)
        if (m->functions[i].host == host) return *out = &m->functions[i], HIP_SUCCESS;
    if (m->n_functions == MOST_FUNCTIONS) return HIP_OUT_OF_MEMORY;
    function *f = &m->functions[m->n_functions++];
    *f = (function){.name = simt_name(host), .host = host, .m = m};
    *out = f;
    return HIP_SUCCESS;
}

hip_error run_launch(int dev, const launch *l) {
    char why[900] = "";
    const char *name = l->f->name;
    const launch_fault fault = fault_of_launch(name);
    counts.launches++;
    log_line("launch %s %u %u %u %u", name, l->grid[0], l->grid[1], l->grid[2], l->block);
    if (fault == FAULT_SKIP) return HIP_SUCCESS;
    if (fault == FAULT_FAIL) return break_device(dev, HIP_LAUNCH_FAILURE, "kernel %s fails as it was told to", name);
    if (fault == FAULT_FLIP) flip_before(dev);
    const bool ok = emulator_wanted()
                        ? emulator_run(module_emulator_id(l->f->m), l, why, sizeof why)
                        : simt_launch(l->f->host, l->grid, l->block, l->args, l->args_bytes, why, sizeof why);
    if (fault == FAULT_FLIP) flip_after(dev);
    if (!ok) return break_device(dev, HIP_LAUNCH_FAILURE, "%s", why);
    check_guards(dev, name);
    return devices[dev].broken;
}

/* -- HIP -- */

hip_error hipModuleLoadData(hip_module *out, const void *code) {
    standin_lock();
    module *m = NULL;
    hip_error rc = fault_of_call("hipModuleLoadData");
    if (!rc) rc = devices[current_device()].broken;
    if (!rc) rc = load(&m, code);
    counts.live_objects += !rc;
    *out = m;
    standin_unlock();
    return rc;
}

hip_error hipModuleUnload(hip_module h) {
    module *m = h;
    standin_lock();
    const hip_error rc = fault_of_call("hipModuleUnload");
    counts.live_objects -= !rc;
    standin_unlock();
    if (rc) return rc;
    free(m->names);
    free(m);
    return HIP_SUCCESS;
}

hip_error hipModuleGetFunction(hip_function *out, hip_module h, const char *name) {
    standin_lock();
    function *f = NULL;
    hip_error rc = fault_of_call("hipModuleGetFunction");
    if (!rc) rc = find(&f, h, name);
    *out = f;
    standin_unlock();
    return rc;
}
