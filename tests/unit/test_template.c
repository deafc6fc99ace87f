/* Chat templates where jinja2 is no help: which bytes are a user's, what hostile templates cost, failing memory, a small
 * stack. Equality with jinja2 is tests/oracle/test_templates.py's. */
#include "check.h"

#include "base/json.h"
#include "base/mem.h"
#include "text/template.h"

#include <pthread.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static const char *const trusted[] = {"bos_token", "eos_token", NULL};

static status render(const char *source, size_t n, json_t *variables, template_text *out, err *e) {
    chat_template *t;
    *out = (template_text){0};
    status s = template_parse(&t, (str){source, n}, e);
    if (!s) s = template_render(t, variables, trusted, out, e);
    template_free(t);
    return s;
}

/* ---- whose bytes ---- */

/* The text with what came from the request in brackets. */
static char *shown(const template_text *t) {
    strbuf b = {0};
    size_t at = 0;
    strbuf_puts(&b, "");
    for (size_t i = 0; i < t->n_input; i++) {
        assert_true(t->input[i].n > 0 && t->input[i].at >= at && (i == 0 || t->input[i].at > at));
        strbuf_add(&b, t->text.p + at, t->input[i].at - at);
        strbuf_puts(&b, "[");
        strbuf_add(&b, t->text.p + t->input[i].at, t->input[i].n);
        strbuf_puts(&b, "]");
        at = t->input[i].at + t->input[i].n;
    }
    assert_true(at <= t->text.n);
    strbuf_add(&b, t->text.p + at, t->text.n - at);
    return b.p;
}

static void test_user_bytes_are_known(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"{{ u }}", "[user]"},
        {"<{{ u }}>", "<[user]>"},
        {"{{ '<' + u + '>' }}", "<[user]>"},
        {"{{ '<' ~ u ~ 1 ~ '>' }}", "<[user]1>"},
        {"{{ ('<' + u + '>')[1:-1] }}", "[user]"},
        {"{{ ('<' + u + '>')[:3] }}", "<[us]"},
        {"{{ ('<' + u + '>')[::-1] }}", ">[resu]<"},
        {"{{ (' ' + u + ' ')|trim }}", "[user]"},
        {"{{ ('ab' + u).replace('se', 'XY') }}", "ab[u]XY[r]"},
        {"{{ 'a-b'.replace('-', u) }}", "a[user]b"},
        {"{{ u|upper }}{{ u|title }}{{ 'x'|upper }}", "[USERUser]X"},
        {"{{ u|tojson }}", "[\"user\"]"},
        {"{{ d|tojson }}", "[{\"k\": \"v\"}]"},
        {"{{ {'k': u}|tojson }}", "{\"k\": [\"user\"]}"},
        {"{{ d }}", "[{'k': 'v'}]"},
        {"{{ [u, 'x'] }}", "[['user'], 'x']"},
        {"{{ ['a', u]|join('-') }}", "a-[user]"},
        {"{{ ['a', 'b']|join(u) }}", "a[user]b"},
        {"{{ '%s|%s' % ('a', u) }}", "a|[user]"},
        {"{{ '{}|{:>6}'.format('a', u) }}", "a|  [user]"},
        {"{{ 'a %s'|format(u) }}", "a [user]"},
        {"{{ u.split('s')[1] }}{{ 'a,b'.split(',')[1] }}", "[er]b"},
        {"{{ u * 2 }}", "[useruser]"},
        {"{{ u|replace('s', 'S') }}", "[u]S[er]"},
        {"{{ u|indent(2, true) }}", "  [user]"},
        {"{{ '<x>' + u|e }}", "&lt;x&gt;[user]"}, /* |e makes Markup, and adding to that escapes */
        {"{{ h|e }}", "[&lt;b&gt;]"},
        {"{% set x %}a{{ u }}b{% endset %}{{ x }}", "a[user]b"},
        {"{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(u) }}", "<[user]>"},
        {"{% set ns = namespace(t='') %}{% for c in u %}{% set ns.t = ns.t ~ c ~ '.' %}{% endfor %}{{ ns.t }}",
         "[u].[s].[e].[r]."},
        {"{% for c in u %}{{ c }}{% endfor %}", "[user]"},
        {"{% for k in d %}{{ k }}{{ d[k] }}{% endfor %}", "[kv]"},
        {"{{ d.items()|list }}", "[(['k'], ['v'])]"},
        {"{{ bos_token }}{{ u }}{{ eos_token }}", "<s>[user]</s>"},
        {"{{ bos_token + u }}", "<s>[user]"},
        {"{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}", "<|user|>[hi]<|[im_start]|>[user]"},
        {"{{ n }}{{ b }}", "7True"},
        {"{% filter upper %}a{{ u }}{% endfilter %}", "A[USER]"},
        {"{{ u|center(6) }}|{{ 'x'.join([u, u]) }}", " [user] |[user]x[user]"},
        {"{{ u|first }}{{ u|last }}{{ u|reverse }}", "[urresu]"},
        {"{{ u[1] }}{{ 'abc'[1] }}", "[s]b"},
        {"{{ [u]|map('upper')|first }}", "[USER]"},
        {"{{ u|default('x') }}{{ z|default(u) }}{{ z|default('y') }}", "[useruser]y"},
        {"{{ 'ab'|tojson }}", "\"ab\""},
        {"{{ {'a': [1, true]}|tojson(indent=1) }}", "{\n \"a\": [\n  1,\n  true\n ]\n}"},
    };
    json_t *v = json_pack("{ss ss s{ss} s[{ssss}{ssss}] si sb ss ss ss}", "u", "user", "h", "<b>", "d", "k", "v",
                          "messages", "role", "user", "content", "hi", "role", "im_start", "content", "user", "n", 7,
                          "b", 1, "bos_token", "<s>", "eos_token", "</s>", "x", "y");
    assert_non_null(v);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        template_text out;
        err e = {0};
        if (render(rows[i][0], strlen(rows[i][0]), v, &out, &e)) fail_msg("%s: %s", rows[i][0], e.text);
        char *got = shown(&out);
        const char *want = rows[i][1];
        if (i == 15) want = "[['user'], 'x']"; /* the outer brackets are the template's list */
        if (strcmp(got, want) != 0) fail_msg("%s: wanted %s, got %s", rows[i][0], want, got);
        mem_free(got);
        template_text_free(&out);
    }
    json_decref(v);
}

/* ---- hostile templates ---- */

enum { MUST_FAIL, MUST_RENDER, MAY_DO_EITHER };
typedef struct {
    const char *before, *unit;
    size_t n; /* of unit */
    const char *after;
    int want;
} hostile;

static const hostile bombs[] = {
    /* steps */
    {"{% for i in range(100000) %}{% for j in range(100000) %}{% set x = i %}{% endfor %}{% endfor %}", "", 0, "",
     MUST_FAIL},
    {"{% for i in range(1000000000) %}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{{ range(0, 1, 0) }}", "", 0, "", MUST_FAIL},
    {"{{ range(-9223372036854775807, 9223372036854775807, 2) }}", "", 0, "", MUST_FAIL},
    {"{{ range(9223372036854775806, 9223372036854775807, 9223372036854775807)|list }}", "", 0, "", MUST_RENDER},
    {"{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807)|list }}", "", 0, "", MUST_RENDER},
    {"{{ range(100001)|list }}", "", 0, "", MUST_FAIL},
    {"{{ range(100000)|list|length }}", "", 0, "", MUST_RENDER},
    {"{% for a in range(300) %}{% for b in range(300) %}{% for c in range(300) %}{% endfor %}{% endfor %}{% endfor %}",
     "", 0, "", MUST_FAIL},
    {"{% for i in range(100000) %}{{ range(100000)|sum }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% for i in range(100000) %}{{ range(100000)|list|sort }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% for i in range(100000) %}{{ 5 in range(6, 100000) }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set l = range(100000)|list %}{% for i in range(100000) %}{{ l == l + [] }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set l = range(100000)|list %}{% for i in l %}{{ l[::-1]|first }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set l = range(100000)|list %}{% for i in l %}{{ l.index(99999) }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set l = range(100000)|list %}{% for i in l %}{{ l|max }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set l = range(100000)|list %}{% for i in l %}{{ l|unique|list|length }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set l = range(100000)|list %}{% for i in l %}{% set x = l|batch(1)|list %}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set l = range(100000)|list %}{% for i in l if l|select('odd')|list %}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{{ [1, 2]|slice(9223372036854775807)|list|length }}", "", 0, "", MUST_FAIL},
    {"{{ [1, 2]|batch(9223372036854775807, 'x')|list|length }}", "", 0, "", MUST_FAIL},
    {"{{ [1]|batch(-1)|list }}{{ [1, 2]|batch(0)|list }}", "", 0, "", MUST_RENDER},
    /* recursion */
    {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "", 0, "", MUST_FAIL},
    {"{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", "", 0, "", MUST_FAIL},
    {"{% macro m(x) %}{{ m(m(x)) }}{% endmacro %}{{ m(1) }}", "", 0, "", MUST_FAIL},
    {"{% macro m(x=m()) %}{% endmacro %}{{ m() }}", "", 0, "", MUST_FAIL},
    {"{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{{ caller() }}{% endmacro %}{% call m() %}x{% endcall %}",
     "", 0, "", MUST_FAIL},
    {"{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(30) }}", "", 0, "",
     MUST_FAIL},
    {"{% set ns = namespace() %}{% set ns.f = ns %}{{ ns }}", "", 0, "", MUST_FAIL},
    {"{% set ns = namespace() %}{% set ns.f = [ns] %}{{ ns.f }}", "", 0, "", MUST_FAIL},
    {"{% set ns = namespace() %}{% set ns.f = [ns] %}{{ ns.f == ns.f }}{{ ns.f == [ns] }}", "", 0, "", MUST_RENDER},
    {"{% set ns = namespace() %}{% set ns.f = {'a': ns} %}{{ ns.f|tojson }}", "", 0, "", MUST_FAIL},
    {"{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}", "", 0,
     "", MUST_FAIL},
    {"{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}",
     "", 0, "", MUST_FAIL},
    {"{% set ns = namespace(a=[], b=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% set ns.b = [ns.b] %}{% "
     "endfor %}{{ ns.a == ns.b }}",
     "", 0, "", MUST_FAIL},
    {"{% set ns = namespace(a=[], b=[1]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% set ns.b = [ns.b] %}{% "
     "endfor %}{{ ns.a < ns.b }}",
     "", 0, "", MUST_FAIL},
    {"{% set ns = namespace(a=()) %}{% for i in range(1000) %}{% set ns.a = (ns.a,) %}{% endfor %}{{ {ns.a: 1} }}", "",
     0, "", MUST_FAIL},
    {"{% set ns = namespace(a=[1]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a|map(",
     "'map', ", 900, "'upper')|list }}", MUST_FAIL},
    {"{{ '{0", "[0]", 100000, "}'.format([1]) }}", MUST_FAIL},
    {"{{ '{:", "{:", 1000, "}'.format(1) }}", MUST_FAIL},
    {"{{ '", "{", 10000, "'.format(1) }}", MAY_DO_EITHER},
    /* nesting */
    {"{{ ", "(", 150, "1", MUST_FAIL},
    {"{{ ", "(", 100000, "", MUST_FAIL},
    {"{{ ", "[", 100000, "", MUST_FAIL},
    {"{{ ", "{1:", 100000, "", MUST_FAIL},
    {"{{ ", "not ", 100000, "1 }}", MUST_FAIL},
    {"{{ ", "-", 100000, "1 }}", MUST_FAIL},
    {"{{ ", "+", 100000, "1 }}", MUST_FAIL},
    {"{{ ", "1 if 1 else ", 100000, "1 }}", MUST_FAIL},
    {"{{ ", "f(", 100000, "", MUST_FAIL},
    {"{{ ", "x[", 100000, "", MUST_FAIL},
    {"{{ ", "x|d(", 100000, "", MUST_FAIL},
    {"{{ ", "1 is eq(", 100000, "", MUST_FAIL},
    {"{{ 1 ", "is eq [", 100000, "", MUST_FAIL},
    {"{{ 1", " ** -", 100000, "1 }}", MUST_FAIL},
    {"", "{% if 1 %}", 100000, "", MUST_FAIL},
    {"", "{% for i in x %}", 100000, "", MUST_FAIL},
    {"", "{% set x %}", 100000, "", MUST_FAIL},
    {"", "{% macro m() %}", 100000, "", MUST_FAIL},
    {"", "{% call m() %}", 100000, "", MUST_FAIL},
    {"", "{% filter upper %}", 100000, "", MUST_FAIL},
    {"", "{% with %}", 100000, "", MUST_FAIL},
    {"", "{% generation %}", 100000, "", MUST_FAIL},
    {"{% set ", "(", 100000, "a", MUST_FAIL},
    {"{% for ", "(", 100000, "a", MUST_FAIL},
    {"{% if 0 %}", "{% elif 0 %}", 100000, "{% endif %}", MUST_RENDER},
    {"{% if 0 %}", "{% else %}{% if 0 %}", 10000, "", MUST_FAIL},
    /* long, not deep */
    {"{{ x", ".a", 100000, " }}", MUST_FAIL},
    {"{{ {}", ".a is defined", 1, " }}", MUST_RENDER},
    {"{{ 'a'", "|upper", 100000, " }}", MUST_RENDER},
    {"{{ 1", " + 1", 100000, " }}", MUST_RENDER},
    {"{{ 1", " - 1 * 1", 100000, " }}", MUST_RENDER},
    {"{{ 'a'", " ~ 'a'", 100000, " }}", MUST_RENDER},
    {"{{ 1", " and 1", 100000, " }}", MUST_RENDER},
    {"{{ 0", " or 0", 100000, " }}", MUST_RENDER},
    {"{{ 1", " < 2", 100000, " }}", MUST_RENDER},
    {"{{ 1", " == 1", 100000, " }}", MUST_RENDER},
    {"{{ 'a'", ".strip()", 100000, " }}", MUST_RENDER},
    {"{{ 'a'", "[0]", 100000, " }}", MUST_RENDER},
    {"{{ 'a'", "[0:1]", 100000, " }}", MUST_RENDER},
    {"{{ 1", " ** 1", 100000, " }}", MUST_RENDER},
    {"{{ ", "'a' ", 100000, " }}", MUST_RENDER},
    {"{{ [", "1,", 100000, "]|length }}", MUST_RENDER},
    {"{{ {", "1:1,", 100000, "}|length }}", MUST_RENDER},
    {"{{ dict(", "a=1,", 1000, ") }}", MUST_FAIL},
    {"{{ 'x'.strip(", "1,", 100000, ") }}", MUST_FAIL},
    {"{{ [1,2]|map(", "'map',", 100000, "'x')|list }}", MUST_FAIL},
    {"", "{{ 1 }}", 100000, "", MUST_RENDER},
    {"", "{% set a = 1 %}", 100000, "", MUST_RENDER},
    {"", "{# c #}", 100000, "", MUST_RENDER},
    {"", "{% raw %}a{% endraw %}", 100000, "", MUST_RENDER},
    {"", "{%", 100000, "", MUST_FAIL},
    {"", "{{", 100000, "", MUST_FAIL},
    {"", "{#", 100000, "", MUST_FAIL},
    {"", "{% raw %}", 100000, "", MUST_FAIL},
    {"{% raw %}", "{% endraw ", 100000, "", MUST_FAIL},
    {"", "{% ", 1, "                                                              ", MUST_FAIL},
    {"{{ '", "\\", 100001, "", MUST_FAIL},
    {"{{ 'a", "\\u0041", 100000, "'|length }}", MUST_RENDER},
    {"{{ ", "9", 100000, " }}", MUST_FAIL},
    {"{{ 1.", "9", 100000, " }}", MUST_FAIL},
    {"{{ 1e", "9", 300, " }}", MUST_RENDER},
    {"{{ ", "a", 100000, " }}", MUST_RENDER},
    {"{% macro m(", "a,", 10000, ") %}{% endmacro %}{{ m() }}", MUST_RENDER},
    {"{% for ", "a,", 100000, " in [1] %}{% endfor %}", MUST_FAIL},
    {"{{ 'a,b'.split(',', ", "1", 18, ") }}", MUST_RENDER},
    /* memory and output */
    {"{{ 'a' * 10**9 }}", "", 0, "", MUST_FAIL},
    {"{{ 'a' * 9223372036854775807 }}", "", 0, "", MUST_FAIL},
    {"{{ [1] * 9223372036854775807 }}", "", 0, "", MUST_FAIL},
    {"{{ '' * 9223372036854775807 }}{{ [] * 9223372036854775807 }}", "", 0, "", MUST_RENDER},
    {"{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "", 0, "",
     MUST_FAIL},
    {"{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "", 0, "",
     MUST_FAIL},
    {"{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "", 0, "",
     MUST_FAIL},
    {"{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
     "", 0, "", MUST_FAIL},
    {"{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
     "ns.x|tojson }}",
     "", 0, "", MUST_FAIL},
    {"{% set ns = namespace(x=['a'], y=['a']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = "
     "[ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
     "", 0, "", MUST_FAIL},
    {"{{ ['a' * 1000000] * 1000 }}", "", 0, "", MUST_FAIL},
    {"{{ (['a' * 1000000] * 1000)|join }}", "", 0, "", MUST_FAIL},
    {"{{ ('a' * 100000).replace('', 'b' * 1000) }}", "", 0, "", MUST_FAIL},
    {"{{ ('a' * 100000).replace('a', 'b' * 1000) }}", "", 0, "", MUST_FAIL},
    {"{{ 'a'|center(10**9) }}", "", 0, "", MUST_FAIL},
    {"{{ 'a'.center(10**18) }}", "", 0, "", MUST_FAIL},
    {"{{ 'a'.ljust(9223372036854775807) }}", "", 0, "", MUST_FAIL},
    {"{{ '1'.zfill(10**9) }}", "", 0, "", MUST_FAIL},
    {"{{ 'a\\nb'|indent(10**9) }}", "", 0, "", MUST_FAIL},
    {"{{ ('\\n' * 100000)|indent(1000, blank=true) }}", "", 0, "", MUST_FAIL},
    {"{{ [1]|tojson(indent=10**9) }}", "", 0, "", MUST_FAIL},
    {"{{ [[[[[[[[1]]]]]]]]|tojson(indent=10**7) }}", "", 0, "", MUST_FAIL},
    {"{{ [1, 2]|tojson(separators=('a' * 1000000, 'b')) }}{{ 1 }}", "", 0, "", MUST_RENDER},
    {"{{ '%1000000000d' % 1 }}", "", 0, "", MAY_DO_EITHER},
    {"{{ '%.1000000000f' % 1.0 }}", "", 0, "", MAY_DO_EITHER},
    {"{{ '{:1000000000}'.format(1) }}", "", 0, "", MUST_FAIL},
    {"{{ '{:.1000000000}'.format('a') }}", "", 0, "", MAY_DO_EITHER},
    {"{{ '%.400f' % 1e308 }}{{ '{:,.400f}'.format(1e308) }}", "", 0, "", MUST_RENDER},
    {"{{ '", "%5d", 10000, "' % (1,) }}", MUST_FAIL},
    {"{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% for i in range(100000) %}{% set x = 'a' * 1000000 %}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% for i in range(100000) %}{% set x = ('a' * 1000000)|upper %}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set t = 'a' * 1000000 %}{% for i in range(100000) %}{{ 'b' in t }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set t = 'a' * 1000000 %}{% set u = 'a' * 500000 ~ 'b' %}{% for i in range(100000) %}{{ t.rfind(u) }}{% endfor "
     "%}",
     "", 0, "", MUST_FAIL},
    {"{% set t = 'é' * 1000000 %}{% for i in range(100000) %}{{ t[999999] }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set t = 'é' * 1000000 %}{% for i in range(100000) %}{{ t.isalpha() }}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set t = 'a' * 100000 %}{% for i in range(100000) %}{{ t.strip('bcdefgha') }}{% endfor %}", "", 0, "",
     MUST_FAIL},
    {"{% set t = 'a ' * 1000000 %}{% for i in range(1000) %}{% set x = t.split() %}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set t = 'a ' * 1000000 %}{% for i in range(1000) %}{% set x = t|list %}{% endfor %}", "", 0, "", MUST_FAIL},
    {"{% set t = 'a' * 1000000 %}{% for i in range(1000) %}{{ {t: 1}[t] }}{% endfor %}", "", 0, "", MAY_DO_EITHER},
    {"{{ strftime_now('%c' * 1000000) }}", "", 0, "", MUST_FAIL},
    {"{{ strftime_now('%1000000000Y') }}{{ strftime_now('%') }}{{ strftime_now('%-') }}", "", 0, "", MUST_RENDER},
    /* the world outside */
    {"{{ ''.__class__.__mro__[1].__subclasses__() }}", "", 0, "", MUST_FAIL},
    {"{{ cycler.__init__.__globals__.os.popen('id').read() }}", "", 0, "", MUST_FAIL},
    {"{{ ''|attr('__class__')|attr('__mro__') }}", "", 0, "", MUST_FAIL},
    {"{{ ['{0.__class__.__init__}']|map('format', cycler)|list }}", "", 0, "", MUST_FAIL},
    {"{{ '{0.__class__.__init__}'.format(1) }}", "", 0, "", MUST_FAIL},
    {"{{ '%(__class__)s' % {'a': 1} }}", "", 0, "", MUST_FAIL},
    {"{{ lipsum.__globals__ }}", "", 0, "", MUST_FAIL},
    {"{{ self.__init__ }}", "", 0, "", MUST_FAIL},
    {"{% include '/etc/passwd' %}", "", 0, "", MUST_FAIL},
    {"{% import 'os' as os %}", "", 0, "", MUST_FAIL},
    {"{% extends 'x' %}", "", 0, "", MUST_FAIL},
    {"{{ [].append(1) }}", "", 0, "", MUST_FAIL},
    {"{{ {}.update({'a': 1}) }}", "", 0, "", MUST_FAIL},
    {"{{ raise_exception('%s%n%x') }}", "", 0, "", MUST_FAIL},
    {"{{ raise_exception('", "x", 100000, "') }}", MUST_FAIL},
    {"{{ raise_exception() }}", "", 0, "", MUST_FAIL},
    {"{{ raise_exception(range(100000)|list) }}", "", 0, "", MUST_FAIL},
    /* values */
    {"{{ 9223372036854775807 + 1 }}", "", 0, "", MUST_FAIL},
    {"{{ -9223372036854775807 - 2 }}", "", 0, "", MUST_FAIL},
    {"{{ 9223372036854775808 }}", "", 0, "", MUST_FAIL},
    {"{{ 4611686018427387904 * 2 }}", "", 0, "", MUST_FAIL},
    {"{{ (-9223372036854775807 - 1) // -1 }}", "", 0, "", MUST_FAIL},
    {"{{ (-9223372036854775807 - 1) % -1 }}", "", 0, "", MUST_RENDER},
    {"{{ -(-9223372036854775807 - 1) }}", "", 0, "", MUST_FAIL},
    {"{{ (-9223372036854775807 - 1)|abs }}", "", 0, "", MUST_FAIL},
    {"{{ 2 ** 63 }}", "", 0, "", MUST_FAIL},
    {"{{ 10 ** 10 ** 10 }}", "", 0, "", MUST_FAIL},
    {"{{ 1 ** 9223372036854775807 }}", "", 0, "", MUST_RENDER},
    {"{{ 1e308 * 10 }}{{ (1e308 * 10)|int }}", "", 0, "", MUST_RENDER},
    {"{{ 1e300|int }}", "", 0, "", MUST_FAIL},
    {"{{ 1 / 0 }}", "", 0, "", MUST_FAIL},
    {"{{ 1 % 0 }}", "", 0, "", MUST_FAIL},
    {"{{ 0.0 ** -1 }}", "", 0, "", MUST_FAIL},
    {"{{ (-8) ** 0.5 }}", "", 0, "", MUST_FAIL},
    {"{{ 'abc'[9223372036854775807] is defined }}{{ "
     "'abc'[-9223372036854775807:9223372036854775807:9223372036854775807] }}",
     "", 0, "", MUST_RENDER},
    {"{{ [1, 2, 3][::-9223372036854775807] }}{{ [1, 2][9223372036854775807:] }}", "", 0, "", MUST_RENDER},
    {"{{ 'abc'[::(-9223372036854775807 - 1)] }}", "", 0, "", MUST_RENDER},
    {"{{ 1.5|round(9223372036854775807) }}{{ 1.5|round(-9223372036854775807) }}", "", 0, "", MUST_RENDER},
    {"{{ 'a b c'.split(' ', 9223372036854775807) }}{{ 'abc'.find('c', -9223372036854775807) }}", "", 0, "",
     MUST_RENDER},
    {"{{ 'aaa'.replace('a', 'b', -9223372036854775807) }}", "", 0, "", MUST_RENDER},
    {"{{ 'abc'|truncate(-5) }}", "", 0, "", MUST_FAIL},
    {"{{ 'abc'|truncate(9223372036854775807, leeway=9223372036854775807) }}", "", 0, "", MUST_RENDER},
    {"{{ 'a'|int(base=99) }}", "", 0, "", MUST_FAIL},
    {"\xff\xfe{{ 1 }}", "", 0, "", MUST_FAIL},
    {"{{ '\\ud800' }}", "", 0, "", MUST_FAIL},
    {"{{ '\\N{BULLET}' }}", "", 0, "", MUST_FAIL},
    {"{{ [[1], [2, 3]]|map('map')|list }}", "", 0, "", MUST_FAIL},
    {"{% set ns = namespace(a=1) %}{{ ns.a.b.c }}", "", 0, "", MUST_FAIL},
    {"{% for i in messages %}{% for j in messages %}{% for k in messages %}x{% endfor %}{% endfor %}{% endfor %}", "",
     0, "", MUST_FAIL},
    {"{% for m in messages %}{{ m.content }}{% endfor %}", "", 0, "", MUST_RENDER},
};
enum { N_BOMBS = sizeof bombs / sizeof *bombs };
_Static_assert(N_BOMBS >= 150, "at least 150 hostile templates");

typedef struct {
    json_t *variables;
    const char *failed;
    char text[600];
} bomb_run;

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool try_bomb(bomb_run *b, const hostile *h) {
    strbuf source = {0};
    template_text out;
    err e = {0};
    strbuf_puts(&source, h->before);
    for (size_t i = 0; i < h->n; i++) strbuf_puts(&source, h->unit);
    strbuf_puts(&source, h->after);
    const double start = cpu_seconds();
    status s = render(source.p, source.n, b->variables, &out, &e);
    const double took = cpu_seconds() - start;
    const char *bad = s && s != ERR_TEMPLATE              ? "another error than template.failed"
                      : s && !strstr(e.text, "line ")     ? "an error without a line"
                      : h->want == MUST_FAIL && !s        ? "it rendered"
                      : h->want == MUST_RENDER && s       ? "it failed"
                      : out.text.n > 16 << 20             ? "too much output"
                      : took > (SANITIZED ? 100.0 : 10.0) ? "it took too long"
                                                          : NULL;
    if (bad)
        snprintf(b->text, sizeof b->text, "%.100s%.20s... : %s: %.200s (%.1f s)", h->before, h->unit, bad, e.text,
                 took);
    template_text_free(&out);
    strbuf_free(&source);
    return !bad;
}

static void *run_bombs(void *arg) {
    bomb_run *b = arg;
    for (size_t i = 0; i < N_BOMBS; i++)
        if (!try_bomb(b, &bombs[i])) print_message("%s\n", b->text);
    return NULL;
}

/* With a stack of 256 KiB: nothing may nest deeper than it has room for. */
static void test_hostile_templates_end(void **state) {
    (void)state;
    bomb_run b = {.variables = json_object()};
    json_t *messages = json_array();
    for (int i = 0; i < 1000; i++)
        json_array_append_new(messages, json_pack("{ssss}", "role", "user", "content", "hi"));
    json_object_set_new(b.variables, "messages", messages);
    uint64_t live = mem_live();
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, SANITIZED ? 4 << 20 : 256 << 10);
    assert_int_equal(pthread_create(&thread, &attr, run_bombs, &b), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    if (b.text[0]) fail_msg("%s", b.text);
    assert_int_equal(mem_live(), live);
    json_decref(b.variables);
}

static void *run_deep(void *arg) { /* the deepest that still renders, by each way to nest */
    static const char *const ways[][3] = {{"(", "1", ")"},
                                          {"[", "1", "]"},
                                          {"not ", "1", ""},
                                          {"-", "1", ""},
                                          {"1 if 0 else ", "1", ""},
                                          {"x|d(", "1", ")"},
                                          {"[1][0:(", "1", ")]"},
                                          {"{1:", "1", "}"},
                                          {"'%s' % (", "1", ")"},
                                          {"'{}'.format(", "1", ")"},
                                          {"[1]|map('default', ", "1", ")|list"}};
    bomb_run *b = arg;
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        size_t good = 0;
        for (size_t n = 1; n <= 300; n++) {
            strbuf source = {0};
            template_text out;
            strbuf_puts(&source, "{{ ");
            for (size_t i = 0; i < n; i++) strbuf_puts(&source, ways[w][0]);
            strbuf_puts(&source, ways[w][1]);
            for (size_t i = 0; i < n; i++) strbuf_puts(&source, ways[w][2]);
            strbuf_puts(&source, " }}");
            good += render(source.p, source.n, b->variables, &out, NULL) == OK;
            template_text_free(&out);
            strbuf_free(&source);
        }
        if (good < 25) snprintf(b->text, sizeof b->text, "%s: only %zu levels", ways[w][0], good);
    }
    static const char macro[] =
        "{% macro m(n) %}{% for i in [1] %}{% if n %}{% set x %}{{ [m(n - 1)]|map('upper')|join }}{% endset %}"
        "{{ x }}{% endif %}{% endfor %}{% endmacro %}{% filter lower %}{{ m(9) }}{% endfilter %}{{ m(999) }}";
    template_text out;
    if (render(macro, sizeof macro - 1, b->variables, &out, NULL) == OK)
        snprintf(b->text, sizeof b->text, "999 calls deep");
    template_text_free(&out);
    return NULL;
}

static void test_depth_fits_a_small_stack(void **state) {
    (void)state;
    bomb_run b = {.variables = json_object()};
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, SANITIZED ? 4 << 20 : 256 << 10);
    assert_int_equal(pthread_create(&thread, &attr, run_deep, &b), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    if (b.text[0]) fail_msg("%s", b.text);
    json_decref(b.variables);
}

/* ---- errors, memory ---- */

static void test_errors_name_line_and_message(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"a\nb\n{{ raise_exception('Roles must alternate') }}", "chat template, line 3: Roles must alternate"},
        {"{% if x %}\n\n", "chat template, line 2: unexpected end of template; looking for 'endif'"},
        {"\n{{ x.y }}", "chat template, line 2: 'x' is undefined"},
        {"{{ {}.a.b }}", "chat template, line 1: 'dict object' has no attribute 'a'"},
        {"{{ none.a.b }}", "chat template, line 1: 'None' has no attribute 'a'"},
        {"\n\n{% nothing %}", "chat template, line 3: encountered unknown tag 'nothing'"},
        {"{{ 1|nothing }}", "chat template, line 1: no filter named 'nothing'"},
        {"{{ 'a' + 1 }}", "chat template, line 1: can only concatenate str (not \"int\") to str"},
        {"{% macro m() %}\n{{ 1/0 }}\n{% endmacro %}\n\n{{ m() }}", "chat template, line 2: division by zero"},
    };
    json_t *none = json_object();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        template_text out;
        err e = {0};
        assert_int_equal(render(rows[i][0], strlen(rows[i][0]), none, &out, &e), ERR_TEMPLATE);
        assert_string_equal(e.text, rows[i][1]);
        assert_null(out.text.p);
    }
    json_decref(none);
}

static const char every_part[] =
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{% set ns = namespace(t='') %}"
    "{% for x in messages %}{% set ns.t = ns.t ~ x.role ~ x.content %}{{ m(x.content|upper, 3, 4, c=5) }}{% endfor "
    "%}{{ ns.t }}"
    "{{ messages|map(attribute='content')|list|sort|join(',') }}{{ messages|tojson(indent=2) }}{{ messages }}"
    "{% set c %}{{ '%s %5d' % ('a', 3) }}{{ '{} {:>4}'.format(1, 2) }}{% endset %}{{ c[::-1] }}{{ c.replace('a', "
    "'bb').split() }}"
    "{% filter trim %} x {% endfilter %}{% call(q) m('z') %}{{ q }}{% endcall %}";

static void test_memory_fails(void **state) {
    (void)state;
    json_t *v = json_pack("{s[{ssss}{ssss}]}", "messages", "role", "user", "content", "hi", "role", "assistant",
                          "content", "b");
    char source[sizeof every_part + 1];
    memcpy(source, every_part, sizeof every_part);
    *strstr(source, "{% call") = 0; /* a macro without caller() refuses it */
    const uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        template_text out;
        err e = {0};
        mem_fail_at(n);
        status s = render(source, strlen(source), v, &out, &e);
        bool fired = mem_fail_off();
        if (!fired && s) fail_msg("%s", e.text);
        assert_int_equal(s, fired ? ERR_NOMEM : OK);
        template_text_free(&out);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
    json_decref(v);
}

/* A template is shared: renderings at the same time write nothing to it (TSan sees that) and give the same. */
enum { N_THREADS = 4 };
typedef struct {
    const chat_template *t;
    const char *want;
    bool bad;
} shared_run;

static void *render_shared(void *arg) {
    shared_run *s = arg;
    json_t *v = json_pack("{s[{ssss}]}", "messages", "role", "user", "content", "h\u00e9");
    for (int i = 0; i < 50; i++) {
        template_text out;
        if (template_render(s->t, v, trusted, &out, NULL) || strcmp(out.text.p, s->want) != 0) s->bad = true;
        template_text_free(&out);
    }
    json_decref(v);
    return NULL;
}

static void test_threads_share_a_template(void **state) {
    (void)state;
    static const char source[] =
        "{% set s = 'a' 'b' %}{% for m in messages %}{{ 'x' 'y' ~ m.content ~ s }}{{ ('\u00e9' 'b')|length }}"
        "{{ '\u00e9b'[1] }}{{ 'ab'.center(4) }}{{ '%s' % s }}{{ s ~ s }}{% endfor %}";
    chat_template *t;
    pthread_t thread[N_THREADS];
    shared_run run[N_THREADS];
    assert_int_equal(template_parse(&t, str_of(source), NULL), OK);
    for (int i = 0; i < N_THREADS; i++) {
        run[i] = (shared_run){.t = t, .want = "xyh\u00e9ab2b ab ababab"};
        assert_int_equal(pthread_create(&thread[i], NULL, render_shared, &run[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < N_THREADS; i++) assert_false(run[i].bad);
    template_free(t);
}

static void test_values_from_requests(void **state) {
    (void)state;
    template_text out;
    json_t *v = json_pack("{sn sI sf s[] ss#}", "absent", "big", (json_int_t)INT64_MAX, "real", 1e22, "empty", "nul",
                          "a\0b", 3);
    const char *source = "{{ absent is defined }} {{ big }} {{ real }} {{ empty }} {{ nul|length }}{{ nul }}";
    assert_int_equal(render(source, strlen(source), v, &out, NULL), OK);
    assert_int_equal(out.text.n, strlen("False 9223372036854775807 1e+22 [] 3a.b"));
    template_text_free(&out);
    json_decref(v);
    json_t *deep = json_array();
    for (int i = 0; i < 100000; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, deep);
        deep = outer;
        if (i == 1000) break; /* jansson itself frees recursively */
    }
    v = json_object();
    json_object_set_new(v, "deep", deep);
    err e = {0};
    assert_int_equal(render("{{ deep }}", 10, v, &out, &e), ERR_TEMPLATE);
    json_decref(v);
}

int main(void) {
    json_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_user_bytes_are_known),
        cmocka_unit_test(test_hostile_templates_end),
        cmocka_unit_test(test_depth_fits_a_small_stack),
        cmocka_unit_test(test_errors_name_line_and_message),
        cmocka_unit_test(test_memory_fails),
        cmocka_unit_test(test_values_from_requests),
        cmocka_unit_test(test_threads_share_a_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
