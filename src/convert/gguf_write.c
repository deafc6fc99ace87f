#include "convert/gguf_write.h"

#include "base/mem.h"
#include "gguf/gguf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGN = 32, VERSION = 3 };

struct gguf_writer {
    char *path, *temporary, *folder;
    int fd;
    strbuf kv, info;
    uint64_t n_kv, n_tensors;
    uint64_t *bytes; /* [n_tensors] of the data of each */
    size_t cap;
    uint64_t data_bytes; /* of all, each padded */
    uint64_t at, done;   /* the tensor being written, its bytes so far */
    bool no_memory, finished;
};

/* --- open and close ------------------------------------------------------------------------------------------------------ */

/* Nothing but an older model is replaced: "convert DIR OUT" with the two exchanged must not cost a file. */
static status check_target(const char *path, err *e) {
    struct stat st;
    char magic[4] = {0};
    if (stat(path, &st)) return OK; /* what else is wrong with it, making the file tells */
    if (S_ISDIR(st.st_mode)) return fail(e, ERR_USAGE, "%s: is a folder; name the file to write", path);
    if (!S_ISREG(st.st_mode)) return fail(e, ERR_USAGE, "%s: is no regular file", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ours = fd >= 0 && (st.st_size == 0 || (read(fd, magic, 4) == 4 && memcmp(magic, "GGUF", 4) == 0));
    if (fd >= 0) close(fd);
    return ours ? OK : fail(e, ERR_USAGE, "%s: exists and is no GGUF file: it will not be replaced", path);
}

static status make_temporary(gguf_writer *w, err *e) {
    const char *slash = strrchr(w->path, '/');
    const int n_folder = slash ? (int)(slash + 1 - w->path) : 0;
    for (int attempt = 0; attempt < 16; attempt++) {
        strbuf name = {0};
        uint32_t tail = 0;
        if (getrandom(&tail, sizeof tail, GRND_NONBLOCK) < 0) tail = (uint32_t)getpid() + (uint32_t)attempt;
        strbuf_printf(&name, "%.*s.%s.%06" PRIx32, n_folder, w->path, w->path + n_folder, tail & 0xFFFFFF);
        if (!name.p || name.failed) {
            strbuf_free(&name);
            return fail(e, ERR_NOMEM, "no memory to write %s", w->path);
        }
        w->fd = open(name.p, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0) {
            w->temporary = name.p;
            return OK;
        }
        strbuf_free(&name);
        if (errno != EEXIST) break;
    }
    return fail(e, ERR_IO, "%s: cannot be made: %s", w->path, strerror(errno));
}

status gguf_write_open(gguf_writer **out, const char *path, err *e) {
    *out = NULL;
    status s = check_target(path, e);
    if (s) return s;
    gguf_writer *w = mem_zalloc(sizeof *w);
    if (!w) return fail(e, ERR_NOMEM, "no memory to write %s", path);
    w->fd = -1;
    w->path = mem_strndup(path, strlen(path));
    const char *slash = strrchr(path, '/');
    w->folder = slash ? mem_strndup(path, (size_t)(slash + 1 - path)) : mem_strndup(".", 1);
    s = w->path && w->folder ? make_temporary(w, e) : fail(e, ERR_NOMEM, "no memory to write %s", path);
    if (s)
        gguf_write_close(w);
    else
        *out = w;
    return s;
}

void gguf_write_close(gguf_writer *w) {
    if (!w) return;
    if (w->temporary && !w->finished) unlink(w->temporary);
    if (w->fd >= 0) close(w->fd);
    strbuf_free(&w->kv);
    strbuf_free(&w->info);
    mem_free(w->bytes);
    mem_free(w->path);
    mem_free(w->folder);
    mem_free(w->temporary);
    mem_free(w);
}

const char *gguf_write_temporary(const gguf_writer *w) { return w->temporary; }
uint64_t gguf_write_data_bytes(const gguf_writer *w) { return w->data_bytes; }

/* --- metadata ------------------------------------------------------------------------------------------------------------ */

static void add_le(strbuf *b, uint64_t v, size_t n_bytes) {
    char raw[8];
    for (size_t i = 0; i < n_bytes; i++) raw[i] = (char)(v >> 8 * i);
    strbuf_add(b, raw, n_bytes);
}

static void add_str(strbuf *b, str s) {
    add_le(b, s.n, 8);
    strbuf_add(b, s.p, s.n);
}

static uint32_t f32_bits(float f) {
    uint32_t v;
    memcpy(&v, &f, sizeof v);
    return v;
}

static strbuf *begin(gguf_writer *w, const char *key, gguf_type type) {
    w->n_kv++;
    add_str(&w->kv, str_of(key));
    add_le(&w->kv, type, 4);
    return &w->kv;
}

static strbuf *begin_array(gguf_writer *w, const char *key, gguf_type elem, size_t n) {
    strbuf *b = begin(w, key, GGUF_ARRAY);
    add_le(b, elem, 4);
    add_le(b, n, 8);
    return b;
}

void gguf_put_u32(gguf_writer *w, const char *key, uint32_t v) { add_le(begin(w, key, GGUF_U32), v, 4); }
void gguf_put_i32(gguf_writer *w, const char *key, int32_t v) { add_le(begin(w, key, GGUF_I32), (uint32_t)v, 4); }
void gguf_put_f32(gguf_writer *w, const char *key, float v) { add_le(begin(w, key, GGUF_F32), f32_bits(v), 4); }
void gguf_put_bool(gguf_writer *w, const char *key, bool v) { add_le(begin(w, key, GGUF_BOOL), v, 1); }
void gguf_put_str(gguf_writer *w, const char *key, str v) { add_str(begin(w, key, GGUF_STRING), v); }

void gguf_put_strs(gguf_writer *w, const char *key, const str *v, size_t n) {
    strbuf *b = begin_array(w, key, GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) add_str(b, v[i]);
}

void gguf_put_i32s(gguf_writer *w, const char *key, const int32_t *v, size_t n) {
    strbuf *b = begin_array(w, key, GGUF_I32, n);
    for (size_t i = 0; i < n; i++) add_le(b, (uint32_t)v[i], 4);
}

void gguf_put_f32s(gguf_writer *w, const char *key, const float *v, size_t n) {
    strbuf *b = begin_array(w, key, GGUF_F32, n);
    for (size_t i = 0; i < n; i++) add_le(b, f32_bits(v[i]), 4);
}

void gguf_put_bools(gguf_writer *w, const char *key, const bool *v, size_t n) {
    strbuf *b = begin_array(w, key, GGUF_BOOL, n);
    for (size_t i = 0; i < n; i++) add_le(b, v[i], 1);
}

void gguf_put_bytes(gguf_writer *w, const char *key, const uint8_t *v, size_t n) {
    strbuf_add(begin_array(w, key, GGUF_U8, n), (const char *)v, n);
}

static uint64_t padded(uint64_t n) { return (n + ALIGN - 1) & ~(uint64_t)(ALIGN - 1); }

void gguf_put_tensor(gguf_writer *w, const char *name, uint32_t n_dims, const uint64_t *dim, quant_type type) {
    const quant_info *q = quant_lookup(type);
    uint64_t n = 1;
    for (uint32_t i = 0; i < n_dims; i++) n *= dim[i]; /* the caller's, which were checked against a file's size */
    assert(dim[0] % q->block_elems == 0);
    if (w->n_tensors == w->cap) {
        const size_t cap = w->cap ? 2 * w->cap : 512;
        uint64_t *more = mem_resize(w->bytes, cap * sizeof *more);
        if (!more) {
            w->no_memory = true;
            return;
        }
        w->bytes = more;
        w->cap = cap;
    }
    const uint64_t bytes = n / q->block_elems * q->block_bytes;
    add_str(&w->info, str_of(name));
    add_le(&w->info, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++) add_le(&w->info, dim[i], 8);
    add_le(&w->info, type, 4);
    add_le(&w->info, w->data_bytes, 8);
    w->bytes[w->n_tensors++] = bytes;
    w->data_bytes += padded(bytes);
}

/* --- the file ------------------------------------------------------------------------------------------------------------ */

static status write_failed(const gguf_writer *w, err *e) {
    const char *hint = errno == ENOSPC || errno == EDQUOT ? "; nothing was kept" : "";
    return fail(e, ERR_IO, "%s: cannot be written: %s%s", w->path, strerror(errno), hint);
}

static status write_all(gguf_writer *w, const void *p, size_t n, err *e) {
    while (n) {
        ssize_t done = write(w->fd, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return write_failed(w, e);
        p = (const char *)p + done;
        n -= (size_t)done;
    }
    return OK;
}

static status write_zeros(gguf_writer *w, uint64_t n, err *e) {
    static const char zero[ALIGN];
    assert(n <= ALIGN);
    return write_all(w, zero, (size_t)n, e);
}

/* A disk that is too small says so now, not after an hour. File systems that cannot tell are asked no further; the length is
 * set in any case, so that the header can be read back. */
static status take_room(gguf_writer *w, uint64_t bytes, err *e) {
    if (bytes > INT64_MAX) return fail(e, ERR_IO, "%s: would be too large", w->path);
    if (bytes && fallocate(w->fd, 0, 0, (off_t)bytes) &&
        (errno == ENOSPC || errno == EFBIG || errno == EDQUOT || errno == EIO)) {
        const char *why = strerror(errno);
        return fail(e, ERR_IO, "%s: no room for its %" PRIu64 " bytes: %s", w->path, bytes, why);
    }
    return ftruncate(w->fd, (off_t)bytes) ? write_failed(w, e) : OK;
}

status gguf_write_header(gguf_writer *w, err *e) {
    strbuf head = {0};
    strbuf_puts(&head, "GGUF");
    add_le(&head, VERSION, 4);
    add_le(&head, w->n_tensors, 8);
    add_le(&head, w->n_kv, 8);
    const uint64_t bytes = head.n + w->kv.n + w->info.n;
    status s = OK;
    if (head.failed || w->kv.failed || w->info.failed || w->no_memory)
        s = fail(e, ERR_NOMEM, "no memory for the header of %s", w->path);
    if (!s) s = take_room(w, padded(bytes) + w->data_bytes, e);
    if (!s) s = write_all(w, head.p, head.n, e);
    if (!s) s = write_all(w, w->kv.p, w->kv.n, e);
    if (!s) s = write_all(w, w->info.p, w->info.n, e);
    if (!s) s = write_zeros(w, padded(bytes) - bytes, e);
    strbuf_free(&head);
    return s;
}

status gguf_write_data(gguf_writer *w, const void *p, size_t n_bytes, err *e) {
    if (w->at == w->n_tensors || n_bytes > w->bytes[w->at] - w->done)
        return fail(e, ERR_INTERNAL, "more data than tensor %" PRIu64 " of %s has", w->at, w->path);
    status s = write_all(w, p, n_bytes, e);
    w->done += n_bytes;
    if (s || w->done < w->bytes[w->at]) return s;
    s = write_zeros(w, padded(w->done) - w->done, e);
    w->at++;
    w->done = 0;
    return s;
}

/* The file is whole either way; this hurries its name. */
static void sync_folder(const char *folder) {
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)!fsync(fd);
    close(fd);
}

status gguf_write_finish(gguf_writer *w, err *e) {
    if (w->at != w->n_tensors) return fail(e, ERR_INTERNAL, "%s: tensor %" PRIu64 " has no data", w->path, w->at);
    if (fsync(w->fd)) return write_failed(w, e);
    if (rename(w->temporary, w->path)) return write_failed(w, e);
    w->finished = true;
    sync_folder(w->folder);
    return OK;
}
