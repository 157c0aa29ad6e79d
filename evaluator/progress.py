"""How long work reports how far it is."""

from collections.abc import Callable

# (stage, done, total)
Progress = Callable[[str, int, int], None]
