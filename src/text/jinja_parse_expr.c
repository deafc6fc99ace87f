/* Expressions. Operators are read by precedence in one loop, so that nesting costs few frames. */
#include "text/jinja_eval.h"
#include "text/jinja_parse.h"

#include <string.h>

jexpr *jparse_new(jparser *p, jexpr_kind kind) {
    jexpr *x = jrun_take(p->r, 1, sizeof *x);
    if (x) *x = (jexpr){.kind = kind, .line = p->tok.line};
    return x;
}

void jparse_add(jparser *p, jexpr *list, jexpr *item) {
    if (!list || !item) return;
    jexpr **more = jrun_grow(p->r, list->item, list->n, list->n + 1, &list->cap, sizeof *more);
    if (!more) return;
    list->item = more;
    list->item[list->n++] = item;
}

static void add_op(jparser *p, jexpr *chain, jop op, jexpr *item) {
    if (!chain || !item) return;
    jop *more = jrun_grow(p->r, chain->op, chain->n, chain->n + 1, &chain->cap_op, sizeof *more);
    if (!more) return;
    chain->op = more;
    chain->op[chain->n] = op;
    jparse_add(p, chain, item);
}

static jexpr *constant(jparser *p, jval v) {
    jexpr *x = jparse_new(p, X_CONST);
    if (x) x->value = v;
    return x;
}

/* ---- what stands behind a value ---- */

static jpost *add_post(jparser *p, jexpr **x, jpost_kind kind) {
    if ((*x)->kind != X_POST) {
        jexpr *outer = jparse_new(p, X_POST);
        if (!outer) return NULL;
        outer->first = *x;
        outer->line = (*x)->line;
        *x = outer;
    }
    jpost *more = jrun_grow(p->r, (*x)->post, (*x)->n, (*x)->n + 1, &(*x)->cap, sizeof *more);
    if (!more) return NULL;
    (*x)->post = more;
    more += (*x)->n++;
    *more = (jpost){.kind = kind, .line = p->tok.line};
    return more;
}

static void add_argument(jparser *p, jarguments *a) {
    if (p->tok.kind == T_NAME && jparse_peek(p).kind == T_OPERATOR && jparse_peek(p).op == '=') {
        const jtext *name = jparse_text_of(p, p->tok.text);
        jparse_next(p);
        jparse_next(p);
        jexpr *value = jparse_expression(p, true);
        const jtext **names = jrun_grow(p->r, a->name, a->n_named, a->n_named + 1, &a->cap_name, sizeof *names);
        jexpr **values = jrun_grow(p->r, a->named, a->n_named, a->n_named + 1, &a->cap_named, sizeof *values);
        if (!names || !values) return;
        a->name = names, a->named = values;
        names[a->n_named] = name;
        values[a->n_named++] = value;
        return;
    }
    if (a->n_named || a->star_star) {
        jparse_refuse(p, "a named argument");
        return;
    }
    jexpr *value = jparse_expression(p, true);
    jexpr **more = jrun_grow(p->r, a->positional, a->n_positional, a->n_positional + 1, &a->cap, sizeof *more);
    if (!more) return;
    a->positional = more;
    more[a->n_positional++] = value;
}

jarguments *jparse_arguments(jparser *p) {
    jarguments *a = jrun_take(p->r, 1, sizeof *a);
    jparse_expect_op(p, '(');
    for (bool first = true; a && jrun_ok(p->r) && !jparse_is_op(p, ')'); first = false) {
        if (!first) {
            jparse_expect_op(p, ',');
            if (jparse_is_op(p, ')')) break;
        }
        if (jparse_is_op(p, '*') && !a->star) {
            jparse_next(p);
            a->star = jparse_expression(p, true);
        } else if (jparse_is_op(p, OP_POWER) && !a->star_star) {
            jparse_next(p);
            a->star_star = jparse_expression(p, true);
        } else {
            add_argument(p, a);
        }
    }
    jparse_expect_op(p, ')');
    return a;
}

static void post_attribute(jparser *p, jexpr **x) {
    jparse_next(p);
    jpost *post = NULL;
    if (p->tok.kind == T_NAME) {
        post = add_post(p, x, POST_ATTRIBUTE);
        if (post) post->name = jparse_text_of(p, p->tok.text);
    } else if (p->tok.kind == T_NUMBER && p->tok.value.kind == J_INT) {
        jexpr *index = constant(p, p->tok.value);
        post = add_post(p, x, POST_ITEM);
        if (post) post->index = index;
    } else {
        jparse_refuse(p, "name or number");
        return;
    }
    jparse_next(p);
}

static bool at_slice_part(const jparser *p) {
    return !jparse_is_op(p, ':') && !jparse_is_op(p, ']') && !jparse_is_op(p, ',');
}

static void post_item(jparser *p, jexpr **x) {
    jparse_next(p);
    jexpr *part[3] = {0};
    int colons = 0;
    if (at_slice_part(p)) part[0] = jparse_expression(p, true);
    while (jrun_ok(p->r) && colons < 2 && jparse_skip_op(p, ':')) {
        colons++;
        if (at_slice_part(p)) part[colons] = jparse_expression(p, true);
    }
    if (!colons && jparse_is_op(p, ',')) { /* x[a, b]: a tuple as the key */
        jexpr *tuple = jparse_new(p, X_TUPLE);
        jparse_add(p, tuple, part[0]);
        while (jrun_ok(p->r) && jparse_skip_op(p, ',')) jparse_add(p, tuple, jparse_expression(p, true));
        part[0] = tuple;
    }
    if (!colons && !part[0]) jparse_refuse(p, "a subscript");
    jparse_expect_op(p, ']');
    jpost *post = jrun_ok(p->r) ? add_post(p, x, colons ? POST_SLICE : POST_ITEM) : NULL;
    if (!post) return;
    post->index = part[0];
    memcpy(post->slice, part, sizeof part);
}

static void note_unknown(jparser *p, const char *what, const jtext *name) {
    if (p->soft || p->unknown) return;
    p->unknown = what;
    p->unknown_name = name;
    p->unknown_line = p->tok.line;
}

static jtext *dotted_name(jparser *p) {
    if (p->tok.kind != T_NAME) {
        jparse_refuse(p, "a name");
        return NULL;
    }
    jtext *name = jparse_text_of(p, p->tok.text);
    jparse_next(p);
    while (jrun_ok(p->r) && jparse_is_op(p, '.') && jparse_peek(p).kind == T_NAME) {
        jparse_next(p);
        jtext *more = jtext_concat(p->r, name, jtext_new(p->r, str_of("."), false));
        name = jtext_concat(p->r, more, jparse_text_of(p, p->tok.text));
        jparse_next(p);
    }
    return name;
}

static void post_filter(jparser *p, jexpr **x) {
    jtext *name = dotted_name(p);
    if (!name) return;
    jarguments *args = jparse_is_op(p, '(') ? jparse_arguments(p) : NULL;
    jpost *post = add_post(p, x, POST_FILTER);
    if (!post) return;
    post->name = name;
    post->args = args;
    post->known = jfilter_find(jtext_str(name));
    if (!post->known) note_unknown(p, "filter", name);
}

/* An argument without brackets may follow a test: x is divisibleby 3. */
static bool at_bare_argument(const jparser *p) {
    if (p->tok.kind == T_NAME)
        return !jparse_is_name(p, "else") && !jparse_is_name(p, "or") && !jparse_is_name(p, "and");
    return p->tok.kind == T_STRING || p->tok.kind == T_NUMBER || jparse_is_op(p, '[') || jparse_is_op(p, '{');
}

static jexpr *primary(jparser *p);

static void post_test(jparser *p, jexpr **x) {
    jparse_next(p); /* is */
    bool negate = jparse_skip_name(p, "not");
    jtext *name = dotted_name(p);
    if (!name) return;
    jarguments *args = NULL;
    if (jparse_is_op(p, '(')) {
        args = jparse_arguments(p);
    } else if (at_bare_argument(p)) {
        if (jparse_is_name(p, "is")) {
            jparse_refuse(p, "one test only: tests cannot be chained with is");
            return;
        }
        args = jrun_take(p->r, 1, sizeof *args);
        jexpr *one = primary(p);
        if (one) one = jparse_post(p, one, false);
        jexpr **list = jrun_take(p->r, 1, sizeof *list);
        if (!args || !list) return;
        list[0] = one;
        args->positional = list;
        args->n_positional = 1;
    }
    jpost *post = add_post(p, x, negate ? POST_NOT_TEST : POST_TEST);
    if (!post) return;
    post->name = name;
    post->args = args;
    post->known = jtest_find(jtext_str(name));
    if (!post->known) note_unknown(p, "test", name);
}

jexpr *jparse_post(jparser *p, jexpr *x, bool with_filters) {
    bool filtered = false; /* after a filter or test no . or [ may follow */
    while (x && jrun_ok(p->r)) {
        if (!filtered && jparse_is_op(p, '.')) {
            post_attribute(p, &x);
        } else if (!filtered && jparse_is_op(p, '[')) {
            post_item(p, &x);
        } else if (jparse_is_op(p, '(')) {
            jarguments *args = jparse_arguments(p);
            jpost *post = add_post(p, &x, POST_CALL);
            if (post) post->args = args;
        } else if (with_filters && jparse_skip_op(p, '|')) {
            post_filter(p, &x);
            filtered = true;
        } else if (with_filters && jparse_is_name(p, "is")) {
            post_test(p, &x);
            filtered = true;
        } else {
            break;
        }
    }
    return x;
}

jexpr *jparse_filters(jparser *p, jexpr *x) {
    while (x && jrun_ok(p->r) && jparse_skip_op(p, '|')) post_filter(p, &x);
    return x;
}

/* ---- values ---- */

static jexpr *list_until(jparser *p, jexpr_kind kind, char close) {
    jexpr *x = jparse_new(p, kind);
    jparse_next(p);
    while (jrun_ok(p->r) && !jparse_is_op(p, close)) {
        if (x->n) {
            jparse_expect_op(p, ',');
            if (jparse_is_op(p, close)) break;
        }
        jparse_add(p, x, jparse_expression(p, true));
        if (kind != X_DICT) continue;
        jparse_expect_op(p, ':');
        jparse_add(p, x, jparse_expression(p, true));
    }
    jparse_expect_op(p, close);
    return x;
}

static jexpr *in_brackets(jparser *p) { /* (a), (), (a,), (a, b) */
    jparse_next(p);
    if (jparse_is_op(p, ')')) {
        jexpr *empty = jparse_new(p, X_TUPLE);
        jparse_next(p);
        return empty;
    }
    jexpr *x = jparse_expression(p, true);
    if (jparse_is_op(p, ',')) {
        jexpr *tuple = jparse_new(p, X_TUPLE);
        jparse_add(p, tuple, x);
        while (jrun_ok(p->r) && jparse_skip_op(p, ',') && !jparse_is_op(p, ')'))
            jparse_add(p, tuple, jparse_expression(p, true));
        x = tuple;
    }
    jparse_expect_op(p, ')');
    return x;
}

static jexpr *strings(jparser *p) { /* 'a' 'b' is one string */
    jexpr *x = constant(p, p->tok.value);
    jparse_next(p);
    while (x && jrun_ok(p->r) && p->tok.kind == T_STRING) {
        x->value.text = jtext_concat(p->r, x->value.text, p->tok.value.text);
        jparse_next(p);
    }
    if (x && jrun_ok(p->r)) { /* renderings share it: nothing may be written to it, be it a count or what is added */
        jtext_chars(x->value.text);
        x->value.text->grows = NULL;
    }
    return x;
}

static jexpr *name(jparser *p) {
    static const struct {
        const char *name;
        jval value;
    } constants[] = {{"true", {.kind = J_BOOL, .b = true}},
                     {"True", {.kind = J_BOOL, .b = true}},
                     {"false", {.kind = J_BOOL}},
                     {"False", {.kind = J_BOOL}},
                     {"none", {.kind = J_NONE}},
                     {"None", {.kind = J_NONE}}};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (jparse_is_name(p, constants[i].name)) {
            jexpr *x = constant(p, constants[i].value);
            jparse_next(p);
            return x;
        }
    jexpr *x = jparse_new(p, X_NAME);
    if (x) x->name = jparse_name_id(p, p->tok.text);
    if (p->macro) {
        p->macro->uses_caller |= jparse_is_name(p, "caller");
        p->macro->uses_varargs |= jparse_is_name(p, "varargs");
        p->macro->uses_kwargs |= jparse_is_name(p, "kwargs");
    }
    jparse_next(p);
    return x;
}

static jexpr *primary(jparser *p) {
    if (p->tok.kind == T_NAME) return name(p);
    if (p->tok.kind == T_STRING) return strings(p);
    if (p->tok.kind == T_NUMBER) {
        jexpr *x = constant(p, p->tok.value);
        jparse_next(p);
        return x;
    }
    if (jparse_is_op(p, '(')) return in_brackets(p);
    if (jparse_is_op(p, '[')) return list_until(p, X_LIST, ']');
    if (jparse_is_op(p, '{')) return list_until(p, X_DICT, '}');
    jparse_refuse(p, "an expression");
    return NULL;
}

static jexpr *unary(jparser *p, bool with_filters) {
    jexpr *x = NULL;
    if (!jrun_enter(p->r)) {
        jrun_leave(p->r);
        return NULL;
    }
    if (jparse_is_op(p, '-') || jparse_is_op(p, '+')) {
        x = jparse_new(p, jparse_is_op(p, '-') ? X_NEGATE : X_PLUS);
        jparse_next(p);
        jexpr *inner = unary(p, false);
        if (x) x->first = inner;
    } else {
        x = primary(p);
    }
    jrun_leave(p->r);
    return x ? jparse_post(p, x, with_filters) : NULL;
}

/* ---- operators ---- */

enum { LEVEL_OR = 1, LEVEL_AND, LEVEL_NOT, LEVEL_COMPARE, LEVEL_SUM, LEVEL_CONCAT, LEVEL_PRODUCT, LEVEL_POWER };

/* Level of the operator at the current token, 0: none. */
static int operator_level(const jparser *p, jop *op) {
    if (p->tok.kind == T_NAME) {
        if (jparse_is_name(p, "or")) return LEVEL_OR;
        if (jparse_is_name(p, "and")) return LEVEL_AND;
        *op = jparse_is_name(p, "in") ? OP_IN : OP_NOT_IN;
        if (*op == OP_IN) return LEVEL_COMPARE;
        if (!jparse_is_name(p, "not")) return 0;
        jtoken t = jparse_peek(p);
        return t.kind == T_NAME && str_is(t.text, "in") ? LEVEL_COMPARE : 0;
    }
    if (p->tok.kind != T_OPERATOR) return 0;
    *op = (jop)p->tok.op;
    switch (p->tok.op) {
    case OP_EQUAL:
    case OP_UNEQUAL:
    case OP_AT_LEAST:
    case OP_AT_MOST:
    case '<':
    case '>': return LEVEL_COMPARE;
    case '+':
    case '-': return LEVEL_SUM;
    case '~': return LEVEL_CONCAT;
    case '*':
    case '/':
    case '%':
    case OP_FLOOR: return LEVEL_PRODUCT;
    case OP_POWER: return LEVEL_POWER;
    default: return 0;
    }
}

static jexpr_kind kind_of_level(int level) {
    return level == LEVEL_OR        ? X_OR
           : level == LEVEL_AND     ? X_AND
           : level == LEVEL_CONCAT  ? X_CONCAT
           : level == LEVEL_COMPARE ? X_COMPARE
                                    : X_CHAIN;
}

static jexpr *operators(jparser *p, int least) {
    jexpr *left = NULL;
    int open = 0; /* the level of the chain that `left` is, if this call made it */
    if (!jrun_enter(p->r)) goto done;
    if (least <= LEVEL_NOT && jparse_is_name(p, "not")) {
        left = jparse_new(p, X_NOT);
        jparse_next(p);
        jexpr *inner = operators(p, LEVEL_NOT);
        if (left) left->first = inner;
    } else {
        left = unary(p, true);
    }
    while (left && jrun_ok(p->r)) {
        jop op = OP_IN;
        int level = operator_level(p, &op);
        if (level == 0 || level < least) break;
        if (level != open) {
            jexpr *chain = jparse_new(p, kind_of_level(level));
            if (!chain) break;
            if (level <= LEVEL_AND || level == LEVEL_CONCAT)
                jparse_add(p, chain, left);
            else
                chain->first = left;
            left = chain;
            open = level;
        }
        jparse_next(p);
        if (level == LEVEL_COMPARE && op == OP_NOT_IN) jparse_next(p);
        jexpr *right = level == LEVEL_POWER ? unary(p, true) : operators(p, level == LEVEL_AND ? LEVEL_NOT : level + 1);
        if (level <= LEVEL_AND || level == LEVEL_CONCAT)
            jparse_add(p, left, right);
        else
            add_op(p, left, op, right);
    }
done:
    jrun_leave(p->r);
    return jrun_ok(p->r) ? left : NULL;
}

jexpr *jparse_expression(jparser *p, bool with_choice) {
    const char *unknown = p->unknown;
    jexpr *x = operators(p, LEVEL_OR);
    while (with_choice && jrun_ok(p->r) && jparse_is_name(p, "if")) {
        if (!unknown) p->unknown = NULL; /* jinja2 looks up filters of a choice only when it is taken */
        bool soft = p->soft;
        p->soft = true;
        jexpr *choice = jparse_new(p, X_CHOICE);
        jparse_next(p);
        jparse_add(p, choice, x);
        jparse_add(p, choice, operators(p, LEVEL_OR));
        if (jparse_skip_name(p, "else")) {
            if (jrun_enter(p->r)) jparse_add(p, choice, jparse_expression(p, true));
            jrun_leave(p->r);
        }
        p->soft = soft;
        x = choice;
    }
    return x;
}

jexpr *jparse_tuple(jparser *p, bool with_choice) {
    jexpr *x = jparse_expression(p, with_choice);
    if (!jparse_is_op(p, ',')) return x;
    jexpr *tuple = jparse_new(p, X_TUPLE);
    jparse_add(p, tuple, x);
    while (jrun_ok(p->r) && jparse_skip_op(p, ',')) {
        if (p->tok.kind == T_BLOCK_END || p->tok.kind == T_VALUE_END || jparse_is_name(p, "recursive")) break;
        jparse_add(p, tuple, jparse_expression(p, with_choice));
    }
    return tuple;
}
