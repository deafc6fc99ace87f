/* Speed of the CPU backend's float kernels, each tier, one thread:  bench_f32 [tier]
 * One CSV line each: tier, kernel, shape, microseconds a call (best of several), GB/s of what it must move, GFLOP/s. */
#include "backend/cpu/cpu_ops.h"
#include "base/clock.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const cpu_ops *o;
    float *x, *w, *y; /* MAX floats each */
    cpu_act act;
    uint32_t d, n_q, n_kv_head, depth;
    quant_type type;
    size_t rows, cols, k;
} bench;

enum { MAX = 8 << 20 };

typedef void (*bench_fn)(bench *b);

/* Best time of one call over 60 stretches of at least 2 ms: short ones slip between other programs' slices. */
static double best_us(bench *b, bench_fn f) {
    double best = 1e30;
    for (int round = 0; round < 60; round++) {
        int64_t start = clock_us(), now;
        int n = 0;
        do f(b), n++;
        while ((now = clock_us()) - start < 2000);
        double us = (double)(now - start) / n;
        if (us < best) best = us;
    }
    return best;
}

static void report(bench *b, const char *kernel, const char *shape, bench_fn f, double bytes, double flops) {
    double us = best_us(b, f);
    printf("%s,%s,%s,%.3f,%.2f,%.2f\n", b->o->name, kernel, shape, us, bytes / us / 1e3, flops / us / 1e3);
    fflush(stdout);
}

/* --- rows --------------------------------------------------------------------------------------------------------------- */
static void run_rms_norm(bench *b) { b->o->rms_norm(b->y, b->x, b->w, b->k, 1e-5f); }
static void run_swiglu(bench *b) { b->o->swiglu(b->y, b->x, b->w, b->k); }
static void run_softmax(bench *b) { b->o->softmax(b->y, b->x, b->k); }
static void run_add(bench *b) { b->o->add(b->y, b->x, b->w, b->k); }
static void run_rope(bench *b) { b->o->rope(b->y, b->x, b->w, (uint32_t)b->k / 64, 64, 64, b->cols); }
static void run_quantize(bench *b) { b->o->quantize(&b->act, 0, b->x, b->k); }

static void bench_rows(bench *b) {
    b->k = 1536;
    double n = (double)b->k;
    report(b, "rms_norm", "1536", run_rms_norm, 12 * n, 4 * n);
    report(b, "swiglu", "1536", run_swiglu, 12 * n, 0);
    report(b, "softmax", "1536", run_softmax, 8 * n, 0);
    report(b, "add", "1536", run_add, 12 * n, n);
    b->cols = 0;
    report(b, "rope", "24x64", run_rope, 8 * n, 3 * n);
    b->cols = 1;
    report(b, "rope_neox", "24x64", run_rope, 8 * n, 3 * n);
    b->act.n_tok = 1;
    b->act.scale_block = 32;
    report(b, "quantize_q8", "1536", run_quantize, 5.25 * n, 0);
    b->act.scale_block = 256;
    report(b, "quantize_q8k", "1536", run_quantize, 5.14 * n, 0);
}

/* --- float linear --------------------------------------------------------------------------------------------------------- */
static void run_linear(bench *b) {
    size_t size = b->type == QUANT_F32 ? 4 : 2;
    b->o->linear_float(b->y, b->rows, b->w, b->type, b->k * size, (uint32_t)b->rows, b->x, b->k, (uint32_t)b->cols,
                       b->k);
}

static void bench_linear(bench *b) {
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_BF16};
    static const size_t cols[] = {1, 4, 7, 128};
    b->k = 576, b->rows = 1536;
    for (int t = 0; t < 3; t++)
        for (int c = 0; c < 4; c++) {
            b->type = types[t], b->cols = cols[c];
            char shape[64];
            snprintf(shape, sizeof shape, "%s 1536x576x%zu", quant_lookup(b->type)->name, b->cols);
            double bytes = (double)(b->rows * b->k) * (b->type == QUANT_F32 ? 4 : 2);
            report(b, "linear_float", shape, run_linear, bytes, 2.0 * (double)(b->rows * b->k * b->cols));
        }
}

/* --- attention: one layer of SmolLM2 (9 heads on 3 kv heads, 64 wide); the cache is read as it is stored ------------------- */
enum { QUERIES = 96 };

static void attend(bench *b, const unsigned char *cache, size_t size, uint32_t head) {
    static float kv[2][ATTN_CHUNK * 128], m[QUERIES], l[QUERIES];
    const float *q[QUERIES];
    uint32_t lo[QUERIES], hi[QUERIES], d = b->d;
    size_t part = (size_t)b->depth * d * size, chunk_bytes = ATTN_CHUNK * d * size, group_bytes = 16 * d * size;
    const unsigned char *k = cache + head * 2 * part, *v = k + part;
    for (uint32_t i = 0; i < b->n_q; i++) q[i] = b->x + (size_t)i * d, lo[i] = 0, hi[i] = ATTN_CHUNK;
    memset(l, 0, sizeof l);
    attn_chunk_args a = {
        .d_k = d, .d_v = d, .scale = 0.125f, .n_q = b->n_q, .q = q, .lo = lo, .hi = hi, .m = m, .l = l};
    a.o = b->y;
    if (b->n_q <= ATTN_DIRECT) a.type_k = a.type_v = b->type;
    for (uint32_t c = 0; c < b->depth / ATTN_CHUNK; c++, k += chunk_bytes, v += chunk_bytes) {
        for (uint32_t g = 0; g < 4; g++) {
            a.k[g] = (const float *)(const void *)(k + g * group_bytes);
            a.v[g] = (const float *)(const void *)(v + g * group_bytes);
            a.k_scales[g] = a.v_scales[g] = b->x;
            if (b->type == QUANT_F32 || b->n_q <= ATTN_DIRECT) continue;
            b->o->kv_load(kv[0] + g * 16 * d, k + g * group_bytes, b->x, b->type, d, true);
            b->o->kv_load(kv[1] + g * 16 * d, v + g * group_bytes, b->x, b->type, d, false);
            a.k[g] = kv[0] + g * 16 * d, a.v[g] = kv[1] + g * 16 * d;
        }
        b->o->attn_chunk(&a);
    }
}

static void run_attention(bench *b) {
    size_t size = b->type == QUANT_F32 ? 4 : b->type == QUANT_F16 ? 2 : 1;
    for (uint32_t h = 0; h < b->n_kv_head; h++) attend(b, (const unsigned char *)b->w, size, h);
}

static void bench_attention(bench *b) {
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_Q8_0};
    static const uint32_t queries[] = {1, 3, 8, QUERIES};
    b->n_kv_head = 3, b->d = 64, b->depth = 4096;
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 4; i++) {
            b->type = types[t], b->n_q = queries[i];
            char shape[64];
            snprintf(shape, sizeof shape, "%s depth 4096 3x64 q%u", quant_lookup(b->type)->name, b->n_q);
            double values = 2.0 * b->depth * b->d * b->n_kv_head;
            double bytes = values * (b->type == QUANT_F32 ? 4 : b->type == QUANT_F16 ? 2 : 34.0 / 32);
            report(b, "attention", shape, run_attention, bytes, 2 * values * b->n_q);
        }
}

static void bench_tier(bench *b, cpu_tier tier) {
    cpu_ops ops;
    cpu_ops_init(&ops, tier);
    b->o = &ops;
    for (size_t i = 0; i < MAX; i++) {
        b->x[i] = (float)(rng_unit(1, i) - 0.5);
        b->w[i] = (float)(rng_unit(2, i) * 0.5 + 0.25); /* harmless as f16, bf16 and int8 too */
    }
    bench_rows(b);
    bench_linear(b);
    bench_attention(b);
}

/* On cache lines, as the arenas of the engine are. */
static float *floats(size_t n) { return aligned_alloc(64, n * sizeof(float)); }

int main(int argc, char **argv) {
    cpu_tier first = TIER_SCALAR, last = cpu_tier_best();
    if (argc > 1 && (!cpu_tier_from_name(argv[1], &first) || first > last)) {
        fprintf(stderr, "bench_f32: this CPU has no tier '%s'\n", argv[1]);
        return 2;
    }
    if (argc > 1) last = first;
    bench b = {.x = floats(MAX), .w = floats(MAX), .y = floats(MAX)};
    b.act = (cpu_act){.code = calloc(MAX, 1), .scale = calloc(MAX / 32, 4), .sum = calloc(MAX / 16, 2)};
    if (!b.x || !b.w || !b.y || !b.act.code || !b.act.scale || !b.act.sum) return 1;
    puts("tier,kernel,shape,us,GB/s,GFLOP/s");
    for (cpu_tier t = first; t <= last; t++) bench_tier(&b, t);
    return 0;
}
