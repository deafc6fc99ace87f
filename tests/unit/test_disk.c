/* Pages on disk: what was saved comes back, and nothing else ever does. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "heap_calls.h"
#include "kv/disk.h"
#include "kv/disk_file.h"
#include "kv/prefix.h"

/* --- a folder, and a sequence whose pages are known by heart ------------------------------------------------------------ */

enum { PT = 16, PAGE_BYTES = 1000, N_SEQ = 64, MAX_TOKENS = N_SEQ * PT, NOBODY = 65534 };
static const uint64_t us[2] = {0x0123456789abcdef, 42}, others[2] = {0x0123456789abcdef, 43};

typedef struct {
    char dir[64];
    int32_t tokens[MAX_TOKENS]; /* one sequence */
    uint64_t key[N_SEQ];        /* of its pages */
} folder;

static void folder_make(folder *f, uint64_t seed) {
    strcpy(f->dir, "/tmp/test_disk.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    uint64_t parent = 0;
    for (uint32_t i = 0; i < MAX_TOKENS; i++) f->tokens[i] = (int32_t)(rng_u64(seed, i) % 50000);
    for (uint32_t i = 0; i < N_SEQ; i++) parent = f->key[i] = kv_prefix_key(parent, f->tokens + i * PT, PT);
}

/* Calls on every name in the folder but "." and "..". */
static uint32_t each_file(const char *dir, void (*f)(const char *path, const char *name, void *ctx), void *ctx) {
    DIR *d = opendir(dir);
    uint32_t n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[400];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (f) f(path, e->d_name, ctx);
        n++;
    }
    closedir(d);
    return n;
}

static void remove_file(const char *path, const char *name, void *ctx) {
    (void)name, (void)ctx;
    if (unlink(path)) rmdir(path);
}

static void folder_remove(folder *f) {
    each_file(f->dir, remove_file, NULL);
    assert_int_equal(rmdir(f->dir), 0);
}

static void page_path(const folder *f, uint32_t i, char path[200]) {
    char name[DISK_NAME_BYTES];
    disk_name(name, us, f->key[i]);
    snprintf(path, 200, "%s/%s", f->dir, name);
}

static kv_disk_options options_of(const folder *f) {
    return (kv_disk_options){.dir = f->dir,
                             .max_bytes = 1 << 20,
                             .identity = {us[0], us[1]},
                             .page_tokens = PT,
                             .max_tokens = MAX_TOKENS,
                             .page_bytes = PAGE_BYTES};
}

static kv_disk *open_with(const kv_disk_options *opt) {
    kv_disk *d;
    err e = {0};
    if (kv_disk_open(&d, opt, &e)) fail_msg("%s", e.text);
    return d;
}

static kv_disk *open_folder(const folder *f) {
    kv_disk_options opt = options_of(f);
    return open_with(&opt);
}

static void fill_page(uint8_t *bytes, size_t n, uint64_t key) {
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)(rng_u64(key, i / 8) >> 8 * (i % 8));
}

static bool save(kv_disk *d, const folder *f, uint32_t i) {
    uint8_t bytes[PAGE_BYTES];
    fill_page(bytes, sizeof bytes, f->key[i]);
    return kv_disk_save(d, f->key[i], f->tokens, (i + 1) * PT, bytes);
}

/* Found, then also right: a page that comes back wrong is the one thing that must never be. */
static bool load(kv_disk *d, const folder *f, uint32_t i) {
    uint8_t bytes[PAGE_BYTES], want[PAGE_BYTES];
    fill_page(want, sizeof want, f->key[i]);
    if (!kv_disk_load(d, f->key[i], f->tokens, (i + 1) * PT, bytes)) return false;
    assert_memory_equal(bytes, want, sizeof bytes);
    return true;
}

static kv_disk_stats stats_of(const kv_disk *d) {
    kv_disk_stats s;
    kv_disk_get_stats(d, &s);
    return s;
}

static void await(const kv_disk *d, uint64_t n_done) {
    for (kv_disk_stats s = stats_of(d); s.saved + s.failed < n_done; s = stats_of(d)) usleep(200);
}

static void save_now(kv_disk *d, const folder *f, uint32_t i) {
    kv_disk_stats s = stats_of(d);
    assert_true(save(d, f, i));
    await(d, s.saved + s.failed + 1);
}

static void fill_folder(const folder *f, uint32_t n) {
    kv_disk *d = open_folder(f);
    for (uint32_t i = 0; i < n; i++) save_now(d, f, i);
    kv_disk_close(d);
}

static void put_file(const char *path, const uint8_t *bytes, size_t n) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, bytes, n) == (ssize_t)n && close(fd) == 0);
}

static size_t get_file(const char *path, uint8_t *bytes, size_t max) {
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, max);
    assert_true(n >= 0);
    close(fd);
    return (size_t)n;
}

/* Page i is not to be had, and is gone; the others are well. */
static void check_dropped(const folder *f, uint32_t i, const char *what) {
    char path[200];
    page_path(f, i, path);
    kv_disk *d = open_folder(f);
    struct stat st;
    if (!kv_disk_has(d, f->key[i])) fail_msg("%s: not even seen", what);
    if (load(d, f, i)) fail_msg("%s: believed", what);
    if (kv_disk_has(d, f->key[i]) || lstat(path, &st) == 0) fail_msg("%s: still there", what);
    assert_true(stats_of(d).dropped == 1 && load(d, f, i + 1));
    kv_disk_close(d);
}

/* --- what is saved comes back ------------------------------------------------------------------------------------------- */

static void test_round_trip(void **state) {
    (void)state;
    folder f;
    struct stat st;
    char path[200];
    folder_make(&f, 1);
    rmdir(f.dir); /* open makes it */
    kv_disk *d = open_folder(&f);
    assert_true(stat(f.dir, &st) == 0 && (st.st_mode & 0777) == 0700);
    for (uint32_t i = 0; i < 8; i++) {
        assert_false(kv_disk_has(d, f.key[i]));
        save_now(d, &f, i);
        assert_true(kv_disk_has(d, f.key[i]) && !save(d, &f, i)); /* known already */
    }
    page_path(&f, 3, path);
    assert_true(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600 && st.st_size == 64 + 4 * PT * 4 + PAGE_BYTES);
    for (uint32_t i = 0; i < 8; i++) assert_true(load(d, &f, i));
    kv_disk_close(d);
    d = open_folder(&f);
    kv_disk_stats s = stats_of(d);
    assert_true(s.pages == 8 && s.loaded == 0 && s.saved == 0 && s.bytes > 8 * PAGE_BYTES);
    for (uint32_t i = 8; i-- > 0;) assert_true(load(d, &f, i));
    assert_false(load(d, &f, 8));
    s = stats_of(d);
    assert_true(s.loaded == 8 && s.dropped == 0 && s.failed == 0);
    uint8_t bytes[PAGE_BYTES] = {0};
    assert_false(kv_disk_save(d, 77, f.tokens, PT - 1, bytes)); /* no whole page */
    assert_false(kv_disk_save(d, 77, f.tokens, 0, bytes));
    assert_false(kv_disk_save(d, 77, f.tokens, MAX_TOKENS + PT, bytes)); /* longer than said at open */
    kv_disk_close(d);
    kv_disk_close(NULL);
    folder_remove(&f);
}

/* What is queued when the folder is closed is written, or was refused: nobody waited for the disk. */
static void test_the_queue_is_bounded(void **state) {
    (void)state;
    enum { BIG = 6 << 20, N = 24 };
    folder f;
    folder_make(&f, 2);
    kv_disk_options opt = options_of(&f);
    opt.page_bytes = BIG;
    opt.max_bytes = (uint64_t)(N + 1) * BIG;
    assert_true(kv_disk_memory(&opt) < 64 << 20);
    kv_disk *d = open_with(&opt);
    uint8_t *bytes = malloc(BIG), *back = malloc(BIG);
    bool queued[N];
    for (uint32_t i = 0; i < N; i++) {
        memset(bytes, (int)i, BIG);
        queued[i] = kv_disk_save(d, f.key[i], f.tokens, (i + 1) * PT, bytes);
    }
    assert_true(queued[0] && queued[1]);
    kv_disk_close(d);
    d = open_with(&opt);
    for (uint32_t i = 0; i < N; i++) {
        memset(bytes, (int)i, BIG);
        assert_int_equal(kv_disk_load(d, f.key[i], f.tokens, (i + 1) * PT, back), queued[i]);
        if (queued[i]) assert_memory_equal(back, bytes, BIG);
    }
    kv_disk_close(d);
    free(bytes);
    free(back);
    folder_remove(&f);
}

static void test_allocates_nothing(void **state) {
    (void)state;
    folder f;
    folder_make(&f, 3);
    fill_folder(&f, 4);
    kv_disk *d = open_folder(&f);
    uint64_t calls = mem_calls() + check_heap_calls();
    for (uint32_t i = 0; i < 4; i++) assert_true(load(d, &f, i));
    for (uint32_t i = 4; i < 40; i++) save_now(d, &f, i);
    assert_int_equal(mem_calls() + check_heap_calls(), calls);
    kv_disk_close(d);
    folder_remove(&f);
}

static void test_survives_oom(void **state) {
    (void)state;
    folder f;
    folder_make(&f, 4);
    fill_folder(&f, 3);
    uint64_t live = mem_live();
    kv_disk_options opt = options_of(&f);
    for (uint64_t n = 1;; n++) {
        kv_disk *d;
        err e = {0};
        mem_fail_at(n);
        status s = kv_disk_open(&d, &opt, &e);
        bool fired = mem_fail_off();
        assert_int_equal(s, fired ? ERR_NOMEM : OK);
        kv_disk_close(d);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
    folder_remove(&f);
}

/* --- what is damaged does not ------------------------------------------------------------------------------------------- */

static void test_flipped_bits(void **state) {
    (void)state;
    folder f;
    char path[200], what[60];
    uint8_t good[4096], bad[4096];
    folder_make(&f, 5);
    fill_folder(&f, 4);
    page_path(&f, 2, path);
    size_t n = get_file(path, good, sizeof good), n_head = 64 + 3 * PT * 4;
    for (size_t at = 0; at < n; at += at < n_head ? 1 : 5) {
        uint32_t bit = (uint32_t)(rng_u64(6, at) % 8);
        memcpy(bad, good, n);
        bad[at] ^= (uint8_t)(1u << bit);
        put_file(path, bad, n);
        snprintf(what, sizeof what, "bit %u of byte %zu flipped", bit, at);
        check_dropped(&f, 2, what);
    }
    put_file(path, good, n); /* the file itself was sound */
    kv_disk *d = open_folder(&f);
    assert_true(load(d, &f, 2));
    kv_disk_close(d);
    folder_remove(&f);
}

static void test_wrong_lengths(void **state) {
    (void)state;
    folder f;
    char path[200], what[60];
    uint8_t good[8192] = {0};
    folder_make(&f, 7);
    fill_folder(&f, 4);
    page_path(&f, 2, path);
    size_t n = get_file(path, good, sizeof good);
    for (size_t k = 0; k < n; k += k < 70 || k + 20 > n ? 1 : 37) {
        put_file(path, good, k);
        snprintf(what, sizeof what, "cut to %zu of %zu bytes", k, n);
        check_dropped(&f, 2, what);
    }
    for (size_t more = 1; more <= 4096; more *= 8) {
        put_file(path, good, n + more);
        snprintf(what, sizeof what, "%zu bytes more", more);
        check_dropped(&f, 2, what);
    }
    folder_remove(&f);
}

/* Sound files in the wrong place: another model's, another page's, another page size, another sequence with this key. */
static void test_foreign_files(void **state) {
    (void)state;
    folder f;
    char path[200], from[200];
    uint8_t bytes[4096], page[PAGE_BYTES];
    folder_make(&f, 8);
    kv_disk_options opt = options_of(&f);
    opt.identity[1] = others[1];
    kv_disk *d = open_with(&opt);
    save_now(d, &f, 2);
    kv_disk_close(d);
    fill_folder(&f, 4);
    d = open_folder(&f);
    assert_true(stats_of(d).pages == 4 && stats_of(d).bytes > 5 * PAGE_BYTES); /* counted, but not ours */
    kv_disk_close(d);
    char name[DISK_NAME_BYTES];
    disk_name(name, others, f.key[2]);
    snprintf(from, sizeof from, "%s/%s", f.dir, name);
    page_path(&f, 2, path);
    put_file(path, bytes, get_file(from, bytes, sizeof bytes));
    check_dropped(&f, 2, "another identity's page under our name");
    page_path(&f, 1, from);
    put_file(path, bytes, get_file(from, bytes, sizeof bytes));
    check_dropped(&f, 2, "page 1 under the name of page 2");
    for (int what = 0; what < 2; what++) {
        opt = options_of(&f);
        opt.page_tokens = what ? 2 * PT : PT;
        opt.page_bytes = what ? PAGE_BYTES : PAGE_BYTES - 8;
        d = open_with(&opt);
        assert_false(kv_disk_load(d, f.key[what], f.tokens, (uint32_t)(what + 1) * PT, page));
        assert_int_equal(stats_of(d).dropped, 1);
        kv_disk_close(d);
    }
    d = open_folder(&f);
    save_now(d, &f, 2);
    f.tokens[0]++; /* the same key and last page after another beginning */
    assert_true(kv_disk_has(d, f.key[2]) && !load(d, &f, 2) && stats_of(d).dropped == 1 && !kv_disk_has(d, f.key[2]));
    kv_disk_close(d);
    folder_remove(&f);
}

/* Names that lead elsewhere are not followed, and what they lead to is left alone. */
static void test_links_and_other_things(void **state) {
    (void)state;
    folder f;
    char path[200], aside[100], link_dir[100];
    uint8_t bytes[4096];
    struct stat st;
    folder_make(&f, 9);
    fill_folder(&f, 4);
    page_path(&f, 2, path);
    snprintf(aside, sizeof aside, "%s.aside", f.dir);
    put_file(aside, bytes, get_file(path, bytes, sizeof bytes));
    for (int what = 0; what < 3; what++) {
        kv_disk *d = open_folder(&f);
        unlink(path);
        assert_int_equal(what == 0 ? symlink(aside, path) : what == 1 ? mkfifo(path, 0600) : mkdir(path, 0700), 0);
        assert_true(!load(d, &f, 2) && stats_of(d).dropped == 1 && !kv_disk_has(d, f.key[2]));
        kv_disk_close(d);
        assert_true(stat(aside, &st) == 0 && (what == 2 || lstat(path, &st) != 0));
        if (what == 2) break;
        assert_int_equal(what == 0 ? symlink(aside, path) : mkfifo(path, 0600), 0); /* there before open: no page */
        d = open_folder(&f);
        assert_true(!kv_disk_has(d, f.key[2]) && stats_of(d).pages == 3);
        save_now(d, &f, 2); /* takes the name's place */
        assert_true(load(d, &f, 2) && lstat(path, &st) == 0 && S_ISREG(st.st_mode));
        kv_disk_close(d);
    }
    rmdir(path);
    put_file(path, bytes, get_file(aside, bytes, sizeof bytes));
    chmod(path, 0660);
    check_dropped(&f, 2, "a file that others may write to");
    snprintf(link_dir, sizeof link_dir, "%s.link", f.dir);
    assert_int_equal(symlink(f.dir, link_dir), 0);
    for (int slash = 0; slash < 2; slash++) {
        kv_disk_options opt = options_of(&f);
        kv_disk *d;
        err e = {0};
        if (slash) strcat(link_dir, "/");
        opt.dir = link_dir;
        assert_int_equal(kv_disk_open(&d, &opt, &e), ERR_IO);
        assert_true(d == NULL && strstr(e.text, "symbolic link"));
    }
    link_dir[strlen(link_dir) - 1] = '\0';
    unlink(link_dir);
    unlink(aside);
    folder_remove(&f);
}

static void test_folders_that_cannot_be_used(void **state) {
    (void)state;
    folder f;
    char path[200], long_name[5000];
    folder_make(&f, 10);
    snprintf(path, sizeof path, "%s/file", f.dir);
    put_file(path, (const uint8_t *)"x", 1);
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    const char *const bad[] = {"", path, "/proc/1/nothing/here", long_name, "/dev/null"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        kv_disk_options opt = options_of(&f);
        kv_disk *d;
        err e = {0};
        opt.dir = bad[i];
        assert_int_equal(kv_disk_open(&d, &opt, &e), ERR_IO);
        assert_true(d == NULL && strlen(e.text) > 10);
    }
    folder_remove(&f);
}

/* --- disks that will not take it ---------------------------------------------------------------------------------------- */

static void no_temporary(const char *path, const char *name, void *ctx) {
    (void)path, (void)ctx;
    if (strncmp(name, ".tmp-", 5) == 0) fail_msg("%s was left behind", name);
}

static void test_full_disk(void **state) {
    (void)state;
    folder f;
    struct rlimit before, little;
    folder_make(&f, 11);
    fill_folder(&f, 2);
    kv_disk *d = open_folder(&f);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    little = before;
    little.rlim_cur = 700; /* writes end in the middle of the page */
    setrlimit(RLIMIT_FSIZE, &little);
    for (uint32_t i = 2; i < 6; i++) save_now(d, &f, i);
    setrlimit(RLIMIT_FSIZE, &before);
    kv_disk_stats s = stats_of(d);
    assert_true(s.failed == 4 && s.saved == 0 && s.pages == 2);
    each_file(f.dir, no_temporary, NULL);
    for (uint32_t i = 0; i < 6; i++) assert_true(kv_disk_has(d, f.key[i]) == (i < 2) && load(d, &f, i) == (i < 2));
    save_now(d, &f, 5); /* there is room again */
    assert_true(load(d, &f, 5));
    kv_disk_close(d);
    folder_remove(&f);
}

/* As nobody, in a folder of his that he may not write to; then in one that he may not even read. */
static int as_nobody(const folder *f, mode_t mode) {
    pid_t pid = fork();
    if (pid == 0) {
        kv_disk_options opt = options_of(f);
        kv_disk *d;
        err e = {0};
        if (geteuid() == 0 && (setgid(NOBODY) || setuid(NOBODY))) _exit(77);
        if (chmod(f->dir, mode)) _exit(1);
        status s = kv_disk_open(&d, &opt, &e);
        if (!(mode & 0400)) _exit(s == ERR_IO && !d ? 0 : 2);
        if (s || !load(d, f, 0) || !save(d, f, 5)) _exit(3);
        await(d, 1);
        kv_disk_stats st = stats_of(d);
        if (st.failed != 1 || st.saved || kv_disk_has(d, f->key[5]) || !load(d, f, 1)) _exit(4);
        kv_disk_close(d);
        _exit(0);
    }
    int how = -1;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void give_to_nobody(const char *path, const char *name, void *ctx) {
    (void)name, (void)ctx;
    if (geteuid() == 0) assert_int_equal(chown(path, NOBODY, NOBODY), 0);
}

static void test_read_only_and_unreadable(void **state) {
    (void)state;
    folder f;
    folder_make(&f, 12);
    fill_folder(&f, 4);
    each_file(f.dir, give_to_nobody, NULL);
    give_to_nobody(f.dir, NULL, NULL);
    int first = as_nobody(&f, 0500), second = as_nobody(&f, 0300);
    chmod(f.dir, 0700);
    if (first == 77) skip();
    assert_int_equal(first, 0);
    assert_int_equal(second, 0);
    folder_remove(&f);
}

static void test_folder_goes_away(void **state) {
    (void)state;
    folder f;
    folder_make(&f, 13);
    fill_folder(&f, 3);
    kv_disk *d = open_folder(&f);
    folder_remove(&f);
    assert_false(load(d, &f, 0));
    save_now(d, &f, 7);
    kv_disk_stats s = stats_of(d);
    assert_true(s.failed == 1 && s.dropped == 0); /* what somebody removed was not damaged */
    kv_disk_close(d);
}

/* --- the bound, and who shares the folder ------------------------------------------------------------------------------- */

static void add_size(const char *path, const char *name, void *ctx) {
    struct stat st;
    (void)name;
    if (lstat(path, &st) == 0) *(uint64_t *)ctx += (uint64_t)st.st_size;
}

static uint64_t size_of(const folder *f) {
    uint64_t n = 0;
    each_file(f->dir, add_size, &n);
    return n;
}

static void test_size_bound(void **state) {
    (void)state;
    folder f;
    folder_make(&f, 14);
    kv_disk_options opt = options_of(&f);
    opt.max_bytes = 20000; /* of pages from 1.1 KB to 5.1 KB */
    kv_disk *d = open_with(&opt);
    save_now(d, &f, 0);
    for (uint32_t i = 1; i < 40; i++) {
        save_now(d, &f, i);
        assert_true(load(d, &f, 0)); /* used again and again: it stays */
        assert_true(size_of(&f) <= opt.max_bytes && stats_of(d).bytes == size_of(&f));
    }
    assert_true(kv_disk_has(d, f.key[39]) && kv_disk_has(d, f.key[38]) && !kv_disk_has(d, f.key[1]));
    assert_true(stats_of(d).pages >= 4 && stats_of(d).dropped == 0);
    kv_disk_close(d);
    opt.max_bytes = 6000; /* less at the next start; the last used stay */
    d = open_with(&opt);
    assert_true(size_of(&f) <= 6000 && kv_disk_has(d, f.key[0]));
    save_now(d, &f, N_SEQ - 1); /* 5 KB: nearly everything else goes */
    assert_true(size_of(&f) <= 6000 && kv_disk_has(d, f.key[N_SEQ - 1]));
    opt.max_bytes = 1000; /* less than any page */
    kv_disk_close(d);
    d = open_with(&opt);
    assert_true(size_of(&f) == 0 && !save(d, &f, 0));
    kv_disk_close(d);
    folder_remove(&f);
}

static void test_files_of_others_go_first(void **state) {
    (void)state;
    folder f;
    folder_make(&f, 15);
    fill_folder(&f, 4);
    kv_disk_options opt = options_of(&f);
    opt.identity[1] = others[1];
    kv_disk *d = open_with(&opt); /* written later, and still */
    for (uint32_t i = 0; i < 4; i++) save_now(d, &f, i);
    kv_disk_close(d);
    opt = options_of(&f);
    opt.max_bytes = size_of(&f);
    d = open_with(&opt);
    for (uint32_t i = 0; i < 3; i++) save_now(d, &f, 4 + i);
    for (uint32_t i = 0; i < 7; i++) assert_true(kv_disk_has(d, f.key[i]));
    kv_disk_close(d);
    folder_remove(&f);
}

/* Two at once: what one removed is simply gone for the other, and what one wrote is seen after a while. */
static void test_two_handles(void **state) {
    (void)state;
    folder f, g;
    folder_make(&f, 16);
    folder_make(&g, 17);
    rmdir(g.dir);
    strcpy(g.dir, f.dir);
    kv_disk *a = open_folder(&f), *b = open_folder(&f);
    for (uint32_t i = 0; i < 8; i++) {
        save_now(a, &f, i);
        if (i % 2) save_now(b, &f, i);
    }
    for (uint32_t i = 0; i < 8; i++) assert_true(load(a, &f, i) && load(b, &f, i) == (i % 2 == 1));
    char path[200];
    page_path(&f, 1, path);
    unlink(path);
    assert_true(!load(a, &f, 1) && !load(b, &f, 1) && stats_of(a).dropped + stats_of(b).dropped == 0);
    for (uint32_t i = 0; i < N_SEQ; i++) save_now(b, &g, i);
    for (uint32_t i = 0; i < 8; i++) /* the 64th page was a reason to look around, once it was counted */
        for (uint32_t k = 0; i % 2 == 0 && !kv_disk_has(b, f.key[i]) && k < 50000; k++) usleep(200);
    for (uint32_t i = 0; i < 8; i += 2) assert_true(load(b, &f, i));
    assert_false(kv_disk_has(b, f.key[1]));
    kv_disk_close(a);
    kv_disk_close(b);
    folder_remove(&f);
}

static void test_stale_temporary_files(void **state) {
    (void)state;
    folder f;
    char live[200], stale[200], strange[200];
    struct stat st;
    folder_make(&f, 18);
    snprintf(live, sizeof live, "%s/.tmp-0123456789abcdef", f.dir);
    snprintf(stale, sizeof stale, "%s/.tmp-0123456789abcdee", f.dir);
    snprintf(strange, sizeof strange, "%s/.tmp-notes", f.dir);
    put_file(stale, (const uint8_t *)"half", 4);
    put_file(strange, (const uint8_t *)"a user's", 8);
    int fd = open(live, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    kv_disk_close(open_folder(&f));
    assert_true(stat(live, &st) == 0 && stat(stale, &st) != 0 && stat(strange, &st) == 0);
    close(fd);
    kv_disk_close(open_folder(&f));
    assert_true(stat(live, &st) != 0 && stat(strange, &st) == 0);
    folder_remove(&f);
}

/* --- killed at any moment ----------------------------------------------------------------------------------------------- */

static void write_until_killed(const folder *f, uint32_t round) {
    kv_disk *d = open_folder(f);
    for (uint32_t i = 0;; i++) {
        uint32_t k = (uint32_t)(rng_u64(round, i) % N_SEQ);
        if (!save(d, f, k) && i % 7 == 0) (void)load(d, f, k);
    }
}

static void test_killed_at_any_moment(void **state) {
    (void)state;
    folder f;
    uint32_t n_found = 0;
    folder_make(&f, 19);
    for (uint32_t round = 0; round < 25; round++) {
        pid_t pid = fork();
        if (pid == 0) write_until_killed(&f, round);
        usleep((useconds_t)(rng_u64(20, round) % 12000));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        kv_disk *d = open_folder(&f);
        each_file(f.dir, no_temporary, NULL);
        for (uint32_t i = 0; i < N_SEQ; i++) n_found += load(d, &f, i); /* also checks what it finds */
        assert_int_equal(stats_of(d).dropped, 0);                       /* only whole files ever had a page's name */
        kv_disk_close(d);
        if (round % 5 == 4) each_file(f.dir, remove_file, NULL);
    }
    assert_true(n_found > 0);
    folder_remove(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_the_queue_is_bounded),
        cmocka_unit_test(test_allocates_nothing),
        cmocka_unit_test(test_survives_oom),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_wrong_lengths),
        cmocka_unit_test(test_foreign_files),
        cmocka_unit_test(test_links_and_other_things),
        cmocka_unit_test(test_folders_that_cannot_be_used),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_read_only_and_unreadable),
        cmocka_unit_test(test_folder_goes_away),
        cmocka_unit_test(test_size_bound),
        cmocka_unit_test(test_files_of_others_go_first),
        cmocka_unit_test(test_two_handles),
        cmocka_unit_test(test_stale_temporary_files),
        cmocka_unit_test(test_killed_at_any_moment),
    };
    return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
