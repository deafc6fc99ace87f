/* Byte-level BPE ("gpt2"): words from the pre-tokenizer, each byte a character, neighbours joined by the rank of their
 * merge. A merge is kept as the pair of token ids it joins, in one flat hash. A merge whose parts or whose result are no
 * tokens is ignored; of equal merges the first counts. "gemma4" is the same over UTF-8 characters, with spaces as U+2581.
 * The table is immutable after open. */
#ifndef ROCMFORGE_TEXT_BPE_H
#define ROCMFORGE_TEXT_BPE_H

#include "text/merge.h"
#include "text/pretok.h"
#include "text/vocab.h"

typedef struct {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: free */
    uint32_t rank;
    token_id joined;
} bpe_merge;

typedef struct {
    const vocab *v;
    const pretok *pre;
    bpe_merge *slot; /* [mask + 1] */
    uint32_t mask;
    token_id byte[256]; /* the token of each byte, TOKEN_NONE: it has none and is left out, as llama.cpp does */
} bpe;

MUST_CHECK status bpe_open(bpe *b, const vocab *v, const pretok *pre, const gguf *g, err *e); /* b is {0} */
void bpe_close(bpe *b);
/* Appends the tokens of text. word: scratch of at least 2 * v->max_text bytes. Out of memory is out->failed. */
void bpe_encode(const bpe *b, str text, merger *m, char *word, token_vec *out);

/* GPT-2's way to write bytes as printable characters: byte -> code point, and back (-1: no byte). */
uint32_t bpe_byte_to_char(uint8_t byte);
int bpe_char_to_byte(uint32_t cp);

#endif
