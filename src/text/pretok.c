#include "text/pretok.h"

#include "text/unicode.h"

/* ---- pieces of scanners ---- */

static size_t run_of(const uint8_t *p, const uint8_t *end, unsigned classes) {
    const uint8_t *q = p;
    for (utf8_char c = utf8_look(q, end); c.is & classes; c = utf8_look(q, end)) q += c.n;
    return (size_t)(q - p);
}

/* A run of characters of none of the classes. */
static size_t run_outside(const uint8_t *p, const uint8_t *end, unsigned classes) {
    const uint8_t *q = p;
    for (utf8_char c = utf8_look(q, end); c.n && !(c.is & classes); c = utf8_look(q, end)) q += c.n;
    return (size_t)(q - p);
}

/* 's 't 'm 'd 're 've 'll; the letters in either case if fold. No non-ASCII letter has one of these as its lower case. */
static size_t contraction(const uint8_t *p, const uint8_t *end, bool fold) {
    size_t n = (size_t)(end - p);
    if (n < 2 || p[0] != '\'') return 0;
    unsigned bit = fold ? 0x20 : 0;
    unsigned a = p[1] | bit, b = n > 2 ? p[2] | bit : 0u;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ : all of the spaces, less the last one when something follows that could carry it. */
static size_t spaces(const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = p, *last = p;
    for (utf8_char c = utf8_look(q, end); c.is & CHAR_SPACE; c = utf8_look(q, end)) {
        last = q;
        q += c.n;
    }
    return (size_t)((q < end && last > p ? last : q) - p);
}

/* \s*[\r\n]+ : up to the last line break in the run of spaces; 0 when there is none. */
static size_t spaces_to_newline(const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = p, *after = p;
    for (utf8_char c = utf8_look(q, end); c.is & CHAR_SPACE; c = utf8_look(q, end)) {
        q += c.n;
        if (c.cp == '\r' || c.cp == '\n') after = q;
    }
    return (size_t)(after - p);
}

/* ---- stages ---- */

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t gpt2(const uint8_t *p, const uint8_t *end) {
    enum { WORDS = CHAR_SPACE | CHAR_LETTER | CHAR_NUMBER };
    size_t n = contraction(p, end, false);
    if (n) return n;
    size_t lead = *p == ' ';
    utf8_char c = utf8_look(p + lead, end);
    if (c.is & CHAR_LETTER) return lead + run_of(p + lead, end, CHAR_LETTER);
    if (c.is & CHAR_NUMBER) return lead + run_of(p + lead, end, CHAR_NUMBER);
    if (c.n && !(c.is & WORDS)) return lead + run_outside(p + lead, end, WORDS);
    return spaces(p, end);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * with `letters` for \p{L}: Qwen 3.5 counts marks among them. */
static size_t words(const uint8_t *p, const uint8_t *end, unsigned letters, int digits) {
    size_t n = contraction(p, end, true);
    if (n) return n;
    utf8_char c = utf8_look(p, end);
    if (c.is & CHAR_NUMBER) {
        for (n = 0; digits-- > 0 && (c.is & CHAR_NUMBER); c = utf8_look(p + n, end)) n += c.n;
        return n;
    }
    bool newline = c.cp == '\r' || c.cp == '\n';
    if (!newline && ((c.is | utf8_look(p + c.n, end).is) & letters)) return c.n + run_of(p + c.n, end, letters);
    unsigned known = CHAR_SPACE | CHAR_NUMBER | letters;
    size_t lead = *p == ' ';
    utf8_char d = utf8_look(p + lead, end);
    if (d.n && !(d.is & known)) {
        n = lead + run_outside(p + lead, end, known);
        while (p + n < end && (p[n] == '\r' || p[n] == '\n')) n++;
        return n;
    }
    n = spaces_to_newline(p, end);
    return n ? n : spaces(p, end);
}

static size_t llama3(const uint8_t *p, const uint8_t *end) { return words(p, end, CHAR_LETTER, 3); }
static size_t qwen2(const uint8_t *p, const uint8_t *end) { return words(p, end, CHAR_LETTER, 1); }
static size_t qwen35(const uint8_t *p, const uint8_t *end) { return words(p, end, CHAR_LETTER | CHAR_MARK, 1); }

/* \p{N}, each alone */
static size_t each_number(const uint8_t *p, const uint8_t *end) {
    utf8_char c = utf8_look(p, end);
    return c.is & CHAR_NUMBER ? c.n : run_outside(p, end, CHAR_NUMBER);
}

/* \p{N}+ */
static size_t numbers(const uint8_t *p, const uint8_t *end) {
    size_t n = run_of(p, end, CHAR_NUMBER);
    return n ? n : run_outside(p, end, CHAR_NUMBER);
}

static bool three_digits(const uint8_t *p, const uint8_t *end) {
    if (end - p < 3) return false;
    for (int i = 0; i < 3; i++)
        if (p[i] < '0' || p[i] > '9') return false;
    return true;
}

/* [0-9][0-9][0-9] */
static size_t digit_triples(const uint8_t *p, const uint8_t *end) {
    if (three_digits(p, end)) return 3;
    const uint8_t *q = p + 1;
    while (q < end && !three_digits(q, end)) q++;
    return (size_t)(q - p);
}

static bool is_mark_of(utf8_char c, const char *more) {
    if (c.is & CHAR_PUNCT) return true;
    for (; *more; more++)
        if (c.cp == (uint32_t)*more) return true;
    return false;
}

static size_t punct_or_not(const uint8_t *p, const uint8_t *end, const char *more) {
    const uint8_t *q = p;
    bool inside = is_mark_of(utf8_look(p, end), more);
    for (utf8_char c = utf8_look(q, end); c.n && is_mark_of(c, more) == inside; c = utf8_look(q, end)) q += c.n;
    return (size_t)(q - p);
}

/* [\p{P}$+<=>^~|]+ */
static size_t punct(const uint8_t *p, const uint8_t *end) { return punct_or_not(p, end, "$+<=>^~|"); }
/* [\p{P}$+<=>^~|`]+ */
static size_t punct_falcon(const uint8_t *p, const uint8_t *end) { return punct_or_not(p, end, "$+<=>^~|`"); }

/* [^\n]+|\n+ */
static size_t lines(const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = p;
    while (q < end && (*q == '\n') == (*p == '\n')) q++;
    return (size_t)(q - p);
}

/* ---- names ---- */

/* Names and settings as llama.cpp gives them to its vocabularies. */
static const pretok table[] = {
    {"default", {punct, gpt2, numbers, digit_triples}, PRETOK_CLEAN},
    {"llama3", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS | PRETOK_CLEAN},
    {"llama-v3", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS | PRETOK_CLEAN},
    {"llama-bpe", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS | PRETOK_CLEAN},
    {"falcon3", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS | PRETOK_CLEAN},
    {"falcon-h1", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS | PRETOK_CLEAN},
    {"pixtral", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS | PRETOK_CLEAN},
    {"midm-2.0", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS | PRETOK_CLEAN},
    {"lfm2", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS | PRETOK_CLEAN},
    {"jina-v5-nano", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_ADD_BOS | PRETOK_CLEAN},
    {"dbrx", {llama3}, PRETOK_CLEAN},
    {"smaug-bpe", {llama3}, PRETOK_CLEAN},
    {"chatglm-bpe", {llama3}, PRETOK_CLEAN | PRETOK_NO_BOS},
    {"glm4", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_CLEAN | PRETOK_NO_BOS},
    {"glm5", {llama3}, PRETOK_IGNORE_MERGES | PRETOK_CLEAN | PRETOK_NO_BOS},
    {"gpt-2", {gpt2}, PRETOK_CLEAN},
    {"phi-2", {gpt2}, PRETOK_CLEAN},
    {"jina-es", {gpt2}, PRETOK_CLEAN},
    {"jina-de", {gpt2}, PRETOK_CLEAN},
    {"gigachat", {gpt2}, PRETOK_CLEAN},
    {"jina-v2-es", {gpt2}, PRETOK_CLEAN},
    {"jina-v2-de", {gpt2}, PRETOK_CLEAN},
    {"a.x-4.0", {gpt2}, PRETOK_CLEAN},
    {"mellum", {gpt2}, PRETOK_CLEAN},
    {"modern-bert", {gpt2}, PRETOK_CLEAN},
    {"jina-v1-en", {gpt2}, PRETOK_CLEAN | PRETOK_ADD_SEP},
    {"jina-v2-code", {gpt2}, PRETOK_CLEAN | PRETOK_ADD_SEP},
    {"roberta-bpe", {gpt2}, PRETOK_CLEAN | PRETOK_ADD_SEP},
    {"mpt", {gpt2}, PRETOK_CLEAN},
    {"olmo", {gpt2}, PRETOK_CLEAN},
    {"jais", {gpt2}, PRETOK_CLEAN},
    {"exaone4", {gpt2}, PRETOK_CLEAN},
    {"trillion", {gpt2}, 0},
    {"granite-docling", {gpt2}, 0},
    {"smollm", {each_number, gpt2}, 0},
    {"command-r", {each_number, gpt2}, 0},
    {"starcoder", {each_number, gpt2}, PRETOK_CLEAN},
    {"refact", {each_number, gpt2}, PRETOK_CLEAN},
    {"codeshell", {each_number, gpt2}, PRETOK_CLEAN},
    {"exaone", {each_number, gpt2}, PRETOK_CLEAN},
    {"minerva-7b", {each_number, gpt2}, PRETOK_CLEAN},
    {"mellum2", {each_number, gpt2}, PRETOK_CLEAN},
    {"qwen2", {qwen2}, 0},
    {"deepseek-r1-qwen", {qwen2}, 0},
    {"kormo", {qwen2}, 0},
    {"f2llmv2", {qwen2}, 0},
    {"hunyuan", {qwen2}, 0},
    {"solar-open", {qwen2}, 0},
    {"grok-2", {qwen2}, 0},
    {"megrez", {qwen2}, PRETOK_CLEAN},
    {"stablelm2", {qwen2}, PRETOK_CLEAN},
    {"qwen35", {qwen35}, 0},
    {"falcon", {punct_falcon, gpt2, digit_triples}, PRETOK_CLEAN},
    {"laguna", {lines, qwen2}, 0},
    {"gemma4", {lines}, PRETOK_CLEAN | PRETOK_RAW},
};

const pretok *pretok_find(str name) {
    if (name.n == 0) return &table[0];
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (str_is(name, table[i].name)) return &table[i];
    return NULL;
}

pretok_iter pretok_start(const pretok *pre, str text) {
    const uint8_t *p = (const uint8_t *)text.p;
    pretok_iter it = {.pre = pre, .at = p};
    for (int i = 0; i <= PRETOK_MAX_STAGES; i++) it.end[i] = p; /* every piece is used up, */
    it.end[0] = p + text.n;                                     /* but the text itself */
    return it;
}

bool pretok_next(pretok_iter *it, str *word) {
    int n = 0, level = 0;
    while (n < PRETOK_MAX_STAGES && it->pre->stage[n]) n++;
    while (level < n && it->end[level + 1] > it->at) level++; /* stages whose piece is not used up */
    if (it->at == it->end[0]) return false;
    for (; level < n; level++) it->end[level + 1] = it->at + it->pre->stage[level](it->at, it->end[level]);
    *word = (str){(const char *)it->at, (size_t)(it->end[n] - it->at)};
    it->at = it->end[n];
    return true;
}
