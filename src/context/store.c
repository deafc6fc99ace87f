#include "context/store.h"

#include "base/log.h"
#include "base/mem.h"
#include "context/checked_file.h"
#include "context/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_READERS = 16, BUSY_MS = 5000 };

struct store {
    char *path; /* NULL: in memory */
    store_options opt;
    uint8_t identity[16];
    bool vfs_taken;
    pthread_mutex_t write_lock; /* guards writer; in memory it is everybody's only connection */
    sql_conn writer;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t came_back;
    sql_conn *idle;
    unsigned n_readers; /* lent or idle */
};

const char *store_path(const store *s) { return s->path; }
bool store_is_read_only(const store *s) { return s->opt.read_only; }
const uint8_t *store_identity(const store *s) { return s->identity; }

int64_t store_bytes(const store *s) {
    struct stat st;
    return s->path && stat(s->path, &st) == 0 ? st.st_size : 0;
}

void store_notice(store *s, const char *fmt, ...) {
    char raw[600];
    err clean;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    (void)fail(&clean, ERR_IO, "%s", raw); /* paths can hold anything */
    log_event(LOG_WARN, "context", clean.text, NULL);
    if (s->opt.notice) s->opt.notice(s->opt.user, clean.text);
}

/* --- connections ------------------------------------------------------------------------------------------------------ */

/* Ends whatever transaction there is. The statement is made when the connection is, so that it needs no memory then. */
static const char rollback[] = "ROLLBACK";

static void undo(sql_conn *c) {
    if (sqlite3_get_autocommit(c->db)) return; /* SQLite undid it itself */
    sql_query q = sql_ask(c, rollback);
    if (sql_done(&q, NULL)) sqlite3_exec(c->db, rollback, NULL, NULL, NULL);
}

static status begin(sql_conn *c, const char *how, err *e) {
    undo(c);
    return sql_exec(c, how, e);
}

static status configure(sql_conn *c, const store *s, bool writer, err *e) {
    sqlite3_extended_result_codes(c->db, 1);
    sqlite3_busy_timeout(c->db, (int)(s->opt.busy_ms ? s->opt.busy_ms : BUSY_MS));
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    int reserve = CHECKED_RESERVE; /* of files that are yet to be made; SQLite has read nothing so far */
    if (s->path) sqlite3_file_control(c->db, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve);
    status st = sql_exec(c,
                         "PRAGMA page_size = 8192; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; "
                         "PRAGMA secure_delete = ON; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; "
                         "PRAGMA mmap_size = 0; PRAGMA cache_size = -8000; PRAGMA journal_size_limit = 67108864",
                         e);
    if (!st && !writer) st = sql_exec(c, "PRAGMA query_only = ON", e);
    sql_query q = sql_ask(c, rollback);
    status kept = sql_end(&q, st ? NULL : e);
    return st ? st : kept;
}

static status connect_file(sql_conn *c, const store *s, bool writer, err *e) {
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    flags |= s->opt.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    *c = (sql_conn){.path = s->path ? s->path : ":memory:"};
    int rc = sqlite3_open_v2(c->path, &c->db, flags, s->path ? CHECKED_VFS : NULL);
    status st = rc ? sql_fail(c, rc, e) : configure(c, s, writer, e);
    if (st) sql_close(c);
    return st;
}

/* --- what kind of file it is --------------------------------------------------------------------------------------------- */

/* Whether the first page claims to be ours, where SQLite cannot make sense of it: "RFcx" at byte 68. */
static bool looks_like_ours(const char *path) {
    uint8_t head[100];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);
    if (fd >= 0) close(fd);
    return n == (ssize_t)sizeof head && memcmp(head + 68, "RFcx", 4) == 0;
}

static status pragma(sql_conn *c, const char *text, int64_t *out, err *e) {
    sql_query q = sql_ask_once(c, text);
    return sql_number(&q, 0, out, e);
}

/* *version: 0 for an empty file. */
static status recognise(sql_conn *c, int64_t *version, err *e) {
    int64_t application, n_objects = 0, page = 0;
    status s = pragma(c, "PRAGMA application_id", &application, e);
    if (!s) s = pragma(c, "PRAGMA user_version", version, e);
    if (!s) s = pragma(c, "SELECT count(*) FROM sqlite_schema", &n_objects, e);
    if (!s) s = pragma(c, "PRAGMA page_size", &page, e);
    if (s) return s;
    if (application == 0 && *version == 0 && n_objects == 0) return OK;
    if (application != SCHEMA_APPLICATION || *version < 1)
        return fail(e, ERR_STORE_FOREIGN, "%s: a database of another program; it is left as it is", c->path);
    if (*version > SCHEMA_VERSION)
        return fail(e, ERR_STORE_FOREIGN, "%s: a context store of version %lld, this program knows %d; use a newer one",
                    c->path, (long long)*version, SCHEMA_VERSION);
    return page == CHECKED_PAGE || strcmp(c->path, ":memory:") == 0
               ? OK
               : fail(e, ERR_STORE_DAMAGED, "%s: pages of %lld bytes", c->path, (long long)page);
}

/* In one transaction: between two questions another process may make it. */
static status recognise_at_once(sql_conn *c, int64_t *version, err *e) {
    status s = sql_exec(c, "BEGIN", e);
    if (!s) s = recognise(c, version, e);
    undo(c);
    return s;
}

/* Makes or migrates it, if need be; another process may be at the same. */
static status bring_up(store *s, sql_conn *c, err *e) {
    int64_t version;
    status st = recognise_at_once(c, &version, e);
    if (st || version == SCHEMA_VERSION) return st;
    if (s->opt.read_only)
        return fail(e, ERR_STORE_READ_ONLY, "%s: it has no tables yet, and may not be written", c->path);
    st = sql_exec(c, "BEGIN EXCLUSIVE", e);
    if (st) return st;
    st = recognise(c, &version, e);
    if (!st && version < SCHEMA_VERSION) st = schema_migrate(c, version, e);
    if (!st) st = sql_exec(c, "COMMIT", e);
    if (st) undo(c);
    return st;
}

/* The log beside the file; a file that has none yet gets it while nobody else is at it, which busy_timeout waits for. */
static status use_log(const store *s, sql_conn *c, err *e) {
    if (!s->path || s->opt.read_only) return OK;
    sql_query q = sql_ask_once(c, "PRAGMA journal_mode = WAL");
    bool wal = sql_row(&q) && str_is(sql_get_text(&q, 0), "wal");
    status st = sql_end(&q, e);
    if (st || wal) return st;
    return fail(e, ERR_IO, "%s: this file system cannot hold a write-ahead log; use another", s->path);
}

static status read_identity(store *s, sql_conn *c, err *e) {
    sql_query q = sql_ask(c, "SELECT identity FROM store");
    size_t n = 0;
    const void *p = sql_row(&q) ? sql_get_blob(&q, 0, &n) : NULL;
    bool fits = p && n == sizeof s->identity;
    if (fits) memcpy(s->identity, p, n);
    status st = sql_end(&q, e);
    return st || fits ? st : fail(e, ERR_STORE_DAMAGED, "%s: it has no identity", c->path);
}

static status open_writer(store *s, err *e) {
    sql_conn *c = &s->writer;
    status st = connect_file(c, s, true, e);
    if (!st) st = bring_up(s, c, e);
    if (!st) st = schema_check(c, e);
    if (!st) st = use_log(s, c, e);
    if (!st) st = read_identity(s, c, e);
    if (st) sql_close(c);
    return st;
}

/* --- a damaged file ------------------------------------------------------------------------------------------------------- */

/* Renames path to "path.damaged-N", never over another; *name receives the new name. */
static status rename_aside(const char *path, char *name, size_t size, err *e) {
    for (int i = 1; i < 1000; i++) {
        if ((size_t)snprintf(name, size, "%s.damaged-%d", path, i) >= size) break;
        if (renameat2(AT_FDCWD, path, AT_FDCWD, name, RENAME_NOREPLACE) == 0) return OK;
        if (errno != EEXIST) return fail(e, ERR_IO, "%s: damaged, and cannot be put aside: %s", path, strerror(errno));
    }
    return fail(e, ERR_IO, "%s: damaged, and cannot be put aside: too many were before", path);
}

static status put_aside(store *s, ino_t seen, const err *why, err *e) {
    struct stat st;
    char name[4200], from[4200], to[4300];
    if (stat(s->path, &st) || st.st_ino != seen) return OK; /* another process was first */
    status rc = rename_aside(s->path, name, sizeof name, e);
    if (rc) return rc;
    for (int i = 0; i < 2; i++) { /* what the log holds belongs to it */
        const char *tail = i ? "-shm" : "-wal";
        snprintf(from, sizeof from, "%.4090s%s", s->path, tail);
        snprintf(to, sizeof to, "%s%s", name, tail);
        if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) && errno != ENOENT)
            return fail(e, ERR_IO, "%s: cannot be put aside: %s", from, strerror(errno));
    }
    store_notice(s, "%s was damaged (%s) and is now %s; a new one was begun", s->path, why->text, name);
    return OK;
}

static status make_file(const store *s, err *e) {
    int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EACCES || errno == EROFS)) fd = open(s->path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    bool is_file = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    status rc = fd < 0     ? fail(e, ERR_IO, "%s: %s", s->path, strerror(errno))
                : !is_file ? fail(e, ERR_IO, "%s: no regular file", s->path)
                           : OK;
    if (fd >= 0) close(fd);
    return rc;
}

/* What SQLite cannot read and does not say to be ours is not ours to move. */
static status open_seen(store *s, ino_t *seen, err *e) {
    status st = s->path && !s->opt.read_only ? make_file(s, e) : OK;
    struct stat now = {0};
    if (!st && s->path && stat(s->path, &now)) st = fail(e, ERR_IO, "%s: %s", s->path, strerror(errno));
    *seen = now.st_ino;
    if (!st) st = open_writer(s, e);
    if (st == ERR_STORE_DAMAGED && s->path && !looks_like_ours(s->path))
        return fail(e, ERR_STORE_FOREIGN, "%s: no context store; it is left as it is", s->path);
    return st;
}

static status open_file(store *s, err *e) {
    ino_t seen;
    err why = {0};
    status st = open_seen(s, &seen, &why);
    if (st && e) *e = why;
    if (st != ERR_STORE_DAMAGED || !s->path || s->opt.read_only) return st;
    st = put_aside(s, seen, &why, e);
    return st ? st : open_seen(s, &seen, e);
}

/* --- open, close ---------------------------------------------------------------------------------------------------------- */

/* SQLite may be built to read "file:..." as a URI: a path that does not begin with / gets ./ before it. */
static char *plain_path(const char *path) {
    size_t n = strlen(path) + 3;
    char *p = mem_alloc(n);
    if (p) snprintf(p, n, "%s%s", *path == '/' ? "" : "./", path);
    return p;
}

status store_open(store **out, const char *path, const store_options *opt, err *e) {
    *out = NULL;
    bool in_memory = !path || strcmp(path, ":memory:") == 0;
    if (!in_memory && (!*path || strlen(path) > 4000))
        return fail(e, ERR_RANGE, "the context store's path: give 1 to 4000 bytes");
    store *s = mem_zalloc(sizeof *s);
    if (s && !in_memory) s->path = plain_path(path);
    if (!s || (!in_memory && !s->path)) {
        mem_free(s);
        return fail(e, ERR_NOMEM, "context store");
    }
    if (opt) s->opt = *opt;
    pthread_mutex_init(&s->write_lock, NULL);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->came_back, NULL);
    status st = checked_take(e);
    s->vfs_taken = !st;
    if (!st) st = open_file(s, e);
    if (st)
        store_close(s);
    else
        *out = s;
    return st;
}

void store_close(store *s) {
    if (!s) return;
    for (sql_conn *c = s->idle, *next; c; c = next) {
        next = c->next;
        sql_close(c);
        mem_free(c);
    }
    sql_close(&s->writer); /* the last one out writes the log back and removes it */
    if (s->vfs_taken) checked_drop();
    pthread_cond_destroy(&s->came_back);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->write_lock);
    mem_free(s->path);
    mem_free(s);
}

/* --- lending -------------------------------------------------------------------------------------------------------------- */

static status new_reader(store *s, sql_conn **out, err *e) {
    sql_conn *c = mem_zalloc(sizeof *c);
    status st = c ? connect_file(c, s, false, e) : fail(e, ERR_NOMEM, "context store");
    if (!st) {
        *out = c;
        return OK;
    }
    mem_free(c);
    pthread_mutex_lock(&s->lock);
    s->n_readers--;
    pthread_cond_signal(&s->came_back);
    pthread_mutex_unlock(&s->lock);
    return st;
}

static status lend(store *s, sql_conn **out, err *e) {
    pthread_mutex_lock(&s->lock);
    while (!s->idle && s->n_readers == MOST_READERS) pthread_cond_wait(&s->came_back, &s->lock);
    sql_conn *c = s->idle;
    if (c)
        s->idle = c->next;
    else
        s->n_readers++;
    pthread_mutex_unlock(&s->lock);
    *out = c;
    return c ? OK : new_reader(s, out, e);
}

static void take_back(store *s, sql_conn *c) {
    pthread_mutex_lock(&s->lock);
    c->next = s->idle;
    s->idle = c;
    pthread_cond_signal(&s->came_back);
    pthread_mutex_unlock(&s->lock);
}

status store_read(store *s, sql_conn **out, err *e) {
    status st = OK;
    if (!s->path) {
        pthread_mutex_lock(&s->write_lock);
        *out = &s->writer;
    } else {
        st = lend(s, out, e);
    }
    if (st) return st;
    st = begin(*out, "BEGIN", e);
    if (st && s->path) take_back(s, *out);
    if (st && !s->path) pthread_mutex_unlock(&s->write_lock);
    return st;
}

void store_read_end(store *s, sql_conn *c) {
    undo(c); /* nothing was written */
    if (s->path)
        take_back(s, c);
    else
        pthread_mutex_unlock(&s->write_lock);
}

status store_write(store *s, sql_conn **out, err *e) {
    if (s->opt.read_only) return fail(e, ERR_STORE_READ_ONLY, "%s: it was opened for reading only", s->writer.path);
    pthread_mutex_lock(&s->write_lock);
    status st = begin(&s->writer, "BEGIN IMMEDIATE", e);
    *out = &s->writer;
    if (st) pthread_mutex_unlock(&s->write_lock);
    return st;
}

status store_commit(store *s, sql_conn *c, status so_far, err *e) {
    status st = so_far ? so_far : sql_exec(c, "COMMIT", e);
    if (st) undo(c);
    pthread_mutex_unlock(&s->write_lock);
    return st;
}

/* Deleted rows are zeros already (secure_delete), but for words in segments not yet merged, and for the log. */
status store_wipe(store *s, bool all, err *e) {
    pthread_mutex_lock(&s->write_lock);
    sql_conn *c = &s->writer;
    status st = sql_exec(c, all ? "VACUUM" : "INSERT INTO words(words) VALUES ('optimize')", e);
    int64_t busy = 0;
    if (!st && s->path) st = pragma(c, "PRAGMA wal_checkpoint(TRUNCATE)", &busy, e);
    if (!st && busy)
        st = fail(e, ERR_STORE_BUSY, "%s: deleted; but others still read, so the bytes stay in the log for now",
                  c->path);
    pthread_mutex_unlock(&s->write_lock);
    return st;
}
