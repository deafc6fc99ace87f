/* A whole folder of any bytes: the input is cut at lines "=== NAME"; what stands behind one is that file, the others are those
 * of a good tiny folder. It is converted or refused with a reason; nothing leaks, nothing is left, and what comes out is a
 * GGUF that opens. Most files are JSON, so an input that merely names a file and changes it goes deep. */
#include "base/json.h"
#include "base/mem.h"
#include "convert/convert.h"
#include "gguf/gguf.h"
#include "tiny_folder.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64], out_dir[80], out[96];
static const char *const names[] = {
    "config.json",           "tokenizer.json",      "tokenizer_config.json",   "generation_config.json",
    "model.safetensors",     "tokenizer.model",     "special_tokens_map.json", "modules.json",
    "1_Pooling/config.json", "chat_template.jinja", "chat_template.json",      "model.safetensors.index.json"};
enum { N_NAMES = sizeof names / sizeof *names };

static void run(const char *command, const char *what) {
    char text[200];
    snprintf(text, sizeof text, command, what);
    if (system(text)) abort();
}

static void clean(void) { run("rm -rf %s", dir); }

static void start(void) {
    strcpy(dir, "/dev/shm/rf-fuzz-XXXXXX");
    if (!mkdtemp(dir)) abort();
    snprintf(out_dir, sizeof out_dir, "%s/out", dir);
    snprintf(out, sizeof out, "%s/out/m.gguf", dir);
    run("mkdir %s", out_dir);
    run("mkdir %s/1_Pooling", dir);
    atexit(clean);
    json_init();
    json_decref(json_object());
}

/* Writes the files of the input; n: bytes up to the next line "=== NAME". */
static void write_files(const char *p, const char *end) {
    while (p < end) {
        const char *line = memchr(p, '\n', (size_t)(end - p)),
                   *next = memmem(p + 1, (size_t)(end - p - 1), "\n=== ", 5);
        const char *stop = next ? next + 1 : end;
        for (int i = 0; line && i < N_NAMES; i++) {
            const size_t n = strlen(names[i]);
            if (line - p == (ptrdiff_t)(n + 4) && memcmp(p, "=== ", 4) == 0 && memcmp(p + 4, names[i], n) == 0)
                tiny_write(dir, names[i], line + 1, (size_t)(stop - line - 1) - (next && stop > line + 1));
        }
        p = stop;
    }
}

static int n_left(void) {
    int n = -2; /* . and .. */
    DIR *d = opendir(out_dir);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!dir[0]) start();
    for (int i = 0; i < N_NAMES; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    tiny_folder(dir);
    write_files((const char *)data, (const char *)data + size);
    const uint64_t live = mem_live();
    json_t *report;
    err e = {0};
    const convert_options opt = {.type = size % 2 ? "q8_0" : NULL};
    status rc = convert_folder(&report, dir, out, &opt, &e);
    if (rc && (report || !e.text[0] || rc == ERR_INTERNAL || rc == ERR_GRAPH || n_left() != 0)) abort();
    if (!rc) {
        gguf *g;
        if (n_left() != 1 || gguf_open(&g, out, &e)) abort();
        gguf_close(g);
        unlink(out);
    }
    json_decref(report);
    if (mem_live() != live) abort();
    return 0;
}
