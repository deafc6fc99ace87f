/* The tokenizer, fed by tests/oracle/test_tokenizer.py. Usage: drive_tokenizer MODEL.gguf
 * Request on standard input:   op u8 | flags u8 | n u32 | n bytes      Reply: status u32 | n u32 | n bytes
 *   'e' text -> ids i32[]  flags 1: add special, 2: parse special
 *   'd' ids i32[] -> text  flags 1: special
 *   'p' nothing -> the pieces of all ids, each n u32 | bytes   flags 1: special
 *   'i' nothing -> a line of facts
 * A model that does not open: one line "code text" on standard output, exit status 1. */
#include "base/mem.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>

static bool read_all(void *p, size_t n) { return fread(p, 1, n, stdin) == n; }

static void reply(status s, const void *p, size_t n) {
    uint32_t head[2] = {s, (uint32_t)n};
    fwrite(head, sizeof head, 1, stdout);
    if (n) fwrite(p, 1, n, stdout);
    fflush(stdout);
}

static status pieces(const tokenizer *t, bool special, strbuf *out, err *e) {
    status s = OK;
    for (uint32_t id = 0; !s && id < tokenizer_get_info(t)->n_vocab; id++) {
        strbuf one = {0};
        s = tokenizer_piece(t, (token_id)id, special, &one, e);
        uint32_t n = (uint32_t)one.n;
        strbuf_add(out, (const char *)&n, sizeof n);
        strbuf_add(out, one.p, one.n);
        strbuf_free(&one);
    }
    return s;
}

static void facts(const tokenizer *t, strbuf *out) {
    const tokenizer_info *i = tokenizer_get_info(t);
    const token_id *eog;
    size_t n = tokenizer_eog_ids(t, &eog);
    strbuf_printf(out, "%s %.*s %u bos %d eos %d eot %d sep %d pad %d pre %d suf %d mid %d add %d %d %d eog", i->model,
                  STR(i->pre), i->n_vocab, i->bos, i->eos, i->eot, i->sep, i->pad, i->fim_pre, i->fim_suf, i->fim_mid,
                  i->add_bos, i->add_eos, i->add_space_prefix);
    for (size_t k = 0; k < n; k++) strbuf_printf(out, " %d", eog[k]);
}

static void answer(const tokenizer *t, char op, unsigned flags, char *p, uint32_t n) {
    err e = {0};
    strbuf out = {0};
    status s = OK;
    if (op == 'e') {
        token_list ids;
        s = tokenizer_encode(t, (str){p, n}, (tokenize_options){flags & 1, flags & 2}, &ids, &e);
        strbuf_add(&out, (const char *)ids.ids, ids.n * sizeof *ids.ids);
        mem_free(ids.ids);
    } else if (op == 'd') {
        s = tokenizer_decode(t, (const token_id *)(const void *)p, n / sizeof(token_id), flags & 1, &out, &e);
    } else if (op == 'p') {
        s = pieces(t, flags & 1, &out, &e);
    } else {
        facts(t, &out);
    }
    if (s)
        reply(s, e.text, strlen(e.text));
    else
        reply(s, out.p, out.n);
    strbuf_free(&out);
}

int main(int argc, char **argv) {
    err e = {0};
    gguf *g = NULL;
    tokenizer *t = NULL;
    status s = argc == 2 ? gguf_open(&g, argv[1], &e) : fail(&e, ERR_USAGE, "one argument: the model");
    if (!s) s = tokenizer_open(&t, g, &e);
    if (s) printf("%s %s\n", err_lookup(s)->code, e.text);
    for (uint8_t head[2]; !s && read_all(head, 2);) {
        uint32_t n;
        if (!read_all(&n, sizeof n)) break;
        char *p = mem_alloc(n);
        if (!p || !read_all(p, n)) break;
        answer(t, (char)head[0], head[1], p, n);
        mem_free(p);
    }
    tokenizer_close(t);
    gguf_close(g);
    return s ? 1 : 0;
}
