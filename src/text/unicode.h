/* Code points: reading and writing UTF-8, and the class of each code point (Unicode 15.1, as llama.cpp's tables; generated
 * by tools/gen_unicode.py). Constant data and pure functions: any thread. */
#ifndef ROCMFORGE_TEXT_UNICODE_H
#define ROCMFORGE_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

enum { UNICODE_LIMIT = 0x110000, UNICODE_BLOCK = 128 };

/* Classes, by general category; CHAR_SPACE is the property White_Space. No class at all: separators, controls, unassigned. */
enum {
    CHAR_NUMBER = 1,  /* \p{N} */
    CHAR_LETTER = 2,  /* \p{L} */
    CHAR_MARK = 4,    /* \p{M} */
    CHAR_PUNCT = 8,   /* \p{P} */
    CHAR_SYMBOL = 16, /* \p{S} */
    CHAR_SPACE = 32,
    CHAR_ANY = 64 /* set by utf8_look for every character there is: tells "none of these classes" from "end of text" */
};

extern const uint8_t unicode_index[UNICODE_LIMIT / UNICODE_BLOCK];
extern const uint8_t unicode_blocks[][UNICODE_BLOCK];

static inline unsigned unicode_class(uint32_t cp) {
    return cp < UNICODE_LIMIT ? unicode_blocks[unicode_index[cp / UNICODE_BLOCK]][cp % UNICODE_BLOCK] : 0;
}

typedef struct {
    uint32_t cp; /* UTF8_NONE at the end of the text, UTF8_BAD for a byte that starts no character */
    uint32_t n;  /* bytes; 0 only at the end */
    unsigned is; /* CHAR_ flags; CHAR_ANY alone for UTF8_BAD, 0 at the end */
} utf8_char;
enum { UTF8_NONE = 0x7fffffff, UTF8_BAD = 0x7ffffffe };

utf8_char utf8_look(const uint8_t *p,
                    const uint8_t *end);     /* the character at p, strict: no overlong forms, surrogates */
size_t utf8_write(uint32_t cp, char out[4]); /* bytes written; cp < UNICODE_LIMIT */

/* Length of the character that a lead byte announces; 1 for bytes that announce none. Not a check. */
static inline size_t utf8_lead_len(uint8_t b) { return b < 0xC0 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4; }

#endif
