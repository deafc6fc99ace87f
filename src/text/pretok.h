/* Pre-tokenizers: cut a text into the words that byte-level BPE may not merge across. Each is a list of stages; a stage
 * cuts every piece of the stage before. The scanners are written by hand from the regular expressions in pretok.c,
 * run in time linear in the text and need no memory. Constant data: any thread. */
#ifndef ROCMFORGE_TEXT_PRETOK_H
#define ROCMFORGE_TEXT_PRETOK_H

#include "base/str.h"

#include <stdbool.h>

/* Length in bytes (> 0) of the first piece of the non-empty text [p, end). */
typedef size_t (*pretok_stage)(const uint8_t *p, const uint8_t *end);
enum { PRETOK_MAX_STAGES = 4 };

enum {
    PRETOK_IGNORE_MERGES = 1, /* a word that is a token is that token, whatever the merges say */
    PRETOK_ADD_BOS = 2,       /* when the file does not say */
    PRETOK_CLEAN = 4,         /* detokenising removes spaces before punctuation */
    PRETOK_NO_BOS = 8,        /* no BOS unless the file names one */
    PRETOK_RAW = 16,          /* merges work on UTF-8 characters with spaces as U+2581, not on bytes */
    PRETOK_ADD_SEP = 32       /* a separator stands between two texts, when the file does not say */
};

typedef struct {
    const char *name;                      /* value of tokenizer.ggml.pre */
    pretok_stage stage[PRETOK_MAX_STAGES]; /* NULL after the last */
    unsigned is;                           /* PRETOK_ flags */
} pretok;

const pretok *pretok_find(str name); /* NULL: unknown. An empty name gives "default" */

typedef struct {
    const pretok *pre;
    const uint8_t *at, *end[PRETOK_MAX_STAGES + 1]; /* end[k]: of the piece that stage k is cutting */
} pretok_iter;
pretok_iter pretok_start(const pretok *pre, str text);
bool pretok_next(pretok_iter *it, str *word); /* false at the end; the words cover the text, in order, none empty */

#endif
