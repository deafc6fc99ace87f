/* Which tier this CPU and its system can run. */
#include "backend/cpu/cpu_ops.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum { /* of cpuid and xgetbv, Intel SDM vol. 2A and vol. 1 section 13 */
       CPUID1_ECX_FMA = 1 << 12,
       CPUID1_ECX_OSXSAVE = 1 << 27,
       CPUID1_ECX_AVX = 1 << 28,
       CPUID1_ECX_F16C = 1 << 29,
       CPUID7_EBX_AVX2 = 1 << 5,
       CPUID7_EBX_AVX512 = 1 << 16 | 1 << 17 | 1 << 30, /* F, DQ, BW */
       CPUID7_ECX_VNNI = 1 << 11,
       XCR0_AVX = 0x06,   /* the system saves xmm and ymm */
       XCR0_AVX512 = 0xe6 /* and the masks, the upper halves of zmm, zmm16-31 */
};
static const unsigned CPUID7_EBX_AVX512VL = 1u << 31;

static bool has_all(unsigned flags, unsigned want) { return (flags & want) == want; }

static unsigned read_xcr0(void) {
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

cpu_tier cpu_tier_best(void) {
    unsigned a, b, c, d, b7, c7;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return TIER_SCALAR;
    if (!has_all(c, CPUID1_ECX_FMA | CPUID1_ECX_OSXSAVE | CPUID1_ECX_AVX | CPUID1_ECX_F16C)) return TIER_SCALAR;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d)) return TIER_SCALAR;
    unsigned xcr0 = read_xcr0();
    if (!has_all(b7, CPUID7_EBX_AVX2) || !has_all(xcr0, XCR0_AVX)) return TIER_SCALAR;
    if (!has_all(b7, CPUID7_EBX_AVX512 | CPUID7_EBX_AVX512VL) || !has_all(c7, CPUID7_ECX_VNNI)) return TIER_AVX2;
    return has_all(xcr0, XCR0_AVX512) ? TIER_AVX512 : TIER_AVX2;
}
#else
cpu_tier cpu_tier_best(void) { return TIER_SCALAR; }
#endif

static const char *const tier_names[TIER_COUNT] = {"scalar", "avx2", "avx512"};

const char *cpu_tier_name(cpu_tier t) { return tier_names[t]; }

bool cpu_tier_from_name(const char *name, cpu_tier *t) {
    for (int i = 0; i < TIER_COUNT; i++) {
        if (strcmp(name, tier_names[i]) != 0) continue;
        *t = (cpu_tier)i;
        return true;
    }
    return false;
}
