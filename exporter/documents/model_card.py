"""The README.md of an export: how to load it, what was measured, whose licence it has."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exporter.compare.retention import Retention
from exporter.documents.manifest import Provenance
from exporter.fidelity import FidelityReport, rounded
from exporter.formats.formats import Format
from tinylora.errors import YamlError
from tinylora.files.yaml_text import load_yaml

CARD_FILE = "README.md"
_ORIGIN = "## Origin\n"
_LICENSE_KEYS = ("license", "license_name", "license_link")


@dataclass(frozen=True)
class BaseLicense:
    """What the base says about its licence.

    Attributes:
        metadata: The licence fields of the front matter of its README.md.
        files: Licence files that are carried along.
    """

    metadata: Mapping[str, str]
    files: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For people."""
        name = self.metadata.get("license_name") or self.metadata.get("license")
        named = _plain(name) if name else "see the base's page"
        files = f" (its text: {_plain(', '.join(self.files))})" if self.files else ""
        return f"The base's licence applies: {named}{files}."


def read_license(base: Path) -> BaseLicense:
    """Licence of a base, from its model card's front matter and its LICENSE files."""
    files = sorted(
        p.name for p in base.iterdir() if p.name.upper().startswith(("LICENSE", "LICENCE"))
    )
    card = base / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    front: Any = None
    if text.startswith("---\n"):
        try:
            front = load_yaml(text[4:].partition("\n---")[0].encode(), str(card), texts=True)
        except YamlError:  # someone else's card; the licence is then unknown, and said so
            front = None
    fields = front if isinstance(front, dict) else {}
    found = {key: fields.get(key) for key in _LICENSE_KEYS}
    metadata = {key: text for key, text in found.items() if isinstance(text, str) and text}
    return BaseLicense(metadata, tuple(files))


def model_card(
    layout: Format,
    provenance: Provenance,
    fidelity: FidelityReport,
    license_: BaseLicense,
    warnings: Sequence[str],
    choice: str | None,
) -> str:
    """Text of README.md.

    Args:
        layout: The output format.
        provenance: Inputs and options.
        fidelity: What was measured.
        license_: The base's licence.
        warnings: What the user was warned of.
        choice: Why the exporter chose this format, or these modules.
    """
    artifact, options = provenance.artifact, provenance.options
    model_id = artifact["model_id"] or "A base model"  # a PEFT adapter may name none
    front = {
        **license_.metadata,
        **({"base_model": artifact["model_id"]} if artifact["model_id"] else {}),
        "library_name": "peft" if layout.weights == "none" else "transformers",
        "tags": ["tinylora", layout.name],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n",
        f"# {_plain(model_id)} with a TinyLoRA adapter ({layout.name})\n",
        _CONTENT[layout.name] + "\n",
        "" if choice is None else f"Chosen by measurement: {choice}.\n",
        f"## Loading\n\n```python\n{_loading(layout, model_id, options['trained_on'])}```\n",
        _EMBEDDED_WARNING if layout.adapter and layout.weights != "none" else "",
        _measured(fidelity),
        "".join(f"> **Warning:** {_plain(warning)}\n\n" for warning in warnings),
        _origin(provenance),
        f"## Licence\n\n{license_.sentence}\n",
    ]
    return "\n".join(part for part in parts if part)


def with_retention(card: str, retention: Retention) -> str:
    """A model card with a section on retention.

    Args:
        card: Text made by :func:`model_card`.
        retention: What was measured.
    """
    before, _, origin = card.partition(_ORIGIN)
    rows = "".join(
        f"| {name} | {d.mean:.3g} | {d.p99:.3g} | {d.largest:.3g} | {d.top1_agreement:.2%} |\n"
        for name, d in retention.rows
    )
    return (
        f"{before}## Retention\n\n{retention.sentence} Retention is 1 − KL(restored‖export)/"
        "KL(restored‖base), computed in float32 on the same tokens.\n\n"
        "| model | mean KL (nats) | 99 % | largest | same first choice |\n"
        f"| --- | --- | --- | --- | --- |\n{rows}\n{_ORIGIN}{origin}"
    )


_CONTENT = {
    "nf4": "The delta is merged into the weights, which are stored in 4 bits (bitsandbytes).",
    "nf4-mixed": "The delta is merged; the modules that carry most of its effect are stored in "
    "bfloat16, the others in 4 bits (bitsandbytes).",
    "nf4-embedded": "The 4-bit base, code for code, with the delta beside it as a LoRA adapter.",
    "bf16": "The delta is merged into dense bfloat16 weights.",
    "fp16": "The delta is merged into dense float16 weights.",
    "fp32": "The delta is merged into dense float32 weights.",
    "lora": "The delta alone, as a PEFT LoRA adapter; it belongs on the base as training had it.",
    "peft-tinylora": (
        "The adapter alone, as a PEFT TinyLoRA adapter (PEFT 0.19 or later) with all its parts "
        "stored. PEFT cannot put TinyLoRA on a 4-bit base: load the base in 16 or 32 bits. The "
        "parts stay float32 on a 16-bit base too; with `autocast_adapter_dtype=False` PEFT would "
        "round them to the base's dtype."
    ),
}

_EMBEDDED_WARNING = (
    "> **`peft` must be installed.** Without it transformers loads the base alone and says nothing."
    "\n> Load from a local directory: from a hub id transformers looks for another base.\n"
)


def _plain(text: str) -> str:
    """Text that came from elsewhere, in one line of Markdown that shows it and does nothing."""
    return re.sub(r"([\\`*_\[\]<>|#!&~])", r"\\\1", " ".join(text.split()))


def _loading(layout: Format, model_id: str, trained_on: str) -> str:
    base_id = json.dumps(model_id, ensure_ascii=False)  # as a Python string, whatever is in it
    if layout.weights != "none":
        return (
            "from transformers import AutoModelForCausalLM\n\n"
            'model = AutoModelForCausalLM.from_pretrained("path/to/this/directory")\n'
        )
    if layout.method == "TINYLORA" or trained_on == "16bit":
        return (
            "import torch\n"
            "from peft import PeftModel\n"
            "from transformers import AutoModelForCausalLM\n\n"
            f"base = AutoModelForCausalLM.from_pretrained({base_id}, dtype=torch.bfloat16)\n"
            'model = PeftModel.from_pretrained(base, "path/to/this/directory")\n'
        )
    return (
        "import torch\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, BitsAndBytesConfig\n\n"
        "settings = BitsAndBytesConfig(\n"
        '    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,\n'
        "    bnb_4bit_compute_dtype=torch.float16,\n"
        ")\n"
        f"base = AutoModelForCausalLM.from_pretrained({base_id}, dtype=torch.bfloat16,\n"
        "                                            quantization_config=settings)\n"
        'model = PeftModel.from_pretrained(base, "path/to/this/directory")\n'
    )


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


def _origin(provenance: Provenance) -> str:
    options, base = provenance.options, provenance.base
    rows = "".join(
        f"| {name} | {value} |\n" for name, value in options.items() if value is not None
    )
    return (
        f"{_ORIGIN}\n| option | value |\n| --- | --- |\n"
        f"{rows}| artifact sha256 | {provenance.artifact['sha256']} |\n"
        f"| base digest | {base['digest']} |\n\n"
        "`export_manifest.json` has versions, every tensor and every digest; "
        "`sha256sum -c SHA256SUMS` checks the files.\n"
    )
