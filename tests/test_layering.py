"""Imports go one way: exporter → tinylora ← evaluator, and no folder has a circle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "tinylora": {"tinylora"},
    "exporter": {"exporter", "tinylora"},
    "evaluator": {"evaluator", "tinylora"},
}


def imports_of(path):
    """Dotted names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_packages_import_only_what_is_below_them(package):
    for path in (ROOT / package).rglob("*.py"):
        ours = {name.split(".")[0] for name in imports_of(path)} & (
            set(ALLOWED) | {"demo", "tests"}
        )
        assert ours <= ALLOWED[package], path


def children(folder):
    """The modules and subfolders of a folder, each with all its files."""
    for child in sorted(folder.iterdir()):
        if child.suffix == ".py" and child.stem != "__init__":
            yield child.stem, [child]
        elif (child / "__init__.py").exists():
            yield child.name, list(child.rglob("*.py"))


@pytest.mark.parametrize(
    "folder",
    [
        str(path.parent.relative_to(ROOT))
        for package in sorted(ALLOWED)
        for path in (ROOT / package).rglob("__init__.py")
    ],
)
def test_no_circle_within_a_folder(folder):
    """Neither its files nor its subfolders import each other in a circle."""
    prefix = f"{folder.replace('/', '.')}."
    files = dict(children(ROOT / folder))
    graph = {
        child: {
            name.removeprefix(prefix).split(".")[0]
            for path in paths
            for name in imports_of(path)
            if name.startswith(prefix)
        }
        & files.keys() - {child}
        for child, paths in files.items()
    }
    assert list(TopologicalSorter(graph).static_order()) or not files  # raises on a circle


def test_importers_know_nothing_of_suites():
    known = ("data_files", "importers", "limits", "luogu_data", "problem")
    below = ("evaluator.errors", *(f"evaluator.suites.{name}" for name in known))
    for path in (ROOT / "evaluator" / "suites" / "importers").glob("[a-z]*.py"):
        names = {name for name in imports_of(path) if name.startswith("evaluator.")}
        assert all(name.startswith(below) for name in names), path


LONGEST = 350
CODE = {".py", ".cpp", ".h", ".css", ".html", ".js"}


def test_no_file_is_too_long():
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for package in ALLOWED
        for path in (ROOT / package).rglob("*.*")
        if path.suffix in CODE
    }
    assert [name for name, count in lines.items() if count > LONGEST] == []


@pytest.mark.parametrize("package", sorted(ALLOWED))
@pytest.mark.parametrize("page", ["__init__.py", "README.md", "README.zh-CN.md"])
def test_maps_name_every_folder(package, page):
    path = ROOT / package / page if page.endswith(".py") else ROOT / page
    folders = [path.parent.name for path in (ROOT / package).glob("*/__init__.py")]
    assert [name for name in folders if not re.search(rf"`{name}/?`", path.read_text())] == []


def test_one_module_loads_from_directories_of_others():
    """The one that never runs their code and never asks a hub."""
    for package in ALLOWED:
        for path in (ROOT / package).rglob("*.py"):
            if path != ROOT / "tinylora/models/pretrained.py":
                nodes = ast.walk(ast.parse(path.read_text()))
                called = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
                assert not called & {"from_pretrained", "from_config", "from_name"}, path
