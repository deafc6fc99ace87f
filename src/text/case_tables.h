/* Upper, lower and title case of characters: generated data, and the search in it (unicode.c). */
#ifndef ROCMFORGE_TEXT_CASE_TABLES_H
#define ROCMFORGE_TEXT_CASE_TABLES_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t first, last, step;
    int32_t delta;
} case_run; /* first, first + step, ... last: each plus delta */

typedef struct {
    uint32_t cp, to; /* to: 0 lower, 1 upper, 2 title */
    uint32_t become[3];
} case_several; /* sorted by cp, then to */

extern const case_run case_lower[], case_upper[], case_title[]; /* title: only where it is not the upper case */
extern const case_run case_is_lower[], case_is_upper[];         /* which are; delta 0 */
extern const size_t n_case_lower, n_case_upper, n_case_title, n_case_is_lower, n_case_is_upper, n_case_many;
extern const case_several case_many[];

/* NULL: in none of the runs. */
const case_run *case_find(const case_run *run, size_t n, uint32_t cp);

#endif
