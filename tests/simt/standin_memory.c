/* Memory of the devices and pinned memory of the host: this process's, between guards. Every pointer of a call is looked up
 * here, so use after free and copies over an end are errors of the call. */
#include "standin_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(at, n)   ((void)(at), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(at, n) ((void)(at), (void)(n))
#define GUARDS_CAN_BE_READ                 1
#else
#define GUARDS_CAN_BE_READ 0
#endif

enum { GUARD = 256, GUARD_BYTE = 0xC5, MOST_FILLED = 64 << 20, HOST = -1 };
static const uint32_t fresh = 0x7FBADBAD; /* a NaN as f32 and as two f16; no index */

static block *blocks;

block *block_list(void) { return blocks; }

block *find_block(const void *p, size_t n_bytes) {
    const unsigned char *at = p;
    for (block *b = blocks; b; b = b->next)
        if (at >= b->at && at < b->at + b->n_bytes) return n_bytes <= (size_t)(b->at + b->n_bytes - at) ? b : NULL;
    return NULL;
}

bool is_device_memory(const void *p, size_t n_bytes) {
    const block *b = find_block(p, n_bytes);
    return b && b->dev != HOST;
}

static size_t guard_after(const block *b) { return b->heap_bytes - GUARD - b->n_bytes; }

static bool guard_whole(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != GUARD_BYTE) return false;
    return true;
}

static void check_block(int dev, const block *b, const char *after) {
    if (!GUARDS_CAN_BE_READ || b->dev == HOST) return;
    const bool before = guard_whole(b->at - GUARD, GUARD), behind = guard_whole(b->at + b->n_bytes, guard_after(b));
    if (!before || !behind)
        (void)break_device(dev, HIP_ILLEGAL_ADDRESS, "after %s: written %s a buffer of %zu bytes", after,
                           before ? "behind" : "before", b->n_bytes);
}

void check_guards(int dev, const char *after) {
    for (const block *b = blocks; b && !devices[dev].broken; b = b->next)
        if (b->dev == dev) check_block(dev, b, after);
}

static void *heap_take(size_t n_bytes) {
    void *p = NULL;
    if (emulator_wanted()) return emulator_memory(n_bytes);
    return posix_memalign(&p, 4096, n_bytes) ? NULL : p;
}

static void heap_give(void *p, size_t n_bytes) {
    if (emulator_wanted())
        emulator_release(p, n_bytes);
    else
        free(p);
}

static void fill_fresh(unsigned char *p, size_t n_bytes) {
    for (size_t i = 0; i + 4 <= n_bytes && i < MOST_FILLED; i += 4) memcpy(p + i, &fresh, 4);
}

static hip_error take(void **out, size_t n_bytes, int dev) {
    const size_t heap_bytes = (n_bytes + 2 * GUARD + 255) & ~(size_t)255;
    block *b = calloc(1, sizeof *b);
    unsigned char *at = b && n_bytes < SIZE_MAX / 2 ? heap_take(heap_bytes) : NULL;
    if (!at) {
        free(b);
        return HIP_OUT_OF_MEMORY;
    }
    *b = (block){.next = blocks, .at = at + GUARD, .n_bytes = n_bytes, .heap_bytes = heap_bytes, .dev = dev};
    memset(at, GUARD_BYTE, GUARD);
    memset(b->at + n_bytes, GUARD_BYTE, guard_after(b));
    fill_fresh(b->at, n_bytes);
    ASAN_POISON_MEMORY_REGION(at, GUARD);
    ASAN_POISON_MEMORY_REGION(b->at + n_bytes, guard_after(b));
    blocks = b;
    counts.allocations++;
    *out = b->at;
    return HIP_SUCCESS;
}

/* The block that begins at p leaves the list; NULL: there is none of this kind. */
static block *take_out(const void *p, bool host) {
    for (block **at = &blocks; *at; at = &(*at)->next) {
        block *b = *at;
        if (b->at != p || (b->dev == HOST) != host) continue;
        *at = b->next;
        return b;
    }
    return NULL;
}

static void give(block *b) {
    unsigned char *heap = b->at - GUARD;
    ASAN_UNPOISON_MEMORY_REGION(heap, b->heap_bytes);
    fill_fresh(b->at, b->n_bytes); /* who still reads it sees it */
    heap_give(heap, b->heap_bytes);
    free(b);
}

/* Whether p lies in a mapping of a file. Pinned memory is never asked about. */
bool in_mapped_file(const void *p) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512], path[256];
    bool is = false;
    while (f && fgets(line, sizeof line, f)) {
        unsigned long from, to, inode;
        path[0] = 0;
        if (sscanf(line, "%lx-%lx %*s %*x %*x:%*x %lu %255s", &from, &to, &inode, path) < 3) continue;
        if ((uintptr_t)p >= from && (uintptr_t)p < to) {
            is = inode && strncmp(path, "/memfd:", 7) && strncmp(path, "/dev/", 5);
            break;
        }
    }
    if (f) fclose(f);
    return is;
}

/* -- HIP -- */

hip_error hipMemGetInfo(size_t *free_bytes, size_t *total) {
    standin_lock();
    const device *d = &devices[current_device()];
    hip_error rc = fault_of_call("hipMemGetInfo");
    if (!rc) rc = d->broken;
    *total = d->total;
    *free_bytes = d->total - d->used;
    standin_unlock();
    return rc;
}

hip_error hipMalloc(void **out, size_t n_bytes) {
    enum { PAGE = 4096 };
    standin_lock();
    const int dev = current_device();
    device *d = &devices[dev];
    hip_error rc = fault_of_call("hipMalloc");
    if (!rc) rc = d->broken;
    const size_t charged = (n_bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
    if (!rc && (charged < n_bytes || charged > d->total - d->used)) rc = HIP_OUT_OF_MEMORY;
    *out = NULL;
    if (!rc && n_bytes) rc = take(out, n_bytes, dev);
    if (*out) {
        d->used += charged;
        counts.live_device_bytes += n_bytes;
    }
    standin_unlock();
    return rc;
}

hip_error hipFree(void *p) {
    if (!p) return HIP_SUCCESS;
    standin_lock();
    hip_error rc = fault_of_call("hipFree");
    block *b = rc ? NULL : take_out(p, false);
    if (b) {
        check_block(b->dev, b, "all that ran so far");
        devices[b->dev].used -= (b->n_bytes + 4095) & ~(size_t)4095;
        counts.live_device_bytes -= b->n_bytes;
        give(b);
    } else if (!rc) {
        rc = break_device(current_device(), HIP_INVALID_VALUE, "hipFree of what is no device memory");
    }
    standin_unlock();
    return rc;
}

hip_error hipHostMalloc(void **out, size_t n_bytes, unsigned flags) {
    (void)flags;
    standin_lock();
    hip_error rc = fault_of_call("hipHostMalloc");
    *out = NULL;
    if (!rc && n_bytes) rc = take(out, n_bytes, HOST);
    if (*out) counts.live_pinned_bytes += n_bytes;
    standin_unlock();
    return rc;
}

hip_error hipHostFree(void *p) {
    if (!p) return HIP_SUCCESS;
    standin_lock();
    hip_error rc = fault_of_call("hipHostFree");
    block *b = rc ? NULL : take_out(p, true);
    if (b) {
        counts.live_pinned_bytes -= b->n_bytes;
        give(b);
    } else if (!rc) {
        rc = break_device(current_device(), HIP_INVALID_VALUE, "hipHostFree of what is no pinned memory");
    }
    standin_unlock();
    return rc;
}
