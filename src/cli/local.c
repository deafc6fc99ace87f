#include "cli/local.h"

typedef struct {
    answer *w;
    rf_request *r;
} running;

static void on_finished(answer *w, const rf_event *ev) {
    w->finish = ev->finish;
    w->n_prompt = ev->n_prompt;
    w->n_cached = ev->n_cached;
    w->n_predicted = ev->n_predicted;
    w->prompt_us = ev->prompt_us;
    w->predicted_us = ev->predicted_us;
    w->n_host_drawn = ev->n_host_drawn;
    w->host_drawn_why = ev->host_drawn_why;
}

static void on_event(void *user, const rf_event *ev) {
    running *run = user;
    switch (ev->kind) {
    case RF_EVENT_TOKEN:
        answer_add(run->w, ev->id, ev->text, ev->n_text);
        answer_add_token(run->w, ev->id, ev->logprob, ev->top, ev->n_top);
        if (run->w->deaf) rf_request_cancel(run->r);
        break;
    case RF_EVENT_PROMPT: answer_progress(run->w, ev->prompt_done, ev->prompt_total); break;
    case RF_EVENT_FINISHED: on_finished(run->w, ev); break;
    case RF_EVENT_FAILED: answer_fail(run->w, ev->error); break;
    case RF_EVENT_LOGITS:
    case RF_EVENT_EMBEDDING: break;
    }
}

void local_run(rf_engine *g, const rf_request_params *p, answer *w) {
    running run = {.w = w};
    rf_error e;
    w->seed = p->seed;
    w->context = rf_engine_context(g);
    if (!rf_request_start(&run.r, g, p, on_event, &run, &e)) {
        answer_fail(w, &e);
        return;
    }
    w->started = true;
    cli_hold_interrupts(true); /* from here on the text stays, whenever they come */
    cli_on_interrupt(run.r);
    rf_request_wait(run.r);
    cli_on_interrupt(NULL);
    answer_end(w);
    rf_request_free(run.r);
}
