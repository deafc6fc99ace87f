/* Operations on texts that filters and methods share; Python's names and meaning. */
#ifndef ROCMFORGE_TEXT_JINJA_TEXTOPS_H
#define ROCMFORGE_TEXT_JINJA_TEXTOPS_H

#include "text/jinja_eval.h"

enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
jtext *jtext_strip(jrun *r, jtext *t, const jtext *chars, int sides); /* chars NULL: white space */
jtext *jtext_replace(jrun *r, jtext *t, const jtext *what, const jtext *with, int64_t count); /* count < 0: all */
jlist *jtext_split(jrun *r, jtext *t, const jtext *by, int64_t most); /* by NULL: white space; most < 0: all */
jlist *jtext_rsplit(jrun *r, jtext *t, const jtext *by, int64_t most);
jlist *jtext_lines(jrun *r, jtext *t, bool keep_ends);
jtext *jtext_join(jrun *r, const jtext *by, const jlist *l, bool any); /* any: items become texts; else they must be */
typedef enum { TEXT_LOWER, TEXT_UPPER, TEXT_CAPITALIZE, TEXT_TITLE, TEXT_SWAP } jtext_casing;
jtext *jtext_case(jrun *r, jtext *t, jtext_casing to);
jtext *jtext_pad(jrun *r, jtext *t, int64_t width, const jtext *fill, int where); /* -1 ljust, 0 center, 1 rjust */
jtext *jtext_like(jrun *r, const jtext *like, jtext *t);                          /* Markup where `like` is */
/* isalpha and its kin: every character is of one of the classes and there is one. */
bool jtext_all(const jtext *t, unsigned classes);

#endif
