"""Suites as others publish them, read into problems of this project.

A source goes through three steps, each a file here::

    rows / luogu_archives       the container: JSON lines, a saved data set, zips and folders
    upstream, statements,       one row -> one Draft
    code_contests, input_output
    finish                      drafts -> problems, and what was skipped and why

``source`` joins them. A file here imports only from those above it and from ``problem``,
``data_files`` and ``luogu_data``.
"""
