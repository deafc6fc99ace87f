/* What a tokenizer is made of: for tokenizer.c and detokenize.c only. */
#ifndef ROCMFORGE_TEXT_TOKENIZER_OWN_H
#define ROCMFORGE_TEXT_TOKENIZER_OWN_H

#include "text/bpe.h"
#include "text/pretok.h"
#include "text/special.h"
#include "text/spm.h"
#include "text/ugm.h"
#include "text/vocab.h"
#include "text/wpm.h"

typedef enum { KIND_SPM, KIND_BPE, KIND_WPM, KIND_UGM } tokenizer_kind_name;

struct tokenizer {
    tokenizer_info info;
    vocab v;
    special_set special;
    tokenizer_kind_name kind;
    const pretok *pre; /* KIND_BPE only, else NULL */
    bpe bpe;           /* that of its kind is open, the others are {0} */
    spm spm;
    wpm wpm;
    ugm ugm;
    bool escapes; /* spaces are U+2581 in the vocabulary */
    bool cleans;  /* detokenising removes spaces before punctuation */
};

#endif
