/* The seam: all that the executor knows of a device. A backend is opened for one model: it takes its share of a plan
 * (weights, activation block, KV block) once, then runs segments of it step after step and allocates nothing more.
 * Every slot is required; what one device lacks is settled behind it. One thread calls (the executor's). */
#ifndef ROCMFORGE_BACKEND_BACKEND_H
#define ROCMFORGE_BACKEND_BACKEND_H

#include "base/err.h"
#include "graph/plan.h"
#include "kv/kv.h"
#include "sample/sample.h"

/* One step as plain arrays; all borrowed until `wait` returns. Tokens of one sequence stand in ascending position. */
typedef struct {
    uint32_t n_tok, n_out, n_seq;
    const int32_t *token;              /* [n_tok] */
    const int32_t *pos;                /* [n_tok] */
    const uint32_t *seq;               /* [n_tok] index into page_table */
    const int32_t *out_row;            /* [n_out] */
    const uint32_t *const *page_table; /* [n_seq][pages of the sequence]: page of position p is [p / page_tokens] */
} step_input;

typedef struct {
    size_t weights_own;    /* bytes the backend allocates for weights (repacked or uploaded) */
    size_t weights_mapped; /* bytes used from the file's mapping, resident once touched */
    size_t activations, kv, scratch;
    size_t staging; /* held only while loading, beside what is loaded */
    size_t host;    /* of a device with memory of its own: host memory beside it (pinned). staging is the host's too */
} backend_memory;

/* One token to be drawn from a row of the step's logits: sample_token of src/sample, wherever it runs. Borrowed as the step. */
typedef struct {
    uint32_t row; /* of the output rows */
    const sample_params *params;
    const int32_t *history;
    size_t n_history;
    uint64_t pos;
    sample_result *out;
    err *failed;     /* why there is no token (sample_token's errors); code OK: there is */
    bool drawn;      /* false: left to the caller, who finds the row in its place */
    const char *why; /* ... and the reason; static */
} backend_draw;

/* What a kernel did, since the model was loaded: kernels of a GPU, ops of the CPU. bytes: what it had to move (traffic.h). */
typedef struct {
    const char *name;
    uint64_t launches, bytes;
    double seconds;
} backend_profile;

typedef struct backend backend;

typedef struct {
    const char *kind; /* "cpu" */
    bool (*supports)(const backend *b, const node *n);
    /* What load would take; from the headers alone, nothing is touched. */
    status (*measure)(const backend *b, const plan *p, uint32_t device, const kv_layout *kv, backend_memory *out,
                      err *e);
    /* Binds weights, allocates activations, KV and scratch, resolves every kernel. progress(ctx, done, total) in bytes, may be NULL. */
    status (*load)(backend *b, const plan *p, uint32_t device, const kv_layout *kv,
                   void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, err *e);
    status (*run)(backend *b, const plan_segment *seg, const step_input *in, err *e); /* may return before it is done */
    status (*wait)(backend *b, err *e);
    /* A node's value as dense rows, [rows of this step, row bytes]: for copies between backends and for results. Reading waits
     * for what was queued before it. */
    status (*read)(backend *b, const node *n, uint32_t n_rows, void *dst, err *e);
    status (*write)(backend *b, const node *n, uint32_t n_rows, const void *src, err *e);
    /* The value of copy n straight out of another backend's memory, queued behind what makes it. *taken false: there is no such
     * way, so it is read and written. NULL: there never is. */
    status (*take)(backend *b, const node *n, uint32_t n_rows, backend *from, bool *taken, err *e);
    /* The value in place if the host can reach it (row stride in *stride), else NULL. */
    const void *(*peek)(backend *b, const node *n, size_t *stride);
    /* Pages of the KV block, all layers: page `from` over page `to`; to and from memory of page_bytes. Between steps only. */
    status (*page_copy)(backend *b, uint32_t to, uint32_t from, err *e);
    status (*page_read)(backend *b, uint32_t page, void *dst, err *e);
    status (*page_write)(backend *b, uint32_t page, const void *src, err *e);
    /* Both NULL: this backend draws nothing. Before the first run of a step: the draws that the device may make itself, behind
     * its logits; their rows then need not come to the host. After wait: tokens stand in *out for those that are drawn. */
    status (*draw_begin)(backend *b, const node *logits, backend_draw *draw, uint32_t n, err *e);
    status (*draw_end)(backend *b, err *e);
    /* The host's own work between steps, on the threads that the backend has: fn(ctx, i, worker) for each i below n, worker
     * below the count that is returned. n 0: only that. What fn does must not depend on who calls it. */
    uint32_t (*host_work)(backend *b, void (*fn)(void *ctx, uint32_t i, uint32_t worker), void *ctx, uint32_t n);
    /* [*n] rows, some of nothing; then begins anew. NULL: it was not opened with a profile. Between steps. */
    const backend_profile *(*profile)(backend *b, uint32_t *n, bool reset);
    void (*describe)(const backend *b, strbuf *out); /* "CPU AVX-512 VNNI, 2 threads" */
    void (*close)(backend *b);                       /* NULL is fine */
} backend_ops;

struct backend {
    const backend_ops *ops;
};

#endif
