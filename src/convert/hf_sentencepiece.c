/* SentencePiece: its model file, and vocabularies that were turned into merges.
 *
 * tokenizer.model is a protobuf message (sentencepiece_model.proto), of which is read:
 *   1 pieces: {1 text, 2 score (float), 3 type}   2 trainer: {3 model_type, 40 unk_id, 41 bos_id, 42 eos_id, 43 pad_id}
 *   3 normaliser: {2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces}
 * A field is a key (number << 3 | wire type), then a varint, eight bytes, a length and bytes, or four bytes. */
#include "convert/hf_tokenizer.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

typedef struct {
    const uint8_t *at, *end;
    bool bad; /* it ended early, or held what protobuf does not allow; stays set */
} proto;

typedef struct {
    uint32_t number;
    int wire;
    uint64_t value; /* of a varint, or four or eight bytes */
    proto bytes;
} field;

static uint64_t read_varint(proto *p) {
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && p->at < p->end; shift += 7) {
        const uint8_t b = *p->at++;
        v |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) return v;
    }
    p->bad = true;
    return 0;
}

static uint64_t read_fixed(proto *p, size_t n) {
    uint64_t v = 0;
    if ((size_t)(p->end - p->at) < n) p->bad = true;
    for (size_t i = 0; !p->bad && i < n; i++) v |= (uint64_t)p->at[i] << 8 * i;
    if (!p->bad) p->at += n;
    return v;
}

/* The next field; false at the end, or when p is bad. */
static bool read_field(proto *p, field *f) {
    *f = (field){0};
    if (p->bad || p->at == p->end) return false;
    const uint64_t key = read_varint(p);
    f->number = (uint32_t)(key >> 3);
    f->wire = (int)(key & 7);
    if (f->wire == WIRE_VARINT) {
        f->value = read_varint(p);
    } else if (f->wire == WIRE_FIXED32 || f->wire == WIRE_FIXED64) {
        f->value = read_fixed(p, f->wire == WIRE_FIXED32 ? 4 : 8);
    } else if (f->wire == WIRE_BYTES) {
        const uint64_t n = read_varint(p);
        if (p->bad || n > (uint64_t)(p->end - p->at)) return p->bad = true, false;
        f->bytes = (proto){.at = p->at, .end = p->at + n};
        p->at += n;
    } else {
        p->bad = true; /* groups were given up before sentencepiece was written */
    }
    if (key >> 3 == 0 || key >> 3 > UINT32_MAX) p->bad = true;
    return !p->bad;
}

static float float_of(uint64_t v) {
    const uint32_t bits = (uint32_t)v;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static bool read_piece(proto p, str *text, float *score, int32_t *kind) {
    field f;
    *kind = HF_NORMAL;
    while (read_field(&p, &f)) {
        if (f.number == 1 && f.wire == WIRE_BYTES)
            *text = (str){(const char *)f.bytes.at, (size_t)(f.bytes.end - f.bytes.at)};
        if (f.number == 2 && f.wire == WIRE_FIXED32) *score = float_of(f.value);
        if (f.number == 3 && f.wire == WIRE_VARINT) *kind = f.value <= HF_BYTE ? (int32_t)f.value : 0;
    }
    const bool finite = *score - *score == 0.0f;
    return !p.bad && text->n && finite && *kind >= HF_NORMAL; /* SentencePiece's kinds are GGUF's */
}

static bool read_trainer(hf_tokenizer *t, proto p, uint64_t *model_type) {
    field f;
    t->special[HF_UNK] = 0; /* the message's defaults */
    t->special[HF_BOS] = 1;
    t->special[HF_EOS] = 2;
    while (read_field(&p, &f)) {
        static const hf_special ids[] = {HF_UNK, HF_BOS, HF_EOS, HF_PAD};
        if (f.wire != WIRE_VARINT) continue;
        if (f.number == 3) *model_type = f.value;
        if (f.number >= 40 && f.number <= 43) t->special[ids[f.number - 40]] = f.value < t->n ? (int32_t)f.value : -1;
    }
    return !p.bad;
}

static bool read_normaliser(hf_tokenizer *t, proto p) {
    field f;
    t->add_space = 1;
    t->extra_spaces = 1;
    while (read_field(&p, &f)) {
        if (f.number == 2 && f.wire == WIRE_BYTES) {
            t->charsmap = f.bytes.at;
            t->n_charsmap = (size_t)(f.bytes.end - f.bytes.at);
        }
        if (f.number == 3 && f.wire == WIRE_VARINT) t->add_space = f.value != 0;
        if (f.number == 4 && f.wire == WIRE_VARINT) t->extra_spaces = f.value != 0;
    }
    return !p.bad;
}

static status bad_file(err *e) {
    return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.model is no SentencePiece model, or a damaged one");
}

static status read_message(hf_tokenizer *t, size_t *n_pieces, uint64_t *model_type, err *e) {
    proto p = {.at = (const uint8_t *)t->proto.p, .end = (const uint8_t *)t->proto.p + t->proto.n};
    field f;
    while (read_field(&p, &f)) {
        bool ok = true;
        if (f.wire != WIRE_BYTES) continue;
        if (f.number == 1) {
            str text = {0};
            float score = 0;
            int32_t kind;
            ok = read_piece(f.bytes, &text, &score, &kind);
            if (ok && *n_pieces < t->n) {
                t->text[*n_pieces] = text;
                t->score[*n_pieces] = score;
                t->kind[*n_pieces] = kind;
            }
            ++*n_pieces;
        } else if (f.number == 2) {
            ok = read_trainer(t, f.bytes, model_type);
        } else if (f.number == 3) {
            ok = read_normaliser(t, f.bytes);
        }
        if (!ok) return bad_file(e);
    }
    return p.bad || *n_pieces == 0 ? bad_file(e) : OK;
}

status hf_read_sentencepiece(hf_tokenizer *t, hf_warnings *warnings, err *e) {
    uint64_t model_type = MODEL_UNIGRAM;
    size_t n_pieces = 0;
    status s = read_message(t, &n_pieces, &model_type, e);
    if (s) return s;
    if (model_type != MODEL_BPE)
        return fail(e, ERR_CONVERT_TOKENIZER, "tokenizer.model: only SentencePiece's BPE is built in for this model");
    if (n_pieces > t->n)
        hf_warn(warnings, "%zu tokens of tokenizer.model are left out: the model has only %u", n_pieces - t->n, t->n);
    t->n_charsmap = 0; /* SentencePiece's BPE here takes texts as they are */
    t->extra_spaces = -1;
    return OK;
}

/* --- merges as scores ---------------------------------------------------------------------------------------------------- */

/* transformers turns a vocabulary with scores into merges: every pair of tokens that together are a token, the higher that
 * token's score the earlier, among equal scores the longer left half first. So the place of a token's merges tells its
 * score, and tokens whose merges are mixed had the same. That this is what happened is checked: of each token there are as
 * many merges as ways to cut it in two tokens, and mixed ones stand in that order. */

typedef struct {
    size_t n, last; /* merges that make the token; the last of them */
} made;

static size_t next_char(str s, size_t at) {
    do at++;
    while (at < s.n && ((uint8_t)s.p[at] & 0xC0) == 0x80);
    return at;
}

static size_t n_cuts(const json_t *vocab, str s) {
    size_t n = 0;
    for (size_t at = next_char(s, 0); at < s.n; at = next_char(s, at))
        n += json_object_getn(vocab, s.p, at) && json_object_getn(vocab, s.p + at, s.n - at);
    return n;
}

static size_t left_chars(str merge) {
    size_t n = 0, at = 0;
    for (; at < merge.n && merge.p[at] != ' '; at = next_char(merge, at)) n++;
    return n;
}

static status not_from_scores(err *e, str what) {
    return fail(e, ERR_CONVERT_TOKENIZER,
                "tokenizer.json: the merges of '%.*s' are not those of a SentencePiece vocabulary; the folder's "
                "tokenizer.model would be needed",
                STR(what));
}

/* id[i]: the token that merge i makes. */
static status read_made(const hf_tokenizer *t, const json_t *vocab, uint32_t *id, made *m, err *e) {
    strbuf joined = {0};
    status s = OK;
    for (size_t i = 0; !s && i < t->n_merges; i++) {
        const str merge = t->merge[i];
        const char *space = memchr(merge.p, ' ', merge.n);
        const size_t left = space ? (size_t)(space - merge.p) : merge.n;
        strbuf_clear(&joined);
        strbuf_add(&joined, merge.p, left);
        if (space) strbuf_add(&joined, space + 1, merge.n - left - 1);
        if (joined.failed) {
            s = fail(e, ERR_NOMEM, "no memory for the tokenizer");
            break;
        }
        const json_t *v = space && joined.n ? json_object_getn(vocab, joined.p, joined.n) : NULL;
        if (!v) {
            s = not_from_scores(e, merge);
            break;
        }
        id[i] = (uint32_t)json_integer_value(v); /* read_vocab checked it */
        m[id[i]].n++;
        m[id[i]].last = i;
    }
    strbuf_free(&joined);
    return s;
}

static status set_scores(hf_tokenizer *t, const uint32_t *id, const made *m, err *e) {
    size_t first = 0, end = 0, left = 0; /* of the merges that are mixed with each other */
    for (size_t i = 0; i < t->n_merges; i++) {
        if (i > end || i == 0) first = end = i;
        const bool mixed = i > first && id[i] != id[i - 1];
        if (mixed && left_chars(t->merge[i]) > left) return not_from_scores(e, t->merge[i]);
        left = left_chars(t->merge[i]);
        if (m[id[i]].last > end) end = m[id[i]].last;
        t->score[id[i]] = -(float)first - 1.0f;
    }
    return OK;
}

static status check_cuts(hf_tokenizer *t, const json_t *vocab, const made *m, err *e) {
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->kind[i] != HF_NORMAL || !t->text[i].n) continue;
        if (t->text[i].n == 6 && str_starts(t->text[i], "<0x"))
            t->kind[i] = HF_BYTE;
        else if (n_cuts(vocab, t->text[i]) != m[i].n)
            return not_from_scores(e, t->text[i]);
    }
    return OK;
}

status hf_scores_of_merges(hf_tokenizer *t, err *e) {
    const json_t *vocab = json_object_get(json_object_get(t->json, "model"), "vocab");
    made *m = mem_array(t->n, sizeof *m);
    uint32_t *id = mem_array(t->n_merges + 1, sizeof *id);
    status s = m && id ? OK : fail(e, ERR_NOMEM, "no memory for the tokenizer");
    if (!s) s = read_made(t, vocab, id, m, e);
    if (!s) s = set_scores(t, id, m, e);
    if (!s) s = check_cuts(t, vocab, m, e);
    mem_free(m);
    mem_free(id);
    return s;
}
