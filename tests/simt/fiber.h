/* Stackful coroutines for the interpreter: x86-64 System V, a hand-written switch, annotated for AddressSanitizer. One thread
 * at a time. The stacks are one mapping with a guard page below each; a fiber that is given up in the middle is just begun
 * anew. */
#ifndef ROCMFORGE_TESTS_SIMT_FIBER_H
#define ROCMFORGE_TESTS_SIMT_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FIBER_MAX = 1024, FIBER_STACK = 256 << 10 };

bool fiber_setup(void);                            /* makes the stacks, once; false: out of memory */
void fiber_begin(uint32_t i, void (*entry)(void)); /* entry never returns: it ends with fiber_leave(i) */
void fiber_enter(uint32_t i);                      /* from the thread into fiber i; returns on fiber_leave */
void fiber_switch(uint32_t from, uint32_t to);
void fiber_leave(uint32_t from, bool for_good); /* back to the thread; for_good: this stack is done with */
void fiber_pass(uint32_t from, uint32_t to);    /* fiber_switch by one that has ended */
void *fiber_top(uint32_t i);                    /* the upper end of its stack */

#endif
