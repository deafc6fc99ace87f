/* Expert kernels against the CPU backend's own run_route and run_combine (backend/cpu/cpu_moe.c): equal bits, the same experts
 * chosen among equal scores, NaN and infinite routers refused alike; lists against a plain count. */
#include "gpu_check.h"

#include "backend/cpu/cpu_state.h"
#include "backend/gpu/kernels/args_moe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed = 777;

/* The least of a CPU backend that one node needs: three values side by side in its activation block. */
typedef struct {
    cpu_backend c;
    plan p;
    plan_buffer buffer[3];
    step_input in;
    cpu_scratch scratch;
    node n[3]; /* two inputs, the node */
} cpu_rig;

static void rig_open(cpu_rig *g, uint32_t n_tok, const uint32_t row_bytes[3], size_t scratch_floats) {
    memset(g, 0, sizeof *g);
    size_t at = 0;
    for (uint32_t i = 0; i < 3; i++) {
        g->n[i].id = i, g->n[i].rows = ROWS_TOK;
        g->buffer[i] = (plan_buffer){.offset = at, .stride = row_bytes[i], .n_bytes = (size_t)row_bytes[i] * n_tok};
        at += align64((size_t)row_bytes[i] * n_tok);
    }
    g->n[2].in[0] = &g->n[0], g->n[2].in[1] = &g->n[1];
    g->p.buffer = g->buffer, g->in.n_tok = n_tok;
    g->c.p = &g->p, g->c.in = &g->in, g->c.scratch = &g->scratch;
    g->c.act_block = calloc(1, at + 64);
    g->scratch.row = malloc((scratch_floats + 16) * sizeof(float));
    if (!g->c.act_block || !g->scratch.row) abort();
    cpu_ops_ref(&g->c.ops);
}

static void *rig_value(cpu_rig *g, uint32_t i) { return g->c.act_block + g->buffer[i].offset; }

static void rig_close(cpu_rig *g) {
    free(g->c.act_block);
    free(g->scratch.row);
}

/* kind 0: ordinary; 1: few different values, so that many are equal; 2: some rows with NaN or infinities; 3: signed zeros */
static void fill_logits(float *x, uint32_t n_tok, uint32_t n, int kind) {
    for (uint32_t t = 0; t < n_tok; t++)
        for (uint32_t i = 0; i < n; i++) {
            float v = check_normal(&seed) * 3;
            if (kind == 1) v = (float)(int)(v / 2);
            if (kind == 3) v = check_random(&seed) & 1 ? 0.0f : -0.0f;
            x[(size_t)t * n + i] = v;
        }
    for (uint32_t t = 0; t < n_tok && kind == 2; t++)
        for (uint32_t i = 0; i < 1 + t % 3; i++)
            x[(size_t)t * n + check_random(&seed) % n] = t % 4 == 0 ? NAN : t % 4 == 1 ? INFINITY : -INFINITY;
}

static void compare_route(check_rig *r, const moe_slot *got, const moe_slot *want, uint32_t n, uint32_t n_expert,
                          int kind) {
    for (uint32_t i = 0; i < n; i++) {
        check_bytes(r, "moe_route", &got[i].expert, &want[i].expert, 4, "%u experts kind %d: choice %u", n_expert, kind,
                    i);
        check_floats(r, "moe_route", &got[i].weight, &want[i].weight, 1, "%u experts kind %d: weight %u", n_expert,
                     kind, i);
    }
}

static void run_route(check_rig *r, uint32_t n_tok, uint32_t n_expert, uint32_t n_used, uint32_t mode, int kind) {
    const uint32_t row_bytes[3] = {n_expert * 4, 0, n_used * (uint32_t)sizeof(moe_slot)};
    cpu_rig g;
    rig_open(&g, n_tok, row_bytes, n_expert);
    fill_logits(rig_value(&g, 0), n_tok, n_expert, kind);
    g.n[0].width = n_expert, g.n[2].width = n_used;
    g.n[2].p.route.n_used = n_used, g.n[2].p.route.softmax_after = mode & 1, g.n[2].p.route.renormalise = mode >> 1 & 1;
    g.n[2].p.route.scale = mode & 4 ? 2.5f : 0.0f;
    cpu_run_route(&g.c, &g.n[2]);
    moe_route_args a = {.n_tok = n_tok, .n_expert = n_expert, .n_used = n_used, .softmax_after = mode & 1};
    a.renormalise = mode >> 1 & 1, a.scale = g.n[2].p.route.scale;
    a.logits = check_put(r, rig_value(&g, 0), g.buffer[0].n_bytes), a.logits_stride = row_bytes[0];
    a.route = check_put(r, NULL, g.buffer[2].n_bytes), a.route_stride = row_bytes[2];
    check_launch(r, "moe", "moe_route", (n_tok + MOE_ROUTE_TOKENS - 1) / MOE_ROUTE_TOKENS, 1, 1, MOE_BLOCK, &a,
                 sizeof a);
    moe_slot *got = malloc(g.buffer[2].n_bytes);
    check_get(r, got, a.route, g.buffer[2].n_bytes);
    compare_route(r, got, rig_value(&g, 2), n_tok * n_used, n_expert, kind);
    free(got);
    rig_close(&g);
    check_reset(r);
}

static void check_route(check_rig *r) {
    static const uint32_t shapes[][3] = {{1, 8, 2}, {9, 60, 4}, {17, 128, 8}, {3, 16, 16},
                                         {2, 1, 1}, {5, 33, 6}, {8, 1024, 64}};
    if (!check_wanted(r, "moe_route")) return;
    for (uint32_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (uint32_t mode = 0; mode < 8; mode++)
            for (int kind = 0; kind < 4; kind++)
                if (check_short() ? s == 1 && (mode + (uint32_t)kind) % 8 == 2
                                  : check_long() || (s + mode + (uint32_t)kind) % 3 == 0)
                    run_route(r, shapes[s][0], shapes[s][1], shapes[s][2], mode, kind);
}

/* --- lists */
static void run_lists(check_rig *r, uint32_t n_tok, uint32_t n_expert, uint32_t n_used) {
    uint32_t n = n_tok * n_used, at = 0;
    moe_slot *route = malloc(n * sizeof *route);
    uint32_t *first = malloc((n_expert + 1) * 4), *pick = malloc(n * 4);
    uint32_t *got_first = malloc((n_expert + 1) * 4), *got_pick = malloc(n * 4);
    for (uint32_t i = 0; i < n; i++) route[i] = (moe_slot){(int32_t)(check_random(&seed) % n_expert), 1};
    for (uint32_t e = 0; e < n_expert; e++) {
        first[e] = at;
        for (uint32_t i = 0; i < n; i++)
            if (route[i].expert == (int32_t)e) pick[at++] = i;
    }
    first[n_expert] = at;
    moe_lists_args a = {.n_tok = n_tok, .n_expert = n_expert, .n_used = n_used, .route_stride = n_used * 8};
    a.route = check_put(r, route, n * sizeof *route);
    a.first = check_put(r, NULL, (n_expert + 1) * 4), a.pick = check_put(r, NULL, n * 4);
    check_launch(r, "moe", "moe_lists", n_expert, 1, 1, MOE_BLOCK, &a, sizeof a);
    check_get(r, got_first, a.first, (n_expert + 1) * 4);
    check_get(r, got_pick, a.pick, n * 4);
    check_bytes(r, "moe_lists", got_first, first, (n_expert + 1) * 4, "first of %u tokens, %u experts", n_tok,
                n_expert);
    check_bytes(r, "moe_lists", got_pick, pick, n * 4, "picks of %u tokens, %u experts", n_tok, n_expert);
    free(route), free(first), free(pick), free(got_first), free(got_pick);
    check_reset(r);
}

/* --- the weighted sum */
static void run_combine(check_rig *r, uint32_t n_tok, uint32_t n_used, uint32_t width) {
    const uint32_t row_bytes[3] = {n_used * width * 4, n_used * (uint32_t)sizeof(moe_slot), width * 4};
    cpu_rig g;
    rig_open(&g, n_tok, row_bytes, width);
    float *x = rig_value(&g, 0);
    moe_slot *route = rig_value(&g, 1);
    for (size_t i = 0; i < (size_t)n_tok * n_used * width; i++) x[i] = check_normal(&seed);
    for (uint32_t i = 0; i < n_tok * n_used; i++) route[i] = (moe_slot){(int32_t)i, check_normal(&seed)};
    x[check_random(&seed) % (n_used * width)] = NAN;
    route[n_tok * n_used - 1].weight = INFINITY;
    g.n[0].width = n_used * width, g.n[1].width = n_used, g.n[2].width = width;
    cpu_run_combine(&g.c, &g.n[2]);
    moe_combine_args a = {.n_tok = n_tok, .n_used = n_used, .width = width};
    a.x = check_put(r, x, g.buffer[0].n_bytes), a.route = check_put(r, route, g.buffer[1].n_bytes);
    a.y = check_put(r, NULL, g.buffer[2].n_bytes);
    a.x_stride = row_bytes[0], a.route_stride = row_bytes[1], a.y_stride = row_bytes[2];
    check_launch(r, "moe", "moe_combine", (width + MOE_TILE - 1) / MOE_TILE, n_tok, 1, MOE_BLOCK, &a, sizeof a);
    float *got = malloc(g.buffer[2].n_bytes);
    check_get(r, got, a.y, g.buffer[2].n_bytes);
    check_floats(r, "moe_combine", got, rig_value(&g, 2), (size_t)n_tok * width, "%u tokens, %u slots of %u", n_tok,
                 n_used, width);
    free(got);
    rig_close(&g);
    check_reset(r);
}

int main(int argc, char **argv) {
    check_rig *r = check_open(argc, argv);
    check_route(r);
    if (check_wanted(r, "moe_lists")) {
        run_lists(r, 1, 8, 2);
        run_lists(r, 33, 60, 4);
        if (!check_short()) run_lists(r, 300, 5, 3);
        run_lists(r, 7, 1, 1);
    }
    if (check_wanted(r, "moe_combine")) {
        run_combine(r, 1, 2, 1);
        run_combine(r, 3, 8, 1025);
        run_combine(r, 5, 1, 33);
    }
    return check_close(r);
}
