/* A stand-in for AMD's HIP runtime, for tests: libstandin_hip.so has the functions of backend/gpu/hip_api.h, plays as many
 * devices as it is told to, and runs kernels on the interpreter (interpreter.h), or hands the code objects themselves to an
 * emulator of the instruction set (standin_emulator.c). ROCMFORGE_HIP_LIBRARY=.../libstandin_hip.so makes the engine use it.
 *
 *   ROCMFORGE_STANDIN         devices: gfx1100:24GiB,gfx1151:16GiB:integrated,gfx906:16GiB:nopeer   (default gfx1100:24GiB)
 *   ROCMFORGE_STANDIN_FAULT   what goes wrong and when (standin_fault.c)
 *   ROCMFORGE_STANDIN_EAGER   set: queued work runs at once instead of at the last moment
 *   ROCMFORGE_STANDIN_REPORT  a file: at the end of the process one line of JSON with the counters is appended
 *   ROCMFORGE_STANDIN_LOG     a file: a line for every launch and copy, as it runs
 *   ROCMFORGE_STANDIN_VERSION the runtime's version number (default 60443484)
 *   ROCMFORGE_ISA_EMU, ROCMFORGE_ISA_PYTHON  the emulator's folder and its Python: kernels run from the code objects
 *
 * Work queued on a stream runs when something waits for it, and not before: a buffer that is changed or freed too early
 * shows. Device memory is this process's, filled with NaN patterns, between guards that are checked after every launch (and
 * poisoned under ASan), and counted against the size that the device plays. Copies from and to memory that is not pinned are
 * done at once, as the real runtime does, and counted. An error in queued work comes with the next synchronising call and
 * stays; the reason goes to standard error. */
#ifndef ROCMFORGE_TESTS_SIMT_STANDIN_H
#define ROCMFORGE_TESTS_SIMT_STANDIN_H

#include <stddef.h>
#include <stdint.h>

/* X(name): all since the process began; live_*: at the moment */
#define STANDIN_COUNTERS(X) \
    X(launches) /* kernels, those inside graphs too */ \
    X(graph_launches) \
    X(captures) \
    X(copies_in) \
    X(copies_out) \
    X(copies_within) /* inside a device, or between two */ \
    X(bytes_in) \
    X(bytes_out) \
    X(bytes_within) \
    X(fills) \
    X(syncs)           /* calls by which the host waits */ \
    X(pageable_copies) /* from or to host memory that is not pinned */ \
    X(file_copies)     /* whose host side lies in a mapped file */ \
    X(allocations) \
    X(live_device_bytes) \
    X(live_pinned_bytes) \
    X(live_objects) /* streams, events, modules, graphs */

typedef struct {
#define X(name) uint64_t name;
    STANDIN_COUNTERS(X)
#undef X
} standin_counts;

/* Found by dlsym. */
void standin_counters(standin_counts *out);
const char *standin_reason(void); /* of the last failure, "" if there was none */
const char *standin_arch(int dev);

/* Runs a kernel for waves of 32 or 64 at once; pointers in its arguments are this process's. 0: done; else why says what is
 * wrong. */
int standin_launch(const char *kernel, unsigned wave, const unsigned grid[3], unsigned block, const void *args,
                   size_t args_bytes, char *why, size_t why_size);

#endif
