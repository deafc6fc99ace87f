/* Sampling on the device: from rows of logits to one token each, equal to src/sample's for the same parameters. Host side:
 * backend/gpu/sampler.h, which fills the jobs, knows what the device leaves to the CPU, and reads the results.
 *
 * A job is one draw, or one list of the best raw logits (SAMPLE_TOP). Launches of one step, in this order, SAMPLE_BLOCK threads
 * each, all with the same sample_args:
 *
 *   sample_adjust    grid n_blocks, n_jobs   bias, bans, penalties and mask into x; the largest of each block's values
 *   sample_sums      grid n_blocks, n_jobs   totals of exponentials by chunk, histogram of distances from the maximum
 *   sample_collect   grid n_blocks, n_jobs   candidates brought together; only where a job is SORTED, LISTED or TOP
 *   sample_pick      grid 1, n_jobs          sorts the candidates, cuts, draws
 *
 * n_blocks = ceil(n_vocab / SAMPLE_RANGE). Vocabularies up to SAMPLE_MAX_VOCAB. Nothing needs to be cleared before. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_SAMPLE_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_SAMPLE_H

#include "backend/gpu/kernels/args.h"

enum {
    SAMPLE_BLOCK = 256,
    SAMPLE_RANGE = 8192, /* ids of a block */
    SAMPLE_CHUNK = 512,  /* SOFTMAX_CHUNK of sample/softmax.h */
    SAMPLE_MAX_VOCAB = 262144,
    SAMPLE_MAX_BLOCKS = SAMPLE_MAX_VOCAB / SAMPLE_RANGE,
    SAMPLE_MAX_CHUNKS = SAMPLE_MAX_VOCAB / SAMPLE_CHUNK,
    SAMPLE_BINS = 1024,  /* of the distance from the maximum, finer near it */
    SAMPLE_CAP = 4096,   /* candidates that can be brought together */
    SAMPLE_MAX_TOP = 64, /* of a TOP job */
    SAMPLE_NO_MASK = -1
};

typedef enum {
    SAMPLE_NONE,   /* an empty place among the jobs */
    SAMPLE_GREEDY, /* the largest, lowest id among equals */
    SAMPLE_SORTED, /* top-k or top-p, then min-p */
    SAMPLE_LISTED, /* min-p alone: candidates in order of their ids */
    SAMPLE_ALL,    /* the whole vocabulary, temperature only */
    SAMPLE_TOP     /* no draw: the top_k best raw logits */
} sample_mode;

typedef enum {
    SAMPLE_OK,
    SAMPLE_ODD,    /* the logit at `id` is NaN or infinite */
    SAMPLE_BANNED, /* every token is banned */
    SAMPLE_TO_HOST /* more candidates than SAMPLE_CAP: the CPU draws from the row */
} sample_status;

enum { SAMPLE_EDIT_BIAS = 1, SAMPLE_EDIT_BAN = 2 };
typedef struct { /* what happens to one id's logit; an id comes up once in a job's edits */
    int32_t id;
    float bias;
    uint32_t seen; /* occurrences in the history; 0: no penalty */
    uint32_t what;
} sample_edit;

typedef struct {
    double u;        /* rng_unit(seed, position) */
    uint32_t row;    /* of the logits */
    uint32_t mode;   /* sample_mode */
    uint32_t top_k;  /* SORTED: 0 off; TOP: how many */
    float top_p;     /* 1 or more: off */
    float log_min_p; /* (float)rf_log(min_p), -infinity: off */
    float temperature;
    float repeat, frequency, presence; /* penalties of edits with seen > 0 */
    uint32_t first_edit, n_edits;
    int32_t mask; /* row of the masks, SAMPLE_NO_MASK: none */
    uint32_t pad[2];
} sample_job;

typedef struct {
    double sum; /* of exp(logit - max) over the raw row */
    float max;  /* of the raw row */
    float logit;
    int32_t id;
    uint32_t status; /* sample_status */
    uint32_t n_top;  /* TOP: how many there are */
    uint32_t pad;
} sample_answer;

typedef struct {
    int32_t id;
    float logit;
} sample_best;

typedef struct { /* the largest values of one block's ids */
    float raw, x;
    uint32_t raw_at, x_at;
    uint32_t odd; /* first id whose logit is not finite; ~0: none */
    uint32_t pad;
} sample_part;

typedef struct {
    uint32_t n;   /* candidates brought together */
    uint32_t all; /* 1: all that are not banned; 2: too many, nothing was */
} sample_found;

typedef struct {
    GPU_PTR(const float) logits;   /* rows of n_vocab, logits_stride bytes apart */
    GPU_PTR(const uint32_t) masks; /* rows of ceil(n_vocab / 32) words: bit id % 32 of word id / 32 set: may be drawn */
    GPU_PTR(const sample_job) job;
    GPU_PTR(const sample_edit) edit;
    GPU_PTR(sample_answer) answer; /* [n_jobs] */
    GPU_PTR(sample_best) top;      /* [n_jobs][SAMPLE_MAX_TOP], of TOP jobs */
    /* scratch, by job; gpu_sampler_bind cuts it */
    GPU_PTR(float) x;          /* [n_vocab] */
    GPU_PTR(double) raw_total; /* [SAMPLE_MAX_CHUNKS] */
    GPU_PTR(double) x_total;   /* [SAMPLE_MAX_CHUNKS] */
    GPU_PTR(uint64_t) key;     /* [SAMPLE_CAP] */
    GPU_PTR(sample_part) part; /* [SAMPLE_MAX_BLOCKS] */
    GPU_PTR(uint32_t) bins;    /* [SAMPLE_MAX_BLOCKS][SAMPLE_BINS / 2], two counts a word */
    GPU_PTR(uint32_t) listed;  /* [SAMPLE_MAX_BLOCKS] */
    GPU_PTR(sample_found) found;
    uint32_t logits_stride, mask_stride; /* bytes */
    uint32_t n_vocab, n_blocks;
} sample_args;

#endif
