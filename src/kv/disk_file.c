#include "kv/disk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

enum { VERSION = 1 };
static const char magic[8] = "RFKVPAGE";
static const char hex[] = "0123456789abcdef";

typedef struct {
    char magic[8];
    uint32_t version, page_tokens;
    uint64_t identity[2], key;
    uint64_t page_bytes;
    uint32_t n_tokens, zero;
    uint64_t checksum; /* of the header before it, then the tokens, then the page */
} disk_header;
_Static_assert(sizeof(disk_header) == 64, "no padding: the header is written as it lies in memory");

/* --- names: "<identity, 32 digits>-<key, 16 digits>.kv" and ".tmp-<serial, 16 digits>" ----------------------------------- */

void disk_name(char name[DISK_NAME_BYTES], const uint64_t identity[2], uint64_t key) {
    snprintf(name, DISK_NAME_BYTES, "%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 ".kv", identity[0], identity[1], key);
}

static void temporary_name(char name[DISK_NAME_BYTES], uint64_t serial) {
    snprintf(name, DISK_NAME_BYTES, ".tmp-%016" PRIx64, serial);
}

static bool parse_hex(const char *at, uint64_t *v) {
    *v = 0;
    for (int i = 0; i < 16; i++) {
        const char *digit = at[i] ? strchr(hex, at[i]) : NULL;
        if (!digit) return false;
        *v = *v << 4 | (uint64_t)(digit - hex);
    }
    return true;
}

bool disk_parse_name(const char *name, uint64_t identity[2], uint64_t *key) {
    return parse_hex(name, &identity[0]) && parse_hex(name + 16, &identity[1]) && name[32] == '-' &&
           parse_hex(name + 33, key) && strcmp(name + 49, ".kv") == 0;
}

size_t disk_file_bytes(const disk_page *p) {
    return sizeof(disk_header) + (size_t)p->n_tokens * sizeof(int32_t) + p->page_bytes;
}

/* --- content -------------------------------------------------------------------------------------------------------------- */

static uint64_t checksum(const disk_header *h, const int32_t *tokens, const void *bytes) {
    uint64_t sum = XXH3_64bits(h, offsetof(disk_header, checksum));
    sum = XXH3_64bits_withSeed(tokens, h->n_tokens * sizeof *tokens, sum);
    return XXH3_64bits_withSeed(bytes, (size_t)h->page_bytes, sum);
}

static disk_header header_of(const disk_page *p) {
    disk_header h = {.version = VERSION,
                     .page_tokens = p->page_tokens,
                     .identity = {p->identity[0], p->identity[1]},
                     .key = p->key,
                     .page_bytes = p->page_bytes,
                     .n_tokens = p->n_tokens};
    memcpy(h.magic, magic, sizeof h.magic);
    return h;
}

static bool read_all(int fd, void *to, size_t n) {
    while (n) {
        ssize_t got = read(fd, to, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to = (char *)to + got;
        n -= (size_t)got;
    }
    return true;
}

static bool same_tokens(int fd, const int32_t *tokens, uint32_t n) {
    int32_t part[1024];
    for (uint32_t at = 0; at < n; at += 1024) {
        uint32_t k = n - at < 1024 ? n - at : 1024;
        if (!read_all(fd, part, k * sizeof *part) || memcmp(part, tokens + at, k * sizeof *part) != 0) return false;
    }
    return true;
}

/* A plain file of our own that nobody else may write to, of the right length. */
static bool is_ours(int fd, const disk_page *p) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
           !(st.st_mode & (S_IWGRP | S_IWOTH)) && (uint64_t)st.st_size == disk_file_bytes(p);
}

static bool read_page(int fd, const disk_page *p, const int32_t *tokens, void *bytes) {
    disk_header want = header_of(p), h;
    if (!read_all(fd, &h, sizeof h) || memcmp(&h, &want, offsetof(disk_header, checksum)) != 0) return false;
    return same_tokens(fd, tokens, p->n_tokens) && read_all(fd, bytes, p->page_bytes) &&
           checksum(&h, tokens, bytes) == h.checksum;
}

disk_result disk_read(int dir, const disk_page *p, const int32_t *tokens, void *bytes) {
    char name[DISK_NAME_BYTES];
    disk_name(name, p->identity, p->key);
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return DISK_GONE;
    if (fd < 0) return errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EINTR ? DISK_FAILED : DISK_BAD;
    bool ok = is_ours(fd, p) && read_page(fd, p, tokens, bytes);
    if (ok) (void)futimens(fd, NULL); /* on a read-only disk it keeps its age */
    close(fd);
    return ok ? DISK_OK : DISK_BAD;
}

static bool write_all(int fd, struct iovec *v, int n_v) {
    while (n_v) {
        ssize_t put = writev(fd, v, n_v);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        for (; n_v && (size_t)put >= v->iov_len; v++, n_v--) put -= (ssize_t)v->iov_len;
        if (!n_v) break;
        v->iov_base = (char *)v->iov_base + put;
        v->iov_len -= (size_t)put;
    }
    return true;
}

disk_result disk_write(int dir, const disk_page *p, const int32_t *tokens, const void *bytes, uint64_t serial) {
    char name[DISK_NAME_BYTES], temporary[DISK_NAME_BYTES];
    disk_name(name, p->identity, p->key);
    temporary_name(temporary, serial);
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return DISK_FAILED;
    (void)flock(fd, LOCK_EX | LOCK_NB); /* where locks are unknown, nobody takes the file for stale either */
    disk_header h = header_of(p);
    h.checksum = checksum(&h, tokens, bytes);
    struct iovec v[] = {{&h, sizeof h},
                        {(void *)(uintptr_t)tokens, p->n_tokens * sizeof *tokens},
                        {(void *)(uintptr_t)bytes, p->page_bytes}};
    bool ok =
        write_all(fd, v, 3) && renameat(dir, temporary, dir, name) == 0; /* no fsync: a torn file fails its checksum */
    if (!ok) unlinkat(dir, temporary, 0);
    close(fd);
    return ok ? DISK_OK : DISK_FAILED;
}

bool disk_remove_stale(int dir, const char *name) {
    uint64_t serial;
    if (strncmp(name, ".tmp-", 5) != 0 || !parse_hex(name + 5, &serial) || name[21]) return false;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return true;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(dir, name, 0);
    close(fd);
    return true;
}
