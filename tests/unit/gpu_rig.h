/* What the tests of GPU discovery stand on: a tree of /sys and /dev in a folder of their own, and the played runtimes. */
#ifndef ROCMFORGE_TESTS_GPU_RIG_H
#define ROCMFORGE_TESTS_GPU_RIG_H

#include "backend/gpu/driver.h"
#include "fake_gpu.h"

extern char rig_root[64];            /* empty trees are made by rig_clean */
extern fake_gpu *rig_hip, *rig_cuda; /* how the played runtimes behave; reset by rig_clean */

void rig_open(void);
void rig_clean(void); /* an empty tree, no devices, both runtimes named by the environment and without a fault */
void rig_close(void);

__attribute__((format(printf, 2, 3))) void rig_put(const char *path, const char *fmt, ...); /* a file of the tree */
void rig_forbid(const char *path, unsigned gid); /* nobody may open it; see rig_drop */
/* A root user may open everything: while dropped the process is somebody else. */
void rig_drop(void);
void rig_regain(void);

/* An AMD GPU on the bus and in the kernel driver's topology, with its device nodes: node N of the topology, renderD128 + N. */
void rig_amd(unsigned node, const char *pci, unsigned device, unsigned gfx_version, unsigned vram_mib,
             unsigned gtt_mib);
void rig_no_hip(void);
void rig_no_cuda(void);

#endif
