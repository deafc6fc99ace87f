#include "base/file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Live mappings, as the signal handler sees them: a fixed table, so that nothing it walks is ever freed. A slot is
 * written by one thread at a time (slots_lock) and read by any thread inside the handler, where no lock may be taken:
 * `seq` is odd while base and bytes change and differs afterwards, so a reader notices a slot that moved under it. The
 * slot of the mapping being read never moves: its owner closes it only when nobody reads it. */
enum { MAX_MAPPINGS = 4096 };

typedef struct {
    _Atomic uint32_t seq;
    _Atomic uintptr_t base; /* 0: free */
    _Atomic size_t bytes;
    _Atomic bool lost; /* the mark */
} slot;

static slot slots[MAX_MAPPINGS];
static _Atomic int n_slots_used; /* slots past it were never used */
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;

static struct sigaction previous; /* what handled SIGBUS before us; written once, before our handler is in place */
static uintptr_t page_bytes;

struct file_map {
    const uint8_t *data;
    size_t size;
    char *path;
    slot *slot; /* NULL for an empty file */
    int fd;     /* kept: fstat tells whether the bytes we map were changed, wherever the name points by now */
    struct stat at_open;
};

static bool slot_holds(slot *s, uintptr_t at, uintptr_t *base, size_t *bytes) {
    uint32_t seq = atomic_load(&s->seq);
    *base = atomic_load(&s->base);
    *bytes = atomic_load(&s->bytes);
    return seq % 2 == 0 && *base && at >= *base && at - *base < *bytes && atomic_load(&s->seq) == seq;
}

/* The bare system call: a libc, sanitizer or preloaded mmap may do more than a signal handler is allowed to. */
static bool zeros_over(uintptr_t at, size_t n_bytes) {
    const long flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    return syscall(SYS_mmap, at, n_bytes, (long)PROT_READ, flags, -1L, 0L) != -1;
}

/* Runs in the signal handler. The mark is set before the zeros can be read. The kernel limits how many pieces a mapping may
 * be cut into; at the limit all of it becomes zeros. */
static bool map_zeros_at(uintptr_t at) {
    for (int i = 0, n = atomic_load(&n_slots_used); i < n; i++) {
        uintptr_t base;
        size_t bytes;
        if (!slot_holds(&slots[i], at, &base, &bytes)) continue;
        atomic_store(&slots[i].lost, true);
        return zeros_over(at & ~(page_bytes - 1), page_bytes) || zeros_over(base, bytes);
    }
    return false;
}

/* A fault that is not ours goes to whoever was there before; with nobody there, to the default action: the faulting
 * instruction runs again and ends the process as it would have without us. */
static void chain(int sig, siginfo_t *info, void *context) {
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(sig, info, context);
    } else if (previous.sa_handler == SIG_DFL || (previous.sa_handler == SIG_IGN && info->si_code > 0)) {
        signal(sig, SIG_DFL);
        if (info->si_code <= 0) raise(sig); /* sent by somebody: nothing would fault again */
    } else if (previous.sa_handler != SIG_IGN) {
        previous.sa_handler(sig);
    }
}

static void on_sigbus(int sig, siginfo_t *info, void *context) {
    int saved = errno;
    bool from_kernel = info->si_code > 0; /* otherwise si_addr means nothing */
    if (!from_kernel || !map_zeros_at((uintptr_t)info->si_addr)) chain(sig, info, context);
    errno = saved;
}

static void install_handler(void) {
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    sigaction(SIGBUS, NULL, &previous);
    struct sigaction mine = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&mine.sa_mask);
    sigaction(SIGBUS, &mine, NULL);
}

static void slot_set(slot *s, uintptr_t base, size_t bytes) {
    atomic_fetch_add(&s->seq, 1);
    atomic_store(&s->base, base);
    atomic_store(&s->bytes, bytes);
    atomic_store(&s->lost, false);
    atomic_fetch_add(&s->seq, 1);
}

/* NULL: the table is full. */
static slot *slot_take(const void *base, size_t bytes) {
    slot *found = NULL;
    pthread_mutex_lock(&slots_lock);
    for (int i = 0; i < MAX_MAPPINGS && !found; i++) {
        if (atomic_load(&slots[i].base)) continue;
        found = &slots[i];
        slot_set(found, (uintptr_t)base, bytes);
        if (i >= atomic_load(&n_slots_used)) atomic_store(&n_slots_used, i + 1);
    }
    pthread_mutex_unlock(&slots_lock);
    return found;
}

static void slot_drop(slot *s) {
    pthread_mutex_lock(&slots_lock);
    slot_set(s, 0, 0);
    pthread_mutex_unlock(&slots_lock);
}

static status open_regular(file_map *m, err *e) {
    m->fd = open(m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up before it is refused */
    if (m->fd < 0) return fail(e, ERR_IO, "%s: cannot be opened: %s", m->path, strerror(errno));
    if (fstat(m->fd, &m->at_open)) return fail(e, ERR_IO, "%s: %s", m->path, strerror(errno));
    if (!S_ISREG(m->at_open.st_mode)) return fail(e, ERR_IO, "%s: is not a regular file", m->path);
    if ((uintmax_t)m->at_open.st_size > SIZE_MAX / 2) return fail(e, ERR_IO, "%s: is too large to map", m->path);
    m->size = (size_t)m->at_open.st_size;
    return OK;
}

static status map_pages(file_map *m, err *e) {
    if (m->size == 0) return OK;
    void *p = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, m->fd, 0);
    if (p == MAP_FAILED) return fail(e, ERR_IO, "%s: cannot be mapped: %s", m->path, strerror(errno));
    m->data = p;
    m->slot = slot_take(p, (m->size + page_bytes - 1) & ~(page_bytes - 1));
    return m->slot ? OK : fail(e, ERR_IO, "%s: more than %d files are mapped", m->path, MAX_MAPPINGS);
}

status file_map_open(file_map **out, const char *path, err *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *out = NULL;
    pthread_once(&once, install_handler);
    file_map *m = mem_zalloc(sizeof *m);
    if (!m) return fail(e, ERR_NOMEM, "no memory to map %s", path);
    m->fd = -1;
    m->path = mem_strndup(path, strlen(path));
    status s = m->path ? OK : fail(e, ERR_NOMEM, "no memory to map %s", path);
    if (!s) s = open_regular(m, e);
    if (!s) s = map_pages(m, e);
    if (s)
        file_map_close(m);
    else
        *out = m;
    return s;
}

void file_map_close(file_map *m) {
    if (!m) return;
    if (m->slot) slot_drop(m->slot);
    if (m->data) munmap((void *)m->data, m->size);
    if (m->fd >= 0) close(m->fd);
    mem_free(m->path);
    mem_free(m);
}

const uint8_t *file_map_data(const file_map *m) { return m->data; }
size_t file_map_size(const file_map *m) { return m->size; }
const char *file_map_path(const file_map *m) { return m->path; }

bool file_map_lost(const file_map *m) { return m->slot && atomic_load_explicit(&m->slot->lost, memory_order_relaxed); }

status file_map_check(const file_map *m, err *e) {
    struct stat now;
    if (file_map_lost(m)) return fail(e, ERR_FILE_CHANGED, "%s: part of the file was lost while in use", m->path);
    if (fstat(m->fd, &now))
        return fail(e, ERR_FILE_CHANGED, "%s: the file failed while in use: %s", m->path, strerror(errno));
    const struct stat *old = &m->at_open;
    if (now.st_size != old->st_size)
        return fail(e, ERR_FILE_CHANGED, "%s: the file had %lld bytes when it was opened and has %lld now", m->path,
                    (long long)old->st_size, (long long)now.st_size);
    if (now.st_mtim.tv_sec != old->st_mtim.tv_sec || now.st_mtim.tv_nsec != old->st_mtim.tv_nsec ||
        now.st_ino != old->st_ino || now.st_dev != old->st_dev)
        return fail(e, ERR_FILE_CHANGED, "%s: the file was written to while in use", m->path);
    return OK;
}

bool file_map_read(const file_map *m, const void *p, void *dst, size_t n_bytes) {
    size_t at = (size_t)((uintptr_t)p - (uintptr_t)m->data), done = 0;
    if (!m->data || at > m->size || n_bytes > m->size - at) return false;
    while (done < n_bytes) {
        ssize_t n = pread(m->fd, (char *)dst + done, n_bytes - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    if (done == n_bytes) return true;
    memset(dst, 0, n_bytes);
    atomic_store(&m->slot->lost, true);
    return false;
}

void file_map_release(const file_map *m, const void *p, size_t n_bytes) {
    uintptr_t at = (uintptr_t)p, base = (uintptr_t)m->data;
    if (!m->data || at < base || at - base > m->size || n_bytes > m->size - (at - base)) return;
    uintptr_t first = (at + page_bytes - 1) & ~(page_bytes - 1);
    uintptr_t end = (at + n_bytes) & ~(page_bytes - 1);
    if (end > first) madvise((void *)first, end - first, MADV_DONTNEED);
}
