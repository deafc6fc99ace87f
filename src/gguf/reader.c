#include "gguf/reader.h"

#include <string.h>

/* The empty asm hides where the value came from, so the compiler cannot fetch it from memory a second time. */
uint32_t load_le32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    __asm__("" : "+r"(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    return v;
}

uint64_t load_le64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    __asm__("" : "+r"(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

size_t read_left(const reader *r) { return (size_t)(r->end - r->at); }

const uint8_t *read_bytes(reader *r, uint64_t n) {
    if (r->bad || n > read_left(r)) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += n;
    return p;
}

uint8_t read_u8(reader *r) {
    const uint8_t *p = read_bytes(r, 1);
    return p ? *p : 0;
}

uint32_t read_u32(reader *r) {
    const uint8_t *p = read_bytes(r, 4);
    return p ? load_le32(p) : 0;
}

uint64_t read_u64(reader *r) {
    const uint8_t *p = read_bytes(r, 8);
    return p ? load_le64(p) : 0;
}

str read_str(reader *r, uint64_t max_bytes, uint64_t *declared) {
    uint64_t n = read_u64(r);
    if (declared) *declared = n;
    if (n > max_bytes) r->bad = true;
    const uint8_t *p = read_bytes(r, n);
    return p ? (str){(const char *)p, (size_t)n} : (str){"", 0};
}
