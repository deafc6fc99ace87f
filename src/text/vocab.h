/* The vocabulary of a GGUF: token texts, kinds and scores, and the way from a text to its id. One flat hash over views
 * into the mapping; nothing of the texts is copied, so the gguf must outlive it. Of equal texts the last id wins, as in
 * llama.cpp. An empty text is never found. Immutable once tokenizer_open has returned: any thread may read. */
#ifndef ROCMFORGE_TEXT_VOCAB_H
#define ROCMFORGE_TEXT_VOCAB_H

#include "text/tokenizer.h"

enum { VOCAB_MAX_TOKENS = 2 << 20, VOCAB_MAX_TEXT = 64 << 10, VOCAB_MANY = 96 };

/* What a token is: several may hold at once, since tokens known by their text are made control tokens. */
enum {
    TOKEN_IS_NORMAL = 1,
    TOKEN_IS_UNKNOWN = 2,
    TOKEN_IS_CONTROL = 4,
    TOKEN_IS_USER = 8,
    TOKEN_IS_UNUSED = 16,
    TOKEN_IS_BYTE = 32,
    TOKEN_STRIPS_LEFT = 64, /* spaces before it in a text belong to it */
    TOKEN_STRIPS_RIGHT = 128
};

typedef struct {
    const char *p;
    uint32_t n;
    uint32_t order; /* by score: a lower order is a higher score; 0 without scores */
} vocab_text;

typedef struct {
    uint32_t tag; /* upper half of the hash */
    token_id id;  /* TOKEN_NONE: free */
} vocab_slot;

typedef struct {
    uint32_t n;
    uint32_t max_text; /* bytes of the longest text */
    vocab_text *text;  /* [n] */
    uint8_t *is;       /* [n] TOKEN_IS_ flags */
    vocab_slot *slot;  /* [mask + 1] */
    uint32_t mask;
    uint64_t seed; /* of the hash, drawn at open: texts from a file cannot be made to collide */
} vocab;

MUST_CHECK status vocab_open(vocab *v, const gguf *g, err *e); /* v is {0}; on failure vocab_close still applies */
void vocab_close(vocab *v);
token_id vocab_find(const vocab *v, const char *p, size_t n);
/* The same for up to VOCAB_MANY texts, whose waits for memory overlap: three times as fast when the table is large. */
void vocab_find_many(const vocab *v, const str *text, size_t n, token_id *out);

float vocab_score(const vocab *v, token_id id); /* of a file with scores; -0 and 0 are one */

/* The byte that a text of the form <0xNN> stands for, or -1. */
int vocab_byte_of(str text);

uint64_t vocab_hash(uint64_t seed, const char *p, size_t n);
uint64_t vocab_mix(uint64_t a, uint64_t b); /* both halves of the 128-bit product, folded */

#endif
