/* The command line's one table of options. A command names the options it uses; any other is refused by name, never
 * ignored. Every option has an environment twin ROCMFORGE_<NAME> after each of its long names, used where the command uses
 * the option; the option wins. */
#ifndef ROCMFORGE_CLI_ARGS_H
#define ROCMFORGE_CLI_ARGS_H

#include "rocmforge.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { /* commands, as bits */
       CMD_GENERATE = 1,
       CMD_LOGITS = 2,
       CMD_TOKENIZE = 4,
       CMD_DETOKENIZE = 8,
       CMD_INSPECT = 16,
       CMD_PLAN = 32,
       CMD_BENCH = 64,
       CMD_DEVICES = 128,
       CMD_COMPLETION = 256,
       CMD_SERVE = 512,
       CMD_RENDER = 1 << 11, /* its model may be left out */
       CMD_CHAT = 1 << 12,
       CMD_STATUS = 1 << 13,
       CMD_CANCEL = 1 << 14,
       CMD_DOCTOR = 1 << 15,
       CMD_VERIFY = 1 << 16,
       CMD_EMBED = 1 << 17,
       CMD_CONVERT = 1 << 19,
       CMD_CONTEXT = 1 << 20, /* its model may be left out */
       CMD_MODEL = CMD_GENERATE | CMD_CHAT | CMD_LOGITS | CMD_TOKENIZE | CMD_DETOKENIZE | CMD_INSPECT | CMD_PLAN |
                   CMD_BENCH | CMD_SERVE | CMD_VERIFY | CMD_EMBED,
       CMD_ENGINE = CMD_GENERATE | CMD_CHAT | CMD_LOGITS | CMD_PLAN | CMD_BENCH | CMD_SERVE | CMD_VERIFY | CMD_EMBED,
       CMD_SAMPLED = CMD_GENERATE | CMD_CHAT,             /* they draw tokens */
       CMD_REMOTE = CMD_SAMPLED | CMD_STATUS | CMD_CANCEL /* they can speak to a server */
};

enum { ARGS_MAX_LIST = 64 };

typedef struct {
    const char *item[ARGS_MAX_LIST];
    uint32_t n;
} args_list;

typedef struct {
    unsigned command;
    const char *operand; /* what stood without a dash: the model, a shell's name, a request's id, convert's folder */
    const char *second;  /* and behind it: convert's file */
    const char *context_db, *conversation, *role, *metadata_json, *mode, *since, *until; /* context; serve, chat */
    int64_t k, expand, limit, after;
    bool newest;
    const char *model, *prompt, *file, *output, *tokens, *tokens_file, *device, *cache_k, *cache_v, *format;
    const char *gpu_layers, *split_mode, *tensor_split, *main_gpu, *verify, *placement;
    const char *pooling, *context_model;
    const char *log_level, *log_format, *log_file;
    const char *convert_type, *model_name;
    const char *bench_p, *bench_n, *bench_d, *bench_t; /* lists */
    int64_t max_tokens, context, batch, ubatch, threads, parallel, seed, repeats;
    double temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int64_t top_k, repeat_last_n, top_logprobs;
    bool json, help, no_bos, no_parse_special, pieces, tensors, graph, metadata, ignore_eos, special, stream, quiet;
    bool log_content, no_history, profile, normalize, no_normalize, truncate;
    int64_t dimensions, recall, recall_tokens;
    const char *stop[ARGS_MAX_LIST];
    uint32_t n_stop;
    rf_logit_bias bias[ARGS_MAX_LIST];
    uint32_t n_bias;
    /* serve */
    const char *host; /* to listen at, or of the server that is asked; NULL: none, all is done here */
    const char *api_key, *cacert, *request_id;
    const char *system_prompt, *template_kwargs, *reasoning, *history_file;
    const char *addr, *api_key_file, *alias, *tls_cert, *tls_key, *chunking, *kv_cache_dir, *kv_preset,
        *chat_template_file;
    args_list api_keys, cors, allowed_hosts;
    int64_t port, queue, drain_seconds, max_body, chunk, step_ms, kv_cache_bytes, kv_tokens, max_traces,
        max_connections, header_seconds, body_seconds, idle_seconds, stall_seconds;
    double timeout, trace_sample;
    bool insecure, strict_model, no_prefix_cache, no_slots;
} args;

/* Parses argv (after the command's name) and the environment. 0, or the exit status after a message was printed. */
int args_parse(args *a, unsigned command, int argc, char **argv);
/* Sets one sampling option of a running conversation by a name without dashes ("temp", "top-k", "max_tokens"), or gives all of
 * them as an object under their longest names. `value` is kept by *a. */
int args_set_sampling(args *a, const char *name, const char *value); /* 0, or EXIT_USAGE after a message */
json_t *args_sampling(const args *a);

void args_help(unsigned command); /* the command's options, to standard output */

typedef struct {
    char name[40];            /* "--top-k" or "-t": each spelling comes as one of its own */
    const char *value, *help; /* "FILE", or "a|b|c" where there is a choice; NULL for a flag */
    bool takes_value;
} args_option;
/* Every spelling of every option of a command, for shell completion. */
void args_each(unsigned command, void (*each)(void *ctx, const args_option *o), void *ctx);

#endif
