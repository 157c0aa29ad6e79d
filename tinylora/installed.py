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


def outdated() -> dict[str, str]:
    """Declared requirements, those of extras too, of which another version is here -> that one."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    found = {}
    with suppress(PackageNotFoundError):  # run from a source tree
        for requirement in map(Requirement, requires(_OWN) or []):
            with suppress(PackageNotFoundError):  # of an extra
                here = version(requirement.name)
                if not requirement.specifier.contains(here, prereleases=True):
                    found[f"{requirement.name}{requirement.specifier}"] = here
    return found
