"""The emulated stream against what torch.randn printed on real GPUs, in public places.

A few of these outputs stand here; all that are known are read from the folder of real data, where
that is beside the repository. They were printed with four decimals.
"""

import json

import pytest
import torch

from tinylora import philox_normal
from tinylora.philox import offset_increment

DECIMALS = 5e-5 + 1e-6  # half of the last printed digit, and a GPU's own rounding


def drawn(seed, numel, draw=0):
    """The ``draw``-th of successive calls for as many numbers, counted from 0."""
    return philox_normal(numel, seed, draw * offset_increment(numel))


@pytest.mark.parametrize(
    ("seed", "draw", "printed"),
    [
        (42, 0, [0.1940, 2.1614, -0.1721, 0.8491]),
        (42, 1, [0.1391, -0.1082, -0.7174, 0.7566]),
        (42, 3, [-0.6974, -1.8688, -0.8832, -1.6627]),
        (1234, 0, [-1.6165, 0.5685, -0.5102]),
    ],
)
def test_successive_draws_of_a_gpu(seed, draw, printed):
    assert (drawn(seed, len(printed), draw) - torch.tensor(printed)).abs().max() <= DECIMALS


def test_every_known_output(shared_data):
    path = shared_data.parent / "device_stream.json"
    if not path.is_file():
        pytest.skip("the outputs of real devices are not here")
    outputs, compared = json.loads(path.read_text()), 0
    for output in outputs["float32"]:
        for row, values in output.get("rows", {"0": output.get("values")}).items():
            if "rows" in output:  # larger than a small GPU: these elements lie in its first pass
                first = int(row) * output["row_length"]
                found = philox_normal(first + len(values), output["seed"])[first:]
            else:
                found = drawn(output["seed"], len(values), output["draw"])
            assert (found - torch.tensor(values)).abs().max() <= DECIMALS, output
            compared += len(values)
    assert compared > 100
    for output in outputs["float16"]:
        wanted = torch.tensor(output["values"], dtype=torch.float64)
        found = drawn(output["seed"], len(wanted)).half().double()
        assert (found - wanted).abs().max() <= 5e-5 + 1e-9  # as printed: the same numbers of fp16
