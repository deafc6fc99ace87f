/* Launches of the real code objects: with ROCMFORGE_ISA_EMU (a folder with the emulator, isa_code.py) set, kernels run in a Python process
 * (isa_worker.py) that interprets AMD's instructions. Device and pinned memory is one mapping at the same address in both
 * processes; requests go over a socket pair, one at a time. The process is begun with the first use and ends with the socket. */
#include "standin_own.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef RF_ISA_WORKER
#error "RF_ISA_WORKER: the path of isa_worker.py"
#endif

/* Sparse; below where the system puts libraries and stacks, in the part that AddressSanitizer leaves to programs. */
#define MEMORY_AT    ((unsigned char *)0x200000000000)
#define MEMORY_BYTES ((size_t)16 << 30)

enum { MOST_GAPS = 8192, PAGE = 4096 };

typedef struct {
    size_t at, n_bytes;
} gap;

static gap gaps[MOST_GAPS]; /* free memory, by address */
static int n_gaps;
static int memory_fd = -1;
static int to = -1; /* the socket */
static FILE *from;  /* it, read by lines */
static bool begun;
extern char **environ;

bool emulator_wanted(void) {
    const char *folder = getenv("ROCMFORGE_ISA_EMU");
    return folder && *folder;
}

/* -- memory: first fit -- */

static bool map_memory(void) {
    if (memory_fd >= 0) return true;
    memory_fd = memfd_create("standin", MFD_CLOEXEC);
    if (memory_fd < 0 || ftruncate(memory_fd, (off_t)MEMORY_BYTES)) return false;
    void *at = mmap(MEMORY_AT, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
                    memory_fd, 0);
    gaps[0] = (gap){0, MEMORY_BYTES};
    n_gaps = 1;
    return at == MEMORY_AT;
}

void *emulator_memory(size_t n_bytes) {
    const size_t n = (n_bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
    if (!map_memory()) return NULL;
    for (int i = 0; i < n_gaps; i++) {
        if (gaps[i].n_bytes < n) continue;
        const size_t at = gaps[i].at;
        gaps[i].at += n;
        gaps[i].n_bytes -= n;
        return MEMORY_AT + at;
    }
    return NULL;
}

/* The pages go back to the system; neighbours become one gap, and empty ones vanish. */
void emulator_release(void *p, size_t n_bytes) {
    const size_t n = (n_bytes + PAGE - 1) & ~(size_t)(PAGE - 1), at = (size_t)((unsigned char *)p - MEMORY_AT);
    (void)madvise(p, n, MADV_REMOVE);
    int i = 0, kept = 0;
    while (i < n_gaps && gaps[i].at < at) i++;
    if (n_gaps == MOST_GAPS) return;
    memmove(gaps + i + 1, gaps + i, (size_t)(n_gaps - i) * sizeof *gaps);
    gaps[i] = (gap){at, n};
    n_gaps++;
    for (i = 1; i < n_gaps; i++) {
        if (gaps[kept].n_bytes == 0)
            gaps[kept] = gaps[i];
        else if (gaps[kept].at + gaps[kept].n_bytes == gaps[i].at)
            gaps[kept].n_bytes += gaps[i].n_bytes;
        else
            gaps[++kept] = gaps[i];
    }
    n_gaps = kept + 1;
}

/* -- the other process -- */

/* The reply: why becomes empty when it is ok. */
static void hear(char *why, size_t why_bytes, const char *what) {
    char line[900];
    if (from && fgets(line, sizeof line, from)) {
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "ok")) {
            why[0] = 0;
            return;
        }
    } else {
        snprintf(line, sizeof line, "it has ended (see standard error)");
    }
    snprintf(why, why_bytes, "%s in the emulator: %s", what, line);
}

/* The child inherits both descriptors under their numbers. */
static bool spawn(int theirs) {
    const char *python = getenv("ROCMFORGE_ISA_PYTHON"), *folder = getenv("ROCMFORGE_ISA_EMU");
    char command[4096];
    pid_t pid;
    snprintf(command, sizeof command, "exec \"$0\" \"$1\" \"$2\" %d %d %zu %zu", theirs, memory_fd, (size_t)MEMORY_AT,
             MEMORY_BYTES);
    const char *const argv[] = {"sh", "-c", command, python ? python : "python3", RF_ISA_WORKER, folder, NULL};
    fcntl(theirs, F_SETFD, 0);
    fcntl(memory_fd, F_SETFD, 0);
    const bool ok = !posix_spawn(&pid, "/bin/sh", NULL, NULL, (char *const *)(uintptr_t)argv, environ);
    fcntl(memory_fd, F_SETFD, FD_CLOEXEC);
    return ok;
}

static bool begin_worker(char *why, size_t why_bytes) {
    int pair[2];
    if (begun) {
        snprintf(why, why_bytes, "the emulator's process could not be begun");
        return from != NULL;
    }
    begun = true;
    const bool ok = map_memory() && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    if (!ok || !spawn(pair[1])) {
        snprintf(why, why_bytes, "the emulator's process cannot be begun: %s", strerror(errno));
        return false;
    }
    close(pair[1]);
    to = pair[0];
    from = fdopen(pair[0], "r");
    hear(why, why_bytes, "the start");
    return !why[0];
}

static void tell(const void *data, size_t n_bytes) {
    const char *at = data;
    for (ssize_t n; n_bytes && (n = send(to, at, n_bytes, MSG_NOSIGNAL)) > 0; at += n, n_bytes -= (size_t)n) {}
}

static bool ask(const char *what, const char *line, const void *data, size_t n_bytes, char *why, size_t why_bytes) {
    tell(line, strlen(line));
    tell(data, n_bytes);
    hear(why, why_bytes, what);
    return !why[0];
}

bool emulator_load(const void *code, size_t n_bytes, const char *arch, uint32_t *id, char *why, size_t why_bytes) {
    static uint32_t n_loaded;
    char line[128];
    if (!begin_worker(why, why_bytes)) return false;
    *id = ++n_loaded;
    snprintf(line, sizeof line, "{\"load\": %u, \"arch\": \"%s\", \"bytes\": %zu}\n", *id, arch, n_bytes);
    return ask("a code object", line, code, n_bytes, why, why_bytes);
}

bool emulator_run(uint32_t id, const launch *l, char *why, size_t why_bytes) {
    char line[512];
    if (!begin_worker(why, why_bytes)) return false;
    snprintf(line, sizeof line,
             "{\"run\": %u, \"kernel\": \"%s\", \"grid\": [%u, %u, %u], \"block\": %u, \"bytes\": %zu}\n", id,
             l->f->name, l->grid[0], l->grid[1], l->grid[2], l->block, l->args_bytes);
    return ask(l->f->name, line, l->args, l->args_bytes, why, why_bytes);
}
