/* The kernels of this device out of the binary: one module a file. Loading compiles PTX on NVIDIA, which takes a moment. */
#include "backend/gpu/code.h"
#include "backend/gpu/gpu_profile.h"
#include "base/mem.h"

#include <string.h>

status gpu_modules_load(gpu_backend *g, err *e) {
    uint32_t n = gpu_code_count();
    const char *target = g->device->target;
    if (!target)
        return fail(e, ERR_GPU_ARCH, "%s (%s): this build has no code for it", g->device->facts.name,
                    g->device->facts.arch);
    g->module = mem_array(n ? n : 1, sizeof *g->module);
    if (!g->module) return fail(e, ERR_NOMEM, "kernels of the GPU");
    status s = OK;
    for (uint32_t i = 0; !s && i < n; i++) {
        const gpu_code *c = gpu_code_at(i);
        if (strcmp(c->target, target) != 0) continue;
        s = g->d->module_load(g->d, g->dev, c->data, c->n_bytes, &g->module[g->n_modules], e);
        if (s) return fail_in(e, s, "kernels/%s.hip for %s: ", c->file, target);
        g->n_modules++;
    }
    return s;
}

void gpu_modules_unload(gpu_backend *g) {
    for (uint32_t i = 0; i < g->n_modules; i++) g->d->module_unload(g->d, g->dev, g->module[i]);
    mem_free(g->module);
    g->module = NULL;
    g->n_modules = 0;
}

status gpu_kernel_of(gpu_backend *g, const char *name, gpu_kernel *out, err *e) {
    for (uint32_t i = 0; i < g->n_modules; i++)
        if (g->d->kernel_find(g->d, g->dev, g->module[i], name, out, NULL) == OK) {
            gpu_profile_name(g, *out, name);
            return OK;
        }
    return fail(e, ERR_UNSUPPORTED, "this build's code for %s has no kernel %s", g->device->target, name);
}
