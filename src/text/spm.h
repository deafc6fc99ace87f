/* SentencePiece-style merging ("llama"): characters of the text, with spaces as U+2581, are joined while the joined text is
 * a token, the highest score first. A character that is no token becomes its bytes. Immutable after open. */
#ifndef ROCMFORGE_TEXT_SPM_H
#define ROCMFORGE_TEXT_SPM_H

#include "text/merge.h"
#include "text/vocab.h"

typedef struct {
    const vocab *v;
    token_id byte[256]; /* <0xNN>, else the token that is this one byte, else the unknown token, else TOKEN_NONE */
} spm;

void spm_open(spm *s, const vocab *v, token_id unk);
void spm_encode(const spm *s, str escaped, merger *m, token_vec *out); /* out of memory is out->failed */

/* Appends text to out with each space as U+2581, and one before it if `prefix`. */
void spm_escape(strbuf *out, str text, bool prefix);
void spm_unescape(strbuf *out, str text);

#endif
