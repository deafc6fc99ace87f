#include "tiny_folder.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 32, FF = 32, VOCAB = 7 };

const char *const tiny_names[TINY_N_FILES] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                              "generation_config.json", "model.safetensors"};
static const char *const texts[] = {
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 32, \"intermediate_size\": 32, "
    "\"num_hidden_layers\": 1, "
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"max_position_embeddings\": 64, \"vocab_size\": 7, "
    "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"original_max_position_embeddings\": 16}, "
    "\"sliding_window\": 16}",
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}, {\"id\": 1, \"content\": \"<s>\", "
    "\"special\": true}, {\"id\": 2, \"content\": \"</s>\", \"special\": true}, {\"id\": 6, \"content\": "
    "\"x\xE2\x96\x81y\", "
    "\"special\": false}, {\"id\": 9, \"content\": \"far\"}], \"normalizer\": {\"type\": \"Prepend\"}, "
    "\"post_processor\": "
    "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": "
    "\"A\"}}]}, "
    "\"model\": {\"type\": \"BPE\", \"byte_fallback\": true, \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2, \"a\": "
    "3, "
    "\"b\": 4, \"ab\": 5}, \"merges\": [[\"a\", \"b\"]]}}",
    "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"chat_template\": [{\"name\": \"default\", "
    "\"template\": "
    "\"{{ 1 }}\"}, {\"name\": \"tool_use\", \"template\": \"{{ 2 }}\"}]}",
    "{\"temperature\": 0.5, \"eos_token_id\": [2, 3]}"};

static const struct {
    const char *name;
    int rows, columns; /* columns 0: a vector */
} tensors[] = {{"model.embed_tokens.weight", VOCAB, D},
               {"model.layers.0.input_layernorm.weight", D, 0},
               {"model.layers.0.mlp.down_proj.weight", D, FF},
               {"model.layers.0.mlp.gate_proj.weight", FF, D},
               {"model.layers.0.mlp.up_proj.weight", FF, D},
               {"model.layers.0.post_attention_layernorm.weight", D, 0},
               {"model.layers.0.self_attn.k_proj.weight", D / 2, D},
               {"model.layers.0.self_attn.o_proj.weight", D, D},
               {"model.layers.0.self_attn.q_proj.weight", D, D},
               {"model.layers.0.self_attn.v_proj.weight", D / 2, D},
               {"model.norm.weight", D, 0},
               {"lm_head.weight", VOCAB, D}};
enum { N_TENSORS = sizeof tensors / sizeof *tensors };

static char *weights(size_t *n) {
    char *all = calloc(1, 64 << 10), *text = all + 8;
    size_t at = 0, data = 0;
    for (int i = 0; i < N_TENSORS; i++) {
        const int columns = tensors[i].columns, n_elems = tensors[i].rows * (columns ? columns : 1);
        at += (size_t)sprintf(text + at, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%d", i ? "," : "{", tensors[i].name,
                              tensors[i].rows);
        if (columns) at += (size_t)sprintf(text + at, ",%d", columns);
        at += (size_t)sprintf(text + at, "],\"data_offsets\":[%zu,%zu]}", data, data + 2 * (size_t)n_elems);
        data += 2 * (size_t)n_elems;
    }
    text[at++] = '}';
    for (int i = 0; i < 8; i++) all[i] = (char)(at >> 8 * i);
    for (size_t i = 0; i < data; i += 2) text[at + i + 1] = (char)(i % 7 ? 0x3D : 0xBD); /* some 0.03 either way */
    *n = 8 + at + data;
    return all;
}

char *tiny_content(int file, size_t *n) {
    if (file == TINY_WEIGHTS) return weights(n);
    *n = strlen(texts[file]);
    return strdup(texts[file]);
}

void tiny_write(const char *dir, const char *name, const void *p, size_t n) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f)) abort();
}

void tiny_folder(const char *dir) {
    for (int i = 0; i < TINY_N_FILES; i++) {
        size_t n;
        char *p = tiny_content(i, &n);
        tiny_write(dir, tiny_names[i], p, n);
        free(p);
    }
}
