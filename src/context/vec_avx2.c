#include "context/vec.h"

#include "context/vec_dot.h"

float vec_dot_avx2(const float *a, const float *b, size_t n) { return dot_body(a, b, n); }
