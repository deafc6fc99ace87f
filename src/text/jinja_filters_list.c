/* Filters over sequences. What is a generator in jinja2 is made at once here, and can be walked through once. */
#include "text/jinja_textops.h"

#include <string.h>

/* ---- order ---- */

static bool after(jrun *r, jval a, jval b, bool reverse) { /* a must stand behind b */
    int c = reverse ? j_compare(r, "<", a, b) : j_compare(r, "<", b, a);
    return c < 0 && c != 2;
}

/* Merge sort of places, bottom up. */
static uint32_t *sorted_places(jrun *r, const jval *key, size_t n, bool reverse) {
    uint32_t *from = jrun_take(r, n + 1, sizeof *from), *to = jrun_take(r, n + 1, sizeof *to);
    if (!from || !to) return NULL;
    for (size_t i = 0; i < n; i++) from[i] = (uint32_t)i;
    for (size_t width = 1; width < n && jrun_ok(r); width *= 2) {
        for (size_t low = 0; low < n; low += 2 * width) {
            size_t mid = low + width < n ? low + width : n, high = low + 2 * width < n ? low + 2 * width : n;
            for (size_t i = low, k = mid, at = low; at < high; at++) {
                bool right = i >= mid || (k < high && after(r, key[from[i]], key[from[k]], reverse));
                to[at] = right ? from[k++] : from[i++];
            }
        }
        uint32_t *other = from;
        from = to;
        to = other;
    }
    return jrun_ok(r) ? from : NULL;
}

jlist *jlist_sorted(jrun *r, const jlist *l, const jlist *keys, bool reverse) {
    uint32_t *place = sorted_places(r, keys ? keys->item : l->item, l->n, reverse);
    jlist *out = place ? jlist_new(r) : NULL;
    if (out) out->input = l->input;
    for (size_t i = 0; out && i < l->n && jrun_ok(r); i++) jlist_add(r, out, l->item[place[i]]);
    return jrun_ok(r) ? out : NULL;
}

const jpair *jpairs_sorted(jrun *r, const jdict *d) {
    jval *key = jrun_take(r, d->n, sizeof *key);
    jpair *out = jrun_take(r, d->n, sizeof *out);
    if (!key || !out) return d->pair;
    for (size_t i = 0; i < d->n; i++) key[i] = d->pair[i].key;
    uint32_t *place = sorted_places(r, key, d->n, false);
    for (size_t i = 0; place && i < d->n; i++) out[i] = d->pair[place[i]];
    return out;
}

static jval without_case(jrun *r, jval v) { return v.kind == J_TEXT ? j_text(jtext_case(r, v.text, TEXT_LOWER)) : v; }

static bool flag(jrun *r, jval v) { return v.kind != J_ABSENT && j_truth(r, v); }

/* The key of one item: an attribute of it or itself. */
static jval key_of(jrun *r, jval item, jval attribute, bool case_sensitive) {
    if (attribute.kind != J_ABSENT && attribute.kind != J_NONE) item = jeval_path(r, item, attribute);
    return case_sensitive ? item : without_case(r, item);
}

/* attribute="a,b" of sort: a tuple of keys, made a list. */
static jval keys_of(jrun *r, jval item, jval attribute, bool case_sensitive) {
    static const jtext comma = {.p = ",", .n = 1};
    if (attribute.kind != J_TEXT) return key_of(r, item, attribute, case_sensitive);
    jlist *parts = jtext_split(r, attribute.text, &comma, -1), *keys = jlist_new(r);
    for (size_t i = 0; parts && keys && i < parts->n && jrun_ok(r); i++)
        jlist_add(r, keys, key_of(r, item, parts->item[i], case_sensitive));
    return j_list_of(J_LIST, keys);
}

static jlist *all_keys(jrun *r, const jlist *l, jval attribute, bool case_sensitive) {
    jlist *keys = jlist_new(r);
    for (size_t i = 0; l && i < l->n && jrun_ok(r); i++)
        jlist_add(r, keys, keys_of(r, l->item[i], attribute, case_sensitive));
    return keys;
}

static jval f_sort(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "sort", a, "reverse? case_sensitive? attribute?", p)) return in;
    jlist *l = j_items(r, in);
    jlist *keys = l ? all_keys(r, l, p[2], flag(r, p[1])) : NULL;
    return keys && jrun_ok(r) ? j_list_of(J_LIST, jlist_sorted(r, l, keys, flag(r, p[0]))) : in;
}

static jval pair_of(jrun *r, jval key, jval value) {
    jlist *pair = jlist_new(r);
    jlist_add(r, pair, key);
    jlist_add(r, pair, value);
    return j_list_of(J_TUPLE, pair);
}

static jlist *pairs_of(jrun *r, const jdict *d) {
    jlist *l = jlist_new(r);
    for (size_t i = 0; i < d->n && jrun_ok(r); i++) jlist_add(r, l, pair_of(r, d->pair[i].key, d->pair[i].value));
    return l;
}

static jval f_dictsort(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "dictsort", a, "case_sensitive? by? reverse?", p)) return in;
    const bool by_value = j_is_text(p[1], "value");
    if (p[1].kind != J_ABSENT && !by_value && !j_is_text(p[1], "key"))
        return jrun_fail(r, "You can only sort by either \"key\" or \"value\""), in;
    if (in.kind == J_UNDEFINED) return jeval_refuse_undefined(r, in), in;
    if (in.kind != J_DICT) return jrun_fail(r, "'%s' object has no attribute 'items'", j_type_name(in)), in;
    jlist *l = pairs_of(r, in.dict);
    jlist *keys = l ? all_keys(r, l, j_int(by_value), flag(r, p[0])) : NULL;
    return keys && jrun_ok(r) ? j_list_of(J_LIST, jlist_sorted(r, l, keys, flag(r, p[2]))) : in;
}

static jval extreme(jrun *r, jval in, const jargs *a, const char *name, int sign) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, name, a, "case_sensitive? attribute?", p)) return in;
    jlist *l = j_items(r, in);
    if (!l) return in;
    if (!l->n) return j_undefined(jtext_new(r, str_of("No aggregated item, sequence was empty."), false));
    size_t best = 0;
    jval key = key_of(r, l->item[0], p[1], flag(r, p[0]));
    for (size_t i = 1; i < l->n && jrun_ok(r); i++) {
        jval k = key_of(r, l->item[i], p[1], flag(r, p[0]));
        int c = j_compare(r, sign < 0 ? "<" : ">", k, key);
        if (c != sign) continue;
        best = i;
        key = k;
    }
    return l->item[best];
}
static jval f_min(jrun *r, jval in, const jargs *a) { return extreme(r, in, a, "min", -1); }
static jval f_max(jrun *r, jval in, const jargs *a) { return extreme(r, in, a, "max", 1); }

/* The first of each key. Keys that cannot be hashed fail, as in a set of Python. */
static jval f_unique(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "unique", a, "case_sensitive? attribute?", p)) return in;
    jlist *l = j_items(r, in), *out = jlist_new(r);
    jdict *seen = jdict_new(r);
    for (size_t i = 0; l && out && seen && i < l->n && jrun_ok(r); i++) {
        jval key = key_of(r, l->item[i], p[1], flag(r, p[0]));
        if (jdict_find(r, seen, key)) continue;
        jdict_put(r, seen, key, j_none());
        jlist_add(r, out, l->item[i]);
    }
    return j_list_of(J_ITER, out);
}

static jval f_groupby(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "groupby", a, "attribute default? case_sensitive?", p)) return in;
    jlist *l = j_items(r, in), *keys = jlist_new(r), *groups = jlist_new(r), *places = jlist_new(r),
          *real = jlist_new(r);
    if (!l || !keys || !groups || !places || !real) return in;
    for (size_t i = 0; i < l->n && jrun_ok(r); i++) {
        jval k = jeval_path(r, l->item[i], p[0]);
        if (k.kind == J_UNDEFINED && p[1].kind != J_ABSENT && p[1].kind != J_NONE) k = p[1];
        jlist_add(r, real, k);
        jlist_add(r, keys, flag(r, p[2]) ? k : without_case(r, k));
        jlist_add(r, places, j_int((int64_t)i));
    }
    places = jrun_ok(r) ? jlist_sorted(r, places, keys, false) : NULL;
    jlist *members = NULL;
    for (size_t i = 0; places && i < places->n && jrun_ok(r); i++) {
        const size_t at = (size_t)places->item[i].i;
        if (!members || !j_equal(r, keys->item[at], keys->item[places->item[i - 1].i])) {
            members = jlist_new(r);
            jval group = pair_of(r, real->item[at], j_list_of(J_LIST, members));
            if (group.kind == J_TUPLE) group.list->name = "group";
            jlist_add(r, groups, group);
        }
        jlist_add(r, members, l->item[at]);
    }
    return j_list(J_LIST, groups);
}

/* ---- choosing and changing ---- */

static jval f_map(jrun *r, jval in, const jargs *a) {
    jlist *out = jlist_new(r), *l = j_truth(r, in) ? j_items(r, in) : NULL;
    if (!out || !l) return j_list_of(J_ITER, out);
    jval attribute = {.kind = J_ABSENT}, otherwise = {.kind = J_NONE};
    for (size_t i = 0; !a->n && i < a->n_named; i++) {
        if (str_is(jtext_str(a->name[i]), "attribute"))
            attribute = a->named[i];
        else if (str_is(jtext_str(a->name[i]), "default"))
            otherwise = a->named[i];
        else
            jrun_fail(r, "map: unexpected keyword argument '%.*s'", STR(jtext_str(a->name[i])));
    }
    if (attribute.kind == J_ABSENT && (!a->n || a->positional[0].kind != J_TEXT))
        return jrun_fail(r, "map requires a filter argument"), in;
    jargs rest = *a;
    if (rest.n) rest.positional++, rest.n--;
    for (size_t i = 0; i < l->n && jrun_step(r, 0); i++) {
        jval v = attribute.kind != J_ABSENT ? jeval_path(r, l->item[i], attribute)
                                            : jeval_filter(r, jtext_str(a->positional[0].text), l->item[i], &rest);
        if (attribute.kind != J_ABSENT && v.kind == J_UNDEFINED && otherwise.kind != J_NONE) v = otherwise;
        jlist_add(r, out, v);
    }
    return j_list(J_ITER, out);
}

/* select, reject and their attr forms: items for which a test holds (or truth) is `want`. */
static jval chosen(jrun *r, jval in, const jargs *a, bool by_attribute, bool want) {
    jlist *out = jlist_new(r), *l = j_truth(r, in) ? j_items(r, in) : NULL;
    if (!out || !l) return j_list_of(J_ITER, out);
    const size_t skip = by_attribute ? 1 : 0;
    if (a->n < skip) return jrun_fail(r, "Missing parameter for attribute name"), in;
    const jval *test = a->n > skip ? &a->positional[skip] : NULL;
    if (test && test->kind != J_TEXT) return jrun_fail(r, "a test's name is expected, not %s", j_type_name(*test)), in;
    jargs rest = *a;
    if (test) rest.positional += skip + 1, rest.n -= skip + 1;
    for (size_t i = 0; i < l->n && jrun_step(r, 0); i++) {
        jval v = by_attribute ? jeval_path(r, l->item[i], a->positional[0]) : l->item[i];
        bool holds = test ? jeval_test(r, jtext_str(test->text), v, &rest) : j_truth(r, v);
        if (jrun_ok(r) && holds == want) jlist_add(r, out, l->item[i]);
    }
    return j_list(J_ITER, out);
}
static jval f_select(jrun *r, jval in, const jargs *a) { return chosen(r, in, a, false, true); }
static jval f_reject(jrun *r, jval in, const jargs *a) { return chosen(r, in, a, false, false); }
static jval f_selectattr(jrun *r, jval in, const jargs *a) { return chosen(r, in, a, true, true); }
static jval f_rejectattr(jrun *r, jval in, const jargs *a) { return chosen(r, in, a, true, false); }

static jval f_list(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    jlist *l = jargs_spread(r, "list", a, "", p) ? j_items(r, in) : NULL;
    if (l && in.kind == J_TEXT) l->input = false;
    return j_list_of(J_LIST, l);
}

static jval f_items(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "items", a, "", p)) return in;
    if (in.kind == J_UNDEFINED) return j_list_of(J_ITER, jlist_new(r));
    if (in.kind != J_DICT) return jrun_fail(r, "Can only get item pairs from a mapping."), in;
    return j_list_of(J_ITER, pairs_of(r, in.dict));
}

static jval f_length(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    return jargs_spread(r, "length", a, "", p) ? j_int(j_length(r, in)) : in;
}

static jval f_first(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "first", a, "", p)) return in;
    if (in.kind == J_ITER && in.list->at < in.list->n) return in.list->item[in.list->at++];
    jlist *l = in.kind == J_TEXT ? NULL : j_items(r, in);
    if (l && l->n) return l->item[0];
    if (in.kind == J_TEXT && in.text->n) return jeval_item(r, in, j_int(0));
    return j_undefined(jtext_new(r, str_of("No first item, sequence was empty."), false));
}

static jval f_last(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "last", a, "", p)) return in;
    if (in.kind == J_ITER) return jrun_fail(r, "'generator' object is not reversible"), in;
    if (in.kind == J_TEXT && in.text->n) return jeval_item(r, in, j_int(-1));
    jlist *l = in.kind == J_TEXT ? NULL : j_items(r, in);
    if (l && l->n) return l->item[l->n - 1];
    return j_undefined(jtext_new(r, str_of("No last item, sequence was empty."), false));
}

static jval f_reverse(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "reverse", a, "", p)) return in;
    const jval none = {.kind = J_ABSENT}, back[3] = {none, none, j_int(-1)};
    if (in.kind == J_TEXT) return jeval_slice(r, in, back);
    jlist *l = j_items(r, in), *out = l ? jlist_new(r) : NULL;
    for (size_t i = l ? l->n : 0; out && i-- > 0 && jrun_ok(r);) jlist_add(r, out, l->item[i]);
    return j_list_of(in.kind == J_ITER ? J_LIST : J_ITER, out);
}

static jval f_batch(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    int64_t width;
    if (!jargs_spread(r, "batch", a, "linecount fill_with?", p) || !jargs_int(r, p[0], 0, &width)) return in;
    jlist *l = j_items(r, in), *out = jlist_new(r), *row = NULL;
    for (size_t i = 0; l && out && i < l->n && jrun_ok(r); i++) {
        if (!row || (int64_t)row->n == width) jlist_add(r, out, j_list_of(J_LIST, row = jlist_new(r)));
        jlist_add(r, row, l->item[i]);
    }
    while (row && p[1].kind != J_ABSENT && p[1].kind != J_NONE && (int64_t)row->n < width && jrun_ok(r))
        jlist_add(r, row, p[1]);
    return j_list_of(J_ITER, out);
}

static jval f_slice(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    int64_t n;
    if (!jargs_spread(r, "slice", a, "slices fill_with?", p) || !jargs_int(r, p[0], 0, &n)) return in;
    jlist *l = j_items(r, in), *out = jlist_new(r);
    if (l && n == 0) jrun_fail(r, "integer division or modulo by zero");
    for (int64_t i = 0, at = 0; l && out && i < n && jrun_step(r, 0); i++) {
        const int64_t each = (int64_t)l->n / n, extra = (int64_t)l->n % n;
        jlist *part = jlist_new(r);
        for (int64_t k = 0; k < each + (i < extra) && jrun_ok(r); k++) jlist_add(r, part, l->item[at++]);
        if (p[1].kind != J_ABSENT && p[1].kind != J_NONE && i >= extra) jlist_add(r, part, p[1]);
        jlist_add(r, out, j_list_of(J_LIST, part));
    }
    return j_list_of(J_ITER, out);
}

static jval f_sum(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "sum", a, "attribute? start?", p)) return in;
    jlist *l = j_items(r, in);
    jval sum = p[1].kind == J_ABSENT ? j_int(0) : p[1];
    if (sum.kind == J_TEXT) jrun_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; l && i < l->n && jrun_ok(r); i++) {
        jval v = l->item[i];
        if (p[0].kind != J_ABSENT && p[0].kind != J_NONE) v = jeval_path(r, v, p[0]);
        if (jrun_ok(r)) sum = jop_binary(r, (jop)'+', sum, v);
    }
    return sum;
}

const jfilter jfilters_list[] = {{"sort", f_sort},
                                 {"dictsort", f_dictsort},
                                 {"min", f_min},
                                 {"max", f_max},
                                 {"unique", f_unique},
                                 {"groupby", f_groupby},
                                 {"map", f_map},
                                 {"select", f_select},
                                 {"reject", f_reject},
                                 {"selectattr", f_selectattr},
                                 {"rejectattr", f_rejectattr},
                                 {"list", f_list},
                                 {"items", f_items},
                                 {"length", f_length},
                                 {"count", f_length},
                                 {"first", f_first},
                                 {"last", f_last},
                                 {"reverse", f_reverse},
                                 {"batch", f_batch},
                                 {"slice", f_slice},
                                 {"sum", f_sum},
                                 {NULL, NULL}};
