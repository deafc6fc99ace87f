/* A parsed template. Immutable, in the memory of the template; evaluated by jinja_eval.c and jinja_exec.c.
 * Chains (a + b - c, x.y[z]|f(1)) are flat lists: their length costs no depth. */
#ifndef ROCMFORGE_TEXT_JINJA_AST_H
#define ROCMFORGE_TEXT_JINJA_AST_H

#include "text/jinja_value.h"

typedef struct jexpr jexpr;
typedef struct jstmt jstmt;

typedef enum {
    X_CONST,
    X_NAME,
    X_LIST,
    X_TUPLE,
    X_DICT, /* items: key, value, key, value */
    X_AND,
    X_OR,
    X_CONCAT,
    X_CHAIN,   /* first op item op item: + - together, * / // % together, ** */
    X_COMPARE, /* the same with == < in ...: all of them must hold */
    X_NOT,
    X_NEGATE,
    X_PLUS,
    X_CHOICE, /* items: value, condition, other (may be NULL) */
    X_POST    /* first, then what stands behind it */
} jexpr_kind;

typedef enum { /* two-letter operators; the others are their own character */
               OP_EQUAL = 'e',
               OP_UNEQUAL = 'n',
               OP_AT_LEAST = 'g',
               OP_AT_MOST = 'l',
               OP_FLOOR = 'f',
               OP_POWER = 'p',
               OP_IN = 'i',
               OP_NOT_IN = 'o'
} jop;

typedef struct {
    jexpr **positional;
    size_t n_positional, cap;
    const jtext **name; /* [n_named] */
    jexpr **named;
    size_t n_named, cap_name, cap_named;
    jexpr *star, *star_star; /* *list, **dict; NULL: none */
} jarguments;

typedef enum { POST_ATTRIBUTE, POST_ITEM, POST_SLICE, POST_CALL, POST_FILTER, POST_TEST, POST_NOT_TEST } jpost_kind;

typedef struct {
    jpost_kind kind;
    uint32_t line;
    jtext *name;       /* ATTRIBUTE, FILTER, TEST */
    jexpr *index;      /* ITEM */
    jexpr *slice[3];   /* each may be NULL */
    jarguments *args;  /* CALL, FILTER, TEST */
    const void *known; /* FILTER, TEST: what it is; NULL: there is none of this name */
} jpost;

struct jexpr {
    jexpr_kind kind;
    uint32_t line;
    jval value;    /* CONST */
    uint32_t name; /* NAME: index into the template's names */
    jexpr *first;
    jexpr **item;
    jop *op;     /* CHAIN, COMPARE: before each item */
    jpost *post; /* POST */
    size_t n, cap, cap_op;
};

/* Where a value goes: a name, an attribute of a namespace, or a tuple of targets. */
typedef struct jtarget {
    uint32_t name, line;
    jtext *attribute;      /* NULL: the name itself */
    struct jtarget **part; /* NULL: no tuple */
    size_t n, cap;
} jtarget;

typedef struct {
    uint32_t name;
    jtext *text;
    jexpr *otherwise; /* NULL: undefined */
} jparameter;

struct jmacro { /* what the parser knows; running it adds the scope */
    const jtext *name;
    jparameter *parameter;
    size_t n, cap;
    const jstmt *body;
    bool uses_caller, uses_varargs, uses_kwargs;
    uint32_t line;
    uint32_t id_caller, id_varargs, id_kwargs;
    struct jscope *scope; /* where it was defined; in a running copy only */
};

typedef enum {
    S_TEXT,
    S_PRINT,
    S_IF, /* value, body; otherwise: a chain of one S_IF, or a body */
    S_FOR,
    S_SET,
    S_CAPTURE, /* set x | filters, to endset */
    S_MACRO,
    S_CALL,
    S_FILTER,
    S_WITH,
    S_SCOPE, /* generation, block, autoescape: a scope of its own */
    S_BREAK,
    S_CONTINUE
} jstmt_kind;

struct jstmt {
    jstmt_kind kind;
    uint32_t line;
    bool recursive; /* FOR */
    bool is_elif;   /* IF: part of the one before, not a body of its own */
    jstmt *next;
    jtext *text;      /* TEXT */
    jexpr *value;     /* PRINT, IF, FOR: what to walk over, SET, CALL, FILTER and CAPTURE: filters over X_CONST ""  */
    jexpr *test;      /* FOR: only items for which this holds; NULL: all */
    jtarget **target; /* FOR, SET, CAPTURE: one; WITH: n */
    jexpr **values;   /* WITH */
    size_t n, cap, cap_values;
    jmacro *macro; /* MACRO, CALL */
    const jstmt *body, *otherwise;
    uint32_t id_loop;
};

#endif
