#include "check.h"

#include "context_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* For ThreadSanitizer: hnswlib locks nodes in the order in which the graph leads to them, which looks like a deadlock to be; it
 * has one writer at a time here, so no two can wait for each other. Races are looked for all the same. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "detect_deadlocks=0"; }

void context_rig_make(context_rig *r) {
    memset(r, 0, sizeof *r);
    strcpy(r->dir, "/tmp/test_context.XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->db, sizeof r->db, "%s/c.db", r->dir);
    snprintf(r->index, sizeof r->index, "%s-index", r->db);
}

/* Calls on every file of the folder, until one says true. */
static bool any_file(const char *dir, bool (*f)(const char *path, void *ctx), void *ctx) {
    DIR *d = opendir(dir);
    bool found = false;
    if (!d) return false;
    for (struct dirent *e; !found && (e = readdir(d));) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) found = f(path, ctx);
    }
    closedir(d);
    return found;
}

static bool remove_file(const char *path, void *ctx) {
    (void)ctx;
    unlink(path);
    return false;
}

void context_rig_remove(context_rig *r) {
    any_file(r->dir, remove_file, NULL);
    rmdir(r->dir);
}

static void take_notice(void *user, const char *line) {
    context_rig *r = user;
    if (r->n_notices < 8) snprintf(r->notice[r->n_notices++], sizeof r->notice[0], "%s", line);
}

bool context_rig_try(context_rig *r, const rf_context_options *opt, rf_context **out, rf_error *e) {
    rf_context_options o = *opt;
    o.notice = take_notice;
    o.user = r;
    return rf_context_open(out, r->db, &o, e);
}

rf_context *context_rig_open(context_rig *r, rf_engine *g) {
    rf_context *c;
    rf_error e = {0};
    if (!context_rig_try(r, &(rf_context_options){.engine = g}, &c, &e)) fail_msg("%s: %s", e.code, e.message);
    return c;
}

int64_t context_add_text(rf_context *c, const char *conversation, const char *text) {
    int64_t id;
    rf_error e = {0};
    rf_message m = {.text = text, .n_text = strlen(text), .conversation = conversation};
    if (!rf_context_add(c, &m, 1, &id, &e)) fail_msg("%s: %s", e.code, e.message);
    return id;
}

typedef struct {
    const void *p;
    size_t n;
} needle;

static bool holds(const char *path, void *ctx) {
    const needle *want = ctx;
    size_t size = context_file_size(path);
    char *all = malloc(size + 1);
    int fd = open(path, O_RDONLY);
    assert_non_null(all);
    assert_int_equal(read(fd, all, size), (ssize_t)size);
    close(fd);
    bool found = memmem(all, size, want->p, want->n) != NULL;
    free(all);
    return found;
}

bool context_rig_holds(const context_rig *r, const void *p, size_t n) {
    return any_file(r->dir, holds, &(needle){p, n});
}

void context_flip(const char *path, size_t at, uint8_t mask) {
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

size_t context_file_size(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}
