/* Recurrent layers of the reference: the formulas once more in double, from the inputs of all tokens at once and without a state;
 * and a prompt cut into steps anywhere gives the same bits. */
#include "check.h"

#include "backend/cpu/ref_recurrent.h"
#include "base/rng.h"

#include <math.h>

enum { N_TOK = 11, WIDTH = 6, N_TAP = 4, N_STATE = 19, MOST = N_TOK * 64 };

static void random_floats(float *v, size_t n, uint64_t of, float scale) {
    for (size_t i = 0; i < n; i++) v[i] = scale * ((float)(rng_u64(of, i) >> 40) / 8388608.0f - 1.0f);
}

static void near(const float *got, const double *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (fabs(got[i] - want[i]) > 1e-5 * (1 + fabs(want[i]))) fail_msg("%zu: %.9g, not %.9g", i, got[i], want[i]);
}

static void test_conv(void **state) {
    (void)state;
    float x[MOST], w[WIDTH * N_TAP], bias[WIDTH], y[MOST], again[MOST], old[N_TAP * WIDTH];
    double want[MOST];
    random_floats(x, N_TOK * WIDTH, 1, 2), random_floats(w, WIDTH * N_TAP, 2, 1), random_floats(bias, WIDTH, 3, 1);
    for (int t = 0; t < N_TOK; t++)
        for (int c = 0; c < WIDTH; c++) {
            double sum = bias[c];
            for (int j = 0; j < N_TAP; j++)
                if (t - N_TAP + 1 + j >= 0) sum += (double)w[c * N_TAP + j] * x[(t - N_TAP + 1 + j) * WIDTH + c];
            want[t * WIDTH + c] = sum / (1 + exp(-sum));
        }
    recurrent_conv_ref a = {x, w, bias, old, y, N_TOK, WIDTH, N_TAP, true, true};
    recurrent_conv(&a);
    near(y, want, N_TOK * WIDTH);
    for (uint32_t cut = 1; cut < N_TOK; cut++) {
        a = (recurrent_conv_ref){x, w, bias, old, again, cut, WIDTH, N_TAP, true, true};
        recurrent_conv(&a);
        a = (recurrent_conv_ref){x + cut * WIDTH, w,     bias,  old,  again + cut * WIDTH,
                                 N_TOK - cut,     WIDTH, N_TAP, true, false};
        recurrent_conv(&a);
        assert_memory_equal(again, y, N_TOK * WIDTH * sizeof(float));
    }
}

enum { HEADS = 4, D_HEAD = 3, GROUPS = 2, ROWS = HEADS * D_HEAD };

/* y[t] = d x[t] + sum over u <= t of exp(a (dt[u + 1] + ... + dt[t])) dt[u] x[u] (b[u] . c[t]) */
static double ssm_at(const float *x, const float *dt, const float *a, const float *b, const float *c, const float *d,
                     int t, int row) {
    const int h = row / D_HEAD, g = h / (HEADS / GROUPS);
    double y = (double)d[h] * x[t * ROWS + row];
    for (int i = 0; i < N_STATE; i++) {
        double since = 0;
        for (int u = t; u >= 0; since += dt[u * HEADS + h], u--)
            y += exp((double)a[h * N_STATE + i] * since) * dt[u * HEADS + h] * x[u * ROWS + row] *
                 b[(u * GROUPS + g) * N_STATE + i] * c[(t * GROUPS + g) * N_STATE + i];
    }
    return y;
}

static void test_ssm(void **state) {
    (void)state;
    float x[MOST], dt[N_TOK * HEADS], a[HEADS * N_STATE], b[N_TOK * GROUPS * N_STATE], c[N_TOK * GROUPS * N_STATE],
        d[HEADS];
    float y[MOST], again[MOST], s[ROWS * N_STATE];
    double want[MOST];
    random_floats(x, N_TOK * ROWS, 4, 1), random_floats(dt, N_TOK * HEADS, 5, 0.4f),
        random_floats(a, HEADS * N_STATE, 6, 2);
    random_floats(b, N_TOK * GROUPS * N_STATE, 7, 1), random_floats(c, N_TOK * GROUPS * N_STATE, 8, 1),
        random_floats(d, HEADS, 9, 1);
    for (int i = 0; i < N_TOK * HEADS; i++) dt[i] = fabsf(dt[i]);
    for (int i = 0; i < HEADS * N_STATE; i++) a[i] = -fabsf(a[i]);
    for (int i = 0; i < N_TOK * ROWS; i++) want[i] = ssm_at(x, dt, a, b, c, d, i / ROWS, i % ROWS);
    recurrent_ssm_ref r = {x, dt, a, b, c, d, s, y, N_TOK, HEADS, D_HEAD, N_STATE, GROUPS, true, true};
    recurrent_ssm(&r);
    near(y, want, N_TOK * ROWS);
    const uint32_t cut = 5, of_group = cut * GROUPS * N_STATE;
    r.y = again, r.n_tok = cut;
    recurrent_ssm(&r);
    r = (recurrent_ssm_ref){
        x + cut * ROWS, dt + cut * HEADS, a,       b + of_group, c + of_group, d,    s, again + cut * ROWS, N_TOK - cut,
        HEADS,          D_HEAD,           N_STATE, GROUPS,       true,         false};
    recurrent_ssm(&r);
    assert_memory_equal(again, y, N_TOK * ROWS * sizeof(float));
}

/* One rate a head is the same rate for every state of it. */
static void test_ssm_one_rate(void **state) {
    (void)state;
    float x[MOST], dt[N_TOK * HEADS], a[HEADS * N_STATE], b[N_TOK * N_STATE], c[N_TOK * N_STATE], y[MOST], again[MOST],
        s[ROWS * N_STATE];
    const float rate[HEADS] = {-0.1f, -1, -2.5f, 0};
    random_floats(x, N_TOK * ROWS, 10, 1), random_floats(dt, N_TOK * HEADS, 11, 0.4f);
    random_floats(b, N_TOK * N_STATE, 12, 1), random_floats(c, N_TOK * N_STATE, 13, 1);
    for (int i = 0; i < HEADS * N_STATE; i++) a[i] = rate[i / N_STATE];
    recurrent_ssm_ref r = {x, dt, a, b, c, NULL, s, y, N_TOK, HEADS, D_HEAD, N_STATE, 1, true, true};
    recurrent_ssm(&r);
    r.a = rate, r.a_per_state = false, r.y = again;
    recurrent_ssm(&r);
    assert_memory_equal(again, y, N_TOK * ROWS * sizeof(float));
}

enum { D_K = 20, D_V = 3, KEY_HEADS = 2 };

/* S[t] = exp(g) S[t-1] (I - beta k k^T) + beta v k^T as matrices, in double. */
static void delta_all(double *want, const float *q, const float *k, const float *v, const float *g, const float *beta) {
    for (int h = 0; h < HEADS; h++) {
        const int kh = h / (HEADS / KEY_HEADS);
        double s[D_V][D_K] = {{0}};
        for (int t = 0; t < N_TOK; t++)
            for (int j = 0; j < D_V; j++) {
                const float *kt = k + (t * KEY_HEADS + kh) * D_K, *qt = q + (t * KEY_HEADS + kh) * D_K;
                const double decay = exp(g[t * HEADS + h]), b = beta[t * HEADS + h];
                double seen = 0, next[D_K], y = 0;
                for (int i = 0; i < D_K; i++) seen += s[j][i] * kt[i];
                for (int i = 0; i < D_K; i++)
                    next[i] = decay * (s[j][i] - b * seen * kt[i]) + b * v[t * HEADS * D_V + h * D_V + j] * kt[i];
                for (int i = 0; i < D_K; i++) y += (s[j][i] = next[i]) * qt[i];
                want[t * HEADS * D_V + h * D_V + j] = y;
            }
    }
}

static void test_delta(void **state) {
    (void)state;
    float q[N_TOK * KEY_HEADS * D_K], k[N_TOK * KEY_HEADS * D_K], v[N_TOK * ROWS], g[N_TOK * HEADS],
        beta[N_TOK * HEADS];
    float y[MOST], again[MOST], s[ROWS * D_K];
    double want[MOST];
    random_floats(q, N_TOK * KEY_HEADS * D_K, 14, 0.4f), random_floats(k, N_TOK * KEY_HEADS * D_K, 15, 0.4f);
    random_floats(v, N_TOK * ROWS, 16, 1), random_floats(g, N_TOK * HEADS, 17, 0.5f),
        random_floats(beta, N_TOK * HEADS, 18, 1);
    for (int i = 0; i < N_TOK * HEADS; i++) g[i] = -fabsf(g[i]), beta[i] = fabsf(beta[i]);
    delta_all(want, q, k, v, g, beta);
    recurrent_delta_ref r = {q, k, v, g, beta, s, y, N_TOK, HEADS, KEY_HEADS, D_K, D_V, true};
    recurrent_delta(&r);
    near(y, want, N_TOK * ROWS);
    const uint32_t cut = 4, keys = cut * KEY_HEADS * D_K;
    r.y = again, r.n_tok = cut;
    recurrent_delta(&r);
    r = (recurrent_delta_ref){q + keys,
                              k + keys,
                              v + cut * ROWS,
                              g + cut * HEADS,
                              beta + cut * HEADS,
                              s,
                              again + cut * ROWS,
                              N_TOK - cut,
                              HEADS,
                              KEY_HEADS,
                              D_K,
                              D_V,
                              false};
    recurrent_delta(&r);
    assert_memory_equal(again, y, N_TOK * ROWS * sizeof(float));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_ssm),
        cmocka_unit_test(test_ssm_one_rate),
        cmocka_unit_test(test_delta),
    };
    return cmocka_run_group_tests_name("recurrent", tests, NULL, NULL);
}
