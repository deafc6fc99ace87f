/* The context store of serve and chat: its file, and the model that finds messages by meaning. Main thread. */
#ifndef ROCMFORGE_CLI_STORE_H
#define ROCMFORGE_CLI_STORE_H

#include "cli/cli.h"

typedef struct {
    rf_model *m; /* of --context-model; NULL: none, or the one that answers */
    rf_engine *g;
    rf_context *c; /* NULL: no --context */
} cli_store;

/* What --context and --context-model ask for. m, g: the model that answers; it finds messages, too, where it only embeds or is the
 * file that --context-model names. The exit status, after a message was printed; cli_store_close in any case, before g is closed. */
int cli_store_open(cli_store *s, const args *a, rf_model *m, rf_engine *g);
void cli_store_close(cli_store *s);

#endif
