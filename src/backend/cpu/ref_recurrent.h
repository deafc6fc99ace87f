/* Recurrent layers in plain C: what their kernels on a GPU (kernels/args_recurrent.h) are tested against. No architecture of
 * src/model has such layers yet, so no graph op calls these. All rows are f32, dense; a call is one sequence's tokens of a step,
 * in order, and updates that sequence's state in place (`fresh`: the state before the first token is zero, and is not read).
 * Sums over a state have the canonical order: sixteen partial sums (index mod 16), each an ascending fma chain, and one tree
 * (canon_sum16), so a result does not depend on how a prompt is cut into steps. Pure functions but for y and state. */
#ifndef ROCMFORGE_BACKEND_CPU_REF_RECURRENT_H
#define ROCMFORGE_BACKEND_CPU_REF_RECURRENT_H

#include <stdbool.h>
#include <stdint.h>

/* Causal convolution, each channel its own: y[t][c] = bias[c] + sum_j w[c][j] * x[t - n_tap + 1 + j][c], one fma chain, j
 * ascending from bias (NULL: 0); silu after it when asked. State: the n_tap - 1 inputs before the next token, oldest first. */
typedef struct {
    const float *x;    /* [n_tok, width] */
    const float *w;    /* [width, n_tap] */
    const float *bias; /* [width], or NULL */
    float *state;      /* [n_tap - 1, width] */
    float *y;          /* [n_tok, width] */
    uint32_t n_tok, width, n_tap;
    bool silu, fresh;
} recurrent_conv_ref;
void recurrent_conv(const recurrent_conv_ref *a);

/* Selective scan (Mamba; Gu and Dao 2023, and as heads with one decay each, Dao and Gu 2024). For value p of head h, of group
 * g = h / (n_head / n_group): s[n] = fma(s[n], exp(dt * a), (dt * x[p]) * b[g][n]); y[p] = fma(d[h], x[p], sum_n s[n] c[g][n]).
 * dt is what it is after its softplus. */
typedef struct {
    const float *x;     /* [n_tok, n_head * d_head] */
    const float *dt;    /* [n_tok, n_head] */
    const float *a;     /* [n_head], or with a_per_state [n_head, n_state]: negative rates */
    const float *b, *c; /* [n_tok, n_group * n_state] */
    const float *d;     /* [n_head], or NULL: y is the sum alone */
    float *state;       /* [n_head * d_head, n_state] */
    float *y;           /* [n_tok, n_head * d_head] */
    uint32_t n_tok, n_head, d_head, n_state, n_group;
    bool a_per_state, fresh;
} recurrent_ssm_ref;
void recurrent_ssm(const recurrent_ssm_ref *a);

/* Gated delta rule (Yang, Kautz, Hatamizadeh 2024). For value j of head h, keys of head h / (n_head / n_key_head):
 * s = s * exp(g[h]); u = (v[j] - sum_i s[i] k[i]) * beta[h]; s[i] = fma(u, k[i], s[i]); y[j] = sum_i s[i] q[i]. */
typedef struct {
    const float *q, *k;    /* [n_tok, n_key_head * d_k], scaled and normed already */
    const float *v;        /* [n_tok, n_head * d_v] */
    const float *g, *beta; /* [n_tok, n_head] */
    float *state;          /* [n_head * d_v, d_k] */
    float *y;              /* [n_tok, n_head * d_v] */
    uint32_t n_tok, n_head, n_key_head, d_k, d_v;
    bool fresh;
} recurrent_delta_ref;
void recurrent_delta(const recurrent_delta_ref *a);

#endif
