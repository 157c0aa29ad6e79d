"""Where and with what a run was made."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ["tinylora-export", "torch", "transformers", "bitsandbytes", "peft", "accelerate"]
_PACKAGES += ["safetensors", "tokenizers", "numpy", "scipy", "pandas", "vllm", "vllm-bnb-plugin"]
# Those that decide what a model computes, to the last bit.
_COMPUTING = ("torch", "transformers", "bitsandbytes", "peft", "vllm", "vllm-bnb-plugin")


def describe_environment(command: str, device: torch.device, sandbox: dict[str, Any]) -> Any:
    """Versions, machine and command of one session of a run, an object for JSON."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **package_versions()},
        "machine": {
            "system": platform.platform(),
            "cpu": _cpu_name(),
            "cpus": len(os.sched_getaffinity(0)),
            "torch_threads": torch.get_num_threads(),
            "device": str(device),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        },
        "sandbox": sandbox,
    }


def other_versions(earlier: Iterable[Any], session: Any) -> tuple[str, ...]:
    """Versions in earlier sessions and not in this one of what computes: ``torch 2.9.0``."""
    found = {
        f"{name} {one['versions'].get(name)}": None
        for one in earlier
        for name in _COMPUTING
        if one["versions"].get(name) not in (None, session["versions"].get(name))
    }
    return tuple(found)


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes; an absent one is left out."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def command_line() -> str:
    """The command as typed, quoted where the shell needs it; bytes that are no text as escapes."""
    typed = shlex.join(["tinylora-eval", *sys.argv[1:]])
    return typed.encode("utf-8", "backslashreplace").decode()


def _commit() -> str | None:
    """The commit of a source tree that this runs from, with + where files were changed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run([*git, "--exclude=*"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
