/* What a file holds, as JSON. */
#include "api/api.h"

#include "base/mem.h"

#include <string.h>

static json_t *tensor_json(const gguf_tensor *t) {
    json_t *dims = json_array();
    for (uint32_t i = 0; i < t->n_dims; i++) api_append(&dims, json_integer((json_int_t)t->dim[i]));
    return json_pack("{so ss so sI}", "name", json_text_of(t->name), "type", quant_lookup(t->type)->name, "shape", dims,
                     "bytes", (json_int_t)t->n_bytes);
}

enum { ARRAY_SHOWN = 8 };

static json_t *scalar_json(const gguf_kv *kv, uint64_t i) {
    switch (kv->elem_type) {
    case GGUF_F32:
    case GGUF_F64: {
        double v = gguf_array_float(kv, i);
        return v - v == 0 ? json_real(v) : json_null(); /* JSON knows no NaN */
    }
    case GGUF_BOOL: return json_boolean(gguf_array_uint(kv, i) != 0);
    default: return json_integer((json_int_t)gguf_array_uint(kv, i));
    }
}

/* Long arrays (vocabularies) are cut: {"n": 49152, "first": [...]}. */
static json_t *value_json(const gguf_kv *kv) {
    const uint8_t *at = kv->data;
    if (kv->type == GGUF_STRING) return json_text_of(gguf_next_string(kv, &at));
    if (kv->type != GGUF_ARRAY) return scalar_json(kv, 0);
    if (kv->elem_type == GGUF_ARRAY) return json_pack("{sI}", "n", (json_int_t)kv->n);
    json_t *first = json_array();
    for (uint64_t i = 0; i < kv->n && i < ARRAY_SHOWN; i++)
        api_append(&first, kv->elem_type == GGUF_STRING ? json_text_of(gguf_next_string(kv, &at)) : scalar_json(kv, i));
    if (kv->n <= ARRAY_SHOWN) return first;
    return json_pack("{sI so}", "n", (json_int_t)kv->n, "first", first);
}

static json_t *metadata_json(const gguf *g) {
    json_t *all = json_object();
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const gguf_kv *kv = gguf_kv_at(g, i);
        if (all && !json_put(all, kv->key, value_json(kv))) {
            json_decref(all);
            all = NULL;
        }
    }
    return all;
}

static json_t *types_json(const gguf *g) {
    uint64_t count[QUANT_COUNT] = {0};
    for (size_t i = 0; i < gguf_n_tensors(g); i++) count[gguf_tensor_at(g, i)->type]++;
    json_t *all = json_object();
    for (uint32_t t = 0; t < QUANT_COUNT; t++)
        if (count[t]) api_set(&all, quant_lookup(t)->name, json_integer((json_int_t)count[t]));
    return all;
}

static json_t *id_json(token_id id) { return id == TOKEN_NONE ? json_null() : json_integer(id); }

static json_t *tokenizer_json(const tokenizer *t) {
    const tokenizer_info *i = tokenizer_get_info(t);
    const token_id *eog;
    size_t n_eog = tokenizer_eog_ids(t, &eog);
    json_t *ends = json_array();
    for (size_t k = 0; k < n_eog; k++) api_append(&ends, json_integer(eog[k]));
    return json_pack("{ss so si so so so so sb sb so}", "model", i->model, "pre", json_text_of(i->pre), "n_vocab",
                     (int)i->n_vocab, "bos", id_json(i->bos), "eos", id_json(i->eos), "unk", id_json(i->unk), "pad",
                     id_json(i->pad), "add_bos", (int)i->add_bos, "add_eos", (int)i->add_eos, "end_of_generation",
                     ends);
}

static const char *pooling_name(model_pooling p) {
    static const char *const names[] = {"mean", "mean", "cls", "last", "rank"}; /* mean where the file says nothing */
    return names[p];
}

static json_t *model_json(const model_info *m) {
    const model_layer *l = &m->layer[0];
    json_t *v = json_pack("{ss so so ss sI sI si si si si si si si si}", "architecture", m->arch_name, "name",
                          json_text_of(m->name), "size_label", json_text_of(m->size_label), "file_type", m->file_type,
                          "n_params", (json_int_t)m->n_params, "weight_bytes", (json_int_t)m->weight_bytes, "n_layer",
                          (int)m->n_layer, "n_embd", (int)m->d_model, "n_head", (int)m->n_head, "n_head_kv",
                          (int)l->n_kv_head, "head_dim", (int)l->d_k, "n_ff", (int)l->d_ff, "n_vocab", (int)m->n_vocab,
                          "context_train", (int)m->context_train);
    if (m->n_expert && v) {
        api_set(&v, "n_expert", json_integer(m->n_expert));
        api_set(&v, "n_expert_used", json_integer(m->n_expert_used));
    }
    if (m->window && v) api_set(&v, "sliding_window", json_integer(m->window));
    if (m->encoder && v) api_set(&v, "encoder", json_true());
    if (v && (m->encoder || m->pooling)) api_set(&v, "pooling", json_string(pooling_name(m->pooling)));
    if (m->n_scores && v) api_set(&v, "n_scores", json_integer(m->n_scores));
    if (v) api_set(&v, "rope_base", json_real((double)m->rope.base));
    if (v) api_set(&v, "rope_scaling", json_string(m->rope.scaling));
    if (v) api_set(&v, "tied_output", json_boolean(m->tied_output));
    if (v) api_set(&v, "has_chat_template", json_boolean(m->has_chat_template));
    return v;
}

char *rf_model_inspect(const rf_model *m, unsigned flags, rf_error *e) {
    err why = {0};
    json_t *v =
        json_pack("{ss si sI si so so sI so}", "path", gguf_path(m->file), "gguf_version", (int)gguf_version(m->file),
                  "file_bytes", (json_int_t)gguf_file_bytes(m->file), "shards", (int)gguf_n_shards(m->file), "model",
                  model_json(&m->info), "tokenizer", tokenizer_json(m->text), "n_tensors",
                  (json_int_t)gguf_n_tensors(m->file), "types", types_json(m->file));
    if (v && flags & RF_INSPECT_METADATA) api_set(&v, "metadata", metadata_json(m->file));
    if (v && flags & RF_INSPECT_TENSORS) {
        json_t *all = json_array();
        for (size_t i = 0; i < gguf_n_tensors(m->file); i++) api_append(&all, tensor_json(gguf_tensor_at(m->file, i)));
        api_set(&v, "tensors", all);
    }
    status s;
    char *text = api_json(v, &s, &why);
    if (!s) s = gguf_check(m->file, &why);
    if (s) {
        mem_free(text);
        text = NULL;
    }
    api_result(s, &why, e);
    return text;
}
