#include "base/json.h"

#include "base/mem.h"

#include <pthread.h>

static void use_mem(void) { json_set_alloc_funcs(mem_alloc, mem_free); }

void json_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_mem);
}

/* Table 3-7 of the Unicode standard: for a lead byte, the length of the character and the range of the second byte, which
 * is narrower than 80..BF where that would be overlong, a surrogate or beyond U+10FFFF. */
static int lead(unsigned char c, unsigned char *low, unsigned char *high) {
    *low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    *high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    return c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 0;
}

/* Bytes of the character at p, or of the longest beginning of one; *whole tells which. At least 1. */
static size_t piece(const char *p, size_t n, bool *whole) {
    unsigned char low, high;
    const int want = lead((unsigned char)p[0], &low, &high);
    size_t got = 1;
    while (got < (size_t)want && got < n && (unsigned char)p[got] >= low && (unsigned char)p[got] <= high) {
        low = 0x80, high = 0xBF;
        got++;
    }
    *whole = want > 0 && got == (size_t)want;
    return got;
}

void strbuf_add_utf8(strbuf *b, const char *p, size_t n) {
    size_t from = 0, at = 0;
    if (n == 0) p = ""; /* an empty view may be NULL, and NULL + 0 is not allowed */
    while (at < n) {
        bool whole;
        const size_t step = piece(p + at, n - at, &whole);
        if (!whole) {
            strbuf_add(b, p + from, at - from);
            strbuf_puts(b, "\xEF\xBF\xBD");
            from = at + step;
        }
        at += step;
    }
    strbuf_add(b, p + from, n - from);
}

json_t *json_text(const char *p, size_t n) {
    strbuf b = {0};
    strbuf_add_utf8(&b, p, n);
    json_t *v = b.failed ? NULL : json_stringn_nocheck(b.p, b.n);
    strbuf_free(&b);
    return v;
}

json_t *json_text_of(str s) { return json_text(s.p, s.n); }

bool json_put(json_t *obj, str key, json_t *v) {
    strbuf b = {0};
    strbuf_add_utf8(&b, key.p, key.n);
    if (b.failed) json_decref(v);
    const bool ok = !b.failed && json_object_setn_new_nocheck(obj, b.p, b.n, v) == 0;
    strbuf_free(&b);
    return ok;
}

static int append(const char *p, size_t n, void *out) {
    strbuf_add(out, p, n);
    return ((strbuf *)out)->failed ? -1 : 0;
}

status json_write(const json_t *v, strbuf *out, err *e) {
    const size_t before = out->n;
    if (!out->failed && json_dump_callback(v, append, out, JSON_COMPACT | JSON_ENCODE_ANY) == 0) return OK;
    out->n = before;
    if (out->p) out->p[before] = 0;
    return fail(e, ERR_NOMEM, "writing JSON");
}
