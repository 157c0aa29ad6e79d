"""Ways to run models, one file each, and which one an arm has; ``generation.backend`` says what."""

from importlib import import_module

from evaluator.config.run_config import ArmConfig, RunConfig
from evaluator.errors import ConfigError
from evaluator.generation.backend import Backend

# Name in a configuration -> module with the object BACKEND, imported where a run asks for it.
BACKENDS = {
    "completions": "evaluator.generation.backends.completions",
    "openai": "evaluator.generation.backends.openai",
    "transformers": "evaluator.generation.backends.transformers",
    "vllm": "evaluator.generation.backends.vllm",
}


def backend_of(arm: ArmConfig, config: RunConfig) -> Backend:
    """The backend that an arm names, or else its run; ConfigError where there is none."""
    name = arm.backend or config.backend
    if name not in BACKENDS:
        raise ConfigError(
            f"arm {arm.name}: there is no backend {name!r}; known are {', '.join(sorted(BACKENDS))}"
        )
    try:
        backend: Backend = import_module(BACKENDS[name]).BACKEND
    except ImportError as error:
        raise ConfigError(
            f"arm {arm.name}: backend {name} needs a library that is not installed: {error}"
        ) from error
    return backend


def check_backends(config: RunConfig) -> None:
    """Check, with ConfigError, that the backends can do what is asked; nothing is loaded."""
    compared = config.token_level.enabled and config.reference() is not None
    for arm in config.arms:
        backend = backend_of(arm, config)
        where = f"arm {arm.name}: backend {arm.backend or config.backend}"
        if not getattr(arm, backend.source):
            raise ConfigError(f"{where} needs the field {backend.source} of the arm")
        if compared and arm is config.reference() and not backend.gives_logits:
            raise ConfigError(
                f"{where} gives no logits for the token level; set token_level.enabled: false"
            )
        for asked, able, what in (
            (arm.artifact is not None, backend.restores, "put an adapter on a model"),
            (arm.load != "auto", backend.quantizes, "quantize while loading (load: nf4)"),
        ):
            if asked and not able:
                raise ConfigError(f"{where} cannot {what}; use backend: transformers")
