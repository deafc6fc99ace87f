#include "server/reasoning.h"

#include <string.h>

static const reasoning_tags known[] = {
    {"<think>", "</think>"}, /* Qwen, DeepSeek, GLM, MiniMax, Nemotron, Hermes, SmolLM3, ... */
    {"<thinking>", "</thinking>"},
    {"<thought>", "</thought>"},
    {"<reasoning>", "</reasoning>"},
    {"[THINK]", "[/THINK]"},                                             /* Mistral */
    {"<seed:think>", "</seed:think>"},                                   /* Seed */
    {"<mm:think>", "</mm:think>"},                                       /* MiniMax M3 */
    {"<|START_THINKING|>", "<|END_THINKING|>"},                          /* Command */
    {"<|inner_prefix|>", "<|inner_suffix|>"},                            /* Apertus */
    {"<|channel>thought", "<channel|>"},                                 /* Gemma 4 */
    {"<|begin_of_thought|>", "<|end_of_thought|>"},                      /* OpenThinker */
    {"\xe2\x97\x81think\xe2\x96\xb7", "\xe2\x97\x81/think\xe2\x96\xb7"}, /* Kimi-VL */
};

static bool contains(str s, const char *z) { return s.n && memmem(s.p, s.n, z, strlen(z)) != NULL; }

const reasoning_tags *reasoning_tags_of(str template) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (contains(template, known[i].close)) return &known[i];
    return &known[0];
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static size_t without_space_at_end(const char *p, size_t n) {
    while (n && is_space(p[n - 1])) n--;
    return n;
}

static size_t spaces_at(const char *p, size_t n) {
    size_t i = 0;
    while (i < n && is_space(p[i])) i++;
    return i;
}

bool reasoning_is_open(const reasoning_tags *tags, str prompt) {
    size_t n = without_space_at_end(prompt.p, prompt.n), m = strlen(tags->open);
    return n >= m && !memcmp(prompt.p + n - m, tags->open, m);
}

void reasoning_begin(reasoning *r, const reasoning_tags *tags, bool opened) {
    r->tags = tags;
    r->state = !tags ? REASONING_ANSWER : opened ? REASONING_OPENED : REASONING_START;
}

static void drop(strbuf *b, size_t n) {
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
    b->p[b->n] = 0;
}

static void move(strbuf *from, size_t n, strbuf *to) {
    strbuf_add(to, from->p, n);
    drop(from, n);
}

/* Each step below looks at what is held and returns whether the state changed, so that the next one goes on with the rest. */

/* The text may begin with white space and the opening tag; anything else is the answer, as it is. */
static bool at_start(reasoning *r) {
    const char *tag = r->tags->open;
    size_t m = strlen(tag), space = spaces_at(r->held.p, r->held.n), n = r->held.n - space;
    if (memcmp(r->held.p + space, tag, n < m ? n : m)) {
        r->state = REASONING_ANSWER;
        return true;
    }
    if (n < m) return false;
    drop(&r->held, space + m);
    r->state = REASONING_OPENED;
    return true;
}

static bool after_tag(reasoning *r) {
    drop(&r->held, spaces_at(r->held.p, r->held.n));
    if (!r->held.n) return false;
    r->state = r->state == REASONING_OPENED ? REASONING_THOUGHT : REASONING_ANSWER;
    return true;
}

/* Bytes at the end of p that may be the beginning of the tag. */
static size_t begun_tag(const char *p, size_t n, const char *tag) {
    size_t m = strlen(tag);
    for (size_t k = n < m - 1 ? n : m - 1; k > 0; k--)
        if (!memcmp(p + n - k, tag, k)) return k;
    return 0;
}

static bool in_thought(reasoning *r, strbuf *thought) {
    const char *tag = r->tags->close, *at = memmem(r->held.p, r->held.n, tag, strlen(tag));
    size_t text = at ? (size_t)(at - r->held.p) : r->held.n - begun_tag(r->held.p, r->held.n, tag);
    size_t sure = without_space_at_end(r->held.p, text);
    move(&r->held, sure, thought);
    if (!at) return false;
    drop(&r->held, text - sure + strlen(tag));
    r->state = REASONING_CLOSED;
    return true;
}

static bool step(reasoning *r, strbuf *thought, strbuf *answer) {
    switch (r->state) {
    case REASONING_START: return at_start(r);
    case REASONING_OPENED:
    case REASONING_CLOSED: return after_tag(r);
    case REASONING_THOUGHT: return in_thought(r, thought);
    case REASONING_ANSWER: break;
    }
    move(&r->held, r->held.n, answer);
    return false;
}

void reasoning_feed(reasoning *r, const char *p, size_t n, strbuf *thought, strbuf *answer) {
    if (n == 0) return;
    if (r->state == REASONING_ANSWER && r->held.n == 0) {
        strbuf_add(answer, p, n);
        return;
    }
    strbuf_add(&r->held, p, n);
    if (r->held.failed) {
        answer->failed = true;
        return;
    }
    while (r->held.n && step(r, thought, answer)) {}
}

void reasoning_end(reasoning *r, strbuf *thought, strbuf *answer) {
    if (r->held.n) move(&r->held, r->held.n, r->state == REASONING_THOUGHT ? thought : answer);
}

void reasoning_free(reasoning *r) {
    strbuf_free(&r->held);
    *r = (reasoning){0};
}
