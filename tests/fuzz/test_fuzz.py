"""No malformed input gets anything but an error of the project; see fuzzer.py."""

import os

import pytest

from tests.forked import ForkServer
from tests.fuzz.fuzzer import fuzz, readers

# of 26 readers these are more than 10 000
COUNT = int(os.environ.get("FUZZ_INPUTS", "400"))


@pytest.fixture(scope="module")
def server():
    server = ForkServer("tests.fuzz.fuzzer", {})
    yield server
    server.close()


@pytest.mark.parametrize("name", readers())
def test_malformed_inputs_get_an_error_of_the_project(server, name, tmp_path):
    count = round(COUNT * readers()[name].share)
    findings = fuzz(server, name, count, tmp_path)
    shown = "\n".join(f"{tmp_path / str(n)}: {what}" for n, what in list(findings.items())[:20])
    assert not findings, f"{len(findings)} of {count} inputs\n{shown}"
