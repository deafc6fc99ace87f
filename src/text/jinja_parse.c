/* Statements. */
#include "text/jinja_parse.h"

#include <string.h>

/* ---- tokens ---- */

void jparse_next(jparser *p) {
    p->tok = jlex_next(&p->lex);
    if (jrun_ok(p->r)) p->r->line = p->tok.line;
}

jtoken jparse_peek(const jparser *p) {
    jlexer ahead = p->lex;
    return jlex_next(&ahead);
}

void jparse_refuse(jparser *p, const char *wanted) {
    static const char *const names[] = {"end of template", "text", "start of a tag", "end of a tag", "start of a value",
                                        "end of a value",  "name", "string",         "number",       "operator"};
    p->r->line = p->tok.line;
    if (p->tok.kind == T_NAME)
        jrun_fail(p->r, "unexpected '%.*s', expected %s", STR(p->tok.text), wanted);
    else if (p->tok.kind == T_OPERATOR)
        jrun_fail(p->r, "unexpected '%c', expected %s", p->tok.op, wanted);
    else
        jrun_fail(p->r, "unexpected %s, expected %s", names[p->tok.kind], wanted);
}

bool jparse_is_op(const jparser *p, int op) { return p->tok.kind == T_OPERATOR && p->tok.op == op; }
bool jparse_is_name(const jparser *p, const char *name) { return p->tok.kind == T_NAME && str_is(p->tok.text, name); }

bool jparse_skip_op(jparser *p, int op) {
    bool is = jparse_is_op(p, op);
    if (is) jparse_next(p);
    return is;
}

bool jparse_skip_name(jparser *p, const char *name) {
    bool is = jparse_is_name(p, name);
    if (is) jparse_next(p);
    return is;
}

void jparse_expect_op(jparser *p, int op) {
    if (jparse_skip_op(p, op)) return;
    char wanted[] = {'\'', (char)op, '\'', 0};
    jparse_refuse(p, wanted);
}

jtext *jparse_text_of(jparser *p, str s) { return jtext_new(p->r, s, false); }

uint32_t jparse_name_id(jparser *p, str name) {
    jval *known = p->ids ? jdict_find_str(p->r, p->ids, name) : NULL;
    if (known) return (uint32_t)known->i;
    const jtext **more = jrun_grow(p->r, p->names, p->n_names, p->n_names + 1, &p->cap_names, sizeof *more);
    if (!more) return 0;
    p->names = more;
    jtext *t = jparse_text_of(p, name);
    more[p->n_names] = t;
    jdict_put(p->r, p->ids, j_text(t), j_int((int64_t)p->n_names));
    return (uint32_t)p->n_names++;
}

bool jparse_reserved(str name) {
    static const char *const words[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (str_is(name, words[i])) return true;
    return false;
}

/* ---- statements ---- */

static const jstmt *body(jparser *p, const char *end, const char *end2, const char *end3);

static jstmt *new_stmt(jparser *p, jstmt_kind kind) {
    jstmt *s = jrun_take(p->r, 1, sizeof *s);
    if (s) *s = (jstmt){.kind = kind, .line = p->tok.line};
    return s;
}

static void end_tag(jparser *p) {
    if (p->tok.kind == T_BLOCK_END)
        jparse_next(p);
    else
        jparse_refuse(p, "end of the tag");
}

static const jstmt *body_to(jparser *p, const char *end) { /* ... %} body {% end: at the tag's end afterwards */
    end_tag(p);
    const jstmt *b = body(p, end, NULL, NULL);
    jparse_next(p);
    return b;
}

/* As body_to, where break and continue do not reach out and a name not found fails when read. */
static const jstmt *own_body(jparser *p, const char *end) {
    bool soft = p->soft, in_loop = p->in_loop;
    p->soft = p->in_loop = false;
    const jstmt *b = body_to(p, end);
    p->soft = soft;
    p->in_loop = in_loop;
    return b;
}

static jtarget *one_target(jparser *p, bool with_namespace) {
    jtarget *t = jrun_take(p->r, 1, sizeof *t);
    if (!t) return NULL;
    t->line = p->tok.line;
    if (p->tok.kind != T_NAME || jparse_reserved(p->tok.text)) {
        jparse_refuse(p, "a name to assign to");
        return NULL;
    }
    t->name = jparse_name_id(p, p->tok.text);
    jparse_next(p);
    if (!with_namespace || !jparse_skip_op(p, '.')) return t;
    if (p->tok.kind != T_NAME) {
        jparse_refuse(p, "a name");
        return NULL;
    }
    t->attribute = jparse_text_of(p, p->tok.text);
    jparse_next(p);
    return t;
}

static void add_target(jparser *p, jtarget ***list, size_t *n, size_t *cap, jtarget *t) {
    jtarget **more = t ? jrun_grow(p->r, *list, *n, *n + 1, cap, sizeof *more) : NULL;
    if (!more) return;
    *list = more;
    more[(*n)++] = t;
}

static jtarget *target(jparser *p, bool with_namespace);

static jtarget *target_part(jparser *p, bool with_namespace) {
    if (!jparse_is_op(p, '(') && !jparse_is_op(p, '[')) return one_target(p, with_namespace);
    char close = jparse_is_op(p, '(') ? ')' : ']';
    jtarget *t = NULL;
    jparse_next(p);
    if (jrun_enter(p->r)) t = target(p, with_namespace);
    jrun_leave(p->r);
    jparse_expect_op(p, close);
    return t;
}

static jtarget *target(jparser *p, bool with_namespace) {
    jtarget *first = target_part(p, with_namespace);
    if (!first || !jparse_is_op(p, ',')) return first;
    jtarget *t = jrun_take(p->r, 1, sizeof *t);
    if (!t) return NULL;
    t->line = first->line;
    add_target(p, &t->part, &t->n, &t->cap, first);
    while (jrun_ok(p->r) && jparse_skip_op(p, ',')) {
        if (jparse_is_name(p, "in") || jparse_is_op(p, '=') || jparse_is_op(p, ')')) break;
        add_target(p, &t->part, &t->n, &t->cap, target_part(p, with_namespace));
    }
    return t;
}

static void set_target(jparser *p, jstmt *s, jtarget *t) { add_target(p, &s->target, &s->n, &s->cap, t); }

static jstmt *parse_if(jparser *p) {
    jstmt *first = NULL, *last = NULL;
    bool soft = p->soft;
    p->soft = true;
    do {
        jstmt *s = new_stmt(p, S_IF);
        jparse_next(p); /* if, elif */
        jexpr *test = jparse_tuple(p, false);
        end_tag(p);
        const jstmt *b = body(p, "elif", "else", "endif");
        if (!s) break;
        s->value = test;
        s->body = b;
        s->is_elif = last != NULL;
        if (last)
            last->otherwise = s;
        else
            first = s;
        last = s;
    } while (jrun_ok(p->r) && jparse_is_name(p, "elif"));
    if (jrun_ok(p->r) && jparse_skip_name(p, "else")) {
        end_tag(p);
        const jstmt *b = body(p, "endif", NULL, NULL);
        if (last) last->otherwise = b;
    }
    jparse_next(p);
    p->soft = soft;
    return first;
}

static jstmt *parse_for(jparser *p) {
    jstmt *s = new_stmt(p, S_FOR);
    bool soft = p->soft, in_loop = p->in_loop;
    jparse_next(p);
    jtarget *t = target(p, false);
    if (!jparse_skip_name(p, "in")) jparse_refuse(p, "'in'");
    jexpr *over = jparse_tuple(p, false);
    jexpr *test = jparse_skip_name(p, "if") ? jparse_expression(p, true) : NULL;
    bool recursive = jparse_skip_name(p, "recursive");
    end_tag(p);
    p->soft = false;
    p->in_loop = true;
    const jstmt *b = body(p, "endfor", "else", NULL), *otherwise = NULL;
    p->in_loop = in_loop;
    if (jparse_skip_name(p, "else")) {
        end_tag(p);
        otherwise = body(p, "endfor", NULL, NULL);
    }
    jparse_next(p);
    p->soft = soft;
    if (!s || !jrun_ok(p->r)) return s;
    s->value = over, s->test = test, s->recursive = recursive, s->body = b, s->otherwise = otherwise;
    s->id_loop = jparse_name_id(p, str_of("loop"));
    set_target(p, s, t);
    return s;
}

static jexpr *empty_text(jparser *p) {
    jexpr *x = jparse_new(p, X_CONST);
    if (x) x->value = j_text(jparse_text_of(p, str_of("")));
    return x;
}

static jstmt *parse_set(jparser *p) {
    jstmt *s = new_stmt(p, S_SET);
    jparse_next(p);
    jtarget *t = target(p, true);
    if (!s || !jrun_ok(p->r)) return s;
    set_target(p, s, t);
    if (jparse_skip_op(p, '=')) {
        s->value = jparse_tuple(p, true);
        return s;
    }
    s->kind = S_CAPTURE;
    s->value = jparse_filters(p, empty_text(p));
    s->body = own_body(p, "endset");
    return s;
}

static void parse_parameters(jparser *p, jmacro *m) {
    jparse_expect_op(p, '(');
    while (jrun_ok(p->r) && !jparse_is_op(p, ')')) {
        if (m->n) jparse_expect_op(p, ',');
        if (jparse_is_op(p, ')')) break;
        if (p->tok.kind != T_NAME || jparse_reserved(p->tok.text)) {
            jparse_refuse(p, "a parameter's name");
            return;
        }
        jparameter *more = jrun_grow(p->r, m->parameter, m->n, m->n + 1, &m->cap, sizeof *more);
        if (!more) return;
        m->parameter = more;
        jparameter *one = &more[m->n++];
        *one = (jparameter){.name = jparse_name_id(p, p->tok.text), .text = jparse_text_of(p, p->tok.text)};
        jparse_next(p);
        if (jparse_skip_op(p, '='))
            one->otherwise = jparse_expression(p, true);
        else if (m->n > 1 && more[m->n - 2].otherwise)
            jparse_refuse(p, "a default: non-default argument follows default argument");
    }
    jparse_expect_op(p, ')');
}

/* The rest of a macro or call block, from its parameters on. */
static void parse_macro_rest(jparser *p, jmacro *m, bool with_parameters, const char *end, jexpr **call) {
    jmacro *outer = p->macro;
    m->line = p->tok.line;
    m->id_caller = jparse_name_id(p, str_of("caller"));
    m->id_varargs = jparse_name_id(p, str_of("varargs"));
    m->id_kwargs = jparse_name_id(p, str_of("kwargs"));
    p->macro = m;
    if (with_parameters) parse_parameters(p, m);
    p->macro = outer;
    if (call) *call = jparse_expression(p, true);
    p->macro = m;
    m->body = own_body(p, end);
    p->macro = outer;
    if (outer && end[3] == 'c') { /* a call block inside a macro: its own caller is the macro's concern */
        outer->uses_caller |= m->uses_caller;
        outer->uses_varargs |= m->uses_varargs;
        outer->uses_kwargs |= m->uses_kwargs;
    }
}

static jstmt *parse_macro(jparser *p) {
    jstmt *s = new_stmt(p, S_MACRO);
    jmacro *m = jrun_take(p->r, 1, sizeof *m);
    jparse_next(p);
    jtarget *t = one_target(p, false);
    if (!s || !m || !t) return s;
    m->name = p->names[t->name];
    s->macro = m;
    set_target(p, s, t);
    parse_macro_rest(p, m, true, "endmacro", NULL);
    return s;
}

static jstmt *parse_call(jparser *p) {
    jstmt *s = new_stmt(p, S_CALL);
    jmacro *m = jrun_take(p->r, 1, sizeof *m);
    jparse_next(p);
    if (!s || !m) return s;
    m->name = jparse_text_of(p, str_of("caller"));
    s->macro = m;
    parse_macro_rest(p, m, jparse_is_op(p, '('), "endcall", &s->value);
    const jexpr *x = s->value;
    if (jrun_ok(p->r) && (x->kind != X_POST || x->post[x->n - 1].kind != POST_CALL)) jparse_refuse(p, "a call");
    return s;
}

static jstmt *parse_filter(jparser *p) {
    jstmt *s = new_stmt(p, S_FILTER);
    p->tok = (jtoken){.kind = T_OPERATOR, .op = '|', .line = p->tok.line}; /* {% filter a|b %} is |a|b */
    jexpr *x = jparse_filters(p, empty_text(p));
    const jstmt *b = own_body(p, "endfilter");
    if (s) s->value = x, s->body = b;
    return s;
}

static jstmt *parse_with(jparser *p) {
    jstmt *s = new_stmt(p, S_WITH);
    jparse_next(p);
    while (s && jrun_ok(p->r) && p->tok.kind != T_BLOCK_END) {
        if (s->n) jparse_expect_op(p, ',');
        jtarget *t = target_part(p, false);
        jparse_expect_op(p, '=');
        jexpr *value = jparse_expression(p, true);
        jexpr **more = jrun_grow(p->r, s->values, s->n, s->n + 1, &s->cap_values, sizeof *more);
        if (!more || !t) return s;
        s->values = more;
        more[s->n] = value;
        set_target(p, s, t);
    }
    bool soft = p->soft;
    p->soft = false;
    const jstmt *b = body_to(p, "endwith");
    p->soft = soft;
    if (s) s->body = b;
    return s;
}

static jstmt *parse_scope(jparser *p) { /* generation, block NAME, autoescape false */
    jstmt *s = new_stmt(p, S_SCOPE);
    const bool block = jparse_is_name(p, "block"), escape = jparse_is_name(p, "autoescape");
    jparse_next(p);
    if (block) {
        if (p->tok.kind != T_NAME) jparse_refuse(p, "a name");
        jparse_next(p);
    } else if (escape) {
        if (!jparse_is_name(p, "false") && !jparse_is_name(p, "False"))
            jrun_fail(p->r, "autoescape is not built in: a prompt is no HTML");
        jparse_next(p);
    }
    end_tag(p);
    bool soft = p->soft, in_loop = p->in_loop;
    p->soft = p->in_loop = false;
    const char *end = block ? "endblock" : escape ? "endautoescape" : "endgeneration";
    const jstmt *b = body(p, end, NULL, NULL);
    p->soft = soft;
    p->in_loop = in_loop;
    jparse_next(p);
    if (block && p->tok.kind == T_NAME) jparse_next(p); /* {% endblock name %} */
    if (s) s->body = b;
    return s;
}

static jstmt *parse_jump(jparser *p) {
    jstmt *s = new_stmt(p, jparse_is_name(p, "break") ? S_BREAK : S_CONTINUE);
    if (!p->in_loop) jrun_fail(p->r, "'%.*s' outside loop", STR(p->tok.text));
    jparse_next(p);
    return s;
}

static const struct {
    const char *name;
    jstmt *(*parse)(jparser *p);
} statements[] = {
    {"if", parse_if},         {"for", parse_for},          {"set", parse_set},     {"macro", parse_macro},
    {"call", parse_call},     {"filter", parse_filter},    {"with", parse_with},   {"break", parse_jump},
    {"continue", parse_jump}, {"generation", parse_scope}, {"block", parse_scope}, {"autoescape", parse_scope}};

static jstmt *statement(jparser *p) { /* after {% */
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!jparse_is_name(p, statements[i].name)) continue;
        jstmt *s = NULL;
        if (jrun_enter(p->r)) s = statements[i].parse(p);
        jrun_leave(p->r);
        end_tag(p);
        return s;
    }
    if (p->tok.kind == T_NAME)
        jrun_fail(p->r, "encountered unknown tag '%.*s'", STR(p->tok.text));
    else
        jparse_refuse(p, "a tag's name");
    return NULL;
}

static jstmt *print(jparser *p) {
    jstmt *s = new_stmt(p, S_PRINT);
    jparse_next(p);
    jexpr *x = jparse_tuple(p, true);
    if (p->tok.kind == T_VALUE_END)
        jparse_next(p);
    else
        jparse_refuse(p, "end of print statement");
    if (s) s->value = x;
    return s;
}

/* Statements to the tag that begins with one of these words, which is the current token afterwards; NULL: to the end. */
static const jstmt *body(jparser *p, const char *end, const char *end2, const char *end3) {
    const jstmt *first = NULL;
    jstmt *last = NULL;
    while (jrun_ok(p->r)) {
        jstmt *s = NULL;
        if (p->tok.kind == T_TEXT) {
            s = new_stmt(p, S_TEXT);
            if (s) s->text = jparse_text_of(p, p->tok.text);
            jparse_next(p);
        } else if (p->tok.kind == T_VALUE_BEGIN) {
            s = print(p);
        } else if (p->tok.kind == T_BLOCK_BEGIN) {
            jparse_next(p);
            if ((end && jparse_is_name(p, end)) || (end2 && jparse_is_name(p, end2)) ||
                (end3 && jparse_is_name(p, end3)))
                return first;
            s = statement(p);
        } else {
            if (end) {
                jrun_fail(p->r, "unexpected end of template; looking for '%s'", end3 ? end3 : end);
            }
            return first;
        }
        if (!s) continue;
        if (last)
            last->next = s;
        else
            first = s;
        last = s;
        while (last->next) last = last->next;
    }
    return NULL;
}

const jstmt *jparse(jparser *p, jrun *r, str source) {
    *p = (jparser){.r = r, .lex = jlex_start(r, source), .ids = jdict_new(r)};
    jparse_next(p);
    const jstmt *all = body(p, NULL, NULL, NULL);
    if (jrun_ok(r) && p->unknown) {
        r->line = p->unknown_line;
        jrun_fail(r, "no %s named '%.*s'", p->unknown, STR(jtext_str(p->unknown_name)));
    }
    return all;
}
