/* HTTP/1.1 requests from bytes, in whatever pieces they come: the same request or the same refusal for any split.
 * Strict where others are lenient, because what two programs read differently is how requests are smuggled: one length or
 * chunks but never both, CRLF and nothing else, no folded lines, no control bytes, one Host. A machine of states, without
 * recursion; its only allocation is one buffer that holds head and body (http_parser_free). One request each; loop thread. */
#ifndef ROCMFORGE_SERVER_HTTP_PARSER_H
#define ROCMFORGE_SERVER_HTTP_PARSER_H

#include "base/str.h"

enum {
    HTTP_MAX_LINE = 8192,          /* bytes of the request line: 414 */
    HTTP_MAX_HEADERS = 100,        /* fields, those of a trailer included: 431 */
    HTTP_MAX_HEADER_BYTES = 65536, /* bytes of all fields: 431 */
    HTTP_MAX_METHOD = 32,
    HTTP_MAX_CHUNK_DIGITS = 16,   /* of a chunk's size */
    HTTP_MAX_CHUNK_EXT = 256,     /* bytes of one chunk's extensions */
    HTTP_MAX_CHUNK_EXT_ALL = 4096 /* bytes of all of them in a request */
};

typedef struct {
    str name, value; /* name in lower case */
} http_header;

typedef enum {
    HTTP_MORE,   /* all was taken, more is needed */
    HTTP_HEAD,   /* the head is complete (said once, before the body; feed again, with nothing if need be) */
    HTTP_DONE,   /* the request is complete; what follows is the next one's */
    HTTP_REFUSED /* status and why say what to answer before the connection is closed */
} http_progress;

typedef struct {
    uint32_t at, n; /* bytes of the buffer */
} http_span;

typedef struct {
    uint64_t max_body; /* decoded bytes; more is 413 */

    /* From HTTP_HEAD on. Views into the buffer, good until the next feed. */
    str method, path, query, host; /* path percent-decoded, without the query; host as the client wrote it */
    http_header headers[HTTP_MAX_HEADERS];
    uint32_t n_headers;
    uint32_t minor; /* HTTP/1.minor: 0 or 1 */
    bool keep_alive, expect_continue, chunked;
    uint64_t length; /* Content-Length; 0: none was given */
    str body;        /* from HTTP_DONE on; followed by a NUL that is no part of it */

    int status; /* HTTP_REFUSED */
    const char *why;

    /* The machine's own. */
    char *buf;
    size_t n, cap, body_at;
    uint32_t state, n_line, n_field_bytes, n_fields, field_at;
    http_span name, span_method, target, span_path, span_query, span_host;
    http_span span_name[HTTP_MAX_HEADERS], span_value[HTTP_MAX_HEADERS];
    char version[9];
    uint32_t n_version, n_digits, n_ext, n_ext_all;
    uint64_t left; /* bytes of the body, or of this chunk, still to come */
    uint32_t n_host, n_length, n_coding;
    bool empty_line, says_close, says_keep_alive, in_trailer, encoded, bad_expect, other_coding;
} http_parser;

void http_parser_init(http_parser *p, uint64_t max_body);
void http_parser_free(http_parser *p);
/* *used: bytes taken; all of them unless the answer is HTTP_HEAD, HTTP_DONE or HTTP_REFUSED. */
http_progress http_parser_feed(http_parser *p, const char *in, size_t n, size_t *used);
bool http_parser_past_line(const http_parser *p);      /* the request line is complete */
bool http_parser_wants_body(const http_parser *p);     /* from HTTP_HEAD on: a body follows */
uint64_t http_parser_body_bytes(const http_parser *p); /* decoded so far */

/* Helpers for whoever reads what a client wrote. */
bool http_is_token(char c);
bool http_is_id(str s);                                     /* [A-Za-z0-9._-]{1,128} */
bool http_same_word(str a, const char *b);                  /* ASCII letters of either case alike */
bool http_list_has(str list, const char *word);             /* "a, b;q=1": one of the words before ; */
bool http_unescape(str s, bool plus_is_space, strbuf *out); /* false: bad escape, or one of NUL */

#endif
