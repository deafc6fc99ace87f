/* WordPiece ("bert"), as BERT has it: the text is cleaned and cut into words, and each word into the longest tokens from the
 * left. In a GGUF the first piece of a word begins with U+2581 and the others have lost their "##". The rules are those of
 * llama.cpp's WPM tokenizer (which follows BertNormalizer of the tokenizers library):
 *   - accents are stripped: each character becomes the first of its decomposition (NFD), and marks are left out; so a Hangul
 *     syllable becomes its leading consonant, as in llama.cpp;
 *   - controls, formats, private use, NUL and U+FFFD (which is also what broken UTF-8 is) are left out;
 *   - words end at white space; punctuation, ASCII symbols and CJK ideographs are words of one character;
 *   - letters become lower case.
 * A word that is not covered by tokens to its end is one unknown token.
 * Keys: tokenizer.ggml.normalizer.lowercase (true), tokenizer.ggml.normalizer.strip_accents (what lowercase is). */
#ifndef ROCMFORGE_TEXT_WPM_H
#define ROCMFORGE_TEXT_WPM_H

#include "text/merge.h"
#include "text/trie.h"

typedef struct {
    trie words;
    bool lower, strip_accents;
    token_id unk;
} wpm;

MUST_CHECK status wpm_open(wpm *w, const vocab *v, token_id unk, const gguf *g, err *e); /* w is {0} */
void wpm_close(wpm *w);
/* Appends the tokens of text. word: scratch. Out of memory is out->failed. */
void wpm_encode(const wpm *w, str text, strbuf *word, token_vec *out);

#endif
