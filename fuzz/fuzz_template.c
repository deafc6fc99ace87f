/* A template of any bytes over a fixed, rich request: it renders within its limits or fails with a line, leaks nothing, and
 * its spans lie in the text. First byte 1: what follows, up to a NUL, is the request's JSON; the rest is the template. */
#include "base/json.h"
#include "base/mem.h"
#include "text/template.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char request[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be <brief> \xC3\xA9\"},{\"role\":\"user\",\"content\":\"Hi "
    "'\\\"\\n\"},"
    "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"hm\",\"tool_calls\":[{\"id\":\"c1\",\"type\":"
    "\"function\","
    "\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1,\"b\":[1.5,true,null,\"x\"]}}}]},"
    "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"name\":\"f\",\"content\":\"42\"},"
    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\xF0\x9F\x98\x80\"}]}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":"
    "{}}}}],"
    "\"documents\":[{\"title\":\"t\",\"text\":\"d\"}],\"add_generation_prompt\":true,\"enable_thinking\":false,"
    "\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"s\":\"a "
    "b,c\",\"n\":-7,\"f\":2.5,\"l\":[3,1,2],\"d\":{\"k\":\"v\"}}";

static void check(const template_text *t) {
    size_t at = 0;
    for (size_t i = 0; i < t->n_input; i++) {
        if (t->input[i].at < at || !t->input[i].n || t->input[i].n > t->text.n - t->input[i].at) abort();
        at = t->input[i].at + t->input[i].n;
    }
    if (t->text.n > 16 << 20 || !str_is_utf8((str){t->text.p, t->text.n})) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const trusted[] = {"bos_token", "eos_token", NULL};
    json_init();
    const uint64_t live = mem_live();
    const char *text = (const char *)data;
    json_t *variables = NULL;
    if (size && data[0] == 1) {
        const char *end = memchr(text + 1, 0, size - 1);
        const size_t n = end ? (size_t)(end - text) - 1 : size - 1;
        variables = json_loadb(text + 1, n, JSON_ALLOW_NUL, NULL);
        text += end ? n + 2 : size;
        size -= end ? n + 2 : size;
        if (!json_is_object(variables)) {
            json_decref(variables);
            variables = NULL;
        }
    }
    if (!variables) variables = json_loads(request, 0, NULL);
    if (!variables) abort();
    chat_template *t;
    template_text out = {0};
    err e = {0};
    status s = template_parse(&t, (str){text, size}, &e);
    if (!s) s = template_render(t, variables, trusted, &out, &e);
    if (s && (s != ERR_TEMPLATE || !strstr(e.text, "line "))) abort();
    if (!s) check(&out);
    template_text_free(&out);
    template_free(t);
    json_decref(variables);
    if (mem_live() != live) abort();
    return 0;
}
