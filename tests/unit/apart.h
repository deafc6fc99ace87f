/* A part of a test in a process of its own, for libraries that read their environment once and for ends that are deaths. */
#ifndef ROCMFORGE_TESTS_APART_H
#define ROCMFORGE_TESTS_APART_H

#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

/* Runs `part` in a child, whose end must be `wanted` (as waitpid gives it; 0: well). An assertion that fails there prints its
 * message and aborts the child: cmocka would go on with the other tests in it. */
static inline void ends_apart(void (*part)(void *), void *arg, int wanted) {
    int how = 0;
    fflush(NULL);
    const pid_t child = fork();
    if (!child) {
        setenv("CMOCKA_TEST_ABORT", "1", 1);
        part(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    if (how != wanted) fail_msg("the child ended with %#x instead of %#x", (unsigned)how, (unsigned)wanted);
}

#endif
