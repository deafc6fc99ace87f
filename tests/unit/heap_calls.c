#include "heap_calls.h"

#include <stdatomic.h>
#include <stddef.h>

static _Atomic uint64_t n_calls;
static _Thread_local uint64_t n_here;

uint64_t check_heap_calls(void) { return atomic_load(&n_calls); }
uint64_t check_heap_calls_here(void) { return n_here; }

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#if defined(SANITIZED)
bool check_sanitized(void) { return true; }
#else
bool check_sanitized(void) { return false; }
#endif

#if defined(__SANITIZE_THREAD__)
bool check_thread_sanitized(void) { return true; }
#else
bool check_thread_sanitized(void) { return false; }
#endif

#if !defined(SANITIZED) && defined(__GLIBC__)
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t each);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static void count(void) {
    atomic_fetch_add_explicit(&n_calls, 1, memory_order_relaxed);
    n_here++;
}

__attribute__((visibility("default"))) void *malloc(size_t n) {
    count();
    return __libc_malloc(n);
}
__attribute__((visibility("default"))) void *calloc(size_t n, size_t each) {
    count();
    return __libc_calloc(n, each);
}
__attribute__((visibility("default"))) void *realloc(void *p, size_t n) {
    count();
    return __libc_realloc(p, n);
}
__attribute__((visibility("default"))) void *aligned_alloc(size_t align, size_t n) {
    count();
    return __libc_memalign(align, n);
}
#endif
