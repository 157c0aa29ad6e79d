"""Artifacts as untrusted input: round trip, the real file, and everything that can be wrong."""

import os
import pickle
import zipfile
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from tests.tinylora.conftest import save_vector
from tinylora import load_adapter, load_artifact, save_artifact
from tinylora.errors import ArtifactError, ArtifactMissingError

GOOD = {
    "global_v": torch.linspace(-1e-4, 1e-4, 32).to(torch.bfloat16),
    "u_value": 32,
    "rank": 2,
    "seed": 42,
    "model_id": "qwen/Qwen2.5-Coder-3B-Instruct",
    "total_replaced_layers": 252,
}


def written(path, content, **options):
    torch.save(content, path, **options)
    return path


def saved(path, **changes):
    fields = GOOD | changes
    return written(path, {k: v for k, v in fields.items() if v is not ...})


def test_a_file_of_torch_save_loads(tmp_path):
    artifact = load_artifact(saved(tmp_path / "v.pt", is_quantized=None, score=0.25, step=300))
    assert artifact.extra_keys == ("score", "step")  # the successor's trainer writes such
    assert torch.equal(artifact.global_v, GOOD["global_v"])
    assert (artifact.u, artifact.rank, artifact.seed) == (32, 2, 42)
    assert artifact.total_replaced_layers == 252
    assert (artifact.saved_device, artifact.stream_hint) == ("cpu", "cpu")
    assert artifact.is_quantized is artifact.known_formula is None


@given(
    values=st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=40),
    rank=st.integers(1, 64),
    seed=st.integers(0, 2**64 - 1),
    device=st.sampled_from(["cuda:0", "cuda:3", "cpu"]),
    formula=st.sampled_from(["full", "diagonal", "diagonal-unscaled"]),
)
def test_round_trip(tmp_path_factory, values, rank, seed, device, formula):
    path = tmp_path_factory.mktemp("artifact") / "v.pt"
    vector = torch.tensor(values).to(torch.bfloat16)
    fields = {"global_v": vector, "rank": rank, "seed": seed, "saved_device": device}
    fields |= {"formula": formula}
    content = save_vector(path, **fields).read_bytes()
    assert save_vector(path, **fields).read_bytes() == content
    artifact = load_artifact(path)
    assert torch.equal(artifact.global_v, vector)
    assert (artifact.rank, artifact.seed, artifact.saved_device) == (rank, seed, device)
    assert artifact.stream_hint == device.split(":")[0] and artifact.extra_keys == ()
    assert artifact.known_formula.formula == artifact.describe()["formula"] == formula
    # whoever reads it as the trainers do finds their keys
    loaded = torch.load(path, weights_only=True, map_location="cpu")
    assert torch.equal(loaded["global_v"], vector) and loaded["u_value"] == len(values)


def test_the_saved_device_is_that_of_the_vector(tmp_path):
    """Other tensors of the file, before and after it, were elsewhere and say nothing."""
    fields = {"loss": torch.zeros(1), **GOOD, "norm": torch.ones(1)}
    torch.save(fields, tmp_path / "cpu.pt")
    devices = iter(["cpu", "cuda:1", "cuda:0"])
    # simulation of a GPU: what the pickle says of each storage, in its order
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: next(devices))
        torch.save(fields, tmp_path / "v.pt")
    assert load_artifact(tmp_path / "cpu.pt").saved_device == "cpu"
    artifact = load_artifact(tmp_path / "v.pt")
    assert (artifact.saved_device, artifact.stream_hint) == ("cuda:1", "cuda")
    assert torch.equal(artifact.global_v, GOOD["global_v"])


@pytest.mark.parametrize("device", ["cuda:x", "\x1b[2J", None, 7])
def test_a_saved_device_that_is_none_is_refused(tmp_path, monkeypatch, device):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: device)
    with pytest.raises(ArtifactError, match="expected one that torch has|damaged"):
        load_artifact(saved(tmp_path / "v.pt"))


@pytest.mark.parametrize(
    "change",
    [
        {"global_v": torch.arange(3)},
        {"rank": 0},
        {"global_v": torch.tensor([3.4e38])},  # above bf16's largest number
        {"saved_device": "banana"},
        {"saved_device": "cuda:12345"},
        {"global_v": [1.0, 2.0]},
    ],
)
def test_what_cannot_be_loaded_is_not_written(tmp_path, change):
    fields = {name: GOOD[name] for name in GOOD if name != "u_value"}
    with pytest.raises(ArtifactError, match=next(iter(change))):
        save_artifact(tmp_path / "v.pt", **(fields | change))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, ...) for name in sorted(GOOD)),
        ("global_v", [1.0, 2.0]),
        ("global_v", torch.arange(32)),
        ("global_v", torch.zeros(32).to_sparse()),
        ("rank", True),
        ("seed", None),
        ("total_replaced_layers", torch.tensor(252)),
        ("is_quantized", "yes"),
        ("formula", "circular"),
        ("formula", ["full"]),
        ("u_value", 31),
        ("rank", 0),
        ("rank", 10**9),
        ("seed", 2**64),
        ("total_replaced_layers", 0),
        ("model_id", "qwen/Qwen\n## Licence"),
        ("model_id", "qwen\x1b[2J"),
        ("global_v", torch.full((32,), float("nan"))),
        ("global_v", torch.cat([torch.zeros(31), torch.tensor([float("inf")])])),
        ("global_v", torch.zeros(1).expand(10**7)),
    ],
)
def test_a_missing_or_wrong_field_is_named(tmp_path, field, value):
    # a sparse tensor needs constructors that an artifact never needs, so it may be refused earlier
    with pytest.raises(ArtifactError, match=f"{field}|its pickle contains"):
        load_artifact(saved(tmp_path / "v.pt", **{field: value}))


def test_projections_that_no_machine_holds_are_refused_with_the_file(tmp_path):
    path = saved(tmp_path / "v.pt", global_v=torch.ones(1 << 16), u_value=1 << 16, rank=33)
    with pytest.raises(ArtifactError, match=r"v\.pt: u_value · rank² = 71368704.*67108864"):
        load_artifact(path)


class RunsCode:
    def __reduce__(self):
        return (os.system, ("touch owned",))


@pytest.mark.parametrize("protocol", [2, 4, "bare pickle"])
def test_code_in_the_pickle_is_refused_and_never_runs(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    if protocol == "bare pickle":
        (tmp_path / "v.pt").write_bytes(pickle.dumps(RunsCode(), protocol=2))
    else:
        torch.save({**GOOD, "extra": RunsCode()}, tmp_path / "v.pt", pickle_protocol=protocol)
    with pytest.raises(ArtifactError, match=r"v\.pt"):
        load_artifact(tmp_path / "v.pt")
    assert not (tmp_path / "owned").exists()


def test_every_truncation_is_an_error_of_its_own(tmp_path):
    whole = saved(tmp_path / "v.pt").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "cut.pt").write_bytes(whole[:length])
        with pytest.raises(ArtifactError):
            load_artifact(tmp_path / "cut.pt")


def test_a_storage_shorter_than_the_tensor_is_refused(tmp_path):
    path = saved(tmp_path / "v.pt")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content[:8] if name.endswith("data/0") else content)
    with pytest.raises(ArtifactError, match="damaged"):
        load_artifact(path)


def test_a_zip_bomb_is_refused_before_unpacking(tmp_path):
    path = tmp_path / "v.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (1 << 28))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ArtifactError, match="unpacks to"):
        load_artifact(path)


def readme(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


OTHERS = "other TinyLoRA projects.*PEFT adapter"
ALONE = r"v\.pt: holds a tensor \[32\] alone.*without the seed"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda path: path.write_bytes(b"\0" * ((1 << 24) + 1)), "checkpoint"),
        (readme, r"data\.pkl"),
        ([1, 2], "list"),
        ({**GOOD, 3: 4}, "key 3"),
        (
            partial(written, content=GOOD, _use_new_zipfile_serialization=False),
            "before version 1.6.*save it again",
        ),
        (GOOD["global_v"], ALONE),  # upstream's first releases saved no more
        (nn.Parameter(GOOD["global_v"]), ALONE),
        ({"model.layers.0.self_attn.q_proj.U": torch.ones(4, 2), "shared.v": GOOD["rank"]}, OTHERS),
        ({"model.layers.0.q_proj": {"U_r": torch.ones(4, 2), "Sigma_r": 2}}, OTHERS),
        ({"base_model.model.layers.0.q_proj.lora_A.weight": torch.ones(2, 4)}, OTHERS),
    ],
)
def test_other_files_are_told_apart(tmp_path, content, words):
    content(tmp_path / "v.pt") if callable(content) else written(tmp_path / "v.pt", content)
    with pytest.raises(ArtifactError, match=words):
        load_adapter(tmp_path / "v.pt")


def test_a_file_of_a_peft_adapter_points_to_its_directory(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ArtifactError, match="give the directory"):
        load_adapter(tmp_path / "adapter_model.safetensors")


@pytest.mark.parametrize("name", ["tiny_lora_v.pt", "best_tiny_lora_v.pt"])
def test_a_directory_of_upstream_stands_for_its_artifact(tmp_path, name):
    save_vector(tmp_path / name)
    assert load_adapter(tmp_path).path == tmp_path / name


def test_a_directory_without_or_with_two_artifacts_is_refused(tmp_path):
    with pytest.raises(ArtifactMissingError, match="absent"):
        load_artifact(tmp_path / "absent")
    with pytest.raises(ArtifactMissingError, match="neither tiny_lora_v.pt nor .*adapter_config"):
        load_adapter(tmp_path)
    for name in ("tiny_lora_v.pt", "best_tiny_lora_v.pt"):
        written(tmp_path / name, {})
    with pytest.raises(ArtifactMissingError, match="tiny_lora_v.pt and best_tiny_lora_v.pt"):
        load_adapter(tmp_path)
