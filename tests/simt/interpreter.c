/* A lane that comes to a collective leaves its value in its slot and hands over to the next lane that can run; the last one of
 * the group to come computes everybody's result and makes the others ready. When nobody is ready, either every lane has
 * returned or somebody waits for lanes that will not come. */
#include "interpreter.h"
#include "fiber.h"
#include "trap.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint32_t thread, block_x, block_y, block_z;
} simt_place;

struct simt_kernel { /* as in simt.h */
    const char *name, *file;
    void (*run)(const void *args);
    size_t args_bytes;
    uint32_t max_threads, wave;
    unsigned char *shared, *shared_end;
};

enum { TEAM = 32, MAX_KERNELS = 4096, MAX_ARGS = 4096, MAX_LANES = FIBER_MAX, MAX_SHOWN = 1024, MAX_FILES = 256 };
static const uint32_t poison_word = 0x7FBADBAD; /* a NaN as f32 and as two f16; no index */

typedef enum { RUNS, WAITS, RETURNED } lane_state;
typedef enum { BARRIER, TEAM_XOR, TEAM_GET, WAVE_SHOW } call_kind;
typedef struct {
    call_kind kind;
    const void *site; /* the address behind the call */
    const char *what; /* WAVE_SHOW: which one */
} call;
typedef struct {
    lane_state state;
    call at;
    int32_t value;
    uint32_t arg; /* mask, or the lane to get from */
    uint32_t n_shows;
} lane;
typedef struct { /* bytes of a file's shared arrays */
    size_t from, to;
} extent;
typedef struct {
    uint32_t n_here; /* lanes that wait in `at` */
    call at;
} group;

SIMT_API simt_place simt_at;

static const simt_kernel *kernels[MAX_KERNELS];
static extent touched[MAX_KERNELS]; /* by each of them */
static uint32_t n_kernels;
static pthread_mutex_t one_launch = PTHREAD_MUTEX_INITIALIZER;

/* What lanes show by wave_show, dense in each wave's part; in turn, as a lane may be one call ahead of its neighbours. */
static _Alignas(64) unsigned char shown[2][MAX_LANES * MAX_SHOWN];

static struct { /* the block that runs; guarded by one_launch */
    const simt_kernel *k;
    const void *args;
    extent *touched;
    uint32_t n_lanes, n_returned;
    lane lanes[MAX_LANES];
    group block, teams[MAX_LANES / TEAM], waves[MAX_LANES / TEAM];
    uint32_t ready[MAX_LANES]; /* a ring */
    uint32_t ready_at, n_ready;
    bool in_lane; /* a fiber runs */
    bool failed;
    char *why;
    size_t why_bytes;
} now;

SIMT_API void simt_add(const simt_kernel *k) {
    if (n_kernels < MAX_KERNELS) kernels[n_kernels++] = k;
}

const simt_kernel *simt_find(const char *name, uint32_t wave) {
    for (uint32_t i = 0; i < n_kernels; i++)
        if (kernels[i]->wave == wave && !strcmp(kernels[i]->name, name)) return kernels[i];
    return NULL;
}
const simt_kernel *simt_at_index(uint32_t i) { return i < n_kernels ? kernels[i] : NULL; }
const char *simt_name(const simt_kernel *k) { return k->name; }
size_t simt_args_bytes(const simt_kernel *k) { return k->args_bytes; }
uint32_t simt_max_threads(const simt_kernel *k) { return k->max_threads; }

/* -- what went wrong -- */

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...) {
    const size_t used = strlen(now.why);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(now.why + used, now.why_bytes - used, fmt, ap);
    va_end(ap);
}

static void say_where(void) {
    now.failed = true;
    now.why[0] = 0;
    say("kernel %s (wave %u), block (%u, %u, %u) of %u lanes: ", now.k->name, now.k->wave, simt_at.block_x,
        simt_at.block_y, simt_at.block_z, now.n_lanes);
}

/* " (FILE ADDRESS)": addr2line -i -e FILE ADDRESS says where */
static void say_code(const char *code) {
    Dl_info d = {0};
    if (!dladdr(code, &d) || !d.dli_fname) return;
    const char *slash = strrchr(d.dli_fname, '/');
    say(" (%s 0x%zx)", slash ? slash + 1 : d.dli_fname, (size_t)(code - (const char *)d.dli_fbase));
}

static void say_call(call c) {
    static const char *const names[] = {"barrier", "team_xor", "team_get", "wave_show"};
    say("%s%s%s", names[c.kind], c.what ? " " : "", c.what ? c.what : "");
    say_code((const char *)c.site - 1);
}

static bool same_call(call a, call b) { return a.kind == b.kind && a.site == b.site; }
static bool same_fate(const lane *a, const lane *b) {
    return a->state == b->state && (a->state != WAITS || same_call(a->at, b->at));
}

/* "lanes 0-15 wait in team_xor (...); lanes 16-31 have returned" */
static void report_stuck(void) {
    say_where();
    for (uint32_t i = 0, j; i < now.n_lanes; i = j) {
        const lane *l = &now.lanes[i];
        for (j = i + 1; j < now.n_lanes && same_fate(l, &now.lanes[j]); j++) {}
        say("%slanes %u-%u ", i ? "; " : "", i, j - 1);
        if (l->state == WAITS) {
            say("wait in ");
            say_call(l->at);
        } else {
            say("have returned");
        }
    }
}

/* -- lanes -- */

static void make_ready(uint32_t i) {
    now.lanes[i].state = RUNS;
    now.ready[(now.ready_at + now.n_ready++) % MAX_LANES] = i;
}

static bool take_ready(uint32_t *out) {
    if (!now.n_ready) return false;
    *out = now.ready[now.ready_at];
    now.ready_at = (now.ready_at + 1) % MAX_LANES;
    now.n_ready--;
    return true;
}

/* Others run until this lane is ready again. */
static void hand_over(uint32_t me) {
    uint32_t next;
    if (take_ready(&next)) {
        simt_at.thread = next;
        fiber_switch(me, next);
    } else {
        fiber_leave(me, false);
    }
    simt_at.thread = me;
}

static void lane_main(void) {
    const uint32_t me = simt_at.thread;
    now.k->run(now.args);
    now.lanes[me].state = RETURNED;
    now.n_returned++;
    uint32_t next;
    if (take_ready(&next)) {
        simt_at.thread = next;
        fiber_pass(me, next);
    }
    fiber_leave(me, true);
}

/* The lane `me` is at the call of group g, whose members are [first, first + n). True: it was the last, and goes on. */
static bool arrive(group *g, uint32_t me, uint32_t n, call at) {
    if (!g->n_here) g->at = at;
    if (!same_call(g->at, at)) {
        say_where();
        say("lane %u is at ", me);
        say_call(at);
        say(", while others of its group wait in ");
        say_call(g->at);
        fiber_leave(me, false);
    }
    now.lanes[me].at = at;
    if (++g->n_here == n) return true;
    now.lanes[me].state = WAITS;
    return false;
}

static void release(group *g, uint32_t me, uint32_t first, uint32_t n) {
    g->n_here = 0;
    for (uint32_t i = first; i < first + n; i++)
        if (i != me) make_ready(i);
}

static void bad_operand(uint32_t me, call at, uint32_t arg) {
    say_where();
    say("lane %u gives %u, which is out of range, to ", me, arg);
    say_call(at);
    fiber_leave(me, false);
}

/* On the stack of a lane whose kernel can go no further. */
static void lane_trapped(void) {
    const uint32_t me = simt_at.thread;
    const trap_found *t = trap_last();
    say_where();
    if (t->kind == TRAP_DIVISION)
        say("lane %u divides by zero, or the least number by -1", me);
    else if (t->kind == TRAP_NO_ADDRESS)
        say("lane %u reads or writes at what is no address", me);
    else
        say("lane %u cannot %s at %p", me, t->kind == TRAP_READ ? "read" : "write", t->at);
    say_code(t->code);
    fiber_leave(me, false);
}

static void *stack_of_lane(void) { return now.in_lane ? fiber_top(simt_at.thread) : NULL; }

static int32_t shuffle(call at, int32_t v, uint32_t arg) {
    const uint32_t me = simt_at.thread, first = me / TEAM * TEAM;
    if (arg >= TEAM) bad_operand(me, at, arg);
    now.lanes[me].value = v;
    now.lanes[me].arg = arg;
    group *g = &now.teams[me / TEAM];
    if (!arrive(g, me, TEAM, at)) {
        hand_over(me);
        return now.lanes[me].value;
    }
    int32_t given[TEAM];
    for (uint32_t i = 0; i < TEAM; i++) given[i] = now.lanes[first + i].value;
    for (uint32_t i = 0; i < TEAM; i++) {
        lane *l = &now.lanes[first + i];
        l->value = given[at.kind == TEAM_XOR ? (i ^ l->arg) : l->arg];
    }
    release(g, me, first, TEAM);
    return now.lanes[me].value;
}

SIMT_API int32_t simt_team_xor(int32_t v, uint32_t mask) {
    return shuffle((call){TEAM_XOR, __builtin_return_address(0), NULL}, v, mask);
}
SIMT_API int32_t simt_team_get(int32_t v, uint32_t from) {
    return shuffle((call){TEAM_GET, __builtin_return_address(0), NULL}, v, from);
}

SIMT_API void simt_barrier(void) {
    const uint32_t me = simt_at.thread;
    if (arrive(&now.block, me, now.n_lanes, (call){BARRIER, __builtin_return_address(0), NULL}))
        release(&now.block, me, 0, now.n_lanes);
    else
        hand_over(me);
}

SIMT_API const void *simt_wave_show(const char *what, const void *mine, size_t n_bytes) {
    const uint32_t me = simt_at.thread, wave = now.k->wave, first = me / wave * wave;
    const call at = {WAVE_SHOW, __builtin_return_address(0), what};
    if (n_bytes > MAX_SHOWN) bad_operand(me, at, (uint32_t)n_bytes);
    unsigned char *all = shown[now.lanes[me].n_shows++ & 1] + (size_t)first * MAX_SHOWN;
    if (n_bytes) memcpy(all + (me - first) * n_bytes, mine, n_bytes);
    group *g = &now.waves[me / wave];
    if (arrive(g, me, wave, at))
        release(g, me, first, wave);
    else
        hand_over(me);
    return all;
}

/* -- blocks -- */

/* Before every block a file's shared arrays are all poison. A file may have many kernels, so what one of them has touched is
 * looked for after the first block of each launch, and only the part known to be touched is filled again after the others. */
static void poison(unsigned char *from, unsigned char *to) {
    for (; to - from >= 4; from += 4) memcpy(from, &poison_word, 4);
}

static void poison_file(const simt_kernel *k) {
    static const unsigned char *done[MAX_FILES];
    static uint32_t n_done;
    for (uint32_t i = 0; i < n_done; i++)
        if (done[i] == k->shared) return;
    poison(k->shared, k->shared_end);
    if (n_done < MAX_FILES) done[n_done++] = k->shared;
}

static void find_touched(const simt_kernel *k, extent *e) {
    for (const unsigned char *p = k->shared; k->shared_end - p >= 4; p += 4) {
        if (!memcmp(p, &poison_word, 4)) continue;
        const size_t at = (size_t)(p - k->shared);
        if (e->from == e->to || at < e->from) e->from = at;
        if (at + 4 > e->to) e->to = at + 4;
    }
}

static void clean_shared(const simt_kernel *k, bool look) {
    if (!k->shared) return;
    if (look) find_touched(k, now.touched);
    poison(k->shared + now.touched->from, k->shared + now.touched->to);
}

/* backwards: the lanes start from the last one */
static void run_block(bool backwards) {
    const uint32_t n = now.n_lanes;
    now.n_returned = now.ready_at = now.n_ready = 0;
    now.block.n_here = 0;
    memset(now.teams, 0, sizeof now.teams);
    memset(now.waves, 0, sizeof now.waves);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t l = backwards ? n - 1 - i : i;
        now.lanes[l].n_shows = 0;
        fiber_begin(l, lane_main);
        make_ready(l);
    }
    uint32_t first;
    if (!take_ready(&first)) return;
    simt_at.thread = first;
    now.in_lane = true;
    fiber_enter(first);
    now.in_lane = false;
    if (!now.failed && now.n_returned < n) report_stuck();
}

static extent *touched_by(const simt_kernel *k) {
    uint32_t i = 0;
    while (kernels[i] != k) i++;
    return &touched[i];
}

static bool check_launch(const simt_kernel *k, const uint32_t grid[3], uint32_t block, size_t args_bytes) {
    const uint64_t threads = (uint64_t)grid[0] * block;
    if (args_bytes != k->args_bytes) {
        say("kernel %s takes %zu bytes of arguments, %zu were given", k->name, k->args_bytes, args_bytes);
    } else if (k->args_bytes > MAX_ARGS) {
        say("kernel %s has %zu bytes of arguments, more than %d", k->name, k->args_bytes, MAX_ARGS);
    } else if (!block || block % 64 || block > k->max_threads || block > MAX_LANES) {
        say("kernel %s: a block of %u threads; it must be a multiple of 64 up to %u", k->name, block, k->max_threads);
    } else if (!grid[0] || !grid[1] || !grid[2] || grid[1] > 65535 || grid[2] > 65535 || threads > UINT32_MAX) {
        say("kernel %s: a grid of %u x %u x %u blocks is outside the limits", k->name, grid[0], grid[1], grid[2]);
    } else {
        return true;
    }
    return false;
}

static bool run_grid(const uint32_t grid[3]) {
    static uint32_t n_launches;
    uint32_t n = n_launches++;
    for (uint32_t z = 0; z < grid[2]; z++)
        for (uint32_t y = 0; y < grid[1]; y++)
            for (uint32_t x = 0; x < grid[0]; x++) {
                simt_at = (simt_place){0, x, y, z};
                run_block(n++ & 1);
                clean_shared(now.k, !(x | y | z));
                if (now.failed) return false;
            }
    return true;
}

bool simt_launch(const simt_kernel *k, const uint32_t grid[3], uint32_t block, const void *args, size_t args_bytes,
                 char *why, size_t why_bytes) {
    static _Alignas(64) unsigned char own_args[MAX_ARGS];
    char nowhere[1];
    pthread_mutex_lock(&one_launch);
    now.why = why_bytes ? why : nowhere;
    now.why_bytes = why_bytes ? why_bytes : 1;
    now.why[0] = 0;
    now.failed = false;
    bool ok = check_launch(k, grid, block, args_bytes);
    if (ok && !fiber_setup()) {
        say("no memory for the lanes' stacks");
        ok = false;
    }
    if (ok) {
        memcpy(own_args, args, args_bytes);
        now.k = k;
        now.touched = touched_by(k);
        poison_file(k);
        now.args = own_args;
        now.n_lanes = block;
        trap_begin(stack_of_lane, lane_trapped);
        ok = run_grid(grid);
        trap_end();
    }
    pthread_mutex_unlock(&one_launch);
    return ok;
}
