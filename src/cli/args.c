#include "cli/args.h"

#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { FLAG, TEXT, INTEGER, NUMBER, STOP_LIST, BIAS_LIST } kind;

typedef struct {
    const char *names; /* "-n --predict --max-tokens": the first long one names the environment twin */
    kind kind;
    size_t at; /* offset in args */
    unsigned commands;
    double lo, hi; /* inclusive, for numbers */
    const char *value, *help;
} option;

#define AT(field) offsetof(args, field)
enum { SAMPLED = CMD_GENERATE };

static const option options[] = {
    {"-m --model", TEXT, AT(model), CMD_MODEL, 0, 0, "FILE",
     "the GGUF file (first shard of a split one); also the first argument, or ROCMFORGE_GGUF"},
    {"-p --prompt", TEXT, AT(prompt), CMD_GENERATE, 0, 0, "TEXT",
     "the text to continue, exactly as given (else -f, else standard input)"},
    {"-f --file", TEXT, AT(file), CMD_GENERATE, 0, 0, "FILE", "read the text from a file"},
    {"-n --predict --n-predict --max-tokens", INTEGER, AT(max_tokens), CMD_GENERATE, -1, 1 << 30, "N",
     "tokens to generate; -1: to the end, or a full context [-1]"},
    {"--tokens", TEXT, AT(tokens), CMD_LOGITS, 0, 0, "IDS", "token ids, comma separated"},
    {"--tokens-file", TEXT, AT(tokens_file), CMD_LOGITS, 0, 0, "FILE",
     "token ids from a file, separated by commas or spaces"},
    {"-o --output", TEXT, AT(output), CMD_LOGITS, 0, 0, "FILE", "where to write: float32 NPY, [n_tok, n_vocab]"},
    {"-p --n-prompt", TEXT, AT(bench_p), CMD_BENCH, 0, 0, "N[,N]", "prompt lengths to time; 0: none [512]"},
    {"-n --n-gen", TEXT, AT(bench_n), CMD_BENCH, 0, 0, "N[,N]", "generation lengths to time; 0: none [128]"},
    {"-d --n-depth", TEXT, AT(bench_d), CMD_BENCH, 0, 0, "N[,N]", "tokens already in the context [0]"},
    {"-t --threads", TEXT, AT(bench_t), CMD_BENCH, 0, 0, "N[,N]", "threads [physical cores this process may use]"},
    {"-r --repetitions", INTEGER, AT(repeats), CMD_BENCH, 1, 1000, "N", "measure each so often [5]"},
    {"-o --output", TEXT, AT(format), CMD_BENCH, 0, 0, "md|json|csv", "form of the table [md]"},
    {"-c --ctx-size", INTEGER, AT(context), CMD_GENERATE | CMD_LOGITS | CMD_PLAN, 0, 1 << 24, "N",
     "context in tokens; 0: the trained length, at most 8192 [0]"},
    {"--parallel", INTEGER, AT(parallel), CMD_PLAN, 1, 4096, "N", "sequences of full context to have room for [1]"},
    {"-b --batch-size", INTEGER, AT(batch), CMD_ENGINE, 1, 1 << 20, "N",
     "most tokens handed to the engine at once; never above --ubatch-size here [2048]"},
    {"-ub --ubatch-size --ubatch", INTEGER, AT(ubatch), CMD_ENGINE, 1, 16384, "N", "tokens of one step [512]"},
    {"-t --threads", INTEGER, AT(threads), CMD_GENERATE | CMD_LOGITS | CMD_PLAN, 1, 256, "N",
     "threads [physical cores this process may use]"},
    {"-ctk --cache-type-k", TEXT, AT(cache_k), CMD_ENGINE, 0, 0, "TYPE", "KV cache type of keys: f16, f32, q8_0 [f16]"},
    {"-ctv --cache-type-v", TEXT, AT(cache_v), CMD_ENGINE, 0, 0, "TYPE", "KV cache type of values [f16]"},
    {"--device", TEXT, AT(device), CMD_ENGINE, 0, 0, "DEVICE", "auto or cpu [auto]"},
    {"-s --seed", INTEGER, AT(seed), SAMPLED, -1, 9007199254740992.0, "N",
     "seed of the random numbers; -1: a new one each time [-1]"},
    {"--temp --temperature", NUMBER, AT(temperature), SAMPLED, 0, 100, "X",
     "temperature; 0: always the likeliest token [0.8]"},
    {"--top-k", INTEGER, AT(top_k), SAMPLED, 0, 1 << 30, "N", "draw from the N likeliest; 0: off [40]"},
    {"--top-p", NUMBER, AT(top_p), SAMPLED, 0, 1, "X", "draw from the likeliest that together reach X; 1: off [0.95]"},
    {"--min-p", NUMBER, AT(min_p), SAMPLED, 0, 1, "X", "drop tokens below X times the likeliest; 0: off [0.05]"},
    {"--repeat-penalty", NUMBER, AT(repeat_penalty), SAMPLED, 0.01, 100, "X",
     "divide the logits of recent tokens; 1: off [1]"},
    {"--repeat-last-n", INTEGER, AT(repeat_last_n), SAMPLED, -1, 1 << 30, "N",
     "how many recent tokens the penalties see; -1: all [64]"},
    {"--presence-penalty", NUMBER, AT(presence_penalty), SAMPLED, -100, 100, "X",
     "subtract from the logits of tokens seen; 0: off [0]"},
    {"--frequency-penalty", NUMBER, AT(frequency_penalty), SAMPLED, -100, 100, "X",
     "the same times how often they were seen; 0: off [0]"},
    {"--logit-bias", BIAS_LIST, 0, SAMPLED, 0, 0, "ID(+|-)X",
     "add to a token's logit, as 15043+1.5 or 15043-inf; may be repeated"},
    {"--ignore-eos", FLAG, AT(ignore_eos), SAMPLED, 0, 0, NULL, "never draw an end-of-generation token"},
    {"--stop", STOP_LIST, 0, SAMPLED, 0, 0, "TEXT", "end where this text would begin; may be repeated"},
    {"--top-logprobs", INTEGER, AT(top_logprobs), SAMPLED, 0, 64, "N",
     "with --json: log-probabilities, and N alternatives a token [off]"},
    {"--special", FLAG, AT(special), CMD_GENERATE | CMD_DETOKENIZE, 0, 0, NULL, "show control tokens as their text"},
    {"--no-bos", FLAG, AT(no_bos), CMD_TOKENIZE | CMD_GENERATE, 0, 0, NULL, "add no special token"},
    {"--no-parse-special", FLAG, AT(no_parse_special), CMD_TOKENIZE | CMD_GENERATE, 0, 0, NULL,
     "control tokens in the text are plain text"},
    {"--pieces", FLAG, AT(pieces), CMD_TOKENIZE, 0, 0, NULL, "the tokens' texts instead of their ids"},
    {"--tensors", FLAG, AT(tensors), CMD_INSPECT, 0, 0, NULL, "every tensor: type, shape, bytes"},
    {"--metadata", FLAG, AT(metadata), CMD_INSPECT, 0, 0, NULL, "every metadata key"},
    {"--graph", FLAG, AT(graph), CMD_INSPECT, 0, 0, NULL, "the computation graph as it would run"},
    {"-q --quiet", FLAG, AT(quiet), CMD_GENERATE | CMD_LOGITS | CMD_BENCH, 0, 0, NULL,
     "no progress, device or speed on standard error"},
    {"--json", FLAG, AT(json), CMD_GENERATE | CMD_INSPECT | CMD_PLAN | CMD_DEVICES | CMD_TOKENIZE, 0, 0, NULL,
     "one JSON document on standard output"},
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

static const char *long_name(const option *o, size_t *n) {
    const char *p = strstr(o->names, "--");
    *n = strcspn(p, " ");
    return p;
}

static int bad(const char *name, const char *value, const char *why) {
    return cli_usage("usage.range", "%s %.120s: %s", name, value, why);
}

static int set_number(args *a, const option *o, const char *name, const char *value) {
    char *end, why[96];
    errno = 0;
    double x = o->kind == INTEGER ? (double)strtoll(value, &end, 10) : strtod(value, &end);
    if (end == value || *end || errno || isnan(x))
        return bad(name, value, o->kind == INTEGER ? "give a whole number" : "give a number");
    snprintf(why, sizeof why, "give %g to %g", o->lo, o->hi);
    if (x < o->lo || x > o->hi) return bad(name, value, why);
    if (o->kind == INTEGER)
        memcpy((char *)a + o->at, &(int64_t){strtoll(value, NULL, 10)}, sizeof(int64_t));
    else
        memcpy((char *)a + o->at, &x, sizeof x);
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
    case BIAS_LIST: return add_bias(a, name, value);
    case STOP_LIST:
        if (!*value) return bad(name, value, "an empty stop text would stop at once");
        if (a->n_stop == ARGS_MAX_LIST) return bad(name, value, "more than 64 stop texts");
        a->stop[a->n_stop++] = value;
        return 0;
    }
    return 0;
}

static int set_flag_from_env(args *a, const option *o, const char *name, const char *value) {
    if (strcmp(value, "1") == 0 || strcmp(value, "true") == 0) return set(a, o, name, value);
    if (strcmp(value, "0") == 0 || strcmp(value, "false") == 0 || !*value) return 0;
    return bad(name, value, "give 1 or 0");
}

static int read_environment(args *a, unsigned command) {
    for (int i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        size_t n;
        const char *p = long_name(o, &n);
        char name[64] = "ROCMFORGE_";
        if (!(o->commands & command) || has_name(o, "--help", 6)) continue;
        for (size_t k = 2, at = strlen(name); k < n && at + 1 < sizeof name; k++, at++)
            name[at] = (char)(p[k] == '-' ? '_' : p[k] >= 'a' && p[k] <= 'z' ? p[k] - 32 : p[k]), name[at + 1] = 0;
        const char *value = getenv(name);
        if (!value) continue;
        int rc = o->kind == FLAG ? set_flag_from_env(a, o, name, value) : set(a, o, name, value);
        if (rc) return rc;
    }
    return 0;
}

/* One option at argv[*i]; "--name=value" is taken too. */
static int read_option(args *a, unsigned command, int argc, char **argv, int *i) {
    const char *arg = argv[*i], *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
    size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
    const option *elsewhere = NULL;
    for (int k = 0; k < N_OPTIONS; k++) {
        const option *o = &options[k];
        if (!has_name(o, arg, n)) continue;
        elsewhere = o;
        if (!(o->commands & command)) continue;
        if (o->kind == FLAG)
            return equals ? cli_usage("usage.argument", "%.*s takes no value", (int)n, arg) : set(a, o, arg, NULL);
        if (!equals && ++*i >= argc) return cli_usage("usage.argument", "%s needs a value: %s %s", arg, arg, o->value);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)n, arg);
        return set(a, o, name, equals ? equals + 1 : argv[*i]);
    }
    if (elsewhere) return cli_usage("usage.argument", "%.*s is not used by this command", (int)n, arg);
    return cli_usage("usage.argument", "unknown option %.80s; see --help", arg);
}

int args_parse(args *a, unsigned command, int argc, char **argv) {
    rf_request_params d = rf_request_defaults();
    *a = (args){.command = command, .max_tokens = -1, .seed = -1, .repeats = 5, .temperature = (double)d.temperature};
    a->top_k = d.top_k, a->top_p = (double)d.top_p, a->min_p = (double)d.min_p, a->repeat_last_n = d.repeat_last_n;
    a->repeat_penalty = (double)d.repeat_penalty, a->top_logprobs = -1;
    int rc = read_environment(a, command);
    bool only_operands = false;
    for (int i = 0; !rc && i < argc; i++) {
        if (!only_operands && strcmp(argv[i], "--") == 0)
            only_operands = true;
        else if (!only_operands && argv[i][0] == '-' && argv[i][1])
            rc = read_option(a, command, argc, argv, &i);
        else if (!a->operand)
            a->operand = argv[i];
        else
            rc = cli_usage("usage.argument", "one argument too many: %.120s", argv[i]);
    }
    if (rc || a->help) return rc;
    if (command & CMD_MODEL) {
        if (a->operand) a->model = a->operand;
        if (!a->model) a->model = getenv("ROCMFORGE_GGUF");
        if (!a->model || !*a->model)
            return cli_usage("usage.argument", "which model? Give a .gguf file, -m FILE, or set ROCMFORGE_GGUF");
    }
    return 0;
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

void args_each(unsigned command, void (*each)(void *ctx, const char *name, bool takes_value), void *ctx) {
    for (int i = 0; i < N_OPTIONS; i++) {
        size_t n;
        const char *p = long_name(&options[i], &n);
        char name[40];
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        if (options[i].commands & command) each(ctx, name, options[i].kind != FLAG);
    }
}
