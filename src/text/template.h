/* Chat templates: the part of Jinja that models' templates use, rendered as jinja2 does with the settings of transformers
 * (trim_blocks, lstrip_blocks, loop controls, tojson without escapes, strftime_now, raise_exception, generation blocks).
 * A template is parsed once, immutable afterwards, any thread may render it. A rendering is bounded in steps, depth, bytes of
 * output and of memory; there is no access to anything but the request. Every byte of the output knows whether it came from
 * the request's strings, so that a user's text is never read as a special token.
 * Errors: ERR_TEMPLATE with line and message. */
#ifndef ROCMFORGE_TEXT_TEMPLATE_H
#define ROCMFORGE_TEXT_TEMPLATE_H

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

typedef struct chat_template chat_template;

MUST_CHECK status template_parse(chat_template **out, str source, err *e);
void template_free(chat_template *t); /* NULL is fine */

typedef struct {
    size_t at, n;
} text_span;

typedef struct {
    strbuf text;
    text_span *input; /* spans of text that came from strings of the variables; ascending, apart */
    size_t n_input;
} template_text;

/* variables: a JSON object; null values count as undefined. trusted: names of variables whose strings are the model's own
 * (bos_token, eos_token, ...), ends with NULL. */
MUST_CHECK status template_render(const chat_template *t, const json_t *variables, const char *const *trusted,
                                  template_text *out, err *e);
void template_text_free(template_text *t);

#endif
