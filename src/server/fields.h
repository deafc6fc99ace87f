/* Reading a request's JSON: every field checked for type and range, named when refused, and what is not known refused too.
 * A reader is made for one object; getters leave the target as it was when the field is absent or null, and after the first
 * bad field do nothing more. fields_finish refuses every key no getter asked for, unless it was passed to fields_ignore (then
 * it is listed in `warnings`).
 *
 *     fields f;
 *     if (!fields_open(&f, x)) return;                     it replied 400 or 415
 *     fields_number(&f, "temperature", 0, 2, &p.temperature);
 *     fields_ignore(&f, "user");
 *     if (!fields_finish(&f)) return;                      it replied 400 naming the field
 */
#ifndef ROCMFORGE_SERVER_FIELDS_H
#define ROCMFORGE_SERVER_FIELDS_H

#include "server/app.h"

enum { FIELDS_MOST = 128, FIELDS_DEPTH = 256, FIELDS_VALUES = 1 << 19 /* of one body: a bound on the loop's time */ };

typedef struct {
    exchange *x;
    app *app;         /* also while the peer is gone */
    json_t *body;     /* owned: fields_close */
    json_t *at;       /* the object being read */
    json_t *warnings; /* array of strings: fields ignored */
    const char *seen[FIELDS_MOST];
    uint32_t n_seen;
    bool failed;
    int http;                /* what a refusal answers: 400, 415 */
    const char *code;        /* its reason code */
    double temperature_most; /* 2; a dialect that allows more sets it after fields_open */
    char param[64], message[256];
    rf_error fault; /* ours, not the client's: told in the refusal's place. code empty: none */
} fields;

bool fields_open(fields *f, exchange *x); /* body must be a JSON object, Content-Type application/json */
/* As fields_open without a connection: nothing is replied, f->failed says whether it is one. fields_close in any case. */
void fields_parse(fields *f, str content_type, str body);
bool fields_finish(fields *f); /* false: it replied; f is closed */
void fields_close(fields *f);

bool fields_integer(fields *f, const char *name, int64_t lo, int64_t hi, int64_t *out); /* true: it was there */
bool fields_number(fields *f, const char *name, double lo, double hi, double *out);
bool fields_bool(fields *f, const char *name, bool *out);
bool fields_string(fields *f, const char *name, const char **out, size_t *n); /* borrowed from body */
json_t *fields_any(fields *f, const char *name);                              /* NULL: absent or null */
void fields_ignore(fields *f, const char *name);                              /* accepted, without effect, said so */
void fields_accept(fields *f, const char *name);                              /* without effect, not worth a word */
void fields_refuse(fields *f, const char *name, const char *why);             /* 400 naming it, when it is there */
/* 400 request.field. Give what follows the name in the message: "must be ...", or ": the reason ...". The first refusal is
 * the one told. */
__attribute__((format(printf, 3, 4))) void fields_bad(fields *f, const char *name, const char *fmt, ...);
void fields_no_memory(fields *f, const char *what);                 /* 503 */
void fields_failed(fields *f, const char *name, const rf_error *e); /* what the engine says of a field's value */

/* Where a field is part of the dialect but its effect is not built: its neutral values pass, others are refused by name. */
void fields_neutral(fields *f, const char *name, double neutral); /* a number */
void fields_empty(fields *f, const char *name);                   /* "", [], {}, false and 0 are empty */
/* `timeout`: seconds until the request fails with request.timeout, a number above 0. */
void fields_timeout(fields *f, int64_t *timeout_us);
/* `model`: any name, unless the server is strict: then 404 for another than the loaded one's. false: it replied, f is closed. */
bool fields_model(fields *f);
/* The warnings so far, for a reply: an array to be owned by it, or NULL when there is none. */
json_t *fields_take_warnings(fields *f);

/* The sampler's fields under every dialect's names: temperature, top_k, top_p, min_p, repeat_penalty (repetition_penalty),
 * presence_penalty, frequency_penalty, repeat_last_n, seed, logit_bias (object or list), ignore_eos, stop (string or list).
 * Fills p; lists belong to f and live until fields_close. */
typedef struct {
    rf_logit_bias *bias;
    const char **stop;
} sampler_lists;
void fields_sampler(fields *f, rf_request_params *p, sampler_lists *lists);
void sampler_lists_free(sampler_lists *l);

/* A prompt given as text, list of ids, or mixed (llama.cpp), to ids: rf_free. special: parse special tokens in text. For a
 * long one see asked.h: this may run on another thread, while the loop leaves f alone. */
bool fields_prompt(fields *f, const char *name, bool special, int32_t **ids, size_t *n);

#endif
