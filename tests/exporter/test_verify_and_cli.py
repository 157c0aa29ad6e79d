import json
import os
import signal
import tempfile
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import exporter.cli
from exporter import export, inspect_artifact, verification, verify
from exporter.cli import app
from exporter.errors import RequestError, VerificationError
from exporter.request import parse_size
from tinylora import save_artifact

cli = CliRunner()


@pytest.fixture
def embedded(base, artifact, run):
    return run(base, artifact, "nf4-embedded").out


def failed(report):
    return {check.name: " ".join(check.problems) for check in report.checks if not check.ok}


@pytest.mark.parametrize("format", ["nf4", "nf4-embedded", "bf16", "fp16", "fp32", "lora"])
def test_fresh_exports_verify(base, artifact, run, format):
    report = verify(run(base, artifact, format).out)
    assert report.ok and report.format == format and len(report.checks) >= 2


def test_a_flipped_byte_is_found(embedded):
    path = embedded / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-2000] ^= 1
    path.write_bytes(raw)
    assert "model.safetensors has been changed" in failed(verify(embedded))["files and digests"]


def test_missing_and_added_files_are_found(embedded):
    (embedded / "LICENSE").unlink()
    save_file({"a": torch.ones(1)}, embedded / "model-2.safetensors")
    problems = failed(verify(embedded))["files and digests"]
    assert "LICENSE is missing" in problems and "model-2.safetensors is no part" in problems


def test_a_file_that_would_change_what_loads_is_found(base, artifact, run):
    out = run(base, artifact, "nf4").out
    (out / "notes.txt").write_text("mine")
    (out / ".gitattributes").write_text("")
    assert verify(out).ok
    (out / "adapter_config.json").write_text("{}")
    problems = failed(verify(out))["files and digests"]
    assert problems == "adapter_config.json is no part of the export"


def test_what_was_recorded_is_shown(base, make_artifact, run):
    """The files of an export that lost its delta are as they should be."""
    out = run(base, make_artifact(3e-5), "nf4").out
    result = cli.invoke(app, ["verify", str(out)])
    assert result.exit_code == 0
    assert "recorded: by the weights: delta lost, capture 0.0, residual 1.0" in result.stdout
    assert "Warning, recorded: THE DELTA WAS LOST" in result.stderr


def test_a_required_retention(talking, make_artifact, texts, tmp_path):
    out = tmp_path / "out"
    inputs = ["--base", str(talking), "--artifact", str(make_artifact(3e-3))]
    merge = ["merge", *inputs, "--out", str(out), "--format", "bf16"]
    merge += ["--check-prompts", str(texts(1))]
    result = cli.invoke(app, [*merge, "--require-retention", "1"])
    assert result.exit_code == 1
    assert "1 is required; nothing was written" in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())
    assert cli.invoke(app, [*merge, "--require-retention", "0.5"]).exit_code == 0
    again = ["verify", str(out), *inputs, "--prompts", str(texts(1))]
    kept = cli.invoke(app, [*again, "--require-retention", "0.5"])
    assert kept.exit_code == 0 and "ok   retention" in kept.stdout
    gone = cli.invoke(app, [*again, "--require-retention", "1"])
    assert gone.exit_code == 1 and "FAIL retention" in gone.stdout
    assert "1 is required" in gone.stderr
    result = cli.invoke(app, ["verify", str(out), "--require-retention", "1"])
    assert result.exit_code == 2 and "--prompts" in result.stderr


def test_another_dtype_is_found(base, artifact, run):
    out = run(base, artifact, "bf16").out
    path = out / "model.safetensors"
    tensors = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    assert "is F16" in failed(verify(out))["tensors of model.safetensors"]


def test_non_finite_values_are_found(base, artifact, run):
    out = run(base, artifact, "bf16").out
    path = out / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})
    assert "non-finite" in failed(verify(out))["tensors of model.safetensors"]


def test_an_adapter_that_would_not_attach_is_found(embedded):
    config = json.loads((embedded / "adapter_config.json").read_text())
    config["target_modules"].remove("q_proj")
    (embedded / "adapter_config.json").write_text(json.dumps(config))
    assert "q_proj" in failed(verify(embedded))["adapter would attach"]


@pytest.mark.parametrize(("factor", "side"), [("lora_A", 0), ("lora_B", 1)])
def test_a_lora_pair_of_two_ranks_is_found(factor, side, embedded):
    path = embedded / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(f"{factor}.weight"))
    tensors[name] = torch.cat([tensors[name]] * 2, dim=side)
    save_file(tensors, path, metadata={"format": "pt"})
    module = name.removeprefix("base_model.model.").removesuffix(f".{factor}.weight")
    assert f"{module}: lora_A" in failed(verify(embedded))["adapter would attach"]


def test_an_adapter_that_cannot_be_read_is_found_under_the_same_name(embedded):
    (embedded / "adapter_config.json").write_text("{")
    assert "cannot be read" in failed(verify(embedded))["adapter would attach"]


def test_missing_peft_is_found(embedded, monkeypatch):
    monkeypatch.setattr(
        verification, "find_spec", lambda name: None if name == "peft" else find_spec(name)
    )
    assert "base alone" in failed(verify(embedded))["peft is installed"]


def test_what_is_no_export_is_refused(base, tmp_path):
    for directory in (base, tmp_path, tmp_path / "none"):
        with pytest.raises(VerificationError, match="no export"):
            verify(directory)
    (tmp_path / "export_manifest.json").write_text('{"format": "else"}')
    with pytest.raises(VerificationError, match="else"):
        verify(tmp_path)
    with pytest.raises(VerificationError, match="together"):
        verify(base, base=base)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("options", {}),
        ("options", {"format": "bogus"}),
        ("options", {"format": ["nf4"]}),
        ("files", {"/etc/hostname": "x"}),
        ("files", {"sub/../../secret": "x"}),
        ("files", {"model.safetensors": 1}),
        ("tensors", {"model.safetensors": {"a": 1}}),
        ("tensors", {"model.safetensors": {"a": ["F32", "4"]}}),
        ("tensors", {"model.safetensors": {"a": ["F32", [4, None]]}}),
        ("tensors", {"model.safetensors": []}),
        ("tensors", {"../model.safetensors": {}}),
        ("targets", [1]),
    ],
)  # fmt: skip
def test_a_manifest_of_another_form_is_refused(field, value, embedded):
    path = embedded / "export_manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(VerificationError, match=f"export_manifest.json: {field} is .*again"):
        verify(embedded)


@pytest.mark.parametrize("config", ["[]", '{"target_modules": 5}', '{"target_modules": [5]}'])
@pytest.mark.parametrize("format", ["lora", "peft-tinylora"])
def test_an_adapter_config_of_another_form_is_a_problem(format, config, base, artifact, run):
    out = run(base, artifact, format).out
    (out / "adapter_config.json").write_text(config)
    assert failed(verify(out))["adapter would attach"]


def test_sums_that_are_no_text_are_a_problem(embedded):
    (embedded / "SHA256SUMS").write_bytes(b"\xff")
    assert "SHA256SUMS does not agree" in failed(verify(embedded))["files and digests"]


# --- command line -------------------------------------------------------------------------------


def invoke(*arguments):
    return cli.invoke(app, [str(argument) for argument in arguments])


def test_merge_reports_and_warns(base, make_artifact, tmp_path):
    artifact, out = make_artifact(3e-5), tmp_path / "out"
    result = invoke("merge", "--base", base, "--artifact", artifact, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "capture" in result.stdout and "all 14" in result.stdout
    assert "THE DELTA WAS LOST" in " ".join(result.stderr.split())
    assert invoke("verify", out).exit_code == 0
    (out / "config.json").write_text("{}")
    result = invoke("verify", out)
    assert result.exit_code == 1 and "config.json has been changed" in result.stderr


def test_options_reach_the_manifest(base, artifact, tmp_path):
    out, store = tmp_path / "out", tmp_path / "store"
    result = invoke(
        "merge", "--base", base, "--artifact", artifact, "--out", out, "--format", "nf4",
        "--requantize", "recompute", "--formula", "diagonal", "--rng", "cuda", "--svd", "fast",
        "--numerics", "trainer", "--factor-store", store, "--max-shard-size", "50KB",
        "--device", "cpu", "--placement", '{"": 1}', "--trained-on", "16bit",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    options = json.loads((out / "export_manifest.json").read_text())["options"]
    assert options == {
        "format": "nf4", "requantize": "recompute", "fold_onto": None, "formula": "diagonal",
        "formula_evidence": "the formula option", "trained_on": "16bit",
        "rng": "cuda", "svd": "fast", "numerics": "trainer", "placement": {"": "cuda:1"},
        "calibration_prompts": None, "keep": None, "adapter_dtype": None,
        "max_shard_size": 50_000, "device": "cpu",
    }  # fmt: skip
    assert len(list(store.glob("*.safetensors"))) == 14


def test_errors_go_to_stderr_with_exit_code_2(base, artifact, tmp_path):
    nowhere = tmp_path / "nowhere"
    result = invoke("merge", "--base", nowhere, "--artifact", artifact, "--out", tmp_path / "o")
    assert result.exit_code == 2 and "nowhere" in result.stderr and not result.stdout
    result = invoke("inspect", tmp_path / "none.pt")
    assert result.exit_code == 2 and "none.pt" in result.stderr
    result = invoke("verify", tmp_path)
    assert result.exit_code == 2 and "no export" in result.stderr
    result = invoke("merge", "--base", base, "--artifact", artifact, "--out", tmp_path / "o",
                    "--max-shard-size", "much")  # fmt: skip
    assert result.exit_code == 2 and "much" in result.stderr


def test_a_shortfall_is_exit_code_1_and_leaves_nothing(base, make_artifact, tmp_path):
    result = invoke(
        "merge", "--base", base, "--artifact", make_artifact(3e-5), "--out", tmp_path / "o",
        "--require-capture", "0.5",
    )  # fmt: skip
    assert result.exit_code == 1 and "required" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_inspect(artifact, tmp_path):
    result = invoke("inspect", artifact, "--json")
    found = json.loads(result.stdout)
    assert found["rank"] == 2 and found["seed"] == 42 and found["u"] == 8
    assert found["global_v"]["values"] == inspect_artifact(artifact).artifact.global_v.tolist()
    assert invoke("inspect", artifact).exit_code == 0
    odd = tmp_path / "odd.pt"
    save_artifact(
        odd, global_v=torch.zeros(4), rank=2, seed=1, model_id="a/b", total_replaced_layers=13,
        is_quantized=False, saved_device="cuda:1",
    )  # fmt: skip
    remarks = " | ".join(inspect_artifact(odd).remarks)
    for expected in ("all zeros", "no multiple of 7", "first GPU"):
        assert expected in remarks
    shown = json.loads(invoke("inspect", odd, "--json").stdout)
    assert (shown["formula"], shown["trained_on"]) == ("diagonal", "16bit")
    assert "is_quantized" in shown["formula_evidence"]


def test_help_lists_the_commands():
    result = invoke("--help")
    for command in ("merge", "inspect", "verify"):
        assert command in result.stdout


@pytest.mark.parametrize(
    ("text", "size"),
    [("123", 123), ("2GB", 2 * 10**9), ("1.5KiB", 1536), ("3 mb", 3_000_000), ("1TiB", 2**40)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "5XB", "-", "five", "1e999"])
def test_bad_sizes(text):
    with pytest.raises(RequestError):
        parse_size(text)


def test_a_lora_alone_cannot_be_loaded(base, artifact, run):
    out = run(base, artifact, "lora").out
    with pytest.raises(VerificationError, match="by itself"):
        verify(out, load=True)
    with pytest.raises(VerificationError, match="--load"):
        verify(out, base=base, artifact=artifact)


@pytest.mark.parametrize("stage", ["effect", "measure"])  # while it chooses, and while it writes
def test_sigterm_leaves_nothing_in_tmp(talking, make_artifact, texts, tmp_path, monkeypatch, stage):
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    seen = []

    def ended(request, show):
        def progress(step):
            if step.stage == stage and not seen:
                seen.extend(scratch.iterdir())
                os.kill(os.getpid(), signal.SIGTERM)
            show(step)

        return export(request, progress)

    monkeypatch.setattr(exporter.cli, "export", ended)
    arguments = [
        "merge", "--base", talking, "--artifact", make_artifact(3e-3), "--out", tmp_path / "out",
        "--format", "nf4-mixed", "--target-residual", "0.6", "--prompts", texts(1),
    ]  # fmt: skip
    before = signal.getsignal(signal.SIGTERM)
    result = cli.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 143, result.output
    assert signal.getsignal(signal.SIGTERM) is before
    assert seen and not list(scratch.iterdir())
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert cli.invoke(app, [str(argument) for argument in arguments]).exit_code == 0
