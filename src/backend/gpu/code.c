/* The kernels inside the binary, looked up by file and target. */
#include "backend/gpu/code.h"

#include "backend/gpu/code_table.h"

#include <string.h>

uint32_t gpu_code_count(void) { return gpu_code_table_n; }
const gpu_code *gpu_code_at(uint32_t i) { return i < gpu_code_table_n ? &gpu_code_table[i] : NULL; }
const char *gpu_code_targets(void) { return gpu_code_table_targets; }

/* The number behind "sm_", which grows with what a GPU can do; 0: not such a name. "sm_90a" is 90. */
static uint32_t sm_number(const char *name, size_t n) {
    if (n < 4 || memcmp(name, "sm_", 3) != 0) return 0;
    uint32_t number = 0;
    for (size_t i = 3; i < n && name[i] >= '0' && name[i] <= '9' && number < 100000; i++)
        number = number * 10 + (uint32_t)(name[i] - '0');
    return number;
}

/* Code built without a word about features runs whatever they are set to. PTX is compiled by the driver for any later GPU. */
static bool fits(const char *target, const char *arch, size_t n_arch) {
    uint32_t have = sm_number(target, strlen(target));
    if (have) return sm_number(arch, n_arch) >= have;
    return strlen(target) == n_arch && memcmp(target, arch, n_arch) == 0;
}

/* Of several PTX targets the highest that fits is the best one; AMD names fit once. */
bool gpu_code_covers(const char *arch, const char **target) {
    size_t n = strcspn(arch, ":"); /* "gfx90a:sramecc+:xnack-" */
    const char *best = NULL;
    for (uint32_t i = 0; i < gpu_code_table_n; i++) {
        const char *t = gpu_code_table[i].target;
        if (fits(t, arch, n) && (!best || sm_number(t, strlen(t)) > sm_number(best, strlen(best)))) best = t;
    }
    if (target) *target = best;
    return best != NULL;
}

const gpu_code *gpu_code_find(const char *file, const char *target) {
    for (uint32_t i = 0; i < gpu_code_table_n; i++) {
        const gpu_code *c = &gpu_code_table[i];
        if (strcmp(c->file, file) == 0 && strcmp(c->target, target) == 0) return c;
    }
    return NULL;
}
