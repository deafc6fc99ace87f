/* What the tests of the context store share: a folder of its own for each, messages by number, and a look at a file's bytes. */
#ifndef ROCMFORGE_TESTS_CONTEXT_RIG_H
#define ROCMFORGE_TESTS_CONTEXT_RIG_H

#include "rocmforge.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char dir[64], db[128], index[160];
    char notice[8][700]; /* what a store said, the first eight lines */
    unsigned n_notices;
} context_rig;

void context_rig_make(context_rig *r); /* a failure ends the test, as in all here */
void context_rig_remove(context_rig *r);
rf_context *context_rig_open(context_rig *r, rf_engine *g); /* its file; notices come to the rig */
bool context_rig_try(context_rig *r, const rf_context_options *opt, rf_context **out, rf_error *e);

int64_t context_add_text(rf_context *c, const char *conversation, const char *text);
/* Whether the folder's files hold these bytes anywhere. */
bool context_rig_holds(const context_rig *r, const void *p, size_t n);
void context_flip(const char *path, size_t at, uint8_t mask);
size_t context_file_size(const char *path);

#endif
