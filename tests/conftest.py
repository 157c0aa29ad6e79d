"""What all tests share: Hypothesis' profile and a tiny real base model.

Libraries that take seconds to import are imported where they are used, here and in the packages'
own conftests, so that a single test answers at once.
"""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.bitsandbytes_cpu import patch_when_imported

settings.register_profile("project", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("project")
patch_when_imported()


def tiny_config(**changes):
    """Of a Qwen2 model with 2 layers, and whatever is changed."""
    from transformers import Qwen2Config

    settings = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 320,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    return Qwen2Config(**(settings | changes))


def save_random_family(directory, family, dtype, **changes):
    """Write a tiny random model of one of transformers' classes, ``Llama`` or another."""
    import torch
    import transformers

    settings = {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,  # 4 heads of 16 make 64, not 48: q and o are not square
        "max_position_embeddings": 64,
        "bos_token_id": None,
        "pad_token_id": 0,
    }
    config = getattr(transformers, f"{family}Config")(**settings | changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if "norm" in name:  # ones or zeros at first, and then no test of them
                parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    model.to(dtype).save_pretrained(directory)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a bf16 Qwen2 checkpoint with 2 layers (14 target modules) and random weights."""
    import torch
    from transformers import Qwen2ForCausalLM

    directory = tmp_path_factory.mktemp("tiny-base")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(tiny_config()).to(torch.bfloat16)
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "luogu"
    if not folder.is_dir():
        pytest.skip("the real data folder is not beside this checkout")
    return folder
