/* not yet */
#include "standin_own.h"
bool emulator_wanted(void) { return false; }
void *emulator_memory(size_t n_bytes) { (void)n_bytes; return NULL; }
void emulator_release(void *p, size_t n_bytes) { (void)p, (void)n_bytes; }
bool emulator_load(const void *code, size_t n_bytes, const char *arch, uint32_t *id, char *why, size_t why_bytes) { (void)code, (void)n_bytes, (void)arch, (void)id, (void)why, (void)why_bytes; return false; }
bool emulator_run(uint32_t id, const launch *l, char *why, size_t why_bytes) { (void)id, (void)l, (void)why, (void)why_bytes; return false; }
