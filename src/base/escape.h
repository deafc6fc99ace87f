/* Text for JSON strings and log lines: what could mislead a terminal or a reader of lines is written as an escape. Pure
 * functions, any thread. */
#ifndef ROCMFORGE_BASE_ESCAPE_H
#define ROCMFORGE_BASE_ESCAPE_H

#include "base/str.h"

enum { ESCAPE_MOST = 6 }; /* bytes that one character can become */

/* The character of s at *at (which must lie inside) as it stands between the quotes of a JSON string; moves *at past it and
 * returns the bytes written. A byte that is no UTF-8 becomes U+FFFD. Controls (C0, DEL, C1), line separators and marks that
 * turn the direction of text become \uXXXX. */
size_t escape_char(str s, size_t *at, char out[ESCAPE_MOST]);

void strbuf_json(strbuf *b, str s); /* appends s as a JSON string, with its quotes */

#endif
