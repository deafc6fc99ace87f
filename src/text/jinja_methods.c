/* Methods of texts, dicts and lists: Python's, less what changes an object (jinja2's immutable sandbox refuses it). */
#include "text/jinja_textops.h"
#include "text/unicode.h"

#include <string.h>

typedef struct {
    const char *name;
    jval (*call)(jrun *r, jval self, const jargs *a);
} method_row;

static const jtext space = {.p = " ", .n = 1};

/* ---- texts ---- */

static jval strip(jrun *r, jval self, const jargs *a, const char *name, int sides) {
    jval p[JARGS_MAX];
    jtext *chars;
    if (!jargs_spread(r, name, a, "chars?", p) || !jargs_text(r, p[0], &chars)) return self;
    return j_text(jtext_strip(r, self.text, chars, sides));
}
static jval m_strip(jrun *r, jval s, const jargs *a) { return strip(r, s, a, "strip", STRIP_LEFT | STRIP_RIGHT); }
static jval m_lstrip(jrun *r, jval s, const jargs *a) { return strip(r, s, a, "lstrip", STRIP_LEFT); }
static jval m_rstrip(jrun *r, jval s, const jargs *a) { return strip(r, s, a, "rstrip", STRIP_RIGHT); }

static jval split(jrun *r, jval self, const jargs *a, const char *name, bool right) {
    jval p[JARGS_MAX];
    jtext *by;
    int64_t most;
    if (!jargs_spread(r, name, a, "sep? maxsplit?", p) || !jargs_text(r, p[0], &by) || !jargs_int(r, p[1], -1, &most))
        return self;
    return j_list_of(J_LIST, right ? jtext_rsplit(r, self.text, by, most) : jtext_split(r, self.text, by, most));
}
static jval m_split(jrun *r, jval s, const jargs *a) { return split(r, s, a, "split", false); }
static jval m_rsplit(jrun *r, jval s, const jargs *a) { return split(r, s, a, "rsplit", true); }

static jval m_splitlines(jrun *r, jval self, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "splitlines", a, "keepends?", p)) return self;
    return j_list_of(J_LIST, jtext_lines(r, self.text, p[0].kind != J_ABSENT && j_truth(r, p[0])));
}

/* A text argument that must be there. */
static bool need_text(jrun *r, jval v, jtext **out) {
    if (!jargs_text(r, v, out)) return false;
    if (!*out) jrun_fail(r, "a string is expected, not %s", j_type_name(v));
    return *out != NULL;
}

static jval m_replace(jrun *r, jval self, const jargs *a) {
    jval p[JARGS_MAX];
    jtext *what, *with;
    int64_t count;
    if (!jargs_spread(r, "replace", a, "old new count?", p) || !need_text(r, p[0], &what) || !need_text(r, p[1], &with))
        return self;
    if (!jargs_int(r, p[2], -1, &count)) return self;
    if (self.text->markup) with = jtext_escape(r, with);
    return j_text(jtext_replace(r, self.text, what, with, count));
}

static jval m_join(jrun *r, jval self, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "join", a, "iterable", p)) return self;
    if (!j_iterable(p[0]) || p[0].kind == J_UNDEFINED) {
        jrun_fail(r, "can only join an iterable");
        return self;
    }
    return j_text(jtext_like(r, self.text, jtext_join(r, self.text, j_items(r, p[0]), false)));
}

/* The part of a text between two places given as Python gives them; its bytes. */
static bool part_of(jrun *r, jtext *t, jval from, jval to, size_t *at, size_t *end) {
    int64_t v[2], n = (int64_t)jtext_chars(t);
    if (from.kind == J_NONE) from.kind = J_ABSENT;
    if (to.kind == J_NONE) to.kind = J_ABSENT;
    if (!jargs_int(r, from, 0, &v[0]) || !jargs_int(r, to, n, &v[1])) return false;
    for (int i = 0; i < 2; i++) {
        if (v[i] < 0) v[i] = v[i] + n < 0 ? 0 : v[i] + n;
    }
    *at = v[0] > n ? t->n + 1 : jtext_at(t, (size_t)v[0]);
    *end = v[1] > n ? t->n : jtext_at(t, (size_t)v[1]);
    return *at <= *end;
}

static bool has_end(str s, const jtext *what, bool right) {
    return s.n >= what->n && (what->n == 0 || memcmp(right ? s.p + s.n - what->n : s.p, what->p, what->n) == 0);
}

static jval ends(jrun *r, jval self, const jargs *a, const char *name, bool right) {
    jval p[JARGS_MAX];
    size_t at, end;
    if (!jargs_spread(r, name, a, "prefix start? end?", p)) return self;
    jrun_step(r, self.text->n);
    bool inside = part_of(r, self.text, p[1], p[2], &at, &end);
    if (p[0].kind != J_TEXT && p[0].kind != J_TUPLE) {
        jrun_fail(r, "%s first arg must be str or a tuple of str, not %s", name, j_type_name(p[0]));
        return self;
    }
    if (!inside) return j_bool(false);
    str s = {self.text->p + at, end - at};
    if (p[0].kind == J_TEXT) return j_bool(has_end(s, p[0].text, right));
    for (size_t i = 0; i < p[0].list->n; i++) {
        if (p[0].list->item[i].kind != J_TEXT) return jrun_fail(r, "tuple for %s must only contain str", name), self;
        if (has_end(s, p[0].list->item[i].text, right)) return j_bool(true);
    }
    return j_bool(false);
}
static jval m_startswith(jrun *r, jval s, const jargs *a) { return ends(r, s, a, "startswith", false); }
static jval m_endswith(jrun *r, jval s, const jargs *a) { return ends(r, s, a, "endswith", true); }

static jval find(jrun *r, jval self, const jargs *a, const char *name, bool right, bool must) {
    jval p[JARGS_MAX];
    jtext *what, *t = self.text;
    size_t at, end, hit;
    if (!jargs_spread(r, name, a, "sub start? end?", p) || !need_text(r, p[0], &what)) return self;
    jrun_step(r, t->n);
    bool inside = part_of(r, t, p[1], p[2], &at, &end);
    hit = t->n + 1;
    if (inside) {
        str s = {t->p + at, end - at};
        hit = right ? jtext_find_last(r, s, jtext_str(what)) : jtext_find(r, s, jtext_str(what), 0);
        hit = hit > s.n ? t->n + 1 : hit + at;
    }
    if (hit > t->n && must) jrun_fail(r, "substring not found");
    if (hit > t->n) return j_int(-1);
    return j_int((int64_t)jtext_chars(&(jtext){.p = t->p, .n = hit}));
}
static jval m_find(jrun *r, jval s, const jargs *a) { return find(r, s, a, "find", false, false); }
static jval m_rfind(jrun *r, jval s, const jargs *a) { return find(r, s, a, "rfind", true, false); }
static jval m_index(jrun *r, jval s, const jargs *a) { return find(r, s, a, "index", false, true); }
static jval m_rindex(jrun *r, jval s, const jargs *a) { return find(r, s, a, "rindex", true, true); }

static jval m_count(jrun *r, jval self, const jargs *a) {
    jval p[JARGS_MAX];
    jtext *what;
    size_t at, end;
    int64_t n = 0;
    if (!jargs_spread(r, "count", a, "sub start? end?", p) || !need_text(r, p[0], &what)) return self;
    jrun_step(r, self.text->n);
    if (!part_of(r, self.text, p[1], p[2], &at, &end)) return j_int(0);
    str s = {self.text->p, end};
    if (what->n == 0) return j_int((int64_t)jtext_chars(&(jtext){.p = s.p + at, .n = end - at}) + 1);
    for (size_t hit; jrun_ok(r) && (hit = jtext_find(r, s, jtext_str(what), at)) <= s.n; n++) at = hit + what->n;
    return j_int(n);
}

static jval cased(jrun *r, jval self, const jargs *a, const char *name, jtext_casing to) {
    jval p[JARGS_MAX];
    return jargs_spread(r, name, a, "", p) ? j_text(jtext_case(r, self.text, to)) : self;
}
static jval m_lower(jrun *r, jval s, const jargs *a) { return cased(r, s, a, "lower", TEXT_LOWER); }
static jval m_upper(jrun *r, jval s, const jargs *a) { return cased(r, s, a, "upper", TEXT_UPPER); }
static jval m_title(jrun *r, jval s, const jargs *a) { return cased(r, s, a, "title", TEXT_TITLE); }
static jval m_capitalize(jrun *r, jval s, const jargs *a) { return cased(r, s, a, "capitalize", TEXT_CAPITALIZE); }
static jval m_swapcase(jrun *r, jval s, const jargs *a) { return cased(r, s, a, "swapcase", TEXT_SWAP); }

static jval pad(jrun *r, jval self, const jargs *a, const char *name, int where) {
    jval p[JARGS_MAX];
    int64_t width;
    jtext *fill;
    if (!jargs_spread(r, name, a, "width fillchar?", p) || !jargs_int(r, p[0], 0, &width) ||
        !jargs_text(r, p[1], &fill))
        return self;
    if (fill && jtext_chars(fill) != 1)
        return jrun_fail(r, "The fill character must be exactly one character long"), self;
    return j_text(jtext_pad(r, self.text, width, fill ? fill : &space, where));
}
static jval m_ljust(jrun *r, jval s, const jargs *a) { return pad(r, s, a, "ljust", -1); }
static jval m_rjust(jrun *r, jval s, const jargs *a) { return pad(r, s, a, "rjust", 1); }
static jval m_center(jrun *r, jval s, const jargs *a) { return pad(r, s, a, "center", 0); }

static jval m_zfill(jrun *r, jval self, const jargs *a) {
    static const jtext zero = {.p = "0", .n = 1};
    jval p[JARGS_MAX];
    int64_t width;
    jtext *t = self.text;
    if (!jargs_spread(r, "zfill", a, "width", p) || !jargs_int(r, p[0], 0, &width)) return self;
    bool sign = t->n && (t->p[0] == '-' || t->p[0] == '+');
    if (!sign) return j_text(jtext_pad(r, t, width, &zero, 1));
    jtext *rest = jtext_pad(r, jtext_cut(r, t, 1, t->n - 1), width > 0 ? width - 1 : 0, &zero, 1);
    return j_text(jtext_concat(r, jtext_cut(r, t, 0, 1), rest));
}

static jval m_removeprefix(jrun *r, jval self, const jargs *a) {
    jval p[JARGS_MAX];
    jtext *what, *t = self.text;
    if (!jargs_spread(r, "removeprefix", a, "prefix", p) || !need_text(r, p[0], &what)) return self;
    return has_end(jtext_str(t), what, false) ? j_text(jtext_cut(r, t, what->n, t->n - what->n)) : self;
}

static jval m_removesuffix(jrun *r, jval self, const jargs *a) {
    jval p[JARGS_MAX];
    jtext *what, *t = self.text;
    if (!jargs_spread(r, "removesuffix", a, "suffix", p) || !need_text(r, p[0], &what)) return self;
    return what->n && has_end(jtext_str(t), what, true) ? j_text(jtext_cut(r, t, 0, t->n - what->n)) : self;
}

static jval partition(jrun *r, jval self, const jargs *a, const char *name, bool right) {
    jval p[JARGS_MAX];
    jtext *by, *t = self.text;
    jlist *l = jlist_new(r);
    if (!jargs_spread(r, name, a, "sep", p) || !need_text(r, p[0], &by) || !l) return self;
    if (by->n == 0) return jrun_fail(r, "empty separator"), self;
    size_t at = right ? jtext_find_last(r, jtext_str(t), jtext_str(by)) : jtext_find(r, jtext_str(t), jtext_str(by), 0);
    const bool found = at <= t->n;
    const size_t from = found ? at : right ? 0 : t->n, to = found ? at + by->n : from;
    jlist_add(r, l, j_text(jtext_cut(r, t, 0, from)));
    jlist_add(r, l, j_text(jtext_cut(r, t, from, to - from)));
    jlist_add(r, l, j_text(jtext_cut(r, t, to, t->n - to)));
    return j_list(J_TUPLE, l);
}
static jval m_partition(jrun *r, jval s, const jargs *a) { return partition(r, s, a, "partition", false); }
static jval m_rpartition(jrun *r, jval s, const jargs *a) { return partition(r, s, a, "rpartition", true); }

static jval m_isalpha(jrun *r, jval s, const jargs *a) {
    (void)a;
    jrun_step(r, s.text->n);
    return j_bool(jtext_all(s.text, CHAR_LETTER));
}
static jval m_isdigit(jrun *r, jval s, const jargs *a) {
    (void)a;
    jrun_step(r, s.text->n);
    return j_bool(jtext_all(s.text, CHAR_NUMBER));
}
static jval m_isalnum(jrun *r, jval s, const jargs *a) {
    (void)a;
    jrun_step(r, s.text->n);
    return j_bool(jtext_all(s.text, CHAR_LETTER | CHAR_NUMBER));
}
static jval m_isspace(jrun *r, jval s, const jargs *a) {
    (void)a;
    return j_bool(s.text->n && jtext_strip(r, s.text, NULL, STRIP_LEFT)->n == 0);
}
static jval m_isascii(jrun *r, jval s, const jargs *a) {
    (void)a;
    jrun_step(r, s.text->n);
    return j_bool(jtext_chars(s.text) == s.text->n);
}
static jval m_isupper(jrun *r, jval s, const jargs *a) { return j_bool(jtest_find(str_of("upper"))->holds(r, s, a)); }
static jval m_islower(jrun *r, jval s, const jargs *a) { return j_bool(jtest_find(str_of("lower"))->holds(r, s, a)); }
static jval m_format(jrun *r, jval self, const jargs *a) { return jformat_call(r, self.text, a); }

static const method_row text_methods[] = {{"strip", m_strip},
                                          {"lstrip", m_lstrip},
                                          {"rstrip", m_rstrip},
                                          {"split", m_split},
                                          {"rsplit", m_rsplit},
                                          {"splitlines", m_splitlines},
                                          {"replace", m_replace},
                                          {"join", m_join},
                                          {"startswith", m_startswith},
                                          {"endswith", m_endswith},
                                          {"find", m_find},
                                          {"rfind", m_rfind},
                                          {"index", m_index},
                                          {"rindex", m_rindex},
                                          {"count", m_count},
                                          {"lower", m_lower},
                                          {"casefold", m_lower},
                                          {"upper", m_upper},
                                          {"title", m_title},
                                          {"capitalize", m_capitalize},
                                          {"swapcase", m_swapcase},
                                          {"ljust", m_ljust},
                                          {"rjust", m_rjust},
                                          {"center", m_center},
                                          {"zfill", m_zfill},
                                          {"format", m_format},
                                          {"partition", m_partition},
                                          {"rpartition", m_rpartition},
                                          {"isalpha", m_isalpha},
                                          {"isdigit", m_isdigit},
                                          {"isdecimal", m_isdigit},
                                          {"isnumeric", m_isdigit},
                                          {"isalnum", m_isalnum},
                                          {"isspace", m_isspace},
                                          {"isascii", m_isascii},
                                          {"isupper", m_isupper},
                                          {"islower", m_islower},
                                          {"removeprefix", m_removeprefix},
                                          {"removesuffix", m_removesuffix},
                                          {NULL, NULL}};

/* ---- dicts and lists ---- */

static jval m_get(jrun *r, jval self, const jargs *a) {
    if (a->n_named || a->n < 1 || a->n > 2)
        return jrun_fail(r, "get expected 1 or 2 positional arguments, got %zu", a->n), self;
    jval *v = jdict_find(r, self.dict, a->positional[0]);
    return v ? *v : a->n > 1 ? a->positional[1] : j_none();
}

static jval view(jrun *r, jval self, const char *name, bool keys, bool values) {
    jlist *l = jlist_new(r);
    if (!l) return self;
    l->name = name;
    l->input = self.dict->input;
    for (size_t i = 0; i < self.dict->n && jrun_ok(r); i++) {
        const jpair *p = &self.dict->pair[i];
        if (keys && values) {
            jlist *pair = jlist_new(r);
            jlist_add(r, pair, p->key);
            jlist_add(r, pair, p->value);
            if (pair) jlist_add(r, l, j_list(J_TUPLE, pair));
        } else {
            jlist_add(r, l, keys ? p->key : p->value);
        }
    }
    return j_list(J_VIEW, l);
}

static jval no_arguments(jrun *r, jval self, const jargs *a, const char *name, bool keys, bool values) {
    if (a->n || a->n_named) return jrun_fail(r, "%s takes no arguments", name + 5), self;
    return view(r, self, name, keys, values);
}
static jval m_items(jrun *r, jval s, const jargs *a) { return no_arguments(r, s, a, "dict_items", true, true); }
static jval m_keys(jrun *r, jval s, const jargs *a) { return no_arguments(r, s, a, "dict_keys", true, false); }
static jval m_values(jrun *r, jval s, const jargs *a) { return no_arguments(r, s, a, "dict_values", false, true); }
static jval m_copy(jrun *r, jval s, const jargs *a) {
    if (a->n || a->n_named) jrun_fail(r, "copy takes no arguments");
    return s; /* nothing changes either of them */
}

static const method_row dict_methods[] = {{"get", m_get},       {"items", m_items}, {"keys", m_keys},
                                          {"values", m_values}, {"copy", m_copy},   {NULL, NULL}};

static jval m_list_count(jrun *r, jval self, const jargs *a) {
    jval p[JARGS_MAX];
    int64_t n = 0;
    if (!jargs_spread(r, "count", a, "value", p)) return self;
    for (size_t i = 0; i < self.list->n && jrun_step(r, 0); i++) n += j_equal(r, self.list->item[i], p[0]);
    return j_int(n);
}

static jval m_list_index(jrun *r, jval self, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "index", a, "value", p)) return self;
    for (size_t i = 0; i < self.list->n && jrun_step(r, 0); i++)
        if (j_equal(r, self.list->item[i], p[0])) return j_int((int64_t)i);
    jrun_fail(r, "the value is not in the list");
    return self;
}

static const method_row list_methods[] = {
    {"count", m_list_count}, {"index", m_list_index}, {"copy", m_copy}, {NULL, NULL}};
static const method_row tuple_methods[] = {{"count", m_list_count}, {"index", m_list_index}, {NULL, NULL}};

/* ---- our own objects ---- */

static jval m_cycle(jrun *r, jval self, const jargs *a) {
    if (!a->n) return jrun_fail(r, "no items for cycling given"), self;
    return a->positional[self.loop->at % a->n];
}

static jval m_changed(jrun *r, jval self, const jargs *a) {
    jlist *l = jlist_new(r);
    for (size_t i = 0; i < a->n && jrun_ok(r); i++) jlist_add(r, l, a->positional[i]);
    jval now = j_list_of(J_TUPLE, l);
    bool same = self.loop->changed.kind == J_TUPLE && j_equal(r, self.loop->changed, now);
    self.loop->changed = now;
    return j_bool(!same);
}
static const method_row loop_methods[] = {{"cycle", m_cycle}, {"changed", m_changed}, {NULL, NULL}};

static jval m_next(jrun *r, jval self, const jargs *a) {
    (void)r, (void)a;
    jlist *l = self.list;
    jval v = l->item[l->at];
    l->at = (l->at + 1) % l->n;
    return v;
}
static jval m_reset(jrun *r, jval self, const jargs *a) {
    (void)r, (void)a;
    self.list->at = 0;
    return j_none();
}
static const method_row cycler_methods[] = {{"next", m_next}, {"reset", m_reset}, {NULL, NULL}};

static const method_row *methods_of(jval v) {
    static const method_row none[] = {{NULL, NULL}};
    switch (v.kind) {
    case J_TEXT: return text_methods;
    case J_DICT: return dict_methods;
    case J_LIST: return list_methods;
    case J_TUPLE:
    case J_RANGE: return tuple_methods;
    case J_LOOP: return loop_methods;
    case J_CYCLER: return cycler_methods;
    default: return none;
    }
}

/* Names that Python has but the sandbox keeps closed. */
static bool is_closed(jval v, str name) {
    static const char *const dicts[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const char *const lists[] = {"append", "clear",  "pop",    "reverse", "insert",
                                        "sort",   "extend", "remove", NULL};
    const char *const *z = v.kind == J_DICT ? dicts : v.kind == J_LIST ? lists : NULL;
    for (; z && *z; z++)
        if (str_is(name, *z)) return true;
    return false;
}

jval jmethod_find(jrun *r, jval self, str name) {
    if (is_closed(self, name))
        return j_undefined(
            jtext_format(r, "access to attribute '%.*s' of '%s' object is unsafe.", STR(name), j_type_name(self)));
    for (const method_row *m = methods_of(self); m->name; m++) {
        if (!str_is(name, m->name)) continue;
        jmethod *bound = jrun_take(r, 1, sizeof *bound);
        if (!bound) break;
        *bound = (jmethod){self, m->name, m->call};
        return (jval){.kind = J_METHOD, .method = bound};
    }
    return (jval){.kind = J_ABSENT};
}
