/* Unigram ("t5", also of XLM-RoBERTa and its kin): of all ways to write the text as tokens the one with the highest sum of
 * scores, found by dynamic programming (Viterbi). First the text is normalised: user-defined tokens are left as they are,
 * the charsmap replaces parts, broken UTF-8 becomes U+FFFD, and spaces become U+2581. The rules are those of llama.cpp's UGM
 * tokenizer: sums in double, of equal sums the way found first; a user-defined token scores 0; a character that is no token
 * is the unknown one, with the lowest score of a normal token less 10, and unknown ones in a row are one.
 * Keys: tokenizer.ggml.scores (needed), precompiled_charsmap, add_space_prefix (false: put one before the first word),
 * remove_extra_whitespaces (false: spaces in a row, and at the ends, go).
 * Time grows with the bytes of the text times the longest token; scratch is 16 bytes for each byte of the normalised text. */
#ifndef ROCMFORGE_TEXT_UGM_H
#define ROCMFORGE_TEXT_UGM_H

#include "text/charsmap.h"
#include "text/merge.h"
#include "text/trie.h"

typedef struct {
    const vocab *v;
    charsmap map;
    trie tokens, user; /* normal, user-defined and unused ones; the user-defined ones alone */
    token_id unk;
    float unk_score;
    bool prefix, merge_spaces;
} ugm;

MUST_CHECK status ugm_open(ugm *u, const vocab *v, const tokenizer_info *info, const gguf *g, err *e); /* u is {0} */
void ugm_close(ugm *u);
size_t ugm_bytes(const ugm *u);
/* Appends the tokens of text. normal: scratch. Out of memory, or a text too long for it, is out->failed. */
void ugm_encode(const ugm *u, str text, strbuf *normal, token_vec *out);

#endif
