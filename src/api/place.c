/* Which device computes what: `--device` says what there is to place on, `--placement` how. Every retreat from what was
 * wanted is noted in the shape (downgrade.h); a placement that allows none ends with the error instead. */
#include "api/api.h"

#include "backend/gpu/gpu.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    [PLACEMENT_GPU] = "gpu", [PLACEMENT_CPU] = "cpu", [PLACEMENT_COST] = "cost", [PLACEMENT_ONLY] = "only"};

const char *api_placement_name(api_placement p) { return names[p]; }

__attribute__((format(printf, 3, 4))) static void because(api_shape *s, api_why why, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->reason, sizeof s->reason, fmt, ap);
    va_end(ap);
    s->why = why;
}

/* --- the options ------------------------------------------------------------------------------------------------------- */

static bool splits_layers(const rf_engine_options *opt) {
    return opt->gpu_layers && strcmp(opt->gpu_layers, "all") != 0;
}

/* Unsaid: where the GPU was not asked for it takes what it can; where it was, nothing else stands in for it. */
static status read_placement(api_shape *s, const rf_engine_options *opt, err *e) {
    const char *device = opt->device ? opt->device : "auto", *text = opt->placement;
    s->automatic = strcmp(device, "auto") == 0;
    s->placement = s->automatic ? PLACEMENT_GPU : PLACEMENT_ONLY;
    uint32_t i = 0;
    while (text && i < 4 && strcmp(text, names[i]) != 0) i++;
    if (i == 4) return fail(e, ERR_USAGE, "--placement %s: give gpu, cpu, cost or only", text);
    if (text) s->placement = (api_placement)i;
    bool on_cpu = strcmp(device, "cpu") == 0;
    if (text && on_cpu && (s->placement == PLACEMENT_GPU || s->placement == PLACEMENT_COST))
        return fail(e, ERR_USAGE, "--placement %s with --device cpu: there is no GPU to place anything on", text);
    if (text && s->placement != PLACEMENT_GPU && splits_layers(opt))
        return fail(e, ERR_USAGE, "-ngl %s and --placement %s: both say where layers run; give one of the two",
                    opt->gpu_layers, text);
    bool gpu = s->placement == PLACEMENT_GPU || s->placement == PLACEMENT_COST;
    s->may_move = gpu || s->placement == PLACEMENT_CPU;
    s->may_split = (gpu && !splits_layers(opt)) || (s->placement == PLACEMENT_CPU && !on_cpu);
    return OK;
}

void api_use_cpu(api_shape *s) {
    api_gpus_close(s->gpus);
    s->gpus = NULL;
    s->split = (api_split){.first = s->split.n_layer, .n_layer = s->split.n_layer};
    s->has_cpu = false;
}

static status take_gpu(api_shape *s, const char *want, err *e) {
    status rc = api_gpus_open(&s->gpus, e);
    if (!rc) rc = gpu_list_pick(s->gpus, want, &s->gpu, e);
    if (rc) api_use_cpu(s);
    return rc;
}

/* Attention that looks ahead is built for the CPU only, and an encoder has it in every layer. */
static status keep_to_cpu(api_shape *s, const rf_model *m) {
    api_use_cpu(s);
    because(s, WHY_CPU_FALLBACK, "%s is an encoder, whose attention GPUs have no kernel for", m->info.arch_name);
    api_down_note(&s->down, DOWN_OP, ERR_UNSUPPORTED, "%s", s->reason);
    return OK;
}

/* auto: the best GPU, else the CPU and why. What is asked for by name is taken, or refused with the reason. */
status api_choose_device(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e) {
    const char *device = opt->device ? opt->device : "auto";
    err why;
    status rc = read_placement(s, opt, e);
    if (rc) return rc;
    because(s, WHY_USER_PREFERENCE, "asked for");
    if (strcmp(device, "cpu") == 0) return OK;
    if (!s->automatic && !gpu_want_is_valid(device))
        return fail(e, ERR_USAGE, "--device %s: give auto, cpu, gpu, hip, cuda, gpu:N, a GPU's UUID or PCI address",
                    device);
    if (s->placement == PLACEMENT_CPU) return OK;
    if (m->info.encoder && !s->may_move)
        return fail(e, ERR_UNSUPPORTED, "--device %s: %s is an encoder: GPUs have no attention that looks ahead",
                    device, m->info.arch_name);
    rc = take_gpu(s, s->automatic ? "gpu" : device, &why);
    if (!rc && m->info.encoder) return keep_to_cpu(s, m);
    if (!s->automatic || rc == ERR_NOMEM) return rc ? fail(e, rc, "--device %s: %s", device, why.text) : OK;
    if (!rc) {
        because(s, WHY_GPU_AVAILABLE, "the best of %u GPU%s", s->gpus->n, s->gpus->n == 1 ? "" : "s");
        return OK;
    }
    because(s, WHY_GPU_UNAVAILABLE, "%.390s", why.text);
    if (rc != ERR_GPU_NO_DRIVER) api_down_note(&s->down, DOWN_NO_GPU, rc, "%s", why.text);
    return OK;
}

/* --- by cost ----------------------------------------------------------------------------------------------------------- */

/* Stated, not measured, but for the CPU's bandwidth: what a kernel of a replayed graph takes at least, what a step's copies
 * and the host's wait take; of the peak bandwidth that kernels reach; what a link moves. */
static const double GPU_LAUNCH_S[] = {[GPU_PLATFORM_HIP] = 4e-6, [GPU_PLATFORM_CUDA] = 2e-6};
static const double GPU_STEP_S = 30e-6, GPU_SHARE = 0.6, GPU_UNKNOWN = 200e9, APU_UNKNOWN = 50e9;
static const double CPU_BARRIER_S = 1e-6, COPY_S = 25e-6, LINK_BYTES_PER_S = 10e9, CPU_HANDICAP = 2;
enum { MEASURE_LEAST = 1 << 20, MEASURE_MOST = 64 << 20, MEASURE_MS = 10 };

/* A small model stays in the CPU's caches from token to token: so much is read when its speed is measured. */
static size_t measure_bytes(const gguf *g) {
    uint64_t sum = 0;
    for (size_t i = 0; i < gguf_n_tensors(g) && sum < MEASURE_MOST; i++) sum += gguf_tensor_at(g, i)->n_bytes;
    return sum < MEASURE_LEAST ? MEASURE_LEAST : sum > MEASURE_MOST ? MEASURE_MOST : (size_t)sum;
}

static plan_speed gpu_speed(const gpu_device *d) {
    double peak = gpu_peak_bytes_per_s(&d->facts);
    plan_speed p = {.launch_s = GPU_LAUNCH_S[d->driver->platform], .step_s = GPU_STEP_S, .handicap = 1};
    p.bytes_per_s = peak > 0 ? GPU_SHARE * peak : d->facts.integrated ? APU_UNKNOWN : GPU_UNKNOWN;
    p.copy_s = COPY_S;
    p.copy_bytes_per_s = LINK_BYTES_PER_S;
    return p;
}

static plan_speed cpu_speed(const api_shape *s, const gguf *g) {
    double measured = api_read_bandwidth(s->threads, measure_bytes(g), MEASURE_MS);
    plan_speed p = {.launch_s = CPU_BARRIER_S, .handicap = CPU_HANDICAP};
    p.bytes_per_s = measured > 0 ? measured : 10e9;
    p.copy_s = COPY_S;
    p.copy_bytes_per_s = LINK_BYTES_PER_S;
    return p;
}

static void settle_cost(api_shape *s, const exec_share *share, uint32_t n_gpus) {
    uint32_t gpu_nodes = 0;
    double gpu_us = 1e6 * share[0].alone_s, cpu_us = 1e6 * share[n_gpus].alone_s;
    for (uint32_t i = 0; i < n_gpus; i++) gpu_nodes += share[i].n_nodes;
    if (!gpu_nodes) {
        because(s, WHY_COST_MODEL, "by cost: a token is reckoned at %.0f us on the CPU, %.0f on GPU %u", cpu_us, gpu_us,
                s->gpu);
        api_use_cpu(s);
        return;
    }
    s->has_cpu = share[n_gpus].n_nodes > 0;
    because(s, WHY_COST_MODEL, "by cost%s: a token is reckoned at %.0f us on GPU %u, %.0f on the CPU",
            s->has_cpu ? ", operation by operation" : "", gpu_us, s->gpu, cpu_us);
}

status api_place_by_cost(api_shape *s, const rf_model *m, err *e) {
    if (s->placement != PLACEMENT_COST || !s->gpus || s->costed) return OK;
    api_backends b;
    exec_share share[PLAN_MAX_DEVICES];
    uint32_t n = s->split.n_gpus;
    s->costed = s->has_cpu = true;
    for (uint32_t i = 0; i < n; i++) s->speed[i] = gpu_speed(&s->gpus->device[s->split.gpu[i]]);
    s->speed[n] = cpu_speed(s, m->file);
    status rc = api_backends_open(&b, s, e);
    if (rc) return rc;
    exec_options x = api_exec_options(s, &b);
    rc = exec_place(m->file, &x, b.b, b.n, share, e);
    api_backends_close(&b);
    if (!rc) settle_cost(s, share, n);
    return rc;
}

/* --- retreats ---------------------------------------------------------------------------------------------------------- */

/* The GPU comes in for the layers that the host has no room for; api_fit_memory finds out how many those are. */
static bool bring_gpu(api_shape *s, const rf_model *m, const rf_engine_options *opt) {
    err ignored;
    bool named = opt->device && !s->automatic;
    if (take_gpu(s, named ? opt->device : "gpu", &ignored)) return false;
    if (api_split_make(s, m, opt, &ignored)) return api_use_cpu(s), false;
    s->has_cpu = true;
    return true;
}

bool api_retreat(api_shape *s, const rf_model *m, const rf_engine_options *opt, const err *why) {
    if (why->code == ERR_MEMORY_PLAN && s->placement == PLACEMENT_CPU && s->may_split && !s->gpus)
        return bring_gpu(s, m, opt);
    if (why->code != ERR_UNSUPPORTED || !s->gpus || !s->may_move || s->has_cpu) return false;
    s->has_cpu = true; /* for what has no kernel; noted once it is placed */
    return true;
}

/* What another device may be free of. */
static bool is_of_device(status s) {
    return s == ERR_UNSUPPORTED || s == ERR_DEVICE || s == ERR_MEMORY_PLAN ||
           (s >= ERR_GPU_NO_DRIVER && s <= ERR_GPU_WRONG);
}

bool api_fall_back(api_shape *s, const err *why) {
    if (!s->gpus || !s->automatic || s->placement == PLACEMENT_ONLY || !is_of_device(why->code)) return false;
    bool memory = why->code == ERR_GPU_MEMORY;
    because(s, memory ? WHY_MEMORY_CONSTRAINT : WHY_CPU_FALLBACK, "GPU %u is not used: %.360s", s->gpu, why->text);
    api_down_note(&s->down, memory ? DOWN_TOO_SMALL : DOWN_REFUSED, why->code, "%s", s->reason);
    api_use_cpu(s);
    return true;
}

void api_note_moved(api_shape *s, const api_backends *b) {
    if (!b->n_moved) return;
    api_down_note(&s->down, DOWN_OP, ERR_UNSUPPORTED,
                  "%u operation%s run%s on the CPU, which the GPU has no kernel for in this shape; the first is %s",
                  b->n_moved, b->n_moved == 1 ? "" : "s", b->n_moved == 1 ? "s" : "", b->first_moved);
}

status api_backends_place(api_backends *b, api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e) {
    status rc;
    err why = {0};
    do {
        rc = api_place_by_cost(s, m, &why);
        if (!rc) rc = api_backends_open(b, s, &why);
        if (!rc && (rc = api_fit_memory(s, m, b, &why))) api_backends_close(b);
    } while (rc && api_retreat(s, m, opt, &why));
    if (!rc) api_note_moved(s, b);
    if (rc == ERR_UNSUPPORTED && s->gpus && !s->may_move)
        return fail(e, rc, "%.400s; --placement gpu lets the CPU do that", why.text);
    if (rc && e) *e = why;
    return rc;
}
