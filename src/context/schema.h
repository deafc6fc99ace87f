/* The schema of a store's file, version by version. */
#ifndef ROCMFORGE_CONTEXT_SCHEMA_H
#define ROCMFORGE_CONTEXT_SCHEMA_H

#include "context/sql.h"

enum { SCHEMA_APPLICATION = 0x52466378 /* "RFcx" */, SCHEMA_VERSION = 1 };

/* Brings an empty file, or one of an older version, up to this one; inside the caller's transaction. */
MUST_CHECK status schema_migrate(sql_conn *c, int64_t from, err *e);
/* ERR_STORE_FOREIGN unless tables, indexes and triggers are those of SCHEMA_VERSION, word for word. */
MUST_CHECK status schema_check(sql_conn *c, err *e);

#endif
