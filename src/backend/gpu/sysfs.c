#include "backend/gpu/sysfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 512, KFD_NODES_MOST = 256 };

static bool first_line(char *out, size_t n_bytes, const char *root, const char *path) {
    char full[PATH_BYTES];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    FILE *f = n > 0 && (size_t)n < sizeof full ? fopen(full, "re") : NULL;
    bool ok = f && fgets(out, (int)n_bytes, f);
    if (f) fclose(f);
    if (ok) out[strcspn(out, "\n")] = 0;
    return ok;
}

bool sysfs_text(char *out, size_t n_bytes, const char *root, const char *fmt, ...) {
    char path[PATH_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(path, sizeof path, fmt, ap);
    va_end(ap);
    return n > 0 && (size_t)n < sizeof path && first_line(out, n_bytes, root, path);
}

static bool number(uint64_t *out, const char *text) {
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9') return false;
    unsigned long long v = strtoull(text, &end, 0);
    if (errno || (*end && *end != ' ')) return false;
    *out = v;
    return true;
}

bool sysfs_number(uint64_t *out, const char *root, const char *fmt, ...) {
    char path[PATH_BYTES], text[64];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(path, sizeof path, fmt, ap);
    va_end(ap);
    return n > 0 && (size_t)n < sizeof path && first_line(text, sizeof text, root, path) && number(out, text);
}

bool pci_address(char out[16], const char *text) {
    unsigned domain = 0, bus, slot, function;
    int end = 0;
    bool whole = sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) == 4 && !text[end];
    if (!whole) {
        domain = 0, end = 0;
        if (sscanf(text, "%2x:%2x.%1x%n", &bus, &slot, &function, &end) != 3 || text[end]) return false;
    }
    if (domain > 0xFFFF || slot > 31 || function > 7) return false;
    snprintf(out, 16, "%04x:%02x:%02x.%x", domain & 0xFFFF, bus & 0xFF, slot & 0x1F, function & 7);
    return true;
}

/* --- the arch, from the kernel driver's topology ------------------------------------------------------------------------- */

void gfx_name(char *out, size_t n_bytes, uint32_t major, uint32_t minor, uint32_t step) {
    snprintf(out, n_bytes, "gfx%u%u%x", major, minor, step);
}

/* /sys/class/kfd/kfd/topology/nodes/N/properties: lines "name value". A GPU's node has its PCI place (location_id: bus in bits
 * 8 to 15, device and function below) and gfx_target_version (major * 10000 + minor * 100 + stepping; 0: a CPU). */
typedef struct {
    uint64_t domain, location, version;
} kfd_node;

static bool read_kfd_node(kfd_node *k, const char *root, unsigned i) {
    char path[PATH_BYTES], line[128], name[64];
    unsigned long long v;
    *k = (kfd_node){0};
    snprintf(path, sizeof path, "%.400s/sys/class/kfd/kfd/topology/nodes/%u/properties", root, i);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%63s %llu", name, &v) != 2) continue;
        if (!strcmp(name, "domain")) k->domain = v;
        if (!strcmp(name, "location_id")) k->location = v;
        if (!strcmp(name, "gfx_target_version")) k->version = v;
    }
    if (f) fclose(f);
    return f != NULL;
}

bool kfd_arch(char *out, size_t n_bytes, const char *root, const char *pci) {
    unsigned domain, bus, slot, function;
    if (sscanf(pci, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4) return false;
    kfd_node k;
    for (unsigned i = 0; i < KFD_NODES_MOST && read_kfd_node(&k, root, i); i++) {
        if (!k.version || k.version > 999999 || k.domain != domain) continue;
        if (k.location != (bus << 8 | slot << 3 | function)) continue;
        uint32_t v = (uint32_t)k.version;
        gfx_name(out, n_bytes, v / 10000, v / 100 % 100, v % 100);
        return true;
    }
    return false;
}

/* --- the PCI bus ---------------------------------------------------------------------------------------------------------- */

enum { CLASS_DISPLAY = 0x03, CLASS_ACCELERATOR = 0x12 };

static bool read_pci_gpu(pci_gpu *g, const char *root, const char *name) {
    uint64_t class, vendor, device;
    if (!pci_address(g->pci, name)) return false;
    if (!sysfs_number(&class, root, "/sys/bus/pci/devices/%s/class", name)) return false;
    if (!sysfs_number(&vendor, root, "/sys/bus/pci/devices/%s/vendor", name)) return false;
    if (!sysfs_number(&device, root, "/sys/bus/pci/devices/%s/device", name)) return false;
    if (class >> 16 != CLASS_DISPLAY && class >> 8 != CLASS_ACCELERATOR << 8) return false;
    g->vendor = (uint32_t)vendor;
    g->device = (uint32_t)device;
    return vendor == PCI_VENDOR_AMD || vendor == PCI_VENDOR_NVIDIA;
}

static int by_address(const void *a, const void *b) {
    return strcmp(((const pci_gpu *)a)->pci, ((const pci_gpu *)b)->pci);
}

uint32_t pci_gpus(pci_gpu *out, uint32_t most, const char *root) {
    char path[PATH_BYTES];
    uint32_t n = 0;
    snprintf(path, sizeof path, "%.400s/sys/bus/pci/devices", root);
    DIR *d = opendir(path);
    for (struct dirent *f; d && n < most && (f = readdir(d));)
        if (read_pci_gpu(&out[n], root, f->d_name)) n++;
    if (d) closedir(d);
    qsort(out, n, sizeof *out, by_address);
    return n;
}

/* --- permissions --------------------------------------------------------------------------------------------------------- */

/* The group's name; in a container it may have none, and its number is what counts. */
static bool group_name(char *out, size_t n_bytes, gid_t gid) {
    struct group g, *found = NULL;
    char buf[4096];
    if (getgrgid_r(gid, &g, buf, sizeof buf, &found) != 0 || !found) return false;
    snprintf(out, n_bytes, "%.60s", g.gr_name);
    return true;
}

status device_node_check(const char *root, const char *node, bool *exists, err *e) {
    char path[PATH_BYTES], name[64];
    struct stat st;
    snprintf(path, sizeof path, "%.400s%.100s", root, node);
    *exists = stat(path, &st) == 0;
    if (!*exists) return OK;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    int why = errno;
    if (fd >= 0) close(fd);
    if (fd >= 0 || (why != EACCES && why != EPERM)) return OK;
    if (why == EPERM)
        return fail(e, ERR_GPU_PERMISSION, "%s is closed to this container; start it with --device %s", node, node);
    if (st.st_gid == 0)
        return fail(e, ERR_GPU_PERMISSION,
                    "%s may not be opened by this user: it belongs to root alone; run `sudo udevadm trigger`, so that "
                    "udev gives it to group render",
                    node);
    unsigned gid = (unsigned)st.st_gid;
    if (!group_name(name, sizeof name, st.st_gid))
        return fail(
            e, ERR_GPU_PERMISSION,
            "%s may not be opened by this user: it belongs to group %u; start the container with --group-add %u", node,
            gid, gid);
    return fail(
        e, ERR_GPU_PERMISSION,
        "%s may not be opened by this user: it belongs to group %u (%s); run `sudo usermod -aG %s $USER` and log in "
        "again, or start the container with --group-add %u",
        node, gid, name, name, gid);
}

status amd_nodes_check(const char *root, bool *exists, err *e) {
    char path[PATH_BYTES], node[300];
    status s = device_node_check(root, "/dev/kfd", exists, e);
    if (s || !*exists) return s;
    snprintf(path, sizeof path, "%.400s/sys/class/drm", root);
    DIR *d = opendir(path);
    for (struct dirent *f; !s && d && (f = readdir(d));) {
        uint64_t vendor;
        bool there;
        if (strncmp(f->d_name, "renderD", 7) != 0) continue;
        if (!sysfs_number(&vendor, root, "/sys/class/drm/%s/device/vendor", f->d_name) || vendor != PCI_VENDOR_AMD)
            continue;
        snprintf(node, sizeof node, "/dev/dri/%s", f->d_name);
        s = device_node_check(root, node, &there, e);
    }
    if (d) closedir(d);
    return s;
}
