/* One page of the cache as a file: its name, its bytes, and the reading that believes none of them. Stateless; any thread.
 *
 *   disk_header | tokens of the sequence up to the page's end, int32 | the page's bytes
 *
 * A file is written under a temporary name, locked (flock) while its writer lives, and renamed when it is whole: a temporary
 * file that can be locked was left behind. Files are made for their owner alone (0600): they hold what users wrote. */
#ifndef ROCMFORGE_KV_DISK_FILE_H
#define ROCMFORGE_KV_DISK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a page is; all of it is in the file too. */
typedef struct {
    uint64_t identity[2], key;
    uint32_t page_tokens, n_tokens;
    size_t page_bytes;
} disk_page;

enum { DISK_NAME_BYTES = 64 };
void disk_name(char name[DISK_NAME_BYTES], const uint64_t identity[2], uint64_t key);
bool disk_parse_name(const char *name, uint64_t identity[2], uint64_t *key); /* false: no page's name */

size_t disk_file_bytes(const disk_page *p);

typedef enum {
    DISK_OK,
    DISK_GONE,  /* there is no such file any more */
    DISK_BAD,   /* damaged, foreign, or no file of ours */
    DISK_FAILED /* could not be read now; it may be sound */
} disk_result;

/* tokens: [n_tokens], to compare with; bytes: [page_bytes], written to whatever the result. A page well read counts as used
 * (its time is set). Allocates nothing. */
disk_result disk_read(int dir, const disk_page *p, const int32_t *tokens, void *bytes);
/* serial: no two of a folder alike. DISK_FAILED: full, read-only, ...: nothing is left. */
disk_result disk_write(int dir, const disk_page *p, const int32_t *tokens, const void *bytes, uint64_t serial);
/* Removes the temporary file of a writer that is no more. false: `name` is no temporary file's. */
bool disk_remove_stale(int dir, const char *name);

#endif
