/* Random numbers as a pure function of (seed, position): no state to keep, so a request can be taken up again anywhere. */
#ifndef ROCMFORGE_BASE_RNG_H
#define ROCMFORGE_BASE_RNG_H

#include <stdint.h>

uint64_t rng_u64(uint64_t seed, uint64_t pos);
double rng_unit(uint64_t seed, uint64_t pos); /* uniform in [0, 1), 53 bits */

#endif
