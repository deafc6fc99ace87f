/* Arguments of the built-in functions, filters, tests and methods. */
#include "text/jinja_eval.h"

#include <string.h>

static str next_parameter(const char **list, bool *optional) { /* "width first? blank?" */
    while (**list == ' ') ++*list;
    size_t n = strcspn(*list, " ");
    str s = {*list, n};
    *list += n;
    *optional = n && s.p[n - 1] == '?';
    s.n -= *optional;
    return s;
}

static size_t named_place(const jargs *a, str name) {
    for (size_t i = 0; i < a->n_named; i++)
        if (str_eq(jtext_str(a->name[i]), name)) return i;
    return a->n_named;
}

bool jargs_spread(jrun *r, const char *what, const jargs *a, const char *parameters, jval out[JARGS_MAX]) {
    size_t n = 0, used = 0;
    bool optional;
    for (str p = next_parameter(&parameters, &optional); p.n && jrun_ok(r);
         p = next_parameter(&parameters, &optional)) {
        size_t k = named_place(a, p);
        out[n] = (jval){.kind = J_ABSENT};
        if (k < a->n_named) {
            used++;
            if (n < a->n) jrun_fail(r, "%s() got multiple values for argument '%.*s'", what, STR(p));
            out[n] = a->named[k];
        } else if (n < a->n) {
            out[n] = a->positional[n];
        } else if (!optional) {
            jrun_fail(r, "%s() missing required argument '%.*s'", what, STR(p));
        }
        n++;
    }
    if (a->n > n) jrun_fail(r, "%s() takes at most %zu argument(s), %zu given", what, n, a->n);
    if (a->n_named > used) jrun_fail(r, "%s() got an unexpected keyword argument", what);
    return jrun_ok(r);
}

bool jargs_int(jrun *r, jval v, int64_t absent, int64_t *out) {
    *out = v.kind == J_ABSENT ? absent : j_is_int(v) ? j_int_of(v) : 0;
    if (v.kind == J_UNDEFINED)
        jeval_refuse_undefined(r, v);
    else if (v.kind != J_ABSENT && !j_is_int(v))
        jrun_fail(r, "'%s' object cannot be interpreted as an integer", j_type_name(v));
    return jrun_ok(r);
}

bool jargs_text(jrun *r, jval v, jtext **out) {
    *out = v.kind == J_TEXT ? v.text : NULL;
    if (v.kind == J_UNDEFINED)
        jeval_refuse_undefined(r, v);
    else if (v.kind != J_ABSENT && v.kind != J_NONE && v.kind != J_TEXT)
        jrun_fail(r, "a string is expected, not %s", j_type_name(v));
    return jrun_ok(r);
}
