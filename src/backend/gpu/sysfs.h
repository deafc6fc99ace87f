/* What Linux itself says about GPUs: /sys and /dev, below a root that tests give ("" is the system's own). Reads small files
 * that the kernel writes, checks what it reads, keeps nothing. Any thread. */
#ifndef ROCMFORGE_BACKEND_GPU_SYSFS_H
#define ROCMFORGE_BACKEND_GPU_SYSFS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* The first line of a file, without its newline; false: not there, or not to be read. */
__attribute__((format(printf, 4, 5))) bool sysfs_text(char *out, size_t n_bytes, const char *root, const char *fmt,
                                                      ...);
__attribute__((format(printf, 3, 4))) bool sysfs_number(uint64_t *out, const char *root, const char *fmt, ...);

/* "0000:03:00.0" from whatever form of it: capitals, a domain of eight digits or none. false: not a PCI address. */
bool pci_address(char out[16], const char *text);

/* The arch of the AMD GPU at this address, "gfx1100", as the kernel driver's topology has it. */
bool kfd_arch(char *out, size_t n_bytes, const char *root, const char *pci);
/* "gfx90a" from 9, 0, 10: major and minor decimal, the stepping a hexadecimal digit. */
void gfx_name(char *out, size_t n_bytes, uint32_t major, uint32_t minor, uint32_t step);

/* GPUs on the PCI bus, by class (displays and processing accelerators) and vendor, by address. At most `most`. */
enum { PCI_VENDOR_AMD = 0x1002, PCI_VENDOR_NVIDIA = 0x10DE };
typedef struct {
    char pci[16];
    uint32_t vendor, device;
} pci_gpu;
uint32_t pci_gpus(pci_gpu *out, uint32_t most, const char *root);

/* ERR_GPU_PERMISSION when a device node (a path from the root) is there and this process may not open it, with the group to
 * join; OK when it may, or when there is none (*exists false). */
MUST_CHECK status device_node_check(const char *root, const char *node, bool *exists, err *e);
/* The same for /dev/kfd and every render node of an AMD GPU; what is wrong with the first. *exists: /dev/kfd is there. */
MUST_CHECK status amd_nodes_check(const char *root, bool *exists, err *e);

#endif
