"""Conversations: one turn, from a pipe, and on a terminal; their commands, files and limits."""
import json
import os
import re
import stat
import subprocess
import termios

import pytest

from terminal import Terminal

CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # what SmolLM2's template says where nobody does
SUMMARY = re.compile(r"prompt: (\d+) tokens?(?: \((\d+) cached\))?, .* \| generated: (\d+) tokens?, .* \| (.*)")


def prompt(*messages, system=SYSTEM):
    said = [("system", system), *messages]
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said) + "<|im_start|>assistant\n"


def summaries(text):
    return [(int(p), int(c or 0), int(n), end) for p, c, n, end in SUMMARY.findall(text)]


@pytest.fixture
def talk(rocmforge, smollm2, tmp_path):
    """talk(lines, *options): a conversation from a pipe, greedy, of short answers."""

    def run(lines, *options, **more):
        text = "".join(line + "\n" for line in lines)
        return rocmforge("chat", smollm2, "--temp", "0", "-n", "12", "-c", "1024", *options, input=text, **more)

    return run


@pytest.fixture(scope="session")
def plain_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "plain.jinja"
    path.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:")
    return path


@pytest.fixture
def tiny_talk(rocmforge, tiny, plain_template):
    """The same with a tiny random model: short enough for the sanitizers."""

    def run(lines, *options, **more):
        text = "".join(line + "\n" for line in lines)
        return rocmforge("chat", tiny("llama"), "--chat-template-file", plain_template, "--temp", "0", "-n", "4", "-c", "256",
                         "--ignore-eos", *options, input=text, **more)

    return run


# --- one turn -------------------------------------------------------------------------------------------------------------

def test_one_turn_is_the_template_continued(rocmforge, smollm2):
    got = rocmforge("chat", smollm2, "-p", "What is the capital of France?", "--temp", "0", "-n", "20")
    want = rocmforge("generate", smollm2, "-p", prompt(("user", "What is the capital of France?")), "--temp", "0", "-n", "20", "-q")
    assert got.out == want.out and got.out.endswith("\n")
    assert len(summaries(got.err)) == 1


def test_the_system_prompt(rocmforge, smollm2):
    for name in ("-sys", "--system-prompt"):
        got = rocmforge("chat", smollm2, "-p", "Hello", name, "You are a pirate.", "--temp", "0", "-n", "20", "-q")
        want = rocmforge("generate", smollm2, "-p", prompt(("user", "Hello"), system="You are a pirate."), "--temp", "0", "-n", "20", "-q")
        assert got.out == want.out and got.err == ""


def test_what_is_said_is_never_a_control_token(rocmforge_json, smollm2):
    text = "a<|im_end|>b"
    got = rocmforge_json("chat", smollm2, "-p", text, "-n", "0", "--json")["prompt_tokens"]
    parsed = rocmforge_json("generate", smollm2, "-p", prompt(("user", text)), "-n", "0", "--json")["prompt_tokens"]
    assert got > parsed


def test_json(rocmforge_json, smollm2):
    got = rocmforge_json("chat", smollm2, "-p", "Hello", "--temp", "0", "-n", "5", "--json", "--seed", "7", "--top-logprobs", "2")
    assert got["finish_reason"] == "length" and len(got["tokens"]) == 5 == got["completion_tokens"] and got["seed"] == 7
    assert got["prompt_tokens"] > 10 and got["device"]["kind"] == "cpu" and got["warnings"] == [] and got["text"]
    assert [len(p["top"]) for p in got["logprobs"]] == [2] * 5 and "reasoning_content" not in got


def test_a_seed_draws_the_same_again(rocmforge, smollm2):
    args = ("chat", smollm2, "-p", "Tell me a story", "-n", "20", "-q", "--temp", "1.2")
    texts = [rocmforge(*args, "--seed", seed).out for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.smoke
def test_bad_usage(refused, tiny, plain_template, tmp_path):
    model = tiny("llama")
    assert "--chat-template-file" in refused("template.missing", "chat", model, "-p", "x", status=1)
    for args in (["--json"], ["-p", "x", "--json", "--stream"], ["-p", "x", "--top-logprobs", "1"], ["-p", "x", "-f", "y"]):
        refused("usage.argument", "chat", model, "--chat-template-file", plain_template, *args, status=2)
    for args in (["--reasoning", "loud"], ["--chat-template-kwargs", "[]"], ["--chat-template-kwargs", "{"]):
        refused("usage.range", "chat", model, "--chat-template-file", plain_template, "-p", "x", *args, status=2)
    refused("io.failed", "chat", model, "--chat-template-file", tmp_path / "absent", "-p", "x", status=1)
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% for m in %}")
    refused("template.failed", "chat", model, "--chat-template-file", broken, "-p", "x", "-q", status=1)


@pytest.mark.smoke
def test_variables_of_the_template(rocmforge, tiny, tmp_path):
    path = tmp_path / "t.jinja"
    path.write_text("{% if not enable_thinking %}{{ raise_exception('thinking is off') }}{% endif %}{{ messages[0].content }}")
    args = ("chat", tiny("llama"), "--chat-template-file", path, "-p", "x", "-q", "-n", "1")
    rocmforge(*args, "--chat-template-kwargs", '{"enable_thinking": true}')
    assert "thinking is off" in rocmforge(*args, status=1).err


def test_thinking_is_apart(rocmforge, rocmforge_json, smollm2, tmp_path):
    """A template that opens the tag: all that the model says is thought, unless it closes it."""
    path = tmp_path / "t.jinja"
    path.write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                    "<|im_start|>assistant\n<think>\n{# </think> #}")
    args = ("chat", smollm2, "--chat-template-file", path, "-p", "Hello", "--temp", "0", "-n", "10")
    got = rocmforge_json(*args, "--json")
    assert got["text"] == "" and len(got["reasoning_content"]) > 5
    assert rocmforge(*args, "-q").out == "\n", "hidden from a pipe"
    assert got["reasoning_content"] in rocmforge(*args, "-q", "--reasoning", "show").out
    assert rocmforge(*args, "-q", "--reasoning", "hide").out == "\n"


# --- from a pipe ----------------------------------------------------------------------------------------------------------

def test_one_message_a_line(talk, rocmforge, smollm2):
    got = talk(["My name is Ada.", "What is the capital of France?"], "-q")
    args = ("--temp", "0", "-n", "12", "-q")
    first = rocmforge("generate", smollm2, "-p", prompt(("user", "My name is Ada.")), *args).out
    so_far = (("user", "My name is Ada."), ("assistant", first[:-1]), ("user", "What is the capital of France?"))
    second = rocmforge("generate", smollm2, "-p", prompt(*so_far), *args).out
    assert got.out == first + second and got.err == ""


def test_a_second_turn_computes_only_what_is_new(talk):
    """The prefix cache knows the first turn's prompt and answer."""
    done = talk(["Tell me about the moon, please.", "And the sun?", "And the stars?"])
    turns = summaries(done.err)
    assert len(turns) == 3 and turns[0][1] == 0
    for before, now in zip(turns, turns[1:]):
        known = before[0] + before[2]
        assert now[1] >= before[0], "the whole prompt before is known"
        assert now[0] - now[1] <= now[0] - known + 2, f"computed anew: {now[0] - now[1]} of {now[0]}, {known} were known"


@pytest.mark.smoke
def test_several_lines(tiny_talk):
    fenced = summaries(tiny_talk(['"""one', "two", 'three"""']).err)
    apart = summaries(tiny_talk(["one", "two", "three"]).err)
    assert len(fenced) == 1 and len(apart) == 3
    assert len(summaries(tiny_talk(['"""one"""']).err)) == 1
    assert len(summaries(tiny_talk(['"""', "/exit", '"""', "two"]).err)) == 2, "a slash is text between them"
    assert summaries(tiny_talk(['"""', "one", '"""']).err) == summaries(tiny_talk(["one"]).err)


@pytest.mark.smoke
def test_empty_lines_say_nothing(tiny_talk):
    assert summaries(tiny_talk(["", "   ", "\r"]).err) == [] and tiny_talk([]).out == ""


@pytest.mark.smoke
@pytest.mark.parametrize("line", ("/exit", "/bye", "/quit"))
def test_commands_that_end_it(tiny_talk, line):
    assert len(summaries(tiny_talk(["one", line, "two"]).err)) == 1


@pytest.mark.smoke
def test_commands(tiny_talk):
    err = tiny_talk(["/foo", "/clear now", "/set", "/set top-k", "/set frob 1", "/set temp hot", "/set top_p 2", "/regen", "/load",
                     "/save", "one", "/help", "/?", "/system  You are terse. ", "/set top_k 7", "/set ignore-eos 0", "/show"]).err
    assert "error[usage.argument]: unknown command /foo; see /help" in err and "/clear takes nothing after it" in err
    assert err.count("error[usage.argument]: which setting?") == 2 and "no setting is called frob" in err
    assert err.count("error[usage.range]") == 2 and "nothing was said yet" in err and err.count("which file?") == 2
    shown = err[err.rindex("model: "):]
    assert "system: You are terse.\n" in shown and "top_k: 7\n" in shown and "messages: 2\n" in shown and "ignore_eos: false\n" in shown
    assert re.search(r"context: \d+ of 256 tokens", shown) and err.count("/regen") >= 2


@pytest.mark.smoke
def test_set_reaches_the_sampler(tiny_talk):
    done = tiny_talk(["/set max_tokens 2", "one", "/set n-predict 3", "one"])
    assert [s[2] for s in summaries(done.err)] == [2, 3]


def test_clear_forgets(talk):
    done = talk(["What is the capital of France?", "/clear", "What is the capital of France?"], "-q")
    lines = done.out.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2:] and "cleared" in done.err


def test_regen_draws_another_answer(talk):
    done = talk(["Tell me a story", "/regen", "/regen"], "--temp", "1.5", "--seed", "3")
    turns = summaries(done.err)
    assert len({t[0] for t in turns}) == 1, "the same prompt each time"
    first = talk(["Tell me a story"], "--temp", "1.5", "--seed", "3").out
    assert done.out.startswith(first) and done.out != first * 3


def test_save_and_load(talk, tmp_path):
    path = tmp_path / "talk.json"
    talk(["My name is Ada.", f"/save {path}"], "-sys", "You are kind.", "--top-k", "3")
    saved = json.loads(path.read_text())
    assert [m["role"] for m in saved["messages"]] == ["user", "assistant"] and saved["system"] == "You are kind."
    assert saved["model"].startswith("SmolLM2") and saved["settings"]["top_k"] == 3 and saved["settings"]["top_p"] == 0.95
    assert list(tmp_path.iterdir()) == [path], "nothing half-written stays"
    again = talk([f"/load {path}", "What is my name?", "/show"])
    straight = talk(["My name is Ada.", "What is my name?"], "-sys", "You are kind.", "--top-k", "3")
    assert straight.out.endswith(again.out) and "top_k: 3\n" in again.err and "loaded: 2 messages" in again.err


@pytest.mark.smoke
@pytest.mark.parametrize("text", (
    "", "{", "[]", "{}", '{"messages": {}}', '{"messages": [1]}', '{"messages": [{"role": "user"}]}',
    '{"messages": [{"role": "root", "content": "x"}]}', '{"messages": [], "system": 5}', '{"messages": [], "settings": []}',
    '{"messages": [], "settings": {"top_k": "many"}}', '{"messages": [], "settings": {"top_k": -5}}',
    '{"messages": [], "settings": {"frob": 1}}', '{"messages": [], "settings": {"host": "x"}}', "\x00" * 10, "[" * 100000))
def test_a_broken_file_is_a_message_not_the_end(tiny_talk, tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    done = tiny_talk(["one", f"/load {path}", "/show", "two"])
    assert done.err.count("rocmforge: error[") == 1 and "messages: 2\n" in done.err and len(summaries(done.err)) == 2


@pytest.mark.smoke
def test_files_that_cannot_be(tiny_talk, tmp_path):
    done = tiny_talk(["one", f"/load {tmp_path / 'absent'}", f"/save {tmp_path}", "/save /proc/x/y", "two"])
    assert done.err.count("error[io.failed]") == 3 and len(summaries(done.err)) == 2


def test_a_full_context_says_so_with_both_numbers(talk):
    done = talk(["Tell me a very long story about the sea.", "/set max_tokens 5", "Go on.", "/show", "/clear", "Hi"], "-c", "96", "-n", "-1",
                "--ignore-eos", status=1)
    assert "the context is full, 96 of 96 tokens" in done.err and "/clear" in done.err
    found = re.search(r"error\[request.context_length\]: the conversation has (\d+) tokens, the context holds 96: nothing was cut; /clear", done.err)
    assert found and int(found[1]) > 96 and "messages: 2\n" in done.err, "what found no room is not part of it"
    assert len(summaries(done.err)) == 2, "after /clear there is room"


@pytest.mark.smoke
def test_a_message_that_is_too_long(refused, tiny, plain_template):
    line = refused("request.context_length", "chat", tiny("llama"), "--chat-template-file", plain_template, "-c", "64", "-q", "-p", "the of " * 200, status=1)
    assert "the context holds 64" in line


@pytest.mark.smoke
def test_bytes_that_are_no_text(tiny_talk):
    assert len(summaries(tiny_talk(["\udcff caf\u00e9".encode("utf-8", "surrogateescape").decode("latin-1")]).err)) == 1


@pytest.mark.smoke
def test_a_reader_that_leaves(binary, tiny, plain_template):
    """Nobody listens: the rest of the conversation is not asked."""
    line = f'yes of | "$RF" chat "$M" --chat-template-file "$T" --temp 0 -n 4 --ignore-eos -q | head -c 1; echo "${{PIPESTATUS[1]}}" >&2'
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=120,
                          env={**os.environ, "RF": str(binary), "M": str(tiny("llama")), "T": str(plain_template)})
    assert len(done.stdout) == 1 and done.stderr == b"1\n"


# --- on a terminal --------------------------------------------------------------------------------------------------------

@pytest.fixture
def terminal(binary, smollm2, tmp_path):
    def start(*options, model=smollm2, env=None):
        return Terminal(binary, "chat", model, "--temp", "0", "-c", "2048", *options, env={"XDG_STATE_HOME": tmp_path / "state", **(env or {})})

    return start


@pytest.fixture
def tiny_terminal(terminal, tiny, plain_template):
    def start(*options, env=None):
        return terminal("--chat-template-file", plain_template, "-n", "4", "--ignore-eos", *options, model=tiny("llama"), env=env)

    return start


@pytest.mark.smoke
def test_a_conversation_on_a_terminal(tiny_terminal, tmp_path):
    with tiny_terminal() as t:
        t.expect("> ")
        t.type("hello\n")
        t.expect("length reached\n")
        t.expect("> ")
        t.type('"""of\n')
        t.expect("... ")
        t.type('the"""\n')
        t.expect("length reached\n")
        t.expect("> ")
        t.type("/nonsense\n")
        t.expect("unknown command /nonsense")
        t.expect("> ")
        t.type("/show\n")
        assert "messages: 4\n" in t.expect("temperature: ")
        t.expect("> ")
        t.type(CTRL_D)
        assert t.end() == 0
    path = tmp_path / "state" / "rocmforge" / "history"
    assert path.read_text().splitlines() == ["hello", '"""of', 'the"""', "/nonsense", "/show"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal, tmp_path):
    with terminal("--ignore-eos") as t:
        t.expect("> ")
        t.type("Tell me a long story\n")
        t.expect("Tell me a long story\n")
        t.expect(" ")
        t.more(150)
        t.type(CTRL_C)
        t.expect("| cancelled\n")
        t.expect("> ")
        t.type(f"/save {tmp_path / 'x.json'}\n")
        t.expect("saved: 2 messages")
        said = json.loads((tmp_path / "x.json").read_text())["messages"][1]["content"]
        assert len(said) > 10 and said[:20] in t.text, "the stopped answer stays"
        t.expect("> ")
        t.type("/set max_tokens 5\nGo on\n")
        t.expect("length reached\n")
        t.expect("> ")
        t.type(CTRL_C)
        t.expect("Ctrl-C again")
        t.expect("> ")
        t.type(CTRL_C)
        assert t.end() == 0


@pytest.mark.smoke
def test_ctrl_c_at_the_prompt_drops_the_line(tiny_terminal):
    with tiny_terminal() as t:
        t.expect("> ")
        for _ in range(3):  # never two in a row at an empty prompt
            t.type("some text")
            t.expect("some text")
            t.type(CTRL_C)
            t.expect("\n> ")
            t.type(CTRL_C)
            t.expect("Ctrl-C again")
            t.expect("> ")
        t.type('"""\n')
        t.expect("... ")
        t.type(CTRL_C)
        t.expect("\n> ")
        t.type("/exit\n")
        assert t.end() == 0 and "error" not in t.text and "generated" not in t.text


@pytest.mark.smoke
def test_history_is_found_again(tiny_terminal, tmp_path):
    for keys in ("of the\n", UP + UP + "\n"):
        with tiny_terminal() as t:
            t.expect("> ")
            t.type(keys)
            t.expect("of the")
            t.expect("length reached\n")
            t.expect("> ")
            t.type("/exit\n")
            assert t.end() == 0
    path = tmp_path / "state" / "rocmforge" / "history"
    assert path.read_text().splitlines() == ["of the", "/exit", "of the", "/exit"]


@pytest.mark.smoke
def test_history_is_bounded_and_private(tiny_terminal, tmp_path):
    path = tmp_path / "typed"
    path.write_text("".join(f"line {i}\n" for i in range(5000)) + "\x1b[31mred\n\udcff\n".encode("utf-8", "surrogateescape").decode("latin-1"))
    path.chmod(0o644)
    with tiny_terminal("--history-file", path) as t:
        t.expect("> ")
        t.type(UP)
        t.type(UP)
        t.type("\n")
        t.expect("length reached\n")
        t.expect("> ")
        t.type(CTRL_D)
        assert t.end() == 0 and "\x1b[31mred" not in t.text
    lines = path.read_text(errors="replace").splitlines()
    assert len(lines) <= 1001 and stat.S_IMODE(path.stat().st_mode) == 0o600 and "line 4999" in lines and "line 5" not in lines


@pytest.mark.smoke
def test_no_history(tiny_terminal, tmp_path):
    with tiny_terminal("--no-history") as t:
        t.expect("> ")
        t.type("secret\n")
        t.expect("length reached\n")
        t.expect("> ")
        t.type(UP)
        t.expect("secret")  # of this conversation: kept in memory only
        t.type(CTRL_C)
        t.expect("\n> ")
        t.type(CTRL_D)
        assert t.end() == 0
    assert not (tmp_path / "state").exists()


@pytest.mark.smoke
def test_a_history_that_cannot_be_kept(tiny_terminal, tmp_path):
    with tiny_terminal("--history-file", tmp_path / "absent" / "x") as t:
        t.expect("no history is kept")
        t.expect("> ")
        t.type(CTRL_D)
        assert t.end() == 0


@pytest.mark.smoke
def test_a_prompt_takes_keys_at_once(tiny_terminal):
    """Who sees the prompt may type: the terminal is past making lines of its own, where Ctrl-D would be lost."""
    with tiny_terminal() as t:
        for _ in range(20):
            t.expect("> ")
            assert not termios.tcgetattr(t.fd)[3] & termios.ICANON
            t.type("/clear\n")
        t.expect("> ")
        t.type(CTRL_D)
        assert t.end() == 0


@pytest.mark.smoke
def test_editing_and_characters(tiny_terminal, tmp_path):
    with tiny_terminal(env={"LC_ALL": "C"}) as t:
        t.expect("> ")
        t.type("caf\u00e9 \u4e16x\x7f\x01>>\x05!\n")  # backspace, to the beginning, to the end
        t.expect("length reached\n")
        t.expect("> ")
        t.type(CTRL_D)
        assert t.end() == 0
    assert (tmp_path / "state" / "rocmforge" / "history").read_text() == ">>caf\u00e9 \u4e16!\n"


@pytest.mark.smoke
@pytest.mark.parametrize("sig", ("SIGTERM", "SIGHUP"))
def test_ended_from_outside(tiny_terminal, sig):
    import signal
    with tiny_terminal() as t:
        t.expect("> ")
        os.kill(t.child, getattr(signal, sig))
        assert t.end() == 130


def test_thinking_is_dimmed_on_a_terminal(terminal, tmp_path):
    path = tmp_path / "t.jinja"
    path.write_text("<|im_start|>user\n{{ messages[-1].content }}<|im_end|>\n<|im_start|>assistant\n<think>\n{# </think> #}")
    for env, dimmed in (({}, True), ({"NO_COLOR": "1"}, False)):
        with terminal("--chat-template-file", path, "-n", "8", "-p", "Hello", env=env) as t:
            assert t.end() == 0
            assert ("\x1b[2m" in t.text) == dimmed
