/* The GGUF parser on any bytes: it opens or refuses with a reason, leaks nothing, and what it opened can be walked to its
 * last byte. */
#include "base/mem.h"
#include "gguf/gguf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum_bytes(const void *p, uint64_t n) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += ((const uint8_t *)p)[i];
    return sum;
}

static uint64_t walk_value(const gguf_kv *kv) {
    uint64_t sum = kv->n;
    const uint8_t *at = kv->data;
    for (uint64_t i = 0; i < kv->n; i++) {
        if (kv->elem_type == GGUF_STRING) {
            str s = gguf_next_string(kv, &at);
            sum += sum_bytes(s.p, s.n);
        } else if (kv->elem_type == GGUF_F32 || kv->elem_type == GGUF_F64) {
            sum += gguf_array_float(kv, i) > 0;
        } else {
            sum += gguf_array_uint(kv, i);
        }
    }
    return sum;
}

static uint64_t walk(const gguf *g) {
    uint64_t sum = gguf_file_bytes(g) + gguf_version(g) + gguf_n_shards(g);
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const gguf_kv *kv = gguf_kv_at(g, i);
        sum += sum_bytes(kv->key.p, kv->key.n) + walk_value(kv);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        sum += sum_bytes(t->name.p, t->name.n) + sum_bytes(t->data, t->n_bytes);
    }
    static const char *const keys[] = {"general.architecture", "general.alignment", "split.count", "a"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        uint64_t u = 0;
        float f = 0;
        bool b = false;
        str s = {0};
        if (!gguf_get_u64(g, keys[i], &u, NULL)) sum += u;
        if (!gguf_get_f32(g, keys[i], &f, NULL)) sum += f > 0;
        if (!gguf_get_bool(g, keys[i], &b, NULL)) sum += b;
        if (!gguf_get_str(g, keys[i], &s, NULL)) sum += sum_bytes(s.p, s.n);
    }
    return sum;
}

static volatile uint64_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[40];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    uint64_t live = mem_live();
    gguf *g;
    err e = {0};
    status s = gguf_open(&g, path, &e);
    if (!s) sink = walk(g);
    if (s && (g || !e.text[0] || s == ERR_INTERNAL)) abort();
    gguf_close(g);
    if (mem_live() != live) abort();
    return 0;
}
