/* Statements, loops and macros. */
#include "text/jinja_eval.h"

#include <stdio.h>
#include <string.h>

typedef enum { GO_ON, BREAK, CONTINUE } jump;

static jump exec(jrun *r, const jstmt *s);

bool jexec(jrun *r, const jstmt *s) { return exec(r, s) == GO_ON && jrun_ok(r); }

/* Runs a body with its output caught; the text of it. */
static jtext *caught(jrun *r, const jstmt *body) {
    jinterp *t = jinterp_of(r);
    jbuild *outer = t->out, *b = jrun_take(r, 1, sizeof *b);
    if (!b) return jtext_new(r, str_of(""), false);
    b->r = r;
    t->out = b;
    exec(r, body);
    t->out = outer;
    return jbuild_done(b);
}

/* ---- assignment ---- */

static void assign(jrun *r, const jtarget *t, jval v);

static __attribute__((noinline)) void assign_parts(jrun *r, const jtarget *t, jval v) {
    if (!j_iterable(v) || v.kind == J_UNDEFINED) {
        jrun_fail(r, "cannot unpack non-iterable %s object", j_type_name(v));
        return;
    }
    const jlist *l = j_items(r, v);
    if (!l) return;
    if (l->n > t->n)
        jrun_fail(r, "too many values to unpack (expected %zu)", t->n);
    else if (l->n < t->n)
        jrun_fail(r, "not enough values to unpack (expected %zu, got %zu)", t->n, l->n);
    for (size_t i = 0; i < t->n && jrun_ok(r); i++) assign(r, t->part[i], l->item[i]);
}

static void assign(jrun *r, const jtarget *t, jval v) {
    if (!jrun_enter(r)) {
        /* too deep */
    } else if (t->part) {
        assign_parts(r, t, v);
    } else if (!t->attribute) {
        jscope_set(r, jinterp_of(r)->scope, t->name, v);
    } else {
        jval *ns = jscope_find(r, jinterp_of(r)->scope, t->name);
        if (ns && ns->kind == J_NAMESPACE)
            jdict_put(r, ns->dict, j_text(t->attribute), v);
        else
            jrun_fail(r, "cannot assign attribute on non-namespace object");
    }
    jrun_leave(r);
}

/* ---- loops ---- */

/* The items for which the loop's `if` holds. */
static __attribute__((noinline)) jlist *chosen(jrun *r, const jlist *all, const jstmt *s) {
    jinterp *t = jinterp_of(r);
    jscope *outer = t->scope;
    jlist *some = jlist_new(r);
    for (size_t i = 0; some && i < all->n && jrun_ok(r); i++) {
        if (!jscope_open(r)) break;
        assign(r, s->target[0], all->item[i]);
        if (jrun_ok(r) && j_truth(r, jeval(r, s->test))) jlist_add(r, some, all->item[i]);
        t->scope = outer;
    }
    return some;
}

static jump loop_over(jrun *r, jval over, const jstmt *s, uint32_t depth0) {
    jinterp *t = jinterp_of(r);
    jscope *outer = t->scope;
    jlist *items = j_items(r, over);
    if (items && s->test) items = chosen(r, items, s);
    jloop *l = items ? jrun_take(r, 1, sizeof *l) : NULL;
    if (!l) return GO_ON;
    *l = (jloop){.items = items, .depth0 = depth0, .stmt = s->recursive ? s : NULL, .scope = outer};
    l->changed.kind = J_ABSENT;
    const size_t n = items->n;
    for (l->at = 0; l->at < n && jrun_step(r, 0); l->at++) {
        if (!jscope_open(r)) break;
        jscope_set(r, t->scope, s->id_loop, (jval){.kind = J_LOOP, .loop = l});
        assign(r, s->target[0], items->item[l->at]);
        jump j = exec(r, s->body);
        t->scope = outer;
        if (j == BREAK) break;
    }
    if (n || !s->otherwise || !jrun_ok(r)) return GO_ON;
    if (!jscope_open(r)) return GO_ON;
    jump j = exec(r, s->otherwise);
    t->scope = outer;
    return j;
}

jval jexec_loop(jrun *r, jval items, const jstmt *s, uint32_t depth0) {
    jinterp *t = jinterp_of(r);
    jbuild *outer = t->out, *b = jrun_take(r, 1, sizeof *b);
    if (!b) return j_undefined(NULL);
    b->r = r;
    t->out = b;
    if (jrun_enter(r)) loop_over(r, items, s, depth0);
    jrun_leave(r);
    t->out = outer;
    return j_text(jbuild_done(b));
}

/* ---- macros ---- */

static void too_many(jrun *r, const jmacro *m) {
    jrun_fail(r, "macro '%.*s' takes not more than %zu argument(s)", STR(jtext_str(m->name)), m->n);
}

static size_t parameter_of(const jmacro *m, str name) {
    for (size_t i = 0; i < m->n; i++)
        if (str_eq(jtext_str(m->parameter[i].text), name)) return i;
    return m->n;
}

/* Named arguments that are no parameter: caller, or those of **kwargs. */
static void extra_named(jrun *r, const jmacro *m, const jtext *name, jval v, jdict *kwargs) {
    if (str_is(jtext_str(name), "caller") && m->uses_caller) {
        jscope_set(r, jinterp_of(r)->scope, m->id_caller, v);
    } else if (m->uses_kwargs) {
        jdict_put(r, kwargs, j_text(jtext_new(r, jtext_str(name), false)), v);
    } else {
        jrun_fail(r, "macro '%.*s' takes no keyword argument '%.*s'", STR(jtext_str(m->name)), STR(jtext_str(name)));
    }
}

static __attribute__((noinline)) void bind(jrun *r, const jmacro *m, const jargs *a) {
    jscope *s = jinterp_of(r)->scope;
    jval *v = jrun_take(r, m->n + 1, sizeof *v);
    jdict *kwargs = m->uses_kwargs ? jdict_new(r) : NULL;
    jlist *varargs = m->uses_varargs ? jlist_new(r) : NULL;
    if (!v) return;
    if (m->uses_caller) jscope_set(r, s, m->id_caller, j_undefined(jtext_new(r, str_of("No caller defined"), false)));
    for (size_t i = 0; i < m->n; i++) v[i].kind = J_ABSENT;
    for (size_t i = 0; i < a->n && jrun_ok(r); i++) {
        if (i < m->n)
            v[i] = a->positional[i];
        else if (varargs)
            jlist_add(r, varargs, a->positional[i]);
        else
            too_many(r, m);
    }
    for (size_t i = 0; i < a->n_named && jrun_ok(r); i++) {
        size_t k = parameter_of(m, jtext_str(a->name[i]));
        if (k == m->n)
            extra_named(r, m, a->name[i], a->named[i], kwargs);
        else if (v[k].kind != J_ABSENT)
            jrun_fail(r, "macro '%.*s' got multiple values for argument '%.*s'", STR(jtext_str(m->name)),
                      STR(jtext_str(a->name[i])));
        else
            v[k] = a->named[i];
    }
    for (size_t i = 0; i < m->n && jrun_ok(r); i++) {
        if (v[i].kind == J_ABSENT && m->parameter[i].otherwise)
            v[i] = jeval(r, m->parameter[i].otherwise);
        else if (v[i].kind == J_ABSENT)
            v[i] =
                j_undefined(jtext_format(r, "parameter '%.*s' was not provided", STR(jtext_str(m->parameter[i].text))));
        jscope_set(r, s, m->parameter[i].name, v[i]);
    }
    if (kwargs) jscope_set(r, s, m->id_kwargs, j_dict(kwargs));
    if (varargs) jscope_set(r, s, m->id_varargs, j_list(J_TUPLE, varargs));
}

jval jexec_macro(jrun *r, const jmacro *m, const jargs *a) {
    jinterp *t = jinterp_of(r);
    jscope *outer = t->scope;
    jtext *text = NULL;
    const uint32_t line = r->line;
    if (jrun_enter(r)) {
        t->scope = m->scope;
        if (jscope_open(r)) bind(r, m, a);
        if (jrun_ok(r)) text = caught(r, m->body);
        t->scope = outer;
    }
    jrun_leave(r);
    if (jrun_ok(r)) r->line = line;
    return text ? j_text(text) : j_undefined(NULL);
}

static jval closure(jrun *r, const jmacro *m) {
    jmacro *c = jrun_take(r, 1, sizeof *c);
    if (!c) return j_undefined(NULL);
    *c = *m;
    c->scope = jinterp_of(r)->scope;
    return (jval){.kind = J_MACRO, .macro = c};
}

/* {% call f(x) %}body{% endcall %}: f(x, caller=body). The call is the last thing behind the value. */
static __attribute__((noinline)) void exec_call(jrun *r, const jstmt *s) {
    static const jtext caller = {.p = "caller", .n = 6};
    jexpr *call = jrun_take(r, 1, sizeof *call), *body = jrun_take(r, 1, sizeof *body);
    jarguments *args = jrun_take(r, 1, sizeof *args);
    jpost *post = jrun_take(r, s->value->n, sizeof *post);
    const size_t n = s->value->post[s->value->n - 1].args->n_named;
    const jtext **names = jrun_take(r, n + 1, sizeof *names);
    jexpr **named = jrun_take(r, n + 1, sizeof *named);
    if (!call || !body || !args || !post || !names || !named) return;
    *call = *s->value;
    memcpy(post, call->post, call->n * sizeof *post);
    call->post = post;
    *args = *post[call->n - 1].args;
    post[call->n - 1].args = args;
    for (size_t i = 0; i < n; i++) names[i] = args->name[i], named[i] = args->named[i];
    names[n] = &caller;
    named[n] = body;
    *body = (jexpr){.kind = X_CONST, .line = s->line, .value = closure(r, s->macro)};
    args->name = names, args->named = named, args->n_named = n + 1;
    jval v = jeval(r, call);
    if (jrun_ok(r)) j_str_to(r, v, jinterp_of(r)->out);
}

/* ---- the others ---- */

/* Filters written for a block: the parser left them over an empty constant, which the block's text replaces. */
static jval filtered(jrun *r, const jexpr *x, jtext *text) {
    if (x->kind != X_POST) return j_text(text);
    jexpr *copy = jrun_take(r, 1, sizeof *copy), *first = jrun_take(r, 1, sizeof *first);
    if (!copy || !first) return j_undefined(NULL);
    *copy = *x;
    *first = (jexpr){.kind = X_CONST, .line = x->line, .value = j_text(text)};
    copy->first = first;
    return jeval(r, copy);
}

static __attribute__((noinline)) void exec_block(jrun *r, const jstmt *s) { /* CAPTURE, FILTER */
    jinterp *t = jinterp_of(r);
    jscope *outer = t->scope;
    if (!jscope_open(r)) return;
    jtext *text = caught(r, s->body);
    t->scope = outer;
    if (!jrun_ok(r)) return;
    jval v = filtered(r, s->value, text);
    if (!jrun_ok(r)) return;
    if (s->kind == S_CAPTURE)
        assign(r, s->target[0], v);
    else
        j_str_to(r, v, t->out);
}

static __attribute__((noinline)) jump exec_with(jrun *r, const jstmt *s) { /* WITH, SCOPE */
    jinterp *t = jinterp_of(r);
    jscope *outer = t->scope;
    jval *v = jrun_take(r, s->n + 1, sizeof *v);
    for (size_t i = 0; v && i < s->n && jrun_ok(r); i++) v[i] = jeval(r, s->values[i]);
    if (!v || !jscope_open(r)) return GO_ON;
    for (size_t i = 0; i < s->n && jrun_ok(r); i++) assign(r, s->target[i], v[i]);
    jump j = jrun_ok(r) ? exec(r, s->body) : GO_ON;
    t->scope = outer;
    return j;
}

static jump exec_if(jrun *r, const jstmt *s) {
    for (;;) {
        jval v = jeval(r, s->value);
        if (!jrun_ok(r)) return GO_ON;
        if (j_truth(r, v)) return exec(r, s->body);
        const jstmt *next = s->otherwise;
        if (!next) return GO_ON;
        if (next->kind != S_IF || !next->is_elif) return exec(r, next);
        s = next;
    }
}

static jump exec_one(jrun *r, const jstmt *s) {
    jinterp *t = jinterp_of(r);
    switch (s->kind) {
    case S_TEXT: jbuild_text(t->out, s->text); return GO_ON;
    case S_PRINT: {
        jval v = jeval(r, s->value);
        if (jrun_ok(r)) j_str_to(r, v, t->out);
        return GO_ON;
    }
    case S_IF: return exec_if(r, s);
    case S_FOR: {
        jval v = jeval(r, s->value);
        return jrun_ok(r) ? loop_over(r, v, s, 0) : GO_ON;
    }
    case S_SET: {
        jval v = jeval(r, s->value);
        if (jrun_ok(r)) assign(r, s->target[0], v);
        return GO_ON;
    }
    case S_MACRO: assign(r, s->target[0], closure(r, s->macro)); return GO_ON;
    case S_CALL: exec_call(r, s); return GO_ON;
    case S_CAPTURE:
    case S_FILTER: exec_block(r, s); return GO_ON;
    case S_WITH:
    case S_SCOPE: return exec_with(r, s);
    case S_BREAK: return BREAK;
    case S_CONTINUE: return CONTINUE;
    }
    return GO_ON;
}

static jump exec(jrun *r, const jstmt *s) {
    jump j = GO_ON;
    if (jrun_enter(r))
        for (; s && j == GO_ON && jrun_step(r, 0); s = s->next) {
            r->line = s->line;
            j = exec_one(r, s);
        }
    jrun_leave(r);
    return jrun_ok(r) ? j : BREAK;
}

void jloop_repr(const jloop *l, jbuild *out) {
    char buf[64];
    jbuild_add(out, buf, (size_t)snprintf(buf, sizeof buf, "<LoopContext %zu/%zu>", l->at + 1, l->items->n), false);
}
