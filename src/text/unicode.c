#include "text/unicode.h"

#include <stdbool.h>

static bool is_tail(uint8_t b) { return (b & 0xC0) == 0x80; }

/* The well-formed byte sequences of the Unicode Standard, table 3-7: the second byte's range depends on the first. */
static bool second_is_good(uint8_t lead, uint8_t b) {
    switch (lead) {
    case 0xE0: return b >= 0xA0 && b <= 0xBF;
    case 0xED: return b >= 0x80 && b <= 0x9F;
    case 0xF0: return b >= 0x90 && b <= 0xBF;
    case 0xF4: return b >= 0x80 && b <= 0x8F;
    default: return is_tail(b);
    }
}

static utf8_char look_long(const uint8_t *p, const uint8_t *end) {
    utf8_char bad = {UTF8_BAD, 1, CHAR_ANY};
    if (*p < 0xC2 || *p > 0xF4) return bad;
    uint32_t n = (uint32_t)utf8_lead_len(*p);
    if ((size_t)(end - p) < n || !second_is_good(p[0], p[1])) return bad;
    uint32_t cp = p[0] & (0xFFu >> (n + 1));
    for (uint32_t i = 1; i < n; i++) {
        if (!is_tail(p[i])) return bad;
        cp = cp << 6 | (p[i] & 0x3F);
    }
    return (utf8_char){cp, n, unicode_class(cp) | CHAR_ANY};
}

utf8_char utf8_look(const uint8_t *p, const uint8_t *end) {
    if (p >= end) return (utf8_char){UTF8_NONE, 0, 0};
    if (*p < 0x80) return (utf8_char){*p, 1, unicode_blocks[0][*p] | (unsigned)CHAR_ANY};
    return look_long(p, end);
}

size_t utf8_write(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)((0xF00u >> n & 0xFF) | cp);
    return n;
}
