/* drive_quant table | decode ID | encode_q8_0 | encode_q4_0 | f16 | bf16 | to_f16 | to_bf16: standard input to standard output, for the Python tests.
 * decode: blocks -> floats; encode_*: floats -> blocks; f16, bf16: halves -> floats; to_*: floats -> halves. */
#include "quant/quant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *read_all(size_t *n) {
    uint8_t *p = NULL;
    size_t cap = 0;
    *n = 0;
    do {
        cap = cap ? cap * 2 : 1 << 16;
        p = realloc(p, cap);
        if (!p) exit(1);
        *n += fread(p + *n, 1, cap - *n, stdin);
    } while (*n == cap);
    return p;
}

static int print_table(void) {
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        const quant_info *q = quant_lookup(t);
        if (q) printf("%u %s %u %u %d\n", t, q->name, q->block_elems, q->block_bytes, q->decode != NULL);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    if (strcmp(argv[1], "table") == 0) return print_table();
    size_t n;
    uint8_t *in = read_all(&n);
    const quant_info *q = argc > 2 ? quant_lookup((uint32_t)atoi(argv[2])) : NULL;
    const size_t n_out = q ? n / q->block_bytes * q->block_elems : n; /* most a mode can write */
    float *out = calloc(n_out + 1, sizeof *out);
    if (!out) return 1;
    size_t size = 0;
    if (q && q->decode) {
        q->decode(out, in, n_out);
        size = n_out * sizeof *out;
    } else if (strcmp(argv[1], "encode_q8_0") == 0) {
        quant_encode_q8_0(out, (const float *)(void *)in, n / 128 * 32);
        size = n / 128 * 34;
    } else if (strcmp(argv[1], "encode_q4_0") == 0) {
        quant_encode_q4_0(out, (const float *)(void *)in, n / 128 * 32);
        size = n / 128 * 18;
    } else if (strcmp(argv[1], "to_bf16") == 0) {
        for (size_t i = 0; i < n / 4; i++) ((uint16_t *)out)[i] = f32_to_bf16(((float *)(void *)in)[i]);
        size = n / 2;
    } else if (strcmp(argv[1], "to_f16") == 0) {
        for (size_t i = 0; i < n / 4; i++) ((uint16_t *)out)[i] = f32_to_f16(((float *)(void *)in)[i]);
        size = n / 2;
    } else {
        const uint16_t *h = (const uint16_t *)(void *)in;
        for (size_t i = 0; i < n / 2; i++) out[i] = argv[1][0] == 'b' ? bf16_to_f32(h[i]) : f16_to_f32(h[i]);
        size = n / 2 * sizeof *out;
    }
    const bool ok = fwrite(out, 1, size, stdout) == size;
    free(in), free(out);
    return ok ? 0 : 1;
}
