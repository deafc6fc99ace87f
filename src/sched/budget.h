/* How many tokens of prompts a step may compute beside running generations, so that those do not stall: learnt from what
 * steps cost. A step is taken to last what one of so many generations alone does, and so much more for each token of a
 * prompt. Pure figures, no clock; what it answers changes when something is computed, never what. */
#ifndef ROCMFORGE_SCHED_BUDGET_H
#define ROCMFORGE_SCHED_BUDGET_H

#include <stdint.h>

enum { BUDGET_LEAST = 1, BUDGET_CLASSES = 14 };

typedef struct {
    double decode_us[BUDGET_CLASSES]; /* of a step of 1, 2, 3-4, 5-8, ... generations; 0: not seen yet */
    double token_us;                  /* for each token of a prompt; 0: not seen yet */
} step_cost;

void step_cost_learn(step_cost *c, uint32_t n_decode, uint32_t n_prefill, int64_t us);

/* Tokens of prompts beside n_decode generations (1 or more): the step shall last at most `target_us`, and about
 * 1.6 times what it does without, or 16 ms. At least BUDGET_LEAST, so that prompts always go on; at most `most`. */
uint32_t step_cost_budget(const step_cost *c, uint32_t n_decode, int64_t target_us, uint32_t most);

#endif
