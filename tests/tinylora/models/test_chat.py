"""Tokenizers and chat templates of others, on a tiny byte-level tokenizer."""

import json
import time

import pytest

from tests.exporter.talking import MARKS, TEMPLATE, ids_of, write_tokenizer
from tinylora.errors import TokenizerError
from tinylora.models.chat import load_tokenizer, token_ids, write_chats

ASK = [{"role": "user", "content": "hi"}]
# What a template does to the kernel's bounds and to us, by the chat's first word.
BAD = """
{%- macro again() %}{{ again() }}{% endmacro -%}
{%- set asked = messages[0]['content'] -%}
{%- if asked == 'memory' %}{{ ('a' * 2000000000)|length }}
{%- elif asked == 'filter' %}{{ 'a'|center(10 ** 10) }}
{%- elif asked == 'recursion' %}{{ again() }}
{%- elif asked == 'division' %}{{ 1 / 0 }}
{%- elif asked == 'words' %}{{ raise_exception('\\x1b[31m no\\n such role' + 'e' * 5000) }}
{%- elif asked == 'surrogate' %}{{ '\\ud800' }}
{%- elif asked == 'output' %}{{ 'a' * 70000000 }}
{%- else %}fine{% endif -%}
"""


@pytest.fixture
def tokenizer(tmp_path):
    write_tokenizer(tmp_path)
    return load_tokenizer(tmp_path)


def test_chats_are_written_as_transformers_writes_them(tokenizer):
    chats = [ASK, [{"role": "system", "content": "S"}, *ASK]]
    with_null = [ASK, [{**chats[1][0], "name": None}, *ASK]]  # older transformers write it out
    for template in (TEMPLATE, "{{ messages|tojson }}{{ eos_token }}"):
        tokenizer.chat_template = template
        opened = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
        closed = tokenizer.apply_chat_template(chats, tokenize=False)
        assert write_chats(tokenizer, chats) == tuple(opened)
        assert write_chats(tokenizer, with_null) == tuple(opened)
        assert write_chats(tokenizer, chats, closed=(1,)) == (opened[0], closed[1])


def test_one_chat_that_a_template_does_not_take_leaves_the_others(tokenizer):
    tokenizer.chat_template = BAD
    names = ("memory", "filter", "recursion", "division", "words", "surrogate", "output", "good")
    chats = [[{"role": "user", "content": name}] for name in names]
    found = dict(zip(names, write_chats(tokenizer, chats), strict=True))
    assert found.pop("good") == "fine"
    expected = {"memory": "MemoryError", "filter": "MemoryError", "recursion": "RecursionError"}
    expected |= {"division": "ZeroDivisionError", "words": r"\x1b[31m no such role"}
    expected |= {"surrogate": "is no valid Unicode", "output": "writes too much"}
    for name, words in expected.items():
        assert isinstance(found[name], TokenizerError)
        assert words in str(found[name])
    assert "\x1b" not in str(found["words"]) and len(str(found["words"])) < 400


def test_a_template_without_end_is_ended(tokenizer):
    tokenizer.chat_template = "{{ (10 ** (10 ** 8)) % 7 }}"  # which no signal handler interrupts
    start = time.process_time()
    with pytest.raises(TokenizerError, match="ended its process at chat 1 of 1 .*too much time"):
        write_chats(tokenizer, [ASK])
    assert time.process_time() - start < 5


def test_tokens(tokenizer, tmp_path):
    assert token_ids(tokenizer, "hi<|end|>") == (*ids_of("hi"), MARKS["<|end|>"])
    with pytest.raises(TokenizerError, match=r"character 3 is half of a pair \('\\udc80'\)"):
        token_ids(tokenizer, "ab\udc80")
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": "x"}))
    with pytest.raises(TokenizerError, match="does not take it: TypeError"):
        token_ids(load_tokenizer(tmp_path), "hi")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", json.dumps({"tokenizer_class": [1]})),
        ("tokenizer.json", "[" * 5000 + "]" * 5000),
        ("tokenizer.json", ""),
        ("added_tokens.json", "[1]"),
    ],
)
def test_malformed_files_of_a_tokenizer_are_one_error(tmp_path, name, content):
    write_tokenizer(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match="cannot load the tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value) and len(str(caught.value)) < 600
