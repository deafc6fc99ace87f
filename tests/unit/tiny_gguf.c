#include "check.h"

#include "tiny_gguf.h"

#include "base/rng.h"
#include "base/str.h"
#include "gguf/gguf.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_TENSORS = 128, ALIGNMENT = 32 };

typedef struct {
    char name[64];
    uint64_t dim[3];
    quant_type type;
    float centre; /* 1: a norm */
} tensor;

typedef struct {
    const tiny_shape *s;
    strbuf out;
    tensor tensors[MAX_TENSORS];
    uint32_t n_tensors, n_keys;
    uint64_t rng_at;
} writer;

tiny_shape tiny_shape_of(const char *arch, quant_type type) {
    bool wide = quant_lookup(type)->block_elems == 256;
    return (tiny_shape){.arch = arch,
                        .n_layer = 2,
                        .d_model = wide ? 256 : 64,
                        .n_head = 4,
                        .n_kv_head = 2,
                        .d_head = wide ? 64 : 32,
                        .d_ff = wide ? 256 : 96,
                        .type = type,
                        .type_v = type,
                        .seed = 1};
}

/* --- header ------------------------------------------------------------------------------------------------------------ */

static void put(writer *w, const void *p, size_t n) { strbuf_add(&w->out, p, n); }
static void put_u32(writer *w, uint32_t v) { put(w, &v, sizeof v); }
static void put_u64(writer *w, uint64_t v) { put(w, &v, sizeof v); }
static void put_text(writer *w, const char *z) {
    put_u64(w, strlen(z));
    put(w, z, strlen(z));
}

static void key(writer *w, const char *name, gguf_type type) {
    put_text(w, name);
    put_u32(w, type);
    w->n_keys++;
}

static void arch_key(writer *w, const char *suffix, gguf_type type) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", w->s->arch, suffix);
    key(w, name, type);
}

static void arch_u32(writer *w, const char *suffix, uint32_t v) {
    arch_key(w, suffix, GGUF_U32);
    put_u32(w, v);
}

static void key_array(writer *w, const char *name, gguf_type of) {
    key(w, name, GGUF_ARRAY);
    put_u32(w, of);
    put_u64(w, TINY_VOCAB);
}

static void put_vocabulary(writer *w) {
    static const char *const special[] = {"<unk>", "<s>", "</s>", "\xe2\x96\x81", "ab", " t"};
    enum { N_SPECIAL = sizeof special / sizeof special[0] };
    key(w, "tokenizer.ggml.model", GGUF_STRING);
    put_text(w, "llama");
    key_array(w, "tokenizer.ggml.tokens", GGUF_STRING);
    for (uint32_t i = 0; i < TINY_VOCAB; i++)
        put_text(w, i < N_SPECIAL ? special[i] : (char[2]){(char)('!' + i - N_SPECIAL), 0});
    key_array(w, "tokenizer.ggml.scores", GGUF_F32);
    for (uint32_t i = 0; i < TINY_VOCAB; i++) put(w, &(float){-(float)i}, 4);
    key_array(w, "tokenizer.ggml.token_type", GGUF_I32);
    for (uint32_t i = 0; i < TINY_VOCAB; i++) put_u32(w, i == 0 ? 2 : i < TINY_FIRST_TEXT ? 3 : 1);
    key(w, "tokenizer.ggml.bos_token_id", GGUF_U32);
    put_u32(w, TINY_BOS);
    key(w, "tokenizer.ggml.eos_token_id", GGUF_U32);
    put_u32(w, TINY_EOS);
}

static void put_keys(writer *w) {
    const tiny_shape *s = w->s;
    key(w, "general.architecture", GGUF_STRING);
    put_text(w, s->arch);
    arch_u32(w, "context_length", 4096);
    arch_u32(w, "embedding_length", s->d_model);
    arch_u32(w, "block_count", s->n_layer);
    arch_u32(w, "feed_forward_length", s->d_ff);
    arch_u32(w, "attention.head_count", s->n_head);
    arch_u32(w, "attention.head_count_kv", s->n_kv_head);
    arch_u32(w, "attention.key_length", s->d_head);
    arch_u32(w, "attention.value_length", s->d_head);
    arch_key(w, "attention.layer_norm_rms_epsilon", GGUF_F32);
    put(w, &(float){1e-5f}, 4);
    if (s->n_expert) {
        arch_u32(w, "expert_count", s->n_expert);
        arch_u32(w, "expert_used_count", s->n_used);
    }
    if (s->window) {
        arch_u32(w, "attention.sliding_window", s->window);
        arch_u32(w, "attention.sliding_window_pattern", s->n_layer);
    }
    put_vocabulary(w);
}

/* --- tensors ----------------------------------------------------------------------------------------------------------- */

static void add(writer *w, const char *name, quant_type type, float centre, uint64_t d0, uint64_t d1, uint64_t d2) {
    assert_true(w->n_tensors < MAX_TENSORS);
    tensor *t = &w->tensors[w->n_tensors++];
    *t = (tensor){.dim = {d0, d1, d2}, .type = type, .centre = centre};
    snprintf(t->name, sizeof t->name, "%s.weight", name);
}

static void add_in_layer(writer *w, uint32_t il, const char *what, quant_type type, uint64_t d0, uint64_t d1,
                         uint64_t d2) {
    char name[48];
    snprintf(name, sizeof name, "blk.%u.%s", il, what);
    add(w, name, type, d1 ? 0.0f : 1.0f, d0, d1 ? d1 : 1, d2); /* d1 0: a norm */
}

static void add_layer(writer *w, uint32_t il) {
    const tiny_shape *s = w->s;
    uint64_t d = s->d_model, dq = (uint64_t)s->n_head * s->d_head, dkv = (uint64_t)s->n_kv_head * s->d_head,
             ff = s->d_ff;
    add_in_layer(w, il, "attn_norm", QUANT_F32, d, 0, 1);
    add_in_layer(w, il, "attn_q", s->type, d, dq, 1);
    add_in_layer(w, il, "attn_k", s->type, d, dkv, 1);
    add_in_layer(w, il, "attn_v", s->type_v, d, dkv, 1);
    add_in_layer(w, il, "attn_output", s->type, dq, d, 1);
    add_in_layer(w, il, "ffn_norm", QUANT_F32, d, 0, 1);
    bool gemma = strcmp(s->arch, "gemma3") == 0;
    if (gemma || strcmp(s->arch, "qwen3") == 0) {
        add_in_layer(w, il, "attn_q_norm", QUANT_F32, s->d_head, 0, 1);
        add_in_layer(w, il, "attn_k_norm", QUANT_F32, s->d_head, 0, 1);
    }
    if (gemma) {
        add_in_layer(w, il, "post_attention_norm", QUANT_F32, d, 0, 1);
        add_in_layer(w, il, "post_ffw_norm", QUANT_F32, d, 0, 1);
    }
    uint64_t n = s->n_expert ? s->n_expert : 1;
    if (s->n_expert) add_in_layer(w, il, "ffn_gate_inp", QUANT_F32, d, n, 1);
    add_in_layer(w, il, s->n_expert ? "ffn_gate_exps" : "ffn_gate", s->type, d, ff, n);
    add_in_layer(w, il, s->n_expert ? "ffn_up_exps" : "ffn_up", s->type, d, ff, n);
    add_in_layer(w, il, s->n_expert ? "ffn_down_exps" : "ffn_down", s->type, ff, d, n);
}

/* Where the f16 scales of a block stand, and what they are for weights of about +-1 under random codes. */
typedef struct {
    int d_at, m_at;
    float d, m;
} block_scale;

static block_scale scale_of(quant_type t) {
    switch (t) {
    case QUANT_Q4_0: return (block_scale){0, -1, 1.0f / 8, 0};
    case QUANT_Q4_1: return (block_scale){0, 2, 2.0f / 15, -1};
    case QUANT_Q5_0: return (block_scale){0, -1, 1.0f / 16, 0};
    case QUANT_Q5_1: return (block_scale){0, 2, 2.0f / 31, -1};
    case QUANT_Q8_0: return (block_scale){0, -1, 1.0f / 127, 0};
    case QUANT_Q2_K: return (block_scale){80, 82, 1.0f / 15, 1.5f / 15};
    case QUANT_Q3_K: return (block_scale){108, -1, 1.0f / 64, 0};
    case QUANT_Q4_K: return (block_scale){0, 2, 1.0f / 236, 1.0f / 31};
    case QUANT_Q5_K: return (block_scale){0, 2, 1.0f / 488, 1.0f / 31};
    case QUANT_Q6_K: return (block_scale){208, -1, 1.0f / 2000, 0};
    default: fail_msg("tiny_gguf writes no %s", quant_lookup(t)->name); return (block_scale){0};
    }
}

static void put_f16(uint8_t *at, float f) { memcpy(at, &(uint16_t){f32_to_f16(f)}, 2); }

static void put_blocks(writer *w, const tensor *t, uint64_t n_blocks, float amplitude) {
    const quant_info *q = quant_lookup(t->type);
    block_scale s = scale_of(t->type);
    uint8_t block[512];
    for (uint64_t b = 0; b < n_blocks; b++) {
        for (uint32_t i = 0; i < q->block_bytes; i += 8)
            memcpy(block + i, &(uint64_t){rng_u64(w->s->seed, w->rng_at++)}, 8);
        float vary = (float)(0.5 + rng_unit(w->s->seed, w->rng_at++)) * amplitude;
        put_f16(block + s.d_at, s.d * vary);
        if (s.m_at >= 0) put_f16(block + s.m_at, s.m * vary);
        put(w, block, q->block_bytes);
    }
}

static void put_floats(writer *w, const tensor *t, uint64_t n, float amplitude) {
    for (uint64_t i = 0; i < n; i++) {
        float f = (float)(rng_unit(w->s->seed, w->rng_at++) * 2 - 1) * amplitude + t->centre;
        uint32_t bits;
        memcpy(&bits, &f, 4);
        uint16_t half = t->type == QUANT_BF16 ? (uint16_t)(bits >> 16) : f32_to_f16(f);
        if (t->type == QUANT_F32)
            put(w, &f, 4);
        else
            put(w, &half, 2);
    }
}

static uint64_t elems_of(const tensor *t) { return t->dim[0] * t->dim[1] * t->dim[2]; }

static uint64_t bytes_of(const tensor *t) {
    const quant_info *q = quant_lookup(t->type);
    return elems_of(t) / q->block_elems * q->block_bytes;
}

static uint64_t aligned(uint64_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static void put_infos(writer *w) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < w->n_tensors; i++) {
        const tensor *t = &w->tensors[i];
        put_text(w, t->name);
        uint32_t n_dims = t->dim[2] > 1 ? 3 : t->dim[1] > 1 ? 2 : 1;
        put_u32(w, n_dims);
        for (uint32_t k = 0; k < n_dims; k++) put_u64(w, t->dim[k]);
        put_u32(w, t->type);
        put_u64(w, at);
        at = aligned(at + bytes_of(t));
    }
}

static void pad(writer *w) {
    static const char zeros[ALIGNMENT];
    put(w, zeros, aligned(w->out.n) - w->out.n);
}

static void put_data(writer *w) {
    for (uint32_t i = 0; i < w->n_tensors; i++) {
        const tensor *t = &w->tensors[i];
        pad(w);
        bool embedding = strcmp(t->name, "token_embd.weight") == 0;
        float amplitude = t->centre != 0.0f ? 0.2f : embedding ? 1.0f : 2.0f / sqrtf((float)t->dim[0]);
        uint32_t per_block = quant_lookup(t->type)->block_elems;
        if (per_block == 1)
            put_floats(w, t, elems_of(t), amplitude);
        else
            put_blocks(w, t, elems_of(t) / per_block, amplitude);
    }
    pad(w);
}

/* --- files ------------------------------------------------------------------------------------------------------------- */

void tiny_gguf_write(const tiny_shape *shape, char path[TINY_PATH]) {
    writer *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->s = shape;
    add(w, "token_embd", shape->type, 0.0f, shape->d_model, TINY_VOCAB, 1);
    for (uint32_t i = 0; i < shape->n_layer; i++) add_layer(w, i);
    add(w, "output_norm", QUANT_F32, 1.0f, shape->d_model, 1, 1);
    if (strcmp(shape->arch, "gemma3") != 0) add(w, "output", shape->type, 0.0f, shape->d_model, TINY_VOCAB, 1);
    put(w, "GGUF", 4);
    put_u32(w, 3);
    put_u64(w, w->n_tensors);
    size_t n_keys_at = w->out.n;
    put_u64(w, 0);
    put_keys(w);
    memcpy(w->out.p + n_keys_at, &(uint64_t){w->n_keys}, 8);
    put_infos(w);
    put_data(w);
    const char *folder = getenv("TMPDIR");
    snprintf(path, TINY_PATH, "%s/tiny_gguf_XXXXXX", folder && *folder ? folder : "/tmp");
    int fd = mkstemp(path);
    assert_true(fd >= 0 && !w->out.failed);
    assert_int_equal(write(fd, w->out.p, w->out.n), (ssize_t)w->out.n);
    close(fd);
    strbuf_free(&w->out);
    free(w);
}

void tiny_gguf_poke(const char *path, const char *tensor_name, size_t at, const void *bytes, size_t n_bytes) {
    gguf *g;
    assert_int_equal(gguf_open(&g, path, NULL), OK);
    const gguf_tensor *t = gguf_tensor_find(g, tensor_name);
    assert_non_null(t);
    assert_true(at + n_bytes <= t->n_bytes);
    off_t offset = (off_t)(t->data - file_map_data(t->file)) + (off_t)at;
    gguf_close(g);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, bytes, n_bytes, offset), (ssize_t)n_bytes);
    close(fd);
}

void tiny_gguf_touch(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    struct timespec t[2] = {st.st_atim, {st.st_mtim.tv_sec + 1, st.st_mtim.tv_nsec}};
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}
