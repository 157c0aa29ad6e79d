import json
import shutil
from itertools import product

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporter import ExportRequest, export, verify
from exporter.documents.warnings import LOST
from exporter.errors import VerificationError


@pytest.fixture(scope="module")
def exported(base, artifact, tmp_path_factory):
    """``exported(format)``: an export, made once."""
    directory = tmp_path_factory.mktemp("exported")

    def make(format):
        if not (out := directory / format).exists():
            assert verify(export(ExportRequest(base, artifact, out, format=format)).out).ok
        return out

    return make


@pytest.fixture
def copy(exported, tmp_path):
    """``copy(format)``: an export to be spoilt."""
    return lambda format: shutil.copytree(exported(format), tmp_path / format)


@pytest.fixture
def embedded(copy):
    return copy("nf4-embedded")


def failed(directory):
    checks = verify(directory).checks
    return {check.name: " ".join(check.problems) for check in checks if not check.ok}


def change(path, function):
    tensors = load_file(path)
    function(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_changed_missing_and_added_files_are_found(embedded):
    path = embedded / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-2000] ^= 1
    path.write_bytes(raw)
    (embedded / "LICENSE").unlink()
    save_file({"a": torch.ones(1)}, embedded / "model-2.safetensors")
    problems = failed(embedded)["files and digests"]
    assert "model.safetensors has been changed" in problems
    assert "LICENSE is missing" in problems and "model-2.safetensors is no part" in problems


def test_a_file_that_would_change_what_loads_is_found(copy):
    out = copy("nf4")
    (out / "notes.txt").write_text("mine")
    (out / ".gitattributes").write_text("")
    assert verify(out).ok
    (out / "adapter_config.json").write_text("{}")
    expected = {"files and digests": "adapter_config.json is no part of the export"}
    assert failed(out) == expected


@pytest.mark.parametrize(
    ("value", "problem"), [(lambda t: t.half(), "is F16"), (lambda t: t * torch.nan, "non-finite")]
)
def test_other_dtypes_and_values_are_found(value, problem, copy):
    out, norm = copy("bf16"), "model.norm.weight"
    change(out / "model.safetensors", lambda tensors: tensors.update({norm: value(tensors[norm])}))
    assert problem in failed(out)["tensors of model.safetensors"]


@pytest.mark.parametrize(
    "change_state",
    [lambda t: t.unsqueeze(0), lambda t: torch.full([9000], ord("["), dtype=t.dtype)],
)
def test_states_that_are_no_json_are_found(change_state, copy):
    out = copy("nf4")

    def change_first(tensors):
        name = min(name for name in tensors if "quant_state" in name)
        tensors[name] = change_state(tensors[name])

    change(out / "model.safetensors", change_first)
    assert "holds no JSON" in failed(out)["tensors of model.safetensors"]


def test_an_adapter_that_would_not_attach_is_found(embedded):
    path = embedded / "adapter_config.json"
    config = json.loads(path.read_text())
    others = [name for name in config["target_modules"] if name != "q_proj"]
    for change, words in (
        ({"target_modules": others}, "q_proj"),
        ({"target_modules": None}, "no list of names"),
        ({"lora_alpha": 4}, "another scale"),
    ):
        path.write_text(json.dumps(config | change))
        assert words in failed(embedded)["adapter would attach"]


def test_a_lost_delta_is_said_beside_a_file_that_cannot_be_read(copy):
    out = copy("nf4")
    manifest = json.loads((out / "export_manifest.json").read_text())
    manifest["warnings"] = [LOST]
    (out / "export_manifest.json").write_text(json.dumps(manifest))
    (out / "config.json").write_text("{")
    lost, unreadable = verify(out, serves="transformers").checks[-1].problems
    assert "the delta was lost" in lost and "config.json" in unreadable


@pytest.mark.parametrize(("factor", "side"), [("lora_A", 0), ("lora_B", 1)])
def test_a_lora_pair_of_two_ranks_is_found(factor, side, embedded):
    name = f"base_model.model.model.layers.0.mlp.up_proj.{factor}.weight"
    path = embedded / "adapter_model.safetensors"
    change(path, lambda tensors: tensors.update({name: torch.cat([tensors[name]] * 2, dim=side)}))
    assert "layers.0.mlp.up_proj.lora_A" in failed(embedded)["adapter would attach"]


CONFIGS = (b"[]", b'{"target_modules": 5}', b'{"target_modules": [5]}')


@pytest.mark.parametrize(
    ("format", "file", "content", "check", "words"),
    [
        ("nf4-embedded", "retention.json", b"{", "retention.json", "cannot be read as JSON"),
        ("nf4-embedded", "SHA256SUMS", b"\xff", "files and digests", "SHA256SUMS does not agree"),
        ("nf4-embedded", "adapter_config.json", b"{", "adapter would attach", "cannot be read"),
        *(
            (format, "adapter_config.json", config, "adapter would attach", "")
            for format, config in product(("lora", "peft-tinylora"), CONFIGS)
        ),
    ],
)
def test_a_file_of_another_form_is_a_problem(format, file, content, check, words, copy):
    (out := copy(format)).joinpath(file).write_bytes(content)
    assert words in failed(out)[check]


def test_what_is_no_export_is_refused(base, tmp_path):
    for directory in (base, tmp_path, tmp_path / "none"):
        with pytest.raises(VerificationError, match="no export"):
            verify(directory)
    (tmp_path / "export_manifest.json").write_text('{"format": "else"}')
    with pytest.raises(VerificationError, match="else"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("options", {}),
        ("options", {"format": "bogus"}),
        ("options", {"format": ["nf4"]}),
        ("files", {"/etc/hostname": "x"}),
        ("files", {"sub/../../secret": "x"}),
        ("files", {"model.safetensors": 1}),
        ("files", {"x" * 256: "x"}),
        ("tensors", {"model.safetensors": {"a": 1}}),
        ("tensors", {"model.safetensors": {"a": ["F32", "4"]}}),
        ("tensors", {"model.safetensors": {"a": ["F32", [4, None]]}}),
        ("tensors", {"model.safetensors": []}),
        ("tensors", {"../model.safetensors": {}}),
        ("targets", [1]),
        ("base", "x"),
        ("artifact", None),
    ],
)  # fmt: skip
def test_a_manifest_of_another_form_is_refused(field, value, embedded):
    path = embedded / "export_manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(VerificationError, match=f"export_manifest.json: {field} is .*again"):
        verify(embedded)


@pytest.mark.parametrize("value", ['"\\ud800"', "[" * 400 + "]" * 400], ids=["surrogate", "deep"])
def test_a_manifest_of_json_that_is_refused_as_such(value, embedded):
    path = embedded / "export_manifest.json"
    text = path.read_text().rstrip().removesuffix("}")
    path.write_text(f'{text}, "more": {value}}}')
    with pytest.raises(VerificationError, match="its JSON is one, which.*again"):
        verify(embedded)


def test_arguments_that_do_not_go_together_are_refused(base, artifact, exported):
    for fields, match in (
        ({"load": True}, "by itself"),
        ({"base": base}, "together"),
        ({"base": base, "artifact": artifact}, "--load"),
        ({"prompts": base}, "--prompts needs"),
        ({"float64": True}, "--float64 needs --prompts"),
        ({"require_retention": 1}, "--require-retention needs --prompts"),
    ):
        with pytest.raises(VerificationError, match=match):
            verify(exported("lora"), **fields)
