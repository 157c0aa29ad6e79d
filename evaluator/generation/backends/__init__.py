"""Ways to run models, one file each; see ``evaluator.generation.backend``."""

# Name in a configuration -> module with the object BACKEND, imported where a run asks for it.
BACKENDS = {
    "transformers": "evaluator.generation.backends.transformers",
}
