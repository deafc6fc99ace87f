#include "server/asked.h"

#include "base/mem.h"
#include "server/prepare.h"

void asked_free(asked *q) {
    if (q->user && q->free_user) q->free_user(q->user);
    sampler_lists_free(&q->lists);
    rf_free(q->ids);
    fields_close(&q->f);
    mem_free(q);
}

asked *asked_open(exchange *x) {
    asked *q = mem_zalloc(sizeof *q);
    if (!q) {
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
        return NULL;
    }
    q->params = rf_request_defaults();
    if (fields_open(&q->f, x) && fields_model(&q->f)) return q;
    asked_free(q);
    return NULL;
}

static void read_prompt(void *user) {
    asked *q = user;
    fields_prompt(&q->f, "prompt", true, &q->ids, &q->params.n_tokens);
    q->params.tokens = q->ids;
}

static void go_on(void *user, exchange *x) {
    asked *q = user;
    if (x && fields_finish(&q->f)) q->start(q, x->app, x);
    asked_free(q);
}

void asked_run(asked *q) {
    fields_accept(&q->f, "prompt"); /* so that the other fields are refused before any work is done */
    if (fields_finish(&q->f))
        prepare_run(q->f.x, q->f.x->body.n, read_prompt, go_on, q);
    else
        asked_free(q);
}
