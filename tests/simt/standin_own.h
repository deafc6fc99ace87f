/* What the files of the stand-in share. One lock guards everything: `standin_lock` is held by every call from outside, and the
 * functions below expect it. */
#ifndef ROCMFORGE_TESTS_SIMT_STANDIN_OWN_H
#define ROCMFORGE_TESTS_SIMT_STANDIN_OWN_H

#include "backend/gpu/hip_api.h"
#include "interpreter.h"
#include "standin.h"

#define X(result, name, arguments) SIMT_API result name arguments;
HIP_API(X)
#undef X

enum { HIP_INVALID_CONFIGURATION = 9, MAX_DEVICES = 16, MOST_ARGS = 4096 };

typedef struct {
    char arch[32];
    const char *name;
    uint64_t total, used;
    int units, clock_khz, memory_khz, bus_bits, wave;
    bool integrated, no_peer;
    hip_error broken; /* an error of queued work, which stays */
} device;

/* standin_device.c */
extern device devices[MAX_DEVICES];
extern int n_devices;
void standin_lock(void); /* also reads the environment, the first time */
void standin_unlock(void);
int current_device(void);
extern standin_counts counts;
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Keeps and prints the reason; the device is broken from now on. Returns rc. */
hip_error break_device(int dev, hip_error rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* standin_memory.c */
typedef struct block {
    struct block *next;
    unsigned char *at;
    size_t n_bytes, heap_bytes;
    int dev; /* -1: pinned memory of the host */
} block;
block *find_block(const void *p, size_t n_bytes); /* that holds all of it; NULL: none */
block *block_list(void);
bool is_device_memory(const void *p, size_t n_bytes);
void check_guards(int dev, const char *after);
bool in_mapped_file(const void *p);

/* standin_code.c */
typedef struct module module;
typedef struct {
    const char *name;
    const simt_kernel *host;
    module *m;
} function;
typedef struct {
    function *f;
    uint32_t grid[3], block;
    size_t args_bytes;
    _Alignas(16) unsigned char args[MOST_ARGS];
} launch;
hip_error run_launch(int dev, const launch *l);
int module_device(const module *m);

/* standin_emulator.c: the code object's kernel in the other process */
bool emulator_wanted(void);
void *emulator_memory(size_t n_bytes); /* of the mapping that both processes share; NULL: none left */
void emulator_release(void *p, size_t n_bytes);
bool emulator_load(const void *code, size_t n_bytes, const char *arch, uint32_t *id, char *why, size_t why_bytes);
bool emulator_run(uint32_t id, const launch *l, char *why, size_t why_bytes);
uint32_t module_emulator_id(const module *m);

/* standin_fault.c */
typedef enum { FAULT_NONE, FAULT_FLIP, FAULT_SKIP, FAULT_FAIL } launch_fault;
typedef enum { COPY_WELL, COPY_STALE, COPY_SHORT } copy_fault;
void faults_read(void);
/* Whether this call of the function is to fail, with which error: at the head of every call. */
hip_error fault_of_call(const char *name);
launch_fault fault_of_launch(const char *kernel);
copy_fault fault_of_copy(void);
/* Before and after a launch whose result is to have one wrong bit. */
void flip_before(int dev);
void flip_after(int dev);

#endif
