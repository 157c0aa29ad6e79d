"""Endpoints that cannot be used, and their keys, which stay secret."""

import json

import pytest

from evaluator.errors import ConfigError, ModelError
from tests.evaluator.generation.conftest import first_time
from tests.evaluator.generation.scripted_server import ScriptedServer
from tests.evaluator.whole_runs import make

KEY = "sk-very-secret"


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    server, config, monkeypatch, caplog
):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("MY_KEY", KEY)
    server.behave = first_time(503)
    out, _ = make(config(api_key_env="MY_KEY"))
    assert {header["Authorization"] for header in server.headers} == {f"Bearer {KEY}"}
    for file in out.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    assert KEY not in caplog.text and "HTTP 503: no: Bearer …" in caplog.text


@pytest.mark.parametrize("value", [None, " ", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_used_is_refused_without_showing_it(config, monkeypatch, value):
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ConfigError, match="variable MY_KEY holds") as caught:
        make(config(api_key_env="MY_KEY"))
    assert "break" not in str(caught.value) and "schl" not in str(caught.value)


def test_the_key_is_in_no_error_and_does_not_follow_a_redirect(server, config, monkeypatch):
    other = ScriptedServer()
    monkeypatch.setenv("MY_KEY", KEY)
    for answer, words in (
        (401, "HTTP 401: no: Bearer ….*api_key_env"),
        ((307, {"Location": f"{other.url}/chat/completions"}), "HTTP 307.*base_url"),
    ):
        server.behave = lambda *_, answer=answer: answer
        with pytest.raises(ModelError, match=words) as caught:
            make(config(api_key_env="MY_KEY"))
        assert KEY not in str(caught.value)
    other.stop()
    assert not other.requests


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ({"base_url": "http://me:pass@host/v1"}, "expected no user, password"),
        ({"base_url": "file:///etc"}, "base_url"),
        ({"base_url": "http:///v1"}, "expected http://HOST"),
        ({"extra": {"seed": 1}}, "seed: set by the run itself"),
        ({"api_key_env": "sk-123"}, "api_key_env"),
        ({"key": "x"}, "endpoint.key: there is no such field"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused(config, endpoint, message):
    with pytest.raises(ConfigError, match=message):
        make(config(**endpoint))


def test_a_server_that_lists_other_models_is_taken_at_its_word(server, config):
    server.name = "first"
    server.behave = lambda number, _: 400 if number == 3 else None
    with pytest.raises(ModelError, match="HTTP 400"):
        make(config(concurrency=1))
    server.name = "second"
    server.behave = lambda *_: None
    out, _ = make(config(concurrency=1))
    assert json.loads((out / "run.json").read_text())["arms"][0]["served"] == "mine (not listed)"
    assert len(server.answered) == 6


def test_a_server_that_is_not_there_is_named(server, config):
    path = config(retries=1)
    server.stop()
    with pytest.raises(ModelError, match=r"arm engine: http://127.0.0.1.*2 tries failed.*refused"):
        make(path)
    server.start()
