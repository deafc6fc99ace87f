#include "cli/chat.h"

#include "cli/local.h"

#include "base/json.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- one turn ---------------------------------------------------------------------------------------------------------- */

/* The chat request that the template sees. */
static char *request_text(const chat *c, json_t *messages) {
    json_t *v = c->kwargs ? json_deep_copy(c->kwargs) : json_object();
    if (v) json_object_set(v, "messages", messages);
    if (v) json_object_set_new(v, "add_generation_prompt", json_true());
    char *text = v ? json_dumps(v, JSON_COMPACT) : NULL;
    json_decref(v);
    return text;
}

static bool out_of_memory(rf_error *e) {
    *e = (rf_error){.code = "memory.exhausted", .category = "Backend", .message = "no memory for the conversation"};
    return false;
}

static bool too_long(const chat *c, size_t n, rf_error *e) {
    *e = (rf_error){.code = "request.context_length", .category = "User"};
    snprintf(e->message, sizeof e->message,
             "the conversation has %zu tokens, the context holds %u: nothing was cut; %s", n, c->n_context,
             c->lines ? "/clear begins a new one, -c gives more room" : "shorten it, or give more room with -c");
    return false;
}

static str template_of(const chat *c) {
    size_t n = c->n_tmpl;
    const char *t = c->tmpl ? c->tmpl : rf_model_template(c->m, &n);
    return (str){t, t ? n : 0};
}

/* The prompt's ids, and how its answer begins. */
static bool prompt_ids(chat *c, json_t *messages, answer *w, int32_t **ids, size_t *n, rf_error *e) {
    rf_prompt p = {0};
    char *request = request_text(c, messages);
    bool ok = request ? rf_render(&p, c->m, c->tmpl, c->n_tmpl, request, strlen(request), e) : out_of_memory(e);
    rf_free(request);
    if (ok) answer_split(w, c->m, template_of(c), &p);
    ok = ok && rf_tokenize_prompt(c->m, &p, ids, n, e);
    rf_prompt_free(&p);
    return ok && *n > c->n_context ? too_long(c, *n, e) : ok;
}

static void ask_here(chat *c, json_t *messages, answer *w) {
    rf_error e;
    int32_t *ids = NULL;
    size_t n = 0;
    rf_request_params p = answer_params(&c->a);
    p.seed += c->n_regen;
    if (!chat_recall(c, messages, &e) || !prompt_ids(c, messages, w, &ids, &n, &e)) {
        answer_fail(w, &e);
    } else {
        p.tokens = ids;
        p.n_tokens = n;
        if (c->a.json) w->info = cli_json(rf_engine_info(c->g));
        local_run(c->g, &p, w);
        if (c->a.json) w->warnings = cli_json(rf_engine_warnings(c->g));
    }
    rf_free(ids);
}

static void ask_there(chat *c, json_t *messages, answer *w) {
    w->seed = answer_params(&c->a).seed + c->n_regen;
    remote_chat(c->server, messages, c->kwargs, w);
}

static bool shows_thinking(const chat *c) {
    const char *how = c->a.reasoning ? c->a.reasoning : "auto";
    return strcmp(how, "show") == 0 || (strcmp(how, "auto") == 0 && isatty(STDOUT_FILENO));
}

/* What was said and not answered leaves the conversation, so that every message in it has its answer: some templates insist. */
static void drop_unanswered(chat *c) {
    const char *said = json_string_value(
        json_object_get(json_array_get(c->talk.messages, json_array_size(c->talk.messages) - 1), "content"));
    strbuf_clear(&c->unanswered);
    if (said) strbuf_puts(&c->unanswered, said);
    talk_drop_last(&c->talk);
    if (c->lines) cli_note("no answer: what you said last is not part of the conversation; /regen says it again");
}

static void keep_answer(chat *c, const answer *w) {
    c->n_used = w->n_prompt + w->n_predicted;
    if (w->context) c->n_context = w->context;
    if (c->server && c->lines && w->failed && !strcmp(w->error.code, "request.context_length"))
        cli_note("the context is full and nothing was cut; /clear begins a new conversation");
    if (w->failed || (!w->text.n && !w->thinking.n)) {
        if (w->failed || w->finish == RF_FINISH_CANCELLED) {
            drop_unanswered(c);
            return;
        }
    }
    talk_add(&c->talk, "assistant", (str){w->text.p, w->text.n}, (str){w->thinking.p, w->thinking.n});
    if (w->finish == RF_FINISH_LENGTH && c->n_context && c->n_used >= c->n_context)
        cli_note("rocmforge: warning: the context is full, %u of %u tokens: the answer ends here; %s", c->n_used,
                 c->n_context, c->lines ? "/clear begins a new conversation" : "give more room with -c");
}

/* The last message is the user's. */
static int turn(chat *c) {
    answer w;
    answer_begin(&w, &c->a);
    w.chat = true;
    w.show_think = shows_thinking(c);
    json_t *messages = talk_messages(&c->talk);
    if (c->server)
        ask_there(c, messages, &w);
    else
        ask_here(c, messages, &w);
    const int kept = chat_keep(c, messages, &w);
    json_decref(messages);
    int rc = answer_finish(&w);
    if (!rc) rc = kept;
    keep_answer(c, &w);
    if (w.deaf) rc = EXIT_FAILED, c->deaf = true;
    answer_free(&w);
    return rc;
}

int chat_say(chat *c, str text) {
    c->n_regen = 0;
    if (!talk_add(&c->talk, "user", text, (str){0}))
        return cli_error("memory.exhausted", "no memory for the conversation");
    return turn(c);
}

int chat_again(chat *c) {
    if (c->unanswered.n && !talk_last_is(&c->talk, "user")) {
        strbuf said = c->unanswered;
        c->unanswered = (strbuf){0};
        int rc = chat_say(c, (str){said.p, said.n});
        strbuf_free(&said);
        return rc;
    }
    if (talk_last_is(&c->talk, "assistant")) talk_drop_last(&c->talk);
    if (!talk_last_is(&c->talk, "user")) return cli_usage("usage.argument", "nothing was said yet");
    c->n_regen++;
    return turn(c);
}

const char *chat_model_name(const chat *c) {
    if (c->server) return remote_url(c->server);
    const char *slash = strrchr(c->a.model, '/');
    return slash ? slash + 1 : c->a.model;
}

/* --- the loop ---------------------------------------------------------------------------------------------------------- */
static const char fence[] = "\"\"\"";

static bool ends_with_fence(str s) { return s.n >= 3 && memcmp(s.p + s.n - 3, fence, 3) == 0; }

/* A message of several lines between """ and """; *first is its first line. */
static line_result read_fenced(chat *c, str first, strbuf *out) {
    str line = {first.p + 3, first.n - 3};
    bool begun = false;
    strbuf_clear(out);
    for (;;) {
        bool last = ends_with_fence(line);
        strbuf_add(out, line.p, line.n - (last ? 3 : 0));
        if (last && line.n == 3 && out->n) out->p[--out->n] = 0; /* it stands alone: the line before ends the message */
        if (last) return LINE_TEXT;
        if (line.n || begun) strbuf_puts(out, "\n"); /* what opens may stand alone: the message begins below it */
        begun = true;
        line_result got = line_read(c->lines, "... ", &line);
        if (got == LINE_END && out->n) return LINE_TEXT;
        if (got != LINE_TEXT) return got == LINE_STOP ? LINE_CLEARED : got;
    }
}

/* The next message or command, in *out. */
static line_result read_message(chat *c, strbuf *out, bool *fenced) {
    str line;
    line_result got = line_read(c->lines, "> ", &line);
    *fenced = got == LINE_TEXT && str_starts(line, fence);
    strbuf_clear(out);
    if (*fenced)
        got = read_fenced(c, line, out);
    else if (got == LINE_TEXT)
        strbuf_add(out, line.p, line.n);
    return got;
}

bool chat_goes_on(chat *c, int rc) {
    bool person = line_on_terminal(c->lines), stopped = rc == EXIT_INTERRUPTED && person;
    int sig = cli_interrupted_by();
    if (stopped && (sig == SIGTERM || sig == SIGHUP)) stopped = false;
    if (rc && !stopped && (!person || rc == EXIT_INTERRUPTED || c->deaf)) c->failed = rc;
    return !c->deaf && (stopped || rc != EXIT_INTERRUPTED);
}

static bool blank(const strbuf *s) { return s->n == 0 || strspn(s->p, " \t\r\n") == s->n; }

/* One message or command: false when the conversation ends. */
static bool handle(chat *c, const strbuf *said, bool fenced) {
    if (blank(said)) return true;
    if (said->p[0] == '/' && !fenced) return chat_command(c, said->p);
    int rc = chat_say(c, (str){said->p, said->n});
    return chat_goes_on(c, rc);
}

/* From a terminal: Ctrl-C drops the line, or stops the answer; twice at an empty prompt it ends the conversation. */
static int converse(chat *c) {
    strbuf said = {0};
    bool fenced, terminal = line_on_terminal(c->lines), going = true;
    for (int n_stops = 0; going;) {
        cli_hold_interrupts(terminal);
        cli_stay(terminal);
        line_result got = read_message(c, &said, &fenced);
        if (terminal && got != LINE_TEXT) fputc('\n', stderr);
        n_stops = got == LINE_STOP ? n_stops + 1 : 0;
        going = got != LINE_END && got != LINE_ENDED_BY_SIGNAL && n_stops < 2;
        if (got == LINE_ENDED_BY_SIGNAL) c->failed = EXIT_INTERRUPTED;
        if (got == LINE_STOP && going) cli_note("Ctrl-C again, or Ctrl-D, ends the conversation");
        if (got == LINE_STOP || got == LINE_CLEARED) cli_forget_interrupt();
        if (got == LINE_TEXT) going = handle(c, &said, fenced);
        if (terminal && cli_interrupted_by() == SIGINT) cli_forget_interrupt();
    }
    strbuf_free(&said);
    return c->failed;
}

/* --- opening it -------------------------------------------------------------------------------------------------------- */
static int bad_kwargs(const char *why) {
    return cli_usage("usage.range", "--chat-template-kwargs: give a JSON object: %.200s", why);
}

static int read_options(chat *c, const args *a) {
    json_error_t where;
    const char *how = a->reasoning;
    if (how && strcmp(how, "auto") && strcmp(how, "show") && strcmp(how, "hide"))
        return cli_usage("usage.range", "--reasoning %.80s: give auto, show or hide", how);
    if (a->stream && a->json) return cli_usage("usage.argument", "give --stream or --json, not both");
    if (a->json && !a->prompt) return cli_usage("usage.argument", "--json is for one turn: give -p TEXT, too");
    if (a->top_logprobs >= 0 && !a->json) return cli_usage("usage.argument", "--top-logprobs goes with --json");
    if (a->top_logprobs >= 0 && a->host)
        return cli_usage("usage.argument", "--top-logprobs: not together with --host here; generate has both");
    if (a->template_kwargs && !(c->kwargs = json_loads(a->template_kwargs, JSON_REJECT_DUPLICATES, &where)))
        return bad_kwargs(where.text);
    if (c->kwargs && !json_is_object(c->kwargs)) return bad_kwargs("it is none");
    if (a->chat_template_file && !(c->tmpl = cli_read_all(a->chat_template_file, &c->n_tmpl))) return EXIT_FAILED;
    if (!talk_open(&c->talk, a->system_prompt) || !(c->kept = json_array()))
        return cli_error("memory.exhausted", "no memory for the conversation");
    return 0;
}

static int open_engine(chat *c) {
    rf_engine_options opt = cli_engine_options(&c->a);
    int rc = cli_open_model(&c->m, &c->a);
    if (!rc && !template_of(c).n)
        return cli_error("template.missing",
                         "%.200s has no chat template: give one with --chat-template-file, or use "
                         "rocmforge generate",
                         c->a.model);
    if (!rc) rc = cli_open_engine(&c->g, c->m, &opt, &c->a);
    if (!rc) c->n_context = rf_engine_context(c->g);
    if (!rc) rc = chat_open_store(c);
    return rc;
}

static int open_lines(chat *c) {
    strbuf path = {0};
    const char *history = c->a.history_file;
    if (!c->a.no_history && !history && line_history_path(&path)) history = path.p;
    c->lines = line_open(c->a.no_history ? NULL : history);
    strbuf_free(&path);
    if (!c->lines) return cli_error("memory.exhausted", "no memory for the prompt");
    if (line_on_terminal(c->lines) && !c->a.quiet) cli_note("/help names the commands; Ctrl-D ends the conversation");
    return 0;
}

int cmd_chat(const args *a) {
    chat c = {.a = *a};
    int rc = read_options(&c, a);
    if (!rc) rc = a->host ? remote_open(&c.server, a) : open_engine(&c);
    if (!rc && a->prompt)
        rc = chat_say(&c, str_of(a->prompt));
    else if (!rc && !(rc = open_lines(&c)))
        rc = converse(&c);
    line_close(c.lines);
    remote_close(c.server);
    cli_store_close(&c.store);
    recall_free(&c.recalled);
    rf_engine_close(c.g);
    rf_model_close(c.m);
    talk_close(&c.talk);
    strbuf_free(&c.unanswered);
    json_decref(c.kwargs);
    json_decref(c.kept);
    free(c.tmpl);
    return rc;
}
