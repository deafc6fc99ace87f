#include "text/jinja_lex.h"

#include "text/jinja_ast.h"
#include "text/jinja_chars.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

jlexer jlex_start(jrun *r, str source) { return (jlexer){.r = r, .src = source, .line = 1, .line_start = true}; }

static char look(const jlexer *x, size_t ahead) { return ahead < x->src.n - x->at ? x->src.p[x->at + ahead] : 0; }

static void skip(jlexer *x, size_t n) {
    for (size_t i = 0; i < n; i++) x->line += x->src.p[x->at + i] == '\n';
    x->at += n;
    if (n) x->line_start = x->src.p[x->at - 1] == '\n';
}

static void skip_space(jlexer *x) { skip(x, jspace_left((str){x->src.p + x->at, x->src.n - x->at})); }

/* ---- outside of tags ---- */

/* Text before a tag, less the spaces that the tag takes: all before "{%-", those of its line before "{%" and "{#". */
static size_t kept(const jlexer *x, size_t from, size_t n, char sign, bool is_value) {
    const char *p = x->src.p + from;
    if (sign == '-') return n - jspace_right((str){p, n});
    if (sign == '+' || is_value) return n;
    size_t line = n;
    while (line > 0 && p[line - 1] != '\n') line--;
    if ((line > 0 || x->line_start) && jspace_left((str){p + line, n - line}) == n - line) return line;
    return n;
}

static char sign_at(const jlexer *x, size_t at) {
    char c = at < x->src.n ? x->src.p[at] : 0;
    return c == '-' || c == '+' ? c : 0;
}

/* The end of a block tag or comment, `close` = "%}" or "#}", at x->at: takes what it takes. false: not there. */
static bool take_end(jlexer *x, char first) {
    char sign = look(x, 0) == '-' || look(x, 0) == '+' ? look(x, 0) : 0;
    size_t k = sign ? 1 : 0;
    if (look(x, k) != first || look(x, k + 1) != '}') return false;
    skip(x, k + 2);
    if (sign == '-')
        skip_space(x);
    else if (!sign && look(x, 0) == '\n')
        skip(x, 1);
    return true;
}

static void skip_comment(jlexer *x) { /* at what follows "{#" and its sign */
    const uint32_t line = x->line;
    for (; x->at < x->src.n; skip(x, 1))
        if (take_end(x, '#')) return;
    x->r->line = line;
    jrun_fail(x->r, "Missing end of comment tag");
}

/* Bytes of `{% word %}` at x->at + from, less its end sign and brackets; 0: it is none. */
static size_t tag_of(const jlexer *x, size_t at, const char *word, char *sign) {
    if (at + 2 > x->src.n || x->src.p[at] != '{' || x->src.p[at + 1] != '%') return 0;
    size_t i = at + 2;
    *sign = sign_at(x, i);
    i += *sign != 0;
    i += jspace_left((str){x->src.p + i, x->src.n - i});
    if (!str_starts((str){x->src.p + i, x->src.n - i}, word)) return 0;
    i += strlen(word);
    i += jspace_left((str){x->src.p + i, x->src.n - i});
    size_t close = i + (i < x->src.n && (x->src.p[i] == '-' || (x->src.p[i] == '+' && word[0] == 'e')));
    if (close + 2 > x->src.n || x->src.p[close] != '%' || x->src.p[close + 1] != '}') return 0;
    return i - at;
}

static jtoken text_token(jlexer *x, size_t from, size_t n, uint32_t line) {
    (void)x;
    return (jtoken){.kind = T_TEXT, .line = line, .text = {x->src.p + from, n}};
}

static jtoken raw_text(jlexer *x) { /* after {% raw %} */
    const size_t from = x->at;
    const uint32_t line = x->line;
    for (; x->at < x->src.n; skip(x, 1)) {
        char sign = 0;
        size_t n = tag_of(x, x->at, "endraw", &sign);
        if (!n) continue;
        x->line_start = false;
        size_t keep = kept(x, from, x->at - from, sign, false);
        skip(x, n);
        take_end(x, '%');
        return text_token(x, from, keep, line);
    }
    x->r->line = line;
    jrun_fail(x->r, "Missing end of raw directive");
    return (jtoken){.kind = T_END};
}

/* The next "{{", "{%" or "{#" from here on; the end of the source if there is none. */
static size_t next_tag(const jlexer *x) {
    for (size_t i = x->at; i + 1 < x->src.n; i++) {
        const char *p = memchr(x->src.p + i, '{', x->src.n - 1 - i);
        if (!p) break;
        i = (size_t)(p - x->src.p);
        if (p[1] == '{' || p[1] == '%' || p[1] == '#') return i;
    }
    return x->src.n;
}

static jtoken lex_text(jlexer *x) {
    while (jrun_ok(x->r) && x->at < x->src.n) {
        const size_t from = x->at, tag = next_tag(x);
        const uint32_t line = x->line;
        const char open = tag < x->src.n ? x->src.p[tag + 1] : 0;
        char sign = open ? sign_at(x, tag + 2) : 0;
        size_t keep = open ? kept(x, from, tag - from, sign, open == '{') : tag - from;
        skip(x, tag - from);
        if (!open) return text_token(x, from, keep, line);
        char raw_sign;
        size_t raw = open == '%' ? tag_of(x, tag, "raw", &raw_sign) : 0;
        skip(x, raw ? raw : sign ? 3 : 2);
        jtoken raw_token = {.kind = T_END};
        if (raw) { /* no newline is trimmed after it */
            bool minus = look(x, 0) == '-';
            skip(x, minus ? 3 : 2);
            if (minus) skip_space(x);
            if (keep) { /* two texts: the parser joins nothing, so the first is given now and raw again later */
                x->mode = 'r';
                return text_token(x, from, keep, line);
            }
            raw_token = raw_text(x);
            if (raw_token.text.n || !jrun_ok(x->r)) return raw_token;
            continue;
        }
        if (open == '#') {
            skip_comment(x);
        } else {
            x->mode = open == '%' ? '%' : '}';
            x->held = open == '%' ? T_BLOCK_BEGIN : T_VALUE_BEGIN;
        }
        if (keep && jrun_ok(x->r)) return text_token(x, from, keep, line);
        if (x->held) break;
    }
    return (jtoken){.kind = T_END, .line = x->line};
}

/* ---- inside of tags ---- */

static jtoken refuse(jlexer *x, const char *what) {
    x->r->line = x->line;
    jrun_fail(x->r, "%s", what);
    return (jtoken){.kind = T_END, .line = x->line};
}

static bool is_word(utf8_char c, bool first) {
    if (c.cp == '_') return true;
    return c.n && c.is & (unsigned)(first ? CHAR_LETTER : CHAR_LETTER | CHAR_NUMBER | CHAR_MARK);
}

static jtoken lex_name(jlexer *x) {
    size_t n = 0;
    for (;;) {
        utf8_char c = utf8_look((const uint8_t *)x->src.p + x->at + n, (const uint8_t *)x->src.p + x->src.n);
        if (!is_word(c, n == 0)) break;
        n += c.n;
    }
    jtoken t = {.kind = T_NAME, .line = x->line, .text = {x->src.p + x->at, n}};
    skip(x, n);
    return t;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Digits with single underscores between them, copied without. */
static size_t digits(const jlexer *x, size_t ahead, char *out, size_t *n) {
    size_t i = ahead;
    while (is_digit(look(x, i)) || (look(x, i) == '_' && i > ahead && is_digit(look(x, i + 1)))) {
        if (look(x, i) != '_' && *n < 400) out[(*n)++] = look(x, i);
        i++;
    }
    return i;
}

static jtoken lex_based(jlexer *x, int base) { /* 0x, 0o, 0b */
    size_t i = 2;
    int64_t v = 0;
    for (;; i++) {
        char c = look(x, i);
        if (c == '_') continue;
        int d = is_digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
        if (d >= base) break;
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v))
            return refuse(x, "an integer beyond 64 bits");
    }
    skip(x, i);
    return (jtoken){.kind = T_NUMBER, .line = x->line, .value = j_int(v)};
}

static jtoken lex_number(jlexer *x) {
    char buf[416];
    size_t n = 0;
    const char base = (char)(look(x, 1) | 32);
    if (look(x, 0) == '0' && (base == 'x' || base == 'o' || base == 'b') && look(x, 2))
        return lex_based(x, base == 'x' ? 16 : base == 'o' ? 8 : 2);
    size_t i = digits(x, 0, buf, &n);
    bool real = false;
    if (look(x, i) == '.' && is_digit(look(x, i + 1))) {
        real = true;
        buf[n++] = '.';
        i = digits(x, i + 1, buf, &n);
    }
    if ((look(x, i) | 32) == 'e') {
        size_t k = i + 1 + (look(x, i + 1) == '-' || look(x, i + 1) == '+');
        if (is_digit(look(x, k))) {
            real = true;
            buf[n++] = 'e';
            if (k > i + 1) buf[n++] = look(x, i + 1);
            i = digits(x, k, buf, &n);
        }
    }
    buf[n] = 0;
    if (n >= 400) return refuse(x, "a number of too many digits");
    skip(x, i);
    if (real) return (jtoken){.kind = T_NUMBER, .line = x->line, .value = j_float(strtod(buf, NULL))};
    int64_t v = 0;
    if (buf[0] == '0' && strspn(buf, "0") < n) return refuse(x, "an integer that begins with 0");
    for (size_t k = 0; k < n; k++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, buf[k] - '0', &v))
            return refuse(x, "an integer beyond 64 bits");
    return (jtoken){.kind = T_NUMBER, .line = x->line, .value = j_int(v)};
}

static int hex_digit(char c) {
    return is_digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* \xhh, \uhhhh, \Uhhhhhhhh at p (after the letter); false: not so many digits, or no character. */
static bool add_code(jbuild *b, const char *p, const char *end, int n) {
    uint32_t cp = 0;
    for (int i = 0; i < n; i++) {
        int d = p + i < end ? hex_digit(p[i]) : -1;
        if (d < 0) return false;
        cp = cp << 4 | (uint32_t)d;
    }
    char utf8[4];
    if (cp >= UNICODE_LIMIT || (cp >= 0xD800 && cp < 0xE000)) return false;
    jbuild_add(b, utf8, utf8_write(cp, utf8), false);
    return true;
}

/* One escape at p, after the backslash; bytes of it, 0: broken. */
static size_t add_escape(jbuild *b, const char *p, const char *end) {
    static const char letters[] = "abfnrtv\\'\"", bytes[] = "\a\b\f\n\r\t\v\\'\"";
    const char *known = memchr(letters, *p, sizeof letters - 1);
    if (known) return jbuild_add(b, bytes + (known - letters), 1, false), 1;
    if (*p == '\n') return 1;
    if (*p >= '0' && *p <= '7') {
        uint32_t v = 0;
        size_t n = 0;
        while (n < 3 && p + n < end && p[n] >= '0' && p[n] <= '7') v = v * 8 + (uint32_t)(p[n++] - '0');
        char utf8[4];
        jbuild_add(b, utf8, utf8_write(v, utf8), false);
        return n;
    }
    if (*p == 'x' || *p == 'u' || *p == 'U') {
        int n = *p == 'x' ? 2 : *p == 'u' ? 4 : 8;
        return add_code(b, p + 1, end, n) ? 1 + (size_t)n : 0;
    }
    if (*p == 'N') return 0; /* names of characters are not known here */
    jbuild_puts(b, "\\");
    return jbuild_add(b, p, 1, false), 1;
}

static jtoken lex_string(jlexer *x) {
    const uint32_t line = x->line;
    const char quote = look(x, 0), *p = x->src.p + x->at + 1, *end = x->src.p + x->src.n;
    jbuild b = {.r = x->r};
    while (p < end && *p != quote && jrun_ok(x->r)) {
        const char *run = p;
        while (p < end && *p != quote && *p != '\\') p++;
        jbuild_add(&b, run, (size_t)(p - run), false);
        if (p < end && *p == quote) break;
        if (p + 1 >= end) return refuse(x, "a string without an end");
        size_t n = add_escape(&b, p + 1, end);
        if (!n) return refuse(x, "a broken escape in a string");
        p += 1 + n;
    }
    if (p >= end || *p != quote) return refuse(x, "a string without an end");
    skip(x, (size_t)(p + 1 - x->src.p) - x->at);
    return (jtoken){.kind = T_STRING, .line = line, .value = j_text(jbuild_done(&b))};
}

static jtoken lex_operator(jlexer *x) {
    static const struct {
        char text[3], op;
    } two[] = {{"==", OP_EQUAL},   {"!=", OP_UNEQUAL}, {">=", OP_AT_LEAST},
               {"<=", OP_AT_MOST}, {"//", OP_FLOOR},   {"**", OP_POWER}};
    const char c = look(x, 0);
    jtoken t = {.kind = T_OPERATOR, .line = x->line, .op = c};
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (c == two[i].text[0] && look(x, 1) == two[i].text[1]) {
            t.op = two[i].op;
            skip(x, 2);
            return t;
        }
    if (!c || !strchr("+-/*%~[](){}><=.:|,;", c)) {
        x->r->line = x->line;
        jrun_fail(x->r, "unexpected char '%.*s'", c ? (int)utf8_lead_len((uint8_t)c) : 0, x->src.p + x->at);
        return (jtoken){.kind = T_END, .line = x->line};
    }
    if (strchr("([{", c)) x->braces++;
    if (strchr(")]}", c) && x->braces-- == 0) return refuse(x, "unexpected closing bracket");
    skip(x, 1);
    return t;
}

static bool tag_ends(jlexer *x) {
    if (x->braces) return false;
    if (x->mode == '%') return take_end(x, '%');
    size_t minus = look(x, 0) == '-';
    if (look(x, minus) != '}' || look(x, minus + 1) != '}') return false;
    skip(x, minus + 2);
    if (minus) skip_space(x);
    return true;
}

static jtoken lex_tag(jlexer *x) {
    jtoken t = {.line = x->line};
    if (tag_ends(x)) {
        t.kind = x->mode == '%' ? T_BLOCK_END : T_VALUE_END;
        x->mode = 0;
        return t;
    }
    skip_space(x);
    t.line = x->line;
    if (tag_ends(x)) {
        t.kind = x->mode == '%' ? T_BLOCK_END : T_VALUE_END;
        x->mode = 0;
        return t;
    }
    if (x->at >= x->src.n) return refuse(x, "unexpected end of template");
    const char c = look(x, 0);
    if (is_digit(c)) return lex_number(x);
    if (c == '\'' || c == '"') return lex_string(x);
    utf8_char u = utf8_look((const uint8_t *)x->src.p + x->at, (const uint8_t *)x->src.p + x->src.n);
    return is_word(u, true) ? lex_name(x) : lex_operator(x);
}

jtoken jlex_next(jlexer *x) {
    if (!jrun_step(x->r, 0)) return (jtoken){.kind = T_END, .line = x->line};
    if (x->mode == 'r') {
        x->mode = 0;
        jtoken raw = raw_text(x);
        if (raw.text.n || !jrun_ok(x->r)) return raw;
    }
    if (!x->mode) {
        jtoken t = lex_text(x);
        if (t.kind != T_END || !x->held) return t;
    }
    if (x->held) {
        jtoken t = {.kind = x->held, .line = x->line};
        x->held = T_END;
        x->braces = 0;
        return t;
    }
    return lex_tag(x);
}
