"""Every field of the OpenAI routes: what is taken, what is refused, and which field the refusal names."""
import pytest

CHAT, TEXT, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
BASE = {CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "temperature": 0},
        TEXT: {"prompt": "hi", "max_tokens": 1, "temperature": 0},
        EMBED: {"input": "hi"}}
BIG = 2**53 + 2


def user(content):
    return {"messages": [{"role": "user", "content": content}]}


def message(**fields):
    return {"messages": [{"role": "user", "content": "hi"}, fields]}


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}

# route, what is put over the base, status, the param of a refusal (None: taken)
BOTH = [  # of chat and text alike
    ({"model": "any name at all"}, 200, None),
    ({"model": 5}, 400, "model"),
    ({"model": ["x"]}, 400, "model"),
    ({"max_tokens": 2}, 200, None),
    ({"max_tokens": 2.0}, 200, None),
    ({"max_tokens": -1, "stop": [" ", "a", "e", "\n"]}, 200, None),
    ({"max_tokens": -2}, 400, "max_tokens"),
    ({"max_tokens": "5"}, 400, "max_tokens"),
    ({"max_tokens": 1.5}, 400, "max_tokens"),
    ({"max_tokens": BIG}, 400, "max_tokens"),
    ({"max_tokens": 1e308}, 400, "max_tokens"),
    ({"max_tokens": []}, 400, "max_tokens"),
    ({"max_tokens": {}}, 400, "max_tokens"),
    ({"max_tokens": True}, 400, "max_tokens"),
    ({"max_tokens": None, "stop": [" ", "a", "e", "\n"]}, 200, None),
    ({"max_completion_tokens": 1}, 200, None),
    ({"max_completion_tokens": -2}, 400, "max_completion_tokens"),
    ({"n_predict": 1}, 200, None),
    ({"temperature": 2}, 200, None),
    ({"temperature": 2.01}, 400, "temperature"),
    ({"temperature": -0.1}, 400, "temperature"),
    ({"temperature": "0"}, 400, "temperature"),
    ({"temperature": None}, 200, None),
    ({"top_p": 0.5}, 200, None),
    ({"top_p": 1.1}, 400, "top_p"),
    ({"top_p": -1}, 400, "top_p"),
    ({"top_k": 40}, 200, None),
    ({"top_k": -1}, 200, None),
    ({"top_k": -2}, 400, "top_k"),
    ({"top_k": 1.5}, 400, "top_k"),
    ({"top_k": 2**31}, 400, "top_k"),
    ({"min_p": 0.1}, 200, None),
    ({"min_p": 2}, 400, "min_p"),
    ({"presence_penalty": -2}, 200, None),
    ({"presence_penalty": 2.5}, 400, "presence_penalty"),
    ({"frequency_penalty": 2}, 200, None),
    ({"frequency_penalty": -3}, 400, "frequency_penalty"),
    ({"repeat_penalty": 1.1}, 200, None),
    ({"repetition_penalty": 1.1}, 200, None),
    ({"repeat_penalty": 0}, 400, "repeat_penalty"),
    ({"repetition_penalty": "x"}, 400, "repetition_penalty"),
    ({"repeat_last_n": -1}, 200, None),
    ({"repeat_last_n": -2}, 400, "repeat_last_n"),
    ({"seed": 7}, 200, None),
    ({"seed": -5}, 200, None),
    ({"seed": "x"}, 400, "seed"),
    ({"seed": 1.5}, 400, "seed"),
    ({"n": 2}, 200, None),
    ({"n": 0}, 400, "n"),
    ({"n": 17}, 400, "n"),
    ({"n": -1}, 400, "n"),
    ({"n": "2"}, 400, "n"),
    ({"n": 2, "best_of": 2}, 200, None),
    ({"best_of": 3}, 400, "best_of"),
    ({"stop": "x"}, 200, None),
    ({"stop": ["x", "y"]}, 200, None),
    ({"stop": []}, 200, None),
    ({"stop": None}, 200, None),
    ({"stop": 5}, 400, "stop"),
    ({"stop": ["x", 5]}, 400, "stop"),
    ({"stop": ["x"] * 65}, 400, "stop"),
    ({"stop": "a\0b"}, 400, "stop"),
    ({"logit_bias": {"5": 1.5}}, 200, None),
    ({"logit_bias": {}}, 200, None),
    ({"logit_bias": {"999999999": 1}}, 400, "logit_bias"),
    ({"logit_bias": {"5": "x"}}, 400, "logit_bias"),
    ({"logit_bias": "x"}, 400, "logit_bias"),
    ({"logit_bias": [[5, 1]]}, 200, None),
    ({"logit_bias": [5]}, 400, "logit_bias"),
    ({"stream": "yes"}, 400, "stream"),
    ({"stream": 1}, 400, "stream"),
    ({"stream": False}, 200, None),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}, 200, None),
    ({"stream": True, "stream_options": {"include_usage": 1}}, 400, "stream_options.include_usage"),
    ({"stream": True, "stream_options": {"x": 1}}, 400, "stream_options"),
    ({"stream": True, "stream_options": []}, 400, "stream_options"),
    ({"ignore_eos": True}, 200, None),
    ({"ignore_eos": 1}, 400, "ignore_eos"),
    ({"cache_prompt": False}, 200, None),
    ({"skip_special_tokens": False}, 200, None),
    ({"response_format": {"type": "text"}}, 200, None),
    ({"response_format": {"type": "json_object"}}, 400, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, 400, "response_format.type"),
    ({"response_format": "text"}, 400, "response_format"),
    ({"grammar": "root ::= \"a\""}, 400, "grammar"),
    ({"json_schema": {"type": "object"}}, 400, "json_schema"),
    ({"guided_json": {"type": "object"}}, 400, "guided_json"),
    ({"stop_token_ids": [1]}, 400, "stop_token_ids"),
    ({"stop_token_ids": []}, 200, None),
    ({"min_tokens": 3}, 400, "min_tokens"),
    ({"min_tokens": 0}, 200, None),
    ({"prompt_logprobs": 1}, 400, "prompt_logprobs"),
    ({"lora": [{"id": 0, "scale": 1}]}, 400, "lora"),
    ({"mirostat": 2}, 400, "mirostat"),
    ({"mirostat": 0, "mirostat_tau": 5}, 200, None),
    ({"dry_multiplier": 0.8}, 400, "dry_multiplier"),
    ({"xtc_probability": 0.5}, 400, "xtc_probability"),
    ({"typical_p": 1}, 200, None),
    ({"typical_p": 0.5}, 400, "typical_p"),
    ({"not_a_field": 1}, 400, "not_a_field"),
    ({"N": 1}, 400, "N"),
]
CASES = [(route, *case) for route in (CHAT, TEXT) for case in BOTH] + [
    (CHAT, {"messages": None}, 400, "messages"),
    (CHAT, {"messages": []}, 400, "messages"),
    (CHAT, {"messages": "hi"}, 400, "messages"),
    (CHAT, {"messages": {"role": "user"}}, 400, "messages"),
    (CHAT, {"messages": ["hi"]}, 400, "messages[0]"),
    (CHAT, message(role="owner", content="x"), 400, "messages[1].role"),
    (CHAT, message(role=5, content="x"), 400, "messages[1].role"),
    (CHAT, message(content="x"), 400, "messages[1].role"),
    (CHAT, message(role="assistant", content=None), 400, "messages[1].content"),
    (CHAT, message(role="assistant"), 400, "messages[1].content"),
    (CHAT, message(role="user", content=5), 400, "messages[1].content"),
    (CHAT, message(role="user", content={}), 400, "messages[1].content"),
    (CHAT, message(role="user", content=None), 400, "messages[1].content"),
    (CHAT, user([]), 400, "messages[0].content"),
    (CHAT, user(["x"]), 400, "messages[0].content[0]"),
    (CHAT, user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), 200, None),
    (CHAT, user([{"type": "text"}]), 400, "messages[0].content[0].text"),
    (CHAT, user([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:"}}]), 400, "messages[0].content[1]"),
    (CHAT, user([{"type": "input_audio", "input_audio": {}}]), 400, "messages[0].content[0]"),
    (CHAT, {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]}, 200, None),
    (CHAT, {"messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": "hi"}]}, 200, None),
    (CHAT, message(role="assistant", content="x", refusal=None, annotations=[]), 200, None),
    (CHAT, message(role="assistant", content=None, tool_calls=[CALL]), 200, None),
    (CHAT, message(role="assistant", content=None, tool_calls="x"), 400, "messages[1].tool_calls"),
    (CHAT, message(role="assistant", content=None, tool_calls=[{"function": {}}]), 400, "messages[1].tool_calls[0].function"),
    (CHAT, message(role="assistant", content=None, tool_calls=[{"function": {"name": "f", "arguments": "no"}}]), 400,
     "messages[1].tool_calls[0].function.arguments"),
    (CHAT, message(role="user", content="x", name=5), 400, "messages[1].name"),
    (CHAT, message(role="tool", content="x", tool_call_id=5), 400, "messages[1].tool_call_id"),
    (CHAT, message(role="assistant", content="x", reasoning_content=[]), 400, "messages[1].reasoning_content"),
    (CHAT, {"max_tokens": 0}, 400, "max_tokens"),
    (CHAT, {"logprobs": True}, 200, None),
    (CHAT, {"logprobs": 1}, 400, "logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": 20}, 200, None),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": -1}, 400, "top_logprobs"),
    (CHAT, {"top_logprobs": 2}, 400, "top_logprobs"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools"),
    (CHAT, {"tools": []}, 200, None),
    (CHAT, {"functions": [{"name": "f"}]}, 400, "functions"),
    (CHAT, {"tool_choice": "none"}, 200, None),
    (CHAT, {"tool_choice": "auto"}, 400, "tool_choice"),
    (CHAT, {"tool_choice": "required"}, 400, "tool_choice"),
    (CHAT, {"tool_choice": {"type": "function", "function": {"name": "f"}}}, 400, "tool_choice"),
    (CHAT, {"modalities": ["text"]}, 200, None),
    (CHAT, {"modalities": ["text", "audio"]}, 400, "modalities"),
    (CHAT, {"audio": {"voice": "x"}}, 400, "audio"),
    (CHAT, {"prediction": {"type": "content", "content": "x"}}, 400, "prediction"),
    (CHAT, {"web_search_options": {"user_location": 1}}, 400, "web_search_options"),
    (CHAT, {"reasoning_effort": "low"}, 200, None),
    (CHAT, {"reasoning_effort": "none"}, 200, None),
    (CHAT, {"reasoning_effort": "huge"}, 400, "reasoning_effort"),
    (CHAT, {"reasoning_effort": 5}, 400, "reasoning_effort"),
    (CHAT, {"reasoning_format": "none"}, 200, None),
    (CHAT, {"reasoning_format": "deepseek"}, 200, None),
    (CHAT, {"reasoning_format": "x"}, 400, "reasoning_format"),
    (CHAT, {"chat_template_kwargs": {"enable_thinking": False, "thinking": True, "my_number": 5, "my_text": "x"}}, 200, None),
    (CHAT, {"chat_template_kwargs": {"messages": []}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"bos_token": "x"}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"tools": []}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"chat_template": "x"}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"add_generation_prompt": False}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"__class__": 1}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"a b": 1}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"": 1}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"x": {"y": 1}}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {"x": "y" * 2000}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": {f"x{i}": 1 for i in range(40)}}, 400, "chat_template_kwargs"),
    (CHAT, {"chat_template_kwargs": []}, 400, "chat_template_kwargs"),
    (CHAT, {"add_generation_prompt": False}, 200, None),
    (CHAT, {"add_generation_prompt": "no"}, 400, "add_generation_prompt"),
    (CHAT, {"continue_final_message": True}, 400, "continue_final_message"),
    (CHAT, {"continue_final_message": False}, 200, None),
    (CHAT, {"prompt": "x"}, 400, "prompt"),
    (CHAT, {"echo": True}, 400, "echo"),
    (CHAT, {"chat_template": "{{ 1 }}"}, 400, "chat_template"),
    (TEXT, {"max_tokens": 0}, 200, None),
    (TEXT, {"prompt": None}, 400, "prompt"),
    (TEXT, {"prompt": []}, 400, "prompt"),
    (TEXT, {"prompt": 5}, 400, "prompt"),
    (TEXT, {"prompt": {}}, 400, "prompt"),
    (TEXT, {"prompt": ["a", "b"]}, 200, None),
    (TEXT, {"prompt": ["a", 5]}, 400, "prompt"),
    (TEXT, {"prompt": [1, 2, 3]}, 200, None),
    (TEXT, {"prompt": [[1, 2], [3]]}, 200, None),
    (TEXT, {"prompt": [[]]}, 400, "prompt"),
    (TEXT, {"prompt": [1, -2]}, 400, "prompt"),
    (TEXT, {"prompt": [1, 10**9]}, 400, "prompt"),
    (TEXT, {"prompt": [1, 2.5]}, 400, "prompt"),
    (TEXT, {"prompt": ["x"] * 129}, 400, "prompt"),
    (TEXT, {"prompt": ["x"] * 64, "n": 3}, 400, "n"),
    (TEXT, {"prompt": ""}, 400, "prompt"),
    (TEXT, {"messages": []}, 400, "messages"),
    (TEXT, {"echo": True}, 200, None),
    (TEXT, {"echo": "x"}, 400, "echo"),
    (TEXT, {"echo": True, "logprobs": 1}, 400, "echo"),
    (TEXT, {"logprobs": 5}, 200, None),
    (TEXT, {"logprobs": 0}, 200, None),
    (TEXT, {"logprobs": 21}, 400, "logprobs"),
    (TEXT, {"logprobs": -1}, 400, "logprobs"),
    (TEXT, {"logprobs": True}, 400, "logprobs"),
    (TEXT, {"suffix": "end"}, 400, "suffix"),
    (TEXT, {"suffix": ""}, 200, None),
    (TEXT, {"reasoning_effort": "low"}, 400, "reasoning_effort"),
    (EMBED, {}, 200, None),
    (EMBED, {"input": None}, 400, "input"),
    (EMBED, {"input": ""}, 400, "input"),
    (EMBED, {"input": ["a", ""]}, 400, "input"),
    (EMBED, {"input": []}, 400, "input"),
    (EMBED, {"input": [[]]}, 400, "input"),
    (EMBED, {"input": ["a", 1]}, 400, "input"),
    (EMBED, {"input": [1, 2]}, 200, None),
    (EMBED, {"input": [[1, 2], [3]]}, 200, None),
    (EMBED, {"input": [10**9]}, 400, "input"),
    (EMBED, {"input": {"text": "x"}}, 400, "input"),
    (EMBED, {"input": ["x"] * 2049}, 400, "input"),
    (EMBED, {"encoding_format": "base64"}, 200, None),
    (EMBED, {"encoding_format": "hex"}, 400, "encoding_format"),
    (EMBED, {"encoding_format": 5}, 400, "encoding_format"),
    (EMBED, {"dimensions": 576}, 200, None),
    (EMBED, {"dimensions": 64}, 400, "dimensions"),
    (EMBED, {"dimensions": 0}, 400, "dimensions"),
    (EMBED, {"user": "me"}, 200, None),
    (EMBED, {"temperature": 1}, 400, "temperature"),
]


def name(case):
    return f"{case[0].split('/')[2]}-{'-'.join(case[1]) or 'base'}-{case[2]}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_field(server, case):
    route, patch, status, param = case
    r = server.post(route, {**BASE[route], **patch})
    assert r.status == status, r.text[:500]
    server.check()
    if status == 200:
        return
    error = r.json["error"]
    assert error["param"] == param, error
    assert param.split(".")[-1].split("[")[0] in error["message"] or param in error["message"], error
    assert error["type"] == "invalid_request_error" and error["code"], error


@pytest.mark.parametrize("route", (CHAT, TEXT))
@pytest.mark.parametrize("field", ("user", "metadata", "store", "service_tier", "parallel_tool_calls", "prompt_cache_key",
                                   "safety_identifier", "priority", "id_slot", "n_keep", "timings_per_token"))
def test_ignored_with_a_word(server, route, field):
    value = {"metadata": {"a": "b"}, "store": False, "parallel_tool_calls": True, "priority": 1, "id_slot": -1, "n_keep": 0,
             "timings_per_token": True}.get(field, "x")
    r = server.post(route, {**BASE[route], field: value})
    assert r.status == 200, r.text
    assert len(r.json["warnings"]) == 1 and r.json["warnings"][0].startswith(field + " "), r.json["warnings"]
    last = [e for e in server.events(route, {**BASE[route], field: value, "stream": True}) if e != "[DONE]"][-1]
    assert field in last and "warnings" in last


@pytest.mark.parametrize("route", (CHAT, TEXT))
def test_no_warnings_without_cause(server, route):
    assert "warnings" not in server.post(route, BASE[route]).json


def test_the_server_is_well(server):
    server.check()
