/* The launches of the cache and of attention (kernels/args_attention.h). A node has three of the latter: tokens that stand
 * alone go chunk by chunk through scratch memory and are merged, runs of a prompt go in tiles. Which is which stands in the
 * step's lists; a step without the one or the other launches nothing for it. */
#include "backend/gpu/gpu_items.h"

enum { MOST_STATES = 16384 }; /* 270 MB for 32 heads of 128 */

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

static gpu_kv cache_of(const gpu_backend *g, uint32_t layer) {
    const kv_layer *l = &g->kv->layer[layer];
    return (gpu_kv){.layer = g->kv_block + g->layer_at[layer],
                    .page_bytes = g->page_bytes,
                    .head_bytes = (uint32_t)l->head_bytes,
                    .k_scales = (uint32_t)l->k_scales,
                    .v = (uint32_t)l->v,
                    .v_scales = (uint32_t)l->v_scales,
                    .d_k = l->d_k,
                    .d_v = l->d_v,
                    .n_kv_head = l->n_kv_head,
                    .page_tokens = g->kv->page_tokens,
                    .type_k = (uint32_t)g->kv->type_k,
                    .type_v = (uint32_t)g->kv->type_v};
}

static void bind_cache(gpu_item *i, size_t at) {
    gpu_item_bind_step(i, at + offsetof(gpu_kv, page), STEP_PAGE);
    gpu_item_bind_step(i, at + offsetof(gpu_kv, first_page), STEP_FIRST_PAGE);
    gpu_item_bind_step(i, at + offsetof(gpu_kv, seq), STEP_SEQ);
    gpu_item_bind_step(i, at + offsetof(gpu_kv, pos), STEP_POS);
}

/* --- writing ----------------------------------------------------------------------------------------------------------- */

static void shape_append(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                         gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    l->grid[0] = rows;
    l->grid[1] = i->param[0];
}

/* The query's turn may be held back for the append that follows it: one launch does both. */
status gpu_make_append(gpu_backend *g, const node *n, err *e) {
    const node *rope = g->held_rope;
    gpu_value k = gpu_value_of(g, n->in[0]), v = gpu_value_of(g, n->in[1]), none = {.array = -1};
    gpu_value table = n->op == OP_ROPE_APPEND ? gpu_value_of(g, n->in[2]) : none;
    gpu_value q = rope ? gpu_value_of(g, rope->in[0]) : none, y = rope ? gpu_value_of(g, rope) : none;
    kv_append_args args = {.kv = cache_of(g, n->p.attn.kv_layer), .k_stride = k.stride, .v_stride = v.stride};
    args.q_stride = q.stride;
    args.y_stride = y.stride;
    args.table_stride = table.stride;
    args.n_head = rope ? rope->width / rope->p.rope.head_dim : 0;
    if (n->op == OP_ROPE_APPEND) args.n_rot = n->p.attn.n_rot, args.neox = n->p.attn.neox;
    gpu_item_spec spec = {.n = n, .kernel = "kv_append", .block = KV_APPEND_THREADS, .args = &args, .rows = n->rows};
    spec.args_bytes = sizeof args;
    spec.shape = shape_append;
    spec.param[0] = n->p.attn.n_kv_head + args.n_head;
    g->held_rope = NULL;
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    bind_cache(i, offsetof(kv_append_args, kv));
    gpu_item_bind(i, offsetof(kv_append_args, q), q);
    gpu_item_bind(i, offsetof(kv_append_args, y), y);
    gpu_item_bind(i, offsetof(kv_append_args, k), k);
    gpu_item_bind(i, offsetof(kv_append_args, v), v);
    gpu_item_bind(i, offsetof(kv_append_args, table), table);
    return OK;
}

bool gpu_append_turns(const node *append, const node *rope) {
    return append->op == OP_ROPE_APPEND && rope->op == OP_ROPE && append->in[2] == rope->in[1] &&
           append->p.attn.n_rot == rope->p.rope.n_rot && append->p.attn.neox == rope->p.rope.neox &&
           append->p.attn.d_k == rope->p.rope.head_dim;
}

/* --- reading ----------------------------------------------------------------------------------------------------------- */

static uint32_t group_of(const node *n) { return n->p.attn.n_head / n->p.attn.n_kv_head; }
static uint32_t split_heads(const node *n) { return gpu_attn_split_heads(group_of(n), n->p.attn.d_k); }
static const char *split_kernel(const node *n) {
    if (n->p.attn.d_k > ATTN_SPLIT_D) return "attention_split_wide";
    return split_heads(n) == 8 ? "attention_split_h8" : "attention_split_h4";
}

/* param: query head groups, chunks that a window lets a token see (0: no window) */
static void shape_split(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                        gpu_kernel *kernel) {
    (void)g, (void)rows, (void)kernel;
    uint32_t chunks = i->param[1] ? min_u32(s->n_chunks, i->param[1]) : s->n_chunks;
    l->grid[0] = s->n_single ? chunks : 0;
    l->grid[1] = i->param[0];
    l->grid[2] = s->n_single;
}

static void shape_merge(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                        gpu_kernel *kernel) {
    (void)g, (void)rows, (void)kernel;
    l->grid[0] = s->n_single;
    l->grid[1] = i->param[0];
    l->grid[2] = i->param[1];
}

static void shape_tile(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                       gpu_kernel *kernel) {
    (void)g, (void)rows, (void)kernel;
    l->grid[0] = s->n_tile;
    l->grid[1] = i->param[0];
    l->grid[2] = i->param[1];
}

static status add_attention(gpu_backend *g, const gpu_item_spec *spec, gpu_value q, gpu_value y, err *e) {
    gpu_item *i;
    status s = gpu_item_add(g, spec, &i, e);
    if (s) return s;
    bind_cache(i, offsetof(attention_args, kv));
    gpu_item_bind(i, offsetof(attention_args, q), q);
    gpu_item_bind(i, offsetof(attention_args, y), y);
    gpu_item_bind_step(i, offsetof(attention_args, single), STEP_SINGLE);
    gpu_item_bind_step(i, offsetof(attention_args, tile), STEP_TILE);
    return OK;
}

status gpu_make_attention(gpu_backend *g, const node *n, err *e) {
    gpu_value q = gpu_value_of(g, n->in[0]), y = gpu_value_of(g, n);
    uint32_t h = split_heads(n), n_kv = n->p.attn.n_kv_head;
    attention_args args = {.kv = cache_of(g, n->p.attn.kv_layer), .q_stride = q.stride, .y_stride = y.stride};
    args.sinks = n->n_in > 2 ? gpu_vector_of(g, n->in[2]) : 0;
    args.states = g->scratch;
    args.n_head = n->p.attn.n_head;
    args.window = n->p.attn.window;
    args.scale = n->p.attn.scale;
    args.softcap = n->p.attn.softcap;
    gpu_item_spec spec = {.n = n, .args = &args, .args_bytes = sizeof args, .rows = n->rows};
    spec.kernel = split_kernel(n);
    spec.block = ATTN_SPLIT_THREADS;
    spec.shape = shape_split;
    spec.part = GPU_PART_SPLIT;
    spec.param[0] = n_kv * gpu_ceil_div(group_of(n), h);
    spec.param[1] = args.window ? args.window / ATTN_KEYS + 2 : 0;
    status s = add_attention(g, &spec, q, y, e);
    spec.kernel = "attention_merge";
    spec.block = ATTN_MERGE_THREADS;
    spec.shape = shape_merge;
    spec.part = GPU_PART_MERGE;
    spec.param[0] = args.n_head;
    spec.param[1] = gpu_ceil_div(n->p.attn.d_v, ATTN_MERGE_D);
    if (!s) s = add_attention(g, &spec, q, y, e);
    spec.kernel = "attention_tile";
    spec.block = ATTN_TILE_THREADS;
    spec.shape = shape_tile;
    spec.part = GPU_PART_TILE;
    spec.param[0] = n_kv * gpu_ceil_div(group_of(n), ATTN_TILE_HEADS);
    spec.param[1] = gpu_ceil_div(n->p.attn.d_v, ATTN_TILE_D);
    return s ? s : add_attention(g, &spec, q, y, e);
}

/* --- sizes ------------------------------------------------------------------------------------------------------------- */

uint32_t gpu_attention_group(const plan *p, uint32_t device) {
    uint32_t most = 1;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        if (n->op == OP_ATTENTION && n->device == device && group_of(n) > most) most = group_of(n);
    }
    return most;
}

/* States for as many chunks as the cache has, and one more for each token that may stand alone (prefixes are shared, so the
 * contexts of a step may be longer together than the cache: the tokens that find no room are taken in tiles). */
uint64_t gpu_attention_states(const plan *p, uint32_t device, const kv_layout *kv, uint64_t *state_bytes) {
    uint64_t bytes = 0, n = (uint64_t)kv->n_pages * kv->page_tokens / ATTN_KEYS + 1;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *a = p->order[i];
        if (a->op != OP_ATTENTION || a->device != device) continue;
        uint64_t one = gpu_attn_state_bytes(a->p.attn.n_head, a->p.attn.d_v);
        if (one > bytes) bytes = one;
    }
    *state_bytes = bytes;
    n += p->max_tok < GPU_GRAPH_TOK ? p->max_tok : GPU_GRAPH_TOK;
    return n < MOST_STATES ? n : MOST_STATES;
}
