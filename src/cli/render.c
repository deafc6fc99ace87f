/* rocmforge render: a chat request to the prompt that a model would be given. */
#include "cli/cli.h"

#include <stdlib.h>

int cmd_render(const args *a) {
    const char *model = a->operand ? a->operand : a->model;
    if (!model && !a->chat_template_file)
        return cli_usage("usage.argument", "whose template? Give a model or --template FILE");
    args with_model = *a;
    with_model.model = model;
    rf_model *m = NULL;
    rf_prompt prompt = {0};
    rf_error e;
    size_t n_template = 0, n_request = 0;
    int rc = model ? cli_open_model(&m, &with_model) : 0;
    char *tmpl = !rc && a->chat_template_file ? cli_read_all(a->chat_template_file, &n_template) : NULL;
    if (a->chat_template_file && !tmpl) rc = rc ? rc : EXIT_FAILED;
    char *request = rc ? NULL : cli_read_all(NULL, &n_request);
    if (!rc && !request) rc = EXIT_FAILED;
    if (!rc && !rf_render(&prompt, m, tmpl, n_template, request, n_request, &e)) rc = cli_fail(&e);
    if (!rc) cli_put(prompt.text, prompt.n);
    rf_prompt_free(&prompt);
    free(request);
    free(tmpl);
    rf_model_close(m);
    return rc;
}
