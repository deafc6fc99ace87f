#include "base/rng.h"

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014), used as a keyed hash of the position: two rounds, so that
 * neighbouring seeds and positions share nothing visible. */
static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

uint64_t rng_u64(uint64_t seed, uint64_t pos) {
    return mix(mix(seed + 0x9E3779B97F4A7C15u) + (pos + 1) * 0x9E3779B97F4A7C15u);
}

double rng_unit(uint64_t seed, uint64_t pos) { return (double)(rng_u64(seed, pos) >> 11) * 0x1p-53; }
