/* Text: `str`, a borrowed view that need not be terminated, and `strbuf`, an owned byte buffer that grows.
 * A strbuf that could not grow stays as it was and remembers it (`failed`), so a writer checks once at its end. */
#ifndef ROCMFORGE_BASE_STR_H
#define ROCMFORGE_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *p;
    size_t n;
} str;

#define STR(s) (int)((s).n > 200 ? 200 : (s).n), (s).p /* for "%.*s"; long text is cut in messages */

str str_of(const char *z); /* of a terminated string, NULL gives an empty one */
bool str_eq(str a, str b);
bool str_is(str a, const char *z);
bool str_starts(str a, const char *z);
bool str_is_utf8(str s);  /* well-formed: no overlong form, no surrogate, nothing past U+10FFFF */
uint64_t str_hash(str s); /* FNV-1a with a final mix; not for hostile tables without a cap on their size */

typedef struct {
    char *p; /* terminated whenever not NULL */
    size_t n, cap;
    bool failed;
} strbuf; /* {0} is empty */

void strbuf_add(strbuf *b, const char *p, size_t n);
void strbuf_puts(strbuf *b, const char *z);
__attribute__((format(printf, 2, 3))) void strbuf_printf(strbuf *b, const char *fmt, ...);
void strbuf_clear(strbuf *b); /* keeps the memory */
void strbuf_free(strbuf *b);

#endif
