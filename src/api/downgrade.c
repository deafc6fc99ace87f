#include "api/downgrade.h"

#include "api/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *code, *what, *why;
} table[] = {
#define X(id, code, what, why, text) [id] = {code, what, why},
    API_DOWNGRADES(X)
#undef X
};

const char *api_down_code(api_down id) { return table[id].code; }

const char *api_why_name(api_why why) {
    static const char *const names[] = {
        [WHY_GPU_AVAILABLE] = "GpuAvailable",         [WHY_GPU_UNAVAILABLE] = "GpuUnavailable",
        [WHY_CPU_FALLBACK] = "CpuFallback",           [WHY_COST_MODEL] = "CostModel",
        [WHY_MEMORY_CONSTRAINT] = "MemoryConstraint", [WHY_USER_PREFERENCE] = "UserPreference"};
    return names[why];
}

void api_down_note(api_downgrades *all, api_down id, status cause, const char *fmt, ...) {
    uint32_t i = 0;
    while (i < all->n && all->item[i].id != id) i++;
    api_downgrade *d = &all->item[i];
    if (i == all->n) all->n++;
    d->id = id;
    d->cause = cause;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->text, sizeof d->text, fmt, ap);
    va_end(ap);
}

json_t *api_down_json(const api_downgrades *all) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < all->n; i++) {
        const api_downgrade *d = &all->item[i];
        const char *why = table[d->id].why;
        api_append(&list, json_pack("{ss ss ss* ss* so}", "code", table[d->id].code, "what", table[d->id].what,
                                    "reason", *why ? why : NULL, "cause", d->cause ? err_lookup(d->cause)->code : NULL,
                                    "text", json_text(d->text, strlen(d->text))));
    }
    return list;
}

json_t *api_down_texts(const api_downgrades *all) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < all->n; i++) {
        const api_downgrade *d = &all->item[i];
        strbuf b = {0};
        strbuf_puts(&b, table[d->id].code);
        if (d->cause) strbuf_printf(&b, " [%s]", err_lookup(d->cause)->code);
        strbuf_printf(&b, ": %s", d->text);
        api_append(&list, api_text(&b));
        strbuf_free(&b);
    }
    return list;
}
