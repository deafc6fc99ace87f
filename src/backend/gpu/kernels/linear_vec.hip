/* The vector kernels of the quantised types, by name: linear_vec.h has what they do. */
#include "linear_vec.h"

/* One column: two rows a team. */
KERNEL(linear_vec1_q4_0, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q4_0, 2, 1> s;
    linear_vec<Q4_0, 2, 1>(s, a);
}
KERNEL(linear_vec1_q4_1, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q4_1, 2, 1> s;
    linear_vec<Q4_1, 2, 1>(s, a);
}
KERNEL(linear_vec1_q5_0, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q5_0, 2, 1> s;
    linear_vec<Q5_0, 2, 1>(s, a);
}
KERNEL(linear_vec1_q5_1, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q5_1, 2, 1> s;
    linear_vec<Q5_1, 2, 1>(s, a);
}
KERNEL(linear_vec1_q8_0, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q8_0, 2, 1> s;
    linear_vec<Q8_0, 2, 1>(s, a);
}
KERNEL(linear_vec1_q2_k, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q2_K, 2, 1> s;
    linear_vec<Q2_K, 2, 1>(s, a);
}
KERNEL(linear_vec1_q3_k, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q3_K, 2, 1> s;
    linear_vec<Q3_K, 2, 1>(s, a);
}
KERNEL(linear_vec1_q4_k, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q4_K, 2, 1> s;
    linear_vec<Q4_K, 2, 1>(s, a);
}
KERNEL(linear_vec1_q5_k, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q5_K, 2, 1> s;
    linear_vec<Q5_K, 2, 1>(s, a);
}
KERNEL(linear_vec1_q6_k, linear_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q6_K, 2, 1> s;
    linear_vec<Q6_K, 2, 1>(s, a);
}

/* Up to four columns: two rows a team. */
KERNEL(linear_vec4_q4_0, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q4_0, 2, 4> s;
    linear_vec<Q4_0, 2, 4>(s, a);
}
KERNEL(linear_vec4_q4_1, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q4_1, 2, 4> s;
    linear_vec<Q4_1, 2, 4>(s, a);
}
KERNEL(linear_vec4_q5_0, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q5_0, 2, 4> s;
    linear_vec<Q5_0, 2, 4>(s, a);
}
KERNEL(linear_vec4_q5_1, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q5_1, 2, 4> s;
    linear_vec<Q5_1, 2, 4>(s, a);
}
KERNEL(linear_vec4_q8_0, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q8_0, 2, 4> s;
    linear_vec<Q8_0, 2, 4>(s, a);
}
KERNEL(linear_vec4_q2_k, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q2_K, 2, 4> s;
    linear_vec<Q2_K, 2, 4>(s, a);
}
KERNEL(linear_vec4_q3_k, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q3_K, 2, 4> s;
    linear_vec<Q3_K, 2, 4>(s, a);
}
KERNEL(linear_vec4_q4_k, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q4_K, 2, 4> s;
    linear_vec<Q4_K, 2, 4>(s, a);
}
KERNEL(linear_vec4_q5_k, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q5_K, 2, 4> s;
    linear_vec<Q5_K, 2, 4>(s, a);
}
KERNEL(linear_vec4_q6_k, linear_args, LINEAR_VEC4_THREADS) {
    SHARED vec_shared<Q6_K, 2, 4> s;
    linear_vec<Q6_K, 2, 4>(s, a);
}

/* One column, the expert from the route. */
KERNEL(linear_vec1_expert_q4_0, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q4_0, 2, 1> s;
    linear_vec_expert<Q4_0, 2>(s, a);
}
KERNEL(linear_vec1_expert_q4_1, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q4_1, 2, 1> s;
    linear_vec_expert<Q4_1, 2>(s, a);
}
KERNEL(linear_vec1_expert_q5_0, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q5_0, 2, 1> s;
    linear_vec_expert<Q5_0, 2>(s, a);
}
KERNEL(linear_vec1_expert_q5_1, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q5_1, 2, 1> s;
    linear_vec_expert<Q5_1, 2>(s, a);
}
KERNEL(linear_vec1_expert_q8_0, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q8_0, 2, 1> s;
    linear_vec_expert<Q8_0, 2>(s, a);
}
KERNEL(linear_vec1_expert_q2_k, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q2_K, 2, 1> s;
    linear_vec_expert<Q2_K, 2>(s, a);
}
KERNEL(linear_vec1_expert_q3_k, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q3_K, 2, 1> s;
    linear_vec_expert<Q3_K, 2>(s, a);
}
KERNEL(linear_vec1_expert_q4_k, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q4_K, 2, 1> s;
    linear_vec_expert<Q4_K, 2>(s, a);
}
KERNEL(linear_vec1_expert_q5_k, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q5_K, 2, 1> s;
    linear_vec_expert<Q5_K, 2>(s, a);
}
KERNEL(linear_vec1_expert_q6_k, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED vec_shared<Q6_K, 2, 1> s;
    linear_vec_expert<Q6_K, 2>(s, a);
}
