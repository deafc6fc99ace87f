/* Counts every allocation of the process, libraries and libc included: the program's own malloc stands before libc's and
 * passes on. Under a sanitizer, which owns malloc, the count stays 0. Any thread. */
#ifndef ROCMFORGE_TESTS_HEAP_CALLS_H
#define ROCMFORGE_TESTS_HEAP_CALLS_H

#include <stdbool.h>
#include <stdint.h>

uint64_t check_heap_calls(void);
uint64_t check_heap_calls_here(void); /* of the calling thread */
bool check_sanitized(void);           /* slow: tests take their short form */
bool check_thread_sanitized(void);    /* slower still, and about threads alone */

#endif
