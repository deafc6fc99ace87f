#include "server/process.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static void read_memory(process_usage *u) {
    unsigned long long pages = 0, resident = 0, page_bytes = (unsigned long long)sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return;
    if (fscanf(f, "%llu %llu", &pages, &resident) == 2) {
        u->virtual_bytes = pages * page_bytes;
        u->resident_bytes = resident * page_bytes;
    }
    fclose(f);
}

static uint32_t count_files(void) {
    DIR *d = opendir("/proc/self/fd");
    if (!d) return 0;
    uint32_t n = 0;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n ? n - 1 : 0; /* less the folder's own */
}

process_usage process_get_usage(void) {
    process_usage u = {.open_fds = count_files()};
    struct rlimit most;
    struct rusage used;
    read_memory(&u);
    if (getrlimit(RLIMIT_NOFILE, &most) == 0)
        u.max_fds = most.rlim_cur > UINT32_MAX ? UINT32_MAX : (uint32_t)most.rlim_cur;
    if (getrusage(RUSAGE_SELF, &used) == 0)
        u.cpu_seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                        1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    return u;
}
