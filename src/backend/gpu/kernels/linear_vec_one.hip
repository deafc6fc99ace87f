/* Vector kernels for one column alone that draw launches together (args_linear.h): a gate and its up with the activation and
 * the quantising behind them, and parts of several K types. linear_vec.h has what a block does of them. */
#include "linear_vec.h"
#include "quant/quant.h"
#include "quantize_unit.h"

/* --- gate and up ----------------------------------------------------------------------------------------------------------- */

/* The unit's outputs, by the first team. */
DEVICE void gated_unit(const linear_gated_args &a, uint32_t unit) {
    const uint32_t at = unit * LINEAR_GATED_UNIT + lane_in_team() * EACH;
    if (team_in_block() != 0) return;
    eight e = {};
    if (at < a.n) {
        e = load_eight(a.lin.y + a.gate + at);
        const eight u = load_eight(a.lin.y + a.up + at);
        UNROLL for (int i = 0; i < EACH; i++) e.v[i] = (a.gelu ? canon_gelu(e.v[i]) : canon_silu(e.v[i])) * u.v[i];
    }
    put_unit_any(a.out, e, at, a.n, a.scale_block);
}

template <vec_type T> DEVICE void linear_gated(vec_shared<T, 2, 1> &s, uint32_t *told, const linear_gated_args &a) {
    static_assert((int)LINEAR_GATED_UNIT == (int)UNIT, "a unit is what a team quantises");
    gpu_weight w;
    const uint32_t first = linear_vec_part(w, a.lin, LINEAR_VEC_ROWS), unit = first / LINEAR_GATED_UNIT;
    if (first >= w.n_rows) return; /* all lanes */
    linear_vec<T, 2, 1>(s, a.lin);
    const uint32_t rows = min32(a.n - unit * LINEAR_GATED_UNIT, LINEAR_GATED_UNIT);
    if (comes_last(a.come + unit, rows / LINEAR_VEC_ROWS * 2, told)) gated_unit(a, unit);
}

KERNEL(linear_vec1_gated_q4_0, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q4_0, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q4_0>(s, &told, a);
}
KERNEL(linear_vec1_gated_q4_1, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q4_1, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q4_1>(s, &told, a);
}
KERNEL(linear_vec1_gated_q5_0, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q5_0, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q5_0>(s, &told, a);
}
KERNEL(linear_vec1_gated_q5_1, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q5_1, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q5_1>(s, &told, a);
}
KERNEL(linear_vec1_gated_q8_0, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q8_0, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q8_0>(s, &told, a);
}
KERNEL(linear_vec1_gated_q2_k, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q2_K, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q2_K>(s, &told, a);
}
KERNEL(linear_vec1_gated_q3_k, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q3_K, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q3_K>(s, &told, a);
}
KERNEL(linear_vec1_gated_q4_k, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q4_K, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q4_K>(s, &told, a);
}
KERNEL(linear_vec1_gated_q5_k, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q5_K, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q5_K>(s, &told, a);
}
KERNEL(linear_vec1_gated_q6_k, linear_gated_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q6_K, 2, 1> s;
    SHARED uint32_t told;
    linear_gated<Q6_K>(s, &told, a);
}

/* --- several types --------------------------------------------------------------------------------------------------------- */

union mixed_shared {
    vec_shared<Q2_K, 2, 1> q2;
    vec_shared<Q3_K, 2, 1> q3;
    vec_shared<Q4_K, 2, 1> q4;
    vec_shared<Q5_K, 2, 1> q5;
    vec_shared<Q6_K, 2, 1> q6;
};

/* The type of the part whose rows this block has. */
DEVICE uint32_t type_of_part(const linear_args &a) {
    uint32_t block = block_x(), types = a.types;
    UNROLL for (uint32_t p = 0; p + 1 < LINEAR_PARTS; p++) {
        const uint32_t n = (a.part[p].n_rows + LINEAR_VEC_ROWS - 1) / LINEAR_VEC_ROWS;
        if (p + 1 >= a.n_parts || block < n) break;
        block -= n;
        types >>= 8;
    }
    return types & 255;
}

KERNEL(linear_vec1_mixed_k, linear_args, LINEAR_VEC1_THREADS) {
    SHARED mixed_shared s;
    switch (type_of_part(a)) {
    case QUANT_Q2_K: linear_vec<Q2_K, 2, 1>(s.q2, a); break;
    case QUANT_Q3_K: linear_vec<Q3_K, 2, 1>(s.q3, a); break;
    case QUANT_Q4_K: linear_vec<Q4_K, 2, 1>(s.q4, a); break;
    case QUANT_Q5_K: linear_vec<Q5_K, 2, 1>(s.q5, a); break;
    case QUANT_Q6_K: linear_vec<Q6_K, 2, 1>(s.q6, a); break;
    default: break;
    }
}
