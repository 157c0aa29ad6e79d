"""Suites as others publish them, read into problems of this project.

A source goes through three steps, each a file here::

    rows / luogu_archives    the container: JSON, Parquet, a saved data set, zips and folders
    upstream, statements,    one row -> one Draft
    code_contests, input_output
    drafts_to_problems       drafts -> problems, and what was skipped and why

``comparisons`` tells from a statement which outputs are right. ``forms`` joins them. A file here
imports only from those above it and from ``problem``, ``limits``, ``luogu_data`` and what is below.
"""
