"""Each rung of the ladder that works on this machine, and a worker on it."""

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import SandboxUnavailableError
from evaluator.judging.compile_cpp import compile_cpp
from evaluator.judging.sandbox.sandbox import probe_sandbox


@pytest.fixture(scope="session", params=["bwrap", "unshare", "unsafe"])
def rung(request):
    try:
        return probe_sandbox(unsafe=True, only=request.param)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def worker(rung):
    with rung.worker() as worker:
        yield worker


@pytest.fixture(scope="session")
def build(rung):
    """Compile a program."""

    def call(source):
        with rung.worker() as worker:
            compiled = compile_cpp(worker, source, JudgeSettings())
        assert compiled.program is not None, compiled.message
        return compiled.program

    return call
