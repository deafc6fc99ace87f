/* This machine: devices, how much memory is left, and how fast it is. */
#include "api/api.h"

#include "backend/cpu/cpu.h"
#include "backend/cpu/pool.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

void api_gpus_close(gpu_list *l) {
    if (l) gpu_list_close(l);
    mem_free(l);
}

status api_gpus_open(gpu_list **out, err *e) {
    gpu_list *l = *out = mem_zalloc(sizeof *l);
    if (!l) return fail(e, ERR_NOMEM, "the list of GPUs");
    gpu_list_open(l, "");
    const err *bad = NULL;
    for (int p = GPU_PLATFORM_HIP; p <= GPU_PLATFORM_CUDA; p++)
        if (l->why[p].code == ERR_NOMEM) bad = &l->why[p];
    for (uint32_t i = 0; i < l->n; i++)
        if (l->device[i].why_not.code == ERR_NOMEM) bad = &l->device[i].why_not;
    if (!bad) return OK;
    *e = *bad;
    api_gpus_close(l);
    *out = NULL;
    return ERR_NOMEM;
}

static json_t *cpu_device(void) {
    strbuf name = {0};
    cpu_name(&name);
    cpu_ops best;
    cpu_ops_init(&best, cpu_tier_best());
    json_t *tiers = json_array();
    for (int t = TIER_SCALAR; t <= (int)cpu_tier_best(); t++) {
        cpu_ops ops;
        cpu_ops_init(&ops, (cpu_tier)t);
        api_append(&tiers, json_string(ops.name));
    }
    json_t *cpu = json_pack("{ss so ss so si}", "kind", "cpu", "name", api_text(&name), "tier", best.name, "tiers",
                            tiers, "threads", (int)cpu_default_threads());
    strbuf_free(&name);
    return cpu;
}

const char *api_platform(gpu_platform p) { return p == GPU_PLATFORM_HIP ? "hip" : "cuda"; }

static json_t *reason(const err *why) {
    return json_pack("{ss ss}", "code", err_lookup(why->code)->code, "text", why->text);
}

static json_t *gpu_object(const gpu_device *d, uint32_t i) {
    const gpu_facts *f = &d->facts;
    err why = d->why_not;
    bool usable = !why.code;
    if (usable && d->display_only) fail(&why, ERR_GPU_NONE, "it only drives a display; taken when it is named");
    json_t *v =
        json_pack("{ss si ss ss ss ss* ss ss sI sI sI si si si si si sb sb}", "kind", "gpu", "index", (int)i,
                  "platform", api_platform(d->driver->platform), "name", f->name, "arch", f->arch, "target", d->target,
                  "uuid", f->uuid, "pci", f->pci, "memory_bytes", (json_int_t)d->memory_total, "memory_free_bytes",
                  (json_int_t)d->memory_free, "gtt_bytes", (json_int_t)d->gtt_total, "units", (int)f->n_units, "wave",
                  (int)f->wave, "clock_mhz", (int)f->clock_mhz, "memory_clock_mhz", (int)f->memory_clock_mhz,
                  "memory_bus_bits", (int)f->memory_bus_bits, "integrated", (int)f->integrated, "usable", (int)usable);
    if (why.code) api_set(&v, "reason", reason(&why));
    return v;
}

static json_t *runtime_object(const gpu_list *l, gpu_platform p) {
    const gpu_driver *d = l->driver[p];
    json_t *v =
        json_pack("{ss ss ss*}", "kind", "runtime", "platform", api_platform(p), "version", d ? d->version : NULL);
    if (!d) api_set(&v, "reason", reason(&l->why[p]));
    return v;
}

static json_t *every_device(gpu_list *l) {
    json_t *all = json_array();
    gpu_list_measure(l);
    api_append(&all, cpu_device());
    for (uint32_t i = 0; i < l->n; i++) api_append(&all, gpu_object(&l->device[i], i));
    for (int p = GPU_PLATFORM_HIP; p <= GPU_PLATFORM_CUDA; p++) api_append(&all, runtime_object(l, (gpu_platform)p));
    return all;
}

char *rf_devices(rf_error *e) {
    json_init();
    err why = {0};
    gpu_list *l;
    char *text = NULL;
    status s = api_gpus_open(&l, &why);
    if (!s) text = api_json(every_device(l), &s, &why);
    api_gpus_close(l);
    api_result(s, &why, e);
    return text;
}

/* --- memory that is left ---------------------------------------------------------------------------------------------- */

bool api_read_number(const char *path, const char *key, uint64_t *out) {
    FILE *f = fopen(path, "r");
    char line[128];
    unsigned long long v = 0;
    bool found = false;
    size_t n = strlen(key);
    while (f && !found && fgets(line, sizeof line, f))
        found = strncmp(line, key, n) == 0 && sscanf(line + n, "%llu", &v) == 1;
    if (f) fclose(f);
    *out = v;
    return found;
}

/* What the limit of one control group (version 2) leaves. The file cache it holds can be dropped. */
static uint64_t group_leaves(const char *group, uint64_t most) {
    char path[512];
    uint64_t max, now, cache = 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup%.400s/memory.max", group);
    if (!api_read_number(path, "", &max)) return most;
    snprintf(path, sizeof path, "/sys/fs/cgroup%.400s/memory.current", group);
    if (!api_read_number(path, "", &now)) return most;
    snprintf(path, sizeof path, "/sys/fs/cgroup%.400s/memory.stat", group);
    (void)api_read_number(path, "inactive_file", &cache);
    uint64_t used = now > cache ? now - cache : 0, left = max > used ? max - used : 0;
    return left < most ? left : most;
}

uint64_t api_available_bytes(void) {
    uint64_t kib;
    if (!api_read_number("/proc/meminfo", "MemAvailable:", &kib))
        return UINT64_MAX / 2; /* unknown: allocating will tell */
    uint64_t left = kib << 10;
    char line[512] = "";
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f && fgets(line, sizeof line, f) && strncmp(line, "0::", 3) != 0) line[0] = 0;
    if (f) fclose(f);
    if (!line[0]) return left;
    char *group = line + 3;
    group[strcspn(group, "\n")] = 0;
    for (;;) { /* its own limit, and that of every group around it */
        left = group_leaves(strcmp(group, "/") ? group : "", left);
        char *end = strrchr(group, '/');
        if (!end || !*group) return left;
        *end = 0;
    }
}

/* --- its speed -------------------------------------------------------------------------------------------------------- */

/* Each chunk of the pool's job sums its part of a block. Summing keeps the loads alive. */
enum { BLOCK_BYTES = 512 << 20, PART_BYTES = 1 << 20 }; /* far larger than any cache */

typedef struct {
    const uint64_t *block;
    uint64_t sums[BLOCK_BYTES / PART_BYTES];
} read_job;

static void read_part(void *ctx, uint32_t part, uint32_t worker) {
    (void)worker;
    read_job *j = ctx;
    const uint64_t *p = j->block + (size_t)part * (PART_BYTES / sizeof *p);
    uint64_t s[8] = {0};
    for (size_t i = 0; i < PART_BYTES / sizeof *p; i += 8)
        for (size_t k = 0; k < 8; k++) s[k] += p[i + k];
    j->sums[part] = s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}

static void write_part(void *ctx, uint32_t part, uint32_t worker) {
    (void)worker;
    read_job *j = ctx;
    uint64_t *p = (uint64_t *)(uintptr_t)j->block + (size_t)part * (PART_BYTES / sizeof *p);
    for (size_t i = 0; i < PART_BYTES / sizeof *p; i++) p[i] = i;
}

double api_read_bandwidth(uint32_t threads, size_t block_bytes, uint32_t ms) {
    pool *p = NULL;
    read_job *j = mem_zalloc(sizeof *j);
    size_t n_bytes = block_bytes < BLOCK_BYTES ? block_bytes : BLOCK_BYTES;
    void *block = mem_map(n_bytes);
    uint32_t n_parts = (uint32_t)(n_bytes / PART_BYTES);
    double best = 0;
    if (j && block && n_parts && pool_open(&p, threads ? threads : cpu_default_threads(), NULL) == OK) {
        j->block = block;
        pool_run(p, write_part, j, n_parts);
        int64_t end = clock_us() + (int64_t)ms * 1000;
        do { /* the best of several: what the memory can do when left alone */
            int64_t t0 = clock_us();
            pool_run(p, read_part, j, n_parts);
            double rate = (double)n_parts * PART_BYTES / ((double)(clock_us() - t0 + 1) * 1e-6);
            if (rate > best) best = rate;
        } while (clock_us() < end);
    }
    pool_close(p);
    mem_unmap(block, n_bytes);
    mem_free(j);
    return best;
}

double rf_read_bandwidth(uint32_t threads, uint32_t ms) { return api_read_bandwidth(threads, BLOCK_BYTES, ms); }
