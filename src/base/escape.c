#include "base/escape.h"

#include <string.h>

/* Bytes of the well-formed character at p, 0: it is none. */
static size_t character(const char *p, size_t left) {
    unsigned char c = (unsigned char)*p;
    size_t n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    return n <= left && str_is_utf8((str){p, n}) ? n : 0;
}

static uint32_t code_point(const char *p, size_t n) {
    static const unsigned char mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t c = (unsigned char)*p & mask[n];
    for (size_t i = 1; i < n; i++) c = c << 6 | ((unsigned char)p[i] & 0x3F);
    return c;
}

static bool misleads(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 || c == 0x200E || c == 0x200F ||
           c == 0x061C || (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

static size_t hex_escape(uint32_t c, char out[ESCAPE_MOST]) {
    static const char digit[] = "0123456789abcdef";
    memcpy(out, "\\u", 2);
    for (int i = 0; i < 4; i++) out[2 + i] = digit[c >> (12 - 4 * i) & 15];
    return 6;
}

size_t escape_char(str s, size_t *at, char out[ESCAPE_MOST]) {
    const char *p = s.p + *at;
    size_t n = character(p, s.n - *at);
    *at += n ? n : 1;
    if (n == 0) return memcpy(out, "\xEF\xBF\xBD", 3), 3;
    char letter = *p == '\n' ? 'n' : *p == '\r' ? 'r' : *p == '\t' ? 't' : *p == '"' || *p == '\\' ? *p : 0;
    if (letter) return out[0] = '\\', out[1] = letter, 2;
    if (misleads(code_point(p, n))) return hex_escape(code_point(p, n), out);
    memcpy(out, p, n);
    return n;
}

void strbuf_json(strbuf *b, str s) {
    char out[ESCAPE_MOST];
    strbuf_add(b, "\"", 1);
    for (size_t at = 0; at < s.n;) {
        size_t n = escape_char(s, &at, out);
        strbuf_add(b, out, n);
    }
    strbuf_add(b, "\"", 1);
}
