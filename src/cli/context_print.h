/* What `rocmforge context` prints: lines, or JSON with the names of the HTTP routes. */
#ifndef ROCMFORGE_CLI_CONTEXT_PRINT_H
#define ROCMFORGE_CLI_CONTEXT_PRINT_H

#include "cli/cli.h"

int context_print_hits(const args *a, const rf_context_hits *hits); /* an exit status, as all here */
int context_print_list(const args *a, const rf_messages *found);

/* Microseconds since 1970 of "1795256430.5" or "2026-11-21T10:20:30"; -1: it is no time. */
int64_t context_time(const char *text);

#endif
