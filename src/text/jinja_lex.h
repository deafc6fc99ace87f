/* Cuts a template into text and tokens, as jinja2's lexer does with trim_blocks and lstrip_blocks. Borrows the source. */
#ifndef ROCMFORGE_TEXT_JINJA_LEX_H
#define ROCMFORGE_TEXT_JINJA_LEX_H

#include "text/jinja_value.h"

typedef enum {
    T_END,
    T_TEXT,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_VALUE_BEGIN,
    T_VALUE_END,
    T_NAME,
    T_STRING,
    T_NUMBER,
    T_OPERATOR
} jtoken_kind;

typedef struct {
    jtoken_kind kind;
    uint32_t line;
    char op;    /* OPERATOR: its character, or a jop */
    str text;   /* TEXT, NAME */
    jval value; /* STRING, NUMBER */
} jtoken;

typedef struct {
    jrun *r;
    str src;
    size_t at;
    uint32_t line;
    uint32_t braces;  /* open ( [ { in the current tag */
    char mode;        /* 0: text, '%': in a block tag, '}': in a value */
    bool line_start;  /* the last thing read ended a line */
    jtoken_kind held; /* a tag begin that follows the text just given; T_END: none */
} jlexer;

jlexer jlex_start(jrun *r, str source); /* source: UTF-8, lines ended by \n alone */
jtoken jlex_next(jlexer *x);            /* T_END where the run failed, too */

#endif
