/* The command line: each command is a function from parsed arguments to an exit status (0 done, 1 failed, 2 bad usage or
 * value, 130 stopped by Ctrl-C). Results go to standard output, everything else to standard error. Uses rocmforge.h only. */
#ifndef ROCMFORGE_CLI_CLI_H
#define ROCMFORGE_CLI_CLI_H

#include "cli/args.h"
#include "rocmforge.h"

#include <jansson.h>
#include <stdio.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

__attribute__((format(printf, 2, 3))) int cli_usage(const char *code, const char *fmt,
                                                    ...); /* prints, gives EXIT_USAGE */
__attribute__((format(printf, 2, 3))) int cli_error(const char *code, const char *fmt,
                                                    ...); /* prints, gives EXIT_FAILED */
int cli_fail(const rf_error *e); /* prints the error; EXIT_USAGE for what the user got wrong, else EXIT_FAILED */
__attribute__((format(printf, 1, 2))) void cli_note(const char *fmt, ...); /* a line on standard error */

/* Standard output: what is written is checked; a closed reader ends the command quietly with EXIT_FAILED. */
bool cli_put(const char *p, size_t n); /* false once standard output failed */
bool cli_flush(void);                  /* the same for what was written by printf */
int cli_finish_output(int rc);         /* flushes; status, or EXIT_FAILED when output was lost */
int cli_print_json(json_t *v);         /* one document and a newline; takes v */
json_t *cli_json(char *text);          /* parses and frees what the library gave; NULL stays NULL */

char *cli_read_all(const char *path, size_t *n); /* a file; NULL or "-": standard input. free it. NULL: printed */

/* Ctrl-C, SIGTERM and SIGHUP end the process with EXIT_INTERRUPTED, except while a request runs: they cancel it. */
void cli_start(void);                    /* first thing of main: signals and standard streams */
bool cli_interrupted(void);              /* one of them came */
void cli_on_interrupt(rf_request *r);    /* the request they cancel from now on; NULL: none */
void cli_hold_interrupts(bool on);       /* while on they only mark: results are being written */
void cli_stay(bool on);                  /* while on Ctrl-C never ends the process, however often */
int cli_interrupted_by(void);            /* the last signal; 0: none */
void cli_forget_interrupt(void);         /* it was dealt with */
void cli_half_written(const char *path); /* the file to remove when they end the process; NULL: none */

/* The log, as the arguments say; level: unless they do. 0, or the exit status after a message was printed. */
int cli_open_log(const args *a, const char *level);

/* Opens model and engine as the arguments say, with progress and the device line on standard error (unless quiet). */
int cli_open_model(rf_model **m, const args *a);
rf_engine_options cli_engine_options(const args *a);
int cli_open_engine(rf_engine **g, rf_model *m, const rf_engine_options *opt, const args *a);
bool cli_beyond_training(const rf_model *m, const rf_engine *g); /* more context than the model was trained with */
void cli_bytes(char *out, size_t size, double n);                /* "92.3 MiB" */

int cmd_generate(const args *a);
int cmd_logits(const args *a);
int cmd_tokenize(const args *a);
int cmd_detokenize(const args *a);
int cmd_render(const args *a);
int cmd_inspect(const args *a);
int cmd_plan(const args *a);
int cmd_verify(const args *a);
int cmd_bench(const args *a);
int cmd_convert(const args *a);
int cmd_devices(const args *a);
int cmd_doctor(const args *a);
int cmd_completion(const args *a);
int cmd_chat(const args *a);
int cmd_status(const args *a);
int cmd_cancel(const args *a);
int cmd_context(const args *a);
int cmd_serve(const args *a);
int cmd_embed(const args *a);

typedef struct {
    const char *name;
    unsigned bit;
    int (*run)(const args *a);
    const char *use, *about;
} cli_command;
extern const cli_command cli_commands[]; /* ends with a NULL name */

#endif
