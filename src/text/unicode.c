#include "text/unicode.h"

#include "text/case_tables.h"

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

uint32_t unicode_base(uint32_t cp) {
    size_t lo = 0, hi = unicode_n_bases;
    if (cp < unicode_bases[0].first) return cp;
    while (lo < hi) { /* the first run that begins after cp */
        size_t mid = (lo + hi) / 2;
        if (unicode_bases[mid].first <= cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return cp <= unicode_bases[lo - 1].last ? unicode_bases[lo - 1].base : cp;
}

uint32_t unicode_lower(uint32_t cp) {
    if (cp == 0x130) return 'i'; /* its full mapping is two characters, so it stands in another table */
    const case_run *c = case_find(case_lower, n_case_lower, cp);
    return c ? (uint32_t)((int64_t)cp + c->delta) : cp;
}

/* Rows do not overlap within one step width, but two rows of step 2 may interleave: the search looks at neighbours. */
const case_run *case_find(const case_run *run, size_t n, uint32_t cp) {
    size_t lo = 0, hi = n;
    while (lo < hi) { /* the first row that begins after cp */
        size_t mid = (lo + hi) / 2;
        if (run[mid].first <= cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (size_t back = 0; back < 3 && lo > back; back++) {
        const case_run *c = &run[lo - 1 - back];
        if (cp <= c->last && (cp - c->first) % c->step == 0) return c;
    }
    return NULL;
}
