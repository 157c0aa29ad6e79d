"""``python -m evaluator`` is ``tinylora-eval``."""

from evaluator.cli import app

app(prog_name="tinylora-eval")
