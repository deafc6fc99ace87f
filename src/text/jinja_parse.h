/* Template source -> jstmt, with jinja2's grammar. Recursion is bounded by JINJA_MAX_DEPTH. All of it lives in the run. */
#ifndef ROCMFORGE_TEXT_JINJA_PARSE_H
#define ROCMFORGE_TEXT_JINJA_PARSE_H

#include "text/jinja_ast.h"
#include "text/jinja_lex.h"

typedef struct {
    jrun *r;
    jlexer lex;
    jtoken tok; /* the current one */
    jdict *ids; /* name -> id */
    const jtext **names;
    size_t n_names, cap_names;
    jmacro *macro; /* whose body is read; NULL: none */
    bool in_loop;
    bool soft;           /* inside an if: an unknown filter fails only where it is reached */
    const char *unknown; /* "filter" or "test": one that is reached for sure */
    const jtext *unknown_name;
    uint32_t unknown_line;
} jparser;

const jstmt *jparse(jparser *p, jrun *r, str source); /* NULL with r->code OK: an empty template */

/* for jinja_parse_expr.c and jinja_parse.c */
void jparse_next(jparser *p);
jtoken jparse_peek(const jparser *p); /* the token after the current one; inside of a tag only */
void jparse_refuse(jparser *p, const char *wanted);
bool jparse_is_op(const jparser *p, int op);
bool jparse_is_name(const jparser *p, const char *name);
bool jparse_skip_op(jparser *p, int op);
bool jparse_skip_name(jparser *p, const char *name);
void jparse_expect_op(jparser *p, int op);
uint32_t jparse_name_id(jparser *p, str name);
jtext *jparse_text_of(jparser *p, str s); /* borrows */
bool jparse_reserved(str name);           /* true, none, ...: cannot be assigned to */

jexpr *jparse_new(jparser *p, jexpr_kind kind);
void jparse_add(jparser *p, jexpr *list, jexpr *item);
jexpr *jparse_expression(jparser *p, bool with_choice); /* never NULL while the run is well */
jexpr *jparse_tuple(jparser *p, bool with_choice); /* a, b, c or one expression; ends at the tag's end or `recursive` */
jexpr *jparse_filters(jparser *p, jexpr *base);    /* base | f | g */
jarguments *jparse_arguments(jparser *p);          /* after "(" */
jexpr *jparse_post(jparser *p, jexpr *base, bool with_filters);

#endif
