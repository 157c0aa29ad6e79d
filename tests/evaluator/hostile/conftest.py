"""Every attack runs on each rung of the sandbox that the machine has, and must leave nothing."""

import ctypes
import time

import pytest

from evaluator.errors import SandboxUnavailableError
from evaluator.sandbox import probe_sandbox
from tests.evaluator.hostile.attacks import litter, open_descriptors, our_children

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="module", params=["bwrap", "unshare"])
def rung(request):
    try:
        return probe_sandbox(only=request.param)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def nothing_is_left():
    """As subreaper this process inherits whatever an attack manages to leave running."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    children, files, descriptors = our_children(), litter(), open_descriptors()
    yield
    # what the kernel or a closing thread is about to reap gets a moment; what stays is a leak
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if our_children() <= children and open_descriptors() <= descriptors:
            break
        time.sleep(0.01)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert our_children() <= children
    assert litter() <= files
    assert open_descriptors() <= descriptors
