/* Elementary functions whose bits do not depend on the machine, its libm or the compiler: plain double arithmetic in one
 * written order (-ffp-contract=off), no fma, no table. For places where a handful of values decide what is computed
 * (RoPE frequencies, log-probabilities); hot loops have single-precision polynomials of their own. Any thread.
 * Error at most 1e-15 relative where not said otherwise. */
#ifndef ROCMFORGE_BASE_FMATH_H
#define ROCMFORGE_BASE_FMATH_H

double rf_exp(double x); /* above 709.78: infinity; below -745.13: 0 */
double rf_log(double x); /* 0: -infinity; negative: NaN */
double rf_sin(double x); /* |x| <= 1e7; beyond it NaN, so that a wrong angle cannot pass for a right one */
double rf_cos(double x);

/* exp(y * log x) for x >= 0, relative error about (1 + |y * log x|) * 2.2e-16. x negative: NaN. rf_pow(x, 0) is 1. */
double rf_pow(double x, double y);

#endif
