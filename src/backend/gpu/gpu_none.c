/* In place of gpu.c, as long as there is none: devices are found, and none can be used. */
#include "backend/gpu/gpu.h"

status gpu_backend_open(backend **out, const gpu_options *opt, err *e) {
    *out = NULL;
    return fail(e, ERR_UNSUPPORTED, "%s: this build has no GPU backend yet; use --device cpu",
                opt->list->device[opt->device].facts.name);
}
