import hashlib
import json
import shutil

import pytest

from exporter.compare.prompts import read_prompts
from exporter.errors import CheckpointError, PromptError
from tests.exporter.talking import MARKS, ids_of, write_rows, write_tokenizer
from tinylora.errors import TokenizerError

USER, SYSTEM, BOT, END = MARKS.values()
CHAT = [{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}]


@pytest.fixture
def model(talking, tmp_path):
    """The base's small files, to be spoilt."""
    directory = tmp_path / "model"
    shutil.copytree(talking, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    return directory


@pytest.mark.parametrize(
    ("row", "ids", "first"),
    [
        ({"text": "abc"}, ids_of("abc"), 0),
        ({"text": "a<|end|>"}, [*ids_of("a"), END], 0),
        ({"prompt": "hi"}, [USER, *ids_of("hi"), END, BOT], 0),
        # the last token of the prompt predicts the first of the completion
        ({"prompt": "hi", "completion": "ok"}, [USER, *ids_of("hi"), END, BOT, *ids_of("ok")], 4),
        ({"messages": CHAT}, [SYSTEM, *ids_of("S"), END, USER, *ids_of("hi"), END, BOT], 0),
        (
            {"messages": CHAT, "completion": "x", "other": 1},
            [SYSTEM, *ids_of("S"), END, USER, *ids_of("hi"), END, BOT, *ids_of("x")],
            7,
        ),
    ],
)
def test_each_form_of_row(talking, tmp_path, row, ids, first):
    file = write_rows(tmp_path / "rows.jsonl", [row])
    found = read_prompts(file, talking)
    (prompt,) = found.prompts
    assert list(prompt.token_ids) == ids
    assert prompt.first == first and len(prompt.positions) == found.tokens == len(ids) - first
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_lines_of_text(talking, tmp_path):
    file = tmp_path / "rows.txt"
    file.write_bytes(b'\xef\xbb\xbfab\r\n\r\n  \n{"text": 1}\ncd')
    found = [prompt.token_ids for prompt in read_prompts(file, talking).prompts]
    assert found[0] == tuple(ids_of("ab")) and found[2] == tuple(ids_of("cd")) and len(found) == 3


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('"text"', "found str"),
        ("{}", r"found \[\]"),
        ('{"text": "a", "prompt": "b"}', r"\['prompt', 'text'\]"),
        ('{"text": "a", "completion": "b"}', "not 'text'"),
        ('{"text": 1}', "'text' is no str"),
        ('{"prompt": ["a"]}', "'prompt' is no str"),
        ('{"prompt": "a", "completion": 2}', "'completion' is no str"),
        ('{"messages": []}', "at least one"),
        ('{"messages": [1]}', "'role' and 'content'"),
        ('{"messages": [{"role": null, "content": "a"}]}', "'role' and 'content'"),
        ('{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "'role' and 'content'"),
        ('{"messages": [{"role": "tool", "content": "a"}]}', "unknown role"),
        ('{"text": ""}', "no token"),
        (r'{"text": "\ud800"}', "surrogate"),
        ('{"text": "' + "a" * 129 + '"}', "129 tokens.*128 positions"),
    ],
)
def test_hostile_rows_name_file_and_line(talking, tmp_path, line, match):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "good"}\n\n' + line + "\n")
    with pytest.raises(PromptError, match=match) as caught:
        read_prompts(file, talking)
    assert f"{file}, line 3" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("rows.jsonl", b"", "holds no text"),
        ("rows.txt", b" \n\t\n", "holds no text"),
        ("rows.jsonl", b'{"text": "a"}\n\xff\xfe\n', "line 2: is not UTF-8"),
        ("rows.csv", b"a", ".jsonl or .txt"),
        ("none.jsonl", None, "none.jsonl"),
    ],
)
def test_hostile_files(talking, tmp_path, name, content, match):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PromptError, match=match) as caught:
        read_prompts(file, talking)
    assert str(file) in str(caught.value)


def test_no_tokenizer(base, model, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", [{"text": "a"}])
    with pytest.raises(TokenizerError, match="has no tokenizer"):
        read_prompts(file, base)  # its class would come up with an empty vocabulary
    (model / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="cannot load the tokenizer"):
        read_prompts(file, model)


def test_no_or_broken_template(model, tmp_path):
    chat = write_rows(tmp_path / "chat.jsonl", [{"prompt": "a"}])
    text = write_rows(tmp_path / "text.jsonl", [{"text": "a"}])
    for template, match in ((None, "no chat template"), ("{% for %}", "does not take")):
        (model / "chat_template.jinja").unlink(missing_ok=True)
        write_tokenizer(model, template)
        with pytest.raises(PromptError, match=match) as caught:
            read_prompts(chat, model)
        assert f"{chat}, line 1" in str(caught.value)
        assert read_prompts(text, model).tokens == 1


def test_a_template_that_renders_nothing_scores_no_position_before_the_first(model, tmp_path):
    write_tokenizer(model, "{{ '' }}")
    file = write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "bc"}])
    (prompt,) = read_prompts(file, model).prompts
    assert prompt.first == 0 and len(prompt.positions) == 2


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"vocab_size": 50}, PromptError, "embeds 50"),
        ({"text_config": {"vocab_size": 40}}, PromptError, "embeds 40"),
        (None, CheckpointError, "object"),
    ],
)
def test_a_config_that_does_not_fit(model, tmp_path, change, error, match):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps([] if change is None else config | change))
    file = write_rows(tmp_path / "rows.jsonl", [{"text": "~~"}])
    with pytest.raises(error, match=match):
        read_prompts(file, model)
