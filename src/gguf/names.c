#include "gguf/names.h"

#include "base/clock.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

static uint64_t rotate(uint64_t x, int n) { return x << n | x >> (64 - n); }

static void sip_round(uint64_t v[4]) {
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein 2012): a short-input hash that stays unpredictable without its key. */
static uint64_t hash(const uint64_t key[2], str s) {
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
                     key[1] ^ 0x7465646279746573u};
    for (size_t at = 0;; at += 8) {
        uint64_t word = 0;
        size_t n = s.n - at < 8 ? s.n - at : 8;
        if (n) memcpy(&word, s.p + at, n);
        if (n < 8) word |= (uint64_t)s.n << 56;
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
        if (n < 8) break;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static const str *name_at(const names *t, size_t i) { return (const void *)((const char *)t->items + i * t->stride); }

/* The slot that holds the name, or the free one where it belongs. At most half of the slots are taken. */
static size_t slot_of(const names *t, str name) {
    size_t at = (size_t)hash(t->key, name) & (t->n_slots - 1);
    while (t->slot[at] && !str_eq(*name_at(t, t->slot[at] - 1), name)) at = (at + 1) & (t->n_slots - 1);
    return at;
}

static void draw_key(uint64_t key[2]) {
    if (getrandom(key, 2 * sizeof *key, GRND_NONBLOCK) == 2 * sizeof *key) return;
    key[0] = (uint64_t)clock_us(); /* before the kernel's pool is ready: better than a constant */
    key[1] = (uint64_t)(uintptr_t)key;
}

status names_build(names *t, const void *items, size_t n, size_t stride, size_t *twice, err *e) {
    assert(n <= NAMES_MAX);
    *twice = n;
    *t = (names){.items = items, .n = n, .stride = stride, .n_slots = 8};
    while (t->n_slots < 2 * n) t->n_slots *= 2;
    draw_key(t->key);
    t->slot = mem_array(t->n_slots, sizeof *t->slot);
    if (!t->slot) return fail(e, ERR_NOMEM, "no memory for a table of %zu names", n);
    for (size_t i = 0; i < n; i++) {
        size_t at = slot_of(t, *name_at(t, i));
        if (!t->slot[at])
            t->slot[at] = (uint32_t)i + 1;
        else if (*twice == n)
            *twice = i;
    }
    return OK;
}

const void *names_find(const names *t, str name) {
    if (!t->slot) return NULL;
    uint32_t found = t->slot[slot_of(t, name)];
    return found ? name_at(t, found - 1) : NULL;
}

void names_free(names *t) {
    mem_free(t->slot);
    *t = (names){0};
}
