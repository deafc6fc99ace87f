#include "cli/events.h"

static void take_field(event_reader *r) {
    str line = {r->line.p ? r->line.p : "", r->line.n};
    if (!str_starts(line, "data") || (line.n > 4 && line.p[4] != ':')) return;
    size_t skip = line.n > 5 && line.p[5] == ' ' ? 6 : line.n < 5 ? line.n : 5;
    if (r->has_data) strbuf_puts(&r->data, "\n");
    strbuf_add(&r->data, line.p + skip, line.n - skip);
    r->has_data = true;
}

/* An empty line ends an event. */
static bool end_line(event_reader *r, event_sink sink, void *user) {
    bool going = true;
    if (r->line.n) {
        take_field(r);
    } else if (r->has_data) {
        r->has_data = false;
        going = sink(user, (str){r->data.p ? r->data.p : "", r->data.n});
        strbuf_clear(&r->data);
    }
    strbuf_clear(&r->line);
    return going && !r->data.failed;
}

static bool is_end(char c) { return c == '\n' || c == '\r'; }

bool events_feed(event_reader *r, const char *p, size_t n, event_sink sink, void *user) {
    for (size_t at = 0; at < n;) {
        size_t end = at;
        while (end < n && !is_end(p[end])) end++;
        bool second_half = r->after_cr && end == at && p[at] == '\n'; /* of a CR LF */
        r->after_cr = end < n && p[end] == '\r';
        strbuf_add(&r->line, p + at, end - at);
        if (r->line.failed || r->line.n + r->data.n > EVENTS_MOST_BYTES) return false;
        if (end < n && !second_half && !end_line(r, sink, user)) return false;
        at = end + 1;
    }
    return true;
}

void events_free(event_reader *r) {
    strbuf_free(&r->line);
    strbuf_free(&r->data);
}
