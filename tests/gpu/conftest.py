"""GPU checks: skipped without a device, each marked `gpu`."""

from pathlib import Path

import pytest
import torch

from tests.tinylora.conftest import save_vector

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def write_artifact(tmp_path):
    """``write_artifact(size)``: one for ``tiny_base``, u = 32, r = 2."""
    return lambda size: save_vector(tmp_path / "v.pt", global_v=torch.full((32,), size))


@pytest.fixture
def device_threads():
    """Threads that the device runs at once, in whole blocks of 256."""
    about = torch.cuda.get_device_properties(0)
    return about.multi_processor_count * (about.max_threads_per_multi_processor // 256) * 256
