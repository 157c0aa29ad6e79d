"""Models by the names that hubs give them, found on this machine."""

from pathlib import Path

import pytest

from tinylora.errors import ModelNotFoundError
from tinylora.models.find_model import find_model

NAME = "Qwen/Qwen2.5-Coder-3B"


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Empty caches of both hubs, and an empty working directory."""
    hugging_face, scope = tmp_path / "hf", tmp_path / "ms"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hugging_face))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(scope))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return hugging_face, scope


def model_at(directory):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").touch()
    return directory


def snapshot(cache, revision, name=NAME):
    return cache / f"models--{name.replace('/', '--')}" / "snapshots" / revision


def test_a_directory_is_itself_also_where_a_cache_has_the_name(caches):
    model_at(snapshot(caches[0], "a"))
    assert find_model(NAME) == snapshot(caches[0], "a")
    model_at(Path(NAME))
    assert find_model(NAME) == Path(NAME)
    assert find_model("/no/such/place") == Path("/no/such/place")


@pytest.mark.parametrize("name", [NAME, "qwen/qwen2.5-coder-3b"])
def test_hugging_faces_cache_gives_the_main_branch_in_any_case(caches, name):
    for revision in "abc":
        model_at(snapshot(caches[0], revision))
    refs = snapshot(caches[0], "a").parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("b")
    assert find_model(name) == snapshot(caches[0], "b")


def test_a_download_that_has_not_got_far_is_no_model(caches):
    model_at(snapshot(caches[0], "a"))
    (snapshot(caches[0], "a") / "model.safetensors").unlink()  # as after loading the tokenizer
    with pytest.raises(ModelNotFoundError):
        find_model(NAME)


@pytest.mark.parametrize("below", ["", "models"])
@pytest.mark.parametrize("name", [NAME, "qwen/qwen2.5-coder-3b"])
def test_modelscopes_cache_is_read_with_its_spelling(caches, below, name):
    there = model_at(caches[1] / below / "Qwen" / "Qwen2___5-Coder-3B")
    model_at(caches[1] / below / "Qwen" / "Qwen2___5-Coder-7B")
    assert find_model(name) == there


def test_what_is_nowhere_is_said_with_the_places_looked_at(caches, tmp_path):
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(NAME)
    for place in (tmp_path / "work" / NAME, *caches, caches[1] / "models"):
        assert str(place) in str(caught.value)
    assert "--download huggingface or modelscope" in str(caught.value)
