#include "server/guard.h"

#include "base/mem.h"
#include "server/routes.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include <strings.h>

typedef struct {
    unsigned char hash[SHA256_DIGEST_LENGTH];
} key_hash;

struct guard {
    const server_options *opt;
    bool check_host;
    key_hash *keys; /* of opt->api_keys: the keys themselves are not compared */
};

/* --- Host: a page of any name can be made to point at 127.0.0.1; but it cannot change the name its requests carry ------- */
bool guard_is_loopback(const char *host) {
    struct in_addr v4;
    struct in6_addr v6;
    if (strcasecmp(host, "localhost") == 0) return true;
    if (inet_pton(AF_INET, host, &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* The host without its port, and without the dot that ends a full domain name. */
static str bare_host(str h) {
    size_t n = h.n;
    while (n && h.p[n - 1] >= '0' && h.p[n - 1] <= '9') n--;
    if (n && h.p[n - 1] == ':') h.n = n - 1;
    if (h.n > 1 && h.p[h.n - 1] == '.') h.n--;
    return h;
}

static bool names_address(str h, const char *address) {
    if (http_same_word(h, address)) return true;
    return h.n > 2 && h.p[0] == '[' && http_same_word((str){h.p + 1, h.n - 2}, address);
}

static bool host_allowed(const guard *g, str host) {
    static const char *const always[] = {"127.0.0.1", "localhost", "[::1]"};
    str h = bare_host(host);
    if (names_address(h, g->opt->host)) return true;
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (http_same_word(h, always[i])) return true;
    for (uint32_t i = 0; i < g->opt->n_allowed_hosts; i++)
        if (http_same_word(h, g->opt->allowed_hosts[i])) return true;
    return false;
}

/* --- keys ------------------------------------------------------------------------------------------------------------- */
static void hash_of(str s, key_hash *out) { SHA256((const unsigned char *)s.p, s.n, out->hash); }

/* Every key is compared whole, by its hash: the time says nothing of how much of which was right. */
static bool key_good(const guard *g, str key) {
    key_hash given;
    unsigned good = 0;
    hash_of(key, &given);
    for (uint32_t i = 0; i < g->opt->n_api_keys; i++)
        good |= CRYPTO_memcmp(given.hash, g->keys[i].hash, sizeof given.hash) == 0;
    return good != 0;
}

/* Authorization: Bearer KEY, or x-api-key: KEY. Where both are given both must be good: none is left for others to read. */
static bool brings_key(const guard *g, const exchange *x) {
    uint32_t n = 0, n_good = 0;
    for (uint32_t i = 0; i < x->n_headers; i++) {
        str name = x->headers[i].name, key = x->headers[i].value;
        bool bearer = str_is(name, "authorization");
        if (!bearer && !str_is(name, "x-api-key")) continue;
        n++;
        if (bearer && (key.n < 7 || !http_same_word((str){key.p, 7}, "bearer "))) continue;
        if (bearer) key = (str){key.p + 7, key.n - 7};
        while (key.n && key.p[0] == ' ') key.p++, key.n--;
        n_good += key_good(g, key);
    }
    return n > 0 && n_good == n;
}

/* --- pages from elsewhere --------------------------------------------------------------------------------------------- */
static const char *origin_allowed(const guard *g, str origin) {
    for (uint32_t i = 0; i < g->opt->n_cors; i++) {
        const char *o = g->opt->cors[i];
        if (strcmp(o, "*") == 0 || http_same_word(origin, o)) return o;
    }
    return NULL;
}

static void add_cors(exchange *x, const char *origin) {
    exchange_add_header(x, "Access-Control-Allow-Origin", origin);
    exchange_add_header(x, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After, retry-after-ms");
    if (strcmp(origin, "*")) exchange_add_header(x, "Vary", "Origin");
}

static void answer_preflight(exchange *x) {
    exchange_add_header(x, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    exchange_add_header(x, "Access-Control-Allow-Headers",
                        "Authorization, Content-Type, X-Api-Key, X-Request-Id, traceparent");
    exchange_add_header(x, "Access-Control-Max-Age", "600");
    exchange_reply(x, 204, NULL, "", 0);
}

/* --- all of it -------------------------------------------------------------------------------------------------------- */
static bool is_json(str type) {
    for (size_t i = 0; i < type.n; i++)
        if (type.p[i] == ';') type.n = i;
    while (type.n && (type.p[type.n - 1] == ' ' || type.p[type.n - 1] == '\t')) type.n--;
    return http_same_word(type, "application/json");
}

static bool has_body(const exchange *x) {
    str length = exchange_header(x, "content-length");
    for (size_t i = 0; i < length.n; i++)
        if (length.p[i] != '0') return true;
    return exchange_header(x, "transfer-encoding").n > 0;
}

bool guard_pass(guard *g, exchange *x) {
    if (g->check_host && !host_allowed(g, exchange_header(x, "host"))) {
        reply_fail(x, 403, NULL, NULL, "this Host is not served here; --allowed-host NAME allows it");
        return false;
    }
    str origin = exchange_header(x, "origin");
    const char *allowed = origin.n ? origin_allowed(g, origin) : NULL;
    if (allowed) add_cors(x, allowed);
    if (allowed && str_is(x->method, "OPTIONS") && exchange_header(x, "access-control-request-method").n) {
        answer_preflight(x);
        return false;
    }
    if (g->opt->n_api_keys && !routes_open(x->path) && !brings_key(g, x)) {
        exchange_add_header(x, "WWW-Authenticate", "Bearer");
        reply_fail(x, 401, NULL, NULL, "a valid API key is needed: Authorization: Bearer KEY");
        return false;
    }
    if (has_body(x) && !is_json(exchange_header(x, "content-type"))) {
        reply_fail(x, 415, NULL, NULL, "the body must be JSON: Content-Type: application/json");
        return false;
    }
    return true;
}

guard *guard_new(const server_options *opt) {
    guard *g = mem_zalloc(sizeof *g);
    if (!g) return NULL;
    g->opt = opt;
    g->check_host = guard_is_loopback(opt->host) || opt->n_allowed_hosts;
    g->keys = mem_array(opt->n_api_keys, sizeof *g->keys);
    if (!g->keys) {
        guard_free(g);
        return NULL;
    }
    for (uint32_t i = 0; i < opt->n_api_keys; i++) hash_of(str_of(opt->api_keys[i]), &g->keys[i]);
    return g;
}

void guard_free(guard *g) {
    if (!g) return;
    mem_free(g->keys);
    mem_free(g);
}
