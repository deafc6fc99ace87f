/* config.json of a Hugging Face folder: which architecture it is, and its hyperparameters as GGUF keys. What an architecture
 * is called there, which tensor becomes which, and what its numbers mean stands in one table row each, arch_*.c; nothing
 * else knows a model's name. What a config asks for and the engine would not compute is refused by name, or named in a
 * warning where it shows in rare inputs only. Facts: llama.cpp's conversion/ and transformers' configuration classes.
 * A config is owned by its opener; immutable after hf_config_open. */
#ifndef ROCMFORGE_CONVERT_HF_CONFIG_H
#define ROCMFORGE_CONVERT_HF_CONFIG_H

#include "base/json.h"
#include "convert/gguf_write.h"

/* What becomes other than the folder says: sentences. */
typedef struct {
    json_t *list; /* an array */
    bool failed;  /* one was lost for want of memory */
} hf_warnings;
__attribute__((format(printf, 2, 3))) void hf_warn(hf_warnings *w, const char *fmt, ...);

/* How a tensor's name there and here belong together. In `hf`, '*' stands for the number of a layer, '#' for that of an expert,
 * a last '%' for anything; the suffix (.weight, .bias) is carried over. */
typedef struct {
    const char *hf, *gguf; /* gguf NULL: left out */
    unsigned how;          /* HF_ flags */
} hf_name;

enum {
    HF_PERMUTE_Q = 1, /* heads' rows are interleaved, for a rope that turns neighbours */
    HF_PERMUTE_K = 2,
    HF_PLUS_ONE = 4,  /* the weight is kept as w - 1 */
    HF_F32 = 8,       /* whatever type is asked for */
    HF_POSITIONS = 16 /* rows before the config's first_position are left out */
};
enum { HF_MAX_CLASSES = 6 };

typedef enum { HF_ROPE_NONE, HF_ROPE_LINEAR, HF_ROPE_YARN, HF_ROPE_LLAMA3 } hf_rope_kind;

typedef struct {
    hf_rope_kind kind;
    double base, local_base; /* local_base 0: not given */
    double factor, low, high;
    uint32_t original; /* context that was scaled */
} hf_rope;

typedef struct hf_arch hf_arch;
typedef struct {
    json_t *v; /* config.json, with text_config's entries over its own */
    const hf_arch *arch;
    const char *class; /* architectures[0] */
    uint32_t n_layer, d_model, d_ff, n_head, n_kv_head, d_head, context, n_vocab;
    uint32_t n_expert, n_expert_used;
    uint32_t first_position; /* rows of position_embd left out */
    uint32_t n_token_types;
    uint32_t window, window_pattern;
    double eps, softcap;
    bool tied;
    uint32_t pooling; /* as GGUF numbers them: 0 not said, 1 mean, 2 cls, 3 last */
    json_t *labels;   /* of a classifier: an array of strings; NULL: none */
    hf_rope rope;
} hf_config;

struct hf_arch {
    const char *classes[HF_MAX_CLASSES]; /* what architectures[0] may be */
    const char *name;                    /* general.architecture */
    const char *prefixes[4];             /* taken from the front of a tensor's name, each once, in this order */
    const hf_name *names[3];             /* lists that end with {0}; the first that fits counts */
    const char *activations[4];          /* what the engine computes */
    bool encoder, rms;                   /* rms: RMS norms, else layer norms */
    status (*read)(hf_config *c, hf_warnings *warnings,
                   err *e);                          /* first of all: what differs from the others; NULL: nothing */
    void (*put)(const hf_config *c, gguf_writer *w); /* keys of its own; NULL: none */
};
extern const hf_arch *const hf_archs[]; /* ends with NULL */

/* On failure c is left to close. */
MUST_CHECK status hf_config_open(hf_config *c, const char *dir, hf_warnings *warnings, err *e);
void hf_config_close(hf_config *c); /* {0} is fine */
/* The architecture's keys, but for those that describe the file. */
void hf_config_put(const hf_config *c, gguf_writer *w);
/* The factors that stretch rope's frequencies: how many (0: none); out: [n], may be NULL. */
uint32_t hf_rope_factors(const hf_config *c, float *out);

/* For arch_*.c: one value by its key, absent leaving *out; a key of the architecture. */
MUST_CHECK status hf_config_u32(const hf_config *c, const char *key, uint32_t lo, uint32_t hi, uint32_t *out, err *e);
/* ERR_CONVERT_CONFIG unless the key is absent or has this value. */
MUST_CHECK status hf_config_must(const hf_config *c, const char *key, json_t *value, err *e); /* takes value */
void hf_put_u32(const hf_config *c, gguf_writer *w, const char *suffix, uint32_t v);
void hf_put_f32(const hf_config *c, gguf_writer *w, const char *suffix, double v);
void hf_put_str(const hf_config *c, gguf_writer *w, const char *suffix, const char *v);
void hf_put_bool(const hf_config *c, gguf_writer *w, const char *suffix, bool v);

#endif
