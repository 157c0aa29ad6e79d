"""Suites as others publish them, read into problems of this project.

::

    rows / luogu_archives    the container: JSON, Parquet, a saved data set, zips and folders
    upstream, statements,    one row -> one Draft
    code_contests, input_output
    drafts_to_problems       drafts -> problems, and what was skipped and why

A file here imports only from those above it, from ``problem``, ``limits`` and ``luogu_data``.
"""
