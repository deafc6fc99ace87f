/* The rows of hf_archs, one for each kind of config: decoders in arch_decoders.c, encoders in arch_encoders.c. Constant. */
#ifndef ROCMFORGE_CONVERT_ARCHS_H
#define ROCMFORGE_CONVERT_ARCHS_H

#include "convert/hf_config.h"

extern const hf_arch hf_llama, hf_qwen2, hf_qwen3, hf_gemma3, hf_gemma_embedding;
extern const hf_arch hf_bert, hf_bert_classifier, hf_roberta, hf_roberta_classifier, hf_nomic_bert, hf_jina_bert,
    hf_modern_bert;

/* gemma3's names, and how its config is read: gemma-embedding's too. */
extern const hf_name hf_gemma_names[];
status hf_gemma_read(hf_config *c, hf_warnings *warnings, err *e);
void hf_gemma_put(const hf_config *c, gguf_writer *w);

#endif
