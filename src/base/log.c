#include "base/log.h"

#include "base/escape.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    FILTERS_MOST = 32,
    MODULE_MOST = 32, /* bytes of a module's name */
    LINE_MOST = 8192, /* bytes of a line; what is longer is cut */
    LINE_TAIL = 8     /* kept free for the end of a line that was cut */
};

typedef struct {
    char module[MODULE_MOST];
    log_level level;
} filter;

/* Written by log_open and log_close, while no other thread logs; `lowest` alone may be read before and after. */
static struct {
    atomic_int lowest; /* of all levels that any module has; LOG_OFF: no log */
    atomic_bool content;
    log_level level; /* of modules without a filter */
    filter filters[FILTERS_MOST];
    uint32_t n_filters;
    bool json;
    int fd;
    char path[PATH_MAX]; /* empty: standard error */
} the_log = {.lowest = LOG_OFF, .fd = -1};

/* --- levels ----------------------------------------------------------------------------------------------------------- */
static const char *const names[] = {"trace", "debug", "info", "warn", "error", "off"};

static bool read_level(str s, log_level *out) {
    char low[8] = {0};
    for (size_t i = 0; i < s.n && i + 1 < sizeof low; i++)
        low[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + 32 : s.p[i]);
    if (s.n >= sizeof low) return false;
    for (int i = 0; i <= LOG_OFF; i++)
        if (strcmp(low, names[i]) == 0 || (i == LOG_WARN && strcmp(low, "warning") == 0))
            return *out = (log_level)i, true;
    return false;
}

/* RUST_LOG's names begin with the program's: rocmforge::server is our server, rocmforge alone is all of it. */
static str own_name(str module) {
    static const char program[] = "rocmforge";
    size_t n = sizeof program - 1;
    if (!str_starts(module, program)) return module;
    if (module.n == n) return (str){"", 0};
    return module.n > n + 2 && memcmp(module.p + n, "::", 2) == 0 ? (str){module.p + n + 2, module.n - n - 2} : module;
}

/* "debug", or "server=debug". */
static status read_filter(str part, err *e) {
    const char *eq = memchr(part.p, '=', part.n);
    str name = eq ? own_name((str){part.p, (size_t)(eq - part.p)}) : (str){"", 0};
    str word = eq ? (str){eq + 1, part.n - (size_t)(eq + 1 - part.p)} : part;
    log_level level;
    if (!read_level(word, &level))
        return fail(e, ERR_RANGE, "log level %.*s: give trace, debug, info, warn, error or off, or module=level",
                    STR(part));
    if (name.n == 0) return the_log.level = level, OK;
    if (name.n >= MODULE_MOST || the_log.n_filters == FILTERS_MOST)
        return fail(e, ERR_RANGE, "log level %.*s: too long a name, or more than %d modules", STR(part), FILTERS_MOST);
    filter *f = &the_log.filters[the_log.n_filters++];
    *f = (filter){.level = level};
    memcpy(f->module, name.p, name.n);
    return OK;
}

static status read_levels(const char *levels, err *e) {
    the_log.level = LOG_INFO;
    the_log.n_filters = 0;
    for (const char *p = levels ? levels : ""; *p;) {
        size_t n = strcspn(p, ",");
        str part = {p, n};
        while (part.n && *part.p == ' ') part.p++, part.n--;
        while (part.n && part.p[part.n - 1] == ' ') part.n--;
        status s = part.n ? read_filter(part, e) : OK;
        if (s) return s;
        p += n + (p[n] == ',');
    }
    return OK;
}

static log_level lowest_level(void) {
    log_level low = the_log.level;
    for (uint32_t i = 0; i < the_log.n_filters; i++)
        if (the_log.filters[i].level < low) low = the_log.filters[i].level;
    return low;
}

bool log_enabled(log_level level, const char *module) {
    if ((int)level < atomic_load_explicit(&the_log.lowest, memory_order_acquire)) return false;
    log_level need = the_log.level;
    for (uint32_t i = 0; i < the_log.n_filters; i++)
        if (strcmp(the_log.filters[i].module, module) == 0) need = the_log.filters[i].level;
    return level >= need && level < LOG_OFF;
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */
static int open_file(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
}

status log_open(const char *levels, bool json, const char *file, err *e) {
    log_close();
    status s = read_levels(levels, e);
    if (s) return s;
    if (file && strlen(file) >= sizeof the_log.path) return fail(e, ERR_RANGE, "the log file's name is too long");
    the_log.path[0] = 0;
    the_log.fd = STDERR_FILENO;
    the_log.json = json;
    if (file) {
        int fd = open_file(file);
        if (fd < 0) return fail(e, ERR_IO, "%s: the log cannot be opened: %s", file, strerror(errno));
        the_log.fd = fd;
        memcpy(the_log.path, file, strlen(file) + 1);
    }
    atomic_store_explicit(&the_log.lowest, (int)lowest_level(), memory_order_release);
    return OK;
}

bool log_in_file(void) { return the_log.path[0] != 0; }
log_level log_start_level(void) { return log_in_file() || the_log.json ? LOG_INFO : LOG_DEBUG; }

/* The new file takes the old one's number in one step, so that other threads may go on logging. */
void log_reopen(void) {
    if (!the_log.path[0] || the_log.fd < 0) return;
    int fd = open_file(the_log.path);
    if (fd < 0) return; /* the old one is better than none */
    dup3(fd, the_log.fd, O_CLOEXEC);
    close(fd);
}

void log_close(void) {
    atomic_store_explicit(&the_log.lowest, LOG_OFF, memory_order_release);
    if (the_log.path[0] && the_log.fd >= 0) close(the_log.fd);
    the_log.path[0] = 0;
    the_log.fd = -1;
}

void log_content(bool on) { atomic_store(&the_log.content, on); }
bool log_content_wanted(void) { return atomic_load(&the_log.content); }

/* --- a line ----------------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t n;
    bool cut;
    char p[LINE_MOST];
} line;

/* The end of a value may reach into the tail. */
static size_t room(const line *l) { return l->n < LINE_MOST - LINE_TAIL ? LINE_MOST - LINE_TAIL - l->n : 0; }

static void put(line *l, const char *p, size_t n) {
    if (l->cut || n > room(l)) {
        l->cut = true;
        return;
    }
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void put_text(line *l, const char *z) { put(l, z, strlen(z)); }

/* Between quotes, or bare; what has no more room ends in "...". */
static void put_escaped(line *l, str s) {
    char out[ESCAPE_MOST];
    for (size_t at = 0; at < s.n && !l->cut;) {
        size_t n = escape_char(s, &at, out);
        put(l, out, n);
        if (!l->cut) continue;
        memcpy(l->p + l->n, "...", 3);
        l->n += 3;
    }
}

static void put_quoted(line *l, str s) {
    put(l, "\"", 1);
    if (l->cut) return;
    put_escaped(l, s);
    l->p[l->n++] = '"'; /* room is kept in LINE_TAIL */
}

static void put_number(line *l, const log_field *f) {
    char text[40];
    int n = f->kind == LOG_INTEGER ? snprintf(text, sizeof text, "%lld", (long long)f->i)
            : isfinite(f->f)       ? snprintf(text, sizeof text, "%.9g", f->f)
                                   : snprintf(text, sizeof text, "null");
    put(l, text, (size_t)n);
}

static bool is_bare(str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~' || strchr("\"=\\", s.p[i])) return false;
    return s.n > 0;
}

/* key=value, or ,"key":value. A field whose beginning has no room is left out whole. */
static void put_field(line *l, const log_field *f) {
    bool json = the_log.json;
    if (l->cut || strlen(f->key) + 48 > room(l)) {
        l->cut = true;
        return;
    }
    put_text(l, json ? ",\"" : " ");
    put_text(l, f->key);
    put_text(l, json ? "\":" : "=");
    if (f->kind != LOG_STRING)
        put_number(l, f);
    else if (!json && is_bare(str_of(f->s)))
        put_escaped(l, str_of(f->s));
    else
        put_quoted(l, str_of(f->s));
}

static void put_time(line *l) {
    struct timespec now;
    struct tm t;
    char text[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &t);
    int n = snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", t.tm_year + 1900, t.tm_mon + 1,
                     t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, (int)(now.tv_nsec / 1000000));
    put(l, text, (size_t)n);
}

static void put_head(line *l, log_level level, const char *module, const char *msg) {
    bool json = the_log.json;
    if (json) put_text(l, "{\"ts\":\"");
    put_time(l);
    put_text(l, json ? "\",\"level\":\"" : " ");
    put_text(l, names[level]);
    put_text(l, json ? "\",\"module\":\"" : strlen(names[level]) < 5 ? "  " : " ");
    put_text(l, module);
    put_text(l, json ? "\",\"msg\":" : ": ");
    if (json)
        put_quoted(l, str_of(msg));
    else
        put_escaped(l, str_of(msg));
}

void log_event(log_level level, const char *module, const char *msg, const log_field *fields) {
    if (!log_enabled(level, module)) return;
    line l;
    l.n = 0;
    l.cut = false;
    put_head(&l, level, module, msg);
    for (const log_field *f = fields; f && f->key; f++) put_field(&l, f);
    if (the_log.json) l.p[l.n++] = '}';
    l.p[l.n++] = '\n';
    while (write(the_log.fd, l.p, l.n) < 0 && errno == EINTR) {}
}
