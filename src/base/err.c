#include "base/err.h"

#include <stdio.h>
#include <string.h>

static const err_info table[ERR_COUNT] = {[OK] = {"ok", "Internal", 200, false, "no error"},
#define X(id, code, cat, http, retry, text) [id] = {code, cat, http, retry, text},
                                          ERR_TABLE(X)
#undef X
};

const err_info *err_lookup(status code) { return (unsigned)code < ERR_COUNT ? &table[code] : &table[ERR_INTERNAL]; }

/* Length of the well-formed UTF-8 sequence at s, or 0. */
static int utf8_len(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    int n = s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 : s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if (n == 3 && ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] >= 0xA0))) return 0;
    if (n == 4 && ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] >= 0x90))) return 0;
    return n;
}

/* Names from a file can hold anything; a terminal and a log line must not. C1 controls (U+0080..9F) are escaped too. */
static void copy_clean(char *dst, size_t size, const char *src) {
    const unsigned char *s = (const unsigned char *)src;
    size_t at = 0;
    while (*s) {
        int n = utf8_len(s);
        bool bad = n == 0 || *s < 0x20 || *s == 0x7F || (n == 2 && s[0] == 0xC2 && s[1] < 0xA0);
        size_t take = bad ? 4 : (size_t)n;
        if (at + take + 1 > size) break;
        if (bad)
            snprintf(dst + at, size - at, "\\x%02X", *s);
        else
            memcpy(dst + at, s, take);
        at += take;
        s += bad ? 1 : n;
    }
    dst[at] = 0;
}

status fail(err *e, status code, const char *fmt, ...) {
    if (!e) return code;
    char raw[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    e->code = code;
    copy_clean(e->text, sizeof e->text, raw);
    return code;
}

status fail_in(err *e, status s, const char *fmt, ...) {
    if (!e) return s;
    char before[200], both[sizeof e->text + 200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(before, sizeof before, fmt, ap);
    va_end(ap);
    snprintf(both, sizeof both, "%s%s", before, e->text);
    e->code = s;
    copy_clean(e->text, sizeof e->text, both);
    return s;
}
