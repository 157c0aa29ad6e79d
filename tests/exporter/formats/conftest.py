"""Tiny random models of the families that llama.cpp knows."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import save_random_family

DEMO = Path(__file__).resolve().parents[3] / "demo"


@pytest.fixture(scope="module")
def make_family(tmp_path_factory):
    """A tiny random model of one of transformers' classes, with a tokenizer."""

    def make(family, **changes):
        directory = tmp_path_factory.mktemp(family) / "tiny-qwen"
        settings = {"vocab_size": 1536, "eos_token_id": 2, "tie_word_embeddings": True}
        save_random_family(directory, family, torch.bfloat16, **settings | changes)
        for file in (DEMO / "base").glob("*token*"):
            shutil.copy(file, directory)
        return directory

    return make
