#include "cli/args.h"

#include "cli/cli.h"
#include "cli/older.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { FLAG, TEXT, INTEGER, NUMBER, BYTES, STOP_LIST, BIAS_LIST, TEXT_LIST } kind;

typedef struct {
    const char *names; /* "-n --predict --max-tokens": the first long one names the environment twin */
    kind kind;
    size_t at; /* offset in args */
    unsigned commands;
    double lo, hi; /* inclusive, for numbers */
    const char *value, *help;
} option;

#define AT(field) offsetof(args, field)

static const option options[] = {
    {"-m --model --gguf", TEXT, AT(model), CMD_MODEL | CMD_RENDER, 0, 0, "FILE",
     "the GGUF file (first shard of a split one); also the first argument"},
    {"--db", TEXT, AT(context_db), CMD_CONTEXT, 0, 0, "FILE",
     "where messages are kept; :memory: nowhere [rocmforge/context.db in XDG_DATA_HOME]"},
    {"-m --model --gguf", TEXT, AT(model), CMD_CONTEXT, 0, 0, "FILE",
     "a GGUF model that embeds what is added and searched; without one: words only"},
    {"--k", INTEGER, AT(k), CMD_CONTEXT, 1, 1000, "N", "search: how many messages [5]"},
    {"--expand", INTEGER, AT(expand), CMD_CONTEXT, 0, 16, "N", "search: also messages within N edges of one found [0]"},
    {"--mode", TEXT, AT(mode), CMD_CONTEXT, 0, 0, "auto|vector|words|hybrid",
     "search: by meaning, by words, or both merged; auto: both where there is a model [auto]"},
    {"--conversation", TEXT, AT(conversation), CMD_CONTEXT, 0, 0, "NAME",
     "add: to this one [default]; else: only what belongs to it"},
    {"--role", TEXT, AT(role), CMD_CONTEXT, 0, 0, "NAME", "add: who says it [user]; search, list: only what they said"},
    {"--metadata-json", TEXT, AT(metadata_json), CMD_CONTEXT, 0, 0, "JSON",
     "add: an object kept with the message [{}]"},
    {"--since", TEXT, AT(since), CMD_CONTEXT, 0, 0, "TIME",
     "search, list: not before; seconds since 1970, or 2026-11-21[T10:20:30] in UTC"},
    {"--until", TEXT, AT(until), CMD_CONTEXT, 0, 0, "TIME", "search, list: before this time"},
    {"--limit", INTEGER, AT(limit), CMD_CONTEXT, 1, 10000, "N", "list: how many [100]"},
    {"--after", INTEGER, AT(after), CMD_CONTEXT, 0, 9007199254740992.0, "ID", "list: those behind this message"},
    {"--newest", FLAG, AT(newest), CMD_CONTEXT, 0, 0, NULL, "list: the newest first"},
    {"--host", TEXT, AT(host), CMD_SAMPLED, 0, 0, "URL",
     "ask the server at this address, as http://127.0.0.1:8080; nothing is computed here"},
    {"--host", TEXT, AT(host), CMD_STATUS | CMD_CANCEL, 0, 0, "URL", "the server [http://127.0.0.1:8080]"},
    {"--api-key", TEXT, AT(api_key), CMD_REMOTE, 0, 0, "KEY", "the server's key"},
    {"--cacert", TEXT, AT(cacert), CMD_REMOTE, 0, 0, "FILE", "certificates to trust for https, as PEM"},
    {"--request-id", TEXT, AT(request_id), CMD_STATUS | CMD_CANCEL, 0, 0, "ID", "the request; also the first argument"},
    {"-p --prompt", TEXT, AT(prompt), CMD_CHAT, 0, 0, "TEXT", "say this, print the answer and end"},
    {"-sys --system-prompt", TEXT, AT(system_prompt), CMD_CHAT, 0, 0, "TEXT", "what the model is told before all else"},
    {"--chat-template-kwargs", TEXT, AT(template_kwargs), CMD_CHAT, 0, 0, "JSON",
     "variables for the template, as {\"enable_thinking\": false}"},
    {"--reasoning", TEXT, AT(reasoning), CMD_CHAT, 0, 0, "auto|show|hide",
     "what the model thinks before it answers; auto: on terminals [auto]"},
    {"--history-file", TEXT, AT(history_file), CMD_CHAT, 0, 0, "FILE",
     "where typed lines are kept [rocmforge/history in XDG_STATE_HOME]"},
    {"--no-history", FLAG, AT(no_history), CMD_CHAT, 0, 0, NULL, "neither read nor keep typed lines"},
    {"-p --prompt", TEXT, AT(prompt), CMD_GENERATE, 0, 0, "TEXT",
     "the text to continue, exactly as given (else -f, else standard input)"},
    {"-p --prompt", TEXT, AT(prompt), CMD_EMBED, 0, 0, "TEXT",
     "one text, whole (else -f, else standard input: one text a line)"},
    {"-f --file", TEXT, AT(file), CMD_EMBED, 0, 0, "FILE", "read the texts from a file; -: standard input"},
    {"--pooling", TEXT, AT(pooling), CMD_EMBED | CMD_SERVE, 0, 0, "model|mean|cls|last|rank",
     "how a text's rows become one vector; rank: scores, of lines QUERY<tab>DOCUMENT [as the model says, else mean]"},
    {"--context", TEXT, AT(context_db), CMD_SERVE, 0, 0, "FILE",
     "keep messages here, found again by /context/... and put before chats that ask; :memory: for while it runs"},
    {"--context", TEXT, AT(context_db), CMD_CHAT, 0, 0, "FILE",
     "keep what is said here, message by message; --recall finds it again"},
    {"--context-model", TEXT, AT(context_model), CMD_SERVE | CMD_CHAT, 0, 0, "FILE",
     "GGUF file whose embeddings find messages by meaning [the model, if it only embeds; else by words alone]"},
    {"--recall", INTEGER, AT(recall), CMD_CHAT, 0, 64, "N",
     "put the N kept messages that fit best before the model; 0: none [0]"},
    {"--recall-tokens", INTEGER, AT(recall_tokens), CMD_CHAT, 1, 1 << 20, "N",
     "most tokens that recalled messages may take [512]"},
    {"--conversation", TEXT, AT(conversation), CMD_CHAT, 0, 0, "NAME",
     "keep messages under this name, and recall from it alone [default; recall from all]"},
    {"--normalize", FLAG, AT(normalize), CMD_EMBED, 0, 0, NULL,
     "vectors of length 1: the default; wins over --no-normalize"},
    {"--no-normalize", FLAG, AT(no_normalize), CMD_EMBED, 0, 0, NULL, "vectors as the model gives them, of any length"},
    {"--dimensions", INTEGER, AT(dimensions), CMD_EMBED, 1, 1 << 20, "N",
     "only the first N numbers, length 1 again; for models that were trained for it [all]"},
    {"--truncate", FLAG, AT(truncate), CMD_EMBED, 0, 0, NULL,
     "cut texts that are longer than the context [refuse them]"},
    {"-f --file", TEXT, AT(file), CMD_GENERATE, 0, 0, "FILE", "read the text from a file; -: standard input"},
    {"-n --predict --n-predict --max-tokens", INTEGER, AT(max_tokens), CMD_SAMPLED, -1, 1 << 30, "N",
     "tokens to generate; -1: to the end, or a full context [-1]"},
    {"--template --chat-template-file", TEXT, AT(chat_template_file), CMD_RENDER, 0, 0, "FILE",
     "the chat template, Jinja; instead of the model's own"},
    {"--tokens", TEXT, AT(tokens), CMD_LOGITS, 0, 0, "IDS", "token ids, comma separated"},
    {"--tokens-file", TEXT, AT(tokens_file), CMD_LOGITS, 0, 0, "FILE",
     "token ids from a file, separated by commas or spaces; -: standard input"},
    {"-o --output", TEXT, AT(output), CMD_LOGITS, 0, 0, "FILE", "where to write: float32 NPY, [n_tok, n_vocab]"},
    {"-p --n-prompt", TEXT, AT(bench_p), CMD_BENCH, 0, 0, "N[,N]", "prompt lengths to time; 0: none [512]"},
    {"-n --n-gen", TEXT, AT(bench_n), CMD_BENCH, 0, 0, "N[,N]", "generation lengths to time; 0: none [128]"},
    {"-d --n-depth", TEXT, AT(bench_d), CMD_BENCH, 0, 0, "N[,N]", "tokens already in the context [0]"},
    {"-t --threads", TEXT, AT(bench_t), CMD_BENCH, 0, 0, "N[,N]", "threads [physical cores this process may use]"},
    {"-r --repetitions", INTEGER, AT(repeats), CMD_BENCH, 1, 1000, "N", "measure each so often [5]"},
    {"-o --output", TEXT, AT(format), CMD_BENCH, 0, 0, "md|json|csv", "form of the table [md]"},
    {"-c --ctx-size", INTEGER, AT(context),
     CMD_SAMPLED | CMD_LOGITS | CMD_PLAN | CMD_SERVE | CMD_VERIFY | CMD_EMBED | CMD_CONTEXT, 0, 1 << 24, "N",
     "context in tokens; 0: the trained length, at most 8192 [0]"},
    {"--parallel", INTEGER, AT(parallel), CMD_PLAN, 1, 4096, "N", "sequences of full context to have room for [1]"},
    {"-np --parallel", INTEGER, AT(parallel), CMD_SERVE | CMD_EMBED, 1, 4096, "N", "sequences that run at once [8]"},
    {"-b --batch-size", INTEGER, AT(batch), CMD_ENGINE, 1, 1 << 20, "N",
     "most tokens handed to the engine at once; never above --ubatch-size here [2048]"},
    {"-ub --ubatch-size --ubatch", INTEGER, AT(ubatch), CMD_ENGINE, 1, 16384, "N", "tokens of one step [512]"},
    {"-t --threads", INTEGER, AT(threads),
     CMD_SAMPLED | CMD_LOGITS | CMD_PLAN | CMD_SERVE | CMD_VERIFY | CMD_EMBED | CMD_CONTEXT, 1, 256, "N",
     "threads [physical cores this process may use]"},
    {"-ctk --cache-type-k", TEXT, AT(cache_k), CMD_ENGINE, 0, 0, "f16|bf16|f32|q8_0|q4_0",
     "KV cache type of keys [f16]"},
    {"-ctv --cache-type-v", TEXT, AT(cache_v), CMD_ENGINE, 0, 0, "f16|bf16|f32|q8_0|q4_0",
     "KV cache type of values [f16]"},
    {"--device", TEXT, AT(device), CMD_ENGINE | CMD_CONTEXT, 0, 0, "auto|cpu|gpu|hip|cuda",
     "where to compute; also gpu:N, a UUID or a PCI address, as `rocmforge devices` lists them [auto]"},
    {"--profile", FLAG, AT(profile), CMD_BENCH, 0, 0, NULL,
     "time every kernel: launches, bytes it must move, GB/s; what is timed as a whole takes longer then"},
    {"--placement", TEXT, AT(placement), CMD_ENGINE, 0, 0, "gpu|cpu|cost|only",
     "what GPUs can, the rest on the CPU; the CPU, GPUs what it lacks memory for; what is cheaper; the device alone "
     "[gpu; with --device: only]"},
    {"--verify", TEXT, AT(verify), CMD_ENGINE & ~(CMD_PLAN | CMD_VERIFY), 0, 0, "once|always|off",
     "hold a GPU's numbers against the CPU's when loading [once]"},
    {"-ngl --gpu-layers --n-gpu-layers", TEXT, AT(gpu_layers), CMD_ENGINE, 0, 0, "N|all",
     "how many of the last layers GPUs compute, the CPU the others; 0: the CPU all [all]"},
    {"-sm --split-mode", TEXT, AT(split_mode), CMD_ENGINE, 0, 0, "none|layer",
     "one GPU, or layers over all of them [none]"},
    {"-ts --tensor-split", TEXT, AT(tensor_split), CMD_ENGINE, 0, 0, "X[,X]",
     "shares of layers of each GPU, as 3,1; means -sm layer [by free memory]"},
    {"-mg --main-gpu", TEXT, AT(main_gpu), CMD_ENGINE, 0, 0, "N", "the GPU to take, or to begin with [the best]"},
    {"-s --seed", INTEGER, AT(seed), CMD_SAMPLED, -1, 9007199254740992.0, "N",
     "seed of the random numbers; -1: a new one each time [-1]"},
    {"--temp --temperature", NUMBER, AT(temperature), CMD_SAMPLED, 0, 100, "X",
     "temperature; 0: always the likeliest token [0.8]"},
    {"--top-k", INTEGER, AT(top_k), CMD_SAMPLED, 0, 1 << 30, "N", "draw from the N likeliest; 0: off [40]"},
    {"--top-p", NUMBER, AT(top_p), CMD_SAMPLED, 0, 1, "X",
     "draw from the likeliest that together reach X; 1: off [0.95]"},
    {"--min-p", NUMBER, AT(min_p), CMD_SAMPLED, 0, 1, "X", "drop tokens below X times the likeliest; 0: off [0.05]"},
    {"--repeat-penalty", NUMBER, AT(repeat_penalty), CMD_SAMPLED, 0.01, 100, "X",
     "divide the logits of recent tokens; 1: off [1]"},
    {"--repeat-last-n", INTEGER, AT(repeat_last_n), CMD_SAMPLED, -1, 1 << 30, "N",
     "how many recent tokens the penalties see; -1: all [64]"},
    {"--presence-penalty", NUMBER, AT(presence_penalty), CMD_SAMPLED, -100, 100, "X",
     "subtract from the logits of tokens seen; 0: off [0]"},
    {"--frequency-penalty", NUMBER, AT(frequency_penalty), CMD_SAMPLED, -100, 100, "X",
     "the same times how often they were seen; 0: off [0]"},
    {"--logit-bias", BIAS_LIST, 0, CMD_SAMPLED, 0, 0, "ID(+|-)X",
     "add to a token's logit, as 15043+1.5 or 15043-inf; may be repeated"},
    {"--ignore-eos", FLAG, AT(ignore_eos), CMD_SAMPLED, 0, 0, NULL, "never draw an end-of-generation token"},
    {"--stop", STOP_LIST, 0, CMD_SAMPLED, 0, 0, "TEXT", "end where this text would begin; may be repeated"},
    {"--top-logprobs", INTEGER, AT(top_logprobs), CMD_SAMPLED, 0, 64, "N",
     "with --json: log-probabilities, and N alternatives a token [off]"},
    {"--special", FLAG, AT(special), CMD_SAMPLED, 0, 0, NULL, "show control tokens as their text"},
    {"--stream", FLAG, AT(stream), CMD_SAMPLED, 0, 0, NULL, "write the text as it comes: so it is, unless with --json"},
    {"--no-bos", FLAG, AT(no_bos), CMD_TOKENIZE | CMD_GENERATE, 0, 0, NULL, "add no special token"},
    {"--no-parse-special", FLAG, AT(no_parse_special), CMD_TOKENIZE | CMD_GENERATE, 0, 0, NULL,
     "control tokens in the text are plain text"},
    {"--pieces", FLAG, AT(pieces), CMD_TOKENIZE, 0, 0, NULL, "the tokens' texts instead of their ids"},
    {"--tensors", FLAG, AT(tensors), CMD_INSPECT, 0, 0, NULL, "every tensor: type, shape, bytes"},
    {"--metadata", FLAG, AT(metadata), CMD_INSPECT, 0, 0, NULL, "every metadata key"},
    {"--graph", FLAG, AT(graph), CMD_INSPECT, 0, 0, NULL, "the computation graph as it would run"},
    {"--type --outtype", TEXT, AT(convert_type), CMD_CONVERT, 0, 0, "f32|f16|bf16|q8_0",
     "type of the weights; norms, biases and positions stay F32 [what the folder has]"},
    {"-o --output --outfile", TEXT, AT(output), CMD_CONVERT, 0, 0, "FILE",
     "the file to write; also the second argument"},
    {"--name --model-name", TEXT, AT(model_name), CMD_CONVERT, 0, 0, "NAME", "what the model is called [the folder]"},
    {"-q --quiet", FLAG, AT(quiet),
     CMD_SAMPLED | CMD_LOGITS | CMD_BENCH | CMD_SERVE | CMD_CONVERT | CMD_EMBED | CMD_CONTEXT, 0, 0, NULL,
     "no progress, device or speed on standard error"},
    {"--json", FLAG, AT(json),
     CMD_REMOTE | CMD_INSPECT | CMD_PLAN | CMD_DEVICES | CMD_DOCTOR | CMD_VERIFY | CMD_TOKENIZE | CMD_CONVERT |
         CMD_EMBED | CMD_CONTEXT,
     0, 0, NULL, "one JSON document on standard output"},
    {"--log-level", TEXT, AT(log_level), CMD_ENGINE, 0, 0, "LEVEL",
     "trace, debug, info, warn, error or off; also by module, as warn,server=debug [warn; serve: info]"},
    {"--log-format", TEXT, AT(log_format), CMD_ENGINE, 0, 0, "human|json", "form of the log [human; in a file: json]"},
    {"--log-file", TEXT, AT(log_file), CMD_ENGINE, 0, 0, "FILE", "append the log to a file [standard error]"},
    {"--log-content", FLAG, AT(log_content), CMD_ENGINE, 0, 0, NULL, "prompts and answers may be logged, at debug"},
    {"--host", TEXT, AT(host), CMD_SERVE, 0, 0, "HOST",
     "address to listen at; other than loopback needs --api-key or --insecure [127.0.0.1]"},
    {"--port", INTEGER, AT(port), CMD_SERVE, 0, 65535, "N", "port to listen at; 0: a free one, said [8080]"},
    {"--addr", TEXT, AT(addr), CMD_SERVE, 0, 0, "HOST:PORT", "both at once"},
    {"--queue", INTEGER, AT(queue), CMD_SERVE, 1, 1 << 20, "N", "requests that may wait; more are refused [1000]"},
    {"--timeout", NUMBER, AT(timeout), CMD_SERVE, 0, 1 << 24, "SECONDS", "longest time of a request; 0: none [0]"},
    {"--drain-seconds", INTEGER, AT(drain_seconds), CMD_SERVE, 0, 86400, "N",
     "how long running requests may go on after SIGTERM or Ctrl-C [30]"},
    {"--api-key", TEXT_LIST, AT(api_keys), CMD_SERVE, 0, 0, "KEY", "key that clients must bring; may be repeated"},
    {"--api-key-file", TEXT, AT(api_key_file), CMD_SERVE, 0, 0, "FILE", "keys from a file, one a line"},
    {"--insecure", FLAG, AT(insecure), CMD_SERVE, 0, 0, NULL, "listen beyond loopback without a key"},
    {"--cors", TEXT_LIST, AT(cors), CMD_SERVE, 0, 0, "ORIGIN",
     "web pages of this origin may ask (https://example.org); may be repeated"},
    {"--allowed-host", TEXT_LIST, AT(allowed_hosts), CMD_SERVE, 0, 0, "NAME",
     "Host name to answer to, beside those of loopback; may be repeated"},
    {"-a --alias", TEXT, AT(alias), CMD_SERVE, 0, 0, "NAME", "the model's name in replies [the file's]"},
    {"--strict-model", FLAG, AT(strict_model), CMD_SERVE, 0, 0, NULL, "refuse requests that name another model"},
    {"--tls-cert --ssl-cert-file", TEXT, AT(tls_cert), CMD_SERVE, 0, 0, "FILE", "certificate chain, PEM"},
    {"--tls-key --ssl-key-file", TEXT, AT(tls_key), CMD_SERVE, 0, 0, "FILE", "its private key, PEM"},
    {"--max-body", BYTES, AT(max_body), CMD_SERVE, 1, 1 << 30, "BYTES", "largest request body, as 16M [16M]"},
    {"--max-connections", INTEGER, AT(max_connections), CMD_SERVE, 1, 1 << 20, "N",
     "connections at once [as many as open files allow]"},
    {"--header-seconds", INTEGER, AT(header_seconds), CMD_SERVE, 1, 86400, "N",
     "longest time from a request's first byte to the end of its headers [10]"},
    {"--body-seconds", INTEGER, AT(body_seconds), CMD_SERVE, 1, 86400, "N",
     "longest time of a request's body, which must also bring 1 KiB a second [60]"},
    {"--idle-seconds", INTEGER, AT(idle_seconds), CMD_SERVE, 1, 86400, "N",
     "how long a connection may wait without a request [75]"},
    {"--stall-seconds", INTEGER, AT(stall_seconds), CMD_SERVE, 1, 86400, "N",
     "a client that takes nothing of its reply for so long is dropped [30]"},
    {"--chunking", TEXT, AT(chunking), CMD_SERVE, 0, 0, "none|fixed|adaptive",
     "how prompts are read beside running generations [adaptive]"},
    {"--chunk", INTEGER, AT(chunk), CMD_SERVE, 1, 16384, "N", "fixed: tokens of prompts a step [128]"},
    {"--step-ms", INTEGER, AT(step_ms), CMD_SERVE, 1, 60000, "N", "adaptive: longest step beside generations [100]"},
    {"--kv-cache-dir", TEXT, AT(kv_cache_dir), CMD_SERVE, 0, 0, "DIR", "keep pages of prompts here over restarts"},
    {"--kv-cache-size", BYTES, AT(kv_cache_bytes), CMD_SERVE, 1, 1LL << 50, "BYTES", "most bytes there, as 4G [4G]"},
    {"--kv-preset", TEXT, AT(kv_preset), CMD_SERVE, 0, 0, "small|medium|large", "size of the KV cache and its pages"},
    {"--kv-tokens", INTEGER, AT(kv_tokens), CMD_SERVE, 1, 1 << 30, "N",
     "tokens the KV cache holds [context times parallel, or what fits]"},
    {"--no-prefix-cache", FLAG, AT(no_prefix_cache), CMD_SERVE, 0, 0, NULL, "compute every prompt anew"},
    {"--chat-template-file", TEXT, AT(chat_template_file), CMD_CHAT | CMD_SERVE, 0, 0, "FILE",
     "chat template instead of the model's own"},
    {"--no-slots", FLAG, AT(no_slots), CMD_SERVE, 0, 0, NULL, "no GET /slots"},
    {"--trace-sample --trace-sample-rate", NUMBER, AT(trace_sample), CMD_SERVE, 0, 1, "X",
     "share of requests whose spans are kept [0.1]"},
    {"--max-traces", INTEGER, AT(max_traces), CMD_SERVE, 0, 1000000, "N", "requests kept for GET /traces [1000]"},
    {"-h --help", FLAG, AT(help), ~0u, 0, 0, NULL, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof *options };

/* Is `name` (of n bytes) one of the option's names? */
static bool has_name(const option *o, const char *name, size_t n) {
    for (const char *p = o->names; *p;) {
        size_t k = strcspn(p, " ");
        if (k == n && memcmp(p, name, n) == 0) return true;
        p += k + (p[k] == ' ');
    }
    return false;
}

static int bad(const char *name, const char *value, const char *why) {
    return cli_usage("usage.range", "%s %.120s: %s", name, *value ? value : "''", why);
}

/* A value too large even for its C type counts as out of range, too, not as no number. */
static int set_number(args *a, const option *o, const char *name, const char *value) {
    char *end, why[96];
    bool whole = o->kind == INTEGER;
    errno = 0;
    int64_t n = whole ? strtoll(value, &end, 10) : 0;
    double x = whole ? (double)n : strtod(value, &end);
    bool too_large = errno == ERANGE && (whole || isinf(x));
    if (end == value || *end || isnan(x)) return bad(name, value, whole ? "give a whole number" : "give a number");
    snprintf(why, sizeof why, "give %.16g to %.16g", o->lo, o->hi);
    if (too_large || x < o->lo || x > o->hi) return bad(name, value, why);
    if (whole)
        memcpy((char *)a + o->at, &n, sizeof n);
    else
        memcpy((char *)a + o->at, &x, sizeof x);
    return 0;
}

/* "16M", "4GiB": bytes, with a power of 1024 behind the number. */
static int set_bytes(args *a, const option *o, const char *name, const char *value) {
    static const char units[] = "KMGT";
    char *end, why[64];
    snprintf(why, sizeof why, "give %.0f to %.0f bytes", o->lo, o->hi);
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (end == value) return bad(name, value, "give a number of bytes, as 16M");
    const char *unit = *end ? strchr(units, *end & ~32) : NULL;
    int64_t factor = unit ? 1LL << 10 * (unit - units + 1) : 1, bytes;
    const char *rest = end + (unit != NULL);
    if (*rest && strcmp(rest, "iB") && strcmp(rest, "B")) return bad(name, value, "give a number of bytes, as 16M");
    if (errno == ERANGE || __builtin_mul_overflow(n, factor, &bytes) || (double)bytes < o->lo || (double)bytes > o->hi)
        return bad(name, value, why);
    memcpy((char *)a + o->at, &bytes, sizeof bytes);
    return 0;
}

static int add_text(args *a, const option *o, const char *name, const char *value) {
    args_list *l = (args_list *)(void *)((char *)a + o->at);
    if (!*value) return bad(name, value, "is empty");
    if (l->n == ARGS_MAX_LIST) return bad(name, value, "given more than 64 times");
    l->item[l->n++] = value;
    return 0;
}

static int add_bias(args *a, const char *name, const char *value) {
    char *end;
    long id = strtol(value, &end, 10);
    if (end == value || id < 0 || id > INT32_MAX || (*end != '+' && *end != '-'))
        return bad(name, value, "give ID+X or ID-X, as 15043-1.5");
    const char *number = end;
    double x = strtod(number, &end);
    if (end == number || *end || isnan(x) || x == (double)INFINITY)
        return bad(name, value, "the bias is no number (only -inf may be infinite)");
    if (a->n_bias == ARGS_MAX_LIST) return bad(name, value, "more than 64 biases");
    a->bias[a->n_bias++] = (rf_logit_bias){(int32_t)id, (float)x};
    return 0;
}

static int set(args *a, const option *o, const char *name, const char *value) {
    switch (o->kind) {
    case FLAG: *(bool *)((char *)a + o->at) = true; return 0;
    case TEXT: memcpy((char *)a + o->at, &value, sizeof value); return 0;
    case INTEGER:
    case NUMBER: return set_number(a, o, name, value);
    case BYTES: return set_bytes(a, o, name, value);
    case TEXT_LIST: return add_text(a, o, name, value);
    case BIAS_LIST: return add_bias(a, name, value);
    case STOP_LIST:
        if (!*value) return bad(name, value, "an empty stop text would stop at once");
        if (a->n_stop == ARGS_MAX_LIST) return bad(name, value, "more than 64 stop texts");
        a->stop[a->n_stop++] = value;
        return 0;
    }
    return 0;
}

/* --- the environment -------------------------------------------------------------------------------------------------- */
typedef struct {
    args *a;
    unsigned command;
    bool from_env[N_OPTIONS]; /* set so far by the environment only: the command line replaces it */
    bool given[N_OPTIONS];    /* on the command line */
} parser;

static int set_flag_from_env(args *a, const option *o, const char *name, const char *value) {
    if (strcmp(value, "1") == 0 || strcmp(value, "true") == 0) return set(a, o, name, value);
    if (strcmp(value, "0") == 0 || strcmp(value, "false") == 0) return 0;
    return bad(name, value, "give 1 or 0");
}

/* "--top-k" -> "ROCMFORGE_TOP_K" */
static void twin_name(char *out, size_t size, const char *name, size_t n) {
    size_t at = (size_t)snprintf(out, size, "ROCMFORGE_");
    for (size_t k = 2; k < n && at + 1 < size; k++)
        out[at++] = (char)(name[k] == '-' ? '_' : name[k] >= 'a' && name[k] <= 'z' ? name[k] - 32 : name[k]);
    out[at] = 0;
}

/* The twins of every long name of an option; the first that is set and not empty counts. */
static int read_twins(parser *p, int i) {
    const option *o = &options[i];
    for (const char *name = strstr(o->names, "--"); name; name = strstr(name + 2, " --")) {
        name += *name == ' ';
        char twin[64];
        twin_name(twin, sizeof twin, name, strcspn(name, " "));
        const char *value = getenv(twin);
        if (!value || !*value) continue;
        p->from_env[i] = true;
        return o->kind == FLAG ? set_flag_from_env(p->a, o, twin, value) : set(p->a, o, twin, value);
    }
    return 0;
}

static int read_older_name(parser *p, int i) {
    const option *o = &options[i];
    for (const older_name *n = older_names; n->variable && !p->from_env[i]; n++) {
        const char *value = getenv(n->variable);
        if (!value || !*value || !has_name(o, n->option, strlen(n->option))) continue;
        p->from_env[i] = true;
        return set(p->a, o, n->variable, value);
    }
    return 0;
}

static int read_environment(parser *p) {
    int rc = 0;
    if (p->command & (CMD_MODEL | CMD_DEVICES | CMD_DOCTOR)) older_warn();
    for (int i = 0; !rc && i < N_OPTIONS; i++)
        if ((options[i].commands & p->command) && options[i].at != AT(help)) {
            rc = read_twins(p, i);
            if (!rc) rc = read_older_name(p, i);
        }
    return rc;
}

/* --- the command line ------------------------------------------------------------------------------------------------- */

/* Options of llama.cpp that INTERFACE promises for later: named as such, so that nobody hunts for a typing error. */
static const char *const planned[] = {
    "-tb",         "--threads-batch", "-fa",       "--flash-attn",   "--typical", "--dry-",
    "--xtc-",      "--mirostat",      "--grammar", "--grammar-file", "-j",        "--json-schema",
    "--lora",      "--mlock",         "--no-mmap", "--override-kv",  "--rope-",   "--yarn-",
    "--tokenizer",
};

static int unknown_option(const char *arg, size_t n) {
    for (size_t i = 0; i < sizeof planned / sizeof *planned; i++) {
        size_t k = strlen(planned[i]);
        bool family = planned[i][k - 1] == '-' || strcmp(planned[i], "--mirostat") == 0;
        if (family ? n >= k && memcmp(arg, planned[i], k) == 0 : n == k && memcmp(arg, planned[i], k) == 0)
            return cli_usage("usage.argument", "%.*s is not built yet", (int)n, arg);
    }
    return cli_usage("usage.argument", "unknown option %.80s; see --help", arg);
}

/* Two ways to say one thing: naming one on the command line replaces the other's value from the environment. */
static const size_t either[][2] = {{AT(prompt), AT(file)}, {AT(tokens), AT(tokens_file)}, {AT(host), AT(addr)}};

static void replace_environment(parser *p, int k) {
    args *a = p->a;
    const option *o = &options[k];
    if (p->from_env[k] && o->kind == STOP_LIST) a->n_stop = 0;
    if (p->from_env[k] && o->kind == BIAS_LIST) a->n_bias = 0;
    if (p->from_env[k] && o->kind == TEXT_LIST) ((args_list *)(void *)((char *)a + o->at))->n = 0;
    p->from_env[k] = false;
    for (size_t i = 0; i < 2 * sizeof either / sizeof *either; i++) {
        if (o->kind != TEXT || either[i / 2][i % 2] != o->at) continue;
        for (int other = 0; other < N_OPTIONS; other++)
            if (p->from_env[other] && options[other].kind == TEXT && options[other].at == either[i / 2][1 - i % 2])
                memcpy((char *)a + options[other].at, &(char *){NULL}, sizeof(char *));
    }
}

/* One option at argv[*i]; "--name=value" is taken too. */
static int read_option(parser *p, int argc, char **argv, int *i) {
    const char *arg = argv[*i], *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
    size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
    bool elsewhere = false;
    for (int k = 0; k < N_OPTIONS; k++) {
        const option *o = &options[k];
        if (!has_name(o, arg, n)) continue;
        elsewhere = true;
        if (!(o->commands & p->command)) continue;
        if (o->kind == FLAG && equals) return cli_usage("usage.argument", "%.*s takes no value", (int)n, arg);
        if (o->kind != FLAG && !equals && ++*i >= argc)
            return cli_usage("usage.argument", "%s needs a value: %s %s", arg, arg, o->value);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)n, arg);
        replace_environment(p, k);
        p->given[k] = true;
        return set(p->a, o, name, o->kind == FLAG ? NULL : equals ? equals + 1 : argv[*i]);
    }
    if (elsewhere) return cli_usage("usage.argument", "%.*s is not used by this command", (int)n, arg);
    return unknown_option(arg, n);
}

/* What an engine in this process needs means nothing to a server. */
static const size_t here_only[] = {AT(context),      AT(batch),
                                   AT(ubatch),       AT(threads),
                                   AT(cache_k),      AT(cache_v),
                                   AT(device),       AT(gpu_layers),
                                   AT(split_mode),   AT(tensor_split),
                                   AT(main_gpu),     AT(verify),
                                   AT(special),      AT(chat_template_file),
                                   AT(context_db),   AT(context_model),
                                   AT(conversation), AT(recall),
                                   AT(recall_tokens)};

static bool given(const parser *p, size_t at) {
    for (int i = 0; i < N_OPTIONS; i++)
        if (p->given[i] && options[i].at == at) return true;
    return false;
}

/* A server in the environment is for when no model is named. */
static int settle_host(parser *p) {
    args *a = p->a;
    if (!given(p, AT(host)) && (a->operand || a->model)) a->host = NULL;
    for (size_t k = 0; a->host && k < sizeof here_only / sizeof *here_only; k++)
        for (int i = 0; i < N_OPTIONS; i++)
            if (p->given[i] && options[i].at == here_only[k])
                return cli_usage("usage.argument", "%.*s is the server's to choose: not together with --host",
                                 (int)strcspn(options[i].names, " "), options[i].names);
    if (!a->host && (given(p, AT(api_key)) || given(p, AT(cacert))))
        return cli_usage("usage.argument", "--api-key and --cacert are for a server: give --host URL, too");
    return 0;
}

/* The model: first argument or -m, never two of them; else the environment's (-m and its twins share a->model). */
static int settle_model(parser *p) {
    args *a = p->a;
    bool by_option = false;
    for (int i = 0; i < N_OPTIONS; i++)
        if (options[i].kind == TEXT && options[i].at == AT(model) && options[i].commands & p->command)
            by_option = a->model && !p->from_env[i];
    if (a->operand && by_option)
        return cli_usage("usage.argument", "the model is given twice: %.120s and %.120s", a->model, a->operand);
    if (a->operand) a->model = a->operand;
    if (a->host && (p->command & CMD_REMOTE)) {
        if (!by_option && !a->operand) a->model = NULL; /* the environment's file means nothing there */
        return 0;
    }
    if (!a->model || !*a->model)
        return cli_usage("usage.argument", "which model? Give a .gguf file, -m FILE, or set ROCMFORGE_GGUF");
    return 0;
}

/* As it was written: 0.8, not the 0.800000012 that a float makes of it. */
static double as_written(float x) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)x);
    return strtod(text, NULL);
}

int args_parse(args *a, unsigned command, int argc, char **argv) {
    rf_request_params d = rf_request_defaults();
    *a = (args){
        .command = command, .max_tokens = -1, .seed = -1, .repeats = 5, .temperature = as_written(d.temperature)};
    a->top_k = d.top_k, a->top_p = as_written(d.top_p), a->min_p = as_written(d.min_p),
    a->repeat_last_n = d.repeat_last_n;
    a->repeat_penalty = as_written(d.repeat_penalty), a->top_logprobs = -1;
    a->port = -1, a->drain_seconds = -1, a->trace_sample = -1, a->max_traces = -1;
    parser p = {.a = a, .command = command};
    int rc = read_environment(&p);
    bool only_operands = false;
    for (int i = 0; !rc && i < argc; i++) {
        if (!only_operands && strcmp(argv[i], "--") == 0)
            only_operands = true;
        else if (!only_operands && argv[i][0] == '-' && argv[i][1])
            rc = read_option(&p, argc, argv, &i);
        else if (!a->operand)
            a->operand = argv[i];
        else if (!a->second && (command & (CMD_CONVERT | CMD_CONTEXT)))
            a->second = argv[i];
        else
            rc = cli_usage("usage.argument", "one argument too many: %.120s", argv[i]);
    }
    if (!rc && (command & CMD_REMOTE & CMD_MODEL)) rc = settle_host(&p);
    return rc || a->help || !(command & CMD_MODEL) ? rc : settle_model(&p);
}

/* --- a conversation's settings ---------------------------------------------------------------------------------------- */
static const size_t not_sampling[] = {AT(stream), AT(special), AT(top_logprobs)};

static bool is_sampling(const option *o) {
    if (o->commands != CMD_SAMPLED || o->kind == TEXT) return false;
    for (size_t i = 0; i < sizeof not_sampling / sizeof *not_sampling; i++)
        if (o->at == not_sampling[i]) return false;
    return true;
}

/* "top_k" or "top-k" is "--top-k". */
static bool means(const option *o, const char *name) {
    char dashed[48] = "--";
    size_t n = strlen(name);
    if (n == 0 || n > sizeof dashed - 3) return false;
    for (size_t i = 0; i < n; i++) dashed[i + 2] = name[i] == '_' ? '-' : name[i];
    return has_name(o, dashed, n + 2);
}

int args_set_sampling(args *a, const char *name, const char *value) {
    for (int i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        if (!is_sampling(o) || !means(o, name)) continue;
        if (o->kind == FLAG) {
            *(bool *)((char *)a + o->at) = false;
            return set_flag_from_env(a, o, name, value);
        }
        return set(a, o, name, value);
    }
    return cli_usage("usage.argument", "no setting is called %.80s", name);
}

json_t *args_sampling(const args *a) {
    json_t *all = json_object();
    for (int i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        if (!is_sampling(o) || o->kind == STOP_LIST || o->kind == BIAS_LIST) continue;
        const char *last = strstr(o->names, "--");
        for (const char *p = last; p; p = strstr(p + 2, " --")) last = p + (*p == ' ');
        char name[48];
        snprintf(name, sizeof name, "%s", last + 2);
        for (char *p = name; *p; p++) *p = *p == '-' ? '_' : *p;
        const char *at = (const char *)a + o->at;
        json_object_set_new(all, name,
                            o->kind == FLAG      ? json_boolean(*(const bool *)at)
                            : o->kind == INTEGER ? json_integer(*(const int64_t *)at)
                                                 : json_real(*(const double *)at));
    }
    return all;
}

void args_help(unsigned command) {
    for (int i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        if (!(o->commands & command)) continue;
        char left[96];
        int n = 0;
        for (const char *p = o->names; *p && n < 80;) {
            size_t k = strcspn(p, " ");
            n += snprintf(left + n, sizeof left - (size_t)n, "%s%.*s", n ? ", " : "", (int)k, p);
            p += k + (p[k] == ' ');
        }
        if (o->value) snprintf(left + n, sizeof left - (size_t)n, " %s", o->value);
        if (strlen(left) > 30)
            printf("  %s\n  %-30s  %s\n", left, "", o->help);
        else
            printf("  %-30s  %s\n", left, o->help);
    }
}

void args_each(unsigned command, void (*each)(void *ctx, const args_option *o), void *ctx) {
    for (int i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        if (!(o->commands & command)) continue;
        for (const char *p = o->names; *p;) {
            size_t k = strcspn(p, " ");
            args_option one = {.value = o->value, .help = o->help, .takes_value = o->kind != FLAG};
            snprintf(one.name, sizeof one.name, "%.*s", (int)k, p);
            each(ctx, &one);
            p += k + (p[k] == ' ');
        }
    }
}
