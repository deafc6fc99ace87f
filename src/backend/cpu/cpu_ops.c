/* The kernel table: the reference fills every slot, each tier overwrites what it does better. */
#include "backend/cpu/cpu_ops.h"

#if defined(__x86_64__)
static void fill_tiers(cpu_ops *ops, cpu_tier tier) {
    if (tier >= TIER_AVX2) {
        cpu_ops_avx2_f32(ops);
        cpu_ops_avx2_linear(ops);
    }
    if (tier >= TIER_AVX512) {
        cpu_ops_avx512_f32(ops);
        cpu_ops_avx512_linear(ops);
    }
}
#else
static void fill_tiers(cpu_ops *ops, cpu_tier tier) {
    (void)ops;
    (void)tier;
}
#endif

void cpu_ops_init(cpu_ops *ops, cpu_tier tier) {
    cpu_ops_ref(ops);
    fill_tiers(ops, tier);
    ops->name = cpu_tier_name(tier);
}
