#include "convert/hf_tensors.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- names --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const hf_name *name;
    uint32_t layer, expert; /* of its '*' and '#'; 0 without */
    bool has_layer, has_expert;
    const char *suffix; /* "weight", "bias", or NULL: the name has none */
} match;

/* The decimal number at the front of s, which has at most six digits and no needless zero. */
static size_t number_at(str s, uint32_t *out) {
    size_t n = 0;
    uint32_t v = 0;
    while (n < s.n && n < 6 && s.p[n] >= '0' && s.p[n] <= '9') v = 10 * v + (uint32_t)(s.p[n++] - '0');
    if (n > 1 && s.p[0] == '0') return 0;
    *out = v;
    return n;
}

static bool fits(const char *pattern, str s, match *m) {
    for (; *pattern; pattern++) {
        size_t n = 1;
        if (*pattern == '%') return true;
        if (*pattern == '*') {
            m->has_layer = true;
            n = number_at(s, &m->layer);
        } else if (*pattern == '#') {
            m->has_expert = true;
            n = number_at(s, &m->expert);
        } else if (s.n == 0 || *s.p != *pattern) {
            return false;
        }
        if (n == 0) return false;
        s.p += n;
        s.n -= n;
    }
    return s.n == 0;
}

static str without_prefixes(const hf_arch *a, str s) {
    for (int i = 0; i < 4 && a->prefixes[i]; i++)
        if (str_starts(s, a->prefixes[i])) {
            const size_t n = strlen(a->prefixes[i]);
            s.p += n;
            s.n -= n;
        }
    return s;
}

/* ".gamma" and ".beta" are TensorFlow's words for a norm's weight and bias. */
static const char *take_suffix(str *s) {
    static const char *const suffix[][2] = {
        {".weight", "weight"}, {".bias", "bias"}, {".gamma", "weight"}, {".beta", "bias"}};
    for (size_t i = 0; i < 4; i++) {
        const size_t n = strlen(suffix[i][0]);
        if (s->n <= n || memcmp(s->p + s->n - n, suffix[i][0], n) != 0) continue;
        s->n -= n;
        return suffix[i][1];
    }
    return NULL;
}

static bool find_name(const hf_arch *a, str whole, match *out) {
    const str s = without_prefixes(a, whole);
    str stem = s;
    const char *suffix = take_suffix(&stem);
    for (int list = 0; list < 3 && a->names[list]; list++)
        for (const hf_name *n = a->names[list]; n->hf; n++) {
            *out = (match){.name = n, .suffix = suffix};
            if (fits(n->hf, n->gguf ? stem : s, out) || (!n->gguf && fits(n->hf, stem, out))) return true;
        }
    return false;
}

/* "blk.*.attn_q" and what was matched -> "blk.7.attn_q.weight". */
static void write_name(char out[OUT_MAX_NAME + 1], const match *m) {
    size_t at = 0;
    for (const char *p = m->name->gguf; *p && at + 8 < OUT_MAX_NAME; p++) {
        if (*p == '*')
            at += (size_t)snprintf(out + at, OUT_MAX_NAME - at, "%" PRIu32, m->layer);
        else
            out[at++] = *p;
    }
    snprintf(out + at, OUT_MAX_NAME + 1 - at, ".%s", m->suffix ? m->suffix : "weight");
}

/* --- one source ---------------------------------------------------------------------------------------------------------- */

static bool is_untied_copy(const hf_config *c, const match *m) {
    return c->tied && strcmp(m->name->gguf, "output") == 0;
}

static status check_source(const hf_config *c, const st_tensor *t, const match *m, err *e) {
    if (t->dtype->quant < 0)
        return fail(e, ERR_CONVERT_TENSOR, "tensor '%.*s' is of type %s: only F32, F16 and BF16 are converted",
                    STR(t->name), t->dtype->name);
    if (m->has_layer && m->layer >= c->n_layer)
        return fail(e, ERR_CONVERT_TENSOR, "tensor '%.*s' is of layer %" PRIu32 ", config.json has %" PRIu32 " layers",
                    STR(t->name), m->layer, c->n_layer);
    if (m->has_expert && m->expert >= c->n_expert)
        return fail(e, ERR_CONVERT_TENSOR,
                    "tensor '%.*s' is of expert %" PRIu32 ", config.json has %" PRIu32 " experts", STR(t->name),
                    m->expert, c->n_expert);
    if (t->n_dims < 1 || t->n_dims > 2 || t->n_elems == 0 || (m->has_expert && t->n_dims != 2))
        return fail(e, ERR_CONVERT_TENSOR, "tensor '%.*s' has %" PRIu32 " dimensions and %" PRIu64 " elements",
                    STR(t->name), t->n_dims, t->n_elems);
    if (m->suffix) return OK;
    return fail(e, ERR_CONVERT_TENSOR, "tensor '%.*s' is neither a .weight nor a .bias", STR(t->name));
}

static status set_shape(out_tensor *o, const hf_config *c, const st_tensor *t, const match *m, err *e) {
    o->how = m->name->how;
    o->n_dims = t->n_dims;
    for (uint32_t i = 0; i < t->n_dims; i++) o->dim[i] = t->dim[t->n_dims - 1 - i];
    if (m->has_expert) o->dim[o->n_dims++] = c->n_expert;
    if (!(o->how & HF_POSITIONS) || c->first_position == 0) return OK;
    if (o->n_dims != 2 || o->dim[1] <= c->first_position)
        return fail(e, ERR_CONVERT_TENSOR, "tensor '%.*s' has no rows behind the first %" PRIu32, STR(t->name),
                    c->first_position);
    o->dim[1] -= c->first_position;
    return OK;
}

static status check_permute(const out_tensor *o, const hf_config *c, err *e) {
    if (!(o->how & (HF_PERMUTE_Q | HF_PERMUTE_K))) return OK;
    const uint64_t n_head = o->how & HF_PERMUTE_Q ? c->n_head : c->n_kv_head, rows = o->dim[o->n_dims - 1];
    if (rows % (2 * n_head) == 0) return OK;
    return fail(e, ERR_CONVERT_TENSOR, "tensor %s has %" PRIu64 " rows, which are no %" PRIu64 " heads of pairs",
                o->name, rows, n_head);
}

/* As llama.cpp does: norms, biases and what is looked up by position stay whole. */
static quant_type type_of(const out_tensor *o, quant_type wanted) {
    static const char norm[] = "_norm.weight";
    const size_t n = strlen(o->name);
    const bool is_norm = n >= sizeof norm && strcmp(o->name + n - (sizeof norm - 1), norm) == 0;
    if (o->n_dims == 1 || is_norm || o->how & HF_F32 || strcmp(o->name + n - 7, ".weight") != 0) return QUANT_F32;
    if (o->dim[0] % quant_lookup(wanted)->block_elems) return QUANT_F16;
    return wanted;
}

/* --- the list ------------------------------------------------------------------------------------------------------------ */

/* One of the lists' entries, and where the parts of its tensors go. */
typedef struct {
    out_tensors *t;
    const hf_config *c;
    json_t *by_name; /* name -> position */
    size_t n_parts;
} listing;

static status new_tensor(listing *l, const st_tensor *src, const match *m, const char *name, err *e) {
    out_tensor *o = &l->t->tensor[l->t->n];
    if (json_object_set_new_nocheck(l->by_name, name, json_integer((json_int_t)l->t->n)))
        return fail(e, ERR_NOMEM, "no memory for the list of tensors");
    memcpy(o->name, name, sizeof o->name);
    o->part = l->t->parts + l->n_parts;
    o->n_parts = m->has_expert ? l->c->n_expert : 1;
    l->n_parts += o->n_parts;
    l->t->n++;
    status s = set_shape(o, l->c, src, m, e);
    return s ? s : check_permute(o, l->c, e);
}

static status add_source(listing *l, const st_tensor *src, const match *m, err *e) {
    char name[OUT_MAX_NAME + 1] = {0};
    write_name(name, m);
    status s = OK;
    const json_t *known = json_object_get(l->by_name, name);
    if (!known) s = new_tensor(l, src, m, name, e);
    if (s) return s;
    out_tensor *o = &l->t->tensor[known ? (size_t)json_integer_value(known) : l->t->n - 1];
    if (o->part[m->expert])
        return fail(e, ERR_CONVERT_TENSOR, "tensors '%.*s' and '%.*s' are both %s", STR(o->part[m->expert]->name),
                    STR(src->name), name);
    if (m->has_expert && (src->dim[1] != o->dim[0] || src->dim[0] != o->dim[1]))
        return fail(e, ERR_CONVERT_TENSOR, "tensor '%.*s' has another shape than the other experts'", STR(src->name));
    o->part[m->expert] = src;
    return OK;
}

static status list_sources(listing *l, const hf_weights *w, err *e) {
    for (size_t i = 0; i < w->n; i++) {
        const st_tensor *src = &w->tensor[i];
        match m;
        if (!find_name(l->c->arch, src->name, &m))
            return fail(e, ERR_CONVERT_TENSOR, "tensor '%.*s' has no place in %s", STR(src->name), l->c->class);
        if (!m.name->gguf || is_untied_copy(l->c, &m)) continue;
        status s = check_source(l->c, src, &m, e);
        if (!s) s = add_source(l, src, &m, e);
        if (s) return s;
    }
    for (size_t i = 0; i < l->t->n; i++)
        for (uint32_t p = 0; p < l->t->tensor[i].n_parts; p++)
            if (!l->t->tensor[i].part[p])
                return fail(e, ERR_CONVERT_TENSOR, "tensor %s: expert %" PRIu32 " is missing", l->t->tensor[i].name, p);
    return OK;
}

/* The type that most of the matrices' bytes have. */
static quant_type most_common(const out_tensors *t) {
    uint64_t bytes[QUANT_COUNT] = {0};
    quant_type most = QUANT_F32;
    for (size_t i = 0; i < t->n; i++) {
        const st_tensor *src = t->tensor[i].part[0];
        if (src->n_dims < 2) continue;
        bytes[src->dtype->quant] += src->n_elems * src->dtype->bytes;
        if (bytes[src->dtype->quant] > bytes[most]) most = (quant_type)src->dtype->quant;
    }
    return most;
}

static void set_types(out_tensors *t, quant_type wanted, hf_warnings *warnings) {
    size_t n_odd = 0;
    const out_tensor *odd = NULL;
    for (size_t i = 0; i < t->n; i++) {
        out_tensor *o = &t->tensor[i];
        o->type = type_of(o, wanted);
        if (o->type == wanted || o->type != QUANT_F16) continue;
        n_odd++;
        odd = o;
    }
    if (odd)
        hf_warn(warnings, "%zu tensors are F16: their rows are no whole blocks of %s (%s has rows of %" PRIu64 ")",
                n_odd, quant_lookup(wanted)->name, odd->name, odd->dim[0]);
}

/* The vocabulary is as long as the table of embeddings. */
static status check_vocab(const out_tensors *t, hf_config *c, err *e) {
    for (size_t i = 0; i < t->n; i++) {
        const out_tensor *o = &t->tensor[i];
        if (strcmp(o->name, "token_embd.weight") != 0 || o->n_dims != 2) continue;
        if (o->dim[1] > 1 << 21) return fail(e, ERR_CONVERT_TENSOR, "%" PRIu64 " tokens are too many", o->dim[1]);
        if (c->n_vocab && c->n_vocab != o->dim[1])
            return fail(e, ERR_CONVERT_TENSOR,
                        "tensor '%.*s' has %" PRIu64 " rows, vocab_size in config.json is %" PRIu32,
                        STR(o->part[0]->name), o->dim[1], c->n_vocab);
        c->n_vocab = (uint32_t)o->dim[1];
        return OK;
    }
    return fail(e, ERR_CONVERT_TENSOR, "the table of token embeddings is missing");
}

status out_tensors_open(out_tensors *t, const hf_weights *w, hf_config *c, quant_type *type, hf_warnings *warnings,
                        err *e) {
    *t = (out_tensors){0};
    listing l = {.t = t, .c = c, .by_name = json_object()};
    size_t n_parts = w->n; /* a tensor of experts may have but few of them */
    if (__builtin_mul_overflow(n_parts, c->n_expert ? c->n_expert : 1, &n_parts) || n_parts > 1 << 24) n_parts = 0;
    t->tensor = mem_array(w->n + 1, sizeof *t->tensor);
    t->parts = n_parts ? mem_array(n_parts, sizeof *t->parts) : NULL;
    status s =
        t->tensor && t->parts && l.by_name ? OK : fail(e, ERR_NOMEM, "no memory for a list of %zu tensors", w->n);
    if (!s) s = list_sources(&l, w, e);
    json_decref(l.by_name);
    if (!s) s = check_vocab(t, c, e);
    if (s) return s;
    if (*type == QUANT_COUNT) *type = most_common(t);
    set_types(t, *type, warnings);
    return OK;
}

void out_tensors_close(out_tensors *t) {
    mem_free(t->tensor);
    mem_free(t->parts);
    *t = (out_tensors){0};
}
