"""Packages that are too old, or in the folders of ours."""

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


@pytest.fixture
def versions(monkeypatch):
    """Packages that are there in other versions, or not there (None); empty: as they are."""
    found = {}

    def of(name):
        if found.get(name, "") is None:
            raise PackageNotFoundError(name)
        return found.get(name) or version(name)

    monkeypatch.setattr("importlib.metadata.version", of)
    return found


def test_a_failure_beside_older_libraries_says_which_are_needed(app, versions):
    versions |= {"transformers": "4.57.6", "peft": "0.15.0"}  # the latter is of an extra
    failed = CliRunner().invoke(app, ["work", "--json"])
    text = " ".join(failed.stderr.split())
    assert failed.exit_code == 2 and '"UnmetRequirement"' in failed.stdout
    assert "transformers>=5.7 (found 4.57.6), peft>=0.20 (found 0.15.0)" in text
    assert "pip install" in text and "has no attribute 'new'" in text


def test_a_failure_without_a_library_says_which_is_needed(app, versions):
    versions |= {"transformers": None, "peft": None}  # the latter is of an extra
    failed = CliRunner().invoke(app, ["work"])
    text = " ".join(failed.stderr.split())
    assert failed.exit_code == 2 and "this needs transformers>=5.7 (found none); pip" in text


def test_a_failure_where_all_is_as_declared_is_shown_as_it_is(app, versions):
    failed = CliRunner().invoke(app, ["work"])
    assert isinstance(failed.exception, AttributeError)


def test_a_package_of_others_with_a_folder_of_ours_is_named_at_the_start(
    app, monkeypatch, tmp_path
):
    (tmp_path / "exporter-0.0.4.dist-info").mkdir()
    monkeypatch.setattr("tinylora.installed._SITE", tmp_path)
    refused = CliRunner().invoke(app, ["work"])
    assert refused.exit_code == 2 and "pip uninstall exporter" in " ".join(refused.stderr.split())
