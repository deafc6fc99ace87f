#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Atomic uint64_t n_calls, n_live;
static _Atomic int64_t fail_in_n; /* 0: off; k: the k-th allocation from here fails; negative: it fired */

static bool denied(void) {
    atomic_fetch_add_explicit(&n_calls, 1, memory_order_relaxed);
    if (atomic_load_explicit(&fail_in_n, memory_order_relaxed) <= 0) return false;
    return atomic_fetch_sub(&fail_in_n, 1) == 1 ? (atomic_store(&fail_in_n, -1), true) : false;
}

static void *counted(void *p) {
    if (p) atomic_fetch_add_explicit(&n_live, 1, memory_order_relaxed);
    return p;
}

void *mem_alloc(size_t n_bytes) { return denied() ? NULL : counted(malloc(n_bytes ? n_bytes : 1)); }
void *mem_zalloc(size_t n_bytes) { return denied() ? NULL : counted(calloc(1, n_bytes ? n_bytes : 1)); }

void *mem_array(size_t n, size_t elem_bytes) {
    size_t total;
    if (__builtin_mul_overflow(n, elem_bytes, &total)) return NULL;
    return mem_zalloc(total);
}

void *mem_aligned(size_t n_bytes, size_t align) {
    if (denied() || n_bytes > SIZE_MAX - align) return NULL;
    void *p = aligned_alloc(align, (n_bytes + align - 1) & ~(align - 1));
    if (p) memset(p, 0, n_bytes);
    return counted(p);
}

void *mem_resize(void *p, size_t n_bytes) {
    if (denied()) return NULL;
    void *q = realloc(p, n_bytes ? n_bytes : 1);
    return p ? q : counted(q);
}

char *mem_strndup(const char *p, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *s = mem_alloc(n + 1);
    if (!s) return NULL;
    if (n) memcpy(s, p, n);
    s[n] = 0;
    return s;
}

void mem_free(void *p) {
    if (p) atomic_fetch_sub_explicit(&n_live, 1, memory_order_relaxed);
    free(p);
}

enum { HUGE_PAGE = 2 << 20 };

void *mem_map(size_t n_bytes) {
    if (denied() || n_bytes == 0 || n_bytes > SIZE_MAX - HUGE_PAGE) return NULL;
    size_t slack = n_bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    char *p = mmap(NULL, n_bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (slack) { /* give the unaligned ends back, so that mem_unmap needs only the size */
        size_t head = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
        size_t keep = (n_bytes + 4095) & ~(size_t)4095;
        if (head) munmap(p, head);
        if (slack - head && keep < n_bytes + slack - head) munmap(p + head + keep, n_bytes + slack - head - keep);
        p += head;
        madvise(p, n_bytes, MADV_HUGEPAGE);
    }
    return counted(p);
}

void mem_unmap(void *p, size_t n_bytes) {
    if (!p) return;
    atomic_fetch_sub_explicit(&n_live, 1, memory_order_relaxed);
    munmap(p, n_bytes);
}

void mem_fail_at(uint64_t n) { atomic_store(&fail_in_n, (int64_t)n); }
bool mem_fail_off(void) { return atomic_exchange(&fail_in_n, 0) < 0; }
uint64_t mem_live(void) { return atomic_load(&n_live); }
uint64_t mem_calls(void) { return atomic_load(&n_calls); }
