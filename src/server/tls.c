#include "server/tls.h"

#include "base/mem.h"
#include "server/server.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

struct tls_context {
    SSL_CTX *ctx;
};

struct tls_session {
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    tls_bytes send;
    void *user;
    bool failed;
};

enum { PIECE = 16 << 10 }; /* a TLS record */

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *n_out, const unsigned char *in,
                           unsigned n, void *user) {
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl, (void)user;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, n_out, ours, sizeof ours - 1, in, n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* A key with a password is an error, not a question on the terminal. */
static int no_password(char *buf, int size, int writing, void *user) {
    (void)buf, (void)size, (void)writing, (void)user;
    return -1;
}

static void refuse(rf_error *e, const char *what, const char *file) {
    const char *why = ERR_reason_error_string(ERR_peek_error());
    ERR_clear_error();
    server_failed(e, ERR_TLS, "%s%s%s: %s", what, file ? " " : "", file ? file : "", why ? why : "not usable");
}

static bool load(SSL_CTX *ctx, const char *cert, const char *key, rf_error *e) {
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        refuse(e, "the certificate", cert);
    } else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        refuse(e, "the key", key);
    } else if (SSL_CTX_check_private_key(ctx) != 1) {
        refuse(e, "the key does not belong to the certificate", NULL);
    } else {
        return true;
    }
    return false;
}

tls_context *tls_context_new(const char *cert, const char *key, rf_error *e) {
    tls_context *t = mem_zalloc(sizeof *t);
    if (t) t->ctx = SSL_CTX_new(TLS_server_method());
    if (!t || !t->ctx) {
        refuse(e, "TLS", NULL);
        tls_context_free(t);
        return NULL;
    }
    SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(t->ctx,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(t->ctx, choose_protocol, NULL);
    if (load(t->ctx, cert, key, e)) return t;
    tls_context_free(t);
    return NULL;
}

void tls_context_free(tls_context *t) {
    if (!t) return;
    SSL_CTX_free(t->ctx);
    mem_free(t);
}

tls_session *tls_session_new(tls_context *t, tls_bytes send, void *user) {
    tls_session *s = mem_zalloc(sizeof *s);
    if (!s) return NULL;
    s->send = send;
    s->user = user;
    s->ssl = SSL_new(t->ctx);
    s->in = s->ssl ? BIO_new(BIO_s_mem()) : NULL;
    s->out = s->in ? BIO_new(BIO_s_mem()) : NULL;
    if (!s->out) {
        BIO_free(s->in);
        SSL_free(s->ssl);
        mem_free(s);
        return NULL;
    }
    SSL_set_bio(s->ssl, s->in, s->out);
    SSL_set_accept_state(s->ssl);
    return s;
}

void tls_session_free(tls_session *s) {
    if (!s) return;
    SSL_free(s->ssl);
    mem_free(s);
}

bool tls_established(const tls_session *s) { return SSL_is_init_finished(s->ssl); }

static void send_made(tls_session *s) {
    char *p;
    long n = BIO_get_mem_data(s->out, &p);
    if (n > 0) s->send(s->user, p, (size_t)n);
    (void)BIO_reset(s->out);
}

tls_state tls_read(tls_session *s, const char *p, size_t n, tls_bytes plain, void *user) {
    char piece[PIECE];
    if (s->failed) return TLS_FAILED;
    ERR_clear_error();
    if (n > INT32_MAX || BIO_write(s->in, p, (int)n) != (int)n) return TLS_FAILED;
    int got;
    while ((got = SSL_read(s->ssl, piece, sizeof piece)) > 0) {
        send_made(s);
        plain(user, piece, (size_t)got);
        ERR_clear_error();
    }
    int why = SSL_get_error(s->ssl, got);
    send_made(s);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return TLS_OPEN;
    s->failed = why != SSL_ERROR_ZERO_RETURN;
    ERR_clear_error();
    return s->failed ? TLS_FAILED : TLS_ENDED;
}

bool tls_write(tls_session *s, const char *p, size_t n) {
    while (n && !s->failed) {
        ERR_clear_error();
        int done = SSL_write(s->ssl, p, n > PIECE ? PIECE : (int)n);
        if (done <= 0) return !(s->failed = true);
        p += done;
        n -= (size_t)done;
        send_made(s);
    }
    return !s->failed;
}

void tls_end(tls_session *s) {
    if (s->failed || !tls_established(s)) return;
    ERR_clear_error();
    SSL_shutdown(s->ssl);
    ERR_clear_error();
    send_made(s);
}
