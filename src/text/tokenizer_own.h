/* What a tokenizer is made of: for tokenizer.c and detokenize.c only. */
#ifndef ROCMFORGE_TEXT_TOKENIZER_OWN_H
#define ROCMFORGE_TEXT_TOKENIZER_OWN_H

#include "text/bpe.h"
#include "text/pretok.h"
#include "text/special.h"
#include "text/spm.h"
#include "text/vocab.h"

struct tokenizer {
    tokenizer_info info;
    vocab v;
    special_set special;
    const pretok *pre; /* NULL: SPM */
    bpe bpe;           /* where pre */
    spm spm;           /* where not */
    bool escapes;      /* spaces are U+2581 in the vocabulary */
};

#endif
