/* What the kernel says of this process. Any thread; a figure that cannot be read is 0. */
#ifndef ROCMFORGE_SERVER_PROCESS_H
#define ROCMFORGE_SERVER_PROCESS_H

#include <stdint.h>

typedef struct {
    uint64_t resident_bytes, virtual_bytes;
    uint32_t open_fds, max_fds;
    double cpu_seconds;
} process_usage;

process_usage process_get_usage(void); /* counts open files: for /metrics, not for every request */

#endif
