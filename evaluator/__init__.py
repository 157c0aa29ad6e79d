"""Evaluation of code models: does an exported checkpoint still solve its problems?

==============  ================================================================================
folder          what it holds
==============  ================================================================================
``config``      run files: their fields, defaults and checks
``store``       what a run keeps on the disk: records, facts, the lock
``suites``      problems with their tests; ``importers`` read the forms in which others publish them
``generation``  prompts to completions; ``backends`` has a file for each engine
``tokens``      how far an arm's next-token predictions are from the reference's
``judging``     completions to verdicts; ``sandbox`` runs the programs
``statistics``  pass rates, paired differences and their intervals
``report``      tables, sentences, and the page ``html`` makes
``bench``       many exports and runs, and one table of all
==============  ================================================================================

``run`` goes through them, and ``store.run_directory`` says where the files of a run lie::

    config ─ suites ─ generation ─ judging ─ statistics ─ tokens ─ report
                                                               bench: many runs

``evaluate(config)`` does so from Python, and ``Run.open(directory)`` has the numbers as frames.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluator.notebook import Run, evaluate

__all__ = ["Run", "evaluate"]

if not TYPE_CHECKING:  # the judge needs neither torch nor pandas, which these import

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'evaluator' has no attribute {name!r}")
        from evaluator import notebook

        return getattr(notebook, name)
