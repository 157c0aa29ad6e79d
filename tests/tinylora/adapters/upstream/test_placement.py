"""Models that were split over devices in training: every device has a stream of its own."""

import json

import pytest
import torch

from tinylora.adapters.upstream.placement import read_placement
from tinylora.adapters.upstream.projection import draw_projections
from tinylora.errors import ProjectionError

NAMES = [f"model.layers.{i}.mlp.up_proj" for i in range(4)]
# What transformers writes into model.hf_device_map for two GPUs.
TWO_GPUS = {"model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": 0,
            "model.layers.2": 1, "model.layers.3": 1, "model.norm": 1, "lm_head": 1}  # fmt: skip


def draw(rng="cuda", placement=None, names=NAMES):
    return draw_projections(names, 8, 2, 5, formula="full", rng=rng, placement=placement)


def test_a_device_map_of_transformers_is_a_placement(tmp_path):
    file = tmp_path / "device_map.json"
    file.write_text(json.dumps(TWO_GPUS))
    whole = draw(names=NAMES[:2])
    for text in (str(file), json.dumps(TWO_GPUS), "  " + json.dumps(TWO_GPUS, indent=1)):
        split = draw(placement=read_placement(text))
        assert torch.equal(split, torch.cat([whole, whole]))
    assert torch.equal(draw(placement=TWO_GPUS), torch.cat([whole, whole]))


def test_each_device_has_its_own_stream():
    names = ["model.layers.0.q", "model.layers.1.q", "model.layers.2.q", "model.layers.10.q"]
    placement = {"model.layers.0": "cuda:0", "model.layers.1": "cuda:1", "": "cuda:0"}
    split, whole = draw(placement=placement, names=names), draw(names=names)
    # the first draw of either device, then cuda:0 again; layers.10 is not below layers.1
    assert torch.equal(split, whole[[0, 0, 1, 2]])


def test_what_lay_on_the_cpu_has_the_cpus_stream():
    split = draw(placement={"model.layers.0": 0, "": "cpu"})
    assert torch.equal(split[:1], draw(names=NAMES[:1]))
    assert torch.equal(split[1:], draw("cpu", names=NAMES[1:]))


def test_one_gpu_by_another_number_has_the_same_stream():
    assert torch.equal(draw(placement={"": "cuda"}), draw())
    assert torch.equal(draw(placement={"": 3}), draw())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no/such/file.json", "cannot be read as a placement"),
        ("{", "is no JSON"),
        ('{"": "disk"}', "'' lies on 'disk'"),
        ('{"": -1}', "lies on -1"),
        ('{"": true}', "lies on True"),
        ("{}", "is empty"),
        ("{" * 100_000, "is no JSON"),
        ("/dev/zero", "is no JSON"),
        (r'{"\ud800": 0}', "surrogates not allowed"),
    ],
)
def test_what_is_no_placement_is_refused(text, words):
    with pytest.raises(ProjectionError, match=words):
        read_placement(text)


def test_a_placement_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "map.json").write_text("[1]")
    with pytest.raises(ProjectionError, match=r"map\.json: expected a map"):
        read_placement(str(tmp_path / "map.json"))
    with pytest.raises(ProjectionError, match="has modules on cuda:0, but rng is cpu"):
        draw("cpu", {"": 0})
    with pytest.raises(ProjectionError, match=r"layers\.1\.mlp"):
        draw(placement={"model.layers.0": "cuda:0"})
