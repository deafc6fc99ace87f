/* theta_i = pos * base^(-2i / n_rot) / factor_i. Linear scaling multiplies it by freq_scale. YaRN (Peng et al. 2023,
 * arXiv 2309.00071) keeps the unscaled angle for pairs that turn more than beta_fast times within the original context,
 * the scaled one below beta_slow turns, blends linearly between, and lengthens the vectors by 0.1 ln(1 / freq_scale) + 1. */
#include "backend/cpu/rope_table.h"

#include "base/fmath.h"

#include <math.h>

#define PI 3.14159265358979323846

/* The pair that turns n_turns times over the original context: base^(2i / n_rot) = orig_ctx / (2 pi n_turns). */
static double pair_of_turns(const graph_params *p, double n_turns) {
    double wavelengths = p->rope_table.orig_ctx / (n_turns * 2.0 * PI);
    return p->rope_table.n_rot * rf_log(wavelengths) / (2.0 * rf_log(p->rope_table.base));
}

typedef struct {
    double first, last; /* pairs up to first keep their angle, from last on it is scaled */
} yarn_range;

static yarn_range yarn_range_of(const graph_params *p) {
    double first = floor(pair_of_turns(p, p->rope_table.beta_fast));
    double last = ceil(pair_of_turns(p, p->rope_table.beta_slow));
    double end = (double)p->rope_table.n_rot - 1.0;
    return (yarn_range){first > 0.0 ? first : 0.0, last < end ? last : end};
}

/* 1: the unscaled angle, 0: the scaled one. */
static double yarn_share(yarn_range y, double pair) {
    double width = y.last - y.first, at = (pair - y.first) / (width > 0.001 ? width : 0.001);
    return 1.0 - (at < 0.0 ? 0.0 : at > 1.0 ? 1.0 : at);
}

void rope_table_row(float *dst, int32_t pos, const graph_params *p, const float *factors) {
    double freq_scale = p->rope_table.freq_scale, length = p->rope_table.attn_factor;
    bool yarn = p->rope_table.ext_factor != 0.0f;
    yarn_range range = {0};
    if (yarn) {
        range = yarn_range_of(p);
        length *= 1.0 + 0.1 * rf_log(1.0 / freq_scale);
    }
    double step = -2.0 * rf_log(p->rope_table.base) / p->rope_table.n_rot;
    for (uint32_t i = 0; i < p->rope_table.n_rot / 2; i++) {
        double angle = pos * rf_exp(step * i) / (factors ? (double)factors[i] : 1.0);
        double theta = angle * freq_scale;
        if (yarn) {
            double share = yarn_share(range, i) * p->rope_table.ext_factor;
            theta = theta * (1.0 - share) + angle * share;
        }
        dst[2 * i] = (float)(rf_cos(theta) * length);
        dst[2 * i + 1] = (float)(rf_sin(theta) * length);
    }
}
