/* The tokenizer, fed by tests/oracle/test_tokenizer.py. Usage: drive_tokenizer MODEL.gguf
 * Request on standard input:   op u8 | flags u8 | n u32 | n bytes      Reply: status u32 | n u32 | n bytes
 *   'e' text -> ids i32[]  flags 1: add special, 2: parse special, 4: all of it is a user's
 *   'k' nothing -> the kinds of all ids, u8[]
 *   'd' ids i32[] -> text  flags 1: special
 *   'p' nothing -> the pieces of all ids, each n u32 | bytes   flags 1: special
 *   'l' text -> f64: seconds of CPU that encoding it takes in a thread with a stack of 256 KiB   flags as 'e'
 *   'i' nothing -> a line of facts, at its end the seconds of CPU that tokenizer_open took
 * A model that does not open: one line "code text" on standard output, exit status 1. */
#include "base/mem.h"
#include "text/tokenizer.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static bool read_all(void *p, size_t n) { return fread(p, 1, n, stdin) == n; }

static void reply(status s, const void *p, size_t n) {
    uint32_t head[2] = {s, (uint32_t)n};
    fwrite(head, sizeof head, 1, stdout);
    if (n) fwrite(p, 1, n, stdout);
    fflush(stdout);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
    const tokenizer *t;
    str text;
    tokenize_options opt;
    double seconds;
    status s;
} timed;

static void *encode_timed(void *p) {
    timed *c = p;
    token_list ids;
    double start = cpu_seconds();
    c->s = tokenizer_encode(c->t, c->text, c->opt, &ids, NULL);
    c->seconds = cpu_seconds() - start;
    mem_free(ids.ids);
    return NULL;
}

static status time_encoding(const tokenizer *t, str text, tokenize_options opt, strbuf *out, err *e) {
    enum { STACK_BYTES = 256 << 10 };
    timed c = {t, text, opt, 0, OK};
    pthread_attr_t a;
    pthread_t th;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, STACK_BYTES);
    bool started = pthread_create(&th, &a, encode_timed, &c) == 0;
    if (started) pthread_join(th, NULL);
    pthread_attr_destroy(&a);
    strbuf_add(out, (const char *)&c.seconds, sizeof c.seconds);
    return started ? c.s : fail(e, ERR_NOMEM, "thread");
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

static void facts(const tokenizer *t, double open_seconds, strbuf *out) {
    const tokenizer_info *i = tokenizer_get_info(t);
    const token_id *eog;
    size_t n = tokenizer_eog_ids(t, &eog);
    strbuf_printf(
        out, "%s %.*s %u bos %d eos %d eot %d unk %d sep %d pad %d mask %d pre %d suf %d mid %d add %d %d %d %d eog",
        i->model, STR(i->pre), i->n_vocab, i->bos, i->eos, i->eot, i->unk, i->sep, i->pad, i->mask, i->fim_pre,
        i->fim_suf, i->fim_mid, i->add_bos, i->add_eos, i->add_space_prefix, i->add_sep);
    for (size_t k = 0; k < n; k++) strbuf_printf(out, " %d", eog[k]);
    strbuf_printf(out, " open %.6f", open_seconds);
}

static void answer(const tokenizer *t, double open_seconds, char op, unsigned flags, char *p, uint32_t n) {
    err e = {0};
    strbuf out = {0};
    status s = OK;
    tokenize_options opt = {.add_special = flags & 1, .parse_special = flags & 2};
    const byte_span all = {0, n};
    if (flags & 4) opt.input = &all, opt.n_input = 1;
    if (op == 'e') {
        token_list ids;
        s = tokenizer_encode(t, (str){p, n}, opt, &ids, &e);
        strbuf_add(&out, (const char *)ids.ids, ids.n * sizeof *ids.ids);
        mem_free(ids.ids);
    } else if (op == 'd') {
        s = tokenizer_decode(t, (const token_id *)(const void *)p, n / sizeof(token_id), flags & 1, &out, &e);
    } else if (op == 'l') {
        s = time_encoding(t, (str){p, n}, opt, &out, &e);
    } else if (op == 'k') {
        for (uint32_t id = 0; id < tokenizer_get_info(t)->n_vocab; id++)
            strbuf_add(&out, &(char){(char)tokenizer_kind(t, (token_id)id)}, 1);
    } else if (op == 'p') {
        s = pieces(t, flags & 1, &out, &e);
    } else {
        facts(t, open_seconds, &out);
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
    double start = cpu_seconds();
    if (!s) s = tokenizer_open(&t, g, &e);
    double open_seconds = cpu_seconds() - start;
    if (s) printf("%s %s\n", err_lookup(s)->code, e.text);
    for (uint8_t head[2]; !s && read_all(head, 2);) {
        uint32_t n;
        if (!read_all(&n, sizeof n)) break;
        char *p = mem_alloc(n);
        if (!p || !read_all(p, n)) break;
        answer(t, open_seconds, (char)head[0], head[1], p, n);
        mem_free(p);
    }
    tokenizer_close(t);
    gguf_close(g);
    return s ? 1 : 0;
}
