#include "context/index_file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_STATIC_LINKING_ONLY /* the state's size: it lives on the stack */
#include <xxhash.h>

enum { VERSION = 1, MOST_BYTES = 1 << 30 };
static const char magic[8] = "RFCXIDX";

typedef struct {
    char magic[8];
    uint32_t version, n_embd;
    uint8_t store[16];
    int64_t model, vectors, gone;
    uint64_t n_bytes;
    uint64_t checksum; /* of the header before it, then the graph */
} index_head;
_Static_assert(sizeof(index_head) == 72, "no padding: the header is written as it lies in memory");

static bool index_name(char *name, size_t size, const char *path, const char *tail) {
    return (size_t)snprintf(name, size, "%s-index%s", path, tail) < size;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */
typedef struct {
    FILE *f;
    XXH3_state_t sum;
} writer;

static bool put(void *user, const void *p, size_t n) {
    writer *w = user;
    (void)XXH3_64bits_update(&w->sum, p, n);
    return fwrite(p, 1, n, w->f) == n;
}

/* The head comes twice: first without the checksum, so that the file never looks whole before it is. */
static bool write_all(FILE *f, index_head *head, const hnsw *h) {
    writer w = {.f = f};
    (void)XXH3_64bits_reset(&w.sum);
    (void)XXH3_64bits_update(&w.sum, head, offsetof(index_head, checksum));
    if (fwrite(head, sizeof *head, 1, f) != 1 || hnsw_save(h, put, &w, NULL)) return false;
    head->checksum = XXH3_64bits_digest(&w.sum);
    return fseek(f, 0, SEEK_SET) == 0 && fwrite(head, sizeof *head, 1, f) == 1 && fflush(f) == 0 &&
           fsync(fileno(f)) == 0;
}

status index_file_write(const char *path, const uint8_t *store, const vector_model *m, index_mark at, const hnsw *h,
                        err *e) {
    char name[4200], temporary[4200], tail[32];
    snprintf(tail, sizeof tail, ".%ld.tmp", (long)getpid());
    if (!index_name(name, sizeof name, path, "") || !index_name(temporary, sizeof temporary, path, tail))
        return fail(e, ERR_RANGE, "%s: the name is too long", path);
    index_head head = {.version = VERSION,
                       .n_embd = m->n_embd,
                       .model = m->id,
                       .vectors = at.vectors,
                       .gone = at.gone,
                       .n_bytes = hnsw_saved_bytes(h)};
    memcpy(head.magic, magic, sizeof magic);
    memcpy(head.store, store, sizeof head.store);
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!f && fd >= 0) close(fd);
    bool ok = f && write_all(f, &head, h);
    int why = errno;
    if (f && fclose(f)) ok = false;
    if (ok && rename(temporary, name) == 0) return OK;
    if (ok) why = errno;
    unlink(temporary);
    return fail(e, ERR_IO, "%s: could not be written: %s", name, strerror(why));
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

static status read_whole(const char *name, void **bytes, size_t *n, err *e) {
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0) return fail(e, ERR_IO, "%s: %s", name, strerror(errno));
    bool fits = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= (off_t)sizeof(index_head) &&
                st.st_size <= MOST_BYTES;
    *n = fits ? (size_t)st.st_size : 0;
    *bytes = fits ? mem_alloc(*n) : NULL;
    size_t got = 0;
    for (ssize_t k; *bytes && got < *n && (k = pread(fd, (char *)*bytes + got, *n - got, (off_t)got)) > 0;)
        got += (size_t)k;
    close(fd);
    if (!fits) return fail(e, ERR_STORE_DAMAGED, "%s: no index", name);
    if (!*bytes) return fail(e, ERR_NOMEM, "%s: %zu bytes", name, *n);
    return got == *n ? OK : fail(e, ERR_STORE_DAMAGED, "%s: could not be read whole", name);
}

static const char *wrong(const index_head *h, size_t n, const void *graph, const uint8_t *store,
                         const vector_model *m) {
    XXH3_state_t sum;
    if (memcmp(h->magic, magic, sizeof magic)) return "it is no index";
    if (h->version != VERSION) return "it is of another version";
    if (h->n_bytes != n) return "its length is wrong";
    (void)XXH3_64bits_reset(&sum);
    (void)XXH3_64bits_update(&sum, h, offsetof(index_head, checksum));
    (void)XXH3_64bits_update(&sum, graph, n);
    if (XXH3_64bits_digest(&sum) != h->checksum) return "its checksum is wrong";
    if (memcmp(h->store, store, sizeof h->store)) return "it belongs to another store";
    if (h->model != m->id || h->n_embd != m->n_embd) return "it is of another model";
    return h->vectors < 0 || h->gone < 0 ? "its marks are wrong" : NULL;
}

status index_file_read(const char *path, const uint8_t *store, const vector_model *m, index_mark *at, void **bytes,
                       const void **graph, size_t *n, err *e) {
    char name[4200];
    *bytes = NULL;
    if (!index_name(name, sizeof name, path, "")) return fail(e, ERR_IO, "%s: the name is too long", path);
    status s = read_whole(name, bytes, n, e);
    const char *why = NULL;
    if (!s) {
        index_head h;
        memcpy(&h, *bytes, sizeof h);
        *graph = (const char *)*bytes + sizeof h;
        *n -= sizeof h;
        *at = (index_mark){h.vectors, h.gone};
        why = wrong(&h, *n, *graph, store, m);
    }
    if (why) s = fail(e, ERR_STORE_DAMAGED, "%s: %s", name, why);
    if (s) {
        mem_free(*bytes);
        *bytes = NULL;
    }
    return s;
}

void index_file_remove(const char *path) {
    char name[4200];
    if (index_name(name, sizeof name, path, "")) unlink(name);
}
