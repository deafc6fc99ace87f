#include "trap.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define LEFT_TO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEFT_TO_ASAN 1
#endif
#endif

#ifdef LEFT_TO_ASAN

void trap_begin(void *(*stack_top)(void), void (*then)(void)) { (void)stack_top, (void)then; }
void trap_end(void) {}
const trap_found *trap_last(void) { return NULL; }

#else

enum { N_SIGNALS = 3, NOT_PRESENT_WRITE = 2, CALLED = 8 }; /* bit 1 of a page fault's error code: it was a write */
static const int signals[N_SIGNALS] = {SIGSEGV, SIGBUS, SIGFPE};
static struct sigaction before[N_SIGNALS];
static stack_t stack_before;
static _Alignas(16) unsigned char stack[64 << 10]; /* a fiber's own may be what ran out */
static pthread_t launcher;
static void *(*top_of_fiber)(void);
static void (*goes_on)(void);
static trap_found last;

static void take_old_way(int sig) {
    for (int i = 0; i < N_SIGNALS; i++)
        if (signals[i] == sig) sigaction(sig, &before[i], NULL); /* the instruction is tried again */
}

static void caught(int sig, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    greg_t *r = u->uc_mcontext.gregs;
    unsigned char *top = pthread_equal(pthread_self(), launcher) ? top_of_fiber() : NULL;
    if (!top || info->si_code == SI_USER) {
        take_old_way(sig);
        return;
    }
    last = (trap_found){.code = (const void *)(uintptr_t)r[REG_RIP], .at = info->si_addr};
    last.kind = sig == SIGFPE                    ? TRAP_DIVISION
                : info->si_code == SI_KERNEL     ? TRAP_NO_ADDRESS
                : r[REG_ERR] & NOT_PRESENT_WRITE ? TRAP_WRITE
                                                 : TRAP_READ;
    r[REG_RIP] = (greg_t)(uintptr_t)goes_on;
    r[REG_RSP] = (greg_t)((uintptr_t)top & ~(uintptr_t)15) - CALLED;
}

void trap_begin(void *(*stack_top)(void), void (*then)(void)) {
    struct sigaction a = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    launcher = pthread_self();
    top_of_fiber = stack_top, goes_on = then;
    sigemptyset(&a.sa_mask);
    sigaltstack(&own, &stack_before);
    for (int i = 0; i < N_SIGNALS; i++) sigaction(signals[i], &a, &before[i]);
}

void trap_end(void) {
    for (int i = 0; i < N_SIGNALS; i++) sigaction(signals[i], &before[i], NULL);
    sigaltstack(&stack_before, NULL);
}

const trap_found *trap_last(void) { return &last; }

#endif
