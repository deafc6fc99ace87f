/* What goes wrong, and when: ROCMFORGE_STANDIN_FAULT, faults with commas between them. N counts from 1; * stands for every.
 *
 *   hipMalloc:3:2          call 3 of the function returns error 2 (hipErrorOutOfMemory)
 *   launch:NAME:flip:N     launch N of the kernel (* any kernel): one bit of what it wrote to each block of memory is wrong; also
 *                          skip (it writes nothing) and fail (hipErrorLaunchFailure with the next synchronising call)
 *   copy:N:stale           asynchronous copy N does nothing; short: it copies half
 *   hang:N                 the Nth wait of the host never ends
 *   slow:US                every launch takes so many microseconds more
 *   lost:N                 after N launches the device is gone: every call gives hipErrorLaunchFailure */
#include "standin_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_FAULTS = 16 };

typedef struct {
    char kind[40], name[64], what[16]; /* launch: NAME flip; of a function: its name stands in kind */
    uint64_t at, seen;                 /* 0: every */
    long number;
} fault;

static fault faults[MOST_FAULTS];
static int n_faults;

static uint64_t count_of(const char *text) { return text && strcmp(text, "*") != 0 ? strtoull(text, NULL, 10) : 0; }

static void read_one(char *text) {
    char *rest = NULL;
    const char *part[4] = {0};
    for (int i = 0; i < 4; i++) part[i] = strtok_r(i ? NULL : text, ":", &rest);
    if (!part[0] || n_faults == MOST_FAULTS) return;
    fault *f = &faults[n_faults++];
    snprintf(f->kind, sizeof f->kind, "%s", part[0]);
    if (!strcmp(part[0], "launch")) {
        snprintf(f->name, sizeof f->name, "%s", part[1] ? part[1] : "*");
        snprintf(f->what, sizeof f->what, "%s", part[2] ? part[2] : "flip");
        f->at = count_of(part[3]);
    } else if (!strcmp(part[0], "copy")) {
        f->at = count_of(part[1]);
        snprintf(f->what, sizeof f->what, "%s", part[2] ? part[2] : "stale");
    } else {
        f->at = count_of(part[1]);
        f->number = part[2] ? atol(part[2]) : HIP_UNKNOWN;
    }
}

void faults_read(void) {
    const char *text = getenv("ROCMFORGE_STANDIN_FAULT");
    char own[1024], *rest = NULL;
    snprintf(own, sizeof own, "%s", text ? text : "");
    for (char *f = strtok_r(own, ",", &rest); f; f = strtok_r(NULL, ",", &rest)) read_one(f);
}

static bool due(fault *f) { return ++f->seen == f->at || !f->at; }

hip_error fault_of_call(const char *name) {
    for (int i = 0; i < n_faults; i++) {
        fault *f = &faults[i];
        if (!strcmp(f->kind, name) && due(f)) return (hip_error)f->number;
        const bool waits = strstr(name, "Synchronize") != NULL;
        if (!strcmp(f->kind, "hang") && waits && due(f))
            for (;;) pause();
    }
    return HIP_SUCCESS;
}

launch_fault fault_of_launch(const char *kernel) {
    launch_fault found = FAULT_NONE;
    for (int i = 0; i < n_faults; i++) {
        fault *f = &faults[i];
        if (!strcmp(f->kind, "slow")) usleep((useconds_t)f->at);
        if (!strcmp(f->kind, "lost") && f->seen++ >= f->at) found = FAULT_FAIL;
        if (strcmp(f->kind, "launch") != 0 || (strcmp(f->name, "*") != 0 && strcmp(f->name, kernel) != 0) || !due(f))
            continue;
        found = !strcmp(f->what, "skip") ? FAULT_SKIP : !strcmp(f->what, "fail") ? FAULT_FAIL : FAULT_FLIP;
    }
    return found;
}

copy_fault fault_of_copy(void) {
    for (int i = 0; i < n_faults; i++)
        if (!strcmp(faults[i].kind, "copy") && due(&faults[i]))
            return !strcmp(faults[i].what, "short") ? COPY_SHORT : COPY_STALE;
    return COPY_WELL;
}

/* -- one wrong bit: all of the device's memory is compared with what it was; of the words that changed in each block of it, the
 * middle one gets its bit 22 turned, the highest of a float's fraction -- */

static unsigned char *shadow;

static size_t device_bytes(int dev) {
    size_t n = 0;
    for (const block *b = block_list(); b; b = b->next) n += b->dev == dev ? b->n_bytes & ~(size_t)3 : 0;
    return n;
}

void flip_before(int dev) {
    free(shadow);
    shadow = malloc(device_bytes(dev) + 1);
    unsigned char *to = shadow;
    for (const block *b = block_list(); b && shadow; b = b->next) {
        if (b->dev != dev) continue;
        memcpy(to, b->at, b->n_bytes & ~(size_t)3);
        to += b->n_bytes & ~(size_t)3;
    }
}

/* Word number `wanted` of those that changed in a block is turned; returns how many there are. */
static size_t changed_words(block *b, const unsigned char *old, size_t wanted) {
    size_t n = 0;
    for (size_t i = 0; i + 4 <= b->n_bytes; i += 4)
        if (memcmp(b->at + i, old + i, 4) != 0 && n++ == wanted) b->at[i + 2] ^= 0x40;
    return n;
}

void flip_after(int dev) {
    const unsigned char *old = shadow;
    for (block *b = block_list(); b && shadow; b = b->next) {
        if (b->dev != dev) continue;
        const size_t n = changed_words(b, old, SIZE_MAX);
        if (n) (void)changed_words(b, old, n / 2);
        old += b->n_bytes & ~(size_t)3;
    }
    free(shadow);
    shadow = NULL;
}
