/* The decoders: llama (Llama 1 to 3, Mistral, Mixtral, SmolLM2), qwen2, qwen3, gemma3. Classes and tensor names are
 * transformers'; what the GGUF side wants of each stands in src/model/arch_*.c. */
#include "convert/archs.h"

const hf_arch *const hf_archs[] = {
    &hf_llama,      &hf_qwen2,     &hf_qwen3,       &hf_gemma3,          &hf_gemma_embedding,    &hf_bert, &hf_roberta,
    &hf_nomic_bert, &hf_jina_bert, &hf_modern_bert, &hf_bert_classifier, &hf_roberta_classifier, NULL};

static const hf_name shared[] = {
    {"embed_tokens", "token_embd", 0},
    {"norm", "output_norm", 0},
    {"lm_head", "output", 0},
    {"layers.*.self_attn.v_proj", "blk.*.attn_v", 0},
    {"layers.*.self_attn.o_proj", "blk.*.attn_output", 0},
    {"layers.*.self_attn.rotary_emb.inv_freq", NULL, 0},
    {"layers.*.mlp.gate_proj", "blk.*.ffn_gate", 0},
    {"layers.*.mlp.up_proj", "blk.*.ffn_up", 0},
    {"layers.*.mlp.down_proj", "blk.*.ffn_down", 0},
    {"layers.*.input_layernorm", "blk.*.attn_norm", 0},
    {"layers.*.post_attention_layernorm", "blk.*.ffn_norm", 0},
    {0},
};

static void put_heads(const hf_config *c, gguf_writer *w) {
    hf_put_u32(c, w, "attention.key_length", c->d_head);
    hf_put_u32(c, w, "attention.value_length", c->d_head);
}

/* A window that the engine does not keep: the same numbers up to it, others beyond. */
static status warn_of_window(const hf_config *c, hf_warnings *warnings, err *e) {
    uint32_t window = 0, context = UINT32_MAX;
    status s = hf_config_u32(c, "sliding_window", 0, INT32_MAX, &window, e);
    if (!s) s = hf_config_u32(c, "max_position_embeddings", 1, INT32_MAX, &context, e);
    if (!s && window && window < context)
        hf_warn(warnings, "the attention window of %u tokens (sliding_window) is not kept: longer texts see everything",
                window);
    return s;
}

/* --- llama --------------------------------------------------------------------------------------------------------------- */

static const hf_name llama_names[] = {
    {"layers.*.self_attn.q_proj", "blk.*.attn_q", HF_PERMUTE_Q},
    {"layers.*.self_attn.k_proj", "blk.*.attn_k", HF_PERMUTE_K},
    {"layers.*.block_sparse_moe.gate", "blk.*.ffn_gate_inp", HF_F32},
    {"layers.*.block_sparse_moe.experts.#.w1", "blk.*.ffn_gate_exps", 0},
    {"layers.*.block_sparse_moe.experts.#.w2", "blk.*.ffn_down_exps", 0},
    {"layers.*.block_sparse_moe.experts.#.w3", "blk.*.ffn_up_exps", 0},
    {0},
};

static status llama_read(hf_config *c, hf_warnings *warnings, err *e) {
    c->eps = 1e-6;
    status s = hf_config_u32(c, "num_local_experts", 1, 1024, &c->n_expert, e);
    if (!s && c->n_expert) {
        c->n_expert_used = 2;
        s = hf_config_u32(c, "num_experts_per_tok", 1, c->n_expert, &c->n_expert_used, e);
    }
    return s ? s : warn_of_window(c, warnings, e);
}

const hf_arch hf_llama = {
    .classes = {"LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel", "MistralForCausalLM", "MixtralForCausalLM"},
    .name = "llama",
    .prefixes = {"model."},
    .names = {llama_names, shared},
    .activations = {"silu"},
    .rms = true,
    .read = llama_read,
    .put = put_heads,
};

/* --- qwen2, qwen3 -------------------------------------------------------------------------------------------------------- */

static const hf_name qwen_names[] = {
    {"layers.*.self_attn.q_proj", "blk.*.attn_q", 0},
    {"layers.*.self_attn.k_proj", "blk.*.attn_k", 0},
    {"layers.*.self_attn.q_norm", "blk.*.attn_q_norm", 0},
    {"layers.*.self_attn.k_norm", "blk.*.attn_k_norm", 0},
    {0},
};

static status no_llama3_rope(const hf_config *c, err *e) {
    const json_t *r = json_object_get(c->v, "rope_parameters");
    if (!json_is_object(r)) r = json_object_get(c->v, "rope_scaling");
    const char *type = json_string_value(json_object_get(r, "rope_type"));
    if (!type || !str_is(str_of(type), "llama3")) return OK;
    return fail(e, ERR_CONVERT_CONFIG, "config.json: rope scaling llama3 is not built in for %s", c->class);
}

static status qwen_read(hf_config *c, hf_warnings *warnings, err *e) {
    c->eps = 1e-6;
    if (str_is(str_of(c->arch->name), "qwen3")) c->d_head = 128;
    status s = no_llama3_rope(c, e);
    if (s || !json_is_true(json_object_get(c->v, "use_sliding_window"))) return s;
    return warn_of_window(c, warnings, e);
}

const hf_arch hf_qwen2 = {
    .classes = {"Qwen2ForCausalLM", "Qwen2Model"},
    .name = "qwen2",
    .prefixes = {"model."},
    .names = {qwen_names, shared},
    .activations = {"silu"},
    .rms = true,
    .read = qwen_read,
    .put = put_heads,
};

const hf_arch hf_qwen3 = {
    .classes = {"Qwen3ForCausalLM", "Qwen3Model"},
    .name = "qwen3",
    .prefixes = {"model."},
    .names = {qwen_names, shared},
    .activations = {"silu"},
    .rms = true,
    .read = qwen_read,
    .put = put_heads,
};

/* --- gemma3 -------------------------------------------------------------------------------------------------------------- */

enum { GEMMA_PATTERN = 6, GEMMA_27B_LAYERS = 62 };

const hf_name hf_gemma_names[] = {
    {"embed_tokens", "token_embd", 0},
    {"norm", "output_norm", HF_PLUS_ONE},
    {"lm_head", "output", 0},
    {"layers.*.self_attn.q_proj", "blk.*.attn_q", 0},
    {"layers.*.self_attn.k_proj", "blk.*.attn_k", 0},
    {"layers.*.self_attn.v_proj", "blk.*.attn_v", 0},
    {"layers.*.self_attn.o_proj", "blk.*.attn_output", 0},
    {"layers.*.self_attn.q_norm", "blk.*.attn_q_norm", HF_PLUS_ONE},
    {"layers.*.self_attn.k_norm", "blk.*.attn_k_norm", HF_PLUS_ONE},
    {"layers.*.mlp.gate_proj", "blk.*.ffn_gate", 0},
    {"layers.*.mlp.up_proj", "blk.*.ffn_up", 0},
    {"layers.*.mlp.down_proj", "blk.*.ffn_down", 0},
    {"layers.*.input_layernorm", "blk.*.attn_norm", HF_PLUS_ONE},
    {"layers.*.post_attention_layernorm", "blk.*.post_attention_norm", HF_PLUS_ONE},
    {"layers.*.pre_feedforward_layernorm", "blk.*.ffn_norm", HF_PLUS_ONE},
    {"layers.*.post_feedforward_layernorm", "blk.*.post_ffw_norm", HF_PLUS_ONE},
    {"vision_tower.%", NULL, 0},
    {"multi_modal_projector.%", NULL, 0},
    {0},
};

/* Which layers see everything: each `pattern`th. layer_types, one entry a layer, must say the same. */
static status read_pattern(hf_config *c, err *e) {
    const json_t *types = json_object_get(c->v, "layer_types");
    c->window_pattern = GEMMA_PATTERN;
    status s = hf_config_u32(c, "_sliding_window_pattern", 1, 4096, &c->window_pattern, e);
    if (!s) s = hf_config_u32(c, "sliding_window_pattern", 1, 4096, &c->window_pattern, e);
    if (s || !json_is_array(types)) return s;
    const size_t n = json_array_size(types);
    for (size_t i = 0; i < n; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        const bool full = (i + 1) % c->window_pattern == 0;
        if (!type || !str_is(str_of(type), full ? "full_attention" : "sliding_attention"))
            return fail(e, ERR_CONVERT_CONFIG,
                        "config.json: layer_types: layer %zu is %.40s: only a window on all but each "
                        "%uth layer is built in",
                        i, type ? type : "?", c->window_pattern);
    }
    return OK;
}

/* Scores are divided by the root of the head's size; in the 27B model, known by its depth, by that of d_model / n_head. */
static status check_scale(const hf_config *c, err *e) {
    uint32_t scale = 256, d_head = 256, n_layer = 0, n_head = 8, d_model = 0;
    status s = hf_config_u32(c, "query_pre_attn_scalar", 1, 1 << 20, &scale, e);
    if (!s) s = hf_config_u32(c, "head_dim", 1, 1 << 14, &d_head, e);
    if (!s) s = hf_config_u32(c, "num_hidden_layers", 1, 1 << 12, &n_layer, e);
    if (!s) s = hf_config_u32(c, "num_attention_heads", 1, 1 << 14, &n_head, e);
    if (!s) s = hf_config_u32(c, "hidden_size", 1, 1 << 22, &d_model, e);
    const uint32_t built = n_layer == GEMMA_27B_LAYERS ? d_model / n_head : d_head;
    if (s || scale == built) return s;
    return fail(e, ERR_CONVERT_CONFIG, "config.json: query_pre_attn_scalar is %u; only %u is built in for this model",
                scale, built);
}

status hf_gemma_read(hf_config *c, hf_warnings *warnings, err *e) {
    (void)warnings;
    c->n_head = 8; /* what the class leaves out when it writes a config */
    c->n_kv_head = 4;
    c->d_head = 256;
    c->context = 131072;
    c->eps = 1e-6;
    c->window = 4096;
    c->rope.base = 1e6;
    c->rope.local_base = 1e4;
    c->tied = !json_is_false(json_object_get(c->v, "tie_word_embeddings"));
    status s = hf_config_u32(c, "sliding_window", 1, INT32_MAX, &c->window, e);
    if (!s) s = hf_config_must(c, "attn_logit_softcapping", json_null(), e);
    if (!s) s = read_pattern(c, e);
    if (!s) s = check_scale(c, e);
    const json_t *cap = json_object_get(c->v, "final_logit_softcapping");
    if (json_is_number(cap)) c->softcap = json_number_value(cap);
    return s ? s : no_llama3_rope(c, e);
}

void hf_gemma_put(const hf_config *c, gguf_writer *w) {
    put_heads(c, w);
    if (c->window_pattern != 1) hf_put_u32(c, w, "attention.sliding_window", c->window);
    if (c->window_pattern != GEMMA_PATTERN && c->window_pattern != 1)
        hf_put_u32(c, w, "attention.sliding_window_pattern", c->window_pattern);
    if (c->softcap != 0) hf_put_f32(c, w, "final_logit_softcapping", c->softcap);
}

static status gemma3_read(hf_config *c, hf_warnings *warnings, err *e) {
    status s = hf_config_must(c, "use_bidirectional_attention", json_false(), e);
    return s ? s : hf_gemma_read(c, warnings, e);
}

const hf_arch hf_gemma3 = {
    .classes = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"},
    .name = "gemma3",
    .prefixes = {"language_model.", "model.", "language_model."},
    .names = {hf_gemma_names},
    .activations = {"gelu_pytorch_tanh"},
    .rms = true,
    .read = gemma3_read,
    .put = hf_gemma_put,
};
