/* Special tokens: which ids the file names, which texts llama.cpp knows by heart, which ids end a generation, and finding
 * special tokens in a text before it is tokenized. Immutable after open. */
#ifndef ROCMFORGE_TEXT_SPECIAL_H
#define ROCMFORGE_TEXT_SPECIAL_H

#include "text/pretok.h"
#include "text/vocab.h"

typedef struct {
    token_id *eog; /* ascending */
    size_t n_eog;
    uint32_t *length; /* the lengths special tokens have, longest first */
    size_t n_lengths;
    uint64_t *starts;        /* bits: hashes of the first four bytes of special tokens */
    uint8_t short_first[32]; /* bits: first bytes of special tokens of less than four bytes */
    token_id frame[8];       /* tokens that are control tokens in truth, though they are shown and always recognised */
    size_t n_frame;
} special_set;

/* Reads the ids into info, makes tokens known by their text control tokens in v->is, and prepares the search.
 * pre: NULL but for BPE. s is {0}; on failure special_close still applies. */
MUST_CHECK status special_open(special_set *s, vocab *v, tokenizer_info *info, const pretok *pre, const gguf *g,
                               err *e);
void special_close(special_set *s);

/* Cuts a text at its special tokens: the longest tokens first, each from left to right, as llama.cpp does. */
typedef struct {
    str text; /* between special tokens; .n 0: a token */
    token_id id;
} fragment;

typedef struct {
    uint32_t at;
    bool is_long; /* a token of four bytes or more may begin here */
    token_id id;
} special_hit;

typedef struct {
    str text;
    const vocab *v;
    const special_set *s;
    const tokenize_options *opt;
    uint8_t *taken;   /* [text.n] bytes that belong to a token */
    special_hit *hit; /* places where a token may begin, ascending */
    size_t n_hits, cap, next, at;
} special_split;
bool special_split_start(special_split *p, const special_set *s, const vocab *v, str text,
                         const tokenize_options *opt);    /* false: no memory */
bool special_split_next(special_split *p, fragment *out); /* false: the end */
void special_split_free(special_split *p);

#endif
