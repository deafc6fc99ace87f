/* GET /: one page that stands alone. All figures are in the HTML as sent; a script asks /health for newer ones where the
 * browser runs it. Nothing is loaded from elsewhere, and the policy sent with it allows nothing else. */
#include "server/ops.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static const char style[] =
    ":root{color-scheme:light dark;--fg:#1a1c1f;--dim:#5d646d;--bg:#fbfbfa;--line:#d9dce0;--bar:#2f6fd0;--bad:#b3261e}"
    "@media(prefers-color-scheme:dark){:root{--fg:#e6e7e9;--dim:#9aa2ac;--bg:#16181b;--line:#34383e;--bar:#6ea3f5;--"
    "bad:#f2867d}}"
    "body{margin:0 auto;padding:2rem 1rem 4rem;max-width:46rem;font:16px/1.5 "
    "system-ui,sans-serif;color:var(--fg);background:var(--bg)}"
    "h1{font-size:1.4rem;margin:0;overflow-wrap:anywhere}h2{font-size:1rem;margin:2rem 0 .5rem}p{margin:.25rem "
    "0;color:var(--dim)}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .5rem .3rem 0;border-bottom:1px "
    "solid var(--line);"
    "font-weight:400;vertical-align:top}th{color:var(--dim);width:12rem}td{font-variant-numeric:tabular-nums;overflow-"
    "wrap:anywhere}"
    "code{font:.9em "
    "ui-monospace,monospace}#status[data-s=unhealthy]{color:var(--bad)}progress{width:8rem;accent-color:var(--bar);"
    "vertical-align:middle}";

/* Every element with data-v shows one figure of /health, found by its path; data-max makes it a bar's length. */
static const char script[] =
    "const at=(o,p)=>p.split('.').reduce((v,k)=>v==null?v:v[k],o);"
    "const show=v=>typeof v==='number'?(Number.isInteger(v)?v.toLocaleString('en'):v.toFixed(1)):String(v);"
    "async function refresh(){const note=document.getElementById('note');try{"
    "const h=await(await fetch('/health',{cache:'no-store'})).json();"
    "for(const e of document.querySelectorAll('[data-v]')){const v=at(h,e.dataset.v);if(v===undefined)continue;"
    "if(e.tagName==='PROGRESS'){e.value=v;const m=at(h,e.dataset.max);if(m)e.max=m}else e.textContent=show(v)}"
    "document.getElementById('status').dataset.s=h.status;note.textContent=h.reason||'';"
    "}catch(e){note.textContent='the server does not answer'}}"
    "setInterval(()=>{if(!document.hidden)refresh()},2000);refresh();";

static void html(strbuf *b, str s) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        const char *safe = c == '<'    ? "&lt;"
                           : c == '>'  ? "&gt;"
                           : c == '&'  ? "&amp;"
                           : c == '"'  ? "&quot;"
                           : c == '\'' ? "&#39;"
                                       : NULL;
        if (safe)
            strbuf_puts(b, safe);
        else
            strbuf_add(b, &c, 1);
    }
}

/* "checks.requests.active" in v. */
static const json_t *find(const json_t *v, const char *path) {
    while (v && *path) {
        char key[32];
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        v = json_object_get(v, key);
        path += n + (path[n] == '.');
    }
    return v;
}

static void value(strbuf *b, const json_t *v) {
    if (json_is_string(v)) html(b, (str){json_string_value(v), json_string_length(v)});
    if (json_is_integer(v)) strbuf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    if (json_is_real(v)) strbuf_printf(b, "%.1f", json_real_value(v));
}

static void row(strbuf *b, const json_t *h, const char *title, const char *path) {
    strbuf_printf(b, "<tr><th scope=row>%s<td><span data-v=%s>", title, path);
    value(b, find(h, path));
    strbuf_puts(b, "</span>\n");
}

/* A figure with its most, and a bar of the two. */
static void bar(strbuf *b, const json_t *h, const char *title, const char *path, const char *most) {
    strbuf_printf(b, "<tr><th scope=row>%s<td><span data-v=%s>", title, path);
    value(b, find(h, path));
    strbuf_printf(b, "</span> of <span data-v=%s>", most);
    value(b, find(h, most));
    strbuf_printf(b, "</span> <progress data-v=%s data-max=%s max=", path, most);
    double top = json_number_value(find(h, most));
    strbuf_printf(b, "%.0f value=%.0f aria-label=\"%s\"></progress>\n", top > 0 ? top : 1,
                  json_number_value(find(h, path)), title);
}

/* Those that this model answers. */
static void route_rows(strbuf *b, const app *a, const char *title, const route *r) {
    strbuf_printf(b, "<tr><th scope=row>%s<td>", title);
    const char *comma = "";
    for (; r->path; r++) {
        if (r->text && !rf_model_generates(a->model)) continue;
        strbuf_printf(b, "%s<code>%s %s</code>", comma, r->method, r->path);
        comma = "<br>";
    }
    strbuf_puts(b, "\n");
}

static void body(strbuf *b, const app *a, const json_t *h) {
    strbuf_puts(b, "<h1>");
    value(b, find(h, "model"));
    strbuf_puts(b, "</h1>\n<p><span id=status data-v=status data-s=");
    value(b, find(h, "status"));
    strbuf_puts(b, ">");
    value(b, find(h, "status"));
    strbuf_puts(b, "</span> &middot; rocmforge ");
    value(b, find(h, "version"));
    strbuf_puts(b, "</p>\n<p id=note>");
    value(b, find(h, "reason"));
    strbuf_puts(b, "</p>\n<h2>Load</h2><table>\n");
    bar(b, h, "running", "checks.requests.active", "limits.parallel");
    bar(b, h, "waiting", "checks.requests.queued", "limits.queue");
    bar(b, h, "KV pages", "checks.cache.pages_used", "checks.cache.pages_total");
    bar(b, h, "connections", "connections", "limits.max_connections");
    row(b, h, "tokens per second", "totals.tokens_per_second");
    row(b, h, "tokens generated", "totals.generated_tokens");
    row(b, h, "requests completed", "totals.completed");
    row(b, h, "failed", "totals.failed");
    row(b, h, "cancelled", "totals.cancelled");
    row(b, h, "seconds up", "uptime_seconds");
    strbuf_puts(b, "</table>\n<h2>Device</h2><table>\n");
    row(b, h, "name", "device.name");
    row(b, h, "why this one", "device.reason");
    row(b, h, "threads", "threads");
    row(b, h, "context", "limits.context");
    row(b, h, "gives", "gives");
    strbuf_puts(b, "</table>\n<h2>Routes</h2><table>\n");
    route_rows(b, a, "OpenAI", openai_routes);
    route_rows(b, a, "native", native_routes);
    route_rows(b, a, "llama.cpp", llamacpp_routes);
    if (a->opt->context) route_rows(b, a, "context", context_routes);
    route_rows(b, a, "operation", ops_routes);
    strbuf_puts(b, "</table>\n");
}

static bool make_nonce(char out[33]) {
    unsigned char raw[16];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) return false;
    for (int i = 0; i < 16; i++) snprintf(out + 2 * i, 3, "%02x", raw[i]);
    return true;
}

void ops_page(app *a, exchange *x) {
    health how;
    char nonce[33], policy[320];
    strbuf b = {0};
    json_t *h = make_nonce(nonce) ? ops_health(a, &how) : NULL;
    strbuf_printf(
        &b,
        "<!DOCTYPE html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\n"
        "<title>rocmforge</title>\n<style nonce=%s>%s</style>\n",
        nonce, style);
    if (h) body(&b, a, h);
    strbuf_printf(&b, "<noscript><p>Reload for newer figures.</p></noscript>\n<script nonce=%s>%s</script>\n", nonce,
                  script);
    snprintf(policy, sizeof policy,
             "default-src 'none'; style-src 'nonce-%s'; script-src 'nonce-%s'; connect-src 'self'; base-uri 'none'; "
             "form-action 'none'; frame-ancestors 'none'",
             nonce, nonce);
    exchange_add_header(x, "Content-Security-Policy", policy);
    exchange_add_header(x, "Referrer-Policy", "no-referrer");
    exchange_add_header(x, "Cache-Control", "no-store");
    if (!h || b.failed)
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for the page");
    else
        exchange_reply(x, 200, "text/html; charset=utf-8", b.p, b.n);
    json_decref(h);
    strbuf_free(&b);
}
