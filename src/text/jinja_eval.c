/* Expressions. */
#include "text/jinja_eval.h"

#include <string.h>

/* ---- scopes ---- */

jscope *jscope_open(jrun *r) {
    jinterp *t = jinterp_of(r);
    jscope *s = jrun_take(r, 1, sizeof *s);
    if (!s) return NULL;
    s->outer = t->scope;
    t->scope = s;
    return s;
}

jval *jscope_find(jrun *r, jscope *s, uint32_t name) {
    for (; s->outer; s = s->outer)
        for (size_t i = 0; i < s->n; i++)
            if (s->binding[i].name == name) return &s->binding[i].value;
    (void)r;
    jval *v = &s->binding[name].value;
    return v->kind == J_ABSENT ? NULL : v;
}

void jscope_set(jrun *r, jscope *s, uint32_t name, jval v) {
    if (!s) return;
    if (!s->outer) {
        s->binding[name].value = v;
        return;
    }
    for (size_t i = 0; i < s->n; i++)
        if (s->binding[i].name == name) {
            s->binding[i].value = v;
            return;
        }
    jbinding *more = jrun_grow(r, s->binding, s->n, s->n + 1, &s->cap, sizeof *more);
    if (!more) return;
    s->binding = more;
    more[s->n++] = (jbinding){name, v};
}

/* ---- undefined ---- */

void jeval_refuse_undefined(jrun *r, jval v) {
    if (v.why)
        jrun_fail(r, "%.*s", STR(jtext_str(v.why)));
    else
        jrun_fail(r, "a value is undefined");
}

static __attribute__((noinline)) jval no_name(jrun *r, uint32_t name) {
    str s = jtext_str(jinterp_of(r)->names[name]);
    return j_undefined(jtext_format(r, "'%.*s' is undefined", STR(s)));
}

static __attribute__((noinline)) jval no_attribute(jrun *r, jval of, jval name) {
    const char *type = of.kind == J_TEXT || of.kind == J_LIST || of.kind == J_DICT ? " object" : "";
    if (of.kind == J_NONE)
        return j_undefined(jtext_format(r, "'None' has no attribute '%.*s'", STR(jtext_str(j_str(r, name)))));
    if (name.kind != J_TEXT)
        return j_undefined(
            jtext_format(r, "%s%s has no element %.*s", j_type_name(of), type, STR(jtext_str(j_str(r, name)))));
    return j_undefined(
        jtext_format(r, "'%s%s' has no attribute '%.*s'", j_type_name(of), type, STR(jtext_str(name.text))));
}

/* ---- attributes and elements ---- */

static jval loop_attribute(jrun *r, jloop *l, str name) {
    const int64_t at = (int64_t)l->at, n = (int64_t)l->items->n;
    if (str_is(name, "index0")) return j_int(at);
    if (str_is(name, "index")) return j_int(at + 1);
    if (str_is(name, "first")) return j_bool(at == 0);
    if (str_is(name, "last")) return j_bool(at + 1 == n);
    if (str_is(name, "length")) return j_int(n);
    if (str_is(name, "revindex")) return j_int(n - at);
    if (str_is(name, "revindex0")) return j_int(n - at - 1);
    if (str_is(name, "depth")) return j_int((int64_t)l->depth0 + 1);
    if (str_is(name, "depth0")) return j_int((int64_t)l->depth0);
    if (str_is(name, "previtem")) {
        if (at == 0) return j_undefined(jtext_new(r, str_of("there is no previous item"), false));
        return l->items->item[at - 1];
    }
    if (str_is(name, "nextitem")) {
        if (at + 1 >= n) return j_undefined(jtext_new(r, str_of("there is no next item"), false));
        return l->items->item[at + 1];
    }
    return (jval){.kind = J_ABSENT};
}

/* What Python's getattr finds: methods, and the fields of our own objects. J_ABSENT: nothing. */
static jval own_attribute(jrun *r, jval of, str name) {
    if (of.kind == J_LOOP) {
        jval v = loop_attribute(r, of.loop, name);
        if (v.kind != J_ABSENT) return v;
    }
    if (of.kind == J_NAMESPACE) {
        jval *v = jdict_find_str(r, of.dict, name);
        return v ? *v : (jval){.kind = J_ABSENT};
    }
    if (of.kind == J_TUPLE && of.list->name) { /* of groupby */
        if (str_is(name, "grouper")) return of.list->item[0];
        if (str_is(name, "list")) return of.list->item[1];
    }
    if (of.kind == J_CYCLER && str_is(name, "current")) return of.list->item[of.list->at % of.list->n];
    if (of.kind == J_MACRO && str_is(name, "name")) return j_text(jtext_new(r, jtext_str(of.macro->name), false));
    if (name.n >= 4 && str_starts(name, "__") && name.p[name.n - 1] == '_' && name.p[name.n - 2] == '_')
        return j_undefined(
            jtext_format(r, "access to attribute '%.*s' of '%s' object is unsafe.", STR(name), j_type_name(of)));
    return jmethod_find(r, of, name);
}

jval jeval_attribute(jrun *r, jval of, str name) {
    if (of.kind == J_UNDEFINED) return jeval_refuse_undefined(r, of), of;
    jval v = own_attribute(r, of, name);
    if (v.kind != J_ABSENT) return v;
    if (of.kind == J_DICT) {
        jval *found = jdict_find_str(r, of.dict, name);
        if (found) return *found;
    }
    return no_attribute(r, of, j_text(jtext_copy(r, name, false)));
}

/* Place of index i in n elements, negative ones from the end; false: outside. */
static bool settle_index(int64_t i, size_t n, size_t *at) {
    if (i < 0) i += (int64_t)n;
    *at = (size_t)i;
    return i >= 0 && (size_t)i < n;
}

static jval text_item(jrun *r, jtext *t, int64_t i, jval of, jval index) {
    size_t at;
    if (!t->n_chars) jrun_step(r, t->n);
    if (!settle_index(i, jtext_chars(t), &at)) return no_attribute(r, of, index);
    if (t->n_chars != t->n) jrun_step(r, at);
    size_t from = jtext_at(t, at);
    size_t to = t->n_chars == t->n ? from + 1 : from + jtext_at(&(jtext){.p = t->p + from, .n = t->n - from}, 1);
    return j_text(jtext_cut(r, t, from, to - from));
}

jval jeval_item(jrun *r, jval of, jval index) {
    if (of.kind == J_UNDEFINED) return jeval_refuse_undefined(r, of), of;
    size_t at;
    if (of.kind == J_DICT && index.kind != J_LIST && index.kind != J_DICT) {
        jval *found = jdict_find(r, of.dict, index);
        if (found) return *found;
    } else if (j_is_int(index) && (of.kind == J_LIST || of.kind == J_TUPLE || of.kind == J_RANGE)) {
        if (settle_index(j_int_of(index), of.list->n, &at)) return of.list->item[at];
    } else if (j_is_int(index) && of.kind == J_TEXT) {
        return text_item(r, of.text, j_int_of(index), of, index);
    }
    if (index.kind == J_TEXT) {
        jval v = own_attribute(r, of, jtext_str(index.text));
        if (v.kind != J_ABSENT) return v;
    }
    return no_attribute(r, of, index);
}

/* Bounds of a slice as Python settles them; false: the step is 0 or a bound is no integer. */
static bool settle_slice(jrun *r, const jval part[3], int64_t n, int64_t out[3]) {
    int64_t v[3] = {0, 0, 1};
    bool has[3];
    for (int i = 0; i < 3; i++) {
        has[i] = part[i].kind != J_ABSENT && part[i].kind != J_NONE;
        if (has[i] && !j_is_int(part[i])) return false;
        if (has[i]) v[i] = j_int_of(part[i]);
    }
    if (v[2] == 0) {
        jrun_fail(r, "slice step cannot be zero");
        return false;
    }
    const int64_t low = v[2] < 0 ? -1 : 0, high = v[2] < 0 ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        if (!has[i]) {
            v[i] = (i == 0) == (v[2] > 0) ? low : high;
            continue;
        }
        if (v[i] < 0) v[i] = v[i] + n < low ? low : v[i] + n;
        if (v[i] > high) v[i] = high;
    }
    memcpy(out, v, sizeof v);
    return true;
}

static jval slice_text(jrun *r, jtext *t, const int64_t s[3]) {
    if (s[2] == 1) {
        if (s[1] <= s[0]) return j_text(jtext_cut(r, t, 0, 0));
        size_t from = jtext_at(t, (size_t)s[0]);
        size_t to = (size_t)s[1] >= t->n_chars ? t->n : jtext_at(t, (size_t)s[1]);
        return j_text(jtext_cut(r, t, from, to - from));
    }
    jbuild b = {.r = r};
    size_t *place = jrun_take(r, t->n_chars + 1, sizeof *place);
    if (!place) return j_text(jbuild_done(&b));
    for (size_t i = 0, at = 0; at < t->n; at++)
        if (((uint8_t)t->p[at] & 0xC0) != 0x80) place[i++] = at;
    place[t->n_chars] = t->n;
    for (int64_t i = s[0]; (s[2] > 0 ? i < s[1] : i > s[1]) && jrun_ok(r);) {
        jbuild_part(&b, t, place[i], place[i + 1] - place[i]);
        if (__builtin_add_overflow(i, s[2], &i)) break;
    }
    jtext *done = jbuild_done(&b);
    return j_text(t->markup ? jtext_safe(r, done) : done);
}

jval jeval_slice(jrun *r, jval of, const jval part[3]) {
    if (of.kind == J_UNDEFINED) return jeval_refuse_undefined(r, of), of;
    int64_t s[3];
    if (of.kind != J_TEXT && of.kind != J_LIST && of.kind != J_TUPLE && of.kind != J_RANGE)
        return j_undefined(jtext_format(r, "'%s' object has no slices", j_type_name(of)));
    int64_t n = j_length(r, of);
    if (!settle_slice(r, part, n, s)) return j_undefined(jtext_format(r, "slice indices must be integers or None"));
    if (of.kind == J_TEXT) return jrun_step(r, of.text->n) ? slice_text(r, of.text, s) : of;
    jlist *l = jlist_new(r);
    if (!l) return j_undefined(NULL);
    l->input = of.list->input;
    for (int64_t i = s[0]; (s[2] > 0 ? i < s[1] : i > s[1]) && jrun_ok(r);) {
        jlist_add(r, l, of.list->item[i]);
        if (__builtin_add_overflow(i, s[2], &i)) break;
    }
    if (of.kind == J_RANGE && l->n) l->range[0] = l->item[0].i, l->range[1] = l->item[l->n - 1].i + 1, l->range[2] = 1;
    return j_list(of.kind, l);
}

jval jeval_path(jrun *r, jval of, jval path) {
    if (j_is_int(path)) return jeval_item(r, of, path);
    if (path.kind != J_TEXT) return jeval_item(r, of, path);
    const jtext *t = path.text;
    for (size_t from = 0; jrun_ok(r);) {
        const char *dot = t->n > from ? memchr(t->p + from, '.', t->n - from) : NULL;
        size_t n = dot ? (size_t)(dot - t->p) - from : t->n - from;
        bool number = n > 0 && n < 10;
        int64_t i = 0;
        for (size_t k = 0; k < n; k++) {
            number = number && t->p[from + k] >= '0' && t->p[from + k] <= '9';
            if (number) i = i * 10 + (t->p[from + k] - '0');
        }
        of = jeval_item(r, of, number ? j_int(i) : j_text(jtext_cut(r, t, from, n)));
        if (!dot) break;
        from += n + 1;
    }
    return of;
}

/* ---- arguments and calls ---- */

static void add_positional(jrun *r, jargs *a, size_t *cap, jval v) {
    jval *more = jrun_grow(r, a->positional, a->n, a->n + 1, cap, sizeof *more);
    if (!more) return;
    a->positional = more;
    more[a->n++] = v;
}

static void add_named(jrun *r, jargs *a, size_t cap[2], const jtext *name, jval v) {
    for (size_t i = 0; i < a->n_named; i++)
        if (str_eq(jtext_str(a->name[i]), jtext_str(name))) {
            jrun_fail(r, "got multiple values for keyword argument '%.*s'", STR(jtext_str(name)));
            return;
        }
    const jtext **names = jrun_grow(r, a->name, a->n_named, a->n_named + 1, &cap[0], sizeof *names);
    jval *values = jrun_grow(r, a->named, a->n_named, a->n_named + 1, &cap[1], sizeof *values);
    if (!names || !values || !jrun_step(r, 16 * a->n_named)) return;
    a->name = names, a->named = values;
    names[a->n_named] = name;
    values[a->n_named++] = v;
}

static __attribute__((noinline)) void add_stars(jrun *r, const jarguments *x, jargs *a, size_t cap,
                                                size_t cap_named[2]) {
    jlist *l = x->star ? j_items(r, jeval(r, x->star)) : NULL;
    for (size_t i = 0; l && i < l->n && jrun_ok(r); i++) add_positional(r, a, &cap, l->item[i]);
    jval d = x->star_star ? jeval(r, x->star_star) : j_undefined(NULL);
    if (x->star_star && d.kind != J_DICT) {
        jrun_fail(r, "argument after ** must be a mapping, not %s", j_type_name(d));
        return;
    }
    for (size_t i = 0; x->star_star && i < d.dict->n && jrun_ok(r); i++) {
        if (d.dict->pair[i].key.kind != J_TEXT)
            jrun_fail(r, "keywords must be strings");
        else
            add_named(r, a, cap_named, d.dict->pair[i].key.text, d.dict->pair[i].value);
    }
}

static jargs *eval_arguments(jrun *r, const jarguments *x) {
    jargs *a = jrun_take(r, 1, sizeof *a);
    if (!a || !x) return a;
    size_t cap = 0, cap_named[2] = {0, 0};
    for (size_t i = 0; i < x->n_positional && jrun_ok(r); i++) add_positional(r, a, &cap, jeval(r, x->positional[i]));
    for (size_t i = 0; i < x->n_named && jrun_ok(r); i++) add_named(r, a, cap_named, x->name[i], jeval(r, x->named[i]));
    if (x->star || x->star_star) add_stars(r, x, a, cap, cap_named);
    return jrun_ok(r) ? a : NULL;
}

jval jeval_call(jrun *r, jval f, const jargs *a) {
    switch (f.kind) {
    case J_MACRO: return jexec_macro(r, f.macro, a);
    case J_FUNCTION: return f.function->call(r, a);
    case J_METHOD: return f.method->call(r, f.method->self, a);
    case J_JOINER: return f.list->at++ ? f.list->item[0] : j_words(r, "");
    case J_LOOP:
        if (!f.loop->stmt) {
            jrun_fail(r, "The loop must have the 'recursive' marker to be called recursively.");
            return j_undefined(NULL);
        }
        if (a->n != 1 || a->n_named) {
            jrun_fail(r, "loop() takes one argument");
            return j_undefined(NULL);
        }
        return jexec_loop(r, a->positional[0], f.loop->stmt, f.loop->depth0 + 1);
    case J_UNDEFINED: jeval_refuse_undefined(r, f); return f;
    default: jrun_fail(r, "'%s' object is not callable", j_type_name(f)); return j_undefined(NULL);
    }
}

jval jeval_filter(jrun *r, str name, jval in, const jargs *a) {
    const jfilter *f = jfilter_find(name);
    if (!f) jrun_fail(r, "No filter named '%.*s'.", STR(name));
    if (jrun_enter(r)) in = f->apply(r, in, a); /* map('map', ...) nests */
    jrun_leave(r);
    return in;
}

bool jeval_test(jrun *r, str name, jval in, const jargs *a) {
    const jtest *t = jtest_find(name);
    if (!t) jrun_fail(r, "No test named '%.*s'.", STR(name));
    return jrun_ok(r) && t->holds(r, in, a);
}

static __attribute__((noinline)) jval slice_of(jrun *r, jval of, const jpost *p) {
    jval part[3];
    for (int i = 0; i < 3; i++) part[i] = p->slice[i] ? jeval(r, p->slice[i]) : (jval){.kind = J_ABSENT};
    return jrun_ok(r) ? jeval_slice(r, of, part) : of;
}

static jval eval_post(jrun *r, jval v, const jpost *p) {
    if (!jrun_step(r, 0)) return v;
    r->line = p->line;
    if (p->kind == POST_ATTRIBUTE) return jeval_attribute(r, v, jtext_str(p->name));
    if (p->kind == POST_ITEM) {
        jval index = jeval(r, p->index);
        return jrun_ok(r) ? jeval_item(r, v, index) : v;
    }
    if (p->kind == POST_SLICE) return slice_of(r, v, p);
    const jargs *a = eval_arguments(r, p->args);
    if (!a) return v;
    r->line = p->line;
    if (p->kind == POST_CALL) return jeval_call(r, v, a);
    if (p->kind == POST_FILTER)
        return p->known ? ((const jfilter *)p->known)->apply(r, v, a) : jeval_filter(r, jtext_str(p->name), v, a);
    bool holds = p->known ? ((const jtest *)p->known)->holds(r, v, a) : jeval_test(r, jtext_str(p->name), v, a);
    return j_bool(holds == (p->kind == POST_TEST));
}

/* ---- expressions ---- */

static __attribute__((noinline)) jval eval_items(jrun *r, const jexpr *x) {
    jlist *l = jlist_new(r);
    for (size_t i = 0; i < x->n && jrun_ok(r); i++) jlist_add(r, l, jeval(r, x->item[i]));
    return j_list_of(x->kind == X_LIST ? J_LIST : J_TUPLE, l);
}

static __attribute__((noinline)) jval eval_dict(jrun *r, const jexpr *x) {
    jdict *d = jdict_new(r);
    for (size_t i = 0; i + 1 < x->n && jrun_ok(r); i += 2) {
        jval key = jeval(r, x->item[i]);
        jdict_put(r, d, key, jeval(r, x->item[i + 1]));
    }
    return d ? j_dict(d) : j_undefined(NULL);
}

static __attribute__((noinline)) jval eval_concat(jrun *r, const jexpr *x) {
    jtext *t = j_str(r, jeval(r, x->item[0]));
    t = jtext_plain(r, t);
    for (size_t i = 1; i < x->n && jrun_ok(r); i++) t = jtext_concat(r, t, j_str(r, jeval(r, x->item[i])));
    return j_text(t);
}

static __attribute__((noinline)) jval eval_compare(jrun *r, const jexpr *x) {
    jval left = jeval(r, x->first);
    for (size_t i = 0; i < x->n && jrun_ok(r); i++) {
        jval right = jeval(r, x->item[i]);
        if (!jrun_ok(r) || !jop_compare(r, x->op[i], left, right)) return j_bool(false);
        left = right;
    }
    return j_bool(true);
}

static __attribute__((noinline)) jval eval_either(jrun *r, const jexpr *x) { /* and, or: the deciding value itself */
    jval v = jeval(r, x->item[0]);
    for (size_t i = 1; i < x->n && jrun_ok(r) && j_truth(r, v) == (x->kind == X_AND); i++) v = jeval(r, x->item[i]);
    return v;
}

static __attribute__((noinline)) jval eval_choice(jrun *r, const jexpr *x) {
    bool yes = j_truth(r, jeval(r, x->item[1]));
    if (!jrun_ok(r) || yes) return jeval(r, x->item[0]);
    if (x->n > 2) return jeval(r, x->item[2]);
    return j_undefined(jtext_format(
        r, "the inline if-expression on line %u evaluated to false and no else section was defined.", x->line));
}

static __attribute__((noinline)) jval eval_chain(jrun *r, const jexpr *x) {
    jval v = jeval(r, x->first);
    for (size_t i = 0; i < x->n && jrun_ok(r); i++) {
        jval right = jeval(r, x->item[i]);
        if (jrun_ok(r)) v = jop_binary(r, x->op[i], v, right);
    }
    return v;
}

static jval eval_posts(jrun *r, const jexpr *x) {
    jval v = jeval(r, x->first);
    for (size_t i = 0; i < x->n && jrun_ok(r); i++) v = eval_post(r, v, &x->post[i]);
    return v;
}

static jval eval_one(jrun *r, const jexpr *x) {
    switch (x->kind) {
    case X_CONST: return x->value;
    case X_NAME: {
        jval *v = jscope_find(r, jinterp_of(r)->scope, x->name);
        return v ? *v : no_name(r, x->name);
    }
    case X_LIST:
    case X_TUPLE: return eval_items(r, x);
    case X_DICT: return eval_dict(r, x);
    case X_AND:
    case X_OR: return eval_either(r, x);
    case X_CONCAT: return eval_concat(r, x);
    case X_CHAIN: return eval_chain(r, x);
    case X_COMPARE: return eval_compare(r, x);
    case X_NOT: return j_bool(!j_truth(r, jeval(r, x->first)));
    case X_NEGATE: return jop_negate(r, jeval(r, x->first));
    case X_PLUS: {
        jval v = jeval(r, x->first);
        if (jrun_ok(r) && !j_is_number(v)) jrun_fail(r, "bad operand type for unary +: '%s'", j_type_name(v));
        return v.kind == J_BOOL ? j_int(v.b) : v;
    }
    case X_CHOICE: return eval_choice(r, x);
    case X_POST: return eval_posts(r, x);
    }
    return j_undefined(NULL);
}

jval jeval(jrun *r, const jexpr *x) {
    jval v = {.kind = J_UNDEFINED};
    if (jrun_enter(r)) {
        r->line = x->line;
        v = eval_one(r, x);
    }
    jrun_leave(r);
    return v;
}
