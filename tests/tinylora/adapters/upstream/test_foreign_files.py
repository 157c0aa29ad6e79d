"""Files that people take for an artifact: the error says what they are and what can be done."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.tinylora.conftest import save_vector
from tinylora import load_adapter
from tinylora.errors import ArtifactMissingError, TinyLoRAError

VECTOR = torch.linspace(-1, 1, 16, dtype=torch.bfloat16)


def write(path, content, **options):
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("content", [VECTOR, nn.Parameter(VECTOR)], ids=["tensor", "parameter"])
def test_a_bare_vector_cannot_be_rebuilt(tmp_path, content):
    """Upstream's first releases saved no more."""
    with pytest.raises(
        TinyLoRAError, match=r"v\.pt: holds a tensor \[16\] alone.*without the seed"
    ):
        load_adapter(write(tmp_path / "v.pt", content))


def test_the_format_of_an_old_torch_is_named(tmp_path):
    old = write(tmp_path / "v.pt", {"global_v": VECTOR}, _use_new_zipfile_serialization=False)
    with pytest.raises(TinyLoRAError, match="before version 1.6.*save it again"):
        load_adapter(old)


@pytest.mark.parametrize(
    "content",
    [
        {"model.layers.0.self_attn.q_proj.U": torch.ones(4, 2), "shared.v": VECTOR},
        {"v": VECTOR},
        {"v": {"model.layers.0.mlp.up_proj.v": nn.Parameter(VECTOR)}},
        {"model.layers.0.q_proj": {"U_r": torch.ones(4, 2), "Sigma_r": torch.ones(2, 2)}},
        {"base_model.model.layers.0.q_proj.lora_A.weight": torch.ones(2, 4)},
    ],
)
def test_factors_of_other_projects_are_named(tmp_path, content):
    with pytest.raises(TinyLoRAError, match="other TinyLoRA projects.*PEFT adapter"):
        load_adapter(write(tmp_path / "best_model.pt", content))


def test_a_file_of_a_peft_adapter_points_to_its_directory(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(TinyLoRAError, match="give the directory"):
        load_adapter(tmp_path / "adapter_model.safetensors")


@pytest.mark.parametrize("name", ["tiny_lora_v.pt", "best_tiny_lora_v.pt"])
def test_a_directory_of_upstream_stands_for_its_artifact(tmp_path, name):
    save_vector(tmp_path / name)
    assert load_adapter(tmp_path).path == tmp_path / name


def test_a_directory_without_or_with_two_artifacts_is_refused(tmp_path):
    with pytest.raises(ArtifactMissingError, match="neither tiny_lora_v.pt nor .*adapter_config"):
        load_adapter(tmp_path)
    for name in ("tiny_lora_v.pt", "best_tiny_lora_v.pt"):
        write(tmp_path / name, {})
    with pytest.raises(ArtifactMissingError, match="tiny_lora_v.pt and best_tiny_lora_v.pt"):
        load_adapter(tmp_path)
