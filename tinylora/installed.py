"""Whether the packages of this environment are those that this one declares."""

from contextlib import suppress
from pathlib import Path

_OWN = "tinylora-export"
_SITE = Path(__file__).resolve().parents[1]
# Packages of others whose folders have the names of ours: the later installed overwrites files.
_SAME_FOLDERS = ("exporter", "evaluator")


def strangers() -> str:
    """In words, that packages of others lie in our folders; empty where none do."""
    found = " ".join(name for name in _SAME_FOLDERS if any(_SITE.glob(f"{name}-*.dist-info")))
    return found and (
        f"the package {found} of somebody else is installed here and has files in folders of "
        f"{_OWN}. Use an environment of its own, or: pip uninstall {found}; then "
        f"pip install --force-reinstall --no-deps {_OWN}"
    )


def unmet() -> dict[str, str]:
    """Declared requirements that are not met -> the version that is here, or ``none``.

    Those of extras count where the package is here.
    """
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    found = {}
    with suppress(PackageNotFoundError):  # run from a source tree
        for requirement in map(Requirement, requires(_OWN) or []):
            of_extra = requirement.marker and not requirement.marker.evaluate({"extra": ""})
            try:
                here = version(requirement.name)
                is_met = requirement.specifier.contains(here, prereleases=True)
            except PackageNotFoundError:
                here, is_met = "none", bool(of_extra)
            if not is_met:
                found[f"{requirement.name}{requirement.specifier}"] = here
    return found
