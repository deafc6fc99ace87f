/* The executor: a model's graph, planned and placed, on its backends. It computes steps and decides nothing: which tokens,
 * which pages, which sampling parameters come from its caller, who also keeps everything needed to go on after a crash.
 * After open it allocates nothing. One thread calls. */
#ifndef ROCMFORGE_EXEC_EXEC_H
#define ROCMFORGE_EXEC_EXEC_H

#include "backend/backend.h"
#include "base/err.h"
#include "gguf/gguf.h"
#include "graph/cost.h"
#include "model/model.h"
#include "sample/sample.h"

typedef struct exec exec;

typedef struct {
    uint32_t max_tok;     /* tokens a step (ubatch) */
    uint32_t max_out;     /* rows of logits a step */
    uint32_t n_pages;     /* of the KV cache */
    uint32_t page_tokens; /* 16, 32 or 64 */
    quant_type type_k, type_v;
    bool hidden;                                  /* exec_hidden is wanted: the last hidden states are kept */
    unsigned passes;                              /* graph passes, PASS_ALL unless testing */
    uint32_t (*choose)(void *ctx, const node *n); /* placement by hand (-ngl, tests), else NULL: by strategy */
    void *choose_ctx;
    void (*moved)(void *ctx, const node *n, uint32_t from); /* as plan_options has it; choose_ctx */
    bool (*may)(void *ctx, const node *n, uint32_t device); /* what a device may be given; choose_ctx. NULL: all */
    plan_strategy strategy;                                 /* with choose NULL */
    const plan_speed *speed;                                /* [n_backends] for PLACE_AUTOMATIC */
} exec_options;

/* What of a model a backend has, or would have, to run. */
typedef struct {
    uint32_t n_layers, n_nodes; /* layers by their attention; nodes that compute, copies not counted */
    double alone_s;             /* a token if it ran everything, by plan_cost without handicap; 0 without a speed */
} exec_share;

typedef struct {
    const uint32_t *pages;         /* page table; covers the highest position of the step */
    const sample_params *sampling; /* NULL: logits only, nothing is sampled */
    const int32_t *history;        /* the sequence's tokens so far, this step's included */
    size_t n_history;
    uint64_t sample_pos;   /* position of the token to be drawn: what randomness depends on */
    bool logits;           /* exec_logits is wanted beside it */
    sample_result *result; /* filled when the sequence has an output row and sampling */
    const char **left;     /* NULL is fine; set to why the device left the draw to the host, static; else untouched */
    err *
        failed; /* why nothing of this sequence is to be used (ERR_NUMBERS); code OK: all is well. NULL: the step fails */
} exec_seq;

/* Flat and mixed: tokens of any sequences, decodes and prompt chunks side by side. Tokens of one sequence stand together,
 * in ascending position. */
typedef struct {
    uint32_t n_tok, n_seq, n_out;
    const int32_t *token, *pos; /* [n_tok] */
    const uint32_t *seq;        /* [n_tok] index into seqs */
    const int32_t *out_row;     /* [n_out] rows of the step that want output, ascending */
    const exec_seq *seqs;       /* [n_seq] */
} exec_batch;

/* Takes the backends over, also on failure. g must outlive the executor. progress counts bytes of weights. */
MUST_CHECK status exec_open(exec **out, const gguf *g, const exec_options *opt, backend *const *backends,
                            uint32_t n_backends, void (*progress)(void *, uint64_t, uint64_t), void *ctx, err *e);
void exec_close(exec *x); /* NULL is fine */

/* Computes the batch. ERR_FILE_CHANGED when the model's file was lost or written to under it: then nothing of the step is to
 * be used. Logits that are not finite are their sequence's failure, see exec_seq. */
MUST_CHECK status exec_step(exec *x, const exec_batch *b, err *e);
/* Row `out` of the last step, [n_vocab]; of an encoder, which has none, its hidden state. Until the next step. */
const float *exec_logits(const exec *x, uint32_t out);

/* The last hidden state (after the final norm, what the output matrix is applied to) of row `out` of the last step,
 * [d_model]; until the next step. Only with exec_options.hidden. */
const float *exec_hidden(const exec *x, uint32_t out);

/* What the model's rank head makes of that state, [n_scores of the model]; as exec_hidden. */
const float *exec_scores(const exec *x, uint32_t out);

/* Pages of the KV cache between steps: every layer, on every backend. Bytes in memory: exec_page_bytes. */
size_t exec_page_bytes(const exec *x);
MUST_CHECK status exec_page_copy(exec *x, uint32_t to, uint32_t from, err *e);
MUST_CHECK status exec_page_read(exec *x, uint32_t page, void *dst, err *e);
MUST_CHECK status exec_page_write(exec *x, uint32_t page, const void *src, err *e);

/* For whoever reads the file after a step (a token's text is a view into it), before it publishes: ERR_FILE_CHANGED. */
MUST_CHECK status exec_check_file(const exec *x, err *e);

const model_info *exec_model(const exec *x);
const kv_layout *exec_kv(const exec *x);
void exec_device(const exec *x, strbuf *out);

/* Bytes of memory that one decoded token reads: weights of its linears (of the experts used), and the cache per token of
 * context. What bandwidth is reckoned with. */
void exec_traffic(const exec *x, uint64_t *weights, uint64_t *kv_per_token);

/* What exec_open would take, per backend, from the header alone. */
MUST_CHECK status exec_measure(const gguf *g, const exec_options *opt, backend *const *backends, uint32_t n_backends,
                               backend_memory *out, err *e);
/* Who would run what; share: [n_backends]. */
MUST_CHECK status exec_place(const gguf *g, const exec_options *opt, backend *const *backends, uint32_t n_backends,
                             exec_share *share, err *e);
void exec_shares(const exec *x, exec_share *share); /* of what is open; alone_s 0 */
/* The graph as text, with what each pass did. */
MUST_CHECK status exec_dump_graph(const gguf *g, unsigned passes, strbuf *out, err *e);

#endif
