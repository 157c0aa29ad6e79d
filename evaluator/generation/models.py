"""Load an arm's model as its user would, then set what it computes in.

The stored values stay what they are: 4-bit weights keep their codes and scales and are
dequantized at each use; dense weights are cast. Only the arithmetic is chosen, by default float32,
so that arms differ by their weights and not by the rounding of activations.

Three ways in which a model can silently be another one are refused here: an adapter embedded in
the directory while ``peft`` is missing (transformers then loads the base alone), tensors missing
from the checkpoint (they would be drawn at random), and a 4-bit load that quantized nothing.
"""

import gc
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
)

from evaluator.config.run_config import ArmConfig, ComputeDtype
from evaluator.errors import ModelError
from evaluator.generation.checkpoints import ADAPTER_CONFIG, Checkpoint
from tinylora import (
    AdaptedLinear,
    DeltaOptions,
    FactorStore,
    TinyLoRAError,
    TinyLoRAGlobalParams,
    adapted_layers,
    deltas_of,
    load_adapter,
    restore,
)
from tinylora.models.trainer_nf4 import trainer_nf4
from tinylora.models.unmerged import adapter_tensors

_log = logging.getLogger(__name__)


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """``auto`` to a GPU where there is one, else the CPU; other names as torch has them.

    Args:
        name: A configuration's device.
        local_rank: Number of this process on its machine: where no GPU is named, each takes its
            own as long as there are enough.

    Raises:
        ModelError: A GPU was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name.startswith("cuda") and not available:
        raise ModelError(f"device: {name} was asked for, but torch sees no GPU here")
    if name == "cuda" or (name == "auto" and available):
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("cpu" if name == "auto" else name)


def check_adapter(arm: ArmConfig, checkpoint: Checkpoint) -> None:
    """Check, without any weights, that an arm's artifact is sound, complete and fits its base.

    Args:
        arm: An arm; one without an artifact passes.
        checkpoint: Its files.

    Raises:
        ModelError: It cannot be used, it is another base's, or transformers cannot build the base.
    """
    if arm.artifact is None:
        return
    where = str(checkpoint.directory)
    try:
        config = AutoConfig.from_pretrained(where, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        adapter = load_adapter(arm.artifact)
        layers = adapted_layers(adapter, model, where)
        deltas_of(adapter, [name for name, _ in layers], _delta_options(arm))
    except TinyLoRAError as error:
        raise ModelError(f"arm {arm.name}: {error}") from error
    except Exception as error:  # transformers raises whatever a malformed file leads to
        raise ModelError(f"arm {arm.name}: cannot build {where}: {error!r:.500}") from error


def _delta_options(arm: ArmConfig) -> DeltaOptions:
    return DeltaOptions(
        formula=arm.formula, rng=arm.rng, numerics=arm.numerics, placement=arm.placement
    )


@contextmanager
def loaded_model(
    arm: ArmConfig,
    checkpoint: Checkpoint,
    compute_dtype: ComputeDtype,
    device: torch.device,
    factors: Path,
) -> Iterator[PreTrainedModel]:
    """One arm's model, in memory only inside the ``with``.

    Args:
        arm: How to load it, and the artifact to restore.
        checkpoint: Its files.
        compute_dtype: What it computes in.
        device: Where.
        factors: Directory in which SVD factors of the base are kept between starts.

    Raises:
        ModelError: It cannot be loaded, or would load as something else.
        TinyLoRAError: The artifact does not fit.
    """
    model = _load(arm, checkpoint, device)
    if arm.artifact is not None:
        restore(model, load_adapter(arm.artifact), _delta_options(arm), FactorStore(factors))
    compute_in(model, getattr(torch, compute_dtype))
    model.eval()
    try:
        yield model
    finally:
        del model
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def compute_in(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Let a model compute in ``dtype``, in place.

    4-bit layers keep their stored tensors; other parameters are cast; buffers are cast only to a
    wider type (rotary frequencies stay float32). The adapter's own modules are left alone: their
    numerics are an option of the restore.

    Args:
        model: Any causal model, dense, 4-bit, with an adapter or not.
        dtype: float32, bfloat16 or float16.
    """
    for module in model.modules():
        if isinstance(module, AdaptedLinear | TinyLoRAGlobalParams):
            continue
        if isinstance(module, Linear4bit):
            module.compute_dtype = dtype
            module.compute_type_is_set = True
            # On CPUs with AVX512-BF16 bitsandbytes would compute in bfloat16 whatever is asked.
            module.support_avx512bf16_for_cpu = dtype is torch.bfloat16 and (
                module.support_avx512bf16_for_cpu
            )
        for parameter in module.parameters(recurse=False):
            if parameter.is_floating_point() and not isinstance(parameter, Params4bit):
                parameter.data = parameter.data.to(dtype)
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point() and buffer.itemsize < dtype.itemsize:
                setattr(module, name, buffer.to(dtype))
        if hasattr(module, "scalar_embed_scale"):
            # Gemma's constant came in the dtype of the load, which differs between arms.
            module.embed_scale = module.embed_scale.new_tensor(
                module.scalar_embed_scale, dtype=dtype
            )


def _load(arm: ArmConfig, checkpoint: Checkpoint, device: torch.device) -> PreTrainedModel:
    directory = checkpoint.directory
    quantize = arm.load == "nf4"
    if quantize and checkpoint.quantized:
        raise ModelError(
            f"arm {arm.name}: load: nf4 quantizes a 16-bit checkpoint while loading, but "
            f"{directory} is quantized already; use load: auto"
        )
    four_bit = quantize or checkpoint.quantized
    if (directory / ADAPTER_CONFIG).exists() and importlib.util.find_spec("peft") is None:
        raise ModelError(
            f"arm {arm.name}: {directory} embeds an adapter, and peft is not installed: "
            "transformers would load the base alone. Install peft"
        )
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            directory,
            # 4-bit: the dtype that the trainer's weights were rounded to, and that their
            # quantization state names. Dense: as stored.
            dtype=torch.bfloat16 if four_bit else "auto",
            # Even None given here would hide the checkpoint's own quantization.
            **({"quantization_config": trainer_nf4()} if quantize else {}),
            device_map={"": str(device)},
            output_loading_info=True,
        )
    except Exception as error:  # as in check_adapter
        words = f"{type(error).__name__}: {error}"[:1000]
        raise ModelError(f"arm {arm.name}: cannot load {directory}: {words}") from error
    _check_complete(arm, directory, info)
    if four_bit and not any(isinstance(m, Linear4bit) for m in model.modules()):
        raise ModelError(f"arm {arm.name}: {directory} was to load in 4 bits, no layer of it is")
    _attach_as_stored(arm, directory, model)
    return model


def _check_complete(arm: ArmConfig, directory: Path, info: dict[str, Any]) -> None:
    unused = sorted(str(name) for name in info["unexpected_keys"])
    embeds = (directory / ADAPTER_CONFIG).exists()  # checked when it is attached
    if (found := adapter_tensors(unused)) and not embeds:
        raise ModelError(
            f"arm {arm.name}: {directory}: holds {len(found)} tensors of an adapter that was not "
            f"merged ({', '.join(found[:3])}, ...), which transformers ignores: it would run as "
            "the base alone. Merge it, or give the base and the adapter"
        )
    if unused:
        _log.warning(
            "arm %s: %s: %d tensors are not used by the model: %s",
            arm.name, directory, len(unused), ", ".join(unused[:5]),
        )  # fmt: skip
    for what, meaning in (
        ("missing_keys", "the checkpoint lacks, they would be drawn at random"),
        ("mismatched_keys", "of another shape than the configuration says"),
    ):
        names = sorted(str(name) for name in info[what])
        if names:
            raise ModelError(
                f"arm {arm.name}: {directory}: {len(names)} tensors {meaning}: "
                f"{', '.join(names[:5])}; export or download it again"
            )


def _attach_as_stored(arm: ArmConfig, directory: Path, model: PreTrainedModel) -> None:
    """Check that every tensor of an embedded adapter is attached, and set it to the file's values.

    PEFT rounds an adapter to the compute dtype of the 4-bit layers below it, by default float16.
    As this module chooses that dtype anew, it goes back to the stored values first.
    """
    if not (directory / ADAPTER_CONFIG).exists():
        return
    attached = {
        _plain(name): tensor for name, tensor in model.named_parameters() if ".lora_" in name
    }
    with safe_open(directory / "adapter_model.safetensors", framework="pt") as file:
        stored = {_plain(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    loose = [
        name
        for name, tensor in stored.items()
        if name not in attached
        or not torch.equal(attached[name].detach().cpu(), tensor.to(attached[name].dtype))
    ]
    if loose or not stored:
        raise ModelError(
            f"arm {arm.name}: {directory} embeds an adapter, but {len(loose)} of its "
            f"{len(stored)} tensors did not attach: {', '.join(loose[:3])}. Without them this "
            "is the base alone; check the versions of peft and transformers"
        )
    for name, tensor in stored.items():
        attached[name].data = tensor.to(attached[name].device)


def _plain(name: str) -> str:
    """Name of an adapter tensor without what PEFT puts around it in files and modules."""
    return name.removeprefix("base_model.model.").replace(".default.", ".")
