"""Evaluation of code models: does an exported checkpoint still solve its problems?

One folder a step; ``run`` goes through them and ``run_directory`` says where their files lie::

    config ─ suites ─ generation ─ tokens ─ judging ─ statistics ─ report
                                                               bench: many runs
"""
