"""Verdicts: completion → extract → compile_cpp → run_test → compare_output → verdicts.

``stage`` judges a run's completions, ``judge_file`` those of a file. Programs run in a sandbox::

    judge ─ worker ─ supervisor (C++) ─ program
"""
