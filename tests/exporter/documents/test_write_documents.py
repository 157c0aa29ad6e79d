"""Configuration, measures, manifest and digests."""

import hashlib
import json
import subprocess

import pytest


@pytest.mark.parametrize("format", ["nf4-embedded", "bf16", "lora"])
def test_files_around_the_weights(base, artifact, run, format):
    out = run(base, artifact, format).out
    carried = {"tokenizer_config.json", "generation_config.json", "LICENSE"}
    if format not in ("lora", "peft-tinylora"):
        for name in carried:
            assert (out / name).read_bytes() == (base / name).read_bytes()
        assert (out / "BASE_README.md").read_bytes() == (base / "README.md").read_bytes()
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    listed = {line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()}
    assert listed == {p.name for p in out.iterdir()} - {"SHA256SUMS"}
    manifest = json.loads((out / "export_manifest.json").read_text())
    assert manifest["options"] == manifest["options"] | {
        "format": format, "formula": "full", "rng": "cpu", "svd": "exact", "numerics": "fp32",
    }  # fmt: skip
    assert len(manifest["targets"]) == 14
    digest = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    assert manifest["base"]["files"] == {"model.safetensors": digest}
    assert str(base) not in (out / "export_manifest.json").read_text()
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert ("with peft installed" in card) == (format == "nf4-embedded")
    rows = (out / "fidelity.csv").read_text().splitlines()
    assert len(rows) == 15
