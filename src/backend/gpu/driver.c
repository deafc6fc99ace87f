#include "backend/gpu/driver_own.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whether dlopen failed because there is no such file. A soname that is found nowhere is named in the message as it was asked
 * for; one that is found and fails is named with its path, and a library that it needs by that library's name. */
static bool is_absent(const char *name, const char *message) {
    size_t n = strlen(name);
    if (strchr(name, '/')) return access(name, F_OK) != 0;
    return strncmp(message, name, n) == 0 && message[n] == ':';
}

static status open_one(gpu_library *l, const char *name, bool *absent, err *e) {
    snprintf(l->name, sizeof l->name, "%s", name);
    l->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    *absent = false;
    if (l->handle) return OK;
    const char *why = dlerror();
    if (!why) why = "dlopen gives no reason";
    *absent = is_absent(name, why);
    if (*absent) return fail(e, ERR_GPU_NO_DRIVER, "%.200s is not there", name);
    return fail(e, ERR_GPU_DRIVER, "%.200s is there and cannot be loaded: %.200s; reinstall the GPU's runtime", name,
                why);
}

status gpu_library_open(gpu_library *l, const char *env, const char *const *names, err *e) {
    const char *given = getenv(env);
    bool absent = false;
    if (given && *given) {
        status s = open_one(l, given, &absent, e);
        return s ? fail_in(e, s, "%s: ", env) : OK;
    }
    for (size_t i = 0; names[i]; i++) {
        status s = open_one(l, names[i], &absent, e);
        if (!absent) return s;
    }
    return fail(e, ERR_GPU_NO_DRIVER, "%s is not on this system", names[0]);
}

void gpu_library_close(gpu_library *l) {
    if (l->handle) dlclose(l->handle);
    l->handle = NULL;
}

const char *gpu_library_bind(const gpu_library *l, void *table, const gpu_symbol *symbols, size_t n) {
    const char *missing = NULL;
    for (size_t i = 0; i < n; i++) {
        void *p = dlsym(l->handle, symbols[i].name);
        memcpy((char *)table + symbols[i].at, &p, sizeof p); /* POSIX: a function's address fits */
        if (!p && !missing) missing = symbols[i].name;
    }
    return missing;
}
