"""No malformed input gets anything but an error of the project; see fuzzer.py."""

import os

import pytest

from tests.fuzz.fuzzer import fuzz, readers

COUNT = int(os.environ.get("FUZZ_INPUTS", "200"))


@pytest.mark.parametrize("name", readers())
def test_malformed_inputs_get_an_error_of_the_project(name, tmp_path):
    findings = fuzz(name, COUNT, tmp_path)
    shown = "\n".join(f"{tmp_path / str(n)}: {what}" for n, what in list(findings.items())[:20])
    assert not findings, f"{len(findings)} of {COUNT} inputs\n{shown}"
