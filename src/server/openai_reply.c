/* A generation's reply: events of its job become one JSON object, or a stream of them. */
#include "server/openai_call.h"

#include "server/sse.h"

static const char *finish_name(rf_finish why) {
    return why == RF_FINISH_STOP ? "stop" : why == RF_FINISH_LENGTH ? "length" : "cancelled";
}

static json_t *text_of(const strbuf *b) { return b->failed ? NULL : json_text(b->p ? b->p : "", b->n); }

static json_t *head(const openai_call *c, const char *object, json_t *choices) {
    return json_pack("{ss ss sI ss ss so}", "id", c->id.text, "object", object, "created", (json_int_t)c->created,
                     "model", c->app->model_name, "system_fingerprint", openai_fingerprint(c->app), "choices", choices);
}

static json_t *usage_of(const openai_call *c) {
    uint64_t n_prompt = 0, n_predicted = 0, n_cached = 0;
    for (uint32_t i = 0; i < c->n_choices; i++) {
        const openai_choice *o = &c->choice[i];
        n_predicted += o->n_predicted;
        if (i % c->n) continue; /* the choices of a prompt share it */
        n_prompt += o->n_prompt;
        n_cached += o->n_cached;
    }
    json_t *v = openai_usage(n_prompt, n_predicted, n_cached);
    if (v && (c->recall.k || c->recall.store) && json_object_set_new(v, "context", openai_context_usage(c))) {
        json_decref(v);
        return NULL;
    }
    return v;
}

/* Log-probabilities collected so far, handed over. NULL: no memory. */
static json_t *take_logprobs(const openai_call *c, openai_choice *o) {
    if (!c->logprobs) return json_null();
    json_t *all = o->logprobs ? o->logprobs : openai_logprobs_new(c->chat);
    o->logprobs = NULL;
    return c->chat ? json_pack("{so sn}", "content", all, "refusal") : all;
}

/* --- a stream --------------------------------------------------------------------------------------------------------- */

/* Every write may be the one at which the peer is found gone: then j->x is NULL from there on. */
static void send(openai_call *c, job *j, json_t *v) {
    if (!v) c->no_memory = true;
    if (j->x && v)
        sse_json(j->x, v);
    else
        json_decref(v);
}

static void begin_stream(openai_call *c, job *j) {
    if (c->streaming || !j->x) return;
    c->streaming = true;
    sse_open(j->x);
}

static json_t *chunk(const openai_call *c, json_t *choices) {
    json_t *v = head(c, c->chat ? "chat.completion.chunk" : "text_completion", choices);
    if (v && c->include_usage) json_object_set_new(v, "usage", json_null());
    return v;
}

static json_t *chunk_choice(uint32_t index, bool chat, json_t *what, json_t *logprobs, json_t *finish) {
    return json_pack("{si so so so}", "index", (int)index, chat ? "delta" : "text", what, "logprobs", logprobs,
                     "finish_reason", finish);
}

static json_t *delta_of(openai_choice *o) {
    json_t *delta = json_object();
    bool ok = delta != NULL;
    if (o->thought.n || o->thought.failed)
        ok = ok && !json_object_set_new(delta, "reasoning_content", text_of(&o->thought));
    if (o->answer.n || o->answer.failed) ok = ok && !json_object_set_new(delta, "content", text_of(&o->answer));
    if (ok) return delta;
    json_decref(delta);
    return NULL;
}

/* What a choice has gathered goes out. finish: this is its last event. */
static void send_choice(openai_call *c, job *j, uint32_t i, const char *finish) {
    openai_choice *o = &c->choice[i];
    json_t *what = c->chat ? delta_of(o) : text_of(&o->answer);
    strbuf_clear(&o->thought);
    strbuf_clear(&o->answer);
    json_t *why = finish ? json_string(finish) : json_null();
    json_t *v = chunk(c, json_pack("[o]", chunk_choice(i, c->chat, what, take_logprobs(c, o), why)));
    if (v && finish && c->n_finished == c->n_choices) {
        json_object_set_new(v, "timings", job_timings(j));
        openai_put_warnings(v, job_warnings(j, c->warnings));
    }
    send(c, j, v);
}

static void begin_choice(openai_call *c, job *j, uint32_t i) {
    openai_choice *o = &c->choice[i];
    if (o->begun) return;
    o->begun = true;
    if (c->chat) {
        json_t *delta = json_pack("{ss ss}", "role", "assistant", "content", "");
        send(c, j, chunk(c, json_pack("[o]", chunk_choice(i, true, delta, json_null(), json_null()))));
        return;
    }
    const openai_input *p = &c->prompt[i / c->n];
    if (!c->echo || !p->n_echo) return;
    json_t *text = json_text(p->echo, p->n_echo);
    send(c, j, chunk(c, json_pack("[o]", chunk_choice(i, false, text, json_null(), json_null()))));
}

static void flush_choice(openai_call *c, job *j, uint32_t i) {
    openai_choice *o = &c->choice[i];
    if (!c->stream || !j->x || !(o->thought.n || o->answer.n || o->logprobs)) return;
    begin_stream(c, j);
    begin_choice(c, j, i);
    send_choice(c, j, i, NULL);
}

/* --- events ----------------------------------------------------------------------------------------------------------- */

static void gather_text(openai_choice *o, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) o->n_chars += (p[i] & 0xC0) != 0x80;
    reasoning_feed(&o->split, p, n, &o->thought, &o->answer);
}

/* A control token is a piece of the tags where the template says so: it has no text of its own in the event. */
static void gather_tag(openai_call *c, openai_choice *o, int32_t id) {
    char *piece;
    size_t n;
    for (uint32_t i = 0; i < c->n_shown; i++) {
        if (c->shown[i] != id) continue;
        if (!rf_token_piece(c->app->model, id, &piece, &n, NULL)) {
            c->no_memory = true;
            return;
        }
        gather_text(o, piece, n);
        rf_free(piece);
    }
}

static void keep_logprob(openai_call *c, openai_choice *o, json_t *entry) {
    if (!o->logprobs) o->logprobs = openai_logprobs_new(c->chat);
    if (!openai_logprobs_add(o->logprobs, entry, c->chat)) c->no_memory = true;
}

static void flush_pending(openai_call *c, openai_choice *o) {
    if (o->pending) keep_logprob(c, o, o->pending);
    o->pending = NULL;
}

static void gather_logprob(openai_call *c, openai_choice *o, const job_event *ev) {
    if (!c->logprobs || ev->id < 0) return;
    flush_pending(c, o);
    json_t *entry = openai_logprob(c, ev, o->n_chars);
    if (!entry)
        c->no_memory = true;
    else if (ev->text.n)
        keep_logprob(c, o, entry);
    else
        o->pending = entry;
}

/* What the first choice answers is gathered once more where it is to be kept: a stream clears its own. */
static void gather_answer(openai_call *c, const openai_choice *o, size_t from) {
    if (!c->recall.store || o != c->choice) return;
    c->answer.failed |= o->answer.failed;
    strbuf_add(&c->answer, o->answer.p + from, o->answer.n - from);
}

static void on_token(openai_call *c, job *j, const job_event *ev) {
    openai_choice *o = &c->choice[ev->choice];
    const size_t had = o->answer.n;
    gather_logprob(c, o, ev);
    if (ev->text.n)
        gather_text(o, ev->text.p, ev->text.n);
    else
        gather_tag(c, o, ev->id);
    gather_answer(c, o, had);
    flush_choice(c, j, ev->choice);
}

static void on_finished(openai_call *c, job *j, const job_event *ev) {
    openai_choice *o = &c->choice[ev->choice];
    o->finish = ev->end->finish;
    o->n_prompt = ev->end->n_prompt;
    o->n_predicted = ev->end->n_predicted;
    o->n_cached = ev->end->n_cached;
    c->n_finished++;
    bool by_token = o->finish == RF_FINISH_STOP && ev->end->stop < 0;
    if (!by_token) flush_pending(c, o);
    const size_t had = o->answer.n;
    reasoning_end(&o->split, &o->thought, &o->answer);
    gather_answer(c, o, had);
    if (!c->stream || !j->x) return;
    begin_stream(c, j);
    begin_choice(c, j, ev->choice);
    flush_choice(c, j, ev->choice);
    send_choice(c, j, ev->choice, finish_name(o->finish));
}

/* Before the first token: so that the client and those between see life. */
void openai_reply_tick(job *j) {
    openai_call *c = j->user;
    if (!c->stream) return;
    begin_stream(c, j);
    if (j->x) sse_ping(j->x);
}

void openai_reply_event(job *j, const job_event *ev) {
    openai_call *c = j->user;
    switch (ev->kind) {
    case JOB_PROMPT:
        if (!c->stream || !j->x) break;
        if (c->streaming && ev->prompt_done < ev->prompt_total) sse_ping(j->x);
        begin_stream(c, j);
        break;
    case JOB_TOKEN: on_token(c, j, ev); break;
    case JOB_FINISHED: on_finished(c, j, ev); break;
    case JOB_FAILED: job_cancel(j); break; /* the other choices are of no use alone */
    case JOB_EMBEDDING: break;
    }
    if (c->no_memory && !j->cancelled) job_cancel(j);
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */

static json_t *message_of(openai_choice *o) {
    json_t *v = json_pack("{ss so}", "role", "assistant", "content", text_of(&o->answer));
    if (v && o->thought.n) json_object_set_new(v, "reasoning_content", text_of(&o->thought));
    return v;
}

static json_t *whole_text(const openai_call *c, uint32_t i) {
    const openai_input *p = &c->prompt[i / c->n];
    openai_choice *o = &c->choice[i];
    if (!c->echo || !p->n_echo) return text_of(&o->answer);
    strbuf all = {0};
    strbuf_add(&all, p->echo, p->n_echo);
    strbuf_add(&all, o->answer.p, o->answer.n);
    json_t *v = text_of(&all);
    strbuf_free(&all);
    return v;
}

static json_t *whole_choice(openai_call *c, uint32_t i) {
    openai_choice *o = &c->choice[i];
    json_t *what = c->chat ? message_of(o) : whole_text(c, i);
    return json_pack("{si so so ss}", "index", (int)i, c->chat ? "message" : "text", what, "logprobs",
                     take_logprobs(c, o), "finish_reason", finish_name(o->finish));
}

static json_t *whole(openai_call *c) {
    json_t *choices = json_array();
    for (uint32_t i = 0; i < c->n_choices; i++)
        if (!choices || json_array_append_new(choices, whole_choice(c, i))) c->no_memory = true;
    json_t *v = head(c, c->chat ? "chat.completion" : "text_completion", choices);
    if (v && (json_object_set_new(v, "usage", usage_of(c)) || json_object_set(v, "timings", c->timings)))
        c->no_memory = true;
    openai_put_warnings(v, c->warnings);
    c->warnings = NULL;
    if (!c->no_memory) return v;
    json_decref(v);
    return NULL;
}

/* A write may be the one at which the peer is found gone: then c->x is NULL from there on. */
static void on_lost(exchange *x) { ((openai_call *)x->user)->x = NULL; }

/* The last event of a stream; what could not be kept is told unasked. */
static void end_stream(openai_call *c) {
    c->x->user = c;
    c->x->closed = on_lost;
    if (c->include_usage || c->error.code[0]) {
        json_t *v = head(c, c->chat ? "chat.completion.chunk" : "text_completion", json_array());
        if (v && json_object_set_new(v, "usage", usage_of(c))) c->no_memory = true;
        sse_json(c->x, v);
    }
    if (c->x && !c->no_memory) sse_text(c->x, "[DONE]");
    if (c->x) exchange_end(c->x);
}

static void end_reply(openai_call *c) {
    if (c->streaming)
        end_stream(c);
    else
        reply_json(c->x, 200, whole(c));
}

static void end_badly(openai_call *c, job *j) {
    if (!c->streaming && j->failed) {
        reply_error(j->x, &j->error, NULL);
        return;
    }
    if (!c->streaming) {
        reply_json(j->x, 200, NULL); /* no memory */
        return;
    }
    sse_json(j->x, j->failed ? reply_openai_error(&j->error, NULL) : NULL);
    if (j->x) exchange_end(j->x);
}

void openai_reply_done(job *j) {
    openai_call *c = j->user;
    if (!j->x) return;
    if (j->failed || c->no_memory) {
        end_badly(c, j);
        return;
    }
    c->timings = job_timings(j);
    if (!c->streaming) { /* a stream has told them */
        json_t *all = job_warnings(j, c->warnings);
        json_decref(c->warnings);
        c->warnings = all;
    }
    if (c->recall.store && !j->cancelled && openai_context_keep(c, j->x, end_reply)) {
        j->user = NULL; /* the store's, until it has replied */
        return;
    }
    c->x = j->x;
    end_reply(c);
}
