/* The tokenizer of a Hugging Face folder as the keys tokenizer.ggml.* of a GGUF. Where tokenizer.json describes BPE over bytes,
 * WordPiece or unigrams it is taken from there; SentencePiece's from tokenizer.model, or from a tokenizer.json that was made of one,
 * if its merges say the same as scores would. A pre-tokenizer is known by its own description, not by the model's name; one
 * that this engine has no scanner for is refused (ERR_PRETOKENIZER).
 * Facts: llama.cpp's conversion/base.py and gguf-py's vocab.py; the format of tokenizer.json is huggingface/tokenizers',
 * that of tokenizer.model sentencepiece's sentencepiece_model.proto.
 * Texts are borrowed from the JSON files, which the tokenizer keeps; immutable after hf_tokenizer_open. */
#ifndef ROCMFORGE_CONVERT_HF_TOKENIZER_H
#define ROCMFORGE_CONVERT_HF_TOKENIZER_H

#include "base/arena.h"
#include "convert/hf_config.h"

typedef enum { HF_BOS, HF_EOS, HF_UNK, HF_SEP, HF_PAD, HF_CLS, HF_MASK, HF_EOT, HF_N_SPECIAL } hf_special;

typedef struct {
    const char *model; /* "gpt2", "llama", "bert", "t5" */
    const char *pre;   /* NULL: the key is left out */
    uint32_t n;        /* tokens */
    str *text;         /* [n] */
    int32_t *kind;     /* [n] as GGUF numbers them */
    float *score;      /* [n]; NULL: none */
    str *merge;        /* [n_merges] */
    size_t n_merges;
    int32_t special[HF_N_SPECIAL];                 /* -1: none */
    int add_bos, add_eos, add_sep;                 /* -1: not said */
    int add_space, lowercase, strip, extra_spaces; /* likewise */
    const uint8_t *charsmap;                       /* of sentencepiece's normaliser */
    size_t n_charsmap;
    json_t *json, *config, *templates; /* tokenizer.json, tokenizer_config.json; {name: text} */
    strbuf proto;                      /* tokenizer.model */
    arena a;
} hf_tokenizer;

/* On failure t is left to close. c: its n_vocab is how many tokens there must be. */
MUST_CHECK status hf_tokenizer_open(hf_tokenizer *t, const char *dir, const hf_config *c, hf_warnings *warnings,
                                    err *e);
void hf_tokenizer_close(hf_tokenizer *t); /* {0} is fine */
void hf_tokenizer_put(const hf_tokenizer *t, gguf_writer *w);

/* --- for hf_*.c of this room --- */
enum { HF_NORMAL = 1, HF_UNKNOWN, HF_CONTROL, HF_USER, HF_UNUSED, HF_BYTE };
/* Fills the tokens that have no text yet. */
MUST_CHECK status hf_pad_tokens(hf_tokenizer *t, err *e);
/* tokenizer.model, in t->proto: tokens, scores, kinds, the normaliser, special ids. */
MUST_CHECK status hf_read_sentencepiece(hf_tokenizer *t, hf_warnings *warnings, err *e);
/* A tokenizer.json of BPE over characters with bytes to fall back on, as one of SentencePiece: scores from merges. */
MUST_CHECK status hf_scores_of_merges(hf_tokenizer *t, err *e);
/* A tokenizer.json of unigrams: tokens, scores, kinds, the normaliser's charsmap. */
MUST_CHECK status hf_read_unigrams(hf_tokenizer *t, hf_warnings *warnings, err *e);
/* The name of the scanner that cuts as t->json's pre_tokenizer does. */
MUST_CHECK status hf_pretokenizer(const char **name, const hf_tokenizer *t, hf_warnings *warnings, err *e);
/* Special ids, what is added to a text, and chat templates. */
MUST_CHECK status hf_read_special(hf_tokenizer *t, const char *dir, const hf_config *c, hf_warnings *warnings, err *e);

#endif
