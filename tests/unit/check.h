/* What every unit test includes first: cmocka with the headers it wants, less its macro `fail`, whose name is ours. */
#ifndef ROCMFORGE_TESTS_CHECK_H
#define ROCMFORGE_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#undef fail
#undef fail_msg /* cmocka's goes through the macro we just lost */
#define fail_msg(...) (print_error(__VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))

#include <signal.h>

/* cmocka puts its own handler over SIGBUS while a test runs. A test that lets a mapped file shrink calls this after it has
 * opened a file_map: the handler that the process's first open installed (remember_sigbus, in main) is put back. */
static struct sigaction check_sigbus;
static inline void remember_sigbus(void) { sigaction(SIGBUS, NULL, &check_sigbus); }
static inline void restore_sigbus(void) { sigaction(SIGBUS, &check_sigbus, NULL); }

#endif
