#include "backend/cpu/ref_recurrent.h"

#include "backend/cpu/canon.h"

static void begin(float *state, size_t n, bool fresh) {
    if (fresh) memset(state, 0, n * sizeof *state);
}

static float dot16(const float *a, const float *b, uint32_t n) {
    float part[16] = {0};
    for (uint32_t i = 0; i < n; i++) part[i % 16] = fmaf(a[i], b[i], part[i % 16]);
    return canon_sum16(part);
}

/* One channel of one token; its state moves on by one. */
static void conv_one(const recurrent_conv_ref *a, uint32_t t, uint32_t c) {
    const float x = a->x[(size_t)t * a->width + c], *w = a->w + (size_t)c * a->n_tap;
    const uint32_t n_old = a->n_tap - 1;
    float y = a->bias ? a->bias[c] : 0.0f;
    for (uint32_t j = 0; j < n_old; j++) y = fmaf(w[j], a->state[(size_t)j * a->width + c], y);
    y = fmaf(w[n_old], x, y);
    a->y[(size_t)t * a->width + c] = a->silu ? canon_silu(y) : y;
    for (uint32_t j = 0; j + 1 < n_old; j++)
        a->state[(size_t)j * a->width + c] = a->state[(size_t)(j + 1) * a->width + c];
    if (n_old) a->state[(size_t)(n_old - 1) * a->width + c] = x;
}

void recurrent_conv(const recurrent_conv_ref *a) {
    begin(a->state, (size_t)(a->n_tap - 1) * a->width, a->fresh);
    for (uint32_t t = 0; t < a->n_tok; t++)
        for (uint32_t c = 0; c < a->width; c++) conv_one(a, t, c);
}

/* One value of one token. */
static void ssm_one(const recurrent_ssm_ref *a, uint32_t t, uint32_t row) {
    const uint32_t h = row / a->d_head, group = h / (a->n_head / a->n_group), n = a->n_state;
    const size_t of_group = ((size_t)t * a->n_group + group) * n, value = (size_t)t * a->n_head * a->d_head + row;
    const float dt = a->dt[(size_t)t * a->n_head + h], x = a->x[value], in = dt * x;
    const float *rate = a->a + (a->a_per_state ? (size_t)h * n : h);
    float *s = a->state + (size_t)row * n;
    for (uint32_t i = 0; i < n; i++) {
        const float decay = canon_exp(dt * rate[a->a_per_state ? i : 0]);
        s[i] = fmaf(s[i], decay, in * a->b[of_group + i]);
    }
    const float sum = dot16(s, a->c + of_group, n);
    a->y[value] = a->d ? fmaf(a->d[h], x, sum) : sum;
}

void recurrent_ssm(const recurrent_ssm_ref *a) {
    const uint32_t n_row = a->n_head * a->d_head;
    begin(a->state, (size_t)n_row * a->n_state, a->fresh);
    for (uint32_t t = 0; t < a->n_tok; t++)
        for (uint32_t row = 0; row < n_row; row++) ssm_one(a, t, row);
}

static void delta_one(const recurrent_delta_ref *a, uint32_t t, uint32_t row) {
    const uint32_t h = row / a->d_v, key_head = h / (a->n_head / a->n_key_head), n = a->d_k;
    const size_t key = ((size_t)t * a->n_key_head + key_head) * n, gate = (size_t)t * a->n_head + h;
    const size_t value = (size_t)t * a->n_head * a->d_v + row;
    const float decay = canon_exp(a->g[gate]);
    float *s = a->state + (size_t)row * n;
    for (uint32_t i = 0; i < n; i++) s[i] *= decay;
    const float u = (a->v[value] - dot16(s, a->k + key, n)) * a->beta[gate];
    for (uint32_t i = 0; i < n; i++) s[i] = fmaf(u, a->k[key + i], s[i]);
    a->y[value] = dot16(s, a->q + key, n);
}

void recurrent_delta(const recurrent_delta_ref *a) {
    const uint32_t n_row = a->n_head * a->d_v;
    begin(a->state, (size_t)n_row * a->d_k, a->fresh);
    for (uint32_t t = 0; t < a->n_tok; t++)
        for (uint32_t row = 0; row < n_row; row++) delta_one(a, t, row);
}
