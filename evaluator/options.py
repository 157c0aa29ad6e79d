"""Options that several commands of ``tinylora-eval`` have."""

from typing import Annotated

import typer

Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe",
        help="Judge without isolation where no sandbox works. Programs then run with your rights.",
    ),
]
RequireInformative = Annotated[
    bool,
    typer.Option(
        "--require-informative",
        help="Stop before a run whose pass rates could not show a lost adapter.",
    ),
]
