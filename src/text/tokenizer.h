/* Text <-> token ids, from the GGUF's own vocabulary alone (tokenizer.ggml.*): SPM ("llama"), byte-level BPE ("gpt2"),
 * BPE over characters ("gemma4"), WordPiece ("bert") and unigram ("t5"). Of equal token texts the last id wins.
 * A tokenizer is built once, immutable afterwards, any thread may use it. It borrows the token texts from the gguf, which
 * must outlive it. All scanners are hand-written, linear in the input and use a flat stack.
 * Behaviour is llama.cpp's for valid UTF-8; other bytes never fail badly.
 *
 * Keys read, tokenizer.ggml.* but for the last row:
 *   model, tokens, token_type          the last may be missing: all tokens are normal
 *   scores                             SPM and unigram, which needs them
 *   pre, merges                        BPE; other kinds pass over them
 *   bos_token_id and eos_, eot_, eom_, unknown_, seperator_ (so spelt), padding_, mask_, fim_pre_, fim_suf_, fim_mid_,
 *     fim_pad_, fim_rep_, fim_sep_ (and prefix_, suffix_, middle_); cls_ is a WordPiece's BOS unless bos_ is there
 *   add_bos_token, add_eos_token, add_sep_token, add_space_prefix
 *   normalizer.lowercase, normalizer.strip_accents            WordPiece (wpm.h)
 *   precompiled_charsmap, remove_extra_whitespaces            unigram (ugm.h, charsmap.h)
 *   general.name, general.architecture                        tell whose special tokens take the spaces beside them */
#ifndef ROCMFORGE_TEXT_TOKENIZER_H
#define ROCMFORGE_TEXT_TOKENIZER_H

#include "base/err.h"
#include "base/str.h"
#include "gguf/gguf.h"

typedef struct tokenizer tokenizer;
typedef int32_t token_id;
enum { TOKEN_NONE = -1 };

typedef enum {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6
} token_kind;

/* Refuses by name: an unknown tokenizer model (ERR_TOKENIZER) or pre-tokenizer (ERR_PRETOKENIZER), arrays of wrong length
 * or element type, ids outside the vocabulary. */
MUST_CHECK status tokenizer_open(tokenizer **out, const gguf *g, err *e);
void tokenizer_close(tokenizer *t); /* NULL is fine */

typedef struct {
    const char *model; /* "llama", "gpt2", "gemma4", "bert" or "t5" */
    str pre;           /* pre-tokenizer name as in the file, "default" when absent */
    uint32_t n_vocab;
    token_id bos, eos, eot, eom, unk, sep, pad, mask, fim_pre, fim_suf, fim_mid; /* TOKEN_NONE when absent */
    bool add_bos, add_eos, add_space_prefix;
    bool add_sep; /* a separator stands between the two texts of a pair; false where there is no sep */
} tokenizer_info;
const tokenizer_info *tokenizer_get_info(const tokenizer *t);

size_t tokenizer_bytes(const tokenizer *t); /* of memory it holds, for the memory plan */

/* End of generation is a set: eos, eot, eom, and by text <|im_end|>, <|eot_id|>, <end_of_turn>, ... as llama.cpp's list. */
bool tokenizer_is_eog(const tokenizer *t, token_id id);
size_t tokenizer_eog_ids(const tokenizer *t, const token_id **out);
token_kind tokenizer_kind(const tokenizer *t, token_id id);
str tokenizer_text(const tokenizer *t, token_id id);   /* as stored in the file; empty for an id out of range */
token_id tokenizer_find(const tokenizer *t, str text); /* stored text -> id, or TOKEN_NONE */

typedef struct {
    size_t at, n;
} byte_span;

typedef struct {
    bool add_special;   /* BOS/EOS as the file says; WordPiece: always [CLS] and, at the end, [SEP] */
    bool parse_special; /* control tokens in the text are recognised (user-defined ones always are) */
    bool no_bos;        /* with add_special: the text has its BOS already */
    const byte_span
        *input;     /* ascending, apart: parts of the text in which no control token is recognised, nor one that */
    size_t n_input; /* touches them: where a user's words stand in a prompt */
} tokenize_options;

typedef struct {
    token_id *ids; /* mem_free it */
    size_t n;
} token_list;

MUST_CHECK status tokenizer_encode(const tokenizer *t, str text, tokenize_options opt, token_list *out, err *e);

/* The bytes of one token as llama.cpp's token_to_piece gives them: `special` renders control tokens as their text, else
 * they are empty. Appends to out. An id out of range is ERR_TOKEN. */
MUST_CHECK status tokenizer_piece(const tokenizer *t, token_id id, bool special, strbuf *out, err *e);
/* A whole list, with the leading-space rules of SPM (as llama_detokenize: the space added by add_space_prefix is removed). */
MUST_CHECK status tokenizer_decode(const tokenizer *t, const token_id *ids, size_t n, bool special, strbuf *out,
                                   err *e);

/* Streaming: bytes go in, only whole UTF-8 characters come out; what can never become a character comes out as U+FFFD. */
typedef struct {
    unsigned char held[4];
    uint8_t n_held;
} utf8_hold; /* {0} to start */
void utf8_hold_push(utf8_hold *h, const char *bytes, size_t n, strbuf *out);
void utf8_hold_flush(utf8_hold *h, strbuf *out); /* at the end: an unfinished character becomes U+FFFD */

#endif
