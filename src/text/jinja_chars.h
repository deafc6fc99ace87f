/* What Python's str methods know of characters. Constant data and pure functions: any thread. */
#ifndef ROCMFORGE_TEXT_JINJA_CHARS_H
#define ROCMFORGE_TEXT_JINJA_CHARS_H

#include "base/str.h"

bool jchar_is_space(uint32_t cp);    /* str.isspace() */
size_t jspace_left(str s);           /* bytes of white space at the start */
size_t jspace_right(str s);          /* at the end */
bool jchar_is_line_end(uint32_t cp); /* as splitlines() has it */
bool jchar_is_upper(uint32_t cp);
bool jchar_is_lower(uint32_t cp);
/* Upper, lower or title case in UTF-8: up to three characters; bytes written. */
typedef enum { CASE_LOWER, CASE_UPPER, CASE_TITLE } jcase;
size_t jchar_case(uint32_t cp, jcase to, char out[12]);

#endif
