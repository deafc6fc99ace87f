/* Texts or ids a client gives to be continued or embedded: "text", ["text", ...], [ids] or [[ids], ...].
 * Texts are borrowed from the request's body; ids and echo are freed by openai_inputs_free. Loop thread, except
 * openai_input_tokenize, which touches its input and the model only. */
#ifndef ROCMFORGE_SERVER_OPENAI_INPUT_H
#define ROCMFORGE_SERVER_OPENAI_INPUT_H

#include "server/fields.h"

typedef struct {
    const char *text; /* NULL: ids were given */
    size_t n_text;
    int32_t *ids;
    size_t n_ids;
    char *echo; /* the input as text, where asked for */
    size_t n_echo;
} openai_input;

/* Reads the field; most: of inputs. False: f has failed, *in is to be freed all the same. */
bool openai_inputs_read(fields *f, const char *name, uint32_t most, openai_input **in, uint32_t *n);
void openai_inputs_drop_ids(openai_input *in, uint32_t n); /* and texts: the body may go */
void openai_inputs_free(openai_input *in, uint32_t n);
size_t openai_inputs_bytes(const openai_input *in, uint32_t n);
bool openai_input_tokenize(openai_input *in, const rf_model *m, bool echo, rf_error *e);

#endif
