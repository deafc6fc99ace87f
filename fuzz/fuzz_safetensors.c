/* The reader of safetensors on any bytes: it opens or refuses with a reason, leaks nothing, and every byte of every tensor of
 * what it opened lies in the file, in none other. */
#include "base/json.h"
#include "base/mem.h"
#include "convert/safetensors.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

static void walk(const safetensors *s) {
    uint64_t total = 0;
    for (size_t i = 0; i < s->n; i++) {
        const st_tensor *t = &s->tensor[i];
        const uint64_t bytes = t->n_elems * t->dtype->bytes;
        for (size_t k = 0; k < t->name.n; k++) sink += (uint8_t)t->name.p[k];
        for (uint64_t k = 0; k < bytes; k++) sink += t->data[k];
        total += bytes;
    }
    if (total > file_map_size(s->file)) abort(); /* two tensors in the same bytes */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[40];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        json_init();
        json_decref(json_object());
    }
    if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    const uint64_t live = mem_live();
    safetensors s;
    err e = {0};
    status rc = safetensors_open(&s, path, &e);
    if (!rc) walk(&s);
    if (rc && (!e.text[0] || rc == ERR_INTERNAL)) abort();
    safetensors_close(&s);
    if (mem_live() != live) abort();
    return 0;
}
