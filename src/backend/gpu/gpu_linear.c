/* The launches of linear layers. Weights of one type that are stacked over one input go in one launch. Which form computes
 * them is settled each step by the number of columns; all give the same bits (kernels/args_linear.h, args_linear_mat.h):
 *
 *   vec1    one column                    weights are read once a column
 *   vec4    a few                         once for four
 *   few     a few dozen                   tiles of 16 columns
 *   many    prompts and big batches       tiles of 64
 *
 * One column has forms of its own that save launches (kernels/linear_vec_one.hip): parts of several K types at once, and a gate
 * with its up, which also does the activation and the quantise behind them. They stand beside the others, which then leave
 * one column alone.
 *
 * An expert's columns are those that chose it: vec takes them token by token, the tiles from lists that moe_lists makes. */
#include "backend/gpu/gpu_items.h"
#include "backend/gpu/kernels/args_linear_mat.h"
#include "backend/gpu/kernels/args_moe.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { FORM_VEC4, FORM_FEW, FORM_MANY }; /* beside the item's first kernel, vec1 */
enum { VEC_COLS = 8, FEW_COLS = 32 };    /* the most columns of vec4 and of few */

static bool is_float(quant_type t) { return t == QUANT_F32 || t == QUANT_F16 || t == QUANT_BF16; }

/* "linear_vec1_" and "q4_k": the name of a kernel. */
static void kernel_name(char out[64], const char *form, quant_type t) {
    size_t n = (size_t)snprintf(out, 64, "%s", form);
    for (const char *p = quant_lookup(t)->name; *p && n + 1 < 64; p++) out[n++] = (char)tolower((unsigned char)*p);
    out[n] = 0;
}

/* What the shape function of one item needs; by its param: index of the type, tiles of rows in each form's unit. */
enum { PARAM_FLOAT, PARAM_VEC, PARAM_VEC4, PARAM_FEW, PARAM_MANY, PARAM_NOT_ONE };

typedef struct {
    uint32_t threads, rows, cols;
} form_size;

static form_size size_of(uint32_t form, bool floats) {
    static const form_size sizes[2][3] = {
        {{LINEAR_VEC4_THREADS, LINEAR_VEC4_ROWS, 4},
         {LINEAR_MAT_FEW_THREADS, LINEAR_MAT_FEW_ROWS, LINEAR_MAT_FEW_COLS},
         {LINEAR_MAT_THREADS, LINEAR_MAT_ROWS, LINEAR_MAT_COLS}},
        {{LINEAR_VEC1_THREADS, LINEAR_VEC_FLOAT_ROWS, 4},
         {LINEAR_MAT_FLOAT_THREADS, LINEAR_MAT_FLOAT_ROWS, LINEAR_MAT_FLOAT_COLS},
         {LINEAR_MAT_FLOAT_THREADS, LINEAR_MAT_FLOAT_ROWS, LINEAR_MAT_FLOAT_COLS}},
    };
    return sizes[floats][form];
}

/* The best form there is for so many columns; -1: the first kernel. */
static int form_for(const gpu_item *i, uint32_t cols) {
    int best = cols == 1 ? -1 : cols <= VEC_COLS ? FORM_VEC4 : cols <= FEW_COLS ? FORM_FEW : FORM_MANY;
    if (best == FORM_FEW && !i->form[FORM_FEW]) best = i->form[FORM_MANY] ? FORM_MANY : FORM_VEC4;
    if (best == FORM_MANY && !i->form[FORM_MANY]) best = i->form[FORM_FEW] ? FORM_FEW : FORM_VEC4;
    return best == FORM_VEC4 && !i->form[FORM_VEC4] ? -1 : best;
}

static void shape_linear(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                         gpu_kernel *kernel) {
    (void)g, (void)s;
    int form = form_for(i, rows);
    gpu_item_set(i, offsetof(linear_args, n_cols), rows);
    l->args_bytes = sizeof(linear_args);
    l->grid[0] = form < 0 && rows == 1 && i->param[PARAM_NOT_ONE] ? 0 : i->param[PARAM_VEC];
    l->grid[1] = rows;
    if (form < 0) return;
    form_size z = size_of((uint32_t)form, i->param[PARAM_FLOAT]);
    *kernel = i->form[form];
    l->block = z.threads;
    l->grid[1] = gpu_ceil_div(rows, z.cols);
    if (form == FORM_VEC4) l->grid[0] = i->param[PARAM_VEC4];
    if (form == FORM_VEC4) return;
    l->args_bytes = sizeof(linear_mat_args);
    l->grid[0] = gpu_ceil_div(rows, z.cols);
    l->grid[1] = i->param[form == FORM_FEW ? PARAM_FEW : PARAM_MANY];
}

static uint32_t row_tiles(const linear_args *a, uint32_t unit) {
    uint32_t n = 0;
    for (uint32_t p = 0; p < a->n_parts; p++) n += gpu_ceil_div(a->part[p].n_rows, unit);
    return n;
}

/* The other forms of this type; what this build does not have stays NULL. */
static void find_forms(gpu_backend *g, gpu_item *i, quant_type t) {
    static const char *const names[GPU_FORMS] = {"linear_vec4_", "linear_mat_few_", "linear_mat_"};
    char name[64];
    for (uint32_t f = 0; f < GPU_FORMS; f++) {
        kernel_name(name, names[f], t);
        if (gpu_kernel_of(g, name, &i->form[f], NULL)) i->form[f] = NULL;
    }
}

static void set_params(uint32_t param[6], const linear_args *a, bool floats) {
    param[PARAM_FLOAT] = floats;
    param[PARAM_VEC] = row_tiles(a, floats ? LINEAR_VEC_FLOAT_ROWS : LINEAR_VEC_ROWS);
    param[PARAM_VEC4] = row_tiles(a, size_of(FORM_VEC4, floats).rows);
    param[PARAM_FEW] = row_tiles(a, size_of(FORM_FEW, floats).rows);
    param[PARAM_MANY] = row_tiles(a, size_of(FORM_MANY, floats).rows);
}

static void bind_linear(gpu_backend *g, gpu_item *i, const node *n) {
    const node *res = n->p.linear.residual ? n->in[n->n_in - 1] : NULL;
    gpu_item_bind(i, offsetof(linear_args, x), gpu_value_of(g, n->in[0]));
    if (res) gpu_item_bind(i, offsetof(linear_args, residual), gpu_value_of(g, res));
    gpu_item_bind(i, offsetof(linear_args, y), gpu_value_of(g, n));
}

/* not_one: one column is another item's. */
static status add_linear(gpu_backend *g, const node *n, const linear_args *a, quant_type t, bool not_one, err *e) {
    linear_mat_args args = {.lin = *a};
    char name[64];
    kernel_name(name, "linear_vec1_", t);
    gpu_item_spec spec = {.n = n, .kernel = name, .block = LINEAR_VEC1_THREADS, .args = &args, .rows = n->rows};
    spec.args_bytes = sizeof args;
    spec.shape = shape_linear;
    set_params(spec.param, a, is_float(t));
    spec.param[PARAM_NOT_ONE] = not_one;
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    find_forms(g, i, t);
    bind_linear(g, i, n);
    return OK;
}

static uint32_t parts_of(const node *n) { return n->n_in - 1 - n->p.linear.residual; }

static linear_args args_of(const gpu_backend *g, const node *n) {
    linear_args a = {.k = n->in[0]->width, .x_stride = gpu_value_of(g, n->in[0]).stride};
    a.y_stride = gpu_value_of(g, n).stride;
    if (n->p.linear.residual) a.residual_stride = gpu_value_of(g, n->in[n->n_in - 1]).stride;
    return a;
}

static void add_part(const gpu_backend *g, linear_args *a, const node *w, uint32_t column) {
    gpu_weight m = gpu_matrix_of(g, w);
    m.y_column = column;
    a->n_rows += m.n_rows;
    a->part[a->n_parts++] = m;
}

/* --- one column ------------------------------------------------------------------------------------------------------- */

static void shape_one(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                      gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    gpu_item_set(i, offsetof(linear_args, n_cols), 1);
    l->grid[0] = rows == 1 ? i->param[0] : 0;
}

/* All parts, in order. NULL *out: this build has no such kernel. */
static status add_one(gpu_backend *g, const node *n, const char *kernel, linear_args *a, size_t args_bytes,
                      gpu_item **out, err *e) {
    uint32_t column = 0;
    gpu_kernel k;
    *out = NULL;
    if (gpu_kernel_of(g, kernel, &k, NULL)) return OK;
    for (uint32_t p = 0; p < parts_of(n); column += (uint32_t)n->in[1 + p++]->weight->dim[1]) {
        const node *w = n->in[1 + p];
        add_part(g, a, w, column);
        a->types |= (uint32_t)w->weight->type << 8 * p;
    }
    gpu_item_spec spec = {.n = n, .kernel = kernel, .block = LINEAR_VEC1_THREADS, .args = a, .rows = n->rows};
    spec.args_bytes = args_bytes;
    spec.shape = shape_one;
    spec.param[0] = row_tiles(a, LINEAR_VEC_ROWS);
    status s = gpu_item_add(g, &spec, out, e);
    if (!s) bind_linear(g, *out, n);
    return s;
}

static bool is_k_type(quant_type t) {
    graph_dtype act;
    return graph_quantised_input(t, &act) && act == DTYPE_Q8K;
}

/* *one: it was added. */
static status make_mixed(gpu_backend *g, const node *n, bool *one, err *e) {
    uint32_t n_parts = parts_of(n), differ = 0;
    for (uint32_t p = 0; p < n_parts; p++) {
        if (!is_k_type(n->in[1 + p]->weight->type)) return OK;
        differ += n->in[1 + p]->weight->type != n->in[1]->weight->type;
    }
    if (!differ || n_parts > LINEAR_PARTS) return OK;
    linear_args a = args_of(g, n);
    gpu_item *i;
    status s = add_one(g, n, "linear_vec1_mixed_k", &a, sizeof a, &i, e);
    *one = i != NULL;
    return s;
}

/* Saves a launch, but its last block works alone at the end. On an H200 that costs more than the launch (8B Q4_K_M: 371 to 375
 * tokens a second with it, 401 without); AMD's launches cost more, nobody has measured which is more there. */
static bool is_gate_and_up(const gpu_backend *g, const node *n, const node *act) {
    if (g->d->platform == GPU_PLATFORM_CUDA) return false;
    if (!act || (act->op != OP_SWIGLU_QUANTIZE && act->op != OP_GEGLU_QUANTIZE) || n->p.linear.residual) return false;
    const node *gate = act->in[0], *up = act->in[1];
    graph_dtype quantised;
    return n->n_in == 3 && n->in[1]->weight->type == n->in[2]->weight->type &&
           graph_quantised_input(n->in[1]->weight->type, &quantised) && gate->op == OP_VIEW && up->op == OP_VIEW &&
           gate != up && gate->in[0] == n && up->in[0] == n && 2 * act->width == n->width &&
           gate->p.view.offset % act->width == 0 && up->p.view.offset % act->width == 0 &&
           n->in[1]->weight->dim[1] == act->width && gpu_only_reader(g, act, n);
}

/* *one: it was added. Its results go to scratch memory: nobody reads them behind it. */
static status make_gated(gpu_backend *g, const node *n, bool *one, err *e) {
    const node *act = g->next;
    if (!is_gate_and_up(g, n, act)) return OK;
    gpu_value out = gpu_value_of(g, act);
    linear_gated_args a = {.lin = args_of(g, n), .out = out.at, .come = g->come, .n = act->width};
    a.gate = act->in[0]->p.view.offset;
    a.up = act->in[1]->p.view.offset;
    a.scale_block = act->dtype == DTYPE_Q8K ? 256 : 32;
    a.gelu = act->op == OP_GEGLU_QUANTIZE;
    char name[64];
    kernel_name(name, "linear_vec1_gated_", n->in[1]->weight->type);
    gpu_item *i;
    status s = add_one(g, n, name, &a.lin, sizeof a, &i, e);
    if (s || !i) return s;
    gpu_item_bind(i, offsetof(linear_args, y), (gpu_value){.at = g->gated, .array = -1});
    g->drawn.n = act;
    g->drawn.behind_attention = false;
    *one = true;
    return OK;
}

/* --- any number of columns: one launch for each type among the parts, or more where there are many ------------------------ */

status gpu_make_linear(gpu_backend *g, const node *n, err *e) {
    uint32_t n_parts = parts_of(n);
    bool done[GRAPH_MAX_IN] = {0}, one = false;
    status s = make_gated(g, n, &one, e);
    if (!s && !one) s = make_mixed(g, n, &one, e);
    for (uint32_t first = 0; !s && first < n_parts; first++) {
        if (done[first]) continue;
        quant_type t = n->in[1 + first]->weight->type;
        linear_args a = args_of(g, n);
        uint32_t column = 0;
        for (uint32_t p = 0; p < n_parts; column += (uint32_t)n->in[1 + p++]->weight->dim[1]) {
            const node *w = n->in[1 + p];
            if (done[p] || w->weight->type != t || a.n_parts == LINEAR_PARTS) continue;
            add_part(g, &a, w, column);
            done[p] = true;
        }
        s = add_linear(g, n, &a, t, one, e);
    }
    return s;
}

/* --- experts ----------------------------------------------------------------------------------------------------------- */

static bool goes_in_tiles(const gpu_item *i, uint32_t rows) { return i->form[0] && rows > VEC_COLS; }

static void shape_expert(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                         gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    gpu_item_set(i, offsetof(linear_expert_args, n_tok), rows);
    l->grid[0] = goes_in_tiles(i, rows) ? 0 : i->param[0];
    l->grid[1] = rows * i->param[1];
}

static void shape_lists(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                        gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    gpu_item_set(i, offsetof(moe_lists_args, n_tok), rows);
    l->grid[0] = goes_in_tiles(i, rows) ? i->param[0] : 0;
}

/* param: tiles of rows of an expert, experts, used, columns of a tile */
static void shape_expert_tiles(const gpu_backend *g, const gpu_item *i, const gpu_step *s, uint32_t rows, gpu_launch *l,
                               gpu_kernel *kernel) {
    (void)g, (void)s, (void)kernel;
    l->grid[0] = goes_in_tiles(i, rows) ? linear_mat_expert_tiles(rows * i->param[2], i->param[1], i->param[3]) : 0;
    l->grid[1] = i->param[0];
}

static status add_expert_vec(gpu_backend *g, const node *n, gpu_kernel tiles, err *e) {
    const node *w = n->in[1];
    gpu_value x = gpu_value_of(g, n->in[0]), route = gpu_value_of(g, n->in[2]), y = gpu_value_of(g, n);
    linear_expert_args a = {.w = gpu_matrix_of(g, w), .x_stride = x.stride, .route_stride = route.stride};
    a.y_stride = y.stride;
    a.k = (uint32_t)w->weight->dim[0];
    a.n_used = n->p.expert.n_used;
    a.n_expert = (uint32_t)w->weight->dim[2];
    a.per_slot = n->p.expert.per_slot;
    for (uint32_t p = 0; p < LINEAR_PLANES; p++) a.expert_stride[p] = (uint64_t)a.w.n_rows * a.w.stride[p];
    char name[64];
    kernel_name(name, "linear_vec1_expert_", w->weight->type);
    gpu_item_spec spec = {.n = n, .kernel = name, .block = LINEAR_VEC1_THREADS, .args = &a, .rows = n->rows};
    spec.args_bytes = sizeof a;
    spec.shape = shape_expert;
    spec.param[0] = gpu_ceil_div(a.w.n_rows, is_float(w->weight->type) ? LINEAR_VEC_FLOAT_ROWS : LINEAR_VEC_ROWS);
    spec.param[1] = a.n_used;
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    i->form[0] = tiles;
    gpu_item_bind(i, offsetof(linear_expert_args, x), x);
    gpu_item_bind(i, offsetof(linear_expert_args, route), route);
    gpu_item_bind(i, offsetof(linear_expert_args, y), y);
    return OK;
}

/* Lists lie in scratch, behind attention's states: first [n_expert + 1], then the picks. */
static gpu_addr picks_at(const gpu_backend *g, uint32_t n_expert) {
    return g->lists + gpu_align(((uint64_t)n_expert + 1) * sizeof(uint32_t));
}

uint64_t gpu_expert_list_bytes(const plan *p, uint32_t device) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        if (n->op != OP_LINEAR_EXPERT || n->device != device) continue;
        uint64_t first = gpu_align((n->in[1]->weight->dim[2] + 1) * sizeof(uint32_t));
        uint64_t picks = (uint64_t)p->max_tok * n->p.expert.n_used * sizeof(uint32_t);
        if (first + picks > most) most = first + picks;
    }
    return gpu_align(most);
}

static status add_lists(gpu_backend *g, const node *n, gpu_kernel tiles, err *e) {
    gpu_value route = gpu_value_of(g, n->in[2]);
    moe_lists_args a = {.first = g->lists, .route_stride = route.stride, .n_used = n->p.expert.n_used};
    a.n_expert = (uint32_t)n->in[1]->weight->dim[2];
    a.pick = picks_at(g, a.n_expert);
    gpu_item_spec spec = {.n = n, .kernel = "moe_lists", .block = MOE_BLOCK, .args = &a, .rows = n->rows};
    spec.args_bytes = sizeof a;
    spec.shape = shape_lists;
    spec.part = GPU_PART_LISTS;
    spec.param[0] = a.n_expert;
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    i->form[0] = tiles;
    gpu_item_bind(i, offsetof(moe_lists_args, route), route);
    return OK;
}

static status add_expert_tiles(gpu_backend *g, const node *n, const char *name, gpu_kernel tiles, err *e) {
    const node *w = n->in[1];
    gpu_value x = gpu_value_of(g, n->in[0]), y = gpu_value_of(g, n);
    form_size z = size_of(FORM_FEW, is_float(w->weight->type));
    linear_mat_args a = {.first = g->lists, .n_expert = (uint32_t)w->weight->dim[2]};
    a.lin = (linear_args){.part = {gpu_matrix_of(g, w)}, .x_stride = x.stride, .n_parts = 1};
    a.lin.n_rows = a.lin.part[0].n_rows;
    a.lin.k = (uint32_t)w->weight->dim[0];
    a.lin.y_stride = y.stride;
    a.pick = picks_at(g, a.n_expert);
    a.n_used = n->p.expert.n_used;
    a.per_slot = n->p.expert.per_slot;
    gpu_item_spec spec = {.n = n, .kernel = name, .block = z.threads, .args = &a, .rows = n->rows};
    spec.args_bytes = sizeof a;
    spec.shape = shape_expert_tiles;
    spec.param[0] = gpu_ceil_div(a.lin.n_rows, z.rows);
    spec.param[1] = a.n_expert;
    spec.param[2] = n->p.expert.n_used;
    spec.param[3] = z.cols;
    gpu_item *i;
    status s = gpu_item_add(g, &spec, &i, e);
    if (s) return s;
    i->form[0] = tiles;
    gpu_item_bind(i, offsetof(linear_args, x), x);
    gpu_item_bind(i, offsetof(linear_args, y), y);
    return OK;
}

status gpu_make_linear_expert(gpu_backend *g, const node *n, err *e) {
    quant_type t = n->in[1]->weight->type;
    char name[64];
    gpu_kernel tiles = NULL;
    kernel_name(name, is_float(t) ? "linear_mat_" : "linear_mat_few_", t);
    if (gpu_kernel_of(g, name, &tiles, NULL)) tiles = NULL;
    status s = add_expert_vec(g, n, tiles, e);
    if (s || !tiles) return s;
    s = add_lists(g, n, tiles, e);
    return s ? s : add_expert_tiles(g, n, name, tiles, e);
}
