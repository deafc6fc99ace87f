/* Which layers run where. The last layers run on GPUs (-ngl), one device after the other in the shares of -ts; those before
 * them on the CPU. What comes before the first layer runs where that does, what follows the last one where that does. */
#include "api/api.h"

#include "backend/cpu/cpu.h"
#include "backend/gpu/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the options -------------------------------------------------------------------------------------------------------- */

static bool read_count(const char *text, uint32_t *out) {
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    *out = (uint32_t)n;
    return *text >= '0' && *text <= '9' && !*end && n <= UINT32_MAX;
}

/* "3,1": a share for each GPU, at least one of them above 0. */
static status read_shares(double *share, uint32_t *n, const char *text, err *e) {
    double sum = 0;
    for (*n = 0; *n < API_MAX_GPUS; ++*n) {
        char *end;
        double x = strtod(text, &end);
        if (end == text || !(x >= 0 && x < 1e9) || (*end && *end != ',')) break;
        share[*n] = x;
        sum += x;
        text = end + 1;
        if (*end) continue;
        ++*n;
        if (sum > 0) return OK;
        break;
    }
    return fail(e, ERR_RANGE, "-ts: give a share of the layers for each GPU, as 3,1, for at most %d", API_MAX_GPUS);
}

/* The picked GPU first, then all others of its kind that may be taken. */
static void take_all(api_shape *s) {
    const gpu_list *l = s->gpus;
    for (uint32_t i = 0; i < l->n && s->split.n_gpus < API_MAX_GPUS; i++) {
        const gpu_device *d = &l->device[i];
        if (i != s->gpu && !d->why_not.code && !d->display_only && d->driver == l->device[s->gpu].driver)
            s->split.gpu[s->split.n_gpus++] = i;
    }
}

/* What is wrong with the options whatever devices there are. */
static status check_options(const rf_engine_options *opt, uint32_t *n_layers, err *e) {
    double share[API_MAX_GPUS];
    uint32_t n;
    const char *mode = opt->split_mode ? opt->split_mode : "none";
    if (opt->gpu_layers && strcmp(opt->gpu_layers, "all") != 0 && !read_count(opt->gpu_layers, n_layers))
        return fail(e, ERR_RANGE, "-ngl %s: give a number of layers, or all", opt->gpu_layers);
    if (strcmp(mode, "none") != 0 && strcmp(mode, "layer") != 0)
        return fail(e, ERR_USAGE, "-sm %s: give none or layer", mode);
    if (opt->main_gpu && !read_count(opt->main_gpu, &n))
        return fail(e, ERR_RANGE, "-mg %s: give the number of a GPU", opt->main_gpu);
    return opt->tensor_split ? read_shares(share, &n, opt->tensor_split, e) : OK;
}

static status take_devices(api_shape *s, const rf_engine_options *opt, double *share, err *e) {
    api_split *p = &s->split;
    uint32_t n_shares = 0, main_gpu;
    bool layers = opt->tensor_split || (opt->split_mode && strcmp(opt->split_mode, "layer") == 0);
    if (opt->main_gpu) {
        if (!read_count(opt->main_gpu, &main_gpu) || main_gpu >= s->gpus->n)
            return fail(e, ERR_RANGE, "-mg %s: there are %u GPUs, counted from 0", opt->main_gpu, s->gpus->n);
        s->gpu = main_gpu;
    }
    p->gpu[p->n_gpus++] = s->gpu;
    if (layers) take_all(s);
    if (layers && !opt->tensor_split) gpu_list_measure(s->gpus);
    for (uint32_t i = 0; i < p->n_gpus; i++) share[i] = (double)s->gpus->device[p->gpu[i]].memory_free + 1;
    if (!opt->tensor_split) return OK;
    status rc = read_shares(share, &n_shares, opt->tensor_split, e);
    if (!rc && n_shares > p->n_gpus) rc = fail(e, ERR_RANGE, "-ts %s: %u GPUs are there", opt->tensor_split, p->n_gpus);
    p->n_gpus = n_shares;
    return rc;
}

static void deal_layers(api_split *p, const double *share) {
    double sum = 0, upto = 0;
    for (uint32_t i = 0; i < p->n_gpus; i++) sum += share[i];
    for (uint32_t i = 0; i < p->n_gpus; i++) {
        upto += share[i];
        p->end[i] = p->first + (uint32_t)((p->n_layer - p->first) * (upto / sum) + 0.5);
    }
    p->end[p->n_gpus - 1] = p->n_layer;
}

status api_split_make(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e) {
    api_split *p = &s->split;
    double share[API_MAX_GPUS] = {0};
    uint32_t n = m->info.n_layer;
    *p = (api_split){.n_layer = n};
    status rc = check_options(opt, &n, e);
    if (rc) return rc;
    if (!s->gpus) {
        p->first = p->n_layer;
        if (opt->gpu_layers && n && !s->automatic)
            return fail(e, ERR_USAGE, "-ngl %s with --device cpu: no layer can go to a GPU", opt->gpu_layers);
        return OK;
    }
    if ((rc = take_devices(s, opt, share, e))) return rc;
    p->first = n < p->n_layer ? p->n_layer - n : 0;
    if (p->first) s->has_cpu = true;
    deal_layers(p, share);
    return OK;
}

void api_split_layers(api_shape *s, uint32_t n) {
    api_split *p = &s->split;
    uint32_t old = p->first;
    p->first = n < p->n_layer ? p->n_layer - n : 0;
    s->has_cpu = p->first > 0;
    for (uint32_t i = 0; i + 1 < p->n_gpus; i++) { /* the same shares of what is left */
        double share = old < p->n_layer ? (double)(p->end[i] - old) / (p->n_layer - old) : 0;
        p->end[i] = p->first + (uint32_t)(share * n + 0.5);
    }
}

/* --- placement ---------------------------------------------------------------------------------------------------------- */

static uint32_t device_of_layer(const api_split *p, uint32_t layer) {
    uint32_t i = 0;
    if (layer < p->first) return p->n_gpus;
    while (i + 1 < p->n_gpus && layer >= p->end[i]) i++;
    return i;
}

/* What belongs to no layer: does anything before it? Its inputs stand in order, so theirs are looked at first. */
static uint32_t layer_of(const api_split *p, const node *n) {
    if (n->layer >= 0) return (uint32_t)n->layer;
    bool after = n->rows == ROWS_OUT;
    for (uint32_t i = 0; i < n->n_in; i++) after = after || (n->in[i]->op != OP_WEIGHT && n->in[i]->layer >= 0);
    return after ? p->n_layer - 1 : 0;
}

static uint32_t choose(void *ctx, const node *n) {
    const api_backends *b = ctx;
    return device_of_layer(&b->split, layer_of(&b->split, n));
}

static void moved(void *ctx, const node *n, uint32_t from) {
    api_backends *b = ctx;
    (void)from;
    if (b->n_moved++) return;
    snprintf(b->first_moved, sizeof b->first_moved, "%s \"%s\" of layer %d", graph_op_name(n->op),
             n->label ? n->label : "", n->layer);
}

/* By cost, too, each GPU has its own layers. Where not all of them fit, layers are dealt, and costs are not asked again. */
static bool may_run(void *ctx, const node *n, uint32_t device) {
    const api_backends *b = ctx;
    return device >= b->split.n_gpus || device == device_of_layer(&b->split, layer_of(&b->split, n));
}

exec_options api_exec_options(const api_shape *s, api_backends *b) {
    exec_options x = s->exec;
    b->split = s->split;
    b->n_moved = 0;
    if (b->n < 2) return x;
    x.choose_ctx = b;
    if (s->placement == PLACEMENT_COST && s->has_cpu && !s->split.first) {
        x.strategy = PLACE_AUTOMATIC;
        x.speed = s->speed;
        x.may = may_run;
        return x;
    }
    x.choose = choose;
    if (s->may_move && s->has_cpu) x.moved = moved;
    return x;
}

/* --- backends ----------------------------------------------------------------------------------------------------------- */

static status open_cpu(backend **out, const api_shape *s, err *e) {
    cpu_options opt = {.n_threads = s->threads, .tier = s->tier, .profile = s->profile};
    return cpu_backend_open(out, &opt, e);
}

status api_backends_open(api_backends *b, const api_shape *s, err *e) {
    *b = (api_backends){.split = s->split};
    status rc = OK;
    bool all_cpu = !s->gpus || s->split.first == s->split.n_layer;
    for (uint32_t i = 0; !rc && !all_cpu && i < s->split.n_gpus; i++) {
        gpu_options opt = {.list = s->gpus, .device = s->split.gpu[i], .n_threads = s->threads, .profile = s->profile};
        rc = gpu_backend_open(&b->b[b->n], &opt, e);
        b->n += !rc;
    }
    if (all_cpu) b->split.n_gpus = 0;
    if (!rc && (all_cpu || s->has_cpu)) rc = api_backends_add_cpu(b, s, e);
    if (rc) api_backends_close(b);
    return rc;
}

status api_backends_add_cpu(api_backends *b, const api_shape *s, err *e) {
    status rc = open_cpu(&b->b[b->n], s, e);
    b->n += !rc;
    return rc;
}

void api_backends_close(api_backends *b) {
    for (uint32_t i = 0; i < b->n; i++) b->b[i]->ops->close(b->b[i]);
    b->n = 0;
}

bool api_backend_is_gpu(const backend *b) { return strcmp(b->ops->kind, "gpu") == 0; }
