#include "context/near.h"

#include "base/mem.h"

bool near_open(near_list *l, size_t cap) {
    *l = (near_list){.item = mem_array(cap, sizeof *l->item), .cap = cap};
    return l->item != NULL;
}

void near_close(near_list *l) {
    mem_free(l->item);
    *l = (near_list){0};
}

static bool comes_before(near_one a, near_one b) {
    return a.similarity > b.similarity || (a.similarity == b.similarity && a.id < b.id);
}

void near_put(near_list *l, int64_t id, float similarity) {
    const near_one new = {id, similarity};
    if (l->n == l->cap && (l->n == 0 || !comes_before(new, l->item[l->n - 1]))) return;
    size_t at = l->n < l->cap ? l->n++ : l->n - 1;
    for (; at && comes_before(new, l->item[at - 1]); at--) l->item[at] = l->item[at - 1];
    l->item[at] = new;
}
