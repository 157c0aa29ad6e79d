"""A server that plays an engine, and runs with an arm behind it."""

import pytest

from tests.evaluator.generation.scripted_server import ScriptedServer
from tests.evaluator.whole_runs import write_config


@pytest.fixture
def server():
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.fixture
def config(server, quick, tmp_path):
    """``config(**endpoint)`` writes a run of one arm behind the server, six completions."""

    def write(changes=None, **endpoint):
        settings = {"base_url": server.url, "model": "mine", "backoff_s": 0.02, "concurrency": 2}
        arms = [{"name": "engine", "kind": "merged", "endpoint": {**settings, **endpoint}}]
        content = {"arms": arms, "decoding": {"max_new_tokens": 14}, **(changes or {})}
        return write_config(tmp_path / "c.yaml", out=tmp_path / "out", **{**quick, **content})

    return write


def first_time(action):
    """A script: every completion gets this when it is asked for first."""
    seen = set()

    def behave(_, body):
        if body["seed"] in seen:
            return None
        seen.add(body["seed"])
        return action

    return behave
