/* Stop strings and text from the input, in pieces of the input's choosing, against a search without state.
 * Layout: number of strings, then each as length and bytes; the rest is pieces, each as length and bytes. */
#include "sample/sample.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_STOPS = 4, MAX_LEN = 12 };

/* One length-prefixed string, of at most MAX_LEN bytes, from the front of the input. */
static size_t take(const uint8_t **data, size_t *size, const char **p) {
    if (*size == 0) return 0;
    size_t n = **data % (MAX_LEN + 1);
    if (n > *size - 1) n = *size - 1;
    *p = (const char *)*data + 1;
    *data += 1 + n;
    *size -= 1 + n;
    return n;
}

/* Index of the string met first in text, -1 for none; *shown: the bytes that may be shown. */
static int search(char stops[][MAX_LEN + 1], size_t n_stops, const char *text, size_t n, size_t *shown) {
    int met = -1;
    for (size_t end = 1; end <= n && met < 0; end++)
        for (size_t i = 0; i < n_stops; i++) {
            const size_t len = strlen(stops[i]);
            if (len > end || memcmp(text + end - len, stops[i], len) != 0) continue;
            if (met < 0 || len > strlen(stops[met])) met = (int)i, *shown = end - len;
        }
    if (met >= 0) return met;
    for (*shown = n > MAX_LEN ? n - MAX_LEN : 0; *shown < n; ++*shown)
        for (size_t i = 0; i < n_stops; i++)
            if (n - *shown < strlen(stops[i]) && memcmp(text + *shown, stops[i], n - *shown) == 0) return -1;
    return -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char stops[MAX_STOPS][MAX_LEN + 1];
    const char *list[MAX_STOPS], *p = "";
    size_t n_stops = 0, want = size ? data[0] % (MAX_STOPS + 1) : 0;
    if (size) data++, size--;
    for (; n_stops < want; n_stops++) {
        const size_t n = take(&data, &size, &p);
        memcpy(stops[n_stops], p, n);
        stops[n_stops][n] = 0;
        list[n_stops] = stops[n_stops];
    }
    stop_matcher *m;
    if (stop_matcher_new(&m, list, n_stops, NULL)) return 0; /* an empty one */
    strbuf out = {0}, text = {0};
    int met = -1;
    while (size > 0 && met < 0) {
        size_t n = take(&data, &size, &p), shown = 0;
        strbuf_add(&text, p, n);
        met = stop_matcher_push(m, p, n, &out);
        if (met != search(stops, n_stops, text.p, text.n, &shown) || out.n != shown) abort();
    }
    stop_matcher_flush(m, &out);
    if (met < 0 && out.n != text.n) abort();
    if (out.n && memcmp(out.p, text.p, out.n) != 0) abort();
    strbuf_free(&out);
    strbuf_free(&text);
    stop_matcher_free(m);
    return 0;
}
