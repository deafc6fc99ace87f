/* What the files of this room share: the objects behind rocmforge.h. */
#ifndef ROCMFORGE_API_API_H
#define ROCMFORGE_API_API_H

#include "rocmforge.h"

#include "api/downgrade.h"
#include "backend/gpu/devices.h"
#include "base/err.h"
#include "base/json.h"
#include "exec/exec.h"
#include "gguf/gguf.h"
#include "model/model.h"
#include "sched/sched.h"
#include "text/template.h"
#include "text/tokenizer.h"

/* A chat template read once, or why that failed. Immutable after open: any thread. */
typedef struct {
    chat_template *parsed; /* NULL: code and why say it */
    status code;
    err why;
} api_chat;
/* source.p NULL: there is none. Fails for want of memory only. */
status api_chat_open(api_chat *c, str source, err *e);
void api_chat_close(api_chat *c);

struct rf_model {
    gguf *file;
    tokenizer *text;
    api_chat chat;
    model_info info; /* strings are views into file */
};

enum { API_MAX_GPUS = PLAN_MAX_DEVICES - 1 };

/* Which layers run where: those below `first` on the CPU, then GPU 0's up to end[0], GPU 1's up to end[1], ... */
typedef struct {
    uint32_t n_gpus, gpu[API_MAX_GPUS]; /* of the list */
    uint32_t end[API_MAX_GPUS], first, n_layer;
} api_split;

/* GPUs first, then the CPU if it has anything to do. */
typedef struct {
    backend *b[PLAN_MAX_DEVICES];
    uint32_t n;
    api_split split;
    uint32_t n_moved;     /* nodes that the CPU took because their GPU has no kernel for them */
    char first_moved[96]; /* the first of them */
} api_backends;

/* What computes what (place.c). */
typedef enum {
    PLACEMENT_GPU,  /* GPUs take what they can: the CPU what has no kernel there, and layers that do not fit */
    PLACEMENT_CPU,  /* the CPU; GPUs only take the layers that the host has no memory for */
    PLACEMENT_COST, /* node by node what is cheaper by graph/cost.h, the CPU only where it is twice as cheap */
    PLACEMENT_ONLY  /* the one backend that was asked for, or the layers given to it: what it cannot do is refused */
} api_placement;
const char *api_placement_name(api_placement p); /* "gpu", "cpu", "cost", "only" */

/* An engine's shape, with every default settled. It owns the list of GPUs; copies of it borrow that. */
typedef struct {
    exec_options exec;
    sched_options sched;    /* disk is for the engine to set */
    kv_disk_options folder; /* dir NULL: none; a borrowed string. identity is for the engine to set */
    uint32_t context, parallel, threads, ubatch; /* ubatch: as asked for, exec.max_tok is what became of it */
    bool whole;                                  /* an encoder: each prompt in one step */
    int tier;
    bool fixed_cache; /* its size was given, and does not follow from the context */
    bool may_shrink;  /* it may be smaller than asked for, where that does not fit */
    gpu_list *gpus;   /* NULL: the CPU computes */
    uint32_t gpu;     /* which of them; the first, where layers are split */
    api_split split;
    bool has_cpu;   /* some layers run on the CPU beside GPUs */
    bool automatic; /* the device was not asked for: the CPU may stand in */
    api_placement placement;
    bool may_move;                      /* nodes without a kernel may go to the CPU */
    bool may_split;                     /* layers that do not fit may go to the CPU, or from it */
    bool profile;                       /* kernels are timed */
    bool costed;                        /* PLACEMENT_COST was settled */
    plan_speed speed[PLAN_MAX_DEVICES]; /* PLACEMENT_COST: of the backends, GPUs first */
    uint64_t host_bytes;                /* that the host has to give; 0: what the system says (tests play others) */
    api_why why;
    char reason[400];   /* why this device */
    char verified[200]; /* what is known of the device's numbers; empty: nothing was asked */
    api_downgrades down;
} api_shape;

enum { CONTEXT_DEFAULT_MOST = 8192, UBATCH_MOST = 16384 };
uint32_t api_page_tokens(uint32_t context); /* the page size for this context */
/* Pages of all contexts; an encoder needs no more than a step can hold, since every prompt is done after its step. */
uint64_t api_cache_pages(const api_shape *s);
void api_size_step(api_shape *s, uint32_t rows); /* exec.max_tok and max_out, for s->context */

/* Checks the options against the model. ERR_RANGE, ERR_USAGE, ERR_UNSUPPORTED, ERR_CPU_TIER. */
status api_shape_make(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e);
void api_shape_close(api_shape *s); /* after its backend; a shape of zeros is fine */
/* split.c: settles s->split. The options' -ngl, -sm, -ts, -mg. */
status api_split_make(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e);
void api_split_layers(api_shape *s, uint32_t n); /* n of the layers on GPUs instead, in the same shares */
status api_backends_open(api_backends *b, const api_shape *s, err *e);
void api_backends_close(api_backends *b);
bool api_backend_is_gpu(const backend *b);
MUST_CHECK status api_backends_add_cpu(api_backends *b, const api_shape *s, err *e);
/* s->exec with its placement, whose context is *b. */
exec_options api_exec_options(const api_shape *s, api_backends *b);
/* place.c: the options' --device and --placement; s->gpus, reason, why and what the strategy allows. */
MUST_CHECK status api_choose_device(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e);
void api_use_cpu(api_shape *s);
/* PLACEMENT_COST: who would run what by cost; devices with nothing to do are let go. Once; else nothing. */
MUST_CHECK status api_place_by_cost(api_shape *s, const rf_model *m, err *e);
/* Another way that the strategy leaves to place the model, after what was tried failed with `why`: true, and it is noted. */
bool api_retreat(api_shape *s, const rf_model *m, const rf_engine_options *opt, const err *why);
/* Where a GPU was taken unasked and turned out unfit (why): the shape goes on with the CPU, which the reason says. false: it
 * was asked for, or none was taken, or the failure is not the device's: then it stands. */
bool api_fall_back(api_shape *s, const err *why);
/* Backends for the shape, with room for it, after as many retreats as it takes. */
MUST_CHECK status api_backends_place(api_backends *b, api_shape *s, const rf_model *m, const rf_engine_options *opt,
                                     err *e);
void api_note_moved(api_shape *s, const api_backends *b); /* DOWN_OP where nodes were moved */
/* Bytes a second that this many threads read of a block of so many bytes, at least once and for `ms`. 0: failed. */
double api_read_bandwidth(uint32_t threads, size_t block_bytes, uint32_t ms);

/* embed.c: what a request's pooling means for this model; RANK: scores of the state that its head looks at. */
sched_pooling api_pooling(const rf_model *m, rf_pooling p, bool *scores);
status api_check_generates(const rf_model *m, err *e); /* ERR_EMBEDS_ONLY */
status api_chat_of_model(rf_model *m, err *e);         /* fills m->chat */
status api_check_graph(const rf_model *m, err *e);     /* what the file's weights and hyperparameters cannot run as */
/* ERR_MEMORY_PLAN, ERR_GPU_MEMORY unless what this shape needs, and the margin, are available; a cache that may shrink is
 * shrunk first, with a warning. b: as api_backends_open gave them. */
status api_fit_memory(api_shape *s, const rf_model *m, api_backends *b, err *e);
char *api_profile(const api_shape *s, const api_backends *b, bool reset); /* the contract of rf_engine_profile */
/* The contract of rf_engine_memory. */
char *api_memory(const api_shape *s, const sched_stats *now, size_t page_bytes);
/* The list of this machine's GPUs; what is wrong with them stands in it. Fails for want of memory only. */
status api_gpus_open(gpu_list **out, err *e);
void api_gpus_close(gpu_list *l);         /* NULL is fine */
const char *api_platform(gpu_platform p); /* "hip", "cuda" */

/* The number after `key` in a file of lines "key number"; for an empty key its first word. false: not there, or "max". */
bool api_read_number(const char *path, const char *key, uint64_t *out);
uint64_t api_available_bytes(void); /* what this process may still take: the system's and its control group's word */

/* Of caches that may be exchanged: a hash of all of the file and of the pages' shape. Reads the whole file. */
void api_cache_identity(uint64_t out[2], const rf_model *m, const exec_options *x);

void api_model_identity(uint64_t out[2], const rf_model *m); /* the same of the file alone */
const rf_model *api_engine_model(const rf_engine *g);        /* borrowed */

/* What was made from the file's bytes, or refused because of them, counts only if the file still is what was opened. */
status api_if_unchanged(const gguf *file, status s, err *e); /* s, or ERR_FILE_CHANGED; file NULL: s */

bool api_result(status s, const err *e, rf_error *out); /* s == OK, else fills *out */
/* Put an item (its reference is taken) into an array or object; without memory, or with no item for lack of it, *all
 * becomes NULL and stays so: a list is whole or none. */
void api_append(json_t **all, json_t *item);
void api_set(json_t **all, const char *key, json_t *item);
json_t *api_text(const strbuf *b);            /* NULL when it could not grow, or out of memory */
char *api_json(json_t *v, status *s, err *e); /* takes v; NULL: no memory */

#endif
