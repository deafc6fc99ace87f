/* Steps of whole (tiny) models: the logits of a token list do not depend, bit for bit, on how it is cut, what else is in
 * the batch, where its pages lie, how many threads or which tier compute it, which graph passes ran, or on which of two
 * backends its nodes run. */
#include "check.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "exec/exec.h"
#include "heap_calls.h"
#include "test_backend.h"
#include "tiny_gguf.h"

/* --- a model, an executor and the logits it should give ---------------------------------------------------------------- */

enum { PAGE = 16, N_PAGES = 128, N_SEQ = 4, LONG = 300 }; /* LONG: five chunks of keys */
static const uint32_t lengths[N_SEQ] = {LONG, 70, 33, 1};

typedef struct {
    int tier;
    uint32_t threads;
    quant_type type_k, type_v;
    unsigned passes;
    uint32_t max_tok;
    uint64_t split_seed; /* not 0: half of the nodes on the test backend, chosen by it */
} setting;

static setting plain(void) {
    return (setting){.tier = TIER_SCALAR,
                     .threads = 1,
                     .type_k = QUANT_F16,
                     .type_v = QUANT_F16,
                     .passes = PASS_ALL,
                     .max_tok = 512};
}

typedef struct {
    gguf *file;
    exec *x;
    backend *far; /* the test backend, if there is one; the executor's */
    setting set;
    uint64_t dice;
} rig;

static uint32_t choose_by_seed(void *ctx, const node *n) {
    const rig *r = ctx;
    return (uint32_t)(rng_u64(r->set.split_seed, n->id) & 1);
}

static status rig_try(rig *r, const char *path, setting set, err *e) {
    *r = (rig){.set = set, .dice = 1};
    status s = gguf_open(&r->file, path, e);
    cpu_options opt = {.n_threads = set.threads, .tier = set.tier};
    backend *b[2] = {0};
    if (!s) s = cpu_backend_open(&b[0], &opt, e);
    if (!s && set.split_seed) s = test_backend_open(&b[1], &opt, e);
    exec_options eo = {.max_tok = set.max_tok,
                       .max_out = set.max_tok,
                       .n_pages = N_PAGES,
                       .page_tokens = PAGE,
                       .type_k = set.type_k,
                       .type_v = set.type_v,
                       .passes = set.passes,
                       .choose = set.split_seed ? choose_by_seed : NULL,
                       .choose_ctx = r};
    if (s && b[0]) b[0]->ops->close(b[0]);
    if (!s) s = exec_open(&r->x, r->file, &eo, b, set.split_seed ? 2 : 1, NULL, NULL, e);
    r->far = b[1];
    return s;
}

static void rig_close(rig *r) {
    exec_close(r->x);
    gguf_close(r->file);
}

static void rig_open(rig *r, const char *path, setting set) {
    err e = {0};
    if (rig_try(r, path, set, &e)) fail_msg("%s", e.text);
}

/* The token lists of all tests: the same prefix never gives away a wrong position, ids run over the whole vocabulary. */
static int32_t token_at(uint32_t seq, uint32_t pos) { return (int32_t)(rng_u64(77 + seq, pos) % TINY_VOCAB); }

typedef struct {
    float *row[N_SEQ]; /* [length][TINY_VOCAB] */
} logits;

static void logits_free(logits *l) {
    for (uint32_t s = 0; s < N_SEQ; s++) free(l->row[s]);
}

/* --- running ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    int32_t token[512], pos[512], out_row[512];
    uint32_t seq[512];
    exec_seq seqs[N_SEQ];
    uint32_t which[N_SEQ]; /* of the lists */
    exec_batch b;
} batch;

static void batch_start(batch *t) {
    t->b = (exec_batch){.token = t->token, .pos = t->pos, .seq = t->seq, .out_row = t->out_row, .seqs = t->seqs};
}

/* n tokens of a list from position `from` on; every row wants output if all, else only the last. */
static void batch_add(batch *t, uint32_t list, const uint32_t *pages, uint32_t from, uint32_t n, bool all) {
    t->seqs[t->b.n_seq] = (exec_seq){.pages = pages};
    t->which[t->b.n_seq] = list;
    for (uint32_t i = 0; i < n; i++) {
        t->token[t->b.n_tok] = token_at(list, from + i);
        t->pos[t->b.n_tok] = (int32_t)(from + i);
        t->seq[t->b.n_tok] = t->b.n_seq;
        if (all || i + 1 == n) t->out_row[t->b.n_out++] = (int32_t)t->b.n_tok;
        t->b.n_tok++;
    }
    t->b.n_seq++;
}

static void must_step(rig *r, batch *t) {
    err e = {0};
    if (exec_step(r->x, &t->b, &e)) fail_msg("%s", e.text);
}

static uint32_t dice(rig *r, uint32_t n) {
    return (uint32_t)(rng_u64(r->set.max_tok + r->set.split_seed, r->dice++) % n);
}

static void shuffle(rig *r, uint32_t *a, uint32_t n) {
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = dice(r, i), x = a[i - 1];
        a[i - 1] = a[j];
        a[j] = x;
    }
}

/* The definition: each list alone, token by token. */
static logits reference(const char *path, setting set) {
    rig r;
    set.tier = TIER_SCALAR, set.threads = 1, set.passes = PASS_ALL, set.split_seed = 0;
    rig_open(&r, path, set);
    logits l;
    batch t;
    uint32_t pages[N_PAGES];
    for (uint32_t i = 0; i < N_PAGES; i++) pages[i] = i;
    for (uint32_t s = 0; s < N_SEQ; s++) {
        l.row[s] = malloc(lengths[s] * TINY_VOCAB * sizeof(float));
        for (uint32_t pos = 0; pos < lengths[s]; pos++) {
            batch_start(&t);
            batch_add(&t, s, pages, pos, 1, true);
            must_step(&r, &t);
            memcpy(l.row[s] + pos * TINY_VOCAB, exec_logits(r.x, 0), TINY_VOCAB * sizeof(float));
        }
    }
    rig_close(&r);
    return l;
}

static void compare(const rig *r, const batch *t, const logits *want, const char *what) {
    for (uint32_t i = 0; i < t->b.n_out; i++) {
        uint32_t row = (uint32_t)t->out_row[i], list = t->which[t->seq[row]], pos = (uint32_t)t->pos[row];
        const float *is = exec_logits(r->x, i), *must = want->row[list] + (size_t)pos * TINY_VOCAB;
        for (uint32_t v = 0; v < TINY_VOCAB; v++)
            if (memcmp(&is[v], &must[v], sizeof *is) != 0)
                fail_msg("%s, tier %s, %u threads: list %u, position %u, token %u: %a, alone it is %a", what,
                         cpu_tier_name((cpu_tier)r->set.tier), r->set.threads, list, pos, v, (double)is[v],
                         (double)must[v]);
    }
}

/* One list in chunks of n, on pages in random order. */
static void check_chunks(rig *r, const logits *want, uint32_t list, uint32_t n) {
    uint32_t pages[N_PAGES];
    batch t;
    char what[40];
    snprintf(what, sizeof what, "chunks of %u", n);
    for (uint32_t i = 0; i < N_PAGES; i++) pages[i] = i;
    shuffle(r, pages, N_PAGES);
    for (uint32_t from = 0; from < lengths[list]; from += n) {
        uint32_t some = lengths[list] - from < n ? lengths[list] - from : n;
        batch_start(&t);
        batch_add(&t, list, pages, from, some, true);
        must_step(r, &t);
        compare(r, &t, want, what);
    }
}

/* All lists at once: every step some of them, in any order, by one token or a chunk, on pages dealt at random. */
static void check_mixed(rig *r, const logits *want) {
    uint32_t deck[N_PAGES], pages[N_SEQ][N_PAGES / N_SEQ], done[N_SEQ] = {0}, order[N_SEQ] = {0, 1, 2, 3};
    batch t;
    for (uint32_t i = 0; i < N_PAGES; i++) deck[i] = i;
    shuffle(r, deck, N_PAGES);
    for (uint32_t s = 0; s < N_SEQ; s++) memcpy(pages[s], deck + s * (N_PAGES / N_SEQ), sizeof pages[s]);
    for (uint32_t left = N_SEQ; left;) {
        batch_start(&t);
        shuffle(r, order, N_SEQ);
        for (uint32_t i = 0; i < N_SEQ; i++) {
            uint32_t s = order[i], rest = lengths[s] - done[s], room = r->set.max_tok - t.b.n_tok;
            if (!rest || !room || dice(r, 4) == 0) continue;
            uint32_t n = dice(r, 2) ? 1 : 1 + dice(r, 100);
            n = n < rest ? n : rest;
            n = n < room ? n : room;
            batch_add(&t, s, pages[s], done[s], n, dice(r, 3) > 0);
            done[s] += n;
            left -= done[s] == lengths[s];
        }
        if (!t.b.n_tok) continue;
        must_step(r, &t);
        compare(r, &t, want, "mixed");
    }
}

static void check_setting(const char *path, setting set, const logits *want) {
    rig r;
    rig_open(&r, path, set);
    check_mixed(&r, want);
    if (set.max_tok >= LONG) check_chunks(&r, want, 0, set.max_tok);
    rig_close(&r);
}

/* --- bits -------------------------------------------------------------------------------------------------------------- */

/* Every tier, and for the best one every number of threads. */
static void each_tier(const char *path, setting set, const logits *want) {
    int best = (int)cpu_tier_best();
    for (set.tier = TIER_SCALAR; set.tier < best; set.tier++) {
        set.threads = 1 + (uint32_t)set.tier % 2;
        check_setting(path, set, want);
    }
    for (set.threads = 1; set.threads <= 4; set.threads *= 2) check_setting(path, set, want);
}

static void check_shape(const tiny_shape *shape, setting set) {
    char path[TINY_PATH];
    tiny_gguf_write(shape, path);
    logits want = reference(path, set);
    each_tier(path, set, &want);
    logits_free(&want);
    unlink(path);
}

static void test_weight_types(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1,
                                       QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0, QUANT_Q2_K, QUANT_Q3_K,
                                       QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i += check_sanitized() ? 5 : 1) {
        tiny_shape shape = tiny_shape_of("llama", types[i]);
        check_shape(&shape, plain());
    }
}

static void test_experts(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F16, QUANT_Q8_0, QUANT_Q4_K};
    for (size_t i = 0; i < (check_sanitized() ? 2 : 3); i++) {
        tiny_shape shape = tiny_shape_of("llama", types[i]);
        shape.n_expert = 5, shape.n_used = 2;
        check_shape(&shape, plain());
    }
}

static void test_cache_types(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_Q8_0, QUANT_BF16, QUANT_Q4_0};
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    for (uint32_t k = 0; k < 5; k++)
        for (uint32_t v = 0; v < 5; v++) {
            setting set = plain();
            set.type_k = types[k], set.type_v = types[v];
            if (k != v && k != (v + 1) % 5) continue;
            check_shape(&shape, set);
        }
}

static void test_head_groups(void **state) {
    (void)state;
    for (uint32_t group = 1; group <= 8; group += check_sanitized() ? 4 : 1) {
        tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
        shape.n_kv_head = group > 4 ? 1 : 2;
        shape.n_head = shape.n_kv_head * group;
        check_shape(&shape, plain());
    }
}

static void test_windows(void **state) {
    (void)state;
    static const uint32_t windows[] = {1, 7, 64, 65, 100};
    for (size_t i = 0; i < 5; i++) {
        tiny_shape shape = tiny_shape_of("gemma3", QUANT_Q8_0);
        shape.window = windows[i];
        check_shape(&shape, plain());
    }
}

static void test_chunk_sizes(void **state) {
    (void)state;
    static const uint32_t chunks[] = {1, 7, 32, 512};
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_1);
    tiny_gguf_write(&shape, path);
    setting set = plain();
    logits want = reference(path, set);
    set.tier = (int)cpu_tier_best();
    for (uint32_t i = 0; i < 4; i++) {
        rig r;
        set.max_tok = chunks[i], set.threads = 1 + i % 2;
        rig_open(&r, path, set);
        for (uint32_t s = 0; s < N_SEQ; s++) check_chunks(&r, &want, s, chunks[i]);
        check_mixed(&r, &want);
        rig_close(&r);
    }
    logits_free(&want);
    unlink(path);
}

/* The result does not depend on which passes ran: each alone beside lowering, and none. */
static void test_passes(void **state) {
    (void)state;
    static const unsigned extra[] = {0, PASS_NOOP, PASS_CSE, PASS_FUSE, PASS_LAYOUT};
    static const char *const archs[] = {"llama", "gemma3"};
    for (uint32_t a = 0; a < 2; a++) {
        for (uint32_t moe = 0; moe < (a || check_sanitized() ? 1 : 2); moe++) {
            char path[TINY_PATH];
            tiny_shape shape = tiny_shape_of(archs[a], moe ? QUANT_Q4_K : QUANT_Q5_1);
            if (moe) shape.n_expert = 4, shape.n_used = 2;
            tiny_gguf_write(&shape, path);
            setting set = plain();
            logits want = reference(path, set);
            for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++)
                for (set.tier = moe ? (int)cpu_tier_best() : TIER_SCALAR; set.tier <= (int)cpu_tier_best();
                     set.tier++) {
                    set.passes = PASS_LOWER | extra[i], set.threads = 2;
                    check_setting(path, set, &want);
                }
            logits_free(&want);
            unlink(path);
        }
    }
}

/* --- two backends ------------------------------------------------------------------------------------------------------ */

static void test_two_backends(void **state) {
    (void)state;
    for (uint32_t kind = 0; kind < 4; kind++) {
        char path[TINY_PATH];
        tiny_shape shape = tiny_shape_of(kind == 3 ? "gemma3" : "llama", kind == 1 ? QUANT_F16 : QUANT_Q8_0);
        if (kind == 2) shape.n_expert = 4, shape.n_used = 2;
        if (kind == 3) shape.window = 20;
        tiny_gguf_write(&shape, path);
        setting set = plain();
        logits want = reference(path, set);
        set.tier = (int)cpu_tier_best(), set.threads = 2;
        for (set.split_seed = 1; set.split_seed <= 8; set.split_seed++) {
            rig r;
            set.passes = set.split_seed % 3 ? PASS_ALL : PASS_LOWER;
            rig_open(&r, path, set);
            check_mixed(&r, &want);
            check_chunks(&r, &want, 0, 512);
            test_backend_counts c = test_backend_counts_of(r.far);
            assert_true(c.n_segments > 0 && c.n_reads > 0 && c.n_writes > 0);
            assert_int_equal(c.n_pending, 0); /* after a step nobody may still read its arrays */
            rig_close(&r);
        }
        logits_free(&want);
        unlink(path);
    }
}

/* A step without output rows must be finished too before its arrays go. */
static void test_two_backends_without_output(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    tiny_gguf_write(&shape, path);
    setting set = plain();
    for (set.split_seed = 1; set.split_seed <= 12; set.split_seed++) {
        rig r;
        batch t;
        uint32_t pages[4] = {3, 2, 1, 0};
        rig_open(&r, path, set);
        batch_start(&t);
        batch_add(&t, 0, pages, 0, 20, false);
        t.b.n_out = 0;
        must_step(&r, &t);
        assert_int_equal(test_backend_counts_of(r.far).n_pending, 0);
        rig_close(&r);
    }
    unlink(path);
}

/* --- memory ------------------------------------------------------------------------------------------------------------ */

static status first_step(rig *r, err *e) {
    batch t;
    uint32_t pages[2] = {5, 4};
    sample_params p = sample_defaults();
    int32_t history[20];
    sample_top top[5];
    sample_result result = {.top = top, .n_top = 5};
    batch_start(&t);
    batch_add(&t, 0, pages, 0, 20, false);
    for (uint32_t i = 0; i < 20; i++) history[i] = t.token[i];
    t.seqs[0].sampling = &p;
    t.seqs[0].history = history;
    t.seqs[0].n_history = t.seqs[0].sample_pos = 20;
    t.seqs[0].result = &result;
    return exec_step(r->x, &t.b, e);
}

static void fail_each_allocation(const tiny_shape *shape, setting set) {
    char path[TINY_PATH];
    tiny_gguf_write(shape, path);
    uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        rig r;
        err e = {0};
        mem_fail_at(n);
        status s = rig_try(&r, path, set, &e);
        if (!s) s = first_step(&r, &e);
        bool fired = mem_fail_off();
        rig_close(&r);
        if (s != (fired ? ERR_NOMEM : OK)) fail_msg("allocation %u: status %d, %s", (unsigned)n, (int)s, e.text);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
    unlink(path);
}

static void test_survives_oom(void **state) {
    (void)state;
    setting set = plain();
    set.tier = (int)cpu_tier_best(), set.threads = 2;
    tiny_shape dense = tiny_shape_of("llama", QUANT_Q4_K), gemma = tiny_shape_of("gemma3", QUANT_F16);
    tiny_shape experts = tiny_shape_of("llama", QUANT_Q8_0);
    experts.n_expert = 4, experts.n_used = 2;
    fail_each_allocation(&dense, set);
    fail_each_allocation(&gemma, set);
    set.split_seed = 3;
    fail_each_allocation(&experts, set);
}

static void test_a_step_allocates_nothing(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    shape.n_expert = 4, shape.n_used = 2;
    tiny_gguf_write(&shape, path);
    setting set = plain();
    logits want = reference(path, set);
    set.threads = 4;
    for (set.tier = TIER_SCALAR; set.tier <= (int)cpu_tier_best(); set.tier++) {
        rig r;
        err e;
        rig_open(&r, path, set);
        uint64_t calls = check_heap_calls() + mem_calls();
        check_mixed(&r, &want);
        for (int i = 0; i < 3; i++) assert_int_equal(first_step(&r, &e), OK);
        assert_int_equal(check_heap_calls() + mem_calls(), calls);
        rig_close(&r);
    }
    logits_free(&want);
    unlink(path);
}

/* --- numbers and files that go bad ------------------------------------------------------------------------------------- */

static const char *const poisoned[] = {
    "token_embd.weight",     "blk.0.attn_norm.weight",   "blk.0.attn_q.weight",   "blk.0.attn_k.weight",
    "blk.0.attn_v.weight",   "blk.0.attn_output.weight", "blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight",
    "blk.0.ffn_up.weight",   "blk.0.ffn_down.weight",    "blk.1.attn_q.weight",   "blk.1.attn_k.weight",
    "blk.1.ffn_gate.weight", "blk.1.ffn_down.weight",    "output_norm.weight",    "output.weight"};
static const char *const poisoned_experts[] = {"blk.0.ffn_gate_inp.weight", "blk.0.ffn_gate_exps.weight",
                                               "blk.0.ffn_up_exps.weight",  "blk.0.ffn_down_exps.weight",
                                               "blk.1.ffn_gate_inp.weight", "blk.1.ffn_down_exps.weight"};

/* A token that sees the poison: the first rows of all matrices matter to every token, of the embedding to token 0. */
static status step_on_token_0(rig *r, err *e) {
    batch t;
    uint32_t pages[1] = {0};
    batch_start(&t);
    batch_add(&t, 0, pages, 0, 3, false);
    t.token[0] = t.token[1] = t.token[2] = 0;
    return exec_step(r->x, &t.b, e);
}

static void put_poison(const char *path, const char *tensor, const tiny_shape *shape, bool nan) {
    bool f32 = shape->type == QUANT_F32 || strstr(tensor, "norm") || strstr(tensor, "gate_inp");
    uint32_t single = nan ? 0x7FC00000 : 0x7F800000;
    uint16_t half = nan ? 0x7E00 : 0x7C00, brain = nan ? 0x7FC0 : 0x7F80;
    size_t at = f32 ? 0 : shape->type == QUANT_Q6_K ? 208 : 0;
    if (f32)
        tiny_gguf_poke(path, tensor, at, &single, 4);
    else
        tiny_gguf_poke(path, tensor, at, shape->type == QUANT_BF16 ? &brain : &half, 2);
}

static void check_poison(const tiny_shape *shape, const char *tensor, bool nan) {
    char path[TINY_PATH];
    tiny_gguf_write(shape, path);
    put_poison(path, tensor, shape, nan);
    setting set = plain();
    for (set.tier = TIER_SCALAR; set.tier <= (int)cpu_tier_best(); set.tier++) {
        rig r;
        err e = {0};
        status s = rig_try(&r, path, set, &e);
        if (!s) s = step_on_token_0(&r, &e);
        if (s != ERR_NUMBERS)
            fail_msg("%s of %s with %s, tier %s: status %d %s", tensor, quant_lookup(shape->type)->name,
                     nan ? "NaN" : "infinity", cpu_tier_name((cpu_tier)set.tier), (int)s, e.text);
        rig_close(&r);
    }
    unlink(path);
}

static void test_numbers_that_are_not_finite(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q4_0,
                                       QUANT_Q4_1, QUANT_Q8_0, QUANT_Q4_K, QUANT_Q6_K};
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++)
        for (int nan = 0; nan < 2; nan++) {
            tiny_shape shape = tiny_shape_of("llama", types[k]);
            for (size_t i = 0; i < sizeof poisoned / sizeof poisoned[0]; i++) check_poison(&shape, poisoned[i], nan);
            shape.n_expert = shape.n_used = 2; /* all are used, so the poisoned one is */
            for (size_t i = 0; i < sizeof poisoned_experts / sizeof poisoned_experts[0]; i++)
                check_poison(&shape, poisoned_experts[i], nan);
        }
}

typedef enum { CUT, CUT_ALL, OVERWRITE, HARMS } harm;

static void do_harm(const char *path, harm how) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    if (how == OVERWRITE) {
        float wrong = 3.0f;
        tiny_gguf_poke(path, "blk.1.ffn_down.weight", 0, &wrong, sizeof wrong);
        tiny_gguf_touch(path);
    } else {
        assert_int_equal(truncate(path, how == CUT ? st.st_size / 2 : 0), 0);
    }
}

/* F16 and F32 matrices are used from the mapping: their pages are lost in the middle of a step. */
static void test_file_changes(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_Q8_0, QUANT_Q4_K};
    for (size_t k = 0; k < 4; k++)
        for (harm how = CUT; how < HARMS; how++)
            for (uint32_t threads = 1; threads <= 2; threads++) {
                char path[TINY_PATH];
                tiny_shape shape = tiny_shape_of("llama", types[k]);
                shape.n_layer = 6; /* many pages */
                tiny_gguf_write(&shape, path);
                setting set = plain();
                set.tier = threads == 1 ? TIER_SCALAR : (int)cpu_tier_best();
                set.threads = threads;
                rig r;
                err e = {0};
                rig_open(&r, path, set);
                restore_sigbus();
                assert_int_equal(step_on_token_0(&r, &e), OK);
                do_harm(path, how);
                for (int again = 0; again < 2; again++) assert_int_equal(step_on_token_0(&r, &e), ERR_FILE_CHANGED);
                rig_close(&r);
                unlink(path);
            }
}

static void test_file_changes_before_load(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F32, QUANT_Q8_0, QUANT_Q4_K};
    for (size_t k = 0; k < 3; k++)
        for (harm how = CUT; how < HARMS; how++) {
            char path[TINY_PATH];
            tiny_shape shape = tiny_shape_of("llama", types[k]);
            tiny_gguf_write(&shape, path);
            gguf *file;
            backend *b;
            exec *x;
            err e = {0};
            cpu_options opt = {.n_threads = 2, .tier = -1};
            exec_options eo = {.max_tok = 32,
                               .max_out = 32,
                               .n_pages = 4,
                               .page_tokens = 16,
                               .type_k = QUANT_F16,
                               .type_v = QUANT_F16,
                               .passes = PASS_ALL};
            assert_int_equal(gguf_open(&file, path, &e), OK);
            restore_sigbus();
            do_harm(path, how);
            assert_int_equal(cpu_backend_open(&b, &opt, &e), OK);
            assert_int_equal(exec_open(&x, file, &eo, &b, 1, NULL, NULL, &e), ERR_FILE_CHANGED);
            assert_null(x);
            gguf_close(file);
            unlink(path);
        }
}

/* --- misuse ------------------------------------------------------------------------------------------------------------ */

static void test_too_large_a_step(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_F32);
    tiny_gguf_write(&shape, path);
    setting set = plain();
    set.max_tok = 8;
    rig r;
    batch t;
    err e;
    uint32_t pages[2] = {0, 1};
    rig_open(&r, path, set);
    batch_start(&t);
    assert_int_equal(exec_step(r.x, &t.b, &e), ERR_INTERNAL);
    batch_add(&t, 0, pages, 0, 9, false);
    assert_int_equal(exec_step(r.x, &t.b, &e), ERR_INTERNAL);
    rig_close(&r);
    unlink(path);
}

/* The process's first open installs the SIGBUS handler; cmocka hides it while a test runs. */
static void set_up_sigbus(void) {
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_F32);
    gguf *g;
    tiny_gguf_write(&shape, path);
    if (gguf_open(&g, path, NULL) == OK) gguf_close(g);
    remember_sigbus();
    unlink(path);
}

int main(void) {
    const struct CMUnitTest threaded[] = {
        cmocka_unit_test(test_chunk_sizes),
        cmocka_unit_test(test_two_backends),
        cmocka_unit_test(test_a_step_allocates_nothing),
        cmocka_unit_test(test_file_changes),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunk_sizes),
        cmocka_unit_test(test_weight_types),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_cache_types),
        cmocka_unit_test(test_head_groups),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_passes),
        cmocka_unit_test(test_two_backends),
        cmocka_unit_test(test_two_backends_without_output),
        cmocka_unit_test(test_survives_oom),
        cmocka_unit_test(test_a_step_allocates_nothing),
        cmocka_unit_test(test_numbers_that_are_not_finite),
        cmocka_unit_test(test_file_changes),
        cmocka_unit_test(test_file_changes_before_load),
        cmocka_unit_test(test_too_large_a_step),
    };
    set_up_sigbus();
    if (check_thread_sanitized()) return cmocka_run_group_tests_name("exec", threaded, NULL, NULL);
    return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}
