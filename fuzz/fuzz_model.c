/* Hyperparameters and tensors of a model: a small right file, changed at a few places. The input is a list of changes, three
 * bytes each: place (u16) in the header, new value. Whatever comes out is refused with a reason or becomes a graph that
 * verifies, and nothing leaks. */
#include "base/mem.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t file[1 << 16];
static size_t header_bytes, file_bytes;

/* --- a writer of GGUF, as little as it takes --------------------------------------------------------------------------- */

static void put(const void *p, size_t n) {
    if (n > sizeof file - file_bytes) abort();
    memcpy(file + file_bytes, p, n);
    file_bytes += n;
}

static void put_u32(uint32_t v) { put(&v, 4); }
static void put_u64(uint64_t v) { put(&v, 8); }

static void put_str(const char *z) {
    put_u64(strlen(z));
    put(z, strlen(z));
}

static void key_u32(const char *key, uint32_t v) {
    put_str(key);
    put_u32(GGUF_U32);
    put_u32(v);
}

static void key_str(const char *key, const char *v) {
    put_str(key);
    put_u32(GGUF_STRING);
    put_str(v);
}

static void key_f32(const char *key, float v) {
    put_str(key);
    put_u32(GGUF_F32);
    put(&v, 4);
}

static void key_array(const char *key, uint32_t a, uint32_t b) {
    put_str(key);
    put_u32(GGUF_ARRAY);
    put_u32(GGUF_U32);
    put_u64(2);
    put_u32(a);
    put_u32(b);
}

static void tensor(const char *name, uint32_t d0, uint32_t d1, uint64_t *at) {
    put_str(name);
    put_u32(d1 ? 2 : 1);
    put_u64(d0);
    if (d1) put_u64(d1);
    put_u32(QUANT_F32);
    put_u64(*at);
    *at += ((uint64_t)d0 * (d1 ? d1 : 1) * 4 + 31) / 32 * 32;
}

enum { N_KEYS = 15, N_TENSORS = 3 + 2 * 11, D = 8, D_FF = 8, N_VOCAB = 4 };

static void put_layer(unsigned il, uint64_t *at) {
    static const struct {
        const char *name;
        uint32_t d0, d1;
    } part[] = {{"attn_norm", D, 0},   {"attn_q", D, D},      {"attn_k", D, D / 2},  {"attn_v", D, D / 2},
                {"attn_output", D, D}, {"attn_q_norm", 4, 0}, {"attn_k_norm", 4, 0}, {"ffn_norm", D, 0},
                {"ffn_gate", D, D_FF}, {"ffn_up", D, D_FF},   {"ffn_down", D_FF, D}};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        char name[40];
        snprintf(name, sizeof name, "blk.%u.%s.weight", il, part[i].name);
        tensor(name, part[i].d0, part[i].d1, at);
    }
}

/* A qwen3 of two layers: two heads of 4 over one kv head. */
static void make_file(void) {
    uint64_t at = 0;
    put("GGUF", 4);
    put_u32(3);
    put_u64(N_TENSORS);
    put_u64(N_KEYS);
    key_str("general.architecture", "qwen3");
    key_str("general.name", "n");
    key_u32("general.file_type", 0);
    key_f32("general.sampling.temp", 0.5f);
    key_u32("qwen3.block_count", 2);
    key_u32("qwen3.context_length", 64);
    key_u32("qwen3.embedding_length", D);
    key_array("qwen3.feed_forward_length", D_FF, D_FF);
    key_array("qwen3.attention.head_count", 2, 2);
    key_u32("qwen3.attention.head_count_kv", 1);
    key_u32("qwen3.attention.key_length", 4);
    key_f32("qwen3.attention.layer_norm_rms_epsilon", 1e-5f);
    key_u32("qwen3.rope.dimension_count", 4);
    key_str("qwen3.rope.scaling.type", "yarn");
    key_f32("qwen3.rope.scaling.factor", 4.0f);
    tensor("token_embd.weight", D, N_VOCAB, &at);
    tensor("output_norm.weight", D, 0, &at);
    tensor("output.weight", D, N_VOCAB, &at);
    for (unsigned il = 0; il < 2; il++) put_layer(il, &at);
    header_bytes = file_bytes;
    file_bytes = (file_bytes + 31) / 32 * 32 + at;
    if (file_bytes > sizeof file) abort();
}

static status load(const char *path, bool *built, err *e) {
    gguf *g = NULL;
    model_info m = {0};
    graph gr;
    graph_init(&gr, e);
    status s = gguf_open(&g, path, e);
    if (!s) s = model_info_read(&m, g, e);
    *built = !s;
    if (!s) s = model_build(&gr, &m, g, e);
    graph_free(&gr);
    model_info_free(&m);
    gguf_close(g);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[40];
    static uint8_t changed[sizeof file];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        make_file();
    }
    memcpy(changed, file, file_bytes);
    for (size_t i = 0; i + 3 <= size; i += 3)
        changed[((size_t)data[i] << 8 | data[i + 1]) % header_bytes] = data[i + 2];
    if (ftruncate(fd, 0) || pwrite(fd, changed, file_bytes, 0) != (ssize_t)file_bytes) abort();
    uint64_t live = mem_live();
    bool built;
    err e = {0};
    status s = load(path, &built, &e);
    if (size < 3 && s) abort();                                                     /* the file itself is right */
    if (s && (built || !e.text[0] || s == ERR_INTERNAL || s == ERR_GRAPH)) abort(); /* a bad file is the file's fault */
    if (mem_live() != live) abort();
    return 0;
}
