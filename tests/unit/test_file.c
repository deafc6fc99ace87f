/* file_map: what a program sees when a file it has mapped shrinks, changes or vanishes. */
#include "check.h"

#include "base/file.h"
#include "base/mem.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 64 };

static char dir[] = "/tmp/rf-test-file-XXXXXX";
static char path[64];
static size_t page;

static void write_file(const char *name, size_t n_bytes) {
    char *bytes = malloc(n_bytes + 1);
    memset(bytes, 'A', n_bytes);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, bytes, n_bytes) != (ssize_t)n_bytes) abort();
    close(fd);
    free(bytes);
}

static file_map *must_open(const char *name) {
    file_map *m;
    err e = {0};
    if (!file_map_open(&m, name, &e)) return m;
    fprintf(stderr, "%s\n", e.text);
    abort();
}

/* A mapping that file_map knows nothing of, cut short: reading its second page is somebody else's SIGBUS. */
static const volatile char *foreign_fault(void) {
    write_file(path, 2 * page);
    int fd = open(path, O_RDWR);
    const volatile char *p = mmap(NULL, 2 * page, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED || ftruncate(fd, 0)) _exit(99);
    return p + page;
}

static void exit_42(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info, (void)context;
    _exit(42);
}

enum { PREVIOUS_HANDLER, PREVIOUS_NONE, SENT_BY_KILL, SENT_BUT_IGNORED };

static int child_ends_with(int mode) {
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction before = {.sa_sigaction = exit_42, .sa_flags = SA_SIGINFO};
        if (mode == PREVIOUS_HANDLER)
            sigaction(SIGBUS, &before, NULL);
        else
            signal(SIGBUS, mode == SENT_BUT_IGNORED ? SIG_IGN : SIG_DFL);
        write_file(path, page);
        file_map *m = must_open(path);
        if (mode == SENT_BY_KILL || mode == SENT_BUT_IGNORED)
            kill(getpid(), SIGBUS);
        else
            (void)*foreign_fault();
        file_map_close(m);
        _exit(0);
    }
    int how = -1;
    waitpid(pid, &how, 0);
    return how;
}

/* Runs before cmocka, and before this process has a handler of its own: each child installs it on what it finds. */
static int foreign_faults_go_to_who_was_there_before(void) {
    int how = child_ends_with(PREVIOUS_HANDLER);
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 42) return 1;
    how = child_ends_with(PREVIOUS_NONE);
    if (!WIFSIGNALED(how) || WTERMSIG(how) != SIGBUS) return 2;
    how = child_ends_with(SENT_BY_KILL);
    if (!WIFSIGNALED(how) || WTERMSIG(how) != SIGBUS) return 3;
    how = child_ends_with(SENT_BUT_IGNORED);
    return WIFEXITED(how) && WEXITSTATUS(how) == 0 ? 0 : 4;
}

static int chain_result;

static void test_foreign_faults_go_to_who_was_there_before(void **state) {
    (void)state;
    assert_int_equal(chain_result, 0);
}

static void test_opens_regular_files_only(void **state) {
    (void)state;
    file_map *m;
    err e = {0};
    write_file(path, 0);
    m = must_open(path);
    assert_true(file_map_size(m) == 0 && file_map_data(m) == NULL && !file_map_lost(m));
    assert_int_equal(file_map_check(m, &e), OK);
    file_map_close(m);
    assert_int_equal(file_map_open(&m, dir, &e), ERR_IO);
    assert_null(m);
    assert_int_equal(file_map_open(&m, "/dev/zero", &e), ERR_IO);
    unlink(path);
    assert_int_equal(file_map_open(&m, path, &e), ERR_IO);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(file_map_open(&m, path, &e), ERR_IO); /* and does not wait for a writer */
    unlink(path);
    file_map_close(NULL);
}

typedef struct {
    const file_map *m;
    size_t n_zero, n_a;
} reading;

static void *read_all(void *arg) {
    reading *r = arg;
    const volatile uint8_t *p = file_map_data(r->m);
    for (size_t i = 0; i < file_map_size(r->m); i++) {
        uint8_t c = p[i];
        r->n_zero += c == 0;
        r->n_a += c == 'A';
    }
    return NULL;
}

static void test_shrinks_while_several_threads_read(void **state) {
    (void)state;
    char other[80];
    snprintf(other, sizeof other, "%s/other", dir);
    write_file(path, PAGES * page);
    write_file(other, PAGES * page);
    file_map *m = must_open(path), *bystander = must_open(other);
    restore_sigbus();
    err e = {0};
    assert_int_equal(file_map_check(m, &e), OK);
    size_t keep = page + 100;
    assert_int_equal(truncate(path, (off_t)keep), 0);
    assert_false(file_map_lost(m));                            /* nobody has touched a lost page yet, */
    assert_int_equal(file_map_check(m, &e), ERR_FILE_CHANGED); /* but the check sees the size */
    pthread_t thread[4];
    reading r[4] = {{m, 0, 0}, {m, 0, 0}, {m, 0, 0}, {bystander, 0, 0}};
    for (int i = 0; i < 4; i++) pthread_create(&thread[i], NULL, read_all, &r[i]);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(r[i].n_a, keep);
        assert_int_equal(r[i].n_zero, PAGES * page - keep);
    }
    assert_int_equal(r[3].n_a, PAGES * page);
    assert_true(file_map_lost(m) && !file_map_lost(bystander));
    assert_int_equal(file_map_check(m, &e), ERR_FILE_CHANGED);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(file_map_check(bystander, &e), OK);
    file_map_close(m);
    file_map_close(bystander);
    write_file(path, page); /* a slot used again starts unmarked */
    m = must_open(path);
    assert_false(file_map_lost(m));
    file_map_close(m);
    unlink(other);
}

static void test_sees_writes_but_not_renames(void **state) {
    (void)state;
    char other[80];
    snprintf(other, sizeof other, "%s/other", dir);
    err e = {0};
    write_file(path, page);
    file_map *m = must_open(path);
    assert_int_equal(rename(path, other), 0); /* the bytes we map are still there */
    write_file(path, 2 * page);
    assert_int_equal(file_map_check(m, &e), OK);
    struct timespec times[2] = {{1, 0}, {1, 7}};
    assert_int_equal(utimensat(AT_FDCWD, other, times, 0), 0);
    assert_int_equal(file_map_check(m, &e), ERR_FILE_CHANGED);
    file_map_close(m);
    unlink(other);
}

static void test_release_gives_whole_pages_back(void **state) {
    (void)state;
    write_file(path, PAGES * page);
    file_map *m = must_open(path);
    const uint8_t *p = file_map_data(m);
    reading r = {m, 0, 0};
    read_all(&r);
    unsigned char in_core[PAGES];
    file_map_release(m, p + 1, 3 * page);        /* pages 1 and 2 lie wholly inside */
    file_map_release(m, p + 10, 20);             /* none does */
    file_map_release(m, p + page, PAGES * page); /* past the end: ignored */
    assert_int_equal(mincore((void *)p, PAGES * page, in_core), 0);
    reading again = {m, 0, 0};
    read_all(&again);
    assert_int_equal(again.n_a, PAGES * page);
    assert_false(file_map_lost(m));
    file_map_close(m);
}

static _Atomic bool stop;

static void *open_and_close(void *arg) {
    const char *name = arg;
    while (!atomic_load(&stop)) {
        file_map *m = must_open(name);
        reading r = {m, 0, 0};
        read_all(&r);
        if (r.n_a != file_map_size(m) || file_map_lost(m)) abort();
        file_map_close(m);
    }
    return NULL;
}

/* Mappings come and go in the table while faults are being handled: only the shrunken file is ever marked. */
static void test_faults_among_openings(void **state) {
    (void)state;
    pthread_t thread[2];
    char name[2][80];
    restore_sigbus();
    atomic_store(&stop, false);
    for (int i = 0; i < 2; i++) {
        snprintf(name[i], sizeof name[i], "%s/churn%d", dir, i);
        write_file(name[i], 3 * page);
        pthread_create(&thread[i], NULL, open_and_close, name[i]);
    }
    for (int n = 0; n < 100; n++) {
        write_file(path, PAGES * page);
        file_map *m = must_open(path);
        assert_int_equal(truncate(path, 0), 0);
        reading r = {m, 0, 0};
        read_all(&r);
        assert_int_equal(r.n_zero, PAGES * page);
        assert_true(file_map_lost(m));
        file_map_close(m);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        unlink(name[i]);
    }
}

static void test_open_survives_oom(void **state) {
    (void)state;
    write_file(path, page);
    uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        file_map *m;
        err e = {0};
        mem_fail_at(n);
        status s = file_map_open(&m, path, &e);
        bool fired = mem_fail_off();
        file_map_close(m);
        assert_int_equal(s, fired ? ERR_NOMEM : OK);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
}

static bool set_up(void) {
    page = (size_t)sysconf(_SC_PAGESIZE);
    if (!mkdtemp(dir)) return false;
    snprintf(path, sizeof path, "%s/file", dir);
    chain_result = foreign_faults_go_to_who_was_there_before();
    write_file(path, 0);
    file_map_close(must_open(path));
    remember_sigbus();
    return true;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_faults_go_to_who_was_there_before),
        cmocka_unit_test(test_opens_regular_files_only),
        cmocka_unit_test(test_shrinks_while_several_threads_read),
        cmocka_unit_test(test_sees_writes_but_not_renames),
        cmocka_unit_test(test_release_gives_whole_pages_back),
        cmocka_unit_test(test_faults_among_openings),
        cmocka_unit_test(test_open_survives_oom),
    };
    return set_up() ? cmocka_run_group_tests_name("file", tests, NULL, tear_down) : 1;
}
