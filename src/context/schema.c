#include "context/schema.h"

#include <stdio.h>

/* What sqlite_schema holds: SQLite keeps these texts as they are written here. */
static const char *const objects[] = {
    "CREATE TABLE store(one INTEGER PRIMARY KEY CHECK (one = 1), identity BLOB NOT NULL) STRICT",
    "CREATE TABLE message(id INTEGER PRIMARY KEY AUTOINCREMENT, conversation TEXT NOT NULL, seq INTEGER NOT NULL,"
    " role TEXT NOT NULL, time_us INTEGER NOT NULL, text TEXT NOT NULL, metadata TEXT NOT NULL) STRICT",
    "CREATE INDEX message_conversation ON message(conversation)",
    "CREATE INDEX message_time ON message(time_us)",
    "CREATE TABLE edge(source INTEGER NOT NULL REFERENCES message(id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " target INTEGER NOT NULL REFERENCES message(id) ON DELETE CASCADE, PRIMARY KEY (source, name, target))"
    " STRICT, WITHOUT ROWID",
    "CREATE INDEX edge_target ON edge(target)",
    "CREATE TABLE model(id INTEGER PRIMARY KEY AUTOINCREMENT, identity BLOB NOT NULL UNIQUE, n_embd INTEGER NOT NULL)"
    " STRICT",
    "CREATE TABLE vector(id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL REFERENCES model(id),"
    " message INTEGER NOT NULL REFERENCES message(id) ON DELETE CASCADE, data BLOB NOT NULL) STRICT",
    "CREATE UNIQUE INDEX vector_message ON vector(message, model)",
    "CREATE INDEX vector_model ON vector(model)",
    "CREATE TABLE gone(n INTEGER PRIMARY KEY AUTOINCREMENT, message INTEGER NOT NULL) STRICT",
    "CREATE TRIGGER vector_gone AFTER DELETE ON vector BEGIN INSERT INTO gone(message) VALUES (old.message); END",
    "CREATE VIRTUAL TABLE words USING fts5(text, content='message', content_rowid='id', tokenize='unicode61"
    " remove_diacritics 2')",
};
enum { N_OBJECTS = sizeof objects / sizeof *objects };

/* Step k leads from version k to k + 1. */
static status make_first(sql_conn *c, err *e) {
    status s = OK;
    for (int i = 0; !s && i < N_OBJECTS; i++) s = sql_exec(c, objects[i], e);
    return s ? s : sql_exec(c, "INSERT INTO store(one, identity) VALUES (1, randomblob(16))", e);
}
static status (*const steps[])(sql_conn *c, err *e) = {make_first};
_Static_assert(sizeof steps / sizeof *steps == SCHEMA_VERSION, "a step for each version");

status schema_migrate(sql_conn *c, int64_t from, err *e) {
    status s = OK;
    for (int64_t v = from; !s && v < SCHEMA_VERSION; v++) s = steps[v](c, e);
    char stamp[96];
    snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d; PRAGMA user_version = %d", SCHEMA_APPLICATION,
             SCHEMA_VERSION);
    return s ? s : sql_exec(c, stamp, e);
}

/* FTS5's own tables, and SQLite's, are theirs to shape. */
status schema_check(sql_conn *c, err *e) {
    int64_t n_known = 0, n_all = 0;
    status s = OK;
    for (int i = 0; !s && i < N_OBJECTS; i++) {
        int64_t there = 0;
        sql_query q = sql_ask(c, "SELECT count(*) FROM sqlite_schema WHERE sql = ?1");
        sql_text(&q, 1, str_of(objects[i]));
        s = sql_number(&q, 0, &there, e);
        n_known += there == 1;
    }
    sql_query q = sql_ask(c, "SELECT count(*) FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*' AND name NOT IN "
                             "('words_data', 'words_idx', 'words_docsize', 'words_config')");
    status s2 = sql_number(&q, 0, &n_all, s ? NULL : e);
    if (s || s2) return s ? s : s2;
    if (n_known == N_OBJECTS && n_all == N_OBJECTS) return OK;
    return fail(e, ERR_STORE_FOREIGN, "%s: its tables are not those of a context store; it is left as it is", c->path);
}
