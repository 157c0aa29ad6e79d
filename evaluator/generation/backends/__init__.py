"""Ways to run models, one file each; see ``evaluator.generation.backend``."""

# Name in a configuration -> module with the object BACKEND, imported where a run asks for it.
BACKENDS = {
    "completions": "evaluator.generation.backends.completions",
    "openai": "evaluator.generation.backends.openai",
    "transformers": "evaluator.generation.backends.transformers",
    "vllm": "evaluator.generation.backends.vllm",
}
