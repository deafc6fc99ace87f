#include "model/hparams.h"

#include "base/mem.h"
#include "model/model_build.h"

#include <inttypes.h>
#include <math.h>

enum {
    MAX_D_MODEL = 1 << 20,
    MAX_D_HEAD = 1 << 14,
    MAX_D_FF = 1 << 22,
    MAX_VOCAB = 1 << 21,
    MAX_HEADS_WIDTH = 1 << 22 /* heads times head size: fits every 32-bit width with room to spare */
};

/* --- what the model is called ------------------------------------------------------------------------------------------ */

static const char *const file_types[] = {
    /* general.file_type, as ggml numbers them; NULL: never used or removed */
    [0] = "F32",     [1] = "F16",     [2] = "Q4_0",       [3] = "Q4_1",    [7] = "Q8_0",     [8] = "Q5_0",
    [9] = "Q5_1",    [10] = "Q2_K",   [11] = "Q3_K_S",    [12] = "Q3_K_M", [13] = "Q3_K_L",  [14] = "Q4_K_S",
    [15] = "Q4_K_M", [16] = "Q5_K_S", [17] = "Q5_K_M",    [18] = "Q6_K",   [19] = "IQ2_XXS", [20] = "IQ2_XS",
    [21] = "Q2_K_S", [22] = "IQ3_XS", [23] = "IQ3_XXS",   [24] = "IQ1_S",  [25] = "IQ4_NL",  [26] = "IQ3_S",
    [27] = "IQ3_M",  [28] = "IQ2_S",  [29] = "IQ2_M",     [30] = "IQ4_XS", [31] = "IQ1_M",   [32] = "BF16",
    [36] = "TQ1_0",  [37] = "TQ2_0",  [38] = "MXFP4_MOE", [39] = "NVFP4",  [40] = "Q1_0",    [41] = "Q2_0",
};
enum { N_FILE_TYPES = sizeof file_types / sizeof file_types[0] };

/* Adds up the tensors; returns the type that most of the bytes have. */
static quant_type count_tensors(model_info *m, const gguf *g) {
    uint64_t bytes[QUANT_COUNT] = {0};
    quant_type most = QUANT_F32;
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        m->n_params += t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3]; /* below 2^63: gguf checked their sum of bytes */
        m->weight_bytes += t->n_bytes;
        bytes[t->type] += t->n_bytes;
        if (bytes[t->type] > bytes[most]) most = t->type;
    }
    return most;
}

static status read_names(model_info *m, const gguf *g, err *e) {
    str template = {0};
    uint32_t type = UINT32_MAX;
    status s = gguf_get_str(g, "general.name", &m->name, e);
    if (!s) s = gguf_get_str(g, "general.size_label", &m->size_label, e);
    if (!s) s = gguf_get_str(g, "tokenizer.chat_template", &template, e);
    if (!s) s = gguf_get_u32(g, "general.file_type", &type, e);
    m->has_chat_template = template.n > 0;
    quant_type most = count_tensors(m, g);
    m->file_type = type < N_FILE_TYPES ? file_types[type] : NULL;
    if (!m->file_type) m->file_type = quant_lookup((uint32_t)most)->name;
    return s;
}

static status sampling_f32(const gguf *g, const char *key, unsigned bit, float *out, model_sampling *p, err *e) {
    if (!gguf_find(g, key)) return OK;
    p->set |= bit;
    return gguf_get_f32(g, key, out, e);
}

static status sampling_i32(const gguf *g, const char *key, unsigned bit, int32_t *out, model_sampling *p, err *e) {
    const gguf_kv *kv = gguf_find(g, key);
    if (!kv) return OK;
    uint64_t v = 0;
    if (kv->type != GGUF_I32 && kv->type != GGUF_I64) { /* those may be -1; gguf_get_u64 would refuse that */
        status s = gguf_get_u64(g, key, &v, e);
        if (s) return s;
    } else {
        v = gguf_array_uint(kv, 0);
    }
    if ((int64_t)v < INT32_MIN || (int64_t)v > INT32_MAX)
        return fail(e, ERR_MODEL_KEY, "key %s is %" PRId64 ", outside 32 bits", key, (int64_t)v);
    *out = (int32_t)v;
    p->set |= bit;
    return OK;
}

static status read_sampling(model_sampling *p, const gguf *g, err *e) {
    status s = sampling_f32(g, "general.sampling.temp", MODEL_SAMPLING_TEMPERATURE, &p->temperature, p, e);
    if (!s) s = sampling_f32(g, "general.sampling.top_p", MODEL_SAMPLING_TOP_P, &p->top_p, p, e);
    if (!s) s = sampling_f32(g, "general.sampling.min_p", MODEL_SAMPLING_MIN_P, &p->min_p, p, e);
    if (!s)
        s = sampling_f32(g, "general.sampling.penalty_repeat", MODEL_SAMPLING_REPEAT_PENALTY, &p->repeat_penalty, p, e);
    if (!s) s = sampling_i32(g, "general.sampling.top_k", MODEL_SAMPLING_TOP_K, &p->top_k, p, e);
    if (!s)
        s = sampling_i32(g, "general.sampling.penalty_last_n", MODEL_SAMPLING_REPEAT_LAST_N, &p->repeat_last_n, p, e);
    return s;
}

/* --- sizes ------------------------------------------------------------------------------------------------------------- */

/* The vocabulary is as long as tokenizer.ggml.tokens; without one, as <arch>.vocab_size says; the embedding must agree.
 * vocab_size beside a token list is not compared: files with added tokens often have the older number there. */
static status read_vocab(model_info *m, const keys *k) {
    const gguf_tensor *embed = gguf_tensor_find(k->g, "token_embd.weight");
    if (!embed) return fail(k->e, ERR_MODEL_TENSOR, "tensor token_embd.weight is missing");
    uint64_t n = embed->dim[1];
    const char *from = "tensor token_embd.weight";
    uint32_t said = 0;
    status s = keys_u32(k, "vocab_size", 1, MAX_VOCAB, &said);
    if (s) return s;
    const gguf_kv *tokens = gguf_find(k->g, "tokenizer.ggml.tokens");
    if (tokens && tokens->type == GGUF_ARRAY) {
        n = tokens->n;
        from = "key tokenizer.ggml.tokens";
    } else if (said) {
        n = said;
        from = "key vocab_size";
    }
    if (n < 1 || n > MAX_VOCAB)
        return fail(k->e, ERR_MODEL_KEY, "%s gives a vocabulary of %" PRIu64 ", outside 1 to %d", from, n, MAX_VOCAB);
    if (n != embed->dim[1])
        return fail(k->e, ERR_MODEL_KEY, "%s gives %" PRIu64 " tokens, tensor token_embd.weight has %" PRIu64, from, n,
                    embed->dim[1]);
    m->n_vocab = (uint32_t)n;
    return OK;
}

static status read_experts(model_info *m, const keys *k) {
    status s = keys_u32(k, "expert_count", 0, MODEL_MAX_EXPERTS, &m->n_expert);
    uint32_t most = m->n_expert < GRAPH_MAX_USED_EXPERTS ? m->n_expert : GRAPH_MAX_USED_EXPERTS;
    if (!s && m->n_expert) s = keys_need_u32(k, "expert_used_count", 1, most, &m->n_expert_used);
    if (!s && !m->n_expert) s = keys_u32(k, "expert_used_count", 0, 0, &m->n_expert_used);
    m->expert_weights_scale = 1.0f;
    return s;
}

static status read_pooling(model_info *m, const keys *k) {
    uint32_t type = MODEL_POOLING_NONE;
    status s = keys_u32(k, "pooling_type", MODEL_POOLING_NONE, MODEL_POOLING_RANK, &type);
    m->pooling = (model_pooling)type;
    m->encoder = m->arch->encoder;
    bool causal = !m->encoder;
    key_name name = keys_name(k, "attention.causal");
    if (!s) s = gguf_get_bool(k->g, name.text, &causal, k->e);
    if (s || causal == !m->encoder) return s;
    return fail(k->e, ERR_MODEL_KEY, "key %s is %s, which architecture %s is not built for", name.text,
                causal ? "true" : "false", m->arch_name);
}

/* As wide as the last matrix of the rank head. */
static void read_scores(model_info *m, const keys *k) {
    const gguf_tensor *head = gguf_tensor_find(k->g, "cls.output.weight");
    if (!head) head = gguf_tensor_find(k->g, "cls.weight");
    if (head && head->dim[1] <= MAX_D_MODEL) m->n_scores = (uint32_t)head->dim[1];
}

static status read_sizes(model_info *m, const keys *k) {
    status s = keys_need_u32(k, "block_count", 1, MODEL_MAX_LAYERS, &m->n_layer);
    if (!s) s = keys_need_u32(k, "context_length", 1, INT32_MAX, &m->context_train);
    if (!s) s = keys_need_u32(k, "embedding_length", 1, MAX_D_MODEL, &m->d_model);
    const char *eps = m->arch->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    if (!s) s = keys_need_f32(k, eps, 0.0f, 1.0f, &m->norm_eps);
    if (!s) s = read_vocab(m, k);
    if (!s) s = read_experts(m, k);
    if (!s) s = read_pooling(m, k);
    read_scores(m, k);
    m->tied_output = !gguf_tensor_find(k->g, "output.weight");
    return s;
}

/* --- layers ------------------------------------------------------------------------------------------------------------ */

static status head_size(const model_info *m, const keys *k, const char *suffix, uint32_t *out) {
    uint32_t n_head = m->layer[0].n_head;
    if (keys_has(k, suffix)) return keys_u32(k, suffix, 1, MAX_D_HEAD, out);
    if (m->d_model % n_head)
        return fail(k->e, ERR_MODEL_KEY, "key %s is missing and embedding_length %u is no multiple of head_count %u",
                    keys_name(k, suffix).text, m->d_model, n_head);
    *out = m->d_model / n_head;
    if (*out <= MAX_D_HEAD) return OK;
    return fail(k->e, ERR_MODEL_KEY, "embedding_length %u and head_count %u give heads of %u, above %d", m->d_model,
                n_head, *out, MAX_D_HEAD);
}

static status read_layer_heads(model_info *m, const keys *k, uint32_t il) {
    model_layer *l = &m->layer[il];
    uint32_t n = m->n_layer;
    if (!keys_has(k, "attention.head_count")) return keys_need_u32(k, "attention.head_count", 1, 1, &l->n_head);
    if (!keys_has(k, "feed_forward_length")) return keys_need_u32(k, "feed_forward_length", 1, 1, &l->d_ff);
    status s = keys_layer_u32(k, "attention.head_count", n, il, 1, MODEL_MAX_HEADS, &l->n_head);
    l->n_kv_head = l->n_head;
    if (!s) s = keys_layer_u32(k, "attention.head_count_kv", n, il, 1, MODEL_MAX_HEADS, &l->n_kv_head);
    if (!s) s = keys_layer_u32(k, "feed_forward_length", n, il, 1, MAX_D_FF, &l->d_ff);
    if (s) return s;
    if (l->n_head % l->n_kv_head)
        return fail(k->e, ERR_MODEL_KEY, "layer %u: head_count %u is no multiple of head_count_kv %u", il, l->n_head,
                    l->n_kv_head);
    if (l->n_head > m->n_head) m->n_head = l->n_head;
    return OK;
}

static status read_layers(model_info *m, const keys *k) {
    uint32_t d_k = 0, d_v = 0;
    m->layer = mem_array(m->n_layer, sizeof *m->layer);
    if (!m->layer) return fail(k->e, ERR_NOMEM, "layer table");
    status s = OK;
    for (uint32_t il = 0; !s && il < m->n_layer; il++) s = read_layer_heads(m, k, il);
    if (!s) s = head_size(m, k, "attention.key_length", &d_k);
    if (!s) s = head_size(m, k, "attention.value_length", &d_v);
    if (s) return s;
    if ((uint64_t)m->n_head * (d_k > d_v ? d_k : d_v) > MAX_HEADS_WIDTH)
        return fail(k->e, ERR_MODEL_KEY, "%u heads of %u and %u values are too wide", m->n_head, d_k, d_v);
    bool alike = true;
    for (uint32_t il = 0; il < m->n_layer; il++) {
        m->layer[il].d_k = d_k;
        m->layer[il].d_v = d_v;
        m->layer[il].ahead = m->encoder ? ATTN_SEES_ALL : 0;
        alike = alike && m->layer[il].n_kv_head == m->layer[0].n_kv_head;
    }
    m->n_kv_layers = m->encoder && alike ? 1 : m->n_layer;
    return OK;
}

/* --- rope -------------------------------------------------------------------------------------------------------------- */

static status scaling_type(const keys *k, const char **out) {
    static const char *const known[] = {"none", "linear", "yarn"};
    str type = str_of("linear");
    key_name name = keys_name(k, "rope.scaling.type");
    status s = gguf_get_str(k->g, name.text, &type, k->e);
    if (s) return s;
    for (size_t i = 0; i < 3; i++) {
        *out = known[i];
        if (str_is(type, known[i])) return OK;
    }
    return fail(k->e, ERR_MODEL_KEY, "key %s is %.*s, which is not built in (built in: none, linear, yarn)", name.text,
                STR(type));
}

/* YaRN scales attention by 1 + 0.1 ln(factor), and the rope op does that when ext_factor is on. For factors below 1 the
 * paper's rule is no scale at all, so the op's must be divided out. */
static void set_yarn(model_rope *r, float factor) {
    float op_scale = 1.0f + 0.1f * logf(factor);
    float wanted = factor <= 1.0f ? 1.0f : op_scale;
    r->ext_factor = 1.0f;
    r->attn_factor *= wanted * (1.0f / op_scale);
}

static status read_rope(model_info *m, const keys *k) {
    model_rope *r = &m->rope;
    float factor = 0.0f; /* 0 and absent both mean: not scaled */
    uint32_t d_k = m->layer[0].d_k;
    *r = (model_rope){.n_rot = d_k,
                      .orig_ctx = m->context_train,
                      .neox = m->arch->neox,
                      .base = 10000.0f,
                      .freq_scale = 1.0f,
                      .attn_factor = 1.0f,
                      .beta_fast = 32.0f,
                      .beta_slow = 1.0f};
    status s = keys_u32(k, "rope.dimension_count", 2, d_k, &r->n_rot);
    if (!s) s = keys_f32(k, "rope.freq_base", 1.0f, 1e15f, &r->base);
    if (!s) s = scaling_type(k, &r->scaling);
    const char *factor_key = keys_has(k, "rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
    if (!s) s = keys_f32(k, factor_key, 0.0f, 1e6f, &factor);
    if (!s) s = keys_u32(k, "rope.scaling.original_context_length", 1, INT32_MAX, &r->orig_ctx);
    if (!s) s = keys_f32(k, "rope.scaling.attn_factor", 1e-6f, 1e6f, &r->attn_factor);
    if (s) return s;
    if (r->n_rot % 2)
        return fail(k->e, ERR_MODEL_KEY, "%s is %u: rope turns pairs, so it must be even",
                    keys_has(k, "rope.dimension_count") ? keys_name(k, "rope.dimension_count").text : "the head size",
                    r->n_rot);
    if (factor != 0.0f && factor < 1e-3f)
        return fail(k->e, ERR_MODEL_KEY, "key %s is %g, outside 0.001 to 1e6", keys_name(k, factor_key).text,
                    (double)factor);
    bool plain = str_is(str_of(r->scaling), "none");
    if (factor != 0.0f && !plain) r->freq_scale = 1.0f / factor;
    if (str_is(str_of(r->scaling), "yarn"))
        set_yarn(r, 1.0f / r->freq_scale);
    else if (r->freq_scale == 1.0f)
        r->scaling = "none";
    return OK;
}

static void widest_window(model_info *m) {
    for (uint32_t il = 0; il < m->n_layer; il++)
        if (m->layer[il].window > m->window) m->window = m->layer[il].window;
}

status hparams_read(model_info *m, const gguf *g, err *e) {
    keys k = {.g = g, .arch = m->arch->name, .e = e};
    m->arch_name = m->arch->name;
    status s = read_names(m, g, e);
    if (!s) s = read_sizes(m, &k);
    if (!s) s = read_layers(m, &k);
    if (!s) s = read_rope(m, &k);
    if (!s) s = read_sampling(&m->sampling, g, e);
    if (!s && m->arch->read) s = m->arch->read(m, &k);
    if (!s) widest_window(m);
    return s;
}
