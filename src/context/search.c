#include "context/search.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

enum {
    FUSION_K = 60,     /* of reciprocal rank fusion (Cormack, Clarke, Buettcher 2009) */
    FUSION_DEPTH = 50, /* of each list, at least: what is merged goes deeper than what is asked for */
    MOST_WORDS = 64,   /* of a query */
    MOST_ASKED = 4096  /* candidates the index is asked for before every vector is compared */
};

/* --- hits ------------------------------------------------------------------------------------------------------------- */

static search_hit *add_hit(search_hits *h, int64_t id) {
    if (h->n == h->cap) {
        size_t cap = h->cap ? 2 * h->cap : 32;
        search_hit *more = mem_resize(h->hit, cap * sizeof *more);
        if (!more) return NULL;
        h->hit = more;
        h->cap = cap;
    }
    search_hit *hit = &h->hit[h->n++];
    *hit = (search_hit){.id = id, .similarity = NAN};
    return hit;
}

static search_hit *find_hit(const search_hits *h, int64_t id) {
    for (size_t i = 0; i < h->n; i++)
        if (h->hit[i].id == id) return &h->hit[i];
    return NULL;
}

void search_close(search_hits *h) {
    mem_free(h->hit);
    *h = (search_hits){0};
}

/* --- nearest vectors -------------------------------------------------------------------------------------------------- */

/* Those of the index's candidates that are rows and pass the filter, with their true similarity. */
static status verify(sql_conn *c, const search_query *q, const near_list *candidates, near_list *best, err *e) {
    status s = OK;
    for (size_t i = 0; !s && i < candidates->n; i++) {
        bool there;
        float similarity;
        s = vectors_compare(c, &q->model, candidates->item[i].id, &q->filter, q->vector, &there, &similarity, e);
        if (!s && there) near_put(best, candidates->item[i].id, similarity);
    }
    return s;
}

/* Asks for more candidates until k pass. *enough false: the index cannot tell, compare them all. */
static status ask_index(sql_conn *c, const search_query *q, near_list *best, bool *enough, err *e) {
    *enough = false;
    status s = OK;
    for (size_t want = best->cap + 16; !s && !*enough && want <= MOST_ASKED; want *= 8) {
        near_list candidates;
        bool used;
        if (!near_open(&candidates, want)) return fail(e, ERR_NOMEM, "search");
        best->n = 0;
        s = index_search(q->index, c, &q->model, q->vector, &candidates, &used, e);
        if (!s && used) s = verify(c, q, &candidates, best, e);
        *enough = !s && used && best->n == best->cap;
        bool over = !used || candidates.n < want;
        near_close(&candidates);
        if (over) break;
    }
    return s;
}

static status find_nearest(sql_conn *c, const search_query *q, size_t k, near_list *best, bool *exact, err *e) {
    *exact = true;
    if (!near_open(best, k)) return fail(e, ERR_NOMEM, "search");
    if (!q->vector || !q->model.id) return OK;
    bool enough = false;
    status s = q->index ? ask_index(c, q, best, &enough, e) : OK;
    *exact = !enough;
    if (s || enough) return s;
    best->n = 0;
    return vectors_scan(c, &q->model, 0, &q->filter, q->vector, best, e);
}

/* --- words ------------------------------------------------------------------------------------------------------------ */

/* Each word of the text in quotation marks, so that nothing in it is FTS5's syntax; any of them may match. */
static void quote_words(strbuf *out, str text) {
    size_t n_words = 0;
    for (size_t i = 0; i < text.n && n_words < MOST_WORDS; n_words++) {
        while (i < text.n && (unsigned char)text.p[i] <= ' ') i++;
        if (i == text.n) break;
        strbuf_puts(out, out->n ? " OR \"" : "\"");
        for (; i < text.n && (unsigned char)text.p[i] > ' '; i++) {
            if (text.p[i] == '"') strbuf_puts(out, "\"");
            strbuf_add(out, &text.p[i], 1);
        }
        strbuf_puts(out, "\"");
    }
}

/* The similarity that near_put sorts by is minus FTS5's bm25, which is the smaller the better. */
static status find_words(sql_conn *c, const search_query *q, size_t k, near_list *best, err *e) {
    if (!near_open(best, k)) return fail(e, ERR_NOMEM, "search");
    strbuf match = {0}, text = {0};
    quote_words(&match, q->text);
    strbuf_puts(&text, "SELECT m.id, bm25(words) FROM words JOIN message m ON m.id = words.rowid"
                       " WHERE words MATCH ?1");
    rows_where(&text, &q->filter);
    strbuf_printf(&text, " ORDER BY bm25(words), m.id LIMIT %zu", k);
    sql_query ask = {.c = c, .rc = match.failed ? SQLITE_NOMEM : SQLITE_DONE};
    if (match.n && !match.failed) { /* nothing but spaces finds nothing */
        ask = rows_ask(c, &text);
        sql_text(&ask, 1, (str){match.p, match.n});
        rows_bind(&ask, &q->filter);
        while (sql_row(&ask)) near_put(best, sql_get_int(&ask, 0), -(float)sql_get_real(&ask, 1));
    }
    status s = sql_end(&ask, e);
    strbuf_free(&match);
    strbuf_free(&text);
    return s;
}

/* --- one list --------------------------------------------------------------------------------------------------------- */

static status take_list(const search_query *q, const near_list *l, unsigned found_by, search_hits *out, err *e) {
    for (size_t i = 0; i < l->n; i++) {
        const near_one *one = &l->item[i];
        search_hit *h = find_hit(out, one->id);
        if (!h) h = add_hit(out, one->id);
        if (!h) return fail(e, ERR_NOMEM, "search");
        h->found_by |= found_by;
        if (found_by == FOUND_VECTOR) h->similarity = one->similarity;
        h->score += q->mode == SEARCH_HYBRID ? 1.0 / (double)(FUSION_K + 1 + i) : (double)one->similarity;
    }
    return OK;
}

/* Best first, the smaller id among equals; lists of a few hundred. */
static void sort_hits(search_hits *h) {
    for (size_t i = 1; i < h->n; i++) {
        search_hit one = h->hit[i];
        size_t at = i;
        for (; at &&
               (h->hit[at - 1].score < one.score || (h->hit[at - 1].score == one.score && h->hit[at - 1].id > one.id));
             at--)
            h->hit[at] = h->hit[at - 1];
        h->hit[at] = one;
    }
}

/* What was found by its words, or beside a find, has a similarity too where it has a vector. */
static status add_similarities(sql_conn *c, const search_query *q, search_hits *h, err *e) {
    status s = OK;
    for (size_t i = 0; !s && q->vector && q->model.id && i < h->n; i++) {
        bool there;
        float similarity;
        if (!isnan(h->hit[i].similarity)) continue;
        s = vectors_compare(c, &q->model, h->hit[i].id, NULL, q->vector, &there, &similarity, e);
        if (!s && there) h->hit[i].similarity = similarity;
    }
    return s;
}

/* --- along edges ------------------------------------------------------------------------------------------------------ */

/* Breadth first from all finds at once, so each message is reached over the fewest edges. */
static status expand(sql_conn *c, const search_query *q, search_hits *h, err *e) {
    for (size_t i = 0; i < h->n; i++) {
        const search_hit from = h->hit[i];
        int64_t *ids;
        size_t n;
        if (from.steps == q->expand) return OK;
        status s = rows_beside(c, from.id, &ids, &n, e);
        for (size_t j = 0; !s && j < n && h->n < SEARCH_MOST; j++) {
            if (find_hit(h, ids[j])) continue;
            search_hit *hit = add_hit(h, ids[j]);
            if (!hit) {
                s = fail(e, ERR_NOMEM, "search");
                break;
            }
            hit->found_by = FOUND_EDGE;
            hit->steps = from.steps + 1;
            hit->near_id = from.near_id ? from.near_id : from.id;
        }
        mem_free(ids);
        if (s) return s;
    }
    return OK;
}

status search_rows(sql_conn *c, const search_query *q, search_hits *out, err *e) {
    *out = (search_hits){.exact = true};
    const bool hybrid = q->mode == SEARCH_HYBRID;
    const size_t depth = !hybrid ? q->k : 2 * q->k > FUSION_DEPTH ? 2 * q->k : FUSION_DEPTH;
    near_list near = {0}, words = {0};
    status s = OK;
    if (q->mode != SEARCH_WORDS) s = find_nearest(c, q, depth, &near, &out->exact, e);
    if (!s) s = take_list(q, &near, FOUND_VECTOR, out, e);
    if (!s && q->mode != SEARCH_VECTOR) s = find_words(c, q, depth, &words, e);
    if (!s) s = take_list(q, &words, FOUND_WORDS, out, e);
    near_close(&near);
    near_close(&words);
    sort_hits(out);
    if (out->n > q->k) out->n = q->k;
    if (!s && q->expand) s = expand(c, q, out, e);
    if (!s) s = add_similarities(c, q, out, e);
    if (s) search_close(out);
    return s;
}
