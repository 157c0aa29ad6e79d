"""Tiny random models of the families that llama.cpp knows."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

DEMO = Path(__file__).resolve().parents[3] / "demo"


@pytest.fixture(scope="module")
def make_family(tmp_path_factory):
    """A tiny random model of one of transformers' classes, with a tokenizer."""

    def make(family, **changes):
        settings = {"vocab_size": 1536, "hidden_size": 48, "intermediate_size": 80}
        settings |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        settings |= {"head_dim": 16, "max_position_embeddings": 64, "tie_word_embeddings": True}
        settings |= {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
        config = getattr(transformers, f"{family}Config")(**settings | changes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = AutoModelForCausalLM.from_config(config)
            for name, parameter in model.named_parameters():
                if "norm" in name:  # ones or zeros at first, and then no test of them
                    parameter.data.add_(torch.randn(parameter.shape) * 0.1)
        directory = tmp_path_factory.mktemp(family) / "tiny-qwen"
        model.bfloat16().save_pretrained(directory)
        for file in (DEMO / "base").glob("*token*"):
            shutil.copy(file, directory)
        return directory

    return make
