#include "cli/older.h"

#include "cli/cli.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const older_name older_names[] = {
    {"ROCMFORGE_BIND_ADDRESS", "--addr"},
    {"ROCFORGE_BIND_ADDRESS", "--addr"},
    {"ROCMORGE_TRACE_SAMPLE_RATE", "--trace-sample"},
    {"ROCFORGE_TRACE_SAMPLE_RATE", "--trace-sample"},
    {"ROCFORGE_MAX_TRACES", "--max-traces"},
    {"ROCFORGE_LOG_LEVEL", "--log-level"},
    {"ROCFORGE_LOG_FORMAT", "--log-format"},
    {"ROCFORGE_LOG_FILE", "--log-file"},
    {0},
};

static const char kernels[] = "kernels choose their own sizes", built_in[] = "kernels come with the program",
                  folder[] = "give a model file as MODEL or in ROCMFORGE_GGUF";

static const struct {
    const char *variable, *instead;
} obsolete[] = {
    {"ROCFORGE_GPU_DEVICE", "use --device"},
    {"ROCMFORGE_GPU_DEVICE", "use --device"},
    {"ROCMFORGE_TOKENIZER", "the tokenizer is the one in the GGUF file"},
    {"ROCMFORGE_MODELS", folder},
    {"ROCmFORGE_MODEL_DIR", folder},
    {"ROCFORGE_TEST_MODEL", "./runtests brings its own model"},
    {"ROCFORGE_BLOCK_SIZE", kernels},
    {"ROCFORGE_WARP_SIZE", kernels},
    {"ROCFORGE_TILE_K", kernels},
    {"ROCFORGE_TILE_N", kernels},
    {"ROCFORGE_USE_LDS", kernels},
    {"ROCFORGE_LDS_SIZE", kernels},
    {"ROCm_ARCH", "the device says what it is"},
    {"HIPCC", "meson builds this, with the compiler in CC"},
    {"RUSTC_VERSION", "meson builds this, with the compiler in CC"},
};
enum { N_OBSOLETE = sizeof obsolete / sizeof *obsolete };

/* SOFTMAX_HSACO and its kin named a file of one kernel each. */
static bool is_kernel_file(const char *entry) {
    const char *equals = strchr(entry, '='), *end = "_HSACO";
    size_t n = equals ? (size_t)(equals - entry) : 0, k = strlen(end);
    return n > k && memcmp(equals - k, end, k) == 0;
}

void older_warn(void) {
    extern char **environ;
    const char *variable = NULL, *instead = NULL;
    int n = 0, n_name = 0;
    for (size_t i = 0; i < N_OBSOLETE; i++)
        if (getenv(obsolete[i].variable) && ++n == 1)
            variable = obsolete[i].variable, instead = obsolete[i].instead, n_name = (int)strlen(variable);
    for (char **e = environ; e && *e; e++)
        if (is_kernel_file(*e) && ++n == 1) variable = *e, instead = built_in, n_name = (int)strcspn(*e, "=");
    char others[64] = "";
    if (n > 1) snprintf(others, sizeof others, " (nor %d more of the older ROCmForge's)", n - 1);
    if (n)
        cli_note("rocmforge: warning: %.*s has no effect: %s%s", n_name < 80 ? n_name : 80, variable, instead, others);
}
