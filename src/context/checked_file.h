/* Pages that prove themselves: an SQLite VFS over the system's own, which ends every page of a database file with a checksum
 * and refuses a page that lacks it (SQLITE_IOERR_DATA), so a flipped bit is an error and never an answer.
 *
 *   page, 8192 bytes:  | SQLite's, 8184 bytes | XXH3 of them and of the page's number, 8 bytes |
 *
 * SQLite leaves those bytes free (header byte 20, its "reserved space"); the write-ahead log has checksums of its own. The
 * VFS is called "rocmforge-checked", is nobody's default, and is registered while a store is open. Any thread. */
#ifndef ROCMFORGE_CONTEXT_CHECKED_FILE_H
#define ROCMFORGE_CONTEXT_CHECKED_FILE_H

#include "base/err.h"

#include <sqlite3.h>

enum { CHECKED_PAGE = 8192, CHECKED_RESERVE = 8 };
#define CHECKED_VFS "rocmforge-checked"

MUST_CHECK status checked_take(err *e); /* registered from here ... */
void checked_drop(void);                /* ... to the last drop; after its connections are closed */

#endif
