/* Running a template: scopes, expressions, calls. Python's names for what goes wrong are kept in messages, since that is
 * what a template's author knows. */
#ifndef ROCMFORGE_TEXT_JINJA_EVAL_H
#define ROCMFORGE_TEXT_JINJA_EVAL_H

#include "text/jinja_ast.h"

/* Variables of one block. Found by walking outwards; assigned in the innermost. */
typedef struct {
    uint32_t name;
    jval value;
} jbinding;

typedef struct jscope {
    struct jscope *outer; /* NULL: the outermost, whose bindings are indexed by name */
    jbinding *binding;
    size_t n, cap;
} jscope;

typedef struct {
    jrun run; /* first: a jrun * of a rendering is a jinterp * */
    jbuild *out;
    jscope *scope, *root;
    const jtext *const *names;
    size_t n_names;
} jinterp;
static inline jinterp *jinterp_of(jrun *r) { return (jinterp *)(void *)r; }

struct jloop {
    jlist *items;
    size_t at; /* index0 */
    uint32_t depth0;
    const jstmt *stmt; /* recursive: to run again; else NULL */
    jscope *scope;     /* around the loop */
    jval changed;      /* the last arguments of loop.changed() */
};
static inline size_t jloop_length(const jloop *l) { return l->items->n; }
void jloop_repr(const jloop *l, jbuild *out);

/* Arguments of one call, evaluated. */
typedef struct {
    jval *positional;
    size_t n;
    const jtext **name;
    jval *named;
    size_t n_named;
} jargs;

struct jfunction {
    const char *name;
    jval (*call)(jrun *r, const jargs *a);
};
struct jmethod {
    jval self;
    const char *name;
    jval (*call)(jrun *r, jval self, const jargs *a);
};
typedef struct {
    const char *name;
    jval (*apply)(jrun *r, jval in, const jargs *a);
} jfilter;
typedef struct {
    const char *name;
    bool (*holds)(jrun *r, jval in, const jargs *a);
} jtest;

const jfilter *jfilter_find(str name); /* NULL: none */
const jtest *jtest_find(str name);
const jfunction *jglobal_find(str name); /* range, namespace, ... */
jval jmethod_find(jrun *r, jval self,
                  str name); /* a method, or what jinja2's sandbox says of it; kind J_ABSENT: none */

extern const jfilter jfilters_text[], jfilters_list[], jfilters_value[]; /* each ends with a NULL name */

/* Spreads arguments over parameters: "name" required, "name?" optional; out[i] is J_ABSENT where none was given.
 * false: too few, too many or unknown ones, and the run failed. what: for the message. */
enum { JARGS_MAX = 6 };
bool jargs_spread(jrun *r, const char *what, const jargs *a, const char *parameters, jval out[JARGS_MAX]);
bool jargs_int(jrun *r, jval v, int64_t absent, int64_t *out); /* an integer argument */
bool jargs_text(jrun *r, jval v, jtext **out);                 /* a text argument; absent or None: NULL */

jval jeval(jrun *r, const jexpr *x);
bool jexec(jrun *r, const jstmt *s); /* a body; false: left by break, continue or failure */
jval jeval_call(jrun *r, jval f, const jargs *a);
jval jeval_attribute(jrun *r, jval of, str name); /* x.name */
jval jeval_item(jrun *r, jval of, jval index);    /* x[index] */
jval jeval_slice(jrun *r, jval of, const jval part[3]);
jval jeval_filter(jrun *r, str name, jval in, const jargs *a);
bool jeval_test(jrun *r, str name, jval in, const jargs *a);
void jeval_refuse_undefined(jrun *r, jval v);
jval jeval_path(jrun *r, jval of, jval path); /* attribute=: "a.b" or 0, as filters take it */

jval jexec_loop(jrun *r, jval items, const jstmt *s, uint32_t depth0); /* loop(...) of a recursive for: its text */
jval jexec_macro(jrun *r, const jmacro *m, const jargs *a);

jval jop_binary(jrun *r, jop op, jval a, jval b);
bool jop_compare(jrun *r, jop op, jval a, jval b);
jval jop_negate(jrun *r, jval v);
jval jop_percent(jrun *r, jtext *format, jval args);       /* "%s" % args */
jval jformat_call(jrun *r, jtext *format, const jargs *a); /* "{}".format(args) */
jval jjson(jrun *r, jval v, const jargs *a);               /* tojson */

/* Stable order by Python's <; key NULL: the items themselves. Copies, NULL where the run failed. */
jlist *jlist_sorted(jrun *r, const jlist *l, const jlist *keys, bool reverse);
const jpair *jpairs_sorted(jrun *r, const jdict *d); /* by key */

jscope *jscope_open(jrun *r); /* inside the current one, and current from now on; NULL: failed */
jval *jscope_find(jrun *r, jscope *s, uint32_t name); /* NULL: nowhere */
void jscope_set(jrun *r, jscope *s, uint32_t name, jval v);

#endif
