#include "base/fmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static double from_bits(uint64_t b) {
    double d;
    memcpy(&d, &b, sizeof d);
    return d;
}

static uint64_t to_bits(double d) {
    uint64_t b;
    memcpy(&b, &d, sizeof b);
    return b;
}

/* ln 2 in two parts: the first has 21 trailing zero bits, so its product with a binary exponent is exact. */
static const double LN2_HIGH = 0x1.62e42feep-1, LN2_LOW = 0x1.a39ef35793c76p-33;
static const double LOG2_E = 0x1.71547652b82fep+0;

/* Nearest integer, for |x| < 2^51: the sum leaves no bit below one. */
static double nearest(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

/* p[0] + p[1] x + ... by Horner's rule. */
static double poly(const double *p, int n, double x) {
    double sum = p[n - 1];
    for (int i = n - 2; i >= 0; i--) sum = sum * x + p[i];
    return sum;
}

/* x = n ln 2 + r, |r| <= ln 2 / 2. exp r = 1 + r + r^2 (1/2! + r/3! + ...), cut where a term is below 2^-56. */
double rf_exp(double x) {
    static const double c[] = {1.0 / 2,         1.0 / 6,          1.0 / 24,         1.0 / 120,     1.0 / 720,
                               1.0 / 5040,      1.0 / 40320,      1.0 / 362880,     1.0 / 3628800, 1.0 / 39916800,
                               1.0 / 479001600, 1.0 / 6227020800, 1.0 / 87178291200};
    if (isnan(x)) return x;
    if (x > 709.79) return INFINITY;
    if (x < -745.2) return 0.0;
    const double n = nearest(x * LOG2_E);
    const double high = x - n * LN2_HIGH, low = n * LN2_LOW, r = high - low;
    const double lost = (high - r) - low; /* what rounding took from r */
    const double e = 1.0 + (r + (r * r * poly(c, 13, r) + lost));
    const int64_t half = (int64_t)n / 2,
                  rest = (int64_t)n - half; /* in two steps: 2^n alone may not be a normal number */
    return e * from_bits((uint64_t)(half + 1023) << 52) * from_bits((uint64_t)(rest + 1023) << 52);
}

/* x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt 2. With s = f / (2 + f): log(1 + f) = 2 atanh s = 2 s + 2 s^3/3 + ...; since
 * 2 s = f - s f, and s f = f^2/2 - s f^2/2, the leading f stays exact: log(1 + f) = f - (f^2/2 - s (f^2/2 + R)),
 * R = 2 (s^2/3 + s^4/5 + ...). */
double rf_log(double x) {
    static const double c[] = {2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11, 2.0 / 13,
                               2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23};
    if (isnan(x) || x < 0) return NAN;
    if (x == 0) return -INFINITY;
    if (isinf(x)) return x;
    int k = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        k = -54;
    }
    uint64_t bits = to_bits(x);
    k += (int)(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000;
    if (bits > 0x3FF6A09E667F3BCC) { /* above sqrt 2 */
        bits -= (uint64_t)1 << 52;
        k++;
    }
    const double f = from_bits(bits) - 1.0, s = f / (2.0 + f), s2 = s * s, half = 0.5 * f * f;
    const double tail = s * (half + s2 * poly(c, 11, s2));
    return k * LN2_HIGH - ((half - (tail + k * LN2_LOW)) - f);
}

/* a + b = sum + err exactly (Knuth). */
static double two_sum(double a, double b, double *err) {
    const double sum = a + b, bb = sum - a;
    *err = (a - (sum - bb)) + (b - bb);
    return sum;
}

/* x = n pi/2 + r + low, |r| <= pi/4, n up to 2^23. pi/2 in parts of 29 bits, so that n times a part is exact; the last
 * part is a whole double, 140 bits in all, since for some x all but the last bits cancel. Returns n mod 4. */
static int reduce(double x, double *r, double *low) {
    static const double part[] = {0x1.921fb54p+0, 0x1.10b4611p-30, 0x1.4c4c662p-59, 0x1.1701b839a252p-88};
    const double n = nearest(x * 0x1.45f306dc9c883p-1); /* 2 / pi */
    double high = x - n * part[0], rest = 0, err;
    for (int i = 1; i < 4; i++) {
        high = two_sum(high, -(n * part[i]), &err);
        rest += err;
    }
    *r = two_sum(high, rest, low);
    return (int)((int64_t)n & 3);
}

/* sin(r + low) = sin r + low cos r. */
static double sin_small(double r, double low) {
    static const double c[] = {-1.0 / 6,
                               1.0 / 120,
                               -1.0 / 5040,
                               1.0 / 362880,
                               -1.0 / 39916800,
                               1.0 / 6227020800.0,
                               -1.0 / 1307674368000.0,
                               1.0 / 355687428096000.0};
    const double z = r * r;
    return r + (r * z * poly(c, 8, z) + low * (1.0 - 0.5 * z));
}

/* cos(r + low) = cos r - low sin r; what rounding takes from 1 - r^2/2 is put back. */
static double cos_small(double r, double low) {
    static const double c[] = {1.0 / 24,
                               -1.0 / 720,
                               1.0 / 40320,
                               -1.0 / 3628800,
                               1.0 / 479001600.0,
                               -1.0 / 87178291200.0,
                               1.0 / 20922789888000.0,
                               -1.0 / 6402373705728000.0};
    const double z = r * r, half = 0.5 * z, w = 1.0 - half;
    return w + (((1.0 - w) - half) + (z * z * poly(c, 8, z) - r * low));
}

static const double ANGLE_MAX = 1e7;

double rf_sin(double x) {
    double r, low;
    if (!(fabs(x) <= ANGLE_MAX)) return NAN;
    if (x == 0) return x;
    const int quarter = reduce(x, &r, &low);
    const double v = quarter & 1 ? cos_small(r, low) : sin_small(r, low);
    return quarter & 2 ? -v : v;
}

double rf_cos(double x) {
    double r, low;
    if (!(fabs(x) <= ANGLE_MAX)) return NAN;
    const int quarter = reduce(x, &r, &low);
    const double v = quarter & 1 ? sin_small(r, low) : cos_small(r, low);
    return quarter == 1 || quarter == 2 ? -v : v;
}

double rf_pow(double x, double y) {
    if (y == 0) return 1.0;
    if (x == 1) return 1.0;
    return rf_exp(y * rf_log(x));
}
