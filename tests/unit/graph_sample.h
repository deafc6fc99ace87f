/* Graphs for tests: tensors made of thin air (small, finite, the same for the same seed), a llama of two layers written
 * down by hand, and random graphs that every rule finds something in. Tensors and their bytes belong to the sample_file and
 * must outlive the graphs; they come from malloc, so that an allocation test counts the engine alone. */
#ifndef ROCMFORGE_TESTS_GRAPH_SAMPLE_H
#define ROCMFORGE_TESTS_GRAPH_SAMPLE_H

#include "graph/graph.h"

enum { SAMPLE_MAX_TENSORS = 512, SAMPLE_VOCAB = 48 };

typedef struct {
    gguf_tensor tensor[SAMPLE_MAX_TENSORS];
    char name[SAMPLE_MAX_TENSORS][48];
    uint32_t n, at; /* at: tensors handed out again from 0 when a graph is built a second time */
    uint64_t seed;
} sample_file;

/* The next tensor: the one of the build before if it has this type and shape, else made. */
const gguf_tensor *sample_tensor(sample_file *f, quant_type type, const char *name, uint64_t k, uint64_t m,
                                 uint64_t n_expert);
void sample_free(sample_file *f);

/* Both leave failures in g->failed; set the result. */
void sample_llama(graph *g, sample_file *f, quant_type type);
void sample_random(graph *g, sample_file *f, uint64_t seed, uint32_t n_ops);

#endif
