"""Options: what each command takes, ranges, environment twins, what is not built, and the older names."""
import pytest

pytestmark = pytest.mark.smoke
COMMANDS = ("generate", "logits", "tokenize", "detokenize", "inspect", "plan", "bench", "devices", "doctor", "completion", "chat",
            "serve", "status", "cancel", "render")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_goes_to_standard_output(rocmforge, command):
    for args in ((command, "--help"), (command, "-h"), ("help", command)):
        done = rocmforge(*args)
        assert f"usage: rocmforge {command}" in done.out and done.err == ""


def test_no_command_is_bad_usage_on_standard_error(rocmforge):
    done = rocmforge(status=2)
    assert done.out == "" and "usage: rocmforge" in done.err


@pytest.mark.parametrize("args, name", (
    (["frobnicate"], "frobnicate"), (["generate", "--frob", "m"], "--frob"), (["help", "frob"], "frob"),
    (["generate", "m", "extra", "-p", "x"], "extra"), (["generate", "m", "-p"], "-p needs a value"),
    (["generate", "m", "--json=1", "-p", "x"], "--json takes no value"), (["generate", "-p", "x"], "which model"),
    (["generate", "m", "-m", "n", "-p", "x"], "given twice"), (["generate", "m", "-p", "x", "-f", "y"], "not both"),
    (["generate", "m", "-p", "x", "--json", "--stream"], "not both"), (["devices", "x"], "x"), (["doctor", "x"], "x"), (["completion"], "bash"),
    (["completion", "ksh"], "bash"), (["logits", "m", "--tokens", "1"], "-o FILE"), (["logits", "m", "-o", "x"], "--tokens"),
    (["logits", "m", "-o", "x", "--tokens", "1", "--tokens-file", "y"], "--tokens")))
def test_bad_usage(refused, args, name):
    assert name in refused("usage.argument", *args, status=2)


@pytest.mark.parametrize("command, option", (("tokenize", "--temp"), ("devices", "--ctx-size"), ("inspect", "-p"),
                                             ("plan", "--seed"), ("detokenize", "--no-bos"), ("bench", "--stop"),
                                             ("logits", "--json"), ("completion", "--json"), ("generate", "--tensors"),
                                             ("chat", "--no-bos"), ("status", "--temp"), ("cancel", "-c"), ("generate", "--history-file")))
def test_an_option_that_a_command_does_not_use_is_refused(refused, command, option):
    assert f"{option} is not used by this command" in refused("usage.argument", command, "m", option, "1", status=2)


@pytest.mark.parametrize("args", (["perplexity", "m"], ["quantize", "a", "b", "c"],
                                  ["models"],
                                  ["generate", "m", "--grammar", "x"], ["generate", "m", "--mirostat", "1"],
                                  ["generate", "m", "--dry-multiplier", "1"],
                                  ["generate", "m", "--lora=x"], ["plan", "m", "--no-mmap"]))
def test_what_is_not_built_is_named(refused, args):
    line = refused("usage.argument", *args, status=2)
    assert "not built yet" in line and (args[0] in line or args[2].split("=")[0] in line)


@pytest.mark.parametrize("option, value", (
    ("-n", "-2"), ("-n", "99999999999999999999"), ("-n", "1.5"), ("-n", ""), ("-c", "-1"), ("-c", "16777217"), ("-t", "0"),
    ("-t", "257"), ("-ub", "0"), ("-b", "0"), ("--temp", "nan"), ("--temp", "1e999"), ("--temp", "-0.1"), ("--top-k", "-1"),
    ("--top-p", "1.01"), ("--min-p", "x"), ("--repeat-penalty", "0"), ("--repeat-last-n", "-2"), ("--seed", "-2"),
    ("--logit-bias", "1"), ("--logit-bias", "x+1"), ("--logit-bias", "-1+1"), ("--logit-bias", "1+inf"), ("--stop", ""),
    ("--top-logprobs", "65"), ("-ctk", "q5_1"), ("-ctv", "f8")))
def test_a_value_out_of_range_is_named(refused, tiny, option, value):
    line = refused("usage.range", "generate", tiny("llama"), "-p", "x", "-n", "1", option, value, status=2)
    assert (value or "''") in line and ("e+" not in line)


def test_other_values_that_do_not_fit(refused, tiny):
    model = tiny("llama")
    refused("usage.argument", "generate", model, "-p", "x", "--device", "tpu", status=2)
    refused("request.token", "generate", model, "-p", "x", "--logit-bias", "512+1", status=2)
    refused("backend.cpu_tier", "generate", model, "-p", "x", env={"ROCMFORGE_CPU": "sse9"}, status=2)


def test_twins_in_the_environment(rocmforge_json, refused, tiny):
    model = str(tiny("llama"))
    env = {"ROCMFORGE_GGUF": model, "ROCMFORGE_MAX_TOKENS": "3", "ROCMFORGE_TEMPERATURE": "0", "ROCMFORGE_JSON": "1",
           "ROCMFORGE_PROMPT": "the", "ROCMFORGE_IGNORE_EOS": "true"}
    assert len(rocmforge_json("generate", env=env)["tokens"]) == 3
    assert len(rocmforge_json("generate", "-n", "2", env=env)["tokens"]) == 2, "the option wins"
    assert len(rocmforge_json("generate", env={**env, "ROCMFORGE_THREADS": ""})["tokens"]) == 3, "empty is not set"
    assert "ROCMFORGE_TOP_P" in refused("usage.range", "generate", env={**env, "ROCMFORGE_TOP_P": "2"}, status=2)
    refused("usage.range", "generate", env={**env, "ROCMFORGE_JSON": "maybe"}, status=2)
    rocmforge_json("plan", "--json", env={**env, "ROCMFORGE_TOP_P": "2"})  # a twin of what plan does not use


def test_the_option_wins_over_the_other_way_to_say_it(rocmforge_json, refused, tiny, tmp_path):
    path = tmp_path / "text"
    path.write_text("of the of the")
    args = ("generate", tiny("llama"), "--json", "-n", "0")
    from_file = rocmforge_json(*args, env={"ROCMFORGE_FILE": str(path)})
    assert from_file["prompt_tokens"] > rocmforge_json(*args, "-p", "of", env={"ROCMFORGE_FILE": str(path)})["prompt_tokens"]
    assert from_file["prompt_tokens"] == rocmforge_json(*args, "-f", path, env={"ROCMFORGE_PROMPT": "x"})["prompt_tokens"]
    refused("usage.argument", *args, env={"ROCMFORGE_FILE": str(path), "ROCMFORGE_PROMPT": "x"}, status=2)


def test_a_list_in_the_environment_is_replaced_not_joined(rocmforge_json, tiny):
    args = ("generate", tiny("llama"), "-p", "the", "--json", "--temp", "0", "-n", "1", "--ignore-eos")
    first = rocmforge_json(*args)["tokens"][0]
    banned = {"ROCMFORGE_LOGIT_BIAS": f"{first}-inf"}
    assert rocmforge_json(*args, env=banned)["tokens"][0] != first
    assert rocmforge_json(*args, "--logit-bias", "5+0", env=banned)["tokens"][0] == first


def test_older_names_still_work(rocmforge, rocmforge_json, tiny):
    model = tiny("llama")
    assert rocmforge_json("inspect_gguf", model, "--json") == rocmforge_json("inspect", model, "--json")
    args = ("--prompt", "the", "--max-tokens", "2", "--temperature", "0", "-q")
    assert rocmforge("generate", "--gguf", model, "--stream", *args).out == rocmforge("generate", model, *args).out
    done = rocmforge("devices", env={"ROCFORGE_WARP_SIZE": "64", "ROCMFORGE_GPU_DEVICE": "0"})
    assert done.err.count("warning") == 1 and "--device" in done.err


@pytest.mark.parametrize("variable, word", (
    ("ROCFORGE_GPU_DEVICE", "--device"), ("ROCMFORGE_GPU_DEVICE", "--device"), ("ROCMFORGE_TOKENIZER", "GGUF"),
    ("ROCMFORGE_MODELS", "ROCMFORGE_GGUF"), ("ROCmFORGE_MODEL_DIR", "ROCMFORGE_GGUF"), ("ROCFORGE_TEST_MODEL", "runtests"),
    ("ROCFORGE_BLOCK_SIZE", "kernels"), ("ROCFORGE_WARP_SIZE", "kernels"), ("ROCFORGE_TILE_K", "kernels"),
    ("ROCFORGE_TILE_N", "kernels"), ("ROCFORGE_USE_LDS", "kernels"), ("ROCFORGE_LDS_SIZE", "kernels"), ("ROCm_ARCH", "device"),
    ("HIPCC", "meson"), ("RUSTC_VERSION", "meson"), ("SWIGLU_HSACO", "kernels"), ("FUSED_ROPE_KVAPPEND_HSACO", "kernels")))
def test_older_variables_without_effect_are_answered_once(rocmforge, variable, word):
    said = rocmforge("devices", env={variable: "1"}).err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"rocmforge: warning: {variable} has no effect: ") and word in said[0]
    said = rocmforge("devices", env={variable: "1", "ROCFORGE_TILE_M": "8", "HIPCC": "x", "RUSTC_VERSION": "y"}).err.splitlines()
    assert len(said) == 1 and "more of the older" in said[0]


@pytest.mark.parametrize("variable, value", (
    ("ROCM_PATH", "/opt/rocm"), ("HIP_LAUNCH_BLOCKING", "1"), ("ROCFORGE_LOG_LEVEL", "debug"), ("ROCFORGE_LOG_FORMAT", "json"),
    ("RUST_LOG", "warn,hyper=debug"), ("ROCMFORGE_MAX_TRACES", "5"), ("ROCFORGE_MAX_TRACES", "5"), ("ROCMFORGE_GGUF", "x")))
def test_variables_that_mean_something_are_not_warned_of(rocmforge, variable, value):
    assert rocmforge("devices", env={variable: value}).err == ""
