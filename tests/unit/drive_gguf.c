/* For tests/oracle/test_gguf.py: opens each file named and prints one line, tab separated: the reason code (or `ok`), the
 * peak of this process's memory in KiB so far, the message. With --dump first, what the files hold follows, in the form that
 * the Python test makes from the gguf package's reader. */
#include "gguf/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* VmHWM, not getrusage: that one counts the parent's pages of before exec. */
static long peak_kib(void) {
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "VmHWM:", 6)) kib = atol(line + 6);
    if (f) fclose(f);
    return kib;
}

/* Adler-32 (RFC 1950): zlib.adler32 of Python. */
static uint32_t adler32(uint32_t sum, const void *p, size_t n) {
    uint32_t a = sum & 0xffff, b = sum >> 16;
    for (size_t i = 0; i < n; i++) {
        a = (a + ((const uint8_t *)p)[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

/* The checksum of a value as this room's functions give it: integers as 8 bytes, floats as doubles, strings as they are,
 * each ended by a line feed. */
static uint32_t checksum(const gguf_kv *kv) {
    uint32_t sum = 1;
    const uint8_t *at = kv->data;
    for (uint64_t i = 0; i < kv->n; i++) {
        if (kv->elem_type == GGUF_STRING) {
            str s = gguf_next_string(kv, &at);
            sum = adler32(sum, s.p, s.n);
            sum = adler32(sum, "\n", 1);
        } else if (kv->elem_type == GGUF_F32 || kv->elem_type == GGUF_F64) {
            double v = gguf_array_float(kv, i);
            sum = adler32(sum, &v, sizeof v);
        } else {
            uint64_t v = gguf_array_uint(kv, i);
            sum = adler32(sum, &v, sizeof v);
        }
    }
    return sum;
}

static void dump(const gguf *g) {
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const gguf_kv *kv = gguf_kv_at(g, i);
        printf("kv\t%.*s\t%s\t%s\t%" PRIu64 "\t%08" PRIx32 "\n", (int)kv->key.n, kv->key.p, gguf_type_name(kv->type),
               gguf_type_name(kv->elem_type), kv->n, checksum(kv));
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        printf("tensor\t%.*s\t%s", (int)t->name.n, t->name.p, quant_lookup(t->type)->name);
        for (uint32_t d = 0; d < t->n_dims; d++) printf("%c%" PRIu64, d ? ',' : '\t', t->dim[d]);
        printf("\t%" PRIu64 "\t%08" PRIx32 "\n", t->n_bytes, adler32(1, t->data, t->n_bytes));
    }
}

int main(int argc, char **argv) {
    bool dumps = argc > 1 && !strcmp(argv[1], "--dump");
    for (int i = dumps ? 2 : 1; i < argc; i++) {
        gguf *g;
        err e = {0};
        status s = gguf_open(&g, argv[i], &e);
        printf("%s\t%ld\t%s\n", err_lookup(s)->code, peak_kib(), e.text);
        if (!s && dumps) dump(g);
        gguf_close(g);
    }
    return 0;
}
