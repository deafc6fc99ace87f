/* Operators, with Python's meaning for integers of 64 bits. */
#include "text/jinja_eval.h"

#include <math.h>
#include <string.h>

static const char *op_name(jop op, char buf[3]) {
    switch (op) {
    case OP_EQUAL: return "==";
    case OP_UNEQUAL: return "!=";
    case OP_AT_LEAST: return ">=";
    case OP_AT_MOST: return "<=";
    case OP_FLOOR: return "//";
    case OP_POWER: return "** or pow()";
    case OP_IN: return "in";
    case OP_NOT_IN: return "not in";
    default: buf[0] = (char)op, buf[1] = 0; return buf;
    }
}

static __attribute__((cold)) jval refuse(jrun *r, jop op, jval a, jval b) {
    char buf[3];
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED)
        jeval_refuse_undefined(r, a.kind == J_UNDEFINED ? a : b);
    else if (op == '+' && a.kind == J_TEXT)
        jrun_fail(r, "can only concatenate str (not \"%s\") to str", j_type_name(b));
    else
        jrun_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op_name(op, buf), j_type_name(a),
                  j_type_name(b));
    return j_undefined(NULL);
}

static jval overflow(jrun *r) {
    jrun_fail(r, "an integer beyond 64 bits");
    return j_int(0);
}

static jval power(jrun *r, int64_t base, int64_t exponent) {
    if (exponent < 0) {
        if (base == 0) return jrun_fail(r, "0.0 cannot be raised to a negative power"), j_int(0);
        return j_float(pow((double)base, (double)exponent));
    }
    int64_t v = 1;
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) && __builtin_mul_overflow(v, base, &v)) return overflow(r);
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return overflow(r);
    }
    return j_int(v);
}

static jval int_op(jrun *r, jop op, int64_t a, int64_t b) {
    int64_t v = 0;
    bool over = false;
    switch ((int)op) {
    case '+': over = __builtin_add_overflow(a, b, &v); break;
    case '-': over = __builtin_sub_overflow(a, b, &v); break;
    case '*': over = __builtin_mul_overflow(a, b, &v); break;
    case OP_POWER: return power(r, a, b);
    case '/':
        if (b == 0) return jrun_fail(r, "division by zero"), j_int(0);
        return j_float((double)a / (double)b);
    default: /* // and %: rounded towards minus infinity */
        if (b == 0) return jrun_fail(r, "integer division or modulo by zero"), j_int(0);
        if (b == -1) {
            over = op == OP_FLOOR && __builtin_sub_overflow(0, a, &v);
            break;
        }
        v = op == OP_FLOOR ? a / b : a % b;
        if (a % b != 0 && (a < 0) != (b < 0)) v = op == OP_FLOOR ? v - 1 : v + b;
    }
    return over ? overflow(r) : j_int(v);
}

static jval float_op(jrun *r, jop op, double a, double b) {
    switch ((int)op) {
    case '+': return j_float(a + b);
    case '-': return j_float(a - b);
    case '*': return j_float(a * b);
    case OP_POWER:
        if (a == 0 && b < 0) return jrun_fail(r, "0.0 cannot be raised to a negative power"), j_float(0);
        if (a < 0 && b != floor(b)) return jrun_fail(r, "complex numbers are not built in"), j_float(0);
        return j_float(pow(a, b));
    default: break;
    }
    if (b == 0) return jrun_fail(r, "float division by zero"), j_float(0);
    if (op == '/') return j_float(a / b);
    double m = fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0)) m += b;
    if (op == '%') return j_float(m == 0 ? copysign(0, b) : m);
    double div = (a - m) / b, whole = floor(div);
    return j_float(div - whole > 0.5 ? whole + 1 : whole);
}

static jval repeat_text(jrun *r, const jtext *t, int64_t n) {
    jbuild b = {.r = r};
    if (n > 0 && t->n > JINJA_MAX_TEXT / (uint64_t)n) jrun_fail(r, "a text grows beyond %d MiB", JINJA_MAX_TEXT >> 20);
    for (int64_t i = 0; t->n && i < n && jrun_ok(r); i++) jbuild_text(&b, t);
    jtext *done = jbuild_done(&b);
    return j_text(t->markup ? jtext_safe(r, done) : done);
}

static jval repeat_list(jrun *r, jval v, int64_t n) {
    jlist *l = jlist_new(r);
    if (l) l->input = v.list->input;
    for (int64_t i = 0; v.list->n && i < n && jrun_ok(r); i++)
        for (size_t k = 0; k < v.list->n && jrun_ok(r); k++) jlist_add(r, l, v.list->item[k]);
    return j_list_of(v.kind, l);
}

static jval add_lists(jrun *r, jval a, jval b) {
    jlist *l = jlist_new(r);
    if (l) l->input = a.list->input || b.list->input;
    for (size_t i = 0; i < a.list->n && jrun_ok(r); i++) jlist_add(r, l, a.list->item[i]);
    for (size_t i = 0; i < b.list->n && jrun_ok(r); i++) jlist_add(r, l, b.list->item[i]);
    return j_list_of(a.kind, l);
}

static jval add_texts(jrun *r, jtext *a, jtext *b) {
    if (a->markup == b->markup) return j_text(jtext_concat(r, a, b));
    return j_text(jtext_concat(r, jtext_escape(r, a), jtext_escape(r, b)));
}

static bool is_plain_list(jval v) { return v.kind == J_LIST || v.kind == J_TUPLE; }

jval jop_binary(jrun *r, jop op, jval a, jval b) {
    if (!jrun_step(r, 0)) return a;
    if (op == '+' && a.kind == J_TEXT && b.kind == J_TEXT) return add_texts(r, a.text, b.text);
    if (j_is_int(a) && j_is_int(b)) return int_op(r, op, j_int_of(a), j_int_of(b));
    if (j_is_number(a) && j_is_number(b)) return float_op(r, op, j_float_of(a), j_float_of(b));
    if (op == '+' && a.kind == b.kind && is_plain_list(a)) return add_lists(r, a, b);
    if (op == '%' && a.kind == J_TEXT) return jop_percent(r, a.text, b);
    if (op == '*' && j_is_int(b) && a.kind == J_TEXT) return repeat_text(r, a.text, j_int_of(b));
    if (op == '*' && j_is_int(a) && b.kind == J_TEXT) return repeat_text(r, b.text, j_int_of(a));
    if (op == '*' && j_is_int(b) && is_plain_list(a)) return repeat_list(r, a, j_int_of(b));
    if (op == '*' && j_is_int(a) && is_plain_list(b)) return repeat_list(r, b, j_int_of(a));
    return refuse(r, op, a, b);
}

bool jop_compare(jrun *r, jop op, jval a, jval b) {
    if (!jrun_step(r, 0)) return false;
    if (op == OP_EQUAL) return j_equal(r, a, b);
    if (op == OP_UNEQUAL) return !j_equal(r, a, b);
    if (op == OP_IN) return j_contains(r, b, a);
    if (op == OP_NOT_IN) return !j_contains(r, b, a);
    char buf[3];
    int c = j_compare(r, op_name(op, buf), a, b);
    if (c == 2) return false;
    return op == '<' ? c < 0 : op == '>' ? c > 0 : op == OP_AT_MOST ? c <= 0 : c >= 0;
}

jval jop_negate(jrun *r, jval v) {
    if (!jrun_ok(r)) return v;
    int64_t n;
    if (v.kind == J_FLOAT) return j_float(-v.f);
    if (v.kind == J_UNDEFINED) return jeval_refuse_undefined(r, v), v;
    if (!j_is_int(v)) return jrun_fail(r, "bad operand type for unary -: '%s'", j_type_name(v)), v;
    return __builtin_sub_overflow(0, j_int_of(v), &n) ? overflow(r) : j_int(n);
}
