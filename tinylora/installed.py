"""Whether the packages of this environment are those that this one declares."""

from collections.abc import Iterator
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


def unmet_requirements() -> dict[str, str]:
    """Declared requirements that are not met, and in words what was found.

    Those of extras count where the package is installed.
    """
    from importlib.metadata import PackageNotFoundError, requires

    try:
        return dict(_unmet(requires(_OWN) or []))
    except PackageNotFoundError:  # run from a source tree
        return {}


def _unmet(declared: list[str]) -> Iterator[tuple[str, str]]:
    from packaging.requirements import Requirement

    for requirement in map(Requirement, declared):
        found = _version(requirement.name)
        wanted = f"{requirement.name}{requirement.specifier}"
        of_extra = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        if found is None and not of_extra:
            yield wanted, "not installed"
        elif found and not requirement.specifier.contains(found, prereleases=True):
            yield wanted, f"found {found}"


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
