#include "kv/disk.h"

#include "base/log.h"
#include "base/mem.h"
#include "kv/disk_file.h"
#include "kv/disk_index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    QUEUE_BYTES = 32 << 20, /* about so much waits to be written, */
    QUEUE_LEAST = 2,        /* in so many slots at least */
    QUEUE_MOST = 64,
    INDEX_MOST = 1 << 20,
    SCAN_EVERY = 64 /* pages written: then what other processes did to the folder is looked at */
};

typedef struct {
    disk_page page;
    int32_t *tokens; /* [max_tokens] */
    char *bytes;     /* [page_bytes] */
} queued;

struct kv_disk {
    int dir;
    uint64_t max_bytes;
    disk_page shape; /* what all pages share: identity, page_tokens, page_bytes */
    uint32_t max_tokens;
    uint64_t serial;   /* of the next temporary file; the writer's */
    uint32_t n_unseen; /* pages written since the last scan; the writer's */
    uint32_t n_scan;   /* the writer's, and open's before there is one */
    /* a ring: the caller fills the slot behind the last one, the writer empties the first */
    queued slot[QUEUE_MOST];
    uint32_t n_slots, first; /* first: under lock */
    void *block;             /* memory of all slots */
    size_t block_bytes;
    pthread_t thread;
    bool has_lock, running;
    pthread_mutex_t lock; /* guards what follows, and `first` */
    pthread_cond_t wake;  /* something is queued, or stop */
    uint32_t n_queued;
    bool stop;
    disk_index index;
    kv_disk_stats stats; /* less pages and bytes, which the index knows */
};

static size_t slot_bytes(const kv_disk_options *opt) {
    size_t n = (size_t)opt->max_tokens * sizeof(int32_t);
    return (n + 63) / 64 * 64 + (opt->page_bytes + 63) / 64 * 64;
}

static uint32_t n_slots_for(const kv_disk_options *opt) {
    size_t n = QUEUE_BYTES / slot_bytes(opt);
    return n < QUEUE_LEAST ? QUEUE_LEAST : n > QUEUE_MOST ? QUEUE_MOST : (uint32_t)n;
}

static uint32_t n_pages_for(const kv_disk_options *opt) {
    uint64_t n = opt->max_bytes / (opt->page_bytes + opt->page_tokens * sizeof(int32_t));
    return n < INDEX_MOST ? (uint32_t)n : INDEX_MOST;
}

size_t kv_disk_memory(const kv_disk_options *opt) {
    return n_slots_for(opt) * slot_bytes(opt) +
           (size_t)n_pages_for(opt) * (sizeof(disk_entry) + 2 * sizeof(disk_entry_id));
}

/* --- looking at the folder ------------------------------------------------------------------------------------------------ */

typedef struct {
    uint64_t identity[2], key, bytes;
    struct timespec used;
} found_file;

typedef struct {
    found_file *file;
    size_t n, max;
} found_list;

static bool keep_found(found_list *l, const found_file *f) {
    if (l->n == l->max) {
        size_t max = l->max ? 2 * l->max : 256;
        found_file *more = mem_resize(l->file, max * sizeof *more);
        if (!more) return false;
        l->file = more;
        l->max = max;
    }
    l->file[l->n++] = *f;
    return true;
}

static int by_last_use(const void *a, const void *b) {
    const struct timespec *x = &((const found_file *)a)->used, *y = &((const found_file *)b)->used;
    if (x->tv_sec != y->tv_sec) return x->tv_sec < y->tv_sec ? -1 : 1;
    return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

/* Every file with a page's name, oldest first; what dead writers left is removed. What the names promise is checked when a
 * page is read. 0, or an errno. */
static int list_files(int dir, found_list *l) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) {
        int why = errno;
        if (fd >= 0) close(fd);
        return why;
    }
    int rc = 0;
    for (struct dirent *entry; !rc && (errno = 0, entry = readdir(stream));) {
        found_file f;
        struct stat st;
        if (disk_remove_stale(dir, entry->d_name) || !disk_parse_name(entry->d_name, f.identity, &f.key)) continue;
        if (fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) continue;
        f.bytes = (uint64_t)st.st_size;
        f.used = st.st_mtim;
        if (!keep_found(l, &f)) rc = ENOMEM;
    }
    closedir(stream);
    if (!rc && l->n) qsort(l->file, l->n, sizeof *l->file, by_last_use);
    return rc;
}

static bool is_own(const kv_disk *d, const uint64_t identity[2]) {
    return identity[0] == d->shape.identity[0] && identity[1] == d->shape.identity[1];
}

/* Brings the index up to the list: files that came are added (as used now, in their order), those that went are forgotten.
 * Some entries stay free for what is queued. */
static void merge(kv_disk *d, const found_list *l) {
    uint32_t scan = ++d->n_scan;
    for (size_t k = 0; k < l->n; k++) {
        const found_file *f = &l->file[k];
        disk_entry_id i = disk_index_find(&d->index, f->identity, f->key);
        if (!i && d->index.n_free > d->n_slots &&
            (i = disk_index_add(&d->index, f->identity, f->key, is_own(d, f->identity))))
            disk_index_stored(&d->index, i, f->bytes);
        if (i) d->index.entry[i].scan = scan;
    }
    for (disk_entry_id i = 1; i <= d->index.n_entries; i++) {
        const disk_entry *x = &d->index.entry[i];
        if (x->stored && x->scan != scan) disk_index_remove(&d->index, i);
    }
}

static void scan(kv_disk *d) {
    found_list l = {0};
    d->n_unseen = 0;
    if (list_files(d->dir, &l) == 0) {
        pthread_mutex_lock(&d->lock);
        merge(d, &l);
        pthread_mutex_unlock(&d->lock);
    }
    mem_free(l.file);
}

/* --- the writer ----------------------------------------------------------------------------------------------------------- */

/* Removes the least recently used files until so many more bytes fit. */
static void make_room(kv_disk *d, uint64_t n_bytes) {
    char name[DISK_NAME_BYTES];
    for (;;) {
        pthread_mutex_lock(&d->lock);
        bool fits = d->index.bytes <= d->max_bytes - n_bytes && d->index.n_free >= d->n_slots;
        disk_entry_id i = fits ? 0 : disk_index_oldest(&d->index);
        if (i) {
            disk_name(name, d->index.entry[i].identity, d->index.entry[i].key);
            disk_index_remove(&d->index, i);
        }
        pthread_mutex_unlock(&d->lock);
        if (!i) return;
        unlinkat(d->dir, name, 0);
    }
}

static void write_queued(kv_disk *d, const queued *q) {
    uint64_t n_bytes = disk_file_bytes(&q->page);
    make_room(d, n_bytes);
    disk_result r = disk_write(d->dir, &q->page, q->tokens, q->bytes, d->serial++);
    pthread_mutex_lock(&d->lock);
    disk_entry_id i = disk_index_find(&d->index, q->page.identity, q->page.key);
    if (r == DISK_OK) {
        disk_index_stored(&d->index, i, n_bytes);
        d->stats.saved++;
    } else {
        disk_index_remove(&d->index, i);
        d->stats.failed++;
    }
    pthread_mutex_unlock(&d->lock);
    if (++d->n_unseen >= SCAN_EVERY) scan(d);
}

static void *writer_main(void *arg) {
    kv_disk *d = arg;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        while (!d->n_queued && !d->stop) pthread_cond_wait(&d->wake, &d->lock);
        if (!d->n_queued) break;
        const queued *q = &d->slot[d->first];
        pthread_mutex_unlock(&d->lock);
        write_queued(d, q);
        pthread_mutex_lock(&d->lock);
        d->first = (d->first + 1) % d->n_slots;
        d->n_queued--;
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* Signals are the program's: none is handled on this thread. */
static int start_writer(kv_disk *d) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&d->thread, NULL, writer_main, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    d->running = rc == 0;
    return rc;
}

/* --- open and close ------------------------------------------------------------------------------------------------------- */

/* The folder itself must not be a link either; a slash behind its name would have one followed. */
static status open_folder(kv_disk *d, const char *path, err *e) {
    size_t n = strlen(path);
    char name[PATH_MAX];
    while (n > 1 && path[n - 1] == '/') n--;
    if (n == 0 || n >= sizeof name)
        return fail(e, ERR_IO, "the folder of the KV cache: %s", n ? "its name is too long" : "it has no name");
    memcpy(name, path, n);
    name[n] = '\0';
    if (mkdir(name, 0700) && errno != EEXIST)
        return fail(e, ERR_IO, "the folder %s cannot be made: %s", name, strerror(errno));
    d->dir = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d->dir >= 0) return OK;
    int why = errno;
    struct stat st;
    bool link = lstat(name, &st) == 0 && S_ISLNK(st.st_mode);
    return fail(e, ERR_IO, "the folder %s cannot be opened: %s", name,
                link ? "it is a symbolic link, which is not followed" : strerror(why));
}

static status reserve(kv_disk *d, const kv_disk_options *opt, size_t n_found, err *e) {
    d->n_slots = n_slots_for(opt);
    d->block_bytes = d->n_slots * slot_bytes(opt);
    d->block = mem_map(d->block_bytes);
    uint64_t n_entries = (uint64_t)n_pages_for(opt) + 2 * d->n_slots + n_found;
    if (!d->block || n_entries > UINT32_MAX / 2 || !disk_index_init(&d->index, (uint32_t)n_entries))
        return fail(e, ERR_NOMEM, "the KV cache on disk");
    for (uint32_t i = 0; i < d->n_slots; i++) {
        d->slot[i].bytes = (char *)d->block + i * slot_bytes(opt);
        d->slot[i].tokens = (int32_t *)(void *)(d->slot[i].bytes + (opt->page_bytes + 63) / 64 * 64);
    }
    return OK;
}

static status look_first(kv_disk *d, const kv_disk_options *opt, err *e) {
    found_list l = {0};
    int rc = list_files(d->dir, &l);
    status s = rc == ENOMEM ? fail(e, ERR_NOMEM, "the KV cache on disk")
               : rc         ? fail(e, ERR_IO, "the folder %s cannot be read: %s", opt->dir, strerror(rc))
                            : reserve(d, opt, l.n, e);
    if (!s) merge(d, &l);
    mem_free(l.file);
    return s;
}

status kv_disk_open(kv_disk **out, const kv_disk_options *opt, err *e) {
    *out = NULL;
    kv_disk *d = mem_zalloc(sizeof *d);
    if (!d) return fail(e, ERR_NOMEM, "the KV cache on disk");
    d->dir = -1;
    d->max_bytes = opt->max_bytes;
    d->max_tokens = opt->max_tokens;
    d->shape = (disk_page){.identity = {opt->identity[0], opt->identity[1]},
                           .page_tokens = opt->page_tokens,
                           .page_bytes = opt->page_bytes};
    d->has_lock = pthread_mutex_init(&d->lock, NULL) == 0 && pthread_cond_init(&d->wake, NULL) == 0;
    status s = d->has_lock ? open_folder(d, opt->dir, e) : fail(e, ERR_NOMEM, "a lock");
    if (!s) s = look_first(d, opt, e);
    if (!s && getrandom(&d->serial, sizeof d->serial, GRND_NONBLOCK) != sizeof d->serial)
        d->serial = (uint64_t)getpid() << 32;
    if (!s) make_room(d, 0);
    if (!s && start_writer(d)) s = fail(e, ERR_NOMEM, "the thread that writes the KV cache to disk");
    if (s)
        kv_disk_close(d);
    else
        *out = d;
    return s;
}

void kv_disk_close(kv_disk *d) {
    if (!d) return;
    if (d->running) {
        pthread_mutex_lock(&d->lock);
        d->stop = true;
        pthread_cond_signal(&d->wake);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->thread, NULL);
    }
    if (d->has_lock) {
        pthread_cond_destroy(&d->wake);
        pthread_mutex_destroy(&d->lock);
    }
    if (d->dir >= 0) close(d->dir);
    if (d->block) mem_unmap(d->block, d->block_bytes);
    disk_index_free(&d->index);
    mem_free(d);
}

/* --- the scheduler's side ------------------------------------------------------------------------------------------------- */

static kv_disk *locked(const kv_disk *d) { /* a reader, but for the lock */
    kv_disk *m = (kv_disk *)(uintptr_t)d;
    pthread_mutex_lock(&m->lock);
    return m;
}

bool kv_disk_has(const kv_disk *d, uint64_t key) {
    kv_disk *m = locked(d);
    bool has = disk_index_find(&m->index, m->shape.identity, key) != 0;
    pthread_mutex_unlock(&m->lock);
    return has;
}

static disk_page page_of(const kv_disk *d, uint64_t key, uint32_t n_tokens) {
    disk_page p = d->shape;
    p.key = key;
    p.n_tokens = n_tokens;
    return p;
}

/* A place in the queue and in the index; NULL: known, or no place. */
static queued *reserve_slot(kv_disk *d, const disk_page *p) {
    queued *q = NULL;
    pthread_mutex_lock(&d->lock);
    disk_entry_id i = disk_index_find(&d->index, p->identity, p->key);
    if (i)
        disk_index_touch(&d->index, i);
    else if (d->n_queued < d->n_slots && disk_index_add(&d->index, p->identity, p->key, true))
        q = &d->slot[(d->first + d->n_queued) % d->n_slots];
    pthread_mutex_unlock(&d->lock);
    return q;
}

bool kv_disk_save(kv_disk *d, uint64_t key, const int32_t *tokens, uint32_t n_tokens, const void *bytes) {
    disk_page p = page_of(d, key, n_tokens);
    if (!n_tokens || n_tokens % p.page_tokens || n_tokens > d->max_tokens || disk_file_bytes(&p) > d->max_bytes)
        return false;
    queued *q = reserve_slot(d, &p);
    if (!q) return false;
    q->page = p;
    memcpy(q->tokens, tokens, n_tokens * sizeof *tokens);
    memcpy(q->bytes, bytes, p.page_bytes);
    pthread_mutex_lock(&d->lock);
    d->n_queued++;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
    return true;
}

/* What a reading said of a file, which the writer may have removed meanwhile. */
static void note(kv_disk *d, const disk_page *p, disk_result r) {
    char name[DISK_NAME_BYTES];
    disk_name(name, p->identity, p->key);
    if (r == DISK_BAD) unlinkat(d->dir, name, 0);
    if (r == DISK_BAD)
        log_event(LOG_WARN, "kv", "a damaged page on disk was dropped", (log_field[]){log_s("file", name), {0}});
    pthread_mutex_lock(&d->lock);
    disk_entry_id i = disk_index_find(&d->index, p->identity, p->key);
    if (i && r == DISK_OK) disk_index_touch(&d->index, i);
    if (i && (r == DISK_BAD || r == DISK_GONE)) disk_index_remove(&d->index, i);
    d->stats.loaded += r == DISK_OK;
    d->stats.dropped += r == DISK_BAD;
    pthread_mutex_unlock(&d->lock);
}

bool kv_disk_load(kv_disk *d, uint64_t key, const int32_t *tokens, uint32_t n_tokens, void *bytes) {
    disk_page p = page_of(d, key, n_tokens);
    pthread_mutex_lock(&d->lock);
    disk_entry_id i = disk_index_find(&d->index, p.identity, key);
    bool there = i && d->index.entry[i].stored;
    pthread_mutex_unlock(&d->lock);
    if (!there) return false;
    disk_result r = disk_read(d->dir, &p, tokens, bytes);
    note(d, &p, r);
    return r == DISK_OK;
}

void kv_disk_get_stats(const kv_disk *d, kv_disk_stats *out) {
    kv_disk *m = locked(d);
    *out = m->stats;
    out->pages = m->index.n_own;
    out->bytes = m->index.bytes;
    pthread_mutex_unlock(&m->lock);
}
