#include "base/json.h"

#include "base/mem.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- memory: where jansson's lexer (2.14) finds none it goes on without a byte, and may then run past the end of a string. So an
 * allocation that fails while it reads ends the reading, and all that was taken for it is given back. ----------------------------------- */
typedef struct {
    bool on;
    void **taken, **given; /* [cap]; what it gives back is kept until the end, so that each block is freed once */
    size_t n_taken, n_given, cap;
    jmp_buf out;
} reading;

static _Thread_local reading now;

static bool has_room(void) {
    if (now.n_taken < now.cap) return true;
    const size_t cap = now.cap ? 2 * now.cap : 64;
    void **taken = mem_resize(now.taken, cap * sizeof *taken);
    if (taken) now.taken = taken;
    void **given = taken ? mem_resize(now.given, cap * sizeof *given) : NULL;
    if (!given) return false;
    now.given = given;
    now.cap = cap;
    return true;
}

static void *take(size_t n) {
    if (!now.on) return mem_alloc(n);
    void *p = has_room() ? mem_alloc(n) : NULL;
    if (!p) longjmp(now.out, 1);
    now.taken[now.n_taken++] = p;
    return p;
}

static void give(void *p) {
    if (p && now.on)
        now.given[now.n_given++] = p;
    else
        mem_free(p);
}

static void end_reading(bool whole) {
    void **p = whole ? now.given : now.taken;
    for (size_t n = whole ? now.n_given : now.n_taken; n; n--) mem_free(p[n - 1]);
    mem_free(now.taken);
    mem_free(now.given);
    now.taken = now.given = NULL;
    now.n_taken = now.n_given = now.cap = 0;
    now.on = false;
}

status json_read(json_t **out, str text, size_t flags, json_error_t *why) {
    *out = NULL;
    json_init();
    if (setjmp(now.out)) {
        *out = NULL;
        end_reading(false);
        return ERR_NOMEM;
    }
    now.on = true;
    *out = json_loadb(text.p, text.n, flags, why);
    end_reading(true);
    return *out ? OK : ERR_RANGE;
}

static void use_mem(void) { json_set_alloc_funcs(take, give); }

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

/* --- writing: jansson's own prints 0.1 as 0.10000000000000001; here a number has 15 digits, or the 16 or 17 that give it back ----------- */

static void write_real(strbuf *b, double x) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break; /* both follow the locale */
    }
    for (char *p = text; *p; p++)
        if (*p == ',') *p = '.';
    strbuf_puts(b, text);
    if (!strpbrk(text, ".e")) strbuf_puts(b, ".0");
}

static void write_text(strbuf *b, const char *p, size_t n) {
    static const char names[] = "btn?fr"; /* of the bytes 8 to 13 */
    strbuf_puts(b, "\"");
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)p[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        strbuf_add(b, p + from, i - from);
        from = i + 1;
        if (c == '"' || c == '\\')
            strbuf_printf(b, "\\%c", c);
        else if (c >= 8 && c <= 13 && c != 11)
            strbuf_printf(b, "\\%c", names[c - 8]);
        else
            strbuf_printf(b, "\\u%04x", c);
    }
    strbuf_add(b, p + from, n - from);
    strbuf_puts(b, "\"");
}

enum { WRITE_MOST_DEPTH = 2048 }; /* what jansson reads */

static bool write_value(strbuf *b, const json_t *v, int depth);

static bool write_array(strbuf *b, const json_t *v, int depth) {
    for (size_t i = 0; i < json_array_size(v); i++) {
        strbuf_puts(b, i ? "," : "[");
        if (!write_value(b, json_array_get(v, i), depth)) return false;
    }
    strbuf_puts(b, json_array_size(v) ? "]" : "[]");
    return true;
}

static bool write_object(strbuf *b, const json_t *v, int depth) {
    json_t *object = (json_t *)(uintptr_t)v; /* iterators want it so; nothing is written to it */
    bool first = true;
    strbuf_puts(b, "{");
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        if (!first) strbuf_puts(b, ",");
        first = false;
        write_text(b, json_object_iter_key(at), json_object_iter_key_len(at));
        strbuf_puts(b, ":");
        if (!write_value(b, json_object_iter_value(at), depth)) return false;
    }
    strbuf_puts(b, "}");
    return true;
}

static bool write_value(strbuf *b, const json_t *v, int depth) {
    if (depth > WRITE_MOST_DEPTH) return false;
    switch (json_typeof(v)) {
    case JSON_OBJECT: return write_object(b, v, depth + 1);
    case JSON_ARRAY: return write_array(b, v, depth + 1);
    case JSON_STRING: write_text(b, json_string_value(v), json_string_length(v)); return true;
    case JSON_INTEGER: strbuf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(v)); return true;
    case JSON_REAL: write_real(b, json_real_value(v)); return true;
    case JSON_TRUE: strbuf_puts(b, "true"); return true;
    case JSON_FALSE: strbuf_puts(b, "false"); return true;
    case JSON_NULL: strbuf_puts(b, "null"); return true;
    }
    return false;
}

status json_write(const json_t *v, strbuf *out, err *e) {
    const size_t before = out->n;
    const bool shallow = write_value(out, v, 0);
    if (shallow && !out->failed) return OK;
    out->n = before;
    if (out->p) out->p[before] = 0;
    return shallow ? fail(e, ERR_NOMEM, "writing JSON")
                   : fail(e, ERR_RANGE, "JSON nested deeper than %d", WRITE_MOST_DEPTH);
}
