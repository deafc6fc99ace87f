/* Cosines and sines of RoPE: one row per position, computed in double with our own functions, rounded once. Plain, linear
 * scaling, frequency factors and YaRN as llama.cpp defines them. Pure, any thread. */
#ifndef ROCMFORGE_BACKEND_CPU_ROPE_TABLE_H
#define ROCMFORGE_BACKEND_CPU_ROPE_TABLE_H

#include "graph/graph.h"

/* dst: [n_rot] cos, sin of pair 0, of pair 1, ...; p->rope_table is read; factors: [n_rot / 2] divisors, NULL: 1. */
void rope_table_row(float *dst, int32_t pos, const graph_params *p, const float *factors);

#endif
