/* The normalisation of a SentencePiece model (tokenizer.ggml.precompiled_charsmap): parts of a text and what stands in their
 * place, mostly NFKC. The longest part that begins at a place counts. The format is SentencePiece's, over a compact double
 * array (S. Kanda, Space- and Time-Efficient String Dictionaries, 2018; darts-clone writes it):
 *
 *   n_bytes u32 | units u32[n_bytes / 4] | replacements, each ends with a zero byte      all little endian
 *   unit of a node:   bit 31 clear | base, bits 10-30, times 256 with bit 9 | bit 8: a part ends here | label, bits 0-7
 *                     children stand at (its index ^ base ^ label); the unit of its replacement at (its index ^ base)
 *   unit of a value:  bit 31 set | offset into the replacements, bits 0-30
 *
 * The map comes from a file, so charsmap_open walks all of it: no unit or replacement outside, no cycle, bounded lengths;
 * then a look-up needs no more than a bound of its own. Units may be shared by nodes (it is a directed acyclic graph).
 * Owns a copy. Immutable after open: any thread may look up. */
#ifndef ROCMFORGE_TEXT_CHARSMAP_H
#define ROCMFORGE_TEXT_CHARSMAP_H

#include "base/err.h"
#include "base/str.h"
#include "gguf/gguf.h"

/* Of the map of a large multilingual model: 240 KB, 10 and 33 bytes. */
enum { CHARSMAP_MAX_BYTES = 16 << 20, CHARSMAP_MAX_PART = 256, CHARSMAP_MAX_REPLACEMENT = 1024 };

typedef struct {
    uint32_t *unit; /* [n_units] */
    uint32_t n_units;
    char *replacement; /* [n_replacement], the last byte is 0 */
    size_t n_replacement;
} charsmap;

/* c is {0}; on failure charsmap_close still applies. Without the key in the file it stays empty: nothing is replaced. */
MUST_CHECK status charsmap_open(charsmap *c, const gguf *g, err *e);
void charsmap_close(charsmap *c);
size_t charsmap_bytes(const charsmap *c);

/* Bytes of the longest part at the beginning of text, and what stands for it; 0: none begins there. */
size_t charsmap_find(const charsmap *c, str text, str *replacement);

#endif
