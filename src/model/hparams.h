/* Metadata -> model_info: the keys that all architectures share, checked one by one and against each other. */
#ifndef ROCMFORGE_MODEL_HPARAMS_H
#define ROCMFORGE_MODEL_HPARAMS_H

#include "model/model.h"

/* m->arch is set. Fills the rest of *m, its layer table included; on failure what was allocated stays for model_info_free. */
MUST_CHECK status hparams_read(model_info *m, const gguf *g, err *e);

#endif
