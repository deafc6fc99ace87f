/* Time. Monotonic, from the kernel; any thread. */
#ifndef ROCMFORGE_BASE_CLOCK_H
#define ROCMFORGE_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_ns(void); /* the same in nanoseconds */
int64_t clock_us(void); /* microseconds since an arbitrary moment, never back */

#endif
