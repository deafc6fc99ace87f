/* The context store of serve and chat: its file, and the model that finds messages by meaning. Main thread. */
#ifndef ROCMFORGE_CLI_STORE_H
#define ROCMFORGE_CLI_STORE_H

#include "cli/cli.h"

typedef struct {
    rf_model *m; /* of --context-model; NULL: none, or the one that answers */
    rf_engine *g;
    rf_context *c; /* NULL: no --context */
} store;

/* What --context and --context-model ask for. m, g: the model that answers; it finds messages, too, where it only embeds or is the
 * file that --context-model names. The exit status, after a message was printed; store_close in any case, before g is closed. */
int store_open(store *s, const args *a, rf_model *m, rf_engine *g);
void store_close(store *s);

#endif
