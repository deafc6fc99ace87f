#include "cli/cli.h"

#include "base/log.h"

#include <string.h>

const cli_command cli_commands[] = {
    {"generate", CMD_GENERATE, cmd_generate, "generate MODEL [-p TEXT | -f FILE | < TEXT] [options]",
     "continue a text"},
    {"chat", CMD_CHAT, cmd_chat, "chat MODEL [-p TEXT] [options]", "a conversation, by the model's own template"},
    {"serve", CMD_SERVE, cmd_serve, "serve MODEL [--host 127.0.0.1] [--port 8080] [options]", "answer over HTTP"},
    {"tokenize", CMD_TOKENIZE, cmd_tokenize, "tokenize MODEL < TEXT", "text on standard input to token ids"},
    {"detokenize", CMD_DETOKENIZE, cmd_detokenize, "detokenize MODEL < IDS", "token ids on standard input to text"},
    {"render", CMD_RENDER, cmd_render, "render [MODEL] [--template FILE] < REQUEST",
     "a chat request, JSON on standard input, to the prompt"},
    {"logits", CMD_LOGITS, cmd_logits, "logits MODEL --tokens IDS -o FILE", "logits at every position, as NPY"},
    {"embed", CMD_EMBED, cmd_embed, "embed MODEL [-p TEXT | < TEXTS] [options]", "texts to vectors, one a line"},
    {"inspect", CMD_INSPECT, cmd_inspect, "inspect FILE", "what a model file holds"},
    {"plan", CMD_PLAN, cmd_plan, "plan FILE [-c N]", "memory a model needs, from its header alone"},
    {"bench", CMD_BENCH, cmd_bench, "bench MODEL [-p 512] [-n 128]", "tokens per second, as a table"},
    {"devices", CMD_DEVICES, cmd_devices, "devices", "what this machine can compute on"},
    {"doctor", CMD_DOCTOR, cmd_doctor, "doctor", "what is wrong with this machine, and how to mend it"},
    {"verify", CMD_VERIFY, cmd_verify, "verify MODEL [--device gpu]",
     "whether a device computes this model as the CPU does"},
    {"convert", CMD_CONVERT, cmd_convert, "convert DIR OUT [--type f32|f16|bf16|q8_0]",
     "a Hugging Face folder (safetensors) to a GGUF file"},
    {"status", CMD_STATUS, cmd_status, "status ID [--host URL]", "what became of a request of a running server"},
    {"cancel", CMD_CANCEL, cmd_cancel, "cancel ID [--host URL]", "end a request of a running server"},
    {"context", CMD_CONTEXT, cmd_context, "context add [TEXT]|search QUERY|list|clear|import [FILE]|export [options]",
     "messages kept and found again"},
    {"completion", CMD_COMPLETION, cmd_completion, "completion bash|zsh|fish", "a completion script for your shell"},
    {0},
};

static void print_help(FILE *to) {
    fprintf(to, "rocmforge %s: runs GGUF language models\n\nusage: rocmforge COMMAND [options]\n\n", rf_version());
    for (const cli_command *c = cli_commands; c->name; c++) fprintf(to, "  %-12s %s\n", c->name, c->about);
    fputs("\nrocmforge COMMAND --help says more of each. Every option --NAME may also be set as ROCMFORGE_NAME.\n"
          "Exit status: 0 done, 1 failed, 2 bad usage or value, 130 interrupted.\n",
          to);
}

static int command_help(const cli_command *c) {
    printf("rocmforge %s: %s\n\nusage: rocmforge %s\n\n", c->name, c->about, c->use);
    args_help(c->bit);
    return cli_finish_output(EXIT_DONE);
}

/* Older names that still work. */
static const char *const renamed[][2] = {{"inspect_gguf", "inspect"}, {"inspect-gguf", "inspect"}};

static const cli_command *find_command(const char *name) {
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++)
        if (strcmp(name, renamed[i][0]) == 0) name = renamed[i][1];
    for (const cli_command *c = cli_commands; c->name; c++)
        if (strcmp(name, c->name) == 0) return c;
    return NULL;
}

static const char *const planned[] = {"perplexity", "models", "quantize"};

static int unknown(const char *name) {
    for (size_t i = 0; i < sizeof planned / sizeof *planned; i++)
        if (strcmp(name, planned[i]) == 0) return cli_usage("usage.argument", "the command %s is not built yet", name);
    return cli_usage("usage.argument", "unknown command %.80s; see rocmforge --help", name);
}

/* The older place of --host URL: before the command. It goes behind it. */
static void move_host(int argc, char **argv) {
    bool apart = argc > 3 && strcmp(argv[1], "--host") == 0, joined = argc > 2 && strncmp(argv[1], "--host=", 7) == 0;
    char *host = argv[1], *url = argc > 2 ? argv[2] : NULL;
    int n = apart ? 2 : 1; /* arguments to move behind the command, which comes after them */
    if (!apart && !joined) return;
    argv[1] = argv[1 + n];
    argv[2] = host;
    if (apart) argv[3] = url;
}

int main(int argc, char **argv) {
    cli_start();
    move_host(argc, argv);
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        printf("rocmforge %s\n", rf_version());
        return cli_finish_output(EXIT_DONE);
    }
    bool help = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help");
    if (help && argc == 2) {
        print_help(stdout);
        return cli_finish_output(EXIT_DONE);
    }
    const cli_command *c = find_command(help ? argv[2] : name);
    if (!c) return unknown(help ? argv[2] : name);
    if (help) return command_help(c);
    args a;
    int rc = args_parse(&a, c->bit, argc - 2, argv + 2);
    if (rc) return rc;
    if (a.help) return command_help(c);
    rc = cli_open_log(&a, c->bit == CMD_SERVE ? "info" : "warn");
    if (!rc) rc = cli_finish_output(c->run(&a));
    log_close();
    return rc;
}
