/* TLS on the server's side: OpenSSL between two memory buffers, so that the loop alone touches the socket. A context per
 * server, a session per connection. TLS 1.2 or later; no renegotiation, no compression. Loop thread. */
#ifndef ROCMFORGE_SERVER_TLS_H
#define ROCMFORGE_SERVER_TLS_H

#include "rocmforge.h"

typedef struct tls_context tls_context;
typedef struct tls_session tls_session;
typedef void (*tls_bytes)(void *user, const char *p, size_t n);
typedef enum { TLS_OPEN, TLS_ENDED /* by the peer, in order */, TLS_FAILED } tls_state;

tls_context *tls_context_new(const char *cert, const char *key, rf_error *e); /* PEM files. NULL: server.tls says why */
void tls_context_free(tls_context *t);

tls_session *tls_session_new(tls_context *t, tls_bytes send, void *user); /* NULL: out of memory */
void tls_session_free(tls_session *s);
/* Bytes from the peer; what they held comes in plain. An alert, where there is one to send, is sent. */
tls_state tls_read(tls_session *s, const char *p, size_t n, tls_bytes plain, void *user);
bool tls_write(tls_session *s, const char *p, size_t n);
bool tls_established(const tls_session *s);
void tls_end(tls_session *s); /* says goodbye */

#endif
