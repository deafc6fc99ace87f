/* A single's chunks are computed side by side and its keys are read once for its own heads; a tile reads them once for all its
 * tokens, but one after the other. So short runs had better be singles, long ones tiles. */
#include "backend/gpu/attention_plan.h"

enum { SINGLE_RUN = 8 }; /* tokens of a sequence, at most, that are computed as singles */

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

static void add_tiles(attention_lists *l, attn_tile_of *tile, uint32_t tok, uint32_t end, uint32_t group) {
    uint32_t most = ATTN_TILE_QUERIES / gpu_attn_tile_heads(group);
    for (; tok < end; tok += most) tile[l->n_tiles++] = (attn_tile_of){.tok0 = tok, .n_tok = min_u32(most, end - tok)};
}

void attention_plan(attention_lists *l, attn_single *single, attn_tile_of *tile, uint32_t n_tok, const uint32_t *seq,
                    const int32_t *pos, const uint32_t *first_page, uint32_t group, uint32_t max_states) {
    *l = (attention_lists){0};
    for (uint32_t t = 0, end; t < n_tok; t = end) {
        for (end = t + 1; end < n_tok && seq[end] == seq[t];) end++;
        uint32_t chunks = (uint32_t)pos[end - 1] / ATTN_KEYS + 1;
        if (end - t > SINGLE_RUN || (uint64_t)chunks * (end - t) > max_states - l->n_states) {
            add_tiles(l, tile, t, end, group);
            continue;
        }
        for (uint32_t i = t; i < end; i++, l->n_states += chunks)
            single[l->n_singles++] = (attn_single){i, l->n_states, (uint32_t)pos[i], first_page[seq[i]]};
        if (chunks > l->max_chunks) l->max_chunks = chunks;
    }
}
