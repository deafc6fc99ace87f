/* What happens to a context store: kill -9 in the middle of writes, bits that flip, a full disk, two processes at once. Every
 * acknowledged message is there afterwards, or there is an error or a notice that says why not. RF_LONG: the full counts. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "context/search.h"
#include "context/vec.h"
#include "context_rig.h"

enum { D = 16 };
static context_rig rig;

static int set_up(void **state) {
    (void)state;
    context_rig_make(&rig);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    context_rig_remove(&rig);
    return 0;
}

static int count_of(int few, int many) { return getenv("RF_LONG") ? many : few; }

/* --- writers that die ------------------------------------------------------------------------------------------------- */

/* Message n of a run says its number and has a vector that follows from it. */
static void vector_of(uint64_t n, float *v) {
    for (uint64_t d = 0; d < D; d++) v[d] = (float)(rng_unit(n, d) - 0.5);
    assert_true(vec_normalise(v, v, D));
}

static status put(sql_conn *c, uint64_t n, err *e) {
    const uint8_t identity[VECTOR_IDENTITY] = {7};
    char text[64];
    float v[D];
    int64_t id;
    vector_model m;
    context_message one = {
        .text = text, .time_us = (int64_t)n + 1, .role = "user", .conversation = n % 3 ? "a" : "b", .metadata = "{}"};
    one.n_text = (size_t)snprintf(text, sizeof text, "message number%llu says", (unsigned long long)n);
    vector_of(n, v);
    status s = vectors_model(c, identity, D, true, &m, e);
    if (!s) s = rows_add(c, &one, &id, e);
    return s ? s : vectors_add(c, &m, id, v, e);
}

static status delete_oldest(sql_conn *c, err *e) {
    int64_t id;
    bool existed;
    sql_query q = sql_ask(c, "SELECT min(id) FROM message");
    status s = sql_number(&q, 0, &id, e);
    return s ? s : rows_delete(c, id, &existed, e);
}

/* What a writer has told: so many were added, the oldest so many deleted. One byte a commit: 1 to 9 added, 255 deleted. */
typedef struct {
    uint64_t added, deleted;
} told;

static _Noreturn void write_until_killed(int fd, uint64_t n, uint64_t seed) {
    store *s;
    err e;
    if (store_open(&s, rig.db, NULL, &e)) _exit(9);
    for (uint64_t i = 0;; i++) {
        sql_conn *c;
        unsigned char what = rng_u64(seed, i) % 4 == 0 ? 255 : (unsigned char)(1 + rng_u64(seed, i) % 9);
        if (store_write(s, &c, &e)) _exit(8);
        status st = OK;
        if (what == 255) st = delete_oldest(c, &e);
        for (unsigned k = 0; what != 255 && !st && k < what; k++) st = put(c, n++, &e);
        if (store_commit(s, c, st, &e)) _exit(7);
        if (write(fd, &what, 1) != 1) _exit(6);
    }
}

/* Every row is what it was when it was written, none is missing in between, and words and vectors are theirs. */
static void check_rows(rf_context *c, uint64_t first, uint64_t end) {
    rf_error e;
    rf_messages *l;
    rf_context_counts n;
    rf_context_filter f = {.limit = 10000};
    assert_true(rf_context_list(c, &f, &l, &e));
    assert_int_equal(l->n, end - first);
    for (size_t i = 0; i < l->n; i++) {
        char text[64];
        snprintf(text, sizeof text, "message number%llu says", (unsigned long long)(first + i));
        assert_string_equal(l->item[i].text, text);
    }
    assert_true(rf_context_stats(c, &n, &e));
    assert_int_equal(n.n_vectors, end - first);
    if (n.n_vectors >= INDEX_SMALL) {
        assert_string_equal(n.index, "ready");
        assert_int_equal(n.n_indexed - n.n_index_deleted, n.n_vectors); /* it agrees with the rows */
    }
    for (uint64_t k = first; k < end; k += 1 + (end - first) / 7) {
        char word[32];
        float v[D];
        rf_context_hits *h;
        size_t len = (size_t)snprintf(word, sizeof word, "number%llu", (unsigned long long)k);
        assert_true(rf_context_search(c, &(rf_context_query){.text = word, .n_text = len}, &h, &e));
        assert_int_equal(h->n, 1);
        assert_int_equal(h->hit[0].message->id, l->item[k - first].id);
        rf_context_hits_free(h);
        vector_of(k, v);
        assert_true(rf_context_search(c, &(rf_context_query){.vector = v, .n_vector = D, .k = 1}, &h, &e));
        assert_int_equal(h->hit[0].message->id, l->item[k - first].id);
        rf_context_hits_free(h);
    }
    rf_messages_free(l);
}

static void count(told *t, unsigned char what) {
    if (what == 255)
        t->deleted += t->deleted < t->added;
    else
        t->added += what;
}

/* Killed at a moment after its first few commits, or, every fourth time, whenever. */
static told run_and_kill(uint64_t n, uint64_t deleted, uint64_t seed) {
    int fd[2];
    told t = {n, deleted};
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fd[0]);
        write_until_killed(fd[1], n, seed);
    }
    close(fd[1]);
    unsigned char what;
    for (uint64_t k = rng_u64(12, seed) % 6; seed % 4 && k && read(fd[0], &what, 1) == 1; k--) count(&t, what);
    usleep((useconds_t)(rng_u64(11, seed) % 40000));
    kill(pid, SIGKILL);
    while (read(fd[0], &what, 1) == 1) count(&t, what);
    close(fd[0]);
    int ended;
    waitpid(pid, &ended, 0);
    assert_true(WIFSIGNALED(ended));
    return t;
}

/* A store with enough vectors for an index, which is made and saved. */
static told begin_with_many(void) {
    unlink(rig.db);
    unlink(rig.index);
    store *s;
    sql_conn *c;
    err e;
    status st = OK;
    assert_int_equal(store_open(&s, rig.db, NULL, &e), OK);
    assert_int_equal(store_write(s, &c, &e), OK);
    for (uint64_t i = 0; !st && i < INDEX_SMALL + 50; i++) st = put(c, i, &e);
    assert_int_equal(store_commit(s, c, st, &e), OK);
    store_close(s);
    rf_context *open = context_rig_open(&rig, NULL);
    rf_context_settle(open);
    rf_context_close(open);
    assert_int_equal(access(rig.index, F_OK), 0);
    return (told){INDEX_SMALL + 50, 0};
}

static void test_killed_writers_lose_nothing(void **state) {
    (void)state;
    told t = begin_with_many();
    const int rounds = count_of(40, 1000);
    uint64_t n_commits = 0;
    for (int r = 0; r < rounds; r++) {
        told now = run_and_kill(t.added, t.deleted, (uint64_t)r);
        n_commits += now.added - t.added;
        rf_context *c = context_rig_open(&rig, NULL);
        rf_error e;
        rf_messages *l;
        /* The last commit may have been made and not told: then it is there whole. */
        assert_true(rf_context_list(c, &(rf_context_filter){.limit = 1, .newest_first = true}, &l, &e));
        const uint64_t end = l->n ? (uint64_t)l->item[0].time_us : now.added;
        rf_messages_free(l);
        assert_true(rf_context_list(c, &(rf_context_filter){.limit = 1}, &l, &e));
        const uint64_t first = l->n ? (uint64_t)l->item[0].time_us - 1 : end;
        rf_messages_free(l);
        assert_true(end >= now.added && end <= now.added + 9);
        assert_true(first >= now.deleted && first <= now.deleted + 1);
        rf_context_settle(c);
        check_rows(c, first, end);
        rf_context_close(c);
        t = end > 6000 ? begin_with_many() : (told){end, first};
    }
    assert_int_equal(rig.n_notices, 0);
    assert_true(n_commits > (uint64_t)rounds); /* they did write */
}

/* --- two processes ---------------------------------------------------------------------------------------------------- */

static void test_two_writers(void **state) {
    (void)state;
    enum { EACH = 60 };
    pid_t pid[3];
    for (int w = 0; w < 3; w++)
        if ((pid[w] = fork()) == 0) { /* all of them make the file, too */
            rf_context *c;
            rf_error e = {0};
            if (!rf_context_open(&c, rig.db, &(rf_context_options){.busy_ms = 60000}, &e)) {
                print_error("writer %d: %s\n", w, e.message);
                _exit(2);
            }
            for (int i = 0; i < EACH; i++) {
                char text[64];
                rf_message m = {.text = text, .conversation = w == 2 ? "own" : "shared"};
                m.n_text = (size_t)snprintf(text, sizeof text, "writer %d message %d", w, i);
                if (!rf_context_add(c, &m, 1, NULL, &e)) _exit(3);
            }
            rf_context_close(c);
            _exit(0);
        }
    for (int w = 0; w < 3; w++) {
        int ended;
        waitpid(pid[w], &ended, 0);
        assert_true(WIFEXITED(ended));
        assert_int_equal(WEXITSTATUS(ended), 0);
    }
    rf_context *c = context_rig_open(&rig, NULL);
    rf_messages *l;
    rf_error e;
    int next[3] = {0};
    assert_true(rf_context_list(c, &(rf_context_filter){.limit = 1000, .conversation = "shared"}, &l, &e));
    assert_int_equal(l->n, 2 * EACH);
    for (size_t i = 0; i < l->n; i++) {
        int w, k;
        assert_int_equal(sscanf(l->item[i].text, "writer %d message %d", &w, &k), 2);
        assert_int_equal(k, next[w]++);
        assert_int_equal(l->item[i].seq, i + 1);
        assert_int_equal(l->item[i].n_edges, i ? 1 : 0);
        if (i) assert_int_equal(l->item[i].edges[0].to, l->item[i - 1].id);
    }
    rf_messages_free(l);
    rf_context_close(c);
}

static void test_a_held_store_is_busy(void **state) {
    (void)state;
    rf_context *c, *d;
    rf_error e = {0};
    store *s;
    sql_conn *conn;
    err why;
    c = context_rig_open(&rig, NULL);
    context_add_text(c, NULL, "first");
    assert_true(context_rig_try(&rig, &(rf_context_options){.busy_ms = 50}, &d, &e));
    assert_int_equal(store_open(&s, rig.db, NULL, &why), OK);
    assert_int_equal(store_write(s, &conn, &why), OK);
    rf_message m = {.text = "x", .n_text = 1};
    assert_false(rf_context_add(d, &m, 1, NULL, &e));
    assert_string_equal(e.code, "context.busy");
    assert_true(e.retry && e.http == 503);
    rf_messages *l;
    assert_true(rf_context_list(d, NULL, &l, &e)); /* readers do not wait */
    assert_int_equal(l->n, 1);
    rf_messages_free(l);
    assert_int_equal(store_commit(s, conn, OK, &why), OK);
    assert_true(rf_context_add(d, &m, 1, NULL, &e));
    store_close(s);
    rf_context_close(c);
    rf_context_close(d);
}

/* --- a full disk -------------------------------------------------------------------------------------------------------- */

/* In a process of its own, whose files may not grow beyond a size: it writes until it is refused, deletes, and goes on. */
static void test_a_full_disk(void **state) {
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        rf_context *c;
        rf_error e = {0};
        uint64_t n = 0;
        signal(SIGXFSZ, SIG_IGN);
        const struct rlimit most = {600 << 10, 600 << 10};
        if (!rf_context_open(&c, rig.db, NULL, &e) || setrlimit(RLIMIT_FSIZE, &most)) _exit(2);
        static char text[3000];
        memset(text, 'x', sizeof text);
        rf_message m = {.text = text, .n_text = sizeof text};
        while (n < 1000 && rf_context_add(c, &m, 1, NULL, &e)) n++;
        if (n == 1000 || n < 4) _exit(3);
        if (strcmp(e.code, "context.full") && strcmp(e.code, "io.failed")) _exit(4);
        rf_messages *l;
        if (!rf_context_list(c, &(rf_context_filter){.limit = 10000}, &l, &e) || l->n != n) _exit(5);
        rf_context_close(c); /* the log may not fit into the file now */
        if (!rf_context_open(&c, rig.db, NULL, &e)) _exit(6);
        if (!rf_context_list(c, &(rf_context_filter){.limit = 10000}, &l, &e) || l->n != n) _exit(7);
        _exit(0);
    }
    int ended;
    waitpid(pid, &ended, 0);
    assert_true(WIFEXITED(ended));
    assert_int_equal(WEXITSTATUS(ended), 0);
    rf_context *c = context_rig_open(&rig, NULL); /* with room again */
    context_add_text(c, NULL, "it goes on");
    rf_context_close(c);
    assert_int_equal(rig.n_notices, 0);
}

static void test_a_full_database(void **state) {
    (void)state;
    store *s;
    sql_conn *c;
    err e;
    status st = OK;
    assert_int_equal(store_open(&s, rig.db, NULL, &e), OK);
    uint64_t n = 0;
    for (; !st && n < 2000; n++) {
        assert_int_equal(store_write(s, &c, &e), OK);
        assert_int_equal(sql_exec(c, "PRAGMA max_page_count = 40", &e), OK);
        st = store_commit(s, c, put(c, n, &e), &e);
    }
    assert_int_equal(st, ERR_STORE_FULL);
    assert_non_null(strstr(e.text, "nothing was kept"));
    store_close(s);
    rf_context *open = context_rig_open(&rig, NULL);
    check_rows(open, 0, n - 1);
    rf_context_close(open);
}

/* --- bits --------------------------------------------------------------------------------------------------------------- */

enum { N_KEPT = 300 };

static void copy_file(const char *from, const char *to) {
    char command[400];
    snprintf(command, sizeof command, "cp %s %s", from, to);
    assert_int_equal(system(command), 0);
}

static unsigned files_like(const char *part) {
    unsigned n = 0;
    DIR *d = opendir(rig.dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += strstr(e->d_name, part) != NULL;
    closedir(d);
    return n;
}

/* Reads all there is. true: all of it was as it was written; else an error has said why. */
static bool all_is_well(rf_context *c, rf_error *e) {
    rf_messages *l;
    bool ok = rf_context_list(c, &(rf_context_filter){.limit = 1000}, &l, e);
    if (!ok) return false;
    assert_int_equal(l->n, N_KEPT);
    for (size_t i = 0; i < l->n; i++) {
        char text[64];
        snprintf(text, sizeof text, "message number%d says", (int)i);
        assert_string_equal(l->item[i].text, text);
        assert_int_equal(l->item[i].time_us, (int64_t)i + 1);
    }
    rf_messages_free(l);
    for (uint64_t k = 0; k < N_KEPT; k += 29) {
        char word[32];
        float v[D];
        rf_context_hits *h;
        size_t n = (size_t)snprintf(word, sizeof word, "number%d", (int)k);
        if (!rf_context_search(c, &(rf_context_query){.text = word, .n_text = n, .expand = 1}, &h, e)) return false;
        assert_int_equal(h->hit[0].message->time_us, (int64_t)k + 1);
        rf_context_hits_free(h);
        vector_of(k, v);
        if (!rf_context_search(c, &(rf_context_query){.vector = v, .n_vector = D, .k = 1}, &h, e)) return false;
        assert_int_equal(h->hit[0].message->time_us, (int64_t)k + 1);
        rf_context_hits_free(h);
    }
    return true;
}

typedef struct {
    unsigned refused, aside, errors, unseen;
} outcomes;

static void flip_and_look(const char *good, size_t at, uint8_t mask, outcomes *n) {
    rf_error e = {0};
    rf_context *c;
    const unsigned before = files_like("damaged");
    char log[200];
    for (int i = 0; i < 2; i++) { /* what the one before could not write back is not this one's */
        snprintf(log, sizeof log, "%s-%s", rig.db, i ? "shm" : "wal");
        unlink(log);
    }
    copy_file(good, rig.db);
    context_flip(rig.db, at, mask);
    rig.n_notices = 0;
    if (!context_rig_try(&rig, &(rf_context_options){0}, &c, &e)) {
        assert_string_equal(e.code, "context.foreign"); /* it no longer says whose it is: left alone */
        n->refused++;
        return;
    }
    if (rig.n_notices) {
        assert_non_null(strstr(rig.notice[0], "damaged"));
        assert_int_equal(files_like("damaged"), before + 1);
        context_add_text(c, NULL, "a new beginning");
        n->aside++;
    } else if (all_is_well(c, &e)) {
        n->unseen++; /* a page that nothing of this needed */
    } else {
        assert_string_equal(e.code, "context.damaged");
        n->errors++;
    }
    rf_message m = {.text = "and on", .n_text = 6};
    if (!rf_context_add(c, &m, 1, NULL, &e)) assert_string_equal(e.code, "context.damaged");
    rf_context_close(c);
}

static void test_flipped_bits(void **state) {
    (void)state;
    char good[200];
    store *s;
    sql_conn *c;
    err e;
    snprintf(good, sizeof good, "%s/good", rig.dir);
    assert_int_equal(store_open(&s, rig.db, NULL, &e), OK);
    assert_int_equal(store_write(s, &c, &e), OK);
    status st = OK;
    for (uint64_t i = 0; !st && i < N_KEPT; i++) st = put(c, i, &e);
    assert_int_equal(store_commit(s, c, st, &e), OK);
    store_close(s);
    copy_file(rig.db, good);
    const size_t size = context_file_size(good);
    outcomes n = {0};
    const int flips = count_of(60, 500);
    for (int i = 0; i < flips; i++) {
        size_t at =
            i < flips / 5 ? (size_t)i * 100 / (size_t)(flips / 5) : rng_u64(21, (uint64_t)i) % size; /* the head, too */
        flip_and_look(good, at, (uint8_t)(1 << rng_u64(22, (uint64_t)i) % 8), &n);
    }
    print_message("%d flips: %u refused, %u put aside, %u errors, %u in pages not needed\n", flips, n.refused, n.aside,
                  n.errors, n.unseen);
    assert_true(n.aside > 0 && n.errors > n.unseen);
    copy_file(good, rig.db);
    rf_context *open = context_rig_open(&rig, NULL);
    rf_error why;
    assert_true(all_is_well(open, &why));
    rf_context_close(open);
    assert_int_equal(truncate(rig.db, (off_t)size / 2 / 8192 * 8192), 0); /* cut off */
    rf_context *cut;
    if (context_rig_try(&rig, &(rf_context_options){0}, &cut, &why)) {
        if (!rig.n_notices) assert_false(all_is_well(cut, &why));
        rf_context_close(cut);
    }
}

/* A damaged file of a store that may not be written is not moved. */
static void test_damaged_and_read_only(void **state) {
    (void)state;
    rf_context *c = context_rig_open(&rig, NULL);
    rf_error e;
    context_add_text(c, NULL, "x");
    rf_context_close(c);
    context_flip(rig.db, 200, 1);
    assert_false(context_rig_try(&rig, &(rf_context_options){.read_only = true}, &c, &e));
    assert_string_equal(e.code, "context.damaged");
    assert_int_equal(files_like("damaged"), 0);
    c = context_rig_open(&rig, NULL);
    assert_int_equal(rig.n_notices, 1);
    assert_int_equal(files_like("damaged"), 1);
    rf_context_close(c);
    context_flip(rig.db, 200, 1);
    c = context_rig_open(&rig, NULL); /* never over an earlier one */
    assert_int_equal(files_like("damaged"), 2);
    rf_context_close(c);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(test_killed_writers_lose_nothing),
                                       TEST(test_two_writers),
                                       TEST(test_a_held_store_is_busy),
                                       TEST(test_a_full_disk),
                                       TEST(test_a_full_database),
                                       TEST(test_flipped_bits),
                                       TEST(test_damaged_and_read_only)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
