/* The encoders: bert with and without a head, roberta (its positions begin behind the padding's), nomic-bert, jina-bert-v2,
 * modern-bert, gemma-embedding. Classes and tensor names are transformers', or of the models' own code. */
#include "convert/archs.h"

#include "base/str.h"

#include <inttypes.h>

/* --- bert ---------------------------------------------------------------------------------------------------------------- */

static const hf_name bert_names[] = {
    {"embeddings.word_embeddings", "token_embd", 0},
    {"embeddings.token_type_embeddings", "token_types", HF_F32},
    {"embeddings.position_embeddings", "position_embd", HF_F32 | HF_POSITIONS},
    {"embeddings.position_ids", NULL, 0},
    {"embeddings.LayerNorm", "token_embd_norm", 0},
    {"encoder.layer.*.attention.self.query", "blk.*.attn_q", 0},
    {"encoder.layer.*.attention.self.key", "blk.*.attn_k", 0},
    {"encoder.layer.*.attention.self.value", "blk.*.attn_v", 0},
    {"encoder.layer.*.attention.output.dense", "blk.*.attn_output", 0},
    {"encoder.layer.*.attention.output.LayerNorm", "blk.*.attn_output_norm", 0},
    {"encoder.layer.*.intermediate.dense", "blk.*.ffn_up", 0},
    {"encoder.layer.*.output.dense", "blk.*.ffn_down", 0},
    {"encoder.layer.*.output.LayerNorm", "blk.*.layer_output_norm", 0},
    {0},
};
static const hf_name no_head[] = {/* of pre-training: masked words, next sentences, and the pooler they share */
                                  {"pooler.%", NULL, 0},
                                  {"cls.%", NULL, 0},
                                  {"lm_head.%", NULL, 0},
                                  {0}};
static const hf_name bert_head[] = {/* the pooler is the head's first layer, with tanh behind it */
                                    {"pooler.dense", "cls", 0},
                                    {"classifier.dense", "cls", 0},
                                    {"classifier.out_proj", "cls.output", 0},
                                    {"classifier", "cls.output", 0},
                                    {0}};

/* id2label of a classifier: as many scores as there are labels. */
static status read_labels(hf_config *c, err *e) {
    const json_t *by_id = json_object_get(c->v, "id2label");
    char id[24];
    c->labels = json_array();
    if (!c->labels) return fail(e, ERR_NOMEM, "no memory for labels");
    for (size_t i = 0; i < json_object_size(by_id); i++) {
        snprintf(id, sizeof id, "%zu", i);
        json_t *name = json_object_get(by_id, id);
        if (!json_is_string(name)) return fail(e, ERR_CONVERT_CONFIG, "config.json: id2label has no text for %zu", i);
        if (json_array_append(c->labels, name)) return fail(e, ERR_NOMEM, "no memory for labels");
    }
    if (json_array_size(c->labels) == 0)
        return fail(e, ERR_CONVERT_CONFIG, "config.json: id2label is missing or empty");
    return OK;
}

static status bert_read(hf_config *c, hf_warnings *warnings, err *e) {
    (void)warnings;
    c->eps = 1e-12;
    c->rope.base = 0;
    c->n_token_types = 2;
    status s = hf_config_u32(c, "type_vocab_size", 1, 1024, &c->n_token_types, e);
    if (!s) s = hf_config_must(c, "position_embedding_type", json_string("absolute"), e);
    if (!s) s = hf_config_must(c, "is_decoder", json_false(), e);
    return s;
}

static void put_types(const hf_config *c, gguf_writer *w) {
    gguf_put_u32(w, "tokenizer.ggml.token_type_count", c->n_token_types);
}

const hf_arch hf_bert = {
    .classes = {"BertModel", "BertForMaskedLM"},
    .name = "bert",
    .prefixes = {"bert."},
    .names = {bert_names, no_head},
    .activations = {"gelu"},
    .encoder = true,
    .read = bert_read,
    .put = put_types,
};

enum { POOLING_RANK = 4 };

static status classifier_read(hf_config *c, hf_warnings *warnings, err *e) {
    status s = bert_read(c, warnings, e);
    if (!s) s = read_labels(c, e);
    c->pooling = POOLING_RANK;
    return s;
}

static void put_classifier(const hf_config *c, gguf_writer *w) {
    put_types(c, w);
    str label[64];
    size_t n = json_array_size(c->labels);
    for (size_t i = 0; i < n && i < 64; i++) label[i] = str_of(json_string_value(json_array_get(c->labels, i)));
    if (n <= 64) gguf_put_strs(w, "bert.classifier.output_labels", label, n);
}

const hf_arch hf_bert_classifier = {
    .classes = {"BertForSequenceClassification"},
    .name = "bert",
    .prefixes = {"bert."},
    .names = {bert_names, bert_head},
    .activations = {"gelu"},
    .encoder = true,
    .read = classifier_read,
    .put = put_classifier,
};

/* --- roberta ------------------------------------------------------------------------------------------------------------- */

/* Positions are counted from behind the padding's id, so the table's first rows are never used. */
static status roberta_read(hf_config *c, hf_warnings *warnings, err *e) {
    uint32_t pad = 1;
    status s = bert_read(c, warnings, e);
    c->eps = 1e-5;
    if (!s) s = hf_config_u32(c, "pad_token_id", 0, 1024, &pad, e);
    c->first_position = pad + 1;
    return s;
}

const hf_arch hf_roberta = {
    .classes = {"RobertaModel", "XLMRobertaModel", "RobertaForMaskedLM", "XLMRobertaForMaskedLM"},
    .name = "bert",
    .prefixes = {"roberta."},
    .names = {bert_names, no_head},
    .activations = {"gelu"},
    .encoder = true,
    .read = roberta_read,
    .put = put_types,
};

static status roberta_classifier_read(hf_config *c, hf_warnings *warnings, err *e) {
    status s = roberta_read(c, warnings, e);
    if (!s) s = read_labels(c, e);
    c->pooling = POOLING_RANK;
    return s;
}

const hf_arch hf_roberta_classifier = {
    .classes = {"XLMRobertaForSequenceClassification", "RobertaForSequenceClassification"},
    .name = "bert",
    .prefixes = {"roberta."},
    .names = {bert_names, bert_head},
    .activations = {"gelu"},
    .encoder = true,
    .read = roberta_classifier_read,
    .put = put_classifier,
};

/* --- nomic-bert ---------------------------------------------------------------------------------------------------------- */

static const hf_name nomic_names[] = {
    {"embeddings.word_embeddings", "token_embd", 0},
    {"embeddings.token_type_embeddings", "token_types", HF_F32},
    {"emb_ln", "token_embd_norm", 0},
    {"encoder.layers.*.attn.Wqkv", "blk.*.attn_qkv", 0},
    {"encoder.layers.*.attn.out_proj", "blk.*.attn_output", 0},
    {"encoder.layers.*.norm1", "blk.*.attn_output_norm", 0},
    {"encoder.layers.*.mlp.fc11", "blk.*.ffn_up", 0},
    {"encoder.layers.*.mlp.fc12", "blk.*.ffn_gate", 0},
    {"encoder.layers.*.mlp.fc2", "blk.*.ffn_down", 0},
    {"encoder.layers.*.norm2", "blk.*.layer_output_norm", 0},
    {0},
};

static status nomic_read(hf_config *c, hf_warnings *warnings, err *e) {
    (void)warnings;
    uint32_t positions = 0, trained = 2048;
    c->eps = 1e-12;
    c->rope.base = 1000;
    c->n_token_types = 2;
    status s = hf_config_u32(c, "type_vocab_size", 1, 1024, &c->n_token_types, e);
    if (!s) s = hf_config_u32(c, "n_positions", 1, 1 << 20, &positions, e);
    if (!s) s = hf_config_u32(c, "max_trained_positions", 1, 1 << 20, &trained, e);
    if (!s) s = hf_config_must(c, "causal", json_false(), e);
    if (!s) s = hf_config_must(c, "prenorm", json_false(), e);
    if (!s) s = hf_config_must(c, "rotary_emb_fraction", json_real(1), e);
    if (!s) s = hf_config_must(c, "rotary_emb_interleaved", json_false(), e);
    if (!s) s = hf_config_must(c, "rotary_emb_scale_base", json_null(), e);
    if (!s) s = hf_config_must(c, "moe_every_n_layers", json_integer(0), e);
    if (!s && trained < positions && json_object_set_new(c->v, "n_positions", json_integer(trained)))
        s = fail(e, ERR_NOMEM,
                 "no memory to read config.json"); /* beyond it rope would be stretched; nothing does that */
    return s;
}

const hf_arch hf_nomic_bert = {
    .classes = {"NomicBertModel"},
    .name = "nomic-bert",
    .prefixes = {"bert."},
    .names = {nomic_names, no_head},
    .activations = {"swiglu"},
    .encoder = true,
    .read = nomic_read,
    .put = put_types,
};

/* --- jina-bert-v2 -------------------------------------------------------------------------------------------------------- */

static const hf_name jina_names[] = {
    {"encoder.layer.*.attention.self.layer_norm_q", "blk.*.attn_q_norm", 0},
    {"encoder.layer.*.attention.self.layer_norm_k", "blk.*.attn_k_norm", 0},
    {"encoder.layer.*.layer_norm_1", "blk.*.attn_norm_2", 0},
    {"encoder.layer.*.mlp.gated_layers", "blk.*.ffn_up", 0}, /* gate and up in one */
    {"encoder.layer.*.mlp.up_gated_layer", "blk.*.ffn_up", 0},
    {"encoder.layer.*.mlp.wo", "blk.*.ffn_down", 0},
    {"encoder.layer.*.mlp.down_layer", "blk.*.ffn_down", 0},
    {"encoder.layer.*.mlp.layernorm", "blk.*.layer_output_norm", 0},
    {"encoder.layer.*.layer_norm_2", "blk.*.layer_output_norm", 0},
    {0},
};

static status jina_read(hf_config *c, hf_warnings *warnings, err *e) {
    (void)warnings;
    c->eps = 1e-12;
    c->rope.base = 0;
    c->n_token_types = 2;
    status s = hf_config_u32(c, "type_vocab_size", 1, 1024, &c->n_token_types, e);
    if (!s) s = hf_config_must(c, "position_embedding_type", json_string("alibi"), e);
    if (!s) s = hf_config_must(c, "feed_forward_type", json_string("geglu"), e);
    return s;
}

const hf_arch hf_jina_bert = {
    .classes = {"JinaBertModel", "JinaBertForMaskedLM"},
    .name = "jina-bert-v2",
    .prefixes = {"bert."},
    .names = {jina_names, bert_names, no_head},
    .activations = {"gelu"},
    .encoder = true,
    .read = jina_read,
    .put = put_types,
};

/* --- modern-bert --------------------------------------------------------------------------------------------------------- */

static const hf_name modern_names[] = {
    {"embeddings.tok_embeddings", "token_embd", 0},
    {"embeddings.norm", "token_embd_norm", 0},
    {"layers.*.attn_norm", "blk.*.attn_norm", 0},
    {"layers.*.attn.Wqkv", "blk.*.attn_qkv", 0},
    {"layers.*.attn.Wo", "blk.*.attn_output", 0},
    {"layers.*.mlp_norm", "blk.*.ffn_norm", 0},
    {"layers.*.mlp.Wi", "blk.*.ffn_up", 0}, /* gate and up in one */
    {"layers.*.mlp.Wo", "blk.*.ffn_down", 0},
    {"final_norm", "output_norm", 0},
    {"head.%", NULL, 0}, /* of masked words */
    {"decoder.%", NULL, 0},
    {0},
};

static status modern_read(hf_config *c, hf_warnings *warnings, err *e) {
    (void)warnings;
    c->eps = 1e-5;
    c->rope.base = 160000;
    c->rope.local_base = 10000;
    c->window = 128;
    c->window_pattern = 3;
    status s = hf_config_u32(c, "local_attention", 1, INT32_MAX, &c->window, e);
    if (!s) s = hf_config_u32(c, "global_attn_every_n_layers", 1, 4096, &c->window_pattern, e);
    return s;
}

static void put_modern(const hf_config *c, gguf_writer *w) {
    const char *act = json_string_value(json_object_get(c->v, "hidden_activation"));
    hf_put_u32(c, w, "attention.sliding_window", c->window);
    hf_put_u32(c, w, "attention.sliding_window_pattern", c->window_pattern);
    hf_put_str(c, w, "rope.scaling.type", "none");
    if (act) hf_put_str(c, w, "hidden_activation", act);
}

const hf_arch hf_modern_bert = {
    .classes = {"ModernBertModel", "ModernBertForMaskedLM"},
    .name = "modern-bert",
    .prefixes = {"model."},
    .names = {modern_names},
    .activations = {"gelu", "silu"},
    .encoder = true,
    .read = modern_read,
    .put = put_modern,
};

/* --- gemma-embedding ----------------------------------------------------------------------------------------------------- */

const hf_arch hf_gemma_embedding = {
    .classes = {"Gemma3TextModel"},
    .name = "gemma-embedding",
    .prefixes = {"model."},
    .names = {hf_gemma_names},
    .activations = {"gelu_pytorch_tanh"},
    .encoder = true,
    .rms = true,
    .read = hf_gemma_read,
    .put = hf_gemma_put,
};
