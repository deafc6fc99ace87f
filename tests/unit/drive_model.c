/* Reads a model and prints what it says and the size of its graph; for tests/oracle/test_model.py.
 * drive_model [--graph] FILE... : per file one line "ok key=value ..." (and the graph's dump), or "CODE message".
 * drive_model --alloc FILE : fails each allocation in turn; "ok N" when each of the N ended in memory.exhausted. */
#include "base/mem.h"
#include "model/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void print_info(const model_info *m) {
    const model_layer *l = &m->layer[0];
    printf("ok arch=%s layers=%u d_model=%u vocab=%u context=%u heads=%u/%u d_k=%u d_v=%u d_ff=%u experts=%u/%u",
           m->arch_name, m->n_layer, m->d_model, m->n_vocab, m->context_train, l->n_head, l->n_kv_head, l->d_k, l->d_v,
           l->d_ff, m->n_expert_used, m->n_expert);
    printf(" rot=%u neox=%u base=%g scaling=%s freq_scale=%g ext=%g attn=%.6g orig=%u local_base=%g", m->rope.n_rot,
           m->rope.neox, (double)m->rope.base, m->rope.scaling, (double)m->rope.freq_scale, (double)m->rope.ext_factor,
           (double)m->rope.attn_factor, m->rope.orig_ctx, (double)m->rope_local.base);
    printf(" window=%u tied=%d params=%" PRIu64 " type=%s name=%.*s windows=", m->window, m->tied_output, m->n_params,
           m->file_type, STR(m->name));
    for (uint32_t i = 0; i < m->n_layer; i++) printf("%s%u", i ? "," : "", m->layer[i].window);
    printf(" sampling=%x\n", m->sampling.set);
}

static status show(const char *path, bool with_graph, err *e) {
    gguf *g = NULL;
    model_info m = {0};
    graph gr;
    strbuf text = {0};
    graph_init(&gr, e);
    status s = gguf_open(&g, path, e);
    if (!s) s = model_info_read(&m, g, e);
    if (!s) s = model_build(&gr, &m, g, e);
    if (!s) print_info(&m);
    if (!s && with_graph) s = graph_dump(&gr, &text);
    if (!s && with_graph) fputs(text.p, stdout);
    strbuf_free(&text);
    graph_free(&gr);
    model_info_free(&m);
    gguf_close(g);
    return s;
}

/* Allocation n fails, for every n, until a run needs none that is failed. */
static int fail_each(const char *path) {
    for (uint64_t n = 1;; n++) {
        err e = {0};
        gguf *g = NULL;
        model_info m = {0};
        graph gr;
        graph_init(&gr, &e);
        mem_fail_at(n);
        status s = gguf_open(&g, path, &e);
        if (!s) s = model_info_read(&m, g, &e);
        if (!s) s = model_build(&gr, &m, g, &e);
        bool fired = mem_fail_off();
        graph_free(&gr);
        model_info_free(&m);
        gguf_close(g);
        if (mem_live() || s != (fired ? ERR_NOMEM : OK)) {
            printf("allocation %" PRIu64 ": %s %s, %" PRIu64 " blocks stay\n", n, err_lookup(s)->code, e.text,
                   mem_live());
            return 1;
        }
        if (!fired) return printf("ok %" PRIu64 "\n", n - 1) < 0;
    }
}

int main(int argc, char **argv) {
    bool with_graph = false;
    if (argc == 3 && !strcmp(argv[1], "--alloc")) return fail_each(argv[2]);
    for (int i = 1; i < argc; i++) {
        err e = {0};
        if (!strcmp(argv[i], "--graph")) {
            with_graph = true;
            continue;
        }
        status s = show(argv[i], with_graph, &e);
        if (s) printf("%s %s\n", err_lookup(s)->code, e.text);
    }
    return mem_live() ? 3 : 0; /* whatever happened, nothing stays */
}
