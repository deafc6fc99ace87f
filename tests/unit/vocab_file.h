/* Vocabulary-only GGUF files made in memory, for the tests and the fuzzer of src/text. */
#ifndef ROCMFORGE_TESTS_VOCAB_FILE_H
#define ROCMFORGE_TESTS_VOCAB_FILE_H

#include "base/str.h"
#include "gguf/gguf.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
    strbuf kv;
    uint64_t n_kv;
} vocab_file; /* {0} is empty */

static inline void vf_raw(vocab_file *f, const void *p, size_t n) { strbuf_add(&f->kv, p, n); }
static inline void vf_u32(vocab_file *f, uint32_t v) { vf_raw(f, &v, sizeof v); }
static inline void vf_u64(vocab_file *f, uint64_t v) { vf_raw(f, &v, sizeof v); }

static inline void vf_text(vocab_file *f, str s) {
    vf_u64(f, s.n);
    vf_raw(f, s.p, s.n);
}

static inline void vf_key(vocab_file *f, const char *key, gguf_type type) {
    f->n_kv++;
    vf_text(f, str_of(key));
    vf_u32(f, type);
}

static inline void vf_add_str(vocab_file *f, const char *key, const char *value) {
    vf_key(f, key, GGUF_STRING);
    vf_text(f, str_of(value));
}

static inline void vf_add_u32(vocab_file *f, const char *key, uint32_t value) {
    vf_key(f, key, GGUF_U32);
    vf_u32(f, value);
}

static inline void vf_add_bool(vocab_file *f, const char *key, bool value) {
    vf_key(f, key, GGUF_BOOL);
    vf_raw(f, &value, 1);
}

static inline void vf_add_array(vocab_file *f, const char *key, gguf_type type, const void *p, size_t n, size_t bytes) {
    vf_key(f, key, GGUF_ARRAY);
    vf_u32(f, type);
    vf_u64(f, n);
    vf_raw(f, p, n * bytes);
}

static inline void vf_add_texts(vocab_file *f, const char *key, const str *texts, size_t n) {
    vf_key(f, key, GGUF_ARRAY);
    vf_u32(f, GGUF_STRING);
    vf_u64(f, n);
    for (size_t i = 0; i < n; i++) vf_text(f, texts[i]);
}

/* Writes the file into the memory file fd (made at its first use, *fd < 0) and opens it. Empties f. */
static inline status vf_open(vocab_file *f, int *fd, gguf **out, err *e) {
    struct {
        char magic[4];
        uint32_t version;
        uint64_t n_tensors, n_kv;
    } head = {{'G', 'G', 'U', 'F'}, 3, 0, f->n_kv};
    char path[40];
    if (*fd < 0) *fd = memfd_create("vocabulary", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", *fd);
    bool ok = !f->kv.failed && ftruncate(*fd, 0) == 0 && pwrite(*fd, &head, sizeof head, 0) == sizeof head &&
              pwrite(*fd, f->kv.p, f->kv.n, sizeof head) == (ssize_t)f->kv.n;
    strbuf_free(&f->kv);
    f->n_kv = 0;
    *out = NULL;
    return ok ? gguf_open(out, path, e) : fail(e, ERR_IO, "memory file");
}

#endif
