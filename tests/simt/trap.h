/* What a kernel does that ends a process on the host: an access where there is no memory, a division by zero. While a launch
 * runs (trap_begin to trap_end), such a signal of its thread, raised on a fiber, is kept and the fiber goes on in `then`, at
 * the top of its stack, where it came from lost; any other signal takes its old way. One launch at a time. Not with
 * AddressSanitizer, which tells more by itself: there the functions do nothing. */
#ifndef ROCMFORGE_TESTS_SIMT_TRAP_H
#define ROCMFORGE_TESTS_SIMT_TRAP_H

#include <stdbool.h>

typedef struct {
    const void *code; /* the instruction */
    const void *at;   /* what it accessed, NULL also where the address is not one that x86-64 can have */
    enum { TRAP_READ, TRAP_WRITE, TRAP_NO_ADDRESS, TRAP_DIVISION } kind;
} trap_found;

/* stack_top: of the fiber that runs, asked when one is caught; NULL: none does. then: never returns. */
void trap_begin(void *(*stack_top)(void), void (*then)(void));
void trap_end(void);
const trap_found *trap_last(void);

#endif
