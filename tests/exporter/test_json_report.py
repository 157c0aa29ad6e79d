"""``--json``: one object on standard output, whatever happens."""

import json

from typer.testing import CliRunner

from exporter.cli import app


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return json.loads(result.stdout), result.exit_code


def test_merge_inspect_and_verify_print_one_json_object(base, artifact, tmp_path):
    out = tmp_path / "out"
    merge = ("merge", "--json", "--base", base, "--artifact", artifact)
    made, code = invoke(*merge, "--out", out, "--format", "bf16")
    assert (code, made["ok"], made["format"], made["out"]) == (0, True, "bf16", str(out))
    manifest = json.loads((out / "export_manifest.json").read_text())
    assert manifest["files"].items() <= made["files"].items()
    fidelity = json.loads((out / "fidelity.json").read_text())
    assert made["fidelity"] == fidelity["total"]
    found, code = invoke("verify", out, "--json")
    assert (code, found["ok"], found["checks"][0]["problems"]) == (0, True, [])
    (out / "config.json").write_text("{}")
    found, code = invoke("verify", out, "--json")
    assert (code, found["ok"]) == (1, False)
    assert any("config.json has been changed" in p for c in found["checks"] for p in c["problems"])
    found, code = invoke("inspect", artifact, "--json")
    assert code == 0 and "remarks" in found


def test_an_error_is_an_object_too(base, artifact, tmp_path):
    merge = ("merge", "--json", "--base", base, "--artifact", artifact, "--out", tmp_path / "o")
    found, code = invoke(*merge, "--format", "nf4", "--require-capture", "1")
    assert (code, found["ok"], found["error"]["kind"]) == (1, False, "CaptureError")
    found, code = invoke("inspect", tmp_path / "none.pt", "--json")
    assert code == 2 and "none.pt" in found["error"]["message"]
