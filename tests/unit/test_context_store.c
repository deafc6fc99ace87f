/* The context store without a model: rows, edges, words, what is refused, and files that are not what they should be. */
#include "check.h"

#include <fcntl.h>
#include <math.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "context/store.h"
#include "context_rig.h"

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

static void refused(bool ok, const rf_error *e, const char *code, const char *word) {
    if (ok) fail_msg("was accepted; %s was due", code);
    assert_string_equal(e->code, code);
    if (!strstr(e->message, word)) fail_msg("\"%s\" does not say \"%s\"", e->message, word);
}

/* --- messages --------------------------------------------------------------------------------------------------------- */

static void test_messages_come_back(void **state) {
    (void)state;
    rf_error e;
    int64_t ids[3];
    rf_message m[3] = {
        {.text = "one \"two\"\n three", .n_text = 16, .metadata = "{ \"a\": [1, 2.5], \"b\": null }", .time_us = 77},
        {.text = "gr\xc3\xbc\xc3\x9f", .n_text = 6, .role = "assistant", .conversation = "other"},
        {.text = "last", .n_text = 4, .role = "system"}};
    rf_context *c = context_rig_open(&rig, NULL);
    assert_true(rf_context_add(c, m, 3, ids, &e));
    rf_context_close(c);
    c = context_rig_open(&rig, NULL); /* from the file */
    rf_messages *got;
    const int64_t want[] = {ids[2], 999, ids[0], ids[1]};
    assert_true(rf_context_get(c, want, 4, &got, &e));
    assert_int_equal(got->n, 3);
    assert_string_equal(got->item[0].text, "last");
    assert_int_equal(got->item[0].seq, 2);
    assert_int_equal(got->item[0].n_edges, 1);
    assert_string_equal(got->item[0].edges[0].name, "follows");
    assert_int_equal(got->item[0].edges[0].to, ids[0]);
    assert_memory_equal(got->item[1].text, m[0].text, 17);
    assert_string_equal(got->item[1].metadata, "{\"a\":[1,2.5],\"b\":null}");
    assert_string_equal(got->item[1].role, "user");
    assert_string_equal(got->item[1].conversation, "default");
    assert_int_equal(got->item[1].time_us, 77);
    assert_int_equal(got->item[1].n_edges, 0);
    assert_string_equal(got->item[2].conversation, "other");
    assert_int_equal(got->item[2].seq, 1);
    assert_true(got->item[2].time_us > 1700000000000000);
    rf_messages_free(got);
    rf_context_close(c);
}

static void test_lists_are_paged_and_filtered(void **state) {
    (void)state;
    rf_error e;
    rf_context *c = context_rig_open(&rig, NULL);
    for (int i = 0; i < 25; i++) {
        char text[16];
        rf_message m = {.text = text,
                        .time_us = 1000 + i,
                        .role = i % 5 ? "user" : "assistant",
                        .conversation = i % 2 ? "odd" : "even"};
        m.n_text = (size_t)snprintf(text, sizeof text, "m%d", i);
        assert_true(rf_context_add(c, &m, 1, NULL, &e));
    }
    rf_messages *l;
    rf_context_filter f = {.limit = 10};
    for (int page = 0; page < 3; page++) {
        assert_true(rf_context_list(c, &f, &l, &e));
        assert_int_equal(l->n, page < 2 ? 10 : 5);
        assert_int_equal(l->more, page < 2);
        assert_int_equal(l->total, 25);
        for (size_t i = 0; i < l->n; i++) assert_int_equal(l->item[i].time_us, 1000 + page * 10 + (int)i);
        f.after = l->item[l->n - 1].id;
        rf_messages_free(l);
    }
    f = (rf_context_filter){.conversation = "odd", .role = "assistant", .newest_first = true};
    assert_true(rf_context_list(c, &f, &l, &e)); /* 5 and 15 */
    assert_int_equal(l->n, 2);
    assert_string_equal(l->item[0].text, "m15");
    assert_string_equal(l->item[1].text, "m5");
    rf_messages_free(l);
    f = (rf_context_filter){.from_us = 1003, .until_us = 1006};
    assert_true(rf_context_list(c, &f, &l, &e));
    assert_int_equal(l->n, 3);
    assert_string_equal(l->item[0].text, "m3");
    rf_messages_free(l);
    rf_context_counts n;
    assert_true(rf_context_stats(c, &n, &e));
    assert_int_equal(n.n_messages, 25);
    assert_int_equal(n.n_conversations, 2);
    assert_int_equal(n.n_edges, 23);
    assert_string_equal(n.index, "none");
    assert_true(n.file_bytes > 0);
    rf_context_close(c);
}

static void test_what_a_message_may_not_be(void **state) {
    (void)state;
    static char long_text[(1 << 20) + 2];
    memset(long_text, 'x', sizeof long_text - 1);
    const struct {
        rf_message m;
        const char *word;
    } bad[] = {{{.text = "", .n_text = 0}, "text"},
               {{.text = NULL, .n_text = 0}, "text"},
               {{.text = "a\0b", .n_text = 3}, "NUL"},
               {{.text = "\xff", .n_text = 1}, "UTF-8"},
               {{.text = "\xed\xa0\x80", .n_text = 3}, "UTF-8"},
               {{.text = long_text, .n_text = (1 << 20) + 1}, "1048576"},
               {{.text = "a", .n_text = 1, .role = ""}, "role"},
               {{.text = "a", .n_text = 1, .role = "a b"}, "role"},
               {{.text = "a", .n_text = 1, .conversation = "../x"}, "conversation"},
               {{.text = "a", .n_text = 1, .metadata = "[1]"}, "metadata"},
               {{.text = "a", .n_text = 1, .metadata = "{\"a\":1,\"a\":2}"}, "metadata"},
               {{.text = "a", .n_text = 1, .metadata = "{"}, "metadata"},
               {{.text = "a", .n_text = 1, .time_us = -1}, "time_us"},
               {{.text = "a", .n_text = 1, .edges = (rf_context_edge[]){{"x y", 1}}, .n_edges = 1}, "edges"},
               {{.text = "a", .n_text = 1, .edges = (rf_context_edge[]){{"about", 77}}, .n_edges = 1}, "77"}};
    rf_context *c = context_rig_open(&rig, NULL);
    rf_error e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rf_message two[2] = {{.text = "good", .n_text = 4}, bad[i].m};
        refused(rf_context_add(c, &bad[i].m, 1, NULL, &e), &e, "usage.range", bad[i].word);
        refused(rf_context_add(c, two, 2, NULL, &e), &e, "usage.range", "message 2");
    }
    rf_message most = {.text = long_text, .n_text = 1 << 20};
    assert_true(rf_context_add(c, &most, 1, NULL, &e));
    rf_context_counts n;
    assert_true(rf_context_stats(c, &n, &e));
    assert_int_equal(n.n_messages, 1); /* all or none */
    rf_context_close(c);
}

/* --- edges, deleting -------------------------------------------------------------------------------------------------- */

static int64_t follows(rf_context *c, int64_t id) {
    rf_messages *l;
    int64_t to = 0;
    rf_error e;
    assert_true(rf_context_get(c, &id, 1, &l, &e));
    for (size_t i = 0; i < l->item[0].n_edges; i++)
        if (!strcmp(l->item[0].edges[i].name, "follows")) to = l->item[0].edges[i].to;
    rf_messages_free(l);
    return to;
}

static void test_a_deleted_message_is_bridged(void **state) {
    (void)state;
    rf_context *c = context_rig_open(&rig, NULL);
    int64_t a = context_add_text(c, "x", "apple"), b = context_add_text(c, "x", "banana"),
            d = context_add_text(c, "x", "cherry");
    rf_error e;
    size_t n;
    const int64_t gone[] = {b, 12345, b};
    assert_true(rf_context_delete(c, gone, 3, &n, &e));
    assert_int_equal(n, 1);
    assert_int_equal(follows(c, d), a);
    rf_context_hits *h;
    assert_true(rf_context_search(c, &(rf_context_query){.text = "banana", .n_text = 6}, &h, &e));
    assert_int_equal(h->n, 0);
    rf_context_hits_free(h);
    const int64_t last[] = {d};
    assert_true(rf_context_delete(c, last, 1, &n, &e));
    int64_t next = context_add_text(c, "x", "date");
    assert_true(next > d); /* ids are never used again */
    assert_int_equal(follows(c, next), a);
    rf_context_close(c);
}

static void test_clear_leaves_nothing(void **state) {
    (void)state;
    rf_context *c = context_rig_open(&rig, NULL);
    rf_error e;
    size_t n;
    for (int i = 0; i < 300; i++) {
        char text[200];
        snprintf(text, sizeof text, "%s number %d of many, which fill more than a page",
                 i % 3 ? "keepsake" : "zebrafinch", i);
        context_add_text(c, i % 3 ? "kept" : "secret", text);
    }
    assert_true(context_rig_holds(&rig, "zebrafinch", 10));
    assert_true(rf_context_clear(c, "secret", &n, &e));
    assert_int_equal(n, 100);
    assert_false(context_rig_holds(&rig, "zebrafinch", 10)); /* neither in a page nor in the log, while it is open */
    assert_true(context_rig_holds(&rig, "keepsake", 8));
    rf_context_hits *h;
    assert_true(rf_context_search(c, &(rf_context_query){.text = "keepsake", .n_text = 8, .k = 1000}, &h, &e));
    assert_int_equal(h->n, 200);
    rf_context_hits_free(h);
    int64_t before = rf_context_stats(c, &(rf_context_counts){0}, &e) ? (int64_t)context_file_size(rig.db) : 0;
    assert_true(rf_context_clear(c, NULL, &n, &e));
    assert_int_equal(n, 200);
    assert_false(context_rig_holds(&rig, "keepsake", 8));
    assert_true((int64_t)context_file_size(rig.db) < before || before == 0);
    assert_true(context_add_text(c, "kept", "again") > 300);
    rf_context_close(c);
    assert_false(context_rig_holds(&rig, "keepsake", 8));
}

/* --- words ------------------------------------------------------------------------------------------------------------ */

static void test_no_query_is_syntax(void **state) {
    (void)state;
    static const char *const odd[] = {"\"",           "cat OR", "NOT",       "text:cat",
                                      "cat*",         "(",      "^cat",      "NEAR(cat mat)",
                                      "a AND",        "-cat",   "\"\"\"",    "'; DROP TABLE message; --",
                                      "\\",           "{cat}",  "cat + mat", ".",
                                      "\xe2\x80\x9c", "rank",   "%s%n"};
    rf_context *c = context_rig_open(&rig, NULL);
    context_add_text(c, NULL, "the cat sat on the mat");
    context_add_text(c, NULL, "NEAR and OR are words like any other; so is rank");
    rf_error e = {0};
    rf_context_hits *h;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        rf_context_query q = {.text = odd[i], .n_text = strlen(odd[i])};
        if (!rf_context_search(c, &q, &h, &e)) fail_msg("%s: %s", odd[i], e.message);
        assert_int_equal(h->mode, RF_CONTEXT_WORDS);
        rf_context_hits_free(h);
    }
    rf_context_query q = {.text = "CAT or dog", .n_text = 10, .expand = 1};
    assert_true(rf_context_search(c, &q, &h, &e));
    assert_int_equal(h->n, 2); /* "or" is a word of the second */
    assert_int_equal(h->hit[0].found_by, RF_FOUND_WORDS);
    assert_true(isnan(h->hit[0].similarity));
    assert_true(h->hit[0].score > 0 && h->hit[0].score >= h->hit[1].score);
    assert_int_equal(h->total_messages, 2);
    rf_context_hits_free(h);
    rf_context_close(c);
}

static void test_expansion_walks_edges(void **state) {
    (void)state;
    rf_context *c = context_rig_open(&rig, NULL);
    rf_error e;
    int64_t id[8];
    for (int i = 0; i < 7; i++) id[i] = context_add_text(c, "x", i == 3 ? "needle" : "straw");
    rf_context_edge about = {"about", id[3]};
    rf_message far = {.text = "elsewhere", .n_text = 9, .conversation = "y", .edges = &about, .n_edges = 1};
    assert_true(rf_context_add(c, &far, 1, &id[7], &e));
    for (uint32_t steps = 0; steps < 4; steps++) {
        static const size_t n[] = {1, 4, 6, 8};
        rf_context_hits *h;
        rf_context_query q = {.text = "needle", .n_text = 6, .expand = steps, .conversation = "x"};
        assert_true(rf_context_search(c, &q, &h, &e));
        assert_int_equal(h->n, n[steps]);
        assert_int_equal(h->hit[0].message->id, id[3]);
        for (size_t i = 1; i < h->n; i++) {
            assert_int_equal(h->hit[i].found_by, RF_FOUND_EDGE);
            assert_int_equal(h->hit[i].near_id, id[3]);
            assert_int_equal(h->hit[i].steps, i < 4 ? 1 : i < 6 ? 2 : 3);
        }
        rf_context_hits_free(h);
    }
    rf_context_close(c);
}

static void test_queries_that_are_refused(void **state) {
    (void)state;
    const float v[3] = {1, 2, 3}, zero[3] = {0};
    const struct {
        rf_context_query q;
        const char *code, *word;
    } bad[] = {{{0}, "usage.argument", "text or a vector"},
               {{.text = "a", .n_text = 1, .vector = v, .n_vector = 3}, "usage.argument", "text or a vector"},
               {{.text = "a", .n_text = 1, .k = 1001}, "usage.range", "1001"},
               {{.text = "a", .n_text = 1, .expand = 17}, "usage.range", "17"},
               {{.text = "a", .n_text = 1, .mode = RF_CONTEXT_VECTOR}, "usage.argument", "model"},
               {{.text = "a", .n_text = 1, .mode = RF_CONTEXT_HYBRID}, "usage.argument", "model"},
               {{.vector = v, .n_vector = 3, .mode = RF_CONTEXT_WORDS}, "usage.argument", "words"},
               {{.vector = zero, .n_vector = 3}, "usage.range", "zero"},
               {{.text = "\xff", .n_text = 1}, "usage.range", "UTF-8"},
               {{.text = "a", .n_text = 1, .conversation = "a b"}, "usage.range", "conversation"},
               {{.text = "a", .n_text = 1, .from_us = -1}, "usage.range", "times"}};
    rf_context *c = context_rig_open(&rig, NULL);
    rf_error e;
    rf_context_hits *h;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(rf_context_search(c, &bad[i].q, &h, &e), &e, bad[i].code, bad[i].word);
    rf_context_close(c);
}

/* --- lines ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    char p[20000];
    size_t n, most_lines;
} lines;

static bool keep_line(void *user, const char *line, size_t n) {
    lines *l = user;
    if (l->most_lines-- == 0) return false;
    memcpy(l->p + l->n, line, n);
    l->n += n;
    return true;
}

/* Without the ids, which another store gives anew. */
static void compare_stores(rf_context *a, rf_context *b, int64_t shift) {
    rf_messages *x, *y;
    rf_error e;
    assert_true(rf_context_list(a, NULL, &x, &e) && rf_context_list(b, NULL, &y, &e));
    assert_int_equal(x->n, y->n);
    for (size_t i = 0; i < x->n; i++) {
        assert_int_equal(x->item[i].id + shift, y->item[i].id);
        assert_int_equal(x->item[i].seq, y->item[i].seq);
        assert_int_equal(x->item[i].time_us, y->item[i].time_us);
        assert_string_equal(x->item[i].text, y->item[i].text);
        assert_string_equal(x->item[i].role, y->item[i].role);
        assert_string_equal(x->item[i].conversation, y->item[i].conversation);
        assert_string_equal(x->item[i].metadata, y->item[i].metadata);
        assert_int_equal(x->item[i].n_edges, y->item[i].n_edges);
        for (size_t k = 0; k < x->item[i].n_edges; k++) {
            assert_string_equal(x->item[i].edges[k].name, y->item[i].edges[k].name);
            assert_int_equal(x->item[i].edges[k].to + shift, y->item[i].edges[k].to);
        }
    }
    rf_messages_free(x);
    rf_messages_free(y);
}

static void test_lines_go_out_and_in(void **state) {
    (void)state;
    rf_context *a = context_rig_open(&rig, NULL), *b;
    rf_error e = {0};
    static lines l;
    l = (lines){.most_lines = 100};
    int64_t first = context_add_text(a, "x", "line\nbreaks, \"quotes\", \xf0\x9f\x98\x80");
    rf_context_edge edges[] = {{"about", first}, {"answers", first}};
    rf_message m = {.text = "y",
                    .n_text = 1,
                    .role = "tool",
                    .conversation = "z",
                    .metadata = "{\"n\":0.1}",
                    .edges = edges,
                    .n_edges = 2};
    assert_true(rf_context_add(a, &m, 1, NULL, &e));
    context_add_text(a, "x", "third");
    assert_true(rf_context_export(a, keep_line, &l, &e));
    assert_true(rf_context_open(&b, NULL, NULL, &e));
    for (int i = 0; i < 4; i++) context_add_text(b, "other", "before");
    assert_true(rf_context_delete(b, (int64_t[]){1, 2, 3, 4}, 4, NULL, &e));
    size_t n;
    if (!rf_context_import(b, l.p, l.n, &n, &e)) fail_msg("%s", e.message);
    assert_int_equal(n, 3);
    compare_stores(a, b, 4);
    l = (lines){.most_lines = 1};
    refused(rf_context_export(a, keep_line, &l, &e), &e, "io.output_closed", "reader");
    rf_context_close(a);
    rf_context_close(b);
}

static void test_lines_that_are_refused(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"{\"text\":\"a\"}\n{\"text\":1}", "line 2: text"},
        {"{\"text\":\"a\"}\n\n{\"text\":\"b\"}", "line 2"},
        {"[]", "line 1"},
        {"{\"text\":\"a\",\"more\":1}", "more"},
        {"{}", "text"},
        {"{\"text\":\"a\\u0000b\"}", "NUL"},
        {"{\"text\":\"a\",\"id\":1}\n{\"text\":\"b\",\"id\":1}", "line 2: id"},
        {"{\"text\":\"a\",\"id\":1,\"edges\":[{\"name\":\"x\",\"to\":2}]}\n{\"text\":\"b\",\"id\":2}", "line 1: edges"},
        {"{\"text\":\"a\",\"id\":1,\"edges\":[{\"name\":\"x\",\"to\":1}]}", "line 1: edges"},
        {"{\"text\":\"a\",\"edges\":[{\"name\":\"x\"}]}", "edges"},
        {"{\"text\":\"a\",\"edges\":7}", "edges"},
        {"{\"text\":\"a\",\"metadata\":\"{}\"}", "metadata"},
        {"{\"text\":\"a\",\"time_us\":\"now\"}", "time_us"},
        {"{\"text\":\"a\",\"role\":\"x y\"}", "role"},
        {"{\"text\":\"a\"", "line 1"}};
    rf_context *c = context_rig_open(&rig, NULL);
    rf_error e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(rf_context_import(c, bad[i][0], strlen(bad[i][0]), NULL, &e), &e, "usage.range", bad[i][1]);
    rf_context_counts n;
    assert_true(rf_context_stats(c, &n, &e));
    assert_int_equal(n.n_messages, 0);
    size_t added = 9;
    assert_true(rf_context_import(c, "", 0, &added, &e));
    assert_int_equal(added, 0);
    rf_context_close(c);
}

/* --- files that are something else ------------------------------------------------------------------------------------ */

static void run_sql(const char *path, const char *text) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static uint64_t sum_of(const char *path) {
    uint64_t sum = 14695981039346656037u;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (int c; (c = getc(f)) != EOF;) sum = (sum ^ (uint64_t)c) * 1099511628211u;
    fclose(f);
    return sum;
}

static void test_other_programs_files_are_left_alone(void **state) {
    (void)state;
    rf_error e;
    rf_context *c;
    const rf_context_options none = {0};
    run_sql(rig.db, "CREATE TABLE bookmarks(id INTEGER PRIMARY KEY, url TEXT); INSERT INTO bookmarks VALUES (1, 'x')");
    uint64_t before = sum_of(rig.db);
    refused(context_rig_try(&rig, &none, &c, &e), &e, "context.foreign", "another program");
    assert_int_equal(sum_of(rig.db), before);
    unlink(rig.db);
    run_sql(rig.db, "PRAGMA page_size = 8192; CREATE TABLE t(x)");
    before = sum_of(rig.db);
    refused(context_rig_try(&rig, &none, &c, &e), &e, "context.foreign", "left as it is");
    assert_int_equal(sum_of(rig.db), before);
    FILE *f = fopen(rig.db, "wb");
    fputs("# notes\nthis is no database at all, but it is somebody's, and longer than a header of a hundred bytes "
          "would be\n",
          f);
    fclose(f);
    before = sum_of(rig.db);
    refused(context_rig_try(&rig, &none, &c, &e), &e, "context.foreign", "left as it is");
    assert_int_equal(sum_of(rig.db), before);
    unlink(rig.db);
    assert_int_equal(mkdir(rig.db, 0700), 0);
    refused(context_rig_try(&rig, &none, &c, &e), &e, "io.failed", rig.db);
    rmdir(rig.db);
    assert_int_equal(rig.n_notices, 0);
}

/* Changes a store's file behind its back, with checksums that are right. */
static void meddle(const char *text) {
    store *s;
    sql_conn *c;
    err e = {0};
    assert_int_equal(store_open(&s, rig.db, NULL, &e), OK);
    assert_int_equal(store_write(s, &c, &e), OK);
    status st = sql_exec(c, text, &e);
    if (store_commit(s, c, st, &e)) fail_msg("%s", e.text);
    store_close(s);
}

static void test_newer_and_changed_schemas_are_refused(void **state) {
    (void)state;
    rf_error e;
    rf_context *c;
    const rf_context_options none = {0};
    meddle("PRAGMA user_version = 9");
    refused(context_rig_try(&rig, &none, &c, &e), &e, "context.foreign", "version 9");
    unlink(rig.db);
    meddle("CREATE TABLE more(x)");
    refused(context_rig_try(&rig, &none, &c, &e), &e, "context.foreign", "tables");
    unlink(rig.db);
    meddle("DROP TRIGGER vector_gone");
    refused(context_rig_try(&rig, &none, &c, &e), &e, "context.foreign", "tables");
    unlink(rig.db);
    meddle("DROP INDEX message_time; CREATE INDEX message_time ON message(role)");
    refused(context_rig_try(&rig, &none, &c, &e), &e, "context.foreign", "tables");
    assert_int_equal(rig.n_notices, 0);
}

static void test_read_only(void **state) {
    (void)state;
    rf_error e;
    rf_context *c;
    rf_messages *l;
    const rf_context_options read_only = {.read_only = true};
    refused(context_rig_try(&rig, &read_only, &c, &e), &e, "io.failed", rig.db); /* it is not made */
    assert_int_equal(access(rig.db, F_OK), -1);
    c = context_rig_open(&rig, NULL);
    context_add_text(c, NULL, "kept");
    rf_context_close(c);
    assert_true(context_rig_try(&rig, &read_only, &c, &e));
    rf_message m = {.text = "x", .n_text = 1};
    refused(rf_context_add(c, &m, 1, NULL, &e), &e, "context.read_only", "reading only");
    refused(rf_context_clear(c, NULL, NULL, &e), &e, "context.read_only", "reading only");
    assert_true(rf_context_list(c, NULL, &l, &e));
    assert_int_equal(l->n, 1);
    rf_messages_free(l);
    rf_context_close(c);
}

static void test_a_new_file_is_its_owners(void **state) {
    (void)state;
    struct stat st;
    mode_t was = umask(0);
    rf_context *c = context_rig_open(&rig, NULL);
    context_add_text(c, NULL, "private");
    umask(was);
    char log[160];
    snprintf(log, sizeof log, "%s-wal", rig.db);
    assert_int_equal(stat(rig.db, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(log, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    rf_context_close(c);
    assert_int_equal(access(log, F_OK), -1); /* written back */
}

static void test_memory(void **state) {
    (void)state;
    rf_error e;
    rf_context *a, *b;
    assert_true(rf_context_open(&a, ":memory:", NULL, &e) && rf_context_open(&b, NULL, NULL, &e));
    context_add_text(a, NULL, "only here");
    rf_context_counts n;
    assert_true(rf_context_stats(b, &n, &e));
    assert_int_equal(n.n_messages, 0);
    assert_int_equal(n.file_bytes, 0);
    assert_true(rf_context_stats(a, &n, &e));
    assert_int_equal(n.n_messages, 1);
    assert_true(rf_context_clear(a, NULL, NULL, &e));
    rf_context_close(a);
    rf_context_close(b);
    assert_int_equal(access(":memory:", F_OK), -1);
}

/* A name that SQLite would take for a URI is a name. */
static void test_a_path_is_a_path(void **state) {
    (void)state;
    char was[4096];
    rf_error e;
    rf_context *c;
    assert_non_null(getcwd(was, sizeof was));
    assert_int_equal(chdir(rig.dir), 0);
    assert_true(rf_context_open(&c, "file:x.db?mode=memory", NULL, &e));
    context_add_text(c, NULL, "on the disk");
    rf_context_close(c);
    assert_int_equal(access("file:x.db?mode=memory", F_OK), 0);
    assert_int_equal(chdir(was), 0);
}

static void test_default_path(void **state) {
    (void)state;
    char *p;
    setenv("HOME", "/home/u", 1);
    setenv("XDG_DATA_HOME", "/data", 1);
    assert_string_equal(p = rf_context_default_path(), "/data/rocmforge/context.db");
    rf_free(p);
    setenv("XDG_DATA_HOME", "relative", 1);
    assert_string_equal(p = rf_context_default_path(), "/home/u/.local/share/rocmforge/context.db");
    rf_free(p);
    unsetenv("XDG_DATA_HOME");
    unsetenv("HOME");
    assert_null(rf_context_default_path());
}

/* Open, write, read, search, close: the Nth allocation fails, SQLite's own among them, for every N; in the short form for the
 * first 300, then for some. */
static bool whole_life(rf_error *e) {
    rf_context *c = NULL;
    rf_context_hits *h = NULL;
    rf_messages *l = NULL;
    static const char line[] = "{\"text\":\"imported\",\"metadata\":{\"a\":1}}\n";
    rf_context_edge edge = {"about", 1};
    rf_message m[2] = {{.text = "first words", .n_text = 11}, {.text = "more", .n_text = 4, .metadata = "{\"k\":2}"}};
    rf_message third = {.text = "third", .n_text = 5, .edges = &edge, .n_edges = 1};
    bool ok = rf_context_open(&c, ":memory:", NULL, e) && rf_context_add(c, m, 2, NULL, e) &&
              rf_context_add(c, &third, 1, NULL, e) && rf_context_import(c, line, sizeof line - 1, NULL, e) &&
              rf_context_search(c, &(rf_context_query){.text = "words", .n_text = 5, .expand = 2}, &h, e) &&
              rf_context_list(c, NULL, &l, e) && rf_context_delete(c, (int64_t[]){2}, 1, NULL, e) &&
              rf_context_clear(c, NULL, NULL, e);
    if (ok) assert_int_equal(h->n, 4);
    if (ok) assert_int_equal(l->n, 4);
    rf_context_hits_free(h);
    rf_messages_free(l);
    rf_context_close(c);
    return ok;
}

static void test_allocations_fail(void **state) {
    (void)state;
    rf_error e;
    assert_true(whole_life(&e)); /* SQLite keeps what it takes once */
    const uint64_t alive = mem_live();
    uint64_t n = 1;
    for (bool fired = true; fired; n += getenv("RF_LONG") || n < 300 ? 1 : 13) {
        e = (rf_error){0};
        mem_fail_at(n);
        bool ok = whole_life(&e);
        fired = mem_fail_off();
        assert_int_equal(mem_live(), alive);
        if (!ok && strcmp(e.code, "memory.exhausted")) fail_msg("allocation %d: %s: %s", (int)n, e.code, e.message);
        if (!fired) assert_true(ok);
    }
    assert_true(n > 500); /* SQLite's are among them */
}

int main(void) {
    if (!sql_own_memory()) return 1; /* before anything else of SQLite's */
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(test_messages_come_back),
                                       TEST(test_lists_are_paged_and_filtered),
                                       TEST(test_what_a_message_may_not_be),
                                       TEST(test_a_deleted_message_is_bridged),
                                       TEST(test_clear_leaves_nothing),
                                       TEST(test_no_query_is_syntax),
                                       TEST(test_expansion_walks_edges),
                                       TEST(test_queries_that_are_refused),
                                       TEST(test_lines_go_out_and_in),
                                       TEST(test_lines_that_are_refused),
                                       TEST(test_other_programs_files_are_left_alone),
                                       TEST(test_newer_and_changed_schemas_are_refused),
                                       TEST(test_read_only),
                                       TEST(test_a_new_file_is_its_owners),
                                       TEST(test_memory),
                                       TEST(test_a_path_is_a_path),
                                       TEST(test_allocations_fail),
                                       TEST(test_default_path)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
