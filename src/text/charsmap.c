#include "text/charsmap.h"

#include "base/mem.h"

#include <string.h>

static const char key_map[] = "tokenizer.ggml.precompiled_charsmap";

/* ---- units ---- */

enum { LABEL_BITS = 0xFF, PART_ENDS = 1 << 8, WIDE_BASE = 1 << 9, BASE_AT = 10 };
#define VALUE_BIT 0x80000000u

static uint32_t base_of(uint32_t unit) { return unit >> BASE_AT << (unit & WIDE_BASE ? 8 : 0); }

/* Where the children of node i stand, less their labels; its value stands here. */
static uint32_t block_of(const charsmap *c, uint32_t i) { return i ^ base_of(c->unit[i]); }

static bool is_child(const charsmap *c, uint32_t i, uint32_t label) {
    return i < c->n_units && (c->unit[i] & (VALUE_BIT | LABEL_BITS)) == label;
}

static str replacement_at(const charsmap *c, uint32_t value) {
    const char *p = c->replacement + (value & ~VALUE_BIT);
    return (str){p, strlen(p)};
}

size_t charsmap_find(const charsmap *c, str text, str *replacement) {
    size_t n = 0;
    uint32_t value = 0, block = c->n_units ? block_of(c, 0) : 0;
    for (size_t i = 0; i < text.n && i < CHARSMAP_MAX_PART && text.p[i]; i++) {
        uint32_t label = (uint8_t)text.p[i], node = block ^ label;
        if (!is_child(c, node, label)) break;
        block = block_of(c, node);
        if (!(c->unit[node] & PART_ENDS)) continue;
        n = i + 1;
        value = c->unit[block];
    }
    if (n) *replacement = replacement_at(c, value);
    return n;
}

/* ---- the walk at open: each node once, depth first ---- */

#define NO_CHILD UINT32_MAX
enum { ON_THE_WAY = UINT16_MAX };
typedef struct {
    uint32_t node, label; /* the label to look at next */
    uint16_t height;      /* of what was seen below it */
} step;
typedef struct {
    const charsmap *c;
    uint16_t *height; /* [n_units] nodes on the longest way down from one, itself included; 0: not met yet */
    step way[CHARSMAP_MAX_PART + 1];
    uint32_t depth; /* of the last step on the way: the bytes of the part so far */
} walk;

static status check_node(const charsmap *c, uint32_t i, err *e) {
    uint32_t block = block_of(c, i);
    if (block >= c->n_units)
        return fail(e, ERR_TOKENIZER, "%s: unit %u leads out of its %u units", key_map, i, c->n_units);
    if (i == 0 || !(c->unit[i] & PART_ENDS)) return OK;
    uint32_t at = c->unit[block] & ~VALUE_BIT;
    if (at >= c->n_replacement)
        return fail(e, ERR_TOKENIZER, "%s: a replacement at byte %u of %zu", key_map, at, c->n_replacement);
    if (strnlen(c->replacement + at, CHARSMAP_MAX_REPLACEMENT + 1) > CHARSMAP_MAX_REPLACEMENT)
        return fail(e, ERR_TOKENIZER, "%s: a replacement of more than %d bytes", key_map, CHARSMAP_MAX_REPLACEMENT);
    return OK;
}

static status enter(walk *w, uint32_t node, err *e) { /* goes on the way, at w->depth */
    w->way[w->depth] = (step){node, 1, 0};
    w->height[node] = ON_THE_WAY;
    return check_node(w->c, node, e);
}

static void add_below(step *s, uint16_t height) {
    if (height > s->height) s->height = height;
}

static status visit(walk *w, uint32_t child, err *e) { /* of the last node on the way */
    uint16_t known = w->height[child];
    if (known == ON_THE_WAY) return fail(e, ERR_TOKENIZER, "%s: unit %u leads back to itself", key_map, child);
    if (w->depth + (known ? known : 1) > CHARSMAP_MAX_PART)
        return fail(e, ERR_TOKENIZER, "%s: a part of more than %d bytes", key_map, CHARSMAP_MAX_PART);
    if (known) {
        add_below(&w->way[w->depth], known);
        return OK;
    }
    w->depth++;
    return enter(w, child, e);
}

static uint32_t next_child(const charsmap *c, step *s) {
    uint32_t block = block_of(c, s->node);
    while (s->label <= LABEL_BITS) {
        uint32_t label = s->label++;
        if (is_child(c, block ^ label, label)) return block ^ label;
    }
    return NO_CHILD;
}

static status walk_all(walk *w, err *e) {
    status s = enter(w, 0, e);
    while (!s) {
        step *last = &w->way[w->depth];
        uint32_t child = next_child(w->c, last);
        if (child != NO_CHILD) {
            s = visit(w, child, e);
            continue;
        }
        w->height[last->node] = (uint16_t)(last->height + 1);
        if (w->depth == 0) break;
        w->depth--;
        add_below(&w->way[w->depth], w->height[last->node]);
    }
    return s;
}

static status check_all(const charsmap *c, err *e) {
    walk w = {.c = c, .height = mem_zalloc(c->n_units * sizeof *w.height)};
    status s = w.height ? walk_all(&w, e) : fail(e, ERR_NOMEM, "%s", key_map);
    mem_free(w.height);
    return s;
}

/* ---- open ---- */

static uint32_t load_le32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static status copy_parts(charsmap *c, const uint8_t *p, size_t n, err *e) {
    size_t n_blob = load_le32(p);
    if (n_blob >= n - 4)
        return fail(e, ERR_TOKENIZER, "%s: %zu bytes of units and no replacements in %zu bytes", key_map, n_blob, n);
    c->n_replacement = n - 4 - n_blob;
    c->unit = mem_alloc(n_blob + 1);
    c->replacement = mem_alloc(c->n_replacement);
    if (!c->unit || !c->replacement) return fail(e, ERR_NOMEM, "%s", key_map);
    c->n_units = (uint32_t)(n_blob / 4);
    for (uint32_t i = 0; i < c->n_units; i++) c->unit[i] = load_le32(p + 4 + 4 * (size_t)i);
    memcpy(c->replacement, p + 4 + n_blob, c->n_replacement);
    if (c->replacement[c->n_replacement - 1] != 0)
        return fail(e, ERR_TOKENIZER, "%s: the last replacement has no end", key_map);
    return c->n_units ? check_all(c, e) : OK;
}

status charsmap_open(charsmap *c, const gguf *g, err *e) {
    const gguf_kv *kv = gguf_find(g, key_map);
    if (!kv) return OK;
    if (kv->type != GGUF_ARRAY || (kv->elem_type != GGUF_U8 && kv->elem_type != GGUF_I8))
        return fail(e, ERR_TOKENIZER, "%s is no array of bytes", key_map);
    if (kv->n < 4 || kv->n > CHARSMAP_MAX_BYTES)
        return fail(e, ERR_TOKENIZER, "%s has %llu bytes, 4 to %d are accepted", key_map, (unsigned long long)kv->n,
                    CHARSMAP_MAX_BYTES);
    return copy_parts(c, kv->data, (size_t)kv->n, e);
}

void charsmap_close(charsmap *c) {
    mem_free(c->unit);
    mem_free(c->replacement);
    *c = (charsmap){0};
}

size_t charsmap_bytes(const charsmap *c) { return c->n_units * sizeof *c->unit + c->n_replacement; }
