/* A cursor over the bytes of a header. It never leaves [at, end); what does not fit reads as zero and sets `bad`, which
 * stays set, so a record is checked once, not per field. Each number is fetched from the mapping exactly once: the file may
 * be written to by others while we read, and a value must not change between its check and its use. */
#ifndef ROCMFORGE_GGUF_READER_H
#define ROCMFORGE_GGUF_READER_H

#include "base/str.h"

typedef struct {
    const uint8_t *at, *end;
    bool bad; /* something lay past the end */
} reader;

uint32_t load_le32(const uint8_t *p);
uint64_t load_le64(const uint8_t *p);

size_t read_left(const reader *r);
uint8_t read_u8(reader *r);
uint32_t read_u32(reader *r);
uint64_t read_u64(reader *r);
const uint8_t *read_bytes(reader *r, uint64_t n); /* NULL when they do not fit */
/* u64 length and that many bytes, at most max_bytes. *declared (NULL is fine) gets the length as it stands, for the
 * message; too long a string sets `bad`. */
str read_str(reader *r, uint64_t max_bytes, uint64_t *declared);

#endif
