/* Splits what a model says into thinking and answer: <think> at the very beginning, up to </think>; the rest is the answer,
 * white space around the tags belongs to neither. Text comes in pieces of any size; a tag may lie across them. Plain data,
 * starts from think_start; one thread. */
#ifndef ROCMFORGE_CLI_THINK_H
#define ROCMFORGE_CLI_THINK_H

#include "base/str.h"

typedef struct {
    enum { THINK_BEFORE, THINK_INSIDE, THINK_AFTER, THINK_ANSWER } at;
    bool said;   /* something of the thinking */
    strbuf held; /* may yet become a tag, or is white space before one */
} think;

typedef void (*think_sink)(void *user, bool thinking, const char *p, size_t n);

/* Does this template speak of thinking tags? */
bool think_in_template(str tmpl);
/* The prompt tells how it begins: one that ends with <think> has opened the tag itself. off: all is answer. */
void think_start(think *t, bool on, str prompt);
void think_add(think *t, const char *p, size_t n, think_sink sink, void *user);
void think_end(think *t, think_sink sink, void *user); /* gives out what was held back, and frees */

#endif
