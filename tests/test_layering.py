"""Imports go one way: exporter → tinylora ← evaluator, and within a package there is no cycle."""

import ast
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


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_no_cycle_within_a_package(package):
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in (ROOT / package).rglob("*.py")
        if path.stem != "__init__"
    }
    assert modules
    graph = {}
    for module, path in modules.items():
        names = {prefix for name in imports_of(path) for prefix in (name, name.rpartition(".")[0])}
        graph[module] = names & modules.keys()
    assert list(TopologicalSorter(graph).static_order())  # raises on a cycle
    assert any(graph.values())


def test_importers_know_nothing_of_suites():
    known = ("data_files", "importers", "limits", "luogu_data", "problem", "statement_text")
    below = ("evaluator.errors", *(f"evaluator.suites.{name}" for name in known))
    for path in (ROOT / "evaluator" / "suites" / "importers").glob("[a-z]*.py"):
        names = {name for name in imports_of(path) if name.startswith("evaluator.")}
        assert all(name.startswith(below) for name in names), path
