/* Converting a folder from inside: every allocation fails in turn, the caller stops it, a shard changes under it. What is
 * right and what is refused is shown from outside, against the oracle: tests/oracle/test_convert.py. */
#include "check.h"

#include "base/mem.h"
#include "convert/convert.h"
#include "convert/gguf_write.h"
#include "convert/safetensors.h"
#include "gguf/gguf.h"
#include "tiny_folder.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], out_dir[80], out[96];

static int make_folders(void **state) {
    (void)state;
    strcpy(dir, "/tmp/rf-convert-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(out_dir, sizeof out_dir, "%s/out", dir);
    snprintf(out, sizeof out, "%s/out/model.gguf", dir);
    tiny_folder(dir);
    return mkdir(out_dir, 0777);
}

static int remove_folders(void **state) {
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static int n_files(const char *path) {
    int n = 0;
    DIR *d = opendir(path);
    for (struct dirent *f = readdir(d); f; f = readdir(d)) n += strcmp(f->d_name, ".") && strcmp(f->d_name, "..");
    closedir(d);
    return n;
}

static void expect_opens(void) {
    gguf *g;
    err e;
    assert_int_equal(gguf_open(&g, out, &e), OK);
    assert_int_equal(gguf_n_tensors(g), 13); /* with rope's factors */
    assert_non_null(gguf_find(g, "tokenizer.chat_template.tool_use"));
    gguf_close(g);
}

static void fail_each_allocation(const char *what) {
    convert_options opt = {.type = "q8_0"};
    const uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        json_t *report;
        err e = {0};
        mem_fail_at(n);
        status s = convert_folder(&report, dir, out, &opt, &e);
        const bool fired = mem_fail_off();
        json_decref(report);
        if (s != (fired ? ERR_NOMEM : OK)) fail_msg("%s: allocation %d: status %d, %s", what, (int)n, s, e.text);
        if (mem_live() != live)
            fail_msg("%s: allocation %d: %d blocks are left", what, (int)n, (int)(mem_live() - live));
        assert_int_equal(n_files(out_dir), fired ? 0 : 1);
        if (!fired) break;
    }
}

static const char bpe[] = "{\"added_tokens\": [{\"id\": 4, \"content\": \"<|end|>\", \"special\": true}], "
                          "\"normalizer\": {\"type\": \"NFC\"}, "
                          "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}, \"model\": "
                          "{\"type\": \"BPE\", \"vocab\": "
                          "{\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}}";
static const char wordpiece[] =
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"[UNK]\", \"special\": true}, {\"id\": 1, \"content\": \"[SEP]\", "
    "\"special\": true}, {\"id\": 2, \"content\": \"[CLS]\", \"special\": true}], \"normalizer\": {\"type\": "
    "\"BertNormalizer\", \"lowercase\": true}, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, \"model\": "
    "{\"type\": "
    "\"WordPiece\", \"vocab\": {\"[UNK]\": 0, \"[SEP]\": 1, \"[CLS]\": 2, \"a\": 3, \"##b\": 4}}}";
static const char unigram[] =
    "{\"normalizer\": {\"type\": \"Strip\"}, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": "
    "\"\xE2\x96\x81\"}, \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0.0], [\"a\", "
    "-1.5]]}}";

static void test_survives_oom(void **state) {
    (void)state;
    static const char *const others[] = {bpe, wordpiece, unigram};
    static const char special[] = "{\"unk_token\": \"[UNK]\", \"sep_token\": \"[SEP]\", \"cls_token\": \"[CLS]\"}";
    json_init();
    json_decref(json_object()); /* draws jansson's seed */
    fail_each_allocation("SentencePiece as BPE");
    expect_opens();
    unlink(out);
    for (size_t i = 0; i < 3; i++) {
        tiny_write(dir, "tokenizer.json", others[i], strlen(others[i]));
        tiny_write(dir, "tokenizer_config.json", special, strlen(special));
        fail_each_allocation(others[i]);
        unlink(out);
    }
}

static int n_calls;

static bool stop_at_third(void *user, const convert_state *s) {
    assert_int_equal(access(s->temporary, F_OK), 0);
    return ++n_calls < *(int *)user;
}

static void test_stops(void **state) {
    (void)state;
    for (int most = 1; most < 5; most++) {
        json_t *report;
        err e;
        convert_options opt = {.progress = stop_at_third, .user = &most};
        n_calls = 0;
        assert_int_equal(convert_folder(&report, dir, out, &opt, &e), ERR_CANCELLED);
        assert_null(report);
        assert_int_equal(n_calls, most);
        assert_int_equal(n_files(out_dir), 0);
    }
}

static bool grow_source(void *user, const convert_state *s) {
    FILE *f = fopen(user, "ab");
    (void)s;
    fputc('x', f);
    fclose(f);
    return true;
}

static bool shrink_source(void *user, const convert_state *s) {
    (void)s;
    return truncate(user, 100) == 0;
}

static void test_source_changes(void **state) {
    (void)state;
    char path[100];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    convert_options ways[] = {{.progress = grow_source, .user = path}, {.progress = shrink_source, .user = path}};
    for (int i = 0; i < 2; i++) {
        json_t *report;
        err e;
        assert_int_equal(convert_folder(&report, dir, out, &ways[i], &e), ERR_FILE_CHANGED);
        assert_int_equal(n_files(out_dir), 0);
        tiny_folder(dir);
    }
}

static void test_warnings(void **state) {
    (void)state;
    json_t *report;
    err e;
    convert_options opt = {.name = "other"};
    assert_int_equal(convert_folder(&report, dir, out, &opt, &e), OK);
    assert_string_equal(json_string_value(json_object_get(report, "type")), "BF16");
    assert_string_equal(json_string_value(json_object_get(report, "name")), "other");
    assert_int_equal(json_array_size(json_object_get(report, "warnings")), 3); /* window, token 9, token 3 ends texts */
    json_decref(report);
    unlink(out);
}

/* The writer alone: what it wrote is what the reader reads, at every size of a piece. */
static void test_writer(void **state) {
    (void)state;
    err e;
    for (size_t step = 1; step < 400; step = 3 * step + 1) {
        gguf_writer *w;
        float x[100];
        for (int i = 0; i < 100; i++) x[i] = (float)i;
        assert_int_equal(gguf_write_open(&w, out, &e), OK);
        gguf_put_str(w, "general.architecture", str_of("none"));
        gguf_put_i32(w, "a.i32", -7);
        gguf_put_bools(w, "a.flags", (bool[]){true, false, true}, 3);
        gguf_put_bytes(w, "a.bytes", (const uint8_t *)"xyz", 3);
        gguf_put_tensor(w, "first", 1, (uint64_t[]){3}, QUANT_F32);
        gguf_put_tensor(w, "second", 2, (uint64_t[]){5, 19}, QUANT_F32);
        assert_int_equal(gguf_write_header(w, &e), OK);
        assert_int_equal(gguf_write_data(w, x, 16, &e), ERR_INTERNAL); /* more than the first has */
        assert_int_equal(gguf_write_data(w, x, 12, &e), OK);
        assert_int_equal(gguf_write_finish(w, &e), ERR_INTERNAL); /* the second is not there */
        for (size_t at = 0; at < 380; at += step)
            assert_int_equal(gguf_write_data(w, (char *)x + at, 380 - at < step ? 380 - at : step, &e), OK);
        assert_int_equal(access(out, F_OK), -1); /* not before the end */
        assert_int_equal(gguf_write_finish(w, &e), OK);
        gguf_write_close(w);
        gguf *g;
        assert_int_equal(gguf_open(&g, out, &e), OK);
        assert_memory_equal(gguf_tensor_find(g, "first")->data, x, 12);
        assert_memory_equal(gguf_tensor_find(g, "second")->data, x, 380);
        assert_int_equal((int32_t)gguf_array_uint(gguf_find(g, "a.i32"), 0), -7);
        assert_int_equal(gguf_find(g, "a.flags")->n, 3);
        gguf_close(g);
        assert_int_equal(n_files(out_dir), 1);
        unlink(out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_survives_oom, make_folders, remove_folders),
        cmocka_unit_test_setup_teardown(test_stops, make_folders, remove_folders),
        cmocka_unit_test_setup_teardown(test_source_changes, make_folders, remove_folders),
        cmocka_unit_test_setup_teardown(test_warnings, make_folders, remove_folders),
        cmocka_unit_test_setup_teardown(test_writer, make_folders, remove_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
