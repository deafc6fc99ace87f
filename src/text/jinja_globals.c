/* Functions every template has, filters over single values, and the search for filters by name. */
#include "text/jinja_eval.h"

#include "text/jinja_chars.h"

#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

/* ---- functions ---- */

static jval g_range(jrun *r, const jargs *a) {
    int64_t v[3] = {0, 0, 1};
    const size_t n = a->n;
    if (n < 1 || n > 3 || a->n_named) return jrun_fail(r, "range expected 1 to 3 arguments, got %zu", n), j_none();
    for (size_t i = 0; i < n; i++)
        if (!jargs_int(r, a->positional[i], 0, &v[n == 1 ? 1 : i])) return j_none();
    if (v[2] == 0) return jrun_fail(r, "range() arg 3 must not be zero"), j_none();
    jlist *l = jlist_new(r);
    if (!l) return j_none();
    memcpy(l->range, v, sizeof v);
    for (int64_t i = v[0]; (v[2] > 0 ? i < v[1] : i > v[1]) && jrun_ok(r);) {
        if (l->n == JINJA_MAX_RANGE)
            return jrun_fail(r, "Range too big. The sandbox blocks ranges larger than %d.", JINJA_MAX_RANGE), j_none();
        jlist_add(r, l, j_int(i));
        if (__builtin_add_overflow(i, v[2], &i)) break;
    }
    return j_list(J_RANGE, l);
}

/* dict(...) and namespace(...): pairs of a dict, then the named arguments. */
static jdict *filled(jrun *r, const char *name, const jargs *a) {
    jdict *d = jdict_new(r);
    if (a->n > 1) jrun_fail(r, "%s expected at most 1 argument, got %zu", name, a->n);
    const jdict *from = a->n && a->positional[0].kind == J_DICT ? a->positional[0].dict : NULL;
    const jlist *pairs = a->n && !from ? j_items(r, a->positional[0]) : NULL;
    for (size_t i = 0; from && i < from->n && jrun_ok(r); i++) jdict_put(r, d, from->pair[i].key, from->pair[i].value);
    for (size_t i = 0; pairs && i < pairs->n && jrun_ok(r); i++) {
        jval p = pairs->item[i];
        if ((p.kind != J_TUPLE && p.kind != J_LIST) || p.list->n != 2)
            jrun_fail(r, "%s: pairs are expected", name);
        else
            jdict_put(r, d, p.list->item[0], p.list->item[1]);
    }
    for (size_t i = 0; i < a->n_named && jrun_ok(r); i++)
        jdict_put(r, d, j_text(jtext_new(r, jtext_str(a->name[i]), false)), a->named[i]);
    if (d && from) d->input = from->input;
    return jrun_ok(r) ? d : NULL;
}

static jval g_dict(jrun *r, const jargs *a) {
    jdict *d = filled(r, "dict", a);
    return d ? j_dict(d) : j_none();
}

static jval g_namespace(jrun *r, const jargs *a) {
    jdict *d = filled(r, "namespace", a);
    return d ? (jval){.kind = J_NAMESPACE, .dict = d} : j_none();
}

static jval g_cycler(jrun *r, const jargs *a) {
    if (!a->n || a->n_named) return jrun_fail(r, "at least one item has to be provided"), j_none();
    jlist *l = jlist_new(r);
    for (size_t i = 0; l && i < a->n; i++) jlist_add(r, l, a->positional[i]);
    return jrun_ok(r) ? j_list(J_CYCLER, l) : j_none();
}

static jval g_joiner(jrun *r, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "joiner", a, "sep?", p)) return j_none();
    jlist *l = jlist_new(r);
    jlist_add(r, l, p[0].kind == J_ABSENT ? j_words(r, ", ") : p[0]);
    return jrun_ok(r) ? j_list(J_JOINER, l) : j_none();
}

static jval g_raise(jrun *r, const jargs *a) {
    jval p[JARGS_MAX];
    if (jargs_spread(r, "raise_exception", a, "message", p)) jrun_fail(r, "%.*s", STR(jtext_str(j_str(r, p[0]))));
    return j_none();
}

/* The local time. %f, %z and %Z are Python's for a time without a zone: microseconds, nothing, nothing. */
static jval g_strftime(jrun *r, const jargs *a) {
    jval p[JARGS_MAX];
    jtext *format;
    if (!jargs_spread(r, "strftime_now", a, "format", p) || !jargs_text(r, p[0], &format)) return j_none();
    if (!format || memchr(format->p, 0, format->n)) return jrun_fail(r, "strftime_now: a format is expected"), j_none();
    struct timeval now;
    struct tm tm;
    gettimeofday(&now, NULL);
    localtime_r(&now.tv_sec, &tm);
    jbuild out = {.r = r};
    for (size_t at = 0; at < format->n && jrun_step(r, 0); at++) {
        char one[8] = {'%'}, text[128];
        size_t n = 1;
        if (format->p[at] != '%' || at + 1 == format->n) {
            jbuild_part(&out, format, at, 1);
            continue;
        }
        while (strchr("-_0^#", format->p[at + n]) && at + n + 1 < format->n && n < 4) one[n] = format->p[at + n], n++;
        one[n] = format->p[at + n];
        at += n;
        if (one[n] == 'z' || one[n] == 'Z') continue;
        size_t len = one[n] == 'f' ? (size_t)snprintf(text, sizeof text, "%06ld", (long)now.tv_usec)
                                   : strftime(text, sizeof text, one, &tm);
        jbuild_add(&out, text, len, false);
    }
    return j_text(jbuild_done(&out));
}

static const jfunction globals[] = {{"range", g_range},          {"dict", g_dict},     {"namespace", g_namespace},
                                    {"cycler", g_cycler},        {"joiner", g_joiner}, {"raise_exception", g_raise},
                                    {"strftime_now", g_strftime}};

const jfunction *jglobal_find(str name) {
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (str_is(name, globals[i].name)) return &globals[i];
    return NULL;
}

/* ---- filters over one value ---- */

static jval f_default(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "default", a, "default_value? boolean?", p)) return in;
    const bool falsy = p[1].kind != J_ABSENT && j_truth(r, p[1]) && !j_truth(r, in);
    if (in.kind != J_UNDEFINED && !falsy) return in;
    return p[0].kind == J_ABSENT ? j_words(r, "") : p[0];
}

/* A decimal number as Python's float() reads it, in full. */
static bool read_float(const jtext *t, double *out) {
    char buf[512], *end;
    str s = jtext_str(t);
    size_t left = jspace_left(s), n = 0;
    s = (str){s.p + left, s.n - left};
    s.n -= jspace_right(s);
    if (s.n == 0 || s.n >= sizeof buf) return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '_' && i && i + 1 < s.n) continue;
        if (!((c >= '0' && c <= '9') || strchr("+-.eEinfatyINFATY", c)) || !c) return false;
        buf[n++] = c;
    }
    buf[n] = 0;
    *out = strtod(buf, &end);
    return *end == 0 && end != buf;
}

static bool read_int(const jtext *t, int base, int64_t *out) { /* false: none, or beyond 64 bits */
    str s = jtext_str(t);
    size_t left = jspace_left(s), at = 0;
    s = (str){s.p + left, s.n - left};
    s.n -= jspace_right(s);
    const bool negative = s.n && s.p[0] == '-';
    at += s.n && (s.p[0] == '-' || s.p[0] == '+');
    if (s.n - at > 2 && s.p[at] == '0') {
        char c = (char)(s.p[at + 1] | 32);
        int prefix = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (prefix && (base == prefix || base == 0)) base = prefix, at += 2;
    }
    if (base == 0) base = 10;
    bool any = false;
    *out = 0;
    for (; at < s.n; at++) {
        char c = s.p[at];
        if (c == '_' && any && at + 1 < s.n) continue;
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
        if (d >= base || __builtin_mul_overflow(*out, base, out) ||
            __builtin_add_overflow(*out, negative ? -d : d, out))
            return false;
        any = true;
    }
    return any;
}

static jval f_int(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    int64_t base, v;
    double f = 0;
    if (!jargs_spread(r, "int", a, "default? base?", p) || !jargs_int(r, p[1], 10, &base)) return in;
    if (base < 0 || base == 1 || base > 36) return jrun_fail(r, "int() base must be >= 2 and <= 36, or 0"), in;
    jval otherwise = p[0].kind == J_ABSENT ? j_int(0) : p[0];
    if (in.kind == J_UNDEFINED) return jeval_refuse_undefined(r, in), in;
    if (j_is_int(in)) return j_int(j_int_of(in));
    if (in.kind == J_TEXT) {
        jrun_step(r, in.text->n);
        if (read_int(in.text, (int)base, &v)) return j_int(v);
        if (!read_float(in.text, &f)) return otherwise;
    } else if (in.kind == J_FLOAT) {
        f = in.f;
    } else {
        return otherwise;
    }
    if (isnan(f) || isinf(f)) return otherwise;
    if (fabs(f) >= 9.2e18) return jrun_fail(r, "an integer beyond 64 bits"), in;
    return j_int((int64_t)f);
}

static jval f_float(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    double f;
    if (!jargs_spread(r, "float", a, "default?", p)) return in;
    if (in.kind == J_UNDEFINED) return jeval_refuse_undefined(r, in), in;
    if (j_is_number(in)) return j_float(j_float_of(in));
    if (in.kind == J_TEXT && jrun_step(r, in.text->n) && read_float(in.text, &f)) return j_float(f);
    return p[0].kind == J_ABSENT ? j_float(0) : p[0];
}

static bool need_number(jrun *r, jval in, const char *name) {
    if (in.kind == J_UNDEFINED)
        jeval_refuse_undefined(r, in);
    else if (!j_is_number(in))
        jrun_fail(r, "%s: '%s' object is no number", name, j_type_name(in));
    return jrun_ok(r);
}

static jval f_abs(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "abs", a, "", p) || !need_number(r, in, "abs")) return in;
    if (in.kind == J_FLOAT) return j_float(fabs(in.f));
    return j_int_of(in) < 0 ? jop_negate(r, in) : j_int(j_int_of(in));
}

/* Python's round(): to the nearest decimal of the exact value, halves to even. */
static double round_half_even(double v, int64_t precision) {
    char buf[700];
    if (isnan(v) || isinf(v) || precision > 330) return v;
    if (precision < 0) {
        double unit = pow(10, (double)-precision);
        return isinf(unit) ? 0 * v : nearbyint(v / unit) * unit;
    }
    snprintf(buf, sizeof buf, "%.*f", (int)precision, v);
    return strtod(buf, NULL);
}

static jval f_round(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    int64_t precision;
    if (!jargs_spread(r, "round", a, "precision? method?", p) || !jargs_int(r, p[0], 0, &precision)) return in;
    const bool up = j_is_text(p[1], "ceil"), down = j_is_text(p[1], "floor");
    if (p[1].kind != J_ABSENT && !up && !down && !j_is_text(p[1], "common"))
        return jrun_fail(r, "method must be common, ceil or floor"), in;
    if (!need_number(r, in, "round")) return in;
    if (!up && !down) {
        if (in.kind != J_FLOAT && precision >= 0) return j_int(j_int_of(in));
        double v = round_half_even(j_float_of(in), precision);
        return in.kind == J_FLOAT ? j_float(v) : j_int((int64_t)v);
    }
    const double unit = pow(10, (double)precision), scaled = j_float_of(in) * unit;
    return j_float((up ? ceil(scaled) : floor(scaled)) / unit);
}

static jval f_attr(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    jtext *name;
    if (!jargs_spread(r, "attr", a, "name", p) || !jargs_text(r, p[0], &name) || !name) return in;
    if (in.kind != J_DICT) return jeval_attribute(r, in, jtext_str(name));
    jval method = jmethod_find(r, in, jtext_str(name)); /* attributes only, no keys */
    if (method.kind != J_ABSENT) return method;
    return j_undefined(jtext_format(r, "'dict object' has no attribute '%.*s'", STR(jtext_str(name))));
}

static jval f_filesizeformat(jrun *r, jval in, const jargs *a) {
    static const char *const unit[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                           {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    jval p[JARGS_MAX];
    double v;
    if (!jargs_spread(r, "filesizeformat", a, "binary?", p)) return in;
    if (in.kind == J_TEXT ? !read_float(in.text, &v) : !need_number(r, in, "filesizeformat"))
        return jrun_fail(r, "filesizeformat: a number is expected"), in;
    if (in.kind != J_TEXT) v = j_float_of(in);
    const bool binary = p[0].kind != J_ABSENT && j_truth(r, p[0]);
    const double base = binary ? 1024 : 1000;
    if (v == 1) return j_words(r, "1 Byte");
    if (v < base) return j_text(jtext_format(r, "%.0f Bytes", trunc(v)));
    double size = base * base;
    int i = 0;
    for (; i < 7 && v >= size; i++) size *= base;
    return j_text(jtext_format(r, "%.1f %s", base * v / size, unit[binary][i]));
}

const jfilter jfilters_value[] = {{"default", f_default},
                                  {"d", f_default},
                                  {"int", f_int},
                                  {"float", f_float},
                                  {"abs", f_abs},
                                  {"round", f_round},
                                  {"attr", f_attr},
                                  {"filesizeformat", f_filesizeformat},
                                  {NULL, NULL}};

const jfilter *jfilter_find(str name) {
    const jfilter *const tables[] = {jfilters_text, jfilters_list, jfilters_value};
    for (size_t t = 0; t < 3; t++)
        for (const jfilter *f = tables[t]; f->name; f++)
            if (str_is(name, f->name)) return f;
    return NULL;
}
