/* Splits a model's answer into what it thought and what it says. Models think between two tags; which ones, the chat template
 * tells, since it takes earlier thoughts out of a conversation. Only a thought at the very beginning counts: tags inside an
 * answer are text. White space beside a tag belongs to the tag; every other byte comes out once, in order, on one side,
 * however the text is cut into pieces.
 * A splitter belongs to one choice of a reply; loop thread; no errors but memory, which the strbufs it fills remember. */
#ifndef ROCMFORGE_SERVER_REASONING_H
#define ROCMFORGE_SERVER_REASONING_H

#include "base/str.h"

typedef struct {
    const char *open, *close;
} reasoning_tags;

/* The tags a template speaks of; <think> when it names none of those we know. Static. */
const reasoning_tags *reasoning_tags_of(str template);
/* Whether a prompt ends inside the opening tag: the answer then begins with the thought. */
bool reasoning_is_open(const reasoning_tags *tags, str prompt);

typedef struct {
    const reasoning_tags *tags; /* NULL: nothing is split */
    enum { REASONING_START, REASONING_OPENED, REASONING_THOUGHT, REASONING_CLOSED, REASONING_ANSWER } state;
    strbuf held; /* what may be part of a tag, or of the white space beside one */
} reasoning;

/* r: zeros. opened: the prompt opened the tag. */
void reasoning_begin(reasoning *r, const reasoning_tags *tags, bool opened);
void reasoning_feed(reasoning *r, const char *p, size_t n, strbuf *thought, strbuf *answer); /* appends to both */
void reasoning_end(reasoning *r, strbuf *thought, strbuf *answer);                           /* what was held back */
void reasoning_free(reasoning *r);

#endif
