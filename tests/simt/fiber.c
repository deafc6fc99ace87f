#include "fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/* Keeps the callee-saved registers and the stack pointer in *keep, takes up where `to` was kept. */
void fiber_swap(void **keep, void *to) __attribute__((visibility("hidden")));
__asm__(".text\n"
        ".globl fiber_swap\n"
        ".hidden fiber_swap\n"
        ".type fiber_swap,@function\n"
        "fiber_swap:\n"
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  pushq %r12\n"
        "  pushq %r13\n"
        "  pushq %r14\n"
        "  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n"
        "  popq %r14\n"
        "  popq %r13\n"
        "  popq %r12\n"
        "  popq %rbx\n"
        "  popq %rbp\n"
        "  ret\n"
        ".size fiber_swap,.-fiber_swap\n"
        ".section .note.GNU-stack,\"\",@progbits\n"
        ".text\n");

typedef struct {
    void *sp;
    void (*entry)(void);
    void *fake; /* ASan's */
    unsigned char *stack;
    size_t stack_bytes;
} fiber;

enum { THREAD = FIBER_MAX }; /* the place of the thread itself among the fibers */
static fiber all[FIBER_MAX + 1];
static uint32_t started; /* the fiber that runs for the first time after a swap */

bool fiber_setup(void) {
    enum { GUARD = 4096 };
    if (all[0].stack) return true;
    const size_t each = FIBER_STACK + GUARD;
    unsigned char *at = mmap(NULL, each * FIBER_MAX, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return false;
    for (uint32_t i = 0; i < FIBER_MAX; i++) {
        if (mprotect(at + i * each + GUARD, FIBER_STACK, PROT_READ | PROT_WRITE)) return false;
        all[i].stack = at + i * each + GUARD;
        all[i].stack_bytes = FIBER_STACK;
    }
    return true;
}

#ifdef WITH_ASAN
static void asan_leave(fiber *from, const fiber *to, bool for_good) {
    __sanitizer_start_switch_fiber(for_good ? NULL : &from->fake, to->stack, to->stack_bytes);
}
static void asan_arrive(const fiber *at) { __sanitizer_finish_switch_fiber(at->fake, NULL, NULL); }
/* Asked anew only when another thread runs fibers: for the process's first one the C library reads /proc/self/maps each time.
 * (Not a thread-local: LeakSanitizer falls over those of a library that was closed.) */
static void find_own_stack(fiber *f) {
    static pthread_t owner;
    pthread_attr_t a;
    void *at = NULL;
    if (f->stack && pthread_equal(owner, pthread_self())) return;
    if (pthread_getattr_np(pthread_self(), &a)) return;
    pthread_attr_getstack(&a, &at, &f->stack_bytes);
    f->stack = at;
    owner = pthread_self();
    pthread_attr_destroy(&a);
}
static void clean_stack(const fiber *f) { __asan_unpoison_memory_region(f->stack, f->stack_bytes); }
#else
static void asan_leave(const fiber *from, const fiber *to, bool for_good) { (void)from, (void)to, (void)for_good; }
static void asan_arrive(const fiber *at) { (void)at; }
static void find_own_stack(const fiber *f) { (void)f; }
static void clean_stack(const fiber *f) { (void)f; }
#endif

static void swap(uint32_t from, uint32_t to, bool for_good) {
    started = to;
    asan_leave(&all[from], &all[to], for_good);
    fiber_swap(&all[from].sp, all[to].sp);
    asan_arrive(&all[from]);
}

static void first_steps(void) {
    const uint32_t me = started;
    asan_arrive(&all[me]);
    all[me].entry();
}

void fiber_begin(uint32_t i, void (*entry)(void)) {
    fiber *f = &all[i];
    clean_stack(f);
    f->fake = NULL;
    f->entry = entry;
    void **sp = (void **)(f->stack + f->stack_bytes);
    *--sp = NULL; /* where first_steps would return to; the stack is 8 off a multiple of 16 at its entry */
    *--sp = (void *)first_steps; /* taken by the swap's ret */
    for (int r = 0; r < 6; r++) *--sp = NULL;
    f->sp = sp;
}

void fiber_enter(uint32_t i) {
    find_own_stack(&all[THREAD]);
    swap(THREAD, i, false);
}
void fiber_switch(uint32_t from, uint32_t to) { swap(from, to, false); }
void fiber_pass(uint32_t from, uint32_t to) { swap(from, to, true); }
void fiber_leave(uint32_t from, bool for_good) { swap(from, THREAD, for_good); }
void *fiber_top(uint32_t i) { return all[i].stack + all[i].stack_bytes; }
