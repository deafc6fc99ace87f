#include "cli/chat_line.h"

#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HISTORY_LINES = 1000, HISTORY_BYTES = 1 << 20, HISTORY_LINE_BYTES = 8192 };

struct line_reader {
    EditLine *el; /* NULL: no terminal */
    History *history;
    const char *prompt;
    int history_fd;  /* -1: none is kept */
    sigset_t usual;  /* signals blocked outside of a read */
    line_result why; /* the last read gave no text */
    char *plain;     /* of getline */
    size_t plain_cap;
};

/* --- the file of typed lines ------------------------------------------------------------------------------------------- */
static bool make_folders(char *path) { /* every one above the last part, for their owner only */
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        int rc = mkdir(path, 0700);
        *p = '/';
        if (rc && errno != EEXIST) return false;
    }
    return true;
}

bool line_history_path(strbuf *out) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && *state == '/')
        strbuf_printf(out, "%s/rocmforge/history", state);
    else if (home && *home == '/')
        strbuf_printf(out, "%s/.local/state/rocmforge/history", home);
    return out->n && !out->failed && make_folders(out->p);
}

static bool fit_for_terminal(str s) {
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 32 || s.p[i] == 127) return false;
    return s.n && s.n <= HISTORY_LINE_BYTES && str_is_utf8(s);
}

/* Reads at most the file's last bytes, whole lines only. */
static void read_newest(int fd, strbuf *all) {
    struct stat st;
    char part[65536];
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return;
    off_t at = st.st_size > HISTORY_BYTES ? st.st_size - HISTORY_BYTES : 0;
    for (ssize_t n; (n = pread(fd, part, sizeof part, at)) > 0 && all->n <= HISTORY_BYTES; at += n)
        strbuf_add(all, part, (size_t)n);
    const char *first = st.st_size > HISTORY_BYTES && all->n ? memchr(all->p, '\n', all->n) : NULL;
    if (!first) return;
    size_t cut = (size_t)(first + 1 - all->p);
    memmove(all->p, all->p + cut, all->n - cut);
    all->n -= cut;
}

/* Remembers the good ones of the lines; gives where the newest HISTORY_LINES of all begin. */
static size_t take_lines(History *h, const strbuf *all) {
    HistEvent ev;
    size_t n_lines = 0, from = 0;
    for (size_t i = 0; i < all->n; i++) n_lines += all->p[i] == '\n';
    for (size_t at = 0, k = 0; at < all->n; k++) {
        const char *end = memchr(all->p + at, '\n', all->n - at);
        size_t n = end ? (size_t)(end - all->p) - at : all->n - at;
        if (n_lines > HISTORY_LINES && k == n_lines - HISTORY_LINES) from = at;
        char line[HISTORY_LINE_BYTES + 1];
        if (fit_for_terminal((str){all->p + at, n})) {
            snprintf(line, sizeof line, "%.*s", (int)n, all->p + at);
            history(h, &ev, H_ENTER, line);
        }
        at += n + 1;
    }
    return from;
}

/* Opened for appending, with what it holds loaded, and cut when it has grown to twice its share. */
static int open_history(History *h, const char *path) {
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        if (fd >= 0) close(fd);
        return -1;
    }
    if (st.st_mode & 077 && fchmod(fd, 0600)) cli_note("rocmforge: warning: %s can be read by others", path);
    strbuf all = {0};
    read_newest(fd, &all);
    size_t from = take_lines(h, &all);
    bool long_file = st.st_size > HISTORY_BYTES || from > all.n / 2;
    if (long_file && !ftruncate(fd, 0) && write(fd, all.p + from, all.n - from) < 0)
        cli_note("rocmforge: warning: %s: %s", path, strerror(errno));
    strbuf_free(&all);
    return fd;
}

static void remember(line_reader *r, str line) {
    HistEvent ev;
    if (!fit_for_terminal(line)) return;
    char entry[HISTORY_LINE_BYTES + 2];
    int n = snprintf(entry, sizeof entry, "%.*s\n", (int)line.n, line.p);
    if (r->history_fd >= 0 && write(r->history_fd, entry, (size_t)n) != n) {
        close(r->history_fd); /* a full disk takes no history, and that is no reason to stop */
        r->history_fd = -1;
    }
    entry[n - 1] = 0;
    history(r->history, &ev, H_ENTER, entry);
}

/* --- the terminal ------------------------------------------------------------------------------------------------------ */
static volatile sig_atomic_t resized, continued;
static void on_winch(int sig) { resized = sig; }
static void on_cont(int sig) { continued = sig; }

/* Waits for input; signals come here and nowhere else while a line is read, so that none is missed. */
static bool wait_for_input(line_reader *r) {
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    while (ppoll(&in, 1, NULL, &r->usual) < 0) {
        if (errno != EINTR) return false;
        int sig = cli_interrupted_by();
        if (sig) {
            r->why = sig == SIGINT ? LINE_STOP : LINE_ENDED_BY_SIGNAL;
            return false;
        }
        if (resized) el_resize(r->el);
        if (continued) el_set(r->el, EL_PREP_TERM, 1), el_set(r->el, EL_REFRESH);
        resized = continued = 0;
    }
    return true;
}

static bool next_byte(line_reader *r, unsigned char *c) {
    ssize_t n = wait_for_input(r) ? read(STDIN_FILENO, c, 1) : -1;
    return n == 1;
}

/* One character, whatever the locale; what is no UTF-8 becomes U+FFFD. */
static int get_char(EditLine *el, wchar_t *out) {
    line_reader *r;
    unsigned char c, more;
    el_get(el, EL_CLIENTDATA, &r);
    if (!next_byte(r, &c)) return -1;
    int n = c < 0x80 ? 0 : c >= 0xF0 && c < 0xF5 ? 3 : c >= 0xE0 ? 2 : c >= 0xC2 ? 1 : -1;
    uint32_t x = n == 0 ? c : n == 1 ? c & 31u : n == 2 ? c & 15u : c & 7u;
    for (int i = 0; i < n; i++) {
        if (!next_byte(r, &more)) return -1;
        x = (more & 0xC0) == 0x80 ? x << 6 | (more & 63u) : 0xFFFD;
    }
    *out = n < 0 || (x >= 0xD800 && x < 0xE000) || x > 0x10FFFF ? 0xFFFD : (wchar_t)x;
    return 1;
}

static char *prompt_of(EditLine *el) {
    line_reader *r;
    el_get(el, EL_CLIENTDATA, &r);
    return (char *)(uintptr_t)r->prompt;
}

static void use_utf8(void) { /* libedit asks the locale how to write characters */
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8")) setlocale(LC_CTYPE, "C.UTF-8");
}

static void open_terminal(line_reader *r, FILE *to, const char *history_file) {
    HistEvent ev;
    use_utf8();
    r->history = history_init();
    r->el = r->history ? el_init("rocmforge", stdin, to, stderr) : NULL;
    if (!r->el) return;
    history(r->history, &ev, H_SETSIZE, HISTORY_LINES);
    history(r->history, &ev, H_SETUNIQUE, 1);
    el_set(r->el, EL_CLIENTDATA, r);
    el_set(r->el, EL_EDITOR, "emacs");
    el_set(r->el, EL_PROMPT, prompt_of);
    el_set(r->el, EL_SIGNAL, 0);
    el_set(r->el, EL_GETCFN, get_char);
    el_set(r->el, EL_HIST, history, r->history);
    el_set(r->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(r->el, NULL); /* the user's own keys */
    if (history_file) r->history_fd = open_history(r->history, history_file);
    if (history_file && r->history_fd < 0)
        cli_note("rocmforge: warning: %s: no history is kept: %s", history_file, strerror(errno));
    struct sigaction winch = {.sa_handler = on_winch}, cont = {.sa_handler = on_cont};
    sigaction(SIGWINCH, &winch, NULL);
    sigaction(SIGCONT, &cont, NULL);
}

static line_result read_terminal(line_reader *r, str *text) {
    static const int held[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT};
    sigset_t block;
    sigemptyset(&block);
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) sigaddset(&block, held[i]);
    pthread_sigmask(SIG_BLOCK, &block, &r->usual);
    int n = 0;
    r->why = LINE_END;
    el_set(r->el, EL_PREP_TERM,
           1); /* else the prompt comes first, and a Ctrl-D typed just then would be a NUL afterwards */
    const char *line = el_gets(r->el, &n);
    pthread_sigmask(SIG_SETMASK, &r->usual, NULL);
    if (line && n > 0) {
        if (line[n - 1] == '\n') n--;
        *text = (str){line, (size_t)n};
        remember(r, *text);
        return LINE_TEXT;
    }
    const LineInfo *left = el_line(r->el);
    if (r->why == LINE_STOP && left->lastchar != left->buffer) r->why = LINE_CLEARED;
    el_reset(r->el);
    return r->why;
}

/* --- both -------------------------------------------------------------------------------------------------------------- */
line_reader *line_open(const char *history_file) {
    line_reader *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->history_fd = -1;
    FILE *to = isatty(STDERR_FILENO) ? stderr : isatty(STDOUT_FILENO) ? stdout : NULL;
    if (to && isatty(STDIN_FILENO)) open_terminal(r, to, history_file);
    return r;
}

void line_close(line_reader *r) {
    if (!r) return;
    if (r->el) el_end(r->el);
    if (r->history) history_end(r->history);
    if (r->history_fd >= 0) close(r->history_fd);
    free(r->plain);
    free(r);
}

bool line_on_terminal(const line_reader *r) { return r->el != NULL; }

static line_result read_plain(line_reader *r, str *text) {
    ssize_t n = getline(&r->plain, &r->plain_cap, stdin);
    if (n < 0) return LINE_END;
    if (n && r->plain[n - 1] == '\n') n--;
    if (n && r->plain[n - 1] == '\r') n--;
    *text = (str){r->plain, (size_t)n};
    return LINE_TEXT;
}

line_result line_read(line_reader *r, const char *prompt, str *text) {
    r->prompt = prompt;
    return r->el ? read_terminal(r, text) : read_plain(r, text);
}
