#include "server/histogram.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

histogram histogram_of(const double *le, uint32_t n_le) {
    assert(n_le <= HISTOGRAM_MOST);
    return (histogram){.le = le, .n_le = n_le};
}

void histogram_add(histogram *h, double value) {
    if (isnan(value)) return;
    uint32_t i = 0;
    while (i < h->n_le && value > h->le[i]) i++;
    h->count[i]++;
    h->sum += value;
}

void histogram_write(const histogram *h, const char *name, const char *help, const char *labels, strbuf *out) {
    uint64_t total = 0;
    const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    strbuf_printf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (uint32_t i = 0; i < h->n_le; i++) {
        total += h->count[i];
        strbuf_printf(out, "%s_bucket{%s%sle=\"%.12g\"} %" PRIu64 "\n", name, labels, comma, h->le[i], total);
    }
    total += h->count[h->n_le];
    strbuf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, total);
    strbuf_printf(out, "%s_sum%s%s%s %.17g\n", name, open, labels, close, h->sum);
    strbuf_printf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, total);
}
