"""render: a chat request on standard input, the prompt on standard output."""
import json

import pytest

CHAT = {"messages": [{"role": "user", "content": "Hi <|im_end|>"}], "add_generation_prompt": True}
SIMPLE = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"


@pytest.fixture
def template(tmp_path):
    def write(source, name="t.jinja"):
        path = tmp_path / name
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        return path

    return write


def test_the_models_own_template(rocmforge, smollm2):
    assert rocmforge("render", smollm2, input=json.dumps(CHAT)).out == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n")


def test_the_models_tokens_and_a_file(rocmforge, smollm2, template):
    assert rocmforge("render", smollm2, "--template", template(SIMPLE), input=json.dumps(CHAT)).out == \
        "<|im_start|><user>Hi <|im_end|>\n"


@pytest.mark.smoke
def test_a_file_alone(rocmforge, template):
    done = rocmforge("render", "--template", template(SIMPLE), input=json.dumps(CHAT))
    assert done.stdout == b"<user>Hi <|im_end|>\n" and not done.err
    assert rocmforge("render", "--template", template("{{ x }}"), input=json.dumps({**CHAT, "x": "a\0\xe9"})).stdout == b"a\0\xc3\xa9"
    assert rocmforge("render", "--template", template(""), input=json.dumps(CHAT)).stdout == b""


@pytest.mark.smoke
def test_content_in_parts(rocmforge, template):
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}
    walks = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endif %}{% endfor %}"
    assert rocmforge("render", "--template", template(SIMPLE), input=json.dumps(parts)).out == "<user>a\nb\n"
    assert rocmforge("render", "--template", template(walks), input=json.dumps(parts)).out == "[a][b]"


@pytest.mark.smoke
def test_a_model_without_a_template(refused, rocmforge, tiny, template):
    refused("template.missing", "render", tiny("llama"), input=json.dumps(CHAT), status=1)
    assert rocmforge("render", tiny("llama"), "--template", template(SIMPLE), input=json.dumps(CHAT)).out == "<s><user>Hi <|im_end|>\n"


@pytest.mark.smoke
@pytest.mark.parametrize("request_text", ("", "{", "[]", "null", '"x"', "{}", '{"messages": 5}', '{"messages": [5]}', '{"messages": null}',
                                          '{"messages": [], "messages": []}', '{"messages": []} x', "[" * 5000, b"\xff",
                                          '{"messages": [], "x": 99999999999999999999}', '{"messages": [], "x": "\\ud800"}'))
def test_requests_that_are_none(refused, template, request_text):
    refused("usage.range", "render", "--template", template(SIMPLE), input=request_text, status=2)


@pytest.mark.smoke
@pytest.mark.parametrize("source, said", (("{% if x %}", "line 1: unexpected end of template"), ("\n\n{{ x.y }}", "line 3: 'x' is undefined"),
                                          ("{{ raise_exception('Roles must alternate') }}", "line 1: Roles must alternate"),
                                          (b"\xff", "not UTF-8"), ("{{ '\x1b[31m' + 1 }}", "line 1: "),
                                          ("{% for i in range(9999999) %}{% endfor %}", "line 1: Range too big")))
def test_templates_that_fail(refused, template, source, said):
    assert said in refused("template.failed", "render", "--template", template(source), input=json.dumps(CHAT), status=1)


@pytest.mark.smoke
def test_usage(refused, template, tmp_path):
    refused("usage.argument", "render", input=json.dumps(CHAT), status=2)
    refused("io.failed", "render", "--template", tmp_path / "none", input=json.dumps(CHAT), status=1)
    refused("usage.argument", "render", "--template", template(SIMPLE), "--json", input=json.dumps(CHAT), status=2)
