/* Which layers of a model look at their neighbourhood only: <arch>.attention.sliding_window_pattern, a number of layers or
 * one flag for each. */
#ifndef ROCMFORGE_MODEL_WINDOWS_H
#define ROCMFORGE_MODEL_WINDOWS_H

#include "model/keys.h"
#include "model/model.h"

/* Of each `pattern` layers (the file's number wins) all but one: the last, or with `wide_first` the first. 0: all of them.
 * Sets local_rope of every layer; windows are the caller's. */
MUST_CHECK status windows_read_pattern(model_info *m, const keys *k, uint32_t pattern, bool wide_first);

/* The same for encoders, whose window of n keys lies around the query: half of n before it, half behind it. Reads
 * attention.sliding_window (0 or absent: none, unless it is needed) and rope.freq_base_swa; then m->rope_local is set. */
MUST_CHECK status windows_read_around(model_info *m, const keys *k, uint32_t pattern, bool wide_first, bool needed);

#endif
