/* Values of a template, with Python's meaning: truth, equality, order, hashing of keys. All memory is the rendering's. A
 * value is small and copied; what it points to is shared. Nothing but namespaces (and cyclers, joiners, iterators) changes
 * once a template can see it. */
#ifndef ROCMFORGE_TEXT_JINJA_VALUE_H
#define ROCMFORGE_TEXT_JINJA_VALUE_H

#include "text/jinja_text.h"

typedef enum {
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_TEXT,
    J_LIST,
    J_TUPLE,
    J_RANGE, /* a list that prints as range(a, b) */
    J_VIEW,  /* dict.items(), .keys(), .values(): has a length, no [] */
    J_ITER,  /* what filters like map give: can be walked through once */
    J_DICT,
    J_NAMESPACE,
    J_MACRO,
    J_FUNCTION,
    J_METHOD,
    J_LOOP,
    J_CYCLER,
    J_JOINER,
    J_ABSENT /* an argument that was not given; never seen by a template */
} jkind;

typedef struct jlist jlist;
typedef struct jdict jdict;
typedef struct jmacro jmacro;
typedef struct jfunction jfunction;
typedef struct jmethod jmethod;
typedef struct jloop jloop;

typedef struct {
    jkind kind;
    union {
        bool b;
        int64_t i;
        double f;
        jtext *text;
        jlist *list; /* LIST .. ITER, CYCLER */
        jdict *dict; /* DICT, NAMESPACE */
        const jmacro *macro;
        const jfunction *function;
        const jmethod *method;
        jloop *loop;
        jtext *why; /* UNDEFINED: the message, or NULL. JOINER: the separator */
    };
} jval;

struct jlist {
    jval *item;
    size_t n, cap;
    size_t at;        /* ITER: walked through so far. CYCLER: current. JOINER: called before */
    const char *name; /* VIEW: "dict_items" */
    int64_t range[3]; /* RANGE */
    bool input;       /* from the request: its punctuation in JSON is, too */
};

typedef struct {
    jval key, value;
    uint64_t hash;
} jpair;

struct jdict { /* in order of first insertion */
    jpair *pair;
    size_t n, cap;
    uint32_t *slot; /* [n_slots] place in pair + 1; NULL while small */
    size_t n_slots;
    bool input;
};

static inline jval j_undefined(jtext *why) { return (jval){.kind = J_UNDEFINED, .why = why}; }
static inline jval j_none(void) { return (jval){.kind = J_NONE}; }
static inline jval j_bool(bool b) { return (jval){.kind = J_BOOL, .b = b}; }
static inline jval j_int(int64_t i) { return (jval){.kind = J_INT, .i = i}; }
static inline jval j_float(double f) { return (jval){.kind = J_FLOAT, .f = f}; }
static inline jval j_text(jtext *t) { return (jval){.kind = J_TEXT, .text = t}; }
static inline jval j_list(jkind kind, jlist *l) { return (jval){.kind = kind, .list = l}; }
static inline jval j_dict(jdict *d) { return (jval){.kind = J_DICT, .dict = d}; }
jval j_words(jrun *r, const char *z); /* a text of the program's own; borrowed */

static inline bool j_is_text(jval v, const char *z) { return v.kind == J_TEXT && str_is(jtext_str(v.text), z); }
static inline bool j_is_int(jval v) { return v.kind == J_INT || v.kind == J_BOOL; } /* as Python's isinstance */
static inline int64_t j_int_of(jval v) { return v.kind == J_BOOL ? v.b : v.i; }
static inline bool j_is_number(jval v) { return j_is_int(v) || v.kind == J_FLOAT; }
static inline double j_float_of(jval v) { return v.kind == J_FLOAT ? v.f : (double)j_int_of(v); }
static inline bool j_is_list(jval v) { return v.kind >= J_LIST && v.kind <= J_ITER; }

jlist *jlist_new(jrun *r); /* NULL: failed */
void jlist_add(jrun *r, jlist *l, jval v);
/* items -> a value of this kind; undefined where the run failed */
static inline jval j_list_of(jkind kind, jlist *l) { return l ? j_list(kind, l) : j_undefined(NULL); }

jdict *jdict_new(jrun *r);
jval *jdict_find(jrun *r, const jdict *d, jval key); /* NULL: not there, or the key cannot be hashed */
jval *jdict_find_str(jrun *r, const jdict *d, str key);
void jdict_put(jrun *r, jdict *d, jval key, jval v);

const char *j_type_name(jval v); /* Python's: "str", "dict" */
bool j_truth(jrun *r, jval v);   /* walks nothing */
bool j_equal(jrun *r, jval a, jval b);
bool j_same(jval a, jval b); /* Python's `is` */
int j_compare(jrun *r, const char *op, jval a,
              jval b); /* < 0, 0, > 0; 2: not ordered (NaN). Refuses mixed types, naming op */
bool j_contains(jrun *r, jval in, jval what);

/* What a for loop or a filter walks over: the elements, the keys of a dict, the characters of a text. Takes an iterator's
 * rest. NULL: not iterable, and the run failed. The items are borrowed: never change them. */
jlist *j_items(jrun *r, jval v);
bool j_iterable(jval v);
int64_t j_length(jrun *r, jval v); /* -1: it has none, and the run failed */

/* str() and repr() of Python. */
jtext *j_str(jrun *r, jval v);
jtext *j_repr(jrun *r, jval v);
void j_str_to(jrun *r, jval v, jbuild *out);
size_t j_float_text(double f, char out[32]); /* Python's repr of a float */

#endif
