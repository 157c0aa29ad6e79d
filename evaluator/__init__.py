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

    config ─ suites ─ generation ─ tokens ─ judging ─ statistics ─ report
                                                               bench: many runs
"""
