#include "text/jinja_value.h"

#include "text/jinja_eval.h"
#include "text/unicode.h"

#include <math.h>
#include <string.h>

jval j_words(jrun *r, const char *z) { return j_text(jtext_new(r, str_of(z), false)); }

/* ---- lists and dicts ---- */

jlist *jlist_new(jrun *r) { return jrun_take(r, 1, sizeof(jlist)); }

void jlist_add(jrun *r, jlist *l, jval v) {
    if (!l || !jrun_step(r, 0)) return;
    jval *item = jrun_grow(r, l->item, l->n, l->n + 1, &l->cap, sizeof *item);
    if (!item) return;
    l->item = item;
    l->item[l->n++] = v;
}

jdict *jdict_new(jrun *r) { return jrun_take(r, 1, sizeof(jdict)); }

static uint64_t mix(uint64_t h) {
    h ^= h >> 32;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

/* Equal keys have equal hashes: 1, 1.0 and True are one key. false: such a value cannot be a key. */
static bool hash_of(jrun *r, jval v, uint64_t *out) {
    switch (v.kind) {
    case J_UNDEFINED:
    case J_NONE: *out = (uint64_t)v.kind; return true;
    case J_BOOL:
    case J_INT: *out = mix((uint64_t)j_int_of(v)); return true;
    case J_FLOAT:
        *out = v.f >= -9e18 && v.f <= 9e18 && v.f == floor(v.f) ? mix((uint64_t)(int64_t)v.f) : mix(0x5bd1e995);
        return true;
    case J_TEXT:
        jrun_step(r, v.text->n);
        *out = str_hash(jtext_str(v.text));
        return true;
    case J_TUPLE:
        *out = v.list->n;
        if (!jrun_enter(r)) return jrun_leave(r), false;
        for (size_t i = 0; i < v.list->n; i++) {
            uint64_t h;
            if (!hash_of(r, v.list->item[i], &h)) return jrun_leave(r), false;
            *out = mix(*out * 31 + h);
        }
        jrun_leave(r);
        return true;
    case J_LIST:
    case J_DICT: jrun_fail(r, "unhashable type: '%s'", j_type_name(v)); return false;
    default: *out = mix((uint64_t)(uintptr_t)v.list); return true;
    }
}

static uint32_t *find_slot(jrun *r, const jdict *d, jval key, uint64_t hash) {
    for (size_t at = hash & (d->n_slots - 1);; at = (at + 1) & (d->n_slots - 1)) {
        uint32_t place = d->slot[at];
        if (place == 0) return &d->slot[at];
        const jpair *p = &d->pair[place - 1];
        if (!jrun_step(r, 0) || (p->hash == hash && j_equal(r, p->key, key))) return &d->slot[at];
    }
}

static jpair *find_pair(jrun *r, const jdict *d, jval key, uint64_t hash) {
    if (d->slot) {
        uint32_t place = *find_slot(r, d, key, hash);
        return place && jrun_ok(r) ? &d->pair[place - 1] : NULL;
    }
    for (size_t i = 0; i < d->n; i++)
        if (d->pair[i].hash == hash && j_equal(r, d->pair[i].key, key)) return &d->pair[i];
    return NULL;
}

jval *jdict_find(jrun *r, const jdict *d, jval key) {
    uint64_t hash;
    if (!hash_of(r, key, &hash)) return NULL;
    jpair *p = find_pair(r, d, key, hash);
    return p ? &p->value : NULL;
}

jval *jdict_find_str(jrun *r, const jdict *d, str key) {
    jtext t = {.p = key.p, .n = key.n};
    return jdict_find(r, d, j_text(&t));
}

enum { DICT_SMALL = 8 };

static bool make_slots(jrun *r, jdict *d) {
    size_t n = 4 * DICT_SMALL;
    while (n < 3 * d->n) n *= 2;
    d->slot = jrun_take(r, n, sizeof *d->slot);
    d->n_slots = n;
    for (size_t i = 0; d->slot && i < d->n; i++) {
        size_t at = d->pair[i].hash & (n - 1);
        while (d->slot[at]) at = (at + 1) & (n - 1);
        d->slot[at] = (uint32_t)i + 1;
    }
    return d->slot != NULL;
}

void jdict_put(jrun *r, jdict *d, jval key, jval v) {
    uint64_t hash;
    if (!d || !jrun_step(r, 0) || !hash_of(r, key, &hash)) return;
    jpair *p = find_pair(r, d, key, hash);
    if (p) {
        p->value = v;
        return;
    }
    jpair *pair = jrun_grow(r, d->pair, d->n, d->n + 1, &d->cap, sizeof *pair);
    if (!pair) return;
    d->pair = pair;
    d->pair[d->n++] = (jpair){key, v, hash};
    if (d->n > DICT_SMALL && 2 * d->n > d->n_slots)
        make_slots(r, d);
    else if (d->slot)
        *find_slot(r, d, key, hash) = (uint32_t)d->n;
}

/* ---- what a value is ---- */

const char *j_type_name(jval v) {
    static const char *const names[] = {
        [J_UNDEFINED] = "Undefined", [J_NONE] = "NoneType",   [J_BOOL] = "bool",         [J_INT] = "int",
        [J_FLOAT] = "float",         [J_TEXT] = "str",        [J_LIST] = "list",         [J_TUPLE] = "tuple",
        [J_RANGE] = "range",         [J_VIEW] = "dict_items", [J_ITER] = "generator",    [J_DICT] = "dict",
        [J_NAMESPACE] = "Namespace", [J_MACRO] = "Macro",     [J_FUNCTION] = "function", [J_METHOD] = "method",
        [J_LOOP] = "LoopContext",    [J_CYCLER] = "Cycler",   [J_JOINER] = "Joiner",     [J_ABSENT] = "nothing"};
    if (v.kind == J_VIEW) return v.list->name;
    return v.kind == J_TEXT && v.text->markup ? "Markup" : names[v.kind];
}

bool j_truth(jrun *r, jval v) {
    (void)r;
    switch (v.kind) {
    case J_UNDEFINED:
    case J_NONE: return false;
    case J_BOOL: return v.b;
    case J_INT: return v.i != 0;
    case J_FLOAT: return v.f != 0;
    case J_TEXT: return v.text->n > 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return v.list->n > 0;
    case J_DICT: return v.dict->n > 0;
    default: return true;
    }
}

static bool equal_lists(jrun *r, const jlist *a, const jlist *b) {
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++) same = j_equal(r, a->item[i], b->item[i]);
    return same;
}

static bool equal_dicts(jrun *r, const jdict *a, const jdict *b) {
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++) {
        jpair *other = find_pair(r, b, a->pair[i].key, a->pair[i].hash);
        same = other && j_equal(r, a->pair[i].value, other->value);
    }
    return same;
}

static bool equal_numbers(jval a, jval b) {
    if (a.kind != J_FLOAT && b.kind != J_FLOAT) return j_int_of(a) == j_int_of(b);
    return j_float_of(a) == j_float_of(b);
}

bool j_equal(jrun *r, jval a, jval b) {
    if (a.kind == J_TEXT && b.kind == J_TEXT) {
        if (a.text->n != b.text->n) return false;
        return jrun_step(r, a.text->n) && memcmp(a.text->p, b.text->p, a.text->n) == 0;
    }
    if (j_is_number(a) && j_is_number(b)) return equal_numbers(a, b);
    if (a.kind != b.kind) return false;
    bool same = false;
    switch (a.kind) {
    case J_UNDEFINED:
    case J_NONE: return true;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
        if (jrun_enter(r)) same = a.list == b.list || equal_lists(r, a.list, b.list);
        jrun_leave(r);
        return same;
    case J_DICT:
        if (jrun_enter(r)) same = a.dict == b.dict || equal_dicts(r, a.dict, b.dict);
        jrun_leave(r);
        return same;
    default: return a.list == b.list;
    }
}

bool j_same(jval a, jval b) {
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case J_UNDEFINED:
    case J_NONE: return true;
    case J_BOOL: return a.b == b.b;
    case J_INT: return a.i == b.i;
    case J_FLOAT: return a.f == b.f;
    case J_TEXT: return a.text == b.text || (a.text->p == b.text->p && a.text->n == b.text->n);
    default: return a.list == b.list;
    }
}

static int compare_lists(jrun *r, const char *op, const jlist *a, const jlist *b) {
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (!j_equal(r, a->item[i], b->item[i])) return j_compare(r, op, a->item[i], b->item[i]);
    return (a->n > b->n) - (a->n < b->n);
}

int j_compare(jrun *r, const char *op, jval a, jval b) {
    if (!jrun_step(r, 0)) return 0;
    if (j_is_int(a) && j_is_int(b)) return (j_int_of(a) > j_int_of(b)) - (j_int_of(a) < j_int_of(b));
    if (j_is_number(a) && j_is_number(b)) {
        double x = j_float_of(a), y = j_float_of(b);
        return isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
    }
    if (a.kind == J_TEXT && b.kind == J_TEXT) { /* UTF-8 sorts as its code points do */
        size_t n = a.text->n < b.text->n ? a.text->n : b.text->n;
        int c = n && jrun_step(r, n) ? memcmp(a.text->p, b.text->p, n) : 0;
        return c ? (c > 0) - (c < 0) : (a.text->n > b.text->n) - (a.text->n < b.text->n);
    }
    if (a.kind == b.kind && (a.kind == J_LIST || a.kind == J_TUPLE)) {
        int c = jrun_enter(r) ? compare_lists(r, op, a.list, b.list) : 0;
        jrun_leave(r);
        return c;
    }
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED)
        jeval_refuse_undefined(r, a.kind == J_UNDEFINED ? a : b);
    else
        jrun_fail(r, "'%s' not supported between instances of '%s' and '%s'", op, j_type_name(a), j_type_name(b));
    return 0;
}

bool j_contains(jrun *r, jval in, jval what) {
    if (in.kind == J_TEXT) {
        if (what.kind == J_TEXT)
            return jtext_find(r, jtext_str(in.text), jtext_str(what.text), 0) <= in.text->n && jrun_ok(r);
        jrun_fail(r, "'in <string>' requires string as left operand, not %s", j_type_name(what));
        return false;
    }
    if (in.kind == J_DICT) return jdict_find(r, in.dict, what) != NULL;
    if (in.kind == J_UNDEFINED) return false;
    const jlist *l = j_items(r, in);
    for (size_t i = 0; l && i < l->n && jrun_step(r, 0); i++)
        if (j_same(l->item[i], what) || j_equal(r, l->item[i], what)) return jrun_ok(r);
    return false;
}

/* ---- walking ---- */

bool j_iterable(jval v) {
    return j_is_list(v) || v.kind == J_TEXT || v.kind == J_DICT || v.kind == J_UNDEFINED || v.kind == J_LOOP;
}

static jlist *chars_of(jrun *r, const jtext *t) {
    jlist *l = jlist_new(r);
    for (size_t at = 0; l && at < t->n && jrun_ok(r);) {
        size_t n = utf8_lead_len((uint8_t)t->p[at]);
        if (n > t->n - at) n = t->n - at;
        jlist_add(r, l, j_text(jtext_cut(r, t, at, n)));
        at += n;
    }
    return l;
}

static jlist *keys_of(jrun *r, const jdict *d) {
    jlist *l = jlist_new(r);
    for (size_t i = 0; l && i < d->n; i++) jlist_add(r, l, d->pair[i].key);
    return l;
}

static jlist *rest_of(jrun *r, jlist *it) {
    if (it->at == 0) {
        it->at = it->n;
        jlist *all = jlist_new(r);
        if (all) all->item = it->item, all->n = it->n;
        return all;
    }
    jlist *rest = jlist_new(r);
    if (rest) rest->item = it->item + it->at, rest->n = it->n - it->at;
    it->at = it->n;
    return rest;
}

jlist *j_items(jrun *r, jval v) {
    switch (v.kind) {
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return v.list;
    case J_ITER: return rest_of(r, v.list);
    case J_TEXT: return chars_of(r, v.text);
    case J_DICT: return keys_of(r, v.dict);
    case J_UNDEFINED: return jlist_new(r);
    default: jrun_fail(r, "'%s' object is not iterable", j_type_name(v)); return NULL;
    }
}

int64_t j_length(jrun *r, jval v) {
    switch (v.kind) {
    case J_UNDEFINED: return 0;
    case J_TEXT: return jrun_step(r, v.text->n_chars ? 0 : v.text->n) ? (int64_t)jtext_chars(v.text) : 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return (int64_t)v.list->n;
    case J_DICT: return (int64_t)v.dict->n;
    case J_LOOP: return (int64_t)jloop_length(v.loop);
    default: jrun_fail(r, "object of type '%s' has no len()", j_type_name(v)); return -1;
    }
}
