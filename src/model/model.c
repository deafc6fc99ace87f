#include "model/model.h"

#include "base/mem.h"
#include "model/hparams.h"
#include "model/model_build.h"

#include <stdio.h>

static const model_arch *const archs[] = {&arch_llama,        &arch_qwen2,       &arch_qwen3,
                                          &arch_gemma3,       &arch_bert,        &arch_nomic_bert,
                                          &arch_jina_bert_v2, &arch_modern_bert, &arch_gemma_embedding};
enum { N_ARCHS = sizeof archs / sizeof archs[0] };

size_t model_n_archs(void) { return N_ARCHS; }

const char *model_arch_name(size_t i) { return archs[i]->name; }

static status find_arch(const model_arch **out, const gguf *g, err *e) {
    str name = {0};
    status s = gguf_get_str(g, "general.architecture", &name, e);
    if (s) return s;
    if (!name.n) return fail(e, ERR_ARCH, "key general.architecture is missing or empty");
    char known[200] = "";
    size_t at = 0;
    for (size_t i = 0; i < N_ARCHS; i++) {
        *out = archs[i];
        if (str_is(name, archs[i]->name)) return OK;
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", archs[i]->name);
    }
    return fail(e, ERR_ARCH, "architecture %.*s is not built in (built in: %s)", STR(name), known);
}

status model_build(graph *gr, const model_info *m, const gguf *g, err *e) {
    builder b = {.gr = gr, .m = m, .g = g};
    gr->e = e;
    m->arch->build(&b);
    if (gr->failed) return gr->failed;
    return graph_verify(gr, e);
}

/* gguf keeps its tensors in one array. A tensor that no node uses means that the file holds a model we do not compute: refused, as llama.cpp does. */
static status check_all_used(const graph *gr, const model_info *m, const gguf *g, err *e) {
    size_t n = gguf_n_tensors(g);
    bool *used = mem_array(n ? n : 1, sizeof *used);
    if (!used) return fail(e, ERR_NOMEM, "tensor check");
    for (uint32_t i = 0; i < gr->n_nodes; i++)
        if (gr->nodes[i]->op == OP_WEIGHT) used[gr->nodes[i]->weight - gguf_tensor_at(g, 0)] = true;
    size_t at = 0;
    while (at < n && used[at]) at++;
    mem_free(used);
    if (at == n) return OK;
    return fail(e, ERR_MODEL_TENSOR, "tensor %.*s has no place in architecture %s with %u layers",
                STR(gguf_tensor_at(g, at)->name), m->arch_name, m->n_layer);
}

/* The graph is the one list of what tensors there must be: it is built once and thrown away. */
static status check_tensors(const model_info *m, const gguf *g, err *e) {
    graph gr;
    graph_init(&gr, e);
    status s = model_build(&gr, m, g, e);
    if (!s) s = check_all_used(&gr, m, g, e);
    graph_free(&gr);
    return s;
}

status model_info_read(model_info *m, const gguf *g, err *e) {
    *m = (model_info){0};
    status s = find_arch(&m->arch, g, e);
    if (!s) s = hparams_read(m, g, e);
    if (!s) s = check_tensors(m, g, e);
    if (s) model_info_free(m);
    return s;
}

void model_info_free(model_info *m) {
    mem_free(m->layer);
    *m = (model_info){0};
}
