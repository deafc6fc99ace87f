#include "text/jinja_chars.h"

#include "text/case_tables.h"
#include "text/unicode.h"

bool jchar_is_space(uint32_t cp) { return (unicode_class(cp) & CHAR_SPACE) != 0 || (cp >= 0x1C && cp <= 0x1F); }

bool jchar_is_line_end(uint32_t cp) {
    return (cp >= '\n' && cp <= '\r') || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

size_t jspace_left(str s) {
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.n;
    size_t at = 0;
    while (at < s.n) {
        utf8_char c = utf8_look(p + at, end);
        if (!jchar_is_space(c.cp)) break;
        at += c.n;
    }
    return at;
}

size_t jspace_right(str s) {
    const uint8_t *p = (const uint8_t *)s.p;
    size_t n = s.n;
    while (n > 0) {
        size_t at = n - 1;
        while (at > 0 && n - at < 4 && (p[at] & 0xC0) == 0x80) at--;
        utf8_char c = utf8_look(p + at, p + n);
        if (c.n != n - at || !jchar_is_space(c.cp)) break;
        n = at;
    }
    return s.n - n;
}

static uint32_t simple_case(uint32_t cp, jcase to) {
    const case_run *c = to == CASE_LOWER   ? case_find(case_lower, n_case_lower, cp)
                        : to == CASE_TITLE ? case_find(case_title, n_case_title, cp)
                                           : NULL;
    if (to != CASE_LOWER && !c) c = case_find(case_upper, n_case_upper, cp);
    return c ? (uint32_t)((int64_t)cp + c->delta) : cp;
}

static const case_several *find_several(uint32_t cp, jcase to) {
    if (cp < 0x80) return NULL;
    size_t lo = 0, hi = n_case_many;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const case_several *c = &case_many[mid];
        if (c->cp == cp && c->to == (uint32_t)to) return c;
        if (c->cp < cp || (c->cp == cp && c->to < (uint32_t)to))
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

size_t jchar_case(uint32_t cp, jcase to, char out[12]) {
    const case_several *many = find_several(cp, to);
    if (!many) return utf8_write(simple_case(cp, to), out);
    size_t n = 0;
    for (int i = 0; i < 3 && many->become[i]; i++) n += utf8_write(many->become[i], out + n);
    return n;
}

bool jchar_is_upper(uint32_t cp) { return case_find(case_is_upper, n_case_is_upper, cp) != NULL; }
bool jchar_is_lower(uint32_t cp) { return case_find(case_is_lower, n_case_is_lower, cp) != NULL; }
