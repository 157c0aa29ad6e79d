"""Packages that are too old, absent, or in the folders of ours."""

from importlib.metadata import PackageNotFoundError, version

import pytest
import typer
from typer.testing import CliRunner

from tinylora.terminal import Json, command, start


@pytest.fixture
def app():
    """A command that fails as code does that meets an older library."""
    made = typer.Typer(pretty_exceptions_enable=False)
    made.callback()(start)

    @made.command()
    def work(json_: Json = False) -> None:
        with command(json_, ""):
            raise AttributeError("module 'transformers' has no attribute 'new'")

    return made


def installed(monkeypatch, **versions):
    """As if packages had other versions, None: are not there."""

    def of(name):
        found = versions.get(name, ...)
        if found is ...:
            return version(name)
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr("importlib.metadata.version", of)


def test_a_failure_beside_an_older_library_says_which_is_needed(app, monkeypatch):
    installed(monkeypatch, transformers="4.57.6", accelerate=None)
    failed = CliRunner().invoke(app, ["work"])
    text = " ".join(failed.stderr.split())
    assert failed.exit_code == 2
    assert "transformers>=5.7 (found 4.57.6)" in text and "(not installed)" in text
    assert "pip install" in text and "has no attribute 'new'" in text


def test_extras_count_only_where_they_are_installed(app, monkeypatch):
    installed(monkeypatch, peft="0.15.0", gguf=None)
    failed = CliRunner().invoke(app, ["work", "--json"])
    assert failed.exit_code == 2 and '"UnmetRequirement"' in failed.stdout
    assert "peft>=0.20 (found 0.15.0)" in failed.stdout and "gguf" not in failed.stdout


def test_a_failure_where_all_is_as_declared_is_shown_as_it_is(app, monkeypatch):
    installed(monkeypatch)
    failed = CliRunner().invoke(app, ["work"])
    assert isinstance(failed.exception, AttributeError)


def test_a_package_of_others_with_a_folder_of_ours_is_named_at_the_start(
    app, monkeypatch, tmp_path
):
    (tmp_path / "exporter-0.0.4.dist-info").mkdir()
    monkeypatch.setattr("tinylora.installed._SITE", tmp_path)
    refused = CliRunner().invoke(app, ["work"])
    assert refused.exit_code == 2 and "pip uninstall exporter" in " ".join(refused.stderr.split())
