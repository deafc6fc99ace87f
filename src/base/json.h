/* jansson, made ours: its memory comes from base/mem.h, bytes from a file never make a string fail, values are written
 * one way. Objects keep the order in which keys were put in. Values are owned as jansson says (json_decref). jansson itself
 * does not lock: a value belongs to one thread at a time. */
#ifndef ROCMFORGE_BASE_JSON_H
#define ROCMFORGE_BASE_JSON_H

#include "base/err.h"
#include "base/str.h"

#include <jansson.h>

void json_init(void); /* before anything of jansson is used; again is fine, from any thread */

/* Appends text with every piece that is not UTF-8 replaced by U+FFFD (one for each longest piece that begins a character
 * and breaks off, as browsers and Python do). */
void strbuf_add_utf8(strbuf *b, const char *p, size_t n);

/* Parses text. OK, ERR_NOMEM, or ERR_RANGE: then *why says where and what; otherwise it means nothing. Better than jansson's
 * own functions for what others sent: those are not safe where memory runs out. */
MUST_CHECK status json_read(json_t **out, str text, size_t flags, json_error_t *why);

json_t *json_text(const char *p, size_t n); /* a string of any bytes, NUL too, cleaned as above; NULL: out of memory */
json_t *json_text_of(str s);

/* obj[key] = v, where key may hold any bytes. Takes the reference to v, also when it fails; a NULL v fails. false: out of
 * memory. */
bool json_put(json_t *obj, str key, json_t *v);

/* Appends v in compact form, keys in their order, numbers with 15 digits, or the 16 or 17 that give them back. A failure leaves
 * `out` as it was. */
MUST_CHECK status json_write(const json_t *v, strbuf *out, err *e);

#endif
