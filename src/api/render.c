/* Chat templates: from a request to a prompt, and its ids. */
#include "api/api.h"

#include "base/mem.h"

uint32_t rf_model_n_embd(const rf_model *m) { return m->info.d_model; }

const char *rf_model_template(const rf_model *m, size_t *n) {
    (void)m;
    *n = 0;
    return NULL;
}

bool rf_render(rf_prompt *out, const rf_model *m, const char *tmpl, size_t n_tmpl, const char *request,
               size_t n_request, rf_error *e) {
    (void)m, (void)tmpl, (void)n_tmpl, (void)request, (void)n_request;
    *out = (rf_prompt){0};
    err why;
    return api_result(fail(&why, ERR_NO_TEMPLATE, "chat templates are not built yet"), &why, e);
}

void rf_prompt_free(rf_prompt *p) {
    mem_free(p->text);
    mem_free(p->input);
    *p = (rf_prompt){0};
}

bool rf_tokenize_prompt(const rf_model *m, const rf_prompt *p, int32_t **ids, size_t *n_ids, rf_error *e) {
    return rf_tokenize(m, p->text, p->n, 0, ids, n_ids, e);
}
