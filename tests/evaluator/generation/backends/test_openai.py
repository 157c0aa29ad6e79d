"""Arms behind an endpoint: no completion twice and none lost, whatever the server does.

The server is a stand-in, ``scripted_server``; the requests go through real sockets.
"""

import json
import threading
import time

import pytest

from evaluator.config.run_config import load_config
from evaluator.errors import ConfigError, ModelError, RunDirectoryError
from evaluator.generation.openai_form import request_seed
from evaluator.generation.prepare import prepare
from tests.evaluator.generation.conftest import first_time
from tests.evaluator.whole_runs import make, merged


def records(out):
    return [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]


def assert_complete(out, server):
    """Each completion is there once, and was given away once."""
    assert [row["problem"] for row in records(out)] == [f"S{k}" for k in range(6)]
    seeds = sorted(request_seed(0, f"S{k}", 0) for k in range(6))
    assert sorted(server.answered) == seeds


def test_texts_of_a_server_asked_for_several_at_a_time_are_judged_like_others(server, config):
    server.behave = lambda *_: 0.2
    out, results = make(config(concurrency=3))
    assert server.most == 3
    assert results.summary.arms[0].pass_rate == 1
    assert_complete(out, server)
    row = records(out)[0]
    assert (row["finish_reason"], row["token_count"]) == ("stop", 14)
    assert row["engine"] == "mine, fp, version 1.2"
    assert "6 texts of engine: by mine, fp, version 1.2." in (out / "report.md").read_text()
    facts = json.loads((out / "run.json").read_text())["arms"][0]
    assert facts["served"] == "mine (root /models/a, owned_by test)"
    assert facts["paired"] is facts["logits"] is False


def test_a_request_leaves_nothing_to_the_servers_defaults(server, config):
    make(config(extra={"chat_template_kwargs": {"enable_thinking": False}}))
    body = next(one for one in server.requests if "a + 1." in str(one["messages"]))
    assert body == {
        "model": "mine",
        "messages": [{"role": "user", "content": "Print a + 1."}],
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 14,
        "seed": request_seed(0, "S1", 0),
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_without_extensions_only_openais_fields_are_sent(server, config):
    decoding = {"max_new_tokens": 14, "repetition_penalty": 1.0, "top_k": 20}  # greedy
    make(config({"decoding": decoding}, extensions=False))
    assert not {"top_k", "min_p", "repetition_penalty"} & server.requests[0].keys()


@pytest.mark.parametrize(
    ("decoding", "extra"),
    [
        ({"top_k": 20, "temperature": 0.8}, {"top_k": 20}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"repetition_penalty": 1.1}, {"repeat_penalty": 1.1}),
    ],
)
def test_what_would_not_be_sent_is_refused(server, config, decoding, extra):
    changes = {"decoding": {"max_new_tokens": 14, **decoding}}
    field, *_ = decoding
    for more in ({}, {"min_p": 0.0}):
        with pytest.raises(ConfigError, match=f"extensions: false leaves out {field}, .*extra"):
            make(config(changes, extensions=False, extra=more))
    assert not server.requests
    make(config(changes, extensions=False, extra=extra))
    assert extra.items() <= server.requests[0].items()


def test_completions_are_asked_for_with_the_tokens_of_the_other_arms(server, config, quick):
    with pytest.raises(ConfigError, match="completions sends tokens, and no arm.*use api: chat"):
        make(config(api="completions"))
    endpoint = {"base_url": server.url, "model": "mine", "api": "completions"}
    engine = {"name": "engine", "kind": "merged", "endpoint": endpoint}
    path = config({"arms": [merged("export", quick["base"]), engine]})
    make(path)
    assert set(server.paths) == {"/v1/completions"}
    asked = sorted(tuple(body["prompt"]) for body in server.requests)
    assert asked == sorted(prompt.token_ids for prompt in prepare(load_config(path)).prompts)
    assert "messages" not in server.requests[0]


@pytest.mark.parametrize("action", [429, 500, 502, 503, 504, 524, 529, "close", "torn"])
def test_passing_failures_are_tried_again(server, config, action):
    server.behave = first_time(action)
    out, _ = make(config())
    assert_complete(out, server)
    assert len(server.requests) == 12


def test_an_answer_that_is_too_late_is_asked_for_again(server, config):
    server.behave = first_time(1.0)
    out, _ = make(config(timeout_s=0.3))
    assert len(records(out)) == 6
    assert len(server.requests) == 12


def test_retry_after_is_honoured(server, config):
    server.behave = lambda number, _: (429, {"Retry-After": "1"}) if number == 0 else None
    make(config(concurrency=1))
    assert server.times[1] - server.times[0] >= 0.9


@pytest.mark.parametrize("said", ["0", "Fri, 01 May 2026 12:00:00 GMT", "-1", "²"])
def test_a_server_that_asks_for_no_wait_is_given_time_all_the_same(server, config, said):
    def behave(*_):
        busy = time.monotonic() < server.times[0] + 0.5
        return (429, {"Retry-After": said}) if busy else None

    server.behave = behave
    out, _ = make(config())
    assert_complete(out, server)


def test_a_wait_of_hours_is_refused(server, config):
    server.behave = lambda *_: (429, {"Retry-After": "100000"})
    with pytest.raises(ModelError, match="asks to come back in 100000 s.*start the same command"):
        make(config())


def test_a_run_goes_on_after_its_server_failed_for_good(server, config, tmp_path):
    server.behave = lambda number, _: 503 if number >= 3 else None
    with pytest.raises(ModelError, match=r"3 tries failed, the last with.*HTTP 503.*is kept"):
        make(config(retries=2))
    kept = {row["problem"] for row in records(tmp_path / "out")}
    assert len(kept) == 3
    server.behave = lambda *_: None
    out, _ = make(config(retries=2))
    assert_complete(out, server)


def test_what_is_under_way_when_another_request_fails_is_kept(server, config, tmp_path):
    def behave(number, _):
        while number == 0 and len(server.requests) < 2:
            time.sleep(0.01)
        return 400 if number == 0 else 0.4

    server.behave = behave
    with pytest.raises(ModelError, match="HTTP 400.*extensions: false"):
        make(config())
    assert len(records(tmp_path / "out")) == 1
    server.behave = lambda *_: None
    assert_complete(make(config())[0], server)


def test_a_server_that_dies_and_comes_back_is_waited_for(server, config):
    def behave(number, _):
        if number == 2:
            threading.Thread(target=restart).start()
            return "close"
        return None

    def restart():
        server.stop()
        time.sleep(0.5)
        server.start()

    server.behave = behave
    out, _ = make(config(retries=12))
    assert_complete(out, server)


def test_another_model_behind_the_name_is_refused_in_words(server, config, tmp_path):
    def behave(number, _):
        if number == 3:
            server.root = "/models/b"
            return 503
        return None

    server.behave = behave
    with pytest.raises(ModelError, match=r"now serves another model.*models/b.*before.*models/a"):
        make(config(concurrency=1))
    assert len(records(tmp_path / "out")) == 3
    server.behave = lambda *_: None
    with pytest.raises(RunDirectoryError, match=r"arms\[0\].served was .*/models/a.*/models/b"):
        make(config())
    assert len(server.answered) == 3
    server.root = "/models/a"
    assert_complete(make(config())[0], server)


def test_answers_that_name_another_model_are_refused(server, config, tmp_path):
    def behave(number, _):
        server.says = "mine-0801" if number < 3 else "mine-0902"

    server.behave = behave
    with pytest.raises(ModelError, match="another model behind this name: mine-0902, before mine-"):
        make(config(concurrency=1))
    assert len(records(tmp_path / "out")) == 3
    with pytest.raises(ModelError, match="another model behind this name: mine-0902, before mine-"):
        make(config(concurrency=1))
    assert {row["engine"] for row in records(tmp_path / "out")} == {"mine-0801, fp, version 1.2"}


@pytest.mark.parametrize(
    ("says", "engine"),
    [(None, "fp"), ("a  " + "very long name " * 20, "a very long name"), ("m\ud800", "m?, fp")],
)
def test_answers_without_or_with_odd_names_go_on_after_a_restart(server, config, says, engine):
    server.says, server.root, server.version = says, "/a\udfff", "1.\ud83d"
    server.behave = lambda number, _: 400 if number == 3 else None
    with pytest.raises(ModelError):
        make(config(concurrency=1))
    server.behave = lambda *_: None
    out, _ = make(config(concurrency=1))
    assert_complete(out, server)
    assert all(row["engine"].startswith(engine) for row in records(out))
    assert all(row["engine"].endswith("version 1.?") for row in records(out))
    facts = json.loads((out / "run.json").read_text())["arms"][0]
    assert facts["served"] == "mine (root /a?, owned_by test)"


def test_a_server_may_move_but_not_change_the_model_that_is_asked_for(server, config, tmp_path):
    server.behave = lambda number, _: 400 if number == 3 else None
    with pytest.raises(ModelError):
        make(config())
    server.stop()
    server.port = 0
    server.start()
    server.name = "other"
    with pytest.raises(RunDirectoryError, match="holds another run"):
        make(config(model="other"))
    server.name = "mine"
    server.behave = lambda *_: None
    assert_complete(make(config(concurrency=1))[0], server)


def test_a_killed_run_goes_on_without_asking_twice(server, config, run_server, tmp_path):
    server.behave = lambda number, _: 30.0 if number >= 3 else None  # none is answered meanwhile
    path, out = config(concurrency=1), tmp_path / "out"
    run_server.kill_when_stopped({"config": str(path), "out": str(out), "stop_after": 3})
    assert len(records(out)) == 3
    server.behave = lambda *_: None
    assert_complete(make(path)[0], server)


def test_a_cut_off_text_is_recorded_as_such_and_one_that_ends_otherwise_refused(server, config):
    server.reason = "length"
    assert {row["finish_reason"] for row in records(make(config())[0])} == {"length"}
    server.reason = "content_filter"
    with pytest.raises(ModelError, match="finish_reason stop or length, found 'content_filter'"):
        make(config(retries=1), overwrite=True)
