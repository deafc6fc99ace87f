/* Answers made by an engine in this process. */
#ifndef ROCMFORGE_CLI_LOCAL_H
#define ROCMFORGE_CLI_LOCAL_H

#include "cli/answer.h"

/* Runs a request to its end; Ctrl-C cancels it. What came, or why nothing did, is in *w. p->tokens and w->seed are set. */
void local_run(rf_engine *g, const rf_request_params *p, answer *w);

#endif
