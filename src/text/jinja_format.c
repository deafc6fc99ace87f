/* Python's two ways to format: "%s" % args and "{}".format(args). */
#include "text/jinja_textops.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_WIDTH = 1 << 20, MAX_PRECISION = 400 };

/* How one value is to be shown; what both ways have in common. */
typedef struct {
    const char *fill; /* one character */
    size_t n_fill;
    char align; /* < > = ^ or 0: by kind */
    char sign;  /* + space or 0 */
    char type;  /* s d f ... or 0 */
    char group; /* , _ or 0 */
    bool alternate;
    int64_t width, precision; /* -1: none */
} spec;

/* Digits of v in a base, sign apart. */
static size_t digits_of(uint64_t v, unsigned base, bool upper, char *out, size_t size) {
    size_t at = size;
    do {
        out[--at] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[v % base];
        v /= base;
    } while (v);
    memmove(out, out + at, size - at);
    return size - at;
}

static size_t add_groups(char *text, size_t n, size_t whole, char mark) { /* 1234567.5 -> 1,234,567.5 */
    char buf[900];
    size_t k = 0;
    for (size_t i = 0; i < n && k + 2 < sizeof buf; i++) {
        if (i && i < whole && (whole - i) % 3 == 0) buf[k++] = mark;
        buf[k++] = text[i];
    }
    memcpy(text, buf, k);
    return k;
}

static size_t int_digits(jrun *r, const spec *s, int64_t v, char out[900]) {
    const uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    const bool upper = s->type == 'X';
    const char *before = !s->alternate    ? ""
                         : s->type == 'x' ? "0x"
                         : upper          ? "0X"
                         : s->type == 'o' ? "0o"
                         : s->type == 'b' ? "0b"
                                          : "";
    const unsigned base = s->type == 'x' || upper ? 16 : s->type == 'o' ? 8 : s->type == 'b' ? 2 : 10;
    char digits[72];
    size_t n = digits_of(u, base, upper, digits, sizeof digits), k = strlen(before);
    memcpy(out, before, k);
    memcpy(out + k, digits, n);
    (void)r;
    return k + (s->group ? add_groups(out + k, n, n, s->group) : n);
}

static size_t float_digits(const spec *s, double v, char out[900]) {
    char fmt[16], type = s->type ? s->type : 'g';
    const int precision = (int)(s->precision < 0 ? 6 : s->precision > MAX_PRECISION ? MAX_PRECISION : s->precision);
    v = fabs(v);
    if (!s->type && s->precision < 0) {
        char plain[32];
        size_t n = j_float_text(v, plain);
        memcpy(out, plain, n);
        return n;
    }
    if (type == '%') {
        v *= 100;
        type = 'f';
    }
    if (type == 'n') type = 'g';
    snprintf(fmt, sizeof fmt, "%%%s.*%c", s->alternate ? "#" : "", type);
    int n = snprintf(out, 800, fmt, precision, v);
    size_t len = n < 0 ? 0 : n < 800 ? (size_t)n : 799;
    if (s->group) len = add_groups(out, len, strcspn(out, ".e"), s->group);
    if (s->type == '%') out[len++] = '%';
    return len;
}

static void pad_to(jbuild *out, const spec *s, const jtext *sign, const jtext *body, size_t chars, char usual) {
    const char align = s->align ? s->align : usual;
    const int64_t more = s->width - (int64_t)chars - (int64_t)sign->n;
    const int64_t left = align == '<' || more <= 0 ? 0 : align == '^' ? more / 2 : more;
    if (align == '=') jbuild_text(out, sign);
    for (int64_t i = 0; i < left && jrun_ok(out->r); i++) jbuild_add(out, s->fill, s->n_fill, false);
    if (align != '=') jbuild_text(out, sign);
    jbuild_text(out, body);
    for (int64_t i = left; i < more && jrun_ok(out->r); i++) jbuild_add(out, s->fill, s->n_fill, false);
}

static void format_number(jbuild *out, const spec *s, jval v) {
    char digits[900];
    const bool real = v.kind == J_FLOAT || (s->type && strchr("eEfFgG%", s->type));
    const bool negative = v.kind == J_FLOAT ? signbit(v.f) : j_int_of(v) < 0;
    size_t n = real ? float_digits(s, j_float_of(v), digits) : int_digits(out->r, s, j_int_of(v), digits);
    const char *sign = negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
    const jtext sign_text = {.p = sign, .n = strlen(sign)}, body = {.p = digits, .n = n};
    pad_to(out, s, &sign_text, &body, n, '>');
}

static void format_text(jbuild *out, const spec *s, jtext *t) {
    jrun_step(out->r, t->n);
    jtext cut = *t;
    if (s->precision >= 0 && (size_t)s->precision < jtext_chars(t)) {
        cut.n = jtext_at(t, (size_t)s->precision);
        cut.n_chars = 0;
    }
    pad_to(out, s, &jtext_empty, &cut, jtext_chars(&cut), '<');
}

/* ---- "%s" % args ---- */

typedef struct {
    jrun *r;
    const jtext *format;
    size_t at;
    const jlist *list; /* the arguments; NULL: one, or a dict */
    jval one;
    size_t used;
    bool named;
} percent;

static char here(const percent *p) { return p->at < p->format->n ? p->format->p[p->at] : 0; }

static jval next_argument(percent *p) {
    const size_t n = p->list ? p->list->n : 1;
    if (p->used >= n) {
        jrun_fail(p->r, "not enough arguments for format string");
        return j_undefined(NULL);
    }
    return p->list ? p->list->item[p->used++] : (p->used++, p->one);
}

static int64_t number_or_star(percent *p) { /* -1: none */
    if (here(p) == '*') {
        p->at++;
        int64_t v;
        return jargs_int(p->r, next_argument(p), 0, &v) ? v : -1;
    }
    int64_t v = -1;
    for (; here(p) >= '0' && here(p) <= '9' && v < MAX_WIDTH; p->at++) v = (v < 0 ? 0 : v) * 10 + (here(p) - '0');
    return v;
}

static void read_flags(percent *p, spec *s) {
    for (;; p->at++) {
        if (here(p) == '-')
            s->align = '<';
        else if (here(p) == '0') {
            if (!s->align) s->align = '=', s->fill = "0";
        } else if (here(p) == '+' || (here(p) == ' ' && !s->sign))
            s->sign = here(p);
        else if (here(p) == '#')
            s->alternate = true;
        else if (here(p) != ' ')
            return;
    }
}

static bool read_name(percent *p, jval *v) { /* (name) */
    const char *close = memchr(p->format->p + p->at, ')', p->format->n - p->at);
    if (!close) return jrun_fail(p->r, "incomplete format key"), false;
    size_t from = p->at + 1, to = (size_t)(close - p->format->p);
    if (p->list || p->one.kind != J_DICT) return jrun_fail(p->r, "format requires a mapping"), false;
    jval *found = jdict_find_str(p->r, p->one.dict, (str){p->format->p + from, to - from});
    if (!found)
        return jrun_fail(p->r, "KeyError: '%.*s'", (int)(to - from > 100 ? 100 : to - from), p->format->p + from),
               false;
    *v = *found;
    p->at = to + 1;
    p->named = true;
    return true;
}

static void percent_value(percent *p, jbuild *out, spec *s, jval v) {
    jrun *r = p->r;
    if (strchr("sra", s->type)) {
        jtext *t = s->type == 's' ? j_str(r, v) : j_repr(r, v);
        if (p->format->markup) t = jtext_escape(r, t);
        if (s->align == '=') s->align = '>', s->fill = " "; /* zeros are for numbers */
        if (!s->align) s->align = '>';
        format_text(out, s, t);
    } else if (s->type == 'c') {
        if (v.kind == J_TEXT && jtext_chars(v.text) == 1)
            format_text(out, s, v.text);
        else
            jrun_fail(r, "%%c requires int or char");
    } else if (s->type && strchr("diuxXo", s->type)) {
        if (v.kind == J_FLOAT && strchr("diu", s->type) && fabs(v.f) < 9e18) v = j_int((int64_t)v.f);
        if (!j_is_int(v)) {
            jrun_fail(r, "%%%c format: a real number is required, not %s", s->type, j_type_name(v));
            return;
        }
        if (strchr("iu", s->type)) s->type = 'd';
        format_number(out, s, v);
    } else if (s->type && strchr("eEfFgG", s->type)) {
        if (!j_is_number(v)) {
            jrun_fail(r, "must be real number, not %s", j_type_name(v));
            return;
        }
        format_number(out, s, v);
    } else {
        jrun_fail(r, "unsupported format character '%c'", s->type ? s->type : '?');
    }
}

static void percent_one(percent *p, jbuild *out) { /* after the % */
    spec s = {.fill = " ", .n_fill = 1, .width = -1, .precision = -1};
    jval named;
    const bool has_name = here(p) == '(';
    if (has_name && !read_name(p, &named)) return;
    read_flags(p, &s);
    s.width = number_or_star(p);
    if (s.width < -1) s.align = '<', s.width = s.width < -MAX_WIDTH ? MAX_WIDTH : -s.width;
    if (s.width > MAX_WIDTH) s.width = MAX_WIDTH;
    if (here(p) == '.') {
        p->at++;
        s.precision = number_or_star(p);
        if (s.precision < 0) s.precision = 0;
    }
    s.type = here(p);
    if (!s.type) {
        jrun_fail(p->r, "incomplete format");
        return;
    }
    p->at++;
    if (s.type == '%') {
        jbuild_puts(out, "%");
        return;
    }
    jval v = has_name ? named : next_argument(p);
    if (jrun_ok(p->r)) percent_value(p, out, &s, v);
}

jval jop_percent(jrun *r, jtext *format, jval args) {
    percent p = {.r = r, .format = format, .list = args.kind == J_TUPLE ? args.list : NULL, .one = args};
    jbuild out = {.r = r};
    while (p.at < format->n && jrun_step(r, 0)) {
        const char *mark = memchr(format->p + p.at, '%', format->n - p.at);
        size_t n = mark ? (size_t)(mark - format->p) - p.at : format->n - p.at;
        jbuild_part(&out, format, p.at, n);
        p.at += n + (mark != NULL);
        if (mark) percent_one(&p, &out);
    }
    const bool rest = p.list ? p.used < p.list->n : !p.used && args.kind != J_DICT && args.kind != J_LIST;
    if (jrun_ok(r) && rest && !p.named) jrun_fail(r, "not all arguments converted during string formatting");
    return j_text(jtext_like(r, format, jbuild_done(&out)));
}

/* ---- "{}".format(args) ---- */

typedef struct {
    jrun *r;
    const jargs *a;
    int64_t next; /* automatic numbering; -1: numbers were given */
    bool markup;
} braces;

static int64_t all_digits(str s) { /* -1: it is no number */
    int64_t v = s.n ? 0 : -1;
    for (size_t i = 0; i < s.n && v >= 0; i++)
        v = s.p[i] >= '0' && s.p[i] <= '9' && v < MAX_WIDTH ? v * 10 + (s.p[i] - '0') : -1;
    return v;
}

static jval field_start(braces *b, str name) {
    int64_t i = all_digits(name);
    if (name.n == 0 || i >= 0) {
        if (name.n == 0 ? b->next < 0 : b->next > 0)
            jrun_fail(b->r, "cannot switch between automatic field numbering and manual field specification");
        if (name.n == 0)
            i = b->next++;
        else
            b->next = -1;
        if (i >= 0 && (uint64_t)i < b->a->n) return b->a->positional[i];
        jrun_fail(b->r, "Replacement index %lld out of range for positional args tuple", (long long)i);
        return j_undefined(NULL);
    }
    for (size_t k = 0; k < b->a->n_named; k++)
        if (str_eq(jtext_str(b->a->name[k]), name)) return b->a->named[k];
    jrun_fail(b->r, "KeyError: '%.*s'", STR(name));
    return j_undefined(NULL);
}

/* a.b[c] */
static jval field_value(braces *b, str name) {
    size_t n = 0;
    while (n < name.n && name.p[n] != '.' && name.p[n] != '[') n++;
    jval v = field_start(b, (str){name.p, n});
    while (n < name.n && jrun_step(b->r, 0)) {
        const bool item = name.p[n++] == '[';
        size_t from = n;
        while (n < name.n && (item ? name.p[n] != ']' : name.p[n] != '.' && name.p[n] != '[')) n++;
        str part = {name.p + from, n - from};
        if (part.n == 0 || (item && n >= name.n)) {
            jrun_fail(b->r, "Empty attribute in format string");
            return v;
        }
        int64_t i = all_digits(part);
        if (item)
            v = jeval_item(b->r, v, i >= 0 ? j_int(i) : j_text(jtext_new(b->r, part, false)));
        else
            v = jeval_attribute(b->r, v, part);
        n += item;
    }
    return v;
}

/* [[fill]align][sign][#][0][width][group][.precision][type] */
static bool read_spec(jrun *r, str t, spec *s) {
    size_t at = 0, n = t.n ? (uint8_t)t.p[0] < 0x80   ? 1
                             : (uint8_t)t.p[0] < 0xE0 ? 2
                             : (uint8_t)t.p[0] < 0xF0 ? 3
                                                      : 4
                           : 0;
    *s = (spec){.fill = " ", .n_fill = 1, .width = -1, .precision = -1};
    if (n && t.n > n && strchr("<>=^", t.p[n]))
        s->fill = t.p, s->n_fill = n, s->align = t.p[n], at = n + 1;
    else if (t.n && strchr("<>=^", t.p[0]))
        s->align = t.p[at++];
    if (at < t.n && strchr("+- ", t.p[at])) s->sign = t.p[at++];
    if (at < t.n && t.p[at] == '#') s->alternate = true, at++;
    if (at < t.n && t.p[at] == '0') {
        if (!s->align) s->align = '=', s->fill = "0", s->n_fill = 1;
        at++;
    }
    for (; at < t.n && t.p[at] >= '0' && t.p[at] <= '9' && s->width < MAX_WIDTH; at++)
        s->width = (s->width < 0 ? 0 : s->width) * 10 + (t.p[at] - '0');
    if (at < t.n && (t.p[at] == ',' || t.p[at] == '_')) s->group = t.p[at++];
    if (at < t.n && t.p[at] == '.') {
        s->precision = 0;
        for (at++; at < t.n && t.p[at] >= '0' && t.p[at] <= '9' && s->precision < MAX_WIDTH; at++)
            s->precision = s->precision * 10 + (t.p[at] - '0');
    }
    if (at < t.n) s->type = t.p[at++];
    if (at < t.n || s->width > MAX_WIDTH) return jrun_fail(r, "Invalid format specifier '%.*s'", STR(t)), false;
    return true;
}

static void brace_value(braces *b, jbuild *out, jval v, str text) {
    spec s;
    if (!read_spec(b->r, text, &s)) return;
    if (j_is_number(v) && !(v.kind == J_BOOL && text.n == 0)) {
        if (s.type && !strchr(v.kind == J_FLOAT ? "eEfFgGn%" : "bdoxXneEfFgG%", s.type))
            jrun_fail(b->r, "Unknown format code '%c' for object of type '%s'", s.type, j_type_name(v));
        else
            format_number(out, &s, v);
        return;
    }
    if (v.kind != J_TEXT && text.n) {
        if (v.kind == J_UNDEFINED) return; /* an undefined value formats as nothing */
        jrun_fail(b->r, "unsupported format string passed to %s.__format__", j_type_name(v));
        return;
    }
    if ((s.type && s.type != 's') || s.align == '=' || s.sign) {
        jrun_fail(b->r, "Unknown format code '%c' for object of type 'str'", s.type ? s.type : s.align);
        return;
    }
    jtext *t = j_str(b->r, v);
    format_text(out, &s, b->markup ? jtext_escape(b->r, t) : t);
}

static void brace_expand(braces *b, jbuild *out, const jtext *f, size_t at, size_t end, bool nested);

/* A field, its braces taken off: name[!conversion][:spec]. */
static void brace_field(braces *b, jbuild *out, const jtext *f, size_t at, size_t end) {
    size_t n = at, depth = 0;
    while (n < end && (depth || (f->p[n] != '!' && f->p[n] != ':')))
        depth += f->p[n] == '[' ? 1 : f->p[n] == ']' && depth ? (size_t)-1 : 0, n++;
    jval v = field_value(b, (str){f->p + at, n - at});
    if (!jrun_ok(b->r)) return;
    if (n < end && f->p[n] == '!') {
        char c = n + 1 < end ? f->p[n + 1] : 0;
        if (!c || !strchr("rsa", c) || (n + 2 < end && f->p[n + 2] != ':')) {
            jrun_fail(b->r, "expected ':' after conversion specifier");
            return;
        }
        v = j_text(c == 's' ? j_str(b->r, v) : j_repr(b->r, v));
        n += 2;
    }
    jbuild spec_text = {.r = b->r};
    if (n < end) brace_expand(b, &spec_text, f, n + 1, end, true);
    brace_value(b, out, v, (str){spec_text.n ? spec_text.p : "", spec_text.n});
}

static void brace_expand(braces *b, jbuild *out, const jtext *f, size_t at, size_t end, bool nested) {
    while (at < end && jrun_step(b->r, 0)) {
        size_t n = at;
        while (n < end && f->p[n] != '{' && f->p[n] != '}') n++;
        jbuild_part(out, f, at, n - at);
        if (n >= end) return;
        if (!nested && n + 1 < end && f->p[n + 1] == f->p[n]) { /* {{ and }} */
            jbuild_part(out, f, n, 1);
            at = n + 2;
            continue;
        }
        size_t close = n + 1, depth = 1;
        for (; f->p[n] == '{' && close < end; close++) {
            depth += f->p[close] == '{' ? 1 : f->p[close] == '}' ? (size_t)-1 : 0;
            if (!depth) break;
        }
        if (f->p[n] == '}' || close >= end) {
            jrun_fail(b->r, "Single '%c' encountered in format string", f->p[n]);
            return;
        }
        if (jrun_enter(b->r)) brace_field(b, out, f, n + 1, close);
        jrun_leave(b->r);
        at = close + 1;
    }
}

jval jformat_call(jrun *r, jtext *format, const jargs *a) {
    braces b = {.r = r, .a = a, .markup = format->markup};
    jbuild out = {.r = r};
    brace_expand(&b, &out, format, 0, format->n, false);
    return j_text(jtext_like(r, format, jbuild_done(&out)));
}
