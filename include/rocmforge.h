/* rocmforge: load a GGUF model and let it answer.
 *
 * A model is a file, checked, with its tokenizer. An engine is a model on a device: weights loaded, KV cache reserved, one
 * thread of its own that computes. A request is handed to an engine and reports through one callback.
 *
 *     rf_error e;
 *     rf_model *m;   rf_model_open(&m, "model.gguf", &e);
 *     rf_engine *g;  rf_engine_open(&g, m, NULL, &e);
 *     rf_request *r; rf_request_start(&r, g, &params, on_event, user, &e);
 *     rf_request_wait(r); rf_request_free(r); rf_engine_close(g); rf_model_close(m);
 *
 * Errors: every function that can fail returns false (or NULL) and fills *e, if e is not NULL; nothing is printed and the
 * process is never ended. Ownership: what a function hands out is freed by the function its comment names; close and free
 * functions take NULL. Threads: functions may be called from any thread unless said otherwise; one object is used by one
 * thread at a time, except where a function says "any thread". There is no global state but the allocator's counters and
 * one SIGBUS handler, installed by the first model (see rf_model_open).
 * Text is UTF-8. Sizes are bytes, times microseconds, unless the name says otherwise. Strings of JSON are compact. */
#ifndef ROCMFORGE_H
#define ROCMFORGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RF_API __attribute__((visibility("default")))

typedef struct {
    char code[40];     /* stable, "gguf.key"; see docs/errors.md */
    char category[16]; /* "User", "Model", "Recoverable", "Backend", "Internal" */
    int http;          /* the status an HTTP server would answer with */
    bool retry;        /* trying again later may help */
    char message[512]; /* one line: what, where, and what to do */
} rf_error;

RF_API const char *rf_version(void); /* "0.1.0"; static */
RF_API void rf_free(void *p);        /* frees strings and arrays that functions below hand out */
RF_API char *rf_error_table(void);   /* JSON array of every error code: {code, category, http, retry, text}; rf_free */

/* --- models ----------------------------------------------------------------------------------------------------------- */
typedef struct rf_model rf_model;

/* Opens, maps and checks a GGUF file (the first shard of a split one): everything `rf_engine_open` would refuse about the
 * file itself is refused here. A file that later shrinks or changes under the mapping ends requests with io.file_changed;
 * for that a SIGBUS handler is installed once, which passes on faults that are not of our mappings. */
RF_API bool rf_model_open(rf_model **out, const char *path, rf_error *e);
RF_API void rf_model_close(rf_model *m); /* after its engines */

enum { RF_INSPECT_TENSORS = 1, RF_INSPECT_METADATA = 2 };
RF_API char *rf_model_inspect(const rf_model *m, unsigned flags, rf_error *e); /* JSON object; rf_free */
/* The computation graph as text, after the passes of the mask (bits: 1 no-ops, 2 common subexpressions, 4 lowering,
 * 8 fusion, 16 dead code, 32 layout; -1 all), preceded by what each did; rf_free */
RF_API char *rf_model_graph(const rf_model *m, int passes, rf_error *e);

enum { RF_NO_SPECIAL = 1 /* add no BOS or EOS */, RF_NO_PARSE_SPECIAL = 2 /* control tokens in the text stay text */ };
RF_API bool rf_tokenize(const rf_model *m, const char *text, size_t n, unsigned flags, int32_t **ids, size_t *n_ids,
                        rf_error *e); /* *ids: rf_free */
/* Text of ids; special: control tokens as their text, else nothing. *text is terminated, may hold NUL bytes; rf_free */
RF_API bool rf_detokenize(const rf_model *m, const int32_t *ids, size_t n_ids, bool special, char **text, size_t *n,
                          rf_error *e);
RF_API bool rf_token_piece(const rf_model *m, int32_t id, char **piece, size_t *n, rf_error *e); /* rf_free */
RF_API uint32_t rf_model_n_vocab(const rf_model *m);
RF_API uint32_t rf_model_n_embd(const rf_model *m); /* floats of an embedding */
RF_API uint32_t rf_model_context_train(const rf_model *m);
RF_API bool rf_model_generates(const rf_model *m); /* false: an encoder, which gives embeddings only */

/* What a sequence's last hidden states become: their mean, the first token's, the last token's, or the scores that the
 * model's rank head makes of one of them. */
typedef enum {
    RF_POOLING_MODEL = 0, /* what the file says; mean where it says nothing */
    RF_POOLING_MEAN,
    RF_POOLING_CLS,
    RF_POOLING_LAST,
    RF_POOLING_RANK
} rf_pooling;
RF_API rf_pooling rf_model_pooling(const rf_model *m); /* what RF_POOLING_MODEL means here */
RF_API uint32_t rf_model_n_scores(const rf_model *m);  /* that RF_POOLING_RANK gives; 0: the model has no rank head */
/* Ids of a (query, document) pair, as a rank model wants them: the file's own template "rerank", else BOS, query, EOS, SEP,
 * document, EOS, of which those that the file adds. Control tokens in the two texts stay text. *ids: rf_free */
RF_API bool rf_tokenize_pair(const rf_model *m, const char *query, size_t n_query, const char *text, size_t n_text,
                             int32_t **ids, size_t *n_ids, rf_error *e);

/* --- chat templates --------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t at, n;
} rf_span;

/* A rendered prompt, and which of its bytes came from the request's own strings: those are never read as special tokens. */
typedef struct {
    char *text; /* terminated; may hold NUL bytes */
    size_t n;
    rf_span *input; /* ascending, apart */
    size_t n_input;
} rf_prompt;

/* The file's own template (tokenizer.chat_template); NULL: it has none. Borrowed from the model. */
RF_API const char *rf_model_template(const rf_model *m, size_t *n);
/* Renders a chat request: a JSON object with messages, tools, add_generation_prompt and any other variable (null counts as
 * absent). tmpl NULL: the model's own, template.missing when it has none. m gives bos_token and eos_token; NULL: both empty.
 * Content in text parts becomes one string, with newlines between, unless the template walks through parts itself. */
RF_API bool rf_render(rf_prompt *out, const rf_model *m, const char *tmpl, size_t n_tmpl, const char *request,
                      size_t n_request, rf_error *e);
RF_API void rf_prompt_free(rf_prompt *p); /* a prompt of zeros is fine */
/* Ids of a rendered prompt. BOS is added as the file says, unless the text begins with it already. */
RF_API bool rf_tokenize_prompt(const rf_model *m, const rf_prompt *p, int32_t **ids, size_t *n_ids, rf_error *e);

/* --- engines ---------------------------------------------------------------------------------------------------------- */
typedef struct rf_engine rf_engine;

typedef struct {
    /* "auto" (NULL): the best GPU, or the CPU and info says why; "cpu"; "gpu", "hip", "cuda": the best one, "gpu:N" (as
     * rf_devices numbers them), a GPU's UUID or PCI address: that one, or the reason why not */
    const char *device;
    /* what computes what: "gpu" (NULL with device "auto"): GPUs take what they can, the CPU the rest; "cpu": GPUs take only what
     * the host has no memory for; "cost": each operation where it is cheaper, the CPU if it is twice as cheap; "only" (NULL with
     * another device): what the device cannot do is an error. The text is the same, whatever computes it */
    const char *placement;
    const char *gpu_layers; /* how many of the last layers GPUs compute, the CPU the others: a number; "all" (NULL) */
    const char *split_mode; /* "none" (NULL): one GPU; "layer": layers over all GPUs */
    const char
        *tensor_split; /* "3,1": shares of layers of each GPU (then split_mode is "layer"); NULL: by free memory */
    const char
        *main_gpu;      /* "1": the GPU to take, or to begin with, as rf_devices numbers them; NULL: as `device` says */
    uint32_t context;   /* tokens of one sequence; 0: the trained length, at most 8192 */
    uint32_t parallel;  /* most sequences that run at once; 0: 1 */
    uint32_t kv_tokens; /* tokens the KV cache holds, for all sequences; 0: context * parallel */
    bool kv_shrink;     /* kv_tokens 0 only: take less where that does not fit, one context at least; see info */
    const char *kv_preset;    /* "small", "medium", "large": page size and bytes of the cache; NULL: by context */
    uint32_t queue;           /* most requests beyond `parallel`; more are refused with request.queue_full; 0: 1000 */
    const char *chunking;     /* prompts are read in chunks: "adaptive" (NULL), "fixed", "none" (whole ubatches) */
    uint32_t chunk;           /* fixed: tokens of prompts a step; 0: 128 */
    uint32_t step_ms;         /* adaptive: a step beside running generations shall last no longer; 0: 100 */
    bool no_prefix_cache;     /* never use again what other requests computed */
    const char *kv_cache_dir; /* folder where pages of prompts are kept over restarts; NULL: none */
    uint64_t kv_cache_bytes;  /* most bytes there; 0: 4 GiB */
    uint32_t ubatch;          /* tokens a step; 0: 512. An encoder takes each prompt in one: its context at least */
    uint32_t logits_rows;     /* rows of logits a step can give; 0: parallel */
    uint32_t threads;         /* 0: physical cores this process may use */
    const char *cache_type_k, *cache_type_v; /* "f16", "bf16", "f32", "q8_0", "q4_0"; NULL: f16, of an encoder f32 */
    /* a GPU's numbers against the CPU's at load: "once" (NULL) for a model, device and build; "always"; "off" */
    const char *verify;
    bool profile;         /* kernels are timed: rf_engine_profile; steps take longer */
    const char *cpu_tier; /* "scalar", "avx2", "avx512"; NULL: environment ROCMFORGE_CPU, else the best */
    void (*progress)(void *user, uint64_t done, uint64_t total); /* bytes of weights while loading; NULL: none */
    void *user;
} rf_engine_options;

/* Memory the engine would take, from the file's header alone: JSON object; rf_free. Sizes in bytes. */
RF_API char *rf_plan(const rf_model *m, const rf_engine_options *opt, rf_error *e);

/* Asks the device and the CPU the same question of this model (without a GPU: this CPU's tier and the scalar reference) and
 * compares the answers bit for bit: JSON; rf_free. A difference is no error: "equal" says it. */
RF_API char *rf_verify(const rf_model *m, const rf_engine_options *opt, rf_error *e);

RF_API bool rf_engine_open(rf_engine **out, rf_model *m, const rf_engine_options *opt,
                           rf_error *e);   /* opt NULL: defaults */
RF_API void rf_engine_close(rf_engine *g); /* after its requests were freed */
/* JSON object: device {kind, name, placement, reason, reason_code, verified (what is known of a GPU's numbers), gpus [{index, platform, driver, name, arch, uuid, pci, layers, ...}]},
 * downgrades [{code, what, reason, cause, text}] (docs/devices.md), warnings (the same as strings), context, threads, cache,
 * load_ms, error and error_code (why it failed for good, absent while it lives); rf_free. NULL: no memory */
RF_API char *rf_engine_info(const rf_engine *g);
/* rf_engine_info's warnings but for those that only some requests have: JSON array; rf_free. NULL: none, or no memory. Any
 * thread; cheap where there are none. */
RF_API char *rf_engine_warnings(const rf_engine *g);
RF_API uint32_t rf_engine_context(const rf_engine *g);

/* --- requests --------------------------------------------------------------------------------------------------------- */
typedef struct rf_request rf_request;

typedef struct {
    int32_t id;
    float bias; /* added to the token's logit; -INFINITY bans it */
} rf_logit_bias;

typedef struct {
    int32_t id;
    float logprob; /* natural logarithm of the model's own probability, before any sampling parameter */
} rf_alternative;

typedef struct {           /* start from rf_request_defaults() */
    const int32_t *tokens; /* the prompt; copied */
    size_t n_tokens;
    int64_t max_tokens; /* -1: until the end, or a full context */
    float temperature;  /* 0: greedy */
    int32_t top_k;      /* 0: off */
    float top_p, min_p; /* 1, 0: off */
    float repeat_penalty, presence_penalty, frequency_penalty;
    int32_t repeat_last_n; /* -1: all, 0: off */
    uint64_t seed;
    const rf_logit_bias *logit_bias; /* copied */
    size_t n_logit_bias;
    const char *const *stop; /* strings that end the text and are not part of it; copied */
    size_t n_stop;
    bool ignore_eos;
    bool special_text;  /* show control tokens as text */
    bool logits;        /* report logits at every position of the prompt instead of generating */
    bool embedding;     /* report one row made of the prompt's last hidden states instead of generating */
    rf_pooling pooling; /* of an embedding: how */
    bool no_cache;      /* compute the whole prompt, whatever is known of it */
    int64_t timeout_us; /* from start; past it the request fails with request.timeout. 0: none */
    uint32_t n_top;     /* alternatives reported with each token, 0 .. 64 */
} rf_request_params;

RF_API rf_request_params rf_request_defaults(void);

typedef enum {
    RF_EVENT_PROMPT,
    RF_EVENT_TOKEN,
    RF_EVENT_LOGITS,
    RF_EVENT_EMBEDDING,
    RF_EVENT_FINISHED,
    RF_EVENT_FAILED
} rf_event_kind;
enum {
    RF_WAIT_QUEUE = 1 /* others came first */,
    RF_WAIT_KV = 2 /* no page was free */,
    RF_WAIT_BATCH = 4 /* `parallel` ran */,
    RF_WAIT_PREFIX = 8 /* another request was computing the same prompt */
};
typedef enum { RF_FINISH_STOP = 1, RF_FINISH_LENGTH = 2, RF_FINISH_CANCELLED = 3 } rf_finish;

typedef struct {
    rf_event_kind kind;
    /* PROMPT: how much of it is read; the first comes when the request is let in, with what the cache knew */
    uint32_t prompt_done, prompt_total;
    /* TOKEN: id (-1: text only, held back until the end), its log-probability, text in whole UTF-8 characters (may be empty) */
    int32_t id;
    float logprob;
    const rf_alternative *top;
    uint32_t n_top;
    const char *text;
    size_t n_text;
    /* LOGITS: row [n_vocab] of position pos */
    uint32_t pos, n_vocab;
    const float *row;
    /* EMBEDDING: row [n_embd], not normalised; of RF_POOLING_RANK the scores, n_embd is their number */
    uint32_t n_embd;
    /* FINISHED */
    rf_finish finish;
    int32_t stop;                    /* which stop string ended it; -1: none did */
    int64_t queue_us;                /* until it was let in */
    int64_t prompt_us, predicted_us; /* predicted: from the first token on, n_predicted - 1 steps */
    uint32_t n_prompt, n_predicted;
    uint32_t n_cached;          /* of the prompt: taken from the cache */
    uint32_t n_preempted;       /* so often it made room for others and went on later */
    unsigned waited_for;        /* RF_WAIT_ bits: why it was not let in at once */
    uint32_t n_host_drawn;      /* tokens that the GPU left to the CPU to draw */
    const char *host_drawn_why; /* ... and why, the last time; static. NULL: none was */
    /* FAILED */
    const rf_error *error;
} rf_event;

/* Called on the engine's thread; what it points to lives until it returns. It may call rf_request_cancel, nothing else. */
typedef void (*rf_callback)(void *user, const rf_event *event);

RF_API bool rf_request_start(rf_request **out, rf_engine *g, const rf_request_params *p, rf_callback cb, void *user,
                             rf_error *e);
RF_API void rf_request_cancel(rf_request *r); /* any thread, also a signal handler; ends it before the next step */
RF_API void rf_request_wait(rf_request *r);   /* until FINISHED or FAILED was reported */
RF_API void rf_request_free(rf_request *r);   /* cancels and waits first where needed */

/* What an engine has done and holds, since it was opened. Counters only grow. */
typedef struct {
    uint32_t running, waiting, parallel, queue; /* now, and the most there may be */
    uint32_t page_tokens, pages_total, pages_used,
        pages_cached;                         /* cached: used by the prefix cache alone, free on demand */
    uint64_t steps, step_us, tokens_computed; /* prompt and generated tokens that went through steps */
    uint64_t prompt_tokens, cached_tokens, generated_tokens;
    uint64_t prefix_queries, prefix_hits; /* tokens looked up in the prefix cache, tokens found */
    uint64_t preemptions, evictions, pages_copied;
    uint64_t disk_pages, disk_bytes, disk_loaded,
        disk_dropped; /* pages kept on disk now; found again; damaged or foreign */
    uint64_t waited_queue, waited_kv, waited_batch, waited_prefix; /* requests that waited for this reason */
    uint64_t seqs_computed; /* sequences of all steps: over steps, how full batches were */
    uint32_t last_batch_seqs, last_batch_tokens;
    uint64_t host_drawn; /* tokens that the GPU left to the CPU to draw */
} rf_stats;
RF_API void rf_engine_stats(const rf_engine *g, rf_stats *out); /* any thread */
/* What every kernel did since the last reset: JSON array of {device, kind, peak_gb_per_s (what its memory can do; absent: not
 * known), kernels [{name, launches, ms, bytes (that it had to move), gb_per_s, share (of the peak)}]}, the slowest first; of a
 * CPU its operations. Only of an engine with `profile`, and while no request runs; rf_free. NULL: no memory */
RF_API char *rf_engine_profile(rf_engine *g, bool reset);
/* The KV cache's memory: JSON object {page_tokens, page_bytes, bytes, bytes_per_token, pages {total, used, cached, free},
 * tokens, allocator_bytes, page_table_bytes, fragmentation, efficiency}; rf_free. NULL: no memory. Any thread. */
RF_API char *rf_engine_memory(const rf_engine *g);

/* --- converting ------------------------------------------------------------------------------------------------------- */
typedef struct {
    uint64_t done, total; /* bytes of weights written */
    const char *tensor;   /* the one being written; "" at first */
    const char
        *temporary; /* the file beside `out` that takes its name at the end: all there is to remove, should the */
} rf_convert_state; /* process have to end at once */

typedef struct {
    const char *type; /* "f32", "f16", "bf16", "q8_0"; NULL: what most of the folder's weights are */
    const char *name; /* general.name; NULL: the folder's name */
    bool (*progress)(void *user, const rf_convert_state *s); /* false: stop, request.cancelled. NULL: none */
    void *user;
} rf_convert_options;

/* Makes a GGUF file of a Hugging Face folder (config.json, *.safetensors, tokenizer.json or tokenizer.model), for the
 * architectures that rf_model_open knows. Norms, biases and what is looked up by position stay F32, as llama.cpp's converter
 * has it. Streams: memory does not grow with the weights. `out` is a new file or replaces a GGUF, at once and when all is on
 * disk; what fails or is stopped leaves nothing. opt NULL: defaults. JSON object {architecture, name, type, tensors,
 * parameters, bytes, tokens, tokenizer, pre_tokenizer, warnings: [what becomes other than the folder says]}; rf_free */
RF_API char *rf_convert(const char *dir, const char *out, const rf_convert_options *opt, rf_error *e);
/* --- the context store ------------------------------------------------------------------------------------------------ */
/* Messages kept in one SQLite file, with their order, the edges between them and what they mean (embeddings). Rows are the
 * truth: a message is acknowledged once it is on the disk; the search index beside the file (PATH-index) can always be built
 * again. Several threads and several processes may use one file: any number of readers, one writer at a time (others wait,
 * at most busy_ms, then context.busy, which may be tried again).
 * Any thread may call any function of one rf_context at any time, but open and close. */
typedef struct rf_context rf_context;

typedef struct {       /* {0}: defaults */
    rf_engine *engine; /* computes embeddings; borrowed, closed after the context. NULL: search is by words alone */
    bool read_only;    /* context.read_only for whatever would write; the file must exist */
    /* A text longer than the engine's context gets the vector of its beginning, instead of request.context_length; its words are
     * all found */
    bool cut_long;
    bool no_index;    /* neither load nor build an index: every search is exact. For who asks once and goes */
    uint32_t busy_ms; /* how long to wait for another process; 0: 5000 */
    /* What was repaired, put aside or built again, one line each; from any thread. NULL: it is only logged */
    void (*notice)(void *user, const char *line);
    void *user;
} rf_context_options;

/* path NULL or ":memory:": in memory, gone with close. A file that does not exist is made, readable by its owner alone. A
 * damaged file is renamed to PATH.damaged-N, with a notice, and a new one begun; the file of another program, or of a newer
 * version of this one, is refused and left as it is. opt NULL: defaults. */
RF_API bool rf_context_open(rf_context **out, const char *path, const rf_context_options *opt, rf_error *e);
RF_API void rf_context_close(rf_context *c); /* after every other call returned; ends its background work */
RF_API char *
rf_context_default_path(void); /* rocmforge/context.db in XDG_DATA_HOME; rf_free. NULL: no home, no memory */

typedef struct {
    const char *name; /* "follows", or another of [A-Za-z0-9._-]{1,64} */
    int64_t to;       /* id of a message */
} rf_context_edge;

typedef struct {
    int64_t id;                   /* given by the store, ascending, never used again. Adding: not read */
    int64_t seq;                  /* place in its conversation, from 1. Adding: not read */
    int64_t time_us;              /* since 1970. Adding, 0: now */
    const char *text;             /* UTF-8, 1 byte to 1 MiB; terminated when handed out */
    size_t n_text;                /* bytes */
    const char *role;             /* [A-Za-z0-9._-]{1,64}. Adding, NULL: "user" */
    const char *conversation;     /* [A-Za-z0-9._-]{1,128}. Adding, NULL: "default" */
    const char *metadata;         /* a JSON object, at most 64 KiB. Adding, NULL: {} */
    const rf_context_edge *edges; /* to other messages; "follows" leads to the one before in its conversation */
    size_t n_edges;
} rf_message;

typedef struct rf_messages {
    rf_message *item; /* [n]; owned with all they point to */
    size_t n;
    int64_t total; /* messages that match, on this page or not */
    bool more;     /* there are others behind the last: list them with `after` set to its id */
} rf_messages;
RF_API void rf_messages_free(rf_messages *m); /* NULL is fine */

/* Adds n messages, all or none, each in the order given; ids (NULL: not wanted) receives [n]. With an engine each text is
 * embedded first (one longer than the engine's context: request.context_length, nothing is added). Each message also gets
 * the edge "follows" to the last one before it in its conversation. Edges given must lead to messages that exist. */
RF_API bool rf_context_add(rf_context *c, const rf_message *m, size_t n, int64_t *ids, rf_error *e);
/* The messages with these ids that exist, in that order. */
RF_API bool rf_context_get(rf_context *c, const int64_t *ids, size_t n, rf_messages **out, rf_error *e);

typedef struct {                     /* {0}: the first 100 of all */
    const char *conversation, *role; /* NULL: any */
    int64_t from_us, until_us;       /* from <= time < until; 0: open */
    int64_t after;                   /* ids beyond this one; 0: from the beginning */
    uint32_t limit;                  /* 1 .. 10000; 0: 100 */
    bool newest_first;               /* descending ids; `after` then leads to smaller ones */
} rf_context_filter;
RF_API bool rf_context_list(rf_context *c, const rf_context_filter *f, rf_messages **out,
                            rf_error *e); /* f NULL: {0} */

/* Deletes the messages with these ids, all at once; *n_deleted (NULL: not wanted): how many existed. Rows, words, vectors and
 * edges go; the one that followed a deleted one now follows the one before it. */
RF_API bool rf_context_delete(rf_context *c, const int64_t *ids, size_t n, size_t *n_deleted, rf_error *e);
/* Deletes a conversation, or everything (NULL). Their bytes are overwritten in the file. */
RF_API bool rf_context_clear(rf_context *c, const char *conversation, size_t *n_deleted, rf_error *e);

typedef enum {
    RF_CONTEXT_AUTO =
        0,             /* hybrid where there is an engine, words where there is none; vector for a query that is one */
    RF_CONTEXT_VECTOR, /* nearest by cosine; usage.argument without an engine, unless the query is a vector */
    RF_CONTEXT_WORDS,  /* full text: every word counts, the rarer the more (BM25); nothing in it is syntax */
    RF_CONTEXT_HYBRID  /* both, merged by reciprocal rank (1 / (60 + rank), summed) */
} rf_context_mode;

typedef struct { /* start from {0} */
    const char *text;
    size_t n_text;
    const float
        *vector; /* instead of text: [n_vector], any length but zero; as many floats as the store's vectors have */
    size_t n_vector;
    rf_context_mode mode;
    uint32_t k;      /* 1 .. 1000; 0: 5 */
    uint32_t expand; /* also messages within so many edges, either way, of one found: 0 .. 16; at most 1000 in all */
    const char *conversation, *role; /* filters, of what is found, not of what expansion adds; NULL: any */
    int64_t from_us, until_us;       /* from <= time < until; 0: open */
} rf_context_query;

enum { RF_FOUND_VECTOR = 1, RF_FOUND_WORDS = 2, RF_FOUND_EDGE = 4 };

typedef struct {
    const rf_message *message; /* within the list's */
    float similarity;          /* cosine, -1 .. 1, 1: identical; NAN where nothing says it (no vector, or no engine) */
    double score;      /* what the order is by: similarity, minus BM25, or the sum of reciprocal ranks. Edge: 0 */
    unsigned found_by; /* RF_FOUND_ bits */
    int64_t near_id;   /* EDGE: the message found from which it was reached; else 0 */
    uint32_t steps;    /* EDGE: over so many edges; else 0 */
} rf_context_hit;

typedef struct {
    rf_context_hit *hit; /* [n]; best first, then those by edges, nearest first */
    size_t n;
    rf_messages *messages;  /* [n], in the same order */
    rf_context_mode mode;   /* what was done: never AUTO */
    bool exact;             /* vectors: every one was compared; false: by the index (approximate) */
    int64_t total_messages; /* in the store */
} rf_context_hits;
RF_API bool rf_context_search(rf_context *c, const rf_context_query *q, rf_context_hits **out, rf_error *e);
RF_API void rf_context_hits_free(rf_context_hits *h); /* NULL is fine */

typedef struct {
    int64_t n_messages, n_conversations, n_edges;
    int64_t n_vectors;    /* of this engine's model, or, without an engine, of the newest model */
    int64_t n_others;     /* of other models: kept, not searched */
    int64_t n_unembedded; /* messages without a vector of this model; 0 without an engine */
    uint32_t n_embd;      /* floats of a vector; 0: there is none */
    /* "none" (no vectors), "small" (few enough: every search is exact), "ready", "building" (searches are exact meanwhile) */
    const char *index;
    int64_t n_indexed, n_index_deleted; /* rows in the index, and of those deleted since it was built */
    int64_t file_bytes;                 /* of the database, without its write-ahead log; 0: in memory */
} rf_context_counts;
RF_API bool rf_context_stats(rf_context *c, rf_context_counts *out, rf_error *e);

/* Embeds up to `most` messages that have no vector of this engine's model (they were added without it); *n_done: how many.
 * Fewer than `most`: none is left. */
RF_API bool rf_context_embed(rf_context *c, size_t most, size_t *n_done, rf_error *e);
/* Waits until the index is not being built. */
RF_API void rf_context_settle(rf_context *c);

/* JSON lines: {"id","conversation","seq","role","time_us","text","metadata","edges":[{"name","to"}]}, ascending ids, one state
 * of the store. write returns false to stop (then io.output_closed). */
RF_API bool rf_context_export(rf_context *c, bool (*write)(void *user, const char *line, size_t n), void *user,
                              rf_error *e);
/* Adds lines of that form, all or none; only "text" is required, unknown keys are refused. "to" means the "id" of a line
 * before it, and becomes that message's new id; other edges are refused. The error names the line. *n_added: how many. */
RF_API bool rf_context_import(rf_context *c, const char *lines, size_t n, size_t *n_added, rf_error *e);

/* --- this machine ----------------------------------------------------------------------------------------------------- */
/* JSON array of {kind, name, ...}: the CPU; the GPUs, best first, with `usable` and for those that are not (or are not taken
 * unasked) `reason` {code, text}; kind "runtime": the platforms hip and cuda, with version or reason. rf_free */
RF_API char *rf_devices(rf_error *e);
/* What is wrong with this machine: JSON object {findings: [{level, code, text, fix}], errors, warnings}; level is ok, note,
 * warning or error; fix is absent where there is nothing to do. rf_free */
RF_API char *rf_doctor(rf_error *e);
/* Read bandwidth of main memory in bytes per second, measured for about `ms` milliseconds with so many threads. 0: failed. */
RF_API double rf_read_bandwidth(uint32_t threads, uint32_t ms);

#ifdef __cplusplus
}
#endif
#endif
