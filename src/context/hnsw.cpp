extern "C" {
#include "base/err.h"
}
#include "context/hnsw.h"

#include <cmath>
#include <cstring>
#include <hnswlib/hnswlib.h>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>
#include <xxhash.h>

namespace {

using Graph = hnswlib::HierarchicalNSW<float>;

struct Measure {
    size_t n;
    hnsw_dot dot;
};

float distance(const void *a, const void *b, const void *user) {
    const Measure *m = static_cast<const Measure *>(user);
    return 1.0f - m->dot(static_cast<const float *>(a), static_cast<const float *>(b), m->n);
}

class Cosine : public hnswlib::SpaceInterface<float> {
    Measure m;

  public:
    Cosine(size_t n, hnsw_dot dot) : m{n, dot} {}
    size_t get_data_size() override { return m.n * sizeof(float); }
    hnswlib::DISTFUNC<float> get_dist_func() override { return distance; }
    void *get_dist_func_param() override { return &m; }
};

status failed(err *e, const char *what) { return fail(e, ERR_NOMEM, "the context store's index: %s", what); }

} // namespace

struct hnsw {
    Cosine space;
    std::unique_ptr<Graph> graph;
    std::vector<bool> gone; /* by the graph's own number */
    size_t n_gone = 0, n_embd;
    hnsw(size_t n, hnsw_dot dot) : space(n, dot), n_embd(n) {}
};

namespace {

/* The lists above level 0 are read one number past their end (to prefetch): there is room for it. Pointers that nobody has
 * set are NULL, so that a graph that failed half-way can be freed. */
void prepare(Graph *g) {
    g->size_links_per_element_ += sizeof(hnswlib::tableint);
    memset(static_cast<void *>(g->linkLists_), 0, g->max_elements_ * sizeof(char *));
}

std::unique_ptr<hnsw> make(size_t n_embd, size_t capacity, hnsw_dot dot) {
    auto h = std::make_unique<hnsw>(n_embd, dot);
    h->graph = std::make_unique<Graph>(&h->space, capacity ? capacity : 1, HNSW_M, HNSW_EF_CONSTRUCTION);
    prepare(h->graph.get());
    return h;
}

/* A plain pointer up to hnswlib 0.6, a unique_ptr since. */
template <class Place> void put(Place &at, std::unique_ptr<hnswlib::VisitedListPool> pool) {
    if constexpr (std::is_pointer_v<Place>) {
        delete at;
        at = pool.release();
    } else {
        at = std::move(pool);
    }
}

/* The library's own resizeIndex loses what it had when memory runs out in its middle. */
void grow(Graph *g, size_t n) {
    auto visited = std::make_unique<hnswlib::VisitedListPool>(1, static_cast<int>(n));
    std::vector<std::mutex> locks(n);
    g->element_levels_.resize(n);
    char *level0 = static_cast<char *>(realloc(g->data_level0_memory_, n * g->size_data_per_element_));
    if (!level0) throw std::bad_alloc();
    g->data_level0_memory_ = level0;
    char **lists = static_cast<char **>(realloc(static_cast<void *>(g->linkLists_), n * sizeof(char *)));
    if (!lists) throw std::bad_alloc();
    memset(static_cast<void *>(lists + g->max_elements_), 0, (n - g->max_elements_) * sizeof(char *));
    g->linkLists_ = lists;
    g->link_list_locks_.swap(locks);
    put(g->visited_list_pool_, std::move(visited));
    g->max_elements_ = n;
}

} // namespace

extern "C" status hnsw_new(hnsw **out, size_t n_embd, size_t capacity, hnsw_dot dot, err *e) try {
    *out = make(n_embd, capacity, dot).release();
    return OK;
} catch (const std::exception &x) {
    *out = nullptr;
    return failed(e, x.what());
}

extern "C" void hnsw_free(hnsw *h) { delete h; }

extern "C" status hnsw_add(hnsw *h, uint64_t label, const float *vector, err *e) try {
    Graph *g = h->graph.get();
    if (g->label_lookup_.count(label))
        return fail(e, ERR_RANGE, "the index has label %llu already", (unsigned long long)label);
    if (g->cur_element_count >= g->max_elements_) grow(g, g->max_elements_ + g->max_elements_ / 2 + 64);
    h->gone.push_back(false);
    g->addPoint(vector, label);
    return OK;
} catch (const std::exception &x) {
    return failed(e, x.what());
}

extern "C" bool hnsw_delete(hnsw *h, uint64_t label) {
    auto at = h->graph->label_lookup_.find(label);
    if (at == h->graph->label_lookup_.end() || h->gone[at->second]) return false;
    h->gone[at->second] = true;
    h->n_gone++;
    return true;
}

extern "C" bool hnsw_has(const hnsw *h, uint64_t label) {
    auto at = h->graph->label_lookup_.find(label);
    return at != h->graph->label_lookup_.end() && !h->gone[at->second];
}

extern "C" size_t hnsw_count(const hnsw *h) { return h->graph->cur_element_count; }
extern "C" size_t hnsw_deleted(const hnsw *h) { return h->n_gone; }

/* searchKnn takes the larger of its k and the graph's own ef, 10: asking for ef is looking at ef. */
extern "C" status hnsw_search(hnsw *h, const float *vector, size_t k, size_t ef, hnsw_near *out, size_t *n,
                              err *e) try {
    *n = 0;
    auto found = h->graph->searchKnnCloserFirst(vector, ef > k ? ef : k);
    for (const auto &f : found) {
        if (*n == k) break;
        if (h->gone[h->graph->label_lookup_.at(f.second)]) continue;
        out[(*n)++] = hnsw_near{f.second, 1.0f - f.first};
    }
    return OK;
} catch (const std::exception &x) {
    return failed(e, x.what());
}

/* --- as bytes: u32 count, entry, top level; for each node u64 label, u32 level (and deleted, the highest bit), u32 checksum of
 * its vector, then for each of its levels u32 count and so many u32 links ----------------------- */
namespace {

const uint32_t DELETED = 1u << 31;

struct Head {
    uint32_t count, entry, top, zero;
};

uint32_t *links_at(const Graph *g, uint32_t node, uint32_t level) {
    return reinterpret_cast<uint32_t *>(g->get_linklist_at_level(node, static_cast<int>(level)));
}

/* Walks a graph's bytes; `bad` once they end early. */
struct Reader {
    const unsigned char *at;
    size_t left;
    bool bad = false;
    void get(void *to, size_t n) {
        bad = bad || n > left;
        if (bad) {
            memset(to, 0, n);
            return;
        }
        memcpy(to, at, n);
        at += n;
        left -= n;
    }
    uint32_t u32() {
        uint32_t v;
        get(&v, sizeof v);
        return v;
    }
};

uint32_t sum_of(const float *v, size_t n) { return static_cast<uint32_t>(XXH3_64bits(v, n * sizeof *v)); }

bool read_node(hnsw *h, Reader *r, uint32_t i, const Head &head, uint32_t *sum) {
    Graph *g = h->graph.get();
    char *node = g->data_level0_memory_ + i * g->size_data_per_element_;
    memset(node, 0, g->size_data_per_element_);
    uint64_t label;
    r->get(&label, sizeof label);
    uint32_t flags = r->u32(), level = flags & ~DELETED;
    *sum = r->u32();
    if (r->bad || label == 0 || level > head.top || !g->label_lookup_.emplace(label, i).second) return false;
    g->setExternalLabel(i, label);
    h->gone.push_back((flags & DELETED) != 0);
    h->n_gone += (flags & DELETED) != 0;
    if (level) {
        g->linkLists_[i] = static_cast<char *>(calloc(level + 1, g->size_links_per_element_));
        if (!g->linkLists_[i]) throw std::bad_alloc();
        g->element_levels_[i] = static_cast<int>(level); /* its lists are freed from here on */
    }
    for (uint32_t l = 0; l <= level; l++) {
        uint32_t n = r->u32();
        if (n > (l ? g->maxM_ : g->maxM0_)) return false;
        uint32_t *list = links_at(g, i, l);
        g->setListCount(list, static_cast<unsigned short>(n));
        r->get(list + 1, n * sizeof(uint32_t));
        for (uint32_t k = 1; k <= n; k++)
            if (list[k] >= head.count || list[k] == i) return false;
    }
    return !r->bad;
}

/* A link on a level leads to a node that has the level. */
bool levels_agree(const Graph *g) {
    for (uint32_t i = 0; i < g->cur_element_count; i++)
        for (uint32_t l = 1; l <= static_cast<uint32_t>(g->element_levels_[i]); l++) {
            const uint32_t *list = links_at(g, i, l);
            for (uint32_t k = 1; k <= g->getListCount(const_cast<uint32_t *>(list)); k++)
                if (g->element_levels_[list[k]] < static_cast<int>(l)) return false;
        }
    return true;
}

float *vector_of(const Graph *g, uint32_t i) { return reinterpret_cast<float *>(g->getDataByInternalId(i)); }

/* For a node whose vector is no more: the mean of its neighbours', made of length 1. */
void stand_in(hnsw *h, uint32_t i, const std::vector<bool> &known) {
    const Graph *g = h->graph.get();
    const uint32_t *list = links_at(g, i, 0), n = g->getListCount(const_cast<uint32_t *>(list));
    float *mean = vector_of(g, i);
    for (uint32_t k = 1; k <= n; k++)
        for (size_t j = 0; known[list[k]] && j < h->n_embd; j++) mean[j] += vector_of(g, list[k])[j];
    double sum = 0;
    for (size_t j = 0; j < h->n_embd; j++) sum += static_cast<double>(mean[j]) * mean[j];
    for (size_t j = 0; sum > 0 && j < h->n_embd; j++) mean[j] = static_cast<float>(mean[j] / std::sqrt(sum));
}

/* false: a vector is another than the graph was built of. */
bool fill_vectors(hnsw *h, const std::vector<uint32_t> &sums, const float *(*vector)(void *, uint64_t), void *user) {
    Graph *g = h->graph.get();
    std::vector<bool> known(g->cur_element_count);
    for (uint32_t i = 0; i < g->cur_element_count; i++) {
        const float *v = vector(user, g->getExternalLabel(i));
        known[i] = v != nullptr;
        if (v && sum_of(v, h->n_embd) != sums[i]) return false;
        if (v) memcpy(vector_of(g, i), v, h->n_embd * sizeof(float));
        if (!v && !h->gone[i]) h->gone[i] = true, h->n_gone++;
    }
    for (uint32_t i = 0; i < g->cur_element_count; i++)
        if (!known[i]) stand_in(h, i, known);
    return true;
}

} // namespace

extern "C" size_t hnsw_saved_bytes(const hnsw *h) {
    const Graph *g = h->graph.get();
    size_t n = sizeof(Head);
    for (uint32_t i = 0; i < g->cur_element_count; i++) {
        n += sizeof(uint64_t) + 2 * sizeof(uint32_t);
        for (uint32_t l = 0; l <= static_cast<uint32_t>(g->element_levels_[i]); l++)
            n += (1 + g->getListCount(links_at(g, i, l))) * sizeof(uint32_t);
    }
    return n;
}

extern "C" status hnsw_save(const hnsw *h, bool (*write)(void *user, const void *p, size_t n), void *user, err *e) {
    const Graph *g = h->graph.get();
    Head head = {static_cast<uint32_t>(g->cur_element_count), g->enterpoint_node_, static_cast<uint32_t>(g->maxlevel_),
                 0};
    bool ok = write(user, &head, sizeof head);
    for (uint32_t i = 0; ok && i < head.count; i++) {
        uint64_t label = g->getExternalLabel(i);
        uint32_t level = static_cast<uint32_t>(g->element_levels_[i]), flags = level | (h->gone[i] ? DELETED : 0);
        uint32_t sum = sum_of(vector_of(g, i), h->n_embd);
        ok = write(user, &label, sizeof label) && write(user, &flags, sizeof flags) && write(user, &sum, sizeof sum);
        for (uint32_t l = 0; ok && l <= level; l++) {
            const uint32_t *list = links_at(g, i, l), n = g->getListCount(const_cast<uint32_t *>(list));
            ok = write(user, &n, sizeof n) && write(user, list + 1, n * sizeof n);
        }
    }
    return ok ? OK : fail(e, ERR_IO, "the context store's index could not be written");
}

extern "C" status hnsw_load(hnsw **out, const void *bytes, size_t n_bytes, size_t n_embd, hnsw_dot dot,
                            const float *(*vector)(void *user, uint64_t label), void *user, err *e) try {
    *out = nullptr;
    Reader r = {static_cast<const unsigned char *>(bytes), n_bytes};
    Head head;
    r.get(&head, sizeof head);
    const size_t least = sizeof(uint64_t) + 3 * sizeof(uint32_t); /* of a node */
    if (r.bad || head.count == 0 || head.count > r.left / least || head.entry >= head.count || head.top > 64)
        return fail(e, ERR_RANGE, "the context store's index does not begin as one");
    auto h = make(n_embd, head.count + head.count / 4, dot);
    Graph *g = h->graph.get();
    std::vector<uint32_t> sums(head.count);
    for (uint32_t i = 0; i < head.count; i++) {
        g->cur_element_count = i + 1;
        if (!read_node(h.get(), &r, i, head, &sums[i]))
            return fail(e, ERR_RANGE, "the context store's index is no graph at node %u", i);
    }
    g->enterpoint_node_ = head.entry;
    g->maxlevel_ = static_cast<int>(head.top);
    if (r.left || g->element_levels_[head.entry] != g->maxlevel_ || !levels_agree(g))
        return fail(e, ERR_RANGE, "the context store's index is no graph");
    if (!fill_vectors(h.get(), sums, vector, user))
        return fail(e, ERR_RANGE, "the context store's index was built of other vectors");
    *out = h.release();
    return OK;
} catch (const std::exception &x) {
    *out = nullptr;
    return failed(e, x.what());
}
