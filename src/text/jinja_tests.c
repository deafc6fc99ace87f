/* Tests: what may follow `is`. */
#include "text/jinja_chars.h"
#include "text/jinja_eval.h"
#include "text/unicode.h"

#include <string.h>

static bool one_argument(jrun *r, const char *name, const jargs *a, jval *out) {
    jval p[JARGS_MAX];
    bool ok = jargs_spread(r, name, a, "other", p);
    *out = ok ? p[0] : j_none();
    return ok;
}

static bool t_defined(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind != J_UNDEFINED; }
static bool t_undefined(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_UNDEFINED; }
static bool t_none(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_NONE; }
static bool t_boolean(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_BOOL; }
static bool t_true(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_BOOL && v.b; }
static bool t_false(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_BOOL && !v.b; }
static bool t_integer(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_INT; }
static bool t_float(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_FLOAT; }
static bool t_number(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, j_is_number(v); }
static bool t_string(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_TEXT; }
static bool t_mapping(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_DICT; }
static bool t_iterable(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, j_iterable(v); }
static bool t_escaped(jrun *r, jval v, const jargs *a) { return (void)r, (void)a, v.kind == J_TEXT && v.text->markup; }

static bool t_sequence(jrun *r, jval v, const jargs *a) {
    (void)r, (void)a;
    return v.kind == J_TEXT || v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_RANGE || v.kind == J_DICT ||
           v.kind == J_UNDEFINED; /* it has a length, 0, and [], which fails */
}

static bool t_callable(jrun *r, jval v, const jargs *a) {
    (void)r, (void)a;
    return (v.kind >= J_MACRO && v.kind <= J_LOOP) || v.kind == J_JOINER || v.kind == J_UNDEFINED;
}

static bool remainder_is(jrun *r, jval v, jval by, int64_t want) {
    jval m = jop_binary(r, (jop)'%', v, by);
    return jrun_ok(r) && j_equal(r, m, j_int(want));
}
static bool t_odd(jrun *r, jval v, const jargs *a) { return (void)a, remainder_is(r, v, j_int(2), 1); }
static bool t_even(jrun *r, jval v, const jargs *a) { return (void)a, remainder_is(r, v, j_int(2), 0); }
static bool t_divisibleby(jrun *r, jval v, const jargs *a) {
    jval p[JARGS_MAX];
    return jargs_spread(r, "divisibleby", a, "num", p) && remainder_is(r, v, p[0], 0);
}

static bool t_sameas(jrun *r, jval v, const jargs *a) {
    jval other;
    return one_argument(r, "sameas", a, &other) && j_same(v, other);
}
static bool t_in(jrun *r, jval v, const jargs *a) {
    jval p[JARGS_MAX];
    return jargs_spread(r, "in", a, "seq", p) && j_contains(r, p[0], v);
}

static bool compared(jrun *r, jval v, const jargs *a, jop op) {
    jval other;
    return one_argument(r, "compare", a, &other) && jop_compare(r, op, v, other);
}
static bool t_eq(jrun *r, jval v, const jargs *a) { return compared(r, v, a, OP_EQUAL); }
static bool t_ne(jrun *r, jval v, const jargs *a) { return compared(r, v, a, OP_UNEQUAL); }
static bool t_lt(jrun *r, jval v, const jargs *a) { return compared(r, v, a, (jop)'<'); }
static bool t_le(jrun *r, jval v, const jargs *a) { return compared(r, v, a, OP_AT_MOST); }
static bool t_gt(jrun *r, jval v, const jargs *a) { return compared(r, v, a, (jop)'>'); }
static bool t_ge(jrun *r, jval v, const jargs *a) { return compared(r, v, a, OP_AT_LEAST); }

/* Every letter that has case is of this one, and there is one. */
static bool of_case(jrun *r, jval v, bool upper) {
    const jtext *t = j_str(r, v);
    bool any = false;
    for (size_t at = 0; at < t->n && jrun_step(r, 0);) {
        utf8_char c = utf8_look((const uint8_t *)t->p + at, (const uint8_t *)t->p + t->n);
        bool is_upper = jchar_is_upper(c.cp), is_lower = jchar_is_lower(c.cp);
        if (upper ? is_lower : is_upper) return false;
        any = any || (upper ? is_upper : is_lower);
        at += c.n;
    }
    return any;
}
static bool t_upper(jrun *r, jval v, const jargs *a) { return (void)a, of_case(r, v, true); }
static bool t_lower(jrun *r, jval v, const jargs *a) { return (void)a, of_case(r, v, false); }

static bool t_filter(jrun *r, jval v, const jargs *a) {
    (void)r, (void)a;
    return v.kind == J_TEXT && jfilter_find(jtext_str(v.text));
}
static bool t_test(jrun *r, jval v, const jargs *a) {
    (void)r, (void)a;
    return v.kind == J_TEXT && jtest_find(jtext_str(v.text));
}

static const jtest tests[] = {{"defined", t_defined},
                              {"undefined", t_undefined},
                              {"none", t_none},
                              {"boolean", t_boolean},
                              {"true", t_true},
                              {"false", t_false},
                              {"integer", t_integer},
                              {"float", t_float},
                              {"number", t_number},
                              {"string", t_string},
                              {"mapping", t_mapping},
                              {"iterable", t_iterable},
                              {"sequence", t_sequence},
                              {"callable", t_callable},
                              {"escaped", t_escaped},
                              {"odd", t_odd},
                              {"even", t_even},
                              {"divisibleby", t_divisibleby},
                              {"sameas", t_sameas},
                              {"in", t_in},
                              {"eq", t_eq},
                              {"equalto", t_eq},
                              {"==", t_eq},
                              {"ne", t_ne},
                              {"!=", t_ne},
                              {"lt", t_lt},
                              {"lessthan", t_lt},
                              {"<", t_lt},
                              {"le", t_le},
                              {"<=", t_le},
                              {"gt", t_gt},
                              {"greaterthan", t_gt},
                              {">", t_gt},
                              {"ge", t_ge},
                              {">=", t_ge},
                              {"upper", t_upper},
                              {"lower", t_lower},
                              {"filter", t_filter},
                              {"test", t_test}};

const jtest *jtest_find(str name) {
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (str_is(name, tests[i].name)) return &tests[i];
    return NULL;
}
