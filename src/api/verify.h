/* A GPU is right or refused: before an engine answers anybody, the probe of exec/probe.h must give, bit for bit, what the CPU
 * gives on the same weights. Asking the CPU takes memory and time, so its answer's hash is kept, by model, device, driver and
 * build, in rocmforge/verified of the user's cache folder; the device is asked again at every load (tens of milliseconds),
 * so that one which fails later is refused too. Without a GPU, the CPU's tier is held against the scalar reference. */
#ifndef ROCMFORGE_API_VERIFY_H
#define ROCMFORGE_API_VERIFY_H

#include "api/api.h"
#include "exec/probe.h"

typedef enum { VERIFY_ONCE, VERIFY_ALWAYS, VERIFY_OFF } verify_when;

MUST_CHECK status verify_when_of(const char *name, verify_when *out, err *e); /* NULL: once. ERR_USAGE */

/* What an engine does at load. s->verified: one line about what is known now, for people. ERR_GPU_WRONG with the figures. */
MUST_CHECK status verify_engine(exec *x, const rf_model *m, api_shape *s, verify_when when, err *e);

typedef struct {
    probe_answer answer, expected;
    char device[128], reference[64];
    int32_t first_layer; /* -1: all keys and values are equal */
} verify_report;

/* The whole comparison, whatever is known already. x: the device's executor. r: zero, or with its answer, which is taken. */
MUST_CHECK status verify_compare(verify_report *r, exec *x, const rf_model *m, const api_shape *s, err *e);
void verify_report_free(verify_report *r);

#endif
