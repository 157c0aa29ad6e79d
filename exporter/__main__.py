"""``python -m exporter`` is ``tinylora-export``."""

from exporter.cli import app

app(prog_name="tinylora-export")
