#include "context/checked_file.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

/* A file of ours; the system's own, of its size, lies behind it. */
typedef struct {
    sqlite3_file base;
    bool checked; /* a main database */
} checked_file;

static sqlite3_file *under(sqlite3_file *f) { return (sqlite3_file *)(void *)((checked_file *)(void *)f + 1); }

/* --- pages ------------------------------------------------------------------------------------------------------------ */
static uint64_t sum_of(const uint8_t *page, sqlite3_int64 at) {
    return XXH3_64bits_withSeed(page, CHECKED_PAGE - CHECKED_RESERVE, (uint64_t)at / CHECKED_PAGE + 1);
}

static bool is_page(const sqlite3_file *f, int n, sqlite3_int64 at) {
    return ((const checked_file *)(const void *)f)->checked && n == CHECKED_PAGE && at % CHECKED_PAGE == 0;
}

/* SQLite also reads parts of page 1, to learn the file's shape before it knows it; whole pages follow before any is used. */
static int read_at(sqlite3_file *f, void *to, int n, sqlite3_int64 at) {
    int rc = under(f)->pMethods->xRead(under(f), to, n, at);
    if (rc || !is_page(f, n, at)) return rc;
    uint64_t sum;
    memcpy(&sum, (const uint8_t *)to + CHECKED_PAGE - CHECKED_RESERVE, sizeof sum);
    return sum == sum_of(to, at) ? SQLITE_OK : SQLITE_IOERR_DATA;
}

/* The pages SQLite hands over are its buffers; the last bytes are reserved for us, in them too. */
static int write_at(sqlite3_file *f, const void *from, int n, sqlite3_int64 at) {
    if (is_page(f, n, at)) {
        uint64_t sum = sum_of(from, at);
        memcpy((uint8_t *)(uintptr_t)from + CHECKED_PAGE - CHECKED_RESERVE, &sum, sizeof sum);
    }
    return under(f)->pMethods->xWrite(under(f), from, n, at);
}

/* --- all else is passed on -------------------------------------------------------------------------------------------- */
static int file_close(sqlite3_file *f) { return under(f)->pMethods ? under(f)->pMethods->xClose(under(f)) : SQLITE_OK; }
static int truncate_to(sqlite3_file *f, sqlite3_int64 n) { return under(f)->pMethods->xTruncate(under(f), n); }
static int sync_file(sqlite3_file *f, int flags) { return under(f)->pMethods->xSync(under(f), flags); }
static int file_size(sqlite3_file *f, sqlite3_int64 *n) { return under(f)->pMethods->xFileSize(under(f), n); }
static int lock(sqlite3_file *f, int level) { return under(f)->pMethods->xLock(under(f), level); }
static int unlock(sqlite3_file *f, int level) { return under(f)->pMethods->xUnlock(under(f), level); }
static int reserved(sqlite3_file *f, int *out) { return under(f)->pMethods->xCheckReservedLock(under(f), out); }
static int control(sqlite3_file *f, int op, void *arg) { return under(f)->pMethods->xFileControl(under(f), op, arg); }
static int sector(sqlite3_file *f) { return under(f)->pMethods->xSectorSize(under(f)); }
static int traits(sqlite3_file *f) { return under(f)->pMethods->xDeviceCharacteristics(under(f)); }
static int shm_map(sqlite3_file *f, int page, int n, int extend, void volatile **out) {
    return under(f)->pMethods->xShmMap(under(f), page, n, extend, out);
}
static int shm_lock(sqlite3_file *f, int at, int n, int flags) {
    return under(f)->pMethods->xShmLock(under(f), at, n, flags);
}
static void shm_barrier(sqlite3_file *f) { under(f)->pMethods->xShmBarrier(under(f)); }
static int shm_unmap(sqlite3_file *f, int remove) { return under(f)->pMethods->xShmUnmap(under(f), remove); }

/* Version 2: with shared memory for the write-ahead log, without memory mappings, which nobody could check. */
static const sqlite3_io_methods methods = {.iVersion = 2,
                                           .xClose = file_close,
                                           .xRead = read_at,
                                           .xWrite = write_at,
                                           .xTruncate = truncate_to,
                                           .xSync = sync_file,
                                           .xFileSize = file_size,
                                           .xLock = lock,
                                           .xUnlock = unlock,
                                           .xCheckReservedLock = reserved,
                                           .xFileControl = control,
                                           .xSectorSize = sector,
                                           .xDeviceCharacteristics = traits,
                                           .xShmMap = shm_map,
                                           .xShmLock = shm_lock,
                                           .xShmBarrier = shm_barrier,
                                           .xShmUnmap = shm_unmap};

/* --- the VFS: the system's but for opening ------------------------------------------------------------------------------ */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static unsigned n_takers;
static sqlite3_vfs checked;

static int open_file(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out_flags) {
    sqlite3_vfs *below = v->pAppData;
    checked_file *c = (checked_file *)(void *)f;
    memset(c, 0, (size_t)v->szOsFile);
    c->checked = flags & SQLITE_OPEN_MAIN_DB;
    int rc = below->xOpen(below, name, under(f), flags, out_flags);
    if (under(f)->pMethods) f->pMethods = &methods;
    return rc;
}

status checked_take(err *e) {
    pthread_mutex_lock(&guard);
    int rc = SQLITE_OK;
    sqlite3_vfs *below = n_takers ? NULL : sqlite3_vfs_find(NULL); /* initializes SQLite, too */
    if (below) {
        checked = *below;
        checked.pNext = NULL;
        checked.zName = CHECKED_VFS;
        checked.pAppData = below;
        checked.szOsFile = below->szOsFile + (int)sizeof(checked_file);
        checked.xOpen = open_file;
        rc = sqlite3_vfs_register(&checked, 0);
    } else if (!n_takers) {
        rc = SQLITE_NOMEM;
    }
    if (!rc) n_takers++;
    pthread_mutex_unlock(&guard);
    return rc ? fail(e, ERR_NOMEM, "SQLite could not be started: %s", sqlite3_errstr(rc)) : OK;
}

void checked_drop(void) {
    pthread_mutex_lock(&guard);
    if (--n_takers == 0) sqlite3_vfs_unregister(&checked);
    pthread_mutex_unlock(&guard);
}
