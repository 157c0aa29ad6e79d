"""The README.md of an export: how to load it, what was measured, whose licence it has."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from exporter.compare.retention import Retention
from exporter.errors import reading
from exporter.fidelity import FidelityReport, rounded
from exporter.prepare import Prepared
from tinylora.errors import YamlError
from tinylora.files.yaml_text import MAX_BYTES, load_yaml

CARD_FILE = "README.md"
_LICENSE_KEYS = ("license", "license_name", "license_link")
_LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?|code|multilingual")
_HUB_ID = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?/[A-Za-z0-9][\w.-]{0,95}")


def _front_of(base: Path) -> Mapping[str, Any]:
    """The front matter of a base's model card, which is someone else's; empty where it has none."""
    card, text, front = base / "README.md", "", None
    if card.is_file():
        with card.open("rb") as file:
            text = file.read(2 * MAX_BYTES).decode(errors="replace").replace("\r\n", "\n")
    if text.startswith("---\n"):
        with suppress(YamlError):  # the licence is then unknown, and said so
            front = load_yaml(text[4:].partition("\n---")[0].encode(), str(card), texts=True)
    return front if isinstance(front, dict) else {}


def _license(front: Mapping[str, Any], carried: Iterable[str]) -> tuple[Mapping[str, str], str]:
    """Licence fields as the hub takes them, and a sentence for people that names its texts."""
    found = {key: front.get(key) for key in _LICENSE_KEYS}
    metadata = {key: text for key, text in found.items() if isinstance(text, str) and text}
    name = metadata.get("license_name") or metadata.get("license")
    if not _LICENSE_ID.fullmatch(metadata.get("license", "")):  # a name of the base's own
        own = {"license": "other", "license_name": name} if name else {"license": "unknown"}
        metadata = {**metadata, **own}
    named = _plain(name) if name else "see the base's page"
    texts = (name for name in carried if name.upper().startswith(("LICENSE", "LICENCE")))
    files = ", ".join(sorted(texts))
    its_text = f" (its text: {_plain(files)})" if files else ""
    return metadata, f"The base's licence applies: {named}{its_text}."


def _metadata(export: Prepared, front: Mapping[str, Any]) -> dict[str, Any]:
    """What a hub reads of a model card, beside the licence; only values that it takes."""
    layout, model_id = export.request.layout, export.inputs.adapter.model_id
    fields: dict[str, Any] = {}
    # a path of the machine that trained is no name of a model
    if model_id and _HUB_ID.fullmatch(model_id) and not Path(model_id).exists():
        fields["base_model"] = model_id
        fields["base_model_relation"] = "finetune" if layout.standalone else "adapter"
    given = front.get("language")
    languages = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if known := [code for code in languages if isinstance(code, str) and _LANGUAGE.fullmatch(code)]:
        fields["language"] = known
    return fields | {
        "library_name": layout.library,
        "pipeline_tag": "text-generation",
        "tags": ["tinylora", layout.name],
    }


def model_card(
    export: Prepared,
    fidelity: FidelityReport,
    warnings: Sequence[str],
    carried: Iterable[str],
    retention: Retention | None,
) -> str:
    """Text of README.md; ``carried`` are files of the base that lie beside it."""
    layout, provenance = export.request.layout, export.provenance
    artifact, choice = provenance["artifact"], export.choice
    with reading(export.inputs.base.path):
        front = _front_of(export.inputs.base.path)
    metadata, license_ = _license(front, carried)
    model_id = artifact["model_id"] or "A base model"  # a PEFT adapter may name none
    kind = "LoRA" if artifact.get("dialect") == "lora" else "TinyLoRA"
    # as a Python string, whatever is in it
    quoted = json.dumps(model_id, ensure_ascii=False)
    loading = layout.loading(quoted, export.inputs.weights.trained_on)
    language = "sh" if layout.library == "gguf" else "python"
    head = {**metadata, **_metadata(export, front)}
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n",
        f"# {_plain(model_id)} with a {kind} adapter ({layout.name})\n",
        layout.content + "\n",
        "" if choice is None else f"Chosen by measurement: {choice.sentence}.\n",
        f"## Loading\n\n```{language}\n{loading}```\n",
        f"> **{layout.needs}**\n" if layout.needs else "",
        layout.note,
        _measured(fidelity),
        "".join(f"> **Warning:** {_plain(warning)}\n\n" for warning in warnings),
        "" if retention is None else _retention(retention),
        _origin(provenance),
        f"## Licence\n\n{license_}\n",
    ]
    return "\n".join(part for part in parts if part)


def _retention(found: Retention) -> str:
    rows = "".join(
        f"| {name} | {d.mean:.3g} | {d.p99:.3g} | {d.largest:.3g} | {d.top1_agreement:.2%} |\n"
        for name, d in found.rows
    )
    return (
        f"## Retention\n\n{found.sentence} Retention is 1 − KL(restored‖export)/"
        "KL(restored‖base), computed in float32 on the same tokens.\n\n"
        "| model | mean KL (nats) | 99 % | largest | same first choice |\n"
        f"| --- | --- | --- | --- | --- |\n{rows}"
    )


def _plain(text: str) -> str:
    """Text that came from elsewhere, in one line of Markdown that shows it and does nothing."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    return re.sub(r"([\\`*_\[\]<>|#!&~])", r"\\\1", line)


def _measured(fidelity: FidelityReport) -> str:
    total = fidelity.total

    def shown(value: float | None) -> str:
        return "undefined (the delta is zero)" if value is None else f"{rounded(value):.6g}"

    return (
        "## What was measured\n\n"
        "E is what the stored weights add to the base, Δ what the adapter adds; `fidelity.json` "
        "has each module.\n\n"
        "| measure | value |\n| --- | --- |\n"
        f"| verdict, by the weights | {fidelity.verdict} |\n"
        f"| capture ⟨E,Δ⟩/⟨Δ,Δ⟩ (1: all of the delta) | {shown(total.capture)} |\n"
        f"| residual ‖E−Δ‖/‖Δ‖ (0: perfect, 1: as good as the base) | {shown(total.residual)} |\n"
        f"| noise orthogonal to Δ | {shown(total.noise)} |\n"
    )


def _origin(provenance: Mapping[str, Any]) -> str:
    options, base = provenance["options"], provenance["base"]
    rows = "".join(
        f"| {name} | {value} |\n" for name, value in options.items() if value is not None
    )
    return (
        "## Origin\n\n| option | value |\n| --- | --- |\n"
        f"{rows}| artifact sha256 | {provenance['artifact']['sha256']} |\n"
        f"| base digest | {base['digest']} |\n\n"
        "`export_manifest.json` has versions, every tensor and every digest; "
        "`sha256sum -c SHA256SUMS` checks the files.\n"
    )
