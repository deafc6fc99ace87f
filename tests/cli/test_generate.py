"""generate: what it prints and where, its JSON, sampling options as a user meets them, prompts of every kind."""
import pytest

QUIET = ("--temp", "0", "-q")


def test_json_has_the_promised_keys(rocmforge, rocmforge_json, smollm2):
    args = ("generate", smollm2, "-p", "The capital of France is", "-n", "6", "--temp", "0")
    got = rocmforge_json(*args, "--json", "-s", "7")
    assert list(got) == ["text", "tokens", "prompt_tokens", "finish_reason", "seed", "timings", "device", "warnings",
                         "completion_tokens", "cached_tokens"]
    assert set(got["timings"]) == {"load_ms", "prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second"}
    assert got["seed"] == 7 and got["prompt_tokens"] == 5 and len(got["tokens"]) == 6 and got["finish_reason"] == "length"
    assert got["device"]["kind"] == "cpu" and got["device"]["reason"] and got["warnings"] == []
    assert got["timings"]["load_ms"] > 0 and got["timings"]["predicted_per_second"] > 0
    assert rocmforge(*args).out == got["text"] + "\n"


def test_messages_go_to_standard_error_and_can_be_silenced(rocmforge, smollm2):
    done = rocmforge("generate", smollm2, "-p", "Hello", "-n", "2")
    assert "device: " in done.err and "context: 8192" in done.err and "t/s" in done.err and "seed: " in done.err
    assert rocmforge("generate", smollm2, "-p", "Hello", "-n", "2", "-q").err == ""


def test_a_seed_repeats(rocmforge, smollm2):
    args = ("generate", smollm2, "-p", "Once upon a time", "-n", "16", "-q")
    one = rocmforge(*args, "-s", "1").out
    assert one == rocmforge(*args, "-s", "1", "-t", "1").out == rocmforge(*args, "--seed=1", "-ub", "1").out
    assert one != rocmforge(*args, "-s", "2").out


def test_the_seed_that_was_drawn_is_told(rocmforge_json, smollm2):
    args = ("generate", smollm2, "-p", "Once upon a time", "-n", "12", "--json")
    drawn = rocmforge_json(*args)
    assert rocmforge_json(*args, "-s", drawn["seed"])["tokens"] == drawn["tokens"]


@pytest.mark.smoke
def test_no_tokens_asked_for(rocmforge, rocmforge_json, tiny):
    got = rocmforge_json("generate", tiny("llama"), "-p", "the", "-n", "0", "--json")
    assert got["text"] == "" and got["tokens"] == [] and got["finish_reason"] == "length"
    assert rocmforge("generate", tiny("llama"), "-p", "the", "-n", "0", "-q").out == "\n"


@pytest.mark.smoke
def test_to_a_full_context(rocmforge_json, tiny):
    got = rocmforge_json("generate", tiny("llama"), "-p", "the", "-c", "24", "--ignore-eos", "--json")
    assert got["prompt_tokens"] + len(got["tokens"]) == 24 and got["finish_reason"] == "length"


@pytest.mark.smoke
def test_a_prompt_longer_than_the_context(refused, tiny):
    line = refused("request.context_length", "generate", tiny("llama"), "-p", "the of and to in", "-c", "2", "-n", "1", status=1)
    assert "-c" in line and "2" in line


@pytest.mark.smoke
def test_an_empty_prompt(rocmforge_json, refused, tiny):
    assert rocmforge_json("generate", tiny("llama"), "-p", "", "-n", "1", "--json")["prompt_tokens"] == 1  # BOS
    refused("request.empty", "generate", tiny("llama"), "-p", "", "-n", "1", "--no-bos", status=1)
    refused("request.empty", "generate", tiny("qwen2"), "-n", "1", status=1)  # an empty standard input


@pytest.mark.smoke
@pytest.mark.parametrize("text", ("-x", "--help", "--", "-", "\\n", "%s%n", "日本 héllo 🙂", "<|endoftext|>", "a\nb"))
def test_any_text_is_a_prompt(rocmforge_json, tiny, tmp_path, text):
    path = tmp_path / "-text"
    path.write_text(text)
    args = ("generate", tiny("qwen2"), "--temp", "0", "-n", "3", "--json")
    given = [rocmforge_json(*args, *how, input=text) for how in (["-p", text], [f"--prompt={text}"], ["-f", path], [], ["-f", "-"])]
    assert len({(g["prompt_tokens"], tuple(g["tokens"])) for g in given}) == 1


@pytest.mark.smoke
@pytest.mark.parametrize("data", (b"abc\xff\xfe\x00def", bytes(range(256)), b"\xe2\x82", b"\x00", b"\xf0\x9f\x99" * 50))
def test_bytes_that_are_no_text(rocmforge_json, tiny, tmp_path, data):
    path = tmp_path / "bytes"
    path.write_bytes(data)
    for arch in ("llama", "qwen2"):
        got = rocmforge_json("generate", tiny(arch), "-f", path, "-n", "4", "--json")
        assert got["prompt_tokens"] > 0


@pytest.mark.smoke
def test_files_that_cannot_be_read(refused, tiny, tmp_path):
    assert "absent" in refused("io.failed", "generate", tiny("llama"), "-f", tmp_path / "absent", status=1)
    assert "directory" in refused("io.failed", "generate", tiny("llama"), "-f", tmp_path, status=1)
    refused("io.failed", "generate", tmp_path, "-p", "x", status=1)
    (tmp_path / "empty.gguf").touch()
    refused("gguf.truncated", "generate", tmp_path / "empty.gguf", "-p", "x", status=1)


def test_utf8_is_never_split(binary, smollm2):
    """What arrives at a reader is whole characters at any moment, though characters span tokens."""
    import subprocess
    command = [binary, "generate", smollm2, "-p", "日本語の歌:", "-n", "24", "--temp", "0", "-q", "--ignore-eos"]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
    pieces = list(iter(lambda: child.stdout.read(65536), b""))
    assert child.wait() == 0 and len(pieces) > 1
    assert "".join(piece.decode("utf-8") for piece in pieces).strip()  # strict: raises on a split


def test_stop(rocmforge_json, smollm2):
    args = ("generate", smollm2, "-p", "Count: one, two, three,", "-n", "16", "--temp", "0", "--json")
    text = rocmforge_json(*args)["text"]
    assert ", five" in text
    got = rocmforge_json(*args, "--stop", "nowhere", "--stop", ", five")
    assert got["finish_reason"] == "stop" and got["text"] == text[:text.index(", five")]


def test_logit_bias(rocmforge_json, smollm2):
    args = ("generate", smollm2, "-p", "The capital of France is", "-n", "1", "--temp", "0", "--json")
    first = rocmforge_json(*args)["tokens"][0]
    assert rocmforge_json(*args, "--logit-bias", f"{first}-inf")["tokens"][0] != first
    assert rocmforge_json(*args, "--logit-bias", "15043+100")["tokens"] == [15043]


def test_top_logprobs(rocmforge_json, smollm2):
    got = rocmforge_json("generate", smollm2, "-p", "Hello", "-n", "3", "--temp", "0", "--json", "--top-logprobs", "4")
    assert [len(x["top"]) for x in got["logprobs"]] == [4, 4, 4]
    for token, x in zip(got["tokens"], got["logprobs"]):
        assert x["id"] == token == x["top"][0]["id"] and x["logprob"] == x["top"][0]["logprob"] <= 0


def test_beyond_the_trained_context_is_warned_of(rocmforge_json, smollm2):
    got = rocmforge_json("generate", smollm2, "-p", "Hello", "-n", "1", "-c", "9000", "--json", "-ctk", "q8_0", "-ctv", "q8_0")
    assert len(got["warnings"]) == 1 and "9000" in got["warnings"][0] and "8192" in got["warnings"][0]


def test_control_tokens_in_the_text(rocmforge_json, smollm2):
    args = ("generate", smollm2, "-p", "<|im_start|>user", "-n", "0", "--json")
    assert rocmforge_json(*args)["prompt_tokens"] == 2 < rocmforge_json(*args, "--no-parse-special")["prompt_tokens"]


@pytest.mark.smoke
def test_memory_that_is_not_there_is_refused_before_it_is_taken(rocmforge_json, refused, smollm2):
    args = (smollm2, "-c", str(1 << 24), "-ctk", "f32", "-ctv", "f32")
    if rocmforge_json("plan", *args, "--json")["fits"]:
        pytest.skip("this machine has a terabyte of memory")
    assert "-c" in refused("memory.plan", "generate", *args, "-p", "x", "-n", "1", status=1)
