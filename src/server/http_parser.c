#include "server/http_parser.h"

#include "base/mem.h"

#include <string.h>

/* One state for each place in the grammar of RFC 9112 where a byte decides. */
enum {
    START,
    START_LF,
    METHOD,
    TARGET,
    VERSION,
    LINE_LF,
    FIELD_START,
    FIELD_NAME,
    VALUE_START,
    VALUE,
    VALUE_LF,
    HEAD_LF,
    BODY,
    CHUNK_SIZE,
    CHUNK_EXT,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_CR,
    CHUNK_LF,
    ENDED,
    REFUSED
};

static http_progress refuse(http_parser *p, int status, const char *why) {
    p->state = REFUSED;
    p->status = status;
    p->why = why;
    return HTTP_REFUSED;
}

static http_progress no_memory(http_parser *p) { return refuse(p, 503, "no memory for the request"); }

void http_parser_init(http_parser *p, uint64_t max_body) {
    memset(p, 0, sizeof *p);
    p->max_body = max_body;
}

void http_parser_free(http_parser *p) {
    mem_free(p->buf);
    p->buf = NULL;
}

bool http_parser_past_line(const http_parser *p) { return p->state >= FIELD_START && p->state != REFUSED; }
bool http_parser_wants_body(const http_parser *p) { return p->chunked || p->length > 0; }
uint64_t http_parser_body_bytes(const http_parser *p) { return p->body_at ? p->n - p->body_at : 0; }

/* --- bytes and words -------------------------------------------------------------------------------------------------- */
static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
static bool is_alpha(unsigned char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }
static unsigned char lower(unsigned char c) { return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c; }
static int hex(unsigned char c) {
    return is_digit(c) ? c - '0' : lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
}

bool http_is_token(char c) {
    return is_digit((unsigned char)c) || is_alpha((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

bool http_is_id(str s) {
    for (size_t i = 0; i < s.n; i++)
        if (!is_digit((unsigned char)s.p[i]) && !is_alpha((unsigned char)s.p[i]) && !strchr("._-", s.p[i]))
            return false;
    return s.n > 0 && s.n <= 128 && !memchr(s.p, 0, s.n);
}

/* Bytes of a field's value: visible ones, space, tab, and those above ASCII, which only some fields may hold. */
static bool is_text(unsigned char c) { return c == '\t' || (c >= ' ' && c != 0x7F); }
static bool is_target(unsigned char c) { return c > ' ' && c < 0x7F && !strchr("\"#<>\\^`{|}", c); }

bool http_same_word(str a, const char *b) {
    size_t n = strlen(b);
    if (a.n != n) return false;
    for (size_t i = 0; i < n; i++)
        if (lower((unsigned char)a.p[i]) != lower((unsigned char)b[i])) return false;
    return true;
}

static str trim(str s) {
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) s.p++, s.n--;
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

bool http_list_has(str list, const char *word) {
    for (size_t at = 0; at <= list.n;) {
        size_t end = at, semicolon;
        while (end < list.n && list.p[end] != ',') end++;
        for (semicolon = at; semicolon < end && list.p[semicolon] != ';';) semicolon++;
        if (list.n && http_same_word(trim((str){list.p + at, semicolon - at}), word)) return true;
        at = end + 1;
    }
    return false;
}

/* The byte an escape at s stands for; -1: no escape, or one of NUL. */
static int escape(str s) {
    if (s.n < 3) return -1;
    int high = hex((unsigned char)s.p[1]), low = hex((unsigned char)s.p[2]);
    return high < 0 || low < 0 || (high | low) == 0 ? -1 : high * 16 + low;
}

bool http_unescape(str s, bool plus_is_space, strbuf *out) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i] == '+' && plus_is_space ? ' ' : s.p[i];
        if (c == '%') {
            int v = escape((str){s.p + i, s.n - i});
            if (v < 0) return false;
            c = (char)v;
            i += 2;
        }
        strbuf_add(out, &c, 1);
    }
    return !out->failed;
}

/* --- the buffer ------------------------------------------------------------------------------------------------------- */
enum { FIRST_BYTES = 1024 };

static str view(const http_parser *p, http_span s) { return (str){p->buf + s.at, s.n}; }

/* Makes every view point into the buffer as it lies now. */
static void renew_views(http_parser *p) {
    p->method = view(p, p->span_method);
    p->path = view(p, p->span_path);
    p->query = view(p, p->span_query);
    p->host = view(p, p->span_host);
    for (uint32_t i = 0; i < p->n_headers; i++)
        p->headers[i] = (http_header){view(p, p->span_name[i]), view(p, p->span_value[i])};
}

/* Room for so many bytes and a terminator. It doubles: never more than twice what the client really sent. */
static bool reserve(http_parser *p, size_t extra) {
    if (p->cap - p->n > extra) return true;
    size_t cap = p->cap ? p->cap : FIRST_BYTES;
    while (cap - p->n <= extra) cap *= 2;
    char *more = mem_resize(p->buf, cap);
    if (!more) return false;
    p->buf = more;
    p->cap = cap;
    if (p->body_at) renew_views(p); /* a body grows under a head that was shown */
    return true;
}

static http_progress keep(http_parser *p, unsigned char c) {
    if (!reserve(p, 1)) return no_memory(p);
    p->buf[p->n++] = (char)c;
    return HTTP_MORE;
}

/* --- the request line ------------------------------------------------------------------------------------------------- */
static http_progress at_method(http_parser *p, unsigned char c) {
    if (c == ' ' && p->n) {
        p->span_method.n = (uint32_t)p->n;
        p->target.at = (uint32_t)p->n;
        p->state = TARGET;
        return HTTP_MORE;
    }
    if (!http_is_token((char)c)) return refuse(p, 400, "the request line is malformed");
    if (p->n == HTTP_MAX_METHOD) return refuse(p, 400, "the method is too long");
    p->state = METHOD;
    return keep(p, c);
}

static http_progress at_start(http_parser *p, unsigned char c) {
    if (c != '\r' || p->empty_line) return at_method(p, c);
    p->empty_line = true; /* one empty line before a request is let pass, as RFC 9112 2.2 asks */
    p->state = START_LF;
    return HTTP_MORE;
}

static http_progress at_start_lf(http_parser *p, unsigned char c) {
    if (c != '\n') return refuse(p, 400, "CR without LF");
    p->state = START;
    return HTTP_MORE;
}

static http_progress at_target(http_parser *p, unsigned char c) {
    if (c == ' ' && p->n > p->target.at) {
        p->target.n = (uint32_t)p->n - p->target.at;
        p->state = VERSION;
        return HTTP_MORE;
    }
    return is_target(c) ? keep(p, c) : refuse(p, 400, "the request target holds a byte that must be escaped");
}

static http_progress at_version(http_parser *p, unsigned char c) {
    if (c != '\r') {
        if (p->n_version == sizeof p->version - 1 || c <= ' ' || c >= 0x7F)
            return refuse(p, 400, "the request line is malformed");
        p->version[p->n_version++] = (char)c;
        return HTTP_MORE;
    }
    const char *v = p->version;
    if (p->n_version != 8 || memcmp(v, "HTTP/", 5) || !is_digit((unsigned char)v[5]) || v[6] != '.' ||
        !is_digit((unsigned char)v[7]))
        return refuse(p, 400, "the request line is malformed");
    if (v[5] != '1' || v[7] > '1') return refuse(p, 505, "HTTP/1.1 and HTTP/1.0 are spoken here");
    p->minor = (uint32_t)(v[7] - '0');
    p->state = LINE_LF;
    return HTTP_MORE;
}

static http_progress at_line_lf(http_parser *p, unsigned char c) {
    if (c != '\n') return refuse(p, 400, "CR without LF");
    p->state = FIELD_START;
    return HTTP_MORE;
}

/* --- fields: headers, and the trailer after chunks -------------------------------------------------------------------- */
static http_progress at_field_start(http_parser *p, unsigned char c) {
    if (c == '\r') {
        p->state = HEAD_LF;
        return HTTP_MORE;
    }
    if (c == ' ' || c == '\t') return refuse(p, 400, "a header line is folded");
    if (!http_is_token((char)c)) return refuse(p, 400, "a header's name holds a byte that is not allowed");
    if (p->n_fields == HTTP_MAX_HEADERS) return refuse(p, 431, "more than 100 headers");
    p->n_fields++;
    p->field_at = (uint32_t)p->n;
    p->state = FIELD_NAME;
    return keep(p, lower(c));
}

static http_progress at_field_name(http_parser *p, unsigned char c) {
    if (c == ':') {
        p->name = (http_span){p->field_at, (uint32_t)p->n - p->field_at};
        p->state = VALUE_START;
        return HTTP_MORE;
    }
    return http_is_token((char)c) ? keep(p, lower(c))
                                  : refuse(p, 400, "a header's name holds a byte that is not allowed");
}

static http_progress at_value(http_parser *p, unsigned char c) {
    if (c == '\r') {
        p->state = VALUE_LF;
        return HTTP_MORE;
    }
    if (p->state == VALUE_START && (c == ' ' || c == '\t')) return HTTP_MORE;
    p->state = VALUE;
    return is_text(c) ? keep(p, c) : refuse(p, 400, "a header's value holds a control byte");
}

static http_progress read_length(http_parser *p, str v) {
    if (p->n_length++) return refuse(p, 400, "more than one Content-Length");
    if (v.n == 0) return refuse(p, 400, "Content-Length is no number");
    for (size_t i = 0; i < v.n; i++) {
        if (!is_digit((unsigned char)v.p[i])) return refuse(p, 400, "Content-Length is no number");
        if (p->length >= UINT64_MAX / 10) p->length = UINT64_MAX / 10 - 1; /* too large, and stays so */
        p->length = p->length * 10 + (uint64_t)(v.p[i] - '0');
    }
    return HTTP_MORE;
}

static http_progress read_coding(http_parser *p, str v) {
    if (p->n_coding++ || v.n == 0) return refuse(p, 400, "Transfer-Encoding must stand once and say chunked");
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] == ',' && http_list_has((str){v.p, i}, "chunked"))
            return refuse(p, 400, "Transfer-Encoding must stand once and say chunked");
    p->chunked = http_same_word(v, "chunked");
    p->other_coding = !p->chunked;
    return HTTP_MORE;
}

/* Headers that decide where a request ends, and whether it is understood at all. */
static http_progress read_header(http_parser *p, str name, str v) {
    if (str_is(name, "content-length")) return read_length(p, v);
    if (str_is(name, "transfer-encoding")) return read_coding(p, v);
    if (str_is(name, "host")) {
        if (p->n_host++) return refuse(p, 400, "more than one Host");
        p->span_host = p->span_value[p->n_headers - 1];
    }
    if (str_is(name, "connection")) {
        p->says_close |= http_list_has(v, "close");
        p->says_keep_alive |= http_list_has(v, "keep-alive");
    }
    if (str_is(name, "content-encoding") && !http_same_word(v, "identity")) p->encoded = true;
    if (str_is(name, "expect")) {
        p->expect_continue = http_same_word(v, "100-continue");
        p->bad_expect |= !p->expect_continue;
    }
    return HTTP_MORE;
}

/* A trailer is read and forgotten; but what would have framed the request may not come after it. */
static http_progress end_trailer_field(http_parser *p) {
    str name = view(p, p->name);
    bool frames = str_is(name, "content-length") || str_is(name, "transfer-encoding") || str_is(name, "host");
    p->n = p->field_at;
    p->state = FIELD_START;
    return frames ? refuse(p, 400, "a framing header in the trailer") : HTTP_MORE;
}

static http_progress at_value_lf(http_parser *p, unsigned char c) {
    if (c != '\n') return refuse(p, 400, "CR without LF");
    p->state = FIELD_START;
    if (p->in_trailer) return end_trailer_field(p);
    size_t at = p->name.at + p->name.n;
    str v = trim((str){p->buf + at, p->n - at});
    p->span_name[p->n_headers] = p->name;
    p->span_value[p->n_headers] = (http_span){(uint32_t)at, (uint32_t)v.n};
    p->n_headers++;
    return read_header(p, view(p, p->name), v);
}

/* --- the end of the head ---------------------------------------------------------------------------------------------- */

/* uri-host [":" port] as RFC 3986 has them, without user information. */
static bool is_host(str h) {
    size_t i = 0;
    if (h.n && h.p[0] == '[') {
        for (i = 1; i < h.n && (hex((unsigned char)h.p[i]) >= 0 || h.p[i] == ':' || h.p[i] == '.');) i++;
        if (i < 3 || i >= h.n || h.p[i++] != ']') return false; /* "[::]" is the shortest */
    } else {
        while (i < h.n &&
               (is_digit((unsigned char)h.p[i]) || is_alpha((unsigned char)h.p[i]) || strchr("-._~", h.p[i])))
            i++;
        if (i == 0) return false;
    }
    if (i == h.n) return true;
    if (h.p[i++] != ':') return false;
    uint32_t port = 0;
    for (; i < h.n; i++) {
        if (!is_digit((unsigned char)h.p[i])) return false;
        port = port * 10 + (uint32_t)(h.p[i] - '0');
        if (port > 65535) return false;
    }
    return true;
}

static bool same_host(str a, str b) {
    for (size_t i = 0; i < a.n && i < b.n; i++)
        if (lower((unsigned char)a.p[i]) != lower((unsigned char)b.p[i])) return false;
    return a.n == b.n;
}

/* http://HOST/path: gives the span of what follows the host. false: no such form, or another host than the header's. */
static bool skip_authority(const http_parser *p, http_span *s) {
    str t = view(p, *s);
    size_t scheme = t.n > 7 && http_same_word((str){t.p, 7}, "http://")    ? 7
                    : t.n > 8 && http_same_word((str){t.p, 8}, "https://") ? 8
                                                                           : 0;
    size_t end = scheme;
    while (end < t.n && t.p[end] != '/' && t.p[end] != '?') end++;
    if (!scheme || !same_host((str){t.p + scheme, end - scheme}, view(p, p->span_host))) return false;
    *s = (http_span){s->at + (uint32_t)end, s->n - (uint32_t)end};
    return true;
}

/* "." and ".." as a whole segment: what they would name is not ours to guess. */
static bool has_dot_segment(str path) {
    for (size_t at = 0; at < path.n;) {
        size_t end = at + 1; /* path[at] is a slash */
        while (end < path.n && path.p[end] != '/') end++;
        size_t n = end - at - 1;
        if ((n == 1 && path.p[at + 1] == '.') || (n == 2 && path.p[at + 1] == '.' && path.p[at + 2] == '.'))
            return true;
        at = end;
    }
    return false;
}

/* Appends the path without its escapes to the buffer. An escaped slash or control byte is refused: it means one thing to
 * who decodes first and another to who splits first. */
static http_progress decode_path(http_parser *p, http_span s) {
    if (!reserve(p, s.n + 1u)) return no_memory(p);
    p->span_path.at = (uint32_t)p->n;
    if (s.n == 0) p->buf[p->n++] = '/'; /* http://host */
    for (uint32_t i = 0; i < s.n; i++) {
        int c = (unsigned char)p->buf[s.at + i];
        if (c == '%') {
            c = escape((str){p->buf + s.at + i, s.n - i});
            if (c < ' ' || c == 0x7F || c == '/' || c == '\\') return refuse(p, 400, "the path holds a bad escape");
            i += 2;
        }
        p->buf[p->n++] = (char)c;
    }
    p->span_path.n = (uint32_t)p->n - p->span_path.at;
    str path = view(p, p->span_path);
    if (!str_is_utf8(path)) return refuse(p, 400, "the path is not UTF-8");
    if (has_dot_segment(path)) return refuse(p, 400, "the path holds a dot segment");
    return HTTP_MORE;
}

static http_progress read_target(http_parser *p) {
    http_span s = p->target;
    if (s.n == 1 && p->buf[s.at] == '*') {
        if (!str_is(view(p, p->span_method), "OPTIONS")) return refuse(p, 400, "the target * is for OPTIONS only");
        p->span_path = s;
        return HTTP_MORE;
    }
    if (p->buf[s.at] != '/' && !skip_authority(p, &s)) return refuse(p, 400, "the target is no path of this host");
    str t = view(p, s);
    const char *mark = s.n ? memchr(t.p, '?', t.n) : NULL;
    uint32_t n_path = mark ? (uint32_t)(mark - t.p) : s.n;
    if (mark) p->span_query = (http_span){s.at + n_path + 1, s.n - n_path - 1};
    for (size_t i = n_path; i < t.n; i++)
        if (t.p[i] == '%' && escape((str){t.p + i, t.n - i}) < 0) return refuse(p, 400, "the query holds a bad escape");
    return decode_path(p, (http_span){s.at, n_path});
}

static http_progress check_head(http_parser *p) {
    if (p->n_host == 0) return refuse(p, 400, "no Host");
    if (!is_host(view(p, p->span_host))) return refuse(p, 400, "the Host is malformed");
    if (p->n_coding && p->n_length) return refuse(p, 400, "both Content-Length and Transfer-Encoding");
    if (p->n_coding && p->minor == 0) return refuse(p, 400, "Transfer-Encoding with HTTP/1.0");
    if (p->other_coding) return refuse(p, 501, "of the transfer codings only chunked is understood");
    http_progress r = read_target(p);
    if (r != HTTP_MORE) return r;
    renew_views(p);
    if (p->encoded) return refuse(p, 415, "a compressed body is not taken");
    if (p->bad_expect) return refuse(p, 417, "only 100-continue can be expected");
    if (p->length > p->max_body) return refuse(p, 413, "the body is larger than the server takes");
    return HTTP_HEAD;
}

static http_progress finish(http_parser *p) {
    if (!reserve(p, 1)) return no_memory(p);
    p->buf[p->n] = 0;
    renew_views(p);
    p->body = (str){p->buf + p->body_at, p->n - p->body_at};
    p->state = ENDED;
    return HTTP_DONE;
}

static http_progress at_head_lf(http_parser *p, unsigned char c) {
    if (c != '\n') return refuse(p, 400, "CR without LF");
    if (p->in_trailer) return finish(p);
    http_progress r = check_head(p);
    if (r != HTTP_HEAD) return r;
    p->keep_alive = !p->says_close && (p->minor == 1 || p->says_keep_alive);
    p->expect_continue = p->expect_continue && p->minor == 1;
    p->body_at = p->n;
    p->left = p->length;
    p->state = p->chunked ? CHUNK_SIZE : BODY;
    return HTTP_HEAD;
}

/* --- bodies ----------------------------------------------------------------------------------------------------------- */
static http_progress end_chunk_size(http_parser *p) {
    if (p->n_digits == 0) return refuse(p, 400, "a chunk has no size");
    if (p->left > p->max_body - (p->n - p->body_at)) return refuse(p, 413, "the body is larger than the server takes");
    p->n_ext = 0;
    return HTTP_MORE;
}

static http_progress at_chunk_size(http_parser *p, unsigned char c) {
    if (c == '\r' || c == ';') {
        p->state = c == ';' ? CHUNK_EXT : CHUNK_SIZE_LF;
        return end_chunk_size(p);
    }
    int digit = hex(c);
    if (digit < 0 || p->n_digits == HTTP_MAX_CHUNK_DIGITS) return refuse(p, 400, "a chunk's size is malformed");
    p->n_digits++;
    p->left = p->left * 16 + (uint64_t)digit;
    return HTTP_MORE;
}

static http_progress at_chunk_ext(http_parser *p, unsigned char c) {
    if (c == '\r') {
        p->state = CHUNK_SIZE_LF;
        return HTTP_MORE;
    }
    if (!is_text(c)) return refuse(p, 400, "a chunk's extension holds a control byte");
    if (++p->n_ext > HTTP_MAX_CHUNK_EXT || ++p->n_ext_all > HTTP_MAX_CHUNK_EXT_ALL)
        return refuse(p, 400, "chunk extensions are too long");
    return HTTP_MORE;
}

static http_progress at_chunk_size_lf(http_parser *p, unsigned char c) {
    if (c != '\n') return refuse(p, 400, "CR without LF");
    p->in_trailer = p->left == 0;
    p->state = p->in_trailer ? FIELD_START : CHUNK_DATA;
    return HTTP_MORE;
}

static http_progress at_chunk_cr(http_parser *p, unsigned char c) {
    if (c != '\r') return refuse(p, 400, "a chunk is longer than its size");
    p->state = CHUNK_LF;
    return HTTP_MORE;
}

static http_progress at_chunk_lf(http_parser *p, unsigned char c) {
    if (c != '\n') return refuse(p, 400, "CR without LF");
    p->n_digits = 0;
    p->state = CHUNK_SIZE;
    return HTTP_MORE;
}

/* Bytes of a body, as many as are there. */
static http_progress take_body(http_parser *p, const char *in, size_t n, size_t *used) {
    size_t take = n < p->left ? n : (size_t)p->left;
    if (!reserve(p, take)) return no_memory(p);
    if (take) memcpy(p->buf + p->n, in, take);
    p->n += take;
    p->left -= take;
    *used += take;
    if (p->left) return HTTP_MORE;
    if (p->state == BODY) return finish(p);
    p->state = CHUNK_CR;
    return HTTP_MORE;
}

/* --- the machine ------------------------------------------------------------------------------------------------------ */
static http_progress (*const steps[])(http_parser *p, unsigned char c) = {
    [START] = at_start,
    [START_LF] = at_start_lf,
    [METHOD] = at_method,
    [TARGET] = at_target,
    [VERSION] = at_version,
    [LINE_LF] = at_line_lf,
    [FIELD_START] = at_field_start,
    [FIELD_NAME] = at_field_name,
    [VALUE_START] = at_value,
    [VALUE] = at_value,
    [VALUE_LF] = at_value_lf,
    [HEAD_LF] = at_head_lf,
    [CHUNK_SIZE] = at_chunk_size,
    [CHUNK_EXT] = at_chunk_ext,
    [CHUNK_SIZE_LF] = at_chunk_size_lf,
    [CHUNK_CR] = at_chunk_cr,
    [CHUNK_LF] = at_chunk_lf,
};

static http_progress step(http_parser *p, unsigned char c) {
    if (p->state < FIELD_START && ++p->n_line > HTTP_MAX_LINE) return refuse(p, 414, "the request line is too long");
    if (p->state >= FIELD_START && p->state <= HEAD_LF && ++p->n_field_bytes > HTTP_MAX_HEADER_BYTES)
        return refuse(p, 431, "more than 64 KiB of headers");
    return steps[p->state](p, c);
}

http_progress http_parser_feed(http_parser *p, const char *in, size_t n, size_t *used) {
    http_progress r = HTTP_MORE;
    *used = 0;
    if (p->state == REFUSED || p->state == ENDED) return p->state == ENDED ? HTTP_DONE : HTTP_REFUSED;
    if (p->state == BODY && p->left == 0) return finish(p);
    while (r == HTTP_MORE && *used < n) {
        if (p->state == BODY || p->state == CHUNK_DATA)
            r = take_body(p, in + *used, n - *used, used);
        else
            r = step(p, (unsigned char)in[(*used)++]);
    }
    return r;
}
