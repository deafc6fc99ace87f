/* Recurrent-state kernels against backend/cpu/ref_recurrent.h: equal bits of results and states, for sequences of different
 * lengths side by side in one launch, fresh ones and ones that go on, rows with gaps, and a prompt in one step or in two. */
#include "gpu_check.h"

#include "backend/cpu/ref_recurrent.h"
#include "backend/gpu/kernels/args_recurrent.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SEQ = 3, N_SLOT = 5, GAP = 3 };
static uint64_t seed = 20251122;

/* Rows of the step on host and device; on the device they stand `gap` floats apart. */
typedef struct {
    float *v;
    uint32_t n_rows, width, stride;
    gpu_addr at;
} rows;

typedef struct {
    check_rig *r;
    recurrent_seq seq[N_SEQ];
    gpu_addr seq_at;
    uint32_t n_tok;
    float *state; /* of all slots, as the reference has it */
    size_t slot_floats;
    gpu_addr state_at;
} step;

static rows make(check_rig *r, uint32_t n_rows, uint32_t width, float scale) {
    rows m = {.n_rows = n_rows, .width = width, .stride = width + GAP};
    m.v = malloc((size_t)n_rows * m.stride * sizeof(float));
    if (!m.v) abort();
    for (size_t i = 0; i < (size_t)n_rows * m.stride; i++) m.v[i] = check_normal(&seed) * scale;
    m.at = check_put(r, m.v, (size_t)n_rows * m.stride * sizeof(float));
    return m;
}

/* Rows first .. first + n without their gaps, as the reference wants them. */
static float *dense(const rows *m, uint32_t first, uint32_t n) {
    float *out = malloc(((size_t)n * m->width + 1) * sizeof(float));
    if (!out) abort();
    for (uint32_t i = 0; i < n; i++)
        memcpy(out + (size_t)i * m->width, m->v + (size_t)(first + i) * m->stride, m->width * sizeof(float));
    return out;
}

/* Sequences of `longest`, 1 and half as many tokens, in slots that are not in order; the second one is fresh. */
static step begin(check_rig *r, uint32_t longest, size_t slot_floats) {
    step s = {.r = r, .slot_floats = slot_floats};
    const uint32_t n[N_SEQ] = {longest, 1, (longest + 1) / 2}, slot[N_SEQ] = {3, 0, 4};
    for (uint32_t i = 0; i < N_SEQ; i++) {
        s.seq[i] = (recurrent_seq){.first = s.n_tok, .n_tok = n[i], .slot = slot[i], .fresh = i == 1};
        s.n_tok += n[i];
    }
    s.state = malloc((N_SLOT * slot_floats + 1) * sizeof(float));
    if (!s.state) abort();
    for (size_t i = 0; i < N_SLOT * slot_floats; i++) s.state[i] = check_normal(&seed);
    s.seq_at = check_put(r, s.seq, sizeof s.seq);
    s.state_at = check_put(r, s.state, (N_SLOT * slot_floats + 1) * sizeof(float));
    return s;
}

/* States of every slot: also of those that no sequence has, which must be as they were. */
static void end(step *s, const char *kernel) {
    float *got = malloc((N_SLOT * s->slot_floats + 1) * sizeof(float));
    if (!got) abort();
    check_get(s->r, got, s->state_at, (N_SLOT * s->slot_floats + 1) * sizeof(float));
    check_floats(s->r, kernel, got, s->state, N_SLOT * s->slot_floats, "states of %zu floats", s->slot_floats);
    free(got), free(s->state);
    check_reset(s->r);
}

static void compare(step *s, const char *kernel, const rows *y, const recurrent_seq *q, const float *want) {
    float *got = malloc((size_t)y->n_rows * y->stride * sizeof(float));
    if (!got) abort();
    check_get(s->r, got, y->at, (size_t)y->n_rows * y->stride * sizeof(float));
    for (uint32_t t = 0; t < q->n_tok; t++)
        check_floats(s->r, kernel, got + (size_t)(q->first + t) * y->stride, want + (size_t)t * y->width, y->width,
                     "width %u token %u of %u", y->width, t, q->n_tok);
    free(got);
}

/* --- convolution */
static void run_conv(check_rig *r, uint32_t width, uint32_t n_tap, uint32_t longest, bool plain) {
    const char *kernel = "recurrent_conv";
    step s = begin(r, longest, (size_t)(n_tap - 1) * width);
    rows x = make(r, s.n_tok, width, 2), y = make(r, s.n_tok, width, 1), w = make(r, 1, width * n_tap, 1),
         bias = make(r, 1, width, 1);
    const recurrent_conv_args a = {.seq = s.seq_at,
                                   .x = x.at,
                                   .w = w.at,
                                   .bias = plain ? 0 : bias.at,
                                   .state = s.state_at,
                                   .y = y.at,
                                   .x_stride = x.stride * 4,
                                   .y_stride = y.stride * 4,
                                   .width = width,
                                   .n_tap = n_tap,
                                   .silu = !plain};
    check_launch(r, "recurrent", kernel, (width + RECURRENT_BLOCK - 1) / RECURRENT_BLOCK, N_SEQ, 1, RECURRENT_BLOCK, &a,
                 sizeof a);
    for (uint32_t i = 0; i < N_SEQ; i++) {
        const recurrent_seq *q = &s.seq[i];
        float *in = dense(&x, q->first, q->n_tok), *out = dense(&y, q->first, q->n_tok);
        const recurrent_conv_ref ref = {.x = in,
                                        .w = w.v,
                                        .bias = plain ? NULL : bias.v,
                                        .state = s.state + q->slot * s.slot_floats,
                                        .y = out,
                                        .n_tok = q->n_tok,
                                        .width = width,
                                        .n_tap = n_tap,
                                        .silu = !plain,
                                        .fresh = q->fresh};
        recurrent_conv(&ref);
        compare(&s, kernel, &y, q, out);
        free(in), free(out);
    }
    free(x.v), free(y.v), free(w.v), free(bias.v);
    end(&s, kernel);
}

/* --- selective scan */
typedef struct {
    uint32_t n_head, d_head, n_state, n_group;
    bool a_per_state;
} ssm_shape;

static void positive(rows *m, check_rig *r, float sign) {
    for (size_t i = 0; i < (size_t)m->n_rows * m->stride; i++) m->v[i] = sign * fabsf(m->v[i]);
    m->at = check_put(r, m->v, (size_t)m->n_rows * m->stride * sizeof(float));
}

static void run_ssm(check_rig *r, const ssm_shape *p, uint32_t longest, bool skip) {
    const char *kernel = "recurrent_ssm";
    const uint32_t n_row = p->n_head * p->d_head;
    step s = begin(r, longest, (size_t)n_row * p->n_state);
    rows x = make(r, s.n_tok, n_row, 1), y = make(r, s.n_tok, n_row, 1), dt = make(r, s.n_tok, p->n_head, 0.5f),
         b = make(r, s.n_tok, p->n_group * p->n_state, 1), c = make(r, s.n_tok, p->n_group * p->n_state, 1),
         a = make(r, 1, p->n_head * (p->a_per_state ? p->n_state : 1), 2), d = make(r, 1, p->n_head, 1);
    positive(&dt, r, 1), positive(&a, r, -1);
    const recurrent_ssm_args args = {.seq = s.seq_at,
                                     .x = x.at,
                                     .dt = dt.at,
                                     .a = a.at,
                                     .b = b.at,
                                     .c = c.at,
                                     .d = skip ? d.at : 0,
                                     .state = s.state_at,
                                     .y = y.at,
                                     .x_stride = x.stride * 4,
                                     .dt_stride = dt.stride * 4,
                                     .b_stride = b.stride * 4,
                                     .c_stride = c.stride * 4,
                                     .y_stride = y.stride * 4,
                                     .n_head = p->n_head,
                                     .d_head = p->d_head,
                                     .n_state = p->n_state,
                                     .n_group = p->n_group,
                                     .a_per_state = p->a_per_state};
    check_launch(r, "recurrent", kernel, (n_row + RECURRENT_ROWS - 1) / RECURRENT_ROWS, N_SEQ, 1, RECURRENT_BLOCK,
                 &args, sizeof args);
    for (uint32_t i = 0; i < N_SEQ; i++) {
        const recurrent_seq *q = &s.seq[i];
        float *xi = dense(&x, q->first, q->n_tok), *ti = dense(&dt, q->first, q->n_tok),
              *bi = dense(&b, q->first, q->n_tok), *ci = dense(&c, q->first, q->n_tok),
              *yi = dense(&y, q->first, q->n_tok);
        const recurrent_ssm_ref ref = {.x = xi,
                                       .dt = ti,
                                       .a = a.v,
                                       .b = bi,
                                       .c = ci,
                                       .d = skip ? d.v : NULL,
                                       .state = s.state + q->slot * s.slot_floats,
                                       .y = yi,
                                       .n_tok = q->n_tok,
                                       .n_head = p->n_head,
                                       .d_head = p->d_head,
                                       .n_state = p->n_state,
                                       .n_group = p->n_group,
                                       .a_per_state = p->a_per_state,
                                       .fresh = q->fresh};
        recurrent_ssm(&ref);
        compare(&s, kernel, &y, q, yi);
        free(xi), free(ti), free(bi), free(ci), free(yi);
    }
    free(x.v), free(y.v), free(dt.v), free(b.v), free(c.v), free(a.v), free(d.v);
    end(&s, kernel);
}

/* --- delta rule */
typedef struct {
    uint32_t n_head, n_key_head, d_k, d_v;
} delta_shape;

static void run_delta(check_rig *r, const delta_shape *p, uint32_t longest) {
    const char *kernel = "recurrent_delta";
    const uint32_t n_row = p->n_head * p->d_v;
    step s = begin(r, longest, (size_t)n_row * p->d_k);
    rows q = make(r, s.n_tok, p->n_key_head * p->d_k, 0.3f), k = make(r, s.n_tok, p->n_key_head * p->d_k, 0.3f),
         v = make(r, s.n_tok, n_row, 1), g = make(r, s.n_tok, p->n_head, 0.5f),
         beta = make(r, s.n_tok, p->n_head, 0.5f), y = make(r, s.n_tok, n_row, 1);
    positive(&g, r, -1);
    const recurrent_delta_args args = {.seq = s.seq_at,
                                       .q = q.at,
                                       .k = k.at,
                                       .v = v.at,
                                       .g = g.at,
                                       .beta = beta.at,
                                       .state = s.state_at,
                                       .y = y.at,
                                       .q_stride = q.stride * 4,
                                       .k_stride = k.stride * 4,
                                       .v_stride = v.stride * 4,
                                       .g_stride = g.stride * 4,
                                       .beta_stride = beta.stride * 4,
                                       .y_stride = y.stride * 4,
                                       .n_head = p->n_head,
                                       .n_key_head = p->n_key_head,
                                       .d_k = p->d_k,
                                       .d_v = p->d_v};
    check_launch(r, "recurrent", kernel, (n_row + RECURRENT_ROWS - 1) / RECURRENT_ROWS, N_SEQ, 1, RECURRENT_BLOCK,
                 &args, sizeof args);
    for (uint32_t i = 0; i < N_SEQ; i++) {
        const recurrent_seq *e = &s.seq[i];
        float *qi = dense(&q, e->first, e->n_tok), *ki = dense(&k, e->first, e->n_tok),
              *vi = dense(&v, e->first, e->n_tok), *gi = dense(&g, e->first, e->n_tok),
              *bi = dense(&beta, e->first, e->n_tok), *yi = dense(&y, e->first, e->n_tok);
        const recurrent_delta_ref ref = {.q = qi,
                                         .k = ki,
                                         .v = vi,
                                         .g = gi,
                                         .beta = bi,
                                         .state = s.state + e->slot * s.slot_floats,
                                         .y = yi,
                                         .n_tok = e->n_tok,
                                         .n_head = p->n_head,
                                         .n_key_head = p->n_key_head,
                                         .d_k = p->d_k,
                                         .d_v = p->d_v,
                                         .fresh = e->fresh};
        recurrent_delta(&ref);
        compare(&s, kernel, &y, e, yi);
        free(qi), free(ki), free(vi), free(gi), free(bi), free(yi);
    }
    free(q.v), free(k.v), free(v.v), free(g.v), free(beta.v), free(y.v);
    end(&s, kernel);
}

static void check_conv(check_rig *r) {
    static const uint32_t widths[] = {33, 1, 256, 257, 1000};
    const size_t n = check_short() ? 1 : sizeof widths / sizeof *widths;
    for (size_t i = 0; i < n && check_wanted(r, "recurrent_conv"); i++)
        for (uint32_t n_tap = check_short() ? 4 : 1; n_tap <= (check_short() ? 4u : RECURRENT_TAPS); n_tap++)
            if (check_long() || check_short() || (n_tap + i) % 2) run_conv(r, widths[i], n_tap, 7, n_tap % 3 == 0);
    if (check_long() && check_wanted(r, "recurrent_conv")) run_conv(r, 8192, 4, 200, false);
}

static void check_ssm(check_rig *r) {
    static const ssm_shape shapes[] = {{3, 5, 20, 1, false},  {17, 1, 16, 1, true}, {4, 8, 64, 2, false},
                                       {2, 3, 256, 2, false}, {33, 1, 17, 1, true}, {1, 1, 1, 1, false}};
    const size_t n = check_short() ? 2 : sizeof shapes / sizeof *shapes;
    for (size_t i = 0; i < n && check_wanted(r, "recurrent_ssm"); i++) run_ssm(r, &shapes[i], 6, i % 2 == 0);
    const ssm_shape mamba2 = {80, 64, 128, 1, false}, mamba = {1536, 1, 16, 1, true};
    if (check_long() && check_wanted(r, "recurrent_ssm")) run_ssm(r, &mamba2, 40, true), run_ssm(r, &mamba, 40, true);
}

static void check_delta(check_rig *r) {
    static const delta_shape shapes[] = {{4, 2, 20, 7}, {2, 2, 128, 16}, {6, 1, 256, 3}, {1, 1, 1, 1}, {3, 3, 33, 17}};
    const size_t n = check_short() ? 1 : sizeof shapes / sizeof *shapes;
    for (size_t i = 0; i < n && check_wanted(r, "recurrent_delta"); i++) run_delta(r, &shapes[i], 6);
    const delta_shape next = {32, 16, 128, 128};
    if (check_long() && check_wanted(r, "recurrent_delta")) run_delta(r, &next, 40);
}

int main(int argc, char **argv) {
    check_rig *r = check_open(argc, argv);
    check_conv(r);
    check_ssm(r);
    check_delta(r);
    return check_close(r);
}
