/* What is wrong with this machine, and the one fix for each finding. */
#include "api/api.h"

#include "backend/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    json_t *findings; /* NULL: out of memory */
    int n[4];         /* by level */
} report;

static const char *const levels[] = {[GPU_FINDING_OK] = "ok",
                                     [GPU_FINDING_NOTE] = "note",
                                     [GPU_FINDING_WARNING] = "warning",
                                     [GPU_FINDING_ERROR] = "error"};

static void say(void *ctx, gpu_level level, const char *code, const char *text, const char *fix) {
    report *r = ctx;
    r->n[level]++;
    api_append(&r->findings,
               json_pack("{ss ss ss ss*}", "level", levels[level], "code", code, "text", text, "fix", fix));
}

static void look_at_cpu(report *r) {
    strbuf name = {0};
    char text[300];
    const char *asked = getenv("ROCMFORGE_CPU");
    int tier = -1;
    err why;
    cpu_name(&name);
    snprintf(text, sizeof text, "%.200s, %u threads", name.p ? name.p : "the CPU", cpu_default_threads());
    strbuf_free(&name);
    if (cpu_tier_choose(asked, &tier, &why))
        say(r, GPU_FINDING_ERROR, err_lookup(why.code)->code, why.text, "unset ROCMFORGE_CPU");
    else if (asked && tier < (int)cpu_tier_best())
        say(r, GPU_FINDING_WARNING, "cpu.tier", "ROCMFORGE_CPU is set to less than this CPU can do",
            "unset ROCMFORGE_CPU");
    else if (cpu_tier_best() == TIER_SCALAR)
        say(r, GPU_FINDING_WARNING, "cpu.tier", "this CPU has no AVX2 with FMA: the plain tier computes, slowly", NULL);
    else
        say(r, GPU_FINDING_OK, "cpu.tier", text, NULL);
}

enum { AVAILABLE_LEAST = 1 << 30 };

static void look_at_memory(report *r) {
    uint64_t kib = 0, left = api_available_bytes();
    char text[160];
    (void)api_read_number("/proc/meminfo", "MemTotal:", &kib);
    snprintf(text, sizeof text, "%llu of %llu MiB of memory are available to this process",
             (unsigned long long)left >> 20, (unsigned long long)kib >> 10);
    bool little = left < AVAILABLE_LEAST;
    say(r, little ? GPU_FINDING_WARNING : GPU_FINDING_OK, "memory.available", text,
        little ? "end what holds it, or raise the limit of this process's control group" : NULL);
}

/* Weights and the KV cache ask for 2 MiB pages by madvise: "never" refuses them. The word in brackets is the setting. */
static void look_at_huge_pages(report *r) {
    char line[128] = "";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    if (f && !fgets(line, sizeof line, f)) line[0] = 0;
    if (f) fclose(f);
    if (strstr(line, "[never]"))
        say(r, GPU_FINDING_WARNING, "memory.huge_pages", "transparent huge pages are off: weights are read slower",
            "run `echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled`");
    else if (strstr(line, "[always]") || strstr(line, "[madvise]"))
        say(r, GPU_FINDING_OK, "memory.huge_pages", "transparent huge pages are given to who asks", NULL);
    else
        say(r, GPU_FINDING_NOTE, "memory.huge_pages", "this kernel does not tell about transparent huge pages", NULL);
}

static json_t *examine(gpu_list *l) {
    report r = {.findings = json_array()};
    look_at_cpu(&r);
    look_at_memory(&r);
    look_at_huge_pages(&r);
    gpu_list_measure(l);
    gpu_doctor(l, "", say, &r);
    return json_pack("{so si si}", "findings", r.findings, "errors", r.n[GPU_FINDING_ERROR], "warnings",
                     r.n[GPU_FINDING_WARNING]);
}

char *rf_doctor(rf_error *e) {
    json_init();
    err why = {0};
    gpu_list *l;
    char *text = NULL;
    status s = api_gpus_open(&l, &why);
    if (!s) text = api_json(examine(l), &s, &why);
    api_gpus_close(l);
    api_result(s, &why, e);
    return text;
}
